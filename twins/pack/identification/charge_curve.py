"""State of health from the shape of a charge: where dV/dQ bends, against where it bends on the pack's own curve.

While a steady current charges, the slope of voltage over charge is that of the open-circuit curve over its state of
charge, divided by the capacity; a wrong zero of voltage drops out of it, and what the pack's resistances add is taken
off. So the distance between two bends in ampere-hours, over their distance on the curve, is the capacity, and no full
charge is needed. All of the slope is used, not only the bends: a fit of capacity and first state of charge, with the
curve's own error (modes of `priors`) and a wrong change of resistance on the way as correlated noise. The bends are
told for the eye.

The slope is taken over 2.5 % of capacity; a segment must charge 15 % of it at a current within 15 % of its median, and
six slopes must be left where the polarisation has settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twins.pack.identification.fit import reported_soh
from twins.pack.identification.forward import (
    FREE,
    O_SOC,
    O_VOLTAGE,
    OUT_COLUMNS,
    T_FAST,
    T_OCV,
    T_SERIES,
    T_SLOW,
    grid,
    model_of,
    rows_of,
    simulate,
)
from twins.pack.identification.priors import IDENTIFIED_BELOW, ocv_modes
from twins.pack.identification.series import Floats, Series
from twins.pack.parameters import PackParameters

LEAST_SPAN: Final = 0.15
_STEADY: Final = 0.15
_LEAST_C_RATE: Final = 0.05
_PIECE: Final = 0.025  # of capacity, over which a slope is taken
_LEAST_PIECES: Final = 6
_CAPACITY_SD: Final = 0.2  # logarithm
_SOC_SD: Final = 0.05
_OHMIC_SLOPE: Final = 0.3  # error of the change of resistance over the whole state of charge, as a share of it all
_OCV_LENGTH: Final = 0.08
_OCV_SD_V: Final = 0.014
"""Shorter and larger than for voltages: a slope sees the finer errors of a curve. Of 120 synthetic charges at 6.6 kW
whose curve was wrong by 10 mV, 104 lie within the 90 % interval; of 40 rapid ones 38."""
_LEAST_NOISE_V: Final = 0.02


@dataclass(frozen=True, slots=True)
class ChargeCurve:
    """A steady charge: its capacity and SOH with standard deviations, and its bends.

    `soc` (m,) middles of the pieces by the fit, `slope_v` and `curve_slope_v` (m,) pack volts per full charge, measured
    and of the pack's curve; `bends` are the states of charge where the measured slope is largest or smallest locally,
    each with the nearest such place on the curve.
    """

    name: str
    begin_s: float
    end_s: float
    current_a: float
    capacity_ah: float
    capacity_sd_ah: float
    soh: float
    soh_sd: float
    identified: bool
    soc: Floats
    slope_v: Floats
    curve_slope_v: Floats
    bends: tuple[tuple[float, float], ...]


def charge_curves(logs: Sequence[Series], pack: PackParameters) -> tuple[ChargeCurve, ...]:
    """Each steady charge that is long enough, in order; none where no log has one."""
    found = []
    for series in logs:
        for first, last in _steady_charges(series, pack.capacity_ah):
            curve = _fitted(series, first, last, pack)
            if curve is not None:
                found.append(curve)
    return tuple(found)


def _steady_charges(series: Series, capacity_ah: float) -> list[tuple[int, int]]:
    """First and last row of runs with a steady charging current, without gaps."""
    found: list[tuple[int, int]] = []
    first = 0
    for place in range(1, series.rows + 1):
        run = series.current_a[first:place]
        median = float(np.median(run))
        steady = (
            place < series.rows
            and not series.gap[place]
            and series.current_a[place] > _LEAST_C_RATE * capacity_ah
            and (place - first < 5 or abs(series.current_a[place] - median) <= _STEADY * median)
        )
        if not steady:
            moved_ah = float(
                np.sum(series.interval_a[first + 1 : place] * np.diff(series.time_s[first:place])) / 3600.0
            )
            if moved_ah >= LEAST_SPAN * capacity_ah and place - first >= 20:
                found.append((first, place - 1))
            first = place
    return found


def _fitted(series: Series, first: int, last: int, pack: PackParameters) -> ChargeCurve | None:
    rows = slice(first, last + 1)
    steps = np.diff(series.time_s[rows], prepend=series.time_s[first])
    charge_ah = np.cumsum(np.concatenate(([0.0], series.interval_a[first + 1 : last + 1])) * steps) / 3600.0
    current_a = series.current_a[rows]
    prior_soh = reported_soh([series], pack) or 1.0
    voltage_v = series.voltage_v[rows] - _polarisation(series, pack, prior_soh)[rows]
    prior_ah = pack.capacity_ah * prior_soh
    pieces = int(charge_ah[-1] / (_PIECE * prior_ah))
    if pieces < _LEAST_PIECES:
        return None
    edges = np.linspace(0.0, charge_ah[-1], pieces + 1)
    level = _levels(charge_ah, voltage_v, edges)
    width = edges[1] - edges[0]
    middles = edges[1:-1]  # a level is the mean of a piece, a slope the difference of two neighbours
    slope = np.diff(level) / width  # V/Ah
    model = model_of(pack, soh=prior_soh)
    median_a = float(np.median(current_a))
    total_ohm = float(
        np.interp(0.5, grid(), model.table[:, T_SERIES] + model.table[:, T_FAST] + model.table[:, T_SLOW])
    )
    # the first pieces hold the rise of the slow polarisation
    settled = middles * 3600.0 / median_a > 2.0 * pack.resistance.slow_s
    if settled.sum() < _LEAST_PIECES:
        settled = middles * 3600.0 / median_a > 5.0 * pack.resistance.fast_s
    middles, slope = middles[settled], slope[settled]
    if middles.size < _LEAST_PIECES:
        return None
    start_soc = float(series.soc[first])
    if np.isnan(start_soc):
        start_soc = float(np.interp(voltage_v[0], model.table[:, T_OCV], grid()))
    logged_v = series.voltage_v[rows]
    noise_v = max(_LEAST_NOISE_V, float(np.std(np.diff(logged_v))) / np.sqrt(2.0), _step_of(logged_v) / np.sqrt(12.0))
    rows_per_piece = max(1.0, charge_ah.size / pieces * min(1.0, _changes(logged_v)))
    noise = noise_v * np.sqrt(2.0 / rows_per_piece) / width
    numbers, covariance = _solve(
        slope,
        middles,
        width,
        noise,
        prior_ah,
        start_soc,
        model.table[:, T_OCV],
        pack.groups_in_series,
        total_ohm * median_a * _OHMIC_SLOPE,
    )
    capacity_ah = prior_ah * float(np.exp(numbers[0]))
    sd = float(np.sqrt(covariance[0, 0]))
    soc = start_soc + numbers[1] + middles / capacity_ah
    slope_per_soc = slope * capacity_ah
    curve_slope = _curve_slope(model.table[:, T_OCV], soc, width / capacity_ah)
    return ChargeCurve(
        name=series.name,
        begin_s=float(series.time_s[first]),
        end_s=float(series.time_s[last]),
        current_a=median_a,
        capacity_ah=capacity_ah,
        capacity_sd_ah=capacity_ah * sd,
        soh=capacity_ah / pack.capacity_ah,
        soh_sd=capacity_ah * sd / pack.capacity_ah,
        identified=sd <= IDENTIFIED_BELOW * _CAPACITY_SD,
        soc=soc,
        slope_v=slope_per_soc,
        curve_slope_v=curve_slope,
        bends=_bends(soc, slope_per_soc, curve_slope),
    )


def _polarisation(series: Series, pack: PackParameters, soh: float) -> Floats:
    """(n,) V: what the pack's resistances add to the open-circuit voltage, which changes as it warms up."""
    model = model_of(pack, soh=soh, soc_is_input=series.driven_by == "reported SOC")
    out = np.empty((series.rows, OUT_COLUMNS))
    simulate(rows_of(series), np.zeros(FREE), model.constants, model.table, out)
    rest_v = np.interp(out[:, O_SOC], grid(), model.table[:, T_OCV])
    return np.asarray(out[:, O_VOLTAGE] - rest_v, dtype=np.float64)


def _solve(
    slope: Floats,
    middles_ah: Floats,
    width_ah: float,
    noise: float,
    prior_ah: float,
    start_soc: float,
    curve_v: Floats,
    groups: int,
    ohmic_v: float,
) -> tuple[Floats, Floats]:
    """Gauss-Newton for (ln capacity, first state of charge), with the curve's error as covariance of the slopes."""
    modes = groups * ocv_modes(_OCV_SD_V, length=_OCV_LENGTH)
    numbers = np.zeros(2)
    prior = np.diag([_CAPACITY_SD**-2, _SOC_SD**-2])
    covariance = np.linalg.inv(prior)

    def modelled(at: Floats) -> Floats:
        capacity_ah = prior_ah * float(np.exp(at[0]))
        slope = _curve_slope(curve_v, start_soc + at[1] + middles_ah / capacity_ah, width_ah / capacity_ah)
        return np.asarray(slope / capacity_ah, dtype=np.float64)

    for _ in range(20):
        capacity_ah = prior_ah * float(np.exp(numbers[0]))
        soc = start_soc + numbers[1] + middles_ah / capacity_ah
        error = np.column_stack([_curve_slope(mode, soc, width_ah / capacity_ah) for mode in modes.T]) / capacity_ah
        count = middles_ah.size
        # neighbouring slopes share a level, with opposite signs
        white = noise**2 * (np.eye(count) - 0.5 * (np.eye(count, k=1) + np.eye(count, k=-1)))
        spread = white + error @ error.T + (ohmic_v / capacity_ah) ** 2 + 1e-12 * np.eye(count)
        base = modelled(numbers)
        slopes = np.column_stack([(modelled(numbers + step) - base) / 1e-4 for step in 1e-4 * np.eye(2)])
        weighted = np.linalg.solve(spread, np.column_stack((slopes, slope - base)))
        information = prior + slopes.T @ weighted[:, :2]
        covariance = np.linalg.inv(information)
        step = covariance @ (slopes.T @ weighted[:, 2] - prior @ numbers)
        step = np.clip(step, -0.05, 0.05)
        numbers = numbers + step
        if float(np.abs(step).max()) < 1e-5:
            break
    return numbers, covariance


def _curve_slope(curve: Floats, soc: Floats, width: float) -> Floats:
    """Mean slope of a curve on the grid, as the difference of its means over two neighbouring pieces of `width`."""
    integral = np.concatenate(([0.0], np.cumsum(0.5 * (curve[1:] + curve[:-1])))) * (grid()[1] - grid()[0])

    def mean(begin: Floats) -> Floats:
        return np.asarray((np.interp(begin + width, grid(), integral) - np.interp(begin, grid(), integral)) / width)

    return np.asarray((mean(soc) - mean(soc - width)) / width, dtype=np.float64)


def _levels(charge_ah: Floats, voltage_v: Floats, edges: Floats) -> Floats:
    """Mean voltage over charge within each piece."""
    integral = np.concatenate(([0.0], np.cumsum(0.5 * (voltage_v[1:] + voltage_v[:-1]) * np.diff(charge_ah))))
    return np.asarray(np.diff(np.interp(edges, charge_ah, integral)) / np.diff(edges), dtype=np.float64)


def _step_of(values: Floats) -> float:
    """The resolution of rounded values."""
    steps = np.abs(np.diff(values))
    return float(steps[steps > 1e-9].min()) if (steps > 1e-9).any() else 0.0


def _changes(values: Floats) -> float:
    """Share of rows in which a rounded value changes."""
    return float(np.mean(np.abs(np.diff(values)) > 1e-9))


def _bends(soc: Floats, measured: Floats, curve: Floats) -> tuple[tuple[float, float], ...]:
    """Local extremes of the measured slope, each with the nearest of the curve's of the same kind."""

    def extremes(values: Floats, sign: float) -> Floats:
        smooth = np.convolve(np.pad(sign * values, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
        inner = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:])
        return np.asarray(soc[1:-1][inner], dtype=np.float64)

    found: list[tuple[float, float]] = []
    for sign in (1.0, -1.0):
        theirs, ours = extremes(curve, sign), extremes(measured, sign)
        for place in ours:
            if theirs.size:
                nearest = float(theirs[np.argmin(np.abs(theirs - place))])
                if abs(nearest - place) <= 2.0 * _PIECE + 0.02:
                    found.append((float(place), nearest))
    return tuple(sorted(found))
