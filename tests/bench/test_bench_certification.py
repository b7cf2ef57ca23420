"""What a session leaves behind, whatever happened in it: a whole record, a certificate that verifies, honest gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.certification import issue, record_session, settle_session, witness_sheets
from bench.desk import Desk
from bench.pipeline import CertifiedRun, CertifiedSession, run_certified
from bench.rack import Rack
from bench.session import GridOrder, SessionPlan
from bench.station import Station
from ledgers.canonical import sha256_hex
from ledgers.records import Agreement, Direction, LimitVerdict, Outcome, Plane, usage_record_from_bytes
from ledgers.verify import verify_certificate, verify_in_memory
from reports.run import Run

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]

SHORT = SessionPlan(
    name="short",
    duration_s=120,
    baseline_w=4000.0,
    orders=(GridOrder(order_id="down", direction="load_decrease", start_s=30, duration_s=60, power_w=10_000.0),),
)


def verified(run: CertifiedRun) -> str:
    """The verdict under trust; both verifications must hold."""
    certified = run.certified
    assert certified.certificate is not None
    assert verify_certificate(certified.certificate).ok
    verdict = verify_certificate(certified.certificate, certified.trust)
    assert verdict.ok, verdict.text
    return verdict.text


def subject(run: CertifiedRun) -> dict[str, Any]:
    assert run.certified.certificate is not None
    found: dict[str, Any] = json.loads(run.certified.certificate.read_bytes())["credentialSubject"]
    return found


def anchored(run: CertifiedRun) -> bool:
    """Whether both channels hold the hash of the record file."""
    assert run.certified.record_path is not None
    digest = sha256_hex(run.certified.record_path.read_bytes())
    entries = [run.folder / "records" / f"{channel}.entry.json" for channel in ("monitoring", "remuneration")]
    return all(digest in entry.read_text() for entry in entries)


# A session without fault ------------------------------------------------------------------------------------------


def test_a_healthy_session_is_settled_and_everything_in_its_certificate_holds(finished: CertifiedRun) -> None:
    assert finished.certified.verdict == "PASS", finished.certified.reasons
    assert verified(finished) == "intact; signers checked; material emulated"
    assert subject(finished)["missing"] == {}
    assert finished.certified.settlement["status"] == "settled"
    assert anchored(finished)


def test_money_moved_after_the_record_stood_in_the_ledger_and_balances_add_up(finished: CertifiedRun) -> None:
    settlement = finished.certified.settlement
    assert finished.certified.record is not None
    receipt = json.loads((finished.folder / "records" / "settlement.json").read_text())
    assert receipt["record_sha256"] == finished.certified.record.sha256
    balances = settlement["balances_micro"]
    assert isinstance(balances, dict)
    assert sum(value for value in balances.values() if isinstance(value, int)) == 0
    assert balances.get("held", 0) == 0


def test_what_was_paid_is_what_the_charger_metered_at_the_tariffs_prices(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    energy = finished.certified.record.record.energy
    settlement: Any = finished.certified.settlement
    lines = {line["kind"]: line for line in settlement["lines"]}
    wh_per_unit = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6}
    for kind, direction in (("import_energy", Direction.IMPORT), ("v2g_energy", Direction.EXPORT)):
        value_wh = energy.figure("charger", Plane.AC, direction).value_wh
        assert value_wh is not None
        assert value_wh > 50.0
        paid_wh = float(lines[kind]["quantity"]) * wh_per_unit[lines[kind]["quantity_unit"]]
        assert paid_wh == pytest.approx(value_wh, abs=0.5)


def test_orders_say_what_was_asked_and_what_the_analyzer_saw(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    down, up = finished.certified.record.record.session.orders
    assert (down.requested_power_w, up.requested_power_w) == (-7000.0, 8000.0)
    assert (down.measured_by, up.measured_by) == ("meter", "meter")
    assert down.delivered_power_w == pytest.approx(-7000.0, rel=0.02)
    assert up.delivered_power_w == pytest.approx(8000.0, rel=0.02)
    # 100 s and 75 s, less the first 15 s in which an order may come in
    assert down.delivered_energy_wh == pytest.approx(-7000.0 * 85 / 3600, rel=0.02)
    assert up.delivered_energy_wh == pytest.approx(8000.0 * 60 / 3600, rel=0.02)
    assert down.begin < down.end < up.begin < up.end


def test_an_asset_field_without_a_source_is_null_with_its_reason(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    fields = {field.name: field for field in finished.certified.record.record.asset}
    assert len(fields) > 20
    assert all((field.value is None) == (field.reason is not None) for field in fields.values())
    missing = {name: field.reason for name, field in fields.items() if field.value is None}
    assert any(reason == "the station has no positioning device" for reason in missing.values()), missing
    assert fields["SOC"].value is not None


def test_limits_carry_their_worst_value_and_margin(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    limits = {limit.name: limit for limit in finished.certified.record.record.limits}
    power = limits["power_w"]
    assert power.limit == "-10500 <= power_w <= 10500"
    assert power.verdict is LimitVerdict.PASS
    assert power.worst_value is not None
    assert power.worst_value == pytest.approx(8000.0, rel=0.02)
    assert power.margin == pytest.approx(10_500.0 - power.worst_value)
    with Run.open(finished.folder) as run:
        both = [run.series(f"{device}.ac_power").value for device in ("charger", "meter")]
        assert power.worst_value == pytest.approx(max(max(abs(values)) for values in both))


def test_the_record_rests_on_the_samples_of_its_run_folder(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    with Run.open(finished.folder) as run:
        assert finished.certified.record.record.samples.sha256 == run.samples_sha256()
        assert finished.certified.record.record.samples.count == len(run.cycles())


# Sessions with one ------------------------------------------------------------------------------------------------


def test_witnesses_that_disagree_are_recorded_signed_and_anchored_but_not_paid(emulated: Change) -> None:
    run = run_certified(emulated({"twins.charger.fault": {"kind": "sign"}}), SHORT, report=False)

    assert run.certified.verdict == "FAIL"
    assert run.certified.record is not None
    assert run.certified.record.record.reconciliation.odd_witness == "charger"
    assert "witnesses disagree, odd one charger" in verified(run)
    assert anchored(run)
    assert run.certified.ocmf_paths is not None
    assert run.certified.settlement["status"] == "cancelled"
    assert not (run.folder / "records" / "settlement.json").exists()
    missing = subject(run)["missing"]
    assert set(missing) == {"settlement"}
    assert "witnesses do not agree (disagree, odd one charger)" in missing["settlement"]


def test_a_tripped_session_leaves_a_whole_record_that_says_why(emulated: Change) -> None:
    station = emulated({"limits.soc_percent": {"min": 10.0, "max": 55.5}})
    late = GridOrder(order_id="late", direction="load_decrease", start_s=800, duration_s=60, power_w=10_000.0)
    plan = SessionPlan(name="long", duration_s=900, baseline_w=9000.0, orders=(late,))
    run = run_certified(station, plan, report=False)

    assert run.tripped
    assert run.certified.record is not None
    record = run.certified.record.record
    assert record.session.outcome is Outcome.ABORTED
    assert record.session.outcome_reason is not None
    assert "outside 10 <= soc_percent <= 55.5 %; the safe state is reached" in record.session.outcome_reason
    limits = {limit.name: limit for limit in record.limits}
    assert limits["soc_percent"].verdict is LimitVerdict.FAIL
    assert limits["soc_percent"].margin is not None
    assert limits["soc_percent"].margin < 0.0
    assert "limit soc_percent failed" in run.certified.reasons
    assert any(alarm.name == "soc_percent" for alarm in record.alarms)
    (order,) = record.session.orders
    assert (order.delivered_power_w, order.reason) == (None, "the session ended before this order did")
    assert verified(run) == "intact; signers checked; material emulated"
    with Run.open(run.folder) as recorded:
        assert recorded.verdict == "tripped"
        assert abs(recorded.series("charger.ac_power").value[-1]) < 200.0


def test_a_session_that_is_refused_half_way_leaves_a_whole_record_too(emulated: Change) -> None:
    big = GridOrder(order_id="big", direction="load_increase", start_s=60, duration_s=30, power_w=20_000.0)
    run = run_certified(emulated(), SHORT.model_copy(update={"orders": (big,)}), report=False)

    assert not run.tripped
    assert run.certified.record is not None
    session = run.certified.record.record.session
    assert session.outcome is Outcome.ABORTED
    assert session.outcome_reason == "a set-point of 24000 W is outside the station's limit -10500 <= power_w <= 10500"
    assert verified(run)


def test_a_charger_alone_certifies_what_it_can_and_gives_reasons_for_the_rest(emulated: Change) -> None:
    station = emulated(
        {
            "devices.van": None,
            "devices.meter": None,
            "limits.pack_temperature_c": None,
            "limits.soc_percent": None,
        }
    )
    run = run_certified(station, SHORT, report=False)

    assert run.certified.verdict == "PASS"
    assert run.certified.reasons == ["nothing was compared: no two witnesses of this station stand at one plane"]
    assert run.certified.record is not None
    record = run.certified.record.record
    assert record.reconciliation.verdict is Agreement.NOT_JUDGED
    assert [figure.witness for figure in record.energy.imported] == ["charger"]
    assert set(record.battery_use.reasons.values()) == {"the station has no vehicle device"}
    assert record.session.orders[0].measured_by == "charger"
    assert "settle by hand" in subject(run)["missing"]["settlement"]
    assert verified(run)


def test_a_station_without_a_vehicle_device_still_compares_its_ac_meters(emulated: Change) -> None:
    station = emulated({"devices.van": None, "limits.pack_temperature_c": None, "limits.soc_percent": None})
    run = run_certified(station, SHORT, report=False)

    assert run.certified.record is not None
    pairs = {(pair.a, pair.b) for pair in run.certified.record.record.reconciliation.pairs}
    assert pairs == {("charger", "meter")}
    assert run.certified.settlement["status"] == "settled"
    assert verified(run)


def test_an_analyzer_that_falls_silent_loses_its_figures_but_not_the_certificate(emulated: Change) -> None:
    with CertifiedSession(emulated(), SHORT) as session:
        session.announce()
        rack = session.rack
        rack.cycle.listeners.append(lambda index, _snapshot, _now_s: _close_face_at(rack, index, "analyzer", "scpi"))
        run = session.conclude(session.runner.run(), report=False)

    assert run.certified.verdict == "FAIL"
    assert any(
        reason.startswith("the witnesses could not be compared: meter: meter did not report its energy register in the")
        for reason in run.certified.reasons
    ), run.certified.reasons
    assert run.certified.settlement["status"] == "cancelled"
    assert verified(run)
    with Run.open(run.folder) as recorded:
        assert recorded.verdict == "completed"
        assert recorded.events("device_silent")
        assert recorded.events("device_not_closed")


def _close_face_at(rack: Rack, index: int, twin: str, face: str) -> None:
    if index == 40:
        assert rack.emulated is not None
        rack.emulated.close_face(twin, face)


def test_a_record_that_does_not_verify_moves_no_money(emulated: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record on its way to the accounts loses a witness's signature: the hold goes back."""
    from ledgers.embedded.settlement import EmbeddedSettlement

    released = EmbeddedSettlement.release

    def tampering(self: EmbeddedSettlement, hold_id: str, **given: Any) -> Any:
        given["record"] = given["record"].replace(b'"witness":"van"', b'"witness":"wan"', 1)
        return released(self, hold_id, **given)

    monkeypatch.setattr(EmbeddedSettlement, "release", tampering)
    run = run_certified(emulated(), SHORT, report=False)

    assert run.certified.settlement["status"] == "cancelled"
    assert not (run.folder / "settlement" / "receipts").exists() or not list(
        (run.folder / "settlement" / "receipts").iterdir()
    )
    assert verified(run)


def test_the_same_run_folder_certified_again_gives_the_same_record(emulated: Change, tmp_path: Path) -> None:
    with CertifiedSession(emulated(), SHORT) as session:
        session.announce()
        clock = session.rack.clock
        run = session.conclude(session.runner.run(), report=False)
        facts, session_id = session.recorded.facts, session.recorded.desk.session_id
    assert run.certified.record_path is not None
    before = usage_record_from_bytes(run.certified.record_path.read_bytes()).record
    with Desk(facts.station, tmp_path / "again", clock, session_id=session_id) as desk:
        recorded = record_session(run.folder, facts, desk)
        settle_session(recorded)
        again = issue(recorded)
    assert again.record is not None
    after = again.record.record
    # another ledger has no alarms and no state times; every figure is the same
    assert (after.energy, after.reconciliation, after.session, after.samples, after.limits) == (
        before.energy,
        before.reconciliation,
        before.session,
        before.samples,
        before.limits,
    )


# Sheets -----------------------------------------------------------------------------------------------------------


def test_errors_stated_in_the_station_file_are_the_ones_that_are_judged_by(emulated: Change) -> None:
    station = emulated(
        {
            "twins.charger.errors": {"gain_percent": 2.0, "offset_w": 11.0},
            "twins.van.errors": {"gain_percent": 1.5, "offset_a": 0.1},
            "twins.analyzer.errors": {"gain_percent": 0.3},
        }
    )
    with Rack.open(station, plan="sheets") as rack:
        sheets = {(sheet.witness, sheet.plane): sheet for sheet in witness_sheets(station, rack.devices)}

    assert list(sheets) == [("charger", Plane.AC), ("meter", Plane.AC), ("meter", Plane.DC), ("van", Plane.DC)]
    charger, van = sheets["charger", Plane.AC], sheets["van", Plane.DC]
    assert (charger.gain_percent, charger.offset_w) == (2.0, 11.0)
    assert (van.gain_percent, van.offset_w) == (1.7, 40.0)  # with the voltage's 0.2 %; 0.1 A at 400 V
    assert sheets["meter", Plane.AC].gain_percent == 0.3
    assert van.poll_s == 10.0
    assert replace(van, poll_s=1.0).poll_s == 1.0


# Other keys -------------------------------------------------------------------------------------------------------


def test_a_run_signed_with_the_keys_of_another_seed_is_intact_and_fails_under_trust(
    emulated: Change, finished: CertifiedRun
) -> None:
    forged = run_certified(emulated({"seed": 8}), SHORT, report=False)
    assert forged.certified.certificate is not None

    assert verify_certificate(forged.certified.certificate).ok
    verdict = verify_certificate(forged.certified.certificate, finished.certified.trust)
    assert not verdict.ok
    assert {check.name for check in verdict.checks if not check.ok} == {
        "signer station 'emulated'",
        "signer witness 'charger'",
        "signer witness 'meter'",
        "signer witness 'van'",
        "signer log 'v2gbench.emulated/monitoring'",
        "signer log 'v2gbench.emulated/remuneration'",
        "signer settlement 'aggregator'",
    }


# Changed bytes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate_read_once(finished: CertifiedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """While files change and the certificate does not, its own checks (a pure function of its bytes) run once."""
    import ledgers.verify

    check, whole = ledgers.verify._certificate, (finished.folder / "certificate.json").read_bytes()
    first = ledgers.verify._Run()
    answer = check(first, whole)

    def once(run: Any, data: bytes) -> Any:
        if data != whole:
            return check(run, data)
        run.checks += first.checks
        return answer

    monkeypatch.setattr(ledgers.verify, "_certificate", once)


def changes_found(finished: CertifiedRun, step: int, start: int) -> int:
    """Change every `step`-th byte of the certificate and of all files it names in three ways; how many were tried."""
    folder = finished.folder
    data = (folder / "certificate.json").read_bytes()
    files = {f"records/{path.name}": path.read_bytes() for path in (folder / "records").iterdir()}
    assert verify_in_memory(data, files).ok
    tried = 0
    for name, whole in {"certificate": data, **files}.items():
        for position in range(start % len(whole), len(whole), step):
            old = whole[position]
            for value in (old ^ 0x01, old ^ 0x20, (old + 0x80) & 0xFF):
                changed = b"%b%c%b" % (whole[:position], value, whole[position + 1 :])
                verdict = (
                    verify_in_memory(changed, files)
                    if name == "certificate"
                    else verify_in_memory(data, {**files, name: changed})
                )
                failed = [check.name for check in verdict.checks if not check.ok]
                assert failed, f"{name}, byte {position}: {old:#x} -> {value:#x}"
                assert failed[0].startswith("certificate ") if name == "certificate" else failed == [f"file {name}"]
                tried += 1
    return tried


def test_every_file_beside_the_record_is_named_by_the_certificate(finished: CertifiedRun) -> None:
    named = json.dumps(subject(finished))
    files = sorted(path.name for path in (finished.folder / "records").iterdir())
    assert len(files) == 8
    assert all(f"records/{name}" in named for name in files)


def test_a_sample_of_changed_bytes_of_a_real_certificate_is_found(finished: CertifiedRun) -> None:
    assert changes_found(finished, step=199, start=17) > 250


@pytest.mark.slow
@pytest.mark.usefixtures("certificate_read_once")
def test_every_changed_byte_of_a_real_certificate_and_its_files_is_found(finished: CertifiedRun) -> None:
    assert changes_found(finished, step=1, start=0) > 50_000
