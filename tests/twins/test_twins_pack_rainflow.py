"""Streaming rainflow counts what the reference counts, whatever the series, and keeps what happened on each leg."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import rainflow
from hypothesis import given, settings
from hypothesis import strategies as st

from twins.pack.layout import G_AH, LEG_COLUMNS, STACK
from twins.pack.rainflow import C_BACK, C_CYCLES, C_OWN, count_cycles, new_stack, remainder, turn

Cycles = Counter[tuple[float, float, float]]


def ours(series: list[float]) -> Cycles:
    return Counter((round(r, 9), round(m, 9), c) for r, m, c in count_cycles(np.array(series, dtype=np.float64)))


def theirs(series: list[float]) -> Cycles:
    return Counter((round(r, 9), round(m, 9), c) for r, m, c, _, _ in rainflow.extract_cycles(series))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=3, max_size=80))
def test_random_series_give_the_cycles_of_the_reference(series: list[float]) -> None:
    if len(set(series)) > 1:
        assert ours(series) == theirs(series)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 5).map(float), min_size=3, max_size=60))
def test_series_full_of_ties_and_plateaus_give_the_cycles_of_the_reference(series: list[float]) -> None:
    if len(set(series)) > 1:
        assert ours(series) == theirs(series)


def test_a_day_of_an_electric_van_gives_the_cycles_of_the_reference() -> None:
    rng = np.random.default_rng(3)
    power = np.where(np.arange(86_400) % 28_800 < 5_400, -6_000.0 + rng.normal(0.0, 13_500.0, 86_400), 1_500.0)
    soc = np.clip(0.6 + np.cumsum(power) / 3600.0 / 41_000.0, 0.0, 1.0)
    counted = ours(soc.tolist())
    assert counted == theirs(soc.tolist())
    assert counted.total() > 3_000


def test_a_series_of_two_samples_is_half_a_cycle_where_the_reference_says_nothing() -> None:
    assert ours([0.2, 0.7]) == Counter({(0.5, 0.45, 0.5): 1})
    assert theirs([0.2, 0.7]) == Counter()


@pytest.mark.parametrize("series", [[], [0.4], [0.4, 0.4, 0.4]])
def test_a_series_that_does_not_move_has_no_cycle(series: list[float]) -> None:
    assert ours(series) == Counter()


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1.0), min_size=3, max_size=200))
def test_what_happened_on_the_legs_is_neither_lost_nor_counted_twice(ranges: list[float]) -> None:
    series = np.cumsum([each if index % 2 else -each for index, each in enumerate(ranges)]).tolist()
    stack, closed = new_stack()
    waiting, given_out, brought = 0, 0.0, 0.0
    for index, value in enumerate(series):
        if index:
            moved = abs(value - series[index - 1])
            stack[waiting - 1, 1 + G_AH] = moved
            brought += moved
        waiting, written, _ = turn(stack, waiting, value, closed)
        given_out += float(closed[:written, C_OWN + G_AH].sum() + closed[:written, C_BACK + G_AH].sum())
    written = remainder(stack, waiting, closed, 0)
    given_out += float(closed[:written, C_OWN + G_AH].sum())
    assert given_out == pytest.approx(brought, abs=1e-9)


def test_more_shrinking_ranges_than_fit_are_given_up_as_half_cycles_and_said() -> None:
    stack, closed = new_stack()
    waiting, halves, given_up = 0, 0.0, 0
    for index in range(3 * STACK):
        waiting, written, lost = turn(stack, waiting, (-1.0) ** index * 0.99**index, closed)
        halves += float(closed[:written, C_CYCLES].sum())
        given_up += lost
    assert given_up == 2 * STACK
    assert halves == pytest.approx(0.5 * given_up)
    assert waiting == STACK


def test_the_stack_has_a_row_per_turning_point_and_a_column_per_thing_that_happened() -> None:
    stack, _ = new_stack()
    assert stack.shape == (STACK, 1 + LEG_COLUMNS)
