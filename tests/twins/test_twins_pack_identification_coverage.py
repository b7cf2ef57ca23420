"""Intervals of the fit cover the truth on synthetic logs whose open-circuit curve is wrong by 10 mV."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.twins.synthetic_logs import synthetic_logs
from twins.pack.identification import fit_series, series_of
from twins.pack.parameters import shipped_pack

LOGS = 60
NORMAL_90 = 1.6449


class Outcome(NamedTuple):
    identified: int
    covered: int
    covered_at_all: int


def outcomes(kind: str) -> dict[str, Outcome]:
    """Per parameter: how many of 60 logs identify it, and how many of those hold the truth within 90 %."""
    pack = shipped_pack("env200_40kwh")
    made = synthetic_logs(pack, kind, LOGS, seed=1)
    found = dict.fromkeys(made.truth, Outcome(0, 0, 0))
    for place, samples in enumerate(made.logs):
        fit = fit_series(series_of(samples, pack, name=kind, averaged=True), pack)
        for name, truths in made.truth.items():
            parameter = fit.parameter(name)
            inside = abs(parameter.mean - truths[place]) <= NORMAL_90 * parameter.sd
            before = found[name]
            found[name] = Outcome(
                before.identified + parameter.identified,
                before.covered + (parameter.identified and inside),
                before.covered_at_all + inside,
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rapid", "drive", "ac"])
def test_90_percent_intervals_hold_the_truth_in_at_least_80_percent_of_60_logs(kind: str) -> None:
    found = outcomes(kind)
    for name, outcome in found.items():
        assert outcome.covered_at_all >= 0.8 * LOGS, (name, outcome)
        if outcome.identified:
            assert outcome.covered >= 0.8 * outcome.identified, (name, outcome)
    identified = {name: outcome.identified for name, outcome in found.items()}
    never = {name for name, count in identified.items() if count == 0}
    if kind == "rapid":
        assert identified["capacity_ah"] == identified["thermal.cells_j_per_k"] == LOGS
        assert identified["resistance.series_ohm"] == LOGS
        assert {"thermal.air_w_per_k_per_km_h", "resistance.slow_ohm"} <= never
    elif kind == "drive":
        assert identified["capacity_ah"] == identified["resistance.series_ohm"] == LOGS
        assert {"thermal.still_air_w_per_k", "thermal.air_w_per_k_per_km_h"} <= never
    else:  # 6.6 kW: nothing but, now and then, the capacity
        assert never >= set(identified) - {"capacity_ah"}
        assert identified["capacity_ah"] < 0.6 * LOGS
