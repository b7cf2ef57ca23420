"""Grades of a used pack, with the reason for each: a rule per property, the worst one decides.

The thresholds are this project's own. ANSI/CAN/UL 1974 (Evaluation for Repurposing or Remanufacturing Batteries) asks
whoever repurposes packs to sort and grade them by their own criteria for capacity, resistance, self-discharge and
history; it gives no letters. So each threshold is a parameter, is printed beside the value that it judged, and can be
given otherwise.

>>> rules = GradeRules()
>>> found = rules.judge(Findings(88.0, 163.0, 0.4, 2.0, StressHistory(years=8.0, hot_h=100.0)))
>>> found.grade, found.reasons[0]
('B', 'B, not A: resistance of 163 % of new (A: at most 150, B: at most 200, C: at most 300)')
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final, Literal

GradeLetter = Literal["A", "B", "C", "reject"]
_LETTERS: Final[tuple[GradeLetter, ...]] = ("A", "B", "C", "reject")

PACK_INPUT: Final = "input of the pack file"
"""Origin of a value that the twin was given: the test finds what the file says, whatever happened to the pack."""
TESTED: Final = "tested on the twin"
COUNTED: Final = "counted over its life"

Limits = tuple[float, float, float]  # of A, B and C


@dataclass(frozen=True, slots=True)
class StressHistory:
    """What the pack went through, each over its whole life; hours, counts, kilometres."""

    years: float
    hot_h: float = 0.0  # cells above 40 degC
    full_h: float = 0.0  # above 90 % SOC
    empty_h: float = 0.0  # below 10 % SOC
    cold_charging_h: float = 0.0  # cells charged below 0 degC
    rapid_charges: int = 0
    equivalent_full_cycles: float = 0.0
    km: float = 0.0
    hottest_c: float = math.nan
    coldest_c: float = math.nan

    def per_year(self, value: float) -> float:
        """A figure of the life as one of the mean year."""
        return value / self.years if self.years > 0.0 else value

    def document(self) -> dict[str, float | int | None]:
        """The history for programs."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What the tests of a used pack found, and what it went through. NaN is a value that could not be found."""

    capacity_percent: float  # of the new pack's
    resistance_percent: float  # of the new pack's under the same pulse
    self_discharge_percent_per_month: float
    weakest_group_percent: float  # by which the weakest group has less capacity than the mean
    history: StressHistory


@dataclass(frozen=True, slots=True)
class Criterion:
    """One property, its value, the limits of the three grades, and the grade that it allows.

    `origin` is where the value comes from; one that is an input of the pack file says nothing about how it aged.
    """

    name: str
    value: float
    unit: str
    limits: Limits
    at_least: bool
    grade: GradeLetter
    origin: str

    def text(self) -> str:
        """The judgement in words, with all limits."""
        word = "at least" if self.at_least else "at most"
        limits = ", ".join(
            f"{letter}: {word} {limit:g}" if math.isfinite(limit) else f"{letter}: any"
            for letter, limit in zip(_LETTERS, self.limits, strict=False)
        )
        value = "that could not be measured" if math.isnan(self.value) else f"of {_readable(self.value)} {self.unit}"
        told = f", {self.origin}" if self.origin == PACK_INPUT else ""
        return f"{self.name} {value}{told} ({limits})"


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade, and every criterion that it comes from."""

    grade: GradeLetter
    criteria: tuple[Criterion, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """What keeps the pack from a better grade; for an A, that nothing does."""
        worst = [each for each in self.criteria if each.grade == self.grade and self.grade != "A"]
        if not worst:
            return ("A: every criterion allows it",)
        better = _LETTERS[_LETTERS.index(self.grade) - 1]
        return tuple(f"{self.grade}, not {better}: {each.text()}" for each in worst)


@dataclass(frozen=True, slots=True)
class GradeRules:
    """Limits of A, B and C per property; what meets none is rejected. This project's own, and no standard's.

    Stress is judged per year of life, and cannot reject by itself: what it did to the pack shows in the measurements,
    what it may still do is a matter of trust, and so of the grade.
    """

    capacity_percent: Limits = (80.0, 70.0, 60.0)
    resistance_percent: Limits = (150.0, 200.0, 300.0)
    self_discharge_percent_per_month: Limits = (3.0, 5.0, 10.0)
    weakest_group_percent: Limits = (3.0, 5.0, 10.0)
    hot_h_per_year: Limits = (100.0, 500.0, math.inf)
    full_h_per_year: Limits = (4000.0, math.inf, math.inf)
    empty_h_per_year: Limits = (200.0, 1000.0, math.inf)
    cold_charging_h_per_year: Limits = (100.0, 500.0, math.inf)
    rapid_charges_per_year: Limits = (100.0, 300.0, math.inf)

    def judge(self, found: Findings) -> Grade:
        """Grade a pack; the worst criterion decides."""
        history = found.history
        criteria = (
            _judged("capacity", found.capacity_percent, "% of new", self.capacity_percent, TESTED, at_least=True),
            _judged("resistance", found.resistance_percent, "% of new", self.resistance_percent, TESTED),
            _judged(
                "self-discharge",
                found.self_discharge_percent_per_month,
                "% a month",
                self.self_discharge_percent_per_month,
                PACK_INPUT,
            ),
            _judged(
                "weakest group", found.weakest_group_percent, "% below the mean", self.weakest_group_percent, PACK_INPUT
            ),
            _judged("heat", history.per_year(history.hot_h), "h a year above 40 °C", self.hot_h_per_year),
            _judged("fullness", history.per_year(history.full_h), "h a year above 90 %", self.full_h_per_year),
            _judged("emptiness", history.per_year(history.empty_h), "h a year below 10 %", self.empty_h_per_year),
            _judged(
                "cold charging",
                history.per_year(history.cold_charging_h),
                "h a year below 0 °C",
                self.cold_charging_h_per_year,
            ),
            _judged(
                "rapid charging", history.per_year(history.rapid_charges), "charges a year", self.rapid_charges_per_year
            ),
        )
        worst = max(criteria, key=lambda each: _LETTERS.index(each.grade))
        return Grade(worst.grade, criteria)


def _readable(value: float) -> str:
    """Three significant digits, and never an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def _judged(
    name: str, value: float, unit: str, limits: Limits, origin: str = COUNTED, *, at_least: bool = False
) -> Criterion:
    grade: GradeLetter = "reject"
    for letter, limit in zip(_LETTERS, limits, strict=False):
        if (value >= limit) if at_least else (value <= limit):  # NaN meets neither
            grade = letter
            break
    return Criterion(name, value, unit, limits, at_least, grade, origin)
