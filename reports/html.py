"""The report of a run: one HTML file that opens anywhere, shows the verdict first and hides nothing.

The page is made from the run folder alone, so that it can be made again years later. What the folder does not hold
(no certificate because the run was aborted, a record that was damaged) is said with the reason, in its place; a
report is never refused because a part is missing.

`reports.html` prepares sections of tables and plots as plain values; `reports.page` lays them out.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ledgers.canonical import Json
from ledgers.records import Agreement, Direction, EnergyFigure, GridOrder, SignedRecord
from reports.inputs import ReportInput, outcome_reason, outcome_word, read_report_input
from reports.network import network_section
from reports.page import (
    MINUS,
    NOTHING,
    Cell,
    Fact,
    Figure,
    Page,
    Section,
    Table,
    Tone,
    clipped,
    flat,
    number,
    render_page,
    spoken,
    write_page,
)
from reports.plots import Panel, render_plots
from reports.run import Run
from reports.series import OrderWindow, build_panels, find_cast, ramp_s
from reports.settlement import lightning_settlement_section


def render_report(run: Run, given: ReportInput) -> str:
    """The whole page as text; UTF-8, self-contained, below 3 MB."""
    orders = _orders(run, given)
    panels = build_panels(run, [window for _, window in orders])
    verdict, tone = _verdict(run, given)
    page = Page(
        kicker="run report",
        title=f"{run.manifest.get('plan', 'run')} on {run.manifest.get('station', 'a station')}",
        headline=verdict,
        tone=tone,
        reason=outcome_reason(run, given),
        badges=_badges(run, given),
        origin=run.folder.name,
        facts=_facts(run, given),
        sections=(*_plot_sections(panels), *_sections(run, given, orders)),
        footer=_FOOTER,
    )
    return render_page(page, render_plots(panels))


def write_report(folder: Path) -> Path:
    """Make `report.html` from what the run folder holds, replacing an older one at once or not at all.

    Raises RunError when the folder is no run, RenderError when the file cannot be written.
    """
    given = read_report_input(folder)
    with Run.open(folder) as run:
        text = render_report(run, given)
    return write_page(text, folder / "report.html")


_EVENTS_SHOWN: Final = 200
_HALF_MILLISECOND_S: Final = 0.0005  # a record states its times to the millisecond
_UNIT_ENDINGS: Final = frozenset({"w", "c", "v", "a", "s", "wh", "percent"})
_FOOTER: Final = (
    (
        "Not a safety device.",
        (
            "The bench is a supervisor beside the protection of the laboratory. It does not replace emergency stop, "
            "residual-current protection, insulation monitoring, or the charger\u2019s and the vehicle\u2019s own."
        ),
    ),
    (
        "",
        (
            "Sign: positive power and energy charge the vehicle. Uncertainties are expanded with k = 2. This page "
            "loads nothing from any network."
        ),
    ),
)
_VERDICTS: Final[Mapping[str, tuple[str, Tone]]] = {
    "pass": ("Pass", "good"),
    "fail": ("Fail", "bad"),
    "tripped": ("Tripped by a limit", "bad"),
    "aborted": ("Aborted", "bad"),
    "completed": ("Completed, not certified", "warn"),
    "unfinished": ("Unfinished", "warn"),
}
_AGREEMENT: Final[Mapping[Agreement, Tone]] = {
    Agreement.AGREE: "good",
    Agreement.DISAGREE: "bad",
    Agreement.NOT_JUDGED: "warn",
}
_LIMIT_TONES: Final[Mapping[str, Tone]] = {"pass": "good", "warn": "warn", "fail": "bad", "not_judged": "warn"}


# The top of the page --------------------------------------------------------------------------------------------------


def _verdict(run: Run, given: ReportInput) -> tuple[str, Tone]:
    word = outcome_word(run, given)
    if run.left_open is not None and word in {"pass", "completed"}:
        return "Unfinished", "warn"
    return _VERDICTS.get(word, (word, "warn"))


def _badges(run: Run, given: ReportInput) -> tuple[tuple[str, Tone], ...]:
    badges: list[tuple[str, Tone]] = []
    material = given.record.record.station.material.value if given.record else run.manifest.get("material")
    if material is not None:
        badges.append((str(material), "good" if material == "measured" else "warn"))
    if material != "replayed":
        badges.append(("stepped time" if run.manifest.get("stepped") else "wall clock", ""))
    if given.certificate is not None:
        badges.append(("certificate issued", "good"))
    else:
        badges.append(("no certificate", "warn"))
    return tuple(badges)


def _facts(run: Run, given: ReportInput) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    cycles = run.cycles()
    if len(cycles):
        duration_s = float(cycles[-1, 1] - cycles[0, 1])
        facts.append(Fact("Duration", f"{duration_s / 60:.1f}", "min", f"{len(cycles):,} cycles recorded"))
    if given.record is None:
        return tuple(facts)
    record = given.record.record
    for direction, name in ((Direction.IMPORT, "Charged"), (Direction.EXPORT, "Discharged")):
        figure = _best_figure(run, record.energy.of(direction))
        if figure is not None and figure.value_wh is not None:
            detail = f"± {(figure.expanded_uncertainty_wh or 0) / 1000:.3f} kWh (k = 2), {figure.witness}, AC side"
            facts.append(Fact(name, f"{figure.value_wh / 1000:.3f}", "kWh", detail))
    use = record.battery_use
    if use.soc_begin_percent is not None and use.soc_end_percent is not None:
        facts.append(Fact("State of charge in %", f"{use.soc_begin_percent:.1f} → {use.soc_end_percent:.1f}"))
    if use.equivalent_full_cycles is not None:
        detail = "throughput over twice the rated capacity"
        facts.append(Fact("Battery use", f"{use.equivalent_full_cycles:.3f}", "EFC", detail))
    verdict = record.reconciliation.verdict
    told = {Agreement.AGREE: "agree", Agreement.DISAGREE: "disagree", Agreement.NOT_JUDGED: "not judged"}[verdict]
    odd = f"{record.reconciliation.odd_witness} stands alone" if record.reconciliation.odd_witness else ""
    facts.append(Fact("Witnesses", told, "", odd, _AGREEMENT[verdict]))
    return tuple(facts)


def _best_figure(run: Run, figures: Sequence[EnergyFigure]) -> EnergyFigure | None:
    at_ac = [figure for figure in figures if figure.plane.value == "ac" and figure.value_wh is not None]
    analyzer = find_cast(run).analyzer
    return next((figure for figure in at_ac if figure.witness == analyzer), at_ac[0] if at_ac else None)


def _plot_sections(panels: Sequence[Panel]) -> tuple[Section, ...]:
    notes = {
        "power": "Drag to zoom, all plots together; the arrow in the tool bar brings the whole session back. A click "
        "on a name in the legend hides its line.",
        "difference": "What the two witnesses of one side of the charger say, subtracted; at power steps a difference "
        "of one sample is the distance between their times of sampling.",
    }
    figures = tuple(Figure(panel.title, notes.get(panel.key, ""), (panel.key,)) for panel in panels)
    return (Section("plots", "Plots", figures=figures),) if figures else ()


# Sections -------------------------------------------------------------------------------------------------------------


def _sections(run: Run, given: ReportInput, orders: Sequence[tuple[GridOrder, OrderWindow]]) -> tuple[Section, ...]:
    sections = [
        _orders_section(run, given, orders),
        _witness_section(given),
        _limit_section(given),
        _alarm_section(run, given),
        _use_section(given),
        _ledger_section(given),
        _settlement_section(given),
        _network_section(given),
        _certificate_section(run, given),
        _asset_section(given),
        _set_point_section(run),
        _event_section(run),
        _station_section(run, given),
    ]
    return tuple(section for section in sections if section is not None)


def _orders(run: Run, given: ReportInput) -> tuple[tuple[GridOrder, OrderWindow], ...]:
    cycles = run.cycles()
    if given.record is None or not len(cycles):
        return ()
    offset_s = float(cycles[0, 2] - cycles[0, 1])
    return tuple(
        (order, OrderWindow(_utc_s(order.begin) - offset_s, _utc_s(order.end) - offset_s, order.requested_power_w))
        for order in given.record.record.session.orders
    )


def _orders_section(run: Run, given: ReportInput, orders: Sequence[tuple[GridOrder, OrderWindow]]) -> Section | None:
    title = "Orders against delivery"
    if given.record is None:
        return _missing("orders", title, given, "record")
    if not orders:
        return Section("orders", title, ("The session had no grid orders.",))
    rows = []
    for order, window in orders:
        ordered_wh = window.power_w * (window.end_s - window.begin_s) / 3600
        ramp = ramp_s(run, window)
        share: Cell | None = None
        if order.delivered_energy_wh is not None and ordered_wh:
            percent = order.delivered_energy_wh / ordered_wh * 100
            share = Cell(f"{percent:.1f}", "good" if 95 <= percent <= 105 else "warn", number=True)
        rows.append(
            (
                Cell(order.order_id),
                Cell(order.kind.replace("_", " ")),
                Cell(f"{window.begin_s / 60:.1f}", number=True),
                Cell(f"{(window.end_s - window.begin_s) / 60:.1f}", number=True),
                number(order.requested_power_w, 0),
                number(order.delivered_power_w, 0),
                number(ordered_wh, 1),
                number(order.delivered_energy_wh, 1),
                share or Cell(order.reason or NOTHING, "muted"),
                number(ramp, 0),
                Cell(order.measured_by or NOTHING),
            )
        )
    head = (
        "Order", "Kind", "Begin (min)", "Length (min)", "Ordered (W)", "Mean delivered (W)", "Ordered (Wh)",
        "Delivered (Wh)", "Delivered (%)", "Ramp (s)", "Measured by",
    )  # fmt: skip
    words = (
        "Positive power and energy charge the vehicle. The ramp is the time from the order's begin until 90 % of the "
        "ordered power was measured, by the analyzer where there is one."
    )
    return Section("orders", title, (words,), (Table("Grid orders and what was delivered", head, tuple(rows)),))


def _witness_section(given: ReportInput) -> Section:
    if given.record is None:
        return _missing("witnesses", "Witnesses", given, "record")
    record = given.record.record
    title = {1: "One witness", 2: "Two witnesses", 3: "Three witnesses"}.get(len(record.witnesses), "Witnesses")
    rows = tuple(
        (
            Cell(figure.witness),
            Cell(figure.plane.value.upper()),
            Cell(direction.value),
            number(figure.value_wh, 1),
            number(figure.expanded_uncertainty_wh, 1),
            Cell(", ".join(f"{name} {part:.1f}" for name, part in sorted(figure.contributions.items())), "muted")
            if figure.reason is None
            else Cell(figure.reason, "warn"),
        )
        for direction in Direction
        for figure in record.energy.of(direction)
    )
    energies = Table(
        "Energy by witness, side of the charger and direction; U is the expanded uncertainty, k = 2",
        ("Witness", "Side", "Direction", "Energy (Wh)", "U (Wh)", "Parts of U (Wh)"),
        rows,
    )
    pairs = Table(
        "Witnesses on the same side, compared: they agree when the difference is not above the allowed",
        ("Pair", "Side", "Direction", "Difference (Wh)", "Allowed (Wh)", "Verdict"),
        tuple(
            (
                Cell(f"{pair.a} and {pair.b}"),
                Cell(pair.plane.value.upper()),
                Cell(pair.direction.value),
                number(pair.difference_wh, 1),
                number(pair.allowed_wh, 1),
                Cell(
                    spoken(pair.verdict.value) + (f": {pair.reason}" if pair.reason else ""), _AGREEMENT[pair.verdict]
                ),
            )
            for pair in record.reconciliation.pairs
        ),
    )
    traces = Table(
        "Witnesses compared over time",
        ("Pair", "Side", "Quantity", "Found", "Allowed", "Unit", "Verdict"),
        tuple(
            (
                Cell(f"{trace.a} and {trace.b}"),
                Cell(trace.plane.value.upper()),
                Cell(spoken(trace.quantity)),
                number(trace.value, 3),
                number(trace.allowed, 3),
                Cell(trace.unit),
                Cell(
                    spoken(trace.verdict.value) + (f": {trace.reason}" if trace.reason else ""),
                    _AGREEMENT[trace.verdict],
                ),
            )
            for trace in record.reconciliation.traces
        ),
    )
    found = record.reconciliation
    told = {
        Agreement.AGREE: "All witnesses agree within their uncertainties.",
        Agreement.DISAGREE: f"{found.odd_witness} stands alone: {found.odd_reason}."
        if found.odd_witness
        else f"Witnesses disagree, and none can be named: {found.odd_reason}.",
        Agreement.NOT_JUDGED: "Not every comparison could be judged; the tables say why.",
    }[found.verdict]
    sides = (
        "The charger's meter speaks for the AC side and the battery management system for the DC side; only the "
        "analyzer sees both, so only it joins them. The converter's losses lie between the sides."
    )
    return Section("witnesses", title, (told, sides), tuple(t for t in (energies, pairs, traces) if t.rows))


def _limit_section(given: ReportInput) -> Section:
    title = "Limits and margins"
    if given.record is None:
        return _missing("limits", title, given, "record")
    rows = tuple(
        (
            Cell(_quantity(limit.name)),
            Cell(limit.limit, code=True),
            number(limit.worst_value, 2),
            number(limit.margin, 2),
            Cell(limit.unit),
            Cell(
                spoken(limit.verdict.value) + (f": {limit.reason}" if limit.reason else ""),
                _LIMIT_TONES[limit.verdict.value],
            ),
        )
        for limit in given.record.record.limits
    )
    if not rows:
        return Section("limits", title, ("The record states no limit.",))
    head = ("Limit", "Holds while", "Worst met", "Margin", "Unit", "Verdict")
    caption = "Every limit with the worst value met and the distance left; a negative margin is a violation"
    return Section("limits", title, (), (Table(caption, head, rows),))


def _alarm_section(run: Run, given: ReportInput) -> Section:
    head = ("Alarm", "Time", "Value", "Threshold", "Unit", "What happened")
    if given.record is not None:
        rows = tuple(
            (
                Cell(spoken(alarm.name)),
                Cell(alarm.utc),
                number(alarm.value, 2),
                number(alarm.threshold, 2),
                Cell(alarm.unit),
                Cell(alarm.text),
            )
            for alarm in given.record.record.alarms
        )
    else:
        rows = tuple(
            (
                Cell(spoken(event.source)),
                Cell(_utc_text(event.utc_s)),
                Cell(NOTHING),
                Cell(NOTHING),
                Cell(""),
                Cell(_short_json(event.content), code=True),
            )
            for event in run.events("alarm")
        )
    if not rows:
        return Section("alarms", "Alarms", ("No alarm was raised.",))
    return Section("alarms", "Alarms", (), (Table("Warnings of limits and of the stress rules", head, rows),))


def _use_section(given: ReportInput) -> Section | None:
    if given.record is None:
        return None
    use = given.record.record.battery_use
    named = (
        ("State of charge at the begin", use.soc_begin_percent, "%", 1, "soc_begin_percent"),
        ("State of charge at the end", use.soc_end_percent, "%", 1, "soc_end_percent"),
        ("Charge moved, in and out", use.throughput_ah, "Ah", 2, "throughput_ah"),
        ("Equivalent full cycles", use.equivalent_full_cycles, "1", 4, "equivalent_full_cycles"),
        ("Coldest pack sensor", use.pack_temperature_min_c, "°C", 1, "pack_temperature_min_c"),
        ("Hottest pack sensor", use.pack_temperature_max_c, "°C", 1, "pack_temperature_max_c"),
        ("State of health", use.soh_percent, "%", 2, "soh_percent"),
    )
    rows = tuple(
        (Cell(name), number(value, decimals), Cell(unit), Cell(use.reasons.get(key, ""), "warn"))
        for name, value, unit, decimals, key in named
    )
    table = Table(f"As read from {use.witness}", ("Quantity", "Value", "Unit", "Why there is no value"), rows)
    return Section("use", "What the battery went through", (), (table,))


def _ledger_section(given: ReportInput) -> Section:
    title = "Ledger receipts"
    if given.summary is None:
        return _missing("ledger", title, given, "summary")
    receipts = list(_receipts(given.summary.get("ledger")))
    if not receipts:
        return Section("ledger", title, ("The run appended nothing to a ledger.",))
    rows = tuple(
        (
            Cell(str(receipt.get("channel", channel))),
            Cell(str(receipt.get("index", NOTHING)), number=True),
            Cell(str(receipt.get("size", NOTHING)), number=True),
            Cell(str(receipt.get("tx_id", NOTHING)), code=True),
            Cell(str(receipt.get("leaf_hash", NOTHING)), code=True),
        )
        for channel, receipt in receipts
    )
    head = ("Channel", "Entry", "Entries then", "Transaction", "Leaf hash (RFC 6962)")
    words = ("Each channel is a log of its own; who may read it is decided by the reader's role.",)
    return Section("ledger", title, words, (Table("Where the record was appended", head, rows),))


def _settlement_section(given: ReportInput) -> Section:
    title = "Settlement"
    if given.settlement is None:
        return _missing("settlement", title, given, "settlement")
    receipt = given.settlement.get("receipt")
    body = receipt if isinstance(receipt, Mapping) else given.settlement
    over_lightning = lightning_settlement_section(body)
    if over_lightning is not None:
        return over_lightning
    rows = tuple((Cell(spoken(name)), _money_or_text(name, value)) for name, value in flat(body))
    words = ("Money moves only after the usage record verified. Amounts are integers of micro-euro, shown in euro.",)
    return Section("settlement", title, words, (Table("Settlement receipt", ("What", "Value"), rows),))


def _network_section(given: ReportInput) -> Section | None:
    if given.network is not None:
        return network_section(given.network)
    return _missing("network", "Lightning network", given, "network") if "network" in given.absent else None


def _certificate_section(run: Run, given: ReportInput) -> Section:
    title = "Certificate, and how to check it"
    trust = Path(str((given.summary or {}).get("trust") or "trust.json")).name
    commands: tuple[str, ...] = (f"v2gbench verify {run.folder.name}/certificate.json --trust {trust}",)
    tables: list[Table] = []
    words: list[str] = []
    if given.certificate is None:
        words.append(f"There is no certificate: {given.absent.get('certificate', 'the run made none')}.")
        commands = ()
    else:
        words.append(
            "Anybody can check the certificate offline with the command below. The trust file names the keys that you "
            "believe in; without it the check can only say that nothing was changed, not who signed."
        )
        short = [
            (name, value)
            for name, value in flat(given.certificate)
            if not name.startswith(("@context", "proof @context", "type"))
        ]
        rows = tuple((Cell(name), Cell(clipped(str(value)), code=True)) for name, value in short[:60])
        tables.append(Table("The certificate in short", ("Member", "Value"), rows))
    if given.record is not None:
        tables += [_signer_table(given.record), _check_table(run, given.record)]
        words.append(f"SHA-256 of the usage record file: {given.record.sha256}.")
    else:
        words.append(f"There is no usage record: {given.absent.get('record', 'the run made none')}.")
    return Section("certificate", title, tuple(words), tuple(tables), commands=commands)


def _signer_table(signed: SignedRecord) -> Table:
    blocks = [(signed.signature, "station", "the whole usage record")]
    blocks += [(witness.signature, witness.statement.role, "its own energies") for witness in signed.record.witnesses]
    rows = tuple(
        (Cell(block.signer), Cell(spoken(role)), Cell(what), Cell(block.key_id, code=True))
        for block, role, what in blocks
    )
    return Table("Who signed", ("Signer", "Role", "Signed", "Key"), rows)


def _check_table(run: Run, signed: SignedRecord) -> Table:
    def row(what: str, holds: bool) -> tuple[Cell, Cell]:
        return Cell(what), Cell("holds", "good") if holds else Cell("does not hold", "bad")

    rows = [row(f"signature of the station {signed.record.station.name}", signed.holds())]
    rows += [row(f"signature of the witness {w.statement.witness}", w.holds()) for w in signed.record.witnesses]
    rows.append(row("hash of the samples against run.sqlite", _samples_hold(run, signed)))
    return Table("Checked while this page was made (no replacement for the command)", ("Check", "Result"), tuple(rows))


def _samples_hold(run: Run, signed: SignedRecord) -> bool:
    """Whether the record rests on this run's samples: on all of them, or on those up to the session's end."""
    stated = signed.record.samples.sha256
    if stated == run.samples_sha256():
        return True
    cycles = run.cycles()
    inside = cycles[cycles[:, 2] <= _utc_s(signed.record.session.end) + _HALF_MILLISECOND_S]
    return len(inside) > 0 and stated == run.samples_sha256(last_cycle=int(inside[-1, 0]))


def _asset_section(given: ReportInput) -> Section | None:
    if given.record is None:
        return None
    rows = tuple(
        (
            Cell(asset.name),
            Cell(asset.value if asset.value is not None else NOTHING, code=asset.value is not None),
            Cell(asset.unit),
            Cell(asset.source or NOTHING, "" if asset.source else "muted"),
            Cell(spoken(asset.data_type) if asset.data_type else NOTHING),
            Cell(", ".join(asset.channels)),
            Cell(asset.reason or "", "warn"),
        )
        for asset in given.record.record.asset
    )
    head = ("Field", "Value", "Unit", "Source", "Data type", "Channels", "Why there is no value")
    words = (
        "The fields of the informational asset of Augello, Gallo, Riva Sanseverino, Sciabica and Sciumè (battery "
        "certification for V2G), in its encoding."
    )
    table = Table("Asset fields", head, rows)
    return Section("asset", "Asset fields", (words,), (table,) if rows else (), folded=True)


def _set_point_section(run: Run) -> Section | None:
    changed = [point for point in run.set_points() if point.refused or point.clamped_by != "nobody"]
    total = len(run.set_points())
    if not total:
        return None
    title = "Set-points that were clamped or refused"
    if not changed:
        return Section("set-points", title, (f"All {total} set-points were accepted as asked.",))
    rows = tuple(
        (
            Cell(f"{point.mono_s / 60:.2f}", number=True),
            number(point.requested_w, 0),
            number(point.accepted_w, 0),
            Cell(point.clamped_by),
            Cell("refused" if point.refused else "clamped", "warn"),
            Cell(NOTHING if point.code is None else str(point.code)),
        )
        for point in changed[:_EVENTS_SHOWN]
    )
    head = ("Time (min)", "Asked (W)", "In force (W)", "By", "Result", "Code")
    words = (f"{len(changed)} of {total} set-points were not accepted as asked.",)
    return Section("set-points", title, words, (Table(title, head, rows),), folded=len(rows) > 20)


def _event_section(run: Run) -> Section | None:
    events = run.events()
    if not events:
        return None
    rows = tuple(
        (
            Cell(f"{event.mono_s:.1f}", number=True),
            Cell(event.source),
            Cell(spoken(event.kind)),
            Cell(clipped(_short_json(event.content)), code=True),
        )
        for event in events[:_EVENTS_SHOWN]
    )
    words: tuple[str, ...] = ()
    if len(events) > _EVENTS_SHOWN:
        words = (f"The first {_EVENTS_SHOWN} of {len(events)} events; all are in run.sqlite.",)
    table = Table("Events", ("Time (s)", "Source", "Kind", "Content"), rows)
    return Section("events", "Events", words, (table,), folded=True)


def _station_section(run: Run, given: ReportInput) -> Section:
    tables = []
    if given.record is not None:
        rows = tuple(
            (
                Cell(device.name),
                Cell(spoken(device.role)),
                Cell(device.driver),
                Cell(device.material.value, "good" if device.material.value == "measured" else "warn"),
                Cell(f"{device.manufacturer} {device.model}".strip()),
                Cell(device.serial, code=True),
                Cell(device.firmware),
            )
            for device in given.record.record.devices
        )
        head = ("Device", "Role", "Driver", "Material", "Make and model", "Serial", "Firmware")
        tables.append(Table("Devices, as they answered when they were opened", head, rows))
    facts = tuple((Cell(spoken(name)), Cell(clipped(str(value)), code=True)) for name, value in flat(run.manifest))
    tables.append(Table("The run's manifest", ("What", "Value"), facts))
    return Section("station", "Station and run", (), tuple(tables), folded=True)


def _missing(key: str, title: str, given: ReportInput, part: str) -> Section:
    return Section(key, title, (f"Not available: {given.absent.get(part, 'the run folder does not hold it')}.",))


# Small helpers --------------------------------------------------------------------------------------------------------


def _money_or_text(name: str, value: Json) -> Cell:
    if isinstance(value, int) and not isinstance(value, bool) and "micro" in name:
        whole, rest = divmod(abs(value), 1_000_000)
        return Cell(f"{MINUS if value < 0 else ''}{whole}.{rest:06d} €")
    return Cell(clipped(str(value)), code=isinstance(value, str) and len(value) > 30)


def _receipts(found: Json, channel: str = "") -> Iterator[tuple[str, Mapping[str, Json]]]:
    if isinstance(found, Mapping):
        if "leaf_hash" in found:
            yield channel, found
            yield from _receipts(found.get("derived"), channel)
        else:
            for name, inner in found.items():
                yield from _receipts(inner, name)
    elif isinstance(found, Sequence) and not isinstance(found, str):
        for inner in found:
            yield from _receipts(inner, channel)


def _short_json(content: Json) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True)


def _quantity(name: str) -> str:
    """A key like `pack_temperature_c` in words; its unit has a column of its own."""
    words, _, unit = name.rpartition("_")
    return spoken(words if words and unit in _UNIT_ENDINGS else name)


def _utc_s(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def _utc_text(utc_s: float) -> str:
    return dt.datetime.fromtimestamp(utc_s, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
