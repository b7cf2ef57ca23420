"""What the contract and the usage record want to know, and a sentence for each thing that a log does not say.

A missing number is a finding: a reader of the usage record must see that the pack voltage is null because the
CAR-CAN does not carry it, not because somebody forgot it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from drivers.vehicle.frames import FrameTable
from twins.replay.summary import Absence

WANTED: Final[dict[str, str]] = {
    "vehicle.soc_percent": "state of charge of the BMS",
    "vehicle.soh_percent": "state of health",
    "vehicle.pack_voltage_v": "pack voltage",
    "vehicle.pack_current_a": "pack current",
    "vehicle.gids": "GIDs",
    "vehicle.capacity_ah": "capacity in Ah",
    "vehicle.cell_average_v": "average cell voltage",
    "vehicle.pack_temperature_1_c": "pack temperature 1",
    "vehicle.pack_temperature_2_c": "pack temperature 2",
    "vehicle.pack_temperature_3_c": "pack temperature 3",
    "vehicle.pack_temperature_4_c": "pack temperature 4",
    "vehicle.odometer_km": "odometer",
    "vehicle.speed_kmh": "speed",
    "vehicle.ambient_c": "ambient temperature",
    "vehicle.gear": "gear",
    "vehicle.plug_state": "plug state",
    "vehicle.charge_mode": "charge mode",
    "vehicle.quick_charges": "count of quick charges",
    "vehicle.l1_l2_charges": "count of AC charges",
    "vehicle.motor_temperature_c": "motor temperature",
    "vehicle.inverter_2_temperature_c": "inverter 2 temperature",
    "vehicle.inverter_4_temperature_c": "inverter 4 temperature",
}
"""Quantity to the words for it; the fields of the usage record that a recording may fill."""

_DERIVED_FROM: Final = {"vehicle.charge_mode": "onboard_charger.status"}


def can_absences(
    present: Iterable[str], no_data: dict[str, int], tables: tuple[FrameTable, ...]
) -> tuple[Absence, ...]:
    """A reason for every wanted quantity that frames of these buses did not give.

    `no_data` counts how often a quantity was sent as "not available".
    """
    there = set(present)
    return tuple(
        Absence(quantity, _can_reason(quantity, label, no_data, tables))
        for quantity, label in WANTED.items()
        if quantity not in there
    )


def _can_reason(quantity: str, label: str, no_data: dict[str, int], tables: tuple[FrameTable, ...]) -> str:
    if not tables:
        return f"{label}: none of the log's frames belong to a known bus"
    if no_data.get(quantity):
        return f"{label}: sent {no_data[quantity]} times, always as not available"
    carrier = _DERIVED_FROM.get(quantity, quantity)
    for table in tables:
        for frame in table.frames:
            if any(signal.quantity == carrier for signal in frame.signals):
                return f"{label}: frame 0x{frame.id:03X} of the {table.title} is not in this log"
    return f"{label} is not on the {' or the '.join(table.title for table in tables)}"


def column_absences(present: Iterable[str], columns: dict[str, str], empty: dict[str, str]) -> tuple[Absence, ...]:
    """The same for rows: `columns` names the column of a quantity, `empty` says why a column that is there is void."""
    there = set(present)
    found: list[Absence] = []
    for quantity, label in WANTED.items():
        if quantity in there:
            continue
        column = columns.get(quantity)
        if quantity in empty:
            reason = f"{label}: {empty[quantity]}"
        elif column is not None:
            reason = f"{label}: column {column!r} is not in this file, or holds no number"
        else:
            reason = f"{label} is no column of this dialect"
        found.append(Absence(quantity, reason))
    return tuple(found)
