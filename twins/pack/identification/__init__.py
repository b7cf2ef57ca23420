"""Identification: a pack's parameters from driving and charging logs, each with its uncertainty, or not at all.

    series = read_series(Path("leafspy.csv"), pack)      # judged, noted or refused
    fit = fit_series(series, pack)                       # posterior, and the pack with what was identified
    judge(fit, other_series)                             # errors beside baselines

`fit_aging` finds the scales of an aging law from reported health, `charge_curves` the capacity from the shape of a
charge.
"""

from __future__ import annotations

from twins.pack.identification.aging import AgingFit, AgingHistory, AgingUse, fit_aging, history_of
from twins.pack.identification.charge_curve import ChargeCurve, charge_curves
from twins.pack.identification.fit import fit_series
from twins.pack.identification.judge import GapRise, Judgement, judge
from twins.pack.identification.reading import read_series, series_of
from twins.pack.identification.result import Fit, FittedParameter, LogFit
from twins.pack.identification.series import Series, part_of

__all__ = [
    "AgingFit",
    "AgingHistory",
    "AgingUse",
    "ChargeCurve",
    "Fit",
    "FittedParameter",
    "GapRise",
    "Judgement",
    "LogFit",
    "Series",
    "charge_curves",
    "fit_aging",
    "fit_series",
    "history_of",
    "judge",
    "part_of",
    "read_series",
    "series_of",
]
