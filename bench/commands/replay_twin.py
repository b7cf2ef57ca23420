"""`v2gbench replay LOG --twin`: the current of a recording through the pack twin, its voltage beside the car's.

What came of it goes to a folder of its own below the runs: `twin_replay.json`, with the errors, everything that was put
right or taken for granted, and the series that a report draws. Without `--pack`, the shipped packs are tried; a log of
a car that none of them is, is refused: a twin of another pack would be judged for what it is not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.commands.folders import new_folder, write_document
from bench.commands.matching import read_with_pack
from ledgers.canonical import Json
from reports.pack.twin_replay import write_replay_report
from twins.pack.identification import GapRise, Series
from twins.replay.twin import Errors, Judged, TwinReplay, Validity, replay_on_twin

TWIN_REPLAY_SCHEMA: Final = "v2gbench.twin-replay/1.0"
TWIN_REPLAY_NAME: Final = "twin_replay.json"
MOST_POINTS: Final = 4000
"""Points of each series in the document, gaps included."""

_MOST_GAPS: Final = 500
_SHOWN_GAPS: Final = 12
_DIGITS: Final = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TwinReplayResult:
    """What came of a log on a twin, and where it was written."""

    replay: TwinReplay
    log: Path
    log_sha256: str
    notes: tuple[str, ...]
    folder: Path

    @property
    def file(self) -> Path:
        """The document with the series."""
        return self.folder / TWIN_REPLAY_NAME

    @property
    def report(self) -> Path:
        """The document, drawn."""
        return self.folder / "report.html"

    def document(self, *, series: bool = False) -> dict[str, Json]:
        """The result for programs, ready for JSON; `series` adds what a report draws, at most 4000 points each."""
        replay = self.replay
        source = replay.series
        made: dict[str, Json] = {
            "schema": TWIN_REPLAY_SCHEMA,
            "material": "replayed",
            "log": {
                "file": source.name,
                "sha256": self.log_sha256,
                "rows": source.rows,
                "row_spacing_s": source.spacing_s,
                "duration_s": float(source.time_s[-1]),
                "begin_utc": _iso(source.start_utc_s),
                "capacity_ah": source.capacity_ah,
                "soh_percent": None if source.soh is None else 100.0 * source.soh,
            },
            "pack": {
                "name": replay.pack.name,
                "source": replay.pack.source,
                "soh_percent": 100.0 * replay.soh,
                "capacity_ah": replay.pack.capacity_ah * replay.soh,
                "start_soc_percent": 100.0 * replay.start_soc,
                "start_temperature_c": replay.start_temperature_c,
            },
            "driven_by": source.driven_by,
            "soc_is_input": source.driven_by == "reported SOC",
            "errors": {
                "voltage": _judged(replay.voltage),
                "temperature": None if replay.temperature is None else _judged(replay.temperature),
                "temperature_open_loop": None if replay.open_loop is None else _errors(replay.open_loop),
                "soc_points": None if replay.soc_points is None else _errors(replay.soc_points),
                "soc_not_judged": _soc_reason(replay),
                "temperature_not_judged": _temperature_reason(replay),
            },
            "limited": {
                "seconds": replay.limited_s,
                "ah": replay.limited_ah,
                "worst_current_a": replay.worst_current_a,
            },
            "gaps": _gaps(source, replay.gap_rises),
            "validity": _validity(replay.validity),
            "notes": list(self.notes),
            "run": str(self.folder),
            "file": str(self.file),
            "report": str(self.report),
        }
        if series:
            made["series"] = _series(replay)
        return made

    def text(self) -> str:
        """The result for people."""
        replay = self.replay
        source = replay.series
        car = "" if source.capacity_ah is None else f", {source.capacity_ah:.1f} Ah reported"
        on = f"{replay.pack.name} at {100 * replay.soh:.1f} % SOH from {100 * replay.start_soc:.1f} %"
        over = f"{source.rows} rows over {_hours(float(source.time_s[-1]))}, {source.spacing_s:.0f} s apart"
        lines = [f"{source.name}: {over}{car}, on {on}", f"driven by {_DRIVERS[source.driven_by]}"]
        lines += _judged_lines("voltage", replay.voltage)
        if replay.temperature is None:
            lines.append(f"temperature: not judged, because {_temperature_reason(replay)}")
        else:
            lines += _judged_lines("temperature", replay.temperature)
            if replay.open_loop is not None and source.gap.any():
                lines.append(f"  begun only once: {replay.open_loop.rmse:.2f} K rms")
        if replay.soc_points is None:
            lines.append(f"SOC: not judged, because {_soc_reason(replay)}")
        else:
            lines.append(f"SOC: {_said(replay.soc_points, 'points')}")
        lines += _gap_lines(source, replay.gap_rises)
        lines += [f"validity: {warning}" for warning in replay.validity.warnings]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{self.file}", f"report: {self.report}"]
        return "\n".join(lines)


def replay_log_on_twin(
    log: Path, *, pack: str | None = None, temperature_unit: str = "auto", runs: Path | None = None
) -> TwinReplayResult:
    """Replay a log on a pack twin and write `twin_replay.json` and a report.

    `pack` is a shipped one by name, or a pack file; left out, the first shipped one that the log fits.
    `temperature_unit` (C, F, auto) is that of columns that name none. Raises ConfigError (LogError among them) in one
    sentence for a log that is missing, unreadable, cannot drive a twin or is of another car, and an unknown pack.
    """
    with new_folder(runs, f"twin-{log.stem}") as folder:
        chosen, series, notes = read_with_pack(log, pack, temperature_unit=temperature_unit, done="replayed on")
        replay = replay_on_twin(series, chosen)
        with log.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        result = TwinReplayResult(replay, log, sha256, (*notes, *replay.notes), folder)
        write_document(folder, TWIN_REPLAY_NAME, result.document(series=True), write_replay_report)
        return result


_DRIVERS: Final = {
    "current": "the log's own current; SOC is a result",
    "reported SOC": (
        "the charge of reported SOC and capacity, the spot current for the last seconds of a row only; SOC is an input"
        " here, not a result"
    ),
}


def _soc_reason(replay: TwinReplay) -> str | None:
    if replay.soc_points is not None:
        return None
    if replay.series.driven_by == "reported SOC":
        return "it drives the twin: it is an input, not a result"
    return "the log has none"


def _temperature_reason(replay: TwinReplay) -> str | None:
    if replay.temperature is not None:
        return None
    return "the log has no pack temperature"


def _errors(each: Errors) -> dict[str, Json]:
    return {
        "rows": each.rows,
        "rmse": each.rmse,
        "bias": each.bias,
        "worst_minute": each.worst_minute,
        "worst_minute_at_s": each.worst_minute_at_s,
    }


def _judged(each: Judged) -> dict[str, Json]:
    named = (("ocv_only", each.ocv_only), ("persistence", each.persistence), ("row_before", each.row_before))
    return {
        "unit": each.unit,
        "level": each.level,
        "twin": _errors(each.twin),
        **{name: None if found is None else _errors(found) for name, found in named},
    }


def _gaps(series: Series, rises: Sequence[GapRise]) -> dict[str, Json]:
    places = np.flatnonzero(series.gap).tolist()
    lengths_s = [float(series.time_s[place] - series.time_s[place - 1]) for place in places]
    risen = {rise.begin_s: rise for rise in rises}
    listed: list[Json] = []
    for place, length_s in zip(places[:_MOST_GAPS], lengths_s, strict=False):
        begin_s = float(series.time_s[place - 1])
        rise = risen.get(begin_s)
        listed.append(
            {
                "begin_s": begin_s,
                "length_s": length_s,
                "mean_current_a": _finite(float(series.interval_a[place])),
                "rapid_charge": bool(series.rapid[place]),
                "measured_k": None if rise is None else rise.measured_k,
                "twin_k": None if rise is None else rise.predicted_k,
            }
        )
    return {
        "count": len(places),
        "longest_s": max(lengths_s, default=0.0),
        "total_s": sum(lengths_s),
        "rapid_charges": int((series.gap & series.rapid).sum()),
        "list": listed,
    }


def _validity(each: Validity) -> dict[str, Json]:
    return {
        "log_soc_percent": None if each.soc_percent is None else list(each.soc_percent),
        "log_temperature_c": None if each.temperature_c is None else list(each.temperature_c),
        "log_new_capacity_ah": each.new_capacity_ah,
        "pack_capacity_ah": each.pack_capacity_ah,
        "identified": list(each.identified),
        "not_identified": list(each.not_identified),
        "warnings": list(each.warnings),
    }


def _series(replay: TwinReplay) -> dict[str, Json]:
    source = replay.series
    places = _picked(source)
    columns = {
        "time_s": source.time_s,
        "voltage_v": source.voltage_v,
        "twin_voltage_v": replay.voltage_v,
        "ocv_only_voltage_v": replay.ocv_only_v,
        "temperature_c": source.temperature_c,
        "twin_temperature_c": replay.temperature_c,
        "open_loop_temperature_c": replay.open_loop_c,
        "ambient_c": source.ambient_c,
        "soc_percent": 100.0 * source.soc,
        "twin_soc_percent": 100.0 * replay.soc,
        "current_a": source.current_a,
        "interval_current_a": source.interval_a,
    }
    return {
        "every_nth_row": int(_stride(source)),
        **{
            name: [None if place < 0 else _finite(float(values[place])) for place in places]
            for name, values in columns.items()
        },
    }


def _stride(series: Series) -> int:
    kept = MOST_POINTS - min(int(series.gap.sum()), MOST_POINTS // 2)
    return max(1, math.ceil(series.rows / kept))


def _picked(series: Series) -> list[int]:
    """Every n-th row, with -1 for a null where a gap lies between two of them."""
    gaps_before = np.cumsum(series.gap)
    picked: list[int] = []
    for place in range(0, series.rows, _stride(series)):
        if picked and gaps_before[place] > gaps_before[picked[-1]]:
            picked.append(-1)
        picked.append(place)
    return picked


def _judged_lines(name: str, each: Judged) -> list[str]:
    share = f" ({100 * each.twin.rmse / each.level:.2f} %)" if each.unit == "V" else ""
    lines = [f"{name}: {_said(each.twin, each.unit, share)}"]
    baselines = (
        ("the curve without resistance", each.ocv_only),
        ("first value stays", each.persistence),
        ("value of the row before", each.row_before),
    )
    said = [f"{title} {found.rmse:.2f} {each.unit}" for title, found in baselines if found is not None]
    if said:
        lines.append(f"  baselines: {', '.join(said)}")
    return lines


def _said(each: Errors, unit: str, share: str = "") -> str:
    return (
        f"{each.rmse:.2f} {unit} rms{share}, bias {each.bias:+.2f} {unit}, worst minute {each.worst_minute:.2f} {unit}"
        f" at {_hours(each.worst_minute_at_s)}, over {each.rows} rows"
    )


def _gap_lines(series: Series, rises: Sequence[GapRise]) -> list[str]:
    if not series.gap.any():
        return ["gaps: none"]
    lengths_s = np.diff(series.time_s, prepend=series.time_s[0])[series.gap]
    rapid = int((series.gap & series.rapid).sum())
    in_all, longest = _hours(float(lengths_s.sum())), _hours(float(lengths_s.max()))
    lines = [f"gaps: {lengths_s.size}, {in_all} in all, the longest {longest}; {rapid} with a rapid charge inside"]
    lines += [
        f"  {_hours(rise.begin_s)} for {_hours(rise.length_s)} at {rise.mean_current_a:+.0f} A:"
        f" {rise.measured_k:+.1f} K measured, {rise.predicted_k:+.1f} K by the twin"
        for rise in rises[:_SHOWN_GAPS]
    ]
    return lines


def _hours(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _iso(utc_s: float | None) -> str | None:
    return None if utc_s is None else datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="seconds")


def _finite(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None
