"""The pack twin: every watt-hour is either stored or heat, charge stays between empty and full, signs are kept."""

from __future__ import annotations

import bisect
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.pack.pack import LumpedPack
from twins.pack.parameters import OPEN_CIRCUIT_POINTS, PackParameters

socs = st.floats(0.0, 1.0)
temperatures_c = st.floats(-15.0, 50.0)
powers_w = st.floats(-20_000.0, 20_000.0)
steps_s = st.sampled_from([1.0, 10.0, 60.0])


def stored_wh(pack: LumpedPack) -> float:
    """Energy under the open-circuit curve up to the present charge: trapezoids between the published points."""
    percent = 100.0 * pack.soc
    at = bisect.bisect_right([p for p, _ in OPEN_CIRCUIT_POINTS], percent)
    points = list(OPEN_CIRCUIT_POINTS[:at])
    if at < len(OPEN_CIRCUIT_POINTS):
        (x0, y0), (x1, y1) = OPEN_CIRCUIT_POINTS[at - 1], OPEN_CIRCUIT_POINTS[at]
        points.append((percent, y0 + (y1 - y0) * (percent - x0) / (x1 - x0)))
    area = sum((x1 - x0) * (y0 + y1) / 2.0 for (x0, y0), (x1, y1) in itertools.pairwise(points))
    return 96.0 * area / 100.0 * pack.capacity_ah


@given(soc=socs, temperature_c=temperatures_c, power_w=powers_w, step_s=steps_s, count=st.integers(1, 30))
def test_terminal_work_is_change_of_stored_energy_plus_heat(
    soc: float, temperature_c: float, power_w: float, step_s: float, count: int
) -> None:
    pack = LumpedPack(soc=soc, temperature_c=temperature_c)
    before_wh = stored_wh(pack)
    work_wh = 0.0
    for _ in range(count):
        pack.step(power_w, step_s)
        work_wh += pack.power_w * step_s / 3600.0
    assert pack.charged_wh - pack.discharged_wh == pytest.approx(work_wh, abs=1e-6)
    # The open-circuit voltage is taken at the middle of a step: exact but for kinks of the curve inside one.
    assert work_wh == pytest.approx(stored_wh(pack) - before_wh + pack.heat_wh, rel=2e-4, abs=0.02)


@given(soc=socs, power_w=powers_w, step_s=steps_s)
def test_the_sign_of_what_flows_is_that_of_what_was_asked_or_nothing_flows(
    soc: float, power_w: float, step_s: float
) -> None:
    pack = LumpedPack(soc=soc)
    pack.step(power_w, step_s)
    assert pack.power_w * power_w >= 0.0
    assert pack.current_a * power_w >= 0.0
    assert abs(pack.power_w) <= abs(power_w) * (1.0 + 1e-9)
    assert pack.voltage_v * pack.current_a == pytest.approx(pack.power_w, rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(st.floats(-110_000.0, 70_000.0), steps_s), max_size=60), socs)
def test_charge_stays_between_empty_and_full_and_is_what_was_counted(
    course: list[tuple[float, float]], soc: float
) -> None:
    pack = LumpedPack(soc=soc)
    for power_w, step_s in course:
        pack.step(power_w, step_s)
        assert 0.0 <= pack.soc <= 1.0
    assert (pack.soc - soc) * pack.capacity_ah == pytest.approx(pack.charged_ah - pack.discharged_ah, abs=1e-6)


@pytest.mark.parametrize("step_s", [1.0, 10.0, 60.0])
def test_a_full_pack_takes_nothing_and_an_empty_one_gives_nothing(step_s: float) -> None:
    full, empty = LumpedPack(soc=1.0), LumpedPack(soc=0.0)
    for _ in range(5):
        full.step(5_000.0, step_s)
        empty.step(-5_000.0, step_s)
    assert (full.power_w, full.current_a, full.charged_wh, full.soc) == (0.0, 0.0, 0.0, 1.0)
    assert (empty.power_w, empty.current_a, empty.discharged_wh, empty.soc) == (0.0, 0.0, 0.0, 0.0)


# Room for 280 W over the minute; a little too much and far too much.
@pytest.mark.parametrize("power_w", [370.0, 20_000.0])
def test_a_pack_that_fills_within_a_step_takes_what_it_has_room_for(power_w: float) -> None:
    pack = LumpedPack(soc=0.9999)
    before_wh = stored_wh(pack)
    pack.step(power_w, 60.0)
    assert pack.soc == 1.0
    assert pack.charged_ah == pytest.approx(0.0001 * 115.44)
    assert pack.power_w == pytest.approx(280.0, rel=0.01)
    assert pack.charged_wh == pytest.approx(stored_wh(pack) - before_wh + pack.heat_wh, rel=1e-4)


def test_a_pack_asked_for_more_than_it_can_give_gives_the_most_it_can() -> None:
    # At 20 degC: 343 V behind 86 mOhm gives at most 343^2 / (4 x 0.086) = 343 kW, with half the voltage left.
    pack = LumpedPack(soc=0.3)
    most_w = pack.open_circuit_v() ** 2 / (4.0 * pack.resistance_ohm())
    pack.step(-1e6, 1.0)
    assert pack.power_w == pytest.approx(-most_w, rel=0.01)
    assert pack.voltage_v == pytest.approx(pack.open_circuit_v() / 2.0, rel=0.01)
    assert pack.charged_wh == 0.0
    assert pack.discharged_wh == pytest.approx(most_w / 3600.0, rel=0.01)


@given(soc=socs, temperature_c=temperatures_c)
def test_limits_are_never_negative_and_vanish_where_the_pack_is_full_or_empty(soc: float, temperature_c: float) -> None:
    pack = LumpedPack(soc=soc, temperature_c=temperature_c)
    assert 0.0 <= pack.charge_limit_w() <= 70_000.0
    assert 0.0 <= pack.discharge_limit_w() <= 110_000.0
    assert LumpedPack(soc=1.0, temperature_c=temperature_c).charge_limit_w() == 0.0
    assert LumpedPack(soc=0.0, temperature_c=temperature_c).discharge_limit_w() == 0.0


@pytest.mark.parametrize(
    ("soc", "temperature_c", "limit_w"),
    [(0.58, 20.0, 70_000.0), (0.25, 5.0, 44_600.0), (0.847, 20.0, 16_300.0), (0.877, 20.0, 12_500.0)],
)
def test_charge_limits_meet_the_recorded_anchors(soc: float, temperature_c: float, limit_w: float) -> None:
    assert LumpedPack(soc=soc, temperature_c=temperature_c).charge_limit_w() == pytest.approx(limit_w, rel=0.005)


@pytest.mark.parametrize(
    ("soc", "voltage_v"), [(1.0, 403.2), (0.584, 358.8), (0.208, 340.0), (0.0, 307.2), (0.5, 352.5)]
)
def test_the_voltage_at_rest_runs_through_the_published_points(soc: float, voltage_v: float) -> None:
    assert LumpedPack(soc=soc).open_circuit_v() == pytest.approx(voltage_v, abs=0.05)


@given(st.floats(0.0, 0.999), st.floats(0.0001, 0.001))
def test_the_voltage_at_rest_rises_with_charge(soc: float, more: float) -> None:
    assert LumpedPack(soc=soc + more).open_circuit_v() > LumpedPack(soc=soc).open_circuit_v()


def test_cold_doubles_the_resistance_from_25_to_about_0_degrees() -> None:
    warm, cold = LumpedPack(soc=0.5, temperature_c=25.0), LumpedPack(soc=0.5, temperature_c=0.0)
    assert warm.resistance_ohm() == pytest.approx(0.075)
    assert cold.resistance_ohm() / warm.resistance_ohm() == pytest.approx(2.09, abs=0.01)


@pytest.mark.parametrize("step_s", [1.0, 10.0, 60.0])
def test_heat_warms_the_thermal_mass_and_leaves_to_the_air(step_s: float) -> None:
    pack = LumpedPack(soc=0.5, ambient_c=20.0, temperature_c=30.0)
    lost_wh = 0.0
    for _ in range(int(3600.0 / step_s)):
        middle_c = pack.temperature_c
        pack.step(-10_000.0, step_s)
        lost_wh += 8.0 * ((middle_c + pack.temperature_c) / 2.0 - 20.0) * step_s / 3600.0
    warmed_wh = 176_000.0 * (pack.temperature_c - 30.0) / 3600.0
    assert pack.heat_wh == pytest.approx(warmed_wh + lost_wh, abs=0.01)


def test_a_rested_pack_takes_the_temperature_of_the_air_and_keeps_its_charge() -> None:
    pack = LumpedPack(soc=0.5, ambient_c=5.0, temperature_c=30.0)
    for _ in range(5 * 24 * 60):
        pack.step(0.0, 60.0)
    assert pack.temperature_c == pytest.approx(5.0, abs=0.01)
    assert (pack.soc, pack.heat_wh, pack.current_a) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize("step_s", [1.0, 10.0])
def test_an_hour_of_5_kw_comes_out_alike_in_short_and_in_long_steps(step_s: float) -> None:
    short, long = LumpedPack(soc=0.5), LumpedPack(soc=0.5)
    for _ in range(int(3600.0 / step_s)):
        short.step(5_000.0, step_s)
    for _ in range(60):
        long.step(5_000.0, 60.0)
    assert short.soc == pytest.approx(long.soc, abs=1e-6)
    assert short.temperature_c == pytest.approx(long.temperature_c, abs=1e-3)
    assert short.heat_wh == pytest.approx(long.heat_wh, rel=1e-3)


def test_the_pack_of_the_parameters_holds_its_40_kilowatt_hours() -> None:
    # Between empty and full at rest; the car counts 40.4 kWh of it as usable when new (frame 0x59E).
    assert 40_400.0 < stored_wh(LumpedPack(soc=1.0)) < 42_000.0
    aged = LumpedPack(soc=1.0, soh=0.85, parameters=PackParameters(capacity_ah=100.0))
    assert aged.capacity_ah == pytest.approx(85.0)


def test_groups_spread_as_given_around_the_mean_of_the_pack_voltage() -> None:
    spread_v = tuple((number - 47.5) * 1e-4 for number in range(96))
    pack = LumpedPack(soc=0.6, group_spread_v=spread_v)
    pack.step(9_000.0, 1.0)
    groups = pack.group_voltages_v()
    assert len(groups) == 96
    assert sum(groups) == pytest.approx(pack.voltage_v)
    assert groups[95] - groups[0] == pytest.approx(95e-4)


@pytest.mark.parametrize("wrong", [{"soc": -0.01}, {"soc": 1.01}, {"soc": 0.5, "soh": 0.0}, {"soc": 0.5, "soh": 1.1}])
def test_a_charge_or_health_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LumpedPack(**wrong)  # type: ignore[arg-type]  # the keys are those of the signature
