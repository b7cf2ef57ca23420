"""Keywords of one charging session, from plug-in to plug-out, and of the grid orders that it follows."""

from __future__ import annotations

import enum

from pydantic import ValidationError

from bench.keywords.component import Component, keyword
from bench.keywords.opened import Phase
from bench.keywords.quantities import NO_DURATION, Duration, Power
from bench.keywords.robot_face import say
from bench.session import GridOrder
from drivers.errors import ConfigError

LONGEST_SESSION = Duration(7 * 24 * 3600.0)  # of the remuneration contract's baseline
_NOTHING = Power(0.0)


class OrderKind(enum.StrEnum):
    """What the grid operator wants: less load (which may reverse the flow) or more of it."""

    LOAD_DECREASE = "load_decrease"
    LOAD_INCREASE = "load_increase"


class SessionKeywords(Component):
    """Plug in, start, follow, stop, plug out."""

    @keyword("session")
    def plug_in_vehicle(self) -> None:
        """Put the cable into the vehicle and wait until the charger sees it.

        Emulated, the site does it; on metal the operator is asked.
        """
        self._must_be(Phase.NONE, "the vehicle is plugged in already")
        self.bench.opened.runner.plug_in()
        self.bench.opened.phase = Phase.PLUGGED

    @keyword("session")
    def start_session(self, lasts: Duration, baseline: Power = _NOTHING) -> None:
        """Begin energy transfer at 0 W, and declare on the ledger what the vehicle would draw without orders.

        `lasts` is the length of the schedule that `Follow Grid Orders` follows; `baseline` its power (+ charges). Over
        Lightning it fails, and transfer does not begin, when the schedule could not be paid for.
        """
        self._must_be(Phase.PLUGGED, "a session starts once the vehicle is plugged in, and only once")
        if not lasts:
            raise ConfigError("a session of 0 s has no schedule; give it a length, for example lasts=1 h")
        if lasts > LONGEST_SESSION:
            raise ConfigError(f"a session of {lasts} is longer than the {LONGEST_SESSION} that a baseline may cover")
        opened = self.bench.opened
        plan = opened.session.payable_plan(duration_s=float(lasts), baseline_w=float(baseline))
        opened.phase = Phase.TRANSFER
        opened.runner.start()
        opened.session.schedule(plan)
        opened.acted()

    @keyword("session", "order")
    def announce_grid_order(
        self, order_id: str, kind: OrderKind, power: Power, *, starts_in: Duration, lasts: Duration
    ) -> None:
        """Put an order of the grid operator on the ledger and into the schedule of the running session.

        A load decrease takes `power` off the baseline, and so discharges the vehicle when the baseline is smaller; a
        load increase adds it. Orders may not overlap, begin in the past, or end after the session.

        Example:
        | Announce Grid Order | dso-1 | load decrease | 10 kW | starts_in=5 min | lasts=20 min |
        """
        opened = self.bench.opened
        self._must_be(Phase.TRANSFER, "orders are announced while the session runs")
        try:
            order = GridOrder(
                order_id=order_id,
                direction=kind.value,
                start_s=opened.runner.plan_s + float(starts_in),
                duration_s=float(lasts),
                power_w=float(power),
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"order {order_id!r}: {first['loc'][0]}: {first['msg']}") from error
        opened.session.announce_order(order)
        say(f"order {order_id!r}: {kind.value.replace('_', ' ')} of {power} in {starts_in} for {lasts}")

    @keyword("session", "order", "waits")
    def follow_grid_orders(self, duration: Duration = NO_DURATION) -> None:
        """Follow baseline and orders to the end of the session's schedule, or for `duration`; session time passes."""
        opened = self.bench.opened
        self._must_be(Phase.TRANSFER, "orders are followed while the session runs")
        try:
            opened.runner.follow(float(duration) if duration.is_given else None)
        finally:
            opened.acted_s = opened.cycle.now_s

    @keyword("session")
    def stop_session(self) -> None:
        """Ramp to 0 W and end energy transfer."""
        self._must_be(Phase.TRANSFER, "only a running session can be stopped")
        self.bench.opened.runner.stop()
        self.bench.opened.phase = Phase.STOPPED
        self.bench.opened.acted()

    @keyword("session")
    def unplug_vehicle(self) -> None:
        """Take the cable out of the vehicle, after the session was stopped or before it began."""
        opened = self.bench.opened
        if opened.phase is Phase.TRANSFER:
            raise ConfigError("energy is being transferred; say 'Stop Session' before the cable is taken out")
        if opened.phase is not Phase.STOPPED and opened.phase is not Phase.PLUGGED:
            raise ConfigError("no vehicle is plugged in; say 'Plug In Vehicle' first")
        opened.runner.unplug()
        opened.phase = Phase.UNPLUGGED if opened.phase is Phase.STOPPED else Phase.NONE
        opened.acted()

    def _must_be(self, phase: Phase, sentence: str) -> None:
        if self.bench.opened.phase is not phase:
            raise ConfigError(f"{sentence}; the order of a session is {_ORDER}")


_ORDER = "Plug In Vehicle, Start Session, Follow Grid Orders or Set Charger Power, Stop Session, Unplug Vehicle"
