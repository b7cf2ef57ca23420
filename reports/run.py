"""The run folder: what one execution of a plan leaves behind, written so that killing the process loses no cycle.

`runs/<wall UTC>_<plan>_<4 letters>/` holds `manifest.json` (what ran, on what, how it ended), `run.sqlite` (readings,
set-points and events), `wire/<device>.txt` (what went over each link), and whatever the bench puts beside them
(`records/`, `certificate.json`, `report.html`). The format is described in `docs/run-folder.md`.

Why it is built so. A cycle is one transaction of a WAL database: a process that is killed keeps every committed
cycle, and a full disk rolls the last one back and leaves the others readable. A reading is a row only when it is new,
because a van that answers every 10 s would otherwise fill the file with copies. A row's two times are left out where
they are its cycle's own, which is always so in stepped time. The bytes of the database file are not promised (its
header carries the SQLite version); `Run.canonical_export` is, and two stepped runs with one seed give the same.

A run that was never closed has `"state": "open"` in its manifest. Its writer held a lock on the folder's `lock` file,
and the kernel lets go of it when the process dies, so `unfinished_runs` can tell a dead run from a running one.

    with RunWriter.create(root, plan="smoke", station="emulated", stepped=True, manifest={}, now_s=session_s) as run:
        run.record_cycle(0, 0.0, 1_700_000_000.0, charger.read().readings(), None, ())
        run.close(verdict="pass")
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import fcntl
import json
import math
import os
import re
import secrets
import sqlite3
import string
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from ledgers.canonical import Json, to_canonical
from ledgers.errors import RecordError
from reports.errors import RunError
from reports.run_export import export_lines, sha256_of
from reports.wire_trace import WIRE_LIMIT_BYTES, WireTrace

SCHEMA: Final = "v2gbench.run/1.0"

Floats = npt.NDArray[np.float64]

ReadingRow = tuple[float, str, float, float, str, str]
"""(value, unit, mono_s, utc_s, source, quality): the order of a driver's `Reading`, which is such a tuple already."""


class SetPointLike(Protocol):
    """What became of a set-point, as a driver reports it; powers in W, positive charges the vehicle."""

    @property
    def requested_w(self) -> float: ...  # noqa: D102 - the protocol's docstring says it
    @property
    def accepted_w(self) -> float: ...  # noqa: D102
    @property
    def clamped_by(self) -> str: ...  # noqa: D102
    @property
    def refused(self) -> bool: ...  # noqa: D102
    @property
    def code(self) -> int | str | None: ...  # noqa: D102


class Event(NamedTuple):
    """Something that happened: session time, who said so, what kind, and its facts as JSON."""

    mono_s: float
    utc_s: float
    source: str
    kind: str
    content: Mapping[str, Json]


class SetPoint(NamedTuple):
    """A set-point as recorded; powers in W, positive charges the vehicle, NaN where the device did not say."""

    mono_s: float
    utc_s: float
    requested_w: float
    accepted_w: float
    clamped_by: str
    refused: bool
    code: int | str | None


@dataclass(frozen=True, slots=True)
class Source:
    """One recorded quantity, and how many readings of it there are."""

    name: str
    unit: str
    readings: int


@dataclass(frozen=True, slots=True)
class Series:
    """All readings of one source, in recorded order; `value` is NaN where the device gave none."""

    source: str
    unit: str
    mono_s: Floats
    utc_s: Floats
    value: Floats
    quality: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.quality)


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that was never closed: where it is, and one sentence that says what it still holds."""

    folder: Path
    statement: str


class RunWriter:
    """Writes one run folder; a context manager.

    Leaving the block without `close` marks the run as aborted, with the exception's sentence as the reason. Methods
    may be called from any thread, one at a time; `wire_trace` callables from any thread at any time.
    """

    def __init__(self, folder: Path, *, stepped: bool, manifest: dict[str, Json], now_s: Callable[[], float]) -> None:
        """Use `create`; this opens the database inside a folder that exists and is new."""
        self.folder = folder
        self._manifest = manifest
        self._now_s = now_s
        self._lock = threading.Lock()
        self._closed = False
        self._broken: RunError | None = None
        self._cycles = 0
        self._events = 0
        self._sources: dict[str, tuple[int, str]] = {}
        self._qualities: dict[str, int] = {}
        self._latest: dict[str, tuple[float, str] | str] = {}
        self._trace_flush_every = _TRACE_FLUSH_CYCLES if stepped else 1
        self._traces: dict[str, WireTrace] = {}
        self._holder = (folder / "lock").open("wb")
        try:
            fcntl.flock(self._holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_json(folder / "manifest.json", manifest)
            # the connection crosses threads (open, cycle, close) under self._lock
            self._db = sqlite3.connect(folder / "run.sqlite", isolation_level=None, check_same_thread=False)
        except BaseException:
            self._holder.close()
            raise
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            # a kill loses nothing either way; FULL also survives power loss, at about 0.35 ms a cycle
            self._db.execute(f"PRAGMA synchronous = {'NORMAL' if stepped else 'FULL'}")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            self._db.close()
            self._holder.close()
            raise RunError(
                f"cannot start recording in {folder}: {error}; free space or choose another folder"
            ) from error

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        plan: str,
        station: str,
        stepped: bool,
        manifest: Mapping[str, Json],
        now_s: Callable[[], float],
    ) -> RunWriter:
        """Make a new run folder under `root` and open it for writing.

        `manifest` holds what the caller knows (station hash, versions, nameplates, orders); the keys that this module
        writes itself are refused. `now_s` is the session clock, it stamps the wire trace. Many runs may start in the
        same second: the folder is made exclusively. Raises RunError when the folder cannot be made.
        """
        if taken := sorted(_OWN_KEYS & manifest.keys()):
            raise RunError(f"the manifest keys {', '.join(taken)} are the run folder's own; give them other names")
        opened = dt.datetime.now(dt.UTC)
        document: dict[str, Json] = {
            "schema": SCHEMA,
            "plan": plan,
            "station": station,
            "stepped": stepped,
            "state": "open",
            "opened_wall_utc": opened.isoformat(timespec="milliseconds"),
            **manifest,
        }
        folder = _make_folder(root, opened, plan)
        document["run"] = folder.name
        try:
            (folder / "wire").mkdir()
            (folder / "records").mkdir()
            return cls(folder, stepped=stepped, manifest=document, now_s=now_s)
        except OSError as error:
            raise _disk_error(folder, "start recording", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        reason = f"{type(error).__name__}: {error}" if error is not None else "the run ended without a verdict"
        try:
            self.close(verdict="aborted", reason=reason)
        except RunError:
            # the block's own error says more; without one, this one must be seen
            if error is None:
                raise

    @property
    def cycles(self) -> int:
        """How many cycles are committed."""
        return self._cycles

    def record_cycle(
        self,
        index: int,
        mono_s: float,
        utc_s: float,
        readings: Sequence[ReadingRow],
        set_power: SetPointLike | None,
        events: Sequence[Event],
    ) -> None:
        """Append one cycle as one transaction; what is known already is not repeated.

        Known is a reading whose time and quality were recorded, and that a quantity has no value, until it has one.

        `mono_s` and `utc_s` are the cycle's session times. Raises RunError when the disk refuses; nothing of this
        cycle is kept then, and all earlier ones stay readable.
        """
        with self._lock:
            self._require_open()
            sources, latest, qualities = self._sources, self._latest, self._qualities
            cells: list[float | None] = []
            db = self._db
            try:
                db.execute("BEGIN")
                for value, unit, at_s, at_utc_s, source, quality in readings:
                    # That there is no value is said once: a quantity that a device never offers is no row a cycle.
                    stamp = quality if quality == _NO_DATA else (at_s, quality)
                    if latest.get(source) == stamp:
                        continue
                    known = sources.get(source)
                    if known is None or known[1] != unit:
                        known = self._add_source(source, unit)
                    quality_id = qualities.get(quality)
                    if quality_id is None:
                        quality_id = self._add_quality(quality)
                    latest[source] = stamp
                    if at_s == mono_s and at_utc_s == utc_s:
                        cells += (index, known[0], None, None, value, quality_id)
                    else:
                        cells += (index, known[0], at_s, at_utc_s, value, quality_id)
                db.execute("INSERT INTO cycles VALUES (?, ?, ?)", (index, mono_s, utc_s))
                # one statement with many rows costs a fifth less than many with one
                for start in range(0, len(cells), _CELLS_PER_INSERT):
                    part = cells[start : start + _CELLS_PER_INSERT]
                    db.execute(_INSERT_READINGS[len(part) // 6], part)
                if set_power is not None:
                    db.execute(
                        "INSERT INTO set_points VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            index,
                            mono_s,
                            utc_s,
                            set_power.requested_w,
                            set_power.accepted_w,
                            str(set_power.clamped_by),
                            int(set_power.refused),
                            set_power.code,
                        ),
                    )
                if events:
                    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", _event_rows(index, events))
                db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._break(f"cycle {index}", error) from error
            except BaseException:  # Ctrl-C too: half a cycle may not stay behind
                self._rollback()
                raise
            self._cycles += 1
            self._events += len(events)
            if self._cycles % self._trace_flush_every == 0:
                self._flush_traces()

    def record_event(self, event: Event) -> None:
        """Append one event outside a cycle, in a transaction of its own."""
        with self._lock:
            self._require_open()
            try:
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", _event_rows(None, (event,)))
            except sqlite3.Error as error:
                raise self._break(f"event {event.kind!r}", error) from error
            self._events += 1
            self._flush_traces()

    def wire_trace(self, device: str, limit_bytes: int = WIRE_LIMIT_BYTES) -> Callable[[str, bytes], None]:
        """A callable `(direction, data)` that keeps what went over a link in `wire/<device>.txt`.

        It only queues; the text is written with the next cycle, in stepped time with each tenth. After `limit_bytes`
        of text it keeps nothing more, and the file says so with the number of messages left out. Called twice for a
        device, both write one file.
        """
        with self._lock:
            self._require_open()
            trace = self._traces.get(device)
            if trace is None:
                try:
                    path = self.folder / "wire" / f"{_file_word(device)}.txt"
                    if path.exists():  # two names may be the same file word
                        path = path.with_stem(f"{path.stem}-{len(self._traces) + 1}")
                    trace = WireTrace(path, device, limit_bytes, self._now_s)
                except OSError as error:
                    raise _disk_error(self.folder, f"open the wire trace of {device}", error) from error
                self._traces[device] = trace
            return trace.keep

    def samples_sha256(self, last_cycle: int | None = None) -> str:
        """The same as `Run.samples_sha256`, while the run is open: for the usage record.

        Events are not in it, so that what certification itself reports does not change the hash.
        """
        with self._lock:
            self._require_open()
            try:
                return sha256_of(export_lines(self._db, events=False, last_cycle=last_cycle))
            except sqlite3.Error as error:
                raise _disk_error(self.folder, "hash the samples", error) from error

    def close(self, *, verdict: str, reason: str = "", extra: Mapping[str, Json] | None = None) -> None:
        """Close the run with its verdict (`pass`, `fail`, `aborted`, `tripped` …) and the reason in one sentence.

        `extra` joins the manifest. The hash of the canonical export goes into the manifest as `export_sha256`. May be
        called twice; the first call counts. Raises RunError when the disk refuses; the run then stays marked open.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            problem: RunError | None = self._broken
            try:
                for trace in self._traces.values():
                    trace.close()
            except OSError as error:
                problem = problem or _disk_error(self.folder, "finish the wire trace", error)
            digest, problem = self._close_database(problem)
            closing: dict[str, Json] = {
                "state": "closed" if problem is None else "broken",
                "verdict": verdict,
                "reason": reason if problem is None or reason else str(problem),
                "closed_wall_utc": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                "cycles": self._cycles,
                "events": self._events,
                "export_sha256": digest,
            }
            try:
                if taken := sorted((_OWN_KEYS | self._manifest.keys()) & (extra or {}).keys()):
                    raise RunError(f"the manifest has {', '.join(taken)} already; give the closing facts other names")
                _write_json(self.folder / "manifest.json", {**self._manifest, **closing, **(extra or {})})
                (self.folder / "lock").unlink(missing_ok=True)
            except OSError as error:
                problem = problem or _disk_error(self.folder, "write the manifest", error)
            finally:
                self._holder.close()
            if problem is not None and problem is not self._broken:
                raise problem

    def _close_database(self, problem: RunError | None) -> tuple[str | None, RunError | None]:
        digest: str | None = None
        try:
            if problem is None:
                digest = sha256_of(export_lines(self._db))
            self._into_one_file()
        except sqlite3.Error as error:
            problem = problem or _disk_error(self.folder, "close the database", error)
        finally:
            self._db.close()
        return digest, problem

    def _into_one_file(self) -> None:
        """Fold the write-ahead log in, for one file that opens on a read-only medium too.

        While somebody reads the run, its log has to stay; nothing is lost, and the next reader folds it in.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise

    def _require_open(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise RunError(f"the run {self.folder.name} is closed; start a new one to record more")

    def _add_source(self, source: str, unit: str) -> tuple[int, str]:
        if (known := self._sources.get(source)) is not None:
            raise RunError(f"{source} came in {known[1]} before and now in {unit}; a source keeps its unit for a run")
        entry = (len(self._sources) + 1, unit)
        self._db.execute("INSERT INTO sources VALUES (?, ?, ?)", (entry[0], source, unit))
        self._sources[source] = entry
        return entry

    def _add_quality(self, quality: str) -> int:
        number = len(self._qualities) + 1
        self._db.execute("INSERT INTO qualities VALUES (?, ?)", (number, str(quality)))
        self._qualities[str(quality)] = number
        return number

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        # what this cycle added to the look-up tables went with it
        self._sources = {name: (number, unit) for number, name, unit in self._db.execute("SELECT * FROM sources")}
        self._qualities = {name: number for number, name in self._db.execute("SELECT * FROM qualities")}
        self._latest.clear()

    def _break(self, what: str, error: sqlite3.Error | OSError) -> RunError:
        with contextlib.suppress(sqlite3.Error):  # the database may be beyond even that; the first error is told
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self._broken = RunError(
            f"recording of {what} in {self.folder} failed ({error}); {self._cycles} cycles before it are safe and "
            "readable, nothing after it is recorded: free space and start a new run"
        )
        return self._broken

    def _flush_traces(self) -> None:
        for trace in self._traces.values():
            if trace.queue:
                try:
                    trace.flush()
                except OSError as error:
                    raise self._break(f"the wire trace of {trace.device}", error) from error


class Run:
    """Reads one run folder, finished or not; never writes. A context manager."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json], database: sqlite3.Connection) -> None:
        """Use `open`."""
        self.folder = folder
        self.manifest = manifest
        self._db = database
        self._series: dict[str, Series] | None = None

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run folder; RunError when there is none, it is of a newer version, or its database is damaged."""
        manifest = _read_manifest(folder)
        path = folder / "run.sqlite"
        if not path.is_file():
            raise RunError(
                f"{folder} has no run.sqlite; it is not a run folder, or the run died before recording began"
            )
        try:
            database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise RunError(f"{path} cannot be opened: {error}") from error
        run = cls(folder, manifest, database)
        try:
            for table in ("cycles", "sources", "qualities", "set_points", "events", "readings"):
                database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608  # fixed names
        except sqlite3.Error as error:
            database.close()
            raise RunError(
                f"{path} is damaged or not a run database ({error}); if the run was killed, keep run.sqlite-wal beside "
                "it and open it where the folder can be written"
            ) from error
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database; may be called twice."""
        self._db.close()

    @property
    def is_finished(self) -> bool:
        """Whether the run was closed with a verdict."""
        return self.manifest.get("state") == "closed"

    @property
    def verdict(self) -> str:
        """The verdict the run was closed with, or `unfinished`."""
        return str(self.manifest.get("verdict", "unfinished"))

    @property
    def left_open(self) -> str | None:
        """One sentence on what an unfinished run holds; None for a finished one."""
        if self.is_finished:
            return None
        return _statement(self.folder, self.manifest, self._db)

    def sources(self) -> tuple[Source, ...]:
        """All recorded quantities, by name."""
        return tuple(
            Source(series.source, series.unit, len(series)) for _, series in sorted(self._all_series().items())
        )

    def series(self, source: str) -> Series:
        """All readings of one source; RunError naming the recorded ones when there is no such source."""
        all_series = self._all_series()
        if source not in all_series:
            names = ", ".join(sorted(all_series)) or "none"
            raise RunError(f"{self.folder.name} has no source {source!r}; it has {names}")
        return all_series[source]

    def cycles(self) -> Floats:
        """Shape (n, 3): index, mono_s, utc_s of each cycle."""
        rows = self._query("SELECT idx, mono_s, utc_s FROM cycles ORDER BY idx")
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def set_points(self) -> tuple[SetPoint, ...]:
        """All set-points, in time order."""
        rows = self._query(
            "SELECT mono_s, utc_s, requested_w, accepted_w, clamped_by, refused, code FROM set_points ORDER BY rowid"
        )
        return tuple(
            SetPoint(
                cast("float", mono),
                cast("float", utc),
                math.nan if requested is None else cast("float", requested),
                math.nan if accepted is None else cast("float", accepted),
                cast("str", by),
                bool(refused),
                cast("int | str | None", code),
            )
            for mono, utc, requested, accepted, by, refused, code in rows
        )

    def events(self, kind: str | None = None) -> tuple[Event, ...]:
        """All events in canonical order (time, source, kind, content), or only those of one kind."""
        rows = self._query(
            "SELECT mono_s, utc_s, source, kind, content FROM events WHERE ?1 IS NULL OR kind = ?1 "
            "ORDER BY mono_s, source, kind, content",
            (kind,),
        )
        return tuple(
            Event(
                cast("float", mono),
                cast("float", utc),
                cast("str", source),
                cast("str", name),
                cast("dict[str, Json]", json.loads(cast("str", content))),
            )
            for mono, utc, source, name, content in rows
        )

    def canonical_export(self) -> bytes:
        """What was recorded as lines of RFC 8785 JSON, in one fixed order; without manifest, wire trace and wall time.

        One header line, then cycles, readings (by cycle and source name), set-points and events, an array each. A
        missing value is null, an infinite one the text "Infinity" or "-Infinity". Two stepped runs with one seed
        give the same bytes.
        """
        try:
            return "".join(export_lines(self._db)).encode()
        except sqlite3.Error as error:
            raise RunError(f"{self.folder / 'run.sqlite'} is damaged: {error}") from error

    def export_sha256(self) -> str:
        """SHA-256 of `canonical_export`, 64 hexadecimal digits; a closed run's manifest has the same."""
        try:
            return sha256_of(export_lines(self._db))
        except sqlite3.Error as error:
            raise RunError(f"{self.folder / 'run.sqlite'} is damaged: {error}") from error

    def samples_sha256(self, last_cycle: int | None = None) -> str:
        """SHA-256 of the export without its events, up to and with `last_cycle`: what a usage record rests on."""
        try:
            return sha256_of(export_lines(self._db, events=False, last_cycle=last_cycle))
        except sqlite3.Error as error:
            raise RunError(f"{self.folder / 'run.sqlite'} is damaged: {error}") from error

    def export_csv(self, path: Path, *, wide: bool = False) -> None:
        """Write all readings as CSV (RFC 4180, UTF-8); a value that is missing is an empty cell.

        Long (default): a row per reading with `utc,mono_s,source,value,unit,quality`. Wide: a row per cycle with
        `utc,mono_s` and, per source, a column `<source> [<unit>]` and one `<source> quality`; cells stay empty in
        cycles that brought no new reading.
        """
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                if wide:
                    self._write_wide(writer)
                else:
                    self._write_long(writer)
        except OSError as error:
            raise _disk_error(path, "export", error) from error

    def _write_long(self, writer: _CsvWriter) -> None:
        writer.writerow(("utc", "mono_s", "source", "value", "unit", "quality"))
        for mono, utc, source, value, unit, quality in self._query(
            "SELECT mono_s, utc_s, source, value, unit, quality FROM samples ORDER BY cycle, source, mono_s"
        ):
            text = "" if value is None else repr(value)
            writer.writerow((_iso(cast("float", utc)), repr(mono), source, text, unit, quality))

    def _write_wide(self, writer: _CsvWriter) -> None:
        sources = self.sources()
        head = [cell for s in sources for cell in (f"{s.name} [{s.unit}]", f"{s.name} quality")]
        writer.writerow(["utc", "mono_s", *head])
        column = {source.name: 2 + 2 * i for i, source in enumerate(sources)}
        per_cycle = {
            int(cast("int", index)): [_iso(cast("float", utc)), repr(mono), *("" for _ in head)]
            for index, mono, utc in self._query("SELECT idx, mono_s, utc_s FROM cycles ORDER BY idx")
        }
        for index, source, value, quality in self._query("SELECT cycle, source, value, quality FROM samples"):
            at = column[cast("str", source)]
            row = per_cycle[cast("int", index)]
            row[at] = "" if value is None else repr(value)
            row[at + 1] = cast("str", quality)
        writer.writerows(per_cycle.values())

    def _query(self, sql: str, arguments: tuple[Json, ...] = ()) -> list[tuple[object, ...]]:
        try:
            return cast("list[tuple[object, ...]]", self._db.execute(sql, arguments).fetchall())
        except sqlite3.Error as error:
            raise RunError(f"{self.folder / 'run.sqlite'} cannot be read: {error}") from error

    def _all_series(self) -> dict[str, Series]:
        if self._series is not None:
            return self._series
        names = {
            int(cast("int", n)): (str(s), str(u)) for n, s, u in self._query("SELECT id, source, unit FROM sources")
        }
        words = {int(cast("int", n)): str(word) for n, word in self._query("SELECT id, name FROM qualities")}
        # numbers go into arrays piece by piece: a day's run has millions of rows
        pieces: list[Floats] = []
        try:
            cursor = self._db.execute(
                "SELECT r.source, coalesce(r.mono_s, c.mono_s), coalesce(r.utc_s, c.utc_s), r.value, r.quality "
                "FROM readings r JOIN cycles c ON c.idx = r.cycle ORDER BY r.rowid"
            )
            while piece := cursor.fetchmany(50_000):
                pieces.append(np.array(piece, dtype=np.float64))
        except sqlite3.Error as error:
            raise RunError(f"{self.folder / 'run.sqlite'} cannot be read: {error}") from error
        table = np.concatenate(pieces) if pieces else np.empty((0, 5))
        table = table[np.argsort(table[:, 0], kind="stable")]
        bounds = np.searchsorted(table[:, 0], [*sorted(names), math.inf])
        self._series = {}
        for i, number in enumerate(sorted(names)):
            part = table[bounds[i] : bounds[i + 1]]
            name, unit = names[number]
            qualities = tuple(words[int(code)] for code in part[:, 4])
            self._series[name] = Series(name, unit, part[:, 1].copy(), part[:, 2].copy(), part[:, 3].copy(), qualities)
        return self._series


def unfinished_runs(root: Path) -> tuple[UnfinishedRun, ...]:
    """The runs under `root` that were never closed and whose process is gone, oldest first; empty when there is none.

    A run that is being written now is not listed: its writer holds the folder's lock.
    """
    if not root.is_dir():
        return ()
    found: list[UnfinishedRun] = []
    for folder in sorted(path for path in root.iterdir() if _FOLDER_NAME.fullmatch(path.name) and path.is_dir()):
        if _is_being_written(folder):
            continue
        try:
            with Run.open(folder) as run:
                if (statement := run.left_open) is not None:
                    found.append(UnfinishedRun(folder, statement))
        except RunError as error:
            found.append(UnfinishedRun(folder, str(error)))
    return tuple(found)


_OWN_KEYS: Final = frozenset(
    {
        "schema", "run", "plan", "station", "stepped", "state", "opened_wall_utc", "closed_wall_utc", "verdict",
        "reason", "cycles", "events", "export_sha256",
    }
)  # fmt: skip
_FOLDER_NAME: Final = re.compile(r"\d{8}T\d{6}Z_.+_[a-z]{4}")
_FOLDER_ATTEMPTS: Final = 100
_NO_DATA: Final = "no_data"
_TRACE_FLUSH_CYCLES: Final = 10  # in stepped time, where the other end is a twin and the run can be had again
_CELLS_PER_INSERT: Final = 6 * 100  # SQLite takes 999 parameters in its oldest builds
_INSERT_READINGS: Final = tuple(
    "INSERT INTO readings VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)  # noqa: S608 - placeholders only
    for rows in range(101)
)

# `samples` is for people with an SQL shell: every reading with its names and both times.
_TABLES: Final = """
BEGIN;
CREATE TABLE sources (id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, unit TEXT NOT NULL);
CREATE TABLE qualities (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE cycles (idx INTEGER PRIMARY KEY, mono_s REAL NOT NULL, utc_s REAL NOT NULL);
CREATE TABLE readings (cycle INTEGER NOT NULL, source INTEGER NOT NULL, mono_s REAL, utc_s REAL, value REAL,
                       quality INTEGER NOT NULL);
CREATE TABLE set_points (cycle INTEGER NOT NULL, mono_s REAL NOT NULL, utc_s REAL NOT NULL, requested_w REAL,
                         accepted_w REAL, clamped_by TEXT NOT NULL, refused INTEGER NOT NULL, code);
CREATE TABLE events (cycle INTEGER, mono_s REAL NOT NULL, utc_s REAL NOT NULL, source TEXT NOT NULL,
                     kind TEXT NOT NULL, content TEXT NOT NULL);
CREATE VIEW samples AS
  SELECT r.cycle AS cycle, s.source AS source, s.unit AS unit, coalesce(r.mono_s, c.mono_s) AS mono_s,
         coalesce(r.utc_s, c.utc_s) AS utc_s, r.value AS value, q.name AS quality
  FROM readings r JOIN cycles c ON c.idx = r.cycle JOIN sources s ON s.id = r.source
  JOIN qualities q ON q.id = r.quality;
COMMIT;
"""


class _CsvWriter(Protocol):
    def writerow(self, row: Sequence[object], /) -> object: ...
    def writerows(self, rows: Iterable[Sequence[object]], /) -> object: ...


def _make_folder(root: Path, opened: dt.datetime, plan: str) -> Path:
    stem = f"{opened:%Y%m%dT%H%M%SZ}_{_file_word(plan)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for _ in range(_FOLDER_ATTEMPTS):
            folder = root / f"{stem}_{''.join(secrets.choice(string.ascii_lowercase) for _ in range(4))}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise _disk_error(root, "make a run folder", error) from error
    raise RunError(f"no free name for a run folder under {root} after {_FOLDER_ATTEMPTS} attempts; clear the folder")


def _file_word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")[:48] or "unnamed"


def _event_rows(cycle: int | None, events: Sequence[Event]) -> list[tuple[int | None, float, float, str, str, str]]:
    try:
        rows = [
            (cycle, e.mono_s, e.utc_s, e.source, e.kind, to_canonical(e.content).decode().rstrip("\n")) for e in events
        ]
    except RecordError as error:
        raise RunError(f"an event's content cannot be recorded: {error}") from error
    rows.sort(key=lambda row: (row[1], row[3], row[4], row[5]))
    return rows


def _write_json(path: Path, document: Mapping[str, Json]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_manifest(folder: Path) -> Mapping[str, Json]:
    path = folder / "manifest.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} has no manifest.json; it is not a run folder, or the run died while starting"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith("v2gbench.run/"):
        raise RunError(f"{path} is not the manifest of a run (its schema is {schema!r})")
    if schema.split("/")[1].split(".")[0] != SCHEMA.split("/")[1].split(".")[0]:
        raise RunError(f"{path} is of version {schema}, this program reads {SCHEMA}; use the program that wrote it")
    return cast("Mapping[str, Json]", document)


def _statement(folder: Path, manifest: Mapping[str, Json], database: sqlite3.Connection) -> str:
    opened = manifest.get("opened_wall_utc", "an unknown time")
    if manifest.get("state") == "broken":
        return f"{folder.name}, opened {opened}, broke off: {manifest.get('reason', 'no reason recorded')}"
    try:
        cycles, last_s = database.execute("SELECT count(*), max(mono_s) FROM cycles").fetchone()
    except sqlite3.Error as error:
        return f"{folder.name}, opened {opened}, was not closed and its database cannot be read: {error}"
    held = f"holds {cycles} cycles up to {last_s:g} s of session time" if cycles else "holds no cycle"
    return f"{folder.name}, opened {opened}, was not closed (its process died or was killed); it {held}"


def _is_being_written(folder: Path) -> bool:
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        # a lock that cannot be read says nothing; the run is then judged by its manifest
        return False
    return False


def _disk_error(where: Path, what: str, error: OSError | sqlite3.Error) -> RunError:
    return RunError(f"cannot {what} at {where}: {error}; check free space and permissions")


def _iso(utc_s: float) -> str:
    return dt.datetime.fromtimestamp(utc_s, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
