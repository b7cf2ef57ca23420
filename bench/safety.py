"""Limits of the station, judged each cycle on raw values: `Guard`.

A limit trips on a value outside its closed range, and also on blindness: a guarded quantity that no device has told for
longer than its device promises. NaN and stale readings never pass. A value inside the range but in the warning band
gives a warning, once per stay in the band. The worst value of each limit is kept with its margin, for the report.

The bench is a supervisor beside the laboratory's own protection, never a replacement for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bench.station_model import Limit, Limits
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
    last_mono_s: float = -1.0
    warning: bool = False
    reported: bool = field(default=False)


class Guard:
    """Judges snapshots against the station's limits. `judge` returns only what is new."""

    def __init__(self, limits: Limits, *, poll_s: Mapping[str, float], cycle_s: float, now_s: float) -> None:
        """`poll_s` gives the time between two readings by role: charger, vehicle, power_meter."""
        self._watched: list[_Watched] = []
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
            limit = watched.limit
            for reading in watched.values(snapshot):
                if not reading.is_good:
                    continue
                watched.last_good_s = max(watched.last_good_s, reading.mono_s)
                value = reading.value
                if (limit.max is not None and value > limit.max) or (limit.min is not None and value < limit.min):
                    self._keep_worst(watched, value, "fail")
                    findings.append(self._trip(watched, reading))
                    break
                self._keep_worst(watched, value, "pass")
            else:
                findings += self._warnings(watched, snapshot)
                if now_s - watched.last_good_s > watched.blind_after_s:
                    findings.append(self._blind(watched, now_s))
        return findings

    def _keep_worst(self, watched: _Watched, value: float, verdict: str) -> None:
        limit, record = watched.limit, watched.record
        margins = []
        if limit.max is not None:
            margins.append(limit.max - value)
        if limit.min is not None:
            margins.append(value - limit.min)
        margin = min(margins)
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


READ_ALL_EVERY = 6  # polls of the vehicle between two full readings (cell voltages, counters)

# Limit -> role that tells it, how to find its readings, and how many polls of that role lie between two of them.
_GUARDED: Mapping[str, tuple[str, Callable[[Snapshot], Iterable[Reading]], int]] = {
    "power_w": ("charger", _powers, 1),
    "pack_temperature_c": ("vehicle", _pack_temperatures, 1),
    "soc_percent": ("vehicle", _states_of_charge, 1),
    "cell_voltage_v": ("vehicle", _cell_voltages, READ_ALL_EVERY),
    "pack_voltage_v": ("vehicle", _pack_voltages, 1),
}
