"""What every charger driver promises, whatever its wire: subclass it and give a `bench` fixture.

`bench` is an open driver named `charger` on a charger twin in a site of its own (van at 55 %, 22 degC, not plugged in),
on the stepped clock. Subclasses say what their wire cannot tell in the class attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from drivers.errors import DeviceError, LimitError, LinkError, NotOpenError
from drivers.readings import Quality
from drivers.roles import Charger, ChargerState, ClampedBy, SetPower, WatchdogKind
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin, SessionState
from twins.clock import SteppedClock
from twins.grid import LowVoltageGrid
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van

START_UTC_S = 1_768_464_000.0  # 2026-01-15T08:00:00Z
IDLE_W = 150.0  # a running charger at 0 W draws the running loss of its converter
READING_UNITS = ("W", "W", "V", "A", "%", "Wh", "Wh", "V", "Hz", "degC")


def make_site(*, soc_percent: float = 55.0) -> tuple[Site, SteppedClock]:
    """A charger twin, its van and its grid on a stepped clock, for the fixture of a subclass."""
    clock = SteppedClock(START_UTC_S)
    van = Van("van", generator(7, "van"), soc_percent=soc_percent)
    charger = ChargerTwin("charger", generator(7, "charger"), van=van)
    return Site(clock, LowVoltageGrid("grid", generator(7, "grid")), charger), clock


@dataclass
class ChargerBench:
    """A charger twin with a driver on it."""

    charger: Charger  # open
    site: Site
    clock: SteppedClock
    loop: ServiceLoop
    again: Callable[[], AbstractContextManager[Charger]]  # another driver on the same twin, not open
    cut: Callable[[], None]  # the charger goes away

    @property
    def twin(self) -> ChargerTwin:
        return self.site.charger

    def step(self, seconds: int = 1, *, feed: bool = True) -> None:
        """Let session time pass in steps of one second, the watchdog fed before each one as the cycle does."""
        for _ in range(seconds):
            if feed:
                self.charger.feed_watchdog()
            self.clock.advance(1.0)
            self.site.step(1.0)
            self.loop.activity.wait_quiet(5.0)
            self.loop.raise_failures()

    def plug_in(self) -> None:
        with self.site.lock:
            self.twin.plug_in()
        self.step()

    def unplug(self) -> None:
        with self.site.lock:
            self.twin.unplug()
        self.step()

    def run_at(self, power_w: float, seconds: int = 10) -> SetPower:
        """Plug in and start where that was not done, set the power, let it settle."""
        if self.twin.state is SessionState.AVAILABLE:
            self.plug_in()
        self.charger.start()
        result = self.charger.set_power(power_w)
        self.step(seconds)
        return result


class ChargerContract:
    """Promises of the Charger role."""

    watchdog = WatchdogKind.DEVICE
    tells_vehicle_limits = True  # whether `set_power` can say that the vehicle takes less
    tells_dc = False  # whether the DC side is read

    @pytest.fixture
    def bench(self) -> Iterator[ChargerBench]:
        raise NotImplementedError("a subclass gives an open driver on a charger twin")

    # Who it is, what it can

    def test_the_nameplate_is_the_twins(self, bench: ChargerBench) -> None:
        nameplate = bench.charger.identify()
        assert nameplate.serial == bench.twin.serial
        assert nameplate.manufacturer.startswith("AME")
        assert "V2G" in nameplate.model
        assert nameplate.firmware

    def test_capabilities_are_both_directions_and_a_watchdog(self, bench: ChargerBench) -> None:
        capabilities = bench.charger.capabilities()
        assert (capabilities.max_charge_w, capabilities.max_discharge_w) == (10_000.0, 10_000.0)
        assert capabilities.watchdog is self.watchdog
        assert capabilities.max_watchdog_s >= 60.0

    # A session

    def test_states_follow_a_session_from_plug_in_to_plug_out(self, bench: ChargerBench) -> None:
        charger = bench.charger
        assert charger.read().state is ChargerState.AVAILABLE
        bench.plug_in()
        assert charger.read().state is ChargerState.PLUGGED
        charger.start()
        bench.step(2)
        assert charger.read().state is ChargerState.SUSPENDED
        charger.set_power(6_000.0)
        bench.step(5)
        assert charger.read().state is ChargerState.CHARGING
        charger.set_power(-6_000.0)
        bench.step(10)
        assert charger.read().state is ChargerState.DISCHARGING
        charger.set_power(0.0)
        bench.step(5)
        assert charger.read().state is ChargerState.SUSPENDED
        charger.stop()
        bench.step()
        assert charger.read().state is ChargerState.PLUGGED
        bench.unplug()
        assert charger.read().state is ChargerState.AVAILABLE

    def test_a_fault_is_told_with_its_code(self, bench: ChargerBench) -> None:
        bench.run_at(5_000.0)
        with bench.site.lock:
            bench.twin.raise_fault("MREC17")
        bench.step()
        readings = bench.charger.read()
        assert readings.state is ChargerState.FAULTED
        assert any("MREC17" in code for code in readings.faults)

    def test_a_charger_out_of_service_says_so(self, bench: ChargerBench) -> None:
        with bench.site.lock:
            bench.twin.set_available(False)
        bench.step()
        assert bench.charger.read().state is ChargerState.UNAVAILABLE

    def test_starting_without_a_vehicle_is_refused_by_the_device(self, bench: ChargerBench) -> None:
        with pytest.raises(DeviceError, match=r"^charger: "):
            bench.charger.start()
        assert bench.twin.state is SessionState.AVAILABLE

    def test_starting_twice_and_stopping_twice_change_nothing(self, bench: ChargerBench) -> None:
        bench.run_at(4_000.0)
        bench.charger.start()
        bench.step()
        assert (bench.twin.session_count, bench.twin.ac_power_w) == (1, 4_000.0)
        bench.charger.stop()
        bench.charger.stop()
        bench.step()
        assert bench.twin.state in {SessionState.FINISHING, SessionState.PLUGGED}

    # Set-points

    @pytest.mark.parametrize("power_w", [-10_000.0, -5_000.0, -700.0, 0.0, 700.0, 5_000.0, 10_000.0])
    def test_a_set_point_that_fits_is_accepted_as_asked_and_delivered(
        self, bench: ChargerBench, power_w: float
    ) -> None:
        result = bench.run_at(power_w)
        assert result == SetPower(power_w, power_w)
        assert result.accepted
        delivered = bench.charger.read().ac_power
        assert abs(delivered.value - power_w) <= max(IDLE_W, 0.02 * abs(power_w))

    def test_a_set_point_without_a_session_is_refused_and_names_the_charger(self, bench: ChargerBench) -> None:
        bench.plug_in()
        result = bench.charger.set_power(-5_000.0)
        assert (result.refused, result.accepted, result.clamped_by) == (True, False, ClampedBy.CHARGER)
        assert result.accepted_w == 0.0
        assert result.code is not None
        bench.charger.start()
        bench.step(5)
        assert abs(bench.charger.read().ac_power.value) <= IDLE_W

    @pytest.mark.parametrize("power_w", [-12_000.0, 12_000.0])
    def test_a_set_point_beyond_the_rating_is_never_in_force(self, bench: ChargerBench, power_w: float) -> None:
        bench.run_at(0.0)
        try:
            result = bench.charger.set_power(power_w)
        except LimitError:
            pass  # nothing was sent; the other way is to send it and be clamped
        else:
            assert result.clamped_by is ClampedBy.CHARGER
            assert abs(result.accepted_w) == 10_000.0
        bench.step(10)
        assert abs(bench.charger.read().ac_power.value) <= 10_200.0

    @pytest.mark.parametrize("power_w", [float("nan"), float("inf"), float("-inf")])
    def test_a_set_point_that_is_no_number_of_watts_is_not_sent(self, bench: ChargerBench, power_w: float) -> None:
        bench.run_at(3_000.0)
        with pytest.raises(LimitError):
            bench.charger.set_power(power_w)
        bench.step(2)
        assert bench.twin.ac_power_w == 3_000.0

    def test_a_vehicle_that_takes_less_gets_less_and_is_named_where_the_wire_can(self, bench: ChargerBench) -> None:
        assert bench.twin.van is not None
        bench.twin.van.pack.soc = 0.985
        result = bench.run_at(9_000.0)
        # 70 kW x 0.05 x 1.5 / 3 at 98.5 %: 1.75 kW into the pack.
        assert 1_500.0 < bench.charger.read().ac_power.value < 2_100.0
        if self.tells_vehicle_limits:
            assert (result.clamped_by, result.refused) == (ClampedBy.VEHICLE, False)
            assert result.accepted_w == pytest.approx(1_880.0, abs=30.0)

    # Readings

    def test_readings_carry_unit_both_times_source_and_quality(self, bench: ChargerBench) -> None:
        bench.run_at(-5_000.0)
        readings = bench.charger.read().readings()
        assert tuple(reading.unit for reading in readings) == READING_UNITS
        assert all(reading.source.startswith("charger.") for reading in readings)
        assert len({reading.source for reading in readings}) == len(readings)
        assert all(reading.mono_s == bench.clock.mono_s for reading in readings)
        assert all(reading.utc_s == bench.clock.utc_s for reading in readings)

    def test_readings_are_the_twins_with_plus_for_charging(self, bench: ChargerBench) -> None:
        bench.run_at(-5_000.0, 120)
        readings = bench.charger.read()
        twin, van = bench.twin, bench.twin.van
        assert van is not None
        assert readings.ac_power.value == pytest.approx(-5_000.0, rel=0.015)
        assert readings.export_energy.value == pytest.approx(twin.meter.export_wh, abs=1.0)
        assert readings.import_energy.value == pytest.approx(twin.meter.import_wh, abs=1.0)
        assert readings.soc.value == pytest.approx(100.0 * van.bms.soc, abs=0.051)
        assert readings.grid_voltage.value == pytest.approx(twin.grid_voltage_v, rel=0.006)
        assert readings.grid_frequency.value == pytest.approx(twin.grid_frequency_hz, abs=0.006)
        if self.tells_dc:
            assert readings.dc_current.value == pytest.approx(van.pack.current_a, rel=0.01)
            assert readings.dc_voltage.value == pytest.approx(van.pack.voltage_v, rel=0.006)
            assert readings.dc_power.value == pytest.approx(van.pack.power_w, rel=0.015)
        else:
            assert readings.dc_power.quality is Quality.NO_DATA

    def test_energy_counts_up_in_the_direction_of_power_only(self, bench: ChargerBench) -> None:
        bench.run_at(8_000.0)
        first = bench.charger.read()
        bench.step(60)
        second = bench.charger.read()
        assert second.import_energy.value - first.import_energy.value == pytest.approx(8_000.0 / 60.0, abs=4.0)
        assert second.export_energy.value == first.export_energy.value
        bench.charger.set_power(-8_000.0)
        bench.step(12)
        third = bench.charger.read()
        bench.step(60)
        fourth = bench.charger.read()
        assert fourth.export_energy.value - third.export_energy.value == pytest.approx(8_000.0 / 60.0, abs=4.0)
        assert fourth.import_energy.value == third.import_energy.value

    def test_what_is_not_known_is_nan_with_a_reason(self, bench: ChargerBench) -> None:
        soc = bench.charger.read().soc
        assert soc.quality is not Quality.GOOD
        assert soc.value != soc.value  # NaN: no vehicle told its charge

    # Watchdog

    @pytest.mark.parametrize(("asked_s", "armed_s"), [(5.0, 5.0), (9.2, 10.0), (60.0, 60.0)])
    def test_a_watchdog_is_armed_and_read_back(self, bench: ChargerBench, asked_s: float, armed_s: float) -> None:
        assert bench.charger.arm_watchdog(asked_s) == armed_s

    @pytest.mark.parametrize("asked_s", [0.0, -5.0, 0.5, 1e6, float("nan"), float("inf")])
    def test_a_watchdog_that_the_device_cannot_hold_is_refused(self, bench: ChargerBench, asked_s: float) -> None:
        with pytest.raises(LimitError, match="watchdog"):
            bench.charger.arm_watchdog(asked_s)

    def test_a_silent_bench_brings_the_charger_to_zero_in_session_time(self, bench: ChargerBench) -> None:
        assert bench.charger.arm_watchdog(5.0) == 5.0
        bench.run_at(-6_000.0)
        bench.step(3, feed=False)
        assert bench.twin.ac_power_w == -6_000.0
        bench.step(8, feed=False)
        assert bench.twin.ac_power_w == 0.0
        assert abs(bench.charger.read().ac_power.value) <= IDLE_W

    def test_a_fed_watchdog_lets_the_session_go_on(self, bench: ChargerBench) -> None:
        bench.charger.arm_watchdog(5.0)
        bench.run_at(-6_000.0, 60)
        assert bench.twin.ac_power_w == -6_000.0

    def test_a_set_point_after_the_watchdog_acts_again(self, bench: ChargerBench) -> None:
        bench.charger.arm_watchdog(5.0)
        bench.run_at(5_000.0)
        bench.step(15, feed=False)
        assert bench.twin.ac_power_w == 0.0
        bench.charger.feed_watchdog()
        assert bench.charger.set_power(4_000.0).accepted
        bench.step(10)
        assert bench.twin.ac_power_w == 4_000.0

    def test_the_watchdog_of_a_second_bench_on_the_same_charger_counts_too(self, bench: ChargerBench) -> None:
        bench.charger.arm_watchdog(5.0)
        bench.step(30, feed=False)
        bench.charger.close()  # type: ignore[attr-defined]  # every driver has it; the role has `with`
        with bench.again() as second:
            bench.charger = second
            assert second.arm_watchdog(5.0) == 5.0
            assert bench.run_at(5_000.0).accepted
            assert bench.twin.ac_power_w == 5_000.0

    # Safe state

    @pytest.mark.parametrize("state", ["available", "plugged", "running", "finishing", "faulted", "unavailable"])
    def test_the_safe_state_is_reached_from_every_state_and_twice(self, bench: ChargerBench, state: str) -> None:
        if state in {"plugged", "finishing", "running"}:
            bench.plug_in()
        if state in {"finishing", "running"}:
            bench.run_at(-8_000.0)
        if state == "finishing":
            bench.charger.stop()
        with bench.site.lock:
            if state == "faulted":
                bench.twin.raise_fault("MREC8")
            if state == "unavailable":
                bench.twin.set_available(False)
        bench.step()
        bench.charger.safe_state()
        bench.charger.safe_state()
        bench.step(3)
        assert bench.twin.state is not SessionState.RUNNING
        assert (bench.twin.ac_power_w, bench.twin.dc_power_w, bench.twin.true_ac_power_w) == (0.0, 0.0, 35.0)

    # Life and death

    def test_a_closed_driver_says_so_in_every_call(self, bench: ChargerBench) -> None:
        bench.charger.close()  # type: ignore[attr-defined]  # every driver has it; the role has `with`
        bench.charger.close()  # type: ignore[attr-defined]  # as above
        calls: list[tuple[str, Callable[[], object]]] = [
            ("identify", bench.charger.identify),
            ("capabilities", bench.charger.capabilities),
            ("read", bench.charger.read),
            ("set_power", lambda: bench.charger.set_power(0.0)),
            ("start", bench.charger.start),
            ("stop", bench.charger.stop),
            ("arm_watchdog", lambda: bench.charger.arm_watchdog(10.0)),
            ("feed_watchdog", bench.charger.feed_watchdog),
            ("safe_state", bench.charger.safe_state),
        ]
        for name, call in calls:
            with pytest.raises(NotOpenError, match="charger 'charger' is closed"):
                call()
            assert name

    def test_closing_leaves_the_charger_usable_for_the_next(self, bench: ChargerBench) -> None:
        bench.charger.close()  # type: ignore[attr-defined]  # every driver has it; the role has `with`
        with bench.again() as second:
            assert second.identify().serial == bench.twin.serial

    def test_a_charger_that_goes_away_is_a_link_error_in_every_call_and_closes_all_the_same(
        self, bench: ChargerBench
    ) -> None:
        bench.run_at(3_000.0)
        bench.cut()
        for call in (
            bench.charger.read,
            lambda: bench.charger.set_power(1_000.0),
            bench.charger.safe_state,
            bench.charger.stop,
        ):
            with pytest.raises(LinkError, match=r"^charger: "):
                call()
        bench.charger.close()  # type: ignore[attr-defined]  # every driver has it; the role has `with`
