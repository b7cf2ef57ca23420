"""Run a Robot Framework plan at a station, and say what became of it: `v2gbench run`.

First everything that can be wrong is looked for with nothing open: the plan's file, the station's, the answers', each
keyword and word of the plan. Then Robot runs in this process. Its output, log, report and xUnit file are written into a
folder of their own while it runs, because nobody knows yet whether the plan opens a station, and move to `robot/`
in the run folder that it made: into each of them when there are several. A plan that opens none leaves that folder,
`<UTC>_<plan>_<4 letters>.robot`. Folders are made exclusively, so parallel runs never share one.

Exit codes: 0 pass; 1 fail; 2 bad input; 3 a limit tripped and a test failed by it; 130 stopped by Ctrl-C or SIGTERM. A
plan that expects a trip, and sees it, has passed.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import shutil
import string
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.assets import asset, list_assets
from bench.commands.paid import lightning_line
from bench.devices import find_driver
from bench.keywords.opened import StationRun
from bench.keywords.workbench import DEFAULT_STATION
from bench.operator import AnswerFileOperator
from bench.plans.execution import LOG, OUTPUT, REPORT, XUNIT, Execution, PlanTest, execute, rehearse
from bench.plans.progress import PlanProgress, forecast
from bench.settlement import ready_the_nodes
from bench.station import Station, load_station
from drivers.clock import WallClock
from drivers.errors import ConfigError
from ledgers.canonical import Json
from reports.errors import ReportError
from reports.html import write_report
from reports.junit import write_junit

RESULT_SCHEMA = "v2gbench.plan_result/1.0"
PASS, FAIL, BAD_INPUT, TRIPPED, STOPPED = 0, 1, 2, 3, 130
_FOLDER_ATTEMPTS = 100
_BAD_INPUT = re.compile(rf"(^|\n){ConfigError.__name__}: ")  # how Robot words an exception
_VERDICTS = {PASS: "PASS", FAIL: "FAIL", BAD_INPUT: "BAD INPUT", TRIPPED: "TRIPPED", STOPPED: "STOPPED"}


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What became of a plan."""

    plan: Path
    exit_code: int
    tests: tuple[PlanTest, ...]
    runs: tuple[StationRun, ...]
    robot: Path  # folder of Robot's own files
    problems: tuple[str, ...]
    wall_s: float

    @property
    def verdict(self) -> str:
        """The exit code in words."""
        return _VERDICTS[self.exit_code]

    def document(self) -> dict[str, Json]:
        """What a program wants to know, as one JSON object."""
        return {
            "schema": RESULT_SCHEMA,
            "plan": str(self.plan),
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "tests": [
                {"name": test.name, "status": test.status, "message": test.message, "wall_s": round(test.wall_s, 3)}
                for test in self.tests
            ],
            "problems": list(self.problems),
            "runs": [_run_document(run) for run in self.runs],
            "robot": {name: str(self.robot / file) for name, file in _ROBOT_FILES.items()},
            "simulated_s": round(sum(run.simulated_s for run in self.runs), 3),
            "wall_s": round(self.wall_s, 3),
        }

    def text(self) -> str:
        """What a person wants to know: verdict, tests, what there is to look at."""
        lines = [f"verdict: {self.verdict}"]
        for test in self.tests:
            lines.append(f"  {test.status}  {test.name} ({test.wall_s:.1f} s)")
            lines += [f"        {line}" for line in test.message.splitlines() if line]
        lines += [f"  {problem}" for problem in self.problems]
        for run in self.runs:
            lines.append(f"run: {run.folder} ({run.simulated_s:g} s of session time)")
            if run.tripped:
                lines.append(f"  tripped: {run.tripped}")
            if run.certified is not None:
                certified = run.certified.certified
                lines.append(f"  session: {certified.verdict}")
                lines += [f"    {reason}" for reason in certified.reasons]
                if paid := lightning_line(certified.settlement):
                    lines.append(f"  {paid}")
                if certified.certificate is not None:
                    lines.append(f"  certificate: {certified.certificate}")
                    lines.append(f"  check it: v2gbench verify {certified.certificate} --trust {certified.trust}")
            if (run.folder / "report.html").is_file():
                lines.append(f"  report: {run.folder / 'report.html'}")
        lines.append(f"robot log: {self.robot / LOG}")
        return "\n".join(lines)


def run_plan(
    plan: Path,
    *,
    station: Path | None = None,
    runs: Path | None = None,
    energise: bool = False,
    answers: Path | None = None,
    live: bool = False,
) -> PlanResult:
    """Run a plan, by its path or by the name of one that comes with the bench (`smoke`).

    `live` shows progress on standard error. Raises ConfigError, with nothing opened, when plan, station file or answers
    are wrong; BuildError when the nodes of a station that is paid over Lightning cannot be built.
    """
    began_s = time.perf_counter()
    path = find_plan(plan)
    loaded = load_station(station or asset(DEFAULT_STATION))
    if answers is not None:
        AnswerFileOperator(answers, WallClock())  # reads the file, and refuses a wrong one
    root = runs or loaded.runs_folder
    variables = {"RUNS": str(root.absolute()), "ENERGISE": "yes" if energise else "no"}
    if station is not None:
        variables["STATION"] = str(station.absolute())
    if answers is not None:
        variables["ANSWERS"] = str(answers.absolute())
    rehearsal = rehearse(path, variables)
    if rehearsal.faults:
        raise ConfigError("\n".join(rehearsal.faults))
    _import_drivers(loaded)
    ready_the_nodes(loaded)
    folder = _make_folder(root, path.stem)
    with ExitStack() as stack:
        progress = None
        if live and sys.__stderr__ is not None:
            expected = forecast(rehearsal.calls)
            progress = stack.enter_context(PlanProgress(len(rehearsal.tests), expected, sys.__stderr__))
        execution = execute(path, variables, folder, progress)
    made = tuple(execution.bench.runs) if execution.bench is not None else ()
    problems = [*execution.problems, *(execution.bench.problems if execution.bench is not None else ())]
    problems += _complete(made)
    return PlanResult(
        plan=path,
        exit_code=_exit_code(execution),
        tests=tuple(execution.tests),
        runs=made,
        robot=_move_into_runs(folder, made, problems),
        problems=tuple(problems),
        wall_s=time.perf_counter() - began_s,
    )


def find_plan(plan: Path) -> Path:
    """A plan's file or folder; ConfigError lists those that come with the bench when there is none."""
    if plan.exists():
        return plan.absolute()
    shipped = {Path(name).stem: name for name in list_assets("test_plans") if name.endswith(".robot")}
    name = plan.name.removesuffix(".robot")
    if name in shipped and plan.parent in {Path(), Path("test_plans")}:
        return asset(shipped[name])
    raise ConfigError(
        f"there is no plan {plan}; give a .robot file, or one that comes with the bench: {_listed(shipped)}"
    )


_ROBOT_FILES = {"output": OUTPUT, "log": LOG, "report": REPORT, "xunit": XUNIT}


def _run_document(run: StationRun) -> dict[str, Json]:
    report = run.folder / "report.html"
    return {
        "folder": str(run.folder),
        "station": run.station,
        "simulated_s": round(run.simulated_s, 3),
        "tripped": run.tripped or None,
        "report": str(report) if report.is_file() else None,
        "session": run.certified.summary() if run.certified is not None else None,
    }


def _exit_code(execution: Execution) -> int:
    if execution.passed:
        return PASS
    if execution.bench is not None and execution.bench.stopped_by:
        return TRIPPED
    if execution.stopped:
        return STOPPED
    if any(_BAD_INPUT.search(test.message) for test in execution.tests):
        return BAD_INPUT
    return FAIL


def _import_drivers(station: Station) -> None:
    """Import what the station needs before Robot listens to every logger: libraries chatter while they load."""
    for part in station.devices.values():
        find_driver(part.role, part.driver)


def _make_folder(root: Path, plan: str) -> Path:
    word = re.sub(r"[^A-Za-z0-9-]+", "-", plan).strip("-")[:48] or "plan"
    stem = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}_{word}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for _ in range(_FOLDER_ATTEMPTS):
            letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
            folder = root / f"{stem}_{letters}.robot"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder.absolute()
    except OSError as error:
        raise ConfigError(f"cannot make a folder in {root}: {error.strerror}; choose another with --runs") from error
    raise ConfigError(f"no free name for a folder under {root} after {_FOLDER_ATTEMPTS} attempts; clear the folder")


def _move_into_runs(folder: Path, runs: tuple[StationRun, ...], problems: list[str]) -> Path:
    """Put Robot's files where they belong and return where they are."""
    if not runs:
        return folder
    try:
        for run in runs[1:]:
            shutil.copytree(folder, run.folder / "robot")
        return folder.rename(runs[0].folder / "robot")
    except OSError as error:
        problems.append(f"Robot's files stay in {folder}: {error}")
        return folder


def _complete(runs: tuple[StationRun, ...]) -> list[str]:
    """Report and JUnit file for runs without a session, which certification did not reach; returns what went wrong."""
    problems = []
    for run in runs:
        if (run.folder / "report.html").is_file():
            continue
        try:
            write_report(run.folder)
            write_junit(run.folder)
        except ReportError as error:
            problems.append(str(error))
    return problems


def _listed(names: dict[str, str]) -> str:
    return ", ".join(sorted(names)) or "none"
