"""The report's section on a session that was paid over Lightning: the picture of its network, and the figures in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledgers.lightning.session_network import BalanceTold, NetworkTold, PaymentTold
from reports.network_picture import NARROW_PX, WIDE_PX, draw_network, sat_text
from reports.page import NOTHING, Cell, Drawing, Section, Table, Tone, clipped, flat, spoken

_FATES: Final[Mapping[str, tuple[str, Tone]]] = {
    "paid": ("paid", "good"),
    "held": ("held, not settled", "warn"),
    "cancelled": ("went back", "muted"),
    "cancelling": ("going back", "warn"),
    "settling": ("being settled", "warn"),
    "invoiced": ("under way", "warn"),
    "new": ("not begun", "muted"),
}
_PAYMENTS_SHOWN: Final = 200


def network_section(told: NetworkTold) -> Section:
    """Nodes, channels and payments of a session, drawn and in tables."""
    drawing = Drawing(
        title="Where the money went",
        caption=(
            "Each card is a node, its bars what was on its side of its channel with the hub before the session and "
            "after the settlement, in satoshi. Arrows are payments, all through the hub."
        ),
        wide=draw_network(told, width_px=WIDE_PX),
        narrow=draw_network(told, width_px=NARROW_PX),
    )
    tables = [_nodes(told), _channels(told), _payments(told)]
    if told.costs is not None:
        rows = tuple((Cell(spoken(name)), Cell(clipped(str(value)))) for name, value in flat(dict(told.costs)))
        tables.append(Table("What the channels themselves cost", ("What", "Value"), rows))
    setting = (
        f"Real nodes on a private {told.chain} chain, started for this session with the same balances each time and "
        "ended after it; no coin here is worth anything. 1 satoshi is 1000 millisatoshi."
    )
    words = [setting, _conserved(told)]
    if len(told.payments) > _PAYMENTS_SHOWN:
        words.append(
            f"The first {_PAYMENTS_SHOWN} of {len(told.payments)} payments; all are in settlement/network.json."
        )
    return Section("network", "Lightning network", tuple(words), tuple(tables), drawings=(drawing,))


def _conserved(told: NetworkTold) -> str:
    odd = told.odd_balances()
    if odd:
        return f"The nodes' balances do not follow from the payments: {'; '.join(odd)}."
    return (
        "No money was made or lost: by the nodes' own books, each has exactly what these payments and their fees make "
        "of what it had before."
    )


def _nodes(told: NetworkTold) -> Table:
    rows = tuple(
        (
            Cell(node.name if node.state == "active" else f"{node.name}, which does not answer"),
            Cell(node.account or NOTHING),
            _sat(node.before_msat),
            _sat(node.received_msat),
            _sat(-node.sent_msat),
            _sat(-node.fees_paid_msat),
            _sat(node.fees_earned_msat),
            _sat(node.after_msat),
            _sat(node.change_msat, signed=True),
        )
        for node in told.nodes
    )
    head = (
        "Node", "Account", "Before (sat)", "Received", "Sent", "Fees paid", "Fees earned",
        "After (sat)", "Change",
    )  # fmt: skip
    return Table("Nodes: what each had in its channels, and what the payments of the session made of it", head, rows)


def _channels(told: NetworkTold) -> Table:
    rows = tuple(
        (
            Cell(f"{channel.opener} {NOTHING} {channel.peer}"),
            Cell(f"{channel.capacity_sat:,}".replace(",", "\u202f"), number=True),
            *_balances(channel.before),
            *_balances(channel.after),
            Cell("yes") if channel.active else Cell("no", "bad"),
            Cell(_short(channel.point), code=True),
        )
        for channel in told.channels
    )
    head = (
        "Channel", "Capacity (sat)", "Opener before (sat)", "Peer before (sat)", "Opener after (sat)",
        "Peer after (sat)", "Active", "Funded by",
    )  # fmt: skip
    caption = (
        "Channels: what was on each side. The rest of the capacity is in the commitment (fee and anchors, paid by the "
        "opener), or under way"
    )
    return Table(caption, head, rows)


def _balances(balance: BalanceTold | None) -> tuple[Cell, Cell]:
    if balance is None:
        return Cell(NOTHING, "muted", number=True), Cell(NOTHING, "muted", number=True)
    return _sat(balance.opener_msat), _sat(balance.peer_msat)


def _payments(told: NetworkTold) -> Table:
    rows = tuple(
        (
            Cell(spoken(payment.kind)),
            Cell(f"{payment.payer_node} → {payment.payee_node}"),
            _sat(payment.amount_msat),
            _sat(payment.fee_msat),
            Cell(*_FATES.get(payment.state, (payment.state, "warn"))),
            Cell(_way(payment)),
            Cell(_short(payment.payment_hash), code=True),
        )
        for payment in told.payments[:_PAYMENTS_SHOWN]
    )
    head = ("For", "From and to", "Amount (sat)", "Fee (sat)", "What became of it", "Way", "Payment hash")
    return Table(
        "Payments of the session; preimages stand in the settlement receipt, hashes in full in settlement/network.json",
        head,
        rows,
    )


def _short(name: str) -> str:
    """The begin of a hash, and the output of a transaction that is named after it."""
    hash_, colon, index = name.partition(":")
    return f"{hash_[:10]}…{colon}{index}"


def _way(payment: PaymentTold) -> str:
    if not payment.routes:
        return NOTHING
    ways = {" → ".join([payment.payer_node, *(hop.node for hop in route)]) for route in payment.routes}
    return "; ".join(sorted(ways))


def _sat(msat: int | None, *, signed: bool = False) -> Cell:
    if msat is None:
        return Cell(NOTHING, "muted", number=True)
    return Cell(sat_text(msat, signed=signed), number=True)
