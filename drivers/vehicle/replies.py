"""Judging the reply of a control unit before anything is read out of it.

A reply can be a refusal, the answer to somebody else's question, cut short, or full of values that only mean "nothing
here". Whoever skips these checks reports 53 zero bytes as a battery at 0 V, so both decoders go through this module:
`check_reply` first, then `NumberReader`, which gives a value with its quality and never a made-up number.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from drivers.errors import DeviceError, LinkGarbled
from drivers.readings import Quality
from drivers.vehicle.diagnostics import Number

NEGATIVE_RESPONSE = 0x7F
POSITIVE_OFFSET = 0x40

# ISO 14229-1, table of negative response codes; those that a request to read can meet.
NEGATIVE_RESPONSES = {
    0x10: "general reject",
    0x11: "service not supported",
    0x12: "sub-function not supported",
    0x13: "wrong message length",
    0x14: "response too long",
    0x21: "busy, repeat the request",
    0x22: "conditions not correct",
    0x31: "request out of range",
    0x33: "security access denied",
    0x78: "response pending",
    0x7E: "sub-function not supported in this session",
    0x7F: "service not supported in this session",
}


class Value(NamedTuple):
    """One decoded value: NaN with a quality that says why where the unit gave no number."""

    value: float
    unit: str
    quality: Quality = Quality.GOOD


class NumberReader:
    """Reads one `Number` of the table out of a payload; the table's facts turned into arithmetic once."""

    __slots__ = (
        "_absent",
        "_bias",
        "_bit",
        "_divisor",
        "_factor",
        "_high",
        "_low",
        "_open",
        "_signed",
        "_size",
        "unit",
    )

    def __init__(self, number: Number) -> None:
        self.unit = number.unit
        self._size = number.type.size
        self._signed = number.type.signed
        self._factor = number.factor
        self._divisor = number.divisor
        self._bias = number.bias
        self._absent = number.absent
        self._open = number.open_circuit
        self._low = -math.inf if number.low is None else number.low
        self._high = math.inf if number.high is None else number.high
        self._bit = number.bit

    def read(self, payload: bytes, offset: int) -> Value:
        """Read the value at `offset`; NO_DATA beyond the end of a payload that is known to be a short variant."""
        end = offset + self._size
        if end > len(payload):
            return Value(math.nan, self.unit, Quality.NO_DATA)
        raw = int.from_bytes(payload[offset:end], "big", signed=self._signed)
        if raw == self._absent:
            return Value(math.nan, self.unit, Quality.NO_DATA)
        if raw == self._open:
            return Value(math.nan, self.unit, Quality.OVER_RANGE)
        if self._bit is not None:
            raw = raw >> self._bit & 1
        value = raw * self._factor / self._divisor + self._bias
        if not self._low <= value <= self._high:
            return Value(math.nan, self.unit, Quality.OVER_RANGE)
        return Value(value, self.unit)


def check_reply(reply: bytes, request: bytes, lengths: tuple[int, ...], *, device: str, unit: str) -> bytes:
    """Return what follows the echo of `request` in a reply that answers it and has one of `lengths` bytes.

    `unit` is the control unit's title for messages. Raises DeviceError with the unit's own code when it refused,
    LinkGarbled when the bytes are no answer to this request; empty `lengths` allows any length.
    """
    sent = request.hex(" ")
    if not reply:
        raise LinkGarbled(f"the {unit} gave an empty reply; ask again", device=device, sent=sent)
    if reply[0] == NEGATIVE_RESPONSE:
        if len(reply) < 3 or reply[1] != request[0]:
            raise LinkGarbled(
                f"the {unit} refused a service that was not asked for; ask again",
                device=device,
                sent=sent,
                last_bytes=reply,
            )
        code = reply[2]
        meaning = NEGATIVE_RESPONSES.get(code, "a code that ISO 14229-1 does not list")
        raise DeviceError(f"the {unit} refused: {meaning}", code=f"0x{code:02X}", device=device, sent=sent)
    echo = bytes((request[0] + POSITIVE_OFFSET & 0xFF,)) + request[1:]
    if reply[: len(echo)] != echo:
        raise LinkGarbled(
            f"the {unit} answered {reply[: len(echo)].hex(' ')} where {echo.hex(' ')} was due; ask again",
            device=device,
            sent=sent,
            last_bytes=reply,
        )
    if lengths and len(reply) not in lengths:
        due = " or ".join(str(length) for length in lengths)
        raise LinkGarbled(
            f"the {unit} answered {len(reply)} bytes where {due} are due; "
            "it is waking up, or this is another battery: ask again after a second",
            device=device,
            sent=sent,
            last_bytes=reply,
        )
    return reply[len(echo) :]
