"""Replies of the battery controller and the vehicle controller, from bytes written by hand.

The first pack reply has values of an e-NV200 40 kWh with 150,000 km (public capture in OBDb/Nissan-Leaf and
furdog/leaf_can_filter), put into bytes with the scales of the sources, not with our encoder.
"""

from __future__ import annotations

import math
from importlib import resources

import pytest

from drivers.errors import ConfigError, DeviceError, LinkGarbled
from drivers.readings import Quality
from drivers.vehicle import diagnostics, identifiers, lbc_groups

PACK = bytes.fromhex(
    "6101"
    "fffffa24"  # 0..3 current -1500 / 1024 A
    "02af"
    "fffffa13"  # 6..9 filtered current
    "00000000"
    "116c"  # 14..15 charge limit 44.60 kW
    "19c4"  # 16..17 discharge limit 65.96 kW
    "83a4"  # 18..19 33700 / 100 V
    "3400"  # 20..21 13312 / 1024 V
    "038a"  # 22..23 906 kOhm
    "00000000"
    "1571"  # 28..29 5489 / 102.4 %
    "00"
    "03d700"  # 31..33 251648 / 10000 %
    "00"
    "0f0270"  # 35..37 983664 / 10000 Ah
    "000000"
    "fffffa13"  # 41..44 filtered current again
    "000000000000"
)


def with_bytes(reply: bytes, offset: int, new: str) -> bytes:
    """`reply` with bytes replaced at an offset that counts from after service and number."""
    raw = bytes.fromhex(new)
    return reply[: 2 + offset] + raw + reply[2 + offset + len(raw) :]


def test_the_pack_reply_of_an_env200_is_337_v_and_25_percent() -> None:
    assert len(PACK) == 53
    pack = lbc_groups.decode_pack(PACK, device="van")
    assert pack.voltage_v == (337.0, "V", Quality.GOOD)
    assert pack.soc_percent == (25.1648, "%", Quality.GOOD)
    assert pack.capacity_ah == (98.3664, "Ah", Quality.GOOD)
    assert pack.current_a == (-1.46484375, "A", Quality.GOOD)
    assert pack.charge_limit_w == (44_600.0, "W", Quality.GOOD)
    assert pack.discharge_limit_w == (65_960.0, "W", Quality.GOOD)
    assert pack.voltage_12v == (13.0, "V", Quality.GOOD)
    assert pack.insulation_kohm == (906.0, "kOhm", Quality.GOOD)
    assert pack.hx_percent.value == pytest.approx(53.6, abs=0.005)


def test_current_into_the_pack_is_positive() -> None:
    pack = lbc_groups.decode_pack(with_bytes(PACK, 0, "00003800"), device="van")
    assert pack.current_a.value == 14.0


@pytest.mark.parametrize(
    ("offset", "raw", "name", "quality"),
    [
        (18, "ffff", "voltage_v", Quality.NO_DATA),
        (18, "0000", "voltage_v", Quality.OVER_RANGE),
        (22, "03ff", "insulation_kohm", Quality.OVER_RANGE),  # 1023 is an open circuit
        (31, "ffffff", "soc_percent", Quality.NO_DATA),
        (31, "0f4241", "soc_percent", Quality.OVER_RANGE),  # 100.0001 %
        (0, "7fffffff", "current_a", Quality.OVER_RANGE),
    ],
)
def test_a_value_that_means_nothing_is_nan_and_says_why(offset: int, raw: str, name: str, quality: Quality) -> None:
    pack = lbc_groups.decode_pack(with_bytes(PACK, offset, raw), device="van")
    value = getattr(pack, name)
    assert math.isnan(value.value)
    assert value.quality is quality


def test_cells_are_millivolts_and_an_absent_one_is_left_out() -> None:
    cells = bytes.fromhex("6102" + "0e93" * 94 + "0e97" + "ffff" + "8bff" + "0000")
    group = lbc_groups.decode_cells(cells, device="van")
    assert len(group.groups_v) == 96
    assert group.min_v.value == 3.731
    assert group.max_v.value == 3.735
    assert group.average_v.value == pytest.approx((94 * 3.731 + 3.735) / 95)
    assert group.groups_v[95].quality is Quality.NO_DATA
    assert group.voltage_v.value == 358.39
    assert group.bus_v.value == 0.0


def test_no_cell_at_all_is_no_data_and_not_zero_volts() -> None:
    group = lbc_groups.decode_cells(bytes.fromhex("6102" + "ffff" * 98), device="van")
    assert group.average_v.quality is Quality.NO_DATA
    assert math.isnan(group.min_v.value)


def test_an_absent_sensor_has_no_temperature_whatever_its_byte_says() -> None:
    reply = bytes.fromhex("6104" + "021612" + "021f11" + "ffff00" + "02e8fc" + "0d" + "ff" * 22)
    group = lbc_groups.decode_temperatures(reply, device="van")
    assert len(reply) == 37
    assert [sensor.value for sensor in group.sensors_c[:2]] == [18.0, 17.0]
    assert group.sensors_c[2].quality is Quality.NO_DATA
    assert group.sensors_c[3].value == -4.0
    assert group.average_c.value == 13.0


def test_shunts_are_one_bit_a_group() -> None:
    reply = bytes.fromhex("6106" + "80" + "00" * 10 + "01" + "ff" * 12)
    assert [index for index, on in enumerate(lbc_groups.decode_shunts(reply, device="van")) if on] == [0, 95]


def test_health_is_read_from_the_long_and_from_the_short_reply() -> None:
    head = "6161" + "1571" + "213e"  # SOH 85.10 %
    long = bytes.fromhex(head + "00" * 9 + "0f0270" + "ff" * 313)
    assert len(long) == 331
    assert lbc_groups.decode_health(long, device="van").soh_percent.value == 85.1
    assert lbc_groups.decode_health(long, device="van").capacity_ah.value == 98.3664
    short = lbc_groups.decode_health(bytes.fromhex(head + "00" * 6), device="van")
    assert short.soh_percent.value == 85.1
    assert short.capacity_ah.quality is Quality.NO_DATA


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "van: the battery controller \\(LBC\\) gave an empty reply"),
        (PACK[:44], "answered 44 bytes where 53 are due; it is waking up, or this is another battery"),
        (PACK[:1] + b"\x02" + PACK[2:], "answered 61 02 where 61 01 was due"),
        (b"\x62" + PACK[1:], "answered 62 01 where 61 01 was due"),
        (b"\x7f\x22\x31", "refused a service that was not asked for"),
        (b"\x7f\x21", "refused a service that was not asked for"),
    ],
)
def test_bytes_that_are_no_answer_are_garbled(reply: bytes, message: str) -> None:
    with pytest.raises(LinkGarbled, match=message) as caught:
        lbc_groups.decode_pack(reply, device="van")
    assert "'21 01'" in str(caught.value)


def test_a_refusal_keeps_the_code_of_the_unit() -> None:
    with pytest.raises(DeviceError, match="refused: request out of range") as caught:
        lbc_groups.decode_pack(b"\x7f\x21\x31", device="van")
    assert caught.value.code == "0x31"


@pytest.mark.parametrize(
    ("identifier", "reply", "value"),
    [
        (0x1205, "621205 02e6", 742.0),  # the one reply seen in a public capture of an e-NV200
        (0x1103, "621103 a5", 13.2),
        (0x115D, "62115d 7c", 22.0),
        (0x1183, "621183 ff80", -0.5),
        (0x121A, "62121a 01f4", 50.0),
        (0x114E, "62114e 03", 3.0),
        (0x1234, "621234 02", 2.0),
        (0x1304, "621304 80", 1.0),
    ],
)
def test_identifiers_have_their_scales(identifier: int, reply: str, value: float) -> None:
    decoded = identifiers.decode_identifier(identifier, bytes.fromhex(reply), device="van")
    assert decoded.value == pytest.approx(value)
    assert decoded.quality is Quality.GOOD


def test_a_charge_mode_that_does_not_exist_is_over_range() -> None:
    decoded = identifiers.decode_identifier(0x114E, bytes.fromhex("62114e09"), device="van")
    assert decoded.quality is Quality.OVER_RANGE


def test_a_vehicle_number_needs_17_letters_and_digits() -> None:
    assert identifiers.decode_vin(b"\x61\x81V2GBENCHTW1N00001\x00", device="van") == "V2GBENCHTW1N00001"
    with pytest.raises(LinkGarbled, match="not 17 letters and digits"):
        identifiers.decode_vin(b"\x61\x81" + b"\xff" * 17, device="van")


def test_requests_are_the_bytes_of_the_sources() -> None:
    assert lbc_groups.pack_request() == b"\x21\x01"
    assert identifiers.session_request() == b"\x10\xc0"
    assert identifiers.identifier_request(0x1234) == b"\x22\x12\x34"
    assert identifiers.vin_request() == b"\x21\x81"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v2gbench.diagnostics/1", "v2gbench.diagnostics/2", "this program reads"),
        ("reply_bytes: 53", "reply_bytes: 43", "reaches beyond 43 bytes"),
        (
            "{name: voltage_v, offset: 18,",
            "{name: voltage_v, offset: 17,",
            "voltage_v overlaps discharge_limit_w at 17",
        ),
        ("number: 0x02", "number: 0x01", "group 0x01 is given twice"),
        ("id: 0x1103", "id: 0x1103, colour: red", "Extra inputs"),
        ("units:", "units: [", "not YAML"),
    ],
)
def test_a_spoilt_table_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    text = resources.files("drivers.vehicle").joinpath(diagnostics.TABLE_NAME).read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ConfigError, match=message):
        diagnostics.parse_table(text.replace(old, new, 1), "table.yaml")
