"""What a session did to its network: the document and its judgement; and the nodes that tell it, real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ledgers.canonical import to_canonical
from ledgers.errors import RecordError
from ledgers.lightning.client import Agreed, LndClient, NodeAccess
from ledgers.lightning.journal import Debt, DebtState, fresh_preimage
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.session import Snapshot, answers, take_snapshot, tell_session
from ledgers.lightning.nodes.status import picture, read_status
from ledgers.lightning.session_network import NetworkTold, read_session_network

ACCOUNTS = {"ev_owner": "van", "charging_station": "evse"}


def document(**changes: Any) -> dict[str, Any]:
    """A payment of 224 750 msat from van to evse, and 1 000 msat for the hub; `changes` by dotted path."""

    def node(name: str, account: str | None, before: int, **moved: int) -> dict[str, Any]:
        figures = {"sent_msat": 0, "received_msat": 0, "fees_paid_msat": 0, "fees_earned_msat": 0, **moved}
        change = (
            figures["received_msat"] - figures["sent_msat"] - figures["fees_paid_msat"] + figures["fees_earned_msat"]
        )
        return {
            "name": name,
            "account": account,
            "public_key": f"02{name}",
            "state": "active",
            "policy": {"base_fee_msat": 1000, "fee_rate_ppm": 1, "time_lock_delta": 80},
            "before_msat": before,
            "after_msat": before + change,
            **figures,
        }

    def channel(peer: str, moved: int) -> dict[str, Any]:
        def balance(moved: int) -> dict[str, Any]:
            return {
                "opener_msat": 4_998_978_000 - moved,
                "peer_msat": 5_000_000_000 + moved,
                "pending_msat": 0,
                "pending_htlcs": 0,
                "commitment_msat": 1_022_000,
                "exact": True,
            }

        return {
            "opener": "hub",
            "peer": peer,
            "point": f"{peer}:0",
            "capacity_sat": 10_000_000,
            "active": True,
            "before": balance(0),
            "after": balance(moved),
        }

    made: dict[str, Any] = {
        "schema": "v2gbench.lightning-session/1.0",
        "name": "yard",
        "chain": "regtest",
        "height_before": 458,
        "height_after": 458,
        "nodes": [
            node("hub", None, 9_997_956_000, fees_earned_msat=1000),
            node("van", "ev_owner", 5_000_000_000, sent_msat=224_750, fees_paid_msat=1000),
            node("evse", "charging_station", 5_000_000_000, received_msat=224_750),
        ],
        "channels": [channel("van", -225_750), channel("evse", 224_750)],
        "payments": [
            {
                "name": "a.0.import_energy",
                "kind": "import_energy",
                "payer": "ev_owner",
                "payee": "charging_station",
                "payer_node": "van",
                "payee_node": "evse",
                "payment_hash": "ab" * 32,
                "amount_msat": 224_750,
                "fee_msat": 1000,
                "held": True,
                "state": "paid",
                "routes": [
                    [
                        {"node": "hub", "forwarded_msat": 224_750, "fee_msat": 1000},
                        {"node": "evse", "forwarded_msat": 224_750, "fee_msat": 0},
                    ]
                ],
            }
        ],
        "costs": None,
    }
    for path, value in changes.items():
        place: Any = made
        *parents, last = path.split("__")
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place[parent]
        place[last] = value
    return made


def read(**changes: Any) -> NetworkTold:
    return read_session_network(to_canonical(document(**changes)), where="network.json")


def test_the_document_is_read_back_as_it_was_written() -> None:
    told = read()
    assert read_session_network(told.to_bytes(), where="again") == told
    assert json.loads(told.to_bytes()) == document()
    assert told.hub == "hub"
    assert told.nodes[1].change_msat == -225_750


def test_balances_that_follow_from_the_payments_are_in_order() -> None:
    assert read().odd_balances() == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"nodes__2__after_msat": 5_000_224_749},
            "the balance of evse changed by +224749 msat, its payments make +224750",
        ),
        ({"nodes__0__after_msat": 9_997_956_000}, "the balance of hub changed by +0 msat, its payments make +1000"),
        ({"nodes__1__sent_msat": 449_500}, "the balance of van changed by -225750 msat, its payments make -450500"),
        ({"nodes__2__after_msat": None}, "what evse has is not known: it does not answer"),
    ],
)
def test_a_balance_that_does_not_follow_is_told_with_both_figures(change: dict[str, Any], sentence: str) -> None:
    assert read(**change).odd_balances() == (sentence,)


def test_a_commitment_that_became_dearer_is_paid_by_who_opened_the_channel() -> None:
    dearer = {"channels__0__after__commitment_msat": 1_522_000}
    assert read(**dearer, nodes__0__after_msat=9_997_957_000 - 500_000).odd_balances() == ()
    assert len(read(**dearer).odd_balances()) == 1


def test_a_node_whose_payments_are_still_under_way_is_not_judged() -> None:
    pending = {"channels__1__after__pending_htlcs": 1, "nodes__2__after_msat": 5_000_000_000}
    assert read(**pending).odd_balances() == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "v2gbench.lightning-session/2.0"}, "network.json is no v2gbench.lightning-session/1.0: schema"),
        ({"nodes__0__before_msat": "much"}, "nodes.0.before_msat"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_document_of_another_kind_is_refused_with_the_place(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecordError) as refused:
        read(**change)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


# Real nodes -----------------------------------------------------------------------------------------------------------

real_nodes = [pytest.mark.nodes, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def clients(lightning_network: LightningNetwork) -> Iterator[dict[str, LndClient]]:
    with ExitStack() as stack:
        made = {}
        for name in ("van", "evse"):
            at = lightning_network.address(name)
            access = NodeAccess.from_files(name, at.address, certificate=at.tls_cert_path, macaroon=at.macaroon_path)
            made[name] = stack.enter_context(LndClient(access))
        yield made


def debt(amount_msat: int, **changes: Any) -> Debt:
    made = Debt.new(
        "test.payment", subject="test", kind="import_energy", payer="ev_owner", payee="charging_station",
        amount_msat=amount_msat, terms={"what": "a test"},
    )  # fmt: skip
    return Debt(**{**{name: getattr(made, name) for name in Debt.__dataclass_fields__}, **changes})


def pay(clients: dict[str, LndClient], wanted: Debt) -> Debt:
    """The debt, paid for by the clients."""
    request = clients["evse"].add_invoice(
        wanted.amount_msat, preimage=wanted.preimage, description_hash=wanted.description_hash, expiry_s=600
    )
    agreed = Agreed(wanted.payment_hash, wanted.amount_msat, wanted.description_hash, clients["evse"].public_key)
    payment = clients["van"].pay(request, agreed, fee_limit_msat=10_000)
    return debt(
        wanted.amount_msat,
        preimage=wanted.preimage,
        state=DebtState.PAID,
        fee_msat=payment.fee_msat,
        payment_request=request,
    )


def tell(network: LightningNetwork, before: Snapshot, *debts: Debt) -> NetworkTold:
    return tell_session(network, accounts=ACCOUNTS, before=before, debts=debts)


class TestOnRealNodes:
    pytestmark = real_nodes

    def test_a_payment_is_told_to_the_msat_by_both_ends_the_hub_and_the_route(
        self, lightning_network: LightningNetwork, clients: dict[str, LndClient]
    ) -> None:
        before = take_snapshot(lightning_network)
        told = tell(lightning_network, before, pay(clients, debt(224_750)))
        changes = {node.name: node.change_msat for node in told.nodes}
        assert changes == {"hub": 1000, "van": -225_750, "evse": 224_750}  # 1000 msat and 1 ppm, rounded down
        assert told.odd_balances() == ()
        (payment,) = told.payments
        assert payment.routes is not None
        assert [[(hop.node, hop.fee_msat) for hop in route] for route in payment.routes] == [
            [("hub", 1000), ("evse", 0)]
        ]
        for channel in told.channels:
            assert channel.after is not None
            assert channel.after.exact
            parts = channel.after.opener_msat + channel.after.peer_msat + channel.after.commitment_msat
            assert parts == 1000 * channel.capacity_sat

    def test_money_that_moved_beside_the_session_is_noticed_at_both_ends(
        self, lightning_network: LightningNetwork, clients: dict[str, LndClient]
    ) -> None:
        before = take_snapshot(lightning_network)
        first = pay(clients, debt(50_000))
        pay(clients, debt(70_000))
        odd = tell(lightning_network, before, first).odd_balances()
        assert odd == (
            "the balance of hub changed by +2000 msat, its payments make +1000",
            "the balance of van changed by -122000 msat, its payments make -51000",
            "the balance of evse changed by +120000 msat, its payments make +50000",
        )

    def test_a_node_that_is_away_is_told_as_such_and_its_channel_from_the_other_end(
        self, lightning_network: LightningNetwork, clients: dict[str, LndClient]
    ) -> None:
        before = take_snapshot(lightning_network)
        paid = pay(clients, debt(10_000))
        take_snapshot(lightning_network)  # both ends have taken the HTLC out
        lightning_network.kill("evse")
        lightning_network.pause("van")
        assert not answers(lightning_network, "van")
        told = tell(lightning_network, before, paid)
        assert [(node.name, node.state, node.after_msat is None) for node in told.nodes] == [
            ("hub", "active", False),
            ("van", "away", True),
            ("evse", "away", True),
        ]
        assert told.payments[0].routes is None, "the payer's node could not be asked"
        channel = next(channel for channel in told.channels if channel.peer == "evse")
        assert channel.before is not None
        assert channel.after is not None
        assert not channel.after.exact
        assert abs(channel.after.peer_msat - channel.before.peer_msat - 10_000) < 1000
        assert "what evse has is not known: it does not answer" in told.odd_balances()

    def test_the_status_of_a_network_has_each_nodes_payments_and_invoices(
        self, lightning_network: LightningNetwork, clients: dict[str, LndClient]
    ) -> None:
        paid = pay(clients, debt(33_000))
        open_preimage = fresh_preimage()
        clients["evse"].add_invoice(44_000, preimage=open_preimage, description_hash="cd" * 32, expiry_s=600)
        status = read_status(lightning_network.folder)
        nodes = {node.name: node for node in status.nodes}
        last = nodes["van"].payments[-1]
        assert (last.payment_hash, last.state, last.amount_msat, last.fee_msat, last.other) == (
            paid.payment_hash,
            "succeeded",
            33_000,
            1000,
            "evse",
        )
        assert [(invoice.state, invoice.amount_msat) for invoice in nodes["evse"].invoices[-2:]] == [
            ("settled", 33_000),
            ("open", 44_000),
        ]
        assert nodes["hub"].payments == ()
        shown = picture(status)
        assert f"pays 33000 msat and a fee of 1000 msat to evse: succeeded, {paid.payment_hash[:8]}" in shown
        assert "is paid 44000 msat: open" in shown
        json.dumps(status.to_json())
