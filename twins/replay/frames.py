"""Frames out of text: one generator per CAN dialect, streaming, so that a file of gigabytes costs no memory.

What a logger does to a file is told, not hidden: a line that does not parse is counted with its number and skipped, a
last line that was cut is named, and a file in which most lines do not parse is refused, because then the dialect is
wrong and every number would be noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from twins.replay.dialects import (
    CANDUMP_LINE,
    CRTD_LINE,
    Dialect,
    LogError,
    open_text,
    sniff,
    title,
)

Progress = Callable[[int, int], None]
"""Called with bytes read and bytes in all, a few times a second."""

_PROGRESS_LINES = 8192
_PROBATION_LINES = 50
_KEPT_PROBLEMS = 20
_STANDARD_ID_BITS = 11


class LogFrame(NamedTuple):
    """One frame as logged. `time_s` is the logger's own time, epoch or not; `channel` tells buses apart."""

    time_s: float
    can_id: int
    data: bytes
    channel: str
    line: int
    sent: bool  # written by the logger itself, e.g. a diagnostic request


class LineProblem(NamedTuple):
    """A line that gave no frame, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class ReadStatistics:
    """What a reader met; filled while its generator runs."""

    lines: int = 0
    frames: int = 0
    comments: int = 0
    malformed: int = 0
    problems: list[LineProblem] = field(default_factory=list)  # the first ones only
    truncated_line: int | None = None
    other_frames: int = 0  # error, remote and CAN FD frames, which carry nothing for us


class _Skip(Exception):
    """The line is a comment, an event, or a frame of a kind that is not decoded."""

    def __init__(self, *, frame: bool = False) -> None:
        self.frame = frame


Parser = Callable[[str, int], LogFrame]


def read_frames(
    path: Path, dialect: Dialect, statistics: ReadStatistics, progress: Progress | None = None
) -> Iterator[LogFrame]:
    """All frames of a CAN log, in the file's order.

    Raises LogError where the file cannot be read, or is not of this dialect.
    """
    if not dialect.is_can:
        raise LogError(path, None, f"{title(dialect)} holds rows, not frames; read it with twins.replay.leafspy")
    size = path.stat().st_size if path.exists() else 0
    with open_text(path) as (stream, tell):
        yield from _frames(stream, path, dialect, statistics, lambda: progress(tell(), size) if progress else None)
    if progress is not None:
        progress(size, size)


def _frames(
    stream: TextIO, path: Path, dialect: Dialect, statistics: ReadStatistics, report: Callable[[], None]
) -> Iterator[LogFrame]:
    parse = _parser(dialect)
    pending: LineProblem | None = None
    line_number = 0
    for line_number, line in enumerate(stream, start=1):
        if line_number % _PROGRESS_LINES == 0:
            report()
        if pending is not None:
            _count(statistics, pending)
            pending = None
            _refuse_if_hopeless(path, dialect, statistics)
        if not line.strip():
            continue
        try:
            frame = parse(line, line_number)
        except _Skip as skip:
            if skip.frame:
                statistics.other_frames += 1
            else:
                statistics.comments += 1
            continue
        except (ValueError, IndexError) as error:
            # Kept back until the next line: on the last one it means that the recording was cut.
            pending = LineProblem(line_number, str(error) or "fields are missing")
            continue
        statistics.frames += 1
        yield frame
    statistics.lines = line_number
    if pending is not None:
        if statistics.frames:
            statistics.truncated_line = pending.line
        else:
            _count(statistics, pending)
    if statistics.frames == 0:
        _refuse(path, dialect, statistics)


def _count(statistics: ReadStatistics, problem: LineProblem) -> None:
    statistics.malformed += 1
    if len(statistics.problems) < _KEPT_PROBLEMS:
        statistics.problems.append(problem)


def _refuse_if_hopeless(path: Path, dialect: Dialect, statistics: ReadStatistics) -> None:
    seen = statistics.frames + statistics.malformed
    if seen >= _PROBATION_LINES and statistics.malformed * 2 > seen:
        _refuse(path, dialect, statistics)


def _refuse(path: Path, dialect: Dialect, statistics: ReadStatistics) -> None:
    if statistics.problems:
        problem = statistics.problems[0]
        try:
            guess = sniff(path)
            hint = f"the file looks like {guess.value}" if guess is not dialect else "the file is damaged"
        except LogError:
            hint = "the file fits no known dialect"
        message = f"not {title(dialect)} ({problem.reason}); {hint}; leave the dialect out to have it recognised"
        raise LogError(path, problem.line, message)
    raise LogError(path, None, f"no frame in this {title(dialect)}; nothing was recorded")


def _parser(dialect: Dialect) -> Parser:
    parsers: dict[Dialect, Callable[[], Parser]] = {
        Dialect.TSV: _TsvParser,
        Dialect.CRTD: lambda: _crtd,
        Dialect.SECONDS: lambda: _seconds,
        Dialect.SAVVYCAN: _SavvyCanParser,
        Dialect.CANDUMP_LOG: lambda: _candump_log,
        Dialect.CANDUMP: lambda: _candump,
    }
    return parsers[dialect]()


def _payload(text: str, length: int | None = None) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"data {text.strip()[:24]!r} are not bytes in hexadecimal") from None
    if length is not None and len(data) != length:
        raise ValueError(f"{len(data)} data bytes where the line says {length}")
    return data


def _crtd(line: str, number: int) -> LogFrame:
    if CRTD_LINE.match(line) is None:
        raise ValueError("not `seconds record-type ...`")
    fields = line.split(None, 3)
    kind = fields[1]
    channel, kind = (kind[0], kind[1:]) if kind[0].isdigit() else ("1", kind)
    if kind not in {"R11", "T11", "R29", "T29"}:
        raise _Skip
    can_id = int(fields[2], 16)
    if kind.endswith("29"):
        raise _Skip(frame=True)
    data = _payload(fields[3] if len(fields) > 3 else "")
    return LogFrame(float(fields[0]), can_id, data, channel, number, kind[0] == "T")


def _seconds(line: str, number: int) -> LogFrame:
    time_text, id_text, length, *rest = line.split(None, 3)
    data = _payload(rest[0] if rest else "", int(length))
    can_id = int(id_text, 16)
    if can_id >> _STANDARD_ID_BITS:
        raise _Skip(frame=True)
    return LogFrame(float(time_text.replace(",", ".")), can_id, data, "1", number, sent=False)


class _TsvParser:
    """Tab-separated columns, found by the header's names where there is a header."""

    __slots__ = ("_channel", "_data", "_direction", "_id", "_length", "_time")

    def __init__(self) -> None:
        self._channel, self._direction, self._time, self._id, self._length, self._data = 1, 3, 4, 6, 7, 8

    def __call__(self, line: str, number: int) -> LogFrame:
        cells = line.rstrip("\r\n").split("\t")
        if not cells[self._time if len(cells) > self._time else 0].strip().isdigit():
            self._read_header(cells)
            raise _Skip
        data = cells[self._data].strip()
        if data[:2] in {"0x", "0X"}:
            data = data[2:]
        payload = _payload(data, int(cells[self._length]))
        can_id = int(cells[self._id], 16)
        if can_id >> _STANDARD_ID_BITS:
            raise _Skip(frame=True)
        sent = cells[self._direction].strip().upper() == "TX"
        return LogFrame(int(cells[self._time]) / 1000.0, can_id, payload, cells[self._channel].strip(), number, sent)

    def _read_header(self, cells: list[str]) -> None:
        names = [cell.strip().lower() for cell in cells]
        if not {"time", "can id", "len", "data"} <= set(names):
            raise ValueError("neither a frame nor the header `Time, CAN ID, Len, Data`")
        self._time, self._id = names.index("time"), names.index("can id")
        self._length, self._data = names.index("len"), names.index("data")
        self._channel = names.index("ch") if "ch" in names else self._channel
        self._direction = names.index("t/r") if "t/r" in names else self._direction


class _SavvyCanParser:
    """SavvyCAN's own CSV in its two ages: with and without the column `Dir`."""

    __slots__ = ("_bus", "_data", "_delimiter", "_direction", "_extended", "_length")

    def __init__(self) -> None:
        self._delimiter = ","
        self._extended, self._direction, self._bus, self._length, self._data = 2, 3, 4, 5, 6

    def __call__(self, line: str, number: int) -> LogFrame:
        line = line.strip()
        if line[:4].lower() == "time":
            self._read_header(line)
            raise _Skip
        if ";" in line:
            self._delimiter = ";"
        cells = line.split(self._delimiter)
        length = int(cells[self._length])
        bytes_text = cells[self._data : self._data + length]
        if len(bytes_text) < length or not all(bytes_text):
            raise ValueError(f"fewer than the {length} data bytes that the line says")
        if cells[self._extended].strip().lower() in {"true", "1"}:
            raise _Skip(frame=True)
        data = _payload(" ".join(cell.strip().rjust(2, "0") for cell in bytes_text), length)
        time_s = int(cells[0]) / 1e6 if "." not in cells[0] else float(cells[0])
        sent = self._direction >= 0 and cells[self._direction].strip().lower() == "tx"
        return LogFrame(time_s, int(cells[1], 16), data, cells[self._bus].strip(), number, sent)

    def _read_header(self, line: str) -> None:
        self._delimiter = ";" if ";" in line else ","
        names = [name.strip().lower() for name in line.split(self._delimiter)]
        try:
            self._extended, self._bus = names.index("extended"), names.index("bus")
            self._length, self._data = names.index("len"), names.index("d1")
        except ValueError:
            raise ValueError("header lacks one of Extended, Bus, LEN, D1") from None
        self._direction = names.index("dir") if "dir" in names else -1


def _candump_log(line: str, number: int) -> LogFrame:
    fields = line.split()
    if len(fields) < 3 or fields[0][0] != "(" or fields[0][-1] != ")" or "#" not in fields[2]:
        raise ValueError("not `(seconds) interface ID#data`")
    id_text, _, data_text = fields[2].partition("#")
    time_s = float(fields[0][1:-1])
    can_id = int(id_text, 16)
    if len(id_text) > 3 or data_text[:1] in {"#", "R", "r"}:
        raise _Skip(frame=True)
    sent = len(fields) > 3 and fields[3].upper() == "T"
    return LogFrame(time_s, can_id, _payload(data_text.replace(".", "")), fields[1], number, sent)


_CANDUMP = re.compile(
    r"\s*\((?P<time>[^)]*)\)\s+(?P<channel>\S+)\s+(?:(?P<direction>[RT])X\s+\S\s+\S\s+)?"
    r"(?P<id>[0-9A-Fa-f]{3,8})\s+\[(?P<length>\d+)\]\s*(?P<data>[^']*)"
)


def _candump(line: str, number: int) -> LogFrame:
    match = _CANDUMP.match(line)
    if match is None:
        if CANDUMP_LINE.match(line) is not None:
            raise ValueError("no time stamp; record with `candump -L`, or `candump -ta`")
        raise ValueError("not `(seconds) interface ID [length] bytes`")
    if len(match["id"]) > 3 or "remote" in match["data"] or len(match["length"]) > 1:
        raise _Skip(frame=True)
    data = _payload(match["data"].strip(), int(match["length"]))
    sent = match["direction"] == "T"
    return LogFrame(_candump_time(match["time"]), int(match["id"], 16), data, match["channel"], number, sent)


def _candump_time(text: str) -> float:
    """Seconds of `-ta`, `-tz` (a number) or `-tA` (a date, taken as UTC)."""
    text = text.strip()
    if "-" not in text[1:]:
        return float(text)
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
