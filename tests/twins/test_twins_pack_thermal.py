"""Three masses and the air: fan, evaporator, heater and road speed act when they should, and heat is conserved."""

from __future__ import annotations

import numpy as np
import pytest

from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters, shipped_pack
from twins.pack.series import Drive, PackState, advance
from twins.pack.snapshot import snapshot
from twins.pack.uses import Use

VAN = shipped_pack("env200_40kwh")


def with_thermal(**changes: float | None) -> PackParameters:
    return VAN.model_copy(update={"thermal": VAN.thermal.model_copy(update=changes)})


def run(
    parameters: PackParameters,
    *,
    power_w: float = 0.0,
    hours: float = 2.0,
    air_c: float = 20.0,
    start_c: float | None = None,
    use: Use = Use.PARKED,
    km_h: float = 0.0,
    soc: float = 0.5,
) -> tuple[dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]], PackModel, PackState]:
    model = PackModel.build(parameters)
    state = PackState.new(model, soc=soc, temperature_c=air_c if start_c is None else start_c)
    drive = Drive(
        dt_s=10.0,
        power_w=np.full(int(hours * 360), power_w),
        ambient_c=np.full(1, air_c),
        use=np.full(1, use, dtype=np.uint8),
        speed_km_h=np.full(1, km_h),
    )
    recorded = advance(
        model, state, drive, record=("temperature_c", "plates_c", "casing_c", "fan", "heater", "power_w")
    )
    return recorded, model, state  # type: ignore[return-value]  # one pack: one dimension


def test_cells_plates_and_casing_are_a_chain_to_the_air() -> None:
    recorded, _, _ = run(VAN, start_c=35.0, hours=1.0)
    cells, plates, casing = (recorded[name][-1] for name in ("temperature_c", "plates_c", "casing_c"))
    assert 35.0 > cells > plates > casing > 20.0


def test_driving_cools_more_than_standing() -> None:
    standing, _, _ = run(VAN, start_c=40.0, use=Use.DRIVING)
    driving, _, _ = run(VAN, start_c=40.0, use=Use.DRIVING, km_h=90.0)
    assert driving["temperature_c"][-1] < standing["temperature_c"][-1] - 0.5


def test_the_fan_runs_only_while_plugged_in_and_between_its_two_temperatures() -> None:
    parked, _, _ = run(VAN, start_c=36.0)
    assert parked["fan"].max() == 0.0
    plugged, _, _ = run(VAN, start_c=36.0, use=Use.CHARGING, hours=4.0)
    assert plugged["fan"][0] == 1.0
    off = int(np.argmin(plugged["fan"]))
    assert plugged["fan"][off] == 0.0
    # Switched on what the sensors' plates had at the end of the step before.
    assert plugged["plates_c"][off - 1] <= VAN.thermal.fan_off_c < plugged["plates_c"][off - 2]
    assert plugged["fan"][off:].max() == 0.0
    assert plugged["temperature_c"][-1] < parked["temperature_c"][-1] - 2.0


def test_the_evaporator_cools_below_the_air_where_the_fan_alone_cannot() -> None:
    hot = {"air_c": 38.0, "use": Use.CHARGING, "hours": 6.0}
    evaporator, _, _ = run(VAN, **hot)  # type: ignore[arg-type]  # keys of the signature
    fan_only, _, _ = run(with_thermal(evaporator_c=None), **hot)  # type: ignore[arg-type]  # keys of the signature
    assert evaporator["temperature_c"].min() < 33.0
    assert fan_only["temperature_c"].min() > 37.9


def test_the_heater_warms_a_frozen_pack_and_draws_from_the_terminals() -> None:
    recorded, model, state = run(VAN, air_c=-25.0, hours=3.0, use=Use.CHARGING)
    assert recorded["heater"][0] == 1.0
    assert recorded["power_w"][0] == -300.0
    assert recorded["plates_c"].max() > -20.0
    now = snapshot(model, state)
    assert now.heater_wh == pytest.approx(300.0 * recorded["heater"].sum() / 360.0)
    assert now.discharged_wh == pytest.approx(now.heater_wh)


def test_the_heater_is_blocked_below_30_percent_unless_plugged_in() -> None:
    blocked, _, _ = run(VAN, air_c=-25.0, soc=0.2)
    plugged, _, _ = run(VAN, air_c=-25.0, soc=0.2, use=Use.CHARGING)
    above, _, _ = run(VAN, air_c=-25.0, soc=0.5)
    assert (blocked["heater"].max(), plugged["heater"].max(), above["heater"].max()) == (0.0, 1.0, 1.0)


def test_a_rapid_charge_heats_by_its_own_factor_and_books_the_extra_apart() -> None:
    warm = with_thermal(rapid_heat_factor=1.5)
    rises, extras = {}, {}
    for name, parameters, use in (("rapid", warm, Use.RAPID), ("slow", warm, Use.V2G), ("plain", VAN, Use.RAPID)):
        recorded, model, state = run(parameters, power_w=40_000.0, hours=0.4, use=use, soc=0.2)
        rises[name] = recorded["temperature_c"][-1] - 20.0
        extras[name] = snapshot(model, state).rapid_extra_wh
    assert rises["slow"] == pytest.approx(rises["plain"], abs=1e-9)
    assert rises["rapid"] > 1.3 * rises["slow"]
    assert extras["slow"] == extras["plain"] == 0.0
    assert extras["rapid"] > 0.0


def test_what_heats_the_pack_is_irreversible_plus_entropic_plus_extra_plus_heater_less_what_the_air_takes() -> None:
    parameters = with_thermal(rapid_heat_factor=1.4, still_air_w_per_k=0.0, air_w_per_k_per_km_h=0.0, fan_w_per_k=0.0)
    recorded, model, state = run(parameters, power_w=30_000.0, hours=0.5, use=Use.RAPID, soc=0.3)
    thermal = parameters.thermal
    warmed_j = (
        thermal.cells_j_per_k * (recorded["temperature_c"][-1] - 20.0)
        + thermal.plates_j_per_k * (recorded["plates_c"][-1] - 20.0)
        + thermal.casing_j_per_k * (recorded["casing_c"][-1] - 20.0)
    )
    now = snapshot(model, state)
    assert warmed_j / 3600.0 == pytest.approx(now.loss_wh + now.entropic_wh + now.rapid_extra_wh, rel=1e-9)
