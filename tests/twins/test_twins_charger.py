"""The charger twin: states, allocation, ramp, conversion, meter and the two watchdogs, on simulated time."""

# Tuples of floats are compared with pytest.approx, which mypy does not take for a float.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.charger.charger import Allocation, ChargerTwin, Clamp, CommandRefused, SessionState
from twins.measurement import EXACT, Fault, generator
from twins.vehicle.van import Van


class Stand:
    """A charger and its van on simulated time, at 230 V and 50 Hz."""

    def __init__(self, *, soc_percent: float = 55.0, van_seed: int = 7, running: bool = True, **charger: Any) -> None:
        self.van = Van("van", generator(van_seed, "van"), soc_percent=soc_percent)
        self.charger = ChargerTwin("charger", generator(7, "charger"), van=self.van, **charger)
        self.now_s = 0.0
        if running:
            self.charger.plug_in()
            self.charger.start()

    def step(self, seconds: float, dt_s: float = 1.0) -> None:
        for _ in range(round(seconds / dt_s)):
            self.now_s += dt_s
            self.charger.step(230.0, 50.0, dt_s, self.now_s)


# States


def test_a_session_from_plug_in_to_plug_out() -> None:
    stand = Stand(running=False)
    charger, van = stand.charger, stand.van
    assert (charger.state, van.plug_state) == (SessionState.AVAILABLE, 0)
    charger.plug_in()
    assert (charger.state, van.plug_state, van.contactor_closed) == (SessionState.PLUGGED, 2, False)
    charger.authorise("TAG")
    assert (charger.state, charger.id_tag) == (SessionState.AUTHORISED, "TAG")
    charger.start()
    assert (charger.state, charger.session_count, van.charge_mode) == (SessionState.RUNNING, 1, 3)
    assert van.contactor_closed
    charger.start()
    assert charger.session_count == 1
    charger.stop("Remote")
    assert (charger.state, charger.stop_reason, van.contactor_closed) == (SessionState.FINISHING, "Remote", False)
    charger.stop("Local")
    assert charger.stop_reason == "Remote"
    charger.start()
    assert (charger.state, charger.session_count, charger.stop_reason) == (SessionState.RUNNING, 2, "")
    charger.unplug()
    assert (charger.state, charger.stop_reason, charger.id_tag) == (SessionState.AVAILABLE, "EVDisconnected", "")
    assert (van.plug_state, van.contactor_closed) == (0, False)


def bring_to(stand: Stand, state: SessionState) -> None:
    charger = stand.charger
    if state in {SessionState.PLUGGED, SessionState.AUTHORISED, SessionState.RUNNING, SessionState.FINISHING}:
        charger.plug_in()
    if state is SessionState.AUTHORISED:
        charger.authorise("TAG")
    if state in {SessionState.RUNNING, SessionState.FINISHING}:
        charger.start()
    if state is SessionState.FINISHING:
        charger.stop()
    if state is SessionState.FAULTED:
        charger.raise_fault("MREC17")
    if state is SessionState.UNAVAILABLE:
        charger.set_available(False)
    assert charger.state is state


@pytest.mark.parametrize("state", list(SessionState))
def test_plugging_in_connects_the_cable_in_every_state(state: SessionState) -> None:
    stand = Stand(running=False)
    bring_to(stand, state)
    stand.charger.plug_in()
    assert stand.van.plug_state == 2
    expected = SessionState.PLUGGED if state is SessionState.AVAILABLE else state
    assert stand.charger.state is expected


@pytest.mark.parametrize("state", list(SessionState))
def test_unplugging_takes_the_cable_and_the_power_away_in_every_state(state: SessionState) -> None:
    stand = Stand(running=False)
    bring_to(stand, state)
    stand.charger.set_setpoint(5_000.0)
    stand.step(5)
    stand.charger.unplug()
    stand.step(1)
    stays = state in {SessionState.FAULTED, SessionState.UNAVAILABLE}
    assert stand.charger.state is (state if stays else SessionState.AVAILABLE)
    assert (stand.van.plug_state, stand.van.pack.power_w) == (0, 0.0)
    assert stand.charger.true_ac_power_w == 35.0


@pytest.mark.parametrize("state", list(SessionState))
def test_a_fault_takes_the_power_away_in_every_state_and_its_reset_finds_the_cable(state: SessionState) -> None:
    stand = Stand(running=False)
    bring_to(stand, state)
    stand.charger.set_setpoint(5_000.0)
    stand.step(5)
    stand.charger.raise_fault("MREC3")
    stand.step(1)
    assert stand.charger.state is SessionState.FAULTED
    assert stand.charger.fault_codes[-1] == "MREC3"
    assert (stand.charger.true_ac_power_w, stand.charger.dc_power_w, stand.van.pack.current_a) == (35.0, 0.0, 0.0)
    with pytest.raises(CommandRefused, match="faulted"):
        stand.charger.start()
    stand.charger.clear_faults()
    plugged = stand.van.plug_state != 0
    assert stand.charger.state is (SessionState.PLUGGED if plugged else SessionState.AVAILABLE)
    assert stand.charger.fault_codes == ()


@pytest.mark.parametrize("state", [SessionState.AVAILABLE, SessionState.FAULTED, SessionState.UNAVAILABLE])
def test_a_session_needs_a_plugged_vehicle_and_a_healthy_charger(state: SessionState) -> None:
    stand = Stand(running=False)
    bring_to(stand, state)
    with pytest.raises(CommandRefused, match=f"the charger is {state}"):
        stand.charger.start()
    with pytest.raises(CommandRefused, match=f"the charger is {state}"):
        stand.charger.authorise("TAG")


def test_a_charger_without_a_van_cannot_be_plugged_in() -> None:
    charger = ChargerTwin("charger", generator(7, "charger"))
    with pytest.raises(CommandRefused, match="no van at its parking place"):
        charger.plug_in()
    charger.step(230.0, 50.0, 1.0, 1.0)
    charger.unplug()
    assert (charger.state, charger.soc_percent) == (SessionState.AVAILABLE, None)


def test_availability_changes_only_while_nothing_runs_and_nothing_is_wrong() -> None:
    stand = Stand()
    with pytest.raises(CommandRefused, match="the charger is running"):
        stand.charger.set_available(False)
    stand.charger.stop()
    stand.charger.set_available(False)
    assert stand.charger.state is SessionState.UNAVAILABLE
    stand.charger.set_available(True)
    assert stand.charger.state is SessionState.PLUGGED


# Allocation


@pytest.mark.parametrize(
    ("setpoint_w", "profile_w", "soc_percent", "expected"),
    [
        (5_000.0, (-10_000.0, 10_000.0), 55.0, Allocation(5_000.0, Clamp.NOBODY)),
        (-5_000.0, (-10_000.0, 10_000.0), 55.0, Allocation(-5_000.0, Clamp.NOBODY)),
        (12_000.0, (-10_000.0, 10_000.0), 55.0, Allocation(10_000.0, Clamp.CHARGER)),
        (-12_000.0, (-10_000.0, 10_000.0), 55.0, Allocation(-10_000.0, Clamp.CHARGER)),
        (5_000.0, (-3_000.0, 3_000.0), 55.0, Allocation(3_000.0, Clamp.PROFILE)),
        (-5_000.0, (-3_000.0, 3_000.0), 55.0, Allocation(-3_000.0, Clamp.PROFILE)),
        (5_000.0, (-3_000.0, 0.0), 55.0, Allocation(0.0, Clamp.PROFILE)),
        (5_000.0, (0.0, 0.0), 55.0, Allocation(0.0, Clamp.PROFILE)),
        (12_000.0, (-3_000.0, 3_000.0), 55.0, Allocation(3_000.0, Clamp.PROFILE)),
    ],
)
def test_the_tightest_bound_is_in_force_and_named(
    setpoint_w: float, profile_w: tuple[float, float], soc_percent: float, expected: Allocation
) -> None:
    stand = Stand(soc_percent=soc_percent)
    stand.charger.set_setpoint(setpoint_w)
    stand.charger.set_profile(*profile_w)
    assert stand.charger.allocation() == expected


def test_the_vehicle_is_named_when_it_is_the_tightest_and_not_when_the_profile_is() -> None:
    stand = Stand(soc_percent=99.0)
    charger = stand.charger
    charger.set_setpoint(9_000.0)
    # At 99 % the pack takes 70 kW x 0.05 / 3 = 1 167 W; with the converter's loss that is 1 275 W of AC power.
    assert charger.allocation().clamped_by is Clamp.VEHICLE
    assert charger.allocation().power_w == pytest.approx(1_275.0, abs=3.0)
    charger.set_profile(-1_000.0, 1_000.0)
    assert charger.allocation() == Allocation(1_000.0, Clamp.PROFILE)
    assert charger.charge_limit_w == pytest.approx(1_275.0, abs=3.0)


def test_an_empty_vehicle_gives_nothing_and_is_named() -> None:
    stand = Stand(soc_percent=0.0)
    stand.charger.set_setpoint(-5_000.0)
    assert stand.charger.allocation() == Allocation(0.0, Clamp.VEHICLE)
    assert stand.charger.discharge_limit_w == 0.0


@given(
    setpoint_w=st.floats(-15_000.0, 15_000.0),
    profile=st.one_of(
        st.floats(0.0, 12_000.0).map(lambda limit: (-limit, limit)),
        st.floats(-12_000.0, 0.0).map(lambda limit: (limit, 0.0)),
    ),
    soc_percent=st.floats(0.0, 100.0),
)
def test_an_allocation_keeps_the_sign_and_every_bound(
    setpoint_w: float, profile: tuple[float, float], soc_percent: float
) -> None:
    stand = Stand(soc_percent=soc_percent)
    charger = stand.charger
    charger.set_setpoint(setpoint_w)
    charger.set_profile(*profile)
    allocated = charger.allocation()
    assert allocated.power_w * setpoint_w >= 0.0
    assert abs(allocated.power_w) <= abs(setpoint_w)
    assert max(-10_000.0, profile[0]) <= allocated.power_w <= min(10_000.0, profile[1])
    assert -charger.discharge_limit_w <= allocated.power_w <= charger.charge_limit_w
    assert (allocated.clamped_by is Clamp.NOBODY) == (allocated.power_w == setpoint_w)


def test_a_commanding_profile_takes_the_place_of_the_set_point() -> None:
    stand = Stand()
    stand.charger.set_setpoint(3_000.0)
    stand.charger.command_by_profile(-4_000.0)
    assert stand.charger.allocation() == Allocation(-4_000.0, Clamp.NOBODY)
    stand.charger.command_by_profile(None)
    assert stand.charger.allocation() == Allocation(3_000.0, Clamp.NOBODY)


# Ramp, conversion, meter


def test_power_rises_with_2_and_falls_with_5_kilowatts_per_second() -> None:
    stand = Stand()
    stand.charger.set_setpoint(9_000.0)
    course = []
    for _ in range(6):
        stand.step(1)
        course.append(stand.charger.ac_power_w)
    assert course == [2_000.0, 4_000.0, 6_000.0, 8_000.0, 9_000.0, 9_000.0]
    stand.charger.set_setpoint(0.0)
    stand.step(1)
    assert stand.charger.ac_power_w == 4_000.0
    stand.step(1)
    assert stand.charger.ac_power_w == 0.0


@given(st.lists(st.tuples(st.floats(-10_000.0, 10_000.0), st.sampled_from([0.1, 1.0, 10.0])), min_size=1, max_size=20))
def test_the_ramp_never_overshoots_and_never_jumps(course: list[tuple[float, float]]) -> None:
    stand = Stand()
    for setpoint_w, dt_s in course:
        before_w = stand.charger.ac_power_w
        stand.charger.set_setpoint(setpoint_w)
        stand.step(dt_s, dt_s)
        after_w = stand.charger.ac_power_w
        assert abs(after_w - before_w) <= 5_000.0 * dt_s + 1e-6
        assert min(before_w, setpoint_w) - 1e-9 <= after_w <= max(before_w, setpoint_w) + 1e-9


@pytest.mark.parametrize("dt_s", [0.1, 1.0, 10.0, 60.0])
@pytest.mark.parametrize("setpoint_w", [-10_000.0, -1_000.0, 0.0, 1_000.0, 10_000.0])
def test_each_step_conserves_energy_from_the_grid_to_the_pack(dt_s: float, setpoint_w: float) -> None:
    stand = Stand()
    charger = stand.charger
    charger.set_setpoint(setpoint_w)
    for _ in range(20):
        stand.step(dt_s, dt_s)
        assert charger.true_ac_power_w - charger.dc_power_w == pytest.approx(
            charger.converter.loss_w(charger.dc_power_w)
        )
        assert stand.van.pack.power_w == pytest.approx(charger.dc_power_w)


def test_at_zero_watts_a_running_charger_draws_its_running_loss_and_a_resting_one_its_stand_by() -> None:
    stand = Stand()
    stand.step(3)
    assert (stand.charger.true_ac_power_w, stand.charger.dc_power_w) == (80.0, 0.0)
    stand.charger.stop()
    stand.step(1)
    assert stand.charger.true_ac_power_w == 35.0


def test_the_meter_tells_the_power_at_the_grid_terminals_inside_its_accuracy() -> None:
    stand = Stand()
    for setpoint_w in (-10_000.0, -3_000.0, 3_000.0, 10_000.0):
        stand.charger.set_setpoint(setpoint_w)
        stand.step(20)
        true_w = stand.charger.true_ac_power_w
        assert abs(stand.charger.meter.power_w - true_w) <= 0.01 * abs(true_w) + 3.0 + 6 * 2.0 + 0.5


@given(st.lists(st.tuples(st.floats(-10_000.0, 10_000.0), st.sampled_from([1.0, 10.0, 60.0])), min_size=1, max_size=20))
def test_meter_registers_are_the_integral_of_true_power_per_direction(course: list[tuple[float, float]]) -> None:
    stand = Stand(power_accuracy=EXACT)
    meter = stand.charger.meter
    taken_wh, given_wh = meter.import_wh, meter.export_wh  # a register begins within its first watt-hour
    assert 0.0 <= taken_wh < 1.0
    assert 0.0 <= given_wh < 1.0
    for setpoint_w, dt_s in course:
        stand.charger.set_setpoint(setpoint_w)
        before = meter.import_wh, meter.export_wh
        stand.step(dt_s, dt_s)
        energy_wh = stand.charger.true_ac_power_w * dt_s / 3600.0
        taken_wh, given_wh = taken_wh + max(energy_wh, 0.0), given_wh + max(-energy_wh, 0.0)
        assert meter.import_wh >= before[0]
        assert meter.export_wh >= before[1]
    assert (meter.import_wh, meter.export_wh) == (pytest.approx(taken_wh), pytest.approx(given_wh))


@pytest.mark.parametrize("dt_s", [1.0, 10.0, 60.0])
@pytest.mark.parametrize(("setpoint_w", "soc_percent", "end"), [(10_000.0, 90.0, 1.0), (-10_000.0, 12.0, 0.0)])
def test_power_tapers_to_nothing_at_a_full_and_at_an_empty_pack(
    dt_s: float, setpoint_w: float, soc_percent: float, end: float
) -> None:
    stand = Stand(soc_percent=soc_percent)
    stand.charger.set_setpoint(setpoint_w)
    stand.step(120, dt_s)
    assert stand.charger.ac_power_w == setpoint_w
    stand.step(3 * 3600, dt_s)
    pack = stand.van.pack
    assert 0.0 <= pack.soc <= 1.0
    assert pack.soc == pytest.approx(end, abs=0.01)
    assert abs(stand.charger.dc_power_w) < 500.0
    assert stand.charger.allocated.clamped_by is Clamp.VEHICLE


@pytest.mark.parametrize(("power_w", "soc_percent"), [(10_000.0, 99.99), (-10_000.0, 0.01)])
def test_a_pack_full_or_empty_within_a_step_takes_what_it_can_on_both_planes_alike(
    power_w: float, soc_percent: float
) -> None:
    stand = Stand(soc_percent=soc_percent)
    stand.charger.ac_power_w = power_w  # as if its limit fell away within one step
    stand.charger.ramp_down_w_per_s = 0.0
    stand.step(60, 60.0)
    pack = stand.van.pack
    assert pack.soc == (1.0 if power_w > 0.0 else 0.0)
    assert abs(stand.charger.dc_power_w) < 0.5 * abs(power_w)
    assert stand.charger.dc_power_w == pytest.approx(pack.power_w)
    loss_w = stand.charger.true_ac_power_w - stand.charger.dc_power_w
    assert loss_w == pytest.approx(stand.charger.converter.loss_w(stand.charger.dc_power_w))


def test_dc_side_sensors_see_the_session_and_nothing_with_open_contactors() -> None:
    stand = Stand()
    stand.charger.set_setpoint(-7_000.0)
    stand.step(10)
    assert stand.charger.dc_voltage_v == pytest.approx(stand.van.pack.voltage_v, rel=0.005)
    assert stand.charger.dc_current_a == pytest.approx(stand.van.pack.current_a, rel=0.005, abs=0.01)
    assert stand.charger.soc_percent == pytest.approx(100.0 * stand.van.bms.soc, abs=0.05)
    stand.charger.stop()
    assert (stand.charger.dc_voltage_v, stand.charger.dc_current_a, stand.charger.soc_percent) == (0.0, 0.0, None)


# Watchdogs


@pytest.mark.parametrize("dt_s", [0.1, 1.0, 2.0])
def test_the_revert_timer_brings_a_silent_controllers_charger_to_zero_in_session_time(dt_s: float) -> None:
    stand = Stand()
    charger = stand.charger
    charger.arm_revert(10.0)
    charger.set_setpoint(-5_000.0)
    stand.step(10.0, dt_s)
    assert charger.revert_remaining_s == pytest.approx(0.0, abs=1e-6)
    assert (charger.ac_power_w, charger.watchdog_tripped) == (-5_000.0, False)
    stand.step(2 * dt_s, dt_s)
    assert charger.watchdog_tripped
    assert charger.allocation() == Allocation(0.0, Clamp.WATCHDOG)
    stand.step(2.0, dt_s)
    assert (charger.ac_power_w, charger.setpoint_w) == (0.0, 0.0)


def test_a_tripped_watchdog_latches_until_a_set_point_is_written() -> None:
    stand = Stand()
    charger = stand.charger
    charger.arm_revert(5.0)
    charger.heartbeat()
    charger.set_setpoint(5_000.0)
    stand.step(20)
    for _ in range(30):
        charger.heartbeat()
        stand.step(1)
    assert (charger.ac_power_w, charger.watchdog_tripped) == (0.0, True)
    charger.set_setpoint(5_000.0)
    for _ in range(5):
        charger.heartbeat()
        stand.step(1)
    assert (charger.ac_power_w, charger.watchdog_tripped) == (5_000.0, False)


def test_a_set_point_feeds_the_revert_timer_but_not_the_heartbeat() -> None:
    stand = Stand()
    charger = stand.charger
    charger.arm_revert(5.0)
    charger.set_setpoint(5_000.0)
    for _ in range(5):
        stand.step(4)
        charger.set_setpoint(5_000.0)
    assert charger.ac_power_w == 5_000.0
    charger.heartbeat()
    for _ in range(5):
        stand.step(4)
        charger.set_setpoint(5_000.0)
    stand.step(1)
    assert charger.watchdog_tripped


def test_a_heartbeat_counts_only_once_it_was_seen_and_feeds_both_watchdogs() -> None:
    stand = Stand()
    charger = stand.charger
    charger.set_setpoint(5_000.0)
    stand.step(100)
    assert charger.ac_power_w == 5_000.0
    charger.arm_revert(3.0)
    for _ in range(50):
        charger.heartbeat()
        stand.step(1)
    assert charger.ac_power_w == 5_000.0
    charger.arm_revert(0.0)
    assert charger.revert_remaining_s == 0.0
    stand.step(9)
    assert not charger.watchdog_tripped
    stand.step(3)
    assert (charger.watchdog_tripped, charger.ac_power_w) == (True, 0.0)


def test_a_watchdog_stands_above_a_commanding_profile() -> None:
    stand = Stand()
    charger = stand.charger
    charger.heartbeat()
    charger.command_by_profile(8_000.0)
    stand.step(10)
    assert charger.ac_power_w == 8_000.0
    stand.step(5)
    assert charger.allocation() == Allocation(0.0, Clamp.WATCHDOG)


# Repeatability and faults


def course(stand: Stand) -> list[tuple[float, ...]]:
    seen: list[tuple[float, ...]] = []
    for setpoint_w, _ in itertools.product((3_000.0, -3_000.0, 0.0), range(20)):
        stand.charger.set_setpoint(setpoint_w)
        stand.step(1)
        meter = stand.charger.meter
        seen.append((meter.power_w, meter.voltage_v, meter.current_a, meter.import_wh, meter.export_wh))
    return seen


def test_one_seed_gives_one_course_whatever_the_van_draws() -> None:
    assert course(Stand()) == course(Stand()) == course(Stand(van_seed=8))


def test_a_fault_planted_in_the_meter_leaves_the_power_itself_alone() -> None:
    healthy, faulty = Stand(), Stand(fault=Fault("gain", percent=3.0))
    course(healthy)
    course(faulty)
    assert faulty.charger.true_ac_power_w == healthy.charger.true_ac_power_w
    assert faulty.van.pack.soc == healthy.van.pack.soc
    assert faulty.charger.meter.import_wh == pytest.approx(1.03 * healthy.charger.meter.import_wh, rel=0.002)
