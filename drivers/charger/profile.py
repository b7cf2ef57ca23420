"""A charger's register map as data, read once and refused whole when it is wrong.

The same profile serves the driver and the twin's face; encoding and decoding are each side's own, or both would be
wrong at once and no test would see it.
"""

from __future__ import annotations

from functools import cache, cached_property
from importlib import resources
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

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
        size = _size(self.type)
        assert size is not None  # the profile was refused otherwise
        return size


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

    @model_validator(mode="after")
    def _points_fit(self) -> Self:
        """Points stand behind each other inside the model, and each scale factor is one of its points."""
        kinds = {name: kind for _, name, kind, _, _ in self.points}
        if len(kinds) != len(self.points):
            raise ValueError(f"model {self.id} has two points of one name")
        free_from = 2
        for offset, name, kind, scale, _ in sorted(self.points):
            size = _size(kind)
            if size is None:
                raise ValueError(f"point {name} of model {self.id} has unknown type {kind!r}")
            if offset < free_from or offset + size > self.length + 2:
                raise ValueError(
                    f"point {name} of model {self.id} needs registers {offset} to {offset + size - 1}, "
                    f"free are {free_from} to {self.length + 1}"
                )
            if scale is not None and kinds.get(scale) != "sunssf":
                raise ValueError(f"point {name} of model {self.id} is scaled by {scale!r}, which is no sunssf of it")
            free_from = offset + size
        return self


class ChargerProfile(BaseModel, frozen=True, extra="forbid"):
    """A SunSpec map from a base register: models behind each other, their points, and what the role reads of them."""

    schema_: Annotated[Literal["v2gbench.charger-profile/1.0"], Field(alias="schema")]
    name: str
    unit_id: Annotated[int, Field(ge=0, le=247)]
    base: Annotated[int, Field(ge=0, le=65_000)]
    sign: Literal["injection", "charge"]
    idle_w: Annotated[float, Field(ge=0)]
    cycle_reads: tuple[BlockRead, ...]
    readings: dict[str, ReadingSource]
    models: tuple[_Model, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        """What is read each cycle and what the role takes of it are there."""
        known = {model.id: {point[1] for point in model.points} for model in self.models}
        if len(known) != len(self.models):
            raise ValueError("two models have one id")
        for block in self.cycle_reads:
            if block.model not in known:
                raise ValueError(f"cycle_reads names model {block.model}, which is not among the models")
        for name, source in self.readings.items():
            if source.point not in known.get(source.model, ()):
                raise ValueError(f"reading {name} comes from {source.point} of model {source.model}, which has none")
        if self.end_address + 2 > 1 << 16:
            raise ValueError(f"the models end at register {self.end_address + 1}, beyond 65535")
        return self

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


@cache  # a frozen file of the package; driver and face ask for the same one, and reading it takes 80 ms
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
    return parse_profile(file.read_text(encoding="utf-8"), name)


def parse_profile(text: str, name: str) -> ChargerProfile:
    """Read a profile from its YAML; ConfigError in one sentence naming the line or the key that is wrong."""
    try:
        return ChargerProfile.model_validate(YAML(typ="safe").load(text))
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"charger profile {name!r}{line}: this is not YAML ({error.problem})") from error
    except YAMLError as error:
        raise ConfigError(f"charger profile {name!r} is not YAML ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"charger profile {name!r}, {where}: {first['msg']}{more}") from error


def _size(kind: str) -> int | None:
    """Registers of a type; None for an unknown one."""
    if kind.startswith("string") and kind[6:].isdecimal():
        return int(kind[6:]) or None
    return _SIZES.get(kind)
