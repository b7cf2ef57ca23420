"""Drivers by the words of a station file: role and driver name find a class, its `config` says which keys it takes.

A driver class is registered as an entry point `v2gbench.<role>`; its first parameter, `config`, is a frozen pydantic
model. The keys of the device in the station file that this model knows are handed to it; the address is first turned
into the one where a face really listens, so that a driver cannot tell a twin from a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, get_type_hints

from pydantic import BaseModel, ValidationError

from bench.station import Station
from bench.station.address import TwinAddress
from drivers.clock import SessionClock
from drivers.errors import ConfigError
from drivers.roles import WireTrace

DeviceKeys = Mapping[str, object]


class DriverClass(Protocol):
    """What the bench needs of a driver class to make one; the type of `config` says which keys it takes."""

    def __call__(self, config: BaseModel, clock: SessionClock, *, device: str, trace: WireTrace) -> object:
        """Make a driver; nothing is opened before its `with` block."""


def driver_words(role: str) -> dict[str, EntryPoint]:
    """The installed drivers of a role, by their word in a station file."""
    return {point.name: point for point in entry_points(group=f"v2gbench.{role}")}


def find_driver(role: str, word: str) -> DriverClass:
    """Load a driver class; ConfigError naming the installed ones when there is none of that word."""
    installed = driver_words(role)
    if word not in installed:
        raise ConfigError(
            f"no driver {word!r} for role {role}; installed are: {', '.join(sorted(installed)) or 'none'}"
        )
    found: DriverClass = installed[word].load()
    return found


def config_type(driver: DriverClass) -> type[BaseModel]:
    """The model of a driver's first parameter, `config`."""
    hints = get_type_hints(driver.__init__)  # type: ignore[misc]  # of the class, not of an instance
    found: type[BaseModel] = hints["config"]
    return found


def device_config(
    station: Station, name: str, config: type[BaseModel], face_address: Callable[[str, str], str]
) -> BaseModel:
    """The configuration of one device, with the address where it can really be reached."""
    part = station.devices[name]
    keys: dict[str, object] = {key: value for key, value in part if value is not None}
    address = part.address
    keys["at"] = face_address(address.twin, address.face) if isinstance(address, TwinAddress) else str(address)
    known = {key: value for key, value in keys.items() if key in config.model_fields}
    try:
        return config.model_validate(known)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{station.path}: devices.{name}.{where}: {first['msg']}; correct it there") from error
