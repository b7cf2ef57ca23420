"""Networks kept in the cache: blocks, wallets and channels as they were when a plan first became ready.

A kept network is younger than a week: lnd forgets channels that nobody has confirmed for two (BOLT 7), and would drop
the hub's other channels from the graph of each spoke. Certificates and logs are left out; each start makes its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledgers.lightning.errors import NodeFailed
from ledgers.lightning.nodes.chain import BLOCKS_FILE
from ledgers.lightning.nodes.disk import disk_refused
from ledgers.lightning.nodes.plan import CHAIN

STORE_FORMAT = 2  # higher when a network that is kept would be made otherwise now
OLDEST_S = 7 * 24 * 3600.0
_LEFT_OUT = shutil.ignore_patterns("lnd.log", "lnd.conf", "tls.*")


class StoredNetworks:
    """A folder of kept networks, each whole or absent; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def copy(self, key: str, target: Path) -> bool:
        """Copy a kept network over `target`; False when there is none that is young enough."""
        source = self.folder / key
        if not self._is_young(source):
            return False
        with self._locked(fcntl.LOCK_SH):
            if not self._is_young(source):
                return False
            shutil.copytree(source / "nodes", target / "nodes", dirs_exist_ok=True)
            shutil.copyfile(source / BLOCKS_FILE, target / CHAIN / BLOCKS_FILE)
        return True

    def keep(self, key: str, source: Path) -> None:
        """Keep the stopped network in `source`; one that is there already is replaced.

        Raises NodeFailed where the disk does not take it; then none of that key is kept, or the old one.
        """
        with self._locked(fcntl.LOCK_EX):
            for old in self.folder.iterdir():
                if old.is_dir() and not self._is_young(old):
                    shutil.rmtree(old, ignore_errors=True)
            temporary = self.folder / f".{key}.{os.getpid()}"
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                shutil.copytree(source / "nodes", temporary / "nodes", ignore=_LEFT_OUT)
                shutil.copyfile(source / CHAIN / BLOCKS_FILE, temporary / BLOCKS_FILE)
                (temporary / "complete").touch()
                shutil.rmtree(self.folder / key, ignore_errors=True)
                temporary.rename(self.folder / key)
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                raise NodeFailed(
                    f"the network is not kept for the next start: {disk_refused(self.folder, error)}"
                ) from error

    def discard(self, key: str) -> None:
        """Remove a kept network that does not start."""
        with self._locked(fcntl.LOCK_EX):
            shutil.rmtree(self.folder / key, ignore_errors=True)

    @staticmethod
    def _is_young(folder: Path) -> bool:
        try:
            return 0 <= time.time() - (folder / "complete").stat().st_mtime < OLDEST_S
        except OSError:
            return False

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)
