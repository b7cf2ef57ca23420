"""One session from a station file to a certificate and a report: what `demo` runs, and what the keywords do in steps.

The rack closes before certification begins, so that nothing is certified that could still change; the desk (ledger and
accounts) closes after it. Where real nodes pay, they are started before anything else is opened, and end last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from bench.certification import (
    Certified,
    RecordedSession,
    SessionFacts,
    hold_session,
    issue,
    record_session,
    settle_session,
    witness_sheets,
)
from bench.desk import Desk, Keyring
from bench.operator import ActDone, Operator
from bench.paying import Paying, open_paying
from bench.rack import Rack
from bench.session import GridOrder, Progress, SessionLog, SessionPlan, SessionRunner
from bench.session_network import SessionNetwork
from bench.settlement import Nodes, OpenSettlement, PaymentNodes, payment_nodes
from bench.station import Station
from drivers.errors import ConfigError, NotOpenError
from ledgers.canonical import Json
from ledgers.evidence import write_atomically
from ledgers.lightning.settlement import LightningSettlement
from ledgers.ports import Hold
from ledgers.records import Direction, Energy, Plane, SignedRecord
from reports.html import write_report
from reports.junit import write_junit

SUMMARY_SCHEMA = "v2gbench.summary/1.0"
SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, slots=True)
class CertifiedRun:
    """A finished run: where it is and what came of it."""

    folder: Path
    log: SessionLog
    certified: Certified
    report: Path
    simulated_s: float
    wall_s: float

    @property
    def tripped(self) -> bool:
        """Whether a limit ended the session."""
        return bool(self.log.tripped)

    def summary(self) -> dict[str, Json]:
        """What a program wants to know, as one JSON object."""
        return _summary(self)


class CertifiedSession:
    """A session under way on an opened rack with its desk; a context manager.

    `conclude` closes the rack and certifies. Leaving the block without it closes everything through the safe state and
    leaves the recorded run, uncertified.
    """

    def __init__(
        self,
        station: Station,
        plan: SessionPlan,
        *,
        runs: Path | None = None,
        operator: Operator | None = None,
        energise: ActDone | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.station = station
        self.plan = plan
        self._runs = runs
        self._operator = operator
        self._energise = energise
        self._progress = progress
        self._nodes = ExitStack()
        self._rack: Rack | None = None
        self._desk: Desk | None = None
        self._runner: SessionRunner | None = None
        self._paying: Paying | None = None
        self._network: SessionNetwork | None = None
        self._recorded: RecordedSession | None = None
        self._rack_open = False
        self._simulated_s = 0.0
        self._started_s = time.perf_counter()

    def __enter__(self) -> Self:
        Keyring(self.station).require_all()
        with ExitStack() as stack:
            nodes_stack = stack.enter_context(ExitStack())
            nodes: Nodes = nodes_stack.enter_context(payment_nodes(self.station))
            rack = Rack.open(
                self.station, plan=self.plan.name, runs=self._runs, operator=self._operator, energise=self._energise
            )
            stack.enter_context(rack)
            desk = Desk(
                self.station,
                rack.run_folder,
                rack.clock,
                session_id=_session_id(rack, self.plan.name),
                nodes=nodes,
            )
            stack.enter_context(desk)
            self._runner = SessionRunner(rack, self.plan, progress=self._progress)
            paying = open_paying(self.station, rack, desk, self._runner, nodes)
            rack.cycle.listeners.append(desk.watch)
            self._paying = stack.enter_context(paying)
            self._rack, self._desk = rack, desk
            self._network = nodes.network if isinstance(nodes, PaymentNodes) else None
            self._rack_open = True
            self._nodes = nodes_stack.pop_all()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        desk, self._desk = self._desk, None
        paying, self._paying = self._paying, None
        with self._nodes:  # ends them last, whatever happens before
            try:
                try:
                    self._close_rack(kind, error, trace)
                finally:
                    if paying is not None:
                        paying.__exit__(kind, error, trace)
            finally:
                if desk is not None:
                    desk.__exit__(kind, error, trace)

    @property
    def rack(self) -> Rack:
        """The opened rack."""
        return self._opened()[0]

    @property
    def runner(self) -> SessionRunner:
        """The session, step by step."""
        return self._opened()[2]

    @property
    def network(self) -> SessionNetwork | None:
        """The Lightning nodes of the session while it is open; None for a station of embedded accounts."""
        return self._network if self._desk is not None else None

    @property
    def settlement(self) -> OpenSettlement:
        """Who pays; open until the session is left."""
        if self._desk is None:
            raise NotOpenError("the session is closed, and its settlement with it")
        return self._desk.settlement

    def announce(self) -> None:
        """Put baseline and grid orders on the ledger, as the grid operator and the aggregator do before they act."""
        rack, desk, _ = self._opened()
        start_utc_s = rack.clock.utc_s
        desk.declare_baseline(start_utc_s, self.plan.duration_s, self.plan.baseline_w)
        for order in self.plan.orders:
            desk.announce(order, start_utc_s + order.start_s)

    def payable_plan(self, *, duration_s: float, baseline_w: float) -> SessionPlan:
        """A schedule without orders yet, before energy transfer; raises SettlementError when it could not be paid."""
        plan = SessionPlan(name=self.plan.name, duration_s=duration_s, baseline_w=baseline_w)
        self.require_liquidity(plan)
        return plan

    def schedule(self, plan: SessionPlan) -> None:
        """Give the running session a schedule of `payable_plan`, and declare its baseline on the ledger."""
        _, desk, runner = self._opened()
        self.plan = runner.plan = plan
        desk.declare_baseline(runner.transfer_utc_s, plan.duration_s, plan.baseline_w)

    def announce_order(self, order: GridOrder) -> None:
        """Put one more grid order on the ledger and into the schedule of the running session.

        Raises ConfigError when it does not fit into the schedule or should have begun already, SettlementError when
        what it adds could not be paid for.
        """
        _, desk, runner = self._opened()
        if order.start_s < runner.plan_s:
            raise ConfigError(f"order {order.order_id!r} begins in the past; announce it before it begins")
        old = runner.plan
        try:
            plan = SessionPlan(
                name=old.name, duration_s=old.duration_s, baseline_w=old.baseline_w, orders=(*old.orders, order)
            )
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
        self.require_liquidity(plan)
        desk.announce(order, runner.transfer_utc_s + order.start_s)
        self.plan = runner.plan = plan

    def require_liquidity(self, plan: SessionPlan) -> None:
        """Raise SettlementError when the most expensive course of a schedule could not be paid now."""
        self._opened()
        if self._paying is not None:
            self._paying.require_liquidity(plan)

    def run(self, *, report: bool = True) -> CertifiedRun:
        """The whole session: can it be paid, announce, plug in, follow, plug out, certify, report."""
        self.require_liquidity(self.plan)
        self.announce()
        return self.conclude(self.runner.run(), report=report)

    def conclude(self, log: SessionLog, *, report: bool = True) -> CertifiedRun:
        """Close the rack, certify what was recorded, and write summary, report and JUnit (unless not `report`)."""
        self.record(log)
        self.settle()
        return self.issue(report=report)

    def record(self, log: SessionLog) -> RecordedSession:
        """The first step of `conclude`: close the rack, sign the record, put it on the ledger; nothing is paid."""
        rack, desk, _ = self._opened()
        facts = SessionFacts(
            station=self.station,
            log=log,
            devices=rack.devices,
            nameplates=dict(rack.nameplates),
            limits=rack.guard.records,
            sheets=witness_sheets(self.station, rack.devices),
            last_vehicle=rack.last_full_vehicle,
        )
        folder, self._simulated_s = rack.run_folder, rack.clock.mono_s
        if self._paying is not None:
            self._paying.freeze()
        self._close_rack(None, None, None)
        if self._paying is not None:
            facts = replace(facts, unpaid=self._paying.finish())
        self._recorded = record_session(folder, facts, desk)
        return self._recorded

    @property
    def recorded(self) -> RecordedSession:
        """The recorded session; NotOpenError before `record`."""
        if self._recorded is None:
            raise NotOpenError("the session is not recorded yet; end it first")
        return self._recorded

    def hold(self) -> Hold:
        """Set the money for the recorded session aside and stop there; `settle` goes on with it."""
        return hold_session(self.recorded)

    def settle(self, presented: SignedRecord | None = None) -> None:
        """The second step of `conclude`; may be tried again until the session is paid for, see `settle_session`."""
        settle_session(self.recorded, presented)

    def issue(self, *, report: bool = True) -> CertifiedRun:
        """The last step of `conclude`: certificate, what the session did to its network, summary, report, JUnit."""
        recorded = self.recorded
        desk, folder = recorded.desk, recorded.folder
        certified = issue(recorded)
        for refusal in desk.refusals:
            certified.reasons.append(f"the monitoring contract refused a report: {refusal}")
        if self._network is not None and isinstance(desk.settlement, LightningSettlement):
            self._network.write(desk.settlement)
        run = CertifiedRun(
            folder=folder,
            log=recorded.facts.log,
            certified=certified,
            report=folder / "report.html",
            simulated_s=self._simulated_s,
            wall_s=time.perf_counter() - self._started_s,
        )
        write_atomically(folder / SUMMARY_NAME, (json.dumps(run.summary(), indent=2) + "\n").encode())
        if report:
            write_report(folder)
            write_junit(folder)
        return run

    def _close_rack(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rack_open and self._rack is not None:
            self._rack_open = False
            self._rack.__exit__(kind, error, trace)

    def _opened(self) -> tuple[Rack, Desk, SessionRunner]:
        if self._rack is None or self._desk is None or self._runner is None or not self._rack_open:
            raise NotOpenError("the session is closed; open it with 'with CertifiedSession(station, plan) as session'")
        return self._rack, self._desk, self._runner


def run_certified(
    station: Station,
    plan: SessionPlan,
    *,
    runs: Path | None = None,
    operator: Operator | None = None,
    energise: ActDone | None = None,
    progress: Progress | None = None,
    report: bool = True,
) -> CertifiedRun:
    """Run one session from plug-in to certificate."""
    with CertifiedSession(station, plan, runs=runs, operator=operator, energise=energise, progress=progress) as session:
        return session.run(report=report)


def _session_id(rack: Rack, plan: str) -> str:
    """Begin of the session and plan; on the wall clock also the run's own letters, for two may begin in one second."""
    begin = datetime.fromtimestamp(rack.clock.utc_s, UTC)
    word = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in plan)
    suffix = "" if rack.station.clock == "stepped" else f".{rack.run_folder.name[-4:]}"
    return f"{begin:%Y%m%dT%H%M%SZ}.{word}{suffix}"


def _summary(run: CertifiedRun) -> dict[str, Json]:
    certified = run.certified
    record = certified.record.record if certified.record is not None else None
    energy = record.energy if record is not None else None
    devices = {device.role: device.name for device in record.devices} if record is not None else {}
    return {
        "schema": SUMMARY_SCHEMA,
        "verdict": certified.verdict,
        "reasons": list(certified.reasons),
        "energy_import_wh": _figures(energy, Direction.IMPORT, devices),
        "energy_export_wh": _figures(energy, Direction.EXPORT, devices),
        "odd_witness": record.reconciliation.odd_witness if record is not None else None,
        "ocmf": [str(path) for path in certified.ocmf_paths or ()],
        "usage_record": str(certified.record_path) if certified.record_path else None,
        "certificate": str(certified.certificate) if certified.certificate else None,
        "trust": str(certified.trust) if certified.trust else None,
        "report": str(run.report),
        "run": str(run.folder),
        "ledger": certified.receipts,
        "settlement": certified.settlement,
        "tripped": run.log.tripped or None,
        "simulated_s": round(run.simulated_s, 3),
        "wall_s": round(run.wall_s, 3),
    }


def _figures(energy: Energy | None, direction: Direction, devices: Mapping[str, str]) -> dict[str, Json]:
    """Energies by witness, under names that do not depend on the station file."""
    wanted = (
        ("charger", "charger", Plane.AC),
        ("vehicle", "vehicle", Plane.DC),
        ("analyzer_ac", "power_meter", Plane.AC),
        ("analyzer_dc", "power_meter", Plane.DC),
    )
    found: dict[str, Json] = {}
    for name, role, plane in wanted:
        figures = energy.of(direction) if energy is not None else ()
        found[name] = next(
            (figure.value_wh for figure in figures if figure.plane is plane and figure.witness == devices.get(role)),
            None,
        )
    return found
