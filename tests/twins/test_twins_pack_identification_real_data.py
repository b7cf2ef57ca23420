"""Three days of a 62 kWh car: each fitted alone, and judged by the other two. Nothing of them is in the project."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from drivers.errors import ConfigError
from twins.pack.identification import Fit, Series, fit_series, judge, read_series
from twins.pack.parameters import PackParameters, shipped_pack

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("V2GBENCH_RECORDINGS", "../shared/data"))
FOLDER = FOLDER if FOLDER.is_absolute() else ROOT / FOLDER
DAYS = (1, 2, 3)
PAIRS = [(fit, other) for fit in DAYS for other in DAYS if fit != other]

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings: V2GBENCH_RECORDINGS names no folder ({FOLDER})"),
]


def recording(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} in {FOLDER}")
    return path


@cache
def neutral_pack() -> PackParameters:
    """The 40 kWh pack scaled to three strings, with the 62 kWh curve: resistance and heat that saw none of the days."""
    small, pack = shipped_pack("env200_40kwh"), shipped_pack("leaf_62kwh")

    def in_parallel(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value * 2.0 / 3.0 for value in values)

    resistance = small.resistance
    thermal = pack.thermal.model_copy(
        update={
            "cells_j_per_k": 1.5 * small.thermal.cells_j_per_k,
            "plates_j_per_k": 1.5 * small.thermal.plates_j_per_k,
            "casing_j_per_k": 1.35 * small.thermal.casing_j_per_k,
            "cells_to_plates_w_per_k": 1.5 * small.thermal.cells_to_plates_w_per_k,
            "plates_to_casing_w_per_k": 1.5 * small.thermal.plates_to_casing_w_per_k,
            "still_air_w_per_k": small.thermal.still_air_w_per_k,
            "air_w_per_k_per_km_h": small.thermal.air_w_per_k_per_km_h,
            "rapid_heat_factor": 1.0,
        }
    )
    return pack.model_copy(
        update={
            "resistance": resistance.model_copy(
                update={
                    "series_ohm": in_parallel(resistance.series_ohm),
                    "fast_ohm": in_parallel(resistance.fast_ohm),
                    "slow_ohm": in_parallel(resistance.slow_ohm),
                }
            ),
            "thermal": thermal,
        }
    )


def base(name: str) -> PackParameters:
    return shipped_pack("leaf_62kwh") if name == "shipped" else neutral_pack()


@cache
def series(day: int) -> Series:
    return read_series(recording(f"leafspy_62kwh_trip_day{day}.csv"), shipped_pack("leaf_62kwh"))


@cache
def fitted(day: int, pack: str) -> Fit:
    return fit_series(series(day), base(pack))


@pytest.mark.parametrize("pack", ["shipped", "neutral"])
@pytest.mark.parametrize(("day", "other"), PAIRS)
def test_one_day_predicts_voltage_and_temperature_of_another(day: int, other: int, pack: str) -> None:
    judged = judge(fitted(day, pack), series(other))
    assert judged.voltage_rmse_percent <= 0.5
    assert judged.voltage_ratio <= 0.6  # to the curve alone, fitted to the same day
    assert judged.temperature_rmse_k is not None
    assert judged.temperature_rmse_k <= 1.5
    assert judged.temperature_open_loop_k is not None
    assert judged.temperature_open_loop_k <= 3.0
    assert judged.hour_ahead_rmse_k is not None
    assert judged.hour_persistence_rmse_k is not None
    assert judged.hour_ahead_rmse_k <= 0.5 * judged.hour_persistence_rmse_k


@pytest.mark.parametrize(("day", "other"), PAIRS)
def test_rise_across_each_unlogged_charge_of_another_day_is_met_within_2_5_k(day: int, other: int) -> None:
    gaps = judge(fitted(day, "shipped"), series(other)).gaps
    assert len(gaps) == int(series(other).gap.sum())
    for gap in gaps:
        assert gap.predicted_k == pytest.approx(gap.measured_k, abs=2.5)


def test_a_day_of_5_minute_rows_leaves_capacity_and_heat_loss_unidentified() -> None:
    fit = fitted(1, "neutral")
    for name in ("capacity_ah", "thermal.still_air_w_per_k", "thermal.plates_to_casing_w_per_k"):
        assert not fit.parameter(name).identified
        assert fit.parameter(name).value == fit.parameter(name).prior
    assert fit.parameter("resistance.series_ohm").identified
    assert fit.pack.capacity_ah == 176.4
    assert fit.soh == pytest.approx(0.953, abs=0.001)


def test_ambient_is_recognised_as_fahrenheit_and_refused_when_called_celsius() -> None:
    assert any("taken as degF" in note for note in series(1).notes)
    assert 5.0 < float(np.min(series(1).ambient_c)) < float(np.max(series(1).ambient_c)) < 40.0
    with pytest.raises(ConfigError, match="--temperature-unit"):
        read_series(recording("leafspy_62kwh_trip_day1.csv"), shipped_pack("leaf_62kwh"), temperature_unit="C")


@pytest.mark.parametrize(
    ("name", "pack", "advice"),
    [
        ("leafspy_62kwh_trip_day1.csv", "env200_40kwh", "fit it as leaf_62kwh"),
        ("leafspy_24kwh_tropical.csv", "env200_40kwh", "24 kWh pack"),
        ("carcan_env200_40kwh_idle.txt", "env200_40kwh", "no pack voltage and no pack current"),
        ("chademo_ze1_start_and_charge.csv", "env200_40kwh", "no pack voltage and no pack current"),
    ],
)
def test_recording_that_cannot_serve_is_refused_with_the_reason(name: str, pack: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        read_series(recording(name), shipped_pack(pack))


def test_start_up_of_a_van_on_the_ev_can_identifies_nothing() -> None:
    pack = shipped_pack("env200_40kwh")
    fit = fit_series(read_series(recording("evcan_env200_40kwh_retrofit_startup.crtd"), pack), pack)
    assert not any(parameter.identified for parameter in fit.parameters)
    assert fit.pack.resistance == pack.resistance


def test_5_second_rows_of_a_24_kwh_car_give_its_series_resistance_though_the_curve_is_of_another_chemistry() -> None:
    pack = shipped_pack("env200_40kwh").model_copy(update={"name": "leaf_24kwh", "capacity_ah": 65.4})
    found = read_series(recording("leafspy_24kwh_tropical.csv"), pack)
    assert found.driven_by == "current"
    fit = fit_series(found, pack)
    resistance = fit.parameter("resistance.series_ohm")
    assert resistance.identified
    assert abs(resistance.mean - 0.0645) < 2.0 * resistance.sd  # regression over 20 780 rows of this car at 24 degC
    assert any("another chemistry" in note for note in fit.notes)
