"""`v2gbench nodes`: network files are refused with the place; a network ends with `down` and with its keeper."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bench.commands import nodes
from drivers.errors import ConfigError
from ledgers.lightning.errors import NodeFailed
from ledgers.lightning.nodes.build import build_programs
from ledgers.lightning.nodes.plan import ChannelPlan, NodePlan, Policy
from ledgers.lightning.nodes.processes import wait_until

NETWORK = """\
schema: v2gbench.lightning-network/1.0
name: depot
seed: 5
nodes:
  - name: hub
    policy: {base_fee_msat: 2000, fee_rate_ppm: 5}
  - name: bus
    on_chain_sat: 0
    options: [maxpendingchannels=3]
channels:
  - {from: hub, to: bus, capacity_sat: 4000000, push_sat: 1000000}
"""


class TestNetworkFiles:
    def test_a_file_becomes_a_plan(self, tmp_path: Path) -> None:
        (tmp_path / "n.yaml").write_text(NETWORK)
        plan = nodes.load_network(tmp_path / "n.yaml")
        assert (plan.name, plan.seed) == ("depot", 5)
        assert plan.nodes == (
            NodePlan("hub", Policy(2000, 5)),
            NodePlan("bus", on_chain_sat=0, options=("maxpendingchannels=3",)),
        )
        assert plan.channels == (ChannelPlan("hub", "bus", 4_000_000, 1_000_000),)

    def test_without_a_file_there_is_a_hub_with_van_and_evse(self) -> None:
        plan = nodes.load_network(None)
        assert [node.name for node in plan.nodes] == ["hub", "van", "evse"]

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("network/1.0", "network/2.0", r"this release reads v2gbench.lightning-network/1.0"),
            ("name: bus", "name: Bus", r"n.yaml:7:"),
            ("to: bus", "to: van", r"names node 'van', which it does not have"),
            ("capacity_sat: 4000000", "capacity_sat: 1", r"has capacity_sat 1; it is 20000 to 16777215"),
            ("maxpendingchannels=3", "bitcoin.mainnet=true", r"may not set 'bitcoin.mainnet'"),
            ("fee_rate_ppm: 5", "fee_rate: 5", r"n.yaml:6:.*fee_rate"),
            ("base_fee_msat: 2000", "base_fee_msat: -1", r"n.yaml:6:"),
        ],
    )
    def test_a_slip_is_refused_in_one_sentence(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        (tmp_path / "n.yaml").write_text(NETWORK.replace(old, new))
        with pytest.raises(ConfigError, match=problem):
            nodes.load_network(tmp_path / "n.yaml")

    def test_down_and_status_where_nothing_runs_say_how_to_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path))
        for command in (nodes.down, nodes.status, nodes.watch):
            with pytest.raises(NodeFailed, match="start one with: v2gbench nodes up"):
                command("yard")
        assert nodes.networks() == []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own, with the programs of the real one."""
    programs = build_programs()
    folder = tmp_path_factory.mktemp("cache")
    (folder / "lightning" / "programs").mkdir(parents=True)
    (folder / "lightning" / "programs" / programs.key).symlink_to(programs.folder)
    return folder


@pytest.fixture
def network_file(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("V2GBENCH_CACHE", str(cache))
    path = tmp_path / "n.yaml"
    path.write_text(NETWORK)
    return path


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(300)
class TestUpAndDown:
    def test_a_network_in_the_background_answers_and_ends_with_down(
        self, network_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said: list[str] = []
        nodes.up(network_file, background=True, show=False, say=said.append)
        try:
            assert said[-1] == "network 'depot' runs; end it with: v2gbench nodes down depot"
            assert nodes.networks() == ["depot"]
            found = nodes.status("depot")
            assert [(node.name, node.state) for node in found.nodes] == [("hub", "active"), ("bus", "active")]
            assert found.nodes[1].channels[0].local_sat == 1_000_000
            with pytest.raises(NodeFailed, match="network 'depot' runs already"):
                nodes.up(network_file, background=False, show=False, say=said.append)
            nodes.watch("depot", seconds=0.1)
            assert "hub" in capsys.readouterr().out
        finally:
            nodes.down("depot")
        assert nodes.networks() == []
        assert all(not Path(f"/proc/{node.pid}").exists() for node in found.nodes)

    def test_a_network_ends_when_its_keeper_is_killed(self, network_file: Path) -> None:
        nodes.up(network_file, background=True, show=False, say=lambda _: None)
        found = nodes.status("depot")
        os.kill(found.owner_pid, signal.SIGKILL)
        wait_until(
            lambda: not any(Path(f"/proc/{node.pid}").exists() for node in found.nodes),
            limit_s=15,
            what="the end of the nodes",
        )
        assert nodes.networks() == []

    def test_a_network_that_does_not_start_says_why(self, network_file: Path) -> None:
        network_file.write_text(NETWORK.replace("maxpendingchannels=3", "nosuchoption=3"))
        with pytest.raises(NodeFailed, match=r"(?s)network 'depot' did not start:.*nosuchoption"):
            nodes.up(network_file, background=True, show=False, say=lambda _: None)
        assert nodes.networks() == []

    def test_a_network_in_the_foreground_ends_by_itself_after_its_time(self, network_file: Path) -> None:
        said: list[str] = []
        nodes.up(network_file, background=False, seconds=0.5, show=False, say=said.append)
        assert said[0].startswith("hub  127.0.0.1:")
        assert nodes.networks() == []
