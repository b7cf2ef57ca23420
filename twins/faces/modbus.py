"""The charger's Modbus TCP face: a SunSpec DER that other people's clients can read.

Frames are parsed and answered here, in `data_received`, because a lock-step cycle spends most of its time in this
exchange and pymodbus's server costs two and a half times as much. `SunSpecImage` is the register image: values are
encoded when they are read, from the charger's state of that moment.

What a controller may write: 702 WMax (accepted only at its rating), 704 WSetEna, WSetMod, WSet, WSetRvrt (0 W only),
WSetEnaRvrt, WSetRvrtTms, 715 ControllerHb, AlarmReset and OpCtl. Other registers answer with exception 2, values that
the charger cannot take with exception 3, commands that its state forbids with exception 4: a set-point other than 0 W
while no session runs is one, because starting a session would forget it.

A WSet written while WSetEna is 0 waits until WSetEna becomes 1. WSet reads back the set-point in force, after the
vehicle's limits, the rating and an OCPP profile; 701 ThrotSrc names who reduced it (bit 11 "scheduled": the profile,
bit 14 "derated": the charger, bit 0 the watchdog's 0 W).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from drivers.charger.profile import ChargerProfile, Point
from drivers.service_loop import ServiceLoop
from twins.charger.charger import Allocation, ChargerTwin, Clamp, CommandRefused, SessionState
from twins.faces.tcp import FaceProtocol, TcpFace
from twins.pack.bms import Bms

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, NO_SUCH_UNIT = 1, 2, 3, 4, 0x0B
_MAX_READ, _MAX_WRITE = 125, 123  # Modbus application protocol 1.1b3, sections 6.3 and 6.12

# SunSpec: the value of a point that is not implemented.
_ABSENT: Final = {
    "int16": 0x8000, "uint16": 0xFFFF, "enum16": 0xFFFF, "bitfield16": 0xFFFF, "sunssf": 0x8000, "pad": 0x8000,
    "int32": 0x80000000, "uint32": 0xFFFFFFFF, "bitfield32": 0xFFFFFFFF, "uint64": 0xFFFFFFFFFFFFFFFF,
}  # fmt: skip
_FORMATS: Final = {
    "int16": ">h", "uint16": ">H", "enum16": ">H", "bitfield16": ">H", "sunssf": ">h",
    "int32": ">i", "uint32": ">I", "bitfield32": ">I", "uint64": ">Q",
}  # fmt: skip
_THROTTLE_SCHEDULED, _THROTTLE_DERATED, _THROTTLE_MAX_W = 1 << 11, 1 << 14, 1 << 0
_THREE_PHASE = 2  # SunSpec 701 ACType
_MANUFACTURER_ALARM = 1 << 16  # SunSpec 701 Alrm; which one it is stands in MnAlrmInfo
_INV_OFF, _INV_SLEEPING, _INV_STANDBY, _INV_RUNNING, _INV_THROTTLED, _INV_FAULT = 0, 1, 7, 3, 4, 6
_STA_OK, _STA_ERROR = 0, 2  # SunSpec 713 Sta
_OP_STOP, _OP_START, _OP_ENTER_STANDBY, _OP_EXIT_STANDBY = 0, 1, 2, 3
_FIRMWARE = "bench 1"
_REMEMBERED_READS = 64  # a bench repeats a handful of them each second


class RegisterRefused(Exception):
    """A read or write that is answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"Modbus exception {code}")


class _Slot(NamedTuple):
    """One implemented point: where it stands in the image, what packs it there, what it holds."""

    offset: int
    pack_into: Callable[..., None]
    value: Callable[[ChargerTwin], int | bytes]


class SunSpecImage:
    """The registers of one charger; `read` and `write` work on register addresses and big-endian bytes."""

    def __init__(self, profile: ChargerProfile, charger: ChargerTwin) -> None:
        self._profile = profile
        self._charger = charger
        self._base = profile.base
        self._size = profile.end_address + 2 - profile.base
        self._image = bytearray(2 * self._size)
        self._heartbeat = 0
        self._controller_heartbeat = 0
        self._write_mode = 1
        self._write_enabled = 0
        self._waiting_w = 0.0  # written while WSetEna was 0
        self._revert_enabled = 1
        self._in_force = Allocation(0.0, Clamp.NOBODY)  # at the present read; several points tell of it
        self._slots_by_read: dict[tuple[int, int], tuple[_Slot, ...]] = {}
        self._fill_static()
        self._slots = {model.id: self._slots_of(model.id) for model in profile.models}
        self._spans = {
            model.id: (profile.model_addresses[model.id], profile.model_addresses[model.id] + model.length + 2)
            for model in profile.models
        }
        # A writer judges its value and returns what the write does.
        self._writers: dict[int, tuple[Point, Callable[[int], Callable[[], None]]]] = {
            point.address: (point, writer)
            for point, writer in (
                (profile.point(702, "WMax"), self._write_w_max),
                (profile.point(704, "WSetEna"), self._write_enable),
                (profile.point(704, "WSetMod"), self._write_set_mode),
                (profile.point(704, "WSet"), self._write_setpoint),
                (profile.point(704, "WSetRvrt"), self._write_revert_value),
                (profile.point(704, "WSetEnaRvrt"), self._write_revert_enable),
                (profile.point(704, "WSetRvrtTms"), self._write_revert_time),
                (profile.point(715, "ControllerHb"), self._write_heartbeat),
                (profile.point(715, "AlarmReset"), self._write_alarm_reset),
                (profile.point(715, "OpCtl"), self._write_operation),
            )
        }

    def read(self, address: int, count: int) -> bytes:
        """Return `count` registers from `address`; RegisterRefused(2) outside the map."""
        first = address - self._base
        if first < 0 or first + count > self._size:
            raise RegisterRefused(ILLEGAL_ADDRESS)
        slots = self._slots_by_read.get((address, count))
        if slots is None:
            slots = self._slots_within(address, address + count)
            if len(self._slots_by_read) < _REMEMBERED_READS:
                self._slots_by_read[address, count] = slots
        charger, image = self._charger, self._image
        self._in_force = charger.allocation()
        for offset, pack_into, value in slots:
            pack_into(image, offset, value(charger))
        return bytes(image[2 * first : 2 * (first + count)])

    def write(self, address: int, data: bytes) -> None:
        """Write registers; whole points only, and all values are judged before the first one acts.

        Raises RegisterRefused: 2 for a register that is not writable or half a point, 3 for a value out of range, 4
        when the charger's state forbids it.
        """
        at, end = address, address + len(data) // 2
        acts: list[Callable[[], None]] = []
        while at < end:
            entry = self._writers.get(at)
            if entry is None or at + entry[0].size > end:
                raise RegisterRefused(ILLEGAL_ADDRESS)
            point, writer = entry
            begin = 2 * (at - address)
            raw = data[begin : begin + 2 * point.size]
            acts.append(writer(struct.unpack(_FORMATS[point.type], raw)[0]))
            at += point.size
        for act in acts:
            try:
                act()
            except CommandRefused:
                raise RegisterRefused(DEVICE_FAILURE) from None

    # Encoding

    def _slots_within(self, address: int, end: int) -> tuple[_Slot, ...]:
        """The slots of all models that a read touches, so that the models that it touches are whole."""
        return tuple(
            slot
            for model, (start, stop) in self._spans.items()
            if start < end and address < stop
            for slot in self._slots[model]
        )

    def _fill_static(self) -> None:
        profile, image = self._profile, self._image
        image[0:4] = b"SunS"
        for model in profile.models:
            at = 2 * (profile.model_addresses[model.id] - self._base)
            struct.pack_into(">HH", image, at, model.id, model.length)
        for point in profile.points.values():
            at = 2 * (point.address - self._base)
            if point.type.startswith("string"):
                continue
            image[at : at + 2 * point.size] = _ABSENT[point.type].to_bytes(2 * point.size, "big")
        struct.pack_into(">HH", image, 2 * (profile.end_address - self._base), 0xFFFF, 0)
        for name, text in (
            ("Mn", "AME (twin)"), ("Md", "V2G 3p 10 kW"), ("Vr", _FIRMWARE), ("SN", self._charger.serial),
        ):  # fmt: skip
            self._put_string(1, name, text)
        for model_id, name, value in (
            (1, "DA", profile.unit_id),
            (701, "ACType", _THREE_PHASE), (701, "ConnSt", 1),
            (701, "A_SF", -2), (701, "V_SF", -1), (701, "Hz_SF", -3), (701, "W_SF", 0), (701, "VA_SF", 0),
            (701, "TotWh_SF", 0), (701, "Tmp_SF", -1),
            (702, "W_SF", 0), (702, "VA_SF", 0), (702, "V_SF", 0), (702, "VNomRtg", 400), (702, "VNom", 400),
            (704, "WSet_SF", 0), (704, "WSetRvrt", 0),
            (713, "WH_SF", 1), (713, "Pct_SF", -1),
            (715, "LocRemCtl", 0),
        ):  # fmt: skip
            self._put(model_id, name, value)
        for name, rating in (
            ("WMaxRtg", max(self._charger.max_charge_w, self._charger.max_discharge_w)),
            ("VAMaxRtg", max(self._charger.max_charge_w, self._charger.max_discharge_w)),
            ("WChaRteMaxRtg", self._charger.max_charge_w),
            ("WDisChaRteMaxRtg", self._charger.max_discharge_w),
            ("WMax", max(self._charger.max_charge_w, self._charger.max_discharge_w)),
        ):
            self._put(702, name, round(rating))

    def _put(self, model: int, name: str, value: int) -> None:
        point = self._profile.point(model, name)
        struct.pack_into(_FORMATS[point.type], self._image, 2 * (point.address - self._base), value)

    def _put_string(self, model: int, name: str, text: str) -> None:
        point = self._profile.point(model, name)
        at = 2 * (point.address - self._base)
        self._image[at : at + 2 * point.size] = text.encode("ascii").ljust(2 * point.size, b"\0")[: 2 * point.size]

    def _slots_of(self, model: int) -> tuple[_Slot, ...]:
        values: dict[tuple[int, str], Callable[[ChargerTwin], int | bytes]] = {
            (701, "St"): lambda charger: 0 if charger.state is SessionState.UNAVAILABLE else 1,
            (701, "InvSt"): self._inverter_state,
            (701, "Alrm"): lambda charger: _MANUFACTURER_ALARM if charger.fault_codes else 0,
            (701, "MnAlrmInfo"): lambda charger: ", ".join(charger.fault_codes).encode("ascii", "replace"),
            (701, "W"): lambda charger: _signed16(-charger.meter.power_w),
            (701, "VA"): lambda charger: _signed16(abs(charger.meter.power_w)),
            (701, "A"): lambda charger: _signed16(100.0 * abs(charger.meter.current_a)),
            (701, "LLV"): lambda charger: round(10.0 * charger.meter.voltage_v * 3.0**0.5),
            (701, "LNV"): lambda charger: round(10.0 * charger.meter.voltage_v),
            (701, "Hz"): lambda charger: round(1000.0 * charger.grid_frequency_hz),
            (701, "TotWhInj"): lambda charger: int(charger.meter.export_wh),
            (701, "TotWhAbs"): lambda charger: int(charger.meter.import_wh),
            (701, "TmpCab"): lambda charger: round(10.0 * charger.cabinet_temperature_c),
            (701, "ThrotPct"): self._throttle_percent,
            (701, "ThrotSrc"): self._throttle_source,
            (702, "WChaRteMax"): lambda charger: int(charger.charge_limit_w),
            (702, "WDisChaRteMax"): lambda charger: int(charger.discharge_limit_w),
            (704, "WSetEna"): lambda _charger: self._write_enabled,
            (704, "WSetMod"): lambda _charger: self._write_mode,
            (704, "WSet"): lambda _charger: -round(self._in_force.power_w),
            (704, "WSetEnaRvrt"): lambda _charger: self._revert_enabled,
            (704, "WSetRvrtTms"): lambda charger: int(charger.revert_timeout_s),
            (704, "WSetRvrtRem"): lambda charger: int(charger.revert_remaining_s),
            (713, "WHRtg"): lambda charger: _told(charger, lambda bms: bms.full_energy_wh / 10.0),
            (713, "WHAvail"): lambda charger: _told(charger, lambda bms: bms.remaining_energy_wh / 10.0),
            (713, "SoC"): _state_of_charge,
            (713, "SoH"): lambda charger: _told(charger, lambda bms: 1000.0 * bms.soh),
            (713, "Sta"): self._storage_state,
            (715, "DERHb"): self._next_heartbeat,
            (715, "ControllerHb"): lambda _charger: self._controller_heartbeat,
            (715, "AlarmReset"): lambda _charger: 0,
            (715, "OpCtl"): lambda charger: _OP_START if charger.state is SessionState.RUNNING else _OP_STOP,
        }
        return tuple(
            _Slot(2 * (point.address - self._base), struct.Struct(_format(point)).pack_into, value)
            for (of_model, name), value in values.items()
            if of_model == model
            for point in (self._profile.point(model, name),)
        )

    def _inverter_state(self, charger: ChargerTwin) -> int:
        if charger.state is SessionState.FAULTED:
            return _INV_FAULT
        if charger.state is SessionState.UNAVAILABLE:
            return _INV_OFF
        if charger.state is SessionState.AVAILABLE:
            return _INV_SLEEPING
        if charger.state is not SessionState.RUNNING:
            return _INV_STANDBY
        return _INV_RUNNING if self._in_force.clamped_by is Clamp.NOBODY else _INV_THROTTLED

    def _storage_state(self, charger: ChargerTwin) -> int:
        if charger.van is None or charger.van.plug_state == 0:
            return _ABSENT["enum16"]
        return _STA_ERROR if charger.state is SessionState.FAULTED else _STA_OK

    def _throttle_percent(self, charger: ChargerTwin) -> int:
        wanted, given = abs(charger.setpoint_w), abs(self._in_force.power_w)
        return 0 if wanted <= given else round(100.0 * (wanted - given) / wanted)

    def _throttle_source(self, _charger: ChargerTwin) -> int:
        clamp = self._in_force.clamped_by
        if clamp is Clamp.PROFILE:
            return _THROTTLE_SCHEDULED
        if clamp in {Clamp.CHARGER, Clamp.VEHICLE}:
            return _THROTTLE_DERATED
        return _THROTTLE_MAX_W if clamp is Clamp.WATCHDOG else 0

    def _next_heartbeat(self, charger: ChargerTwin) -> int:
        return int(charger.now_s) & 0xFFFFFFFF

    # Commands

    def _write_w_max(self, value: int) -> Callable[[], None]:
        if value != round(max(self._charger.max_charge_w, self._charger.max_discharge_w)):
            raise RegisterRefused(ILLEGAL_VALUE)
        return _nothing

    def _write_enable(self, value: int) -> Callable[[], None]:
        if value not in {0, 1}:
            raise RegisterRefused(ILLEGAL_VALUE)
        return self._enable if value else self._disable

    def _enable(self) -> None:
        # Written again while it is 1 it changes nothing: a tripped watchdog waits for a set-point, not for this.
        if not self._write_enabled:
            self._apply(self._waiting_w)
            self._write_enabled = 1

    def _disable(self) -> None:
        self._write_enabled = 0
        self._waiting_w = 0.0
        self._charger.set_setpoint(0.0)

    def _write_set_mode(self, value: int) -> Callable[[], None]:
        if value != 1:  # watts; percent of WMax is not offered
            raise RegisterRefused(ILLEGAL_VALUE)
        return _nothing

    def _write_setpoint(self, value: int) -> Callable[[], None]:
        power_w = -float(value)
        if not -self._charger.max_discharge_w <= power_w <= self._charger.max_charge_w:
            raise RegisterRefused(ILLEGAL_VALUE)

        def act() -> None:
            if self._write_enabled:
                self._apply(power_w)
            else:
                self._waiting_w = power_w

        return act

    def _apply(self, power_w: float) -> None:
        if power_w and self._charger.state is not SessionState.RUNNING:
            raise CommandRefused(f"the charger is {self._charger.state}; a set-point needs a running session")
        self._charger.set_setpoint(power_w)

    def _write_revert_value(self, value: int) -> Callable[[], None]:
        if value != 0:  # this charger reverts to 0 W and to nothing else
            raise RegisterRefused(ILLEGAL_VALUE)
        return _nothing

    def _write_revert_enable(self, value: int) -> Callable[[], None]:
        if value != 1:
            raise RegisterRefused(ILLEGAL_VALUE)
        return _nothing

    def _write_revert_time(self, value: int) -> Callable[[], None]:
        if value > 600:  # as EVtec's and comparable chargers bound theirs
            raise RegisterRefused(ILLEGAL_VALUE)
        return lambda: self._charger.arm_revert(float(value))

    def _write_heartbeat(self, value: int) -> Callable[[], None]:
        def act() -> None:
            if value != self._controller_heartbeat:
                self._controller_heartbeat = value
                self._charger.heartbeat()

        return act

    def _write_alarm_reset(self, value: int) -> Callable[[], None]:
        if value not in {0, 1}:
            raise RegisterRefused(ILLEGAL_VALUE)
        return self._charger.clear_faults if value else _nothing

    def _write_operation(self, value: int) -> Callable[[], None]:
        if value in {_OP_START, _OP_EXIT_STANDBY}:
            return self._charger.start
        if value in {_OP_STOP, _OP_ENTER_STANDBY}:
            return lambda: self._charger.stop("Local")
        raise RegisterRefused(ILLEGAL_VALUE)


class ModbusFace(TcpFace):
    """Serves one charger's register image over Modbus TCP."""

    def __init__(
        self,
        charger: ChargerTwin,
        profile: ChargerProfile,
        lock: threading.RLock,
        loop: ServiceLoop,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        image = SunSpecImage(profile, charger)
        super().__init__(lambda: _ModbusClient(image, profile.unit_id, lock), loop, host=host, port=port)

    @property
    def address(self) -> str:
        """Where a driver finds it, in the words of a station file."""
        return f"tcp://{self.host}:{self.port}"


class _ModbusClient(FaceProtocol):
    """One TCP client; frames may arrive in pieces or several at once."""

    def __init__(self, image: SunSpecImage, unit_id: int, lock: threading.RLock) -> None:
        self._image = image
        self._unit_id = unit_id
        self._lock = lock
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        answers = []
        while len(buffer) >= 8:
            transaction, protocol, length, unit = struct.unpack_from(">HHHB", buffer)
            if protocol != 0 or not 2 <= length <= 254:
                # There is no way back into step with a peer that does not speak Modbus.
                self.transport.abort()
                return
            if len(buffer) < 6 + length:
                break
            body = self._answer(unit, buffer[7 : 6 + length])
            answers.append(struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body)
            buffer = buffer[6 + length :]
        self._buffer = buffer
        if answers:
            self.transport.write(b"".join(answers))

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        function = pdu[0]
        if unit != self._unit_id:
            return bytes((function | 0x80, NO_SUCH_UNIT))
        try:
            with self._lock:
                if function == 3:
                    return self._read(pdu)
                if function == 16:
                    return self._write_many(pdu)
                if function == 6:
                    return self._write_one(pdu)
        except RegisterRefused as refusal:
            return bytes((function | 0x80, refusal.code))
        return bytes((function | 0x80, ILLEGAL_FUNCTION))

    def _read(self, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            raise RegisterRefused(ILLEGAL_VALUE)
        address, count = struct.unpack_from(">HH", pdu, 1)
        if not 1 <= count <= _MAX_READ:
            raise RegisterRefused(ILLEGAL_VALUE)
        data = self._image.read(address, count)
        return bytes((3, len(data))) + data

    def _write_many(self, pdu: bytes) -> bytes:
        if len(pdu) < 6:
            raise RegisterRefused(ILLEGAL_VALUE)
        address, count, size = struct.unpack_from(">HHB", pdu, 1)
        if not 1 <= count <= _MAX_WRITE or size != 2 * count or len(pdu) != 6 + size:
            raise RegisterRefused(ILLEGAL_VALUE)
        self._image.write(address, pdu[6:])
        return pdu[:5]

    def _write_one(self, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            raise RegisterRefused(ILLEGAL_VALUE)
        (address,) = struct.unpack_from(">H", pdu, 1)
        self._image.write(address, pdu[3:])
        return pdu


def _nothing() -> None:
    """What a write does that is accepted only at the value that the register already has."""


def _format(point: Point) -> str:
    return f"{2 * point.size}s" if point.type.startswith("string") else _FORMATS[point.type]


def _signed16(value: float) -> int:
    """Round to int16, held at its ends: a face must answer whatever the physics says."""
    return max(-32767, min(32767, round(value)))


def _told(charger: ChargerTwin, quantity: Callable[[Bms], float]) -> int:
    """What the vehicle tells a charger, and only while a session runs."""
    if charger.van is None or charger.state is not SessionState.RUNNING:
        return _ABSENT["uint16"]
    return round(quantity(charger.van.bms))


def _state_of_charge(charger: ChargerTwin) -> int:
    soc_percent = charger.soc_percent
    return 0xFFFF if soc_percent is None else round(10.0 * soc_percent)
