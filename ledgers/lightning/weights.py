"""How heavy the transactions of a channel are, what they cost at a fee rate, and what a channel keeps locked.

A fee is rate times weight; lnd counts rates in satoshi per 1000 weight units and rounds each fee down. Weights are
written here as sums of their parts, in the order of BOLT 3 (Appendix A: "Expected Weights") and of lnd's
`input/size.go`, v0.21.2-beta. lnd pays for signatures of 73 bytes, so a fee is some satoshi above rate times the size
that the chain shows.

>>> [virtual_bytes(weight) for weight in (FUNDING_WEIGHT, closing_weight(2), COMMITMENT_WEIGHT)]
[165, 193, 281]
>>> fee_sat(COMMITMENT_WEIGHT, sat_per_kw(2))
562
>>> channel_size(opener_sends_msat=1_000_000_000, peer_sends_msat=0, sat_per_kw=500)
(1012250, 0)
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from ledgers.lightning.nodes.plan import OPENER_KEEPS_SAT, RESERVE_SHARE, SMALLEST_CHANNEL_SAT

FEE_FLOOR_SAT_PER_KW = 253  # lnd: chainfee.FeePerKwFloor
COMMITMENT_CAP_SAT_PER_KW = 2500  # lnd: max-commit-fee-rate-anchors, 10 sat/vB by default
ANCHOR_SAT = 330  # BOLT 3: each of the two anchor outputs; the opener pays both
DUST_LIMIT_SAT = 354  # BOLT 3: "Dust Limits", an output to an unknown SegWit version; lnd asks for it in every channel
ANCHOR_WALLET_SAT = 10_000  # lnd keeps so much in the wallet for each channel with anchors (AnchorChanReservedValue)
ANCHOR_WALLET_MOST_SAT = 100_000  # and never more than this (MaxAnchorChanReservedValue)
MOST_HTLCS = 483  # BOLT 2: max_accepted_htlcs; lnd asks for it

_SCALE = 4  # BIP 141: a byte that is no witness weighs 4
_BASE = 4 + 4 + 1 + 1  # version, lock time, numbers of inputs and of outputs
_INPUT = 32 + 4 + 1 + 4  # outpoint, empty script, sequence
_OUTPUT_32 = 8 + 1 + 34  # to a script hash or a Taproot key
_SEGWIT = 2  # marker and flag
_KEY_HASH_WITNESS = 1 + 1 + 73 + 1 + 33
_TWO_OF_TWO_WITNESS = 1 + 1 + 1 + 73 + 1 + 73 + 1 + 71
_TO_LOCAL_WITNESS = 1 + 1 + 73 + 1 + 1 + 79
_TO_REMOTE_WITNESS = 1 + 1 + 73 + 1 + 37

FUNDING_WEIGHT = _SCALE * (_BASE + _INPUT + 2 * _OUTPUT_32) + _SEGWIT + _KEY_HASH_WITNESS
"""One coin of the wallet (pay to witness key hash) in, the channel and the change (lnd: Taproot) out."""
COMMITMENT_WEIGHT = 900 + 224  # BOLT 3, Appendix A: with anchors
PLAIN_COMMITMENT_WEIGHT = 500 + 224  # BOLT 3, Appendix A: without
HTLC_WEIGHT = 172  # BOLT 3: each HTLC that is not dust
TO_LOCAL_SWEEP_WEIGHT = _SCALE * (_BASE + _INPUT + _OUTPUT_32) + _SEGWIT + _TO_LOCAL_WITNESS
"""Who closed by force takes his money, after the delay, into a coin of his own."""
TO_REMOTE_SWEEP_WEIGHT = _SCALE * (_BASE + _INPUT + _OUTPUT_32) + _SEGWIT + _TO_REMOTE_WITNESS
"""The other side takes its money, a block after the commitment."""
TO_REMOTE_KEY_SWEEP_WEIGHT = _SCALE * (_BASE + _INPUT + _OUTPUT_32) + _SEGWIT + _KEY_HASH_WITNESS
"""The same in a channel without anchors, where its money waits at a key of its own."""


def closing_weight(outputs: int) -> int:
    """A cooperative close that pays `outputs` sides (1 or 2) at Taproot addresses, which is where lnd lets them pay."""
    return _SCALE * (_BASE + _INPUT + outputs * _OUTPUT_32) + _SEGWIT + _TWO_OF_TWO_WITNESS


def virtual_bytes(weight: int) -> int:
    """Weight in virtual bytes, rounded up (BIP 141)."""
    return -(-weight // _SCALE)


def sat_per_kw(sat_per_vbyte: int | str | Decimal | Fraction) -> int:
    """A fee rate as lnd counts it: satoshi per 1000 weight units, rounded down, at least its floor."""
    return max(FEE_FLOOR_SAT_PER_KW, int(Fraction(sat_per_vbyte) * 1000 / _SCALE))


def commitment_sat_per_kw(market_sat_per_kw: int) -> int:
    """The rate of a commitment transaction with anchors: the market's, capped, since anchors can raise it later."""
    return min(market_sat_per_kw, COMMITMENT_CAP_SAT_PER_KW)


def fee_sat(weight: int, rate_sat_per_kw: int) -> int:
    """The fee for a weight, rounded down as lnd does (chainfee: FeeForWeight)."""
    return weight * rate_sat_per_kw // 1000


def reserve_sat(capacity_sat: int) -> int:
    """What each side of a channel may not spend (BOLT 2: channel_reserve_satoshis), as lnd asks for it."""
    return max(capacity_sat // RESERVE_SHARE, DUST_LIMIT_SAT)


def opener_keeps_sat(rate_sat_per_kw: int, *, in_flight: int = 1) -> int:
    """What the opener cannot send beside the reserve: both anchors, and the commitment fee with lnd's buffer.

    So many HTLCs wait in the channel at once, the last payment among them.
    """
    weight = COMMITMENT_WEIGHT + (in_flight - 1) * HTLC_WEIGHT
    return 2 * ANCHOR_SAT + fee_buffer_sat(weight, commitment_sat_per_kw(rate_sat_per_kw))


def fee_buffer_sat(commitment_weight: int, commitment_rate_sat_per_kw: int) -> int:
    """What the opener keeps for the commitment's fee when it sends one payment more, the fee itself included.

    It pays the commitment at twice its rate, with that HTLC and another one (BOLT 2: "fee spike buffer"; lnd:
    CalcFeeBuffer).
    """
    return fee_sat(commitment_weight + 2 * HTLC_WEIGHT, 2 * commitment_rate_sat_per_kw)


def opener_sendable_msat(capacity_sat: int, push_sat: int, rate_sat_per_kw: int, *, in_flight: int = 1) -> int:
    """What the opener of a new channel can send, with the last payment too."""
    kept = reserve_sat(capacity_sat) + opener_keeps_sat(rate_sat_per_kw, in_flight=in_flight)
    return max(0, capacity_sat - push_sat - kept) * 1000


def peer_sendable_msat(capacity_sat: int, push_sat: int) -> int:
    """What the peer of a new channel can send of what was pushed to it."""
    return max(0, push_sat - reserve_sat(capacity_sat)) * 1000


def channel_size(
    *, opener_sends_msat: int, peer_sends_msat: int, sat_per_kw: int, in_flight: int = 1
) -> tuple[int, int]:
    """The smallest capacity and push, in satoshi, with which each side can send so much before it receives anything."""
    opener, peer = -(-opener_sends_msat // 1000), -(-peer_sends_msat // 1000)
    keeps = opener_keeps_sat(sat_per_kw, in_flight=in_flight)
    capacity = SMALLEST_CHANNEL_SAT
    while True:  # the reserve grows by a hundredth of what it makes necessary, so this ends after a few rounds
        push = peer + reserve_sat(capacity) if peer else 0
        own = max(opener + reserve_sat(capacity) + keeps, capacity // RESERVE_SHARE + OPENER_KEEPS_SAT)
        if own + push <= capacity:
            return capacity, push
        capacity = own + push
