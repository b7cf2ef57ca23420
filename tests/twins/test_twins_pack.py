"""The pack twin, stepped: every watt-hour is stored or lost, charge stays between empty and full, signs are kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from twins.pack import layout
from twins.pack.pack import PackTwin
from twins.pack.parameters import PackParameters, shipped_pack

socs = st.floats(0.0, 1.0)
temperatures_c = st.floats(-15.0, 50.0)
powers_w = st.floats(-20_000.0, 20_000.0)
steps_s = st.sampled_from([1.0, 10.0, 60.0])


def unexplained_wh(pack: PackTwin, before_wh: float) -> float:
    """Terminal work less change of stored energy less loss, since a pack that held `before_wh` and was at rest."""
    now = pack.snapshot()
    work_wh = now.charged_wh - now.discharged_wh
    return work_wh - (now.stored_wh + now.polarisation_wh - before_wh) - now.loss_wh - now.aging_wh


@settings(deadline=None)
@given(soc=socs, temperature_c=temperatures_c, power_w=powers_w, step_s=steps_s, count=st.integers(1, 30))
def test_terminal_work_is_change_of_stored_energy_plus_irreversible_loss(
    soc: float, temperature_c: float, power_w: float, step_s: float, count: int
) -> None:
    pack = PackTwin(soc=soc, temperature_c=temperature_c)
    before_wh = pack.snapshot().stored_wh
    for _ in range(count):
        pack.step(power_w, step_s)
    assert unexplained_wh(pack, before_wh) == pytest.approx(0.0, abs=1e-6 * 41_000.0)
    assert pack.snapshot().loss_wh >= 0.0


@given(soc=socs, power_w=powers_w, step_s=steps_s)
def test_the_sign_of_what_flows_is_that_of_what_was_asked_or_nothing_flows(
    soc: float, power_w: float, step_s: float
) -> None:
    pack = PackTwin(soc=soc)
    pack.step(power_w, step_s)
    assert pack.power_w * power_w >= 0.0
    assert pack.current_a * power_w >= 0.0
    assert abs(pack.power_w) <= abs(power_w) * (1.0 + 1e-9)
    assert pack.voltage_v * pack.current_a == pytest.approx(pack.power_w, rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(st.floats(-110_000.0, 70_000.0), steps_s), max_size=60), socs)
def test_charge_stays_between_empty_and_full_and_is_what_was_counted(
    course: list[tuple[float, float]], soc: float
) -> None:
    pack = PackTwin(soc=soc)
    for power_w, step_s in course:
        pack.step(power_w, step_s)
        assert 0.0 <= pack.soc <= 1.0
    now = pack.snapshot()
    # Self-discharge of 0.3 % a month moves 0.1 mAh a second.
    assert (pack.soc - soc) * pack.capacity_ah == pytest.approx(now.charged_ah - now.discharged_ah, abs=1e-3)


@pytest.mark.parametrize("step_s", [1.0, 10.0, 60.0])
def test_a_full_pack_takes_nothing_and_an_empty_one_gives_nothing(step_s: float) -> None:
    full, empty = PackTwin(soc=1.0), PackTwin(soc=0.0)
    for _ in range(5):
        full.step(5_000.0, step_s)
        empty.step(-5_000.0, step_s)
    assert full.soc == pytest.approx(1.0, abs=1e-6)
    assert (full.power_w, full.limited & layout.FULL) == (pytest.approx(0.0, abs=0.6), layout.FULL)  # its own leak
    assert (empty.power_w, empty.current_a, empty.soc) == (0.0, 0.0, 0.0)
    assert empty.limited & (layout.EMPTY | layout.LOW_VOLTAGE)


# Room for 280 W over the minute; a little too much and far too much.
@pytest.mark.parametrize("power_w", [370.0, 20_000.0])
def test_a_pack_that_fills_within_a_step_takes_what_it_has_room_for(power_w: float) -> None:
    pack = PackTwin(soc=0.9999)
    before_wh = pack.snapshot().stored_wh
    pack.step(power_w, 60.0)
    now = pack.snapshot()
    assert pack.soc == pytest.approx(1.0, abs=1e-7)
    assert now.charged_ah == pytest.approx(0.0001 * 115.44, rel=1e-2)
    assert pack.power_w == pytest.approx(280.0, rel=0.01)
    assert unexplained_wh(pack, before_wh) == pytest.approx(0.0, abs=1e-6)


def test_a_pack_asked_for_more_than_its_cells_can_give_gives_what_keeps_the_weakest_group_at_2_5_volts() -> None:
    pack = PackTwin(soc=0.3)
    pack.step(-1e6, 1.0)
    assert pack.limited & (layout.LOW_VOLTAGE | layout.MOST_POWER)
    assert min(pack.group_voltages_v()) == pytest.approx(2.5, abs=0.02)
    assert -500_000.0 < pack.power_w < -200_000.0
    assert pack.snapshot().charged_wh == 0.0


def test_a_pack_fed_more_than_its_cells_can_take_takes_what_keeps_the_highest_group_at_4_25_volts() -> None:
    pack = PackTwin(soc=0.9, temperature_c=0.0)
    pack.step(150_000.0, 1.0)
    assert pack.limited & layout.HIGH_VOLTAGE
    assert max(pack.group_voltages_v()) == pytest.approx(4.25, abs=0.02)
    assert 0.0 < pack.power_w < 150_000.0


@given(soc=socs, temperature_c=temperatures_c)
def test_limits_are_never_negative_and_vanish_where_the_pack_is_full_or_empty(soc: float, temperature_c: float) -> None:
    pack = PackTwin(soc=soc, temperature_c=temperature_c)
    assert 0.0 <= pack.charge_limit_w() <= 70_000.0
    assert 0.0 <= pack.discharge_limit_w() <= 110_000.0
    assert PackTwin(soc=1.0, temperature_c=temperature_c).charge_limit_w() == 0.0
    assert PackTwin(soc=0.0, temperature_c=temperature_c).discharge_limit_w() == 0.0


@pytest.mark.parametrize(
    ("soc", "temperature_c", "charge_w", "discharge_w"),
    [(0.584, 19.0, 70_000.0, 110_000.0), (0.599, 20.0, 70_000.0, 110_000.0), (0.25, 5.0, 44_600.0, 65_960.0)],
)
def test_power_limits_meet_the_recorded_e_nv200_within_5_percent(
    soc: float, temperature_c: float, charge_w: float, discharge_w: float
) -> None:
    pack = PackTwin(soc=soc, temperature_c=temperature_c)
    assert pack.charge_limit_w() == pytest.approx(charge_w, rel=0.05)
    assert pack.discharge_limit_w() == pytest.approx(discharge_w, rel=0.05)


@given(st.floats(0.0, 0.999), st.floats(0.0001, 0.001))
def test_the_voltage_at_rest_rises_with_charge(soc: float, more: float) -> None:
    assert PackTwin(soc=soc + more).open_circuit_v() > PackTwin(soc=soc).open_circuit_v()


def test_cold_doubles_the_resistance_from_25_to_about_0_degrees() -> None:
    warm, cold = PackTwin(soc=0.5, temperature_c=25.0), PackTwin(soc=0.5, temperature_c=0.0)
    assert warm.resistance_ohm() == pytest.approx(0.048)
    assert cold.resistance_ohm() / warm.resistance_ohm() == pytest.approx(2.09, abs=0.01)


@pytest.mark.parametrize("step_s", [1.0, 10.0, 60.0])
def test_heat_warms_the_three_masses_and_leaves_to_the_air(step_s: float) -> None:
    pack = PackTwin(soc=0.7, ambient_c=20.0, temperature_c=30.0)
    lost_wh = 0.0
    casing_before_c = 30.0
    for _ in range(int(3600.0 / step_s)):
        pack.step(-10_000.0, step_s)
        casing_c = float(pack._row[layout.CASING_C])
        lost_wh += 8.0 * ((casing_before_c + casing_c) / 2.0 - 20.0) * step_s / 3600.0
        casing_before_c = casing_c
    warmed_j = (
        176_000.0 * (pack.temperature_c - 30.0)
        + 30_000.0 * (pack.plates_c - 30.0)
        + 60_000.0 * (casing_before_c - 30.0)
    )
    now = pack.snapshot()
    assert now.loss_wh + now.entropic_wh == pytest.approx(warmed_j / 3600.0 + lost_wh, abs=1e-6)


def test_a_rested_pack_takes_the_temperature_of_the_air_and_loses_3_percent_of_charge_in_ten_months() -> None:
    pack = PackTwin(soc=0.5, ambient_c=5.0, temperature_c=30.0)
    for _ in range(5 * 24 * 60):
        pack.step(0.0, 60.0)
    assert pack.temperature_c == pytest.approx(5.0, abs=0.05)
    assert pack.current_a == 0.0
    assert 0.5 - pack.soc == pytest.approx(0.003 * 5.0 / 30.44, rel=0.01)


@pytest.mark.parametrize("step_s", [1.0, 10.0])
def test_an_hour_of_5_kw_comes_out_alike_in_short_and_in_long_steps(step_s: float) -> None:
    short, long = PackTwin(soc=0.5), PackTwin(soc=0.5)
    for _ in range(int(3600.0 / step_s)):
        short.step(5_000.0, step_s)
    for _ in range(60):
        long.step(5_000.0, 60.0)
    assert short.soc == pytest.approx(long.soc, abs=1e-5)
    assert short.temperature_c == pytest.approx(long.temperature_c, abs=5e-3)
    assert short.snapshot().loss_wh == pytest.approx(long.snapshot().loss_wh, rel=1e-3)


def test_the_pack_of_the_parameters_holds_its_40_kilowatt_hours() -> None:
    # Between empty and full at rest; the car counts 40.4 kWh of it as usable when new (frame 0x59E).
    assert 40_400.0 < PackTwin(soc=1.0).snapshot().stored_wh < 42_000.0
    aged = PackTwin(soc=1.0, soh=0.85)
    assert aged.capacity_ah == pytest.approx(0.85 * 115.44)
    assert aged.soh == pytest.approx(0.85)


def test_an_aged_pack_has_another_open_circuit_curve_than_a_new_one() -> None:
    # Lost lithium shifts the half cells against each other: same ends, another middle.
    new, aged = PackTwin(soc=0.5), PackTwin(soc=0.5, soh=0.8)
    assert abs(new.open_circuit_v() - aged.open_circuit_v()) > 96 * 0.003
    assert PackTwin(soc=1.0, soh=0.8).open_circuit_v() == pytest.approx(PackTwin(soc=1.0).open_circuit_v(), abs=0.1)


def test_groups_add_up_to_the_pack_and_the_weakest_is_the_lowest_under_load() -> None:
    pack = PackTwin(soc=0.6, seed=5)
    for _ in range(600):
        pack.step(-9_000.0, 1.0)
    groups = pack.group_voltages_v()
    assert len(groups) == 96
    assert sum(groups) == pytest.approx(pack.voltage_v, abs=0.05)
    assert groups.index(min(groups)) in {
        int(pack._model.groups.capacity.argmin()),
        int(pack._model.groups.resistance.argmax()),
    }
    assert max(groups) - min(groups) > 0.005


@pytest.mark.parametrize(
    "wrong", [{"soc": -0.01}, {"soc": 1.01}, {"soc": 0.5, "soh": 0.2}, {"soc": 0.5, "soh": 1.1}, {"soc": float("nan")}]
)
def test_a_charge_or_health_that_cannot_be_is_refused_with_the_allowed_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be from .* to "):
        PackTwin(**wrong)  # type: ignore[arg-type]  # the keys are those of the signature


@pytest.mark.parametrize(("power_w", "dt_s"), [(float("nan"), 1.0), (float("inf"), 1.0), (100.0, 0.0), (100.0, -1.0)])
def test_a_power_that_is_no_number_or_a_time_that_is_not_positive_is_refused(power_w: float, dt_s: float) -> None:
    pack = PackTwin(soc=0.5)
    with pytest.raises(ConfigError, match="finite power for more than 0 s"):
        pack.step(power_w, dt_s)
    assert pack.snapshot().time_s == 0.0


def test_hysteresis_is_off_unless_the_pack_file_has_it() -> None:
    plain = shipped_pack("env200_40kwh")
    sticky = PackParameters.model_validate(
        plain.model_dump(by_alias=True) | {"cell": plain.cell.model_dump() | {"hysteresis_v": 0.01}}
    )

    def after_charge_and_discharge(parameters: PackParameters) -> tuple[float, float]:
        pack = PackTwin(soc=0.5, parameters=parameters)
        volts = []
        for power_w in (6_000.0, -6_000.0):
            for _ in range(3600):
                pack.step(power_w, 1.0)
            for _ in range(20_000):
                pack.step(0.0, 1.0)
            volts.append(pack.voltage_v - pack.open_circuit_v())
        return volts[0], volts[1]

    assert after_charge_and_discharge(plain) == (pytest.approx(0.0, abs=0.01), pytest.approx(0.0, abs=0.01))
    # 15 % of a full charge each way: 96 x 10 mV x (1 - exp(-30 x 0.147)), then back through it.
    assert after_charge_and_discharge(sticky) == (pytest.approx(0.948, abs=0.01), pytest.approx(-0.938, abs=0.01))


def test_the_step_obeys_the_battery_managements_limits_only_where_it_is_told_to() -> None:
    free, obedient = PackTwin(soc=0.5), PackTwin(soc=0.5, obey_limits=True)
    for pack in (free, obedient):
        pack.step(-150_000.0, 1.0)
    assert free.power_w == -150_000.0
    assert obedient.power_w == pytest.approx(-obedient.discharge_limit_w(), rel=1e-3)
    assert (free.limited, obedient.limited) == (0, layout.BMS_LIMIT)


@pytest.mark.parametrize(("name", "value"), [("ambient_c", float("nan")), ("ambient_c", 81.0), ("speed_km_h", -1.0)])
def test_air_and_speed_out_of_range_are_refused_when_they_are_set(name: str, value: float) -> None:
    pack = PackTwin(soc=0.5)
    with pytest.raises(ConfigError, match="must be from"):
        setattr(pack, name, value)
    pack.step(-1_000.0, 1.0)
    assert pack.temperature_c == pytest.approx(20.0, abs=0.1)
