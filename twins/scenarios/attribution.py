"""Who wears the battery: the counterfactual figure, by the Shapley value over twin runs.

Wear is not additive: two uses together wear a pack more, or less, than the sum of each alone, because loss is a concave
function of what was done and because each use shifts the state of charge at which the vehicle then stands. "What did
V2G cost" has so several true answers: last in (the whole life less the life without V2G, which studies quote) and first
in (a life of nothing but V2G less a parked life). The Shapley value is the mean over all orders in which the uses can
come; it is the only division that adds up, treats uses alike and gives nothing to a use that does nothing.

Shares may be negative: V2G that lowers the state of charge overnight can save more calendar wear than it costs. They
are not clipped.

Source: L. S. Shapley, A value for n-person games, 1953.

>>> divided = shapley(
...     {frozenset(): 6.9, frozenset({"drive"}): 7.4, frozenset({"v2g"}): 8.0, frozenset({"drive", "v2g"}): 9.0},
...     ["drive", "v2g"],
... )
>>> {name: round(value, 3) for name, value in divided.items()}
{'drive': 0.75, 'v2g': 1.35}
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

Player = TypeVar("Player", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Share:
    """What one use adds to the loss, as a fraction of the new capacity; each may be negative."""

    use: str
    shapley: float
    last_in: float  # whole life less the life without this use
    first_in: float  # a life of this use alone less the parked life


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The loss of a whole life: the parked base, with the same charging habit, and each use's share of the rest."""

    law: str
    parked: float
    total: float
    shares: tuple[Share, ...]

    @property
    def residual(self) -> float:
        """What the parts leave of the total; zero up to rounding."""
        return self.total - self.parked - math.fsum(share.shapley for share in self.shares)

    def of(self, use: str) -> Share | None:
        """The share of one use; None when the scenario has no such use."""
        return next((share for share in self.shares if share.use == use), None)

    def document(self) -> dict[str, object]:
        """The figure for programs; losses are in points, percent of the new capacity."""
        return {
            "law": self.law,
            "parked_points": 100.0 * self.parked,
            "total_points": 100.0 * self.total,
            "residual_points": 100.0 * self.residual,
            "shares": [
                {
                    "use": share.use,
                    "shapley_points": 100.0 * share.shapley,
                    "last_in_points": 100.0 * share.last_in,
                    "first_in_points": 100.0 * share.first_in,
                }
                for share in self.shares
            ],
        }


def coalitions(players: Sequence[Player]) -> tuple[frozenset[Player], ...]:
    """All subsets, the empty one first and the whole last; 2^n runs answer for n players."""
    return tuple(frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size))


def shapley(values: Mapping[frozenset[Player], float], players: Sequence[Player]) -> dict[Player, float]:
    """Each player's share of `values[all] - values[none]`; the shares add up to it.

    `values` has an entry for each subset of `players`. Raises ValueError, naming the first missing, when one is not
    there, and when a player comes twice.
    """
    if len(set(players)) != len(players):
        raise ValueError("a player comes twice")
    missing = next((each for each in coalitions(players) if each not in values), None)
    if missing is not None:
        raise ValueError(f"no value for {set(missing) or 'nobody'}; each subset of the players needs one")
    count = len(players)
    shares = {}
    for player in players:
        others = [other for other in players if other != player]
        shares[player] = math.fsum(
            (values[coalition | {player}] - values[coalition]) / (count * math.comb(count - 1, len(coalition)))
            for coalition in coalitions(others)
        )
    return shares


def counterfactual(law: str, losses: Mapping[frozenset[str], float], uses: Sequence[str]) -> Counterfactual:
    """Divide the loss of the life with all `uses` under one law; `losses` has the loss of each life, as a fraction."""
    divided = shapley(losses, uses)
    nobody: frozenset[str] = frozenset()
    everybody = frozenset(uses)
    return Counterfactual(
        law=law,
        parked=losses[nobody],
        total=losses[everybody],
        shares=tuple(
            Share(
                use=use,
                shapley=divided[use],
                last_in=losses[everybody] - losses[everybody - {use}],
                first_in=losses[frozenset({use})] - losses[nobody],
            )
            for use in uses
        ),
    )
