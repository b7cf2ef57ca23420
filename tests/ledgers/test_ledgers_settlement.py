"""Money on real files: held, released for a verified record only, conserved whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledgers.canonical import from_canonical, sha256_hex, to_canonical
from ledgers.embedded.settlement import HELD, OUTSIDE, EmbeddedSettlement
from ledgers.errors import LedgerBusy, LedgerCorrupt, RecordError, SettlementError
from ledgers.identity import signature_holds
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

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"


def open_settlement(folder: Path, **options: Any) -> EmbeddedSettlement:
    known: dict[str, Any] = {
        "tariff": load_tariff(EXAMPLE),
        "identity": IDENTITY,
        "wall_utc_s": lambda: WALL_UTC_S,
        **options,
    }
    return EmbeddedSettlement(folder, **known)


def funded(folder: Path, **options: Any) -> EmbeddedSettlement:
    settlement = open_settlement(folder, **options)
    settlement.deposit("ev_owner", 50 * EURO, payment_id="d1")
    settlement.deposit("aggregator", 100 * EURO, payment_id="d2")
    return settlement


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class EmbeddedBooks:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settlement = funded(folder, fsync=False)

    def reopen(self) -> None:
        self.settlement.close()
        self.settlement = open_settlement(self._folder, fsync=False)


class TestEmbeddedSettlement(SettlementContract):
    @pytest.fixture
    def books(self, tmp_path: Path) -> Iterator[EmbeddedBooks]:
        books = EmbeddedBooks(tmp_path)
        yield books
        books.settlement.close()


# -------------------------------------------------------------------------------------------- hold, release, cancel


def test_money_goes_from_payer_to_held_to_payee(tmp_path: Path) -> None:
    with funded(tmp_path) as settlement:
        hold = settlement.hold(quoted(settlement))
        assert hold.status == "held"
        assert settlement.balances() == {
            "aggregator": 100 * EURO - 810_090 - 68_493,
            "ev_owner": 48 * EURO,
            HELD: 2 * EURO + 810_090 + 68_493,
            OUTSIDE: -150 * EURO,
        }
        settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert settlement.balances() == {
            "aggregator": 100 * EURO - 878_583,
            "charging_station": 2 * EURO,
            "ev_owner": 48 * EURO + 878_583,
            HELD: 0,
            OUTSIDE: -150 * EURO,
        }


# ------------------------------------------------------------------------------------------------------------ receipts


def test_the_receipt_names_record_amounts_and_time_and_is_signed(tmp_path: Path) -> None:
    with funded(tmp_path) as settlement:
        hold = settlement.hold(quoted(settlement))
        receipt = settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert settlement.receipt(hold.hold_id) == receipt
    stored = (tmp_path / "receipts" / f"{hold.hold_id}.json").read_bytes()
    assert stored == receipt.to_canonical()
    document = from_canonical(stored, where="receipt")
    assert isinstance(document, dict)
    assert document["schema"] == "v2gbench.settlement-receipt/1.0"
    assert (document["record_sha256"], document["settled_utc"]) == (sha256_hex(RECORD), "2021-04-12T16:08:21.500Z")
    del document["signature"]
    assert signature_holds(IDENTITY.public_key_der, to_canonical(document), receipt.signature)
    assert not signature_holds(IDENTITY.public_key_der, to_canonical({**document, "status": "x"}), receipt.signature)


def test_a_receipt_that_a_crash_took_is_made_again_and_a_changed_one_refused(tmp_path: Path) -> None:
    with funded(tmp_path) as settlement:
        hold = settlement.hold(quoted(settlement))
        settlement.release(hold.hold_id, record=RECORD, verify=holds)
        path = tmp_path / "receipts" / f"{hold.hold_id}.json"
        path.unlink()
        with pytest.raises(SettlementError, match="there is no hold"):
            settlement.receipt("x")
        receipt = settlement.receipt(hold.hold_id)
        assert path.read_bytes() == receipt.to_canonical()
        path.write_bytes(path.read_bytes().replace(b"2021-04-12", b"2021-04-13"))
        with pytest.raises(LedgerCorrupt, match="not the receipt that was signed"):
            settlement.receipt(hold.hold_id)


def test_wall_clock_time_stands_in_the_receipt_alone(tmp_path: Path) -> None:
    def settle(name: str, wall_s: float) -> str:
        with funded(tmp_path / name, wall_utc_s=lambda: wall_s) as settlement:
            hold = settlement.hold(quoted(settlement))
            settlement.release(hold.hold_id, record=RECORD, verify=holds)
            return hold.hold_id

    hold_id = settle("a", 1.6e9)
    assert settle("b", 1.7e9) == hold_id
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {name for name in first if first[name] != second[name]} == {f"receipts/{hold_id}.json"}


# ----------------------------------------------------------------------------------------------------------- properties

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["pay", "refund", "hold", "release", "cancel", "wrong", "reopen"]),
        st.integers(0, 3),
        st.integers(0, 40 * EURO),
    ),
    max_size=25,
)
ACCOUNTS = ("ev_owner", "aggregator", "charging_station", "shop")


def act(settlement: EmbeddedSettlement, kind: str, which: int, amount: int) -> None:
    record = bytes([which])
    quote = quoted(settlement, record, import_wh=amount // 250, export_wh=which * 1000)
    hold_id = quote.quote_id[:32]
    if kind == "pay":
        name = f"p{amount % 7}"
        settlement.pay(ACCOUNTS[which], ACCOUNTS[(which + 1) % 4], amount, payment_id=name, memo="")
    elif kind == "refund":
        settlement.refund(f"p{amount % 7}")
    elif kind == "hold":
        settlement.hold(quote)
    elif kind == "release":
        settlement.release(hold_id, record=record, verify=holds)
    elif kind == "wrong":
        settlement.release(hold_id, record=record, verify=fails)
    else:
        settlement.cancel(hold_id)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_money_is_conserved_and_nobody_goes_below_zero(operations: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settlement = funded(folder, fsync=False)
        try:
            for kind, which, amount in operations:
                # Few amounts, so that holds are released and cancelled, not only made.
                if kind == "reopen":
                    before = settlement.balances()
                    settlement.close()
                    settlement = open_settlement(folder, fsync=False)
                    assert settlement.balances() == before
                    continue
                with contextlib.suppress(SettlementError, RecordError):
                    act(settlement, kind, which, amount % 3 * EURO)
                balances = settlement.balances()
                assert sum(balances.values()) == 0
                assert all(balance >= 0 for account, balance in balances.items() if account != OUTSIDE)
                assert balances[OUTSIDE] == -150 * EURO
        finally:
            settlement.close()


# -------------------------------------------------------------------------------------------------- crashes and damage


def test_opened_twice_is_busy_and_closed_stays_closed(tmp_path: Path) -> None:
    with open_settlement(tmp_path) as settlement, pytest.raises(LedgerBusy, match="open in another place"):
        open_settlement(tmp_path)
    with pytest.raises(LedgerBusy, match="is closed"):
        settlement.deposit("ev_owner", 1, payment_id="d")


def test_a_crash_anywhere_in_the_journal_leaves_whole_movements(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    sums = [{OUTSIDE: 0, HELD: 0}]
    with open_settlement(whole, fsync=False) as settlement:
        for step in (
            lambda: settlement.deposit("ev_owner", 50 * EURO, payment_id="d1"),
            lambda: settlement.hold(quoted(settlement, export_wh=0, available_s=0)),
            lambda: settlement.release(settlement.hold(quoted(settlement, export_wh=0, available_s=0)).hold_id,
                                       record=RECORD, verify=holds),
        ):  # fmt: skip
            step()
            sums.append(dict(settlement.balances()))
    data = (whole / "journal.log").read_bytes()
    ends = [position + 1 for position, byte in enumerate(data) if byte == 0x0A]
    folder = tmp_path / "cut"
    folder.mkdir()
    for size in range(0, len(data) + 1, 13):
        (folder / "journal.log").write_bytes(data[:size])
        with open_settlement(folder, fsync=False) as settlement:
            assert settlement.balances() == dict(sorted(sums[sum(end <= size for end in ends)].items()))


def test_a_changed_journal_is_refused_with_its_entry(tmp_path: Path) -> None:
    funded(tmp_path).close()
    path = tmp_path / "journal.log"
    data = path.read_bytes()
    first = data.index(b"\n")
    for position in range(0, len(data), 11):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(LedgerCorrupt, match=rf"journal\.log entry {int(position > first)} "):
            open_settlement(tmp_path)
    lines = data.split(b"\n")
    path.write_bytes(lines[1] + b"\n")
    with pytest.raises(LedgerCorrupt, match=r"entry 0 cannot be replayed: .* belongs to another place"):
        open_settlement(tmp_path)


PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_ledgers_settlement import open_settlement
settlement = open_settlement(Path(sys.argv[1]))
number = settlement.balances().get("shop", 0)
settlement.deposit("ev_owner", 1_000_000, payment_id=f"d{number}")
while True:
    settlement.pay("ev_owner", "shop", 1, payment_id=f"p{number}", memo="")
    number += 1
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.slow
def test_kill_9_loses_no_payment(tmp_path: Path) -> None:
    for attempt in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent), str(Path(__file__).parents[2])],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        lines: list[str] = []
        try:
            lines.extend(child.stdout.readline() for _ in range(10 + attempt))
        finally:
            os.kill(child.pid, signal.SIGKILL)
            rest, _ = child.communicate(timeout=30)
        confirmed = int("".join([*lines, rest]).split("\n")[-2])
        with open_settlement(tmp_path) as settlement:
            assert settlement.balance("shop") in {confirmed, confirmed + 1}
            assert sum(settlement.balances().values()) == 0


def test_the_journal_is_json_that_other_tools_read(tmp_path: Path) -> None:
    funded(tmp_path).close()
    shutil.copy(tmp_path / "journal.log", tmp_path / "copy")
    lines = [json.loads(line[65:]) for line in (tmp_path / "copy").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["pay", "pay"]
    assert lines[0]["moves"] == [{"payer": "outside", "payee": "ev_owner", "amount_micro": 50 * EURO}]
