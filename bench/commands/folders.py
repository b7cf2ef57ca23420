"""Folders of what commands other than sessions leave behind, named like run folders: when, what, four letters.

Each holds one JSON document and the report that is drawn from it.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from drivers.errors import ConfigError
from ledgers.evidence import write_atomically

RUNS_FOLDER: Final = Path("runs")


@contextmanager
def new_folder(root: Path | None, name: str) -> Iterator[Path]:
    """A new folder for work that takes long: made before the work, so that a place that does not take it is told first.

    What the work leaves in it stays; when it fails or is stopped, an empty folder goes, with the empty ones above that
    were made for it. Raises ConfigError where the folder cannot be made.
    """
    above = [each for each in (root or RUNS_FOLDER, *(root or RUNS_FOLDER).parents) if not each.exists()]
    folder = _make_folder(root, name)
    try:
        yield folder
    except BaseException:
        _remove_empty(folder, *above)
        raise


def write_document(
    folder: Path, name: str, document: Mapping[str, object], report: Callable[[Mapping[str, object], Path], Path]
) -> Path:
    """Write the document as `name` into the folder, and its report beside it; returns the report.

    Raises ConfigError, LedgerError or ReportError where the disk does not take it.
    """
    file = folder / name
    try:
        write_atomically(file, (json.dumps(document, allow_nan=False) + "\n").encode())
        return report(document, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; name another with --runs") from error


def _make_folder(root: Path | None, name: str) -> Path:
    """A new folder below `root` (`runs` where left out); raises ConfigError where it cannot be made."""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:60]
    folder = (root or RUNS_FOLDER) / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}_{plain}_{letters}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; name another folder with --runs") from error
    return folder


def _remove_empty(*folders: Path) -> None:
    """Remove folders, innermost first, up to the first that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
