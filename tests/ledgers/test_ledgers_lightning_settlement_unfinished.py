"""What was begun over Lightning and not finished: the same call or `resume` finishes it once, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import sha256_hex
from ledgers.errors import SettlementError
from ledgers.lightning.cashier import Times
from ledgers.lightning.client.errors import LndError, NoRoute
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.modes import HoldTab, Mode, slice_verifier, write_slice_record
from ledgers.lightning.pricing import Rate
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.ports import SettlementReceipt
from tests.ledgers.contract_settlement import EURO, RECORD, holds, quoted
from tests.ledgers.lnd_double import StoredInvoice
from tests.ledgers.test_ledgers_lightning_settlement import METER, LightningBooks, PowerCut

SHORT = Times(pay_s=2, resolve_s=1.0, hold_s=2.0, invoice_s=600)
AWAY = ("UNAVAILABLE", "the node is away")

pytestmark = pytest.mark.wire

Make = Callable[..., LightningBooks]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LightningBooks] = []

    def make_books(mode: Mode = Mode.HOLD, **options: Any) -> LightningBooks:
        made.append(LightningBooks(tmp_path / f"books{len(made)}", mode, **{"times": SHORT, "call_s": 2.0, **options}))
        return made[-1]

    yield make_books
    for books in made:
        books.close()


def settle(tab: HoldTab, debt: Debt, wh: int) -> Debt:
    record = write_slice_record(debt, Decimal(wh), METER)
    return tab.settle(debt.name, record=record, verify=slice_verifier(debt, METER.name, METER.public_key_der))


def checked(receipt: SettlementReceipt, record: bytes = RECORD, *, session_id: str = "s") -> str:
    part = LightningPart.model_validate_json(json.dumps(json.loads(receipt.to_canonical())["lightning"]))
    return check_lightning(part, receipt.quote.lines, record_sha256=sha256_hex(record), session_id=session_id)


@contextmanager
def settled_and_then(books: LightningBooks, account: str, then: Callable[[], None]) -> Iterator[None]:
    """Right after the node of an account was paid, something else happens."""
    before = books.network.settle

    def settled(invoice: StoredInvoice) -> None:
        before(invoice)
        if invoice.node.name == account:
            then()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(books.network, "settle", settled)
        yield


def away(books: LightningBooks, account: str) -> Callable[[], None]:
    return lambda: setattr(books.network.nodes[account], "refusal", AWAY)


# ------------------------------------------------------------------------------------------------ a record paid in part


def paid_in_part(books: LightningBooks) -> str:
    """A verified hold whose import is paid, and whose export was given back by the payee's node; returns its name."""
    hold = books.settlement.hold(quoted(books.settlement))
    van = books.network.nodes["ev_owner"]
    with settled_and_then(books, "charging_station", away(books, "ev_owner")), pytest.raises(LndError):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    van.refusal = None
    for invoice in van.invoices.values():
        books.network.expire(invoice)
    return hold.hold_id


@pytest.mark.parametrize("how", ["release", "hold and release", "resume"])
def test_a_record_that_was_paid_in_part_before_its_other_hold_expired_is_paid_out(make: Make, how: str) -> None:
    books = make(Mode.HOLD)
    total_msat = books.network.total_msat()
    hold_id = paid_in_part(books)
    books.reopen()
    if how == "resume":
        assert books.settlement.resume() == (f"hold {hold_id} was paid out",)
    else:
        if how == "hold and release":
            assert books.settlement.hold(quoted(books.settlement)).hold_id == hold_id
        books.settlement.release(hold_id, record=RECORD, verify=holds)
    assert books.local_msat() == {
        "ev_owner": 48 * EURO + 878_583,
        "aggregator": 100 * EURO - 878_583,
        "charging_station": 2 * EURO,
    }
    assert books.network.total_msat() == total_msat
    assert {debt.state for debt in books.settlement.debts()} == {DebtState.PAID}
    assert checked(books.settlement.receipt(hold_id)).startswith("3 payments, 2878583 msat")
    books.reopen()
    assert [(debt.held, len(debt.earlier)) for debt in books.settlement.debts()] == [(True, 0), (False, 1), (False, 1)]


def test_an_expired_hold_of_a_verified_record_that_cannot_be_paid_now_is_paid_later_and_once(make: Make) -> None:
    books = make(Mode.HOLD)
    hold_id = paid_in_part(books)
    books.network.nodes["aggregator"].no_route = True
    for _ in range(2):
        with pytest.raises(NoRoute):
            books.settlement.release(hold_id, record=RECORD, verify=holds)
    books.network.nodes["aggregator"].no_route = False
    books.settlement.release(hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["aggregator"] == 100 * EURO - 878_583
    with pytest.raises(SettlementError, match="paid once"):
        books.settlement.release(hold_id, record=RECORD, verify=holds)


# ------------------------------------------------------------------------------------- what was paid is not paid again


def test_a_session_is_not_bound_to_a_record_that_is_held_or_settled_without_what_it_paid(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s", "import_energy", slice_wh=1000)
    for _ in range(2):
        settle(tab, tab.hold_next(), 1000)
    quote = quoted(books.settlement, import_wh=2000, export_wh=0, available_s=0)
    hold = books.settlement.hold(quote)
    with pytest.raises(SettlementError, match="does not subtract what session 's' paid; cancel it, bind"):
        books.settlement.bind("s", sha256_hex(RECORD))
    books.settlement.cancel(hold.hold_id)
    books.settlement.bind("s", sha256_hex(RECORD))
    receipt = books.settlement.release(books.settlement.hold(quote).hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 500_000
    assert checked(receipt).startswith("2 payments, 500000 msat")
    books.settlement.bind("s", sha256_hex(RECORD))  # again changes nothing
    with pytest.raises(SettlementError, match="is the one of session 's' already"):
        books.settlement.bind("t", sha256_hex(RECORD))


def test_a_settled_record_takes_no_session_any_more(make: Make) -> None:
    books = make(Mode.POST_PAID)
    hold = books.settlement.hold(quoted(books.settlement, import_wh=1000, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    with pytest.raises(SettlementError, match="was settled already"):
        books.settlement.bind("s", sha256_hex(RECORD))


def test_a_stream_begins_no_payment_once_its_session_is_bound(make: Make) -> None:
    books = make(Mode.STREAM)
    tab = books.settlement.stream_tab("s", "import_energy", grace_s=0)
    tab.tick(now_s=0, total_wh=0)
    assert tab.tick(now_s=60, total_wh=1000).reason == ""
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=2000, export_wh=0, available_s=0))
    late = tab.tick(now_s=120, total_wh=2000)
    assert not late.may_flow
    assert "what it still owes is paid with that, nothing new is begun" in late.reason
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 500_000
    assert checked(receipt).startswith("2 payments, 500000 msat")


def test_no_slice_is_held_once_its_session_is_bound(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s", "import_energy", slice_wh=1000)
    settle(tab, tab.hold_next(), 1000)
    books.settlement.bind("s", sha256_hex(RECORD))
    with pytest.raises(SettlementError, match="session 's' became record"):
        tab.hold_next()
    assert books.settlement.balances()["held"] == 0


def test_a_refund_takes_back_what_the_payment_left_to_be_carried(make: Make) -> None:
    books = make(Mode.POST_PAID)
    books.settlement.rate = Rate("99999", "stated by the test")
    books.settlement.pay("ev_owner", "charging_station", EURO, payment_id="p", memo="")
    assert 0 < books.settlement.carried("ev_owner", "charging_station") < 1
    books.network.nodes["charging_station"].local_msat += EURO
    books.settlement.refund("p")
    books.reopen()
    assert books.settlement.carried("ev_owner", "charging_station") == 0


# ------------------------------------------------------------------------------------------------ resume goes on


def decided_slice(books: LightningBooks, session_id: str) -> Debt:
    """A slice whose record was verified, and whose payer's node went away before it told that it had paid."""
    tab = books.settlement.hold_tab(session_id, "import_energy", slice_wh=1000)
    debt = tab.hold_next()
    with settled_and_then(books, "charging_station", away(books, "ev_owner")), pytest.raises(LndError):
        settle(tab, debt, 1000)
    books.network.nodes["ev_owner"].refusal = None
    return debt


def test_one_payment_that_fails_does_not_keep_resume_from_the_others(make: Make) -> None:
    books = make(Mode.HOLD)
    aggregator = books.network.nodes["aggregator"]
    tab = books.settlement.hold_tab("v", "v2g_energy", slice_wh=1000)
    stuck = tab.hold_next()
    with settled_and_then(books, "ev_owner", away(books, "aggregator")), pytest.raises(LndError):
        settle(tab, stuck, 1000)
    debt = decided_slice(books, "s")
    books.reopen()
    with pytest.raises(LndError) as caught:
        books.settlement.resume()
    assert "could not be finished" not in str(caught.value)
    assert {found.name: found.state for found in books.settlement.debts()} == {
        stuck.name: DebtState.SETTLING,
        debt.name: DebtState.PAID,
    }
    aggregator.refusal = None
    assert books.settlement.resume() == (f"{stuck.name!r} was settled",)


def test_resume_settles_what_can_expire_before_it_pays_what_cannot_and_counts_its_troubles(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = make(Mode.HOLD)
    monkeypatch.setattr(books.settlement._cashier, "require_liquidity", lambda *_: None)
    books.network.nodes["aggregator"].no_route = True
    for number in range(2):
        with pytest.raises(NoRoute):
            books.settlement.pay("aggregator", "charging_station", EURO, payment_id=f"p{number}", memo="")
    debt = decided_slice(books, "s")
    books.reopen()
    with pytest.raises(NoRoute, match=r"; 2 payments could not be finished, this is the first$"):
        books.settlement.resume()
    assert [found.state for found in books.settlement.debts() if found.name == debt.name] == [DebtState.PAID]
    books.network.nodes["aggregator"].no_route = False
    assert books.settlement.resume() == ("payment 'p0' was made", "payment 'p1' was made")


# ---------------------------------------------------------------- a session's own debts are finished before its record


def test_a_slice_that_was_decided_is_settled_before_the_record_is_held(make: Make) -> None:
    books = make(Mode.HOLD)
    decided_slice(books, "s")
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=1000, export_wh=0, available_s=0))
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert checked(receipt).startswith("1 payments, 250000 msat")
    assert books.local_msat()["charging_station"] == 250_000


def test_a_decided_slice_whose_hold_ran_out_is_due_with_the_record(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s", "import_energy", slice_wh=1000)
    debt = tab.hold_next()
    station = books.network.nodes["charging_station"]
    station.refusal = AWAY
    with pytest.raises(LndError):
        settle(tab, debt, 1000)
    station.refusal = None
    books.network.expire(station.invoices[bytes.fromhex(debt.payment_hash)])
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=1000, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 250_000
    assert books.settlement.advances("s") == {}


def test_a_slice_that_was_to_be_cancelled_is_cancelled_before_the_record_is_held(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s", "import_energy", slice_wh=1000)
    debt = tab.hold_next()
    station = books.network.nodes["charging_station"]
    station.refusal = AWAY
    with pytest.raises(LndError):
        tab.cancel(debt.name)
    station.refusal = None
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=1000, export_wh=0, available_s=0))
    assert books.settlement.debts()[0].state is DebtState.CANCELLED
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 250_000


def streamed_and_killed(books: LightningBooks, monkeypatch: pytest.MonkeyPatch, *, keysend: bool) -> None:
    """A stream's payment was made, and the program ended before that was written down."""
    tab = books.settlement.stream_tab("s", "import_energy", keysend=keysend)
    move = books.settlement._journal.move

    def cut(name: str, state: DebtState, **changes: Any) -> Debt:
        if state is DebtState.PAID:
            raise PowerCut
        return move(name, state, **changes)

    monkeypatch.setattr(books.settlement._journal, "move", cut)
    with pytest.raises(PowerCut):
        tab.finish(now_s=60, total_wh=900)
    books.reopen()
    assert books.settlement.debts()[0].state in {DebtState.NEW, DebtState.INVOICED}
    assert books.local_msat()["charging_station"] == 225_000 - 1_000  # a satoshi is left for the record


@pytest.mark.parametrize("keysend", [True, False])
@pytest.mark.parametrize("how", ["hold", "resume"])
def test_a_stream_payment_whose_end_a_crash_took_is_found_and_not_made_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, how: str, *, keysend: bool
) -> None:
    books = make(Mode.STREAM)
    streamed_and_killed(books, monkeypatch, keysend=keysend)
    if how == "resume":
        assert books.settlement.resume() == ("'s.import_energy.0' was paid",)
        assert books.settlement.resume() == ()
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=900, export_wh=0, available_s=0))
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert checked(receipt).startswith("2 payments, 225000 msat")
    assert books.local_msat()["charging_station"] == 225_000


def test_a_stream_payment_that_has_no_way_is_cancelled_and_due_with_the_record(make: Make) -> None:
    books = make(Mode.STREAM)
    van = books.network.nodes["ev_owner"]
    tab = books.settlement.stream_tab("s", "import_energy")
    van.no_route = True
    assert "no route" in tab.finish(now_s=60, total_wh=900).reason
    books.settlement.bind("s", sha256_hex(RECORD))
    with pytest.raises(NoRoute):
        books.settlement.hold(quoted(books.settlement, import_wh=900, export_wh=0, available_s=0))
    assert [debt.state for debt in books.settlement.debts()] == [DebtState.CANCELLED]
    van.no_route = False
    hold = books.settlement.hold(quoted(books.settlement, import_wh=900, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 225_000


def test_a_spontaneous_payment_that_had_no_way_is_made_before_the_record_is_held(make: Make) -> None:
    books = make(Mode.STREAM)
    van = books.network.nodes["ev_owner"]
    van.no_route = True
    books.settlement.stream_tab("s", "import_energy", keysend=True).finish(now_s=60, total_wh=900)
    van.no_route = False
    books.settlement.bind("s", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=900, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 225_000


# ---------------------------------------------------------------------------------------- sessions settled side by side


def test_what_sessions_side_by_side_left_together_is_brought_and_told_and_the_receipt_holds(make: Make) -> None:
    books = make(Mode.POST_PAID)
    records = [RECORD + bytes([number]) for number in range(4)]
    small = {"import_wh": 0, "export_wh": Decimal("5.5"), "available_power_w": 100, "available_s": 980}
    beside = [books.settlement.hold(quoted(books.settlement, record, **small)) for record in records[:3]]
    for hold, record in zip(beside, records, strict=False):
        books.settlement.release(hold.hold_id, record=record, verify=holds)
    assert 3_249 < books.settlement.carried("aggregator", "ev_owner") < 3_250
    hold = books.settlement.hold(quoted(books.settlement, records[3], import_wh=0))
    receipt = books.settlement.release(hold.hold_id, record=records[3], verify=holds)
    found = checked(receipt, records[3])
    assert found.endswith("; 3249 msat of v2g_energy brought from earlier sessions, not checked here")
    assert books.settlement.carried("aggregator", "ev_owner") < 1
