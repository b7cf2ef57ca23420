"""The fitted pack as a pack file: what is identified goes in, everything else stays as it was.

The file's capacity and curve are those of the *new* pack, as everywhere; a present capacity is told as state of health.
Resistances and thermal values are those of today's car.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from twins.pack.identification.forward import grid
from twins.pack.identification.posterior import autocorrelation_time
from twins.pack.identification.priors import IDENTIFIED_BELOW, NUISANCE
from twins.pack.identification.result import FittedParameter
from twins.pack.identification.series import Floats, Series
from twins.pack.parameters import Estimate, PackParameters

_OFFSET_SD_K: Final = 1.0
_LEAST_SPREAD_K: Final = 0.03  # sensors are shown in steps of 0.1 K and more
_SENSORS: Final = 4
_LEAST_ROWS: Final = 10
_LEAST_RISE_V: Final = 2e-4
_OHM: Final = (0.001, 1.99)

# Allowed ranges of the pack file (`twins.pack.parameters`), which a value is brought into before it is written.
_RANGES: Final = {
    "resistance.activation_j_per_mol": (0.0, 80_000.0),
    "thermal.cells_j_per_k": (1e4, 1e6),
    "thermal.still_air_w_per_k": (0.0, 500.0),
    "thermal.air_w_per_k_per_km_h": (0.0, 20.0),
    "thermal.rapid_heat_factor": (1.0, 3.0),
    "thermal.cells_to_plates_w_per_k": (0.1, 5000.0),
    "thermal.plates_to_casing_w_per_k": (0.1, 5000.0),
}


def sensor_offsets(series: Sequence[Series], pack: PackParameters) -> tuple[FittedParameter, ...]:
    """Offset of each thermistor against the mean of those that are there, K; the mean itself cannot be told."""
    found: list[FittedParameter] = []
    alone = all((~np.isnan(each.sensors_c)).any(axis=0).sum() < 2 for each in series)
    for place, before in enumerate(pack.sensor_offsets_c[:_SENSORS]):
        rests = [(each.sensors_c[:, place] - each.temperature_c) for each in series]
        known = [rest[~np.isnan(rest)] for rest in rests if (~np.isnan(rest)).sum() >= _LEAST_ROWS]
        mean, sd, note = before, _OFFSET_SD_K, ""
        if not known:
            note = "not in the log"
        elif alone:
            note = "the only one in the log"
        else:
            together = np.concatenate(known)
            effective = sum(rest.size / autocorrelation_time(rest) for rest in known)
            measured_sd = max(float(np.std(together)), _LEAST_SPREAD_K) / math.sqrt(effective)
            weight = 1.0 / (1.0 + (measured_sd / _OFFSET_SD_K) ** 2)
            mean = weight * float(together.mean()) + (1.0 - weight) * before
            sd = measured_sd * math.sqrt(weight)
        identified = sd <= IDENTIFIED_BELOW * _OFFSET_SD_K
        found.append(
            FittedParameter(
                name=f"sensor_offsets_c.{place + 1}",
                title=f"offset of thermistor {place + 1}",
                unit="K",
                prior=before,
                prior_sd=_OFFSET_SD_K,
                mean=mean,
                sd=sd,
                identified=identified,
                value=mean if identified else before,
                note=note,
            )
        )
    return tuple(found)


def written_pack(
    pack: PackParameters, parameters: Sequence[FittedParameter], ocv_v: Floats, *, source: str = ""
) -> tuple[PackParameters, tuple[str, ...]]:
    """The pack with what was identified, and what had to be said of it; always a pack that can be loaded again."""
    notes: list[str] = []
    values: dict[str, float] = {}
    for each in parameters:
        if each.identified:
            value = each.value
            low, high = _RANGES.get(each.name, (-math.inf, math.inf))
            if not low <= value <= high:
                notes.append(f"{each.title} {value:.4g} {each.unit} is brought into its range, {low:g} to {high:g}")
                value = min(max(value, low), high)
            values[each.name] = value
    estimates = {
        # The heat capacity that is written belongs to the variance that it was fitted with.
        each.name: Estimate(
            mean=each.value if each.name == NUISANCE else each.mean, sd=each.sd, identified=each.identified
        )
        for each in parameters
        if each.sd > 0
    }
    document = pack.model_dump(mode="json", by_alias=True)
    document["cell"]["open_circuit_v"] = _corrected_curve(pack, ocv_v, notes)
    resistance = document["resistance"]
    tilt = values.get("resistance.tilt", 0.0)
    bend = [math.exp(tilt * (soc / 100.0 - 0.5)) for soc in pack.resistance.soc_percent]
    prior = {each.name: each.prior for each in parameters}
    for key in ("series_ohm", "fast_ohm", "slow_ohm"):
        name = f"resistance.{key}"
        factor = values.get(name, prior[name]) / prior[name]
        resistance[key] = [
            min(max(ohm * factor * bent, _OHM[0]), _OHM[1]) for ohm, bent in zip(resistance[key], bend, strict=True)
        ]
    resistance["activation_j_per_mol"] = values.get(
        "resistance.activation_j_per_mol", resistance["activation_j_per_mol"]
    )
    thermal = document["thermal"]
    factor = values.get("thermal.cells_j_per_k", thermal["cells_j_per_k"]) / thermal["cells_j_per_k"]
    for key, low, high in (("cells_j_per_k", 1e4, 1e6), ("plates_j_per_k", 1e3, 5e5), ("casing_j_per_k", 1e3, 5e5)):
        thermal[key] = min(max(thermal[key] * factor, low), high)
    for key in (
        "still_air_w_per_k",
        "air_w_per_k_per_km_h",
        "rapid_heat_factor",
        "cells_to_plates_w_per_k",
        "plates_to_casing_w_per_k",
    ):
        thermal[key] = values.get(f"thermal.{key}", thermal[key])
    document["sensor_offsets_c"] = [
        values.get(f"sensor_offsets_c.{place + 1}", offset) for place, offset in enumerate(pack.sensor_offsets_c)
    ]
    document["estimates"] = {
        **document["estimates"],
        **{name: estimate.model_dump(mode="json") for name, estimate in estimates.items()},
    }
    if source:
        document["source"] = source
    return PackParameters.model_validate_json(json.dumps(document)), tuple(notes)


def _corrected_curve(pack: PackParameters, ocv_v: Floats, notes: list[str]) -> list[list[float]]:
    """The file's points with the correction added; kept rising, and within what a group can have."""
    points: list[list[float]] = []
    held = 0
    for soc, volts in pack.cell.open_circuit_v:
        wanted = volts + float(np.interp(soc / 100.0, grid(), ocv_v))
        least = points[-1][1] + _LEAST_RISE_V if points else 2.0
        held += not least <= wanted <= 4.5
        points.append([soc, round(min(max(wanted, least), 4.5), 5)])
    if held:
        notes.append(f"{held} points of the corrected open-circuit curve would not rise and are held")
    return points
