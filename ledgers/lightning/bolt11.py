"""Reading an invoice's text (BOLT 11) without a node: what it says, and that the payee's node signed it.

A certificate is checked offline, years later, by somebody who has no Lightning node; so the text must be read here. It
carries amount, payment hash, the hash of what is paid for, and a signature of the payee's node key over all of it:
together with the preimage it shows that this payee was paid this amount for this record.

Source: BOLT 11 (lightning/bolts) and BIP 173 for the bech32 spelling, both from memory; lnd's DecodePayReq is the
other reader in the tests.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from ledgers.errors import RecordError

NETWORKS = {"bc": "mainnet", "tb": "testnet", "tbs": "signet", "sb": "simnet", "bcrt": "regtest"}

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_HEAD = re.compile(r"ln(bcrt|bc|tbs|tb|sb)(?:([1-9][0-9]{0,17})([munp]?))?")
_MSAT = {"": 10**11, "m": 10**8, "u": 10**5, "n": 100}
_TIMESTAMP_WORDS = 7
_SIGNATURE_WORDS = 104
_CHECKSUM_WORDS = 6
_HASH_WORDS = 52
_TAG_HASH, _TAG_DESCRIPTION_HASH, _TAG_EXPIRY = 1, 23, 6
_DEFAULT_EXPIRY_S = 3600


@dataclass(frozen=True, slots=True)
class InvoiceText:
    """What an invoice says. `amount_msat` is 0 and `description_hash` empty when it does not say them."""

    network: str
    amount_msat: int
    payment_hash: str
    description_hash: str
    created_unix_s: int
    expiry_s: int
    digest: bytes
    signature: bytes  # r and s, 32 bytes each

    def signed_by(self, node_key: str) -> bool:
        """Whether the holder of this node key (compressed, 66 hexadecimal digits) signed the invoice."""
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(node_key))
            r, s = int.from_bytes(self.signature[:32], "big"), int.from_bytes(self.signature[32:], "big")
            key.verify(encode_dss_signature(r, s), self.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        except (InvalidSignature, ValueError):
            return False
        return True


def read_invoice_text(text: str) -> InvoiceText:
    """Read an invoice; raises RecordError when it is damaged or lacks its payment hash."""
    head, _, tail = text.rpartition("1")
    found = _HEAD.fullmatch(head)
    if found is None or text != text.lower() or any(letter not in _ALPHABET for letter in tail):
        raise RecordError("the invoice's text is not a Lightning invoice (BOLT 11)")
    words = [_ALPHABET.index(letter) for letter in tail]
    if len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS + _CHECKSUM_WORDS or not _checksum_holds(head, words):
        raise RecordError("the invoice's text was damaged: its checksum does not hold")
    data = words[:-_CHECKSUM_WORDS]
    body, signature = data[:-_SIGNATURE_WORDS], _octets(data[-_SIGNATURE_WORDS:])
    tags = _tags(body[_TIMESTAMP_WORDS:])
    if _TAG_HASH not in tags:
        raise RecordError("the invoice's text names no payment hash")
    expiry = tags.get(_TAG_EXPIRY)
    return InvoiceText(
        network=NETWORKS[found[1]],
        amount_msat=_amount_msat(found[2], found[3]),
        payment_hash=_octets(tags[_TAG_HASH])[:32].hex(),
        description_hash=_octets(tags.get(_TAG_DESCRIPTION_HASH, []))[:32].hex(),
        created_unix_s=_number(body[:_TIMESTAMP_WORDS]),
        expiry_s=_DEFAULT_EXPIRY_S if expiry is None else _number(expiry),
        digest=hashlib.sha256(head.encode() + _octets(body, pad=True)).digest(),
        signature=signature[:64],
    )


def _amount_msat(number: str | None, multiplier: str | None) -> int:
    if number is None:
        return 0
    if multiplier == "p":
        if not number.endswith("0"):
            raise RecordError("the invoice's amount is a fraction of a millisatoshi")
        return int(number) // 10
    return int(number) * _MSAT[multiplier or ""]


def _tags(words: list[int]) -> dict[int, list[int]]:
    """The first field of each kind; hashes of another length than 32 bytes do not count, as the BOLT says."""
    found: dict[int, list[int]] = {}
    place = 0
    while place + 3 <= len(words):
        tag, size = words[place], words[place + 1] * 32 + words[place + 2]
        field = words[place + 3 : place + 3 + size]
        if len(field) < size:
            raise RecordError("the invoice's text was damaged: a field is cut short")
        if tag not in {_TAG_HASH, _TAG_DESCRIPTION_HASH} or size == _HASH_WORDS:
            found.setdefault(tag, field)
        place += 3 + size
    return found


def _number(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value * 32 + word
    return value


def _octets(words: list[int], *, pad: bool = False) -> bytes:
    bits = len(words) * 5
    spare = -bits % 8 if pad else 0
    whole = (bits + spare) // 8
    value = _number(words) << spare
    return (value >> (bits + spare - whole * 8)).to_bytes(whole, "big")


def _checksum_holds(head: str, words: list[int]) -> bool:
    value = 1
    for word in [*(ord(c) >> 5 for c in head), 0, *(ord(c) & 31 for c in head), *words]:
        top = value >> 25
        value = (value & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                value ^= generator
    return value == 1
