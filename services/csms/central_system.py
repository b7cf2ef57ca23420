"""An OCPP 1.6J central system: it answers charge points, remembers what they tell, and lets others command them.

It runs on a service loop; the bench thread opens and closes it, reads states, and commands through `link`. What charge
points tell becomes events for the recorder. `drain_events` hands them over in canonical order (time, charge point,
kind, content), because two charge points that answer within one step may do so in either order.

    with ServiceLoop() as loop, CentralSystem(loop, clock=WallClock(), port=9000) as csms:
        link = csms.link("CP1")            # charge points connect to ws://127.0.0.1:9000/CP1
        link.wait_for(lambda state: state.boot is not None, 60.0, "BootNotification")

Who may connect: every identity, unless `passwords` names them; then HTTP basic authentication decides (security profile
1 of the OCPP 1.6 security whitepaper; put TLS in front of it on a network that others reach).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import http
import itertools
import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from drivers.clock import Deadline, SessionClock
from drivers.errors import ConfigError, LinkRefused, LinkTimeout
from drivers.ocpp.connection import (
    CLOSE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Handler,
    OcppConnection,
    message_ids,
)
from drivers.ocpp.link import BootInfo, ChargePointLink, ChargePointState, ConnectorStatus, MeterValues, Transaction
from drivers.ocpp.payload import Payload, integer, stamp, text, utc_s
from drivers.roles import WireTrace, no_trace
from drivers.service_loop import ServiceLoop
from services.csms.meter_values import read_meter_values

_OPEN_TIMEOUT_S: Final = 5.0
_LONGEST_IDENTITY: Final = 48
_log = logging.getLogger(__name__)


class CsmsEvent(NamedTuple):
    """Something that a charge point told; the order of the fields is the canonical order."""

    mono_s: float  # session clock
    charge_point: str
    kind: str  # connected, disconnected, boot, heartbeat, authorize, start, stop, status, meter_values, data, fault
    content: str  # JSON with sorted keys
    utc_s: float  # session clock


class CentralSystem:
    """A central system on `host:port` (0 for a free port); a context manager on the bench thread.

    `authorise`: tags that may charge, or a function that decides; None accepts every tag. `passwords`: identity to
    password. `stepped`: a call over a link returns only when all that it caused on the wire has been answered, so that
    session time cannot move on in between. `ping_interval_s`: WebSocket keep-alive in wall time, None in stepped time.
    `trace_of` gives the wire trace of a charge point.
    """

    def __init__(
        self,
        loop: ServiceLoop,
        *,
        clock: SessionClock,
        host: str = "127.0.0.1",
        port: int = 0,
        authorise: Collection[str] | Callable[[str], bool] | None = None,
        passwords: Mapping[str, str] | None = None,
        stepped: bool = False,
        heartbeat_interval_s: int = 300,
        call_timeout_s: float = 10.0,
        ping_interval_s: float | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        trace_of: Callable[[str], WireTrace] | None = None,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._host = host
        self._wanted_port = port
        self._authorise = authorise
        self._passwords = passwords
        self._stepped = stepped
        self._heartbeat_interval_s = heartbeat_interval_s
        self._call_timeout_s = call_timeout_s
        self._ping_interval_s = ping_interval_s
        self._max_message_bytes = max_message_bytes
        self._trace_of = trace_of
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._charge_points: dict[str, _ChargePoint] = {}
        self._events: list[CsmsEvent] = []
        self._transaction_ids = itertools.count(1)

    def __enter__(self) -> Self:
        self._loop.run(self._open(), _OPEN_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and close all links; may be called twice."""
        if self._server is not None:
            self._loop.run(self._close(), 3.0 * CLOSE_TIMEOUT_S + 2.0)

    @property
    def port(self) -> int:
        """Port it listens on; 0 while closed."""
        if self._server is None:
            return 0
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """Where charge points connect, each with its identity behind a slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self.port}"

    def link(self, identity: str) -> ChargePointLink:
        """The link to one charge point, whether or not it has connected yet."""
        return self._charge_point(identity)

    def identities(self) -> Sequence[str]:
        """Identities of all charge points that have connected or were asked for, sorted."""
        with self._lock:
            return sorted(self._charge_points)

    def drain_events(self) -> list[CsmsEvent]:
        """Everything told since the last call, in canonical order."""
        with self._lock:
            events, self._events = self._events, []
        events.sort()
        return events

    # The server

    async def _open(self) -> None:
        try:
            self._server = await serve(
                self._serve_charge_point,
                self._host,
                self._wanted_port,
                process_request=self._admit,
                select_subprotocol=_select_subprotocol,
                compression=None,
                server_header=None,
                open_timeout=_OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=self._ping_interval_s,
                ping_timeout=self._ping_interval_s,
                max_size=self._max_message_bytes,
            )
        except OSError as error:
            raise ConfigError(
                f"the central system cannot listen on {self._host}:{self._wanted_port} ({error.strerror or error}); "
                "choose another port, or 0 for a free one"
            ) from error

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close(code=1001, reason="central system closes")
            await server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        identity = _identity(request.path)
        if not identity:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "connect to /<charge point identity>\n")
        if self._passwords is not None and not self._password_holds(identity, request):
            _log.warning("charge point %r was refused: unknown, or its password is wrong", identity)
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "identity or password is wrong\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="OCPP", charset="UTF-8"'
            return response
        return None

    def _password_holds(self, identity: str, request: Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(token.encode(), validate=True)
        except (binascii.Error, ValueError):
            return False
        expected = (self._passwords or {}).get(identity)
        wanted = f"{identity}:{expected or ''}".encode()
        same = hmac.compare_digest(given, wanted)
        return scheme.lower() == "basic" and expected is not None and same

    async def _serve_charge_point(self, socket: ServerConnection) -> None:
        assert socket.request is not None  # the handshake is over
        identity = _identity(socket.request.path)
        charge_point = self._charge_point(identity)
        connection = OcppConnection(
            socket,
            peer=identity,
            handlers=self._handlers(charge_point),
            loop=self._loop,
            ids=charge_point.ids,
            call_timeout_s=self._call_timeout_s,
            trace=no_trace if self._trace_of is None else self._trace_of(identity),
            on_fault=lambda reason: self._event(identity, "fault", {"reason": reason}),
            max_message_bytes=self._max_message_bytes,
        )
        if socket.subprotocol != SUBPROTOCOL:
            # OCPP-J 1.6 section 3.2: complete the handshake without a subprotocol, then close.
            self._event(identity, "fault", {"reason": "it does not offer the subprotocol ocpp1.6"})
            await connection.close(1002, "subprotocol ocpp1.6 is needed")
            return
        former = charge_point.connection
        charge_point.attach(connection)
        self._event(identity, "connected", {})
        if former is not None and former.is_open:
            self._loop.spawn(former.close(1008, "replaced by a newer connection"), f"replacing the link of {identity}")
        reason = await connection.serve()
        if charge_point.detach(connection):
            self._event(identity, "disconnected", {"reason": reason})

    def _charge_point(self, identity: str) -> _ChargePoint:
        with self._lock:
            charge_point = self._charge_points.get(identity)
            if charge_point is None:
                charge_point = self._charge_points[identity] = _ChargePoint(identity, self._loop, stepped=self._stepped)
            return charge_point

    def _event(self, charge_point: str, kind: str, content: Payload) -> None:
        clock = self._clock
        written = json.dumps(content, sort_keys=True, separators=(",", ":"))
        event = CsmsEvent(clock.mono_s, charge_point, kind, written, clock.utc_s)
        with self._lock:
            self._events.append(event)

    def _accepts(self, id_tag: str) -> bool:
        if self._authorise is None:
            return True
        return self._authorise(id_tag) if callable(self._authorise) else id_tag in self._authorise

    def _tag_info(self, id_tag: str) -> Payload:
        return {"status": "Accepted" if self._accepts(id_tag) else "Invalid"}

    # What charge points tell

    def _handlers(self, charge_point: _ChargePoint) -> Mapping[str, Handler]:
        identity = charge_point.identity

        async def boot(payload: Payload) -> Payload:
            info = BootInfo(
                text(payload, "chargePointVendor"),
                text(payload, "chargePointModel"),
                text(payload, "chargePointSerialNumber", "") or text(payload, "chargeBoxSerialNumber", ""),
                text(payload, "firmwareVersion", ""),
            )
            charge_point.change(boot=info)
            self._event(identity, "boot", payload)
            now = stamp(self._clock.utc_s)
            return {"status": "Accepted", "currentTime": now, "interval": self._heartbeat_interval_s}

        async def heartbeat(payload: Payload) -> Payload:
            self._event(identity, "heartbeat", payload)
            return {"currentTime": stamp(self._clock.utc_s)}

        async def authorize(payload: Payload) -> Payload:
            info = self._tag_info(text(payload, "idTag"))
            self._event(identity, "authorize", {**payload, "answer": info["status"]})
            return {"idTagInfo": info}

        async def start(payload: Payload) -> Payload:
            transaction = Transaction(
                next(self._transaction_ids),
                integer(payload, "connectorId"),
                text(payload, "idTag"),
                integer(payload, "meterStart"),
                utc_s(text(payload, "timestamp")),
            )
            charge_point.keep_transaction(transaction)
            info = self._tag_info(transaction.id_tag)
            self._event(
                identity,
                "start",
                {**payload, "transactionId": transaction.transaction_id, "answer": info["status"]},
            )
            return {"transactionId": transaction.transaction_id, "idTagInfo": info}

        async def stop(payload: Payload) -> Payload:
            charge_point.end_transaction(
                integer(payload, "transactionId"),
                integer(payload, "meterStop"),
                utc_s(text(payload, "timestamp")),
                text(payload, "reason", "Local"),
            )
            self._event(identity, "stop", payload)
            return {"idTagInfo": self._tag_info(text(payload, "idTag"))} if "idTag" in payload else {}

        async def status(payload: Payload) -> Payload:
            clock = self._clock
            told = ConnectorStatus(
                text(payload, "status"),
                text(payload, "errorCode"),
                text(payload, "vendorErrorCode", ""),
                clock.mono_s,
                utc_s(text(payload, "timestamp")) if "timestamp" in payload else clock.utc_s,
            )
            charge_point.keep_status(integer(payload, "connectorId"), told)
            self._event(identity, "status", payload)
            return {}

        async def meter_values(payload: Payload) -> Payload:
            charge_point.keep_meter_values(payload, self._clock.mono_s)
            self._event(identity, "meter_values", payload)
            return {}

        async def data_transfer(payload: Payload) -> Payload:
            self._event(identity, "data", payload)
            return {"status": "UnknownVendorId"}

        async def told(payload: Payload) -> Payload:
            self._event(identity, "data", payload)
            return {}

        return {
            "Authorize": authorize,
            "BootNotification": boot,
            "DataTransfer": data_transfer,
            "DiagnosticsStatusNotification": told,
            "FirmwareStatusNotification": told,
            "Heartbeat": heartbeat,
            "MeterValues": meter_values,
            "StartTransaction": start,
            "StatusNotification": status,
            "StopTransaction": stop,
        }


class _ChargePoint:
    """State of one charge point: written on the loop's thread, read and waited for on others."""

    def __init__(self, identity: str, loop: ServiceLoop, *, stepped: bool) -> None:
        self.identity = identity
        self._stepped = stepped
        self.ids = message_ids()
        self.connection: OcppConnection | None = None
        self._loop = loop
        self._changed = threading.Condition()
        self._state = ChargePointState()
        self._sequence = itertools.count(1)

    def state(self) -> ChargePointState:
        return self._state

    def call(self, action: str, payload: Payload, timeout_s: float) -> Payload:
        connection = self.connection
        if connection is None:
            raise LinkRefused("is not connected to the central system", device=self.identity, sent=action)
        try:
            answer = self._loop.run(connection.call(action, payload, timeout_s), timeout_s + 1.0)
        except LinkTimeout:
            raise
        except TimeoutError as error:
            raise LinkTimeout(
                "the central system itself did not come round", device=self.identity, sent=action, waited_s=timeout_s
            ) from error
        self._settle(timeout_s)
        return answer

    def wait_for(self, condition: Callable[[ChargePointState], bool], timeout_s: float, what: str) -> ChargePointState:
        deadline = Deadline.after(timeout_s)
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._state), deadline.remaining_s):
                raise LinkTimeout(f"no {what}", device=self.identity, waited_s=timeout_s)
            state = self._state
        self._settle(timeout_s)
        return state

    def _settle(self, timeout_s: float) -> None:
        if self._stepped:
            self._loop.activity.wait_quiet(timeout_s)

    def change(
        self,
        *,
        connected: bool | None = None,
        boot: BootInfo | None = None,
        statuses: Mapping[int, ConnectorStatus] | None = None,
        meter_values: Mapping[int, MeterValues] | None = None,
        transactions: Mapping[int, Transaction] | None = None,
    ) -> None:
        with self._changed:
            state = self._state
            self._state = ChargePointState(
                state.connected if connected is None else connected,
                boot or state.boot,
                statuses or state.statuses,
                meter_values or state.meter_values,
                transactions or state.transactions,
            )
            self._changed.notify_all()

    def attach(self, connection: OcppConnection) -> None:
        self.connection = connection
        self.change(connected=True)

    def detach(self, connection: OcppConnection) -> bool:
        """Forget `connection`; False when a newer one has taken its place."""
        if self.connection is not connection:
            return False
        self.connection = None
        self.change(connected=False)
        return True

    def keep_status(self, connector: int, status: ConnectorStatus) -> None:
        self.change(statuses={**self._state.statuses, connector: status})

    def keep_meter_values(self, payload: Payload, mono_s: float) -> None:
        latest = read_meter_values(payload, mono_s, self._sequence)
        self.change(meter_values={**self._state.meter_values, integer(payload, "connectorId"): latest})

    def keep_transaction(self, transaction: Transaction) -> None:
        self.change(transactions={**self._state.transactions, transaction.connector: transaction})

    def end_transaction(self, transaction_id: int, meter_stop_wh: int, stop_utc_s: float, reason: str) -> None:
        ended = {
            connector: dataclasses.replace(
                transaction, meter_stop_wh=meter_stop_wh, stop_utc_s=stop_utc_s, stop_reason=reason
            )
            if transaction.transaction_id == transaction_id
            else transaction
            for connector, transaction in self._state.transactions.items()
        }
        self.change(transactions=ended)


def _identity(path: str) -> str:
    """The identity in the path of a request; empty when it holds none, or one that is too long."""
    identity = unquote(path.partition("?")[0].removeprefix("/"))
    good = 0 < len(identity) <= _LONGEST_IDENTITY and "/" not in identity and identity.isprintable()
    return identity if good else ""


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:  # noqa: ARG001  # the library's signature
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
