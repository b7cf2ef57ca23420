"""What a pack would have shown over the rows of a log: voltage and sensor temperature, in one compiled pass.

The equations are those of the pack twin with their parameters as free numbers, on rows of any length:

    V = G U(s) + R0 i + R_fast i_fast + R_slow i_slow,    d i_x/dt = (i - i_x) / tau_x
    R(s, T) = R25(s) exp(tilt (s - 1/2)) exp(Ea / R (1 / T - 1 / 298.15 K))
    C_cells dT/dt = f (R0 i^2 + R_fast i_fast^2 + R_slow i_slow^2) + i T G dU/dT - k (T_cells - T_plates)

with plates and casing in a chain to the air, as in `ThermalParameters`; `f` is the heat factor of a rapid charge. The
RC elements are exact over a step of constant current, the chain is solved implicitly (first order, 20 s at most), so no
length of row is unstable. Within a long row the current is its mean, and the spot value for the last seconds; the heat
of what the mean hides is a variance of the current, times a free factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from twins.pack.cell import fill_aged_curve, full_cell_v, half_cells
from twins.pack.compiled import compiled
from twins.pack.identification.series import Floats, Series
from twins.pack.parameters import PackParameters

GRID: Final = 401
"""Points of the tables over the state of charge, 0.25 % apart."""

# Columns of the rows.
(
    R_DT,
    R_MEAN_A,
    R_SPOT_A,
    R_HOLD_S,
    R_SOC,
    R_AMBIENT,
    R_SPEED,
    R_RAPID,
    R_HIDDEN_A2,
    R_RESTART,
    R_MEASURED,
    ROW_COLUMNS,
) = range(12)
# Columns of the tables over the state of charge.
T_OCV, T_SERIES, T_FAST, T_SLOW, T_ENTROPIC, TABLE_COLUMNS = range(6)
# The free numbers: natural logarithms of factors on the pack's values, unless named otherwise.
(
    P_CAPACITY,
    P_SERIES,
    P_FAST,
    P_SLOW,
    P_TILT,  # per unit of state of charge
    P_ACTIVATION,  # J/mol, added
    P_HEAT_CAPACITY,
    P_STILL_AIR,
    P_MOVING_AIR,
    P_RAPID_HEAT,
    P_VARIANCE,
    P_COUPLING,  # cells to plates
    P_OUTER,  # plates to casing
    P_SOC,  # fraction, added to the first state of charge
    P_START,  # K, added to the first temperature
    P_CASING,  # K, added to the casing's first temperature
    FREE,
) = range(17)
# Constants of a pack.
(
    K_CAPACITY_AH,
    K_FAST_S,
    K_SLOW_S,
    K_DISCHARGE,
    K_ACTIVATION,
    K_CELLS,
    K_PLATES,
    K_CASING,
    K_CELLS_PLATES,
    K_PLATES_CASING,
    K_STILL_AIR,
    K_MOVING_AIR,
    K_RAPID_HEAT,
    K_SOC_IS_INPUT,
    CONSTANTS,
) = range(15)
# Columns of what comes out.
O_VOLTAGE, O_TEMPERATURE, O_SOC, O_CELLS, OUT_COLUMNS = range(5)

HIDDEN_VARIANCE_A2: Final = 1500.0
"""Variance of the current within a long row of driving, of which its mean knows nothing: 880, 1400 and 2170 A^2 in
three days of a 62 kWh car, by the spot values. A day's own spot values do not predict its heat any better."""

_LONGEST_STEP_S: Final = 20.0
_CLOSE_S: Final = 1e-9
_GAS_J_PER_MOL_K: Final = 8.314462618  # CODATA 2018
_ROOM_C: Final = 20.0


@dataclass(frozen=True, slots=True)
class Model:
    """A pack as the arrays that `simulate` takes; `table` is (GRID, TABLE_COLUMNS), voltages of the whole pack."""

    pack: PackParameters
    constants: Floats
    table: Floats

    def with_ocv(self, correction_v: Floats) -> Model:
        """The same with (GRID,) volts per group added to the open-circuit curve."""
        table = self.table.copy()
        table[:, T_OCV] += self.pack.groups_in_series * correction_v
        return Model(self.pack, self.constants, table)


def grid() -> Floats:
    """States of charge of the tables, (GRID,) fractions."""
    return np.linspace(0.0, 1.0, GRID)


def model_of(pack: PackParameters, *, soh: float | None = None, soc_is_input: bool = False) -> Model:
    """The model of a pack that has `soh` of its capacity left by lost lithium; 1 where nothing is reported."""
    soh = 1.0 if soh is None else min(max(soh, 0.5), 1.0)
    soc = grid()
    resistance, thermal = pack.resistance, pack.thermal
    table = np.empty((GRID, TABLE_COLUMNS))
    curve = full_cell_v(pack.cell, soc) if soh > 0.999 else _aged_curve(pack, soh)
    table[:, T_OCV] = pack.groups_in_series * curve
    at = np.array(resistance.soc_percent) / 100.0
    for column, values in (
        (T_SERIES, resistance.series_ohm),
        (T_FAST, resistance.fast_ohm),
        (T_SLOW, resistance.slow_ohm),
    ):
        table[:, column] = np.interp(soc, at, values)
    entropic = np.array(pack.cell.entropic_v_per_k)
    table[:, T_ENTROPIC] = pack.groups_in_series * np.interp(soc, entropic[:, 0] / 100.0, entropic[:, 1])
    constants = np.empty(CONSTANTS)
    constants[K_CAPACITY_AH] = pack.capacity_ah * soh
    constants[K_FAST_S], constants[K_SLOW_S] = resistance.fast_s, resistance.slow_s
    constants[K_DISCHARGE], constants[K_ACTIVATION] = resistance.discharge_factor, resistance.activation_j_per_mol
    constants[K_CELLS], constants[K_PLATES] = thermal.cells_j_per_k, thermal.plates_j_per_k
    constants[K_CASING] = thermal.casing_j_per_k
    constants[K_CELLS_PLATES] = thermal.cells_to_plates_w_per_k
    constants[K_PLATES_CASING] = thermal.plates_to_casing_w_per_k
    constants[K_STILL_AIR], constants[K_MOVING_AIR] = thermal.still_air_w_per_k, thermal.air_w_per_k_per_km_h
    constants[K_RAPID_HEAT] = thermal.rapid_heat_factor
    constants[K_SOC_IS_INPUT] = float(soc_is_input)
    return Model(pack, constants, table)


def rows_of(series: Series, *, restart: bool = True) -> Floats:
    """(n, ROW_COLUMNS) for `simulate`; with `restart` the temperature begins anew behind each gap."""
    rows = np.zeros((series.rows, ROW_COLUMNS))
    rows[:, R_DT] = np.diff(series.time_s, prepend=series.time_s[0])
    rows[:, R_MEAN_A], rows[:, R_SPOT_A] = series.interval_a, series.current_a
    rows[:, R_HOLD_S] = np.minimum(series.hold_s, rows[:, R_DT])
    places = np.arange(series.rows)
    for column, values, otherwise in (
        (R_SOC, series.soc, 0.5),
        (R_AMBIENT, series.ambient_c, math.nan),
        (R_MEASURED, series.temperature_c, math.nan),
    ):
        known = ~np.isnan(values)
        rows[:, column] = np.interp(places, places[known], values[known]) if known.any() else otherwise
    measured, ambient = rows[:, R_MEASURED], rows[:, R_AMBIENT]
    if np.isnan(measured).any():
        measured[:] = _ROOM_C if np.isnan(ambient).any() else ambient
    if np.isnan(ambient).any():
        ambient[:] = measured
    rows[:, R_SPEED] = series.speed_km_h
    rows[:, R_RAPID] = series.rapid
    driven = ~series.rapid & ~series.gap & (np.abs(series.interval_a) > 2.0) & (series.driven_by == "reported SOC")
    rows[:, R_HIDDEN_A2] = np.where(driven, HIDDEN_VARIANCE_A2, 0.0)
    rows[:, R_RESTART] = series.gap & restart
    return rows


def _aged_curve(pack: PackParameters, soh: float) -> Floats:
    """The open-circuit curve of a pack of that health, as `PackState.new` has it."""
    halves = half_cells(pack.cell)
    curve = np.empty(GRID)
    fill_aged_curve(halves.anode_v, halves.cathode_v, halves.geometry, 1.0 - soh, pack.aging.lithium_share, 0.0, curve)
    return curve


@compiled
def _at(table: Floats, position: float, column: int) -> float:
    """A column of the table, interpolated at `position` in intervals of the grid."""
    left = int(min(int(position), table.shape[0] - 2))
    low = float(table[left, column])
    return low + (position - left) * (float(table[left + 1, column]) - low)


@compiled
def simulate(  # noqa: PLR0915  # one loop, so that the state stays in registers
    rows: Floats, free: Floats, constants: Floats, table: Floats, out: Floats
) -> None:
    """Fill `out` (n, OUT_COLUMNS): pack voltage at the end of each row, plate temperature, state of charge, cells.

    `rows` as of `rows_of`, `free` (FREE,), `constants` and `table` as of `Model`. A row with R_RESTART keeps what was
    predicted for it in `out`, and the nodes move by what was measured instead.
    """
    capacity_as = constants[K_CAPACITY_AH] * math.exp(free[P_CAPACITY]) * 3600.0
    activation = (constants[K_ACTIVATION] + free[P_ACTIVATION]) / _GAS_J_PER_MOL_K
    series_factor, fast_factor, slow_factor = math.exp(free[P_SERIES]), math.exp(free[P_FAST]), math.exp(free[P_SLOW])
    heat_capacity = math.exp(free[P_HEAT_CAPACITY])
    inner, outer = constants[K_CELLS_PLATES], constants[K_PLATES_CASING]
    inner *= math.exp(free[P_COUPLING])
    outer *= math.exp(free[P_OUTER])
    still = constants[K_STILL_AIR] * math.exp(free[P_STILL_AIR])
    moving = constants[K_MOVING_AIR] * math.exp(free[P_MOVING_AIR])
    rapid_factor = constants[K_RAPID_HEAT] * math.exp(free[P_RAPID_HEAT])
    variance = math.exp(free[P_VARIANCE])
    last = table.shape[0] - 1
    soc = rows[0, R_SOC] + free[P_SOC]
    plates = rows[0, R_MEASURED] + free[P_START]
    cells = plates
    air = still + moving * rows[0, R_SPEED]
    casing = (outer * plates + air * rows[0, R_AMBIENT]) / (outer + air) + free[P_CASING]
    fast_a, slow_a = 0.0, 0.0  # currents behind the RC elements
    for row in range(rows.shape[0]):
        dt, spot_a, mean_a = rows[row, R_DT], rows[row, R_SPOT_A], rows[row, R_MEAN_A]
        hold = rows[row, R_HOLD_S]
        early_a = spot_a
        if hold < dt - _CLOSE_S:
            early_a = (mean_a * dt - spot_a * hold) / (dt - hold)
        else:
            hold = dt
        air = still + moving * rows[row, R_SPEED]
        factor = rapid_factor if rows[row, R_RAPID] > 0.0 else 1.0
        hidden_a2 = variance * rows[row, R_HIDDEN_A2]
        soc_begin, soc_end = soc, soc + mean_a * dt / capacity_as
        if constants[K_SOC_IS_INPUT] > 0.0:
            soc_end = rows[row, R_SOC] + free[P_SOC]
        done = 0.0
        while done < dt - _CLOSE_S:
            is_early = done < dt - hold - _CLOSE_S
            current_a = early_a if is_early else spot_a
            remaining = dt - hold - done if is_early else dt - done
            step = remaining / math.ceil(remaining / _LONGEST_STEP_S)
            soc = soc_begin + (soc_end - soc_begin) * (done + 0.5 * step) / dt
            position = min(max(soc, 0.0), 1.0) * last
            kelvin = cells + 273.15
            warm = math.exp(activation * (1.0 / kelvin - 1.0 / 298.15) + free[P_TILT] * (soc - 0.5))
            fast_before, slow_before = fast_a, slow_a
            fast_a = current_a + (fast_a - current_a) * math.exp(-step / constants[K_FAST_S])
            slow_a = current_a + (slow_a - current_a) * math.exp(-step / constants[K_SLOW_S])
            fast_mean, slow_mean = 0.5 * (fast_before + fast_a), 0.5 * (slow_before + slow_a)
            discharge = constants[K_DISCHARGE]
            lost_w = (
                series_factor
                * _at(table, position, T_SERIES)
                * (discharge if current_a < 0.0 else 1.0)
                * (current_a * current_a + hidden_a2)
                + fast_factor
                * _at(table, position, T_FAST)
                * (discharge if fast_a < 0.0 else 1.0)
                * fast_mean
                * fast_mean
                + slow_factor
                * _at(table, position, T_SLOW)
                * (discharge if slow_a < 0.0 else 1.0)
                * slow_mean
                * slow_mean
            ) * warm
            heat_w = lost_w * factor + current_a * kelvin * _at(table, position, T_ENTROPIC)
            per_step = heat_capacity / step
            of_cells = constants[K_CELLS] * per_step
            of_plates = constants[K_PLATES] * per_step
            of_casing = constants[K_CASING] * per_step
            # implicit: from the cells outwards, each node in terms of the next, then back
            cells_sum = of_cells + inner
            cells_known = of_cells * cells + heat_w
            plates_sum = of_plates + inner + outer - inner * inner / cells_sum
            plates_known = of_plates * plates + inner * cells_known / cells_sum
            casing_sum = of_casing + outer + air - outer * outer / plates_sum
            casing_known = of_casing * casing + air * rows[row, R_AMBIENT] + outer * plates_known / plates_sum
            casing = casing_known / casing_sum
            plates = (plates_known + outer * casing) / plates_sum
            cells = (cells_known + inner * plates) / cells_sum
            done += step
        soc = soc_end
        position = min(max(soc, 0.0), 1.0) * last
        warm = math.exp(activation * (1.0 / (cells + 273.15) - 1.0 / 298.15) + free[P_TILT] * (soc - 0.5))
        series_v = series_factor * _at(table, position, T_SERIES) * spot_a
        fast_v = fast_factor * _at(table, position, T_FAST) * fast_a
        slow_v = slow_factor * _at(table, position, T_SLOW) * slow_a
        discharge = constants[K_DISCHARGE]
        polarised_v = (
            series_v * (discharge if spot_a < 0.0 else 1.0)
            + fast_v * (discharge if fast_a < 0.0 else 1.0)
            + slow_v * (discharge if slow_a < 0.0 else 1.0)
        )
        out[row, O_VOLTAGE] = _at(table, position, T_OCV) + warm * polarised_v
        out[row, O_TEMPERATURE] = plates
        out[row, O_SOC] = soc
        if rows[row, R_RESTART] > 0.0:
            moved = rows[row, R_MEASURED] - plates
            cells += moved
            plates += moved
            casing += moved
        out[row, O_CELLS] = cells
