"""An opened station: twins started, devices connected, watchdogs armed and read back, the cycle running.

    with Rack.open(load_station("stations/emulated.yaml"), plan="look") as rack:
        print(rack.cycle.snapshot)

Every way out (the end of the block, an exception, Ctrl-C) goes through the charger's safe state, and the recorder is
closed last, so that the way out is recorded too. While a stepped rack is open, the bench thread and the twins' thread
share one processor: they never run at once, and waking the other processor costs more than the exchange itself.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

from bench.cycle import Cycle, DeviceSet, SteppedCycle, WallCycle
from bench.devices import config_type, device_config, find_driver
from bench.emulation import EmulatedSite, SiteOperator
from bench.operator import ActDone, Operator
from bench.safety import Guard
from bench.station import Station
from drivers.charger.ocpp import OcppCharger, OcppChargerConfig
from drivers.clock import SessionClock, WallClock
from drivers.errors import BenchError, ConfigError, DeviceCallError, NotOpenError
from drivers.ocpp.link import ChargePointLink
from drivers.roles import Charger, Nameplate, PowerMeter, Vehicle, VehicleReadings, WatchdogKind
from drivers.service_loop import ServiceLoop
from ledgers.canonical import Json
from reports.run import Event, RunWriter
from services.csms.central_system import CentralSystem
from twins.clock import SteppedClock
from twins.runner import SiteRunner

_T = TypeVar("_T")
_D = TypeVar("_D", Charger, Vehicle, PowerMeter)

_NOT_ENDED = ("aborted", "the rack was closed before the session ended")
_QUIET_TIMEOUT_S = 10.0  # real time for everything that a step caused on the wire
_CONFIGURATION_TIMEOUT_S = 10.0
_PING_INTERVAL_S = 20.0
_RAMP_DOWN_S = 5.0  # from full power to nothing, once a charger's watchdog acts
_SETTLE_S = 30.0  # session time for the charger to come down to 0 W on the way out


class Rack:
    """One opened station; make it with `open`, use it as a context manager."""

    def __init__(
        self,
        station: Station,
        *,
        plan: str,
        runs: Path,
        operator: Operator | None,
        energise: ActDone | None,
    ) -> None:
        self.station = station
        self.clock: SessionClock = SteppedClock(station.start_utc_s) if station.clock == "stepped" else WallClock()
        self.nameplates: dict[str, Nameplate] = {}
        self.watchdog_armed_s: float | None = None
        self._plan = plan
        self._runs = runs
        self._given_operator = operator
        self._energise = energise
        self._stack = ExitStack()
        self._cycle: Cycle | None = None
        self._operator: Operator | None = None
        self._recorder: RunWriter | None = None
        self._devices: DeviceSet | None = None
        self._loop: ServiceLoop | None = None
        self._csms: CentralSystem | None = None
        self._emulated: EmulatedSite | None = None
        self._site_runner: SiteRunner | None = None
        self._outcome = _NOT_ENDED

    @classmethod
    def open(
        cls,
        station: Station,
        *,
        plan: str,
        runs: Path | None = None,
        operator: Operator | None = None,
        energise: ActDone | None = None,
    ) -> Rack:
        """Prepare a rack; nothing is opened before the `with` block.

        `energise` is the operator's word that real power may flow; without it a station with a metal device asks
        `operator`, and ConfigError when there is none.
        """
        return cls(station, plan=plan, runs=runs or station.runs_folder, operator=operator, energise=energise)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._permit()
            self._recorder = self._open_recorder()
            stack.push(self._close_recorder)
            self._loop = stack.enter_context(ServiceLoop())
            self._csms = self._open_csms(stack)
            if self.station.twins:
                self._emulated = stack.enter_context(self._emulate())
            self._devices = self._open_devices(stack)
            if self._emulated is not None and self.station.clock == "wall":
                self._site_runner = stack.enter_context(SiteRunner(self._emulated.site))
            if self._given_operator is not None:
                self._operator = self._given_operator
            elif self._emulated is not None:
                self._operator = SiteOperator(self._emulated, self.clock)
            self._pin(stack)
            self._spare_the_collector(stack)
            self._ask_for_meter_values()
            self._arm_watchdog()
            self._cycle = self._start_cycle(stack)
            stack.push(self._settle)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_note_of(error)
        stack, self._stack = self._stack, ExitStack()
        stack.__exit__(kind, error, trace)

    @property
    def cycle(self) -> Cycle:
        """The running cycle."""
        return _opened(self._cycle)

    @property
    def operator(self) -> Operator:
        """Whoever plugs in and out."""
        if self._operator is None:
            raise ConfigError("nobody is there to plug the vehicle in; run from a terminal or give an answer file")
        return self._operator

    @property
    def recorder(self) -> RunWriter:
        """The run folder's writer."""
        return _opened(self._recorder)

    @property
    def run_folder(self) -> Path:
        """Where this run is recorded; stays valid after closing."""
        return _opened(self._recorder).folder

    @property
    def devices(self) -> DeviceSet:
        """The opened devices by role."""
        return _opened(self._devices)

    @property
    def last_full_vehicle(self) -> VehicleReadings | None:
        """The newest reading of everything that the vehicle answers."""
        return self.cycle.last_full_vehicle

    @property
    def silent_settle_s(self) -> float:
        """Session time after which a charger that does not answer is down by its own watchdog and ramp."""
        return (self.watchdog_armed_s or 0.0) + _RAMP_DOWN_S

    @property
    def csms(self) -> CentralSystem | None:
        """The OCPP central system, None when the station has none."""
        return self._csms

    @property
    def emulated(self) -> EmulatedSite | None:
        """The twins, None on an all-metal station."""
        return self._emulated

    def conclude(self, verdict: str, reason: str = "") -> None:
        """Say how the session ended; it is written when the rack closes."""
        self._outcome = (verdict, reason)

    # Opening

    def _permit(self) -> None:
        if not self.station.any_metal or self._energise is not None:
            return
        what = ", ".join(self.station.metal)
        verb = "is" if len(self.station.metal) == 1 else "are"
        if self._given_operator is None:
            raise ConfigError(
                f"{self.station.path}: {what} {verb} metal, and real power needs somebody's word; "
                "say --energise, or run from a terminal and answer the question"
            )
        self._energise = self._given_operator.energise(what)

    def _open_recorder(self) -> RunWriter:
        station = self.station
        manifest: dict[str, Json] = {
            "station_file_sha256": station.sha256,
            "material": "measured" if not station.twins else "emulated",
            "metal": list(station.metal),
            "cycle_s": station.cycle_s,
            "seed": station.seed,
            "versions": _versions(),
            "git_commit": _git_commit(),
            "limits": {name: limit.model_dump() for name, limit in station.limits.given().items()},
            "energised_by": self._energise.by if self._energise is not None else None,
        }
        return RunWriter.create(
            self._runs,
            plan=self._plan,
            station=station.name,
            stepped=station.clock == "stepped",
            manifest=manifest,
            now_s=lambda: self.clock.mono_s,
        )

    def _open_csms(self, stack: ExitStack) -> CentralSystem | None:
        part = self.station.csms
        if part is None:
            return None
        assert self._loop is not None  # opened just before
        password = self.station.reveal(part.password) if part.password is not None else None
        return stack.enter_context(
            CentralSystem(
                self._loop,
                host=part.host,
                port=part.port,
                clock=self.clock,
                heartbeat_interval_s=part.heartbeat_s,
                passwords=dict.fromkeys(self._charge_point_ids(), password) if password is not None else None,
                stepped=self.station.clock == "stepped",
                ping_interval_s=None if self.station.clock == "stepped" else _PING_INTERVAL_S,
                trace_of=lambda identity: self.recorder.wire_trace(f"ocpp-{identity}"),
            )
        )

    def _emulate(self) -> EmulatedSite:
        assert self._loop is not None  # opened before
        part = self.station.csms
        return EmulatedSite(
            self.station,
            self._loop,
            self.clock,
            csms_url=self._csms.url if self._csms is not None else None,
            csms_password=self.station.reveal(part.password)
            if part is not None and part.password is not None
            else None,
        )

    def _open_devices(self, stack: ExitStack) -> DeviceSet:
        station = self.station
        charger_name = station.charger_name
        charger = self._enter(stack, charger_name, cast("Charger", self._make_driver(charger_name)))
        vehicle_name, meter_name = station.device_of("vehicle"), station.device_of("power_meter")
        vehicle = None
        if vehicle_name is not None:
            vehicle = self._enter(stack, vehicle_name, cast("Vehicle", self._make_driver(vehicle_name)))
        meter = None
        if meter_name is not None:
            meter = self._enter(stack, meter_name, cast("PowerMeter", self._make_driver(meter_name)))
            meter.configure()
            meter.start_integration()
        devices = DeviceSet(
            charger_name=charger_name,
            charger=charger,
            charger_poll_s=station.poll_s(charger_name),
            vehicle_name=vehicle_name or "",
            vehicle=vehicle,
            vehicle_poll_s=station.poll_s(vehicle_name) if vehicle_name else 10.0,
            meter_name=meter_name or "",
            meter=meter,
            meter_poll_s=station.poll_s(meter_name) if meter_name else 1.0,
        )
        for name, device in ((charger_name, charger), (vehicle_name, vehicle), (meter_name, meter)):
            if name is not None and device is not None:
                self.nameplates[name] = device.identify()
                self._say("identified", name, cast("Mapping[str, Json]", asdict(self.nameplates[name])))
        return devices

    def _enter(self, stack: ExitStack, name: str, device: _D) -> _D:
        """Open a device; one that is lost by the end is told in the record, and does not take the session with it."""

        def leave(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            try:
                device.__exit__(kind, error, trace)
            except DeviceCallError as problem:
                self._say("device_not_closed", name, {"sentence": str(problem)})

        opened = device.__enter__()
        stack.push(leave)
        return opened

    def _make_driver(self, name: str) -> object:
        part = self.station.devices[name]
        driver = find_driver(part.role, part.driver)
        config = device_config(self.station, name, config_type(driver), self._face_address)
        if isinstance(config, OcppChargerConfig):
            return OcppCharger(config, self._charge_point_link(name), self.clock, device=name)
        return driver(config, self.clock, device=name, trace=self.recorder.wire_trace(name))

    def _face_address(self, twin: str, face: str) -> str:
        if face == "ocpp":
            return "ocpp:" + next(point for point, of in self.station.charge_points().items() if of == twin)
        return _opened(self._emulated).address(twin, face)

    def _charge_point_link(self, device: str) -> ChargePointLink:
        identity = self.station.charge_point_of(device)
        if self._csms is None or identity is None:
            raise ConfigError(f"{self.station.path}: charger {device!r} speaks OCPP, but the station has no csms part")
        return self._csms.link(identity)

    def _ask_for_meter_values(self) -> None:
        """Have the charge points that are there send MeterValues as often as the station file says."""
        part = self.station.csms
        if self._csms is None or part is None:
            return
        for identity in self._csms.identities():
            answer = self._csms.link(identity).call(
                "ChangeConfiguration",
                {"key": "MeterValueSampleInterval", "value": str(part.meter_values_s)},
                _CONFIGURATION_TIMEOUT_S,
            )
            self._say("meter_values_interval", f"csms.{identity}", {"seconds": part.meter_values_s, **answer})

    def _charge_point_ids(self) -> list[str]:
        of_devices = (self.station.charge_point_of(name) for name in self.station.devices)
        return sorted({*self.station.charge_points(), *(identity for identity in of_devices if identity is not None)})

    def _arm_watchdog(self) -> None:
        devices = self.devices
        wanted_s = self.station.watchdog_s(devices.charger_name)
        kind = devices.charger.capabilities().watchdog
        if wanted_s is None:
            self._say("watchdog_none", devices.charger_name, {"capability": kind.value})
            return
        if kind is WatchdogKind.NONE:
            raise ConfigError(
                f"{self.station.path}: charger {devices.charger_name!r} has no watchdog of its own, so nobody "
                "brings it to 0 W when the bench dies; say 'watchdog: none' in the station file if that is acceptable"
            )
        armed_s = devices.charger.arm_watchdog(wanted_s)
        if not wanted_s - 1.0 <= armed_s <= wanted_s + 1.0:
            raise ConfigError(
                f"charger {devices.charger_name!r} was asked for a watchdog of {wanted_s:g} s and reads back "
                f"{armed_s:g} s; choose a value that it takes"
            )
        self.watchdog_armed_s = armed_s
        self._say("watchdog_armed", devices.charger_name, {"timeout_s": armed_s, "kind": kind.value})

    def _start_cycle(self, stack: ExitStack) -> Cycle:
        station, devices = self.station, self.devices
        limits = station.limits
        guard = Guard(
            limits,
            poll_s={
                "charger": devices.charger_poll_s,
                "vehicle": devices.vehicle_poll_s,
                "power_meter": devices.meter_poll_s,
            },
            cycle_s=station.cycle_s,
            now_s=self.clock.mono_s,
        )
        self.guard = guard
        power_range_w = (limits.power_w.min, limits.power_w.max)
        if isinstance(self.clock, SteppedClock):
            return SteppedCycle(
                devices,
                guard,
                self.recorder,
                self.clock,
                cycle_s=station.cycle_s,
                power_range_w=power_range_w,
                step_twins=self._step_twins,
                drain_events=self._drain_events,
            )
        return stack.enter_context(
            WallCycle(
                devices,
                guard,
                self.recorder,
                self.clock,
                cycle_s=station.cycle_s,
                power_range_w=power_range_w,
                drain_events=self._drain_events,
            )
        )

    def _pin(self, stack: ExitStack) -> None:
        """Put the bench thread and the twins' thread on one processor while time is stepped."""
        if self.station.clock != "stepped" or not hasattr(os, "sched_setaffinity"):
            return
        threads = [threading.get_native_id(), _opened(self._loop).thread_id]
        before = {thread: os.sched_getaffinity(thread) for thread in threads}
        # Runs beside each other should not all pick the same one.
        processors = sorted(before[threads[0]])
        processor = processors[os.getpid() % len(processors)]
        for thread in threads:
            os.sched_setaffinity(thread, {processor})
        # The loop's thread is gone by the time this runs; only the caller's thread goes on.
        stack.callback(os.sched_setaffinity, threads[0], before[threads[0]])

    def _spare_the_collector(self, stack: ExitStack) -> None:
        """While time is stepped, keep Python's garbage collector from going through what was there before, every time.

        Modules, tables and twins are some hundred thousand objects that stay; looking at them again and again takes up
        to a twentieth of a session. Racks beside each other share this: the first one that closes ends it for all.
        """
        if self.station.clock == "stepped":
            gc.freeze()
            stack.callback(gc.unfreeze)

    # Running

    def _step_twins(self, seconds: float) -> None:
        if self._emulated is not None:
            self._emulated.site.step(seconds)
        loop = _opened(self._loop)
        loop.activity.wait_quiet(_QUIET_TIMEOUT_S)
        loop.raise_failures()

    def _drain_events(self) -> Sequence[Event]:
        if self._site_runner is not None:
            self._site_runner.raise_failure()
            _opened(self._loop).raise_failures()
        if self._csms is None:
            return ()
        return [
            Event(event.mono_s, event.utc_s, f"csms.{event.charge_point}", event.kind, json.loads(event.content))
            for event in self._csms.drain_events()
        ]

    def _say(self, kind: str, source: str, content: Mapping[str, Json]) -> None:
        self.recorder.record_event(Event(self.clock.mono_s, self.clock.utc_s, source, kind, content))

    # Closing

    def _settle(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reach the safe state and record until the power is gone; an error here must not hide the first one."""
        del kind, trace
        try:
            self.cycle.settle(_SETTLE_S, silent_s=self.silent_settle_s)
        except BenchError as problem:
            if error is None:
                raise
            self._outcome = (self._outcome[0], f"{self._outcome[1]}; on the way out: {problem}")

    def _take_note_of(self, error: BaseException | None) -> None:
        if error is not None and self._outcome == _NOT_ENDED:
            self._outcome = ("aborted", f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _close_recorder(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, trace
        self._take_note_of(error)  # opening may have failed, too
        recorder = _opened(self._recorder)
        recorder.close(verdict=self._outcome[0], reason=self._outcome[1])


def _opened(part: _T | None) -> _T:
    if part is None:
        raise NotOpenError("the rack is closed; open it with 'with Rack.open(station, plan=...) as rack'")
    return part


def _versions() -> dict[str, Json]:
    found: dict[str, Json] = {"python": platform.python_version()}
    for name in ("v2gbench", "pymodbus", "ocpp", "obd", "python-can", "pyvisa", "pyvisa-py", "robotframework"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git_commit() -> str | None:
    """The commit of the checkout that runs, None for an installed package or without git."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(  # noqa: S603  # fixed arguments
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607  # git of the user's PATH
            capture_output=True,
            text=True,
            timeout=5.0,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
