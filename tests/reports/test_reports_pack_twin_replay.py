from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from reports.errors import RenderError
from reports.pack.twin_replay import render_replay_report, write_replay_report
from reports.plots import RenderedPlots

Json = Any  # a document as json.loads gives it


def errors(rmse: float, bias: float = 0.1, worst: float = 2.0) -> Json:
    return {"rows": 91, "rmse": rmse, "bias": bias, "worst_minute": worst, "worst_minute_at_s": 7680.0}


def replay_document() -> Json:
    """Nine rows of 300 s with one gap of 45 min behind the fifth, driven by the reported state of charge."""
    time_s: list[float | None] = [300.0 * row for row in range(5)] + [None] + [3900.0 + 300.0 * row for row in range(4)]

    def column(first: float, slope: float) -> list[float | None]:
        return [None if at is None else first + slope * at / 3600 for at in time_s]

    return {
        "schema": "v2gbench.twin-replay/1.0",
        "material": "replayed",
        "log": {"file": "day2.csv", "sha256": "de" * 32, "rows": 9, "row_spacing_s": 302.0, "duration_s": 4800.0},
        "pack": {"name": "leaf_62kwh", "source": "provisional", "soh_percent": 95.3, "start_soc_percent": 94.6},
        "driven_by": "reported SOC",
        "soc_is_input": True,
        "errors": {
            "voltage": {
                "unit": "V",
                "level": 361.0,
                "twin": errors(0.82, 0.25, 3.29),
                "ocv_only": errors(4.25),
                "persistence": errors(27.85),
                "row_before": errors(0.40),
            },
            "temperature": {
                "unit": "K",
                "level": 41.5,
                "twin": errors(1.18, -0.98, 3.03),
                "ocv_only": None,
                "persistence": errors(1.41),
                "row_before": errors(0.21),
            },
            "temperature_open_loop": errors(2.94),
            "soc_points": None,
            "soc_not_judged": "it drives the twin: it is an input, not a result",
            "temperature_not_judged": None,
        },
        "limited": {"seconds": 12.0, "ah": 0.1, "worst_current_a": 140.0},
        "gaps": {
            "count": 1,
            "longest_s": 2700.0,
            "total_s": 2700.0,
            "rapid_charges": 1,
            "list": [
                {
                    "begin_s": 1200.0,
                    "length_s": 2700.0,
                    "mean_current_a": 97.0,
                    "rapid_charge": True,
                    "measured_k": 8.4,
                    "twin_k": 8.0,
                }
            ],
        },
        "validity": {
            "log_soc_percent": [20.3, 94.6],
            "log_temperature_c": [35.7, 47.9],
            "log_new_capacity_ah": 176.4,
            "pack_capacity_ah": 176.4,
            "identified": [],
            "not_identified": ["thermal.still_air_w_per_k"],
            "warnings": ["nothing in the pack file was identified from logs of this car"],
        },
        "notes": ["Ambient: unit not named, taken as degF"],
        "series": {
            "every_nth_row": 3,
            "time_s": time_s,
            "voltage_v": column(400.0, -20.0),
            "twin_voltage_v": column(399.5, -19.0),
            "ocv_only_voltage_v": column(402.0, -18.0),
            "temperature_c": column(35.7, 2.0),
            "twin_temperature_c": column(35.7, 1.5),
            "open_loop_temperature_c": column(35.7, 1.2),
            "ambient_c": column(20.0, 0.5),
            "soc_percent": column(94.6, -18.0),
            "twin_soc_percent": column(94.6, -18.0),
            "current_a": column(-30.0, 0.0),
            "interval_current_a": column(-35.0, 0.0),
        },
    }


def driven_by_current() -> Json:
    document = replay_document()
    document |= {"driven_by": "current", "soc_is_input": False}
    document["errors"] |= {"soc_points": errors(0.7), "soc_not_judged": None}
    return document


def visible(html: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", body).replace("&#39;", "'").replace("\u202f", " ").replace("\u2212", "-")
    return " ".join(text.split())


def titles(html: str) -> list[str]:
    return re.findall(r'<figure aria-label="([^"]+)"', html)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made but not turned into scripts, which takes most of the time."""
    monkeypatch.setattr("reports.pack.twin_replay.embedded", lambda _: RenderedPlots("", "", defaultdict(str)))


@pytest.fixture(scope="module")
def html() -> str:
    return render_replay_report(replay_document(), origin="runs/a_replay")


@pytest.mark.parametrize(
    "words",
    [
        "The twin follows the car's voltage within 0.23 %",
        "Voltage 0.82 V rms against 4.25 V by the open-circuit curve alone, 27.85 V if nothing changed",
        "The log's state of charge drives the twin: it is an input here, not a result.",
        "SOC input it drives the twin",
        "State of charge (INPUT, not a result)",
        "voltage open-circuit curve alone 4.250 +0.100 2.00 2:08:00 91 V far better (0.19 of it)",
        "voltage value of the row before 0.400 +0.100 2.00 2:08:00 91 V worse (2.05 of it)",
        "temperature nothing changes 1.410 +0.100 2.00 2:08:00 91 K better (0.84 of it)",
        "0:20:00 45.0 97 yes 8.4 8.0",
        "Nothing in the pack file was identified from logs of this car.",
        "Not identified for this pack thermal.still air w per k",
        "Ambient: unit not named, taken as degF.",
        "Pictures show one row of 3; errors are over all rows.",
        "Current limited 12 s",
    ],
)
def test_the_report_says(html: str, words: str) -> None:
    assert words in visible(html)


def test_every_picture_is_there_and_says_what_to_see(html: str) -> None:
    assert titles(html) == [
        "Voltage and what is left",
        "Temperature and what is left",
        "State of charge: INPUT",
        "What drives the twin",
        "Twin and baselines",
        "Warming across gaps",
    ]
    captions = re.findall(r'<figcaption><strong>[^<]+</strong> <span class="detail">([^<]+)</span>', html)
    assert len(captions) == len(titles(html))


def test_gaps_are_shaded_from_the_last_row_before_to_the_first_behind(html: str) -> None:
    # minutes: the gap begins at 1200 s and lasts 2700 s
    assert '"left":20.0,"right":65.0' in html.replace(": ", ":").replace(", ", ",")


def test_a_current_driven_replay_judges_the_state_of_charge(undrawn: None) -> None:
    html = render_replay_report(driven_by_current())
    page = visible(html)
    assert "INPUT" not in page
    assert "state of charge twin 0.700" in page
    assert "The log's own current drives the twin." in page


def test_a_twin_that_no_better_than_a_guess_is_told_so(undrawn: None) -> None:
    document = replay_document()
    document["errors"]["temperature"]["persistence"] = errors(0.9)
    html = render_replay_report(document)
    assert "in temperature a simpler guess is as good" in visible(html)
    assert '<header class="top warn">' in html
    assert "worse (1.31 of it)" in visible(html)


def test_a_log_without_temperature_says_why_nothing_is_shown(undrawn: None) -> None:
    document = replay_document()
    document["errors"] |= {"temperature": None, "temperature_not_judged": "the log has no pack temperature"}
    document["series"]["temperature_c"] = [None] * 10
    page = visible(render_replay_report(document))
    assert "Not shown: the log has no pack temperature." in page
    assert "temperature is not judged, because the log has no pack temperature" in page


def test_a_log_without_a_gap_says_so(undrawn: None) -> None:
    document = replay_document()
    document["gaps"] = {"count": 0, "longest_s": 0.0, "total_s": 0.0, "rapid_charges": 0, "list": []}
    assert "The log has no gap." in visible(render_replay_report(document))


@pytest.mark.parametrize(
    "key", ["log", "pack", "errors", "limited", "gaps", "validity", "notes", "series", "driven_by"]
)
def test_a_missing_part_leaves_a_report_of_the_others(undrawn: None, key: str) -> None:
    document = replay_document()
    del document[key]
    assert "Errors against baselines" in visible(render_replay_report(document))


@pytest.mark.parametrize("schema", ["v2gbench.age/1.0", "v2gbench.twin-replay/2.0", 7])
def test_another_schema_is_refused_in_one_sentence(schema: object) -> None:
    with pytest.raises(RenderError, match=r"this report is for v2gbench.twin-replay/1$"):
        render_replay_report(replay_document() | {"schema": schema})


def test_the_report_is_written_beside_its_document(undrawn: None, tmp_path: Path) -> None:
    assert write_replay_report(replay_document(), tmp_path) == tmp_path / "report.html"
