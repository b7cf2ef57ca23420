"""What the reports of a replay and of a fit share: measured beside modelled, what is left, and words for errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reports.pack.documents import Document, Floats, texts
from reports.pack.figures import BLUE, GREY, ORANGE, Album, Curve, Limit, Mark, Row, curves, ranges
from reports.page import NOTHING, Cell, Figure, Section, Table, Tone, capital, figure_text

PAIR_PX: Final = 430
WIDE_PX: Final = 700
_FEW_ROWS: Final = 500
_MOST_RISES: Final = 24


@dataclass(frozen=True, slots=True)
class Traced:
    """One quantity of a log, measured and by a `model` (its name), over a common time axis; NaN is a gap."""

    key: str
    title: str
    model: str
    at: Floats
    x_label: str
    measured: Floats
    modelled: Floats
    y_label: str
    unit: str
    gaps: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Rise:
    """A rise of temperature across a gap in K: measured, and by a model."""

    label: str
    measured_k: float
    modelled_k: float


def points(at: Floats) -> bool:
    """Whether a series is short enough for its rows to be marked."""
    return len(at) <= _FEW_ROWS


def residual_picture(
    album: Album, traced: Traced, caption: str, *, beside: Sequence[Curve] = (), marks: Sequence[Limit] = ()
) -> Figure:
    """Both lines above, the difference below; `beside` are further lines above, `marks` limits below."""
    dots = points(traced.at)
    model = traced.model
    lines = [
        *beside,
        Curve("measured", traced.at, traced.measured, BLUE, dots=dots),
        Curve(model, traced.at, traced.modelled, ORANGE, width_px=2.4),
    ]
    above = curves(
        f"{traced.key}-trace",
        lines,
        x_label="",
        y_label=traced.y_label,
        height_px=320,
        shaded=traced.gaps,
        shaded_label="gap in the log",
    )
    below = curves(
        f"{traced.key}-residual",
        [Curve(f"{model} less measured", traced.at, traced.modelled - traced.measured, ORANGE, dots=dots)],
        x_label=traced.x_label,
        y_label=f"difference in {traced.unit}",
        height_px=220,
        limits=[Limit(0.0, "no difference", colour=GREY), *marks],
        shaded=traced.gaps,
        linked_to=above,
    )
    return album.picture(f"{traced.title} and what is left", caption, above, below, plot_width_px=WIDE_PX)


def rises_picture(album: Album, rises: Sequence[Rise], model: str) -> tuple[Figure, ...]:
    """The warming across gaps, measured and foreseen; nothing where there is none."""
    if not rises:
        return ()
    rows = [
        Row(
            rise.label,
            ((min(rise.measured_k, rise.modelled_k), max(rise.measured_k, rise.modelled_k), GREY, 0.4),),
            (("measured", rise.measured_k), ("model", rise.modelled_k)),
            f"{figure_text(rise.modelled_k - rise.measured_k, 1, signed=True)} K",
        )
        for rise in rises[:_MOST_RISES]
    ]
    marks = (Mark("measured", "measured", "square", BLUE, filled=False), Mark("model", model, "circle", ORANGE))
    plot = ranges("gap-rises", rows, marks, x_label="rise of the pack's temperature across the gap in K")
    caption = (
        "What nobody logged still shows in the temperature behind it: how well the warming across each gap, mostly a "
        f"rapid charge, was foreseen. Numbers at the right are the {model} less the measured."
    )
    return (album.picture("Warming across gaps", caption, plot),)


def ratio_verdict(mine: float | None, other: float | None, *, told_before: bool = False) -> Cell:
    """An error against that of a guess, in words; `told_before` is a guess that knows more than the model."""
    if mine is None or not other:
        return Cell(NOTHING, "muted")
    ratio = mine / other
    word, tone = _ratio_words(ratio)
    if told_before and tone == "bad":
        tone = "muted"
    return Cell(f"{word} ({figure_text(ratio, 2)} of it)", tone)


def note_section(document: Document, *more: Table) -> Section:
    """Everything that was put right in the logs, or taken for granted."""
    title = "What was put right or taken for granted"
    words = tuple(f"{capital(note)}." for note in texts(document, "notes"))
    return Section("notes", title, words or ("Nothing.",), more)


def _ratio_words(ratio: float) -> tuple[str, Tone]:
    if ratio <= 0.6:
        return "far better", "good"
    if ratio < 0.95:
        return "better", "good"
    if ratio <= 1.05:
        return "as good", "warn"
    return "worse", "bad"
