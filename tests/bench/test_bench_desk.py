"""The desk in a real session: who signs, what the contracts keep and refuse, who may read what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.desk import Desk, Keyring
from bench.pipeline import CertifiedRun, CertifiedSession, run_certified
from bench.safety import Snapshot
from bench.session import GridOrder, SessionPlan
from bench.station import Station
from drivers.errors import ConfigError
from drivers.readings import Reading, missing
from drivers.roles import VehicleReadings
from ledgers.embedded.ledger import EmbeddedLedger
from ledgers.errors import AccessDenied
from ledgers.ports import Member
from twins.clock import SteppedClock

Change = Callable[..., Station]

SHORT = SessionPlan(name="short", duration_s=90, baseline_w=5000.0)


def vehicle(utc_s: float, **changed: float) -> VehicleReadings:
    """A parked van that charges; `changed` by name of the reading."""
    values = {
        "pack_voltage": 380.0,
        "pack_current": 12.5,
        "soc": 55.0,
        "ambient_temperature": 22.0,
        "plug_state": 2.0,
        "charge_mode": 3.0,
        "gear": 1.0,
        **changed,
    }

    def reading(name: str) -> Reading:
        if name not in values:
            return missing("1", utc_s - 1000.0, utc_s, f"van.{name}")
        return Reading(values[name], "1", utc_s - 1000.0, utc_s, f"van.{name}")

    names = [name for name in VehicleReadings.__dataclass_fields__ if name != "pack_temperatures"]
    sensors = tuple(Reading(25.0, "degC", utc_s - 1000.0, utc_s, f"van.t{n}") for n in range(4))
    return VehicleReadings(pack_temperatures=sensors, **{name: reading(name) for name in names})  # type: ignore[arg-type]  # by name


@pytest.fixture
def desk_of(emulated: Change, tmp_path: Path) -> Callable[[], Desk]:
    def make() -> Desk:
        station = emulated()
        return Desk(station, tmp_path / "run", SteppedClock(station.start_utc_s), session_id="s1")

    return make


def reports(desk: Desk) -> int:
    return (desk._folder / "ledger" / "monitoring.log").read_bytes().count(b'"observe"')


def test_each_device_party_and_the_station_has_a_key_of_its_own(emulated: Change) -> None:
    keyring = Keyring(emulated())

    trusted = keyring.trusted("v2gbench.emulated")
    assert [(signer.use, signer.name) for signer in trusted] == [
        ("station", "emulated"),
        ("witness", "charger"),
        ("witness", "meter"),
        ("witness", "van"),
        ("log", "v2gbench.emulated/monitoring"),
        ("log", "v2gbench.emulated/remuneration"),
        ("log", "v2gbench.emulated/alarms"),
        ("settlement", "aggregator"),
    ]
    keys = {signer.public_key for signer in trusted}
    assert len(keys) == 6  # the three channels of one log share the log's key


def test_another_seed_has_other_keys_and_the_same_seed_the_same(emulated: Change) -> None:
    one, same, other = (Keyring(emulated({"seed": seed})).station.public_key_der for seed in (7, 7, 8))

    assert one == same
    assert one != other


def test_keys_that_were_never_made_are_one_sentence(emulated: Change, tmp_path: Path) -> None:
    keyring = Keyring(emulated({"keys": {"kind": "files", "folder": str(tmp_path / "nowhere")}}))

    with pytest.raises(ConfigError, match="v2gbench init"):
        _ = keyring.station


def test_a_reading_is_reported_once_and_one_without_a_plug_state_never(desk_of: Callable[[], Desk]) -> None:
    with desk_of() as desk:
        first = vehicle(1_768_464_000.0)
        desk.watch(0, Snapshot(vehicle=None), 0.0)
        desk.watch(1, Snapshot(vehicle=first), 1.0)
        desk.watch(2, Snapshot(vehicle=first), 2.0)
        unknown = replace(vehicle(1_768_464_010.0), plug_state=missing("1", 10.0, 10.0, "van.plug_state"))
        desk.watch(3, Snapshot(vehicle=unknown), 3.0)

        assert desk.refusals == []
        assert reports(desk) == 1


def test_a_report_that_the_contract_refuses_is_kept_and_the_session_goes_on(desk_of: Callable[[], Desk]) -> None:
    with desk_of() as desk:
        desk.watch(0, Snapshot(vehicle=vehicle(1_768_464_000.0)), 0.0)
        desk.watch(1, Snapshot(vehicle=vehicle(1_768_464_010.0, soc=140.0)), 1.0)
        desk.watch(2, Snapshot(vehicle=vehicle(1_768_464_020.0)), 2.0)

        assert len(desk.refusals) == 1
        assert "soc_percent" in desk.refusals[0]
        assert reports(desk) == 2


def test_a_vehicle_that_nobody_reported_has_no_state(desk_of: Callable[[], Desk]) -> None:
    with desk_of() as desk:
        assert desk.vehicle_state() == {}
        desk.watch(0, Snapshot(vehicle=vehicle(1_768_464_000.0)), 0.0)
        assert desk.vehicle_state()["vehicle_id"] == "van"


@pytest.mark.wire
def test_refusals_of_a_real_session_are_told_with_its_verdict(emulated: Change) -> None:
    with CertifiedSession(emulated(), SHORT) as session:
        session.announce()
        _, desk, _ = session._opened()
        bad = vehicle(session.rack.clock.utc_s + 3600.0, soc=140.0)
        desk.watch(0, Snapshot(vehicle=bad), 0.0)
        desk._last_report_s = -1.0
        run = session.conclude(session.runner.run(), report=False)

    assert any(reason.startswith("the monitoring contract refused a report: ") for reason in run.certified.reasons)
    assert run.certified.certificate is not None


@pytest.mark.wire
def test_orders_and_baseline_stand_in_the_ledger_before_the_record_is_anchored(finished: CertifiedRun) -> None:
    receipts = finished.certified.receipts["remuneration"]
    assert [receipt["index"] for receipt in receipts] == sorted(range(len(receipts)))
    log = (finished.folder / "ledger" / "remuneration.log").read_text()
    places = [log.index(word) for word in ('"baseline"', ".dso-1", ".dso-2", "record_sha256")]
    assert places == sorted(places)


@pytest.mark.wire
def test_the_insurer_reads_alarms_and_not_monitoring_in_the_ledger_of_a_real_run(
    finished: CertifiedRun, emulated: Change, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "ledger"
    shutil.copytree(finished.folder / "ledger", folder)
    keyring = Keyring(emulated())
    insurer = keyring.party("insurance_company")
    with EmbeddedLedger(
        folder,
        origin="v2gbench.emulated",
        log_key=keyring.log,
        contract_identity=keyring.party("contract"),
        members=[Member.of(identity) for identity in keyring.parties],
        clock_utc_s=lambda: 0.0,
        fsync=False,
    ) as ledger:
        with pytest.raises(AccessDenied, match="monitoring"):
            list(ledger.events("monitoring", 0, insurer))
        with pytest.raises(AccessDenied):
            ledger.evaluate("monitoring", "monitoring", "vehicle", '{"vehicle_id":"van"}', identity=insurer)
        list(ledger.events("alarms", 0, insurer))
        owner = keyring.party("ev_owner")
        assert "usage_anchored" in [event.name for event in ledger.events("monitoring", 0, owner)]
        assert ledger.evaluate("monitoring", "monitoring", "vehicle", '{"vehicle_id":"van"}', identity=owner)


@pytest.mark.wire
def test_a_pack_in_hot_air_raises_alarms_on_their_own_channel_and_in_the_record(emulated: Change) -> None:
    run = run_certified(emulated({"twins.van.ambient_c": 33}), SHORT, report=False)

    assert run.certified.receipts["alarms"]
    assert run.certified.record is not None
    alarms = run.certified.record.record.alarms
    raised = [alarm for alarm in alarms if "monitoring contract" in alarm.text]
    assert any(alarm.threshold == 30.0 and alarm.value is not None and alarm.value > 30.0 for alarm in raised), alarms
    warned = [alarm for alarm in alarms if alarm.name == "pack_temperature_c"]
    assert len(warned) == 1  # once per stay in the warning band, not once a cycle
    assert run.certified.verdict == "PASS", run.certified.reasons


@pytest.mark.wire
def test_a_cool_pack_at_low_power_raises_none(finished: CertifiedRun, emulated: Change) -> None:
    run = run_certified(emulated({"twins.van.ambient_c": 15}), SHORT, report=False)

    assert run.certified.record is not None
    assert not [alarm for alarm in run.certified.record.record.alarms if alarm.threshold == 30.0]


def test_parties_of_one_order_are_the_dso_and_the_aggregator(desk_of: Callable[[], Desk]) -> None:
    with desk_of() as desk:
        order = GridOrder(order_id="o1", direction="load_increase", start_s=0, duration_s=60, power_w=1000.0)
        receipt = desk.announce(order, 1_768_464_000.0)
        baseline = desk.declare_baseline(1_768_464_000.0, 600.0, 3000.0)
        entries: list[Any] = [
            json.loads(desk.ledger.entry(found, desk.keyring.party("ev_owner"))) for found in (receipt, baseline)
        ]

    text = [json.dumps(entry) for entry in entries]
    assert '"dso"' in text[0]
    assert '"s1.o1"' in text[0] or "s1.o1" in text[0]
    assert '"aggregator"' in text[1]
