"""A site on the wall clock: real seconds, no energy lost to a late wake-up, and a failure that is told."""

from __future__ import annotations

import threading
import time

import pytest

from drivers.clock import WallClock
from drivers.errors import BenchError
from twins.charger.charger import ChargerTwin
from twins.grid import LowVoltageGrid
from twins.measurement import EXACT, generator
from twins.runner import SiteRunner
from twins.site import Site
from twins.vehicle.van import Van


def make_site() -> Site:
    van = Van("van", generator(7, "van"))
    charger = ChargerTwin("charger", generator(7, "charger"), van=van, power_accuracy=EXACT)
    return Site(WallClock(), LowVoltageGrid("grid", generator(7, "grid")), charger)


def wait_for(what: threading.Event) -> None:
    assert what.wait(5.0)


def test_the_meter_counts_the_seconds_that_really_passed() -> None:
    site = make_site()
    began_wh, began_s = site.charger.meter.import_wh, time.monotonic()
    with SiteRunner(site, step_s=0.01):
        time.sleep(0.3)
    passed_s = time.monotonic() - began_s
    counted_s = (site.charger.meter.import_wh - began_wh) * 3600.0 / 35.0  # 35 W of stand-by
    assert passed_s - 0.1 < counted_s <= passed_s


def test_a_step_held_up_by_the_lock_is_made_up_for() -> None:
    site = make_site()
    steps: list[float] = []
    stepped = threading.Event()

    class Watch:
        def step(self, dt_s: float, now_s: float) -> None:
            steps.append(dt_s)
            stepped.set()

    site.observers.append(Watch())
    with SiteRunner(site, step_s=0.01):
        wait_for(stepped)
        with site.lock:
            count = len(steps)
            stepped.clear()
            time.sleep(0.2)
        wait_for(stepped)
        time.sleep(0.05)
    assert max(steps[count:]) >= 0.15


def test_no_thread_is_left_and_close_may_be_called_twice() -> None:
    with SiteRunner(make_site(), step_s=0.01) as runner:
        pass
    runner.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "site"]


def test_twins_that_broke_are_told_on_the_way_out() -> None:
    site = make_site()
    broke = threading.Event()

    class Broken:
        def step(self, dt_s: float, now_s: float) -> None:
            broke.set()
            raise RuntimeError("shunt burnt")

    site.observers.append(Broken())
    with pytest.raises(BenchError, match="the twins stopped: shunt burnt"), SiteRunner(site, step_s=0.001) as runner:
        wait_for(broke)
    with pytest.raises(BenchError, match="shunt burnt"):
        runner.raise_failure()


def test_an_error_of_the_plan_is_not_hidden_by_broken_twins() -> None:
    site = make_site()
    broke = threading.Event()

    class Broken:
        def step(self, dt_s: float, now_s: float) -> None:
            broke.set()
            raise RuntimeError("shunt burnt")

    site.observers.append(Broken())

    def plan() -> None:
        with SiteRunner(site, step_s=0.001):
            wait_for(broke)
            raise KeyError("plan")

    with pytest.raises(KeyError, match="plan"):
        plan()
