"""The network of one session, before and after it: `settlement/network.json` of a run folder.

The receipt says how a record was paid. This says what that did to the nodes: what lay on each side of each channel
before the session and after its settlement, what each node paid and earned in fees, which way each payment took. It
is told by the nodes themselves (`ledgers.lightning.nodes.session`), so that it can be held against the payments;
`NetworkTold.odd_balances` does that.

A node that does not answer is told as such, and its figures are taken from the other ends of its channels or are null:
a report has to be made of a bad session too. Amounts are whole millisatoshi. lnd tells the balance of a single channel
in whole satoshi only, so it is exact where one end of it has no other channel, and says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ledgers.canonical import from_canonical, to_canonical
from ledgers.errors import RecordError

SCHEMA: Literal["v2gbench.lightning-session/1.0"] = "v2gbench.lightning-session/1.0"
NETWORK_FILE = "network.json"

Msat = Annotated[int, Field(ge=-(2**53), le=2**53)]
Word = Annotated[str, Field(max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BalanceTold(_Model):
    """A channel at one moment: what is on either side, in HTLCs under way, and in its commitment (fee and anchors).

    The four add up to its capacity. The commitment's part is paid by who opened the channel (BOLT 3), and follows the
    fee market.
    """

    opener_msat: Msat
    peer_msat: Msat
    pending_msat: Msat
    pending_htlcs: int
    commitment_msat: Msat
    exact: bool  # False: known in whole satoshi only


class PolicyTold(_Model):
    """What a node asks for forwarding."""

    base_fee_msat: int
    fee_rate_ppm: int
    time_lock_delta: int


class NodeTold(_Model):
    """One node; `account` is the party of the tariff whose money it has, null for a hub.

    `before_msat` and `after_msat` are what it has in all its channels; null when nobody could tell.
    """

    name: Word
    account: Word | None
    public_key: Word
    state: Literal["active", "away"]
    policy: PolicyTold | None
    before_msat: Msat | None
    after_msat: Msat | None
    sent_msat: Msat
    received_msat: Msat
    fees_paid_msat: Msat
    fees_earned_msat: Msat

    @property
    def expected_change_msat(self) -> int:
        """What the payments of the session make of its balance."""
        return self.received_msat - self.sent_msat - self.fees_paid_msat + self.fees_earned_msat

    @property
    def change_msat(self) -> int | None:
        """What became of its balance; None when that is not known."""
        if self.before_msat is None or self.after_msat is None:
            return None
        return self.after_msat - self.before_msat


class ChannelTold(_Model):
    """One channel of the plan; `after` is null when it is closed, or neither end answers."""

    opener: Word
    peer: Word
    point: Word
    capacity_sat: int
    active: bool
    before: BalanceTold | None
    after: BalanceTold | None


class HopTold(_Model):
    """One hop of a route: the node that it leads to, what goes on from there, and what that node keeps."""

    node: Word
    forwarded_msat: Msat
    fee_msat: Msat


class PaymentTold(_Model):
    """One debt of the session; `state` is the journal's word, `routes` are null when the payer's node did not tell."""

    name: Word
    kind: Word
    payer: Word
    payee: Word
    payer_node: Word
    payee_node: Word
    payment_hash: Word
    amount_msat: Msat
    fee_msat: Msat | None
    held: bool
    state: Word
    routes: tuple[tuple[HopTold, ...], ...] | None


class NetworkTold(_Model):
    """The document. `costs` is what the channels themselves cost, as `ledgers.lightning.costs` tells it, or null."""

    schema_: Literal["v2gbench.lightning-session/1.0"] = Field(alias="schema")
    name: Word
    chain: Word
    height_before: int
    height_after: int | None
    nodes: tuple[NodeTold, ...]
    channels: tuple[ChannelTold, ...]
    payments: tuple[PaymentTold, ...]
    costs: dict[str, JsonValue] | None = None

    def to_bytes(self) -> bytes:
        """The canonical bytes of the file."""
        return to_canonical(self.model_dump(mode="json", by_alias=True))

    @property
    def hub(self) -> str | None:
        """The node with the most channels, when it has more than one."""
        ends = [end for channel in self.channels for end in (channel.opener, channel.peer)]
        counted = {node.name: ends.count(node.name) for node in self.nodes}
        best = max(counted, key=lambda name: counted[name], default=None)
        return best if best is not None and counted[best] > 1 else None

    def odd_balances(self) -> tuple[str, ...]:
        """Where the nodes' balances are not what the session's payments make of them; a sentence each.

        Each node's own books are compared with the payments, and with what the other ends of the channels that it
        opened say of their commitments. A node with HTLCs under way is not judged.
        """
        found = []
        for node in self.nodes:
            change, expected = node.change_msat, node.expected_change_msat - self._commitments(node.name)
            if change is None:
                found.append(f"what {node.name} has is not known: it does not answer")
            elif change != expected and not self._pending(node.name):
                found.append(f"the balance of {node.name} changed by {change:+d} msat, its payments make {expected:+d}")
        return tuple(found)

    def _commitments(self, name: str) -> int:
        """By how much the commitments that a node pays for became dearer."""
        return sum(
            channel.after.commitment_msat - channel.before.commitment_msat
            for channel in self.channels
            if channel.opener == name and channel.before is not None and channel.after is not None
        )

    def _pending(self, name: str) -> bool:
        return any(
            told is not None and told.pending_htlcs > 0
            for channel in self.channels
            if name in {channel.opener, channel.peer}
            for told in (channel.before, channel.after)
        )


def read_session_network(data: bytes, *, where: str) -> NetworkTold:
    """The document in a file's bytes; raises RecordError, naming `where`, when they are none."""
    document = from_canonical(data, where=where)
    try:
        return NetworkTold.model_validate_json(to_canonical(document))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where} is no {SCHEMA}: {place or 'the document'}: {first['msg']}") from error
