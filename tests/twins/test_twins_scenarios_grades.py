"""Grades of a used pack: the worst criterion decides, and says why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from twins.scenarios.grading import Findings, GradeLetter, GradeRules, StressHistory

GOOD = Findings(
    capacity_percent=91.0,
    resistance_percent=112.0,
    self_discharge_percent_per_month=0.3,
    weakest_group_percent=1.6,
    history=StressHistory(years=8.0, hot_h=80.0, full_h=9000.0, empty_h=20.0, rapid_charges=40),
)


def test_a_pack_that_meets_every_criterion_is_an_a_and_says_so() -> None:
    found = GradeRules().judge(GOOD)
    assert found.grade == "A"
    assert found.reasons == ("A: every criterion allows it",)
    assert len(found.criteria) == 9


@pytest.mark.parametrize(
    ("capacity_percent", "grade"),
    [(80.0, "A"), (79.99, "B"), (70.0, "B"), (69.99, "C"), (60.0, "C"), (59.99, "reject")],
)
def test_capacity_is_judged_unrounded_at_its_limits(capacity_percent: float, grade: GradeLetter) -> None:
    assert GradeRules().judge(replace(GOOD, capacity_percent=capacity_percent)).grade == grade


def test_the_worst_criterion_decides_and_is_the_reason() -> None:
    found = GradeRules().judge(replace(GOOD, capacity_percent=75.0, resistance_percent=220.0))
    assert found.grade == "C"
    assert found.reasons == ("C, not B: resistance of 220 % of new (A: at most 150, B: at most 200, C: at most 300)",)


def test_a_value_that_could_not_be_measured_rejects() -> None:
    found = GradeRules().judge(replace(GOOD, resistance_percent=math.nan))
    assert found.grade == "reject"
    assert "could not be measured" in found.reasons[0]


def test_stress_lowers_the_grade_and_cannot_reject() -> None:
    tortured = StressHistory(
        years=2.0, hot_h=5000.0, full_h=17_000.0, empty_h=9000.0, cold_charging_h=4000.0, rapid_charges=2000
    )
    assert GradeRules().judge(replace(GOOD, history=tortured)).grade == "C"


def test_stress_is_judged_per_year_of_life() -> None:
    rules = GradeRules()
    short = replace(GOOD, history=StressHistory(years=1.0, hot_h=180.0))
    long = replace(GOOD, history=StressHistory(years=9.0, hot_h=180.0))
    assert (rules.judge(short).grade, rules.judge(long).grade) == ("B", "A")


def test_limits_are_parameters() -> None:
    strict = GradeRules(capacity_percent=(95.0, 90.0, 85.0))
    assert strict.judge(GOOD).grade == "B"


def test_large_values_are_told_without_an_exponent() -> None:
    empty = replace(GOOD, history=StressHistory(years=1.0, empty_h=4936.0))
    assert GradeRules().judge(empty).reasons[0].startswith("C, not B: emptiness of 4936 h a year below 10 % (")


def test_a_reason_that_is_an_input_of_the_pack_file_says_so() -> None:
    reason = GradeRules().judge(replace(GOOD, weakest_group_percent=4.0)).reasons[0]
    assert reason.startswith("B, not A: weakest group of 4 % below the mean, input of the pack file (")
