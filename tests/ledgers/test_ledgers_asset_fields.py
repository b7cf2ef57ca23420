"""The asset of the paper: its fields, its encodings as Listing 1 prints them, its channels by Table 2."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import resources

import pytest
from ruamel.yaml import YAML

from ledgers.asset_fields import asset_table, build_asset, parse_asset_table
from ledgers.errors import RecordError

# Listing 1 of Augello et al., Computer Networks 2023, doi 10.1016/j.comnet.2023.109558. DataBC is stated there in CEST,
# here in UTC; Odo is missing in the listing, its value stands in Fig. 8.
LISTING_1 = {
    "ID": "env200-fav",
    "DataBC": "Wed, 19 May 2021 14:16:07 UTC",
    "Data_log": "04/12/2021 14:56:21",
    "Lat": "37 55.6873",
    "Long": "12 19.7271",
    "Speed": "0.0",
    "Gids": "467",
    "SOC": "933001",
    "Pack_Volts": "395.00",
    "Pack_Amps": "-0.0",
    "Avg_CP_mV": "4117",
    "Pack_T1_C": "17.2",
    "Pack_T2_C": "17.0",
    "Pack_T3_C": "18.0",
    "Pack_T4_C": "17.4",
    "Odo": "941",
    "QC": "3",
    "L1_L2": "8",
    "Ambient": "18.0",
    "SOH": "99.16",
    "Plug_State": "0",
    "Charge_Mode": "0",
    "Gear": "4",
    "Motor_Temp": "70",
    "Inverter_2_Temp": "40",
    "Inverter_4_Temp": "40",
    "I_time_stamp_state0": "01/01/2021 00:00:00",
    "I_time_stamp_state1": "04/12/2021 14:48:21",
    "I_time_stamp_state2": "04/12/2021 14:52:50",
}

# Table 2 of the same paper: monitoring, remuneration, alarms.
TABLE_2 = {
    "Charging baseline": (False, True, False),
    "Istantaneous power": (True, True, True),
    "Connection status": (True, True, True),
    "Temperature": (True, False, True),
    "Charging profile": (True, True, False),
    "Charging current": (True, True, True),
    "Battery SoH": (True, False, True),
    "Battery SoC": (True, False, True),
    "Cell battery voltage": (True, False, True),
}


def utc_s(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


QUANTITIES: dict[str, float | str | None] = {
    "vehicle.asset_id": "env200-fav",
    "ledger.utc": utc_s(2021, 5, 19, 14, 16, 7),
    "session.utc": utc_s(2021, 4, 12, 14, 56, 21),
    "position.latitude_deg": 37 + 55.6873 / 60,
    "position.longitude_deg": 12 + 19.7271 / 60,
    "vehicle.speed_kmh": 0.0,
    "vehicle.gids": 467.0,
    "vehicle.soc_percent": 93.3001,
    "vehicle.pack_voltage_v": 395.0,
    "vehicle.pack_current_a": 0.03,  # a trickle into the pack
    "vehicle.cell_average_v": 4.117,
    "vehicle.pack_temperature_1_c": 17.2,
    "vehicle.pack_temperature_2_c": 17.0,
    "vehicle.pack_temperature_3_c": 18.0,
    "vehicle.pack_temperature_4_c": 17.4,
    "vehicle.odometer_km": 941.0,
    "vehicle.quick_charges": 3.0,
    "vehicle.l1_l2_charges": 8.0,
    "vehicle.ambient_c": 18.0,
    "vehicle.soh_percent": 99.16,
    "vehicle.plug_state": 0.0,
    "vehicle.charge_mode": 0.0,
    "vehicle.gear": 4.0,
    "vehicle.motor_temperature_c": 70.0,
    "vehicle.inverter_2_temperature_c": 40.0,
    "vehicle.inverter_4_temperature_c": 40.0,
    "contract.state0_utc": utc_s(2021, 1, 1, 0, 0, 0),
    "contract.state1_utc": utc_s(2021, 4, 12, 14, 48, 21),
    "contract.state2_utc": utc_s(2021, 4, 12, 14, 52, 50),
}


@pytest.mark.parametrize("mode", ["driving", "charging"])
def test_every_encoding_gives_the_value_that_listing_1_prints(mode: str) -> None:
    fields = build_asset(QUANTITIES, {}, mode="driving" if mode == "driving" else "charging")
    assert {field.name: field.value for field in fields} == LISTING_1
    assert [field.name for field in fields] == list(LISTING_1)


def test_without_any_value_every_field_is_null_with_a_reason() -> None:
    fields = build_asset({}, {})
    assert all(field.value is None and field.source is None and field.reason for field in fields)
    reasons = {field.name: field.reason for field in fields}
    assert reasons["Lat"] == "there is no positioning device in the station"


def test_the_callers_reason_stands_before_the_general_one() -> None:
    fields = build_asset(
        {"vehicle.pack_temperature_3_c": math.nan}, {"vehicle.pack_temperature_3_c": "the pack has three sensors"}
    )
    third = next(field for field in fields if field.name == "Pack_T3_C")
    assert (third.value, third.reason) == (None, "the pack has three sensors")


def test_positive_current_charges_here_and_discharges_in_the_paper() -> None:
    def pack_amps(current_a: float) -> str | None:
        return next(f.value for f in build_asset({"vehicle.pack_current_a": current_a}, {}) if f.name == "Pack_Amps")

    assert pack_amps(14.58) == "-14.6"
    assert pack_amps(-53.412) == "53.4"


def test_while_charging_the_charger_stands_in_for_a_silent_vehicle_but_not_while_driving() -> None:
    charger_only: dict[str, float | str | None] = {"charger.dc_voltage_v": 371.2, "vehicle.pack_voltage_v": None}

    def pack_volts(mode: str) -> tuple[str | None, str | None]:
        fields = build_asset(charger_only, {}, mode="driving" if mode == "driving" else "charging")
        return next((f.value, f.source) for f in fields if f.name == "Pack_Volts")

    assert pack_volts("charging") == ("371.20", "charger.dc_voltage_v")
    assert pack_volts("driving") == (None, None)


@pytest.mark.parametrize(
    ("degrees", "text"),
    [(-12.5, "-12 30.0000"), (0.0, "0 0.0000"), (37.999999999, "38 0.0000"), (-180.0, "-180 0.0000")],
)
def test_positions_are_degrees_and_decimal_minutes(degrees: float, text: str) -> None:
    fields = build_asset({"position.longitude_deg": degrees}, {})
    assert next(field.value for field in fields if field.name == "Long") == text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vehicle.state_of_charge": 50.0}, "vehicle.state_of_charge"),
        ({"vehicle.gids": "467"}, "Gids is a number"),
        ({"vehicle.gids": math.inf}, "Gids is a number"),
        ({"vehicle.asset_id": 12.0}, "ID is a text"),
        ({"position.latitude_deg": 400.0}, "angle"),
        ({"session.utc": 1e300}, "seconds since 1970"),
    ],
)
def test_a_value_that_cannot_be_written_is_refused(values: dict[str, float | str | None], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        build_asset(values, {})


def test_table_2_is_the_papers_cell_by_cell() -> None:
    columns = ("monitoring", "remuneration", "alarms")
    found = {
        row.table_2: tuple(column in row.channels for column in columns) for row in asset_table().data_types.values()
    }
    assert found == TABLE_2


def test_table_2_is_the_same_here_and_in_the_channels_of_the_ledger() -> None:
    channels = YAML(typ="safe", pure=True).load(resources.files("ledgers").joinpath("channels.yaml").read_text("utf-8"))
    assert {name: list(row.channels) for name, row in asset_table().data_types.items()} == channels["data_types"]


def test_state_of_charge_never_reaches_the_remuneration_channel() -> None:
    fields = {field.name: field for field in build_asset(QUANTITIES, {})}
    assert fields["SOC"].channels == ("monitoring", "alarms")
    assert fields["Pack_Amps"].channels == ("monitoring", "remuneration", "alarms")
    assert fields["Odo"].channels == ("monitoring",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v2gbench.asset-fields/1.0", "v2gbench.asset-fields/2.0", "version 2.0"),
        ("data_type: battery_soh", "data_type: soh", "SOH has the data type 'soh'"),
        ("untyped: {channels: [monitoring]}", "untyped: {channels: [newspaper]}", "untyped"),
        ("decimals: 2", "digits: 2", "unknown to the schema"),
        ("fields:\n  ID:", "fields: [\n  ID:", "not YAML"),
    ],
)
def test_a_damaged_table_is_refused_with_the_place(old: str, new: str, message: str) -> None:
    text = resources.files("ledgers").joinpath("asset_fields.yaml").read_text("utf-8")
    assert old in text
    with pytest.raises(RecordError, match=message):
        parse_asset_table(text.replace(old, new))
