"""What a person sees while a session runs and when it is over."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.commands.paid import lightning_line
from bench.safety import Snapshot
from bench.session import Progress as SessionProgress
from ledgers.canonical import Json

_REFRESH_EVERY_CYCLES = 50  # a cycle takes a fraction of a millisecond; drawing takes longer


def ready_the_pack(*, show: bool) -> None:
    """Have the pack twin compiled; says so on a terminal when that takes longer than a second, once on a machine."""
    from twins.pack.pack import PackTwin  # noqa: PLC0415  # compiles what it imports

    sentence = "compiling the pack twin: once on this machine, some seconds"
    console = Console(stderr=True)
    timer = threading.Timer(1.0, lambda: console.print(sentence))
    timer.daemon = True
    if show and console.is_terminal:
        timer.start()
    try:
        PackTwin(soc=0.5)
    finally:
        timer.cancel()


@contextmanager
def session_progress(title: str, *, show: bool) -> Iterator[SessionProgress | None]:
    """A progress bar with time left and the latest readings; None when nothing is to be shown."""
    if not show:
        yield None
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task(title, total=1.0, now="")
        count = 0

        def update(done_s: float, total_s: float, snapshot: Snapshot) -> None:
            nonlocal count
            count += 1
            if count % _REFRESH_EVERY_CYCLES == 0:
                bar.update(task, completed=done_s / total_s, now=_now(snapshot))
                bar.refresh()

        yield update


def print_summary(summary: Mapping[str, Json]) -> None:
    """Verdict first, then energies by witness, money and paths."""
    console = Console()
    verdict = str(summary["verdict"])
    style = "bold green" if verdict == "PASS" else "bold red"
    console.print(f"verdict: [{style}]{verdict}[/]")
    for reason in cast("list[str]", summary["reasons"]):
        console.print(f"  {reason}", markup=False, highlight=False)
    table = Table("energy, Wh", "charger (ac)", "analyzer (ac)", "analyzer (dc)", "vehicle (dc)")
    for direction in ("import", "export"):
        figures = cast("Mapping[str, float | None]", summary[f"energy_{direction}_wh"])
        names = ("charger", "analyzer_ac", "analyzer_dc", "vehicle")
        table.add_row(direction, *("-" if figures[name] is None else f"{figures[name]:.1f}" for name in names))
    console.print(table)
    settlement = cast("Mapping[str, Json]", summary["settlement"])
    if settlement.get("status") == "settled":
        lines = cast("list[Mapping[str, Json]]", settlement["lines"])
        for line in lines:
            euro = cast("int", line["amount_micro"]) / 1e6
            console.print(
                f"settled: {line['kind']}: {line['payer']} pays {line['payee']} {euro:.6f} {settlement['currency']}"
            )
        if line_in_msat := lightning_line(settlement):
            console.print(line_in_msat, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"not settled: {settlement.get('reason')}", markup=False)
    console.print(
        f"{cast('float', summary['simulated_s']):.0f} s of session in {cast('float', summary['wall_s']):.1f} s"
    )
    for name in ("certificate", "trust", "report"):
        if summary[name] is not None:
            console.print(f"{name}: {summary[name]}", markup=False, highlight=False, soft_wrap=True)
    if summary["certificate"] is not None:
        console.print(
            f"check it: v2gbench verify {summary['certificate']} --trust {summary['trust']}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _now(snapshot: Snapshot) -> str:
    charger, vehicle = snapshot.charger, snapshot.vehicle
    power = "" if charger is None else f"{charger.ac_power.value / 1000.0:+.1f} kW"
    soc = "" if vehicle is None or not vehicle.soc.is_good else f", SOC {vehicle.soc.value:.1f} %"
    return power + soc
