"""The van behind an ELM327 adapter, the way most people reach it: on TCP (a WiFi adapter) or a pty (a serial one).

`Elm327` is the adapter without a wire: characters in, characters out, by the data sheet (ELM327DS) as far as a tester
of this car needs it, and everything that python-OBD 0.7.3 sends. It stands on a `DiagnosticBus` with the van's control
units, so that what the real combination gets wrong is wrong here too:

- `0100` gets NO DATA: no control unit of this car answers the standard requests.
- A reply of several frames needs flow control from the address that asked. The adapter's automatic one answers the
  reply address minus 8, which is nobody here: without ATFCSH, ATFCSD and ATFCSM1 only the first frame comes, and the
  control unit drops further requests for a second.
- Automatic protocol search needs an answer to `0100`, so it ends in UNABLE TO CONNECT: ATSP6 is mandatory.

Not modelled: baud rates, voltages, other protocols' buses, and time on the bus. Replies come at once, in the order of
the real ones; a separation time that was asked for is not waited for. Without ATCRA or ATCF every identifier passes.

Everything runs on the service loop's thread; the van is read under `lock`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import time
import tty
from collections.abc import Callable, Mapping
from threading import RLock
from types import TracebackType
from typing import Self

from drivers.errors import ConfigError
from drivers.service_loop import ServiceLoop
from twins.faces.tcp import FaceProtocol, TcpFace
from twins.vehicle.broadcast import Broadcaster, Frame
from twins.vehicle.ecus import control_units
from twins.vehicle.isotp import FIRST, IsoTpResponder
from twins.vehicle.van import Van

IDENTITY = "ELM327 v1.5"
DESCRIPTION = "OBDII to RS232 Interpreter"
_CAN_11_500 = "6"
_LINE_LIMIT = 127  # the adapter's input buffer, data sheet
_OPEN_TIMEOUT_S = 5.0
_PTY_CHUNK = 4096
_PTY_BACKLOG = 1 << 20  # a reader that lets a megabyte pile up is gone

_PROTOCOLS = {
    "0": "AUTO",
    "1": "SAE J1850 PWM",
    "2": "SAE J1850 VPW",
    "3": "ISO 9141-2",
    "4": "ISO 14230-4 (KWP 5BAUD)",
    "5": "ISO 14230-4 (KWP FAST)",
    "6": "ISO 15765-4 (CAN 11/500)",
    "7": "ISO 15765-4 (CAN 29/500)",
    "8": "ISO 15765-4 (CAN 11/250)",
    "9": "ISO 15765-4 (CAN 29/250)",
    "A": "SAE J1939 (CAN 29/250)",
    "B": "USER1 (CAN 11/125)",
    "C": "USER2 (CAN 11/50)",
}
# What a request gets on a protocol that this car does not speak; from the data sheet's list of messages, from memory.
_OTHER_PROTOCOL = {"3": "BUS INIT: ...ERROR", "4": "BUS INIT: ...ERROR", "5": "BUS INIT: ERROR"} | dict.fromkeys(
    "89ABC", "CAN ERROR"
)


class DiagnosticBus:
    """The van's control units on one CAN bus, served on demand; `lock` is taken for every look at the van."""

    def __init__(self, van: Van, lock: RLock) -> None:
        self.van = van
        self.lock = lock
        self._units = {
            unit.unit.request_id: (unit.unit.reply_id, IsoTpResponder(unit.answer, padding=unit.unit.padding))
            for unit in control_units(van)
        }

    def send(self, can_id: int, data: bytes, now_s: float) -> list[Frame]:
        """Put one frame on the bus and return what it causes, separation times passed over."""
        unit = self._units.get(can_id)
        if unit is None:
            return []
        reply_id, responder = unit
        with self.lock:
            frames = responder.receive(data, now_s)
            while responder.next_due_s < math.inf:
                frames += responder.due(responder.next_due_s)
        return [Frame(reply_id, frame) for frame in frames]


class Elm327:
    """One adapter: `receive` takes characters from the host and returns characters for it."""

    def __init__(self, bus: DiagnosticBus, now: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._now = now
        self._line = bytearray()
        self._last_line = b""
        self._asleep = False
        self._broadcaster: Broadcaster | None = None  # while monitoring
        self._commands = self._command_table()
        self._reset()

    @property
    def monitoring(self) -> bool:
        """Whether it prints whatever passes on the bus, until a character comes."""
        return self._broadcaster is not None

    @property
    def next_due_s(self) -> float:
        """When `monitored` has more; infinite while not monitoring."""
        return math.inf if self._broadcaster is None else self._broadcaster.next_due_s

    def monitored(self) -> bytes:
        """What monitoring prints for the frames that are due by now."""
        if self._broadcaster is None:
            return b""
        with self._bus.lock:
            frames = self._broadcaster.due(self._now())
        return b"".join([self._text(self._printed(frame)) for frame in frames if self._passes(frame.can_id)])

    def receive(self, data: bytes) -> bytes:
        """Take in characters and return the answer, echo included."""
        output = b""
        if self._broadcaster is not None and data:
            # The character that ends monitoring is discarded, and those that follow at once with it (data sheet).
            self._broadcaster = None
            return self._text("STOPPED") + self._prompt()
        for byte in data:
            if byte == 0x0D:
                line, self._line = bytes(self._line), bytearray()
                if self._echo:
                    output += line + self._eol
                output += self._execute(line)
            elif byte not in (0x0A, 0x00) and len(self._line) <= _LINE_LIMIT:
                self._line.append(byte)
        return output

    # one line

    def _execute(self, line: bytes) -> bytes:
        if self._asleep:
            self._asleep = False
            return self._prompt()
        # An empty line repeats the last one.
        line = self._last_line = line or self._last_line
        if len(line) > _LINE_LIMIT:
            return self._answer("?")
        command = line.replace(b" ", b"").decode("latin-1").upper()
        if command.startswith("AT"):
            return self._at(command[2:])
        if command and not command.strip("0123456789ABCDEF"):
            return self._request(command)
        return self._answer("?")

    def _at(self, command: str) -> bytes:
        for length in range(min(4, len(command)), 0, -1):
            handler = self._commands.get(command[:length])
            if handler is not None:
                answer = handler(command[length:])
                if answer is not None:
                    return answer
        return self._answer("?")

    def _request(self, digits: str) -> bytes:
        if self._protocol != _CAN_11_500:
            return self._answer(*self._elsewhere())
        # An odd last digit is the number of replies to wait for (data sheet).
        wanted = int(digits[-1], 16) if len(digits) % 2 else 0
        request = bytes.fromhex(digits[: len(digits) & ~1])
        if self._formatting:
            if not 0 < len(request) <= 7:
                return self._answer("?")
            data = bytes((len(request),)) + request.ljust(7, b"\0")
        else:
            if not 0 < len(request) <= 8:
                return self._answer("?")
            data = request
        frames = self._exchange(data)
        if not frames:
            return self._answer("NO DATA")
        if wanted:
            frames = frames[:wanted]
        if self._headers or not self._formatting:
            return self._answer(*[self._printed(frame) for frame in frames])
        return self._answer(*self._without_headers(frames))

    def _exchange(self, data: bytes) -> list[Frame]:
        """Send one frame and gather the replies that pass the filter, with flow control as it is set up."""
        bus, now_s = self._bus, self._now()
        frames = [frame for frame in bus.send(self._header, data, now_s) if self._passes(frame.can_id)]
        at = 0
        while at < len(frames):
            frame = frames[at]
            at += 1
            if frame.data[0] >> 4 == FIRST and self._flow_control:
                can_id, control = self._flow_control_for(frame.can_id)
                block = control[1] if len(control) > 1 else 0
                while more := bus.send(can_id, control, now_s):
                    frames += [each for each in more if self._passes(each.can_id)]
                    if not block or len(more) < block:
                        break
        return frames

    def _flow_control_for(self, reply_id: int) -> tuple[int, bytes]:
        if self._flow_mode == 1:
            return self._flow_header or 0, self._flow_data
        return reply_id - 8, self._flow_data if self._flow_mode == 2 else b"\x30\x00\x00"

    def _elsewhere(self) -> tuple[str, ...]:
        if self._protocol == "0":
            return ("SEARCHING...", "UNABLE TO CONNECT")
        return (_OTHER_PROTOCOL.get(self._protocol, "NO DATA"),)

    def _passes(self, can_id: int) -> bool:
        return (can_id ^ self._filter) & self._mask == 0

    # printing

    def _text(self, line: str) -> bytes:
        return line.encode("ascii") + self._eol

    def _prompt(self) -> bytes:
        return self._eol + b">"

    def _answer(self, *lines: str) -> bytes:
        return b"".join([self._text(line) for line in lines]) + self._prompt()

    def _printed(self, frame: Frame) -> str:
        data = frame.data
        if self._spaces:
            text = data.hex(" ").upper() + " "
            if self._lengths:
                text = f"{len(data):X} {text}"
            return f"{frame.can_id:03X} {text}" if self._headers else text
        text = data.hex().upper()
        if self._lengths:
            text = f"{len(data):X}{text}"
        return f"{frame.can_id:03X}{text}" if self._headers else text

    def _without_headers(self, frames: list[Frame]) -> list[str]:
        lines = []
        for frame in frames:
            kind, low = frame.data[0] >> 4, frame.data[0] & 0x0F
            if kind == 0:
                lines.append(self._spaced(frame.data[1 : 1 + low]))
            elif kind == FIRST:
                lines += [f"{low << 8 | frame.data[1]:03X}", self._numbered(0, frame.data[2:])]
            else:
                lines.append(self._numbered(low, frame.data[1:]))
        return lines

    def _numbered(self, number: int, data: bytes) -> str:
        return f"{number:X}:{' ' if self._spaces else ''}{self._spaced(data)}"

    def _spaced(self, data: bytes) -> str:
        return data.hex(" ").upper() + " " if self._spaces else data.hex().upper()

    # AT commands

    def _reset(self) -> None:
        self._echo = True
        self._eol = b"\r"
        self._spaces = True
        self._headers = False
        self._lengths = False
        self._formatting = True
        self._flow_control = True
        self._protocol = "0"
        self._automatic = True
        self._header = 0x7DF
        self._flow_header: int | None = None
        self._flow_data = b""
        self._flow_mode = 0
        self._filter = self._mask = 0

    def _command_table(self) -> Mapping[str, Callable[[str], bytes | None]]:
        def fixed(text: Callable[[], str]) -> Callable[[str], bytes | None]:
            return lambda rest: None if rest else self._answer(text())

        def ignored(pattern: str) -> Callable[[str], bytes | None]:
            compiled = re.compile(pattern)
            return lambda rest: self._answer("OK") if compiled.fullmatch(rest) else None

        return {
            "Z": lambda rest: None if rest else self._restart(),
            "WS": lambda rest: None if rest else self._restart(),
            "D": lambda rest: None if rest else self._defaults(),
            "I": fixed(lambda: IDENTITY),
            "@1": fixed(lambda: DESCRIPTION),
            "RV": fixed(self._voltage),
            "IGN": fixed(lambda: "ON"),
            "DP": fixed(lambda: ("AUTO, " if self._automatic and self._protocol != "0" else "") + self._name()),
            "DPN": fixed(lambda: ("A" if self._automatic else "") + self._protocol),
            "E": self._switch("_echo"),
            "S": self._switch("_spaces"),
            "H": self._switch("_headers"),
            "D0": lambda rest: None if rest else self._set_lengths(False),
            "D1": lambda rest: None if rest else self._set_lengths(True),
            "L": self._linefeeds,
            "CAF": self._switch("_formatting"),
            "CFC": self._switch("_flow_control"),
            "SP": self._set_protocol,
            "TP": self._set_protocol,
            "PC": lambda rest: None if rest else self._answer("OK"),
            "SH": self._set_header,
            "FCSH": self._set_flow_header,
            "FCSD": self._set_flow_data,
            "FCSM": self._set_flow_mode,
            "CRA": self._set_receive_address,
            "AR": lambda rest: None if rest else self._set_receive_address(""),
            "CF": self._set_filter,
            "CM": self._set_mask,
            "MA": lambda rest: None if rest else self._monitor(),
            "LP": lambda rest: None if rest else self._sleep(),
            # These change timing and framing that this twin has none of.
            "ST": ignored("[0-9A-F]{2}"),
            "AT": ignored("[012]"),
            "AL": ignored(""),
            "NL": ignored(""),
            "M": ignored("[01]"),
            "R": ignored("[01]"),
            "V": ignored("[01]"),
            "BI": ignored(""),
            "CSM": ignored("[01]"),
        }

    def _switch(self, name: str) -> Callable[[str], bytes | None]:
        def switch(rest: str) -> bytes | None:
            if rest not in {"0", "1"}:
                return None
            setattr(self, name, rest == "1")
            return self._answer("OK")

        return switch

    def _restart(self) -> bytes:
        self._reset()
        return self._eol * 2 + self._answer(IDENTITY)

    def _defaults(self) -> bytes:
        protocol, automatic = self._protocol, self._automatic
        self._reset()
        self._protocol, self._automatic = protocol, automatic
        return self._answer("OK")

    def _voltage(self) -> str:
        with self._bus.lock:
            return f"{self._bus.van.bms.voltage_12v:.1f}V"

    def _name(self) -> str:
        return _PROTOCOLS[self._protocol]

    def _set_lengths(self, on: bool) -> bytes:
        self._lengths = on
        return self._answer("OK")

    def _linefeeds(self, rest: str) -> bytes | None:
        if rest not in {"0", "1"}:
            return None
        self._eol = b"\r\n" if rest == "1" else b"\r"
        return self._answer("OK")

    def _set_protocol(self, rest: str) -> bytes | None:
        automatic = len(rest) == 2 and rest[0] == "A"
        number = rest[1:] if automatic else rest
        if number not in _PROTOCOLS:
            return None
        self._protocol, self._automatic = number, automatic or number == "0"
        return self._answer("OK")

    def _set_header(self, rest: str) -> bytes | None:
        # Three digits are an 11-bit identifier; of six or eight an 11-bit protocol takes the last eleven bits.
        value = _hex(rest, (3, 6, 8))
        if value is None:
            return None
        self._header = value & 0x7FF
        return self._answer("OK")

    def _set_flow_header(self, rest: str) -> bytes | None:
        value = _hex(rest, (3, 8))
        if value is None:
            return None
        self._flow_header = value & 0x7FF
        return self._answer("OK")

    def _set_flow_data(self, rest: str) -> bytes | None:
        if _hex(rest, (2, 4, 6, 8, 10)) is None:
            return None
        self._flow_data = bytes.fromhex(rest)
        return self._answer("OK")

    def _set_flow_mode(self, rest: str) -> bytes | None:
        # A mode whose data were never given is refused (data sheet).
        ready = {"0": True, "1": self._flow_header is not None and bool(self._flow_data), "2": bool(self._flow_data)}
        if not ready.get(rest, False):
            return None
        self._flow_mode = int(rest)
        return self._answer("OK")

    def _set_receive_address(self, rest: str) -> bytes | None:
        if not rest:
            self._filter = self._mask = 0
            return self._answer("OK")
        # X stands for any digit.
        if not re.fullmatch(r"[0-9A-FX]{3}|[0-9A-FX]{8}", rest):
            return None
        self._filter = int(rest.replace("X", "0"), 16) & 0x7FF
        self._mask = int(re.sub("[0-9A-F]", "F", rest).replace("X", "0"), 16) & 0x7FF
        return self._answer("OK")

    def _set_filter(self, rest: str) -> bytes | None:
        value = _hex(rest, (3, 8))
        if value is None:
            return None
        self._filter = value & 0x7FF
        return self._answer("OK")

    def _set_mask(self, rest: str) -> bytes | None:
        value = _hex(rest, (3, 8))
        if value is None:
            return None
        self._mask = value & 0x7FF
        return self._answer("OK")

    def _monitor(self) -> bytes:
        if self._protocol != _CAN_11_500:
            return self._answer(*self._elsewhere())
        self._broadcaster = Broadcaster(self._bus.van)
        self._broadcaster.start(self._now())
        return self.monitored()

    def _sleep(self) -> bytes:
        self._asleep = True
        return self._text("OK")


class Elm327Face:
    """An ELM327 on TCP: an adapter per client, all on the van's one bus. A context manager."""

    def __init__(self, van: Van, lock: RLock, loop: ServiceLoop, host: str = "127.0.0.1", port: int = 0) -> None:
        bus = DiagnosticBus(van, lock)
        self._face = TcpFace(lambda: _ElmProtocol(Elm327(bus)), loop, host=host, port=port)

    def __enter__(self) -> Self:
        self._face.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop all clients; may be called twice."""
        self._face.close()

    @property
    def host(self) -> str:
        """Address it listens on."""
        return self._face.host

    @property
    def port(self) -> int:
        """Port it listens on; 0 while closed."""
        return self._face.port

    @property
    def address(self) -> str:
        """Where a driver finds it, the `at` of a station file."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


class Elm327PtyFace:
    """An ELM327 on a pseudo terminal, one adapter that keeps its settings between clients. A context manager."""

    def __init__(self, van: Van, lock: RLock, loop: ServiceLoop) -> None:
        self._elm = Elm327(DiagnosticBus(van, lock))
        self._loop = loop
        self._ends: tuple[int, int] | None = None  # ours, and the client's, held open so that ours never hangs up
        self._path = ""
        self._backlog = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        try:
            ours, theirs = os.openpty()
        except OSError as error:
            raise ConfigError(f"cannot open a pseudo terminal ({error.strerror}); use the TCP face instead") from error
        self._ends = (ours, theirs)
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._path = os.ttyname(theirs)
        self._loop.call(lambda: self._loop.loop.add_reader(ours, self._readable), _OPEN_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the terminal away; may be called twice."""
        if self._ends is None:
            return
        ends, self._ends = self._ends, None
        self._loop.call(lambda: self._detach(ends[0]), _OPEN_TIMEOUT_S)
        for end in ends:
            os.close(end)

    @property
    def address(self) -> str:
        """Where a driver finds it, the `at` of a station file."""
        return f"serial://{self._path}"

    def _detach(self, ours: int) -> None:
        self._loop.loop.remove_reader(ours)
        self._loop.loop.remove_writer(ours)
        if self._timer is not None:
            self._timer.cancel()

    def _readable(self) -> None:
        if self._ends is None:
            return
        with contextlib.suppress(BlockingIOError):
            self._send(self._elm.receive(os.read(self._ends[0], _PTY_CHUNK)))
        self._monitor()

    def _monitor(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends is None or not self._elm.monitoring:
            return
        self._send(self._elm.monitored())
        wait_s = max(0.0, self._elm.next_due_s - time.monotonic())
        self._timer = self._loop.loop.call_later(wait_s, self._monitor)

    def _send(self, data: bytes) -> None:
        if self._ends is None or not data:
            return
        if len(self._backlog) > _PTY_BACKLOG:
            self._backlog.clear()
        self._backlog += data
        self._writable()

    def _writable(self) -> None:
        if self._ends is None:
            return
        ours = self._ends[0]
        with contextlib.suppress(BlockingIOError):
            del self._backlog[: os.write(ours, self._backlog)]
        if self._backlog:
            self._loop.loop.add_writer(ours, self._writable)
        else:
            self._loop.loop.remove_writer(ours)


class _ElmProtocol(FaceProtocol):
    """One TCP client with an adapter of its own."""

    def __init__(self, elm: Elm327) -> None:
        self._elm = elm
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Answer at once; while monitoring, go on at the pace of the frames."""
        self.transport.write(self._elm.receive(data))
        if self._elm.monitoring or self._timer is not None:
            self._monitor()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop monitoring with the client."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _monitor(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._elm.monitoring or self.transport.is_closing():
            return
        self.transport.write(self._elm.monitored())
        wait_s = max(0.0, self._elm.next_due_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._monitor)


def _hex(text: str, lengths: tuple[int, ...]) -> int | None:
    if len(text) not in lengths or text.strip("0123456789ABCDEF"):
        return None
    return int(text, 16)
