"""One measured value with everything needed to judge it later: unit, both times, source and quality.

A `Reading` is a NamedTuple because a 1 s cycle makes dozens of them per simulated second (a frozen dataclass costs
twice as much). A value that the device did not give is NaN with a quality that says why, never a default.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple


class Quality(enum.StrEnum):
    """How far a value can be trusted."""

    GOOD = "good"
    NO_DATA = "no_data"  # the device said that it has no value; the value is NaN
    OVER_RANGE = "over_range"  # the device said that the input exceeds its range; the value is NaN
    STALE = "stale"  # older than its device promises
    ESTIMATED = "estimated"  # derived from other readings


class Reading(NamedTuple):
    """One measured value.

    >>> Reading(-5000.0, "W", 12.0, 1_700_000_012.0, "charger.ac_power").is_good
    True
    """

    value: float
    unit: str
    mono_s: float  # session clock, seconds since the rack was opened
    utc_s: float  # session clock, seconds since 1970-01-01T00:00:00Z
    source: str  # "<device>.<quantity>", the device by its name in the station file
    quality: Quality = Quality.GOOD

    @property
    def is_good(self) -> bool:
        """Whether the value is a number of good quality."""
        return self.quality is Quality.GOOD and not math.isnan(self.value)


def missing(unit: str, mono_s: float, utc_s: float, source: str, quality: Quality = Quality.NO_DATA) -> Reading:
    """A reading whose device gave no value: NaN and the reason."""
    return Reading(math.nan, unit, mono_s, utc_s, source, quality)
