"""The report of `v2gbench age`: years of a pack with and without V2G, every figure with its spread over laws.

Published laws of aging differ by a factor of ten on the same use, so no figure of V2G wear stands alone here: the
answer on top is a range, and each picture has a row per law. What the laws were never tested for is shown as the share
of the loss that it makes up.

The page is made from the JSON document alone (schema `v2gbench.age/1`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reports.errors import RenderError
from reports.pack.age_pictures import (
    attribution_pictures,
    capacity_pictures,
    cost_picture,
    cycles_picture,
    hours_pictures,
    validity_picture,
    warranty_picture,
    wear_picture,
    week_pictures,
)
from reports.pack.age_study import Study, money_text, use_name
from reports.pack.documents import Document, part, parts, require, text, texts, value
from reports.pack.figures import Album
from reports.page import (
    NOTHING,
    Cell,
    Fact,
    Page,
    Section,
    Table,
    Tone,
    capital,
    clipped,
    figure_text,
    number,
    render_page,
    spoken,
    write_page,
)
from reports.plots import embedded

AGE_SCHEMA: Final = "v2gbench.age/1.0"


def write_age_report(document: Document, folder: Path) -> Path:
    """Write `report.html` into `folder` and return its path.

    Raises RenderError for a document of another schema, and when the file cannot be written.
    """
    return write_page(render_age_report(document, origin=folder.name), folder / "report.html")


def render_age_report(document: Document, *, origin: str = "") -> str:
    """The page as text; raises RenderError for a document of another schema, or one without a single law."""
    require(document, AGE_SCHEMA)
    study = Study(document)
    if not study.laws:
        raise RenderError("cannot report an aging study without laws: its document names none under 'laws'")
    album = Album()
    headline, reason = _headline(study)
    page = Page(
        kicker="battery aging report",
        title=study.title,
        headline=headline,
        tone="plain",
        reason=reason,
        badges=_badges(study),
        origin=origin,
        facts=_facts(study),
        sections=_sections(study, album),
        footer=_FOOTER,
    )
    return render_page(page, embedded(album.plots))


_FOOTER: Final = (
    (
        "Simulated.",
        (
            "Nobody measured this battery. Laws of aging come from tests of one to three years on other cells and are "
            "extrapolated here; the difference between two lives is better known than either of them."
        ),
    ),
    (
        "",
        (
            "Losses are in points: percent of the capacity when new. Positive power charges the vehicle. This page "
            "loads nothing from any network."
        ),
    ),
)
_GRADES: Final[Mapping[str, Tone]] = {"A": "good", "B": "good", "C": "warn", "reject": "bad"}
_NO_ASSUMPTION: Final = frozenset({"schema", "title", "pack"})
_UNITS: Final = (
    ("_km_h", "km/h"), ("_cents_per_kwh", "cents/kWh"), ("_percent", "%"), ("_w", "W"), ("_s", "s"), ("_c", "°C"),
    ("_hz", "Hz"), ("_kwh", "kWh"), ("_wh", "Wh"), ("_h", "h"), ("_hours", "h"), ("_days", "days"),
)  # fmt: skip


# The top of the page --------------------------------------------------------------------------------------------------


def _headline(study: Study) -> tuple[str, str]:
    own = study.laws[0]
    if study.has_v2g and study.wear:
        low, high = study.spread
        shares = study.wear.get(own, {})
        shapley, last_in = value(shares, "shapley_points"), value(shares, "last_in_points")
        told = [f"{own}, the law that ages the pack here, says {_points(shapley)} (last in {_points(last_in)})"]
        if study.spread_same is not None:
            told.append(
                f"laws for {study.chemistry} say {_points(study.spread_same[0])} to {_points(study.spread_same[1])}"
            )
        reason = (
            f"That is the range over {len(study.wear)} published laws of aging: {'; '.join(told)}. No law is known to "
            "be right for this pack, so no single number is."
        )
        return f"V2G wears off {_range(low, high)} points of capacity in {study.duration}", reason
    capacities = [at for law in study.laws if (at := study.capacity("with_v2g", law)) is not None]
    reason = f"The range is over {len(capacities)} published laws of aging; {own} ages the pack in this simulation."
    if not capacities:
        return f"{study.duration} of use", "The document states no capacity."
    return f"{_one(min(capacities))} to {_one(max(capacities))} % of capacity are left after {study.duration}", reason


def _badges(study: Study) -> tuple[tuple[str, Tone], ...]:
    material = text(study.document, "material", "simulated")
    badges: list[tuple[str, Tone]] = [(material, "good" if material == "measured" else "warn"), (study.pack, "")]
    badges.append((f"{len(study.laws)} laws of aging" if len(study.laws) > 1 else f"one law only: {study.laws[0]}", ""))
    if not study.has_v2g:
        badges.append(("no V2G in this scenario", ""))
    return tuple(badges)


def _facts(study: Study) -> tuple[Fact, ...]:
    facts = [_capacity_fact(study, "with_v2g", "Capacity with V2G" if study.has_v2g else "Capacity")]
    if study.has_v2g:
        low, high = study.spread
        facts.append(_capacity_fact(study, "without_v2g", "Capacity without V2G"))
        facts.append(Fact("Difference by V2G", _range(low, high), "points", "Shapley share, from law to law"))
        service = part(study.document, "v2g")
        delivered, asked, hours = (value(service, key) for key in ("delivered_kwh", "asked_kwh", "available_h"))
        if delivered is not None:
            told = [f"{figure_text(hours, 0)} h available"] if hours is not None else []
            told += [f"{100 * delivered / asked:.1f} % of what was asked"] if asked else []
            facts.append(Fact("Delivered to the grid", figure_text(delivered, 0), "kWh", ", ".join(told)))
        costs = [cost for wear in study.wear.values() if (cost := value(wear, "cost_per_kwh_micro")) is not None]
        if costs:
            figure = _range(min(costs) / 1e4, max(costs) / 1e4)
            facts.append(Fact("Wear per kWh delivered", figure, "cents", f"{study.cents}, from law to law"))
    second = part(study.document, "second_life", "with_v2g")
    if second:
        grade = text(second, "grade", NOTHING)
        other = text(part(study.document, "second_life", "without_v2g"), "grade")
        detail = f"without V2G: {other}" if study.has_v2g and other else "limits are this project's own"
        facts.append(Fact("Second-life grade", grade, "", detail, _GRADES.get(grade, "")))
    return tuple(facts)


def _capacity_fact(study: Study, life: str, name: str) -> Fact:
    own = study.capacity(life, study.laws[0])
    every = [at for law in study.laws if (at := study.capacity(life, law)) is not None]
    if own is None:
        return Fact(name, NOTHING, "", "the document does not say")
    detail = f"after {study.duration} by {study.laws[0]}"
    if len(every) > 1:
        detail += f"; laws say {_one(min(every))} to {_one(max(every))} %"
    return Fact(name, _one(own), "%", detail)


# Sections -------------------------------------------------------------------------------------------------------------


def _sections(study: Study, album: Album) -> tuple[Section, ...]:
    return (
        *((_wear_section(study, album),) if study.has_v2g else ()),
        _capacity_section(study, album),
        _warranty_section(study, album),
        _attribution_section(study, album),
        _use_section(study, album),
        *((_cost_section(study, album),) if study.has_v2g else ()),
        _week_section(study, album),
        _hours_section(study, album),
        _law_section(study, album),
        _second_life_section(study),
        _assumption_section(study),
    )


def _wear_section(study: Study, album: Album) -> Section:
    title = "What V2G wears off, law by law"
    if not study.wear:
        return Section("wear", title, ("Not available: the document has no wear per law.",))
    rows = tuple(
        (
            Cell(law),
            Cell(text(wear, "chemistry", NOTHING)),
            *(
                _signed(value(wear, key), 2)
                for key in ("shapley_points", "last_in_points", "first_in_points", "live_points")
            ),
            number(_times(value(wear, "outside_validity_share"), 100.0), 0),
        )
        for law, wear in study.wear.items()
    )
    head = ("Law", "Chemistry", "Shapley (points)", "Last in (points)", "First in (points)", "Live (points)",
            "Loss outside tests (%)")  # fmt: skip
    words = (
        (
            "Shapley is the fair share of V2G among all uses, from twin runs with each combination of uses. Last in is "
            "what V2G adds for somebody who drives anyway, the figure that studies quote; first in is V2G alone "
            "against a parked vehicle. Live is the running account of one life, which cannot see that V2G makes a "
            "vehicle stand at another charge. A negative share is real: V2G can lower the charge at which a pack waits."
        ),
    )
    table = Table("Wear of V2G over the whole time, in percent of the new capacity", head, rows)
    return Section("wear", title, words, (table,), figures=(wear_picture(study, album),))


def _capacity_section(study: Study, album: Album) -> Section:
    title = "Capacity and resistance over the years"
    figures, missing = capacity_pictures(study, album)
    names = ("with_v2g", "without_v2g") if study.has_v2g else ("with_v2g",)
    rows = []
    for place, point in enumerate(study.years_of("with_v2g")):
        row = [Cell(figure_text(value(point, "year") or 0.0, 1), number=True)]
        for name in names:
            years = study.years_of(name)
            there: Document = years[place] if place < len(years) else {}
            row += [number(value(there, key), 2) for key in ("capacity_percent", "resistance_percent")]
            row.append(number(value(there, "efc"), 0))
        row.append(number(value(point, "km"), 0))
        rows.append(tuple(row))
    beside = ("with V2G", "without V2G") if study.has_v2g else ("",)
    head = [f"{what} {which}".strip() + unit for which in beside
            for what, unit in (("Capacity", " (%)"), ("Resistance", " (%)"), ("Full cycles", ""))]  # fmt: skip
    tables = (
        (Table(f"At the end of each year, by {study.laws[0]}", ("Year", *head, "km"), tuple(rows)),) if rows else ()
    )
    return Section("capacity", title, missing, tables, figures=figures)


def _warranty_section(study: Study, album: Album) -> Section:
    title = "When the warranty line is met"
    outlooks, without = study.outlooks("with_v2g"), study.outlooks("without_v2g")
    if not outlooks:
        return Section("warranty", title, ("Not available: the document has no outlook on the warranty.",))
    rows = []
    for law, outlook in outlooks.items():
        kept = outlook.get("kept") is True
        row = [
            Cell(law),
            number(value(outlook, "capacity_at_end_percent"), 1),
            Cell("kept" if kept else "not kept", "good" if kept else "bad"),
            _years_cell(outlook),
            number(value(outlook, "remaining_years"), 1),
        ]
        if study.has_v2g:
            row.append(_years_cell(without.get(law, {})))
        rows.append(tuple(row))
    first = next(iter(outlooks.values()))
    ends, by = value(first, "ends_years"), text(first, "ends_by", "age")
    head = ["Law", "Capacity when it ends (%)", "Warranty", "Line met after (years)", "Remaining useful life (years)"]
    head += ["Without V2G, line met after (years)"] if study.has_v2g else []
    line = value(part(study.document, "warranty"), "line_percent")
    words = (
        (
            f"The line is {figure_text(line or 0.0, 0)} % of the new capacity; the warranty ends after "
            f"{figure_text(ends or 0.0, 1)} years, by {by}. Remaining useful life counts from the last simulated day "
            f"until the line is met. After the simulated {study.duration}: "
            f"{text(part(study.document, 'warranty'), 'method', 'how the law goes on is not said')}."
        ),
    )
    table = Table("Warranty by law" + (", with V2G" if study.has_v2g else ""), tuple(head), tuple(rows))
    return Section("warranty", title, words, (table,), figures=(warranty_picture(study, album),))


def _attribution_section(study: Study, album: Album) -> Section:
    title = "Who wore the battery"
    figures, missing = attribution_pictures(study, album)
    words = (
        (
            "Two exact accounts of the same loss, answering different questions. Counterfactual: what would be missing "
            "without this use, found by simulating every combination of uses with the same charging habit; parked is "
            "the base that time takes anyway. Live: one life only, each cycle booked to whoever discharged, the rest "
            "to time. The parts of each add up to its sum; negative ones are kept."
        ),
        *missing,
    )
    rows = tuple(
        (
            Cell(text(each, "law")),
            Cell(use_name(text(share, "use"))),
            *(_signed(value(share, key), 3) for key in ("shapley_points", "last_in_points", "first_in_points")),
            _signed(study.live(text(each, "law"), text(share, "use")), 3),
        )
        for each in study.counterfactuals
        for share in parts(each, "shares")
    )
    head = ("Law", "Use", "Shapley (points)", "Last in (points)", "First in (points)", "Live (points)")
    tables = (Table("Every share of every law", head, rows),) if rows else ()
    return Section("attribution", title, words, tables, figures=figures)


def _use_section(study: Study, album: Album) -> Section:
    title = "Full cycles and energy by use"
    picture = cycles_picture(study, album)
    if picture is None:
        return Section("uses", title, ("Not available: the document has no energies by use.",))
    rows = tuple(
        (
            Cell(use_name(text(energy, "use"))),
            number(value(energy, "hours"), 0),
            number(_times(value(energy, "charged_wh"), 1e-3), 0),
            number(_times(value(energy, "discharged_wh"), 1e-3), 0),
            number(_times(value(energy, "asked_discharge_wh"), 1e-3), 0),
            number(study.cycles_per_year("with_v2g").get(text(energy, "use")), 1),
        )
        for energy in study.energies("with_v2g")
    )
    head = ("Use", "Hours", "Into the pack (kWh)", "Out of the pack (kWh)", "Asked of it (kWh)", "Full cycles a year")
    loss = value(part(study.document, "with_v2g"), "loss_wh")
    words = ["A full cycle is one discharge of the new capacity, in as many parts as it takes."]
    if loss is not None:
        words.append(f"Turned to heat in the pack over all years: {figure_text(loss / 1000, 0)} kWh.")
    table = Table("At the pack's terminals, over all years", head, rows)
    return Section("uses", title, tuple(words), (table,), figures=(picture,))


def _cost_section(study: Study, album: Album) -> Section:
    title = "What V2G wear costs"
    picture = cost_picture(study, album)
    if picture is None:
        return Section("cost", title, ("Not available: the document has no costs, or nothing was delivered.",))
    rows = tuple(
        (
            Cell(law),
            _money(wear.get("cost_micro"), 2),
            number(_times(value(wear, "cost_per_kwh_micro"), 1e-4), 2),
            number(_times(value(wear, "cost_per_available_hour_micro"), 1e-4), 2),
            _money(wear.get("cost_last_in_micro"), 2),
            number(_times(value(wear, "cost_last_in_per_kwh_micro"), 1e-4), 2),
        )
        for law, wear in study.wear.items()
    )
    unit = study.currency
    head = ("Law", f"Wear ({unit})", "Per kWh delivered (cents)", "Per hour available (cents)",
            f"Wear, last in ({unit})", "Per kWh, last in (cents)")  # fmt: skip
    prices = part(study.document, "scenario", "prices")
    new, used = value(prices, "battery_cents_per_kwh"), value(prices, "second_life_cents_per_kwh")
    words = (
        "A point of capacity is worth the price of a new pack less what it still brings in a second life, as the "
        "scenario says. Energy and availability that were paid for are not subtracted here."
    )
    if new is not None and used is not None:
        words += f" Prices: {new / 100:.2f} {unit} per kWh new, {used / 100:.2f} {unit} per kWh used."
    table = Table("Cost of V2G wear over all years; Shapley share unless it says last in", head, rows)
    return Section("cost", title, (words,), (table,), figures=(picture,))


def _week_section(study: Study, album: Album) -> Section:
    title = "Typical weeks"
    figures = week_pictures(study, album)
    if not figures:
        return Section("weeks", title, ("Not shown: the document has no sample weeks (made without its series).",))
    words = ("One mean a minute, from the first year. The weather is the same with and without V2G.",)
    return Section("weeks", title, words, figures=figures)


def _hours_section(study: Study, album: Album) -> Section:
    title = "Where the pack spent its time"
    figures = hours_pictures(study, album)
    if not figures:
        return Section("hours", title, ("Not shown: the document has no hours by charge and temperature.",))
    return Section("hours", title, figures=figures)


def _law_section(study: Study, album: Album) -> Section:
    title = "How far each law can be believed"
    rows = []
    for law in study.laws:
        note = study.note(law)
        validity = part(note, "validity")
        point = part(study.last_year("with_v2g"), "laws", law)
        rows.append(
            (
                Cell(law),
                Cell(text(note, "title", NOTHING)),
                Cell(_to_keep_in_mind(note)),
                Cell(_tested(validity)),
                number(_times(value(point, "outside_validity_share"), 100.0), 0),
                Cell(text(note, "source", NOTHING), "muted"),
            )
        )
    head = ("Law", "Cell", "What to keep in mind", "Tested at", "Loss outside (%)", "Source")
    scales = part(study.document, "scales")
    calendar, cycle = value(scales, "calendar"), value(scales, "cycle")
    words = [
        (
            "Each law was fitted to one cell under a few conditions. Where the pack here left those conditions, the "
            "law was extrapolated: the picture shows how much of its loss comes from there."
        )
    ]
    if calendar is not None and cycle is not None:
        unscaled = calendar == cycle == 1.0
        words.append(
            "Laws are taken as published, unscaled."
            if unscaled
            else f"Laws are scaled by {calendar:g} (calendar) and {cycle:g} (cycles), all of them alike."
        )
    picture = validity_picture(study, album)
    table = Table("Laws, their limits and their sources", head, tuple(rows))
    return Section("laws", title, tuple(words), (table,), figures=(picture,) if picture else ())


def _second_life_section(study: Study) -> Section:
    title = "Second life"
    report, other = (part(study.document, "second_life", name) for name in ("with_v2g", "without_v2g"))
    if not report:
        return Section("second-life", title, ("Not available: the document has no second-life test.",))
    beside = other if study.has_v2g else {}
    cards = [_grade_card("Grade" + (" with V2G" if beside else ""), report)]
    if beside:
        cards.append(_grade_card("Grade without V2G", beside))
    for name, key, scale, unit, decimals, of in (
        ("Capacity at C/3", "capacity_percent", 1.0, "% of new", 1, "capacity_ah"),
        ("Energy", "energy_wh", 1e-3, "kWh", 1, ""),
        ("Resistance", "resistance_percent", 1.0, "% of new", 0, "resistance_ohm"),
        ("Self-discharge", "self_discharge_percent_per_month", 1.0, "% a month", 2, ""),
    ):
        found = value(report, key)
        absolute = value(report, of) if of else None
        detail = "" if absolute is None else _absolute(of, absolute)
        cards.append(Fact(name, NOTHING if found is None else figure_text(scale * found, decimals), unit, detail))
    words = [f"In the manner of {text(report, 'manner_of', 'a test that the document does not name')}."]
    words += [f"{'With V2G: ' if beside else ''}{reason}." for reason in texts(report, "reasons")]
    words += [f"Without V2G: {reason}." for reason in texts(beside, "reasons")]
    judged = {text(each, "name"): each for each in parts(beside, "criteria")}
    rows = []
    for each in parts(report, "criteria"):
        grade = text(each, "grade", NOTHING)
        row = [
            Cell(text(each, "name")),
            number(value(each, "value"), 2),
            Cell(text(each, "unit")),
            Cell(_limits(each)),
            Cell(grade, _GRADES.get(grade, "")),
        ]
        if beside:
            without = judged.get(text(each, "name"), {})
            row += [number(value(without, "value"), 2), Cell(text(without, "grade", NOTHING))]
        rows.append(tuple(row))
    head = ["Criterion", "Value", "Unit", "Limits", "Grade"] + (["Without V2G", "Its grade"] if beside else [])
    tables = [Table("What the grade comes from; the worst criterion decides", tuple(head), tuple(rows))] if rows else []
    history = part(report, "history")
    names = (
        ("hottest_c", "Hottest", "°C", 1), ("coldest_c", "Coldest", "°C", 1),
        ("hot_h", "Above 40 °C", "h", 0), ("full_h", "Above 90 % charge", "h", 0),
        ("empty_h", "Below 10 % charge", "h", 0),
        ("cold_charging_h", "Charged below 0 °C", "h", 0), ("rapid_charges", "Rapid charges", "1", 0),
        ("equivalent_full_cycles", "Full cycles", "1", 0), ("km", "Distance", "km", 0),
    )  # fmt: skip
    stress = tuple(
        (
            Cell(name),
            number(value(history, key), decimals),
            Cell(unit),
            *((number(value(part(beside, "history"), key), decimals),) if beside else ()),
        )
        for key, name, unit, decimals in names
        if key in history
    )
    if stress:
        head = ["What happened", "Whole life", "Unit"] + (["Without V2G"] if beside else [])
        tables.append(Table("History of stress", tuple(head), stress))
    return Section("second-life", title, tuple(words), tuple(tables), cards=tuple(cards))


def _assumption_section(study: Study) -> Section:
    scenario = part(study.document, "scenario")
    rows: list[tuple[Cell, ...]] = [(Cell("pack"), Cell(study.pack))]
    rows += [(Cell(name), Cell(clipped(shown))) for name, shown in _assumed(scenario)]
    versions = part(study.document, "versions")
    rows += [(Cell(f"version of {name}"), Cell(str(version))) for name, version in versions.items()]
    words = ["Everything that the result rests on, as the scenario file and the program's defaults say it."]
    if not versions:
        words.append("Versions of the programs are not in the document.")
    table = Table("Climate, habits, contract, seed and pack", ("Assumption", "Value"), tuple(rows))
    return Section("assumptions", "Assumptions", tuple(words), (table,))


# Small helpers --------------------------------------------------------------------------------------------------------


def _one(found: float) -> str:
    return figure_text(found, 1)


def _range(low: float, high: float) -> str:
    """Both ends to one decimal; to two where the lower one would be rounded away."""
    decimals = 2 if low and abs(low) < 0.05 else 1
    return f"{figure_text(low, decimals)} to {figure_text(high, decimals)}"


def _points(found: float | None) -> str:
    return NOTHING if found is None else figure_text(found, 2)


def _times(found: float | None, factor: float) -> float | None:
    return None if found is None else factor * found


def _signed(found: float | None, decimals: int) -> Cell:
    if found is None:
        return Cell(NOTHING, "muted", number=True)
    return Cell(figure_text(found, decimals, signed=True), number=True)


def _money(micro: object, decimals: int) -> Cell:
    return Cell(money_text(micro, decimals), number=True)


def _years_cell(outlook: Document) -> Cell:
    crossing = value(outlook, "crossing_years")
    if crossing is None:
        return Cell("not in sight", "muted", number=True)
    return Cell(figure_text(crossing, 1), number=True)


def _grade_card(name: str, report: Document) -> Fact:
    grade = text(report, "grade", NOTHING)
    return Fact(name, grade, "", "A, B, C or reject", _GRADES.get(grade, ""))


def _absolute(key: str, found: float) -> str:
    return f"{found:.1f} Ah" if key == "capacity_ah" else f"{1000 * found:.1f} mΩ"


def _limits(criterion: Document) -> str:
    word = "at least" if criterion.get("at_least") is True else "at most"
    given = criterion.get("limits")
    limits = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
    shown = [
        f"{letter}: any" if not isinstance(limit, int | float) else f"{letter}: {word} {limit:g}"
        for letter, limit in zip("ABC", limits, strict=False)
    ]
    return ", ".join(shown) or NOTHING


def _to_keep_in_mind(note: Document) -> str:
    convention = text(note, "c_rate_convention", "not said")
    return f"{capital(text(note, 'caveat', 'no caveat stated'))}. C-rate: {convention}."


def _tested(validity: Document) -> str:
    def span(key: str, scale: float, unit: str) -> str:
        given = validity.get(key)
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
            return ""
        low, high = (one if isinstance(one, int | float) else math.nan for one in given)
        return f"{scale * low:g} to {scale * high:g} {unit}"

    fastest = value(validity, "c_rate_max")
    said = [span("temperature_c", 1.0, "°C"), span("depth", 100.0, "% depth")]
    said.append("" if fastest is None else f"up to {fastest:g} C")
    return ", ".join(each for each in said if each) or NOTHING


def _assumed(scenario: Document) -> list[tuple[str, str]]:
    """The scenario in words: what belongs together in one row, with the units of its keys."""
    plain = {key: each for key, each in scenario.items() if not isinstance(each, Mapping) and key not in _NO_ASSUMPTION}
    found = [(_leaf_name(key), _leaf(key, each)) for key, each in plain.items()]

    def walk(node: Document, path: str) -> None:
        leaves = [
            f"{_leaf_name(key)} {_leaf(key, each)}" for key, each in node.items() if not isinstance(each, Mapping)
        ]
        if leaves:
            found.append((path, ", ".join(leaves)))
        for key in node:
            if inner := part(node, key):
                walk(inner, f"{path}, {use_name(key)}")

    for key in scenario:
        if inner := part(scenario, key):
            walk(inner, use_name(key))
    return found


def _leaf_name(key: str) -> str:
    ending = next((ending for ending, _ in _UNITS if key.endswith(ending)), "")
    return spoken(key.removesuffix(ending))


def _leaf(key: str, found: object) -> str:
    if isinstance(found, Sequence) and not isinstance(found, str):
        return " to ".join(str(each) for each in found) if len(found) == 2 else ", ".join(str(each) for each in found)
    unit = next((unit for ending, unit in _UNITS if key.endswith(ending)), "")
    shown = f"{found:g}" if isinstance(found, float) and abs(found) < 1e6 else str(found)
    return f"{shown} {unit}".strip()
