"""One charging session: plug in, start, follow the grid's orders, stop, plug out.

A schedule is a baseline and a list of grid orders, as in section 9 of "Certifying battery usage for V2G and second life
with a blockchain-based framework" (Augello et al., Computer Networks 2023): the grid operator orders a load decrease or
a load increase in a time frame, and charging is stopped, started or reversed. A *load decrease* takes its power off the
baseline (and so discharges the vehicle when the baseline is smaller), a *load increase* adds it. V2G and G2V are then
told apart by the sign of power: positive charges the vehicle.

>>> plan = SessionPlan(name="evening", duration_s=600, baseline_w=3000.0, orders=(
...     GridOrder(order_id="o1", direction="load_decrease", start_s=60, duration_s=300, power_w=8000.0),))
>>> plan.set_points()
((0.0, 3000.0), (60.0, -5000.0), (360.0, 3000.0))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.rack import Rack
from bench.safety import Snapshot
from drivers.errors import BenchError, EnergyStopped, InterlockTripped
from drivers.roles import ChargerState, SetPower

_PLUG_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 60.0
_RAMP_DOWN_S = 60.0
_AT_REST_W = 200.0
_SAME_TIME_S = 1e-6  # 0.1 s + 0.2 s and 0.3 s are one moment, though not one binary number


class GridOrder(BaseModel):
    """An order of the grid operator; times in seconds from the start of energy transfer, power a magnitude in W."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    order_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    direction: Literal["load_decrease", "load_increase"]
    start_s: Annotated[float, Field(ge=0)]
    duration_s: Annotated[float, Field(gt=0)]
    power_w: Annotated[float, Field(gt=0)]

    @property
    def end_s(self) -> float:
        """When it ends, in seconds from the start of energy transfer."""
        return self.start_s + self.duration_s

    @property
    def change_w(self) -> float:
        """What it adds to the load at the charger."""
        return self.power_w if self.direction == "load_increase" else -self.power_w


class SessionPlan(BaseModel):
    """A session's schedule: baseline power and the orders above it, which may not overlap."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    duration_s: Annotated[float, Field(gt=0)]
    baseline_w: float = 0.0
    orders: tuple[GridOrder, ...] = ()

    @model_validator(mode="after")
    def _orders_fit(self) -> Self:
        ordered = sorted(self.orders, key=lambda order: order.start_s)
        for order in ordered:
            if order.end_s > self.duration_s + _SAME_TIME_S:
                raise ValueError(
                    f"order {order.order_id!r} ends at {order.end_s:g} s, after the session's {self.duration_s:g} s"
                )
        for before, after in itertools.pairwise(ordered):
            if after.start_s < before.end_s - _SAME_TIME_S:
                raise ValueError(
                    f"orders {before.order_id!r} and {after.order_id!r} overlap; a vehicle follows one at a time"
                )
        if len({order.order_id for order in self.orders}) != len(self.orders):
            raise ValueError("two orders have the same order_id; give each its own")
        return self

    def power_at(self, at_s: float) -> float:
        """Set-point (AC power, + charges) at a time from the start of energy transfer."""
        for order in self.orders:
            if order.start_s <= at_s < order.end_s:
                return self.baseline_w + order.change_w
        return self.baseline_w

    def set_points(self) -> tuple[tuple[float, float], ...]:
        """Time and power of each change of the set-point, in order of time."""
        times = {0.0, *(order.start_s for order in self.orders), *(order.end_s for order in self.orders)}
        changes: list[tuple[float, float]] = []
        for at_s in sorted(times):
            power_w = self.power_at(at_s)
            if at_s < self.duration_s and (not changes or changes[-1][1] != power_w):
                changes.append((at_s, power_w))
        return tuple(changes)


def demo_plan(duration_s: float = 3600.0) -> SessionPlan:
    """The session that `v2gbench demo` runs: charging at 3 kW, reversed to -7 kW, then raised to 8 kW.

    All times scale with `duration_s`.
    """
    part = duration_s / 12.0
    return SessionPlan(
        name="demo",
        duration_s=duration_s,
        baseline_w=3000.0,
        orders=(
            GridOrder(order_id="dso-1", direction="load_decrease", start_s=part, duration_s=4 * part, power_w=10_000.0),
            GridOrder(
                order_id="dso-2", direction="load_increase", start_s=7 * part, duration_s=3 * part, power_w=5_000.0
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class SessionLog:
    """What happened, for certification: session times in s, UTC in s since 1970."""

    plan: SessionPlan
    begin_s: float  # plug-in seen
    end_s: float
    begin_utc_s: float
    end_utc_s: float
    transfer_s: float  # start of energy transfer, the zero of the plan's times
    set_points: tuple[SetPower, ...]
    tripped: str  # sentence, empty when nothing tripped
    aborted: str  # sentence, empty when it ran to its end


Progress = Callable[[float, float, Snapshot], None]
"""Called after each cycle with seconds done, seconds in all, and the latest readings."""


class SessionRunner:
    """Runs one session on an opened rack, step by step; `run` does all of them."""

    def __init__(self, rack: Rack, plan: SessionPlan, *, progress: Progress | None = None) -> None:
        self._rack = rack
        self.plan = plan
        self._begin_s = self._end_s = rack.cycle.now_s
        self._begin_utc_s = self._end_utc_s = rack.clock.utc_s
        self._transfer_s: float | None = None
        self._set_points: list[SetPower] = []
        self._tripped = self._aborted = ""
        if progress is not None:
            rack.cycle.listeners.append(
                lambda _index, snapshot, now_s: progress(
                    min(plan.duration_s, now_s - (self._transfer_s if self._transfer_s is not None else now_s)),
                    plan.duration_s,
                    snapshot,
                )
            )

    def run(self) -> SessionLog:
        """Plug in, start, follow the schedule, stop, plug out. A trip or refusal ends the session, never the record.

        When energy must stop because nobody pays for it, it is stopped and unplugged before its time. The rack knows
        the verdict afterwards; KeyboardInterrupt and the like pass through.
        """
        try:
            try:
                self.plug_in()
                self.start()
                self.follow()
                self.stop()
            except EnergyStopped:  # `finish` has its sentence
                charger = self._rack.cycle.snapshot.charger
                if charger is not None and charger.state in _RUNNING:
                    self.stop()
            self.unplug()
        except InterlockTripped as error:
            self._tripped = str(error)
        except BenchError as error:
            self._aborted = str(error)
        return self.finish()

    def plug_in(self) -> None:
        """Have the cable put in and wait until the charger sees the vehicle."""
        cycle = self._rack.cycle
        cycle.wait(self._rack.station.cycle_s)
        self._begin_s, self._begin_utc_s = cycle.now_s, self._rack.clock.utc_s
        done = self._rack.operator.plug_in()
        cycle.note("plugged_in", {"by": done.by, "means": done.means.value})
        cycle.wait_until(
            lambda snapshot: snapshot.charger is not None and snapshot.charger.state is not ChargerState.AVAILABLE,
            timeout_s=_PLUG_TIMEOUT_S,
            what="the charger seeing the plugged-in vehicle",
        )

    def start(self) -> None:
        """Begin energy transfer at 0 W; the plan's times count from here."""
        cycle = self._rack.cycle
        cycle.start()
        cycle.wait_until(
            lambda snapshot: snapshot.charger is not None and snapshot.charger.state in _RUNNING,
            timeout_s=_START_TIMEOUT_S,
            what="the start of energy transfer",
        )
        self._transfer_s = cycle.now_s

    @property
    def begin_s(self) -> float:
        """Session time at which the vehicle was plugged in; before that, when this was made."""
        return self._begin_s

    @property
    def transfer_utc_s(self) -> float:
        """UTC at which energy transfer began, seconds since 1970; BenchError before that."""
        return self._begin_utc_s + self._transfer_began_s() - self._begin_s

    @property
    def plan_s(self) -> float:
        """Seconds since energy transfer began, the time of the plan; BenchError before that."""
        return self._rack.cycle.now_s - self._transfer_began_s()

    @property
    def set_points(self) -> tuple[SetPower, ...]:
        """What became of each set-point so far, in order of time."""
        return tuple(self._set_points)

    def follow(self, duration_s: float | None = None) -> None:
        """Follow the schedule from where it stands, to its end or for `duration_s`."""
        transfer_s = self._transfer_began_s()
        start_s = self.plan_s
        end_s = self.plan.duration_s if duration_s is None else min(self.plan.duration_s, start_s + duration_s)
        changes = [(at_s, power_w) for at_s, power_w in self.plan.set_points() if start_s <= at_s < end_s]
        if start_s < end_s and (not changes or changes[0][0] > start_s):
            changes.insert(0, (start_s, self.plan.power_at(start_s)))
        for at_s, power_w in changes:
            self._wait_until(transfer_s + at_s)
            self.set_power(power_w)
        self._wait_until(transfer_s + end_s)

    def set_power(self, power_w: float) -> SetPower:
        """Ask for AC power (+ charges) outside of the schedule, which takes over again with the next `follow`."""
        result = self._rack.cycle.set_power(power_w)
        self._set_points.append(result)
        return result

    def stop(self) -> None:
        """Ramp to 0 W and end energy transfer."""
        cycle = self._rack.cycle
        cycle.set_power(0.0)
        cycle.wait_until(
            lambda snapshot: snapshot.charger is not None and abs(snapshot.charger.ac_power.value) < _AT_REST_W,
            timeout_s=_RAMP_DOWN_S,
            what="power coming down to 0 W",
        )
        cycle.stop()
        cycle.wait(self._rack.station.cycle_s)

    def unplug(self) -> None:
        """Have the cable taken out."""
        cycle = self._rack.cycle
        done = self._rack.operator.unplug()
        cycle.note("unplugged", {"by": done.by, "means": done.means.value})
        cycle.wait(2.0 * self._rack.station.cycle_s)

    def finish(self, *, aborted: str = "") -> SessionLog:
        """Tell the rack how it ended and return what happened; on a trip the safe state is recorded first.

        `aborted` says in one sentence why the session ends before its time, for a caller who runs it step by step.
        """
        cycle, rack = self._rack.cycle, self._rack
        if cycle.trip is not None and not self._tripped:
            self._tripped = cycle.trip.finding.sentence
        self._aborted = cycle.energy_stop or self._aborted or aborted
        if self._tripped or self._aborted:
            cycle.settle(_RAMP_DOWN_S, silent_s=rack.silent_settle_s)
        self._end_s, self._end_utc_s = cycle.now_s, rack.clock.utc_s
        if self._tripped:
            rack.conclude("tripped", self._tripped)
        elif self._aborted:
            rack.conclude("aborted", self._aborted)
        else:
            rack.conclude("completed")
        return SessionLog(
            plan=self.plan,
            begin_s=self._begin_s,
            end_s=self._end_s,
            begin_utc_s=self._begin_utc_s,
            end_utc_s=self._end_utc_s,
            transfer_s=self._transfer_s if self._transfer_s is not None else self._begin_s,
            set_points=tuple(self._set_points),
            tripped=self._tripped,
            aborted=self._aborted,
        )

    def _transfer_began_s(self) -> float:
        if self._transfer_s is None:
            raise BenchError("energy transfer has not begun; start the session first")
        return self._transfer_s

    def _wait_until(self, at_s: float) -> None:
        left_s = at_s - self._rack.cycle.now_s
        if left_s > 1e-9:
            self._rack.cycle.wait(left_s)


_RUNNING = frozenset({ChargerState.CHARGING, ChargerState.DISCHARGING, ChargerState.SUSPENDED})
