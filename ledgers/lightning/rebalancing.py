"""Bringing channels back to where they should be, by payments that a node makes to itself on a circle.

A circular payment leaves its payer over one channel and comes back over another: on the way each channel shifts by the
amount towards its next node, nobody else gains or loses but for the forwarding fees. Which circles are there? In a star
with one channel for each spoke none at all. Parallel channels with one peer make one of two hops, a second hub or a
channel between two spokes make longer ones.

`plan_circles` is pure: channels, targets, fees in; payments with their hops and fees out, or the sentence that says why
there are none and what helps instead. `Rebalancer` makes them with real nodes, one at a time, looking anew before each.

A node with several channels to the next one takes any that has room (lnd: htlcswitch, non-strict forwarding), so such a
payment may come back over another channel than it should, even over the one that it left by. `Circle.certain` says when
that cannot happen; the planner prefers such payers. When it happened the next look sees it.

Each payment is written into a journal with its preimage before a node hears of it, and its hash is the key: after any
end `resume` finds out how it stands by TrackPaymentV2, and never pays again what was paid. One that lnd calls in flight
for ever, though no channel has it (see `cashier`), ends when its invoice is cancelled: nobody can take it any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from ledgers.canonical import Json
from ledgers.errors import SettlementError
from ledgers.lightning.client import Agreed, EdgePolicy, FeeLimit, InvoiceState, LndClient, PaymentState
from ledgers.lightning.client.errors import InvoiceClosed, LndNotFound, NoRoute, OutcomeUnknown, PaymentFailed
from ledgers.lightning.client.values import ChannelState, CircularRoute
from ledgers.lightning.client.wire import HINT_MSAT
from ledgers.lightning.journal import Debt, DebtState, Journal
from ledgers.lightning.nodes.processes import wait_until

LEAST_MSAT = 1_000_000
"""Nothing smaller is moved by default: the hub's usual fee would be a thousandth of it."""
LONGEST = 4
"""Hops of a circle: each costs a fee."""
MOST_PAYMENTS = 50
"""Of one run."""
EXPIRY_S = 600
"""Of the invoice of a circular payment."""
SETTLED_S = 15.0
"""So long may channels hold what is paid, and so long is an old payment asked for."""
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a channel: its node, its balance, what of it can be sent, and what the node asks for forwarding."""

    node: str
    balance_msat: int
    sendable_msat: int
    policy: EdgePolicy


@dataclass(frozen=True, slots=True)
class Link:
    """A channel between two of our nodes."""

    channel_id: int
    left: Side
    right: Side
    left_opened_msat: int  # the balance of the left side when the channel was opened

    def side(self, node: str) -> Side:
        """The end of that node."""
        return self.left if node == self.left.node else self.right

    def other(self, node: str) -> str:
        """The node at the other end."""
        return self.right.node if node == self.left.node else self.left.node

    def shifted(self, sender: str, msat: int) -> Link:
        """The channel after `sender` sent so much over it."""
        left = -msat if sender == self.left.node else msat
        return replace(self, left=_moved(self.left, left), right=_moved(self.right, -left))


@dataclass(frozen=True, slots=True)
class Hop:
    """`sender` passes `amount_msat` to `receiver`."""

    channel_id: int
    sender: str
    receiver: str
    amount_msat: int


@dataclass(frozen=True, slots=True)
class Circle:
    """A circular payment: what arrives, what it costs the payer, and whether it must go the way that is planned."""

    payer: str
    amount_msat: int
    fee_msat: int
    hops: tuple[Hop, ...]
    certain: bool

    @property
    def way(self) -> str:
        """For people: "hub -> van -> hub"."""
        return " -> ".join([*(hop.sender for hop in self.hops), self.payer])


@dataclass(frozen=True, slots=True)
class Missing:
    """What circles cannot bring: `node` misses `amount_msat` in a channel with `peer`.

    A further channel that `peer` opens and pushes so much over brings it, or the same paid back on the chain.
    """

    channel_id: int
    node: str
    peer: str
    amount_msat: int


@dataclass(frozen=True, slots=True)
class RebalancePlan:
    """The payments in their order, and the channels as they are after them; `words` says what they cannot do.

    `missing` are the channels that they leave away from their targets, worst first.
    """

    circles: tuple[Circle, ...]
    after: tuple[Link, ...]
    missing: tuple[Missing, ...]
    words: str

    @property
    def fee_msat(self) -> int:
        """What all payments cost."""
        return sum(circle.fee_msat for circle in self.circles)


def as_opened(links: Sequence[Link]) -> dict[int, int]:
    """Targets: each channel's left balance as it was when the channel was opened."""
    return {link.channel_id: link.left_opened_msat for link in links}


def evenly(links: Sequence[Link]) -> dict[int, int]:
    """Targets: half of each channel's money on either side."""
    return {link.channel_id: (link.left.balance_msat + link.right.balance_msat) // 2 for link in links}


def distance_msat(links: Sequence[Link], targets: Mapping[int, int]) -> int:
    """How much lies on the wrong side, over all channels with a target."""
    return sum(abs(link.left.balance_msat - targets[link.channel_id]) for link in links if link.channel_id in targets)


def plan_circles(
    links: Sequence[Link],
    targets: Mapping[int, int],
    *,
    payers: Sequence[str] | None = None,
    limit: FeeLimit | None = None,
    least_msat: int = LEAST_MSAT,
    most: int = MOST_PAYMENTS,
) -> RebalancePlan:
    """Which circular payments bring the channels to their targets (the left side's balance, by channel id).

    Taken one after the other: each is the one that brings most money to its right side; a channel on the way may be
    led away from its target when more others come nearer. None costs more than `limit`, none moves less than
    `least_msat`. `payers` are the nodes that may pay, all by default. Raises SettlementError for a target that no
    channel has.
    """
    unknown = sorted(set(targets) - {link.channel_id for link in links})
    if unknown:
        raise SettlementError(f"there is no channel {unknown[0]} to bring to a target; name open channels")
    if least_msat < 1:
        raise SettlementError(f"payments of at least {least_msat} msat cannot be planned; state 1 or more")
    fees = limit or FeeLimit()
    now = {link.channel_id: link for link in links}
    allowed = frozenset(payers) if payers is not None else frozenset(_nodes(links))
    circles: list[Circle] = []
    while len(circles) < most:
        found = [
            candidate
            for ring in _rings(list(now.values()))
            for candidate in _candidates(ring, now, targets, allowed, fees, least_msat)
        ]
        if not found:
            break
        _, best = min(found, key=lambda item: item[0])
        circles.append(best)
        for hop in best.hops:
            now[hop.channel_id] = now[hop.channel_id].shifted(hop.sender, hop.amount_msat)
    after = tuple(now[link.channel_id] for link in links)
    missing = _missing(after, targets, least_msat)
    return RebalancePlan(tuple(circles), after, missing, _words(after, missing, done=bool(circles)))


@dataclass(frozen=True, slots=True)
class PaidCircle:
    """A circular payment that was made."""

    payment_hash: str
    payer: str
    amount_msat: int
    fee_msat: int


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """What a rebalancing found, planned, paid and left.

    `distance_before_msat` and `distance_after_msat`: money on the wrong side. After a dry run `after` is what the plan
    would make of the channels, and nothing was paid. `words` is empty when all is at its target.
    """

    dry_run: bool
    before: tuple[Link, ...]
    after: tuple[Link, ...]
    planned: tuple[Circle, ...]
    paid: tuple[PaidCircle, ...]
    distance_before_msat: int
    distance_after_msat: int
    missing: tuple[Missing, ...]
    words: str

    @property
    def fee_msat(self) -> int:
        """What was paid in fees; in a dry run what would be."""
        return sum(item.fee_msat for item in (self.planned if self.dry_run else self.paid))

    def to_json(self) -> dict[str, Json]:
        """The result as a JSON object."""
        return {**cast("dict[str, Json]", asdict(self)), "fee_msat": self.fee_msat}


Targets = Callable[[Sequence[Link]], Mapping[int, int]]


class Rebalancer:
    """Circular payments with real nodes; a context manager. `clients` by name stay the caller's.

    `folder` keeps the journal (mode 0600: preimages are in it). Opening it again with the same nodes resumes what was
    under way. Raises LndError, SettlementError, NodeTimeout; LedgerBusy when another one has the folder.
    """

    def __init__(
        self,
        folder: Path,
        clients: Mapping[str, LndClient],
        *,
        limit: FeeLimit | None = None,
        least_msat: int = LEAST_MSAT,
        fsync: bool = True,
    ) -> None:
        self.clients = dict(clients)
        self.limit = limit or FeeLimit()
        self.least_msat = least_msat
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal = Journal(folder, lambda _kind, _name, _body: None, fsync=fsync)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal; a second call does nothing."""
        self._journal.close()

    def look(self) -> tuple[Link, ...]:
        """The active channels between our nodes, as they are now."""
        names = {client.public_key: name for name, client in self.clients.items()}
        ends: dict[int, dict[str, ChannelState]] = {}
        for name, client in self.clients.items():
            for channel in client.channels():
                if channel.active and channel.peer in names:
                    ends.setdefault(channel.channel_id, {})[name] = channel
        return tuple(self._link(channel_id, both, names) for channel_id, both in sorted(ends.items()) if len(both) == 2)

    def resume(self) -> tuple[PaidCircle, ...]:
        """Find out how payments ended that an earlier process began; none is begun anew.

        Returns those that were paid. Raises OutcomeUnknown while a node cannot tell, and what else a node says, after
        all others were asked for.
        """
        found = []
        troubles: list[SettlementError] = []
        for debt in list(self._journal.debts.values()):
            if debt.state in {DebtState.PAID, DebtState.CANCELLED}:
                continue
            try:
                done = self._ended(debt)
            except SettlementError as error:
                troubles.append(error)
            else:
                found += [] if done is None else [done]
        if troubles:
            raise troubles[0]
        return tuple(found)

    def run(self, targets: Targets = as_opened, *, dry_run: bool = False, most: int = MOST_PAYMENTS) -> Rebalanced:
        """Bring the channels to their targets, or only say how (`dry_run`); stops after `most` payments.

        The targets are taken of the channels as they are at the beginning. A payment that fails ends it, and `words`
        says why. Raises OutcomeUnknown when nobody can tell how one ended: the next run finds out and goes on; and what
        else a node says.
        """
        resumed = () if dry_run else self.resume()
        before = self.look()
        wanted = targets(before)
        first = plan = self._plan(before, wanted)
        if dry_run:
            return self._result(before, plan.after, wanted, first, (), plan, dry_run=True)
        paid: list[PaidCircle] = []
        now = before
        # A payment that comes back the way it went costs a fee for nothing; all fees together keep the limit, too.
        left_msat = sum(self.limit.msat(circle.amount_msat) for circle in plan.circles)
        failed = ""
        while plan.circles and len(paid) < most and plan.circles[0].fee_msat <= left_msat and not failed:
            try:
                paid.append(self._pay(plan.circles[0], now))
                left_msat -= paid[-1].fee_msat
            except PaymentFailed as error:
                failed = str(error)
            now = self.look()
            plan = self._plan(now, wanted)
        left = plan
        if plan.circles:
            words = (
                f"{len(paid)} payments were made, some came back the way they went, and the fee limit or the number of "
                "payments is reached; call it again to go on"
            )
            left = replace(plan, missing=_missing(now, wanted, self.least_msat), words=failed or words)
        paid = [*resumed, *paid]
        return self._result(before, now, wanted, first, tuple(paid), left, dry_run=False)

    # Private.

    def _plan(self, links: Sequence[Link], targets: Mapping[int, int]) -> RebalancePlan:
        known = {link.channel_id for link in links}
        return plan_circles(
            links,
            {channel_id: msat for channel_id, msat in targets.items() if channel_id in known},
            limit=self.limit,
            least_msat=self.least_msat,
        )

    def _result(
        self,
        before: tuple[Link, ...],
        after: tuple[Link, ...],
        targets: Mapping[int, int],
        plan: RebalancePlan,
        paid: tuple[PaidCircle, ...],
        left: RebalancePlan,
        *,
        dry_run: bool,
    ) -> Rebalanced:
        return Rebalanced(
            dry_run=dry_run,
            before=before,
            after=after,
            planned=plan.circles,
            paid=paid,
            distance_before_msat=distance_msat(before, targets),
            distance_after_msat=distance_msat(after, targets),
            missing=left.missing,
            words=left.words,
        )

    def _pay(self, circle: Circle, links: Sequence[Link]) -> PaidCircle:
        last = circle.hops[-1]
        policy = next(link for link in links if link.channel_id == last.channel_id).side(last.sender).policy
        client = self.clients[circle.payer]
        debt = self._journal.birth(
            Debt.new(
                f"circle-{len(self._journal.debts) + 1}",
                subject="rebalancing",
                kind="circle",
                payer=circle.payer,
                payee=circle.payer,
                amount_msat=circle.amount_msat,
                terms={"hops": [cast("Json", asdict(hop)) for hop in circle.hops], "fee_msat": circle.fee_msat},
            )
        )
        way = CircularRoute(circle.hops[0].channel_id, last.channel_id, self.clients[last.sender].public_key, policy)
        text = client.add_invoice(
            debt.amount_msat,
            preimage=debt.preimage,
            description_hash=debt.description_hash,
            expiry_s=EXPIRY_S,
            circle=way,
        )
        debt = self._journal.move(debt.name, DebtState.INVOICED, payment_request=text)
        agreed = Agreed(debt.payment_hash, debt.amount_msat, debt.description_hash, client.public_key)
        limit_msat = self.limit.msat(debt.amount_msat)
        try:
            try:
                payment = client.pay(text, agreed, fee_limit_msat=limit_msat, max_parts=1, circle=way)
            except NoRoute:
                client.forget_failures()  # lnd avoids for an hour what failed before; a circle has no other way
                payment = client.pay(text, agreed, fee_limit_msat=limit_msat, max_parts=1, circle=way)
        except PaymentFailed as error:
            self._give_up(debt, str(error))
            raise
        self._journal.move(debt.name, DebtState.PAID, fee_msat=payment.fee_msat)
        self._wait_settled(debt.payment_hash, {hop.sender for hop in circle.hops})
        return PaidCircle(debt.payment_hash, debt.payer, debt.amount_msat, payment.fee_msat)

    def _ended(self, debt: Debt) -> PaidCircle | None:
        """How a payment of an earlier process ended; what has not begun by now never will."""
        client = self.clients.get(debt.payer)
        if client is None:
            raise SettlementError(
                f"{debt.name} was begun by node {debt.payer!r}, which is not among ours; bring it back"
            )
        try:
            with contextlib.suppress(InvoiceClosed):  # settled: it was paid
                client.cancel_invoice(debt.payment_hash)
        except LndNotFound:
            self._journal.move(debt.name, DebtState.CANCELLED, words="the node has never had its invoice")
            return None
        try:
            payment = client.track(debt.payment_hash, wait_s=SETTLED_S)
        except LndNotFound:
            self._journal.move(debt.name, DebtState.CANCELLED, words="it was never sent")
            return None
        if payment.state is PaymentState.IN_FLIGHT:
            if _is_lost(client, debt.payment_hash):
                self._journal.move(debt.name, DebtState.CANCELLED, words="its node lost it, and nobody can take it")
                return None
            raise OutcomeUnknown(
                f"node {client.name!r}: how circular payment {debt.payment_hash[:16]}... ended is not known yet; ask "
                "again, it is never paid twice",
                node=client.name,
                call="TrackPaymentV2",
            )
        if payment.state is PaymentState.FAILED:
            self._journal.move(debt.name, DebtState.CANCELLED, words=payment.reason)
            return None
        self._journal.move(debt.name, DebtState.PAID, fee_msat=payment.fee_msat)
        return PaidCircle(debt.payment_hash, debt.payer, debt.amount_msat, payment.fee_msat)

    def _give_up(self, debt: Debt, words: str) -> None:
        client = self.clients[debt.payer]
        if client.lookup_invoice(debt.payment_hash).state is InvoiceState.OPEN:
            client.cancel_invoice(debt.payment_hash)
        self._journal.move(debt.name, DebtState.CANCELLED, words=words)

    def _wait_settled(self, payment_hash: str, nodes: set[str]) -> None:
        """A payment is known some 100 ms before all channels on its way have taken its HTLC out."""
        for name in sorted(nodes):
            wait_until(
                partial(_let_go, self.clients[name], payment_hash),
                limit_s=SETTLED_S,
                every_s=_LOOK_S,
                what=f"the channels of {name!r} to let go of circular payment {payment_hash[:16]}..., which is paid",
            )

    def _link(self, channel_id: int, both: Mapping[str, ChannelState], names: Mapping[str, str]) -> Link:
        left, right = sorted(both)
        policies = self.clients[left].policies(channel_id)
        by_name = {names[key]: policy for key, policy in policies.items()}
        if len(by_name) < 2:
            raise SettlementError(
                f"channel {channel_id} between {left!r} and {right!r} has not told both policies yet; ask again"
            )
        mine = both[left]
        total = mine.local_msat + both[right].local_msat
        return Link(
            channel_id=channel_id,
            left=Side(left, mine.local_msat, mine.can_send_msat, by_name[left]),
            right=Side(right, both[right].local_msat, both[right].can_send_msat, by_name[right]),
            left_opened_msat=total - mine.pushed_msat if mine.initiator else mine.pushed_msat,
        )


# Private --------------------------------------------------------------------------------------------------------------


def _is_lost(client: LndClient, payment_hash: str) -> bool:
    """Whether a payment of a node to itself is in flight in name alone: its invoice is cancelled, no channel has it."""
    if client.lookup_invoice(payment_hash).state is not InvoiceState.CANCELED:
        return False
    return _let_go(client, payment_hash) and not client.closings()


def _let_go(client: LndClient, payment_hash: str) -> bool:
    return not any(payment_hash in channel.pending_hashes for channel in client.channels())


def _moved(side: Side, msat: int) -> Side:
    return replace(side, balance_msat=side.balance_msat + msat, sendable_msat=max(0, side.sendable_msat + msat))


def _nodes(links: Sequence[Link]) -> list[str]:
    return sorted({node for link in links for node in (link.left.node, link.right.node)})


def _rings(links: Sequence[Link]) -> Iterator[tuple[tuple[int, str], ...]]:
    """Every circle of up to LONGEST different channels through different nodes, in both directions, once each.

    A circle is a row of (channel id, sender) that begins with its first node by name.
    """
    by_node: dict[str, list[Link]] = {}
    for link in links:
        by_node.setdefault(link.left.node, []).append(link)
        by_node.setdefault(link.right.node, []).append(link)

    def further(start: str, here: str, row: tuple[tuple[int, str], ...]) -> Iterator[tuple[tuple[int, str], ...]]:
        used, senders = {channel for channel, _ in row}, {sender for _, sender in row}
        for link in by_node[here]:
            there = link.other(here)
            if link.channel_id in used:
                continue
            longer = (*row, (link.channel_id, here))
            if there == start and len(longer) > 1:
                yield longer
            elif there > start and there not in senders and len(longer) < LONGEST:
                yield from further(start, there, longer)

    for start in sorted(by_node):
        yield from further(start, start, ())


_Rank = tuple[int, bool, int, str]


def _candidates(
    ring: tuple[tuple[int, str], ...],
    links: Mapping[int, Link],
    targets: Mapping[int, int],
    payers: frozenset[str],
    limit: FeeLimit,
    least_msat: int,
) -> Iterator[tuple[_Rank, Circle]]:
    """The payments on one circle by each of its nodes, with their rank: the lowest is the best."""
    good, caps = 0, []
    for channel_id, sender in ring:
        link = links[channel_id]
        too_much = _too_much_msat(link, sender, targets)
        caps.append(link.side(sender).sendable_msat)
        if too_much >= least_msat:
            good += 1
            caps.append(too_much)
        elif channel_id in targets:
            good -= 1
    if good <= 0 or min(caps) < least_msat:
        return
    for turn in range(len(ring)):
        row = ring[turn:] + ring[:turn]
        if row[0][1] not in payers:
            continue
        circle = _circle(row, links, min(caps), least_msat)
        if circle is not None and circle.fee_msat <= limit.msat(circle.amount_msat):
            yield (-good * circle.amount_msat, not circle.certain, circle.fee_msat, circle.payer), circle


def _too_much_msat(link: Link, node: str, targets: Mapping[int, int]) -> int:
    target = targets.get(link.channel_id)
    if target is None:
        return 0
    excess = link.left.balance_msat - target
    return excess if node == link.left.node else -excess


def _circle(
    row: tuple[tuple[int, str], ...], links: Mapping[int, Link], most_msat: int, least_msat: int
) -> Circle | None:
    """The payment along a row of (channel, sender) that sends at most `most_msat`; None when fees leave too little."""
    payer = row[0][1]
    if any(links[channel_id].side(sender).policy.disabled for channel_id, sender in row):
        return None

    def over_msat(amount_msat: int) -> int:
        return max(
            sent - links[channel_id].side(sender).sendable_msat
            for (channel_id, sender), sent in _amounts(row, links, amount_msat)
        )

    # Fees on the way make the first hop larger than what arrives; a smaller amount has smaller fees.
    amount = most_msat - max(0, over_msat(most_msat))
    if amount < least_msat or over_msat(amount) > 0:
        return None
    amounts = _amounts(row, links, amount)
    senders = [sender for _, sender in row]
    hops = tuple(
        Hop(channel_id, sender, receiver, sent)
        for ((channel_id, sender), sent), receiver in zip(amounts, [*senders[1:], payer], strict=True)
    )
    certain = not any(
        other.channel_id != hop.channel_id
        and {other.left.node, other.right.node} == {hop.sender, hop.receiver}
        and other.side(hop.sender).sendable_msat >= hop.amount_msat
        for hop in hops[1:]
        for other in links.values()
    )
    return Circle(payer, amount, hops[0].amount_msat - amount, hops, certain)


def _amounts(
    row: tuple[tuple[int, str], ...], links: Mapping[int, Link], amount_msat: int
) -> list[tuple[tuple[int, str], int]]:
    """What passes over each channel so that `amount_msat` arrives."""
    found = []
    sent = amount_msat
    for place, (channel_id, sender) in reversed(list(enumerate(row))):
        found.append(((channel_id, sender), sent))
        if place:  # who forwards is paid by the one before him; the payer itself is not
            sent += links[channel_id].side(sender).policy.fee_msat(sent)
            sent += HINT_MSAT if place == len(row) - 1 else 0
    return found[::-1]


def _missing(links: Sequence[Link], targets: Mapping[int, int], least_msat: int) -> tuple[Missing, ...]:
    found = []
    for link in links:
        excess = link.left.balance_msat - targets.get(link.channel_id, link.left.balance_msat)
        if abs(excess) >= least_msat:
            low = link.right if excess > 0 else link.left
            found.append(Missing(link.channel_id, low.node, link.other(low.node), abs(excess)))
    return tuple(sorted(found, key=lambda item: (-item.amount_msat, item.channel_id)))


def _words(links: Sequence[Link], missing: Sequence[Missing], *, done: bool) -> str:
    """Why no (further) circular payment helps, and what does; empty when every channel is at its target."""
    if not missing:
        return ""
    worst = missing[0]
    sat = worst.amount_msat // 1000
    others = f" (and {len(missing) - 1} more channels)" if len(missing) > 1 else ""
    remedy = (
        f"{worst.node!r} misses {sat} sat in its channel with {worst.peer!r}{others}; open a further channel from "
        f"{worst.peer!r} to {worst.node!r} that pushes {sat} sat, or pay them back on chain (a swap)"
    )
    if next(_rings(links), None) is None:
        return (
            "no circular payment can move money here, because a network with one channel for each spoke has no "
            f"circle: {remedy}"
        )
    if done:
        return f"circular payments bring the channels no nearer after these: {remedy}"
    return f"no circle through these channels brings money where it is missing within the fee limit: {remedy}"
