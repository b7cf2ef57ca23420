"""Keywords about the nodes and the money of a session, and the plan that comes with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bench.assets import asset
from bench.keywords import BenchLibrary, keywords
from bench.keywords.certification import ExpectedVerdict, ForgedDirection
from bench.keywords.money import Amount
from bench.keywords.opened import Phase
from bench.keywords.quantities import Duration, Energy, Power
from bench.pipeline import CertifiedSession
from bench.session import SessionPlan, SessionRunner
from bench.station import load_station, plan_document
from drivers.errors import ConfigError, NotOpenError
from ledgers.errors import SettlementError
from ledgers.lightning.session_network import read_session_network
from ledgers.verify import verify_certificate

NEEDS_NODES = "keeps its accounts in the run folder, and this keyword needs real nodes"


@pytest.mark.parametrize(
    ("words", "msat"),
    [("224750 msat", 224_750), ("5000000 sat", 5_000_000_000), ("224.75 sat", 224_750), ("-1 sat", -1000), ("0sat", 0)],
)
def test_amounts_are_whole_millisatoshi(words: str, msat: int) -> None:
    assert Amount.convert(words) == Amount(msat)
    assert Amount.convert(str(Amount(msat))) == Amount(msat)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("5", "'5' is no amount of money; write for example '224750 msat' or '5000000 sat'"),
        ("5 EUR", "'5 EUR' is no amount of money"),
        ("5 btc", "'5 btc' is no amount of money"),
        ("0.5 msat", "'0.5 msat' is no whole number of millisatoshi"),
        ("1.0005 sat", "'1.0005 sat' is no whole number of millisatoshi"),
    ],
)
def test_a_wrong_amount_is_refused_in_one_sentence(words: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the sentence is compared below
        Amount.convert(words)
    assert str(caught.value).startswith(complaint)


@pytest.fixture
def library() -> Iterator[BenchLibrary]:
    made = keywords()
    yield made
    made.bench.close(failure="the test is over")


def write_station(folder: Path, name: str = "emulated-lightning", **settlement: str) -> str:
    """A shipped station whose runs go below `folder`."""
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(asset(f"stations/{name}.yaml").read_text(encoding="utf-8"))
    document["runs"] = str(folder / "runs")
    document["settlement"] |= settlement
    written = folder / "station.yaml"
    with written.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return str(written)


def short_session(library: BenchLibrary, station: str) -> Path:
    """Two minutes at 4 kW, from plug to plug."""
    folder = Path(library.open_station(station))
    library.plug_in_vehicle()
    library.start_session(Duration(120.0), Power(4000.0))
    library.follow_grid_orders()
    library.stop_session()
    library.unplug_vehicle()
    return folder


# Embedded accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.wire
@pytest.mark.slow
class TestWithoutNodes:
    def test_every_keyword_about_nodes_says_what_it_needs(self, library: BenchLibrary, tmp_path: Path) -> None:
        library.open_station(write_station(tmp_path, "emulated"))
        one, two = Amount(1), Amount(2000)
        calls: dict[str, tuple[Any, ...]] = {
            "stop_node": ("hub",),
            "kill_node": ("hub",),
            "start_node": ("hub",),
            "freeze_node": ("hub",),
            "thaw_node": ("hub",),
            "part_nodes": ("hub", "driver"),
            "join_nodes": ("hub", "driver"),
            "mine_blocks": (1,),
            "reorganise_chain": (1,),
            "spike_fees": (100,),
            "calm_fees": (),
            "heal_network": (),
            "get_node_balance": ("hub",),
            "get_balances": (),
            "balances_should_be": ({"driver": one},),
            "node_balance_should_be": ("hub", one),
            "node_balance_should_have_changed_by": ("hub", one),
            "channel_balance_should_be": ("hub", "driver", two),
            "payments_should_be": (),
            "payment_of_session_should_be_settled_once": (),
            "payments_should_follow_from_record": (),
            "money_should_be_conserved": (),
            "nothing_should_have_been_paid": (),
        }
        tagged = {name for name in library.get_keyword_names() if "nodes" in getattr(library, name).robot_tags}
        assert tagged == set(calls)
        for name, arguments in calls.items():
            with pytest.raises(ConfigError) as refused:
                getattr(library, name)(*arguments)
            assert NEEDS_NODES in str(refused.value), name
            assert "stations/emulated-lightning.yaml" in str(refused.value)

    def test_a_schedule_that_cannot_be_paid_for_is_refused_before_transfer_begins(
        self, library: BenchLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.open_station(write_station(tmp_path, "emulated"))
        library.plug_in_vehicle()

        def refuse(_session: CertifiedSession, plan: SessionPlan) -> None:
            raise SettlementError(f"{plan.duration_s:g} s at {plan.baseline_w:g} W could not be paid")

        monkeypatch.setattr(CertifiedSession, "require_liquidity", refuse)
        monkeypatch.setattr(SessionRunner, "start", lambda _runner: pytest.fail("transfer began"))
        with pytest.raises(SettlementError, match="120 s at 4000 W could not be paid"):
            library.start_session(Duration(120.0), Power(4000.0))
        assert library.bench.opened.phase is Phase.PLUGGED
        monkeypatch.undo()
        library.start_session(Duration(120.0), Power(4000.0))
        assert library.bench.opened.phase is Phase.TRANSFER

    def test_a_record_is_settled_in_steps_and_a_forged_one_not_at_all(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        with pytest.raises(NotOpenError):
            library.record_session()
        folder = Path(library.open_station(write_station(tmp_path, "emulated")))
        for step in (library.hold_payment, library.settle_session):
            with pytest.raises(ConfigError, match="the session is not recorded yet; say 'Record Session' first"):
                step()
        with pytest.raises(ConfigError, match="there was no session to certify"):
            library.record_session()
        library.close_station()
        folder = short_session(library, write_station(tmp_path, "emulated"))
        path = Path(library.record_session())
        assert path == folder / "records" / "usage_record.json"
        assert library.record_session() == str(path), "again is the same"
        with pytest.raises(NotOpenError, match="the session is recorded and its station closed"):
            library.get_charger_power()
        record = path.read_bytes()

        forged = library.forge_usage_record(ForgedDirection.IMPORT, Energy(99_000.0))
        with pytest.raises(AssertionError, match=r"the session is not paid for: .* because the record does not verify"):
            library.settle_session(forged)
        assert path.read_bytes() == record
        assert not (folder / "records" / "settlement.json").exists()
        hold = library.hold_payment()
        assert library.hold_payment() == hold
        paid = library.settle_session()
        assert paid["status"] == "settled"
        assert library.settle_session() == paid, "it is paid once"
        summary = library.certify_session()
        assert (summary["verdict"], summary["reasons"]) == ("PASS", [])
        assert summary["settlement"]["hold_id"] == hold
        assert verify_certificate(Path(str(summary["certificate"])), Path(str(summary["trust"]))).ok

    def test_a_plan_that_fails_between_record_and_certificate_leaves_both(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        folder = short_session(library, write_station(tmp_path, "emulated"))
        library.record_session()
        run = library.bench.close(failure="the test failed")
        assert run is not None
        assert run.certified is not None
        assert run.certified.certified.settlement["status"] == "settled"
        assert (folder / "certificate.json").is_file()
        assert not (folder / "settlement" / "network.json").exists()


# The plan of a station ------------------------------------------------------------------------------------------------


def test_the_plan_of_a_station_names_nodes_accounts_mode_rate_and_balances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V2GBENCH_CACHE", str(tmp_path / "empty"))
    document: dict[str, Any] = plan_document(load_station(asset("stations/emulated-lightning.yaml")))
    lines = {(line["part"], line["name"]): line for line in document["plan"]}
    settlement = lines["settlement", "lightning"]
    assert (settlement["mode"], settlement["eur_per_btc"]) == ("hold", "100000")
    assert "1 BTC is 100000 EUR (an example, not a market price)" in settlement["text"]
    nodes = {name: line["account"] for (part, name), line in lines.items() if part == "node"}
    assert nodes == {"hub": None, "driver": "ev_owner", "seller": "charging_station", "aggregator": "aggregator"}
    assert "1000 msat and 1 ppm" in lines["node", "hub"]["text"]
    channel = lines["channel", "hub-seller"]
    assert (channel["capacity_sat"], channel["peer_begins_sat"]) == (10_000_000, 5_000_000)
    assert lines["programs", "lnd, btcd"]["built"] is False
    assert "v2gbench nodes build" in lines["programs", "lnd, btcd"]["text"]


def test_the_plan_of_a_station_of_embedded_accounts_has_one_line_for_them() -> None:
    document: dict[str, Any] = plan_document(load_station(asset("stations/emulated.yaml")))
    parts = [line["part"] for line in document["plan"]]
    assert parts.count("settlement") == 1
    assert {"node", "channel", "programs"}.isdisjoint(parts)


# Real nodes -----------------------------------------------------------------------------------------------------------

real_nodes = [pytest.mark.nodes, pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(300)]


def run_plan(plan: str, folder: Path, *options: str) -> dict[str, Any]:
    """What `v2gbench run --json` prints of a shipped plan that passes, run from an empty folder."""
    done = subprocess.run(
        [sys.executable, "-m", "v2gbench", "run", plan, "--runs", folder, "--json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


class TestTheMainPlan:
    pytestmark = real_nodes

    def test_it_is_settled_on_real_nodes_where_the_station_says_so(self, tmp_path: Path) -> None:
        document = run_plan("v2g_session", tmp_path, "--station", str(asset("stations/emulated-lightning.yaml")))
        assert {test["status"] for test in document["tests"]} == {"PASS"}
        (run,) = (Path(run["folder"]) for run in document["runs"])
        told = read_session_network((run / "settlement" / "network.json").read_bytes(), where="network.json")
        assert told.odd_balances() == ()
        assert [payment.state for payment in told.payments] == ["paid"] * 3
        assert sum(node.change_msat or 0 for node in told.nodes) == 0


class TestTheLightningPlan:
    pytestmark = real_nodes

    def test_it_passes_and_its_golden_session_costs_what_it_must(self, tmp_path: Path) -> None:
        document = run_plan("lightning_settlement", tmp_path)
        assert [test["status"] for test in document["tests"]] == ["PASS"] * 4
        golden, forged, hub_down, payee_died = (Path(run["folder"]) for run in document["runs"])

        # 899 Wh at 250 sat/kWh, and 1 000 msat + 1 ppm (rounded down) for the hub
        summary = json.loads((golden / "summary.json").read_bytes())
        assert summary["energy_import_wh"]["charger"] == 899.0
        told = read_session_network((golden / "settlement" / "network.json").read_bytes(), where="network.json")
        changes = {node.name: node.change_msat for node in told.nodes}
        assert changes == {"hub": 1000, "driver": -225_750, "seller": 224_750, "aggregator": 0}
        page = (golden / "report.html").read_text(encoding="utf-8")
        assert "import energy 224.750 sat" in page
        assert "No money was made or lost" in page

        states = {}
        for folder in (forged, hub_down, payee_died):
            told = read_session_network((folder / "settlement" / "network.json").read_bytes(), where="network.json")
            assert told.odd_balances() == ()
            states[folder] = sorted(payment.state for payment in told.payments)
        assert states[forged] == ["cancelled"] * 3 + ["paid"] * 3
        assert states[hub_down] == states[payee_died] == ["paid"] * 3


class TestKeywordsOnNodes:
    pytestmark = real_nodes

    def test_faults_are_planted_by_name_or_account_and_money_that_moves_aside_is_noticed(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        folder = short_session(library, write_station(tmp_path))
        with pytest.raises(
            ConfigError, match=r"there is no node 'ghost'; there are hub, driver \(of ev_owner\), seller"
        ):
            library.kill_node("ghost")
        with pytest.raises(ConfigError, match="0 blocks cannot be had; say 1 to 1000"):
            library.mine_blocks(0)
        height = library.mine_blocks(2)
        assert library.reorganise_chain(1) == height + 1
        library.freeze_node("charging_station")
        with pytest.raises(NotOpenError, match="node 'seller' does not answer; start it"):
            library.get_node_balance("seller")
        library.thaw_node("seller")
        library.stop_node("aggregator")
        library.start_node("aggregator")
        library.part_nodes("hub", "driver")
        library.join_nodes("hub", "driver")
        library.spike_fees(50)
        library.calm_fees()
        library.heal_network()

        with pytest.raises(ConfigError, match="nothing is due before the session is recorded"):
            library.payments_should_follow_from_record()
        library.record_session()
        library.nothing_should_have_been_paid()
        with pytest.raises(AssertionError, match="no payment of the session was made"):
            library.payment_of_session_should_be_settled_once()
        before = library.get_balances()
        library.hold_payment()
        library.payments_should_be(paid=0, held=1)
        with pytest.raises(AssertionError, match=f"the balance of hub is .* msat, not {before['hub']}"):
            library.balances_should_be(before)
        with pytest.raises(AssertionError, match=r"payment '.*' is held, not paid"):
            library.payment_of_session_should_be_settled_once()
        with pytest.raises(AssertionError, match="1 payments are under way between hub and driver"):
            library.money_should_be_conserved()
        summary = library.certify_session(ExpectedVerdict.PASS)
        due = library.payments_should_follow_from_record()
        assert due["import_energy"] == 250 * round(summary["energy_import_wh"]["charger"])
        library.payments_should_be(paid=1, held=0, under_way=0)
        with pytest.raises(AssertionError, match="1 payments are paid, not 2"):
            library.payments_should_be(paid=2)
        assert library.payment_of_session_should_be_settled_once() == 1
        library.money_should_be_conserved()
        seller = library.get_node_balance("seller")
        library.node_balance_should_be("charging_station", seller)
        library.channel_balance_should_be("seller", "hub", Amount(seller.msat // 1000 * 1000))
        with pytest.raises(AssertionError, match=f"the balance of hub is .* msat, not {seller}"):
            library.node_balance_should_be("hub", seller)
        with pytest.raises(AssertionError, match=r"node .* 1 (payments|invoices) .*, not the 0"):
            library.nothing_should_have_been_paid()

        # Somebody pays beside the session: 20 000 msat from the aggregator to the seller.
        nodes = library.bench.opened.session.network
        assert nodes is not None
        at = nodes.network.lncli("seller")
        made = subprocess.run(
            [*at, "addinvoice", "--amt", "20"], capture_output=True, text=True, timeout=30, check=True
        )
        request = json.loads(made.stdout)["payment_request"]
        payer = [*nodes.network.lncli("aggregator"), "payinvoice", "--force", "--timeout", "20s", request]
        subprocess.run(payer, capture_output=True, text=True, timeout=60, check=True)
        with pytest.raises(AssertionError, match=r"the balance of seller changed by \+\d+ msat, its payments make"):
            library.money_should_be_conserved()
        with pytest.raises(AssertionError, match=r"node 'aggregator' made 1 payments .*, not the 0 \(none\)"):
            library.payment_of_session_should_be_settled_once()

        library.close_station()
        with pytest.raises(NotOpenError, match="no station is open"):
            library.get_node_balance("hub")
        assert (folder / "settlement" / "network.json").is_file()
