"""A soak: many payments over real nodes while faults are planted, and what became of each of them.

A hub with four spokes. Four workers, each a vehicle that owes a station, pay at the same time: after the session by
invoice, by hold for a signed slice record (one in ten is tampered with, and must be cancelled), or spontaneously. Most
amounts are under the dust limit of a channel. Meanwhile faults from `ledgers.lightning.nodes.faults` are planted one
after the other at moments that the seed decides, and healed once they have been met. Who pays does what a program does
whose node is away: the same call again.

At the end every debt must be paid exactly once, or cancelled and said. That is not believed from the journal: each
preimage that a debt ever had is looked up at both nodes. `not_as_promised` counts the debts of which it is not true.
The audit of the network must come out to the msat. A payment that began has two minutes to end.

The peer is the same payments from the same seed on a network of their own, without faults.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from ledgers.identity import Identity
    from ledgers.lightning.client import LndClient
    from ledgers.lightning.journal import Debt
    from ledgers.lightning.nodes.audit import NetworkAudit
    from ledgers.lightning.nodes.faults import Fault, Scene
    from ledgers.lightning.nodes.network import LightningNetwork
    from ledgers.lightning.nodes.plan import NetworkPlan
    from ledgers.lightning.settlement import LightningSettlement

Say = Callable[[str], None]

PAIRS = (("van", "evse"), ("bus", "grid"), ("van", "grid"), ("bus", "evse"))  # who owes whom, a worker each
PAYER, PAYEE = "ev_owner", "charging_station"  # the accounts of the tariff
KIND = "import_energy"

_PAYMENT_S = 120.0  # for one payment, faults and all
_MET_S = 0.7  # so long a fault waits to be met
_AGAIN_S = 0.1
_DRAIN_S = 4.0
_STILL_S = 3.0
_STUCK_S = 20.0  # so long may a payment be under way before the hub is started anew
_INVOICE_S = 3
_SMALL_WH = (80, 1_300)  # 20 000 to 325 000 msat: no output of its own
_LARGE_WH = (4_000, 12_000)
_SAY_EVERY_S = 2.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--payments", type=int, default=1000, metavar="N", help="payments in each run (1000)")
    parser.add_argument("--faults", type=int, default=45, metavar="N", help="faults in the soak (45: each three times)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of payments and faults (1)")


def measure(options: argparse.Namespace, say: Say) -> list[Figure]:
    """The payments without faults, then with them."""
    with tempfile.TemporaryDirectory(prefix="v2gbench-soak-") as folder:
        say(f"seed {options.seed}: {options.payments} payments without faults")
        bare = run(Path(folder) / "bare", payments=options.payments, faults=0, seed=options.seed, say=say)
        say(f"seed {options.seed}: {options.payments} payments with {options.faults} faults")
        soaked = run(
            Path(folder) / "soak", payments=options.payments, faults=options.faults, seed=options.seed, say=say
        )
    return figures(soaked, bare)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the payments of one run; `wrong` has a sentence for each that did not end as promised.

    `lost_msat` is what the debts say was lost for certain in forced closes, `told` what each says of it.
    """

    payments: int
    paid: int
    cancelled: int
    wrong: tuple[str, ...]
    lost_msat: int
    told: tuple[str, ...]
    faults: Mapping[str, int]
    replaced: int
    hub_restarts: int
    seconds: float
    audit: NetworkAudit


def figures(soaked: Outcome, bare: Outcome) -> list[Figure]:
    """The figures of a soak beside the same payments without faults."""
    per_s, bare_per_s = soaked.payments / soaked.seconds, bare.payments / bare.seconds
    return [
        Figure("payments", soaked.payments, "1"),
        Figure("paid_once", soaked.paid, "1", peer="without faults", peer_value=bare.paid),
        Figure("cancelled", soaked.cancelled, "1", peer="without faults", peer_value=bare.cancelled),
        Figure("not_as_promised", len(soaked.wrong) + len(bare.wrong), "1", goal=0, goal_kind="max"),
        Figure("lost_msat", soaked.lost_msat, "msat"),
        Figure("lost_in_audit_msat", soaked.audit.lost_msat, "msat"),
        Figure(
            "audit_difference_msat",
            abs(soaked.audit.difference_msat) + abs(bare.audit.difference_msat),
            "msat",
            goal=0,
            goal_kind="max",
        ),
        Figure("audit_problems", len(soaked.audit.problems) + len(bare.audit.problems), "1", goal=0, goal_kind="max"),
        Figure("faults", sum(soaked.faults.values()), "1"),
        *(Figure(f"fault_{name}", count, "1") for name, count in sorted(soaked.faults.items())),
        Figure("channels_replaced", soaked.replaced, "1"),
        Figure("hub_restarts", soaked.hub_restarts, "1"),
        Figure("seconds", soaked.seconds, "s", peer="without faults", peer_value=bare.seconds),
        Figure(
            "payments_per_s",
            per_s,
            "1/s",
            peer="the same payments without faults",
            peer_value=bare_per_s,
            ratio=per_s / bare_per_s,
        ),
    ]


def run(folder: Path, *, payments: int, faults: int, seed: int, say: Say) -> Outcome:
    """Start a network, make the payments, plant the faults, count; raises LightningError when the network fails."""
    from ledgers.lightning.nodes.audit import audit  # noqa: PLC0415  # help needs nothing of the bench
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415

    with LightningNetwork(_plan()) as network, ExitStack() as stack:
        before = audit(network)
        yard = _Yard(network, payments, say)
        workers = [
            stack.enter_context(_worker(yard, folder / str(number), number, seed)) for number in range(len(PAIRS))
        ]
        begin = time.monotonic()
        threads = [threading.Thread(target=worker.run, name=f"worker-{worker.payee}") for worker in workers]
        for thread in threads:
            thread.start()
        try:
            _Planter(yard, workers, random.Random(f"faults {seed}")).plant(faults)
        except BaseException as error:
            yard.stop(error)
            raise
        finally:
            for thread in threads:
                thread.join()
        yard.raise_trouble()
        yard.heal()
        network.mine_until_resolved()
        for worker in workers:
            worker.finish()
        seconds = time.monotonic() - begin
        network.mine_until_resolved()
        outcome = _count(workers, yard, before, audit(network), seconds)
    for line in (*outcome.wrong, *outcome.audit.problems, *outcome.told, *map(str, outcome.audit.losses)):
        say(line)
    return outcome


# Private: the yard ----------------------------------------------------------------------------------------------------


def _plan() -> NetworkPlan:
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    return hub_and_spokes("soak", spokes=["van", "bus", "evse", "grid"], capacity_sat=16_000_000)


class _Yard:
    """What workers and planter share."""

    def __init__(self, network: LightningNetwork, payments: int, say: Say) -> None:
        self.network = network
        self.payments = payments
        self.begin_new = threading.Event()  # cleared while a channel is gone
        self.begin_new.set()
        self.planted: Counter[str] = Counter()
        self.closed_spokes: set[str] = set()
        self.wanted: Fault | None = None  # a fault that needs a hold waits for a worker's
        self.say = say
        self._begin = time.monotonic()
        self._said = self._begin
        self._trouble: BaseException | None = None
        self._changed = threading.Condition()
        self.told_replaced = 0
        self.ended = 0
        self.missed = 0
        self.hub_restarts = 0
        self._under_way: dict[int, float] = {}  # numbers of payments, and since when
        self._freed_s = -math.inf
        self._begun = 0
        self._allowed = payments

    def next_number(self) -> int | None:
        """The next payment's number, once it may begin; None when all have begun or something broke."""
        with self._changed:
            while self._begun >= self._allowed < self.payments and self._trouble is None:
                self._changed.wait(_AGAIN_S)
            if self._begun >= self.payments or self._trouble is not None:
                return None
            self._begun += 1
            self._under_way[self._begun - 1] = time.monotonic()
            return self._begun - 1

    def allow(self, payments: int) -> None:
        """So many payments may begin; the others wait for faults that are still to be planted."""
        with self._changed:
            self._allowed = payments
            self._changed.notify_all()

    def end_one(self, number: int) -> None:
        """A payment ended."""
        with self._changed:
            del self._under_way[number]
            self.ended += 1
            self._changed.notify_all()
            self._tell()

    def miss_one(self) -> None:
        """A call failed, and is made again."""
        with self._changed:
            self.missed += 1
            self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        """Something broke that no fault explains; everybody ends."""
        with self._changed:
            self._trouble = self._trouble or error
            self.begin_new.set()
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether something broke."""
        return self._trouble is not None

    def raise_trouble(self) -> None:
        """Raise what broke."""
        if self._trouble is not None:
            raise self._trouble

    def wait_healing(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds; when no payment ends for a while, look after the network. False when stopped.

        A link can fail after its fault was healed, and somebody has to see it.
        """
        ended = -1
        while not self.wait(condition, _STILL_S):
            if self.stopped:
                return False
            if ended == self.ended:
                self.heal()
            ended = self.ended
            self.free_stuck()
        self.free_stuck()
        return True

    def free_stuck(self) -> None:
        """Start the hub anew when a payment is under way for long.

        An lnd (v0.21.2-beta) that closes a channel while its peer fails an HTLC in it can forget to fail the one before
        that, until it is started anew or the time lock is over; seen once in some fifty forced closes.
        """
        with self._changed:
            since = max(min(self._under_way.values(), default=math.inf), self._freed_s)
        if time.monotonic() - since < _STUCK_S or self.stopped:
            return
        self.network.restart("hub")
        self.heal()
        self.hub_restarts += 1
        self._freed_s = time.monotonic()
        self.say("a payment was under way for long; the hub was started anew")

    def wait(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until a condition over what workers tell holds; False when it does not in time, or something broke."""
        end = time.monotonic() + limit_s
        with self._changed:
            while not condition() and not self.stopped:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, _AGAIN_S))
            return not self.stopped

    def heal(self) -> None:
        """The network in order; a channel that lnd closed, or cannot use any more, is opened anew, which is told."""
        missing = self.network.missing_channels()
        if missing:
            self._without_new_payments(lambda: self._reopen(missing))
        dead = self.network.dead_channels()
        if dead:
            self._without_new_payments(lambda: self.network.replace_channels(dead))
        for hub, spoke in self.network.replaced[self.told_replaced :]:
            self.say(f"the channel of {hub} and {spoke} stayed dead after a fault; it was closed by force and replaced")
        self.told_replaced = len(self.network.replaced)
        self.closed_spokes |= {spoke for _, spoke in (*self.network.replaced, *missing)}

    def _without_new_payments(self, work: Callable[[], None]) -> None:
        self.begin_new.clear()
        self.drain()
        work()
        self.begin_new.set()

    def _reopen(self, missing: Sequence[tuple[str, str]]) -> None:
        self.network.mine_until_resolved()
        for hub, spoke in missing:
            self.network.reopen_channel(hub, spoke)
            self.say(f"lnd had closed the channel of {hub} and {spoke} by itself; it was opened anew")

    def drain(self) -> None:
        """Until nothing is under way in open channels: what is on the chain may need a hundred blocks at once.

        What belongs to an HTLC on the chain stays, so this does not wait for long.
        """
        network = self.network

        def quiet() -> bool:
            return all(not channel.htlcs for name in network.names for channel in network.calls(name).channels())

        network.mine(1)
        self.wait(quiet, _DRAIN_S)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._said < _SAY_EVERY_S and self.ended < self.payments:
            return
        self._said = now
        left_s = (now - self._begin) / self.ended * (self.payments - self.ended)
        self.say(
            f"{self.ended}/{self.payments} payments ended, {sum(self.planted.values())} faults planted, "
            f"about {left_s:.0f} s left"
        )


# Private: paying ------------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """One vehicle that owes one station, with a settlement of its own."""

    yard: _Yard
    payer: str
    payee: str
    clients: Mapping[str, LndClient]
    settlement: LightningSettlement
    choose: random.Random
    meter: Identity
    subjects: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Pay until no payment is left."""
        try:
            while True:
                self.yard.begin_new.wait(_PAYMENT_S)
                number = self.yard.next_number()
                if number is None:
                    return
                self._pay(number)
                self.yard.end_one(number)
        except BaseException as error:  # noqa: BLE001  # of a thread: raised where the threads were started
            self.yard.stop(error)

    def finish(self) -> None:
        """What a program does when everything is up again."""
        self._again(lambda: bool(self.settlement.resume()) or True)

    def _pay(self, number: int) -> None:
        way = self.choose.choices(["invoice", "hold", "keysend"], [5, 3, 2])[0]
        large = self.choose.random() < 0.2
        energy_wh = self.choose.randint(*(_LARGE_WH if large else _SMALL_WH))
        tampered = not large and self.choose.random() < 0.1
        if self.yard.wanted is not None:
            way, tampered = "hold", False
        subject = f"{way}{number}"
        self.subjects.append(subject)
        if way == "invoice":
            self._again(lambda: self._invoice(subject, energy_wh))
        elif way == "hold":
            self._hold(subject, energy_wh, tampered=tampered)
        else:
            self._again(lambda: self._keysend(subject, energy_wh))

    def _invoice(self, subject: str, energy_wh: int) -> bool:
        self.settlement.pay(PAYER, PAYEE, energy_wh * 250, payment_id=subject, memo="soak")
        return True

    def _keysend(self, subject: str, energy_wh: int) -> bool:
        tab = self.settlement.stream_tab(subject, KIND, keysend=True)
        return not tab.finish(now_s=0.0, total_wh=energy_wh).reason

    def _hold(self, subject: str, energy_wh: int, *, tampered: bool) -> None:
        from ledgers.errors import RecordError  # noqa: PLC0415
        from ledgers.lightning.modes import slice_verifier, write_slice_record  # noqa: PLC0415

        tab = self.settlement.hold_tab(subject, KIND, slice_wh=energy_wh)

        def held() -> bool:
            view = self._debt(subject)
            if view.is_cancelling:  # decided, and a node was away
                tab.cancel(view.debt.name)
            elif view.found is None or view.is_begun:
                tab.hold_next()
            return True

        self._again(held, or_cancelled=subject)
        if self._debt(subject).is_cancelled:
            return
        debt = self._debt(subject).debt
        record = write_slice_record(debt, Decimal(energy_wh), self.meter)
        verify = slice_verifier(debt, self.meter.name, self.meter.public_key_der)
        fault = None if tampered else self._wanted()
        scene = self._scene(debt)
        if fault is not None:
            fault.plant(scene)

        def settled() -> bool:
            if self._debt(subject).is_cancelling:  # it could not be held again
                tab.cancel(debt.name)
                return True
            try:
                tab.settle(debt.name, record=record.replace(b'"delivered_wh":"', b'"delivered_wh":"1') if tampered
                           else record, verify=verify)  # fmt: skip
            except RecordError:
                return self._debt(subject).is_cancelled
            return True

        self._again(settled, or_cancelled=subject)
        if fault is not None:
            fault.heal(scene)
            self.yard.planted[fault.name] += 1

    def _again(self, attempt: Callable[[], bool], *, or_cancelled: str = "") -> None:
        """The same call until it is true, whatever node is away; a cancelled debt is an end, too."""
        from ledgers.errors import SettlementError  # noqa: PLC0415

        end = time.monotonic() + _PAYMENT_S
        last: SettlementError | None = None
        while not self.yard.stopped:
            try:
                if attempt():
                    return
            except SettlementError as error:
                last = error
                if or_cancelled and self._debt(or_cancelled).is_cancelled:
                    return
            self.yard.miss_one()
            if time.monotonic() >= end:
                raise last or SettlementError(f"a payment of {self.payer!r} did not end within {_PAYMENT_S:g} s")
            self.yard.wait(lambda: False, _AGAIN_S)

    def _debt(self, subject: str) -> _DebtView:
        return _DebtView(next((debt for debt in self.settlement.debts() if debt.subject == subject), None))

    def _wanted(self) -> Fault | None:
        fault, self.yard.wanted = self.yard.wanted, None
        return fault

    def _scene(self, debt: Debt) -> Scene:
        from ledgers.lightning.nodes.faults import Scene  # noqa: PLC0415

        return Scene(self.yard.network, "hub", self.payer, self.payee, debt.payment_hash, debt.preimage)


@dataclass(frozen=True, slots=True)
class _DebtView:
    """How the debt of a subject stands, if there is one."""

    found: Debt | None

    @property
    def debt(self) -> Debt:
        if self.found is None:
            raise LookupError("no such debt")
        return self.found

    @property
    def is_begun(self) -> bool:
        return self.found is not None and self.found.state.value in {"new", "invoiced"}

    @property
    def is_cancelling(self) -> bool:
        return self.found is not None and self.found.state.value == "cancelling"

    @property
    def is_cancelled(self) -> bool:
        return self.found is not None and self.found.state.value == "cancelled"


@contextmanager
def _worker(yard: _Yard, folder: Path, number: int, seed: int) -> Iterator[_Worker]:
    from ledgers.identity import SeedKeys  # noqa: PLC0415
    from ledgers.lightning.cashier import Times  # noqa: PLC0415
    from ledgers.lightning.client import LndClient, NodeAccess  # noqa: PLC0415
    from ledgers.lightning.modes import Mode  # noqa: PLC0415
    from ledgers.lightning.pricing import Rate  # noqa: PLC0415
    from ledgers.lightning.settlement import LightningSettlement  # noqa: PLC0415
    from ledgers.tariff import load_tariff  # noqa: PLC0415

    payer, payee = PAIRS[number]
    keys = SeedKeys(seed=seed, any_metal=False)
    with ExitStack() as stack:
        clients = {}
        for account, name in ((PAYER, payer), (PAYEE, payee)):
            where = yard.network.address(name)
            access = NodeAccess.from_files(
                name, where.address, certificate=where.tls_cert_path, macaroon=where.macaroon_path
            )
            clients[account] = stack.enter_context(LndClient(access, call_s=2.0))
        settlement = stack.enter_context(
            LightningSettlement(
                folder,
                tariff=load_tariff(Path(__file__).parents[1] / "tariffs" / "example.yaml"),
                rate=Rate("100000", "stated by the soak"),  # one micro-euro is one msat
                mode=Mode.HOLD,
                nodes=clients,
                identity=keys.identity("settlement", "settlement"),
                wall_utc_s=time.time,
                times=Times(pay_s=3, resolve_s=2.0, hold_s=5.0, invoice_s=_INVOICE_S),
            )
        )
        choose = random.Random(f"payments {seed} {number}")
        yield _Worker(yard, payer, payee, clients, settlement, choose, keys.identity("charger", "charger"))


# Private: planting ----------------------------------------------------------------------------------------------------


class _Planter:
    """Plants one fault after the other while the workers pay."""

    def __init__(self, yard: _Yard, workers: list[_Worker], choose: random.Random) -> None:
        self._yard = yard
        self._workers = workers
        self._choose = choose

    def plant(self, count: int) -> None:
        """Plant `count` faults, spread over the payments."""
        for number, fault in enumerate(self._order(count)):
            due, next_due = ((number + step) * self._yard.payments // (count + 1) for step in (1, 2))
            self._yard.allow(next_due)
            if not self._yard.wait_healing(lambda due=due: self._yard.ended >= due):  # type: ignore[misc]
                return
            self._one(fault)
        self._yard.allow(self._yard.payments)
        self._yard.wait_healing(lambda: self._yard.ended >= self._yard.payments)

    def _order(self, count: int) -> list[Fault]:
        from ledgers.lightning.nodes.faults import FAULTS  # noqa: PLC0415

        order: list[Fault] = []
        while len(order) < count:
            order += self._choose.sample(list(FAULTS.values()), min(len(FAULTS), count - len(order)))
        return order

    def _one(self, fault: Fault) -> None:
        from ledgers.lightning.nodes.faults import Scene  # noqa: PLC0415

        yard = self._yard
        payer, payee = self._choose.choice(PAIRS)
        if fault.needs_hold:
            planted = yard.planted[fault.name]
            yard.allow(yard.payments)
            yard.wanted = fault
            yard.wait_healing(lambda: yard.planted[fault.name] > planted or yard.ended >= yard.payments)
            yard.wanted = None
            return
        scene = Scene(yard.network, "hub", payer, payee)
        if fault.closes_channel:
            yard.begin_new.clear()
            yard.closed_spokes |= {payer if fault.name.endswith("payer") else payee}
        begin = time.monotonic()
        fault.plant(scene)
        yard.planted[fault.name] += 1
        missed, ended = yard.missed, yard.ended
        yard.wait(lambda: yard.missed > missed or yard.ended >= ended + len(PAIRS), _MET_S)
        if fault.name == "expired_invoice":
            scene = self._with_invoice(scene)
        if fault.closes_channel:
            yard.drain()
        fault.heal(scene)
        yard.heal()
        yard.begin_new.set()
        yard.say(f"{fault.name} against {scene.payer} and {scene.payee}, healed after {time.monotonic() - begin:.1f} s")

    def _with_invoice(self, scene: Scene) -> Scene:
        """The scene with an invoice that is waiting to be paid, where there is one."""
        for worker in self._workers:
            for debt in list(worker.settlement.debts()):
                if debt.state.value == "invoiced" and not debt.held:
                    return replace(scene, payer=worker.payer, payee=worker.payee, payment_hash=debt.payment_hash)
        return scene


# Private: counting ----------------------------------------------------------------------------------------------------


def _count(workers: list[_Worker], yard: _Yard, before: NetworkAudit, after: NetworkAudit, seconds: float) -> Outcome:
    wrong: list[str] = []
    told: list[str] = []
    paid = cancelled = lost_msat = 0
    moved: Counter[str] = Counter()
    for worker in workers:
        debts = {debt.subject: debt for debt in worker.settlement.debts()}
        wrong += [f"{subject} has no debt" for subject in worker.subjects if subject not in debts]
        for debt in debts.values():
            state = debt.state.value
            lost_msat += sum(lost.msat for lost in debt.lost if not lost.at_most)
            told += [f"{debt.name}, {state}: {lost}" for lost in debt.lost]
            given, received = _at_the_nodes(worker, debt)
            if (state, given, received) not in {("paid", 1, 1), ("cancelled", 0, 0)}:
                wrong.append(f"{debt.name} is {state}, was given {given} times and received {received} times")
            paid += state == "paid"
            cancelled += state == "cancelled"
            moved[worker.payee] += received * debt.amount_msat
            moved[worker.payer] -= given * (debt.amount_msat + debt.fee_msat) + _lost_in_vain(debt)
    wrong += _moved_wrongly(moved, yard, before, after)
    return Outcome(
        payments=yard.payments,
        paid=paid,
        cancelled=cancelled,
        wrong=tuple(wrong),
        lost_msat=lost_msat,
        told=tuple(told),
        faults=dict(yard.planted),
        replaced=len(yard.network.replaced),
        hub_restarts=yard.hub_restarts,
        seconds=seconds,
        audit=after,
    )


def _at_the_nodes(worker: _Worker, debt: Debt) -> tuple[int, int]:
    """How often a debt was given and received, over every preimage that it ever had.

    What the payer's closed channel took was given all the same when the payee had it, and only then.
    """
    from ledgers.lightning.client.errors import LndNotFound  # noqa: PLC0415
    from ledgers.lightning.client.values import InvoiceState, PaymentState, hash_of  # noqa: PLC0415

    given = received = 0
    taken = {lost.payment_hash for lost in debt.lost if lost.owner == PAYER}
    for preimage in (*debt.earlier, debt.preimage):
        payment_hash = hash_of(preimage)
        try:
            succeeded = worker.clients[PAYER].track(payment_hash).state is PaymentState.SUCCEEDED
        except LndNotFound:
            succeeded = False
        try:
            settled = worker.clients[PAYEE].lookup_invoice(payment_hash).state is InvoiceState.SETTLED
        except LndNotFound:
            settled = False
        given += succeeded or (settled and payment_hash in taken)
        received += settled and (succeeded or payment_hash in taken)
    return given, received


def _lost_in_vain(debt: Debt) -> int:
    """What the payer lost of a debt without paying it."""
    lost = [item.msat for item in debt.lost if item.owner == PAYER and item.payment_hash != debt.payment_hash]
    if debt.state.value == "cancelled":
        lost = [item.msat for item in debt.lost if item.owner == PAYER]
    return sum(lost)


def _moved_wrongly(moved: Counter[str], yard: _Yard, before: NetworkAudit, after: NetworkAudit) -> list[str]:
    """Spokes whose channel was never closed must have exactly what the debts say."""
    had = {owner.name: owner.wallet_msat + owner.channels_msat for owner in before.owners}
    wrong = []
    for owner in after.owners:
        found = owner.wallet_msat + owner.channels_msat - had[owner.name]
        if owner.name != "hub" and owner.name not in yard.closed_spokes and found != moved[owner.name]:
            wrong.append(f"{owner.name} has {found} msat more, its debts come to {moved[owner.name]}")
    return wrong
