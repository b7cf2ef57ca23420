"""The table of what the vehicle's control units answer, typed: facts only, no code that reads or writes bytes.

Driver and twin share these facts and nothing else. `drivers.vehicle.lbc_groups` and `identifiers` are the reading side,
`twins.vehicle.ecus` the writing side; one shared codec would be wrong at both ends at once, and no test would see it.

>>> table = load_table()
>>> hex(table.units.lbc.request_id), table.group(0x01).reply_bytes
('0x79b', 53)
"""

from __future__ import annotations

import enum
import functools
from importlib import resources
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drivers.errors import ConfigError

TABLE_NAME = "env200_uds.yaml"
TABLE_SCHEMA = "v2gbench.diagnostics/1"


class NumberType(enum.StrEnum):
    """How a number lies in the bytes; big-endian always."""

    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT24 = "uint24"
    INT32 = "int32"

    @property
    def size(self) -> int:
        """Bytes that one number takes."""
        return int(self.value.removeprefix("u").removeprefix("int")) // 8

    @property
    def signed(self) -> bool:
        """Whether it is a two's complement."""
        return self.value.startswith("int")


class LayoutStatus(enum.StrEnum):
    """How far a layout is known."""

    VERIFIED = "verified"  # compared with a real vehicle of this kind
    ASSUMED = "assumed"  # from a public decoder of a sister vehicle


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Number(_Model):
    """One value, or `count` values in a row: value = raw x factor / divisor + bias."""

    name: str
    type: NumberType
    count: Annotated[int, Field(ge=1, le=128)] = 1
    factor: Annotated[float, Field(gt=0)] = 1.0
    divisor: Annotated[float, Field(gt=0)] = 1.0
    bias: float = 0.0
    unit: str
    absent: int | None = None  # the raw value that says "no value"
    open_circuit: int | None = None  # the raw value that says "more than I can measure"
    low: float | None = None
    high: float | None = None
    bit: Annotated[int, Field(ge=0, le=7)] | None = None  # the value is this bit alone

    @property
    def size(self) -> int:
        """Bytes that it takes, all `count` values together."""
        return self.type.size * self.count


class GroupField(Number):
    """A value inside a group; `offset` counts from the byte after service and number."""

    offset: Annotated[int, Field(ge=0, le=4093)]
    status: LayoutStatus | None = None  # None: as the group


class Constant(_Model):
    """Bytes that were always the same and whose meaning is unknown."""

    offset: Annotated[int, Field(ge=0)]
    bytes: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]


class Group(_Model):
    """What service 21 answers for one number."""

    number: Annotated[int, Field(ge=0, le=0xFF)]
    title: str
    reply_bytes: Annotated[int, Field(ge=3, le=4095)]
    short_reply_bytes: Annotated[int, Field(ge=3, le=4095)] | None = None
    fill: Annotated[int, Field(ge=0, le=0xFF)]
    status: LayoutStatus
    constants: tuple[Constant, ...] = ()
    fields: tuple[GroupField, ...]

    @property
    def payload_bytes(self) -> int:
        """Bytes after service and number."""
        return self.reply_bytes - 2

    @model_validator(mode="after")
    def _fields_fit_apart(self) -> Self:
        taken: dict[int, str] = {}
        spans = [(field.offset, field.size, field.name) for field in self.fields]
        spans += [(constant.offset, len(constant.bytes) // 2, "a constant") for constant in self.constants]
        for offset, size, name in spans:
            if offset + size > self.payload_bytes:
                raise ValueError(f"group 0x{self.number:02X}: {name} reaches beyond {self.reply_bytes} bytes")
            for position in range(offset, offset + size):
                if position in taken:
                    raise ValueError(f"group 0x{self.number:02X}: {name} overlaps {taken[position]} at {position}")
                taken[position] = name
        return self


class Identifier(Number):
    """What service 22 answers for one identifier."""

    id: Annotated[int, Field(ge=0, le=0xFFFF)]
    status: LayoutStatus


class Unit(_Model):
    """One control unit on the bus."""

    title: str
    request_id: Annotated[int, Field(ge=0, le=0x7FF)]
    reply_id: Annotated[int, Field(ge=0, le=0x7FF)]
    padding: Annotated[int, Field(ge=0, le=0xFF)]


class Units(_Model):
    """The control units that the table knows."""

    lbc: Unit
    vcm: Unit


class DiagnosticTable(_Model):
    """Everything in the table file."""

    schema_: Annotated[str, Field(alias="schema")]
    vehicle: str
    units: Units
    groups: tuple[Group, ...]
    session: Annotated[int, Field(ge=0, le=0xFF)]
    identifiers: tuple[Identifier, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.schema_ != TABLE_SCHEMA:
            raise ValueError(f"schema is {self.schema_!r}, this program reads {TABLE_SCHEMA!r}")
        for what, numbers in (
            ("group", [group.number for group in self.groups]),
            ("identifier", [identifier.id for identifier in self.identifiers]),
        ):
            twice = sorted({number for number in numbers if numbers.count(number) > 1})
            if twice:
                raise ValueError(f"{what} 0x{twice[0]:02X} is given twice")
        return self

    def group(self, number: int) -> Group:
        """One group; KeyError where the table has none."""
        for group in self.groups:
            if group.number == number:
                return group
        raise KeyError(f"group 0x{number:02X} is not in the table of the {self.vehicle}")

    def identifier(self, number: int) -> Identifier:
        """One identifier; KeyError where the table has none."""
        for identifier in self.identifiers:
            if identifier.id == number:
                return identifier
        raise KeyError(f"identifier 0x{number:04X} is not in the table of the {self.vehicle}")


@functools.cache  # facts of a file that never changes while the program runs
def load_table() -> DiagnosticTable:
    """Read the table that comes with the driver. Raises ConfigError naming the entry where it is bad."""
    text = resources.files("drivers.vehicle").joinpath(TABLE_NAME).read_text(encoding="utf-8")
    return parse_table(text, TABLE_NAME)


def parse_table(text: str, name: str) -> DiagnosticTable:
    """Read a table from YAML text; `name` is the file in error messages. Raises ConfigError."""
    try:
        return DiagnosticTable.model_validate(YAML(typ="safe", pure=True).load(text))
    except YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "table"
        raise ConfigError(f"{name}: {where}: {first['msg']}; correct the table") from error
