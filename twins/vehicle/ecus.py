"""The van's control units as a tester meets them: whole requests in, whole replies out, from the live state.

The battery controller (LBC) answers service 21, the vehicle controller (VCM) sessions, its number and service 22. What
lies where is the table `env200_uds.yaml` that the drivers read with code of their own; this module is the writing side.
Where the van has no state for a value (motor, climate) it answers what a parked van answers: zero. Bytes of unknown
meaning keep the constants of the table; the balancing shunts are all off, because this twin's BMS does not balance.

Refusals: 11 for an unknown service, 12 for an unknown session, 13 for a wrong length, 31 for an unknown number. Which
codes the real units choose was not seen in a capture, but for 11. A capture shows an identifier answered without a
session, so the VCM does not insist on one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from drivers.vehicle.diagnostics import DiagnosticTable, Group, Number, Unit, load_table
from twins.vehicle.van import Van

_NO_SUCH_SERVICE = 0x11
_NO_SUCH_SUBFUNCTION = 0x12
_WRONG_LENGTH = 0x13
_OUT_OF_RANGE = 0x31
_SESSION, _TESTER_PRESENT, _READ_LOCAL, _READ = 0x10, 0x3E, 0x21, 0x22
_DEFAULT_SESSION = 0x81  # ISO 14230-3 startDiagnosticSession, standard mode
_VIN = 0x81
_THERMISTOR_RAW_0C, _THERMISTOR_C_PER_RAW = 710, 0.102  # see group 4 in the table

_Values = Mapping[str, float | Sequence[float]]


class ControlUnit(Protocol):
    """One control unit: how it is addressed and what it says. `answer` must be called under the site's lock."""

    unit: Unit

    def answer(self, request: bytes) -> bytes | None:
        """Return the reply to one request, or None for silence."""


class BatteryController:
    """The LBC, identifier 0x79B."""

    def __init__(self, van: Van, table: DiagnosticTable | None = None) -> None:
        table = table or load_table()
        self.unit = table.units.lbc
        self._van = van
        self._groups: dict[int, tuple[_GroupWriter, Callable[[Van], _Values]]] = {
            group.number: (_GroupWriter(group), _GROUPS[group.number]) for group in table.groups
        }

    def answer(self, request: bytes) -> bytes | None:
        """Answer service 21 for the groups of the table."""
        if not request:
            return None
        if request[0] != _READ_LOCAL:
            return _refusal(request[0], _NO_SUCH_SERVICE)
        if len(request) != 2:
            return _refusal(request[0], _WRONG_LENGTH)
        found = self._groups.get(request[1])
        if found is None:
            return _refusal(request[0], _OUT_OF_RANGE)
        writer, values = found
        return writer.reply(values(self._van))


class VehicleController:
    """The VCM, identifier 0x797."""

    def __init__(self, van: Van, table: DiagnosticTable | None = None) -> None:
        table = table or load_table()
        self.unit = table.units.vcm
        self._van = van
        self._sessions = (_DEFAULT_SESSION, table.session)
        self._identifiers = {
            identifier.id: (_NumberWriter(identifier), _IDENTIFIERS[identifier.name])
            for identifier in table.identifiers
        }

    def answer(self, request: bytes) -> bytes | None:
        """Answer sessions, tester present, the vehicle identification number and the identifiers of the table."""
        if not request:
            return None
        service = request[0]
        length = _LENGTHS.get(service)
        if length is None:
            return _refusal(service, _NO_SUCH_SERVICE)
        if len(request) != length:
            return _refusal(service, _WRONG_LENGTH)
        if service == _READ:
            return self._identifier(request)
        if service == _SESSION:
            known = request[1] in self._sessions
            return b"\x50" + request[1:] if known else _refusal(service, _NO_SUCH_SUBFUNCTION)
        if service == _TESTER_PRESENT:
            return b"\x7e" + request[1:]
        if request[1] != _VIN:
            return _refusal(service, _OUT_OF_RANGE)
        return bytes((service + 0x40, _VIN)) + self._van.vin.encode("ascii")

    def _identifier(self, request: bytes) -> bytes:
        found = self._identifiers.get(request[1] << 8 | request[2])
        if found is None:
            return _refusal(request[0], _OUT_OF_RANGE)
        writer, value = found
        return bytes((request[0] + 0x40,)) + request[1:] + writer.bytes_of(value(self._van))


def control_units(van: Van) -> tuple[ControlUnit, ...]:
    """All control units of a van that answer testers."""
    return (BatteryController(van), VehicleController(van))


_LENGTHS = {_SESSION: 2, _TESTER_PRESENT: 2, _READ_LOCAL: 2, _READ: 3}


def _refusal(service: int, code: int) -> bytes:
    return bytes((0x7F, service, code))


class _NumberWriter:
    """Writes one number of the table: raw = (value - bias) x divisor / factor, held inside its type."""

    __slots__ = ("_bias", "_bit", "_greatest", "_least", "_missing", "_per_unit", "_signed", "_size")

    def __init__(self, number: Number) -> None:
        bits = 8 * number.type.size
        self._signed = number.type.signed
        self._least = -(1 << bits - 1) if self._signed else 0
        self._greatest = (1 << bits - 1) - 1 if self._signed else (1 << bits) - 1
        # The greatest raw value says "absent" in many fields: a large value must not turn into it.
        if number.absent == self._greatest:
            self._greatest -= 1
        if number.open_circuit is not None:
            self._greatest = min(self._greatest, number.open_circuit)
        self._missing = next((raw for raw in (number.absent, number.open_circuit) if raw is not None), 0)
        self._per_unit = number.divisor / number.factor
        self._bias = number.bias
        self._bit = number.bit
        self._size = number.type.size

    def bytes_of(self, value: float) -> bytes:
        """The bytes of one value; NaN becomes the raw value that says "no value"."""
        if math.isnan(value):
            raw = self._missing
        else:
            raw = round((value - self._bias) * self._per_unit)
            raw = max(self._least, min(raw, self._greatest))
            if self._bit is not None:
                raw <<= self._bit
        return raw.to_bytes(self._size, "big", signed=self._signed)


class _GroupWriter:
    """Writes one group of the table."""

    def __init__(self, group: Group) -> None:
        payload = bytearray((group.fill,)) * group.payload_bytes
        for constant in group.constants:
            raw = bytes.fromhex(constant.bytes)
            payload[constant.offset : constant.offset + len(raw)] = raw
        self._template = bytes((_READ_LOCAL + 0x40, group.number)) + bytes(payload)
        self._fields = tuple(
            (field.name, 2 + field.offset, field.type.size, field.count, _NumberWriter(field)) for field in group.fields
        )

    def reply(self, values: _Values) -> bytes:
        """The whole reply of the group, `61` and its number included."""
        reply = bytearray(self._template)
        for name, offset, size, count, writer in self._fields:
            value = values[name]
            if isinstance(value, Sequence):
                if len(value) != count:
                    raise ValueError(f"{name} has {len(value)} values where the table has {count}")
                reply[offset : offset + size * count] = b"".join([writer.bytes_of(each) for each in value])
            else:
                reply[offset : offset + size] = writer.bytes_of(value)
        return bytes(reply)


def _pack(van: Van) -> _Values:
    bms = van.bms
    current_a = bms.plane.current_a
    return {
        "current_a": current_a,
        "filtered_current_a": current_a,  # the real filter is unknown
        "filtered_current_again_a": current_a,
        "charge_limit_w": bms.charge_limit_w,
        "discharge_limit_w": bms.discharge_limit_w,
        "voltage_v": bms.plane.voltage_v,
        "voltage_12v": bms.voltage_12v,
        "insulation_kohm": bms.insulation_kohm,
        "hx_percent": bms.hx_percent,
        "soc_percent": 100.0 * bms.soc,
        "capacity_ah": bms.capacity_ah,
    }


def _cells(van: Van) -> _Values:
    voltage_v = van.bms.plane.voltage_v
    bus_v = voltage_v if van.contactor_closed else 0.0
    return {"group_v": van.bms.group_voltages_v(), "voltage_v": voltage_v, "bus_v": bus_v}


def _temperatures(van: Van) -> _Values:
    values: dict[str, float] = {}
    sensors = van.bms.temperatures_c
    for index, celsius in enumerate(sensors, start=1):
        values[f"sensor_{index}_raw"] = round(_THERMISTOR_RAW_0C - celsius / _THERMISTOR_C_PER_RAW)
        values[f"sensor_{index}_c"] = celsius
    values["average_c"] = sum(sensors) / len(sensors)
    return values


def _shunts(van: Van) -> _Values:  # noqa: ARG001  # all off, whatever the van does
    return {"shunts": (0.0,) * 12}


def _health(van: Van) -> _Values:
    bms = van.bms
    return {"hx_percent": bms.hx_percent, "soh_percent": 100.0 * bms.soh, "capacity_ah": bms.capacity_ah}


_GROUPS: Mapping[int, Callable[[Van], _Values]] = {
    0x01: _pack,
    0x02: _cells,
    0x04: _temperatures,
    0x06: _shunts,
    0x61: _health,
}


def _zero(van: Van) -> float:  # noqa: ARG001  # parked
    return 0.0


_IDENTIFIERS: Mapping[str, Callable[[Van], float]] = {
    "voltage_12v": lambda van: van.bms.voltage_12v,
    "motor_power_w": _zero,
    "charge_mode": lambda van: van.charge_mode,
    "climate_power_w": _zero,
    "auxiliary_power_w": lambda van: van.auxiliary_w,
    "gear": lambda van: van.gear,
    "ambient_c": lambda van: van.ambient_c,
    "current_12v_a": _zero,
    "quick_charges": lambda van: van.quick_charges,
    "l1_l2_charges": lambda van: van.l1_l2_charges,
    "speed_kmh": lambda van: van.speed_kmh,
    "plug_state": lambda van: van.plug_state,
    "onboard_charger_w": _zero,
    "motor_rpm": _zero,
    "air_conditioning_w": _zero,
    "heater_w": _zero,
    "power_switch": lambda van: 1.0,  # noqa: ARG005  # diagnostics only answer while it is on
    "eco_mode": _zero,
    "e_pedal": _zero,
}
