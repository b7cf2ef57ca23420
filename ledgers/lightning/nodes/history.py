"""What a node remembers and believes: its payments, its invoices, its balance to the msat, everybody's policies.

Asked with the node's admin macaroon, of a network of ours; a party's own client may do less
(`ledgers.lightning.client`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledgers.lightning.nodes.lnd import NodeCalls

SUCCEEDED, SETTLED = "succeeded", "settled"


@dataclass(frozen=True, slots=True)
class HopView:
    """One hop of a payment's route: the node that it leads to, what goes on from there, and what that node keeps."""

    node_key: str
    forwarded_msat: int
    fee_msat: int


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment as its payer's node keeps it; `state` is lnd's word: "in flight", "succeeded" or "failed".

    `routes` are those of the parts that arrived, or else of the last part that was tried. `reason` is lnd's name of the
    failure.
    """

    payment_hash: str
    state: str
    amount_msat: int
    fee_msat: int
    begun_unix_s: int
    reason: str
    routes: tuple[tuple[HopView, ...], ...]


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """An invoice as its payee's node keeps it; `state` is lnd's word: "open", "accepted", "settled" or "canceled"."""

    payment_hash: str
    state: str
    amount_msat: int
    paid_msat: int
    made_unix_s: int


@dataclass(frozen=True, slots=True)
class BalanceView:
    """All channels of a node together, exact to the msat; HTLCs under way are in `coming` and `going` alone."""

    own_msat: int
    other_msat: int
    coming_msat: int
    going_msat: int


@dataclass(frozen=True, slots=True)
class PolicyView:
    """What one end of a channel asks for forwarding into it."""

    channel_id: int
    node_key: str
    base_fee_msat: int
    fee_rate_ppm: int
    time_lock_delta: int


def payments(calls: NodeCalls, newest: int) -> tuple[PaymentView, ...]:
    """The newest payments that a node began, oldest of them first; those that failed are among them."""
    answer = calls.ask("ListPayments", include_incomplete=True, reversed=True, max_payments=newest)
    return tuple(_payment(payment) for payment in answer.payments)


def invoices(calls: NodeCalls, newest: int) -> tuple[InvoiceView, ...]:
    """The newest invoices of a node, oldest of them first."""
    return tuple(
        InvoiceView(
            payment_hash=bytes(invoice.r_hash).hex(),
            state=_word(invoice, "state"),
            amount_msat=int(invoice.value_msat),
            paid_msat=int(invoice.amt_paid_msat),
            made_unix_s=int(invoice.creation_date),
        )
        for invoice in calls.ask("ListInvoices", reversed=True, num_max_invoices=newest).invoices
    )


def balance(calls: NodeCalls) -> BalanceView:
    """What lies in a node's channels."""
    found = calls.ask("ChannelBalance")
    return BalanceView(
        own_msat=int(found.local_balance.msat),
        other_msat=int(found.remote_balance.msat),
        coming_msat=int(found.unsettled_local_balance.msat),
        going_msat=int(found.unsettled_remote_balance.msat),
    )


def policies(calls: NodeCalls) -> tuple[PolicyView, ...]:
    """What each end of each channel asks for forwarding, as a node knows it from gossip."""
    return tuple(
        PolicyView(
            channel_id=edge.channel_id,
            node_key=key,
            base_fee_msat=int(policy.fee_base_msat),
            fee_rate_ppm=int(policy.fee_rate_milli_msat),  # lnd's name for millionths of the amount
            time_lock_delta=int(policy.time_lock_delta),
        )
        for edge in calls.ask("DescribeGraph").edges
        for key, policy in ((edge.node1_pub, edge.node1_policy), (edge.node2_pub, edge.node2_policy))
    )


# Private --------------------------------------------------------------------------------------------------------------


def _payment(payment: Any) -> PaymentView:
    arrived = [attempt for attempt in payment.htlcs if _word(attempt, "status") == SUCCEEDED]
    return PaymentView(
        payment_hash=payment.payment_hash,
        state=_word(payment, "status"),
        amount_msat=int(payment.value_msat),
        fee_msat=int(payment.fee_msat),
        begun_unix_s=int(payment.creation_time_ns) // 1_000_000_000,
        reason=_word(payment, "failure_reason").removeprefix("failure reason ") if payment.failure_reason else "",
        routes=tuple(
            tuple(HopView(hop.pub_key, int(hop.amt_to_forward_msat), int(hop.fee_msat)) for hop in attempt.route.hops)
            for attempt in arrived or list(payment.htlcs)[-1:]
        ),
    )


def _word(message: Any, field: str) -> str:
    """A value by its name in lnd, in small letters; one that lnd gained after our messages, by its number."""
    number = getattr(message, field)
    names = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(names[number].name).lower().replace("_", " ") if number in names else f"state {number}"
