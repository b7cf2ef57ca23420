"""What is true of a pack at one moment: charge, temperature, capacity, wear by every law and by cause, registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ConfigError
from twins.pack import kernel, layout
from twins.pack.laws import TERMS, Law, loss
from twins.pack.layout import SOC_CELLS, WEAR_COLUMNS
from twins.pack.model import PackModel
from twins.pack.series import PackState
from twins.pack.uses import Use

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LawWear:
    """What one law says of a pack so far. Losses are fractions of the new capacity."""

    law: str
    capacity_loss: float
    calendar_part: float
    cycle_part: float
    resistance_growth: float
    share_outside_validity: float
    by_cause: Mapping[str, float]
    """Live attribution: calendar time, each use that discharged, and the extra of rapid and of cold charging.

    Aumann and Shapley's split in the linearising variable, calendar and cycle part apart; the parts add up to the loss.
    """


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The true state of one pack, with units in the names; registers count from the state's beginning."""

    time_s: float
    soc: float
    temperature_c: float
    capacity_ah: float
    soh: float
    resistance_growth: float
    efc: float
    charged_ah: float
    discharged_ah: float
    charged_wh: float
    discharged_wh: float
    loss_wh: float
    entropic_wh: float
    rapid_extra_wh: float
    heater_wh: float
    aging_wh: float
    stored_wh: float
    polarisation_wh: float
    limited_s: float
    limited_wh: float
    hot_s: float
    full_s: float
    empty_s: float
    cold_charge_s: float
    hottest_c: float
    coldest_c: float
    by_use: Mapping[Use, Mapping[str, float]]
    laws: Mapping[str, LawWear]


def snapshot(model: PackModel, state: PackState, pack: int = 0) -> Snapshot:
    """What is true of one pack now, waiting half cycles counted."""
    row = state.rows[pack]
    wear_y, wear = state.wear_y[pack].copy(), state.wear[pack].copy()
    cycles = kernel.settle(
        model.scalars, model.law_numbers, model.law_table, row, wear_y, wear,
        state.stack[pack], state.leg[pack].copy(), state.uses[pack],
    )  # fmt: skip
    names = ("seconds", "charged_ah", "discharged_ah", "charged_wh", "discharged_wh")
    resistance = model.parameters.resistance
    return Snapshot(
        time_s=float(row[layout.TIME_S]),
        soc=float(row[layout.SOC]),
        temperature_c=float(row[layout.CELLS_C]),
        capacity_ah=float(row[layout.CAPACITY_AH]),
        soh=float(row[layout.CAPACITY_AH]) / model.parameters.capacity_ah,
        resistance_growth=float(row[layout.RESISTANCE_GROWTH]),
        efc=float(row[layout.EFC]) + cycles,
        charged_ah=float(row[layout.CHARGED_AH]),
        discharged_ah=float(row[layout.DISCHARGED_AH]),
        charged_wh=float(row[layout.CHARGED_WH]),
        discharged_wh=float(row[layout.DISCHARGED_WH]),
        loss_wh=float(row[layout.LOSS_WH]),
        entropic_wh=float(row[layout.ENTROPIC_WH]),
        rapid_extra_wh=float(row[layout.RAPID_EXTRA_WH]),
        heater_wh=float(row[layout.HEATER_WH]),
        aging_wh=float(row[layout.AGING_WH]),
        stored_wh=stored_energy_wh(model, state, pack),
        polarisation_wh=float(
            0.5 * resistance.fast_s * row[layout.FAST_OHM] * row[layout.FAST_A] ** 2
            + 0.5 * resistance.slow_s * row[layout.SLOW_OHM] * row[layout.SLOW_A] ** 2
        )
        / 3600.0,
        limited_s=float(row[layout.LIMITED_S]),
        limited_wh=float(row[layout.LIMITED_WH]),
        hot_s=float(row[layout.HOT_S]),
        full_s=float(row[layout.FULL_S]),
        empty_s=float(row[layout.EMPTY_S]),
        cold_charge_s=float(row[layout.COLD_CHARGE_S]),
        hottest_c=float(row[layout.HOTTEST_C]),
        coldest_c=float(row[layout.COLDEST_C]),
        by_use={use: {name: float(state.uses[pack, use, column]) for column, name in enumerate(names)} for use in Use},
        laws={
            each.key: _law_wear(model, each, wear_y[index], wear[index], each.number)
            for index, each in enumerate(model.laws)
        },
    )


def stored_energy_wh(model: PackModel, state: PackState, pack: int = 0) -> float:
    """Energy under the present open-circuit curve from empty to the present charge."""
    row = state.rows[pack]
    soc = min(max(float(row[layout.SOC]), 0.0), 1.0)
    grid = np.linspace(0.0, 1.0, SOC_CELLS + 1)
    below = grid < soc
    charge = np.append(grid[below], soc)
    volts = np.append(state.curve_v[pack][below], np.interp(soc, grid, state.curve_v[pack]))
    return float(np.trapezoid(volts, charge)) * model.parameters.groups_in_series * float(row[layout.CAPACITY_AH])


def group_voltages_v(model: PackModel, state: PackState, pack: int = 0) -> Array:
    """All group voltages now, in V: carried ones, or rebuilt from the mean group and the spread.

    Groups are balanced when full, so each group's charge follows from the mean; polarisation scales with resistance.
    """
    row, curve = state.rows[pack], state.curve_v[pack]
    socs = state.group_soc[pack]
    if not socs.size:
        socs = 1.0 - (1.0 - row[layout.SOC]) / model.groups.capacity
    own = _rest_v(curve, socs)
    rest_v = own.mean() if state.group_soc.shape[1] else _rest_v(curve, np.array([row[layout.SOC]]))[0]
    polarisation_v = row[layout.VOLTAGE_V] / model.parameters.groups_in_series - rest_v
    return np.asarray(own + model.groups.resistance * polarisation_v)


def _rest_v(curve: Array, soc: Array) -> Array:
    """One group's open-circuit voltage; a straight line beyond the ends of the curve, as the kernel has it."""
    place = soc * SOC_CELLS
    left = np.clip(place.astype(int), 0, SOC_CELLS - 1)
    return np.asarray(curve[left] + (place - left) * (curve[left + 1] - curve[left]))


def series_resistance_ohm(model: PackModel, state: PackState, pack: int = 0) -> float:
    """Series resistance of the whole pack for charging now: state of charge, temperature and growth."""
    row = state.rows[pack]
    series = kernel.look_up(model.soc_table, float(row[layout.SOC]) * SOC_CELLS, layout.T_SERIES)
    warm = (float(row[layout.CELLS_C]) - layout.TEMPERATURE_LOW_C) / layout.TEMPERATURE_STEP_C
    return (
        series
        * kernel.look_up(model.temperature_table, warm, layout.K_ARRHENIUS)
        * (1.0 + float(row[layout.RESISTANCE_GROWTH]))
    )


def limit_w(model: PackModel, state: PackState, pack: int = 0, *, charge: bool) -> float:
    """Power that the battery management lets in (or out) now, positive, by state of charge and temperature."""
    row = state.rows[pack]
    warm = (float(row[layout.CELLS_C]) - layout.TEMPERATURE_LOW_C) / layout.TEMPERATURE_STEP_C
    place = float(row[layout.SOC]) * SOC_CELLS
    most, taper, cold = (
        (layout.M_CHARGE_LIMIT_W, layout.T_CHARGE_TAPER, layout.K_CHARGE)
        if charge
        else (layout.M_DISCHARGE_LIMIT_W, layout.T_DISCHARGE_TAPER, layout.K_DISCHARGE)
    )
    return float(model.scalars[most]) * (
        kernel.look_up(model.soc_table, place, taper) * kernel.look_up(model.temperature_table, warm, cold)
    )


def course_loss(
    model: PackModel, time_s: Array, soc: Array, temperature_c: Array, *, longest_s: float = 200.0
) -> dict[str, LawWear]:
    """Loss by each law of a new pack along a piecewise linear course of charge (fraction) and temperature.

    The course decides, not its nodes: intervals are split until none is longer than `longest_s` for the calendar part.
    Raises ConfigError for arrays of different length, NaN, or time that does not rise.
    """
    course = [np.ascontiguousarray(values, dtype=np.float64) for values in (time_s, soc, temperature_c)]
    if len({values.shape for values in course}) != 1 or course[0].ndim != 1 or course[0].size < 2:
        raise ConfigError("a course is time, charge and temperature of one length, with two nodes or more")
    if not all(np.isfinite(values).all() for values in course) or not (np.diff(course[0]) > 0).all():
        raise ConfigError("a course has finite values, and its time rises")
    points = max(1, int(np.ceil(float(np.diff(course[0]).max()) / longest_s)))
    wear_y = np.zeros((len(model.laws), TERMS))
    kernel.wear_trajectory(
        course[0],
        course[1],
        course[2],
        model.parameters.capacity_ah,
        model.scalars,
        model.calendar,
        model.law_numbers,
        model.law_table,
        wear_y,
        points,
    )
    empty = np.zeros(WEAR_COLUMNS)
    return {
        each.key: _law_wear(model, each, wear_y[index], empty, each.number) for index, each in enumerate(model.laws)
    }


def _law_wear(model: PackModel, each: Law, wear_y: Array, wear: Array, number: int) -> LawWear:
    aging = model.parameters.aging
    lost, grown, calendar, cycle = loss(number, wear_y, aging.calendar_scale, aging.cycle_scale)
    by_cause = {"time": calendar}
    cycle_y = float(wear[: layout.W_RAPID + 1].sum())
    if cycle_y > 0.0:
        names = [use.name.lower() for use in Use] + ["cold_charging", "rapid_charging"]
        by_cause |= {name: cycle * float(wear[column]) / cycle_y for column, name in enumerate(names) if wear[column]}
    elif cycle:
        by_cause["cycles"] = cycle
    outside = 0.0
    if wear_y[0] > 0.0:
        outside += calendar * float(wear[layout.W_OUTSIDE_CALENDAR]) / float(wear_y[0])
    if cycle_y > 0.0:
        outside += cycle * float(wear[layout.W_OUTSIDE_CYCLE]) / cycle_y
    return LawWear(each.key, lost, calendar, cycle, grown, outside / lost if lost > 0.0 else 0.0, by_cause)
