"""What a record comes to under a tariff: the quote that every settlement makes in the same way, and reads back.

Amounts are micro-euro, exact fractions until they are rounded as the tariff says; what rounding left stands beside each
line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction

from ledgers.canonical import Json
from ledgers.errors import RecordError, SettlementError
from ledgers.ports import Quote, QuoteLine
from ledgers.tariff import Price, Tariff, exact

LARGEST_MICRO = 2**53 - 1
"""The largest integer that RFC 8785 JSON carries exactly: nine thousand million euro in micro-euro."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def quote_record(
    tariff: Tariff,
    record_sha256: str,
    *,
    import_wh: int | Decimal,
    export_wh: int | Decimal,
    available_power_w: int | Decimal,
    available_s: int | Decimal,
) -> Quote:
    """The quote of a record; energies in Wh at the settlement meter, power in W, time in s.

    Raises SettlementError for what is no SHA-256, no exact quantity, or more than an account can carry.
    """
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


def read_quote(document: Json) -> Quote:
    """The quote in a line of a journal, as `Quote.to_json` wrote it; raises RecordError for anything else."""
    if not isinstance(document, Mapping):
        raise RecordError("a quote is not a JSON object")
    lines = []
    for item in items_of(document["lines"]):
        if not isinstance(item, Mapping) or not isinstance(item["amount_micro"], int):
            raise RecordError("a line of a quote is malformed")
        texts = {name: str(value) for name, value in item.items() if name != "amount_micro"}
        lines.append(QuoteLine(amount_micro=item["amount_micro"], **texts))
    return Quote(
        record_sha256=str(document["record_sha256"]),
        tariff_name=str(document["tariff_name"]),
        tariff_sha256=str(document["tariff_sha256"]),
        currency=str(document["currency"]),
        lines=tuple(lines),
    )


def items_of(value: Json) -> Sequence[Json]:
    """The items of a list in a journal; raises RecordError for anything else."""
    if not isinstance(value, list):
        raise RecordError("expected a list")
    return value


def _line(tariff: Tariff, kind: str, price: Price, quantity: Fraction, unit: str, payer: str, payee: str) -> QuoteLine:
    amount = price.exact_micro(quantity)
    whole = tariff.rounded_micro(amount)
    if whole > LARGEST_MICRO:
        raise SettlementError(f"{kind} comes to {whole} micro-euro, more than an account can carry")
    rest = amount - whole
    return QuoteLine(
        kind=kind,
        payer=payer,
        payee=payee,
        quantity=_decimal_text(quantity),
        quantity_unit=unit,
        price=price.text,
        price_unit=price.unit,
        amount_micro=whole,
        remainder_micro=f"{rest.numerator}/{rest.denominator}",
    )


def _decimal_text(value: Fraction) -> str:
    """An exact decimal text of up to 60 digits, whatever the caller's decimal context is."""
    number = Context(prec=60).divide(Decimal(value.numerator), Decimal(value.denominator))
    if Fraction(number) != value:
        raise SettlementError(f"the quantity {value} has more digits than can be stated exactly; round it first")
    return format(number.normalize(Context(prec=60)), "f")
