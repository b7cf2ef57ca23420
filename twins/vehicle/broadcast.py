"""The frames that the van's control units send unasked, from the live state, with counters and checksums.

What lies where comes from the frame tables that the readers use too; placing bits, counting and checking is this
module's own code, so that a reader's mistake is not repeated by the writer. Only frames that the twin has a state for
are sent. The twin has one bus where the car has two (EV-CAN and, behind a gateway, CAR-CAN), so it sends the frames of
both; no identifier means different things on the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from drivers.vehicle.frames import Bus, FrameSpec, Protection, SignalSpec, load_table, parse_bits
from twins.vehicle.van import Van

_POLYNOMIAL = 0x85  # of the CRC-8, furdog/leaf_can_filter
_HEARTBEAT = (0x55, 0xAA)
_ONBOARD_CHARGER_MAX_W = 6600.0  # data sheet of the 6.6 kW on-board charger
_GEAR_ON_EV_CAN = {1: 0.0, 2: 2.0, 3: 3.0, 4: 4.0, 7: 4.0}
_GEAR_ON_CAR_CAN = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 7: 4.0}


class Frame(NamedTuple):
    """One data frame with an 11-bit identifier."""

    can_id: int
    data: bytes


class Broadcaster:
    """Sends each frame at its period. Call under the site's lock; times are seconds of any steady clock."""

    def __init__(self, van: Van, ids: Iterable[int] | None = None) -> None:
        """`ids` limits what is sent; KeyError where this twin has no such frame."""
        self._van = van
        specs = {spec.id: spec for bus in (Bus.EV_CAN, Bus.CAR_CAN) for spec in load_table(bus).frames}
        wanted = sorted(_SOURCES) if ids is None else sorted(ids)
        self._writers = [(_FrameWriter(specs[can_id]), _SOURCES[can_id]) for can_id in wanted]
        self._next_s = [0.0] * len(self._writers)
        self._started = False

    def start(self, now_s: float) -> None:
        """Let every frame be due at once, then at its period."""
        self._next_s = [now_s] * len(self._writers)
        self._started = True

    @property
    def next_due_s(self) -> float:
        """When the next frame is due; infinite before `start` and without frames."""
        return min(self._next_s, default=math.inf) if self._started else math.inf

    def due(self, now_s: float) -> list[Frame]:
        """Return the frames whose time has come; a late call sends each once and keeps the grid."""
        frames: list[Frame] = []
        if not self._started:
            return frames
        for index, (writer, values) in enumerate(self._writers):
            at_s = self._next_s[index]
            if at_s > now_s:
                continue
            frames.append(writer.frame(values(self._van, writer.sent)))
            missed = math.floor((now_s - at_s) / writer.period_s)
            self._next_s[index] = at_s + (missed + 1) * writer.period_s
        return frames

    def frame(self, can_id: int) -> Frame:
        """One frame as it would be sent now; KeyError where it is not among `ids`."""
        for writer, values in self._writers:
            if writer.can_id == can_id:
                return writer.frame(values(self._van, writer.sent))
        raise KeyError(f"0x{can_id:03X} is not sent by this twin")


_Values = Mapping[str, float]


class _FrameWriter:
    """Places values into one frame, counts it and protects it."""

    def __init__(self, spec: FrameSpec) -> None:
        self.can_id = spec.id
        self.period_s = spec.period_ms / 1000.0
        self.sent = 0
        self._length = spec.length
        self._protection = spec.protection
        self._signals = {signal.name: _place(signal, spec.length) for signal in spec.signals}
        if spec.mux is not None:
            self._signals["mux"] = _place(SignalSpec(name="mux", bits=spec.mux, unit="1"), spec.length)
        self._counter_shift: int | None = None
        if spec.counter is not None:
            self._counter_shift = 8 * (spec.length - 1 - spec.counter.byte) + spec.counter.shift

    def frame(self, values: _Values) -> Frame:
        """The next frame with these values, NaN for none; named like their signals, or `byte_N` for a whole byte."""
        bits = 0
        for name, value in values.items():
            if name.startswith("byte_"):
                bits |= int(value) << 8 * (self._length - 1 - int(name[5:]))
                continue
            shift, width, scale, offset, signed, greatest, missing = self._signals[name]
            least = -(1 << width - 1) if signed else 0
            raw = missing if math.isnan(value) else max(least, min(round((value - offset) / scale), greatest))
            bits |= (raw & (1 << width) - 1) << shift
        if self._counter_shift is not None:
            bits |= (self.sent & 3) << self._counter_shift
        self.sent += 1
        data = bits.to_bytes(self._length, "big")
        if self._protection is Protection.CRC8:
            data = data[:-1] + bytes((_crc8(data[:-1]),))
        elif self._protection is Protection.NIBBLE:
            data = data[:-1] + bytes((data[-1] & 0xF0 | _nibble_sum(self.can_id, data),))
        return Frame(self.can_id, data)


def _place(signal: SignalSpec, length: int) -> tuple[int, int, float, float, bool, int, int]:
    """Shift from the frame's last bit, width, scale, offset, signed, greatest raw number, raw value for none."""
    field = parse_bits(signal.bits)
    if not field.big_endian:
        raise ValueError(f"signal {signal.name} is Intel ordered; this writer places Motorola signals only")
    top = 8 * (length - 1 - field.start // 8) + field.start % 8
    greatest = (1 << field.length - (1 if field.signed else 0)) - 1
    while greatest in signal.no_data:
        greatest -= 1
    missing = signal.no_data[0] if signal.no_data else 0
    return top - field.length + 1, field.length, signal.scale, signal.offset, field.signed, greatest, missing


def _crc8(data: bytes) -> int:
    """CRC-8 by long division: polynomial 0x85, start 0, most significant bit first."""
    remainder = int.from_bytes(data, "big") << 8
    divisor = 0x100 | _POLYNOMIAL
    for position in range(remainder.bit_length() - 9, -1, -1):
        if remainder >> position + 8 & 1:
            remainder ^= divisor << position
    return remainder


def _nibble_sum(can_id: int, data: bytes) -> int:
    """Sum of the half bytes of identifier and data but the last, modulo 16."""
    digits = f"{can_id:03X}{data.hex()}"[:-1]
    return sum(int(digit, 16) for digit in digits) & 0x0F


def _battery_state(van: Van, sent: int) -> _Values:  # noqa: ARG001  # every source takes the count, few need it
    bms = van.bms
    return {
        "pack_current": bms.plane.current_a,
        "pack_voltage": bms.plane.voltage_v,
        "main_relay": float(van.contactor_closed),
        "interlock": 1.0,
        "dash_soc": math.floor(100.0 * bms.dash_soc),
    }


def _power_limits(van: Van, sent: int) -> _Values:  # noqa: ARG001
    bms = van.bms
    return {
        "discharge_limit": bms.discharge_limit_w,
        "charge_limit": bms.charge_limit_w,
        "charger_power_limit": bms.charge_limit_w,
    }


def _soc(van: Van, sent: int) -> _Values:
    answer = _HEARTBEAT[sent & 1]
    return {"soc": 100.0 * van.bms.soc, "challenge_answer": answer, "insulation": van.bms.insulation_kohm}


def _energy(van: Van, sent: int) -> _Values:  # noqa: ARG001
    return {"full_energy": van.bms.full_energy_wh, "remaining_energy": van.bms.remaining_energy_wh}


def _capacity(van: Van, sent: int) -> _Values:
    shared = {
        "soh": math.floor(100.0 * van.bms.soh + 1e-9),
        "power_limit_reason": float(van.bms.limit_reason),
        "charge_time_kind": 0.0,
        "charge_time": math.nan,
    }
    if sent & 1:
        return {"mux": 1.0, "max_gids": float(van.bms.max_gids), **shared}
    return {"mux": 0.0, "gids": van.bms.gids, **shared}


def _temperature(van: Van, sent: int) -> _Values:
    sensors = van.bms.temperatures_c
    name, value = (
        ("temperature_max", max(sensors)),
        ("temperature_average", sum(sensors) / len(sensors)),
        ("temperature_min", min(sensors)),
    )[sent % 3]
    fitted = float(van.pack.parameters.thermal.heater_w > 0.0)
    return {"mux": sent % 3 + 1, name: value, "heater_present": fitted}


def _onboard_charger(van: Van, sent: int) -> _Values:  # noqa: ARG001
    rapid = float(van.contactor_closed)
    return {"quick_charge_relay": rapid, "charge_status": 1.0, "max_ac_power": _ONBOARD_CHARGER_MAX_W}


def _gear(van: Van, sent: int) -> _Values:
    return {"gear": _GEAR_ON_EV_CAN[van.gear], "byte_3": _HEARTBEAT[sent & 1]}


def _climate(van: Van, sent: int) -> _Values:  # noqa: ARG001
    return {"evaporator": van.ambient_c, "ambient": van.ambient_c}


_SOURCES: Mapping[int, Callable[[Van, int], _Values]] = {
    0x11A: _gear,
    0x1DB: _battery_state,
    0x1DC: _power_limits,
    0x355: lambda van, _: {"speed": van.speed_kmh},
    0x390: _onboard_charger,
    0x421: lambda van, _: {"gear": _GEAR_ON_CAR_CAN[van.gear]},
    0x50B: lambda van, _: {"wake": 3.0},  # noqa: ARG005  # awake
    0x54C: _climate,
    0x55B: _soc,
    0x59E: _energy,
    0x5B3: lambda van, _: {"soh": math.floor(100.0 * van.bms.soh + 1e-9)},
    0x5BC: _capacity,
    0x5C0: _temperature,
    0x5C5: lambda van, _: {"odometer": van.odometer_km, "parking_brake": 1.0},
}
