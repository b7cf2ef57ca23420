"""The pytest plug-in as somebody else uses it: in another project, with workers of xdist, with a test that fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nodes, pytest.mark.slow, pytest.mark.timeout(300)]

PROJECT = """
import pytest

def test_the_network_is_ready(lightning_network):
    assert all(channel.active for channel in lightning_network.calls("hub").channels())

def test_a_fault_is_left_behind(lightning_network):
    lightning_network.kill("hub")

def test_the_next_test_finds_everything_up(lightning_network):
    assert all(channel.active for channel in lightning_network.calls("hub").channels())

def test_that_fails(lightning_network):
    print("folder", lightning_network.folder)
    assert not lightning_network.names
"""
BROKEN = """
import shutil

def test_a_node_loses_its_folder(lightning_network):
    lightning_network.kill("van")
    shutil.rmtree(lightning_network.folder / "nodes" / "van")
    print("folder", lightning_network.folder)

def test_the_next_test_gets_another_network(lightning_network):
    assert all(channel.active for channel in lightning_network.calls("hub").channels())
    print("folder", lightning_network.folder)
"""
OWN_PLAN = """
import pytest
from ledgers.lightning.nodes.plan import hub_and_spokes

@pytest.fixture(scope="session")
def lightning_plan():
    return hub_and_spokes("own", spokes=["bus"])
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout + done.stderr


def test_tests_share_a_healed_network_and_a_failure_shows_the_logs(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    told = run_pytest(tmp_path)
    assert "1 failed, 3 passed" in told
    for name in ("chain", "hub", "van", "evse"):
        assert f" log of {name} " in told
    folder = Path(told.partition("folder ")[2].splitlines()[0])
    assert (folder / "nodes" / "hub" / "lnd.log").exists()
    assert f"the logs of the nodes are in {folder}" in told
    shutil.rmtree(folder)


def test_a_network_that_cannot_be_healed_is_replaced_and_its_folder_kept(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(BROKEN)
    told = run_pytest(tmp_path, "-s")
    assert "2 passed" in told
    broken, other = (Path(line.partition("folder ")[2]) for line in told.splitlines() if "folder " in line)
    assert broken != other
    assert (broken / "nodes" / "hub" / "lnd.log").exists()
    assert not other.exists()
    shutil.rmtree(broken)


@pytest.mark.long
def test_two_workers_have_a_network_each(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(OWN_PLAN)
    (tmp_path / "test_project.py").write_text(
        "import os, time\n"
        "import pytest\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_it(lightning_network, number):\n"
        "    assert lightning_network.names == ('hub', 'bus')\n"
        "    with open('folders', 'a') as file:\n"
        "        file.write(f'{lightning_network.folder}\\n')\n"
        "    time.sleep(1)\n"
    )
    told = run_pytest(tmp_path, "-n", "2")
    assert "4 passed" in told
    folders = set((tmp_path / "folders").read_text().split())
    assert len(folders) == 2
    assert not any(Path(folder).exists() for folder in folders)


def test_a_project_without_such_tests_starts_nothing_and_imports_no_grpc(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(
        "import os, sys\n"
        "def test_nothing_is_imported():\n"
        "    assert not {'grpc', 'lndgrpc', 'ledgers.lightning.nodes.network'} & set(sys.modules)\n"
        "    assert 'GRPC_SSL_CIPHER_SUITES' not in os.environ\n"
    )
    assert "1 passed" in run_pytest(tmp_path)
