"""Capacity from the shape of a slow charge: voltage over charge, its slope dV/dQ, and what they tell of a part charge.

Lost lithium shifts the two half-cell curves against each other, so the voltage of an aged cell bends elsewhere than a
new one's. `capacity_from_charge_segment` fits that shift to the voltage over the charge moved, with the start of the
segment and a constant overvoltage unknown, and an open-circuit curve that is itself wrong by a smooth error of some
millivolts. Without that last part the stated uncertainty would be several times too small.

A popular measure of health is the distance, in charge, between two inflection points of the voltage, where dV/dQ has an
extremum; both are reported here, found on the smoothed slope. They carry less than the whole curve and say nothing of
their own uncertainty, so the estimate is not made from them.

A segment that is too short or too flat narrows the estimate to no less than half of what was believed before; then the
result says that capacity is not identified.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import least_squares
from scipy.signal import find_peaks, savgol_filter

from drivers.errors import ConfigError

from .cell import HalfCells, fill_curve, half_cells
from .parameters import CellParameters

Floats = NDArray[np.float64]

_GRID = 96
_CURVE_POINTS = 1025
# Believed before: lost lithium, lost anode, lost cathode (fractions of new), SOC at the start, overvoltage in V; means
# and standard deviations. Estimates: packs of vans after 3 to 8 years lie 2 to 17 % below new (public captures).
_MEAN = np.array([0.10, 0.03, 0.03, 0.5, 0.0])
_SD = np.array([0.08, 0.02, 0.02, 0.5, 0.02])
_LEAST = np.array([0.0, 0.0, 0.0, 0.0, -0.2])
_MOST = np.array([0.7, 0.4, 0.4, 1.0, 0.2])
_STEP = 1e-3
_OCV_REACH = 0.08  # length over which the error of the open-circuit curve stays alike, in new capacities; estimate
_PROMINENCE = 0.08  # of the range of dV/dQ
_NOISE_STEPS = 4.0  # standard deviations of dV/dQ


@dataclass(frozen=True, slots=True)
class SegmentCapacity:
    """What a charge segment says; `sd_ah` is one standard deviation after it, `prior_sd_ah` one before it.

    `inflections_ah` are the charges since the segment's start where dV/dQ has an extremum; `distance_ah` is from the
    first to the last, `distance_when_new_ah` that of a new cell over the same voltages; None where there are no two.
    """

    capacity_ah: float
    sd_ah: float
    prior_sd_ah: float
    identified: bool
    reason: str
    inventory_loss: float
    from_soc: float
    to_soc: float
    overvoltage_v: float
    residual_v: float
    inflections_ah: tuple[float, ...]
    distance_ah: float | None
    distance_when_new_ah: float | None


def differential_voltage(
    charge_ah: ArrayLike, volts: ArrayLike, *, points: int = _GRID
) -> tuple[Floats, Floats, Floats]:
    """Charge in Ah, smoothed voltage in V and its slope dV/dQ in V/Ah, each on `points` uniform charges.

    `charge_ah` rises; samples that fall between two grid charges are averaged, so that the steps of a coarse converter
    do not become spikes. The slope is that of a quadratic through a fifth of the range (Savitzky and Golay 1964).
    Raises ConfigError for series that are not of one length, finite and rising in charge.
    """
    charge, voltage = _checked(charge_ah, volts)
    grid, means = _resampled(charge, voltage, points)
    window = _window(points)
    step = float(grid[1] - grid[0])
    smooth = savgol_filter(means, window, 2)
    slope = savgol_filter(means, window, 2, deriv=1, delta=step)
    return grid, np.asarray(smooth, dtype=np.float64), np.asarray(slope, dtype=np.float64)


def inflections_ah(charge_ah: ArrayLike, volts: ArrayLike) -> tuple[float, ...]:
    """Charges, in Ah, at the inflection points of the voltage: extrema of dV/dQ.

    Only such as stand out by 8 % of its range and by four standard deviations of its noise, judged by what the
    smoothing took away. Raises ConfigError as `differential_voltage` does.
    """
    grid, smooth, slope = differential_voltage(charge_ah, volts)
    _, means = _resampled(*_checked(charge_ah, volts), _GRID)
    half = _window(_GRID) // 2
    noise = float(np.std(means - smooth)) / (float(grid[1] - grid[0]) * np.sqrt(half * (half + 1) * (2 * half + 1) / 3))
    inner = slice(_GRID // 24, -(_GRID // 24))
    charge, curve = grid[inner], slope[inner]
    least = max(_PROMINENCE * float(np.ptp(curve)), _NOISE_STEPS * noise, 1e-9)
    places = [place for sign in (1.0, -1.0) for place in find_peaks(sign * curve, prominence=least)[0]]
    return tuple(sorted(float(charge[place]) for place in places))


def capacity_from_charge_segment(
    charge_ah: ArrayLike,
    volts: ArrayLike,
    cell: CellParameters,
    *,
    new_capacity_ah: float,
    noise_v: float = 0.0015,
    ocv_error_v: float = 0.005,
) -> SegmentCapacity:
    """Capacity, in Ah, from a slow charge: `charge_ah` moved into the pack (rising) and the mean `volts` of one group.

    `noise_v` is the standard deviation of one averaged voltage (a pack voltage in steps of 0.5 V over 96 groups gives
    0.0015 V), `ocv_error_v` that of the smooth error of the open-circuit curve. The charge is slow enough for one
    constant overvoltage; rows of another current are for the caller to leave out. The posterior is Gaussian about the
    best fit.
    Raises ConfigError for series that cannot be used: too few, not finite, not rising, not of one group.
    """
    if not (new_capacity_ah > 0 and noise_v > 0 and ocv_error_v >= 0):
        raise ConfigError(f"new_capacity_ah {new_capacity_ah:g} and noise_v {noise_v:g} are above 0")
    charge, voltage = _checked(charge_ah, volts)
    moved, means = _resampled(charge, voltage, _GRID)
    moved = (moved - charge[0]) / new_capacity_ah
    model = _Segment(half_cells(cell), moved)
    whiten = _whitening(moved, noise_v, ocv_error_v)

    def misfit(values: Floats) -> Floats:
        return np.concatenate((whiten @ (model.volts(values) - means), (values - _MEAN) / _SD))

    def jacobian(values: Floats) -> Floats:
        columns = [whiten @ column for column in model.gradient(values)]
        return np.vstack((np.stack(columns, axis=1), np.diag(1 / _SD)))

    starts = [model.start(means, _MEAN), model.start(means, 0.1 * _MEAN)]
    fits = [
        least_squares(misfit, start, jac=jacobian, bounds=(_LEAST, _MOST), x_scale=_SD, xtol=1e-8) for start in starts
    ]
    best = min(fits, key=lambda fit: float(fit.cost))
    values = np.asarray(best.x, dtype=np.float64)
    posterior = np.linalg.inv(best.jac.T @ best.jac)
    gradient = model.ratio_gradient(values)
    sd = float(np.sqrt(gradient @ posterior @ gradient))
    before = model.ratio_gradient(_MEAN)
    prior_sd = float(np.sqrt(before @ np.diag(_SD**2) @ before))
    ratio = model.ratio(values)
    residual = float(np.sqrt(np.mean((model.volts(values) - means) ** 2)))
    bends = inflections_ah(charge - charge[0], voltage)
    identified, reason = _verdict(sd, prior_sd, residual, 3 * float(np.hypot(noise_v, ocv_error_v)))
    return SegmentCapacity(
        capacity_ah=ratio * new_capacity_ah,
        sd_ah=sd * new_capacity_ah,
        prior_sd_ah=prior_sd * new_capacity_ah,
        identified=identified,
        reason=reason,
        inventory_loss=float(values[0]),
        from_soc=float(values[3]),
        to_soc=float(values[3] + moved[-1] / ratio),
        overvoltage_v=float(values[4]),
        residual_v=residual,
        inflections_ah=bends,
        distance_ah=bends[-1] - bends[0] if len(bends) > 1 else None,
        distance_when_new_ah=_distance_when_new(model, means - values[4], new_capacity_ah),
    )


def _checked(charge_ah: ArrayLike, volts: ArrayLike) -> tuple[Floats, Floats]:
    charge, voltage = np.asarray(charge_ah, dtype=np.float64), np.asarray(volts, dtype=np.float64)
    if charge.ndim != 1 or charge.shape != voltage.shape or charge.size < 20:
        raise ConfigError(
            f"a charge segment has 20 rows or more of charge and voltage, not {charge.size}/{voltage.size}"
        )
    if not (np.isfinite(charge).all() and np.isfinite(voltage).all()):
        raise ConfigError("charge and voltage of a segment are finite")
    back = np.flatnonzero(np.diff(charge) < 0)
    if back.size or charge[-1] <= charge[0]:
        raise ConfigError(f"the charge of a segment rises; row {back[0] + 1 if back.size else 1} does not")
    if voltage.min() < 2.0 or voltage.max() > 4.6:
        raise ConfigError(f"volts is of one group, 2.0 to 4.6 V, not {voltage.min():g} to {voltage.max():g} V")
    return charge, voltage


def _resampled(charge: Floats, volts: Floats, points: int) -> tuple[Floats, Floats]:
    """Mean voltage about each of `points` uniform charges; interpolated where no sample lies about one."""
    edges = np.linspace(charge[0], charge[-1], points + 1)
    bins = np.clip(np.searchsorted(edges, charge, side="right") - 1, 0, points - 1)
    counts = np.bincount(bins, minlength=points)
    grid = 0.5 * (edges[:-1] + edges[1:])
    filled = counts > 0
    sums_v = np.bincount(bins, weights=volts, minlength=points)[filled]
    sums_ah = np.bincount(bins, weights=charge, minlength=points)[filled]
    means = np.interp(grid, sums_ah / counts[filled], sums_v / counts[filled])
    return grid, np.asarray(means, dtype=np.float64)


def _window(points: int) -> int:
    return max(points // 5, 5) | 1


def _whitening(moved: Floats, noise_v: float, ocv_error_v: float) -> Floats:
    apart = moved[:, None] - moved[None, :]
    covariance = ocv_error_v**2 * np.exp(-0.5 * (apart / _OCV_REACH) ** 2) + noise_v**2 * np.eye(moved.size)
    lower = cholesky(covariance, lower=True)
    return np.asarray(solve_triangular(lower, np.eye(moved.size), lower=True), dtype=np.float64)


def _verdict(sd: float, prior_sd: float, residual: float, most: float) -> tuple[bool, str]:
    if residual > most:
        return (
            False,
            f"the voltage departs from any aged curve by {residual * 1000:.0f} mV: not a slow charge of this cell?",
        )
    if sd > 0.5 * prior_sd:
        return (
            False,
            f"not identified: the segment is too short or too flat (sd {sd:.3f} of new, {prior_sd:.3f} before)",
        )
    return True, ""


def _distance_when_new(model: _Segment, rest_v: Floats, new_capacity_ah: float) -> float | None:
    soc, volts = model.new_curve
    inside = (volts >= rest_v.min()) & (volts <= rest_v.max())
    if np.count_nonzero(inside) < _GRID:
        return None
    bends = inflections_ah(soc[inside] * new_capacity_ah, volts[inside])
    return bends[-1] - bends[0] if len(bends) > 1 else None


class _Segment:
    """The model: voltage over the charge moved, for five values in the order of `_MEAN`."""

    def __init__(self, halves: HalfCells, moved: Floats) -> None:
        self._halves = halves
        self._moved = moved
        self._soc = np.linspace(0.0, 1.0, _CURVE_POINTS)

    @property
    def new_curve(self) -> tuple[Floats, Floats]:
        """SOC and voltage of the new cell."""
        return self._soc, self._curve(np.zeros(5))[1]

    def ratio(self, values: Floats) -> float:
        """Capacity over new."""
        return self._curve(values)[0]

    def ratio_gradient(self, values: Floats) -> Floats:
        """Derivatives of the capacity ratio, by central differences where the bounds permit."""
        gradient = np.zeros(values.size)
        for place in range(3):
            up, down = values.copy(), values.copy()
            up[place] += 1e-4
            down[place] = max(down[place] - 1e-4, 0.0)
            gradient[place] = (self.ratio(up) - self.ratio(down)) / (up[place] - down[place])
        return gradient

    def volts(self, values: Floats) -> Floats:
        """Voltage at the charges moved."""
        ratio, curve = self._curve(values)
        soc = values[3] + self._moved / ratio
        over = np.maximum(soc - 1.0, 0.0) * (curve[-1] - curve[-2]) * (_CURVE_POINTS - 1)  # no flat end to rest on
        return np.asarray(np.interp(soc, self._soc, curve) + over + values[4], dtype=np.float64)

    def gradient(self, values: Floats) -> list[Floats]:
        """Derivatives of the voltages by each value, over steps that the tables' interpolation does not see."""
        here, columns = self.volts(values), []
        for place in range(values.size):
            moved = values.copy()
            moved[place] += _STEP if values[place] + _STEP <= _MOST[place] else -_STEP
            columns.append((self.volts(moved) - here) / (moved[place] - values[place]))
        return columns

    def start(self, means: Floats, values: Floats) -> Floats:
        """The same values with the SOC at which their curve passes the first voltage."""
        start = values.copy()
        start[3] = np.clip(np.interp(means[0], self._curve(values)[1], self._soc), 0.001, 0.999)
        return start

    def _curve(self, values: Floats) -> tuple[float, Floats]:
        curve = np.empty(_CURVE_POINTS)
        halves = self._halves
        lli, lam_anode, lam_cathode = (float(value) for value in values[:3])
        ratio = fill_curve(halves.anode_v, halves.cathode_v, halves.geometry, lli, lam_anode, lam_cathode, curve)
        return ratio, curve
