"""The van's control units, their ISO-TP and their broadcasts, without a wire."""

from __future__ import annotations

import math

import pytest

from drivers.vehicle.frames import Bus, FrameDecoder, FrameVerdict, load_table
from twins.measurement import generator
from twins.vehicle.broadcast import Broadcaster
from twins.vehicle.ecus import BatteryController, VehicleController
from twins.vehicle.isotp import IsoTpResponder
from twins.vehicle.van import Van


@pytest.fixture
def van() -> Van:
    van = Van("van", generator(7, "van"), soc_percent=55.0, soh_percent=97.0, ambient_c=22.0, odometer_km=150_102)
    van.bms.soc = 0.251648
    van.bms.plane.voltage_v = 337.0
    van.bms.plane.current_a = -1500 / 1024
    van.bms.voltage_12v = 13.0
    van.bms.temperatures_c = (18.0, 17.0, -4.0, 21.0)
    return van


@pytest.mark.parametrize(("group", "length"), [(0x01, 53), (0x02, 198), (0x04, 37), (0x06, 26), (0x61, 331)])
def test_groups_have_the_lengths_of_the_real_ones(van: Van, group: int, length: int) -> None:
    reply = BatteryController(van).answer(bytes((0x21, group)))
    assert reply is not None
    assert len(reply) == length
    assert reply[:2] == bytes((0x61, group))


def test_the_pack_group_has_each_value_at_its_place(van: Van) -> None:
    reply = BatteryController(van).answer(b"\x21\x01")
    assert reply is not None
    payload = reply[2:]
    assert payload[0:4] == bytes.fromhex("fffffa24")  # -1500 / 1024 A, + charges
    assert payload[4:6] == bytes.fromhex("02af")
    assert payload[14:16] == bytes.fromhex("1b58")  # 70.00 kW
    assert payload[16:18] == bytes.fromhex("2af8")  # 110.00 kW
    assert payload[18:20] == bytes.fromhex("83a4")  # 337.00 V
    assert payload[20:22] == bytes.fromhex("3400")  # 13.0 V
    assert payload[22:24] == bytes.fromhex("038a")  # 906 kOhm
    assert payload[31:34] == bytes.fromhex("03d700")  # 25.1648 %
    assert payload[35:38] == bytes.fromhex("111618")  # 111.9768 Ah
    assert payload[41:45] == bytes.fromhex("fffffa24")


def test_temperatures_come_as_raw_value_and_degrees(van: Van) -> None:
    reply = BatteryController(van).answer(b"\x21\x04")
    assert reply is not None
    assert reply[2:5] == bytes.fromhex("021612")  # 710 - 18 / 0.102 = 534, 18 degC
    assert reply[8:11] == bytes.fromhex("02edfc")  # 749, -4 degC
    assert reply[14] == 13


def test_a_value_beyond_its_field_stops_short_of_the_one_that_says_absent(van: Van) -> None:
    van.bms.plane.voltage_v = 700.0
    reply = BatteryController(van).answer(b"\x21\x01")
    assert reply is not None
    assert reply[20:22] == bytes.fromhex("fffe")


def test_a_value_that_is_not_known_says_absent(van: Van) -> None:
    van.bms.soc = math.nan
    reply = BatteryController(van).answer(b"\x21\x01")
    assert reply is not None
    assert reply[33:36] == bytes.fromhex("ffffff")


@pytest.mark.parametrize(
    ("request_hex", "reply_hex"),
    [("2199", "7f2131"), ("22 1234", "7f2211"), ("21", "7f2113"), ("210101", "7f2113"), ("10c0", "7f1011")],
)
def test_the_battery_controller_refuses_what_it_does_not_know(van: Van, request_hex: str, reply_hex: str) -> None:
    assert BatteryController(van).answer(bytes.fromhex(request_hex)) == bytes.fromhex(reply_hex)


@pytest.mark.parametrize(
    ("request_hex", "reply_hex"),
    [
        ("10c0", "50c0"),
        ("1081", "5081"),
        ("10ff", "7f1012"),
        ("3e00", "7e00"),
        ("221103", "621103a2"),  # 13.0 V / 0.08
        ("221156", "62115601"),
        ("22115d", "62115d7c"),  # 23.0 degC: the sensor has an offset of its own
        ("221203", "6212030003"),
        ("221205", "6212050008"),
        ("221234", "62123400"),
        ("221304", "62130480"),
        ("220e01", "7f2231"),
        ("2212", "7f2213"),
        ("2182", "7f2131"),
        ("1902ff", "7f1911"),
        ("2181", "6181" + b"V2GBENCHTW1N00001".hex()),
    ],
)
def test_the_vehicle_controller_answers(van: Van, request_hex: str, reply_hex: str) -> None:
    reply = VehicleController(van).answer(bytes.fromhex(request_hex))
    assert reply is not None
    assert reply.hex() == reply_hex


def test_plug_and_charge_mode_follow_the_session(van: Van) -> None:
    unit = VehicleController(van)
    van.plug_in()
    assert unit.answer(b"\x22\x12\x34") == bytes.fromhex("62123402")
    van.begin_transfer()
    assert unit.answer(b"\x22\x11\x4e") == bytes.fromhex("62114e03")
    van.unplug()
    assert unit.answer(b"\x22\x11\x4e") == bytes.fromhex("62114e00")


# ISO-TP


def responder(reply: bytes) -> IsoTpResponder:
    return IsoTpResponder(lambda request: reply if request == b"\x21\x01" else None, padding=0xFF)


ASK = bytes.fromhex("0221010000000000")


def test_a_short_reply_is_one_padded_frame() -> None:
    assert responder(bytes.fromhex("62123402")).receive(ASK, 0.0) == [bytes.fromhex("0462123402ffffff")]


def test_a_long_reply_waits_for_flow_control_and_then_comes_whole() -> None:
    unit = responder(bytes(range(20)))
    assert unit.receive(ASK, 0.0) == [bytes.fromhex("1014000102030405")]
    assert unit.receive(bytes.fromhex("300000"), 0.1) == [
        bytes.fromhex("21060708090a0b0c"),
        bytes.fromhex("220d0e0f10111213"),
    ]
    assert not unit.is_busy(0.1)


def test_sequence_numbers_wrap_from_15_to_0() -> None:
    unit = responder(bytes(6 + 17 * 7))
    unit.receive(ASK, 0.0)
    frames = unit.receive(bytes.fromhex("300000"), 0.0)
    assert [frame[0] for frame in frames] == [*range(0x21, 0x30), 0x20, 0x21]


def test_a_block_size_is_kept() -> None:
    unit = responder(bytes(6 + 3 * 7))
    unit.receive(ASK, 0.0)
    assert len(unit.receive(bytes.fromhex("300200"), 0.0)) == 2
    assert unit.waits_for_flow_control(0.5)
    assert len(unit.receive(bytes.fromhex("300200"), 0.5)) == 1


@pytest.mark.parametrize(
    ("st_min", "gap_s"), [("0a", 0.010), ("7f", 0.127), ("f1", 0.0001), ("f9", 0.0009), ("fa", 0.127)]
)
def test_the_separation_time_is_kept(st_min: str, gap_s: float) -> None:
    unit = responder(bytes(20))
    unit.receive(ASK, 0.0)
    assert len(unit.receive(bytes.fromhex("3000" + st_min), 5e-1)) == 1
    assert unit.next_due_s == pytest.approx(0.5 + gap_s)
    assert unit.due(0.5 + gap_s * 0.9) == []
    assert len(unit.due(0.5 + gap_s * 1.01)) == 1


def test_a_request_while_a_reply_is_in_flight_is_dropped_silently() -> None:
    unit = responder(bytes(20))
    unit.receive(ASK, 0.0)
    assert unit.receive(ASK, 0.2) == []
    assert len(unit.receive(bytes.fromhex("300000"), 0.3)) == 2


def test_without_flow_control_the_reply_is_given_up_after_a_second() -> None:
    unit = responder(bytes(20))
    unit.receive(ASK, 0.0)
    assert unit.receive(ASK, 0.99) == []
    assert unit.receive(bytes.fromhex("300000"), 1.01) == []
    assert unit.receive(ASK, 1.02) != []


def test_wait_holds_and_overflow_ends_the_reply() -> None:
    unit = responder(bytes(20))
    unit.receive(ASK, 0.0)
    assert unit.receive(bytes.fromhex("310000"), 0.9) == []
    assert unit.waits_for_flow_control(1.5)
    assert unit.receive(bytes.fromhex("320000"), 1.5) == []
    assert not unit.is_busy(1.5)


def test_a_request_of_several_frames_is_put_together() -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return b"\x7e\x00"

    unit = IsoTpResponder(answer, padding=0x00)
    assert unit.receive(bytes.fromhex("100a010203040506"), 0.0) == [bytes.fromhex("3000000000000000")]
    assert unit.receive(bytes.fromhex("21070809 0a555555"), 0.1) == [bytes.fromhex("027e000000000000")]
    assert asked == [bytes.fromhex("0102030405060708090a")]


@pytest.mark.parametrize(
    "frame", ["", "00", "07", "0821", "2101020304050607", "4000", "10", "1005010203040506", "3000"]
)
def test_frames_that_make_no_sense_are_ignored(frame: str) -> None:
    assert responder(bytes(20)).receive(bytes.fromhex(frame), 0.0) == []


# broadcasts


def test_broadcasts_carry_the_state_with_right_checksums(van: Van) -> None:
    broadcaster = Broadcaster(van)
    broadcaster.start(0.0)
    decoder = FrameDecoder((load_table(Bus.EV_CAN), load_table(Bus.CAR_CAN)))
    seen: dict[str, float | None] = {}
    for frame in broadcaster.due(0.0):
        decoded = decoder.decode(*frame)
        assert decoded.verdict is FrameVerdict.GOOD, hex(frame.can_id)
        seen |= {s.quantity: value for s, value in zip(decoded.signals, decoded.values, strict=True) if s.quantity}
    assert seen["vehicle.pack_voltage_v"] == 337.0
    assert seen["vehicle.pack_current_a"] == -1.5
    assert seen["vehicle.soc_percent"] == 25.2
    assert seen["vehicle.soh_percent"] == 97.0
    assert seen["vehicle.odometer_km"] == 150_102.0
    assert seen["vehicle.gids"] == van.bms.gids
    assert seen["vehicle.discharge_limit_w"] == 110_000.0


def test_a_frame_is_right_bit_by_bit(van: Van) -> None:
    # 0x1DB: -1.5 A is -3 in 11 bits (7FD), 337.0 V is 674 (2A2) in 10 bits, interlock, dash SOC 15 %; counter 0.
    frame = Broadcaster(van).frame(0x1DB)
    assert frame.data[:7] == bytes.fromhex("ffa0a8880f0000")
    assert frame.data[7] == crc_by_bits(frame.data[:7])


def crc_by_bits(data: bytes) -> int:
    """The shift register of the textbook, one bit at a time."""
    register = 0
    for byte in data:
        for position in range(7, -1, -1):
            out = register >> 7 ^ (byte >> position & 1)
            register = register << 1 & 0xFF
            if out:
                register ^= 0x85
    return register


def test_the_nibble_checksum_is_the_sum_of_identifier_and_data(van: Van) -> None:
    frame = Broadcaster(van).frame(0x390)
    digits = "390" + frame.data.hex()[:-1]
    assert frame.data[7] & 0x0F == sum(int(digit, 16) for digit in digits) % 16


def test_counters_step_and_periods_are_kept(van: Van) -> None:
    broadcaster = Broadcaster(van, ids=(0x1DB, 0x5B3))
    assert broadcaster.next_due_s == math.inf
    broadcaster.start(10.0)
    frames = [frame for tenth in range(11) for frame in broadcaster.due(10.0 + tenth / 100.0 + 1e-6)]
    fast = [frame for frame in frames if frame.can_id == 0x1DB]
    assert [frame.data[6] & 3 for frame in fast] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert sum(frame.can_id == 0x5B3 for frame in frames) == 2  # at 0 and at 100 ms


def test_a_late_broadcast_comes_once_and_not_in_a_burst(van: Van) -> None:
    broadcaster = Broadcaster(van, ids=(0x1DB,))
    broadcaster.start(0.0)
    assert len(broadcaster.due(5.0)) == 1
    assert broadcaster.next_due_s == pytest.approx(5.01)
