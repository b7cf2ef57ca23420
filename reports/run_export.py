"""The canonical export of a run: what was recorded, in bytes that two equal runs share.

The database file itself is not promised to be equal (its header carries the SQLite version, a resumed run has other
pages), so hashes are taken over this: one RFC 8785 array per line, ordered by cycle and source name. The writer of
numbers is our own for the common forms because half a million of them stand in a session of two hours.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

import rfc8785

EXPORT_SCHEMA: Final = "v2gbench.run-export/1.0"


def export_lines(database: sqlite3.Connection, *, events: bool = True, last_cycle: int | None = None) -> Iterator[str]:
    """The lines of the export in their one order; sqlite3.Error when the database is damaged.

    Without `events`, and up to and with `last_cycle`, it is the samples that a usage record rests on.
    """
    number, text = number_text, _text
    until = _LAST_CYCLE if last_cycle is None else last_cycle
    yield f'{{"schema":{text(EXPORT_SCHEMA)}}}\n'
    for index, mono, utc in database.execute(
        "SELECT idx, mono_s, utc_s FROM cycles WHERE idx <= ? ORDER BY idx", (until,)
    ):
        yield f'["cycle",{index},{number(mono)},{number(utc)}]\n'
    names = {
        row: f"{text(source)},{text(unit)}"
        for row, source, unit in database.execute("SELECT id, source, unit FROM sources")
    }
    words = {row: text(name) for row, name in database.execute("SELECT id, name FROM qualities")}
    rows = database.execute(
        "SELECT r.cycle, r.source, coalesce(r.mono_s, c.mono_s) AS at, coalesce(r.utc_s, c.utc_s), r.value, r.quality "
        "FROM readings r JOIN cycles c ON c.idx = r.cycle JOIN sources s ON s.id = r.source "
        "WHERE r.cycle <= ? ORDER BY r.cycle, s.source, at, r.quality",
        (until,),
    )
    for cycle, source, mono, utc, value, quality in rows:
        yield f'["reading",{cycle},{names[source]},{number(mono)},{number(utc)},{number(value)},{words[quality]}]\n'
    for cycle, mono, utc, requested, accepted, by, refused, code in database.execute(
        "SELECT * FROM set_points WHERE cycle <= ? ORDER BY rowid", (until,)
    ):
        code_text = text(code) if isinstance(code, str) else number(code)
        yield (
            f'["set_point",{cycle},{number(mono)},{number(utc)},{number(requested)},{number(accepted)},{text(by)},'
            f"{'true' if refused else 'false'},{code_text}]\n"
        )
    if not events:
        return
    for mono, utc, source, kind, content in database.execute(
        "SELECT mono_s, utc_s, source, kind, content FROM events ORDER BY mono_s, source, kind, content"
    ):
        yield f'["event",{number(mono)},{number(utc)},{text(source)},{text(kind)},{content}]\n'


def number_text(value: float | None) -> str:
    """A number as RFC 8785 writes it; the common forms here, the rest by rfc8785 itself (seven times slower)."""
    if value is None:
        return "null"
    shown = repr(value)
    if "e" not in shown and "n" not in shown:
        short = shown.removesuffix(".0")
        return "0" if short == "-0" else short
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return rfc8785.dumps(value).decode()


def _text(value: str) -> str:
    return rfc8785.dumps(value).decode()


def sha256_of(lines: Iterable[str]) -> str:
    """SHA-256 of the lines put together, 64 hexadecimal digits; a day's run need not fit into memory."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


_LAST_CYCLE: Final = 2**63 - 1
