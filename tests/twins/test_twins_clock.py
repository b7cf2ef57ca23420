"""The stepped clock: exact, forward only, and nothing but what it was told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.clock import SteppedClock

EIGHT = 1_768_464_000.0  # 2026-01-15T08:00:00Z


def test_a_million_tenths_of_a_second_are_a_hundred_thousand_seconds() -> None:
    clock = SteppedClock(EIGHT)
    for _ in range(1_000_000):
        clock.advance(0.1)
    assert clock.mono_s == 100_000.0
    assert clock.utc_s == EIGHT + 100_000.0


def test_it_stands_still_until_it_is_advanced() -> None:
    clock = SteppedClock(EIGHT)
    assert (clock.mono_s, clock.utc_s) == (0.0, EIGHT)
    clock.advance(60.0)
    assert (clock.mono_s, clock.utc_s) == (60.0, EIGHT + 60.0)
    assert clock.mono_s == 60.0


@pytest.mark.parametrize("step_s", [0.0, -1.0, -1e-9, 1e-9, math.nan, math.inf, -math.inf])
def test_a_step_that_does_not_move_time_forward_is_refused_and_changes_nothing(step_s: float) -> None:
    clock = SteppedClock(EIGHT)
    clock.advance(5.0)
    with pytest.raises(ValueError, match="time only moves forward"):
        clock.advance(step_s)
    assert clock.mono_s == 5.0


@given(st.lists(st.floats(1e-6, 3600.0), min_size=1, max_size=30))
def test_every_accepted_step_moves_both_times_alike(steps_s: list[float]) -> None:
    clock = SteppedClock(EIGHT)
    for step_s in steps_s:
        before_s = clock.mono_s
        clock.advance(step_s)
        assert clock.mono_s > before_s
    assert clock.mono_s == pytest.approx(sum(steps_s), abs=1e-6 * len(steps_s))
    assert clock.utc_s == EIGHT + clock.mono_s
