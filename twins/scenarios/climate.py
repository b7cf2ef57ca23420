"""The air around a parked or driven vehicle: one cosine over the year, one over the day.

Ageing needs no weather, only the right mean and the right swing: calendar wear is smooth in temperature, and a day's
noise averages out within the pack's thermal time constant of hours. So a climate is three numbers and two dates.

>>> round(float(ambient_c(PLACES["danish"], day_index=19, step_s=3600).mean()), 1)  # the coldest day
0.4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAYS_PER_YEAR: Final = 365
SECONDS_PER_DAY: Final = 86_400
_HELD_S: Final = 60


@dataclass(frozen=True, slots=True)
class Climate:
    """Mean and amplitudes (half of the whole swing) of the air, in °C and K, and when it is coldest and warmest."""

    mean_c: float
    yearly_amplitude_k: float
    daily_amplitude_k: float
    coldest_day: int = 19  # of the year, from 0
    warmest_hour: float = 15.0
    source: str = ""


PLACES: Final[Mapping[str, Climate]] = {
    "danish": Climate(8.7, 8.3, 3.0, 19, 15.0, "annual mean and seasonal swing of Denmark, from memory; estimate"),
    "favignana": Climate(
        17.6,
        6.9,
        3.5,
        30,
        15.0,
        "Trapani Birgi 1961-1990 (16 km away): annual mean 17.6, coldest month 11.5, warmest 25 degC; "
        "daily swing from the maxima and minima of the Egadi islands 1950-1975",
    ),
    "mediterranean": Climate(17.0, 8.0, 4.5, 25, 15.0, "a coastal town, from memory; estimate"),
}


def ambient_c(climate: Climate, *, day_index: int, step_s: int) -> NDArray[np.float64]:
    """Air temperature over one day, in °C, one value per step; `day_index` 0 is 1 January, a year has 365 days.

    It holds for a minute, or for the step where that is longer. The seasonal part moves through the day too, so that
    midnight has no step.
    """
    held_s = max(step_s, _HELD_S)
    seconds = (np.arange(SECONDS_PER_DAY // held_s) + 0.5) * held_s
    day = day_index + seconds / SECONDS_PER_DAY
    season = -np.cos((2.0 * np.pi / DAYS_PER_YEAR) * (day - climate.coldest_day))
    hour = np.cos((2.0 * np.pi / 24.0) * (seconds / 3600.0 - climate.warmest_hour))
    held = climate.mean_c + climate.yearly_amplitude_k * season + climate.daily_amplitude_k * hour
    return np.repeat(held, held_s // step_s)
