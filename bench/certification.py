"""From a finished session to a certificate, in one fixed order.

usage record -> signed -> appended and proven -> verified -> settled -> certificate. Money moves only when the *record*
verifies, and the certificate, which holds the settlement receipt too, is issued last. A record whose witnesses
disagree is written, signed and anchored all the same, because it is evidence; but it is not settled, and its
certificate says so.

Everything is taken from what was recorded (`Run`), never from the plan's memory: what is certified can be computed
again from the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from bench import witnesses
from bench.crossing import asset_values, device_entry
from bench.cycle import DeviceSet
from bench.desk import SETTLEMENT_SIGNER, Desk
from bench.paying import bind_session, finish_decided, is_unfinished, open_debts, was_begun, what_is_owed
from bench.safety import LimitRecord
from bench.session import SessionLog
from bench.settlement import OpenSettlement
from bench.station import Station
from bench.station.address import TwinAddress
from bench.station.model import AnalyzerTwin, ChargerTwin, VehicleTwin
from bench.witnesses import VEHICLE_GAIN_PERCENT, VEHICLE_OFFSET_W, Window, WitnessSheet
from drivers.roles import Nameplate, VehicleReadings
from ledgers.asset_fields import build_asset
from ledgers.canonical import Json
from ledgers.certificate import LedgerEvidence, OcmfEvidence, issue_certificate, write_record
from ledgers.errors import LedgerError, SettlementError
from ledgers.evidence import write_atomically, write_trust_file
from ledgers.formats.ocmf import OcmfSession, write_ocmf
from ledgers.lightning.errors import LightningError
from ledgers.lightning.receipt import LightningReceipt
from ledgers.ports import Hold, Quote, Receipt, SettlementReceipt
from ledgers.records import (
    Agreement,
    Alarm,
    AssetField,
    BatteryUse,
    Direction,
    GridOrder,
    LimitResult,
    LimitVerdict,
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
from ledgers.verify import verify_record
from reports.run import Run

_NEW_CAPACITY_AH = 115.44  # capacity of a new 40 kWh pack, from capacity over SOH in four public captures
_BMS_VOLTAGE_GAIN_PERCENT = 0.2  # of the voltage half of a BMS's power; engineering choice
_HIGHEST_PACK_VOLTAGE_V = 400.0
_DELIVERY_SHARE = 0.95  # a delivered order reaches at least this share of its power, ramp excluded
_PAYMENT_TRIES = 3  # of a step over Lightning; each has the deadlines of its client
_UNFINISHED_S = 10.0  # real time for which payments of the session are asked for that are not finished
_ASK_AGAIN_S = 0.25
_RAMP_S = 15.0  # what an order may take to come in, before its mean is judged


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What certification needs beside the run folder."""

    station: Station
    log: SessionLog
    devices: DeviceSet
    nameplates: Mapping[str, Nameplate]
    limits: Sequence[LimitRecord]
    sheets: tuple[WitnessSheet, ...]
    last_vehicle: VehicleReadings | None
    unpaid: tuple[str, ...] = ()  # sentences about payments that failed while energy flowed


@dataclass(slots=True)
class Certified:
    """What came of it: verdict and paths. `reasons` say, one sentence each, why it is not PASS."""

    verdict: str = "PASS"
    reasons: list[str] = field(default_factory=list)
    record: SignedRecord | None = None
    record_path: Path | None = None
    ocmf_paths: tuple[Path, Path] | None = None
    certificate: Path | None = None
    trust: Path | None = None
    receipts: dict[str, list[dict[str, Json]]] = field(default_factory=dict)
    settlement: dict[str, Json] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Take note of a reason against PASS."""
        self.verdict = "FAIL"
        self.reasons.append(reason)


@dataclass(slots=True)
class RecordedSession:
    """A session whose record is signed, on the ledger and proven; what is left to do is to settle and to certify it."""

    folder: Path
    facts: SessionFacts
    desk: Desk
    signed: SignedRecord
    ocmf: OcmfEvidence | None
    evidence: tuple[LedgerEvidence, ...]
    done: Certified
    found: tuple[str, tuple[str, ...]]  # verdict and reasons before anything was settled
    receipt: Path | None = None


def record_session(folder: Path, facts: SessionFacts, desk: Desk) -> RecordedSession:
    """Write the record of a finished session into its run folder, sign, append and prove it. No money has moved."""
    done = Certified()
    with Run.open(folder) as run:
        record = _usage_record(run, facts, desk)
    _judge_session(done, record)
    signed = sign_record(record, desk.keyring.station)
    records = folder / "records"
    done.record = signed
    done.record_path = write_record(records / "usage_record.json", signed)
    ocmf = _write_ocmf(records, facts, record, desk)
    if ocmf is not None:
        done.ocmf_paths = (ocmf.imported, ocmf.exported)
    receipts = desk.anchor(signed.sha256)
    bind_session(desk.settlement, desk.session_id, signed.sha256)  # before anything is held for it
    evidence = tuple(_prove(records, desk, receipt) for receipt in receipts)
    return RecordedSession(folder, facts, desk, signed, ocmf, evidence, done, (done.verdict, tuple(done.reasons)))


def hold_session(recorded: RecordedSession) -> Hold:
    """Set the money for a recorded session aside, as `settle_session` does first; again gives the same hold.

    Raises SettlementError when there is no metered energy, or as the settlement does when it cannot be held.
    """
    settlement = recorded.desk.settlement
    quote = _quote(recorded.facts, recorded.signed, settlement)
    if quote is None:
        raise SettlementError("there is no metered energy to settle")
    return _hold(settlement, quote, recorded.desk.session_id)


def settle_session(recorded: RecordedSession, presented: SignedRecord | None = None) -> None:
    """Hold, verify, release; `done.settlement` says what became of it.

    May be tried again until the session is paid for; what an earlier attempt said against it is forgotten then.
    `presented` is a record that somebody shows instead of the session's own, which a test of the settlement forges.
    """
    done = recorded.done
    done.verdict, done.reasons = recorded.found[0], list(recorded.found[1])
    signed = presented or recorded.signed
    recorded.receipt = _settle(done, recorded.folder / "records", recorded.facts, signed, recorded.desk)


def issue(recorded: RecordedSession) -> Certified:
    """The certificate of a recorded session, with its settlement or why there is none; returns all that came of it."""
    folder, facts, desk, done = recorded.folder, recorded.facts, recorded.desk, recorded.done
    assert done.record_path is not None  # `record_session` wrote it
    done.receipts = {
        channel: [written.to_json() for written in written_there] for channel, written_there in desk.receipts.items()
    }
    missing: dict[str, str] = {}
    if recorded.ocmf is None:
        missing["ocmf"] = "the charger's meter gave no energy for this session"
    if recorded.receipt is None:
        missing["settlement"] = str(done.settlement["reason"])
    try:
        done.certificate = issue_certificate(
            folder,
            record=done.record_path,
            ocmf=recorded.ocmf,
            ledger=recorded.evidence,
            settlement_receipt=recorded.receipt,
            issuer=desk.keyring.station,
            valid_from=recorded.signed.record.session.end,
            missing=missing,  # type: ignore[arg-type]  # keys are the literals above
        )
    except LedgerError as error:
        done.fail(str(error))
    # Beside the run folder, not in it: whoever could change the run could change a trust file in it.
    done.trust = write_trust_file(folder.parent / f"{facts.station.name}.trust.json", desk.keyring.trusted(desk.origin))
    return done


def witness_sheets(station: Station, devices: DeviceSet) -> tuple[WitnessSheet, ...]:
    """The data sheets of the witnesses of a rack, AC plane first.

    What the station file states of a device, or of its twin's errors, replaces the sheet's own. The clock of a witness
    that has none on its wire is the bench's, good to one cycle.
    """
    cycle_s = station.cycle_s
    sheets = []
    charger = devices.charger_name
    gain, offset = _stated(station, charger, gain_percent=1.0, offset_w=3.0)
    sheets.append(
        WitnessSheet(
            witness=charger,
            plane=Plane.AC,
            gain_percent=gain,  # class B of EN 50470-3: 1 %
            offset_w=offset,
            resolution_wh=1.0,
            poll_s=devices.charger_poll_s,
            clock_s=cycle_s,
            power=f"{charger}.ac_power",
            import_energy=f"{charger}.import_energy",
            export_energy=f"{charger}.export_energy",
        )
    )
    if devices.meter is not None:
        meter = devices.meter_name
        stated = devices.meter.capabilities()
        gain, offset = _stated(
            station,
            meter,
            gain_percent=100.0 * stated.power_uncertainty_of_reading,
            offset_w=stated.power_uncertainty_w,
        )
        sheets += [
            WitnessSheet(
                witness=meter,
                plane=plane,
                gain_percent=gain,
                offset_w=offset,
                resolution_wh=0.01,
                poll_s=max(devices.meter_poll_s, stated.update_s),
                clock_s=cycle_s,
                power=f"{meter}.{plane.value}_power",
                import_energy=f"{meter}.{plane.value}_import_energy",
                export_energy=f"{meter}.{plane.value}_export_energy",
            )
            for plane in (Plane.AC, Plane.DC)
        ]
    if devices.vehicle is not None:
        vehicle = devices.vehicle_name
        gain, offset = _stated(station, vehicle, gain_percent=VEHICLE_GAIN_PERCENT, offset_w=VEHICLE_OFFSET_W)
        sheets.append(
            WitnessSheet(
                witness=vehicle,
                plane=Plane.DC,
                gain_percent=gain,
                offset_w=offset,
                resolution_wh=0.0,
                poll_s=devices.vehicle_poll_s,
                clock_s=cycle_s,
                power=f"{vehicle}.pack_voltage",
                current=f"{vehicle}.pack_current",
            )
        )
    return tuple(sheets)


def _stated(station: Station, device: str, *, gain_percent: float, offset_w: float) -> tuple[float, float]:
    """Gain and offset of a witness's sheet: as the device states them in the station file, else as its twin does."""
    part = station.devices[device]
    if part.accuracy is not None:
        return part.accuracy.gain_percent, part.accuracy.offset_w
    twin = station.twins.get(part.address.twin) if isinstance(part.address, TwinAddress) else None
    if isinstance(twin, ChargerTwin | AnalyzerTwin) and twin.errors is not None:
        stated = twin.errors
        return (
            gain_percent if stated.gain_percent is None else stated.gain_percent,
            offset_w if stated.offset_w is None else stated.offset_w,
        )
    if isinstance(twin, VehicleTwin) and twin.errors is not None:
        current = twin.errors
        return (
            gain_percent if current.gain_percent is None else current.gain_percent + _BMS_VOLTAGE_GAIN_PERCENT,
            offset_w if current.offset_a is None else current.offset_a * _HIGHEST_PACK_VOLTAGE_V,
        )
    return gain_percent, offset_w


def _usage_record(run: Run, facts: SessionFacts, desk: Desk) -> UsageRecord:
    station, log = facts.station, facts.log
    window = Window(log.begin_s, log.end_s)
    energy = witnesses.energies(run, facts.sheets, window)
    reconciliation = reconcile(energy, witnesses.time_lags(run, facts.sheets, window))
    material = Material.EMULATED if station.twins else Material.MEASURED
    record_id = f"urn:v2gbench:{station.name}:{desk.session_id}"
    begin, end = utc_text(log.begin_utc_s), utc_text(log.end_utc_s)
    statements = []
    for witness in dict.fromkeys(sheet.witness for sheet in facts.sheets):
        metal = witness in station.metal
        statement = WitnessStatement(
            witness=witness,
            role=station.devices[witness].role,
            record_id=record_id,
            material=Material.MEASURED if metal else Material.EMULATED,
            begin=begin,
            end=end,
            energy=energy.by_witness(witness),
        )
        statements.append(sign_statement(statement, desk.keyring.witness(witness)))
    return UsageRecord(
        record_id=record_id,
        station=RecordStation(name=station.name, sha256=station.sha256, material=material),
        session=Session(
            session_id=desk.session_id,
            plan=log.plan.name,
            begin=begin,
            end=end,
            outcome=Outcome.ABORTED if log.tripped or log.aborted else Outcome.COMPLETED,
            outcome_reason=(log.tripped or log.aborted) or None,
            orders=_orders(run, facts),
        ),
        devices=tuple(
            device_entry(
                name,
                station.devices[name].role,
                station.devices[name].driver,
                metal=name in station.metal,
                nameplate=nameplate,
            )
            for name, nameplate in facts.nameplates.items()
        ),
        asset=_asset(facts, desk),
        energy=energy,
        reconciliation=reconciliation,
        battery_use=_battery_use(run, facts, window),
        alarms=_alarms(run, desk),
        limits=tuple(_limit(record) for record in facts.limits),
        samples=Samples(count=len(run.cycles()), cycle_s=station.cycle_s, sha256=run.samples_sha256()),
        witnesses=tuple(statements),
    )


def _orders(run: Run, facts: SessionFacts) -> tuple[GridOrder, ...]:
    log = facts.log
    witness = facts.devices.meter_name or facts.devices.charger_name
    found = []
    for order in log.plan.orders:
        begin_s = log.transfer_s + order.start_s
        end_s = log.transfer_s + order.end_s
        settled_s = min(_RAMP_S, order.duration_s / 2.0)
        mean_w, reason = None, "the session ended before this order did"
        if end_s <= log.end_s:
            mean_w = witnesses.mean_power(run, f"{witness}.ac_power", begin_s + settled_s, end_s)
            reason = f"{witness} did not report power while it ran"
        offset = log.begin_utc_s - log.begin_s
        found.append(
            GridOrder(
                order_id=order.order_id,
                kind=order.direction,
                begin=utc_text(begin_s + offset),
                end=utc_text(end_s + offset),
                requested_power_w=log.plan.baseline_w + order.change_w,
                delivered_power_w=mean_w,
                delivered_energy_wh=None if mean_w is None else mean_w * (order.duration_s - settled_s) / 3600.0,
                measured_by=None if mean_w is None else witness,
                reason=reason if mean_w is None else None,
            )
        )
    return tuple(found)


def _asset(facts: SessionFacts, desk: Desk) -> tuple[AssetField, ...]:
    values = asset_values(facts.last_vehicle)
    values["vehicle.asset_id"] = f"{facts.station.name}-{desk.vehicle_id}"
    values["session.utc"] = facts.log.end_utc_s
    values["ledger.utc"] = facts.log.end_utc_s
    state = desk.vehicle_state()
    for number in range(3):
        stamp = state.get(f"I_time_stamp_state{number}")
        values[f"contract.state{number}_utc"] = float(stamp) if isinstance(stamp, int | float) else None
    reasons = {
        "position.latitude_deg": "the station has no positioning device",
        "position.longitude_deg": "the station has no positioning device",
        **{
            f"contract.state{number}_utc": f"the vehicle was never in state {number} while the contract watched"
            for number in range(3)
        },
    }
    return build_asset(values, reasons)


def _battery_use(run: Run, facts: SessionFacts, window: Window) -> BatteryUse:
    vehicle = facts.devices.vehicle_name
    if not vehicle:
        reason = "the station has no vehicle device"
        return BatteryUse(
            witness=facts.devices.charger_name,
            soc_begin_percent=None,
            soc_end_percent=None,
            throughput_ah=None,
            equivalent_full_cycles=None,
            pack_temperature_min_c=None,
            pack_temperature_max_c=None,
            soh_percent=None,
            reasons={name: reason for name in BatteryUse.model_fields if name not in {"witness", "reasons"}},
        )
    soc = witnesses.first_and_last(run, f"{vehicle}.soc", window)
    soh = witnesses.first_and_last(run, f"{vehicle}.soh", window)
    throughput_ah = witnesses.ampere_hours(run, f"{vehicle}.pack_current", window)
    sensors = tuple(source.name for source in run.sources() if source.name.startswith(f"{vehicle}.pack_temperature"))
    temperatures = witnesses.extremes(run, sensors, window)
    values = {
        "soc_begin_percent": None if soc is None else soc[0],
        "soc_end_percent": None if soc is None else soc[1],
        "throughput_ah": throughput_ah,
        "equivalent_full_cycles": None if throughput_ah is None else throughput_ah / (2.0 * _NEW_CAPACITY_AH),
        "pack_temperature_min_c": None if temperatures is None else temperatures[0],
        "pack_temperature_max_c": None if temperatures is None else temperatures[1],
        "soh_percent": None if soh is None else soh[1],
    }
    return BatteryUse(
        witness=vehicle,
        reasons={name: f"{vehicle} did not report it" for name, value in values.items() if value is None},
        **values,
    )


def _alarms(run: Run, desk: Desk) -> tuple[Alarm, ...]:
    found = [
        Alarm(
            name=str(event.content["limit"]),
            utc=utc_text(event.utc_s),
            text=str(event.content["sentence"]),
            value=_number(event.content["value"]),
            threshold=None,
            unit=str(event.content["unit"]),
        )
        for kind in ("limit_warning", "limit_tripped")
        for event in run.events(kind)
    ]
    for event in desk.ledger.events("alarms", 0, desk.keyring.party("ev_owner")):
        payload = event.payload
        if event.name == "alarm_raised":
            found.append(
                Alarm(
                    name=str(payload["alarm"]),
                    utc=event.utc,
                    text=f"{payload['alarm']} was raised by the monitoring contract",
                    value=_number(payload.get("value")),
                    threshold=_number(payload.get("limit")),
                    unit=str(payload.get("unit", "")),
                )
            )
    return tuple(sorted(found, key=lambda alarm: (alarm.utc, alarm.name)))


def _limit(record: LimitRecord) -> LimitResult:
    verdicts = {"pass": LimitVerdict.PASS, "warning": LimitVerdict.WARN, "fail": LimitVerdict.FAIL}
    judged = record.worst_value is not None
    return LimitResult(
        name=record.name,
        unit=record.unit,
        limit=record.text,
        worst_value=record.worst_value,
        margin=record.margin,
        verdict=verdicts[record.verdict] if judged else LimitVerdict.NOT_JUDGED,
        reason=None if judged else "no device reported it",
    )


def _judge_session(done: Certified, record: UsageRecord) -> None:
    if record.session.outcome is Outcome.ABORTED:
        done.fail(str(record.session.outcome_reason))
    if record.reconciliation.verdict is Agreement.DISAGREE:
        odd = record.reconciliation.odd_witness
        named = f"{odd} is the odd one: " if odd is not None else ""
        done.fail(f"the witnesses disagree; {named}{record.reconciliation.odd_reason}")
    if record.reconciliation.verdict is Agreement.NOT_JUDGED:
        _judge_unjudged(done, record)
    figures = (*record.energy.imported, *record.energy.exported)
    silent = dict.fromkeys(figure.witness for figure in figures if "silence" in figure.contributions)
    done.reasons += [f"{name} was silent at an end of the session, so its figures are less certain" for name in silent]
    for order in record.session.orders:
        if order.delivered_power_w is None:
            done.fail(f"order {order.order_id} was not delivered: {order.reason}")
        elif not _delivered(order):
            done.fail(
                f"order {order.order_id} asked for {order.requested_power_w:g} W, "
                f"and {order.delivered_power_w:.0f} W were delivered"
            )
    done.reasons += [f"limit {limit.name} failed" for limit in record.limits if limit.verdict is LimitVerdict.FAIL]
    if any(limit.verdict is LimitVerdict.FAIL for limit in record.limits):
        done.verdict = "FAIL"


def _judge_unjudged(done: Certified, record: UsageRecord) -> None:
    """A witness that fell silent is a fault of the session; a station with too few of them is not."""
    silent = [pair.reason for pair in record.reconciliation.pairs if pair.reason is not None]
    if silent:
        done.fail(f"the witnesses could not be compared: {silent[0]}")
    else:
        done.reasons.append("nothing was compared: no two witnesses of this station stand at one plane")


def _delivered(order: GridOrder) -> bool:
    assert order.delivered_power_w is not None  # the caller checked
    allowed_w = max(150.0, (1.0 - _DELIVERY_SHARE) * abs(order.requested_power_w))
    return abs(order.delivered_power_w - order.requested_power_w) <= allowed_w


def _write_ocmf(records: Path, facts: SessionFacts, record: UsageRecord, desk: Desk) -> OcmfEvidence | None:
    charger = facts.devices.charger_name
    figures = {direction: record.energy.figure(charger, Plane.AC, direction) for direction in Direction}
    if any(figure.value_wh is None for figure in figures.values()):
        return None
    nameplate = facts.nameplates[charger]
    session = OcmfSession(
        meter_vendor=nameplate.manufacturer,
        meter_model=nameplate.model,
        meter_serial=nameplate.serial,
        meter_firmware=nameplate.firmware,
        charge_box=charger,
        connector=1,
        begin_utc_s=facts.log.begin_utc_s,
        end_utc_s=facts.log.end_utc_s,
        material=record.station.material,
        clock_synchronised=facts.station.clock == "stepped",
        end_reason="A" if record.session.outcome is Outcome.ABORTED else "E",
    )
    paths = []
    for page, direction in enumerate(Direction, 1):
        value_wh = figures[direction].value_wh
        assert value_wh is not None  # checked above
        text = write_ocmf(session, direction, energy_wh=value_wh, pagination=page, meter=desk.keyring.witness(charger))
        paths.append(write_atomically(records / f"{direction.value}.ocmf", text.encode("ascii")))
    return OcmfEvidence(witness=charger, imported=paths[0], exported=paths[1])


def _prove(records: Path, desk: Desk, receipt: Receipt) -> LedgerEvidence:
    reader = desk.keyring.party("ev_owner")
    proof = desk.ledger.prove(receipt)
    entry = write_atomically(records / f"{receipt.channel}.entry.json", desk.ledger.entry(receipt, reader))
    text = write_atomically(records / f"{receipt.channel}.tlog-proof", proof.text.encode())
    return LedgerEvidence(
        channel=receipt.channel,
        origin=proof.origin,
        public_key_der=proof.public_key_der,
        proof=text,
        entry=entry,
    )


def _quote(facts: SessionFacts, signed: SignedRecord, settlement: OpenSettlement) -> Quote | None:
    """What a record makes due under the station's tariff; None when it has no metered energy."""
    figures = [
        signed.record.energy.figure(facts.devices.charger_name, Plane.AC, direction).value_wh for direction in Direction
    ]
    if figures[0] is None or figures[1] is None:
        return None
    orders = facts.log.plan.orders
    available_s = sum(order.duration_s for order in orders)
    available_w = max((order.power_w for order in orders), default=0.0)
    return settlement.quote(
        signed.sha256,
        import_wh=Decimal(f"{figures[0]:.3f}"),
        export_wh=Decimal(f"{figures[1]:.3f}"),
        available_power_w=Decimal(f"{available_w:.3f}"),
        available_s=Decimal(f"{available_s:.3f}"),
    )


def _settle(done: Certified, records: Path, facts: SessionFacts, signed: SignedRecord, desk: Desk) -> Path | None:
    """Hold, verify, release; None with the reason in `done.settlement` when nothing is paid."""
    settlement = desk.settlement
    quote = None
    try:
        quote = _quote(facts, signed, settlement)
        if quote is None:
            reason = _with_debts("there is no metered energy to settle", facts, desk, None)
            done.settlement = {"status": "none", "reason": reason}
            if was_begun(settlement, desk.session_id):
                done.fail(reason)
            return None
        hold = _hold(settlement, quote, desk.session_id)
    except LedgerError as error:
        stays = "" if quote is None else _give_back_in_part(settlement, quote)
        cause = f"{error}; what was held already could not be given back: {stays}" if stays else str(error)
        reason = _with_debts(cause, facts, desk, quote)
        done.settlement = {"status": "unfinished" if stays else "none", "reason": reason}
        done.fail(reason)
        return None
    verifier = _Verifier()
    try:
        receipt = _insist(lambda: settlement.release(hold.hold_id, record=signed.to_bytes(), verify=verifier))
    except LedgerError as error:
        status, cause, fails = _take_back(settlement, hold.hold_id, str(error), verified=verifier.passed)
        reason = _with_debts(cause, facts, desk, quote)
        done.settlement = {"status": status, "reason": reason}
        if fails:
            done.fail(reason)
        return None
    done.settlement = _settled(receipt, settlement)
    return write_atomically(records / "settlement.json", receipt.to_canonical())


class _Verifier:
    """Verifies the record, and remembers whether it held: what fails after that is the payment, not the record."""

    def __init__(self) -> None:
        self.passed = False

    def __call__(self, record: bytes) -> None:
        verify_record(record)
        self.passed = True


def _insist(step: Callable[[], _T]) -> _T:
    """Take a step of a settlement, again when a node said no or was away: the same call goes on where it was."""
    for _ in range(_PAYMENT_TRIES - 1):
        with suppress(LightningError):
            return step()
    return step()


def _hold(settlement: OpenSettlement, quote: Quote, session_id: str) -> Hold:
    """Have the quote's money held, once what was begun while energy flowed is finished; a node may be away so long."""
    end = time.monotonic() + _UNFINISHED_S
    while True:
        try:
            if is_unfinished(settlement, session_id):  # tried again by this loop, for a bounded time
                return settlement.hold(quote)
            return _insist(lambda: settlement.hold(quote))
        except LedgerError:
            if time.monotonic() >= end or not is_unfinished(settlement, session_id):
                raise
        finish_decided(settlement)
        time.sleep(_ASK_AGAIN_S)


def _give_back_in_part(settlement: OpenSettlement, quote: Quote) -> str:
    """After a hold that failed: give back what it held already; why that could not be done, empty when it was."""
    hold_id = quote.quote_id[:32]
    if all(debt.subject != hold_id for debt in open_debts(settlement)):
        return ""
    try:
        settlement.cancel(hold_id)
    except LedgerError as error:
        return str(error)
    return ""


def _take_back(settlement: OpenSettlement, hold_id: str, cause: str, *, verified: bool) -> tuple[str, str, bool]:
    """Give held money back after a release that failed; what became of it, why, and whether the session fails by it."""
    try:
        settlement.cancel(hold_id)
    except LedgerError as error:  # a part is paid already, or a node is away: it stays as it is, and is told
        return "unfinished", f"the money neither moved in whole nor went back: {cause}; {error}", True
    if verified:
        reason = f"the record verifies, but the money went back because the payment failed: {cause}"
        return "cancelled", reason, True
    return "cancelled", f"the money went back because the record does not verify: {cause}", False


def _with_debts(reason: str, facts: SessionFacts, desk: Desk, quote: Quote | None) -> str:
    """A reason for no settlement, with what was paid before and what is owed, where it was paid while energy flowed."""
    return "; ".join((reason, *facts.unpaid, *what_is_owed(desk.settlement, desk.session_id, quote)))


def _settled(receipt: SettlementReceipt, settlement: OpenSettlement) -> dict[str, Json]:
    quote = receipt.quote
    try:
        balances = dict(settlement.balances())
        unread: dict[str, Json] = {}
    except LedgerError as error:  # the money has moved; a node that is away now only hides what it has
        balances, unread = {}, {"balances_reason": str(error)}
    return {
        "status": "settled",
        "currency": quote.currency,
        "unit": "micro",
        "lines": [line.to_json() for line in quote.lines],
        "amounts_micro": {line.kind: line.amount_micro for line in quote.lines},
        "balances_micro": {**balances},
        **unread,
        "hold_id": receipt.hold_id,
        "signer": SETTLEMENT_SIGNER,
        **(_paid_over_lightning(receipt) if isinstance(receipt, LightningReceipt) else {}),
    }


def _paid_over_lightning(receipt: LightningReceipt) -> dict[str, Json]:
    return {
        "lightning": {
            "mode": receipt.mode,
            "network": receipt.network,
            "rate": receipt.rate.to_json(),
            "paid_msat": {due.kind: due.paid_msat for due in receipt.dues},
            "advance_msat": {due.kind: due.advance_msat for due in receipt.dues},
            "fees_msat": sum(payment.debt.fee_msat or 0 for payment in receipt.payments),
            "payments": len(receipt.payments),
        }
    }


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
