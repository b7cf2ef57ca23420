"""OCPP-J 1.6 frames as pure functions: text in, a typed frame or a stated fault out.

Section 4.2 of OCPP-J 1.6: a frame is a JSON array, `[2, id, action, payload]` for a CALL, `[3, id, payload]` for a
CALLRESULT, `[4, id, code, description, details]` for a CALLERROR. What is malformed is told apart by whether an answer
can be given: a CALL whose id can be read is answered with a CALLERROR, anything else cannot be.

>>> decode('[2,"19","Heartbeat",{}]')
Call(message_id='19', action='Heartbeat', payload={})
>>> encode_call("19", "Heartbeat", {})
'[2,"19","Heartbeat",{}]'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Never, cast

from drivers.ocpp.payload import Json, Payload

CALL: Final = 2
CALL_RESULT: Final = 3
CALL_ERROR: Final = 4
MAX_ID_LENGTH: Final = 36  # OCPP-J 1.6 section 4.1.4: long enough for a GUID
_LONGEST_ECHOED_ID: Final = 255

# OCPP-J 1.6 section 4.2.3, spelled as there; the corrected spelling of the last is accepted from a peer.
ERROR_CODES: Final = frozenset(
    {
        "NotImplemented",
        "NotSupported",
        "InternalError",
        "ProtocolError",
        "SecurityError",
        "FormationViolation",
        "PropertyConstraintViolation",
        "OccurenceConstraintViolation",
        "TypeConstraintViolation",
        "GenericError",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request; its payload is an object, not yet checked against the schema."""

    message_id: str
    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class CallResult:
    """A positive answer; its payload is an object, not yet checked against the schema."""

    message_id: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class CallError:
    """A negative answer."""

    message_id: str
    code: str
    description: str
    details: Payload


class FrameFault(Exception):
    """A frame is malformed.

    `answer_id` is the id under which the sender of a CALL waits, `answered_id` the id of our own CALL that a malformed
    answer belongs to; both empty where no id could be read. `code` is the OCPP error code of the fault.
    """

    def __init__(
        self, reason: str, *, code: str = "FormationViolation", answer_id: str = "", answered_id: str = ""
    ) -> None:
        self.reason = reason
        self.code = code
        self.answer_id = answer_id
        self.answered_id = answered_id
        super().__init__(reason)


class UnknownMessageType(FrameFault):
    """A message type number other than 2, 3 and 4, which OCPP-J 1.6 section 4.1.3 tells to ignore."""


def decode(data: str) -> Call | CallResult | CallError:
    """The frame in `data`; FrameFault says what is wrong with it and whether it can be answered."""
    try:
        frame = _DECODER.decode(data)
    except (ValueError, RecursionError) as error:
        raise FrameFault(f"not JSON: {error}") from error
    if not isinstance(frame, list) or not frame:
        raise FrameFault("not a JSON array of a message type number and more")
    kind = frame[0]
    if not isinstance(kind, int) or isinstance(kind, bool):
        raise FrameFault("the message type is not a number")
    if kind not in {CALL, CALL_RESULT, CALL_ERROR}:
        raise UnknownMessageType(f"message type {kind} is not one of OCPP 1.6")
    if len(frame) < 2 or not isinstance(frame[1], str) or not frame[1]:
        raise FrameFault("the message id is missing or not a string")
    if kind == CALL:
        return _call(frame)
    return _result(frame) if kind == CALL_RESULT else _error(frame)


def encode_call(message_id: str, action: str, payload: Payload) -> str:
    """The text of a CALL."""
    return _ENCODER.encode([CALL, message_id, action, payload])


def encode_result(message_id: str, payload: Payload) -> str:
    """The text of a CALLRESULT."""
    return _ENCODER.encode([CALL_RESULT, message_id, payload])


def encode_error(message_id: str, code: str, description: str) -> str:
    """The text of a CALLERROR; the description is cut at 255 characters, as section 4.2.3 bounds it."""
    return _ENCODER.encode([CALL_ERROR, message_id, code, description[:255], {}])


def _refuse_constant(word: str) -> Never:
    raise ValueError(f"{word} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _call(frame: list[Json]) -> Call:
    message_id = cast("str", frame[1])
    if len(message_id) > MAX_ID_LENGTH:
        reason = f"the message id has more than {MAX_ID_LENGTH} characters"
        raise FrameFault(reason, answer_id=message_id if len(message_id) <= _LONGEST_ECHOED_ID else "")
    if len(frame) != 4:
        raise FrameFault(f"a CALL has 4 elements, not {len(frame)}", answer_id=message_id)
    _, _, action, payload = frame
    if not isinstance(action, str):
        raise FrameFault("the action is not a string", answer_id=message_id)
    if not isinstance(payload, Mapping):
        raise FrameFault("the payload is not an object", answer_id=message_id)
    return Call(message_id, action, payload)


def _result(frame: list[Json]) -> CallResult:
    message_id = cast("str", frame[1])
    if len(frame) != 3:
        raise FrameFault(f"a CALLRESULT has 3 elements, not {len(frame)}", answered_id=message_id)
    payload = frame[2]
    if not isinstance(payload, Mapping):
        raise FrameFault("the payload of a CALLRESULT is not an object", answered_id=message_id)
    return CallResult(message_id, payload)


def _error(frame: list[Json]) -> CallError:
    message_id = cast("str", frame[1])
    code = frame[2] if len(frame) > 2 else None
    description = frame[3] if len(frame) > 3 else ""
    details = frame[4] if len(frame) > 4 else {}
    if not isinstance(code, str) or not isinstance(description, str) or not isinstance(details, Mapping):
        raise FrameFault("a CALLERROR is [4, id, code, description, details]", answered_id=message_id)
    return CallError(message_id, code, description, details)
