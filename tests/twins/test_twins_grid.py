"""The grid connection: inside EN 50160, sagging with power, and its own whatever else the station holds."""

from __future__ import annotations

import math

import pytest

from twins.grid import LowVoltageGrid
from twins.measurement import generator


def grid(seed: int = 7, **changes: float) -> LowVoltageGrid:
    return LowVoltageGrid("grid", generator(seed, "grid"), **changes)


@pytest.mark.parametrize("drawn_w", [-10_650.0, 0.0, 10_650.0])
def test_a_day_stays_inside_en_50160(drawn_w: float) -> None:
    feeder = grid()
    for minute in range(1, 24 * 60):
        feeder.step(drawn_w, 60.0, 60.0 * minute)
        assert 207.0 <= feeder.voltage_v <= 253.0  # 230 V +- 10 %
        assert 49.5 <= feeder.frequency_hz <= 50.5  # 50 Hz +- 1 %


def test_ten_kilowatts_on_three_phases_of_a_quarter_ohm_sag_by_3_6_volts_and_lift_as_much_when_injected() -> None:
    idle, drawing, injecting = grid(), grid(), grid()
    idle.step(0.0, 1.0, 1.0)
    drawing.step(10_000.0, 1.0, 1.0)
    injecting.step(-10_000.0, 1.0, 1.0)
    assert idle.voltage_v - drawing.voltage_v == pytest.approx(0.25 * 10_000.0 / 3.0 / 230.0)
    assert injecting.voltage_v - idle.voltage_v == pytest.approx(3.62, abs=0.01)


def test_one_seed_gives_one_feeder_and_another_seed_another() -> None:
    def hour(seed: int) -> list[tuple[float, float]]:
        feeder, seen = grid(seed), []
        for second in range(1, 3601):
            feeder.step(0.0, 1.0, float(second))
            seen.append((feeder.voltage_v, feeder.frequency_hz))
        return seen

    assert hour(7) == hour(7)
    assert hour(7) != hour(8)


def test_frequency_wanders_alike_whatever_the_step() -> None:
    def spread(step_s: float, steps: int) -> float:
        feeder, seen = grid(), list[float]()
        for number in range(1, steps + 1):
            feeder.step(0.0, step_s, step_s * number)
            seen.append(feeder.frequency_hz - 50.0)
        return math.sqrt(sum(value * value for value in seen) / len(seen))

    assert spread(1.0, 20_000) == pytest.approx(0.012, rel=0.15)
    assert spread(60.0, 4_000) == pytest.approx(0.012, rel=0.15)
