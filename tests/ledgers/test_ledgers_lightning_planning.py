"""A planned network carries what it was planned for, in the worst order, and no more; a satoshi less fails."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.lightning.client import Agreed, LndClient, NodeAccess
from ledgers.lightning.client.errors import NoRoute, NotEnoughMoney, PaymentFailed
from ledgers.lightning.client.lnd import wait_held
from ledgers.lightning.client.values import hash_of
from ledgers.lightning.errors import NetworkRefused
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import LARGEST_CHANNEL_SAT, WUMBO_OPTION, NetworkPlan, Policy
from ledgers.lightning.planning import (
    CapitalPlan,
    Demand,
    ExportPayer,
    Refusal,
    SessionMoney,
    Transfer,
    VehicleOpener,
    channel_cost,
    first_refused,
    plan_network,
)
from ledgers.lightning.pricing import Rate
from ledgers.tariff import Price

GOLDEN = SessionMoney(import_msat=224_750_000)
V2G = SessionMoney(import_msat=300_000_000, export_msat=100_000_000)
SMALL = Demand(3, 2, V2G, sessions_per_vehicle=2, v2g_share=Fraction(1, 2))


def imports(demand: Demand, *, first_point: int = 1) -> list[Transfer]:
    """Every session's import; one charging point after the other takes as many as it may, `first_point` first."""
    turns = [vehicle for _ in range(demand.sessions_per_vehicle) for vehicle in range(1, demand.vehicles + 1)]
    return [
        Transfer(
            f"vehicle-{vehicle}",
            point(demand, first_point, place // demand.sessions_at_a_point),
            demand.session.import_msat,
        )
        for place, vehicle in enumerate(turns)
    ]


def exports(demand: Demand, *, first_point: int = 1) -> list[Transfer]:
    """Every export, as many at the first charging point as can meet there."""
    turns = [vehicle for _ in range(demand.exports_per_vehicle) for vehicle in range(1, demand.vehicles + 1)]
    return [
        Transfer(
            point(demand, first_point, place // demand.exports_at_a_point),
            f"vehicle-{vehicle}",
            demand.session.export_msat,
        )
        for place, vehicle in enumerate(turns)
    ]


def point(demand: Demand, first: int, further: int) -> str:
    return f"point-{(first - 1 + further) % demand.charging_points + 1}"


def refused(plan: CapitalPlan | NetworkPlan, transfers: Sequence[Transfer]) -> Refusal | None:
    network = plan.network() if isinstance(plan, CapitalPlan) else plan
    return first_refused(network, transfers, sat_per_vbyte=Fraction(2))


class TestAmounts:
    def test_energy_becomes_msat_at_a_rate_rounded_up(self) -> None:
        money = SessionMoney.of_energy(
            import_wh=899,
            import_price=Price("0.25", "kWh"),
            export_wh=100,
            export_price=Price("0.3", "kWh"),
            rate=Rate("90000", "test"),
        )
        assert money == SessionMoney(import_msat=249_723, export_msat=33_334)
        golden = SessionMoney.of_energy(import_wh=899, import_price=Price("0.25", "kWh"), rate=Rate("100000", "test"))
        assert golden == SessionMoney(224_750)

    def test_the_hub_earns_its_fee_of_every_session(self) -> None:
        assert plan_network(Demand(3, 2, GOLDEN, 4)).hub_earns_msat == 12 * 1224
        assert plan_network(SMALL).hub_earns_msat == 6 * 1300 + 3 * 1100
        by_hub = replace(SMALL, export_payer=ExportPayer.HUB)
        assert plan_network(by_hub).hub_earns_msat == 6 * 1300

    def test_capital_is_all_that_lies_in_the_channels(self) -> None:
        for opener in VehicleOpener:
            plan = plan_network(replace(SMALL, vehicle_opener=opener))
            assert plan.hub_capital_sat + plan.spokes_capital_sat == sum(c.capacity_sat for c in plan.channels)
            assert plan.open_sat == 5 * 329
            opened_by = {channel.opener for channel in plan.channels}
            assert bool(plan.pushed_to_hub_sat) == (opened_by != {"hub"})

    def test_costs_follow_the_rate(self) -> None:
        assert channel_cost(Fraction(2)).close_sat == 386
        assert channel_cost(Fraction(20)).close_sat == 3860
        assert channel_cost(Fraction(20)).force_close_sat == 2810 + 660 + 2670 + 2455  # the commitment is capped

    def test_who_exports_nothing_needs_no_inbound_and_the_aggregator_pays_for_all(self) -> None:
        plan = plan_network(replace(SMALL, export_payer=ExportPayer.AGGREGATOR))
        spokes = {spoke.name: spoke for spoke in plan.spokes}
        assert spokes["aggregator"].outbound_need_msat == 3 * (100_000_000 + 1100)
        assert spokes["point-1"].outbound_need_msat == 0
        assert [c.opener for c in plan.channels] == ["hub"] * 5 + ["aggregator"]


class TestSufficientAndNotWasteful:
    @given(st.integers(0, 2**32))
    def test_any_demand_is_carried_in_any_order_and_two_satoshi_less_are_not(self, seed: int) -> None:
        chance = random.Random(seed)
        share = Fraction(chance.randint(0, 4), 4)
        demand = Demand(
            chance.randint(1, 6),
            chance.randint(1, 4),
            SessionMoney(chance.randint(10**6, 10**9), chance.randint(10**6, 10**9) if share else 0),
            sessions_per_vehicle=chance.randint(1, 3),
            v2g_share=share,
            hub_policy=Policy(chance.randint(0, 5000), chance.randint(0, 5000)),
            vehicle_opener=chance.choice(list(VehicleOpener)),
            wumbo=True,
        )
        plan = plan_network(demand)
        assert len(plan.channels) == len(plan.spokes)
        network = plan.network()
        orders = [
            order
            for first in range(1, demand.charging_points + 1)
            for one, two in [(exports(demand, first_point=first), imports(demand, first_point=first))]
            for order in (one + two, two + one)
        ]
        for order in (*orders, mixed(demand, chance)):
            assert refused(network, order) is None
        for place, channel in enumerate(plan.channels):
            if channel.spare_sat > 1:
                continue
            channels = list(network.channels)
            channels[place] = replace(
                channels[place],
                capacity_sat=channel.capacity_sat - 2,
                push_sat=max(0, channel.push_sat - (2 if channel.peer_needs_msat else 0)),
            )
            less = replace(network, channels=tuple(channels))
            assert any(refused(less, order) for order in orders)

    def test_what_is_more_than_needed_is_said(self) -> None:
        (vehicle, *_) = plan_network(Demand(1, 1, GOLDEN, 1)).channels
        assert vehicle.spare_sat == 7872  # what a network file leaves to the opener, above what lnd asks for
        assert all(channel.spare_sat <= 1 for channel in plan_network(SMALL).channels)

    def test_parallel_channels_where_one_is_too_small_and_one_large_one_where_both_allow_it(self) -> None:
        demand = Demand(1, 1, SessionMoney(5_000_000_000), sessions_per_vehicle=12)
        plan = plan_network(demand)
        vehicle = plan.spokes[0]
        assert all(channel.capacity_sat <= LARGEST_CHANNEL_SAT for channel in plan.channels)
        assert vehicle.channels == 5
        assert vehicle.out_until_dry == 12
        wumbo = plan_network(replace(demand, wumbo=True))
        assert [spoke.channels for spoke in wumbo.spokes] == [1, 1]
        assert all(WUMBO_OPTION in node.options for node in wumbo.network().nodes)
        assert sum(c.capacity_sat for c in wumbo.channels) < sum(c.capacity_sat for c in plan.channels)

    @given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32))
    def test_parallel_channels_take_every_payment_whichever_the_node_picks(
        self, vehicles: int, sessions: int, seed: int
    ) -> None:
        demand = Demand(1, vehicles, SessionMoney(3_000_000_000), sessions, sessions)
        plan = plan_network(demand)
        chance = random.Random(seed)
        room = [c.opener_can_send_msat for c in plan.channels if c.peer == "point-1"]
        for _ in range(sessions):
            amount = chance.randint(1, 3_000_000_000) if chance.random() < 0.5 else 3_000_000_000
            fitting = [place for place, left in enumerate(room) if left >= amount]
            assert fitting
            room[chance.choice(fitting)] -= amount


def mixed(demand: Demand, chance: random.Random) -> list[Transfer]:
    order = imports(demand) + exports(demand)
    chance.shuffle(order)
    return order


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"vehicles": 0}, "vehicles: 0 cannot be planned for; state 1 to 10000"),
            ({"charging_points": 0}, "charging points: 0 cannot be planned for"),
            ({"sessions_per_vehicle": 0}, "sessions of a vehicle: 0 cannot"),
            ({"v2g_share": Fraction(3, 2)}, "the share of V2G: 3/2 cannot be planned for; state 0 to 1"),
            ({"session": SessionMoney(999, 5000)}, "msat for import: 999 cannot be planned for; state 1000 to"),
            ({"session": SessionMoney(10**6)}, "a share of 1/2 of the sessions is V2G and export is worth 0 msat"),
            ({"v2g_share": Fraction(0)}, "export is worth 100000000 msat and the share of V2G is 0"),
            ({"sat_per_vbyte": Fraction(1, 2)}, "sat/vB on the chain: 1/2 cannot be planned for; state 1 to 10000"),
            ({"in_flight": 484}, "HTLCs in flight: 484 cannot be planned for; state 1 to 483"),
            ({"sessions_per_charging_point": 2}, "the vehicles make 6 sessions .* and the charging points take 4"),
            (
                {"session": SessionMoney(17_000_000_000, 10**6)},
                "one session of 'vehicle-1' needs a channel of .* 16777215 is the most; pay it in slices, or allow",
            ),
            (
                {"session": SessionMoney(10**12, 10**6), "wumbo": True},
                "one session of 'vehicle-1' needs a channel of .* 1000000000 is the most; pay it in slices$",
            ),
        ],
    )
    def test_nonsense_is_refused_in_one_sentence(self, changes: dict[str, object], problem: str) -> None:
        with pytest.raises(NetworkRefused, match=problem):
            plan_network(replace(SMALL, **changes))  # type: ignore[arg-type]  # a test's keyword bag

    def test_the_payments_of_another_network_are_refused(self) -> None:
        parallel = plan_network(Demand(1, 1, SessionMoney(5_000_000_000), 12)).network()
        with pytest.raises(NetworkRefused, match="is no star around 'hub' with one channel to each spoke"):
            first_refused(parallel, [], sat_per_vbyte=Fraction(2))


# -------------------------------------------------------------------------------------------------------- real nodes


@contextmanager
def running(plan: NetworkPlan) -> Iterator[dict[str, LndClient]]:
    with LightningNetwork(plan) as network, ExitStack() as stack:
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


def pay(clients: dict[str, LndClient], transfer: Transfer) -> int:
    """Pay in one part, as a hold is, and return the fee; in several, lnd sends what fits and waits for the rest."""
    preimage, record = os.urandom(32).hex(), "ab" * 32
    payee = clients[transfer.payee]
    text = payee.add_invoice(transfer.amount_msat, preimage=preimage, description_hash=record, expiry_s=600)
    agreed = Agreed(hash_of(preimage), transfer.amount_msat, record, payee.public_key)
    return clients[transfer.payer].pay(text, agreed, fee_limit_msat=10_000, max_parts=1).fee_msat


def hold(clients: dict[str, LndClient], transfer: Transfer) -> str:
    """Place a hold in one part and wait until it lies at the payee's node; returns its preimage."""
    preimage, record = os.urandom(32).hex(), "ab" * 32
    payer, payee = clients[transfer.payer], clients[transfer.payee]
    text = payee.add_hold_invoice(
        transfer.amount_msat,
        payment_hash=hash_of(preimage),
        description_hash=record,
        expiry_s=600,
        cltv_blocks=144,
    )
    agreed = Agreed(hash_of(preimage), transfer.amount_msat, record, payee.public_key)
    payer.begin(text, agreed, fee_limit_msat=10_000, max_parts=1)
    wait_held(payer, payee, hash_of(preimage), wait_s=20)
    return preimage


def carried(clients: dict[str, LndClient], transfers: Sequence[Transfer]) -> tuple[int, PaymentFailed | None]:
    """How many of these pass, and what the first that does not is refused with."""
    for index, transfer in enumerate(transfers):
        try:
            pay(clients, transfer)
        except PaymentFailed as error:
            return index, error
    return len(transfers), None


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(180)
class TestRealNodes:
    @pytest.mark.parametrize("first", ["import", pytest.param("export", marks=pytest.mark.long)])
    def test_a_planned_network_carries_the_worst_orders_and_then_is_dry(self, first: str) -> None:
        opener = VehicleOpener.HUB if first == "import" else VehicleOpener.VEHICLE
        plan = plan_network(replace(SMALL, vehicle_opener=opener))
        order = imports(SMALL) if first == "import" else exports(SMALL)
        rest = exports(SMALL) if first == "import" else imports(SMALL)
        with running(plan.network(f"planned-{opener}")) as clients:
            # What the plan says of each channel is what its node says of it.
            told = Counter(
                (channel.capacity_msat // 1000, *sorted((channel.can_send_msat, channel.can_receive_msat)))
                for channel in clients["hub"].channels()
            )
            assert told == Counter(
                (channel.capacity_sat, *sorted((channel.opener_can_send_msat, channel.peer_can_send_msat)))
                for channel in plan.channels
            )
            assert carried(clients, order) == (len(order), None)
            # Who has made all its payments cannot make one of a thousandth more.
            made = Counter(transfer.payer for transfer in order)
            dry = [spoke.name for spoke in plan.spokes if made[spoke.name] == spoke.payments_out]
            assert dry == (["vehicle-1", "vehicle-2", "vehicle-3"] if first == "import" else ["point-1"])
            for payer in dry:
                more = Transfer(payer, "hub", 300_000)
                assert refused(plan, [*order, more]) is not None
                with pytest.raises((NoRoute, NotEnoughMoney)):
                    pay(clients, more)
            assert carried(clients, rest) == (len(rest), None)

    def test_a_satoshi_less_fails_where_the_planner_says(self) -> None:
        network = plan_network(SMALL).network("planned-less")
        channels = list(network.channels)
        channels[2] = replace(channels[2], push_sat=channels[2].push_sat - 1)  # vehicle-3 has a satoshi less
        channels[4] = replace(channels[4], capacity_sat=channels[4].capacity_sat - 1)  # the hub, for point-2
        less = replace(network, channels=tuple(channels))
        order = imports(SMALL)
        said = refused(less, order)
        assert said == Refusal(5, "vehicle-3", "hub", 600)
        with running(less) as clients:
            count, error = carried(clients, order)
            assert count == said.index
            assert isinstance(error, NoRoute | NotEnoughMoney)
            # Another payer has room: then the hub is short.
            instead = [*order[:5], replace(order[5], payer="point-1")]
            assert refused(less, instead) == Refusal(5, "hub", "point-2", 1000)
            count, error = carried(clients, instead[5:])
            assert (count, type(error)) == (0, NoRoute)
            # And a payment that is a satoshi smaller passes both.
            smaller = replace(order[5], amount_msat=order[5].amount_msat - 1000)
            assert refused(less, [*order[:5], smaller]) is None
            assert carried(clients, [smaller]) == (1, None)

    def test_what_is_held_at_once_is_counted(self) -> None:
        held = Demand(1, 2, SessionMoney(300_000_000), sessions_per_vehicle=6, in_flight=3)
        network = plan_network(held).network("planned-held")
        one_by_one = plan_network(replace(held, in_flight=1)).network().channels[2]
        assert one_by_one.capacity_sat < network.channels[2].capacity_sat
        network = replace(network, channels=(*network.channels[:2], one_by_one))
        with running(network) as clients:
            for payee, fit in (("point-1", 3), ("point-2", 2)):
                preimages: list[str] = []
                with contextlib.suppress(PaymentFailed):
                    while len(preimages) < 3:
                        preimages.append(hold(clients, Transfer("vehicle-1", payee, 300_000_000)))
                for preimage in preimages:
                    clients[payee].settle_invoice(preimage)
                assert len(preimages) == fit, payee

    @pytest.mark.parametrize("wumbo", [False, True])
    def test_more_than_one_channel_holds_goes_over_parallel_ones_or_a_large_one(self, wumbo: bool) -> None:
        demand = Demand(1, 1, SessionMoney(9_000_000_000), sessions_per_vehicle=2, wumbo=wumbo)
        plan = plan_network(demand)
        assert [spoke.channels for spoke in plan.spokes] == ([1, 1] if wumbo else [2, 2])
        with running(plan.network(f"planned-{'wumbo' if wumbo else 'parallel'}")) as clients:
            assert carried(clients, imports(demand)) == (2, None)
