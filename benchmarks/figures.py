"""What every benchmark returns: figures with their goals and peers, and the machine that they were measured on.

A speed says little without the machine, and little without something to compare it with. So a figure carries its goal,
the peer that did the same work in the same run, and the ratio to it; the document carries the processor and the load
before and after, because another job on the machine is the usual reason for a bad figure.

>>> figure = Figure("help_s", 0.21, "s", goal=0.5, goal_kind="max")
>>> figure.is_met, table([figure]).splitlines()[-1]
(True, 'help_s  0.21   s     at most 0.5  yes')
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

GoalKind = Literal["min", "max"]
JsonObject = dict[str, object]

_HEAD = ("figure", "value", "unit", "goal", "met", "peer", "peer value", "ratio")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `value` is None only with a `reason`, and then there is no goal either.

    `goal_kind` says on which side of `goal` the value should be. `peer` names what did the same work, `peer_value` is
    in the figure's unit unless `peer` says otherwise, `ratio` is value / peer_value.
    """

    name: str
    value: float | None
    unit: str
    goal: float | None = None
    goal_kind: GoalKind | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.goal is None) != (self.goal_kind is None):
            raise ValueError(f"figure {self.name!r} needs both goal and goal_kind, or neither")
        if self.value is None and (self.goal is not None or not self.reason):
            raise ValueError(f"figure {self.name!r} has no value; it needs a reason, and can have no goal")
        for number in (self.value, self.goal, self.peer_value, self.ratio):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"figure {self.name!r} holds {number}, which is no figure")

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.value is None or self.goal is None:
            return None
        return self.value >= self.goal if self.goal_kind == "min" else self.value <= self.goal


def load_average() -> tuple[float, float, float] | None:
    """Runnable processes averaged over 1, 5 and 15 minutes; None where the system does not tell."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def document(
    benchmark: str,
    figures: Sequence[Figure],
    *,
    load_before: tuple[float, float, float] | None,
    load_after: tuple[float, float, float] | None,
) -> JsonObject:
    """The one JSON object of a benchmark: `benchmark`, `machine` and `figures`."""
    machine: JsonObject = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "load_average_before": list(load_before) if load_before is not None else None,
        "load_average_after": list(load_after) if load_after is not None else None,
    }
    return {"benchmark": benchmark, "machine": machine, "figures": [asdict(figure) for figure in figures]}


def table(figures: Sequence[Figure]) -> str:
    """The figures as text, a line each; a figure without a value shows its reason."""
    rows = [_HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(figure: Figure) -> tuple[str, ...]:
    goal = (
        f"{'at least' if figure.goal_kind == 'min' else 'at most'} {figure.goal:g}" if figure.goal is not None else ""
    )
    met = {True: "yes", False: "NO", None: ""}[figure.is_met]
    peer = figure.peer or ""
    if figure.reason:
        peer = f"{peer} ({figure.reason})".strip()
    return (
        figure.name,
        _text(figure.value) or "none",
        figure.unit,
        goal,
        met,
        peer,
        _text(figure.peer_value),
        _text(figure.ratio),
    )


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cpu_model() -> str:
    """The processor's name as the system gives it; "unknown" where it gives none."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or "unknown"
