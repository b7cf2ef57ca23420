"""One OCPP-J 1.6 link over one WebSocket, the same class at both ends.

Rules that it keeps, and where they come from:

- One CALL is under way per direction (OCPP-J 1.6 section 4.1.1): further ones queue, in order. A call has one dead-line
  for queue and answer together.
- Inbound CALLs are handled concurrently, each in a counted task, so that a handler may itself call the peer.
- Nothing is swallowed. A CALLERROR raises DeviceError with the peer's code, silence raises LinkTimeout, a closed link
  LinkRefused, a malformed answer LinkGarbled. What cannot be raised to anybody (a malformed frame, an answer that
  nobody waits for) goes to `on_fault`.
- A malformed frame is answered where the id of a CALL can be read in it; otherwise the link is closed (1002, with the
  reason). An oversized message is closed with 1009 by the WebSocket layer. A message type unknown to 1.6 is ignored
  (section 4.1.3).
- `NotImplemented` means that the action is unknown, `NotSupported` that it is known but not served here.
- A message id is served once: a repeated one is not executed again.
- What a peer can make this end hold is bounded: message size, calls in hand, refusals that it does not read.

Activity (see `drivers.service_loop`): a call is counted before its first byte leaves until its answer came; a handler
from before its peer could have the answer. Whoever awaits `call` must itself be a counted task or the bench thread, so
that what it does with the answer is counted too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from drivers.errors import BenchError, ConfigError, DeviceError, LinkGarbled, LinkRefused, LinkTimeout
from drivers.ocpp.frames import (
    Call,
    CallError,
    CallResult,
    FrameFault,
    UnknownMessageType,
    decode,
    encode_call,
    encode_error,
    encode_result,
)
from drivers.ocpp.payload import Payload
from drivers.ocpp.schemas import SchemaViolation, actions, request_check, response_check
from drivers.roles import WireTrace, no_trace
from drivers.service_loop import ServiceLoop

SUBPROTOCOL: Final = "ocpp1.6"
MAX_MESSAGE_BYTES: Final = 256 * 1024  # a composite schedule of 1,000 periods has 40 kB
CLOSE_TIMEOUT_S: Final = 1.0
_HANDLER_TIMEOUT_S: Final = 30.0
_MAX_HANDLERS: Final = 32
_MAX_REFUSALS: Final = 64
_IDS_REMEMBERED: Final = 1024

Handler = Callable[[Payload], Awaitable[Payload]]
_log = logging.getLogger(__name__)


class CallRefused(Exception):
    """Raised by a handler to answer with a CALLERROR of this code and description."""

    def __init__(self, code: str, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"{code}: {description}")


def message_ids(prefix: str = "") -> Callable[[], str]:
    """Deterministic message ids: 1, 2, 3 … behind `prefix`, so that two runs write the same wire trace."""
    counter = itertools.count(1)
    return lambda: f"{prefix}{next(counter)}"


def log_fault(reason: str) -> None:
    """Write a link fault to the log: the default of `on_fault`."""
    _log.warning("OCPP: %s", reason)


class OcppConnection:
    """RPC over an open WebSocket. Everything here runs on the service loop's thread.

    `peer` names the other end in errors and activity; `handlers` serve its CALLs by action. `serve` must run, as a
    task, for answers to come in; it returns the reason when the link is closed.
    """

    def __init__(
        self,
        socket: ClientConnection | ServerConnection,
        *,
        peer: str,
        handlers: Mapping[str, Handler],
        loop: ServiceLoop,
        ids: Callable[[], str] | None = None,
        call_timeout_s: float = 10.0,
        trace: WireTrace = no_trace,
        on_fault: Callable[[str], None] = log_fault,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._socket = socket
        self._peer = peer
        self._handlers = handlers
        self._loop = loop
        self._ids = ids or message_ids()
        self._call_timeout_s = call_timeout_s
        self._trace = trace
        self._on_fault = on_fault
        self._max_message_bytes = max_message_bytes
        self._turn = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[CallResult | CallError]] = {}
        self._in_hand: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._served_ids: deque[str] = deque(maxlen=_IDS_REMEMBERED)
        self._served: set[str] = set()
        self._refusals = 0
        self._closed_because = ""

    @property
    def is_open(self) -> bool:
        """Whether the link can still carry calls."""
        return not self._closed_because

    @property
    def closed_because(self) -> str:
        """Why the link is closed; empty while it is open."""
        return self._closed_because

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        """Send one CALL and return the payload of its CALLRESULT, checked against the schema.

        Raises ConfigError when the payload does not keep its own schema (nothing was sent), DeviceError for a
        CALLERROR, LinkTimeout, LinkRefused or LinkGarbled.
        """
        self._check_own(action, payload)
        allowed_s = self._call_timeout_s if timeout_s is None else timeout_s
        with self._loop.activity.counted(f"{self._peer} answers {action}"):
            try:
                async with asyncio.timeout(allowed_s), self._turn:
                    return await self._exchange(action, payload)
            except TimeoutError as error:
                raise LinkTimeout("no answer", device=self._peer, sent=action, waited_s=allowed_s) from error

    async def serve(self) -> str:
        """Read frames until the link closes; the return value says why it closed."""
        try:
            while True:
                self._receive(await self._socket.recv())
        except ConnectionClosed as closed:
            self._closed_because = _reason(closed)
        except asyncio.CancelledError:
            self._closed_because = "closed from this side"
            raise
        finally:
            self._closed_because = self._closed_because or "a defect of the bench ended the link"
            self._fail_waiting()
        return self._closed_because

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the link with a WebSocket status, after the answers that are in hand; each wait is bounded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._idle.wait()
        await self._socket.close(code, reason[:120])

    # Calls of ours

    def _check_own(self, action: str, payload: Payload) -> None:
        try:
            request_check(action)(payload)
        except SchemaViolation as violation:
            raise ConfigError(f"{action} to {self._peer} was not sent: {violation} ({violation.code})") from violation

    async def _exchange(self, action: str, payload: Payload) -> Payload:
        if self._closed_because:
            raise LinkRefused(f"the link is closed ({self._closed_because})", device=self._peer, sent=action)
        message_id = self._ids()
        data = encode_call(message_id, action, payload)
        if len(data) > self._max_message_bytes:
            raise ConfigError(f"{action} to {self._peer} has {len(data)} bytes, more than {self._max_message_bytes}")
        answer: asyncio.Future[CallResult | CallError] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = answer
        try:
            self._trace(">", data.encode())
            await self._socket.send(data)
            result = await answer
        except ConnectionClosed as closed:
            raise LinkRefused(f"the link closed ({_reason(closed)})", device=self._peer, sent=action) from closed
        finally:
            del self._waiting[message_id]
        if isinstance(result, CallError):
            raise DeviceError(
                f"refused {action}: {result.description or 'no reason given'}",
                code=result.code,
                device=self._peer,
                sent=action,
            )
        try:
            response_check(action)(result.payload)
        except SchemaViolation as violation:
            raise LinkGarbled(
                f"the answer breaks its schema: {violation}", device=self._peer, sent=action
            ) from violation
        return result.payload

    def _fail_waiting(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkRefused(f"the link closed ({self._closed_because})", device=self._peer))

    # Frames of the peer

    def _receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._trace("<", data)
            self._end_link(1003, "binary messages are not OCPP-J")
            return
        self._trace("<", data.encode())
        try:
            frame = decode(data)
        except FrameFault as fault:
            self._malformed(fault, data)
            return
        if isinstance(frame, Call):
            self._called(frame)
        else:
            self._answered(frame.message_id, frame)

    def _called(self, call: Call) -> None:
        if call.message_id in self._in_hand:
            # An error under this id would end the first one; its answer will serve both.
            self._on_fault(f"{self._peer}: {call.action} repeats the id {call.message_id!r} of a call in hand; ignored")
            return
        refusal = self._refusal(call)
        if refusal is not None:
            self._on_fault(f"{self._peer}: {call.action} refused with {refusal}")
            self._spawn_send(encode_error(call.message_id, refusal.code, refusal.description), call.action)
            return
        self._remember(call.message_id)
        self._in_hand.add(call.message_id)
        self._idle.clear()
        self._loop.spawn(self._handle(call), f"handling {call.action} of {self._peer}")

    def _refusal(self, call: Call) -> CallRefused | None:
        if call.message_id in self._served:
            return CallRefused("GenericError", f"message id {call.message_id} was used before on this connection")
        if call.action not in actions():
            return CallRefused("NotImplemented", f"OCPP 1.6 has no action {call.action[:50]!r}")
        if call.action not in self._handlers:
            return CallRefused("NotSupported", f"{call.action} is not supported here")
        if len(self._in_hand) >= _MAX_HANDLERS:
            return CallRefused("GenericError", f"{_MAX_HANDLERS} calls are in hand already; wait for their answers")
        try:
            request_check(call.action)(call.payload)
        except SchemaViolation as violation:
            return CallRefused(violation.code, str(violation))
        return None

    async def _handle(self, call: Call) -> None:
        try:
            data = await self._answer(call)
            await self._send(data)
        finally:
            self._in_hand.discard(call.message_id)
            if not self._in_hand:
                self._idle.set()

    async def _answer(self, call: Call) -> str:
        try:
            async with asyncio.timeout(_HANDLER_TIMEOUT_S):
                payload = await self._handlers[call.action](call.payload)
            response_check(call.action)(payload)
        except CallRefused as refusal:
            return encode_error(call.message_id, refusal.code, refusal.description)
        except SchemaViolation as violation:
            self._on_fault(f"own answer to {call.action} breaks its schema: {violation}")
        except (BenchError, TimeoutError) as error:
            self._on_fault(f"handling {call.action} of {self._peer} failed: {error}")
        except Exception as error:
            # The peer must get its answer whatever our handler did; the defect itself goes to raise_failures.
            self._spawn_send(encode_error(call.message_id, "InternalError", "the receiver failed"), call.action)
            raise BenchError(f"the handler of {call.action} of {self._peer} failed: {error!r}") from error
        else:
            return encode_result(call.message_id, payload)
        return encode_error(call.message_id, "InternalError", "the receiver could not process the request")

    def _answered(self, message_id: str, frame: CallResult | CallError) -> None:
        answer = self._waiting.get(message_id)
        if answer is None or answer.done():
            self._on_fault(f"{self._peer}: an answer to {message_id[:40]!r}, which nobody waits for; ignored")
            return
        answer.set_result(frame)

    def _malformed(self, fault: FrameFault, data: str) -> None:
        self._on_fault(f"{self._peer}: malformed frame, {fault.reason}: {data[:80]!r}")
        if isinstance(fault, UnknownMessageType):
            return
        answer = self._waiting.get(fault.answered_id)
        if fault.answer_id:
            self._spawn_send(encode_error(fault.answer_id, fault.code, fault.reason), "malformed call")
        elif answer is not None and not answer.done():
            garbled = LinkGarbled(
                f"malformed answer: {fault.reason}", device=self._peer, last_bytes=data.encode()[-32:]
            )
            answer.set_exception(garbled)
        elif not fault.answered_id:
            self._end_link(1002, fault.reason)

    def _end_link(self, code: int, reason: str) -> None:
        self._on_fault(f"{self._peer}: closing the link with {code}: {reason}")
        self._loop.spawn(self.close(code, reason), f"closing the link to {self._peer}")

    def _spawn_send(self, data: str, what: str) -> None:
        # A peer that keeps sending rubbish and reads no answer would fill the memory.
        if self._refusals == _MAX_REFUSALS:
            self._end_link(1008, "answers are not being read")
        elif self._refusals < _MAX_REFUSALS:
            self._loop.spawn(self._refuse(data), f"answering {what} of {self._peer}")
        self._refusals += 1

    async def _refuse(self, data: str) -> None:
        await self._send(data)
        self._refusals -= 1

    async def _send(self, data: str) -> None:
        self._trace(">", data.encode())
        try:
            await self._socket.send(data)
        except ConnectionClosed as closed:
            self._on_fault(f"{self._peer}: an answer could not be sent, the link closed ({_reason(closed)})")

    def _remember(self, message_id: str) -> None:
        if len(self._served_ids) == _IDS_REMEMBERED:
            self._served.discard(self._served_ids[0])
        self._served_ids.append(message_id)
        self._served.add(message_id)


def _reason(closed: ConnectionClosed) -> str:
    if closed.rcvd is not None and (closed.rcvd_then_sent or closed.sent is None):
        return f"by the peer with {closed.rcvd.code} {closed.rcvd.reason}".rstrip()
    if closed.sent is not None:
        return f"from this side with {closed.sent.code} {closed.sent.reason}".rstrip()
    return "without a close frame"
