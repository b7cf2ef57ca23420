"""The two protections that Nissan's electric platform puts on its broadcast frames.

Battery, inverter and vehicle controller protect their 10 ms frames with a CRC in the last byte; the on-board charger
and one command frame use a sum of nibbles in the last half byte. A reader that skips them takes a bit error for a
jump of the pack voltage, so every decoder and every twin face goes through this module.

>>> hex(crc8(bytes([1])))
'0x85'
>>> nibble_checksum(0x1F2, bytes.fromhex("106400b0001e008f"))
15
"""

from __future__ import annotations

CRC8_POLYNOMIAL = 0x85


def _table(polynomial: int) -> bytes:
    entries = bytearray()
    for index in range(256):
        remainder = index
        for _ in range(8):
            remainder = (remainder << 1) ^ polynomial if remainder & 0x80 else remainder << 1
            remainder &= 0xFF
        entries.append(remainder)
    return bytes(entries)


_CRC8_TABLE = _table(CRC8_POLYNOMIAL)
_NIBBLE_SUM = bytes((byte >> 4) + (byte & 0x0F) for byte in range(256))


def crc8(data: bytes) -> int:
    """CRC-8 over `data`: polynomial 0x85, start 0, most significant bit first, no reflection, no final XOR.

    Source: the look-up table published in dalathegreat/Battery-Emulator and furdog/leaf_can_filter.
    """
    table = _CRC8_TABLE
    remainder = 0
    for byte in data:
        remainder = table[remainder ^ byte]
    return remainder


def crc8_is_right(data: bytes) -> bool:
    """Whether the last byte of a frame is the CRC-8 of the bytes before it."""
    return len(data) > 1 and crc8(data[:-1]) == data[-1]


def nibble_checksum(can_id: int, data: bytes) -> int:
    """Low half of the last byte of a frame: the sum of all half bytes of identifier and data but itself, modulo 16.

    `data` is the whole frame; what stands in the low half of its last byte is ignored. The identifier counts, which
    explains the offset per identifier that public decoders give for this sum (dalathegreat/leaf_can_bus_messages).
    """
    total = (can_id & 0xF) + (can_id >> 4 & 0xF) + (can_id >> 8 & 0xF)
    for byte in data[:-1]:
        total += _NIBBLE_SUM[byte]
    return (total + (data[-1] >> 4)) & 0x0F


def nibble_checksum_is_right(can_id: int, data: bytes) -> bool:
    """Whether the low half of the last byte of a frame is its nibble checksum."""
    return len(data) > 1 and nibble_checksum(can_id, data) == data[-1] & 0x0F
