"""Every cell of Table 1 and Table 2, typed here from the paper and compared with what the rules let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledgers.canonical import Json
from ledgers.channels import Channels, load_channels
from ledgers.errors import AccessDenied, ContractRefused, RecordError

COLUMNS = ("monitoring", "remuneration", "alarms")

# Table 1, "Data visibility for stakeholders based on channel subscription": monitoring, remuneration, alarms.
TABLE_1 = {
    "EV owner": "xxx",
    "EV manufacturer": "x-x",
    "EV driver": "xxx",
    "Insurance company": "--x",
    "Charging station": "x--",
    "DSO": "xx-",
    "TSO": "xx-",
    "Battery owner": "x-x",
    "Aggregator": "xx-",
}
# Table 2, "Assignment of data types to channels", in the same columns; with a member that carries the type.
TABLE_2 = {
    "Charging baseline": ("-x-", "baseline_power_w"),
    "Instantaneous power": ("xxx", "power_w"),
    "Connection status": ("xxx", "plug_state"),
    "Temperature": ("x-x", "pack_temperatures_c"),
    "Charging profile": ("xx-", "ordered_power_w"),
    "Charging current": ("xxx", "current_a"),
    "Battery SoH": ("x-x", "soh_percent"),
    "Battery SoC": ("x-x", "soc_percent"),
    "Cell battery voltage": ("x-x", "cell_voltage_v"),
}
WRITERS = {
    ("ev_owner", "monitoring", "observe"),
    ("charging_station", "monitoring", "observe"),
    ("charging_station", "monitoring", "usage"),
    ("aggregator", "remuneration", "baseline"),
    ("aggregator", "remuneration", "usage"),
    ("dso", "remuneration", "order"),
    ("tso", "remuneration", "order"),
}
FUNCTIONS = ("observe", "usage", "order", "baseline", "alarm")


def word(name: str) -> str:
    return name.lower().replace(" ", "_")


@pytest.fixture(scope="module")
def channels() -> Channels:
    return load_channels()


@pytest.mark.parametrize("channel", COLUMNS)
@pytest.mark.parametrize("stakeholder", TABLE_1)
def test_table_1_decides_who_reads(channels: Channels, stakeholder: str, channel: str) -> None:
    allowed = TABLE_1[stakeholder][COLUMNS.index(channel)] == "x"
    assert channels.may_read(word(stakeholder), channel) is allowed
    if allowed:
        channels.require_read(word(stakeholder), channel, who="somebody")
    else:
        with pytest.raises(AccessDenied, match=f"may not read channel '{channel}'"):
            channels.require_read(word(stakeholder), channel, who="somebody")


def test_table_1_and_table_2_are_complete(channels: Channels) -> None:
    assert channels.names == COLUMNS
    assert channels.roles == tuple(word(name) for name in TABLE_1)
    assert tuple(channels.data_types) == tuple(word(name) for name in TABLE_2)


@pytest.mark.parametrize("channel", COLUMNS)
@pytest.mark.parametrize("data_type", TABLE_2)
def test_table_2_decides_what_stands_where(channels: Channels, data_type: str, channel: str) -> None:
    cells, member = TABLE_2[data_type]
    assert channels.data_type(member) == word(data_type)
    nested: Json = {"vehicle_id": "van", "observed": [{member: 1.0}]}
    if cells[COLUMNS.index(channel)] == "x":
        channels.check_document(channel, {member: 1.0})
    else:
        flat: Json = {member: 1.0}
        for document in (flat, nested):
            with pytest.raises(ContractRefused, match=f"Table 2 does not put on channel '{channel}'"):
                channels.check_document(channel, document)


@pytest.mark.parametrize("channel", COLUMNS)
@pytest.mark.parametrize("role", [*map(word, TABLE_1), "contract", "nobody"])
def test_only_the_stated_writers_write(channels: Channels, role: str, channel: str) -> None:
    for function in FUNCTIONS:
        allowed = (role, channel, function) in WRITERS
        assert channels.may_write(role, channel, function) is allowed
        if not allowed:
            with pytest.raises(AccessDenied, match="may not call"):
                channels.require_write(role, channel, function, who="somebody")


def test_the_contract_alone_writes_alarms(channels: Channels) -> None:
    with pytest.raises(AccessDenied, match="allowed: the contract alone"):
        channels.require_write("ev_owner", "alarms", "alarm", who="phone")
    channels.require_contract_write("monitoring", "alarms")
    with pytest.raises(ContractRefused, match="may not write on channel 'alarms'"):
        channels.require_contract_write("remuneration", "alarms")


@pytest.mark.parametrize("channel", ["remuneration", "alarms"])
def test_how_the_vehicle_is_driven_stays_on_monitoring(channels: Channels, channel: str) -> None:
    channels.check_document("monitoring", {"gear": 4})
    with pytest.raises(ContractRefused, match="stays on channel 'monitoring'"):
        channels.check_document(channel, {"gear": 4})


@pytest.mark.parametrize("channel", COLUMNS)
def test_a_member_without_a_data_type_is_refused_everywhere(channels: Channels, channel: str) -> None:
    with pytest.raises(ContractRefused, match="'latitude' has no data type"):
        channels.check_document(channel, {"latitude": 37.9})


def test_an_unknown_channel_is_named_with_the_known_ones(channels: Channels) -> None:
    with pytest.raises(AccessDenied, match="there are monitoring, remuneration, alarms"):
        channels.require_read("ev_owner", "gossip", who="phone")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("channels/1.0", "channels/2.0", "this version reads"),
        ("ev_owner: [monitoring, remuneration, alarms]", "ev_owner: [monitoring, gossip]", "'gossip' is not one of"),
        ("temperature: [pack_temperatures_c, ambient_c]", "temperature: [power_w]", "stand under two data types"),
        ("battery_soc: [soc_percent]", "battery_mood: [soc_percent]", "'battery_mood', which is not under"),
        ("readers:", "raeders:", "raeders: Extra inputs|readers: Field required"),
        ("readers:", "readers: [", "cannot be read as YAML"),
    ],
)
def test_rules_that_contradict_themselves_are_refused_whole(tmp_path: Path, old: str, new: str, reason: str) -> None:
    shipped = Path(load_channels.__code__.co_filename).with_name("channels.yaml").read_text(encoding="utf-8")
    assert old in shipped
    path = tmp_path / "channels.yaml"
    path.write_text(shipped.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RecordError, match=reason) as caught:
        load_channels(path)
    assert str(path) in str(caught.value)
