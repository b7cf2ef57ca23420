"""A station file is read once and refused whole; every fault is told with its line, key and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.assets import asset
from bench.station import Station, load_station, parse_station, plan_document, plan_text, station_schema
from bench.station.address import SerialAddress, TcpAddress, parse_address
from bench.station.checks import WIRES, registered_drivers
from bench.station.model import AnalyzerTwin, ChargerTwin, GridTwin, VehicleTwin
from drivers.documents.source import read_document
from drivers.errors import ConfigError

# Line numbers in the tests count from the first line of this text.
EMULATED = """\
schema: v2gbench.station/1.0
name: emulated
seed: 7
clock: stepped
twins:
  grid:     {kind: grid.lv}
  van:      {kind: vehicle.env200_40kwh, soc_percent: 55, soh_percent: 97, ambient_c: 22}
  charger:  {kind: charger.ame_v2g_3p10, grid: grid, vehicle: van}
  analyzer: {kind: instrument.power_analyzer, measures: charger}
devices:
  charger:  {role: charger, driver: modbus, profile: sunspec_der, at: twin:charger/modbus}
  van:      {role: vehicle, driver: elm327, at: twin:van/elm327}
  meter:    {role: power_meter, driver: yokogawa_wt, at: twin:analyzer/scpi}
csms:       {ocpp: "1.6", listen: 127.0.0.1:0, security: none}
limits:
  pack_temperature_c: {max: 45, warn: 30}
  power_w: {min: -10000, max: 10000}
ledger:     {kind: embedded}
settlement: {kind: embedded, tariff: tariff.yaml}
"""

METAL = """\
name: lab
clock: wall
devices:
  charger: {role: charger, driver: modbus, profile: sunspec_der, at: "tcp://192.0.2.10:502", watchdog_s: 10}
  van: {role: vehicle, driver: elm327, at: "serial:///dev/rfcomm0"}
  meter: {role: power_meter, driver: yokogawa_wt, at: "visa://TCPIP::192.0.2.12::INSTR"}
limits: {power_w: {min: -10000, max: 10000}}
settlement: {kind: embedded, tariff: tariff.yaml}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tariff.yaml").write_bytes(asset("tariffs/example.yaml").read_bytes())
    return tmp_path


def read(folder: Path, text: str) -> Station:
    path = folder / "lab.yaml"
    path.write_bytes(text.encode())
    return load_station(path)


def refused(folder: Path, text: str) -> list[str]:
    """The lines of the refusal, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def changed(old: str, new: str, text: str = EMULATED) -> str:
    assert text.count(old) == 1, f"{old!r} must stand once in the station of the test"
    return text.replace(old, new)


# What a good file gives


def test_a_station_knows_its_file_hash_clock_and_twins(folder: Path) -> None:
    station = read(folder, EMULATED)
    assert station.path == folder / "lab.yaml"
    # sha256sum of the text above, computed by coreutils.
    assert len(station.sha256) == 64
    assert station.sha256 != read(folder, EMULATED + "# a comment\n").sha256
    assert (station.name, station.seed, station.clock, station.cycle_s) == ("emulated", 7, "stepped", 1.0)
    assert station.start_utc_s == 1_768_464_000.0  # 2026-01-15T08:00:00Z, date -u +%s
    van = station.twins["van"]
    assert isinstance(van, VehicleTwin)
    assert van.parameters() == {
        "soc_percent": 55.0,
        "soh_percent": 97.0,
        "ambient_c": 22.0,
        "odometer_km": 48_210,
        "every_group": False,
    }
    assert station.limits.power_w.inequality("power_w") == "-10000 <= power_w <= 10000"


def test_parameters_of_a_twin_carry_no_links_kind_or_charge_point(folder: Path) -> None:
    charger = read(folder, EMULATED).twins["charger"]
    assert isinstance(charger, ChargerTwin)
    assert set(charger.parameters()) == {
        "max_charge_w",
        "max_discharge_w",
        "standby_w",
        "ramp_up_w_per_s",
        "ramp_down_w_per_s",
        "heartbeat_timeout_s",
        "serial",
    }


def test_an_emulated_station_has_no_metal_and_takes_keys_from_its_seed(folder: Path) -> None:
    station = read(folder, EMULATED)
    assert not station.any_metal
    assert station.metal == ()
    assert station.keys_folder is None


def test_a_metal_station_takes_keys_from_the_configuration_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/var/empty/config")
    station = read(folder, METAL)
    assert station.metal == ("charger", "van", "meter")
    assert station.keys_folder == Path("/var/empty/config/v2gbench/keys/lab")


def test_a_relative_key_folder_starts_beside_the_station_file(folder: Path) -> None:
    assert read(folder, METAL + "keys: {folder: keys}\n").keys_folder == folder / "keys"


def test_polling_defaults_are_the_cycle_and_ten_seconds_for_a_vehicle(folder: Path) -> None:
    station = read(folder, changed("clock: stepped", "clock: stepped\ncycle_s: 2"))
    assert [station.poll_s(name) for name in ("charger", "van", "meter")] == [2.0, 10.0, 2.0]


def test_a_twin_charger_gets_a_watchdog_of_ten_seconds_unless_the_file_says_none(folder: Path) -> None:
    assert read(folder, EMULATED).watchdog_s("charger") == 10.0
    none = read(folder, changed("at: twin:charger/modbus}", "at: twin:charger/modbus, watchdog: none}"))
    assert none.watchdog_s("charger") is None
    with pytest.raises(ConfigError, match="only chargers have a watchdog"):
        none.watchdog_s("van")


def test_a_charger_twin_dials_in_under_its_own_name_or_the_given_id(folder: Path) -> None:
    assert read(folder, EMULATED).charge_points() == {"charger": "charger"}
    named = read(folder, changed("vehicle: van}", "vehicle: van, charge_point: CP001}"))
    assert named.charge_points() == {"CP001": "charger"}
    assert named.charge_point_of("charger") == "CP001"
    alone = read(folder, changed('csms:       {ocpp: "1.6", listen: 127.0.0.1:0, security: none}\n', ""))
    assert alone.charge_points() == {}
    assert alone.charge_point_of("charger") is None


def test_an_ocpp_address_of_a_twin_is_emulated_and_any_other_is_metal(folder: Path) -> None:
    text = changed("driver: modbus, profile: sunspec_der, at: twin:charger/modbus", 'driver: ocpp, at: "ocpp:charger"')
    assert not read(folder, text).any_metal
    other = text.replace("ocpp:charger", "ocpp:CP9").replace("clock: stepped", "clock: wall")
    other = other.replace("CP9", "CP9").replace('"ocpp:CP9"', '"ocpp:CP9", watchdog_s: 60')
    assert read(folder, other).metal == ("charger",)


def test_a_station_is_frozen(folder: Path) -> None:
    station = read(folder, EMULATED)
    with pytest.raises(ValueError, match="frozen"):
        station.seed = 8
    assert station.model_copy(update={"seed": 8}).sha256 == station.sha256


def test_a_tariff_is_found_beside_the_file_before_the_packaged_ones(folder: Path) -> None:
    assert read(folder, EMULATED).tariff_path == folder / "tariff.yaml"


def test_a_file_without_a_schema_is_read_as_version_one(folder: Path) -> None:
    assert read(folder, changed("schema: v2gbench.station/1.0\n", "")).schema_name == "v2gbench.station/1.0"


def test_aliases_and_a_byte_order_mark_are_read(folder: Path) -> None:
    text = changed("soc_percent: 55, soh_percent: 97", "soc_percent: &half 50, soh_percent: *half")
    van = read(folder, "\ufeff" + text).twins["van"]
    assert isinstance(van, VehicleTwin)
    assert (van.soc_percent, van.soh_percent) == (50.0, 50.0)


# Not YAML, not a station

EMPTY = "lab.yaml:1:1: the file is empty; begin it with 'schema:' ('v2gbench init' writes a whole station file)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EMPTY),
        ("# nothing but this\n", EMPTY),
        (
            "name: a\ntwins:\n\tgrid: {}\n",
            "lab.yaml:3:1: a tab stands here, and YAML takes only spaces; replace it by spaces",
        ),
        (
            "name: a\n---\nname: b\n",
            (
                "lab.yaml:2:1: a second document starts here ('---'), and one file holds one; "
                "put it in a file of its own"
            ),
        ),
        ("just a sentence\n", "lab.yaml:1:1: the file must be made of 'key: value' lines"),
        ("- a\n- b\n", "lab.yaml:1:1: the file must be made of 'key: value' lines"),
        (
            "name: lab: one\n",
            (
                "lab.yaml:1:10: a second ': ' stands in 'name: lab: one'; put the value in quotes, "
                "or start a new line for the next key"
            ),
        ),
        ("a: 1\x00\n", "lab.yaml:1:1: a control character stands here; this is not a text file"),
        ("name: a\n<<: {seed: 1}\n", "lab.yaml:2:1: merge keys ('<<') are not read here; write the keys out"),
        (
            "name: !!python/name:os.system x\n",
            (
                "lab.yaml:1:7: name: the tag 'tag:yaml.org,2002:python/name:os.system' is not read here; "
                "write the plain value"
            ),
        ),
        ("name: &x [*x]\n", "lab.yaml:1:7: name[0]: this alias contains itself; write the values out"),
        ("? [a, b]\n: 1\n", "lab.yaml:1:3: a key must be one word, not a list or group"),
        ("seed: .nan\n", "lab.yaml:1:1: seed: .nan is not a finite number; write one"),
    ],
)
def test_what_is_not_a_station_at_all_is_told_in_one_sentence(folder: Path, text: str, expected: str) -> None:
    lines = refused(folder, text)
    assert len(lines) == 1
    # The place may be the key's or the value's; both lead the eye to the same line.
    assert lines[0].split(": ", 1)[1] == expected.split(": ", 1)[1]
    assert lines[0].split(":")[:2] == expected.split(":")[:2]


def test_an_open_bracket_is_told_with_its_line(folder: Path) -> None:
    (line,) = refused(folder, "name: lab\ntwins: {grid: {kind: grid.lv}\n")
    assert line.startswith("lab.yaml:")
    assert "this is not YAML (expected ',' or '}'" in line


def test_bytes_that_are_not_utf8_are_told_with_their_line(folder: Path) -> None:
    path = folder / "lab.yaml"
    path.write_bytes(b"name: lab\nseed: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"lab\.yaml:2:1: this is not text in UTF-8; save the file as UTF-8"):
        load_station(path)


def test_a_missing_file_and_a_folder_are_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no station file at .*nowhere\.yaml; 'v2gbench init' writes one"):
        load_station(folder / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is a folder; name the station file inside it"):
        load_station(folder)


def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    (folder / "lab.yaml").write_bytes(b"#" * 1_100_000)
    with pytest.raises(ConfigError, match="more than 1000000 bytes"):
        load_station(folder / "lab.yaml")


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(folder: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for above, below in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{below}: &{below} [{', '.join([f'*{above}'] * 10)}]\n"
    (line,) = refused(folder, bomb)
    assert "aliases repeat this into more than 20000 values" in line


# One fault, one sentence: line, key, remedy


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "soc_percent: 55",
            "soc_procent: 55",
            "lab.yaml:7:42: twins.van.soc_procent: there is no key 'soc_procent' here; did you mean 'soc_percent'?",
        ),
        (
            "ledger:     {kind: embedded}",
            "ledger:     {kind: embedded, colour: red}",
            "lab.yaml:18:30: ledger.colour: there is no key 'colour' here; the keys are kind",
        ),
        (
            "  pack_temperature_c: {max: 45, warn: 30}",
            "  pack_temperature_f: {max: 113}",
            (
                "lab.yaml:16:3: limits.pack_temperature_f: this bench does not take °F; write 'pack_temperature_c' and "
                "give °C, which is (°F - 32) / 1.8"
            ),
        ),
        (
            "  pack_temperature_c: {max: 45, warn: 30}",
            "  pack_temperature_kw: {max: 113}",
            "lab.yaml:16:3: limits.pack_temperature_kw: kW is no unit of this; write 'pack_temperature_c', in °C",
        ),
        (
            "  pack_temperature_c: {max: 45, warn: 30}",
            "  pack_temperature: {max: 45}",
            (
                "lab.yaml:16:3: limits.pack_temperature: the unit is missing from the key; write 'pack_temperature_c', "
                "in °C"
            ),
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:van/elm327, poll_ms: 500}",
            (
                "lab.yaml:12:66: devices.van.poll_ms: this bench does not take ms; write 'poll_s' and give s, "
                "which is the value times 0.001"
            ),
        ),
        (
            "{min: -10000, max: 10000}",
            '{min: -10000, max: "10 kW"}',
            (
                "lab.yaml:17:26: limits.power_w.max: this must be a number in W, not '10 kW'; the key names the unit, "
                "so write the bare number"
            ),
        ),
        (
            "soc_percent: 55",
            'soc_percent: "55"',
            (
                "lab.yaml:7:42: twins.van.soc_percent: this must be a number in %, not text; take the quotes away "
                "from '55'"
            ),
        ),
        (
            "soc_percent: 55",
            "soc_percent: 155",
            "lab.yaml:7:42: twins.van.soc_percent: 0 <= soc_percent <= 100 must hold, not 155",
        ),
        (
            "ambient_c: 22",
            "ambient_c: true",
            "lab.yaml:7:76: twins.van.ambient_c: this must be a number in °C, not true",
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:van/elm327, reply_s: 90}",
            "lab.yaml:12:66: devices.van.reply_s: 0 < reply_s <= 60 must hold, not 90",
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:van/elm327, reply_s: 0}",
            "lab.yaml:12:66: devices.van.reply_s: 0 < reply_s <= 60 must hold, not 0",
        ),
        (
            "seed: 7",
            "seed: 7.5",
            "lab.yaml:3:1: seed: this must be a whole number, not 7.5",
        ),
        (
            "clock: stepped",
            "clock: steped",
            "lab.yaml:4:1: clock: this must be stepped or wall, not 'steped'; did you mean 'stepped'?",
        ),
        (
            'ocpp: "1.6"',
            "ocpp: 1.6",
            'lab.yaml:14:14: csms.ocpp: YAML reads 1.6 as a number; put it in quotes: "1.6"',
        ),
        (
            "{kind: grid.lv}",
            "{kind: grid.mv}",
            "lab.yaml:6:14: twins.grid.kind: 'grid.mv' is not a kind that is known here; did you mean 'grid.lv'?",
        ),
        (
            "{kind: grid.lv}",
            "{nominal_voltage_v: 230}",
            (
                "lab.yaml:6:3: twins.grid: the key 'kind' is missing; add it with one of charger.ame_v2g_3p10, "
                "grid.lv, instrument.power_analyzer, vehicle.env200_40kwh"
            ),
        ),
        (
            "{kind: grid.lv}",
            "grid.lv",
            "lab.yaml:6:3: twins.grid: this must be a group of keys ('key: value' lines below it), not 'grid.lv'",
        ),
        (
            "role: vehicle, driver: elm327, ",
            "role: vehicle, ",
            (
                "lab.yaml:12:3: devices.van: the key 'driver' is missing; add it (the word of a driver for this role; "
                "'v2gbench doctor' lists those installed)"
            ),
        ),
        (
            "name: emulated",
            "name: my lab",
            (
                "lab.yaml:2:1: name: 'my lab' does not fit; this is the station's name: "
                "up to 48 letters, digits, '_' and '-'"
            ),
        ),
        (
            "name: emulated",
            "name:",
            "lab.yaml:2:1: name: the key has no value; write one, or take the key away",
        ),
        (
            "  grid:     {kind",
            "  Grid1!:     {kind",
            None,
        ),
        (
            "clock: stepped",
            "clock: stepped\nstart_utc: 2026-01-15 8 o'clock",
            (
                "lab.yaml:5:1: start_utc: this must be a date and time with its zone, like 2026-01-15T08:00:00Z, "
                'not "2026-01-15 8 o\'clock"'
            ),
        ),
        (
            "clock: stepped",
            "clock: stepped\nstart_utc: 2026-01-15T08:00:00",
            (
                "lab.yaml:5:1: start_utc: this must be a date and time with its zone, like 2026-01-15T08:00:00Z, "
                "not '2026-01-15T08:00:00'"
            ),
        ),
        (
            "at: twin:charger/modbus",
            "at: modbus at 192.0.2.10",
            (
                "lab.yaml:11:67: devices.charger.at: 'modbus at 192.0.2.10' is no address; write twin:<twin>/<face>, "
                "tcp://<host>:<port>, serial:///dev/<line>, can://<interface>, visa://<resource> or "
                "ocpp:<charge point id>"
            ),
        ),
        (
            "{max: 45, warn: 30}",
            "{max: 45, warn: 50}",
            (
                "lab.yaml:16:3: limits.pack_temperature_c: warn: 50 is not below max: 45, but warn < max must hold; "
                "correct one of them"
            ),
        ),
        (
            "{max: 45, warn: 30}",
            "{warn: 30}",
            "lab.yaml:16:3: limits.pack_temperature_c: a limit needs min, max or both",
        ),
        (
            "{max: 45, warn: 30}",
            "{min: 0, warn: 30}",
            "lab.yaml:16:3: limits.pack_temperature_c: warn: 30 needs a max above it, where the bench trips; add max",
        ),
        (
            "{min: -10000, max: 10000}",
            "{min: 2000, max: 10000}",
            "lab.yaml:17:13: limits.power_w.min: -1000000 <= min <= 0 must hold, not 2000",
        ),
        (
            "at: twin:charger/modbus",
            "at: twin:charger/modbus, watchdog: none, watchdog_s: 10",
            "lab.yaml:11:3: devices.charger: 'watchdog: none' and 'watchdog_s' contradict each other; keep one of them",
        ),
        (
            "measures: charger}",
            "measures: charger, fault: {kind: gain}}",
            (
                "lab.yaml:9:66: twins.analyzer.fault: the key 'percent' is missing; add it (what is added to every "
                "power that the witness reports, in %)"
            ),
        ),
        (
            "measures: charger}",
            "measures: charger, fault: {kind: gane, percent: 3}}",
            "lab.yaml:9:74: twins.analyzer.fault.kind: 'gane' is not a kind that is known here; did you mean 'gain'?",
        ),
    ],
)
def test_each_fault_names_line_key_and_remedy(folder: Path, old: str, new: str, expected: str | None) -> None:
    lines = refused(folder, changed(old, new))
    if expected is None:
        assert lines[0] == (
            "lab.yaml:6:3: twins.Grid1!: a name is up to 32 small letters, digits and '_', beginning with a letter; "
            "rename it"
        )
        return
    assert lines == [expected]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "grid: grid, vehicle: van}",
            "grid: grit, vehicle: van}",
            "lab.yaml:8:42: twins.charger.grid: there is no twin 'grit'; did you mean 'grid'?",
        ),
        (
            "measures: charger}",
            "measures: van}",
            (
                "lab.yaml:9:47: twins.analyzer.measures: twin 'van' is a vehicle.env200_40kwh, and a charger is "
                "needed; "
                "choose charger"
            ),
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:bus/elm327}",
            "lab.yaml:12:45: devices.van.at: there is no twin 'bus'; choose van",
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:grid/elm327}",
            "lab.yaml:12:45: devices.van.at: twin 'grid' (grid.lv) has no face 'elm327'; it has no face at all",
        ),
        (
            "at: twin:van/elm327}",
            "at: twin:van/can}",
            (
                "lab.yaml:12:45: devices.van.at: driver elm327 does not speak 'can'; point it at a face elm327, "
                "or choose another driver"
            ),
        ),
        (
            "driver: elm327",
            "driver: yokogawa_wt",
            (
                "lab.yaml:12:29: devices.van.driver: driver 'yokogawa_wt' is for role power_meter, not vehicle; "
                "choose elm327 or uds"
            ),
        ),
        (
            "driver: elm327",
            "driver: elm237",
            (
                "lab.yaml:12:29: devices.van.driver: no driver 'elm237' is installed for role vehicle; "
                "did you mean 'elm327'?"
            ),
        ),
        (
            "profile: sunspec_der, ",
            "",
            (
                "lab.yaml:11:3: devices.charger: driver modbus needs a register map; add 'profile: sunspec_der' or "
                "that "
                "of the make"
            ),
        ),
        (
            "at: twin:van/elm327}",
            'at: "tcp://192.0.2.11:35000"}',
            (
                "lab.yaml:12:45: devices.van.at: tcp://192.0.2.11:35000 is metal, which does not live in simulated "
                "time; "
                "write 'clock: wall'"
            ),
        ),
        (
            "  van:      {role: vehicle, driver: elm327, at: twin:van/elm327}",
            (
                "  van:      {role: vehicle, driver: elm327, at: twin:van/elm327}\n"
                "  van2:     {role: vehicle, driver: elm327, at: twin:van/elm327}"
            ),
            "lab.yaml:13:45: devices.van2.at: device 'van' has this address already; one wire carries one device",
        ),
        (
            "  charger:  {role: charger, driver: modbus, profile: sunspec_der, at: twin:charger/modbus}\n",
            "",
            "lab.yaml:10:1: devices: a station needs a charger; add a device with 'role: charger'",
        ),
        (
            "  van:      {role: vehicle, driver: elm327, at: twin:van/elm327}\n",
            "",
            (
                "lab.yaml:15:3: limits.pack_temperature_c: no device of this station measures it, so it would never "
                "trip; add a device of role vehicle, or take the limit away"
            ),
        ),
        (
            "profile: sunspec_der",
            "profile: quasar9",
            "lab.yaml:11:45: devices.charger.profile: there is no charger profile 'quasar9'; known are: ",
        ),
        ("seed: 7\n", "", "lab.yaml:4:1: twins: twins draw their errors from a seed, and there is none; "),
        (
            "at: twin:charger/modbus",
            "at: twin:charger/modbus, watchdog_s: 1.5",
            (
                "lab.yaml:11:92: devices.charger.watchdog_s: the watchdog would trip between two cycles; "
                "2 * cycle_s <= watchdog_s must hold, that is 2 <= watchdog_s"
            ),
        ),
        (
            "at: twin:analyzer/scpi}",
            "at: twin:analyzer/scpi, poll_s: 0.5}",
            (
                "lab.yaml:13:78: devices.meter.poll_s: the device cannot be read more often than the cycle turns; "
                "cycle_s <= poll_s must hold, that is 1 <= poll_s"
            ),
        ),
        (
            "tariff: tariff.yaml",
            "tariff: tarif.yaml",
            "lab.yaml:19:30: settlement.tariff: there is no tariff 'tarif.yaml' in ",
        ),
        (
            "name: emulated",
            "name: aggregator",
            "lab.yaml:2:1: name: 'aggregator' is a party of the ledger and signs by that name; choose another",
        ),
        (
            "name: emulated",
            "name: meter",
            "lab.yaml:13:3: devices.meter: the station itself signs by this name; rename one of the two",
        ),
        (
            "clock: stepped",
            "clock: wall\nstart_utc: 2026-01-15T08:00:00Z",
            "lab.yaml:5:1: start_utc: this is the start of simulated time and contradicts 'clock: wall'; take it away",
        ),
        (
            "driver: modbus, profile: sunspec_der, at: twin:charger/modbus",
            "driver: ocpp, profile: sunspec_der, at: twin:charger/ocpp",
            "lab.yaml:11:43: devices.charger.profile: driver ocpp has no use for profile; take it away",
        ),
        (
            "at: twin:charger/modbus",
            'at: "can://can0"',
            (
                "lab.yaml:11:67: devices.charger.at: driver modbus does not work over can; write twin:<twin>/modbus or "
                "an address that begins with tcp"
            ),
        ),
    ],
)
def test_what_groups_contradict_each_other_in_is_refused_before_anything_opens(
    folder: Path, old: str, new: str, expected: str
) -> None:
    lines = refused(folder, changed(old, new))
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            METAL.replace(", watchdog_s: 10", ""),
            (
                "lab.yaml:4:3: devices.charger: a metal charger needs its own watchdog, in case the bench falls "
                "silent; "
                "add 'watchdog_s: 10', or say 'watchdog: none' if it has none"
            ),
        ),
        (
            METAL + "seed: 7\nkeys: {kind: seed}\n",
            (
                "lab.yaml:10:8: keys.kind: keys from a seed prove nothing about metal, and charger, van and meter are "
                "metal; run 'v2gbench init' and name its key folder here"
            ),
        ),
        (
            METAL + "runs: /tmp/v2g_runs\nkeys: {folder: /tmp/v2g_runs/today/keys}\n",
            (
                "lab.yaml:10:8: keys.folder: keys may not lie in the folder of runs, which is handed on "
                "(/tmp/v2g_runs); "
                "choose another folder"
            ),
        ),
        (
            METAL.replace("watchdog_s: 10", "watchdog_s: 10, charge_point: CP1"),
            (
                "lab.yaml:4:110: devices.charger.charge_point: a charge point dials in to a central system, and the "
                "station has none; add 'csms: {ocpp: \"1.6\", listen: 127.0.0.1:0, security: none}'"
            ),
        ),
        (
            METAL + "keys: {kind: seed, folder: keys}\n",
            "lab.yaml:9:1: keys: 'kind: seed' and 'folder' contradict each other; keep one of them",
        ),
        (
            METAL + 'csms: {ocpp: "1.6", listen: "127.0.0.1", security: none}\n',
            "lab.yaml:9:21: csms.listen: '127.0.0.1' is not host and port; write them like 127.0.0.1:502 or [::1]:502",
        ),
        (
            METAL + 'csms: {ocpp: "1.6", listen: 127.0.0.1:0, security: basic}\n',
            "lab.yaml:9:1: csms: 'security: basic' needs a password; add 'password: env:NAME' or 'password: file:PATH'",
        ),
    ],
)
def test_metal_is_held_to_stricter_rules(folder: Path, text: str, expected: str) -> None:
    assert refused(folder, text) == [expected]


def test_watchdog_none_is_accepted_on_metal_when_it_is_said(folder: Path) -> None:
    station = read(folder, METAL.replace("watchdog_s: 10", "watchdog: none"))
    assert station.watchdog_s("charger") is None
    assert "NO WATCHDOG" in plan_text(station.plan())


def test_a_name_written_twice_tells_both_lines(folder: Path) -> None:
    text = changed("  analyzer: {kind", "  van: {kind: grid.lv}\n  analyzer: {kind")
    assert refused(folder, text) == [
        "lab.yaml:9:3: twins.van: the name 'van' is written twice, in line 7 and in line 9; take one away or rename it"
    ]


def test_a_key_written_twice_tells_both_lines(folder: Path) -> None:
    assert refused(folder, EMULATED + "seed: 8\n") == [
        "lab.yaml:20:1: seed: the key 'seed' is written twice, in line 3 and in line 20; take one away or rename it"
    ]


def test_several_faults_are_all_told_in_the_order_of_the_file(folder: Path) -> None:
    text = changed("soc_percent: 55", "soc_percent: 155").replace("seed: 7", "seed: x").replace("max: 45", "max: 99")
    lines = refused(folder, text)
    assert [line.split(":")[1] for line in lines] == ["3", "7", "16"]
    assert lines[2] == "lab.yaml:16:24: limits.pack_temperature_c.max: -40 <= max <= 80 must hold, not 99"


def test_a_file_of_a_later_major_version_is_refused_in_one_sentence(folder: Path) -> None:
    later = changed("v2gbench.station/1.0", "v2gbench.station/2.0") + "unheard_of: 1\n"
    assert refused(folder, later) == [
        "lab.yaml:1:1: schema: this file is of version 2.0, and this bench reads 1.x; use the bench it is for"
    ]
    assert read(folder, changed("v2gbench.station/1.0", "v2gbench.station/1.7")).name == "emulated"
    assert (
        "'pets/1.0' is not a station file's schema" in refused(folder, changed("v2gbench.station/1.0", "pets/1.0"))[0]
    )


def test_a_literal_password_is_refused_and_never_repeated(folder: Path) -> None:
    for written in ("hunter2", "[hunter2, x]", "{hunter2: 1}", "env:hunter2 plus"):
        text = METAL + f'csms: {{ocpp: "1.6", listen: 127.0.0.1:0, security: basic, password: {written}}}\n'
        with pytest.raises(ConfigError) as caught:
            read(folder, text)
        assert "hunter2" not in str(caught.value)
        assert "csms.password" in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or "hunter2" not in str(caught.value.__context__)


# Addresses


@pytest.mark.parametrize(
    "text",
    [
        "tcp://192.0.2.10",
        "tcp://192.0.2.10:0",
        "tcp://192.0.2.10:65536",
        "tcp:192.0.2.10:502",
        "tcp://:502",
        "tcp://a b:502",
        "serial://rfcomm0",
        "serial:///dev/rfcomm0?rate=9600",
        "serial:///dev/rfcomm0?baud=9",
        "can://",
        "can://can0/1",
        "visa://192.0.2.12",
        "ocpp:a/b",
        "ocpp:",
        "twin:charger",
        "twin:charger/",
        "twin:charger/a/b",
        "http://192.0.2.1:80",
        "",
    ],
)
def test_an_address_that_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|name the device"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "twin:charger/modbus",
        "tcp://192.0.2.10:502",
        "tcp://[2001:db8::1]:502",
        "serial:///dev/rfcomm0?baud=38400",
        "can://can0",
        "visa://TCPIP::192.0.2.12::INSTR",
        "ocpp:CP001",
    ],
)
def test_an_address_is_printed_as_it_is_written(text: str) -> None:
    assert str(parse_address(text)) == text


def test_addresses_give_what_a_driver_needs() -> None:
    assert parse_address("tcp://[2001:db8::1]:502") == TcpAddress("2001:db8::1", 502)
    assert parse_address("serial:///dev/rfcomm0") == SerialAddress("/dev/rfcomm0", 38_400)
    wt = parse_address("tcp://192.0.2.12:10001")
    assert isinstance(wt, TcpAddress)
    assert wt.visa_resource == "TCPIP::192.0.2.12::10001::SOCKET"


# Plan and schema


def test_a_plan_says_what_would_be_opened_and_whose_watchdog_stands_behind(folder: Path) -> None:
    lines = {(line.part, line.name): line for line in read(folder, EMULATED).plan()}
    assert lines["device", "charger"].text == (
        "twin charger by modbus (sunspec_der) at twin:charger/modbus; read each 1 s; its watchdog armed at 10 s"
    )
    assert lines["twin", "charger"].text == (
        "charger.ame_v2g_3p10 listens with modbus; grid grid, vehicle van; charge point charger"
    )
    assert lines["clock", "stepped"].text == "simulated time from 2026-01-15T08:00:00Z, a cycle each 1 s"
    assert lines["keys", "seed"].text == "made from seed 7; they prove nothing but integrity"
    assert lines["limit", "pack_temperature_c"].text == "pack_temperature_c <= 45; warns from 30 °C up"
    assert lines["energise", "emulated"].facts == {"needs_consent": False}


def test_a_metal_plan_says_metal_and_asks_for_consent(folder: Path) -> None:
    station = read(folder, METAL + "keys: {folder: keys}\n")
    lines = {(line.part, line.name): line for line in station.plan()}
    assert lines["device", "charger"].text.startswith("METAL charger by modbus (sunspec_der) at tcp://192.0.2.10:502")
    assert lines["energise", "METAL"].facts == {"needs_consent": True}
    assert "none found; run 'v2gbench init'" in lines["keys", "files"].text


def test_a_plan_in_json_holds_every_device_and_no_secret(folder: Path) -> None:
    basic = METAL + 'csms: {ocpp: "1.6", listen: 127.0.0.1:0, security: basic, password: env:LAB_PASSWORD}\n'
    station = read(folder, basic)
    document = json.loads(json.dumps(plan_document(station)))
    assert document["schema"] == "v2gbench.station_plan/1.0"
    assert document["any_metal"] is True
    devices = [line for line in document["plan"] if line["part"] == "device"]
    assert [line["at"] for line in devices] == [
        "tcp://192.0.2.10:502",
        "serial:///dev/rfcomm0?baud=38400",
        "visa://TCPIP::192.0.2.12::INSTR",
    ]
    assert station.model_dump()["csms"]["password"] == "***"
    assert json.loads(station.model_dump_json())["csms"]["password"] == "***"


def test_the_shipped_schema_is_the_one_that_the_models_make() -> None:
    shipped = json.loads(asset("stations/station.schema.json").read_text())
    assert shipped == json.loads(json.dumps(station_schema())), (
        "run: v2gbench station schema > stations/station.schema.json"
    )


def test_the_schema_closes_groups_and_names_units_and_kinds() -> None:
    schema = json.loads(json.dumps(station_schema()))
    assert schema["additionalProperties"] is False
    assert schema["properties"]["twins"]["additionalProperties"] is False
    assert schema["properties"]["seed"]["type"] == "integer"
    assert schema["$defs"]["VehicleTwin"]["properties"]["soc_percent"]["maximum"] == 100
    assert set(schema["$defs"]["Limits"]["properties"]) == {
        "power_w",
        "pack_temperature_c",
        "soc_percent",
        "cell_voltage_v",
        "pack_voltage_v",
    }
    assert "null" not in json.dumps(schema)


def test_a_strangers_validator_accepts_the_shipped_stations_and_refuses_a_wrong_one(folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with ocpp")
    validator = jsonschema.Draft202012Validator(json.loads(asset("stations/station.schema.json").read_text()))
    for name in ("stations/emulated.yaml", "stations/metal-example.yaml"):
        path = asset(name)
        assert [error.message for error in validator.iter_errors(read_document(path.read_bytes(), path).data)] == []
    for old, new in (("soc_percent: 55", "soc_percent: 155"), ("seed: 7", "sed: 7"), ("clock: stepped", "clock: x")):
        wrong = read_document(changed(old, new).encode(), folder / "lab.yaml")
        assert len(list(validator.iter_errors(wrong.data))) == 1


def test_every_key_of_the_schema_is_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "station-file.md").read_text()
    schema = json.loads(json.dumps(station_schema()))
    keys = {key for group in (schema, *schema["$defs"].values()) for key in group.get("properties", {})}
    assert sorted(key for key in keys if f"`{key}`" not in guide) == []


def test_a_key_that_holds_a_line_break_does_not_break_the_line_of_its_refusal(folder: Path) -> None:
    (line,) = refused(folder, EMULATED + '"a\\nb": 1\n')
    assert line.startswith("lab.yaml:20:1: 'a\\nb': there is no key 'a\\nb' here")


def test_every_key_of_the_schema_is_described() -> None:
    schema = json.loads(json.dumps(station_schema()))
    groups = {"station": schema, **schema["$defs"]}
    silent = [
        f"{group}.{key}"
        for group, value in groups.items()
        for key, entry in value.get("properties", {}).items()
        if "description" not in entry and "const" not in entry
    ]
    assert silent == []


# Shipped stations, drivers


def test_the_shipped_emulated_station_is_emulated_and_says_what_the_tour_promises() -> None:
    station = load_station(asset("stations/emulated.yaml"))
    assert not station.any_metal
    assert list(station.twins) == ["grid", "van", "charger", "analyzer"]
    assert {name: (device.role, device.driver) for name, device in station.devices.items()} == {
        "charger": ("charger", "modbus"),
        "van": ("vehicle", "elm327"),
        "meter": ("power_meter", "yokogawa_wt"),
    }
    assert station.csms is not None
    assert (station.csms.ocpp, station.csms.host, station.csms.port) == ("1.6", "127.0.0.1", 0)
    assert {key: limit.inequality(key) for key, limit in station.limits.given().items()} == {
        "power_w": "-10500 <= power_w <= 10500",
        "pack_temperature_c": "pack_temperature_c <= 45",
        "soc_percent": "10 <= soc_percent <= 97",
    }
    assert station.limits.pack_temperature_c is not None
    assert station.limits.pack_temperature_c.warn == 30.0


def test_the_alternatives_commented_in_the_emulated_station_work() -> None:
    path = asset("stations/emulated.yaml")
    text = path.read_text()
    uds = changed("    driver: elm327                   # an OBD adapter\n    at: twin:van/elm327\n", "", text)
    uds = changed("    # driver: uds ", "    driver: uds ", uds)
    uds = changed("    # at: twin:van/can ", "    at: twin:van/can ", uds)
    fault = changed("    # fault: {kind: gain", "    fault: {kind: gain", uds)
    station = parse_station(fault.encode(), path)
    assert (station.devices["van"].driver, station.devices["van"].at) == ("uds", "twin:van/can")


def test_the_shipped_metal_example_is_metal_and_uses_only_documentation_addresses() -> None:
    station = load_station(asset("stations/metal-example.yaml"))
    assert station.metal == ("charger", "van", "meter")
    assert station.clock == "wall"
    assert station.twins == {}
    assert station.charge_point_of("charger") == "AME-0123"
    text = asset("stations/metal-example.yaml").read_text()
    octets = {word for word in text.replace("/", " ").replace(":", " ").split() if word.count(".") == 3}
    assert all(word.startswith("192.0.2.") for word in octets if word.replace(".", "").isdigit())


def test_the_chargers_commented_in_the_metal_example_work() -> None:
    path = asset("stations/metal-example.yaml")
    lines = path.read_text().splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith("  charger:"))
    end = next(i for i, line in enumerate(lines) if "The same charger through OCPP" in line)
    text = "".join(lines[:start] + lines[end:]).replace("  # charger: {role", "  charger: {role")
    station = parse_station(text.encode(), path)
    assert station.charge_point_of("charger") == "AME-0123"
    assert station.watchdog_s("charger") == 60.0


def test_the_design_example_of_a_station_with_the_packaged_tariff_loads(folder: Path) -> None:
    text = changed("tariff: tariff.yaml", "tariff: tariffs/example.yaml")
    assert read(folder, text).tariff_path == asset("tariffs/example.yaml")


def test_every_registered_driver_of_ours_has_its_wires_stated() -> None:
    registered = registered_drivers()
    assert {(role, word) for role, words in registered.items() for word in words} == set(WIRES)


def test_every_face_of_a_twin_is_spoken_by_a_driver() -> None:
    faces = {face for twin in (GridTwin, VehicleTwin, ChargerTwin, AnalyzerTwin) for face in twin.faces}
    assert faces == {face for wires in WIRES.values() for face in wires.faces}
