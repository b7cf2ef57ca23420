"""A CAN log as samples and summary: frames through the tables, once, in the file's order.

Samples come at most once a period. Current, voltage and power are means over the period, because a 10 ms current read
once a second would alias; everything else is the last value, and is dropped when its frame has not come for
`HOLD_S`. Bad frames are counted and never decoded.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from drivers.vehicle.frames import (
    Bus,
    CompiledFrame,
    Decoded,
    FrameDecoder,
    FrameTable,
    FrameVerdict,
    Status,
    load_table,
)
from twins.replay.absences import can_absences
from twins.replay.chademo import ChademoTracker
from twins.replay.diagnostics import DiagnosticListener
from twins.replay.dialects import Dialect
from twins.replay.frames import LogFrame, Progress, ReadStatistics, read_frames
from twins.replay.samples import AVERAGED, QUANTITY_FIELDS, ReplaySample
from twins.replay.summary import (
    BusSummary,
    ChademoPhaseKind,
    ChademoSession,
    EnergySummary,
    FrameSummary,
    QuantitySummary,
    Summary,
    TimelineEvent,
)
from twins.replay.tracking import EnergyTracker, LogClock, QuantityTracker

HOLD_S = 5.0
"""A value whose frame has not come for so long is no longer known; the slowest frame's period is 0.5 s."""

DIAGNOSTIC_HOLD_S = 120.0
"""The same for answers to diagnostic questions, which loggers ask about once a minute."""

_DIAGNOSTIC_IDS = 0x700  # and above
_GAP_S = 1.0
_LOOK_AHEAD = 400
_EPOCH_BEGIN_S = 1e9  # 2001; smaller stamps count from the logger's start
_EPOCH_END_S = 1e10
_EPOCH_DIALECTS = {Dialect.CRTD, Dialect.CANDUMP, Dialect.CANDUMP_LOG, Dialect.SAVVYCAN}
_EXPORTING = 9  # high half of 0x390 d0, as OVMS reads it
_AC_CHARGING = 4
# Unit, and whether everything that goes in is verified.
_DERIVED = {
    "vehicle.charge_mode": ("1", False),
    "vehicle.plug_state": ("1", False),
    "vehicle.pack_power_w": ("W", True),
    "vehicle.dash_soc_percent": ("%", False),
    "charger.dc_current_a": ("A", True),
    "charger.dc_power_w": ("W", True),
}
_MAX_TIMELINE_GAPS = 50
_MAX_MODE_CHANGES = 1000


class _FrameState:
    """Counts of one identifier on one channel."""

    __slots__ = ("bad_checksum", "compiled", "good", "last_count", "lost", "wrong_length")

    def __init__(self, compiled: CompiledFrame) -> None:
        self.compiled = compiled
        self.good = self.bad_checksum = self.wrong_length = self.lost = 0
        self.last_count = -1


class CanReplay:
    """One pass over a CAN log. Iterate `samples()` to the end, then read `summary()`."""

    def __init__(self, path: Path, dialect: Dialect, *, period_s: float, progress: Progress | None = None) -> None:
        self._path = path
        self._dialect = dialect
        self._period_s = period_s
        self._progress = progress
        self._statistics = ReadStatistics()
        self._tables = tuple(load_table(bus) for bus in Bus)
        self._compiled = FrameDecoder(self._tables, only_quantities=True).frames
        self._clock = LogClock(mirrored=False, gap_s=_GAP_S)
        self._start_utc_s: float | None = None
        self._seen: dict[str, Counter[int]] = {}
        self._states: dict[tuple[str, int], _FrameState] = {}
        self._trackers: dict[str, QuantityTracker] = {}
        self._void: Counter[str] = Counter()
        self._latest: dict[str, tuple[float, float, int]] = {}  # value, valid until, identifier
        self._sums: dict[str, tuple[float, int]] = {}
        self._chademo = ChademoTracker()
        self._diagnostics = DiagnosticListener()
        self._diagnostic_ids = self._diagnostics.ids
        self._pack_energy = EnergyTracker("pack", longest_s=_GAP_S)
        self._charger_energy = EnergyTracker("charger_dc", longest_s=_GAP_S)
        self._modes: list[TimelineEvent] = []
        self._exporting = False
        self._sent = 0

    def samples(self) -> Iterator[ReplaySample]:
        """Samples in order of time. Raises LogError where the file is not what it should be."""
        frames = read_frames(self._path, self._dialect, self._statistics, self._progress)
        head = list(itertools.islice(frames, _LOOK_AHEAD))
        self._clock.mirrored = _is_mirrored(head)
        if head and self._dialect in _EPOCH_DIALECTS and _EPOCH_BEGIN_S <= head[0].time_s < _EPOCH_END_S:
            self._start_utc_s = None if self._clock.mirrored else head[0].time_s
        period_s = self._period_s
        tick_s = period_s
        line = 0
        for frame in itertools.chain(head, frames):
            time_s = self._clock.advance(frame.time_s, frame.line)
            if time_s > tick_s:
                sample = self._sample(tick_s, line)
                if sample is not None:
                    yield sample
                tick_s = max(tick_s + period_s, (time_s // period_s) * period_s)
                if tick_s < time_s:
                    tick_s += period_s
            line = frame.line
            self._take(frame, time_s)
        last = self._sample(self._clock.now_s, line)
        if last is not None:
            yield last

    def _take(self, frame: LogFrame, time_s: float) -> None:
        can_id = frame.can_id
        seen = self._seen.get(frame.channel)
        if seen is None:
            seen = self._seen[frame.channel] = Counter()
        seen[can_id] += 1
        compiled = self._compiled.get(can_id)
        if compiled is None:
            if can_id in self._diagnostic_ids:
                self._hear(frame, time_s)
            return
        if frame.sent:
            self._sent += 1
            return
        decoded = self._check(frame, compiled)
        values: dict[str, float] = {}
        for signal, value in zip(decoded.signals, decoded.values, strict=True):
            quantity = signal.quantity
            if quantity is None:
                continue
            if value is None:
                self._no_value(quantity, can_id)
                continue
            values[quantity] = value
            tracker = self._trackers.get(quantity)
            if tracker is None:
                verified = compiled.spec.signal_status(signal) is Status.VERIFIED
                tracker = self._trackers[quantity] = QuantityTracker(signal.unit, verified)
            self._keep(tracker, quantity, value, time_s, can_id)
        if values:
            self._derive(can_id, values, time_s)

    def _check(self, frame: LogFrame, compiled: CompiledFrame) -> Decoded:
        """Decode and count one frame; a bad one has no values."""
        key = (frame.channel, frame.can_id)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _FrameState(compiled)
        decoded = compiled.decode(frame.data)
        if decoded.verdict is FrameVerdict.BAD_CHECKSUM:
            state.bad_checksum += 1
        elif decoded.verdict is FrameVerdict.WRONG_LENGTH:
            state.wrong_length += 1
        else:
            state.good += 1
            if compiled.counter is not None:
                count = frame.data[compiled.counter.byte] >> compiled.counter.shift & 3
                if state.last_count >= 0 and count != (state.last_count + 1) & 3:
                    state.lost += 1
                state.last_count = count
        return decoded

    def _hear(self, frame: LogFrame, time_s: float) -> None:
        """Answers to diagnostic questions fill what no broadcast frame gives; they never overrule one."""
        heard = self._diagnostics.hear(frame.channel, frame.can_id, frame.data)
        if heard is None:
            return
        for quantity, value in heard.values.items():
            latest = self._latest.get(quantity)
            if latest is not None and latest[2] < _DIAGNOSTIC_IDS and latest[1] >= time_s:
                continue
            tracker = self._trackers.get(quantity)
            if tracker is None:
                tracker = self._trackers[quantity] = QuantityTracker(heard.units[quantity], verified=True)
            self._keep(tracker, quantity, value, time_s, frame.can_id)

    def _no_value(self, quantity: str, can_id: int) -> None:
        self._void[quantity] += 1
        latest = self._latest.get(quantity)
        if latest is not None and latest[2] == can_id:
            del self._latest[quantity]

    def _keep(self, tracker: QuantityTracker, quantity: str, value: float, time_s: float, can_id: int) -> None:
        tracker.add(value, time_s)
        if quantity in QUANTITY_FIELDS:
            source = f"0x{can_id:03X}"
            if source not in tracker.sources:
                tracker.sources.append(source)
            hold_s = HOLD_S if can_id < _DIAGNOSTIC_IDS else DIAGNOSTIC_HOLD_S
            self._latest[quantity] = (value, time_s + hold_s, can_id)
            if quantity in AVERAGED:
                total, count = self._sums.get(quantity, (0.0, 0))
                self._sums[quantity] = (total + value, count + 1)

    def _derived(self, quantity: str, value: float, time_s: float, can_id: int) -> None:
        tracker = self._trackers.get(quantity)
        if tracker is None:
            tracker = self._trackers[quantity] = QuantityTracker(*_DERIVED[quantity])
        self._keep(tracker, quantity, value, time_s, can_id)

    def _derive(self, can_id: int, values: dict[str, float], time_s: float) -> None:
        """Quantities that are combinations of a frame's values."""
        if can_id == 0x1DB:
            voltage_v, current_a = values.get("vehicle.pack_voltage_v"), values.get("vehicle.pack_current_a")
            if voltage_v is not None and current_a is not None:
                power_w = voltage_v * current_a
                self._derived("vehicle.pack_power_w", power_w, time_s, can_id)
                self._pack_energy.add(time_s, power_w, plugged=self._plugged())
        elif can_id == 0x390:
            self._exporting = values["onboard_charger.export_state"] == _EXPORTING
            self._charge_mode(_ac_charge_mode(values), time_s, can_id)
        elif can_id in {0x100, 0x102, 0x108, 0x109, 0x200, 0x208}:
            self._chademo.update(time_s, values)
            if can_id == 0x109:
                self._charger(values, time_s)
            elif can_id == 0x102:
                self._charged_rate(values, time_s)

    def _charger(self, values: dict[str, float], time_s: float) -> None:
        current_a = self._chademo.current_a
        power_w = values["charger.dc_voltage_v"] * current_a
        self._derived("charger.dc_current_a", current_a, time_s, 0x109)
        self._derived("charger.dc_power_w", power_w, time_s, 0x109)
        self._charger_energy.add(time_s, power_w, plugged=True)
        self._charge_mode(3.0 if self._chademo.charging else 0.0, time_s, 0x109)
        if self._chademo.locked:
            self._derived("vehicle.plug_state", 2.0, time_s, 0x109)

    def _charged_rate(self, values: dict[str, float], time_s: float) -> None:
        constant = self._trackers.get("chademo.charged_rate_constant")
        if constant is not None and constant.last > 0 and values["chademo.charged_rate"] <= constant.last:
            percent = round(100.0 * values["chademo.charged_rate"] / constant.last, 1)
            self._derived("vehicle.dash_soc_percent", percent, time_s, 0x102)

    def _charge_mode(self, mode: float, time_s: float, can_id: int) -> None:
        before = self._latest.get("vehicle.charge_mode")
        if (before is None or before[0] != mode) and len(self._modes) < _MAX_MODE_CHANGES:
            words = {0.0: "not charging", 1.0: "AC charge, 100 V", 2.0: "AC charge, 200 V", 3.0: "DC charger at work"}
            self._modes.append(TimelineEvent(time_s, "charge_mode", words[mode]))
        self._derived("vehicle.charge_mode", mode, time_s, can_id)

    def _plugged(self) -> bool:
        mode = self._latest.get("vehicle.charge_mode")
        return self._exporting or (mode is not None and mode[0] > 0)

    def _sample(self, time_s: float, line: int) -> ReplaySample | None:
        held = {quantity: latest[0] for quantity, latest in self._latest.items() if latest[1] >= time_s}
        for quantity, (total, count) in self._sums.items():
            if quantity in held:
                held[quantity] = total / count
        self._sums.clear()
        if not held:
            return None
        utc_s = None if self._start_utc_s is None else round(self._start_utc_s + time_s, 6)
        named = {QUANTITY_FIELDS[quantity]: value for quantity, value in held.items()}
        return ReplaySample(time_s=time_s, utc_s=utc_s, line=line, **named)

    def summary(self) -> Summary:
        """What was found; only after `samples()` was iterated to its end."""
        buses = tuple(self._bus(channel, seen) for channel, seen in self._seen.items())
        titles = {bus.bus for bus in buses}
        tables = tuple(table for table in self._tables if table.bus.value in titles)
        sessions = self._chademo.sessions() if Bus.CHADEMO.value in titles else ()
        statistics = self._statistics
        quantities = self._quantities()
        return Summary(
            file=self._path.name,
            dialect=self._dialect,
            lines=statistics.lines,
            records=statistics.frames,
            malformed_lines=statistics.malformed,
            first_malformed_line=statistics.problems[0].line if statistics.problems else None,
            truncated_line=statistics.truncated_line,
            start_utc_s=self._start_utc_s,
            duration_s=self._clock.now_s,
            clock=self._clock.report(absolute=self._start_utc_s is not None),
            buses=buses,
            frames=tuple(
                FrameSummary(
                    channel,
                    can_id,
                    state.compiled.spec.name,
                    state.good,
                    state.bad_checksum,
                    state.wrong_length,
                    state.lost,
                )
                for (channel, can_id), state in sorted(self._states.items(), key=lambda item: item[0])
            ),
            quantities=quantities,
            absences=can_absences(quantities, dict(self._void), tables),
            gaps=tuple(self._clock.gaps),
            energy=self._energies(),
            charges=(),
            trips=(),
            chademo=sessions,
            timeline=self._timeline(sessions),
            assumptions=self._assumptions(quantities),
            warnings=self._warnings(buses),
        )

    def _quantities(self) -> dict[str, QuantitySummary]:
        found: dict[str, QuantitySummary] = {}
        for quantity in sorted(self._trackers):
            tracker = self._trackers[quantity]
            tracker.no_data = self._void[quantity]
            if tracker.count:
                found[quantity] = tracker.summary(quantity)
        return found

    def _energies(self) -> tuple[EnergySummary, ...]:
        found = (self._pack_energy.summary(), self._charger_energy.summary())
        return tuple(energy for energy in found if energy is not None)

    def _bus(self, channel: str, seen: Counter[int]) -> BusSummary:
        hits: list[tuple[int, FrameTable]] = [
            (sum(1 for can_id in table.signature if seen[can_id]), table) for table in self._tables
        ]
        best, table = max(hits, key=lambda hit: hit[0])
        known = best >= 2
        return BusSummary(
            channel=channel,
            bus=table.bus.value if known else None,
            title=table.title if known else "not recognised",
            frames=seen.total(),
            identifiers=len(seen),
        )

    def _timeline(self, sessions: tuple[ChademoSession, ...]) -> tuple[TimelineEvent, ...]:
        events = list(self._modes)
        for session in sessions:
            events += [TimelineEvent(phase.begin_s, "chademo", _phase_text(phase.kind)) for phase in session.phases]
        for gap in self._clock.gaps[:_MAX_TIMELINE_GAPS]:
            text = "clock set back" if gap.length_s is None else f"no frame for {gap.length_s:.1f} s"
            events.append(TimelineEvent(gap.begin_s, "gap", f"{text} (line {gap.line})"))
        return tuple(sorted(events, key=lambda event: event.time_s))

    def _assumptions(self, quantities: dict[str, QuantitySummary]) -> tuple[str, ...]:
        found: list[str] = []
        assumed = [name for name in quantities if name in QUANTITY_FIELDS and not quantities[name].verified]
        if assumed:
            found.append(f"layout assumed, not compared with a real e-NV200: {', '.join(assumed)}")
        if self._clock.mirrored:
            found.append("all time stamps fall; the file's order is kept and the differences are taken as positive")
        if self._start_utc_s is None:
            found.append("the logger's clock is not absolute; times count from the first frame")
        if "vehicle.charge_mode" in quantities:
            found.append("charge mode is derived from the state flags of the on-board or DC charger")
        return tuple(found)

    def _warnings(self, buses: tuple[BusSummary, ...]) -> tuple[str, ...]:
        found: list[str] = []
        statistics = self._statistics
        if statistics.truncated_line is not None:
            found.append(f"line {statistics.truncated_line} is cut; everything before it was read")
        if statistics.malformed:
            first = statistics.problems[0]
            found.append(f"{statistics.malformed} lines skipped, the first is line {first.line}: {first.reason}")
        bad = sum(state.bad_checksum for state in self._states.values())
        if bad:
            found.append(f"{bad} frames with a wrong checksum dropped")
        short = sum(state.wrong_length for state in self._states.values())
        if short:
            found.append(f"{short} frames of a wrong length dropped")
        if self._clock.back_steps:
            found.append(
                f"the clock ran backwards {self._clock.back_steps} times, first in line {self._clock.first_back_line},"
                f" at most by {self._clock.largest_back_s:.3f} s"
            )
        if self._diagnostics.incomplete or self._diagnostics.refused:
            found.append(
                f"diagnostic answers: {self._diagnostics.answers} read, {self._diagnostics.incomplete} incomplete in"
                f" the log, {self._diagnostics.refused} not understood"
            )
        if self._sent:
            found.append(f"{self._sent} frames were sent by the logger itself and not decoded")
        found += [f"channel {bus.channel}: bus not recognised" for bus in buses if bus.bus is None]
        return tuple(found)


def _ac_charge_mode(values: dict[str, float]) -> float:
    if values["onboard_charger.quick_charge_relay"] > 0:
        return 3.0
    if values["onboard_charger.status"] == _AC_CHARGING:
        return {1.0: 1.0, 2.0: 2.0}.get(values["onboard_charger.ac_voltage_class"], 2.0)
    return 0.0


def _phase_text(kind: ChademoPhaseKind) -> str:
    return {
        ChademoPhaseKind.HANDSHAKE: "handshake: vehicle and charger exchange limits",
        ChademoPhaseKind.PRECHARGE: "precharge: enabled, no current yet",
        ChademoPhaseKind.CHARGE: "charge: current into the vehicle",
        ChademoPhaseKind.DISCHARGE: "discharge: current out of the vehicle",
        ChademoPhaseKind.STOP: "stop",
    }[kind]


def _is_mirrored(head: list[LogFrame]) -> bool:
    """Whether nearly all of the first stamps fall."""
    steps = [after.time_s - before.time_s for before, after in itertools.pairwise(head)]
    moving = [step for step in steps if step != 0.0]
    return len(moving) >= 10 and sum(1 for step in moving if step < 0.0) > 0.9 * len(moving)
