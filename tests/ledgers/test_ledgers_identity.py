"""Keys and signatures: known answers, one spelling, and where seeds are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ledgers.errors import KeyMaterialError
from ledgers.identity import FileKeys, Identity, SeedKeys, der_signature, raw_signature, signature_holds

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

# RFC 6979 appendix A.2.5, curve P-256, SHA-256: private key, and for two messages r and s.
RFC_6979_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
RFC_6979 = [
    (
        b"sample",
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        b"test",
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
]


@pytest.mark.parametrize(("message", "r", "s"), RFC_6979)
def test_signatures_are_those_of_rfc_6979_with_the_lower_s(message: bytes, r: int, s: int) -> None:
    signer = Identity("rfc", "test", ec.derive_private_key(RFC_6979_KEY, ec.SECP256R1()))
    assert decode_dss_signature(signer.sign(message)) == (r, min(s, ORDER - s))
    assert signature_holds(signer.public_key_der, message, signer.sign(message))


def test_the_twin_of_a_signature_is_refused_although_it_is_mathematically_true() -> None:
    signer = SeedKeys(7, any_metal=False).identity("van", "vehicle")
    r, s = decode_dss_signature(signer.sign(b"data"))
    twin = encode_dss_signature(r, ORDER - s)
    signer.private_key.public_key().verify(twin, b"data", ec.ECDSA(hashes.SHA256()))  # true for everyone else
    assert not signature_holds(signer.public_key_der, b"data", twin)


def test_other_spellings_of_signature_and_key_are_refused() -> None:
    signer = SeedKeys(7, any_metal=False).identity("van", "vehicle")
    signature = signer.sign(b"data")
    compressed_point = signer.private_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    # SubjectPublicKeyInfo around the compressed point (RFC 5480 section 2): same key, other bytes.
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + compressed_point
    serialization.load_der_public_key(compressed)  # a true key for everyone else
    long_form = b"\x30\x81" + bytes([len(signature) - 2]) + signature[2:]
    for key, spelled in (
        (compressed, signature),
        (signer.public_key_der + b"\0", signature),
        (signer.public_key_der, signature + b"\0"),
        (signer.public_key_der, long_form),
        (signer.public_key_der, b""),
        (b"", signature),
    ):
        assert not signature_holds(key, b"data", spelled)


def test_a_key_of_another_curve_is_no_signer() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    der = other.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert not signature_holds(der, b"data", other.sign(b"data", ec.ECDSA(hashes.SHA256())))


def test_raw_and_der_forms_are_inverse_and_have_64_bytes() -> None:
    signature = SeedKeys(7, any_metal=False).identity("van", "vehicle").sign(b"data")
    assert len(raw_signature(signature)) == 64
    assert der_signature(raw_signature(signature)) == signature
    with pytest.raises(KeyMaterialError, match="64 bytes"):
        der_signature(b"\0" * 63)


def test_one_seed_gives_one_key_per_name_and_two_seeds_give_others() -> None:
    keys = SeedKeys(7, any_metal=False)
    assert keys.identity("van", "vehicle").public_key_der == keys.identity("van", "x").public_key_der
    assert keys.identity("van", "vehicle").key_id != keys.identity("charger", "charger").key_id
    assert keys.identity("van", "vehicle").key_id != SeedKeys(8, any_metal=False).identity("van", "vehicle").key_id


def test_a_seed_is_refused_as_soon_as_a_device_is_metal() -> None:
    with pytest.raises(KeyMaterialError, match="v2gbench init"):
        SeedKeys(7, any_metal=True).identity("van", "vehicle")


def test_a_stored_key_signs_and_is_refused_when_others_can_read_it(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "keys")
    path = keys.make("van")
    assert path.stat().st_mode & 0o777 == 0o600
    signer = keys.identity("van", "vehicle")
    assert signature_holds(signer.public_key_der, b"data", signer.sign(b"data"))
    with pytest.raises(KeyMaterialError, match="never replaced"):
        keys.make("van")
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="chmod 600"):
        keys.identity("van", "vehicle")
    with pytest.raises(KeyMaterialError, match=r"charger\.pem; make one with 'v2gbench init'"):
        keys.identity("charger", "charger")


def test_a_private_key_is_never_printed() -> None:
    signer = SeedKeys(7, any_metal=False).identity("van", "vehicle")
    assert repr(signer) == f"Identity(name='van', role='vehicle', key_id='{signer.key_id}')"
