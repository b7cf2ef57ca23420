"""A charger's register map as data, read once and refused whole when it is wrong.

The same profile serves the driver and the twin's face; encoding and decoding are each side's own, or both would be
wrong at once and no test would see it.
"""

from __future__ import annotations

from functools import cached_property
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drivers.errors import ConfigError

# Registers per type; strings say theirs in the name ("string16").
_SIZES = {
    "int16": 1, "uint16": 1, "enum16": 1, "bitfield16": 1, "sunssf": 1, "pad": 1,
    "int32": 2, "uint32": 2, "bitfield32": 2, "uint64": 4,
}  # fmt: skip


class Point(BaseModel, frozen=True):
    """One point of a SunSpec model; `address` is its Modbus register."""

    model: int
    name: str
    type: str
    scale: str | None
    writable: bool
    address: int

    @property
    def size(self) -> int:
        """Number of registers."""
        return int(self.type[6:]) if self.type.startswith("string") else _SIZES[self.type]


class ReadingSource(BaseModel, frozen=True, extra="forbid"):
    """Where a reading of the role comes from."""

    model: int
    point: str
    unit: str
    turn: bool = False


class BlockRead(BaseModel, frozen=True, extra="forbid"):
    """One read of each cycle: `count` registers from a model's ID register."""

    model: int
    count: Annotated[int, Field(ge=1, le=125)]


class _Model(BaseModel, frozen=True, extra="forbid"):
    id: int
    length: Annotated[int, Field(ge=1)]
    points: tuple[tuple[int, str, str, str | None, Literal["r", "rw"]], ...]


class ChargerProfile(BaseModel, frozen=True, extra="forbid"):
    """A SunSpec map from a base register: models behind each other, their points, and what the role reads of them."""

    schema_: Annotated[Literal["v2gbench.charger-profile/1.0"], Field(alias="schema")]
    name: str
    unit_id: Annotated[int, Field(ge=0, le=247)]
    base: int
    sign: Literal["injection", "charge"]
    cycle_reads: tuple[BlockRead, ...]
    readings: dict[str, ReadingSource]
    models: tuple[_Model, ...]

    @cached_property
    def model_addresses(self) -> dict[int, int]:
        """Register of each model's ID."""
        addresses, at = {}, self.base + 2
        for model in self.models:
            addresses[model.id] = at
            at += model.length + 2
        return addresses

    @cached_property
    def points(self) -> dict[tuple[int, str], Point]:
        """All points by model and name."""
        found = {}
        for model in self.models:
            start = self.model_addresses[model.id]
            for offset, name, kind, scale, access in model.points:
                if kind not in _SIZES and not kind.startswith("string"):
                    raise ConfigError(
                        f"profile {self.name!r}: point {name} of model {model.id} has unknown type {kind!r}"
                    )
                found[model.id, name] = Point(
                    model=model.id, name=name, type=kind, scale=scale, writable=access == "rw", address=start + offset
                )
        return found

    @property
    def end_address(self) -> int:
        """Register of the end marker (0xFFFF) behind the last model."""
        return self.base + 2 + sum(model.length + 2 for model in self.models)

    def point(self, model: int, name: str) -> Point:
        """Return one point; ConfigError when the profile has none of that name."""
        try:
            return self.points[model, name]
        except KeyError:
            raise ConfigError(f"profile {self.name!r} has no point {name!r} in model {model}") from None


def load_profile(name: str) -> ChargerProfile:
    """Load a profile shipped with the package by its name, such as `sunspec_der`.

    Raises ConfigError naming the profiles there are, or what is wrong in the file.
    """
    folder = resources.files("drivers.charger") / "profiles"
    file = folder / f"{name}.yaml"
    if "/" in name or not file.is_file():
        known = ", ".join(
            sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
        )
        raise ConfigError(f"there is no charger profile {name!r}; known are: {known}")
    try:
        return ChargerProfile.model_validate(YAML(typ="safe").load(file.read_text(encoding="utf-8")))
    except (YAMLError, ValidationError) as error:
        raise ConfigError(f"charger profile {name!r} is wrong: {error}") from error
