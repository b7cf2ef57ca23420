"""Faults with money under way on real nodes: each debt is paid once, or cancelled and said, and the books balance."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from ledgers.canonical import sha256_hex
from ledgers.errors import SettlementError
from ledgers.lightning.cashier import Times
from ledgers.lightning.client import FeeLimit, LndClient, NodeAccess, Role
from ledgers.lightning.client import errors as e
from ledgers.lightning.client.values import InvoiceState, hash_of
from ledgers.lightning.errors import NetworkRefused
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.modes import Mode
from ledgers.lightning.nodes.audit import NetworkAudit, audit
from ledgers.lightning.nodes.faults import FAULTS, Scene, fault_named
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import Policy, hub_and_spokes
from ledgers.lightning.nodes.processes import wait_until
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.lightning.verify import LightningPart, check_lightning
from ledgers.ports import Hold
from ledgers.tariff import load_tariff
from tests.ledgers.contract_settlement import IDENTITY, RECORD, WALL_UTC_S, holds, quoted

T = TypeVar("T")

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"
PLAN = hub_and_spokes("faulty", spokes=["van", "evse"], hub_policy=Policy(time_lock_delta=24))
HOLD_BLOCKS = 40  # few, so that a time lock is over soon
SMALL_WH, SMALL_MSAT = 899, 224_750  # under the dust limit: no output of its own
LARGE_WH, LARGE_MSAT = 8_000, 2_000_000
HUB_MSAT = 1_000  # and one millionth, which is nothing for the small amount
HUB = "the node before charging_station"

pytestmark = [pytest.mark.nodes, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def network() -> Iterator[LightningNetwork]:
    with LightningNetwork(PLAN) as network:
        yield network


@pytest.fixture(scope="module")
def clients(network: LightningNetwork) -> Iterator[dict[str, LndClient]]:
    """Clients that may do what a party does, and no more."""
    made = {}
    for account, name in (("ev_owner", "van"), ("charging_station", "evse")):
        where = network.address(name)
        access = NodeAccess.from_files(
            name, where.address, certificate=where.tls_cert_path, macaroon=where.macaroon_path
        )
        with LndClient(access) as admin:
            made[account] = LndClient(access.with_macaroon(admin.bake(Role.PARTY)), call_s=1.0)
    yield made
    for client in made.values():
        client.close()


def until_known(attempt: Callable[[], T]) -> T:
    """What a call gives, made again while a node does not know yet what became of the money."""
    given: list[T] = []

    def known() -> bool:
        with contextlib.suppress(e.OutcomeUnknown):
            given.append(attempt())
        return bool(given)

    wait_until(known, limit_s=20, what="the nodes to know what became of the money")
    return given[0]


@dataclass
class Yard:
    """A network in order, and a settlement on it."""

    network: LightningNetwork
    clients: dict[str, LndClient]
    settlement: LightningSettlement
    before: NetworkAudit
    replaced_before: int

    @property
    def replaced(self) -> int:
        """How many channels were closed and opened anew, because their link failed for good."""
        return len(self.network.replaced) - self.replaced_before

    def hold(self, energy_wh: int) -> Hold:
        return self.settlement.hold(quoted(self.settlement, import_wh=energy_wh, export_wh=0, available_s=0))

    def release_until_known(self, hold: Hold) -> str:
        """What `verify` says of the receipt, after as many calls as it took the nodes to see the last block."""
        return until_known(lambda: self.release(hold))

    def cancel_until_known(self, hold: Hold) -> str:
        """The status of a hold that is cancelled by as many calls as above."""
        return until_known(lambda: self.settlement.cancel(hold.hold_id).status)

    def debt(self) -> Debt:
        (debt,) = self.settlement.debts()
        return debt

    def release(self, hold: Hold) -> str:
        """What `verify` says of the receipt."""
        receipt = self.settlement.release(hold.hold_id, record=RECORD, verify=holds)
        part = LightningPart.model_validate_json(json.dumps(json.loads(receipt.to_canonical())["lightning"]))
        return check_lightning(part, receipt.quote.lines, record_sha256=sha256_hex(RECORD), session_id="s")

    def scene(self) -> Scene:
        """With the hold that is placed, if there is one."""
        debts = self.settlement.debts()
        known = {"payment_hash": debts[-1].payment_hash, "preimage": debts[-1].preimage} if debts else {}
        return Scene(self.network, hub="hub", payer="van", payee="evse", **known)

    def balanced(self) -> NetworkAudit:
        found = audit(self.network)
        assert found.exact, str(found)
        return found

    def moved_msat(self) -> dict[str, int]:
        """What each node has more than before, once nothing is under way."""
        wait_until(
            lambda: all(owner.under_way_msat == 0 for owner in audit(self.network).owners),
            limit_s=20,
            every_s=0.05,
            what="no HTLC under way",
        )
        had = {owner.name: owner.wallet_msat + owner.channels_msat for owner in self.before.owners}
        return {
            owner.name: owner.wallet_msat + owner.channels_msat - had[owner.name] for owner in self.balanced().owners
        }


@pytest.fixture
def yard(network: LightningNetwork, clients: dict[str, LndClient], tmp_path: Path) -> Iterator[Yard]:
    with LightningSettlement(
        tmp_path / "settlement",
        tariff=load_tariff(EXAMPLE),
        rate=Rate("100000", "stated by the test"),
        mode=Mode.HOLD,
        nodes=clients,
        identity=IDENTITY,
        wall_utc_s=lambda: WALL_UTC_S,
        fees=FeeLimit(base_msat=5_000, ppm=1_000),
        times=Times(pay_s=5, resolve_s=0.7, hold_s=10.0, hold_blocks=HOLD_BLOCKS),
        fsync=False,
    ) as settlement:
        yield Yard(network, clients, settlement, audit(network), len(network.replaced))
    network.heal()
    network.mine_until_resolved()
    for hub, spoke in network.missing_channels():
        network.reopen_channel(hub, spoke)


def begun(settlement: LightningSettlement, *, keysend: bool = False) -> Debt:
    """A debt as a bench leaves it that is killed before it pays: written down, and invoiced."""
    debt = Debt.new(
        "pay.p",
        subject="p",
        kind="payment",
        payer="ev_owner",
        payee="charging_station",
        amount_msat=SMALL_MSAT,
        terms={"payment_id": "p"},
        keysend=keysend,
    )
    settlement._journal.birth(debt)
    if not keysend:
        settlement._cashier._invoiced(debt)
    return settlement.debts()[0]


class TestDustInAChannelClosedByForce:
    """Too small for an output of its own: it goes to the miner, and is told."""

    @pytest.mark.parametrize("closer", ["hub", "evse"])
    def test_dust_in_the_payees_closed_channel_is_the_hubs_loss_and_the_payer_pays_once(
        self, yard: Yard, closer: str
    ) -> None:
        hold = yard.hold(SMALL_WH)
        old = yard.debt().payment_hash
        yard.network.force_close(closer, "evse" if closer == "hub" else "hub")
        yard.network.mine(1)
        wait_until(lambda: yard.clients["ev_owner"].track(old).final, limit_s=20, what="the payment to fail")
        yard.network.reopen_channel("hub", "evse")
        said = yard.release_until_known(hold)
        debt = yard.debt()
        assert debt.state is DebtState.PAID
        assert debt.payment_hash != old
        assert [(lost.owner, lost.msat, lost.payment_hash) for lost in debt.lost] == [(HUB, SMALL_MSAT, old)]
        assert said.endswith(f"lost to fees in forced closes: {SMALL_MSAT} msat of {HUB}")
        assert yard.clients["charging_station"].lookup_invoice(old).state is InvoiceState.CANCELED
        yard.network.mine_until_resolved()
        lost = [loss for loss in yard.balanced().losses if loss not in yard.before.losses]
        assert sum(loss.msat for loss in lost if loss.owner == "hub" and "dust" in loss.what) == SMALL_MSAT
        assert yard.moved_msat()["van"] == -SMALL_MSAT - HUB_MSAT

    def test_a_preimage_given_into_a_closing_channel_brings_nothing_and_the_debt_is_paid_once(self, yard: Yard) -> None:
        hold = yard.hold(SMALL_WH)
        yard.network.force_close("evse", "hub")
        with pytest.raises(e.OutcomeUnknown, match=r"unknown, on the chain: channel .* waits for a block; wait for"):
            yard.release(hold)
        assert yard.debt().state is DebtState.SETTLING
        yard.network.mine(1)
        assert yard.network.missing_channels() == (("hub", "evse"),)
        yard.network.wait_ready()  # the payee's node cannot know channels that nobody tells it
        yard.network.reopen_channel("hub", "evse")
        assert yard.network.missing_channels() == ()
        yard.release_until_known(hold)
        assert [(lost.owner, lost.msat) for lost in yard.debt().lost] == [(HUB, SMALL_MSAT)]
        yard.network.mine_until_resolved()
        assert yard.moved_msat()["van"] == -SMALL_MSAT - HUB_MSAT

    def test_a_hold_whose_channel_is_gone_and_has_no_other_is_cancelled_and_said(self, yard: Yard) -> None:
        hold = yard.hold(SMALL_WH)
        yard.network.force_close("hub", "evse")
        yard.network.mine(1)
        with pytest.raises(SettlementError):
            yard.release(hold)
        debt = yard.debt()
        assert debt.state is DebtState.CANCELLED
        assert str(debt.lost[0]) == (
            f"lost to fees: {SMALL_MSAT} msat of {HUB}, whose channel {debt.lost[0].channel} was closed by force"
        )
        assert yard.moved_msat()["van"] == 0

    @pytest.mark.parametrize("closer", ["hub", "van"])
    def test_dust_in_the_payers_closed_channel_is_the_payers_loss_and_he_does_not_pay_twice(
        self, yard: Yard, closer: str
    ) -> None:
        hold = yard.hold(SMALL_WH)
        yard.network.force_close(closer, "van" if closer == "hub" else "hub")
        yard.network.mine(1)
        said = yard.release_until_known(hold)
        debt = yard.debt()
        assert (debt.state, debt.fee_msat) == (DebtState.PAID, HUB_MSAT)
        assert [(lost.owner, lost.msat) for lost in debt.lost] == [("ev_owner", SMALL_MSAT + HUB_MSAT)]
        assert said.endswith(f"lost to fees in forced closes: {SMALL_MSAT + HUB_MSAT} msat of ev_owner")
        yard.network.mine_until_resolved()
        assert yard.moved_msat()["evse"] == SMALL_MSAT
        lost = [loss for loss in yard.balanced().losses if loss not in yard.before.losses]
        assert sum(loss.msat for loss in lost if loss.owner == "van" and "dust" in loss.what) == SMALL_MSAT + HUB_MSAT

    def test_dust_of_a_hold_that_is_cancelled_is_told_with_its_owner(self, yard: Yard) -> None:
        hold = yard.hold(SMALL_WH)
        yard.network.force_close("van", "hub")
        yard.network.mine(1)
        assert yard.cancel_until_known(hold) == "cancelled"
        debt = yard.debt()
        assert debt.state is DebtState.CANCELLED
        assert [(lost.owner, lost.msat) for lost in debt.lost] == [("ev_owner", SMALL_MSAT + HUB_MSAT)]
        yard.network.mine_until_resolved()
        assert yard.moved_msat()["evse"] == 0

    @pytest.mark.parametrize("keysend", [False, True])
    def test_a_payment_whose_payers_channel_closed_while_the_payee_was_frozen_is_made_once(
        self, yard: Yard, keysend: bool
    ) -> None:
        debt = begun(yard.settlement, keysend=keysend)
        yard.network.pause("evse")
        if keysend:
            with pytest.raises(e.OutcomeUnknown):
                yard.settlement._cashier.pay(debt.name)
        else:  # the money leaves as the bench dies
            agreed = yard.settlement._cashier._agreed(debt)
            yard.clients["ev_owner"].begin(debt.payment_request, agreed, fee_limit_msat=5_000)
        hub = yard.network.calls("hub")
        wait_until(
            lambda: hub.books().coming_msat == SMALL_MSAT + HUB_MSAT, limit_s=10, what="the money to be half way"
        )
        yard.network.force_close("van", "hub")
        yard.network.mine(1)
        yard.network.resume("evse")
        yard.network.reopen_channel("hub", "van")
        debt = until_known(lambda: yard.settlement._cashier.pay(debt.name))
        assert debt.state is DebtState.PAID
        assert [(lost.owner, lost.msat) for lost in debt.lost] == [("ev_owner", SMALL_MSAT + HUB_MSAT)]
        yard.network.mine_until_resolved()
        assert yard.moved_msat()["evse"] == SMALL_MSAT


class TestMoneyOnTheChain:
    """Large enough for an output of its own: it is followed until its time lock is over."""

    @pytest.mark.parametrize(("closer", "other"), [("hub", "evse"), ("evse", "hub"), ("hub", "van"), ("van", "hub")])
    def test_a_large_hold_is_followed_onto_the_chain_until_it_is_paid(
        self, yard: Yard, closer: str, other: str
    ) -> None:
        hold = yard.hold(LARGE_WH)
        yard.network.force_close(closer, other)
        yard.network.mine(1)
        yard.balanced()
        if "van" in {closer, other}:
            with pytest.raises(e.OutcomeUnknown, match=r"unknown, on the chain: channel .* by block \d+; wait for the"):
                yard.release(hold)
        else:  # the hub reads the preimage in the transaction that takes the money, sometimes before it is in a block
            with contextlib.suppress(e.OutcomeUnknown):
                yard.release(hold)
        yard.balanced()
        yard.network.mine_until_resolved()
        if yard.debt().state is not DebtState.PAID:
            yard.release_until_known(hold)
        assert (yard.debt().state, yard.debt().lost) == (DebtState.PAID, ())
        if "van" in {closer, other}:
            assert yard.moved_msat()["evse"] == LARGE_MSAT
        else:
            assert yard.moved_msat()["van"] == -LARGE_MSAT - HUB_MSAT - 2  # the hub's millionth

    @pytest.mark.parametrize(("closer", "other"), [("hub", "evse"), ("van", "hub")])
    def test_a_large_hold_that_is_cancelled_comes_back_from_the_chain(
        self, yard: Yard, closer: str, other: str
    ) -> None:
        hold = yard.hold(LARGE_WH)
        yard.network.force_close(closer, other)
        yard.network.mine(1)
        with pytest.raises(e.OutcomeUnknown, match="unknown, on the chain"):
            yard.settlement.cancel(hold.hold_id)
        assert yard.debt().state is DebtState.CANCELLING
        yard.network.mine_until_resolved()
        assert yard.cancel_until_known(hold) == "cancelled"
        assert yard.debt().lost == ()
        moved = yard.moved_msat()
        assert moved["evse"] <= 0  # no more than what its own sweep cost
        if closer == "hub":
            assert moved["van"] == 0


class TestFaultsByName:
    """Every fault of `FAULTS` that leaves the channels open, with money under way."""

    @pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if not fault.closes_channel])
    def test_a_hold_that_meets_a_fault_is_paid_once(self, yard: Yard, name: str) -> None:
        hold = yard.hold(SMALL_WH)
        fault, scene = fault_named(name), yard.scene()
        if name == "expired_invoice":  # an invoice with its money cannot expire
            scene = Scene(yard.network, hub="hub", payer="van", payee="evse")
        fault.plant(scene)
        try:
            yard.release(hold)
        except SettlementError:
            assert yard.debt().state in {DebtState.HELD, DebtState.SETTLING}
            fault.heal(scene)
            yard.release_until_known(hold)
        else:
            fault.heal(scene)
        assert yard.debt().state is DebtState.PAID
        moved = yard.moved_msat()
        if not yard.replaced:  # lnd's link failed for good, which is rare: then hub and evse paid for another channel
            assert moved["hub"] == HUB_MSAT
            assert moved["evse"] == SMALL_MSAT
        assert moved["van"] == -SMALL_MSAT - HUB_MSAT

    def test_a_hold_that_outlives_its_blocks_is_cancelled_and_said(self, yard: Yard) -> None:
        hold = yard.hold(SMALL_WH)
        fault, scene = fault_named("stuck_htlc"), yard.scene()
        fault.plant(scene)
        with pytest.raises(SettlementError):
            yard.release(hold)
        fault.heal(scene)
        yard.network.mine(HOLD_BLOCKS)  # lnd gives it back some blocks before the channel would have to be closed
        closed = {InvoiceState.CANCELED}
        wait_until(
            lambda: yard.clients["charging_station"].lookup_invoice(yard.debt().payment_hash).state in closed,
            limit_s=20,
            what="the hold to expire",
        )
        with pytest.raises(SettlementError, match="expired at the payee's node"):
            yard.release(hold)
        assert yard.debt().state is DebtState.CANCELLED
        assert yard.moved_msat() == {"van": 0, "hub": 0, "evse": 0}

    def test_an_expired_invoice_is_made_anew_and_paid_once(self, yard: Yard) -> None:
        fault = fault_named("expired_invoice")
        quick = Times(pay_s=3, resolve_s=0.7, invoice_s=1)
        with LightningSettlement(
            yard.settlement.folder.with_name("quick"),
            tariff=load_tariff(EXAMPLE),
            rate=Rate("100000", "stated by the test"),
            mode=Mode.POST_PAID,
            nodes=yard.clients,
            identity=IDENTITY,
            wall_utc_s=lambda: WALL_UTC_S,
            times=quick,
            fsync=False,
        ) as settlement:
            debt = begun(settlement)
            scene = Scene(yard.network, "hub", "van", "evse", payment_hash=debt.payment_hash)
            fault.plant(scene)
            with pytest.raises(SettlementError):
                settlement._cashier.pay("pay.p")
            fault.heal(scene)
            paid = settlement._cashier.pay("pay.p")
            assert (paid.state, paid.payment_hash != debt.payment_hash) == (DebtState.PAID, True)
            assert yard.clients["charging_station"].lookup_invoice(debt.payment_hash).state is InvoiceState.CANCELED
        assert yard.moved_msat() == {"van": -SMALL_MSAT - HUB_MSAT, "hub": HUB_MSAT, "evse": SMALL_MSAT}

    def test_a_hash_that_was_closed_takes_no_spontaneous_payment(self, yard: Yard) -> None:
        """What makes it safe to begin a spontaneous payment anew that the payer's node has lost."""
        preimage = os.urandom(32).hex()
        payee = yard.clients["charging_station"]
        payee.add_hold_invoice(
            SMALL_MSAT, payment_hash=hash_of(preimage), description_hash="ab" * 32, expiry_s=60, cltv_blocks=144
        )
        payee.cancel_invoice(hash_of(preimage))
        with pytest.raises(e.PaymentFailed):
            yard.clients["ev_owner"].keysend(payee.public_key, SMALL_MSAT, preimage=preimage, fee_limit_msat=5_000)
        assert yard.moved_msat() == {"van": 0, "hub": 0, "evse": 0}

    def test_an_unknown_fault_is_refused_with_the_names_there_are(self) -> None:
        with pytest.raises(NetworkRefused, match="there is no fault 'flood'; there are hub_down, payer_down, "):
            fault_named("flood")
        assert all(fault.sentence and fault.name == name for name, fault in FAULTS.items())
