"""Faults have names that the docs know; what forced closes took is read from a payment, kept, and told."""

from __future__ import annotations

from pathlib import Path

from ledgers.lightning.client.values import LostPart
from ledgers.lightning.client.wire import read_closings, read_payment, wire
from ledgers.lightning.journal import Debt, DebtState, Journal, Lost
from ledgers.lightning.nodes.faults import FAULTS
from ledgers.lightning.verify import LostPart as LostInReceipt

DOCS = Path(__file__).parents[2] / "docs" / "lightning.md"
HASH = "ab" * 32


def debt() -> Debt:
    return Debt.new(
        "d", subject="s", kind="payment", payer="ev_owner", payee="charging_station", amount_msat=224_750, terms={}
    )


def test_every_fault_is_in_the_table_of_the_docs() -> None:
    table = DOCS.read_text("utf-8").partition("## Faults")[2].partition("## What is measured")[0]
    assert [name for name in FAULTS if f"`{name}`" not in table] == []


def test_a_part_that_failed_with_a_channel_is_read_with_what_left_its_node() -> None:
    ln = wire().ln
    route = ln.Route(
        total_time_lock=700,
        total_amt_msat=225_750,
        hops=[
            ln.Hop(chan_id=452 << 40 | 2 << 16 | 1, amt_to_forward_msat=224_750, fee_msat=1_000, expiry=620),
            ln.Hop(chan_id=452 << 40 | 1 << 16 | 1, amt_to_forward_msat=224_750, fee_msat=0, expiry=620),
        ],
    )

    def failed(code: str, hop: int) -> object:
        failure = ln.Failure(code=ln.Failure.FailureCode.Value(code), failure_source_index=hop)
        return ln.HTLCAttempt(status=2, route=route, failure=failure)

    gone = "PERMANENT_CHANNEL_FAILURE"
    parts = [failed(gone, 0), failed(gone, 1), failed("TEMPORARY_CHANNEL_FAILURE", 1), failed(gone, 2)]
    under_way = ln.HTLCAttempt(status=0, route=route)
    payment = read_payment(ln.Payment(payment_hash=HASH, status=3, htlcs=[*parts, under_way]))
    assert payment.closed_on == (
        LostPart(0, 452 << 40 | 2 << 16 | 1, 225_750, 1_000, to_payee=False, expiry_height=700),
        LostPart(1, 452 << 40 | 1 << 16 | 1, 224_750, 0, to_payee=True, expiry_height=620),
    )
    assert payment.under_way == (452 << 40 | 2 << 16 | 1,)


def test_a_closing_says_whether_it_is_in_a_block_and_when_it_is_resolved() -> None:
    ln = wire().ln
    pending = ln.PendingChannelsResponse
    channel = pending.PendingChannel(channel_point="aa:1")
    waiting, confirmed = read_closings(
        pending(
            waiting_close_channels=[pending.WaitingCloseChannel(channel=channel)],
            pending_force_closing_channels=[
                pending.ForceClosedChannel(
                    channel=channel,
                    pending_htlcs=[ln.PendingHTLC(amount=n, maturity_height=600 + n) for n in (2000, 7)],
                )
            ],
        )
    )
    assert (waiting.confirmed, waiting.htlcs_sat, waiting.until_block) == (False, (), 0)
    assert (confirmed.confirmed, confirmed.htlcs_sat, confirmed.until_block) == (True, (2000, 7), 2600)


def test_what_was_lost_is_kept_over_a_restart_and_told_with_its_owner(tmp_path: Path) -> None:
    lost = (Lost("ev_owner", 225_750, "452x2x1", HASH), Lost("ev_owner", 9, "452x2x1", "cd" * 32, at_most=True))
    journal = Journal(tmp_path, lambda *_: None, fsync=False)
    old = journal.birth(debt()).preimage
    journal.move("d", DebtState.NEW, preimage="ef" * 32, lost=[lost[0].to_json()])
    journal.move("d", DebtState.PAID, lost=[lost[1].to_json()])
    journal.close()
    again = Journal(tmp_path, lambda *_: None, fsync=False)
    found = again.debts["d"]
    again.close()
    assert (found.lost, found.earlier, found.state) == (lost, (old,), DebtState.PAID)
    assert [str(item) for item in found.lost] == [
        "lost to fees: 225750 msat of ev_owner, whose channel 452x2x1 was closed by force",
        "lost to fees: at most 9 msat of ev_owner, whose channel 452x2x1 was closed by force",
    ]
    assert [LostInReceipt.model_validate(item.to_json()).msat for item in lost] == [225_750, 9]
