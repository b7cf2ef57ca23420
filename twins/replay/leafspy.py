"""Leaf Spy Pro's CSV as samples and summary.

The file is read twice. Its columns drifted over the years (152, 155, 158, 160 and more of them, some names twice), and
some carry no unit: the first pass finds what only the whole file can tell (degrees Fahrenheit or Celsius, month or
day first, columns that never move, the distance between rows), the second turns rows into samples. Each conclusion is
a sentence in the summary's assumptions, and `LeafSpyUnits` overrules it.

Signs and scales: `Pack Amps` is positive for discharge and is turned here; SOC and AHr are ten thousand times their
value. Columns with the vehicle's identification number and position are not read at all.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from twins.replay.absences import column_absences
from twins.replay.charges import ChargeFinder
from twins.replay.dialects import Dialect, LogError
from twins.replay.frames import Progress
from twins.replay.leafspy_rows import COLUMNS, TITLES, Row, RowStatistics, read_rows
from twins.replay.samples import FIELD_QUANTITIES, ReplaySample
from twins.replay.summary import ChargeKind, Summary, TimelineEvent
from twins.replay.tracking import EnergyTracker, LogClock, QuantityTracker

_LEAST_JUMP_S = 30.0
_ROWS_TO_CALL_CONSTANT = 10
_FAHRENHEIT_ABOVE_C = 55.0
_RPM_PER_KMH = 68.0  # reduction 8.2 and 2.0 m of tyre, from memory; only good for telling miles from kilometres


class TemperatureUnit(enum.StrEnum):
    """Unit of the columns that the app writes as its user set it."""

    AUTO = "auto"
    CELSIUS = "C"
    FAHRENHEIT = "F"


class DateOrder(enum.StrEnum):
    """Order of `Date/Time`; it matters only in files without `epoch time`."""

    AUTO = "auto"
    MONTH_FIRST = "month_first"
    DAY_FIRST = "day_first"


@dataclass(frozen=True, slots=True)
class LeafSpyUnits:
    """What the file does not say; AUTO has it concluded from the values."""

    temperature: TemperatureUnit = TemperatureUnit.AUTO
    date_order: DateOrder = DateOrder.AUTO
    speed_in_miles: bool = False


_UNIT_BY_SETTING: Final = frozenset(
    {"ambient_c", "motor_temperature_c", "inverter_2_temperature_c", "inverter_4_temperature_c"}
)
_UNITS: Final = {
    "percent": "%",
    "ah": "Ah",
    "v": "V",
    "a": "A",
    "w": "W",
    "c": "degC",
    "km": "km",
    "kmh": "km/h",
    "rpm": "rpm",
}
_KILOMETRES_PER_MILE = 1.609344
_DIVISORS: Final = {column.field: column.divisor for column in COLUMNS}


class _Assumptions(NamedTuple):
    """What the first pass concluded."""

    fahrenheit: bool
    day_first: bool
    spacing_s: float
    scaled: bool  # SOC and AHr are multiplied by 10 000
    void: dict[str, str]  # fields whose column is there and says nothing
    sentences: tuple[str, ...]


class LeafSpyReplay:
    """One reading of a Leaf Spy file. Iterate `samples()` to the end, then read `summary()`."""

    def __init__(self, path: Path, *, units: LeafSpyUnits, progress: Progress | None = None) -> None:
        self._path = path
        self._units = units
        self._progress = progress
        self._statistics = RowStatistics()
        self._trackers: dict[str, QuantityTracker] = {}
        self._void_counts: dict[str, int] = {}
        self._events: list[TimelineEvent] = []
        self._start_utc_s: float | None = None
        self._assumed: _Assumptions | None = None
        self._clock = LogClock(mirrored=False, gap_s=_LEAST_JUMP_S)
        self._finder = ChargeFinder(jump_s=_LEAST_JUMP_S)
        self._energy = EnergyTracker("pack", longest_s=_LEAST_JUMP_S, estimated=True)
        self._last_local: datetime | None = None
        self._last_mode: float | None = None

    def samples(self) -> Iterator[ReplaySample]:
        """One sample a row. Raises LogError where the file is not what it should be."""
        assumed = self._assumed = self._examine()
        jump_s = max(_LEAST_JUMP_S, 2.0 * assumed.spacing_s)
        self._clock = LogClock(mirrored=False, gap_s=jump_s)
        self._finder = ChargeFinder(jump_s=jump_s)
        self._energy = EnergyTracker("pack", longest_s=jump_s, estimated=assumed.spacing_s > 10.0)
        self._statistics = RowStatistics()
        for row in read_rows(self._path, self._statistics, self._progress):
            sample = self._sample(row, assumed)
            self._finder.add(sample)
            self._follow_mode(sample)
            if sample.pack_power_w is not None:
                plugged = sample.plug_state == 2.0 or (sample.charge_mode or 0.0) > 0
                self._energy.add(sample.time_s, sample.pack_power_w, plugged=plugged)
            yield sample

    def _sample(self, row: Row, assumed: _Assumptions) -> ReplaySample:
        stamp_s = row.epoch_s
        local = _parse_date(row.date_text, day_first=assumed.day_first)
        if stamp_s is None:
            if local is None:
                raise LogError(self._path, row.line, f"neither `epoch time` nor a readable date ({row.date_text!r})")
            stamp_s = local.timestamp()
        elif self._start_utc_s is None:
            self._start_utc_s = stamp_s
        time_s = self._clock.advance(stamp_s, row.line)
        self._watch_local_time(local, row, time_s)
        values = {name: self._convert(name, value, assumed) for name, value in row.values.items()}
        voltage_v, current_a = values.get("pack_voltage_v"), values.get("pack_current_a")
        if voltage_v is not None and current_a is not None:
            values["pack_power_w"] = voltage_v * current_a
        for name, value in values.items():
            self._track(name, value, time_s)
        utc_s = None if self._start_utc_s is None else round(self._start_utc_s + time_s, 6)
        there = {name: value for name, value in values.items() if value is not None}
        return ReplaySample(time_s=time_s, utc_s=utc_s, line=row.line, **there)

    def _convert(self, name: str, value: float | None, assumed: _Assumptions) -> float | None:
        if value is None or name in assumed.void:
            return None
        if name in {"soc_percent", "capacity_ah"}:
            return value / 10_000.0 if assumed.scaled else value
        if name in _UNIT_BY_SETTING:
            return round((value - 32.0) / 1.8, 2) if assumed.fahrenheit else value
        if name == "odometer_km" and self._statistics.odometer_in_miles:
            return value * _KILOMETRES_PER_MILE
        if name == "speed_kmh" and self._units.speed_in_miles:
            return value * _KILOMETRES_PER_MILE
        return value / _DIVISORS[name] + 0.0  # + 0.0: a current of zero is not minus zero after the sign is turned

    def _track(self, name: str, value: float | None, time_s: float) -> None:
        quantity = FIELD_QUANTITIES[name]
        if value is None:
            self._void_counts[quantity] = self._void_counts.get(quantity, 0) + 1
            return
        tracker = self._trackers.get(quantity)
        if tracker is None:
            unit = _UNITS.get(name.rsplit("_", 1)[-1], "1")
            named = name not in _UNIT_BY_SETTING and name != "speed_kmh"
            tracker = self._trackers[quantity] = QuantityTracker(unit, named)
            tracker.sources.append(TITLES.get(quantity, "Pack Volts x Pack Amps"))
        tracker.add(value, time_s)

    def _watch_local_time(self, local: datetime | None, row: Row, time_s: float) -> None:
        """The written local time may step (a border, summer time) while `epoch time` goes on."""
        if local is not None and self._last_local is not None and row.epoch_s is not None and local < self._last_local:
            text = f"local time in line {row.line} steps back; `epoch time` is used and does not"
            self._events.append(TimelineEvent(time_s, "clock", text))
        self._last_local = local if local is not None else self._last_local

    def _follow_mode(self, sample: ReplaySample) -> None:
        if sample.charge_mode is None or sample.charge_mode == self._last_mode:
            return
        words = {0.0: "not charging", 1.0: "AC charge, level 1", 2.0: "AC charge, level 2", 3.0: "rapid charge"}
        text = words.get(sample.charge_mode, f"charge mode {sample.charge_mode:g}")
        if self._last_mode is not None or sample.charge_mode > 0:
            self._events.append(TimelineEvent(sample.time_s, "charge_mode", text))
        self._last_mode = sample.charge_mode

    def summary(self) -> Summary:
        """What was found; only after `samples()` was iterated to its end."""
        met = self._statistics
        quantities = {}
        for quantity in sorted(self._trackers):
            self._trackers[quantity].no_data = self._void_counts.get(quantity, 0)
            quantities[quantity] = self._trackers[quantity].summary(quantity)
        void = self._assumed.void if self._assumed is not None else {}
        charges, trips = self._finder.charges(), self._finder.trips()
        energy = self._energy.summary()
        timeline = list(self._events)
        for charge in charges:
            word = "rapid charge" if charge.kind is ChargeKind.RAPID else "AC charge"
            text = f"{word} from {charge.begin_soc_percent:.1f} % to {charge.end_soc_percent:.1f} %"
            timeline.append(TimelineEvent(charge.begin_s, "charge", text))
        for trip in trips:
            distance = "" if trip.distance_km is None else f" of {trip.distance_km:g} km"
            timeline.append(TimelineEvent(trip.begin_s, "trip", f"drive{distance}"))
        for gap in self._clock.gaps:
            text = "clock set back" if gap.length_s is None else f"no row for {gap.length_s:.0f} s"
            timeline.append(TimelineEvent(gap.begin_s, "gap", f"{text} (line {gap.line})"))
        return Summary(
            file=self._path.name,
            dialect=Dialect.LEAFSPY,
            lines=met.lines,
            records=met.rows,
            malformed_lines=met.malformed,
            first_malformed_line=met.problems[0].line if met.problems else None,
            truncated_line=met.truncated_line,
            start_utc_s=self._start_utc_s,
            duration_s=self._clock.now_s,
            clock=self._clock.report(absolute=self._start_utc_s is not None),
            buses=(),
            frames=(),
            quantities=quantities,
            absences=column_absences(
                quantities, TITLES, {FIELD_QUANTITIES[name]: reason for name, reason in void.items()}
            ),
            gaps=tuple(self._clock.gaps),
            energy=() if energy is None else (energy,),
            charges=charges,
            trips=trips,
            chademo=(),
            timeline=tuple(sorted(timeline, key=lambda event: event.time_s)),
            assumptions=self._assumed.sentences if self._assumed is not None else (),
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        met = self._statistics
        found: list[str] = []
        if met.truncated_line is not None:
            found.append(f"line {met.truncated_line} is cut; everything before it was read")
        if met.malformed:
            first = met.problems[0]
            found.append(f"{met.malformed} rows skipped, the first is line {first.line}: {first.reason}")
        for name, count in sorted(met.not_numbers.items()):
            column = TITLES.get(FIELD_QUANTITIES[name], name)
            found.append(f"column {column!r}: {count} cells hold no number and are taken as missing")
        if self._clock.back_steps:
            found.append(
                f"the clock ran backwards {self._clock.back_steps} times, first in line {self._clock.first_back_line},"
                f" at most by {self._clock.largest_back_s:.0f} s"
            )
        if met.duplicates:
            found.append(f"columns named twice, the first of each is used: {', '.join(met.duplicates)}")
        return tuple(found)

    def _examine(self) -> _Assumptions:
        """The first pass: what only the whole file can tell."""
        met = RowStatistics()
        columns: dict[str, list[float]] = {}
        stamps: list[float] = []
        dates: list[str] = []
        for row in read_rows(self._path, met, None):
            dates.append(row.date_text)
            if row.epoch_s is not None:
                stamps.append(row.epoch_s)
            for name, value in row.values.items():
                if value is not None:
                    columns.setdefault(name, []).append(value)
        if met.rows == 0:
            first = met.problems[0] if met.problems else None
            why = f"no row can be read ({first.reason})" if first else "a header and no whole row under it"
            raise LogError(self._path, first.line if first else met.lines, f"Leaf Spy CSV: {why}")
        sentences: list[str] = []
        fahrenheit, sentence = _temperature_unit(columns, self._units.temperature)
        sentences.append(sentence)
        day_first, sentence = _date_order(dates, self._units.date_order)
        if not stamps:
            sentences += [sentence, "no column `epoch time`: local times without a zone, counted from the first row"]
            parsed = [_parse_date(text, day_first=day_first) for text in dates]
            stamps = [date.timestamp() for date in parsed if date is not None]
        if "speed_kmh" in columns:
            sentences.append(f"Speed: unit not named, taken as {'mph' if self._units.speed_in_miles else 'km/h'}")
        scaled = not columns.get("soc_percent") or max(columns["soc_percent"]) > 150.0
        if not scaled:
            sentences.append("SOC and AHr stand as percent and Ah, not ten thousand times that")
        sentences += _odometer_doubt(columns, stamps)
        steps = [after - before for before, after in pairwise(stamps) if after > before]
        void = _void_columns(columns, met)
        return _Assumptions(
            fahrenheit, day_first, statistics.median(steps) if steps else 0.0, scaled, void, tuple(sentences)
        )


def _parse_date(text: str, *, day_first: bool) -> datetime | None:
    """Local time as written, held in UTC for arithmetic only; None where it cannot be read."""
    try:
        date, time, *half = text.replace("-", "/").replace(".", "/").split()
        first, second, year = (int(part) for part in date.split("/"))
        hour, minute, seconds = (int(part) for part in time.split(":"))
        if half:
            hour = hour % 12 + (12 if half[0].upper() == "PM" else 0)
        if first > 31:
            first, second, year, day_first = second, year, first, False
        day, month = (first, second) if day_first else (second, first)
        return datetime(year, month, day, hour, minute, seconds, tzinfo=UTC)
    except ValueError:
        return None


def _date_order(dates: list[str], wanted: DateOrder) -> tuple[bool, str]:
    if wanted is not DateOrder.AUTO:
        return wanted is DateOrder.DAY_FIRST, f"Date/Time: {wanted.value.replace('_', ' ')}, as told"
    parts = [text.replace("-", "/").replace(".", "/").split("/")[:2] for text in dates]
    firsts = [int(part[0]) for part in parts if len(part) == 2 and part[0].isdigit()]
    seconds = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdigit()]
    if any(12 < first <= 31 for first in firsts):
        return True, "Date/Time: day first, because a first number is above 12"
    if any(second > 12 for second in seconds):
        return False, "Date/Time: month first, because a second number is above 12"
    return False, "Date/Time: month first, assumed; no number is above 12"


def _temperature_unit(columns: dict[str, list[float]], wanted: TemperatureUnit) -> tuple[bool, str]:
    """Whether Ambient and the drive's temperatures are in degrees Fahrenheit, and why.

    The car measures ambient in steps of 0.5 degC, so values that are no whole steps in one unit are in the other.
    """
    which = "Ambient and Motor Temp: unit not named,"
    if wanted is not TemperatureUnit.AUTO:
        return wanted is TemperatureUnit.FAHRENHEIT, f"{which} degrees {wanted.value} as told"
    ambient = columns.get("ambient_c", [])
    if not ambient:
        return False, f"{which} taken as degC; there is no ambient value to judge by"
    if max(ambient) > _FAHRENHEIT_ABOVE_C:
        return True, f"{which} taken as degF, because ambient reaches {max(ambient):g}"
    broken = [value for value in set(ambient) if abs(value - round(value)) > 0.02]
    if broken:
        if all(abs(2 * value - round(2 * value)) < 0.02 for value in broken):
            return False, f"{which} taken as degC, because ambient comes in half degrees"
        return True, f"{which} taken as degF, because ambient is no half degree Celsius"
    pack = columns.get("pack_temperature_1_c")
    if pack:
        typical, inside = statistics.median(ambient), statistics.median(pack)
        fahrenheit = abs((typical - 32.0) / 1.8 - inside) < abs(typical - inside)
        unit = "degF" if fahrenheit else "degC"
        return fahrenheit, f"{which} taken as {unit}, which is nearer to the pack's {inside:g} degC"
    return False, f"{which} taken as degC, assumed"


def _void_columns(columns: dict[str, list[float]], met: RowStatistics) -> dict[str, str]:
    """Columns that are there and say nothing: no number at all, or a placeholder of 0 or 40 in every row."""
    void: dict[str, str] = {}
    for name in met.there:
        values = columns.get(name)
        if not values:
            void[name] = "no row has a number"
            if name.startswith("pack_temperature_"):
                void[name] = "'none' in every row, this pack has no such sensor"
        elif name.startswith("inverter_") and len(values) >= _ROWS_TO_CALL_CONSTANT and set(values) in ({0.0}, {40.0}):
            void[name] = f"{values[0]:g} in every row, a placeholder of the app"
    return void


def _odometer_doubt(columns: dict[str, list[float]], stamps: list[float]) -> list[str]:
    """The header says km; a car with a mile display writes miles. The motor's turns tell."""
    turns, odometer = columns.get("motor_speed_rpm", []), columns.get("odometer_km", [])
    if len(turns) != len(stamps) or len(odometer) != len(stamps) or len(stamps) < 20:
        return []
    spacing_s = statistics.median(after - before for before, after in pairwise(stamps))
    driven = by_turns = 0.0
    for index, (before, after) in enumerate(pairwise(stamps)):
        if 0 < after - before <= 2 * spacing_s:
            driven += odometer[index + 1] - odometer[index]
            by_turns += (abs(turns[index]) + abs(turns[index + 1])) / 2 / _RPM_PER_KMH * (after - before) / 3600.0
    if driven < 20 or not 1.35 <= by_turns / driven <= 2.0:
        return []
    doubt = f"the motor's turns give {by_turns / driven:.2f} km for each, so the values are probably miles"
    return [f"Odo(km): kept as km as the header says, but {doubt}"]
