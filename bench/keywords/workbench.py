"""What all keywords of one plan share: the opened station, its settings, and the rule for closing it.

A station that was opened in a test is closed when that test ends; one that was opened in a suite's set-up, when the
suite ends. Robot calls `AutoClose` after every teardown, also after `--exitonfailure`, a time-out, Ctrl-C or SIGTERM.

After a limit tripped and its test failed, no station opens again in that plan: power may not come back before somebody
has looked.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from bench.assets import asset
from bench.keywords.held_signals import HeldSignals
from bench.keywords.opened import OpenedStation, StationRun, Watcher
from bench.keywords.robot_face import variable
from bench.operator import Act, ActDone, AnswerFileOperator, Means, Operator, PromptOperator
from bench.safety import Snapshot
from bench.station import Station, load_station
from drivers.clock import WallClock
from drivers.errors import BenchError, ConfigError, InterlockTripped, NotOpenError
from ledgers.errors import LedgerError
from reports.errors import ReportError

DEFAULT_STATION = "stations/emulated.yaml"
CLOSING_ERRORS = (BenchError, LedgerError, ReportError, OSError)
_YES, _NO = frozenset({"yes", "true"}), frozenset({"no", "false"})


class Workbench:
    """At most one opened station, and the runs of those that were."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.runs: list[StationRun] = []
        self.problems: list[str] = []  # what went wrong while closing, one sentence each
        self.stopped_by = ""  # the trip after which nothing opens any more
        self.asking = False  # whether an operator is being asked, so that nobody draws over the question
        self.in_test = False  # or in the set-up of a suite
        self.opened_in_test = False
        self._opened: OpenedStation | None = None

    @property
    def opened(self) -> OpenedStation:
        """The opened station; NotOpenError says how to open one."""
        if self._opened is None:
            raise NotOpenError("no station is open; begin with 'Open Station'")
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether there is an opened station."""
        return self._opened is not None

    def open(self, station: str | None) -> OpenedStation:
        """Open a station file; ConfigError when one is open already, or when the command line names another."""
        if self._opened is not None:
            raise ConfigError(f"station {self._opened.station.name!r} is open already; say 'Close Station' first")
        if self.stopped_by:
            raise InterlockTripped(
                f"no station is opened again in this plan, because a limit tripped in it: {self.stopped_by}; "
                "look at the devices, then run the plan anew"
            )
        loaded = load_station(_station_path(station))
        runs = variable("RUNS")
        # Twins open without asking anybody, so a signal can wait for it; on metal an operator may have to be stopped.
        with nullcontext() if loaded.any_metal else HeldSignals():
            opened = self._opened = OpenedStation(
                loaded,
                _plan_name(),
                runs=Path(runs) if runs is not None else None,
                operator=self._operator(loaded),
                energise=_energise(),
                watch=self._watch,
            )
            self.opened_in_test = self.in_test
            for watcher in self.watchers:
                watcher.opened(loaded, opened.folder)
        return opened

    def close(self, *, failure: str = "") -> StationRun | None:
        """Close the opened station; None when there is none."""
        opened, self._opened = self._opened, None
        if opened is None:
            return None
        try:
            run = opened.close(failure=failure)
        except CLOSING_ERRORS as error:
            self.problems.append(f"while closing station {opened.station.name!r}: {error}")
            raise
        finally:
            self.runs.append(opened.left_behind())
            for watcher in self.watchers:
                watcher.closed(self.runs[-1])
        return run

    def _watch(self, now_s: float, snapshot: Snapshot) -> None:
        for watcher in self.watchers:
            watcher.cycle(now_s, snapshot)

    def _operator(self, station: Station) -> Operator | None:
        """Who plugs in at a metal station; an emulated site has its own hands."""
        if not station.any_metal:
            return None
        answers = variable("ANSWERS")
        if answers is not None:
            return AnswerFileOperator(Path(answers), WallClock())
        if sys.__stdin__ is None or not sys.__stdin__.isatty():
            return None
        # Robot keeps what keywords print for its log, so a question goes to the process's own error stream.
        return _Asking(
            PromptOperator(WallClock(), input_descriptor=sys.__stdin__.fileno(), output=sys.__stderr__), self
        )


class AutoClose:
    """Robot's listener of the library: closes what a test or a suite left open."""

    ROBOT_LISTENER_API_VERSION: ClassVar[int] = 3

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._runs_before = 0

    # `data` and `result` are Robot's own model objects, which have no types.

    def start_test(self, data: Any, result: Any) -> None:
        """Remember that a test runs."""
        del data, result
        self._bench.in_test = True
        self._runs_before = len(self._bench.runs)

    def end_test(self, data: Any, result: Any) -> None:
        """Close a station that was opened in this test; a failure to do so fails the test."""
        del data
        bench = self._bench
        bench.in_test = False
        failure = _first_line(result.message) if result.failed else ""
        if failure:
            self._stay_closed_after_a_trip()
        if not bench.is_open or not bench.opened_in_test:
            return
        try:
            bench.close(failure=failure)
        except CLOSING_ERRORS as error:
            result.status = "FAIL"
            result.message = f"{result.message}\n\n{bench.problems[-1]}" if result.message else str(error)

    def end_suite(self, data: Any, result: Any) -> None:
        """Close a station that was opened in the set-up of this suite or of one below it."""
        del data
        failure = next((_first_line(test.message) for test in result.all_tests if test.failed), "")
        if failure:
            self._stay_closed_after_a_trip()
        self._bench.close(failure=failure)

    def close(self) -> None:
        """Close what is still open at the very end."""
        self._bench.close(failure="the plan was stopped")

    def _stay_closed_after_a_trip(self) -> None:
        bench = self._bench
        trips = [run.tripped for run in bench.runs[self._runs_before :]]
        if bench.is_open:
            trips.append(bench.opened.tripped)
        bench.stopped_by = next(filter(None, trips), bench.stopped_by)


class _Asking:
    """An operator at the terminal, with everything else that draws there kept quiet meanwhile."""

    def __init__(self, operator: Operator, bench: Workbench) -> None:
        self._operator = operator
        self._bench = bench

    def energise(self, what: str) -> ActDone:
        with self._quiet():
            return self._operator.energise(what)

    def plug_in(self) -> ActDone:
        with self._quiet():
            return self._operator.plug_in()

    def unplug(self) -> ActDone:
        with self._quiet():
            return self._operator.unplug()

    def turn_key(self, *, on: bool) -> ActDone:
        with self._quiet():
            return self._operator.turn_key(on=on)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        self._bench.asking = True
        try:
            yield
        finally:
            self._bench.asking = False


def _station_path(given: str | None) -> Path:
    wanted = variable("STATION")
    if given is None:
        return find_station(wanted) if wanted is not None else asset(DEFAULT_STATION)
    path = find_station(given)
    if wanted is not None and find_station(wanted).resolve() != path.resolve():
        raise ConfigError(
            f"the plan opens {given}, and it was asked to run on {wanted}; leave the file out of 'Open Station', "
            "so that the station can be chosen from outside"
        )
    return path


def find_station(name: str) -> Path:
    """A station file by its path, from the working directory or beside the plan, or one that comes with the bench."""
    path = Path(name).expanduser()
    plan = variable("SUITE SOURCE")
    beside = Path(plan).parent / path if plan is not None else path
    for candidate in (path, beside):
        if candidate.is_file():
            return candidate
    if path.parts[:1] == ("stations",):
        return asset(path.as_posix())
    raise ConfigError(f"there is no station file {name}; give its path, or one that comes with the bench")


def _plan_name() -> str:
    source = variable("SUITE SOURCE")
    return Path(source).stem if source is not None else "plan"


def _energise() -> ActDone | None:
    word = variable("ENERGISE")
    if word is None or word.lower() in _NO:
        return None
    if word.lower() not in _YES:
        raise ConfigError(f"the variable ENERGISE is {word!r}; say yes or no")
    try:
        by = getpass.getuser()
    except (KeyError, OSError, ImportError):
        by = f"user {os.getuid()}"
    return ActDone(act=Act.ENERGISE, by=by, means=Means.ARGUMENT, utc_s=time.time())


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
