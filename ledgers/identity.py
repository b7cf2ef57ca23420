"""Who signs: named P-256 keys, one per witness and party.

Each witness signs with its own key, so that no single party can rewrite a session alone. On emulated material keys
are derived from the station's seed, which makes two runs byte-identical and the keys worthless as proof of anything
but integrity; `SeedKeys` therefore refuses to hand out keys as soon as one device is metal. Metal keys are random,
made by `v2gbench init`, stored with mode 0600 outside the run folder.

Signatures are ECDSA P-256 with SHA-256, DER encoded, with the nonce of RFC 6979, so that the same bytes signed twice
give the same signature. ECDSA has a twin for every signature (s and n - s both verify), DER has lax spellings and a
public key can be written compressed; each of them would let a file change without being noticed. So `sign` gives the
lower s, and `signature_holds` accepts that one spelling only. Every other verifier accepts it as well.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledgers.canonical import sha256_hex
from ledgers.errors import KeyMaterialError

ALGORITHM = "ECDSA-secp256r1-SHA256"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-5, curve P-256


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A party that can sign: its name (`van`, `aggregator`), its role (`vehicle`, `ev_owner`) and its private key."""

    name: str
    role: str
    private_key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, role={self.role!r}, key_id={self.key_id!r})"

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo in DER (91 bytes for P-256)."""
        return self.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the public key: short enough to print."""
        return key_id(self.public_key_der)

    def sign(self, data: bytes) -> bytes:
        """DER signature over `data` (ECDSA P-256, SHA-256, RFC 6979 nonce, the lower of the two s)."""
        der = self.private_key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return encode_dss_signature(r, min(s, _P256_ORDER - s))


def key_id(public_key_der: bytes) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a SubjectPublicKeyInfo."""
    return sha256_hex(public_key_der)[:16]


def signature_holds(public_key_der: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` (DER) over `data` was made by the holder of this P-256 key; False for anything malformed.

    False as well for the other spellings of a true signature: higher s, lax DER, compressed or padded public key.
    """
    try:
        key = serialization.load_der_public_key(public_key_der)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return False
        spelled = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        r, s = decode_dss_signature(signature)
        if spelled != public_key_der or s > _P256_ORDER // 2 or encode_dss_signature(r, s) != signature:
            return False
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def raw_signature(signature: bytes) -> bytes:
    """The 64 bytes r‖s of a DER signature, big-endian (IEEE P1363), as W3C Data Integrity wants them."""
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der_signature(raw: bytes) -> bytes:
    """The DER form of the 64 bytes r‖s; raises KeyMaterialError for another length."""
    if len(raw) != 64:
        raise KeyMaterialError(f"a raw P-256 signature has 64 bytes, not {len(raw)}; the file was damaged")
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


@dataclass(frozen=True, slots=True)
class SeedKeys:
    """Emulated keys: one per name, derived from the station's seed with HKDF-SHA256."""

    seed: int
    any_metal: bool

    def identity(self, name: str, role: str) -> Identity:
        """The key of `name`; the same for the same seed and name.

        Raises KeyMaterialError when a device of the station is metal: a seed is public, so it proves nothing.
        """
        if self.any_metal:
            raise KeyMaterialError(
                f"the key of {name!r} may not come from a seed because the station has a metal device; "
                "run 'v2gbench init' to make random keys and name their folder under 'keys' in the station file"
            )
        raw = HKDF(hashes.SHA256(), 48, salt=b"v2gbench emulated keys/1", info=name.encode()).derive(
            self.seed.to_bytes(16, "big", signed=True)
        )
        # 48 bytes reduced modulo the order: the bias is below 2**-128 (FIPS 186-5 appendix A.2.1).
        scalar = int.from_bytes(raw, "big") % (_P256_ORDER - 1) + 1
        return Identity(name, role, ec.derive_private_key(scalar, ec.SECP256R1()))


@dataclass(frozen=True, slots=True)
class FileKeys:
    """Keys of a real station: `<folder>/<name>.pem`, PKCS#8, readable by their owner alone."""

    folder: Path

    def identity(self, name: str, role: str) -> Identity:
        """The key stored for `name`; raises KeyMaterialError when it is missing, readable by others or not P-256."""
        path = self.folder / f"{name}.pem"
        key = read_private_pem(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyMaterialError(f"{path} is not a P-256 key; make one with 'v2gbench init'")
        return Identity(name, role, key)

    def make(self, name: str) -> Path:
        """Write a new random key for `name` (mode 0600) and return its path; an existing key is never replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        return write_private_pem(self.folder / f"{name}.pem", key)


def read_private_pem(path: Path) -> PrivateKeyTypes:
    """The private key in a PKCS#8 file; raises KeyMaterialError when it is missing, damaged or readable by others."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyMaterialError(f"{path} can be read by others; run 'chmod 600 {path}'")
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise KeyMaterialError(f"there is no key at {path}; make one with 'v2gbench init'") from error
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(f"{path} is not a usable private key: {error}") from error


def write_private_pem(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> Path:
    """Write a key (PKCS#8, mode 0600) and return its path; an existing file is never replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyMaterialError(f"{path} exists already and is never replaced; move it away first") from error
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    return path
