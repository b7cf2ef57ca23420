"""Embedded settlement: double-entry accounts in micro-euro, one journal file, money held before it moves.

Every movement has a payer and a payee, so the sum over all accounts is always zero; money comes in from the account
`outside`, the only one that may be negative. Holding moves a payer's money to the account `held`; releasing moves it on
to the payee, cancelling back to the payer. One usage record is held at most once at a time and released at most once
ever.

`release` takes the bytes of the record and the function that verifies it, compares their hash with the one the money is
held for, and runs the verification itself. A caller cannot forget the step.

The journal is a `frames` file: a line is a whole movement, synced before the call returns; a line cut short by a crash
never happened. It holds no wall-clock time, so the journals of two runs with one seed are equal. The signed receipt,
which names the time of payment, is a file of its own; if a crash took it after the money moved, `receipt` makes it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex
from ledgers.embedded.chained import ChainedJournal
from ledgers.embedded.frames import write_atomically
from ledgers.errors import LedgerCorrupt, RecordError, SettlementError
from ledgers.identity import Identity, signature_holds
from ledgers.ports import Hold, Member, Payment, Quote, RecordVerifier, Settlement, SettlementReceipt
from ledgers.quotes import LARGEST_MICRO, items_of, quote_record, read_quote
from ledgers.records import utc_text
from ledgers.tariff import Tariff

OUTSIDE = "outside"
HELD = "held"

_SCHEMA = "v2gbench.settlement-journal/1.0"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class EmbeddedSettlement:
    """One open settlement folder: `journal.log`, `lock` and `receipts/<hold>.json`.

    `identity` signs receipts; `wall_utc_s` is the wall clock that only receipts carry.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tariff: Tariff,
        identity: Identity,
        wall_utc_s: Callable[[], float],
        fsync: bool = True,
    ) -> None:
        self.folder = folder
        self.tariff = tariff
        self._identity = identity
        self._wall_utc_s = wall_utc_s
        self._guard = threading.RLock()
        self._books = _Books()
        (folder / "receipts").mkdir(parents=True, exist_ok=True)
        self._journal = ChainedJournal(folder, schema=_SCHEMA, take=self._books.take, fsync=fsync)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The Settlement port.

    def quote(
        self,
        record_sha256: str,
        *,
        import_wh: int | Decimal,
        export_wh: int | Decimal,
        available_power_w: int | Decimal,
        available_s: int | Decimal,
    ) -> Quote:
        """Price a record under the tariff; moves nothing. Energies in Wh at the settlement meter, power in W."""
        return quote_record(
            self.tariff,
            record_sha256,
            import_wh=import_wh,
            export_wh=export_wh,
            available_power_w=available_power_w,
            available_s=available_s,
        )

    def hold(self, quote: Quote) -> Hold:
        """Set the money of every line aside; the same quote again gives the same hold."""
        with self._guard:
            self._journal.require_open()
            hold_id = quote.quote_id[:32]
            known = self._books.holds.get(hold_id)
            if known is not None and known.status != "cancelled":
                return known
            self._require_not_settled(quote.record_sha256)
            for other in self._books.holds.values():
                if other.record_sha256 == quote.record_sha256 and other.status == "held":
                    raise SettlementError(
                        f"record {quote.record_sha256[:16]}... is held already under another quote; cancel hold "
                        f"{other.hold_id} first"
                    )
            moves = [_Move(line.payer, HELD, line.amount_micro) for line in quote.lines]
            self._commit("hold", hold_id, moves, quote=quote.to_json())
            return self._books.holds[hold_id]

    def release(self, hold_id: str, *, record: bytes, verify: RecordVerifier) -> SettlementReceipt:
        """Verify the record and pay out; a record is paid once.

        Raises SettlementError for another record than the one held for, and whatever `verify` raises; then nothing has
        moved and the hold stands.
        """
        with self._guard:
            self._journal.require_open()
            hold = self._hold(hold_id)
            self._require_not_settled(hold.record_sha256)
            if hold.status != "held":
                raise SettlementError(f"hold {hold_id} is {hold.status}; only money that is held can be released")
            found = sha256_hex(record)
            if found != hold.record_sha256:
                raise SettlementError(
                    f"hold {hold_id} is for record {hold.record_sha256[:16]}..., not for {found[:16]}...; nothing moved"
                )
            verify(record)
            moves = [_Move(HELD, line.payee, line.amount_micro) for line in hold.quote.lines]
            self._commit("release", hold_id, moves)
            return self._write_receipt(self._hold(hold_id))

    def cancel(self, hold_id: str) -> Hold:
        """Give held money back to the payers."""
        with self._guard:
            self._journal.require_open()
            hold = self._hold(hold_id)
            if hold.status == "cancelled":
                return hold
            if hold.status != "held":
                raise SettlementError(f"hold {hold_id} is {hold.status}; it cannot be cancelled any more")
            self._commit("cancel", hold_id, [_Move(HELD, line.payer, line.amount_micro) for line in hold.quote.lines])
            return self._hold(hold_id)

    def pay(self, payer: str, payee: str, amount_micro: int, *, payment_id: str, memo: str) -> Payment:
        """Move money between two accounts; the same payment again is made once."""
        with self._guard:
            self._journal.require_open()
            if HELD in {payer, payee}:
                raise SettlementError(f"account {HELD!r} moves by hold, release and cancel only")
            known = self._books.payments.get(payment_id)
            if known is not None:
                if (known.payer, known.payee, known.amount_micro, known.memo) == (payer, payee, amount_micro, memo):
                    return known
                raise SettlementError(f"payment {payment_id!r} was made with other values; give this one another name")
            if not _NAME.fullmatch(payment_id):
                raise SettlementError(f"{payment_id!r} is not a name of letters, digits, dot, dash and underscore")
            self._commit("pay", payment_id, [_Move(payer, payee, amount_micro)], memo=memo)
            return self._books.payments[payment_id]

    def refund(self, payment_id: str) -> Payment:
        """Take a payment back from its payee; a second refund is refused."""
        with self._guard:
            self._journal.require_open()
            payment = self._books.payments.get(payment_id)
            if payment is None:
                raise SettlementError(f"there is no payment {payment_id!r} to refund")
            if payment.refunded:
                raise SettlementError(f"payment {payment_id!r} was refunded already")
            self._commit("refund", payment_id, [_Move(payment.payee, payment.payer, payment.amount_micro)])
            return self._books.payments[payment_id]

    def balance(self, account: str) -> int:
        """Micro-euro on an account; raises SettlementError for one that never saw money."""
        with self._guard:
            if account not in self._books.balances:
                raise SettlementError(f"there is no account {account!r}; deposit to it first")
            return self._books.balances[account]

    # Beyond the port.

    def deposit(self, account: str, amount_micro: int, *, payment_id: str) -> Payment:
        """Bring money in from outside."""
        return self.pay(OUTSIDE, account, amount_micro, payment_id=payment_id, memo="deposit")

    def balances(self) -> Mapping[str, int]:
        """Every account, `held` and `outside` included; their sum is zero."""
        with self._guard:
            return dict(sorted(self._books.balances.items()))

    def receipt(self, hold_id: str) -> SettlementReceipt:
        """The receipt of a released hold, read back and checked, or made now if a crash took it."""
        with self._guard:
            self._journal.require_open()
            hold = self._hold(hold_id)
            if hold.status != "released":
                raise SettlementError(f"hold {hold_id} is {hold.status}; there is a receipt only after release")
            try:
                stored = self._receipt_path(hold_id).read_bytes()
            except FileNotFoundError:
                return self._write_receipt(hold)
            return self._read_receipt(hold, stored)

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        with self._guard:
            self._journal.close()

    # Private.

    def _commit(
        self, kind: str, name: str, moves: Sequence[_Move], *, quote: Json = None, memo: str | None = None
    ) -> None:
        for move in moves:
            move.check()
        self._books.require_funds(moves)
        self._journal.write(
            {"kind": kind, "name": name, "moves": [move.to_json() for move in moves], "quote": quote, "memo": memo}
        )

    def _hold(self, hold_id: str) -> Hold:
        hold = self._books.holds.get(hold_id)
        if hold is None:
            raise SettlementError(f"there is no hold {hold_id!r}")
        return hold

    def _require_not_settled(self, record_sha256: str) -> None:
        if record_sha256 in self._books.settled:
            raise SettlementError(f"record {record_sha256[:16]}... was settled already; a record is paid once")

    def _receipt_path(self, hold_id: str) -> Path:
        return self.folder / "receipts" / f"{hold_id}.json"

    def _write_receipt(self, hold: Hold) -> SettlementReceipt:
        unsigned = SettlementReceipt(
            hold_id=hold.hold_id,
            record_sha256=hold.record_sha256,
            quote=hold.quote,
            settled_utc=utc_text(self._wall_utc_s()),
            signer=Member.of(self._identity),
            signature=b"",
        )
        receipt = replace(unsigned, signature=self._identity.sign(unsigned.signed_bytes))
        write_atomically(self._receipt_path(hold.hold_id), receipt.to_canonical())
        return receipt

    def _read_receipt(self, hold: Hold, stored: bytes) -> SettlementReceipt:
        where = str(self._receipt_path(hold.hold_id))
        document = from_canonical(stored, where=where)
        if not isinstance(document, Mapping):
            raise RecordError(f"{where} is not a settlement receipt")
        receipt = SettlementReceipt(
            hold_id=hold.hold_id,
            record_sha256=hold.record_sha256,
            quote=hold.quote,
            settled_utc=str(document.get("settled_utc")),
            signer=Member.of(self._identity),
            signature=from_base64(str(document.get("signature")), where=f"{where}, the signature"),
        )
        holds = signature_holds(receipt.signer.public_key_der, receipt.signed_bytes, receipt.signature)
        if not holds or receipt.to_canonical() != stored:
            raise LedgerCorrupt(f"{where} is not the receipt that was signed for this hold; stop and keep the folder")
        return receipt


@dataclass(frozen=True, slots=True)
class _Move:
    payer: str
    payee: str
    amount_micro: int

    def check(self) -> None:
        if isinstance(self.amount_micro, bool) or not isinstance(self.amount_micro, int):
            raise SettlementError(f"an amount is a whole number of micro-euro, not {self.amount_micro!r}")
        if not 0 <= self.amount_micro <= LARGEST_MICRO:
            raise SettlementError(
                f"{self.amount_micro} micro-euro cannot be moved; swap payer and payee for a negative one"
            )
        for name in (self.payer, self.payee):
            if not _NAME.fullmatch(name):
                raise SettlementError(f"{name!r} is not a name of letters, digits, dot, dash and underscore")
        if self.payer == self.payee:
            raise SettlementError(f"payer and payee are both {self.payer!r}")

    def to_json(self) -> dict[str, Json]:
        return {"payer": self.payer, "payee": self.payee, "amount_micro": self.amount_micro}

    @classmethod
    def read(cls, document: Json) -> _Move:
        if not isinstance(document, Mapping):
            raise RecordError("a movement is not a JSON object")
        payer, payee, amount = document["payer"], document["payee"], document["amount_micro"]
        if not isinstance(payer, str) or not isinstance(payee, str) or not isinstance(amount, int):
            raise RecordError("a movement has a member of the wrong type")
        move = cls(payer, payee, amount)
        move.check()
        return move


class _Books:
    """Balances, holds and payments as the journal's lines leave them; changed by `take` alone."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {OUTSIDE: 0, HELD: 0}
        self.holds: dict[str, Hold] = {}
        self.payments: dict[str, Payment] = {}
        self.settled: set[str] = set()

    def require_funds(self, moves: Sequence[_Move]) -> None:
        """Raise SettlementError unless every payer can pay everything it is asked for at once."""
        after = dict(self.balances)
        for move in moves:
            after[move.payer] = after.get(move.payer, 0) - move.amount_micro
        for account, amount in after.items():
            if amount < 0 and account != OUTSIDE:
                raise SettlementError(
                    f"account {account!r} has {self.balances.get(account, 0)} micro-euro, {-amount} too few; "
                    "deposit first, nothing moved"
                )

    def take(self, document: Mapping[str, Json]) -> None:
        """Apply one line of the journal."""
        moves = [_Move.read(item) for item in items_of(document["moves"])]
        self.require_funds(moves)
        kind, name = str(document["kind"]), str(document["name"])
        self._note(kind, name, moves, document)
        for move in moves:
            self.balances[move.payer] = self.balances.get(move.payer, 0) - move.amount_micro
            self.balances[move.payee] = self.balances.get(move.payee, 0) + move.amount_micro

    def _note(self, kind: str, name: str, moves: Sequence[_Move], document: Mapping[str, Json]) -> None:
        if kind == "hold":
            quote = read_quote(document["quote"])
            self.holds[name] = Hold(name, quote.record_sha256, quote, "held")
        elif kind == "release":
            hold = self.holds[name]
            self.holds[name] = replace(hold, status="released")
            self.settled.add(hold.record_sha256)
        elif kind == "cancel":
            self.holds[name] = replace(self.holds[name], status="cancelled")
        elif kind == "pay":
            move = moves[0]
            self.payments[name] = Payment(
                name, move.payer, move.payee, move.amount_micro, str(document["memo"]), refunded=False
            )
        elif kind == "refund":
            self.payments[name] = replace(self.payments[name], refunded=True)
        else:
            raise RecordError(f"unknown kind of movement {kind!r}")


_: type[Settlement] = EmbeddedSettlement
