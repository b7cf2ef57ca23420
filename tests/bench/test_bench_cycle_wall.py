"""The cycle on the wall clock: it runs whatever the plan is doing, and its limits act before a blocked plan wakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bench.rack import Rack
from bench.session import SessionPlan, SessionRunner
from bench.station import Station
from drivers.errors import BenchError, InterlockTripped, NotOpenError
from reports.run import Run

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire, pytest.mark.slow]

PLAN = SessionPlan(name="wall", duration_s=60, baseline_w=4000.0)
WALL = {
    "clock": "wall",
    "start_utc": None,
    "cycle_s": 0.2,
    "devices.van.poll_s": 0.5,
    "devices.charger.watchdog_s": 3,
}


def started(rack: Rack) -> SessionRunner:
    runner = SessionRunner(rack, PLAN)
    runner.plug_in()
    runner.start()
    return runner


def test_a_limit_trips_while_the_plan_is_blocked_and_power_is_gone_before_it_wakes(emulated: Change) -> None:
    # 4 kW moves the reported state of charge by 0.1 points in about 36 s: start just below the limit instead.
    station = emulated({**WALL, "twins.van.soc_percent": 55.0, "limits.power_w": {"min": -10500, "max": 6000}})
    with Rack.open(station, plan="blocked") as rack:
        started(rack)
        rack.cycle.set_power(5000.0)
        assert rack.emulated is not None
        charger = rack.emulated.charger
        seen_w: list[float] = []

        def misbehave() -> None:
            time.sleep(2.0)
            with rack.emulated.site.lock:  # type: ignore[union-attr]  # asserted above
                charger.set_setpoint(9000.0)  # a charger that does as it likes, beyond the limit of 6 kW
            time.sleep(6.0)
            seen_w.append(charger.dc_power_w)

        rogue = threading.Thread(target=misbehave)
        rogue.start()
        time.sleep(10.0)  # the plan is blocked: it asks nothing of the bench
        rogue.join()

        assert seen_w == [0.0]
        assert rack.cycle.trip is not None
        assert rack.cycle.trip.finding.limit == "power_w"
        with pytest.raises(InterlockTripped, match="outside -10500 <= power_w <= 6000"):
            rack.cycle.wait(0.1)
        rack.conclude("tripped")
    with Run.open(rack.run_folder) as run:
        (tripped,) = run.events("limit_tripped")
        assert tripped.content["safe_state_confirmed"] is True
        assert len(run.cycles()) > 40  # about 0.2 s each over more than 10 s, a busy machine allowed for


def test_waiting_follows_the_wall_clock_and_cycles_go_on_meanwhile(emulated: Change) -> None:
    with Rack.open(emulated(WALL), plan="wait") as rack:
        cycles, began_s = rack.cycle.cycles, time.monotonic()
        rack.cycle.wait(2.0)

        assert 1.9 <= time.monotonic() - began_s < 4.0
        assert rack.cycle.cycles - cycles >= 5


def test_a_charger_that_falls_silent_on_the_wall_clock_trips(emulated: Change) -> None:
    with Rack.open(emulated(WALL), plan="silent") as rack:
        started(rack)
        rack.cycle.set_power(5000.0)
        rack.cycle.wait(3.0)
        assert rack.emulated is not None
        rack.emulated.close_face("charger", "modbus")
        with pytest.raises(InterlockTripped, match="watchdog"):
            rack.cycle.wait(20.0)
        time.sleep(5.0)  # watchdog 3 s, ramp below 2 s
        assert rack.emulated.charger.dc_power_w == 0.0
        rack.conclude("tripped")


def test_a_cycle_that_dies_is_noticed_by_the_plans_next_call(emulated: Change) -> None:
    with Rack.open(emulated(WALL), plan="dead") as rack:

        def break_it(*_: object) -> None:
            raise RuntimeError("a listener with a defect")

        rack.cycle.listeners.append(break_it)
        with pytest.raises(BenchError, match="the cycle stopped: a listener with a defect"):
            rack.cycle.wait(5.0)


def test_after_closing_nothing_runs_and_use_is_refused(emulated: Change) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with Rack.open(emulated(WALL), plan="closed") as rack:
        cycle = rack.cycle
    left = {thread.name for thread in threading.enumerate()} - before

    assert left == set()
    with pytest.raises(NotOpenError):
        cycle.wait(0.1)
