"""Scenario files: years of use of one pack, as people write them (`scenarios/*.yaml`).

A scenario says where the vehicle lives, how it is driven and charged, what it does for the grid, and what counts as
the end of its warranty. It holds nothing that a pack file holds; whoever has the pack's own parameters names that file.

Trips, and orders of the grid operator, have names, so that a slip in one is told at its place. Times of day are
"HH:MM"; a window whose end is not after its begin runs through midnight. Money is whole cents.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from drivers.documents import load_model
from twins.pack.laws import LAWS
from twins.pack.parameters import AgingParameters, PackParameters, resolve_pack
from twins.scenarios.climate import PLACES, Climate

SCENARIO_SCHEMA: Final = "v2gbench.scenario/1.0"

Days = Literal["weekdays", "weekend", "all"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
TimeOfDay = Annotated[
    str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description='a time of day from "00:00" to "23:59"')
]
Percent = Annotated[float, Field(ge=0, le=100)]


class Part(BaseModel):
    """A group of keys: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ClimateKeys(Part):
    """A place, or three numbers, or a place with some of its numbers changed."""

    place: Literal["danish", "favignana", "mediterranean"] | None = Field(default=None, description="a shipped climate")
    mean_c: float | None = Field(default=None, ge=-20, le=40, description="mean over the year, in °C")
    yearly_amplitude_k: float | None = Field(default=None, ge=0, le=30, description="half the seasonal swing, in K")
    daily_amplitude_k: float | None = Field(default=None, ge=0, le=15, description="half the daily swing, in K")

    @model_validator(mode="after")
    def _is_a_climate(self) -> Self:
        numbers = (self.mean_c, self.yearly_amplitude_k, self.daily_amplitude_k)
        if self.place is None and None in numbers:
            raise ValueError("name a place, or give mean_c, yearly_amplitude_k and daily_amplitude_k")
        return self

    def resolved(self) -> Climate:
        """The climate, with what the file does not say taken from its place."""
        base = Climate(0.0, 0.0, 0.0, source="scenario file") if self.place is None else PLACES[self.place]
        changed = self.model_dump(exclude_none=True, exclude={"place"})
        return Climate(
            mean_c=changed.get("mean_c", base.mean_c),
            yearly_amplitude_k=changed.get("yearly_amplitude_k", base.yearly_amplitude_k),
            daily_amplitude_k=changed.get("daily_amplitude_k", base.daily_amplitude_k),
            coldest_day=base.coldest_day,
            warmest_hour=base.warmest_hour,
            source=base.source if not changed else f"{base.source}; changed in the scenario file",
        )


class Trip(Part):
    """One trip at the same time on each of its days; it ends on the day on which it begins."""

    days: Days
    depart: TimeOfDay
    minutes: int = Field(ge=1, le=720, description="how long, in minutes")

    @model_validator(mode="after")
    def _ends_today(self) -> Self:
        if minute_of(self.depart) + self.minutes > 24 * 60:
            raise ValueError(f"a trip ends before midnight; {self.minutes} minutes from {self.depart} do not")
        return self

    def overlaps(self, other: Trip) -> bool:
        """Whether a vehicle would be on both trips at once."""
        same_day = "all" in {self.days, other.days} or self.days == other.days
        begin, other_begin = minute_of(self.depart), minute_of(other.depart)
        return same_day and begin < other_begin + other.minutes and other_begin < begin + self.minutes


class Driving(Part):
    """Traction power of a trip: first-order autoregressive around its mean, second by second, and bounded.

    `sigma_w` is the standard deviation of the series itself, not of its innovation. The defaults come close to a
    stop-go drive with regeneration; they are an estimate and no recording.
    """

    trips: dict[Name, Trip] = Field(default={}, max_length=12, description="by name")
    mean_w: float = Field(default=6000.0, ge=0, le=60_000, description="net drawn from the pack, in W")
    sigma_w: float = Field(default=13_500.0, ge=0, le=60_000, description="standard deviation, in W")
    phi: float = Field(default=0.85, ge=0, lt=1, description="correlation from one second to the next")
    most_w: float = Field(default=70_000.0, gt=0, le=120_000, description="hardest acceleration, in W")
    regeneration_w: float = Field(default=30_000.0, ge=0, le=80_000, description="hardest braking, in W")
    mean_km_h: float = Field(default=30.0, gt=0, le=130, description="speed of a trip: cooling air, and the odometer")

    @field_validator("trips")
    @classmethod
    def _one_at_a_time(cls, trips: dict[str, Trip]) -> dict[str, Trip]:
        for (name, trip), (other_name, other) in combinations(trips.items(), 2):
            if trip.overlaps(other):
                raise ValueError(f"the trips {name!r} and {other_name!r} overlap; a vehicle drives one at a time")
        return trips


class RapidCharging(Part):
    """DC rapid charges, spread evenly over the year; one begins at the same time each day that has one."""

    per_month: float = Field(gt=0, le=30, description="charges in a twelfth of a year")
    at: TimeOfDay = "12:30"
    power_w: float = Field(default=46_000.0, gt=0, le=150_000, description="into the pack, in W")
    ceiling_percent: Percent = Field(default=80.0, description="where it stops, in % of the pack's own SOC")
    minutes: int = Field(default=40, ge=1, le=120, description="where it stops at the latest")


class Charging(Part):
    """AC charging at home: each day from `start` until `until`, unless the ceiling is reached before."""

    power_w: float = Field(default=6600.0, gt=0, le=22_000, description="into the pack, in W")
    start: TimeOfDay = "22:00"
    until: TimeOfDay = "07:00"
    ceiling_percent: Percent = Field(default=90.0, description="where it stops, in % of the pack's own SOC")
    rapid: RapidCharging | None = None


class DailyDischarge(Part):
    """The same hours each day: a mean power, spread evenly, a new set-point every few seconds."""

    days: Days = "weekdays"
    start: TimeOfDay
    end: TimeOfDay
    discharge_w: float = Field(gt=0, le=150_000, description="out of the pack, in W")
    spread_w: float = Field(default=0.0, ge=0, le=50_000, description="set-points lie within mean ± this, in W")
    update_s: int = Field(default=4, ge=1, le=3600, description="time between two set-points")
    floor_percent: Percent = Field(default=20.0, description="where it stops, in % of the pack's own SOC")


class FrequencyRegulation(Part):
    """Droop on a synthetic frequency, with a base power set anew each hour that leads back to the target.

    The frequency is first-order autoregressive: `deviation_mhz` its standard deviation, `memory_s` its time constant.
    38 mHz against full power at 100 mHz gives 3.5 kW rms of 9.2 kW; Nordic frequency has about so much (from memory).
    """

    days: Days = "all"
    start: TimeOfDay
    end: TimeOfDay
    power_w: float = Field(gt=0, le=150_000, description="at full deviation, either way, in W")
    full_deviation_mhz: float = Field(default=100.0, gt=0, le=1000, description="where the whole power is given")
    deviation_mhz: float = Field(default=38.0, gt=0, le=500, description="standard deviation of the frequency")
    memory_s: float = Field(default=300.0, ge=1, le=7200, description="time constant of the frequency; estimate")
    target_percent: Percent = Field(default=70.0, description="the base power leads back to it")
    base_w: float = Field(default=3000.0, ge=0, le=50_000, description="largest base power, in W")
    floor_percent: Percent = Field(default=20.0, description="no discharge below")
    ceiling_percent: Percent = Field(default=95.0, description="no charge above")

    @model_validator(mode="after")
    def _target_lies_between(self) -> Self:
        if not self.floor_percent < self.target_percent < self.ceiling_percent:
            raise ValueError("floor_percent < target_percent < ceiling_percent must hold")
        return self


class Order(Part):
    """One order of the grid operator, on the same day each year."""

    day_of_year: int = Field(ge=1, le=365, description="1 is 1 January; a year has 365 days")
    start: TimeOfDay
    end: TimeOfDay
    power_w: float = Field(ge=-150_000, le=150_000, description="positive charges the vehicle, in W")

    @model_validator(mode="after")
    def _ends_today(self) -> Self:
        if minute_of(self.end) <= minute_of(self.start):
            raise ValueError(f"an order ends after it begins, on the same day; {self.start} to {self.end} does not")
        return self


class Orders(Part):
    """Single orders by name, and where they stop."""

    placed: dict[Name, Order] = Field(min_length=1, max_length=400, description="by name")
    floor_percent: Percent = Field(default=20.0, description="no discharge below")
    ceiling_percent: Percent = Field(default=95.0, description="no charge above")


class V2gContract(Part):
    """What the vehicle does for the grid: one of the three, or nothing. A vehicle that is away gives nothing."""

    daily_discharge: DailyDischarge | None = None
    frequency_regulation: FrequencyRegulation | None = None
    orders: Orders | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(part is not None for part in (self.daily_discharge, self.frequency_regulation, self.orders)) > 1:
            raise ValueError("a scenario has one contract: daily_discharge, frequency_regulation or orders")
        return self

    @property
    def kind(self) -> Literal["none", "daily_discharge", "frequency_regulation", "orders"]:
        """Which of the contracts it is."""
        if self.daily_discharge is not None:
            return "daily_discharge"
        if self.frequency_regulation is not None:
            return "frequency_regulation"
        return "none" if self.orders is None else "orders"


class Warranty(Part):
    """Where the maker's promise ends. Nissan: nine bars of twelve within 8 years or 160 000 km, from memory."""

    capacity_percent: float = Field(default=70.0, ge=30, le=95, description="of the new pack; nine bars are about 70 %")
    years: float = Field(default=8.0, gt=0, le=30)
    km: float = Field(default=160_000.0, gt=0, le=1e6)


class Prices(Part):
    """What wear costs. The defaults are examples and no offer."""

    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$", description="three letters, like EUR")
    battery_cents_per_kwh: int = Field(default=15_000, ge=0, le=10_000_000, description="a new pack, in whole cents")
    second_life_cents_per_kwh: int = Field(default=0, ge=0, le=10_000_000, description="paid for it at the line")

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.second_life_cents_per_kwh > self.battery_cents_per_kwh:
            raise ValueError("second_life_cents_per_kwh is what remains of battery_cents_per_kwh and cannot exceed it")
        return self


class AgingChange(Part):
    """A law or scales other than those of the pack file."""

    law: str | None = Field(default=None, description="a name from twins.pack.laws")
    calendar_scale: float | None = Field(default=None, ge=0, le=10)
    cycle_scale: float | None = Field(default=None, ge=0, le=10)

    @field_validator("law")
    @classmethod
    def _is_a_law(cls, law: str | None) -> str | None:
        if law is not None and law not in LAWS:
            raise ValueError(f"no law of aging is called {law!r}; there are {', '.join(LAWS)}")
        return law


class Scenario(Part):
    """Years of use of one pack; see the parts for units and ranges."""

    schema_: Annotated[Literal["v2gbench.scenario/1.0"], Field(alias="schema")] = "v2gbench.scenario/1.0"
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="for file names: small letters, digits, _ . -"
    )
    title: str = Field(default="", max_length=200, description="for people")
    years: int = Field(default=5, ge=1, le=30)
    step_s: Literal[1, 2, 5, 10, 15, 20, 30, 60] = 1
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="all chance comes from it")
    pack: str = Field(default="env200_40kwh", min_length=1, description="a shipped pack's name, or a pack file (.yaml)")
    initial_soh_percent: float = Field(default=100.0, ge=50, le=100, description="state of health on the first day")
    climate: ClimateKeys
    driving: Driving = Driving()
    charging: Charging = Charging()
    v2g: V2gContract = V2gContract()
    warranty: Warranty = Warranty()
    prices: Prices = Prices()
    aging: AgingChange = AgingChange()

    def parameters(self, folder: Path) -> PackParameters:
        """The pack that the scenario names, with its own law and scales; a file is looked for below `folder`.

        Raises ConfigError when there is no such pack, or when its file is wrong.
        """
        found = resolve_pack(self.pack, folder)
        changes: Mapping[str, str | float] = self.aging.model_dump(exclude_none=True)
        if not changes:
            return found
        aging = AgingParameters.model_validate({**found.aging.model_dump(), **changes})
        return found.model_copy(update={"aging": aging})


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file; raises ConfigError with line, key and allowed range."""
    return load_model(path, Scenario, what="scenario file", schema=SCENARIO_SCHEMA)


def minute_of(time: str) -> int:
    """The minute of the day of an "HH:MM".

    >>> minute_of("18:30")
    1110
    """
    return 60 * int(time[:2]) + int(time[3:])
