"""The report of `v2gbench fit`: what was believed, what the logs say, and which of it they do not say.

All parameters stand in one picture, in units of what was believed: a posterior as wide as its prior taught nothing, and
is marked NOT IDENTIFIED. Beside them the resistance over charge and temperature, and what is left between measured and
modelled over each log.

The page is made from the JSON document alone (schema `v2gbench.fit/1`). Two parts are optional in it: `series` (a list,
one per log, with `name`, `time_s`, `voltage_v`, `modelled_voltage_v`, `temperature_c`, `modelled_temperature_c`, `soc`,
`gaps`, `rapid_charges`) and `resistance` (`soc_percent` (n), `temperature_c` (m), `ohm` and `prior_ohm` (m, n)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from reports.pack.documents import Document, Floats, grid, pairs, part, parts, require, text, value, values
from reports.pack.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    YELLOW,
    Album,
    Band,
    Curve,
    Limit,
    Mark,
    Row,
    curves,
    ranges,
    time_axis,
)
from reports.pack.traces import PAIR_PX, Rise, Traced, note_section, ratio_verdict, residual_picture, rises_picture
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

FIT_SCHEMA: Final = "v2gbench.fit/1.0"


def write_fit_report(document: Document, folder: Path) -> Path:
    """Write `report.html` into `folder` and return its path.

    Raises RenderError for a document of another schema, and when the file cannot be written.
    """
    return write_page(render_fit_report(document, origin=folder.name), folder / "report.html")


def render_fit_report(document: Document, *, origin: str = "") -> str:
    """The page as text; raises RenderError for a document of another schema."""
    require(document, FIT_SCHEMA)
    album = Album()
    names = [text(log, "log") for log in parts(document, "logs")]
    known, unknown = _known(document), _unknown(document)
    page = Page(
        kicker="pack fit report",
        title=f"{text(document, 'pack', 'a pack')} fitted to {', '.join(names) or 'no log'}",
        headline=f"{len(known)} of {len(known) + len(unknown)} parameters are identified",
        tone="plain",
        reason=_reason(unknown),
        badges=_badges(document),
        origin=origin,
        facts=_facts(document, known, unknown),
        sections=(
            _parameter_section(document, album),
            _resistance_section(document, album),
            *_log_sections(document, album),
            _error_section(document, album),
            _capacity_section(document),
            _aging_section(document, album),
            note_section(document),
        ),
        footer=_FOOTER,
    )
    return render_page(page, embedded(album.plots))


_FOOTER: Final = (
    (
        "Fitted.",
        (
            "Parameters hold for this car at this age, in the weather and use of these logs. What is not identified "
            "keeps the value that was believed before: it is no result."
        ),
    ),
    ("", "Sign: positive current charges the vehicle. Intervals are 90 %. This page loads nothing from any network."),
)
_Z90: Final = 1.645
_GAS: Final = 8.314  # J/(mol K)
_ROOM_K: Final = 298.15
_CLIP: Final = 4.0  # prior standard deviations that the picture reaches
_UNITS: Final = {"ohm": "Ω", "A^2": "A²", "1": ""}
_SUMMED: Final = ("resistance.series_ohm", "resistance.fast_ohm", "resistance.slow_ohm")


# The top of the page --------------------------------------------------------------------------------------------------


def _parameters(document: Document) -> dict[str, Document]:
    found = part(document, "parameters")
    return {name: each for name in found if (each := part(found, name))}


def _known(document: Document) -> list[Document]:
    return [each for each in _parameters(document).values() if each.get("identified") is True]


def _unknown(document: Document) -> list[Document]:
    return [each for each in _parameters(document).values() if each.get("identified") is not True]


def _reason(unknown: list[Document]) -> str:
    if not unknown:
        return "The logs say all of them more narrowly than half of what was believed before."
    listed = ", ".join(_title(each) for each in unknown)
    return f"Not identified by these logs, and kept as they were: {listed}."


def _badges(document: Document) -> tuple[tuple[str, Tone], ...]:
    count = len(parts(document, "logs"))
    badges: list[tuple[str, Tone]] = [(f"{count} log{'s' if count != 1 else ''}", "")]
    out = text(document, "out")
    badges.append((f"written to {Path(out).name}", "good") if out else ("no pack file written", ""))
    badges.append(("aging fitted", "") if part(document, "aging") else ("aging not fitted", ""))
    return tuple(badges)


def _facts(document: Document, known: list[Document], unknown: list[Document]) -> tuple[Fact, ...]:
    rows, effective = value(document, "rows"), value(document, "effective_rows")
    facts = []
    if rows is not None:
        detail = "" if effective is None else f"worth {figure_text(effective, 0)} independent ones"
        facts.append(Fact("Rows", figure_text(rows, 0), "", detail))
    facts.append(
        Fact(
            "Identified",
            f"{len(known)} of {len(known) + len(unknown)}",
            "",
            "posterior below half of the prior's width",
        )
    )
    parameters = _parameters(document)
    summed = [value(parameters.get(name, {}), "mean") for name in _SUMMED]
    known_ohms = [each for each in summed if each is not None]
    if len(known_ohms) == len(_SUMMED):
        total = sum(known_ohms)
        facts.append(Fact("Resistance at 50 %, 25 °C", figure_text(1000 * total, 0), "mΩ", "series, fast and slow"))
    soh = value(document, "reported_soh_percent")
    told = Fact("State of health", "not in the logs")
    facts.append(told if soh is None else Fact("State of health", figure_text(soh, 1), "%", "as the car reports it"))
    errors = [found for log in parts(document, "logs") if (found := value(log, "voltage_rmse_percent")) is not None]
    if errors:
        detail = "rms, the worst of the logs" if len(errors) > 1 else "rms over the log"
        facts.append(Fact("Voltage error", figure_text(max(errors), 2), "%", detail))
    warmth = [found for log in parts(document, "logs") if (found := value(log, "temperature_rmse_k")) is not None]
    if warmth:
        facts.append(Fact("Temperature error", figure_text(max(warmth), 2), "K", "rms, begun anew behind gaps"))
    return tuple(facts)


# Sections -------------------------------------------------------------------------------------------------------------


def _parameter_section(document: Document, album: Album) -> Section:
    title = "What the logs say, parameter by parameter"
    parameters = _parameters(document)
    if not parameters:
        return Section("parameters", title, ("Not available: the document has no parameters.",))
    rows = []
    for name, each in parameters.items():
        identified = each.get("identified") is True
        verdict = Cell("identified", "good") if identified else Cell(_why_not(each), "warn")
        rows.append(
            (
                Cell(_title(each, name)),
                Cell(_unit(each)),
                Cell(_with_sd(each, "prior", "prior_sd"), number=True),
                Cell(_with_sd(each, "mean", "sd") if not text(each, "note") else NOTHING, number=True),
                number(None if (learned := _learned(each)) is None else 100.0 * learned.width, 0),
                verdict,
                Cell(_short(value(each, "written")), number=True),
            )
        )
    head = ("Parameter", "Unit", "Believed before (± sd)", "By the logs (± sd)", "Width left (%)", "Verdict",
            "In the pack file")  # fmt: skip
    words = (
        (
            "A parameter counts as identified when its posterior is at most half as wide as what was believed before. "
            "One that is not keeps the value it had, and the others are found once more beside it; so a figure in "
            "the pack file can differ a little from the posterior's."
        ),
    )
    table = Table("Prior and posterior; sd is one standard deviation", head, tuple(rows))
    return Section("parameters", title, words, (table,), figures=(_parameter_picture(parameters, album),))


def _parameter_picture(parameters: dict[str, Document], album: Album) -> Figure:
    marks = (
        Mark("known", "by the logs, identified", "circle", ORANGE),
        Mark("unknown", "not identified", "x", PURPLE),
    )
    rows = []
    for name, each in parameters.items():
        identified, learned = each.get("identified") is True, _learned(each)
        bars = [(-_Z90, _Z90, GREY, 0.28)]
        marked: list[tuple[str, float]] = []
        if learned is not None:
            reach, colour = _Z90 * learned.width, ORANGE if identified else PURPLE
            bars.append(
                (_clip(learned.moved - reach), _clip(learned.moved + reach), colour, 0.75 if identified else 0.3)
            )
            marked.append(("known" if identified else "unknown", _clip(learned.moved)))
        shown = _with_sd(each, "mean", "sd") + f" {_unit(each)}" if identified else "NOT IDENTIFIED"
        rows.append(Row(_title(each, name), tuple(bars), tuple(marked), shown.strip()))
    plot = ranges(
        "parameters",
        rows,
        marks,
        x_label="distance from what was believed, in standard deviations of the prior",
        x_range=(-_CLIP, _CLIP),
        text_room=0.34,
    )
    caption = (
        "Grey is what was believed before, with 90 % of its probability, always as wide; orange is what the logs say. "
        "A narrow orange bar is knowledge, a purple one nearly as wide as the grey is none. Numbers at the right are "
        "posterior mean and standard deviation."
    )
    return album.picture("Belief before and after", caption, plot)


def _resistance_section(document: Document, album: Album) -> Section:
    title = "Resistance over charge and temperature"
    plots = []
    words: list[str] = []
    found = part(document, "resistance")
    soc, temperatures = values(found, "soc_percent"), values(found, "temperature_c")
    fitted, before = grid(found, "ohm"), grid(found, "prior_ohm")
    if fitted.shape == (len(temperatures), len(soc)) and fitted.size:
        colours = (BLUE, GREEN, ORANGE, PURPLE, YELLOW, GREY)
        lines = []
        for place, celsius in enumerate(temperatures):
            colour = colours[place % len(colours)]
            lines.append(Curve(f"{celsius:.0f} °C", soc, 1000 * fitted[place], colour, width_px=2.4))
            if before.shape == fitted.shape:
                lines.append(Curve("", soc, 1000 * before[place], colour, dashed=True, width_px=1.3))
        plots.append(curves("resistance-soc", lines, x_label="charge in %", y_label="resistance in mΩ", height_px=340))
    else:
        words.append("Resistance over charge is not shown: the document has no part 'resistance'.")
    warm, bands = _resistance_over_temperature(_parameters(document))
    if warm:
        plots.append(
            curves(
                "resistance-temperature",
                warm,
                x_label="cells in °C, at 50 % charge",
                y_label="resistance in mΩ",
                height_px=340,
                bands=bands,
                limits=(Limit(25.0, "25 °C", across="y", colour=GREY),),
            )
        )
    else:
        words.append(
            "Resistance over temperature is not shown: the document lacks the resistances or their activation."
        )
    if not plots:
        return Section("resistance", title, tuple(words))
    caption = "Sum of the series, fast and slow resistance of the whole pack; before the fit dashed."
    if warm:
        caption += (
            " Over temperature with the 90 % band of its posterior (shaded), taking its parts as independent, which "
            "they are not quite."
        )
    picture = album.picture("Resistance of the pack", caption, *plots, plot_width_px=PAIR_PX)
    return Section("resistance", title, tuple(words), figures=(picture,))


def _resistance_over_temperature(parameters: dict[str, Document]) -> tuple[list[Curve], list[Band]]:
    """R(T) = R25 exp(Ea / R (1/T - 1/298.15 K)) at half charge: believed, by the logs, and its band."""
    celsius = np.linspace(-10.0, 45.0, 56)
    inverse = 1.0 / (celsius + 273.15) - 1.0 / _ROOM_K
    resistances = [parameters.get(name, {}) for name in _SUMMED]
    activation = parameters.get("resistance.activation_j_per_mol", {})

    def told(key: str) -> tuple[float, float] | None:
        ohms, energy = [value(each, key) for each in resistances], value(activation, key)
        if energy is None or any(each is None for each in ohms):
            return None
        return sum(each for each in ohms if each is not None), energy

    before, mean = told("prior"), told("mean")
    spread = told("sd")
    lines: list[Curve] = []
    bands: list[Band] = []
    if before is not None:
        lines.append(Curve("before", celsius, 1000 * before[0] * np.exp(before[1] / _GAS * inverse), BLUE, dashed=True))
    if mean is None:
        return lines, bands
    now = 1000 * mean[0] * np.exp(mean[1] / _GAS * inverse)
    if spread is not None:
        variance = sum((value(each, "sd") or 0.0) ** 2 for each in resistances) / mean[0] ** 2
        relative = np.sqrt(variance + (spread[1] / _GAS * inverse) ** 2)
        bands.append(Band("90 %", celsius, now * np.exp(-_Z90 * relative), now * np.exp(_Z90 * relative), ORANGE))
    lines.append(Curve("by the logs", celsius, now, ORANGE, width_px=2.6))
    return lines, bands


def _log_sections(document: Document, album: Album) -> tuple[Section, ...]:
    series = parts(document, "series")
    if not series:
        why = "Not shown: the document has no series (made without them)."
        return (Section("logs", "Measured and modelled", (why,)),)
    return tuple(_log_section(each, place, document, album) for place, each in enumerate(series))


def _log_section(series: Document, place: int, document: Document, album: Album) -> Section:
    name = text(series, "name", f"log {place + 1}")
    errors = next((log for log in parts(document, "logs") if text(log, "log") == name), {})
    at_s = values(series, "time_s")
    known = at_s[np.isfinite(at_s)]
    scale, x_label = time_axis(float(known[-1] - known[0]) if len(known) else 0.0)
    at = at_s / scale
    gaps = tuple((low / scale, high / scale) for low, high in pairs(series, "gaps"))
    figures: list[Figure] = []
    words: list[str] = []
    for quantity, label, unit, told in (
        ("voltage_v", "pack voltage in V", "V", _voltage_words(errors)),
        ("temperature_c", "pack temperature in °C", "K", _temperature_words(errors)),
    ):
        measured, modelled = values(series, quantity), values(series, f"modelled_{quantity}")
        title = capital(quantity.partition("_")[0])
        if not len(measured) == len(modelled) == len(at) > 0 or not np.isfinite(modelled - measured).any():
            words.append(f"{title} is not shown: the log has none, or the document has no series of it.")
            continue
        x, seen, made = _broken_at(gaps, at, measured, modelled)
        traced = Traced(f"{place}-{quantity}", title, "model", x, x_label, seen, made, label, unit, gaps)
        caption = f"Above both, below what the fit leaves; {told}."
        caption += " Shaded stretches are gaps of the log." if gaps else ""
        figures.append(residual_picture(album, traced, caption))
    return Section(f"log-{place}", f"Measured and modelled: {name}", tuple(words), figures=tuple(figures))


def _error_section(document: Document, album: Album) -> Section:
    title = "Errors over the logs"
    logs = parts(document, "logs")
    if not logs:
        return Section("errors", title, ("Not available: the document judges no log.",))
    rows = []
    for log in logs:
        rmse, alone = value(log, "voltage_rmse_v"), value(log, "ocv_only_rmse_v")
        ahead, stays = value(log, "hour_ahead_rmse_k"), value(log, "hour_persistence_rmse_k")
        rows.append(
            (
                Cell(text(log, "log")),
                number(value(log, "rows"), 0),
                number(rmse, 2),
                number(value(log, "voltage_rmse_percent"), 2),
                number(alone, 2),
                ratio_verdict(rmse, alone),
                number(value(log, "temperature_rmse_k"), 2),
                number(value(log, "temperature_open_loop_k"), 2),
                number(ahead, 2),
                number(stays, 2),
                ratio_verdict(ahead, stays),
            )
        )
    head = ("Log", "Rows", "Voltage (V)", "Voltage (%)", "Curve alone (V)", "Verdict", "Temperature (K)",
            "Open loop (K)", "An hour ahead (K)", "Nothing changes (K)", "Verdict")  # fmt: skip
    words = (
        (
            "Root mean square errors over the logs that were fitted; a log that was not fitted is judged by "
            "v2gbench replay --twin. Temperatures begin anew behind gaps; open loop begins once. The guesses beside "
            "them: the open-circuit curve without any resistance, and that nothing changes within an hour."
        ),
    )
    rises = [
        Rise(f"{Path(text(log, 'log')).stem[:28]}, {(value(gap, 'length_s') or 0.0) / 60:.0f} min", measured, made)
        for log in logs
        for gap in parts(log, "gaps")
        if (measured := value(gap, "measured_k")) is not None and (made := value(gap, "predicted_k")) is not None
    ]
    figures = rises_picture(album, rises, "model")
    table = Table("Errors of the fitted pack, and of guesses", head, tuple(rows))
    return Section("errors", title, words, (table,), figures=figures)


def _capacity_section(document: Document) -> Section:
    title = "Capacity from the shape of a charge"
    found = parts(document, "charge_curves")
    if not found:
        return Section("charge-curves", title, ("No charge in the logs is long and steady enough to tell it.",))
    rows = tuple(
        (
            Cell(text(each, "log")),
            number(value(each, "current_a"), 0),
            number(((value(each, "end_s") or 0.0) - (value(each, "begin_s") or 0.0)) / 60, 0),
            Cell(_with_sd(each, "capacity_ah", "capacity_sd_ah"), number=True),
            Cell(_with_sd(each, "soh_percent", "soh_sd_percent"), number=True),
            Cell("identified", "good") if each.get("identified") is True else Cell("NOT IDENTIFIED", "warn"),
        )
        for each in found
    )
    head = ("Log", "Current (A)", "Length (min)", "Capacity (Ah, ± sd)", "State of health (%, ± sd)", "Verdict")
    words = ("The bends of voltage over charge move with the capacity: a second opinion, beside the fit.",)
    return Section("charge-curves", title, words, (Table("Charges with a shape", head, rows),))


def _aging_section(document: Document, album: Album) -> Section:
    title = "Scales of the aging law"
    aging = part(document, "aging")
    if not aging:
        words = (
            "Not fitted: it needs the day of first use (--in-service YYYY-MM-DD) and a state of health in the logs.",
        )
        return Section("aging", title, words)
    scales = part(aging, "scales")
    rows, drawn = [], []
    for name in scales:
        each = part(scales, name)
        identified = each.get("identified") is True
        mean, sd = value(each, "mean"), value(each, "sd")
        rows.append(
            (
                Cell(spoken(name)),
                Cell(_with_sd(each, "mean", "sd"), number=True),
                Cell("identified", "good") if identified else Cell("NOT IDENTIFIED, kept", "warn"),
                number(value(each, "written"), 3),
            )
        )
        if mean is not None and sd is not None:
            bar = (mean - _Z90 * sd, mean + _Z90 * sd, ORANGE if identified else PURPLE, 0.5)
            shown = f"{_short(mean)} ± {_short(sd)}" if identified else "NOT IDENTIFIED"
            drawn.append(Row(spoken(name), (bar,), (("known" if identified else "unknown", mean),), shown))
    marks = (Mark("known", "identified", "circle", ORANGE), Mark("unknown", "not identified", "x", PURPLE))
    figures: tuple[Figure, ...] = ()
    if drawn:
        limits = (Limit(1.0, "the law as published", across="y", colour=GREY),)
        plot = ranges("aging", drawn, marks, x_label="scale (1: the law as published)", limits=limits, text_room=0.3)
        caption = "A scale above one: this car ages faster than the law says. Bars hold 90 %."
        figures = (album.picture(f"Scales of the law {text(aging, 'law')}", caption, plot),)
    table = Table(
        f"Law {text(aging, 'law', NOTHING)}", ("Scale", "Mean ± sd", "Verdict", "In the pack file"), tuple(rows)
    )
    return Section("aging", title, (), (table,), figures=figures)


# Small helpers --------------------------------------------------------------------------------------------------------


def _title(each: Document, name: str = "a parameter without a name") -> str:
    return text(each, "title", name).replace("degC", "°C")


def _unit(each: Document) -> str:
    unit = text(each, "unit")
    return _UNITS.get(unit, unit)


def _why_not(each: Document) -> str:
    note = text(each, "note")
    return f"NOT IDENTIFIED: {note}" if note else "NOT IDENTIFIED, kept"


@dataclass(frozen=True, slots=True)
class _Learned:
    """A posterior in units of its prior: how far it moved, and how wide it still is, in prior standard deviations."""

    moved: float
    width: float


def _learned(each: Document) -> _Learned | None:
    """None where the logs could not speak of it; a `prior_kind` of "log" is a factor on the pack's value."""
    prior, prior_sd, mean, sd = (value(each, key) for key in ("prior", "prior_sd", "mean", "sd"))
    if prior is None or not prior_sd or mean is None or sd is None or text(each, "note"):
        return None
    if text(each, "prior_kind") == "log" and prior > 0.0 and mean > 0.0:
        prior_sd, sd = prior_sd / prior, sd / mean
        return _Learned(math.log(mean / prior) / prior_sd, sd / prior_sd)
    return _Learned((mean - prior) / prior_sd, sd / prior_sd)


def _with_sd(each: Document, mean_key: str, sd_key: str) -> str:
    mean, sd = value(each, mean_key), value(each, sd_key)
    return _short(mean) if sd is None else f"{_short(mean)} ± {_short(sd)}"


def _short(found: float | None) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if found is None:
        return NOTHING
    if found == 0.0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(found)))
    return figure_text(round(found, digits), min(max(digits, 0), 6))


def _clip(at: float) -> float:
    return max(-_CLIP, min(_CLIP, at))


def _voltage_words(errors: Document) -> str:
    rmse, bias, worst = (value(errors, key) for key in ("voltage_rmse_v", "voltage_bias_v", "voltage_worst_minute_v"))
    if rmse is None:
        return "no error is stated"
    words = f"{figure_text(rmse, 2)} V rms"
    words += "" if bias is None else f", bias {figure_text(bias, 2, signed=True)} V"
    return words + ("" if worst is None else f", worst minute {figure_text(worst, 2)} V")


def _temperature_words(errors: Document) -> str:
    rmse, open_loop = value(errors, "temperature_rmse_k"), value(errors, "temperature_open_loop_k")
    if rmse is None:
        return "no error is stated"
    words = f"{figure_text(rmse, 2)} K rms, begun anew behind gaps"
    return words + ("" if open_loop is None else f"; begun only once {figure_text(open_loop, 2)} K")


def _broken_at(gaps: tuple[tuple[float, float], ...], at: Floats, *series: Floats) -> tuple[Floats, ...]:
    """The time axis and the series with a missing value within each gap, so that no line crosses it."""
    places = [int(np.searchsorted(at, end)) for _, end in gaps]
    breaks = [place for place in places if 0 < place < len(at)]
    return tuple(np.insert(each, breaks, math.nan) for each in (at, *series))
