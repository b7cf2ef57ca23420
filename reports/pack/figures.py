"""The kinds of picture that the pack's reports are made of, each a plain drawing with the look of the house.

    curves          lines over time or years, with limit lines, shaded stretches and gaps
    ranges          one row per law or parameter: a bar from the least to the most, marks on it, a number beside it
    stacked_bars    one row per law: parts that add up, negative ones left of zero
    grouped_bars    one group per use: several answers side by side, negative ones left of zero
    histogram       hours or shares over a quantity, one filled, one as an outline
    heat            hours over two quantities

Colours mean the same everywhere (`WITH`, `WITHOUT`, `USE_COLOURS`), and no difference is told by colour alone: lines
are dashed, marks have shapes, bars have names and numbers. Rows are numeric axes with names, because the page's script
that follows light and dark paints those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from bokeh.core.properties import value as literal
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
from bokeh.models.annotations import BoxAnnotation, LegendItem, Span, Title
from bokeh.models.mappers import LinearColorMapper
from bokeh.models.renderers import DataRenderer
from bokeh.palettes import cividis
from bokeh.plotting import figure

from reports.pack.documents import Floats
from reports.page import Figure, figure_text
from reports.plots import COLOURS, add_legend, any_glyph, new_plot, plain, thinned_indices

BLUE, ORANGE, GREEN, PURPLE, YELLOW, GREY = COLOURS
WITH: Final = ORANGE
WITHOUT: Final = BLUE
LIMIT: Final = "#d43a3a"
USE_COLOURS: Final[Mapping[str, str]] = {
    "v2g": ORANGE,
    "driving": GREEN,
    "rapid": PURPLE,
    "rapid_charging": PURPLE,
    "cold_charging": BLUE,
    "charging": YELLOW,
    "parked": GREY,
    "time": GREY,
}

Shape = Literal["circle", "diamond", "triangle", "square", "x", "dash"]

_TEXT_PX: Final = 13
_ROW_PX: Final = 34
_FRAME_PX: Final = 118  # of a plot of rows: axis, its label, and a line of legend
_INK: Final = "#1c232b"


@dataclass(frozen=True, slots=True)
class Curve:
    """One line; NaN is a gap. `dots` marks its points, for a line of few; one without a label is not in the legend."""

    label: str
    x: Floats
    y: Floats
    colour: str
    dashed: bool = False
    dots: bool = False
    width_px: float = 2.0
    step: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A shaded range of y over x, such as an interval."""

    label: str
    x: Floats
    low: Floats
    high: Floats
    colour: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across a plot: at a value of y, or at one of x."""

    at: float
    label: str
    across: Literal["x", "y"] = "x"
    colour: str = LIMIT


@dataclass(frozen=True, slots=True)
class Mark:
    """A kind of mark in a plot of ranges, as its legend says it."""

    key: str
    label: str
    shape: Shape
    colour: str
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a plot of ranges: bars from least to most with colour and opacity, marks by key, a text beside it."""

    label: str
    bars: tuple[tuple[float, float, str, float], ...] = ()
    marks: tuple[tuple[str, float], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of all bars: its name, its colour, and its value per bar (NaN where a bar has no such part)."""

    label: str
    colour: str
    values: tuple[float, ...] = field(default=())


class Album:
    """The plots of one report, as they are drawn; `picture` says what they show and gives the figure for the page."""

    def __init__(self) -> None:
        self.plots: list[figure] = []

    def picture(self, title: str, caption: str, *plots: figure, plot_width_px: int = 0) -> Figure:
        """A figure of one plot, or of several side by side where each has at least `plot_width_px`."""
        self.plots += plots
        return Figure(title, caption, tuple(str(plot.name) for plot in plots), plot_width_px)


def curves(
    key: str,
    lines: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    height_px: int = 300,
    limits: Sequence[Limit] = (),
    bands: Sequence[Band] = (),
    shaded: Sequence[tuple[float, float]] = (),
    shaded_label: str = "",
    linked_to: figure | None = None,
    y_range: tuple[float, float] | None = None,
    x_names: Mapping[float, str] | None = None,
    legend: bool = True,
    title: str = "",
) -> figure:
    """Lines over a common x, with limit lines and stretches of x shaded, such as gaps of a log.

    `x_names` gives the ticks of x, with their names.
    """
    plot = _blank(key, x_label=x_label, y_label=y_label, height_px=height_px, linked_to=linked_to)
    if y_range is not None:
        plot.y_range = Range1d(start=y_range[0], end=y_range[1])
    if title:
        plot.title = Title(text=plain(title), text_font_size=f"{_TEXT_PX}px", text_color=_INK, align="left")
    for low, high in shaded:
        plot.add_layout(BoxAnnotation(left=low, right=high, fill_color=GREY, fill_alpha=0.22, line_color=None))
    items = [_band(plot, band) for band in bands]
    drawn = [(line.label, _curve(plot, line)) for line in lines]
    items += [item for label, item in drawn if label]
    items += [_limit(plot, limit, lines) for limit in limits]
    if shaded and shaded_label:
        handle = plot.quad(left=[math.nan], right=[math.nan], bottom=[math.nan], top=[math.nan], color=GREY, alpha=0.3)
        items.append(LegendItem(label=literal(plain(shaded_label)), renderers=[any_glyph(handle)]))
    if x_names is not None:
        plot.xaxis[0].ticker = FixedTicker(ticks=list(x_names))
        plot.xaxis[0].major_label_overrides = {at: plain(name) for at, name in x_names.items()}
    if legend and items:
        add_legend(plot, items)
    return plot


def ranges(
    key: str,
    rows: Sequence[Row],
    marks: Sequence[Mark],
    *,
    x_label: str,
    band: tuple[float, float] | None = None,
    limits: Sequence[Limit] = (),
    x_range: tuple[float, float] | None = None,
    text_room: float = 0.16,
) -> figure:
    """A row per name: its bars, its marks, and its text at the right edge; `band` is shaded over all rows."""
    count = len(rows)
    plot = _blank(key, x_label=x_label, y_label="", height_px=_FRAME_PX + _ROW_PX * count)
    found = [at for row in rows for low, high, _, _ in row.bars for at in (low, high)]
    found += [at for row in rows for _, at in row.marks]
    found += [limit.at for limit in limits if limit.across == "x"]
    low, high = x_range or _span(found)
    room = text_room * (high - low) if any(row.text for row in rows) else 0.0
    plot.x_range = Range1d(start=low, end=high + room)
    plot.xaxis[0].bounds = (low, high)
    _name_rows(plot, [row.label for row in rows])
    if band is not None:
        plot.add_layout(BoxAnnotation(left=band[0], right=band[1], fill_color=ORANGE, fill_alpha=0.10, line_color=None))
    if low < 0.0 < high:
        plot.add_layout(Span(location=0.0, dimension="height", line_color=GREY, line_width=1.2))
    at_rows = list(range(count))
    plot.segment(x0=low, x1=high, y0=at_rows, y1=at_rows, line_color=GREY, line_alpha=0.25)
    looks = dict.fromkeys((colour, alpha) for row in rows for _, _, colour, alpha in row.bars)
    for look in looks:
        bars = [
            (at, bar[0], bar[1])
            for at, row in zip(reversed(at_rows), rows, strict=True)
            for bar in row.bars
            if bar[2:] == look
        ]
        at, left, right = zip(*bars, strict=True)
        plot.hbar(y=at, left=left, right=right, height=0.26, color=look[0], alpha=look[1], line_color=None)
    items: list[LegendItem] = []
    for mark in marks:
        points = [
            (at, count - 1 - place, row.label) for place, row in enumerate(rows) for k, at in row.marks if k == mark.key
        ]
        if points:
            items.append(_mark(plot, mark, points, x_label))
    items += [_upright(plot, limit) for limit in limits]
    _texts(plot, [high + 0.25 * room] * count, list(range(count - 1, -1, -1)), [row.text for row in rows], align="left")
    if items:
        add_legend(plot, items)
    return plot


def stacked_bars(
    key: str,
    labels: Sequence[str],
    stacked: Sequence[Part],
    *,
    x_label: str,
    totals: Sequence[float],
    x_range: tuple[float, float] | None = None,
    decimals: int = 2,
) -> figure:
    """A bar per label, made of parts; negative parts stand left of zero. Totals are marked and written beside it."""
    count = len(labels)
    plot = _blank(key, x_label=x_label, y_label="", height_px=_FRAME_PX + 24 + _ROW_PX * count)
    low, high = x_range or stacked_span(stacked, totals)
    room = 0.16 * (high - low)
    plot.x_range = Range1d(start=low, end=high + room)
    _name_rows(plot, labels)
    at = [float(count - 1 - place) for place in range(count)]
    right_of, left_of = np.zeros(count), np.zeros(count)
    items: list[LegendItem] = []
    for each in stacked:
        given = np.nan_to_num(np.array(each.values))
        base = np.where(given >= 0.0, right_of, left_of)
        source = ColumnDataSource(
            data={
                "y": at,
                "left": np.minimum(base, base + given),
                "right": np.maximum(base, base + given),
                "shown": [figure_text(one, 3, signed=True) for one in given],
                "name": [plain(label) for label in labels],
            }
        )
        bar = plot.hbar(
            y="y", left="left", right="right", height=0.56, color=each.colour, line_color=None, source=source
        )
        plot.add_tools(
            HoverTool(renderers=[bar], tooltips=[("", "@name"), (plain(each.label), "@shown")], visible=False)
        )
        items.append(LegendItem(label=literal(plain(each.label)), renderers=[any_glyph(bar)]))
        right_of += np.maximum(given, 0.0)
        left_of += np.minimum(given, 0.0)
    plot.add_layout(Span(location=0.0, dimension="height", line_color=GREY, line_width=1.4))
    sums = plot.scatter(
        x=list(totals), y=at, marker="diamond", size=11, fill_color="#ffffff", line_color=_INK, line_width=1.6
    )
    items.append(LegendItem(label=literal("sum"), renderers=[any_glyph(sums)]))
    beyond = np.maximum(right_of, np.array(totals))
    _texts(plot, (beyond + 0.025 * (high - low)).tolist(), at, [figure_text(one, decimals) for one in totals])
    add_legend(plot, items)
    return plot


def stacked_span(stacked: Sequence[Part], totals: Sequence[float]) -> tuple[float, float]:
    """Least and most of x that stacked bars need; of two plots, so that they share it."""
    given = np.nan_to_num(np.array([each.values for each in stacked]))
    if not given.size:
        return 0.0, 1.0
    most = max(float(np.maximum(given, 0.0).sum(axis=0).max()), *totals)
    least = min(float(np.minimum(given, 0.0).sum(axis=0).min()), 0.0)
    return (least - 0.04 * (most - least) if least < 0.0 else 0.0), most * 1.02 or 1.0


def grouped_bars(
    key: str,
    labels: Sequence[str],
    groups: Sequence[Part],
    *,
    x_label: str,
    decimals: int = 2,
    signed: bool = False,
    percent_of_one: bool = False,
) -> figure:
    """A group of bars per label, one for each part, with its number at its end; negative ones go left of zero."""
    count, each_px = len(labels), 22
    height_px = _FRAME_PX + 14 + count * (each_px * len(groups) + 16)
    plot = _blank(key, x_label=x_label, y_label="", height_px=height_px)
    low, high = _span([one for each in groups for one in each.values] + [0.0], margin=0.02)
    room = 0.13 * (high - low)
    plot.x_range = Range1d(start=low - (room if low < 0.0 else 0.0), end=high + room)
    _name_rows(plot, labels)
    slot = 0.82 / len(groups)
    items: list[LegendItem] = []
    scale = 100.0 if percent_of_one else 1.0
    for order, each in enumerate(groups):
        at = [count - 1 - place + 0.41 - slot * (order + 0.5) for place in range(count)]
        known = [place for place, one in enumerate(each.values) if math.isfinite(one)]
        bar = plot.hbar(
            y=[at[place] for place in known],
            left=[min(each.values[place], 0.0) for place in known],
            right=[max(each.values[place], 0.0) for place in known],
            height=slot * 0.84,
            color=each.colour,
            line_color=None,
        )
        items.append(LegendItem(label=literal(plain(each.label)), renderers=[any_glyph(bar)]))
        reach = 0.012 * (high - low)
        for negative in (False, True):
            shown = [place for place in known if (each.values[place] < 0.0) == negative]
            _texts(
                plot,
                [each.values[place] + (-reach if negative else reach) for place in shown],
                [at[place] for place in shown],
                [figure_text(scale * each.values[place], decimals, signed=signed) for place in shown],
                align="right" if negative else "left",
            )
    plot.add_layout(Span(location=0.0, dimension="height", line_color=GREY, line_width=1.4))
    add_legend(plot, items)
    return plot


def histogram(
    key: str,
    edges: Floats,
    filled: Floats,
    outlined: Floats | None,
    *,
    x_label: str,
    y_label: str,
    filled_label: str,
    outlined_label: str = "",
    colour: str = WITH,
    height_px: int = 280,
) -> figure:
    """Shares over bins of `edges`; the second series is a line of steps over the first, so that both are seen."""
    plot = _blank(key, x_label=x_label, y_label=y_label, height_px=height_px)
    plot.y_range.start = 0.0  # type: ignore[attr-defined]
    bars = plot.quad(
        left=edges[:-1], right=edges[1:], bottom=0.0, top=filled, fill_color=colour, fill_alpha=0.55, line_color=colour
    )
    items = [LegendItem(label=literal(plain(filled_label)), renderers=[any_glyph(bars)])]
    if outlined is not None:
        x = np.repeat(edges, 2)[1:-1]
        line = plot.line(x=x, y=np.repeat(outlined, 2), line_color=WITHOUT, line_width=2.4, line_dash=[7, 3])
        items.append(LegendItem(label=literal(plain(outlined_label)), renderers=[any_glyph(line)]))
    add_legend(plot, items)
    return plot


def heat(
    key: str,
    x_edges: Floats,
    y_edges: Floats,
    shares: Floats,
    *,
    x_label: str,
    y_label: str,
    most: float,
    title: str,
    unit: str,
) -> figure:
    """A cell per pair of bins, darker to brighter up to `most`; `shares` has shape (y, x), empty cells stay blank."""
    plot = curves(key, (), x_label=x_label, y_label=y_label, height_px=330, title=title)
    rows, columns = np.nonzero(shares > 0.0)
    source = ColumnDataSource(
        data={
            "left": x_edges[columns],
            "right": x_edges[columns + 1],
            "bottom": y_edges[rows],
            "top": y_edges[rows + 1],
            "share": shares[rows, columns],
        }
    )
    mapper = LinearColorMapper(palette=list(cividis(64))[::-1], low=0.0, high=most)
    cells = plot.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        source=source,
        fill_color={"field": "share", "transform": mapper},
        line_color=None,
    )
    plot.add_tools(
        HoverTool(
            renderers=[cells],
            tooltips=[(x_label, "@left to @right"), (y_label, "@bottom to @top"), ("", f"@share{{0.00}} {unit}")],
            visible=False,
        )
    )
    plot.x_range = Range1d(start=float(x_edges[0]), end=float(x_edges[-1]))
    plot.y_range = Range1d(start=float(y_edges[0]), end=float(y_edges[-1]))
    plot.add_layout(cells.construct_color_bar(width=10, title=None, major_label_text_font_size="12px"), "right")
    return plot


def time_axis(seconds: float) -> tuple[float, str]:
    """Seconds in the unit of a time axis over so many seconds, and the axis' name."""
    if seconds > 7200.0:
        return 3600.0, "hours from the first row"
    if seconds > 300.0:
        return 60.0, "minutes from the first row"
    return 1.0, "seconds from the first row"


def _blank(key: str, *, x_label: str, y_label: str, height_px: int, linked_to: figure | None = None) -> figure:
    plot = new_plot(key, x_label=x_label, y_label=y_label, height_px=height_px, linked_to=linked_to)
    for axis in (plot.xaxis[0], plot.yaxis[0]):
        axis.axis_label_text_font_size = f"{_TEXT_PX}px"
        axis.major_label_text_font_size = f"{_TEXT_PX}px"
    return plot


def _name_rows(plot: figure, labels: Sequence[str]) -> None:
    """Names for the rows of a plot, the first one on top."""
    count = len(labels)
    plot.yaxis[0].ticker = FixedTicker(ticks=list(range(count)))
    plot.yaxis[0].major_label_overrides = {count - 1 - place: plain(label) for place, label in enumerate(labels)}
    plot.yaxis[0].major_tick_line_color = None
    plot.ygrid[0].visible = False
    plot.y_range = Range1d(start=-0.6, end=count - 0.4)


def _span(found: Sequence[float], *, margin: float = 0.05) -> tuple[float, float]:
    finite = [one for one in found if math.isfinite(one)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = high - low
    return (low - margin * width if low != 0.0 else low), high + margin * width


def _curve(plot: figure, line: Curve) -> LegendItem:
    kept = thinned_indices(line.y) if len(line.y) else np.arange(0)
    source = ColumnDataSource(data={"x": line.x[kept].astype(np.float32), "y": line.y[kept].astype(np.float32)})
    dash: list[int] = [7, 4] if line.dashed else []
    if line.step:
        held = plot.step(
            "x", "y", source=source, mode="after", line_color=line.colour, line_width=line.width_px, line_dash=dash
        )
        return LegendItem(label=literal(plain(line.label)), renderers=[any_glyph(held)])
    drawn = plot.line("x", "y", source=source, line_color=line.colour, line_width=line.width_px, line_dash=dash)
    renderers = [any_glyph(drawn)]
    hovered: list[DataRenderer] = [drawn]
    if line.dots:
        dots = plot.scatter("x", "y", source=source, size=6, fill_color=line.colour, line_color=None)
        renderers.append(any_glyph(dots))
        hovered = [dots]
    tooltips = [
        ("", plain(line.label)),
        (str(plot.xaxis[0].axis_label), "@x{0.00}"),
        (str(plot.yaxis[0].axis_label), "@y{0,0.000}"),
    ]
    mode: Literal["mouse", "vline"] = "mouse" if line.dots else "vline"
    plot.add_tools(HoverTool(renderers=hovered, tooltips=tooltips, mode=mode, visible=False))
    return LegendItem(label=literal(plain(line.label)), renderers=renderers)


def _band(plot: figure, band: Band) -> LegendItem:
    drawn = plot.varea(x=band.x, y1=band.low, y2=band.high, fill_color=band.colour, fill_alpha=0.25)
    return LegendItem(label=literal(plain(band.label)), renderers=[any_glyph(drawn)])


def _limit(plot: figure, limit: Limit, lines: Sequence[Curve]) -> LegendItem:
    if limit.across == "x":
        plot.add_layout(
            Span(location=limit.at, dimension="width", line_color=limit.colour, line_dash=[2, 3], line_width=1.8)
        )
        first = float(lines[0].x[0]) if lines and len(lines[0].x) else 0.0
        # the invisible point gives the limit its place in the legend
        handle = plot.line(x=[first], y=[limit.at], line_color=limit.colour, line_dash=[2, 3], line_width=1.8)
        return LegendItem(label=literal(plain(limit.label)), renderers=[any_glyph(handle)])
    return _upright(plot, limit)


def _upright(plot: figure, limit: Limit) -> LegendItem:
    plot.add_layout(
        Span(location=limit.at, dimension="height", line_color=limit.colour, line_dash=[2, 3], line_width=1.8)
    )
    handle = plot.line(x=[limit.at], y=[math.nan], line_color=limit.colour, line_dash=[2, 3], line_width=1.8)
    return LegendItem(label=literal(plain(limit.label)), renderers=[any_glyph(handle)])


def _mark(plot: figure, mark: Mark, points: Sequence[tuple[float, int, str]], x_label: str) -> LegendItem:
    source = ColumnDataSource(
        data={
            "x": [at for at, _, _ in points],
            "y": [row for _, row, _ in points],
            "name": [plain(label) for _, _, label in points],
        }
    )
    drawn = plot.scatter(
        "x",
        "y",
        source=source,
        marker=mark.shape,
        size=12 if mark.shape in {"circle", "diamond"} else 11,
        fill_color=mark.colour if mark.filled else None,
        line_color=mark.colour,
        line_width=2.0,
    )
    tooltips = [("", "@name"), (plain(mark.label), "@x{0,0.000}"), ("", plain(x_label))]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tooltips, visible=False))
    return LegendItem(label=literal(plain(mark.label)), renderers=[any_glyph(drawn)])


def _texts(
    plot: figure,
    x: Sequence[float],
    y: Sequence[float],
    shown: Sequence[str],
    *,
    align: Literal["left", "right"] = "left",
) -> None:
    if not any(shown):
        return
    source = ColumnDataSource(data={"x": list(x), "y": list(y), "text": [plain(one) for one in shown]})
    plot.text(
        "x",
        "y",
        text="text",
        source=source,
        text_font_size=f"{_TEXT_PX}px",
        text_color=_INK,
        text_align=align,
        text_baseline="middle",
    )
