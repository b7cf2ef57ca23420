"""A station whose sessions are paid over Lightning: what its file may say, real payments, and nodes that fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import paying
from bench import settlement as opening
from bench.assets import asset
from bench.pipeline import CertifiedRun, CertifiedSession, run_certified
from bench.session import GridOrder, SessionPlan
from bench.settlement import BuildProgress, open_settlement
from bench.station import Station, parse_station
from bench.station.model import LightningSettlement
from drivers.errors import ConfigError
from ledgers.embedded.settlement import EmbeddedSettlement
from ledgers.errors import RecordError, SettlementError
from ledgers.identity import SeedKeys
from ledgers.lightning.cashier import Times
from ledgers.lightning.client.errors import LndUnreachable
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.ports import QuoteLine
from ledgers.verify import verify_certificate
from reports.run import Run

Change = Callable[..., Station]

SHIPPED = asset("stations/emulated-lightning.yaml")
SHORT = SessionPlan(
    name="short",
    duration_s=120,
    baseline_w=4000.0,
    orders=(GridOrder(order_id="down", direction="load_decrease", start_s=30, duration_s=60, power_w=10_000.0),),
)
real_nodes = [pytest.mark.nodes, pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(300)]


def shipped(*changes: tuple[str, str]) -> Station:
    text = SHIPPED.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse_station(text.encode(), SHIPPED)


def receipt_of(run: CertifiedRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "records" / "settlement.json").read_bytes())
    return found


def settled_sat(network: LightningNetwork, name: str) -> int:
    """What a spoke has in its one channel, once no HTLC is under way in it."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        (channel,) = network.calls(name).channels()
        if channel.pending_htlcs == 0:
            return channel.local_sat
        time.sleep(0.05)
    raise AssertionError(f"HTLCs of {name} are still under way")


def checked(run: CertifiedRun, receipt: dict[str, Any], *, record_sha256: str = "") -> str:
    """What the offline check says to the Lightning part of a receipt, its signature not looked at."""
    assert run.certified.record is not None
    return check_lightning(
        LightningPart.model_validate_json(json.dumps(receipt["lightning"])),
        [QuoteLine(**line) for line in receipt["quote"]["lines"]],
        record_sha256=record_sha256 or run.certified.record.sha256,
        session_id=run.certified.record.record.session.session_id,
    )


# The station file -------------------------------------------------------------------------------------------------


def test_the_shipped_station_differs_from_the_emulated_one_in_name_and_settlement_alone() -> None:
    path = asset("stations/emulated.yaml")
    emulated = parse_station(path.read_bytes(), path).model_dump(exclude={"name", "settlement"})
    assert shipped().model_dump(exclude={"name", "settlement"}) == emulated


def test_money_is_held_until_the_record_verifies_where_the_file_names_no_mode() -> None:
    line = next(line for line in SHIPPED.read_text().splitlines(keepends=True) if line.startswith("  mode: hold"))
    settlement = shipped((line, "")).settlement
    assert isinstance(settlement, LightningSettlement)
    assert settlement.mode == "hold"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("mode: hold ", "mode: streem "),
            ":68:3: settlement.mode: this must be post_paid or hold or stream, not 'streem'; did you mean 'stream'?",
        ),
        (
            ("mode: hold ", "slice_wh: 300\n  mode: post_paid "),
            "settlement: 'slice_wh' belongs to 'mode: hold' and contradicts 'mode: post_paid'; take it away or change",
        ),
        (
            ("mode: hold ", "slice_wh: 300\n  mode: stream "),
            "settlement: 'slice_wh' belongs to 'mode: hold' and contradicts 'mode: stream'",
        ),
        (
            ("mode: hold ", "every_s: 30\n  mode: hold "),
            "settlement: 'every_s' belongs to 'mode: stream' and contradicts 'mode: hold'",
        ),
        (
            ("mode: hold ", "keysend: false\n  mode: post_paid "),
            "settlement: 'keysend' belongs to 'mode: stream' and contradicts 'mode: post_paid'",
        ),
        (("mode: hold ", "slice_wh: 0\n  mode: hold "), "settlement.slice_wh: "),
        (("mode: hold ", "slice_wh: 0.5\n  mode: hold "), "settlement.slice_wh: "),
        (("mode: hold ", "grace_s: -1\n  mode: stream "), "settlement.grace_s: "),
        (("mode: hold ", "every_s: 0\n  mode: stream "), "settlement.every_s: "),
        (
            ("mode: hold ", "keysend: maybe\n  mode: stream "),
            "settlement.keysend: this must be true or false, not 'maybe'",
        ),
        (('"100000" ', "100000 "), "settlement.rate.eur_per_btc: this must be text, not 100000; put it in quotes"),
        (('"100000" ', '"0.00" '), "settlement.rate: a rate of 0 EUR makes every amount infinite"),
        (('"100000" ', '"1e5" '), "settlement.rate.eur_per_btc: '1e5' does not fit"),
        (("source: an", "sauce: an"), "settlement.rate.sauce: there is no key 'sauce' here; did you mean 'source'?"),
        (("kind: lightning ", "kind: lightening "), "did you mean 'lightning'?"),
        (("kind: lightning ", "kind: embedded "), "settlement.rate: there is no key 'rate' here"),
        (
            ("mode: hold ", "slice_wh: 3\n  mode: hold "),
            "68:3: settlement.slice_wh: a slice of 3 Wh is worth 540 msat at tariff",
        ),
        (("mode: hold ", "slice_wh: 3\n  mode: hold "), "nothing below 1000 msat is paid; write 6 or more"),
        (
            ('"100000" ', '"0.000001" '),
            "settlement.rate.eur_per_btc: at this rate 1 Wh of tariff",
        ),
        (("tariffs/example", "tariffs/exmaple"), "settlement.tariff: there is no tariff 'tariffs/exmaple.yaml'"),
    ],
)
def test_what_a_lightning_settlement_cannot_be_is_refused_in_one_sentence(
    change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        shipped(change)
    assert sentence in str(refused.value)


def test_a_slice_that_no_channel_carries_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"settlement.slice_wh: a slice of 300 Wh is worth more than .* or less$"):
        shipped(("mode: hold ", "slice_wh: 300\n  mode: hold "), ('"100000" ', '"1" '))


@pytest.mark.parametrize("kind", ["emulated", "emulated-lightning"])
@pytest.mark.parametrize(
    ("tariff", "sentence"),
    [
        (b"\xff\xfe\x00garbage", r"is not text in UTF-8; name a tariff, or save it as UTF-8"),
        (b"name: [", r"line 1: "),
        (b"- 1\n", r"the tariff needs 'schema'; see tariffs/example.yaml"),
    ],
)
def test_a_station_whose_tariff_is_none_is_refused_with_its_line(
    tmp_path: Path, kind: str, tariff: bytes, sentence: str
) -> None:
    (tmp_path / "tariff.yaml").write_bytes(tariff)
    text = asset(f"stations/{kind}.yaml").read_text(encoding="utf-8").replace("tariffs/example.yaml", "tariff.yaml")
    with pytest.raises(ConfigError, match=rf"(?m)^\S+lab.yaml:\d+:\d+: settlement.tariff: \S+tariff.yaml.*{sentence}"):
        parse_station(text.encode(), tmp_path / "lab.yaml")


def test_a_stream_pays_each_minute_with_invoices_and_two_minutes_of_grace_where_the_file_says_no_more() -> None:
    settlement = shipped(("mode: hold ", "mode: stream ")).settlement
    assert isinstance(settlement, LightningSettlement)
    said = (settlement.every_s, settlement.every_wh, settlement.grace_s, settlement.keysend)
    assert said == (60.0, None, 120.0, False)


def test_a_lightning_settlement_is_not_opened_without_nodes(tmp_path: Path) -> None:
    identity = SeedKeys(seed=7, any_metal=False).identity("aggregator", "aggregator")
    with (
        pytest.raises(SettlementError, match="paid over Lightning, and no node runs"),
        open_settlement(shipped(), tmp_path / "settlement", identity=identity, nodes={}),
    ):
        pass
    assert not (tmp_path / "settlement").exists()


def test_the_building_of_the_programs_is_told_each_tenth_and_the_start_of_nodes_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = BuildProgress(sys.stdout)
    progress(0, 0, "starting the nodes")
    for done in range(201):
        progress(done, 200, "lnd")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert (lines[0][-10:], lines[-1][-11:]) == (" 0 % (lnd)", "100 % (lnd)")


def test_the_demo_refuses_a_station_that_settles_otherwise_than_asked(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "v2gbench", "demo", "--settlement", "embedded", "--station", SHIPPED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "contradicts; leave out one of the two" in done.stderr
    assert list(tmp_path.iterdir()) == []


# When a payment fails ---------------------------------------------------------------------------------------------


class Failing:
    """Makes `release` of the embedded accounts raise what a node that is away raises, after the record was verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.calls = 0
        released = EmbeddedSettlement.release

        def release(settlement: EmbeddedSettlement, hold_id: str, **given: Any) -> Any:
            self.calls += 1
            if self.calls > times:
                return released(settlement, hold_id, **given)
            given["verify"](given["record"])
            raise LndUnreachable("node 'seller' does not answer; start it", node="seller", call="AddInvoice")

        monkeypatch.setattr(EmbeddedSettlement, "release", release)


@pytest.mark.wire
def test_a_node_that_was_away_for_two_calls_is_paid_by_the_third(
    emulated: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, times=2)
    run = run_certified(emulated(), SHORT, report=False)
    assert failing.calls == 3
    assert (run.certified.verdict, run.certified.settlement["status"]) == ("PASS", "settled")


@pytest.mark.wire
def test_a_payment_that_fails_is_not_told_as_a_record_that_does_not_verify(
    emulated: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, times=100)
    run = run_certified(emulated(), SHORT, report=False)

    reason = str(run.certified.settlement["reason"])
    assert reason.startswith("the record verifies, but the money went back because the payment failed: node 'seller'")
    assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "cancelled")
    assert run.certified.reasons == [reason]
    assert run.certified.certificate is not None
    assert reason in run.certified.certificate.read_text()
    assert verify_certificate(run.certified.certificate, run.certified.trust).ok


@pytest.mark.wire
def test_money_that_can_neither_move_nor_go_back_is_told_as_unfinished(
    emulated: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paid_in_part(_settlement: EmbeddedSettlement, _hold_id: str) -> None:
        raise SettlementError("it was paid in part; release it again to finish it")

    Failing(monkeypatch, times=100)
    monkeypatch.setattr(EmbeddedSettlement, "cancel", paid_in_part)
    run = run_certified(emulated(), SHORT, report=False)

    assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "unfinished")
    assert "does not answer" in str(run.certified.settlement["reason"])
    assert "paid in part" in str(run.certified.settlement["reason"])
    assert run.certified.certificate is not None


# On real nodes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LightningNetwork]]:
    """The networks that sessions of this test start; afterwards none of their processes may be left."""
    started: list[LightningNetwork] = []

    class Watched(LightningNetwork):
        def open(self) -> None:
            super().open()
            started.append(self)
            pids.extend(filter(None, (self.process_id(name) for name in ("chain", *self.names))))

    pids: list[int] = []
    monkeypatch.setattr(opening, "LightningNetwork", Watched)
    yield started
    assert len(pids) >= 5
    assert [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()] == []


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> CertifiedRun:
    """One whole certified session that was paid from holds; do not change its files."""
    return run_certified(shipped(), SHORT, runs=tmp_path_factory.mktemp("held"))


class TestASessionPaidFromHolds:
    pytestmark = real_nodes

    def test_its_certificate_carries_the_payments_and_verifies_without_any_node(self, held: CertifiedRun) -> None:
        assert (held.certified.verdict, held.certified.reasons) == ("PASS", [])
        assert held.certified.certificate is not None
        verdict = verify_certificate(held.certified.certificate, held.certified.trust)
        assert verdict.ok, verdict.text
        found = {check.name: check.detail for check in verdict.checks}
        assert found["settlement over Lightning"].endswith("on regtest, each with its preimage and invoice")

    def test_every_line_is_paid_to_the_msat_and_what_is_below_one_satoshi_is_carried(self, held: CertifiedRun) -> None:
        settlement: Any = held.certified.settlement
        paid = settlement["lightning"]["paid_msat"]
        for kind, micro in settlement["amounts_micro"].items():  # a micro-euro is one msat at 100 000 EUR/BTC
            assert paid[kind] == (micro if micro >= 1000 else 0), kind
        assert {"import_energy", "v2g_energy"} <= {kind for kind, msat in paid.items() if msat > 10_000}

    def test_balances_are_those_of_the_plan_and_what_was_paid_with_the_hubs_fees(self, held: CertifiedRun) -> None:
        settlement: Any = held.certified.settlement
        balances = settlement["balances_micro"]
        paid = settlement["lightning"]
        assert balances["held"] == 0
        assert balances["charging_station"] == 5_000_000_000 + paid["paid_msat"]["import_energy"]
        parties = sum(balances[name] for name in ("ev_owner", "aggregator", "charging_station"))
        assert parties == 3 * 5_000_000_000 - paid["fees_msat"]

    @pytest.mark.parametrize(
        ("member", "sentence"),
        [
            ("preimage", "preimage"),
            ("payment_hash", "hash"),
            ("amount_msat", "msat"),
            ("payee_node", "node"),
        ],
    )
    def test_a_payment_changed_in_the_receipt_is_found_whoever_signs_it_again(
        self, held: CertifiedRun, member: str, sentence: str
    ) -> None:
        receipt = receipt_of(held)
        assert checked(held, receipt).endswith("each with its preimage and invoice")
        payment = receipt["lightning"]["payments"][0]
        old = payment[member]
        payment[member] = old + 1 if isinstance(old, int) else old[:-1] + ("0" if old[-1] != "0" else "1")
        with pytest.raises(RecordError, match=sentence):
            checked(held, receipt)

    def test_the_same_payments_do_not_pay_for_another_record(self, held: CertifiedRun) -> None:
        with pytest.raises(RecordError):
            checked(held, receipt_of(held), record_sha256="0" * 64)

    def test_the_run_folder_keeps_the_journal_to_its_owner(self, held: CertifiedRun) -> None:
        assert (held.folder / "settlement" / "journal.log").stat().st_mode & 0o077 == 0

    def test_a_post_paid_session_pays_the_same_as_a_held_one_and_leaves_no_process(
        self, held: CertifiedRun, tmp_path: Path, networks: list[LightningNetwork]
    ) -> None:
        run = run_certified(shipped(("mode: hold ", "mode: post_paid ")), SHORT, runs=tmp_path, report=False)
        assert len(networks) == 1
        assert run.certified.verdict == "PASS", run.certified.reasons
        one, other = receipt_of(run), receipt_of(held)
        assert (one["lightning"]["mode"], other["lightning"]["mode"]) == ("post_paid", "hold")
        assert one["lightning"]["lines"] == other["lightning"]["lines"]
        assert run.certified.certificate is not None
        assert verify_certificate(run.certified.certificate, run.certified.trust).ok


class TestSessionsOnNodes:
    pytestmark = real_nodes

    def test_a_record_that_does_not_verify_moves_nothing_on_the_nodes(
        self, tmp_path: Path, networks: list[LightningNetwork]
    ) -> None:
        planted = shipped(("    vehicle: van  ", "    fault: {kind: sign}\n    vehicle: van  "))
        with CertifiedSession(planted, SHORT, runs=tmp_path) as session:
            session.announce()
            log = session.runner.run()
            run = session.conclude(log, report=False)
            balances = {name: settled_sat(networks[0], name) for name in ("driver", "seller", "aggregator")}
        assert run.certified.settlement["status"] == "cancelled"
        assert "does not verify" in str(run.certified.settlement["reason"])
        assert balances == dict.fromkeys(balances, 5_000_000)

    def test_a_session_whose_hub_died_is_certified_unpaid_and_says_so(
        self, tmp_path: Path, networks: list[LightningNetwork]
    ) -> None:
        with CertifiedSession(shipped(), SHORT, runs=tmp_path) as session:
            session.announce()
            log = session.runner.run()
            networks[0].kill("hub")
            run = session.conclude(log, report=False)
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "none")
        assert run.certified.certificate is not None
        verdict = verify_certificate(run.certified.certificate, run.certified.trust)
        assert verdict.ok, verdict.text
        assert "nothing was paid" in str(run.certified.settlement["reason"])

    def test_nodes_end_when_the_rack_cannot_be_opened(
        self, tmp_path: Path, networks: list[LightningNetwork], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_given: Any, **_named: Any) -> None:
            raise ConfigError("the rack is not there")

        monkeypatch.setattr("bench.pipeline.Rack.open", refuse)
        with (
            pytest.raises(ConfigError, match="the rack is not there"),
            CertifiedSession(shipped(), SHORT, runs=tmp_path),
        ):
            pass
        assert len(networks) == 1


# While energy flows, on real nodes --------------------------------------------------------------------------------

BOTH_WAYS = SessionPlan(
    name="both-ways",
    duration_s=240,
    baseline_w=9000.0,
    orders=(GridOrder(order_id="down", direction="load_decrease", start_s=100, duration_s=90, power_w=18_000.0),),
)


def at(session: CertifiedSession, second: float, act: Callable[[], object]) -> None:
    """Do something once, in the cycle that ends at this session time."""
    done: list[float] = []

    def listen(_index: int, _snapshot: Any, now_s: float) -> None:
        if now_s >= second and not done:
            done.append(now_s)
            act()

    session.rack.cycle.listeners.insert(0, listen)


def last_power_w(run: CertifiedRun) -> float:
    with Run.open(run.folder) as opened:
        return abs(float(opened.series("charger.ac_power").value[-1]))


def said_at_end(run: CertifiedRun) -> str:
    assert run.certified.record is not None
    assert run.certified.certificate is not None
    verdict = verify_certificate(run.certified.certificate, run.certified.trust)
    assert verdict.ok, verdict.text
    return str(run.certified.record.record.session.outcome_reason)


IMPATIENT = Times(pay_s=1, resolve_s=0.5, hold_s=1.5)
"""For sessions whose hub is away: what nobody answers is given up sooner."""


class TestSlicesHeldBeforeEnergyFlows:
    pytestmark = real_nodes

    def test_slices_are_paid_in_both_directions_and_the_last_ones_unused_value_comes_back(
        self, tmp_path: Path, networks: list[LightningNetwork]
    ) -> None:
        station = shipped(("mode: hold ", "slice_wh: 100\n  mode: hold "))
        run = run_certified(station, BOTH_WAYS, runs=tmp_path, report=False)
        assert (run.certified.verdict, run.certified.reasons) == ("PASS", [])
        receipt = receipt_of(run)
        assert "each with its preimage and invoice" in checked(run, receipt)
        payments = receipt["lightning"]["payments"]
        for kind, slice_msat in (("import_energy", 25_000), ("v2g_energy", 18_000)):
            slices = [payment for payment in payments if payment["terms"] and payment["kind"] == kind]
            assert len(slices) >= 2
            assert all(payment["amount_msat"] == slice_msat and payment["evidence_sha256"] for payment in slices)
        for line in receipt["lightning"]["lines"]:
            assert line["advance_msat"] >= line["paid_msat"] or line["kind"] == "availability"
        settlement: Any = run.certified.settlement
        balances = settlement["balances_micro"]
        parties = sum(balances[name] for name in ("ev_owner", "aggregator", "charging_station"))
        assert parties == 3 * 5_000_000_000 - settlement["lightning"]["fees_msat"]
        assert balances["held"] == 0
        said_at_end(run)
        assert len(networks) == 1

    def test_a_tampered_slice_record_is_never_paid(
        self, tmp_path: Path, networks: list[LightningNetwork], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = paying.write_slice_record
        monkeypatch.setattr(
            paying,
            "write_slice_record",
            lambda *given: genuine(*given).replace(b'"delivered_wh":"', b'"delivered_wh":"9'),
        )
        station = shipped(("mode: hold ", "slice_wh: 100\n  mode: hold "))
        with CertifiedSession(station, BOTH_WAYS, runs=tmp_path) as session:
            session.announce()
            log = session.runner.run()
            (channel,) = networks[0].calls("seller").channels()
            assert channel.local_sat == 5_000_000
            run = session.conclude(log, report=False)
        assert run.certified.verdict == "FAIL"
        assert said_at_end(run).startswith("payment of import_energy: the record of slice ")
        assert said_at_end(run).endswith("does not hold; nothing was paid")

    def test_slices_whose_hub_dies_stop_the_energy_and_what_is_owed_is_told(
        self, tmp_path: Path, networks: list[LightningNetwork], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paying, "TIMES", IMPATIENT)
        monkeypatch.setattr("ledgers.lightning.settlement.Times", lambda: IMPATIENT)  # also after the session
        station = shipped(("mode: hold ", "slice_wh: 100\n  mode: hold "))
        with CertifiedSession(station, BOTH_WAYS, runs=tmp_path) as session:
            at(session, 30.0, lambda: networks[0].kill("hub"))
            run = session.run(report=False)
        assert run.log.aborted.startswith("payment of import_energy: the next slice of 100 Wh could not be held: ")
        assert last_power_w(run) < 200
        assert said_at_end(run) == run.log.aborted
        assert (run.certified.verdict, run.certified.settlement["status"]) == ("FAIL", "none")
        # The preimage of what flowed is the payee's; without the hub the payer cannot know.
        reason = str(run.certified.settlement["reason"])
        assert "is the payee's to take, and the payer's node does not know it yet" in reason
        assert "ev_owner still owes charging_station" not in reason

    def test_a_schedule_dearer_than_the_channels_is_refused_before_anything_is_energised(
        self, tmp_path: Path, networks: list[LightningNetwork]
    ) -> None:
        dear = shipped(("mode: hold ", "slice_wh: 100\n  mode: hold "), ('"100000" ', '"1" '))
        with CertifiedSession(dear, BOTH_WAYS, runs=tmp_path) as session:
            folder = session.rack.run_folder
            with pytest.raises(SettlementError) as refused:
                session.run()
        assert str(refused.value).startswith("the session is not begun, because ev_owner could not pay charging_statio")
        assert "too few for" in str(refused.value)
        with Run.open(folder) as opened:
            assert opened.events("plugged_in") == ()
        assert len(networks) == 1


class TestAStreamWhileEnergyFlows:
    pytestmark = real_nodes

    def test_a_stream_whose_hub_is_away_for_longer_than_the_grace_stops_and_is_paid_when_it_is_back(
        self, tmp_path: Path, networks: list[LightningNetwork], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paying, "TIMES", IMPATIENT)
        station = shipped(("mode: hold ", "every_s: 30\n  grace_s: 40\n  mode: stream "))
        with CertifiedSession(station, BOTH_WAYS, runs=tmp_path) as session:
            at(session, 45.0, lambda: networks[0].kill("hub"))
            session.announce()
            log = session.runner.run()
            networks[0].start("hub")
            networks[0].wait_ready()
            run = session.conclude(log, report=False)
            earned_sat = settled_sat(networks[0], "seller") - 5_000_000
        assert log.aborted.startswith("payment of import_energy: no payment for 4")
        assert not log.tripped
        assert 95.0 < log.end_s - log.transfer_s < 120.0
        assert last_power_w(run) < 200
        assert said_at_end(run) == log.aborted
        settlement: Any = run.certified.settlement
        assert (run.certified.verdict, settlement["status"]) == ("FAIL", "settled")
        assert settlement["lightning"]["advance_msat"]["import_energy"] > 0
        assert earned_sat == settlement["lightning"]["paid_msat"]["import_energy"] // 1000
