"""What the battery controller (LBC) answers to service 21, turned from bytes into typed values.

Pure functions: bytes in, values with unit and quality out, no link. The layouts are facts of `env200_uds.yaml`; this
module is their reading side, and the twin has a writing side of its own. Current is positive while the battery is
charged, which is already the bench's sign.

>>> pack_request().hex(" ")
'21 01'
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from drivers.readings import Quality
from drivers.vehicle.diagnostics import load_table
from drivers.vehicle.replies import NumberReader, Value, check_reply

READ_GROUP = 0x21  # readDataByLocalIdentifier, ISO 14230-3
PACK, CELLS, TEMPERATURES, SHUNTS, HEALTH = 0x01, 0x02, 0x04, 0x06, 0x61
GROUPS_IN_SERIES = 96
_TEMPERATURE_FIELDS = (*(f"sensor_{n}_{what}" for n in (1, 2, 3, 4) for what in ("raw", "c")), "average_c")


class PackGroup(NamedTuple):
    """Group 1: the pack as a whole."""

    current_a: Value  # + charges
    filtered_current_a: Value
    charge_limit_w: Value
    discharge_limit_w: Value
    voltage_v: Value
    voltage_12v: Value
    insulation_kohm: Value
    hx_percent: Value
    soc_percent: Value
    capacity_ah: Value


class CellGroup(NamedTuple):
    """Group 2: the 96 groups of cells in series, and the pack from two sides."""

    groups_v: tuple[Value, ...]
    voltage_v: Value
    bus_v: Value
    average_v: Value
    min_v: Value
    max_v: Value


class TemperatureGroup(NamedTuple):
    """Group 4: the four sensors T1 to T4 and the controller's own average."""

    sensors_c: tuple[Value, Value, Value, Value]
    average_c: Value


class HealthGroup(NamedTuple):
    """Group 0x61: what is left of a new battery."""

    hx_percent: Value
    soh_percent: Value
    capacity_ah: Value


def group_request(number: int) -> bytes:
    """The request for one group."""
    return bytes((READ_GROUP, number))


def pack_request() -> bytes:
    """The request for group 1."""
    return group_request(PACK)


def decode_pack(reply: bytes, *, device: str) -> PackGroup:
    """Decode the reply to `21 01`, 53 bytes. Raises LinkGarbled or DeviceError, see `check_reply`."""
    payload = _payload(PACK, reply, device)
    return PackGroup(*(reader.read(payload, offset) for reader, offset in _readers(PACK, PackGroup._fields)))


def decode_cells(reply: bytes, *, device: str) -> CellGroup:
    """Decode the reply to `21 02`, 198 bytes. Average, least and greatest are over the groups that have a value."""
    payload = _payload(CELLS, reply, device)
    (group, first), (pack, pack_at), (bus, bus_at) = _readers(CELLS, ("group_v", "voltage_v", "bus_v"))
    groups = tuple(group.read(payload, first + 2 * index) for index in range(GROUPS_IN_SERIES))
    good = [value.value for value in groups if value.quality is Quality.GOOD]
    if good:
        average, least, greatest = (Value(v, "V") for v in (sum(good) / len(good), min(good), max(good)))
    else:
        average = least = greatest = Value(math.nan, "V", Quality.NO_DATA)
    return CellGroup(groups, pack.read(payload, pack_at), bus.read(payload, bus_at), average, least, greatest)


def decode_temperatures(reply: bytes, *, device: str) -> TemperatureGroup:
    """Decode the reply to `21 04`, 37 bytes. A sensor whose raw value says "absent" has no temperature."""
    payload = _payload(TEMPERATURES, reply, device)
    values = [reader.read(payload, offset) for reader, offset in _readers(TEMPERATURES, _TEMPERATURE_FIELDS)]
    sensors = [
        celsius if raw.quality is Quality.GOOD else Value(math.nan, celsius.unit, raw.quality)
        for raw, celsius in zip(values[0:8:2], values[1:8:2], strict=True)
    ]
    return TemperatureGroup((sensors[0], sensors[1], sensors[2], sensors[3]), values[8])


def decode_shunts(reply: bytes, *, device: str) -> tuple[bool, ...]:
    """Decode the reply to `21 06`, 26 bytes: for each of the 96 groups whether its balancing shunt is on.

    The order of bits in a byte, most significant first, is assumed.
    """
    payload = _payload(SHUNTS, reply, device)
    ((_, first),) = _readers(SHUNTS, ("shunts",))
    bits = int.from_bytes(payload[first : first + GROUPS_IN_SERIES // 8], "big")
    return tuple(bool(bits >> (GROUPS_IN_SERIES - 1 - index) & 1) for index in range(GROUPS_IN_SERIES))


def decode_health(reply: bytes, *, device: str) -> HealthGroup:
    """Decode the reply to `21 61`: 331 bytes, or the 12 bytes of older controllers, which lack the capacity."""
    payload = _payload(HEALTH, reply, device)
    return HealthGroup(*(reader.read(payload, offset) for reader, offset in _readers(HEALTH, HealthGroup._fields)))


def _payload(number: int, reply: bytes, device: str) -> bytes:
    request, lengths, title = _expected(number)
    return check_reply(reply, request, lengths, device=device, unit=title)


@functools.cache
def _expected(number: int) -> tuple[bytes, tuple[int, ...], str]:
    table = load_table()
    group = table.group(number)
    lengths = (group.reply_bytes,) + ((group.short_reply_bytes,) if group.short_reply_bytes else ())
    return group_request(number), lengths, table.units.lbc.title


@functools.cache
def _readers(number: int, names: tuple[str, ...]) -> tuple[tuple[NumberReader, int], ...]:
    fields = {field.name: field for field in load_table().group(number).fields}
    return tuple((NumberReader(fields[name]), fields[name].offset) for name in names)
