"""Carries one debt from the journal through two nodes, so that any step may be repeated and none pays twice.

Plain: the payee's node makes the invoice (with the journal's preimage), the payer's node pays it. Held: the payee's
node makes a hold invoice of the hash alone, the payer's money waits there, and `settle` gives the preimage or `cancel`
gives the money back. Every step is first written down, then done; after a crash the same call looks what the nodes
know and goes on from there.

A debt gets another preimage only when the old one is dead: the payee's node has cancelled the invoice, so that it can
never take money for that hash any more, and the payer's node has given the payment up, or has no HTLC of it in any
channel. The second happens: an lnd that is killed between registering an attempt and signing it into its channel calls
the payment in flight for ever, though no money is on its way (seen with v0.21.2-beta).

The payee's node may lose money that it has accepted. lnd looks an incoming HTLC's onion up in its log of replays, tells
its invoices, and only then marks the HTLC as handled (v0.21.2-beta: processRemoteAdds in htlcswitch/link.go, PutBatch
in htlcswitch/decayedlog.go). Killed in between and started again, it takes its own entry for a replay and refuses the
HTLC: the payer has his money back, while the payee's invoice says accepted, or settled. So what the payer's node says
decides whether a debt is paid, and a debt that was lost in this way is paid again with another preimage: the payer's
payment has failed for good, and the old invoice is settled or cancelled, so that it takes no money any more.

A channel may be closed by force with money in it that is under way. Above the dust limit it is an output of its own:
the payee takes it with the preimage, or it goes back after its time lock, and until then the outcome is unknown. Below
it goes to the miner with the commitment. In the payee's channel that is the money of the node before him: the payer has
his own back and pays again. In the payer's channel it is the payer's, and his node says failed, though the payee may
be paid by the node before him all the same. So the hash is closed first: when the payee was paid, so was the debt, and
when he was not, he cannot be any more and it is paid with another preimage. Each loss is written down once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ledgers.canonical import Json
from ledgers.errors import SettlementError
from ledgers.lightning.client import wire
from ledgers.lightning.client.errors import (
    InvoiceClosed,
    LndError,
    LndExists,
    LndNotFound,
    NoRoute,
    NotEnoughMoney,
    OutcomeUnknown,
    PaymentFailed,
)
from ledgers.lightning.client.lnd import NOT_NOW, LndClient, wait_held
from ledgers.lightning.client.values import Agreed, ChannelState, FeeLimit, Invoice, InvoiceState, Payment, PaymentState
from ledgers.lightning.journal import Debt, DebtState, Journal, Lost, fresh_preimage

T = TypeVar("T")

KEYSEND_TERMS = 76_324_363
"""Custom record of a spontaneous payment: the hash of what it is for. Odd: a node that does not know it accepts."""

_BEGUN = {DebtState.NEW, DebtState.INVOICED}
_LOOK_S = 0.02
_TIMES_LOST = 3  # so often may the payee's node lose the money of one debt within one call
_DUST_MSAT = 330_000  # BOLT 3: the least dust limit for an output to a script hash (P2WSH)
_LND_DUST_MSAT = 354_000  # the limit that lnd states for its channels (lnwallet.DustLimitUnknownWitness)
_OUTPUT_MSAT = 1_000_000  # has an output up to 3.6 sat per virtual byte: 354 sat and 703 weight units (BOLT 3)
_BACK_S = 2.0  # a cancelled HTLC is back within some hundred milliseconds


@dataclass(frozen=True, slots=True)
class Times:
    """How long things may take, in seconds of the wall clock, and blocks of the chain; generous on purpose.

    `pay_s`: lnd tries routes. `resolve_s`: an unknown outcome is asked for. `hold_s`: money of a hold arrives.
    `invoice_s`: an invoice may be paid. `hold_blocks`: a hold may last before lnd gives it back by itself; 144 blocks
    are a day on a public chain. `quiet_s`: both ends of a channel take a paid HTLC out.
    """

    pay_s: int = 30
    resolve_s: float = 30.0
    hold_s: float = 30.0
    invoice_s: int = 3600
    hold_blocks: int = 144
    quiet_s: float = 5.0


class Cashier:
    """Pays, holds, settles and cancels debts between accounts that each have a node."""

    def __init__(
        self,
        journal: Journal,
        nodes: Mapping[str, LndClient],
        *,
        fees: FeeLimit,
        times: Times,
        wall_unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._nodes = nodes
        self._fees = fees
        self._times = times
        self._wall_unix_s = wall_unix_s

    def node(self, account: str) -> LndClient:
        """The node of an account, its network and version checked once; raises SettlementError for no account."""
        if account not in self._nodes:
            raise SettlementError(f"there is no account {account!r}; the nodes are of {', '.join(sorted(self._nodes))}")
        client = self._nodes[account]
        client.public_key  # noqa: B018  # asked for its check
        return client

    def balance_msat(self, account: str) -> int:
        """What an account has in its channels, held money not counted.

        A payment is known before both ends of each channel have taken its HTLC out. So a balance is read once what is
        under way is what the journal holds; when other payments go on for longer than `quiet_s`, as it is then.
        """
        client = self.node(account)
        held = [debt for debt in self._journal.debts.values() if debt.state is DebtState.HELD]
        coming = sum(debt.amount_msat for debt in held if debt.payee == account)
        going = [debt.amount_msat for debt in held if debt.payer == account]
        most = sum(amount + self._fees.msat(amount) for amount in going)
        end = time.monotonic() + self._times.quiet_s
        while True:
            found = client.balance()
            quiet = found.unsettled_local_msat == coming and sum(going) <= found.unsettled_remote_msat <= most
            if quiet or time.monotonic() >= end:
                return found.local_msat
            time.sleep(_LOOK_S)

    def require_liquidity(self, payer: str, payee: str, amount_msat: int) -> None:
        """Raise NotEnoughMoney or NoRoute when the amount cannot go from payer to payee now; nothing is sent.

        The hub's own channels are not ours to see, except by the route that the payer's node finds.
        """
        giver, taker = self.node(payer), self.node(payee)
        sending = [channel for channel in giver.channels() if channel.active]
        limit = self._fees.msat(amount_msat)
        for account, channels, able, verb in (
            (payer, sending, _can_send, "send"),
            (payee, [channel for channel in taker.channels() if channel.active], _can_receive, "receive"),
        ):
            total = sum(able(channel) for channel in channels)
            if total < amount_msat:
                raise NotEnoughMoney(
                    f"account {account!r} can {verb} {total} msat over its active channels, {amount_msat - total} too "
                    f"few for {amount_msat}; open a channel or move money first, nothing was paid",
                    node=self._nodes[account].name,
                    call="ListChannels",
                )
        # One route carries what one channel can; a larger amount goes in parts, which QueryRoutes does not plan.
        if any(_can_send(channel) >= amount_msat for channel in sending):
            _afresh(giver, lambda: giver.route(taker.public_key, amount_msat, fee_limit_msat=limit))

    def pay(self, name: str) -> Debt:
        """Pay a debt without holding; again returns it paid. Raises as `LndClient.pay` does; then it is still owed."""
        for _ in range(_TIMES_LOST):
            ended = self._end_closed(self._journal.debts[name])
            if ended is not None:
                return ended
            try:
                return self._pay(name)
            except PaymentFailed:
                debt = self._journal.debts[name]
                if self._payers_channel_closed(debt):
                    continue
                if not self._lost_by_payee(debt):
                    raise
                self._begin_anew(debt)
        return self._pay(name)

    def hold(self, name: str) -> Debt:
        """Get the payer's money held at the payee's node; again returns it held.

        Raises PaymentFailed or InvoiceClosed when no money came; the debt is cancelled then, unless its record was
        verified already: that is owed. Where a node cannot be asked, raises what it said and leaves the debt as it is:
        call again, or `cancel`.
        """
        debt = self._journal.debts[name]
        if debt.state in {DebtState.SETTLING, DebtState.PAID}:
            return debt
        if debt.state in {DebtState.CANCELLING, DebtState.CANCELLED}:
            raise SettlementError(f"{name!r} was cancelled; it is not held any more")
        payer, payee = self.node(debt.payer), self.node(debt.payee)
        if debt.state is DebtState.INVOICED:
            self._end_closed(debt)
            debt = self._journal.debts[name]
        debt, state = self._invoiced(debt)
        if state is InvoiceState.ACCEPTED and not self._whole(debt):  # found so after a crash
            debt, state = self._invoiced(self._journal.debts[name])
        if state is not InvoiceState.ACCEPTED:
            try:
                _afresh(payer, lambda: self._begin_hold(debt, payer, payee), unless=lambda: self._losses(debt))
            except LndError as error:
                final = not isinstance(error, (*NOT_NOW, OutcomeUnknown)) or isinstance(error, TimeoutError)
                if final and not debt.decided:
                    self.cancel(name, words=str(error))
                raise
        return self._journal.move(name, DebtState.HELD) if debt.state is not DebtState.HELD else debt

    def keep_held(self, name: str) -> bool:
        """Whether the payee's node holds the money of a debt now, or has taken it; what it lost is held again.

        Raises as `hold` does when the money cannot be held again.
        """
        debt = self._journal.debts[name]
        if debt.state in {DebtState.SETTLING, DebtState.PAID}:
            return True
        if debt.state is DebtState.HELD:
            state = self.node(debt.payee).lookup_invoice(debt.payment_hash).state
            if state not in {InvoiceState.ACCEPTED, InvoiceState.SETTLED}:
                return False
            try:
                if self._whole(debt):
                    return True
            except NOT_NOW:  # a payer who is away cannot take his money back; `settle` finds out if he has it already
                return True
        self.hold(name)
        return True

    def settle(self, name: str, *, evidence_sha256: str = "") -> Debt:
        """Give the preimage of a held debt: the money is the payee's. Call it only for a verified record.

        Raises InvoiceClosed when lnd has given the money back (the hold expired); the debt is cancelled then. Money
        that the payee's node lost is held again first; raises as `hold` does when that fails.
        """
        for _ in range(_TIMES_LOST):
            try:
                return self._settle(name, evidence_sha256)
            except PaymentFailed:
                debt = self._journal.debts[name]
                if debt.state is not DebtState.SETTLING:
                    raise
                ended = self._end_closed(debt)
                if ended is not None:
                    return ended
                if not self._lost_by_payee(debt):
                    raise
                self._begin_anew(self._journal.debts[name])
        return self._settle(name, evidence_sha256)

    def cancel(self, name: str, *, words: str = "") -> Debt:
        """Give the money of a debt back, or take care that it never moves; again returns it cancelled."""
        debt = self._journal.debts[name]
        if debt.state is DebtState.CANCELLED:
            return debt
        if debt.state in {DebtState.SETTLING, DebtState.PAID} or debt.decided:
            raise SettlementError(f"{name!r} is {debt.state.value}; it cannot be cancelled any more")
        if debt.state is not DebtState.CANCELLING:
            debt = self._journal.move(name, DebtState.CANCELLING, words=words)
        try:
            self.node(debt.payee).cancel_invoice(debt.payment_hash)
        except InvoiceClosed as error:
            raise self._has_the_money(debt) from error
        except LndNotFound:
            if not debt.keysend:
                return self._journal.move(name, DebtState.CANCELLED)  # the payee never had it, so nobody paid it
            if self._close_hash(debt) is InvoiceState.SETTLED:
                raise self._has_the_money(debt) from None
        self._dead(debt)
        return self._journal.move(name, DebtState.CANCELLED, lost=_to_json(self._losses(debt)))

    # Private.

    def _pay(self, name: str) -> Debt:
        debt = self._journal.debts[name]
        if debt.state is DebtState.PAID:
            return debt
        if debt.state in {DebtState.CANCELLING, DebtState.CANCELLED}:
            raise SettlementError(f"{name!r} was cancelled; it is not paid any more")
        payer, payee = self.node(debt.payer), self.node(debt.payee)
        if debt.keysend:
            return self._keysend(debt, payer, payee)
        debt, state = self._invoiced(debt)
        if state is InvoiceState.SETTLED:
            return self._paid(name, self._outcome(debt))
        try:
            payment = _afresh(
                payer,
                lambda: payer.pay(
                    debt.payment_request,
                    self._agreed(debt),
                    fee_limit_msat=self._fees.msat(debt.amount_msat),
                    timeout_s=self._times.pay_s,
                    resolve_s=self._times.resolve_s,
                ),
                unless=lambda: self._losses(debt),
            )
        except OutcomeUnknown:
            if self._tied(debt) or payee.lookup_invoice(debt.payment_hash).state is not InvoiceState.OPEN:
                raise
            self._renew(debt)
            return self._pay(name)
        return self._paid(name, payment)

    def _keysend(self, debt: Debt, payer: LndClient, payee: LndClient) -> Debt:
        """Pay without an invoice; a payment that the payer's node has lost is begun anew once nobody can take it."""
        try:
            payment = _afresh(
                payer,
                lambda: payer.keysend(
                    payee.public_key,
                    debt.amount_msat,
                    preimage=debt.preimage,
                    fee_limit_msat=self._fees.msat(debt.amount_msat),
                    records={KEYSEND_TERMS: bytes.fromhex(debt.description_hash)},
                    timeout_s=self._times.pay_s,
                    resolve_s=self._times.resolve_s,
                ),
                unless=lambda: self._losses(debt),
            )
        except OutcomeUnknown:
            if self._tied(debt) or self._close_hash(debt) is InvoiceState.SETTLED:
                raise
            self._dead(debt)
            self._journal.move(debt.name, DebtState.NEW, preimage=fresh_preimage())
            return self._pay(debt.name)
        return self._paid(debt.name, payment)

    def _settle(self, name: str, evidence_sha256: str) -> Debt:
        debt = self._journal.debts[name]
        if debt.state is DebtState.PAID:
            return debt
        if debt.state in _BEGUN and debt.decided:  # lost by the payee's node since
            debt = self.hold(name)
        if debt.state not in {DebtState.HELD, DebtState.SETTLING}:
            raise SettlementError(f"{name!r} is {debt.state.value}; only money that is held can be settled")
        payee = self.node(debt.payee)
        if debt.state is DebtState.HELD:
            self._journal.move(name, DebtState.SETTLING, evidence_sha256=debt.evidence_sha256 or evidence_sha256)
        try:
            payee.settle_invoice(debt.preimage)
        except InvoiceClosed as error:
            lost = _to_json(self._losses(debt))
            self._journal.move(name, DebtState.CANCELLED, words=str(error), lost=lost)
            raise
        return self._paid(name, self._outcome(debt))

    def _begin_hold(self, debt: Debt, payer: LndClient, payee: LndClient) -> None:
        payer.begin(
            debt.payment_request,
            self._agreed(debt),
            fee_limit_msat=self._fees.msat(debt.amount_msat),
            timeout_s=self._times.pay_s,
        )
        wait_held(payer, payee, debt.payment_hash, wait_s=self._times.hold_s)

    def _agreed(self, debt: Debt) -> Agreed:
        return Agreed(
            payment_hash=debt.payment_hash,
            amount_msat=debt.amount_msat,
            description_hash=debt.description_hash,
            payee=self.node(debt.payee).public_key,
        )

    def _invoiced(self, debt: Debt) -> tuple[Debt, InvoiceState]:
        """The debt with an invoice that can be paid, held or is settled; made, found again, or made anew."""
        invoice = self._find_or_make(debt)
        if invoice.state is InvoiceState.CANCELED or (
            invoice.state is InvoiceState.OPEN and invoice.expires_unix_s <= self._wall_unix_s()
        ):
            debt = self._renew(debt)
            invoice = self._find_or_make(debt)
        if debt.payment_request != invoice.payment_request:
            debt = self._journal.move(debt.name, DebtState.INVOICED, payment_request=invoice.payment_request)
        return debt, invoice.state

    def _find_or_make(self, debt: Debt) -> Invoice:
        payee = self.node(debt.payee)
        try:
            return payee.lookup_invoice(debt.payment_hash)
        except LndNotFound:
            pass  # not made yet
        try:
            if debt.held:
                payee.add_hold_invoice(
                    debt.amount_msat,
                    payment_hash=debt.payment_hash,
                    description_hash=debt.description_hash,
                    expiry_s=self._times.invoice_s,
                    cltv_blocks=self._times.hold_blocks,
                )
            else:
                payee.add_invoice(
                    debt.amount_msat,
                    preimage=debt.preimage,
                    description_hash=debt.description_hash,
                    expiry_s=self._times.invoice_s,
                )
        except LndExists:
            pass  # an answer was lost, the invoice was not
        return payee.lookup_invoice(debt.payment_hash)

    def _renew(self, debt: Debt) -> Debt:
        """The debt with another preimage, after the old one is dead."""
        self.node(debt.payee).cancel_invoice(debt.payment_hash)
        self._dead(debt)
        lost = _to_json(self._losses(debt))
        return self._journal.move(debt.name, DebtState.NEW, preimage=fresh_preimage(), payment_request="", lost=lost)

    def _has_the_money(self, debt: Debt) -> SettlementError:
        """What to raise when a debt to be cancelled turns out to be paid; it is on the way to that again."""
        self._journal.move(debt.name, DebtState.SETTLING if debt.held else DebtState.INVOICED)
        return SettlementError(
            f"{debt.name!r} cannot be cancelled: node {self.node(debt.payee).name!r} has its money already; release or "
            "pay again, and it is written down as paid"
        )

    def _whole(self, debt: Debt) -> bool:
        """Whether all of the money that an accepted invoice claims is under way; if not, the debt is begun anew."""
        if self._lost_by_payee(debt):
            self._begin_anew(debt)
            return False
        payment = self.node(debt.payer).track(debt.payment_hash)
        if payment.state is PaymentState.IN_FLIGHT and payment.under_way_msat < debt.amount_msat:
            self._renew(debt)  # one of several parts was lost; the others go back
            return False
        return True

    def _lost_by_payee(self, debt: Debt) -> bool:
        """Whether the payer's payment failed although the payee's invoice says accepted or settled (see above).

        Only when nodes on the way have said of every part that it failed, and none of them because of a closed channel
        other than the one to the payee: behind any other the payee may be paid all the same, now or later.
        """
        try:
            state = self.node(debt.payee).lookup_invoice(debt.payment_hash).state
            if state not in {InvoiceState.ACCEPTED, InvoiceState.SETTLED}:
                return False
            payment = self.node(debt.payer).track(debt.payment_hash)
        except LndNotFound:
            return False
        told = payment.state is PaymentState.FAILED and payment.failed > 0 and not payment.silent
        return told and all(part.at_hop and part.to_payee for part in payment.closed_on)

    def _payers_channel_closed(self, debt: Debt) -> bool:
        """Whether a part of a failed payment was in a channel of the payer that is closed now."""
        payment = self._failed(debt)
        if payment is None:
            return False
        own = {channel.channel_id for channel in self.node(debt.payer).channels()}
        return any(not part.at_hop and part.channel_id not in own for part in payment.closed_on)

    def _begin_anew(self, debt: Debt) -> Debt:
        """The debt with another preimage, after the payee's node lost its money: the old invoice is dead or is made so.

        A settled invoice takes no more money (lnd: ResultInvoiceAlreadySettled in invoices/update.go).
        """
        payee = self.node(debt.payee)
        if payee.lookup_invoice(debt.payment_hash).state is not InvoiceState.SETTLED:
            payee.cancel_invoice(debt.payment_hash)
        lost = _to_json(self._losses(debt))
        return self._journal.move(debt.name, DebtState.NEW, preimage=fresh_preimage(), payment_request="", lost=lost)

    def _losses(self, debt: Debt) -> tuple[Lost, ...]:
        """What forced closes took of a payment that failed, as far as it is not written down."""
        payment = self._failed(debt)
        return () if payment is None else self._taken(debt, payment)

    def _failed(self, debt: Debt) -> Payment | None:
        """The payment of a debt when the payer's node calls it failed."""
        if debt.state is DebtState.NEW and not debt.keysend:
            return None  # nothing was sent for this preimage
        try:
            payment = self.node(debt.payer).track(debt.payment_hash)
        except LndNotFound:
            return None
        return payment if payment.state is PaymentState.FAILED else None

    def _taken(self, debt: Debt, payment: Payment) -> tuple[Lost, ...]:
        """The parts of a payment that a forced close gave to the miner.

        lnd fails a part with its channel when the closing commitment has no output for it, and when an output came back
        over the chain after its time lock. So a part that could have come back in that way is taken for lost only if it
        is under every dust limit. What the payee had not accepted may not have been in that commitment at all; then it
        is "at most", and what would have had an output is not told.
        """
        parts = [part for part in payment.closed_on if not part.at_hop or part.to_payee]
        if not parts:
            return ()
        payer = self.node(debt.payer)
        height = payer.info().block_height
        own = {channel.channel_id for channel in payer.channels()}
        try:
            accepted = self.node(debt.payee).lookup_invoice(debt.payment_hash).paid_msat > 0
        except LndNotFound:
            accepted = False
        found = (
            Lost(
                owner=f"the node before {debt.payee}" if part.at_hop else debt.payer,
                msat=part.sent_msat,
                channel=_short_id(part.channel_id),
                payment_hash=debt.payment_hash,
                at_most=not accepted or (part.sent_msat >= _DUST_MSAT and height >= part.expiry_height),
            )
            for part in parts
            if (part.at_hop or part.channel_id not in own)
            and (height < part.expiry_height or part.sent_msat < _LND_DUST_MSAT)
            and (accepted or part.sent_msat < _OUTPUT_MSAT)
        )
        known = {(lost.channel, lost.payment_hash) for lost in debt.lost}
        return tuple(lost for lost in found if (lost.channel, lost.payment_hash) not in known)

    def _end_closed(self, debt: Debt) -> Debt | None:
        """Write down what forced closes took of a payment; the debt when it is paid all the same, else None.

        When the payer's channel was closed, that says nothing about the payee, who may be paid by the node before him
        now or later. So the hash is closed at the payee's node: settled means paid. What it cost the payer is what was
        taken from him; nothing, when his money came back over the chain after its time lock and the hub has paid.
        """
        if debt.state not in {DebtState.NEW, DebtState.INVOICED, DebtState.SETTLING}:
            return None
        lost = self._losses(debt)
        if not self._payers_channel_closed(debt):
            if not lost:
                return None
            self._journal.move(debt.name, debt.state, lost=_to_json(lost))
            return None
        taken = sum(item.msat for item in lost if item.owner == debt.payer)
        if self._close_hash(debt) is InvoiceState.SETTLED:
            fee = max(0, taken - debt.amount_msat)
            return self._journal.move(debt.name, DebtState.PAID, fee_msat=fee, lost=_to_json(lost))
        self._journal.move(debt.name, DebtState.NEW, preimage=fresh_preimage(), payment_request="", lost=_to_json(lost))
        return None

    def _close_hash(self, debt: Debt) -> InvoiceState:
        """Make sure that the payee can take nothing for a debt's hash from now on; SETTLED when he has it already.

        For a spontaneous payment the payee's node has no invoice before the money is there. It gets one that is
        cancelled at once, and lnd refuses an HTLC for a cancelled invoice, whatever it carries (invoices/update.go).
        """
        payee = self.node(debt.payee)
        try:
            payee.cancel_invoice(debt.payment_hash)
        except InvoiceClosed:
            return InvoiceState.SETTLED
        except LndNotFound:
            with contextlib.suppress(LndExists):  # the money came this very moment
                payee.add_hold_invoice(
                    debt.amount_msat,
                    payment_hash=debt.payment_hash,
                    description_hash=debt.description_hash,
                    expiry_s=self._times.invoice_s,
                    cltv_blocks=self._times.hold_blocks,
                )
            return self._close_hash(debt)
        return InvoiceState.CANCELED

    def _dead(self, debt: Debt) -> None:
        """Wait until the money of a cancelled payment is back; raises OutcomeUnknown, or says that it was paid."""
        payer = self.node(debt.payer)
        end = time.monotonic() + self._times.resolve_s
        while True:
            try:
                payment = payer.track(debt.payment_hash, wait_s=_BACK_S)
            except LndNotFound:
                return
            if payment.state is PaymentState.FAILED:
                return
            if payment.state is PaymentState.SUCCEEDED:
                raise SettlementError(f"{debt.name!r} was paid before it was cancelled; look at node {payer.name!r}")
            if not self._tied(debt):
                return
            if time.monotonic() >= end:
                raise OutcomeUnknown(
                    f"node {payer.name!r}: the money of {debt.name!r} is not back yet; the invoice is cancelled, ask "
                    f"again{self._on_chain(debt)}",
                    node=payer.name,
                    call="TrackPaymentV2",
                )

    def _tied(self, debt: Debt) -> bool:
        """Whether an HTLC of the debt is in a channel of the payer, or in one that is being closed."""
        payer = self.node(debt.payer)
        channels = payer.channels()
        if any(debt.payment_hash in channel.pending_hashes for channel in channels):
            return True
        try:
            under_way = payer.track(debt.payment_hash).under_way
        except LndNotFound:
            return False
        gone = set(under_way) - {channel.channel_id for channel in channels}
        return bool(gone and payer.closings())  # a channel that is closed for good holds nothing any more

    def _on_chain(self, debt: Debt) -> str:
        """What to do about money that waits on the chain, for the end of a sentence; empty when no channel closes."""
        for account in (debt.payer, debt.payee):
            try:
                closings = self.node(account).closings()
            except LndError:  # a node that is away has said so elsewhere; the sentence stands without this
                continue
            for closing in closings:
                what = "its closing transaction waits for a block"
                if closing.confirmed and closing.until_block:
                    what = f"it is resolved by block {closing.until_block}"
                elif closing.confirmed:
                    what = "what is left of it needs a few blocks"
                return (
                    f"; unknown, on the chain: channel {closing.point} of {account!r} is closing by force, {what}; "
                    "wait for the blocks (on regtest: mine them), then ask again"
                )
        return ""

    def _outcome(self, debt: Debt) -> Payment:
        payer = self.node(debt.payer)
        payment = payer.track(debt.payment_hash, wait_s=self._times.resolve_s)
        if payment.state is PaymentState.IN_FLIGHT:
            raise OutcomeUnknown(
                f"node {payer.name!r}: the money of {debt.name!r} is the payee's, but it does not know yet; ask again"
                f"{self._on_chain(debt)}",
                node=payer.name,
                call="TrackPaymentV2",
            )
        return wire.check_paid(
            payer.name, payment, amount_msat=debt.amount_msat, fee_limit_msat=self._fees.msat(debt.amount_msat)
        )

    def _paid(self, name: str, payment: Payment) -> Debt:
        lost = _to_json(self._taken(self._journal.debts[name], payment))
        return self._journal.move(name, DebtState.PAID, fee_msat=payment.fee_msat, lost=lost)


def _afresh(payer: LndClient, attempt: Callable[[], T], *, unless: Callable[[], object] = lambda: None) -> T:
    """An attempt to find a way, and a second one after the payer's node has forgotten what failed before.

    `unless` something must be written down first: lnd forgets the parts of a failed payment when it is sent again.

    lnd avoids a route for up to an hour after a failure on it, such as two changes of the hub's fee within a minute
    (routing: mission control). A spoke has no other route, so what was learned is of no use here.
    """
    try:
        return attempt()
    except NoRoute:
        if unless():
            raise
        payer.forget_failures()
        return attempt()


def _can_send(channel: ChannelState) -> int:
    return channel.can_send_msat


def _can_receive(channel: ChannelState) -> int:
    return channel.can_receive_msat


def _short_id(channel_id: int) -> str:
    """Block, transaction and output of a channel's funding (BOLT 7, short channel id)."""
    return f"{channel_id >> 40}x{channel_id >> 16 & 0xFFFFFF}x{channel_id & 0xFFFF}"


def _to_json(lost: Sequence[Lost]) -> list[Json]:
    return [item.to_json() for item in lost]
