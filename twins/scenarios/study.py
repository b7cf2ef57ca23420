"""A scenario's answer: the same years with and without V2G, who wore the pack, what it cost, how long it still lasts.

One life is simulated for each subset of the uses that the scenario has (driving, V2G, rapid charging), all with the
same charging habit, weather and chance, and all laws are counted in each. So every law has its own counterfactual
division, and any figure of V2G wear comes with its spread over laws: laws differ more than ten-fold on the same use,
which is far more than any digit of one of them.

The live figure beside it comes from one life alone, and sees neither that V2G makes a vehicle stand at another charge
nor that driving would have worn a fresher pack more. Both are exact sums; they answer different questions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from threading import Event, Lock
from typing import Final

import numpy as np

from twins.pack.laws import LAWS, Law
from twins.pack.parameters import PackParameters
from twins.pack.uses import Use
from twins.scenarios.attribution import Counterfactual, coalitions, counterfactual
from twins.scenarios.climate import DAYS_PER_YEAR
from twins.scenarios.grading import GradeRules
from twins.scenarios.habits import ANSWERABLE, uses_of
from twins.scenarios.life import SOC_EDGES, TEMPERATURE_EDGES_C, Life, Point, Week, live
from twins.scenarios.model import Scenario
from twins.scenarios.money import WearPrice, per, wear_price
from twins.scenarios.outlook import HORIZON_YEARS
from twins.scenarios.second_life import SecondLife, second_life

AGE_SCHEMA: Final = "v2gbench.age/1.0"
StudyProgress = Callable[[int, int], None]  # days done and days in all, over all lives

_V2G: Final = "v2g"
_ALL: Final = 0.98  # of what a use asked: given less, it is told, because wear is then of another use than the file's


@dataclass(frozen=True, slots=True)
class WarrantyOutlook:
    """When one life meets its warranty line under one law. Years count from the first day.

    The warranty ends at `ends_years`, by age or by distance, whichever is first. `crossing_years` is None when the line
    is not met within `HORIZON_YEARS` more. Beyond the simulated years the law goes on with the wear of its last one.
    """

    law: str
    ends_years: float
    ends_by: str  # "age" or "distance"
    capacity_at_end_percent: float
    crossing_years: float | None
    simulated: bool
    remaining_years: float | None  # from the last simulated day

    @property
    def kept(self) -> bool:
        """Whether the capacity is above its line until the warranty ends."""
        return self.crossing_years is None or self.crossing_years >= self.ends_years


@dataclass(frozen=True, slots=True)
class V2gWear:
    """What V2G wore off under one law, as fractions of the new capacity, and what that cost in millionths.

    Costs are of the Shapley share, the headline: what V2G answers for among all uses. `cost_last_in_micro` is what it
    costs somebody who drives anyway; its sign may be another. `live` is the live attribution of the same life.
    """

    law: str
    chemistry: str
    shapley: float
    last_in: float
    first_in: float
    live: float
    outside_share: float
    cost_micro: int
    cost_per_kwh_micro: int | None
    cost_per_available_hour_micro: int | None
    cost_last_in_micro: int
    cost_last_in_per_kwh_micro: int | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest and largest of a figure over laws, with the laws that say so."""

    low: float
    low_law: str
    high: float
    high_law: str


@dataclass(frozen=True, slots=True)
class V2gService:
    """What the vehicle did for the grid, over all simulated years, at the pack's terminals."""

    contract: str
    delivered_kwh: float
    absorbed_kwh: float  # while under contract, not the recharge at home
    asked_kwh: float
    available_h: float


@dataclass(frozen=True, slots=True)
class AgingStudy:
    """Everything that a report of a scenario shows. `laws[0]` aged the pack; losses are fractions of the new capacity.

    `lives` has the life of each subset of `uses`; `whole`, `without_v2g` and `parked` are three of them (the same one
    where the scenario lacks V2G, or any use). `counterfactuals`, `wear` and the outlooks have one entry per law.
    """

    scenario: Scenario
    parameters: PackParameters
    laws: tuple[str, ...]
    uses: tuple[str, ...]
    years: int
    lives: Mapping[frozenset[str], Life]
    counterfactuals: tuple[Counterfactual, ...]
    live: Mapping[str, Mapping[str, float]]
    price: WearPrice
    service: V2gService | None
    wear: tuple[V2gWear, ...]
    outlook: tuple[WarrantyOutlook, ...]
    outlook_without_v2g: tuple[WarrantyOutlook, ...]
    second_life: SecondLife
    second_life_without_v2g: SecondLife

    @property
    def whole(self) -> Life:
        """The life with all uses."""
        return self.lives[frozenset(self.uses)]

    @property
    def without_v2g(self) -> Life:
        """The life without V2G; the whole one where there is no V2G."""
        return self.lives[frozenset(self.uses) - {_V2G}]

    @property
    def parked(self) -> Life:
        """The life with nothing but the charging habit."""
        return self.lives[frozenset()]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the pack was asked for and could not give, a sentence each; none where every use got 98 % of it."""
        trips = ("do these trips", "distance and wear are of what it could do")
        with_v2g, without = (_shortfall(life, Use.DRIVING, *trips) for life in (self.whole, self.without_v2g))
        found = [with_v2g]
        if with_v2g != without:
            found = [f"{which}, {told}" for which, told in (("with V2G", with_v2g), ("without V2G", without)) if told]
        grid = ("give all that V2G asks", "wear, cost and availability are of what it could give")
        found.append(_shortfall(self.whole, Use.V2G, *grid))
        return tuple(told for told in found if told)

    def spread(self, *, same_chemistry: bool) -> Spread | None:
        """V2G wear (Shapley) from the mildest to the harshest law; of the pack's chemistry only, or of all laws."""
        found = [each for each in self.wear if not same_chemistry or each.chemistry == self.parameters.chemistry]
        if not found:
            return None
        low, high = min(found, key=lambda each: each.shapley), max(found, key=lambda each: each.shapley)
        return Spread(low.shapley, low.law, high.shapley, high.law)

    def document(self, *, series: bool = False) -> dict[str, object]:
        """The study for programs; losses in points (% of the new capacity). `series` adds sample weeks and hours."""
        aging = self.parameters.aging
        found: dict[str, object] = {
            "schema": AGE_SCHEMA,
            "material": "simulated",
            "scenario": self.scenario.model_dump(mode="json", by_alias=True, exclude_none=True),
            "pack": self.parameters.name,
            "years": self.years,
            "warnings": list(self.warnings),
            "laws": list(self.laws),
            "law_notes": {name: _law_document(LAWS[name]) for name in self.laws},
            "scales": {"calendar": aging.calendar_scale, "cycle": aging.cycle_scale},
            "uses": list(self.uses),
            "with_v2g": _life_document(self.whole),
            "without_v2g": _life_document(self.without_v2g),
            "parked": _life_document(self.parked),
            "attribution": {
                "counterfactual": [each.document() for each in self.counterfactuals],
                "live_points": {
                    name: {cause: 100.0 * value for cause, value in causes.items()}
                    for name, causes in self.live.items()
                },
            },
            "warranty": {
                "line_percent": self.scenario.warranty.capacity_percent,
                "with_v2g": [_outlook_document(each) for each in self.outlook],
                "without_v2g": [_outlook_document(each) for each in self.outlook_without_v2g],
                "method": "law continued with the wear of its last year",
            },
            "v2g": self._v2g_document(),
            "second_life": {
                "with_v2g": self.second_life.document(),
                "without_v2g": self.second_life_without_v2g.document(),
            },
        }
        if series:
            found["series"] = {
                "with_v2g": _series_document(self.whole),
                "without_v2g": _series_document(self.without_v2g),
            }
        return found

    def _v2g_document(self) -> dict[str, object] | None:
        if self.service is None:
            return None
        return {
            **asdict(self.service),
            "currency": self.price.currency,
            "wear": [
                {
                    "law": each.law,
                    "chemistry": each.chemistry,
                    "shapley_points": 100.0 * each.shapley,
                    "last_in_points": 100.0 * each.last_in,
                    "first_in_points": 100.0 * each.first_in,
                    "live_points": 100.0 * each.live,
                    "outside_validity_share": each.outside_share,
                    "cost_micro": each.cost_micro,
                    "cost_per_kwh_micro": each.cost_per_kwh_micro,
                    "cost_per_available_hour_micro": each.cost_per_available_hour_micro,
                    "cost_last_in_micro": each.cost_last_in_micro,
                    "cost_last_in_per_kwh_micro": each.cost_last_in_per_kwh_micro,
                }
                for each in self.wear
            ],
            "spread_same_chemistry": _spread_document(self.spread(same_chemistry=True)),
            "spread_all_laws": _spread_document(self.spread(same_chemistry=False)),
        }

    def text(self) -> str:
        """The study for people."""
        aging, end = self.parameters.aging, self.whole.end
        title = self.scenario.title or self.scenario.name
        lines = [
            (
                f"{title}: {_plural(self.years, 'year')} of {self.parameters.name}, simulated; a year has "
                f"{end.km / self.years:.0f} km and {end.equivalent_full_cycles / self.years:.0f} full cycles"
            ),
            (
                f"laws: {self.laws[0]} ages the pack, {len(self.laws) - 1} counted beside it; scales "
                f"{aging.calendar_scale:g} (calendar) and {aging.cycle_scale:g} (cycle) hold for all of them"
            ),
            *(f"WARNING: {warning}" for warning in self.warnings),
            "",
            "year  capacity  resistance  full cycles" + ("   without V2G" if self.service else ""),
        ]
        for with_v2g, without in zip(self.whole.years_end, self.without_v2g.years_end, strict=True):
            beside = f"  {100 * without.soh:12.2f} %" if self.service else ""
            lines.append(
                f"{with_v2g.years:4.0f}  {100 * with_v2g.soh:6.2f} %  {100 * (1 + with_v2g.resistance_growth):8.1f} %"
                f"  {with_v2g.equivalent_full_cycles:11.0f}{beside}"
            )
        lines += ["", *self._attribution_lines(), "", *self._v2g_lines(), *self._outlook_lines(), ""]
        lines.append(self.second_life.text())
        if self.service:
            lines.append(self.second_life_without_v2g.text())
        return "\n".join(lines)

    def _attribution_lines(self) -> list[str]:
        lines = [
            "loss in points by cause, counterfactual (Shapley; last in / first in), parked with this habit as base:"
        ]
        width = max(len(name) for name in self.laws)
        for each in self.counterfactuals:
            shares = ", ".join(
                f"{share.use} {100 * share.shapley:+.2f} ({100 * share.last_in:+.2f} / {100 * share.first_in:+.2f})"
                for share in each.shares
            )
            outside = self.whole.end.of(each.law).outside_share
            lines.append(
                f"  {each.law:{width}}  {100 * each.total:5.2f} = parked {100 * each.parked:.2f}"
                f"{', ' + shares if shares else ''}; {100 * outside:.0f} % of it outside the law's tested range"
            )
        causes = ", ".join(f"{cause} {100 * value:.2f}" for cause, value in self.live[self.laws[0]].items())
        lines.append(f"live (one life, {self.laws[0]}): {causes}")
        return lines + [f"  {name}: {LAWS[name].title}; {LAWS[name].caveat}" for name in self.laws]

    def _v2g_lines(self) -> list[str]:
        service = self.service
        if service is None:
            return ["V2G: none in this scenario"]
        lines = [
            (
                f"V2G ({service.contract}): {service.delivered_kwh:.0f} kWh out of {service.asked_kwh:.0f} asked, "
                f"{service.absorbed_kwh:.0f} kWh in, {service.available_h:.0f} h available"
            )
        ]
        for same, word in ((True, f"laws for {self.parameters.chemistry}"), (False, "all laws")):
            spread = self.spread(same_chemistry=same)
            if spread is None or spread.low_law == spread.high_law:
                lines.append(f"  V2G wear over {word}: no spread, because fewer than two of them were counted")
            else:
                lines.append(
                    f"  V2G wear over {word}: {100 * spread.low:+.2f} ({spread.low_law}) to "
                    f"{100 * spread.high:+.2f} points ({spread.high_law})"
                )
        return lines + [
            f"  {wear.law}: {_money(wear.cost_micro, self.price.currency, 2)}, "
            f"{_money(wear.cost_per_kwh_micro, self.price.currency, 4)} per kWh delivered, "
            f"{_money(wear.cost_per_available_hour_micro, self.price.currency, 4)} per hour available; "
            f"last in {_money(wear.cost_last_in_micro, self.price.currency, 2)}, "
            f"{_money(wear.cost_last_in_per_kwh_micro, self.price.currency, 4)} per kWh"
            for wear in self.wear
        ]

    def _outlook_lines(self) -> list[str]:
        first = self.outlook[0]
        line = self.scenario.warranty.capacity_percent
        lines = [
            (
                f"warranty: {line:g} % until {first.ends_years:.1f} years (by {first.ends_by}); beyond the simulated "
                "years each law goes on with its last year"
            )
        ]
        beside: tuple[WarrantyOutlook | None, ...] = self.outlook_without_v2g
        if self.service is None:
            beside = (None,) * len(self.outlook)
        for each, without in zip(self.outlook, beside, strict=True):
            other = "" if without is None else f"; without V2G {_crossing(without)}"
            lines.append(
                f"  {each.law}: {each.capacity_at_end_percent:.1f} % when it ends, line met {_crossing(each)}{other}"
            )
        return lines


def study(
    scenario: Scenario,
    parameters: PackParameters,
    *,
    laws: Sequence[str] | None = None,
    rules: GradeRules | None = None,
    progress: StudyProgress | None = None,
    workers: int | None = None,
) -> AgingStudy:
    """Simulate all lives of a scenario, on `workers` processors (all by default), and draw the conclusions.

    `laws[0]` ages the pack; by default the pack file's own, and all others beside it. Raises ConfigError for a law that
    does not exist.
    """
    own = parameters.aging.law
    names = tuple(laws) if laws is not None else (own, *(name for name in LAWS if name != own))
    there = uses_of(scenario)
    players = tuple(use for use in ANSWERABLE if use in there)
    lives = _simulate(scenario, parameters, coalitions(players), names, progress, workers)
    uses = tuple(use.name.lower() for use in players)
    whole = lives[frozenset(uses)]
    without = lives[frozenset(uses) - {_V2G}]
    counterfactuals = tuple(
        counterfactual(name, {subset: life.end.of(name).loss for subset, life in lives.items()}, uses) for name in names
    )
    price = wear_price(scenario, full_energy_wh=parameters.new_full_energy_wh)
    service = _service(scenario, whole) if Use.V2G in there else None
    return AgingStudy(
        scenario=scenario,
        parameters=parameters,
        laws=names,
        uses=uses,
        years=scenario.years,
        lives=lives,
        counterfactuals=counterfactuals,
        live=whole.live,
        price=price,
        service=service,
        wear=tuple(_wear(each, whole, service, price) for each in counterfactuals) if service is not None else (),
        outlook=tuple(_outlook(scenario, whole, name) for name in names),
        outlook_without_v2g=tuple(_outlook(scenario, without, name) for name in names),
        second_life=second_life(whole, name=f"after {_plural(scenario.years, 'year')}", rules=rules),
        second_life_without_v2g=second_life(
            without, name=f"after {_plural(scenario.years, 'year')} without V2G", rules=rules
        ),
    )


def _simulate(
    scenario: Scenario,
    parameters: PackParameters,
    subsets: Sequence[frozenset[Use]],
    laws: tuple[str, ...],
    progress: StudyProgress | None,
    workers: int | None,
) -> dict[frozenset[str], Life]:
    """All lives, several at once: the kernel works without the interpreter's lock, and no life knows of another."""
    total = scenario.years * DAYS_PER_YEAR * len(subsets)
    done, lock, stop = 0, Lock(), Event()

    def count(days: int) -> None:
        nonlocal done
        with lock:
            done += days
            if progress is not None:
                progress(done, total)

    everything = subsets[-1]
    shown = {everything, everything - {Use.V2G}}

    def run(subset: frozenset[Use]) -> Life:
        return live(scenario, parameters, uses=subset, laws=laws, progress=count, stop=stop, weeks=subset in shown)

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        try:
            # The longest lives first, so that no processor is left over at the end.
            running: dict[frozenset[Use], Future[Life]] = {each: pool.submit(run, each) for each in reversed(subsets)}
            return {frozenset(use.name.lower() for use in subset): running[subset].result() for subset in subsets}
        except BaseException:
            stop.set()
            raise


def _shortfall(life: Life, use: Use, cannot: str, holds: str) -> str:
    """What is lacking of a use, in a sentence; empty where it got what it asked."""
    moved = life.energy(use)
    if moved.given_wh >= _ALL * moved.asked_wh:
        return ""
    return f"the pack cannot {cannot}: {moved.given_wh / 1000:.0f} kWh of {moved.asked_wh / 1000:.0f}; {holds}"


def _service(scenario: Scenario, whole: Life) -> V2gService:
    moved = whole.energy(Use.V2G)
    return V2gService(
        contract=scenario.v2g.kind,
        delivered_kwh=moved.discharged_wh / 1000.0,
        absorbed_kwh=moved.charged_wh / 1000.0,
        asked_kwh=moved.asked_discharge_wh / 1000.0,
        available_h=whole.available_h,
    )


def _wear(found: Counterfactual, whole: Life, service: V2gService, price: WearPrice) -> V2gWear:
    share = found.of(_V2G)
    assert share is not None  # a service is there only where V2G is
    cost_micro, last_in_micro = price.cost_micro(share.shapley), price.cost_micro(share.last_in)
    return V2gWear(
        law=found.law,
        chemistry=LAWS[found.law].chemistry,
        shapley=share.shapley,
        last_in=share.last_in,
        first_in=share.first_in,
        live=whole.live[found.law].get(_V2G, 0.0),
        outside_share=whole.end.of(found.law).outside_share,
        cost_micro=cost_micro,
        cost_per_kwh_micro=per(cost_micro, service.delivered_kwh),
        cost_per_available_hour_micro=per(cost_micro, service.available_h),
        cost_last_in_micro=last_in_micro,
        cost_last_in_per_kwh_micro=per(last_in_micro, service.delivered_kwh),
    )


def _outlook(scenario: Scenario, life: Life, name: str) -> WarrantyOutlook:
    warranty = scenario.warranty
    line = 1.0 - warranty.capacity_percent / 100.0
    km_per_year = life.end.km / life.years
    by_distance = warranty.km / km_per_year if km_per_year > 0.0 else float("inf")
    ends_years = min(warranty.years, by_distance)
    years = [point.years for point in life.points]
    losses = [point.of(name).loss for point in life.points]
    going = life.going[name]
    if ends_years <= life.years:
        loss_at_end = float(np.interp(ends_years, years, losses))
    else:
        loss_at_end = going.loss_after(ends_years - life.years)
    simulated = losses[-1] >= line
    crossing: float | None
    if simulated:
        after = next(index for index, loss in enumerate(losses) if loss >= line)
        crossing = (
            0.0 if after == 0 else float(np.interp(line, losses[after - 1 : after + 1], years[after - 1 : after + 1]))
        )
        remaining: float | None = 0.0
    else:
        remaining = going.years_until(line)
        crossing = None if remaining is None else life.years + remaining
    return WarrantyOutlook(
        law=name,
        ends_years=ends_years,
        ends_by="age" if warranty.years <= by_distance else "distance",
        capacity_at_end_percent=100.0 * (1.0 - loss_at_end),
        crossing_years=crossing,
        simulated=simulated,
        remaining_years=remaining,
    )


def _law_document(each: Law) -> dict[str, object]:
    return {
        "title": each.title,
        "source": each.source,
        "chemistry": each.chemistry,
        "caveat": each.caveat,
        "c_rate_convention": each.c_rate_convention,
        "validity": asdict(each.validity),
    }


def _life_document(life: Life) -> dict[str, object]:
    return {
        "uses": list(life.uses),
        "years": [_point_document(point) for point in life.years_end],
        "months": [
            {
                "day": point.day,
                "soh_percent": 100.0 * point.soh,
                "resistance_percent": 100.0 * (1.0 + point.resistance_growth),
                "efc": point.equivalent_full_cycles,
            }
            for point in life.points
        ],
        "energies": [asdict(energy) for energy in life.energies],
        "loss_wh": life.loss_wh,
        "history": life.history.document(),
    }


def _point_document(point: Point) -> dict[str, object]:
    return {
        "year": point.years,
        "capacity_percent": 100.0 * point.soh,
        "resistance_percent": 100.0 * (1.0 + point.resistance_growth),
        "efc": point.equivalent_full_cycles,
        "km": point.km,
        "laws": {
            each.law: {
                "loss_points": 100.0 * each.loss,
                "calendar_points": 100.0 * each.calendar,
                "cycle_points": 100.0 * each.cycle,
                "resistance_growth_points": 100.0 * each.resistance_growth,
                "outside_validity_share": each.outside_share,
            }
            for each in point.laws
        },
    }


def _series_document(life: Life) -> dict[str, object]:
    return {
        "hours": {
            "soc_edges": np.round(SOC_EDGES, 3).tolist(),
            "temperature_edges_c": TEMPERATURE_EDGES_C.tolist(),
            "hours": np.round(life.hours, 2).tolist(),
        },
        "weeks": [_week_document(week) for week in life.weeks],
    }


def _week_document(week: Week) -> dict[str, object]:
    return {
        "name": week.name,
        "first_day": week.first_day,
        "period_s": 60,
        "soc": np.round(week.soc, 4).tolist(),
        "temperature_c": np.round(week.temperature_c, 2).tolist(),
        "ambient_c": np.round(week.ambient_c, 2).tolist(),
        "power_w": np.round(week.power_w, 0).tolist(),
    }


def _outlook_document(each: WarrantyOutlook) -> dict[str, object]:
    return {**asdict(each), "kept": each.kept}


def _spread_document(spread: Spread | None) -> dict[str, object] | None:
    if spread is None:
        return None
    return {
        "low_points": 100.0 * spread.low,
        "low_law": spread.low_law,
        "high_points": 100.0 * spread.high,
        "high_law": spread.high_law,
    }


def _crossing(each: WarrantyOutlook) -> str:
    if each.crossing_years is None:
        return f"not within {HORIZON_YEARS:.0f} more years"
    return f"after {each.crossing_years:.1f} years"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _money(micro: int | None, currency: str, decimals: int) -> str:
    return "-" if micro is None else f"{micro / 1e6:.{decimals}f} {currency}"
