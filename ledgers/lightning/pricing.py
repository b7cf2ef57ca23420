"""From a tariff in euro to millisatoshi, exactly.

The rate is stated, never fetched: a receipt must say what one euro was worth, and a test must give the same amount
twice. A BTC is 10**11 msat and a euro 10**6 micro-euro, so a rate of R EUR/BTC makes a micro-euro 10**5 / R msat; at
100 000 EUR/BTC a micro-euro is one msat, and 0.25 EUR/kWh are 250 sat/kWh.

Rounding to whole msat happens in a `Till`, which keeps what rounding left over as an exact fraction and puts it to the
next amount: the sum over a session is the session's exact amount rounded once, however often it was cut.

>>> rate = Rate("100000", "example")
>>> till = Till()
>>> till.take(rate.msat(Fraction(899 * 250)))
224750
>>> [till.take(Fraction(1, 3)) for _ in range(6)]
[0, 0, 1, 0, 0, 1]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ledgers.canonical import Json
from ledgers.errors import SettlementError
from ledgers.ports import QuoteLine
from ledgers.tariff import Price, Remainder, Tariff

MSAT_PER_BTC = 10**11
SMALLEST_PAYMENT_MSAT = 1000
"""Nothing smaller is paid, because many nodes do not forward less than one satoshi; it is carried on instead."""

_LARGEST_MSAT = 2**53 - 1  # the largest integer that RFC 8785 JSON carries exactly: 90 000 BTC
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bitcoin is worth: `euro_per_btc` as a decimal text, `source` says who stated it.

    Raises SettlementError for anything but a positive decimal number.
    """

    euro_per_btc: str
    source: str

    def __post_init__(self) -> None:
        if not _NUMBER.fullmatch(self.euro_per_btc) or Fraction(self.euro_per_btc) <= 0:
            raise SettlementError(f"the rate {self.euro_per_btc!r} is no positive decimal number of EUR/BTC")

    def msat(self, micro_euro: Fraction) -> Fraction:
        """Exact msat for exact micro-euro."""
        return micro_euro * MSAT_PER_BTC / 10**6 / Fraction(self.euro_per_btc)

    def micro_euro(self, msat: Fraction) -> Fraction:
        """Exact micro-euro for exact msat."""
        return msat * Fraction(self.euro_per_btc) * 10**6 / MSAT_PER_BTC

    def to_json(self) -> dict[str, Json]:
        """The rate as it stands in receipts."""
        return {"euro_per_btc": self.euro_per_btc, "source": self.source}


class Till:
    """Turns exact amounts into whole msat so that nothing is lost: the rest goes into the next amount.

    After any number of `take`, the sum of what it gave is the sum of what it got, rounded down once (or up, where the
    tariff gives remainders to the payee).
    """

    def __init__(self, remainder: Remainder = Remainder.PAYER, rest: Fraction = Fraction(0)) -> None:
        self.rest = rest
        self._remainder = remainder

    def take(self, exact_msat: Fraction) -> int:
        """Whole msat for an amount; `rest` is what is left over (negative when more was given)."""
        total = self.rest + exact_msat
        whole = math.floor(total) if self._remainder is Remainder.PAYER else math.ceil(total)
        self.rest = total - whole
        return whole


def line_msat(line: QuoteLine, rate: Rate) -> Fraction:
    """The exact msat of a quote's line: its exact micro-euro (amount and remainder together) at the rate."""
    return rate.msat(line.amount_micro + Fraction(line.remainder_micro))


def price_of(tariff: Tariff, kind: str) -> tuple[Price, str, str]:
    """Price, payer and payee of the energy of a kind, "import_energy" or "v2g_energy"."""
    known: Mapping[str, tuple[Price, str, str]] = {
        "import_energy": (tariff.import_energy, tariff.driver, tariff.seller),
        "v2g_energy": (tariff.v2g_energy, tariff.aggregator, tariff.driver),
    }
    if kind not in known:
        raise SettlementError(f"{kind!r} is no energy that is paid for; it is one of {', '.join(known)}")
    return known[kind]


def whole_msat(value: int) -> int:
    """`value` when it is an amount that JSON carries exactly; raises SettlementError."""
    if not 0 <= value <= _LARGEST_MSAT:
        raise SettlementError(f"{value} msat is more than can be paid")
    return value


def fraction_text(value: Fraction) -> str:
    """A fraction as it stands in receipts and journals: "n/d"."""
    return f"{value.numerator}/{value.denominator}"
