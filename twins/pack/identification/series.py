"""A log of one car as arrays: what every step of the identification reads. `reading` makes it, and judges the log."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
DrivenBy = Literal["current", "reported SOC"]


@dataclass(frozen=True, slots=True)
class Series:
    """A log of one car, a row per sample: n rows, rising times, positive current charges.

    NaN stands where a row has no value. `interval_a`, `rapid` and `gap` tell of the interval that ends at the row.
    """

    name: str
    time_s: Floats  # (n,) since the first row
    voltage_v: Floats  # (n,) whole pack
    current_a: Floats  # (n,) as logged
    interval_a: Floats  # (n,) mean over the interval before the row; 0 in the first
    hold_s: Floats  # (n,) for how long before the row `current_a` has flowed
    soc: Floats  # (n,) reported, as a fraction
    temperature_c: Floats  # (n,) mean of the sensors
    sensors_c: Floats  # (n, 4), NaN for a sensor that is not there
    ambient_c: Floats  # (n,)
    speed_km_h: Floats  # (n,) mean over the interval, 0 where unknown
    rapid: Flags  # (n,) a DC rapid charge
    gap: Flags  # (n,)
    driven_by: DrivenBy
    averaged: bool = False  # currents are means over the interval (CAN), not spots
    start_utc_s: float | None = None
    capacity_ah: float | None = None  # reported, median
    soh: float | None = None  # reported, median, as a fraction
    odometer_km: float | None = None  # at the end
    history: tuple[tuple[float, float], ...] = ()  # (UTC in s, SOH as a fraction), where it is reported
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.time_s.size)

    @property
    def spacing_s(self) -> float:
        """Median distance of the rows."""
        return float(np.median(np.diff(self.time_s)))


def part_of(series: Series, rows: slice, *, name: str) -> Series:
    """Some of the rows as a series of their own; times count from its first row."""
    cut: dict[str, NDArray[np.generic]] = {
        key: getattr(series, key)[rows]
        for key in (
            "voltage_v",
            "current_a",
            "interval_a",
            "hold_s",
            "soc",
            "temperature_c",
            "sensors_c",
            "ambient_c",
            "speed_km_h",
            "rapid",
            "gap",
        )
    }
    time_s = series.time_s[rows]
    cut["gap"] = np.concatenate(([False], series.gap[rows][1:]))
    cut["interval_a"] = np.concatenate(([0.0], series.interval_a[rows][1:]))
    return replace(series, name=name, time_s=time_s - time_s[0], **cut)  # type: ignore[arg-type]  # each of its own kind
