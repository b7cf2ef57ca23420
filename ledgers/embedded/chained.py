"""A journal of documents that each name the one before: one folder, one writer, replayed into its owner's books.

The file is a `frames` file; a document is whole on the disk when `write` returns, and one cut short by a crash never
happened. What it means is its owner's business: `take` is called for each document, when it is written and when it is
read back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ledgers.canonical import Json, from_canonical, to_canonical
from ledgers.embedded.frames import FrameFile, lock_folder
from ledgers.errors import LedgerBusy, LedgerCorrupt, RecordError, SettlementError

_FIRST = "0" * 64


class ChainedJournal:
    """The open `journal.log` of a folder that is locked for this process, its documents taken already.

    Raises LedgerBusy when another process has the folder, LedgerCorrupt when a line is not what was written.
    """

    def __init__(self, folder: Path, *, schema: str, take: Callable[[Mapping[str, Json]], None], fsync: bool) -> None:
        self.folder = folder
        self._schema = schema
        self._take = take
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            self._file = FrameFile(folder / "journal.log", fsync=fsync)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._replay()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._file.close()
            os.close(self._lock)

    def require_open(self) -> None:
        """Raise LedgerBusy when closed."""
        if self._closed:
            raise LedgerBusy(f"the settlement in {self.folder} is closed; open it again")

    def write(self, fields: Mapping[str, Json]) -> None:
        """Write a document, on the disk when this returns, and take it into the books."""
        self.require_open()
        count = len(self._file)
        document: dict[str, Json] = {
            "schema": self._schema,
            "index": count,
            "previous": self._file.leaves[-1].hex() if count else _FIRST,
            **fields,
        }
        self._file.append([to_canonical(document)])
        self._take(document)

    def _replay(self) -> None:
        previous = _FIRST
        for index in range(len(self._file)):
            where = f"{self._file.path} entry {index}"
            try:
                document = from_canonical(self._file.read(index), where=where)
                if not isinstance(document, Mapping) or document["schema"] != self._schema:
                    raise RecordError(f"{where} is not a {self._schema} document")
                if (document["index"], document["previous"]) != (index, previous):
                    raise RecordError(f"{where} belongs to another place in the journal")
                self._take(document)
            except (RecordError, SettlementError, KeyError, TypeError, ValueError) as error:
                raise LedgerCorrupt(f"{where} cannot be replayed: {error}; stop and keep the folder") from error
            previous = self._file.leaves[index].hex()
