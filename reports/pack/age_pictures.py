"""The pictures of an aging study: with V2G in orange, without in blue and dashed, whatever is shown."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from bokeh.models import FixedTicker
from bokeh.plotting import figure

from reports.pack.age_study import Study, use_name
from reports.pack.documents import Document, Floats, part, parts, text, value, values
from reports.pack.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    USE_COLOURS,
    WITH,
    WITHOUT,
    Album,
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
)
from reports.page import Figure, capital, figure_text

_PAIR_PX: Final = 430
_SMALL_PX: Final = 240
_WIDE_PX: Final = 700
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LIVES: Final = (("with_v2g", "with V2G", WITH, False), ("without_v2g", "without V2G", WITHOUT, True))


def wear_picture(study: Study, album: Album) -> Figure:
    """V2G wear by law, with all ways to ask for it."""
    marks = (
        Mark("shapley_points", "Shapley share", "circle", ORANGE),
        Mark("last_in_points", "last in", "triangle", PURPLE, filled=False),
        Mark("first_in_points", "first in", "square", BLUE, filled=False),
        Mark("live_points", "live account", "x", GREY),
    )
    rows = []
    for law, wear in sorted(study.wear.items(), key=lambda each: value(each[1], "shapley_points") or 0.0):
        found = [(mark.key, at) for mark in marks if (at := value(wear, mark.key)) is not None]
        shapley = value(wear, "shapley_points")
        least, most = min(at for _, at in found), max(at for _, at in found)
        shown = "" if shapley is None else figure_text(shapley, 2, signed=True)
        rows.append(Row(study.label(law), ((least, most, ORANGE, 0.28),), tuple(found), shown))
    same = study.spread_same
    caption = (
        f"How many points of capacity V2G takes in {study.duration} depends on the law more than on anything else: "
        f"from {figure_text(study.spread[0], 2)} to {figure_text(study.spread[1], 2)} (circles, numbers at the right). "
        "Each bar spans the four ways to ask for it."
    )
    if same is not None:
        caption += f" Shaded: range of the laws for the pack's own chemistry, {study.chemistry}."
    plot = ranges("wear", rows, marks, x_label="capacity that V2G wears off, in points (% of new)", band=same)
    return album.picture("V2G wear by law", caption, plot)


def capacity_pictures(study: Study, album: Album) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """Capacity and resistance of the pack, and capacity by every law; with what could not be drawn, in words."""
    figures: list[Figure] = []
    missing: list[str] = []
    line = value(part(study.document, "warranty"), "line_percent")
    limits = () if line is None else (Limit(line, f"warranty line, {line:g} %"),)
    lives = _LIVES if study.has_v2g else (("with_v2g", "this pack", WITH, False),)
    capacity = [
        Curve(name, *study.months(life), colour, dashed, width_px=2.6)
        for life, name, colour, dashed in lives
        if len(study.months(life)[0])
    ]
    resistance = [
        Curve(name, *study.resistance(life), colour, dashed, dots=len(study.resistance(life)[0]) < 40, width_px=2.6)
        for life, name, colour, dashed in lives
        if len(study.resistance(life)[0])
    ]
    plots = []
    if capacity:
        plots.append(
            curves(
                "capacity",
                capacity,
                x_label="years",
                y_label="capacity in % of new",
                limits=limits,
                y_range=_capacity_range(capacity, line),
            )
        )
    else:
        missing.append("Capacity month by month is not shown: the document has no months.")
    if resistance:
        plots.append(curves("resistance", resistance, x_label="years", y_label="resistance in % of new"))
    else:
        missing.append("Resistance is not shown: the document has none.")
    if plots:
        caption = f"Capacity falls and resistance grows by {study.laws[0]}, the law that ages the pack"
        figures.append(
            album.picture(
                "Capacity and resistance of the pack",
                caption + (f"; {_crossing(study, study.laws[0])}." if line is not None else "."),
                *plots,
                plot_width_px=_PAIR_PX,
            )
        )
    every = _every_law(study, album, limits, lives)
    if every is not None:
        figures.append(every)
    return tuple(figures), tuple(missing)


def _every_law(
    study: Study, album: Album, limits: tuple[Limit, ...], lives: tuple[tuple[str, str, str, bool], ...]
) -> Figure | None:
    drawn = {
        law: [
            Curve(name, *study.capacity_by_law(life, law), colour, dashed, dots=True)
            for life, name, colour, dashed in lives
        ]
        for law in study.laws
    }
    drawn = {law: lines for law, lines in drawn.items() if any(len(line.x) > 1 for line in lines)}
    if len(drawn) < 2:
        return None
    line = limits[0].at if limits else None
    shared = _capacity_range([each for lines in drawn.values() for each in lines], line)
    plots: list[figure] = []
    for law, lines in drawn.items():
        plot = curves(
            f"law-{law}",
            lines,
            x_label="years",
            y_label="capacity in %",
            height_px=230,
            limits=limits,
            y_range=shared,
            legend=False,
            title=study.label(law),
        )
        plot.min_border_left = 50
        plots.append(plot)
    caption = "The same years under every law, all to one scale"
    caption += ": with V2G in solid orange, without in dashed blue" if study.has_v2g else ""
    caption += ", warranty line dotted red." if limits else "."
    return album.picture("Capacity by every law", caption, *plots, plot_width_px=_SMALL_PX)


def warranty_picture(study: Study, album: Album) -> Figure:
    """When each law meets the warranty line, with and without V2G."""
    outlooks, without = study.outlooks("with_v2g"), study.outlooks("without_v2g")
    first = next(iter(outlooks.values()))
    ends = value(first, "ends_years")
    known = [
        at for each in (*outlooks.values(), *without.values()) if (at := value(each, "crossing_years")) is not None
    ]
    most = max([*known, ends or 0.0, study.years]) * 1.06
    marks = (
        Mark("with", "line met, with V2G" if study.has_v2g else "line met", "circle", WITH),
        Mark("without", "line met, without V2G", "diamond", WITHOUT, filled=False),
    )
    rows = []
    for law, outlook in outlooks.items():
        crossing = value(outlook, "crossing_years")
        other = value(without.get(law, {}), "crossing_years") if study.has_v2g else None
        points = (() if crossing is None else (("with", crossing),)) + (() if other is None else (("without", other),))
        bar: tuple[tuple[float, float, str, float], ...] = ()
        if crossing is not None and study.has_v2g:
            bar = ((min(crossing, other or most), max(crossing, other or most), GREY, 0.35),)
        told = _years(crossing) + (f" / {_years(other)}" if study.has_v2g else "")
        rows.append(Row(study.label(law), bar, points, told))
    limits = [] if ends is None else [Limit(ends, f"warranty ends, {ends:.1f} years", across="y")]
    if study.years:
        limits.append(Limit(study.years, f"simulated until {study.years:g}", across="y", colour=GREY))
    plot = ranges(
        "warranty",
        rows,
        marks,
        x_label="years from the first day",
        limits=limits,
        x_range=(0.0, most),
        text_room=0.24,
    )
    early = [law for law, each in outlooks.items() if each.get("kept") is False]
    told = f"{', '.join(early)} would break the warranty" if early else "no law breaks the warranty"
    caption = (
        f"Marks left of the red line meet the warranty line before the warranty ends: {told}. Numbers at the right are "
        f"years{', with / without V2G' if study.has_v2g else ''}; right of the grey line each law is carried on, not "
        "simulated."
    )
    return album.picture("Years until the warranty line is met", caption, plot)


def attribution_pictures(study: Study, album: Album) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """The loss of every law by cause, both ways, and the pack's own law use by use."""
    figures: list[Figure] = []
    missing: list[str] = []
    live = {law: part(study.document, "attribution", "live_points", law) for law in study.laws}
    live = {law: causes for law, causes in live.items() if causes}
    counted = {text(each, "law"): each for each in study.counterfactuals}
    plots = []
    parked_first = ("parked", "time")
    drawn: list[tuple[str, list[str], list[Part], list[float]]] = []
    if counted:
        laws = [law for law in study.laws if law in counted]
        stacked = [Part("parked", GREY, tuple(value(counted[law], "parked_points") or 0.0 for law in laws))]
        stacked += [
            Part(use_name(use), _colour(use), tuple(_share(counted[law], use) for law in laws)) for use in study.uses
        ]
        totals = [value(counted[law], "total_points") or 0.0 for law in laws]
        drawn.append(("counterfactual", laws, stacked, totals))
    else:
        missing.append("The counterfactual account is not in the document.")
    if live:
        laws = list(live)
        causes = dict.fromkeys(cause for law in laws for cause in live[law])
        ordered = sorted(causes, key=lambda cause: cause not in parked_first[::-1])
        stacked = [
            Part(use_name(cause), _colour(cause), tuple(value(live[law], cause) or 0.0 for law in laws))
            for cause in ordered
            if cause == "time" or any(abs(value(live[law], cause) or 0.0) >= 0.005 for law in laws)
        ]
        totals = [math.fsum(value(live[law], cause) or 0.0 for cause in causes) for law in laws]
        drawn.append(("live", laws, stacked, totals))
    else:
        missing.append("The live account is not in the document.")
    if drawn:
        spans = [stacked_span(stacked, totals) for _, _, stacked, totals in drawn]
        shared = (min(low for low, _ in spans), max(high for _, high in spans))
        for name, laws, stacked, totals in drawn:
            plots.append(
                stacked_bars(
                    f"attribution-{name}",
                    laws,
                    stacked,
                    x_label=f"{name} loss in points",
                    totals=totals,
                    x_range=shared,
                )
            )
        caption = (
            f"Left the counterfactual account, right the live one, to one scale: what the {study.duration} took, by "
            "cause. Parts left of zero are savings; the diamond is the sum."
        )
        figures.append(album.picture("Loss by cause, under every law", caption, *plots, plot_width_px=_PAIR_PX))
    own = counted.get(study.laws[0], {})
    if parts(own, "shares"):
        figures.append(_own_picture(study, album, own))
    return tuple(figures), tuple(missing)


def _own_picture(study: Study, album: Album, own: Document) -> Figure:
    law = study.laws[0]
    shares = parts(own, "shares")
    groups = [
        Part(label, colour, tuple(_or_nan(value(share, key)) for share in shares))
        for label, colour, key in (
            ("Shapley share", ORANGE, "shapley_points"),
            ("last in", PURPLE, "last_in_points"),
            ("first in", BLUE, "first_in_points"),
        )
    ]
    groups.append(Part("live account", GREY, tuple(_or_nan(study.live(law, text(share, "use"))) for share in shares)))
    plot = grouped_bars(
        "own", [use_name(text(share, "use")) for share in shares], groups, x_label="loss in points", signed=True
    )
    caption = (
        f"Four answers to what each use cost, by {law}: where they differ, uses meet in the same pack and no single "
        "answer is the truth. Bars left of zero are savings."
    )
    return album.picture(f"Each use, four ways to ask ({law})", caption, plot)


def cycles_picture(study: Study, album: Album) -> Figure | None:
    """Full cycles a year by use."""
    whole, without = study.cycles_per_year("with_v2g"), study.cycles_per_year("without_v2g")
    uses = [use for use in whole if max(whole[use], without.get(use, 0.0)) >= 0.05]
    if not uses:
        return None
    groups = [Part("with V2G" if study.has_v2g else "this life", WITH, tuple(whole[use] for use in uses))]
    if study.has_v2g:
        groups.append(Part("without V2G", WITHOUT, tuple(without.get(use, 0.0) for use in uses)))
    plot = grouped_bars("cycles", [use_name(use) for use in uses], groups, x_label="full cycles a year", decimals=1)
    most = max(uses, key=lambda use: whole[use])
    caption = f"{capital(use_name(most))} takes the most out of the pack: {whole[most]:.0f} full cycles a year."
    return album.picture("Full cycles a year by use", caption, plot)


def cost_picture(study: Study, album: Album) -> Figure | None:
    """Cost of V2G wear per kWh and per hour, by law."""
    marks = (
        Mark("shapley", "Shapley share", "circle", ORANGE),
        Mark("last_in", "last in", "triangle", PURPLE, filled=False),
    )
    plots = []
    costs: list[float] = []
    for key, name, keys in (
        ("per-kwh", "kWh delivered", ("cost_per_kwh_micro", "cost_last_in_per_kwh_micro")),
        ("per-hour", "hour available", ("cost_per_available_hour_micro", "cost_last_in_per_available_hour_micro")),
    ):
        rows = []
        for law, wear in sorted(study.wear.items(), key=lambda each: value(each[1], "cost_micro") or 0.0):
            found = [
                (mark.key, at / 1e4)
                for mark, one in zip(marks, keys, strict=True)
                if (at := value(wear, one)) is not None
            ]
            if not found:
                continue
            if key == "per-kwh":
                costs.append(found[0][1])
            bar = ((min(0.0, *(at for _, at in found)), max(0.0, *(at for _, at in found)), ORANGE, 0.28),)
            rows.append(Row(law, bar, tuple(found), figure_text(found[0][1], 2)))
        if rows:
            plots.append(ranges(f"cost-{key}", rows, marks, x_label=f"{study.cents} per {name}"))
    if not plots:
        return None
    caption = (
        f"What the battery loses for each kWh that V2G delivers, and for each hour in which it stands ready: "
        f"{figure_text(min(costs), 1)} to {figure_text(max(costs), 1)} {study.cents} per kWh, by law."
        if costs
        else "What the battery loses for each hour in which it stands ready, by law."
    )
    return album.picture("Cost of V2G wear", caption, *plots, plot_width_px=_PAIR_PX)


def week_pictures(study: Study, album: Album) -> tuple[Figure, ...]:
    """The sample weeks: state of charge, power and temperature."""
    figures = []
    without = study.weeks("without_v2g") if study.has_v2g else {}
    for name, week in study.weeks("with_v2g").items():
        lives = [("with V2G" if study.has_v2g else "this pack", week, WITH, False)]
        if name in without:
            lives.insert(0, ("without V2G", without[name], WITHOUT, True))
        plots: list[figure] = []
        for key, label, scale in (
            ("soc", "charge in %", 100.0),
            ("power_w", "power in kW, + charges", 1e-3),
            ("temperature_c", "cells in °C", 1.0),
        ):
            lines = [
                Curve(told, _days_of(one, key), scale * values(one, key), colour, dashed, width_px=1.6)
                for told, one, colour, dashed in lives
                if len(values(one, key))
            ]
            if key == "temperature_c" and len(values(week, "ambient_c")):
                lines.append(Curve("air", _days_of(week, "ambient_c"), values(week, "ambient_c"), GREY, width_px=1.4))
            if not lines:
                continue
            plots.append(
                curves(
                    f"week-{name}-{key}",
                    lines,
                    x_label="",
                    y_label=label,
                    height_px=230 if not plots or key == "temperature_c" else 200,
                    linked_to=plots[0] if plots else None,
                    y_range=(0.0, 100.0) if key == "soc" else None,
                    x_names={day + 0.5: _DAYS[day % 7] for day in range(7)},
                    legend=not plots or key == "temperature_c",
                )
            )
            plots[-1].xgrid[0].ticker = FixedTicker(ticks=list(range(8)))
        if plots:
            caption = (
                f"Seven days from day {value(week, 'first_day') or 0.0:.0f} of the first year; drag to zoom all three."
            )
            figures.append(
                album.picture(f"A week in {name}", caption + _swing(study, lives), *plots, plot_width_px=_WIDE_PX)
            )
    return tuple(figures)


def hours_pictures(study: Study, album: Album) -> tuple[Figure, ...]:
    """Where the pack stood: charge against temperature, and each for itself."""
    soc, temperature, hours = study.hours("with_v2g")
    if not hours.size or not hours.sum() > 0.0:
        return ()
    _, _, other = study.hours("without_v2g")
    has_other = study.has_v2g and other.shape == hours.shape and bool(other.sum() > 0.0)
    shares = 100.0 * hours / hours.sum()
    beside = 100.0 * other / other.sum() if has_other else shares
    used = np.nonzero((shares + beside).sum(axis=0) > 0.0)[0]
    first, last = int(used[0]), int(used[-1]) + 1
    temperature, shares, beside = temperature[first : last + 1], shares[:, first:last], beside[:, first:last]
    most = float(max(shares.max(), beside.max()))
    maps = [("with V2G" if has_other else "all hours", "hours-with", shares)]
    if has_other:
        maps.append(("without V2G", "hours-without", beside))
    plots = [
        heat(
            key,
            temperature,
            100.0 * soc,
            each,
            x_label="cells in °C",
            y_label="charge in %",
            most=most,
            title=f"{title}, % of all time",
            unit="% of all time",
        )
        for title, key, each in maps
    ]
    figures = [
        album.picture(
            "Charge and temperature together",
            f"The darker a cell, the more time was spent there: {_resting(100.0 * soc, shares, beside, has_other)}.",
            *plots,
            plot_width_px=_PAIR_PX,
        )
    ]
    both = [
        histogram(
            f"hist-{name}",
            edges,
            shares.sum(axis=axis),
            beside.sum(axis=axis) if has_other else None,
            x_label=label,
            y_label="% of all time",
            filled_label="with V2G" if has_other else "this pack",
            outlined_label="without V2G",
        )
        for name, edges, axis, label in (
            ("soc", 100.0 * soc, 1, "charge in %"),
            ("temperature", temperature, 0, "cells in °C"),
        )
    ]
    mean_c = _mean(temperature, shares.sum(axis=0))
    warmer_k = mean_c - _mean(temperature, beside.sum(axis=0))
    caption = f"Share of all time by charge and by cell temperature; mean temperature {mean_c:.1f} °C"
    caption += f", {figure_text(warmer_k, 1, signed=True)} K by V2G." if has_other else "."
    figures.append(album.picture("Charge and temperature, each for itself", caption, *both, plot_width_px=_PAIR_PX))
    return tuple(figures)


def validity_picture(study: Study, album: Album) -> Figure | None:
    """The share of each law's loss that lies outside its tests."""
    lives = _LIVES if study.has_v2g else _LIVES[:1]
    groups = [
        Part(
            name if study.has_v2g else "this life",
            colour,
            tuple(
                100.0 * _or_nan(value(part(study.last_year(life), "laws", law), "outside_validity_share"))
                for law in study.laws
            ),
        )
        for life, name, colour, _ in lives
    ]
    if not any(math.isfinite(one) for each in groups for one in each.values):
        return None
    plot = grouped_bars(
        "validity",
        [study.label(law) for law in study.laws],
        groups,
        x_label="share of the loss outside the law's tests, in %",
        decimals=0,
    )
    caption = "The longer the bar, the more of this law's loss is a guess beyond what was tested on its cell."
    return album.picture("Loss accrued outside the tested range", caption, plot)


def _capacity_range(lines: list[Curve], line: float | None) -> tuple[float, float]:
    known = np.concatenate([each.y[np.isfinite(each.y)] for each in lines]) if lines else np.empty(0)
    least = min([*known.tolist(), 100.0 if line is None else line])
    return math.floor((least - 2.0) / 5.0) * 5.0, 101.0


def _crossing(study: Study, law: str) -> str:
    outlook, without = study.outlooks("with_v2g").get(law, {}), study.outlooks("without_v2g").get(law, {})
    crossing, other = value(outlook, "crossing_years"), value(without, "crossing_years")
    told = "the warranty line is not in sight" if crossing is None else f"the line is met after {crossing:.1f} years"
    if study.has_v2g:
        told += ", without V2G " + ("it is not in sight" if other is None else f"after {other:.1f}")
    return told


def _years(crossing: float | None) -> str:
    return "not in sight" if crossing is None else figure_text(crossing, 1)


def _share(counted: Document, use: str) -> float:
    return next(
        (value(each, "shapley_points") or 0.0 for each in parts(counted, "shares") if text(each, "use") == use), 0.0
    )


def _colour(use: str) -> str:
    return USE_COLOURS.get(use, GREEN)


def _or_nan(found: float | None) -> float:
    return math.nan if found is None else found


def _days_of(week: Document, key: str) -> Floats:
    return np.arange(len(values(week, key)), dtype=np.float64) * ((value(week, "period_s") or 60.0) / 86_400.0)


def _swing(study: Study, lives: list[tuple[str, Document, str, bool]]) -> str:
    told = []
    for name, week, _, _ in lives:
        soc = values(week, "soc")
        if len(soc) and np.isfinite(soc).any():
            told.append(f"{name} the charge moves between {100 * np.nanmin(soc):.0f} and {100 * np.nanmax(soc):.0f} %")
    return f" {capital('; '.join(told))}." if told and study.has_v2g else ""


def _mean(edges: Floats, shares: Floats) -> float:
    return float(((edges[1:] + edges[:-1]) / 2 * shares).sum() / shares.sum())


def _resting(edges: Floats, shares: Floats, beside: Floats, has_other: bool) -> str:
    told = f"the mean charge is {_mean(edges, shares.sum(axis=1)):.0f} %"
    return told + (f" with V2G and {_mean(edges, beside.sum(axis=1)):.0f} % without" if has_other else "")
