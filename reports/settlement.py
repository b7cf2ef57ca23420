"""The report's section on a receipt of a settlement over Lightning: a row for each line, and what holds for all.

The payments, hundreds of them when they were made while energy flowed, stand in the section on the network; the receipt
itself is beside the report, in `records/settlement.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, cast

from ledgers.canonical import Json
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT
from reports.page import MINUS, NOTHING, Cell, Section, Table, clipped, spoken

_MODES: Final[Mapping[str, str]] = {
    "post_paid": "post_paid: invoices after the record verified",
    "hold": "hold: the money waited at the payee's node until a signed record verified",
    "stream": "stream: paid as energy flowed",
}
_THIN: Final = "\u202f"


def lightning_settlement_section(receipt: Mapping[str, Json]) -> Section | None:
    """Lines and facts of a receipt over Lightning; None for any other receipt, and for one that is damaged."""
    try:
        return _section(receipt)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return None  # the caller then shows what is there as it is


# Private --------------------------------------------------------------------------------------------------------------


def _section(receipt: Mapping[str, Json]) -> Section:
    paid = _group(receipt["lightning"])
    quote = _group(receipt["quote"])
    priced = {str(line["kind"]): line for line in _groups(quote["lines"])}
    dues = _groups(paid["lines"])
    words = (
        "Money moves only after the usage record verified, or while energy flows against records that the charger's "
        f"key signs. 1 satoshi is 1000 msat; nothing below {SMALLEST_PAYMENT_MSAT} msat is paid. The payments stand in "
        "the section on the Lightning network, the receipt with all preimages in records/settlement.json."
    )
    head = (
        "For", "From and to", "Quantity", "Price", "Amount (€)", "Exact (msat)", "Paid in advance (msat)",
        "Paid in all (msat)", "Carried on (msat)",
    )  # fmt: skip
    caption = "What was due and what was paid, line by line; what was paid in advance was paid while energy flowed"
    lines = Table(caption, head, tuple(_line(due, priced[str(due["kind"])]) for due in dues))
    return Section("settlement", "Settlement", (words, *_carried_in_words(dues)), (lines, _facts(receipt, quote, paid)))


def _line(due: Mapping[str, Json], priced: Mapping[str, Json]) -> tuple[Cell, ...]:
    return (
        Cell(spoken(str(due["kind"]))),
        Cell(f"{due['payer']} → {due['payee']}"),
        Cell(f"{_grouped(str(priced['quantity']))} {priced['quantity_unit']}", number=True),
        Cell(f"{priced['price']} {priced['price_unit']}", number=True),
        _number(_euro(_whole(priced["amount_micro"]))),
        _number(_msat(Fraction(str(due["exact_msat"])))),
        _number(_msat(Fraction(_whole(due["advance_msat"])))),
        _number(_msat(Fraction(_whole(due["paid_msat"])))),
        _number(_msat(Fraction(str(due["carried_msat"])))),
    )


def _carried_in_words(dues: Sequence[Mapping[str, Json]]) -> list[str]:
    left = [(spoken(str(due["kind"])), Fraction(str(due["carried_msat"]))) for due in dues]
    unpaid = [f"{_msat(rest)} msat of {kind}" for kind, rest in left if rest > 0]
    beyond = [f"{_msat(-rest)} msat of {kind}" for kind, rest in left if rest < 0]
    because = "because each session of a station has nodes of its own"
    return [
        *([f"Carried on and unpaid here, {because}: {', '.join(unpaid)}."] if unpaid else []),
        *([f"Paid beyond what was exactly due and kept, {because}: {', '.join(beyond)}."] if beyond else []),
    ]


def _facts(receipt: Mapping[str, Json], quote: Mapping[str, Json], paid: Mapping[str, Json]) -> Table:
    payments, rate = _groups(paid["payments"]), _group(paid["rate"])
    fees_msat = sum(_whole(payment["fee_msat"] or 0) for payment in payments)
    losses = [_group(loss) for payment in payments for loss in _groups(payment.get("lost", []))]
    facts = {
        "Status": receipt["status"],
        "Settled at (wall clock)": receipt["settled_utc"],
        "Mode": _MODES.get(str(paid["mode"]), str(paid["mode"])),
        "Rate": f"{rate['euro_per_btc']} EUR/BTC",
        "Source of the rate": rate["source"],
        "Network": paid["network"],
        "Payments": _grouped(str(len(payments))),
        "Fees for forwarding, paid by the payers": f"{_msat(Fraction(fees_msat))} msat",
        **({"Lost by closed channels": f"in {len(losses)} cases; see the receipt"} if losses else {}),
        "Tariff": quote["tariff_name"],
        "Tariff SHA-256": quote["tariff_sha256"],
        "Record SHA-256": receipt["record_sha256"],
        "Signed by": _group(receipt["signer"])["name"],
        "Hold": receipt["hold_id"],
        "Schema": receipt["schema"],
    }
    rows = tuple((Cell(name), Cell(clipped(str(value)), code=len(str(value)) == 64)) for name, value in facts.items())
    return Table("What holds for all lines", ("What", "Value"), rows)


def _number(text: str) -> Cell:
    return Cell(text, "muted" if text == NOTHING else "", number=True)


def _msat(value: Fraction) -> str:
    """Exact: whole msat, and what is left as a fraction."""
    whole, rest = divmod(abs(value), 1)
    sign = MINUS if value < 0 else ""
    if rest and not whole:
        return f"{sign}{rest}"
    return f"{sign}{_grouped(str(whole))}" + (f" {rest}" if rest else "")


def _euro(micro: int) -> str:
    whole, rest = divmod(abs(micro), 1_000_000)
    return f"{MINUS if micro < 0 else ''}{_grouped(str(whole))}.{rest:06d}"


def _grouped(digits: str) -> str:
    whole, point, rest = digits.partition(".")
    return f"{int(whole):,}".replace(",", _THIN) + point + rest


def _whole(value: Json) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value


def _group(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return value


def _groups(value: Json) -> list[Mapping[str, Json]]:
    if not isinstance(value, list):
        raise TypeError(value)
    return [_group(item) for item in cast("list[Json]", value)]
