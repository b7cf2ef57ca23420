"""Results as JUnit XML, which every CI system draws: one test case per limit, grid order and pair of witnesses.

The attributes are those that Jenkins and GitLab read (testsuite: name, tests, failures, errors, skipped, timestamp;
testcase: classname, name, time). A comparison that could not be judged is *skipped* with its reason, never passed.
"""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ledgers.records import Agreement, LimitVerdict, SignedRecord
from reports.errors import RenderError
from reports.inputs import ReportInput, outcome_reason, outcome_word, read_report_input
from reports.run import Run


class Judgement(StrEnum):
    """What became of one measurement."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One judged measurement; `message` says what was found, and for a failure or a skip why."""

    group: str
    name: str
    judgement: Judgement
    message: str


def measurements_of(run: Run, given: ReportInput) -> tuple[Measurement, ...]:
    """The judged measurements of a run: its verdict, then limits, orders and pairs of its usage record."""
    word = outcome_word(run, given)
    finished = run.is_finished and word == "pass"
    reason = outcome_reason(run, given) or f"verdict {word}"
    verdict = Judgement.PASSED if finished else Judgement.FAILED
    found = [Measurement("run", "verdict", verdict, reason)]
    if given.record is None:
        reason = given.absent.get("record", "the run made no usage record")
        return (*found, Measurement("record", "usage record", Judgement.SKIPPED, reason))
    return (*found, *_limits(given.record), *_orders(given.record), *_pairs(given.record))


def junit_xml(suite: str, measurements: Sequence[Measurement], *, begin_utc_s: float, duration_s: float) -> bytes:
    """The measurements as JUnit XML in UTF-8; times are session times, so that equal runs give equal bytes."""
    counts = {judgement: sum(m.judgement is judgement for m in measurements) for judgement in Judgement}
    root = ET.Element(
        "testsuite",
        name=_legal(suite),
        tests=str(len(measurements)),
        failures=str(counts[Judgement.FAILED]),
        errors="0",
        skipped=str(counts[Judgement.SKIPPED]),
        timestamp=dt.datetime.fromtimestamp(begin_utc_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        time=f"{duration_s:.3f}",
    )
    for measurement in measurements:
        case = ET.SubElement(
            root, "testcase", classname=_legal(measurement.group), name=_legal(measurement.name), time="0"
        )
        if measurement.judgement is Judgement.FAILED:
            ET.SubElement(case, "failure", message=_legal(measurement.message)).text = _legal(measurement.message)
        elif measurement.judgement is Judgement.SKIPPED:
            ET.SubElement(case, "skipped", message=_legal(measurement.message))
        else:
            ET.SubElement(case, "system-out").text = _legal(measurement.message)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def write_junit(folder: Path) -> Path:
    """Make `junit.xml` from what the run folder holds; RunError or RenderError when that cannot be."""
    given = read_report_input(folder)
    with Run.open(folder) as run:
        cycles = run.cycles()
        begin_utc_s, duration_s = (float(cycles[0, 2]), float(cycles[-1, 1] - cycles[0, 1])) if len(cycles) else (0, 0)
        suite = f"{run.manifest.get('plan', 'run')} on {run.manifest.get('station', 'a station')}"
        data = junit_xml(suite, measurements_of(run, given), begin_utc_s=begin_utc_s, duration_s=duration_s)
    path = folder / "junit.xml"
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RenderError(f"cannot write {path}: {error}; check free space and permissions") from error
    return path


_AGREEMENT = {
    Agreement.AGREE: Judgement.PASSED,
    Agreement.DISAGREE: Judgement.FAILED,
    Agreement.NOT_JUDGED: Judgement.SKIPPED,
}
_LIMIT = {
    LimitVerdict.PASS: Judgement.PASSED,
    LimitVerdict.WARN: Judgement.PASSED,
    LimitVerdict.FAIL: Judgement.FAILED,
    LimitVerdict.NOT_JUDGED: Judgement.SKIPPED,
}
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def _limits(signed: SignedRecord) -> list[Measurement]:
    return [
        Measurement(
            "limits",
            limit.name,
            _LIMIT[limit.verdict],
            limit.reason or f"{limit.limit}, worst {limit.worst_value:g}, margin {limit.margin:g} {limit.unit}",
        )
        for limit in signed.record.limits
    ]


def _orders(signed: SignedRecord) -> list[Measurement]:
    found = []
    for order in signed.record.session.orders:
        message = order.reason or (
            f"ordered {order.requested_power_w:g} W, delivered {order.delivered_power_w:g} W and "
            f"{order.delivered_energy_wh:g} Wh, as measured by {order.measured_by}; "
            "not judged, for no limit is set on deliveries"
        )
        found.append(Measurement("orders", order.order_id, Judgement.SKIPPED, message))
    return found


def _pairs(signed: SignedRecord) -> list[Measurement]:
    found = [
        Measurement(
            "witnesses",
            f"energy {pair.direction.value} {pair.plane.value}: {pair.a} and {pair.b}",
            _AGREEMENT[pair.verdict],
            pair.reason or f"difference {pair.difference_wh:.1f} Wh, allowed {pair.allowed_wh:.1f} Wh",
        )
        for pair in signed.record.reconciliation.pairs
    ]
    found += [
        Measurement(
            "witnesses",
            f"{trace.quantity} {trace.plane.value}: {trace.a} and {trace.b}",
            _AGREEMENT[trace.verdict],
            trace.reason or f"found {trace.value:g} {trace.unit}, allowed {trace.allowed:g} {trace.unit}",
        )
        for trace in signed.record.reconciliation.traces
    ]
    return found


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
