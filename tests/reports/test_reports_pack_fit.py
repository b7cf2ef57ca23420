from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bokeh.models.glyphs import HBar, Line
from bokeh.models.renderers import GlyphRenderer

from reports.errors import RenderError
from reports.pack.figures import Album
from reports.pack.fit import render_fit_report, write_fit_report
from reports.plots import RenderedPlots

Json = Any  # a document as json.loads gives it


def parameter(title: str, unit: str, prior: float, prior_sd: float, mean: float, sd: float, **more: object) -> Json:
    return {
        "title": title,
        "unit": unit,
        "prior": prior,
        "prior_sd": prior_sd,
        "mean": mean,
        "sd": sd,
        "identified": sd < 0.5 * prior_sd,
        "written": mean if sd < 0.5 * prior_sd else prior,
        "note": None,
        **more,
    }


def fit_document() -> Json:
    return {
        "schema": "v2gbench.fit/1.0",
        "pack": "leaf_62kwh",
        "out": "packs/my_car.yaml",
        "rows": 203,
        "effective_rows": 123.0,
        "reported_soh_percent": 95.31,
        "parameters": {
            "capacity_ah": parameter(
                "capacity now", "Ah", 168.1, 16.8, 168.1, 16.8, note="input: rows are long", prior_kind="log"
            ),
            "resistance.series_ohm": parameter(
                "series resistance, 50 %, 25 degC", "ohm", 0.048, 0.024, 0.0496, 0.0032, prior_kind="log"
            ),
            "resistance.fast_ohm": parameter("fast RC resistance", "ohm", 0.047, 0.0235, 0.0548, 0.0058),
            "resistance.slow_ohm": parameter("slow RC resistance", "ohm", 0.049, 0.0245, 0.0527, 0.0046),
            "resistance.activation_j_per_mol": parameter("activation energy", "J/mol", 16e3, 6e3, 24.5e3, 2.1e3),
            "thermal.still_air_w_per_k": parameter("loss to still air", "W/K", 8.0, 5.6, 6.0, 2.84, prior_kind="log"),
        },
        "not_identified": ["capacity_ah", "thermal.still_air_w_per_k"],
        "logs": [
            {
                "log": "day1.csv",
                "rows": 112,
                "voltage_rmse_v": 1.14,
                "voltage_rmse_percent": 0.32,
                "voltage_bias_v": 0.38,
                "voltage_worst_minute_v": 5.7,
                "ocv_only_rmse_v": 3.08,
                "temperature_rmse_k": 0.49,
                "temperature_open_loop_k": 0.75,
                "hour_ahead_rmse_k": 0.85,
                "hour_persistence_rmse_k": 5.07,
                "gaps": [{"begin_s": 600.0, "length_s": 900.0, "measured_k": 6.1, "predicted_k": 6.7}],
            }
        ],
        "charge_curves": [
            {
                "log": "charge.csv",
                "begin_s": 0.0,
                "end_s": 5400.0,
                "current_a": 120.0,
                "capacity_ah": 166.0,
                "capacity_sd_ah": 3.0,
                "soh_percent": 94.1,
                "soh_sd_percent": 1.7,
                "identified": True,
            }
        ],
        "aging": {
            "law": "b1",
            "scales": {
                "calendar": {"mean": 1.2, "sd": 0.1, "identified": True, "written": 1.2},
                "cycle": {"mean": 1.0, "sd": 0.5, "identified": False, "written": 1.0},
            },
        },
        "notes": ["fitted as leaf_62kwh"],
        "series": [
            {
                "name": "day1.csv",
                "time_s": [0.0, 300.0, 600.0, 1500.0, 1800.0],
                "voltage_v": [400.0, 398.0, 397.0, 403.0, 402.0],
                "modelled_voltage_v": [400.5, 398.2, 396.0, 403.0, 402.4],
                "temperature_c": [19.2, 19.4, 19.6, 25.7, 25.8],
                "modelled_temperature_c": [19.2, 19.5, 19.8, 25.7, 25.9],
                "soc": [0.98, 0.96, 0.95, 0.99, 0.98],
                "gaps": [[600.0, 1500.0]],
                "rapid_charges": [],
            }
        ],
        "resistance": {
            "soc_percent": [10.0, 50.0, 90.0],
            "temperature_c": [0.0, 25.0],
            "ohm": [[0.5, 0.4, 0.35], [0.2, 0.16, 0.15]],
            "prior_ohm": [[0.4, 0.3, 0.3], [0.18, 0.144, 0.14]],
        },
    }


def visible(html: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", body).replace("&#39;", "'").replace("\u202f", " ").replace("\u2212", "-")
    return " ".join(text.split())


def titles(html: str) -> list[str]:
    return re.findall(r'<figure aria-label="([^"]+)"', html)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made but not turned into scripts, which takes most of the time."""
    monkeypatch.setattr("reports.pack.fit.embedded", lambda _: RenderedPlots("", "", defaultdict(str)))


@pytest.fixture
def album(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> Album:
    """The plots of the report, as they were drawn."""
    kept = Album()
    monkeypatch.setattr("reports.pack.fit.Album", lambda: kept)
    render_fit_report(fit_document())
    return kept


@pytest.fixture(scope="module")
def html() -> str:
    return render_fit_report(fit_document(), origin="a_fit")


@pytest.mark.parametrize(
    "words",
    [
        "4 of 6 parameters are identified",
        "Not identified by these logs, and kept as they were: capacity now, loss to still air.",
        "written to my_car.yaml",
        "Resistance at 50 %, 25 °C 157 mΩ",
        "series resistance, 50 %, 25 °C Ω 0.0480 ± 0.0240 0.0496 ± 0.00320 13 identified 0.0496",
        "capacity now Ah 168 ± 16.8 \u2013 \u2013 NOT IDENTIFIED: input: rows are long 168",
        "loss to still air W/K 8.00 ± 5.60 6.00 ± 2.84 68 NOT IDENTIFIED, kept 8.00",
        "day1.csv 112 1.14 0.32 3.08 far better (0.37 of it) 0.49 0.75 0.85 5.07 far better (0.17 of it)",
        "charge.csv 120 90 166 ± 3.00 94.1 ± 1.70 identified",
        "cycle 1.00 ± 0.500 NOT IDENTIFIED, kept 1.000",
        "Fitted as leaf_62kwh.",
    ],
)
def test_the_report_says(html: str, words: str) -> None:
    assert words in visible(html)


def test_every_picture_is_there_and_says_what_to_see(html: str) -> None:
    assert titles(html) == [
        "Belief before and after",
        "Resistance of the pack",
        "Voltage and what is left",
        "Temperature and what is left",
        "Warming across gaps",
        "Scales of the law b1",
    ]
    captions = re.findall(r'<figcaption><strong>[^<]+</strong> <span class="detail">([^<]+)</span>', html)
    assert len(captions) == len(titles(html))


def test_a_posterior_is_drawn_in_widths_of_its_prior(album: Album) -> None:
    plot = next(plot for plot in album.plots if plot.name == "parameters")
    bars = [
        dict(each.data_source.data)
        for each in plot.renderers
        if isinstance(each, GlyphRenderer) and isinstance(each.glyph, HBar)
    ]
    rows = {
        row: (left, right)
        for bar in bars[1:]
        for row, left, right in zip(bar["y"], bar["left"], bar["right"], strict=True)
    }
    assert 5 not in rows  # of the capacity, an input, the logs say nothing
    left, right = rows[1]  # activation energy: 8500 J/mol up, in widths of 6000 J/mol
    assert (left + right) / 2 == pytest.approx(8500 / 6000)
    assert right - left == pytest.approx(2 * 1.645 * 2.1 / 6)
    left, right = rows[4]  # series resistance, a factor on the pack's: in widths of its logarithm
    assert (left + right) / 2 == pytest.approx(np.log(0.0496 / 0.048) / 0.5)


def test_no_line_crosses_a_gap(album: Album) -> None:
    plot = next(plot for plot in album.plots if plot.name == "0-voltage_v-trace")
    lines = [each for each in plot.renderers if isinstance(each, GlyphRenderer) and isinstance(each.glyph, Line)]
    y = np.asarray(dict(lines[0].data_source.data)["y"])
    assert np.isnan(y).tolist() == [False, False, False, True, False, False]


def test_resistance_without_its_map_is_drawn_over_temperature_alone(undrawn: None) -> None:
    document = fit_document()
    del document["resistance"]
    html = render_fit_report(document)
    assert "Resistance over charge is not shown" in visible(html)
    assert "Resistance of the pack" in titles(html)


@pytest.mark.parametrize(
    "key", ["parameters", "logs", "charge_curves", "aging", "notes", "series", "resistance", "rows"]
)
def test_a_missing_part_leaves_a_report_of_the_others(undrawn: None, key: str) -> None:
    document = fit_document()
    del document[key]
    assert "What was put right or taken for granted" in visible(render_fit_report(document))


def test_another_schema_is_refused_in_one_sentence() -> None:
    with pytest.raises(RenderError, match=r"^cannot report a document of schema 'v2gbench.age/1.0'; .+fit/1$"):
        render_fit_report({"schema": "v2gbench.age/1.0"})


def test_the_report_is_written_beside_its_document(undrawn: None, tmp_path: Path) -> None:
    assert write_fit_report(fit_document(), tmp_path) == tmp_path / "report.html"
