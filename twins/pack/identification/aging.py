"""The two scales of an aging law, calendar and cycle, from what a car reported of its health over its life.

A published law has the right shape and, for another cell, the wrong size. Its loss is scaled in two parts,

    loss(t) = a y_cal(t)^z + b y_cyc(t)^z'

which is linear in the scales a and b, so the posterior is Gaussian and exact. Over one history of one use both parts
grow alike, and only their sum is told: the scale of the smaller part then keeps its prior and is reported as not
identified. Histories of cars with different use tell them apart.

What the car reports is an estimate with noise and jumps of its own; its autocorrelation is counted (`posterior`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ConfigError
from twins.pack.identification.posterior import autocorrelation_time
from twins.pack.identification.priors import IDENTIFIED_BELOW
from twins.pack.identification.series import Floats, Series
from twins.pack.laws import CALENDAR, CYCLE, TERMS, Law, calendar_rate_per_s, cycle_increment, law, loss
from twins.pack.parameters import Estimate, PackParameters

SCALE_PRIOR: Final = (1.0, 0.6)
"""Mean and standard deviation of each scale: published laws differ by a factor of ten on the same use (estimate)."""

_LEAST_SD: Final = 0.005  # of reported health: one step of 1 %, and the estimator's own noise
_ESTIMATOR_BIAS_SD: Final = 0.01
_DAY_S: Final = 86_400.0
_WH_PER_KM: Final = 190.0  # of a small electric van or car, from memory
_DEPTH: Final = 0.5  # of a usual day's cycle, estimate
_CHARGE_C_RATE: Final = 0.17  # 6.6 kW into 40 kWh
_DISCHARGE_C_RATE: Final = 0.4  # mean while driving, estimate


@dataclass(frozen=True, slots=True)
class AgingUse:
    """How a car is used, the same over its history: where it stands, and what it cycles.

    `soc` (fractions) and `temperature_c` (n,) are equally weighted samples of its life; `efc_per_day` equivalent full
    cycles of `depth` around `mean_soc`, C-rates per hour.
    """

    soc: Floats
    temperature_c: Floats
    efc_per_day: float
    depth: float = _DEPTH
    mean_soc: float = 0.6
    charge_c_rate: float = _CHARGE_C_RATE
    discharge_c_rate: float = _DISCHARGE_C_RATE


@dataclass(frozen=True, slots=True)
class AgingHistory:
    """What a car reported: age in seconds since it was new (n,), and health as a fraction (n,)."""

    age_s: Floats
    soh: Floats
    use: AgingUse


@dataclass(frozen=True, slots=True)
class AgingFit:
    """Scales with their posterior; `losses` are the calendar and cycle part at the end of each history with them."""

    law: str
    calendar: Estimate
    cycle: Estimate
    calendar_scale: float  # what a pack file gets: unidentified scales stay 1
    cycle_scale: float
    residual_sd: float
    losses: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]

    def written(self, pack: PackParameters) -> PackParameters:
        """The pack with law, identified scales and estimates."""
        aging = pack.aging.model_copy(
            update={"law": self.law, "calendar_scale": self.calendar_scale, "cycle_scale": self.cycle_scale}
        )
        estimates = {**pack.estimates, "aging.calendar_scale": self.calendar, "aging.cycle_scale": self.cycle}
        return pack.model_copy(update={"aging": aging, "estimates": estimates})


def fit_aging(histories: Sequence[AgingHistory], law_name: str = "b1") -> AgingFit:
    """Fit the two scales of a law to one history or several.

    Raises ConfigError for no history, an unknown law, ages that are not positive, and health that is no fraction.
    """
    if not histories or not any(each.age_s.size for each in histories):
        raise ConfigError("no reading of SOH to fit aging to; give logs with SOH")
    chosen = law(law_name)
    columns: list[Floats] = []
    values: list[Floats] = []
    for each in histories:
        if (each.age_s <= 0).any() or not ((each.soh > 0) & (each.soh <= 1.2)).all():
            raise ConfigError("a history of health needs ages above 0 and SOH between 0 and 1.2 of the new capacity")
        columns.append(_parts(chosen, each))
        values.append(1.0 - each.soh)
    scales, covariance, noise_sd = _solve(columns, values)
    prior_sd = SCALE_PRIOR[1]
    sd = np.sqrt(np.diag(covariance))
    identified = sd <= IDENTIFIED_BELOW * prior_sd
    written = _conditional(columns, values, identified, noise_sd)
    names = ("calendar", "cycle")
    notes = [
        f"the {name} scale is not identified ({scale:.2f} ± {width:.2f}, prior 1 ± {prior_sd:g}); it stays 1"
        for name, scale, width, known in zip(names, scales, sd, identified, strict=True)
        if not known
    ]
    if len(histories) == 1 and not identified.all():
        notes.append(
            "one history of one use tells the sum of calendar and cycle loss, not both scales; add logs of other use"
        )
    if (written < 0).any():
        written = np.maximum(written, 0.0)
        notes.append("a scale came out below 0 and is held there")
    losses = tuple((float(written[0] * part[-1, 0]), float(written[1] * part[-1, 1])) for part in columns)
    return AgingFit(
        law=law_name,
        calendar=Estimate(mean=float(scales[0]), sd=float(sd[0]), identified=bool(identified[0])),
        cycle=Estimate(mean=float(scales[1]), sd=float(sd[1]), identified=bool(identified[1])),
        calendar_scale=float(min(written[0], 10.0)),
        cycle_scale=float(min(written[1], 10.0)),
        residual_sd=noise_sd,
        losses=losses,
        notes=tuple(notes),
    )


def history_of(series: Sequence[Series], pack: PackParameters, in_service_utc_s: float) -> AgingHistory:
    """The history that logs of one car give, with its use guessed from them; one reading per day at most.

    Raises ConfigError where no log has SOH and an absolute clock, or the car would be younger than its logs.
    """
    readings = sorted(reading for each in series for reading in each.history)
    if not readings:
        raise ConfigError("no log has both SOH and an absolute clock; aging needs them")
    daily: dict[int, list[float]] = {}
    for when, soh in readings:
        daily.setdefault(int((when - in_service_utc_s) // _DAY_S), []).append(soh)
    ages = np.array([(day + 0.5) * _DAY_S for day in daily])
    if (ages <= 0).any():
        raise ConfigError("a log is older than the date of first use; check --in-service")
    soc = np.concatenate([each.soc[~np.isnan(each.soc)] for each in series])
    warm = np.concatenate([each.temperature_c[~np.isnan(each.temperature_c)] for each in series])
    if not soc.size or not warm.size:
        raise ConfigError("no log has state of charge and pack temperature; aging needs them")
    odometers = [each.odometer_km for each in series if each.odometer_km is not None]
    driven_km = max(odometers) if odometers else 0.0
    efc = driven_km * _WH_PER_KM / pack.new_full_energy_wh
    use = AgingUse(
        soc=np.quantile(soc, np.linspace(0.05, 0.95, 10)),
        temperature_c=np.quantile(warm, np.linspace(0.05, 0.95, 10)),
        efc_per_day=efc / (float(ages.max()) / _DAY_S),
        mean_soc=float(np.mean(soc)),
    )
    return AgingHistory(ages, np.array([float(np.median(day)) for day in daily.values()]), use)


def _parts(chosen: Law, history: AgingHistory) -> Floats:
    """(n, 2): calendar and cycle loss at scale 1."""
    use = history.use
    soc, warm = np.meshgrid(use.soc, use.temperature_c)
    calendar_per_s = float(np.mean(calendar_rate_per_s(chosen, soc, warm)))
    cycles_per_s = use.efc_per_day / use.depth / _DAY_S
    increments = [
        cycle_increment(
            chosen.number, use.depth, use.mean_soc, use.charge_c_rate, use.discharge_c_rate, float(temperature_c)
        )[0]
        for temperature_c in use.temperature_c
    ]
    cycle_per_s = float(np.mean(increments)) * cycles_per_s
    parts = np.empty((history.age_s.size, 2))
    for place, age_s in enumerate(history.age_s):
        y = np.zeros(TERMS)
        y[CALENDAR], y[CYCLE] = calendar_per_s * age_s, cycle_per_s * age_s
        parts[place] = loss(chosen.number, y, 1.0, 1.0)[2:]
    return parts


def _solve(columns: Sequence[Floats], values: Sequence[Floats]) -> tuple[Floats, Floats, float]:
    """Posterior of both scales; noise from the residuals, with their autocorrelation and a bias of each estimator."""
    noise_sd, times = _LEAST_SD, [1.0] * len(values)
    scales, covariance = np.ones(2), np.eye(2)
    for _ in range(3):
        scales, covariance = _linear(columns, values, np.array([SCALE_PRIOR[1]] * 2), noise_sd, times)
        rests = [value - column @ scales for column, value in zip(columns, values, strict=True)]
        together = np.concatenate(rests)
        noise_sd = max(_LEAST_SD, float(np.sqrt(np.mean(together**2))))
        times = [autocorrelation_time(rest) for rest in rests]
    return scales, covariance, noise_sd


def _conditional(
    columns: Sequence[Floats], values: Sequence[Floats], free: NDArray[np.bool_], noise_sd: float
) -> Floats:
    """Scales with those that are not identified held at 1."""
    widths = np.where(free, SCALE_PRIOR[1], 1e-6)
    return np.where(free, _linear(columns, values, widths, noise_sd, [1.0] * len(values))[0], SCALE_PRIOR[0])


def _linear(
    columns: Sequence[Floats], values: Sequence[Floats], widths: Floats, noise_sd: float, times: Sequence[float]
) -> tuple[Floats, Floats]:
    information = np.diag(1.0 / widths**2)
    right = SCALE_PRIOR[0] / widths**2
    for column, value, time in zip(columns, values, times, strict=True):
        # a bias shared by all readings of one car: Woodbury of noise I + bias 1 1'
        white = noise_sd**2 * time
        shared = _ESTIMATOR_BIAS_SD**2 / (white + value.size * _ESTIMATOR_BIAS_SD**2)
        total = column.sum(axis=0)
        information = information + (column.T @ column - shared * np.outer(total, total)) / white
        right = right + (column.T @ value - shared * total * value.sum()) / white
    covariance = np.linalg.inv(information)
    return np.asarray(covariance @ right, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
