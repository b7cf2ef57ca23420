"""`v2gbench age SCENARIO.yaml`: years of use of a pack with and without V2G, before anybody has to live them.

The twin is driven through every second of every life that the answer needs (`twins.scenarios.study`), on all
processors, with the time left shown. What came of it goes to a folder of its own below the runs: `age.json`, with
everything that a report draws.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.assets import asset
from bench.commands.folders import make_folder, write_document
from drivers.errors import ConfigError
from reports.pack.age import write_age_report
from twins.scenarios.model import load_scenario
from twins.scenarios.study import AgingStudy, StudyProgress, study

STUDY_NAME: Final = "age.json"

_MOST_YEARS: Final = 30


@dataclass(frozen=True, slots=True)
class AgeResult:
    """What came of a scenario, and where it was written."""

    study: AgingStudy
    folder: Path
    file: Path
    report: Path

    def document(self) -> dict[str, object]:
        """The result for programs, ready for JSON."""
        return {**self.study.document(), "run": str(self.folder), "file": str(self.file), "report": str(self.report)}

    def text(self) -> str:
        """The result for people."""
        return f"{self.study.text()}\n\n{self.file}\nreport: {self.report}"


def age_scenario(
    scenario: Path,
    *,
    years: int | None = None,
    runs: Path | None = None,
    laws: Sequence[str] | None = None,
    show: bool = False,
) -> AgeResult:
    """Simulate a scenario file, or a shipped one by its name, and write `age.json` and a report.

    `years` goes over the file's own; `laws[0]` ages the pack, all laws by default; `show` draws a progress bar on a
    terminal. Raises ConfigError in one sentence for a file that is missing or wrong, a law or pack that does not exist.
    """
    path = _found(scenario)
    loaded = load_scenario(path)
    if years is not None:
        if not 1 <= years <= _MOST_YEARS:
            raise ConfigError(f"1 <= years <= {_MOST_YEARS} must hold, not {years}")
        loaded = loaded.model_copy(update={"years": years})
    parameters = loaded.parameters(path.parent)
    with _progress(loaded.name, show=show and sys.stderr.isatty()) as progress:
        found = study(loaded, parameters, laws=laws, progress=progress)
    folder = make_folder(runs, f"age-{loaded.name}")
    report = write_document(folder, STUDY_NAME, found.document(series=True), write_age_report)
    return AgeResult(found, folder, folder / STUDY_NAME, report)


def _found(scenario: Path) -> Path:
    """The file itself, or the shipped scenario of that name (`favignana_van`)."""
    if scenario.exists() or len(scenario.parts) > 1 or scenario.suffix:
        return scenario
    return asset(f"scenarios/{scenario}.yaml")


@contextmanager
def _progress(name: str, *, show: bool) -> Iterator[StudyProgress | None]:
    if not show:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"living {name}", total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
