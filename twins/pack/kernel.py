"""One compiled step that moves a pack through a second: electrical, thermal, rainflow, aging, attribution.

The step API, the series API and the fleet API are this one function called with one sample, a chunk, or many packs, so
their numbers are the same to the last bit, and any chunking gives the same bits too: everything that lasts from step to
step lies in the state arrays (`twins.pack.layout`).

Electrical. Terminal power P, held over a step of dt, meets the mean voltage of that step:

    P = I * (G * (OCV(soc_mid) + h) + R0 I + R1 mean(w1) + R2 mean(w2)),   w_k' = w_k + (I - w_k) (1 - exp(-dt/tau_k))

G groups in series; w_k is the current filtered by an RC element, so R_k may follow temperature and state of charge
without jumps of voltage that nobody paid for. The open-circuit voltage is taken at the middle of the step (linearised
in the current, and once more where the middle lies in another piece of the curve), the RC elements are integrated
exactly. So terminal work = change of stored energy + irreversible loss, to rounding, where a start-of-step voltage
leaves 2e-5.

Thermal. Cells, plates, casing in a chain to the air; implicit trapezoidal rule, stable at any step. Heat = irreversible
loss + entropic heat I T dU/dT (Bernardi 1985), in a rapid charge times the pack's own factor, that extra booked apart.

Aging. Per law, calendar wear adds up in its linearising variable each step at the step's mean state; cycle wear adds up
as rainflow closes cycles. At each midnight of the state's own clock the first law's loss shifts the half-cell curves;
what the smaller capacity no longer holds is booked as `AGING_WH`. The C-rate of a leg is its depth over the time
between its turning points, or over the time in which current flowed: the tests behind the laws had no pauses, so how
those of a real day count is a convention (`aging.c_rate` of the pack file).

Attribution (live). A cycle's wear goes to the uses that discharged it, in the shares of their ampere-hours; the
recharge leg to whoever discharged. Charging keeps only its extra stress: cold charging, and rapid charging above C/6.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from twins.pack.cell import fill_aged_curve
from twins.pack.compiled import compiled
from twins.pack.laws import anode_loss, cold_charging_factor, cycle_increment, loss
from twins.pack.layout import (
    AGING_AH,
    AGING_WH,
    BMS_LIMIT,
    CALENDAR_SOC_CELLS,
    CAPACITY_AH,
    CAPACITY_LOSS,
    CASING_C,
    CELLS_BEFORE_C,
    CELLS_C,
    CHARGED_AH,
    CHARGED_WH,
    COLD_CHARGE_S,
    COLDEST_C,
    CURRENT_A,
    DEPTH_OF_STACK,
    DIRECTION,
    DISCHARGED_AH,
    DISCHARGED_WH,
    EFC,
    EMPTY,
    EMPTY_S,
    ENTROPIC_WH,
    FAN,
    FAST_A,
    FAST_OHM,
    FULL,
    FULL_S,
    G_ACTIVE_S,
    G_AH,
    G_AH_C,
    G_CHARGED_AH,
    G_COLD,
    G_DISCHARGED_AH,
    G_RAPID_AH,
    G_SECONDS,
    GROWTH_AT_START,
    HEATER,
    HEATER_WH,
    HIGH_VOLTAGE,
    HIGHEST_GROUP_V,
    HOT_S,
    HOTTEST_C,
    HYSTERESIS,
    K_ARRHENIUS,
    K_CHARGE,
    K_DISCHARGE,
    L_C_RATE_MAX,
    L_DEPTH_HIGH,
    L_DEPTH_LOW,
    L_OWN_COLD,
    L_RESISTANCE_CALENDAR,
    L_SOC_HIGH,
    L_SOC_LOW,
    L_TEMPERATURE_HIGH_C,
    L_TEMPERATURE_LOW_C,
    LEAK_AH,
    LEG_COLUMNS,
    LIMITED,
    LIMITED_S,
    LIMITED_WH,
    LOSS_AT_START,
    LOSS_WH,
    LOW_VOLTAGE,
    LOWEST_GROUP_V,
    M_AIR_PER_KM_H,
    M_BALANCING_A,
    M_CALENDAR_SCALE,
    M_CASING_J_PER_K,
    M_CELLS_J_PER_K,
    M_CELLS_PLATES,
    M_CHARGE_LIMIT_W,
    M_COLD_CHARGING,
    M_CYCLE_SCALE,
    M_DISCHARGE_FACTOR,
    M_DISCHARGE_LIMIT_W,
    M_EVAPORATOR_C,
    M_FAN,
    M_FAN_OFF_C,
    M_FAN_ON_C,
    M_FAST_S,
    M_FLOWING_C_RATE,
    M_GROUPS,
    M_HEATER_OFF_C,
    M_HEATER_ON_C,
    M_HEATER_SOC,
    M_HEATER_W,
    M_HIGHEST_V,
    M_HYSTERESIS_RATE,
    M_HYSTERESIS_V,
    M_LEAK_PER_S,
    M_LEAST_CAPACITY,
    M_LITHIUM_SHARE,
    M_LOWEST_V,
    M_MOST_CAPACITY,
    M_MOST_RESISTANCE,
    M_NEW_CAPACITY_AH,
    M_PLATES_CASING,
    M_PLATES_J_PER_K,
    M_RAPID_HEAT,
    M_SLOW_S,
    M_STILL_AIR,
    MOST_POWER,
    NEXT_AGING_S,
    OVERFLOWS,
    PAUSE_S,
    PLATES_C,
    POWER_W,
    RAPID_EXTRA_WH,
    RESISTANCE_GROWTH,
    SLOW_A,
    SLOW_OHM,
    SOC,
    SOC_CELLS,
    STACK,
    STOPPED,
    T_CHARGE_TAPER,
    T_DISCHARGE_TAPER,
    T_ENTROPIC,
    T_FAST,
    T_SERIES,
    T_SLOW,
    TEMPERATURE_CELLS,
    TEMPERATURE_LOW_C,
    TEMPERATURE_STEP_C,
    TIME_S,
    U_CHARGED_AH,
    U_CHARGED_WH,
    U_DISCHARGED_AH,
    U_DISCHARGED_WH,
    U_SECONDS,
    USES,
    VOLTAGE_V,
    W_COLD,
    W_OUTSIDE_CALENDAR,
    W_OUTSIDE_CYCLE,
    W_RAPID,
)
from twins.pack.rainflow import (
    C_BACK,
    C_CYCLES,
    C_DEPTH,
    C_MEAN,
    C_OWN,
    C_RISING,
    CYCLE_COLUMNS,
    remainder,
    turn,
)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_DAY_S = 86_400.0
_HOURS = 1.0 / 3600.0
_HARDLY = 1e-3  # less than this share of a cycle's charge is self-discharge on the way up, not a use
_SHORT_S = 2.0  # in steps up to this the groups' curves are straight enough to solve for the current
_ACTIVE_A = 0.05  # below it a current is a pause; it keeps the C-rate of a cycle from being that of its idle hours
_REFERENCE_C_RATE = 1.0 / 6.0  # charging faster than the 6.6 kW charger is rapid charging's own stress
_DRIVING, _V2G, _CHARGING, _RAPID = 1, 2, 3, 4
_HOT_C, _FULL_SOC, _EMPTY_SOC, _COLD_C = 40.0, 0.9, 0.1, 10.0
_NEAR_V = 0.05  # closer than this to a limit by the worst bound on a group, every group is looked at
_BALANCED = 0.002  # of the capacity: groups are not brought closer together than this


@compiled
def advance_packs(  # noqa: C901, PLR0912, PLR0915  # one loop, so that the state of a pack stays in registers
    first: int,
    last: int,
    model: Array,
    soc_table: Array,
    temperature_table: Array,
    calendar: Array,
    law_numbers: Indices,
    law_table: Array,
    anode: Array,
    cathode: Array,
    geometry: Array,
    group_table: Array,
    state: Array,
    curve: Array,
    wear_y: Array,
    wear: Array,
    stack: Array,
    leg: Array,
    uses: Array,
    group_soc: Array,
    dt: float,
    power: Array,
    ambient: Array,
    speed: Array,
    use: Bytes,
    ceiling: Array,
    floor: Array,
    obey_limits: bool,
    record: Indices,
    every: int,
    out: Array,
) -> None:
    """Advance the packs `first` to `last` - 1 through all samples of the drive; see `twins.pack.series.advance`.

    Model: `model` (MODEL_COLUMNS), `soc_table` (SOC_CELLS + 1, SOC_COLUMNS), `temperature_table` (TEMPERATURE_CELLS +
    1, TEMPERATURE_COLUMNS), `calendar` (laws, 2, CALENDAR_SOC_CELLS + 1, TEMPERATURE_CELLS + 1), `group_table` (groups,
    4: capacity, resistance and leak relative to the mean, and one over the capacity). State: one row per pack;
    `group_soc` has no columns where the groups are not carried. Drive: (rows, samples), where rows is 1 for all packs
    or one per pack, and one sample stands for all.
    """
    samples = power.shape[1]
    laws = law_numbers.shape[0]
    carried = group_soc.shape[1] > 0
    recorded = record.shape[0]
    fast_s, slow_s = model[M_FAST_S], model[M_SLOW_S]
    fast_stays, slow_stays = math.exp(-dt / fast_s), math.exp(-dt / slow_s)
    fast_mean = fast_s * (1.0 - fast_stays) / dt
    slow_mean = slow_s * (1.0 - slow_stays) / dt
    fast_square = 0.5 * fast_s * (1.0 - fast_stays * fast_stays)
    slow_square = 0.5 * slow_s * (1.0 - slow_stays * slow_stays)
    in_series = model[M_GROUPS]
    discharge_factor = model[M_DISCHARGE_FACTOR]
    cells_rate, plates_rate, casing_rate = (
        model[M_CELLS_J_PER_K] / dt,
        model[M_PLATES_J_PER_K] / dt,
        model[M_CASING_J_PER_K] / dt,
    )
    to_plates, to_casing = model[M_CELLS_PLATES], model[M_PLATES_CASING]
    hysteresis_v = model[M_HYSTERESIS_V]
    hours = dt / 3600.0
    per_second = 1.0 / dt
    drained_soc = model[M_LEAK_PER_S] * dt
    closed = np.empty((2 * STACK, CYCLE_COLUMNS))
    one_power, one_ambient, one_speed = power.shape[0] == 1, ambient.shape[0] == 1, speed.shape[0] == 1
    one_use, one_ceiling, one_floor = use.shape[0] == 1, ceiling.shape[0] == 1, floor.shape[0] == 1
    held_ambient, held_speed, held_use = ambient.shape[1] == 1, speed.shape[1] == 1, use.shape[1] == 1
    held_ceiling, held_floor = ceiling.shape[1] == 1, floor.shape[1] == 1
    for pack in range(first, last):
        row = state[pack]
        volts = curve[pack]
        now = leg[pack]
        points = stack[pack]
        soc = row[SOC]
        fast_a, slow_a, hysteresis = row[FAST_A], row[SLOW_A], row[HYSTERESIS]
        fast_ohm, slow_ohm = row[FAST_OHM], row[SLOW_OHM]
        cells_c, plates_c, casing_c = row[CELLS_C], row[PLATES_C], row[CASING_C]
        before_c = row[CELLS_BEFORE_C]
        fan, heater = row[FAN], row[HEATER]
        direction, pause_s = row[DIRECTION], row[PAUSE_S]
        waiting = int(row[DEPTH_OF_STACK])
        time_s = row[TIME_S]
        capacity_ah = row[CAPACITY_AH]
        growth = 1.0 + row[RESISTANCE_GROWTH]
        per_ampere = hours / capacity_ah  # state of charge per ampere over the step
        half = 0.5 * per_ampere
        whole_leak_a = model[M_LEAK_PER_S] * 3600.0 * capacity_ah
        power_row = power[0] if one_power else power[pack]
        ambient_row = ambient[0] if one_ambient else ambient[pack]
        speed_row = speed[0] if one_speed else speed[pack]
        use_row = use[0] if one_use else use[pack]
        ceiling_row = ceiling[0] if one_ceiling else ceiling[pack]
        floor_row = floor[0] if one_floor else floor[pack]
        known_speed, known_fan = -1.0, -1.0
        eliminated_plates = eliminated_casing = per_plates = per_casing = to_air = to_duct = 0.0
        per_cells = 1.0 / (cells_rate + 0.5 * to_plates)
        for sample in range(samples):
            asked_w = power_row[sample]
            air_c = ambient_row[0 if held_ambient else sample]
            km_h = speed_row[0 if held_speed else sample]
            used = use_row[0 if held_use else sample]
            # Heater and fan are switched on what the sensors saw at the end of the last step.
            plugged = used >= _V2G
            if heater > 0.0:
                if plates_c >= model[M_HEATER_OFF_C] or not (plugged or soc >= model[M_HEATER_SOC]):
                    heater = 0.0
            elif model[M_HEATER_W] > 0.0 and plates_c <= model[M_HEATER_ON_C]:
                heater = 1.0 if (plugged or soc >= model[M_HEATER_SOC]) else 0.0
            if fan > 0.0:
                if plates_c <= model[M_FAN_OFF_C] or not plugged:
                    fan = 0.0
            elif model[M_FAN] > 0.0 and plugged and plates_c >= model[M_FAN_ON_C]:
                fan = 1.0
            wanted_w = asked_w - heater * model[M_HEATER_W]

            # Where the tables are read: the state of charge at the start of the step, and the temperature one step
            # older, so that the next current does not have to wait for the heat of the last one.
            place = soc * SOC_CELLS
            left = min(max(int(place), 0), SOC_CELLS - 1)
            part = place - left
            warm = (before_c - TEMPERATURE_LOW_C) / TEMPERATURE_STEP_C
            warm = min(max(warm, 0.0), TEMPERATURE_CELLS - 1e-9)
            colder = int(warm)
            warmer = warm - colder
            arrhenius = growth * _read(temperature_table, colder, warmer, K_ARRHENIUS)
            inside = min(max(part, 0.0), 1.0)
            limited = 0
            leak_a, leak_soc = (whole_leak_a, drained_soc) if soc > drained_soc else (0.0, 0.0)

            if obey_limits:
                if wanted_w > 0.0:
                    most_w = (
                        model[M_CHARGE_LIMIT_W]
                        * _read(soc_table, left, inside, T_CHARGE_TAPER)
                        * _read(temperature_table, colder, warmer, K_CHARGE)
                    )
                    if wanted_w > most_w:
                        wanted_w = most_w
                        limited |= BMS_LIMIT
                elif wanted_w < 0.0:
                    most_w = (
                        model[M_DISCHARGE_LIMIT_W]
                        * _read(soc_table, left, inside, T_DISCHARGE_TAPER)
                        * _read(temperature_table, colder, warmer, K_DISCHARGE)
                    )
                    if -wanted_w > most_w:
                        wanted_w = -most_w
                        limited |= BMS_LIMIT

            series_ohm = arrhenius * _read(soc_table, left, inside, T_SERIES)
            if wanted_w < 0.0:
                series_ohm *= discharge_factor
            before_fast_ohm, before_slow_ohm = fast_ohm, slow_ohm
            fast_ohm = arrhenius * _read(soc_table, left, inside, T_FAST)
            if fast_a < 0.0:
                fast_ohm *= discharge_factor
            slow_ohm = arrhenius * _read(soc_table, left, inside, T_SLOW)
            if slow_a < 0.0:
                slow_ohm *= discharge_factor
            polarised_v = fast_ohm * fast_a * fast_mean + slow_ohm * slow_a * slow_mean + in_series * hysteresis
            path_ohm = series_ohm + fast_ohm * (1.0 - fast_mean) + slow_ohm * (1.0 - slow_mean)

            # The current with which the mean voltage of the step times the current is the power.
            least_soc, most_soc = soc, soc
            if carried:
                middle_v, slope, least_soc, most_soc = _string(volts, group_soc[pack], group_table)
            else:
                slope = in_series * SOC_CELLS * (volts[left + 1] - volts[left])
                middle_v = in_series * volts[left] + slope * (part / SOC_CELLS - half * leak_a)
            constant_v, total_ohm = middle_v + polarised_v, path_ohm + slope * half
            current, most = _current_for(wanted_w, constant_v, total_ohm)
            ends = soc + 2.0 * half * (current - leak_a)
            if carried:
                if dt > _SHORT_S:
                    constant_v, slope = _bent_string(volts, group_soc[pack], group_table, per_ampere * current, current)
                    constant_v, total_ohm = constant_v + polarised_v, path_ohm + slope
                    current, most = _current_for(wanted_w, constant_v, total_ohm)
            elif min(max(int(ends * SOC_CELLS), 0), SOC_CELLS - 1) != left:
                constant_v, slope = _bent_path(volts, in_series, soc, ends, current)
                constant_v, total_ohm = constant_v + polarised_v, path_ohm + slope
                current, most = _current_for(wanted_w, constant_v, total_ohm)
            if most:
                limited |= MOST_POWER

            # What the pack cannot take or give: groups at their voltage limits, and the two ends of the charge.
            if current < 0.0:
                if not carried:
                    least_soc = 1.0 - (1.0 - soc) / model[M_LEAST_CAPACITY]
                worst_v = _open_circuit(volts, least_soc + half * current / model[M_LEAST_CAPACITY])
                worst_v += model[M_MOST_RESISTANCE] * (min(polarised_v, 0.0) + path_ohm * current) / in_series
                if worst_v < model[M_LOWEST_V] + _NEAR_V:
                    least_a = _limit_current(
                        model[M_LOWEST_V], volts, soc, group_soc[pack], group_table, half, in_series, polarised_v,
                        path_ohm, -1.0,
                    )  # fmt: skip
                    if current < least_a:
                        current = least_a
                        limited |= LOW_VOLTAGE
                lowest = 0.0
                if used == _V2G:
                    lowest = floor_row[0 if held_floor else sample]
                room_a = max(soc - leak_soc - lowest, 0.0) / per_ampere
                if -current > room_a:
                    current = -room_a
                    limited |= EMPTY if lowest <= 0.0 else STOPPED
            elif current > 0.0:
                if not carried:
                    most_soc = 1.0 - (1.0 - soc) / model[M_MOST_CAPACITY]
                worst_v = _open_circuit(volts, most_soc + half * current / model[M_LEAST_CAPACITY])
                worst_v += model[M_MOST_RESISTANCE] * (max(polarised_v, 0.0) + path_ohm * current) / in_series
                if worst_v > model[M_HIGHEST_V] - _NEAR_V:
                    most_a = _limit_current(
                        model[M_HIGHEST_V], volts, soc, group_soc[pack], group_table, half, in_series, polarised_v,
                        path_ohm, 1.0,
                    )  # fmt: skip
                    if current > most_a:
                        current = most_a
                        limited |= HIGH_VOLTAGE
                highest = 1.0
                if used >= _V2G:
                    highest = min(ceiling_row[0 if held_ceiling else sample], 1.0)
                room_a = max(highest - soc + leak_soc, 0.0) / per_ampere
                if current > room_a:
                    current = room_a
                    limited |= FULL if highest >= 1.0 else STOPPED

            # The path of the current that flows, exactly: voltage at rest, and what leaks away behind the terminals.
            soc_before = soc
            if carried:
                rest_v, leaked_v, soc = _pass_groups(
                    volts, group_soc[pack], group_table, per_ampere * current, leak_soc,
                    model[M_BALANCING_A] * per_ampere if used != _DRIVING else 0.0,
                )  # fmt: skip
                leaked_j = leaked_v * capacity_ah * 3600.0
                drained = (soc_before - soc) * capacity_ah + current * hours
                voltage_v = rest_v + polarised_v + path_ohm * current
                power_w = voltage_v * current
            else:
                if limited & ~BMS_LIMIT and current != 0.0:
                    ends = soc + 2.0 * half * (current - leak_a)
                    constant_v, slope = _bent_path(volts, in_series, soc, ends, current)
                    constant_v, total_ohm = constant_v + polarised_v, path_ohm + slope
                voltage_v = constant_v + total_ohm * current
                power_w = wanted_w if limited & ~BMS_LIMIT == 0 else voltage_v * current
                rest_v = voltage_v - polarised_v - path_ohm * current
                leaked_j = rest_v * leak_a * dt
                drained = leak_a * hours
                soc = min(max(soc + per_ampere * current - leak_soc, 0.0), 1.0)

            # Filtered currents, and the loss that is exactly work less change of what is stored.
            fast_off, slow_off = fast_a - current, slow_a - current
            square = current * current * dt
            fast_loss = square + 2.0 * current * fast_off * fast_mean * dt + fast_off * fast_off * fast_square
            slow_loss = square + 2.0 * current * slow_off * slow_mean * dt + slow_off * slow_off * slow_square
            lost_j = (
                series_ohm * square
                + fast_ohm * fast_loss
                - 0.5 * fast_s * fast_a * fast_a * (fast_ohm - before_fast_ohm)
                + slow_ohm * slow_loss
                - 0.5 * slow_s * slow_a * slow_a * (slow_ohm - before_slow_ohm)
                + leaked_j
            )
            fast_a = current + fast_off * fast_stays
            slow_a = current + slow_off * slow_stays
            if hysteresis_v > 0.0:
                lost_j += in_series * hysteresis * current * dt
                sign = 1.0 if current > 0.0 else -1.0
                pull = 1.0 - math.exp(-model[M_HYSTERESIS_RATE] * abs(soc - soc_before))
                if current != 0.0:
                    hysteresis += (sign * hysteresis_v - hysteresis) * pull

            # Heat and the three temperatures.
            entropic_v = in_series * _read(soc_table, left, inside, T_ENTROPIC)
            entropic_j = current * (cells_c + 273.15) * entropic_v * dt
            extra_j = (model[M_RAPID_HEAT] - 1.0) * lost_j if used == _RAPID else 0.0
            if km_h != known_speed or fan != known_fan:
                known_speed, known_fan = km_h, fan
                to_air = model[M_STILL_AIR] + model[M_AIR_PER_KM_H] * km_h
                to_duct = fan * model[M_FAN]
                eliminated_plates = 0.5 * to_plates * per_cells
                per_plates = 1.0 / (
                    plates_rate + 0.5 * (to_plates + to_casing + to_duct) - 0.5 * to_plates * eliminated_plates
                )
                eliminated_casing = 0.5 * to_casing * per_plates
                per_casing = 1.0 / (casing_rate + 0.5 * (to_casing + to_air) - 0.5 * to_casing * eliminated_casing)
            duct_c = model[M_EVAPORATOR_C] if model[M_EVAPORATOR_C] > -99.0 else air_c
            heat_w = (lost_j + entropic_j + extra_j) * per_second
            down = to_plates * (cells_c - plates_c)
            out_w = to_casing * (plates_c - casing_c)
            right_cells = heat_w - down
            right_plates = (
                down - out_w + to_duct * (duct_c - plates_c) + heater * model[M_HEATER_W]
            ) + eliminated_plates * right_cells
            right_casing = (out_w + to_air * (air_c - casing_c)) + eliminated_casing * right_plates
            rise_casing = right_casing * per_casing
            rise_plates = (right_plates + 0.5 * to_casing * rise_casing) * per_plates
            rise_cells = (right_cells + 0.5 * to_plates * rise_plates) * per_cells
            before_c = cells_c
            cells_mid_c = cells_c + 0.5 * rise_cells
            cells_c += rise_cells
            plates_c += rise_plates
            casing_c += rise_casing

            # Calendar wear at the mean state of the step.
            soc_mid = 0.5 * (soc_before + soc)
            place = soc_mid * CALENDAR_SOC_CELLS
            left = min(int(place), CALENDAR_SOC_CELLS - 1)
            part = place - left
            warm = (cells_mid_c - TEMPERATURE_LOW_C) / TEMPERATURE_STEP_C
            warm = min(max(warm, 0.0), TEMPERATURE_CELLS - 1e-9)
            colder = int(warm)
            warmer = warm - colder
            for law in range(laws):
                gained = _between(calendar, law, 0, left, part, colder, warmer) * dt
                wear_y[pack, law, 0] += gained
                if (
                    cells_mid_c < law_table[law, L_TEMPERATURE_LOW_C]
                    or cells_mid_c > law_table[law, L_TEMPERATURE_HIGH_C]
                    or soc_mid < law_table[law, L_SOC_LOW]
                    or soc_mid > law_table[law, L_SOC_HIGH]
                ):
                    wear[pack, law, W_OUTSIDE_CALENDAR] += gained
                if law_table[law, L_RESISTANCE_CALENDAR] > 0.0:
                    wear_y[pack, law, 2] += _between(calendar, law, 1, left, part, colder, warmer) * dt

            # Turning points of the state of charge, and what happens on the leg between them. A pause belongs to the
            # leg before it, once that goes on or has ended: an open leg does not slow down, and a leak turns nothing.
            active = abs(current) > _ACTIVE_A
            if active and current * direction < 0.0:
                now[G_SECONDS] += pause_s
                pause_s = 0.0
                _copy_leg(now, points[waiting - 1])
                waiting, written, given_up = turn(points, waiting, soc_before, closed)
                row[OVERFLOWS] += given_up
                for cycle in range(written):
                    row[EFC] += closed[cycle, C_CYCLES] * closed[cycle, C_DEPTH]
                    _wear_of_cycle(closed[cycle], cells_c, model, law_numbers, law_table,
                                   wear_y[pack], wear[pack], uses[pack])  # fmt: skip
            moved_ah = current * hours
            if active:
                direction = current
                now[G_SECONDS] += pause_s + dt
                now[G_ACTIVE_S] += dt
                pause_s = 0.0
            else:
                pause_s += dt
            uses[pack, used, U_SECONDS] += dt
            if current > 0.0:
                now[G_AH] += moved_ah
                now[G_AH_C] += moved_ah * cells_mid_c
                now[G_CHARGED_AH] += moved_ah
                if used == _RAPID:
                    now[G_RAPID_AH] += moved_ah
                if cells_mid_c < _COLD_C:
                    now[G_COLD] += moved_ah * (cold_charging_factor(cells_mid_c, current / capacity_ah) - 1.0)
                    if current > _ACTIVE_A:
                        row[COLD_CHARGE_S] += dt
                uses[pack, used, U_CHARGED_AH] += moved_ah
                uses[pack, used, U_CHARGED_WH] += power_w * hours
                row[CHARGED_AH] += moved_ah
                row[CHARGED_WH] += power_w * hours
            elif current < 0.0:
                now[G_AH] -= moved_ah
                now[G_AH_C] -= moved_ah * cells_mid_c
                now[G_DISCHARGED_AH + used] -= moved_ah
                uses[pack, used, U_DISCHARGED_AH] -= moved_ah
                uses[pack, used, U_DISCHARGED_WH] -= power_w * hours
                row[DISCHARGED_AH] -= moved_ah
                row[DISCHARGED_WH] -= power_w * hours
            if current == 0.0:
                now[G_DISCHARGED_AH] += drained  # self-discharge is nobody's use
            row[LEAK_AH] += drained
            row[LOSS_WH] += lost_j * _HOURS
            row[ENTROPIC_WH] += entropic_j * _HOURS
            row[RAPID_EXTRA_WH] += extra_j * _HOURS
            row[HEATER_WH] += heater * model[M_HEATER_W] * hours
            if limited & ~STOPPED:
                row[LIMITED_S] += dt
                row[LIMITED_WH] += abs(asked_w - heater * model[M_HEATER_W] - power_w) * hours
            if cells_c > _HOT_C:
                row[HOT_S] += dt
            if soc > _FULL_SOC:
                row[FULL_S] += dt
            elif soc < _EMPTY_SOC:
                row[EMPTY_S] += dt
            row[HOTTEST_C] = max(row[HOTTEST_C], cells_c)
            row[COLDEST_C] = min(row[COLDEST_C], cells_c)
            time_s += dt
            if time_s >= row[NEXT_AGING_S]:
                row[NEXT_AGING_S] += _DAY_S * math.ceil((time_s - row[NEXT_AGING_S] + 1e-9) / _DAY_S)
                row[SOC], row[CAPACITY_AH], row[DEPTH_OF_STACK] = soc, capacity_ah, waiting
                row[CELLS_C] = cells_c
                age_pack(model, law_numbers, law_table, anode, cathode, geometry,
                         row, volts, wear_y[pack], points, now, uses[pack])  # fmt: skip
                capacity_ah = row[CAPACITY_AH]
                growth = 1.0 + row[RESISTANCE_GROWTH]
                per_ampere = hours / capacity_ah
                half = 0.5 * per_ampere
                whole_leak_a = model[M_LEAK_PER_S] * 3600.0 * capacity_ah
            row[VOLTAGE_V], row[CURRENT_A], row[POWER_W], row[LIMITED] = voltage_v, current, power_w, limited
            if recorded and (sample + 1) % every == 0:
                row[SOC], row[CELLS_C], row[PLATES_C], row[CASING_C] = soc, cells_c, plates_c, casing_c
                row[FAST_A], row[SLOW_A], row[FAN], row[HEATER], row[TIME_S] = fast_a, slow_a, fan, heater, time_s
                row[FAST_OHM], row[SLOW_OHM] = fast_ohm, slow_ohm
                row[LOWEST_GROUP_V], row[HIGHEST_GROUP_V] = _extremes(
                    volts, soc, (voltage_v - rest_v) / in_series, group_soc[pack], group_table
                )
                at = (sample + 1) // every - 1
                for column in range(recorded):
                    out[pack, column, at] = row[record[column]]
        row[SOC], row[FAST_A], row[SLOW_A], row[HYSTERESIS] = soc, fast_a, slow_a, hysteresis
        row[PAUSE_S] = pause_s
        row[FAST_OHM], row[SLOW_OHM] = fast_ohm, slow_ohm
        row[CELLS_C], row[PLATES_C], row[CASING_C], row[CELLS_BEFORE_C] = cells_c, plates_c, casing_c, before_c
        row[FAN], row[HEATER], row[DIRECTION], row[DEPTH_OF_STACK], row[TIME_S] = (
            fan,
            heater,
            direction,
            waiting,
            time_s,
        )


@compiled
def look_up(table: Array, place: float, column: int) -> float:
    """One column of a table at a place counted in rows, held at both ends."""
    left = min(max(int(place), 0), table.shape[0] - 2)
    return _read(table, left, min(max(place - left, 0.0), 1.0), column)


@compiled
def age_pack(
    model: Array,
    law_numbers: Indices,
    law_table: Array,
    anode: Array,
    cathode: Array,
    geometry: Array,
    row: Array,
    volts: Array,
    wear_y: Array,
    points: Array,
    now: Array,
    uses: Array,
) -> None:
    """Let the first law's loss shift the half-cell curves of one pack; book what the curve no longer holds."""
    lost, grown, anode_loss_of = _settled_loss(model, law_numbers, law_table, row, wear_y, points, now, uses)
    lost = min(max(lost + row[LOSS_AT_START], row[CAPACITY_LOSS]), 0.95)
    before_wh = _stored_wh(volts, row[SOC], row[CAPACITY_AH], model[M_GROUPS])
    before_ah = row[CAPACITY_AH]
    ratio = fill_aged_curve(anode, cathode, geometry, lost, model[M_LITHIUM_SHARE], anode_loss_of, volts)
    row[CAPACITY_AH] = model[M_NEW_CAPACITY_AH] * ratio
    row[CAPACITY_LOSS] = lost
    row[RESISTANCE_GROWTH] = max((1.0 + grown) / (1.0 + row[GROWTH_AT_START]) - 1.0, row[RESISTANCE_GROWTH])
    row[AGING_WH] += before_wh - _stored_wh(volts, row[SOC], row[CAPACITY_AH], model[M_GROUPS])
    row[AGING_AH] += row[SOC] * (before_ah - row[CAPACITY_AH])


@compiled
def settle(
    model: Array,
    law_numbers: Indices,
    law_table: Array,
    row: Array,
    wear_y: Array,
    wear: Array,
    points: Array,
    now: Array,
    uses: Array,
) -> float:
    """Count what still waits on the stack as rainflow's half cycles, into `wear_y` and `wear`: call with copies.

    Returns the equivalent full cycles of those half cycles.
    """
    closed = np.empty((2 * STACK, CYCLE_COLUMNS))
    waiting = int(row[DEPTH_OF_STACK])
    copy = points.copy()
    _copy_leg(now, copy[waiting - 1])
    waiting, written, _ = turn(copy, waiting, row[SOC], closed)
    written = remainder(copy, waiting, closed, written)
    cycles = 0.0
    for cycle in range(written):
        cycles += closed[cycle, C_CYCLES] * closed[cycle, C_DEPTH]
        _wear_of_cycle(closed[cycle], row[CELLS_C], model, law_numbers, law_table, wear_y, wear, uses)
    return cycles


@compiled
def wear_trajectory(
    time_s: Array,
    soc: Array,
    temperature_c: Array,
    capacity_ah: float,
    model: Array,
    calendar: Array,
    law_numbers: Indices,
    law_table: Array,
    wear_y: Array,
    points: int,
) -> None:
    """Add to `wear_y` the wear of a piecewise linear course of state of charge and temperature, from empty counters.

    The course is what it is, however many nodes tell it: calendar wear takes `points` midpoints an interval.
    """
    wear = np.zeros((law_numbers.shape[0], W_OUTSIDE_CYCLE + 1))
    nobody = np.zeros((USES, U_DISCHARGED_WH + 1))
    stack = np.zeros((STACK, 1 + LEG_COLUMNS))
    closed = np.empty((2 * STACK, CYCLE_COLUMNS))
    now = np.zeros(LEG_COLUMNS)
    stack[0, 0] = soc[0]
    waiting = 1
    direction, pause_s = 0.0, 0.0
    for node in range(1, time_s.shape[0]):
        dt = time_s[node] - time_s[node - 1]
        for point in range(points):
            share = (point + 0.5) / points
            for law in range(law_numbers.shape[0]):
                wear_y[law, 0] += _calendar_at(
                    calendar,
                    law,
                    soc[node - 1] + share * (soc[node] - soc[node - 1]),
                    temperature_c[node - 1] + share * (temperature_c[node] - temperature_c[node - 1]),
                ) * (dt / points)
        moved = soc[node] - soc[node - 1]
        if moved * direction < 0.0:
            now[G_SECONDS] += pause_s
            pause_s = 0.0
            _copy_leg(now, stack[waiting - 1])
            waiting, written, _ = turn(stack, waiting, soc[node - 1], closed)
            for cycle in range(written):
                _wear_of_cycle(closed[cycle], 25.0, model, law_numbers, law_table, wear_y, wear, nobody)
        if moved == 0.0:
            pause_s += dt
            continue
        direction = moved
        ah = abs(moved) * capacity_ah
        now[G_SECONDS] += pause_s + dt
        pause_s = 0.0
        now[G_ACTIVE_S] += dt
        now[G_AH] += ah
        now[G_AH_C] += ah * 0.5 * (temperature_c[node] + temperature_c[node - 1])
        if moved > 0.0:
            now[G_CHARGED_AH] += ah
        else:
            now[G_DISCHARGED_AH + _DRIVING] += ah
    _copy_leg(now, stack[waiting - 1])
    waiting, written, _ = turn(stack, waiting, soc[-1], closed)
    written = remainder(stack, waiting, closed, written)
    for cycle in range(written):
        _wear_of_cycle(closed[cycle], 25.0, model, law_numbers, law_table, wear_y, wear, nobody)


@compiled
def _read(table: Array, left: int, part: float, column: int) -> float:
    """Linear between two rows of a table."""
    return float(table[left, column] + part * (table[left + 1, column] - table[left, column]))


@compiled
def _between(calendar: Array, law: int, kind: int, left: int, part: float, colder: int, warmer: float) -> float:
    """Linear between the four table values around a place; takes whole arrays, since each view costs a count."""
    low = calendar[law, kind, left, colder]
    low += warmer * (calendar[law, kind, left, colder + 1] - low)
    high = calendar[law, kind, left + 1, colder]
    high += warmer * (calendar[law, kind, left + 1, colder + 1] - high)
    return float(low + part * (high - low))


@compiled
def _calendar_at(calendar: Array, law: int, soc: float, temperature_c: float) -> float:
    place = min(max(soc, 0.0), 1.0) * CALENDAR_SOC_CELLS
    left = min(int(place), CALENDAR_SOC_CELLS - 1)
    part = place - left
    warm = min(max((temperature_c - TEMPERATURE_LOW_C) / TEMPERATURE_STEP_C, 0.0), TEMPERATURE_CELLS - 1e-9)
    colder = int(warm)
    return _between(calendar, law, 0, left, part, colder, warm - colder)


@compiled
def _current_for(power_w: float, constant_v: float, ohm: float) -> tuple[float, bool]:
    """Solve P = (U + R I) I for the current nearest to zero, or give the current of most power."""
    if power_w == 0.0:
        return 0.0, False
    root = constant_v * constant_v + 4.0 * ohm * power_w
    if root < 0.0:
        return -constant_v / (2.0 * ohm), True
    return 2.0 * power_w / (constant_v + math.sqrt(root)), False


@compiled
def _bent_path(volts: Array, in_series: float, begin: float, end: float, current: float) -> tuple[float, float]:
    """Mean open-circuit voltage from `begin` to `end`, exact for the curve's pieces, as a constant and an ohm.

    The constant plus the ohm times the current is that mean, and close to it the mean of a slightly other current.
    """
    low, high = min(begin, end), max(begin, end)
    if high - low < 1e-12:
        return in_series * _open_circuit(volts, 0.5 * (begin + end)), 0.0
    area = 0.0
    at, at_v = low, _open_circuit(volts, low)
    while at < high:
        border = (math.floor(at * SOC_CELLS + 1e-9) + 1.0) / SOC_CELLS
        to = min(max(border, at + 1e-9), high)
        to_v = _open_circuit(volts, to)
        area += 0.5 * (at_v + to_v) * (to - at)
        at, at_v = to, to_v
    mean = area / (high - low)
    if current == 0.0:
        return in_series * mean, 0.0
    per_ampere = (_open_circuit(volts, end) - mean) / current
    return in_series * (mean - per_ampere * current), in_series * per_ampere


@compiled
def _open_circuit(volts: Array, soc: float) -> float:
    """One group's open-circuit voltage; a straight line beyond the ends of the curve."""
    place = soc * SOC_CELLS
    left = min(max(int(place), 0), SOC_CELLS - 1)
    return float(volts[left] + (place - left) * (volts[left + 1] - volts[left]))


@compiled
def _own_soc(group: int, soc: float, group_soc: Array, group_table: Array) -> float:
    """Charge of a group: carried, or from the mean with all groups balanced when full."""
    if group_soc.shape[0]:
        return float(group_soc[group])
    return float(1.0 - (1.0 - soc) / group_table[group, 0])


@compiled
def _limit_current(
    limit_v: float,
    volts: Array,
    soc: float,
    group_soc: Array,
    group_table: Array,
    half: float,
    in_series: float,
    polarised_v: float,
    path_ohm: float,
    toward: float,
) -> float:
    """The current at which the first group reaches its voltage limit; 0 where one is beyond it already.

    `toward` is 1 for the upper limit in a charge and -1 for the lower one in a discharge.
    """
    tightest = toward * 1e9
    for group in range(group_table.shape[0]):
        own = _own_soc(group, soc, group_soc, group_table)
        left = min(max(int(own * SOC_CELLS), 0), SOC_CELLS - 1)
        slope = SOC_CELLS * (volts[left + 1] - volts[left])
        rest_v = volts[left] + slope * (own - left / SOC_CELLS) + group_table[group, 1] * polarised_v / in_series
        ohm = group_table[group, 1] * path_ohm / in_series + slope * half / group_table[group, 0]
        current = (limit_v - rest_v) / ohm
        tightest = min(tightest, max(current, 0.0)) if toward > 0.0 else max(tightest, min(current, 0.0))
    return tightest


@compiled
def _string(volts: Array, group_soc: Array, group_table: Array) -> tuple[float, float, float, float]:
    """Open-circuit voltage of all carried groups in series, its slope over the charge, least and most charge."""
    total, slope, least, most = 0.0, 0.0, 1e9, -1e9
    for group in range(group_soc.shape[0]):
        own = group_soc[group]
        place = own * SOC_CELLS
        left = min(max(int(place), 0), SOC_CELLS - 1)
        rise = volts[left + 1] - volts[left]
        total += volts[left] + (place - left) * rise
        slope += rise * group_table[group, 3]
        least, most = min(least, own), max(most, own)
    return total, slope * SOC_CELLS, least, most


@compiled
def _bent_string(
    volts: Array, group_soc: Array, group_table: Array, moved: float, current: float
) -> tuple[float, float]:
    """`_bent_path` of all carried groups in series, with the mean group's charge moved by `moved`."""
    constant_v, ohm = 0.0, 0.0
    for group in range(group_soc.shape[0]):
        begin = group_soc[group]
        one_v, one_ohm = _bent_path(volts, 1.0, begin, begin + moved / group_table[group, 0], current)
        constant_v += one_v
        ohm += one_ohm
    return constant_v, ohm


@compiled
def _pass_groups(
    volts: Array, group_soc: Array, group_table: Array, moved: float, leaked: float, shunted: float
) -> tuple[float, float, float]:
    """Move the charge of every group by the string's current, its own leak and its shunt.

    A shunt takes from groups that would be full before others. Returns the string's mean voltage at rest over the step,
    what leaks and shunts took (volts of the group times its share of the mean capacity), and the mean charge after.
    """
    emptiest = -1e9
    if shunted > 0.0:
        for group in range(group_soc.shape[0]):
            emptiest = max(emptiest, (1.0 - group_soc[group]) * group_table[group, 0])
    rest_v, lost_v, total = 0.0, 0.0, 0.0
    for group in range(group_soc.shape[0]):
        capacity, begin = group_table[group, 0], group_soc[group]
        taken = leaked * group_table[group, 2]
        if shunted > 0.0 and (1.0 - begin) * capacity < emptiest - _BALANCED:
            taken += shunted
        if begin * capacity <= taken:
            taken = 0.0
        end = begin + (moved - taken) * group_table[group, 3]
        from_place, to_place = begin * SOC_CELLS, end * SOC_CELLS
        left = min(max(int(from_place), 0), SOC_CELLS - 1)
        if left == min(max(int(to_place), 0), SOC_CELLS - 1):
            mean_v = volts[left] + (0.5 * (from_place + to_place) - left) * (volts[left + 1] - volts[left])
        else:
            mean_v, _ = _bent_path(volts, 1.0, begin, end, 0.0)
        rest_v += mean_v
        lost_v += mean_v * taken
        group_soc[group] = end
        total += capacity * end
    return rest_v, lost_v, total / group_soc.shape[0]


@compiled
def _extremes(
    volts: Array, soc: float, polarisation_v: float, group_soc: Array, group_table: Array
) -> tuple[float, float]:
    """Lowest and highest voltage of a group."""
    lowest, highest = 1e9, -1e9
    for group in range(group_table.shape[0]):
        own = _open_circuit(volts, _own_soc(group, soc, group_soc, group_table))
        own += group_table[group, 1] * polarisation_v
        lowest, highest = min(lowest, own), max(highest, own)
    return lowest, highest


@compiled
def _copy_leg(now: Array, point: Array) -> None:
    """Hand the running leg to the turning point that it began at, and begin a new one."""
    for column in range(LEG_COLUMNS):
        point[1 + column] = now[column]
        now[column] = 0.0


@compiled
def _stored_wh(volts: Array, soc: float, capacity_ah: float, in_series: float) -> float:
    """Energy under the open-circuit curve from empty to `soc`, exact for its straight pieces."""
    place = min(max(soc, 0.0), 1.0) * SOC_CELLS
    left = min(int(place), SOC_CELLS - 1)
    part = place - left
    area = part * (volts[left] + 0.5 * part * (volts[left + 1] - volts[left]))
    for index in range(left):
        area += 0.5 * (volts[index] + volts[index + 1])
    return float(in_series * capacity_ah * area / SOC_CELLS)


@compiled
def _settled_loss(
    model: Array,
    law_numbers: Indices,
    law_table: Array,
    row: Array,
    wear_y: Array,
    points: Array,
    now: Array,
    uses: Array,
) -> tuple[float, float, float]:
    """Capacity loss, resistance growth and anode loss of the first law, waiting half cycles included."""
    own_y = wear_y[:1].copy()
    settle(
        model, law_numbers[:1], law_table[:1], row, own_y, np.zeros((1, W_OUTSIDE_CYCLE + 1)), points, now.copy(), uses
    )
    lost, grown, _, _ = loss(law_numbers[0], own_y[0], model[M_CALENDAR_SCALE], model[M_CYCLE_SCALE])
    return lost, grown, anode_loss(law_numbers[0], own_y[0], model[M_CYCLE_SCALE])


@compiled
def _wear_of_cycle(
    cycle: Array,
    temperature_c: float,
    model: Array,
    law_numbers: Indices,
    law_table: Array,
    wear_y: Array,
    wear: Array,
    uses: Array,
) -> None:
    """Add one closed cycle to the linearised wear of every law, and to the uses that it belongs to.

    `temperature_c` counts where no charge moved that could tell another one. A half cycle that only charged belongs to
    whoever discharged so far.
    """
    depth, cycles = cycle[C_DEPTH], cycle[C_CYCLES]
    if depth <= 0.0:
        return
    ah = cycle[C_OWN + G_AH] + cycle[C_BACK + G_AH]
    if ah > 0.0:
        temperature_c = (cycle[C_OWN + G_AH_C] + cycle[C_BACK + G_AH_C]) / ah
    up, down = (C_OWN, C_BACK) if cycle[C_RISING] > 0.0 else (C_BACK, C_OWN)
    time = G_ACTIVE_S if model[M_FLOWING_C_RATE] > 0.0 else G_SECONDS
    charge_c_rate, discharge_c_rate = _c_rates(depth, cycle[up + time], cycle[down + time])
    charged = cycle[C_OWN + G_CHARGED_AH] + cycle[C_BACK + G_CHARGED_AH]
    rapid = (cycle[C_OWN + G_RAPID_AH] + cycle[C_BACK + G_RAPID_AH]) / charged if charged > 0.0 else 0.0
    cold = (cycle[C_OWN + G_COLD] + cycle[C_BACK + G_COLD]) / charged if charged > 0.0 else 0.0
    shares = np.zeros(USES)
    _share_out(cycle, ah, uses, shares)
    for law in range(law_numbers.shape[0]):
        number = law_numbers[law]
        gained, resistance, lost_anode = cycle_increment(
            number, depth, cycle[C_MEAN], charge_c_rate, discharge_c_rate, temperature_c
        )
        slowly = gained
        if rapid > 0.0 and charge_c_rate > _REFERENCE_C_RATE:
            slowly, _, _ = cycle_increment(
                number, depth, cycle[C_MEAN], _REFERENCE_C_RATE, discharge_c_rate, temperature_c
            )
        of_rapid = cycles * rapid * max(gained - slowly, 0.0)
        gained *= cycles
        of_cold = gained * cold if model[M_COLD_CHARGING] > 0.0 and law_table[law, L_OWN_COLD] == 0.0 else 0.0
        wear_y[law, 1] += gained + of_cold
        wear_y[law, 3] += resistance * cycles
        wear_y[law, 4] += lost_anode * cycles
        wear[law, W_RAPID] += of_rapid
        wear[law, W_COLD] += of_cold
        for used in range(USES):
            wear[law, used] += (gained - of_rapid) * shares[used]
        if (
            temperature_c < law_table[law, L_TEMPERATURE_LOW_C]
            or temperature_c > law_table[law, L_TEMPERATURE_HIGH_C]
            or depth < law_table[law, L_DEPTH_LOW]
            or depth > law_table[law, L_DEPTH_HIGH]
            or max(charge_c_rate, discharge_c_rate) > law_table[law, L_C_RATE_MAX]
        ):
            wear[law, W_OUTSIDE_CYCLE] += gained + of_cold


@compiled
def _c_rates(depth: float, charging_s: float, discharging_s: float) -> tuple[float, float]:
    """Depth over the hours of each leg; a leg that is not there takes the other's."""
    charge = depth * 3600.0 / charging_s if charging_s > 0.0 else 0.0
    discharge = depth * 3600.0 / discharging_s if discharging_s > 0.0 else 0.0
    return charge if charge > 0.0 else discharge, discharge if discharge > 0.0 else charge


@compiled
def _share_out(cycle: Array, ah: float, uses: Array, shares: Array) -> None:
    """Shares of the uses in a cycle's discharge, or in all discharge so far where hardly any belongs to the cycle."""
    total = 0.0
    for used in range(USES):
        shares[used] = cycle[C_OWN + G_DISCHARGED_AH + used] + cycle[C_BACK + G_DISCHARGED_AH + used]
        total += shares[used]
    if total <= _HARDLY * ah:
        total = 0.0
        for used in range(USES):
            shares[used] = uses[used, U_DISCHARGED_AH]
            total += shares[used]
    if total <= 0.0:
        shares[0], total = 1.0, 1.0
    for used in range(USES):
        shares[used] /= total
