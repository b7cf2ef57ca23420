"""The paper's informational asset, field by field, built from named quantities of the bench.

`asset_fields.yaml` is the one place that says where each field comes from, in which unit and encoding the paper writes
it, and which channels may see it (Table 2). This module only reads that file and applies it. A field without a value
becomes null with a reason; nothing is ever filled in.

Named quantities that a caller may give (floats in the unit of their name, counts and states as floats, times as seconds
since 1970-01-01T00:00:00Z; positive current charges):

* `vehicle.` asset_id (text), speed_kmh, gids, soc_percent, pack_voltage_v, pack_current_a, cell_average_v,
  pack_temperature_1_c to pack_temperature_4_c, odometer_km, quick_charges, l1_l2_charges, ambient_c, soh_percent,
  plug_state, charge_mode, gear, motor_temperature_c, inverter_2_temperature_c, inverter_4_temperature_c
* `charger.` soc_percent, dc_voltage_v, dc_current_a (used while charging when the vehicle gives none)
* `position.` latitude_deg, longitude_deg · `session.utc` · `ledger.utc` · `contract.` state0_utc to state2_utc

>>> fields = build_asset({"vehicle.soc_percent": 93.3001, "vehicle.pack_current_a": 0.04}, {})
>>> [(field.name, field.value) for field in fields if field.name in ("SOC", "Pack_Amps")]
[('SOC', '933001'), ('Pack_Amps', '-0.0')]
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ledgers.errors import RecordError
from ledgers.records import AssetField, parse_problem, require_schema

ASSET_FIELDS_SCHEMA = "v2gbench.asset-fields/1.0"

Mode = Literal["driving", "charging"]
Channel = Literal["monitoring", "remuneration", "alarms"]
Value = float | str | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# English whatever the locale of the host: a record's bytes may not depend on it.
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Encoding(_Model):
    """How the paper writes a value."""

    kind: Literal["number", "text", "log_date", "chain_date", "degrees_minutes"]
    scale: float = 1.0
    decimals: Annotated[int, Field(ge=0, le=6)] = 0


class FieldRule(_Model):
    """One field of the asset: unit, sources per mode, encoding, row of Table 2, and the reason when it is absent."""

    unit: str
    driving: tuple[str, ...]
    charging: tuple[str, ...]
    encoding: Encoding
    data_type: str | None
    absent: str
    note: str = ""


class DataType(_Model):
    """A row of Table 2: its name in the paper and the channels that carry it."""

    table_2: str
    channels: tuple[Channel, ...]


class _Labels(_Model):
    fields: tuple[str, ...]
    channels: tuple[Channel, ...]


class _Untyped(_Model):
    channels: tuple[Channel, ...]


class AssetTable(_Model):
    """The whole of asset_fields.yaml, in its order."""

    schema_: str = Field(alias="schema")
    data_types: dict[str, DataType]
    labels: _Labels
    untyped: _Untyped
    fields: dict[str, FieldRule]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, rule in self.fields.items():
            if rule.data_type is not None and rule.data_type not in self.data_types:
                raise ValueError(f"field {name} has the data type {rule.data_type!r}, which data_types does not list")
        unknown = set(self.labels.fields) - set(self.fields)
        if unknown:
            raise ValueError(f"labels name fields that do not exist: {', '.join(sorted(unknown))}")
        return self

    def channels(self, name: str) -> tuple[Channel, ...]:
        """The channels that may carry a field."""
        data_type = self.fields[name].data_type
        if data_type is not None:
            return self.data_types[data_type].channels
        return self.labels.channels if name in self.labels.fields else self.untyped.channels


@functools.cache
def asset_table() -> AssetTable:
    """The shipped table; raises RecordError when the installed file is damaged."""
    return parse_asset_table(resources.files("ledgers").joinpath("asset_fields.yaml").read_text("utf-8"))


def parse_asset_table(text: str) -> AssetTable:
    """The table in `text` (YAML); raises RecordError with the member that is wrong."""
    try:
        document: object = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise RecordError(f"asset_fields.yaml is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise RecordError("asset_fields.yaml holds no mapping; install the package again")
    require_schema(document.get("schema"), ASSET_FIELDS_SCHEMA, where="asset_fields.yaml")
    try:
        return AssetTable.model_validate(document)
    except ValidationError as error:
        raise RecordError(f"asset_fields.yaml: {parse_problem(error)}") from error


def build_asset(
    values: Mapping[str, Value], reasons: Mapping[str, str], *, mode: Mode = "charging"
) -> tuple[AssetField, ...]:
    """Every field of the asset, in the paper's order and encoding.

    `values` maps named quantities (see above) to values, `reasons` the ones without a value to why. NaN and None are no
    value. Raises RecordError for a name that no field uses in any mode, and for a value that its encoding cannot write.
    """
    table = asset_table()
    known = {source for rule in table.fields.values() for source in (*rule.driving, *rule.charging)}
    unknown = sorted((set(values) | set(reasons)) - known)
    if unknown:
        raise RecordError(
            f"no asset field uses {', '.join(unknown)}; the names are listed in ledgers/asset_fields.yaml"
        )
    return tuple(_field(table, name, values, reasons, mode) for name in table.fields)


def _field(
    table: AssetTable, name: str, values: Mapping[str, Value], reasons: Mapping[str, str], mode: Mode
) -> AssetField:
    rule = table.fields[name]
    sources = rule.driving if mode == "driving" else rule.charging
    text: str | None = None
    used: str | None = None
    for source in sources:
        value = values.get(source)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            text, used = _encode(value, rule.encoding, name), source
            break
    told = [reasons[source] for source in sources if source in reasons]
    return AssetField(
        name=name,
        value=text,
        unit=rule.unit,
        source=used,
        data_type=rule.data_type,
        channels=table.channels(name),
        reason=None if text is not None else (told[0] if told else rule.absent),
    )


def _encode(value: float | str, encoding: Encoding, name: str) -> str:
    if encoding.kind == "text":
        if not isinstance(value, str):
            raise RecordError(f"asset field {name} is a text, not {value!r}")
        return value
    if isinstance(value, str) or not math.isfinite(value):
        raise RecordError(f"asset field {name} is a number, not {value!r}")
    if encoding.kind == "number":
        return f"{value * encoding.scale:.{encoding.decimals}f}"
    if encoding.kind == "degrees_minutes":
        return _degrees_minutes(value, name)
    moment = _moment(value, name)
    if encoding.kind == "log_date":
        return f"{moment:%m/%d/%Y %H:%M:%S}"
    weekday, month = _WEEKDAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{weekday}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M:%S} UTC"


def _degrees_minutes(value: float, name: str) -> str:
    if not -180 <= value <= 180:
        raise RecordError(f"asset field {name} is an angle from -180 to 180 degrees, not {value!r}")
    degrees, ten_thousandths = divmod(round(abs(value) * 600_000), 600_000)  # of a minute, so that 60.0000 cannot occur
    return f"{'-' if value < 0 else ''}{degrees} {ten_thousandths / 10_000:.4f}"


def _moment(utc_s: float, name: str) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=math.floor(utc_s))
    except OverflowError as error:
        raise RecordError(f"asset field {name} is a time in seconds since 1970, not {utc_s!r}") from error
