"""From a tariff in euro to millisatoshi, exactly; and a session's energy cut into slices.

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
from decimal import Context, Decimal
from fractions import Fraction

from ledgers.canonical import Json
from ledgers.errors import SettlementError
from ledgers.ports import Quote, QuoteLine
from ledgers.tariff import Price, Remainder, Tariff, exact

MSAT_PER_BTC = 10**11
SMALLEST_PAYMENT_MSAT = 1000
"""Nothing smaller is paid, because many nodes do not forward less than one satoshi; it is carried on instead."""

_LARGEST_MICRO = 2**53 - 1  # the largest integer that RFC 8785 JSON carries exactly
_LARGEST_MSAT = 2**53 - 1  # the same for msat: 90 000 BTC
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a session's energy that is held for at once; `index` counts from 0."""

    index: int
    energy_wh: Fraction
    amount_msat: int


def plan_slices(
    energy_wh: int | Decimal, slice_wh: int | Decimal, *, price: Price, tariff: Tariff, rate: Rate
) -> tuple[Slice, ...]:
    """Cut `energy_wh` into slices of `slice_wh`; the last one is what remains.

    The amounts add up to the whole energy's amount, rounded once. Raises SettlementError when a whole slice is worth
    less than the smallest payment: then the slices are too thin to be held.
    """
    left, thick = exact(energy_wh, what="energy_wh"), exact(slice_wh, what="slice_wh")
    if thick <= 0:
        raise SettlementError(f"a slice of {slice_wh} Wh is none; name an energy above 0")
    till = Till(tariff.remainder)
    found: list[Slice] = []
    while left > 0:
        size = min(thick, left)
        found.append(Slice(len(found), size, till.take(rate.msat(price.exact_micro(size)))))
        left -= size
        if size == thick and found[-1].amount_msat < SMALLEST_PAYMENT_MSAT:
            raise SettlementError(
                f"a slice of {slice_wh} Wh is worth {found[-1].amount_msat} msat, and nothing below "
                f"{SMALLEST_PAYMENT_MSAT} msat is paid; make slices thicker"
            )
    return tuple(found)


def quote_record(
    tariff: Tariff,
    record_sha256: str,
    *,
    import_wh: int | Decimal,
    export_wh: int | Decimal,
    available_power_w: int | Decimal,
    available_s: int | Decimal,
) -> Quote:
    """The quote of a record in micro-euro, as every settlement makes it; energies in Wh, power in W."""
    if not _SHA256.fullmatch(record_sha256):
        raise SettlementError(f"{record_sha256!r} is not the SHA-256 of a record in hexadecimal")
    t = tariff
    available_ws = exact(available_power_w, what="available_power_w") * exact(available_s, what="available_s")
    lines = (
        _line(t, "import_energy", t.import_energy, exact(import_wh, what="import_wh"), "Wh", t.driver, t.seller),
        _line(t, "v2g_energy", t.v2g_energy, exact(export_wh, what="export_wh"), "Wh", t.aggregator, t.driver),
        _line(t, "availability", t.availability, available_ws, "W s", t.aggregator, t.driver),
    )
    return Quote(record_sha256, t.name, t.sha256, t.currency, lines)


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


def _line(tariff: Tariff, kind: str, price: Price, quantity: Fraction, unit: str, payer: str, payee: str) -> QuoteLine:
    amount = price.exact_micro(quantity)
    whole = tariff.rounded_micro(amount)
    if whole > _LARGEST_MICRO:
        raise SettlementError(f"{kind} comes to {whole} micro-euro, more than an account can carry")
    return QuoteLine(
        kind=kind,
        payer=payer,
        payee=payee,
        quantity=_decimal_text(quantity),
        quantity_unit=unit,
        price=price.text,
        price_unit=price.unit,
        amount_micro=whole,
        remainder_micro=fraction_text(amount - whole),
    )


def _decimal_text(value: Fraction) -> str:
    """An exact decimal text of up to 60 digits, whatever the caller's decimal context is."""
    number = Context(prec=60).divide(Decimal(value.numerator), Decimal(value.denominator))
    if Fraction(number) != value:
        raise SettlementError(f"the quantity {value} has more digits than can be stated exactly; round it first")
    return format(number.normalize(Context(prec=60)), "f")
