"""What a session did to its network, asked of the nodes: `settlement/network.json` of a run folder.

    before = take_snapshot(network)
    ...
    told = tell_session(network, accounts={"ev_owner": "driver"}, before=before, debts=settlement.debts())
    told.to_bytes()

Nothing is changed by looking, and nodes that do not answer are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from ledgers.lightning.costs import NetworkCosts
from ledgers.lightning.errors import LightningError
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.nodes import history
from ledgers.lightning.nodes.history import BalanceView, PaymentView, PolicyView
from ledgers.lightning.nodes.lnd import ChannelView
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.processes import wait_until
from ledgers.lightning.nodes.status import process_state
from ledgers.lightning.session_network import (
    SCHEMA,
    BalanceTold,
    ChannelCostTold,
    ChannelTold,
    CostsTold,
    HopTold,
    NetworkTold,
    NodeTold,
    PaymentTold,
    PolicyTold,
)

QUIET_S = 5.0
"""How long HTLCs may stay in channels before a snapshot is taken all the same; a paid one leaves within 0.2 s."""
NEWEST = 1000
"""How many of each node's payments are looked at."""

_ASKING_S = 120.0  # no answer of a node takes longer than its own deadline


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the nodes said at one moment; a node that did not answer is in neither mapping."""

    height: int | None
    balances: Mapping[str, BalanceView]  # node -> all its channels together
    channels: Mapping[str, tuple[ChannelView, ...]]  # node -> its channels

    @property
    def quiet(self) -> bool:
        """Whether no HTLC is in any channel."""
        return not any(view.pending_htlcs for views in self.channels.values() for view in views)


def take_snapshot(network: LightningNetwork, *, quiet_s: float = QUIET_S) -> Snapshot:
    """Ask every node what it has, once no HTLC is in any channel or `quiet_s` have passed; changes nothing."""
    found = _ask(network)
    end = time.monotonic() + quiet_s

    def quiet() -> bool:
        nonlocal found
        if not found.quiet:
            found = _ask(network)
        return found.quiet or time.monotonic() >= end

    wait_until(quiet, limit_s=quiet_s + _ASKING_S, what="the channels to be quiet", every_s=0.05)
    return found


def answers(network: LightningNetwork, name: str) -> bool:
    """Whether a node runs and is not frozen, so that asking it something is worth while."""
    return process_state(network.process_id(name)) == "running"


def tell_session(
    network: LightningNetwork,
    *,
    accounts: Mapping[str, str],
    before: Snapshot,
    debts: Sequence[Debt],
    costs: NetworkCosts | None = None,
) -> NetworkTold:
    """What the session of these debts did to the network; `accounts` gives each account the name of its node."""
    after = take_snapshot(network)
    keys = {network.address(name).public_key: name for name in network.names}
    routes = {name: _payments(network, name) for name in set(accounts.values())}
    payments = tuple(_told(debt, accounts, routes, keys) for debt in debts)
    policies = _policies(network, keys)
    of_node = {node: account for account, node in accounts.items()}
    return NetworkTold(
        schema=SCHEMA,
        name=network.plan.name,
        chain="regtest",
        height_before=before.height or 0,
        height_after=after.height,
        nodes=tuple(
            _node(name, network, of_node.get(name), policies.get(name), payments, before, after)
            for name in network.names
        ),
        channels=_channels(before, after, keys),
        payments=payments,
        costs=None if costs is None else _costs(costs),
    )


# Private --------------------------------------------------------------------------------------------------------------


def _costs(costs: NetworkCosts) -> CostsTold:
    channels = tuple(ChannelCostTold(**asdict(channel)) for channel in costs.channels)
    return CostsTold(sat_per_kw=costs.sat_per_kw, sessions=costs.sessions, channels=channels)


def _ask(network: LightningNetwork) -> Snapshot:
    balances: dict[str, BalanceView] = {}
    channels: dict[str, tuple[ChannelView, ...]] = {}
    for name in filter(partial(answers, network), network.names):
        try:
            views = network.calls(name).channels()  # before the balance: what is in no channel here is counted in it
            balance = history.balance(network.calls(name))
        except LightningError:  # it went away between two questions, so it is told as away
            continue
        balances[name], channels[name] = balance, views
    try:
        height: int | None = network.chain.height()
    except LightningError:  # the chain is down, which is a fault that plans plant
        height = None
    return Snapshot(height, balances, channels)


def _payments(network: LightningNetwork, name: str) -> Mapping[str, PaymentView]:
    if not answers(network, name):
        return {}
    try:
        return {payment.payment_hash: payment for payment in history.payments(network.calls(name), NEWEST)}
    except LightningError:  # it went away; the routes of its payments are not known then
        return {}


def _policies(network: LightningNetwork, keys: Mapping[str, str]) -> Mapping[str, PolicyView]:
    """The policy of each node on the first of its channels, as the first node that answers knows it."""
    for name in filter(partial(answers, network), network.names):
        try:
            found = history.policies(network.calls(name))
        except LightningError:  # the next one may know
            continue
        return {keys[policy.node_key]: policy for policy in reversed(found) if policy.node_key in keys}
    return {}


def _told(
    debt: Debt, accounts: Mapping[str, str], routes: Mapping[str, Mapping[str, PaymentView]], keys: Mapping[str, str]
) -> PaymentTold:
    payer, payee = accounts.get(debt.payer, debt.payer), accounts.get(debt.payee, debt.payee)
    found = routes.get(payer, {}).get(debt.payment_hash)
    told = None
    if found is not None and found.routes:
        told = tuple(
            tuple(
                HopTold(
                    node=keys.get(hop.node_key, hop.node_key),
                    forwarded_msat=hop.forwarded_msat,
                    fee_msat=hop.fee_msat,
                )
                for hop in route
            )
            for route in found.routes
        )
    return PaymentTold(
        name=debt.name,
        kind=debt.kind,
        payer=debt.payer,
        payee=debt.payee,
        payer_node=payer,
        payee_node=payee,
        payment_hash=debt.payment_hash,
        amount_msat=debt.amount_msat,
        fee_msat=debt.fee_msat if debt.state is DebtState.PAID else None,
        held=debt.held,
        state=debt.state.value,
        routes=told,
    )


def _node(
    name: str,
    network: LightningNetwork,
    account: str | None,
    policy: PolicyView | None,
    payments: Sequence[PaymentTold],
    before: Snapshot,
    after: Snapshot,
) -> NodeTold:
    paid = [payment for payment in payments if payment.state == DebtState.PAID.value]
    return NodeTold(
        name=name,
        account=account,
        public_key=network.address(name).public_key,
        state="active" if name in after.balances else "away",
        policy=None
        if policy is None
        else PolicyTold(
            base_fee_msat=policy.base_fee_msat,
            fee_rate_ppm=policy.fee_rate_ppm,
            time_lock_delta=policy.time_lock_delta,
        ),
        before_msat=before.balances[name].own_msat if name in before.balances else None,
        after_msat=after.balances[name].own_msat if name in after.balances else None,
        sent_msat=sum(payment.amount_msat for payment in paid if payment.payer_node == name),
        received_msat=sum(payment.amount_msat for payment in paid if payment.payee_node == name),
        fees_paid_msat=sum(payment.fee_msat or 0 for payment in paid if payment.payer_node == name),
        fees_earned_msat=sum(
            hop.fee_msat for payment in paid for route in payment.routes or () for hop in route if hop.node == name
        ),
    )


def _channels(before: Snapshot, after: Snapshot, keys: Mapping[str, str]) -> tuple[ChannelTold, ...]:
    points: dict[str, tuple[str, str, ChannelView]] = {}
    for snapshot in (after, before):
        for name, views in snapshot.channels.items():
            for view in views:
                peer = keys.get(view.peer_key, view.peer_key)
                ends = (name, peer) if view.is_opener else (peer, name)
                points.setdefault(view.point, (*ends, view))
    return tuple(
        ChannelTold(
            opener=opener,
            peer=peer,
            point=point,
            capacity_sat=view.capacity_sat,
            active=any(found.point == point and found.active for views in after.channels.values() for found in views),
            before=_balance(before, point, opener, peer),
            after=_balance(after, point, opener, peer),
        )
        for point, (opener, peer, view) in sorted(points.items(), key=lambda item: (item[1][0], item[1][1], item[0]))
    )


def _balance(snapshot: Snapshot, point: str, opener: str, peer: str) -> BalanceTold | None:
    views = {name: view for name in (opener, peer) for view in snapshot.channels.get(name, ()) if view.point == point}
    if not views:
        return None
    alone = next((name for name in views if len(snapshot.channels[name]) == 1), None)
    name, view = (alone, views[alone]) if alone is not None else next(iter(views.items()))
    if alone is not None:
        found = snapshot.balances[alone]
        own, other, pending = found.own_msat, found.other_msat, found.coming_msat + found.going_msat
    else:
        own, other, pending = 1000 * view.local_sat, 1000 * view.remote_sat, 0
    return BalanceTold(
        opener_msat=own if name == opener else other,
        peer_msat=other if name == opener else own,
        pending_msat=pending,
        pending_htlcs=view.pending_htlcs,
        commitment_msat=1000 * view.capacity_sat - own - other - pending,
        exact=alone is not None,
    )
