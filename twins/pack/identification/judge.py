"""How well a fitted pack predicts a log, next to baselines that know less.

Voltage: the pack against one with the same curve and no resistance at all, fitted to the logs that the pack was fitted
to. Temperature: begun anew behind each gap, and open loop over the whole log; an hour ahead against persistence (it
stays what it is); and the rise across each gap, within which mostly a rapid charge was not logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from twins.pack.identification import forward as model
from twins.pack.identification.fit import curve_soc
from twins.pack.identification.forward import grid, model_of, rows_of, simulate
from twins.pack.identification.result import Fit
from twins.pack.identification.series import Floats, Series

_AHEAD_S: Final = 3600.0
_AHEAD_AT_MOST_S: Final = 5400.0
_FORECASTS: Final = 200
_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class GapRise:
    """Temperature across an interval without rows: measured and predicted, K; mean current in A, + charges."""

    begin_s: float
    length_s: float
    mean_current_a: float
    measured_k: float
    predicted_k: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Errors of one log; None where the log has nothing to judge by. Percent are of the mean pack voltage."""

    name: str
    rows: int
    voltage_rmse_v: float
    voltage_rmse_percent: float
    voltage_bias_v: float
    voltage_worst_minute_v: float
    ocv_only_rmse_v: float
    temperature_rmse_k: float | None  # begun anew behind gaps
    temperature_open_loop_k: float | None
    hour_ahead_rmse_k: float | None
    hour_persistence_rmse_k: float | None
    gaps: tuple[GapRise, ...]
    voltage_v: Floats  # (n,) modelled
    temperature_c: Floats  # (n,) modelled, begun anew behind gaps
    open_loop_c: Floats  # (n,) modelled, begun once

    @property
    def voltage_ratio(self) -> float:
        """Voltage error over that of the curve alone."""
        return self.voltage_rmse_v / self.ocv_only_rmse_v


def judge(fit: Fit, series: Series, *, own: int | None = None) -> Judgement:
    """Predict `series` with what `fit` found and compare.

    `own` is its place among the logs of the fit, if it is one of them: then its fitted start values are used.
    """
    pack_model = model_of(fit.base, soh=fit.soh, soc_is_input=series.driven_by == "reported SOC").with_ocv(fit.ocv_v)
    free = fit.free.copy()
    free[model.P_SOC :] = 0.0
    rows = rows_of(series)
    out = np.empty((series.rows, model.OUT_COLUMNS))
    simulate(rows, free, pack_model.constants, pack_model.table, out)
    voltage, temperature, soc = (
        out[:, column].copy() for column in (model.O_VOLTAGE, model.O_TEMPERATURE, model.O_SOC)
    )
    if own is not None:
        log = fit.logs[own]
        voltage, temperature, soc = log.voltage_v, log.temperature_c, log.soc
    once = rows.copy()
    once[:, model.R_RESTART] = 0.0
    simulate(once, free, pack_model.constants, pack_model.table, out)
    open_loop = out[:, model.O_TEMPERATURE].copy()
    error = voltage - series.voltage_v
    baseline_soc = curve_soc(series, soc)
    plain = model_of(fit.base, soh=fit.soh).with_ocv(fit.ocv_only_v)
    baseline = np.interp(baseline_soc, grid(), plain.table[:, model.T_OCV]) - series.voltage_v
    measured = series.temperature_c
    inside = ~np.isnan(measured) & ~series.gap
    hour, persistence = _hour_ahead(rows, free, pack_model.constants, pack_model.table, series)
    return Judgement(
        name=series.name,
        rows=series.rows,
        voltage_rmse_v=_rms(error),
        voltage_rmse_percent=100.0 * _rms(error) / float(np.mean(series.voltage_v)),
        voltage_bias_v=float(np.mean(error)),
        voltage_worst_minute_v=_worst_minute(series.time_s, error),
        ocv_only_rmse_v=_rms(baseline),
        temperature_rmse_k=_rms((temperature - measured)[inside]) if inside.any() else None,
        temperature_open_loop_k=_rms((open_loop - measured)[~np.isnan(measured)]) if inside.any() else None,
        hour_ahead_rmse_k=hour,
        hour_persistence_rmse_k=persistence,
        gaps=_gap_rises(series, temperature),
        voltage_v=voltage,
        temperature_c=temperature,
        open_loop_c=open_loop,
    )


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _worst_minute(time_s: Floats, error: Floats) -> float:
    """Largest root mean square within one minute of the clock; of single rows where they are further apart."""
    minute = (time_s // _MINUTE_S).astype(np.intp)
    counts = np.bincount(minute)
    squares = np.bincount(minute, weights=error**2)
    return float(np.sqrt((squares[counts > 0] / counts[counts > 0]).max()))


def _gap_rises(series: Series, temperature_c: Floats) -> tuple[GapRise, ...]:
    found = []
    for place in np.flatnonzero(series.gap):
        before, after = series.temperature_c[place - 1], series.temperature_c[place]
        if np.isnan(before) or np.isnan(after):
            continue
        # before a gap the model stands at its own prediction, not at the measurement
        start = temperature_c[place - 1]
        found.append(
            GapRise(
                begin_s=float(series.time_s[place - 1]),
                length_s=float(series.time_s[place] - series.time_s[place - 1]),
                mean_current_a=float(series.interval_a[place]),
                measured_k=float(after - before),
                predicted_k=float(temperature_c[place] - start),
            )
        )
    return tuple(found)


def _hour_ahead(
    rows: Floats, free: Floats, constants: Floats, table: Floats, series: Series
) -> tuple[float | None, float | None]:
    """Root mean square error of forecasts of an hour from rows of the log, and of "it stays what it is"."""
    measured = series.temperature_c
    targets = np.searchsorted(series.time_s, series.time_s + _AHEAD_S)
    starts = [
        place
        for place in range(1, series.rows)
        if targets[place] < series.rows
        and series.time_s[targets[place]] - series.time_s[place] <= _AHEAD_AT_MOST_S
        and not np.isnan(measured[place])
        and not np.isnan(measured[targets[place]])
    ]
    if not starts:
        return None, None
    starts = starts[:: max(1, len(starts) // _FORECASTS)]
    out = np.empty((series.rows, model.OUT_COLUMNS))
    ahead, stays = [], []
    for place in starts:
        target = int(targets[place])
        started = rows[: target + 1].copy()
        started[place, model.R_RESTART] = 1.0
        started[place + 1 :, model.R_RESTART] = 0.0
        simulate(started, free, constants, table, out[: target + 1])
        ahead.append(out[target, model.O_TEMPERATURE] - measured[target])
        stays.append(measured[place] - measured[target])
    return _rms(np.array(ahead)), _rms(np.array(stays))
