"""How fast a year of a pack passes, beside other people's battery models that do a part of the same work.

One year at 1 s through the pack twin (electrical, thermal, rainflow, aging, attribution), fed a day at a time, on one
processor. The peer is NREL's blast-lite in an environment of its own: aging only, from the state of charge and the
temperature that our year went through, all at once, because that is how it takes them. Both take turns. SimSES 2
(electrical and aging) is timed over a few days and scaled to the year.

Peers are installed once into the user's cache folder, from PyPI, and never into the project's own environment. A figure
whose peer did not install says so in `reason`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from drivers.errors import BenchError

Say = Callable[[str], None]

_PEERS = Path(__file__).parent / "peers"
_BLAST = "blast-lite==1.1.1"
_SIMSES = "simses==2.1.1"
_SIMSES_DAYS = 2
_INSTALL_S = 900.0
_PART_S = 1800.0


class PeerMissing(Exception):
    """A peer could not be installed; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's program in an environment of its own."""

    python: Path

    def run(self, script: str, *arguments: str) -> dict[str, float]:
        """What the script printed. Raises BenchError when it fails."""
        return _run([str(self.python), str(_PEERS / script), *arguments])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--turns", type=_count, default=3, help="how many times the year and its peer take turns")
    parser.add_argument(
        "--days", type=_count, default=365, help="days that are simulated; figures are scaled to a year"
    )
    parser.add_argument("--packs", type=_count, default=10_000, help="packs of the fleet")
    parser.add_argument("--newer-python", help="a Python 3.12 or newer for SimSES 2, where none is on PATH")
    parser.add_argument("--without-peers", action="store_true", help="leave the peers out")


def measure(options: argparse.Namespace, say: Say) -> list[Figure]:
    """All figures of this benchmark. Raises BenchError when a part does not end well."""
    scale = 365.0 / options.days
    with tempfile.TemporaryDirectory(prefix="v2gbench-pack-") as folder:
        _ours("year", "1", "", "")  # compile, once
        series = str(Path(folder) / "course.npy")
        blast: list[float] = []
        reason = "left out by --without-peers"
        peer: Peer | None = None
        if not options.without_peers:
            try:
                peer = install(_BLAST, sys.executable, say)
                _ours("year", str(options.days), "", series)
            except PeerMissing as missing:
                reason = str(missing)
        years: list[dict[str, float]] = []
        for turn in range(options.turns):
            years.append(_ours("year", str(options.days), "", ""))
            line = f"pack: turn {turn + 1} of {options.turns}: a year in {scale * years[-1]['seconds']:.2f} s"
            if peer is not None:
                blast.append(peer.run("blast_lite_year.py", series, "1")["seconds"])
                line += f", blast-lite {scale * blast[-1]:.1f} s"
            say(line)
        figures = _year_figures(years, blast, reason, scale)
        say("pack: all 96 groups")
        groups = _ours("year", str(options.days), "groups", "")
        figures.append(Figure("one_year_96_groups_s", scale * groups["seconds"], "s", goal=20.0, goal_kind="max"))
        figures.append(_simses(options, folder, min(year["seconds"] for year in years) * scale, say))
    say(f"pack: a day of {options.packs} packs")
    fleet = min((_ours("fleet", str(options.packs)) for _ in range(options.turns)), key=lambda each: each["seconds"])
    full = options.packs == 10_000
    figures.append(
        Figure("fleet_10000x1day_s", fleet["seconds"], "s", goal=3.0, goal_kind="max")
        if full
        else Figure("fleet_10000x1day_s", None, "s", reason=f"measured {options.packs} packs: {fleet['seconds']:.3f} s")
    )
    figures.append(Figure("fleet_peak_mb", fleet["peak_mb"], "MB"))
    say("pack: identification, second start")
    fit = _ours("fit")
    figures.append(Figure("fit_s", fit["seconds"], "s", goal=1.0, goal_kind="max"))
    figures.append(Figure("second_start_s", _second_start_s(options.turns), "s", goal=2.0, goal_kind="max"))
    return figures


def install(package: str, python: str, say: Say) -> Peer:
    """An environment with one package of PyPI, made where there is none. Raises PeerMissing with the reason."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v2gbench" / "peers"
    folder = cache / package.replace("==", "-")
    made = folder / "bin" / "python"
    if not (folder / "complete").exists():
        say(f"pack: installing {package} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [python, "-m", "venv", str(folder)],
            [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package],
        ):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PeerMissing(f"{package} could not be installed: {error}") from error
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise PeerMissing(f"{package} could not be installed: {last}")
        (folder / "complete").touch()
    return Peer(made)


def _year_figures(years: Sequence[dict[str, float]], blast: Sequence[float], reason: str, scale: float) -> list[Figure]:
    ours = scale * min(year["seconds"] for year in years)
    peak = max(year["peak_mb"] for year in years)
    generated = scale * min(year["generated_s"] for year in years)
    name = "blast-lite 1.1.1, aging only"
    if not blast:
        return [
            Figure("one_year_1s_s", ours, "s", goal=5.0, goal_kind="max"),
            *_beside(peak, generated),
            Figure("ratio_to_fastest_peer", None, "1", peer=name, reason=reason),
        ]
    peer = scale * min(blast)
    return [
        Figure("one_year_1s_s", ours, "s", goal=5.0, goal_kind="max", peer=name, peer_value=peer, ratio=ours / peer),
        *_beside(peak, generated),
        Figure("ratio_to_fastest_peer", peer / ours, "1", goal=4.0, goal_kind="min", peer=name),
    ]


def _beside(peak_mb: float, generated_s: float) -> list[Figure]:
    return [
        Figure("one_year_profile_s", generated_s, "s"),
        Figure("one_year_peak_mb", peak_mb, "MB", goal=500.0, goal_kind="max"),
    ]


def _simses(options: argparse.Namespace, folder: str, ours_s: float, say: Say) -> Figure:
    name = "ratio_to_simses"
    if options.without_peers:
        return Figure(name, None, "1", peer="SimSES 2.1.1", reason="left out by --without-peers")
    words = [options.newer_python] if options.newer_python else ["python3.13", "python3.12"]
    python = next((found for word in words if (found := _working(word))), None)
    if python is None:
        return Figure(name, None, "1", peer="SimSES 2.1.1", reason="it needs Python 3.12 or newer, none is on PATH")
    try:
        peer = install(_SIMSES, python, say)
    except PeerMissing as missing:
        return Figure(name, None, "1", peer="SimSES 2.1.1", reason=str(missing))
    watts = str(Path(folder) / "power.npy")
    _ours("power", str(_SIMSES_DAYS), watts)
    say(f"pack: {_SIMSES_DAYS} days of SimSES 2")
    year_s = peer.run("simses_days.py", watts, "1")["seconds"] * 365.0 / _SIMSES_DAYS
    label = f"SimSES 2.1.1, electrical and aging, {_SIMSES_DAYS} days scaled to a year of {year_s:.0f} s"
    return Figure(name, year_s / ours_s, "1", peer=label)


def _second_start_s(turns: int) -> float:
    times = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        _ours("start")
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _working(command: str) -> str | None:
    """The path of a Python on PATH that starts; some tools put names there that do not."""
    found = shutil.which(command)
    if found is None:
        return None
    done = subprocess.run([found, "-c", ""], capture_output=True, timeout=30, check=False)
    return found if done.returncode == 0 else None


def _ours(*arguments: str) -> dict[str, float]:
    return _run([sys.executable, "-m", "benchmarks.pack_work", *arguments])


def _run(command: Sequence[str]) -> dict[str, float]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PART_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[1]} did not end within {_PART_S:g} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BenchError(f"{' '.join(command[1:4])} failed: {last}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
