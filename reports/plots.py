"""Plots of a report: how every plot looks, and how it comes into a page; drawn by Bokeh.

A report must open on a computer without a network, years later, and stay small. So Bokeh's core script is inlined
once (widgets, tables and WebGL stay out) and a series of many points is thinned to the smallest and the largest value
of each stretch of time, in their order: a peak of one sample survives, which an average or every n-th point would hide.
A gap (NaN) survives too. Values travel as 32-bit floats: seven digits are more than a screen shows.

Bokeh would fetch MathJax from the network for a label with `$$` in it, so such labels are broken up.

>>> thinned_indices(np.array([0.0, 0.0, 9.0, 0.0, 0.0, 0.0]), buckets=1).tolist()
[0, 2, 5]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
import numpy.typing as npt
from bokeh.core.properties import value as literal
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import BoxAnnotation, Legend, LegendItem, Span
from bokeh.models.glyph import Glyph
from bokeh.models.glyphs import Line, Scatter, Step
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure
from bokeh.resources import Resources

Floats = npt.NDArray[np.float64]

# Six hues that keep their distance for the common colour-vision deficiencies (Okabe and Ito 2008), the blue and the
# yellow darkened so that they carry on white as well as on near-black.
COLOURS: Final = ("#2f8fd0", "#e07b39", "#1fa37a", "#b66fb0", "#c2a51c", "#8a94a3")
_BUCKETS: Final = 1000
_LONGEST_LABEL: Final = 40
_LONGEST_AXIS_LABEL: Final = 80
_LEGEND_COLUMNS: Final = 4  # as many as a printed page has room for
_PLOT_HEIGHT_PX: Final = 340


@dataclass(frozen=True, slots=True)
class Trace:
    """One line: `x_min` in minutes of session time, `y` in the panel's unit (NaN is a gap), both of one length.

    `step` holds each value until the next, as set-points do; `points` is for sparse readings.
    """

    label: str
    x_min: Floats
    y: Floats
    style: Literal["line", "step", "points"] = "line"
    colour: int = 0
    dashed: bool = False
    width_px: float = 1.8


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A horizontal line at a limit, or where its warning begins."""

    at: float
    label: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot with a title in words; bands lie between `low` and `high` of each pair."""

    key: str
    title: str
    y_label: str
    traces: tuple[Trace, ...]
    limits: tuple[LimitLine, ...] = ()
    warning_bands: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedPlots:
    """What a page needs: the library (once), the script that draws, and an HTML element per panel key."""

    library_js: str
    script_js: str
    elements: dict[str, str]


def thinned_indices(y: Floats, buckets: int = _BUCKETS) -> npt.NDArray[np.intp]:
    """Indices of `y` to keep: first, last, and per bucket its smallest, its largest and its first missing value.

    Shape (m,), ascending, m at most 3 * `buckets` + 2; all of them when there are no more than 2 * `buckets`.
    """
    count = len(y)
    if count <= 2 * buckets and buckets > 1:
        return np.arange(count)
    size = -(-count // buckets)
    rows = -(-count // size)
    padded = np.full(rows * size, y[-1])
    padded[:count] = y
    grid = padded.reshape(rows, size)
    missing = np.isnan(grid)
    first = np.arange(rows) * size
    lowest = first + np.where(missing, np.inf, grid).argmin(axis=1)
    highest = first + np.where(missing, -np.inf, grid).argmax(axis=1)
    gaps = (first + missing.argmax(axis=1))[missing.any(axis=1)]
    kept = np.unique(np.concatenate([[0, count - 1], lowest, highest, gaps]))
    return kept[kept < count].astype(np.intp)


def render_plots(panels: Sequence[Panel]) -> RenderedPlots:
    """Panels as script and elements; their time axes are linked, so that zooming one zooms all."""
    figures: list[figure] = []
    for panel in panels:
        figures.append(_figure(panel, figures[0] if figures else None))
    return embedded(figures)


def embedded(plots: Sequence[figure]) -> RenderedPlots:
    """Drawn plots as script and elements, by their names; no library where there is no plot."""
    if not plots:
        return RenderedPlots("", "", {})
    document = Document()
    with document.models.freeze():  # else Bokeh goes through all models again for each plot
        for plot in plots:
            document.add_root(plot)
    script, elements = components(tuple(plots), wrap_script=False)
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return RenderedPlots(library, script, {str(plot.name): html for plot, html in zip(plots, elements, strict=True)})


def new_plot(
    key: str, *, x_label: str, y_label: str, height_px: int = _PLOT_HEIGHT_PX, linked_to: figure | None = None
) -> figure:
    """An empty plot with the look of the house, named `key`; zooming along x zooms `linked_to` too."""
    plot = figure(
        height=height_px,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,box_zoom,reset,save",
        active_drag="box_zoom",
        active_scroll=None,
        output_backend="canvas",
        name=key,
    )
    if linked_to is not None:
        plot.x_range = linked_to.x_range
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.background_fill_alpha = 0
    plot.border_fill_alpha = 0
    plot.outline_line_color = None
    plot.min_border_left = 64
    for axis in (plot.xaxis[0], plot.yaxis[0]):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "12px"
        axis.major_label_text_font_size = "12px"
        axis.axis_line_alpha = 0.4
        axis.minor_tick_line_color = None
    plot.xaxis[0].axis_label = plain(x_label, _LONGEST_AXIS_LABEL)
    plot.yaxis[0].axis_label = plain(y_label, _LONGEST_AXIS_LABEL)
    plot.xgrid[0].grid_line_alpha = 0.15
    plot.ygrid[0].grid_line_alpha = 0.25
    return plot


def add_legend(plot: figure, items: Sequence[LegendItem], columns: int = _LEGEND_COLUMNS) -> None:
    """A legend above the plot; a click on a name hides its line."""
    legend = Legend(
        items=list(items),
        orientation="horizontal",
        ncols=min(len(items), columns),
        location="top_left",
        click_policy="hide",
        border_line_color=None,
        background_fill_alpha=0,
        label_text_font_size="12px",
        margin=2,
        spacing=14,
        glyph_width=22,
    )
    plot.add_layout(legend, "above")


def _figure(panel: Panel, first: figure | None) -> figure:
    plot = new_plot(panel.key, x_label="session time in min", y_label=panel.y_label, linked_to=first)
    for low, high in panel.warning_bands:
        plot.add_layout(BoxAnnotation(bottom=low, top=high, fill_color="#d9a400", fill_alpha=0.13, line_color=None))
    items = [_draw(plot, trace) for trace in panel.traces]
    for limit in panel.limits:
        colour = "#c98a00" if limit.warning else "#d43a3a"
        line = Span(location=limit.at, dimension="width", line_color=colour, line_dash=[6, 4], line_width=1.4)
        plot.add_layout(line)
        # the invisible point gives the limit its place in the legend
        handle = plot.line(x=[0.0], y=[limit.at], line_color=colour, line_dash=[6, 4], line_width=1.4)
        items.append(LegendItem(label=literal(plain(limit.label)), renderers=[any_glyph(handle)]))
    add_legend(plot, items)
    return plot


def _draw(plot: figure, trace: Trace) -> LegendItem:
    finite_or_gap = thinned_indices(trace.y) if len(trace.y) else np.arange(0)
    source = ColumnDataSource(
        data={
            "x": trace.x_min[finite_or_gap].astype(np.float32),
            "y": trace.y[finite_or_gap].astype(np.float32),
        }
    )
    colour = COLOURS[trace.colour % len(COLOURS)]
    dash: list[int] = [7, 4] if trace.dashed else []
    glyph: Line | Scatter | Step
    if trace.style == "step":
        glyph = Step(x="x", y="y", mode="after", line_color=colour, line_width=trace.width_px, line_dash=dash)
    elif trace.style == "points":
        glyph = Scatter(x="x", y="y", size=4, line_color=None, fill_color=colour)
    else:
        glyph = Line(x="x", y="y", line_color=colour, line_width=trace.width_px, line_dash=dash)
    renderer = any_glyph(plot.add_glyph(source, glyph))
    if trace.style != "step":
        label = plain(trace.label)
        unit = plain(str(plot.yaxis[0].axis_label))
        hover = HoverTool(
            renderers=[renderer],
            tooltips=[("", label), ("time", "@x{0.00} min"), (unit, "@y{0,0.00}")],
            mode="vline" if trace.style == "line" else "mouse",
            visible=False,
        )
        plot.add_tools(hover)
    return LegendItem(label=literal(plain(trace.label)), renderers=[renderer])


def any_glyph(renderer: object) -> GlyphRenderer[Glyph]:
    """A renderer as what a legend takes."""
    return cast("GlyphRenderer[Glyph]", renderer)  # Bokeh's stubs take the class as invariant in its glyph


def plain(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Text that Bokeh draws as it stands: short, and without the TeX delimiters that ask the network for MathJax."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return short.replace("$$", "$ $").replace("\\[", "\\ [").replace("\\(", "\\ (")
