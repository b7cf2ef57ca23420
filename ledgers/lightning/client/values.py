"""What a client returns: frozen values in msat and hexadecimal text, so that no message of lnd leaves the client.

All amounts are whole millisatoshi (1 BTC = 100 000 000 000 msat). Hashes and preimages are 64 lower-case hexadecimal
digits, node keys 66.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass


class InvoiceState(enum.StrEnum):
    """Where an invoice stands; SETTLED and CANCELED are final. The spelling is lnd's."""

    OPEN = "open"
    ACCEPTED = "accepted"  # a hold invoice whose money has arrived and waits for the preimage
    SETTLED = "settled"
    CANCELED = "canceled"


class PaymentState(enum.StrEnum):
    """Where a payment stands; SUCCEEDED and FAILED are final."""

    IN_FLIGHT = "in flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who a node is and whether it can pay now."""

    alias: str
    public_key: str
    version: str
    network: str
    block_height: int
    synced_to_chain: bool
    synced_to_graph: bool
    active_channels: int


@dataclass(frozen=True, slots=True)
class ChannelState:
    """One channel as its owner sees it, in msat.

    `can_send_msat` and `can_receive_msat` are what one payment can take: the balances less the reserves that the
    protocol keeps locked (BOLT 2, channel_reserve_satoshis), and on the opener's side less what the commitment's fee
    may become (lnd: CalcFeeBuffer). lnd tells balances of channels in whole satoshi.
    """

    channel_id: int
    peer: str
    active: bool
    capacity_msat: int
    local_msat: int
    remote_msat: int
    unsettled_msat: int
    commit_fee_msat: int
    initiator: bool
    can_send_msat: int
    can_receive_msat: int
    pending_hashes: tuple[str, ...]  # payment hashes of the HTLCs in it
    point: str = ""  # its funding output, "txid:index"
    pushed_msat: int = 0  # what the opener gave the peer at the beginning


@dataclass(frozen=True, slots=True)
class ChannelBalance:
    """All channels of a node together, exact to the msat; HTLCs under way are in the `unsettled` figures alone."""

    local_msat: int
    remote_msat: int
    unsettled_local_msat: int  # HTLCs towards us
    unsettled_remote_msat: int  # HTLCs from us


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as the payee's node knows it; `preimage` is empty until a hold invoice is settled."""

    payment_hash: str
    payment_request: str
    amount_msat: int
    description_hash: str
    state: InvoiceState
    paid_msat: int
    preimage: str
    expires_unix_s: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an invoice's text says, read by a node (`LndClient.decode`) or by `ledgers.lightning.bolt11`."""

    payment_hash: str
    amount_msat: int
    description_hash: str
    payee: str
    created_unix_s: int
    expiry_s: int


@dataclass(frozen=True, slots=True)
class LostPart:
    """A part of a payment that failed with a channel on its way, too small for an output when that is closed by force.

    `sent_msat` left the node `at_hop` (0 is the payer) into `channel_id`; if that was closed, the miner has it.
    `fee_msat` is what of it was for the nodes further on, none when the channel leads `to_payee`. When it was not the
    payer's channel, the payer has it back. From block `expiry_height` on it may also have gone back over the chain.
    """

    at_hop: int
    channel_id: int
    sent_msat: int
    fee_msat: int
    to_payee: bool
    expiry_height: int


@dataclass(frozen=True, slots=True)
class Closing:
    """A channel that is being closed by force; `until_block` is the last block at which an HTLC of it is resolved.

    `confirmed` says whether its closing transaction is in a block; what HTLCs there are is known only then.
    """

    point: str
    confirmed: bool
    htlcs_sat: tuple[int, ...]
    until_block: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as the payer's node knows it. `reason` is lnd's name of the failure, empty when there is none.

    `under_way` are the payer's channels of the parts that are neither settled nor back, `under_way_msat` is what these
    bring the payee. `closed_on` are parts that failed with a channel; whether that is really closed, its owner says.
    `failed` counts the parts of which a node has said why they failed, `silent` those of which nobody has.
    """

    payment_hash: str
    state: PaymentState
    amount_msat: int
    fee_msat: int
    preimage: str
    reason: str
    parts: int
    under_way: tuple[int, ...] = ()
    under_way_msat: int = 0
    failed: int = 0
    silent: int = 0
    closed_on: tuple[LostPart, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing can change it any more."""
        return self.state is not PaymentState.IN_FLIGHT


@dataclass(frozen=True, slots=True)
class RouteOffer:
    """A route that the payer's node would take now."""

    amount_msat: int
    fee_msat: int
    hops: int


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """What a node asks for forwarding over one of its channels."""

    base_fee_msat: int
    fee_rate_ppm: int
    time_lock_delta: int
    disabled: bool

    def fee_msat(self, amount_msat: int) -> int:
        """The fee for passing on an amount (BOLT 7), rounded down as lnd does."""
        return self.base_fee_msat + amount_msat * self.fee_rate_ppm // 1_000_000


@dataclass(frozen=True, slots=True)
class CircularRoute:
    """A way from a node back to itself: out over its channel, in again from the peer `last_hop` over another channel.

    `policy` is what that peer asks on the last channel. A node picks one of its channels with a peer by itself; the
    hint that is made of this asks for the right one.
    """

    outgoing_channel_id: int
    incoming_channel_id: int
    last_hop: str
    policy: EdgePolicy


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an invoice must say before anything is paid to it."""

    payment_hash: str
    amount_msat: int
    description_hash: str
    payee: str


@dataclass(frozen=True, slots=True)
class FeeLimit:
    """The most that a payment may cost on top of its amount: `base_msat` plus `ppm` millionths of the amount."""

    base_msat: int = 10_000
    ppm: int = 10_000

    def msat(self, amount_msat: int) -> int:
        """The limit for an amount, rounded up."""
        return self.base_msat + -(-amount_msat * self.ppm // 1_000_000)


def hash_of(preimage: str) -> str:
    """The payment hash of a preimage, both in hexadecimal (BOLT 2: SHA-256)."""
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
