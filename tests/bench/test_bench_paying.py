"""Money that moves while energy flows: what is covered, what stops the energy, and what is left when it breaks off.

The nodes are sums here, behind lnd's proto on real sockets (`tests/ledgers/lnd_double.py`); sessions on real nodes
are in test_bench_lightning.py.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench import paying
from bench.assets import asset
from bench.paying import RAMP_S, Course, Slices, Stream
from bench.pipeline import CertifiedRun, CertifiedSession, run_certified
from bench.session import GridOrder, SessionPlan
from bench.station import Station
from drivers.errors import ConfigError, EnergyStopped
from ledgers.canonical import sha256_hex
from ledgers.errors import RecordError, SettlementError
from ledgers.identity import Identity, SeedKeys
from ledgers.lightning.cashier import Times
from ledgers.lightning.client import LndClient
from ledgers.lightning.client.errors import LndError, LndUnreachable
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.modes import Flow, HoldTab, Mode, StreamTab
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.records import Direction, Outcome
from ledgers.tariff import load_tariff
from ledgers.verify import verify_certificate
from reports.run import Run
from tests.ledgers.lnd_double import OPEN, Network, Node, StoredInvoice
from tests.ledgers.test_ledgers_lightning_settlement import LightningBooks

Change = Callable[..., Station]
METER = SeedKeys(seed=7, any_metal=False).identity("charger", "charger")
EURO_MSAT = 1_000_000
ACCOUNTS = ("ev_owner", "aggregator", "charging_station")

# 6 kW for 2 min, 6 kW the other way for 100 s, 6 kW for 80 s: some 330 Wh and 160 Wh.
SHORT = SessionPlan(
    name="short",
    duration_s=300,
    baseline_w=6000.0,
    orders=(GridOrder(order_id="down", direction="load_decrease", start_s=120, duration_s=100, power_w=12_000.0),),
)


def paid(mode: str, **keys: Any) -> dict[str, Any]:
    """What changes the emulated station into one that is paid in this way."""
    rate = {"eur_per_btc": keys.pop("eur_per_btc", "100000"), "source": "stated by the test"}
    return {
        "settlement": {"kind": "lightning", "tariff": "tariffs/example.yaml", "mode": mode, "rate": rate, **keys},
    }


# What is covered, without any node ----------------------------------------------------------------------------------


class Purse:
    """Stands for a tab of slices: holds as long as `willing`, and writes down what became of each slice."""

    def __init__(self, willing: Callable[[], bool] = lambda: True) -> None:
        self.willing = willing
        self.asked = 0
        self.debts: dict[str, Debt] = {}
        self.settled: list[tuple[str, bytes]] = []

    def hold_next(self) -> Debt:
        self.asked += 1
        if not self.willing():
            raise SettlementError("there is no route to the payee; nothing was paid")
        debt = Debt.new(
            f"s.import_energy.{self.asked - 1}",
            subject="s",
            kind="import_energy",
            payer="ev_owner",
            payee="charging_station",
            amount_msat=12_500,
            terms={"number": self.asked - 1},
        )
        self.debts[debt.name] = debt
        return debt

    def settle(self, name: str, *, record: bytes, verify: Callable[[bytes], None]) -> None:
        verify(record)
        del self.debts[name]
        self.settled.append((name, record))

    def cancel(self, name: str) -> None:
        del self.debts[name]

    def open(self) -> tuple[Debt, ...]:
        return tuple(self.debts.values())


def slices(purse: Purse, *, slice_wh: int = 50, reserve_s: float = 9.5, meter: Identity = METER) -> Slices:
    return Slices(
        cast("HoldTab", purse),
        kind="import_energy",
        slice_wh=slice_wh,
        meter=meter,
        reserve_s=reserve_s,
        keep=lambda _debt, _record: None,
        lead_s=30.0,
    )


def course(now_s: float, energy_wh: float, *, power_w: float = 0.0, highest_w: float = 0.0) -> Course:
    return Course(now_s, Decimal(f"{energy_wh:.3f}"), power_w, highest_w, 1.0)


@settings(max_examples=200, deadline=None)
@example(slice_wh=5, powers=[0.0] * 29 + [1.0], fails_from=0, back_after=0)  # less than the register shows
@given(
    slice_wh=st.integers(5, 400),
    powers=st.lists(st.floats(0.0, 10_000.0), min_size=30, max_size=120),
    fails_from=st.integers(0, 120),
    back_after=st.integers(0, 60),
)
def test_nothing_ever_flows_that_was_not_held_before_whatever_the_power_and_whenever_holds_fail(
    slice_wh: int, powers: list[float], fails_from: int, back_after: int
) -> None:
    now = [0]
    purse = Purse(lambda: not fails_from <= now[0] < fails_from + back_after)
    line = slices(purse, slice_wh=slice_wh)
    energy_wh, stopped_at, held_wh = 0.0, None, 0
    for second in range(len(powers) + 30):
        now[0] = second
        power_w = powers[second] if second < len(powers) else 0.0
        if stopped_at is not None:  # as a charger does: down on a straight line, two cycles later
            power_w = 10_000.0 * max(0.0, 1.0 - max(0, second - stopped_at - 1) / RAMP_S)
        at = course(second, energy_wh, power_w=power_w, highest_w=10_000.0 if stopped_at is None else 0.0)
        line.step(at)
        held_wh = max(held_wh, slice_wh * (len(purse.settled) + len(purse.debts)))
        if stopped_at is None and line.verdict(at):
            stopped_at = second
            if second == 0:
                break  # nothing was held, so nothing was begun
        energy_wh += power_w / 3600.0
        assert energy_wh <= held_wh
    end = course(1000.0, energy_wh)
    assert line.finish(end) == ()
    assert purse.open() == ()
    assert len(purse.settled) * slice_wh >= end.energy_wh  # what the register shows, in thousandths
    assert (len(purse.settled) - 1) * slice_wh < energy_wh + 0.001


def test_a_slice_is_held_half_a_minute_before_it_is_needed_and_settled_when_it_has_flowed() -> None:
    purse = Purse()
    line = slices(purse, slice_wh=300)
    line.step(course(0, 0, power_w=6000.0, highest_w=10_500.0))
    assert (len(purse.debts), purse.settled) == (1, [])
    needed_wh = 10_500 * 10.5 / 3600 + 6000 * 30 / 3600
    line.step(course(1, 300 - needed_wh - 0.1, power_w=6000.0, highest_w=10_500.0))
    assert len(purse.debts) == 1
    line.step(course(2, 300 - needed_wh + 0.1, power_w=6000.0, highest_w=10_500.0))
    assert (len(purse.debts), purse.settled) == (2, [])
    line.step(course(3, 300, power_w=6000.0, highest_w=10_500.0))
    ((name, record),) = purse.settled
    assert (name, json.loads(record)["delivered_wh"]) == ("s.import_energy.0", "300")
    assert line.finish(course(4, 310.5)) == ()
    assert json.loads(purse.settled[1][1])["delivered_wh"] == "10.500"


def test_a_refused_hold_is_tried_again_after_a_pause_and_stops_the_energy_only_when_the_reserve_is_reached() -> None:
    answers = iter([True] + [False] * 100)
    purse = Purse(lambda: next(answers))
    line = slices(purse, slice_wh=100)
    for second in range(60):
        at = course(second, second * 6000 / 3600, power_w=6000.0, highest_w=10_500.0)
        line.step(at)
        if line.verdict(at):
            break
    assert 100 - second * 6000 / 3600 < 10_500 * 10.5 / 3600 <= 100 - (second - 1) * 6000 / 3600
    assert purse.asked == 1 + 4  # at 12, 22, 32 and 42 s
    assert line.verdict(at) == (
        "payment of import_energy: the next slice of 100 Wh could not be held: there is no route to the payee; "
        "nothing was paid"
    )


def test_a_slice_of_which_nothing_flowed_goes_back() -> None:
    purse = Purse()
    line = slices(purse)
    line.step(course(0, 0, power_w=200.0, highest_w=200.0))
    assert line.finish(course(1, 0)) == ()
    assert (purse.open(), purse.settled) == ((), [])


def test_a_direction_in_which_nothing_may_flow_holds_no_money() -> None:
    purse = Purse()
    line = slices(purse)
    line.step(course(0, 0, power_w=3000.0))  # still coming down
    assert (purse.asked, line.verdict(course(0, 0))) == (0, "")


@pytest.mark.wire
class TestSlicesThatAreNotSettled:
    """What becomes of slices whose record cannot be kept, or whose money went back, on nodes that are sums."""

    @pytest.fixture
    def books(self, tmp_path: Path) -> Iterator[LightningBooks]:
        made = LightningBooks(tmp_path, Mode.HOLD, times=Times(pay_s=2, resolve_s=1.0, hold_s=2.0))
        yield made
        made.close()

    def line(self, books: LightningBooks, keep: Callable[[Debt, bytes], None] = lambda _debt, _record: None) -> Slices:
        return Slices(
            books.settlement.hold_tab("s", "import_energy", slice_wh=1000),
            kind="import_energy",
            slice_wh=1000,
            meter=METER,
            reserve_s=9.5,
            keep=keep,
            lead_s=30.0,
            lost=partial(paying._is_lost, books.clients),
        )

    def lose(self, books: LightningBooks, debt: Debt) -> None:
        books.network.lose(books.network.nodes[debt.payee].invoices[bytes.fromhex(debt.payment_hash)])

    def states(self, books: LightningBooks) -> list[DebtState]:
        return [debt.state for debt in books.settlement.debts()]

    def flow(self, line: Slices, begin_s: int, begin_wh: float) -> tuple[int, float, str]:
        """7 kW from here until the line stops it, for two hours at most: when, how far and why."""
        for second in range(begin_s, begin_s + 7200, 5):
            at = course(second, begin_wh + (second - begin_s) * 7000 / 3600, power_w=7000.0, highest_w=10_000.0)
            line.step(at)
            if line.verdict(at):
                break
        return second, float(at.energy_wh), line.verdict(at)

    def test_records_that_cannot_be_kept_stop_the_energy_within_two_minutes(self, books: LightningBooks) -> None:
        def full(_debt: Debt, _record: bytes) -> None:
            raise RecordError("the disk is full")

        line = self.line(books, full)
        _, energy_wh, said = self.flow(line, 0, 0.0)
        assert said == "payment of import_energy: slice 's.import_energy.0' is not settled yet: the disk is full"
        assert 1000 + 110 * 7000 / 3600 < energy_wh < 1000 + 140 * 7000 / 3600
        told = line.finish(course(3600, energy_wh))
        assert told[0] == f"{said}; its money went back"
        assert set(self.states(books)) == {DebtState.CANCELLED}  # the record's settlement can pay for it

    def test_three_slices_that_wait_to_be_settled_stop_the_energy_sooner(self, books: LightningBooks) -> None:
        def full(_debt: Debt, _record: bytes) -> None:
            raise RecordError("the disk is full")

        line = self.line(books, full)
        for second, energy_wh in ((0, 0), (30, 1000), (60, 2000)):
            at = course(second, energy_wh, power_w=7000.0, highest_w=10_000.0)
            line.step(at)
            assert line.verdict(at) == ""
        at = course(90, 3000, power_w=7000.0, highest_w=10_000.0)
        line.step(at)
        assert line.verdict(at).endswith("the disk is full")

    def test_a_slice_lost_after_its_record_verified_is_held_again_and_settled(self, books: LightningBooks) -> None:
        line, payer = self.line(books), books.network.nodes["ev_owner"]
        line.step(course(0, 0, power_w=7000.0, highest_w=10_000.0))
        (first,) = books.settlement.debts()
        line.step(course(1, 980, power_w=7000.0, highest_w=10_000.0))
        self.lose(books, first)
        payer.no_route = True
        line.step(course(10, 1000, power_w=7000.0, highest_w=10_000.0))  # cannot be held again
        payer.no_route = False
        line.step(course(20, 1020, power_w=7000.0, highest_w=10_000.0))
        assert self.states(books) == [DebtState.PAID, DebtState.HELD]
        assert line.verdict(course(20, 1020, power_w=7000.0, highest_w=10_000.0)) == ""
        assert line.finish(course(30, 1030)) == ()
        assert self.states(books) == [DebtState.PAID, DebtState.PAID]

    def test_when_a_slice_was_lost_and_no_other_can_be_held_energy_stops_at_once(self, books: LightningBooks) -> None:
        line, payer = self.line(books), books.network.nodes["ev_owner"]
        line.step(course(0, 0, power_w=7000.0, highest_w=10_000.0))
        (first,) = books.settlement.debts()
        self.lose(books, first)
        payer.no_route = True
        at = course(500, 1000, power_w=7000.0, highest_w=10_000.0)
        line.step(at)
        assert line.verdict(at).startswith("payment of import_energy: the next slice of 1000 Wh could not be held")
        assert self.states(books)[0] is DebtState.INVOICED  # its record verified, so it is owed

    @pytest.mark.parametrize("end", ["lose", "expire"])
    def test_money_that_went_back_while_its_slice_flows_covers_nothing_any_more(
        self, books: LightningBooks, end: str
    ) -> None:
        line = self.line(books)
        line.step(course(0, 0, power_w=7000.0, highest_w=10_000.0))
        (first,) = books.settlement.debts()
        invoice = books.network.nodes[first.payee].invoices[bytes.fromhex(first.payment_hash)]
        getattr(books.network, end)(invoice)
        at = course(35, 70, power_w=7000.0, highest_w=10_000.0)
        line.step(at)
        assert self.states(books) == [DebtState.CANCELLED, DebtState.HELD]  # held anew, so energy goes on
        assert line.verdict(at) == ""
        (second,) = [debt for debt in books.settlement.debts() if debt.state is DebtState.HELD]
        getattr(books.network, end)(books.network.nodes[second.payee].invoices[bytes.fromhex(second.payment_hash)])
        books.network.nodes["ev_owner"].no_route = True
        at = course(70, 140, power_w=7000.0, highest_w=10_000.0)
        line.step(at)
        assert line.verdict(at).startswith("payment of import_energy: the next slice of 1000 Wh could not be held")


@dataclass
class Hose:
    """Stands for a tab of a stream: writes down when it is asked to pay."""

    reason: str = ""
    may_flow: bool = True
    ticks: list[float] = field(default_factory=list)

    def tick(self, *, now_s: float, total_wh: Decimal) -> Flow:
        self.ticks.append(now_s)
        return Flow(self.may_flow, self.reason)

    def verdict(self, *, now_s: float) -> Flow:
        return Flow(self.may_flow, self.reason)


@pytest.mark.parametrize(("grace_s", "pause_s"), [(120.0, 10.0), (8.0, 2.0), (0.0, 1.0)])
def test_a_missed_payment_is_tried_again_after_a_pause_not_in_each_cycle(grace_s: float, pause_s: float) -> None:
    hose = Hose(reason="a payment was missed")
    line = Stream(cast("StreamTab", hose), kind="import_energy", grace_s=grace_s)
    for second in range(41):
        line.step(course(second, second))
    assert hose.ticks == [pause_s * number for number in range(int(40 / pause_s) + 1)]
    assert line.verdict(course(41, 41)) == ""
    hose.may_flow, hose.reason = False, "no payment for 120 s, 120 s are allowed: no route"
    assert line.verdict(course(42, 42)) == (
        "payment of import_energy: no payment for 120 s, 120 s are allowed: no route"
    )


# Sessions on nodes that are sums ------------------------------------------------------------------------------------


class Nodes:
    """The nodes of the three accounts; `session` runs one that is paid by them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.network = Network(base_fee_msat=1_000, fee_ppm=1)
        for account in ACCOUNTS:
            self.network.add(account, local_msat=50 * EURO_MSAT, remote_msat=200 * EURO_MSAT)
        self.clients = {name: LndClient(node.access(), call_s=5.0) for name, node in self.network.nodes.items()}
        self.begun_msat = self.network.total_msat()

        @contextmanager
        def nodes_of(_station: Station) -> Iterator[Mapping[str, LndClient]]:
            yield self.clients

        monkeypatch.setattr("bench.pipeline.payment_nodes", nodes_of)

    def earned_msat(self) -> dict[str, int]:
        return {name: node.local_msat - 50 * EURO_MSAT for name, node in self.network.nodes.items()}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        self.network.__exit__()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    made = Nodes(monkeypatch)
    yield made
    assert made.network.total_msat() == made.begun_msat, "money was made or lost"
    made.close()


def debts_of(run: CertifiedRun | Path) -> dict[str, Debt]:
    folder = run if isinstance(run, Path) else run.folder
    found: dict[str, Debt] = {}

    def ignore(_kind: str, _name: str, _body: Mapping[str, Any]) -> None:
        return None

    from ledgers.lightning.journal import Journal

    journal = Journal(folder / "settlement", ignore, fsync=False)
    found.update(journal.debts)
    journal.close()
    return found


def debts_of_open(session: CertifiedSession) -> tuple[Debt, ...]:
    settlement = session.settlement
    assert isinstance(settlement, LightningSettlement)
    return settlement.debts()


def register(run: CertifiedRun, name: str) -> list[tuple[float, float]]:
    with Run.open(run.folder) as opened:
        series = opened.series(f"charger.{name}_energy")
    return list(zip(series.mono_s.tolist(), series.value.tolist(), strict=True))


def events(run: CertifiedRun, kind: str) -> list[tuple[float, Mapping[str, Any]]]:
    with Run.open(run.folder) as opened:
        return [(event.mono_s, event.content) for event in opened.events(kind)]


def verified(run: CertifiedRun) -> bool:
    assert run.certified.certificate is not None
    verdict = verify_certificate(run.certified.certificate, run.certified.trust)
    assert verdict.ok, verdict.text
    return True


def cover_of(session: CertifiedSession) -> list[tuple[Direction, float, float]]:
    """Each cycle's energy and what was held or paid for it by then, per direction; filled while the session runs."""
    seen: list[tuple[Direction, float, float]] = []
    first: dict[Direction, float] = {}
    desk, rack, runner = session._desk, session.rack, session.runner
    assert desk is not None

    def look(_index: int, snapshot: Any, now_s: float) -> None:
        counts = {
            Direction.IMPORT: snapshot.charger.import_energy.value,
            Direction.EXPORT: snapshot.charger.export_energy.value,
        }
        settlement = desk.settlement
        assert isinstance(settlement, LightningSettlement)
        for direction, value in counts.items():
            if now_s <= runner.begin_s + 1e-6:
                first[direction] = value
            covered = sum(
                float(Fraction(str(cast("Mapping[str, Any]", debt.terms)["energy_wh"])))
                for debt in settlement.debts()
                if debt.kind == paying.KIND_OF[direction] and debt.state in {DebtState.HELD, DebtState.PAID}
            )
            seen.append((direction, value - first.get(direction, value), covered))

    rack.cycle.listeners.append(look)
    return seen


@pytest.mark.wire
class TestSlices:
    def test_each_slice_is_held_before_its_energy_flows_in_both_directions_and_the_receipt_verifies(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(emulated(paid("hold", slice_wh=50)), SHORT) as session:
            seen = cover_of(session)
            run = session.run(report=False)
        assert (run.certified.verdict, run.certified.reasons) == ("PASS", [])
        for direction in Direction:
            flowed = [(energy, covered) for found, energy, covered in seen if found is direction]
            assert max(energy for energy, _ in flowed) > 150
            assert all(energy <= covered for energy, covered in flowed)
            assert max(covered - energy for energy, covered in flowed) <= 50 + (10_500 * 10.5 + 6000 * 30) / 3600 + 1
        assert verified(run)
        settlement: Any = run.certified.settlement
        paid_msat = settlement["lightning"]["paid_msat"]
        for kind, micro in settlement["amounts_micro"].items():  # a micro-euro is one msat at 100 000 EUR/BTC
            assert abs(paid_msat[kind] - micro) < 1000
        flowed = [debt for debt in debts_of(run.folder).values() if debt.terms is not None]
        assert {debt.state for debt in flowed} <= {DebtState.PAID, DebtState.CANCELLED}
        for debt in flowed:
            if debt.state is DebtState.PAID:
                record = (run.folder / "settlement" / "slices" / f"{debt.name}.json").read_bytes()
                assert sha256_hex(record) == debt.evidence_sha256

    def test_no_money_for_the_first_slice_no_energy_and_the_record_tells_why(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            lose_route_at(session, nodes, 0.0)
            run = session.run(report=False)
        assert run.certified.verdict == "FAIL"
        assert "payment of import_energy: the next slice of 50 Wh could not be held" in run.certified.reasons[0]
        assert run.log.aborted == run.certified.reasons[0]
        assert run.certified.record is not None
        assert run.certified.record.record.session.outcome is Outcome.ABORTED
        assert max(abs(watts) for _, watts in power(run)) < 200
        assert [event.kind for event in all_events(run) if event.source == "plan"] == ["plugged_in", "unplugged"]
        assert verified(run)

    def test_export_that_nobody_pays_for_never_flows_and_the_import_before_it_is_paid(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            lose_route_at(session, nodes, 0.0, of=("aggregator",))
            run = session.run(report=False)
        assert run.log.aborted.startswith("payment of v2g_energy: the next slice of 50 Wh could not be held")
        assert not run.log.tripped
        imported, exported = register(run, "import"), register(run, "export")
        assert imported[-1][1] - imported[0][1] > 150
        assert exported[-1][1] == exported[0][1]
        assert nodes.earned_msat()["charging_station"] > 150 * 250
        assert verified(run)

    def test_when_a_later_slice_cannot_be_held_the_session_ends_in_order_within_what_was_held(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            seen = cover_of(session)
            lose_route_at(session, nodes, 60.0)
            session.announce()
            log = session.runner.run()
            nodes.network.nodes["ev_owner"].no_route = False
            run = session.conclude(log, report=False)
        assert all(energy <= covered for _, energy, covered in seen)
        ((stopped_s, content),) = events(run, "energy_stopped")
        assert content["sentence"] == log.aborted
        assert 60.0 < stopped_s < 120.0
        assert not events(run, "limit_tripped")
        assert [event.kind for event in all_events(run) if event.source == "plan"] == ["plugged_in", "unplugged"]
        assert max(abs(watts) for at_s, watts in power(run) if at_s > stopped_s + 4) < 200
        # The way is back, so what flowed is paid to the watt-hour, though the verdict stays FAIL.
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "settled")
        assert run.certified.reasons[0] == log.aborted
        settlement: Any = run.certified.settlement
        earned = nodes.earned_msat()["charging_station"]
        backs = [debt for debt in debts_of(run.folder).values() if debt.name.endswith(".back")]
        fees = sum(debt.fee_msat for debt in backs if debt.payer == "charging_station")
        assert earned == settlement["lightning"]["paid_msat"]["import_energy"] - fees
        assert verified(run)

    def test_what_is_owed_is_told_when_it_cannot_be_paid_at_the_end_either(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            lose_route_at(session, nodes, 60.0, of=("ev_owner", "charging_station"))
            run = session.run(report=False)
        reason = str(run.certified.settlement["reason"])
        paid_msat = nodes.earned_msat()["charging_station"]
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "none")
        assert f"{paid_msat} msat of import_energy were paid while energy flowed" in reason
        assert "charging_station has to pay ev_owner back" in reason
        assert reason in run.certified.reasons
        assert verified(run)

    def test_a_slice_whose_record_was_tampered_with_is_never_paid_and_stops_the_energy(
        self, emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = paying.write_slice_record

        def tampered(debt: Debt, delivered_wh: Decimal, meter: Identity) -> bytes:
            record = genuine(debt, delivered_wh, meter)
            return record if debt.name.endswith(".0") else record.replace(b'"50"', b'"51"')

        monkeypatch.setattr(paying, "write_slice_record", tampered)
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            session.announce()
            log = session.runner.run()
            assert "import_energy.1'" in log.aborted
            assert log.aborted.endswith("does not hold; nothing was paid")
            assert nodes.earned_msat()["charging_station"] == 50 * 250  # the first slice, whose record is genuine
            monkeypatch.setattr(paying, "write_slice_record", genuine)
            run = session.conclude(log, report=False)
        (second,) = [debt for debt in debts_of(run.folder).values() if debt.name.endswith("import_energy.1")]
        assert second.state is DebtState.CANCELLED
        assert run.certified.verdict == "FAIL"
        assert run.certified.settlement["status"] == "settled"  # the session's own record verifies
        assert verified(run)

    def test_a_meter_that_counts_the_wrong_way_round_stops_the_energy_and_nothing_is_paid_for_it(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        station = emulated({**paid("hold", slice_wh=50), "twins.charger.fault": {"kind": "sign"}})
        run = run_certified(station, SHORT, report=False)
        assert run.log.aborted.startswith("payment of v2g_energy: ")
        assert run.log.aborted.endswith(" Wh were counted that nobody asked for, and no money is held")
        assert run.certified.settlement["status"] == "cancelled"
        assert nodes.earned_msat() == dict.fromkeys(ACCOUNTS, 0)

    def test_a_register_that_runs_backwards_stops_the_energy_and_the_session_fails_with_what_was_paid(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with CertifiedSession(slices_of(emulated), SHORT) as session:
            site = session.rack.emulated
            assert site is not None

            def restart(_index: int, _snapshot: Any, now_s: float) -> None:
                if now_s >= 80.0 and not restarted:
                    restarted.append(now_s)
                    site.charger.meter.import_wh = 0.0

            restarted: list[float] = []
            session.rack.cycle.listeners.insert(0, restart)
            run = session.run(report=False)
        assert "the import register of charger 'charger' ran backwards" in run.log.aborted
        ((stopped_s, _),) = events(run, "energy_stopped")
        assert restarted[0] <= stopped_s <= restarted[0] + 2.0
        assert max(abs(watts) for at_s, watts in power(run) if at_s > stopped_s + 4) < 200
        reason = str(run.certified.settlement["reason"])
        paid_msat = nodes.earned_msat()["charging_station"]
        assert paid_msat > 100 * 250
        assert run.certified.settlement["status"] == "none"
        assert f"{paid_msat} msat of import_energy were paid while energy flowed" in reason
        assert (run.certified.verdict, reason in run.certified.reasons) == ("FAIL", True)
        assert {debt.state for debt in debts_of(run.folder).values()} <= {DebtState.PAID, DebtState.CANCELLED}

    @pytest.mark.parametrize("mode", ["hold", "stream"])
    def test_a_register_that_stands_still_while_power_flows_stops_the_energy(
        self, emulated: Change, nodes: Nodes, mode: str
    ) -> None:
        keys = {"slice_wh": 1000} if mode == "hold" else {}
        station = emulated({**paid(mode, **keys), "twins.charger.fault": {"kind": "frozen", "after_s": 60}})
        run = run_certified(station, SessionPlan(name="still", duration_s=600, baseline_w=6000.0), report=False)
        assert run.log.aborted.startswith("payment of import_energy: charger 'charger' counted ")
        assert run.log.aborted.endswith(" Wh; its import register stands still")
        ((stopped_s, _),) = events(run, "energy_stopped")
        # At 6 kW, 60 s of 10.5 kW and a tenth of what flowed are reached within 130 s of standing still.
        assert 150.0 < stopped_s < 200.0
        assert run.certified.verdict == "FAIL"

    def test_what_was_paid_for_slices_is_told_when_the_sessions_record_does_not_verify(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        station = emulated({**paid("hold", slice_wh=50), "twins.charger.fault": {"kind": "gain", "percent": 8}})
        run = run_certified(station, SHORT, report=False)
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "cancelled")
        reason = str(run.certified.settlement["reason"])
        assert "the money went back because the record does not verify" in reason
        assert (
            f"{nodes.earned_msat()['charging_station']} msat of import_energy were paid while energy flowed" in reason
        )
        assert {debt.state for debt in debts_of(run.folder).values()} <= {DebtState.PAID, DebtState.CANCELLED}
        assert verified(run)

    def test_a_session_that_trips_leaves_no_slice_open(self, emulated: Change, nodes: Nodes) -> None:
        limits = {"power_w": {"min": -10500, "max": 10500}, "soc_percent": {"min": 10, "max": 55.5}}
        station = emulated({**paid("hold", slice_wh=50), "twins.van.soc_percent": 55.0, "limits": limits})
        run = run_certified(station, SessionPlan(name="trips", duration_s=600, baseline_w=9000.0), report=False)
        assert run.tripped
        found = debts_of(run.folder)
        assert len(found) > 3
        assert {debt.state for debt in found.values()} <= {DebtState.PAID, DebtState.CANCELLED}
        assert run.certified.settlement["status"] == "settled"
        assert verified(run)

    def test_a_session_that_is_left_in_the_middle_leaves_no_slice_open(self, emulated: Change, nodes: Nodes) -> None:
        def interrupt(_index: int, _snapshot: Any, now_s: float) -> None:
            if now_s > 60.0 and not interrupted:
                interrupted.append(now_s)
                raise KeyboardInterrupt

        def leave_it(session: CertifiedSession) -> None:
            with session:
                folders.append(session.rack.run_folder)
                session.rack.cycle.listeners.append(interrupt)
                session.run()

        interrupted: list[float] = []
        folders: list[Path] = []
        with pytest.raises(KeyboardInterrupt):
            leave_it(CertifiedSession(slices_of(emulated), SHORT))
        states = [debt.state for debt in debts_of(folders[0]).values()]
        assert states.count(DebtState.PAID) >= 2
        assert set(states) <= {DebtState.PAID, DebtState.CANCELLED}
        assert all(invoice.state != OPEN for node in nodes.network.nodes.values() for invoice in node.invoices.values())

    def test_slices_too_thin_to_be_paid_are_refused_before_anything_is_energised(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        with (
            pytest.raises(ConfigError, match="a slice of 3 Wh is worth 540 msat at tariff 'example' and this rate"),
            CertifiedSession(emulated(paid("hold", slice_wh=3)), SHORT),
        ):
            pass
        assert nodes.earned_msat() == dict.fromkeys(ACCOUNTS, 0)


@pytest.mark.wire
class TestStreams:
    @pytest.mark.parametrize("keysend", [False, True])
    def test_each_minute_is_paid_and_the_end_brings_each_line_to_its_amount(
        self, emulated: Change, nodes: Nodes, keysend: bool
    ) -> None:
        run = run_certified(emulated(paid("stream", keysend=keysend)), SHORT, report=False)
        assert (run.certified.verdict, run.certified.reasons) == ("PASS", [])
        settlement: Any = run.certified.settlement
        advance = settlement["lightning"]["advance_msat"]
        assert advance["import_energy"] > 150 * 250
        assert advance["v2g_energy"] > 150 * 180
        assert nodes.earned_msat()["charging_station"] == settlement["lightning"]["paid_msat"]["import_energy"]
        while_flowing = [debt for debt in debts_of(run.folder).values() if debt.terms is not None]
        assert {debt.keysend for debt in while_flowing} == {keysend}
        assert verified(run)

    def test_payments_follow_the_energy_where_that_is_asked_for(self, emulated: Change, nodes: Nodes) -> None:
        run = run_certified(emulated(paid("stream", every_s=3600, every_wh=40)), SHORT, report=False)
        assert run.certified.verdict == "PASS"
        amounts = [debt.amount_msat for debt in debts_of(run.folder).values() if debt.kind == "import_energy"]
        assert len(amounts) >= 8
        assert 39 * 250 - 1000 < amounts[0] <= 43 * 250 - 1000  # a satoshi stays for the record
        assert all(40 * 250 <= amount <= 43 * 250 for amount in amounts[1:-2])

    def test_energy_stops_two_minutes_after_a_missed_payment_and_the_record_says_so(
        self, emulated: Change, nodes: Nodes
    ) -> None:
        plan = SessionPlan(name="missed", duration_s=600, baseline_w=6000.0)
        with CertifiedSession(emulated(paid("stream")), plan) as session:
            lose_route_at(session, nodes, 90.0)
            run = session.run()
        assert run.log.aborted.startswith("payment of import_energy: no payment for 12")
        ((stopped_s, _),) = events(run, "energy_stopped")
        began_s = run.log.transfer_s
        missed_s = began_s + 120  # the second minute's payment is the first one that fails
        assert missed_s + 118 <= stopped_s <= missed_s + 125
        assert max(abs(watts) for at_s, watts in power(run) if at_s > stopped_s + 4) < 200
        assert (
            nodes.network.nodes["ev_owner"].sent < 2 * 16
        )  # tried each 10 s, twice each, and not in each of 120 cycles
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "none")
        reason = str(run.certified.settlement["reason"])
        assert (
            f"{nodes.earned_msat()['charging_station']} msat of import_energy were paid while energy flowed" in reason
        )
        assert "ev_owner still owes charging_station" in reason
        assert "no payment for 12" in run.report.read_text(encoding="utf-8")
        assert verified(run)

    def test_a_node_that_is_away_for_less_than_the_grace_costs_nothing(self, emulated: Change, nodes: Nodes) -> None:
        with CertifiedSession(emulated(paid("stream")), SHORT) as session:
            lose_route_at(session, nodes, 50.0, back_s=110.0)
            run = session.run(report=False)
        assert (run.certified.verdict, run.certified.reasons) == ("PASS", [])
        assert events(run, "energy_stopped") == []
        assert verified(run)


# Before charging starts ---------------------------------------------------------------------------------------------


@pytest.mark.wire
@pytest.mark.parametrize("settled", [paid("post_paid"), paid("hold"), paid("hold", slice_wh=50), paid("stream")])
def test_a_schedule_that_could_not_be_paid_is_refused_before_the_vehicle_is_plugged_in(
    emulated: Change, nodes: Nodes, settled: dict[str, Any]
) -> None:
    nodes.network.nodes["aggregator"].local_msat = 28_000
    with CertifiedSession(emulated(settled), SHORT) as session:
        folder = session.rack.run_folder
        with pytest.raises(SettlementError) as refused:
            session.run()
    nodes.network.nodes["aggregator"].local_msat = 50 * EURO_MSAT
    assert str(refused.value).startswith(
        "the session is not begun, because aggregator could not pay ev_owner for its v2g_energy, which may come to "
    )
    assert "account 'aggregator' can send" in str(refused.value)
    with Run.open(folder) as run:
        assert run.events("plugged_in") == ()
    assert debts_of(folder) == {}


@pytest.mark.wire
def test_a_schedule_that_comes_later_is_judged_when_it_comes(emulated: Change, nodes: Nodes) -> None:
    nodes.network.nodes["aggregator"].local_msat = 28_000
    order = GridOrder(order_id="down", direction="load_decrease", start_s=60, duration_s=600, power_w=12_000.0)
    with CertifiedSession(emulated(paid("stream")), SessionPlan(name="by hand", duration_s=60.0)) as session:
        session.runner.plug_in()
        session.runner.start()
        with pytest.raises(SettlementError, match="ev_owner could not pay charging_station for its import_energy"):
            session.schedule(session.payable_plan(duration_s=200 * 3600.0, baseline_w=9000.0))
        assert session.plan.duration_s == 60.0
        session.schedule(session.payable_plan(duration_s=900.0, baseline_w=6000.0))
        with pytest.raises(SettlementError, match="aggregator could not pay ev_owner for its v2g_energy"):
            session.announce_order(order)
        assert session.plan.orders == ()
        session.runner.stop()
        session.runner.unplug()
        session.conclude(session.runner.finish(), report=False)
    nodes.network.nodes["aggregator"].local_msat += 50 * EURO_MSAT - 28_000


# What is left when the end breaks off -------------------------------------------------------------------------------


@pytest.mark.wire
def test_a_slice_whose_payer_was_away_at_the_end_does_not_keep_the_record_from_being_paid(
    emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, payer = nodes.network.settle, nodes.network.nodes["ev_owner"]

    def away_after_it(invoice: StoredInvoice) -> None:
        take(invoice)
        payer.refusal = ("UNAVAILABLE", "the node is away")

    monkeypatch.setattr(paying, "TIMES", Times(pay_s=5, resolve_s=0.5, hold_s=10.0))
    with CertifiedSession(slices_of(emulated), SHORT) as session:
        session.announce()
        log = session.runner.run()
        monkeypatch.setattr(nodes.network, "settle", away_after_it)
        recorded = session.record(log)
        assert any("is not settled yet" in problem for problem in recorded.facts.unpaid)
        settling = [debt for debt in debts_of_open(session) if debt.state is DebtState.SETTLING]
        assert len(settling) >= 1
        monkeypatch.setattr(nodes.network, "settle", take)
        back = threading.Timer(1.0, lambda: setattr(payer, "refusal", None))
        back.start()
        session.settle()
        back.join()
        run = session.issue(report=False)
    assert run.certified.settlement["status"] == "settled"
    assert {debt.state for debt in debts_of(run).values()} <= {DebtState.PAID, DebtState.CANCELLED}
    assert verified(run)


@pytest.mark.wire
def test_a_hold_that_fails_half_way_gives_back_what_it_held_already(
    emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.clients["ev_owner"], "add_hold_invoice", away)
    run = run_certified(emulated(paid("hold")), SHORT, report=False)
    reason = str(run.certified.settlement["reason"])
    assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "none")
    assert reason.startswith("node 'ev_owner' does not answer; ev_owner still owes charging_station ")
    assert {debt.state for debt in debts_of(run).values()} == {DebtState.CANCELLED}
    assert nodes.earned_msat() == dict.fromkeys(ACCOUNTS, 0)
    assert verified(run)


@pytest.mark.wire
def test_a_hold_that_fails_half_way_and_stays_held_is_told(
    emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = nodes.network.send

    def away_after_the_first(payer: Node, *given: Any) -> Any:
        found = send(payer, *given)
        payer.refusal = ("UNAVAILABLE", "the node is away")
        return found

    with CertifiedSession(emulated(paid("hold")), SHORT) as session:
        monkeypatch.setattr(nodes.network, "send", away_after_the_first)
        run = session.run(report=False)
    reason = str(run.certified.settlement["reason"])
    assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "unfinished")
    assert "; what was held already could not be given back: node 'ev_owner'" in reason
    assert reason in run.certified.reasons
    assert verified(run)


@pytest.mark.wire
def test_what_a_record_was_paid_in_part_is_not_told_as_owed(
    emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.clients["ev_owner"], "add_invoice", away)  # the payee of export, once import is paid
    run = run_certified(emulated(paid("post_paid")), SHORT, report=False)
    reason = str(run.certified.settlement["reason"])
    paid_msat = nodes.earned_msat()["charging_station"]
    assert paid_msat > 150 * 250
    assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "unfinished")
    assert f"ev_owner paid charging_station {paid_msat} msat of import_energy at the end" in reason
    assert "ev_owner still owes" not in reason
    assert "aggregator still owes ev_owner " in reason
    assert verified(run)


@pytest.mark.wire
def test_a_payment_of_which_nobody_knows_how_it_ended_is_not_told_as_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = LightningBooks(tmp_path, Mode.POST_PAID, times=Times(pay_s=2, resolve_s=0.5), call_s=1.0)
    send, payer = books.network.send, books.network.nodes["ev_owner"]

    def away_after_it(of: Node, *given: Any) -> Any:
        found = send(of, *given)
        payer.refusal = ("UNAVAILABLE", "the node is away")
        return found

    monkeypatch.setattr(books.network, "send", away_after_it)
    payer.lose_answers = 1
    record = b"the signed record"
    quote = books.settlement.quote(sha256_hex(record), import_wh=8000, export_wh=0, available_power_w=0, available_s=0)
    hold = books.settlement.hold(quote)
    with pytest.raises(LndError):
        books.settlement.release(hold.hold_id, record=record, verify=lambda _record: None)
    told = paying.what_is_owed(books.settlement, "s", quote)
    assert told == (f"'{hold.hold_id}.0.import_energy' of 2000000 msat was begun, and how it ended is not known",)
    assert books.local_msat()["charging_station"] == 2_000_000
    books.close()


# Step by step, on the wall clock, and killed ------------------------------------------------------------------------


@pytest.mark.wire
def test_a_plan_that_goes_step_by_step_is_told_once_and_then_stops_and_unplugs(emulated: Change, nodes: Nodes) -> None:
    with CertifiedSession(slices_of(emulated), SHORT) as session:
        runner = session.runner
        runner.plug_in()
        runner.start()
        nodes.network.nodes["aggregator"].no_route = True
        with pytest.raises(EnergyStopped, match="payment of v2g_energy"):
            runner.set_power(-6000.0)
        with pytest.raises(EnergyStopped, match="payment of v2g_energy"):
            runner.set_power(6000.0)  # and nothing else flows either
        runner.stop()
        runner.unplug()
        run = session.conclude(runner.finish(), report=False)
    assert run.log.aborted.startswith("payment of v2g_energy")
    exported = register(run, "export")
    assert exported[-1][1] == exported[0][1]


WALL = {"clock": "wall", "start_utc": None, "cycle_s": 0.2, "devices.van.poll_s": 0.5, "devices.charger.watchdog_s": 5}


@pytest.mark.wire
@pytest.mark.slow
def test_on_the_wall_clock_a_hold_that_hangs_blocks_no_cycle_and_energy_stops_within_what_is_held(
    emulated: Change, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, hanging = threading.Event(), threading.Event()
    hold_next = HoldTab.hold_next
    held: list[str] = []

    def hang(tab: HoldTab) -> Debt:
        if len(held) == 1:
            hanging.set()
            let_go.wait(60)
            raise SettlementError("nobody came")
        held.append("slice")
        return hold_next(tab)

    monkeypatch.setattr(HoldTab, "hold_next", hang)
    monkeypatch.setattr(paying, "LEAD_S", 4.0)
    plan = SessionPlan(name="hangs", duration_s=120, baseline_w=9000.0)
    with CertifiedSession(emulated({**paid("hold", slice_wh=40), **WALL}), plan) as session:
        session.announce()
        log = session.runner.run()
        assert hanging.is_set()
        let_go.set()
        run = session.conclude(log, report=False)
    assert log.aborted.startswith("payment of import_energy: the money of the next slice has not arrived in time")
    imported = register(run, "import")
    assert 0 < imported[-1][1] - imported[0][1] <= 40
    with Run.open(run.folder) as opened:
        times = opened.cycles()[:, 1].tolist()
    assert max(after - earlier for earlier, after in itertools.pairwise(times)) < 5.0
    assert run.certified.settlement["status"] == "settled"
    assert not {"payments", "cycle"} & {thread.name for thread in threading.enumerate()}


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.parametrize("settled", [paid("hold", slice_wh=10), paid("stream", every_s=2)])
def test_on_the_wall_clock_a_thread_pays_while_energy_flows_and_ends_with_the_session(
    emulated: Change, nodes: Nodes, settled: dict[str, Any]
) -> None:
    plan = SessionPlan(name="wall", duration_s=8, baseline_w=9000.0)
    with CertifiedSession(emulated({**settled, **WALL}), plan) as session:
        session.require_liquidity(plan)
        log = session.runner.run()
        assert "payments" in {thread.name for thread in threading.enumerate()}
        paid_msat = nodes.earned_msat()["charging_station"]
        run = session.conclude(log, report=False)
    assert (log.aborted, events(run, "energy_stopped")) == ("", [])
    assert paid_msat > 0  # before the end
    assert run.certified.settlement["status"] == "settled"
    assert "payments" not in {thread.name for thread in threading.enumerate()}
    assert verified(run)


KILLED = """
import json, sys, time
from contextlib import contextmanager
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import bench.pipeline
from bench.pipeline import CertifiedSession
from bench.station import load_station
from ledgers.lightning.client import LndClient, NodeAccess
from tests.bench.test_bench_paying import SHORT
given = json.loads(sys.stdin.readline())
clients = {n: LndClient(NodeAccess(n, at, pem.encode(), macaroon)) for n, (at, pem, macaroon) in given.items()}

@contextmanager
def nodes_of(_station):
    yield clients

bench.pipeline.payment_nodes = nodes_of
with CertifiedSession(load_station(sys.argv[2]), SHORT, runs=Path(sys.argv[3])) as session:
    def tell(_index, _snapshot, now_s):
        if now_s > 60.0:
            print(session.rack.run_folder, flush=True)
            time.sleep(60)
    session.rack.cycle.listeners.append(tell)
    session.run()
"""


@pytest.mark.wire
@pytest.mark.slow
def test_after_kill_9_the_journal_tells_each_slice_and_what_was_held_goes_back(nodes: Nodes, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    station = tmp_path / "station.yaml"
    shipped = asset("stations/emulated-lightning.yaml").read_text(encoding="utf-8")
    station.write_text(shipped.replace("  mode: hold ", "  slice_wh: 50\n  mode: hold "))
    known = {name: node.access() for name, node in nodes.network.nodes.items()}
    secret = json.dumps({n: (a.address, a.certificate_pem.decode(), a.macaroon_hex) for n, a in known.items()})
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root), str(station), str(tmp_path / "killed")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(secret + "\n")
    child.stdin.flush()
    folder = Path(child.stdout.readline().strip())
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with LightningSettlement(
        folder / "settlement",
        tariff=load_tariff(root / "tariffs" / "example.yaml"),
        rate=Rate("100000", "stated by the test"),
        mode=Mode.HOLD,
        nodes=nodes.clients,
        identity=METER,
        wall_utc_s=time.time,
    ) as settlement:
        states = [debt.state for debt in settlement.debts()]
        assert states.count(DebtState.PAID) >= 1
        assert states.count(DebtState.HELD) >= 1
        assert set(states) == {DebtState.PAID, DebtState.HELD}
        assert settlement.resume() == ()  # nothing was decided and left undone
        session_id = settlement.debts()[0].subject
        tab = settlement.hold_tab(session_id, "import_energy", slice_wh=50)
        for debt in tab.open():
            tab.cancel(debt.name)
        paid_msat = settlement.advances(session_id)["import_energy"]
        assert nodes.earned_msat()["charging_station"] == paid_msat == 12_500 * states.count(DebtState.PAID)
        assert tab.open() == ()


def away(*_: Any, **__: Any) -> None:
    raise LndUnreachable("node 'ev_owner' does not answer", node="ev_owner", call="AddInvoice")


def slices_of(emulated: Change) -> Station:
    return emulated(paid("hold", slice_wh=50))


def lose_route_at(
    session: CertifiedSession,
    nodes: Nodes,
    at_s: float,
    *,
    back_s: float = 1e9,
    of: tuple[str, ...] = ("ev_owner",),
) -> None:
    """From `at_s` to `back_s` of session time these nodes find no way to anybody."""

    def change(_index: int, _snapshot: Any, now_s: float) -> None:
        for name in of:
            nodes.network.nodes[name].no_route = at_s <= now_s < back_s

    session.rack.cycle.listeners.insert(0, change)


def power(run: CertifiedRun) -> list[tuple[float, float]]:
    with Run.open(run.folder) as opened:
        series = opened.series("charger.ac_power")
    return list(zip(series.mono_s.tolist(), series.value.tolist(), strict=True))


def all_events(run: CertifiedRun) -> list[Any]:
    with Run.open(run.folder) as opened:
        return list(opened.events())
