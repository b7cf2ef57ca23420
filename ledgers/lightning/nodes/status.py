"""What a running network looks like from outside its process: read from its folder, asked of its nodes.

`network.json` in the folder says where they are; nothing is changed by looking. What the channels cost on the chain
comes with it (`ledgers.lightning.costs`), as long as the chain and one node answer.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from ledgers.canonical import Json
from ledgers.lightning.costs import NetworkCosts, OpenChannel, channel_costs, costs_text
from ledgers.lightning.errors import LightningError, NodeFailed
from ledgers.lightning.nodes import history
from ledgers.lightning.nodes.chain import Chain
from ledgers.lightning.nodes.lnd import LOCKED, SERVER_ACTIVE, NodeCalls

NETWORK_SCHEMA = "v2gbench.lightning-run/1.0"
NEWEST = 5
"""How many payments and invoices of each node are told."""


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel as one of its nodes sees it; `peer` is a name where the network knows one, else a public key."""

    peer: str
    active: bool
    capacity_sat: int
    local_sat: int
    remote_sat: int
    sent_sat: int
    received_sat: int
    pending_htlcs: int
    point: str = ""  # its funding output, "txid:index"
    is_opener: bool = False
    commit_fee_sat: int = 0
    has_anchors: bool = False


@dataclass(frozen=True, slots=True)
class MovedStatus:
    """A payment or an invoice of a node; `other` is the node at its other end, empty where it is not known.

    `state` is lnd's word: of payments "in flight", "succeeded", "failed", of invoices "open", "accepted" (held),
    "settled", "canceled". `fee_msat` is 0 for invoices.
    """

    payment_hash: str
    state: str
    amount_msat: int
    fee_msat: int
    unix_s: int
    other: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node; `state` is "active", "starting", "locked", "paused" or "stopped"; without an answer the rest is zero."""

    name: str
    pid: int | None
    state: str
    memory_mb: float
    height: int = 0
    wallet_sat: int = 0
    unconfirmed_sat: int = 0
    earned_sat: int = 0
    market_sat_per_kw: int = 0  # what lnd would pay for a transaction now
    channels: tuple[ChannelStatus, ...] = ()
    payments: tuple[MovedStatus, ...] = ()  # the newest that it began, oldest of them first
    invoices: tuple[MovedStatus, ...] = ()  # the newest that it made


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """A network and its chain."""

    name: str
    folder: str
    owner_pid: int
    height: int
    mempool: int
    chain_memory_mb: float
    nodes: tuple[NodeStatus, ...]
    costs: NetworkCosts | None = None

    def to_json(self) -> dict[str, Json]:
        """The status as a JSON object."""
        costs = None if self.costs is None else self.costs.to_json()
        return {**cast("dict[str, Json]", asdict(self)), "costs": costs}


def running_in(folder: Path) -> bool:
    """Whether a network runs in this folder: its owner, as long as it lives, holds the lock."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def read_description(folder: Path) -> Mapping[str, object]:
    """`network.json` of a running network; raises NodeFailed when none runs there, or it is not ready yet."""
    if not running_in(folder):
        raise NodeFailed(f"no network runs in {folder}; start one with: v2gbench nodes up")
    try:
        document = json.loads((folder / "network.json").read_bytes())
    except FileNotFoundError as error:
        raise NodeFailed(f"the network in {folder} is still starting; ask again") from error
    except (OSError, ValueError) as error:
        raise NodeFailed(f"{folder / 'network.json'} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != NETWORK_SCHEMA:
        raise NodeFailed(f"{folder / 'network.json'} is no {NETWORK_SCHEMA}; start the network again with this release")
    return document


def read_status(folder: Path, *, sessions: int | None = None) -> NetworkStatus:
    """Ask every node of the network that runs in `folder`; raises NodeFailed when none does.

    With `sessions`, how many a channel serves, its costs are told for one session, too.
    """
    document = read_description(folder)
    nodes = cast("list[Mapping[str, object]]", document["nodes"])
    chain = cast("Mapping[str, object]", document["chain"])
    names = {str(node["public_key"]): str(node["name"]) for node in nodes}
    calls = _chain_calls(folder, chain)
    height, mempool = _chain(calls)
    found = tuple(_node(folder, node, names) for node in nodes)
    return NetworkStatus(
        name=str(document["name"]),
        folder=str(folder),
        owner_pid=cast("int", document["owner_pid"]),
        height=height,
        mempool=mempool,
        chain_memory_mb=memory_mb(cast("int | None", chain["pid"])),
        nodes=found,
        costs=_costs(found, calls, sessions),
    )


def memory_mb(pid: int | None) -> float:
    """Resident memory of a process in MB (10^6 bytes), 0 when it does not run (Linux: /proc)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def process_state(pid: int | None) -> str:
    """What a process does: "running", "paused" (SIGSTOP) or "stopped" (Linux: /proc)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return "stopped"
    letter = text.rpartition(")")[2].split()[0]
    return {"T": "paused", "Z": "stopped", "X": "stopped"}.get(letter, "running")


def picture(status: NetworkStatus, *, width: int = 20) -> str:
    """The network as text: each node, and each of its channels as a bar of what lies on its side."""
    lines = [
        f"{status.name}: block {status.height}, {status.mempool} transactions waiting, {status.chain_memory_mb:.0f} MB"
    ]
    for node in status.nodes:
        if node.state != "active":
            lines.append(f"{node.name}: {node.state}")
            continue
        waiting = f" (+{node.unconfirmed_sat} unconfirmed)" if node.unconfirmed_sat else ""
        lines.append(
            f"{node.name}: block {node.height}, wallet {node.wallet_sat} sat{waiting}, fees {node.earned_sat} sat, "
            f"{node.memory_mb:.0f} MB"
        )
        lines += [f"  {_bar(channel, width)}" for channel in node.channels]
        lines += [f"  {_moved('pays', payment)}" for payment in node.payments]
        lines += [f"  {_moved('is paid', invoice)}" for invoice in node.invoices]
    if status.costs is not None:
        lines.append(costs_text(status.costs))
    return "\n".join(lines)


# Private --------------------------------------------------------------------------------------------------------------


def _bar(channel: ChannelStatus, width: int) -> str:
    filled = round(width * channel.local_sat / max(1, channel.local_sat + channel.remote_sat))
    bar = "#" * filled + "." * (width - filled)
    link = "<->" if channel.active else "-x-"
    pending = f", {channel.pending_htlcs} under way" if channel.pending_htlcs else ""
    return (
        f"{link} {channel.peer:8} [{bar}] {channel.local_sat}/{channel.capacity_sat} sat, "
        f"out {channel.sent_sat}, in {channel.received_sat}{pending}"
    )


def _moved(verb: str, moved: MovedStatus) -> str:
    fee = f" and a fee of {moved.fee_msat} msat" if moved.fee_msat else ""
    other = f" to {moved.other}" if moved.other else ""
    return (
        f"{_clock(moved.unix_s)} {verb} {moved.amount_msat} msat{fee}{other}: {moved.state}, {moved.payment_hash[:8]}"
    )


def _clock(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%SZ")


def _chain_calls(folder: Path, chain: Mapping[str, object]) -> Chain:
    password = ""
    for line in (folder / "chain" / "btcd.conf").read_text("utf-8").splitlines():
        if line.startswith("rpcpass="):
            password = line.partition("=")[2]
    return Chain(folder / "chain", port=cast("int", chain["port"]), user=str(chain["user"]), password=password)


def _chain(calls: Chain) -> tuple[int, int]:
    try:
        return calls.height(), len(calls.mempool())
    except LightningError:
        return 0, 0


def _costs(nodes: Sequence[NodeStatus], calls: Chain, sessions: int | None) -> NetworkCosts | None:
    """What the channels cost; None while neither a node nor the chain can tell."""
    rates = [node.market_sat_per_kw for node in nodes if node.market_sat_per_kw]
    found: dict[str, OpenChannel] = {}
    for node in nodes:
        for channel in node.channels:
            own, other = (channel.local_sat, channel.remote_sat)
            found[channel.point] = OpenChannel(
                point=channel.point,
                opener=node.name if channel.is_opener else channel.peer,
                peer=channel.peer if channel.is_opener else node.name,
                capacity_sat=channel.capacity_sat,
                opener_sat=own if channel.is_opener else other,
                peer_sat=other if channel.is_opener else own,
                commit_fee_sat=channel.commit_fee_sat,
                has_anchors=channel.has_anchors,
            )
    if not rates or not found:
        return None
    channels = sorted(found.values(), key=lambda channel: (channel.opener, channel.peer, channel.point))
    try:
        fees_sat = calls.fees_sat([channel.funding_txid for channel in channels])
    except LightningError:
        return None
    return channel_costs(channels, fees_sat, max(rates), sessions=sessions)


def _node(folder: Path, node: Mapping[str, object], names: Mapping[str, str]) -> NodeStatus:
    name, pid = str(node["name"]), cast("int | None", node["pid"])
    process = process_state(pid)
    if process in {"stopped", "paused"}:
        return NodeStatus(name, None if process == "stopped" else pid, process, memory_mb(pid))
    calls = NodeCalls(
        name,
        address=f"{node['host']}:{node['grpc_port']}",
        certificate=folder / str(node["tls_cert"]),
        macaroon=folder / str(node["macaroon"]),
    )
    with ExitStack() as stack:
        stack.callback(calls.close)
        state = calls.state()
        if state != SERVER_ACTIVE:
            return NodeStatus(name, pid, "locked" if state == LOCKED else "starting", memory_mb(pid))
        try:
            confirmed, unconfirmed = calls.wallet_sat()
            return NodeStatus(
                name=name,
                pid=pid,
                state="active",
                memory_mb=memory_mb(pid),
                height=int(calls.info().block_height),
                wallet_sat=confirmed,
                unconfirmed_sat=unconfirmed,
                earned_sat=calls.earned_sat(),
                market_sat_per_kw=calls.market_sat_per_kw(),
                channels=_channels(calls, names),
                payments=_payments(calls, names),
                invoices=_invoices(calls),
            )
        except LightningError:  # it stopped between two questions
            return NodeStatus(name, pid, "starting", memory_mb(pid))


def _payments(calls: NodeCalls, names: Mapping[str, str]) -> tuple[MovedStatus, ...]:
    found = []
    for payment in history.payments(calls, NEWEST):
        last = payment.routes[0][-1].node_key if payment.routes and payment.routes[0] else ""
        found.append(
            MovedStatus(
                payment_hash=payment.payment_hash,
                state=payment.state,
                amount_msat=payment.amount_msat,
                fee_msat=payment.fee_msat,
                unix_s=payment.begun_unix_s,
                other=names.get(last, last),
            )
        )
    return tuple(found)


def _invoices(calls: NodeCalls) -> tuple[MovedStatus, ...]:
    return tuple(
        MovedStatus(invoice.payment_hash, invoice.state, invoice.amount_msat, 0, invoice.made_unix_s, "")
        for invoice in history.invoices(calls, NEWEST)
    )


def _channels(calls: NodeCalls, names: Mapping[str, str]) -> tuple[ChannelStatus, ...]:
    found: Sequence[ChannelStatus] = [
        ChannelStatus(
            peer=names.get(channel.peer_key, channel.peer_key),
            active=channel.active,
            capacity_sat=channel.capacity_sat,
            local_sat=channel.local_sat,
            remote_sat=channel.remote_sat,
            sent_sat=channel.sent_sat,
            received_sat=channel.received_sat,
            pending_htlcs=channel.pending_htlcs,
            point=channel.point,
            is_opener=channel.is_opener,
            commit_fee_sat=channel.commit_fee_sat,
            has_anchors=channel.anchors,
        )
        for channel in calls.channels()
    ]
    return tuple(sorted(found, key=lambda channel: channel.peer))
