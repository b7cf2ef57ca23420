"""Payloads of OCPP messages: JSON objects, read with the type that the schema has already promised.

A payload is checked against its schema at the edge (`drivers.ocpp.schemas`); behind it these readers only narrow types,
so that no `Any` travels through the project. A wrong type here is a defect of ours and says so.

>>> payload = {"connectorId": 1, "idTag": "BENCH"}
>>> integer(payload, "connectorId"), text(payload, "idTag"), text(payload, "parentIdTag", "")
(1, 'BENCH', '')
>>> stamp(1_768_464_000.0)
'2026-01-15T08:00:00.000Z'
>>> utc_s(stamp(1_768_464_000.5))
1768464000.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from drivers.errors import BenchError

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Payload = Mapping[str, Json]


def text(payload: Payload, key: str, default: str | None = None) -> str:
    """The string under `key`; `default` where the key is optional and absent."""
    value = payload.get(key, default)
    if not isinstance(value, str):
        raise _wrong(key, "a string", value)
    return value


def integer(payload: Payload, key: str, default: int | None = None) -> int:
    """The integer under `key`; `default` where the key is optional and absent."""
    value = payload.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, "an integer", value)
    return value


def number(payload: Payload, key: str) -> float:
    """The number under `key`."""
    value = payload.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(key, "a number", value)
    return float(value)


def member(payload: Payload, key: str) -> Payload:
    """The object under `key`."""
    value = payload.get(key)
    if not isinstance(value, Mapping):
        raise _wrong(key, "an object", value)
    return value


def members(payload: Payload, key: str) -> Sequence[Payload]:
    """The list of objects under `key`; empty where the key is absent."""
    value = payload.get(key, ())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _wrong(key, "a list", value)
    for item in value:
        if not isinstance(item, Mapping):
            raise _wrong(key, "a list of objects", item)
    return cast("Sequence[Payload]", value)


def texts(payload: Payload, key: str) -> Sequence[str]:
    """The list of strings under `key`; empty where the key is absent."""
    value = payload.get(key, ())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _wrong(key, "a list", value)
    for item in value:
        if not isinstance(item, str):
            raise _wrong(key, "a list of strings", item)
    return cast("Sequence[str]", value)


def stamp(seconds_utc: float) -> str:
    """RFC 3339 with milliseconds and Z, the form that OCPP-J 1.6 section 3 recommends."""
    moment = datetime.fromtimestamp(round(seconds_utc, 3), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def utc_s(moment: str) -> float:
    """Seconds since 1970 of an RFC 3339 stamp; one without a zone is taken as UTC, as OCPP 1.6 section 3.9 expects."""
    try:
        parsed = datetime.fromisoformat(moment)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return parsed.timestamp()
    except (ValueError, OverflowError) as error:
        raise BenchError(f"{moment!r} is not a date and time in RFC 3339 form") from error


def _wrong(key: str, wanted: str, value: object) -> BenchError:
    return BenchError(f"OCPP field {key!r} should be {wanted}, not {value!r}; this is a defect of the bench")
