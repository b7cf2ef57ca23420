"""`v2gbench nodes`: network files are refused with the place; a network ends with `down`, a signal, its keeper."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cli import BAD_INPUT, main
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

    def test_the_file_of_the_document_is_right(self, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "lightning.md").read_text(encoding="utf-8")
        (tmp_path / "n.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
        plan = nodes.load_network(tmp_path / "n.yaml")
        assert [(channel.opener, channel.peer) for channel in plan.channels] == [("hub", "van"), ("hub", "evse")]

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
            (
                "base_fee_msat: 2000",
                "base_fee_msat: -1",
                r"n.yaml:6:.*base_fee_msat: 0 <= base_fee_msat <= 4294967295 must hold, not -1",
            ),
            (
                "fee_rate_ppm: 5",
                "fee_rate_ppm: 99999999999",
                r"n.yaml:6:.*fee_rate_ppm: 0 <= fee_rate_ppm <= 1000000 must hold, not 99999999999",
            ),
            ("fee_rate_ppm: 5", "time_lock_delta: 3000", r"n.yaml:6:.* 24 <= time_lock_delta <= 2016 must hold"),
            ("name: bus", "name: Bus", r"n.yaml:7:.*name: 'Bus' does not fit; this is a name: up to 32 small letters"),
            ("to: bus", "to: van", r"n.yaml:11:\d+: channels\[0\].to: .*names node 'van'.* it has hub, bus"),
            ("to: bus", "to: hub", r"n.yaml:11:\d+: channels\[0\].to: .*leads nowhere"),
            ("name: bus", "name: hub", r"n.yaml:7:\d+: nodes\[1\].name: .*more than one node 'hub'"),
            (
                "capacity_sat: 4000000",
                "capacity_sat: 0",
                r":11:\d+: channels\[0\].capacity_sat: .* 0; it is 20000",
            ),
            ("push_sat: 1000000", "push_sat: -1", r":11:\d+: channels\[0\].push_sat: 0 <= push_sat must hold"),
            (
                "push_sat: 1000000",
                "push_sat: 4000000",
                r":11:\d+: channels\[0\].push_sat: .*; it is 0 to 3950000",
            ),
            (
                "maxpendingchannels=3",
                "rpclisten=1",
                r":9:\d+: nodes\[1\].options\[0\]: .*may not set 'rpclisten'",
            ),
            (
                "on_chain_sat: 0",
                "on_chain_sat: 9999999999999999999",
                r"n.yaml:8:\d+: nodes\[1\].on_chain_sat: 0 <= on_chain_sat <= 1000000000000 must hold",
            ),
            (
                "on_chain_sat: 0",
                "on_chain_sat: 1000000000000",
                r"n.yaml:4:\d+: nodes: .*needs 1000005050000 sat .* the miner has 1000000000000",
            ),
            ("options: [maxpendingchannels=3]", "options: 3", r"n.yaml:9:.*this must be a list .*not 3"),
        ],
    )
    def test_a_slip_is_refused_in_one_sentence(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        (tmp_path / "n.yaml").write_text(NETWORK.replace(old, new))
        with pytest.raises(ConfigError, match=problem):
            nodes.load_network(tmp_path / "n.yaml")

    def test_a_network_without_nodes_or_without_a_word_is_told_so_and_not_about_stations(self, tmp_path: Path) -> None:
        (tmp_path / "n.yaml").write_text("schema: v2gbench.lightning-network/1.0\nname: depot\nnodes: []\n")
        with pytest.raises(ConfigError, match=r"n.yaml:3:1: nodes: the list is empty; write at least one entry$"):
            nodes.load_network(tmp_path / "n.yaml")
        (tmp_path / "n.yaml").write_text("")
        with pytest.raises(ConfigError, match=r"n.yaml:1:1: the file is empty; begin it with 'schema:'$"):
            nodes.load_network(tmp_path / "n.yaml")

    def test_down_and_status_where_nothing_runs_say_how_to_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path))
        for command in (nodes.down, nodes.status, nodes.watch):
            with pytest.raises(NodeFailed, match="start one with: v2gbench nodes up"):
                command("yard")
        assert nodes.networks() == []


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Runs `v2gbench nodes …` in this process where no network runs; gives the sentence that it refuses with."""
    monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path / "cache"))
    terminated = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["v2gbench", "nodes", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert (end.value.code, said.out) == (BAD_INPUT, "")
        assert said.err.startswith("v2gbench: ")
        assert said.err.count("\n") == 1
        return said.err

    yield run
    signal.signal(signal.SIGTERM, terminated)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "remedy"),
        [
            (("down",), "start one with: v2gbench nodes up"),
            (("down", "depot", "--json"), "start one with: v2gbench nodes up"),
            (("status",), "start one with: v2gbench nodes up"),
            (("status", "--json"), "start one with: v2gbench nodes up"),
            (("status", "--watch"), "start one with: v2gbench nodes up"),
            (("status", "--seconds", "1"), "--seconds goes with --watch"),
            (("status", "--watch", "--json"), "leave out --watch or --json"),
            (("up", "--json"), "--json goes with --background"),
        ],
    )
    def test_a_command_that_cannot_be_done_says_what_can(
        self, refused: Callable[..., str], arguments: tuple[str, ...], remedy: str
    ) -> None:
        assert remedy in refused(*arguments)

    def test_a_wrong_network_file_is_named_with_its_line(self, refused: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "n.yaml").write_text(NETWORK.replace("name: bus", "name: Bus"))
        assert "n.yaml:7:" in refused("up", str(tmp_path / "n.yaml"))
        assert "none.yaml" in refused("up", str(tmp_path / "none.yaml"), "--background", "--json")


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


def test_the_log_of_a_build_server_has_a_line_for_each_tenth_of_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with nodes.nodes_progress(show=True) as progress:
        assert progress is not None
        for done in range(0, 101, 5):
            progress(done, 100, "lnd")
    with nodes.nodes_progress(show=False) as none:
        assert none is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split(" %")[0] for line in lines] == [str(tenth) for tenth in range(0, 101, 10)]


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


def v2gbench_nodes(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "v2gbench", "nodes", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(300)
class TestCommandLine:
    def test_programs_that_are_there_are_not_built_again(self, network_file: Path) -> None:
        done = v2gbench_nodes("build", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["was_there"] is True
        assert {"lnd", "btcd"} <= set(found["size_bytes"])

    def test_a_network_is_started_looked_at_and_ended_by_commands(self, network_file: Path) -> None:
        begun = v2gbench_nodes("up", network_file, "--background", "--json")
        try:
            assert begun.returncode == 0, begun.stderr
            assert [node["state"] for node in json.loads(begun.stdout)["nodes"]] == ["active", "active"]
            looked = v2gbench_nodes("status", "depot", "--json")
            (channel,) = json.loads(looked.stdout)["nodes"][1]["channels"]
            assert (channel["peer"], channel["active"], channel["local_sat"]) == ("hub", True, 1_000_000)
            assert "<-> hub" in v2gbench_nodes("status", "depot").stdout
            watched = v2gbench_nodes("status", "depot", "--watch", "--seconds", "0.2")
            assert (watched.returncode, "bus: block" in watched.stdout) == (0, True), watched.stderr
        finally:
            ended = v2gbench_nodes("down", "depot", "--json")
        assert json.loads(ended.stdout) == {"ended": "depot", "running": []}
        assert v2gbench_nodes("status", "depot").returncode == BAD_INPUT

    @pytest.mark.parametrize(
        "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
    )
    def test_a_network_in_the_foreground_ends_in_order_with_a_signal(
        self, network_file: Path, number: signal.Signals
    ) -> None:
        command = [sys.executable, "-m", "v2gbench", "nodes", "up", str(network_file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
            try:
                assert up.stdout is not None
                shown = [up.stdout.readline() for _ in range(3)]
                found = nodes.status("depot")
                up.send_signal(number)
                _, errors = up.communicate(timeout=30)
            finally:
                up.kill()
        assert [line.split()[0] for line in shown] == ["hub", "bus", "network"]
        assert (up.returncode, "Traceback" in errors) == (0, False), errors
        assert errors.endswith("the network has ended\n")
        assert nodes.networks() == []
        assert all(not Path(f"/proc/{node.pid}").exists() for node in found.nodes)
