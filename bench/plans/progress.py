"""What a person sees while a plan runs: which test, how far in session time, how much is left.

Time left comes from the rehearsal: the lengths of the plan's waits and schedules, as far as they are written out. A
duration in a variable or a loop is not foreseen, and then the forecast says `at least`. On a terminal it is a bar, else
a plain line every few seconds, so that a log of a nightly run can be read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.keywords.opened import StationRun
from bench.keywords.quantities import Duration
from bench.keywords.workbench import Workbench
from bench.plans.execution import Call, PlanTest
from bench.safety import Snapshot
from bench.station import Station

_LINE_EVERY_S = 3.0
_BAR_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Forecast:
    """How much session time a plan takes, in s; not `whole` when it does not say all of it."""

    session_s: float
    whole: bool


def forecast(calls: Sequence[Call]) -> Forecast:
    """Add up the waits and schedules of a plan.

    >>> forecast([Call("Start Session", ("lasts=1 h",)), Call("Wait", ("10 min",)), Call("Follow Grid Orders", ())])
    Forecast(session_s=3600.0, whole=True)
    """
    total_s = ends_s = 0.0
    whole = True
    for call in calls:
        try:
            if call.keyword == "Wait":
                total_s += _duration(call, "duration")
            elif call.keyword == "Start Session":
                ends_s = total_s + _duration(call, "lasts")
            elif call.keyword == "Follow Grid Orders":
                total_s = min(ends_s, total_s + _duration(call, "duration")) if call.arguments else max(total_s, ends_s)
        except ValueError:
            whole = False
    return Forecast(total_s, whole)


class PlanProgress:
    """A `PlanWatcher` and a `Watcher` of stations that writes to `output`; a context manager."""

    def __init__(self, tests: int, expected: Forecast, output: TextIO) -> None:
        self._tests = tests
        self._expected = expected
        self._output = output
        self._test = 0
        self._began_s = time.monotonic()
        self._drawn_s = self._began_s
        self._before_s = 0.0  # session time of the stations that are closed already
        self._now_s = 0.0
        self._running_s = 0.0  # real time with a station open
        self._opened_s: float | None = None
        self._bench: Workbench | None = None
        self._bar: Progress | None = None
        if output.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[now]}"),
                console=Console(file=output),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task("", total=1.0, now="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def library(self, bench: Workbench) -> None:
        """Look on at the stations that the plan opens."""
        self._bench = bench
        bench.watchers.append(self)

    def test_begins(self, name: str) -> None:
        """Say which test begins."""
        self._test += 1
        self._line(f"test {self._test}/{self._tests}: {name}")

    def test_ends(self, outcome: PlanTest) -> None:
        """Say how a test ended."""
        reason = f": {outcome.message.partition(chr(10))[0]}" if outcome.message else ""
        self._line(f"test {self._test}/{self._tests}: {outcome.status} after {outcome.wall_s:.1f} s{reason}")

    def opened(self, station: Station, folder: Path) -> None:
        """Say where a run is recorded."""
        self._opened_s = time.monotonic()
        self._line(f"  station {station.name!r} is open; recording in {folder}")

    def cycle(self, now_s: float, snapshot: Snapshot) -> None:
        """Draw, but not in every cycle: a stepped one takes less than a millisecond."""
        self._now_s = now_s
        wall_s = time.monotonic()
        if wall_s - self._drawn_s < (_LINE_EVERY_S if self._bar is None else _BAR_EVERY_S):
            return
        if self._bench is not None and self._bench.asking:
            return
        self._drawn_s = wall_s
        text = f"{self._position(wall_s)}  {_now(snapshot)}"
        if self._bar is None:
            self._line(f"  {text}")
            return
        done = (self._before_s + now_s) / self._expected.session_s if self._expected.session_s else 0.0
        self._bar.update(self._task, description=f"test {self._test}/{self._tests}", completed=min(done, 1.0), now=text)
        self._bar.refresh()

    def closed(self, run: StationRun) -> None:
        """Add up session time."""
        self._before_s += run.simulated_s
        self._now_s = 0.0
        if self._opened_s is not None:
            self._running_s += time.monotonic() - self._opened_s
            self._opened_s = None

    def _position(self, wall_s: float) -> str:
        """Session time, of how much, and the real time that is left."""
        done_s = self._before_s + self._now_s
        expected_s = self._expected.session_s
        if expected_s <= 0.0 or done_s <= 0.0:
            return f"{_clock(done_s)} session time"
        running_s = self._running_s + (wall_s - self._opened_s if self._opened_s is not None else 0.0)
        left_s = max(0.0, expected_s - done_s) * running_s / done_s
        least = "" if self._expected.whole else "at least "
        percent = min(99.0, 100.0 * done_s / expected_s)
        of = f"{_clock(done_s)} of {least}{_clock(expected_s)} session time"
        return f"{percent:3.0f} %, {of}, {least}{_clock(left_s)} left"

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        self._output.write(text + "\n")
        self._output.flush()


def _duration(call: Call, name: str) -> float:
    """The first argument of a call, by place or name, in s; ValueError when it is not written out."""
    first = next((word for word in call.arguments if word.startswith(f"{name}=")), None)
    if first is None:
        first = call.arguments[0] if call.arguments else ""
    return float(Duration.convert(first.removeprefix(f"{name}=")))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _now(snapshot: Snapshot) -> str:
    charger, vehicle = snapshot.charger, snapshot.vehicle
    power = "" if charger is None or not charger.ac_power.is_good else f"{charger.ac_power.value / 1000.0:+.1f} kW"
    soc = "" if vehicle is None or not vehicle.soc.is_good else f", SOC {vehicle.soc.value:.1f} %"
    return power + soc
