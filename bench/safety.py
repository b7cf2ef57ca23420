"""Limits of the station, judged each cycle on raw values: `Guard`.

A limit trips on a value outside its closed range, and also on blindness: a guarded quantity that no device has told for
longer than its device promises. NaN and stale readings never pass. A value inside the range but in the warning band
gives a warning, once per stay in the band. The worst value of each limit is kept with its margin, for the report.

The bench is a supervisor beside the laboratory's own protection, never a replacement for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.station.model import Limit, Limits
from drivers.readings import Reading
from drivers.roles import ChargerReadings, PowerMeterReadings, VehicleReadings


@dataclass(slots=True)
class Snapshot:
    """The latest readings of each role; None before the first one."""

    charger: ChargerReadings | None = None
    vehicle: VehicleReadings | None = None
    meter: PowerMeterReadings | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement that matters: a trip or a warning, in one sentence."""

    limit: str
    trips: bool
    value: float  # NaN for blindness
    unit: str
    source: str
    sentence: str


@dataclass(slots=True)
class LimitRecord:
    """What a limit saw over a session: its text, the worst value, and how far that was from the limit."""

    name: str
    text: str
    unit: str
    worst_value: float | None = None
    margin: float | None = None  # positive: distance to the nearest bound at the worst moment
    verdict: str = "not judged"  # pass, warning, fail


@dataclass(slots=True)
class _Watched:
    name: str
    limit: Limit
    values: Callable[[Snapshot], Iterable[Reading]]
    blind_after_s: float
    record: LimitRecord
    last_good_s: float
    warning: bool = False
    told_by_vehicle: bool = False
    judged: VehicleReadings | None = None  # found inside the limit; the same readings need no second look


class Guard:
    """Judges snapshots against the station's limits. `judge` returns only what is new."""

    def __init__(self, limits: Limits, *, poll_s: Mapping[str, float], cycle_s: float, now_s: float) -> None:
        """`poll_s` gives the time between two readings by role: charger, vehicle, power_meter."""
        self._watched: list[_Watched] = []
        self.full_reading_every = _FULL_READING if limits.cell_voltage_v is None else _FULL_READING_GUARDED
        for name, limit in limits.given().items():
            role, values, polls = _GUARDED[name]
            blind_after_s = 3.0 * max(cycle_s, polls * poll_s.get(role, cycle_s)) + 2.0
            self._watched.append(
                _Watched(
                    name,
                    limit,
                    values,
                    blind_after_s,
                    LimitRecord(name, limit.inequality(name), limit.unit),
                    now_s,
                    told_by_vehicle=role == "vehicle",
                )
            )

    @property
    def records(self) -> tuple[LimitRecord, ...]:
        """Worst value and margin of each limit so far."""
        return tuple(watched.record for watched in self._watched)

    def judge(self, snapshot: Snapshot, now_s: float) -> list[Finding]:
        """Judge all limits; returns trips and fresh warnings, none when all is well."""
        findings: list[Finding] = []
        for watched in self._watched:
            # A vehicle is read every few cycles: readings that were found well once are not judged again.
            if watched.judged is None or watched.judged is not snapshot.vehicle:
                outside = self._look(watched, snapshot)
                if outside is not None:
                    watched.judged = None
                    findings.append(self._trip(watched, outside))
                    continue
                findings += self._warnings(watched, snapshot)
                watched.judged = snapshot.vehicle if watched.told_by_vehicle else None
            if now_s - watched.last_good_s > watched.blind_after_s:
                findings.append(self._blind(watched, now_s))
        return findings

    def _look(self, watched: _Watched, snapshot: Snapshot) -> Reading | None:
        """Take in what the snapshot has for a limit; return the first reading outside of it."""
        limit = watched.limit
        for reading in watched.values(snapshot):
            if not reading.is_good:
                continue
            watched.last_good_s = max(watched.last_good_s, reading.mono_s)
            value = reading.value
            if (limit.max is not None and value > limit.max) or (limit.min is not None and value < limit.min):
                self._keep_worst(watched, value, "fail")
                return reading
            self._keep_worst(watched, value, "pass")
        return None

    def _keep_worst(self, watched: _Watched, value: float, verdict: str) -> None:
        limit, record = watched.limit, watched.record
        below = math.inf if limit.max is None else limit.max - value
        above = math.inf if limit.min is None else value - limit.min
        margin = min(below, above)
        if record.margin is None or margin < record.margin:
            record.margin, record.worst_value = margin, value
        if verdict == "fail" or record.verdict == "not judged":
            record.verdict = verdict

    def _trip(self, watched: _Watched, reading: Reading) -> Finding:
        sentence = (
            f"{reading.source} is {reading.value:g} {reading.unit}, outside {watched.record.text} {watched.limit.unit}"
        )
        return Finding(watched.name, True, reading.value, reading.unit, reading.source, sentence)

    def _blind(self, watched: _Watched, now_s: float) -> Finding:
        watched.record.verdict = "fail"
        sentence = (
            f"{watched.name} was not measured for {now_s - watched.last_good_s:.0f} s "
            f"(at most {watched.blind_after_s:g} s); a limit that cannot be seen counts as exceeded"
        )
        return Finding(watched.name, True, float("nan"), watched.limit.unit, watched.name, sentence)

    def _warnings(self, watched: _Watched, snapshot: Snapshot) -> list[Finding]:
        limit = watched.limit
        if limit.warn is None and limit.warn_below is None:
            return []
        inside = [
            reading
            for reading in watched.values(snapshot)
            if reading.is_good
            and (
                (limit.warn is not None and reading.value >= limit.warn)
                or (limit.warn_below is not None and reading.value <= limit.warn_below)
            )
        ]
        if not inside:
            watched.warning = False
            return []
        if watched.record.verdict == "pass":
            watched.record.verdict = "warning"
        if watched.warning:
            return []
        watched.warning = True
        reading = inside[0]
        sentence = f"{reading.source} is {reading.value:g} {reading.unit}, in the warning band of {watched.record.text}"
        return [Finding(watched.name, False, reading.value, reading.unit, reading.source, sentence)]


def _powers(snapshot: Snapshot) -> Iterable[Reading]:
    if snapshot.charger is not None:
        yield snapshot.charger.ac_power
    if snapshot.meter is not None:
        yield snapshot.meter.ac_power


def _pack_temperatures(snapshot: Snapshot) -> Iterable[Reading]:
    return () if snapshot.vehicle is None else snapshot.vehicle.pack_temperatures


def _states_of_charge(snapshot: Snapshot) -> Iterable[Reading]:
    return () if snapshot.vehicle is None else (snapshot.vehicle.soc,)


def _cell_voltages(snapshot: Snapshot) -> Iterable[Reading]:
    return () if snapshot.vehicle is None else (snapshot.vehicle.cell_min, snapshot.vehicle.cell_max)


def _pack_voltages(snapshot: Snapshot) -> Iterable[Reading]:
    return () if snapshot.vehicle is None else (snapshot.vehicle.pack_voltage,)


# Polls of the vehicle from one full reading (cell voltages, counters) to the next: with a limit on cells, and without.
_FULL_READING_GUARDED, _FULL_READING = 6, 12

# Limit -> role that tells it, how to find its readings, and how many polls of that role lie between two of them.
_GUARDED: Mapping[str, tuple[str, Callable[[Snapshot], Iterable[Reading]], int]] = {
    "power_w": ("charger", _powers, 1),
    "pack_temperature_c": ("vehicle", _pack_temperatures, 1),
    "soc_percent": ("vehicle", _states_of_charge, 1),
    "cell_voltage_v": ("vehicle", _cell_voltages, _FULL_READING_GUARDED),
    "pack_voltage_v": ("vehicle", _pack_voltages, 1),
}
