"""What each witness of a finished session says, with its uncertainty: energies per plane and direction, and time lags.

Three witnesses, named planes. AC: the charger's meter and the analyzer. DC: the vehicle's BMS and the analyzer. The
converter's losses lie between the planes, so the planes are only ever joined through the analyzer, which sees both.

Uncertainty is expanded (k = 2) and made of independent parts, joined as root sum of squares (JCGM 100:2008, 5.1.2):

- gain and offset: half-widths of the witness's data sheet (k = 2), on the energy and on power times duration;
- resolution: a register counts whole steps, so the difference of two readings errs by less than one step;
- polling: a witness that is polled tells nothing between two polls. The energy of an interval lies between all of it
  at the one and all of it at the other end value, uniform: half-width h = |P1 - P0| dt / 2, so 2 sqrt(sum h^2 / 3).
  Where the sign changes, the same part holds for both directions; at the ends of the session the missing poll is 0 W;
- clock: the ends of the session are known to the witness's own clock, `clock_s` times the power standing there;
- silence: a register that was last read before the end (or first after the beginning) misses what flowed meanwhile, at
  most about the power standing there times that time.

A witness that was silent for too long has no figure, only the reason: a register for more than a minute at an end of
the session, polled power for more than three polls anywhere in it. What nobody saw is not estimated.

Time lags tell what sums cannot: a witness whose clock is a minute off counts the same energy. The lag of two power
traces at one plane is where their squared difference is smallest, on a 1 s grid within +-120 s; traces that hardly move
say nothing and are not judged. A schedule that repeats itself fits at several lags: the smallest one counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledgers.records import Direction, Energy, EnergyFigure, Plane, TracePair, trace_pair
from reports.run import Run, Series

_LAG_RANGE_S = 120
_MOVES_W = 200.0  # standard deviation below which a power trace is too flat to show a lag
_SAME_FIT = 1.05  # a lag fits as well as the best one when its mean squared difference is at most this much larger,
_SAME_FIT_W = 20.0  # or differs by the noise of two witnesses
_UNREAD_END_S = 60.0  # longest time at an end of the session that a register may go unread
_SILENT_POLLS, _SILENT_SLACK_S = 3.0, 2.0  # longest silence of a polled witness, as in the guard's own blindness

# A BMS's power is its voltage times its current; no data sheet of the LBC is public: engineering choices.
VEHICLE_GAIN_PERCENT = 1.0  # current 0.8 % and voltage 0.2 % in the worst sum
VEHICLE_OFFSET_W = 20.0  # 0.05 A at 400 V

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WitnessSheet:
    """A witness's data sheet for power at one plane; half-widths with k = 2."""

    witness: str
    plane: Plane
    gain_percent: float
    offset_w: float
    resolution_wh: float  # step of its energy register; 0 where energy is integrated from polled power
    poll_s: float
    clock_s: float  # how well its clock and the bench's are known to agree
    power: str  # source of its power, or of its voltage when `current` is given
    current: str | None = None  # source of its current; power is then the product
    import_energy: str | None = None  # source of its register, None: integrate power
    export_energy: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The session on the session clock, in seconds."""

    begin_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Length of the session."""
        return self.end_s - self.begin_s


def energy_of(run: Run, sheet: WitnessSheet, window: Window) -> dict[Direction, EnergyFigure]:
    """Both figures of one witness at one plane; null with a reason where it said too little."""
    power = _power(run, sheet)
    if power is None or len(power[0]) < 2:
        reason = f"{sheet.witness} reported no power at the {sheet.plane.value} plane"
        return {direction: _absent(sheet, reason) for direction in Direction}
    at_s, watts = _inside(power, window)
    if len(at_s) < 2:
        reason = f"{sheet.witness} reported power less than twice during the session"
        return {direction: _absent(sheet, reason) for direction in Direction}
    gaps_s = np.diff(at_s, prepend=window.begin_s, append=window.end_s)
    if sheet.import_energy is None and gaps_s.max() > _SILENT_POLLS * sheet.poll_s + _SILENT_SLACK_S:
        reason = f"{sheet.witness} was silent for {gaps_s.max():.0f} s of the session, polled every {sheet.poll_s:g} s"
        return {direction: _absent(sheet, reason) for direction in Direction}
    clock_wh = sheet.clock_s * math.hypot(watts[0], watts[-1]) / 3600.0
    figures: dict[Direction, EnergyFigure] = {}
    for direction, register in ((Direction.IMPORT, sheet.import_energy), (Direction.EXPORT, sheet.export_energy)):
        share = np.maximum(watts, 0.0) if direction is Direction.IMPORT else np.maximum(-watts, 0.0)
        active_s = float(np.sum(np.diff(at_s)[share[1:] > 0.0]))
        if register is None:
            # Before the first poll and after the last one, power lies between that poll's and nothing.
            edges_wh = np.array([share[0] * (at_s[0] - window.begin_s), share[-1] * (window.end_s - at_s[-1])]) / (
                2.0 * 3600.0
            )
            value_wh = float(np.trapezoid(share, at_s)) / 3600.0 + float(edges_wh.sum())
            half_wh = np.abs(np.diff(watts)) * np.diff(at_s) / 2.0 / 3600.0
            touched = (share[1:] > 0.0) | (share[:-1] > 0.0)
            spread_wh2 = float(np.sum(half_wh[touched] ** 2)) + float(np.sum(edges_wh**2))
            parts = {"polling": 2.0 * math.sqrt(spread_wh2 / 3.0)}
        else:
            counted = _register(run, sheet, register, window)
            if isinstance(counted, str):
                figures[direction] = _absent(sheet, counted)
                continue
            value_wh, unread_s = counted
            parts = {"resolution": sheet.resolution_wh}
            if max(unread_s) > sheet.poll_s:
                parts["silence"] = math.hypot(watts[0] * unread_s[0], watts[-1] * unread_s[1]) / 3600.0
        parts["gain"] = sheet.gain_percent / 100.0 * abs(value_wh)
        parts["offset"] = sheet.offset_w * active_s / 3600.0
        parts["clock"] = clock_wh
        figures[direction] = EnergyFigure(
            witness=sheet.witness,
            plane=sheet.plane,
            value_wh=value_wh,
            expanded_uncertainty_wh=math.sqrt(sum(part**2 for part in parts.values())),
            coverage_factor=2,
            contributions=parts,
            reason=None,
        )
    return figures


def energies(run: Run, sheets: tuple[WitnessSheet, ...], window: Window) -> Energy:
    """The figures of all witnesses, in the order of the sheets."""
    found = [energy_of(run, sheet, window) for sheet in sheets]
    return Energy(
        imported=tuple(figures[Direction.IMPORT] for figures in found),
        exported=tuple(figures[Direction.EXPORT] for figures in found),
    )


def time_lags(run: Run, sheets: tuple[WitnessSheet, ...], window: Window) -> tuple[TracePair, ...]:
    """The lag of each pair of witnesses at one plane, in the order of the sheets; positive: the second one is late."""
    return tuple(
        _time_lag(run, first, second, window)
        for first, second in itertools.combinations(sheets, 2)
        if first.plane is second.plane
    )


def ampere_hours(run: Run, current_source: str, window: Window) -> float | None:
    """Charged plus discharged ampere-hours from a polled current; None when it was polled less than twice."""
    series = _series(run, current_source)
    if series is None:
        return None
    at_s, amperes = _inside((series.mono_s, series.value), window)
    if len(at_s) < 2:
        return None
    return float(np.trapezoid(np.abs(amperes), at_s)) / 3600.0


def first_and_last(run: Run, source: str, window: Window) -> tuple[float, float] | None:
    """First and last good value of a source within the session; None when there is none."""
    series = _series(run, source)
    if series is None:
        return None
    _, values = _inside((series.mono_s, series.value), window)
    return (float(values[0]), float(values[-1])) if len(values) else None


def extremes(run: Run, sources: tuple[str, ...], window: Window) -> tuple[float, float] | None:
    """Smallest and largest good value of some sources; None when none of them has one."""
    found = [
        values
        for series in (_series(run, source) for source in sources)
        if series is not None
        for values in (_inside((series.mono_s, series.value), window)[1],)
        if len(values)
    ]
    return (float(min(map(np.min, found))), float(max(map(np.max, found)))) if found else None


def mean_power(run: Run, source: str, begin_s: float, end_s: float) -> float | None:
    """Time-weighted mean of a power between two session times; None when it was read less than twice there."""
    series = _series(run, source)
    if series is None:
        return None
    at_s, watts = _inside((series.mono_s, series.value), Window(begin_s, end_s))
    if len(at_s) < 2:
        return None
    return float(np.trapezoid(watts, at_s) / (at_s[-1] - at_s[0]))


def _time_lag(run: Run, first: WitnessSheet, second: WitnessSheet, window: Window) -> TracePair:
    allowed_s = 2.0 + 0.5 * (first.poll_s + second.poll_s) + first.clock_s + second.clock_s
    value, reason = _lag_s(_power(run, first), _power(run, second), window)
    return trace_pair(
        "time_lag",
        first.plane,
        first.witness,
        second.witness,
        value=value,
        unit="s",
        allowed=round(allowed_s, 3),
        reason=reason,
    )


def _lag_s(
    first: tuple[Floats, Floats] | None, second: tuple[Floats, Floats] | None, window: Window
) -> tuple[float | None, str | None]:
    if first is None or second is None:
        return None, "one of the two reported no power"
    for trace in (first, second):
        gap_s = float(np.diff(_inside(trace, window)[0], prepend=window.begin_s, append=window.end_s).max())
        if gap_s > _UNREAD_END_S:
            return None, f"one of the two told no power for {gap_s:.0f} s"
    grid = np.arange(window.begin_s, window.end_s, 1.0)
    if len(grid) <= 2 * _LAG_RANGE_S:
        return None, f"a session of {2 * _LAG_RANGE_S} s or less is too short to tell a lag"
    a = np.interp(grid, *first)
    b = np.interp(grid, *second)
    if a.std() < _MOVES_W or b.std() < _MOVES_W:
        return None, "power hardly moved, so a lag would not show"
    # Mean squared difference at each shift, from correlations: cheap, and exact on the overlap's interior.
    core = slice(_LAG_RANGE_S, len(grid) - _LAG_RANGE_S)
    kept = a[core]
    shifts = np.arange(-_LAG_RANGE_S, _LAG_RANGE_S + 1)
    costs = np.array(
        [np.mean((kept - b[_LAG_RANGE_S + shift : len(grid) - _LAG_RANGE_S + shift]) ** 2) for shift in shifts]
    )
    if kept.std() < _MOVES_W:
        return None, "power hardly moved away from the ends of the session, so a lag would not show"
    fitting = shifts[costs <= _SAME_FIT * costs.min() + _SAME_FIT_W**2]
    return float(fitting[np.argmin(np.abs(fitting))]), None


def _power(run: Run, sheet: WitnessSheet) -> tuple[Floats, Floats] | None:
    series = _series(run, sheet.power)
    if series is None:
        return None
    if sheet.current is None:
        return series.mono_s, series.value
    current = _series(run, sheet.current)
    if current is None:
        return None
    at_s, voltage_at, current_at = np.intersect1d(series.mono_s, current.mono_s, return_indices=True)
    return at_s, series.value[voltage_at] * current.value[current_at]


def _register(run: Run, sheet: WitnessSheet, source: str, window: Window) -> tuple[float, tuple[float, float]] | str:
    """What a register counted, and for how long it went unread at both ends of the session; a reason for no figure."""
    series = _series(run, source)
    none = np.empty(0)
    at_s, values = _inside((none, none) if series is None else (series.mono_s, series.value), window)
    if len(at_s) < 2:
        return f"{sheet.witness} reported its energy register less than twice"
    unread_s = (float(at_s[0] - window.begin_s), float(window.end_s - at_s[-1]))
    if max(unread_s) > _UNREAD_END_S:
        which = "first" if unread_s[0] > unread_s[1] else "last"
        return f"{sheet.witness} did not report its energy register in the {which} {max(unread_s):.0f} s of the session"
    if bool(np.any(np.diff(values) < 0.0)):
        return f"the energy register of {sheet.witness} ran backwards; it was reset or exchanged during the session"
    return float(values[-1] - values[0]), unread_s


def _series(run: Run, source: str) -> Series | None:
    """Good readings of a source, None when it was never recorded."""
    if source not in {known.name for known in run.sources()}:
        return None
    series = run.series(source)
    good = np.array([quality == "good" for quality in series.quality], dtype=bool) & ~np.isnan(series.value)
    return Series(
        source,
        series.unit,
        series.mono_s[good],
        series.utc_s[good],
        series.value[good],
        tuple(quality for quality, keep in zip(series.quality, good, strict=True) if keep),
    )


def _inside(trace: tuple[Floats, Floats], window: Window) -> tuple[Floats, Floats]:
    at_s, values = trace
    keep = (at_s >= window.begin_s - 1e-6) & (at_s <= window.end_s + 1e-6)
    return at_s[keep], values[keep]


def _absent(sheet: WitnessSheet, reason: str) -> EnergyFigure:
    contributions: Mapping[str, float] = {}
    return EnergyFigure(
        witness=sheet.witness,
        plane=sheet.plane,
        value_wh=None,
        expanded_uncertainty_wh=None,
        coverage_factor=2,
        contributions=dict(contributions),
        reason=reason,
    )
