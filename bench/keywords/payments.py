"""Keywords that count the money of a session on its Lightning nodes: asked of the nodes, held against the journal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from bench.keywords.money import Amount
from bench.keywords.nodes import LightningComponent
from bench.keywords.robot_face import keyword, say
from bench.station.model import LightningSettlement as LightningPart
from drivers.errors import ConfigError, NotOpenError
from ledgers.canonical import Json
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.nodes import history
from ledgers.lightning.nodes.session import NEWEST, QUIET_S, Snapshot, take_snapshot
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, Rate
from ledgers.lightning.session_network import NetworkTold
from ledgers.lightning.settlement import LightningSettlement
from ledgers.records import Direction, Plane
from ledgers.tariff import Price, Remainder, load_tariff

_UNDER_WAY = (DebtState.NEW, DebtState.INVOICED, DebtState.SETTLING, DebtState.CANCELLING)

_HELD_S = 0.5  # what was paid before has left the channels by then


class PaymentKeywords(LightningComponent):
    """Balances and payments on the nodes."""

    @keyword("nodes", "settlement", "getter")
    def get_node_balance(self, node: str) -> Amount:
        """What a node has in its channels, in millisatoshi; money that is held is not counted.

        Example:
        | ${before} = | Get Node Balance | driver |
        """
        balance = self._balance(self.nodes().node(node))
        say(f"{node} has {balance}")
        return balance

    @keyword("nodes", "settlement", "getter")
    def get_balances(self) -> dict[str, Amount]:
        """What every node has in its channels, for `Balances Should Be`: a dictionary, node to amount.

        Example:
        | ${before} = | Get Balances |
        | Run Keyword And Expect Error | * | Settle Session |
        | Balances Should Be | ${before} |
        """
        found = self._balances(*self.nodes().network.names)
        say(", ".join(f"{name} {amount}" for name, amount in found.items()))
        return found

    @keyword("nodes", "settlement", "assertion")
    def balances_should_be(self, balances: dict[str, Amount]) -> None:
        """Fail unless every node has exactly what it had when `Get Balances` was asked."""
        for name, amount in self._balances(*balances).items():
            _equal(amount, balances[name], f"the balance of {name}")

    @keyword("nodes", "settlement", "assertion")
    def node_balance_should_be(self, node: str, amount: Amount) -> None:
        """Fail unless a node has exactly so much in its channels.

        Example:
        | Node Balance Should Be | seller | 5000224750 msat |
        """
        _equal(self._balance(self.nodes().node(node)), amount, f"the balance of {node}")

    @keyword("nodes", "settlement", "assertion")
    def node_balance_should_have_changed_by(self, node: str, amount: Amount) -> None:
        """Fail unless a node has exactly so much more (or, negative, less) than when the session's nodes were ready."""
        name = self.nodes().node(node)
        change = self._balance(name).msat - self.nodes().before.balances[name].own_msat
        _equal(Amount(change), amount, f"the change of {node}'s balance")

    @keyword("nodes", "settlement", "assertion")
    def channel_balance_should_be(self, node: str, peer: str, amount: Amount) -> None:
        """Fail unless a node has exactly so much on its side of its channels with another node, in whole satoshi.

        lnd tells single channels in whole satoshi, rounded down; `Node Balance Should Be` is exact.

        Example:
        | Channel Balance Should Be | hub | driver | 4990950 sat |
        """
        name, other = self.nodes().node(node), self.nodes().node(peer)
        if amount.msat % 1000:
            raise ConfigError(f"{amount} is no whole number of satoshi; ask 'Node Balance Should Be' instead")
        key = self.nodes().network.address(other).public_key
        found = [channel for channel in self._asked(name).channels[name] if channel.peer_key == key]
        if not found:
            raise AssertionError(f"there is no channel between {node} and {peer}")
        _equal(Amount(1000 * sum(channel.local_sat for channel in found)), amount, f"what {node} has with {peer}")

    @keyword("nodes", "settlement", "assertion")
    def payments_should_be(
        self,
        *,
        paid: int | None = None,
        held: int | None = None,
        cancelled: int | None = None,
        under_way: int | None = None,
    ) -> None:
        """Fail unless so many payments of the session stand so; what is left out is not judged.

        ``paid``: the money is the payee's. ``held``: it waits at the payee's node. ``cancelled``: it went back, or was
        never sent. ``under_way``: it is on its way, or was decided and not carried out yet.

        Example:
        | Payments Should Be | paid=0 | cancelled=3 |
        """
        states = Counter(debt.state for debt in self._settlement().debts())
        found = {
            "paid": (paid, states[DebtState.PAID]),
            "held": (held, states[DebtState.HELD]),
            "cancelled": (cancelled, states[DebtState.CANCELLED]),
            "under way": (under_way, sum(states[state] for state in _UNDER_WAY)),
        }
        say(", ".join(f"{number} {name}" for name, (_, number) in found.items()))
        odd = [
            f"{number} payments are {name}, not {wanted}"
            for name, (wanted, number) in found.items()
            if wanted not in {None, number}
        ]
        if odd:
            raise AssertionError("; ".join(odd))

    @keyword("nodes", "settlement", "assertion")
    def payment_of_session_should_be_settled_once(self) -> int:
        """Fail unless each payment of the session was made once, by the nodes' own books; returns how many there are.

        Of each: the payee's node has its invoice settled for exactly the amount, and the payer's node has one payment
        with its hash that succeeded. And no node of the session made any other payment that succeeded.
        """
        debts = self._settlement().debts()
        paid = [debt for debt in debts if debt.state is DebtState.PAID]
        unfinished = [debt for debt in debts if debt.state in {*_UNDER_WAY, DebtState.HELD}]
        if unfinished:
            raise AssertionError(f"payment {unfinished[0].name!r} is {unfinished[0].state.value}, not paid")
        if not paid:
            raise AssertionError("no payment of the session was made")
        for account in sorted(self.nodes().accounts):
            self._require_books(account, paid)
        say(f"{len(paid)} payments, each made once")
        return len(paid)

    @keyword("nodes", "settlement", "assertion")
    def payments_should_follow_from_record(self) -> dict[str, Json]:
        """Fail unless what was paid is what record, tariff and rate make due, to the millisatoshi.

        Each line is computed anew: the record's energy at the charger's meter, times the tariff's price, at the rate of
        the station file, rounded as the tariff says; below 1000 msat nothing is paid. Where something was paid while
        energy flowed, up to 999 msat may be left, either way, for they are carried on. The fee of each payment must be
        what the policies of the nodes on its way make it. Returns what was paid, in msat by kind.
        """
        debts = self._settlement().debts()
        if not self.bench.opened.is_recorded:
            raise ConfigError("nothing is due before the session is recorded; say 'Certify Session' first")
        expected = self._expected()
        found = {kind: _net(debts, kind) for kind in expected}
        session_id = self.bench.opened.session.recorded.desk.session_id
        early = {debt.kind for debt in debts if debt.subject == session_id and debt.state is DebtState.PAID}
        for kind, msat in expected.items():
            if kind not in early or abs(found[kind] - msat) >= SMALLEST_PAYMENT_MSAT:
                _equal(Amount(found[kind]), Amount(msat), f"what was paid for {kind.replace('_', ' ')}")
        told = self._told()
        for payment in told.payments:
            if payment.state != DebtState.PAID.value:
                continue
            if payment.routes is None:
                raise AssertionError(
                    f"node {payment.payer_node!r} does not tell which way {payment.name} took; start it"
                )
            fee = sum(hop.fee_msat for route in payment.routes for hop in route)
            due = sum(_fee(told, hop.node, hop.forwarded_msat) for route in payment.routes for hop in route[:-1])
            _equal(Amount(payment.fee_msat or 0), Amount(fee), f"the fee of {payment.name}")
            _equal(Amount(fee), Amount(due), f"the fee that the hub takes for {payment.name}")
        say(", ".join(f"{kind}: {msat} msat" for kind, msat in found.items()))
        return {**found}

    @keyword("nodes", "settlement", "assertion")
    def money_should_be_conserved(self) -> None:
        """Fail unless each node has exactly what the session's payments make of what it had, and nothing is held.

        What a payer lost, its payees and the nodes on the way have: nothing was made, and nothing is gone.
        """
        told = self._told()
        odd = list(told.odd_balances())
        pending = [
            f"{channel.after.pending_htlcs} payments are under way between {channel.opener} and {channel.peer}"
            for channel in told.channels
            if channel.after is not None and channel.after.pending_htlcs
        ]
        if odd or pending:
            raise AssertionError("; ".join([*pending, *odd]))
        say(", ".join(f"{node.name} {node.change_msat or 0:+d} msat" for node in told.nodes))

    @keyword("nodes", "settlement", "assertion")
    def nothing_should_have_been_paid(self) -> None:
        """Fail unless every node has what it had when the session began, and no payment is made or under way."""
        for account in sorted(self.nodes().accounts):
            self._require_books(account, [])
        for name, amount in self._balances(*self.nodes().network.names).items():
            change = amount.msat - self.nodes().before.balances[name].own_msat
            _equal(Amount(change), Amount(0), f"the change of {name}'s balance")

    # Private.

    def _settlement(self) -> LightningSettlement:
        self.nodes()  # says what kind of station these keywords need
        settlement = self.bench.opened.session.settlement
        assert isinstance(settlement, LightningSettlement)  # a network is opened for no other
        return settlement

    def _told(self) -> NetworkTold:
        return self.nodes().tell(self._settlement())

    def _balance(self, name: str) -> Amount:
        return self._balances(name)[name]

    def _balances(self, *names: str) -> dict[str, Amount]:
        balances = self._asked(*names).balances
        return {name: Amount(balances[name].own_msat) for name in names}

    def _asked(self, *names: str) -> Snapshot:
        """What the nodes say now, these among them; money that is held would never be quiet, and is not waited for."""
        held = any(debt.state is DebtState.HELD for debt in self._settlement().debts())
        found = take_snapshot(self.nodes().network, quiet_s=_HELD_S if held else QUIET_S)
        away = [name for name in names if name not in found.balances]
        if away:
            raise NotOpenError(f"node {away[0]!r} does not answer; start it before its balance is asked for")
        return found

    def _require_books(self, account: str, paid: Sequence[Debt]) -> None:
        """The node of an account must have made and been paid exactly these debts."""
        name = self.nodes().node(account)
        calls = self.nodes().network.calls(name)
        made = Counter(
            payment.payment_hash for payment in history.payments(calls, NEWEST) if payment.state == history.SUCCEEDED
        )
        owed = Counter(debt.payment_hash for debt in paid if debt.payer == account)
        if made != owed:
            raise AssertionError(
                f"node {name!r} made {made.total()} payments ({_short(made)}), not the {owed.total()} ({_short(owed)}) "
                "of the session"
            )
        taken = {invoice.payment_hash: invoice for invoice in history.invoices(calls, NEWEST)}
        settled = Counter(hash_ for hash_, invoice in taken.items() if invoice.state == history.SETTLED)
        due = Counter(debt.payment_hash for debt in paid if debt.payee == account)
        if settled != due:
            raise AssertionError(
                f"node {name!r} was paid {settled.total()} invoices ({_short(settled)}), not the {due.total()} "
                f"({_short(due)}) of the session"
            )
        for debt in paid:
            if debt.payee == account:
                got = Amount(taken[debt.payment_hash].paid_msat)
                _equal(got, Amount(debt.amount_msat), f"what node {name!r} got for {debt.name}")

    def _expected(self) -> dict[str, int]:
        """What each line makes due in msat, by the definition and not by the settlement's own code."""
        session = self.bench.opened.session
        recorded, part = session.recorded, session.station.settlement
        assert isinstance(part, LightningPart)  # `_settlement` has asked
        tariff = load_tariff(session.station.tariff_path)
        rate = Rate(part.rate.eur_per_btc, part.rate.source)
        orders = recorded.facts.log.plan.orders
        available_w = max((order.power_w for order in orders), default=0.0)
        lines: dict[str, tuple[Price, Fraction]] = {
            "availability": (
                tariff.availability,
                _thousandths(available_w) * _thousandths(sum(order.duration_s for order in orders)),
            )
        }
        for kind, price, direction in (
            ("import_energy", tariff.import_energy, Direction.IMPORT),
            ("v2g_energy", tariff.v2g_energy, Direction.EXPORT),
        ):
            figure = recorded.signed.record.energy.figure(recorded.facts.devices.charger_name, Plane.AC, direction)
            lines[kind] = (price, _thousandths(figure.value_wh or 0.0))
        whole = math.floor if tariff.remainder is Remainder.PAYER else math.ceil
        found = {kind: whole(rate.msat(price.exact_micro(quantity))) for kind, (price, quantity) in lines.items()}
        return {kind: msat if msat >= SMALLEST_PAYMENT_MSAT else 0 for kind, msat in found.items()}


def _thousandths(value: float) -> Fraction:
    """A measured value as records and quotes state it: to three decimals."""
    return Fraction(Decimal(f"{value:.3f}"))


def _net(debts: Sequence[Debt], kind: str) -> int:
    """What was paid for a kind of thing, less what was paid back."""
    paid = [debt for debt in debts if debt.kind == kind and debt.state is DebtState.PAID]
    forth = (paid[0].payer, paid[0].payee) if paid else ("", "")
    return sum(debt.amount_msat if (debt.payer, debt.payee) == forth else -debt.amount_msat for debt in paid)


def _fee(told: NetworkTold, node: str, forwarded_msat: int) -> int:
    """What a node asks for forwarding an amount (BOLT 7: base fee, and millionths of the amount, rounded down)."""
    policy = next((found.policy for found in told.nodes if found.name == node), None)
    return 0 if policy is None else policy.base_fee_msat + forwarded_msat * policy.fee_rate_ppm // 1_000_000


def _equal(found: Amount, expected: Amount, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what} is {found}, not {expected}")


def _short(hashes: Counter[str]) -> str:
    return ", ".join(f"{hash_[:8]}..." for hash_ in sorted(hashes)) or "none"
