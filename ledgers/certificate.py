"""Issue a certificate: a usage record together with everything that lets a stranger check it.

The certificate is a W3C Verifiable Credential (`ledgers.formats.credential`) that holds no figure of its own. It names
files of its run folder by size and SHA-256: the signed usage record, the two OCMF records, the ledger proofs (with the
entries they prove) and the settlement receipt. It is issued last, by the station that signed the record, and it is
verified before it gets its name: a certificate that does not verify is never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from ledgers.canonical import Json, to_base64, to_canonical
from ledgers.errors import RecordError
from ledgers.evidence import (
    CERTIFICATE_SCHEMA,
    FILE_LIMIT_BYTES,
    CertificateSubject,
    LedgerReference,
    OcmfReference,
    read_regular_file,
    reference_to,
    write_atomically,
)
from ledgers.formats.credential import issue_credential
from ledgers.identity import Identity
from ledgers.records import SignedRecord, usage_record_from_bytes
from ledgers.verify import verify_bytes

CERTIFICATE_NAME = "certificate.json"

Part = Literal["ocmf", "ledger", "settlement"]


@dataclass(frozen=True, slots=True)
class LedgerEvidence:
    """A channel's proof that an entry with the record stands in its log.

    `proof` is the file of the C2SP tlog-proof, `public_key_der` the log's Ed25519 key, `origin` the log's name. `entry`
    is the file of the stored entry (`ledgers.formats.entry`), None when the entry is the record itself.
    """

    channel: str
    origin: str
    public_key_der: bytes
    proof: Path
    entry: Path | None


@dataclass(frozen=True, slots=True)
class OcmfEvidence:
    """The files of the two OCMF records; `witness` is the charger whose meter signed them."""

    witness: str
    imported: Path
    exported: Path


def write_record(path: Path, record: SignedRecord) -> Path:
    """Write a signed record, whole or not at all; these bytes are what is appended to the ledger and proven."""
    return write_atomically(path, record.to_bytes())


def issue_certificate(
    folder: Path,
    *,
    record: Path,
    ocmf: OcmfEvidence | None,
    ledger: Sequence[LedgerEvidence],
    settlement_receipt: Path | None,
    issuer: Identity,
    valid_from: str,
    missing: dict[Part, str] | None = None,
) -> Path:
    """Write `certificate.json` in `folder` and return its path.

    All paths lie below `folder`. `issuer` is the identity that signed the record; `valid_from` is a UTC text not before
    the session's end (`records.utc_text`). What is None or empty needs its reason in `missing`. Raises RecordError,
    naming the failed check, when the certificate would not verify; then nothing is written.
    """
    signed = usage_record_from_bytes(read_regular_file(record, limit=FILE_LIMIT_BYTES), where=record.name)
    subject = CertificateSubject.model_validate(
        {
            "id": signed.record.record_id,
            "schema": CERTIFICATE_SCHEMA,
            "material": signed.record.station.material,
            "session_end": signed.record.session.end,
            "record": reference_to(folder, record),
            "ocmf": _ocmf(folder, ocmf),
            "ledger": tuple(_ledger(folder, evidence) for evidence in ledger),
            "settlement": None if settlement_receipt is None else reference_to(folder, settlement_receipt),
            "missing": missing or {},
        }
    )
    document = issue_credential(
        f"urn:v2gbench:certificate:{signed.sha256}",
        cast("dict[str, Json]", subject.model_dump(mode="json", by_alias=True)),
        issuer=issuer,
        valid_from=valid_from,
    )
    data = to_canonical(document)
    verdict = verify_bytes(data, folder)
    failed = [check for check in verdict.checks if not check.ok]
    if failed:
        raise RecordError(f"no certificate was issued: {failed[0].name}: {failed[0].detail}")
    return write_atomically(folder / CERTIFICATE_NAME, data)


def _ocmf(folder: Path, ocmf: OcmfEvidence | None) -> OcmfReference | None:
    if ocmf is None:
        return None
    return OcmfReference(
        witness=ocmf.witness,
        imported=reference_to(folder, ocmf.imported),
        exported=reference_to(folder, ocmf.exported),
    )


def _ledger(folder: Path, evidence: LedgerEvidence) -> LedgerReference:
    return LedgerReference(
        channel=evidence.channel,
        origin=evidence.origin,
        public_key=to_base64(evidence.public_key_der),
        entry=None if evidence.entry is None else reference_to(folder, evidence.entry),
        proof=reference_to(folder, evidence.proof),
    )
