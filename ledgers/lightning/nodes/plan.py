"""What a network consists of: nodes, channels, balances, policies, a seed. Frozen values, refused whole.

>>> plan = hub_and_spokes("yard", spokes=["van", "evse"])
>>> [(channel.opener, channel.peer) for channel in plan.channels]
[('hub', 'van'), ('hub', 'evse')]
>>> line("road", ["a", "b", "c"]).channels[1].opener
'b'

The hub opens the channels: a station that opens its own can pay through it but cannot receive. Amounts are satoshi on
the chain and millisatoshi off it. Money that a plan names exists only on a private regtest chain.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ledgers.lightning.errors import NetworkRefused

CHAIN = "chain"  # the name of the btcd process among the nodes
LARGEST_CHANNEL_SAT = 2**24 - 1  # BOLT 2 without option_support_large_channel
LARGEST_WUMBO_SAT = 1_000_000_000  # with it, lnd's own limit: funding.MaxBtcFundingAmountWumbo, 10 BTC
WUMBO_OPTION = "protocol.wumbo-channels=true"  # lnd's name of that option; both ends need it
SMALLEST_CHANNEL_SAT = 20_000  # lnd: funding.MinChanFundingSize
ANCHORS_OPTION = "protocol.anchors=true"
"""Channels with anchors, as lnd's releases open them; programs with the tag `integration` do so only when told."""
MINER_HAS_SAT = 1_000_000_000_000
"""What the nodes of a network may get together: a little less than the miner can spend after the first blocks."""
LARGEST_FEE_RATE_PPM = 1_000_000  # a fee as large as the amount; BOLT 7 and lnd would take 32 bits, and wrap beyond
LARGEST_BASE_FEE_MSAT = 2**32 - 1  # BOLT 7, channel_update: fee_base_msat is a u32
LARGEST_TIME_LOCK_BLOCKS = 2016  # lnd's max-cltv-expiry: no route may be locked for longer, in blocks
CHANNEL_COST_SAT = 50_000  # that its opener gets beside a channel's capacity, for the fee of its funding transaction
RESERVE_SHARE = 100  # lnd keeps 1/100 of a channel's capacity as each side's reserve
OPENER_KEEPS_SAT = 10_000  # and leave the opener so much for the fees of the commitment
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# Each would lead to another chain, another folder, another listener or past the keys.
_FORBIDDEN_OPTIONS = {
    "bitcoin.mainnet", "bitcoin.testnet", "bitcoin.testnet4", "bitcoin.simnet", "bitcoin.signet", "bitcoin.regtest",
    "bitcoin.node", "configfile", "lnddir", "datadir", "logdir", "tlscertpath", "tlskeypath", "adminmacaroonpath",
    "no-macaroons", "noseedbackup", "rpclisten", "restlisten", "listen", "externalip", "nat",
}  # fmt: skip
_FORBIDDEN_GROUPS = ("btcd.", "bitcoind.", "neutrino.", "tor.", "letsencrypt", "wallet-unlock-")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a node asks for forwarding over its channels; the defaults are lnd's own."""

    base_fee_msat: int = 1000
    fee_rate_ppm: int = 1
    time_lock_delta: int = 80
    min_htlc_msat: int = 1

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("base_fee_msat", self.base_fee_msat, 0, LARGEST_BASE_FEE_MSAT),
            ("fee_rate_ppm", self.fee_rate_ppm, 0, LARGEST_FEE_RATE_PPM),
            ("time_lock_delta", self.time_lock_delta, 24, LARGEST_TIME_LOCK_BLOCKS),  # lnd does not start with less
            ("min_htlc_msat", self.min_htlc_msat, 0, LARGEST_WUMBO_SAT * 1000),  # no channel carries more
        ):
            if not least <= value <= most:
                raise NetworkRefused(f"policy: {name} is {value}; it is {least} to {most}", at=(name,))


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One lnd node: its name, what it asks for forwarding, satoshi left in its wallet beside its channels.

    `options` are further lines of its lnd.conf, such as "maxpendingchannels=20"; none that leaves the regtest chain.
    """

    name: str
    policy: Policy = Policy()
    on_chain_sat: int = 1_000_000
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == CHAIN:
            raise NetworkRefused(
                f"{self.name!r} is no name for a node: up to 32 small letters, digits, - and _, and not {CHAIN!r}",
                at=("name",),
            )
        if not 0 <= self.on_chain_sat <= MINER_HAS_SAT:
            raise NetworkRefused(
                f"node {self.name!r} has on_chain_sat {self.on_chain_sat}; it is 0 to {MINER_HAS_SAT}",
                at=("on_chain_sat",),
            )
        for index, option in enumerate(self.options):
            key = option.partition("=")[0].strip().lstrip("-")
            if (
                not option.isprintable()
                or key.startswith("[")
                or key in _FORBIDDEN_OPTIONS
                or key.startswith(_FORBIDDEN_GROUPS)
            ):
                raise NetworkRefused(
                    f"node {self.name!r} may not set {key!r}: the programs are for a private regtest chain, in folders "
                    "and on ports that the bench chooses; remove the option",
                    at=("options", index),
                )


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """A channel: who opens it, its capacity, and how much of that is pushed to the peer."""

    opener: str
    peer: str
    capacity_sat: int = 10_000_000
    push_sat: int = 5_000_000

    def __post_init__(self) -> None:
        where = f"channel {self.opener!r} to {self.peer!r}"
        if self.opener == self.peer:
            raise NetworkRefused(f"{where} leads nowhere; name two nodes", at=("peer",))
        if not SMALLEST_CHANNEL_SAT <= self.capacity_sat <= LARGEST_WUMBO_SAT:
            raise NetworkRefused(
                f"{where} has capacity_sat {self.capacity_sat}; it is {SMALLEST_CHANNEL_SAT} to {LARGEST_CHANNEL_SAT}, "
                f"or to {LARGEST_WUMBO_SAT} where both nodes have the option {WUMBO_OPTION}",
                at=("capacity_sat",),
            )
        most = self.capacity_sat - self.capacity_sat // RESERVE_SHARE - OPENER_KEEPS_SAT
        if not 0 <= self.push_sat <= most:
            raise NetworkRefused(
                f"{where} has push_sat {self.push_sat}; it is 0 to {most}, as the opener keeps 1 % and "
                f"{OPENER_KEEPS_SAT} sat for fees",
                at=("push_sat",),
            )


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """A network; its name is that of its folder, its seed decides every wallet's keys."""

    name: str
    nodes: tuple[NodePlan, ...]
    channels: tuple[ChannelPlan, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NetworkRefused(f"{self.name!r} is no name for a network: up to 32 small letters, digits, - and _")
        names = [node.name for node in self.nodes]
        if not names:
            raise NetworkRefused(f"network {self.name!r} has no node; name at least one", at=("nodes",))
        for index, name in enumerate(names):
            if name in names[:index]:
                raise NetworkRefused(
                    f"network {self.name!r} has more than one node {name!r}; give them other names",
                    at=("nodes", index, "name"),
                )
        for index, channel in enumerate(self.channels):
            for key, end in (("opener", channel.opener), ("peer", channel.peer)):
                if end not in names:
                    raise NetworkRefused(
                        f"a channel of network {self.name!r} names node {end!r}, which it does not have; it has "
                        f"{', '.join(names)}",
                        at=("channels", index, key),
                    )
                if channel.capacity_sat > LARGEST_CHANNEL_SAT and WUMBO_OPTION not in self.node(end).options:
                    raise NetworkRefused(
                        f"channel {channel.opener!r} to {channel.peer!r} has capacity_sat {channel.capacity_sat}, "
                        f"above {LARGEST_CHANNEL_SAT}; give node {end!r} the option {WUMBO_OPTION}",
                        at=("channels", index, "capacity_sat"),
                    )
        needed_sat = sum(node.on_chain_sat for node in self.nodes)
        needed_sat += sum(channel.capacity_sat + CHANNEL_COST_SAT for channel in self.channels)
        if needed_sat > MINER_HAS_SAT:
            raise NetworkRefused(
                f"network {self.name!r} needs {needed_sat} sat in wallets and channels, and the miner has "
                f"{MINER_HAS_SAT}; make on_chain_sat or channels smaller",
                at=("nodes",),
            )

    def node(self, name: str) -> NodePlan:
        """The node of that name; raises NetworkRefused when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise NetworkRefused(
            f"network {self.name!r} has no node {name!r}; it has {', '.join(node.name for node in self.nodes)}"
        )

    @property
    def key(self) -> str:
        """SHA-256 of everything in the plan, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def hub_and_spokes(
    name: str,
    *,
    spokes: Sequence[str],
    hub: str = "hub",
    hub_policy: Policy | None = None,
    capacity_sat: int = 10_000_000,
    push_sat: int | None = None,
    seed: int = 1,
) -> NetworkPlan:
    """A hub with one channel to each spoke, opened by the hub; half of the capacity is pushed unless said otherwise."""
    pushed = capacity_sat // 2 if push_sat is None else push_sat
    return NetworkPlan(
        name=name,
        nodes=(NodePlan(hub, policy=hub_policy or Policy()), *(NodePlan(spoke) for spoke in spokes)),
        channels=tuple(ChannelPlan(hub, spoke, capacity_sat, pushed) for spoke in spokes),
        seed=seed,
    )


def line(
    name: str, nodes: Sequence[str], *, capacity_sat: int = 10_000_000, push_sat: int | None = None, seed: int = 1
) -> NetworkPlan:
    """Nodes in a row, each with a channel to the next one."""
    pushed = capacity_sat // 2 if push_sat is None else push_sat
    return NetworkPlan(
        name=name,
        nodes=tuple(NodePlan(node) for node in nodes),
        channels=tuple(ChannelPlan(left, right, capacity_sat, pushed) for left, right in itertools.pairwise(nodes)),
        seed=seed,
    )
