"""What channels cost on the chain: predicted from weights, paid on a real chain, told with the status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledgers.lightning.costs import NetworkCosts, OpenChannel, channel_costs, costs_text
from ledgers.lightning.errors import LightningError
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import ANCHORS_OPTION, ChannelPlan, NetworkPlan, NodePlan
from ledgers.lightning.nodes.processes import wait_until
from ledgers.lightning.nodes.status import picture, read_status
from ledgers.lightning.weights import ANCHOR_SAT, TO_LOCAL_SWEEP_WEIGHT, TO_REMOTE_SWEEP_WEIGHT, fee_sat

CHANNEL = OpenChannel("aa:0", "hub", "van", 1_000_000, 600_000, 398_778, commit_fee_sat=562, has_anchors=True)


class TestFigures:
    def test_the_opener_bears_both_ends_of_a_cooperative_life(self) -> None:
        costs = channel_costs([CHANNEL], {"aa": 329}, 500)
        assert (costs.opened_sat, costs.close_sat, costs.borne_by("hub"), costs.borne_by("van")) == (329, 386, 715, 0)

    def test_by_force_each_side_pays_for_taking_its_own(self) -> None:
        (found,) = channel_costs([CHANNEL], {"aa": 329}, 500).channels
        assert found.opener_force_close_sat == 562 + 2 * ANCHOR_SAT + 267
        assert found.peer_force_close_sat == 245

    def test_dust_is_lost_and_its_output_is_not_paid_for(self) -> None:
        (found,) = channel_costs([replace(CHANNEL, peer_sat=353)], {"aa": 0}, 500).channels
        assert found.close_sat == 300 + 353
        assert found.peer_force_close_sat == 353

    def test_one_funding_transaction_is_shared_by_its_channels_to_the_satoshi(self) -> None:
        costs = channel_costs([CHANNEL, replace(CHANNEL, point="aa:1")], {"aa": 501}, 500)
        assert [channel.opened_sat for channel in costs.channels] == [251, 250]

    def test_a_session_bears_its_share_rounded_up(self) -> None:
        costs = channel_costs([CHANNEL], {"aa": 329}, 500, sessions=7)
        assert costs.channels[0].session_msat == 102_143  # 715 000 / 7
        assert "a session bears 102143 msat" in costs_text(costs)

    def test_nonsense_is_one_sentence(self) -> None:
        with pytest.raises(LightningError, match="state 1 or more"):
            channel_costs([CHANNEL], {"aa": 1}, 500, sessions=0)
        with pytest.raises(LightningError, match="the fee of funding transaction aa is not known"):
            channel_costs([CHANNEL], {}, 500)


# -------------------------------------------------------------------------------------------------------- real nodes

WITH_ANCHORS = (ANCHORS_OPTION,)
PLAN = NetworkPlan(
    "costly",
    nodes=(NodePlan("hub", options=WITH_ANCHORS), NodePlan("van", options=WITH_ANCHORS), NodePlan("evse")),
    channels=(ChannelPlan("hub", "van", 1_000_000, 400_000), ChannelPlan("hub", "evse", 900_000, 300_000)),
    seed=41,
)


@pytest.fixture(scope="module")
def costly() -> Iterator[LightningNetwork]:
    """A hub with a channel with anchors, and one without."""
    with LightningNetwork(PLAN) as network:
        yield network


def told(network: LightningNetwork) -> NetworkCosts:
    costs = read_status(network.folder, sessions=100).costs
    assert costs is not None
    return costs


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(120)
class TestRealChain:
    def test_what_opening_cost_is_what_the_chain_took(self, costly: LightningNetwork) -> None:
        costs = told(costly)
        assert [(channel.opener, channel.peer) for channel in costs.channels] == [("hub", "evse"), ("hub", "van")]
        assert costs.opened_sat == costly.chain.money().node_fees_sat
        assert f"in all: opened for {costs.opened_sat} sat" in picture(read_status(costly.folder))

    @pytest.mark.parametrize(("peer", "push_sat"), [("van", 200_000), ("evse", 200_000), ("evse", 0), ("van", 300)])
    def test_a_cooperative_close_costs_what_was_predicted_also_when_fees_spike(
        self, costly: LightningNetwork, peer: str, push_sat: int
    ) -> None:
        costly.fund("hub", 700_000)
        point = costly.open_channel("hub", peer, capacity_sat=600_000, push_sat=push_sat)
        costly.wait_ready()
        costly.spike_fees(40)
        predicted = next(channel for channel in told(costly).channels if channel.point == point)
        spent = costly.chain.money().node_fees_sat
        txid = costly.calls("hub").close_channel(predicted.point, force=False)
        costly.calm_fees()
        mine(costly, txid)
        assert costly.chain.fees_sat([txid]) == {txid: predicted.close_sat}
        assert costly.chain.money().node_fees_sat - spent == predicted.close_sat

    def test_a_forced_close_takes_no_more_than_was_predicted(self, costly: LightningNetwork) -> None:
        costly.fund("hub", 700_000)
        point = costly.open_channel("hub", "van", capacity_sat=600_000, push_sat=200_000)
        costly.wait_ready()
        costs = told(costly)
        predicted = next(channel for channel in costs.channels if channel.point == point)
        spent = costly.chain.money().node_fees_sat
        money = [costly.calls(name).wallet_sat()[0] for name in ("hub", "van")]
        txid = costly.calls("hub").close_channel(point, force=True)
        mine(costly, txid)

        def taken() -> bool:
            costly.mine(1)
            now = [costly.calls(name).wallet_sat()[0] for name in ("hub", "van")]
            return all(after > before + 190_000 for before, after in zip(money, now, strict=True))

        wait_until(taken, limit_s=60, every_s=0.2, what="both sides to have their money")
        fees = costly.chain.money().node_fees_sat - spent
        sweeps = fee_sat(TO_LOCAL_SWEEP_WEIGHT, 253) + fee_sat(TO_REMOTE_SWEEP_WEIGHT, 253)
        commitment = costly.chain.fees_sat([txid])[txid]
        assert commitment + sweeps <= fees <= predicted.force_close_sat - 2 * ANCHOR_SAT
        now = sum(costly.calls(name).wallet_sat()[0] for name in ("hub", "van"))
        assert sum(money) + 600_000 - now <= predicted.force_close_sat


def mine(network: LightningNetwork, txid: str) -> None:
    """Put a transaction into a block."""
    wait_until(lambda: txid in network.chain.mempool(), limit_s=20, what="the closing transaction")
    network.mine(1)
