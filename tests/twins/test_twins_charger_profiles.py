"""Charging profiles: what is in force when, by OCPP 1.6 section 3.13 and the bench's reading of the sign."""

from __future__ import annotations

import math
from typing import Any

import pytest

from twins.charger.profiles import Period, Profile, ProfileRejected, ProfileStore, Purpose, window

EIGHT = 1_768_464_000.0  # 2026-01-15T08:00:00Z, a Thursday
DAY = 86_400.0


def profile(
    purpose: str = "TxProfile",
    *limits: tuple[int, float],
    number: int = 1,
    stack: int = 0,
    kind: str = "Absolute",
    start: str = "2026-01-15T08:00:00Z",
    unit: str = "W",
    **more: Any,
) -> Profile:
    schedule: dict[str, Any] = {
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [{"startPeriod": at, "limit": limit} for at, limit in limits],
    }
    if "duration" in more:
        schedule["duration"] = more.pop("duration")
    if start and kind != "Relative":
        schedule["startSchedule"] = start
    return Profile.from_payload(
        {
            "chargingProfileId": number,
            "stackLevel": stack,
            "chargingProfilePurpose": purpose,
            "chargingProfileKind": kind,
            "chargingSchedule": schedule,
            **more,
        }
    )


def store_of(*profiles: tuple[int, Profile]) -> ProfileStore:
    store = ProfileStore()
    for connector, one in profiles:
        store.install(connector, one)
    return store


def session_limit(store: ProfileStore, after_s: float) -> float | None:
    return store.in_force(EIGHT + after_s, EIGHT).session_w


def test_a_watchdog_profile_falls_onto_the_zero_watt_default_at_its_end() -> None:
    store = store_of(
        (1, profile("TxDefaultProfile", (0, 0.0), number=1, kind="Relative")),
        (1, profile("TxProfile", (0, -5000.0), number=2, stack=1, duration=10)),
    )
    assert [session_limit(store, t) for t in (0.0, 9.999, 10.0, 3600.0)] == [-5000.0, -5000.0, 0.0, 0.0]
    assert store.in_force(EIGHT, EIGHT).until_utc_s == EIGHT + 10.0
    assert store.in_force(EIGHT + 10.0, EIGHT).until_utc_s == math.inf
    assert store.composite(EIGHT + 4.0, EIGHT, 60, default_w=0.0) == ((Period(0, -5000.0), Period(6, 0.0)), 60)


def test_the_higher_stack_level_leads_while_it_says_something() -> None:
    store = store_of(
        (1, profile("TxDefaultProfile", (0, 3000.0), number=1, stack=0)),
        (1, profile("TxDefaultProfile", (0, 7000.0), (600, 5000.0), number=2, stack=3, duration=1200)),
    )
    assert [session_limit(store, t) for t in (0, 599, 600, 1199, 1200)] == [7000.0, 7000.0, 5000.0, 5000.0, 3000.0]
    periods, covered_s = store.composite(EIGHT, EIGHT, 1800, default_w=10_000.0)
    assert periods == (Period(0, 7000.0), Period(600, 5000.0), Period(1200, 3000.0))
    assert covered_s == 1800


def test_the_profile_of_a_connector_replaces_that_of_connector_zero_at_its_level() -> None:
    store = store_of(
        (0, profile("TxDefaultProfile", (0, 3000.0), number=1)),
        (1, profile("TxDefaultProfile", (0, 4000.0), number=2)),
    )
    assert session_limit(store, 0.0) == 4000.0


def test_a_relative_profile_counts_from_the_start_of_the_session() -> None:
    store = store_of((1, profile("TxDefaultProfile", (0, 6000.0), (60, 2000.0), kind="Relative")))
    assert store.in_force(EIGHT + 500.0, EIGHT + 450.0).session_w == 6000.0
    assert store.in_force(EIGHT + 510.0, EIGHT + 450.0).session_w == 2000.0


def test_a_daily_profile_comes_again_and_is_silent_between() -> None:
    daily = profile("TxDefaultProfile", (0, 2000.0), kind="Recurring", recurrencyKind="Daily", duration=3600)
    store = store_of((1, daily))
    assert session_limit(store, 3 * DAY + 1800.0) == 2000.0
    assert session_limit(store, 3 * DAY + 3600.0) is None
    assert store.in_force(EIGHT + 3 * DAY + 3600.0, EIGHT).until_utc_s == EIGHT + 4 * DAY
    assert session_limit(store, -1.0) is None


def test_a_weekly_profile_comes_again_after_seven_days() -> None:
    weekly = profile("TxDefaultProfile", (0, 2000.0), kind="Recurring", recurrencyKind="Weekly", duration=3600)
    store = store_of((1, weekly))
    assert session_limit(store, 6 * DAY) is None
    assert session_limit(store, 7 * DAY + 10.0) == 2000.0


def test_validity_bounds_a_profile_on_both_sides() -> None:
    store = store_of(
        (
            1,
            profile(
                "TxDefaultProfile",
                (0, 2000.0),
                validFrom="2026-01-15T08:10:00Z",
                validTo="2026-01-15T08:20:00Z",
            ),
        )
    )
    assert [session_limit(store, t) for t in (599.0, 600.0, 1199.0, 1200.0)] == [None, 2000.0, 2000.0, None]


def test_a_start_ahead_is_not_in_force_yet() -> None:
    store = store_of((1, profile("TxProfile", (0, 2000.0), start="2026-01-15T08:05:00Z")))
    assert session_limit(store, 0.0) is None
    assert store.in_force(EIGHT, EIGHT).until_utc_s == EIGHT + 300.0


def test_amperes_are_watts_over_three_phases_unless_said_otherwise() -> None:
    three = profile("TxProfile", (0, 10.0), unit="A")
    assert three.periods == (Period(0, 6900.0),)
    one = Profile.from_payload(
        {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": {
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10.0, "numberPhases": 1}],
            },
        }
    )
    assert one.periods == (Period(0, 2300.0),)


def test_a_positive_limit_bounds_both_directions_and_a_negative_one_permits_discharge_only() -> None:
    assert window(7000.0) == (-7000.0, 7000.0)
    assert window(-3000.0) == (-3000.0, 0.0)
    assert window(0.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("station_w", "session_w", "bounds_w", "command_w"),
    [
        (None, None, (-math.inf, math.inf), 500.0),
        (4000.0, None, (-4000.0, 4000.0), 500.0),
        (None, 7000.0, (-7000.0, 7000.0), 7000.0),
        (4000.0, 7000.0, (-4000.0, 4000.0), 4000.0),
        (4000.0, -7000.0, (-4000.0, 0.0), -4000.0),
        (8000.0, -7000.0, (-7000.0, 0.0), -7000.0),
        (0.0, -7000.0, (0.0, 0.0), 0.0),
        (-2000.0, 7000.0, (-2000.0, 0.0), 0.0),
    ],
)
def test_the_narrower_of_station_and_session_wins_and_zero_is_always_inside(
    station_w: float | None, session_w: float | None, bounds_w: tuple[float, float], command_w: float
) -> None:
    store = ProfileStore()
    if station_w is not None:
        store.install(0, profile("ChargePointMaxProfile", (0, station_w), number=1))
    if session_w is not None:
        store.install(1, profile("TxProfile", (0, session_w), number=2))
    in_force = store.in_force(EIGHT, EIGHT)
    assert in_force.bounds_w() == bounds_w
    assert in_force.command_w(500.0) == command_w


def test_the_same_id_or_the_same_place_replaces() -> None:
    store = store_of((1, profile("TxProfile", (0, 1000.0), number=1)), (1, profile("TxProfile", (0, 2000.0), number=2)))
    assert len(store) == 1
    assert session_limit(store, 0.0) == 2000.0
    store.install(1, profile("TxDefaultProfile", (0, 500.0), number=2, stack=4))
    assert len(store) == 1
    assert store.in_force(EIGHT, EIGHT).purpose is Purpose.TX_DEFAULT


def test_clearing_by_id_or_by_criteria_counts_what_went() -> None:
    store = store_of(
        (0, profile("ChargePointMaxProfile", (0, 9000.0), number=1)),
        (1, profile("TxDefaultProfile", (0, 1.0), number=2, stack=0)),
        (1, profile("TxDefaultProfile", (0, 2.0), number=3, stack=1)),
        (1, profile("TxProfile", (0, 3.0), number=4)),
    )
    assert store.clear(profile_id=99) == 0
    assert store.clear(profile_id=3) == 1
    assert store.clear(connector=1, purpose=Purpose.TX_DEFAULT, stack_level=1) == 0
    assert store.clear(connector=1) == 2
    assert store.clear() == 1
    assert len(store) == 0


def test_a_composite_schedule_stops_where_periods_run_out() -> None:
    minutes = profile("TxDefaultProfile", *((60 * n, 1000.0 + n) for n in range(48)))
    store = ProfileStore(max_periods=48)
    store.install(1, minutes)
    periods, covered_s = store.composite(EIGHT, EIGHT, 100_000, default_w=0.0)
    assert (len(periods), covered_s) == (48, 100_000)
    store.install(0, profile("ChargePointMaxProfile", (0, 1000.5), (3000, 500.0), number=9))
    periods, covered_s = store.composite(EIGHT - 60.0, EIGHT, 100_000, default_w=0.0)
    assert periods[:3] == (Period(0, 0.0), Period(60, 1000.0), Period(120, 1000.5))


@pytest.mark.parametrize(
    ("connector", "make", "reason"),
    [
        (1, lambda: profile("ChargePointMaxProfile", (0, 1.0)), "connector 0"),
        (0, lambda: profile("TxProfile", (0, 1.0)), "belongs to a connector"),
        (0, lambda: profile("ChargePointMaxProfile", (0, 1.0), kind="Relative"), "relative"),
        (1, lambda: profile("TxProfile", (0, 1.0), stack=11), "stack level 11"),
        (1, lambda: profile("TxProfile", (5, 1.0)), "begin at 0"),
        (1, lambda: profile("TxProfile", (0, 1.0), (0, 2.0)), "follow each other"),
        (1, lambda: profile("TxProfile"), "at least one period"),
        (1, lambda: profile("TxProfile", (0, 1.0), duration=0), "no time"),
        (1, lambda: profile("TxProfile", (0, 1e9)), "beyond any charger"),
        (1, lambda: profile("TxProfile", (0, 1.0), kind="Recurring"), "recurrencyKind"),
        (1, lambda: profile("TxProfile", *((n, 1.0) for n in range(49))), "49 periods"),
    ],
)
def test_what_contradicts_itself_is_rejected_with_a_reason(connector: int, make: Any, reason: str) -> None:
    with pytest.raises(ProfileRejected, match=reason):
        ProfileStore().install(connector, make())


def test_a_full_store_rejects_the_next_profile() -> None:
    store = ProfileStore(max_profiles=2)
    store.install(1, profile("TxDefaultProfile", (0, 1.0), number=1, stack=0))
    store.install(1, profile("TxDefaultProfile", (0, 1.0), number=2, stack=1))
    store.install(1, profile("TxDefaultProfile", (0, 5.0), number=2, stack=1))
    with pytest.raises(ProfileRejected, match="2 profiles are installed"):
        store.install(1, profile("TxDefaultProfile", (0, 1.0), number=3, stack=2))
