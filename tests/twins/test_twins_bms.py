"""What the battery management system tells of the pack: close to the truth, its own errors included, and repeatable."""

# Tuples of floats are compared with pytest.approx, which mypy does not take for a float.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.measurement import EXACT, Fault, generator
from twins.pack.bms import Bms
from twins.pack.pack import PackTwin
from twins.pack.parameters import shipped_pack


def pair(*, soc: float = 0.55, soh: float = 0.97, seed: int = 7, fault: Fault | None = None) -> tuple[PackTwin, Bms]:
    pack = PackTwin(soc=soc, soh=soh, ambient_c=22.0)
    return pack, Bms(pack, generator(seed, "van"), fault=fault)


def run(pack: PackTwin, bms: Bms, power_w: float, seconds: int, start_s: int = 0) -> None:
    for second in range(start_s + 1, start_s + seconds + 1):
        pack.step(power_w, 1.0)
        bms.step(1.0, float(second))


@given(seed=st.integers(0, 200), power_w=st.floats(-10_000.0, 10_000.0))
def test_what_it_reports_stays_inside_its_stated_accuracy(seed: int, power_w: float) -> None:
    pack, bms = pair(seed=seed)
    run(pack, bms, power_w, 5)
    # Half-widths 0.8 % + 0.05 A and 0.2 % + 0.2 V, six standard deviations of noise, half a step of resolution.
    assert abs(bms.plane.current_a - pack.current_a) <= 0.008 * abs(pack.current_a) + 0.05 + 6 * 0.05 + 0.001
    assert abs(bms.plane.voltage_v - pack.voltage_v) <= 0.002 * pack.voltage_v + 0.2 + 6 * 0.02 + 0.005
    assert all(abs(t - pack.plates_c) <= 1.5 + 0.5 for t in bms.temperatures_c)  # and the sensor's place
    assert abs(bms.soc - pack.soc) <= 0.02


@given(seed=st.integers(0, 20))
def test_an_hour_at_5_kw_is_counted_inside_current_and_voltage_accuracy(seed: int) -> None:
    pack, bms = pair(seed=seed)
    for minute in range(1, 61):
        pack.step(-5_000.0, 60.0)
        bms.step(60.0, 60.0 * minute)
    assert bms.plane.import_wh == 0.0
    assert bms.plane.export_wh == pytest.approx(pack.snapshot().discharged_wh, rel=0.016)


def test_one_seed_gives_one_battery_management_system_and_another_seed_another() -> None:
    def told(seed: int) -> tuple[float, ...]:
        pack, bms = pair(seed=seed)
        run(pack, bms, 5_000.0, 30)
        return bms.soc, bms.plane.current_a, bms.plane.import_wh, *bms.temperatures_c

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_charge_is_counted_with_its_own_current_sensor() -> None:
    pack, bms = pair(fault=Fault("gain", percent=3.0))
    true_before, told_before = pack.soc, bms.soc
    run(pack, bms, 8_000.0, 1800)
    assert (bms.soc - told_before) / (pack.soc - true_before) == pytest.approx(1.03, abs=0.015)


def test_a_sign_fault_discharges_the_reported_battery_while_the_real_one_charges() -> None:
    pack, bms = pair(fault=Fault("sign"))
    before = bms.soc
    run(pack, bms, 8_000.0, 600)
    assert bms.plane.current_a < -20.0
    assert bms.soc < before < pack.soc + 0.02
    assert (bms.plane.import_wh, bms.plane.export_wh) == (0.0, pytest.approx(8_000.0 / 6.0, rel=0.02))


@pytest.mark.parametrize(
    ("real", "dash"), [(0.208, 0.123), (0.251, 0.145), (0.584, 0.540), (0.599, 0.556), (0.02, 0.0), (1.0, 1.0)]
)
def test_the_dashboard_shows_the_usable_share(real: float, dash: float) -> None:
    pack, bms = pair(soc=real)
    bms.soc = real
    assert bms.dash_soc == pytest.approx(dash, abs=0.015)
    assert pack.soc == real


def test_full_energy_gids_and_capacity_follow_the_state_of_health() -> None:
    _, bms = pair(soh=0.98)
    assert bms.full_energy_wh == pytest.approx(39_592.0, rel=1e-6)
    assert bms.capacity_ah == pytest.approx(113.13, abs=0.01)
    assert bms.gids == int(bms.remaining_energy_wh / 79.8)
    assert bms.soh == pytest.approx(0.98)


@pytest.mark.parametrize("power_w", [-10_000.0, 10_000.0])
def test_reported_charge_stays_between_empty_and_full(power_w: float) -> None:
    pack, bms = pair(soc=0.005 if power_w < 0.0 else 0.995)
    for minute in range(1, 121):
        pack.step(power_w, 60.0)
        bms.step(60.0, 60.0 * minute)
        assert 0.0 <= bms.soc <= 1.0
        assert 0.0 <= bms.dash_soc <= 1.0


def test_group_voltages_add_up_to_the_reported_pack_voltage() -> None:
    pack, bms = pair()
    run(pack, bms, 5_000.0, 3)
    assert sum(bms.group_voltages_v()) == pytest.approx(bms.plane.voltage_v)


def test_an_exact_current_sensor_can_be_given() -> None:
    pack = PackTwin(soc=0.5)
    bms = Bms(pack, generator(7, "van"), current_accuracy=EXACT)
    pack.step(5_000.0, 1.0)
    bms.step(1.0, 1.0)
    assert bms.plane.current_a == pack.current_a


@pytest.mark.parametrize(("name", "most"), [("env200_40kwh", 500), ("leaf_62kwh", 765)])
def test_a_full_battery_shows_no_more_than_the_most_gids_of_its_pack(name: str, most: int) -> None:
    bms = Bms(PackTwin(soc=1.0, parameters=shipped_pack(name)), generator(1, "van"))
    bms.soc = 1.0
    assert bms.max_gids == most
    assert most - 10 <= bms.gids <= most
