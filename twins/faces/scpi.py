"""SCPI on a stream: the header tree, the message rules and the error queue that every SCPI instrument shares.

A command set is declared, not coded: `CommandTree.add(":NUMeric[:NORMal]:ITEM<x>", set_=..., query=...)`. What the
declaration means, after IEEE 488.2 and Yokogawa's IM 760301-17E section 5.2:

- capitals are the short form; anything between short and long form is accepted, in either case;
- `[...]` may be left out; `<x>` is a number, 1 when left out; `?` at the end asks;
- `;` joins units into one message, and one message gets one reply; a unit that does not begin with `:` continues at the
  level of the unit before it, and common commands (`*IDN?`) leave that level as it is.

A message that cannot be understood is never answered and never fatal: it goes to the client's error queue, which
the client asks for. So a client that sends nonsense waits for ever, as it would in front of the real instrument.

Each client is a session with its own error queue and event registers, so that two clients do not take each other's
errors away; settings belong to the instrument. Parsing is remembered per line, because a bench sends the same line once
a second for hours.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from drivers.service_loop import ServiceLoop
from twins.faces.tcp import FaceProtocol, TcpFace

LONGEST_LINE: Final = 8192
ERROR_QUEUE_DEPTH: Final = 16
_REMEMBERED_LINES: Final = 512
_QUEUE_OVERFLOW: Final = (350, "Queue overflow")


class ScpiError(Exception):
    """A unit that is refused; `code` and `text` go to the error queue."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{code}, {text}")


class ScpiSession:
    """What one client has of its own: error queue, event registers, and whether it waits for an event."""

    def __init__(self) -> None:
        self.errors: deque[tuple[int, str]] = deque()
        self.standard_events = 0
        self.standard_mask = 0
        self.service_mask = 0

    def queue_error(self, code: int, text: str) -> None:
        """Keep an error until it is asked for; the last place of a full queue says that it overflowed."""
        if len(self.errors) >= ERROR_QUEUE_DEPTH:
            self.errors[-1] = _QUEUE_OVERFLOW
        else:
            self.errors.append((code, text))
        self.standard_events |= 0x10 if code >= 200 else 0x20  # EXE and CME of IEEE 488.2

    def next_error(self) -> tuple[int, str]:
        """Take the oldest error; (0, "No error") when there is none."""
        return self.errors.popleft() if self.errors else (0, "No error")

    def clear(self) -> None:
        """Do what `*CLS` does."""
        self.errors.clear()
        self.standard_events = 0

    def waits(self) -> bool:
        """Look whether the rest of the message must wait for an event; overridden by sessions that can wait."""
        return False


S = TypeVar("S", bound=ScpiSession)


class Call(NamedTuple):
    """One unit of a message as its handler sees it."""

    arguments: tuple[str, ...]
    suffixes: tuple[int, ...]  # of the nodes that carry `<x>`, from left to right

    def one(self) -> str:
        """Return the only argument; ScpiError 109 without one, 108 with several."""
        if not self.arguments:
            raise ScpiError(109, "Missing parameter")
        if len(self.arguments) > 1:
            raise ScpiError(108, "Parameter not allowed")
        return self.arguments[0]


SetHandler = Callable[[S, Call], None]
QueryHandler = Callable[[S, Call], str | bytes]


@dataclass(slots=True)
class _Node(Generic[S]):
    """A mnemonic of the tree and what may follow it."""

    short: str = ""
    long: str = ""
    numbered: bool = False
    optional: bool = False
    children: list[_Node[S]] = field(default_factory=list)
    set_: SetHandler[S] | None = None
    query: QueryHandler[S] | None = None

    def matches(self, typed: str) -> bool:
        return len(typed) >= len(self.short) and self.long.startswith(typed)


class Unit(NamedTuple, Generic[S]):
    """One unit of a message, resolved: a handler with its call, or the error that resolving it gave."""

    set_: SetHandler[S] | None
    query: QueryHandler[S] | None
    call: Call
    error: tuple[int, str] | None = None


_MNEMONIC = re.compile(r"(\[?):?([A-Za-z*]+)(<x>)?\]?")
_TYPED = re.compile(r"([A-Z]+)(\d{0,6})\Z")


class CommandTree(Generic[S]):
    """The commands that an instrument understands.

    >>> tree: CommandTree[ScpiSession] = CommandTree()
    >>> tree.add(":NUMeric[:NORMal]:ITEM<x>", query=lambda session, call: f"item {call.suffixes[-1]}")
    >>> session = ScpiSession()
    >>> [unit.query(session, unit.call) for unit in tree.parse("num:item4?;ITEM?") if unit.query]
    ['item 4', 'item 1']
    """

    def __init__(self) -> None:
        self._root: _Node[S] = _Node()
        self._common: dict[str, _Node[S]] = {}
        self._remembered: dict[str, tuple[Unit[S], ...]] = {}

    def add(self, pattern: str, *, set_: SetHandler[S] | None = None, query: QueryHandler[S] | None = None) -> None:
        """Declare a command; ValueError for a pattern that is not one, or was declared before."""
        if pattern.startswith("*"):
            self._common[pattern[1:].upper()] = _Node(set_=set_, query=query)
            return
        node = self._root
        at = 0
        while at < len(pattern):
            match = _MNEMONIC.match(pattern, at)
            if match is None:
                raise ValueError(f"{pattern!r} is not a header pattern; see the module's docstring")
            node = self._child(node, match)
            at = match.end()
        if node.set_ is not None or node.query is not None:
            raise ValueError(f"{pattern!r} is declared twice")
        node.set_, node.query = set_, query

    def parse(self, line: str) -> tuple[Unit[S], ...]:
        """Resolve a message into units; what is wrong with one stands in its `error`."""
        known = self._remembered.get(line)
        if known is None:
            known = tuple(self._parse(line))
            if len(self._remembered) >= _REMEMBERED_LINES:
                self._remembered.clear()
            self._remembered[line] = known
        return known

    @staticmethod
    def _child(node: _Node[S], match: re.Match[str]) -> _Node[S]:
        word = match[2]
        short = "".join(letter for letter in word if letter.isupper())
        for child in node.children:
            if child.long == word.upper():
                return child
        child = _Node[S](short, word.upper(), numbered=match[3] is not None, optional=match[1] == "[")
        node.children.append(child)
        return child

    def _parse(self, line: str) -> list[Unit[S]]:
        units: list[Unit[S]] = []
        level: tuple[tuple[_Node[S], tuple[int, ...]], ...] = ((self._root, ()),)
        for text in _split(line, ";"):
            stripped = text.strip()
            if not stripped:
                continue
            header, _, rest = _partition(stripped)
            asks = header.endswith("?")
            arguments = tuple(argument.strip() for argument in _split(rest, ",")) if rest.strip() else ()
            try:
                suffixes: tuple[int, ...] = ()
                if header.startswith("*"):
                    node = self._common_node(header)
                else:
                    level, node, suffixes = self._walk(header.removesuffix("?"), level)
                units.append(self._resolved(node, Call(arguments, suffixes), asks=asks))
            except ScpiError as error:
                units.append(Unit(None, None, Call(arguments, ()), (error.code, error.text)))
        return units

    def _common_node(self, header: str) -> _Node[S]:
        node = self._common.get(header[1:].removesuffix("?").upper())
        if node is None:
            raise ScpiError(113, "Undefined header")
        return node

    @staticmethod
    def _resolved(node: _Node[S], call: Call, *, asks: bool) -> Unit[S]:
        if asks and node.query is not None:
            return Unit(None, node.query, call)
        if not asks and node.set_ is not None:
            return Unit(node.set_, None, call)
        raise ScpiError(113, "Undefined header")

    def _walk(
        self, header: str, level: tuple[tuple[_Node[S], tuple[int, ...]], ...]
    ) -> tuple[tuple[tuple[_Node[S], tuple[int, ...]], ...], _Node[S], tuple[int, ...]]:
        """Go down the tree; return the level for the next unit, the node reached, and its suffixes."""
        if header.startswith(":"):
            level = ((self._root, ()),)
        words = header.removeprefix(":").split(":")
        # A level is a set of nodes: one, and those below it that may be left out.
        for word in words[:-1]:
            level = (_follow(level, word),)
        node, suffixes = _follow(level, words[-1])
        return level, *_settled(node, suffixes)


def _follow(level: tuple[tuple[_Node[S], tuple[int, ...]], ...], word: str) -> tuple[_Node[S], tuple[int, ...]]:
    """Return the child that `word` names, looking through nodes that may be left out."""
    match = _TYPED.match(word.upper())
    if match is None:
        raise ScpiError(113, "Undefined header")
    waiting = deque(level)
    while waiting:
        node, suffixes = waiting.popleft()
        for child in node.children:
            if child.matches(match[1]) and (child.numbered or not match[2]):
                if not child.numbered:
                    return child, suffixes
                return child, (*suffixes, int(match[2]) if match[2] else 1)
        waiting.extend(
            (child, (*suffixes, 1) if child.numbered else suffixes) for child in node.children if child.optional
        )
    raise ScpiError(113, "Undefined header")


def _settled(node: _Node[S], suffixes: tuple[int, ...]) -> tuple[_Node[S], tuple[int, ...]]:
    """Go on through trailing nodes that were left out, when the node reached has no handler of its own."""
    while node.set_ is None and node.query is None:
        below = next((child for child in node.children if child.optional), None)
        if below is None:
            break
        node = below
        if below.numbered:
            suffixes = (*suffixes, 1)
    return node, suffixes


def _partition(text: str) -> tuple[str, str, str]:
    """Split a unit at the first white space."""
    parts = text.split(None, 1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside quotation marks."""
    if '"' not in text and "'" not in text:
        return text.split(separator)
    parts: list[str] = []
    start = 0
    quote = ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == separator:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


class ScpiFace(TcpFace, Generic[S]):
    """Serves a command tree on TCP, a session per client, on the loop's thread and under `lock`."""

    def __init__(
        self,
        tree: CommandTree[S],
        make_session: Callable[[], S],
        lock: AbstractContextManager[object],
        loop: ServiceLoop,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(self._protocol, loop, host=host, port=port)
        self._tree = tree
        self._make_session = make_session
        self._lock = lock
        self._service_loop = loop
        self._waiting: set[ScpiProtocol[S]] = set()

    @property
    def address(self) -> str:
        """Where a driver finds it, as the station file writes it."""
        return f"visa://TCPIP::{self.host}::{self.port}::SOCKET"

    def wake(self) -> None:
        """Let clients that wait for an event look again; from any thread, cheap when nobody waits."""
        if self._waiting:
            self._service_loop.loop.call_soon_threadsafe(self._resume)

    def _protocol(self) -> ScpiProtocol[S]:
        return ScpiProtocol(self._tree, self._make_session(), self._lock, self._waiting)

    def _resume(self) -> None:
        for protocol in list(self._waiting):
            protocol.resume()


class ScpiProtocol(FaceProtocol, Generic[S]):
    """One client: lines in, one reply per line that asks."""

    def __init__(
        self,
        tree: CommandTree[S],
        session: S,
        lock: AbstractContextManager[object],
        waiting: set[ScpiProtocol[S]],
    ) -> None:
        self._tree = tree
        self._session = session
        self._lock = lock
        self._waiting = waiting
        self._buffer = bytearray()
        self._skipping = False
        self._deaf = False
        self._units: deque[Unit[S]] = deque()
        self._answers: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Answer every complete line; what is too long is dropped up to its end and queued as an error."""
        self._buffer += data
        if self._session.waits():
            if len(self._buffer) > LONGEST_LINE:
                self.transport.abort()
            return
        self._serve()

    def pause_writing(self) -> None:
        """Take no more questions from a client that does not read the answers."""
        self._deaf = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on when it has read them."""
        self._deaf = False
        self._serve()
        if not self._deaf:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._waiting.discard(self)
        super().connection_lost(exc)

    def resume(self) -> None:
        """Go on with a message that waited, if its event has come."""
        with self._lock:
            if self._session.waits():
                return
            self._waiting.discard(self)
            self._run()
        self._serve()

    def _serve(self) -> None:
        while not (self._deaf or self._session.waits() or self.transport.is_closing()):
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LONGEST_LINE:
                    self._buffer.clear()
                    if not self._skipping:
                        self._session.queue_error(223, "Too much data")
                    self._skipping = True
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if self._skipping:
                self._skipping = False
                continue
            if len(line) > LONGEST_LINE:
                self._session.queue_error(223, "Too much data")
                continue
            self._units.extend(self._tree.parse(line.decode("latin-1")))
            with self._lock:
                self._run()

    def _run(self) -> None:
        """Carry out the units in order; send one reply when the last is done."""
        session = self._session
        while self._units:
            set_, query, call, error = self._units.popleft()
            if error is not None:
                session.queue_error(*error)
                continue
            try:
                if query is not None:
                    answer = query(session, call)
                    self._answers.append(answer if isinstance(answer, bytes) else answer.encode("ascii"))
                elif set_ is not None:
                    set_(session, call)
            except ScpiError as refused:
                session.queue_error(refused.code, refused.text)
            if session.waits():
                self._waiting.add(self)
                return
        if self._answers:
            self.transport.write(b";".join(self._answers) + b"\n")
            self._answers.clear()
