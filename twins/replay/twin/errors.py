"""Differences between what a twin showed and what a log says, as numbers that can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Errors:
    """Shown less logged, over rows that have both; in the unit of the quantity.

    The worst minute is the largest root mean square within one minute of the log's clock: of single rows where they lie
    further apart.
    """

    rows: int
    rmse: float
    bias: float
    worst_minute: float
    worst_minute_at_s: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Errors of the twin beside those of predictions that know less; None where a baseline makes no sense.

    `persistence` says that the first value, and the first behind each gap, stays; `ocv_only` is the twin's open-circuit
    curve at the state of charge, without any resistance; `row_before` says that the last row's value stays, which the
    twin, begun once, is never told.
    """

    unit: str
    level: float  # mean of what was logged
    twin: Errors
    persistence: Errors | None = None
    ocv_only: Errors | None = None
    row_before: Errors | None = None


def errors_of(time_s: Floats, shown: Floats, logged: Floats) -> Errors | None:
    """Errors of (n,) predictions at (n,) times; None where no row has both."""
    known = ~np.isnan(shown) & ~np.isnan(logged)
    if not known.any():
        return None
    error = (shown - logged)[known]
    minute = (time_s[known] // _MINUTE_S).astype(np.intp)
    minute -= minute.min()
    counts = np.bincount(minute)
    mean_squares = np.bincount(minute, weights=error**2) / np.maximum(counts, 1)
    worst = int(np.argmax(mean_squares))
    return Errors(
        rows=int(error.size),
        rmse=float(np.sqrt(np.mean(error**2))),
        bias=float(np.mean(error)),
        worst_minute=float(np.sqrt(mean_squares[worst])),
        worst_minute_at_s=float(time_s[known][np.argmax(minute == worst)]),
    )


def held(values: Floats, begins: NDArray[np.bool_]) -> Floats:
    """(n,) the last known value at or before the last begin; NaN where a stretch began without one.

    A stretch that begins without a value takes its first known one.
    """
    made = np.full(values.size, np.nan)
    value = np.nan
    for place in range(values.size):
        if begins[place]:
            value = np.nan
        if np.isnan(value):
            value = values[place]
        made[place] = value
    return made
