"""The client for asyncio programs: the same questions, answers and judgements as `lnd`, on `grpc.aio`.

It looks, takes and pays; what waits on two nodes at once (`wait_held`) is asyncio's own business. The promise of `pay`
is the same: the payment hash is the key, a broken stream becomes a question, nothing is paid twice.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self, TypeVar

from ledgers.lightning.client import wire as w
from ledgers.lightning.client.access import NodeAccess
from ledgers.lightning.client.errors import LndError, LndNotFound, LndTimeout, LndUnreachable, OutcomeUnknown
from ledgers.lightning.client.lnd import CALL_S, MAX_PARTS, NOT_BEGUN, NOT_NOW, PAY_S, REACH_S, RESOLVE_S
from ledgers.lightning.client.values import Agreed, ChannelBalance, Decoded, Invoice, NodeInfo, Payment

T = TypeVar("T")

_RETRY_S = 0.1


class AsyncLndClient:
    """One node, on the running loop. An async context manager."""

    def __init__(self, access: NodeAccess, *, call_s: float = CALL_S) -> None:
        access.check()
        self.access = access
        self.name = access.name
        self._call_s = call_s
        modules = w.wire()
        credentials = modules.grpc.ssl_channel_credentials(access.certificate_pem)
        self._channel = modules.grpc.aio.secure_channel(access.address, credentials, options=w.channel_options())
        self._metadata = (("macaroon", access.macaroon_hex),)
        self._rpc_error: type[Exception] = modules.grpc.RpcError
        self._services = {
            "lightning": modules.ln_rpc.LightningStub(self._channel),
            "router": modules.router_rpc.RouterStub(self._channel),
            "invoices": modules.invoices_rpc.InvoicesStub(self._channel),
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the channel."""
        await self._channel.close()

    async def check(self) -> NodeInfo:
        """Who the node is; raises LndOtherNetwork or LndOtherVersion when we should not deal with it."""
        return w.check_info(self.name, await self._ask(w.ask_info()), self.access.network)

    async def balance(self) -> ChannelBalance:
        """The sum of its channels, exact to the msat."""
        return await self._ask(w.ask_balance())

    async def decode(self, payment_request: str) -> Decoded:
        """What an invoice says."""
        return await self._ask(w.ask_decode(payment_request))

    async def add_invoice(self, amount_msat: int, *, preimage: str, description_hash: str, expiry_s: int) -> str:
        """A new invoice (BOLT 11 text)."""
        w.check_amount(self.name, "AddInvoice", amount_msat)
        return await self._ask(
            w.ask_invoice(amount_msat, preimage=preimage, description_hash=description_hash, expiry_s=expiry_s)
        )

    async def lookup_invoice(self, payment_hash: str) -> Invoice:
        """An invoice of this node; raises LndNotFound."""
        return await self._ask(w.ask_lookup(payment_hash))

    async def settle_invoice(self, preimage: str) -> None:
        """Take the money that a hold invoice holds."""
        await self._ask(w.ask_settle(preimage))

    async def cancel_invoice(self, payment_hash: str) -> None:
        """Give back what an invoice holds."""
        await self._ask(w.ask_cancel(payment_hash))

    async def pay(
        self,
        payment_request: str,
        agreed: Agreed,
        *,
        fee_limit_msat: int,
        timeout_s: int = PAY_S,
        max_parts: int = MAX_PARTS,
        resolve_s: float = RESOLVE_S,
    ) -> Payment:
        """Pay an invoice that says exactly what was agreed; raises as `LndClient.pay` does."""
        w.check_amount(self.name, "SendPaymentV2", agreed.amount_msat)
        w.check_agreed(self.name, await self.decode(payment_request), agreed, now_unix_s=time.time())
        ask = w.ask_pay(payment_request, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s, max_parts=max_parts)
        payment = await self._outcome(ask, timeout_s + self._call_s)
        if isinstance(payment, LndError):
            if isinstance(payment, NOT_BEGUN):
                raise payment
            payment = await self._resolve(agreed.payment_hash, payment, resolve_s)
        return w.check_paid(self.name, payment, amount_msat=agreed.amount_msat, fee_limit_msat=fee_limit_msat)

    async def track(self, payment_hash: str, *, wait_s: float = 0.0) -> Payment:
        """How a payment stands: final, or as it is after `wait_s` seconds; raises LndNotFound when never begun."""
        found = await self._outcome(w.ask_track(payment_hash), max(wait_s, self._call_s), wait_s=wait_s)
        if isinstance(found, LndError):
            raise found
        return found

    async def _ask(self, ask: w.Ask[T]) -> T:
        end = time.monotonic() + REACH_S
        while True:
            try:
                answer = await getattr(self._services[ask.service], ask.method)(
                    ask.request, timeout=self._call_s, metadata=self._metadata
                )
                return ask.read(answer)
            except self._rpc_error as error:
                if not w.never_sent(error) or time.monotonic() >= end:
                    raise w.error_of(self.name, ask.method, error) from error
            await asyncio.sleep(_RETRY_S)

    async def _outcome(
        self, ask: w.Ask[Payment], timeout_s: float, *, wait_s: float | None = None
    ) -> Payment | LndError:
        """The final payment of a stream (or as it stands after `wait_s`), or why there is none."""
        end = None if wait_s is None else time.monotonic() + wait_s
        call: Any = getattr(self._services[ask.service], ask.method)(
            ask.request, timeout=timeout_s, metadata=self._metadata
        )
        last: Payment | None = None
        try:
            async for message in call:
                last = ask.read(message)
                if last.final or (end is not None and time.monotonic() >= end):
                    return last
        except self._rpc_error as error:
            found = w.error_of(self.name, ask.method, error)
            return last if isinstance(found, LndTimeout) and last is not None and end is not None else found
        finally:
            call.cancel()
        return LndUnreachable(
            f"node {self.name!r}, {ask.method}: the stream ended early", node=self.name, call=ask.method
        )

    async def _resolve(self, payment_hash: str, cause: LndError, resolve_s: float) -> Payment:
        end = time.monotonic() + resolve_s
        last: LndError = cause
        while True:
            left_s = end - time.monotonic()
            try:
                payment = await self.track(payment_hash, wait_s=max(0.0, left_s))
            except LndNotFound:
                raise cause from None
            except NOT_NOW as error:
                last = error
            else:
                if payment.final:
                    return payment
            if left_s <= 0:
                raise OutcomeUnknown(
                    f"node {self.name!r}: how payment {payment_hash[:16]}... ended is not known yet; ask again, it is "
                    f"never paid twice ({last})",
                    node=self.name,
                    call="TrackPaymentV2",
                    code=last.code,
                    words=last.words,
                ) from cause
            await asyncio.sleep(_RETRY_S)
