"""The Settlement port over Lightning, on nodes that are sums but speak lnd's proto on real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import from_canonical, sha256_hex, to_canonical
from ledgers.errors import LedgerBusy, LedgerCorrupt, RecordError, SettlementError
from ledgers.identity import SeedKeys
from ledgers.lightning.cashier import Times
from ledgers.lightning.client import FeeLimit, LndClient
from ledgers.lightning.client.errors import (
    InvoiceRefused,
    LndError,
    LndLocked,
    LndOtherNetwork,
    LndOtherVersion,
    LndTimeout,
    LndUnreachable,
    NoRoute,
    NotEnoughMoney,
)
from ledgers.lightning.client.values import hash_of
from ledgers.lightning.journal import DebtState
from ledgers.lightning.modes import HoldTab, Mode, slice_verifier, write_slice_record
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.tariff import load_tariff
from tests.ledgers.contract_settlement import (
    EURO,
    IDENTITY,
    RECORD,
    WALL_UTC_S,
    SettlementContract,
    fails,
    holds,
    quoted,
)
from tests.ledgers.lnd_double import CANCELED, SETTLED, Network

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"
RATE = Rate("100000", "stated by the test")  # one micro-euro is one msat, 0.25 EUR/kWh are 250 sat/kWh
METER = SeedKeys(seed=7, any_metal=False).identity("charger", "charger")
FAST = Times(pay_s=5, resolve_s=2.0, hold_s=5.0, invoice_s=600)
ACCOUNTS = {"ev_owner": 50 * EURO, "aggregator": 100 * EURO, "charging_station": 0}

pytestmark = pytest.mark.wire


class LightningBooks:
    """Three spokes and a settlement in one mode; the clients outlive the settlement."""

    def __init__(
        self,
        folder: Path,
        mode: Mode,
        *,
        base_fee_msat: int = 0,
        fee_ppm: int = 0,
        times: Times = FAST,
        call_s: float = 5.0,
    ) -> None:
        self.folder = folder
        self.times = times
        self.mode = mode
        self.network = Network(base_fee_msat=base_fee_msat, fee_ppm=fee_ppm)
        for account, local_msat in ACCOUNTS.items():
            self.network.add(account, local_msat=local_msat, remote_msat=200 * EURO)
        self.clients = {name: LndClient(node.access(), call_s=call_s) for name, node in self.network.nodes.items()}
        self.settlement = self._open()

    def _open(self) -> LightningSettlement:
        return LightningSettlement(
            self.folder,
            tariff=load_tariff(EXAMPLE),
            rate=RATE,
            mode=self.mode,
            nodes=self.clients,
            identity=IDENTITY,
            wall_utc_s=lambda: WALL_UTC_S,
            fees=FeeLimit(base_msat=5_000, ppm=1_000),
            times=self.times,
            fsync=False,
        )

    def reopen(self) -> None:
        self.settlement.close()
        self.settlement = self._open()

    def local_msat(self) -> dict[str, int]:
        return {name: node.local_msat for name, node in self.network.nodes.items()}

    def close(self) -> None:
        self.settlement.close()
        for client in self.clients.values():
            client.close()
        self.network.__exit__()


Make = Callable[..., LightningBooks]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LightningBooks] = []

    def make_books(mode: Mode = Mode.HOLD, **options: Any) -> LightningBooks:
        made.append(LightningBooks(tmp_path / f"books{len(made)}", mode, **options))
        return made[-1]

    yield make_books
    for books in made:
        books.close()


class TestPostPaidLightningSettlement(SettlementContract):
    @pytest.fixture
    def books(self, make: Make) -> LightningBooks:
        return make(Mode.POST_PAID)


class TestHoldLightningSettlement(SettlementContract):
    @pytest.fixture
    def books(self, make: Make) -> LightningBooks:
        return make(Mode.HOLD)


@pytest.mark.slow
class TestStreamLightningSettlement(SettlementContract):
    @pytest.fixture
    def books(self, make: Make) -> LightningBooks:
        return make(Mode.STREAM)


# ----------------------------------------------------------------------------------------------------- golden session


@pytest.mark.parametrize("mode", list(Mode))
def test_899_wh_at_250_sat_per_kwh_cost_the_vehicle_225750_msat_and_give_the_station_224750(
    make: Make, mode: Mode
) -> None:
    books = make(mode, base_fee_msat=1_000, fee_ppm=1)
    before, total = books.local_msat(), books.network.total_msat()
    hold = books.settlement.hold(quoted(books.settlement, import_wh=899, export_wh=0, available_s=0))
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    after = books.local_msat()
    assert before["ev_owner"] - after["ev_owner"] == 225_750
    assert after["charging_station"] - before["charging_station"] == 224_750
    assert books.network.hub_msat == 1_000
    assert books.network.total_msat() == total
    document = from_canonical(receipt.to_canonical(), where="receipt")
    (payment,) = document["lightning"]["payments"]
    assert (payment["amount_msat"], payment["fee_msat"]) == (224_750, 1_000)
    assert document["lightning"]["rate"] == {"euro_per_btc": "100000", "source": "stated by the test"}
    assert payment["terms"] is None  # bound to the record itself


def test_a_v2g_session_pays_both_directions_and_the_receipt_names_every_preimage(make: Make) -> None:
    books = make(Mode.HOLD)
    hold = books.settlement.hold(quoted(books.settlement))
    assert books.settlement.balances()["held"] == 2 * EURO + 810_090 + 68_493
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.settlement.balances()["held"] == 0
    document = from_canonical(receipt.to_canonical(), where="receipt")
    paid = {(p["kind"], p["payer"], p["payee"]): p["amount_msat"] for p in document["lightning"]["payments"]}
    assert paid == {
        ("import_energy", "ev_owner", "charging_station"): 2_000_000,
        ("v2g_energy", "aggregator", "ev_owner"): 810_090,
        ("availability", "aggregator", "ev_owner"): 68_493,
    }
    assert books.settlement.carried("aggregator", "ev_owner") == Fraction(11, 73)  # below one msat, for the next time


def test_a_receipt_that_a_crash_took_is_made_again_and_a_changed_one_refused(make: Make) -> None:
    books = make(Mode.POST_PAID)
    hold = books.settlement.hold(quoted(books.settlement))
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.settlement.receipt(hold.hold_id) == receipt
    path = books.folder / "receipts" / f"{hold.hold_id}.json"
    path.unlink()
    assert books.settlement.receipt(hold.hold_id) == receipt
    path.write_bytes(path.read_bytes().replace(b"2021-04-12", b"2021-04-13"))
    with pytest.raises(LedgerCorrupt, match="not the receipt that was signed"):
        books.settlement.receipt(hold.hold_id)


# -------------------------------------------------------------------------------------------------- held and given back


def test_a_hold_that_the_node_gave_back_is_cancelled_and_said(make: Make) -> None:
    books = make(Mode.HOLD)
    before = books.local_msat()
    quote = quoted(books.settlement)
    hold = books.settlement.hold(quote)
    node = books.network.nodes["ev_owner"]  # the payee of the export lines: its holds run out
    for invoice in node.invoices.values():
        books.network.expire(invoice)
    with pytest.raises(SettlementError, match="has expired at the payee's node; nothing was paid"):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat() == before
    assert books.settlement.cancel(hold.hold_id).status == "cancelled"
    again = books.settlement.hold(quote)
    books.settlement.release(again.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 2_000_000


def paid_once(books: LightningBooks, total_msat: int) -> None:
    """2 EUR went from the vehicle to the station, no money was made or lost, and a stranger's check holds."""
    assert books.local_msat() == {"ev_owner": 48 * EURO, "aggregator": 100 * EURO, "charging_station": 2 * EURO}
    assert books.network.total_msat() == total_msat


@pytest.mark.parametrize("when", ["before the release", "after the preimage was given", "both"])
def test_money_that_the_payees_node_lost_after_accepting_it_is_held_again_and_paid_once(make: Make, when: str) -> None:
    books = make(Mode.HOLD)
    total_msat = books.network.total_msat()
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    (debt,) = books.settlement.debts()
    station = books.network.nodes["charging_station"]
    if when != "after the preimage was given":
        books.network.lose(station.invoices[bytes.fromhex(debt.payment_hash)])
        assert books.local_msat()["ev_owner"] == 50 * EURO
    if when != "before the release":
        station.lose_settled = 1
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    (paid,) = books.settlement.debts()
    assert paid.state is DebtState.PAID
    assert paid.preimage != debt.preimage
    assert [payment.debt.payment_hash for payment in receipt.payments] == [paid.payment_hash]
    paid_once(books, total_msat)
    with pytest.raises(SettlementError, match="paid once"):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    books.reopen()
    assert books.settlement.receipt(hold.hold_id) == receipt


def test_money_that_was_lost_and_cannot_be_held_again_is_cancelled_and_said(make: Make) -> None:
    books = make(Mode.HOLD)
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    (debt,) = books.settlement.debts()
    books.network.lose(books.network.nodes["charging_station"].invoices[bytes.fromhex(debt.payment_hash)])
    books.network.nodes["ev_owner"].no_route = True
    with pytest.raises(NoRoute, match="nothing was paid"):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert [debt.state for debt in books.settlement.debts()] == [DebtState.CANCELLED]
    assert books.local_msat()["charging_station"] == 0


def test_a_decided_payment_that_was_lost_while_the_payer_went_away_is_made_when_he_is_back(make: Make) -> None:
    books = make(Mode.HOLD)
    total_msat = books.network.total_msat()
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    books.network.nodes["charging_station"].lose_settled = 1
    books.network.nodes["ev_owner"].stop()
    with pytest.raises(LndError):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    books.network.nodes["ev_owner"].start()
    books.reopen()
    assert books.settlement.resume() == (f"hold {hold.hold_id} was paid out",)
    paid_once(books, total_msat)


def test_a_post_paid_invoice_that_was_settled_and_lost_is_paid_with_another(make: Make) -> None:
    books = make(Mode.POST_PAID)
    total_msat = books.network.total_msat()
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    books.network.nodes["charging_station"].lose_settled = 1
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert len(books.network.nodes["charging_station"].invoices) == 2
    paid_once(books, total_msat)


def test_a_slice_that_was_lost_after_its_record_verified_is_held_again_and_settled(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("session-1", "import_energy", slice_wh=8000)
    debt = tab.hold_next()
    books.network.nodes["charging_station"].lose_settled = 1
    record = write_slice_record(debt, Decimal(8000), METER)
    settled = tab.settle(debt.name, record=record, verify=slice_verifier(debt, METER.name, METER.public_key_der))
    assert settled.state is DebtState.PAID
    assert settled.evidence_sha256 == sha256_hex(record)
    assert books.local_msat()["charging_station"] == 2 * EURO


@pytest.mark.parametrize("given", [True, False])
def test_when_the_payers_own_channel_was_closed_the_payees_invoice_says_whether_he_is_paid(
    make: Make, *, given: bool
) -> None:
    """His payment failed and his money came back over the chain, while the hub pays the payee."""
    books = make(Mode.HOLD)
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    (debt,) = books.settlement.debts()
    station = books.network.nodes["charging_station"]
    if given:
        books.settlement._journal.write("verified", hold.hold_id, {})
        books.settlement._journal.move(debt.name, DebtState.SETTLING, evidence_sha256="ab" * 32)
        books.clients["charging_station"].settle_invoice(debt.preimage)
        for node in books.network.nodes.values():  # as before the hub told him
            for payment in node.payments.values():
                payment.status = 1
    books.network.close_payers_channel(station.invoices[bytes.fromhex(debt.payment_hash)])
    sent = books.network.nodes["ev_owner"].sent
    if given:
        assert books.settlement.resume() == (f"hold {hold.hold_id} was paid out",)
    else:
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    (after,) = books.settlement.debts()
    assert after.state is DebtState.PAID
    assert after.payment_hash == debt.payment_hash, "never begun anew while the payee may be paid"
    assert books.network.nodes["ev_owner"].sent == sent
    assert station.invoices[bytes.fromhex(debt.payment_hash)].state == SETTLED


def test_a_part_that_was_lost_is_noticed_before_the_preimage_is_given(make: Make) -> None:
    books = make(Mode.HOLD)
    total_msat = books.network.total_msat()
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    (debt,) = books.settlement.debts()
    station = books.network.nodes["charging_station"]
    books.network.lose_part(station.invoices[bytes.fromhex(debt.payment_hash)], EURO)
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert station.invoices[bytes.fromhex(debt.payment_hash)].state == CANCELED
    paid_once(books, total_msat)


def test_a_hold_that_was_lost_before_it_was_written_down_is_held_again(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s1", "import_energy", slice_wh=8000)
    debt = tab.hold_next()
    books.settlement._journal.move(debt.name, DebtState.INVOICED)  # killed before it wrote HELD
    books.network.lose(books.network.nodes["charging_station"].invoices[bytes.fromhex(debt.payment_hash)])
    again = tab.hold_next()
    assert (again.name, again.state) == (debt.name, DebtState.HELD)
    assert again.payment_hash != debt.payment_hash
    assert books.local_msat()["ev_owner"] == 48 * EURO


def test_a_payment_that_was_made_is_not_cancelled_but_written_down_as_paid(make: Make) -> None:
    books = make(Mode.POST_PAID, times=Times(pay_s=2, resolve_s=0.5, hold_s=1.0), call_s=1.0)
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    van = books.network.nodes["ev_owner"]
    van.lose_answers = 1
    van.silent_tracks = 100  # the payee is paid, and the payer cannot be asked for a moment
    with pytest.raises(LndError):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    with pytest.raises(SettlementError, match="cannot be cancelled: node 'charging_station' has its money already"):
        books.settlement.cancel(hold.hold_id)
    van.silent_tracks = 0
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert [debt.state for debt in books.settlement.debts()] == [DebtState.PAID]
    assert books.local_msat()["charging_station"] == 2 * EURO
    assert van.sent == 1


def test_a_spontaneous_payment_that_failed_can_be_cancelled_and_its_hash_takes_no_money_any_more(make: Make) -> None:
    books = make(Mode.STREAM)
    van, station = books.network.nodes["ev_owner"], books.network.nodes["charging_station"]
    tab = books.settlement.stream_tab("s1", "import_energy", keysend=True, every_s=60.0)
    van.no_route = True
    tab.tick(now_s=0.0, total_wh=0)
    assert "no route" in tab.tick(now_s=60.0, total_wh=100).reason
    tab.give_up()
    (debt,) = books.settlement.debts()
    assert debt.state is DebtState.CANCELLED
    assert station.invoices[bytes.fromhex(debt.payment_hash)].state == CANCELED


def test_a_hold_of_which_one_line_fails_gives_the_others_back(make: Make) -> None:
    books = make(Mode.HOLD)
    before = books.local_msat()
    books.network.nodes["aggregator"].no_route = True
    with pytest.raises(NoRoute, match="nothing was paid"):
        books.settlement.hold(quoted(books.settlement))
    assert books.local_msat() == before
    assert books.settlement.balances()["held"] == 0


def test_a_payer_that_is_away_at_release_is_paid_from_once_when_it_is_back(make: Make) -> None:
    books = make(Mode.POST_PAID)
    quote = quoted(books.settlement, export_wh=0, available_s=0)
    hold = books.settlement.hold(quote)
    van = books.network.nodes["ev_owner"]
    van.stop()
    with pytest.raises(LndUnreachable, match="does not answer"):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    van.start()
    books.reopen()
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 2_000_000
    assert van.sent == 1


def test_an_answer_that_is_lost_after_the_money_moved_is_asked_for_and_not_paid_again(make: Make) -> None:
    books = make(Mode.POST_PAID)
    van = books.network.nodes["ev_owner"]
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    van.lose_answers = 1
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert (van.sent, van.local_msat) == (1, 48 * EURO)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.POST_PAID, Mode.HOLD])
def test_a_payment_that_its_node_lost_is_made_with_another_preimage_after_the_old_one_is_dead(
    make: Make, mode: Mode
) -> None:
    """A killed lnd may call a payment in flight for ever that is in none of its channels."""
    books = make(mode, times=Times(pay_s=1, resolve_s=0.3, hold_s=0.3), call_s=0.5)
    van, station = books.network.nodes["ev_owner"], books.network.nodes["charging_station"]
    quote = quoted(books.settlement, export_wh=0, available_s=0)
    van.vanish = 1
    if mode is Mode.HOLD:
        with pytest.raises(LndTimeout, match="no money arrived"):
            books.settlement.hold(quote)
        assert [debt.state for debt in books.settlement.debts()] == [DebtState.CANCELLED]
    hold = books.settlement.hold(quote)
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat() == {**ACCOUNTS, "ev_owner": 48 * EURO, "charging_station": 2 * EURO}
    lost, made = station.invoices.values()
    assert (lost.state, made.state) == (CANCELED, SETTLED)


def test_a_spontaneous_payment_that_its_node_lost_is_made_anew_after_its_hash_was_closed(make: Make) -> None:
    books = make(Mode.STREAM, times=Times(pay_s=1, resolve_s=0.3, hold_s=0.3), call_s=0.5)
    van, station = books.network.nodes["ev_owner"], books.network.nodes["charging_station"]
    tab = books.settlement.stream_tab("s1", "import_energy", keysend=True)
    van.vanish = 1
    assert tab.finish(now_s=0.0, total_wh=1000).reason == ""
    (debt,) = books.settlement.debts()
    assert (debt.state, len(debt.earlier)) == (DebtState.PAID, 1)
    closed, made = station.invoices.values()
    assert (closed.payment_hash.hex(), closed.state) == (hash_of(debt.earlier[0]), CANCELED)
    assert (made.payment_hash.hex(), made.state) == (debt.payment_hash, SETTLED)
    assert books.local_msat()["charging_station"] == 249_000


class PowerCut(BaseException):
    """The program ends here; nothing may catch it."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.POST_PAID, Mode.HOLD])
@pytest.mark.parametrize("written", [True, False])
def test_whichever_line_of_the_journal_is_the_last_the_record_is_paid_once(
    make: Make, mode: Mode, *, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = 0
    while True:
        books = make(mode)
        total = books.network.total_msat()
        file = books.settlement._journal._file._file
        append, count = file.append, 0

        def cut(documents: Any, append: Any = append, cuts: int = cuts) -> None:
            nonlocal count
            count += 1
            if count > cuts and not written:
                raise PowerCut
            append(documents)
            if count > cuts:
                raise PowerCut

        monkeypatch.setattr(file, "append", cut)
        try:
            session(books)
            whole = True
        except PowerCut:
            whole = False
        books.reopen()
        session(books)
        assert books.local_msat() == {
            "ev_owner": 48 * EURO + 878_583,
            "aggregator": 100 * EURO - 878_583,
            "charging_station": 2 * EURO,
        }
        assert books.network.total_msat() == total
        assert all(debt.state is DebtState.PAID for debt in books.settlement.debts())
        if whole:
            break
        cuts += 1
    assert cuts >= 8  # hold, invoices, holds, decision, payments, release


def session(books: LightningBooks) -> None:
    """What the bench does at the end of a session, and does again after a crash."""
    hold = books.settlement.hold(quoted(books.settlement))
    if hold.status == "held":
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)


def test_resume_finishes_what_was_decided_and_nothing_else(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    books = make(Mode.HOLD)
    hold = books.settlement.hold(quoted(books.settlement))
    books.reopen()
    assert books.settlement.resume() == ()  # held, not verified: nothing was decided
    monkeypatch.setattr(books.clients["charging_station"], "settle_invoice", raise_power_cut)
    with pytest.raises(PowerCut):
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    monkeypatch.undo()
    books.reopen()
    assert books.settlement.resume() == (f"hold {hold.hold_id} was paid out",)
    assert books.settlement.receipt(hold.hold_id).record_sha256 == sha256_hex(RECORD)
    assert books.local_msat()["charging_station"] == 2 * EURO


def raise_power_cut(*_: Any) -> None:
    raise PowerCut


def test_the_journal_is_secret_locked_and_refused_when_changed(make: Make) -> None:
    books = make(Mode.POST_PAID)
    session(books)
    path = books.folder / "journal.log"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LedgerBusy, match="open in another place"):
        books._open()
    books.settlement.close()
    with pytest.raises(LedgerBusy, match="is closed"):
        books.settlement.hold(quoted(books.settlement))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"fee_msat":0', b'"fee_msat":1', 1))
    with pytest.raises(LedgerCorrupt, match=r"journal\.log entry"):
        books._open()
    path.write_bytes(data.split(b"\n", 1)[1])
    with pytest.raises(LedgerCorrupt, match="belongs to another place"):
        books._open()


# ----------------------------------------------------------------------------------------------- slices, while it flows


def settle(tab: HoldTab, name: str, *, wh: str = "300", signer: Any = METER) -> None:
    debt = next(debt for debt in tab.open() if debt.name == name)
    record = write_slice_record(debt, Decimal(wh), signer)
    tab.settle(name, record=record, verify=slice_verifier(debt, METER.name, METER.public_key_der))


def test_slices_are_held_before_they_flow_and_the_last_ones_unused_value_is_paid_back(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s1", "import_energy", slice_wh=300)
    for number in range(3):
        debt = tab.hold_next()
        assert (debt.name, debt.state, debt.amount_msat) == (f"s1.import_energy.{number}", DebtState.HELD, 75_000)
        assert books.local_msat()["charging_station"] == number * 75_000
        books.reopen()  # the bench may end at any moment
        tab = books.settlement.hold_tab("s1", "import_energy", slice_wh=300)
        settle(tab, debt.name, wh="299" if number == 2 else "300")
    # 899 Wh flowed, slices held 900: 250 msat too much, which is below one satoshi and carried on.
    books.settlement.bind("s1", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=899, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 225_000
    assert books.settlement.carried("ev_owner", "charging_station") == -250
    # The next session is charged that much less; its last slice was hardly used, and the station pays back.
    tab = books.settlement.hold_tab("s2", "import_energy", slice_wh=300)
    settle(tab, tab.hold_next().name, wh="100")
    record = RECORD + b"2"
    books.settlement.bind("s2", sha256_hex(record))
    hold = books.settlement.hold(quoted(books.settlement, record, import_wh=100, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=record, verify=holds)
    assert books.local_msat()["charging_station"] == 999 * 250
    assert books.settlement.carried("ev_owner", "charging_station") == 0
    receipt = books.settlement.receipt(hold.hold_id)
    part = LightningPart.model_validate_json(
        to_canonical(from_canonical(receipt.to_canonical(), where="r")["lightning"])
    )
    found = check_lightning(part, receipt.quote.lines, record_sha256=sha256_hex(record), session_id="s2")
    assert found.startswith("2 payments, 125250 msat on regtest")  # 75 000 held, 50 250 back: 25 000 less 250 brought
    assert found.endswith("; 50250 msat of it are money paid back, which leaves 24750 msat for what was due")


@pytest.mark.parametrize("forged", ["signer", "slice", "bytes"])
def test_a_slice_whose_record_was_tampered_with_is_cancelled_and_never_paid(make: Make, forged: str) -> None:
    books = make(Mode.HOLD)
    before = books.local_msat()
    tab = books.settlement.hold_tab("s1", "import_energy", slice_wh=300)
    debt = tab.hold_next()
    record = write_slice_record(debt, Decimal(300), IDENTITY if forged == "signer" else METER)
    if forged == "slice":
        other = books.settlement.hold_tab("s2", "import_energy", slice_wh=300).hold_next()
        record = write_slice_record(other, Decimal(300), METER)
        books.settlement.hold_tab("s2", "import_energy", slice_wh=300).cancel(other.name)
    if forged == "bytes":
        record = record.replace(b'"300"', b'"301"')
    with pytest.raises(RecordError, match="nothing was paid"):
        tab.settle(debt.name, record=record, verify=slice_verifier(debt, METER.name, METER.public_key_der))
    assert books.local_msat() == before
    assert tab.open() == ()
    with pytest.raises(SettlementError, match="is cancelled; only money that is held"):
        tab.settle(debt.name, record=record, verify=holds)


def test_export_is_held_and_paid_to_the_vehicle_in_the_same_way(make: Make) -> None:
    books = make(Mode.HOLD)
    tab = books.settlement.hold_tab("s1", "v2g_energy", slice_wh=1000)
    settle(tab, tab.hold_next().name, wh="1000")
    assert books.local_msat() == {**ACCOUNTS, "aggregator": 100 * EURO - 180_000, "ev_owner": 50 * EURO + 180_000}


def test_slices_of_no_worth_or_another_size_are_refused(make: Make) -> None:
    books = make(Mode.HOLD)
    with pytest.raises(SettlementError, match="is worth 250 msat"):
        books.settlement.hold_tab("s1", "import_energy", slice_wh=1).hold_next()
    with pytest.raises(SettlementError, match="up to 300 Wh"):
        books.settlement.hold_tab("s1", "import_energy", slice_wh=300).hold_next(301)
    with pytest.raises(SettlementError, match="'gossip' is no energy"):
        books.settlement.hold_tab("s1", "gossip", slice_wh=1)
    assert books.settlement.debts() == ()


def test_a_session_with_an_open_slice_cannot_be_settled(make: Make) -> None:
    books = make(Mode.HOLD)
    books.settlement.hold_tab("s1", "import_energy", slice_wh=300).hold_next()
    books.settlement.bind("s1", sha256_hex(RECORD))
    with pytest.raises(SettlementError, match="settle or cancel it before the record"):
        books.settlement.hold(quoted(books.settlement))
    with pytest.raises(SettlementError, match="is the one of session 's1' already"):
        books.settlement.bind("s2", sha256_hex(RECORD))


# -------------------------------------------------------------------------------------------------------------- stream


@pytest.mark.parametrize("keysend", [True, False])
def test_a_stream_pays_each_minute_and_the_record_settles_the_difference(make: Make, keysend: bool) -> None:
    books = make(Mode.STREAM)
    tab = books.settlement.stream_tab("s1", "import_energy", keysend=keysend)
    for second in range(0, 181, 20):  # 6 kW: 100 Wh in a minute
        assert tab.tick(now_s=second, total_wh=Decimal(second) * 100 / 60).may_flow
    assert books.local_msat()["charging_station"] == 3 * 25_000 - 1_000  # a satoshi is left for the record
    books.reopen()
    tab = books.settlement.stream_tab("s1", "import_energy", keysend=keysend)
    assert tab.paid_wh == 300
    assert tab.finish(now_s=190, total_wh=310).may_flow
    assert books.local_msat()["charging_station"] == 77_500 - 1_000
    books.settlement.bind("s1", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=320, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    assert books.local_msat()["charging_station"] == 80_000
    receipt = books.settlement.receipt(hold.hold_id)
    part = LightningPart.model_validate_json(
        to_canonical(from_canonical(receipt.to_canonical(), where="r")["lightning"])
    )
    found = check_lightning(part, receipt.quote.lines, record_sha256=sha256_hex(RECORD), session_id="s1")
    end = "; 4 of them spontaneous, without an invoice" if keysend else " and invoice"
    assert found == f"5 payments, 80000 msat on regtest, each with its preimage{end}"


def test_a_stream_pays_each_kilowatt_hour_when_asked_to(make: Make) -> None:
    books = make(Mode.STREAM)
    tab = books.settlement.stream_tab("s1", "import_energy", every_s=3600, every_wh=1000)
    for total in (0, 999, 1000, 1500, 2000):
        tab.tick(now_s=total / 10, total_wh=total)
    assert [debt.amount_msat for debt in books.settlement.debts()] == [249_000, 250_000]


def test_energy_stops_two_minutes_after_a_missed_payment_and_goes_on_when_it_is_made(make: Make) -> None:
    books = make(Mode.STREAM)
    van = books.network.nodes["ev_owner"]
    tab = books.settlement.stream_tab("s1", "import_energy")
    tab.tick(now_s=0, total_wh=0)
    assert tab.tick(now_s=60, total_wh=100).reason == ""
    van.no_route = True
    assert tab.tick(now_s=120, total_wh=200).may_flow
    late = tab.tick(now_s=239, total_wh=390)
    assert (late.may_flow, "missed 119 s ago" in late.reason) == (True, True)
    stopped = tab.tick(now_s=240, total_wh=400)
    assert not stopped.may_flow
    assert "no payment for 120 s" in stopped.reason
    van.no_route = False
    assert tab.tick(now_s=300, total_wh=400).may_flow
    assert books.local_msat()["charging_station"] == 100_000 - 1_000
    assert all(debt.state is DebtState.PAID for debt in books.settlement.debts())


# ----------------------------------------------------------------------------------------------- rounding and carrying


def test_what_is_below_one_satoshi_is_carried_on_until_it_is_enough(make: Make) -> None:
    books = make(Mode.POST_PAID)
    paid = []
    for number in range(5):  # 1 Wh is 250 msat each time
        record = RECORD + bytes([number])
        hold = books.settlement.hold(quoted(books.settlement, record, import_wh=1, export_wh=0, available_s=0))
        books.settlement.release(hold.hold_id, record=record, verify=holds)
        paid.append(books.local_msat()["charging_station"])
        books.reopen()
    assert paid == [0, 0, 0, 1_000, 1_000]
    assert books.settlement.carried("ev_owner", "charging_station") == 250


def test_a_cancelled_hold_leaves_what_was_carried_where_it_was(make: Make) -> None:
    books = make(Mode.HOLD)
    small = books.settlement.hold(quoted(books.settlement, import_wh=3, export_wh=0, available_s=0))
    books.settlement.release(small.hold_id, record=RECORD, verify=holds)
    assert books.settlement.carried("ev_owner", "charging_station") == 750
    record = RECORD + b"2"
    hold = books.settlement.hold(quoted(books.settlement, record, import_wh=4, export_wh=0, available_s=0))
    assert books.settlement.carried("ev_owner", "charging_station") == 0  # taken along
    books.settlement.cancel(hold.hold_id)
    assert books.settlement.carried("ev_owner", "charging_station") == 750
    again = books.settlement.hold(quoted(books.settlement, record, import_wh=4, export_wh=0, available_s=0))
    books.settlement.release(again.hold_id, record=record, verify=holds)
    assert books.local_msat()["charging_station"] == 1_750


# ----------------------------------------------------------------------------------------------------------- bad input


def locked(books: LightningBooks) -> None:
    words = "wallet locked, unlock it to enable full RPC access"
    books.network.nodes["ev_owner"].refusal = ("UNKNOWN", words)


def other_network(books: LightningBooks) -> None:
    books.network.nodes["ev_owner"].chain = "mainnet"


def other_version(books: LightningBooks) -> None:
    books.network.nodes["charging_station"].version = "0.16.0-beta commit=v0.16.0-beta"


def no_route(books: LightningBooks) -> None:
    books.network.nodes["ev_owner"].no_route = True


def over_capacity(books: LightningBooks) -> None:
    books.network.nodes["charging_station"].remote_msat = 1_999_000


def amount_off_by_one(books: LightningBooks) -> None:
    books.network.nodes["charging_station"].invoice_change = {"amount_msat": 2_000_001}


def another_record(books: LightningBooks) -> None:
    books.network.nodes["charging_station"].invoice_change = {"description_hash": b"\x01" * 32}


@pytest.mark.parametrize("mode", [Mode.POST_PAID, Mode.HOLD])
@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (locked, LndLocked, "its wallet is locked; unlock it"),
        (other_network, LndOtherNetwork, "is on network 'mainnet', not on 'regtest'"),
        (other_version, LndOtherVersion, "runs lnd 0.16.0-beta"),
        (no_route, NoRoute, "there is no route to the payee; nothing was paid"),
        (over_capacity, NotEnoughMoney, "can receive 1999000 msat over its active channels, 1000 too few"),
        (amount_off_by_one, InvoiceRefused, "another amount in msat .* nothing was paid"),
        (another_record, InvoiceRefused, "another record .* nothing was paid"),
    ],
)
def test_what_is_not_as_agreed_ends_in_one_sentence_and_nothing_is_paid(
    make: Make, mode: Mode, spoil: Callable[[LightningBooks], None], kind: type[LndError], words: str
) -> None:
    books = make(mode)
    spoil(books)
    before = books.local_msat()
    with pytest.raises(kind, match=words) as caught:
        session_of_import(books)
    assert "\n" not in str(caught.value)
    assert books.local_msat() == before
    assert books.network.nodes["ev_owner"].sent == 0


def session_of_import(books: LightningBooks) -> None:
    hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)


def test_an_amount_of_zero_or_below_one_satoshi_is_no_payment(make: Make) -> None:
    books = make(Mode.POST_PAID)
    with pytest.raises(SettlementError, match="0 micro-euro cannot be moved"):
        books.settlement.pay("ev_owner", "charging_station", 0, payment_id="p", memo="")
    with pytest.raises(SettlementError, match="nothing below 1000 msat is paid"):
        books.settlement.pay("ev_owner", "charging_station", 999, payment_id="p", memo="")
    assert books.settlement.debts() == ()


def test_a_record_that_does_not_verify_is_never_paid_and_its_hold_is_given_back(make: Make) -> None:
    books = make(Mode.HOLD)
    before = books.local_msat()
    hold = books.settlement.hold(quoted(books.settlement))
    with pytest.raises(RecordError):
        books.settlement.release(hold.hold_id, record=RECORD, verify=fails)
    books.settlement.cancel(hold.hold_id)
    assert books.local_msat() == before
    assert all(node.local_msat >= 0 for node in books.network.nodes.values())


def test_a_node_that_avoids_its_only_route_is_told_to_forget_once(make: Make) -> None:
    books = make(Mode.POST_PAID)
    van = books.network.nodes["ev_owner"]
    van.no_route = True
    with pytest.raises(NoRoute):
        session_of_import(books)
    assert van.forgot == 1
