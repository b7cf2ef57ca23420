"""What a recording says about the vehicle, as one neutral time series.

A `ReplaySample` has the same fields whatever the log was (frames of any bus, or Leaf Spy rows), so that the contract
and the usage record never know a dialect. A field that the log does not carry is None: never zero, never the last
good value of a minute ago. Current and power count positive into the pack; Leaf Spy's own sign is turned once, in its
reader.

Vehicle identification number and position are dropped where lines are read and exist nowhere behind that point.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

CHARGER_QUANTITIES: Final = {
    "charger_voltage_v": "charger.dc_voltage_v",
    "charger_current_a": "charger.dc_current_a",
    "charger_power_w": "charger.dc_power_w",
}


@dataclass(frozen=True, slots=True)
class ReplaySample:
    """State of the vehicle at `time_s` (seconds since the log's first frame or row).

    `utc_s` is None where the logger had no absolute clock. Gear, plug state and charge mode are coded as Leaf Spy and
    the vehicle's diagnostics do: gear 0 not read, 1 P, 2 R, 3 N, 4 D, 7 B/Eco; plug 0 not, 1 partly, 2 connected;
    charge mode 0 none, 1 and 2 AC, 3 rapid (DC).
    """

    time_s: float
    utc_s: float | None = None
    line: int = 0  # of the file, where the sample ends
    soc_percent: float | None = None  # the BMS's real state of charge
    dash_soc_percent: float | None = None  # as shown to driver and charger
    soh_percent: float | None = None
    capacity_ah: float | None = None
    hx_percent: float | None = None
    gids: float | None = None
    pack_voltage_v: float | None = None
    pack_current_a: float | None = None  # mean since the sample before, + charges
    pack_power_w: float | None = None  # mean since the sample before, + charges
    cell_average_v: float | None = None
    cell_min_v: float | None = None
    cell_max_v: float | None = None
    pack_temperature_1_c: float | None = None
    pack_temperature_2_c: float | None = None
    pack_temperature_3_c: float | None = None
    pack_temperature_4_c: float | None = None
    pack_temperature_max_c: float | None = None
    pack_temperature_average_c: float | None = None
    pack_temperature_min_c: float | None = None
    odometer_km: float | None = None
    speed_kmh: float | None = None
    ambient_c: float | None = None
    gear: float | None = None
    plug_state: float | None = None
    charge_mode: float | None = None
    quick_charges: float | None = None
    l1_l2_charges: float | None = None
    motor_temperature_c: float | None = None
    inverter_temperature_c: float | None = None
    inverter_2_temperature_c: float | None = None
    inverter_4_temperature_c: float | None = None
    onboard_charger_w: float | None = None
    remaining_energy_wh: float | None = None
    full_energy_wh: float | None = None
    charge_limit_w: float | None = None
    discharge_limit_w: float | None = None
    insulation_kohm: float | None = None
    motor_speed_rpm: float | None = None
    charger_voltage_v: float | None = None  # DC side of a CHAdeMO charger, by the charger's own meter
    charger_current_a: float | None = None  # + charges
    charger_power_w: float | None = None  # + charges

    def values(self) -> dict[str, float]:
        """All values that are there, by the name of their source, e.g. `vehicle.soc_percent`."""
        found: dict[str, float] = {}
        for name, quantity in FIELD_QUANTITIES.items():
            value: float | None = getattr(self, name)
            if value is not None:
                found[quantity] = value
        return found


FIELD_QUANTITIES: Final[dict[str, str]] = {
    field.name: CHARGER_QUANTITIES.get(field.name, f"vehicle.{field.name}")
    for field in fields(ReplaySample)
    if field.name not in {"time_s", "utc_s", "line"}
}
"""Field of a sample to the quantity's name."""

QUANTITY_FIELDS: Final[dict[str, str]] = {quantity: name for name, quantity in FIELD_QUANTITIES.items()}

AVERAGED: Final = frozenset(
    {
        "vehicle.pack_voltage_v",
        "vehicle.pack_current_a",
        "vehicle.pack_power_w",
        "charger.dc_voltage_v",
        "charger.dc_current_a",
        "charger.dc_power_w",
    }
)
"""Quantities that a sample gives as the mean over its period; the others as the last value."""
