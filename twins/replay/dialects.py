"""Which program wrote a log: seven dialects, told apart by content, never by the file's name.

| dialect | written by | a line |
|---|---|---|
| `tsv` | CAN analysers with tab-separated export | `1 0 5 RX 1551 ... 0x000001db 8 0x00 04 ...`, time in 1 ms ticks |
| `crtd` | OVMS, versions 1.0 to 3.1 | `1700000000.123456 1R11 1DB 00 04 ...` |
| `seconds` | simple sniffers | `0000.001423 000001DB 8 00 04 ...` |
| `savvycan` | SavvyCAN, GVRET | `1551000,000001DB,false,Rx,0,8,00,04,...,`, time in microseconds |
| `candump_log` | can-utils, `candump -l` or `-L` | `(1700000000.123456) can0 1DB#0004...` |
| `candump` | can-utils, `candump -ta` or `-tz` | `(1700000000.123456)  can0  1DB   [8]  00 04 ...` |
| `leafspy` | Leaf Spy Pro | CSV with some 150 named columns |

A file is recognised when most of its first lines fit one dialect, because loggers write comments, and because the first
line of a recording is often cut.
"""

from __future__ import annotations

import codecs
import enum
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from drivers.errors import ConfigError

_SNIFFED_LINES = 60
_SNIFFED_BYTES = 256 * 1024
_SHOWN_CHARACTERS = 60
_NEEDED_OF_LEAFSPY = ("Date/Time", "Gids", "SOC")
_OF_LEAFSPY = frozenset(
    {"date/time", "gids", "soc", "ahr", "pack volts", "pack amps", "pack t1 c", "odo(km)", "epoch time", "hx", "soh"}
)
_ENOUGH_OF_LEAFSPY = 4


class LogError(ConfigError):
    """A log cannot be read: which file, which line, what was seen, what to do."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        self.path = path
        self.line = line
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {message}")


class Dialect(enum.StrEnum):
    """The text form of a log."""

    TSV = "tsv"
    CRTD = "crtd"
    SECONDS = "seconds"
    SAVVYCAN = "savvycan"
    CANDUMP_LOG = "candump_log"
    CANDUMP = "candump"
    LEAFSPY = "leafspy"

    @property
    def is_can(self) -> bool:
        """Whether the log holds frames of a bus, not decoded rows."""
        return self is not Dialect.LEAFSPY


_TITLES = {
    Dialect.TSV: "tab-separated CAN export",
    Dialect.CRTD: "OVMS CRTD",
    Dialect.SECONDS: "`seconds ID len bytes`",
    Dialect.SAVVYCAN: "SavvyCAN CSV",
    Dialect.CANDUMP_LOG: "candump log file",
    Dialect.CANDUMP: "candump screen output",
    Dialect.LEAFSPY: "Leaf Spy CSV",
}


def title(dialect: Dialect) -> str:
    """The dialect as a person names it."""
    return _TITLES[dialect]


def known_dialects() -> str:
    """All dialects in one clause, for messages."""
    return ", ".join(f"{dialect.value} ({_TITLES[dialect]})" for dialect in Dialect)


CRTD_LINE = re.compile(r"\d+(?:\.\d+)? \d?[A-Z][A-Z0-9]{2}(?: |$)")
SECONDS_LINE = re.compile(r"\s*\d+[.,]\d+\s+(?:0x)?[0-9A-Fa-f]{1,8}\s+\d(?:\s+[0-9A-Fa-f]{2})*\s*$")
CANDUMP_LOG_LINE = re.compile(r"\s*\(\d+\.\d+\)\s+\S+\s+[0-9A-Fa-f]{3,8}##?[0-9A-Fa-fRr.]*(?:\s+[RTrt])?\s*$")
CANDUMP_LINE = re.compile(r"\s*(?:\([^)]*\)\s+)?\S+\s+(?:[RT]X\s+\S\s+\S\s+)?[0-9A-Fa-f]{3,8}\s+\[\d+\]")
_TSV_LINE = re.compile(r"\d+\t.*\t(?:0x)?[0-9A-Fa-f]{3,8}\t\d\t(?:0x)?[0-9A-Fa-f ]*(?:\t|$)")
_SAVVYCAN_LINE = re.compile(r"\s*-?\d+(?:\.\d+)?[,;](?:0x)?[0-9A-Fa-f]{1,8}[,;](?:true|false|0|1)[,;]", re.IGNORECASE)


def _tsv(line: str) -> bool:
    lowered = line.lower()
    return _TSV_LINE.match(line) is not None or ("\t" in line and "can id" in lowered and "data" in lowered)


def _savvycan(line: str) -> bool:
    lowered = line.lower().replace(" ", "")
    return _SAVVYCAN_LINE.match(line) is not None or re.match(r"timestamp[,;]id[,;]extended", lowered) is not None


_LINE_TESTS: tuple[tuple[Dialect, Callable[[str], bool]], ...] = (
    (Dialect.CRTD, lambda line: CRTD_LINE.match(line) is not None),
    (Dialect.CANDUMP_LOG, lambda line: CANDUMP_LOG_LINE.match(line) is not None),
    (Dialect.CANDUMP, lambda line: CANDUMP_LINE.match(line) is not None),
    (Dialect.SAVVYCAN, _savvycan),
    (Dialect.TSV, _tsv),
    (Dialect.SECONDS, lambda line: SECONDS_LINE.match(line) is not None),
)


def leafspy_delimiter(line: str) -> str | None:
    """The column separator of a Leaf Spy header line, None where the line is none."""
    for delimiter in (",", ";", "\t"):
        names = {name.strip().strip('"').lower() for name in line.split(delimiter)}
        if {name.lower() for name in _NEEDED_OF_LEAFSPY} <= names:
            return delimiter
    return None


def _missing_titles(line: str) -> list[str] | None:
    """What a Leaf Spy header lacks of the columns it is known by; None where the line is no such header."""
    for delimiter in (",", ";", "\t"):
        names = {name.strip().strip('"').lower() for name in line.split(delimiter)}
        if len(names & _OF_LEAFSPY) >= _ENOUGH_OF_LEAFSPY:
            return [shown for shown in _NEEDED_OF_LEAFSPY if shown.lower() not in names]
    return None


def encoding_of(head: bytes) -> str:
    """The text encoding that a file's byte order mark tells, UTF-8 without one."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


@contextmanager
def open_text(path: Path) -> Iterator[tuple[TextIO, Callable[[], int]]]:
    """Open a log as text and give a function that tells how many of its bytes were read. Raises LogError."""
    try:
        with path.open("rb") as raw:
            head = raw.read(4)
            raw.seek(0)
            with io.TextIOWrapper(raw, encoding=encoding_of(head), errors="replace", newline=None) as text:
                yield text, raw.tell
    except OSError as error:
        raise LogError(path, None, f"cannot be read ({error.strerror}); check name and rights") from error


def sniff(path: Path | str) -> Dialect:
    """Tell the dialect of a log from its first lines.

    Raises LogError in one sentence where the file is missing, empty, binary or of no known dialect.
    """
    path = Path(path)
    lines = _head(path)
    dialect, share = _best(lines)
    if dialect is not Dialect.LEAFSPY:
        _refuse_half_a_header(path, lines)
    if dialect is None or share < 0.5:
        shown = lines[0][:_SHOWN_CHARACTERS]
        raise LogError(path, 1, f"no known log dialect; line 1 reads {shown!r}; known are {known_dialects()}")
    return dialect


def _refuse_half_a_header(path: Path, lines: list[str]) -> None:
    for line in lines[:5]:
        if missing := _missing_titles(line):
            names = " and ".join(repr(name) for name in missing)
            advice = "the app writes it, so export the log again with it"
            raise LogError(path, None, f"a Leaf Spy header without the column {names}; {advice}")


def _head(path: Path) -> list[str]:
    """The first lines that are not blank; raises LogError on an empty or binary file."""
    with open_text(path) as (stream, _):
        text = stream.read(_SNIFFED_BYTES)
    if not text.strip():
        raise LogError(path, None, "the file is empty; nothing was recorded")
    if "\0" in text[:1024]:
        raise LogError(path, 1, f"binary content, not a text log; known dialects are {known_dialects()}")
    lines = text.splitlines()
    if len(text) == _SNIFFED_BYTES and len(lines) > 1:
        lines.pop()
    return [line for line in lines if line.strip()][:_SNIFFED_LINES]


def _best(lines: list[str]) -> tuple[Dialect | None, float]:
    if any(leafspy_delimiter(line) is not None for line in lines[:5]):
        return Dialect.LEAFSPY, 1.0
    # A lone last line may be cut anywhere, so it is no witness where there are others.
    judged = lines[:-1] if len(lines) > 2 else lines
    scores = [(sum(map(test, judged)) / len(judged), dialect) for dialect, test in _LINE_TESTS]
    share, dialect = max(scores, key=lambda score: score[0])
    return (dialect, share) if share > 0 else (None, 0.0)
