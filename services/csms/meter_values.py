"""MeterValues of any charge point, brought to base units.

Everything but the value is optional in OCPP 1.6 section 7.43; what is absent has a default of the standard's own:
Energy.Active.Import.Register, Wh, Outlet, Sample.Periodic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from drivers.errors import BenchError
from drivers.ocpp.link import MeterValues, Sample
from drivers.ocpp.payload import Payload, integer, members, text, utc_s

_FACTORS: Final[Mapping[str, float]] = {"kWh": 1e3, "kvarh": 1e3, "kW": 1e3, "kVA": 1e3, "kvar": 1e3}


def read_meter_values(payload: Payload, mono_s: float, sequence: Iterator[int]) -> MeterValues:
    """The newest meter value of one MeterValues message, checked against its schema before."""
    newest = max(members(payload, "meterValue"), key=lambda value: utc_s(text(value, "timestamp")), default=None)
    if newest is None:
        raise BenchError("MeterValues without a meter value passed its schema; this is a defect of the bench")
    return MeterValues(
        next(sequence),
        mono_s,
        utc_s(text(newest, "timestamp")),
        integer(payload, "transactionId") if "transactionId" in payload else None,
        tuple(_sample(entry) for entry in members(newest, "sampledValue")),
    )


def _sample(entry: Payload) -> Sample:
    unit = text(entry, "unit", "Wh")
    return Sample(
        text(entry, "measurand", "Energy.Active.Import.Register"),
        _base_value(text(entry, "value"), unit),
        text(entry, "location", "Outlet"),
        text(entry, "phase", ""),
        text(entry, "context", "Sample.Periodic"),
    )


def _base_value(written: str, unit: str) -> float:
    try:
        value = float(written)
    except ValueError:  # signed data, or no number at all
        return math.nan
    if not math.isfinite(value):
        return math.nan
    if unit == "K":
        return value - 273.15
    if unit == "Fahrenheit":
        return (value - 32.0) / 1.8
    return value * _FACTORS.get(unit, 1.0)
