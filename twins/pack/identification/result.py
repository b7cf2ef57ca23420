"""What a fit gives: parameters before and after, the pack, and the series behind its plots."""

from __future__ import annotations

from dataclasses import dataclass, field

from twins.pack.identification.series import Floats, Series
from twins.pack.parameters import PackParameters


@dataclass(frozen=True, slots=True)
class FittedParameter:
    """One parameter before and after: means and standard deviations in `unit`; `value` is what the pack file gets."""

    name: str
    title: str
    unit: str
    prior: float
    prior_sd: float
    mean: float
    sd: float
    identified: bool
    value: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class LogFit:
    """A log and what the fitted pack shows over its rows; for plots. Temperatures begin anew behind gaps."""

    series: Series
    voltage_v: Floats  # (n,) modelled
    temperature_c: Floats  # (n,) modelled
    soc: Floats  # (n,) modelled, as a fraction


@dataclass(frozen=True, slots=True)
class Fit:
    """What logs say of a pack: `pack` has the identified parameters and `estimates`, `base` is what was believed.

    `free` are the free numbers with which `pack` was found (unidentified ones 0); `ocv_v` (GRID,) is the correction of
    the open-circuit curve per group, `ocv_sd_v` its posterior width, `ocv_only_v` the curve correction of a model
    without any resistance, fitted to the same logs as a baseline.
    """

    base: PackParameters
    pack: PackParameters
    parameters: tuple[FittedParameter, ...]
    logs: tuple[LogFit, ...]
    free: Floats
    ocv_v: Floats
    ocv_sd_v: Floats
    ocv_only_v: Floats
    soh: float | None
    rows: int
    effective_rows: float
    notes: tuple[str, ...] = field(default=())

    def parameter(self, name: str) -> FittedParameter:
        """One parameter by name; raises KeyError for one that is not fitted."""
        for each in self.parameters:
            if each.name == name:
                return each
        raise KeyError(name)
