"""Real Lightning nodes: how soon a network is ready, and what twenty nodes weigh.

`network_ready_s` is the worst of three starts of a hub with three spokes, warm: programs built, network of this plan in
the cache; from the constructor to every node synced, every channel active and in every graph. `network_first_s` is the
same network from nothing (450 blocks, wallets, funding, channels), kept in the cache and started from there.

`rss_20_nodes_mb` adds the resident memory of one btcd and twenty lnd, a hub and nineteen spokes with active channels;
pages of the program that the nodes share count once for each. `pss_20_nodes_mb` counts them once in all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from ledgers.lightning.nodes.build import Programs
    from ledgers.lightning.nodes.network import LightningNetwork

Say = Callable[[str], None]

_STARTS = 3
_NODES = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--no-memory", action="store_true", help="leave the twenty nodes out")


def measure(options: argparse.Namespace, say: Say) -> list[Figure]:
    """Build the programs if need be, start networks, weigh one."""
    from ledgers.lightning.nodes.build import build_programs  # noqa: PLC0415  # help needs nothing of the bench

    programs = build_programs(progress=lambda done, total, what: say(f"{done}/{total} {what}"))
    with tempfile.TemporaryDirectory(prefix="v2gbench-lightning-") as folder:
        figures = [_built(programs), *_ready(Path(folder), programs, say)]
        if not options.no_memory:
            figures += _memory(Path(folder), programs, say)
    return figures


def _built(programs: Programs) -> Figure:
    return Figure("programs_mb", sum(programs.size_bytes.values()) / 1e6, "MB")


def _ready(cache: Path, programs: Programs, say: Say) -> list[Figure]:
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    plan = hub_and_spokes("ready", spokes=["van", "bus", "evse"])

    def start() -> float:
        begin = time.perf_counter()
        with LightningNetwork(plan, cache=cache, programs=programs) as network:
            seconds = time.perf_counter() - begin
            origin = "the cache" if network.started_from_store else "nothing"
            say(f"hub and 3 spokes from {origin}: {seconds:.2f} s")
        return seconds

    first = start()
    return [
        Figure("network_first_s", first, "s"),
        Figure("network_ready_s", max(start() for _ in range(_STARTS)), "s", goal=20.0, goal_kind="max"),
    ]


def _memory(cache: Path, programs: Programs, say: Say) -> list[Figure]:
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    plan = hub_and_spokes("weighed", spokes=[f"van{number}" for number in range(1, _NODES)], capacity_sat=1_000_000)
    begin = time.perf_counter()
    with LightningNetwork(plan, cache=cache, programs=programs, stored=False, ready_s=300.0) as network:
        seconds = time.perf_counter() - begin
        rss, pss = _weigh(network)
        say(f"{_NODES} nodes from nothing in {seconds:.1f} s: {rss:.0f} MB resident, {pss:.0f} MB without sharing")
    return [
        Figure("network_20_nodes_first_s", seconds, "s"),
        Figure("rss_20_nodes_mb", rss, "MB", goal=3000.0, goal_kind="max"),
        Figure("pss_20_nodes_mb", pss, "MB"),
    ]


def _weigh(network: LightningNetwork) -> tuple[float, float]:
    """Resident and proportional memory of all processes of a network, MB (10^6 bytes), from /proc/PID/smaps_rollup."""
    rss = pss = 0
    for name in ("chain", *network.names):
        for line in Path(f"/proc/{network.process_id(name)}/smaps_rollup").read_text("ascii").splitlines():
            key, _, rest = line.partition(":")
            rss += int(rest.split()[0]) if key == "Rss" else 0
            pss += int(rest.split()[0]) if key == "Pss" else 0
    return rss * 1024 / 1e6, pss * 1024 / 1e6
