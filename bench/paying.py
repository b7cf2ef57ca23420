"""Money that moves while energy flows: slices that are held first, or a stream, for both directions of one session.

What is paid for is what certification settles by: the import and export registers of the charger's own meter, from the
moment of plug-in. The driver pays import to the seller; the aggregator pays export to the driver. Each direction is a
line of its own, and both do the same.

*Slices*. The money of a slice is held before its energy flows. So the next slice is held as soon as less is covered
than may flow at the station's highest power until that power is gone again (`reserve`), and some time before that, at
the present power, because a hold takes a while and may be tried again (`lead`). A slice whose energy has flowed is
settled with a record that the charger's key signs; the record is kept in the run folder. At the end the slice that was
begun is settled too, and what it held too much is paid back with the session's record; slices of which nothing flowed
go back.

*Stream*. What flowed since the last payment is paid each minute; some time after a missed payment energy stops.

When nobody pays, nothing is dangerous: power goes to 0 W and the session ends in order, with the reason in its record
(`Cycle.stop_energy`). In stepped time a cycle waits for the nodes, each call with its own dead-line. On the wall clock
the cycle never waits: payments run in a thread of their own, and the cycle judges what is covered so far.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench.cycle import Cycle
from bench.desk import Desk
from bench.rack import Rack
from bench.safety import Snapshot
from bench.session import SessionPlan, SessionRunner
from bench.settlement import Nodes, OpenSettlement
from bench.station import Station
from bench.station.model import LightningSettlement as LightningPart
from drivers.readings import Reading
from ledgers.errors import LedgerError, RecordError, SettlementError
from ledgers.evidence import write_atomically
from ledgers.identity import Identity
from ledgers.lightning.cashier import Times
from ledgers.lightning.client.errors import InvoiceClosed
from ledgers.lightning.client.values import InvoiceState, PaymentState
from ledgers.lightning.journal import Debt, DebtState
from ledgers.lightning.modes import HoldTab, StreamTab, slice_verifier, write_slice_record
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, line_msat, price_of
from ledgers.lightning.settlement import LightningSettlement
from ledgers.ports import Quote
from ledgers.records import Direction

KIND_OF = {Direction.IMPORT: "import_energy", Direction.EXPORT: "v2g_energy"}
"""The line of the quote that a direction's energy is paid by."""

TIMES = Times(pay_s=5, resolve_s=3.0, hold_s=10.0)
"""Shorter than after the session: what is late now is tried again soon, and meanwhile energy flows."""

LEAD_S = 30.0
"""How long before it is needed the next slice is asked for; engineering choice."""
RETRY_S = 10.0
"""Session time between two tries of what a node refused or did not answer; engineering choice."""
RAMP_S = 15.0
"""In which power comes down from its highest to nothing, on a straight line; engineering choice for any charger."""
STRAY_WH = 5.0
"""What a meter may count in a direction that no set-point asked for, before energy stops; engineering choice."""
UNREAD_S = 60.0
"""Longest time that a register may go unread, as certification has it at the ends of a session."""
UNSETTLED_S = 120.0
"""Longest time that a slice which has flowed may wait to be settled, as a stream's grace; engineering choice."""
UNSETTLED_SLICES = 2
"""So many slices which have flowed may wait to be settled; engineering choice."""
LOOK_S = 30.0
"""Session time between two looks whether the money of open slices is still held; engineering choice."""
LAG_SHARE = 0.1
"""Share of the energy that a charger's power comes to by which its register may lag; engineering choice."""

_AT_REST_W = 200.0  # stand-by and running losses of the converter stay below
_PERMIT_S = 60.0  # real time that a set-point waits for its money on the wall clock
_END_S = 120.0  # real time for the payments' thread to end; all of its calls are shorter
_LAST_TRIES = 2  # of a step at the end of a session


@dataclass(frozen=True, slots=True)
class Course:
    """One direction at one moment.

    `energy_wh` is what the settlement meter counted, `age_s` how long ago; `power_w` what flows or is asked for, and
    `highest_w` what could flow at the present set-point, both 0 or more.
    """

    now_s: float
    energy_wh: Decimal
    power_w: float
    highest_w: float
    age_s: float


class Line(Protocol):
    """One direction that is paid for while it flows."""

    @property
    def kind(self) -> str:
        """The line of the quote."""

    def step(self, course: Course) -> None:
        """Pay, hold, settle what is due; waits for nodes. Failures are told by `verdict`."""

    def verdict(self, course: Course) -> str:
        """Why energy must not flow any more, in one sentence; empty while it may. Waits for nobody."""

    def finish(self, course: Course) -> tuple[str, ...]:
        """After the session: settle or give back everything; sentences about what could not be done."""


class Slices:
    """A line of slices: held before they flow, settled with a signed record, one after the other.

    `reserve_s` is how long energy may go on flowing at the highest power after it was decided to stop it; `keep` is
    given each signed record before it is used; `lost` says whether the money of a slice is not held any more.

    A slice whose money went back covers nothing. Those behind it move up, so that the oldest money pays for the oldest
    energy, and another slice is held or energy stops.
    """

    def __init__(
        self,
        tab: HoldTab,
        *,
        kind: str,
        slice_wh: int,
        meter: Identity,
        reserve_s: float,
        keep: Callable[[Debt, bytes], None],
        lead_s: float,
        lost: Callable[[Debt], bool] = lambda _debt: False,
    ) -> None:
        self._tab = tab
        self._kind = kind
        self._slice_wh = slice_wh
        self._meter = meter
        self._reserve_s = reserve_s
        self._keep = keep
        self._lead_s = lead_s
        self._lost = lost
        self._open: list[tuple[Debt, int]] = []  # held and not settled, with the energy at which each begins
        self._records: dict[str, bytes] = {}
        self._covered_wh = 0  # the end of the last slice that was held
        self._hold_again_s = self._settle_again_s = -math.inf
        self._look_s: float | None = None  # session time of the last look
        self._unsettled_s: float | None = None  # since when the oldest slice cannot be settled
        self._unsettled = ""
        self._trouble = ""
        self._broken = ""

    @property
    def kind(self) -> str:
        """The line of the quote."""
        return self._kind

    def step(self, course: Course) -> None:
        """Settle the slices that have flowed, then hold what may flow next."""
        self._look(course)
        while self._open and self._end_wh(self._open[0]) <= course.energy_wh and course.now_s >= self._settle_again_s:
            flowed = self._open[0]
            trouble = self._settle(flowed, Decimal(self._slice_wh))
            if not trouble or flowed not in self._open:
                self._unsettled_s = None
                continue
            if self._went_back(flowed[0]):
                self._drop(flowed, trouble)
                self._unsettled_s = None
                continue
            self._settle_again_s, self._unsettled = course.now_s + RETRY_S, trouble
            if self._unsettled_s is None:
                self._unsettled_s = course.now_s
        while course.highest_w > 0.0 and self._left_wh(course) < self._reserve_wh(course) + self._lead_wh(course):
            if self._broken or course.now_s < self._hold_again_s:
                return
            try:
                debt = self._tab.hold_next()
            except LedgerError as error:
                self._trouble = f"the next slice of {self._slice_wh} Wh could not be held: {error}"
                self._hold_again_s = course.now_s + RETRY_S
                return
            self._open.append((debt, self._covered_wh))
            self._covered_wh += self._slice_wh
            self._trouble = ""

    def verdict(self, course: Course) -> str:
        """Why energy must not flow any more: less is held than may flow until it has stopped."""
        if self._broken:
            return f"payment of {self._kind}: {self._broken}"
        if self._unsettled_s is not None:
            waiting = sum(self._end_wh(found) <= course.energy_wh for found in tuple(self._open))
            if waiting > UNSETTLED_SLICES or course.now_s - self._unsettled_s > UNSETTLED_S:
                return f"payment of {self._kind}: {self._unsettled}"
        if course.highest_w == 0.0:
            stray_wh = -self._left_wh(course)
            said = self._trouble or f"{stray_wh:.1f} Wh were counted that nobody asked for, and no money is held"
            return f"payment of {self._kind}: {said}" if stray_wh > STRAY_WH else ""
        if self._left_wh(course) >= self._reserve_wh(course):
            return ""
        return f"payment of {self._kind}: {self._trouble or 'the money of the next slice has not arrived in time'}"

    def finish(self, course: Course) -> tuple[str, ...]:
        """Settle what flowed, also the slice that was only begun; cancel the others."""
        problems = [
            self._last(found, min(course.energy_wh - found[1], Decimal(self._slice_wh))) for found in tuple(self._open)
        ]
        mine = {found[0].name for found in self._open}
        half_made = [debt.name for debt in self._tab.open() if debt.name not in mine]
        problems += [_told(partial(self._tab.cancel, name)) for name in half_made]
        return tuple(f"payment of {self._kind}: {problem}" for problem in problems if problem)

    def _look(self, course: Course) -> None:
        """Give up the slices whose money is not held any more; one that has flowed finds out when it is settled."""
        if self._look_s is None:
            self._look_s = course.now_s
        if course.now_s - self._look_s < LOOK_S:
            return
        self._look_s = course.now_s
        for debt, start_wh in tuple(self._open):
            if start_wh + self._slice_wh <= course.energy_wh or not self._lost(debt):
                continue
            trouble = _told(partial(self._tab.cancel, debt.name))
            if not trouble or self._went_back(debt):
                gone = next(found for found in self._open if found[0] == debt)
                self._drop(gone, f"the money of slice {debt.name!r} went back before it was settled")

    def _went_back(self, debt: Debt) -> bool:
        """Whether the money of an open slice is given up."""
        state = {found.name: found.state for found in self._tab.open()}.get(debt.name)
        return state in {None, DebtState.CANCELLING}

    def _drop(self, gone: tuple[Debt, int], trouble: str) -> None:
        """Take a slice out whose money went back: those behind it cover its energy."""
        place = self._open.index(gone)
        self._open[place:] = [(debt, start_wh - self._slice_wh) for debt, start_wh in self._open[place + 1 :]]
        self._covered_wh -= self._slice_wh
        self._trouble = trouble

    def _last(self, found: tuple[Debt, int], flowed_wh: Decimal) -> str:
        if flowed_wh <= 0:
            problem = _told(partial(self._tab.cancel, found[0].name))
            if not problem:
                self._open.remove(found)
            return problem
        problem = ""
        for _ in range(_LAST_TRIES):
            problem = self._settle(found, flowed_wh)
            if not problem or self._broken:
                return problem
        if any(debt.name == found[0].name and not debt.decided for debt in self._tab.open()):
            stuck = _told(partial(self._tab.cancel, found[0].name))  # so that the session's settlement can pay for it
            problem += f"; it stays held: {stuck}" if stuck else "; its money went back"
        return problem

    def _settle(self, found: tuple[Debt, int], delivered_wh: Decimal) -> str:
        debt = found[0]
        record = self._records.get(debt.name) or write_slice_record(debt, delivered_wh, self._meter)
        self._records[debt.name] = record  # a second try settles for the same bytes
        verify = slice_verifier(debt, self._meter.name, self._meter.public_key_der)
        unkept = _told(lambda: self._keep(debt, record))
        if unkept:
            return f"slice {debt.name!r} is not settled yet: {unkept}"
        try:
            self._tab.settle(debt.name, record=record, verify=verify)
        except (RecordError, InvoiceClosed) as error:  # it is not paid and never will be
            self._open.remove(found)
            self._broken = str(error)
            return self._broken
        except LedgerError as error:
            return f"slice {debt.name!r} is not settled yet: {error}"
        self._open.remove(found)
        return ""

    def _end_wh(self, found: tuple[Debt, int]) -> int:
        return found[1] + self._slice_wh

    def _left_wh(self, course: Course) -> float:
        return float(self._covered_wh - course.energy_wh)

    def _reserve_wh(self, course: Course) -> float:
        return course.highest_w * (course.age_s + self._reserve_s) / 3600.0

    def _lead_wh(self, course: Course) -> float:
        return min(course.power_w, course.highest_w) * self._lead_s / 3600.0


class Stream:
    """A line of small payments; after a miss it is tried again each `RETRY_S`, or sooner where the grace is short."""

    def __init__(self, tab: StreamTab, *, kind: str, grace_s: float) -> None:
        self._tab = tab
        self._kind = kind
        self._retry_s = min(RETRY_S, grace_s / 4.0)
        self._again_s = -math.inf

    @property
    def kind(self) -> str:
        """The line of the quote."""
        return self._kind

    def step(self, course: Course) -> None:
        """Pay what flowed, when it is time."""
        if course.now_s < self._again_s:
            return
        flow = self._tab.tick(now_s=course.now_s, total_wh=course.energy_wh)
        if flow.reason:
            self._again_s = course.now_s + self._retry_s

    def verdict(self, course: Course) -> str:
        """Why energy must not flow any more: a payment was missed, and the grace is over."""
        flow = self._tab.verdict(now_s=course.now_s)
        return "" if flow.may_flow else f"payment of {self._kind}: {flow.reason}"

    def finish(self, course: Course) -> tuple[str, ...]:
        """Pay the rest; what cannot be paid now is cancelled, so that the session's settlement can."""
        missed = ""
        for _ in range(_LAST_TRIES):
            missed = self._tab.finish(now_s=course.now_s, total_wh=course.energy_wh).reason
            if not missed:
                return ()
        stuck = _told(self._tab.give_up)
        return tuple(f"payment of {self._kind}: {problem}" for problem in (missed, stuck) if problem)


class Paying:
    """The lines of one session, driven by the cycle; a context manager that ends its thread and settles what is open.

    A station that pays only at the end has no lines: then it checks liquidity, and nothing else.
    """

    def __init__(
        self,
        settlement: OpenSettlement,
        lines: Mapping[Direction, Line],
        *,
        station: Station,
        cycle: Cycle,
        begin_s: Callable[[], float],
    ) -> None:
        self._settlement = settlement
        self._lines = dict(lines)
        self._station = station
        self._cycle = cycle
        self._begin_s = begin_s
        limit = station.limits.power_w
        self._highest_w = {Direction.IMPORT: limit.max, Direction.EXPORT: -limit.min}
        self._counts: dict[Direction, _Count] = {}
        self._felt_wh = dict.fromkeys(Direction, 0.0)  # what the charger's power comes to since its register's first
        self._felt: Reading | None = None
        self._failed: dict[Direction, str] = {}
        self._power_w = 0.0
        self._set_point_w: float | None = None  # None before transfer begins
        self._pending_w: float | None = None  # asked for, its money not there yet
        self._begun = self._frozen = False
        self._problems: tuple[str, ...] | None = None
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        if self._lines:
            self._worker = _Worker(self._step) if self._station.clock != "stepped" else None
            self._cycle.permit = self.permit
            self._cycle.listeners.append(self.watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def require_liquidity(self, plan: SessionPlan) -> None:
        """Before energy flows: raise SettlementError when the most expensive course of the plan could not be paid."""
        part = self._station.settlement
        if isinstance(part, LightningPart) and isinstance(self._settlement, LightningSettlement):
            _require_liquidity(self._settlement, part, plan)

    def permit(self, power_w: float) -> None:
        """Asked by the plan's thread before transfer begins and before each set-point: have its money held first."""
        if self._frozen or self._cycle.energy_stop:
            return
        if power_w == 0.0 and self._set_point_w is not None:  # to stop never waits for money
            self._set_point_w = power_w
            return
        missing = [direction.value for direction in self._lines if direction not in self._counts]
        if missing:
            self._cycle.stop_energy(
                f"payment: charger {self._station.charger_name!r} tells no {missing[0]} register, and without one "
                "nobody can pay for what flows; use 'mode: post_paid'"
            )
            return
        self._begun, self._pending_w = True, power_w
        courses = self._courses(self._cycle.now_s, self._asked_w)
        if self._worker is None:
            self._step(courses)
        else:
            self._worker.call(courses, _PERMIT_S)
        self._set_point_w, self._pending_w = power_w, None
        self._judge(self._courses(self._cycle.now_s, (power_w,)))

    def watch(self, _index: int, snapshot: Snapshot, now_s: float) -> None:
        """Follow the registers, pay what is due, and stop the energy that nobody pays for; a listener of the cycle."""
        charger = snapshot.charger
        if self._frozen or charger is None:
            return
        if charger.ac_power.is_good:
            self._power_w = charger.ac_power.value
            self._feel(charger.ac_power)
        self._count(Direction.IMPORT, charger.import_energy)
        self._count(Direction.EXPORT, charger.export_energy)
        if not self._begun:
            return
        courses = self._courses(now_s, self._asked_w)
        if self._worker is None:
            self._step(courses)
        else:
            self._worker.offer(courses)
            if self._worker.failure is not None:
                self._cycle.stop_energy(f"payment: the thread of payments ended, {self._worker.failure!r}")
        if self._set_point_w is not None and self._asked_w:
            self._judge(self._courses(now_s, (self._set_point_w,)))

    def freeze(self) -> None:
        """The session is over: what is counted from here on is nobody's."""
        self._frozen = True

    def finish(self) -> tuple[str, ...]:
        """Settle or give back everything, once; sentences about what could not be done. Raises no SettlementError."""
        self.freeze()
        if self._problems is None:
            self._problems = ()
            if self._worker is not None and not self._worker.close(_END_S):
                self._problems = (f"payment: a node was waited for longer than {_END_S:g} s; what is open stays open",)
            elif self._begun:
                courses = self._courses(self._cycle.now_s, ())
                self._problems = tuple(
                    problem for direction, line in self._lines.items() for problem in line.finish(courses[direction])
                )
        return self._problems

    @property
    def _asked_w(self) -> tuple[float, ...]:
        """The set-point in force and the one that waits for its money; none before transfer and once energy stops."""
        if self._cycle.energy_stop or self._cycle.trip is not None:
            return ()
        return tuple(power_w for power_w in (self._set_point_w, self._pending_w) if power_w is not None)

    def _step(self, courses: Mapping[Direction, Course]) -> None:
        for direction, line in self._lines.items():
            failed = _told(partial(line.step, courses[direction]))  # the journal cannot be written, for example
            if failed:
                self._failed[direction] = f"payment of {line.kind}: {failed}"

    def _judge(self, courses: Mapping[Direction, Course]) -> None:
        for direction, line in self._lines.items():
            course = courses[direction]
            reason = self._failed.get(direction) or line.verdict(course)
            charger = f"payment of {line.kind}: charger {self._station.charger_name!r}"
            if not reason and course.age_s > UNREAD_S:
                reason = f"{charger} has told no energy for {course.age_s:.0f} s"
            felt_wh = self._felt_wh[direction]
            may_lag_wh = max(self._highest_w.values()) * UNREAD_S / 3600.0 + LAG_SHARE * felt_wh
            if not reason and felt_wh - float(course.energy_wh) > may_lag_wh:
                reason = (
                    f"{charger} counted {course.energy_wh:.1f} Wh, and its power comes to {felt_wh:.1f} Wh; its "
                    f"{direction.value} register stands still"
                )
            if reason:
                self._cycle.stop_energy(reason)

    def _count(self, direction: Direction, reading: Reading) -> None:
        if not reading.is_good:
            return
        known = self._counts.get(direction)
        # Certification counts from the first reading after plug-in.
        if known is None or known.first_s < self._begin_s() - 1e-6:
            known = _Count(reading.mono_s, reading.value, reading.mono_s, reading.value)
            self._felt_wh[direction] = 0.0
        if reading.value < known.last_wh:  # what it counted before stays counted, and is settled
            self._cycle.stop_energy(
                f"payment of {KIND_OF[direction]}: the {direction.value} register of charger "
                f"{self._station.charger_name!r} ran backwards, from {known.last_wh:.1f} Wh to {reading.value:.1f} Wh, "
                "so what flows cannot be counted"
            )
            return
        self._counts[direction] = _Count(known.first_s, known.first_wh, reading.mono_s, reading.value)

    def _feel(self, reading: Reading) -> None:
        """Add up power over time, for a register that stands still; over a longer gap the register's age is judged."""
        earlier, self._felt = self._felt, reading
        if earlier is None or not 0.0 < reading.mono_s - earlier.mono_s <= UNREAD_S:
            return
        energy_wh = (earlier.value + reading.value) / 2.0 * (reading.mono_s - earlier.mono_s) / 3600.0
        self._felt_wh[Direction.IMPORT] += max(0.0, energy_wh)
        self._felt_wh[Direction.EXPORT] += max(0.0, -energy_wh)

    def _courses(self, now_s: float, asked_w: Sequence[float]) -> dict[Direction, Course]:
        found = {}
        for direction, sign in ((Direction.IMPORT, 1.0), (Direction.EXPORT, -1.0)):
            count = self._counts[direction]
            at_rest_w = _AT_REST_W if direction is Direction.IMPORT and asked_w else 0.0
            wanted_w = max((sign * power_w for power_w in asked_w), default=0.0)
            found[direction] = Course(
                now_s=now_s,
                energy_wh=count.energy_wh,
                power_w=max(wanted_w, sign * self._power_w, 0.0),
                highest_w=self._highest_w[direction] if wanted_w > 0.0 else at_rest_w,
                age_s=max(0.0, now_s - count.last_s),
            )
        return found


def open_paying(station: Station, rack: Rack, desk: Desk, runner: SessionRunner, nodes: Nodes) -> Paying:
    """What pays for this station's session while it runs, to be entered before the vehicle is plugged in.

    `nodes` are the desk's, by account.

    Raises SettlementError when slices of this size can never be paid, or the session's name does not fit into terms.
    """
    lines: dict[Direction, Line] = {}
    settlement, part = desk.settlement, station.settlement
    if isinstance(settlement, LightningSettlement) and isinstance(part, LightningPart):
        for direction, kind in KIND_OF.items():
            if part.mode == "hold" and part.slice_wh is not None:
                lines[direction] = _slices(station, rack.run_folder, desk, nodes, kind, part.slice_wh)
            elif part.mode == "stream":
                tab = settlement.stream_tab(
                    desk.session_id,
                    kind,
                    every_s=part.every_s,
                    every_wh=part.every_wh,
                    grace_s=part.grace_s,
                    keysend=part.keysend,
                    times=TIMES,
                )
                lines[direction] = Stream(tab, kind=kind, grace_s=part.grace_s)
    return Paying(settlement, lines, station=station, cycle=rack.cycle, begin_s=lambda: runner.begin_s)


def bind_session(settlement: OpenSettlement, session_id: str, record_sha256: str) -> None:
    """Say which record a session became, where something was paid or begun for it while energy flowed."""
    if isinstance(settlement, LightningSettlement) and was_begun(settlement, session_id):
        settlement.bind(session_id, record_sha256)


def was_begun(settlement: OpenSettlement, session_id: str) -> bool:
    """Whether anything was paid or begun while energy flowed, also when it went back."""
    return isinstance(settlement, LightningSettlement) and bool(_debts(settlement, session_id))


def is_unfinished(settlement: OpenSettlement, session_id: str) -> bool:
    """Whether a payment of the session was begun or decided whose end is not known yet; money merely held is not."""
    return isinstance(settlement, LightningSettlement) and any(
        _may_be_paid(debt) or debt.state is DebtState.CANCELLING
        for debt in _debts(settlement, session_id)
        if debt.state not in _ENDED
    )


def finish_decided(settlement: OpenSettlement) -> None:
    """Go on with what was decided while energy flowed, as after a crash; what cannot be done now stays as it is."""
    if isinstance(settlement, LightningSettlement):
        _told(settlement.resume)


def open_debts(settlement: OpenSettlement) -> tuple[Debt, ...]:
    """Debts of a settlement over Lightning that are neither paid nor cancelled; of another one there are none."""
    if not isinstance(settlement, LightningSettlement):
        return ()
    return tuple(debt for debt in settlement.debts() if debt.state not in _ENDED)


def what_is_owed(settlement: OpenSettlement, session_id: str, quote: Quote | None) -> tuple[str, ...]:
    """After a settlement that failed: what was paid all the same, and who still owes what; one sentence each.

    What is the payee's to take, or of which nobody knows how it ended, is told by its name and not as owed.
    """
    if not isinstance(settlement, LightningSettlement):
        return ()
    flowed = _debts(settlement, session_id)
    last = () if quote is None else settlement.debts_of_record(quote.record_sha256)
    found = [f"{msat} msat of {kind} were paid while energy flowed" for kind, msat in _sums(flowed)]
    found += [
        f"{debt.payer} paid {debt.payee} {debt.amount_msat} msat of {debt.kind} at the end"
        for debt in last
        if debt.state is DebtState.PAID
    ]
    moved = [debt for debt in (*flowed, *last) if debt.state is DebtState.PAID or _may_be_paid(debt)]
    for line in () if quote is None else quote.lines:
        owed = math.floor(line_msat(line, settlement.rate))
        for debt in moved:
            if debt.kind == line.kind:
                owed -= debt.amount_msat if debt.payer == line.payer else -debt.amount_msat
        if owed >= SMALLEST_PAYMENT_MSAT:
            found.append(f"{line.payer} still owes {line.payee} {owed} msat of {line.kind}")
        elif owed <= -SMALLEST_PAYMENT_MSAT:
            found.append(f"{line.payee} has to pay {line.payer} back {-owed} msat of {line.kind}")
    begun = [debt for debt in last if debt.state is not DebtState.NEW]  # what no node knows yet is owed, and no more
    found += [_state_of(debt) for debt in (*flowed, *begun) if debt.state not in _ENDED]
    return tuple(found)


def _sums(debts: Sequence[Debt]) -> Sequence[tuple[str, int]]:
    """What was paid in msat, by kind."""
    paid: dict[str, int] = {}
    for debt in debts:
        if debt.state is DebtState.PAID:
            paid[debt.kind] = paid.get(debt.kind, 0) + debt.amount_msat
    return tuple(paid.items())


def _may_be_paid(debt: Debt) -> bool:
    """Whether money may have moved for a debt that is not paid: the preimage was given, or an answer was lost."""
    if debt.held:
        return debt.decided
    return debt.state in {DebtState.INVOICED, DebtState.CANCELLING} or (debt.keysend and debt.state is DebtState.NEW)


_ENDED = {DebtState.PAID, DebtState.CANCELLED}
_STATE = {
    DebtState.HELD: "is held, and goes back by itself when nobody settles it",
    DebtState.SETTLING: "is the payee's to take, and the payer's node does not know it yet",
    DebtState.CANCELLING: "was to go back, and whether it did is not known",
}


def _state_of(debt: Debt) -> str:
    """What became of a debt that is neither paid nor cancelled."""
    said = _STATE.get(debt.state, "was begun, and how it ended is not known")
    return f"{debt.name!r} of {debt.amount_msat} msat {said}"


def _slices(station: Station, folder: Path, desk: Desk, nodes: Nodes, kind: str, slice_wh: int) -> Slices:
    settlement = desk.settlement
    assert isinstance(settlement, LightningSettlement)  # the caller checked
    worth = _worth_msat(settlement, kind, Fraction(slice_wh))
    if worth < SMALLEST_PAYMENT_MSAT:
        raise SettlementError(
            f"station {station.name!r}: a slice of {slice_wh} Wh of {kind} is worth {worth} msat, and nothing below "
            f"{SMALLEST_PAYMENT_MSAT} msat is paid; make 'slice_wh' larger"
        )

    records = folder / "settlement" / "slices"
    records.mkdir(exist_ok=True)

    def keep(debt: Debt, record: bytes) -> None:
        write_atomically(records / f"{debt.name}.json", record)

    return Slices(
        settlement.hold_tab(desk.session_id, kind, slice_wh=slice_wh, times=TIMES),
        kind=kind,
        slice_wh=slice_wh,
        meter=desk.keyring.witness(station.charger_name),
        reserve_s=2.0 * station.cycle_s + RAMP_S / 2.0,
        keep=keep,
        lead_s=LEAD_S,
        lost=partial(_is_lost, nodes),
    )


def _is_lost(nodes: Nodes, debt: Debt) -> bool:
    """Whether a held debt's money is back with its payer, or on its way there; False when a node cannot be asked.

    The payee's node alone cannot tell: one that was killed may call an invoice accepted whose money it has lost
    (see `ledgers.lightning.cashier`).
    """
    try:
        if nodes[debt.payee].lookup_invoice(debt.payment_hash).state is InvoiceState.CANCELED:
            return True
        return nodes[debt.payer].track(debt.payment_hash).state is PaymentState.FAILED
    except LedgerError:  # who is away cannot take his money back, and is asked again
        return False


def _require_liquidity(settlement: LightningSettlement, part: LightningPart, plan: SessionPlan) -> None:
    for kind, payer, payee, amount_msat, payments in _most_expensive(settlement, part, plan):
        if amount_msat < SMALLEST_PAYMENT_MSAT:
            continue
        with_fees = amount_msat + payments * settlement.fees.msat(-(-amount_msat // payments))
        try:
            settlement.check_liquidity(payer, payee, with_fees)
        except LedgerError as error:
            raise SettlementError(
                f"the session is not begun, because {payer} could not pay {payee} for its {kind}, which may come to "
                f"{amount_msat} msat and {with_fees - amount_msat} msat of fees: {error}"
            ) from error


def _most_expensive(
    settlement: LightningSettlement, part: LightningPart, plan: SessionPlan
) -> Sequence[tuple[str, str, str, int, int]]:
    """For each direction kind, payer, payee, the most that it costs in msat, and in how many payments."""
    energies: dict[Direction, Fraction] = {direction: _planned_wh(plan, direction) for direction in Direction}
    found = []
    for direction, kind in KIND_OF.items():
        _, payer, payee = price_of(settlement.tariff, kind)
        energy_wh, payments = energies[direction], 1
        if part.mode == "hold" and part.slice_wh is not None:
            # One slice more is held than flows; of import also where none is planned, for stand-by.
            needed = energy_wh > 0 or direction is Direction.IMPORT
            payments = math.ceil(energy_wh / part.slice_wh) + 1
            energy_wh = Fraction(payments * part.slice_wh if needed else 0)
        elif part.mode == "stream":
            payments = math.ceil(plan.duration_s / part.every_s) + 1
            payments += math.ceil(energy_wh / part.every_wh) if part.every_wh is not None else 0
        amount = settlement.rate.msat(price_of(settlement.tariff, kind)[0].exact_micro(energy_wh))
        if direction is Direction.EXPORT:
            available = sum(Fraction(str(order.duration_s)) for order in plan.orders)
            highest_w = max((Fraction(str(order.power_w)) for order in plan.orders), default=Fraction(0))
            amount += settlement.rate.msat(settlement.tariff.availability.exact_micro(highest_w * available))
        found.append((kind, payer, payee, math.ceil(amount), payments))
    return found


def _planned_wh(plan: SessionPlan, direction: Direction) -> Fraction:
    sign = 1 if direction is Direction.IMPORT else -1
    points = plan.set_points()
    ends = [*(at_s for at_s, _ in points[1:]), plan.duration_s]
    return sum(
        (
            max(Fraction(0), sign * Fraction(str(power_w))) * (Fraction(str(end_s)) - Fraction(str(at_s))) / 3600
            for (at_s, power_w), end_s in zip(points, ends, strict=True)
        ),
        Fraction(0),
    )


def _worth_msat(settlement: LightningSettlement, kind: str, energy_wh: Fraction) -> int:
    price, _, _ = price_of(settlement.tariff, kind)
    return math.floor(settlement.rate.msat(price.exact_micro(energy_wh)))


def _debts(settlement: LightningSettlement, session_id: str) -> tuple[Debt, ...]:
    return tuple(debt for debt in settlement.debts() if debt.subject == session_id)


def _told(step: Callable[[], object]) -> str:
    """What a step of a settlement raised, empty when it was done."""
    try:
        step()
    except LedgerError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Count:
    """A register since plug-in."""

    first_s: float
    first_wh: float
    last_s: float
    last_wh: float

    @property
    def energy_wh(self) -> Decimal:
        """To the milliwatt-hour, as the quote has it."""
        return Decimal(f"{self.last_wh - self.first_wh:.3f}")


class _Worker:
    """A thread that takes the newest courses and steps the lines; older ones that it had no time for are dropped."""

    def __init__(self, step: Callable[[Mapping[Direction, Course]], None]) -> None:
        self._step = step
        self._changed = threading.Condition()
        self._waiting: Mapping[Direction, Course] | None = None
        self._taken = self._done = 0
        self._ending = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="payments", daemon=True)
        self._thread.start()

    def offer(self, courses: Mapping[Direction, Course]) -> None:
        """Have the lines stepped as soon as the step under way has ended."""
        with self._changed:
            self._waiting = courses
            self._changed.notify_all()

    def call(self, courses: Mapping[Direction, Course], timeout_s: float) -> bool:
        """As `offer`, and wait until a step that began after this has ended; whether it has."""
        end = time.monotonic() + timeout_s
        with self._changed:
            self._waiting = courses
            mine = self._taken + 1
            self._changed.notify_all()
            while self._done < mine and self._thread.is_alive():
                left_s = end - time.monotonic()
                if left_s <= 0.0:
                    return False
                self._changed.wait(min(left_s, 1.0))
            return self._done >= mine

    def close(self, timeout_s: float) -> bool:
        """End after the step under way; whether the thread has ended in time."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while self._waiting is None and not self._ending:
                        self._changed.wait()
                    if self._ending:
                        return
                    courses, self._waiting = self._waiting, None
                    self._taken += 1
                assert courses is not None  # waited for
                self._step(courses)
                with self._changed:
                    self._done = self._taken
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  # told by the cycle, which stops the energy
            self.failure = error
        finally:
            with self._changed:
                self._changed.notify_all()
