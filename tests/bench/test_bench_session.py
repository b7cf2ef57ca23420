"""The schedule of a session: orders above a baseline, what is refused, and the set-points that come of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.rack import Rack
from bench.session import GridOrder, SessionPlan, SessionRunner, demo_plan
from bench.station import Station
from drivers.errors import BenchError
from drivers.roles import ClampedBy
from reports.run import Run

Change = Callable[..., Station]


def order(
    order_id: str = "o1",
    direction: Literal["load_decrease", "load_increase"] = "load_decrease",
    start_s: float = 60.0,
    duration_s: float = 300.0,
    power_w: float = 8000.0,
) -> GridOrder:
    return GridOrder(order_id=order_id, direction=direction, start_s=start_s, duration_s=duration_s, power_w=power_w)


def sentence_of(error: ValidationError) -> str:
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


# Arithmetic ------------------------------------------------------------------------------------------------------


def test_a_load_decrease_comes_off_the_baseline_and_so_discharges() -> None:
    plan = SessionPlan(name="evening", duration_s=600, baseline_w=3000.0, orders=(order(),))

    assert plan.set_points() == ((0.0, 3000.0), (60.0, -5000.0), (360.0, 3000.0))


def test_a_load_increase_comes_on_top_of_the_baseline_and_may_only_stop_a_discharge() -> None:
    plan = SessionPlan(name="night", duration_s=600, baseline_w=-4000.0, orders=(order(direction="load_increase"),))

    assert plan.power_at(59.999) == -4000.0
    assert plan.power_at(60.0) == 4000.0
    assert plan.power_at(359.999) == 4000.0
    assert plan.power_at(360.0) == -4000.0


def test_a_decrease_of_the_whole_baseline_stops_the_charge() -> None:
    plan = SessionPlan(name="stop", duration_s=600, baseline_w=8000.0, orders=(order(),))

    assert plan.power_at(100.0) == 0.0


def test_orders_that_touch_give_one_set_point_each_and_equal_ones_give_none() -> None:
    plan = SessionPlan(
        name="touch",
        duration_s=300,
        baseline_w=0.0,
        orders=(
            order("a", "load_increase", 0.0, 100.0, 2000.0),
            order("b", "load_increase", 100.0, 100.0, 2000.0),
            order("c", "load_decrease", 200.0, 100.0, 1000.0),
        ),
    )

    assert plan.set_points() == ((0.0, 2000.0), (200.0, -1000.0))


def test_an_order_that_ends_with_the_session_leaves_no_set_point_behind_it() -> None:
    plan = SessionPlan(name="end", duration_s=360, baseline_w=1000.0, orders=(order(),))

    assert plan.set_points() == ((0.0, 1000.0), (60.0, -7000.0))


def test_the_order_of_orders_in_the_plan_does_not_matter() -> None:
    early, late = order("early"), order("late", "load_increase", 400.0, 100.0, 2000.0)

    one = SessionPlan(name="x", duration_s=600, baseline_w=500.0, orders=(early, late))
    other = SessionPlan(name="x", duration_s=600, baseline_w=500.0, orders=(late, early))
    assert one.set_points() == other.set_points()


def test_decimal_times_that_meet_on_paper_meet_in_the_plan() -> None:
    # 0.1 + 0.2 is a hair above 0.3 in binary; neither an overlap nor an order that outlasts its session
    plan = SessionPlan(
        name="tenths",
        duration_s=0.6,
        baseline_w=0.0,
        orders=(order("a", start_s=0.1, duration_s=0.2), order("b", start_s=0.3, duration_s=0.3)),
    )

    assert [power_w for _, power_w in plan.set_points()] == [0.0, -8000.0]


# What is refused -------------------------------------------------------------------------------------------------


def test_overlapping_orders_are_refused_and_both_are_named() -> None:
    with pytest.raises(ValidationError) as refused:
        SessionPlan(name="x", duration_s=900, orders=(order("late", start_s=359.0), order("early")))

    assert sentence_of(refused.value) == "orders 'early' and 'late' overlap; a vehicle follows one at a time"


def test_an_order_that_outlasts_its_session_is_refused_with_both_times() -> None:
    with pytest.raises(ValidationError) as refused:
        SessionPlan(name="x", duration_s=359, orders=(order(),))

    assert sentence_of(refused.value) == "order 'o1' ends at 360 s, after the session's 359 s"


def test_two_orders_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError) as refused:
        SessionPlan(name="x", duration_s=900, orders=(order(), order(start_s=500.0)))

    assert sentence_of(refused.value) == "two orders have the same order_id; give each its own"


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_s": -1.0},
        {"duration_s": 0.0},
        {"duration_s": float("inf")},
        {"power_w": 0.0},
        {"power_w": -8000.0},  # direction carries the sign
        {"power_w": float("nan")},
        {"order_id": ""},
        {"order_id": "a b"},
        {"order_id": "x" * 65},
        {"direction": "discharge"},
        {"power_kw": 8.0},
    ],
    ids=str,
)
def test_a_value_that_no_order_can_have_is_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "order_id": "o1",
        "direction": "load_decrease",
        "start_s": 0.0,
        "duration_s": 60.0,
        "power_w": 5000.0,
    }
    assert GridOrder(**right).change_w == -5000.0
    with pytest.raises(ValidationError):
        GridOrder(**{**right, **wrong})


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_session_has_a_positive_finite_length(duration_s: float) -> None:
    with pytest.raises(ValidationError):
        SessionPlan(name="x", duration_s=duration_s)


# Properties ------------------------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> SessionPlan:
    at_s, orders = 0.0, []
    for number in range(draw(st.integers(0, 6))):
        start_s = at_s + draw(st.floats(0.0, 500.0))
        duration_s = draw(st.floats(0.1, 500.0))
        orders.append(
            GridOrder(
                order_id=f"o{number}",
                direction=draw(st.sampled_from(["load_decrease", "load_increase"])),
                start_s=start_s,
                duration_s=duration_s,
                power_w=draw(st.floats(1.0, 20_000.0)),
            )
        )
        at_s = start_s + duration_s
    return SessionPlan(
        name="drawn",
        duration_s=at_s + draw(st.floats(0.1, 500.0)),
        baseline_w=draw(st.floats(-10_000.0, 10_000.0)),
        orders=tuple(draw(st.permutations(orders))),
    )


@given(plan=plans(), share=st.floats(0.0, 1.0))
def test_set_points_say_at_any_moment_what_power_at_says(plan: SessionPlan, share: float) -> None:
    changes = plan.set_points()
    at_s = min(share * plan.duration_s, plan.duration_s * (1 - 1e-12))

    assert changes[0][0] == 0.0
    assert all(early[0] < late[0] and early[1] != late[1] for early, late in itertools.pairwise(changes))
    assert changes[-1][0] < plan.duration_s
    assert [power_w for time_s, power_w in changes if time_s <= at_s][-1] == plan.power_at(at_s)


@given(plan=plans())
def test_energy_above_the_baseline_is_what_the_orders_ask_for(plan: SessionPlan) -> None:
    changes = [*plan.set_points(), (plan.duration_s, 0.0)]
    energy_ws = sum(power_w * (until - since) for (since, power_w), (until, _) in itertools.pairwise(changes))

    asked_ws = plan.baseline_w * plan.duration_s + sum(each.change_w * each.duration_s for each in plan.orders)
    assert energy_ws == pytest.approx(asked_ws, rel=1e-9, abs=1e-3)


@given(duration_s=st.floats(300.0, 86_400.0))
def test_the_demo_fits_any_length_and_goes_both_ways(duration_s: float) -> None:
    plan = demo_plan(duration_s)

    assert [power_w for _, power_w in plan.set_points()] == [3000.0, -7000.0, 3000.0, 8000.0, 3000.0]


# On a rack -------------------------------------------------------------------------------------------------------


@pytest.mark.wire
def test_the_schedule_is_followed_to_the_cycle_and_written_down(emulated: Change) -> None:
    plan = SessionPlan(
        name="short",
        duration_s=40,
        baseline_w=2000.0,
        orders=(order("down", "load_decrease", 10.0, 10.0, 6000.0),),
    )
    with Rack.open(emulated(), plan="short") as rack:
        log = SessionRunner(rack, plan).run()

    assert not log.tripped
    assert not log.aborted
    assert [result.requested_w for result in log.set_points] == [2000.0, -4000.0, 2000.0]
    assert log.end_s - log.begin_s == pytest.approx(log.end_utc_s - log.begin_utc_s)
    with Run.open(rack.run_folder) as run:
        assert run.verdict == "completed"
        given = [(point.mono_s - log.transfer_s, point.requested_w) for point in run.set_points()]
        assert [event.kind for event in run.events() if event.source == "plan"] == ["plugged_in", "unplugged"]
    assert given == [(0.0, 2000.0), (10.0, -4000.0), (20.0, 2000.0), (pytest.approx(40.0), 0.0)]


@pytest.mark.wire
def test_a_set_point_beyond_the_stations_limit_aborts_in_one_sentence_and_leaves_a_record(emulated: Change) -> None:
    plan = SessionPlan(
        name="much", duration_s=60, baseline_w=1000.0, orders=(order("big", "load_increase", 10, 20, 2e4),)
    )
    with Rack.open(emulated(), plan="much") as rack:
        log = SessionRunner(rack, plan).run()

    assert log.aborted == "a set-point of 21000 W is outside the station's limit -10500 <= power_w <= 10500"
    with Run.open(rack.run_folder) as run:
        assert run.verdict == "aborted"
        assert run.manifest["reason"] == log.aborted
        assert abs(run.series("charger.ac_power").value[-1]) < 200.0


@pytest.mark.wire
def test_power_before_the_session_is_started_is_refused_by_the_charger_and_forgotten(emulated: Change) -> None:
    with Rack.open(emulated(), plan="early") as rack:
        runner = SessionRunner(rack, demo_plan())
        with pytest.raises(BenchError, match="energy transfer has not begun; start the session first"):
            runner.follow()
        result = runner.set_power(5000.0)
        assert result.refused
        assert result.clamped_by is ClampedBy.CHARGER
        runner.plug_in()
        runner.start()
        rack.cycle.wait(10.0)

        assert rack.emulated is not None
        assert rack.emulated.charger.dc_power_w == 0.0
