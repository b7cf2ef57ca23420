"""The stepped clock: simulated time that only the bench moves.

UTC in a stepped run is the simulated time from a start in the station file, so two runs with one seed carry the same
stamps. Seconds are counted in whole microseconds, because adding 0.1 a million times does not give 100,000.

>>> clock = SteppedClock(start_utc_s=1_768_464_000.0)
>>> for _ in range(10):
...     clock.advance(0.1)
>>> clock.mono_s, clock.utc_s
(1.0, 1768464001.0)
"""

from __future__ import annotations

import math


class SteppedClock:
    """A session clock that stands still until `advance` is called."""

    __slots__ = ("_elapsed_us", "_start_utc_s", "mono_s", "utc_s")

    def __init__(self, start_utc_s: float) -> None:
        self._start_utc_s = start_utc_s
        self._elapsed_us = 0
        self.mono_s = 0.0
        self.utc_s = start_utc_s

    def advance(self, dt_s: float) -> None:
        """Move time forward by `dt_s` seconds; ValueError unless that is finite and at least a microsecond."""
        if not 1e-6 <= dt_s < math.inf:
            raise ValueError(f"time only moves forward, by a microsecond or more: a step of {dt_s!r} s is refused")
        self._elapsed_us += round(dt_s * 1e6)
        self.mono_s = self._elapsed_us / 1e6
        self.utc_s = self._start_utc_s + self.mono_s
