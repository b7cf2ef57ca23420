"""`init` writes a station file that works as it is, makes the keys of its signers, and replaces nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bench.commands.init import init_station, key_names, make_keys
from bench.station import load_station
from drivers.errors import ConfigError
from ledgers.formats.tlog import stored_log_key
from ledgers.identity import FileKeys

# Table 1 of the paper that the channels come from (doi 10.1016/j.comnet.2023.109558), typed from it.
STAKEHOLDERS = {
    "ev_owner",
    "ev_manufacturer",
    "ev_driver",
    "insurance_company",
    "charging_station",
    "dso",
    "tso",
    "battery_owner",
    "aggregator",
}


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def test_an_emulated_station_is_written_commented_and_loads(tmp_path: Path, configuration: Path) -> None:
    result = init_station(tmp_path / "lab a")
    assert result.station_path == tmp_path / "lab a" / "station.yaml"
    assert (result.station_name, result.station_made) == ("lab_a", True)
    text = result.station_path.read_text()
    assert text.count("#") > 25
    station = load_station(result.station_path)
    assert not station.any_metal
    assert station.keys_folder == configuration / "v2gbench" / "keys" / "lab_a"


def test_a_metal_station_is_written_commented_and_loads(tmp_path: Path, configuration: Path) -> None:
    station = load_station(init_station(tmp_path / "lab", metal=True).station_path)
    assert station.metal == ("charger", "van", "meter")
    assert station.keys_folder == configuration / "v2gbench" / "keys" / "lab"


def test_every_witness_party_station_and_log_gets_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    result = init_station(tmp_path / "lab")
    keys = FileKeys(result.keys.folder)
    names = {"charger", "van", "meter", "lab", "contract"} | STAKEHOLDERS
    assert {path.name for path in result.keys.made} == {f"{name}.pem" for name in names} | {"log.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in result.keys.made} == {0o600}
    assert stat.S_IMODE(result.keys.folder.stat().st_mode) == 0o700
    assert len({keys.identity(name, "any").key_id for name in names}) == len(names)
    assert len(stored_log_key(keys, "log").public_key_der) == 44


def test_keys_are_random_and_differ_between_two_stations(tmp_path: Path) -> None:
    first, second = (FileKeys(init_station(tmp_path / name).keys.folder) for name in ("one", "two"))
    assert first.identity("van", "vehicle").key_id != second.identity("van", "vehicle").key_id


def test_a_second_run_leaves_file_and_keys_alone_and_adds_what_a_renamed_device_needs(tmp_path: Path) -> None:
    first = init_station(tmp_path / "lab")
    before = {path: path.read_bytes() for path in first.keys.made}
    text = first.station_path.read_text()
    assert text.count("\n  meter:\n") == 1
    first.station_path.write_text(text.replace("\n  meter:\n", "\n  analyzer_1:\n"))
    second = init_station(tmp_path / "lab")
    assert not second.station_made
    assert [path.name for path in second.keys.made] == ["analyzer_1.pem"]
    assert len(second.keys.kept) == len(before) - 1
    assert {path: path.read_bytes() for path in before} == before


def test_an_existing_file_is_not_replaced_by_another_kind_or_name(tmp_path: Path) -> None:
    path = init_station(tmp_path / "lab").station_path
    text = path.read_text()
    with pytest.raises(ConfigError, match="exists already and is never replaced"):
        init_station(tmp_path / "lab", metal=True)
    with pytest.raises(ConfigError, match="exists already and is never replaced"):
        init_station(tmp_path / "lab", name="other")
    assert path.read_text() == text


def test_a_key_that_others_can_read_is_told_instead_of_kept(tmp_path: Path) -> None:
    result = init_station(tmp_path / "lab")
    (result.keys.folder / "van.pem").chmod(0o644)
    with pytest.raises(ConfigError, match=r"van\.pem can be read by others; run 'chmod 600"):
        init_station(tmp_path / "lab")


@pytest.mark.parametrize("name", ["", "a b", "-x", "charger", "aggregator", "log", "../x", "x" * 60, "a'b"])
def test_an_unusable_name_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "lab"
    with pytest.raises(ConfigError):
        init_station(folder, name=name or " ")
    assert not folder.exists()


def test_a_folder_named_like_a_party_still_makes_a_usable_station(tmp_path: Path) -> None:
    assert init_station(tmp_path / "aggregator").station_name == "aggregator_station"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        init_station(tmp_path / "file" / "lab")


def test_a_station_with_keys_from_its_seed_is_told_how_to_get_files(tmp_path: Path) -> None:
    path = init_station(tmp_path / "lab").station_path
    lines = [line for line in path.read_text().splitlines() if not line.startswith("keys:")]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match=r"takes its keys from the seed; add 'keys: \{folder: "):
        make_keys(load_station(path))


def test_signers_are_the_devices_the_station_the_stakeholders_and_the_log(tmp_path: Path) -> None:
    names = key_names(load_station(init_station(tmp_path / "lab").station_path))
    assert names.witnesses == ("charger", "van", "meter")
    assert names.station == "lab"
    assert set(names.parties) == STAKEHOLDERS
    assert names.log == "log"
