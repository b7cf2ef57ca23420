from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bokeh.models.glyphs import HBar, Line, Quad, Scatter, Text
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from reports.pack.documents import grid, pairs, require, value, values
from reports.pack.figures import (
    Band,
    Curve,
    Limit,
    Mark,
    Part,
    Row,
    curves,
    grouped_bars,
    heat,
    histogram,
    ranges,
    stacked_bars,
    stacked_span,
    time_axis,
)
from reports.page import capital, figure_text, number


def drawn(plot: figure, kind: type[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Glyphs of a kind with their data; values that are no column stand in the glyph."""
    found = [each for each in plot.renderers if isinstance(each, GlyphRenderer) and isinstance(each.glyph, kind)]
    return [(each.glyph, dict(each.data_source.data)) for each in found]


def texts(plot: figure) -> list[str]:
    return [str(one) for _, data in drawn(plot, Text) for one in data["text"]]


def names_of_rows(plot: figure) -> dict[Any, Any]:
    return dict(plot.yaxis[0].major_label_overrides)


def test_negative_parts_stand_left_of_zero_and_positive_ones_on_each_other() -> None:
    stacked = (
        Part("parked", "#888888", (6.9, 5.7)),
        Part("driving", "#00aa00", (0.5, -0.3)),
        Part("V2G", "#ee7700", (1.3, 0.9)),
    )
    plot = stacked_bars("loss", ("b1", "kokam"), stacked, x_label="points", totals=(8.7, 6.3))
    bars = {glyph.fill_color: data for glyph, data in drawn(plot, HBar)}
    assert list(bars["#00aa00"]["left"]) == pytest.approx([6.9, -0.3])
    assert list(bars["#00aa00"]["right"]) == pytest.approx([7.4, 0.0])
    assert list(bars["#ee7700"]["left"]) == pytest.approx([7.4, 5.7])  # not on the negative part
    assert texts(plot) == ["8.70", "6.30"]
    assert plot.x_range.start < -0.3  # type: ignore[attr-defined]


def test_the_span_of_stacked_bars_holds_savings_and_sums() -> None:
    low, high = stacked_span((Part("a", "#000000", (2.0,)), Part("b", "#000000", (-1.0,))), (1.0,))
    assert low < -1.0
    assert high > 2.0


def test_a_bar_below_zero_carries_its_number_on_its_left() -> None:
    plot = grouped_bars(
        "own", ("driving", "V2G"), (Part("first in", "#112233", (-0.41, 0.9)),), x_label="points", signed=True
    )
    (_, data), *_ = drawn(plot, HBar)
    assert list(data["left"]) == [-0.41, 0.0]
    labels = {data["text"][0]: (data["x"][0], glyph.text_align) for glyph, data in drawn(plot, Text)}
    assert labels["\u22120.41"][0] < -0.41
    assert labels["\u22120.41"][1] == "right"
    assert labels["+0.90"][0] > 0.9


def test_a_value_that_is_missing_has_no_bar_and_no_number() -> None:
    plot = grouped_bars("own", ("a", "b"), (Part("live", "#112233", (math.nan, 1.0)),), x_label="points")
    (_, data), *_ = drawn(plot, HBar)
    assert list(data["right"]) == [1.0]
    assert texts(plot) == ["1.00"]


def test_rows_are_named_from_the_top_with_their_numbers_beside_them() -> None:
    rows = (
        Row("b1", ((1.0, 2.0, "#ee7700", 0.3),), (("shapley", 1.3),), "+1.30"),
        Row("wang", ((0.2, 0.4, "#ee7700", 0.3),), (("shapley", 0.3),), "+0.30"),
    )
    marks = (Mark("shapley", "Shapley share", "circle", "#ee7700"),)
    plot = ranges("wear", rows, marks, x_label="points", band=(0.3, 1.3), limits=(Limit(2.5, "end", across="y"),))
    assert names_of_rows(plot) == {1: "b1", 0: "wang"}
    assert texts(plot) == ["+1.30", "+0.30"]
    (_, bars), *_ = drawn(plot, HBar)
    assert list(bars["left"]) == [1.0, 0.2]
    assert list(bars["y"]) == [1, 0]
    (_, points), *_ = drawn(plot, Scatter)
    assert list(points["x"]) == [1.3, 0.3]


def test_a_gap_stays_a_gap_and_is_shaded() -> None:
    x = np.array([0.0, 1.0, math.nan, 3.0])
    y = np.array([400.0, 398.0, math.nan, 380.0])
    plot = curves(
        "voltage",
        (Curve("measured", x, y, "#2f8fd0", dots=True),),
        x_label="hours",
        y_label="V",
        shaded=((1.0, 3.0),),
        shaded_label="gap in the log",
        bands=(Band("90 %", np.array([0.0, 3.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), "#ee7700"),),
        limits=(Limit(0.0, "none"), Limit(1.0, "worst", across="y")),
    )
    (_, line), *_ = drawn(plot, Line)
    assert np.isnan(line["y"]).tolist() == [False, False, True, False]
    boxes = [each for each in plot.center if type(each).__name__ == "BoxAnnotation"]
    assert [(box.left, box.right) for box in boxes] == [(1.0, 3.0)]  # type: ignore[attr-defined]
    legend = plot.above[0]
    assert [item.label.value for item in legend.items] == ["90 %", "measured", "none", "worst", "gap in the log"]  # type: ignore[attr-defined]


def test_a_line_without_a_name_is_not_in_the_legend() -> None:
    x = np.arange(3.0)
    plot = curves(
        "r", (Curve("25 °C", x, x, "#2f8fd0"), Curve("", x, x, "#2f8fd0", dashed=True)), x_label="", y_label=""
    )
    assert len(plot.above[0].items) == 1  # type: ignore[attr-defined]


def test_empty_cells_of_a_heat_map_stay_blank() -> None:
    shares = np.array([[0.0, 4.0], [96.0, 0.0]])
    edges = np.array([0.0, 50.0, 100.0])
    plot = heat("hours", edges, edges, shares, x_label="°C", y_label="%", most=96.0, title="all", unit="%")
    (_, cells), *_ = drawn(plot, Quad)
    assert sorted(cells["share"]) == [4.0, 96.0]


def test_a_histogram_starts_at_zero_and_shows_both_series() -> None:
    edges = np.array([0.0, 50.0, 100.0])
    plot = histogram(
        "soc", edges, np.array([10.0, 90.0]), np.array([60.0, 40.0]), x_label="%", y_label="%", filled_label="with",
        outlined_label="without",
    )  # fmt: skip
    assert plot.y_range.start == 0.0  # type: ignore[attr-defined]
    (_, line), *_ = drawn(plot, Line)
    assert list(line["y"]) == [60.0, 60.0, 40.0, 40.0]


@pytest.mark.parametrize(("seconds", "unit"), [(40.0, "seconds"), (2700.0, "minutes"), (32_089.0, "hours")])
def test_time_is_told_in_a_unit_that_fits(seconds: float, unit: str) -> None:
    assert time_axis(seconds)[1].startswith(unit)


@pytest.mark.parametrize(
    ("found", "shown"),
    [(-0.4, "\u22120.40"), (-0.001, "0.00"), (13.428, "+13.43"), (27_336.0, "+27\u202f336.00"), (0.0, "0.00")],
)
def test_signed_numbers_have_a_true_minus_and_no_negative_zero(found: float, shown: str) -> None:
    assert figure_text(found, 2, signed=True) == shown


def test_what_is_no_number_is_a_dash() -> None:
    assert [number(each, 1).text for each in (None, math.nan, math.inf)] == ["\u2013"] * 3


def test_a_capital_leaves_the_other_letters() -> None:
    assert capital("without V2G: A") == "Without V2G: A"


def test_numbers_of_a_document_are_nan_where_they_are_missing() -> None:
    document = {"a": [1, None, "?", 2.5, True], "b": True, "c": [[0, 1], [2, None]], "d": [[1], [2, 3]]}
    assert np.array_equal(values(document, "a"), [1.0, math.nan, math.nan, 2.5, math.nan], equal_nan=True)
    assert value(document, "b") is None
    assert pairs(document, "c") == ((0.0, 1.0),)
    assert grid(document, "d").size == 0


def test_a_schema_of_the_same_major_version_is_read() -> None:
    require({"schema": "v2gbench.fit/1.4"}, "v2gbench.fit/1.0")
