"""The files of a certificate: how they are named, read, written, and by whom they may be signed.

A certificate names other files by a path inside its own folder, their size and their SHA-256. The path is the one part
that acts on a reader's machine, so it is held tight: plain names, no way out of the folder, no links out of it, only
regular files, never more bytes read than were certified.

The trust file is the reader's own list of keys, got from somewhere else than the run folder: whoever holds all keys of
a station can sign everything anew, and only an outside list can tell.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledgers.canonical import from_base64, sha256_hex, to_base64
from ledgers.errors import RecordError
from ledgers.identity import Identity, key_id
from ledgers.records import Material, Name, Sha256Text, UtcText, parse_model

CERTIFICATE_SCHEMA = "v2gbench.certificate/1.0"
TRUST_SCHEMA = "v2gbench.trust/1.0"
CERTIFICATE_LIMIT_BYTES = 1024 * 1024
TRUST_LIMIT_BYTES = 1024 * 1024
FILE_LIMIT_BYTES = 64 * 1024 * 1024

Use = Literal["station", "witness", "log", "settlement"]

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileReference(_Model):
    """A file beside the certificate: path below its folder with `/` between parts, size in bytes, SHA-256."""

    file: Name
    size: Annotated[int, Field(ge=0, le=FILE_LIMIT_BYTES)]
    sha256: Sha256Text


class OcmfReference(_Model):
    """The two OCMF records and the witness whose meter signed them."""

    witness: Name
    imported: FileReference
    exported: FileReference


class LedgerReference(_Model):
    """An entry of a channel that holds the record or its hash, and the proof that it stands in the log.

    `public_key` is the log's Ed25519 key (SubjectPublicKeyInfo in DER, base64). `entry` is the stored entry, null when
    the entry is the usage record itself.
    """

    channel: Name
    origin: Name
    public_key: str
    entry: FileReference | None
    proof: FileReference


class CertificateSubject(_Model):
    """What the certificate says: which record, and everything that proves it. What is not there has its reason."""

    id: Name  # the record's own
    schema_: Literal["v2gbench.certificate/1.0"] = Field(alias="schema")
    material: Material
    session_end: UtcText
    record: FileReference
    ocmf: OcmfReference | None
    ledger: tuple[LedgerReference, ...]
    settlement: FileReference | None
    missing: dict[Literal["ocmf", "ledger", "settlement"], str]

    def references(self) -> tuple[FileReference, ...]:
        """Every file that the certificate names, in a fixed order."""
        found = [self.record]
        if self.ocmf is not None:
            found += [self.ocmf.imported, self.ocmf.exported]
        for entry in self.ledger:
            found += [entry.proof] if entry.entry is None else [entry.entry, entry.proof]
        if self.settlement is not None:
            found.append(self.settlement)
        return tuple(found)

    def missing_problems(self) -> list[str]:
        """Where something is absent without a reason, or has a reason although it is there."""
        absent = {
            name
            for name, there in (("ocmf", self.ocmf), ("ledger", self.ledger), ("settlement", self.settlement))
            if not there
        }
        return [f"{name} is absent without a reason" for name in sorted(absent - set(self.missing))] + [
            f"{name} has a reason to be absent, but is there" for name in sorted(set(self.missing) - absent)
        ]


class TrustedSigner(_Model):
    """A key and the one thing that it is trusted for; the name of a log is its origin."""

    use: Use
    name: Name
    public_key: str  # SubjectPublicKeyInfo in DER, base64

    @classmethod
    def of(cls, use: Use, identity: Identity) -> TrustedSigner:
        """The public half of `identity`, trusted for `use`."""
        return cls(use=use, name=identity.name, public_key=to_base64(identity.public_key_der))

    @classmethod
    def of_key(cls, use: Use, name: str, public_key_der: bytes) -> TrustedSigner:
        """A public key (SubjectPublicKeyInfo, DER), trusted for `use` under `name`; for logs."""
        return cls(use=use, name=name, public_key=to_base64(public_key_der))


class Trust(_Model):
    """The reader's own list of signers."""

    schema_: Literal["v2gbench.trust/1.0"] = Field(alias="schema")
    signers: tuple[TrustedSigner, ...]

    def problem(self, use: Use, name: str, public_key_der: bytes) -> str | None:
        """Why this key is not trusted for `use` under `name`, or None when it is."""
        keys = [signer.public_key for signer in self.signers if (signer.use, signer.name) == (use, name)]
        if to_base64(public_key_der) in keys:
            return None
        short = key_id(public_key_der)
        if not keys:
            return f"the trust file names no {use} {name!r}; it signed with key {short}"
        return f"{use} {name!r} signed with key {short}, which is not the one in the trust file"


def read_trust_file(path: Path) -> Trust:
    """The trust file at `path` (JSON, in any spelling); raises RecordError for anything else."""
    data = read_regular_file(path, limit=TRUST_LIMIT_BYTES)
    trust = parse_model(Trust, data, where=f"trust file {path.name}")
    for signer in trust.signers:
        from_base64(signer.public_key, where=f"trust file {path.name}: the key of {signer.name!r}")
    return trust


def write_trust_file(path: Path, signers: Iterable[TrustedSigner]) -> Path:
    """Write the signers as a trust file, sorted, readable by people; keep it outside the run folder."""
    ordered = sorted(signers, key=lambda signer: (signer.use, signer.name, signer.public_key))
    trust = Trust.model_validate({"schema": TRUST_SCHEMA, "signers": tuple(ordered)})
    return write_atomically(path, (trust.model_dump_json(by_alias=True, indent=2) + "\n").encode())


def reference_to(folder: Path, path: Path) -> FileReference:
    """A reference to `path` from a certificate in `folder`; raises RecordError when it lies elsewhere."""
    try:
        name = path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise RecordError(f"{path} lies outside {folder}; a certificate names files of its own folder only") from error
    data = read_regular_file(resolve_inside(folder, name), limit=FILE_LIMIT_BYTES)
    return FileReference(file=name, size=len(data), sha256=sha256_hex(data))


def read_reference(folder: Path, reference: FileReference) -> bytes:
    """The bytes that a certificate in `folder` refers to; raises RecordError when they are not the certified ones."""
    path = resolve_inside(folder, reference.file)
    data = read_regular_file(path, limit=FILE_LIMIT_BYTES, expected=reference.size)
    check_reference(reference, data)
    return data


def check_reference(reference: FileReference, data: bytes) -> None:
    """Raise RecordError unless `data` has the certified size and hash."""
    if len(data) != reference.size:
        raise RecordError(f"{reference.file} has {len(data)} bytes, {reference.size} were certified")
    if sha256_hex(data) != reference.sha256:
        raise RecordError(f"{reference.file} was changed: its SHA-256 is not the certified one")


def resolve_inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`; raises RecordError for a name that could lead anywhere else."""
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise RecordError(f"{name!r} is not a plain file name inside the certificate's folder; nothing was read")
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise RecordError(f"{name!r} cannot be resolved: {error}") from error
    if not inside:
        raise RecordError(f"{name!r} is a link out of the certificate's folder; nothing was read")
    return path


def read_regular_file(path: Path, *, limit: int, expected: int | None = None) -> bytes:
    """All bytes of a regular file; raises RecordError, in one sentence, when it is missing, special, or too large."""
    try:
        # O_NONBLOCK: a pipe in the place of a file must not hold the reader.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordError(f"{path.name} is not a regular file")
            if expected is not None and status.st_size != expected:
                raise RecordError(f"{path.name} has {status.st_size} bytes, {expected} were certified")
            if status.st_size > limit:
                raise RecordError(f"{path.name} has {status.st_size} bytes, more than the {limit} that are read")
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise RecordError(f"{path.name} is missing from {path.parent}") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise RecordError(f"{path.name} grew beyond {limit} bytes while it was read")
    return data


def write_atomically(path: Path, data: bytes) -> Path:
    """Write `data` so that the file is whole or absent even after a power cut: temporary file, fsync, rename, fsync.

    Raises RecordError when the disk refuses; no temporary file is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RecordError(
            f"{path} cannot be written: {error.strerror}; free the disk or choose another folder"
        ) from error
    return path
