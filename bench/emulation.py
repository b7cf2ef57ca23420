"""The emulated part of a station: twins built and wired from the station file, each face on a free loopback port.

`EmulatedSite` is opened by the rack; `address(twin, face)` tells a driver where a face listens, in the words of a
station file, so that a driver cannot tell a twin from a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from bench.operator import Act, ActDone, Means
from bench.station import Station
from bench.station.address import TwinAddress
from bench.station.model import (
    AnalyzerTwin,
    ChargerDevice,
    CurrentErrors,
    GridTwin,
    PlantedFault,
    PowerErrors,
    TwinPart,
    VehicleTwin,
)
from bench.station.model import ChargerTwin as ChargerTwinPart
from drivers.charger.profile import load_profile
from drivers.clock import SessionClock
from drivers.errors import ConfigError, NotOpenError
from drivers.service_loop import ServiceLoop
from twins.charger.charger import POWER_ACCURACY as CHARGER_POWER_ACCURACY
from twins.charger.charger import ChargerTwin
from twins.faces.can import CanFace
from twins.faces.elm327 import Elm327Face
from twins.faces.modbus import ModbusFace
from twins.faces.ocpp import ChargePointFace
from twins.faces.yokogawa_wt import YokogawaFace
from twins.grid import LowVoltageGrid
from twins.instrument.power_analyzer import AC_POWER_ACCURACY, DC_POWER_ACCURACY, PowerAnalyzer
from twins.measurement import Accuracy, Fault, generator
from twins.pack.bms import CURRENT_ACCURACY
from twins.pack.parameters import resolve_pack
from twins.site import Site
from twins.vehicle.van import Van

_Part = TypeVar("_Part", bound=TwinPart)


class Face(Protocol):
    """What the rack needs of a wire face."""

    @property
    def address(self) -> str:
        """Where it listens, in the words of a station file."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EmulatedSite:
    """The twins of one station, electrically coupled, with the faces that its devices ask for; a context manager."""

    def __init__(
        self,
        station: Station,
        loop: ServiceLoop,
        clock: SessionClock,
        *,
        csms_url: str | None = None,
        csms_password: str | None = None,
    ) -> None:
        """`csms_url` is where the charge point dials in, without its id; None for no OCPP."""
        self._station = station
        self._loop = loop
        self._csms_url = csms_url
        self._csms_password = csms_password
        # With no Modbus controller the charging profile is the set-point; beside one it only bounds it.
        self._profile_commands = station.devices[station.charger_name].driver == "ocpp"
        self._stack = ExitStack()
        self._faces: dict[tuple[str, str], Face] = {}
        charger_name, charger_part = _only(station, ChargerTwinPart)
        van_name, van_part = charger_part.vehicle, _named(station, charger_part.vehicle, VehicleTwin)
        grid_part = _named(station, charger_part.grid, GridTwin)
        seed = station.seed or 0
        self.van_name, self.charger_name = van_name, charger_name
        self.van = Van(
            van_name,
            generator(seed, van_name),
            current_accuracy=_current_accuracy(van_part.errors),
            fault=_fault(van_part.fault),
            pack=None if van_part.pack is None else resolve_pack(van_part.pack, station.folder),
            **_arguments(van_part),
        )
        self.charger = ChargerTwin(
            charger_name,
            generator(seed, charger_name),
            van=self.van,
            power_accuracy=_power_accuracy(charger_part.errors, CHARGER_POWER_ACCURACY),
            fault=_fault(charger_part.fault),
            **_arguments(charger_part),
        )
        grid = LowVoltageGrid(charger_part.grid, generator(seed, charger_part.grid), **_arguments(grid_part))
        self.site = Site(clock, grid, self.charger)
        self._analyzers: dict[str, PowerAnalyzer] = {}
        for name, part in station.twins.items():
            if isinstance(part, AnalyzerTwin):
                analyzer = PowerAnalyzer(
                    name,
                    self.charger,
                    generator(seed, name),
                    ac_power_accuracy=_power_accuracy(part.errors, AC_POWER_ACCURACY),
                    dc_power_accuracy=_power_accuracy(part.errors, DC_POWER_ACCURACY),
                    fault=_fault(part.fault),
                )
                self._analyzers[name] = analyzer
                self.site.observers.append(analyzer)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for device in self._station.devices.values():
                address = device.address
                if isinstance(address, TwinAddress) and address.face != "ocpp":
                    profile = device.profile if isinstance(device, ChargerDevice) else None
                    face = self._make_face(address, profile or "sunspec_der")
                    self._faces[address.twin, address.face] = stack.enter_context(face)
            if self._csms_url is not None:
                for identity in self._station.charge_points():
                    stack.enter_context(
                        ChargePointFace(
                            self.charger,
                            self.site,
                            self._loop,
                            url=self._csms_url,
                            identity=identity,
                            password=self._csms_password,
                            stepped=self._station.clock == "stepped",
                            profile_commands=self._profile_commands,
                        )
                    )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def analyzers(self) -> Mapping[str, PowerAnalyzer]:
        """The power analyzers by name."""
        return self._analyzers

    def address(self, twin: str, face: str) -> str:
        """Where a face listens; NotOpenError while it does not."""
        try:
            return self._faces[twin, face].address
        except KeyError:
            raise NotOpenError(f"face {face!r} of twin {twin!r} is not open; open the rack first") from None

    def close_face(self, twin: str, face: str) -> None:
        """Take one face off the wire, as a pulled cable does; the twin itself goes on."""
        try:
            found = self._faces.pop((twin, face))
        except KeyError:
            raise NotOpenError(f"face {face!r} of twin {twin!r} is not open") from None
        found.__exit__(None, None, None)

    def _make_face(self, address: TwinAddress, profile: str) -> Face:
        site, loop = self.site, self._loop
        makers: Mapping[str, Callable[[], Face]] = {
            "modbus": lambda: ModbusFace(self.charger, load_profile(profile), site.lock, loop),
            "elm327": lambda: Elm327Face(self.van, site.lock, loop),
            "can": lambda: CanFace(self.van, site.lock, channel=f"{self._station.name}-{id(self):x}"),
            "scpi": lambda: YokogawaFace(self._analyzers[address.twin], site.lock, loop),
        }
        return makers[address.face]()


class SiteOperator:
    """The operator of an emulated station: the site itself, which always says yes."""

    def __init__(self, emulated: EmulatedSite, clock: SessionClock) -> None:
        self._emulated = emulated
        self._clock = clock

    def energise(self, what: str) -> ActDone:
        """Say yes: there is nothing to energise."""
        del what
        return self._done(Act.ENERGISE)

    def plug_in(self) -> ActDone:
        """Put the cable into the van."""
        with self._emulated.site.lock:
            self._emulated.charger.plug_in()
        return self._done(Act.PLUG_IN)

    def unplug(self) -> ActDone:
        """Take the cable out."""
        with self._emulated.site.lock:
            self._emulated.charger.unplug()
        return self._done(Act.UNPLUG)

    def turn_key(self, *, on: bool) -> ActDone:
        """Do nothing: the parked van of this twin answers with the key off, too."""
        return self._done(Act.TURN_KEY_ON if on else Act.TURN_KEY_OFF)

    def _done(self, act: Act) -> ActDone:
        return ActDone(act=act, by="site", means=Means.SITE, utc_s=self._clock.utc_s)


def _only(station: Station, kind: type[_Part]) -> tuple[str, _Part]:
    """The one twin of a kind that this release couples in a site."""
    found = [(name, part) for name, part in station.twins.items() if isinstance(part, kind)]
    if len(found) != 1:
        raise ConfigError(f"{station.path}: a site couples one charger twin with one van, but there are {len(found)}")
    return found[0]


def _named(station: Station, name: str, kind: type[_Part]) -> _Part:
    part = station.twins[name]
    if not isinstance(part, kind):
        raise ConfigError(f"{station.path}: twin {name!r} is {part.kind}; the charger needs another kind there")
    return part


def _arguments(part: TwinPart) -> dict[str, Any]:
    """Parameters of a station file as a twin's keyword arguments: validated there, each of its own type."""
    return dict(part.parameters())


def _fault(planted: PlantedFault | None) -> Fault | None:
    return None if planted is None else Fault(**planted.model_dump())


def _power_accuracy(errors: PowerErrors | None, base: Accuracy) -> Accuracy:
    if errors is None:
        return base
    changes = {
        "gain_percent": errors.gain_percent,
        "offset": errors.offset_w,
        "noise": errors.noise_w,
        "resolution": errors.resolution_w,
    }
    return replace(base, **{name: value for name, value in changes.items() if value is not None})


def _current_accuracy(errors: CurrentErrors | None) -> Accuracy:
    if errors is None:
        return CURRENT_ACCURACY
    changes = {
        "gain_percent": errors.gain_percent,
        "offset": errors.offset_a,
        "noise": errors.noise_a,
        "resolution": errors.resolution_a,
    }
    return replace(CURRENT_ACCURACY, **{name: value for name, value in changes.items() if value is not None})
