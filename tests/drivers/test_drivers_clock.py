"""The wall clock as session clock, and dead-lines that always end."""

from __future__ import annotations

import math
import time

import pytest

from drivers.clock import Deadline, WallClock


def test_the_wall_clock_starts_at_zero_and_moves_with_the_computer() -> None:
    clock = WallClock()
    first = clock.mono_s
    time.sleep(0.02)
    assert 0.0 <= first < 0.5
    assert 0.02 <= clock.mono_s - first < 1.0
    assert clock.utc_s == pytest.approx(time.time(), abs=1.0)


def test_session_time_never_runs_backwards() -> None:
    clock = WallClock()
    seen = [clock.mono_s for _ in range(1000)]
    assert seen == sorted(seen)


def test_a_dead_line_passes_once_and_its_rest_never_falls_below_zero() -> None:
    deadline = Deadline.after(0.03)
    assert not deadline.passed
    assert 0.0 < deadline.remaining_s <= 0.03
    assert deadline.allowed_s == 0.03
    time.sleep(0.04)
    assert deadline.passed
    assert deadline.remaining_s == 0.0


def test_a_dead_line_does_not_follow_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline.after(5.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert deadline.remaining_s > 4.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_there_is_no_for_ever(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        Deadline.after(seconds)
