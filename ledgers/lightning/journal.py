"""What a settlement over Lightning must not forget: written and synced before each step, read again after any end.

A debt is money that one account owes another, and every way of paying it: its preimage is chosen here and is on the
disk before the payee's node hears of the invoice, so after kill -9 the same invoice is found, the same payment tracked,
and nothing is paid twice. The file is therefore as secret as a wallet (mode 0600) while holds are open: whoever knows a
preimage can take the money of its hold on the way.

The lines are `frames`: each has its hash, and names the line before it. A line cut short by a crash never happened.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ledgers.canonical import Json, sha256_hex, to_canonical
from ledgers.embedded.chained import ChainedJournal
from ledgers.errors import RecordError, SettlementError
from ledgers.lightning.client.values import hash_of

SCHEMA = "v2gbench.lightning-journal/1.0"


class DebtState(enum.StrEnum):
    """How far a debt is. PAID is final; CANCELLED is too, unless it is begun again with another preimage."""

    NEW = "new"  # written down, no node knows it
    INVOICED = "invoiced"  # the payee's node has the invoice; a payment may be under way
    HELD = "held"  # the payee's node holds the payer's money
    SETTLING = "settling"  # the record was verified: the preimage is given, whatever happens
    PAID = "paid"
    CANCELLING = "cancelling"  # decided: the money goes back
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Lost:
    """What a forced close gave to the miner while it was under way for a debt: too small for an output of its own.

    `owner` is an account, or "the node before NAME" for the one that had sent it on to that account. `channel` is the
    short id (block x transaction x output), `payment_hash` the payment that it belonged to. `at_most`: the payee had
    not accepted it, so the commitment that was closed may not have had it yet, and then nothing was lost.
    """

    owner: str
    msat: int
    channel: str
    payment_hash: str
    at_most: bool = False

    def __str__(self) -> str:
        msat = f"at most {self.msat}" if self.at_most else str(self.msat)
        return f"lost to fees: {msat} msat of {self.owner}, whose channel {self.channel} was closed by force"

    def to_json(self) -> dict[str, Json]:
        """The loss as it stands in journal and receipt."""
        return {
            "owner": self.owner,
            "msat": self.msat,
            "channel": self.channel,
            "payment_hash": self.payment_hash,
            "at_most": self.at_most,
        }

    @classmethod
    def read(cls, document: Json) -> Lost:
        """The loss in a line of the journal."""
        if not isinstance(document, Mapping) or not isinstance(document["msat"], int):
            raise RecordError("what was lost is told wrongly")
        return cls(
            owner=str(document["owner"]),
            msat=document["msat"],
            channel=str(document["channel"]),
            payment_hash=str(document["payment_hash"]),
            at_most=document["at_most"] is True,
        )


@dataclass(frozen=True, slots=True)
class Debt:
    """`amount_msat` that `payer` owes `payee`, and how it is paid.

    `kind` is the kind of the quote's line it belongs to, or "payment". `terms` is the document whose SHA-256 the
    invoice carries, null when that is the usage record itself. `held`: paid by a hold invoice. `keysend`: paid without
    an invoice. `subject` is the hold, session or payment it belongs to. `evidence_sha256` is the signed slice record
    that it was settled for. `lost` is what forced closes took on the way; each of it once. `earlier` are
    preimages that it had before; each was dead when it got another.
    """

    name: str
    subject: str
    kind: str
    payer: str
    payee: str
    amount_msat: int
    description_hash: str
    terms: Json
    held: bool
    keysend: bool
    preimage: str
    state: DebtState = DebtState.NEW
    payment_request: str = ""
    fee_msat: int = 0
    evidence_sha256: str = ""
    words: str = ""
    lost: tuple[Lost, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def payment_hash(self) -> str:
        """SHA-256 of the preimage."""
        return hash_of(self.preimage)

    @property
    def decided(self) -> bool:
        """Whether its record was verified and its money is not the payee's yet: it is settled, whatever happens."""
        if self.state in {DebtState.NEW, DebtState.INVOICED, DebtState.HELD}:
            return bool(self.evidence_sha256)
        return self.state is DebtState.SETTLING

    @classmethod
    def new(
        cls,
        name: str,
        *,
        subject: str,
        kind: str,
        payer: str,
        payee: str,
        amount_msat: int,
        record_sha256: str | None = None,
        terms: Json = None,
        held: bool = False,
        keysend: bool = False,
    ) -> Debt:
        """A debt with a fresh random preimage, bound to the record or else to its terms."""
        return cls(
            name=name,
            subject=subject,
            kind=kind,
            payer=payer,
            payee=payee,
            amount_msat=amount_msat,
            description_hash=record_sha256 or sha256_hex(to_canonical(terms)),
            terms=terms,
            held=held,
            keysend=keysend,
            preimage=fresh_preimage(),
        )

    def to_json(self) -> dict[str, Json]:
        """The debt as it is born in the journal."""
        return {
            "name": self.name,
            "subject": self.subject,
            "kind": self.kind,
            "payer": self.payer,
            "payee": self.payee,
            "amount_msat": self.amount_msat,
            "description_hash": self.description_hash,
            "terms": self.terms,
            "held": self.held,
            "keysend": self.keysend,
            "preimage": self.preimage,
        }

    @classmethod
    def read(cls, document: Json) -> Debt:
        """The debt in a line of the journal."""
        if not isinstance(document, Mapping):
            raise RecordError("a debt is not a JSON object")
        amount = document["amount_msat"]
        if not isinstance(amount, int):
            raise RecordError("a debt's amount is no integer")
        return cls(
            name=str(document["name"]),
            subject=str(document["subject"]),
            kind=str(document["kind"]),
            payer=str(document["payer"]),
            payee=str(document["payee"]),
            amount_msat=amount,
            description_hash=str(document["description_hash"]),
            terms=document["terms"],
            held=document["held"] is True,
            keysend=document["keysend"] is True,
            preimage=str(document["preimage"]),
        )


def fresh_preimage() -> str:
    """32 random bytes in hexadecimal: never from a seed, because whoever knows it can take held money."""
    return os.urandom(32).hex()


class Journal:
    """The open journal and its debts; `note` is called for every line that is no debt's, also while reading."""

    def __init__(self, folder: Path, note: Callable[[str, str, Mapping[str, Json]], None], *, fsync: bool) -> None:
        self.debts: dict[str, Debt] = {}
        self._note = note
        self._file = ChainedJournal(folder, schema=SCHEMA, take=self._take, fsync=fsync)

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self._file.close()

    def require_open(self) -> None:
        """Raise LedgerBusy when closed."""
        self._file.require_open()

    def write(self, kind: str, name: str, body: Mapping[str, Json], debts: Sequence[Debt] = ()) -> None:
        """Write a line, on the disk when this returns, and take it into the books; its debts are born with it."""
        if debts:
            body = {**body, "debts": [debt.to_json() for debt in debts]}
        self._file.write({"kind": kind, "name": name, "body": body})

    def birth(self, debt: Debt) -> Debt:
        """Write a debt down; one of the same name and values is returned as it is, another refused."""
        known = self.debts.get(debt.name)
        if known is None:
            self.write("debt", debt.name, {}, [debt])
            return self.debts[debt.name]
        same = replace(debt, preimage=known.preimage).to_json() == known.to_json()
        if not same:
            raise SettlementError(f"{debt.name!r} is written down with other values; give this one another name")
        return known

    def move(self, name: str, state: DebtState, **changes: Json) -> Debt:
        """Write down how far a debt is."""
        self.write("state", name, {"state": state.value, **changes})
        return self.debts[name]

    def _take(self, document: Mapping[str, Json]) -> None:
        kind, name, body = str(document["kind"]), str(document["name"]), document["body"]
        if not isinstance(body, Mapping):
            raise RecordError(f"{kind} {name!r} has no body")
        for item in debts_of(body):
            self.debts[item.name] = item
        if kind == "state":
            self.debts[name] = _moved(self.debts[name], body)
        elif kind != "debt":
            self._note(kind, name, body)


def debts_of(body: Mapping[str, Json]) -> tuple[Debt, ...]:
    """The debts that a line gives birth to."""
    items = body.get("debts", ())
    if not isinstance(items, list | tuple):
        raise RecordError("the debts of an entry are no list")
    return tuple(Debt.read(item) for item in items)


def _moved(debt: Debt, body: Mapping[str, Json]) -> Debt:
    fee = body.get("fee_msat", debt.fee_msat)
    lost = body.get("lost", [])
    if not isinstance(lost, list | tuple):
        raise RecordError("what was lost is no list")
    return replace(
        debt,
        state=DebtState(str(body["state"])),
        payment_request=str(body.get("payment_request", debt.payment_request)),
        fee_msat=fee if isinstance(fee, int) else debt.fee_msat,
        preimage=str(body.get("preimage", debt.preimage)),
        evidence_sha256=str(body.get("evidence_sha256", debt.evidence_sha256)),
        words=str(body.get("words", debt.words)),
        lost=(*debt.lost, *(Lost.read(item) for item in lost)),
        earlier=(*debt.earlier, debt.preimage) if "preimage" in body else debt.earlier,
        held=body.get("held", debt.held) is True,
    )
