"""Every satoshi that was minted, found again: with the miner, in wallets, in channels, on its way, or as a fee.

Two books are kept, and both must balance. On the *chain* every coin that nobody has spent belongs to the miner, to a
node's wallet, to the funding of a channel, or to a channel that closes; a coin that is none of these is named. In the
*channels* each node's commitments must come to the capacities:

    capacity = own side + peer's side + HTLCs under way + commitment fee + anchors        (BOLT 3)

to the millisatoshi, where the commitment fee is not what lnd says (it says what the outputs leave), but fee rate times
weight. What an HTLC under the dust limit, or a part of a satoshi, gave to the miner when its channel was closed by
force is *lost to fees*, and told with its owner as far as that can be known: an owner with one channel is known to the
millisatoshi, and then so is his peer.

    network.close_channel("hub", "van", force=True)
    print(audit(network))
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from ledgers.canonical import Json
from ledgers.lightning.errors import NodeFailed
from ledgers.lightning.nodes.chain import ChainBooks
from ledgers.lightning.nodes.lnd import Books, ChannelView
from ledgers.lightning.nodes.processes import log_tail

if TYPE_CHECKING:
    from ledgers.lightning.nodes.faults import ForcedClose
    from ledgers.lightning.nodes.network import LightningNetwork

ANCHOR_SAT = 330  # BOLT 3: each of the two anchors, paid by the opener
COMMITMENT_WEIGHT = {False: 724, True: 1124}  # BOLT 3: without and with anchors
HTLC_WEIGHT = 172  # BOLT 3: each HTLC that has an output
TIMEOUT_WEIGHT, SUCCESS_WEIGHT = 663, 703  # BOLT 3: what takes an HTLC back, or with its preimage, without anchors

_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Owner:
    """What one node owns, in msat; `under_way_msat` has left it in an HTLC and may come back."""

    name: str
    wallet_msat: int
    channels_msat: int
    under_way_msat: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What a forced close gave to the miner on top of the commitment's own fee, in msat.

    `owner` is a node's name, or "not known" when neither end has this channel alone, or the state that was closed is
    not the one that was seen before.
    """

    channel: str
    owner: str
    msat: int
    what: str

    def __str__(self) -> str:
        return f"lost to fees: {self.msat} msat of {self.owner}, channel {self.channel} ({self.what})"


@dataclass(frozen=True, slots=True)
class NetworkAudit:
    """Where everything is, in msat. `difference_msat` is 0, or `problems` says what does not fit.

    `minted_msat` is what blocks created; the other members but `fees_msat`, `losses` and `problems` add up to it.
    `miner_msat` is the miner's own, without the fees that nodes paid (`fees_msat`, in blocks; `waiting_fees_msat`, in
    the mempool). `opening_msat` and `closing_msat` are channels on their way onto the chain and off it.
    """

    height: int
    minted_msat: int
    miner_msat: int
    fees_msat: int
    waiting_fees_msat: int
    owners: tuple[Owner, ...]
    commitment_fees_msat: int
    anchors_msat: int
    opening_msat: int
    closing_msat: int
    difference_msat: int
    losses: tuple[Loss, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def lost_msat(self) -> int:
        """Lost to fees in forced closes."""
        return sum(loss.msat for loss in self.losses)

    @property
    def exact(self) -> bool:
        """Whether everything is found again to the msat."""
        return self.difference_msat == 0 and not self.problems

    def to_json(self) -> dict[str, Json]:
        """The audit as a JSON object."""
        return {**cast("dict[str, Json]", asdict(self)), "lost_msat": self.lost_msat, "exact": self.exact}

    def __str__(self) -> str:
        rows = [
            (f"minted in {self.height} blocks", self.minted_msat),
            ("the miner's own", self.miner_msat),
            ("fees of the nodes, in blocks", self.fees_msat),
            ("fees of the nodes, waiting", self.waiting_fees_msat),
        ]
        for owner in self.owners:
            rows.append((f"{owner.name}: wallet", owner.wallet_msat))
            rows.append((f"{owner.name}: channels", owner.channels_msat))
            rows.append((f"{owner.name}: under way", owner.under_way_msat))
        rows += [
            ("commitment fees", self.commitment_fees_msat),
            ("anchors", self.anchors_msat),
            ("channels that open", self.opening_msat),
            ("channels that close", self.closing_msat),
            ("difference", self.difference_msat),
        ]
        lines = [f"{what:32} {msat:>24} msat" for what, msat in rows if msat or what == "difference"]
        return "\n".join([*lines, *map(str, self.losses), *self.problems])


def audit(network: LightningNetwork, *, limit_s: float = 10.0) -> NetworkAudit:
    """Count everything; at any moment at which every node answers.

    Chain and nodes are read one after the other. So what does not fit is read again until it does; after `limit_s` it
    is returned with its difference and what it is. Raises NodeFailed or NodeTimeout when a node does not answer.
    """
    end = time.monotonic() + limit_s
    while True:
        try:
            found = _count(network)
        except NodeFailed as error:
            if "read it again" not in str(error) and "read the chain again" not in str(error):
                raise
            found = None
        if found is not None and (found.exact or time.monotonic() >= end):
            return found
        if time.monotonic() >= end:
            raise NodeFailed(f"the chain did not rest for {limit_s:g} s:\n{log_tail(network.log('chain'))}")
        time.sleep(_EVERY_S)


# Private --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """What one node says: its coins, its channels, and what opens or closes."""

    name: str
    coins: Mapping[str, int]
    books: Books
    opening: frozenset[str]
    closed: frozenset[str]


def _count(network: LightningNetwork) -> NetworkAudit:
    places = []
    for name in network.names:
        calls = network.calls(name)
        closed = calls.closed_points() | {closing.point for closing in calls.closings()}
        places.append(_Place(name, calls.unspent_sat(), calls.books(), calls.opening_points(), closed))
    chain = network.chain.books()
    problems: list[str] = []
    ended = frozenset(channel.point for place in places for channel in place.books.channels) & chain.spent_by.keys()
    open_points = {
        channel.point: channel for place in places for channel in place.books.channels if channel.point not in ended
    }
    opening = frozenset().union(*(place.opening for place in places))
    closing_sat = _coins(chain, places, open_points, opening, problems)
    for place in places:
        _check_channels(place, problems)
    openers = [
        channel
        for place in places
        for channel in place.books.channels
        if channel.is_opener and channel.point not in ended
    ]
    owners = tuple(_owner(place, network.closes, ended) for place in places)
    miner_sat = sum(coin.sat for coin in chain.coins.values() if coin.is_miner)
    fees_msat, waiting_msat = 1000 * chain.node_fees_sat, 1000 * chain.waiting_fees_sat
    parts = {
        "miner_msat": 1000 * miner_sat - fees_msat,
        "fees_msat": fees_msat,
        "waiting_fees_msat": waiting_msat,
        "commitment_fees_msat": 1000 * sum(_commitment_fee_sat(channel) for channel in openers),
        "anchors_msat": 1000 * sum(2 * ANCHOR_SAT for channel in openers if channel.anchors),
        "opening_msat": 1000 * sum(chain.coins[point].sat for point in opening if point in chain.coins),
        "closing_msat": 1000 * closing_sat,
    }
    owned = sum(owner.wallet_msat + owner.channels_msat + owner.under_way_msat for owner in owners)
    minted = 1000 * (chain.minted_sat - chain.unclaimed_sat)
    difference = minted - owned - sum(parts.values())
    if difference and not problems:
        problems.append(f"{difference} msat are missing: the two ends of a channel tell different balances")
    return NetworkAudit(
        height=chain.height,
        minted_msat=minted,
        owners=owners,
        difference_msat=difference,
        losses=tuple(loss for close in network.closes.values() for loss in _losses(chain, close)),
        problems=tuple(problems),
        **parts,
    )


def _coins(
    chain: ChainBooks,
    places: Sequence[_Place],
    open_points: Mapping[str, ChannelView],
    opening: frozenset[str],
    problems: list[str],
) -> int:
    """Satoshi of channels that close; every coin that belongs to nobody, and every claim without a coin, is told."""
    owned = {point: place.name for place in places for point in place.coins}
    for place in places:
        for point, sat in place.coins.items():
            if point not in chain.coins or chain.coins[point].sat != sat:
                problems.append(f"node {place.name!r} counts coin {point} of {sat} sat, which the chain does not have")
    for point, channel in open_points.items():
        if point not in chain.coins or chain.coins[point].sat != channel.capacity_sat:
            problems.append(f"channel {point} of {channel.capacity_sat} sat has no coin on the chain")
    below = _below(chain, frozenset().union(*(place.closed for place in places)))
    closing = 0
    for point, coin in chain.coins.items():
        if coin.is_miner or point in owned or point in open_points or point in opening:
            continue
        if coin.txid in below:
            closing += coin.sat
        else:
            problems.append(f"coin {point} of {coin.sat} sat belongs to nobody that is known")
    return closing


def _below(chain: ChainBooks, fundings: frozenset[str]) -> frozenset[str]:
    """The transactions that close these channels, and those that take an HTLC out of such a closing.

    What these leave in no wallet waits for its time lock or preimage, or is an anchor that nobody took.
    """
    closings = {chain.spent_by[point] for point in fundings if point in chain.spent_by}
    outputs = (point for txid in closings for point in chain.outputs[txid])
    return frozenset(closings | {chain.spent_by[point] for point in outputs if point in chain.spent_by})


def _owner(place: _Place, closes: Mapping[str, ForcedClose], ended: frozenset[str]) -> Owner:
    """What a node owns; a channel that its peer has closed, which it learns with the next block, is not open any more.

    lnd tells whole satoshi for each channel and msat for all together. The msat of one of many come from its peer, when
    that has this channel alone.
    """
    local, going = place.books.local_msat, place.books.going_msat
    for channel in place.books.channels:
        if channel.point not in ended:
            continue
        peers = (
            [books for name, books in closes[channel.point].books.items() if name != place.name]
            if (channel.point in closes)
            else []
        )
        if len(place.books.channels) == 1:
            local, going = 0, 0
        elif peers and len(peers[0].channels) == 1:
            local -= peers[0].remote_msat
            going -= peers[0].coming_msat
        else:
            local -= 1000 * channel.local_sat
            going -= 1000 * sum(sat for incoming, sat, _ in channel.htlcs if not incoming)
    return Owner(place.name, 1000 * sum(place.coins.values()), local, going)


def _check_channels(place: _Place, problems: list[str]) -> None:
    """The node's commitments must come to the capacities of its channels."""
    books = place.books
    capacity = 1000 * sum(channel.capacity_sat for channel in books.channels)
    fees = 1000 * sum(
        _commitment_fee_sat(channel) + (2 * ANCHOR_SAT if channel.anchors else 0) for channel in books.channels
    )
    told = books.local_msat + books.remote_msat + books.coming_msat + books.going_msat
    if capacity != told + fees:
        problems.append(
            f"the channels of node {place.name!r} come to {told + fees} msat with their fees, their capacities are "
            f"{capacity} msat"
        )


def _commitment_fee_sat(channel: ChannelView) -> int:
    """Fee of the node's own commitment: rate times weight, rounded down (BOLT 3)."""
    outputs = sum(not _is_dust(channel, incoming, sat) for incoming, sat, _ in channel.htlcs)
    weight = COMMITMENT_WEIGHT[channel.anchors] + HTLC_WEIGHT * outputs
    return channel.fee_sat_per_kw * weight // 1000


def _is_dust(channel: ChannelView, incoming: bool, sat: int) -> bool:
    """Whether an HTLC has no output in the node's own commitment (BOLT 3, trimmed outputs)."""
    weight = SUCCESS_WEIGHT if incoming else TIMEOUT_WEIGHT
    second = 0 if channel.anchors else channel.fee_sat_per_kw * weight // 1000
    return sat < channel.dust_limits_sat[0] + second


def _losses(chain: ChainBooks, close: ForcedClose) -> list[Loss]:
    """What the closing of a channel gave to the miner beyond its own fee, and whose it was."""
    txid = chain.spent_by.get(close.point)
    if txid is None:
        return []
    view = close.view
    paid = [chain.values[point] for point in chain.outputs[txid]]
    anchors = paid.count(ANCHOR_SAT) if view.anchors else 0
    sides = sum(sat >= view.dust_limits_sat[0] for sat in (view.local_sat, view.remote_sat))
    weight = COMMITMENT_WEIGHT[view.anchors] + HTLC_WEIGHT * (len(paid) - anchors - sides)
    unpaid_anchors = (2 - anchors) * ANCHOR_SAT if view.anchors else 0
    own_fee = view.fee_sat_per_kw * weight // 1000
    total = 1000 * (chain.values[close.point] - sum(paid) - own_fee - unpaid_anchors)
    shares = _shares(close)
    if shares is None or sum(msat for _, msat, _ in shares) != total:
        shares = [("not known", total, "HTLCs under the dust limit and parts of a satoshi")]
    return [Loss(close.point, owner, msat, what) for owner, msat, what in shares if msat]


def _shares(close: ForcedClose) -> list[tuple[str, int, str]] | None:
    """Owner, msat and what, from the books of an end that has this channel alone; None when there is no such end."""
    for name, books in close.books.items():
        if len(books.channels) != 1:
            continue
        other = close.peer if name == close.closer else close.closer
        view = books.channels[0]
        shares = []
        for owner, own, under_way, incoming in (
            (name, books.local_msat, books.going_msat, False),
            (other, books.remote_msat, books.coming_msat, True),
        ):
            kept = 1000 * sum(
                sat for way, sat, _ in view.htlcs if way is incoming and not _is_dust(close.view, way, sat)
            )
            shares.append((owner, own % 1000, "part of a satoshi"))
            shares.append((owner, under_way - kept, "HTLCs under the dust limit and their parts of a satoshi"))
        return shares
    return None
