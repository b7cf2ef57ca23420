"""Paying while energy flows: slices that are held first, or a stream of small payments.

A hold cannot settle in part. So a session is cut into slices; the money of a slice is held before its energy flows, and
one slice is all that is ever at risk, for either side: the payee is paid only for a signed record of the slice, and the
payer's money is safe until then. What the last slice held too much is paid back when the session's record is settled
(`LightningSettlement.release`).

A stream pays what flowed since the last payment, each minute or each so many watt-hours, and stays one satoshi behind:
so the record makes at least the smallest payment due, and its line ends at its exact amount. A payment that fails is
tried again with the same payment hash; two minutes after the first miss the energy must stop.

Both name their payments by session, kind and number, and bind each to its terms: the invoice carries the SHA-256 of the
terms' canonical JSON. After a crash the same session goes on with the numbers of the journal.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex, to_base64, to_canonical
from ledgers.errors import LedgerError, RecordError, SettlementError
from ledgers.identity import Identity, signature_holds
from ledgers.lightning.cashier import Cashier
from ledgers.lightning.journal import Debt, DebtState, Journal
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, Rate, Till, fraction_text, whole_msat
from ledgers.ports import RecordVerifier
from ledgers.tariff import Price, Remainder, exact

SLICE_TERMS = "v2gbench.slice-terms/1.0"
STREAM_TERMS = "v2gbench.stream-terms/1.0"
SLICE_RECORD = "v2gbench.slice-record/1.0"

_DONE = {DebtState.PAID, DebtState.CANCELLED}
_BEGUN = {DebtState.NEW, DebtState.INVOICED}
_GIVEN_UP = {DebtState.CANCELLING, DebtState.CANCELLED}


class Mode(enum.StrEnum):
    """How a session is paid; the words of a station file."""

    POST_PAID = "post_paid"
    HOLD = "hold"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Tab:
    """One kind of energy of one session: who pays whom at which price, and where it is written down.

    `require_unbound` raises SettlementError once the session has become a record: what is begun after that would be
    paid on top of it.
    """

    session_id: str
    kind: str
    price: Price
    payer: str
    payee: str
    rate: Rate
    remainder: Remainder
    journal: Journal
    cashier: Cashier
    guard: threading.RLock
    require_unbound: Callable[[], None]

    def debts(self) -> list[Debt]:
        """This tab's debts, oldest first."""
        wanted = (self.session_id, self.kind)
        return [debt for debt in self.journal.debts.values() if (debt.subject, debt.kind) == wanted]

    def worth(self, energy_wh: Fraction) -> Fraction:
        """Exact msat of an energy."""
        return self.rate.msat(self.price.exact_micro(energy_wh))

    def till(self) -> Till:
        """The till as the debts of the journal leave it; what was cancelled never was."""
        lasting = [debt for debt in self.debts() if debt.state not in _GIVEN_UP]
        rest = sum((self.worth(_energy(debt)) - debt.amount_msat for debt in lasting), Fraction(0))
        return Till(self.remainder, rest)

    def debt(
        self, number: int, schema: str, energy_wh: Fraction, amount_msat: int, *, held: bool, keysend: bool
    ) -> Debt:
        """A new debt for an energy, bound to its terms."""
        terms: dict[str, Json] = {
            "schema": schema,
            "session_id": self.session_id,
            "kind": self.kind,
            "number": number,
            "energy_wh": fraction_text(energy_wh),
            "price": self.price.text,
            "price_unit": self.price.unit,
            "rate": self.rate.to_json(),
            "amount_msat": amount_msat,
        }
        return Debt.new(
            f"{self.session_id}.{self.kind}.{number}",
            subject=self.session_id,
            kind=self.kind,
            payer=self.payer,
            payee=self.payee,
            amount_msat=whole_msat(amount_msat),
            terms=terms,
            held=held,
            keysend=keysend,
        )


class HoldTab:
    """Slices of `slice_wh`, each held before it flows; made by `LightningSettlement.hold_tab`."""

    def __init__(self, tab: Tab, *, slice_wh: int | Decimal) -> None:
        self._tab = tab
        self._slice_wh = exact(slice_wh, what="slice_wh")

    def hold_next(self, energy_wh: int | Decimal | None = None) -> Debt:
        """Have the next slice's money held (`energy_wh`: thinner than the others, for the last one).

        Energy may flow when this has returned. Raises PaymentFailed, InvoiceClosed, ... when no money came; the slice
        is cancelled then. A slice that a crash left half-held is the next one. Raises SettlementError for a session
        that is bound to its record.
        """
        tab = self._tab
        with tab.guard:
            tab.require_unbound()
            for debt in tab.debts():
                if debt.decided:
                    tab.cashier.settle(debt.name)
                elif debt.state in _BEGUN:
                    return tab.cashier.hold(debt.name)
            size = self._slice_wh if energy_wh is None else exact(energy_wh, what="energy_wh")
            if not 0 < size <= self._slice_wh:
                raise SettlementError(f"a slice of {size} Wh cannot be held; slices have up to {self._slice_wh} Wh")
            amount = tab.till().take(tab.worth(size))
            if amount < SMALLEST_PAYMENT_MSAT:
                raise SettlementError(
                    f"a slice of {size} Wh is worth {amount} msat, and nothing below {SMALLEST_PAYMENT_MSAT} msat is "
                    "paid; make slices thicker"
                )
            tab.cashier.require_liquidity(tab.payer, tab.payee, amount)
            debt = tab.debt(len(tab.debts()), SLICE_TERMS, size, amount, held=True, keysend=False)
            return tab.cashier.hold(tab.journal.birth(debt).name)

    def open(self) -> tuple[Debt, ...]:
        """The slices that are held and neither settled nor cancelled, oldest first."""
        with self._tab.guard:
            return tuple(debt for debt in self._tab.debts() if debt.state not in _DONE)

    def settle(self, name: str, *, record: bytes, verify: RecordVerifier) -> Debt:
        """Take a slice's money when its signed record verifies; when it does not, give it back and raise what it said.

        The record's SHA-256 is written down before the preimage leaves.
        """
        tab = self._tab
        with tab.guard:
            debt = self._mine(name)
            if debt.state is DebtState.PAID:
                return debt
            if not debt.decided:
                try:
                    verify(record)
                except LedgerError as error:
                    tab.cashier.cancel(name, words=str(error))
                    raise
            return tab.cashier.settle(name, evidence_sha256=sha256_hex(record))

    def cancel(self, name: str) -> Debt:
        """Give a slice's money back."""
        with self._tab.guard:
            return self._tab.cashier.cancel(self._mine(name).name)

    def _mine(self, name: str) -> Debt:
        for debt in self._tab.debts():
            if debt.name == name:
                return debt
        raise SettlementError(f"there is no slice {name!r} in session {self._tab.session_id!r}")


@dataclass(frozen=True, slots=True)
class Flow:
    """Whether energy may go on flowing, and why not (or what is wrong so far)."""

    may_flow: bool
    reason: str


class StreamTab:
    """Payments for what flowed; made by `LightningSettlement.stream_tab`. Times are session seconds."""

    def __init__(
        self, tab: Tab, *, every_s: float, every_wh: int | Decimal | None, grace_s: float, keysend: bool
    ) -> None:
        if every_s <= 0 or grace_s < 0:
            raise SettlementError(f"a stream pays every {every_s} s with {grace_s} s of grace; name times above 0")
        self._tab = tab
        self._every_s = every_s
        self._every_wh = None if every_wh is None else exact(every_wh, what="every_wh")
        self._grace_s = grace_s
        self._keysend = keysend
        self._last_s: float | None = None
        self._missed_s: float | None = None
        self._trouble = ""
        self._look()

    @property
    def paid_wh(self) -> Fraction:
        """Energy that payments were made or begun for; what was cancelled never was."""
        return self._paid_wh

    def tick(self, *, now_s: float, total_wh: int | Decimal) -> Flow:
        """Tell the energy so far; pays when it is time, and says whether energy may go on.

        A payment that fails is not an exception here: it is told in the answer, tried again at the next tick, and
        stops the energy `grace_s` after the first miss. For a session that is bound to its record nothing new is begun.
        """
        if self._last_s is None:
            self._last_s = now_s
        unpaid = exact(total_wh, what="total_wh") - self.paid_wh
        thick = self._every_wh is not None and unpaid >= self._every_wh
        if self._waiting or thick or now_s - self._last_s >= self._every_s:
            self._pay(now_s, unpaid)
        return self.verdict(now_s=now_s)

    def finish(self, *, now_s: float, total_wh: int | Decimal) -> Flow:
        """Pay what is not paid yet, at the end of the session; a satoshi, and less than another, stay for `release`."""
        self._pay(now_s, exact(total_wh, what="total_wh") - self.paid_wh)
        return self.verdict(now_s=now_s)

    def give_up(self) -> None:
        """After the end: cancel what was begun and not paid, so that `release` pays it with the rest.

        Raises what a node says that is away, and SettlementError for a spontaneous payment, which nobody can cancel.
        """
        tab = self._tab
        with tab.guard:
            try:
                for debt in tab.debts():
                    if debt.state not in _DONE:
                        tab.cashier.cancel(debt.name)
            finally:
                self._look()

    def verdict(self, *, now_s: float) -> Flow:
        """Whether energy may go on flowing at this time."""
        if self._missed_s is None:
            return Flow(True, "")
        since_s = now_s - self._missed_s
        if since_s >= self._grace_s:
            return Flow(False, f"no payment for {since_s:.0f} s, {self._grace_s:.0f} s are allowed: {self._trouble}")
        return Flow(True, f"a payment was missed {since_s:.0f} s ago: {self._trouble}")

    def _pay(self, now_s: float, unpaid_wh: Fraction) -> None:
        tab = self._tab
        with tab.guard:
            try:
                for debt in tab.debts():
                    if debt.state in _BEGUN:
                        tab.cashier.pay(debt.name)
                if unpaid_wh > 0:
                    amount = tab.till().take(tab.worth(unpaid_wh)) - SMALLEST_PAYMENT_MSAT
                    if amount >= SMALLEST_PAYMENT_MSAT:
                        tab.require_unbound()
                        debt = tab.debt(
                            len(tab.debts()), STREAM_TERMS, unpaid_wh, amount, held=False, keysend=self._keysend
                        )
                        tab.cashier.pay(tab.journal.birth(debt).name)
            except SettlementError as error:
                self._trouble = str(error)
                if self._missed_s is None:
                    self._missed_s = now_s
                return
            finally:
                self._look()
            self._missed_s, self._trouble, self._last_s = None, "", now_s

    def _look(self) -> None:
        """Read from the journal what is paid and what waits: once for each payment, not in each cycle."""
        with self._tab.guard:
            lasting = [debt for debt in self._tab.debts() if debt.state not in _GIVEN_UP]
        self._paid_wh = sum((_energy(debt) for debt in lasting), Fraction(0))
        self._waiting = any(debt.state in _BEGUN for debt in lasting)


def is_streamed(debt: Debt) -> bool:
    """Whether a debt is a payment of a stream: for energy that has flowed, so it is owed whatever becomes of it."""
    return isinstance(debt.terms, Mapping) and debt.terms.get("schema") == STREAM_TERMS


def write_slice_record(debt: Debt, delivered_wh: Decimal, meter: Identity) -> bytes:
    """The signed record of a slice: the meter says what flowed under which terms (canonical JSON)."""
    unsigned = _slice_record(debt, str(delivered_wh), meter.name, meter.public_key_der)
    return to_canonical({**unsigned, "signature": to_base64(meter.sign(to_canonical(unsigned)))})


def slice_verifier(debt: Debt, meter: str, public_key_der: bytes) -> RecordVerifier:
    """A verifier for the record of this slice, signed by this meter; raises RecordError for anything else."""

    def verify(record: bytes) -> None:
        where = f"the record of slice {debt.name!r}"
        document = from_canonical(record, where=where)
        if not isinstance(document, Mapping):
            raise RecordError(f"{where} is not a JSON object")
        expected = _slice_record(debt, str(document.get("delivered_wh")), meter, public_key_der)
        signature = from_base64(str(document.get("signature")), where=f"{where}, the signature")
        if {**expected, "signature": document.get("signature")} != document:
            raise RecordError(f"{where} is for another slice or of another meter; nothing was paid")
        if not signature_holds(public_key_der, to_canonical(expected), signature):
            raise RecordError(f"{where}: the signature of {meter!r} does not hold; nothing was paid")

    return verify


def _slice_record(debt: Debt, delivered_wh: str, meter: str, public_key_der: bytes) -> dict[str, Json]:
    return {
        "schema": SLICE_RECORD,
        "terms_sha256": debt.description_hash,
        "session_id": debt.subject,
        "kind": debt.kind,
        "delivered_wh": delivered_wh,
        "signer": {"name": meter, "public_key": to_base64(public_key_der)},
    }


def _energy(debt: Debt) -> Fraction:
    if not isinstance(debt.terms, Mapping):
        raise RecordError(f"{debt.name!r} has no terms")
    return Fraction(str(debt.terms["energy_wh"]))
