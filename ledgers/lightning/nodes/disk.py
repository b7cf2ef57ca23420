"""What to say when a disk does not take what the nodes need: one sentence with the folder and the remedy.

>>> disk_refused(Path("/cache"), OSError(errno.EROFS, "Read-only file system"))
'/cache cannot be written: Read-only file system; name another folder in the variable V2GBENCH_CACHE'
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_FULL = ("no space left on device", "disk quota exceeded")  # as Linux, Go and pip word it
_LEAST_FREE_BYTES = 1_000_000  # with less, nothing of ours could be written, not even the log that says so


def disk_refused(folder: Path, error: OSError) -> str:
    """Why nothing can be written in `folder`, and what to do; in one sentence without a full stop."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT} or tells_of_a_full_disk(str(error)):
        return full(folder)
    told = error.strerror or (str(error.args[0]) if error.args else type(error).__name__)
    return f"{folder} cannot be written: {told}; name another folder in the variable V2GBENCH_CACHE"


def full(folder: Path) -> str:
    """The same for a disk without room."""
    return f"the disk of {folder} is full; free some of it, or name another folder in the variable V2GBENCH_CACHE"


def tells_of_a_full_disk(text: str) -> bool:
    """Whether the words of another program, or of Python's copying, tell of a full disk."""
    return any(words in text.lower() for words in _FULL)


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room even for a line of a log."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
