"""The remuneration contract: grid orders, charging baselines, and the anchors of the records that are paid for.

Section 9 of the paper: the grid operator notifies an order of load decrease or increase in a time frame, and the
vehicle's charging is stopped, started or reversed. The paper's words "upward" and "downward" are not used, because its
introduction gives both the same meaning; `load_decrease` and `load_increase` say what the grid sees.

>>> outcome = order((), GridOrder(order_id="o1", vehicle_id="van", utc_s=0.0, direction="load_decrease",
...                               start_utc_s=60.0, duration_s=900.0, ordered_power_w=5000.0))
>>> list(outcome.writes["remuneration"])
['order/van/o1']
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ledgers.canonical import Json
from ledgers.contracts.contract import (
    Contract,
    Document,
    Effects,
    Event,
    Identifier,
    Input,
    Outcome,
    UtcSeconds,
    WorldState,
    refuse_function,
    text_member,
)
from ledgers.contracts.usage import UsageAnchor, anchor_usage, usage_of
from ledgers.errors import ContractRefused

REMUNERATION = "remuneration"

_Duration = Annotated[float, Field(gt=0, le=7 * 86_400)]  # a week: longer "orders" are contracts


class GridOrder(Input):
    """One order of a grid operator.

    `ordered_power_w` is a magnitude above zero; the direction says whether the grid sees less load (the vehicle stops
    or feeds in) or more (it charges). `utc_s` is when the order was issued.
    """

    order_id: Identifier
    vehicle_id: Identifier
    utc_s: UtcSeconds
    direction: Literal["load_decrease", "load_increase"]
    start_utc_s: UtcSeconds
    duration_s: _Duration
    ordered_power_w: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="after")
    def _starts_after_it_was_issued(self) -> Self:
        if self.start_utc_s < self.utc_s:
            raise ValueError(f"the order starts {self.utc_s - self.start_utc_s:.3f} s before it was issued")
        return self

    @property
    def end_utc_s(self) -> float:
        """When it ends; an order that starts then does not overlap."""
        return round(self.start_utc_s + self.duration_s, 3)

    @property
    def key(self) -> str:
        """The key under which it is stored."""
        return f"order/{self.vehicle_id}/{self.order_id}"


class Baseline(Input):
    """What the vehicle would have drawn without orders (Table 2, "charging baseline"), mean power over a time."""

    vehicle_id: Identifier
    utc_s: UtcSeconds
    start_utc_s: UtcSeconds
    duration_s: _Duration
    baseline_power_w: Annotated[float, Field(ge=-1e6, le=1e6)]

    @property
    def key(self) -> str:
        """The key under which it is stored; a later baseline of the same start replaces it."""
        return f"baseline/{self.vehicle_id}/{self.start_utc_s:017.3f}"


def order(state: tuple[GridOrder, ...], new: GridOrder) -> Outcome[tuple[GridOrder, ...]]:
    """Accept an order beside the vehicle's earlier ones.

    The same order again changes nothing. Raises ContractRefused for another order under a known name, and for one that
    overlaps an order in force: a vehicle cannot follow two.
    """
    for known in state:
        if known.order_id == new.order_id:
            if known == new:
                return Outcome(state, Effects())
            raise ContractRefused(f"order {new.order_id!r} exists with other values; give the new one another name")
        if known.start_utc_s < new.end_utc_s and new.start_utc_s < known.end_utc_s:
            raise ContractRefused(
                f"order {new.order_id!r} overlaps order {known.order_id!r}, in force from UTC second "
                f"{known.start_utc_s:.3f} to {known.end_utc_s:.3f}; a vehicle follows one order at a time"
            )
    document = new.to_json()
    effects = Effects({REMUNERATION: {new.key: document}}, {REMUNERATION: (Event("grid_order", document),)})
    return Outcome((*state, new), effects)


class RemunerationContract:
    """Transactions: `order` (GridOrder), `baseline` (Baseline), `usage` (UsageAnchor).

    Queries: `orders` and `v2g_events` and `baselines` ({"vehicle_id"}), `usage` ({"session_id"}).
    """

    name = REMUNERATION
    version = "remuneration/1.0"
    channel = REMUNERATION

    def transact(self, function: str, document: Document, state: WorldState) -> Effects:
        """Run `order`, `baseline` or `usage`."""
        if function == "order":
            new = GridOrder.read(document)
            known = tuple(GridOrder.read(item) for _, item in state.scan(REMUNERATION, f"order/{new.vehicle_id}/"))
            return order(known, new).effects
        if function == "baseline":
            baseline = Baseline.read(document)
            return Effects({REMUNERATION: {baseline.key: baseline.to_json()}})
        if function == "usage":
            anchor = UsageAnchor.read(document)
            return anchor_usage(usage_of(state, REMUNERATION, anchor.session_id), anchor, REMUNERATION).effects
        raise refuse_function(self.name, function, ("order", "baseline", "usage"))

    def query(self, function: str, document: Document, state: WorldState) -> Json:
        """Answer `orders`, `v2g_events`, `baselines` or `usage`."""
        prefixes = {"orders": "order", "v2g_events": "v2g", "baselines": "baseline"}
        if function in prefixes:
            vehicle_id = text_member(document, "vehicle_id", self.name)
            return [item for _, item in state.scan(REMUNERATION, f"{prefixes[function]}/{vehicle_id}/")]
        if function == "usage":
            session_id = text_member(document, "session_id", self.name)
            found = usage_of(state, REMUNERATION, session_id)
            if found is None:
                raise ContractRefused(
                    f"no usage record of session {session_id!r} is anchored on channel 'remuneration'"
                )
            return found.to_json()
        raise refuse_function(self.name, function, (*prefixes, "usage"))


_: type[Contract] = RemunerationContract
