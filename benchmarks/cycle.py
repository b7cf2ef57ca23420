"""How many seconds of a session pass in one second of real time, and how that compares with the bare wire.

Two hours with a 1 s cycle at the emulated station, in stepped time, through the real sockets: charger over Modbus and
analyzer over SCPI each cycle, van over ELM327 every 10 s, OCPP MeterValues every 60 s, everything recorded. The peer
(`benchmarks/bare_wire.py`, a process of its own) sends the same bytes and commits the same rows and does nothing else:
the first session's wire trace and database are its script, so both always carry the same traffic.

Session and peer take turns, both on one processor, another one each turn. Another job on the machine disturbs some of
these runs, and the longer of the two more often; so the ratio compares part with part: of each ten minutes of the
session the best time over all turns, for both. `simulated_per_wall` is the best whole session.

A session is timed from before the plug goes in to after it is out; opening the station (the adapter's reset alone
takes a second, as on a real one) and closing it are figures of their own.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, cast

from benchmarks.figures import Figure
from drivers.errors import BenchError

if TYPE_CHECKING:
    from bench.safety import Snapshot
    from bench.station import Station
    from benchmarks.bare_wire import Cell, Result, Traffic

Say = Callable[[str], None]

_PEER = "bare script, same bytes and commits"
_DEMO_MINUTES = 60
_HELP_RUNS = 5
_CYCLES_PER_PART = 600
_COMMAND_TIMEOUT_S = 600.0
_TABLES = ("cycles", "readings", "set_points", "events")
_LINE = re.compile(r"(\d+\.\d+) ([<>]) ([0-9a-f]*)")


@dataclass(frozen=True, slots=True)
class SessionTiming:
    """One session of ours; times in s of real time, `share` of `wall_s` by device."""

    simulated_s: float
    wall_s: float
    parts_s: Sequence[float]  # each ten minutes (600 cycles) of the session; the last one may be shorter
    open_s: float
    close_s: float
    cycles: int
    share: Mapping[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--session-s", type=_positive, default=7200.0, help="simulated length of the session, in s")
    parser.add_argument("--pairs", type=_count, default=4, help="how many times session and peer take turns")
    parser.add_argument(
        "--without-commands", action="store_true", help="leave out demo_wall_s and help_s, which start the command line"
    )


def measure(options: argparse.Namespace, say: Say) -> list[Figure]:
    """All figures of this benchmark. Raises BenchError when a session or a command does not end well."""
    say(f"cycle: sessions of {options.session_s:g} s in {options.pairs} turns with the bare wire")
    ours: list[SessionTiming] = []
    peers: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="v2gbench-cycle-") as folder:
        script = Path(folder) / "traffic.json"
        for turn in range(options.pairs):
            with _one_processor(turn):
                timing = run_session(options.session_s, Path(folder) / "runs", script if turn == 0 else None)
                result = run_peer(script)
            ours.append(timing)
            peers.append(result)
            say(
                f"cycle: turn {turn + 1} of {options.pairs}: {timing.simulated_s / timing.wall_s:,.0f} simulated "
                f"seconds per second, bare wire {timing.simulated_s / result['wall_s']:,.0f}"
            )
        figures = _session_figures(ours, peers)
        if options.without_commands:
            left_out = "left out by --without-commands"
            figures += [Figure("demo_wall_s", None, "s", reason=left_out), Figure("help_s", None, "s", reason=left_out)]
        else:
            figures += [time_demo(Path(folder) / "runs", say), time_help(say)]
    return figures


def run_session(session_s: float, runs: Path, script: Path | None) -> SessionTiming:
    """Run one session at the emulated station; its run folder below `runs` is removed afterwards.

    `script`: where to write the traffic for the peer. Raises BenchError unless the session completes.
    """
    from bench.assets import asset  # noqa: PLC0415  # a second to import; the help of this benchmark needs none of it
    from bench.rack import Rack  # noqa: PLC0415
    from bench.session import SessionRunner, demo_plan  # noqa: PLC0415
    from bench.station import load_station  # noqa: PLC0415
    from reports.run import Event  # noqa: PLC0415

    station = load_station(asset("stations/emulated.yaml"))
    _require_the_promised_traffic(station)
    gc.collect()
    opening_s = time.perf_counter()
    with Rack.open(station, plan="benchmark", runs=runs) as rack:
        runner = SessionRunner(rack, demo_plan(session_s))

        def mark(kind: str) -> dict[Path, int]:
            """Have all traces written, and tell how long their files are."""
            rack.recorder.record_event(Event(rack.clock.mono_s, rack.clock.utc_s, "benchmark", kind, {}))
            return {path: path.stat().st_size for path in sorted((rack.run_folder / "wire").iterdir())}

        begin = mark("session_begins")
        first, begin_s = rack.cycle.cycles, rack.cycle.now_s
        spent_before_s = dict(rack.cycle.time_by_device_s)
        marks_s: list[float] = []

        def keep_time(index: int, _snapshot: Snapshot, _now_s: float) -> None:
            if index > first and (index - first) % _CYCLES_PER_PART == 0:
                marks_s.append(time.perf_counter())

        rack.cycle.listeners.append(keep_time)
        started_s = time.perf_counter()
        log = runner.run()
        ended_s = time.perf_counter()
        simulated_s, cycles = rack.cycle.now_s - begin_s, rack.cycle.cycles - first
        spent_s = {name: spent - spent_before_s[name] for name, spent in rack.cycle.time_by_device_s.items()}
        rack.cycle.listeners.remove(keep_time)
        end = mark("session_ends")
        closing_s = time.perf_counter()
    closed_s = time.perf_counter()
    if log.tripped or log.aborted:
        raise BenchError(f"the session did not complete: {log.tripped or log.aborted}")
    if script is not None:
        traffic = read_traffic(rack.run_folder, begin, end, first, cycles)
        script.write_text(json.dumps(traffic), encoding="utf-8")
    rmtree(rack.run_folder)
    wall_s = ended_s - started_s
    share = {name: spent / wall_s for name, spent in spent_s.items()}
    return SessionTiming(
        simulated_s=simulated_s,
        wall_s=wall_s,
        parts_s=[end_s - begin_s for begin_s, end_s in itertools.pairwise([started_s, *marks_s, ended_s])],
        open_s=started_s - opening_s,
        close_s=closed_s - closing_s,
        cycles=cycles,
        share={**share, "other": 1.0 - sum(share.values())},
    )


def read_traffic(folder: Path, begin: Mapping[Path, int], end: Mapping[Path, int], first: int, cycles: int) -> Traffic:
    """What a session sent and recorded, cycle by cycle, as the peer's script.

    `begin` and `end` are the lengths of the wire traces in bytes when the session began and ended, `first` its first
    cycle. A message belongs to the cycle that was under way at its session time.
    """
    database = sqlite3.connect(folder / "run.sqlite")
    try:
        within = (first, first + cycles - 1)
        starts_s = [row[0] for row in database.execute("SELECT mono_s FROM cycles WHERE idx BETWEEN ? AND ?", within)]
        schema = [
            f"{row[0]};" for row in database.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND sql <> ''")
        ]
        inserts: dict[str, list[list[list[Cell]]]] = {}
        for name in _TABLES:
            key = "idx" if name == "cycles" else "cycle"
            # only names of this module are put together
            rows = database.execute(f"SELECT * FROM {name} WHERE {key} BETWEEN ? AND ? ORDER BY rowid", within)
            per_cycle: list[list[list[Cell]]] = [[] for _ in range(cycles)]
            for row in rows:
                per_cycle[row[0] - first].append(list(row))
            inserts[f"INSERT INTO {name}"] = per_cycle
    finally:
        database.close()
    devices: dict[str, list[list[tuple[str, str]]]] = {}
    frames: list[list[tuple[str, str]]] = [[] for _ in range(cycles)]
    for path in begin:
        messages = _messages(path, begin[path], end[path], starts_s)
        if path.stem.startswith("ocpp-"):
            for index, direction, data in messages:
                frames[index].append((direction, bytes.fromhex(data).decode()))
        else:
            devices[path.stem] = _exchanges(messages, cycles)
    return {
        "cycles": cycles,
        "cycles_per_part": _CYCLES_PER_PART,
        "devices": devices,
        "frames": frames,
        "schema": "\n".join(schema),
        "inserts": inserts,
    }


def best_parts_s(turns: Sequence[Sequence[float]]) -> float:
    """The session's real time had each of its parts gone as well as in its best turn. BenchError when turns differ."""
    if len({len(parts_s) for parts_s in turns}) != 1:
        raise BenchError("the turns had different lengths, so a link timed out in one; measure on a quieter machine")
    return sum(min(parts_s[part] for parts_s in turns) for part in range(len(turns[0])))


def run_peer(script: Path) -> Result:
    """Run the bare script once, as a process of its own."""
    output = _run([sys.executable, str(Path(__file__).with_name("bare_wire.py")), str(script)])
    return cast("Result", json.loads(output))


def time_demo(runs: Path, say: Say) -> Figure:
    """Real time of `v2gbench demo --json` with a one-hour session; the second run counts, with everything compiled."""
    command = [*_v2gbench(), "demo", "--json", "--minutes", str(_DEMO_MINUTES), "--runs", str(runs)]
    wall_s = 0.0
    for run in ("first", "second"):
        started_s = time.perf_counter()
        summary = json.loads(_run(command))
        wall_s = time.perf_counter() - started_s
        if summary["verdict"] != "PASS":
            raise BenchError(f"v2gbench demo ended with {summary['verdict']}: {'; '.join(summary['reasons'])}")
        say(f"cycle: {run} demo took {wall_s:.1f} s")
    return Figure("demo_wall_s", wall_s, "s", goal=30.0, goal_kind="max")


def time_help(say: Say) -> Figure:
    """Real time of `v2gbench --help`, the best of several."""
    best_s = float("inf")
    for _ in range(_HELP_RUNS):
        started_s = time.perf_counter()
        _run([*_v2gbench(), "--help"])
        best_s = min(best_s, time.perf_counter() - started_s)
    say(f"cycle: help took {best_s:.2f} s")
    return Figure("help_s", best_s, "s", goal=0.5, goal_kind="max")


def _session_figures(ours: Sequence[SessionTiming], peers: Sequence[Result]) -> list[Figure]:
    best = min(ours, key=lambda timing: timing.wall_s)
    peer = min(peers, key=lambda result: result["wall_s"])
    speed, peer_speed = best.simulated_s / best.wall_s, best.simulated_s / peer["wall_s"]
    undisturbed_s = best_parts_s([timing.parts_s for timing in ours])
    peer_undisturbed_s = best_parts_s([result["parts_s"] for result in peers])
    ratio = peer_undisturbed_s / undisturbed_s
    figures = [
        Figure("simulated_per_wall", speed, "s/s", 1000.0, "min", _PEER, peer_speed, speed / peer_speed),
        Figure("ratio_to_bare_wire", ratio, "1", 0.3, "min", _PEER, 1.0, ratio),
        Figure("cycle_us", 1e6 * undisturbed_s / best.cycles, "us", None, None, _PEER,
               1e6 * peer_undisturbed_s / peer["cycles"], 1.0 / ratio),
        Figure("exchanges_per_cycle", peer["exchanges"] / peer["cycles"], "1"),
        Figure("open_s", min(timing.open_s for timing in ours), "s"),
        Figure("close_s", min(timing.close_s for timing in ours), "s"),
    ]  # fmt: skip
    return figures + [Figure(f"share_{name}", share, "1") for name, share in best.share.items()]


def _require_the_promised_traffic(station: Station) -> None:
    """Refuse to measure something else under the same name, should the shipped station change."""
    vehicle = station.device_of("vehicle")
    drivers = {part.role: part.driver for part in station.devices.values()}
    wanted = {"charger": "modbus", "vehicle": "elm327", "power_meter": "yokogawa_wt"}
    if drivers != wanted or station.cycle_s != 1.0 or station.csms is None or vehicle is None:
        raise BenchError(f"{station.path} is not the station that this benchmark is about; bring the two together")
    if station.poll_s(vehicle) != 10.0:
        raise BenchError(f"{station.path} polls its van every {station.poll_s(vehicle):g} s instead of every 10 s")


def _messages(path: Path, begin: int, end: int, starts_s: Sequence[float]) -> list[tuple[int, str, str]]:
    """Cycle, direction and hexadecimal bytes of each message in a part of a wire trace."""
    with path.open("rb") as file:
        file.seek(begin)
        text = file.read(end - begin).decode()
    found: list[tuple[int, str, str]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise BenchError(f"{path.name}: {line[:60]!r} is no message; the wire trace was cut, run a shorter session")
        at_s, direction, data = float(match[1]), match[2], match[3]
        found.append((max(0, bisect_right(starts_s, at_s + 1e-6) - 1), direction, data))
    return found


def _exchanges(messages: Sequence[tuple[int, str, str]], cycles: int) -> list[list[tuple[str, str]]]:
    """Requests with their replies, per cycle; pieces that came or went in a row are one message."""
    joined: list[tuple[int, str, str]] = []
    for index, direction, data in messages:
        if joined and joined[-1][1] == direction:
            joined[-1] = (joined[-1][0], direction, joined[-1][2] + data)
        else:
            joined.append((index, direction, data))
    if len(joined) % 2 or (joined and joined[0][1] != ">"):
        raise BenchError("the wire trace does not go to and fro; an exchange of the session was lost")
    per_cycle: list[list[tuple[str, str]]] = [[] for _ in range(cycles)]
    for (index, _, ask), (_, _, answer) in zip(joined[::2], joined[1::2], strict=True):
        per_cycle[index].append((ask, answer))
    return per_cycle


@contextmanager
def _one_processor(turn: int) -> Iterator[None]:
    """Keep this thread, the threads and the processes that it starts on one processor, another one each turn."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[turn % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _v2gbench() -> list[str]:
    """The installed command of this interpreter, as a user starts it; else the module."""
    installed = Path(sys.executable).with_name("v2gbench")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "v2gbench"]


def _run(command: Sequence[str]) -> str:
    """Run a command and return what it printed; BenchError with its last words when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _positive(text: str) -> float:
    value = float(text)
    if not 60.0 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text} s is not between a minute and a day")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100")
    return value
