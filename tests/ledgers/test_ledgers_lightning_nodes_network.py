"""Networks of real lnd and btcd: ready, faulty by name, healed, never left behind; money adds up to the satoshi."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ledgers.lightning.errors import BuildError, LightningError, NodeFailed
from ledgers.lightning.nodes import network as network_module
from ledgers.lightning.nodes.build import build_programs
from ledgers.lightning.nodes.chain import MINER_ADDRESS
from ledgers.lightning.nodes.lnd import LOCKED, SERVER_ACTIVE, NodeCalls
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import ChannelPlan, NetworkPlan, NodePlan, Policy, hub_and_spokes
from ledgers.lightning.nodes.processes import free_ports, wait_until
from ledgers.lightning.nodes.status import read_description, read_status, running_in

pytestmark = [pytest.mark.nodes, pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = NetworkPlan("small", (NodePlan("solo", on_chain_sat=0),))
# A bench in a process of its own that opens a network, prints every process id, and waits to be killed.
BENCH = """
import sys, time
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import hub_and_spokes
network = LightningNetwork(hub_and_spokes("killed", spokes=["van"]))
network.open()
network.pause("van")
print(*(network.process_id(name) for name in ("chain", *network.names)), network.folder, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="class")
def lightning_plan(request: pytest.FixtureRequest) -> NetworkPlan:
    """Overrides the plug-in's: the hub asks more than lnd's default, and one channel is uneven.

    The faults, which change channels, have a network of their own, so that classes may run in any order.
    """
    return NetworkPlan(
        "broken" if request.cls is TestFaults else "tested",
        nodes=(
            NodePlan("hub", policy=Policy(base_fee_msat=2000, fee_rate_ppm=7, time_lock_delta=40)),
            NodePlan("van", on_chain_sat=300_000),
            NodePlan("evse", on_chain_sat=0),
        ),
        channels=(ChannelPlan("hub", "van", 4_000_000, 1_500_000), ChannelPlan("hub", "evse", 2_000_000, 0)),
        seed=11,
    )


def local_sat(network: LightningNetwork, name: str) -> list[int]:
    return sorted(channel.local_sat for channel in network.calls(name).channels())


def total_sat(network: LightningNetwork) -> int:
    """All that the nodes own: wallets, and each channel's capacity once."""
    total = 0
    for name in network.names:
        calls = network.calls(name)
        total += sum(calls.wallet_sat())
        for channel in calls.channels():
            total += channel.capacity_sat if channel.is_opener else 0
    return total


class TestReady:
    def test_every_node_is_synced_and_knows_every_channel(self, lightning_network: LightningNetwork) -> None:
        height = lightning_network.chain.height()
        for name in lightning_network.names:
            calls = lightning_network.calls(name)
            info = calls.info()
            assert (info.synced_to_chain, info.block_height, info.alias) == (True, height, name)
            assert [chain.network for chain in info.chains] == ["regtest"]
            assert len(calls.graph().complete) == 2
            assert all(channel.active for channel in calls.channels())

    def test_the_hub_asks_what_the_plan_says(self, lightning_network: LightningNetwork) -> None:
        command = [*lightning_network.lncli("van"), "describegraph"]
        graph = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
        hub = lightning_network.address("hub").public_key
        for edge in graph["edges"]:
            policy = edge["node1_policy"] if edge["node1_pub"] == hub else edge["node2_policy"]
            assert (policy["fee_base_msat"], policy["fee_rate_milli_msat"], policy["time_lock_delta"]) == (
                "2000",
                "7",
                40,
            )

    def test_lncli_and_our_calls_agree(self, lightning_network: LightningNetwork) -> None:
        for name in lightning_network.names:
            command = [*lightning_network.lncli(name), "listchannels"]
            told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)["channels"]
            ours = lightning_network.calls(name).channels()
            assert sorted((item["channel_point"], int(item["local_balance"])) for item in told) == sorted(
                (channel.point, channel.local_sat) for channel in ours
            )

    def test_addresses_lead_to_files_that_others_may_not_read(self, lightning_network: LightningNetwork) -> None:
        address = lightning_network.address("van")
        assert address.host == "127.0.0.1"
        node = lightning_network.folder / "nodes" / "van"
        assert address.macaroon_path.is_relative_to(node)
        assert node.stat().st_mode & 0o077 == 0
        assert (node / "lnd.conf").stat().st_mode & 0o077 == 0
        assert b"BEGIN CERTIFICATE" in address.tls_cert_path.read_bytes()

    def test_a_certificate_that_is_still_being_written_is_not_taken(
        self, lightning_network: LightningNetwork, tmp_path: Path
    ) -> None:
        address = lightning_network.address("van")
        whole, copied = address.tls_cert_path.read_bytes(), tmp_path / "tls.cert"
        calls = NodeCalls("van", address=address.address, certificate=copied, macaroon=address.macaroon_path)
        try:
            for size in (0, len(whole) // 2, len(whole)):
                copied.write_bytes(whole[:size])
                assert calls.state() == (SERVER_ACTIVE if size == len(whole) else None)
        finally:
            calls.close()


class TestMoney:
    def test_what_the_nodes_own_and_the_fees_they_paid_is_what_they_got(
        self, lightning_network: LightningNetwork
    ) -> None:
        network = lightning_network
        money = network.chain.money()
        assert money.funded_sat == total_sat(network) + money.node_fees_sat
        network.fund("van", 123_456)
        assert network.chain.money().funded_sat == money.funded_sat + 123_456
        network.open_channel("van", "evse", capacity_sat=200_000, push_sat=50_000)
        network.close_channel("van", "evse")
        wait_until(lambda: len(network.chain.mempool()) == 1, limit_s=20, what="the closing transaction")
        network.mine(6)
        wait_until(lambda: network.calls("evse").wallet_sat()[0] >= 50_000, limit_s=20, what="the money of the channel")
        after = network.chain.money()
        assert after.node_fees_sat > money.node_fees_sat
        assert after.funded_sat == total_sat(network) + after.node_fees_sat

    def test_a_reorganisation_keeps_the_money(self, lightning_network: LightningNetwork) -> None:
        network = lightning_network
        network.fund("van", 77_000)
        before, tip = network.calls("van").wallet_sat(), network.chain.block_hash(network.chain.height())
        height = network.chain.height()
        network.reorganise(1)
        assert network.chain.height() == height + 1
        assert network.chain.block_hash(height) != tip
        wait_until(lambda: network.calls("van").wallet_sat() == before, limit_s=20, what="the money to be back")
        assert network.chain.money().funded_sat == total_sat(network) + network.chain.money().node_fees_sat

    def test_the_miner_pays_segwit_addresses_of_this_chain_alone(self, lightning_network: LightningNetwork) -> None:
        with pytest.raises(NodeFailed, match="no SegWit address of this regtest chain; nothing was paid"):
            lightning_network.chain.fund([("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", 1000)])
        assert lightning_network.chain.fund([(MINER_ADDRESS, 1000)]) in lightning_network.chain.mempool()
        lightning_network.mine(1)


class TestFaults:
    @pytest.mark.parametrize("how", ["stop", "kill"])
    @pytest.mark.parametrize("name", ["hub", "van"])
    def test_a_node_that_went_comes_back_with_its_channels(
        self, lightning_network: LightningNetwork, how: str, name: str
    ) -> None:
        before = local_sat(lightning_network, name)
        getattr(lightning_network, how)(name)
        assert lightning_network.process_id(name) is None
        with pytest.raises(LightningError):
            lightning_network.calls(name).info()
        lightning_network.start(name)
        lightning_network.wait_ready()
        assert local_sat(lightning_network, name) == before

    @pytest.mark.parametrize("how", ["stop", "kill"])
    def test_the_chain_comes_back_with_its_blocks_and_every_node_follows(
        self, lightning_network: LightningNetwork, how: str
    ) -> None:
        network = lightning_network
        height = network.chain.height()
        tip = network.chain.block_hash(height)
        getattr(network, how)("chain")
        with pytest.raises(NodeFailed, match="btcd does not answer"):
            network.chain.height()
        network.start("chain")
        assert network.chain.block_hash(height) == tip
        network.mine(2)
        network.wait_ready()

    def test_a_node_whose_wallet_never_sees_the_new_chain_is_started_anew(
        self, lightning_network: LightningNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = lightning_network
        stuck = {network.process_id("van")}
        truly = NodeCalls.is_synced_at

        def is_synced_at(calls: NodeCalls, height: int) -> bool:
            """As lnd says it when its rescan was answered on a connection that is gone."""
            return truly(calls, height) and not (calls is network.calls("van") and network.process_id("van") in stuck)

        monkeypatch.setattr(NodeCalls, "is_synced_at", is_synced_at)
        monkeypatch.setattr(network_module, "_BLOCKS_TO_SYNC", 1)
        network.restart("chain")
        assert network.process_id("van") not in stuck
        network.wait_ready()

    def test_a_paused_node_keeps_its_process_and_answers_when_it_goes_on(
        self, lightning_network: LightningNetwork
    ) -> None:
        lightning_network.pause("van")
        assert lightning_network.process_id("van") is not None
        assert lightning_network.calls("van").state() is None
        lightning_network.mine(1)  # waits for the others alone
        lightning_network.resume("van")
        lightning_network.wait_ready()

    def test_parted_peers_find_each_other_again(self, lightning_network: LightningNetwork) -> None:
        lightning_network.disconnect("hub", "evse")
        lightning_network.connect("evse", "hub")
        lightning_network.wait_ready()
        assert lightning_network.address("hub").public_key in lightning_network.calls("evse").peers()

    def test_a_full_disk_refuses_and_a_healed_node_works(self, lightning_network: LightningNetwork) -> None:
        lightning_network.fill_disk("evse")
        with pytest.raises(NodeFailed, match="file too large"):
            lightning_network.calls("evse").new_address()
        lightning_network.heal()
        assert lightning_network.calls("evse").new_address().startswith("bcrt1")

    def test_a_fee_spike_makes_the_next_transaction_dear(self, lightning_network: LightningNetwork) -> None:
        network = lightning_network
        network.fund("hub", 1_000_000)
        network.spike_fees(150)
        point = network.calls("hub").open_channel(network.address("van").public_key, capacity_sat=30_000, push_sat=0)
        network.calm_fees()
        before = network.chain.money().node_fees_sat
        wait_until(lambda: len(network.chain.mempool()) == 1, limit_s=20, what="the funding transaction")
        size = network.chain.call("getrawtransaction", point.partition(":")[0], 1)
        assert isinstance(size, dict)
        network.mine(6)
        network.wait_ready()
        assert (network.chain.money().node_fees_sat - before) / size["vsize"] == pytest.approx(150, rel=0.02)

    @pytest.mark.parametrize("closer", ["hub", "van"])
    def test_a_forced_close_pays_each_side(self, lightning_network: LightningNetwork, closer: str) -> None:
        network = lightning_network
        other = "van" if closer == "hub" else "hub"
        network.fund("van", 2_000_000)
        point = network.open_channel("van", "hub", capacity_sat=500_000, push_sat=200_000)
        before = network.calls(other).wallet_sat()[0]
        network.calls(closer).close_channel(point, force=True)
        wait_until(lambda: bool(network.chain.mempool()), limit_s=20, what="the closing transaction")
        share = 200_000 if other == "hub" else 250_000

        def paid() -> bool:
            network.mine(1)
            return network.calls(other).wallet_sat()[0] >= before + share

        wait_until(paid, limit_s=60, every_s=0.2, what=f"{other} to have its money")

    def test_a_locked_node_says_so_until_it_is_opened(self, lightning_network: LightningNetwork) -> None:
        lightning_network.restart("van", locked=True)
        assert lightning_network.calls("van").state() == LOCKED
        with pytest.raises(NodeFailed, match="wallet locked"):
            lightning_network.calls("van").info()
        lightning_network.unlock("van")
        assert lightning_network.calls("van").state() == SERVER_ACTIVE

    def test_everything_at_once_is_healed(self, lightning_network: LightningNetwork) -> None:
        lightning_network.pause("van")
        lightning_network.kill("hub")
        lightning_network.kill("chain")
        lightning_network.spike_fees(100)
        lightning_network.fill_disk("evse")
        lightning_network.heal()
        assert all(channel.active for channel in lightning_network.calls("hub").channels())

    def test_a_name_that_is_not_there_is_one_sentence(self, lightning_network: LightningNetwork) -> None:
        with pytest.raises(LightningError, match="network 'broken' has no node 'bus'; it has hub, van, evse"):
            lightning_network.kill("bus")
        with pytest.raises(NodeFailed, match="there is no open channel between 'van' and 'evse'"):
            lightning_network.close_channel("van", "evse")


class TestStatus:
    def test_status_from_the_folder_is_that_of_the_nodes(self, lightning_network: LightningNetwork) -> None:
        network = lightning_network
        found = read_status(network.folder)
        assert (found.name, found.owner_pid, found.height) == ("tested", os.getpid(), network.chain.height())
        assert [node.name for node in found.nodes] == list(network.names)
        assert all(node.state == "active" and node.memory_mb > 20 for node in found.nodes)
        for node in found.nodes:
            assert sorted(channel.local_sat for channel in node.channels) == local_sat(network, node.name)
        network.pause("van")
        network.kill("evse")
        assert [node.state for node in read_status(network.folder).nodes] == ["active", "paused", "stopped"]

    def test_where_nothing_runs_status_says_how_to_start(self, tmp_path: Path) -> None:
        with pytest.raises(NodeFailed, match=r"no network runs in .*; start one with: v2gbench nodes up"):
            read_description(tmp_path)


class TestLife:
    def test_nothing_runs_after_the_bench_was_killed(self) -> None:
        bench = subprocess.Popen(
            [sys.executable, "-c", BENCH], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        try:
            assert bench.stdout is not None
            *pids, folder = bench.stdout.readline().split()
            assert all(is_running(int(pid)) for pid in pids)
            assert running_in(Path(folder))
        finally:
            bench.send_signal(signal.SIGKILL)
            bench.wait()
            bench.stdout.close() if bench.stdout else None
        wait_until(lambda: not any(is_running(int(pid)) for pid in pids), limit_s=15, what="the end of every node")
        assert not running_in(Path(folder))
        shutil.rmtree(folder)

    def test_a_good_end_leaves_neither_processes_nor_folder(self) -> None:
        with LightningNetwork(SMALL, stored=False) as network:
            pids = [network.process_id(name) for name in ("chain", "solo")]
            folder = network.folder
        assert not any(is_running(pid) for pid in pids if pid is not None)
        assert not folder.exists()

    def test_a_bad_end_keeps_the_logs_and_says_where(self) -> None:
        network = LightningNetwork(SMALL, stored=False)

        def fail() -> None:
            with network:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            fail()
        assert caught.value.__notes__ == [f"the logs of the nodes are kept in {network.folder}"]
        assert network.process_id("solo") is None
        assert "Version" in (network.folder / "nodes" / "solo" / "lnd.log").read_text()
        shutil.rmtree(network.folder)

    def test_a_node_that_does_not_start_shows_its_last_lines_and_ends_the_others(self, tmp_path: Path) -> None:
        plan = NetworkPlan("broken", (NodePlan("good"), NodePlan("bad", options=("nosuchoption=1",))))
        network = LightningNetwork(plan, folder=tmp_path / "run", stored=False)
        with pytest.raises(NodeFailed, match=r"(?s)bad ended with code 1 while we waited .*nosuchoption"):
            network.open()
        assert network.process_id("good") is None
        assert not running_in(tmp_path / "run")

    @pytest.mark.long
    def test_seeds_decide_keys_and_a_stored_network_starts_with_the_same(self, tmp_path: Path) -> None:
        cache, programs = tmp_path / "cache", build_programs()
        keys = []
        for seed in (3, 3, 4):
            plan = hub_and_spokes("seeded", spokes=["van"], seed=seed)
            with LightningNetwork(plan, cache=cache, programs=programs, stored=seed == 3) as network:
                keys.append([network.address(name).public_key for name in network.names])
                if len(keys) < 3:
                    assert network.started_from_store == (len(keys) == 2)
                assert local_sat(network, "van") == [5_000_000]
        assert keys[0] == keys[1] != keys[2]
        assert list((cache / "runs").iterdir()) == []

    @pytest.mark.long
    def test_a_damaged_stored_network_is_built_anew(self, tmp_path: Path) -> None:
        cache, programs = tmp_path / "cache", build_programs()
        with LightningNetwork(SMALL, cache=cache, programs=programs):
            pass
        (blocks,) = (cache / "networks").glob("*/blocks.hex")
        blocks.write_text("00" * 80 + "\n")
        with LightningNetwork(SMALL, cache=cache, programs=programs) as network:
            assert not network.started_from_store

    def test_a_program_that_is_not_the_built_one_is_not_started(self, tmp_path: Path) -> None:
        programs = build_programs()
        folder = tmp_path / programs.key
        folder.mkdir()
        for name in programs.sha256:
            (folder / name).symlink_to(programs.folder / name)
        (folder / "btcctl").unlink()
        (folder / "btcctl").write_bytes(b"something else")
        changed = type(programs)(folder, programs.go_version, programs.sha256, programs.size_bytes, programs.build_s)
        network = LightningNetwork(SMALL, programs=changed, stored=False)
        with pytest.raises(BuildError, match="btcctl is not the program that was built"):
            network.open()
        assert network.process_id("chain") is None

    def test_a_port_that_another_program_took_meanwhile_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            calls = 0

            def one_is_taken(count: int) -> tuple[int, ...]:
                nonlocal calls
                calls += 1
                found = free_ports(count)
                return (taken.getsockname()[1], *found[1:]) if calls in {1, 3} else found

            monkeypatch.setattr(network_module, "free_ports", one_is_taken)
            with LightningNetwork(SMALL, stored=False) as network:
                assert calls == 4  # two for the chain, two for the node
                assert network.calls("solo").state() == SERVER_ACTIVE

    def test_one_folder_holds_one_network(self, tmp_path: Path) -> None:
        with (
            LightningNetwork(SMALL, folder=tmp_path, stored=False) as network,
            pytest.raises(NodeFailed, match="another network runs in"),
        ):
            LightningNetwork(SMALL, folder=tmp_path, stored=False).open()
        assert network.process_id("chain") is None
        assert (tmp_path / "chain" / "btcd.log").exists()
