"""The Settlement port on real lnd and btcd nodes: a hub, a van, a charging station and an aggregator on regtest."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import sha256_hex
from ledgers.errors import RecordError, SettlementError
from ledgers.identity import SeedKeys
from ledgers.lightning.bolt11 import read_invoice_text
from ledgers.lightning.cashier import Times
from ledgers.lightning.client import Agreed, AsyncLndClient, FeeLimit, LndClient, NodeAccess, Role
from ledgers.lightning.client import errors as e
from ledgers.lightning.client.values import InvoiceState, PaymentState, hash_of
from ledgers.lightning.journal import DebtState
from ledgers.lightning.modes import Mode, slice_verifier, write_slice_record
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import ChannelPlan, NetworkPlan, NodePlan, Policy
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.tariff import load_tariff
from tests.ledgers.contract_settlement import EURO, IDENTITY, RECORD, WALL_UTC_S, SettlementContract, holds, quoted

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"
RATE = Rate("100000", "stated by the test")  # one micro-euro is one msat
METER = SeedKeys(seed=7, any_metal=False).identity("charger", "charger")
NODE_OF = {"ev_owner": "van", "charging_station": "evse", "aggregator": "grid"}
FEE = Policy(base_fee_msat=1000, fee_rate_ppm=1)
FREE = Policy(base_fee_msat=0, fee_rate_ppm=0)

# Capacity 10 000 000 sat with a reserve of 1 %: what is pushed beyond 100 000 sat can be spent.
PLAN = NetworkPlan(
    "settlement",
    nodes=tuple(NodePlan(name, policy=FREE) for name in ("hub", "van", "evse", "grid")),
    channels=(
        ChannelPlan("hub", "van", 10_000_000, 150_000),  # 50 EUR at 100 000 EUR/BTC
        ChannelPlan("hub", "evse", 10_000_000, 200_000),
        ChannelPlan("hub", "grid", 10_000_000, 200_000),  # 100 EUR
    ),
    seed=7,
)

pytestmark = [pytest.mark.nodes, pytest.mark.slow, pytest.mark.timeout(300)]


def access(network: LightningNetwork, name: str) -> NodeAccess:
    """With the node's admin macaroon."""
    where = network.address(name)
    return NodeAccess.from_files(name, where.address, certificate=where.tls_cert_path, macaroon=where.macaroon_path)


@pytest.fixture(scope="module")
def network() -> Iterator[LightningNetwork]:
    with LightningNetwork(PLAN) as network:
        yield network


@pytest.fixture(scope="module")
def parties(network: LightningNetwork) -> dict[str, NodeAccess]:
    """Each account with a macaroon that allows what a party does, and nothing more."""
    found = {}
    for account, name in NODE_OF.items():
        with LndClient(access(network, name)) as admin:
            found[account] = access(network, name).with_macaroon(admin.bake(Role.PARTY))
    return found


@pytest.fixture
def clients(network: LightningNetwork, parties: dict[str, NodeAccess]) -> Iterator[dict[str, LndClient]]:
    """Clients of all accounts and the hub; afterwards every balance is brought back to what it was."""
    made = {account: LndClient(found) for account, found in parties.items()}
    made["hub"] = LndClient(access(network, "hub"))
    before = {account: quiet(client) for account, client in made.items()}
    try:
        yield made
        network.set_policy("hub", FREE)
        for client in made.values():
            client.forget_failures()
        restore(made, before)
    finally:
        for client in made.values():
            client.close()


def quiet(client: LndClient) -> int:
    """The local balance in msat, once no HTLC is under way."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = client.balance()
        if found.unsettled_local_msat == found.unsettled_remote_msat == 0:
            return found.local_msat
        time.sleep(0.02)
    raise AssertionError(f"HTLCs of {client.name} are still under way")


def restore(clients: Mapping[str, LndClient], before: Mapping[str, int]) -> None:
    """Who has too much pays it back, and the hub gives its fees back, by spontaneous payments."""
    for payer in ("charging_station", "aggregator", "ev_owner"):
        for payee in ("ev_owner", "aggregator", "charging_station"):
            more = quiet(clients[payer]) - before[payer]
            fewer = before[payee] - quiet(clients[payee])
            if payer != payee and more > 0 and fewer > 0:
                send(clients[payer], clients[payee], min(more, fewer))
    for payee in ("ev_owner", "aggregator", "charging_station"):
        fewer = before[payee] - quiet(clients[payee])
        if fewer > 0:
            send(clients["hub"], clients[payee], fewer)
    assert {account: quiet(client) for account, client in clients.items()} == before


def send(payer: LndClient, payee: LndClient, amount_msat: int) -> None:
    payer.keysend(payee.public_key, amount_msat, preimage=os.urandom(32).hex(), fee_limit_msat=10_000)


class NodeBooks:
    def __init__(self, folder: Path, clients: Mapping[str, LndClient], mode: Mode) -> None:
        self.folder = folder
        self.mode = mode
        self.clients = {account: clients[account] for account in NODE_OF}
        self.settlement = self._open()

    def _open(self) -> LightningSettlement:
        return LightningSettlement(
            self.folder,
            tariff=load_tariff(EXAMPLE),
            rate=RATE,
            mode=self.mode,
            nodes=self.clients,
            identity=IDENTITY,
            wall_utc_s=lambda: WALL_UTC_S,
            fees=FeeLimit(base_msat=5_000, ppm=1_000),
            times=Times(pay_s=20, resolve_s=5.0),
            fsync=False,
        )

    def reopen(self) -> None:
        self.settlement.close()
        self.settlement = self._open()

    def msat(self, account: str) -> int:
        return quiet(self.clients[account])


@pytest.fixture
def books(tmp_path: Path, clients: dict[str, LndClient]) -> Iterator[NodeBooks]:
    books = NodeBooks(tmp_path / "settlement", clients, Mode.HOLD)
    yield books
    books.settlement.close()


@pytest.fixture
def post_paid(tmp_path: Path, clients: dict[str, LndClient]) -> Iterator[NodeBooks]:
    books = NodeBooks(tmp_path / "settlement", clients, Mode.POST_PAID)
    yield books
    books.settlement.close()


class TestLightningSettlementOnRealNodes(SettlementContract):
    """The contract that the embedded settlement passes; `books` is the fixture above."""


# ----------------------------------------------------------------------------------------------- amounts to the msat


@pytest.mark.parametrize("mode", [Mode.POST_PAID, Mode.HOLD])
def test_the_golden_session_is_exact_and_no_msat_is_lost(
    network: LightningNetwork, clients: dict[str, LndClient], tmp_path: Path, mode: Mode
) -> None:
    network.set_policy("hub", FEE)
    books = NodeBooks(tmp_path / "golden", clients, mode)
    before = {account: quiet(client) for account, client in clients.items()}
    hold = books.settlement.hold(quoted(books.settlement, import_wh=899, export_wh=0, available_s=0))
    receipt = books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    books.settlement.close()
    after = {account: quiet(client) for account, client in clients.items()}
    assert {account: after[account] - before[account] for account in after} == {
        "ev_owner": -225_750,
        "charging_station": 224_750,
        "aggregator": 0,
        "hub": 1_000,
    }
    document = json.loads(receipt.to_canonical())
    part = LightningPart.model_validate_json(json.dumps(document["lightning"]))
    found = check_lightning(part, receipt.quote.lines, record_sha256=sha256_hex(RECORD), session_id="s")
    assert found.startswith("1 payments, 224750 msat on regtest")


def test_slices_are_held_verified_settled_and_a_tampered_one_is_cancelled(
    network: LightningNetwork, books: NodeBooks, clients: dict[str, LndClient]
) -> None:
    network.set_policy("hub", FEE)
    before = {account: quiet(client) for account, client in clients.items()}
    tab = books.settlement.hold_tab("s1", "import_energy", slice_wh=300)
    for number in range(3):
        debt = tab.hold_next()
        invoice = clients["charging_station"].lookup_invoice(debt.payment_hash)
        assert (invoice.state, invoice.paid_msat) == (InvoiceState.ACCEPTED, 75_000)
        record = write_slice_record(debt, Decimal(300), METER)
        verify = slice_verifier(debt, METER.name, METER.public_key_der)
        if number == 1:
            with pytest.raises(RecordError, match="does not hold; nothing was paid"):
                tab.settle(debt.name, record=record.replace(b'"300"', b'"301"'), verify=verify)
            invoice = clients["charging_station"].lookup_invoice(debt.payment_hash)
            assert invoice.state is InvoiceState.CANCELED
            payment = clients["ev_owner"].track(debt.payment_hash, wait_s=10)
            assert payment.state is PaymentState.FAILED
        else:
            assert tab.settle(debt.name, record=record, verify=verify).state is DebtState.PAID
    after = {account: quiet(client) for account, client in clients.items()}
    assert after["charging_station"] - before["charging_station"] == 150_000
    assert before["ev_owner"] - after["ev_owner"] == 150_000 + 2 * 1_000
    assert sum(after.values()) == sum(before.values())
    # 450 Wh were certified: the station pays the last slice's unused 37 500 msat back, and its own hub fee.
    books.settlement.bind("s1", sha256_hex(RECORD))
    hold = books.settlement.hold(quoted(books.settlement, import_wh=450, export_wh=0, available_s=0))
    books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
    end = {account: quiet(client) for account, client in clients.items()}
    assert end["charging_station"] - before["charging_station"] == 112_500 - 1_000
    assert end["ev_owner"] - before["ev_owner"] == -112_500 - 2 * 1_000
    assert sum(end.values()) == sum(before.values())


def test_a_v2g_stream_pays_the_vehicle_spontaneously(books: NodeBooks) -> None:
    before = books.msat("ev_owner")
    tab = books.settlement.stream_tab("s1", "v2g_energy", keysend=True)
    for minute in range(4):
        assert tab.tick(now_s=60.0 * minute, total_wh=100 * minute).may_flow
    assert books.msat("ev_owner") - before == 3 * 18_000 - 1_000  # a satoshi is left for the record


def pay_until_made(settlement: LightningSettlement, number: int) -> None:
    """What a program does whose node is away: the same payment again, until it is known."""
    end = time.monotonic() + 60
    while True:
        try:
            settlement.pay("ev_owner", "charging_station", 100_000, payment_id=f"p{number}", memo="kill test")
            return
        except SettlementError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)


PROGRAM = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from ledgers.lightning.client import FeeLimit, LndClient, NodeAccess
from ledgers.lightning.modes import Mode
from ledgers.lightning.settlement import LightningSettlement
from ledgers.tariff import load_tariff
from tests.ledgers.contract_settlement import IDENTITY
from tests.ledgers.test_ledgers_lightning_settlement_nodes import EXAMPLE, RATE
given = json.loads(sys.stdin.readline())
nodes = {
    account: LndClient(NodeAccess(account, address, pem.encode(), macaroon))
    for account, (address, pem, macaroon) in given.items()
}
settlement = LightningSettlement(
    Path(sys.argv[2]), tariff=load_tariff(EXAMPLE), rate=RATE, mode=Mode.POST_PAID, nodes=nodes, identity=IDENTITY,
    wall_utc_s=lambda: 0.0, fees=FeeLimit(5_000, 1_000),
)
settlement.resume()
for number in range(20):
    settlement.pay("ev_owner", "charging_station", 100_000, payment_id=f"p{number}", memo="kill test")
    print(number, flush=True)
"""


class TestKilledInTheMiddle:
    """Whoever dies, and is back before money expires: each payment is made once."""

    # At once: the attempt is registered and often in no channel yet. A tenth of a second later: the HTLC is on its way.
    @pytest.mark.parametrize("later_s", [0.0, 0.1])
    def test_twenty_payments_with_the_payer_killed_in_the_middle_are_each_made_once(
        self, network: LightningNetwork, post_paid: NodeBooks, clients: dict[str, LndClient], later_s: float
    ) -> None:
        before = {account: quiet(client) for account, client in clients.items()}
        states: list[PaymentState] = []

        def kill_in_the_middle() -> None:
            """Kill the payer's node as soon as it has the tenth payment under way."""
            with LndClient(access(network, "van")) as watcher:
                while not states:
                    debts = {debt.name: debt for debt in post_paid.settlement._journal.debts.copy().values()}
                    if "pay.p9" in debts:
                        with contextlib.suppress(e.LndNotFound):
                            states.append(watcher.track(debts["pay.p9"].payment_hash).state)
            time.sleep(later_s)
            network.kill("van")
            network.start("van")

        for number in range(20):
            killer = threading.Thread(target=kill_in_the_middle)
            if number == 9:
                killer.start()
            pay_until_made(post_paid.settlement, number)
            if number == 9:
                killer.join()
                network.wait_ready()
        assert states == [PaymentState.IN_FLIGHT]
        after = {account: quiet(client) for account, client in clients.items()}
        assert after["charging_station"] - before["charging_station"] == 20 * 100_000
        assert before["ev_owner"] - after["ev_owner"] == 20 * 100_000
        assert sum(after.values()) == sum(before.values())
        hashes = [debt.payment_hash for debt in post_paid.settlement.debts()]
        assert [clients["charging_station"].lookup_invoice(h).state for h in hashes] == [InvoiceState.SETTLED] * 20

    def test_twenty_payments_with_the_bench_killed_in_the_middle_are_each_made_once(
        self, clients: dict[str, LndClient], parties: dict[str, NodeAccess], tmp_path: Path
    ) -> None:
        before = quiet(clients["charging_station"])
        secret = json.dumps(
            {
                name: (found.address, found.certificate_pem.decode(), found.macaroon_hex)
                for name, found in parties.items()
            }
        )
        root = str(Path(__file__).parents[2])

        def run() -> subprocess.Popen[str]:
            child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, root, str(tmp_path / "killed")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
            )
            assert child.stdin is not None
            child.stdin.write(secret + "\n")
            child.stdin.flush()
            return child

        for wait_lines in (3, 4):
            child = run()
            assert child.stdout is not None
            for _ in range(wait_lines):
                child.stdout.readline()
            time.sleep(0.12)  # into the next payment
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
        child = run()
        out, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        assert out.split()[-1] == "19"
        assert quiet(clients["charging_station"]) - before == 20 * 100_000

    @pytest.mark.parametrize("name", ["evse", "van", "hub"])
    def test_a_hold_survives_the_death_of_any_node_and_is_settled_once(
        self, network: LightningNetwork, books: NodeBooks, name: str
    ) -> None:
        before = books.msat("charging_station")
        hold = books.settlement.hold(quoted(books.settlement, export_wh=0, available_s=0))
        network.kill(name)
        network.start(name)
        network.wait_ready()
        books.settlement.release(hold.hold_id, record=RECORD, verify=holds)
        assert books.msat("charging_station") - before == 2 * EURO


# ----------------------------------------------------------------------------------------------------------- bad input


def invoiced(payee: LndClient, amount_msat: int = 224_750) -> tuple[str, Agreed]:
    preimage = os.urandom(32).hex()
    text = payee.add_invoice(amount_msat, preimage=preimage, description_hash="ab" * 32, expiry_s=600)
    return text, Agreed(hash_of(preimage), amount_msat, "ab" * 32, payee.public_key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"description_hash": "cd" * 32}, "for another record"),
        ({"amount_msat": 224_751}, "another amount in msat"),
        ({"amount_msat": 224_749}, "another amount in msat"),
        ({"amount_msat": 0}, "0 is no amount to pay"),
    ],
)
def test_an_invoice_that_was_not_agreed_is_not_paid(
    clients: dict[str, LndClient], change: dict[str, Any], words: str
) -> None:
    text, agreed = invoiced(clients["charging_station"])
    with pytest.raises(e.InvoiceRefused, match=words):
        clients["ev_owner"].pay(text, dataclasses.replace(agreed, **change), fee_limit_msat=5_000)
    with pytest.raises(e.LndNotFound):
        clients["ev_owner"].track(agreed.payment_hash)


def test_over_capacity_and_no_route_pay_nothing(network: LightningNetwork, clients: dict[str, LndClient]) -> None:
    van, evse = clients["ev_owner"], clients["charging_station"]
    before = quiet(van)
    text, agreed = invoiced(evse, 10_000_000_000)
    with pytest.raises(e.PaymentFailed, match="nothing was paid"):
        van.pay(text, agreed, fee_limit_msat=100_000_000, timeout_s=10)
    with pytest.raises(e.NoRoute, match="there is no route to the payee"):
        van.route("02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", 1_000, fee_limit_msat=0)
    text, agreed = invoiced(evse)
    network.disconnect("hub", "evse")
    try:
        with pytest.raises(e.PaymentFailed, match="nothing was paid"):
            van.pay(text, agreed, fee_limit_msat=5_000, timeout_s=5)
    finally:
        network.connect("hub", "evse")
        network.wait_ready()
    assert quiet(van) == before


def test_a_wrong_macaroon_a_weak_one_and_a_foreign_certificate_are_refused(
    network: LightningNetwork, clients: dict[str, LndClient]
) -> None:
    text, agreed = invoiced(clients["charging_station"])
    with LndClient(access(network, "van")) as admin:
        watcher = admin.bake(Role.WATCHER)
    with LndClient(access(network, "van").with_macaroon(watcher)) as weak:
        assert weak.balance() == clients["ev_owner"].balance()
        with pytest.raises(e.LndDenied, match=r"bake one for it .*permission denied"):
            weak.pay(text, agreed, fee_limit_msat=5_000)
    foreign = access(network, "van").with_macaroon(access(network, "evse").macaroon_hex)
    with LndClient(foreign) as wrong, pytest.raises(e.LndDenied, match="is not one that this node accepts"):
        wrong.check()
    pem = access(network, "evse").certificate_pem
    with (
        LndClient(dataclasses.replace(access(network, "van"), certificate_pem=pem)) as wrong,
        pytest.raises(e.LndCertificateRefused),
    ):
        wrong.check()
    elsewhere = dataclasses.replace(access(network, "van"), network="testnet")
    with LndClient(elsewhere) as wrong, pytest.raises(e.LndOtherNetwork, match="is on network 'regtest', not on"):
        wrong.check()
    with pytest.raises(e.LndNotFound):
        clients["ev_owner"].track(agreed.payment_hash)


def test_a_locked_wallet_and_an_invoice_of_another_network_are_said(
    network: LightningNetwork, clients: dict[str, LndClient]
) -> None:
    text, agreed = invoiced(clients["charging_station"])
    with pytest.raises(e.LndOtherNetwork, match="belongs to another network; nothing was paid"):
        clients["ev_owner"].pay(MAINNET_INVOICE, agreed, fee_limit_msat=5_000)
    network.restart("van", locked=True)
    try:
        with LndClient(access(network, "van")) as van, pytest.raises(e.LndLocked, match="unlock it with"):
            van.pay(text, agreed, fee_limit_msat=5_000)
    finally:
        network.restart("van")
        network.wait_ready()


# The first example of BOLT 11 (a donation to "Please consider supporting this project"), a mainnet invoice.
MAINNET_INVOICE = (
    "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqw"
    "zqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdw"
    "k8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql"
)


# ------------------------------------------------------------------------------------------------- other people agree


def test_lncli_agrees_with_the_client_and_our_reader_with_lnd(
    network: LightningNetwork, clients: dict[str, LndClient]
) -> None:
    def lncli(name: str, *command: str) -> Any:
        done = subprocess.run([*network.lncli(name), *command], capture_output=True, text=True, timeout=30, check=True)
        return json.loads(done.stdout)

    van, evse = clients["ev_owner"], clients["charging_station"]
    text, agreed = invoiced(evse)
    paid = van.pay(text, agreed, fee_limit_msat=5_000)
    said = lncli("evse", "lookupinvoice", agreed.payment_hash)
    assert (said["state"], said["amt_paid_msat"], said["r_preimage"]) == ("SETTLED", "224750", paid.preimage)
    quiet(van)
    assert int(lncli("van", "channelbalance")["local_balance"]["msat"]) == van.balance().local_msat
    decoded = lncli("van", "decodepayreq", text)
    read = read_invoice_text(text)
    assert (decoded["payment_hash"], decoded["num_msat"]) == (read.payment_hash, str(read.amount_msat))
    assert decoded["description_hash"] == read.description_hash
    assert (decoded["timestamp"], decoded["expiry"]) == (str(read.created_unix_s), str(read.expiry_s))
    assert read.signed_by(decoded["destination"])
    assert read_invoice_text(MAINNET_INVOICE).signed_by(
        "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"  # the node of the BOLT's examples
    )


def test_an_amount_larger_than_any_channel_goes_in_parts() -> None:
    plan = NetworkPlan(
        "parts",
        nodes=tuple(NodePlan(name, policy=FREE) for name in ("hub", "van", "evse")),
        channels=(
            ChannelPlan("hub", "van", 1_000_000, 500_000),
            ChannelPlan("hub", "van", 1_000_000, 500_000),
            ChannelPlan("hub", "evse", 10_000_000, 200_000),
        ),
    )
    with (
        LightningNetwork(plan) as network,
        LndClient(access(network, "van")) as van,
        LndClient(access(network, "evse")) as evse,
    ):
        before = quiet(evse)
        text, agreed = invoiced(evse, 800_000_000)
        with pytest.raises(e.NoRoute, match="nothing was paid"):
            van.pay(text, agreed, fee_limit_msat=0, max_parts=1)
        assert van.pay(text, agreed, fee_limit_msat=0).parts >= 2
        assert quiet(evse) - before == 800_000_000


def test_twenty_asyncio_payments_in_flight_are_each_made_once(
    clients: dict[str, LndClient], parties: dict[str, NodeAccess]
) -> None:
    before = quiet(clients["charging_station"])
    invoices = [invoiced(clients["charging_station"], 50_000) for _ in range(20)]

    async def pay_all() -> set[PaymentState]:
        async with AsyncLndClient(parties["ev_owner"]) as client:
            payments = await asyncio.gather(
                *(client.pay(text, agreed, fee_limit_msat=5_000) for text, agreed in invoices)
            )
            return {payment.state for payment in payments}

    assert asyncio.run(pay_all()) == {PaymentState.SUCCEEDED}
    assert quiet(clients["charging_station"]) - before == 20 * 50_000
