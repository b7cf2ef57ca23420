"""The credential envelope against W3C's own vector, and what may be certified at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ledgers.canonical import Json, to_canonical
from ledgers.certificate import LedgerEvidence, OcmfEvidence, issue_certificate
from ledgers.errors import KeyMaterialError, RecordError
from ledgers.evidence import (
    TrustedSigner,
    read_regular_file,
    read_trust_file,
    reference_to,
    resolve_inside,
    write_atomically,
    write_trust_file,
)
from ledgers.formats.credential import (
    add_proof,
    base58_decode,
    base58_encode,
    did_key,
    issue_credential,
    public_key_of_did,
    verify_credential,
    verify_proof_of,
)
from ledgers.formats.tlog import emulated_log_key
from ledgers.identity import Identity, SeedKeys
from ledgers.records import utc_text

Bench = Any  # the class of conftest.py, which pytest's importlib mode gives test files no way to import

# W3C "Data Integrity ECDSA Cryptosuites v1.0", test vectors for ecdsa-jcs-2019 with P-256 (w3c/vc-di-ecdsa,
# TestVectors/p256KeyPair.json and TestVectors/ecdsa-jcs-2019-p256).
W3C_PUBLIC_KEY = "zDnaepBuvsQ8cpsWrVKw8fbpGpvPeNSjVPTWoq6cRqaYzBKVP"
W3C_SECRET_KEY = "z42twTcNeSYcnqg1FLuSFs2bsGH3ZqbRHFmvS9XMsYhjxvHN"
W3C_PROOF_VALUE = "z5ptCet75SaEgzG4v4zJhbJtfNi74Wv7Fq15hhKouJQQjEPQvPZKaYxcMXAMLPQS2FXrkCWokNJkFVkwxNzZfD5oT"
W3C_CREATED = "2023-02-24T23:36:38Z"
W3C_DOCUMENT: dict[str, Json] = {
    "@context": ["https://www.w3.org/ns/credentials/v2", "https://www.w3.org/ns/credentials/examples/v2"],
    "id": "urn:uuid:58172aac-d8ba-11ed-83dd-0b3aef56cc33",
    "type": ["VerifiableCredential", "AlumniCredential"],
    "name": "Alumni Credential",
    "description": "A minimum viable example of an Alumni Credential.",
    "issuer": "https://vc.example/issuers/5678",
    "validFrom": "2023-01-01T00:00:00Z",
    "credentialSubject": {"id": "did:example:abcdefgh", "alumniOf": "The School of Examples"},
}


@pytest.fixture
def w3c_issuer() -> Identity:
    secret = base58_decode(W3C_SECRET_KEY[1:], where="W3C")
    assert secret[:2] == b"\x86\x26"  # multicodec p256-priv
    return Identity("w3c", "issuer", ec.derive_private_key(int.from_bytes(secret[2:], "big"), ec.SECP256R1()))


def test_the_proof_of_the_w3c_vector_is_made_byte_for_byte(w3c_issuer: Identity) -> None:
    proof = add_proof(W3C_DOCUMENT, issuer=w3c_issuer, created=W3C_CREATED)["proof"]
    assert isinstance(proof, dict)
    assert proof["proofValue"] == W3C_PROOF_VALUE
    assert proof["verificationMethod"] == f"did:key:{W3C_PUBLIC_KEY}#{W3C_PUBLIC_KEY}"


def test_the_proof_of_the_w3c_vector_holds_and_names_its_key(w3c_issuer: Identity) -> None:
    method = f"did:key:{W3C_PUBLIC_KEY}#{W3C_PUBLIC_KEY}"
    proof: dict[str, Json] = {
        "type": "DataIntegrityProof",
        "cryptosuite": "ecdsa-jcs-2019",
        "created": W3C_CREATED,
        "verificationMethod": method,
        "proofPurpose": "assertionMethod",
        "@context": W3C_DOCUMENT["@context"],
        "proofValue": W3C_PROOF_VALUE,
    }
    assert verify_proof_of({**W3C_DOCUMENT, "proof": proof}, where="W3C") == w3c_issuer.public_key_der
    for member, value in (
        ("created", "2023-02-24T23:36:39Z"),
        ("proofPurpose", "authentication"),
        ("cryptosuite", "ecdsa-rdfc-2019"),
        ("@context", []),
        ("proofValue", W3C_PROOF_VALUE[:-1] + "U"),
        ("verificationMethod", method[:-1] + "Q"),
    ):
        with pytest.raises(RecordError):
            verify_proof_of({**W3C_DOCUMENT, "proof": {**proof, member: value}}, where="W3C")
    with pytest.raises(RecordError, match="changed after it was issued"):
        verify_proof_of({**W3C_DOCUMENT, "name": "Other", "proof": proof}, where="W3C")


def test_a_did_key_spells_the_public_key_and_nothing_else_does(w3c_issuer: Identity) -> None:
    assert did_key(w3c_issuer.public_key_der) == f"did:key:{W3C_PUBLIC_KEY}"
    assert public_key_of_did(f"did:key:{W3C_PUBLIC_KEY}", where="x") == w3c_issuer.public_key_der
    ed25519 = "did:key:z6MkrJVnaZkeFzdQyMZu1cgjg7k1pZZ6pvBQ7XJPt4swbTQ2"  # W3C did:key, an Ed25519 key
    for wrong in (ed25519, "did:web:example.org", "did:key:zDn0", f"did:key:{W3C_PUBLIC_KEY[:-1]}", "did:key:z"):
        with pytest.raises(RecordError):
            public_key_of_did(wrong, where="x")
    with pytest.raises(KeyMaterialError, match="P-256"):
        did_key(emulated_log_key(SeedKeys(7, any_metal=False), "log").public_key_der)


@pytest.mark.parametrize(
    ("data", "text"),
    [  # draft-msporny-base58-03 section 5
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
    ],
)
def test_base58_of_the_internet_draft(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text, where="x") == data


@pytest.mark.parametrize("text", ["0", "O", "I", "l", " 2NEpo", "2" * 129, "ü"])
def test_what_is_not_base58_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="base58btc"):
        base58_decode(text, where="x")


def test_a_credential_reads_back_with_its_issuer(bench: Bench) -> None:
    document = issue_credential(
        "urn:x:1", {"id": "urn:x:2"}, issuer=bench.station, valid_from="2026-03-01T11:00:00.000Z"
    )
    found = verify_credential(to_canonical(document), where="x")
    assert (found.credential_id, found.subject, found.issuer_key_der) == (
        "urn:x:1",
        {"id": "urn:x:2"},
        bench.station.public_key_der,
    )
    assert document["@context"] == ["https://www.w3.org/ns/credentials/v2", {"@vocab": "urn:v2gbench:vocabulary:"}]


def test_a_credential_issued_in_another_name_is_refused(bench: Bench) -> None:
    honest = issue_credential("urn:x:1", {}, issuer=bench.station, valid_from="2026-03-01T11:00:00.000Z")
    foreign = {name: value for name, value in honest.items() if name != "proof"}
    forged = add_proof(foreign, issuer=bench.meter, created="2026-03-01T11:00:00.000Z")
    with pytest.raises(RecordError, match="another key than the issuer's"):
        verify_credential(to_canonical(forged), where="x")


def test_a_proof_of_another_time_is_refused(bench: Bench) -> None:
    honest = issue_credential("urn:x:1", {}, issuer=bench.station, valid_from="2026-03-01T11:00:00.000Z")
    unsigned = {name: value for name, value in honest.items() if name != "proof"}
    late = add_proof(unsigned, issuer=bench.station, created="2026-03-01T12:00:00.000Z")
    with pytest.raises(RecordError, match="another time than validFrom"):
        verify_credential(to_canonical(late), where="x")


@pytest.mark.parametrize(
    "change",
    [
        {"expires": "never"},
        {"type": ["VerifiableCredential"]},
        {"@context": ["https://www.w3.org/ns/credentials/v2"]},
        {"validFrom": "2026-03-01"},
        {"credentialSubject": []},
        {"proof": None},
    ],
)
def test_an_envelope_of_another_shape_is_refused_even_when_signed(bench: Bench, change: dict[str, Json]) -> None:
    honest = issue_credential("urn:x:1", {}, issuer=bench.station, valid_from="2026-03-01T11:00:00.000Z")
    unsigned = {name: value for name, value in honest.items() if name != "proof"} | change
    forged = add_proof(unsigned, issuer=bench.station, created="2026-03-01T11:00:00.000Z")
    with pytest.raises(RecordError):
        verify_credential(to_canonical(forged if "proof" not in change else {**honest, **change}), where="x")


def test_two_issues_of_the_same_session_are_byte_identical(bench: Bench, tmp_path: Path) -> None:
    first, second = bench.certify(tmp_path / "a"), bench.certify(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.name == "certificate.json"


def test_the_certificate_names_files_and_holds_no_figure(bench: Bench, tmp_path: Path) -> None:
    subject = json.loads(bench.certify(tmp_path).read_bytes())["credentialSubject"]
    assert subject["schema"] == "v2gbench.certificate/1.0"
    assert subject["material"] == "emulated"
    assert subject["record"]["file"] == "records/usage_record.json"
    assert subject["record"]["size"] == (tmp_path / "records/usage_record.json").stat().st_size


def test_nothing_is_issued_for_what_does_not_verify(bench: Bench, tmp_path: Path) -> None:
    paths = bench.write_folder(tmp_path)
    paths["import"].write_bytes(paths["import"].read_bytes().replace(b"5012.400", b"5012.401"))
    with pytest.raises(RecordError, match="no certificate was issued: OCMF import"):
        bench.issue(tmp_path, paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records"]


def test_another_issuer_than_the_station_is_refused(bench: Bench, tmp_path: Path) -> None:
    paths = bench.write_folder(tmp_path)
    with pytest.raises(RecordError, match="another key than the one that signed the usage record"):
        issue_certificate(
            tmp_path,
            record=paths["record"],
            ocmf=OcmfEvidence("charger", paths["import"], paths["export"]),
            ledger=[],
            settlement_receipt=None,
            issuer=bench.meter,
            valid_from=utc_text(1_772_362_800.0),
            missing={"ledger": "none", "settlement": "none"},
        )


def test_a_missing_part_needs_a_reason(bench: Bench, tmp_path: Path) -> None:
    paths = bench.write_folder(tmp_path)
    log_key = emulated_log_key(bench.keys, "log").public_key_der

    def issue(**changes: object) -> Path:
        arguments: dict[str, object] = {
            "record": paths["record"],
            "ocmf": OcmfEvidence("charger", paths["import"], paths["export"]),
            "ledger": [LedgerEvidence("records", bench_origin(bench), log_key, paths["record_proof"], None)],
            "settlement_receipt": None,
            "issuer": bench.station,
            "valid_from": utc_text(1_772_362_800.0),
            "missing": {"settlement": "the tariff has expired"},
        }
        return issue_certificate(tmp_path, **{**arguments, **changes})  # type: ignore[arg-type]  # a test's keyword bag

    assert issue().exists()
    with pytest.raises(RecordError, match="settlement is absent without a reason"):
        issue(missing={})
    with pytest.raises(RecordError, match="has a reason to be absent, but is there"):
        issue(settlement_receipt=paths["settlement"])
    with pytest.raises(RecordError, match="metered energy but there is no OCMF record"):
        issue(ocmf=None, missing={"settlement": "x", "ocmf": "forgotten"})


def bench_origin(bench: Bench) -> str:
    return str(next(signer.name for signer in bench.trusted() if signer.use == "log"))


def test_a_certificate_is_not_valid_before_the_session_ended(bench: Bench, tmp_path: Path) -> None:
    paths = bench.write_folder(tmp_path)
    with pytest.raises(RecordError, match="order of times"):
        issue_certificate(
            tmp_path,
            record=paths["record"],
            ocmf=OcmfEvidence("charger", paths["import"], paths["export"]),
            ledger=[],
            settlement_receipt=None,
            issuer=bench.station,
            valid_from=utc_text(1_772_362_799.0),
            missing={"ledger": "none", "settlement": "none"},
        )


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "", ".", "a//b", "a/", ".hidden", "a\\b", "a\0b", "a b", "ü"]
)
def test_a_name_that_could_lead_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match="nothing was read"):
        resolve_inside(tmp_path, name)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(RecordError, match="link out of"):
        resolve_inside(tmp_path / "run", "link")
    with pytest.raises(RecordError, match="outside"):
        reference_to(tmp_path / "run", tmp_path / "secret")
    (tmp_path / "run" / "a").symlink_to("b")
    (tmp_path / "run" / "b").symlink_to("a")
    with pytest.raises(RecordError):
        read_regular_file(resolve_inside(tmp_path / "run", "a"), limit=10)


def test_a_pipe_a_folder_and_a_huge_file_give_one_sentence_and_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="not a regular file"):
        read_regular_file(tmp_path / "pipe", limit=10)
    with pytest.raises(RecordError):
        read_regular_file(tmp_path, limit=10)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(RecordError, match="more than the 10"):
        read_regular_file(tmp_path / "huge", limit=10)


def test_a_file_is_whole_or_absent_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "a", b"one").read_bytes() == b"one"
    assert write_atomically(tmp_path / "a", b"two").read_bytes() == b"two"
    with pytest.raises(RecordError, match="cannot be written"):
        write_atomically(tmp_path / "missing" / "a", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordError, match="cannot be written"):
        write_atomically(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_a_trust_file_reads_back_and_tells_uses_apart(bench: Bench, tmp_path: Path) -> None:
    path = write_trust_file(tmp_path / "trust.json", bench.trusted())
    trust = read_trust_file(path)
    assert set(trust.signers) == set(bench.trusted())
    assert trust.problem("station", "emulated", bench.station.public_key_der) is None
    assert "names no witness 'emulated'" in str(trust.problem("witness", "emulated", bench.station.public_key_der))
    assert "not the one in the trust file" in str(trust.problem("station", "emulated", bench.meter.public_key_der))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema":"v2gbench.trust/2.0","signers":[]}',
        '{"schema":"v2gbench.trust/1.0","signers":[{"use":"friend","name":"a","public_key":""}]}',
        '{"schema":"v2gbench.trust/1.0","signers":[{"use":"log","name":"a","public_key":"?"}]}',
        '{"schema":"v2gbench.trust/1.0","signers":[],"all":true}',
    ],
)
def test_a_broken_trust_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trust.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"trust\.json"):
        read_trust_file(path)


def test_a_signer_states_its_public_half_only(bench: Bench) -> None:
    assert len(TrustedSigner.of("station", bench.station).public_key) == 124  # 91 bytes in base64
