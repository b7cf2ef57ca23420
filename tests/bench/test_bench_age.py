"""`v2gbench age`: a scenario becomes a study in a folder of its own."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from bench.cli import app
from bench.commands.age import AgeResult, age_scenario
from bench.commands.folders import new_folder, write_document
from drivers.errors import ConfigError
from ledgers.errors import RecordError

SCENARIO = """\
schema: v2gbench.scenario/1.0
name: tiny
years: 1
step_s: 60
climate: {place: danish}
driving:
  trips:
    morning: {days: weekdays, depart: "07:30", minutes: 45}
v2g:
  daily_discharge: {start: "18:30", end: "20:30", discharge_w: 7000}
"""


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> AgeResult:
    folder = tmp_path_factory.mktemp("age")
    path = folder / "tiny.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return age_scenario(path, runs=folder / "runs", laws=("b1", "schmalstieg"))


def test_the_document_has_what_a_program_reads(aged: AgeResult) -> None:
    document = json.loads(json.dumps(aged.document()))
    assert document["schema"] == "v2gbench.age/1.0"
    assert document["material"] == "simulated"
    assert set(document) >= {
        "scenario", "pack", "years", "laws", "scales", "uses", "with_v2g", "without_v2g", "parked", "attribution",
        "warranty", "v2g", "second_life", "run", "file",
    }  # fmt: skip
    assert document["laws"] == ["b1", "schmalstieg"]
    assert "series" not in document
    assert [year["year"] for year in document["with_v2g"]["years"]] == [1.0]
    shares = document["attribution"]["counterfactual"][0]["shares"]
    assert [share["use"] for share in shares] == ["driving", "v2g"]
    assert set(shares[0]) == {"use", "shapley_points", "last_in_points", "first_in_points"}
    assert isinstance(document["v2g"]["wear"][0]["cost_micro"], int)


def test_the_file_holds_the_series_that_a_report_draws(aged: AgeResult) -> None:
    written = json.loads(aged.file.read_text(encoding="utf-8"))
    weeks = written["series"]["with_v2g"]["weeks"]
    assert [week["name"] for week in weeks] == ["winter", "summer"]
    assert len(weeks[0]["soc"]) == 7 * 1440
    assert aged.folder.name.split("_")[1] == "age-tiny"


def test_text_names_both_figures_of_attribution_and_the_spread(aged: AgeResult) -> None:
    text = aged.text()
    for words in ("counterfactual (Shapley", "live (one life, b1)", "V2G wear over", "per kWh delivered", "grade "):
        assert words in text
    assert str(aged.file) in text


def test_what_the_pack_was_given_as_input_is_marked_in_text_and_document(aged: AgeResult) -> None:
    found = aged.document()["second_life"]
    assert isinstance(found, dict)
    origins = {each["name"]: each["origin"] for each in found["with_v2g"]["criteria"]}
    assert origins["self-discharge"] == origins["weakest group"] == "input of the pack file"
    assert origins["capacity"] == origins["resistance"] == "tested on the twin"
    assert origins["heat"] == "counted over its life"
    assert "self-discharge 0.30 % a month (input of the pack file); weakest group" in aged.text()


def test_a_pack_that_can_do_everything_has_no_warning(aged: AgeResult) -> None:
    assert aged.document()["warnings"] == []
    assert "WARNING" not in aged.text()


def test_years_beyond_30_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 <= years <= 30 must hold, not 31"):
        age_scenario(Path("danish_driving"), years=31)


def test_a_name_that_no_shipped_scenario_has_is_refused_with_a_near_one() -> None:
    with pytest.raises(ConfigError, match="danish_driving"):
        age_scenario(Path("danish_drivin"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        age_scenario(tmp_path / "none.yaml")


def test_an_unknown_law_leaves_no_folder_behind(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    with pytest.raises(ConfigError, match="b9"):
        age_scenario(path, runs=tmp_path / "runs", laws=("b9",))
    assert not (tmp_path / "runs").exists()


def written(tmp_path: Path, text: str = SCENARIO) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_runs_folder_that_cannot_be_made_is_told_before_anything_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated(*_: object, **__: object) -> None:
        raise AssertionError("simulated first")

    monkeypatch.setattr("bench.commands.age.study", simulated)
    in_the_way = tmp_path / "runs"
    in_the_way.write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be made.*--runs"):
        age_scenario(written(tmp_path), runs=in_the_way)


def test_an_interrupted_command_leaves_no_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[int] = []

    def interrupted(*_: object, **__: object) -> None:
        there.append(len(list((tmp_path / "mine" / "runs").iterdir())))
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.commands.age.study", interrupted)
    with pytest.raises(KeyboardInterrupt):
        age_scenario(written(tmp_path), runs=tmp_path / "mine" / "runs")
    assert there == [1]
    assert not (tmp_path / "mine").exists()


def test_a_disk_that_takes_no_more_leaves_no_empty_folder(tmp_path: Path, aged: AgeResult) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RecordError, match="cannot be written: File too large"), new_folder(runs, "age") as folder:
            write_document(folder, "age.json", aged.study.document(series=True), lambda _document, folder: folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(runs.iterdir()) == []


def test_what_was_written_stays_when_the_report_fails(tmp_path: Path) -> None:
    def report(_document: object, folder: Path) -> Path:
        raise OSError(28, "No space left on device", str(folder))

    with pytest.raises(ConfigError, match="No space left"), new_folder(tmp_path, "age") as folder:
        write_document(folder, "age.json", {"years": 5}, report)
    assert (folder / "age.json").exists()


def test_a_law_of_the_file_that_does_not_exist_is_refused_at_its_line_whatever_laws_are_asked(tmp_path: Path) -> None:
    path = written(tmp_path, SCENARIO + "aging: {law: bogus}\n")
    with pytest.raises(ConfigError, match=r"tiny\.yaml:11:9: aging\.law: .*'bogus'; there are b1, "):
        age_scenario(path, runs=tmp_path / "runs", laws=("b1",))


def test_an_empty_scenario_file_is_not_sent_to_init_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file is empty; begin it with 'schema:'"):
        age_scenario(written(tmp_path, "# nothing\n"))


def test_help_says_that_years_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["age", "--help"])
    assert "Whole years" in capsys.readouterr().out
