"""A site: grid, charger and van coupled electrically, observers looking on, stepped as one."""

from __future__ import annotations

import threading

import pytest

from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.grid import LowVoltageGrid
from twins.instrument.power_analyzer import PowerAnalyzer
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van


def make_site(seed: int = 7, *, analyzer: bool = False) -> tuple[Site, SteppedClock]:
    clock = SteppedClock(1_768_464_000.0)
    van = Van("van", generator(seed, "van"), soc_percent=55.0)
    charger = ChargerTwin("charger", generator(seed, "charger"), van=van)
    site = Site(clock, LowVoltageGrid("grid", generator(seed, "grid")), charger)
    if analyzer:
        site.observers.append(PowerAnalyzer("analyzer", charger, generator(seed, "analyzer")))
    return site, clock


def run(site: Site, clock: SteppedClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1.0)
        site.step(1.0)


def started(seed: int = 7, *, analyzer: bool = False) -> tuple[Site, SteppedClock]:
    site, clock = make_site(seed, analyzer=analyzer)
    site.charger.plug_in()
    site.charger.start()
    return site, clock


def test_charging_pulls_the_grid_down_and_fills_the_pack_discharging_the_reverse() -> None:
    site, clock = started()
    run(site, clock, 5)
    van = site.charger.van
    assert van is not None
    rest_v, soc = site.grid.voltage_v, van.pack.soc
    site.charger.set_setpoint(10_000.0)
    run(site, clock, 30)
    assert site.grid.voltage_v == pytest.approx(rest_v - 3.6, abs=0.3)
    assert van.pack.soc > soc
    soc = van.pack.soc
    site.charger.set_setpoint(-10_000.0)
    run(site, clock, 60)
    assert site.grid.voltage_v > rest_v + 3.0
    assert van.pack.soc < soc


def test_a_round_trip_gives_back_less_than_it_took() -> None:
    site, clock = started()
    pack = site.charger.van.pack  # type: ignore[union-attr]  # this site has a van
    before = pack.soc
    site.charger.set_setpoint(7_000.0)
    run(site, clock, 1800)
    site.charger.set_setpoint(-7_000.0)
    while pack.soc > before:
        run(site, clock, 1)
    meter = site.charger.meter
    assert 0.84 < meter.export_wh / meter.import_wh < 0.92


def course(site: Site, clock: SteppedClock) -> list[tuple[float, ...]]:
    seen: list[tuple[float, ...]] = []
    for setpoint_w in (5_000.0, -5_000.0, 0.0):
        site.charger.set_setpoint(setpoint_w)
        run(site, clock, 20)
        van = site.charger.van
        assert van is not None
        seen.append((site.grid.voltage_v, site.charger.meter.import_wh, van.bms.plane.export_wh, van.bms.soc))
    return seen


def test_one_seed_gives_one_course_and_a_looker_on_changes_nothing() -> None:
    assert course(*started()) == course(*started()) == course(*started(analyzer=True))
    assert course(*started(8)) != course(*started())


def test_callables_after_a_step_run_on_the_stepping_thread_outside_the_lock() -> None:
    site, clock = make_site()
    seen: list[tuple[bool, bool]] = []

    def notify() -> None:
        free: list[bool] = []

        def take() -> None:
            if site.lock.acquire(blocking=False):
                free.append(True)
                site.lock.release()

        other = threading.Thread(target=take)
        other.start()
        other.join(5.0)
        seen.append((threading.current_thread() is threading.main_thread(), bool(free)))

    site.after_step.append(notify)
    run(site, clock, 2)
    assert seen == [(True, True), (True, True)]


def test_a_step_that_fails_leaves_the_lock_free() -> None:
    site, clock = make_site()

    class Broken:
        def step(self, dt_s: float, now_s: float) -> None:
            raise RuntimeError("the looker-on broke")

    site.observers.append(Broken())
    clock.advance(1.0)
    with pytest.raises(RuntimeError, match="broke"):
        site.step(1.0)
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(site.lock.acquire(timeout=1.0)))
    other.start()
    other.join(5.0)
    assert free == [True]
