"""An append-only file of canonical JSON lines that survives kill -9 at any byte and notices any other change.

Each line is the RFC 6962 leaf hash of the document in hexadecimal, a space, and the document (RFC 8785 JSON plus its
newline). Three things can be found on opening:

* the last line has no newline: a write was cut short by a crash. It was never confirmed to anybody (`append` returns
  only after fsync), so it is cut off;
* a line's hash is not its own: the file was changed or the disk is failing. LedgerCorrupt names file and line, and
  nothing is repaired;
* lines are missing at the end: this file alone cannot tell; its owner compares with a signed checkpoint.

A failed append (a full disk) is taken back at once, so that the file never holds half a line while it is open.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ledgers.errors import LedgerBusy, LedgerCorrupt
from ledgers.formats.tlog import leaf_hash

_HASH_DIGITS = 64
_HEAD = _HASH_DIGITS + 1


class FrameFile:
    """The open file; `leaves` and `read` see whole lines only."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self.path = path
        self.torn_bytes = 0  # how many bytes of an unfinished write were cut on opening
        self._fsync = fsync
        self._broken = ""
        new = not path.exists()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if new:
                sync_folder(path.parent)
            self._starts, self.leaves, self._end = self._scan()
        except BaseException:
            os.close(self._handle)
            raise

    def __len__(self) -> int:
        return len(self.leaves)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, index: int) -> bytes:
        """The document in line `index`; raises LedgerCorrupt when the file changed under us."""
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        document = os.pread(self._handle, end - start, start)[_HEAD:]
        if leaf_hash(document) != self.leaves[index]:
            raise LedgerCorrupt(f"{self.path} entry {index} changed while the file was open; stop and keep the folder")
        return document

    def append(self, documents: Sequence[bytes]) -> None:
        """Write documents (each ended by its only newline) and return when they are on the disk.

        Raises LedgerBusy when nothing was written and sending them again is safe; LedgerCorrupt when the disk failed so
        that the state of the file is unknown until it is opened again.
        """
        self._require_whole()
        leaves = [leaf_hash(document) for document in documents]
        data = b"".join(leaf.hex().encode() + b" " + item for leaf, item in zip(leaves, documents, strict=True))
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._handle, data[written:], self._end + written)
            self.sync()
        except OSError as error:
            self._take_back(error)
            raise LedgerBusy(f"{self.path} was not written ({error.strerror}); make room and send it again") from error
        for leaf, document in zip(leaves, documents, strict=True):
            self._starts.append(self._end)
            self.leaves.append(leaf)
            self._end += _HEAD + len(document)

    def cut(self, count: int) -> None:
        """Keep the first `count` lines and drop the rest from the disk."""
        self._require_whole()
        if count < len(self.leaves):
            end = self._starts[count]
            os.ftruncate(self._handle, end)
            os.fsync(self._handle)
            del self._starts[count:], self.leaves[count:]
            self._end = end

    def sync(self, *, always: bool = False) -> None:
        """Wait until everything is on the disk (`always`: also where each append does not)."""
        if self._fsync or always:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _require_whole(self) -> None:
        if self._broken:
            raise LedgerCorrupt(
                f"{self.path} is in an unknown state ({self._broken}); close the ledger and open it again"
            )

    def _take_back(self, cause: OSError) -> None:
        try:
            os.ftruncate(self._handle, self._end)
            os.fsync(self._handle)
        except OSError as error:
            self._broken = f"{cause.strerror}, then {error.strerror}"
            raise LedgerCorrupt(
                f"{self.path} could not be taken back after a failed write ({self._broken}); close and open it again"
            ) from error

    def _scan(self) -> tuple[list[int], list[bytes], int]:
        data = _read_all(self._handle)
        starts: list[int] = []
        leaves: list[bytes] = []
        start = 0
        while start < len(data):
            newline = data.find(b"\n", start)
            if newline < 0:
                self._cut_torn(data[start:], start, len(leaves))
                break
            document = data[start + _HEAD : newline + 1]
            leaf = leaf_hash(document)
            if data[start : start + _HEAD] != leaf.hex().encode() + b" ":
                raise LedgerCorrupt(
                    f"{self.path} entry {len(leaves)} (byte {start}) does not match its own hash: the file was changed "
                    "or the disk is failing; stop and keep the folder"
                )
            starts.append(start)
            leaves.append(leaf)
            start = newline + 1
        return starts, leaves, start

    def _cut_torn(self, tail: bytes, start: int, index: int) -> None:
        # A whole line whose newline became another byte was confirmed once; that is damage, not a crash.
        whole = leaf_hash(tail[_HEAD:-1] + b"\n").hex().encode()
        if tail[:_HASH_DIGITS] == whole:
            raise LedgerCorrupt(
                f"{self.path} entry {index} (byte {start}) has lost its newline: the file was changed or the disk is "
                "failing; stop and keep the folder"
            )
        os.ftruncate(self._handle, start)
        os.fsync(self._handle)
        self.torn_bytes = len(tail)


def lock_folder(folder: Path) -> int:
    """Take the folder's lock file; returns the handle that keeps it until closed (or the process dies).

    Raises LedgerBusy when another opener, in this process or another, has it.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise LedgerBusy(f"{folder} is open in another place; close it there first") from error
    return handle


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves either the old or the new file, whole.

    Raises LedgerBusy when the disk does not take it; the old file is still there then.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise LedgerBusy(f"{path} was not written ({error.strerror}); make room and try again") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_all(handle: int) -> bytes:
    size = os.fstat(handle).st_size
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        part = os.pread(handle, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
