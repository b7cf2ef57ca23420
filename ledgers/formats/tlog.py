r"""Transparency log: RFC 6962 hashing, signed checkpoints and offline proofs in the C2SP text forms.

A receipt of a ledger is worth what a stranger can check without us. So nothing here is a format of our own:

* leaves and nodes are hashed as in RFC 6962 section 2.1 (leaf `0x00`, node `0x01`, SHA-256), and proofs are checked
  with the algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2;
* a checkpoint is a C2SP signed note (https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint): origin line,
  size, base64 root, and one Ed25519 signature line whose key name is the origin;
* a proof is a C2SP `tlog-proof@v1` text (https://c2sp.org/tlog-proof).

The specifications let a reader ignore signature lines of unknown keys and carry an unauthenticated `extra` line. A
certificate must have one spelling only, so that a changed byte is always a detected byte: `parse_proof` therefore
refuses both. Cosignatures of witnesses would need a policy of trusted witnesses, which this version does not have.

>>> leaf_hash(b"").hex()[:16]
'6e340b9cffb37a98'
>>> tree = Tree()
>>> for entry in (b"", b"\x00", b"\x10"):
...     _ = tree.append(leaf_hash(entry))
>>> tree.root().hex()[:16]
'aeb6bcfe274b70a1'
>>> verify_inclusion(leaf_hash(b"\x10"), index=2, size=3, hashes=tree.inclusion_proof(2), root=tree.root())
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes as hash_functions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledgers.canonical import from_base64, to_base64
from ledgers.errors import KeyMaterialError, LedgerCorrupt, RecordError
from ledgers.identity import FileKeys, SeedKeys, read_private_pem, write_private_pem

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 section 2.1: the hash of an empty list

_ED25519_NOTE_TYPE = b"\x01"  # C2SP signed-note, signature types
_SIGNATURE_BYTES = 4 + 64  # key id and Ed25519 signature
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")  # no sign, no leading zero; stays below 2**63
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")  # C2SP signed-note: no spaces, no plus; controls are never allowed


# ---------------------------------------------------------------------------------------------------- hashing, tree


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256 of `0x00` and the entry's bytes (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of `0x01` and the two child hashes (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The Merkle tree over an append-only list of leaf hashes.

    Every complete subtree's hash is kept, level by level, so that appending costs one hash on average and a proof
    for any earlier size needs no entry to be read again. Memory is 64 bytes of hash per leaf.
    """

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]  # _levels[k][i]: the subtree over leaves i * 2**k ... (i + 1) * 2**k

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash and return its index, which counts from 0."""
        index = len(self._levels[0])
        height = 0
        self._levels[0].append(leaf)
        while len(self._levels[height]) % 2 == 0:
            left, right = self._levels[height][-2:]
            height += 1
            if height == len(self._levels):
                self._levels.append([])
            self._levels[height].append(node_hash(left, right))
        return index

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index`; raises RecordError beyond the end."""
        self._check_index(index, len(self))
        return self._levels[0][index]

    def root(self, size: int | None = None) -> bytes:
        """Root hash of the first `size` leaves (of all of them by default)."""
        return self._range(0, self._checked_size(size))

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """PATH(index, first `size` leaves) of RFC 6962 section 2.1.1, from the leaf's sibling up."""
        until = self._checked_size(size)
        self._check_index(index, until)
        proof: list[bytes] = []
        start = 0
        while until - start > 1:
            middle = start + _split(until - start)
            if index < middle:
                proof.append(self._range(middle, until))
                until = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        return tuple(reversed(proof))

    def consistency_proof(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """PROOF(old_size, first `size` leaves) of RFC 6962 section 2.1.2; empty for old_size 0 or equal sizes."""
        until = self._checked_size(size)
        if not 0 <= old_size <= until:
            raise RecordError(f"a tree of {until} entries has no earlier size {old_size}")
        if old_size in {0, until}:
            return ()
        proof: list[bytes] = []
        start, known = 0, True
        while old_size < until:
            middle = start + _split(until - start)
            if old_size <= middle:
                proof.append(self._range(middle, until))
                until = middle
            else:
                proof.append(self._range(start, middle))
                start, known = middle, False
        if not known:
            proof.append(self._range(start, until))
        return tuple(reversed(proof))

    def _range(self, start: int, until: int) -> bytes:
        """Hash over leaves start ... until - 1, where start is a multiple of the largest power of two inside."""
        width = until - start
        if width == 0:
            return EMPTY_ROOT
        if width & (width - 1) == 0:
            height = width.bit_length() - 1
            return self._levels[height][start >> height]
        middle = start + _split(width)
        return node_hash(self._range(start, middle), self._range(middle, until))

    def _checked_size(self, size: int | None) -> int:
        chosen = len(self) if size is None else size
        if not 0 <= chosen <= len(self):
            raise RecordError(f"the tree has {len(self)} entries, not {chosen}")
        return chosen

    @staticmethod
    def _check_index(index: int, size: int) -> None:
        if not 0 <= index < size:
            raise RecordError(f"a tree of {size} entries has no entry {index}; the first one is 0")


def verify_inclusion(leaf: bytes, *, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is entry `index` of the tree of `size` entries with this root (RFC 9162 section 2.1.3.2).

    Raises LedgerCorrupt when it is not, or when the number of hashes is not the only possible one.
    """
    if not 0 <= index < size:
        raise LedgerCorrupt(f"the proof names entry {index} of a log of {size} entries; there is no such entry")
    position, last, computed = index, size - 1, leaf
    for sibling in hashes:
        if last == 0:
            raise LedgerCorrupt(
                f"the inclusion proof has {len(hashes)} hashes, more than entry {index} of {size} needs"
            )
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise LedgerCorrupt(f"the inclusion proof has {len(hashes)} hashes, fewer than entry {index} of {size} needs")
    if computed != root:
        raise LedgerCorrupt(f"the entry is not entry {index} of the log with {size} entries: the root hash differs")


def verify_consistency(*, old_size: int, old_root: bytes, size: int, root: bytes, hashes: Sequence[bytes]) -> None:
    """Check that the older tree is a prefix of the newer one (RFC 9162 section 2.1.4.2); raises LedgerCorrupt."""
    if old_size > size:
        raise LedgerCorrupt(f"the log shrank from {old_size} to {size} entries; history was removed")
    if old_size in {0, size}:
        expected = EMPTY_ROOT if old_size == 0 else root
        if hashes or old_root != expected:
            raise LedgerCorrupt(f"two checkpoints over {old_size} and {size} entries contradict each other")
        return
    path = list(hashes)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    position, last = old_size - 1, size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_computed = new_computed = path[0] if path else b""
    for sibling in path[1:]:
        if last == 0:
            raise LedgerCorrupt(f"the consistency proof from {old_size} to {size} entries has too many hashes")
        if position & 1 or position == last:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position >>= 1
        last >>= 1
    if last or old_computed != old_root or new_computed != root:
        raise LedgerCorrupt(f"the log of {size} entries does not continue the one of {old_size}: history was rewritten")


# ------------------------------------------------------------------------------------------------------- keys, notes


@dataclass(frozen=True, slots=True, repr=False)
class LogKey:
    """The Ed25519 key that signs a log's checkpoints."""

    name: str
    private_key: ed25519.Ed25519PrivateKey
    _public_raw: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_public_raw", _raw(self.private_key.public_key()))

    def __repr__(self) -> str:
        return f"LogKey(name={self.name!r})"

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo in DER (44 bytes for Ed25519)."""
        return self.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verifier_key(self, origin: str) -> str:
        """The key in the form that Go's `sumdb/note` reads: name, key id, and type with key in base64."""
        key_id = _note_key_id(origin, self._public_raw)
        return f"{origin}+{key_id.hex()}+{to_base64(_ED25519_NOTE_TYPE + self._public_raw)}"

    def sign_note(self, text: str, signer: str) -> str:
        """`text` (ended by a newline) as a C2SP signed note with one signature line in the name of `signer`."""
        if not text.endswith("\n") or _has_controls(text):
            raise RecordError("the text of a signed note ends with a newline and has no other control characters")
        if not _NAME.fullmatch(signer):
            raise RecordError(f"{signer!r} cannot sign a note: a key name has no spaces and no plus sign")
        signature = _note_key_id(signer, self._public_raw) + self.private_key.sign(text.encode())
        return f"{text}\n\u2014 {signer} {to_base64(signature)}\n"


def emulated_log_key(keys: SeedKeys, name: str) -> LogKey:
    """The log key `name` of an emulated station, derived from its seed (HKDF-SHA256), the same for the same seed.

    Raises KeyMaterialError when a device of the station is metal, as `SeedKeys.identity` does.
    """
    keys.identity(name, "log")  # refuses metal with the one sentence that all emulated keys share
    raw = HKDF(hash_functions.SHA256(), 32, salt=b"v2gbench emulated log keys/1", info=name.encode()).derive(
        keys.seed.to_bytes(16, "big", signed=True)
    )
    return LogKey(name, ed25519.Ed25519PrivateKey.from_private_bytes(raw))


def stored_log_key(keys: FileKeys, name: str) -> LogKey:
    """The log key of a real station at `<folder>/<name>.pem` (PKCS#8, mode 0600); raises KeyMaterialError."""
    path = keys.folder / f"{name}.pem"
    key = read_private_pem(path)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyMaterialError(f"{path} is not an Ed25519 key; make one with 'v2gbench init'")
    return LogKey(name, key)


def make_log_key(keys: FileKeys, name: str) -> Path:
    """Write a new random log key (mode 0600) and return its path; an existing key is never replaced."""
    return write_private_pem(keys.folder / f"{name}.pem", ed25519.Ed25519PrivateKey.generate())


def verify_note(note: str, *, signer: str, public_key_der: bytes) -> str:
    """The text of a note signed by exactly one line, that of `signer`; raises LedgerCorrupt or RecordError."""
    if _has_controls(note) or not note.endswith("\n"):
        raise RecordError("the signed note has control characters or does not end with a newline")
    text, separator, tail = note[:-1].rpartition("\n\n")
    if not separator:
        raise RecordError("the signed note has no empty line before its signature")
    lines = tail.split("\n")
    parts = lines[0].split(" ")
    if len(lines) != 1 or len(parts) != 3 or parts[0] != "\u2014" or not _NAME.fullmatch(parts[1]):
        raise RecordError("the signed note must end with exactly one line: em dash, key name, base64 signature")
    blob = from_base64(parts[2], where="the signature of the note")
    if len(blob) != _SIGNATURE_BYTES:
        raise RecordError(f"the signature of the note has {len(blob)} bytes; an Ed25519 one has {_SIGNATURE_BYTES}")
    key = _public_key(public_key_der)
    if parts[1] != signer or blob[:4] != _note_key_id(signer, _raw(key)):
        raise LedgerCorrupt(
            f"the note is signed by {parts[1]!r} (key {blob[:4].hex()}), not by the given key of {signer!r}"
        )
    try:
        key.verify(blob[4:], f"{text}\n".encode())
    except InvalidSignature as error:
        raise LedgerCorrupt(f"the signature of {signer!r} does not hold: the note was changed") from error
    return f"{text}\n"


# --------------------------------------------------------------------------------------------- checkpoints and proofs


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log states about itself: its origin, how many entries it has, and their root hash (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"

    def signed(self, key: LogKey) -> str:
        """The checkpoint as a signed note; the key name is the origin."""
        return key.sign_note(self.text, self.origin)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint in a note's text; extension lines are refused because nobody audits them."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not _NAME.fullmatch(lines[0]):
            raise RecordError("a checkpoint has exactly three lines: origin, size and root hash")
        size = _decimal(lines[1], what="the size in the checkpoint")
        return cls(lines[0], size, _hash(lines[2], what="the root hash in the checkpoint"))


def open_checkpoint(note: str, *, origin: str, public_key_der: bytes) -> Checkpoint:
    """The checkpoint in `note` after its signature was checked against this key and origin."""
    checkpoint = Checkpoint.parse(verify_note(note, signer=origin, public_key_der=public_key_der))
    if checkpoint.origin != origin:
        raise LedgerCorrupt(f"the checkpoint is of log {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed proof: entry `index` of the log `origin`, the path to the root, and the signed checkpoint.

    Parsing checks the spelling only; `verify_proof` checks the signature and the hashes.
    """

    origin: str
    index: int
    size: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    text: str


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """The `tlog-proof@v1` text for entry `index` under a signed checkpoint."""
    path = "".join(f"{to_base64(item)}\n" for item in hashes)
    return f"{PROOF_HEADER}\nindex {index}\n{path}\n{checkpoint}"


def parse_proof(text: str) -> TlogProof:
    """Read a `tlog-proof@v1` text; raises RecordError for anything but its one accepted spelling."""
    if _has_controls(text):
        raise RecordError("the log proof has control characters; only newlines are allowed")
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != PROOF_HEADER:
        raise RecordError(f"the log proof does not start with {PROOF_HEADER!r}; it is another kind of file or version")
    if not separator or len(lines) < 2 or not lines[1].startswith("index "):
        raise RecordError("the log proof needs an 'index' line (and no 'extra' line), hashes, and an empty line")
    index = _decimal(lines[1].removeprefix("index "), what="the index in the log proof")
    path = tuple(_hash(line, what=f"hash {number} of the log proof") for number, line in enumerate(lines[2:], 1))
    stated = Checkpoint.parse(checkpoint.partition("\n\n")[0] + "\n")
    if format_proof(index, path, checkpoint) != text:
        raise RecordError("the log proof is not in its canonical spelling; it was edited")
    return TlogProof(stated.origin, index, stated.size, path, checkpoint, text)


def verify_proof(proof_text: str, entry: bytes, public_key_der: bytes, origin: str) -> None:
    """Check offline that `entry` is in the log `origin`, as its key (Ed25519, SubjectPublicKeyInfo DER) signed it.

    Raises RecordError for a malformed text and LedgerCorrupt for a signature or hash that does not hold.
    """
    proof = parse_proof(proof_text)
    checkpoint = open_checkpoint(proof.checkpoint, origin=origin, public_key_der=public_key_der)
    verify_inclusion(
        leaf_hash(entry), index=proof.index, size=checkpoint.size, hashes=proof.hashes, root=checkpoint.root
    )


# ----------------------------------------------------------------------------------------------------------- private


def _split(width: int) -> int:
    """The largest power of two smaller than `width` (RFC 6962 section 2.1: k)."""
    return 1 << ((width - 1).bit_length() - 1)


def _note_key_id(name: str, raw_public_key: bytes) -> bytes:
    """First four bytes of SHA-256 over name, newline, signature type and key (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519_NOTE_TYPE + raw_public_key).digest()[:4]


def _raw(key: ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _public_key(der: bytes) -> ed25519.Ed25519PublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RecordError(f"the log's public key is not a SubjectPublicKeyInfo in DER: {error}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise RecordError("the log's public key is not an Ed25519 key")
    return key


def _has_controls(text: str) -> bool:
    return any((character < " " and character != "\n") or character == "\x7f" for character in text)


def _decimal(text: str, *, what: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise RecordError(f"{what} is not a plain decimal number: {text!r}")
    return int(text)


def _hash(text: str, *, what: str) -> bytes:
    data = from_base64(text, where=what)
    if len(data) != HASH_BYTES:
        raise RecordError(f"{what} has {len(data)} bytes; a SHA-256 hash has {HASH_BYTES}")
    return data
