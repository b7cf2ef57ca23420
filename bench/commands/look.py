"""Reading every device of a station once, and changing nothing: `v2gbench station read FILE`.

Whoever wires a bench wants to know that each device answers before anything is armed or energised. So `look` opens one
device after the other, asks who it is, what it can do and how it stands, and closes it again. It arms no watchdog,
commands no power, starts no integration, makes no run folder, and needs nobody's word for real power. A driver whose
normal opening sets something up (items of an analyzer, a vendor key of a charge point) has `read_only` among its
configuration keys, and is opened so. What a driver must tell an adapter or control unit to be answered at all (an
ELM327's header, a diagnostic session) goes with the connection.

A device that does not answer becomes one sentence, and the others are still read. Twins are started for the look and
stepped two seconds, so that an emulated analyzer has an update to show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from typing import cast

from pydantic import BaseModel

from bench.devices import config_type, device_config, find_driver
from bench.emulation import EmulatedSite
from bench.station import Station
from drivers.charger.ocpp import OcppCharger, OcppChargerConfig
from drivers.clock import SessionClock, WallClock
from drivers.errors import BenchError, ConfigError
from drivers.readings import Reading
from drivers.roles import Charger, Nameplate, PowerMeter, Vehicle, no_trace
from drivers.service_loop import ServiceLoop
from ledgers.canonical import Json
from services.csms.central_system import CentralSystem
from twins.clock import SteppedClock

LOOK_SCHEMA = "v2gbench.look/1.0"

_QUIET_TIMEOUT_S = 10.0
_TWIN_STEPS = 2  # of one second: the emulated analyzer's update interval, with one to spare


@dataclass(slots=True)
class DeviceLook:
    """What one device said; `problem` is one sentence, empty when it answered everything."""

    name: str
    role: str
    driver: str
    at: str
    metal: bool
    nameplate: Nameplate | None = None
    capabilities: Mapping[str, Json] = field(default_factory=dict)
    state: str = ""
    faults: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    problem: str = ""

    def document(self) -> dict[str, Json]:
        """The same for programs; a value that the device did not give is null, its quality says why."""
        readings: dict[str, Json] = {
            reading.source.removeprefix(f"{self.name}."): {
                "value": _number(reading.value),
                "unit": reading.unit,
                "quality": reading.quality.value,
            }
            for reading in self.readings
        }
        return {
            "role": self.role,
            "driver": self.driver,
            "at": self.at,
            "metal": self.metal,
            "answered": not self.problem,
            "problem": self.problem or None,
            "nameplate": None if self.nameplate is None else cast("dict[str, Json]", asdict(self.nameplate)),
            "capabilities": dict(self.capabilities),
            "state": self.state or None,
            "faults": list(self.faults),
            "readings": readings,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        kind = "metal" if self.metal else "twin"
        lines = [f"{self.name}  ({self.role} by {self.driver} at {self.at}, {kind})"]
        if self.nameplate is not None:
            plate = self.nameplate
            parts = [f"{plate.manufacturer} {plate.model}", f"serial {plate.serial}", plate.firmware]
            lines.append("  is  " + ", ".join(part for part in parts if part))
        if self.capabilities:
            lines.append("  can " + ", ".join(f"{name} {_short(value)}" for name, value in self.capabilities.items()))
        if self.state:
            faults = f", faults: {', '.join(self.faults)}" if self.faults else ""
            lines.append(f"  state {self.state}{faults}")
        known = [reading for reading in self.readings if not math.isnan(reading.value)]
        width = max((len(_quantity(reading)) for reading in known), default=0)
        for reading in known:
            unit = "" if reading.unit == "1" else f" {reading.unit}"
            note = "" if reading.is_good else f"  ({reading.quality.value})"
            lines.append(f"  {_quantity(reading):{width}}  {reading.value:>12.6g}{unit}{note}")
        void = [_quantity(reading) for reading in self.readings if math.isnan(reading.value)]
        if void:
            lines.append(f"  gives no {', '.join(void)}")
        if self.problem:
            lines.append(f"  PROBLEM: {self.problem}")
        return lines


@dataclass(frozen=True, slots=True)
class Look:
    """What all devices of a station said."""

    station: str
    devices: tuple[DeviceLook, ...]

    @property
    def complete(self) -> bool:
        """Whether every device answered everything."""
        return all(not device.problem for device in self.devices)

    def document(self) -> dict[str, Json]:
        """The look for programs, ready for JSON."""
        return {
            "schema": LOOK_SCHEMA,
            "station": self.station,
            "complete": self.complete,
            "devices": {device.name: device.document() for device in self.devices},
        }

    def text(self) -> str:
        """The look for people."""
        answered = sum(not device.problem for device in self.devices)
        lines = [line for device in self.devices for line in device.lines()]
        return "\n".join([*lines, f"{answered} of {len(self.devices)} devices answered; nothing was written to any"])


def look(station: Station) -> Look:
    """Open, read and close each device of a station, one after the other, writing to none of them.

    Raises ConfigError only for what concerns the whole station: a central system's port that is taken, a secret that is
    missing, twins that cannot be coupled. What one device refuses is in its `problem`.
    """
    with ExitStack() as stack:
        opened = _Opened(station, stack)
        return Look(station.name, tuple(_look_at(opened, name) for name in station.devices))


class _Opened:
    """What devices need around them: twins that listen, and the central system for those that dial in."""

    def __init__(self, station: Station, stack: ExitStack) -> None:
        self.station = station
        self.csms: CentralSystem | None = None
        self._emulated: EmulatedSite | None = None
        stepped = SteppedClock(station.start_utc_s if station.clock == "stepped" else time.time())
        self.clock: SessionClock = stepped if station.twins else WallClock()
        loop = stack.enter_context(ServiceLoop("look"))
        part = station.csms
        if part is not None and any(device.driver == "ocpp" for device in station.devices.values()):
            password = station.reveal(part.password) if part.password is not None else None
            points = [point for name in station.devices if (point := station.charge_point_of(name)) is not None]
            self.csms = stack.enter_context(
                CentralSystem(
                    loop,
                    host=part.host,
                    port=part.port,
                    clock=self.clock,
                    heartbeat_interval_s=part.heartbeat_s,
                    passwords=dict.fromkeys(points, password) if password is not None else None,
                    stepped=station.clock == "stepped",
                )
            )
        if station.twins:
            password = station.reveal(part.password) if part is not None and part.password is not None else None
            self._emulated = stack.enter_context(
                EmulatedSite(
                    station,
                    loop,
                    self.clock,
                    csms_url=self.csms.url if self.csms is not None else None,
                    csms_password=password,
                )
            )
            for _ in range(_TWIN_STEPS):
                stepped.advance(1.0)
                self._emulated.site.step(1.0)
                loop.activity.wait_quiet(_QUIET_TIMEOUT_S)

    def face_address(self, twin: str, face: str) -> str:
        """Where a face listens, or the id under which it dials in."""
        if face == "ocpp":
            return "ocpp:" + next(point for point, of in self.station.charge_points().items() if of == twin)
        assert self._emulated is not None  # a station without twins has no twin address
        return self._emulated.address(twin, face)


def _look_at(opened: _Opened, name: str) -> DeviceLook:
    station = opened.station
    part = station.devices[name]
    seen = DeviceLook(name, part.role, part.driver, str(part.address), name in station.metal)
    try:
        driver, read_only = _make_driver(opened, name)
        with cast("AbstractContextManager[object]", driver):
            _READERS[part.role](driver, seen, read_only)
    except BenchError as error:
        seen.problem = str(error)
    except OSError as error:
        seen.problem = f"{name}: the link failed ({error}); check address, cable and power"
    return seen


def _make_driver(opened: _Opened, name: str) -> tuple[object, bool]:
    """A driver of the device, and whether it was told to set nothing."""
    part = opened.station.devices[name]
    driver = find_driver(part.role, part.driver)
    config: BaseModel = device_config(opened.station, name, config_type(driver), opened.face_address)
    read_only = "read_only" in type(config).model_fields
    if read_only:
        config = config.model_copy(update={"read_only": True})
    if isinstance(config, OcppChargerConfig):
        identity = opened.station.charge_point_of(name)
        if opened.csms is None or identity is None:
            raise ConfigError(
                f"{opened.station.path}: charger {name!r} speaks OCPP, but the station has no csms part; add one"
            )
        return OcppCharger(config, opened.csms.link(identity), opened.clock, device=name), read_only
    return driver(config, opened.clock, device=name, trace=no_trace), read_only


def _read_charger(driver: object, seen: DeviceLook, read_only: bool) -> None:
    del read_only
    charger = cast("Charger", driver)
    seen.nameplate = charger.identify()
    seen.capabilities = _capabilities(charger.capabilities())
    readings = charger.read()
    seen.state, seen.faults, seen.readings = readings.state.value, readings.faults, readings.readings()


def _read_vehicle(driver: object, seen: DeviceLook, read_only: bool) -> None:
    del read_only
    vehicle = cast("Vehicle", driver)
    seen.nameplate = vehicle.identify()
    seen.capabilities = _capabilities(vehicle.capabilities())
    seen.readings = vehicle.read_all().readings()


def _read_meter(driver: object, seen: DeviceLook, read_only: bool) -> None:
    meter = cast("PowerMeter", driver)
    seen.nameplate = meter.identify()
    seen.capabilities = _capabilities(meter.capabilities())
    if not read_only:
        raise ConfigError(
            f"{seen.name}: driver {seen.driver} has no read-only mode, so the meter was identified but not read"
        )
    meter.configure()  # read-only: it only learns where the values stand
    seen.readings = meter.read().readings()


_READERS: Mapping[str, Callable[[object, DeviceLook, bool], None]] = {
    "charger": _read_charger,
    "vehicle": _read_vehicle,
    "power_meter": _read_meter,
}


def _capabilities(found: object) -> dict[str, Json]:
    return {name: _plain(value) for name, value in asdict(found).items()}  # type: ignore[call-overload]  # each is a dataclass


def _plain(value: object) -> Json:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str | int | bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short(value: Json) -> str:
    if isinstance(value, list):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quantity(reading: Reading) -> str:
    return reading.source.rpartition(".")[2]
