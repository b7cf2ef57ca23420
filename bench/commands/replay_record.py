"""The usage record of a recording: one witness, nobody to compare it with, and a reason for each thing that is missing.

A recording is evidence of a weaker kind than a session on the bench. Nobody signed it when it was made, one logger is
its only source, and whole stretches may be absent. So the record says `replayed` everywhere, names the file by its
SHA-256, has figures only where the log covers the time that they speak of, and is never judged against a second
witness. What the log merely suggests (the energy of a charge that happened while the logger was off) stays in the log's
summary and does not enter the record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.desk import Keyring
from bench.station import Station
from bench.witnesses import VEHICLE_GAIN_PERCENT, VEHICLE_OFFSET_W
from ledgers.asset_fields import asset_table, build_asset
from ledgers.canonical import Json
from ledgers.ports import ContractEvent
from ledgers.records import (
    Alarm,
    AssetField,
    BatteryUse,
    Device,
    Direction,
    Energy,
    EnergyFigure,
    Material,
    Outcome,
    Plane,
    Samples,
    Session,
    SignedRecord,
    UsageRecord,
    WitnessStatement,
    reconcile,
    sign_record,
    sign_statement,
    utc_text,
)
from ledgers.records import Station as RecordStation
from twins.replay import Summary

NOT_RECONCILED = "a recording has one witness, the vehicle, so there is nothing to reconcile it with"

_COVERED_SHARE = 0.9  # engineering choice: of the recording's time, below which its energy is not known
_MOVING_KMH = 3.0


@dataclass(slots=True)
class Tally:
    """What was added up while samples were recorded."""

    samples: int = 0
    throughput_ah: float = 0.0
    current_s: float = 0.0  # time for which the current is known
    largest_power_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that the record is made from; `base_utc_s` is 0 where the logger has no absolute clock."""

    station: Station
    vehicle: str
    session_id: str
    file_sha256: str
    summary: Summary
    tally: Tally
    base_utc_s: float
    period_s: float
    samples_sha256: str
    state: Mapping[str, Json]
    alarms: tuple[Alarm, ...]

    @property
    def has_utc(self) -> bool:
        """Whether the logger's clock was absolute."""
        return self.summary.clock.absolute


def make_record(recording: Recording, keyring: Keyring) -> SignedRecord:
    """The usage record, its statement signed by the vehicle's key and the whole by the station's."""
    station, summary, vehicle = recording.station, recording.summary, recording.vehicle
    energy = _energy(recording)
    record_id = f"urn:v2gbench:{station.name}:{recording.session_id}"
    begin = utc_text(recording.base_utc_s)
    end = utc_text(recording.base_utc_s + summary.duration_s)
    statement = WitnessStatement(
        witness=vehicle,
        role="vehicle",
        record_id=record_id,
        material=Material.REPLAYED,
        begin=begin,
        end=end,
        energy=energy,
    )
    record = UsageRecord(
        record_id=record_id,
        station=RecordStation(name=station.name, sha256=station.sha256, material=Material.REPLAYED),
        session=Session(
            session_id=recording.session_id,
            plan="replay",
            begin=begin,
            end=end,
            outcome=Outcome.COMPLETED,
            outcome_reason=None,
            orders=(),
        ),
        devices=(_device(vehicle, "vehicle", recording), _device("recording", "recording", recording)),
        asset=_asset(recording),
        energy=energy,
        reconciliation=reconcile(energy),
        battery_use=_battery_use(recording),
        alarms=recording.alarms,
        limits=(),
        samples=Samples(count=recording.tally.samples, cycle_s=recording.period_s, sha256=recording.samples_sha256),
        witnesses=(sign_statement(statement, keyring.witness(vehicle)),),
    )
    return sign_record(record, keyring.station)


def raised_alarms(events: Iterable[ContractEvent]) -> tuple[Alarm, ...]:
    """The stress alarms that the monitoring contract raised, in order of time."""
    found = [
        Alarm(
            name=str(event.payload["alarm"]),
            utc=utc_text(_float(event.payload.get("utc_s")) or 0.0),
            text=f"{event.payload['alarm']} was raised by the monitoring contract",
            value=_float(event.payload.get("value")),
            threshold=_float(event.payload.get("limit")),
            unit=str(event.payload.get("unit", "")),
        )
        for event in events
        if event.name == "alarm_raised"
    ]
    return tuple(sorted(found, key=lambda alarm: (alarm.utc, alarm.name)))


def energy_reason(summary: Summary) -> str | None:
    """Why the recording has no energy that a record may state; None when it has one."""
    pack = next((energy for energy in summary.energy if energy.plane == "pack"), None)
    if pack is None:
        for quantity in ("vehicle.pack_voltage_v", "vehicle.pack_current_a"):
            reason = summary.absence(quantity)
            if reason is not None:
                return f"energy needs pack voltage and current: {reason}"
        return "pack voltage and current were never known at the same time"
    if pack.estimated:
        return "the log's rows lie too far apart for an energy; its summary has a rough estimate"
    if pack.covered_s < _COVERED_SHARE * summary.duration_s:
        return f"voltage and current are known for {pack.covered_s:.0f} s of the log's {summary.duration_s:.0f} s only"
    return None


def _energy(recording: Recording) -> Energy:
    summary, witness = recording.summary, recording.vehicle
    reason = energy_reason(summary)
    if reason is not None:
        nothing = EnergyFigure(
            witness=witness,
            plane=Plane.DC,
            value_wh=None,
            expanded_uncertainty_wh=None,
            coverage_factor=2,
            contributions={},
            reason=reason,
        )
        return Energy(imported=(nothing,), exported=(nothing,))
    pack = next(energy for energy in summary.energy if energy.plane == "pack")
    figures = {}
    for direction, value_wh in ((Direction.IMPORT, pack.into_pack_wh), (Direction.EXPORT, pack.out_of_pack_wh)):
        parts = {
            "gain": VEHICLE_GAIN_PERCENT / 100.0 * value_wh,
            "offset": VEHICLE_OFFSET_W * pack.covered_s / 3600.0,
            # What passed while nothing was known lies between nothing and the largest power all along.
            "gaps": max(0.0, summary.duration_s - pack.covered_s) * recording.tally.largest_power_w / 3600.0,
        }
        figures[direction] = EnergyFigure(
            witness=witness,
            plane=Plane.DC,
            value_wh=value_wh,
            expanded_uncertainty_wh=math.sqrt(sum(part**2 for part in parts.values())),
            coverage_factor=2,
            contributions=parts,
            reason=None,
        )
    return Energy(imported=(figures[Direction.IMPORT],), exported=(figures[Direction.EXPORT],))


def _device(name: str, role: str, recording: Recording) -> Device:
    """The vehicle, of which a log tells nothing (its number is dropped on reading); or the file that it is told by."""
    is_file = role == "recording"
    return Device(
        name=name,
        role=role,
        driver=f"replay.{recording.summary.dialect.value}",
        material=Material.REPLAYED,
        manufacturer="",
        model=recording.summary.file[:200] if is_file else "",
        serial=f"sha256:{recording.file_sha256}" if is_file else "",
        firmware="",
    )


def _asset(recording: Recording) -> tuple[AssetField, ...]:
    summary, state = recording.summary, recording.state
    known = {name for rule in asset_table().fields.values() for name in (*rule.driving, *rule.charging)}
    values: dict[str, float | str | None] = {
        quantity: found.last for quantity, found in summary.quantities.items() if quantity in known
    }
    reasons = {absence.quantity: absence.reason for absence in summary.absences if absence.quantity in known}
    values["vehicle.asset_id"] = f"{recording.station.name}-{recording.vehicle}"
    dash = summary.quantities.get("vehicle.dash_soc_percent")
    if summary.chademo and dash is not None:
        values["charger.soc_percent"] = dash.last  # what the vehicle tells the charger
    for axis in ("latitude_deg", "longitude_deg"):
        reasons[f"position.{axis}"] = "positions in a log are dropped where it is read"
    stamps = {f"contract.state{number}_utc": _float(state.get(f"I_time_stamp_state{number}")) for number in range(3)}
    stamps["session.utc"] = stamps["ledger.utc"] = recording.base_utc_s + summary.duration_s
    for name, utc_s in stamps.items():
        if not recording.has_utc:
            reasons[name] = "the logger has no absolute clock"
        elif utc_s is None:
            reasons[name] = "the monitoring contract never saw the vehicle in this state"
        else:
            values[name] = utc_s
    speed = summary.quantities.get("vehicle.speed_kmh")
    driving = bool(summary.trips) or (speed is not None and speed.maximum > _MOVING_KMH)
    return build_asset(values, reasons, mode="driving" if driving else "charging")


def _battery_use(recording: Recording) -> BatteryUse:
    summary, tally = recording.summary, recording.tally
    quantities = summary.quantities
    reasons: dict[str, str] = {}
    soc, soh = quantities.get("vehicle.soc_percent"), quantities.get("vehicle.soh_percent")
    for name in ("soc_begin_percent", "soc_end_percent"):
        if soc is None:
            reasons[name] = summary.absence("vehicle.soc_percent") or "the log has no state of charge"
    if soh is None:
        reasons["soh_percent"] = summary.absence("vehicle.soh_percent") or "the log has no state of health"
    throughput_ah: float | None = tally.throughput_ah
    if tally.current_s <= 0.0 or tally.current_s < _COVERED_SHARE * summary.duration_s:
        throughput_ah = None
        reasons["throughput_ah"] = (
            summary.absence("vehicle.pack_current_a")
            or f"the current is known for {tally.current_s:.0f} s of the log's {summary.duration_s:.0f} s only"
        )
    cycles: float | None = None
    capacity = quantities.get("vehicle.capacity_ah")
    if throughput_ah is None:
        reasons["equivalent_full_cycles"] = reasons["throughput_ah"]
    elif capacity is None or soh is None or soh.last <= 0.0:
        reasons["equivalent_full_cycles"] = "the log does not tell which capacity the pack had when it was new"
    else:
        cycles = throughput_ah / (2.0 * capacity.last / (soh.last / 100.0))
    temperatures = [found for name, found in quantities.items() if name.startswith("vehicle.pack_temperature_")]
    if not temperatures:
        for name in ("pack_temperature_min_c", "pack_temperature_max_c"):
            reasons[name] = summary.absence("vehicle.pack_temperature_1_c") or "the log has no pack temperature"
    return BatteryUse(
        witness=recording.vehicle,
        soc_begin_percent=None if soc is None else soc.first,
        soc_end_percent=None if soc is None else soc.last,
        throughput_ah=throughput_ah,
        equivalent_full_cycles=cycles,
        pack_temperature_min_c=min((found.minimum for found in temperatures), default=None),
        pack_temperature_max_c=max((found.maximum for found in temperatures), default=None),
        soh_percent=None if soh is None else soh.last,
        reasons=reasons,
    )


def _float(value: Json | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
