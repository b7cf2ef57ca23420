"""Drive a pack by current: the power-driven step, asked for the power with which the wanted current flows.

Chargers and inverters ask for power, so the pack's step takes power. A recording has current. Power is current times a
voltage that hardly depends on the current (ohms times amperes are a few percent of it), so the wanted current is found
by repeating a chunk from the same state and correcting each step's power by the missing current times the voltage that
came out: every pass leaves a few percent of the error of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twins.pack import layout
from twins.pack.layout import SOC_CELLS
from twins.pack.model import PackModel
from twins.pack.series import Drive, PackState, advance
from twins.pack.snapshot import series_resistance_ohm

Floats = NDArray[np.float64]

CURRENT_TOLERANCE_A: Final = 1e-6

_CHUNK: Final = 3600  # samples; an error of one pass must not add up over days before the next one sees it
_MOST_PASSES: Final = 40
_RECORDED: Final = ("voltage_v", "current_a", "soc", "temperature_c", "plates_c", "limited")


@dataclass(frozen=True, slots=True)
class Driven:
    """What came of a drive by current: the state behind it and, per sample, what was recorded.

    `recorded` has voltage_v (mean of the step), current_a, soc (fraction), temperature_c (cells), plates_c and limited
    (bits of `twins.pack.layout`, 0 where the pack took all of the current). `worst_a` is the largest difference of the
    current from the wanted one where nothing limited it.
    """

    state: PackState
    recorded: Mapping[str, Floats]
    worst_a: float


def advance_by_current(
    model: PackModel,
    state: PackState,
    current_a: Floats,
    *,
    dt_s: float,
    ambient_c: Floats,
    speed_km_h: Floats,
    use: NDArray[np.uint8],
) -> Driven:
    """Move one pack by currents (samples,) at its terminals, + charges, each held for `dt_s` (at most 60 s).

    `ambient_c`, `speed_km_h` and `use` are (samples,) too. The given state is left as it is. A current that the pack
    cannot take or give is limited as far as it must be, and flagged. Raises ConfigError for input out of range.
    """
    made: dict[str, list[Floats]] = {name: [] for name in _RECORDED}
    worst_a = 0.0
    for begin in range(0, current_a.size, _CHUNK):
        chunk = slice(begin, min(begin + _CHUNK, current_a.size))
        wanted_a = current_a[chunk]
        drive = Drive(
            dt_s=dt_s,
            power_w=_first_guess_w(model, state, wanted_a, dt_s),
            ambient_c=ambient_c[chunk],
            speed_km_h=speed_km_h[chunk],
            use=use[chunk],
            obey_limits=False,
        )
        passes = 0
        while True:
            trial = state.copy()
            out = advance(model, trial, drive, record=_RECORDED)
            missing_a = np.where(out["limited"] == 0, wanted_a - out["current_a"], 0.0)
            off_a = float(np.abs(missing_a).max())
            passes += 1
            if off_a <= CURRENT_TOLERANCE_A or passes == _MOST_PASSES:
                break
            drive.power_w = drive.power_w + missing_a * out["voltage_v"]
        worst_a = max(worst_a, off_a)
        state = trial
        for name, values in out.items():
            made[name].append(values)
    recorded = {name: np.concatenate(values) if values else np.empty(0) for name, values in made.items()}
    return Driven(state, recorded, worst_a)


def _first_guess_w(model: PackModel, state: PackState, current_a: Floats, dt_s: float) -> Floats:
    """Power by the open-circuit voltage along the wanted charge, and the series resistance of the beginning."""
    row = state.rows[0]
    soc = row[layout.SOC] + np.cumsum(current_a) * dt_s / 3600.0 / row[layout.CAPACITY_AH]
    open_v = model.parameters.groups_in_series * np.interp(soc, np.linspace(0.0, 1.0, SOC_CELLS + 1), state.curve_v[0])
    return np.asarray(current_a * (open_v + series_resistance_ohm(model, state) * current_a), dtype=np.float64)
