"""Circular payments: planned from figures, made with real nodes, never twice, and said when there is no circle."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.errors import LedgerBusy, SettlementError
from ledgers.lightning import rebalancing
from ledgers.lightning.client import Agreed, CircularRoute, EdgePolicy, FeeLimit, InvoiceState, LndClient, NodeAccess
from ledgers.lightning.client.errors import LndNotFound, OutcomeUnknown
from ledgers.lightning.client.wire import ask_invoice, ask_pay
from ledgers.lightning.journal import Debt, DebtState, Journal
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import ChannelPlan, NetworkPlan, NodePlan
from ledgers.lightning.nodes.processes import wait_until
from ledgers.lightning.rebalancing import (
    LEAST_MSAT,
    Link,
    Rebalancer,
    Side,
    as_opened,
    distance_msat,
    evenly,
    plan_circles,
)
from tests.ledgers.lnd_double import Network, Node

LND = EdgePolicy(base_fee_msat=1000, fee_rate_ppm=1, time_lock_delta=80, disabled=False)
MSAT = 1_000_000_000


def link(channel_id: int, left: str, right: str, left_msat: int, right_msat: int, *, opened: int | None = None) -> Link:
    """A channel whose whole balances can be sent."""
    return Link(
        channel_id,
        Side(left, left_msat, left_msat, LND),
        Side(right, right_msat, right_msat, LND),
        left_msat if opened is None else opened,
    )


class TestPlan:
    def test_a_star_has_no_circle_and_says_what_helps(self) -> None:
        links = [
            link(1, "hub", "van", 9 * MSAT, 1 * MSAT, opened=5 * MSAT),
            link(2, "evse", "hub", 9 * MSAT, 1 * MSAT, opened=5 * MSAT),
        ]
        plan = plan_circles(links, as_opened(links))
        assert plan.circles == ()
        assert plan.words == (
            "no circular payment can move money here, because a network with one channel for each spoke has no circle: "
            "'van' misses 4000000 sat in its channel with 'hub' (and 1 more channels); open a further channel from "
            "'hub' to 'van' that pushes 4000000 sat, or pay them back on chain (a swap)"
        )
        assert [(item.node, item.peer, item.amount_msat) for item in plan.missing] == [
            ("van", "hub", 4 * MSAT),
            ("hub", "evse", 4 * MSAT),
        ]

    def test_parallel_channels_are_made_even_by_one_payment_of_two_hops(self) -> None:
        links = [link(1, "hub", "van", 9 * MSAT, 1 * MSAT), link(2, "hub", "van", 1 * MSAT, 9 * MSAT)]
        plan = plan_circles(links, evenly(links))
        (circle,) = plan.circles
        assert circle.way in {"hub -> van -> hub", "van -> hub -> van"}
        assert circle.amount_msat == 4 * MSAT
        assert circle.fee_msat == 1000 + 4000 + 1  # of the node that forwards, and what the hint adds
        assert circle.certain
        assert (plan.words, distance_msat(plan.after, evenly(links))) == ("", 0 + circle.fee_msat)

    def test_a_channel_between_spokes_makes_a_circle_of_three(self) -> None:
        links = [
            link(1, "hub", "van", 9 * MSAT, 1 * MSAT, opened=5 * MSAT),
            link(2, "evse", "hub", 9 * MSAT, 1 * MSAT, opened=5 * MSAT),
            link(3, "evse", "van", 1 * MSAT, 6 * MSAT),
        ]
        plan = plan_circles(links, as_opened(links))
        assert len(plan.circles) == 1
        assert {(hop.sender, hop.receiver) for hop in plan.circles[0].hops} == {
            ("hub", "van"),
            ("van", "evse"),
            ("evse", "hub"),
        }
        assert distance_msat(plan.after, as_opened(links)) < distance_msat(links, as_opened(links))

    def test_a_second_hub_makes_a_circle_of_four(self) -> None:
        links = [
            link(1, "hub-a", "van", 5 * MSAT, 0, opened=2 * MSAT),
            link(2, "hub-b", "van", 0, 5 * MSAT, opened=3 * MSAT),
            link(3, "evse", "hub-a", 5 * MSAT, 0, opened=2 * MSAT),
            link(4, "evse", "hub-b", 0, 5 * MSAT, opened=3 * MSAT),
        ]
        (circle,) = plan_circles(links, as_opened(links)).circles
        assert len(circle.hops) == 4
        assert circle.amount_msat == pytest.approx(3 * MSAT, abs=20_000)

    def test_only_who_may_pay_pays(self) -> None:
        links = [link(1, "hub", "van", 9 * MSAT, 1 * MSAT), link(2, "hub", "van", 1 * MSAT, 9 * MSAT)]
        assert [plan_circles(links, evenly(links), payers=[who]).circles[0].payer for who in ("hub", "van")] == [
            "hub",
            "van",
        ]
        assert plan_circles(links, evenly(links), payers=[]).circles == ()

    def test_a_fee_limit_that_no_circle_keeps_is_said(self) -> None:
        links = [link(1, "hub", "van", 9 * MSAT, 1 * MSAT), link(2, "hub", "van", 1 * MSAT, 9 * MSAT)]
        plan = plan_circles(links, evenly(links), limit=FeeLimit(base_msat=1000, ppm=0))
        assert plan.circles == ()
        assert plan.words.startswith("no circle through these channels brings money where it is missing within the fee")

    def test_a_payer_is_preferred_whose_payment_cannot_come_back_the_way_it_went(self) -> None:
        links = [link(1, "hub", "van", 9 * MSAT, 5 * MSAT), link(2, "hub", "van", 1 * MSAT, 9 * MSAT)]
        # The van could send 2 units back over channel 1; the hub, forwarding for the van, has only 1 in channel 2.
        (circle,) = plan_circles(links, {1: 7 * MSAT, 2: 3 * MSAT}).circles
        assert (circle.payer, circle.certain) == ("van", True)
        assert not plan_circles(links, {1: 7 * MSAT, 2: 3 * MSAT}, payers=["hub"]).circles[0].certain

    def test_channels_at_their_targets_are_left_alone(self) -> None:
        links = [link(1, "hub", "van", MSAT, MSAT), link(2, "hub", "van", MSAT, MSAT)]
        plan = plan_circles(links, as_opened(links))
        assert (plan.circles, plan.words) == ((), "")

    def test_a_target_for_a_channel_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(SettlementError, match="there is no channel 7"):
            plan_circles([link(1, "hub", "van", MSAT, MSAT)], {7: 0})
        with pytest.raises(SettlementError, match="state 1 or more"):
            plan_circles([], {}, least_msat=0)

    def test_a_circle_is_asked_for_with_first_and_last_channel(self) -> None:
        way = CircularRoute(1, 2, "02" + "ab" * 32, LND)
        sent = ask_pay("lnbcrt1", fee_limit_msat=5, timeout_s=1, max_parts=1, circle=way).request
        assert (list(sent.outgoing_chan_ids), sent.last_hop_pubkey.hex(), sent.allow_self_payment) == (
            [1],
            way.last_hop,
            True,
        )
        asked = ask_invoice(1000, preimage="ab" * 32, description_hash="cd" * 32, expiry_s=1, circle=way).request
        ((hop,),) = [hint.hop_hints for hint in asked.route_hints]
        assert (hop.chan_id, hop.fee_base_msat, hop.fee_proportional_millionths) == (2, 1001, 1)
        plain = ask_pay("lnbcrt1", fee_limit_msat=5, timeout_s=1, max_parts=1).request
        assert (list(plain.outgoing_chan_ids), plain.allow_self_payment) == ([], False)

    @given(st.integers(0, 2**32))
    def test_no_plan_makes_money_or_leads_away_from_the_targets(self, seed: int) -> None:
        chance = random.Random(seed)
        nodes = ["a", "b", "c", "d"]
        links: list[Link] = []
        for number in range(chance.randint(1, 7)):
            left, right = sorted(chance.sample(nodes, 2))
            links.append(
                link(number, left, right, chance.randint(0, 9 * MSAT), chance.randint(0, 9 * MSAT), opened=MSAT)
            )
        targets = as_opened(links) if chance.random() < 0.5 else evenly(links)
        plan = plan_circles(links, targets)
        assert sum(owned(plan.after).values()) == sum(owned(links).values())
        for before, after in zip(links, plan.after, strict=True):
            assert before.left.balance_msat + before.right.balance_msat == (
                after.left.balance_msat + after.right.balance_msat
            )
            assert min(after.left.balance_msat, after.right.balance_msat) >= 0
        if plan.circles:
            assert distance_msat(plan.after, targets) < distance_msat(links, targets)
            assert all(circle.amount_msat >= LEAST_MSAT for circle in plan.circles)
        lost = {node: before - owned(plan.after)[node] for node, before in owned(links).items()}
        paid = dict.fromkeys(lost, 0)
        for circle in plan.circles:
            paid[circle.payer] += circle.fee_msat
        assert all(lost[node] <= paid[node] for node in lost)


def owned(links: Sequence[Link]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in links:
        for side in (item.left, item.right):
            found[side.node] = found.get(side.node, 0) + side.balance_msat
    return found


# -------------------------------------------------------------------------------------------------------- real nodes

RING = NetworkPlan(
    "ring",
    nodes=(NodePlan("hub"), NodePlan("van"), NodePlan("evse")),
    channels=(
        ChannelPlan("hub", "van", 1_000_000, 500_000),
        ChannelPlan("hub", "evse", 1_000_000, 100_000),
        ChannelPlan("hub", "evse", 1_000_001, 900_000),
        ChannelPlan("van", "evse", 600_000, 0),
    ),
    seed=31,
)
LIMIT = FeeLimit(base_msat=3_000, ppm=100)


@pytest.mark.wire
class TestResume:
    """How payments of an earlier process ended, on a node that is a sum but speaks lnd's proto on a real socket."""

    def begun(self, client: LndClient, folder: Path, *names: str) -> list[Debt]:
        """Payments of the hub to itself, invoiced and written down; each with its invoice's text."""
        journal = Journal(folder, lambda *_: None, fsync=False)
        for name in names:
            debt = Debt.new(
                name,
                subject="rebalancing",
                kind="circle",
                payer="hub",
                payee="hub",
                amount_msat=50_000_000,
                terms={"name": name},
            )
            journal.birth(debt)
            text = client.add_invoice(
                debt.amount_msat, preimage=debt.preimage, description_hash=debt.description_hash, expiry_s=600
            )
            journal.move(name, DebtState.INVOICED, payment_request=text)
        journal.close()
        return list(journal.debts.values())

    def pay(self, client: LndClient, debt: Debt) -> None:
        agreed = Agreed(debt.payment_hash, debt.amount_msat, debt.description_hash, client.public_key)
        client.pay(debt.payment_request, agreed, fee_limit_msat=0, timeout_s=1, resolve_s=0.2)

    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Node, LndClient]]:
        monkeypatch.setattr(rebalancing, "SETTLED_S", 0.3)
        with Network() as network:
            node = network.add("hub", local_msat=MSAT, remote_msat=MSAT)
            with LndClient(node.access(), call_s=2.0) as client:
                yield node, client

    def test_a_payment_that_its_node_lost_ends_and_the_others_are_found(
        self, hub: tuple[Node, LndClient], tmp_path: Path
    ) -> None:
        node, client = hub
        lost, paid = self.begun(client, tmp_path, "lost", "paid")
        node.vanish = 1
        with pytest.raises(OutcomeUnknown):
            self.pay(client, lost)
        self.pay(client, paid)
        with Rebalancer(tmp_path, {"hub": client}, limit=LIMIT) as rebalancer:
            assert [found.payment_hash for found in rebalancer.resume()] == [paid.payment_hash]
            assert rebalancer.run(evenly).paid == ()
        assert client.lookup_invoice(lost.payment_hash).state is InvoiceState.CANCELED

    def test_a_payment_that_a_channel_still_has_is_asked_for_again_and_keeps_no_other(
        self, hub: tuple[Node, LndClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node, client = hub
        tied, paid = self.begun(client, tmp_path, "tied", "paid")
        node.vanish = 1
        with pytest.raises(OutcomeUnknown):
            self.pay(client, tied)
        self.pay(client, paid)
        node.payments[bytes.fromhex(tied.payment_hash)].vanished = False  # it left, and is not back yet
        with Rebalancer(tmp_path, {"hub": client}, limit=LIMIT) as rebalancer:
            with monkeypatch.context() as patched:
                patched.setattr(node.network, "_give_back", lambda *_, **__: None)
                with pytest.raises(OutcomeUnknown, match="ask again, it is never paid twice"):
                    rebalancer.resume()
            assert rebalancer.resume() == ()  # back by now; what was paid was found the first time
        journal = Journal(tmp_path, lambda *_: None, fsync=False)
        journal.close()
        assert {name: debt.state for name, debt in journal.debts.items()} == {
            "tied": DebtState.CANCELLED,
            "paid": DebtState.PAID,
        }


@pytest.fixture(scope="module")
def ring() -> Iterator[dict[str, LndClient]]:
    """Clients of a hub with a van, and with an evse over two channels; van and evse have one of their own."""
    with LightningNetwork(RING) as network, ExitStack() as stack:
        yield {
            name: stack.enter_context(
                LndClient(
                    NodeAccess.from_files(
                        name,
                        network.address(name).address,
                        certificate=network.address(name).tls_cert_path,
                        macaroon=network.address(name).macaroon_path,
                    )
                )
            )
            for name in network.names
        }


def parallel(links: Sequence[Link]) -> dict[int, int]:
    """Even targets for the two channels of the evse with the hub."""
    found = [item for item in links if {item.left.node, item.right.node} == {"evse", "hub"}]
    return evenly(found)


def balances(links: Sequence[Link]) -> list[int]:
    return [item.left.balance_msat for item in links]


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(120)
class TestRealNodes:
    def test_a_dry_run_pays_nothing_and_the_run_does_what_it_said(
        self, ring: dict[str, LndClient], tmp_path: Path
    ) -> None:
        with Rebalancer(tmp_path, ring, limit=LIMIT) as rebalancer:
            before = rebalancer.look()
            said = rebalancer.run(parallel, dry_run=True)
            assert balances(rebalancer.look()) == balances(before)
            (planned,) = said.planned
            assert planned.certain
            done = rebalancer.run(parallel)
            assert [(item.payer, item.amount_msat, item.fee_msat) for item in done.paid] == [
                (planned.payer, planned.amount_msat, planned.fee_msat)
            ]
            assert done.distance_before_msat > 799_000_000
            assert done.distance_after_msat <= LEAST_MSAT
            assert done.words == ""
            # lnd tells balances in whole satoshi
            assert balances(done.after) == pytest.approx(balances(said.after), abs=1001)
            assert rebalancer.run(parallel).paid == ()

    def test_a_circle_of_three_leads_over_the_spokes_channel(self, ring: dict[str, LndClient], tmp_path: Path) -> None:
        def targets(links: Sequence[Link]) -> dict[int, int]:
            """The van wants 200 000 sat more in its channel with the hub, from its channel with the evse."""
            wanted = {}
            for item in links:
                ends = {item.left.node, item.right.node}
                if "van" in ends:
                    more = 200_000_000 if "hub" in ends else -200_000_000
                    wanted[item.channel_id] = item.left.balance_msat + (more if item.left.node == "van" else -more)
            return wanted

        with Rebalancer(tmp_path, ring, limit=LIMIT) as rebalancer:
            done = rebalancer.run(targets)
            assert [item.amount_msat for item in done.paid] == pytest.approx([200_000_000], abs=5_000)
            assert done.distance_after_msat <= 10_000
            assert len(done.planned[0].hops) == 3
            assert done.fee_msat == done.planned[0].fee_msat

    def test_what_died_under_way_is_found_and_not_paid_again(self, ring: dict[str, LndClient], tmp_path: Path) -> None:
        hub, evse = ring["hub"], ring["evse"]
        with Rebalancer(tmp_path / "alive", ring, limit=LIMIT) as rebalancer:
            one, two = (item for item in rebalancer.look() if {item.left.node, item.right.node} == {"evse", "hub"})
        paid, unsent, unknown = (
            Debt.new(
                name,
                subject="rebalancing",
                kind="circle",
                payer="hub",
                payee="hub",
                amount_msat=50_000_000,
                terms={"name": name},
            )
            for name in ("paid", "unsent", "unknown")
        )
        journal = Journal(tmp_path / "died", lambda *_: None, fsync=False)
        for debt in (paid, unsent, unknown):
            journal.birth(debt)
        journal.close()
        way = CircularRoute(one.channel_id, two.channel_id, evse.public_key, two.left.policy)
        texts = [
            hub.add_invoice(
                debt.amount_msat,
                preimage=debt.preimage,
                description_hash=debt.description_hash,
                expiry_s=600,
                circle=way,
            )
            for debt in (paid, unsent)
        ]
        agreed = Agreed(paid.payment_hash, paid.amount_msat, paid.description_hash, hub.public_key)
        payment = hub.pay(texts[0], agreed, fee_limit_msat=5_000, max_parts=1, circle=way)
        wait_until(
            lambda: not any(channel.pending_hashes for channel in hub.channels()), limit_s=15, what="the payment to end"
        )
        before = in_channels_msat(hub)
        with Rebalancer(tmp_path / "died", ring, limit=LIMIT) as rebalancer:
            with pytest.raises(LedgerBusy):
                Rebalancer(tmp_path / "died", ring)
            (found,) = rebalancer.resume()
            assert (found.payment_hash, found.fee_msat) == (paid.payment_hash, payment.fee_msat)
            assert rebalancer.resume() == ()
        assert hub.lookup_invoice(unsent.payment_hash).state is InvoiceState.CANCELED
        with pytest.raises(LndNotFound):
            hub.lookup_invoice(unknown.payment_hash)
        assert in_channels_msat(hub) == before
        assert oct((tmp_path / "died" / "journal.log").stat().st_mode & 0o777) == "0o600"

    def test_fees_that_were_raised_meanwhile_fail_the_payment_and_the_result_says_so(
        self, ring: dict[str, LndClient], tmp_path: Path
    ) -> None:
        class Cheaper(Rebalancer):
            """Sees policies of yesterday: no fee at all."""

            def look(self) -> tuple[Link, ...]:
                free = EdgePolicy(0, 0, 80, disabled=False)
                return tuple(
                    replace(item, left=replace(item.left, policy=free), right=replace(item.right, policy=free))
                    for item in super().look()
                )

        def targets(links: Sequence[Link]) -> dict[int, int]:
            one, two = (item for item in links if {item.left.node, item.right.node} == {"evse", "hub"})
            return {
                one.channel_id: one.left.balance_msat + 60_000_000,
                two.channel_id: two.left.balance_msat - 60_000_000,
            }

        with Cheaper(tmp_path, ring, limit=FeeLimit(base_msat=10, ppm=0)) as rebalancer:
            done = rebalancer.run(targets)
            assert done.paid == ()
            assert done.words.endswith("nothing was paid (lnd: FAILURE_REASON_NO_ROUTE)")
            assert {item.amount_msat for item in done.missing} == {60_000_000}
            assert done.distance_after_msat == done.distance_before_msat
            assert rebalancer.resume() == ()

    def test_a_fee_above_the_limit_is_not_paid(self, ring: dict[str, LndClient], tmp_path: Path) -> None:
        with Rebalancer(tmp_path, ring, limit=FeeLimit(base_msat=999, ppm=0), least_msat=1000) as rebalancer:
            done = rebalancer.run(lambda links: {item.channel_id: 0 for item in links})
        assert done.paid == ()
        assert "within the fee limit" in done.words


def in_channels_msat(client: LndClient) -> int:
    """What a node owns in its channels."""
    return sum(channel.local_msat for channel in client.channels())
