"""Logs whose truth is known, made without the code that fits them.

The truth is finer than what is fitted: steps of 0.25 s, explicit; a core and a shell of the cells, plates, casing; time
constants of its own; an open-circuit curve that is wrong by smooth waves of 10 mV rms. The log shows a second's mean
current, and all in steps of an adapter: 0.5 V, 0.5 A, 0.5 degC, 0.1 %; the state of charge is off by 1 % (sd).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twins.pack.cell import full_cell_v
from twins.pack.parameters import PackParameters
from twins.replay import ReplaySample

Floats = NDArray[np.float64]

STEP_S = 0.25
ROWS_EVERY = 4
CORE_TO_SHELL_W_PER_K = 4000.0


@dataclass(frozen=True)
class Synthetic:
    """`count` logs of one kind, and the truth of each by the name of the fitted parameter."""

    logs: list[list[ReplaySample]]
    truth: Mapping[str, Floats]


def synthetic_logs(pack: PackParameters, kind: str, count: int, *, seed: int, minutes: float = 45.0) -> Synthetic:
    """Logs of `rapid` charges, `drive`s, or `ac` charges at 6.6 kW, each of another car."""
    rng = np.random.default_rng(seed)
    resistance, thermal = pack.resistance, pack.thermal

    def around(sd: float) -> Floats:
        return np.exp(sd * rng.standard_normal(count))

    capacity_ah = 0.95 * pack.capacity_ah * around(0.06)
    series, fast, slow = around(0.15), around(0.15), around(0.15)
    fast_s, slow_s = resistance.fast_s * around(0.1), resistance.slow_s * around(0.1)
    activation = resistance.activation_j_per_mol + 3000.0 * rng.standard_normal(count)
    tilt = 0.2 * rng.standard_normal(count)
    heat, still, moving, coupling = around(0.15), around(0.3), around(0.3), around(0.3)
    cells_j_per_k = thermal.cells_j_per_k * heat
    soc = {"rapid": 0.2, "drive": 0.85, "ac": 0.4}[kind] + 0.05 * rng.standard_normal(count)
    ambient_c = 15.0 + 6.0 * rng.standard_normal(count)
    core = ambient_c + rng.uniform(0.0, 8.0, count)
    shell, plates, casing = core.copy(), core.copy(), 0.5 * (core + ambient_c)
    waves, phases = rng.uniform(0.4, 3.0, (4, count)), rng.uniform(0.0, 2.0 * np.pi, (4, count))
    heights = rng.standard_normal((4, count))
    heights *= 0.010 * np.sqrt(2.0) / np.sqrt((heights**2).sum(axis=0))
    grid = np.linspace(0.0, 1.0, 2001)
    curve = full_cell_v(pack.cell, grid)
    at = np.array(resistance.soc_percent) / 100.0
    entropic = np.array(pack.cell.entropic_v_per_k)
    speed_km_h = 70.0 if kind == "drive" else 0.0
    air = thermal.still_air_w_per_k * still + thermal.air_w_per_k_per_km_h * moving * speed_km_h
    fast_v, slow_v, noise, summed = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count)
    rows: list[tuple[Floats, Floats, Floats, Floats]] = []
    for step in range(int(minutes * 60.0 / STEP_S) + 1):
        if kind == "drive":
            if step % 20 == 0:
                noise = 0.9 * noise + np.sqrt(0.19) * rng.standard_normal(count)
            current = np.clip(-45.0 + 60.0 * noise, -250.0, 120.0)
        elif kind == "rapid":
            current = np.interp(soc, [0.0, 0.6, 0.9, 1.0], [112.0, 112.0, 50.0, 10.0])
        else:
            current = np.full(count, 17.5)
        kelvin = 0.5 * (core + shell) + 273.15
        warm = np.exp(activation / 8.314462618 * (1.0 / kelvin - 1.0 / 298.15) + tilt * (soc - 0.5))
        r_series = series * np.interp(soc, at, resistance.series_ohm) * warm
        r_fast = fast * np.interp(soc, at, resistance.fast_ohm) * warm
        r_slow = slow * np.interp(soc, at, resistance.slow_ohm) * warm
        if step % ROWS_EVERY == 0:
            wrong = (heights * np.sin(2.0 * np.pi * waves * soc + phases)).sum(axis=0)
            rest_v = pack.groups_in_series * (np.interp(soc, grid, curve) + wrong)
            mean = current if step == 0 else summed / ROWS_EVERY
            rows.append((soc.copy(), rest_v + r_series * current + fast_v + slow_v, mean.copy(), plates.copy()))
            summed = np.zeros(count)
        summed = summed + current
        lost_w = r_series * current**2 + fast_v**2 / r_fast + slow_v**2 / r_slow
        reversible_w = current * kelvin * pack.groups_in_series * np.interp(soc, entropic[:, 0] / 100.0, entropic[:, 1])
        fast_v = fast_v + STEP_S * (r_fast * current - fast_v) / fast_s
        slow_v = slow_v + STEP_S * (r_slow * current - slow_v) / slow_s
        inner = CORE_TO_SHELL_W_PER_K * (core - shell)
        to_plates = thermal.cells_to_plates_w_per_k * coupling * (shell - plates)
        to_casing = thermal.plates_to_casing_w_per_k * (plates - casing)
        half_w = 0.5 * (lost_w + reversible_w)
        core = core + STEP_S * (half_w - inner) / (0.5 * cells_j_per_k)
        shell = shell + STEP_S * (half_w + inner - to_plates) / (0.5 * cells_j_per_k)
        plates = plates + STEP_S * (to_plates - to_casing) / (thermal.plates_j_per_k * heat)
        casing = casing + STEP_S * (to_casing - air * (casing - ambient_c)) / (thermal.casing_j_per_k * heat)
        soc = soc + current * STEP_S / 3600.0 / capacity_ah

    def middle(values: tuple[float, ...]) -> float:
        return float(np.interp(50.0, resistance.soc_percent, values))

    truth = {
        "capacity_ah": capacity_ah,
        "resistance.series_ohm": middle(resistance.series_ohm) * series,
        "resistance.fast_ohm": middle(resistance.fast_ohm) * fast,
        "resistance.slow_ohm": middle(resistance.slow_ohm) * slow,
        "resistance.tilt": tilt,
        "resistance.activation_j_per_mol": activation,
        "thermal.cells_j_per_k": cells_j_per_k,
        "thermal.still_air_w_per_k": thermal.still_air_w_per_k * still,
        "thermal.air_w_per_k_per_km_h": thermal.air_w_per_k_per_km_h * moving,
        "thermal.cells_to_plates_w_per_k": thermal.cells_to_plates_w_per_k * coupling,
    }
    bias = 0.01 * rng.standard_normal(count)
    logs = [
        [
            ReplaySample(
                time_s=float(second),
                line=second + 2,
                soc_percent=round(100.0 * (row[0][car] + bias[car]), 1),
                pack_voltage_v=round(2.0 * row[1][car]) / 2.0,
                pack_current_a=round(2.0 * row[2][car]) / 2.0,
                pack_temperature_1_c=round(2.0 * row[3][car]) / 2.0,
                ambient_c=round(2.0 * ambient_c[car]) / 2.0,
                speed_kmh=speed_km_h,
                charge_mode={"rapid": 3.0, "ac": 2.0, "drive": 0.0}[kind],
            )
            for second, row in enumerate(rows)
        ]
        for car in range(count)
    ]
    return Synthetic(logs, truth)
