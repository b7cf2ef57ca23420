"""The one cycle: measure, guard, act, step, record, from open to close, whatever the plan is doing.

Nothing acts that was not guarded, nothing happens unrecorded. Plans never touch a device: they hand requests to the
cycle (`set_power`, `start`, `stop`) and wait for session time to pass (`wait`).

Two ways of passing time, one body (`_one_cycle`):

- `SteppedCycle`: the caller's thread runs cycles; the clock moves only here, so a keyword that waits an hour runs
  3,600 cycles. A link time-out is charged to session time at its configured length.
- `WallCycle`: a thread of its own runs a cycle every `cycle_s`, devices are read by pollers at their own rate, and the
  cycle judges the latest reading by its age. A plan that is blocked blocks nothing.

A limit that trips brings the charger to its safe state within the same cycle; cycles go on recording, and the plan
gets `InterlockTripped` from whatever it asks next.

Energy may also have to stop without any danger, because nobody pays for it (`stop_energy`). That is no trip: power goes
to 0 W with the next cycle, the plan's next wait ends with `EnergyStopped`, once, and the plan then stops and unplugs as
it always does.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bench.safety import Finding, Guard, Snapshot
from drivers.clock import SessionClock
from drivers.errors import (
    BenchError,
    DeviceCallError,
    EnergyStopped,
    InterlockTripped,
    LimitError,
    LinkError,
    LinkTimeout,
    NotOpenError,
)
from drivers.readings import Reading
from drivers.roles import Charger, ChargerReadings, PowerMeter, PowerMeterReadings, SetPower, Vehicle, VehicleReadings
from reports.run import Event, RunWriter
from twins.clock import SteppedClock

_COMMAND_TIMEOUT_S = 30.0  # real time for the cycle thread to take up a request on the wall clock
_AT_REST_W = 200.0  # stand-by and running losses of the converter stay below


@dataclass(frozen=True, slots=True)
class DeviceSet:
    """The opened devices of a rack, by role; names are those of the station file."""

    charger_name: str
    charger: Charger
    charger_poll_s: float
    vehicle_name: str = ""
    vehicle: Vehicle | None = None
    vehicle_poll_s: float = 10.0
    meter_name: str = ""
    meter: PowerMeter | None = None
    meter_poll_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Trip:
    """Why and when the bench went to its safe state."""

    finding: Finding
    mono_s: float
    reaction_s: float  # real time from judgement to the charger's confirmation
    safe_state_confirmed: bool


@dataclass(slots=True)
class _Request:
    """A plan's wish, carried out by the cycle; `done` tells the plan."""

    what: str
    act: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    error: BenchError | None = None


def _carry_out(requests: Sequence[_Request]) -> None:
    for request in requests:
        try:
            request.act()
        except BenchError as error:
            request.error = error
        except BaseException:
            request.done.set()
            raise


CycleListener = Callable[[int, Snapshot, float], None]
"""Called after each recorded cycle with its index, the snapshot and the session time."""


class Cycle(ABC):
    """What a plan sees of the bench while a rack is open."""

    def __init__(
        self,
        devices: DeviceSet,
        guard: Guard,
        recorder: RunWriter,
        clock: SessionClock,
        *,
        cycle_s: float,
        power_range_w: tuple[float, float],
        drain_events: Callable[[], Sequence[Event]] = tuple,
    ) -> None:
        self._devices = devices
        self._guard = guard
        self._recorder = recorder
        self._clock = clock
        self._cycle_s = cycle_s
        self._power_range_w = power_range_w
        self._drain_events = drain_events
        self._requests: list[_Request] = []
        self._mailbox = threading.Lock()
        self._wanted_w: float | None = None
        self._applied_w: float | None = None
        self._result: SetPower | None = None
        self._fresh_result: SetPower | None = None
        self._events: list[Event] = []
        self._index = 0
        self._safe_state_due = False
        self._waited_for_silent = False
        self._closed = False
        self.snapshot = Snapshot()
        self.last_full_vehicle: VehicleReadings | None = None
        self.trip: Trip | None = None
        self.energy_stop = ""
        self.permit: Callable[[float], None] | None = None
        self._energy_stop_told = False
        self.listeners: list[CycleListener] = []
        self.time_by_device_s: dict[str, float] = {"charger": 0.0, "vehicle": 0.0, "power_meter": 0.0, "record": 0.0}

    # What plans call

    @property
    def now_s(self) -> float:
        """Session time."""
        return self._clock.mono_s

    @property
    def cycles(self) -> int:
        """How many cycles were recorded."""
        return self._index

    def set_power(self, power_w: float) -> SetPower:
        """Ask for AC power (+ charges) and return what became of it, after the cycle that wrote it.

        Raises LimitError when the station's limits forbid it (nothing is sent), InterlockTripped after a trip,
        EnergyStopped for anything but 0 W once energy must not flow any more.
        """
        low_w, high_w = self._power_range_w
        if not low_w <= power_w <= high_w:
            raise LimitError(
                f"a set-point of {power_w:g} W is outside the station's limit {low_w:g} <= power_w <= {high_w:g}"
            )

        flows = power_w != 0.0
        self._require_permit(power_w, flows=flows)

        def act() -> None:
            self._require_energy_allowed(flows=flows)
            self._wanted_w = power_w

        self._hand_in(_Request(f"set power to {power_w:g} W", act))
        result = self._result
        if result is None:
            raise NotOpenError("the charger was not asked; start the session before setting power")
        return result

    def start(self) -> None:
        """Begin energy transfer at 0 W; EnergyStopped when energy must not flow any more."""
        self._require_permit(0.0, flows=True)

        def act() -> None:
            self._devices.charger.start()
            self._wanted_w = self._applied_w = 0.0
            self._result = SetPower(0.0, 0.0)

        self._hand_in(_Request("start", act))

    def stop(self) -> None:
        """End energy transfer."""

        def act() -> None:
            self._wanted_w = self._applied_w = None
            self._devices.charger.stop()

        self._hand_in(_Request("stop", act))

    def stop_energy(self, reason: str) -> None:
        """Bring power to 0 W with the next cycle, and tell the plan at its next wait; the first reason stays.

        May be called from a listener. `permit`, where there is one, is asked by the plan's thread before energy
        transfer begins (0 W) and before each set-point; it may call this.
        """
        if not self.energy_stop:
            self.energy_stop = reason
            self.note("energy_stopped", {"sentence": reason}, source="payment")

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Let session time pass; InterlockTripped when a limit trips, EnergyStopped, once, when energy must stop."""

    def wait_until(self, condition: Callable[[Snapshot], bool], *, timeout_s: float, what: str) -> None:
        """Let session time pass until `condition` holds; BenchError naming `what` after `timeout_s` of session time."""
        end_s = self.now_s + timeout_s
        while not condition(self.snapshot):
            if self.now_s >= end_s:
                raise BenchError(f"{what} did not happen within {timeout_s:g} s of session time")
            self.wait(self._cycle_s)

    def note(self, kind: str, content: Mapping[str, str | int | float | bool | None], source: str = "plan") -> None:
        """Record an event with the next cycle."""
        self._events.append(Event(self._clock.mono_s, self._clock.utc_s, source, kind, dict(content)))

    def settle(self, timeout_s: float, *, silent_s: float | None = None) -> None:
        """Bring the charger to its safe state and record until it is there; used on every way out.

        A charger that does not answer is given `silent_s` (its own watchdog and ramp) instead of `timeout_s`: nobody
        can see it come down. It gets that time once, however often the way out asks.
        """
        if not self._safe_state() and silent_s is not None:
            if self._waited_for_silent:
                return
            timeout_s = min(timeout_s, silent_s)
            self._waited_for_silent = True
        began_s = self.now_s
        while self.now_s < began_s + timeout_s:
            self._pass_one_cycle()
            charger = self.snapshot.charger
            if charger is None:
                continue
            power = charger.ac_power
            if power.is_good and power.mono_s >= began_s and abs(power.value) < _AT_REST_W:
                return

    # The cycle

    def _one_cycle(self, measure: Callable[[], list[Reading]], advance: Callable[[], None]) -> None:
        index = self._index
        mono_s, utc_s = self._clock.mono_s, self._clock.utc_s
        readings = measure()
        judged_s = time.perf_counter()
        for finding in self._guard.judge(self.snapshot, mono_s):
            self._take_up(finding, judged_s)
        self._act()
        advance()
        events = [*self._drain_events(), *self._take_events()]
        started_s = time.perf_counter()
        self._recorder.record_cycle(index, mono_s, utc_s, readings, self._fresh_result, events)
        self._fresh_result = None
        self._index = index + 1
        for listener in self.listeners:
            listener(index, self.snapshot, mono_s)
        self.time_by_device_s["record"] += time.perf_counter() - started_s

    def _act(self) -> None:
        with self._mailbox:
            requests, self._requests = self._requests, []
        if self.trip is not None:
            for request in requests:
                request.error = self._tripped()
                request.done.set()
            self._safe_state()
            return
        _carry_out(requests)
        if self.energy_stop and self._wanted_w:
            self._wanted_w = 0.0
        started_s = time.perf_counter()
        try:
            self._devices.charger.feed_watchdog()
            if self._wanted_w is not None and self._wanted_w != self._applied_w:
                self._result = self._fresh_result = self._devices.charger.set_power(self._wanted_w)
                self._applied_w = self._wanted_w
                if not self._result.accepted:
                    self._say_who_clamped(self._result)
        except LimitError as error:
            # Beyond the charger's own rating: nothing was sent, the former set-point stays.
            self._wanted_w = self._applied_w
            for request in requests:
                request.error = request.error or error
        except DeviceCallError as error:
            self._take_up(self._charger_lost(error), started_s)
        finally:
            self.time_by_device_s["charger"] += time.perf_counter() - started_s
            for request in requests:
                if request.error is None and self._is_tripped:
                    request.error = self._tripped()
                request.done.set()

    def _say_who_clamped(self, result: SetPower) -> None:
        verb = "refused" if result.refused else "reduced"
        self.note(
            "set_point_" + verb,
            {
                "requested_w": result.requested_w,
                "accepted_w": None if math.isnan(result.accepted_w) else result.accepted_w,
                "clamped_by": result.clamped_by.value,
                "code": result.code,
            },
            source=self._devices.charger_name,
        )

    def _take_up(self, finding: Finding, judged_s: float) -> None:
        content: dict[str, str | int | float | bool | None] = {
            "limit": finding.limit,
            "source": finding.source,
            "value": None if math.isnan(finding.value) else finding.value,
            "unit": finding.unit,
            "sentence": finding.sentence,
        }
        if not finding.trips:
            self.note("limit_warning", content, source="guard")
            return
        if self.trip is not None:
            return
        self._wanted_w = None
        confirmed = self._safe_state()
        self.trip = Trip(finding, self._clock.mono_s, time.perf_counter() - judged_s, confirmed)
        self.note("limit_tripped", {**content, "safe_state_confirmed": confirmed}, source="guard")

    def _safe_state(self) -> bool:
        """Ask for the safe state; whether the charger confirmed. Until it does, each cycle asks again after a trip."""
        if self.trip is not None and self.trip.safe_state_confirmed:
            return True
        self._wanted_w = self._applied_w = None
        try:
            self._devices.charger.safe_state()
        except DeviceCallError as error:
            self.note("safe_state_unconfirmed", {"sentence": str(error)}, source=self._devices.charger_name)
            if isinstance(error, LinkTimeout):
                self._charge_timeout(error)
            return False
        return True

    def _charger_lost(self, error: DeviceCallError) -> Finding:
        return Finding(
            "charger_link",
            True,
            float("nan"),
            "",
            self._devices.charger_name,
            f"{error}; without its charger the bench cannot guard, and the charger's own watchdog ends the power",
        )

    @property
    def _is_tripped(self) -> bool:
        return self.trip is not None

    def _require_permit(self, power_w: float, *, flows: bool) -> None:
        if self.permit is not None and self.trip is None:
            self.permit(power_w)
        self._require_energy_allowed(flows=flows)

    def _require_energy_allowed(self, *, flows: bool) -> None:
        if self.energy_stop and flows:
            self._energy_stop_told = True
            raise EnergyStopped(self.energy_stop)

    def _tell_energy_stop(self) -> None:
        """Raise EnergyStopped the first time only: stopping and unplugging wait for session time, too."""
        if self.energy_stop and not self._energy_stop_told:
            self._energy_stop_told = True
            raise EnergyStopped(self.energy_stop)

    def _tripped(self) -> InterlockTripped:
        assert self.trip is not None  # the caller checked
        state = "the safe state is reached" if self.trip.safe_state_confirmed else "the safe state is NOT confirmed"
        return InterlockTripped(f"{self.trip.finding.sentence}; {state}")

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # Reading devices, shared by both clocks

    def _read_charger(self) -> ChargerReadings:
        try:
            return self._devices.charger.read()
        except LinkTimeout as error:
            self._charge_timeout(error)
        except LinkError:
            pass  # one retry is safe for reads
        return self._devices.charger.read()

    @abstractmethod
    def _charge_timeout(self, error: LinkTimeout) -> None:
        """Charge the real time that a silent device took to session time."""

    @abstractmethod
    def _hand_in(self, request: _Request) -> None: ...

    @abstractmethod
    def _pass_one_cycle(self) -> None: ...


class SteppedCycle(Cycle):
    """Runs cycles on the caller's thread and moves the clock itself."""

    def __init__(
        self,
        devices: DeviceSet,
        guard: Guard,
        recorder: RunWriter,
        clock: SteppedClock,
        *,
        cycle_s: float,
        power_range_w: tuple[float, float],
        step_twins: Callable[[float], None],
        drain_events: Callable[[], Sequence[Event]] = tuple,
    ) -> None:
        """`step_twins` advances the twins by seconds and returns when all they caused on the wire is answered."""
        super().__init__(
            devices,
            guard,
            recorder,
            clock,
            cycle_s=cycle_s,
            power_range_w=power_range_w,
            drain_events=drain_events,
        )
        self._stepped_clock = clock
        self._step_twins = step_twins
        self._due_s = {"charger": 0.0, "vehicle": 0.0, "power_meter": 0.0}
        self._vehicle_polls = 0

    def wait(self, seconds: float) -> None:
        """Run cycles for `seconds` of session time, at least one."""
        end_s = self.now_s + seconds - 1e-9
        while True:
            self._pass_one_cycle()
            if self.trip is not None:
                raise self._tripped()
            self._tell_energy_stop()
            if self.now_s >= end_s:
                return

    def _pass_one_cycle(self) -> None:
        self._one_cycle(self._measure, self._advance)

    def _hand_in(self, request: _Request) -> None:
        if self.trip is not None:
            raise self._tripped()
        self._requests.append(request)
        self._pass_one_cycle()
        if request.error is not None:
            raise request.error
        if self.trip is not None:
            raise self._tripped()

    def _advance(self, seconds: float = 0.0) -> None:
        seconds = seconds or self._cycle_s
        self._stepped_clock.advance(seconds)
        self._step_twins(seconds)

    def _charge_timeout(self, error: LinkTimeout) -> None:
        if error.waited_s:
            self._advance(error.waited_s)

    def _measure(self) -> list[Reading]:
        readings: list[Reading] = []
        now_s = self._clock.mono_s + 1e-9
        devices, due_s, spent_s = self._devices, self._due_s, self.time_by_device_s
        started_s = time.perf_counter()
        if now_s >= due_s["charger"]:
            due_s["charger"] = now_s + devices.charger_poll_s - 1e-6
            try:
                self.snapshot.charger = self._read_charger()
                readings += self.snapshot.charger.readings()
            except DeviceCallError as error:
                if isinstance(error, LinkTimeout):
                    self._charge_timeout(error)
                self._take_up(self._charger_lost(error), started_s)
        ended_s = time.perf_counter()
        spent_s["charger"] += ended_s - started_s
        if devices.meter is not None and now_s >= due_s["power_meter"]:
            due_s["power_meter"] = now_s + devices.meter_poll_s - 1e-6
            try:
                self.snapshot.meter = devices.meter.read()
                readings += self.snapshot.meter.readings()
            except DeviceCallError as error:
                self._say_lost(devices.meter_name, error)
            started_s, ended_s = ended_s, time.perf_counter()
            spent_s["power_meter"] += ended_s - started_s
        if devices.vehicle is not None and now_s >= due_s["vehicle"]:
            due_s["vehicle"] = now_s + devices.vehicle_poll_s - 1e-6
            try:
                full = self._vehicle_polls % self._guard.full_reading_every == 0
                self.snapshot.vehicle = devices.vehicle.read_all() if full else devices.vehicle.read()
                if full:
                    self.last_full_vehicle = self.snapshot.vehicle
                self._vehicle_polls += 1
                readings += self.snapshot.vehicle.readings()
            except DeviceCallError as error:
                self._say_lost(devices.vehicle_name, error)
            spent_s["vehicle"] += time.perf_counter() - ended_s
        return readings

    def _say_lost(self, device: str, error: DeviceCallError) -> None:
        self.note("device_silent", {"sentence": str(error)}, source=device)
        if isinstance(error, LinkTimeout):
            self._charge_timeout(error)


class _Poller:
    """Reads one device at its own rate in a thread; keeps the latest reading and the latest failure."""

    def __init__(
        self, name: str, read: Callable[[], ChargerReadings | VehicleReadings | PowerMeterReadings], poll_s: float
    ) -> None:
        self._read = read
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._latest: ChargerReadings | VehicleReadings | PowerMeterReadings | None = None
        self._failure: DeviceCallError | None = None
        self._thread = threading.Thread(target=self._run, name=f"poller-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stop.set()
        self._thread.join(timeout_s)

    def take(self) -> tuple[ChargerReadings | VehicleReadings | PowerMeterReadings | None, DeviceCallError | None]:
        """The newest reading and failure since the last call, None for nothing new."""
        with self._lock:
            latest, failure = self._latest, self._failure
            self._latest = self._failure = None
            return latest, failure

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._stop.is_set():
            try:
                latest = self._read()
                with self._lock:
                    self._latest = latest
            except DeviceCallError as error:
                with self._lock:
                    self._failure = error
            except NotOpenError:
                return
            next_s = max(next_s + self._poll_s, time.monotonic())
            self._stop.wait(max(0.0, next_s - time.monotonic()))


class WallCycle(Cycle):
    """Runs a cycle every `cycle_s` in a thread of its own; a context manager."""

    def __init__(
        self,
        devices: DeviceSet,
        guard: Guard,
        recorder: RunWriter,
        clock: SessionClock,
        *,
        cycle_s: float,
        power_range_w: tuple[float, float],
        drain_events: Callable[[], Sequence[Event]] = tuple,
    ) -> None:
        super().__init__(
            devices,
            guard,
            recorder,
            clock,
            cycle_s=cycle_s,
            power_range_w=power_range_w,
            drain_events=drain_events,
        )
        self._charger_lock = threading.RLock()
        self._vehicle_polls = 0
        self._stop = threading.Event()
        self._ticked = threading.Condition()
        self._failure: BaseException | None = None
        self._charger_failures = 0
        self._pollers = {"charger": _Poller("charger", self._poll_charger, devices.charger_poll_s)}
        if devices.meter is not None:
            self._pollers["power_meter"] = _Poller("power-meter", devices.meter.read, devices.meter_poll_s)
        if devices.vehicle is not None:
            self._pollers["vehicle"] = _Poller("vehicle", self._poll_vehicle, devices.vehicle_poll_s)
        self._thread = threading.Thread(target=self._run, name="cycle", daemon=True)

    def __enter__(self) -> Self:
        for poller in self._pollers.values():
            poller.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the cycle thread and the pollers; the rack has reached the safe state before."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        for poller in self._pollers.values():
            poller.stop(5.0)

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass; InterlockTripped at once when a limit trips meanwhile."""
        end_s = self.now_s + seconds
        while True:
            self._raise_if_over()
            self._tell_energy_stop()
            left_s = end_s - self.now_s
            if left_s <= 0.0:
                return
            with self._ticked:
                self._ticked.wait(min(left_s, 1.0))

    def _run(self) -> None:
        next_s = time.monotonic()
        try:
            while not self._stop.is_set():
                self._one_cycle(self._measure, lambda: None)
                with self._ticked:
                    self._ticked.notify_all()
                next_s = max(next_s + self._cycle_s, time.monotonic())
                self._stop.wait(max(0.0, next_s - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  # a dead cycle is noticed by the plan's next call
            self._failure = error
            self._safe_state()
        finally:
            with self._ticked:
                self._ticked.notify_all()

    def _hand_in(self, request: _Request) -> None:
        self._raise_if_over()
        with self._mailbox:
            self._requests.append(request)
        end_s = time.monotonic() + _COMMAND_TIMEOUT_S
        while not request.done.wait(0.2):
            self._raise_if_over()
            if time.monotonic() > end_s:
                raise BenchError(f"the cycle did not take up '{request.what}' within {_COMMAND_TIMEOUT_S:g} s")
        if request.error is not None:
            raise request.error
        self._raise_if_over()

    def settle(self, timeout_s: float, *, silent_s: float | None = None) -> None:
        """As above; when the cycle itself has died, the safe state is asked for once more, and nothing is recorded."""
        if self._failure is None and self._thread.is_alive():
            super().settle(timeout_s, silent_s=silent_s)
        else:
            self._safe_state()

    def _pass_one_cycle(self) -> None:
        with self._ticked:
            self._ticked.wait(2.0 * self._cycle_s)

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise BenchError(f"the cycle stopped: {self._failure}") from self._failure
        if self.trip is not None:
            raise self._tripped()
        if not self._thread.is_alive():
            raise NotOpenError("the rack is closed; open it with 'with Rack.open(...)'")

    def _charge_timeout(self, error: LinkTimeout) -> None:
        """Do nothing: on the wall clock the time has passed already."""

    def _poll_charger(self) -> ChargerReadings:
        with self._charger_lock:
            return self._devices.charger.read()

    def _poll_vehicle(self) -> VehicleReadings:
        vehicle = self._devices.vehicle
        assert vehicle is not None  # there is a poller only with a vehicle
        full = self._vehicle_polls % self._guard.full_reading_every == 0
        readings = vehicle.read_all() if full else vehicle.read()
        if full:
            self.last_full_vehicle = readings
        self._vehicle_polls += 1
        return readings

    def _act(self) -> None:
        with self._charger_lock:
            super()._act()

    def _safe_state(self) -> bool:
        with self._charger_lock:
            return super()._safe_state()

    def _measure(self) -> list[Reading]:
        readings: list[Reading] = []
        for role, poller in self._pollers.items():
            latest, failure = poller.take()
            if isinstance(latest, ChargerReadings):
                self.snapshot.charger = latest
                self._charger_failures = 0
            elif isinstance(latest, VehicleReadings):
                self.snapshot.vehicle = latest
            elif isinstance(latest, PowerMeterReadings):
                self.snapshot.meter = latest
            if latest is not None:
                readings += latest.readings()
            if failure is not None:
                self.note("device_silent", {"sentence": str(failure)}, source=failure.device)
                if role == "charger":
                    self._charger_failures += 1
                    if self._charger_failures > 1:
                        self._take_up(self._charger_lost(failure), time.perf_counter())
        return readings
