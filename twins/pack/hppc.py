"""An equivalent circuit from a pulse test of one cell (HPPC): open-circuit voltage, R0 and two RC elements over SOC.

The voltage is OCV(soc) + R0(soc) I + R1(soc) f1 + R2(soc) f2, where f1 and f2 are the current filtered by two time
constants. Given these two the rest is linear, so they alone are searched (variable projection: Golub and Pereyra 1973,
from memory) and the curves follow by least squares, piecewise linear on knots, resistances held at or above 0.

What a fit is worth is told by what it has not seen: each 10 % of the state of charge is left out in turn (its pulses,
discharge and rests; the one charge before them may stay) and predicted from the others. Errors are given by sample and
by time, since a tester writes pulses ten times a second and rests once a minute. An OCV curve with one constant
resistance stands beside them as the baseline.

A hysteresis state can be asked for and is off: on the 24 kWh cell's recording it leaves the error in sample as it is
and raises it on what was left out, because a single charge curve does not identify it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear, minimize

from drivers.errors import ConfigError
from twins.replay.dialects import LogError

from .compiled import compiled
from .parameters import ResistanceParameters

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

COLUMNS = ("Time(s)", "Current(A)", "Voltage(V)")
LEVELS = 10
JUDGED_FROM_SOC = 0.1
"""Below, the knee of the open-circuit voltage cannot be interpolated: reported, not judged."""

_OCV_KNOTS = np.concatenate(
    ([0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1], np.linspace(0.15, 0.95, 17), [0.975, 1.0])
)
_KNOTS = {
    3: (0.0, 0.2, 1.0),
    4: (0.0, 0.1, 0.3, 1.0),
    5: (0.0, 0.1, 0.3, 0.65, 1.0),
    6: (0.0, 0.05, 0.15, 0.4, 0.7, 1.0),
}
_START_S = (60.0, 2000.0)
_TIME_CONSTANTS_S = ((1.5, 500.0), (100.0, 20_000.0))
_HYSTERESIS_RATE = 30.0  # per full charge moved; estimate
# Prior sizes of second derivatives over SOC: they fill what no row tells, and hardly move what one does.
_OCV_BEND_V = 5.0
_BEND_OHM = 0.05
_NOISE_V = 0.004


@dataclass(frozen=True, slots=True)
class HppcRecording:
    """One test of one cell: times in s (rising), currents in A (charging is positive), voltages in V; equal lengths."""

    time_s: Floats
    current_a: Floats
    voltage_v: Floats
    source: str = "arrays"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rms:
    """Root mean square of an error, in V: every sample alike, and every second alike."""

    by_sample_v: float
    by_time_v: float
    samples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LevelError:
    """The error on one tenth of the state of charge, predicted from a fit that saw none of its rows."""

    from_soc: float
    to_soc: float
    error: Rms
    baseline: Rms
    judged: bool


@dataclass(frozen=True, slots=True)
class Circuit:
    """The fitted cell: resistances in ohm of this cell at the temperature of the test, over `soc` (fractions)."""

    ocv_soc: Floats
    ocv_v: Floats
    soc: Floats
    series_ohm: Floats
    fast_ohm: Floats
    slow_ohm: Floats
    fast_s: float
    slow_s: float
    hysteresis_v: float = 0.0

    def resistance(
        self, *, series: int, parallel: int, like: ResistanceParameters | None = None, capacity_ratio: float = 1.0
    ) -> ResistanceParameters:
        """The resistances of a pack with `series` groups of `parallel` such cells.

        `capacity_ratio` is the capacity of the pack's cell over that of the tested one: resistance goes with its
        inverse (same stack, more area). Arrhenius energy and discharge factor are those of `like`: a test at one
        temperature does not tell the first, and the fit has one resistance for both directions. Raises ConfigError for
        a number that is not above 0.
        """
        if series < 1 or parallel < 1 or not capacity_ratio > 0:
            counts = f"{series} in series, {parallel} in parallel, capacity ratio {capacity_ratio:g}"
            raise ConfigError(f"a pack has groups and cells, all above 0, not {counts}")
        like = like or ResistanceParameters()
        scale = series / parallel / capacity_ratio

        def of_pack(ohm: Floats) -> tuple[float, ...]:
            return tuple(float(value) for value in np.maximum(ohm * scale, 1e-6))

        return ResistanceParameters(
            soc_percent=tuple(float(value) for value in self.soc * 100),
            series_ohm=of_pack(self.series_ohm),
            fast_ohm=of_pack(self.fast_ohm),
            slow_ohm=of_pack(self.slow_ohm),
            fast_s=self.fast_s,
            slow_s=self.slow_s,
            discharge_factor=like.discharge_factor,
            activation_j_per_mol=like.activation_j_per_mol,
        )


@dataclass(frozen=True, slots=True)
class HppcFit:
    """A circuit and what it is worth. `by_kind` splits the error in sample into charge, discharge, pulse and rest."""

    source: str
    circuit: Circuit
    capacity_ah: float
    samples: int
    duration_s: float
    in_sample: Rms
    baseline: Rms
    baseline_ohm: float
    by_kind: dict[str, Rms]
    levels: tuple[LevelError, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def judged(self) -> Rms:
        """All levels that are judged, together: the root of the mean over their samples and over their seconds."""
        return _pooled([level.error for level in self.levels if level.judged])

    @property
    def worst_judged(self) -> LevelError:
        """The judged level with the largest error by sample; raises ConfigError when no level was left out."""
        judged = [level for level in self.levels if level.judged]
        if not judged:
            raise ConfigError("no level was left out: fit with leave_out=True")
        return max(judged, key=lambda level: level.error.by_sample_v)


def read_hppc(path: Path) -> HppcRecording:
    """A tester's CSV with the columns `Time(s)`, `Current(A)` and `Voltage(V)`, others ignored.

    Raises LogError, with the line, for a missing column, a value that is no number, or a time that does not rise.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                there = ", ".join(header)[:200] or "none"
                raise LogError(path, 1, f"a pulse test needs the column {missing[0]}; there are {there}")
            places = [header.index(name) for name in COLUMNS]
            values = list(_values(path, rows, places))
    except OSError as error:
        raise LogError(path, None, f"cannot be read: {error.strerror}") from error
    if not values:
        raise LogError(path, None, "there are no rows below the header")
    time_s, current_a, voltage_v = np.array(values, dtype=np.float64).T.copy()
    return HppcRecording(time_s, current_a, voltage_v, str(path))


def fit_hppc(
    recording: HppcRecording | Path,
    *,
    knots: int | Sequence[float] = 6,
    capacity_ah: float | None = None,
    soc_at_start: float | None = None,
    hysteresis: bool = False,
    leave_out: bool = True,
    keep_charge: bool = True,
) -> HppcFit:
    """Fit OCV, R0 and two RC elements to one recording.

    `knots`: how many (3 to 6), or at which fractions of SOC, each resistance has a value; the OCV has 27 of its own.
    Without `capacity_ah` the test is taken to run from full to empty, as the procedure says, and the charge between is
    the capacity; otherwise `soc_at_start` places it. `leave_out` also predicts each tenth of the SOC from the others
    (some ten times the work). With `keep_charge` the long charge to full, which passes all tenths, is seen by each of
    these fits; without, all rows of a tenth are unseen, and the top and the bottom one are extrapolations.

    Raises LogError for a file and ConfigError for arrays that cannot be fitted.
    """
    if isinstance(recording, Path):
        recording = read_hppc(recording)
    recording = _checked(recording)
    places = _knots(knots)
    charge_ah = _charge_ah(recording)
    soc, capacity = _soc(charge_ah, capacity_ah, soc_at_start, recording.source)
    design = _Design(recording, soc, charge_ah / capacity, places, hysteresis)
    everything = np.ones(soc.size, dtype=np.bool_)
    circuit, model = design.fit(everything, _START_S)
    baseline_ohm, baseline = design.fit_baseline(everything)
    residual = recording.voltage_v - model
    kinds = _kinds(recording, design.steps)
    kept = kinds["charge"] & keep_charge
    levels = tuple(_left_out(design, recording, soc, kept, circuit)) if leave_out else ()
    seconds = design.seconds
    return HppcFit(
        source=recording.source,
        circuit=circuit,
        capacity_ah=capacity,
        samples=soc.size,
        duration_s=float(recording.time_s[-1] - recording.time_s[0]),
        in_sample=_rms(residual, seconds),
        baseline=_rms(recording.voltage_v - baseline, seconds),
        baseline_ohm=baseline_ohm,
        by_kind={kind: _rms(residual[rows], seconds[rows]) for kind, rows in kinds.items() if rows.any()},
        levels=levels,
        notes=recording.notes,
    )


def _values(path: Path, rows: Iterator[list[str]], places: Sequence[int]) -> Iterator[tuple[float, float, float]]:
    before = -math.inf
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            time_s, current_a, voltage_v = (float(row[place]) for place in places)
        except (ValueError, IndexError) as error:
            text = ",".join(row)[:60]
            raise LogError(path, line, f"time, current and voltage are numbers; the row is {text!r}") from error
        if not all(math.isfinite(value) for value in (time_s, current_a, voltage_v)):
            values = f"time {time_s:g} s, current {current_a:g} A, voltage {voltage_v:g} V"
            raise LogError(path, line, f"a value is not finite: {values}")
        if not time_s > before:
            raise LogError(path, line, f"time must rise: {time_s:g} s stands after {before:g} s")
        before = time_s
        yield time_s, current_a, voltage_v


def _checked(recording: HppcRecording) -> HppcRecording:
    """The recording with charging positive, or the reason why it cannot be fitted."""
    time_s, current_a, voltage_v = (
        np.asarray(values, dtype=np.float64) for values in (recording.time_s, recording.current_a, recording.voltage_v)
    )
    where = recording.source
    if not (time_s.ndim == 1 and time_s.shape == current_a.shape == voltage_v.shape):
        shapes = f"{time_s.shape}, {current_a.shape} and {voltage_v.shape}"
        raise ConfigError(f"{where}: time, current and voltage are of one length, not {shapes}")
    if time_s.size < 200:
        raise ConfigError(f"{where}: {time_s.size} rows are too few for a pulse test")
    for name, values in (("time_s", time_s), ("current_a", current_a), ("voltage_v", voltage_v)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ConfigError(f"{where}: {name} is not finite at row {bad[0]}")
    back = np.flatnonzero(np.diff(time_s) <= 0)
    if back.size:
        raise ConfigError(f"{where}: time_s must rise: row {back[0] + 1} does not")
    low, high = float(voltage_v.min()), float(voltage_v.max())
    if not 1.5 <= low < high <= 5.0:
        raise ConfigError(f"{where}: the voltage of one cell lies between 1.5 and 5 V, here {low:g} to {high:g} V")
    jumps = np.abs(np.diff(current_a)) > 0.2 * np.abs(current_a).max()
    if np.count_nonzero(jumps) < 4:
        raise ConfigError(f"{where}: there are no current pulses to tell a resistance from")
    notes = recording.notes
    if float(np.dot(np.diff(current_a)[jumps], np.diff(voltage_v)[jumps])) < 0:
        current_a = -current_a
        notes = (*notes, "the current of this recording is positive in discharge; it was turned")
    return HppcRecording(time_s, current_a, voltage_v, where, notes)


def _knots(knots: int | Sequence[float]) -> Floats:
    if isinstance(knots, int):
        if knots not in _KNOTS:
            raise ConfigError(f"knots is 3 to 6, or a list of fractions, not {knots}")
        return np.array(_KNOTS[knots])
    places = np.array(knots, dtype=np.float64)
    if places.size < 2 or places[0] != 0.0 or places[-1] != 1.0 or any(not b > a for a, b in pairwise(places)):
        raise ConfigError(f"knots rise from 0 to 1, not {list(knots)}")
    return places


def _steps(current_a: Floats) -> Flags:
    """Whether the current was set anew before a row; elsewhere it drifts, and a row's mean lies between two samples."""
    jump = np.abs(np.diff(current_a, prepend=0.0)) > 0.05 * np.abs(current_a).max()
    return np.asarray(jump, dtype=np.bool_)


def _mean_a(recording: HppcRecording) -> Floats:
    before = np.concatenate(([0.0], recording.current_a[:-1]))
    middle = 0.5 * (before + recording.current_a)
    return np.asarray(np.where(_steps(recording.current_a), recording.current_a, middle), dtype=np.float64)


def _seconds(time_s: Floats) -> Floats:
    """The interval before each row; the first row's is taken as long as the second's."""
    steps = np.diff(time_s)
    return np.concatenate((steps[:1], steps))


def _charge_ah(recording: HppcRecording) -> Floats:
    """Charge moved since the start; the tester's own counter restarts at each step and is rounded."""
    return np.asarray(np.cumsum(_mean_a(recording) * _seconds(recording.time_s)) / 3600, dtype=np.float64)


def _soc(charge_ah: Floats, capacity_ah: float | None, soc_at_start: float | None, where: str) -> tuple[Floats, float]:
    if capacity_ah is None:
        if soc_at_start is not None:
            raise ConfigError("soc_at_start goes with capacity_ah; without them the test runs from full to empty")
        least, most = float(charge_ah.min()), float(charge_ah.max())
        return (charge_ah - least) / (most - least), most - least
    if not capacity_ah > 0 or soc_at_start is None or not 0.0 <= soc_at_start <= 1.0:
        raise ConfigError(f"capacity_ah {capacity_ah:g} is above 0 and goes with a soc_at_start from 0 to 1")
    soc = soc_at_start + charge_ah / capacity_ah
    if soc.min() < -0.02 or soc.max() > 1.02:
        between = f"{soc.min():.2f} to {soc.max():.2f}"
        raise ConfigError(f"{where}: with {capacity_ah:g} Ah the current moves the state of charge from {between}")
    return np.clip(soc, 0.0, 1.0), capacity_ah


@compiled
def _filtered(current_a: Floats, seconds: Floats, constant_s: float, out: Floats) -> None:
    """The current through a low pass, exactly for a current that is constant over each interval."""
    state = 0.0
    for row in range(out.shape[0]):
        state = current_a[row] + (state - current_a[row]) * math.exp(-seconds[row] / constant_s)
        out[row] = state


@compiled
def _hysteresis(moved: Floats, rate: float, out: Floats) -> None:
    """State between -1 (discharged for long) and 1 (charged for long) over the charge moved, a fraction per row."""
    state = 0.0
    for row in range(out.shape[0]):
        step = moved[row]
        goal = 0.0
        if step > 0.0:
            goal = 1.0
        elif step < 0.0:
            goal = -1.0
        state = goal + (state - goal) * math.exp(-rate * abs(step))
        out[row] = state


@compiled
def _normal(columns: Places, values: Floats, volts: Floats, seen: Flags, normal: Floats, right: Floats) -> float:
    """Add the seen rows' products to `normal` and `right`; returns the sum of their squared voltages.

    A row of the design has a handful of entries, `values` at `columns`: two knots for each curve.
    """
    squares = 0.0
    for row in range(volts.shape[0]):
        if not seen[row]:
            continue
        squares += volts[row] * volts[row]
        for first in range(columns.shape[1]):
            at = columns[row, first]
            right[at] += values[row, first] * volts[row]
            for second in range(columns.shape[1]):
                normal[at, columns[row, second]] += values[row, first] * values[row, second]
    return squares


def _hats(soc: Floats, places: Floats) -> tuple[Places, Floats]:
    """The two knots about each sample and their weights in the piecewise linear basis; shapes (samples, 2)."""
    left = np.clip(np.searchsorted(places, soc, side="right") - 1, 0, places.size - 2)
    share = (soc - places[left]) / (places[left + 1] - places[left])
    return np.stack([left, left + 1], axis=1).astype(np.int64), np.stack([1 - share, share], axis=1)


def _bends(places: Floats, width: float) -> Floats:
    """Prior rows: the curve between knots is as smooth as a cubic spline, its second derivative of the size `width`."""
    spans = np.diff(places)
    rows = np.zeros((spans.size - 1, places.size))
    for row in range(rows.shape[0]):
        left, right = spans[row], spans[row + 1]
        rows[row, row : row + 3] = np.array([1 / left, -1 / left - 1 / right, 1 / right])
        rows[row] /= width * math.sqrt(0.5 * (left + right))
    return rows


class _Design:
    """The linear part of the fit: everything that does not depend on which rows are seen."""

    def __init__(self, recording: HppcRecording, soc: Floats, moved: Floats, places: Floats, hysteresis: bool) -> None:
        self.places = places
        self.seconds = _seconds(recording.time_s)
        self.steps = _steps(recording.current_a)
        self._volts = recording.voltage_v
        self._current = recording.current_a
        self._mean = _mean_a(recording)
        self._ocv_columns, self._ocv = _hats(soc, _OCV_KNOTS)
        columns, self._hats = _hats(soc, places)
        first = _OCV_KNOTS.size
        blocks = [self._ocv_columns, *(columns + first + curve * places.size for curve in range(3))]
        self._width = first + 3 * places.size
        self._extra = np.empty((soc.size, 0))
        if hysteresis:
            state = np.empty(soc.size)
            _hysteresis(np.diff(moved, prepend=0.0), _HYSTERESIS_RATE, state)
            self._extra = state[:, None]
            blocks.append(np.full((soc.size, 1), self._width))
            self._width += 1
        self._columns = np.hstack(blocks)
        self._prior = _prior(places, self._width)

    def fit(self, seen: Flags, start_s: tuple[float, float]) -> tuple[Circuit, Floats]:
        """The circuit from the rows that are seen, and the voltage it gives on all rows."""
        bounds = [(math.log(low), math.log(high)) for low, high in _TIME_CONSTANTS_S]
        found = minimize(
            lambda logs: self._solve(seen, np.exp(logs))[2],
            np.log(start_s),
            method="Nelder-Mead",
            bounds=bounds,
            options={"xatol": 0.01, "fatol": 1e-5, "maxfev": 120},
        )
        constants = np.exp(found.x)
        weights, values, _ = self._solve(seen, constants)
        first, knots = _OCV_KNOTS.size, self.places.size
        ocv, series, fast, slow, extra = np.split(weights, [first + count * knots for count in range(4)])
        circuit = Circuit(
            ocv_soc=_OCV_KNOTS,
            ocv_v=ocv,
            soc=self.places,
            series_ohm=series,
            fast_ohm=fast,
            slow_ohm=slow,
            fast_s=float(constants[0]),
            slow_s=float(constants[1]),
            hysteresis_v=float(extra[0]) if extra.size else 0.0,
        )
        return circuit, np.asarray(np.sum(values * weights[self._columns], axis=1), dtype=np.float64)

    def fit_baseline(self, seen: Flags) -> tuple[float, Floats]:
        """One constant resistance, in ohm, and the voltage with it on all rows."""
        width = _OCV_KNOTS.size + 1
        columns = np.hstack((self._ocv_columns, np.full((self._volts.size, 1), width - 1)))
        values = np.hstack((self._ocv, self._current[:, None]))
        weights, _ = self._least_squares(columns, values, seen, _prior(np.array([0.0, 1.0]), width))
        return float(weights[-1]), np.asarray(np.sum(values * weights[columns], axis=1), dtype=np.float64)

    def _solve(self, seen: Flags, constants_s: Floats) -> tuple[Floats, Floats, float]:
        blocks = [self._ocv, self._hats * self._current[:, None]]
        for constant_s in constants_s:
            current = np.empty_like(self._mean)
            _filtered(self._mean, self.seconds, float(constant_s), current)
            blocks.append(self._hats * current[:, None])
        values = np.hstack([*blocks, self._extra])
        weights, loss = self._least_squares(self._columns, values, seen, self._prior)
        return weights, values, loss

    def _least_squares(self, columns: Places, values: Floats, seen: Flags, prior: Floats) -> tuple[Floats, float]:
        """Least squares with a prior, no value below 0; the weights and the mean squared misfit, noise as unit."""
        normal, right = np.zeros(prior.shape), np.zeros(prior.shape[0])
        squares = _normal(columns, values, self._volts, seen, normal, right) / _NOISE_V**2
        normal = normal / _NOISE_V**2 + prior
        right /= _NOISE_V**2
        weights = np.asarray(np.linalg.solve(normal, right), dtype=np.float64)
        bounded = _OCV_KNOTS.size + 3 * self.places.size  # a hysteresis may have either sign
        if weights[:bounded].min() < 0.0:
            upper = np.linalg.cholesky(normal).T
            lower = np.full(weights.size, -np.inf)
            lower[:bounded] = 0.0
            found = lsq_linear(upper, np.linalg.solve(upper.T, right), bounds=(lower, np.inf), method="bvls")
            weights = np.asarray(found.x, dtype=np.float64)
        loss = squares - 2 * weights @ right + weights @ normal @ weights
        return weights, float(loss) / int(np.count_nonzero(seen))


def _prior(places: Floats, width: int) -> Floats:
    """Normal matrix of the smoothness: of the OCV, then of the three resistances over `places`; `width` square."""
    normal = np.zeros((width, width))
    first = 0
    for knots, size in ((_OCV_KNOTS, _OCV_BEND_V), *(((places, _BEND_OHM),) * 3)):
        if first + knots.size <= width and knots.size > 2:
            rows = _bends(knots, size)
            normal[first : first + knots.size, first : first + knots.size] = rows.T @ rows
        first += knots.size
    return normal


def _left_out(
    design: _Design, recording: HppcRecording, soc: Floats, kept: Flags, circuit: Circuit
) -> Iterator[LevelError]:
    for level in range(LEVELS):
        low, high = level / LEVELS, (level + 1) / LEVELS
        unseen = ~kept & (soc >= low) & ((soc < high) | (level == LEVELS - 1))
        if not unseen.any():
            continue
        _, model = design.fit(~unseen, (circuit.fast_s, circuit.slow_s))
        _, baseline = design.fit_baseline(~unseen)
        seconds = design.seconds[unseen]
        yield LevelError(
            from_soc=low,
            to_soc=high,
            error=_rms((recording.voltage_v - model)[unseen], seconds),
            baseline=_rms((recording.voltage_v - baseline)[unseen], seconds),
            judged=low >= JUDGED_FROM_SOC - 1e-9,
        )


def _kinds(recording: HppcRecording, steps: Flags) -> dict[str, Flags]:
    """Rows by what the cell does: a run of current under 100 s is a pulse, a longer one a charge or a discharge."""
    current = recording.current_a
    run = np.cumsum(steps)
    ends = np.concatenate((np.flatnonzero(np.diff(run)), [run.size - 1]))
    starts = np.concatenate(([0], ends[:-1] + 1))
    resting = np.abs(current) < 0.02 * np.abs(current).max()
    kinds = {kind: np.zeros(run.size, dtype=np.bool_) for kind in ("charge", "discharge", "pulse", "rest")}
    for start, end in zip(starts, ends, strict=True):
        if resting[start]:
            kind = "rest"
        elif recording.time_s[end] - recording.time_s[start] < 100:
            kind = "pulse"
        else:
            kind = "charge" if current[start] > 0 else "discharge"
        kinds[kind][start : end + 1] = True
    return kinds


def _rms(error_v: ArrayLike, seconds: Floats) -> Rms:
    error = np.asarray(error_v, dtype=np.float64)
    return Rms(
        by_sample_v=float(np.sqrt(np.mean(error**2))),
        by_time_v=float(np.sqrt(np.average(error**2, weights=seconds))),
        samples=error.size,
        seconds=float(seconds.sum()),
    )


def _pooled(parts: Sequence[Rms]) -> Rms:
    if not parts:
        raise ConfigError("no level was left out: fit with leave_out=True")
    samples = sum(part.samples for part in parts)
    by_sample = math.sqrt(sum(part.by_sample_v**2 * part.samples for part in parts) / samples)
    seconds = sum(part.seconds for part in parts)
    by_time = math.sqrt(sum(part.by_time_v**2 * part.seconds for part in parts) / seconds)
    return Rms(by_sample, by_time, samples, seconds)
