"""Robot Framework in this process, behind types: rehearse a plan, execute it.

A rehearsal is Robot's dry run: it finds unknown keywords, wrong numbers of arguments and words that cannot be turned
into the argument's type, and it opens nothing. So a typing error in the last line of a plan is found before a charger
is energised, not after an hour. It also tells what the plan is going to do, from which time left is forecast.

Robot's console is off; whoever wants to see something is a `PlanWatcher`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, cast

from robot.run import run as robot_run

from bench.keywords import BenchLibrary
from bench.keywords.workbench import Workbench

OUTPUT, LOG, REPORT, XUNIT = "output.xml", "log.html", "report.html", "xunit.xml"
STOPPED_BY_USER = 253
_FIRST_ERROR_CODE = 251  # up to 250 is the number of failed tests
_SIGNALLED = "Received signal"

Status = Literal["PASS", "FAIL", "SKIP"]


@dataclass(frozen=True, slots=True)
class PlanTest:
    """How one test ended; `message` is empty when it passed."""

    name: str
    status: Status
    message: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """A keyword of ours in a plan, with its arguments as written."""

    keyword: str
    arguments: tuple[str, ...]


@dataclass(slots=True)
class Rehearsal:
    """What a dry run found: faults (each with file and line), tests, and our keywords in order."""

    faults: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    signalled: bool = False


@dataclass(slots=True)
class Execution:
    """What became of a plan."""

    code: int = 0
    tests: list[PlanTest] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # what Robot itself complained about
    signalled: bool = False
    bench: Workbench | None = None  # None when the plan does not use our keywords

    @property
    def passed(self) -> bool:
        """Whether all tests passed (or were skipped) and nothing went wrong beside them."""
        return self.code == 0 and not self.problems and not (self.bench is not None and self.bench.problems)

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C or SIGTERM ended it."""
        return self.code == STOPPED_BY_USER or self.signalled


class PlanWatcher(Protocol):
    """Whoever shows a plan's progress."""

    def library(self, bench: Workbench) -> None:
        """The plan uses our keywords."""

    def test_begins(self, name: str) -> None:
        """A test begins."""

    def test_ends(self, outcome: PlanTest) -> None:
        """A test has ended."""


def rehearse(plan: Path, variables: Mapping[str, str]) -> Rehearsal:
    """Look a plan over without opening anything. Raises KeyboardInterrupt when a signal came meanwhile."""
    rehearsal = Rehearsal()
    listener = _RehearsalListener(rehearsal)
    code, complaint = _robot(plan, variables, listener, dryrun=True, output="NONE", log="NONE", report="NONE")
    if rehearsal.signalled:
        raise KeyboardInterrupt  # Robot heeds signals between keywords only, and a rehearsal runs none
    if code >= _FIRST_ERROR_CODE and not rehearsal.faults:
        rehearsal.faults.append(complaint or f"Robot Framework ended with code {code}")
    return rehearsal


def execute(plan: Path, variables: Mapping[str, str], folder: Path, watcher: PlanWatcher | None = None) -> Execution:
    """Execute a plan; output, log, report and xUnit file go into `folder`.

    What the plan opened is closed on every way out.
    """
    execution = Execution()
    listener = _ExecutionListener(execution, watcher)
    try:
        execution.code, complaint = _robot(
            plan, variables, listener, outputdir=str(folder), output=OUTPUT, log=LOG, report=REPORT, xunit=XUNIT
        )
    finally:
        if execution.bench is not None:
            execution.bench.close(failure="the plan was stopped")
    if execution.code >= _FIRST_ERROR_CODE and not execution.stopped:
        execution.problems.append(complaint or f"Robot Framework ended with code {execution.code}")
    return execution


def _robot(plan: Path, variables: Mapping[str, str], listener: object, **options: object) -> tuple[int, str]:
    """Robot's return code, and what it complained about on its error stream."""
    complaints = io.StringIO()
    code = robot_run(
        str(plan),
        console="quiet",
        stdout=io.StringIO(),
        stderr=complaints,
        listener=listener,
        variable=[f"{name}:{value}" for name, value in variables.items()],
        **options,
    )
    text = complaints.getvalue().strip().partition("\n\nTry --help")[0]
    return cast("int", code), text.removeprefix("[ ERROR ] ")


# Robot's listener interface hands over its own model objects, which have no types.


class _RehearsalListener:
    ROBOT_LISTENER_API_VERSION: ClassVar[int] = 3

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._told: set[str] = set()

    def start_test(self, data: Any, result: Any) -> None:
        del result
        self._rehearsal.tests.append(data.name)
        self._told = set()

    def end_test(self, data: Any, result: Any) -> None:
        if result.failed and not self._told:  # what no line of the test shows
            self._fault(data, result.message)

    def end_body_item(self, data: Any, result: Any) -> None:
        message = getattr(result, "message", "")
        if result.failed and message and message not in self._told:
            self._fault(data, message)

    def start_library_keyword(self, data: Any, implementation: Any, result: Any) -> None:
        del result
        if implementation.owner.name == "bench.keywords":
            self._rehearsal.calls.append(Call(implementation.name, tuple(str(word) for word in data.args)))

    def message(self, message: Any) -> None:
        if message.message.startswith(_SIGNALLED):
            self._rehearsal.signalled = True
        elif message.level == "ERROR":
            self._rehearsal.faults.append(_place_first(_one_line(message.message)))

    def _fault(self, data: Any, message: str) -> None:
        self._told.add(message)
        self._rehearsal.faults.append(f"{data.source}:{data.lineno}: {_one_line(message)}")


class _ExecutionListener:
    ROBOT_LISTENER_API_VERSION: ClassVar[int] = 3

    def __init__(self, execution: Execution, watcher: PlanWatcher | None) -> None:
        self._execution = execution
        self._watcher = watcher

    def library_import(self, library: Any, importer: Any) -> None:
        del importer
        if isinstance(library.instance, BenchLibrary) and self._execution.bench is None:
            self._execution.bench = library.instance.bench
            if self._watcher is not None:
                self._watcher.library(library.instance.bench)

    def start_test(self, data: Any, result: Any) -> None:
        del result
        if self._watcher is not None:
            self._watcher.test_begins(data.name)

    def end_test(self, data: Any, result: Any) -> None:
        outcome = PlanTest(
            data.name, result.status, result.message if result.failed else "", result.elapsed_time.total_seconds()
        )
        self._execution.tests.append(outcome)
        if self._watcher is not None:
            self._watcher.test_ends(outcome)

    def message(self, message: Any) -> None:
        if message.message.startswith(_SIGNALLED):
            self._execution.signalled = True
        elif message.level == "ERROR":
            self._execution.problems.append(_one_line(message.message))


def _place_first(sentence: str) -> str:
    """Robot's complaint about a line of a file in the form that editors know: `file:line: what`."""
    return re.sub(r"^Error in file '([^']+)' on line (\d+): ", r"\1:\2: ", sentence)


def _one_line(text: str) -> str:
    """Robot's message as one line: the class of a failed conversion says nothing to whoever wrote the plan."""
    told, _, _ = text.partition("Traceback (most recent call last)")  # Robot adds it when an import fails
    return " ".join(told.split()).removeprefix("ValueError: ")
