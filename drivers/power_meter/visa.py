"""One SCPI link over PyVISA with its pure-Python backend, behind a typed and bounded surface.

PyVISA gives the addresses that lab people know (`TCPIP::192.0.2.12::INSTR`) and VXI-11. What its Python backend leaves
open is closed here, once:

- a closed port opens without an error, so the first question must follow at once (the driver asks `*IDN?`);
- on a raw socket the backend waits without limit for one that takes no bytes, and when the peer closes it reads nothing
  again and again until the time-out, with one core busy; so PyVISA opens and closes the socket, and what goes over it
  in between is this module's own (`_SocketSession`), at half the cost;
- TCP_NODELAY cannot be set through VISA, and two writes in a row then take 44 ms; it is set on the socket, and `ask` is
  the only way to send, so a reply always follows a write;
- bytes that came before a time-out are lost inside the library; the socket keeps what came since the last question.

After an exchange that failed, its answer may still arrive and would be taken for the next one. So a failed link is
`broken` and refuses to ask again until it was opened anew.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource

from drivers.clock import Deadline
from drivers.errors import ConfigError, LinkGarbled, LinkRefused, LinkTimeout, NotOpenError
from drivers.roles import WireTrace, no_trace

LONGEST_REPLY: Final = 65_536
_CHUNK: Final = 4096
_RESOURCE = re.compile(r"TCPIP\d*::([^:\s\[\]]+)::((\d{1,5})::SOCKET|(\w+::)?INSTR)\Z", re.IGNORECASE)


def resource_name(at: str) -> str:
    """Return the VISA resource for `at`: `visa://RESOURCE`, or `tcp://host:port` for a raw socket.

    Raises ConfigError for anything else.

    >>> resource_name("tcp://192.0.2.12:5025")
    'TCPIP::192.0.2.12::5025::SOCKET'
    """
    if at.startswith("visa://"):
        name = at.removeprefix("visa://")
    elif at.startswith("tcp://"):
        host, _, port = at.removeprefix("tcp://").rpartition(":")
        name = f"TCPIP::{host}::{port}::SOCKET"
    else:
        name = ""
    match = _RESOURCE.match(name)
    if match is None or (match[3] is not None and not 0 < int(match[3]) < 65_536):
        raise ConfigError(
            f"{at!r} is no address of a SCPI instrument; write tcp://HOST:PORT, "
            "visa://TCPIP::HOST::PORT::SOCKET or visa://TCPIP::HOST::INSTR"
        )
    return name


class _PeerClosed(OSError):
    """The peer ended the connection."""


class _Socket(socket.socket):
    """A socket whose empty read raises, and that keeps what came since the last question."""

    received: bytearray

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        if not data:
            raise _PeerClosed("the peer closed the connection")
        self.received += data
        return data


class _Session(Protocol):
    """The part of a session of the Python backend that is used here; it carries no types of its own."""

    interface: object
    timeout: float | None

    def read(self, count: int) -> tuple[bytes, StatusCode]: ...
    def write(self, data: bytes) -> tuple[int, StatusCode]: ...


class _SocketSession:
    """A raw socket as a session: one system call per direction, each bounded by the socket's own time-out."""

    def __init__(self, interface: _Socket) -> None:
        self.interface: object = interface
        self._socket = interface
        self._timeout = interface.gettimeout()

    @property
    def timeout(self) -> float | None:
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout:
            self._timeout = timeout
            self._socket.settimeout(timeout)

    def read(self, count: int) -> tuple[bytes, StatusCode]:
        try:
            return self._socket.recv(count), StatusCode.success
        except TimeoutError:
            return b"", StatusCode.error_timeout

    def write(self, data: bytes) -> tuple[int, StatusCode]:
        self._socket.sendall(data)
        return len(data), StatusCode.success


class VisaLink:
    """Questions and answers with one instrument; `open` before, `close` after."""

    def __init__(self, resource: str, *, device: str, reply_s: float, trace: WireTrace = no_trace) -> None:
        self._resource_name = resource
        self._device = device
        self._reply_s = reply_s
        self._trace = trace
        self._traces = trace is not no_trace
        self._resource: MessageBasedResource | None = None
        self._session: _Session | None = None
        self._socket: _Socket | None = None
        self.broken = False

    def open(self) -> None:
        """Connect; LinkRefused when that fails. A raw socket may seem to open where nobody listens: ask at once."""
        self.close()
        milliseconds = max(1, round(self._reply_s * 1000))
        try:
            match = _RESOURCE.match(self._resource_name)
            if match is not None and match[3]:
                # The backend leaks its socket when a name is unknown, so it only gets names that are known.
                socket.getaddrinfo(match[1], int(match[3]), socket.AF_INET, socket.SOCK_STREAM)
            resource = pyvisa.ResourceManager("@py").open_resource(
                self._resource_name,
                open_timeout=milliseconds,
                timeout=milliseconds,
                read_termination="\n",
                write_termination="\n",
            )
            assert isinstance(resource, MessageBasedResource)  # a TCPIP resource is no other
            self._resource = resource
            self._take_socket(resource)
        except Exception as error:  # the backend raises bare Exception here, besides OSError and kinds of its own
            self.close()
            raise LinkRefused(
                f"cannot open {self._resource_name} ({error}); check address, power and network", device=self._device
            ) from error
        self.broken = False

    def _take_socket(self, resource: MessageBasedResource) -> None:
        sessions = cast("dict[object, _Session]", resource.visalib.sessions)  # type: ignore[attr-defined]  # the backend's own table
        session = sessions[resource.session]
        self._session = session
        if isinstance(session.interface, socket.socket):
            self._socket = _Socket(fileno=session.interface.detach())
            self._socket.received = bytearray()
            session.interface = self._socket
            self._session = _SocketSession(self._socket)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Drop the connection; may be called twice."""
        resource, self._resource = self._resource, None
        self._session = None
        self._socket = None
        if resource is not None:
            try:
                resource.close()
            except (OSError, pyvisa.errors.Error):
                self.broken = True  # nothing is left to release: the peer was gone before us

    def ask(self, message: str, complete: Callable[[bytes], bool] | None = None) -> bytes:
        """Send `message` and return its reply with the line end.

        `complete` says whether a reply is whole when it may hold line ends inside (a binary block); without it the
        first line end is the last byte. Raises LinkTimeout, LinkRefused, LinkGarbled, NotOpenError.
        """
        session = self._session
        if session is None or self.broken:
            raise NotOpenError(
                f"the link to {self._device!r} is {'broken' if self.broken else 'closed'}; open it again"
            )
        data = message.encode("ascii") + b"\n"
        self.broken = True  # until the answer is here
        try:
            reply = self._exchange(session, data, message, complete)
        except (OSError, pyvisa.errors.Error) as error:
            if isinstance(error, LinkTimeout):  # which is an OSError too
                raise
            if self._traces and self._last_bytes():
                self._trace("<", self._last_bytes())
            raise LinkRefused(
                f"the link failed ({error}); check that the instrument is on and takes one more client",
                device=self._device,
                sent=message,
                last_bytes=self._last_bytes(),
            ) from error
        self.broken = False
        return reply

    def _exchange(
        self, session: _Session, data: bytes, message: str, complete: Callable[[bytes], bool] | None
    ) -> bytes:
        tracing = self._traces
        if self._socket is not None:
            del self._socket.received[:]
        if tracing:
            self._trace(">", data)
        start_s = time.monotonic()
        session.timeout = self._reply_s
        try:
            session.write(data)
        except TimeoutError as error:
            raise LinkTimeout("took no bytes", device=self._device, sent=message, waited_s=self._reply_s) from error
        reply, status = session.read(_CHUNK)
        if status is StatusCode.error_timeout or not _whole(reply, complete):
            reply = self._rest(
                session, reply, status, message, complete, Deadline(start_s + self._reply_s, self._reply_s)
            )
        if tracing:
            self._trace("<", reply)
        return reply

    def _rest(
        self,
        session: _Session,
        reply: bytes,
        status: StatusCode,
        message: str,
        complete: Callable[[bytes], bool] | None,
        deadline: Deadline,
    ) -> bytes:
        """Read on while a reply is not whole: a line end inside a block, or more than one chunk."""
        while True:
            if status is StatusCode.error_timeout or deadline.passed:
                if self._traces and reply:
                    self._trace("<", bytes(reply))
                raise LinkTimeout(
                    "no whole answer" if reply else "no answer",
                    device=self._device,
                    sent=message,
                    waited_s=self._reply_s,
                    last_bytes=bytes(reply),
                )
            if _whole(reply, complete):
                return bytes(reply)
            if len(reply) > LONGEST_REPLY:
                raise LinkGarbled(
                    f"more than {LONGEST_REPLY} bytes came without an end",
                    device=self._device,
                    sent=message,
                    last_bytes=bytes(reply),
                )
            session.timeout = max(0.001, deadline.remaining_s)
            more, status = session.read(_CHUNK)
            reply += more

    def _last_bytes(self) -> bytes:
        return bytes(self._socket.received) if self._socket is not None else b""


def _whole(reply: bytes, complete: Callable[[bytes], bool] | None) -> bool:
    return reply.endswith(b"\n") and (complete is None or complete(reply))
