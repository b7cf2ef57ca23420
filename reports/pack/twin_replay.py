"""The report of `v2gbench replay LOG --twin`: what the car's log says and what the twin says, and where they part.

Measured is blue with points, the twin is orange, whatever is shown; a gap of the log is shaded and no line crosses it.
Where the log's own state of charge drives the twin it is labelled an input, because agreeing with itself proves
nothing. Errors stand beside baselines that know less, or that know the row before, which the twin is never told.

The page is made from the JSON document alone (schema `v2gbench.twin-replay/1`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from bokeh.plotting import figure

from reports.pack.documents import Document, Floats, part, parts, require, text, texts, value, values
from reports.pack.figures import BLUE, GREY, ORANGE, PURPLE, Album, Curve, Limit, Mark, Row, curves, ranges, time_axis
from reports.pack.traces import (
    PAIR_PX,
    Rise,
    Traced,
    note_section,
    points,
    ratio_verdict,
    residual_picture,
    rises_picture,
)
from reports.page import (
    NOTHING,
    Cell,
    Fact,
    Figure,
    Page,
    Section,
    Table,
    Tone,
    capital,
    figure_text,
    number,
    render_page,
    spoken,
    write_page,
)
from reports.plots import embedded

REPLAY_SCHEMA: Final = "v2gbench.twin-replay/1.0"


def write_replay_report(document: Document, folder: Path) -> Path:
    """Write `report.html` into `folder` and return its path.

    Raises RenderError for a document of another schema, and when the file cannot be written.
    """
    return write_page(render_replay_report(document, origin=folder.name), folder / "report.html")


def render_replay_report(document: Document, *, origin: str = "") -> str:
    """The page as text; raises RenderError for a document of another schema."""
    require(document, REPLAY_SCHEMA)
    album = Album()
    headline, tone, reason = _headline(document)
    page = Page(
        kicker="twin replay report",
        title=f"{text(part(document, 'log'), 'file', 'a log')} on {text(part(document, 'pack'), 'name', 'a pack')}",
        headline=headline,
        tone=tone,
        reason=reason,
        badges=_badges(document),
        origin=origin,
        facts=_facts(document),
        sections=(
            _trace_section(document, album, "voltage"),
            _trace_section(document, album, "temperature"),
            _soc_section(document, album),
            _current_section(document, album),
            _error_section(document, album),
            _gap_section(document, album),
            _validity_section(document),
            _note_section(document),
        ),
        footer=_FOOTER,
    )
    return render_page(page, embedded(album.plots))


_FOOTER: Final = (
    (
        "Replayed.",
        (
            "The log is a recording of a real vehicle, as its own instruments saw it; the twin is a model. Errors hold "
            "for this log, and say little about other weather, other use or another age."
        ),
    ),
    ("", "Sign: positive current charges the vehicle. This page loads nothing from any network."),
)
_BASELINES: Final = (
    ("ocv_only", "open-circuit curve alone"),
    ("persistence", "nothing changes"),
    ("row_before", "value of the row before"),
)
_BEATABLE: Final = {"ocv_only": "by the open-circuit curve alone", "persistence": "if nothing changed"}
_COLUMNS: Final = {
    "voltage": ("voltage_v", "twin_voltage_v", "pack voltage in V", "V"),
    "temperature": ("temperature_c", "twin_temperature_c", "pack temperature in °C", "K"),
}
_BESIDE: Final = {
    "voltage": (("ocv_only_voltage_v", "curve alone", GREY, True),),
    "temperature": (
        ("open_loop_temperature_c", "twin, begun only once", PURPLE, True),
        ("ambient_c", "air", GREY, False),
    ),
}


# The top of the page --------------------------------------------------------------------------------------------------


def _headline(document: Document) -> tuple[str, Tone, str]:
    voltage = part(document, "errors", "voltage")
    rmse, level = value(part(voltage, "twin"), "rmse"), value(voltage, "level")
    if rmse is None:
        return "The voltage was not judged", "warn", "The document states no error of the voltage."
    share = f"{100 * rmse / level:.2f} %" if level else f"{rmse:.2f} V"
    told = []
    lost = []
    for name, unit in (("voltage", "V"), ("temperature", "K")):
        judged = part(document, "errors", name)
        twin = value(part(judged, "twin"), "rmse")
        if twin is None:
            reason = text(part(document, "errors"), f"{name}_not_judged")
            told.append(f"{name} is not judged" + (f", because {reason}" if reason else ""))
            continue
        against = [
            f"{figure_text(base, 2)} {unit} {told_of}"
            for key, told_of in _BEATABLE.items()
            if (base := value(part(judged, key), "rmse")) is not None
        ]
        beaten = [key for key in _BEATABLE if (base := value(part(judged, key), "rmse")) is not None and twin < base]
        asked = [key for key in _BEATABLE if value(part(judged, key), "rmse") is not None]
        if len(beaten) < len(asked):
            lost.append(name)
        told.append(f"{name} {figure_text(twin, 2)} {unit} rms" + (f" against {', '.join(against)}" if against else ""))
    reason = "; ".join(told) + "."
    if document.get("soc_is_input") is True:
        reason += " The log's state of charge drives the twin: it is an input here, not a result."
    headline = f"The twin follows the car's voltage within {share}"
    if lost:
        headline += f"; in {' and '.join(lost)} a simpler guess is as good"
    return headline, "warn" if lost else "plain", capital(reason)


def _badges(document: Document) -> tuple[tuple[str, Tone], ...]:
    driven = text(document, "driven_by", "")
    badges: list[tuple[str, Tone]] = [(text(document, "material", "replayed"), "")]
    if driven:
        badges.append((f"driven by the log's {driven}", "warn" if document.get("soc_is_input") is True else ""))
    count = value(part(document, "gaps"), "count") or 0.0
    if count:
        badges.append((f"{count:.0f} gap{'s' if count != 1.0 else ''} in the log", "warn"))
    if texts(part(document, "validity"), "warnings"):
        badges.append(("validity is limited", "warn"))
    return tuple(badges)


def _facts(document: Document) -> tuple[Fact, ...]:
    log, pack = part(document, "log"), part(document, "pack")
    rows, spacing, seconds = (value(log, key) for key in ("rows", "row_spacing_s", "duration_s"))
    facts = []
    if seconds is not None:
        span = f"{seconds / 3600:.1f}" if seconds > 7200 else f"{seconds / 60:.1f}"
        detail = "" if rows is None else f"{figure_text(rows, 0)} rows"
        detail += "" if spacing is None else f", {figure_text(spacing, 0)} s apart"
        facts.append(Fact("Length of the log", span, "h" if seconds > 7200 else "min", detail))
    for name in ("voltage", "temperature"):
        judged = part(document, "errors", name)
        twin, unit = part(judged, "twin"), _COLUMNS[name][3]
        rmse = value(twin, "rmse")
        if rmse is None:
            reason = text(part(document, "errors"), f"{name}_not_judged", "the document does not say why")
            facts.append(Fact(f"{name.capitalize()} error", "not judged", "", reason))
            continue
        detail = f"rms; bias {figure_text(value(twin, 'bias') or 0.0, 2, signed=True)} {unit}"
        worst = value(twin, "worst_minute")
        detail += "" if worst is None else f", worst minute {figure_text(worst, 2)} {unit}"
        facts.append(Fact(f"{name.capitalize()} error", figure_text(rmse, 2), unit, detail))
    soc = part(document, "errors", "soc_points")
    if soc:
        facts.append(
            Fact("SOC error", figure_text(value(soc, "rmse") or 0.0, 2), "points", "rms; SOC is a result here")
        )
    else:
        reason = text(part(document, "errors"), "soc_not_judged", "the document does not say why")
        facts.append(Fact("SOC", "input" if document.get("soc_is_input") is True else "not judged", "", reason))
    soh = value(pack, "soh_percent")
    if soh is not None:
        begin = value(pack, "start_soc_percent")
        detail = "" if begin is None else f"begins at {figure_text(begin, 1)} % charge"
        facts.append(Fact("State of health of the twin", figure_text(soh, 1), "%", detail))
    limited = value(part(document, "limited"), "seconds")
    if limited:
        facts.append(
            Fact("Current limited", figure_text(limited, 0), "s", "the twin could not give the log's current", "warn")
        )
    return tuple(facts)


# Sections -------------------------------------------------------------------------------------------------------------


def _trace_section(document: Document, album: Album, name: str) -> Section:
    title = f"{name.capitalize()}, measured and by the twin"
    measured_key, twin_key, label, unit = _COLUMNS[name]
    series = part(document, "series")
    measured, twin = values(series, measured_key), values(series, twin_key)
    at, x_label = _time(document)
    if not len(measured) == len(twin) == len(at) > 0 or not np.isfinite(twin - measured).any():
        why = text(part(document, "errors"), f"{name}_not_judged", "the document has no series of it")
        return Section(name, title, (f"Not shown: {why}.",))
    beside = []
    for key, told, colour, dashed in _BESIDE[name]:
        more = values(series, key)
        if len(more) == len(at) and np.isfinite(more).any():
            beside.append(Curve(told, at, more, colour, dashed=dashed, width_px=1.5))
    judged = part(document, "errors", name, "twin")
    worst_at = value(judged, "worst_minute_at_s")
    scale, _ = time_axis(_seconds(document))
    marks = [] if worst_at is None else [Limit(worst_at / scale, "worst minute", across="y", colour=PURPLE)]
    gaps = _gaps(document)
    caption = f"Above both, below what is left between them; {_error_words(judged, unit)}."
    if gaps:
        caption += " Shaded stretches are gaps of the log: nothing was measured there, and no line crosses them."
        if name == "temperature":
            caption += " Behind each gap the twin begins anew at the measured temperature."
    traced = Traced(name, name.capitalize(), "twin", at, x_label, measured, twin, label, unit, gaps)
    picture = residual_picture(album, traced, caption, beside=beside, marks=marks)
    return Section(name, title, _thinned_words(series) if name == "voltage" else (), figures=(picture,))


def _soc_section(document: Document, album: Album) -> Section:
    is_input = document.get("soc_is_input") is True
    title = "State of charge (INPUT, not a result)" if is_input else "State of charge"
    series = part(document, "series")
    measured, twin = values(series, "soc_percent"), values(series, "twin_soc_percent")
    at, x_label = _time(document)
    lines = []
    if len(measured) == len(at) and np.isfinite(measured).any():
        named = "INPUT: reported by the car" if is_input else "reported by the car"
        lines.append(Curve(named, at, measured, BLUE, dots=points(at)))
    if len(twin) == len(at) and np.isfinite(twin).any():
        lines.append(Curve("twin", at, twin, ORANGE, dashed=is_input, width_px=2.4))
    if not lines:
        return Section("soc", title, ("Not shown: the document has no series of it.",))
    plot = curves(
        "soc-trace",
        lines,
        x_label=x_label,
        y_label="state of charge in %",
        shaded=_gaps(document),
        shaded_label="gap in the log",
    )
    if is_input:
        caption = (
            "The twin is driven by this curve, so that both lie on each other by construction: no error is stated."
        )
    elif part(document, "errors", "soc_points"):
        caption = (
            f"The twin integrates the log's current; {_error_words(part(document, 'errors', 'soc_points'), 'points')}."
        )
    else:
        reason = text(part(document, "errors"), "soc_not_judged", "the document does not say why")
        caption = f"What the twin makes of the log's current; it is not judged, because {reason}."
    return Section(
        "soc",
        title,
        figures=(album.picture("State of charge: INPUT" if is_input else "State of charge", caption, plot),),
    )


def _current_section(document: Document, album: Album) -> Section:
    title = "Current"
    series = part(document, "series")
    at, x_label = _time(document)
    lines = []
    mean = values(series, "interval_current_a")
    spot = values(series, "current_a")
    if len(mean) == len(at) and np.isfinite(mean).any():
        lines.append(Curve("mean since the row before", at, mean, ORANGE, step=False, width_px=2.4))
    if len(spot) == len(at) and np.isfinite(spot).any():
        lines.insert(0, Curve("spot value of the row", at, spot, BLUE, dots=points(at), width_px=1.2))
    if not lines:
        return Section("current", title, ("Not shown: the document has no series of it.",))
    plot = curves(
        "current-trace",
        lines,
        x_label=x_label,
        y_label="current in A, + charges",
        shaded=_gaps(document),
        shaded_label="gap in the log",
    )
    if document.get("soc_is_input") is True:
        caption = (
            "Rows are too far apart for the spot value to be integrated: the mean comes from reported charge and "
            "capacity, and the spot value counts for the last seconds of a row only."
        )
    else:
        caption = "The log's own current drives the twin."
    return Section("current", title, figures=(album.picture("What drives the twin", caption, plot),))


def _error_section(document: Document, album: Album) -> Section:
    rows: list[tuple[Cell, ...]] = []
    plots: list[figure] = []
    marks = (Mark("rmse", "rms", "circle", ORANGE), Mark("worst", "worst minute", "triangle", PURPLE, filled=False))
    for name in ("voltage", "temperature"):
        judged = part(document, "errors", name)
        unit = _COLUMNS[name][3]
        twin = part(judged, "twin")
        named = [("twin", "twin", twin)]
        if name == "temperature":
            named.append(("open", "twin, begun only once", part(document, "errors", "temperature_open_loop")))
        named += [(key, title, part(judged, key)) for key, title in _BASELINES]
        drawn = []
        for key, title, errors in named:
            rmse = value(errors, "rmse")
            if rmse is None:
                continue
            rows.append((Cell(name), Cell(title), *_error_cells(errors, unit), _verdict(key, twin, errors)))
            worst = value(errors, "worst_minute")
            marked = (("rmse", rmse),) + (() if worst is None else (("worst", abs(worst)),))
            drawn.append(
                Row(
                    title,
                    ((0.0, rmse, ORANGE if key in {"twin", "open"} else GREY, 0.45),),
                    marked,
                    f"{rmse:.2f} {unit}",
                )
            )
        if drawn:
            plots.append(ranges(f"errors-{name}", drawn, marks, x_label=f"{name} error in {unit}", text_room=0.3))
    soc = part(document, "errors", "soc_points")
    if soc:
        rows.append((Cell("state of charge"), Cell("twin"), *_error_cells(soc, "points"), Cell(NOTHING, "muted")))
    title = "Errors against baselines"
    if not rows:
        return Section("errors", title, ("Not available: the document states no error.",))
    head = ("Quantity", "Model", "RMS", "Bias", "Worst minute", "At (h:mm:ss)", "Rows", "Unit", "The twin is")
    words = (
        (
            "A model is worth only what it knows beyond a guess. The open-circuit curve alone has the same state of "
            "charge and no resistance; nothing changes takes the first value for all of the log; the row before was "
            "measured just then, which the twin is never told."
        ),
    )
    figures: tuple[Figure, ...] = ()
    if plots:
        caption = "Short is good: the rms error of the twin above those of the guesses, and the worst minute of each."
        figures = (album.picture("Twin and baselines", caption, *plots, plot_width_px=PAIR_PX),)
    return Section("errors", title, words, (Table("Errors over all judged rows", head, tuple(rows)),), figures=figures)


def _gap_section(document: Document, album: Album) -> Section:
    title = "Gaps in the log"
    gaps = part(document, "gaps")
    listed = parts(gaps, "list")
    if not listed:
        why = "The log has no gap." if value(gaps, "count") == 0.0 else "Not available: the document lists no gaps."
        return Section("gaps", title, (why,))
    rows = tuple(
        (
            Cell(_clock(value(each, "begin_s"))),
            number((value(each, "length_s") or 0.0) / 60, 1),
            number(value(each, "mean_current_a"), 0),
            Cell("yes" if each.get("rapid_charge") is True else "no"),
            number(value(each, "measured_k"), 1),
            number(value(each, "twin_k"), 1),
        )
        for each in listed
    )
    head = (
        "Begins (h:mm:ss)",
        "Length (min)",
        "Mean current (A)",
        "Rapid charge",
        "Measured rise (K)",
        "Rise by the twin (K)",
    )
    count, total = value(gaps, "count") or 0.0, value(gaps, "total_s") or 0.0
    words = (
        f"{count:.0f} gaps, {total / 60:.0f} min in all; {value(gaps, 'rapid_charges') or 0:.0f} with a rapid charge.",
    )
    rises = [
        Rise(f"{_clock(value(each, 'begin_s'))}, {(value(each, 'length_s') or 0.0) / 60:.0f} min", measured, twin)
        for each in listed
        if (measured := value(each, "measured_k")) is not None and (twin := value(each, "twin_k")) is not None
    ]
    figures = rises_picture(album, rises, "twin")
    return Section("gaps", title, words, (Table("Gaps, as the log's times say", head, rows),), figures=figures)


def _validity_section(document: Document) -> Section:
    validity = part(document, "validity")
    title = "How far this holds"
    if not validity:
        return Section("validity", title, ("Not available: the document says nothing about validity.",))
    rows: list[tuple[Cell, ...]] = []
    for key, name, unit in (
        ("log_soc_percent", "State of charge in the log", "%"),
        ("log_temperature_c", "Pack temperature in the log", "°C"),
    ):
        span = values(validity, key)
        shown = f"{figure_text(span[0], 1)} to {figure_text(span[1], 1)} {unit}" if len(span) == 2 else "not in the log"
        rows.append((Cell(name), Cell(shown)))
    for key, name in (
        ("log_new_capacity_ah", "New capacity by the log"),
        ("pack_capacity_ah", "New capacity of the pack file"),
    ):
        found = value(validity, key)
        rows.append((Cell(name), Cell("not in the log" if found is None else f"{figure_text(found, 1)} Ah")))
    for key, name in (("identified", "Identified for this pack"), ("not_identified", "Not identified for this pack")):
        if listed := ", ".join(spoken(one) for one in texts(validity, key)):
            rows.append((Cell(name), Cell(listed)))
    warnings = tuple(f"{capital(one)}." for one in texts(validity, "warnings"))
    table = Table("What the log covered and what the pack file knows", ("What", "Value"), tuple(rows))
    return Section("validity", title, warnings or ("Nothing speaks against it.",), (table,))


def _note_section(document: Document) -> Section:
    log, pack = part(document, "log"), part(document, "pack")
    rows = tuple(
        (Cell(name), Cell(shown, code=code))
        for name, shown, code in (
            ("Log", text(log, "file", NOTHING), False),
            ("SHA-256 of the log", text(log, "sha256", NOTHING), True),
            ("First row (UTC)", text(log, "begin_utc", "the log does not say"), False),
            ("Pack file", f"{text(pack, 'name', NOTHING)}: {text(pack, 'source', 'without a source')}", False),
        )
    )
    return note_section(document, Table("Where it comes from", ("What", "Value"), rows))


# Small helpers --------------------------------------------------------------------------------------------------------


def _seconds(document: Document) -> float:
    at = values(part(document, "series"), "time_s")
    known = at[np.isfinite(at)]
    return float(known[-1] - known[0]) if len(known) else value(part(document, "log"), "duration_s") or 0.0


def _time(document: Document) -> tuple[Floats, str]:
    scale, label = time_axis(_seconds(document))
    return values(part(document, "series"), "time_s") / scale, label


def _gaps(document: Document) -> tuple[tuple[float, float], ...]:
    scale, _ = time_axis(_seconds(document))
    return tuple(
        (begin / scale, (begin + length) / scale)
        for each in parts(part(document, "gaps"), "list")
        if (begin := value(each, "begin_s")) is not None and (length := value(each, "length_s")) is not None
    )


def _error_words(errors: Document, unit: str) -> str:
    rmse = value(errors, "rmse")
    if rmse is None:
        return "no error is stated"
    words = (
        f"{figure_text(rmse, 2)} {unit} rms, bias {figure_text(value(errors, 'bias') or 0.0, 2, signed=True)} {unit}"
    )
    worst, at = value(errors, "worst_minute"), value(errors, "worst_minute_at_s")
    return words + ("" if worst is None else f", worst minute {figure_text(worst, 2)} {unit} at {_clock(at)}")


def _error_cells(errors: Document, unit: str) -> tuple[Cell, ...]:
    bias = value(errors, "bias")
    return (
        number(value(errors, "rmse"), 3),
        number(None, 0) if bias is None else Cell(figure_text(bias, 3, signed=True), number=True),
        number(value(errors, "worst_minute"), 2),
        Cell(_clock(value(errors, "worst_minute_at_s"))),
        number(value(errors, "rows"), 0),
        Cell(unit),
    )


def _verdict(key: str, twin: Document, errors: Document) -> Cell:
    """The twin against a baseline, in words; losing to the row before, which was measured, is no defect."""
    if key in {"twin", "open"}:
        return Cell(NOTHING, "muted")
    return ratio_verdict(value(twin, "rmse"), value(errors, "rmse"), told_before=key == "row_before")


def _thinned_words(series: Document) -> tuple[str, ...]:
    nth = value(series, "every_nth_row") or 1.0
    return (f"Pictures show one row of {nth:.0f}; errors are over all rows.",) if nth > 1.0 else ()


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
