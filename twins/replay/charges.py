"""Charges and drives found in rows of samples.

A Leaf Spy log of a long day has rows some minutes apart, and none while the phone was off at the charger: a rapid
charge shows as a jump in time with a rise in SOC, as rows in charge mode 3, or as a step of the car's own counter of
quick charges. Each is evidence; the event lists what was found. Energy is dSOC x capacity x mean voltage, an estimate
on the pack's side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twins.replay.samples import ReplaySample
from twins.replay.summary import ChargeEvent, ChargeKind, Trip

_LEAST_JUMP_RISE_PERCENT = 1.0
_STANDING_KM = 2.0  # the odometer's last digit may turn while the car rolls to the charger
_MOST_AC_POWER_W = 12_000.0  # the on-board charger has 6.6 kW; beyond 12 kW only a DC charger can be
_RAPID_MODE = 3.0
_DRIVING_GEARS = {2.0, 3.0, 4.0, 7.0}


@dataclass(slots=True)
class _Open:
    """A charge that is being collected: from one sample to another, with its evidence in order."""

    begin: ReplaySample
    end: ReplaySample
    evidence: dict[str, None] = field(default_factory=dict)
    jump: bool = False
    counted: bool = False  # the quick-charge counter stepped for this one


class ChargeFinder:
    """Feed samples in order; `charges()` and `trips()` give what was found so far."""

    __slots__ = ("_before", "_charges", "_counter_pending", "_drive", "_jump_s", "_open", "_trips")

    def __init__(self, *, jump_s: float) -> None:
        self._jump_s = jump_s
        self._before: ReplaySample | None = None
        self._open: _Open | None = None
        self._counter_pending = False
        self._charges: list[ChargeEvent] = []
        self._drive: tuple[ReplaySample, ReplaySample] | None = None
        self._trips: list[Trip] = []

    def add(self, sample: ReplaySample) -> None:
        """Take the next sample; one without SOC is passed over."""
        if sample.soc_percent is None:
            return
        before, self._before = self._before, sample
        if before is None:
            return
        evidence = self._charge_evidence(before, sample)
        if evidence:
            self._end_drive()
            self._extend_charge(before, sample, evidence)
        else:
            self._end_charge()
            self._extend_drive(before, sample)

    def charges(self) -> tuple[ChargeEvent, ...]:
        """All charges, the last one too where the log ends in it."""
        self._end_charge()
        return tuple(self._charges)

    def trips(self) -> tuple[Trip, ...]:
        """All drives, the last one too where the log ends in it."""
        self._end_drive()
        return tuple(self._trips)

    def _charge_evidence(self, before: ReplaySample, after: ReplaySample) -> list[str]:
        """Why the interval between two samples is a charge; empty where it is none."""
        counter = _rise(before.quick_charges, after.quick_charges) > 0
        rise = _rise(before.soc_percent, after.soc_percent)
        standing = _rise(before.odometer_km, after.odometer_km) <= _STANDING_KM
        if rise <= 0.0 or not standing:
            # The counter steps when the plug locks; the first rising interval after it belongs to that charge.
            self._counter_pending = self._counter_pending or counter
            if not standing:
                self._counter_pending = False
            return []
        evidence: list[str] = []
        if counter or self._counter_pending:
            evidence.append("quick-charge counter")
        modes = {before.charge_mode, after.charge_mode}
        if _RAPID_MODE in modes:
            evidence.append("charge mode 3")
        elif modes & {1.0, 2.0}:
            evidence.append("AC charge mode")
        if after.time_s - before.time_s > self._jump_s and rise >= _LEAST_JUMP_RISE_PERCENT:
            evidence.append("jump in time with rising SOC")
        if evidence:
            self._counter_pending = False
        return evidence

    def _extend_charge(self, before: ReplaySample, after: ReplaySample, evidence: list[str]) -> None:
        counted = "quick-charge counter" in evidence
        if self._open is not None and counted and self._open.counted:
            self._end_charge()
        if self._open is None:
            self._open = _Open(before, after)
        self._open.end = after
        self._open.counted = self._open.counted or counted
        self._open.jump = self._open.jump or after.time_s - before.time_s > self._jump_s
        self._open.evidence.update(dict.fromkeys(evidence))

    def _end_charge(self) -> None:
        if self._open is None:
            return
        found, self._open = self._open, None
        begin, end = found.begin, found.end
        energy_wh = _energy_wh(begin, end)
        duration_s = end.time_s - begin.time_s
        power_w = None if energy_wh is None or duration_s <= 0 else energy_wh * 3600.0 / duration_s
        evidence = tuple(found.evidence)
        rapid = bool({"quick-charge counter", "charge mode 3"} & set(evidence))
        if not rapid and power_w is not None and power_w > _MOST_AC_POWER_W:
            rapid = True
            evidence += ("more power than AC gives",)
        self._charges.append(
            ChargeEvent(
                kind=ChargeKind.RAPID if rapid else ChargeKind.AC,
                begin_s=begin.time_s,
                end_s=end.time_s,
                begin_utc_s=begin.utc_s,
                end_utc_s=end.utc_s,
                begin_line=begin.line,
                end_line=end.line,
                begin_soc_percent=begin.soc_percent or 0.0,
                end_soc_percent=end.soc_percent or 0.0,
                energy_wh=energy_wh,
                mean_power_w=power_w,
                jump=found.jump,
                evidence=evidence,
            )
        )

    def _extend_drive(self, before: ReplaySample, after: ReplaySample) -> None:
        moved = _rise(before.odometer_km, after.odometer_km) > 0
        driving = after.gear in _DRIVING_GEARS
        if moved or driving:
            self._drive = (self._drive[0] if self._drive else before, after)
            if after.gear == 1.0:
                self._end_drive()
        else:
            self._end_drive()

    def _end_drive(self) -> None:
        if self._drive is None:
            return
        begin, end = self._drive
        self._drive = None
        distance = None if begin.odometer_km is None or end.odometer_km is None else end.odometer_km - begin.odometer_km
        self._trips.append(
            Trip(
                begin_s=begin.time_s,
                end_s=end.time_s,
                begin_utc_s=begin.utc_s,
                begin_line=begin.line,
                end_line=end.line,
                begin_soc_percent=begin.soc_percent,
                end_soc_percent=end.soc_percent,
                distance_km=distance,
            )
        )


def _rise(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else after - before


def _energy_wh(begin: ReplaySample, end: ReplaySample) -> float | None:
    """Rise of SOC x capacity x mean of the two voltages."""
    capacity_ah = end.capacity_ah if end.capacity_ah is not None else begin.capacity_ah
    voltages = [sample.pack_voltage_v for sample in (begin, end) if sample.pack_voltage_v is not None]
    rise = _rise(begin.soc_percent, end.soc_percent)
    if capacity_ah is None or not voltages:
        return None
    return rise / 100.0 * capacity_ah * sum(voltages) / len(voltages)
