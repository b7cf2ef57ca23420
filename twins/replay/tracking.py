"""Small accumulators that both kinds of log feed: time, quantities, energy. Each sees every value once, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from twins.replay.summary import ClockReport, EnergySummary, Gap, QuantitySummary

# A step back of up to a second is a buffer that two threads of the logger filled; beyond that the clock was set.
_REORDER_S = 1.0


class LogClock:
    """Turns a logger's stamps into seconds since the first record that never run backwards.

    Records keep the file's order. A step back of at most 1 s is reordering: time stands still until the stamps catch
    up. A larger one means that the clock was set: time goes on from where it was, and the length of the step is not
    known. Both are counted, the first with its line. Where nearly all stamps fall (`mirrored`), the logger wrote them
    with the wrong sign, and the differences are taken with the sign turned. Everything is in whole microseconds.
    """

    __slots__ = ("_last_raw", "back_steps", "first_back_line", "gap_s", "gaps", "largest_back_s", "mirrored", "now_s")

    def __init__(self, *, mirrored: bool, gap_s: float) -> None:
        self.mirrored = mirrored
        self.gap_s = gap_s
        self.now_s = 0.0
        self.gaps: list[Gap] = []
        self.back_steps = 0
        self.largest_back_s = 0.0
        self.first_back_line: int | None = None
        self._last_raw: float | None = None

    def advance(self, raw_s: float, line: int) -> float:
        """Seconds since the first record for a record stamped `raw_s`."""
        if self._last_raw is None:
            self._last_raw = raw_s
            return 0.0
        step = round(self._last_raw - raw_s if self.mirrored else raw_s - self._last_raw, 6)
        if step >= 0.0:
            self._last_raw = raw_s
            if step > self.gap_s:
                self.gaps.append(Gap(self.now_s, step, line))
            self.now_s = round(self.now_s + step, 6)
            return self.now_s
        self.back_steps += 1
        self.largest_back_s = max(self.largest_back_s, -step)
        if self.first_back_line is None:
            self.first_back_line = line
        if -step > _REORDER_S:
            self._last_raw = raw_s
            self.gaps.append(Gap(self.now_s, None, line))
        return self.now_s

    def report(self, *, absolute: bool) -> ClockReport:
        """How the clock behaved."""
        return ClockReport(absolute, self.back_steps, self.largest_back_s, self.first_back_line, self.mirrored)


@dataclass(slots=True)
class QuantityTracker:
    """Running figures of one quantity."""

    unit: str
    verified: bool
    sources: list[str] = field(default_factory=list)
    count: int = 0
    no_data: int = 0
    first: float = 0.0
    last: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, value: float, time_s: float) -> None:
        """Take one value."""
        if self.count == 0:
            self.first, self.first_s = value, time_s
        self.count += 1
        self.last, self.last_s = value, time_s
        self.total += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    def summary(self, quantity: str) -> QuantitySummary:
        """The figures, frozen; only for a quantity with at least one value."""
        return QuantitySummary(
            quantity=quantity,
            unit=self.unit,
            count=self.count,
            no_data=self.no_data,
            first=self.first,
            last=self.last,
            minimum=self.minimum,
            maximum=self.maximum,
            # The sum of many equal values may be off by a last digit; the mean never leaves the range.
            mean=min(max(self.total / self.count, self.minimum), self.maximum),
            first_s=self.first_s,
            last_s=self.last_s,
            source=", ".join(self.sources),
            verified=self.verified,
        )


class EnergyTracker:
    """Integrates power by the trapezoid rule; an interval longer than `longest_s` is not bridged."""

    __slots__ = ("_covered_s", "_g2v_ws", "_in_ws", "_last", "_longest_s", "_out_ws", "_v2g_ws", "estimated", "plane")

    def __init__(self, plane: str, *, longest_s: float, estimated: bool = False) -> None:
        self.plane = plane
        self.estimated = estimated
        self._longest_s = longest_s
        self._last: tuple[float, float, bool] | None = None
        self._covered_s = 0.0
        self._in_ws = self._out_ws = self._g2v_ws = self._v2g_ws = 0.0

    def add(self, time_s: float, power_w: float, *, plugged: bool) -> None:
        """Take one instant of power, + into the pack; `plugged` when the vehicle is known to charge or export."""
        last, self._last = self._last, (time_s, power_w, plugged)
        if last is None:
            return
        step_s = time_s - last[0]
        if not 0.0 < step_s <= self._longest_s:
            return
        self._covered_s += step_s
        # Both ends must be plugged, or the line from driving to charging would pass for a discharge to the grid.
        plugged = plugged and last[2]
        for energy_ws in _signed_parts(last[1], power_w, step_s):
            if energy_ws >= 0.0:
                self._in_ws += energy_ws
                self._g2v_ws += energy_ws if plugged else 0.0
            else:
                self._out_ws -= energy_ws
                self._v2g_ws -= energy_ws if plugged else 0.0

    def summary(self) -> EnergySummary | None:
        """The energies in Wh, None where no interval was covered."""
        if self._covered_s == 0.0:
            return None
        return EnergySummary(
            plane=self.plane,
            into_pack_wh=self._in_ws / 3600.0,
            out_of_pack_wh=self._out_ws / 3600.0,
            g2v_wh=self._g2v_ws / 3600.0,
            v2g_wh=self._v2g_ws / 3600.0,
            covered_s=self._covered_s,
            estimated=self.estimated,
        )


def _signed_parts(begin_w: float, end_w: float, step_s: float) -> tuple[float, ...]:
    """Energies of a straight line from one power to another, split where it crosses zero."""
    if begin_w * end_w >= 0.0:
        return ((begin_w + end_w) / 2.0 * step_s,)
    crossing_s = step_s * begin_w / (begin_w - end_w)
    return (begin_w / 2.0 * crossing_s, end_w / 2.0 * (step_s - crossing_s))
