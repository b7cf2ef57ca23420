"""Hashing, notes and proofs against published vectors, and every changed byte refused.

Sources: the eight-leaf tree of the certificate-transparency reference tests (also `testonly/constants.go` of
transparency-dev/merkle: inputs, leaf hashes, roots, paths), and the signed note in `example_test.go` of Go's
`golang.org/x/mod/sumdb/note`.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from ledgers.canonical import from_base64
from ledgers.errors import KeyMaterialError, LedgerCorrupt, LedgerError, RecordError
from ledgers.formats import tlog
from ledgers.identity import FileKeys, SeedKeys

INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
NODE_2_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
NODE_4_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
NODE_4_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
NODE_6_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
# entry, size, path from the leaf's sibling up
PATHS = [
    (0, 1, []),
    (0, 8, [LEAF_1, NODE_2_3, NODE_4_7]),
    (5, 8, [LEAF_4, NODE_6_7, ROOTS[4]]),
    (2, 3, [ROOTS[2]]),
    (1, 5, [ROOTS[1], NODE_2_3, LEAF_4]),
]
CONSISTENCIES = [
    (1, 1, []),
    (1, 8, [LEAF_1, NODE_2_3, NODE_4_7]),
    (6, 8, [NODE_4_5, NODE_6_7, ROOTS[4]]),
    (2, 5, [NODE_2_3, LEAF_4]),
]
NOTE_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    NOTE_TEXT + "\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
NOTE_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE_SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ORIGIN = "v2gbench.example/favignana/monitoring"

leaf_counts = st.integers(min_value=1, max_value=70)


def tree_of(count: int) -> tlog.Tree:
    tree = tlog.Tree()
    for number in range(count):
        tree.append(tlog.leaf_hash(number.to_bytes(2, "big")))
    return tree


def plain_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, written as the RFC words it, to compare with."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


@pytest.fixture(scope="module")
def key() -> tlog.LogKey:
    return tlog.emulated_log_key(SeedKeys(seed=7, any_metal=False), "log")


@pytest.fixture(scope="module")
def reference_tree() -> tlog.Tree:
    tree = tlog.Tree()
    for entry in INPUTS:
        tree.append(tlog.leaf_hash(entry))
    return tree


# ------------------------------------------------------------------------------------------------- published vectors


@pytest.mark.parametrize("size", range(9))
def test_the_reference_tree_has_its_published_roots(reference_tree: tlog.Tree, size: int) -> None:
    assert reference_tree.root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_the_reference_tree_has_its_published_inclusion_paths(
    reference_tree: tlog.Tree, index: int, size: int, path: list[str]
) -> None:
    assert [item.hex() for item in reference_tree.inclusion_proof(index, size)] == path
    hashes = [bytes.fromhex(item) for item in path]
    root = bytes.fromhex(ROOTS[size])
    tlog.verify_inclusion(tlog.leaf_hash(INPUTS[index]), index=index, size=size, hashes=hashes, root=root)


@pytest.mark.parametrize(("old_size", "size", "path"), CONSISTENCIES)
def test_the_reference_tree_has_its_published_consistency_proofs(
    reference_tree: tlog.Tree, old_size: int, size: int, path: list[str]
) -> None:
    assert [item.hex() for item in reference_tree.consistency_proof(old_size, size)] == path
    tlog.verify_consistency(
        old_size=old_size,
        old_root=bytes.fromhex(ROOTS[old_size]),
        size=size,
        root=bytes.fromhex(ROOTS[size]),
        hashes=[bytes.fromhex(item) for item in path],
    )


def test_the_signed_note_of_gos_documentation_is_reproduced_byte_by_byte() -> None:
    secret = from_base64(NOTE_SECRET, where="vector")[1:]
    key = tlog.LogKey("PeterNeumann", ed25519.Ed25519PrivateKey.from_private_bytes(secret))
    assert key.verifier_key("PeterNeumann") == NOTE_VERIFIER
    assert key.sign_note(NOTE_TEXT, "PeterNeumann") == NOTE
    assert tlog.verify_note(NOTE, signer="PeterNeumann", public_key_der=key.public_key_der) == NOTE_TEXT


# -------------------------------------------------------------------------------------------------------- properties


@given(leaf_counts)
def test_roots_equal_the_definition_of_the_rfc(count: int) -> None:
    leaves = [tlog.leaf_hash(number.to_bytes(2, "big")) for number in range(count)]
    assert tree_of(count).root() == plain_root(leaves)


@given(st.data())
def test_every_entry_proves_itself_and_no_other(data: st.DataObject) -> None:
    tree = tree_of(data.draw(leaf_counts))
    size = data.draw(st.integers(1, len(tree)))
    index = data.draw(st.integers(0, size - 1))
    hashes, root = tree.inclusion_proof(index, size), tree.root(size)
    tlog.verify_inclusion(tree.leaf(index), index=index, size=size, hashes=hashes, root=root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with pytest.raises(LedgerCorrupt):
            tlog.verify_inclusion(tree.leaf(index), index=other, size=size, hashes=hashes, root=root)
        with pytest.raises(LedgerCorrupt):
            tlog.verify_inclusion(tree.leaf(other), index=index, size=size, hashes=hashes, root=root)
    for wrong in ((*hashes, root), hashes[:-1]):
        if wrong != hashes:
            with pytest.raises(LedgerCorrupt):
                tlog.verify_inclusion(tree.leaf(index), index=index, size=size, hashes=wrong, root=root)


@given(st.data())
def test_a_longer_log_proves_that_it_continues_the_shorter_one(data: st.DataObject) -> None:
    tree = tree_of(data.draw(leaf_counts))
    size = data.draw(st.integers(1, len(tree)))
    old_size = data.draw(st.integers(0, size))
    hashes = tree.consistency_proof(old_size, size)
    old_root, root = tree.root(old_size), tree.root(size)
    tlog.verify_consistency(old_size=old_size, old_root=old_root, size=size, root=root, hashes=hashes)
    rewritten = hashlib.sha256(old_root).digest()
    for old, new, path in (
        (rewritten, root, hashes),
        (old_root, hashlib.sha256(root).digest(), hashes),
        (old_root, root, (*hashes, root)),
        (old_root, root, hashes[:-1]),
    ):
        unchanged = (old, new, path) == (old_root, root, hashes)
        # From the empty log every other log is a continuation, whatever its root.
        if unchanged or (old_size == 0 and (old, path) == (old_root, hashes)):
            continue
        with pytest.raises(LedgerCorrupt):
            tlog.verify_consistency(old_size=old_size, old_root=old, size=size, root=new, hashes=path)


def test_a_shrunken_log_is_refused() -> None:
    tree = tree_of(5)
    with pytest.raises(LedgerCorrupt, match="shrank from 5 to 3"):
        tlog.verify_consistency(old_size=5, old_root=tree.root(), size=3, root=tree.root(3), hashes=())


@pytest.mark.parametrize("index", [-1, 5])
def test_a_missing_entry_has_no_proof(index: int) -> None:
    with pytest.raises(RecordError, match="has no entry"):
        tree_of(5).inclusion_proof(index)


# ------------------------------------------------------------------------------------------------------------- texts


def proof_of(key: tlog.LogKey, *, entries: int = 6, index: int = 4) -> tuple[str, bytes]:
    tree = tree_of(entries)
    checkpoint = tlog.Checkpoint(ORIGIN, entries, tree.root()).signed(key)
    return tlog.format_proof(index, tree.inclusion_proof(index), checkpoint), index.to_bytes(2, "big")


def test_a_proof_has_the_lines_of_the_specification(key: tlog.LogKey) -> None:
    text, entry = proof_of(key)
    lines = text.split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4"]
    assert lines[4:7] == ["", ORIGIN, "6"]
    assert lines[8] == ""
    assert lines[9].startswith(f"\u2014 {ORIGIN} ")
    proof = tlog.parse_proof(text)
    assert (proof.origin, proof.index, proof.size, len(proof.hashes)) == (ORIGIN, 4, 6, 2)
    tlog.verify_proof(text, entry, key.public_key_der, ORIGIN)


def test_a_log_of_one_entry_has_a_proof_without_hashes(key: tlog.LogKey) -> None:
    text, entry = proof_of(key, entries=1, index=0)
    assert tlog.parse_proof(text).hashes == ()
    tlog.verify_proof(text, entry, key.public_key_der, ORIGIN)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_changed_byte_of_a_proof_is_refused(key: tlog.LogKey, mask: int) -> None:
    text, entry = proof_of(key)
    original = text.encode()
    accepted = []
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= mask
        try:
            decoded = changed.decode()
        except UnicodeDecodeError:
            continue
        try:
            tlog.verify_proof(decoded, entry, key.public_key_der, ORIGIN)
        except LedgerError:
            continue
        accepted.append(position)
    assert accepted == []


def test_every_changed_byte_of_the_entry_is_refused(key: tlog.LogKey) -> None:
    text, entry = proof_of(key)
    for position in range(len(entry)):
        changed = bytearray(entry)
        changed[position] ^= 1
        with pytest.raises(LedgerCorrupt, match="root hash differs"):
            tlog.verify_proof(text, bytes(changed), key.public_key_der, ORIGIN)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("index 4", "index 04", "not a plain decimal"),
        ("index 4", "index +4", "not a plain decimal"),
        ("index 4", "index \u0664", "not a plain decimal"),
        ("index 4", "extra QUJD\nindex 4", "no 'extra' line"),
        ("index 4\n", "index 4\n\n", "exactly three lines"),
        ("@v1", "@v2", "does not start with"),
        ("\n\n", "\r\n\r\n", "control characters"),
        ("\n6\n", "\n06\n", "not a plain decimal"),
        ("\n6\n", "\n6\nextension\n", "exactly three lines"),
    ],
)
def test_other_spellings_are_refused(key: tlog.LogKey, old: str, new: str, reason: str) -> None:
    text, entry = proof_of(key)
    assert old in text
    with pytest.raises(RecordError, match=reason):
        tlog.verify_proof(text.replace(old, new, 1), entry, key.public_key_der, ORIGIN)


@pytest.mark.parametrize("tail", ["\n", "\u2014 witness.example AAAA\n", "x"])
def test_anything_after_the_one_signature_is_refused(key: tlog.LogKey, tail: str) -> None:
    text, entry = proof_of(key)
    with pytest.raises(RecordError):
        tlog.verify_proof(text + tail, entry, key.public_key_der, ORIGIN)


def test_a_proof_of_another_log_or_key_is_refused(key: tlog.LogKey) -> None:
    text, entry = proof_of(key)
    with pytest.raises(LedgerCorrupt, match="not by the given key of"):
        tlog.verify_proof(text, entry, key.public_key_der, "v2gbench.example/other/monitoring")
    stranger = tlog.emulated_log_key(SeedKeys(seed=8, any_metal=False), "log")
    with pytest.raises(LedgerCorrupt, match="not by the given key of"):
        tlog.verify_proof(text, entry, stranger.public_key_der, ORIGIN)


def test_a_key_of_another_kind_is_refused(key: tlog.LogKey) -> None:
    text, entry = proof_of(key)
    p256 = SeedKeys(seed=7, any_metal=False).identity("van", "vehicle").public_key_der
    with pytest.raises(RecordError, match="not an Ed25519 key"):
        tlog.verify_proof(text, entry, p256, ORIGIN)
    with pytest.raises(RecordError, match="not a SubjectPublicKeyInfo"):
        tlog.verify_proof(text, entry, b"\x30\x00", ORIGIN)


@pytest.mark.parametrize("name", ["two words", "a+b", "", "tab\t", "thin\u2009space"])
def test_names_that_a_note_cannot_carry_are_refused(key: tlog.LogKey, name: str) -> None:
    with pytest.raises(RecordError):
        key.sign_note("text\n", name)


# -------------------------------------------------------------------------------------------------------------- keys


def test_an_emulated_log_key_is_the_same_for_the_same_seed_and_refused_beside_metal() -> None:
    def public(seed: int, name: str) -> bytes:
        return tlog.emulated_log_key(SeedKeys(seed=seed, any_metal=False), name).public_key_der

    assert public(7, "log") == public(7, "log")
    assert len({public(7, "log"), public(8, "log"), public(7, "other")}) == 3
    with pytest.raises(KeyMaterialError, match="metal device"):
        tlog.emulated_log_key(SeedKeys(seed=7, any_metal=True), "log")


def test_a_stored_log_key_is_private_never_replaced_and_read_back(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "keys")
    path = tlog.make_log_key(keys, "log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = tlog.stored_log_key(keys, "log")
    loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(loaded, ed25519.Ed25519PrivateKey)
    assert key.private_key.private_bytes_raw() == loaded.private_bytes_raw()
    assert "PRIVATE" not in repr(key)
    with pytest.raises(KeyMaterialError, match="never replaced"):
        tlog.make_log_key(keys, "log")
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="chmod 600"):
        tlog.stored_log_key(keys, "log")
    with pytest.raises(KeyMaterialError, match="v2gbench init"):
        tlog.stored_log_key(keys, "missing")
    keys.make("van")
    with pytest.raises(KeyMaterialError, match="not an Ed25519 key"):
        tlog.stored_log_key(keys, "van")
