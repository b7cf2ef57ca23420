"""What wear costs: shares of a pack's useful life in whole micro-units of the currency (a millionth; µ€).

A pack is bought new and sold at its line (70 % by default); the fall in its price over that span is what its first life
costs. Wear that took a share of the span took that share of the cost:

    cost = points lost / (100 - line) x full energy of the new pack x (price new - price at the line)

Amounts are integers: the cost is rounded once, half to even, to whole micro-units; a cost per kWh or per hour is that
integer divided and rounded once more in the same way. A wear that is negative is a saving, and so is its cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from twins.scenarios.model import Scenario

MICRO_PER_CENT = 10_000


@dataclass(frozen=True, slots=True)
class WearPrice:
    """The span of a pack's first life and what it costs."""

    currency: str
    span: float  # of capacity, as a fraction: 0.3 down to a line of 70 %
    span_micro: int  # what the pack loses in price over it

    def cost_micro(self, wear: float) -> int:
        """Cost of a loss, given as a fraction of the new capacity, in whole micro-units; negative for a saving."""
        return round(wear / self.span * self.span_micro)


def wear_price(scenario: Scenario, *, full_energy_wh: float) -> WearPrice:
    """The price of wear in a scenario, for a pack of that new full energy."""
    prices = scenario.prices
    fall_cents = prices.battery_cents_per_kwh - prices.second_life_cents_per_kwh
    return WearPrice(
        currency=prices.currency,
        span=1.0 - scenario.warranty.capacity_percent / 100.0,
        span_micro=round(full_energy_wh * fall_cents * MICRO_PER_CENT / 1000.0),
    )


def per(amount_micro: int, count: float) -> int | None:
    """An amount per kWh or per hour, in whole micro-units; None where there was none of it."""
    return round(amount_micro / count) if count > 0.0 else None
