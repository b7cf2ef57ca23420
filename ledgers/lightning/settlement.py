"""Settlement over Lightning: the same promise as the embedded one, kept with real nodes.

Three ways to pay for the same record. *Post-paid*: when the record verifies, an invoice is made whose description hash
is the record's SHA-256, and paid. *Hold*: the money waits at the payee's node in hold invoices, during the session one
for each slice of energy (`modes.HoldTab`), at its end one for what the record makes due on top; the preimage is given
when the signed record verifies, and the money goes back when it does not. *Stream*: every minute or kilowatt-hour is
paid as it flows (`modes.StreamTab`), and the end settles the difference.

Whatever the way, `release` brings each line of the quote to its exact amount: what was paid in advance is subtracted,
too much is paid back by the payee, and what is below one satoshi, or a fraction of a millisatoshi, is carried on to the
next session between the same two. Export is paid to the vehicle by the same code.

Who pays pays the hub's fee on top, within `fees`. The journal is written before every step; after kill -9 the same call
again, or `resume`, goes on where it was.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex
from ledgers.embedded.frames import write_atomically
from ledgers.errors import LedgerCorrupt, RecordError, SettlementError
from ledgers.identity import Identity, signature_holds
from ledgers.lightning.cashier import Cashier, Times
from ledgers.lightning.client.errors import LndError, PaymentFailed
from ledgers.lightning.client.lnd import LndClient
from ledgers.lightning.client.values import FeeLimit
from ledgers.lightning.journal import Debt, DebtState, Journal, debts_of, fresh_preimage
from ledgers.lightning.modes import HoldTab, Mode, StreamTab, Tab, is_streamed
from ledgers.lightning.pricing import (
    SMALLEST_PAYMENT_MSAT,
    Rate,
    Till,
    fraction_text,
    line_msat,
    price_of,
    whole_msat,
)
from ledgers.lightning.receipt import Due, LightningReceipt, PaidDebt
from ledgers.ports import Hold, Member, Payment, Quote, QuoteLine, RecordVerifier, Settlement, SettlementReceipt
from ledgers.quotes import LARGEST_MICRO, items_of, quote_record, read_quote
from ledgers.records import utc_text
from ledgers.tariff import Tariff

HELD = "held"

_BEGUN = {DebtState.NEW, DebtState.INVOICED}
_GIVEN_BACK = {DebtState.CANCELLING, DebtState.CANCELLED}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Pair = tuple[str, str]


class LightningSettlement:
    """One open settlement folder (`journal.log`, `lock`, `receipts/<hold>.json`) and the nodes of its accounts.

    `nodes` gives each account of the tariff its client; who made them closes them. `rate` says what a bitcoin is worth.
    Balances are what a node has in its channels, told in whole micro-euro, rounded down.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tariff: Tariff,
        rate: Rate,
        mode: Mode,
        nodes: Mapping[str, LndClient],
        identity: Identity,
        wall_utc_s: Callable[[], float],
        fees: FeeLimit | None = None,
        times: Times | None = None,
        fsync: bool = True,
    ) -> None:
        self.folder = folder
        self.tariff = tariff
        self.rate = rate
        self.mode = mode
        self._nodes = dict(nodes)
        self._identity = identity
        self._wall_utc_s = wall_utc_s
        self._guard = threading.RLock()
        self._books = _Books()
        self.fees = fees or FeeLimit()
        self._times = times or Times()
        (folder / "receipts").mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder, self._books.note, fsync=fsync)
        self._cashier = Cashier(
            self._journal,
            self._nodes,
            fees=self.fees,
            times=self._times,
            wall_unix_s=wall_utc_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The Settlement port.

    def quote(
        self,
        record_sha256: str,
        *,
        import_wh: int | Decimal,
        export_wh: int | Decimal,
        available_power_w: int | Decimal,
        available_s: int | Decimal,
    ) -> Quote:
        """Price a record under the tariff; moves nothing. Energies in Wh at the settlement meter, power in W."""
        return quote_record(
            self.tariff,
            record_sha256,
            import_wh=import_wh,
            export_wh=export_wh,
            available_power_w=available_power_w,
            available_s=available_s,
        )

    def hold(self, quote: Quote) -> Hold:
        """Set aside what is still due for a quote; the same quote again gives the same hold.

        Mode hold: the money waits at the payees' nodes. The other modes: it is made sure that it can be paid. What the
        session had decided or begun to pay while its energy flowed is finished first, because it is subtracted.
        Raises SettlementError (NotEnoughMoney, NoRoute, ...) when it cannot; nothing is held then.
        """
        with self._guard:
            self._journal.require_open()
            hold_id = quote.quote_id[:32]
            known = self._books.holds.get(hold_id)
            if known is None or known.hold.status == "cancelled":
                self._require_free(quote)
                self._finish_advances(quote.record_sha256)
                dues = self._dues(quote)
                self._require_liquidity(dues)
                debts = self._last_debts(hold_id, quote.record_sha256, dues)
                self._journal.write(
                    "hold", hold_id, {"quote": quote.to_json(), "dues": [due.to_json() for due in dues]}, debts
                )
            known = self._books.holds[hold_id]
            if known.hold.status == "held" and not known.verified:  # a verified one only wants to be paid out
                self._hold_all(hold_id)
            return self._books.holds[hold_id].hold

    def release(self, hold_id: str, *, record: bytes, verify: RecordVerifier) -> SettlementReceipt:
        """Verify the record and pay out; a record is paid once.

        Raises SettlementError for another record than the one held for, and whatever `verify` raises; then nothing has
        moved and the hold stands. When a payment fails or a node is away, calling it again goes on where it was. Held
        money that a node gives back after the record was verified is paid without a hold.
        """
        with self._guard:
            self._journal.require_open()
            hold = self._hold(hold_id).hold
            self._require_not_settled(hold.record_sha256)
            if hold.status != "held":
                raise SettlementError(f"hold {hold_id} is {hold.status}; only money that is held can be released")
            found = sha256_hex(record)
            if found != hold.record_sha256:
                raise SettlementError(
                    f"hold {hold_id} is for record {hold.record_sha256[:16]}..., not for {found[:16]}...; nothing moved"
                )
            verify(record)
            self._require_still_held(hold_id)
            if not self._hold(hold_id).verified:
                self._journal.write("verified", hold_id, {})
            return self._pay_out(hold_id)

    def cancel(self, hold_id: str) -> Hold:
        """Give held money back to the payers; raises SettlementError once a part of it was paid."""
        with self._guard:
            self._journal.require_open()
            known = self._hold(hold_id)
            if known.hold.status == "cancelled":
                return known.hold
            if known.hold.status != "held":
                raise SettlementError(f"hold {hold_id} is {known.hold.status}; it cannot be cancelled any more")
            moved = [name for name in known.debts if self._debt(name).state in {DebtState.SETTLING, DebtState.PAID}]
            if moved:
                raise SettlementError(
                    f"hold {hold_id} was paid in part ({', '.join(moved)}); release it again to finish it"
                )
            for name in known.debts:
                self._cashier.cancel(name)
            self._journal.write("cancel", hold_id, {})
            return self._hold(hold_id).hold

    def pay(self, payer: str, payee: str, amount_micro: int, *, payment_id: str, memo: str) -> Payment:
        """Pay outside any hold; the same payment again is made once.

        The amount is rounded down to whole msat, and the rest goes to what is carried between the two.
        """
        with self._guard:
            self._journal.require_open()
            self._require_payable(payer, payee, amount_micro, payment_id)
            known = self._books.payments.get(payment_id)
            if known is not None and (known.payer, known.payee, known.amount_micro, known.memo) != (
                payer,
                payee,
                amount_micro,
                memo,
            ):
                raise SettlementError(f"payment {payment_id!r} was made with other values; give this one another name")
            exact = self.rate.msat(Fraction(amount_micro))
            amount = Till().take(exact)
            terms: dict[str, Json] = {
                "schema": "v2gbench.payment-terms/1.0",
                "payment_id": payment_id,
                "payer": payer,
                "payee": payee,
                "amount_micro": amount_micro,
                "amount_msat": amount,
                "rate": self.rate.to_json(),
                "memo": memo,
            }
            if known is None:
                if amount < SMALLEST_PAYMENT_MSAT:
                    raise SettlementError(
                        f"{amount_micro} micro-euro are {amount} msat, and nothing below {SMALLEST_PAYMENT_MSAT} msat "
                        "is paid; collect more first"
                    )
                self._cashier.require_liquidity(payer, payee, amount)
                debt = Debt.new(
                    f"pay.{payment_id}",
                    subject=payment_id,
                    kind="payment",
                    payer=payer,
                    payee=payee,
                    amount_msat=whole_msat(amount),
                    terms=terms,
                )
                self._journal.write(
                    "pay",
                    payment_id,
                    {
                        "payer": payer,
                        "payee": payee,
                        "amount_micro": amount_micro,
                        "memo": memo,
                        "rest_msat": fraction_text(exact - amount),
                    },
                    [debt],
                )
            self._cashier.pay(f"pay.{payment_id}")
            return self._books.payments[payment_id]

    def refund(self, payment_id: str) -> Payment:
        """Let the payee pay a payment back; a second refund is refused."""
        with self._guard:
            self._journal.require_open()
            payment = self._books.payments.get(payment_id)
            if payment is None:
                raise SettlementError(f"there is no payment {payment_id!r} to refund")
            if payment.refunded:
                raise SettlementError(f"payment {payment_id!r} was refunded already")
            paid = self._debt(f"pay.{payment_id}")
            if paid.state is not DebtState.PAID:
                raise SettlementError(f"payment {payment_id!r} was not made; there is nothing to refund")
            name = f"refund.{payment_id}"
            if name not in self._journal.debts:
                self._cashier.require_liquidity(payment.payee, payment.payer, paid.amount_msat)
                terms: dict[str, Json] = {
                    "schema": "v2gbench.refund-terms/1.0",
                    "payment_id": payment_id,
                    "payment_hash": paid.payment_hash,
                }
                self._journal.birth(
                    Debt.new(
                        name,
                        subject=payment_id,
                        kind="payment",
                        payer=payment.payee,
                        payee=payment.payer,
                        amount_msat=paid.amount_msat,
                        terms=terms,
                    )
                )
            self._cashier.pay(name)
            self._journal.write("refund", payment_id, {})
            return self._books.payments[payment_id]

    def balance(self, account: str) -> int:
        """Micro-euro in the channels of an account's node; raises SettlementError for an account without a node."""
        with self._guard:
            msat = self._cashier.balance_msat(account)
            return int(self.rate.micro_euro(Fraction(msat)) // 1)

    # Beyond the port.

    def balances(self) -> Mapping[str, int]:
        """Micro-euro of every account, and `held`: what open holds keep at the payees' nodes."""
        with self._guard:
            held = sum(debt.amount_msat for debt in self._journal.debts.values() if debt.state is DebtState.HELD)
            found = {account: self.balance(account) for account in self._nodes}
            return dict(sorted({**found, HELD: int(self.rate.micro_euro(Fraction(held)) // 1)}.items()))

    def carried(self, payer: str, payee: str) -> Fraction:
        """Exact msat that `payer` owes `payee` from earlier sessions; negative when too much was paid."""
        with self._guard:
            return self._books.carried.get((payer, payee), Fraction(0))

    def check_liquidity(self, payer: str, payee: str, amount_msat: int) -> None:
        """Before charging starts: raise NotEnoughMoney or NoRoute when the amount could not be paid now."""
        with self._guard:
            self._cashier.require_liquidity(payer, payee, amount_msat)

    def advances(self, session_id: str) -> Mapping[str, int]:
        """What was paid in msat while a session's energy flowed, by kind."""
        paid: dict[str, int] = {}
        for debt in self.debts():
            if debt.subject == session_id and debt.state is DebtState.PAID:
                paid[debt.kind] = paid.get(debt.kind, 0) + debt.amount_msat
        return paid

    def hold_tab(self, session_id: str, kind: str, *, slice_wh: int | Decimal, times: Times | None = None) -> HoldTab:
        """Slices of a session's energy, each held before it flows; the same session again goes on where it was.

        `times`, here and in `stream_tab`: other ones than the settlement's own, for who cannot wait so long.
        """
        return HoldTab(self._tab(session_id, kind, times), slice_wh=slice_wh)

    def stream_tab(
        self,
        session_id: str,
        kind: str,
        *,
        every_s: float = 60.0,
        every_wh: int | Decimal | None = None,
        grace_s: float = 120.0,
        keysend: bool = False,
        times: Times | None = None,
    ) -> StreamTab:
        """Payments as energy flows, each minute or each `every_wh`; the same session again goes on where it was."""
        return StreamTab(
            self._tab(session_id, kind, times), every_s=every_s, every_wh=every_wh, grace_s=grace_s, keysend=keysend
        )

    def bind(self, session_id: str, record_sha256: str) -> None:
        """Say which record a session became, so that `hold` subtracts what was paid while it ran; once, before it.

        Nothing new is begun for the session after that. Raises SettlementError for another record or session than
        before, and when the record is held or settled already, because then nothing was subtracted.
        """
        with self._guard:
            known = self._books.sessions.get(record_sha256)
            if known is not None and known != session_id:
                raise SettlementError(f"record {record_sha256[:16]}... is the one of session {known!r} already")
            for other, session in self._books.sessions.items():
                if session == session_id and other != record_sha256:
                    raise SettlementError(f"session {session_id!r} became record {other[:16]}... already")
            if known is None:
                self._require_not_settled(record_sha256)
                for hold_id, held in self._books.holds.items():
                    if held.hold.record_sha256 == record_sha256 and held.hold.status == "held":
                        raise SettlementError(
                            f"hold {hold_id} does not subtract what session {session_id!r} paid; cancel it, bind the "
                            "session, and hold again"
                        )
                self._journal.write("bind", session_id, {"record_sha256": record_sha256})

    def resume(self) -> tuple[str, ...]:
        """After a crash: finish what was decided, ask for every outcome that is not known; returns what was done.

        Slices and holds whose record was verified are paid out, half-made payments and those of streams are paid,
        cancellations are carried out. What was not decided stays as it is. One that fails does not keep the others;
        the first trouble is raised at the end, with the number of all. Call it again then.
        """
        done: list[str] = []
        troubles: list[SettlementError] = []
        with self._guard:
            self._journal.require_open()
            for step, words in self._unfinished():
                try:
                    step()
                except SettlementError as error:
                    troubles.append(error)
                else:
                    done.append(words)
        if troubles:
            raise _first(troubles)
        return tuple(done)

    def debts(self) -> tuple[Debt, ...]:
        """Every debt of the journal, oldest first; does not wait for a call of another thread."""
        return tuple(self._journal.debts.copy().values())

    def receipt(self, hold_id: str) -> LightningReceipt:
        """The receipt of a released hold, read back and checked, or made now if a crash took it."""
        with self._guard:
            self._journal.require_open()
            known = self._hold(hold_id)
            if known.hold.status != "released":
                raise SettlementError(f"hold {hold_id} is {known.hold.status}; there is a receipt only after release")
            try:
                stored = self._receipt_path(hold_id).read_bytes()
            except FileNotFoundError:
                return self._write_receipt(hold_id)
            return self._read_receipt(hold_id, stored)

    def close(self) -> None:
        """Close the journal; the nodes' clients stay open. A second call does nothing."""
        with self._guard:
            self._journal.close()

    def debts_of_record(self, record_sha256: str) -> tuple[Debt, ...]:
        """The debts of every hold for a record, oldest first, also of those that were cancelled; waits for no node."""
        holds = {name for name, known in self._books.holds.copy().items() if known.hold.record_sha256 == record_sha256}
        return tuple(debt for debt in self.debts() if debt.subject in holds)

    # Private: holding.

    def _finish_advances(self, record_sha256: str) -> None:
        """Settle, cancel or pay what a record's session had decided; what ends cancelled is due with the record."""
        session = self._books.sessions.get(record_sha256)
        for debt in list(self._journal.debts.values()):
            if session is None or debt.subject != session:
                continue
            try:
                if debt.decided:
                    self._cashier.settle(debt.name)
                elif debt.state is DebtState.CANCELLING:
                    self._cashier.cancel(debt.name)
                elif is_streamed(debt) and debt.state in _BEGUN:
                    self._pay_or_cancel(debt)
            except SettlementError:
                if self._debt(debt.name).state is not DebtState.CANCELLED:
                    raise

    def _pay_or_cancel(self, debt: Debt) -> None:
        try:
            self._cashier.pay(debt.name)
        except PaymentFailed:
            if debt.keysend:  # nobody can cancel it
                raise
            self._cashier.cancel(debt.name)

    def _dues(self, quote: Quote) -> tuple[Due, ...]:
        session = self._books.sessions.get(quote.record_sha256)
        brought = dict(self._books.carried)
        found = []
        for line in quote.lines:
            rest = brought.pop((line.payer, line.payee), Fraction(0))
            found.append(self._due(line, rest, self._advance(session, line)))
        return tuple(found)

    def _due(self, line: QuoteLine, brought: Fraction, advance_msat: int) -> Due:
        exact = line_msat(line, self.rate)
        due = Till(self.tariff.remainder).take(exact + brought)
        if abs(due - advance_msat) < SMALLEST_PAYMENT_MSAT:
            due = advance_msat
        return Due(line.kind, line.payer, line.payee, exact, brought, advance_msat, due)

    def _advance(self, session: str | None, line: QuoteLine) -> int:
        if session is None:
            return 0
        mine = [debt for debt in self._journal.debts.values() if (debt.subject, debt.kind) == (session, line.kind)]
        for debt in mine:
            if debt.state not in {DebtState.PAID, DebtState.CANCELLED}:
                raise SettlementError(
                    f"{debt.name!r} of session {session!r} is {debt.state.value}; settle or cancel it before the record"
                )
        return sum(debt.amount_msat for debt in mine if debt.state is DebtState.PAID)

    def _last_debts(self, hold_id: str, record_sha256: str, dues: Sequence[Due]) -> list[Debt]:
        found = []
        number = self._books.rounds.get(hold_id, 0)
        for due in dues:
            if due.last_msat == 0:
                continue
            back = due.last_msat < 0
            found.append(
                Debt.new(
                    f"{hold_id}.{number}.{due.kind}{'.back' if back else ''}",
                    subject=hold_id,
                    kind=due.kind,
                    payer=due.payee if back else due.payer,
                    payee=due.payer if back else due.payee,
                    amount_msat=whole_msat(abs(due.last_msat)),
                    record_sha256=record_sha256,
                    held=self.mode is Mode.HOLD and not back,
                )
            )
        return found

    def _require_liquidity(self, dues: Sequence[Due]) -> None:
        for due in dues:
            if due.last_msat > 0:
                self._cashier.require_liquidity(due.payer, due.payee, due.last_msat)
            elif due.last_msat < 0:
                self._cashier.require_liquidity(due.payee, due.payer, -due.last_msat)

    def _hold_all(self, hold_id: str) -> None:
        with self._cancelled_together(hold_id):
            for name in self._books.holds[hold_id].debts:
                if self._debt(name).held:
                    self._cashier.hold(name)

    @contextmanager
    def _cancelled_together(self, hold_id: str) -> Iterator[None]:
        """When one debt of a hold was cancelled, all are; when a node is merely away, the hold stands to go on with."""
        try:
            yield
        except SettlementError:
            known = self._hold(hold_id)
            if known.hold.status == "held" and any(self._debt(name).state in _GIVEN_BACK for name in known.debts):
                self.cancel(hold_id)
            raise

    def _require_free(self, quote: Quote) -> None:
        self._require_not_settled(quote.record_sha256)
        for other in self._books.holds.values():
            if other.hold.record_sha256 == quote.record_sha256 and other.hold.status == "held":
                raise SettlementError(
                    f"record {quote.record_sha256[:16]}... is held already under another quote; cancel hold "
                    f"{other.hold.hold_id} first"
                )

    # Private: releasing.

    def _require_still_held(self, hold_id: str) -> None:
        """Before the first preimage is given: every hold must still be there, or none is settled."""
        known = self._hold(hold_id)
        if known.verified:
            return
        held = [name for name in known.debts if self._debt(name).held]
        with self._cancelled_together(hold_id):
            if not all(self._cashier.keep_held(name) for name in held):
                self.cancel(hold_id)
                raise SettlementError(f"hold {hold_id} has expired at the payee's node; nothing was paid, hold again")

    def _pay_out(self, hold_id: str) -> LightningReceipt:
        known = self._hold(hold_id)
        for name in known.debts:
            if self._debt(name).held:
                self._settle_held(name, known.hold.record_sha256)
            if not self._debt(name).held:
                self._cashier.pay(name)
        self._journal.write("release", hold_id, {"settled_utc": utc_text(self._wall_utc_s())})
        return self._write_receipt(hold_id)

    def _settle_held(self, name: str, record_sha256: str) -> None:
        """Take held money; what was given back since the record verified becomes a debt that is paid without a hold."""
        if self._debt(name).state not in _GIVEN_BACK:
            try:
                self._cashier.settle(name, evidence_sha256=record_sha256)
            except SettlementError:
                if self._debt(name).state not in _GIVEN_BACK:
                    raise
            else:
                return
        self._journal.move(name, DebtState.CANCELLING)  # cancelled once more: the old hash must be dead at both nodes
        if self._cashier.cancel(name).state is DebtState.CANCELLED:
            self._journal.move(
                name, DebtState.NEW, preimage=fresh_preimage(), payment_request="", evidence_sha256="", held=False
            )

    def _payments_of(self, known: _Known) -> tuple[PaidDebt, ...]:
        session = self._books.sessions.get(known.hold.record_sha256)
        kinds = {line.kind for line in known.hold.quote.lines}
        names = [
            debt.name
            for debt in self._journal.debts.values()
            if session is not None and debt.subject == session and debt.kind in kinds and debt.state is DebtState.PAID
        ]
        return tuple(
            PaidDebt(debt, self._nodes[debt.payer].public_key, self._nodes[debt.payee].public_key)
            for debt in (self._debt(name) for name in (*names, *known.debts))
        )

    def _receipt_path(self, hold_id: str) -> Path:
        return self.folder / "receipts" / f"{hold_id}.json"

    def _receipt_of(self, hold_id: str) -> LightningReceipt:
        known = self._hold(hold_id)
        return LightningReceipt(
            hold_id=hold_id,
            record_sha256=known.hold.record_sha256,
            quote=known.hold.quote,
            settled_utc=known.settled_utc,
            signer=Member.of(self._identity),
            signature=b"",
            mode=self.mode.value,
            network=next(iter(self._nodes.values())).access.network,
            rate=self.rate,
            dues=known.dues,
            payments=self._payments_of(known),
        )

    def _write_receipt(self, hold_id: str) -> LightningReceipt:
        unsigned = self._receipt_of(hold_id)
        receipt = replace(unsigned, signature=self._identity.sign(unsigned.signed_bytes))
        write_atomically(self._receipt_path(hold_id), receipt.to_canonical())
        return receipt

    def _read_receipt(self, hold_id: str, stored: bytes) -> LightningReceipt:
        where = str(self._receipt_path(hold_id))
        document = from_canonical(stored, where=where)
        if not isinstance(document, Mapping):
            raise RecordError(f"{where} is not a settlement receipt")
        signature = from_base64(str(document.get("signature")), where=f"{where}, the signature")
        receipt = replace(self._receipt_of(hold_id), signature=signature)
        holds = signature_holds(receipt.signer.public_key_der, receipt.signed_bytes, receipt.signature)
        if not holds or receipt.to_canonical() != stored:
            raise LedgerCorrupt(f"{where} is not the receipt that was signed for this hold; stop and keep the folder")
        return receipt

    # Private: the rest.

    def _unfinished(self) -> Iterator[tuple[Callable[[], object], str]]:
        """What is decided and not done, with the words for it when it is; first what can expire."""
        of_holds = {name for known in self._books.holds.values() for name in known.debts}
        for debt in list(self._journal.debts.values()):
            if debt.decided and debt.name not in of_holds:
                yield partial(self._cashier.settle, debt.name), f"{debt.name!r} was settled"
        for hold_id, known in list(self._books.holds.items()):
            if known.verified and known.hold.status == "held":
                yield partial(self._pay_out, hold_id), f"hold {hold_id} was paid out"
        for debt in list(self._journal.debts.values()):
            if debt.state is DebtState.CANCELLING:
                yield partial(self._cashier.cancel, debt.name), f"{debt.name!r} was cancelled"
            elif is_streamed(debt) and debt.state in _BEGUN:
                yield partial(self._cashier.pay, debt.name), f"{debt.name!r} was paid"
        for payment_id, payment in list(self._books.payments.items()):
            if self._debt(f"pay.{payment_id}").state is not DebtState.PAID:
                yield partial(self._cashier.pay, f"pay.{payment_id}"), f"payment {payment_id!r} was made"
            if not payment.refunded and f"refund.{payment_id}" in self._journal.debts:
                yield partial(self.refund, payment_id), f"payment {payment_id!r} was refunded"

    def _tab(self, session_id: str, kind: str, times: Times | None) -> Tab:
        if not _NAME.fullmatch(session_id):
            raise SettlementError(f"{session_id!r} is not a name of letters, digits, dot, dash and underscore")
        price, payer, payee = price_of(self.tariff, kind)
        return Tab(
            session_id=session_id,
            kind=kind,
            price=price,
            payer=payer,
            payee=payee,
            rate=self.rate,
            remainder=self.tariff.remainder,
            journal=self._journal,
            cashier=Cashier(
                self._journal,
                self._nodes,
                fees=self.fees,
                times=times or self._times,
                wall_unix_s=self._wall_utc_s,
            ),
            guard=self._guard,
            require_unbound=partial(self._require_unbound, session_id),
        )

    def _require_payable(self, payer: str, payee: str, amount_micro: int, payment_id: str) -> None:
        if type(amount_micro) is not int:
            raise SettlementError(f"an amount is a whole number of micro-euro, not {amount_micro!r}")
        if not 0 < amount_micro <= LARGEST_MICRO:
            raise SettlementError(f"{amount_micro} micro-euro cannot be moved; swap payer and payee for a negative one")
        for name in (payer, payee, payment_id):
            if not _NAME.fullmatch(name):
                raise SettlementError(f"{name!r} is not a name of letters, digits, dot, dash and underscore")
        if HELD in {payer, payee}:
            raise SettlementError(f"account {HELD!r} moves by hold, release and cancel only")
        if payer == payee:
            raise SettlementError(f"payer and payee are both {payer!r}")

    def _require_unbound(self, session_id: str) -> None:
        for record_sha256, session in self._books.sessions.items():
            if session == session_id:
                raise SettlementError(
                    f"session {session_id!r} became record {record_sha256[:16]}... already; what it still owes is paid "
                    "with that, nothing new is begun"
                )

    def _require_not_settled(self, record_sha256: str) -> None:
        if record_sha256 in self._books.settled:
            raise SettlementError(f"record {record_sha256[:16]}... was settled already; a record is paid once")

    def _hold(self, hold_id: str) -> _Known:
        known = self._books.holds.get(hold_id)
        if known is None:
            raise SettlementError(f"there is no hold {hold_id!r}")
        return known

    def _debt(self, name: str) -> Debt:
        return self._journal.debts[name]


@dataclass(frozen=True, slots=True)
class _Known:
    """A hold with what it comes to in msat, and the names of its debts."""

    hold: Hold
    dues: tuple[Due, ...]
    debts: tuple[str, ...]
    verified: bool = False
    settled_utc: str = ""


class _Books:
    """Holds, payments and what is carried, as the journal's lines leave them; changed by `note` alone."""

    def __init__(self) -> None:
        self.holds: dict[str, _Known] = {}
        self.rounds: dict[str, int] = {}  # how often a quote was held
        self.payments: dict[str, Payment] = {}
        self._rests: dict[str, Fraction] = {}  # what rounding a payment left to be carried
        self.settled: set[str] = set()
        self.sessions: dict[str, str] = {}
        self.carried: dict[Pair, Fraction] = {}

    def note(self, kind: str, name: str, body: Mapping[str, Json]) -> None:
        """Take a line of the journal that is no debt's."""
        if kind == "hold":
            self._note_hold(name, body)
        elif kind in {"verified", "release", "cancel"}:
            self._note_end(kind, name, body)
        elif kind == "pay":
            payer, payee, amount = str(body["payer"]), str(body["payee"]), body["amount_micro"]
            if not isinstance(amount, int):
                raise RecordError("a payment's amount is no integer")
            self.payments[name] = Payment(name, payer, payee, amount, str(body["memo"]), refunded=False)
            self._rests[name] = Fraction(str(body["rest_msat"]))
            self._carry((payer, payee), self._rests[name])
        elif kind == "refund":
            payment = self.payments[name]
            self.payments[name] = replace(payment, refunded=True)
            self._carry((payment.payer, payment.payee), -self._rests[name])
        elif kind == "bind":
            self.sessions[str(body["record_sha256"])] = name
        else:
            raise RecordError(f"unknown kind of entry {kind!r}")

    def _note_hold(self, name: str, body: Mapping[str, Json]) -> None:
        quote = read_quote(body["quote"])
        dues = tuple(_due(item) for item in items_of(body["dues"]))
        self.rounds[name] = self.rounds.get(name, 0) + 1
        debts = tuple(debt.name for debt in debts_of(body))
        self.holds[name] = _Known(Hold(name, quote.record_sha256, quote, "held"), dues, debts)
        for due in dues:  # taken along by this hold, until it is released or cancelled
            self._carry((due.payer, due.payee), -due.brought)

    def _note_end(self, kind: str, name: str, body: Mapping[str, Json]) -> None:
        known = self.holds[name]
        if kind == "verified":
            self.holds[name] = replace(known, verified=True)
            return
        status = "released" if kind == "release" else "cancelled"
        self.holds[name] = replace(
            known, hold=replace(known.hold, status=status), settled_utc=str(body.get("settled_utc", ""))
        )
        if kind == "release":
            self.settled.add(known.hold.record_sha256)
        for due in known.dues:
            self._carry((due.payer, due.payee), due.carried if kind == "release" else due.brought)

    def _carry(self, pair: Pair, msat: Fraction) -> None:
        self.carried[pair] = self.carried.get(pair, Fraction(0)) + msat


def _first(troubles: Sequence[SettlementError]) -> SettlementError:
    """The first trouble, of its own kind; says how many there were when it was not alone."""
    first = troubles[0]
    if len(troubles) == 1:
        return first
    sentence = f"{first}; {len(troubles)} payments could not be finished, this is the first"
    if isinstance(first, LndError):
        return type(first)(sentence, node=first.node, call=first.call, code=first.code, words=first.words)
    return SettlementError(sentence)


def _due(document: Json) -> Due:
    if not isinstance(document, Mapping):
        raise RecordError("a due is not a JSON object")
    advance, paid = document["advance_msat"], document["paid_msat"]
    if not isinstance(advance, int) or not isinstance(paid, int):
        raise RecordError("a due has an amount that is no integer")
    return Due(
        kind=str(document["kind"]),
        payer=str(document["payer"]),
        payee=str(document["payee"]),
        exact=Fraction(str(document["exact_msat"])),
        brought=Fraction(str(document["brought_msat"])),
        advance_msat=advance,
        paid_msat=paid,
    )


_: type[Settlement] = LightningSettlement
