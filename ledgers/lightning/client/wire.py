"""lnd's messages on the wire: the only module that touches gRPC, and only when `wire()` is first called.

The compiled messages come from `lnd-grpc-client` (protos of lnd v0.16.0, wire-compatible with v0.21). Its own client is
not used: it opens a channel for each call, and turns errors into None. Importing it sets GRPC_SSL_CIPHER_SUITES for the
whole process, which would change the TLS of every other gRPC client in it; so gRPC is imported first and the variable
is put back.

What is written here are pure functions: values in, a request out; a message in, values out. The synchronous and the
asyncio client share them, and a test reads them without a node. Messages are untyped; nothing untyped leaves them.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from ledgers.lightning.client.errors import (
    DetailsRefused,
    InvoiceRefused,
    LndError,
    LndOtherNetwork,
    LndOtherVersion,
    LndRefused,
    NoRoute,
    NotEnoughMoney,
    PaymentFailed,
    PaymentTimedOut,
    lnd_error,
)
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
    LostPart,
    NodeInfo,
    Payment,
    PaymentState,
    RouteOffer,
    hash_of,
)
from ledgers.lightning.weights import COMMITMENT_WEIGHT, HTLC_WEIGHT, PLAIN_COMMITMENT_WEIGHT, fee_buffer_sat

T = TypeVar("T")

SPOKEN_VERSION = "0.21"  # of lnd; what the tests run against

_ANCHORS = 3  # lnrpc.CommitmentType: this one, and all that came after it
HINT_MSAT = 1  # by so much the hint of a circle is dearer than the channel's policy

_CIPHER_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
_KEYSEND_RECORD = 5482373484  # the preimage's record of a spontaneous payment (bLIP 3)
_INVOICE_STATES = {
    0: InvoiceState.OPEN,
    1: InvoiceState.SETTLED,
    2: InvoiceState.CANCELED,
    3: InvoiceState.ACCEPTED,
}
_PART_UNDER_WAY, _PART_SUCCEEDED, _PART_FAILED = 0, 1, 2  # lnrpc.HTLCAttempt.HTLCStatus
_CHANNEL_GONE = 21  # lnrpc.Failure.FailureCode: PERMANENT_CHANNEL_FAILURE
_PAYMENT_STATES = {2: PaymentState.SUCCEEDED, 3: PaymentState.FAILED}  # all others (0, 1, and 4 since 0.18) go on
_REASONS = {
    0: "",
    1: "FAILURE_REASON_TIMEOUT",
    2: "FAILURE_REASON_NO_ROUTE",
    3: "FAILURE_REASON_ERROR",
    4: "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS",
    5: "FAILURE_REASON_INSUFFICIENT_BALANCE",
    6: "FAILURE_REASON_CANCELED",
}
_FAILURES: Mapping[str, tuple[type[PaymentFailed], str]] = {
    "FAILURE_REASON_TIMEOUT": (PaymentTimedOut, "no route worked in time"),
    "FAILURE_REASON_NO_ROUTE": (NoRoute, "there is no route with enough money to the payee"),
    "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS": (DetailsRefused, "the payee refused the payment or cancelled it"),
    "FAILURE_REASON_INSUFFICIENT_BALANCE": (NotEnoughMoney, "the payer's channels do not carry the amount"),
}
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a restarted node is found within a second
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # the graph of a large network
    ("grpc.enable_http_proxy", 0),  # nodes are on loopback or in the lab
)


@dataclass(frozen=True, slots=True)
class Wire:
    """The imported modules: gRPC, and messages and stubs of the services that are used."""

    grpc: ModuleType
    ln: ModuleType
    ln_rpc: ModuleType
    router: ModuleType
    router_rpc: ModuleType
    invoices: ModuleType
    invoices_rpc: ModuleType
    state: ModuleType
    state_rpc: ModuleType
    unlocker: ModuleType
    unlocker_rpc: ModuleType
    walletkit: ModuleType
    walletkit_rpc: ModuleType


@functools.cache
def wire() -> Wire:
    """Import gRPC and the messages, leaving the process's environment as it was."""
    grpc = importlib.import_module("grpc")
    importlib.import_module("grpc.aio")
    before = os.environ.get(_CIPHER_VARIABLE)
    try:
        names = (
            "lightning_pb2",
            "router_pb2",
            "invoices_pb2",
            "stateservice_pb2",
            "walletunlocker_pb2",
            "walletkit_pb2",
        )
        modules = [
            importlib.import_module(f"lndgrpc.compiled.{name}{suffix}") for name in names for suffix in ("", "_grpc")
        ]
    finally:
        if before is None:
            os.environ.pop(_CIPHER_VARIABLE, None)
        else:
            os.environ[_CIPHER_VARIABLE] = before
    return Wire(grpc, *modules)


def channel_options() -> Sequence[tuple[str, int]]:
    """Options of every channel that we keep."""
    return _CHANNEL_OPTIONS


def error_of(node: str, call: str, error: Any) -> LndError:
    """Our error for gRPC's, with lnd's code and words."""
    return lnd_error(node, call, str(error.code().name), str(error.details() or ""))


def never_sent(error: Any) -> bool:
    """Whether a call ended before it left: nobody accepted the connection."""
    details = str(error.details() or "")
    return error.code().name == "UNAVAILABLE" and "failed to connect" in details and "refused" in details


# Questions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One call: service ("lightning", "router" or "invoices"), method, request, and how its answer is read."""

    service: str
    method: str
    request: Any
    read: Callable[[Any], T]


def ask_info() -> Ask[NodeInfo]:
    """Who the node is."""
    return Ask("lightning", "GetInfo", wire().ln.GetInfoRequest(), read_info)


def ask_balance() -> Ask[ChannelBalance]:
    """The sum of its channels."""
    return Ask("lightning", "ChannelBalance", wire().ln.ChannelBalanceRequest(), read_balance)


def ask_channels() -> Ask[tuple[ChannelState, ...]]:
    """Its open channels."""
    return Ask("lightning", "ListChannels", wire().ln.ListChannelsRequest(), read_channels)


def ask_closings() -> Ask[tuple[Closing, ...]]:
    """Its channels that are being closed by force."""
    return Ask("lightning", "PendingChannels", wire().ln.PendingChannelsRequest(), read_closings)


def ask_decode(payment_request: str) -> Ask[Decoded]:
    """What an invoice says."""
    return Ask("lightning", "DecodePayReq", wire().ln.PayReqString(pay_req=payment_request), read_decoded)


def ask_edge(channel_id: int) -> Ask[Mapping[str, EdgePolicy]]:
    """The policies of both ends of a channel, by public key."""
    return Ask("lightning", "GetChanInfo", wire().ln.ChanInfoRequest(chan_id=channel_id), read_edge)


def ask_invoice(
    amount_msat: int, *, preimage: str, description_hash: str, expiry_s: int, circle: CircularRoute | None = None
) -> Ask[str]:
    """A new invoice; the preimage is ours, so that the hash is known before the node is asked.

    With a circle it carries a hint of the last channel, 1 msat dearer than its policy: of several channels between two
    nodes lnd plans with the dearest (routing/unified_edges.go).
    """
    w = wire()
    hints = []
    if circle is not None:
        hop = w.ln.HopHint(
            node_id=circle.last_hop,
            chan_id=circle.incoming_channel_id,
            fee_base_msat=circle.policy.base_fee_msat + HINT_MSAT,
            fee_proportional_millionths=circle.policy.fee_rate_ppm,
            cltv_expiry_delta=circle.policy.time_lock_delta,
        )
        hints.append(w.ln.RouteHint(hop_hints=[hop]))
    request = w.ln.Invoice(
        value_msat=amount_msat,
        r_preimage=bytes.fromhex(preimage),
        description_hash=bytes.fromhex(description_hash),
        expiry=expiry_s,
        route_hints=hints,
    )
    return Ask("lightning", "AddInvoice", request, _payment_request)


def ask_hold_invoice(
    amount_msat: int, *, payment_hash: str, description_hash: str, expiry_s: int, cltv_blocks: int
) -> Ask[str]:
    """A new hold invoice: the node knows the hash alone, and the money waits until it gets the preimage."""
    request = wire().invoices.AddHoldInvoiceRequest(
        value_msat=amount_msat,
        hash=bytes.fromhex(payment_hash),
        description_hash=bytes.fromhex(description_hash),
        expiry=expiry_s,
        cltv_expiry=cltv_blocks,
    )
    return Ask("invoices", "AddHoldInvoice", request, _payment_request)


def ask_lookup(payment_hash: str) -> Ask[Invoice]:
    """An invoice of the node."""
    request = wire().invoices.LookupInvoiceMsg(payment_hash=bytes.fromhex(payment_hash))
    return Ask("invoices", "LookupInvoiceV2", request, read_invoice)


def ask_settle(preimage: str) -> Ask[None]:
    """Take the money that a hold invoice holds."""
    request = wire().invoices.SettleInvoiceMsg(preimage=bytes.fromhex(preimage))
    return Ask("invoices", "SettleInvoice", request, _nothing)


def ask_cancel(payment_hash: str) -> Ask[None]:
    """Give back what an invoice holds, and take nothing for it any more."""
    request = wire().invoices.CancelInvoiceMsg(payment_hash=bytes.fromhex(payment_hash))
    return Ask("invoices", "CancelInvoice", request, _nothing)


def ask_route(node: str, payee: str, amount_msat: int, *, fee_limit_msat: int) -> Ask[RouteOffer]:
    """A route with a fee limit, from what the node knows of balances and past failures."""
    w = wire()
    request = w.ln.QueryRoutesRequest(
        pub_key=payee,
        amt_msat=amount_msat,
        fee_limit=w.ln.FeeLimit(fixed_msat=fee_limit_msat),
        use_mission_control=True,
    )
    return Ask("lightning", "QueryRoutes", request, lambda message: read_route(node, message))


def ask_bake(permissions: Sequence[str], root_key_id: int) -> Ask[str]:
    """A macaroon that allows these calls only, in hexadecimal."""
    w = wire()
    request = w.ln.BakeMacaroonRequest(
        permissions=[w.ln.MacaroonPermission(entity="uri", action=uri) for uri in permissions],
        root_key_id=root_key_id,
    )
    return Ask("lightning", "BakeMacaroon", request, lambda message: str(message.macaroon))


def ask_pay(
    payment_request: str, *, fee_limit_msat: int, timeout_s: int, max_parts: int, circle: CircularRoute | None = None
) -> Ask[Payment]:
    """Pay an invoice, in up to `max_parts` parts (MPP), or our own on a circle; answered by a stream.

    lnd goes on paying when the stream is cut, because the request is not cancelable.
    """
    way: dict[str, object] = {}
    if circle is not None:
        way = {
            "outgoing_chan_ids": [circle.outgoing_channel_id],
            "last_hop_pubkey": bytes.fromhex(circle.last_hop),
            "allow_self_payment": True,
        }
    request = wire().router.SendPaymentRequest(
        **way,
        payment_request=payment_request,
        fee_limit_msat=fee_limit_msat,
        timeout_seconds=timeout_s,
        max_parts=max_parts,
    )
    return Ask("router", "SendPaymentV2", request, read_payment)


def ask_keysend(
    payee: str,
    amount_msat: int,
    *,
    preimage: str,
    records: Mapping[int, bytes],
    fee_limit_msat: int,
    timeout_s: int,
) -> Ask[Payment]:
    """Pay without an invoice: the payer chooses the preimage and sends it along, in one part (bLIP 3)."""
    request = wire().router.SendPaymentRequest(
        dest=bytes.fromhex(payee),
        amt_msat=amount_msat,
        payment_hash=bytes.fromhex(hash_of(preimage)),
        dest_custom_records={**records, _KEYSEND_RECORD: bytes.fromhex(preimage)},
        fee_limit_msat=fee_limit_msat,
        timeout_seconds=timeout_s,
        dest_features=[9],  # TLV_ONION_OPT: the payee takes records
    )
    return Ask("router", "SendPaymentV2", request, read_payment)


def ask_forget() -> Ask[None]:
    """Forget which routes failed before."""
    return Ask("router", "ResetMissionControl", wire().router.ResetMissionControlRequest(), _nothing)


def ask_track(payment_hash: str) -> Ask[Payment]:
    """How a payment stands, and every change until it is final; answered by a stream."""
    request = wire().router.TrackPaymentRequest(payment_hash=bytes.fromhex(payment_hash))
    return Ask("router", "TrackPaymentV2", request, read_payment)


def ask_watch(payment_hash: str) -> Ask[Invoice]:
    """How an invoice stands, and every change; answered by a stream that does not end by itself."""
    request = wire().invoices.SubscribeSingleInvoiceRequest(r_hash=bytes.fromhex(payment_hash))
    return Ask("invoices", "SubscribeSingleInvoice", request, read_invoice)


def _payment_request(message: Any) -> str:
    return str(message.payment_request)


def _nothing(_message: Any) -> None:
    return None


# Answers ----------------------------------------------------------------------------------------------------------


def read_info(message: Any) -> NodeInfo:
    """GetInfo's answer."""
    return NodeInfo(
        alias=message.alias,
        public_key=message.identity_pubkey,
        version=message.version,
        network=message.chains[0].network if message.chains else "",
        block_height=message.block_height,
        synced_to_chain=message.synced_to_chain,
        synced_to_graph=message.synced_to_graph,
        active_channels=message.num_active_channels,
    )


def check_info(node: str, info: NodeInfo, network: str) -> NodeInfo:
    """`info`, when the node is on our network and runs the lnd that we speak to; LndOtherNetwork, LndOtherVersion."""
    if info.network != network:
        raise LndOtherNetwork(
            f"node {node!r} is on network {info.network!r}, not on {network!r}; nothing was asked of it",
            node=node,
            call="GetInfo",
        )
    if not info.version.startswith(f"{SPOKEN_VERSION}."):
        raise LndOtherVersion(
            f"node {node!r} runs lnd {info.version or 'of no version'}; this client speaks to {SPOKEN_VERSION} only, "
            "nothing was asked of it",
            node=node,
            call="GetInfo",
        )
    return info


def read_channels(message: Any) -> tuple[ChannelState, ...]:
    """ListChannels' answer."""
    return tuple(_channel(channel) for channel in message.channels)


def _channel(message: Any) -> ChannelState:
    local, remote = int(message.local_balance) * 1000, int(message.remote_balance) * 1000
    reserve, peer_reserve = (
        int(side.chan_reserve_sat) * 1000 for side in (message.local_constraints, message.remote_constraints)
    )
    weight = COMMITMENT_WEIGHT if message.commitment_type >= _ANCHORS else PLAIN_COMMITMENT_WEIGHT
    weight += len(message.pending_htlcs) * HTLC_WEIGHT  # lnd tells the weight as signed, and counts with this one
    buffer = (fee_buffer_sat(weight, message.fee_per_kw) - int(message.commit_fee)) * 1000
    return ChannelState(
        channel_id=message.chan_id,
        peer=message.remote_pubkey,
        active=message.active,
        capacity_msat=message.capacity * 1000,
        local_msat=local,
        remote_msat=remote,
        unsettled_msat=message.unsettled_balance * 1000,
        commit_fee_msat=message.commit_fee * 1000,
        initiator=message.initiator,
        can_send_msat=max(0, local - reserve - (max(0, buffer) if message.initiator else 0)),
        can_receive_msat=max(0, remote - peer_reserve - (0 if message.initiator else max(0, buffer))),
        pending_hashes=tuple(htlc.hash_lock.hex() for htlc in message.pending_htlcs),
        point=message.channel_point,
        pushed_msat=int(message.push_amount_sat) * 1000,
    )


def read_edge(message: Any) -> Mapping[str, EdgePolicy]:
    """GetChanInfo's answer; an end that has not told its policy yet is left out."""
    ends = ((message.node1_pub, "node1_policy"), (message.node2_pub, "node2_policy"))
    return {
        str(key): EdgePolicy(
            base_fee_msat=getattr(message, name).fee_base_msat,
            fee_rate_ppm=getattr(message, name).fee_rate_milli_msat,
            time_lock_delta=getattr(message, name).time_lock_delta,
            disabled=getattr(message, name).disabled,
        )
        for key, name in ends
        if message.HasField(name)
    }


def read_balance(message: Any) -> ChannelBalance:
    """ChannelBalance's answer."""
    return ChannelBalance(
        local_msat=message.local_balance.msat,
        remote_msat=message.remote_balance.msat,
        unsettled_local_msat=message.unsettled_local_balance.msat,
        unsettled_remote_msat=message.unsettled_remote_balance.msat,
    )


def read_invoice(message: Any) -> Invoice:
    """An invoice of the payee's node."""
    return Invoice(
        payment_hash=message.r_hash.hex(),
        payment_request=message.payment_request,
        amount_msat=message.value_msat,
        description_hash=message.description_hash.hex(),
        state=_INVOICE_STATES[message.state],
        paid_msat=message.amt_paid_msat,
        preimage=message.r_preimage.hex(),
        expires_unix_s=message.creation_date + message.expiry,
    )


def read_decoded(message: Any) -> Decoded:
    """DecodePayReq's answer."""
    return Decoded(
        payment_hash=message.payment_hash,
        amount_msat=message.num_msat,
        description_hash=message.description_hash,
        payee=message.destination,
        created_unix_s=message.timestamp,
        expiry_s=message.expiry,
    )


def read_payment(message: Any) -> Payment:
    """A payment of the payer's node; one that succeeded is worth what its parts brought, and lnd may lose a part."""
    brought = [part.route for part in message.htlcs if part.status == _PART_SUCCEEDED]
    succeeded = message.status == 2
    return Payment(
        payment_hash=message.payment_hash,
        state=_PAYMENT_STATES.get(message.status, PaymentState.IN_FLIGHT),
        amount_msat=(
            sum(route.total_amt_msat - route.total_fees_msat for route in brought) if succeeded else message.value_msat
        ),
        fee_msat=message.fee_msat,
        preimage=message.payment_preimage if succeeded else "",
        reason=_REASONS.get(message.failure_reason, f"FAILURE_REASON_{message.failure_reason}"),
        parts=len(brought),
        under_way=tuple(
            part.route.hops[0].chan_id for part in message.htlcs if part.status == _PART_UNDER_WAY and part.route.hops
        ),
        under_way_msat=sum(
            part.route.total_amt_msat - part.route.total_fees_msat
            for part in message.htlcs
            if part.status == _PART_UNDER_WAY
        ),
        failed=sum(part.status == _PART_FAILED and part.HasField("failure") for part in message.htlcs),
        silent=sum(part.status == _PART_FAILED and not part.HasField("failure") for part in message.htlcs),
        closed_on=tuple(
            _lost_part(part.route, part.failure.failure_source_index)
            for part in message.htlcs
            if part.HasField("failure")
            and part.failure.code == _CHANNEL_GONE
            and part.failure.failure_source_index < len(part.route.hops)
        ),
    )


def _lost_part(route: Any, at_hop: int) -> LostPart:
    """What left the node `at_hop`: the amount of that hop, and the fees of the nodes after it."""
    hops = route.hops
    amount, sent = hops[-1].amt_to_forward_msat, hops[at_hop].amt_to_forward_msat + hops[at_hop].fee_msat
    return LostPart(
        at_hop=at_hop,
        channel_id=hops[at_hop].chan_id,
        sent_msat=sent,
        fee_msat=sent - amount,
        to_payee=at_hop == len(hops) - 1,
        expiry_height=hops[at_hop - 1].expiry if at_hop else route.total_time_lock,
    )


def read_closings(message: Any) -> tuple[Closing, ...]:
    """PendingChannels' answer, of channels closed by force."""
    waiting = [
        Closing(item.channel.channel_point, confirmed=False, htlcs_sat=(), until_block=0)
        for item in message.waiting_close_channels
    ]
    return (
        *waiting,
        *(
            Closing(
                point=item.channel.channel_point,
                confirmed=True,
                htlcs_sat=tuple(htlc.amount for htlc in item.pending_htlcs),
                until_block=max((htlc.maturity_height for htlc in item.pending_htlcs), default=0),
            )
            for item in message.pending_force_closing_channels
        ),
    )


def read_route(node: str, message: Any) -> RouteOffer:
    """QueryRoutes' answer; NoRoute when it offers none."""
    if not message.routes:
        raise NoRoute(f"node {node!r} offers no route to the payee; nothing was paid", node=node, call="QueryRoutes")
    route = message.routes[0]
    return RouteOffer(
        amount_msat=route.total_amt_msat - route.total_fees_msat, fee_msat=route.total_fees_msat, hops=len(route.hops)
    )


# Judgements -------------------------------------------------------------------------------------------------------


def check_amount(node: str, call: str, amount_msat: int) -> None:
    """Raise InvoiceRefused for an amount that is not a positive whole number of msat."""
    if type(amount_msat) is not int or amount_msat <= 0:  # a bool or a float is a mistake of the caller
        raise InvoiceRefused(
            f"node {node!r}, {call}: {amount_msat!r} is no amount to pay; it must be a whole number of msat above 0, "
            "nothing was paid",
            node=node,
            call=call,
        )


def check_agreed(node: str, found: Decoded, agreed: Agreed, *, now_unix_s: float) -> None:
    """Raise InvoiceRefused unless the invoice is the agreed one, to the msat, and has not expired."""
    for what, said, wanted in (
        ("record", found.description_hash, agreed.description_hash),
        ("amount in msat", found.amount_msat, agreed.amount_msat),
        ("payment hash", found.payment_hash, agreed.payment_hash),
        ("payee", found.payee, agreed.payee),
    ):
        if said != wanted:
            raise InvoiceRefused(
                f"node {node!r}: the invoice is for another {what} ({said or 'none'}, agreed was {wanted}); "
                "nothing was paid",
                node=node,
                call="DecodePayReq",
            )
    if found.created_unix_s + found.expiry_s <= now_unix_s:
        raise InvoiceRefused(
            f"node {node!r}: the invoice expired {now_unix_s - found.created_unix_s - found.expiry_s:.0f} s ago; make "
            "another, nothing was paid",
            node=node,
            call="DecodePayReq",
        )


def check_paid(node: str, payment: Payment, *, amount_msat: int, fee_limit_msat: int) -> Payment:
    """`payment` when it succeeded as agreed; PaymentFailed with lnd's reason when it failed.

    Raises LndRefused when the node claims success without the preimage, for another amount, or above the fee limit.
    """
    if payment.state is PaymentState.FAILED:
        kind, why = _FAILURES.get(payment.reason, (PaymentFailed, "the payment failed"))
        raise kind(
            f"node {node!r}: {why}; nothing was paid (lnd: {payment.reason})",
            node=node,
            call="SendPaymentV2",
            words=payment.reason,
        )
    problem = ""
    if hash_of(payment.preimage) != payment.payment_hash:
        problem = "its preimage is not the one of the payment hash"
    elif payment.amount_msat != amount_msat:
        problem = f"it paid {payment.amount_msat} msat instead of {amount_msat}"
    elif payment.fee_msat > fee_limit_msat:
        problem = f"it paid a fee of {payment.fee_msat} msat, {fee_limit_msat} was the limit"
    if problem:
        raise LndRefused(
            f"node {node!r} says that payment {payment.payment_hash[:16]}... succeeded, but {problem}; keep the "
            "journal and look at the node",
            node=node,
            call="SendPaymentV2",
        )
    return payment
