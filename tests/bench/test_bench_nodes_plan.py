"""`v2gbench nodes plan` and `nodes rebalance`: tables and JSON, a network file that starts, slips in one sentence."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from bench.cli import BAD_INPUT, PASS, main
from bench.commands import nodes
from ledgers.lightning.nodes.build import build_programs
from ledgers.lightning.nodes.plan import Policy
from ledgers.lightning.planning import Demand, SessionMoney, plan_network

SMALL = ("--vehicles", "3", "--stations", "2", "--sessions", "4", "--import-msat", "224750000")
V2G = (*SMALL, "--export-msat", "100000000", "--v2g-share", "1/2")
PARALLEL = """\
schema: v2gbench.lightning-network/1.0
name: twofold
nodes: [{name: hub}, {name: bus}]
channels:
  - {from: hub, to: bus, capacity_sat: 1000000, push_sat: 100000}
  - {from: hub, to: bus, capacity_sat: 1000001, push_sat: 900000}
"""


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[object, str, str]]]:
    """Runs `v2gbench nodes …` in this process; gives exit code, output and errors."""
    terminated = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["v2gbench", "nodes", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    yield call
    signal.signal(signal.SIGTERM, terminated)


class TestPlan:
    def test_a_table_says_channels_capital_and_when_they_are_dry(
        self, run: Callable[..., tuple[object, str, str]]
    ) -> None:
        code, out, _ = run("plan", *V2G)
        assert code == PASS
        assert "hub to vehicle-1..3" in out
        assert "4 paid or 2 received" in out
        assert "until the rebalancing the hub earns 21.288 sat" in out

    def test_json_is_the_plan_of_the_library(self, run: Callable[..., tuple[object, str, str]]) -> None:
        code, out, _ = run("plan", *V2G, "--json")
        assert code == PASS
        plan = plan_network(Demand(3, 2, SessionMoney(224_750_000, 100_000_000), 4, v2g_share=Fraction(1, 2)))
        assert json.loads(out) == json.loads(json.dumps(plan.to_json()))
        assert json.loads(out)["fees"] == {"open_sat": 1645, "close_sat": 1930, "force_close_sat": 8670}

    def test_energies_at_a_tariff_and_a_rate_are_amounts(self, run: Callable[..., tuple[object, str, str]]) -> None:
        tariff = Path(__file__).parents[2] / "tariffs" / "example.yaml"
        energies = ("--import-wh", "899", "--export-wh", "100", "--v2g-share", "1")
        code, out, _ = run(
            "plan",
            *SMALL[:6],
            *energies,
            "--tariff",
            tariff,
            "--eur-per-btc",
            "100000",
            "--export-payer",
            "hub",
            "--json",
        )
        assert code == PASS
        assert json.loads(out)["demand"]["session"] == {"import_msat": 224_750, "export_msat": 18_000}

    def test_the_written_file_is_the_planned_network(
        self, run: Callable[..., tuple[object, str, str]], tmp_path: Path
    ) -> None:
        path = tmp_path / "yard3.yaml"
        code, out, _ = run("plan", *V2G, "--base-fee-msat", "2000", "--seed", "9", "--write", path)
        assert (code, out.splitlines()[-1]) == (PASS, f"written to {path}; start it with: v2gbench nodes up {path}")
        network = nodes.load_network(path)
        demand = Demand(
            3,
            2,
            SessionMoney(224_750_000, 100_000_000),
            4,
            v2g_share=Fraction(1, 2),
            hub_policy=Policy(base_fee_msat=2000),
        )
        assert network == plan_network(demand).network("yard3", seed=9)
        code, _, err = run("plan", *V2G, "--write", path)
        assert (code, "is there already; choose another name" in err) == (BAD_INPUT, True)

    @pytest.mark.parametrize(
        ("arguments", "remedy"),
        [
            (SMALL[:6], "state what a session costs at most, once"),
            ((*SMALL, "--import-wh", "5"), "state what a session costs at most, once"),
            ((*SMALL, "--export-wh", "5"), "leave out --export-wh"),
            ((*SMALL[:6], "--import-wh", "5"), "add --tariff FILE and --eur-per-btc NUMBER"),
            ((*SMALL[:6], "--import-wh", "5", "--export-msat", "5"), "leave out --export-msat"),
            ((*SMALL, "--v2g-share", "half"), "--v2g-share 'half' is no number"),
            ((*SMALL, "--sat-per-vbyte", "1/0"), "--sat-per-vbyte '1/0' is no number"),
            ((*SMALL, "--v2g-share", "2", "--export-msat", "5000"), "the share of V2G: 2 cannot be planned for"),
            ((*SMALL, "--sessions-per-station", "1"), "raise the sessions of a charging point"),
            ((*SMALL, "--in-flight", "0"), "HTLCs in flight: 0 cannot be planned for"),
            ((*SMALL, "--base-fee-msat", "-1"), "base_fee_msat is -1; it is 0 to 4294967295"),
            ((*SMALL, "--write", "/nowhere/Bad name.yaml"), "'bad name' is no name for a network"),
            ((*SMALL, "--write", "/nowhere/n.yaml"), "/nowhere/n.yaml cannot be written"),
        ],
    )
    def test_a_slip_is_one_sentence(
        self, run: Callable[..., tuple[object, str, str]], arguments: tuple[str, ...], remedy: str
    ) -> None:
        code, out, err = run("plan", *arguments)
        assert (code, out, err.count("\n")) == (BAD_INPUT, "", 1)
        assert remedy in err


class TestRebalance:
    def test_where_nothing_runs_it_says_how_to_start(
        self, run: Callable[..., tuple[object, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path))
        for arguments in (("rebalance",), ("rebalance", "depot", "--dry-run", "--json")):
            code, out, err = run(*arguments)
            assert (code, out, "start one with: v2gbench nodes up" in err) == (BAD_INPUT, "", True)

    def test_a_status_of_sessions_does_not_go_with_watching(self, run: Callable[..., tuple[object, str, str]]) -> None:
        code, _, err = run("status", "--watch", "--sessions", "5")
        assert (code, "leave out --watch or --sessions" in err) == (BAD_INPUT, True)


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(180)
class TestRunningNetworks:
    def test_parallel_channels_are_made_even_and_their_costs_told(
        self,
        run: Callable[..., tuple[object, str, str]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        programs = build_programs()
        (tmp_path / "lightning" / "programs").mkdir(parents=True)
        (tmp_path / "lightning" / "programs" / programs.key).symlink_to(programs.folder)
        monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path))
        (tmp_path / "n.yaml").write_text(PARALLEL)
        nodes.up(tmp_path / "n.yaml", background=True, show=False, say=lambda _: None)
        try:
            _, out, _ = run("rebalance", "twofold", "--to", "even", "--dry-run")
            assert out.startswith("would pay 399")
            assert "fees 1400 msat" in out
            _, out, _ = run("rebalance", "twofold", "--to", "even", "--json")
            done = json.loads(out)
            assert (len(done["paid"]), done["fee_msat"], done["words"]) == (1, 1400, "")
            assert done["distance_before_msat"] > 799_000_000
            assert done["distance_after_msat"] < 1_000_000
            _, out, _ = run("status", "twofold", "--sessions", "1000", "--json")
            costs = json.loads(out)["costs"]
            assert (costs["opened_sat"], costs["close_sat"]) == (658, 772)
            assert [channel["session_msat"] for channel in costs["channels"]] == [715, 715]
            _, out, _ = run("status", "twofold")
            assert "in all: opened for 658 sat, close for 772 sat" in out
        finally:
            nodes.down("twofold")
