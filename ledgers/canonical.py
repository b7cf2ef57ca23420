r"""One byte form for everything that is hashed or signed: RFC 8785 plus a newline, canonical base64.

A signature protects bytes, so a document must have exactly one spelling. `to_canonical` writes it; `from_canonical`
refuses any other spelling of the same document (spaces, key order, `1.0` for `1`, escapes, a missing newline),
so that a changed byte is always a detected byte.

>>> to_canonical({"b": 1, "a": "x"})
b'{"a":"x","b":1}\n'
>>> from_canonical(b'{"a":"x","b":1}\n', where="example")
{'a': 'x', 'b': 1}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import cast

import rfc8785

from ledgers.errors import RecordError

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_SAFE_INTEGER = 2**53 - 1


def to_canonical(document: Json) -> bytes:
    """RFC 8785 bytes of `document`, ended by one newline.

    Raises RecordError for what JSON cannot carry (NaN, infinities, integers beyond 2**53 - 1, lone surrogates, nesting
    without end).
    """
    try:
        # rfc8785's own type is narrower in name than what it accepts.
        return rfc8785.dumps(cast("dict[str, object]", document)) + b"\n"  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, ValueError, RecursionError) as error:
        raise RecordError(f"the document cannot be written as canonical JSON: {error}") from error


def from_canonical(data: bytes, *, where: str) -> Json:
    """The document in `data`, refused unless `data` is exactly what `to_canonical` writes for it."""
    try:
        document = cast("Json", json.loads(data.decode("utf-8"), parse_int=_integer))
    except (ValueError, RecursionError) as error:  # ValueError covers UTF-8 and JSON
        raise RecordError(f"{where} is not JSON ({error}); it was damaged or is another kind of file") from error
    try:
        canonical = to_canonical(document)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from error
    if canonical != data:
        raise RecordError(f"{where} is not in canonical form (RFC 8785 and a newline); it was edited after signing")
    return document


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def to_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, *, where: str) -> bytes:
    """Bytes of `text`, refused unless it is the one canonical spelling of them (RFC 4648 section 3.5)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise RecordError(f"{where} is not base64: {error}") from error
    if to_base64(data) != text:
        raise RecordError(f"{where} is base64 with stray bits; it was edited after signing")
    return data


def _integer(text: str) -> int | float:
    """A number without a point as RFC 8785 means it: exact up to 2**53 - 1, beyond that the double it stands for."""
    if len(text) > 17 or abs(int(text)) > _SAFE_INTEGER:
        return float(text)
    return int(text)
