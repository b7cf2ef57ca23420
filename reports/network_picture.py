"""A picture of a session's Lightning network: the hub across the middle, its spokes above and below, money between.

Drawn by hand as SVG, because what is to be seen is simple and has to stay sharp on paper, in the dark and at 420 px:
a card for each node with two bars, what was on its side of its channel before and after; a band for each channel; and
an arrow for each kind of payment, through the hub, with what it came to written along it. Colours are the page's own
(`report.css`), so the picture follows it. Two drawings of the same are made, and the page shows the one that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from ledgers.lightning.session_network import BalanceTold, ChannelTold, NetworkTold, NodeTold, PaymentTold
from reports.page import MINUS

WIDE_PX: Final = 1000
NARROW_PX: Final = 342

Fate = Literal["paid", "waiting", "back"]

_GAP: Final = 14
_ROOMY_PX: Final = 220  # from this width on, a card has its account beside its name
_BAND_H: Final = 46
_ROW_H: Final = 27
_MOST_ARROWS: Final = 12
_APART_PX: Final = 9.0
_LETTER_PX: Final = 6.4  # mean of a letter of a label
_NAME_LETTER_PX: Final = 8.5  # at most, of a name
_THIN: Final = "\u202f"
_FATES: Final[Mapping[str, Fate]] = {"paid": "paid", "cancelled": "back", "cancelling": "back"}
_TOLD: Final[Mapping[Fate, str]] = {"paid": "", "waiting": ", waits", "back": ", went back"}


@dataclass(frozen=True, slots=True)
class Arrow:
    """Payments from one node to another that are drawn as one."""

    payer: str
    payee: str
    what: str
    fate: Fate
    amount_msat: int
    count: int

    @property
    def label(self) -> str:
        """What stands along it."""
        times = f", {self.count} payments" if self.count > 1 else ""
        return f"{self.what} {sat_text(self.amount_msat)} sat{times}{_TOLD[self.fate]}"


def arrows_of(payments: Sequence[PaymentTold]) -> tuple[Arrow, ...]:
    """The payments by payer, payee, kind and fate; kinds are put together where there would be too many arrows."""
    found = _bundled(payments, by_kind=True)
    return found if len(found) <= _MOST_ARROWS else _bundled(payments, by_kind=False)


def sat_text(msat: int, *, signed: bool = False) -> str:
    """Millisatoshi in satoshi with all three decimals, exact; thousands apart by a narrow space."""
    whole, rest = divmod(abs(msat), 1000)
    sign = MINUS if msat < 0 else "+" if signed and msat > 0 else ""
    return f"{sign}{whole:,}".replace(",", _THIN) + f".{rest:03d}"


def draw_network(told: NetworkTold, *, width_px: int) -> str:
    """The picture as an SVG element; needs the classes of `report.css`."""
    return _Drawing(told, width_px).svg()


# Private --------------------------------------------------------------------------------------------------------------


def _bundled(payments: Sequence[PaymentTold], *, by_kind: bool) -> tuple[Arrow, ...]:
    found: dict[tuple[str, str, str, Fate], list[int]] = {}
    for payment in payments:
        what = payment.kind.replace("_", " ") if by_kind else "payments"
        key = (payment.payer_node, payment.payee_node, what, _FATES.get(payment.state, "waiting"))
        found.setdefault(key, []).append(payment.amount_msat)
    return tuple(Arrow(*key, sum(amounts), len(amounts)) for key, amounts in found.items())


@dataclass(frozen=True, slots=True)
class _Card:
    """Where a spoke is drawn, `above` the hub or below it; `edge` is the y of its side that faces the hub."""

    node: NodeTold
    x: float
    y: float
    width: float
    edge: float
    above: bool


class _Drawing:
    def __init__(self, told: NetworkTold, width_px: int) -> None:
        self.told = told
        self.width = width_px
        self.arrows = arrows_of(told.payments)
        self.hub = told.hub or (told.channels[0].opener if told.channels else None)
        self.between = {
            other: channel
            for channel in told.channels
            for other in {channel.opener, channel.peer} - {self.hub}
            if self.hub in {channel.opener, channel.peer}
        }
        spokes = [node for node in told.nodes if node.name != self.hub]
        first = -(-len(spokes) // 2)
        self.card_h = 122 if width_px >= WIDE_PX else 136
        self.hub_text = self._hub_text()
        self.rail_y = 53.0
        above_y = 17.0 * len(self.hub_text) + 8 if self.hub_text else 0.0
        self.hub_y = above_y + (self.card_h + _BAND_H if spokes else 0)
        self.hub_h = self.rail_y + _ROW_H * max(0, len(self.arrows) - 1) + (14 if self.arrows else -8)
        below_y = self.hub_y + self.hub_h + _BAND_H
        self.height = below_y + self.card_h if len(spokes) > 1 else self.hub_y + self.hub_h
        self.cards = {
            card.node.name: card
            for card in (
                *self._row(spokes[:first], above_y, above=True),
                *self._row(spokes[first:], below_y, above=False),
            )
        }
        self.lanes = self._lanes()

    def svg(self) -> str:
        parts = [
            *(self._band(card) for card in self.cards.values()),
            self._hub_card(),
            *(self._card(card) for card in self.cards.values()),
            *(self._arrow(number, arrow) for number, arrow in enumerate(self.arrows)),
            self._hub_words(),
            *(self._label(number, arrow) for number, arrow in enumerate(self.arrows)),
        ]
        said = escape(f"Network {self.told.name}: " + "; ".join(self._sentence(arrow) for arrow in self.arrows))
        return (
            f'<svg class="network" role="img" viewBox="-1 -1 {self.width + 2:g} {self.height + 2:g}" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{said}</title>{"".join(parts)}</svg>'
        )

    def _row(self, nodes: Sequence[NodeTold], y: float, *, above: bool) -> tuple[_Card, ...]:
        if not nodes:
            return ()
        width = min(270.0, (self.width - _GAP * (len(nodes) - 1)) / len(nodes))
        step = max(float(_GAP), (self.width - width * len(nodes)) / (len(nodes) + 1))
        left = (self.width - width * len(nodes) - step * (len(nodes) - 1)) / 2
        return tuple(
            _Card(node, left + (width + step) * place, y, width, y + self.card_h if above else y, above)
            for place, node in enumerate(nodes)
        )

    def _lanes(self) -> dict[tuple[int, str], float]:
        """The x at which an arrow leaves or reaches a spoke's card."""
        ends: dict[str, list[int]] = {name: [] for name in self.cards}
        for number, arrow in enumerate(self.arrows):
            for name in (arrow.payer, arrow.payee):
                if name in ends:
                    ends[name].append(number)
        lanes: dict[tuple[int, str], float] = {}
        for name, numbers in ends.items():
            card = self.cards[name]
            left = max(card.x, min(self._name_end(), card.x + 0.6 * card.width)) if card.above else card.x
            room = card.x + card.width - left
            for place, number in enumerate(numbers):
                x = left + room * (place + 1) / (len(numbers) + 1)
                near = [other for (_, elsewhere), other in lanes.items() if elsewhere != name]
                while any(abs(x - other) < _APART_PX for other in near) and x + _APART_PX < card.x + card.width:
                    x += _APART_PX  # or the lane of a node below would seem to go on in one above
                lanes[number, name] = x
        return lanes

    def _rail(self, number: int) -> float:
        return self.hub_y + self.rail_y + _ROW_H * number

    # Nodes and channels.

    def _name_end(self) -> float:
        """The x at which the hub's name ends; arrows from the nodes above it go down to the right of that."""
        return 14 + _NAME_LETTER_PX * len(self.hub or "")

    def _hub_text(self) -> tuple[str, ...]:
        """What the hub earned, asks and has: above the picture, because arrows go everywhere around the hub itself."""
        node = next((node for node in self.told.nodes if node.name == self.hub), None)
        if node is None:
            return ()
        policy = node.policy
        asks = "" if policy is None else f"asks {policy.base_fee_msat} msat and {policy.fee_rate_ppm} ppm a payment"
        earned = f"{node.name} " + ("does not answer; " if node.state == "away" else "")
        earned += f"earned {sat_text(node.fees_earned_msat)} sat"
        if self.width >= WIDE_PX:
            return ("; ".join(filter(None, [earned, asks, *_moved(node)])),)
        return tuple(filter(None, [earned, asks, *_moved(node)]))

    def _hub_card(self) -> str:
        if self.hub is None:
            return ""
        return (
            f'<rect class="card hub" x="0" y="{self.hub_y:g}" width="{self.width:g}" height="{self.hub_h:g}" rx="8"/>'
        )

    def _hub_words(self) -> str:
        if self.hub is None:
            return ""
        away = "bad" if any(node.name == self.hub and node.state == "away" for node in self.told.nodes) else "soft"
        lines = "".join(
            f'<text class="{away}" x="2" y="{13 + 17 * place}">{escape(line)}</text>'
            for place, line in enumerate(self.hub_text)
        )
        name = f'<text class="name" x="14" y="{self.hub_y + 22:g}">{escape(self.hub)}</text>'
        return f"{name}{lines}"

    def _band(self, card: _Card) -> str:
        channel = self.between.get(card.node.name)
        if channel is None:
            return ""
        y = card.edge if card.above else card.edge - _BAND_H
        shut = "" if channel.active else " shut"
        return (
            f'<rect class="band{shut}" x="{card.x + 10:g}" y="{y:g}" width="{card.width - 20:g}" height="{_BAND_H}"/>'
        )

    def _card(self, card: _Card) -> str:
        node, channel = card.node, self.between.get(card.node.name)
        change = node.change_msat
        tone = "plus" if change is not None and change > 0 else "soft"
        last = "its balance is not known" if change is None else f"{sat_text(change, signed=True)} sat"
        rows = "".join(
            self._bar(card, word, place, _side(channel, node.name, before=word == "before"))
            for place, word in enumerate(("before", "after"))
        )
        account = "" if node.account in {None, node.name} else escape(str(node.account))
        inline = account and card.width >= _ROOMY_PX
        shown = f'<tspan class="soft"> {account}</tspan>' if inline else ""
        second = f'<text class="small" x="{card.x + 12:g}" y="{card.y + 36:g}">{account}</text>' if not inline else ""
        of = (
            "" if channel is None or card.width < _ROOMY_PX else "of " + f"{channel.capacity_sat:,}".replace(",", _THIN)
        )
        bottom = card.y + self.card_h - 9
        return (
            f'<rect class="card" x="{card.x:g}" y="{card.y:g}" width="{card.width:g}" height="{self.card_h}" rx="8"/>'
            f'<text class="name" x="{card.x + 12:g}" y="{card.y + 21:g}">{escape(node.name)}'
            f"{_away(self.told, node.name)}{shown}</text>{second}{rows}"
            f'<text class="{tone} strong" x="{card.x + 12:g}" y="{bottom:g}">{last}</text>'
            f'<text class="small" text-anchor="end" x="{card.x + card.width - 12:g}" y="{bottom:g}">{of}</text>'
        )

    def _bar(self, card: _Card, word: str, place: int, side: tuple[int, int] | None) -> str:
        x, y, width = card.x + 12, card.y + self.card_h - 80 + 32 * place, card.width - 24
        if side is None:
            return f'<text class="small" x="{x:g}" y="{y:g}">{word}: not known</text>'
        own, capacity = side
        filled = width * max(0.0, min(1.0, own / max(1, capacity)))
        return (
            f'<text class="small" x="{x:g}" y="{y:g}">{word}</text>'
            f'<text class="small ink" text-anchor="end" x="{x + width:g}" y="{y:g}">{sat_text(own)}</text>'
            f'<rect class="other" x="{x:g}" y="{y + 5:g}" width="{width:g}" height="8" rx="2"/>'
            f'<rect class="own" x="{x:g}" y="{y + 5:g}" width="{filled:.2f}" height="8" rx="2"/>'
        )

    # Payments.

    def _arrow(self, number: int, arrow: Arrow) -> str:
        rail = self._rail(number)
        start, end = self._end(number, arrow.payer), self._end(number, arrow.payee)
        points = [start, (start[0], rail), (end[0], rail), end]
        head = ""
        if end[1] != rail:
            point = 9 if end[1] > rail else -9
            head = f'<path class="head {arrow.fate}" d="M{end[0]:g} {end[1]:g}l-5.5 {-point:g}h11z"/>'
            points[-1] = (end[0], end[1] - point * 0.8)
        return f'<path class="lane {arrow.fate}" d="{_rounded(points)}"/>{head}'

    def _end(self, number: int, name: str) -> tuple[float, float]:
        card = self.cards.get(name)
        if card is None:
            return (self.width / 2, self._rail(number))
        return (self.lanes[number, name], card.edge)

    def _label(self, number: int, arrow: Arrow) -> str:
        ends = sorted((self._end(number, arrow.payer)[0], self._end(number, arrow.payee)[0]))
        room = _LETTER_PX * len(arrow.label)
        x = min(max(6.0, ends[0] + 10), max(6.0, self.width - room - 8))
        y = self._rail(number) - 7
        return _grounded(x, y, arrow.label, f"label {arrow.fate}")

    def _sentence(self, arrow: Arrow) -> str:
        return f"{arrow.payer} to {arrow.payee}: {arrow.label}"


def _grounded(x: float, y: float, text: str, kind: str) -> str:
    """A text on its own ground, as wide as it about is."""
    width = _LETTER_PX * len(text)
    return (
        f'<rect class="behind" x="{x - 4:g}" y="{y - 13:g}" width="{width + 8:g}" height="17"/>'
        f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'
    )


def _side(channel: ChannelTold | None, name: str, *, before: bool) -> tuple[int, int] | None:
    """What a node has on its side of a channel, and the channel's capacity, in msat."""
    if channel is None:
        return None
    balance: BalanceTold | None = channel.before if before else channel.after
    if balance is None:
        return None
    return (balance.opener_msat if channel.opener == name else balance.peer_msat), 1000 * channel.capacity_sat


def _moved(node: NodeTold) -> tuple[str, ...]:
    if node.before_msat is None or node.after_msat is None:
        return ("its balance is not known",)
    return (f"{sat_text(node.before_msat)} sat before", f"{sat_text(node.after_msat)} after")


def _away(told: NetworkTold, name: str) -> str:
    away = any(node.name == name and node.state == "away" for node in told.nodes)
    return '<tspan class="bad"> does not answer</tspan>' if away else ""


def _rounded(points: Sequence[tuple[float, float]], radius: float = 8.0) -> str:
    """A path of straight lines with round corners."""
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into, out = _towards(corner, before, radius), _towards(corner, after, radius)
        path += f"L{into[0]:g} {into[1]:g}Q{corner[0]:g} {corner[1]:g} {out[0]:g} {out[1]:g}"
    return f"{path}L{points[-1][0]:g} {points[-1][1]:g}"


def _towards(start: tuple[float, float], end: tuple[float, float], most: float) -> tuple[float, float]:
    """The point on the way, at most half of it away."""
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])  # along an axis
    share = min(most, length / 2) / length if length else 0.0
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
