"""How many channels, and how much capital, a hub with vehicles and charging points needs. No node is asked.

Vehicles and charging points are spokes of one hub (Inglese et al., "Distributed ledger technologies for electric
vehicles charging and payment operations", section IV). What a spoke must be able to send, and to receive, between two
rebalancings is counted in the worst order: everything that it pays comes before anything that it is paid, and the
other way round. A charging point that opens its own channel could pay and not be paid, so the hub opens the channels
of charging points; what a spoke must send at once is pushed to it.

A plan is the smallest that carries every order of its sessions: sessions of at most the stated amounts, at most
`sessions_per_vehicle` for each vehicle and `sessions_per_charging_point` at each charging point. One satoshi less in a
channel, and some order of them fails (except where the smallest channel, or what a network file leaves to the opener,
is larger than what is needed: `PlannedChannel.spare_sat` says so).

Parallel channels: a payment passes through one of them, so each must have room for a whole one. lnd takes any that
has. With n payments of at most X over m channels, all pass in every order when m (S - X) >= (n - 1) X, where S is what
one channel can send; for one channel that is S >= n X.

>>> demand = Demand(3, 2, SessionMoney(import_msat=224_750_000), sessions_per_vehicle=4)
>>> plan = plan_network(demand)
>>> [(channel.opener, channel.peer, channel.capacity_sat, channel.push_sat) for channel in plan.channels[2:4]]
[('hub', 'vehicle-3', 927555, 908280), ('hub', 'point-1', 1364270, 0)]
>>> plan.hub_earns_msat
14688
>>> first_refused(plan.network(), [Transfer("vehicle-1", "point-1", 224_750_000)] * 5, sat_per_vbyte=Fraction(2))
Refusal(index=4, sender='vehicle-1', receiver='hub', short_msat=224751120)
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import cast

from ledgers.canonical import Json
from ledgers.lightning.errors import NetworkRefused
from ledgers.lightning.nodes.plan import (
    ANCHORS_OPTION,
    LARGEST_CHANNEL_SAT,
    LARGEST_WUMBO_SAT,
    WUMBO_OPTION,
    ChannelPlan,
    NetworkPlan,
    NodePlan,
    Policy,
)
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, Rate
from ledgers.lightning.weights import (
    ANCHOR_SAT,
    ANCHOR_WALLET_MOST_SAT,
    ANCHOR_WALLET_SAT,
    COMMITMENT_WEIGHT,
    FUNDING_WEIGHT,
    MOST_HTLCS,
    TO_LOCAL_SWEEP_WEIGHT,
    TO_REMOTE_SWEEP_WEIGHT,
    channel_size,
    closing_weight,
    commitment_sat_per_kw,
    fee_sat,
    opener_keeps_sat,
    opener_sendable_msat,
    peer_sendable_msat,
    reserve_sat,
    sat_per_kw,
)
from ledgers.tariff import Price

HUB, AGGREGATOR = "hub", "aggregator"
_LND_POLICY = Policy()
_MOST_SPOKES = 10_000
_MOST_SESSIONS = 1_000_000
_MOST_MSAT = 21_000_000 * 10**11  # all the bitcoin there will be


class ExportPayer(enum.StrEnum):
    """Who pays a vehicle for what it gives back to the grid."""

    CHARGING_POINT = "charging_point"
    AGGREGATOR = "aggregator"  # a spoke of its own
    HUB = "hub"


class VehicleOpener(enum.StrEnum):
    """Who opens the channel of a vehicle: the hub, which sells it what is pushed, or the vehicle from its own coins."""

    HUB = "hub"
    VEHICLE = "vehicle"


@dataclass(frozen=True, slots=True)
class SessionMoney:
    """What one session moves at most, in msat: from the vehicle for import, to the vehicle for export."""

    import_msat: int
    export_msat: int = 0

    @classmethod
    def of_energy(
        cls,
        *,
        import_wh: int,
        import_price: Price,
        rate: Rate,
        export_wh: int = 0,
        export_price: Price | None = None,
    ) -> SessionMoney:
        """The amounts for energies in Wh at prices and a rate, each rounded up to a whole msat."""
        if min(import_wh, export_wh) < 0:
            raise NetworkRefused(f"a session of {import_wh} Wh and {export_wh} Wh back is none; energies are 0 or more")
        if export_wh and export_price is None:
            raise NetworkRefused(f"a session exports {export_wh} Wh and no price is stated for that; state one")
        exported = export_price.exact_micro(Fraction(export_wh)) if export_price is not None else Fraction(0)
        return cls(math.ceil(rate.msat(import_price.exact_micro(Fraction(import_wh)))), math.ceil(rate.msat(exported)))


@dataclass(frozen=True, slots=True)
class Demand:
    """What the network must carry between two rebalancings.

    `v2g_share` is the part of a vehicle's sessions, 0 to 1, in which it is paid for export as well. Without
    `sessions_per_charging_point` the sessions are spread evenly, rounded up. `sat_per_vbyte` is the fee rate on the
    chain; `in_flight` how many HTLCs wait in a channel at once (slices that are held). Raises NetworkRefused.
    """

    vehicles: int
    charging_points: int
    session: SessionMoney
    sessions_per_vehicle: int
    sessions_per_charging_point: int | None = None
    v2g_share: Fraction = Fraction(0)
    export_payer: ExportPayer = ExportPayer.CHARGING_POINT
    vehicle_opener: VehicleOpener = VehicleOpener.HUB
    hub_policy: Policy = _LND_POLICY
    sat_per_vbyte: Fraction = Fraction(2)
    in_flight: int = 1
    wumbo: bool = False

    def __post_init__(self) -> None:
        for what, value, least, most in (
            ("vehicles", self.vehicles, 1, _MOST_SPOKES),
            ("charging points", self.charging_points, 1, _MOST_SPOKES),
            ("sessions of a vehicle", self.sessions_per_vehicle, 1, _MOST_SESSIONS),
            ("sessions of a charging point", self.sessions_at_a_point, 1, _MOST_SESSIONS * _MOST_SPOKES),
            ("HTLCs in flight", self.in_flight, 1, MOST_HTLCS),
            ("sat/vB on the chain", self.sat_per_vbyte, 1, 10_000),
            ("the share of V2G", self.v2g_share, 0, 1),
            ("msat for import", self.session.import_msat, SMALLEST_PAYMENT_MSAT, _MOST_MSAT),
            ("msat for export", self.session.export_msat, 0, _MOST_MSAT),
        ):
            if not least <= value <= most:
                raise NetworkRefused(f"{what}: {value} cannot be planned for; state {least} to {most}")
        if self.v2g_share and self.session.export_msat < SMALLEST_PAYMENT_MSAT:
            raise NetworkRefused(
                f"a share of {self.v2g_share} of the sessions is V2G and export is worth {self.session.export_msat} "
                f"msat; state at least {SMALLEST_PAYMENT_MSAT} msat, or no share"
            )
        if self.session.export_msat and not self.v2g_share:
            raise NetworkRefused(
                f"export is worth {self.session.export_msat} msat and the share of V2G is 0; state the share of the "
                "sessions that export, or no export"
            )
        if self.charging_points * self.sessions_at_a_point < self.vehicles * self.sessions_per_vehicle:
            raise NetworkRefused(
                f"the vehicles make {self.vehicles * self.sessions_per_vehicle} sessions between two rebalancings and "
                f"the charging points take {self.charging_points * self.sessions_at_a_point}; raise the sessions of a "
                "charging point, or lower those of a vehicle"
            )
        if self.in_flight > 1 and self.hub_policy.min_htlc_msat > self.session.import_msat // self.in_flight:
            raise NetworkRefused(
                f"{self.in_flight} HTLCs of a session are each below the hub's min_htlc_msat of "
                f"{self.hub_policy.min_htlc_msat}; plan fewer in flight"
            )

    @property
    def sessions_at_a_point(self) -> int:
        """The most sessions at one charging point."""
        if self.sessions_per_charging_point is not None:
            return self.sessions_per_charging_point
        return -(-self.vehicles * self.sessions_per_vehicle // max(1, self.charging_points))

    @property
    def exports_per_vehicle(self) -> int:
        """In how many of its sessions a vehicle is paid for export, rounded up."""
        return math.ceil(self.v2g_share * self.sessions_per_vehicle)

    @property
    def exports_at_a_point(self) -> int:
        """The most of these that can meet at one charging point."""
        return min(self.sessions_at_a_point, self.vehicles * self.exports_per_vehicle)

    def hub_fee_msat(self, amount_msat: int) -> int:
        """What the hub asks for forwarding an amount (BOLT 7), rounded down as lnd does; nothing for nothing."""
        return forwarding_fee_msat(self.hub_policy, amount_msat) if amount_msat else 0


@dataclass(frozen=True, slots=True)
class PlannedChannel:
    """One channel: what each side must be able to send before it is paid anything, and what it can."""

    opener: str
    peer: str
    capacity_sat: int
    push_sat: int
    opener_needs_msat: int
    peer_needs_msat: int
    opener_can_send_msat: int
    peer_can_send_msat: int

    @property
    def spare_sat(self) -> int:
        """How much both sides can send beyond what they must, in whole satoshi."""
        return (
            self.opener_can_send_msat + self.peer_can_send_msat - self.opener_needs_msat - self.peer_needs_msat
        ) // 1000


@dataclass(frozen=True, slots=True)
class SpokeNeed:
    """A spoke: payments it must be able to make and to take, what they come to, and what its channels give.

    `out_until_dry` and `in_until_dry`: after so many payments made, or taken, without one the other way, the next may
    fail: then the spoke is rebalanced. Null where it makes, or takes, none.
    """

    name: str
    channels: int
    payments_out: int
    payments_in: int
    outbound_need_msat: int
    inbound_need_msat: int
    outbound_msat: int
    inbound_msat: int
    out_until_dry: int | None
    in_until_dry: int | None


@dataclass(frozen=True, slots=True)
class ChannelCost:
    """What a channel costs on the chain at the demand's fee rate, in satoshi.

    `open_sat` and `close_sat` (cooperative) are the opener's (BOLT 2; lnd). By force the opener pays the commitment and
    both anchors, and each side its own sweep; that is `force_close_sat`, all together.
    """

    open_sat: int
    close_sat: int
    force_close_sat: int


@dataclass(frozen=True, slots=True)
class CapitalPlan:
    """The channels, and what they take, give and cost.

    `hub_capital_sat` is what the hub owns in the channels when they are open; `pushed_sat` what it gave to the peers in
    them, who owe it that outside of Lightning; `pushed_to_hub_sat` the same the other way. `hub_on_chain_sat` is what
    its wallet must have before: capacities, funding fees, and what lnd keeps for anchors. `hub_earns_msat` is its fees
    of all sessions until the rebalancing.
    """

    demand: Demand
    channels: tuple[PlannedChannel, ...]
    spokes: tuple[SpokeNeed, ...]
    cost: ChannelCost
    hub_capital_sat: int
    pushed_sat: int
    pushed_to_hub_sat: int
    spokes_capital_sat: int
    hub_on_chain_sat: int
    spokes_on_chain_sat: int
    hub_earns_msat: int

    @property
    def open_sat(self) -> int:
        """Funding fees of all channels."""
        return self.cost.open_sat * len(self.channels)

    @property
    def close_sat(self) -> int:
        """Fees when all channels are closed cooperatively."""
        return self.cost.close_sat * len(self.channels)

    @property
    def force_close_sat(self) -> int:
        """Fees when all channels are closed by force."""
        return self.cost.force_close_sat * len(self.channels)

    def network(self, name: str = "planned", *, seed: int = 1) -> NetworkPlan:
        """The network of real nodes that `v2gbench nodes up` starts."""
        options = [ANCHORS_OPTION]
        if any(channel.capacity_sat > LARGEST_CHANNEL_SAT for channel in self.channels):
            options.append(WUMBO_OPTION)
        names = [HUB, *(spoke.name for spoke in self.spokes)]
        counts = Counter(end for channel in self.channels for end in (channel.opener, channel.peer))
        return NetworkPlan(
            name=name,
            nodes=tuple(
                NodePlan(
                    node,
                    policy=self.demand.hub_policy if node == HUB else _LND_POLICY,
                    on_chain_sat=anchor_wallet_sat(counts[node]),
                    options=tuple(options),
                )
                for node in names
            ),
            channels=tuple(ChannelPlan(c.opener, c.peer, c.capacity_sat, c.push_sat) for c in self.channels),
            seed=seed,
        )

    def to_json(self) -> dict[str, Json]:
        """The plan as a JSON object; fractions as text."""
        document = asdict(self)
        for key in ("v2g_share", "sat_per_vbyte"):
            document["demand"][key] = str(document["demand"][key])
        document["demand"]["sessions_per_charging_point"] = self.demand.sessions_at_a_point
        for entry, channel in zip(document["channels"], self.channels, strict=True):
            entry["spare_sat"] = channel.spare_sat
        document["fees"] = {
            "open_sat": self.open_sat,
            "close_sat": self.close_sat,
            "force_close_sat": self.force_close_sat,
        }
        return cast("dict[str, Json]", document)


def plan_network(demand: Demand) -> CapitalPlan:
    """The smallest channels that carry the demand in every order; raises NetworkRefused when none can."""
    money = demand.session
    points = [
        _Spoke(
            f"point-{number}",
            opener_is_hub=True,
            taken=_Payments(money.import_msat, demand.sessions_at_a_point),
            made=_Payments(
                money.export_msat + demand.hub_fee_msat(money.export_msat),
                demand.exports_at_a_point if demand.export_payer is ExportPayer.CHARGING_POINT else 0,
            ),
        )
        for number in range(1, demand.charging_points + 1)
    ]
    vehicles = [
        _Spoke(
            f"vehicle-{number}",
            opener_is_hub=demand.vehicle_opener is VehicleOpener.HUB,
            taken=_Payments(money.export_msat, demand.exports_per_vehicle),
            made=_Payments(money.import_msat + demand.hub_fee_msat(money.import_msat), demand.sessions_per_vehicle),
        )
        for number in range(1, demand.vehicles + 1)
    ]
    others = []
    if demand.exports_per_vehicle and demand.export_payer is ExportPayer.AGGREGATOR:
        made = _Payments(
            money.export_msat + demand.hub_fee_msat(money.export_msat), demand.vehicles * demand.exports_per_vehicle
        )
        others.append(_Spoke(AGGREGATOR, opener_is_hub=False, taken=_Payments(0, 0), made=made))
    spokes = [*vehicles, *points, *others]
    planned = {spoke.name: _channels(spoke, demand) for spoke in spokes}
    channels = tuple(channel for spoke in spokes for channel in planned[spoke.name])
    cost = channel_cost(demand.sat_per_vbyte)
    forwarded = demand.export_payer is not ExportPayer.HUB
    earned = demand.sessions_per_vehicle * demand.hub_fee_msat(money.import_msat)
    earned += demand.exports_per_vehicle * demand.hub_fee_msat(money.export_msat) if forwarded else 0
    opened = [channel for channel in channels if channel.opener == HUB]
    others_opened = [channel for channel in channels if channel.opener != HUB]
    return CapitalPlan(
        demand=demand,
        channels=channels,
        spokes=tuple(_book(spoke, planned[spoke.name]) for spoke in spokes),
        cost=cost,
        hub_capital_sat=sum(c.capacity_sat - c.push_sat for c in opened) + sum(c.push_sat for c in others_opened),
        pushed_sat=sum(c.push_sat for c in opened),
        pushed_to_hub_sat=sum(c.push_sat for c in others_opened),
        spokes_capital_sat=sum(c.push_sat for c in opened) + sum(c.capacity_sat - c.push_sat for c in others_opened),
        hub_on_chain_sat=_on_chain_sat(opened, cost) + anchor_wallet_sat(len(channels)),
        spokes_on_chain_sat=_on_chain_sat(others_opened, cost)
        + sum(anchor_wallet_sat(len(planned[spoke.name])) for spoke in spokes),
        hub_earns_msat=demand.vehicles * earned,
    )


@dataclass(frozen=True, slots=True)
class Transfer:
    """A payment of `amount_msat` from a node to another, one after the other."""

    payer: str
    payee: str
    amount_msat: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first payment that does not pass, and the side of a channel that is short of `short_msat`."""

    index: int
    sender: str
    receiver: str
    short_msat: int


def first_refused(
    network: NetworkPlan, transfers: Sequence[Transfer], *, sat_per_vbyte: Fraction, hub: str = HUB
) -> Refusal | None:
    """Which of these payments is the first that a fresh star cannot carry; None when all pass.

    For stars with one channel to each spoke. Raises NetworkRefused for another network, or for a node that it has not.
    """
    rate, policy = sat_per_kw(sat_per_vbyte), network.node(hub).policy
    sides: dict[tuple[str, str], int] = {}  # what the first can send to the second; below 0 while under its reserve
    for channel in network.channels:
        ends = (channel.opener, channel.peer)
        if hub not in ends or ends in sides or ends[::-1] in sides:
            raise NetworkRefused(f"network {network.name!r} is no star around {hub!r} with one channel to each spoke")
        kept = reserve_sat(channel.capacity_sat)
        sides[ends] = (channel.capacity_sat - channel.push_sat - kept - opener_keeps_sat(rate)) * 1000
        sides[ends[::-1]] = (channel.push_sat - kept) * 1000
    for index, transfer in enumerate(transfers):
        for node in (transfer.payer, transfer.payee):
            network.node(node)
        path = (transfer.payer, hub, transfer.payee)
        hops = [(sender, receiver) for sender, receiver in itertools.pairwise(path) if sender != receiver]
        fee_msat = forwarding_fee_msat(policy, transfer.amount_msat) if len(hops) == 2 else 0
        amounts = [transfer.amount_msat] if len(hops) == 1 else [transfer.amount_msat + fee_msat, transfer.amount_msat]
        for hop, amount_msat in zip(hops, amounts, strict=True):
            if sides[hop] < amount_msat:
                return Refusal(index, *hop, amount_msat - sides[hop])
        for hop, amount_msat in zip(hops, amounts, strict=True):
            sides[hop] -= amount_msat
            sides[hop[::-1]] += amount_msat
    return None


def channel_cost(sat_per_vbyte: Fraction) -> ChannelCost:
    """Opening and closing one channel with two sides that have money in it, without HTLCs, at a fee rate."""
    rate = sat_per_kw(sat_per_vbyte)
    return ChannelCost(
        open_sat=fee_sat(FUNDING_WEIGHT, rate),
        close_sat=fee_sat(closing_weight(2), rate),
        force_close_sat=fee_sat(COMMITMENT_WEIGHT, commitment_sat_per_kw(rate))
        + 2 * ANCHOR_SAT
        + fee_sat(TO_LOCAL_SWEEP_WEIGHT, rate)
        + fee_sat(TO_REMOTE_SWEEP_WEIGHT, rate),
    )


def forwarding_fee_msat(policy: Policy, amount_msat: int) -> int:
    """What a node asks for forwarding an amount (BOLT 7), rounded down as lnd does."""
    return policy.base_fee_msat + amount_msat * policy.fee_rate_ppm // 1_000_000


def anchor_wallet_sat(channels: int) -> int:
    """What lnd keeps in a wallet for the anchors of so many channels."""
    return min(channels * ANCHOR_WALLET_SAT, ANCHOR_WALLET_MOST_SAT)


# Private --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Payments:
    """`count` payments of at most `most_msat` each, as they pass through the spoke's channel."""

    most_msat: int
    count: int

    @property
    def total_msat(self) -> int:
        return self.most_msat * self.count

    def share_msat(self, channels: int) -> int:
        """What each of so many parallel channels must be able to send (see above)."""
        if not self.count:
            return 0
        return self.most_msat + -(-(self.count - 1) * self.most_msat // channels)

    def pass_through(self, sendable_msat: Sequence[int]) -> int:
        """How many of them pass in every order through channels that can send so much."""
        if not self.most_msat or not sendable_msat:
            return 0
        room = sum(max(0, sendable - self.most_msat) for sendable in sendable_msat)
        return room // self.most_msat + 1 if max(sendable_msat) >= self.most_msat else 0


@dataclass(frozen=True, slots=True)
class _Spoke:
    name: str
    opener_is_hub: bool
    made: _Payments  # by the spoke, through the hub
    taken: _Payments


def _channels(spoke: _Spoke, demand: Demand) -> tuple[PlannedChannel, ...]:
    most_sat = LARGEST_WUMBO_SAT if demand.wumbo else LARGEST_CHANNEL_SAT
    rate = sat_per_kw(demand.sat_per_vbyte)
    by_opener, by_peer = (spoke.taken, spoke.made) if spoke.opener_is_hub else (spoke.made, spoke.taken)

    def size(channels: int) -> tuple[int, int]:
        return channel_size(
            opener_sends_msat=by_opener.share_msat(channels),
            peer_sends_msat=by_peer.share_msat(channels),
            sat_per_kw=rate,
            in_flight=demand.in_flight,
        )

    most_channels = max(1, by_opener.count, by_peer.count)
    if size(most_channels)[0] > most_sat:
        raise NetworkRefused(
            f"one session of {spoke.name!r} needs a channel of {size(most_channels)[0]} sat, and {most_sat} is the "
            "most; pay it in slices, or allow large channels (wumbo)"
            if not demand.wumbo
            else f"one session of {spoke.name!r} needs a channel of {size(most_channels)[0]} sat, and {most_sat} is "
            "the most; pay it in slices"
        )
    count = 1
    while size(count)[0] > most_sat:
        count += 1
    capacity_sat, push_sat = size(count)
    opener, peer = (HUB, spoke.name) if spoke.opener_is_hub else (spoke.name, HUB)
    channel = PlannedChannel(
        opener=opener,
        peer=peer,
        capacity_sat=capacity_sat,
        push_sat=push_sat,
        opener_needs_msat=by_opener.share_msat(count),
        peer_needs_msat=by_peer.share_msat(count),
        opener_can_send_msat=opener_sendable_msat(capacity_sat, push_sat, rate, in_flight=demand.in_flight),
        peer_can_send_msat=peer_sendable_msat(capacity_sat, push_sat),
    )
    return (channel,) * count


def _book(spoke: _Spoke, channels: Sequence[PlannedChannel]) -> SpokeNeed:
    by_hub = [c.opener_can_send_msat if c.opener == HUB else c.peer_can_send_msat for c in channels]
    by_spoke = [c.peer_can_send_msat if c.opener == HUB else c.opener_can_send_msat for c in channels]
    return SpokeNeed(
        name=spoke.name,
        channels=len(channels),
        payments_out=spoke.made.count,
        payments_in=spoke.taken.count,
        outbound_need_msat=spoke.made.total_msat,
        inbound_need_msat=spoke.taken.total_msat,
        outbound_msat=sum(by_spoke),
        inbound_msat=sum(by_hub),
        out_until_dry=spoke.made.pass_through(by_spoke) if spoke.made.count else None,
        in_until_dry=spoke.taken.pass_through(by_hub) if spoke.taken.count else None,
    )


def _on_chain_sat(opened: Sequence[PlannedChannel], cost: ChannelCost) -> int:
    return sum(channel.capacity_sat + cost.open_sat for channel in opened)
