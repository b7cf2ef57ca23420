"""What every settlement promises, as tests; each implementation runs them on its own money.

A subclass gives the fixture `books`. Its accounts begin with 50 EUR for the driver and 100 EUR for the aggregator; its
payments cost no fee, so that every balance is exact.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

import pytest

from ledgers.canonical import from_canonical, sha256_hex, to_canonical
from ledgers.errors import RecordError, SettlementError
from ledgers.identity import SeedKeys, signature_holds
from ledgers.ports import Quote, Settlement

IDENTITY = SeedKeys(seed=7, any_metal=False).identity("settlement", "settlement")
RECORD = b'{"schema":"v2gbench.usage-record/1.0"}\n'
EURO = 1_000_000
SETTLED_UTC = "2021-04-12T16:08:21.500Z"
WALL_UTC_S = 1_618_243_701.5
ACCOUNTS = ("aggregator", "charging_station", "ev_owner")


class Books(Protocol):
    """The money of a test."""

    settlement: Settlement

    def reopen(self) -> None:
        """Close and open the settlement, as after the end of the program."""


def quoted(settlement: Settlement, record: bytes = RECORD, **values: Any) -> Quote:
    known: dict[str, Any] = {"import_wh": 8000, "export_wh": Decimal("4500.5"), "available_power_w": 10_000}
    return settlement.quote(sha256_hex(record), **{**known, "available_s": 7200, **values})


def holds(record: bytes) -> None:
    """A verifier that finds nothing wrong."""


def fails(record: bytes) -> None:
    raise RecordError("the witnesses' signatures do not hold")


def amounts(settlement: Settlement) -> dict[str, int]:
    """Balances of the parties; an account that never saw money counts as empty."""
    found = {}
    for account in ACCOUNTS:
        try:
            found[account] = settlement.balance(account)
        except SettlementError:
            found[account] = 0
    return found


class SettlementContract:
    """Subclass it with a fixture `books: Books`."""

    def test_a_quote_states_quantities_prices_amounts_and_what_rounding_left(self, books: Books) -> None:
        quote = quoted(books.settlement)
        imported, exported, available = quote.lines
        # 8 kWh at 0.25 EUR are 2 EUR; 4.5005 kWh at 180 EUR/MWh are 0.81009 EUR.
        assert (imported.payer, imported.payee, imported.amount_micro) == ("ev_owner", "charging_station", 2 * EURO)
        assert (imported.quantity, imported.quantity_unit, imported.price, imported.price_unit) == (
            "8000",
            "Wh",
            "0.25",
            "EUR/kWh",
        )
        assert (exported.payer, exported.payee, exported.amount_micro) == ("aggregator", "ev_owner", 810_090)
        assert (exported.quantity, exported.remainder_micro) == ("4500.5", "0/1")
        # 30000 EUR/MW/year for 0.01 MW over 7200 s of 31 536 000 s: 68 493.15... micro-euro, down for the payer.
        assert available.amount_micro == 68_493
        assert available.remainder_micro == "11/73"
        assert available.quantity == "72000000"
        assert quote.total_micro("v2g_energy") == 810_090
        assert quote.total_micro("gossip") == 0

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"import_wh": 8000.5}, "give an int or a Decimal"),
            ({"export_wh": -1}, "must not be negative"),
            ({"available_s": Decimal("NaN")}, "finite"),
            ({"import_wh": 10**15}, "more than an account can carry"),
            ({"import_wh": Decimal("1." + "0" * 70 + "1")}, "more digits than can be stated"),
        ],
    )
    def test_a_quote_of_unusable_figures_is_refused(self, books: Books, values: dict[str, Any], reason: str) -> None:
        with pytest.raises(SettlementError, match=reason):
            quoted(books.settlement, **values)

    def test_a_quote_needs_the_hash_of_a_record(self, books: Books) -> None:
        with pytest.raises(SettlementError, match="not the SHA-256"):
            books.settlement.quote("AB" * 32, import_wh=1, export_wh=0, available_power_w=0, available_s=0)

    def test_a_release_moves_each_line_from_its_payer_to_its_payee(self, books: Books) -> None:
        before = amounts(books.settlement)
        hold = books.settlement.hold(quoted(books.settlement))
        assert hold.status == "held"
        assert amounts(books.settlement)["charging_station"] == before["charging_station"]
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert amounts(books.settlement) == {
            "aggregator": before["aggregator"] - 878_583,
            "charging_station": before["charging_station"] + 2 * EURO,
            "ev_owner": before["ev_owner"] - 2 * EURO + 878_583,
        }

    def test_money_does_not_move_unless_the_record_verifies(self, books: Books) -> None:
        hold = books.settlement.hold(quoted(books.settlement))
        before = amounts(books.settlement)
        with pytest.raises(RecordError, match="do not hold"):
            books.settlement.release(hold.hold_id, record=RECORD, verify=fails)
        with pytest.raises(SettlementError, match="is for record"):
            books.settlement.release(hold.hold_id, record=RECORD + b" ", verify=holds)
        assert amounts(books.settlement) == before
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)  # the hold still stands
        assert amounts(books.settlement) != before

    def test_the_verifier_is_given_the_bytes_that_were_hashed(self, books: Books) -> None:
        seen: list[bytes] = []
        hold = books.settlement.hold(quoted(books.settlement))
        books.settlement.release(hold.hold_id, record=RECORD, verify=seen.append)
        assert seen == [RECORD]

    def test_a_record_is_paid_once_whatever_is_tried(self, books: Books) -> None:
        hold = books.settlement.hold(quoted(books.settlement))
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
        books.reopen()
        settlement = books.settlement
        before = amounts(settlement)
        with pytest.raises(SettlementError, match="settled already"):
            settlement.release(hold.hold_id, record=RECORD, verify=holds)
        with pytest.raises(SettlementError, match="settled already"):
            settlement.hold(quoted(settlement, import_wh=1))
        with pytest.raises(SettlementError, match="is released; it cannot be cancelled"):
            settlement.cancel(hold.hold_id)
        assert settlement.hold(quoted(settlement)).status == "released"  # the same hold again changes nothing
        assert amounts(settlement) == before

    def test_a_cancelled_hold_gives_everything_back_and_can_be_made_again(self, books: Books) -> None:
        settlement = books.settlement
        before = amounts(settlement)
        quote = quoted(settlement)
        hold = settlement.hold(quote)
        with pytest.raises(SettlementError, match="held already under another quote"):
            settlement.hold(quoted(settlement, import_wh=1))
        assert settlement.cancel(hold.hold_id).status == "cancelled"
        assert settlement.cancel(hold.hold_id).status == "cancelled"
        assert amounts(settlement) == before
        with pytest.raises(SettlementError, match="is cancelled; only money that is held"):
            settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert settlement.hold(quote).status == "held"
        settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert amounts(settlement)["charging_station"] == before["charging_station"] + 2 * EURO

    def test_a_hold_survives_the_end_of_the_program(self, books: Books) -> None:
        quote = quoted(books.settlement)
        hold = books.settlement.hold(quote)
        before = amounts(books.settlement)
        books.reopen()
        assert books.settlement.hold(quote) == hold
        assert amounts(books.settlement) == before
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)

    def test_a_payer_without_enough_money_is_refused_and_nothing_moves(self, books: Books) -> None:
        before = amounts(books.settlement)
        quote = quoted(books.settlement, import_wh=200_001, export_wh=0, available_s=0)  # 50.00025 EUR of 50
        with pytest.raises(SettlementError, match=r"'ev_owner' .* 250 too few"):
            books.settlement.hold(quote)
        assert amounts(books.settlement) == before
        free = books.settlement.hold(quoted(books.settlement))  # the record is still free
        books.settlement.cancel(free.hold_id)

    def test_unknown_names_are_refused(self, books: Books) -> None:
        settlement = books.settlement
        for attempt in (
            lambda: settlement.release("x", record=RECORD, verify=holds),
            lambda: settlement.cancel("x"),
            lambda: settlement.refund("x"),
            lambda: settlement.balance("x"),
        ):
            with pytest.raises(SettlementError, match="there is no"):
                attempt()

    def test_the_receipt_names_record_amounts_and_time_and_is_signed(self, books: Books) -> None:
        quote = quoted(books.settlement)
        hold = books.settlement.hold(quote)
        receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
        document = from_canonical(receipt.to_canonical(), where="receipt")
        assert isinstance(document, dict)
        assert document["schema"].startswith("v2gbench.settlement-receipt/1.")
        assert (document["record_sha256"], document["settled_utc"]) == (sha256_hex(RECORD), SETTLED_UTC)
        assert document["quote"] == quote.to_json()
        del document["signature"]
        assert signature_holds(IDENTITY.public_key_der, to_canonical(document), receipt.signature)
        changed = to_canonical({**document, "status": "x"})
        assert not signature_holds(IDENTITY.public_key_der, changed, receipt.signature)

    def test_a_payment_is_made_once_and_refunded_once(self, books: Books) -> None:
        settlement = books.settlement
        before = amounts(settlement)
        payment = settlement.pay("ev_owner", "charging_station", EURO, payment_id="p1", memo="parking")
        again = settlement.pay("ev_owner", "charging_station", EURO, payment_id="p1", memo="parking")
        assert again == payment
        assert amounts(settlement)["charging_station"] == before["charging_station"] + EURO
        with pytest.raises(SettlementError, match="made with other values"):
            settlement.pay("ev_owner", "charging_station", 2 * EURO, payment_id="p1", memo="parking")
        assert settlement.refund("p1").refunded
        assert amounts(settlement) == before
        with pytest.raises(SettlementError, match="refunded already"):
            settlement.refund("p1")

    @pytest.mark.parametrize(
        ("payer", "payee", "amount", "name", "reason"),
        [
            ("ev_owner", "charging_station", -1, "p", "swap payer and payee"),
            ("ev_owner", "charging_station", 1.0, "p", "whole number of micro-euro"),
            ("ev_owner", "charging_station", True, "p", "whole number of micro-euro"),
            ("ev_owner", "charging_station", 2**53, "p", "cannot be moved"),
            ("ev_owner", "charging_station", 51 * EURO, "p", "too few"),
            ("ev_owner", "ev_owner", 1, "p", "payer and payee are both"),
            ("ev_owner", "a/b", 1, "p", "not a name"),
            ("ev_owner", "charging_station", 1, "p/q", "not a name"),
            ("held", "charging_station", 1, "p", "by hold, release and cancel only"),
            ("ev_owner", "held", 1, "p", "by hold, release and cancel only"),
        ],
    )
    def test_movements_without_meaning_are_refused(
        self, books: Books, payer: str, payee: str, amount: Any, name: str, reason: str
    ) -> None:
        before = amounts(books.settlement)
        with pytest.raises(SettlementError, match=reason):
            books.settlement.pay(payer, payee, amount, payment_id=name, memo="")
        assert amounts(books.settlement) == before
