"""The client on real sockets: every failure a class of its own with lnd's code and words, nothing paid twice."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledgers.errors import SettlementError
from ledgers.lightning.client import Agreed, AsyncLndClient, FeeLimit, InvoiceState, LndClient, NodeAccess, Role
from ledgers.lightning.client import errors as e
from ledgers.lightning.client.errors import classify, lnd_error
from ledgers.lightning.client.lnd import wait_held
from ledgers.lightning.client.macaroons import PERMISSIONS, ROOT_KEYS
from ledgers.lightning.client.values import PaymentState, hash_of
from ledgers.lightning.client.wire import wire
from tests.ledgers.lnd_double import Network, self_signed

AMOUNT = 224_750
RECORD = "ab" * 32

pytestmark = pytest.mark.wire


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(base_fee_msat=1_000, fee_ppm=1) as network:
        network.add("vehicle", local_msat=5_000_000, remote_msat=5_000_000)
        network.add("station", local_msat=0, remote_msat=5_000_000)
        yield network


@pytest.fixture
def vehicle(network: Network) -> Iterator[LndClient]:
    with LndClient(network.nodes["vehicle"].access(), call_s=3.0) as client:
        yield client


@pytest.fixture
def station(network: Network) -> Iterator[LndClient]:
    with LndClient(network.nodes["station"].access(), call_s=3.0) as client:
        yield client


def invoiced(station: LndClient, *, hold: bool = False, **changes: Any) -> tuple[str, str, Agreed]:
    """An invoice's preimage and text, and what was agreed."""
    preimage = os.urandom(32).hex()
    known = {"amount_msat": AMOUNT, "description_hash": RECORD, "expiry_s": 600, **changes}
    if hold:
        text = station.add_hold_invoice(payment_hash=hash_of(preimage), cltv_blocks=144, **known)
    else:
        text = station.add_invoice(preimage=preimage, **known)
    return preimage, text, Agreed(hash_of(preimage), AMOUNT, RECORD, station.public_key)


# -------------------------------------------------------------------------------------------------------------- paying


def test_a_payment_returns_preimage_amount_and_fee(network: Network, vehicle: LndClient, station: LndClient) -> None:
    preimage, text, agreed = invoiced(station)
    paid = vehicle.pay(text, agreed, fee_limit_msat=1_000)
    assert (paid.preimage, paid.amount_msat, paid.fee_msat) == (preimage, 224_750, 1_000)
    assert station.lookup_invoice(agreed.payment_hash).state is InvoiceState.SETTLED
    assert (vehicle.balance().local_msat, station.balance().local_msat) == (5_000_000 - 225_750, 224_750)


def test_paying_again_or_with_a_lost_answer_pays_once(network: Network, vehicle: LndClient, station: LndClient) -> None:
    node = network.nodes["vehicle"]
    _, text, agreed = invoiced(station)
    node.lose_answers = 1
    first = vehicle.pay(text, agreed, fee_limit_msat=5_000)
    assert vehicle.pay(text, agreed, fee_limit_msat=5_000) == first
    assert station.balance().local_msat == AMOUNT


def test_a_node_that_goes_away_while_paying_is_asked_when_it_is_back(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    node = network.nodes["vehicle"]
    preimage, text, agreed = invoiced(station, hold=True)
    outcome: list[Any] = []
    payer = threading.Thread(target=lambda: outcome.append(vehicle.pay(text, agreed, fee_limit_msat=5_000)))
    payer.start()
    wait_for_state(station, agreed.payment_hash, InvoiceState.ACCEPTED)
    node.stop()
    node.start()
    station.settle_invoice(preimage)
    payer.join(10)
    assert outcome[0].preimage == preimage
    assert node.sent == 1


def wait_for_state(client: LndClient, payment_hash: str, state: InvoiceState) -> None:
    for invoice in client.invoice_updates(payment_hash, wait_s=5):
        if invoice.state is state:
            return
    raise AssertionError(f"the invoice ended before it was {state}")


def test_an_outcome_that_nobody_can_tell_is_said_to_be_unknown(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    node = network.nodes["vehicle"]
    _, text, agreed = invoiced(station, hold=True)
    stopper = threading.Timer(0.3, node.stop)
    stopper.start()
    with pytest.raises(e.OutcomeUnknown, match="is not known yet; ask again, it is never paid twice") as caught:
        vehicle.pay(text, agreed, fee_limit_msat=5_000, resolve_s=0.5)
    assert caught.value.code == "UNAVAILABLE"
    stopper.join()
    node.start()
    assert vehicle.track(agreed.payment_hash).state is PaymentState.IN_FLIGHT
    station.cancel_invoice(agreed.payment_hash)
    assert vehicle.track(agreed.payment_hash, wait_s=3).state is PaymentState.FAILED


def test_a_spontaneous_payment_has_its_preimage_as_key(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    preimage = os.urandom(32).hex()
    for _ in range(2):
        paid = vehicle.keysend(station.public_key, 5_000, preimage=preimage, fee_limit_msat=5_000)
        assert paid.preimage == preimage
    assert station.balance().local_msat == 5_000


def test_the_asyncio_client_pays_the_same_way(network: Network, station: LndClient) -> None:
    node = network.nodes["vehicle"]
    invoices = [invoiced(station) for _ in range(4)]
    node.lose_answers = 1

    async def pay_all() -> list[int]:
        async with AsyncLndClient(node.access()) as client:
            await client.check()
            payments = await asyncio.gather(
                *(client.pay(text, agreed, fee_limit_msat=5_000) for _, text, agreed in invoices)
            )
            again = await client.pay(invoices[0][1], invoices[0][2], fee_limit_msat=5_000)
            with pytest.raises(e.LndNotFound):
                await client.track("00" * 32)
            return [payment.fee_msat for payment in (*payments, again)]

    assert asyncio.run(pay_all()) == [1_000] * 5
    assert station.balance().local_msat == 4 * AMOUNT


# ------------------------------------------------------------------------------------------------------------- holding


def test_a_hold_is_accepted_then_settled_with_its_preimage_or_given_back(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    preimage, text, agreed = invoiced(station, hold=True)
    vehicle.begin(text, agreed, fee_limit_msat=5_000)
    assert wait_held(vehicle, station, agreed.payment_hash, wait_s=5).state is InvoiceState.ACCEPTED
    assert station.balance().local_msat == 0
    station.settle_invoice(preimage)
    station.settle_invoice(preimage)
    assert vehicle.track(agreed.payment_hash, wait_s=3).preimage == preimage
    with pytest.raises(e.InvoiceClosed, match="the invoice is settled"):
        station.cancel_invoice(agreed.payment_hash)

    preimage, text, agreed = invoiced(station, hold=True)
    with pytest.raises(e.InvoiceClosed, match="no money is held"):
        station.settle_invoice(preimage)
    vehicle.begin(text, agreed, fee_limit_msat=5_000)
    wait_held(vehicle, station, agreed.payment_hash, wait_s=5)
    station.cancel_invoice(agreed.payment_hash)
    station.cancel_invoice(agreed.payment_hash)
    assert vehicle.track(agreed.payment_hash, wait_s=3).reason == "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
    with pytest.raises(e.InvoiceClosed, match="the invoice was cancelled"):
        station.settle_invoice(preimage)
    assert vehicle.balance().local_msat == 5_000_000 - 225_750


def test_waiting_for_a_hold_ends_when_either_side_gives_up_or_time_is_up(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    _, text, agreed = invoiced(station, hold=True)
    network.nodes["vehicle"].no_route = True
    vehicle.begin(text, agreed, fee_limit_msat=5_000)
    with pytest.raises(e.NoRoute, match="no route with enough money"):
        wait_held(vehicle, station, agreed.payment_hash, wait_s=5)
    station.cancel_invoice(agreed.payment_hash)
    _, _, other = invoiced(station, hold=True)
    with pytest.raises(e.LndNotFound):  # nobody began to pay it
        wait_held(vehicle, station, other.payment_hash, wait_s=5)


def test_updates_go_on_over_a_restart_of_the_node(network: Network, vehicle: LndClient, station: LndClient) -> None:
    node = network.nodes["station"]
    preimage, text, agreed = invoiced(station, hold=True)
    seen: list[InvoiceState] = []
    updates = station.invoice_updates(agreed.payment_hash, wait_s=10)
    for invoice in updates:
        seen.append(invoice.state)
        if invoice.state is InvoiceState.OPEN:
            node.stop()
            node.start()
            vehicle.begin(text, agreed, fee_limit_msat=5_000)
        if invoice.state is InvoiceState.ACCEPTED:
            station.settle_invoice(preimage)
    assert seen == [InvoiceState.OPEN, InvoiceState.ACCEPTED, InvoiceState.SETTLED]


def test_updates_end_in_time_and_when_cancelled(network: Network, station: LndClient) -> None:
    _, _, agreed = invoiced(station)
    with pytest.raises(e.LndTimeout):
        list(station.invoice_updates(agreed.payment_hash, wait_s=0.2))
    updates = station.invoice_updates(agreed.payment_hash, wait_s=60)
    threading.Timer(0.2, updates.cancel).start()
    assert [invoice.state for invoice in updates] == [InvoiceState.OPEN]


# ----------------------------------------------------------------------------------------------------------- bad input


def refused(error: SettlementError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_a_wrong_macaroon_is_denied(network: Network) -> None:
    access = network.nodes["vehicle"].access().with_macaroon("ab" * 40)
    with LndClient(access) as client, pytest.raises(e.LndDenied, match="bake one for it") as caught:
        client.check()
    assert (caught.value.code, caught.value.call, caught.value.node) == ("UNKNOWN", "GetInfo", "vehicle")
    assert caught.value.words == "verification failed: signature mismatch after caveat verification"
    with pytest.raises(e.LndDenied, match="not hexadecimal"):
        LndClient(access.with_macaroon("xyz"))
    assert "ab" * 40 not in repr(access)


def test_another_network_and_another_version_are_refused(network: Network, vehicle: LndClient) -> None:
    node = network.nodes["vehicle"]
    node.chain = "mainnet"
    with pytest.raises(e.LndOtherNetwork, match="on network 'mainnet', not on 'regtest'"):
        vehicle.check()
    node.chain, node.version = "regtest", "0.22.0-beta"
    with pytest.raises(e.LndOtherVersion, match=r"runs lnd 0\.22\.0-beta; this client speaks to 0\.21 only"):
        vehicle.check()
    node.refusal = ("UNIMPLEMENTED", "unknown service routerrpc.Router")
    with pytest.raises(e.LndOtherVersion, match="does not know the call"):
        vehicle.track("00" * 32)


def test_an_expired_or_foreign_certificate_is_refused(network: Network) -> None:
    pem, _ = self_signed(dt.timedelta(seconds=-60))
    with pytest.raises(e.LndCertificateRefused, match="expired on"):
        LndClient(network.nodes["vehicle"].access(certificate_pem=pem))
    with pytest.raises(e.LndCertificateRefused, match="is not PEM"):
        LndClient(network.nodes["vehicle"].access(certificate_pem=b"x"))
    foreign = network.nodes["station"].certificate
    with (
        LndClient(network.nodes["vehicle"].access(certificate_pem=foreign)) as client,
        pytest.raises(e.LndCertificateRefused, match=r"take the tls\.cert of this node") as caught,
    ):
        client.check()
    assert "CERTIFICATE_VERIFY_FAILED" in refused(caught.value)


def test_a_certificate_that_expires_while_the_node_runs_is_named(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = network.add("old", local_msat=0, remote_msat=0, valid_for=dt.timedelta(seconds=-60))
    monkeypatch.setattr(NodeAccess, "check", lambda _: None)  # it was still good when the client was opened
    with LndClient(old.access()) as client, pytest.raises(e.LndCertificateRefused, match="has expired"):
        client.check()


def test_missing_files_are_named(tmp_path: Path) -> None:
    certificate, macaroon = tmp_path / "tls.cert", tmp_path / "admin.macaroon"
    with pytest.raises(e.LndCertificateRefused, match=r"tls\.cert cannot be read: No such file"):
        NodeAccess.from_files("hub", "127.0.0.1:1", certificate=certificate, macaroon=macaroon)
    certificate.write_bytes(self_signed(dt.timedelta(days=1))[0])
    with pytest.raises(e.LndDenied, match=r"admin\.macaroon cannot be read: No such file"):
        NodeAccess.from_files("hub", "127.0.0.1:1", certificate=certificate, macaroon=macaroon)
    macaroon.write_bytes(b"\x02\x01")
    found = NodeAccess.from_files("hub", "127.0.0.1:1", certificate=certificate, macaroon=macaroon)
    assert found.macaroon_hex == "0201"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"description_hash": "cd" * 32}, "for another record"),
        ({"amount_msat": AMOUNT + 1}, r"another amount in msat \(224750, agreed was 224751\)"),
        ({"amount_msat": AMOUNT - 1}, "another amount in msat"),
        ({"payment_hash": "00" * 32}, "another payment hash"),
        ({"payee": "02" + "11" * 32}, "another payee"),
        ({"amount_msat": 0}, "0 is no amount to pay"),
        ({"amount_msat": -1}, "-1 is no amount to pay"),
        ({"amount_msat": 1.5}, "1.5 is no amount to pay"),
        ({"amount_msat": True}, "True is no amount to pay"),
    ],
)
def test_an_invoice_that_was_not_agreed_is_refused_before_anything_is_sent(
    network: Network, vehicle: LndClient, station: LndClient, changes: dict[str, Any], words: str
) -> None:
    _, text, agreed = invoiced(station)
    with pytest.raises(e.InvoiceRefused, match=words) as caught:
        vehicle.pay(text, dataclasses.replace(agreed, **changes), fee_limit_msat=5_000)
    assert "nothing was paid" in refused(caught.value)
    assert network.nodes["vehicle"].sent == 0


def test_an_expired_invoice_and_one_of_another_network_are_refused(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    _, text, agreed = invoiced(station, expiry_s=0)
    with pytest.raises(e.InvoiceRefused, match=r"the invoice expired .* nothing was paid"):
        vehicle.pay(text, agreed, fee_limit_msat=5_000)
    with pytest.raises(e.LndOtherNetwork, match="belongs to another network; nothing was paid"):
        vehicle.pay("lnbc1" + text[6:], agreed, fee_limit_msat=5_000)
    assert network.nodes["vehicle"].sent == 0


def test_over_capacity_no_route_and_a_refusing_payee_pay_nothing(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    node = network.nodes["vehicle"]
    before = vehicle.balance()
    _, text, agreed = invoiced(station, amount_msat=5_000_001)
    with pytest.raises(e.NotEnoughMoney, match="channels do not carry the amount; nothing was paid"):
        vehicle.pay(text, dataclasses.replace(agreed, amount_msat=5_000_001), fee_limit_msat=50_000)
    _, text, agreed = invoiced(station)
    station.cancel_invoice(agreed.payment_hash)
    with pytest.raises(e.DetailsRefused, match="nothing was paid"):
        vehicle.pay(text, agreed, fee_limit_msat=5_000)
    node.no_route = True
    _, text, agreed = invoiced(station)
    with pytest.raises(e.NoRoute, match="nothing was paid"):
        vehicle.pay(text, agreed, fee_limit_msat=5_000)
    with pytest.raises(e.NoRoute):
        vehicle.route(station.public_key, AMOUNT, fee_limit_msat=5_000)
    assert vehicle.balance() == before


def test_a_locked_wallet_is_said_and_nothing_is_asked_for(
    network: Network, vehicle: LndClient, station: LndClient
) -> None:
    _, text, agreed = invoiced(station)
    network.nodes["vehicle"].refusal = ("UNKNOWN", "wallet locked, unlock it to enable full RPC access")
    with pytest.raises(e.LndLocked, match="unlock it with 'lncli unlock'"):
        vehicle.pay(text, agreed, fee_limit_msat=5_000)


def test_a_node_that_does_not_answer_is_waited_for_until_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        access = NodeAccess("mute", f"127.0.0.1:{silent.getsockname()[1]}", self_signed(dt.timedelta(days=1))[0], "ab")
        with LndClient(access, call_s=0.3) as client, pytest.raises((e.LndTimeout, e.LndUnreachable)) as caught:
            client.check()
    assert "mute" in refused(caught.value)
    with LndClient(access, call_s=0.3) as client, pytest.raises(e.LndUnreachable, match="start it"):
        client.check()


def test_a_closed_client_says_so(network: Network) -> None:
    client = LndClient(network.nodes["vehicle"].access())
    client.close()
    client.close()
    with pytest.raises(e.LndUnreachable, match="this client is closed"):
        client.check()


# ------------------------------------------------------------------------------------------------ words and rights

# From rpcperms/interceptor.go, macaroons, invoices/errors.go, payments/db/errors.go, zpay32/decode.go of v0.21.2-beta.
WORDS = [
    ("UNKNOWN", "wallet locked, unlock it to enable full RPC access", e.LndLocked),
    ("UNKNOWN", "wallet not created, create one to enable full RPC access", e.LndLocked),
    ("UNKNOWN", "waiting to start, RPC services not available", e.LndLocked),
    (
        "UNKNOWN",
        "the RPC server is in the process of starting up, but not yet ready to accept calls",
        e.LndLocked,
    ),
    ("UNKNOWN", "verification failed: signature mismatch after caveat verification", e.LndDenied),
    ("UNKNOWN", "expected 1 macaroon, got 0", e.LndDenied),
    ("UNKNOWN", "permission denied", e.LndDenied),
    ("UNKNOWN", "cannot get macaroon: root key with id 2100 doesn't exist", e.LndDenied),
    ("UNIMPLEMENTED", "unknown service invoicesrpc.Invoices", e.LndOtherVersion),
    ("UNKNOWN", "invoice not for current active network 'regtest'", e.LndOtherNetwork),
    ("ALREADY_EXISTS", "invoice is already paid", e.LndExists),
    ("ALREADY_EXISTS", "payment is in transition", e.LndExists),
    ("UNKNOWN", "invoice with payment hash already exists", e.LndExists),
    ("UNKNOWN", "invoice already settled", e.InvoiceClosed),
    ("UNKNOWN", "invoice already canceled", e.InvoiceClosed),
    ("UNKNOWN", "invoice still open", e.InvoiceClosed),
    ("UNKNOWN", "invoice expired. Valid until 2026-11-28 04:25:21 +0000 UTC", e.InvoiceClosed),
    ("NOT_FOUND", "unable to locate invoice", e.LndNotFound),
    ("UNKNOWN", "unable to locate invoice", e.LndNotFound),
    ("NOT_FOUND", "payment isn't initiated", e.LndNotFound),
    ("UNKNOWN", "unable to find a path to destination", e.NoRoute),
    ("UNKNOWN", "insufficient local balance", e.NotEnoughMoney),
    ("UNKNOWN", "self-payments not allowed", e.PaymentFailed),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", e.LndTimeout),
    ("UNAVAILABLE", "Socket closed", e.LndUnreachable),
    ("UNAVAILABLE", "connections to all backends failing", e.LndUnreachable),
    ("UNKNOWN", "invoice registry shutting down", e.LndUnreachable),
    ("UNKNOWN", "the cat sat on the router", e.LndRefused),
]


@pytest.mark.parametrize(("code", "words", "kind"), WORDS)
def test_each_answer_of_lnd_is_one_class_and_one_sentence(code: str, words: str, kind: type[e.LndError]) -> None:
    assert classify(code, words)[0] is kind
    error = lnd_error("hub", "SomeCall", code, words)
    assert (error.code, error.words, error.call) == (code, words, "SomeCall")
    assert f"(lnd: {code}, " in refused(error)
    assert isinstance(error, SettlementError)


def test_roles_may_do_their_own_calls_only() -> None:
    pay, settle = "/routerrpc.Router/SendPaymentV2", "/invoicesrpc.Invoices/SettleInvoice"
    assert {role for role in Role if pay in PERMISSIONS[role]} == {Role.PAYER, Role.PARTY}
    assert {role for role in Role if settle in PERMISSIONS[role]} == {Role.PAYEE, Role.PARTY}
    assert not any(
        "Close" in uri or "SendCoins" in uri or "Bake" in uri for uris in PERMISSIONS.values() for uri in uris
    )
    assert len(set(ROOT_KEYS.values())) == len(Role)
    assert 0 not in ROOT_KEYS.values()


def test_a_fee_limit_is_base_and_millionths_rounded_up() -> None:
    assert FeeLimit(1_000, 1).msat(224_750) == 1_001
    assert FeeLimit(0, 0).msat(10**9) == 0


def test_importing_the_client_loads_no_grpc_and_using_it_leaves_the_ciphers_alone() -> None:
    program = (
        "import os, sys\n"
        "import ledgers.lightning.client, ledgers.lightning.settlement, ledgers.verify\n"
        "assert not any(name.split('.')[0] in {'grpc', 'lndgrpc', 'google'} for name in sys.modules)\n"
        "from ledgers.lightning.client.wire import wire\n"
        "wire()\n"
        "assert 'GRPC_SSL_CIPHER_SUITES' not in os.environ\n"
        "os.environ['GRPC_SSL_CIPHER_SUITES'] = 'mine'\n"
        "wire.cache_clear(); [sys.modules.pop(n) for n in list(sys.modules) if n == 'lndgrpc.common']; wire()\n"
        "assert os.environ['GRPC_SSL_CIPHER_SUITES'] == 'mine'\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_one_channel_is_kept_for_many_calls(network: Network, vehicle: LndClient) -> None:
    made: list[Any] = []
    grpc = wire().grpc
    real = grpc.secure_channel
    try:
        grpc.secure_channel = lambda *args, **options: made.append(args) or real(*args, **options)
        with LndClient(network.nodes["station"].access()) as client:
            for _ in range(20):
                client.info()
    finally:
        grpc.secure_channel = real
    assert len(made) == 1
