"""Packs over time: one step, a chunk or a fleet give the same bits, energy closes, wear has parts that add up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.errors import ConfigError
from twins.pack import layout
from twins.pack.laws import LAWS, closed_form_loss, law
from twins.pack.model import PackModel
from twins.pack.pack import PackTwin
from twins.pack.parameters import shipped_pack
from twins.pack.series import Drive, PackState, advance
from twins.pack.snapshot import course_loss, group_voltages_v, snapshot
from twins.pack.uses import Use

Array = NDArray[np.float64]

MODEL = PackModel.build(shipped_pack("env200_40kwh"), laws=("b1", "schmalstieg", "denso"))


def busy(dt_s: float, days: float, seed: int = 1) -> Drive:
    """Driving in the morning, 7 kW out in the afternoon, a rapid charge at noon, 6.6 kW in at night."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(0.0, days * 86_400.0, dt_s)
    of_day = seconds % 86_400.0
    power = np.zeros(seconds.size)
    use = np.full(seconds.size, Use.PARKED, dtype=np.uint8)
    for begin_h, end_h, watts, what in (
        (7.0, 8.0, -6_000.0, Use.DRIVING),
        (12.0, 12.3, 40_000.0, Use.RAPID),
        (16.0, 18.0, -7_000.0, Use.V2G),
        (20.0, 24.0, 6_600.0, Use.CHARGING),
    ):
        there = (of_day >= begin_h * 3600.0) & (of_day < end_h * 3600.0)
        power[there] = watts
        use[there] = what
    driving = use == Use.DRIVING
    power[driving] += rng.normal(0.0, 13_500.0, int(driving.sum()))
    return Drive(
        dt_s=dt_s,
        power_w=power,
        ambient_c=8.0 + 3.0 * np.sin(seconds / 86_400.0 * 2.0 * np.pi),
        use=use,
        speed_km_h=np.where(driving, 40.0, 0.0),
        soc_ceiling=np.full(1, 0.9),
    )


def part(drive: Drive, first: int, last: int) -> Drive:
    assert drive.use is not None
    assert drive.speed_km_h is not None
    return Drive(
        dt_s=drive.dt_s,
        power_w=drive.power_w[first:last],
        ambient_c=drive.ambient_c[first:last],
        use=drive.use[first:last],
        speed_km_h=drive.speed_km_h[first:last],
        soc_ceiling=drive.soc_ceiling,
    )


def arrays(state: PackState) -> list[Array]:
    return [getattr(state, name) for name in PackState.__slots__]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 8_639), max_size=40))
def test_any_chunking_gives_the_same_state_to_the_last_bit(cuts: list[int]) -> None:
    drive = busy(10.0, 1.0)
    whole = PackState.new(MODEL, soc=0.7)
    advance(MODEL, whole, drive)
    chunked = PackState.new(MODEL, soc=0.7)
    bounds = [0, *sorted(set(cuts)), 8_640]
    for first, last in itertools.pairwise(bounds):
        advance(MODEL, chunked, part(drive, first, last))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(whole), arrays(chunked), strict=True))


def test_the_stepped_pack_the_series_and_the_fleet_give_the_same_numbers() -> None:
    drive = busy(60.0, 2.0)
    drive.soc_ceiling = None
    drive.obey_limits = False
    model = PackModel.build(shipped_pack("env200_40kwh"))
    series = PackState.new(model, soc=0.7)
    advance(model, series, drive)
    fleet = PackState.new(model, packs=5, soc=np.array([0.2, 0.7, 0.5, 0.7, 0.9]))
    advance(model, fleet, drive, threads=2)
    stepped = PackTwin(soc=0.7, ambient_c=20.0)
    assert drive.use is not None
    assert drive.speed_km_h is not None
    for power_w, ambient_c, use, speed in zip(drive.power_w, drive.ambient_c, drive.use, drive.speed_km_h, strict=True):
        stepped.ambient_c, stepped.use, stepped.speed_km_h = float(ambient_c), Use(use), float(speed)
        stepped.step(float(power_w), 60.0)
    for name in ("rows", "wear_y", "wear", "uses"):
        expected = getattr(series, name)[0]
        assert np.array_equal(getattr(fleet, name)[1], expected)
        assert np.array_equal(getattr(fleet, name)[3], expected)
        assert np.array_equal(getattr(stepped._state, name)[0], expected)


@pytest.mark.parametrize("dt_s", [1.0, 10.0, 60.0])
def test_terminal_work_is_stored_or_lost_to_a_millionth_of_a_days_throughput(dt_s: float) -> None:
    state = PackState.new(MODEL, soc=0.6, temperature_c=15.0)
    before = snapshot(MODEL, state)
    advance(MODEL, state, busy(dt_s, 3.0))
    after = snapshot(MODEL, state)
    work_wh = after.charged_wh - after.discharged_wh
    stored_wh = after.stored_wh + after.polarisation_wh - before.stored_wh
    residual_wh = work_wh - stored_wh - after.loss_wh - after.aging_wh
    assert abs(residual_wh) < 1e-6 * (after.charged_wh + after.discharged_wh) / 3.0
    assert after.aging_wh > 0.0
    assert after.efc > 1.0


def test_registers_are_the_integrals_of_what_is_recorded() -> None:
    state = PackState.new(MODEL, soc=0.6)
    recorded = advance(MODEL, state, busy(10.0, 1.0), record=("power_w", "current_a", "voltage_v", "soc"))
    now = snapshot(MODEL, state)
    power, current = recorded["power_w"], recorded["current_a"]
    assert power[power > 0].sum() / 360.0 == pytest.approx(now.charged_wh, rel=1e-12)
    assert -current[current < 0].sum() / 360.0 == pytest.approx(now.discharged_ah, rel=1e-12)
    assert recorded["voltage_v"] * current == pytest.approx(power, abs=1e-6)
    assert sum(use["charged_wh"] for use in now.by_use.values()) == pytest.approx(now.charged_wh, rel=1e-12)
    assert now.by_use[Use.V2G]["discharged_wh"] == pytest.approx(14_000.0, rel=1e-6)
    assert now.by_use[Use.RAPID]["charged_wh"] == pytest.approx(12_000.0, rel=1e-6)
    assert recorded["soc"][-1] == now.soc


@pytest.mark.parametrize("dt_s", [1.0, 7.0, 60.0])
@pytest.mark.parametrize("celsius", [-25.0, 10.0, 45.0])
def test_no_step_up_to_60_seconds_is_unstable(dt_s: float, celsius: float) -> None:
    state = PackState.new(MODEL, soc=0.5, temperature_c=celsius)
    power = np.tile([60_000.0, -60_000.0, 0.0, 90_000.0, -110_000.0], 400)
    drive = Drive(dt_s, power, np.full(1, celsius), speed_km_h=np.full(1, 120.0), obey_limits=False)
    recorded = advance(MODEL, state, drive, record=("temperature_c", "plates_c", "casing_c", "voltage_v", "soc"))
    for values in recorded.values():
        assert np.isfinite(values).all()
    for name in ("temperature_c", "plates_c", "casing_c"):
        assert celsius - 1.0 < recorded[name].min()
        # One kind of ringing would be steps that alternate in sign around their own mean.
        second = np.diff(recorded[name][1000:], n=2)
        assert np.abs(second).max() < 2.0 * np.abs(np.diff(recorded[name][1000:])).max() + 1e-9
    assert 240.0 <= recorded["voltage_v"].min() <= recorded["voltage_v"].max() <= 4.25 * 96 + 0.5


def test_what_the_pack_cannot_give_is_limited_and_flagged_and_counted() -> None:
    state = PackState.new(MODEL, soc=0.02)
    recorded = advance(
        MODEL, state, Drive(1.0, np.full(600, -30_000.0), np.full(1, 20.0)), record=("power_w", "limited")
    )
    assert (recorded["power_w"] <= 0.0).all()
    assert recorded["power_w"].min() > -30_000.0
    assert (recorded["limited"] > 0).all()
    now = snapshot(MODEL, state)
    assert now.limited_s == 600.0
    assert now.limited_wh + now.discharged_wh == pytest.approx(5_000.0)


def test_charging_stops_at_the_ceiling_and_v2g_at_the_floor_by_the_packs_own_charge() -> None:
    state = PackState.new(MODEL, soc=0.85)
    night = Drive(
        10.0, np.full(3_600, 6_600.0), np.full(1, 20.0), use=np.full(1, 3, np.uint8), soc_ceiling=np.full(1, 0.9)
    )
    advance(MODEL, state, night)
    assert snapshot(MODEL, state).soc == pytest.approx(0.9, abs=1e-5)
    evening = Drive(
        10.0, np.full(9_000, -7_000.0), np.full(1, 20.0), use=np.full(1, 2, np.uint8), soc_floor=np.full(1, 0.4)
    )
    advance(MODEL, state, evening)
    assert snapshot(MODEL, state).soc == pytest.approx(0.4, abs=2e-4)


@pytest.mark.parametrize("key", ["b1", "schmalstieg", "denso"])
def test_standing_a_year_ages_as_the_published_law_says(key: str) -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"), laws=(key,))
    course = course_loss(model, np.array([0.0, 365.0 * 86_400.0]), np.array([0.5, 0.5]), np.array([25.0, 25.0]))
    published = closed_form_loss(law(key), days=365.0, soc=0.5, temperature_c=25.0)
    assert course[key].capacity_loss == pytest.approx(published.capacity, rel=1e-4)
    assert course[key].cycle_part == 0.0


@pytest.mark.parametrize("key", ["b1", "schmalstieg", "denso"])
def test_equal_cycles_age_as_the_published_law_says(key: str) -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"), laws=(key,))
    nodes = np.arange(401)
    soc = np.where(nodes % 2 == 0, 0.3, 0.7)
    course = course_loss(model, nodes * 3600.0, soc, np.full(401, 25.0))[key]
    published = closed_form_loss(
        law(key), days=400.0 / 24.0, soc=0.5, temperature_c=25.0,
        cycles=200.0, depth=0.4, charge_c_rate=0.4, discharge_c_rate=0.4,
    )  # fmt: skip
    assert course.cycle_part == pytest.approx(published.cycle, rel=1e-6)


@pytest.mark.parametrize("key", list(LAWS))
def test_one_course_on_1_60_and_3600_second_nodes_loses_the_same_within_a_thousandth(key: str) -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"), laws=(key,))
    rng = np.random.default_rng(7)
    hours = np.arange(0.0, 73.0)
    soc = np.clip(0.5 + 0.3 * np.sin(hours) + 0.1 * rng.normal(size=73), 0.05, 0.95)
    celsius = 10.0 + 12.0 * np.sin(hours / 24.0 * 2.0 * np.pi) + rng.normal(size=73)
    losses = []
    for step_s in (1.0, 60.0, 3600.0):
        time_s = np.arange(0.0, 72.0 * 3600.0 + 1.0, step_s)
        at = time_s / 3600.0
        losses.append(course_loss(model, time_s, np.interp(at, hours, soc), np.interp(at, hours, celsius))[key])
    for each in losses[1:]:
        assert each.capacity_loss == pytest.approx(losses[0].capacity_loss, rel=1e-3)
        assert each.cycle_part == pytest.approx(losses[0].cycle_part, rel=1e-6)


@pytest.mark.parametrize("key", list(LAWS))
def test_live_attribution_has_parts_that_add_up_to_the_loss(key: str) -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"), laws=(key,))
    state = PackState.new(model, soc=0.7)
    advance(model, state, busy(10.0, 20.0))
    wear = snapshot(model, state).laws[key]
    assert sum(wear.by_cause.values()) == pytest.approx(wear.capacity_loss, abs=1e-12)
    assert wear.calendar_part + wear.cycle_part == pytest.approx(wear.capacity_loss, abs=1e-15)
    assert {"time", "driving", "v2g"} <= set(wear.by_cause) or wear.cycle_part == 0.0
    assert 0.0 <= wear.share_outside_validity <= 1.0 + 1e-12


def test_a_recharge_leg_is_charged_to_whoever_discharged() -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"))
    state = PackState.new(model, soc=0.8)
    power = np.concatenate((np.full(3_600, -7_000.0), np.full(3_800, 7_000.0)))
    use = np.concatenate((np.full(3_600, Use.V2G), np.full(3_800, Use.CHARGING))).astype(np.uint8)
    for _ in range(10):
        advance(model, state, Drive(1.0, power, np.full(1, 20.0), use=use, soc_ceiling=np.full(1, 0.8)))
    wear = snapshot(model, state).laws["b1"]
    assert wear.by_cause["v2g"] == pytest.approx(wear.cycle_part, rel=1e-3)
    assert "charging" not in wear.by_cause


def test_cold_charging_has_a_stress_of_its_own_only_where_it_is_switched_on() -> None:
    plain = shipped_pack("env200_40kwh")
    strict = plain.model_copy(update={"aging": plain.aging.model_copy(update={"cold_charging": True})})
    losses = {}
    for name, parameters in (("plain", plain), ("strict", strict)):
        model = PackModel.build(parameters)
        state = PackState.new(model, soc=0.8, temperature_c=-5.0)
        power = np.concatenate((np.full(3_600, -7_000.0), np.full(3_800, 7_000.0)))
        use = np.concatenate((np.full(3_600, Use.DRIVING), np.full(3_800, Use.CHARGING))).astype(np.uint8)
        for _ in range(5):
            advance(model, state, Drive(1.0, power, np.full(1, -5.0), use=use, soc_ceiling=np.full(1, 0.8)))
        losses[name] = snapshot(model, state).laws["b1"]
    assert "cold_charging" not in losses["plain"].by_cause
    assert losses["strict"].by_cause["cold_charging"] > 0.0
    assert losses["strict"].cycle_part > losses["plain"].cycle_part


def test_wear_shrinks_the_pack_once_a_day_and_the_curve_follows() -> None:
    state = PackState.new(MODEL, soc=0.7)
    recorded = advance(MODEL, state, busy(10.0, 30.0), record=("capacity_ah", "resistance_growth"), every=8_640)
    assert (np.diff(recorded["capacity_ah"]) < 0.0).all()
    assert (np.diff(recorded["resistance_growth"]) > 0.0).all()
    now = snapshot(MODEL, state)
    assert 1.0 - now.soh == pytest.approx(now.laws["b1"].capacity_loss, rel=1e-6)


def test_ninety_six_equal_groups_are_the_mean_group() -> None:
    parameters = shipped_pack("env200_40kwh")
    none = parameters.spread.model_copy(
        update={"capacity_sd_percent": 0.0, "resistance_sd_percent": 0.0, "self_discharge_sd_percent": 0.0}
    )
    model = PackModel.build(parameters.model_copy(update={"spread": none}))
    lumped, carried = PackState.new(model, soc=0.7), PackState.new(model, soc=0.7, every_group=True)
    drive = busy(1.0, 0.5)
    advance(model, lumped, drive)
    advance(model, carried, drive)
    assert carried.rows[0, 0] == pytest.approx(lumped.rows[0, 0], abs=1e-9)
    assert group_voltages_v(model, carried) == pytest.approx(group_voltages_v(model, lumped), abs=1e-6)


def test_groups_rebuilt_from_mean_and_spread_are_within_a_millivolt_of_groups_carried_one_by_one() -> None:
    lumped, carried = PackState.new(MODEL, soc=0.7), PackState.new(MODEL, soc=0.7, every_group=True)
    drive = busy(1.0, 1.0)
    for state in (lumped, carried):
        advance(MODEL, state, drive)
    rebuilt, true = group_voltages_v(MODEL, lumped), group_voltages_v(MODEL, carried)
    assert np.abs(rebuilt - true).max() < 1e-3
    assert np.ptp(true) > 3e-3


def test_shunts_bring_the_groups_together() -> None:
    parameters = shipped_pack("env200_40kwh")
    spread = parameters.spread.model_copy(update={"balancing_a": 0.2, "capacity_sd_percent": 0.0})
    model = PackModel.build(parameters.model_copy(update={"spread": spread}))
    state = PackState.new(model, soc=0.8, every_group=True)
    state.group_soc[0] += np.linspace(-0.01, 0.01, 96)
    advance(model, state, Drive(60.0, np.zeros(2 * 1440), np.full(1, 20.0)))
    assert np.ptp(state.group_soc) < 0.004


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"power_w": np.array([0.0, np.nan])}, "power_w is nan at sample 1"),
        ({"power_w": np.array([0.0, 5e7])}, r"power_w is 5e\+07 at sample 1; it must be from -1e\+07 to 1e\+07"),
        ({"ambient_c": np.full(1, 90.0)}, "ambient is 90 at sample 0; it must be from -60 to 80"),
        ({"ambient_c": np.full(7, 20.0)}, "ambient has shape"),
        ({"use": np.full(1, 9)}, "use is 9 at sample 0"),
        ({"soc_ceiling": np.full(1, 90.0)}, "ceiling is 90 at sample 0; it must be from 0 to 1"),
        ({"dt_s": 61.0}, "a step of 61 s"),
        ({"dt_s": 0.0}, "a step of 0 s"),
    ],
)
def test_input_that_makes_no_sense_is_refused_before_anything_moves(wrong: dict[str, object], sentence: str) -> None:
    state = PackState.new(MODEL, soc=0.5)
    before = state.rows.copy()
    given = {"dt_s": 1.0, "power_w": np.zeros(2), "ambient_c": np.full(1, 20.0)} | wrong
    with pytest.raises(ConfigError, match=sentence):
        advance(MODEL, state, Drive(**given))  # type: ignore[arg-type]  # wrong on purpose
    assert np.array_equal(state.rows, before)


def test_unknown_laws_and_records_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no law of aging is called 'magic'; there are b1"):
        PackModel.build(shipped_pack("env200_40kwh"), laws=("magic",))
    with pytest.raises(ConfigError, match="one or more different"):
        PackModel.build(shipped_pack("env200_40kwh"), laws=("b1", "b1"))
    with pytest.raises(ConfigError, match="'colour' cannot be recorded; there are soc"):
        advance(MODEL, PackState.new(MODEL), Drive(1.0, np.zeros(1), np.zeros(1)), record=("colour",))


def test_a_state_of_health_continues_where_the_law_stands() -> None:
    model = PackModel.build(shipped_pack("env200_40kwh"))
    new, aged = PackState.new(model, soc=0.5), PackState.new(model, soc=0.5, soh=0.9)
    year = Drive(60.0, np.zeros(30 * 1440), np.full(1, 25.0))
    losses = []
    for state in (new, aged):
        before = snapshot(model, state).laws["b1"].capacity_loss
        advance(model, state, year)
        losses.append(snapshot(model, state).laws["b1"].capacity_loss - before)
    assert snapshot(model, aged).soh < 0.9
    assert losses[1] < 0.8 * losses[0]  # the law slows down with what is lost already


def test_resistances_of_the_pack_file_are_those_of_the_beginning_at_any_health() -> None:
    growths = []
    for soh in (1.0, 0.85):
        state = PackState.new(MODEL, soc=0.5, soh=soh)
        recorded = advance(
            MODEL, state, Drive(60.0, np.zeros(3 * 1440), np.full(1, 25.0)), record=("resistance_growth",)
        )
        growths.append(recorded["resistance_growth"])
        assert recorded["resistance_growth"][0] == 0.0
    assert 0.0 < growths[1][-1] < growths[0][-1] < 0.01


def spread_out(capacity_sd_percent: float, **changes: float) -> PackModel:
    parameters = shipped_pack("env200_40kwh")
    spread = parameters.spread.model_copy(update={"capacity_sd_percent": capacity_sd_percent, **changes})
    return PackModel.build(parameters.model_copy(update={"spread": spread}), seed=3)


@pytest.mark.parametrize("every_group", [False, True])
@pytest.mark.parametrize("capacity_sd_percent", [0.8, 5.0, 10.0])
def test_no_group_leaves_its_voltages_however_much_the_groups_differ(
    capacity_sd_percent: float, every_group: bool
) -> None:
    model = spread_out(capacity_sd_percent, resistance_sd_percent=20.0)
    for power_w, soc, bit in ((-30_000.0, 0.3, layout.LOW_VOLTAGE), (40_000.0, 0.8, layout.HIGH_VOLTAGE)):
        state = PackState.new(model, soc=soc, every_group=every_group)
        drive = Drive(1.0, np.full(7_200, power_w), np.full(1, 20.0), obey_limits=False)
        recorded = advance(model, state, drive, record=("lowest_group_v", "highest_group_v", "limited"))
        assert recorded["lowest_group_v"].min() > 2.5 - 0.01
        assert recorded["highest_group_v"].max() < 4.25 + 0.01
        groups = group_voltages_v(model, state)
        assert groups.min() > 2.5 - 0.01
        assert groups.max() < 4.25 + 0.01
        if capacity_sd_percent > 4.0:
            assert (recorded["limited"].astype(int) & bit).any()


def stored_in_groups_wh(model: PackModel, state: PackState) -> float:
    """Energy under the curve in each carried group; the curve goes on straight beyond its ends."""
    grid = np.arange(-128.0, 385.0) / 256.0
    curve = state.curve_v[0]
    low, high = curve[1] - curve[0], curve[-1] - curve[-2]
    volts = np.concatenate(
        (curve[0] + low * np.arange(-128.0, 0.0), curve, curve[-1] + high * np.arange(1.0, 129.0))
    )
    total = 0.0
    for soc, capacity in zip(state.group_soc[0], model.groups.capacity, strict=True):
        at = np.append(grid[grid < soc], soc)
        total += float(np.trapezoid(np.interp(at, grid, volts), at)) * capacity
    return total * float(state.rows[0, layout.CAPACITY_AH])


@pytest.mark.parametrize("dt_s", [1.0, 10.0, 60.0])
@pytest.mark.parametrize(("watts", "celsius"), [(-60_000.0, 20.0), (50_000.0, 0.0)])
def test_energy_closes_to_a_millionth_with_every_group_carried_limits_and_shunts_included(
    dt_s: float, watts: float, celsius: float
) -> None:
    model = spread_out(2.0, self_discharge_sd_percent=50.0, balancing_a=0.1)
    state = PackState.new(model, soc=0.5, temperature_c=celsius, every_group=True)
    before_wh = stored_in_groups_wh(model, state)
    power = np.concatenate((np.full(int(3_600 / dt_s), watts), np.zeros(int(36_000 / dt_s))))
    advance(model, state, Drive(dt_s, power, np.full(1, celsius), obey_limits=False))
    now = snapshot(model, state)
    work_wh = now.charged_wh - now.discharged_wh
    residual_wh = work_wh - (stored_in_groups_wh(model, state) - before_wh) - now.polarisation_wh - now.loss_wh
    assert abs(residual_wh) < 1e-6 * (now.charged_wh + now.discharged_wh)
    mean_soc = float((state.group_soc[0] * model.groups.capacity).mean())
    assert now.soc == pytest.approx(mean_soc, abs=1e-9)


def test_shunts_leave_groups_that_are_balanced_when_full_alone() -> None:
    model = spread_out(2.0, balancing_a=0.1, self_discharge_sd_percent=0.0)
    state = PackState.new(model, soc=0.5, every_group=True)
    apart = np.ptp(state.group_soc[0])
    advance(model, state, Drive(60.0, np.zeros(5 * 1440), np.full(1, 20.0)))
    assert np.ptp(state.group_soc[0]) == pytest.approx(apart, rel=0.01)


def test_a_pack_that_only_stands_never_becomes_better() -> None:
    # The open leg of a charge must not slow down while the pack waits.
    model = PackModel.build(shipped_pack("env200_40kwh"), laws=("denso", "b1", "schmalstieg"))
    state = PackState.new(model, soc=0.2)
    use = np.full(1, Use.RAPID, dtype=np.uint8)
    advance(model, state, Drive(1.0, np.full(1_320, 60_000.0), np.full(1, 20.0), use=use))
    losses = []
    for _ in range(48):
        losses.append({key: wear.capacity_loss for key, wear in snapshot(model, state).laws.items()})
        advance(model, state, Drive(60.0, np.zeros(60), np.full(1, 20.0)))
    for key in ("denso", "b1", "schmalstieg"):
        assert (np.diff([each[key] for each in losses]) > 0.0).all()


def test_a_law_without_calendar_part_goes_on_from_the_given_health() -> None:
    parameters = shipped_pack("env200_40kwh")
    cycling = parameters.model_copy(update={"aging": parameters.aging.model_copy(update={"calendar_scale": 0.0})})
    model = PackModel.build(cycling)
    state = PackState.new(model, soc=0.7, soh=0.9)
    advance(model, state, busy(10.0, 20.0))
    assert snapshot(model, state).soh == pytest.approx(0.9 - snapshot(model, state).laws["b1"].capacity_loss, abs=1e-6)
    assert snapshot(model, state).soh < 0.899
