"""Answers to diagnostic questions that a logger overheard: ISO-TP put together, groups and identifiers decoded.

Some loggers ask while they record, so a log may hold capacity, single temperatures and cell voltages that no broadcast
frame carries. Loggers also drop frames; an answer with a hole is counted and thrown away. The vehicle's identification
number is an answer too: it is not among what is decoded here, and stays in no variable.
"""

from __future__ import annotations

from drivers.errors import DeviceCallError
from drivers.readings import Quality
from drivers.vehicle.diagnostics import load_table
from drivers.vehicle.identifiers import READ_IDENTIFIER, Did, decode_identifier
from drivers.vehicle.lbc_groups import (
    CELLS,
    HEALTH,
    PACK,
    READ_GROUP,
    TEMPERATURES,
    decode_cells,
    decode_health,
    decode_pack,
    decode_temperatures,
)
from drivers.vehicle.replies import Value

_POSITIVE = 0x40
_SINGLE, _FIRST, _CONSECUTIVE = 0, 1, 2  # ISO 15765-2, high half of the first byte
_IDENTIFIERS = {
    Did.QUICK_CHARGES: "vehicle.quick_charges",
    Did.L1_L2_CHARGES: "vehicle.l1_l2_charges",
    Did.PLUG_STATE: "vehicle.plug_state",
    Did.AMBIENT: "vehicle.ambient_c",
    Did.GEAR: "vehicle.gear",
    Did.SPEED: "vehicle.speed_kmh",
    Did.CHARGE_MODE: "vehicle.charge_mode",
}
_DEVICE = "recording"


class Heard:
    """What one complete answer said: values by quantity, with their units."""

    __slots__ = ("units", "values")

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.units: dict[str, str] = {}

    def add(self, quantity: str, value: Value) -> None:
        """Keep a value that is there."""
        if value.quality is Quality.GOOD:
            self.values[quantity] = value.value
            self.units[quantity] = value.unit


class DiagnosticListener:
    """Feed it every frame of the two answering identifiers, channel by channel."""

    __slots__ = ("_lbc_id", "_partial", "_vcm_id", "answers", "incomplete", "refused")

    def __init__(self) -> None:
        units = load_table().units
        self._lbc_id, self._vcm_id = units.lbc.reply_id, units.vcm.reply_id
        self._partial: dict[tuple[str, int], tuple[int, bytearray, int]] = {}  # length, bytes, next sequence number
        self.answers = 0
        self.incomplete = 0  # frames are missing in the log
        self.refused = 0  # a negative answer, or of an unknown length

    @property
    def ids(self) -> frozenset[int]:
        """Identifiers that it wants to see."""
        return frozenset((self._lbc_id, self._vcm_id))

    def hear(self, channel: str, can_id: int, data: bytes) -> Heard | None:
        """Take one frame; what it completes, or None."""
        message = self._assemble((channel, can_id), data)
        if message is None or len(message) < 2:
            return None
        try:
            heard = self._lbc(message) if can_id == self._lbc_id else self._vcm(message)
        except DeviceCallError:
            self.refused += 1
            return None
        if heard is not None:
            self.answers += 1
        return heard

    def _assemble(self, key: tuple[str, int], data: bytes) -> bytes | None:
        if not data:
            return None
        kind, low = data[0] >> 4, data[0] & 0x0F
        if kind == _SINGLE:
            return data[1 : 1 + low]
        if kind == _FIRST and len(data) > 1:
            self.incomplete += key in self._partial
            self._partial[key] = (low << 8 | data[1], bytearray(data[2:]), 1)
            return None
        if kind != _CONSECUTIVE or key not in self._partial:
            return None
        length, collected, expected = self._partial.pop(key)
        if low != expected:
            self.incomplete += 1
            return None
        collected += data[1:]
        if len(collected) >= length:
            return bytes(collected[:length])
        self._partial[key] = (length, collected, (expected + 1) & 0x0F)
        return None

    def _lbc(self, message: bytes) -> Heard | None:
        heard = Heard()
        service, group = message[0] - _POSITIVE, message[1]
        if service != READ_GROUP:
            return None
        if group == PACK:
            pack = decode_pack(message, device=_DEVICE)
            heard.add("vehicle.capacity_ah", pack.capacity_ah)
            heard.add("vehicle.hx_percent", pack.hx_percent)
            heard.add("vehicle.soc_percent", pack.soc_percent)
            heard.add("vehicle.pack_voltage_v", pack.voltage_v)
            heard.add("vehicle.pack_current_a", pack.current_a)
            heard.add("vehicle.insulation_kohm", pack.insulation_kohm)
        elif group == CELLS:
            cells = decode_cells(message, device=_DEVICE)
            heard.add("vehicle.cell_average_v", cells.average_v)
            heard.add("vehicle.cell_min_v", cells.min_v)
            heard.add("vehicle.cell_max_v", cells.max_v)
        elif group == TEMPERATURES:
            for number, value in enumerate(decode_temperatures(message, device=_DEVICE).sensors_c, start=1):
                heard.add(f"vehicle.pack_temperature_{number}_c", value)
        elif group == HEALTH:
            heard.add("vehicle.soh_percent", decode_health(message, device=_DEVICE).soh_percent)
        return heard

    def _vcm(self, message: bytes) -> Heard | None:
        if message[0] - _POSITIVE != READ_IDENTIFIER or len(message) < 4:
            return None
        identifier = message[1] << 8 | message[2]
        for did, quantity in _IDENTIFIERS.items():
            if did == identifier:
                heard = Heard()
                heard.add(quantity, decode_identifier(did, message, device=_DEVICE))
                return heard
        return None
