"""Recordings become usage records: what they hold is certified, what they lack is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.assets import asset
from bench.commands.init import init_station
from bench.commands.replay import ReplayResult, replay_log
from drivers.errors import BenchError, ConfigError
from ledgers.canonical import sha256_hex
from ledgers.records import Agreement, Material, usage_record_from_bytes
from ledgers.verify import verify_certificate
from reports.run import Run
from twins.replay import ChademoPhaseKind, LogError

ROOT = Path(__file__).parents[2]
OWN = ROOT / "tests" / "data" / "recordings"
FOLDER = Path(os.environ.get("V2GBENCH_RECORDINGS", "../shared/data"))
FOLDER = FOLDER if FOLDER.is_absolute() else ROOT / FOLDER

real_data = pytest.mark.real_data
needs_folder = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"V2GBENCH_RECORDINGS names no folder ({FOLDER})")


def real(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} in {FOLDER}")
    return path


def absence(result: ReplayResult, quantity: str) -> str | None:
    return result.log.absence(quantity)


@pytest.mark.parametrize("path", sorted(OWN.iterdir()), ids=lambda path: path.name)
def test_each_own_recording_ends_in_a_certificate_that_verifies(path: Path, tmp_path: Path) -> None:
    result = replay_log(path, runs=tmp_path)
    verdict = verify_certificate(result.certificate, result.trust)
    assert verdict.ok, verdict.lines
    assert verdict.material is Material.REPLAYED
    record = usage_record_from_bytes(result.record_path.read_bytes()).record
    assert record.station.material is Material.REPLAYED
    assert {device.material for device in record.devices} == {Material.REPLAYED}
    assert [signed.statement.witness for signed in record.witnesses] == ["van"]
    assert record.reconciliation.verdict is Agreement.NOT_JUDGED
    assert record.devices[1].serial == f"sha256:{sha256_hex(path.read_bytes())}"
    assert result.report.read_text().startswith("<!DOCTYPE html>")
    with Run.open(result.folder) as run:
        assert run.is_finished
        assert run.verdict == "replayed"
        assert "nothing to reconcile it with" in str(run.manifest["reason"])
        assert len(run.cycles()) == record.samples.count > 0
        assert run.samples_sha256() == record.samples.sha256
    document = json.loads((result.folder / "summary.json").read_text())
    assert document == json.loads(json.dumps(result.document(), allow_nan=False))


def test_the_certificate_says_what_is_missing_and_why(tmp_path: Path) -> None:
    result = replay_log(OWN / "leafspy_day.csv", runs=tmp_path)
    missing = json.loads(result.certificate.read_text())["credentialSubject"]["missing"]
    assert missing == {
        "ocmf": "a recording has no charger whose meter signed",
        "settlement": "a recording of another day is not paid for",
    }
    assert not list(result.folder.rglob("*.ocmf"))
    assert not (result.folder / "settlement").exists()


def test_the_same_recording_gives_the_same_record_ledger_and_certificate_twice(tmp_path: Path) -> None:
    first, second = (replay_log(OWN / "leafspy_day.csv", runs=tmp_path / name) for name in ("one", "two"))
    assert first.record_path.read_bytes() == second.record_path.read_bytes()
    assert first.certificate.read_bytes() == second.certificate.read_bytes()
    for name in ("monitoring.log", "monitoring.checkpoint"):
        ours, theirs = (result.folder / "ledger" / name for result in (first, second))
        assert ours.read_bytes() == theirs.read_bytes()


def test_samples_are_readings_under_the_names_of_a_session(tmp_path: Path) -> None:
    result = replay_log(OWN / "evcan_ac_charge.candump", runs=tmp_path)
    with Run.open(result.folder) as run:
        units = {source.name: source.unit for source in run.sources()}
        assert units["van.pack_voltage"] == "V"
        assert units["van.pack_current"] == "A"
        assert units["van.soc"] == "%"
        assert units["van.ambient_temperature"] == "degC"
        assert set(run.series("van.soc").quality) == {"good"}


def test_a_value_that_goes_missing_is_recorded_as_missing_once(tmp_path: Path) -> None:
    log = tmp_path / "gap.log"
    # 0x1DB (battery current and voltage, checksummed, so taken as they came) stops after 2 s; 0x55B goes on.
    lines = (OWN / "evcan_ac_charge.candump").read_text().splitlines()
    voltage = [line for line in lines if " 1DB " in line]
    soc = [line for line in lines if " 55B " in line]
    stamped = [(0.1 * i, voltage[i % len(voltage)]) for i in range(20)]
    stamped += [(0.1 * i + 0.05, soc[i % len(soc)]) for i in range(120)]
    log.write_text(
        "".join(f" ({1704067200 + at_s:.6f}) {line.split(')', 1)[1].strip()}\n" for at_s, line in sorted(stamped))
    )
    result = replay_log(log, runs=tmp_path / "runs")
    with Run.open(result.folder) as run:
        quality = run.series("van.pack_voltage").quality
        assert quality.count("no_data") == 1
        assert quality[-1] == "no_data"
        assert set(run.series("van.soc").quality) == {"good"}


def test_energy_is_stated_where_current_and_voltage_cover_the_log(tmp_path: Path) -> None:
    result = replay_log(OWN / "evcan_ac_charge.candump", runs=tmp_path)
    (imported,) = result.record.record.energy.imported
    pack = next(energy for energy in result.log.energy if energy.plane == "pack")
    assert imported.value_wh == pytest.approx(pack.into_pack_wh, abs=0.001)
    assert imported.expanded_uncertainty_wh is not None
    assert set(imported.contributions) == {"gain", "offset", "gaps"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("carcan_standing.txt", "energy needs pack voltage and current: pack voltage is not on the CAR-CAN"),
        ("leafspy_day.csv", "the log's rows lie too far apart"),
    ],
)
def test_energy_is_null_with_its_reason_elsewhere(tmp_path: Path, name: str, reason: str) -> None:
    result = replay_log(OWN / name, runs=tmp_path)
    for figure in (*result.record.record.energy.imported, *result.record.record.energy.exported):
        assert figure.value_wh is None
        assert figure.reason is not None
        assert figure.reason.startswith(reason)
    assert reason in result.text()


def test_the_contract_is_fed_as_by_the_owners_phone(tmp_path: Path) -> None:
    result = replay_log(OWN / "leafspy_day.csv", runs=tmp_path)
    assert result.reports == 25
    assert result.state["activity"] == "g2v"
    assert result.state["state"] == 0
    assert result.receipts["monitoring"]
    seconds = result.state["seconds"]
    assert isinstance(seconds, dict)
    assert seconds["moving"] > 1000
    assert seconds["g2v"] > 600


def test_v2g_of_a_chademo_discharge_reaches_the_remuneration_channel(tmp_path: Path) -> None:
    result = replay_log(OWN / "chademo_discharge.log", runs=tmp_path)
    assert result.state["v2g_count"] == 1
    assert result.receipts["remuneration"]


def test_without_a_plug_state_nothing_is_reported_and_that_is_said(tmp_path: Path) -> None:
    result = replay_log(OWN / "carcan_standing.txt", runs=tmp_path)
    assert result.reports == 0
    (note,) = (note for note in result.notes if "plug state" in note)
    assert "2 of 2 samples were not reported" in note


def test_without_an_absolute_clock_no_field_holds_a_date(tmp_path: Path) -> None:
    record = replay_log(OWN / "chademo_charge.csv", runs=tmp_path).record.record
    assert record.session.begin.startswith("1970-01-01T00:00:00")
    dates = [field for field in record.asset if "date" in field.name.lower() or "time" in field.name.lower()]
    assert dates
    assert all(field.value is None for field in dates)
    assert any(field.reason == "the logger has no absolute clock" for field in dates)


def test_keys_of_a_station_of_metal_come_from_its_files(tmp_path: Path) -> None:
    station = init_station(tmp_path / "lab").station_path
    result = replay_log(OWN / "leafspy_day.csv", station=station, runs=tmp_path / "runs")
    assert result.record.record.station.name == "lab"
    assert verify_certificate(result.certificate, result.trust).ok
    other = replay_log(OWN / "leafspy_day.csv", runs=tmp_path / "other")
    assert not verify_certificate(result.certificate, other.trust).ok


def test_neither_position_nor_vehicle_number_nor_folder_gets_anywhere(tmp_path: Path) -> None:
    result = replay_log(OWN / "leafspy_day.csv", runs=tmp_path)
    header, row = ((OWN / "leafspy_day.csv").read_text().splitlines())[:2]
    columns = dict(zip(header.split(","), row.split(","), strict=False))
    secrets = [columns[name].strip().encode() for name in columns if name.strip() in {"VIN", "Lat", "Long"}]
    secrets = [secret for secret in secrets if len(secret) > 4]
    assert secrets
    for path in result.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret in data], path
    assert str(OWN) not in (result.folder / "manifest.json").read_text()


# Bad logs -------------------------------------------------------------------------------------------------------------


def refused(log: Path, tmp_path: Path, dialect: str | None = None) -> str:
    with pytest.raises(BenchError) as caught:
        replay_log(log, dialect=dialect, runs=tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").glob("*"))  # nothing of an unreadable log is kept
    return str(caught.value)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "empty.csv"
    log.write_bytes(b"")
    assert "the file is empty" in refused(log, tmp_path)


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nothing.csv", tmp_path)


@pytest.mark.parametrize("dialect", ["crtd", "leafspy", "tsv"])
def test_the_wrong_dialect_is_refused(tmp_path: Path, dialect: str) -> None:
    assert "evcan_ac_charge.candump" in refused(OWN / "evcan_ac_charge.candump", tmp_path, dialect)


def test_an_unknown_dialect_names_the_known_ones(tmp_path: Path) -> None:
    assert "known are tsv, crtd" in refused(OWN / "evcan_ac_charge.candump", tmp_path, "morse")


def test_a_log_of_a_strange_bus_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "strange.log"
    log.write_text("".join(f"({1704067200 + i / 10:.6f}) can0 7{i % 10}A#0011223344556677\n" for i in range(100)))
    assert "none of a known vehicle" in refused(log, tmp_path)


def test_a_truncated_log_is_replayed_to_its_last_whole_line_and_says_so(tmp_path: Path) -> None:
    whole = (OWN / "evcan_wake.tsv").read_bytes()
    log = tmp_path / "cut.tsv"
    log.write_bytes(whole[: len(whole) * 2 // 3])
    result = replay_log(log, runs=tmp_path / "runs")
    assert result.log.truncated_line is not None
    assert verify_certificate(result.certificate, result.trust).ok


def test_a_log_that_ceases_to_be_readable_midway_leaves_no_run_folder(tmp_path: Path) -> None:
    lines = (OWN / "leafspy_old_european.csv").read_text().splitlines(keepends=True)
    lines[5] = "some day" + lines[5][lines[5].index(";") :]
    log = tmp_path / "midway.csv"
    log.write_text("".join(lines))
    assert "midway.csv:6: neither `epoch time` nor a readable date" in refused(log, tmp_path)


def test_a_log_of_random_bytes_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "noise.bin"
    log.write_bytes(bytes(range(256)) * 50)
    assert "binary content" in refused(log, tmp_path)


def test_a_station_without_a_vehicle_is_refused(tmp_path: Path) -> None:
    text = asset("stations/emulated.yaml").read_text()
    begin, end = text.index("  van:\n    role: vehicle"), text.index("  meter:\n")
    text = text[:begin] + text[end:]
    text = text[: text.index("  pack_temperature_c:")] + text[text.index("  soc_percent: {min") :]
    station = tmp_path / "station.yaml"
    station.write_text(text)
    with pytest.raises(ConfigError, match="has no vehicle"):
        replay_log(OWN / "leafspy_day.csv", station=station, runs=tmp_path / "runs")


def test_on_the_command_line_a_bad_log_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    log = tmp_path / "empty.csv"
    log.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "v2gbench", "replay", str(log), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("v2gbench: ")


def test_log_errors_are_bench_errors() -> None:
    assert issubclass(LogError, ConfigError)


# Recordings of real vehicles ------------------------------------------------------------------------------------------


@real_data
@needs_folder
@pytest.mark.parametrize(
    ("name", "soc_percent", "soh_percent"),
    [
        ("evcan_env200_40kwh_startup.tsv", 20.8, 98),
        ("evcan_env200_40kwh_retrofit_startup.crtd", 59.9, 94),
    ],
)
def test_real_ev_can_tells_no_data_then_340_to_400_v_charge_and_health(
    tmp_path: Path, name: str, soc_percent: float, soh_percent: float
) -> None:
    result = replay_log(real(name), runs=tmp_path)
    voltage = result.log.quantities["vehicle.pack_voltage_v"]
    assert voltage.no_data > 0
    assert 340 <= voltage.minimum <= voltage.maximum <= 400
    assert "times sent as no data" in result.text()
    with Run.open(result.folder) as run:
        series = run.series("van.pack_voltage")
        good = [value for value, quality in zip(series.value, series.quality, strict=True) if quality == "good"]
        assert 340 <= min(good) <= max(good) <= 400
        assert run.series("van.soc").value[-1] == soc_percent
    use = result.record.record.battery_use
    assert (use.soc_end_percent, use.soh_percent) == (soc_percent, soh_percent)
    assert verify_certificate(result.certificate, result.trust).ok


@real_data
@needs_folder
def test_real_car_can_tells_charge_and_health_and_that_voltage_is_absent(tmp_path: Path) -> None:
    result = replay_log(real("carcan_env200_40kwh_idle.txt"), runs=tmp_path)
    use = result.record.record.battery_use
    assert (use.soc_end_percent, use.soh_percent) == (25.3, 85)
    assert absence(result, "vehicle.pack_voltage_v") == "pack voltage is not on the CAR-CAN"
    fields = {field.name: field for field in result.record.record.asset}
    assert fields["Pack_Volts"].value is None
    assert fields["Pack_Volts"].reason == "pack voltage is not on the CAR-CAN"
    assert "not in the log: pack voltage is not on the CAR-CAN" in result.text()


@real_data
@needs_folder
def test_real_chademo_shows_handshake_and_charge(tmp_path: Path) -> None:
    result = replay_log(real("chademo_ze1_start_and_charge.csv"), runs=tmp_path)
    (session,) = result.log.chademo
    assert [phase.kind for phase in session.phases] == [ChademoPhaseKind.HANDSHAKE, ChademoPhaseKind.CHARGE]
    assert "charge 39.5 s at 100 A" in result.text()
    assert result.state["activity"] == "g2v"
    with Run.open(result.folder) as run:
        assert run.series("dc_charger.dc_power").value.mean() == pytest.approx(38_000, rel=0.01)


@real_data
@needs_folder
@pytest.mark.parametrize("day", [1, 2, 3])
def test_real_leaf_spy_days_show_their_rapid_charges(tmp_path: Path, day: int) -> None:
    result = replay_log(real(f"leafspy_62kwh_trip_day{day}.csv"), runs=tmp_path)
    counter = result.log.quantities["vehicle.quick_charges"]
    assert len(result.log.rapid_charges) == counter.last - counter.first > 0
    with Run.open(result.folder) as run:
        assert len(run.events("rapid_charge")) == len(result.log.rapid_charges)
    assert result.text().count("rapid charge from") == min(12, len(result.log.charges))
    assert result.reports > 50
