"""Days of a scenario: the same for the same seed, one by one, and with energies that a vehicle has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from twins.pack.uses import Use
from twins.scenarios.habits import base_power_w, day_drive, generate_day, uses_of
from twins.scenarios.model import Scenario

MONDAY, SATURDAY = 0, 5
DRIVES: Mapping[str, Any] = {
    "trips": {
        "morning": {"days": "weekdays", "depart": "07:30", "minutes": 45},
        "evening": {"days": "weekdays", "depart": "16:30", "minutes": 45},
        "outing": {"days": "weekend", "depart": "11:00", "minutes": 60},
    }
}
EVENING: Mapping[str, Any] = {
    "daily_discharge": {"start": "18:30", "end": "20:30", "discharge_w": 7000.0, "spread_w": 2000.0}
}
NIGHT: Mapping[str, Any] = {"frequency_regulation": {"start": "20:00", "end": "05:00", "power_w": 9200.0}}


def scenario(**changes: Any) -> Scenario:
    keys = {"name": "test", "climate": {"place": "danish"}, "driving": DRIVES, "v2g": EVENING}
    return Scenario.model_validate({**keys, **changes})


def at(hours: float, step_s: int = 1) -> int:
    return int(hours * 3600) // step_s


def test_a_day_does_not_depend_on_which_days_were_generated_before() -> None:
    first = day_drive(scenario(), 200)
    for other in (7, 199, 3):
        day_drive(scenario(), other)
    again = day_drive(scenario(), 200)
    assert np.array_equal(first.power_w, again.power_w)
    assert np.array_equal(first.ambient_c, again.ambient_c)


def test_another_seed_or_day_drives_differently() -> None:
    drives = [
        generate_day(scenario(seed=seed), day).power_w[at(7.5) : at(8.25)] for seed, day in ((1, 0), (2, 0), (1, 1))
    ]
    for index, power_w in enumerate(drives):
        assert not any(np.array_equal(power_w, other) for other in drives[index + 1 :])


def test_the_same_trips_are_driven_with_and_without_v2g() -> None:
    with_v2g = generate_day(scenario(), MONDAY)
    without = generate_day(scenario(), MONDAY, uses=frozenset({Use.DRIVING}))
    driving = with_v2g.use == Use.DRIVING
    assert np.array_equal(with_v2g.power_w[driving], without.power_w[driving])
    assert not (without.use == Use.V2G).any()


def test_a_weekday_has_90_minutes_of_driving_two_hours_of_v2g_and_a_night_of_charging() -> None:
    day = generate_day(scenario(), MONDAY)
    seconds = {use: int(np.count_nonzero(day.use == use)) for use in Use}
    assert seconds[Use.DRIVING] == 90 * 60
    assert seconds[Use.V2G] == day.available_s == 2 * 3600
    assert seconds[Use.CHARGING] == 9 * 3600
    assert day.km == pytest.approx(45.0)
    assert set(day.use[at(18.5) : at(20.5)]) == {Use.V2G}
    assert (day.power_w[day.use == Use.CHARGING] == 6600.0).all()
    assert (day.soc_ceiling[day.use == Use.CHARGING] == 0.9).all()
    assert (day.soc_floor[day.use == Use.V2G] == 0.2).all()
    assert (day.power_w[day.use == Use.PARKED] == 0.0).all()


def test_a_weekend_day_has_its_own_trip_and_no_v2g() -> None:
    day = generate_day(scenario(), SATURDAY)
    assert np.count_nonzero(day.use == Use.DRIVING) == 3600
    assert not (day.use == Use.V2G).any()


def test_driving_draws_6_kw_with_regeneration_within_its_bounds_and_its_memory() -> None:
    trips = np.concatenate(
        [generate_day(scenario(), day).power_w[at(7.5) : at(8.25)] for day in range(365) if day % 7 < 5]
    )
    assert trips.mean() == pytest.approx(-6000, abs=150)
    assert trips.std() == pytest.approx(13_500, rel=0.02)
    assert trips.min() >= -70_000
    assert trips.max() <= 30_000
    assert (trips > 0).mean() == pytest.approx(0.33, abs=0.02)  # share of a normal with this mean and deviation
    centred = (trips - trips.mean()).reshape(-1, 2700)
    correlation = (centred[:, 1:] * centred[:, :-1]).mean() / (centred**2).mean()
    assert correlation == pytest.approx(0.85, abs=0.01)


def test_v2g_lies_between_5_and_9_kw_and_changes_each_4_s() -> None:
    power_w = generate_day(scenario(), MONDAY).power_w[at(18.5) : at(20.5)].reshape(-1, 4)
    assert (power_w == power_w[:, :1]).all()
    assert -9000 <= power_w.min() < power_w.max() <= -5000
    assert power_w.mean() == pytest.approx(-7000, abs=100)
    assert len(np.unique(power_w[:, 0])) > 1700


def test_a_coarser_step_holds_the_mean_over_its_seconds() -> None:
    fine, coarse = generate_day(scenario(), MONDAY), generate_day(scenario(step_s=60), MONDAY)
    assert np.allclose(coarse.power_w, fine.power_w.reshape(-1, 60).mean(axis=1))
    assert np.array_equal(coarse.use, fine.use[::60])
    assert np.array_equal(coarse.ambient_c, fine.ambient_c[::60])
    moved = [float(np.abs(day.power_w).sum()) * day.step_s for day in (fine, coarse)]
    assert moved[1] < 0.95 * moved[0]  # what averaging hides


def test_a_window_through_midnight_is_both_ends_of_the_day() -> None:
    day = generate_day(scenario(v2g=NIGHT), MONDAY)
    assert day.available_s == 9 * 3600
    assert set(day.use[: at(5)]) == set(day.use[at(20) :]) == {Use.V2G}
    assert set(day.use[at(5) : at(7)]) == {Use.CHARGING}


def test_a_trip_goes_before_v2g() -> None:
    early = {"daily_discharge": {"start": "16:00", "end": "18:00", "discharge_w": 7000.0}}
    day = generate_day(scenario(v2g=early), MONDAY)
    assert np.count_nonzero(day.use == Use.DRIVING) == 90 * 60
    assert day.available_s == 75 * 60


def test_regulation_asks_3_5_kw_rms_and_never_more_than_its_power() -> None:
    asked = np.concatenate(
        [day.power_w[day.use == Use.V2G] for day in (generate_day(scenario(v2g=NIGHT), each) for each in range(60))]
    )
    assert np.sqrt((asked**2).mean()) == pytest.approx(3500, rel=0.05)
    assert np.abs(asked).max() <= 9200
    assert asked.mean() == pytest.approx(0, abs=200)


@pytest.mark.parametrize(("soc", "base_w"), [(0.70, 0.0), (0.65, 2020.0), (0.3, 3000.0), (0.95, -3000.0)])
def test_base_power_leads_to_70_percent_within_an_hour_at_most_3_kw(soc: float, base_w: float) -> None:
    night = scenario(v2g=NIGHT)
    day = generate_day(night, MONDAY)
    piece = next(day.pieces())
    moved = base_power_w(night, day, piece, soc=soc, full_energy_wh=40_400.0)
    free = np.abs(day.power_w[piece] + base_w) < 9200
    assert np.allclose(moved[free] - day.power_w[piece][free], base_w)
    assert np.abs(moved).max() <= 9200


def test_pieces_of_a_regulated_day_join_to_the_day_and_begin_with_each_hour_of_service() -> None:
    day = generate_day(scenario(v2g=NIGHT, step_s=60), MONDAY)
    pieces = list(day.pieces())
    assert [piece.start for piece in pieces] == [60 * hour for hour in (0, 1, 2, 3, 4, 20, 21, 22, 23)]
    assert np.array_equal(np.concatenate([day.drive(piece).power_w for piece in pieces]), day.power_w)


def test_rapid_charges_are_as_many_as_asked_and_even() -> None:
    often = scenario(step_s=60, charging={"rapid": {"per_month": 2.5, "at": "13:00"}})
    days = [day for day in range(365) if (generate_day(often, day).use == Use.RAPID).any()]
    assert len(days) == 30
    assert set(np.diff(days)) <= {12, 13}


@pytest.mark.parametrize("per_month", [1.0, 7.0, 30.0])
def test_each_year_has_twelve_months_of_rapid_charges(per_month: float) -> None:
    often = scenario(step_s=60, driving={}, v2g={}, charging={"rapid": {"per_month": per_month}})
    count = sum((generate_day(often, day).use == Use.RAPID).any() for day in range(365))
    assert count == 12 * per_month


def test_an_order_comes_on_its_day_each_year_with_its_own_sign() -> None:
    orders = {"orders": {"placed": {"peak": {"day_of_year": 12, "start": "18:00", "end": "19:00", "power_w": -5000.0}}}}
    ordered = scenario(v2g=orders)
    on = [day for day in range(730) if generate_day(ordered, day).available_s]
    assert on == [11, 376]
    assert (generate_day(ordered, 11).power_w[at(18) : at(19)] == -5000.0).all()


def test_uses_are_those_that_the_scenario_has() -> None:
    assert uses_of(scenario()) == {Use.DRIVING, Use.V2G}
    assert uses_of(scenario(driving={}, v2g={})) == frozenset()
    assert uses_of(scenario(charging={"rapid": {"per_month": 1.0}})) == {Use.DRIVING, Use.V2G, Use.RAPID}
