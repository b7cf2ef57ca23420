"""What the channels of a network cost on the chain: opened for, to be closed for, and who bears it.

What opening cost is read from the chain: the fee of the real funding transaction, which its opener paid. What closing
will cost is weight times the present fee rate (`weights`):

- *cooperatively*: the opener pays the closing transaction (BOLT 2 "Closing Negotiation"; lnd). A side whose balance is
  below the dust limit gets no output, and its balance goes to the miner too.
- *by force*: the opener pays the commitment transaction, whose fee lies in the channel since it was last updated, and
  both anchors (BOLT 3); each side then pays for taking its own money: who closed, after a delay, from `to_local`, the
  other from `to_remote`. This is the most: with no hurry lnd begins such a transaction at the lowest rate that is
  relayed, and raises it until a block takes it (lnd: sweep); and an anchor is not lost where it is taken back. HTLCs
  under way are not counted.

>>> channel = OpenChannel("txid:0", "hub", "van", 1_000_000, 600_000, 399_438, commit_fee_sat=562, has_anchors=False)
>>> channel_costs([channel], {"txid": 329}, 500, sessions=100).channels[0].session_msat
7150
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from typing import cast

from ledgers.canonical import Json
from ledgers.lightning.errors import LightningError
from ledgers.lightning.weights import (
    ANCHOR_SAT,
    DUST_LIMIT_SAT,
    TO_LOCAL_SWEEP_WEIGHT,
    TO_REMOTE_KEY_SWEEP_WEIGHT,
    TO_REMOTE_SWEEP_WEIGHT,
    closing_weight,
    fee_sat,
)


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """An open channel: its funding output "txid:index", ends by name, balances in satoshi, and its commitment."""

    point: str
    opener: str
    peer: str
    capacity_sat: int
    opener_sat: int
    peer_sat: int
    commit_fee_sat: int
    has_anchors: bool

    @property
    def funding_txid(self) -> str:
        """The transaction that made it."""
        return self.point.partition(":")[0]


@dataclass(frozen=True, slots=True)
class ChannelCosts:
    """One channel, in satoshi; `opener_*` and `peer_*` say who bears a forced close, when the opener begins it.

    `session_msat` is the share of one session in opening and closing (cooperatively), rounded up; null where nobody
    said how many sessions the channel serves.
    """

    point: str
    opener: str
    peer: str
    opened_sat: int
    close_sat: int
    opener_force_close_sat: int
    peer_force_close_sat: int
    session_msat: int | None

    @property
    def force_close_sat(self) -> int:
        """Both sides together."""
        return self.opener_force_close_sat + self.peer_force_close_sat


@dataclass(frozen=True, slots=True)
class NetworkCosts:
    """All channels. A payment through the hub passes two, so a session bears the shares of both."""

    sat_per_kw: int
    sessions: int | None
    channels: tuple[ChannelCosts, ...]

    @property
    def opened_sat(self) -> int:
        """What opening all of them cost."""
        return sum(channel.opened_sat for channel in self.channels)

    @property
    def close_sat(self) -> int:
        """What closing all of them cooperatively will cost."""
        return sum(channel.close_sat for channel in self.channels)

    @property
    def force_close_sat(self) -> int:
        """What closing all of them by force will cost."""
        return sum(channel.force_close_sat for channel in self.channels)

    def borne_by(self, node: str) -> int:
        """What a node has borne and will bear, closing cooperatively: the openings and closings of its own channels."""
        return sum(channel.opened_sat + channel.close_sat for channel in self.channels if channel.opener == node)

    def to_json(self) -> dict[str, Json]:
        """The costs as a JSON object."""
        openers = sorted({channel.opener for channel in self.channels})
        return {
            **cast("dict[str, Json]", asdict(self)),
            "opened_sat": self.opened_sat,
            "close_sat": self.close_sat,
            "force_close_sat": self.force_close_sat,
            "borne_sat": {node: self.borne_by(node) for node in openers},
        }


def channel_costs(
    channels: Sequence[OpenChannel],
    funding_fees_sat: Mapping[str, int],
    sat_per_kw: int,
    *,
    sessions: int | None = None,
) -> NetworkCosts:
    """What these channels cost. `funding_fees_sat` are the fees of the funding transactions by id, from the chain.

    A transaction that opened several channels is shared evenly among them. `sat_per_kw` is the present fee rate,
    `sessions` how many one channel serves before it is closed. Raises LightningError for a rate or number below 1, or a
    funding transaction whose fee is not given.
    """
    if sat_per_kw < 1 or (sessions is not None and sessions < 1):
        raise LightningError(f"costs at {sat_per_kw} sat/kw for {sessions} sessions cannot be told; state 1 or more")
    shares = _opening_shares(channels, funding_fees_sat)
    found = []
    for channel in channels:
        close_sat = _close_sat(channel, sat_per_kw)
        opener_sat, peer_sat = _force_close_sat(channel, sat_per_kw)
        opened_sat = shares[channel.point]
        found.append(
            ChannelCosts(
                point=channel.point,
                opener=channel.opener,
                peer=channel.peer,
                opened_sat=opened_sat,
                close_sat=close_sat,
                opener_force_close_sat=opener_sat,
                peer_force_close_sat=peer_sat,
                session_msat=None if sessions is None else ceil(Fraction((opened_sat + close_sat) * 1000, sessions)),
            )
        )
    return NetworkCosts(sat_per_kw, sessions, tuple(found))


def costs_text(costs: NetworkCosts) -> str:
    """The costs as lines for people."""
    lines = [f"costs of channels at {costs.sat_per_kw} sat/kw ({Fraction(costs.sat_per_kw, 250)!s} sat/vB):"]
    for channel in costs.channels:
        share = "" if channel.session_msat is None else f"; a session bears {channel.session_msat} msat"
        lines.append(
            f"  {channel.opener} to {channel.peer}: opened for {channel.opened_sat} sat, closes for "
            f"{channel.close_sat} sat, both paid by {channel.opener}; by force {channel.force_close_sat} sat, "
            f"{channel.peer_force_close_sat} of them paid by {channel.peer}{share}"
        )
    lines.append(
        f"  in all: opened for {costs.opened_sat} sat, close for {costs.close_sat} sat, by force "
        f"{costs.force_close_sat} sat"
    )
    return "\n".join(lines)


# Private --------------------------------------------------------------------------------------------------------------


def _opening_shares(channels: Sequence[OpenChannel], fees_sat: Mapping[str, int]) -> dict[str, int]:
    together: dict[str, list[OpenChannel]] = {}
    for channel in channels:
        together.setdefault(channel.funding_txid, []).append(channel)
    shares = {}
    for txid, group in together.items():
        if txid not in fees_sat:
            raise LightningError(f"the fee of funding transaction {txid} is not known; read it from the chain")
        share, left = divmod(fees_sat[txid], len(group))
        for place, channel in enumerate(group):
            shares[channel.point] = share + (place < left)
    return shares


def _close_sat(channel: OpenChannel, rate: int) -> int:
    returned = channel.commit_fee_sat + (2 * ANCHOR_SAT if channel.has_anchors else 0)
    sides = (channel.opener_sat + returned, channel.peer_sat)
    lost = sum(side for side in sides if side < DUST_LIMIT_SAT)
    return fee_sat(closing_weight(max(1, sum(side >= DUST_LIMIT_SAT for side in sides))), rate) + lost


def _force_close_sat(channel: OpenChannel, rate: int) -> tuple[int, int]:
    """Of the opener, who begins it, and of its peer."""
    anchors = 2 * ANCHOR_SAT if channel.has_anchors else 0
    to_remote = fee_sat(TO_REMOTE_SWEEP_WEIGHT if channel.has_anchors else TO_REMOTE_KEY_SWEEP_WEIGHT, rate)
    own = _taken_sat(channel.opener_sat, fee_sat(TO_LOCAL_SWEEP_WEIGHT, rate))
    return channel.commit_fee_sat + anchors + own, _taken_sat(channel.peer_sat, to_remote)


def _taken_sat(balance_sat: int, sweep_sat: int) -> int:
    """What a side loses on the way to its wallet: the fee, or all when that is dust or worth less than the fee."""
    return balance_sat if balance_sat < DUST_LIMIT_SAT else min(balance_sat, sweep_sat)
