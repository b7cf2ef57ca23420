"""What a vehicle does on one day of its scenario, second by second: the profile generator.

A day depends on the seed and its number alone, whatever was generated before; and each chance process has a stream of
its own, so that the same trips are driven with and without V2G. Only then is the difference of two lives the wear of
what differs, and not that of other traffic lights.

Where two uses want the same time, driving goes first, then a rapid charge, then V2G, then the AC charge: a vehicle that
is away gives nothing to the grid. The AC charge of the habit runs in every life; `uses` takes the others away for
counterfactual runs.

Everything is generated at 1 s; a coarser step holds the mean over its seconds. That hides cycling: a stop-go drive has
far less throughput at 60 s than at 1 s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from twins.pack.series import Drive
from twins.pack.uses import Use
from twins.scenarios.climate import DAYS_PER_YEAR, SECONDS_PER_DAY, ambient_c
from twins.scenarios.model import DailyDischarge, Days, Driving, FrequencyRegulation, Orders, Scenario, Trip, minute_of

ANSWERABLE: Final = (Use.DRIVING, Use.V2G, Use.RAPID)  # uses that wear is attributed to; the habit is their base

_DRIVING_STREAM, _V2G_STREAM = 0, 1
_HOUR_S: Final = 3600

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a vehicle, before the pack says how full it is.

    All arrays have one value per step. `hours` are the begins, in steps, of hours in which the base power of frequency
    regulation is set anew from the state of charge.
    """

    step_s: int
    power_w: Floats
    ambient_c: Floats
    use: NDArray[np.uint8]
    speed_km_h: Floats
    soc_ceiling: Floats
    soc_floor: Floats
    hours: tuple[int, ...] = ()

    @property
    def km(self) -> float:
        """Distance of all trips, in km, whether the pack can drive them or not."""
        return float(self.speed_km_h.sum()) * self.step_s / 3600.0

    @property
    def available_s(self) -> float:
        """Time under contract and plugged in, in s, whatever the pack's charge."""
        return float(np.count_nonzero(self.use == Use.V2G)) * self.step_s

    def pieces(self) -> Iterator[slice]:
        """The day in slices that each end where the base power has to be set anew; most days are one slice."""
        borders = [0, *(hour for hour in self.hours if hour > 0), len(self.power_w)]
        for begin, end in itertools.pairwise(borders):
            yield slice(begin, end)

    def drive(self, piece: slice = slice(None), power_w: Floats | None = None) -> Drive:
        """A slice of the day as input of the pack, optionally with another power over it."""
        return Drive(
            dt_s=float(self.step_s),
            power_w=self.power_w[piece] if power_w is None else power_w,
            ambient_c=self.ambient_c[piece],
            use=self.use[piece],
            speed_km_h=self.speed_km_h[piece],
            soc_ceiling=self.soc_ceiling[piece],
            soc_floor=self.soc_floor[piece],
        )


def uses_of(scenario: Scenario) -> frozenset[Use]:
    """Those of `ANSWERABLE` that the scenario has at all."""
    there = {
        Use.DRIVING: bool(scenario.driving.trips),
        Use.V2G: scenario.v2g.kind != "none",
        Use.RAPID: scenario.charging.rapid is not None,
    }
    return frozenset(use for use in ANSWERABLE if there[use])


def day_drive(scenario: Scenario, day_index: int, *, uses: frozenset[Use] | None = None) -> Drive:
    """Input of the pack for one whole day, without the base power of frequency regulation, which needs its SOC.

    `day_index` counts from 0, a Monday and 1 January; `uses` are the uses that take place, all by default.
    """
    return generate_day(scenario, day_index, uses=uses).drive()


def generate_day(scenario: Scenario, day_index: int, *, uses: frozenset[Use] | None = None) -> Day:
    """One day; see `day_drive`."""
    uses = frozenset(ANSWERABLE) if uses is None else uses
    draft = _Draft(scenario, day_index)
    draft.charge()
    if Use.V2G in uses:
        draft.serve_grid()
    if Use.RAPID in uses:
        draft.charge_rapidly()
    if Use.DRIVING in uses:
        draft.travel()
    return draft.finish()


def base_power_w(scenario: Scenario, day: Day, piece: slice, *, soc: float, full_energy_wh: float) -> Floats:
    """Power over `piece` with the base power that leads to the regulation's target within an hour, bounded, in W.

    `soc` is the pack's own at the begin of the piece, a fraction; `full_energy_wh` its energy when full. Droop and
    base power together stay within the contract's power.
    """
    contract = scenario.v2g.frequency_regulation
    power_w = day.power_w[piece]
    if contract is None or not day.hours:
        return power_w
    wanted_w = (contract.target_percent / 100.0 - soc) * full_energy_wh
    base_w = min(contract.base_w, max(-contract.base_w, wanted_w))
    moved = np.clip(power_w + base_w, -contract.power_w, contract.power_w)
    found: Floats = np.where(day.use[piece] == Use.V2G, moved, power_w)
    return found


class _Draft:
    """A day in the making, at 1 s; what is written later goes over what was written before."""

    def __init__(self, scenario: Scenario, day_index: int) -> None:
        self._scenario = scenario
        self._day = day_index
        self._power_w = np.zeros(SECONDS_PER_DAY)
        self._use = np.full(SECONDS_PER_DAY, Use.PARKED, dtype=np.uint8)
        self._speed_km_h = np.zeros(SECONDS_PER_DAY)
        self._ceiling = np.ones(SECONDS_PER_DAY)
        self._floor = np.zeros(SECONDS_PER_DAY)

    def charge(self) -> None:
        charging = self._scenario.charging
        for window in _windows(charging.start, charging.until):
            self._write(window, charging.power_w, Use.CHARGING, ceiling=charging.ceiling_percent)

    def serve_grid(self) -> None:
        v2g = self._scenario.v2g
        if v2g.daily_discharge is not None:
            self._discharge(v2g.daily_discharge)
        elif v2g.frequency_regulation is not None:
            self._regulate(v2g.frequency_regulation)
        elif v2g.orders is not None:
            self._obey(v2g.orders)

    def charge_rapidly(self) -> None:
        rapid = self._scenario.charging.rapid
        if rapid is None or not _is_due(self._day, rapid.per_month):
            return
        begin = 60 * minute_of(rapid.at)
        window = slice(begin, min(SECONDS_PER_DAY, begin + 60 * rapid.minutes))
        self._write(window, rapid.power_w, Use.RAPID, ceiling=rapid.ceiling_percent)

    def travel(self) -> None:
        driving = self._scenario.driving
        for index, trip in enumerate(driving.trips.values()):
            if _falls_on(trip.days, self._day):
                power_w = _traction_w(driving, trip, self._random(_DRIVING_STREAM, index))
                begin = 60 * minute_of(trip.depart)
                window = slice(begin, begin + len(power_w))
                self._write(window, power_w, Use.DRIVING)
                self._speed_km_h[window] = driving.mean_km_h

    def finish(self) -> Day:
        step_s = self._scenario.step_s
        regulated: tuple[int, ...] = ()
        if self._scenario.v2g.frequency_regulation is not None:
            serving = (self._use == Use.V2G).reshape(-1, _HOUR_S).any(axis=1)
            regulated = tuple(int(hour) * _HOUR_S // step_s for hour in np.flatnonzero(serving))
        return Day(
            step_s=step_s,
            power_w=_means(self._power_w, step_s),
            ambient_c=ambient_c(self._scenario.climate.resolved(), day_index=self._day, step_s=step_s),
            use=np.ascontiguousarray(self._use[::step_s]),
            speed_km_h=_means(self._speed_km_h, step_s),
            soc_ceiling=np.ascontiguousarray(self._ceiling[::step_s]),
            soc_floor=np.ascontiguousarray(self._floor[::step_s]),
            hours=regulated,
        )

    def _discharge(self, contract: DailyDischarge) -> None:
        for number, window in enumerate(_windows(contract.start, contract.end)):
            if not _falls_on(contract.days, self._day):
                continue
            seconds = window.stop - window.start
            chance = self._random(_V2G_STREAM, number)
            spread_w = chance.uniform(-1.0, 1.0, math.ceil(seconds / contract.update_s)) * contract.spread_w
            orders_w = np.repeat(np.minimum(0.0, -contract.discharge_w + spread_w), contract.update_s)
            self._write(window, orders_w[:seconds], Use.V2G, floor=contract.floor_percent)

    def _regulate(self, contract: FrequencyRegulation) -> None:
        for number, window in enumerate(_windows(contract.start, contract.end)):
            if not _falls_on(contract.days, self._day):
                continue
            phi = math.exp(-1.0 / contract.memory_s)
            chance = self._random(_V2G_STREAM, number)
            deviation_mhz = contract.deviation_mhz * _autoregressive(phi, window.stop - window.start, chance)
            power_w = contract.power_w * np.clip(deviation_mhz / contract.full_deviation_mhz, -1.0, 1.0)
            self._write(window, power_w, Use.V2G, floor=contract.floor_percent, ceiling=contract.ceiling_percent)

    def _obey(self, orders: Orders) -> None:
        for order in orders.placed.values():
            if self._day % DAYS_PER_YEAR == order.day_of_year - 1:
                window = slice(60 * minute_of(order.start), 60 * minute_of(order.end))
                self._write(window, order.power_w, Use.V2G, floor=orders.floor_percent, ceiling=orders.ceiling_percent)

    def _write(
        self, window: slice, power_w: Floats | float, use: Use, *, floor: float = 0.0, ceiling: float = 100.0
    ) -> None:
        self._power_w[window] = power_w
        self._use[window] = use
        self._speed_km_h[window] = 0.0
        self._floor[window] = floor / 100.0
        self._ceiling[window] = ceiling / 100.0

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._scenario.seed, self._day, stream, number])


def _traction_w(driving: Driving, trip: Trip, chance: np.random.Generator) -> Floats:
    """Power of one trip at 1 s; positive charges the pack, so that traction is negative."""
    drawn_w = driving.mean_w + driving.sigma_w * _autoregressive(driving.phi, 60 * trip.minutes, chance)
    found: Floats = -np.clip(drawn_w, -driving.regeneration_w, driving.most_w)
    return found


def _autoregressive(phi: float, count: int, chance: np.random.Generator) -> Floats:
    """First-order autoregressive series of unit variance, stationary from its first value on."""
    shocks = chance.standard_normal(count) * math.sqrt(1.0 - phi * phi)
    shocks[0] /= math.sqrt(1.0 - phi * phi)
    found: Floats = lfilter([1.0], [1.0, -phi], shocks)
    return found


def _windows(start: str, end: str) -> tuple[slice, ...]:
    """The seconds of a day between two times; through midnight, and the whole day for equal ones."""
    begin, stop = 60 * minute_of(start), 60 * minute_of(end)
    if begin < stop:
        return (slice(begin, stop),)
    return tuple(part for part in (slice(0, stop), slice(begin, SECONDS_PER_DAY)) if part.start < part.stop)


def _falls_on(days: Days, day_index: int) -> bool:
    return days == "all" or (days == "weekdays") == (day_index % 7 < 5)


def _is_due(day_index: int, per_month: float) -> bool:
    """Whether an even spread of `per_month` events in a twelfth of a year has one on this day; at most one a day."""
    until, before = (math.floor(day * per_month * 12.0 / DAYS_PER_YEAR) for day in (day_index + 1, day_index))
    return until > before


def _means(seconds: Floats, step_s: int) -> Floats:
    if step_s == 1:
        return seconds
    found: Floats = seconds.reshape(-1, step_s).mean(axis=1)
    return found
