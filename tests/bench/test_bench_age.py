"""`v2gbench age`: a scenario becomes a study in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.commands.age import AgeResult, age_scenario
from drivers.errors import ConfigError

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
