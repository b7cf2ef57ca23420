"""W3C Verifiable Credential 2.0 with an `ecdsa-jcs-2019` Data Integrity proof, as an envelope around anything.

Why this suite: it signs RFC 8785 JSON (the byte form that all our files have already) with P-256 (the key that meters
and OCMF use), so a credential needs no RDF processing and no context fetched from the network, to be made or checked.
The issuer is a `did:key`: the public key itself, spelled as an identifier, resolvable offline by anyone.

Made after "Data Integrity ECDSA Cryptosuites v1.0" (W3C Recommendation, sections 2.1.1 and 3.3), "Verifiable
Credentials Data Model v2.0" and "Controlled Identifiers v1.0" (Multikey, base58btc). The proof value is the 64 bytes
r‖s over SHA-256(proof options) ‖ SHA-256(document).

A credential file is canonical JSON and a newline; `verify_credential` refuses any other spelling, unknown members of
the envelope or the proof, and the twin (n - s) of a signature, so each credential has exactly one accepted byte form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledgers.canonical import Json, from_canonical, to_canonical
from ledgers.errors import KeyMaterialError, RecordError
from ledgers.identity import Identity, der_signature, raw_signature, signature_holds

CONTEXT_V2 = "https://www.w3.org/ns/credentials/v2"
# Terms of our own are given a name inside the credential, so that nobody has to fetch a context to read it.
CONTEXT: tuple[Json, ...] = (CONTEXT_V2, {"@vocab": "urn:v2gbench:vocabulary:"})
CREDENTIAL_TYPE = "BatteryUsageCredential"

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_P256_PUBLIC = b"\x80\x24"  # multicodec p256-pub (0x1200) as a varint
_MEMBERS = {"@context", "id", "type", "issuer", "validFrom", "credentialSubject", "proof"}
_PROOF_MEMBERS = {"@context", "type", "cryptosuite", "created", "verificationMethod", "proofPurpose", "proofValue"}
_PROOF_VALUES = {"type": "DataIntegrityProof", "cryptosuite": "ecdsa-jcs-2019", "proofPurpose": "assertionMethod"}
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential whose proof holds: who issued it, since when it is valid, and what it says."""

    credential_id: str
    issuer: str
    issuer_key_der: bytes
    valid_from: str
    subject: Mapping[str, Json]


def issue_credential(
    credential_id: str, subject: Mapping[str, Json], *, issuer: Identity, valid_from: str
) -> dict[str, Json]:
    """The credential with its proof, as a JSON document; `valid_from` like 2026-03-01T12:00:00.000Z."""
    did = did_key(issuer.public_key_der)
    document: dict[str, Json] = {
        "@context": list(CONTEXT),
        "id": credential_id,
        "type": ["VerifiableCredential", CREDENTIAL_TYPE],
        "issuer": did,
        "validFrom": valid_from,
        "credentialSubject": subject,
    }
    return add_proof(document, issuer=issuer, created=valid_from)


def verify_credential(data: bytes, *, where: str) -> Credential:
    """The credential in `data` after its proof was checked.

    Raises RecordError for anything but its one byte form, for unknown members, and for a proof that does not hold.
    """
    return check_credential(read_credential(data, where=where), where=where)


def check_credential(document: Mapping[str, Json], *, where: str) -> Credential:
    """The second half of `verify_credential`: the proof and the envelope of a document from `read_credential`."""
    subject = document["credentialSubject"]
    credential_id, issuer, valid_from = document["id"], document["issuer"], document["validFrom"]
    if not isinstance(subject, Mapping) or not isinstance(credential_id, str) or not isinstance(issuer, str):
        raise RecordError(f"{where}: credentialSubject must be an object, id and issuer must be texts")
    if not isinstance(valid_from, str) or not _TIMESTAMP.fullmatch(valid_from):
        raise RecordError(f"{where}: validFrom must be a UTC time like 2026-03-01T12:00:00.000Z")
    key = verify_proof_of(document, where=where)
    if did_key(key) != issuer:
        raise RecordError(f"{where}: the proof was made by another key than the issuer's")
    proof = document["proof"]
    if not isinstance(proof, Mapping) or proof["created"] != valid_from:
        raise RecordError(f"{where}: the proof was made at another time than validFrom")
    return Credential(credential_id, issuer, key, valid_from, subject)


def read_credential(data: bytes, *, where: str) -> Mapping[str, Json]:
    """The document in `data`, refused unless it is a canonical BatteryUsageCredential; the proof is not checked."""
    document = from_canonical(data, where=where)
    if not isinstance(document, Mapping):
        raise RecordError(f"{where} is not a JSON object; it is another kind of file")
    unknown = sorted(set(document) ^ _MEMBERS)
    if unknown:
        raise RecordError(f"{where}: these members are unknown or missing: {', '.join(unknown)}")
    if document["@context"] != list(CONTEXT) or document["type"] != ["VerifiableCredential", CREDENTIAL_TYPE]:
        raise RecordError(f"{where} is a credential of another kind than {CREDENTIAL_TYPE}")
    return document


def add_proof(document: Mapping[str, Json], *, issuer: Identity, created: str) -> dict[str, Json]:
    """`document` with an `ecdsa-jcs-2019` proof by `issuer` (any JSON object with an `@context`)."""
    did = did_key(issuer.public_key_der)
    options: dict[str, Json] = {
        "@context": document["@context"],
        "created": created,
        "verificationMethod": f"{did}#{did.removeprefix('did:key:')}",
        **_PROOF_VALUES,
    }
    signature = raw_signature(issuer.sign(_hash_data(document, options)))
    return {**document, "proof": {**options, "proofValue": "z" + base58_encode(signature)}}


def verify_proof_of(document: Mapping[str, Json], *, where: str) -> bytes:
    """The public key (SubjectPublicKeyInfo, DER) that made the proof of `document`; raises RecordError if none did."""
    proof = document.get("proof")
    if not isinstance(proof, Mapping) or set(proof) != _PROOF_MEMBERS:
        raise RecordError(f"{where}: the proof must have exactly the members {', '.join(sorted(_PROOF_MEMBERS))}")
    if any(proof[name] != value for name, value in _PROOF_VALUES.items()):
        raise RecordError(f"{where}: the proof is not an ecdsa-jcs-2019 assertion")
    if proof["@context"] != document.get("@context"):
        raise RecordError(f"{where}: the proof was made for another @context")
    method, value = proof["verificationMethod"], proof["proofValue"]
    if not isinstance(method, str) or not isinstance(value, str) or not value.startswith("z"):
        raise RecordError(f"{where}: the proof's method or value is not a text in base58btc")
    did, _, fragment = method.partition("#")
    key = public_key_of_did(did, where=where)
    if fragment != did.removeprefix("did:key:"):
        raise RecordError(f"{where}: the proof names another key than its did:key")
    unsigned = {name: item for name, item in document.items() if name != "proof"}
    options = {name: item for name, item in proof.items() if name != "proofValue"}
    raw = base58_decode(value[1:], where=f"{where}: the proof value")
    try:
        signature = der_signature(raw)
    except KeyMaterialError as error:
        raise RecordError(f"{where}: {error}") from error
    if not signature_holds(key, _hash_data(unsigned, options), signature):
        raise RecordError(f"{where}: the proof does not hold; the certificate was changed after it was issued")
    return key


def did_key(public_key_der: bytes) -> str:
    """The `did:key` of a P-256 key (SubjectPublicKeyInfo, DER): multicodec p256-pub, compressed point, base58btc."""
    key = serialization.load_der_public_key(public_key_der)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyMaterialError("only P-256 keys have a did:key here")
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return "did:key:z" + base58_encode(_P256_PUBLIC + point)


def public_key_of_did(did: str, *, where: str) -> bytes:
    """The public key (SubjectPublicKeyInfo, DER) that a P-256 `did:key` spells."""
    if not did.startswith("did:key:z"):
        raise RecordError(f"{where}: {did[:80]!r} is not a did:key in base58btc")
    data = base58_decode(did.removeprefix("did:key:z"), where=f"{where}: the did:key")
    if not data.startswith(_P256_PUBLIC) or len(data) != len(_P256_PUBLIC) + 33:
        raise RecordError(f"{where}: the did:key is not of a P-256 key")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data[len(_P256_PUBLIC) :])
    except ValueError as error:
        raise RecordError(f"{where}: the did:key is not a point of P-256: {error}") from error
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def base58_encode(data: bytes) -> str:
    """`data` in the Bitcoin base58 alphabet; a leading zero byte becomes a leading `1`.

    >>> base58_encode(b"Hello World!")
    '2NEpo7TZRRrLZSi2U'
    """
    zeros = len(data) - len(data.lstrip(b"\0"))
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return "1" * zeros + "".join(reversed(digits))


def base58_decode(text: str, *, where: str) -> bytes:
    """The bytes of `text`; raises RecordError for a foreign character or more than 128 of them."""
    if len(text) > 128 or any(character not in _BASE58 for character in text):
        raise RecordError(f"{where} is not base58btc")
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _hash_data(document: Mapping[str, Json], options: Mapping[str, Json]) -> bytes:
    return _jcs_hash(options) + _jcs_hash(document)


def _jcs_hash(document: Mapping[str, Json] | Sequence[Json]) -> bytes:
    return hashlib.sha256(to_canonical(document).removesuffix(b"\n")).digest()
