"""One open wire to an ELM327 adapter: TCP or a serial line, every exchange bounded, every failure kept.

python-OBD swallows exceptions of its port, so the link keeps its first failure as the error that the driver shall
raise. The dead-line of an exchange starts with the first look for an answer, because python-OBD sleeps a second after
it resets the adapter.
"""

from __future__ import annotations

import select
import socket
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import serial

from drivers.clock import Deadline
from drivers.errors import LinkError, LinkGarbled, LinkRefused, LinkTimeout, NotOpenError
from drivers.roles import WireTrace

PROMPT = b">"
_CHUNK = 4096
_AT_ONCE_S = 1e-3  # what a passed dead-line still allows: taking what is there
_ANSWER_LIMIT = 65_536  # group 0x61 takes 1.2 kB; whatever is longer has lost its end
_ELM_BYTES = frozenset(b"\x00\r\n" + bytes(range(0x20, 0x7F)))


class Wire(Protocol):
    """Bytes to and from the adapter."""

    def send(self, data: bytes, by: Deadline) -> None:
        """Send all of it. Raises OSError, or TimeoutError at the dead-line."""

    def receive(self, by: Deadline) -> bytes:
        """At least one byte; empty when the peer closed. Raises OSError, or TimeoutError at the dead-line."""

    def drop_input(self) -> None:
        """Forget what came unasked."""

    def close(self) -> None:
        """Let go; may be called twice."""


class ElmLink:
    """The wire of one driver. `received` holds what came since the last `write`, `failure` the first error."""

    def __init__(self, at: str, *, baudrate: int, reply_s: float, device: str, trace: WireTrace) -> None:
        self._at = at
        self._baudrate = baudrate
        self._reply_s = reply_s
        self._device = device
        self._trace = trace
        self._wire: Wire | None = None
        self._by: Deadline | None = None
        self._sent = b""
        self.received = bytearray()
        self.failure: LinkError | None = None
        self.stop_after_lines = 0  # while the adapter monitors: stop it after so many lines, 0 for never

    def open(self) -> None:
        """Connect. Raises LinkRefused or LinkTimeout."""
        by = Deadline.after(self._reply_s)
        try:
            self._wire = _connect(self._at, self._baudrate, by)
        except TimeoutError as error:
            raise LinkTimeout(f"no connection to {self._at}", device=self._device, waited_s=self._reply_s) from error
        except (OSError, serial.SerialException) as error:
            raise LinkRefused(
                f"cannot open {self._at} ({error}); check that the adapter is on and nobody else uses it",
                device=self._device,
            ) from error

    def close(self) -> None:
        """Let go of the wire; may be called twice."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def write(self, data: bytes) -> None:
        """Send one command. Raises LinkError and keeps it."""
        wire = self._open_wire()
        self._sent = data
        self.received.clear()
        self._by = None
        self._trace(">", data)
        try:
            wire.drop_input()
            wire.send(data, Deadline.after(self._reply_s))
        except TimeoutError as error:
            raise self._failed(LinkTimeout, "the adapter takes no bytes", waited_s=self._reply_s) from error
        except (OSError, serial.SerialException) as error:
            raise self._failed(LinkRefused, f"the adapter closed the link ({error}); open it again") from error

    def read(self) -> bytes:
        """More of the answer, at least one byte. Raises LinkError and keeps it."""
        wire = self._open_wire()
        if PROMPT in self.received:
            raise self._failed(LinkGarbled, "a prompt without an answer; ask again")
        if self._by is None:
            self._by = Deadline.after(self._reply_s)
        try:
            data = wire.receive(self._by)
        except TimeoutError as error:
            raise self._out_of_time() from error
        except (OSError, serial.SerialException) as error:
            raise self._failed(LinkRefused, f"the adapter closed the link ({error}); open it again") from error
        if not data:
            raise self._failed(LinkRefused, "the adapter closed the link before its answer was whole; open it again")
        self._trace("<", data)
        self.received += data
        if len(self.received) > _ANSWER_LIMIT:
            raise self._failed(LinkGarbled, f"more than {_ANSWER_LIMIT} bytes without a prompt; is this an ELM327?")
        if self.stop_after_lines and self.received.count(b"\r") >= self.stop_after_lines:
            self.stop_after_lines = 0
            self._trace(">", b"\r")
            wire.send(b"\r", self._by)
        return data

    def ask(self, command: bytes) -> bytes:
        """One exchange without python-OBD: send `command`, return what came before the prompt. Raises LinkError."""
        self.write(command + b"\r")
        while PROMPT not in self.received:
            self.read()
        return bytes(self.received)

    def garbled(self, message: str) -> LinkGarbled:
        """The error for an answer that makes no sense, with what was sent and what came."""
        return LinkGarbled(message, device=self._device, sent=self._command(), last_bytes=bytes(self.received))

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise NotOpenError(f"{self._device}: the link to {self._at} is closed")
        return self._wire

    def _out_of_time(self) -> LinkError:
        if set(self.received) - _ELM_BYTES:
            return self._failed(LinkGarbled, "bytes that no ELM327 sends; check the baud rate, and what listens there")
        if self.received:
            return self._failed(LinkTimeout, "no whole answer", waited_s=self._reply_s)
        return self._failed(LinkTimeout, "no answer", waited_s=self._reply_s)

    def _failed(self, kind: type[LinkError], message: str, *, waited_s: float | None = None) -> LinkError:
        error = kind(
            message, device=self._device, sent=self._command(), waited_s=waited_s, last_bytes=bytes(self.received)
        )
        if self.failure is None:
            self.failure = error
        return error

    def _command(self) -> str:
        return self._sent.decode("latin-1").strip()


class _Tcp:
    """A WiFi adapter, or a twin."""

    def __init__(self, host: str, port: int, by: Deadline) -> None:
        self._socket = socket.create_connection((host, port), timeout=by.remaining_s or _AT_ONCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout_s = 0.0
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)

    def send(self, data: bytes, by: Deadline) -> None:
        self._wait_at_most(by)
        self._socket.sendall(data)

    def receive(self, by: Deadline) -> bytes:
        self._wait_at_most(by)
        return self._socket.recv(_CHUNK)

    def drop_input(self) -> None:
        while self._poller.poll(0):
            if not self._socket.recv(_CHUNK):
                raise ConnectionResetError("closed by the peer")

    def close(self) -> None:
        self._socket.close()

    def _wait_at_most(self, by: Deadline) -> None:
        # A time-out costs a system call to set; a fresh dead-line is the same as the last fresh one.
        remaining_s = by.remaining_s
        timeout_s = by.allowed_s if remaining_s > 0.9 * by.allowed_s else remaining_s or _AT_ONCE_S
        if timeout_s != self._timeout_s:
            self._socket.settimeout(timeout_s)
            self._timeout_s = timeout_s


class _SerialLine:
    """A serial adapter, Bluetooth or USB, or a pty."""

    def __init__(self, path: str, baudrate: int, by: Deadline) -> None:
        self._port = serial.Serial(path, baudrate, timeout=by.remaining_s, write_timeout=by.remaining_s, exclusive=True)

    def send(self, data: bytes, by: Deadline) -> None:
        self._port.write_timeout = by.remaining_s or _AT_ONCE_S
        try:
            self._port.write(data)
        except serial.SerialTimeoutException as error:
            raise TimeoutError(str(error)) from error

    def receive(self, by: Deadline) -> bytes:
        # What is there is taken at once; only when nothing is there does it wait for the first byte.
        self._port.timeout = by.remaining_s
        data = bytes(self._port.read(self._port.in_waiting or 1))
        if not data:
            raise TimeoutError("nothing came")
        return data

    def drop_input(self) -> None:
        self._port.reset_input_buffer()

    def close(self) -> None:
        self._port.close()


def _connect(at: str, baudrate: int, by: Deadline) -> Wire:
    url = urlsplit(at)
    if url.scheme == "tcp":
        return _Tcp(url.hostname or "", url.port or 0, by)
    rates = parse_qs(url.query).get("baud")
    return _SerialLine(url.path, int(rates[0]) if rates else baudrate, by)
