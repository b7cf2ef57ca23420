"""A pack's parameters as the tables that the compiled kernel reads: built once, shared by any number of packs.

Tables are fine enough that what lies between their points does not matter beside what the parameters know:
resistances over 1/256 of the charge, calendar wear over 1/128 of the charge and half a degree.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ConfigError
from twins.pack import layout
from twins.pack.cell import HalfCells, half_cells
from twins.pack.laws import Law, calendar_rate_per_s, calendar_resistance_rate_per_s, law
from twins.pack.layout import SOC_CELLS, TEMPERATURE_CELLS
from twins.pack.parameters import PackParameters, Point

Array = NDArray[np.float64]

GAS_CONSTANT_J_PER_MOL_K: Final = 8.314462618  # CODATA 2018
_SECONDS_PER_MONTH: Final = 365.25 / 12.0 * 86_400.0

# Charge power over the state of charge and over the temperature, as shares of the most: 70 kW at 58 % and 17 to
# 21 degC, 44.6 kW at 25 % and 5 degC, 16.3 kW at 84.7 %, 12.5 kW at 87.7 % (captures); nothing below -20 or above
# 60 degC and the rest between (engineering choice). Discharge: 110 kW at 17 to 21 degC, 66 kW at 5 degC and 25 %.
_CHARGE_TAPER: Final = ((0.0, 1.0), (60.0, 1.0), (84.7, 0.233), (87.7, 0.179), (97.0, 0.05), (100.0, 0.0))
_DISCHARGE_TAPER: Final = ((0.0, 0.0), (3.0, 0.1), (10.0, 0.6), (20.0, 1.0), (100.0, 1.0))
_CHARGE_COLD: Final = ((-20.0, 0.0), (-10.0, 0.15), (5.0, 0.637), (17.0, 1.0), (45.0, 1.0), (55.0, 0.4), (60.0, 0.0))
_DISCHARGE_COLD: Final = ((-25.0, 0.1), (-10.0, 0.3), (5.0, 0.6), (17.0, 1.0), (50.0, 1.0), (60.0, 0.0))


@dataclass(frozen=True, slots=True)
class Groups:
    """How the series groups of one pack differ from their mean: factors of capacity, resistance, self-discharge."""

    capacity: Array
    resistance: Array
    leak: Array

    @classmethod
    def drawn(cls, parameters: PackParameters, rng: random.Random) -> Self:
        """Normal deviations with the pack's spread, three standard deviations at most; they mean 1."""

        def around_one(sd_percent: float) -> Array:
            sd = sd_percent / 100.0
            drawn = np.array([max(-3.0, min(3.0, rng.gauss(0.0, 1.0))) for _ in range(parameters.groups_in_series)])
            return np.asarray(1.0 + sd * (drawn - drawn.mean()))

        spread = parameters.spread
        return cls(
            around_one(spread.capacity_sd_percent),
            around_one(spread.resistance_sd_percent),
            np.maximum(around_one(spread.self_discharge_sd_percent), 0.0),
        )

    @property
    def table(self) -> Array:
        """All of it as the kernel takes it: (groups, 4), the last column one over the capacity."""
        return np.column_stack((self.capacity, self.resistance, self.leak, 1.0 / self.capacity))


@dataclass(frozen=True, slots=True)
class PackModel:
    """A pack's parameters as the tables that the kernel reads; never changed, shared by any number of packs."""

    parameters: PackParameters
    laws: tuple[Law, ...]  # the first ages the pack, the others are counted beside it
    groups: Groups
    halves: HalfCells
    scalars: Array
    soc_table: Array
    temperature_table: Array
    calendar: Array
    law_numbers: NDArray[np.int64]
    law_table: Array

    @classmethod
    def build(cls, parameters: PackParameters, *, laws: Sequence[str] | None = None, seed: int = 0) -> Self:
        """Tables for `parameters`; `laws` by name, the pack file's own where left out. `seed` draws the groups' spread.

        Raises ConfigError for a law that does not exist or is named twice.
        """
        names = tuple(laws) if laws is not None else (parameters.aging.law,)
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a pack needs one or more different aging laws, not {', '.join(names) or 'none'}")
        chosen = tuple(law(name) for name in names)
        groups = Groups.drawn(parameters, random.Random(f"{seed}/groups"))  # noqa: S311  # spread, not a secret
        return cls(
            parameters=parameters,
            laws=chosen,
            groups=groups,
            halves=half_cells(parameters.cell),
            scalars=_scalars(parameters, groups),
            soc_table=_soc_table(parameters),
            temperature_table=_temperature_table(parameters),
            calendar=_calendar_tables(chosen),
            law_numbers=np.array([each.number for each in chosen], dtype=np.int64),
            law_table=_law_table(chosen),
        )


def _scalars(parameters: PackParameters, groups: Groups) -> Array:
    thermal, cell, limits, aging = parameters.thermal, parameters.cell, parameters.limits, parameters.aging
    made = np.zeros(layout.MODEL_COLUMNS)
    made[layout.M_GROUPS] = parameters.groups_in_series
    made[layout.M_FAST_S] = parameters.resistance.fast_s
    made[layout.M_SLOW_S] = parameters.resistance.slow_s
    made[layout.M_DISCHARGE_FACTOR] = parameters.resistance.discharge_factor
    made[layout.M_HYSTERESIS_V] = cell.hysteresis_v
    made[layout.M_HYSTERESIS_RATE] = cell.hysteresis_rate
    made[layout.M_LEAK_PER_S] = cell.self_discharge_percent_per_month / 100.0 / _SECONDS_PER_MONTH
    made[layout.M_CELLS_J_PER_K] = thermal.cells_j_per_k
    made[layout.M_PLATES_J_PER_K] = thermal.plates_j_per_k
    made[layout.M_CASING_J_PER_K] = thermal.casing_j_per_k
    made[layout.M_CELLS_PLATES] = thermal.cells_to_plates_w_per_k
    made[layout.M_PLATES_CASING] = thermal.plates_to_casing_w_per_k
    made[layout.M_STILL_AIR] = thermal.still_air_w_per_k
    made[layout.M_AIR_PER_KM_H] = thermal.air_w_per_k_per_km_h
    made[layout.M_FAN] = thermal.fan_w_per_k
    made[layout.M_FAN_ON_C] = thermal.fan_on_c
    made[layout.M_FAN_OFF_C] = thermal.fan_off_c
    made[layout.M_EVAPORATOR_C] = -100.0 if thermal.evaporator_c is None else thermal.evaporator_c
    made[layout.M_HEATER_W] = thermal.heater_w
    made[layout.M_HEATER_ON_C] = thermal.heater_on_c
    made[layout.M_HEATER_OFF_C] = thermal.heater_off_c
    made[layout.M_HEATER_SOC] = thermal.heater_soc_percent / 100.0
    made[layout.M_RAPID_HEAT] = thermal.rapid_heat_factor
    made[layout.M_LOWEST_V] = limits.lowest_group_v
    made[layout.M_HIGHEST_V] = limits.highest_group_v
    made[layout.M_CHARGE_LIMIT_W] = limits.charge_w
    made[layout.M_DISCHARGE_LIMIT_W] = limits.discharge_w
    made[layout.M_NEW_CAPACITY_AH] = parameters.capacity_ah
    made[layout.M_CALENDAR_SCALE] = aging.calendar_scale
    made[layout.M_CYCLE_SCALE] = aging.cycle_scale
    made[layout.M_FLOWING_C_RATE] = float(aging.c_rate == "flowing")
    made[layout.M_LITHIUM_SHARE] = aging.lithium_share
    made[layout.M_COLD_CHARGING] = float(aging.cold_charging)
    made[layout.M_LEAST_CAPACITY] = groups.capacity.min()
    made[layout.M_MOST_CAPACITY] = groups.capacity.max()
    made[layout.M_MOST_RESISTANCE] = groups.resistance.max()
    made[layout.M_BALANCING_A] = parameters.spread.balancing_a
    return made


def _soc_table(parameters: PackParameters) -> Array:
    grid = np.linspace(0.0, 100.0, SOC_CELLS + 1)
    resistance = parameters.resistance
    made = np.empty((SOC_CELLS + 1, layout.SOC_COLUMNS))
    for column, values in (
        (layout.T_SERIES, resistance.series_ohm),
        (layout.T_FAST, resistance.fast_ohm),
        (layout.T_SLOW, resistance.slow_ohm),
    ):
        made[:, column] = np.interp(grid, resistance.soc_percent, values)
    made[:, layout.T_ENTROPIC] = interpolated(parameters.cell.entropic_v_per_k, grid)
    made[:, layout.T_CHARGE_TAPER] = interpolated(_CHARGE_TAPER, grid)
    made[:, layout.T_DISCHARGE_TAPER] = interpolated(_DISCHARGE_TAPER, grid)
    return made


def temperature_grid_c() -> Array:
    """The temperatures of the kernel's tables."""
    return np.asarray(layout.TEMPERATURE_LOW_C + layout.TEMPERATURE_STEP_C * np.arange(TEMPERATURE_CELLS + 1.0))


def _temperature_table(parameters: PackParameters) -> Array:
    celsius = temperature_grid_c()
    made = np.empty((TEMPERATURE_CELLS + 1, layout.TEMPERATURE_COLUMNS))
    inverse = 1.0 / (celsius + 273.15) - 1.0 / 298.15
    activation = parameters.resistance.activation_j_per_mol / GAS_CONSTANT_J_PER_MOL_K
    made[:, layout.K_ARRHENIUS] = np.exp(activation * inverse)
    made[:, layout.K_CHARGE] = interpolated(_CHARGE_COLD, celsius)
    made[:, layout.K_DISCHARGE] = interpolated(_DISCHARGE_COLD, celsius)
    return made


def _calendar_tables(laws: Sequence[Law]) -> Array:
    soc = np.linspace(0.0, 1.0, layout.CALENDAR_SOC_CELLS + 1)[:, None]
    celsius = temperature_grid_c()[None, :]
    return np.array(
        [[calendar_rate_per_s(each, soc, celsius), calendar_resistance_rate_per_s(each, soc, celsius)] for each in laws]
    )


def _law_table(laws: Sequence[Law]) -> Array:
    made = np.zeros((len(laws), layout.LAW_COLUMNS))
    soc = np.linspace(0.0, 1.0, 11)
    for row, each in zip(made, laws, strict=True):
        valid = each.validity
        row[layout.L_TEMPERATURE_LOW_C], row[layout.L_TEMPERATURE_HIGH_C] = valid.temperature_c
        row[layout.L_DEPTH_LOW], row[layout.L_DEPTH_HIGH] = valid.depth
        row[layout.L_SOC_LOW], row[layout.L_SOC_HIGH] = valid.soc
        row[layout.L_C_RATE_MAX] = valid.c_rate_max
        row[layout.L_OWN_COLD] = float(each.has_cold_charging)
        row[layout.L_RESISTANCE_CALENDAR] = float(
            np.any(calendar_resistance_rate_per_s(each, soc, np.full_like(soc, 25.0)) > 0.0)
        )
    return made


def interpolated(points: Sequence[Point], at: Array) -> Array:
    """Straight lines between points, constant beyond them."""
    return np.asarray(np.interp(at, [x for x, _ in points], [y for _, y in points]))
