"""What the charger's own meter and sensors report in MeterValues, one table line per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from drivers.ocpp.payload import Json, Payload
from twins.charger.charger import ChargerTwin


def sampled_values(charger: ChargerTwin, measurands: Sequence[str], context: str) -> list[Payload]:
    """What the charger's own meter and sensors report, as `sampledValue` entries.

    Import is power taken from the grid; a value against its direction reads 0. What the charger does not know now (the
    vehicle's SOC without a session) is left out.
    """
    samples: list[Payload] = []
    for source in _SOURCES:
        value = source.read(charger) if source.measurand in measurands else None
        if value is None:
            continue
        sample: dict[str, Json] = {
            "value": f"{value:.{source.digits}f}",
            "context": context,
            "measurand": source.measurand,
            "location": source.location,
        }
        if source.unit:
            sample["unit"] = source.unit
        if source.phase:
            sample["phase"] = source.phase
        samples.append(sample)
    return samples


class _Source(NamedTuple):
    measurand: str
    unit: str
    digits: int
    location: str
    phase: str
    read: Callable[[ChargerTwin], float | None]


# `Inlet` is the grid side (AC; phase 1 stands for three equal ones), `Outlet` the vehicle side (DC).
_SOURCES: Final = (
    _Source("Power.Active.Import", "W", 1, "Inlet", "", lambda charger: max(0.0, charger.meter.power_w)),
    _Source("Power.Active.Export", "W", 1, "Inlet", "", lambda charger: max(0.0, -charger.meter.power_w)),
    _Source("Energy.Active.Import.Register", "Wh", 1, "Inlet", "", lambda charger: charger.meter.import_wh),
    _Source("Energy.Active.Export.Register", "Wh", 1, "Inlet", "", lambda charger: charger.meter.export_wh),
    _Source("Voltage", "V", 1, "Inlet", "L1-N", lambda charger: charger.meter.voltage_v),
    _Source("Voltage", "V", 1, "Outlet", "", lambda charger: charger.dc_voltage_v),
    _Source("Current.Import", "A", 2, "Inlet", "L1", lambda charger: max(0.0, charger.meter.current_a)),
    _Source("Current.Import", "A", 2, "Outlet", "", lambda charger: max(0.0, charger.dc_current_a)),
    _Source("Current.Export", "A", 2, "Inlet", "L1", lambda charger: max(0.0, -charger.meter.current_a)),
    _Source("Current.Export", "A", 2, "Outlet", "", lambda charger: max(0.0, -charger.dc_current_a)),
    _Source("SoC", "Percent", 1, "EV", "", lambda charger: charger.soc_percent),
    _Source("Temperature", "Celsius", 1, "Body", "", lambda charger: charger.cabinet_temperature_c),
    _Source("Frequency", "", 3, "Inlet", "", lambda charger: charger.grid_frequency_hz),  # there is no unit for it
)
