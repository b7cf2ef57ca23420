"""The answering side of ISO-TP (ISO 15765-2) on classic CAN, as a state machine without a clock or a bus.

Both wire faces of the van need it: on CAN the tester sends flow control, behind an ELM327 the adapter does. So the
responder takes frames and the time, and gives frames; whoever owns the bus decides when. Own code, because the
behaviour of a busy control unit matters here: a request that comes while a reply is on its way is dropped silently, as
the battery controller of the real car does (dalathegreat/Battery-Emulator).

>>> responder = IsoTpResponder(lambda request: bytes(10), padding=0xFF)
>>> [frame.hex() for frame in responder.receive(bytes.fromhex("0221010000000000"), 0.0)]
['100a000000000000']
>>> [frame.hex() for frame in responder.receive(bytes.fromhex("300000ffffffffff"), 0.0)]
['2100000000ffffff']
"""

from __future__ import annotations

import math
from collections.abc import Callable

FRAME_BYTES = 8
SINGLE, FIRST, CONSECUTIVE, FLOW_CONTROL = 0x0, 0x1, 0x2, 0x3
CONTINUE, WAIT, OVERFLOW = 0x0, 0x1, 0x2
PEER_TIMEOUT_S = 1.0  # N_Bs and N_Cr, ISO 15765-2 table of network layer timing
MAX_BYTES = 4095


class IsoTpResponder:
    """One control unit's end: frames of a request in, frames of its reply out.

    `answer` turns a whole request into a whole reply, or None for silence. Times are seconds of any steady clock, the
    same in every call.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None], *, padding: int) -> None:
        self._answer = answer
        self._padding = bytes((padding,))
        self._reply = b""
        self._sent = 0
        self._sequence = 0
        self._waits_until_s = -math.inf  # for flow control, while > 0 bytes are left and no block is open
        self._block_left = 0.0
        self._gap_s = 0.0
        self._next_at_s = math.inf
        self._request = bytearray()
        self._request_bytes = 0
        self._request_sequence = 0
        self._request_until_s = -math.inf

    def is_busy(self, now_s: float) -> bool:
        """Whether a reply is on its way, flow control awaited included."""
        return self._next_at_s < math.inf or self.waits_for_flow_control(now_s)

    def waits_for_flow_control(self, now_s: float) -> bool:
        """Whether the tester must send a flow control frame for more to come; ends by itself after a second."""
        return self._sent < len(self._reply) and self._next_at_s == math.inf and now_s < self._waits_until_s

    @property
    def next_due_s(self) -> float:
        """When `due` has the next frame; infinite when there is none."""
        return self._next_at_s

    def receive(self, data: bytes, now_s: float) -> list[bytes]:
        """Take in one frame addressed to this unit and return what it sends at once. Malformed frames are ignored."""
        if not data:
            return []
        kind = data[0] >> 4
        if kind == FLOW_CONTROL:
            return self._flow_control(data, now_s)
        if self.is_busy(now_s):
            return []
        if kind == SINGLE:
            length = data[0] & 0x0F
            if not 0 < length < len(data):
                return []
            self._request_bytes = 0
            return self._respond(data[1 : 1 + length], now_s)
        if kind == FIRST and len(data) == FRAME_BYTES:
            return self._first_frame(data, now_s)
        if kind == CONSECUTIVE:
            return self._consecutive_frame(data, now_s)
        return []

    def due(self, now_s: float) -> list[bytes]:
        """Return the frames whose time has come."""
        frames = []
        while self._next_at_s <= now_s:
            self._sequence = self._sequence + 1 & 0x0F
            part = self._reply[self._sent : self._sent + FRAME_BYTES - 1]
            self._sent += len(part)
            self._block_left -= 1
            frames.append(self._padded(bytes((CONSECUTIVE << 4 | self._sequence,)) + part))
            if self._sent >= len(self._reply):
                self._reply, self._sent, self._next_at_s = b"", 0, math.inf
            elif self._block_left <= 0:
                self._next_at_s = math.inf
                self._waits_until_s = now_s + PEER_TIMEOUT_S
            else:
                self._next_at_s += self._gap_s
        return frames

    def _respond(self, request: bytes, now_s: float) -> list[bytes]:
        reply = self._answer(request)
        if reply is None:
            return []
        if len(reply) > MAX_BYTES:
            raise ValueError(f"a reply of {len(reply)} bytes does not fit into ISO-TP, which carries {MAX_BYTES}")
        if len(reply) < FRAME_BYTES:
            return [self._padded(bytes((len(reply),)) + reply)]
        self._reply = reply
        self._sent = FRAME_BYTES - 2
        self._sequence = 0
        self._waits_until_s = now_s + PEER_TIMEOUT_S
        return [bytes((FIRST << 4 | len(reply) >> 8, len(reply) & 0xFF)) + reply[: self._sent]]

    def _flow_control(self, data: bytes, now_s: float) -> list[bytes]:
        if len(data) < 3 or not self.waits_for_flow_control(now_s):
            return []
        status = data[0] & 0x0F
        if status == CONTINUE:
            self._block_left = data[1] or math.inf
            self._gap_s = _separation_s(data[2])
            self._next_at_s = now_s
            return self.due(now_s)
        if status == WAIT:
            self._waits_until_s = now_s + PEER_TIMEOUT_S
        else:
            self._reply, self._sent = b"", 0
        return []

    def _first_frame(self, data: bytes, now_s: float) -> list[bytes]:
        length = (data[0] & 0x0F) << 8 | data[1]
        if length < FRAME_BYTES:
            return []
        self._request = bytearray(data[2:])
        self._request_bytes = length
        self._request_sequence = 0
        self._request_until_s = now_s + PEER_TIMEOUT_S
        return [self._padded(bytes((FLOW_CONTROL << 4 | CONTINUE, 0, 0)))]

    def _consecutive_frame(self, data: bytes, now_s: float) -> list[bytes]:
        if not self._request_bytes or now_s > self._request_until_s:
            return []
        self._request_sequence = self._request_sequence + 1 & 0x0F
        if data[0] & 0x0F != self._request_sequence:
            self._request_bytes = 0
            return []
        self._request += data[1:]
        self._request_until_s = now_s + PEER_TIMEOUT_S
        if len(self._request) < self._request_bytes:
            return []
        request = bytes(self._request[: self._request_bytes])
        self._request_bytes = 0
        return self._respond(request, now_s)

    def _padded(self, frame: bytes) -> bytes:
        return frame.ljust(FRAME_BYTES, self._padding)


def _separation_s(raw: int) -> float:
    """STmin: 0 to 127 ms, 0xF1 to 0xF9 for 100 to 900 us; reserved values mean the longest (ISO 15765-2)."""
    if raw <= 0x7F:
        return raw / 1000.0
    if 0xF1 <= raw <= 0xF9:
        return (raw - 0xF0) / 10_000.0
    return 0.127
