"""The embedded ledger: a store per channel in one folder, contracts run in this process, proofs by a signed log.

The folder holds for each channel `<channel>.log` (its entries, see `frames`) and `<channel>.checkpoint` (the newest
signed tree head), and `lock`. Life of a transaction:

1. the party's proposal is signed and its role is checked against `channels.yaml`;
2. the contract runs as a pure function; every document that it was sent or wants to write is checked against Table 2;
3. entries that the contract writes on *other* channels are appended first, each file synced; the party's own entry is
   appended and synced last. That last line is the commit: when it is missing on opening, the others are cut off, so a
   transaction is on all its channels or on none;
4. the receipt is handed out. It means: this survives kill -9 and power loss.

The same transaction sent again is recognised by its hash and answered with the first receipt. On opening everything is
checked: each line's hash, the chain, the tree against the signed checkpoint, the signatures of what the checkpoint does
not yet cover, and that no derived entry is missing. State lives in memory and is rebuilt from the writes in the
entries, so opening needs no contract code of an earlier version.

Nothing here reads a clock or draws a random number: with the same keys, transactions and session clock, two ledgers are
equal byte for byte.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ledgers.canonical import from_canonical, sha256_hex, to_canonical
from ledgers.channels import Channels, load_channels
from ledgers.contracts.alarms import AlarmsContract
from ledgers.contracts.contract import Contract, Document, Effects
from ledgers.contracts.monitoring import MonitoringContract
from ledgers.contracts.remuneration import RemunerationContract
from ledgers.embedded.frames import FrameFile, lock_folder, write_atomically
from ledgers.errors import AccessDenied, ContractRefused, LedgerBusy, LedgerCorrupt, LedgerError, RecordError
from ledgers.formats.entry import NO_PREVIOUS, Entry, Proposal, derived_entry, submitted_entry
from ledgers.formats.tlog import Checkpoint, LogKey, Tree, format_proof, leaf_hash, open_checkpoint
from ledgers.identity import Identity
from ledgers.ports import ContractEvent, Ledger, Member, Proof, Receipt
from ledgers.records import utc_text


class EmbeddedLedger:
    """One open ledger folder; a second opening of the same folder raises LedgerBusy.

    `origin` names the log in its checkpoints (`<origin>/<channel>`), `log_key` signs them, `contract_identity` (role
    "contract") signs what contracts write on other channels, `members` are the parties that may take part, and
    `clock_utc_s` is the session clock that stamps entries. `fsync=False` survives kill -9 but not power loss.
    """

    def __init__(
        self,
        folder: Path,
        *,
        origin: str,
        log_key: LogKey,
        contract_identity: Identity,
        members: Iterable[Member],
        clock_utc_s: Callable[[], float],
        contracts: Sequence[Contract] | None = None,
        channels: Channels | None = None,
        fsync: bool = True,
    ) -> None:
        self.folder = folder
        self.origin = origin
        self.channels = channels or load_channels()
        self._log_key = log_key
        self._contract_identity = contract_identity
        self._members = {member.name: member for member in members}
        self._clock_utc_s = clock_utc_s
        self._contracts = {contract.name: contract for contract in contracts or standard_contracts()}
        self._guard = threading.RLock()
        self._closed = False
        self._recovered: list[str] = []
        self._receipts: dict[str, Receipt] = {}
        self._stores: dict[str, _Store] = {}
        self._world = _World(self._stores)
        self._check_parties()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            self._open_stores(fsync=fsync)
        except BaseException:
            self._close_files()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The Ledger port.

    def submit(self, channel: str, contract: str, function: str, *args: str, identity: Identity) -> Receipt:
        """Run `function` of `contract` with one JSON document and append what it writes (see `Ledger.submit`)."""
        with self._guard:
            by = self._member(identity)
            self.channels.require_write(by.role, channel, function, who=by.name)
            code = self._contract(contract, channel)
            document = _argument(args, contract, function)
            proposal = Proposal(channel, contract, function, args, by)
            signed = proposal.signed_bytes
            tx_id = sha256_hex(signed)
            known = self._receipts.get(tx_id)
            if known is not None:
                return known
            self.channels.check_document(channel, document)
            effects = code.transact(function, document, self._world)
            self._check_effects(channel, effects)
            return self._append(proposal, tx_id, identity.sign(signed), code, effects)

    def evaluate(self, channel: str, contract: str, function: str, *args: str, identity: Identity) -> bytes:
        """Answer a contract's query as canonical JSON; writes nothing (see `Ledger.evaluate`)."""
        with self._guard:
            by = self._member(identity)
            self.channels.require_read(by.role, channel, who=by.name)
            code = self._contract(contract, channel)
            return to_canonical(code.query(function, _argument(args, contract, function), self._world))

    def prove(self, receipt: Receipt) -> Proof:
        """The proof of an entry under the newest checkpoint, signed now when the channel has grown since."""
        with self._guard:
            store = self._store_of(receipt)
            note = self.checkpoint(receipt.channel)
            hashes = store.tree.inclusion_proof(receipt.index)
            return Proof(
                channel=receipt.channel,
                index=receipt.index,
                size=len(store.tree),
                origin=store.origin,
                text=format_proof(receipt.index, hashes, note),
                public_key_der=self._log_key.public_key_der,
            )

    def events(self, channel: str, since: int, identity: Identity) -> Iterator[ContractEvent]:
        """Events of the entries from index `since` on that exist at the time of the call, oldest first."""
        with self._guard:
            by = self._member(identity)
            self.channels.require_read(by.role, channel, who=by.name)
            count = len(self._stores[channel].tree)
        return self._iterate_events(channel, max(since, 0), count)

    def entry(self, receipt: Receipt, identity: Identity) -> bytes:
        """The stored bytes of an entry, for a role that may read its channel."""
        with self._guard:
            by = self._member(identity)
            self.channels.require_read(by.role, receipt.channel, who=by.name)
            return self._store_of(receipt).file.read(receipt.index)

    # Beyond the port.

    def checkpoint(self, channel: str) -> str:
        """The signed checkpoint over all entries of a channel; stored, so that a later opening can compare."""
        with self._guard:
            self._require_open()
            store = self._store(channel)
            if store.note_size != len(store.tree) or not store.note:
                note = Checkpoint(store.origin, len(store.tree), store.tree.root()).signed(self._log_key)
                store.file.sync(always=True)
                write_atomically(store.checkpoint_path, note.encode())
                store.note, store.note_size = note, len(store.tree)
            return store.note

    def consistency_proof(self, channel: str, old_size: int) -> tuple[bytes, ...]:
        """The hashes that show that the channel's first `old_size` entries are still the same (RFC 6962)."""
        with self._guard:
            return self._store(channel).tree.consistency_proof(old_size)

    @property
    def recovered(self) -> tuple[str, ...]:
        """What opening cut off because a crash had left it unfinished, a sentence each; none of it had a receipt."""
        return tuple(self._recovered)

    def size(self, channel: str) -> int:
        """Number of entries on a channel."""
        return len(self._store(channel).tree)

    def close(self) -> None:
        """Sign a last checkpoint of every channel and close the files; a second call does nothing."""
        with self._guard:
            if self._closed:
                return
            try:
                for channel in self._stores:
                    self.checkpoint(channel)
            finally:
                self._close_files()

    # Private.

    def _append(self, proposal: Proposal, tx_id: str, signature: bytes, code: Contract, effects: Effects) -> Receipt:
        utc = utc_text(self._clock_utc_s())
        home = self._stores[proposal.channel]
        others = [c for c in self.channels.names if c != proposal.channel and _touches(effects, c)]
        derived: dict[str, bytes] = {}
        for channel in others:
            store = self._stores[channel]
            derived[channel] = derived_entry(
                proposal,
                self._contract_identity,
                channel=channel,
                index=len(store.tree),
                previous=store.previous,
                utc=utc,
                version=code.version,
                tx_id=tx_id,
                source_index=len(home.tree),
                writes=effects.writes.get(channel, {}),
                events=effects.events.get(channel, ()),
            )
        own = submitted_entry(
            proposal,
            signature,
            tx_id=tx_id,
            index=len(home.tree),
            previous=home.previous,
            utc=utc,
            version=code.version,
            writes=effects.writes.get(proposal.channel, {}),
            events=effects.events.get(proposal.channel, ()),
            derived={channel: (leaf_hash(data).hex(),) for channel, data in derived.items()},
        )
        self._write({**derived, proposal.channel: own})
        taken = [
            self._stores[channel].take(tx_id, effects.writes.get(channel, {}))
            for channel in (*others, proposal.channel)
        ]
        receipt = replace(taken[-1], derived=tuple(taken[:-1]))
        self._receipts[tx_id] = receipt
        return receipt

    def _write(self, entries: Mapping[str, bytes]) -> None:
        """Append to every file, the commit last; on failure no file keeps anything."""
        done: list[_Store] = []
        try:
            for channel, data in entries.items():
                self._stores[channel].file.append([data])
                done.append(self._stores[channel])
        except LedgerError:
            for store in done:
                store.file.cut(len(store.tree))
            raise

    def _check_effects(self, channel: str, effects: Effects) -> None:
        for target, documents in effects.writes.items():
            self.channels.require_contract_write(channel, target)
            for document in documents.values():
                self.channels.check_document(target, document)
        for target, events in effects.events.items():
            self.channels.require_contract_write(channel, target)
            for event in events:
                self.channels.check_document(target, event.payload)

    def _iterate_events(self, channel: str, since: int, count: int) -> Iterator[ContractEvent]:
        for index in range(since, count):
            with self._guard:
                self._require_open()
                store = self._stores[channel]
                entry = Entry.read(store.file.read(index), where=f"{store.file.path} entry {index}")
                receipt = store.receipt(index, entry.tx_id)
            for event in entry.events:
                yield ContractEvent(channel, index, event.name, event.payload, entry.tx_id, entry.utc, receipt)

    def _member(self, identity: Identity) -> Member:
        self._require_open()
        member = self._members.get(identity.name)
        if member is None:
            raise AccessDenied(f"{identity.name!r} is not a member of ledger {self.origin!r}; add its public key first")
        if member.role != identity.role or member.public_key_der != identity.public_key_der:
            raise AccessDenied(
                f"{identity.name!r} shows role {identity.role!r} and key {identity.key_id}, but the ledger knows it as "
                f"{member.role!r} with key {member.key_id}"
            )
        return member

    def _contract(self, name: str, channel: str) -> Contract:
        code = self._contracts.get(name)
        if code is None:
            raise ContractRefused(f"there is no contract {name!r}; there are {', '.join(self._contracts)}")
        if code.channel != channel:
            raise ContractRefused(f"contract {name!r} lives on channel {code.channel!r}, not on {channel!r}")
        return code

    def _store(self, channel: str) -> _Store:
        store = self._stores.get(channel)
        if store is None:
            raise AccessDenied(f"there is no channel {channel!r}; there are {', '.join(self._stores)}")
        return store

    def _store_of(self, receipt: Receipt) -> _Store:
        self._require_open()
        store = self._store(receipt.channel)
        if not 0 <= receipt.index < len(store.tree) or store.tree.leaf(receipt.index).hex() != receipt.leaf_hash:
            raise RecordError(f"this ledger gave no receipt for entry {receipt.index} of channel {receipt.channel!r}")
        return store

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerBusy(f"the ledger in {self.folder} is closed; open it again")

    def _check_parties(self) -> None:
        if self._contract_identity.role != "contract":
            raise AccessDenied(f"the contract's identity has role {self._contract_identity.role!r}, not 'contract'")
        for member in self._members.values():
            if member.role not in self.channels.roles:
                raise AccessDenied(
                    f"member {member.name!r} has role {member.role!r}; the stakeholders are "
                    f"{', '.join(self.channels.roles)}"
                )

    # Opening.

    def _open_stores(self, *, fsync: bool) -> None:
        for channel in self.channels.names:
            store = _Store(
                channel=channel,
                origin=f"{self.origin}/{channel}",
                file=FrameFile(self.folder / f"{channel}.log", fsync=fsync),
                checkpoint_path=self.folder / f"{channel}.checkpoint",
            )
            self._stores[channel] = store
            if store.file.torn_bytes:
                self._recovered.append(
                    f"{store.file.path}: {store.file.torn_bytes} bytes of an unfinished entry were cut"
                )
            store.read_checkpoint(self._log_key)
        entries = {channel: store.read_entries() for channel, store in self._stores.items()}
        for channel, found in entries.items():
            self._cut_uncommitted(channel, found, entries)
        derived = self._derived_receipts(entries)
        for channel, found in entries.items():
            store = self._stores[channel]
            for entry in found:
                receipt = store.take(entry.tx_id, entry.writes)
                if entry.derived_from is None:
                    also = tuple(derived[c, h] for c in self.channels.names for h in entry.derived.get(c, ()))
                    self._receipts[entry.tx_id] = replace(receipt, derived=also)

    def _cut_uncommitted(self, channel: str, found: list[Entry], entries: Mapping[str, list[Entry]]) -> None:
        """Drop derived entries at the end whose own transaction was never committed (a crash between two files)."""
        store = self._stores[channel]
        while found and (source := found[-1].derived_from) is not None:
            home = entries.get(source[0])
            if home is None or source[1] < len(home) or found[-1].index < store.note_size:
                break
            found.pop()
            self._recovered.append(f"{store.file.path}: entry {len(found)} of an uncommitted transaction was cut")
        store.file.cut(len(found))

    def _derived_receipts(self, entries: Mapping[str, list[Entry]]) -> dict[tuple[str, str], Receipt]:
        """Receipts of derived entries by channel and leaf hash, after each was found to belong to its transaction."""
        receipts: dict[tuple[str, str], Receipt] = {}
        for channel, found in entries.items():
            store = self._stores[channel]
            for entry in found:
                if entry.derived_from is None:
                    continue
                source, index = entry.derived_from
                home = entries.get(source, [])
                leaf = store.file.leaves[entry.index].hex()
                if index >= len(home) or leaf not in home[index].derived.get(channel, ()):
                    raise LedgerCorrupt(
                        f"{store.file.path} entry {entry.index} names entry {index} of channel {source!r}, which does "
                        "not know it; stop and keep the folder"
                    )
                receipts[channel, leaf] = Receipt(channel, entry.index, entry.tx_id, leaf, entry.index + 1)
        for channel, found in entries.items():
            for entry in found:
                for other, hashes in entry.derived.items():
                    if any((other, leaf) not in receipts for leaf in hashes):
                        raise LedgerCorrupt(
                            f"{self.folder / other}.log has lost an entry that entry {entry.index} of channel "
                            f"{channel!r} wrote there; stop and keep the folder"
                        )
        return receipts

    def _close_files(self) -> None:
        self._closed = True
        for store in self._stores.values():
            store.file.close()
        os.close(self._lock)


def standard_contracts() -> tuple[Contract, ...]:
    """The contracts of the three channels with their default parameters."""
    return (MonitoringContract(), RemunerationContract(), AlarmsContract())


@dataclass(slots=True)
class _Store:
    """One channel: its file, its tree, the newest document under each key, and the newest signed checkpoint."""

    channel: str
    origin: str
    file: FrameFile
    checkpoint_path: Path
    tree: Tree = field(default_factory=Tree)
    state: dict[str, Document] = field(default_factory=dict)
    note: str = ""
    note_size: int = 0

    @property
    def previous(self) -> str:
        size = len(self.tree)
        return self.tree.leaf(size - 1).hex() if size else NO_PREVIOUS

    def take(self, tx_id: str, writes: Mapping[str, Document]) -> Receipt:
        """Count the next entry that stands in the file."""
        index = self.tree.append(self.file.leaves[len(self.tree)])
        self.state.update(writes)
        return self.receipt(index, tx_id)

    def receipt(self, index: int, tx_id: str) -> Receipt:
        return Receipt(self.channel, index, tx_id, self.file.leaves[index].hex(), index + 1)

    def read_checkpoint(self, key: LogKey) -> None:
        """Compare the file with the newest signed checkpoint; raises LedgerCorrupt when they differ."""
        try:
            self.note = self.checkpoint_path.read_bytes().decode()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise LedgerCorrupt(f"{self.checkpoint_path} cannot be read: {error}; keep the folder") from error
        try:
            signed = open_checkpoint(self.note, origin=self.origin, public_key_der=key.public_key_der)
        except LedgerError as error:
            raise LedgerCorrupt(f"{self.checkpoint_path}: {error}; stop and keep the folder") from error
        if len(self.file) < signed.size:
            raise LedgerCorrupt(
                f"{self.file.path} has {len(self.file)} entries, but {signed.size} were signed: entry "
                f"{len(self.file)} and later are lost; stop and keep the folder"
            )
        covered = Tree()
        for leaf in self.file.leaves[: signed.size]:
            covered.append(leaf)
        if covered.root() != signed.root:
            raise LedgerCorrupt(
                f"{self.file.path}: its first {signed.size} entries are not those that were signed in "
                f"{self.checkpoint_path.name}; stop and keep the folder"
            )
        self.note_size = signed.size

    def read_entries(self) -> list[Entry]:
        """All entries, each checked to be in its place; signatures only where no checkpoint covers them."""
        found: list[Entry] = []
        previous = NO_PREVIOUS
        for index in range(len(self.file)):
            where = f"{self.file.path} entry {index}"
            read = Entry.read if index < self.note_size else Entry.parse
            try:
                entry = read(self.file.read(index), where=where)
            except LedgerError as error:
                raise LedgerCorrupt(f"{error}; stop and keep the folder") from error
            if (entry.channel, entry.index, entry.previous) != (self.channel, index, previous):
                raise LedgerCorrupt(f"{where} belongs to another place in the log; stop and keep the folder")
            found.append(entry)
            previous = self.file.leaves[index].hex()
        return found


@dataclass(frozen=True, slots=True)
class _World:
    """The newest documents as contracts see them: reading only, rights are the ledger's business."""

    stores: Mapping[str, _Store]

    def get(self, channel: str, key: str) -> Document | None:
        return self.stores[channel].state.get(key)

    def scan(self, channel: str, prefix: str) -> Iterator[tuple[str, Document]]:
        state = self.stores[channel].state
        for key in sorted(key for key in state if key.startswith(prefix)):
            yield key, state[key]


def _argument(args: tuple[str, ...], contract: str, function: str) -> Document:
    if len(args) != 1:
        raise ContractRefused(f"{contract}.{function} takes one JSON document, not {len(args)} arguments")
    try:
        document = from_canonical(args[0].encode() + b"\n", where=f"the argument of {contract}.{function}")
    except (RecordError, UnicodeEncodeError) as error:
        raise ContractRefused(str(error)) from error
    if not isinstance(document, Mapping):
        raise ContractRefused(f"the argument of {contract}.{function} is not a JSON object")
    return document


def _touches(effects: Effects, channel: str) -> bool:
    return bool(effects.writes.get(channel) or effects.events.get(channel))


_: type[Ledger] = EmbeddedLedger
