"""The station file: what is on the bench, emulated or metal, read once and refused whole if anything in it is wrong.

Nothing is opened here. `load_station` reads a file, places every fault at its line, and returns a frozen `Station`;
the rack opens it. `Station.plan` says beforehand what that will be, so that nobody has to find out from a contactor.

>>> from bench.assets import asset
>>> station = load_station(asset("stations/emulated.yaml"))
>>> station.name, station.any_metal, station.devices["charger"].at
('emulated', False, 'twin:charger/modbus')
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from pydantic import PrivateAttr, ValidationError

from bench.station.address import OcppAddress, TwinAddress
from bench.station.checks import charge_points, check, is_metal, resolve_tariff
from bench.station.model import (
    DEFAULT_CHARGER_WATCHDOG_S,
    DEFAULT_START_UTC,
    SCHEMA,
    SCHEMA_MAJOR,
    SCHEMA_NAME,
    ChargerDevice,
    StationModel,
)
from bench.station.plan import PlanLine, make_plan, plan_document, plan_text
from bench.station.secrets import Secret
from drivers.documents.diagnosis import SchemaValue, diagnose, empty_values
from drivers.documents.source import Document, Problem, dotted, raise_problems, read_document, read_file
from drivers.errors import ConfigError

__all__ = [
    "PlanLine",
    "Station",
    "load_station",
    "parse_station",
    "plan_document",
    "plan_text",
    "station_schema",
]

_SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


class Station(StationModel):
    """A station file that was read and found free of contradictions; frozen."""

    _path: Path = PrivateAttr(default=Path("station.yaml"))
    _sha256: str = PrivateAttr(default="")

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder of that file, from which relative paths in it start."""
        return self._path.parent

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, 64 hexadecimal digits."""
        return self._sha256

    @property
    def metal(self) -> tuple[str, ...]:
        """The names of the devices that are real."""
        return tuple(name for name in self.devices if is_metal(self, name))

    @property
    def any_metal(self) -> bool:
        """Whether one device is real: then no key comes from a seed, and power flows only on somebody's word."""
        return bool(self.metal)

    @property
    def start_utc_s(self) -> float:
        """Simulated UTC at the start of a stepped run, seconds since 1970."""
        return (self.start_utc or datetime.fromisoformat(DEFAULT_START_UTC)).timestamp()

    @property
    def tariff_path(self) -> Path:
        """The tariff file; ConfigError when it has gone since the station was read."""
        return resolve_tariff(self.settlement.tariff, self.folder)

    @property
    def keys_folder(self) -> Path | None:
        """Where key files lie; None when keys come from the seed, which only an all-emulated station may do."""
        if self.keys is None:
            return default_keys_folder(self.name) if self.any_metal else None
        if self.keys.kind == "seed":
            return None
        if self.keys.folder is None:
            return default_keys_folder(self.name)
        return self.folder / Path(self.keys.folder).expanduser()

    @property
    def runs_folder(self) -> Path:
        """Where run folders are made."""
        return Path(self.runs).expanduser()

    @property
    def charger_name(self) -> str:
        """The name of the one charger."""
        return next(name for name, device in self.devices.items() if device.role == "charger")

    def device_of(self, role: str) -> str | None:
        """The name of the device with this role; None when the station has none."""
        return next((name for name, device in self.devices.items() if device.role == role), None)

    def poll_s(self, device: str) -> float:
        """Time between two readings of a device, in s; the cycle where the file says nothing."""
        return self.devices[device].poll_s or self.cycle_s

    def watchdog_s(self, device: str) -> float | None:
        """Time-out to arm in a charger's own watchdog, in s; None when the file says 'watchdog: none'.

        A twin gets 10 s where the file says nothing; a metal charger's file has to say.
        """
        found = self.devices[device]
        if not isinstance(found, ChargerDevice):
            raise ConfigError(f"{self._path}: device {device!r} is a {found.role}; only chargers have a watchdog")
        if found.watchdog == "none":
            return None
        return found.watchdog_s or max(DEFAULT_CHARGER_WATCHDOG_S, 2 * self.cycle_s)

    def charge_points(self) -> dict[str, str]:
        """The twins that dial in to the central system: charge point id -> name of the charger twin."""
        return charge_points(self) if self.csms is not None else {}

    def charge_point_of(self, device: str) -> str | None:
        """The id under which a charger dials in to the central system; None when it does not."""
        found = self.devices[device]
        if self.csms is None or not isinstance(found, ChargerDevice):
            return None
        address = found.address
        if isinstance(address, OcppAddress):
            return address.charge_point
        if isinstance(address, TwinAddress):
            return next((point for point, twin in self.charge_points().items() if twin == address.twin), None)
        return found.charge_point

    def reveal(self, secret: Secret) -> str:
        """The value of a secret of this file, relative paths starting beside it; ConfigError as `Secret.reveal`."""
        return secret.reveal(folder=self.folder)

    def plan(self) -> list[PlanLine]:
        """What opening this station would do, in the order in which it would happen; opens nothing."""
        return make_plan(self)


def load_station(path: Path | str) -> Station:
    """Read a station file. Raises ConfigError with a line for each fault: file, line, column, key, remedy."""
    path = Path(path)
    return parse_station(read_file(path, what="station file"), path)


def parse_station(data: bytes, path: Path) -> Station:
    """The station in `data`, which came from or will be written to `path`; raises as `load_station`."""
    document = read_document(data, path)
    _refuse_other_versions(document)
    raise_problems(list(empty_values(document)), path)
    try:
        station = Station.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        raise_problems(diagnose(error, document, station_schema()), path)
        raise AssertionError("a failed validation has a problem") from error
    findings = check(station, path.parent)
    raise_problems([Problem(document.mark(key), dotted(key), sentence) for key, sentence in findings], path)
    station._path = path  # noqa: SLF001  # set once, here, by the module that owns the class
    station._sha256 = sha256(data).hexdigest()  # noqa: SLF001  # as above
    return station


def station_schema() -> dict[str, SchemaValue]:
    """The JSON schema of a station file, as shipped in stations/station.schema.json, for editors and programs."""
    made = _without_null(StationModel.model_json_schema(by_alias=True))
    assert isinstance(made, Mapping)
    return {
        "$schema": _SCHEMA_ID,
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        **made,
        "title": "v2gbench station file",
    }


def default_keys_folder(station_name: str) -> Path:
    """Where 'v2gbench init' puts the keys of a station: below the user's configuration folder, outside of runs."""
    configuration = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(configuration) if Path(configuration).is_absolute() else Path("~/.config").expanduser()
    return base / "v2gbench" / "keys" / station_name


def _refuse_other_versions(document: Document) -> None:
    written = document.value(("schema",))
    if written is None:
        return
    name, _, version = str(written).partition("/")
    major = version.partition(".")[0]
    if name == SCHEMA_NAME and major == str(SCHEMA_MAJOR):
        return
    place = document.mark(("schema",))
    if name == SCHEMA_NAME and major.isdigit():
        sentence = f"this file is of version {version}, and this bench reads {SCHEMA_MAJOR}.x; use the bench it is for"
    else:
        sentence = f"{str(written)[:60]!r} is not a station file's schema; write 'schema: {SCHEMA}'"
    raise_problems([Problem(place, "schema", sentence)], document.path)


def _without_null(schema: SchemaValue) -> SchemaValue:
    """A schema in which a key is left out rather than null, as the loader has it, and groups of names are closed."""
    if isinstance(schema, Mapping):
        result: dict[str, SchemaValue] = {}
        for key, value in schema.items():
            if key == "default" and value is None:
                continue
            if key == "title" and isinstance(value, str):
                continue
            if key == "anyOf" and isinstance(value, Sequence) and not isinstance(value, str):
                options = [option for option in value if not _is_null(option)]
                if len(options) == 1 and isinstance(only := _without_null(options[0]), Mapping):
                    result.update({inner: entry for inner, entry in only.items() if inner not in schema})
                    continue
            result[key] = _without_null(value)
        if "patternProperties" in result:
            result["additionalProperties"] = False
        return result
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_without_null(item) for item in schema]
    return schema


def _is_null(option: SchemaValue) -> bool:
    return isinstance(option, Mapping) and option.get("type") == "null"
