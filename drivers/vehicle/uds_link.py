"""udsoncan over can-isotp on a python-can bus, behind types and without threads.

can-isotp's own stacks need a thread or two each and half a second to stop; its state machine alone needs only frames
and calls. So the connection that udsoncan drives feeds the frames itself, in the caller's thread, until the dead-line.
One bus carries both control units; each has a state machine of its own.
"""

from __future__ import annotations

import math
from collections import deque
from urllib.parse import urlsplit

import can
import isotp
from udsoncan.client import Client
from udsoncan.connections import BaseConnection
from udsoncan.exceptions import (
    InvalidResponseException,
    NegativeResponseException,
    TimeoutException,
    UnexpectedResponseException,
)
from udsoncan.Request import Request
from udsoncan.services.DiagnosticSessionControl import DiagnosticSessionControl
from udsoncan.services.ReadDataByIdentifier import ReadDataByIdentifier

from drivers.clock import Deadline
from drivers.errors import LinkError, LinkGarbled, LinkRefused, LinkTimeout
from drivers.roles import WireTrace
from drivers.vehicle.diagnostics import Unit

_SERVICES = {
    0x10: DiagnosticSessionControl,
    0x22: ReadDataByIdentifier,
}
_RESPONSE_PENDING = 0x78
_REQUEST_PADDING = 0x00


class UdsLink:
    """One CAN bus with the control units that are asked on it."""

    def __init__(
        self, at: str, units: tuple[Unit, ...], *, reply_s: float, separation_ms: int, device: str, trace: WireTrace
    ) -> None:
        self._at = at
        self._units = units
        self._reply_s = reply_s
        self._separation_ms = separation_ms
        self._device = device
        self._trace = trace
        self._bus: can.BusABC | None = None
        self._clients: dict[int, Client] = {}

    def open(self) -> None:
        """Join the bus. Raises LinkRefused."""
        url = urlsplit(self._at)
        virtual = url.netloc == "virtual" and url.path
        try:
            if virtual:
                bus = can.Bus(interface="virtual", channel=url.path.lstrip("/"), preserve_timestamps=True)
            else:
                bus = can.Bus(interface="socketcan", channel=url.netloc)
        except (can.CanError, OSError, ValueError) as error:
            raise LinkRefused(
                f"cannot join {self._at} ({error}); bring it up with 'ip link set {url.netloc} up type can "
                "bitrate 500000'",
                device=self._device,
            ) from error
        self._bus = bus
        bus.set_filters(
            [can.typechecking.CanFilter(can_id=unit.reply_id, can_mask=0x7FF, extended=False) for unit in self._units]
        )
        for unit in self._units:
            connection = _Connection(bus, unit, self._reply_s, self._separation_ms, self._trace)
            client = Client(connection, request_timeout=self._reply_s)
            client.set_config("p2_timeout", self._reply_s)
            client.open()
            self._clients[unit.request_id] = client

    def close(self) -> None:
        """Leave the bus; may be called twice."""
        self._clients.clear()
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.shutdown()

    def ask(self, unit: Unit, request: bytes) -> bytes:
        """Send one request and return the whole reply, a refusal too. Raises LinkError."""
        client = self._clients[unit.request_id]
        connection = client.conn
        assert isinstance(connection, _Connection)  # open() made it
        try:
            service = _SERVICES.get(request[0])
            if service is None:
                return self._ask_raw(connection, request)
            if service.use_subfunction():
                message = Request(service, subfunction=request[1], data=request[2:] or None)
            else:
                message = Request(service, data=request[1:])
            response = client.send_request(message)
            return bytes(response.original_payload or b"") if response is not None else b""
        except NegativeResponseException as refusal:
            return bytes(refusal.response.original_payload or b"")
        except TimeoutException as error:
            raise self._silent(connection, unit, request) from error
        except (InvalidResponseException, UnexpectedResponseException) as error:
            raise LinkGarbled(
                f"the {unit.title} sent no answer to this request ({error}); ask again",
                device=self._device,
                sent=request.hex(" "),
                last_bytes=connection.last_frame,
            ) from error
        except (can.CanError, OSError) as error:
            raise LinkRefused(
                f"the bus {self._at} failed ({error}); check the interface", device=self._device, sent=request.hex(" ")
            ) from error

    def _ask_raw(self, connection: _Connection, request: bytes) -> bytes:
        """Services that UDS does not have: 21 comes from KWP 2000 (ISO 14230-3)."""
        by = Deadline.after(self._reply_s)
        connection.empty_rxqueue()
        connection.send(request)
        while True:
            reply = connection.wait_frame(timeout=by.remaining_s, exception=True) or b""
            if not (len(reply) == 3 and reply[0] == 0x7F and reply[2] == _RESPONSE_PENDING):
                return bytes(reply)

    def _silent(self, connection: _Connection, unit: Unit, request: bytes) -> LinkError:
        sent = request.hex(" ")
        if connection.protocol_errors:
            return LinkGarbled(
                f"the reply of the {unit.title} broke ISO-TP ({connection.protocol_errors[0]}); ask again",
                device=self._device,
                sent=sent,
                last_bytes=connection.last_frame,
            )
        what = "did not finish its reply" if connection.last_frame else "does not answer; is the van switched on?"
        return LinkTimeout(
            f"the {unit.title} {what}",
            device=self._device,
            sent=sent,
            waited_s=self._reply_s,
            last_bytes=connection.last_frame,
        )


class _Connection(BaseConnection):  # type: ignore[misc, unused-ignore]  # untyped in some releases of udsoncan
    """What udsoncan sends and waits through: ISO-TP with one control unit, in the caller's thread."""

    def __init__(self, bus: can.BusABC, unit: Unit, reply_s: float, separation_ms: int, trace: WireTrace) -> None:
        super().__init__(f"0x{unit.request_id:03X}")
        self._bus = bus
        self._trace = trace
        self._reply_id = unit.reply_id
        self._incoming: deque[isotp.CanMessage] = deque()
        self._opened = False
        self.last_frame = b""  # of the exchange that runs
        self.protocol_errors: list[str] = []
        milliseconds = max(1, math.ceil(reply_s * 1000.0))
        self._layer = isotp.TransportLayerLogic(
            rxfn=self._take,
            txfn=self._put,
            address=isotp.Address(isotp.AddressingMode.Normal_11bits, txid=unit.request_id, rxid=unit.reply_id),
            error_handler=lambda error: self.protocol_errors.append(str(error)),
            params={
                "tx_padding": _REQUEST_PADDING,
                "stmin": separation_ms,
                "blocksize": 0,
                "rx_flowcontrol_timeout": milliseconds,
                "rx_consecutive_frame_timeout": milliseconds,
            },
        )

    def open(self) -> _Connection:
        """Ready; the bus is the link's."""
        self._opened = True
        return self

    def close(self) -> None:
        """No longer ready."""
        self._opened = False

    def is_open(self) -> bool:
        """Whether it is ready."""
        return self._opened

    def empty_rxqueue(self) -> None:
        """Forget what came unasked, and the errors of the last exchange."""
        while self._bus.recv(0) is not None:
            pass
        self._incoming.clear()
        self._layer.reset()
        self.last_frame = b""
        self.protocol_errors.clear()

    def specific_send(self, payload: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  # udsoncan's hook
        """Send a request; `timeout` is not needed, a request is one frame here."""
        self._layer.send(payload)
        self._layer.process(0)

    def specific_wait_frame(self, timeout: float | None = None) -> bytes:
        """Wait for a whole reply; TimeoutException at the dead-line, None is refused."""
        by = Deadline.after(timeout or 1e-3)
        while True:
            reply = self._layer.recv()
            if reply is not None:
                return bytes(reply)
            message = self._bus.recv(by.remaining_s)
            if message is None:
                raise TimeoutException("no whole reply")  # type: ignore[no-untyped-call]  # of udsoncan
            if message.arbitration_id != self._reply_id or message.is_extended_id or message.is_error_frame:
                continue
            data = bytes(message.data)
            self.last_frame = data
            self._trace("<", b"%03X#%s\n" % (self._reply_id, data.hex().upper().encode()))
            self._incoming.append(isotp.CanMessage(arbitration_id=self._reply_id, dlc=len(data), data=data))
            self._layer.process(0)

    def _take(self, _timeout_s: float) -> isotp.CanMessage | None:
        return self._incoming.popleft() if self._incoming else None

    def _put(self, message: isotp.CanMessage) -> None:
        data = bytes(message.data)
        self._trace(">", b"%03X#%s\n" % (message.arbitration_id, data.hex().upper().encode()))
        self._bus.send(can.Message(arbitration_id=message.arbitration_id, data=data, is_extended_id=False))
