"""Checks the Lightning part of a settlement receipt; nothing in it is believed that can be computed again.

In both directions. From the record to the money: each line's exact amount is computed again from quantity, price and
rate, and must be what was paid, less what was paid back and what is carried on. What was paid while energy flowed must
be the payments under a session's terms, and each slice among them must name the signed record it was settled for. From
the money to the record: each preimage must hash to its payment hash, each invoice's text must name that hash, the
amount and the payee's node, be signed by that node, and carry the hash of this usage record, or of terms that name its
session.

What it cannot see. What earlier sessions left: their receipts have it, and it is told when it is worth a payment.
Whether a node was really the driver's: the keys of both stand in the receipt, and its signer vouches for them. And
preimages are made by the settlement, which must find every payment again after a crash; so they prove that money moved
to whoever trusts the receipt's signer not to have written one down without a payment. To anybody else the nodes' own
books are the proof. A spontaneous payment has no invoice either, and is counted by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledgers.canonical import Json, sha256_hex, to_canonical
from ledgers.errors import RecordError, SettlementError
from ledgers.lightning.bolt11 import read_invoice_text
from ledgers.lightning.client.values import hash_of
from ledgers.lightning.modes import SLICE_TERMS
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, Rate
from ledgers.ports import QuoteLine
from ledgers.tariff import Price

_FRACTION = re.compile(r"-?[0-9]{1,40}/[1-9][0-9]{0,40}")
_DECIMAL = re.compile(r"[0-9]{1,24}(\.[0-9]{1,40})?")
_HASH = re.compile(r"[0-9a-f]{64}")
_BASE_UNITS = {"Wh", "W s"}

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NodeKey = Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]
Msat = Annotated[int, Field(ge=-(2**53), le=2**53)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RatePart(_Model):
    """What a bitcoin was worth, and who said so."""

    euro_per_btc: str
    source: str


class LinePart(_Model):
    """One line of the quote in msat."""

    kind: str
    payer: str
    payee: str
    exact_msat: str
    brought_msat: str
    advance_msat: Msat
    paid_msat: Msat
    carried_msat: str


class LostPart(_Model):
    """What a forced close gave to the miner while it was under way; told by the settlement, not checked here."""

    owner: str
    msat: Annotated[int, Field(gt=0, le=2**53)]
    channel: str
    payment_hash: Hash
    at_most: bool


class PaymentPart(_Model):
    """One payment; `payment_request` is empty for a spontaneous one (keysend)."""

    name: str
    kind: str
    payer: str
    payee: str
    payer_node: NodeKey
    payee_node: NodeKey
    amount_msat: Msat
    fee_msat: Msat
    payment_hash: Hash
    preimage: Hash
    payment_request: str
    terms: dict[str, object] | None
    evidence_sha256: str
    lost: tuple[LostPart, ...] = ()


class LightningPart(_Model):
    """The member `lightning` of a settlement receipt."""

    mode: Literal["post_paid", "hold", "stream"]
    network: str
    rate: RatePart
    lines: tuple[LinePart, ...]
    payments: tuple[PaymentPart, ...]


def check_lightning(part: LightningPart, quoted: Sequence[QuoteLine], *, record_sha256: str, session_id: str) -> str:
    """What was found, in a few words, when everything holds; raises RecordError with the first thing that does not."""
    try:
        rate = Rate(part.rate.euro_per_btc, part.rate.source)
    except SettlementError as error:
        raise RecordError(f"the settlement receipt: {error}") from error
    hashes = [payment.payment_hash for payment in part.payments]
    if len(set(hashes)) != len(hashes):
        raise RecordError("the settlement receipt names one payment twice")
    for payment in part.payments:
        _check_payment(payment, part.network, record_sha256, session_id)
        _check_evidence(payment, record_sha256)
    if [(line.kind, line.payer, line.payee) for line in part.lines] != [(q.kind, q.payer, q.payee) for q in quoted]:
        raise RecordError("the settlement receipt pays other lines than its quote has")
    for line, quote in zip(part.lines, quoted, strict=True):
        _check_line(line, quote, rate, [payment for payment in part.payments if payment.kind == line.kind])
    kinds = {line.kind for line in part.lines}
    strangers = [payment.name for payment in part.payments if payment.kind not in kinds]
    if strangers:
        raise RecordError(f"payment {strangers[0]!r} belongs to no line of the quote")
    total = sum(payment.amount_msat for payment in part.payments)
    bare = sum(1 for payment in part.payments if not payment.payment_request)
    found = f"{len(part.payments)} payments, {total} msat on {part.network}, each with its preimage"
    found = f"{found} and invoice" if not bare else f"{found}; {bare} of them spontaneous, without an invoice"
    payers = {line.kind: line.payer for line in part.lines}
    back = sum(payment.amount_msat for payment in part.payments if payment.payer != payers[payment.kind])
    if back:
        found = f"{found}; {back} msat of it are money paid back, which leaves {total - 2 * back} msat for what was due"
    for line in part.lines:  # sessions that are settled side by side can leave more than one of them alone may
        brought = _fraction(line.brought_msat, line.kind)
        if abs(brought) >= SMALLEST_PAYMENT_MSAT:
            found = f"{found}; {int(brought)} msat of {line.kind} brought from earlier sessions, not checked here"
    lost = [item for payment in part.payments for item in payment.lost]
    if not lost:
        return found
    owners = ", ".join(sorted({item.owner for item in lost}))
    msat = f"{'at most ' if any(item.at_most for item in lost) else ''}{sum(item.msat for item in lost)}"
    return f"{found}; lost to fees in forced closes: {msat} msat of {owners}"


def _check_payment(payment: PaymentPart, network: str, record_sha256: str, session_id: str) -> None:
    name = f"payment {payment.name!r}"
    if hash_of(payment.preimage) != payment.payment_hash:
        raise RecordError(f"{name}: the preimage is not the one of its payment hash, so nothing shows that it was paid")
    if payment.amount_msat <= 0 or payment.fee_msat < 0:
        raise RecordError(f"{name}: {payment.amount_msat} msat with a fee of {payment.fee_msat} is no payment")
    bound = record_sha256
    if payment.terms is not None:
        _check_terms(payment, session_id)
        bound = sha256_hex(to_canonical(_as_json(payment.terms)))
    if not payment.payment_request:
        if payment.terms is None:
            raise RecordError(f"{name} has neither invoice nor terms, so nothing says what it was for")
        return
    text = read_invoice_text(payment.payment_request)
    for what, said, wanted in (
        ("payment hash", text.payment_hash, payment.payment_hash),
        ("amount in msat", text.amount_msat, payment.amount_msat),
        ("network", text.network, network),
    ):
        if said != wanted:
            raise RecordError(f"{name}: its invoice is for another {what} ({said}, the receipt says {wanted})")
    if text.description_hash != bound:
        raise RecordError(f"{name}: its invoice is not for this usage record or these terms")
    if not text.signed_by(payment.payee_node):
        raise RecordError(f"{name}: its invoice was not signed by the payee's node {payment.payee_node[:16]}...")


def _check_evidence(payment: PaymentPart, record_sha256: str) -> None:
    """A slice was settled for a signed record of its own, the rest for the usage record, a stream for none."""
    name = f"payment {payment.name!r}"
    if payment.terms is None:
        if payment.evidence_sha256 not in {"", record_sha256}:
            raise RecordError(f"{name} was settled for another record than the session's")
    elif payment.terms.get("schema") == SLICE_TERMS:
        if not _HASH.fullmatch(payment.evidence_sha256):
            raise RecordError(f"{name} is a slice without the hash of the signed record that it was settled for")
    elif payment.evidence_sha256:
        raise RecordError(f"{name} names a record, but was paid for none")


def _check_terms(payment: PaymentPart, session_id: str) -> None:
    terms = payment.terms or {}
    found = (terms.get("session_id"), terms.get("kind"), terms.get("amount_msat"))
    if found != (session_id, payment.kind, payment.amount_msat):
        raise RecordError(
            f"payment {payment.name!r} was made under terms of another session, kind or amount "
            f"({found[0]!r}, {found[1]!r}, {found[2]!r})"
        )


def _check_line(line: LinePart, quote: QuoteLine, rate: Rate, payments: Sequence[PaymentPart]) -> None:
    exact, brought, carried = (
        _fraction(text, line.kind) for text in (line.exact_msat, line.brought_msat, line.carried_msat)
    )
    worth = _worth_micro(quote)
    if quote.amount_micro + _fraction(quote.remainder_micro, line.kind) != worth:
        raise RecordError(f"the quote's {line.kind} is not quantity times price")
    if rate.msat(worth) != exact:
        raise RecordError(f"{line.kind}: {line.exact_msat} msat is not the quote's amount at the stated rate")
    net = advance = 0
    for payment in payments:
        if (payment.payer, payment.payee) == (line.payer, line.payee):
            msat = payment.amount_msat
        elif (payment.payer, payment.payee) == (line.payee, line.payer):
            msat = -payment.amount_msat
        else:
            raise RecordError(f"payment {payment.name!r} is between other parties than its line {line.kind}")
        net += msat
        advance += 0 if payment.terms is None else msat
    if net != line.paid_msat:
        raise RecordError(f"{line.kind}: the payments come to {net} msat, the receipt says {line.paid_msat}")
    if advance != line.advance_msat:
        raise RecordError(
            f"{line.kind}: the payments while energy flowed come to {advance} msat, the receipt says "
            f"{line.advance_msat}"
        )
    if exact + brought - net != carried:
        raise RecordError(f"{line.kind}: what is carried on is not what the payments leave of the amount")
    if abs(carried) >= SMALLEST_PAYMENT_MSAT:
        raise RecordError(f"{line.kind}: more is carried on than stays below the smallest payment; it was not paid")


def _worth_micro(quote: QuoteLine) -> Fraction:
    currency, _, per = quote.price_unit.partition("/")
    if currency != "EUR" or quote.quantity_unit not in _BASE_UNITS:
        raise RecordError(f"the quote prices {quote.quantity_unit!r} in {quote.price_unit!r}, which is not known here")
    if not _DECIMAL.fullmatch(quote.quantity) or not _DECIMAL.fullmatch(quote.price):
        raise RecordError(f"the quote's {quote.kind} has a quantity or price that is no decimal number")
    try:
        return Price(quote.price, per).exact_micro(Fraction(quote.quantity))
    except KeyError as error:
        raise RecordError(f"the quote prices in {quote.price_unit!r}, which is not known here") from error


def _fraction(text: str, kind: str) -> Fraction:
    if not _FRACTION.fullmatch(text):
        raise RecordError(f"{kind}: {text[:60]!r} is no exact fraction")
    return Fraction(text)


def _as_json(terms: Mapping[str, object]) -> Json:
    document: Json = json.loads(json.dumps(terms))
    return document
