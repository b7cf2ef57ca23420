"""A synchronous client of one node: one kept channel, a deadline on every call, nothing paid twice.

The payment hash is the key of a payment. Whoever wants to pay makes the preimage, or has the payee's invoice, before
anything is sent, writes the hash down, and may then call `pay` as often as he likes: lnd refuses a hash that it has
under way or has paid, and `pay` turns that refusal, like every broken stream and every lost answer, into a question to
TrackPaymentV2. When nobody can be asked before the time is up, OutcomeUnknown says so; the money may or may not have
moved, and the next call finds out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ledgers.lightning.client import wire as w
from ledgers.lightning.client.access import NodeAccess
from ledgers.lightning.client.errors import (
    InvoiceClosed,
    LndCertificateRefused,
    LndDenied,
    LndError,
    LndLocked,
    LndNotFound,
    LndOtherVersion,
    LndTimeout,
    LndUnreachable,
    OutcomeUnknown,
)
from ledgers.lightning.client.macaroons import PERMISSIONS, ROOT_KEYS, Role
from ledgers.lightning.client.values import (
    Agreed,
    ChannelBalance,
    ChannelState,
    CircularRoute,
    Closing,
    Decoded,
    EdgePolicy,
    Invoice,
    InvoiceState,
    NodeInfo,
    Payment,
    PaymentState,
    RouteOffer,
    hash_of,
)

T = TypeVar("T")

CALL_S = 10.0
"""Deadline of an ordinary call."""
PAY_S = 30
"""How long lnd tries routes for a payment."""
RESOLVE_S = 30.0
"""How long an unknown outcome is asked for."""
REACH_S = 1.5
"""How long a node that refuses connections is knocked at; longer than gRPC's pause between attempts."""
MAX_PARTS = 16
"""Parts of one payment, lnd's own default."""

NOT_NOW = (LndUnreachable, LndTimeout, LndLocked)
"""The node may answer later."""
NOT_BEGUN = (LndDenied, LndLocked, LndOtherVersion, LndCertificateRefused)
"""Refused before lnd looked at the payment (rpcperms/interceptor.go), so there is nothing to track."""

_RETRY_S = 0.1
_ANSWER_S = 0.5  # at least so long is the last question about an outcome waited for


class LndClient:
    """One node. A context manager; `close` a second time does nothing. Threads may share it.

    `call_s` is the deadline of every ordinary call, in seconds. Nothing is sent before the first call.
    """

    def __init__(self, access: NodeAccess, *, call_s: float = CALL_S) -> None:
        access.check()
        self.access = access
        self.name = access.name
        self._call_s = call_s
        modules = w.wire()
        credentials = modules.grpc.ssl_channel_credentials(access.certificate_pem)
        self._channel = modules.grpc.secure_channel(access.address, credentials, options=w.channel_options())
        self._metadata = (("macaroon", access.macaroon_hex),)
        self._rpc_error: type[Exception] = modules.grpc.RpcError
        self._services = {
            "lightning": modules.ln_rpc.LightningStub(self._channel),
            "router": modules.router_rpc.RouterStub(self._channel),
            "invoices": modules.invoices_rpc.InvoicesStub(self._channel),
        }
        self._key = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the channel; calls that wait on it end with LndUnreachable."""
        self._channel.close()

    # Looking.

    def info(self) -> NodeInfo:
        """Who the node is, whatever network and version it says."""
        return self._ask(w.ask_info())

    def check(self) -> NodeInfo:
        """`info`, or LndOtherNetwork or LndOtherVersion when we should not deal with this node."""
        found = w.check_info(self.name, self.info(), self.access.network)
        self._key = found.public_key
        return found

    @property
    def public_key(self) -> str:
        """The node's key, asked for (and checked, see `check`) once."""
        return self._key or self.check().public_key

    def balance(self) -> ChannelBalance:
        """The sum of its channels, exact to the msat."""
        return self._ask(w.ask_balance())

    def channels(self) -> tuple[ChannelState, ...]:
        """Its open channels."""
        return self._ask(w.ask_channels())

    def closings(self) -> tuple[Closing, ...]:
        """Its channels that are being closed by force, until all that the node can get of them is its own."""
        return self._ask(w.ask_closings())

    def policies(self, channel_id: int) -> Mapping[str, EdgePolicy]:
        """What both ends of a channel ask for forwarding over it, by public key; raises LndNotFound."""
        return self._ask(w.ask_edge(channel_id))

    def decode(self, payment_request: str) -> Decoded:
        """What an invoice says; raises LndOtherNetwork for one of another network."""
        return self._ask(w.ask_decode(payment_request))

    def route(self, payee: str, amount_msat: int, *, fee_limit_msat: int) -> RouteOffer:
        """The route that the node would take now; raises NoRoute. Nothing is sent to other nodes."""
        w.check_amount(self.name, "QueryRoutes", amount_msat)
        return self._ask(w.ask_route(self.name, payee, amount_msat, fee_limit_msat=fee_limit_msat))

    # Taking.

    def add_invoice(
        self,
        amount_msat: int,
        *,
        preimage: str,
        description_hash: str,
        expiry_s: int,
        circle: CircularRoute | None = None,
    ) -> str:
        """A new invoice (BOLT 11 text); the same preimage again raises LndExists.

        With a circle it is one that the node pays to itself that way.
        """
        w.check_amount(self.name, "AddInvoice", amount_msat)
        return self._ask(
            w.ask_invoice(
                amount_msat,
                preimage=preimage,
                description_hash=description_hash,
                expiry_s=expiry_s,
                circle=circle,
            )
        )

    def add_hold_invoice(
        self, amount_msat: int, *, payment_hash: str, description_hash: str, expiry_s: int, cltv_blocks: int
    ) -> str:
        """A new hold invoice (BOLT 11 text); the same hash again raises LndExists."""
        w.check_amount(self.name, "AddHoldInvoice", amount_msat)
        return self._ask(
            w.ask_hold_invoice(
                amount_msat,
                payment_hash=payment_hash,
                description_hash=description_hash,
                expiry_s=expiry_s,
                cltv_blocks=cltv_blocks,
            )
        )

    def lookup_invoice(self, payment_hash: str) -> Invoice:
        """An invoice of this node; raises LndNotFound."""
        return self._ask(w.ask_lookup(payment_hash))

    def settle_invoice(self, preimage: str) -> None:
        """Take the money that a hold invoice holds; again is safe. Raises InvoiceClosed when none is held any more."""
        self._ask(w.ask_settle(preimage))

    def cancel_invoice(self, payment_hash: str) -> None:
        """Give back what an invoice holds; again is safe. Raises InvoiceClosed when it is settled."""
        try:
            self._ask(w.ask_cancel(payment_hash))
        except InvoiceClosed:
            if self.lookup_invoice(payment_hash).state is not InvoiceState.CANCELED:
                raise

    def invoice_updates(self, payment_hash: str, *, wait_s: float) -> Updates[Invoice]:
        """Every state of an invoice from now until it is final, over restarts of the node."""
        final = {InvoiceState.SETTLED, InvoiceState.CANCELED}
        return Updates(self, w.ask_watch(payment_hash), lambda invoice: invoice.state in final, wait_s)

    # Giving.

    def pay(
        self,
        payment_request: str,
        agreed: Agreed,
        *,
        fee_limit_msat: int,
        timeout_s: int = PAY_S,
        max_parts: int = MAX_PARTS,
        resolve_s: float = RESOLVE_S,
        circle: CircularRoute | None = None,
    ) -> Payment:
        """Pay an invoice that says exactly what was agreed; calling it again never pays twice.

        With a circle the invoice is the node's own, and the money comes back to it that way.

        Raises InvoiceRefused or LndOtherNetwork (before anything is sent), PaymentFailed (no money moved),
        OutcomeUnknown (ask again later), or what else the node said; only OutcomeUnknown leaves a doubt.
        """
        self._check_before(payment_request, agreed)
        ask = w.ask_pay(
            payment_request, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s, max_parts=max_parts, circle=circle
        )
        payment = self._send(ask, agreed.payment_hash, timeout_s=timeout_s, resolve_s=resolve_s)
        return w.check_paid(self.name, payment, amount_msat=agreed.amount_msat, fee_limit_msat=fee_limit_msat)

    def begin(
        self,
        payment_request: str,
        agreed: Agreed,
        *,
        fee_limit_msat: int,
        timeout_s: int = PAY_S,
        max_parts: int = MAX_PARTS,
    ) -> None:
        """Begin to pay a hold invoice and return once lnd has the payment; `wait_held` waits for the payee."""
        self._check_before(payment_request, agreed)
        ask = w.ask_pay(payment_request, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s, max_parts=max_parts)
        self._send(ask, agreed.payment_hash, timeout_s=timeout_s, resolve_s=self._call_s, only_begin=True)

    def keysend(
        self,
        payee: str,
        amount_msat: int,
        *,
        preimage: str,
        fee_limit_msat: int,
        records: Mapping[int, bytes] | None = None,
        timeout_s: int = PAY_S,
        resolve_s: float = RESOLVE_S,
    ) -> Payment:
        """Pay a node without an invoice; the preimage is the payer's, and the key as in `pay`.

        `records` go to the payee (types from 65536 on). Raises as `pay` does.
        """
        w.check_amount(self.name, "SendPaymentV2", amount_msat)
        ask = w.ask_keysend(
            payee,
            amount_msat,
            preimage=preimage,
            records=records or {},
            fee_limit_msat=fee_limit_msat,
            timeout_s=timeout_s,
        )
        payment = self._send(ask, hash_of(preimage), timeout_s=timeout_s, resolve_s=resolve_s)
        return w.check_paid(self.name, payment, amount_msat=amount_msat, fee_limit_msat=fee_limit_msat)

    def track(self, payment_hash: str, *, wait_s: float = 0.0, answer_s: float | None = None) -> Payment:
        """How a payment stands: final, or as it is after `wait_s` seconds; raises LndNotFound when never begun.

        `answer_s` is how long a first answer is waited for, by default `wait_s`, or a call's deadline when that is 0.
        """
        last: Payment | None = None
        updates = self.payment_updates(payment_hash, wait_s=answer_s or wait_s or self._call_s)
        end = time.monotonic() + wait_s
        try:
            for last in updates:
                if last.final or time.monotonic() >= end:
                    return last
        except LndTimeout:
            if last is None:
                raise
        finally:
            updates.cancel()
        if last is None:
            raise LndUnreachable(
                f"node {self.name!r} told nothing about the payment", node=self.name, call="TrackPaymentV2"
            )
        return last

    def payment_updates(self, payment_hash: str, *, wait_s: float) -> Updates[Payment]:
        """Every state of a payment from now until it is final, over restarts of the node."""
        return Updates(self, w.ask_track(payment_hash), lambda payment: payment.final, wait_s)

    def forget_failures(self) -> None:
        """Let the node forget which routes failed before (lnd's mission control)."""
        self._ask(w.ask_forget())

    # Rights.

    def bake(self, role: Role) -> str:
        """A macaroon (hexadecimal) that allows a role's calls only; ours must be the node's admin macaroon."""
        return self._ask(w.ask_bake(PERMISSIONS[role], ROOT_KEYS[role]))

    # Private.

    def _ask(self, ask: w.Ask[T]) -> T:
        end = time.monotonic() + REACH_S
        while True:
            try:
                return ask.read(self.call(ask, self._call_s))
            except self._rpc_error as error:
                # What never left is safe to send again; gRPC refuses calls while it waits to connect anew.
                if not w.never_sent(error) or time.monotonic() >= end:
                    raise w.error_of(self.name, ask.method, error) from error
            time.sleep(_RETRY_S)

    def call(self, ask: w.Ask[T], timeout_s: float) -> Any:
        """The raw call, for `Updates`."""
        method: Callable[..., Any] = getattr(self._services[ask.service], ask.method)
        try:
            return method(ask.request, timeout=timeout_s, metadata=self._metadata)
        except ValueError as error:  # what gRPC raises on a channel that was closed
            raise LndUnreachable(
                f"node {self.name!r}, {ask.method}: this client is closed; open it again",
                node=self.name,
                call=ask.method,
            ) from error

    def translated(self, ask: w.Ask[T], error: Exception) -> LndError | None:
        """Our error when `error` is one of gRPC's."""
        return w.error_of(self.name, ask.method, error) if isinstance(error, self._rpc_error) else None

    def _check_before(self, payment_request: str, agreed: Agreed) -> None:
        w.check_amount(self.name, "SendPaymentV2", agreed.amount_msat)
        w.check_agreed(self.name, self.decode(payment_request), agreed, now_unix_s=time.time())

    def _send(
        self, ask: w.Ask[Payment], payment_hash: str, *, timeout_s: int, resolve_s: float, only_begin: bool = False
    ) -> Payment:
        last: Payment | None = None
        call: Any = None
        try:
            call = self.call(ask, timeout_s + self._call_s)
            for message in call:
                last = ask.read(message)
                if last.final or only_begin:
                    return last
            cause: LndError = LndUnreachable(
                f"node {self.name!r}, SendPaymentV2: the stream ended early", node=self.name, call=ask.method
            )
        except self._rpc_error as error:
            cause = w.error_of(self.name, ask.method, error)
        finally:
            if call is not None:
                call.cancel()
        if isinstance(cause, NOT_BEGUN):
            raise cause
        return self._resolve(payment_hash, cause, resolve_s=resolve_s, only_begin=only_begin)

    def _resolve(self, payment_hash: str, cause: LndError, *, resolve_s: float, only_begin: bool) -> Payment:
        end = time.monotonic() + resolve_s
        while True:
            left_s = end - time.monotonic()
            try:
                payment = self.track(
                    payment_hash, wait_s=0.0 if only_begin else max(0.0, left_s), answer_s=max(_ANSWER_S, left_s)
                )
            except LndNotFound:
                raise cause from None  # lnd never began it
            except NOT_NOW as error:
                if left_s <= 0:
                    raise self._unknown(payment_hash, error) from cause
                time.sleep(_RETRY_S)
                continue
            if payment.final or only_begin:
                return payment
            if time.monotonic() >= end:
                raise self._unknown(payment_hash, cause) from cause

    def _unknown(self, payment_hash: str, last: LndError) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"node {self.name!r}: how payment {payment_hash[:16]}... ended is not known yet; ask again, it is never "
            f"paid twice ({last})",
            node=self.name,
            call="TrackPaymentV2",
            code=last.code,
            words=last.words,
        )


class Updates(Generic[T]):
    """Updates of one thing, without repetitions, over broken connections and restarts, until final or out of time.

    Iterate it once. Raises LndTimeout after `wait_s` seconds, LndNotFound and the like at once; a node that cannot be
    reached is asked again until then. `cancel`, from any thread, ends the iteration.
    """

    def __init__(self, client: LndClient, ask: w.Ask[T], final: Callable[[T], bool], wait_s: float) -> None:
        self._client = client
        self._ask = ask
        self._final = final
        self._end = time.monotonic() + wait_s
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._call: Any = None
        self._trouble: LndError | None = None

    def cancel(self) -> None:
        """End the iteration; again does nothing."""
        self._stopped.set()
        with self._guard:
            if self._call is not None:
                self._call.cancel()

    def __iter__(self) -> Iterator[T]:
        last: T | None = None
        while not self._stopped.is_set():
            left_s = self._end - time.monotonic()
            if left_s <= 0:
                raise self._late()
            try:
                with self._guard:
                    self._call = self._client.call(self._ask, left_s)
                for message in self._call:
                    value = self._ask.read(message)
                    if value != last:
                        last = value
                        yield value
                    if self._final(value):
                        return
            except Exception as error:
                found = self._client.translated(self._ask, error)
                if found is None:
                    raise
                if self._stopped.is_set():
                    return
                if not isinstance(found, NOT_NOW):
                    raise found from error
                self._trouble = found
            self._stopped.wait(_RETRY_S)

    def _late(self) -> LndTimeout:
        trouble = self._trouble
        why = "" if trouble is None else f" (lnd: {trouble.code}, {trouble.words!r})"
        return LndTimeout(
            f"node {self._client.name!r}, {self._ask.method}: what was waited for did not happen in time{why}",
            node=self._client.name,
            call=self._ask.method,
            code="" if trouble is None else trouble.code,
            words="" if trouble is None else trouble.words,
        )


def wait_held(payer: LndClient, payee: LndClient, payment_hash: str, *, wait_s: float) -> Invoice:
    """Wait until a hold invoice has its money; both ends are watched, whichever tells first.

    Raises PaymentFailed when the payer's node gave up, InvoiceClosed when the invoice was cancelled, LndTimeout.
    """
    box: queue.SimpleQueue[Invoice | Payment | LndError] = queue.SimpleQueue()
    streams: tuple[Updates[Invoice], Updates[Payment]] = (
        payee.invoice_updates(payment_hash, wait_s=wait_s),
        payer.payment_updates(payment_hash, wait_s=wait_s),
    )

    def pump(stream: Updates[Invoice] | Updates[Payment]) -> None:
        try:
            for update in stream:
                box.put(update)
        except LndError as error:
            box.put(error)

    threads = [threading.Thread(target=pump, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    try:
        return _first_held(box, payer, payee, payment_hash, time.monotonic() + wait_s)
    finally:
        for stream in streams:
            stream.cancel()
        for thread in threads:
            thread.join(timeout=2.0)


def _first_held(
    box: queue.SimpleQueue[Invoice | Payment | LndError],
    payer: LndClient,
    payee: LndClient,
    payment_hash: str,
    end: float,
) -> Invoice:
    while True:
        try:
            item = box.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise LndTimeout(
                f"node {payee.name!r}: no money arrived for hold invoice {payment_hash[:16]}... in time",
                node=payee.name,
                call="SubscribeSingleInvoice",
            ) from None
        if isinstance(item, LndError):
            raise item
        if isinstance(item, Payment):
            if item.state is PaymentState.FAILED:
                w.check_paid(payer.name, item, amount_msat=item.amount_msat, fee_limit_msat=0)
        elif item.state in {InvoiceState.ACCEPTED, InvoiceState.SETTLED}:
            return item
        elif item.state is InvoiceState.CANCELED:
            raise InvoiceClosed(
                f"node {payee.name!r}: hold invoice {payment_hash[:16]}... was cancelled; nothing was paid",
                node=payee.name,
                call="SubscribeSingleInvoice",
            )
