"""Amounts of money over Lightning as a plan writes them: `224750 msat`, `5000000 sat`. Whole millisatoshi, exact.

Unlike a quantity that was measured, an amount is never a float, and may equal another.

>>> Amount.convert("5000000 sat")
Amount('5000000000 msat')
>>> Amount.convert("224.75 sat") == Amount(224750)
True
>>> Amount.convert("1.5 msat")
Traceback (most recent call last):
ValueError: '1.5 msat' is no whole number of millisatoshi
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True, order=True, repr=False)
class Amount:
    """An amount of money with its unit, msat or sat: `224750 msat`, `5000000 sat`. One satoshi is 1000 millisatoshi."""

    msat: int

    scales: ClassVar[Mapping[str, int]] = {"msat": 1, "sat": 1000}

    @classmethod
    def convert(cls, given: str | int) -> Self:
        """The amount in a plan's words; ValueError says in one sentence how to write it."""
        text = str(given).strip()
        found = _AMOUNT.fullmatch(text)
        if found is None or found["unit"] not in cls.scales:
            raise ValueError(f"{text!r} is no amount of money; write for example '224750 msat' or '5000000 sat'")
        exact = Decimal(found["number"]) * cls.scales[found["unit"]]
        if exact != exact.to_integral_value():
            raise ValueError(f"{text!r} is no whole number of millisatoshi")
        return cls(int(exact))

    def __str__(self) -> str:
        return f"{self.msat} msat"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _convert(given: str | int) -> Amount:
    return Amount.convert(given)


MONEY_CONVERTERS: Mapping[type, Callable[..., Amount]] = {Amount: _convert}
"""What Robot turns a plan's words with, as in `quantities.CONVERTERS`."""

_AMOUNT = re.compile(r"(?P<number>[-+]?[0-9]{1,18}(\.[0-9]{1,6})?)\s*(?P<unit>[a-z]+)")
