"""Check a certificate offline, one line per question, believing nothing that can be computed again.

The order matters. First the certificate's own bytes: one spelling, known schema, a proof that holds; if not, nothing
in it can be believed and the rest is not looked at. Then each file it names: size and SHA-256; if one was changed,
what the files say is not examined. Only then their meaning: every signature, every figure against its witness, every
verdict computed again, every log proof, the settlement, the order of times. So a changed byte in any file is found by
the cheapest question that can find it, and the line says which.

Two things this cannot do, and the verdict says so. Whoever holds all the keys can sign everything anew: only a trust
file from elsewhere tells (`intact; signers not checked` without one). And a certificate over witnesses that disagree
is intact: it certifies the disagreement, which the verdict repeats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex, to_canonical
from ledgers.errors import LedgerError, RecordError
from ledgers.evidence import (
    CERTIFICATE_LIMIT_BYTES,
    CERTIFICATE_SCHEMA,
    CertificateSubject,
    FileReference,
    LedgerReference,
    OcmfReference,
    Trust,
    Use,
    check_reference,
    read_reference,
    read_regular_file,
    read_trust_file,
)
from ledgers.formats.credential import Credential, check_credential, read_credential
from ledgers.formats.entry import Entry
from ledgers.formats.ocmf import OcmfRecord, verify_ocmf
from ledgers.formats.tlog import parse_proof, verify_proof
from ledgers.identity import key_id, signature_holds
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.ports import QuoteLine
from ledgers.records import (
    Agreement,
    Direction,
    Material,
    Plane,
    SignedRecord,
    SignedStatement,
    UsageRecord,
    material_problems,
    parse_model,
    reconciliation_problems,
    require_schema,
    statement_problems,
    usage_record_from_bytes,
)

ReadReference = Callable[[FileReference], bytes]

_WH_PER_UNIT = {"Wh": Decimal(1), "kWh": Decimal(1000), "MWh": Decimal(1_000_000)}
_PAID_DIRECTION = {"import_energy": Direction.IMPORT, "v2g_energy": Direction.EXPORT}


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer."""

    name: str
    ok: bool
    detail: str

    @property
    def line(self) -> str:
        """The answer as one line of text."""
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All answers, and what they come to."""

    checks: tuple[Check, ...]
    signers_checked: bool
    material: Material | None  # None when the certificate could not be read
    agreement: Agreement | None
    odd_witness: str | None

    @property
    def ok(self) -> bool:
        """Whether every question was answered with yes."""
        return all(check.ok for check in self.checks)

    @property
    def text(self) -> str:
        """The verdict in one line."""
        failed = [check for check in self.checks if not check.ok]
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            return f"NOT verified: {failed[0].name}: {failed[0].detail}{more}"
        parts = ["intact", "signers checked" if self.signers_checked else "signers not checked"]
        if self.material is not None and self.material is not Material.MEASURED:
            parts.append(f"material {self.material.value}")
        if self.agreement is Agreement.DISAGREE:
            parts.append(f"witnesses disagree, odd one {self.odd_witness or 'not named'}")
        return "; ".join(parts)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line per check and the verdict, to print."""
        return (*(check.line for check in self.checks), self.text)

    def to_json(self) -> dict[str, Json]:
        """The verdict as one JSON object."""
        return {
            "ok": self.ok,
            "verdict": self.text,
            "material": None if self.material is None else self.material.value,
            "reconciliation": None if self.agreement is None else self.agreement.value,
            "odd_witness": self.odd_witness,
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks],
        }


def verify_certificate(path: Path, trust: Path | None = None) -> Verdict:
    """Check the certificate at `path` and the files beside it; with `trust`, check its signers against that file.

    What the certificate names is checked: the signed record, the two OCMF records, ledger entries with their proofs,
    and the settlement receipt. Other files of a run folder (readings, wire trace, report) are not part of it.
    Never raises for anything that a file can hold: a missing, damaged or huge file is a failed check.
    """
    run = _Run()
    trusted: Trust | None = None
    data: bytes | None = None
    with run.check("certificate file") as answer:
        if path.is_dir():
            raise RecordError(f"{path} is a folder; name the certificate.json inside it")
        data = read_regular_file(path, limit=CERTIFICATE_LIMIT_BYTES)
        answer.say(f"{path.name}, {len(data)} bytes")
    if trust is not None:
        with run.check("trust file") as answer:
            trusted = read_trust_file(trust)
            answer.say(f"{trust.name}, {len(trusted.signers)} signers")
    if data is None or (trust is not None and trusted is None):
        return run.verdict(signers_checked=False)
    return _verify(run, data, lambda reference: read_reference(path.parent, reference), trusted)


def verify_bytes(data: bytes, folder: Path, trust: Trust | None = None) -> Verdict:
    """Check certificate bytes against the files of `folder`, before they get their own name there."""
    return _verify(_Run(), data, lambda reference: read_reference(folder, reference), trust)


def verify_in_memory(data: bytes, files: Mapping[str, bytes], trust: Trust | None = None) -> Verdict:
    """Check certificate bytes against `files` by name, without any disk: what a service does with an upload."""

    def read(reference: FileReference) -> bytes:
        if reference.file not in files:
            raise RecordError(f"{reference.file} is missing")
        check_reference(reference, files[reference.file])
        return files[reference.file]

    return _verify(_Run(), data, read, trust)


def verify_record(data: bytes, *, trust: Trust | None = None, require_agreement: bool = True) -> UsageRecord:
    """The usage record in `data` when everything in it holds; this is what money waits for.

    Checks form, schema, station signature, every witness signature and figure, and the recomputed reconciliation.
    With `require_agreement` a record whose witnesses disagree is refused as well, and with `trust` a foreign signer.
    Raises RecordError with the first thing that does not hold.
    """
    run = _Run()
    signed = _record_form(run, data)
    if signed is not None:
        _record_meaning(run, signed, trust)
    failed = [check for check in run.checks if not check.ok]
    if signed is None or failed:
        raise RecordError(f"the usage record does not verify: {failed[0].name}: {failed[0].detail}")
    found = signed.record.reconciliation
    if require_agreement and found.verdict is not Agreement.AGREE:
        raise RecordError(
            f"the usage record's witnesses do not agree ({found.verdict.value}, odd one "
            f"{found.odd_witness or 'not named'}); settle by hand"
        )
    return signed.record


# Private ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """One question while it is being answered: an exception of our tree inside the block is a no."""

    run: _Run
    name: str
    detail: str = "ok"

    def say(self, detail: str) -> None:
        self.detail = detail

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            self.run.checks.append(Check(self.name, True, self.detail))
        elif isinstance(error, LedgerError):
            self.run.checks.append(Check(self.name, False, str(error)))
        return isinstance(error, LedgerError)


@dataclass(slots=True)
class _Run:
    checks: list[Check] = field(default_factory=list)
    material: Material | None = None
    agreement: Agreement | None = None
    odd_witness: str | None = None

    def check(self, name: str) -> _Answer:
        return _Answer(self, name)

    def failed(self) -> bool:
        return any(not check.ok for check in self.checks)

    def verdict(self, *, signers_checked: bool) -> Verdict:
        return Verdict(tuple(self.checks), signers_checked, self.material, self.agreement, self.odd_witness)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _QuoteLine(_Model):
    kind: str
    payer: str
    payee: str
    quantity: str
    quantity_unit: str
    price: str
    price_unit: str
    amount_micro: int
    remainder_micro: str


class _Quote(_Model):
    record_sha256: str
    tariff_name: str
    tariff_sha256: str
    currency: str
    lines: tuple[_QuoteLine, ...]


class _ReceiptSigner(_Model):
    name: str
    role: str
    public_key: str


class _SettlementReceipt(_Model):
    schema_: Literal["v2gbench.settlement-receipt/1.0", "v2gbench.settlement-receipt/1.1"] = Field(alias="schema")
    status: Literal["settled"]
    hold_id: str
    record_sha256: str
    quote: _Quote
    settled_utc: str
    signer: _ReceiptSigner
    signature: str
    lightning: LightningPart | None = None  # since 1.1: how each millisatoshi was paid


def _verify(run: _Run, data: bytes, read: ReadReference, trust: Trust | None) -> Verdict:
    credential, subject = _certificate(run, data)
    if credential is None or subject is None:
        return run.verdict(signers_checked=False)
    run.material = subject.material
    files = _files(run, subject, read)
    if files is None:
        return run.verdict(signers_checked=False)
    signed = _record_form(run, files.record)
    if signed is None:
        return run.verdict(signers_checked=False)
    found = signed.record.reconciliation
    run.agreement, run.odd_witness = found.verdict, found.odd_witness
    _issuer(run, credential, subject, signed)
    _record_meaning(run, signed, trust)
    if subject.ocmf is not None:
        _ocmf(run, subject.ocmf, signed.record, files.by_name)
    else:
        _no_ocmf(run, subject, signed.record)
    for entry in subject.ledger:
        _ledger(run, entry, files, signed.record, trust)
    if subject.settlement is not None:
        _settlement(run, files.by_name[subject.settlement.file], signed.record, subject.record.sha256, trust)
    for part in ("ledger", "settlement"):
        if part in subject.missing:
            run.checks.append(Check(part, True, f"none: {subject.missing[part]}"))
    _times(run, credential, signed.record)
    return run.verdict(signers_checked=trust is not None)


def _certificate(run: _Run, data: bytes) -> tuple[Credential | None, CertificateSubject | None]:
    where = "the certificate"
    credential: Credential | None = None
    subject: CertificateSubject | None = None
    with run.check("certificate form") as answer:
        if len(data) > CERTIFICATE_LIMIT_BYTES:
            raise RecordError(f"{where} has {len(data)} bytes, more than the {CERTIFICATE_LIMIT_BYTES} that are read")
        document = read_credential(data, where=where)
        answer.say("canonical JSON, Verifiable Credential 2.0")
    if run.failed():
        return None, None
    with run.check("certificate schema") as answer:
        body = document["credentialSubject"]
        if not isinstance(body, Mapping):
            raise RecordError(f"{where} has no credentialSubject")
        require_schema(body.get("schema"), CERTIFICATE_SCHEMA, where=where)
        subject = parse_model(CertificateSubject, json.dumps(body).encode(), where=where)
        names = [reference.file for reference in subject.references()]
        problems = subject.missing_problems()
        if len(set(names)) != len(names):
            problems.append("two members name the same file")
        if problems:
            raise RecordError(f"{where}: {problems[0]}")
        answer.say(f"{CERTIFICATE_SCHEMA}, material {subject.material.value}")
    with run.check("certificate proof") as answer:
        credential = check_credential(document, where=where)
        answer.say(f"ecdsa-jcs-2019 by key {key_id(credential.issuer_key_der)}")
    return (None, None) if run.failed() else (credential, subject)


@dataclass(frozen=True, slots=True)
class _Files:
    """The bytes of every file that the certificate names, all as certified."""

    record: bytes
    by_name: Mapping[str, bytes]


def _files(run: _Run, subject: CertificateSubject, read: ReadReference) -> _Files | None:
    files: dict[str, bytes] = {}
    for reference in subject.references():
        with run.check(f"file {reference.file}") as answer:
            files[reference.file] = read(reference)
            answer.say(f"{reference.size} bytes, SHA-256 {reference.sha256[:16]}")
    return _Files(files[subject.record.file], files) if len(files) == len(subject.references()) else None


def _record_form(run: _Run, data: bytes) -> SignedRecord | None:
    with run.check("usage record form") as answer:
        signed = usage_record_from_bytes(data, judge=False)
        answer.say(f"canonical, {signed.record.schema_}, {signed.record.record_id}")
        return signed
    return None


def _issuer(run: _Run, credential: Credential, subject: CertificateSubject, signed: SignedRecord) -> None:
    with run.check("certificate belongs to the record") as answer:
        record = signed.record
        if credential.issuer_key_der != signed.signature.public_key_der:
            raise RecordError("the certificate was issued with another key than the one that signed the usage record")
        if (subject.id, subject.material, subject.session_end) != (
            record.record_id,
            record.station.material,
            record.session.end,
        ):
            raise RecordError("certificate and usage record name another record, material or end of session")
        if credential.credential_id != f"urn:v2gbench:certificate:{subject.record.sha256}":
            raise RecordError("the certificate's id is not made from the usage record's SHA-256")
        answer.say(f"same key, material {record.station.material.value}")


def _record_meaning(run: _Run, signed: SignedRecord, trust: Trust | None) -> None:
    record = signed.record
    with run.check(f"station {record.station.name!r}") as answer:
        if not signed.holds():
            raise RecordError("the station's signature over the usage record does not hold")
        answer.say(f"signature holds, key {signed.signature.key_id}")
    _signer(run, "station", record.station.name, signed.signature.public_key, trust)
    for statement in record.witnesses:
        _witness(run, statement, trust)
    _no_problems(run, "figures as signed", statement_problems(record), "every figure is the one its witness signed")
    _no_problems(run, "material", material_problems(record), record.station.material.value)
    found = record.reconciliation
    detail = f"recomputed from {len(found.pairs)} pairs and {len(found.traces)} traces: {found.verdict.value}"
    if found.odd_witness is not None:
        detail += f", odd witness {found.odd_witness}"
    _no_problems(run, "reconciliation", reconciliation_problems(record.energy, found), detail)
    keys = [statement.signature.public_key for statement in record.witnesses]
    _no_problems(
        run,
        "own keys",
        ["two witnesses signed with the same key"] if len(set(keys)) != len(keys) else [],
        f"{len(keys)} witnesses, {len(set(keys))} keys",
    )


def _witness(run: _Run, signed: SignedStatement, trust: Trust | None) -> None:
    name = signed.statement.witness
    with run.check(f"witness {name!r}") as answer:
        if not signed.holds():
            raise RecordError(f"the signature of {name!r} over its own statement does not hold")
        answer.say(f"signature holds, key {signed.signature.key_id}, {signed.statement.material.value}")
    _signer(run, "witness", name, signed.signature.public_key, trust)


def _signer(run: _Run, use: Use, name: str, public_key: str, trust: Trust | None) -> None:
    if trust is None:
        return
    with run.check(f"signer {use} {name!r}") as answer:
        der = from_base64(public_key, where=f"the public key of {name!r}")
        problem = trust.problem(use, name, der)
        if problem is not None:
            raise RecordError(problem)
        answer.say(f"key {key_id(der)} is in the trust file")


def _no_problems(run: _Run, name: str, problems: list[str], detail: str) -> None:
    run.checks.append(Check(name, not problems, problems[0] if problems else detail))


def _ocmf(run: _Run, reference: OcmfReference, record: UsageRecord, files: Mapping[str, bytes]) -> None:
    signers = [s.signature for s in record.witnesses if s.statement.witness == reference.witness]
    pages: list[int] = []
    for direction, file in ((Direction.IMPORT, reference.imported), (Direction.EXPORT, reference.exported)):
        with run.check(f"OCMF {direction.value}") as answer:
            if not signers:
                raise RecordError(f"the meter {reference.witness!r} is no witness of the usage record")
            found = verify_ocmf(_text(files[file.file], file.file, "ascii"), signers[0].public_key_der)
            _ocmf_matches(found, direction, record, reference.witness)
            pages.append(found.pagination)
            answer.say(f"T{found.pagination}, {found.energy_wh} Wh, signed by {reference.witness!r}")
    if len(pages) == 2:
        gap = [] if pages[1] == pages[0] + 1 else [f"the export record T{pages[1]} does not follow import T{pages[0]}"]
        _no_problems(run, "OCMF pagination", gap, f"T{pages[0]}, T{pages[1]}")


def _ocmf_matches(found: OcmfRecord, direction: Direction, record: UsageRecord, witness: str) -> None:
    figure = record.energy.figure(witness, Plane.AC, direction)
    if found.direction is not direction:
        raise RecordError(f"this OCMF record is of the {found.direction.value} register")
    if figure.value_wh is None or found.energy_wh != Decimal(f"{figure.value_wh:.3f}"):
        raise RecordError(f"the OCMF record says {found.energy_wh} Wh, the usage record {figure.value_wh} Wh")
    if (found.begin, found.end) != (record.session.begin, record.session.end):
        raise RecordError("the OCMF readings were taken at other times than the session's begin and end")
    if found.material is not record.station.material:
        raise RecordError(f"the OCMF record is marked {found.material.value}, the usage record otherwise")


def _no_ocmf(run: _Run, subject: CertificateSubject, record: UsageRecord) -> None:
    with run.check("OCMF") as answer:
        chargers = {s.statement.witness for s in record.witnesses if s.statement.role == "charger"}
        for direction in Direction:
            for figure in record.energy.of(direction):
                if figure.witness in chargers and figure.plane is Plane.AC and figure.value_wh is not None:
                    raise RecordError(f"the charger {figure.witness!r} has metered energy but there is no OCMF record")
        answer.say(f"none: {subject.missing['ocmf']}")


def _ledger(run: _Run, reference: LedgerReference, files: _Files, record: UsageRecord, trust: Trust | None) -> None:
    with run.check(f"ledger {reference.channel}") as answer:
        key = from_base64(reference.public_key, where="the log's public key")
        data = files.record if reference.entry is None else files.by_name[reference.entry.file]
        text = _text(files.by_name[reference.proof.file], reference.proof.file, "utf-8")
        verify_proof(text, data, key, reference.origin)
        proof = parse_proof(text)
        by = "the record itself"
        if reference.entry is not None:
            entry = Entry.parse(data, where=reference.entry.file)
            if (entry.channel, entry.index) != (reference.channel, proof.index):
                raise RecordError(f"the entry says that it is number {entry.index} of channel {entry.channel!r}")
            if entry.anchored.get(record.session.session_id) != sha256_hex(files.record):
                raise RecordError("the entry in the log does not anchor this usage record under its session")
            by = f"anchored by {entry.by.name!r}"
        answer.say(f"entry {proof.index} of {proof.size} in {reference.origin}, {by}")
    _signer(run, "log", reference.origin, reference.public_key, trust)


def _settlement(run: _Run, data: bytes, record: UsageRecord, record_sha256: str, trust: Trust | None) -> None:
    where = "the settlement receipt"
    receipt: _SettlementReceipt | None = None
    with run.check("settlement") as answer:
        document = from_canonical(data, where=where)
        if not isinstance(document, Mapping):
            raise RecordError(f"{where} is not a JSON object")
        require_schema(document.get("schema"), "v2gbench.settlement-receipt/1.0", where=where)
        receipt = parse_model(_SettlementReceipt, data, where=where)
        unsigned = to_canonical({name: item for name, item in document.items() if name != "signature"})
        key = from_base64(receipt.signer.public_key, where=f"{where}: the signer's key")
        if not signature_holds(key, unsigned, from_base64(receipt.signature, where=f"{where}: the signature")):
            raise RecordError(f"the signature of {receipt.signer.name!r} over the settlement receipt does not hold")
        if {receipt.record_sha256, receipt.quote.record_sha256} != {record_sha256}:
            raise RecordError("the settlement receipt is for another usage record")
        for line in receipt.quote.lines:
            _paid_as_measured(line, record)
        answer.say(f"{len(receipt.quote.lines)} lines for this record, signed by {receipt.signer.name!r}")
    if receipt is not None and receipt.lightning is not None:
        with run.check("settlement over Lightning") as answer:
            lines = [QuoteLine(**line.model_dump()) for line in receipt.quote.lines]
            answer.say(
                check_lightning(
                    receipt.lightning, lines, record_sha256=record_sha256, session_id=record.session.session_id
                )
            )
    if receipt is not None:
        _signer(run, "settlement", receipt.signer.name, receipt.signer.public_key, trust)


def _paid_as_measured(line: _QuoteLine, record: UsageRecord) -> None:
    """Energy that is paid must be what a witness measured at the AC plane, within the rounding to a whole Wh."""
    direction = _PAID_DIRECTION.get(line.kind)
    if direction is None:
        return
    if line.quantity_unit not in _WH_PER_UNIT:
        raise RecordError(f"the settlement pays {line.kind} in {line.quantity_unit!r}, which is no unit of energy")
    try:
        paid_wh = Decimal(line.quantity) * _WH_PER_UNIT[line.quantity_unit]
    except InvalidOperation as error:
        raise RecordError(f"the settlement pays {line.kind} for {line.quantity!r}, which is no number") from error
    measured = [
        Decimal(repr(figure.value_wh))
        for figure in record.energy.of(direction)
        if figure.plane is Plane.AC and figure.value_wh is not None
    ]
    if not paid_wh.is_finite() or not any(abs(paid_wh - value) <= Decimal("0.5") for value in measured):
        raise RecordError(
            f"the settlement pays {line.kind} for {paid_wh} Wh, which no witness measured at the AC plane"
        )


def _times(run: _Run, credential: Credential, record: UsageRecord) -> None:
    with run.check("order of times") as answer:
        if not record.session.begin <= record.session.end <= credential.valid_from:
            raise RecordError("session begin, session end and certificate are not in this order")
        answer.say(f"{record.session.begin} to {record.session.end}, issued {credential.valid_from}")


def _text(data: bytes, name: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RecordError(f"{name} is not a text file: {error}") from error
