"""The Shapley value against its definition: the mean over all orders in which the uses can come."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.scenarios.attribution import coalitions, counterfactual, shapley

NAMES = ("driving", "v2g", "rapid", "fourth")


def by_all_orders(values: dict[frozenset[str], float], players: tuple[str, ...]) -> dict[str, float]:
    gains: dict[str, list[float]] = {player: [] for player in players}
    for order in permutations(players):
        there: frozenset[str] = frozenset()
        for player in order:
            gains[player].append(values[there | {player}] - values[there])
            there |= {player}
    return {player: math.fsum(found) / len(found) for player, found in gains.items()}


@st.composite
def games(draw: st.DrawFn) -> tuple[dict[frozenset[str], float], tuple[str, ...]]:
    players = NAMES[: draw(st.integers(0, 4))]
    number = st.floats(-1.0, 1.0, allow_nan=False)
    return {each: draw(number) for each in coalitions(players)}, players


@given(games())
def test_shares_are_the_mean_over_all_orders_and_add_up(
    game: tuple[dict[frozenset[str], float], tuple[str, ...]],
) -> None:
    values, players = game
    found = shapley(values, players)
    expected = by_all_orders(values, players)
    for player in players:
        assert found[player] == pytest.approx(expected[player], abs=1e-12)
    whole = values[frozenset(players)] - values[frozenset()]
    assert math.fsum(found.values()) == pytest.approx(whole, abs=1e-12)


@given(games())
def test_parts_of_a_counterfactual_add_up_to_1e_9(
    game: tuple[dict[frozenset[str], float], tuple[str, ...]],
) -> None:
    values, players = game
    assert abs(counterfactual("b1", values, players).residual) < 1e-9


def test_a_use_that_does_nothing_gets_nothing() -> None:
    values = {each: 0.05 + 0.02 * ("driving" in each) for each in coalitions(("driving", "v2g"))}
    found = shapley(values, ("driving", "v2g"))
    assert found["v2g"] == 0.0
    assert found["driving"] == pytest.approx(0.02)


def test_last_in_first_in_and_the_share_between_them() -> None:
    losses = {
        frozenset[str](): 0.069,
        frozenset({"driving"}): 0.074,
        frozenset({"v2g"}): 0.0796,
        frozenset({"driving", "v2g"}): 0.0899,
    }
    found = counterfactual("b1", losses, ("driving", "v2g")).of("v2g")
    assert found is not None
    assert found.last_in == pytest.approx(0.0159)
    assert found.first_in == pytest.approx(0.0106)
    assert found.shapley == pytest.approx(0.01325)


def test_a_use_that_saves_wear_has_a_negative_share() -> None:
    losses = {
        frozenset[str](): 0.07,
        frozenset({"driving"}): 0.075,
        frozenset({"v2g"}): 0.068,
        frozenset({"driving", "v2g"}): 0.0735,
    }
    shares = counterfactual("b1", losses, ("driving", "v2g"))
    of_v2g = shares.of("v2g")
    assert of_v2g is not None
    assert of_v2g.shapley < 0.0
    assert shares.of("rapid") is None


def test_a_missing_run_is_named() -> None:
    with pytest.raises(ValueError, match="v2g"):
        shapley({frozenset(): 0.0, frozenset({"driving"}): 1.0}, ["driving", "v2g"])


def test_three_uses_need_eight_runs() -> None:
    assert len(coalitions(("driving", "v2g", "rapid"))) == 8
