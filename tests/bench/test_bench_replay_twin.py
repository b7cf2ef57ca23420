"""`v2gbench replay LOG --twin`: what is written, that it is small and whole, and what people read."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from bench.commands.replay_twin import MOST_POINTS, TwinReplayResult, replay_log_on_twin
from drivers.errors import ConfigError
from tests.twins.twin_recordings import Row, changed, drive, rapid_charge, rows_of_twin, write_leafspy
from twins.pack.parameters import dump_pack, shipped_pack

VAN = shipped_pack("env200_40kwh")


@cache
def gapped() -> tuple[Row, ...]:
    return tuple(rows_of_twin(VAN, [drive(900), rapid_charge(600), drive(900)], every_s=5))


@cache
def long_rows() -> tuple[Row, ...]:
    return tuple(rows_of_twin(VAN, [drive(302 * 14, kw=-15.0)], every_s=302))


@pytest.fixture
def result(tmp_path: Path) -> TwinReplayResult:
    return replay_log_on_twin(write_leafspy(tmp_path / "My Drive.csv", gapped()), runs=tmp_path / "runs")


def test_the_document_has_what_a_program_and_a_report_read(result: TwinReplayResult) -> None:
    document = json.loads(result.file.read_text(encoding="utf-8"))
    assert document["schema"] == "v2gbench.twin-replay/1.0"
    assert document["material"] == "replayed"
    assert document["driven_by"] == "current"
    assert document["pack"]["name"] == "env200_40kwh"
    assert document["pack"]["start_soc_percent"] == pytest.approx(90.0, abs=0.5)
    assert document["log"]["begin_utc"] == "2024-01-01T00:00:05+00:00"
    assert set(document["errors"]["voltage"]) == {"unit", "level", "twin", "ocv_only", "persistence", "row_before"}
    assert document["errors"]["voltage"]["twin"]["rmse"] < document["errors"]["voltage"]["ocv_only"]["rmse"]
    assert document["errors"]["soc_points"]["rmse"] < 0.5
    assert document["errors"]["soc_not_judged"] is None
    assert document["gaps"]["count"] == document["gaps"]["rapid_charges"] == 1
    assert document["gaps"]["list"][0]["measured_k"] > 0.5
    assert document["validity"]["log_new_capacity_ah"] == pytest.approx(VAN.capacity_ah, rel=1e-3)
    assert any("the car's reported capacity fits" in note for note in document["notes"])


def test_the_document_for_programs_has_no_series(result: TwinReplayResult) -> None:
    assert "series" not in json.loads(json.dumps(result.document()))


def test_a_gap_is_a_null_in_every_series(result: TwinReplayResult) -> None:
    series = json.loads(result.file.read_text(encoding="utf-8"))["series"]
    columns = [values for values in series.values() if isinstance(values, list)]
    assert {len(values) for values in columns} == {len(gapped()) + 1}
    empty = series["time_s"].index(None)
    assert series["time_s"][empty + 1] - series["time_s"][empty - 1] == pytest.approx(605.0)
    assert all(values[empty] is None for values in columns)


def test_the_folder_is_named_after_the_log(result: TwinReplayResult) -> None:
    assert result.folder.name.split("_")[1] == "twin-My-Drive"
    assert sorted(entry.name for entry in result.folder.iterdir()) == ["report.html", "twin_replay.json"]


def test_a_long_log_is_written_in_at_most_4000_points_with_its_gaps(tmp_path: Path) -> None:
    base = gapped()[:180]
    rows = [
        row
        for part in range(48)
        for row in changed(base, "epoch time", lambda stamp, part=part: stamp + 1000.0 * part)  # type: ignore[misc]
    ]
    result = replay_log_on_twin(write_leafspy(tmp_path / "long.csv", rows), pack="env200_40kwh", runs=tmp_path)
    document = json.loads(result.file.read_text(encoding="utf-8"))
    assert document["log"]["rows"] == 48 * 180
    assert document["gaps"]["count"] == 47
    assert len(document["series"]["time_s"]) <= MOST_POINTS
    assert document["series"]["time_s"].count(None) == 47
    assert document["series"]["every_nth_row"] == 3


def test_text_tells_driver_errors_baselines_gaps_and_file(result: TwinReplayResult) -> None:
    text = result.text()
    assert "driven by the log's own current; SOC is a result" in text
    assert "the curve without resistance" in text
    assert "first value stays" in text
    assert "gaps: 1, 0:10:05 in all, the longest 0:10:05; 1 with a rapid charge inside" in text
    assert "begun only once" in text
    assert text.endswith("report.html")


def test_text_of_long_rows_says_that_soc_is_an_input(tmp_path: Path) -> None:
    result = replay_log_on_twin(write_leafspy(tmp_path / "long.csv", long_rows()), runs=tmp_path)
    assert "SOC is an input here, not a result" in result.text()
    assert "SOC: not judged, because it drives the twin" in result.text()
    assert result.document()["soc_is_input"] is True


def test_a_pack_file_goes_before_the_shipped_packs(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump_pack(VAN.model_copy(update={"name": "mine"})), encoding="utf-8")
    log = write_leafspy(tmp_path / "log.csv", gapped())
    assert replay_log_on_twin(log, pack=str(file), runs=tmp_path).replay.pack.name == "mine"


def test_a_log_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    path = write_leafspy(tmp_path / "log.csv", changed(gapped(), "AHr", lambda tenths_of_mah: 0.5 * tenths_of_mah))
    with pytest.raises(ConfigError, match=r"57\.7 Ah at 100 % SOH"):
        replay_log_on_twin(path, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("pack", "unit", "message"),
    [("no_such_pack", "auto", "no pack called 'no_such_pack'"), (None, "K", "is none of C, F, auto")],
)
def test_a_pack_or_unit_that_does_not_exist_is_named(tmp_path: Path, pack: str | None, unit: str, message: str) -> None:
    path = write_leafspy(tmp_path / "log.csv", gapped())
    with pytest.raises(ConfigError, match=message):
        replay_log_on_twin(path, pack=pack, temperature_unit=unit, runs=tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "runs"
    blocked.write_text("a file, no folder", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be made"):
        replay_log_on_twin(write_leafspy(tmp_path / "log.csv", gapped()), runs=blocked)
