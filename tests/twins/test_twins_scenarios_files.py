"""Scenario files: the shipped ones are right, and slips are told at their place with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.assets import asset, list_assets
from drivers.errors import ConfigError
from twins.pack.parameters import dump_pack, shipped_pack
from twins.scenarios.climate import PLACES, ambient_c
from twins.scenarios.model import Scenario, load_scenario

SMALL = """\
schema: v2gbench.scenario/1.0
name: small
years: 1
step_s: 60
climate: {place: danish}
driving:
  trips:
    morning: {days: weekdays, depart: "07:30", minutes: 45}
v2g:
  daily_discharge: {start: "18:30", end: "20:30", discharge_w: 7000}
"""


def written(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = SMALL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    return str(caught.value)


def test_a_small_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path))
    assert scenario.v2g.kind == "daily_discharge"
    assert scenario.warranty.capacity_percent == 70.0
    assert scenario.warranty.km == 160_000
    assert scenario.climate.resolved().mean_c == 8.7
    assert scenario.driving.phi == 0.85


@pytest.mark.parametrize("name", list_assets("scenarios"))
def test_each_shipped_scenario_is_right_and_called_like_its_file(name: str) -> None:
    path = asset(name)
    scenario = load_scenario(path)
    assert path.stem == scenario.name
    assert scenario.title
    assert scenario.step_s == 1


def test_there_are_the_scenarios_that_the_documents_speak_of() -> None:
    assert set(list_assets("scenarios")) >= {
        f"scenarios/{name}.yaml"
        for name in (
            "benchmark_year",
            "danish_daily_v2g",
            "danish_driving",
            "favignana_van",
            "frequency_regulation_vans",
        )
    }


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("years: 1", "years: 40"), 3, ("1 <= years <= 30", "40")),
        (("step_s: 60", "step_s: 7"), 4, ("1 or 2 or 5",)),
        (("place: danish", "place: denmark"), 5, ("danish or favignana",)),
        (("{place: danish}", "{mean_c: 9}"), 5, ("name a place",)),
        (("minutes: 45", "minutes: 0"), 8, ("1 <= minutes <= 720",)),
        (("minutes: 45", "hours: 1"), 8, ("minutes",)),
        (('"07:30"', '"7:30"'), 8, ('a time of day from "00:00" to "23:59"',)),
        (('depart: "07:30", minutes: 45', 'depart: "23:30", minutes: 45'), 8, ("before midnight",)),
        (("discharge_w: 7000", "discharge_kw: 7"), 10, ("discharge_w", "times 1000")),
        (("discharge_w: 7000", "discharge_w: -7000"), 10, ("0 < discharge_w",)),
        (("  daily_discharge:", "  daily_dicharge:"), 10, ("did you mean 'daily_discharge'?",)),
        (("schema: v2gbench.scenario/1.0", "schema: v2gbench.scenario/2.0"), 1, ("v2gbench.scenario/2.0", "reads")),
        (("schema: v2gbench.scenario/1.0", "schema: v2gbench.pack/1.0"), 1, ("no scenario file",)),
    ],
)
def test_a_slip_is_told_with_its_line_and_what_to_write(
    tmp_path: Path, change: tuple[str, str], line: int, words: tuple[str, ...]
) -> None:
    sentence = refusal(written(tmp_path, change))
    assert f"small.yaml:{line}:" in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(("days", "depart"), [("weekdays", "08:14"), ("all", "07:00"), ("all", "07:30")])
def test_two_trips_at_once_are_refused_by_name(tmp_path: Path, days: str, depart: str) -> None:
    other = f'minutes: 45}}\n    school: {{days: {days}, depart: "{depart}", minutes: 31}}'
    sentence = refusal(written(tmp_path, ("minutes: 45}", other)))
    assert "small.yaml:7:3: driving.trips: the trips 'morning' and 'school' overlap" in sentence


@pytest.mark.parametrize(("days", "depart"), [("weekend", "07:30"), ("weekdays", "08:15"), ("all", "06:59")])
def test_trips_that_touch_or_fall_on_other_days_are_taken(tmp_path: Path, days: str, depart: str) -> None:
    other = f'minutes: 45}}\n    school: {{days: {days}, depart: "{depart}", minutes: 31}}'
    assert len(load_scenario(written(tmp_path, ("minutes: 45}", other))).driving.trips) == 2


def test_a_pack_file_without_an_ending_is_found_as_a_station_finds_it(tmp_path: Path) -> None:
    mine = shipped_pack("env200_40kwh").model_copy(update={"name": "mine"})
    (tmp_path / "mypack").write_text(dump_pack(mine), encoding="utf-8")
    scenario = load_scenario(written(tmp_path, ("step_s: 60", "step_s: 60\npack: mypack")))
    assert scenario.parameters(tmp_path).name == "mine"


def test_two_contracts_at_once_are_refused(tmp_path: Path) -> None:
    both = 'v2g:\n  frequency_regulation: {start: "20:00", end: "05:00", power_w: 9200}'
    assert "one contract" in refusal(written(tmp_path, ("v2g:", both)))


def test_an_order_that_runs_through_midnight_is_refused(tmp_path: Path) -> None:
    orders = '  orders: {placed: {peak: {day_of_year: 12, start: "23:00", end: "01:00", power_w: -5000}}}'
    old = '  daily_discharge: {start: "18:30", end: "20:30", discharge_w: 7000}'
    assert "an order ends after it begins" in refusal(written(tmp_path, (old, orders)))


def test_a_price_in_fractions_of_a_cent_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ("v2g:", "prices: {battery_cents_per_kwh: 150.5}\nv2g:"))
    assert "whole number" in refusal(path)


def test_an_unknown_pack_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, ("step_s: 60", "step_s: 60\npack: env300")))
    with pytest.raises(ConfigError, match=r"env300.*env200_40kwh"):
        scenario.parameters(tmp_path)


def test_scales_of_a_scenario_go_over_those_of_the_pack(tmp_path: Path) -> None:
    path = written(tmp_path, ("v2g:", "aging: {law: schmalstieg, cycle_scale: 0.6}\nv2g:"))
    found = load_scenario(path).parameters(tmp_path).aging
    assert (found.law, found.calendar_scale, found.cycle_scale) == ("schmalstieg", 1.0, 0.6)


def test_a_place_may_have_one_number_changed() -> None:
    scenario = Scenario.model_validate({"name": "warm", "climate": {"place": "danish", "mean_c": 12.0}})
    climate = scenario.climate.resolved()
    assert (climate.mean_c, climate.yearly_amplitude_k) == (12.0, 8.3)
    assert "changed" in climate.source


def test_danish_air_swings_8_3_k_over_the_year_and_3_k_over_the_day() -> None:
    daily = [ambient_c(PLACES["danish"], day_index=day, step_s=60) for day in range(365)]
    means = [float(day.mean()) for day in daily]
    assert sum(means) / 365 == pytest.approx(8.7, abs=0.01)
    assert (max(means) - min(means)) / 2 == pytest.approx(8.3, abs=0.01)
    assert (daily[100].max() - daily[100].min()) / 2 == pytest.approx(3.0, abs=0.1)
    assert int(daily[100].argmax()) // 60 == pytest.approx(15, abs=1)


def test_midnight_has_no_step_in_temperature() -> None:
    before = ambient_c(PLACES["favignana"], day_index=10, step_s=60)
    after = ambient_c(PLACES["favignana"], day_index=11, step_s=60)
    assert abs(after[0] - before[-1]) < 0.02
