"""`v2gbench nodes build|up|down|status`: the programs, and a network of them that lives as long as its command.

`up` keeps the network in its own process, because nothing may be left running after any kind of end: Ctrl-C, SIGTERM,
`nodes down`, a closed terminal or SIGKILL, all end the nodes. With `--background` that process is one of its own, and
`down` ends it. Each start begins with the balances of the network file.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from bench.settlement import BuildProgress as BuildLines
from drivers.documents import load_model
from drivers.documents.source import Problem, dotted, raise_problems, read_document, read_file
from drivers.errors import BenchError
from ledgers.canonical import Json
from ledgers.lightning.errors import LightningError, NetworkRefused, NodeFailed, NodeTimeout
from ledgers.lightning.nodes.build import Progress as BuildProgress
from ledgers.lightning.nodes.build import build_programs, built_programs, cache_folder
from ledgers.lightning.nodes.disk import disk_refused
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import (
    LARGEST_BASE_FEE_MSAT,
    LARGEST_FEE_RATE_PPM,
    LARGEST_TIME_LOCK_BLOCKS,
    LARGEST_WUMBO_SAT,
    MINER_HAS_SAT,
    ChannelPlan,
    NetworkPlan,
    NodePlan,
    Policy,
    hub_and_spokes,
)
from ledgers.lightning.nodes.processes import log_tail, wait_until
from ledgers.lightning.nodes.status import NetworkStatus, picture, read_description, read_status, running_in

if TYPE_CHECKING:
    from types import FrameType

NETWORK_SCHEMA = "v2gbench.lightning-network/1.0"
DEFAULT_NAME = "yard"
_WATCH_S = 1.0
_START_S = 3600.0  # the first start builds the programs
_STOP_S = 30.0

NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
_NAMED = "a name: up to 32 small letters, digits, '-' and '_'"


# The network file -----------------------------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PolicyEntry(_Model):
    """What a node asks for forwarding; lnd's own values by default, the bounds are those of the plan."""

    base_fee_msat: Annotated[int, Field(ge=0, le=LARGEST_BASE_FEE_MSAT)] = 1000
    fee_rate_ppm: Annotated[int, Field(ge=0, le=LARGEST_FEE_RATE_PPM)] = 1
    time_lock_delta: Annotated[int, Field(ge=24, le=LARGEST_TIME_LOCK_BLOCKS)] = 80
    min_htlc_msat: Annotated[int, Field(ge=0, le=LARGEST_WUMBO_SAT * 1000)] = 1


class NodeEntry(_Model):
    """One lnd."""

    name: NodeName = Field(description=_NAMED)
    policy: PolicyEntry = PolicyEntry()
    on_chain_sat: Annotated[int, Field(ge=0, le=MINER_HAS_SAT)] = 1_000_000
    options: tuple[str, ...] = ()


class ChannelEntry(_Model):
    """One channel: `from` opens it."""

    opener: NodeName = Field(alias="from", description=_NAMED)
    peer: NodeName = Field(alias="to", description=_NAMED)
    capacity_sat: int = 10_000_000
    push_sat: Annotated[int, Field(ge=0)] = 5_000_000


class NetworkFile(_Model):
    """A network by file."""

    schema_: str = Field(alias="schema")
    name: NodeName = Field(description=_NAMED)
    seed: Annotated[int, Field(ge=0)] = 1
    nodes: Annotated[tuple[NodeEntry, ...], Field(min_length=1)]
    channels: tuple[ChannelEntry, ...] = ()


def load_network(path: Path | None) -> NetworkPlan:
    """The network in a YAML file of schema v2gbench.lightning-network/1.0; without a file a hub with van and evse.

    Raises ConfigError with the place and the remedy for each slip.
    """
    if path is None:
        return hub_and_spokes(DEFAULT_NAME, spokes=["van", "evse"])
    found = load_model(path, NetworkFile, what="network file", schema=NETWORK_SCHEMA)
    with _placed(path):
        return NetworkPlan(
            name=found.name,
            seed=found.seed,
            nodes=tuple(_node(path, index, node) for index, node in enumerate(found.nodes)),
            channels=tuple(_channel(path, index, channel) for index, channel in enumerate(found.channels)),
        )


def _node(path: Path, index: int, node: NodeEntry) -> NodePlan:
    with _placed(path, "nodes", index, "policy"):
        policy = Policy(**node.policy.model_dump())
    with _placed(path, "nodes", index):
        return NodePlan(node.name, policy, node.on_chain_sat, node.options)


def _channel(path: Path, index: int, channel: ChannelEntry) -> ChannelPlan:
    with _placed(path, "channels", index):
        return ChannelPlan(channel.opener, channel.peer, channel.capacity_sat, channel.push_sat)


@contextmanager
def _placed(path: Path, *above: str | int) -> Iterator[None]:
    """What a plan refuses, refused with its place in the file; `above` is the way to what is made of it here."""
    try:
        yield
    except NetworkRefused as error:
        document = read_document(read_file(path, what="network file"), path)
        key = tuple(_KEYS_IN_FILE.get(str(part), part) for part in (*above, *error.at))
        raise_problems([Problem(document.mark(key), dotted(key), str(error))], path)


_KEYS_IN_FILE = {"opener": "from", "peer": "to"}


# Commands -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Built:
    """What `nodes build` says."""

    folder: Path
    go_version: str
    build_s: float
    size_bytes: Mapping[str, int]
    was_there: bool

    def document(self) -> dict[str, Json]:
        """For programs."""
        return {
            "folder": str(self.folder),
            "go_version": self.go_version,
            "build_s": self.build_s,
            "size_bytes": dict(self.size_bytes),
            "was_there": self.was_there,
        }

    def text(self) -> str:
        """For people."""
        sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in self.size_bytes.items())
        how = "were there already" if self.was_there else f"built in {self.build_s:.0f} s with Go {self.go_version}"
        return f"{sizes}: {how}, checked\n{self.folder}"


def build(*, show: bool, again: bool = False, jobs: int | None = None) -> Built:
    """Build the programs unless they are there; raises BuildError."""
    there = not again and built_programs() is not None
    with nodes_progress(show=show) as progress:
        programs = build_programs(progress=progress, again=again, jobs=jobs)
    return Built(programs.folder, programs.go_version, programs.build_s, programs.size_bytes, there)


def up(
    file: Path | None,
    *,
    background: bool,
    seconds: float | None = None,
    show: bool = True,
    say: Callable[[str], None],
) -> None:
    """Start a network and keep it: in this process until Ctrl-C or `nodes down`, or in one of its own.

    `seconds` ends it by itself. Raises ConfigError, LightningError.
    """
    plan = load_network(file)
    folder = network_folder(plan.name)
    if running_in(folder):
        raise NodeFailed(f"network {plan.name!r} runs already; see it with: v2gbench nodes status {plan.name}")
    if background:
        _up_in_background(file, plan.name, folder, seconds=seconds, show=show)
        say(picture(read_status(folder)))
        say(f"network {plan.name!r} runs; end it with: v2gbench nodes down {plan.name}")
        return
    with _signals_end_it():
        with nodes_progress(show=show) as progress:
            network = LightningNetwork(plan, folder=folder, progress=progress)
            network.open()
        try:
            for name in network.names:
                address = network.address(name)
                say(f"{name}  {address.address}  {address.tls_cert_path}  {address.macaroon_path}")
            say(f"network {plan.name!r} runs in {folder}; Ctrl-C or 'v2gbench nodes down {plan.name}' ends it")
            _keep(network, seconds, say)
        finally:
            network.close()


def keep_in_this_process(arguments: Sequence[str]) -> None:
    """What `up --background` runs in a process of its own: network file or "", seconds or ""."""
    file, seconds = arguments
    try:
        up(
            Path(file) if file else None,
            background=False,
            seconds=float(seconds) if seconds else None,
            show=False,
            say=partial(print, flush=True),
        )
    except (BenchError, LightningError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(0)


def down(name: str = DEFAULT_NAME) -> None:
    """End a network that runs, and wait until all of it is gone; raises NodeFailed when none runs, NodeTimeout."""
    folder = network_folder(name)
    owner = read_description(folder)["owner_pid"]
    assert isinstance(owner, int)
    os.kill(owner, signal.SIGTERM)  # the lock is held, so the owner lives and its number is still its own
    wait_until(lambda: not running_in(folder), limit_s=_STOP_S, every_s=0.05, what=f"network {name!r} to end")


def status(name: str = DEFAULT_NAME, *, sessions: int | None = None) -> NetworkStatus:
    """Ask a running network how it is; raises NodeFailed when none of that name runs.

    `sessions` is how many a channel serves, for what its costs come to in one.
    """
    return read_status(network_folder(name), sessions=sessions)


def watch(name: str = DEFAULT_NAME, *, seconds: float | None = None) -> None:
    """Draw the status anew each second until the network ends, Ctrl-C, or `seconds` have passed."""
    folder = network_folder(name)
    read_description(folder)  # says at once that nothing runs
    limit = None if seconds is None else time.monotonic() + seconds
    with Live(console=Console(), auto_refresh=False, transient=False) as live:
        while running_in(folder) and (limit is None or time.monotonic() < limit):
            try:
                live.update(Text(picture(read_status(folder))), refresh=True)
            except LightningError as error:  # it ended between two looks
                live.update(Text(str(error)), refresh=True)
            time.sleep(_WATCH_S)


def networks() -> list[str]:
    """The names of the networks that run."""
    return sorted(folder.name for folder in network_folder("").glob("*") if running_in(folder))


def network_folder(name: str) -> Path:
    """Where `nodes up` keeps a network: data, logs, network.json."""
    return cache_folder() / "up" / name


@contextmanager
def nodes_progress(*, show: bool) -> Iterator[BuildProgress | None]:
    """Progress on standard error while nodes are built and started; None when nothing is to be shown.

    A bar at a terminal; elsewhere, as in the log of a build server, a line for each tenth of the way.
    """
    if not show:
        yield None
        return
    if not Console(stderr=True).is_terminal:
        yield BuildLines(sys.stderr)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("lightning nodes", total=None, now="")

        def update(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, now=what[:60])

        yield update


# Private --------------------------------------------------------------------------------------------------------------


def _up_in_background(file: Path | None, name: str, folder: Path, *, seconds: float | None, show: bool) -> None:
    log = folder / "up.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "network.json").unlink(missing_ok=True)
        log.touch()
    except OSError as error:
        raise NodeFailed(disk_refused(folder, error)) from error
    program = "import sys; from bench.commands.nodes import keep_in_this_process as keep; keep(sys.argv[1:])"
    arguments = ["" if file is None else str(file.absolute()), "" if seconds is None else str(seconds)]
    # Not a subprocess object: that one warns, and rightly, about a child that nobody waits for.
    keeper = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", program, *arguments],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )

    def ready() -> bool:
        if os.waitpid(keeper, os.WNOHANG)[0]:
            raise NodeFailed(f"network {name!r} did not start:\n{log_tail(log)}")
        return (folder / "network.json").exists()

    with nodes_progress(show=show) as progress:
        if progress is not None:
            progress(0, 0, f"starting {name} in the background")
        try:
            wait_until(ready, limit_s=_START_S, every_s=0.1, what=f"network {name!r} to start")
        except (KeyboardInterrupt, NodeTimeout):
            os.kill(keeper, signal.SIGTERM)
            os.waitpid(keeper, 0)
            raise


def _keep(network: LightningNetwork, seconds: float | None, say: Callable[[str], None]) -> None:
    limit = None if seconds is None else time.monotonic() + seconds
    running = {"chain", *network.names}
    while limit is None or time.monotonic() < limit:
        for name in sorted(running):
            if network.process_id(name) is None:
                running.discard(name)
                say(f"{name} ended by itself; its last lines:\n{log_tail(network.log(name))}")
        time.sleep(0.2)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGTERM and a closed terminal end the network as Ctrl-C does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
