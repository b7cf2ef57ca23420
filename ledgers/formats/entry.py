"""One entry of a channel: what a party asked for, signed by it, and what the contract made of it.

An entry is RFC 8785 JSON plus a newline; these bytes are the leaf of the channel's Merkle tree, so they are what a
proof proves. It names its channel and index and the leaf hash of the entry before it, so that entries cannot be moved.

Two kinds exist. A *submitted* entry holds the proposal (contract, function, arguments) with the signature of the party
that sent it. A *derived* entry was written by the contract on another channel while it ran that transaction; it carries
no argument, which its readers may not be allowed to see, and is signed by the contract's own key. Both give the writes
(the newest document under each key) and the events. A submitted entry lists the leaf hashes of its derived ones, so a
derived entry cannot be lost unnoticed.

A verifier needs this module and `tlog`, and no ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex, to_base64, to_canonical
from ledgers.contracts.contract import Document, Event
from ledgers.errors import LedgerCorrupt, RecordError
from ledgers.identity import Identity, signature_holds
from ledgers.ports import Member

SCHEMA = "v2gbench.ledger-entry/1.0"
PROPOSAL_SCHEMA = "v2gbench.proposal/1.0"
NO_PREVIOUS = "0" * 64  # the first entry of a channel has none before it

_MEMBERS = {
    "schema",
    "channel",
    "index",
    "previous",
    "utc",
    "tx_id",
    "contract",
    "function",
    "args",
    "derived_from",
    "derived",
    "by",
    "signature",
    "writes",
    "events",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a party asks a contract to do; `tx_id` is the hash of all of it, so a repeated one is recognised."""

    channel: str
    contract: str
    function: str
    args: tuple[str, ...]
    by: Member

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the party signs."""
        return to_canonical(
            {
                "schema": PROPOSAL_SCHEMA,
                "channel": self.channel,
                "contract": self.contract,
                "function": self.function,
                "args": list(self.args),
                "by": _member_json(self.by),
            }
        )

    @property
    def tx_id(self) -> str:
        """SHA-256 of the signed bytes."""
        return sha256_hex(self.signed_bytes)


@dataclass(frozen=True, slots=True)
class Entry:
    """A parsed entry and the bytes it stands in (`data`, which end with a newline)."""

    channel: str
    index: int
    previous: str  # leaf hash of the entry before, hexadecimal
    utc: str  # when it was appended, session clock
    tx_id: str
    contract: str  # with its version: "monitoring/1.0"
    function: str
    args: tuple[str, ...]  # none in a derived entry
    derived_from: tuple[str, int] | None  # channel and index of the submitted entry
    derived: Mapping[str, tuple[str, ...]]  # channel to leaf hashes of derived entries
    by: Member
    signature: bytes
    writes: Mapping[str, Document]
    events: tuple[Event, ...]
    data: bytes

    @property
    def anchored(self) -> Mapping[str, str]:
        """The usage records that this entry anchors: session to SHA-256 of the record, in hexadecimal."""
        return {
            key.removeprefix("usage/"): str(document["record_sha256"])
            for key, document in self.writes.items()
            if key.startswith("usage/") and "record_sha256" in document
        }

    @classmethod
    def parse(cls, data: bytes, *, where: str = "the ledger entry") -> Entry:
        """Read an entry and check its signature.

        Raises RecordError for bytes of another form, LedgerCorrupt for a signature or hash that does not hold.
        """
        entry = cls.read(data, where=where)
        entry.check_signature(where=where)
        return entry

    @classmethod
    def read(cls, data: bytes, *, where: str = "the ledger entry") -> Entry:
        """Read an entry without checking its signature (for one that a signed checkpoint covers)."""
        document = from_canonical(data, where=where)
        if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
            raise RecordError(f"{where} is not a {SCHEMA} document; it is another kind of file or version")
        if set(document) != _MEMBERS:
            raise RecordError(f"{where} has members {sorted(set(document) ^ _MEMBERS)} too many or too few")
        try:
            return _from_document(document, data, where)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"{where} has a member of the wrong type: {error!r}") from error

    def check_signature(self, *, where: str) -> None:
        """Raise LedgerCorrupt unless the entry was signed by the party it names."""
        if self.derived_from is None:
            contract = self.contract.partition("/")[0]
            proposal = Proposal(self.channel, contract, self.function, self.args, self.by)
            if proposal.tx_id != self.tx_id:
                raise LedgerCorrupt(f"{where}: the transaction's name is not the hash of what was asked for")
            signed = proposal.signed_bytes
        else:
            document = cast("dict[str, Json]", from_canonical(self.data, where=where))
            signed = to_canonical({**document, "signature": None})
        if not signature_holds(self.by.public_key_der, signed, self.signature):
            raise LedgerCorrupt(f"{where}: the signature of {self.by.name!r} does not hold")


def submitted_entry(
    proposal: Proposal,
    signature: bytes,
    *,
    tx_id: str,
    index: int,
    previous: str,
    utc: str,
    version: str,
    writes: Mapping[str, Document],
    events: tuple[Event, ...],
    derived: Mapping[str, tuple[str, ...]],
) -> bytes:
    """The bytes of the entry that a party's own transaction writes; `signature` covers the proposal."""
    document = _document(proposal.channel, index, previous, utc, tx_id, version, proposal.function, writes, events)
    document["args"] = list(proposal.args)
    document["derived_from"] = None
    document["derived"] = {channel: list(hashes) for channel, hashes in derived.items()}
    document["by"] = _member_json(proposal.by)
    document["signature"] = to_base64(signature)
    return to_canonical(document)


def derived_entry(
    proposal: Proposal,
    signer: Identity,
    *,
    tx_id: str,
    channel: str,
    index: int,
    previous: str,
    utc: str,
    version: str,
    source_index: int,
    writes: Mapping[str, Document],
    events: tuple[Event, ...],
) -> bytes:
    """The bytes of an entry that the contract writes on another channel, signed by the contract's key."""
    document = _document(channel, index, previous, utc, tx_id, version, proposal.function, writes, events)
    document["args"] = []
    document["derived_from"] = {"channel": proposal.channel, "index": source_index}
    document["derived"] = {}
    document["by"] = _member_json(Member.of(signer))
    document["signature"] = None
    document["signature"] = to_base64(signer.sign(to_canonical(document)))
    return to_canonical(document)


# ----------------------------------------------------------------------------------------------------------- private


def _document(
    channel: str,
    index: int,
    previous: str,
    utc: str,
    tx_id: str,
    version: str,
    function: str,
    writes: Mapping[str, Document],
    events: tuple[Event, ...],
) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "channel": channel,
        "index": index,
        "previous": previous,
        "utc": utc,
        "tx_id": tx_id,
        "contract": version,
        "function": function,
        "writes": dict(writes),
        "events": [{"name": event.name, "payload": event.payload} for event in events],
    }


def _member_json(member: Member) -> dict[str, Json]:
    return {"name": member.name, "role": member.role, "public_key": to_base64(member.public_key_der)}


def _from_document(document: Mapping[str, Json], data: bytes, where: str) -> Entry:
    by = _mapping(document["by"])
    source = document["derived_from"]
    derived_from = None
    if source is not None:
        derived_from = (_text(_mapping(source)["channel"]), _integer(_mapping(source)["index"]))
    return Entry(
        channel=_text(document["channel"]),
        index=_integer(document["index"]),
        previous=_text(document["previous"]),
        utc=_text(document["utc"]),
        tx_id=_text(document["tx_id"]),
        contract=_text(document["contract"]),
        function=_text(document["function"]),
        args=tuple(_text(item) for item in _list(document["args"])),
        derived_from=derived_from,
        derived={
            channel: tuple(_text(item) for item in _list(hashes))
            for channel, hashes in _mapping(document["derived"]).items()
        },
        by=Member(
            _text(by["name"]), _text(by["role"]), from_base64(_text(by["public_key"]), where=f"{where}, the public key")
        ),
        signature=from_base64(_text(document["signature"]), where=f"{where}, the signature"),
        writes={key: _mapping(value) for key, value in _mapping(document["writes"]).items()},
        events=tuple(
            Event(_text(_mapping(item)["name"]), _mapping(_mapping(item)["payload"]))
            for item in _list(document["events"])
        ),
        data=data,
    )


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return value


def _integer(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected an integer, found {value!r}")
    return value


def _mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object, found {value!r}")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r}")
    return value
