"""A network that runs: one btcd, any number of lnd, funded, with active channels that every node knows of.

    with LightningNetwork(hub_and_spokes("yard", spokes=["van", "evse"])) as network:
        network.address("van")          # host, port, certificate, macaroon: what a client needs
        network.kill("hub")             # faults by name
        network.start("hub")
        network.wait_ready()

Ready means: every node has seen the best block and calls itself synced, every channel is active at both ends, and every
node has every channel with the policies of both sides in its graph. Nothing sleeps for a time; everything waits for a
condition and gives up at a limit, with the last lines of the log of the node that it waited for.

The first network of a plan is built on an empty chain, stopped and kept in the cache (`stored`); later ones start from
a copy. Each start begins with the plan's balances: what happened on the last run's chain is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ledgers.lightning.errors import LightningError, NodeFailed, NodeTimeout
from ledgers.lightning.nodes.build import Programs, Progress, build_programs, cache_folder
from ledgers.lightning.nodes.chain import FIRST_BLOCKS, Chain, chain_options, new_certificate, new_password
from ledgers.lightning.nodes.disk import disk_refused
from ledgers.lightning.nodes.faults import BreakableNetwork, ForcedClose
from ledgers.lightning.nodes.fees import NORMAL_SAT_PER_VBYTE, FeeMarket
from ledgers.lightning.nodes.lnd import (
    NO_WALLET,
    SERVER_ACTIVE,
    WALLET_PASSWORD,
    WALLET_STATES,
    NodeAddress,
    NodeCalls,
    master_key,
    node_options,
)
from ledgers.lightning.nodes.plan import CHAIN, CHANNEL_COST_SAT, NetworkPlan
from ledgers.lightning.nodes.processes import Processes, connections_to, free_ports, log_tail, wait_until
from ledgers.lightning.nodes.stored import STORE_FORMAT, StoredNetworks

NETWORK_SCHEMA = "v2gbench.lightning-run/1.0"
_ANNOUNCED_AFTER = 6  # confirmations before a channel is told to everybody (BOLT 7)
_PORT_TRIES = 5
_LEFT_BEHIND_S = 3600.0  # a folder whose owner was killed; that long after, nobody is just about to lock it
_KEPT_S = 24 * 3600.0  # a folder that was kept for its logs
_KEPT = "kept"  # the file that says so
_BLOCKS_TO_SYNC = 6  # mined after a restart of btcd, two seconds each, before a node is taken for stuck
_CHAIN_CONNECTIONS = 3  # that an lnd keeps to its btcd: chain notifier, wallet, chain view

_S = TypeVar("_S")
_T = TypeVar("_T")


class _Abandoned(Exception):
    """Another node failed, so there is nothing to wait for any more."""


@dataclass(slots=True)
class _Node:
    """One lnd of a running network; `calls` is bound to its present port."""

    name: str
    folder: Path
    peer_port: int = 0
    grpc_port: int = 0
    public_key: str = ""
    calls: NodeCalls | None = None

    @property
    def log(self) -> Path:
        return self.folder / "lnd.log"

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.cert"

    @property
    def macaroon(self) -> Path:
        return self.folder / "data" / "chain" / "bitcoin" / "regtest" / "admin.macaroon"


class LightningNetwork(BreakableNetwork):
    """A network of real nodes on a private regtest chain, as a context manager.

    `folder` receives data and logs and is kept; without it they lie in the cache, are removed after a good end and kept
    after a bad one. `stored` False builds the network anew even when the cache has it, and keeps nothing. `ready_s`
    bounds each wait. Thread-safe for different nodes; nothing of it outlives the process (`supervisor.py`).

    Raises BuildError, NodeFailed, NodeTimeout; then everything that was started is ended.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        *,
        folder: Path | None = None,
        cache: Path | None = None,
        programs: Programs | None = None,
        progress: Progress | None = None,
        stored: bool = True,
        ready_s: float = 120.0,
    ) -> None:
        self.plan = plan
        self.ready_s = ready_s
        self.started_from_store = False
        self.closes: dict[str, ForcedClose] = {}
        self.replaced: list[tuple[str, str]] = []
        self._cache = cache or cache_folder()
        self._wanted_folder = folder
        self._programs = programs
        self._progress = progress or (lambda _done, _total, _what: None)
        self._use_store = stored
        self._folder: Path | None = None
        self._lock: int | None = None
        self._processes = Processes()
        self._market: FeeMarket | None = None
        self._chain: Chain | None = None
        self._chain_port = 0
        self._password = new_password()
        self._nodes: dict[str, _Node] = {}
        self._paused: set[str] = set()
        self._full: set[str] = set()  # whose disk is full
        self._writing = threading.Lock()
        self._local = threading.local()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._note_logs(error)
        self.close(keep=error is not None)

    # Life.

    def open(self) -> None:
        """Start everything and return when the network is ready."""
        try:
            with self._disk_told():
                self._open_all()
        except BaseException as error:
            self._note_logs(error)
            self.close(keep=True)
            raise

    def close(self, *, keep: bool = False) -> None:
        """End every process; with `keep`, or in a folder of the caller's, data and logs stay. Twice is once."""
        for node in self._nodes.values():
            if node.calls is not None:
                node.calls.close()
        for name in [*self._nodes, CHAIN]:
            self._processes.send(name, signal.SIGKILL)  # nobody will read their data again
        self._processes.close()
        if self._market is not None:
            self._market.close()
            self._market = None
        if self._lock is not None:
            if self._wanted_folder is None and self._folder is not None:
                self._keep_or_remove(self._folder, keep=keep)
            os.close(self._lock)
            self._lock = None

    # What a client needs.

    @property
    def folder(self) -> Path:
        """Where data and logs of this run are."""
        if self._folder is None:
            raise NodeFailed(f"network {self.plan.name!r} is not open")
        return self._folder

    @property
    def programs(self) -> Programs:
        """The programs that run, `lncli` among them."""
        if self._programs is None:
            raise NodeFailed(f"network {self.plan.name!r} is not open")
        return self._programs

    @property
    def chain(self) -> Chain:
        """The chain: mine, look, reorganise."""
        if self._chain is None:
            raise NodeFailed(f"network {self.plan.name!r} is not open")
        return self._chain

    @property
    def names(self) -> tuple[str, ...]:
        """The lnd nodes, in the plan's order."""
        return tuple(node.name for node in self.plan.nodes)

    def address(self, name: str) -> NodeAddress:
        """How to reach a node."""
        node = self._node(name)
        return NodeAddress(
            name=name,
            host="127.0.0.1",
            grpc_port=node.grpc_port,
            tls_cert_path=node.certificate,
            macaroon_path=node.macaroon,
            public_key=node.public_key,
        )

    def calls(self, name: str) -> NodeCalls:
        """The calls of a node that networks are made with; for channels, graph and wallet."""
        calls = self._node(name).calls
        if calls is None:
            raise NodeFailed(f"node {name!r} was not started")
        return calls

    def log(self, name: str) -> Path:
        """The log of a node, or of the chain."""
        return self._chain_folder / "btcd.log" if name == CHAIN else self._node(name).log

    def log_tails(self) -> dict[str, str]:
        """The last lines of every log, the chain's first."""
        return {name: log_tail(self.log(name)) for name in (CHAIN, *self.names)}

    def process_id(self, name: str) -> int | None:
        """The process of a node or the chain; None when it does not run."""
        return self._processes.pid(name)

    def lncli(self, name: str) -> list[str]:
        """The command line of lnd's own client for a node, to which a command is appended."""
        node = self._node(name)
        return [
            str(self.programs.lncli),
            "--network=regtest",
            f"--rpcserver=127.0.0.1:{node.grpc_port}",
            f"--tlscertpath={node.certificate}",
            f"--macaroonpath={node.macaroon}",
        ]

    # Ready.

    def wait_ready(self, *, limit_s: float | None = None) -> None:
        """Return when every running node is synced, and every channel between running nodes is active and known.

        A node without a channel is not told about those of others, so it need not know them.

        Raises NodeTimeout or NodeFailed with what is missing and the last lines of that node's log.
        """
        running = self._running()
        limit = time.monotonic() + (self.ready_s if limit_s is None else limit_s)
        opened = self._in_parallel(running, lambda name: self._wait_active(name, running, limit))
        channels = frozenset().union(*opened)
        told = [name for name, own in zip(running, opened, strict=True) if own]
        self._in_parallel(told, lambda name: self._wait_graph(name, channels, limit))

    def wait_synced(self, *, limit_s: float | None = None) -> None:
        """Return when every running node that is not paused has seen the best block."""
        height = self.chain.height()
        self._in_parallel(
            [name for name in self._running() if name not in self._paused],
            lambda name: self._wait(
                name,
                lambda: self.calls(name).is_synced_at(height),
                f"node {name!r} to be synced at block {height}",
                limit_s=limit_s,
            ),
        )

    # Private: from nothing, or from the store.

    @property
    def _chain_folder(self) -> Path:
        return self.folder / CHAIN

    def _open_all(self) -> None:
        programs = self._programs or build_programs(self._cache, progress=self._progress)
        if self._programs is not None:
            programs.check()
        self._programs = programs
        self._remove_left_behind()
        self._open_folder()
        self._market = FeeMarket()
        store = StoredNetworks(self._cache / "networks")
        key = f"{STORE_FORMAT}-{self.plan.key[:32]}-{programs.key[:16]}"
        if not (self._use_store and self._open_stored(store, key)):
            self._open_new()
            if self._use_store:
                self._stop_all()
                self._keep(store, key)
                self._start_all()
                self._finish()
        self._write_description()

    @contextmanager
    def _disk_told(self) -> Iterator[None]:
        """What the disk refuses, in one sentence; an error of a connection is none of the disk."""
        try:
            yield
        except (LightningError, ConnectionError):  # NodeTimeout is an OSError, too
            raise
        except OSError as error:
            raise NodeFailed(disk_refused(self._folder or self._wanted_folder or self._cache, error)) from error

    def _note_logs(self, error: BaseException) -> None:
        if self._folder is not None and any(self._folder.rglob("*.log")):
            error.add_note(f"the logs of the nodes are kept in {self._folder}")

    def _open_folder(self) -> None:
        if self._wanted_folder is not None:
            folder = self._wanted_folder.absolute()
            folder.mkdir(parents=True, exist_ok=True)
        else:
            runs = self._cache / "runs"
            runs.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = Path(tempfile.mkdtemp(prefix=f"{self.plan.name}-", dir=runs))
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NodeFailed(f"another network runs in {folder}; stop it or choose another folder") from error
        (folder / "network.json").unlink(missing_ok=True)
        self._folder = folder
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._chain_folder, ignore_errors=True)
        shutil.rmtree(self.folder / "nodes", ignore_errors=True)
        self._chain_folder.mkdir(mode=0o700)
        self._nodes = {name: _Node(name, self.folder / "nodes" / name) for name in self.names}
        for node in self._nodes.values():
            node.folder.mkdir(parents=True, mode=0o700)

    @staticmethod
    def _keep_or_remove(folder: Path, *, keep: bool) -> None:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            return
        with contextlib.suppress(OSError):  # on a full disk it goes with those that were killed, and sooner
            (folder / _KEPT).touch()

    def _remove_left_behind(self) -> None:
        """Folders of runs that were killed more than an hour ago, or ended badly more than a day ago."""
        for folder in (self._cache / "runs").glob("*"):
            try:
                limit_s = _KEPT_S if (folder / _KEPT).exists() else _LEFT_BEHIND_S
                if time.time() - folder.stat().st_mtime > limit_s:
                    with _lock_of(folder):
                        shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue  # in use, or gone meanwhile

    def _keep(self, store: StoredNetworks, key: str) -> None:
        """To be kept saves the next start some seconds; a cache that does not take it is told, and no hindrance."""
        try:
            store.keep(key, self.folder)
        except NodeFailed as error:
            self._progress(0, 0, f"{error}; going on without")

    def _open_stored(self, store: StoredNetworks, key: str) -> bool:
        if not store.copy(key, self.folder):
            return False
        self._progress(0, 0, "starting the nodes from the cache")
        try:
            self._start_all()
            self._finish()
        except LightningError:
            self._processes.close()
            self._processes = Processes()
            store.discard(key)
            self._clear()
            return False
        self.started_from_store = True
        return True

    def _open_new(self) -> None:
        self._progress(0, 0, "starting the nodes")
        self._start_chain()
        self.chain.mine(FIRST_BLOCKS)
        self._in_parallel(self.names, lambda name: self._start_node(self._nodes[name]))
        self._progress(0, 0, "funding the nodes")
        self._fund_all()
        self._progress(0, 0, "opening the channels")
        self._open_channels()
        self._finish()

    def _start_all(self) -> None:
        self._start_chain()
        self.chain.restore()
        self.chain.mine(1)  # lnd takes a best block older than two hours for a chain that still syncs
        self._in_parallel(self.names, lambda name: self._start_node(self._nodes[name]))

    def _finish(self) -> None:
        self._progress(0, 0, "waiting for channels and graph")
        self._connect_all()
        self.wait_ready()

    def _fund_all(self) -> None:
        payments: list[tuple[str, int]] = []
        expected: dict[str, int] = {}
        for node in self.plan.nodes:
            amounts = [
                channel.capacity_sat + CHANNEL_COST_SAT for channel in self.plan.channels if channel.opener == node.name
            ]
            amounts += [node.on_chain_sat] if node.on_chain_sat else []
            expected[node.name] = sum(amounts)
            payments += [(self.calls(node.name).new_address(), amount) for amount in amounts]
        if payments:
            self.chain.fund(payments)
            self.chain.mine(1)
        self._in_parallel(
            self.names,
            lambda name: self._wait(
                name,
                lambda: self.calls(name).wallet_sat()[0] >= expected[name],
                f"node {name!r} to see {expected[name]} sat",
            ),
        )
        self.wait_synced()

    def _open_channels(self) -> None:
        if not self.plan.channels:
            return
        self._connect_all()

        def open_all(opener: str) -> list[str]:
            # The largest first: lnd spends the largest coin first, and each channel needs a confirmed one of its own.
            own = sorted((c for c in self.plan.channels if c.opener == opener), key=lambda c: -c.capacity_sat)
            return [
                self.calls(opener).open_channel(
                    self._nodes[channel.peer].public_key,
                    capacity_sat=channel.capacity_sat,
                    push_sat=channel.push_sat,
                    sat_per_vbyte=NORMAL_SAT_PER_VBYTE,
                )
                for channel in own
            ]

        openers = sorted({channel.opener for channel in self.plan.channels})
        self._confirm([point for points in self._in_parallel(openers, open_all) for point in points])

    def _connect_all(self) -> None:
        pairs = sorted({(channel.opener, channel.peer) for channel in self.plan.channels})
        self._in_parallel(pairs, lambda pair: self.connect(*pair))

    def _confirm(self, points: Sequence[str]) -> None:
        wanted = {point.partition(":")[0] for point in points}
        self._wait(CHAIN, lambda: wanted <= set(self.chain.mempool()), "the funding transactions to reach the chain")
        self.chain.mine(_ANNOUNCED_AFTER)

    # Private: processes.

    def _start_chain(self, *, again: bool = False) -> None:
        def start() -> None:
            if not again:
                (self._chain_port,) = free_ports(1)
                options = chain_options(port=self._chain_port, user="v2gbench", password=self._password)
                _write_private(self._chain_folder / "btcd.conf", "\n".join(options) + "\n")
                if not (self._chain_folder / "rpc.cert").exists():
                    certificate, secret = new_certificate()
                    _write_private(self._chain_folder / "rpc.key", secret)
                    _write_private(self._chain_folder / "rpc.cert", certificate)
                self._chain = Chain(self._chain_folder, port=self._chain_port, user="v2gbench", password=self._password)
            self._processes.start(
                CHAIN,
                [str(self.programs.btcd), "--configfile=btcd.conf"],
                log=self.log(CHAIN),
                folder=self._chain_folder,
                environment=self._environment(),
            )
            self._wait(CHAIN, self.chain.answers, "the chain to answer")

        _until_ports_are_free(start, tries=1 if again else _PORT_TRIES)

    def _restart_chain(self) -> None:
        """The lnds are frozen while btcd gets its blocks back, or they would see the chain shrink to nothing.

        Then they dial it again, at first after five seconds, later more seldom (btcd: rpcclient). A block mined before
        a node is back is seen by that node only with the next one; so blocks are mined until all have seen the last.
        A wallet whose rescan was answered on the old connection ("Received unexpected reply" in the log of lnd
        v0.21.2-beta, in about one of a hundred restarts) waits for it for ever; its node is started anew, too.
        """
        awake = [name for name in self._running() if name not in self._paused]
        for name in awake:
            self.pause(name)
        try:
            self._start_chain(again=True)
            self.chain.restore()
        finally:
            for name in awake:
                self.resume(name)
        if not awake:
            return
        for name in awake:
            self._wait(name, partial(self._dialled, name), f"node {name!r} to dial the chain again")
        for _ in range(_BLOCKS_TO_SYNC):
            self.chain.mine(1)
            with contextlib.suppress(NodeTimeout):
                self.wait_synced(limit_s=2.0)
                return
        height = self.chain.height()
        for name in awake:
            if not self.calls(name).is_synced_at(height):
                self.restart(name)
        self.wait_synced()

    def _dialled(self, name: str) -> bool:
        pid = self._processes.pid(name)
        return pid is not None and connections_to(pid, self._chain_port) >= _CHAIN_CONNECTIONS

    def _start_node(self, node: _Node, *, again: bool = False, locked: bool = False) -> None:
        password = self.folder / "wallet-password"
        _write_private(password, WALLET_PASSWORD)

        def start() -> None:
            if not again:
                node.peer_port, node.grpc_port = free_ports(2)
            options = node_options(
                self.plan.node(node.name),
                peer_port=node.peer_port,
                grpc_port=node.grpc_port,
                chain_port=self._chain_port,
                chain_user="v2gbench",
                chain_password=self._password,
                chain_certificate=self._chain_folder / "rpc.cert",
                password_file=None if locked else password,
                fee_url=self._open_market().url,
            )
            _write_private(node.folder / "lnd.conf", "\n".join(options) + "\n")
            if node.calls is not None:
                node.calls.close()
            node.calls = NodeCalls(
                node.name,
                address=f"127.0.0.1:{node.grpc_port}",
                certificate=node.certificate,
                macaroon=node.macaroon,
            )
            self._processes.start(
                node.name,
                [str(self.programs.lnd), f"--lnddir={node.folder}"],
                log=node.log,
                folder=node.folder,
                environment=self._environment(),
            )
            self._wait(node.name, partial(_has_started, node.calls), f"node {node.name!r} to answer")
            if not locked:
                self._open_wallet(node)

        _until_ports_are_free(start, tries=1 if again else _PORT_TRIES)

    def _start_node_again(self, name: str, *, locked: bool) -> None:
        self._start_node(self._node(name), again=True, locked=locked)

    def _open_wallet_of(self, name: str) -> None:
        self._open_wallet(self._node(name))

    def _open_wallet(self, node: _Node) -> None:
        calls = self.calls(node.name)
        if calls.state() == NO_WALLET:
            calls.make_wallet(master_key(self.plan.seed, node.name), birthday_unix_s=int(time.time()))
        self._wait(
            node.name,
            lambda: calls.state() == SERVER_ACTIVE and node.macaroon.exists(),
            f"node {node.name!r} to be active",
        )
        node.public_key = calls.public_key()

    def _stop_all(self) -> None:
        self._progress(0, 0, "keeping the network in the cache")
        self._in_parallel(self.names, self.stop)
        self.stop(CHAIN)

    def _save_chain(self, name: str) -> None:
        if name == CHAIN and self._processes.pid(CHAIN) is not None and CHAIN not in self._paused:
            self.chain.save()

    def _gone(self, name: str) -> None:
        self._paused.discard(name)
        self._full.discard(name)
        if name != CHAIN:
            calls = self._node(name).calls
            if calls is not None:
                calls.close()

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's proxies, and a home that is ours: lnd and btcd look for files there."""
        return {"HOME": str(self.folder), "PATH": os.environ.get("PATH", ""), "TZ": "UTC"}

    def _running(self) -> list[str]:
        return [name for name in self.names if self._processes.pid(name) is not None]

    def _wait_active(self, name: str, running: Sequence[str], limit: float) -> frozenset[int]:
        """Wait for the chain and for active channels; returns the ids of the channels."""
        calls = self.calls(name)
        keys = {self._nodes[other].public_key: other for other in running}
        missing = "an answer"
        found: frozenset[int] = frozenset()

        def active() -> bool:
            nonlocal missing, found
            try:
                height = self.chain.height()
                if not calls.is_synced_at(height):
                    missing = f"block {height}"
                    return False
                channels = [channel for channel in calls.channels() if channel.peer_key in keys]
            except NodeFailed as error:
                missing = f"an answer ({error})"
                return False
            asleep = [keys[channel.peer_key] for channel in channels if not channel.active]
            missing = f"its channel with {asleep[0]!r}" if asleep else ""
            found = frozenset(channel.channel_id for channel in channels)
            return not asleep

        def what() -> str:
            return f"node {name!r} to be synced and its channels active; missing: {missing}"

        self._wait(name, active, what, limit_s=limit - time.monotonic(), every_s=0.05)
        return found

    def _wait_graph(self, name: str, channels: frozenset[int], limit: float) -> None:
        missing = len(channels)

        def known() -> bool:
            nonlocal missing
            missing = len(channels - self.calls(name).graph().complete)
            return not missing

        def what() -> str:
            return f"node {name!r} to know every channel; missing: {missing} of {len(channels)}"

        self._wait(name, known, what, limit_s=limit - time.monotonic(), every_s=0.05)

    def _wait(
        self,
        name: str,
        condition: Callable[[], bool],
        what: str | Callable[[], str],
        *,
        limit_s: float | None = None,
        every_s: float = 0.02,
    ) -> None:
        """Wait for a condition that needs process `name`; its death ends the wait."""
        limit = self.ready_s if limit_s is None else max(0.0, limit_s)
        abandoned: threading.Event | None = getattr(self._local, "abandoned", None)

        def told() -> str:
            return what if isinstance(what, str) else what()

        def alive_and_true() -> bool:
            if abandoned is not None and abandoned.is_set():
                raise _Abandoned
            code = self._processes.exit_code(name)
            if code is not None:
                raise NodeFailed(
                    f"{name} ended with code {code} while we waited for {told()}:\n{log_tail(self.log(name))}"
                )
            return condition()

        try:
            wait_until(alive_and_true, limit_s=limit, every_s=every_s, what="")
        except NodeTimeout as error:
            raise NodeTimeout(f"waited {limit:.0f} s for {told()}:\n{log_tail(self.log(name))}") from error

    def _in_parallel(self, items: Sequence[_S], work: Callable[[_S], _T]) -> list[_T]:
        """Do the work for every item at once; the first failure, or Ctrl-C, ends the waiting of the others."""
        if not items:
            return []
        abandoned = threading.Event()

        def guarded(item: _S) -> _T:
            self._local.abandoned = abandoned
            try:
                return work(item)
            except BaseException:
                abandoned.set()
                raise

        with ThreadPoolExecutor(min(len(items), 32), thread_name_prefix="lightning") as pool:
            futures = [pool.submit(guarded, item) for item in items]
            try:
                wait(futures)
            except BaseException:
                abandoned.set()
                raise
        failures = [error for error in (future.exception() for future in futures) if error is not None]
        for error in sorted(failures, key=lambda error: isinstance(error, _Abandoned)):
            raise error
        return [future.result() for future in futures]

    def _node(self, name: str) -> _Node:
        self.plan.node(name)
        if name not in self._nodes:
            raise NodeFailed(f"network {self.plan.name!r} is not open")
        return self._nodes[name]

    def _open_market(self) -> FeeMarket:
        if self._market is None:
            raise NodeFailed(f"network {self.plan.name!r} is not open")
        return self._market

    def _write_description(self) -> None:
        """`network.json`: what `v2gbench nodes status` reads from another process."""
        document = {
            "schema": NETWORK_SCHEMA,
            "name": self.plan.name,
            "owner_pid": os.getpid(),
            "programs": self.programs.key,
            "chain": {"pid": self.process_id(CHAIN), "port": self._chain_port, "user": "v2gbench"},
            "nodes": [
                {
                    "name": node.name,
                    "pid": self.process_id(node.name),
                    "host": "127.0.0.1",
                    "grpc_port": node.grpc_port,
                    "peer_port": node.peer_port,
                    "tls_cert": str(node.certificate.relative_to(self.folder)),
                    "macaroon": str(node.macaroon.relative_to(self.folder)),
                    "public_key": node.public_key,
                }
                for node in self._nodes.values()
            ],
        }
        with self._writing:
            temporary = self.folder / ".network.json"
            temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
            temporary.replace(self.folder / "network.json")


def _until_ports_are_free(start: Callable[[], None], *, tries: int) -> None:
    """Start again, on other ports, when another program took one between our look and the listening."""
    for left in reversed(range(tries)):
        try:
            start()
        except NodeFailed as error:
            if not left or "address already in use" not in str(error):
                raise
        else:
            return


def _has_started(calls: NodeCalls) -> bool:
    return calls.state() in WALLET_STATES


@contextmanager
def _lock_of(folder: Path) -> Iterator[None]:
    """The lock of a run folder; BlockingIOError when a network runs in it."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _write_private(path: Path, text: str) -> None:
    """Write a file that others may not read, from its first byte on."""
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
