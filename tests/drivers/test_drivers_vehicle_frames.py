"""Frame tables, checksums and the decoder: against published figures, and against cantools as a second decoder."""

from __future__ import annotations

from typing import Literal

import pytest
from cantools.database.can import Message, Signal
from cantools.database.conversion import BaseConversion
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from drivers.vehicle.checksums import crc8, crc8_is_right, nibble_checksum, nibble_checksum_is_right
from drivers.vehicle.frames import (
    Bus,
    FrameDecoder,
    FrameSpec,
    FrameVerdict,
    Protection,
    SignalSpec,
    Status,
    load_table,
    parse_bits,
    parse_table,
)

# The beginning of the look-up table that dalathegreat's public firmware for this battery carries.
PUBLISHED_CRC_TABLE = [0, 133, 143, 10, 155, 30, 20, 145, 179, 54, 60, 185, 40, 173, 167, 34, 227, 102, 108, 233]


@pytest.fixture(scope="module")
def ev_can() -> FrameDecoder:
    return FrameDecoder((load_table(Bus.EV_CAN),))


def values(decoder: FrameDecoder, can_id: int, data: str) -> dict[str, float | None]:
    decoded = decoder.decode(can_id, bytes.fromhex(data))
    assert decoded.verdict is FrameVerdict.GOOD
    return {signal.name: value for signal, value in zip(decoded.signals, decoded.values, strict=True)}


def sealed(text: str) -> bytes:
    """A frame of 7 bytes with its CRC-8 computed by long division."""
    data = bytes.fromhex(text)
    remainder = int.from_bytes(data, "big") << 8
    for shift in range(len(data) * 8 - 1, -1, -1):
        if remainder >> (shift + 8) & 1:
            remainder ^= 0x185 << shift
    return data + bytes((remainder,))


def test_crc8_of_single_bytes_is_the_published_table() -> None:
    assert [crc8(bytes((byte,))) for byte in range(len(PUBLISHED_CRC_TABLE))] == PUBLISHED_CRC_TABLE


def test_nibble_checksum_of_the_published_charge_command_frame() -> None:
    frame = bytes.fromhex("106400B0001E008F")  # 0x1F2 as in dalathegreat/Battery-Emulator
    assert nibble_checksum(0x1F2, frame) == 0xF
    assert nibble_checksum_is_right(0x1F2, frame)
    assert not nibble_checksum_is_right(0x1F3, frame)


@given(st.binary(min_size=7, max_size=7), st.integers(0, 63))
def test_any_single_wrong_bit_breaks_the_crc(data: bytes, bit: int) -> None:
    frame = bytearray(sealed(data.hex()))
    assert crc8_is_right(bytes(frame))
    frame[bit // 8] ^= 1 << bit % 8
    assert not crc8_is_right(bytes(frame))


def test_pack_frame_gives_366_5_v_and_minus_2_5_a_discharging(ev_can: FrameDecoder) -> None:
    # -2.5 A is -5 steps of 11 bits: 7FB, so ff 60 ..; 366.5 V is 733 = 2DD, so b7 40; 57 % is 39.
    found = values(ev_can, 0x1DB, sealed("ff60b740390002").hex())
    assert found["pack_current"] == -2.5
    assert found["pack_voltage"] == 366.5
    assert found["dash_soc"] == 57


def test_pack_frame_of_a_waking_battery_has_no_values_not_511_5_v(ev_can: FrameDecoder) -> None:
    found = values(ev_can, 0x1DB, sealed("7fe0ffc07f0000").hex())
    assert found["pack_voltage"] is None
    assert found["pack_current"] is None
    assert found["dash_soc"] is None


def test_soc_frame_gives_exact_tenths(ev_can: FrameDecoder) -> None:
    for tenths in (208, 253, 599, 613, 1000):
        found = values(ev_can, 0x55B, sealed(f"{tenths << 6:04x}5500000001").hex())
        assert found["soc"] == tenths / 10


def test_gids_and_greatest_gids_share_bytes_and_are_told_apart(ev_can: FrameDecoder) -> None:
    assert values(ev_can, 0x5BC, "48000000c0001fff")["gids"] == 288
    assert "max_gids" not in values(ev_can, 0x5BC, "48000000c0001fff")
    assert values(ev_can, 0x5BC, "7d000000c0101fff")["max_gids"] == 500
    assert values(ev_can, 0x5BC, "48000000c0001fff")["soh"] == 96
    assert values(ev_can, 0x5BC, "48000000c0001fff")["charge_time"] is None


def test_battery_temperature_is_raw_minus_40_degc(ev_can: FrameDecoder) -> None:
    assert values(ev_can, 0x5C0, "40005a0000000000")["temperature_max"] == 5
    assert values(ev_can, 0x5C0, "80005a0000000000")["temperature_average"] == 5
    assert values(ev_can, 0x5C0, "c000580000000000")["temperature_min"] == 4


def test_a_wrong_checksum_gives_no_value(ev_can: FrameDecoder) -> None:
    good = sealed("ff60b740390002")
    bad = good[:2] + b"\x00" + good[3:]
    assert ev_can.decode(0x1DB, bad).verdict is FrameVerdict.BAD_CHECKSUM
    assert ev_can.decode(0x1DB, bad).values == ()
    assert ev_can.decode(0x390, bytes.fromhex("0400000000803c06")).verdict is FrameVerdict.BAD_CHECKSUM


def test_a_short_frame_and_an_unknown_identifier_are_told(ev_can: FrameDecoder) -> None:
    assert ev_can.decode(0x1DB, bytes(7)).verdict is FrameVerdict.WRONG_LENGTH
    assert ev_can.decode(0x123, bytes(8)).verdict is FrameVerdict.UNKNOWN


def test_chademo_voltages_are_little_endian_volts() -> None:
    decoder = FrameDecoder((load_table(Bus.CHADEMO),))
    found = values(decoder, 0x109, "017b0164010500ff")
    assert (found["present_voltage"], found["present_current"]) == (379, 100)
    assert (found["charging"], found["connector_locked"], found["stop_control"]) == (1, 1, 0)
    assert values(decoder, 0x208, "f100000000000000")["discharge_current"] == 14
    assert values(decoder, 0x208, "ff00000000000000")["discharge_current"] == 0


def test_car_can_mirrors_the_slow_battery_frames_and_not_the_pack_voltage() -> None:
    table = load_table(Bus.CAR_CAN)
    assert table.frame(0x55B) == load_table(Bus.EV_CAN).frame(0x55B)
    assert "vehicle.pack_voltage_v" not in table.quantities()
    with pytest.raises(KeyError, match="0x1DB is not in the table of the CAR-CAN"):
        table.frame(0x1DB)


def test_tables_of_all_buses_can_be_decoded_together() -> None:
    decoder = FrameDecoder(tuple(load_table(bus) for bus in Bus))
    assert {0x1DB, 0x5C5, 0x109} <= set(decoder.frames)


def test_every_quantity_has_one_unit_wherever_it_comes_from() -> None:
    units: dict[str, set[str]] = {}
    for bus in Bus:
        for frame in load_table(bus).frames:
            for signal in frame.signals:
                if signal.quantity:
                    units.setdefault(signal.quantity, set()).add(signal.unit)
    assert {quantity: unit for quantity, unit in units.items() if len(unit) > 1} == {}


def test_verified_and_assumed_layouts_are_told_apart() -> None:
    table = load_table(Bus.EV_CAN)
    assert table.frame(0x1DB).status is Status.VERIFIED
    assert table.frame(0x55A).status is Status.ASSUMED
    frame = load_table(Bus.EV_CAN).frame(0x390)
    export = next(signal for signal in frame.signals if signal.name == "export_state")
    assert frame.signal_status(export) is Status.ASSUMED


ALL_FRAMES = [frame for bus in Bus for frame in load_table(bus).frames if frame.signals]


@pytest.mark.parametrize("frame", ALL_FRAMES, ids=lambda frame: f"0x{frame.id:03X}")
@settings(max_examples=25)
@given(data=st.binary(min_size=8, max_size=8))
def test_cantools_cuts_the_same_raw_values(frame: FrameSpec, data: bytes) -> None:
    data = data[: frame.length]
    plain = frame.model_copy(update={"protection": Protection.NONE, "mux": None})
    signals = [
        signal.model_copy(update={"scale": 1.0, "offset": 0.0, "no_data": (), "when": None, "map": None})
        for signal in frame.signals
    ]
    decoder = FrameDecoder(
        (load_table(Bus.EV_CAN).model_copy(update={"frames": (plain.model_copy(update={"signals": tuple(signals)}),)}),)
    )
    ours = decoder.decode(frame.id, data)
    theirs = {signal.name: _cantools_cut(frame, signal, data) for signal in frame.signals}
    assert {signal.name: value for signal, value in zip(ours.signals, ours.values, strict=True)} == theirs


def _cantools_cut(frame: FrameSpec, signal: SignalSpec, data: bytes) -> object:
    """One signal a message, because some overlap on purpose."""
    bits = parse_bits(signal.bits)
    conversion = BaseConversion.factory(scale=1, offset=0, choices=None, is_float=False)
    order: Literal["big_endian", "little_endian"] = "big_endian" if bits.big_endian else "little_endian"
    only = Signal("it", bits.start, bits.length, byte_order=order, is_signed=bits.signed, conversion=conversion)
    decoded = Message(frame.id, "it", frame.length, [only]).decode(data, scaling=False, decode_choices=False)
    assert isinstance(decoded, dict)
    return decoded["it"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("7|11@0-", "7|11@2-"), "start|length"),
        (("length: 8", "length: 3"), "reach beyond 3 bytes"),
        (("v2gbench.frames/1", "v2gbench.frames/2"), "this program reads"),
        (("sender: LBC", "sender: LBC\n    colour: red"), "colour"),
        (("frames:", "frames: ["), "not YAML"),
    ],
)
def test_a_bad_table_is_refused_in_one_sentence_with_its_file(change: tuple[str, str], message: str) -> None:
    text = """
schema: v2gbench.frames/1
bus: ev_can
title: EV-CAN
bitrate_bps: 500000
signature: [0x1DB]
frames:
  - id: 0x1DB
    name: battery_state
    sender: LBC
    period_ms: 10
    length: 8
    status: verified
    signals:
      - {name: pack_current, bits: "7|11@0-", unit: A}
      - {name: pack_voltage, bits: "23|10@0+", unit: V}
"""
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")) as caught:
        parse_table(text.replace(*change), "table.yaml")
    assert str(caught.value).startswith("table.yaml: ")
    assert "\n" not in str(caught.value)
