"""What goes wrong in a network, by name, and how it ends.

`BreakableNetwork` is the part of `LightningNetwork` that breaks and mends single things: a process, a wire between two
peers, the chain, a disk. `FAULTS` are what people meet: each has a name, a sentence, and says against whom it is
planted. A `Scene` says who plays which part, so the same fault can be planted in any network:

    scene = Scene(network, hub="hub", payer="van", payee="evse")
    fault = FAULTS["hub_down"]
    fault.plant(scene)      # the hub is gone, whatever is under way
    fault.heal(scene)       # it is back, and every channel with it

A fault never takes money by itself, apart from the two force closes; what each does to money under way stands in
docs/lightning.md, and a test plants every one while payments go on.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ledgers.lightning.client.values import InvoiceState
from ledgers.lightning.errors import NetworkRefused, NodeFailed, NodeTimeout
from ledgers.lightning.nodes.chain import Chain
from ledgers.lightning.nodes.fees import NORMAL_SAT_PER_VBYTE, FeeMarket
from ledgers.lightning.nodes.lnd import LOCKED, Books, ChannelView, NodeCalls
from ledgers.lightning.nodes.plan import CHAIN, CHANNEL_COST_SAT, NetworkPlan, Policy
from ledgers.lightning.nodes.processes import Processes, is_frozen, log_tail, wait_until

if TYPE_CHECKING:
    from ledgers.lightning.nodes.network import LightningNetwork

_STOP_S = 20.0
_ANSWER_S = 0.4
_LINK_FAILS_S = 0.3  # lnd calls a channel active a moment before its link fails
_SPIKE_SAT_PER_VBYTE = 200.0

_S = TypeVar("_S")
_T = TypeVar("_T")


class _Process(Protocol):
    """What is known of one lnd: `network._Node`."""

    peer_port: int
    public_key: str
    calls: NodeCalls | None


@dataclass(frozen=True, slots=True)
class ForcedClose:
    """What was known just before `closer` closed a channel alone: its own view, and the books of those who answered."""

    point: str
    closer: str
    peer: str
    view: ChannelView
    books: Mapping[str, Books]


class BreakableNetwork(ABC):
    """The part of `LightningNetwork` that breaks and mends; that class has the rest, which is declared here."""

    plan: NetworkPlan
    closes: dict[str, ForcedClose]  # by funding, "txid:index"
    replaced: list[tuple[str, str]]  # opener and peer of channels that lnd could not use any more
    _processes: Processes
    _paused: set[str]
    _full: set[str]

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The chain."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The lnd nodes."""

    @abstractmethod
    def calls(self, name: str) -> NodeCalls:
        """The calls of a node."""

    @abstractmethod
    def log(self, name: str) -> Path:
        """The log of a node, or of the chain."""

    @abstractmethod
    def wait_ready(self, *, limit_s: float | None = None) -> None:
        """Return when everything that runs is ready."""

    @abstractmethod
    def wait_synced(self, *, limit_s: float | None = None) -> None:
        """Return when everything that runs has seen the best block."""

    # Breaking and mending.

    def stop(self, name: str) -> None:
        """Ask a node (or "chain") to end, and wait for it; raises NodeTimeout when it does not."""
        self._require_known(name)
        self._save_chain(name)
        self._processes.send(name, signal.SIGCONT)
        self._processes.send(name, signal.SIGTERM)
        if self._processes.wait(name, _STOP_S) is None:
            raise NodeTimeout(f"{name} did not end within {_STOP_S:g} s:\n{log_tail(self.log(name))}")
        self._gone(name)

    def kill(self, name: str) -> None:
        """End a node (or "chain") as a power cut would: SIGKILL."""
        self._require_known(name)
        self._save_chain(name)
        self._processes.send(name, signal.SIGKILL)
        if self._processes.wait(name, _STOP_S) is None:
            raise NodeTimeout(f"{name} survived SIGKILL for {_STOP_S:g} s")
        self._gone(name)

    def start(self, name: str, *, locked: bool = False) -> None:
        """Start a stopped node (or "chain") again on its old ports; returns when it answers.

        A `locked` node waits for somebody to open its wallet.
        """
        if name == CHAIN:
            self._restart_chain()
        else:
            self._start_node_again(name, locked=locked)
        self._write_description()

    def restart(self, name: str, *, locked: bool = False) -> None:
        """Stop and start."""
        self.stop(name)
        self.start(name, locked=locked)

    def unlock(self, name: str) -> None:
        """Open the wallet of a node that was started locked; returns when the node is active."""
        self.calls(name).unlock()
        self._open_wallet_of(name)

    def pause(self, name: str) -> None:
        """Freeze a node (SIGSTOP): connections stay, nothing is answered. Returns when all of it stands still."""
        pid = self._require_running(name)
        self._paused.add(name)
        self._processes.send(name, signal.SIGSTOP)
        wait_until(lambda: is_frozen(pid), limit_s=_STOP_S, what=f"{name} to stand still")

    def resume(self, name: str) -> None:
        """Let a frozen node go on."""
        self._require_known(name)
        self._paused.discard(name)
        self._processes.send(name, signal.SIGCONT)

    def disconnect(self, name: str, peer: str) -> None:
        """Part two nodes and wait until both know; lnd may come together again by itself within a second or two."""
        peer_key, own_key = self._node(peer).public_key, self._node(name).public_key
        self.calls(name).disconnect(peer_key)
        self._wait(peer, lambda: own_key not in self.calls(peer).peers(), f"node {peer!r} to miss {name!r}")

    def connect(self, name: str, peer: str) -> None:
        """Bring two nodes together and wait until they are."""
        target = self._node(peer)

        def together() -> bool:
            calls = self.calls(name)
            if target.public_key in calls.peers():
                return True
            with contextlib.suppress(NodeFailed):  # still starting, or both dialled at once: asked again
                calls.connect(target.public_key, f"127.0.0.1:{target.peer_port}")
            return False

        self._wait(name, together, f"node {name!r} to connect to {peer!r}", every_s=0.05)

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks and wait until every running node has seen them."""
        self.chain.mine(blocks)
        self.wait_synced()

    def reorganise(self, depth: int) -> None:
        """Undo blocks and mine one more in their place; returns when every running node is on the new chain."""
        self.chain.reorganise(depth)
        self.wait_synced()

    def spike_fees(self, sat_per_vbyte: float) -> None:
        """What a transaction costs from now on, in satoshi per virtual byte."""
        self._open_market().sat_per_vbyte = sat_per_vbyte

    def calm_fees(self) -> None:
        """Back to the usual fees."""
        self.spike_fees(NORMAL_SAT_PER_VBYTE)

    def fill_disk(self, name: str) -> None:
        """Every write of a node to a file fails from now on (RLIMIT_FSIZE 0: EFBIG where a full disk says ENOSPC)."""
        pid = self._require_running(name)
        self._full.add(name)
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    def free_disk(self, name: str) -> None:
        """Writes work again; a node that ended of it is started with `start`."""
        self._require_known(name)
        self._full.discard(name)
        pid = self._processes.pid(name)
        if pid is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def heal(self, *, limit_s: float | None = None) -> None:
        """End every fault: let paused nodes go on, start stopped ones, calm the fees, connect peers, wait until ready.

        Raises as `wait_ready`, with its limit, when that does not help. Money stays where it is. A node whose disk was
        full is started anew, because it may have given up inside.
        """
        for name in sorted(self._paused):
            self.resume(name)
        if self._open_market().sat_per_vbyte != NORMAL_SAT_PER_VBYTE:
            self.calm_fees()
        for name in sorted(self._full):
            self.free_disk(name)
            if self._processes.pid(name) is not None:
                self.kill(name)
        if self._processes.pid(CHAIN) is None:
            self.start(CHAIN)
        self._in_parallel([name for name in self.names if self._processes.pid(name) is None], self.start)
        self._in_parallel([name for name in self.names if self.calls(name).state() == LOCKED], self.unlock)
        self._connect_all()
        self.wait_ready(limit_s=limit_s)

    def close_channel(self, name: str, peer: str, *, force: bool = False) -> str:
        """Begin to close the channel between two nodes from the side of `name`; returns the id of its transaction."""
        peer_key = self._node(peer).public_key
        for channel in self.calls(name).channels():
            if channel.peer_key == peer_key:
                return self.calls(name).close_channel(channel.point, force=force)
        raise NodeFailed(f"there is no open channel between {name!r} and {peer!r}")

    def force_close(self, name: str, peer: str) -> str:
        """`name` closes its channel with `peer` alone; returns when its transaction (the id) waits for a block.

        What both had in it is kept for the audit, which then says whose money the closing gave to the miner.
        """
        key = self._node(peer).public_key
        books = {name: self.calls(name).books()}
        with contextlib.suppress(NodeFailed, NodeTimeout):  # the peer may be the one that does not answer
            books[peer] = self.calls(peer).books()
        for channel in books[name].channels:
            if channel.peer_key == key:
                self.closes[channel.point] = ForcedClose(channel.point, name, peer, channel, books)
                break
        txid = self.close_channel(name, peer, force=True)
        self._wait(CHAIN, lambda: self.chain.knows(txid), f"the closing transaction {txid} to reach the chain")
        return txid

    def mine_until_resolved(self, *, most_blocks: int = 1000) -> int:
        """Mine until nobody waits for money of a closed channel any more; returns how many blocks it took.

        Nodes answer a block with transactions of their own, for which it waits a moment. When nothing comes, it mines
        up to the next time lock at once; holds in other channels may expire with that. Raises NodeTimeout after
        `most_blocks`.
        """
        begin = self.chain.height()
        while True:
            waiting = [closing for name in self.names for closing in self.calls(name).closings()]
            height = self.chain.height()
            if not waiting and not self.chain.mempool():
                return height - begin
            if height - begin >= most_blocks:
                points = ", ".join(sorted({closing.point for closing in waiting}))
                raise NodeTimeout(f"after {height - begin} blocks money of a closed channel is waited for: {points}")
            with contextlib.suppress(NodeTimeout):  # a node that waits for a height has nothing to send
                wait_until(lambda: bool(self.chain.mempool()), limit_s=_ANSWER_S, every_s=0.02, what="")
            later = [lock - height for closing in waiting for lock in closing.heights if lock > height]
            self.mine(1 if self.chain.mempool() or not later else min(later))

    def wait_invoice_closed(self, name: str, payment_hash: str) -> None:
        """Return when an invoice of a node can take no money any more: settled, cancelled, or expired."""
        closed = {InvoiceState.SETTLED, InvoiceState.CANCELED}
        self._wait(
            name,
            lambda: self.calls(name).invoice_state(payment_hash) in closed,
            f"invoice {payment_hash[:16]}... of node {name!r} to be closed",
            every_s=0.1,
        )

    def reopen_channel(self, opener: str, peer: str) -> str:
        """Open the plan's channel between two nodes anew, with money of the miner; returns "txid:index"."""
        for channel in self.plan.channels:
            if (channel.opener, channel.peer) == (opener, peer):
                self.fund(opener, channel.capacity_sat + CHANNEL_COST_SAT)
                point = self.open_channel(opener, peer, capacity_sat=channel.capacity_sat, push_sat=channel.push_sat)
                self.wait_ready()
                return point
        raise NodeFailed(f"the plan has no channel that {opener!r} opens to {peer!r}")

    def replace_dead_channels(self, *, limit_s: float = 10.0) -> tuple[tuple[str, str], ...]:
        """Wait until ready; what is not active within `limit_s` is closed by force and opened anew. Returns whose.

        The link of a channel whose end was killed, or lost its peer, while it settled can fail whenever it starts (lnd
        v0.21.2-beta: "unable to settle htlc: No HTLC with ID"), whatever is started anew or connected again; seen in
        about one of eighty kills of a payee, and about one of ten partings with four payments under way. Its money is
        safe, and comes back over the chain.
        """
        dead = self.dead_channels(limit_s=limit_s)
        if dead:
            self.replace_channels(dead)
        return dead

    def dead_channels(self, *, limit_s: float = 10.0) -> tuple[tuple[str, str], ...]:
        """Openers and peers of the plan's channels that are not active after `limit_s`, or do not stay so."""
        end = time.monotonic() + limit_s
        while True:
            try:
                self.wait_ready(limit_s=max(_ANSWER_S, end - time.monotonic()))
            except NodeTimeout:
                dead = self._inactive_channels()
                if not dead:
                    raise
                return dead
            time.sleep(_LINK_FAILS_S)
            dead = self._inactive_channels()
            if not dead or time.monotonic() >= end:
                return dead

    def missing_channels(self) -> tuple[tuple[str, str], ...]:
        """Openers and peers of the plan without an open channel: lnd closes one itself when an HTLC's time is over."""
        open_to = {name: {channel.peer_key for channel in self.calls(name).channels()} for name in self.names}
        return tuple(
            (channel.opener, channel.peer)
            for channel in self.plan.channels
            if self._node(channel.peer).public_key not in open_to[channel.opener]
        )

    def replace_channels(self, dead: Sequence[tuple[str, str]]) -> None:
        """Close channels of the plan by force, wait for their money, open them anew; holds elsewhere may expire."""
        for opener, peer in dead:
            self.force_close(opener, peer)
        self.mine_until_resolved()
        for opener, peer in dead:
            self.reopen_channel(opener, peer)
        self.wait_ready()
        self.replaced += dead

    def open_channel(self, name: str, peer: str, *, capacity_sat: int, push_sat: int = 0) -> str:
        """Open a channel from the money of `name`, confirm it, and wait until it is active; returns "txid:index"."""
        self.connect(name, peer)
        point = self.calls(name).open_channel(self._node(peer).public_key, capacity_sat=capacity_sat, push_sat=push_sat)
        self._confirm([point])

        def active_at(end: str) -> bool:
            return any(channel.point == point and channel.active for channel in self.calls(end).channels())

        for end in (name, peer):
            self._wait(end, partial(active_at, end), f"channel {point} to be active at node {end!r}")
        return point

    def fund(self, name: str, amount_sat: int) -> None:
        """Pay satoshi from the miner into a node's wallet, confirmed."""
        before, _ = self.calls(name).wallet_sat()
        self.chain.fund([(self.calls(name).new_address(), amount_sat)])
        self.chain.mine(1)
        self._wait(
            name,
            lambda: self.calls(name).wallet_sat()[0] >= before + amount_sat,
            f"node {name!r} to see {amount_sat} sat",
        )

    def set_policy(self, name: str, policy: Policy) -> None:
        """Change what a node asks for forwarding, on all its channels; others learn of it by gossip."""
        self.calls(name).set_policy(
            base_fee_msat=policy.base_fee_msat,
            fee_rate_ppm=policy.fee_rate_ppm,
            time_lock_delta=policy.time_lock_delta,
        )

    # Private: what the other part of the network does.

    @abstractmethod
    def _node(self, name: str) -> _Process: ...

    @abstractmethod
    def _start_node_again(self, name: str, *, locked: bool) -> None: ...

    @abstractmethod
    def _restart_chain(self) -> None: ...

    @abstractmethod
    def _open_wallet_of(self, name: str) -> None: ...

    @abstractmethod
    def _connect_all(self) -> None: ...

    @abstractmethod
    def _confirm(self, points: Sequence[str]) -> None: ...

    @abstractmethod
    def _open_market(self) -> FeeMarket: ...

    @abstractmethod
    def _save_chain(self, name: str) -> None: ...

    @abstractmethod
    def _gone(self, name: str) -> None: ...

    @abstractmethod
    def _write_description(self) -> None: ...

    @abstractmethod
    def _in_parallel(self, items: Sequence[_S], work: Callable[[_S], _T]) -> list[_T]: ...

    @abstractmethod
    def _wait(
        self,
        name: str,
        condition: Callable[[], bool],
        what: str | Callable[[], str],
        *,
        limit_s: float | None = None,
        every_s: float = 0.02,
    ) -> None: ...

    def _inactive_channels(self) -> tuple[tuple[str, str], ...]:
        """Openers and peers of the plan's channels that are open, and that the opener calls inactive."""
        inactive = []
        for channel in self.plan.channels:
            peer_key = self._node(channel.peer).public_key
            states = [found.active for found in self.calls(channel.opener).channels() if found.peer_key == peer_key]
            if states and not any(states):
                inactive.append((channel.opener, channel.peer))
        return tuple(inactive)

    def _require_known(self, name: str) -> None:
        if name != CHAIN:
            self._node(name)

    def _require_running(self, name: str) -> int:
        self._require_known(name)
        pid = self._processes.pid(name)
        if pid is None:
            raise NodeFailed(f"{name} does not run; start it first")
        return pid


# Faults by name -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """Who plays which part when a fault is planted; `payer` and `payee` each have a channel with `hub`.

    `payment_hash` and `preimage` (hexadecimal) are those of a payment under way, for the two faults that concern one.
    """

    network: LightningNetwork
    hub: str
    payer: str
    payee: str
    payment_hash: str = ""
    preimage: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: `plant` begins it, `heal` ends it and returns when the network is ready again.

    `needs_hold`: it concerns a hold that is placed, whose preimage the scene must name. `closes_channel`: money goes to
    the chain, and `heal` opens another channel when it is back. Both raise NodeFailed or NodeTimeout when the network
    cannot do it.
    """

    name: str
    sentence: str
    plant: Callable[[Scene], None]
    heal: Callable[[Scene], None]
    needs_hold: bool = False
    closes_channel: bool = False


def fault_named(name: str) -> Fault:
    """The fault of that name; raises NetworkRefused with the names that there are."""
    if name not in FAULTS:
        raise NetworkRefused(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    return FAULTS[name]


def _back(part: Callable[[Scene], str]) -> Callable[[Scene], None]:
    def heal(scene: Scene) -> None:
        if scene.network.process_id(part(scene)) is None:
            scene.network.start(part(scene))
        scene.network.replace_dead_channels()

    return heal


def _goes_on(part: Callable[[Scene], str]) -> Callable[[Scene], None]:
    def heal(scene: Scene) -> None:
        scene.network.resume(part(scene))
        scene.network.replace_dead_channels()

    return heal


def _together(scene: Scene) -> None:
    scene.network.connect(scene.payee, scene.hub)
    scene.network.replace_dead_channels()


def _expired(scene: Scene) -> None:
    """The payee's node cancels an invoice by itself when its time is over (lnd: invoices.InvoiceExpiryWatcher)."""
    if scene.payment_hash:
        scene.network.wait_invoice_closed(scene.payee, scene.payment_hash)
    _back(_hub)(scene)


def _freed(scene: Scene) -> None:
    """A node whose disk was full is started anew, because it may have given up inside."""
    scene.network.free_disk(scene.payee)
    if scene.network.process_id(scene.payee) is not None:
        scene.network.kill(scene.payee)
    scene.network.start(scene.payee)
    scene.network.replace_dead_channels()


def _calm(scene: Scene) -> None:
    scene.network.calm_fees()


def _closed(closer: Callable[[Scene], str], other: Callable[[Scene], str]) -> Callable[[Scene], None]:
    def plant(scene: Scene) -> None:
        scene.network.force_close(closer(scene), other(scene))

    return plant


def _reopened(spoke: Callable[[Scene], str]) -> Callable[[Scene], None]:
    def heal(scene: Scene) -> None:
        scene.network.mine_until_resolved()
        scene.network.reopen_channel(scene.hub, spoke(scene))

    return heal


def _twice(scene: Scene) -> None:
    scene.network.calls(scene.payee).settle_invoice(scene.preimage)


def _hub(scene: Scene) -> str:
    return scene.hub


def _payer(scene: Scene) -> str:
    return scene.payer


def _payee(scene: Scene) -> str:
    return scene.payee


def _chain(_scene: Scene) -> str:
    return CHAIN


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "hub_down",
            "the hub's node dies as in a power cut while money passes through it",
            lambda scene: scene.network.kill(scene.hub),
            _back(_hub),
        ),
        Fault(
            "payer_down",
            "the payer's node dies while its money is under way",
            lambda scene: scene.network.kill(scene.payer),
            _back(_payer),
        ),
        Fault(
            "payee_offline",
            "the payee's node is gone when it should be paid, or should settle",
            lambda scene: scene.network.kill(scene.payee),
            _back(_payee),
        ),
        Fault(
            "stuck_htlc",
            "the payee's node is frozen: connections stay, nothing is answered, and money stays on the way to it",
            lambda scene: scene.network.pause(scene.payee),
            _goes_on(_payee),
        ),
        Fault(
            "frozen_hub",
            "the hub's node is frozen with money in the middle",
            lambda scene: scene.network.pause(scene.hub),
            _goes_on(_hub),
        ),
        Fault(
            "parted_peers",
            "hub and payee lose their connection",
            lambda scene: scene.network.disconnect(scene.payee, scene.hub),
            _together,
        ),
        Fault(
            "force_close_by_hub",
            "the hub closes the payee's channel alone, on the chain",
            _closed(_hub, _payee),
            _reopened(_payee),
            closes_channel=True,
        ),
        Fault(
            "force_close_by_payee",
            "the payee's node closes its channel alone, on the chain",
            _closed(_payee, _hub),
            _reopened(_payee),
            closes_channel=True,
        ),
        Fault(
            "force_close_by_payer",
            "the payer's node closes its channel alone, on the chain",
            _closed(_payer, _hub),
            _reopened(_payer),
            closes_channel=True,
        ),
        Fault(
            "reorganisation",
            "the last two blocks are undone and three others mined in their place (btcd: invalidateblock)",
            lambda scene: scene.network.reorganise(2),
            lambda scene: scene.network.wait_ready(),
        ),
        Fault(
            "chain_restart",
            "btcd dies, and its blocks are given back to it when it starts",
            lambda scene: scene.network.kill(CHAIN),
            _back(_chain),
        ),
        Fault(
            "expired_invoice",
            "the hub's node is gone until the invoice has expired",
            lambda scene: scene.network.kill(scene.hub),
            _expired,
        ),
        Fault(
            "preimage_twice",
            "somebody gives the preimage of a hold to the payee's node before the settlement does, and once more after",
            _twice,
            _twice,
            needs_hold=True,
        ),
        Fault(
            "fee_spike",
            f"a transaction costs {_SPIKE_SAT_PER_VBYTE:g} satoshi per virtual byte",
            lambda scene: scene.network.spike_fees(_SPIKE_SAT_PER_VBYTE),
            _calm,
        ),
        Fault(
            "disk_full",
            "every write of the payee's node to its disk fails",
            lambda scene: scene.network.fill_disk(scene.payee),
            _freed,
        ),
    )
}
