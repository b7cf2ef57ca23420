"""Where things stand in the arrays of the compiled kernel: one name per column, for the kernel and for its readers.

A pack is rows of float64 arrays, because that is what compiles well, is copied at once, and lets ten thousand packs
stand behind each other. Nothing outside of `twins.pack` needs these numbers; `twins.pack.series` gives them names.
"""

from __future__ import annotations

from typing import Final

SOC_CELLS: Final = 256  # intervals of the open-circuit curve over the state of charge
CALENDAR_SOC_CELLS: Final = 128  # half as fine, so that one index serves both
TEMPERATURE_LOW_C: Final = -40.0
TEMPERATURE_STEP_C: Final = 0.5
TEMPERATURE_CELLS: Final = 220  # up to 70 degC
USES: Final = 5

# Columns of the model's scalars.
(
    M_GROUPS,
    M_FAST_S,
    M_SLOW_S,
    M_DISCHARGE_FACTOR,
    M_HYSTERESIS_V,
    M_HYSTERESIS_RATE,
    M_LEAK_PER_S,
    M_CELLS_J_PER_K,
    M_PLATES_J_PER_K,
    M_CASING_J_PER_K,
    M_CELLS_PLATES,
    M_PLATES_CASING,
    M_STILL_AIR,
    M_AIR_PER_KM_H,
    M_FAN,
    M_FAN_ON_C,
    M_FAN_OFF_C,
    M_EVAPORATOR_C,
    M_HEATER_W,
    M_HEATER_ON_C,
    M_HEATER_OFF_C,
    M_HEATER_SOC,
    M_RAPID_HEAT,
    M_LOWEST_V,
    M_HIGHEST_V,
    M_CHARGE_LIMIT_W,
    M_DISCHARGE_LIMIT_W,
    M_NEW_CAPACITY_AH,
    M_CALENDAR_SCALE,
    M_CYCLE_SCALE,
    M_COLD_CHARGING,
    M_FLOWING_C_RATE,
    M_LITHIUM_SHARE,
    M_LEAST_CAPACITY,
    M_MOST_CAPACITY,
    M_MOST_RESISTANCE,
    M_BALANCING_A,
    MODEL_COLUMNS,
) = range(38)

# Columns of the table over the state of charge (whole pack, 25 degC).
T_SERIES, T_FAST, T_SLOW, T_ENTROPIC, T_CHARGE_TAPER, T_DISCHARGE_TAPER, SOC_COLUMNS = range(7)

# Columns of the table over the temperature.
K_ARRHENIUS, K_CHARGE, K_DISCHARGE, TEMPERATURE_COLUMNS = range(4)

# Columns of a law's row in the table of laws.
(
    L_TEMPERATURE_LOW_C,
    L_TEMPERATURE_HIGH_C,
    L_DEPTH_LOW,
    L_DEPTH_HIGH,
    L_C_RATE_MAX,
    L_SOC_LOW,
    L_SOC_HIGH,
    L_OWN_COLD,
    L_RESISTANCE_CALENDAR,
    LAW_COLUMNS,
) = range(10)

# Columns of a pack's state. What ends in WH, AH or S is a register that only grows.
(
    SOC,
    FAST_A,
    SLOW_A,
    HYSTERESIS,
    CELLS_C,
    PLATES_C,
    CASING_C,
    FAN,
    HEATER,
    CAPACITY_AH,
    RESISTANCE_GROWTH,
    CAPACITY_LOSS,
    TIME_S,
    NEXT_AGING_S,
    CHARGED_AH,
    DISCHARGED_AH,
    CHARGED_WH,
    DISCHARGED_WH,
    LOSS_WH,
    ENTROPIC_WH,
    RAPID_EXTRA_WH,
    HEATER_WH,
    AGING_WH,
    AGING_AH,
    LEAK_AH,
    FAST_OHM,
    SLOW_OHM,
    VOLTAGE_V,
    CURRENT_A,
    POWER_W,
    LIMITED,
    LIMITED_S,
    LIMITED_WH,
    EFC,
    HOT_S,
    FULL_S,
    EMPTY_S,
    COLD_CHARGE_S,
    DIRECTION,
    DEPTH_OF_STACK,
    OVERFLOWS,
    LOWEST_GROUP_V,
    HIGHEST_GROUP_V,
    HOTTEST_C,
    COLDEST_C,
    CELLS_BEFORE_C,
    GROWTH_AT_START,
    LOSS_AT_START,
    PAUSE_S,
    STATE_COLUMNS,
) = range(50)

# Columns of a leg of the state of charge between two turning points; the stack holds its begin before them.
(
    G_SECONDS,
    G_ACTIVE_S,
    G_AH,
    G_AH_C,
    G_CHARGED_AH,
    G_RAPID_AH,
    G_COLD,
    G_DISCHARGED_AH,
) = range(8)
LEG_COLUMNS: Final = G_DISCHARGED_AH + USES
STACK: Final = 96  # turning points that may wait for their partner

# Columns of the wear by use, per law: linearised cycle wear by the use that discharged, and the two extras of charging.
W_COLD, W_RAPID, W_OUTSIDE_CALENDAR, W_OUTSIDE_CYCLE = USES, USES + 1, USES + 2, USES + 3
WEAR_COLUMNS: Final = USES + 4

# Columns of the registers by use.
U_SECONDS, U_CHARGED_AH, U_DISCHARGED_AH, U_CHARGED_WH, U_DISCHARGED_WH, USE_COLUMNS = range(6)

# Why a step moved less than was asked; bits of LIMITED. The last one is the drive's own wish and no limit of the pack.
FULL, EMPTY, HIGH_VOLTAGE, LOW_VOLTAGE, MOST_POWER, BMS_LIMIT, STOPPED = 1, 2, 4, 8, 16, 32, 64
