"""`v2gbench replay LOG`: a recording of a real vehicle becomes a run folder, a usage record and a report.

The log is read once, as a stream. Each sample goes into the run folder as readings under the names that a session on
the bench would give them, so that the report and every reader of run folders work alike; and at most once in
`REPORT_EVERY_S`, and at once when gear, plug or charge mode change, it is reported to the monitoring contract, as the
owner's phone does (source `obd`). Then the record is made, signed, anchored and certified; nobody is paid.

Nothing is filled in. A value that goes missing is recorded once as missing; a log without plug state is reported only
where another value implies it (a vehicle that charges is connected, one that drives is not); a log whose clock is not
absolute counts from 1970-01-01T00:00:00Z, and its record says so in every field that would hold a date.

A log that turns out to be unreadable leaves no run folder behind.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bench.assets import asset
from bench.commands.replay_record import NOT_RECONCILED, Recording, Tally, energy_reason, make_record, raised_alarms
from bench.desk import Keyring
from bench.station import Station, load_station
from drivers.errors import ConfigError
from drivers.readings import Quality
from ledgers.canonical import Json, to_canonical
from ledgers.certificate import LedgerEvidence, issue_certificate, write_record
from ledgers.embedded.ledger import EmbeddedLedger
from ledgers.errors import ContractRefused
from ledgers.evidence import write_atomically, write_trust_file
from ledgers.ports import Member, Receipt
from ledgers.records import Direction, EnergyFigure, Plane, SignedRecord
from reports.html import write_report
from reports.run import Event, ReadingRow, RunWriter
from twins.replay import FIELD_QUANTITIES, Dialect, LogError, ReplaySample, Summary, open_log
from twins.replay import Progress as ReadProgress

REPLAY_SCHEMA: Final = "v2gbench.replay/1.0"
SUMMARY_NAME: Final = "summary.json"
PERIOD_S: Final = 1.0  # samples are at least so far apart
REPORT_EVERY_S: Final = 10.0  # as the bench itself reports a vehicle behind an adapter
NO_OCMF: Final = "a recording has no charger whose meter signed"
NO_SETTLEMENT: Final = "a recording of another day is not paid for"

_CURRENT_HOLDS_S: Final = 60.0  # longest interval over which a current is taken to go on
_DRIVEN_GEARS: Final = frozenset({2, 4, 7})
_MOVING_KMH: Final = 3.0
_SHOWN: Final = 12  # refusals, charges and events in the text


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of a recording: what it holds, and where everything was written."""

    log: Summary
    record: SignedRecord
    record_path: Path
    certificate: Path
    trust: Path
    report: Path
    folder: Path
    vehicle: str
    reports: int  # to the contract
    notes: tuple[str, ...]
    state: Mapping[str, Json]
    receipts: Mapping[str, list[dict[str, Json]]]

    def document(self) -> dict[str, Json]:
        """The result for programs, ready for JSON."""
        record = self.record.record
        return {
            "schema": REPLAY_SCHEMA,
            "material": record.station.material.value,
            "log": cast("dict[str, Json]", self.log.as_json()),
            "energy_import_wh": _figure(record.energy.figure(self.vehicle, Plane.DC, Direction.IMPORT)),
            "energy_export_wh": _figure(record.energy.figure(self.vehicle, Plane.DC, Direction.EXPORT)),
            "reconciliation": {"verdict": record.reconciliation.verdict.value, "reason": NOT_RECONCILED},
            "contract": {"reports": self.reports, "vehicle": dict(self.state)},
            "alarms": [
                {"name": alarm.name, "utc": alarm.utc, "value": alarm.value, "limit": alarm.threshold}
                for alarm in record.alarms
            ],
            "notes": list(self.notes),
            "settlement": {"status": "none", "reason": NO_SETTLEMENT},
            "ocmf": [],
            "ledger": {channel: list(found) for channel, found in self.receipts.items()},
            "usage_record": str(self.record_path),
            "certificate": str(self.certificate),
            "trust": str(self.trust),
            "report": str(self.report),
            "run": str(self.folder),
        }

    def text(self) -> str:
        """The result for people."""
        log, record = self.log, self.record.record
        start = "no absolute clock" if log.start_utc_s is None else _iso(log.start_utc_s)
        buses = ", ".join(bus.title for bus in log.buses if bus.bus)
        lines = [
            f"{log.file}: {log.dialect.value}, {log.records} records, {log.duration_s:.1f} s from {start}"
            + (f", {buses}" if buses else "")
        ]
        lines += _quantity_lines(log)
        lines += [f"not in the log: {absence.reason}" for absence in log.absences]
        lines += _charge_lines(log)
        lines += [f"note: {note}" for note in (*self.notes, *log.warnings, *log.assumptions)]
        figures = [(word, record.energy.of(direction)[0]) for word, direction in _DIRECTIONS]
        for word, figure in figures:
            if figure.value_wh is None:
                lines.append(f"energy: none stated, because {figure.reason}")
                break
            lines.append(f"energy {word} the pack: {figure.value_wh:.1f} ± {figure.expanded_uncertainty_wh:.1f} Wh")
        lines.append(f"witnesses: not judged, because {NOT_RECONCILED}")
        raised = Counter(alarm.name for alarm in record.alarms)
        lines.append(f"contract: {self.reports} reports, {len(record.alarms)} alarms raised")
        lines += [f"  {count} times {name}" for name, count in sorted(raised.items())]
        lines += [f"certificate: {self.certificate}", f"trust: {self.trust}", f"report: {self.report}"]
        lines.append(f"check it: v2gbench verify {self.certificate} --trust {self.trust}")
        return "\n".join(lines)


def replay_log(
    log: Path, *, dialect: str | None = None, station: Path | None = None, runs: Path | None = None, show: bool = False
) -> ReplayResult:
    """Read a recording, record and report it, and certify what it says.

    `station` gives names and keys (the emulated one by default), `runs` is where the run folder goes; `show` draws a
    progress bar on a terminal. Raises ConfigError (LogError among them) in one sentence for a log that is missing,
    empty, of another or no known dialect, or of no known vehicle, and for a station without a vehicle.
    """
    loaded = load_station(station or asset("stations/emulated.yaml"))
    vehicle = loaded.device_of("vehicle")
    if vehicle is None:
        raise ConfigError(f"{loaded.path} has no vehicle, whose key would sign; add a device with 'role: vehicle'")
    with _progress(log, show=show and sys.stderr.isatty()) as progress:
        opened = open_log(log, dialect, period_s=PERIOD_S, progress=progress)
        samples = opened.samples()
        first = next(samples, None)
        if first is None:
            records = opened.summary().records
            raise ConfigError(f"{log}: {records} records were read, but none of a known vehicle; nothing to certify")
        replay = _Replay(loaded, vehicle, log, opened.dialect, first, runs or loaded.runs_folder)
        try:
            replay.take(itertools.chain([first], samples))
            return replay.finish(opened.summary())
        except LogError:
            replay.discard()
            raise
        finally:
            replay.close()


_DIRECTIONS: Final = (("into", Direction.IMPORT), ("out of", Direction.EXPORT))
_UNITS: Final = {
    "percent": "%",
    "ah": "Ah",
    "v": "V",
    "a": "A",
    "w": "W",
    "wh": "Wh",
    "c": "degC",
    "km": "km",
    "kmh": "km/h",
    "kohm": "kOhm",
    "rpm": "1/min",
}
_RENAMED: Final = {"ambient": "ambient_temperature"}
_DC_CHARGER: Final = "dc_charger"  # the one in the recording, not the station's


@dataclass(slots=True)
class _Clock:
    """The recording's own time."""

    base_utc_s: float
    mono_s: float = 0.0

    @property
    def utc_s(self) -> float:
        """UTC of the sample at hand; from 1970 where the logger had no absolute clock."""
        return round(self.base_utc_s + self.mono_s, 3)


@dataclass(slots=True)
class _Contract:
    """Reports to the monitoring contract, and what came of them."""

    last_s: float = -math.inf
    last_state: tuple[object, ...] = ()
    reports: int = 0
    unknown_plug: int = 0
    refusals: list[str] = field(default_factory=list)


class _Replay:
    """One recording on its way into one run folder."""

    def __init__(
        self, station: Station, vehicle: str, log: Path, dialect: Dialect, first: ReplaySample, runs: Path
    ) -> None:
        self._station = station
        self._vehicle = vehicle
        self._is_can = dialect.is_can
        self._keyring = Keyring(station)
        self._clock = _Clock(0.0 if first.utc_s is None else first.utc_s - first.time_s)
        with log.open("rb") as file:
            self._file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        begin = datetime.fromtimestamp(self._clock.base_utc_s, UTC)
        self._session_id = f"{begin:%Y%m%dT%H%M%SZ}.replay.{self._file_sha256[:8]}"
        self._sources = _source_table(vehicle)
        self._present: set[str] = set()
        self._tally = Tally()
        self._contract = _Contract()
        self._receipts: dict[str, list[Receipt]] = {"monitoring": [], "remuneration": [], "alarms": []}
        manifest: dict[str, Json] = {
            "station_file_sha256": station.sha256,
            "material": "replayed",
            "recording": log.name,
            "recording_sha256": self._file_sha256,
            "dialect": dialect.value,
            "session_id": self._session_id,
        }
        self._writer = RunWriter.create(
            runs, plan="replay", station=station.name, stepped=True, manifest=manifest, now_s=lambda: self._clock.mono_s
        )
        try:
            self._ledger = EmbeddedLedger(
                self._writer.folder / "ledger",
                origin=self._origin,
                log_key=self._keyring.log,
                contract_identity=self._keyring.party("contract"),
                members=[Member.of(identity) for identity in self._keyring.parties],
                clock_utc_s=lambda: self._clock.utc_s,
                fsync=False,
            )
        except BaseException:
            self._writer.close(verdict="aborted", reason="its ledger could not be opened")
            raise

    @property
    def _origin(self) -> str:
        return f"v2gbench.{self._station.name}"

    def take(self, samples: Iterator[ReplaySample]) -> None:
        """Record and report all samples, in their order."""
        before: ReplaySample | None = None
        for sample in samples:
            # Rows may come faster than the period; what a CAN log gives is a mean over it already.
            if not self._is_can and before is not None and sample.time_s - before.time_s < PERIOD_S:
                continue
            self._clock.mono_s = sample.time_s
            self._record(sample)
            self._report(sample)
            self._add_up(before, sample)
            before = sample

    def finish(self, summary: Summary) -> ReplayResult:
        """Make the record of everything that was taken, certify it and write the report."""
        self._record_findings(summary)
        folder, records = self._writer.folder, self._writer.folder / "records"
        keyring = self._keyring
        owner = keyring.party("ev_owner")
        state = self._vehicle_state()
        signed = make_record(
            Recording(
                station=self._station,
                vehicle=self._vehicle,
                session_id=self._session_id,
                file_sha256=self._file_sha256,
                summary=summary,
                tally=self._tally,
                base_utc_s=self._clock.base_utc_s,
                period_s=PERIOD_S,
                samples_sha256=self._writer.samples_sha256(),
                state=state,
                alarms=raised_alarms(self._ledger.events("alarms", 0, owner)),
            ),
            keyring,
        )
        record_path = write_record(records / "usage_record.json", signed)
        self._clock.mono_s = max(self._clock.mono_s, summary.duration_s)
        receipt = self._submit(
            "usage",
            {
                "session_id": self._session_id,
                "vehicle_id": self._vehicle,
                "record_sha256": signed.sha256,
                "utc_s": self._clock.utc_s,
            },
            "charging_station",
        )
        proof = self._ledger.prove(receipt)
        entry = write_atomically(records / "monitoring.entry.json", self._ledger.entry(receipt, owner))
        text = write_atomically(records / "monitoring.tlog-proof", proof.text.encode())
        certificate = issue_certificate(
            folder,
            record=record_path,
            ocmf=None,
            ledger=[LedgerEvidence("monitoring", proof.origin, proof.public_key_der, text, entry)],
            settlement_receipt=None,
            issuer=keyring.station,
            valid_from=signed.record.session.end,
            missing={"ocmf": NO_OCMF, "settlement": NO_SETTLEMENT},
        )
        trust = write_trust_file(folder.parent / f"{self._station.name}.trust.json", keyring.trusted(self._origin))
        self._writer.close(verdict="replayed", reason=NOT_RECONCILED)
        result = ReplayResult(
            log=summary,
            record=signed,
            record_path=record_path,
            certificate=certificate,
            trust=trust,
            report=folder / "report.html",
            folder=folder,
            vehicle=self._vehicle,
            reports=self._contract.reports,
            notes=self._notes(summary),
            state=state,
            receipts={channel: [each.to_json() for each in found] for channel, found in self._receipts.items()},
        )
        write_atomically(folder / SUMMARY_NAME, (json.dumps(result.document(), indent=2) + "\n").encode())
        write_report(folder)
        return result

    def discard(self) -> None:
        """Take the run folder away again, which holds nothing but a part of a log that could not be read."""
        self.close()
        shutil.rmtree(self._writer.folder)

    def close(self) -> None:
        """Let go of ledger and run folder; may be called twice."""
        self._ledger.close()
        self._writer.close(verdict="aborted", reason="the recording was not read to its end")

    # Recording

    def _record(self, sample: ReplaySample) -> None:
        mono_s, utc_s = self._clock.mono_s, self._clock.utc_s
        values = sample.values()
        rows: list[ReadingRow] = []
        for quantity, value in values.items():
            source, unit = self._sources[quantity]
            rows.append((value, unit, mono_s, utc_s, source, Quality.GOOD.value))
        for quantity in sorted(self._present - values.keys()):
            source, unit = self._sources[quantity]
            rows.append((math.nan, unit, mono_s, utc_s, source, Quality.NO_DATA.value))
        self._present = set(values)
        self._writer.record_cycle(self._tally.samples, mono_s, utc_s, rows, None, ())
        self._tally.samples += 1

    def _add_up(self, before: ReplaySample | None, sample: ReplaySample) -> None:
        tally = self._tally
        if sample.pack_power_w is not None:
            tally.largest_power_w = max(tally.largest_power_w, abs(sample.pack_power_w))
        if before is None or before.pack_current_a is None or sample.pack_current_a is None:
            return
        step_s = sample.time_s - before.time_s
        if 0.0 < step_s <= _CURRENT_HOLDS_S:
            tally.throughput_ah += 0.5 * abs(before.pack_current_a + sample.pack_current_a) * step_s / 3600.0
            tally.current_s += step_s

    def _record_findings(self, summary: Summary) -> None:
        """What was found in the log as events, so that run folder and report tell it too."""
        found: list[tuple[float, str, dict[str, Json]]] = [
            (event.time_s, event.kind, {"text": event.text}) for event in summary.timeline
        ]
        found += [
            (
                charge.begin_s,
                f"{charge.kind.value}_charge",
                {
                    "from_percent": charge.begin_soc_percent,
                    "to_percent": charge.end_soc_percent,
                    "end_s": charge.end_s,
                    "estimated_wh": charge.energy_wh,
                    "logger_was_off": charge.jump,
                },
            )
            for charge in summary.charges
        ]
        end_s = summary.duration_s
        found += [(end_s, "absent", {"quantity": item.quantity, "reason": item.reason}) for item in summary.absences]
        found += [(end_s, "warning", {"text": text}) for text in summary.warnings]
        found += [(end_s, "assumption", {"text": text}) for text in summary.assumptions]
        base_utc_s = self._clock.base_utc_s
        for time_s, kind, content in found:
            self._writer.record_event(Event(time_s, base_utc_s + time_s, "recording", kind, content))

    # The contract

    def _report(self, sample: ReplaySample) -> None:
        contract = self._contract
        plug_state = _plug_state(sample)
        if plug_state is None:
            contract.unknown_plug += 1
            return
        state = (plug_state, sample.gear, sample.charge_mode)
        if sample.time_s - contract.last_s < REPORT_EVERY_S and state == contract.last_state:
            return
        contract.last_s, contract.last_state = sample.time_s, state
        document = _observation(self._vehicle, self._clock.utc_s, plug_state, sample)
        try:
            self._submit("observe", document, "ev_owner")
        except ContractRefused as refusal:
            contract.refusals.append(str(refusal))
        else:
            contract.reports += 1

    def _submit(self, function: str, document: Mapping[str, Json], role: str) -> Receipt:
        text = to_canonical(document).decode().rstrip("\n")
        receipt = self._ledger.submit("monitoring", "monitoring", function, text, identity=self._keyring.party(role))
        for written in (receipt, *receipt.derived):
            self._receipts[written.channel].append(written)
        return receipt

    def _vehicle_state(self) -> Mapping[str, Json]:
        if not self._contract.reports:
            return {}
        question = to_canonical({"vehicle_id": self._vehicle}).decode().rstrip("\n")
        answer = self._ledger.evaluate(
            "monitoring", "monitoring", "vehicle", question, identity=self._keyring.party("ev_owner")
        )
        return cast("Mapping[str, Json]", json.loads(answer))

    def _notes(self, summary: Summary) -> tuple[str, ...]:
        notes = []
        contract = self._contract
        if not summary.clock.absolute:
            notes.append("the logger has no absolute clock, so times count from 1970-01-01T00:00:00Z")
        if contract.unknown_plug:
            why = summary.absence("vehicle.plug_state") or "the log does not always give the plug state"
            notes.append(
                f"{contract.unknown_plug} of {self._tally.samples} samples were not reported to the contract, which "
                f"needs the plug state: {why}, and neither charging nor driving implied it"
            )
        if contract.refusals:
            notes.append(
                f"the contract refused {len(contract.refusals)} reports, the first because {contract.refusals[0]}"
            )
        reason = energy_reason(summary)
        if reason is not None:
            notes.append(f"no energy is stated: {reason}")
        return tuple(notes)


def _source_table(vehicle: str) -> dict[str, tuple[str, str]]:
    """Quantity of a sample to the source and unit under which a session on the bench would record it."""
    table = {}
    for quantity in FIELD_QUANTITIES.values():
        device, _, name = quantity.partition(".")
        stem, _, ending = name.rpartition("_")
        unit = _UNITS.get(ending, "1")
        stem = stem if ending in _UNITS else name
        owner = vehicle if device == "vehicle" else _DC_CHARGER
        table[quantity] = (f"{owner}.{_RENAMED.get(stem, stem)}", unit)
    return table


def _plug_state(sample: ReplaySample) -> int | None:
    """The plug state that the log gives or that something else implies; None where nothing does."""
    if sample.plug_state is not None:
        return int(sample.plug_state)
    if sample.charge_mode is not None and sample.charge_mode > 0:
        return 2
    moving = sample.speed_kmh is not None and sample.speed_kmh > _MOVING_KMH
    if moving or (sample.gear is not None and int(sample.gear) in _DRIVEN_GEARS):
        return 0
    return None


def _observation(vehicle: str, utc_s: float, plug_state: int, sample: ReplaySample) -> dict[str, Json]:
    """What the owner's phone would have reported; what the log does not give is left out."""
    power_w = sample.pack_power_w if sample.pack_power_w is not None else sample.charger_power_w
    current_a = sample.pack_current_a if sample.pack_current_a is not None else sample.charger_current_a
    found: dict[str, Json] = {
        "vehicle_id": vehicle,
        "utc_s": utc_s,
        "source": "obd",
        "plug_state": plug_state,
        "charge_mode": None if sample.charge_mode is None else int(sample.charge_mode),
        "gear": None if sample.gear is None else int(sample.gear),
        "power_w": _rounded(power_w, 1),
        "current_a": _rounded(current_a, 3),
        "soc_percent": _rounded(sample.soc_percent, 4),
        "soh_percent": _rounded(sample.soh_percent, 2),
        "ambient_c": _rounded(sample.ambient_c, 1),
        "cell_voltage_v": _rounded(sample.cell_average_v, 4),
        "cell_voltage_min_v": _rounded(sample.cell_min_v, 4),
        "cell_voltage_max_v": _rounded(sample.cell_max_v, 4),
    }
    sensors = (
        sample.pack_temperature_1_c,
        sample.pack_temperature_2_c,
        sample.pack_temperature_3_c,
        sample.pack_temperature_4_c,
    )
    summed_up = (sample.pack_temperature_min_c, sample.pack_temperature_average_c, sample.pack_temperature_max_c)
    temperatures = [round(value, 1) for value in sensors if value is not None] or [
        round(value, 1) for value in summed_up if value is not None
    ]
    if temperatures:
        found["pack_temperatures_c"] = cast("list[Json]", temperatures)
    return {name: value for name, value in found.items() if value is not None}


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(value, decimals) + 0.0


def _figure(figure: EnergyFigure) -> dict[str, Json]:
    return {
        "vehicle": figure.value_wh,
        "expanded_uncertainty_wh": figure.expanded_uncertainty_wh,
        "reason": figure.reason,
    }


# Words ----------------------------------------------------------------------------------------------------------------


def _quantity_lines(log: Summary) -> list[str]:
    width = max((len(name) for name in log.quantities), default=0)
    lines = []
    for name, found in sorted(log.quantities.items()):
        unit = "" if found.unit == "1" else f" {found.unit}"
        void = f", {found.no_data} times sent as no data" if found.no_data else ""
        lines.append(
            f"  {name:{width}}  {found.first:g} to {found.last:g}{unit}, within {found.minimum:g} to {found.maximum:g}"
            f"{void}{'' if found.verified else ' (layout assumed)'}"
        )
    return lines


def _charge_lines(log: Summary) -> list[str]:
    lines = []
    for charge in log.charges[:_SHOWN]:
        energy = "" if charge.energy_wh is None else f", about {charge.energy_wh / 1000:.1f} kWh"
        off = ", the logger was off meanwhile" if charge.jump else ""
        lines.append(
            f"{charge.kind.value} charge from {charge.begin_soc_percent:.1f} to {charge.end_soc_percent:.1f} %{energy} "
            f"(lines {charge.begin_line} to {charge.end_line}{off})"
        )
    if len(log.charges) > _SHOWN:
        lines.append(f"and {len(log.charges) - _SHOWN} more charges")
    for session in log.chademo:
        parts = []
        for phase in session.phases:
            current = "" if phase.mean_current_a is None else f" at {phase.mean_current_a:.0f} A"
            parts.append(f"{phase.kind.value} {phase.end_s - phase.begin_s:.1f} s{current}")
        lines.append(f"CHAdeMO: {', '.join(parts)}")
    return lines


def _iso(utc_s: float) -> str:
    return f"{datetime.fromtimestamp(utc_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def _progress(log: Path, *, show: bool) -> Iterator[ReadProgress | None]:
    if not show:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"reading {log.name}", total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
