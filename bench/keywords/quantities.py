"""Quantities as a plan writes them: a number and its unit. `5 kW`, `-4750 W`, `10 min`, `55 %`, `30 °C`.

A number without a unit is refused, because `5` is watts to one reader and kilowatts to the next. A quantity prints with
its unit, so that what one keyword returns can be given to another as it is, and compares like a number, so that
`$power < 0` works in a plan.

It is no subclass of float on purpose: where a conversion fails, Robot tries the type of the argument's default value
by its own rules, and would take `within=10` for a float.

>>> Power.convert("-4.75 kW")
Power('-4750 W')
>>> Duration.convert("1 h 30 min") == 5400.0
True
>>> Power(-4750.0) < 0
True
>>> Power.convert("5000")
Traceback (most recent call last):
ValueError: '5000' has no unit; write for example '5000 W' or '5 kW'
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Quantity:
    """A number in a base unit; the subclasses name theirs."""

    value: float

    unit: ClassVar[str]
    scales: ClassVar[Mapping[str, float]]  # unit as written -> factor to the base unit
    example: ClassVar[str]

    @classmethod
    def convert(cls, given: str | float | dt.timedelta) -> Self:
        """The quantity in a plan's words; ValueError says in one sentence how to write it."""
        text = str(given).strip()
        found = _NUMBER_AND_UNIT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no number with a unit; write for example {cls.example}")
        return cls._finite(float(found["number"].replace("\u2212", "-")) * cls._scale(text, found["unit"]), text)

    @classmethod
    def not_given(cls) -> Self:
        """What an argument is when a plan leaves it out: NaN. A type of its own would hide why a word was refused."""
        return cls(math.nan)

    @property
    def is_given(self) -> bool:
        """Whether a plan said anything."""
        return not math.isnan(self.value)

    @classmethod
    def _scale(cls, text: str, unit: str) -> float:
        if not unit:
            raise ValueError(f"{text!r} has no unit; write for example {cls.example}")
        if unit in cls.scales:
            return cls.scales[unit]
        near = next((known for known in cls.scales if known.lower() == unit.lower()), None)
        hint = f"write {near!r}" if near is not None else f"use one of {', '.join(cls.scales)}"
        raise ValueError(f"{unit!r} in {text!r} is no unit of {cls.__name__.lower()} here; {hint}")

    @classmethod
    def _finite(cls, value: float, text: str) -> Self:
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not finite; write for example {cls.example}")
        return cls(value)

    def __float__(self) -> float:
        return self.value

    def __bool__(self) -> bool:
        return self.value != 0.0

    def __eq__(self, other: object) -> bool:
        number = self._number(other)
        return NotImplemented if number is None else self.value == number

    def __lt__(self, other: object) -> bool:
        number = self._number(other)
        return NotImplemented if number is None else self.value < number

    def __hash__(self) -> int:
        return hash(self.value)

    def _number(self, other: object) -> float | None:
        """What this may be compared with: a plain number or a quantity of the same kind; None for anything else."""
        if isinstance(other, Quantity):
            return other.value if isinstance(other, type(self)) else None
        return float(other) if isinstance(other, int | float) else None

    def __str__(self) -> str:
        return f"{self.value:.10g} {self.unit}" if self.is_given else "not given"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __format__(self, specification: str) -> str:
        return f"{self.value:{specification}} {self.unit}" if specification else str(self)


class Power(Quantity):
    """A power with its unit, W or kW: `5 kW`, `-4750 W`. Positive charges the vehicle."""

    unit = "W"
    scales: ClassVar[Mapping[str, float]] = {"W": 1.0, "kW": 1000.0}
    example = "'5000 W' or '5 kW'"


class Energy(Quantity):
    """An energy with its unit, Wh or kWh: `500 Wh`, `1.2 kWh`."""

    unit = "Wh"
    scales: ClassVar[Mapping[str, float]] = {"Wh": 1.0, "kWh": 1000.0}
    example = "'500 Wh' or '1.2 kWh'"


class Share(Quantity):
    """A share in per cent: `55 %`."""

    unit = "%"
    scales: ClassVar[Mapping[str, float]] = {"%": 1.0}
    example = "'55 %'"


class Temperature(Quantity):
    """A temperature in degrees Celsius: `30 °C` or `30 degC`."""

    unit = "°C"
    scales: ClassVar[Mapping[str, float]] = {"°C": 1.0, "degC": 1.0}
    example = "'30 °C' or '30 degC'"


class Duration(Quantity):
    """A length of session time with its units, ms, s, min or h: `30 s`, `10 min`, `1 h 30 min`."""

    unit = "s"
    scales: ClassVar[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
    example = "'30 s', '10 min' or '1 h 30 min'"

    @classmethod
    def convert(cls, given: str | float | dt.timedelta) -> Self:
        """The duration in a plan's words; ValueError when it is negative or not one."""
        if isinstance(given, dt.timedelta):
            return cls._not_negative(given.total_seconds(), str(given))
        text = str(given).strip()
        parts = [*_PART.finditer(text)]
        if not parts or "".join(part[0] for part in parts) != text:
            raise ValueError(f"{text!r} is no length of time; write for example {cls.example}")
        seconds = sum(float(part["number"].replace("\u2212", "-")) * cls._scale(text, part["unit"]) for part in parts)
        return cls._not_negative(seconds, text)

    @classmethod
    def _not_negative(cls, seconds: float, text: str) -> Self:
        if seconds < 0.0:
            raise ValueError(f"{text!r} is negative, and time does not run backwards; write for example {cls.example}")
        return cls._finite(seconds, text)


NO_TIME = Duration(0.0)
NO_POWER, NO_ENERGY = Power.not_given(), Energy.not_given()
NO_SHARE, NO_TEMPERATURE, NO_DURATION = Share.not_given(), Temperature.not_given(), Duration.not_given()


def _converter(kind: type[Quantity]) -> Callable[..., Quantity]:
    # Without a docstring of its own, so that Robot documents the type; it takes the annotation at its word.
    def convert(given: str | int | float | dt.timedelta) -> Quantity:  # noqa: PYI041
        return kind.convert(given)

    return convert


CONVERTERS: Mapping[type, Callable[..., Quantity]] = {
    kind: _converter(kind) for kind in (Power, Energy, Share, Temperature, Duration)
}
"""What Robot turns a plan's words with, by the type of the argument."""

_NUMBER = r"(?P<number>[-+\u2212]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_NUMBER_AND_UNIT = re.compile(_NUMBER + r"\s*(?P<unit>[^\s\d.,]*)")
_PART = re.compile(_NUMBER + r"\s*(?P<unit>[^\W\d]*)\s*")
