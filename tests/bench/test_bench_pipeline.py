"""A certified session step by step: what may be asked when, what the summary says, what is left when it breaks off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.pipeline import SUMMARY_SCHEMA, CertifiedRun, CertifiedSession
from bench.session import GridOrder, SessionPlan
from bench.station import Station
from drivers.errors import ConfigError, NotOpenError
from reports.run import Run

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]

EMPTY = SessionPlan(name="by hand", duration_s=60.0)


def order(order_id: str, start_s: float, duration_s: float = 20.0) -> GridOrder:
    return GridOrder(
        order_id=order_id, direction="load_increase", start_s=start_s, duration_s=duration_s, power_w=4000.0
    )


def test_the_summary_has_what_programs_ask_for_and_is_the_file_beside_the_run(finished: CertifiedRun) -> None:
    summary = finished.summary()

    assert summary["schema"] == SUMMARY_SCHEMA
    for direction in ("import", "export"):
        figures = summary[f"energy_{direction}_wh"]
        assert isinstance(figures, dict)
        assert set(figures) == {"charger", "vehicle", "analyzer_ac", "analyzer_dc"}
        assert all(isinstance(value, float) and value > 50.0 for value in figures.values())
    paths = summary["ocmf"]
    assert isinstance(paths, list)
    assert len(paths) == 2
    for path in (*paths, summary["certificate"], summary["trust"], summary["usage_record"]):
        assert Path(str(path)).is_file()
    ledger, settlement = summary["ledger"], summary["settlement"]
    assert isinstance(ledger, dict)
    assert isinstance(settlement, dict)
    assert set(ledger) == {"monitoring", "remuneration", "alarms"}
    assert settlement["status"] == "settled"
    assert isinstance(summary["simulated_s"], float)
    assert summary["simulated_s"] >= 300.0
    assert json.loads((finished.folder / "summary.json").read_text()) == json.loads(json.dumps(summary))


def test_the_trust_file_lies_beside_the_run_folder_not_in_it(finished: CertifiedRun) -> None:
    assert finished.certified.trust is not None
    assert finished.certified.trust.parent == finished.folder.parent


def test_power_flows_one_way_through_losses(finished: CertifiedRun) -> None:
    assert finished.certified.record is not None
    for figures in (finished.summary()["energy_import_wh"], finished.summary()["energy_export_wh"]):
        assert isinstance(figures, dict)
    imported, exported = finished.summary()["energy_import_wh"], finished.summary()["energy_export_wh"]
    assert isinstance(imported, dict)
    assert isinstance(exported, dict)
    assert imported["analyzer_ac"] > imported["analyzer_dc"]
    assert exported["analyzer_ac"] < exported["analyzer_dc"]


def test_a_schedule_may_grow_while_the_session_runs(emulated: Change) -> None:
    with CertifiedSession(emulated(), EMPTY) as session:
        runner = session.runner
        runner.plug_in()
        runner.start()
        session.schedule(session.payable_plan(duration_s=60.0, baseline_w=1000.0))
        runner.follow(10.0)
        session.announce_order(order("late", 20.0))
        runner.follow()
        runner.stop()
        runner.unplug()
        run = session.conclude(runner.finish(), report=False)

    assert run.certified.record is not None
    (found,) = run.certified.record.record.session.orders
    assert found.requested_power_w == 5000.0
    assert found.delivered_power_w is not None


def test_orders_that_come_too_late_or_overlap_are_refused_and_leave_the_schedule_alone(emulated: Change) -> None:
    with CertifiedSession(emulated(), EMPTY) as session:
        session.runner.plug_in()
        session.runner.start()
        session.schedule(session.payable_plan(duration_s=60.0, baseline_w=1000.0))
        session.runner.follow(10.0)
        session.announce_order(order("one", 20.0))
        with pytest.raises(ConfigError, match="order 'past' begins in the past; announce it before it begins"):
            session.announce_order(order("past", 5.0))
        with pytest.raises(ConfigError, match="orders 'one' and 'two' overlap; a vehicle follows one at a time"):
            session.announce_order(order("two", 30.0))
        with pytest.raises(ConfigError, match="order 'long' ends at 90 s, after the session's 60 s"):
            session.announce_order(order("long", 45.0, 45.0))
        assert [each.order_id for each in session.plan.orders] == ["one"]


def test_a_session_that_is_left_without_a_conclusion_is_recorded_but_not_certified(emulated: Change) -> None:
    with CertifiedSession(emulated(), EMPTY) as session:
        folder = session.rack.run_folder
        session.runner.plug_in()

    with Run.open(folder) as run:
        assert (run.verdict, run.manifest["reason"]) == ("aborted", "the rack was closed before the session ended")
    assert not (folder / "certificate.json").exists()
    with pytest.raises(NotOpenError, match="the session is closed; open it with"):
        _ = session.rack


def test_a_session_whose_opening_fails_says_why_in_its_run_folder(emulated: Change) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        station = emulated({"csms.listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(ConfigError), CertifiedSession(station, EMPTY):
            pass
    (folder,) = station.runs_folder.iterdir()
    with Run.open(folder) as run:
        assert run.verdict == "aborted"
        assert str(run.manifest["reason"]).startswith("ConfigError: ")


def test_report_and_junit_are_written_on_demand(emulated: Change) -> None:
    with CertifiedSession(emulated(), EMPTY) as session:
        run = session.run(report=True)

    assert run.report.stat().st_size < 3_000_000
    assert (run.folder / "junit.xml").is_file()
