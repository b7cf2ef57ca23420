"""The guard: what trips, what warns, what blindness is, and what is kept of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.safety import Guard, Snapshot
from bench.station.model import CellVoltageLimit, Limits, PercentLimit, PowerLimit, TemperatureLimit
from drivers.readings import Quality, Reading, missing
from drivers.roles import ChargerReadings, ChargerState, PowerMeterReadings, VehicleReadings

POWER = PowerLimit(min=-10_500.0, max=10_500.0)
POLLS = {"charger": 1.0, "vehicle": 10.0, "power_meter": 1.0}


def charger(power_w: float, mono_s: float = 0.0, quality: Quality = Quality.GOOD) -> ChargerReadings:
    names = [name for name in ChargerReadings.__dataclass_fields__ if name not in {"state", "faults", "ac_power"}]
    rest = {name: missing("1", mono_s, mono_s, f"charger.{name}") for name in names}
    power = Reading(power_w, "W", mono_s, mono_s, "charger.ac_power", quality)
    return ChargerReadings(state=ChargerState.CHARGING, ac_power=power, **rest)  # type: ignore[arg-type]  # by name


def meter(power_w: float, mono_s: float = 0.0) -> PowerMeterReadings:
    names = [name for name in PowerMeterReadings.__dataclass_fields__ if name != "ac_power"]
    rest = {name: missing("1", mono_s, mono_s, f"meter.{name}") for name in names}
    return PowerMeterReadings(ac_power=Reading(power_w, "W", mono_s, mono_s, "meter.ac_power"), **rest)


def vehicle(mono_s: float = 0.0, *, temperatures: tuple[float, ...] = (20.0,) * 4, **values: float) -> VehicleReadings:
    names = [name for name in VehicleReadings.__dataclass_fields__ if name != "pack_temperatures"]

    def reading(name: str, value: float | None) -> Reading:
        if value is None:
            return missing("1", mono_s, mono_s, f"van.{name}")
        return Reading(value, "1", mono_s, mono_s, f"van.{name}")

    sensors = tuple(reading(f"pack_temperature_{n}", value) for n, value in enumerate(temperatures, 1))
    return VehicleReadings(pack_temperatures=sensors, **{name: reading(name, values.get(name)) for name in names})  # type: ignore[arg-type]  # by name


def guard(**limits: object) -> Guard:
    return Guard(Limits(power_w=POWER, **limits), poll_s=POLLS, cycle_s=1.0, now_s=0.0)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("power_w", [-10_500.0, -10_499.9, 0.0, 10_499.9, 10_500.0])
def test_the_bounds_themselves_are_inside(power_w: float) -> None:
    assert guard().judge(Snapshot(charger=charger(power_w)), 0.0) == []


@pytest.mark.parametrize("power_w", [-10_500.1, 10_500.1, math.inf, -math.inf])
def test_a_value_outside_trips_with_its_number_and_the_limit(power_w: float) -> None:
    watched = guard()
    (finding,) = watched.judge(Snapshot(charger=charger(power_w)), 0.0)

    assert finding.trips
    assert finding.sentence == f"charger.ac_power is {power_w:g} W, outside -10500 <= power_w <= 10500 W"
    (record,) = watched.records
    assert record.verdict == "fail"
    assert record.margin is not None
    assert record.margin < 0.0


def test_the_analyzer_is_believed_too_when_the_charger_says_that_all_is_well() -> None:
    (finding,) = guard().judge(Snapshot(charger=charger(9000.0), meter=meter(11_000.0)), 0.0)

    assert finding.source == "meter.ac_power"


@pytest.mark.parametrize("quality", [Quality.NO_DATA, Quality.STALE, Quality.OVER_RANGE, Quality.ESTIMATED])
def test_a_reading_that_is_not_good_never_passes_and_trips_after_three_polls(quality: Quality) -> None:
    watched = guard()
    for now_s in range(6):  # 3 polls of 1 s and 2 s
        assert watched.judge(Snapshot(charger=charger(0.0, float(now_s), quality)), float(now_s)) == []
    (finding,) = watched.judge(Snapshot(charger=charger(0.0, 6.0, quality)), 6.0)

    assert finding.trips
    assert math.isnan(finding.value)
    assert finding.sentence == (
        "power_w was not measured for 6 s (at most 5 s); a limit that cannot be seen counts as exceeded"
    )
    (record,) = watched.records
    assert (record.verdict, record.worst_value) == ("fail", None)


def test_a_nan_of_good_quality_is_blindness_too() -> None:
    watched = guard()
    assert watched.judge(Snapshot(charger=charger(math.nan)), 5.0) == []
    assert watched.judge(Snapshot(charger=charger(math.nan, 5.1)), 5.1)[0].trips


def test_an_old_reading_that_nobody_renews_becomes_blindness() -> None:
    watched, old = guard(), Snapshot(charger=charger(100.0, 10.0))
    assert watched.judge(old, 10.0) == []
    assert watched.judge(old, 15.0) == []
    assert watched.judge(old, 15.1)[0].trips


def test_a_slow_device_is_given_its_own_time_and_cell_voltages_that_of_a_full_reading() -> None:
    watched = guard(soc_percent=PercentLimit(max=97.0), cell_voltage_v=CellVoltageLimit(min=3.0, max=4.2))
    for now_s, tripped in (
        (32.0, []),
        (32.1, ["soc_percent"]),
        (182.0, ["soc_percent"]),
        (182.1, ["soc_percent", "cell_voltage_v"]),
    ):
        found = watched.judge(Snapshot(charger=charger(0.0, now_s)), now_s)
        assert [finding.limit for finding in found] == tripped, now_s


def test_one_hot_sensor_of_four_trips() -> None:
    watched = guard(pack_temperature_c=TemperatureLimit(max=45.0))
    snapshot = Snapshot(charger=charger(0.0), vehicle=vehicle(temperatures=(20.0, 45.0, 45.1, 20.0)))
    (finding,) = watched.judge(snapshot, 0.0)

    assert finding.source == "van.pack_temperature_3"


def test_a_warning_is_told_once_per_stay_in_the_band() -> None:
    watched = guard(soc_percent=PercentLimit(min=10.0, warn_below=15.0, warn=90.0, max=97.0))

    def told(soc: float) -> list[str]:
        snapshot = Snapshot(charger=charger(0.0), vehicle=vehicle(soc=soc))
        return [finding.sentence for finding in watched.judge(snapshot, 0.0)]

    assert told(89.9) == []
    assert told(90.0) == ["van.soc is 90 1, in the warning band of 10 <= soc_percent <= 97"]
    assert told(96.0) == []
    assert told(80.0) == []
    assert len(told(14.0)) == 1
    assert watched.records[1].verdict == "warning"


def test_a_limit_that_failed_stays_failed() -> None:
    watched = guard(soc_percent=PercentLimit(max=97.0, warn=90.0))
    for soc in (98.0, 91.0, 50.0):
        watched.judge(Snapshot(charger=charger(0.0), vehicle=vehicle(soc=soc)), 0.0)

    record = watched.records[1]
    assert (record.verdict, record.worst_value, record.margin) == ("fail", 98.0, -1.0)


@given(powers=st.lists(st.integers(-10_500, 10_500).map(float), min_size=1, max_size=30))
def test_the_margin_is_that_of_the_worst_value(powers: list[float]) -> None:
    watched = guard()
    for power_w in powers:
        assert watched.judge(Snapshot(charger=charger(power_w)), 0.0) == []

    (record,) = watched.records
    worst_w = max(abs(power_w) for power_w in powers)
    assert record.worst_value is not None
    assert abs(record.worst_value) == worst_w
    assert record.margin == 10_500.0 - worst_w


def test_nothing_judged_is_said_so() -> None:
    (record,) = guard().records
    assert (record.verdict, record.worst_value, record.margin, record.text) == (
        "not judged",
        None,
        None,
        "-10500 <= power_w <= 10500",
    )
