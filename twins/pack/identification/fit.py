"""`fit_series`: a pack's parameters from driving and charging logs, with what the logs cannot tell said.

Voltage and temperature of all logs are fitted at once. Nuisances are free beside the parameters and so marginalised:
the open-circuit curve's error (12 smooth modes), and of each log the first state of charge, the first temperature and
that of the casing. The posterior is Gaussian (see `posterior`). A parameter whose standard deviation exceeds half of
its prior's is *not identified*: it keeps the pack's value, and the others are then found once more beside that value,
so that what is written to the pack file belongs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from drivers.errors import ConfigError
from twins.pack.identification import forward as model
from twins.pack.identification.forward import GRID, Model, grid, model_of, rows_of, simulate
from twins.pack.identification.posterior import Block, Posterior, dwell_rows, solve
from twins.pack.identification.priors import (
    CASING_SD_K,
    IDENTIFIED_BELOW,
    NUISANCE,
    OCV_MODES,
    OCV_SD_V,
    PRIORS,
    SOC_SD,
    START_SD_K,
    UNKNOWN_SOC_SD,
    UNREPORTED_CAPACITY_SD,
    Prior,
    centres,
    ocv_modes,
)
from twins.pack.identification.result import Fit, FittedParameter, LogFit
from twins.pack.identification.series import Floats, Series
from twins.pack.identification.writing import sensor_offsets, written_pack
from twins.pack.parameters import PackParameters

_SHARED: Final = len(PRIORS)
_PER_LOG: Final = 3
_GAP_WEIGHT: Final = 0.7
"""An unlogged charge or pause is modelled by its mean current only: its rise counts less than a logged row."""
_LEAST_SD_V: Final = 0.05
_LEAST_SD_K: Final = 0.05
_WIDEST_OCV_V: Final = 0.04
_CONFLICT: Final = (
    1.3  # root mean square of the modes' normal numbers, beyond which the prior on the curve was too tight
)
_BASELINE_SD_V: Final = 0.1


def fit_series(logs: Series | Sequence[Series], pack: PackParameters) -> Fit:
    """Fit `pack` to one log or several of the same car.

    Raises ConfigError for no log at all, and where the fit comes to no finite end.
    """
    series = (logs,) if isinstance(logs, Series) else tuple(logs)
    if not series:
        raise ConfigError("no log to fit; name at least one")
    problem = _Problem(series, pack)
    full = problem.solve(problem.prior_sd)
    widened = problem.widen(full)
    while widened is not None:
        problem, full = widened, widened.solve(widened.prior_sd)
        widened = problem.widen(full)
    identified = _identified(full, problem)
    held = problem.prior_sd.copy()
    for prior in PRIORS:
        if not identified[prior.name] and prior.name != NUISANCE:
            held[prior.index] = 0.0
    final = problem.solve(held, full) if any(not found for found in identified.values()) else full
    return problem.result(full, final, identified)


class _Problem:
    """The logs as blocks of observations, and the parameters as one vector: shared, two per log, curve modes."""

    def __init__(self, series: tuple[Series, ...], pack: PackParameters, ocv_sd_v: float = OCV_SD_V) -> None:
        self.series, self.pack, self.ocv_sd_v = series, pack, ocv_sd_v
        self.notes: list[str] = []
        self.soh = reported_soh(series, pack)
        self.modes = ocv_modes(ocv_sd_v)
        self.models = [model_of(pack, soh=self.soh, soc_is_input=each.driven_by == "reported SOC") for each in series]
        self.rows = [rows_of(each) for each in series]
        self.size = _SHARED + _PER_LOG * len(series) + OCV_MODES
        self.prior_sd = np.ones(self.size)
        for prior in PRIORS:
            self.prior_sd[prior.index] = prior.sd
        if self.soh is None:
            self.prior_sd[model.P_CAPACITY] = UNREPORTED_CAPACITY_SD
        self._hold_what_no_log_can_tell()
        self.blocks: list[Block] = []
        for place, each in enumerate(series):
            self._prepare(place, each)
        self._outs = [np.empty((each.rows, model.OUT_COLUMNS)) for each in series]

    def _hold_what_no_log_can_tell(self) -> None:
        rapid = any(bool(each.rapid.any()) for each in self.series)
        other = any(bool((~each.rapid & (np.abs(each.interval_a) > 2.0)).any()) for each in self.series)
        if not (rapid and other):
            self.prior_sd[model.P_RAPID_HEAT] = 0.0
            self.notes.append(
                "the heat factor of rapid charging needs a rapid charge and other use; the pack's value is kept, and"
                " the heat capacity holds for that value"
                if rapid
                else "no rapid charge in the logs: its heat factor is kept"
            )
        if not any(each.driven_by == "reported SOC" for each in self.series):
            self.prior_sd[model.P_VARIANCE] = 0.0
        if all(each.driven_by == "reported SOC" for each in self.series):
            self.prior_sd[model.P_CAPACITY] = 0.0

    def _prepare(self, place: int, series: Series) -> None:
        soc_at = _SHARED + _PER_LOG * place
        self.prior_sd[soc_at + 1 : soc_at + _PER_LOG] = START_SD_K, CASING_SD_K
        self.prior_sd[soc_at] = 0.0 if series.driven_by == "reported SOC" else SOC_SD
        if np.isnan(series.soc).all():
            table = self.models[place].table[:, model.T_OCV]
            series_ohm = float(np.interp(0.5, grid(), self.models[place].table[:, model.T_SERIES]))
            rest_v = series.voltage_v[0] - series_ohm * series.current_a[0]
            self.rows[place][:, model.R_SOC] = np.interp(rest_v, table, grid())
            self.prior_sd[soc_at] = UNKNOWN_SOC_SD
            self.notes.append(f"{series.name}: no state of charge in the log; the first is read from the voltage")
        self.blocks.append(Block(series.voltage_v, _LEAST_SD_V, np.ones(series.rows), dwell_rows(series.voltage_v)))
        known = ~np.isnan(series.temperature_c)
        if np.isnan(series.ambient_c).all():
            known[:] = False
        weights = np.where(series.gap, _GAP_WEIGHT, 1.0) * known
        self.blocks.append(
            Block(
                np.where(known, series.temperature_c, 0.0),
                _LEAST_SD_K,
                weights,
                dwell_rows(series.temperature_c[known]),
            )
        )

    def widen(self, found: Posterior) -> _Problem | None:
        """The same with twice the prior width of the curve, where the curve is further off than that allows."""
        if not self.in_conflict(found) or self.ocv_sd_v >= _WIDEST_OCV_V:
            return None
        return _Problem(self.series, self.pack, 2.0 * self.ocv_sd_v)

    def in_conflict(self, found: Posterior) -> bool:
        """Whether the curve is further off than its prior allows."""
        return float(np.sqrt(np.mean(found.mean[-OCV_MODES:] ** 2))) > _CONFLICT

    def solve(self, prior_sd: Floats, start: Posterior | None = None) -> Posterior:
        """The posterior with these prior widths; `start` is one with others, to begin from."""
        return solve(self.predict, self.evaluate, self.blocks, np.zeros(self.size), prior_sd, start=start)

    def free_of(self, numbers: Floats, place: int) -> Floats:
        """The free numbers of one log out of the whole vector."""
        free = np.zeros(model.FREE)
        free[:_SHARED] = numbers[:_SHARED]
        free[model.P_SOC : model.P_SOC + _PER_LOG] = numbers[_SHARED + _PER_LOG * place :][:_PER_LOG]
        return free

    def shown(self, numbers: Floats, place: int) -> Floats:
        """(n, OUT_COLUMNS) of one log."""
        corrected = self.models[place].with_ocv(self.modes @ numbers[-OCV_MODES:])
        out = self._outs[place]
        simulate(self.rows[place], self.free_of(numbers, place), corrected.constants, corrected.table, out)
        return out

    def evaluate(self, numbers: Floats) -> list[Floats]:
        """What each block would show."""
        found: list[Floats] = []
        for place in range(len(self.series)):
            out = self.shown(numbers, place)
            found += [out[:, model.O_VOLTAGE].copy(), out[:, model.O_TEMPERATURE].copy()]
        return found

    def predict(self, numbers: Floats) -> tuple[list[Floats], list[Floats]]:
        """What each block would show, and how that changes with each number."""
        base: list[Floats] = []
        slopes: list[Floats] = []
        moved = numbers.copy()
        for place in range(len(self.series)):
            out = self.shown(numbers, place).copy()
            voltage = np.zeros((out.shape[0], self.size))
            temperature = np.zeros((out.shape[0], self.size))
            own = range(_SHARED + _PER_LOG * place, _SHARED + _PER_LOG * (place + 1))
            for index in (*range(_SHARED), *own):
                if self.prior_sd[index] == 0.0:
                    continue
                step = 1e-3 * self.prior_sd[index]
                moved[index] += step
                changed = self.shown(moved, place)
                moved[index] = numbers[index]
                voltage[:, index] = (changed[:, model.O_VOLTAGE] - out[:, model.O_VOLTAGE]) / step
                temperature[:, index] = (changed[:, model.O_TEMPERATURE] - out[:, model.O_TEMPERATURE]) / step
            voltage[:, -OCV_MODES:] = self.pack.groups_in_series * _rows_of_table(self.modes, out[:, model.O_SOC])
            base += [out[:, model.O_VOLTAGE], out[:, model.O_TEMPERATURE]]
            slopes += [voltage, temperature]
        return base, slopes

    def result(self, full: Posterior, final: Posterior, identified: Mapping[str, bool]) -> Fit:
        """The posterior as parameters, pack and model series."""
        capacity_ah = float(self.models[0].constants[model.K_CAPACITY_AH])
        before = centres(self.pack, capacity_ah)
        parameters = tuple(
            _fitted(
                prior,
                before[prior.name],
                self.prior_sd[prior.index] or prior.sd,
                full,
                final,
                identified[prior.name],
                self._note_of(prior),
            )
            for prior in PRIORS
        )
        logs = []
        for place, each in enumerate(self.series):
            out = self.shown(final.mean, place)
            logs.append(
                LogFit(
                    each,
                    out[:, model.O_VOLTAGE].copy(),
                    out[:, model.O_TEMPERATURE].copy(),
                    out[:, model.O_SOC].copy(),
                )
            )
        if self.ocv_sd_v > OCV_SD_V:
            self.notes.append(
                f"the open-circuit curve of the log lies further from the pack's than 10 mV: prior widened to"
                f" {1000 * self.ocv_sd_v:.0f} mV"
            )
        if self.in_conflict(full):
            furthest_v = float(np.abs(self.modes @ full.mean[-OCV_MODES:]).max())
            self.notes.append(
                f"the log's open-circuit curve lies up to {1000 * furthest_v:.0f} mV from the pack's: another"
                " chemistry, or a wrong state of charge; do not trust this fit before that is known"
            )
        modes = self.modes
        curve_covariance = full.covariance[-OCV_MODES:, -OCV_MODES:]
        ocv_sd_v = np.sqrt(np.maximum(np.einsum("gi,ij,gj->g", modes, curve_covariance, modes), 0.0))
        ocv_v = modes @ final.mean[-OCV_MODES:]
        parameters += sensor_offsets(self.series, self.pack)
        pack, notes = written_pack(self.pack, parameters, ocv_v)
        counts = [block.weights > 0 for block in self.blocks[::2]]
        rows = int(sum(count.sum() for count in counts))
        effective = sum(float(count.sum()) / noise[1] for count, noise in zip(counts, full.noise[::2], strict=True))
        return Fit(
            base=self.pack,
            pack=pack,
            parameters=parameters,
            logs=tuple(logs),
            free=self.free_of(final.mean, 0),
            ocv_v=ocv_v,
            ocv_sd_v=ocv_sd_v,
            ocv_only_v=_ocv_only(self.series, logs, self.models),
            soh=self.soh,
            rows=rows,
            effective_rows=effective,
            notes=(*(f"{each.name}: {note}" for each in self.series for note in each.notes), *self.notes, *notes),
        )

    def _note_of(self, prior: Prior) -> str:
        if self.prior_sd[prior.index] > 0.0:
            return ""
        if prior.index == model.P_CAPACITY:
            return "input: rows are long"
        if prior.index == model.P_VARIANCE:
            return "none: rows are short"
        return "held, see notes"


def reported_soh(series: Sequence[Series], pack: PackParameters) -> float | None:
    """Reported SOH, or the reported capacity over the new one; None where neither is reported."""
    for each in series:
        if each.capacity_ah is not None:
            return each.capacity_ah / pack.capacity_ah
    for each in series:
        if each.soh is not None:
            return each.soh
    return None


def _identified(found: Posterior, problem: _Problem) -> dict[str, bool]:
    sd = found.sd
    return {
        prior.name: bool(
            problem.prior_sd[prior.index] > 0.0 and sd[prior.index] <= IDENTIFIED_BELOW * problem.prior_sd[prior.index]
        )
        for prior in PRIORS
    }


def _fitted(
    prior: Prior, centre: float, prior_sd: float, full: Posterior, final: Posterior, identified: bool, note: str
) -> FittedParameter:
    number, spread = float(full.mean[prior.index]), float(full.sd[prior.index]) or prior_sd
    return FittedParameter(
        name=prior.name,
        title=prior.title,
        unit=prior.unit,
        prior=centre,
        prior_sd=prior.width(centre, 0.0, prior_sd),
        mean=prior.value(centre, number),
        sd=prior.width(centre, number, spread),
        identified=identified,
        value=prior.value(centre, float(final.mean[prior.index])) if identified else centre,
        note=note,
    )


def _rows_of_table(table: Floats, soc: Floats) -> Floats:
    """Linear interpolation of each column of (GRID, k) at (n,) states of charge."""
    place = np.clip(soc, 0.0, 1.0) * (GRID - 1)
    left = np.minimum(place.astype(np.intp), GRID - 2)
    share = (place - left)[:, None]
    return np.asarray(table[left] * (1.0 - share) + table[left + 1] * share, dtype=np.float64)


def _ocv_only(series: Sequence[Series], logs: Sequence[LogFit], models: Sequence[Model]) -> Floats:
    """(GRID,) V per group: the curve correction of a model that is nothing but a curve, fitted to the same logs."""
    modes = ocv_modes(_BASELINE_SD_V)
    normal = np.eye(OCV_MODES)
    right = np.zeros(OCV_MODES)
    for each, log, pack_model in zip(series, logs, models, strict=True):
        soc = curve_soc(each, log.soc)
        groups = pack_model.pack.groups_in_series
        matrix = groups * _rows_of_table(modes, soc)
        rest = each.voltage_v - np.interp(soc, grid(), pack_model.table[:, model.T_OCV])
        normal += matrix.T @ matrix
        right += matrix.T @ rest
    return np.asarray(modes @ np.linalg.solve(normal, right), dtype=np.float64)


def curve_soc(series: Series, modelled: Floats) -> Floats:
    """State of charge for a baseline: as reported, or as modelled where the log reports none."""
    return np.where(np.isnan(series.soc), modelled, series.soc)
