"""Where values cross from devices to ledgers and records: driver types on one side, theirs on the other."""

from __future__ import annotations

import math

from drivers.readings import Reading
from drivers.roles import Nameplate, VehicleReadings
from ledgers.canonical import Json
from ledgers.records import Device, Material

ASSET_QUANTITIES = {
    # named quantity of the asset -> reading of the vehicle role
    "vehicle.speed_kmh": "speed",
    "vehicle.gids": "gids",
    "vehicle.soc_percent": "soc",
    "vehicle.pack_voltage_v": "pack_voltage",
    "vehicle.pack_current_a": "pack_current",
    "vehicle.cell_average_v": "cell_average",
    "vehicle.odometer_km": "odometer",
    "vehicle.quick_charges": "quick_charges",
    "vehicle.l1_l2_charges": "l1_l2_charges",
    "vehicle.ambient_c": "ambient_temperature",
    "vehicle.soh_percent": "soh",
    "vehicle.plug_state": "plug_state",
    "vehicle.charge_mode": "charge_mode",
    "vehicle.gear": "gear",
    "vehicle.motor_temperature_c": "motor_temperature",
    "vehicle.inverter_2_temperature_c": "inverter_2_temperature",
    "vehicle.inverter_4_temperature_c": "inverter_4_temperature",
}


def asset_values(vehicle: VehicleReadings | None) -> dict[str, float | str | None]:
    """Named quantities of the asset from the latest vehicle readings; what is missing is None."""
    if vehicle is None:
        return {}
    values: dict[str, float | str | None] = {
        quantity: good(getattr(vehicle, name)) for quantity, name in ASSET_QUANTITIES.items()
    }
    for number, reading in enumerate(vehicle.pack_temperatures, 1):
        values[f"vehicle.pack_temperature_{number}_c"] = good(reading)
    return values


def monitoring_document(
    vehicle_id: str, utc_s: float, vehicle: VehicleReadings, power: Reading | None
) -> dict[str, Json]:
    """What the charging station reports to the monitoring contract at one moment; what is not known is left out."""
    found: dict[str, Json] = {
        "vehicle_id": vehicle_id,
        "utc_s": round(utc_s, 3),
        "source": "charging_station",
        "plug_state": _whole(vehicle.plug_state),
        "charge_mode": _whole(vehicle.charge_mode),
        "gear": _whole(vehicle.gear),
        "power_w": None if power is None else _rounded(power, 1),
        "current_a": _rounded(vehicle.pack_current, 3),
        "soc_percent": _rounded(vehicle.soc, 4),
        "soh_percent": _rounded(vehicle.soh, 2),
        "ambient_c": _rounded(vehicle.ambient_temperature, 1),
        "cell_voltage_v": _rounded(vehicle.cell_average, 4),
        "cell_voltage_min_v": _rounded(vehicle.cell_min, 4),
        "cell_voltage_max_v": _rounded(vehicle.cell_max, 4),
    }
    temperatures = [
        value for value in (_rounded(reading, 1) for reading in vehicle.pack_temperatures) if value is not None
    ]
    if temperatures:
        found["pack_temperatures_c"] = temperatures
    return {name: value for name, value in found.items() if value is not None}


def device_entry(name: str, role: str, driver: str, *, metal: bool, nameplate: Nameplate) -> Device:
    """A device as the usage record names it."""
    return Device(
        name=name,
        role=role,
        driver=driver,
        material=Material.MEASURED if metal else Material.EMULATED,
        manufacturer=nameplate.manufacturer,
        model=nameplate.model,
        serial=nameplate.serial,
        firmware=nameplate.firmware,
    )


def good(reading: Reading) -> float | None:
    """The value of a good reading, else None."""
    return reading.value if reading.is_good else None


def _rounded(reading: Reading, decimals: int) -> float | None:
    value = good(reading)
    return None if value is None or math.isnan(value) else round(value, decimals)


def _whole(reading: Reading) -> int | None:
    value = good(reading)
    return None if value is None else int(value)
