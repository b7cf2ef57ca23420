"""Verification: a whole certificate holds; any changed byte, foreign key, or forged meaning does not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import Json, sha256_hex, to_base64, to_canonical
from ledgers.certificate import LedgerEvidence, OcmfEvidence, issue_certificate
from ledgers.embedded.ledger import EmbeddedLedger
from ledgers.embedded.settlement import EmbeddedSettlement
from ledgers.errors import RecordError
from ledgers.evidence import (
    CERTIFICATE_LIMIT_BYTES,
    Trust,
    TrustedSigner,
    read_trust_file,
    write_atomically,
    write_trust_file,
)
from ledgers.formats.credential import add_proof, base58_decode, base58_encode, did_key
from ledgers.formats.ocmf import write_ocmf
from ledgers.formats.tlog import emulated_log_key
from ledgers.identity import Identity
from ledgers.ports import Member
from ledgers.records import Agreement, Direction, Material, Plane, utc_text
from ledgers.tariff import load_tariff
from ledgers.verify import Verdict, verify_certificate, verify_in_memory, verify_record

Bench = Any  # the class of conftest.py, which pytest's importlib mode gives test files no way to import
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def files_of(folder: Path) -> dict[str, bytes]:
    return {f"records/{path.name}": path.read_bytes() for path in (folder / "records").iterdir()}


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.ok]


def changed_values(value: int) -> tuple[int, int, int]:
    """A flipped low bit, a flipped case bit, and another digit: the changes that parsers overlook most easily."""
    return value ^ 0x01, value ^ 0x20, (value + 1) % 256 if value + 1 != value ^ 0x01 else (value - 1) % 256


@pytest.fixture
def folder(bench: Bench, tmp_path: Path) -> Path:
    bench.certify(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def certificate(folder: Path) -> Path:
    return folder / "certificate.json"


def reissue(bench: Bench, folder: Path, edit: Callable[[dict[str, Any]], None], issuer: Identity | None = None) -> Path:
    """The certificate with an edited subject and a true proof, written past all of issue_certificate's checks."""
    path = folder / "certificate.json"
    document = json.loads(path.read_bytes())
    created = document["validFrom"]
    edit(document["credentialSubject"])
    for reference in (
        document["credentialSubject"]["record"],
        *(document["credentialSubject"]["ocmf"][name] for name in ("imported", "exported")),
        document["credentialSubject"]["settlement"],
    ):
        data = (folder / reference["file"]).read_bytes()
        reference |= {"size": len(data), "sha256": sha256_hex(data)}
    document["id"] = f"urn:v2gbench:certificate:{document['credentialSubject']['record']['sha256']}"
    del document["proof"]
    path.write_bytes(to_canonical(add_proof(document, issuer=issuer or bench.station, created=created)))
    return path


def forge_record(bench: Bench, folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """The station edits its own record, signs it again with its true key, and issues a certificate for it."""
    path = folder / "records" / "usage_record.json"
    document = json.loads(path.read_bytes())
    edit(document["record"])
    document["signature"]["signature"] = to_base64(bench.station.sign(to_canonical(document["record"])))
    path.write_bytes(to_canonical(document))
    return reissue(bench, folder, unchanged)


def unchanged(_: dict[str, Any]) -> None:
    """No edit: the files were changed, only their sizes and hashes are to be certified anew."""


# A whole certificate ---------------------------------------------------------------------------------------------


def test_a_whole_certificate_is_intact_and_says_what_was_not_checked(certificate: Path) -> None:
    verdict = verify_certificate(certificate)
    assert verdict.ok
    assert verdict.text == "intact; signers not checked; material emulated"
    assert len(verdict.lines) == len(verdict.checks) + 1
    assert all(line.startswith("ok    ") for line in verdict.lines[:-1])


def test_with_a_trust_file_the_signers_are_checked(bench: Bench, certificate: Path, tmp_path: Path) -> None:
    trust = write_trust_file(tmp_path / "trust.json", bench.trusted())
    verdict = verify_certificate(certificate, trust)
    assert verdict.text == "intact; signers checked; material emulated"
    named = [check.name for check in verdict.checks if check.name.startswith("signer ")]
    assert named == [
        "signer station 'emulated'",
        "signer witness 'charger'",
        "signer witness 'analyzer'",
        "signer witness 'van'",
        *["signer log 'v2gbench.example/emulated/monitoring'"] * 2,
        "signer settlement 'settlement'",
    ]


def test_the_verdict_is_one_json_object(certificate: Path) -> None:
    document = verify_certificate(certificate).to_json()
    assert json.loads(json.dumps(document))["ok"] is True
    assert document["material"] == "emulated"
    assert document["reconciliation"] == "agree"


def test_every_question_of_the_issue_is_a_line(certificate: Path) -> None:
    names = [check.name for check in verify_certificate(certificate).checks]
    for name in (
        "certificate form",
        "certificate schema",
        "certificate proof",
        "file records/usage_record.json",
        "usage record form",
        "station 'emulated'",
        "witness 'van'",
        "figures as signed",
        "reconciliation",
        "OCMF import",
        "OCMF export",
        "ledger monitoring",
        "ledger records",
        "settlement",
        "order of times",
    ):
        assert name in names


# Changed bytes ---------------------------------------------------------------------------------------------------


def assert_every_change_is_found(folder: Path, step: int, start: int = 0) -> int:
    """Change every `step`-th byte of every file in three ways; the number of changes tried."""
    data, files = (folder / "certificate.json").read_bytes(), files_of(folder)
    assert verify_in_memory(data, files).ok
    tried = 0
    for position in range(start, len(data), step):
        for value in changed_values(data[position]):
            verdict = verify_in_memory(data[:position] + bytes((value,)) + data[position + 1 :], files)
            assert not verdict.ok, f"certificate, byte {position}"
            assert failed(verdict)[0].startswith("certificate ")
            tried += 1
    for name, content in files.items():
        for position in range(start % len(content), len(content), step):
            for value in changed_values(content[position]):
                changed = {**files, name: content[:position] + bytes((value,)) + content[position + 1 :]}
                assert failed(verify_in_memory(data, changed)) == [f"file {name}"], f"{name}, byte {position}"
                tried += 1
    return tried


def test_a_sample_of_changed_bytes_is_found_in_every_file(folder: Path) -> None:
    assert assert_every_change_is_found(folder, step=101, start=random.Random(7).randrange(101)) > 450


@pytest.mark.slow
def test_every_changed_byte_of_every_file_is_found(bench: Bench, tmp_path: Path) -> None:
    bench.certify(tmp_path / "run", bench.signed(small=True))
    assert assert_every_change_is_found(tmp_path / "run", step=1) > 25_000


def test_a_changed_byte_on_disk_is_found_and_named(folder: Path, certificate: Path) -> None:
    for path in [certificate, *(folder / "records").iterdir()]:
        whole = path.read_bytes()
        for changed in (whole[:-1], whole + b"\n", whole + b"\0", b"", whole[:40] + b"?" + whole[41:]):
            path.write_bytes(changed)
            verdict = verify_certificate(certificate)
            assert not verdict.ok
            assert verdict.text.startswith(
                f"NOT verified: {'certificate ' if path == certificate else f'file records/{path.name}'}"
            )
        path.write_bytes(whole)
    assert verify_certificate(certificate).ok


@pytest.mark.parametrize("member", ["proofValue"])
def test_the_twin_of_the_certificates_signature_is_refused(certificate: Path, member: str) -> None:
    document = json.loads(certificate.read_bytes())
    raw = base58_decode(document["proof"][member][1:], where="x")
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    for other in (twin, b"\0" + raw, raw + b"\0", raw[:32], b""):
        document["proof"][member] = "z" + base58_encode(other)
        certificate.write_bytes(to_canonical(document))
        assert failed(verify_certificate(certificate)) == ["certificate proof"]


# Missing and hostile files ---------------------------------------------------------------------------------------


def test_a_missing_certificate_is_an_answer_not_an_exception(tmp_path: Path) -> None:
    verdict = verify_certificate(tmp_path / "certificate.json")
    assert verdict.text == f"NOT verified: certificate file: certificate.json is missing from {tmp_path}"


def test_a_missing_file_is_named(folder: Path, certificate: Path) -> None:
    (folder / "records" / "export.ocmf").unlink()
    assert verify_certificate(certificate).lines[-1] == (
        f"NOT verified: file records/export.ocmf: export.ocmf is missing from {folder / 'records'}"
    )


def test_huge_files_are_not_read(folder: Path, certificate: Path) -> None:
    with (folder / "records" / "import.ocmf").open("ab") as file:
        file.truncate(10**12)  # sparse
    assert failed(verify_certificate(certificate)) == ["file records/import.ocmf"]
    with certificate.open("ab") as file:
        file.truncate(CERTIFICATE_LIMIT_BYTES + 1)
    assert "more than the" in verify_certificate(certificate).text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]\n", b"{}\n", b"null\n", b"[" * 200_000, b'{"a":1e400}\n'])
def test_another_kind_of_file_gives_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(content)
    verdict = verify_certificate(path)
    assert failed(verdict) == ["certificate form"]
    assert "\n" not in verdict.text


def test_a_file_name_that_leads_out_of_the_folder_is_not_read(bench: Bench, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_bytes((folder / "records/usage_record.json").read_bytes())

    def edit(subject: dict[str, Any]) -> None:
        subject["ledger"][0]["proof"]["file"] = "../outside.json"

    verdict = verify_certificate(reissue(bench, folder, edit))
    assert "nothing was read" in verdict.text


def test_a_broken_trust_file_fails_the_verification(certificate: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{}")
    assert failed(verify_certificate(certificate, tmp_path / "trust.json")) == ["trust file"]
    assert failed(verify_certificate(certificate, tmp_path / "nowhere.json")) == ["trust file"]


# Signed anew -----------------------------------------------------------------------------------------------------


def test_everything_signed_anew_with_other_keys_is_intact_but_fails_under_trust(
    bench: Bench, bench_of_seed: Callable[[int], Bench], tmp_path: Path
) -> None:
    trust = write_trust_file(tmp_path / "trust.json", bench.trusted())
    forged = bench_of_seed(8).certify(tmp_path / "forged")
    assert verify_certificate(forged).text == "intact; signers not checked; material emulated"
    verdict = verify_certificate(forged, trust)
    assert not verdict.ok
    assert set(failed(verdict)) == {
        "signer station 'emulated'",
        "signer witness 'charger'",
        "signer witness 'analyzer'",
        "signer witness 'van'",
        "signer log 'v2gbench.example/emulated/monitoring'",
        "signer settlement 'settlement'",
    }
    assert "which is not the one in the trust file" in verdict.text


@pytest.mark.parametrize("use", ["station", "witness", "log", "settlement"])
def test_a_signer_that_the_trust_file_leaves_out_is_named(
    bench: Bench, certificate: Path, tmp_path: Path, use: str
) -> None:
    trust = write_trust_file(tmp_path / "trust.json", [signer for signer in bench.trusted() if signer.use != use])
    names = failed(verify_certificate(certificate, trust))
    assert names
    assert all(name.startswith(f"signer {use} ") for name in names)


def test_a_key_trusted_as_a_witness_may_not_sign_as_the_station(
    bench: Bench, certificate: Path, tmp_path: Path
) -> None:
    signers = [s.model_copy(update={"use": "witness"}) if s.use == "station" else s for s in bench.trusted()]
    trust = write_trust_file(tmp_path / "trust.json", signers)
    assert failed(verify_certificate(certificate, trust)) == ["signer station 'emulated'"]


# Forged meaning: the station is dishonest and signs with its true key ---------------------------------------------


def test_the_station_cannot_change_a_witness_figure(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["energy"]["import"][0]["value_wh"] = 5012.5
        for pair in record["reconciliation"]["pairs"]:
            if pair["a"] == "charger" and pair["direction"] == "import":
                pair["difference_wh"] = -7.6

    names = failed(verify_certificate(forge_record(bench, folder, edit)))
    assert "figures as signed" in names
    assert "OCMF import" in names
    assert "settlement" in names
    assert "ledger records" in names


def test_the_station_cannot_change_a_witness_statement(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["witnesses"][2]["statement"]["energy"]["import"][0]["value_wh"] = 4789.0
        record["energy"]["import"][2]["value_wh"] = 4789.0

    names = failed(verify_certificate(forge_record(bench, folder, edit)))
    assert "witness 'van'" in names
    assert "figures as signed" not in names


def test_the_station_cannot_declare_agreement(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["reconciliation"]["pairs"][0]["allowed_wh"] = 999.0

    names = failed(verify_certificate(forge_record(bench, folder, edit)))
    assert "reconciliation" in names


def test_the_station_cannot_sign_for_its_witnesses_without_being_seen(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        for witness in record["witnesses"]:
            signature = bench.station.sign(to_canonical(witness["statement"]))
            key = to_base64(bench.station.public_key_der)
            witness["signature"] |= {"public_key": key, "signature": to_base64(signature)}

    names = failed(verify_certificate(forge_record(bench, folder, edit)))
    assert "own keys" in names
    assert "OCMF import" in names


def test_emulated_cannot_be_called_measured(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["station"]["material"] = "measured"

    names = failed(verify_certificate(forge_record(bench, folder, edit)))
    assert "material" in names


def test_a_record_of_an_unknown_major_version_is_refused(bench: Bench, folder: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["schema"] = "v2gbench.usage-record/2.0"

    verdict = verify_certificate(forge_record(bench, folder, edit))
    assert failed(verdict) == ["usage record form"]
    assert "reads version 1.x" in verdict.text


def test_a_certificate_of_an_unknown_major_version_is_refused(bench: Bench, folder: Path) -> None:
    verdict = verify_certificate(
        reissue(bench, folder, lambda subject: subject.update(schema="v2gbench.certificate/2.0"))
    )
    assert failed(verdict) == ["certificate schema"]
    assert "reads version 1.x" in verdict.text


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.update(mood="good"),
        lambda record: record["witnesses"][0]["statement"].update(mood="good"),
        lambda record: record["energy"]["import"][0].update(confidence=3),
        lambda record: record["devices"][0].update(vin="none"),
    ],
)
def test_a_member_that_the_schema_does_not_know_is_refused(
    bench: Bench, folder: Path, edit: Callable[[dict[str, Any]], None]
) -> None:
    verdict = verify_certificate(forge_record(bench, folder, edit))
    assert failed(verdict) == ["usage record form"]
    assert "unknown to the schema" in verdict.text


def test_an_unknown_member_of_the_certificate_is_refused(bench: Bench, folder: Path) -> None:
    verdict = verify_certificate(reissue(bench, folder, lambda subject: subject.update(mood="good")))
    assert failed(verdict) == ["certificate schema"]


@pytest.mark.parametrize("key", ["", "?", "AAAA", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"])
def test_a_key_that_is_none_is_a_failed_check(bench: Bench, folder: Path, tmp_path: Path, key: str) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["witnesses"][0]["signature"]["public_key"] = key

    trust = write_trust_file(tmp_path / "trust.json", bench.trusted())
    names = failed(verify_certificate(forge_record(bench, folder, edit), trust))
    assert "witness 'charger'" in names
    assert "signer witness 'charger'" in names


def test_a_certificate_issued_by_another_key_than_the_records_is_refused(bench: Bench, folder: Path) -> None:
    document = json.loads((folder / "certificate.json").read_bytes())
    other: Identity = bench.meter
    document["issuer"] = did_key(other.public_key_der)
    del document["proof"]
    forged = add_proof(document, issuer=other, created=document["validFrom"])
    assert failed(verify_in_memory(to_canonical(forged), files_of(folder))) == ["certificate belongs to the record"]


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document, as the path of members and indices that leads there."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))][0 if at else 1 :]


def test_no_content_however_signed_makes_the_verifier_raise(bench: Bench, folder: Path, tmp_path: Path) -> None:
    """A dishonest station with its true key puts junk anywhere; the answer is always a verdict, and never yes."""
    trust = write_trust_file(tmp_path / "trust.json", bench.trusted())
    whole = (folder / "records" / "usage_record.json").read_bytes()
    dice = random.Random(7)
    junk = [
        None,
        True,
        -1,
        1.5,
        1e308,
        "",
        "x",
        "\u0000",
        [],
        {},
        ["x"],
        {"x": 1},
        "2026-03-01T10:00:00.000Z",
        "A" * 300,
    ]
    spots = places(json.loads(whole)["record"])
    for _ in range(120):
        *way, last = dice.choice(spots)
        value: Any = dice.choice(junk)

        def edit(record: Any, way: list[Any] = way, last: Any = last, value: Any = value) -> None:
            for step in way:
                record = record[step]
            record[last] = value if value != record[last] else "something else"

        (folder / "records" / "usage_record.json").write_bytes(whole)
        verdict = verify_certificate(forge_record(bench, folder, edit), trust)
        assert not verdict.ok, (way, last, value)
        assert "\n" not in verdict.text


def test_no_credential_subject_however_signed_makes_the_verifier_raise(bench: Bench, folder: Path) -> None:
    document = json.loads((folder / "certificate.json").read_bytes())
    files, created = files_of(folder), document["validFrom"]
    del document["proof"]
    free = ["credentialSubject", "ledger", 1]  # the label of a proof without an entry, which the station may choose
    values: tuple[Any, ...] = (None, -1, "x", "../x", [], {}, ["x"], "0" * 64)
    for *way, last in places(document):
        for value in values:
            changed = json.loads(json.dumps(document))
            target = changed
            for step in way:
                target = target[step]
            if target[last] == value or (way == free and last == "channel"):
                continue
            target[last] = value
            verdict = verify_in_memory(to_canonical(add_proof(changed, issuer=bench.station, created=created)), files)
            assert not verdict.ok, (way, last, value)


# Proofs and settlement of something else --------------------------------------------------------------------------


def ocmf(bench: Bench, make_ocmf_session: Callable[..., Any], **changes: Any) -> str:
    arguments: dict[str, Any] = {"energy_wh": 5012.4, "pagination": 1, "meter": bench.meter, **changes}
    session = arguments.pop("session", make_ocmf_session())
    return write_ocmf(session, arguments.pop("direction", Direction.IMPORT), **arguments)


def test_ocmf_records_must_tell_what_the_usage_record_tells(
    bench: Bench, folder: Path, make_ocmf_session: Callable[..., Any]
) -> None:
    for changes, sentence in (
        ({"energy_wh": 5012.401}, "the OCMF record says 5012.401 Wh, the usage record 5012.4 Wh"),
        ({"meter": bench.station}, "does not hold for this meter's key"),
        ({"direction": Direction.EXPORT}, "is of the export register"),
        ({"session": make_ocmf_session(begin_utc_s=1_772_359_201.0)}, "at other times than the session's"),
        ({"session": make_ocmf_session(material=Material.MEASURED)}, "is marked measured"),
        ({"pagination": 5}, "does not follow"),
    ):
        (folder / "records" / "import.ocmf").write_text(ocmf(bench, make_ocmf_session, **changes))
        verdict = verify_certificate(reissue(bench, folder, unchanged))
        assert sentence in verdict.text


def test_a_proof_of_another_entry_is_refused(bench: Bench, folder: Path) -> None:
    def edit(subject: dict[str, Any]) -> None:
        subject["ledger"][1]["proof"] = subject["ledger"][0]["proof"]
        del subject["ledger"][0]

    assert failed(verify_certificate(reissue(bench, folder, edit))) == ["ledger records"]


def with_entry(bench: Bench, folder: Path, entry: bytes) -> Path:
    """The certificate over another ledger entry, truly proven."""
    path, proof = folder / "records" / "monitoring.entry", folder / "records" / "monitoring.tlog-proof"
    path.write_bytes(entry)
    proof.write_text(bench.proof(entry))

    def edit(subject: dict[str, Any]) -> None:
        for name, file in (("entry", path), ("proof", proof)):
            data = file.read_bytes()
            subject["ledger"][0][name] |= {"size": len(data), "sha256": sha256_hex(data)}

    return reissue(bench, folder, edit)


def test_a_proven_entry_must_be_about_this_record_and_stand_where_it_says(bench: Bench, folder: Path) -> None:
    true_entry = bench.entry(bench.signed().sha256)
    for entry, sentence in (
        (bench.entry("00" * 32), "does not anchor this usage record"),
        (bench.entry(bench.signed().sha256, channel="remuneration"), "channel 'remuneration'"),
        (bench.entry(bench.signed().sha256, index=2), "number 2"),
        (true_entry.replace(b'"usage/0001"', b'"usage/0002"'), "does not anchor this usage record"),
        (true_entry.replace(b"the_station", b"somebody_xy"), "not the hash of what was asked for"),
        (to_canonical({"record_sha256": bench.signed().sha256}), "another kind of file"),
        (b"{}", "canonical"),
    ):
        verdict = verify_certificate(with_entry(bench, folder, entry))
        assert failed(verdict) == ["ledger monitoring"]
        assert sentence in verdict.text
    assert verify_certificate(with_entry(bench, folder, true_entry)).ok


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda r: r.update(record_sha256="00" * 32), "another usage record"),
        (lambda r: r["quote"].update(record_sha256="00" * 32), "another usage record"),
        (lambda r: r["quote"]["lines"][0].update(quantity="6000"), "which no witness measured"),
        (lambda r: r["quote"]["lines"][0].update(quantity="0"), "which no witness measured"),
        (lambda r: r["quote"]["lines"][0].update(quantity="NaN"), "which no witness measured"),
        (lambda r: r["quote"]["lines"][0].update(quantity="lots"), "which is no number"),
        (lambda r: r["quote"]["lines"][0].update(quantity_unit="kg"), "no unit of energy"),
        (lambda r: r.update(schema="v2gbench.settlement-receipt/2.0"), "reads version 1.x"),
        (lambda r: r.update(tip=1), "unknown to the schema"),
    ],
)
def test_a_settlement_of_something_else_is_refused(
    bench: Bench, folder: Path, edit: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    path = folder / "records" / "settlement.json"
    receipt: dict[str, Any] = json.loads(path.read_bytes())
    del receipt["signature"]
    edit(receipt)
    signature = bench.identity("settlement", "settlement").sign(to_canonical(receipt))
    path.write_bytes(to_canonical({**receipt, "signature": to_base64(signature)}))
    verdict = verify_certificate(reissue(bench, folder, unchanged))
    assert failed(verdict) == ["settlement"]
    assert sentence in verdict.text


def test_energy_may_be_paid_in_whole_watt_hours_and_other_units(bench: Bench, folder: Path) -> None:
    path = folder / "records" / "settlement.json"
    for quantity, unit in (("5012", "Wh"), ("5.0124", "kWh"), ("0.0050124", "MWh"), ("5020.1", "Wh")):
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        del receipt["signature"]
        receipt["quote"]["lines"][0] |= {"quantity": quantity, "quantity_unit": unit}
        signature = bench.identity("settlement", "settlement").sign(to_canonical(receipt))
        path.write_bytes(to_canonical({**receipt, "signature": to_base64(signature)}))
        assert verify_certificate(reissue(bench, folder, unchanged)).ok


# The real ledger and the real accounts -----------------------------------------------------------------------------


def test_a_record_that_went_through_the_embedded_ledger_and_settlement_is_certified(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    paths = bench.write_folder(folder)
    data = paths["record"].read_bytes()
    parties = {role: bench.identity(f"the_{role}", role) for role in ("charging_station", "aggregator", "ev_owner")}
    log_key = emulated_log_key(bench.keys, "log")
    evidence = []
    with EmbeddedLedger(
        tmp_path / "ledger",
        origin="v2gbench.emulated",
        log_key=log_key,
        contract_identity=bench.identity("contract", "contract"),
        members=[Member.of(party) for party in parties.values()],
        clock_utc_s=lambda: 1_772_362_800.0,
    ) as ledger:
        anchor: dict[str, Json] = {
            "session_id": "0001",
            "vehicle_id": "van",
            "record_sha256": sha256_hex(data),
            "utc_s": 1_772_362_800.0,
        }
        for channel, role in (("monitoring", "charging_station"), ("remuneration", "aggregator")):
            argument = to_canonical(anchor).decode().removesuffix("\n")
            receipt = ledger.submit(channel, channel, "usage", argument, identity=parties[role])
            proof = ledger.prove(receipt)
            entry_path = write_atomically(folder / f"{channel}.entry.json", ledger.entry(receipt, parties["ev_owner"]))
            proof_path = write_atomically(folder / f"{channel}.tlog-proof", proof.text.encode())
            evidence.append(LedgerEvidence(channel, proof.origin, proof.public_key_der, proof_path, entry_path))
    with EmbeddedSettlement(
        tmp_path / "accounts",
        tariff=load_tariff(Path(__file__).parents[2] / "tariffs" / "example.yaml"),
        identity=bench.identity("settlement", "settlement"),
        wall_utc_s=lambda: 1_800_000_000.0,
    ) as settlement:
        for account in ("ev_owner", "aggregator"):
            settlement.deposit(account, 100_000_000, payment_id=f"deposit-{account}")
        quote = settlement.quote(
            sha256_hex(data),
            import_wh=Decimal("5012.4"),
            export_wh=Decimal("2990.2"),
            available_power_w=7000,
            available_s=3600,
        )
        paid = settlement.release(settlement.hold(quote).hold_id, record=data, verify=check)
        write_atomically(paths["settlement"], paid.to_canonical())
    certificate = issue_certificate(
        folder,
        record=paths["record"],
        ocmf=OcmfEvidence("charger", paths["import"], paths["export"]),
        ledger=evidence,
        settlement_receipt=paths["settlement"],
        issuer=bench.station,
        valid_from=utc_text(1_772_362_800.0),
    )
    logs = [
        TrustedSigner.of_key("log", f"v2gbench.emulated/{channel}", log_key.public_key_der)
        for channel in ("monitoring", "remuneration")
    ]
    trust = write_trust_file(tmp_path / "trust.json", [*bench.trusted(), *logs])
    assert verify_certificate(certificate, trust).text == "intact; signers checked; material emulated"


def check(record: bytes) -> None:
    verify_record(record)


# Witnesses that disagree ------------------------------------------------------------------------------------------

PLANTED = (
    ("charger", Plane.AC, 5162.8, 3079.9, 0.01),  # 3 % too much
    ("analyzer", Plane.AC, 5020.1, 2984.6, 0.002),
    ("van", Plane.DC, 4790.0, 3168.0, 0.02),
    ("analyzer", Plane.DC, 4775.3, 3160.7, 0.002),
)


def test_a_certified_disagreement_is_intact_and_names_the_odd_witness(
    bench: Bench, tmp_path: Path, make_energy: Callable[..., Any]
) -> None:
    record = bench.signed(make_energy(PLANTED))
    paths = bench.write_folder(tmp_path, record)
    paths["settlement"].write_bytes(with_energies(bench, record))
    verdict = verify_certificate(bench.issue(tmp_path, paths))
    assert verdict.text == ("intact; signers not checked; material emulated; witnesses disagree, odd one charger")
    assert verdict.agreement is Agreement.DISAGREE


def with_energies(bench: Bench, record: Any) -> bytes:
    receipt: dict[str, Any] = json.loads(bench.settlement_receipt(record, import_wh="5162.8"))
    del receipt["signature"]
    receipt["quote"]["lines"][1]["quantity"] = "2984.6"  # paid by the analyzer
    signature = bench.identity("settlement", "settlement").sign(to_canonical(receipt))
    return to_canonical({**receipt, "signature": to_base64(signature)})


def test_a_record_of_a_vehicle_alone_is_certified_without_ocmf_and_is_not_judged(
    bench: Bench, tmp_path: Path, make_energy: Callable[..., Any]
) -> None:
    record = bench.signed(make_energy((("van", Plane.DC, 4790.0, 3168.0, 0.02),)))
    paths = bench.write_folder(tmp_path, record)
    certificate = issue_certificate(
        tmp_path,
        record=paths["record"],
        ocmf=None,
        ledger=[],
        settlement_receipt=None,
        issuer=bench.station,
        valid_from=utc_text(1_772_362_800.0),
        missing={"ocmf": "there was no charger", "ledger": "not asked for", "settlement": "nothing was metered"},
    )
    verdict = verify_certificate(certificate)
    assert verdict.ok
    assert verdict.agreement is Agreement.NOT_JUDGED
    for line in ("OCMF: none: there was no charger", "settlement: none: nothing was metered"):
        assert f"ok    {line}" in verdict.lines


def test_an_ocmf_meter_must_be_a_witness(bench: Bench, folder: Path) -> None:
    verdict = verify_certificate(reissue(bench, folder, lambda subject: subject["ocmf"].update(witness="somebody")))
    assert failed(verdict) == ["OCMF import", "OCMF export"]
    assert "is no witness" in verdict.text


# The record alone: what money waits for ---------------------------------------------------------------------------


def test_money_waits_for_a_record_that_verifies_and_agrees(
    bench: Bench, tmp_path: Path, make_energy: Callable[..., Any]
) -> None:
    assert verify_record(bench.signed().to_bytes()).record_id == "urn:v2gbench:record:emulated:0001"
    disagreeing = bench.signed(make_energy(PLANTED)).to_bytes()
    with pytest.raises(RecordError, match="odd one charger"):
        verify_record(disagreeing)
    assert verify_record(disagreeing, require_agreement=False).reconciliation.odd_witness == "charger"


def test_money_does_not_move_for_a_changed_record_or_a_foreign_signer(
    bench: Bench, bench_of_seed: Callable[[int], Bench], tmp_path: Path
) -> None:
    data = bench.signed().to_bytes()
    for position in range(0, len(data), 101):
        for value in changed_values(data[position]):
            with pytest.raises(RecordError):
                verify_record(data[:position] + bytes((value,)) + data[position + 1 :])
    trust: Trust = read_trust_file(write_trust_file(tmp_path / "trust.json", bench.trusted()))
    verify_record(data, trust=trust)
    with pytest.raises(RecordError, match="signer station 'emulated'"):
        verify_record(bench_of_seed(8).signed().to_bytes(), trust=trust)


def test_a_document_of_json_is_needed_to_sign() -> None:
    nonsense: Json = {"not": "a record"}
    with pytest.raises(RecordError, match="no member 'record'"):
        verify_record(to_canonical(nonsense))
