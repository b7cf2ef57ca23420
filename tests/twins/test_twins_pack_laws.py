"""Laws of aging: sums equal the published closed forms, and what each law says of heat, charge and cycles holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from twins.pack.laws import (
    CALENDAR,
    CALENDAR_RESISTANCE,
    CYCLE,
    CYCLE_ANODE,
    CYCLE_RESISTANCE,
    LAWS,
    TERMS,
    Floats,
    Law,
    anode_loss,
    calendar_rate_per_s,
    calendar_resistance_rate_per_s,
    closed_form_loss,
    cold_charging_factor,
    cycle_increment,
    law,
    loss,
)

DAY_S = 86_400.0
every_law = pytest.mark.parametrize("key", list(LAWS))


def summed(
    aged: Law,
    pieces: Floats,
    *,
    days: float,
    soc: float,
    temperature_c: float,
    cycles: float,
    depth: float,
    charge_c_rate: float,
    discharge_c_rate: float,
) -> Floats:
    """The states after so many days and cycles, in steps whose lengths are as the pieces."""
    shares = pieces / pieces.sum()
    y = np.zeros(TERMS)
    rate = float(calendar_rate_per_s(aged, soc, temperature_c))
    rate_resistance = float(calendar_resistance_rate_per_s(aged, soc, temperature_c))
    one = cycle_increment(aged.number, depth, soc, charge_c_rate, discharge_c_rate, temperature_c)
    for share in shares:
        y[CALENDAR] += rate * days * DAY_S * share
        y[CALENDAR_RESISTANCE] += rate_resistance * days * DAY_S * share
        for place, increment in zip((CYCLE, CYCLE_RESISTANCE, CYCLE_ANODE), one, strict=True):
            y[place] += increment * cycles * share
    return y


@every_law
@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40),
    days=st.floats(0.5, 5000.0),
    soc=st.floats(0.05, 0.95),
    temperature_c=st.floats(-20.0, 55.0),
    cycles=st.floats(1.0, 5000.0),
    depth=st.floats(0.01, 1.0),
    charge_c_rate=st.floats(0.01, 3.0),
    discharge_c_rate=st.floats(0.01, 3.0),
)
def test_sums_in_any_steps_equal_the_published_closed_form(
    key: str,
    pieces: list[float],
    days: float,
    soc: float,
    temperature_c: float,
    cycles: float,
    depth: float,
    charge_c_rate: float,
    discharge_c_rate: float,
) -> None:
    aged = law(key)
    y = summed(
        aged,
        np.array(pieces),
        days=days,
        soc=soc,
        temperature_c=temperature_c,
        cycles=cycles,
        depth=depth,
        charge_c_rate=charge_c_rate,
        discharge_c_rate=discharge_c_rate,
    )
    published = closed_form_loss(
        aged,
        days=days,
        soc=soc,
        temperature_c=temperature_c,
        cycles=cycles,
        depth=depth,
        charge_c_rate=charge_c_rate,
        discharge_c_rate=discharge_c_rate,
    )
    assert loss(aged.number, y, 1.0, 1.0) == pytest.approx(published, rel=1e-9, abs=1e-14)


# NREL's BLAST-Lite 1.1.1, one update from new with constant conditions (which is its closed form): capacity loss by
# standing and by cycling after 365 days at (soc, degC) and that many EFC of (depth, C-rate of both legs).
# Classes: NMC_Gr_50Ah_B1, Nmc111_Gr_Sanyo2Ah_Battery, Nmc622_Gr_DENSO50Ah_Battery (from its rates b1t and b1N, as its
# update replaces large steps), Nmc111_Gr_Kokam75Ah_Battery, Lmo_Gr_NissanLeaf66Ah_2ndLife_Battery (times 0.7).
MILD, WARM, COLD = (0.5, 25.0, 500.0, 0.8, 0.5), (0.8, 35.0, 200.0, 0.5, 0.25), (0.3, 10.0, 1000.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("key", "condition", "calendar", "cycle", "rel"),
    [
        ("b1", MILD, 0.02687727, 0.04724656, 1e-6),
        ("b1", WARM, 0.0619601, 0.01787756, 1e-6),
        ("b1", COLD, 0.0082428, 0.08746896, 1e-6),
        ("schmalstieg", MILD, 0.02383544, 0.18693753, 2e-3),
        ("schmalstieg", WARM, 0.07575407, 0.10124994, 2e-3),
        ("schmalstieg", COLD, 0.00601207, 0.31822733, 2e-3),
        ("denso", MILD, 0.02610705, 0.985 * 0.0013665055 * 4.479257003767675 * math.sqrt(500), 2e-4),
        ("denso", WARM, 0.03440046, 0.985 * 0.0018006025187156161 * 1.3567419195131407 * math.sqrt(200), 2e-4),
        ("denso", COLD, 0.011269, 0.985 * 0.0005898465139385046 * 20.042309168807314 * math.sqrt(1000), 2e-4),
        ("kokam", MILD, 0.01012884, 0.01892867, 1e-6),
        ("kokam", WARM, 0.07501486, 0.0090974, 1e-5),
        ("kokam", COLD, 0.00088456, 0.0278596, 1e-5),
        ("leaf_lmo", MILD, 0.7 * 0.05991184, 0.7 * 0.06230986, 1e-6),
        ("leaf_lmo", WARM, 0.7 * 0.15866704, 0.7 * 0.0231623, 1e-6),
        ("leaf_lmo", COLD, 0.7 * 0.01409783, 0.7 * 0.1317253, 1e-6),
    ],
)
def test_losses_are_those_of_blast_lite(
    key: str, condition: tuple[float, float, float, float, float], calendar: float, cycle: float, rel: float
) -> None:
    soc, temperature_c, efc, depth, c_rate = condition
    y = summed(
        law(key),
        np.ones(1),
        days=365.0,
        soc=soc,
        temperature_c=temperature_c,
        cycles=efc / depth,
        depth=depth,
        charge_c_rate=c_rate,
        discharge_c_rate=c_rate,
    )
    found = loss(law(key).number, y, 1.0, 1.0)
    assert found[2:] == pytest.approx((calendar, cycle), rel=rel)


def test_wang_and_naumann_meet_figures_worked_out_by_hand() -> None:
    """One year at 50 % and 25 degC; then 1000 EFC of full depth at 1 C and 10 degC, from the formulas as printed."""
    standing = {key: closed_form_loss(law(key), days=365.0, soc=0.5, temperature_c=25.0) for key in ("wang", "naumann")}
    assert standing["wang"].capacity == pytest.approx(0.1449, abs=1e-4)
    assert standing["naumann"].capacity == pytest.approx(0.04252, abs=1e-5)
    assert standing["naumann"].resistance == pytest.approx(3.4194e-10 * 365 * DAY_S * 1.5604, rel=1e-9)
    number = law("wang").number
    assert cycle_increment(number, 1.0, 0.5, 1.0, 1.0, 10.0)[0] * 1000 == pytest.approx(0.017411, abs=1e-6)
    number = law("naumann").number
    capacity, resistance, _ = cycle_increment(number, 1.0, 0.5, 1.0, 1.0, 10.0)
    assert math.sqrt(capacity * 1000) == pytest.approx(0.01 * 0.1601 * 1.34992 * math.sqrt(1000), rel=1e-5)
    assert resistance * 1000 == pytest.approx(0.01 * 0.0001 * 1.77416 * 1000, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "condition", "growth", "rel"),
    [
        ("schmalstieg", MILD, 0.0504376 + 0.44890668, 3e-3),
        ("schmalstieg", WARM, 0.1398557 + 0.11788962, 3e-3),
        ("kokam", MILD, 0.11208876 + 0.06116699, 1e-6),
        ("kokam", WARM, 0.83013688 + 0.03123046, 1e-6),
    ],
)
def test_resistance_grows_as_in_blast_lite(
    key: str, condition: tuple[float, float, float, float, float], growth: float, rel: float
) -> None:
    soc, temperature_c, efc, depth, c_rate = condition
    found = closed_form_loss(
        law(key),
        days=365.0,
        soc=soc,
        temperature_c=temperature_c,
        cycles=efc / depth,
        depth=depth,
        charge_c_rate=c_rate,
        discharge_c_rate=c_rate,
    )
    assert found.resistance == pytest.approx(growth, rel=rel)


def test_kokam_anode_lasts_as_long_as_in_blast_lite() -> None:
    for (soc, temperature_c, _, depth, c_rate), lasting_efc in ((MILD, 6940.0), (WARM, 7960.0), (COLD, 6557.5)):
        anode = cycle_increment(law("kokam").number, depth, soc, c_rate, c_rate, temperature_c)[2]
        assert anode == pytest.approx(depth / lasting_efc, rel=1e-12)


def test_kokam_capacity_is_the_smaller_of_lithium_and_material() -> None:
    number = law("kokam").number
    y = np.array([0.05 ** (1 / 0.357), 0.05 ** (1 / 0.778), 0.0, 0.0, 0.7])
    little = math.tanh(0.5 * 0.7**10)
    assert loss(number, y, 1.0, 1.0) == pytest.approx((0.10, 1.09 / (1.01 - little) - 1.08, 0.05, 0.05), rel=1e-9)
    y[CYCLE_ANODE] = 1.0
    capacity, resistance, calendar, cycle = loss(number, y, 1.0, 1.0)
    material = math.tanh(0.5)
    assert anode_loss(number, y, 1.0) == pytest.approx(material)
    assert capacity == pytest.approx(material - 0.01)
    assert calendar == pytest.approx(0.05)
    assert calendar + cycle == capacity
    assert resistance == pytest.approx(1.09 / (1.01 - material) - 1.08)


def test_kokam_loses_no_more_than_all_its_material_under_a_large_scale() -> None:
    y = np.array([0.0, 0.0, 0.0, 0.0, 5.0])
    capacity, resistance, _, _ = loss(law("kokam").number, y, 1.0, 10.0)
    assert capacity == pytest.approx(0.99)
    assert math.isfinite(resistance)


@every_law
def test_hotter_standing_is_worse(key: str) -> None:
    temperatures = np.arange(-10.0, 50.5, 0.5)
    socs = np.linspace(0.05, 1.0, 20)
    rates = calendar_rate_per_s(law(key), socs[:, np.newaxis], temperatures)
    assert law(key).hotter_is_worse
    assert np.all(np.diff(rates, axis=1) > 0)
    growth = calendar_resistance_rate_per_s(law(key), socs[:, np.newaxis], temperatures)
    assert np.all(np.diff(growth, axis=1) > 0) or not np.any(growth)


@every_law
def test_fuller_standing_is_worse_where_the_law_says_so(key: str) -> None:
    rates = calendar_rate_per_s(law(key), np.linspace(0.0, 1.0, 101)[:, np.newaxis], np.arange(-10.0, 50.0, 5.0))
    assert bool(np.all(np.diff(rates, axis=0) > 0)) is law(key).fuller_is_worse


def test_denso_standing_gets_milder_from_43_to_82_percent() -> None:
    rates = calendar_rate_per_s(law("denso"), np.array([0.30, 0.43, 0.60, 0.82, 0.95]), 25.0)
    assert rates[0] < rates[1] > rates[2] > rates[3] < rates[4]


def test_denso_standing_is_the_same_in_its_calendar_and_its_cycle_part() -> None:
    """Its cycle loss is the calendar coefficient times a factor of depth alone, where no charge current flows."""
    for soc, temperature_c in ((0.2, 0.0), (0.5, 25.0), (0.9, 58.0)):
        standing = float(calendar_rate_per_s(law("denso"), soc, temperature_c)) * DAY_S
        cycling = cycle_increment(law("denso").number, 1.0, soc, 0.0, 1.0, temperature_c)[0]
        deep = 1.44 * math.exp(13_000 / 8.314 * (1 / (temperature_c + 273.15) - 1 / 298.15))
        assert math.sqrt(cycling / standing) == pytest.approx(0.985 * deep, rel=1e-9)


@every_law
@settings(max_examples=300, deadline=None)
@given(
    depth=st.floats(-1.0, 2.0),
    soc=st.floats(-1.0, 2.0),
    charge_c_rate=st.floats(-10.0, 1e6),
    discharge_c_rate=st.floats(-10.0, 1e6),
    temperature_c=st.floats(-273.0, 1000.0),
)
def test_nothing_is_ever_negative_or_not_a_number(
    key: str, depth: float, soc: float, charge_c_rate: float, discharge_c_rate: float, temperature_c: float
) -> None:
    aged = law(key)
    increments = cycle_increment(aged.number, depth, soc, charge_c_rate, discharge_c_rate, temperature_c)
    rates = (
        float(calendar_rate_per_s(aged, soc, temperature_c)),
        float(calendar_resistance_rate_per_s(aged, soc, temperature_c)),
    )
    assert all(math.isfinite(value) and value >= 0.0 for value in (*increments, *rates))


@every_law
def test_a_cycle_of_no_depth_costs_nothing(key: str) -> None:
    assert cycle_increment(law(key).number, 0.0, 0.5, 0.5, 0.5, 25.0) == (0.0, 0.0, 0.0)


@every_law
@pytest.mark.parametrize("depth", [0.1, 0.5, 0.9])
def test_deeper_cycles_cost_more(key: str, depth: float) -> None:
    shallow = cycle_increment(law(key).number, depth, 0.5, 0.3, 0.3, 5.0)[0]
    deep = cycle_increment(law(key).number, depth + 0.1, 0.5, 0.3, 0.3, 5.0)[0]
    assert deep > shallow > 0.0


@every_law
@settings(max_examples=50, deadline=None)
@given(
    y=st.tuples(*[st.floats(0.0, 2.0)] * TERMS), calendar_scale=st.floats(0.0, 10.0), cycle_scale=st.floats(0.0, 10.0)
)
def test_the_parts_add_up_exactly(key: str, y: tuple[float, ...], calendar_scale: float, cycle_scale: float) -> None:
    capacity, resistance, calendar, cycle = loss(law(key).number, np.array(y), calendar_scale, cycle_scale)
    assert calendar + cycle == capacity
    assert calendar >= 0.0
    assert cycle >= 0.0
    assert math.isfinite(resistance)


@every_law
def test_scales_multiply_the_losses_of_their_kind(key: str) -> None:
    y = np.array([0.001, 0.002, 0.003, 0.004, 0.1])
    _, _, calendar, cycle = loss(law(key).number, y, 1.0, 1.0)
    assert loss(law(key).number, y, 2.0, 0.5)[2:] == pytest.approx((2.0 * calendar, 0.5 * cycle), rel=1e-12)


@every_law
def test_a_law_without_a_resistance_of_its_own_takes_the_capacity_loss(key: str) -> None:
    aged = law(key)
    own = float(calendar_resistance_rate_per_s(aged, 0.5, 25.0)) > 0.0
    assert own is (aged.resistance_coupling == 0.0)
    if not own:
        capacity, resistance, _, _ = loss(aged.number, np.array([0.01, 0.01, 0.0, 0.0, 0.0]), 1.0, 1.0)
        assert resistance == capacity


def test_only_kokam_tells_lost_anode_material_apart() -> None:
    y = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    assert [key for key, aged in LAWS.items() if aged.splits_anode] == ["kokam"]
    assert [key for key, aged in LAWS.items() if anode_loss(aged.number, y, 1.0) > 0.0] == ["kokam"]


@pytest.mark.parametrize(("key", "cold_is_worse"), [(key, aged.has_cold_charging) for key, aged in LAWS.items()])
def test_a_law_with_a_cold_term_wears_more_in_the_cold(key: str, cold_is_worse: bool) -> None:
    """Some term of its cycle loss is larger at -5 than at 20 degC, at half the C-rate of the tests."""
    cold = cycle_increment(law(key).number, 0.8, 0.5, 0.5, 0.5, -5.0)
    mild = cycle_increment(law(key).number, 0.8, 0.5, 0.5, 0.5, 20.0)
    assert (cold[0] > mild[0] or cold[2] > mild[2]) is cold_is_worse


def test_cold_charging_costs_nothing_extra_from_10_degc_up_and_twice_at_freezing() -> None:
    assert cold_charging_factor(10.0, 1.0) == 1.0
    assert cold_charging_factor(35.0, 1.0) == 1.0
    assert cold_charging_factor(9.999, 0.3) == pytest.approx(1.0, abs=1e-3)
    assert cold_charging_factor(0.0, 0.3) == pytest.approx(math.exp(42_800 / 8.314 * (1 / 273.15 - 1 / 283.15)))
    assert cold_charging_factor(0.0, 0.3) == pytest.approx(1.95, abs=0.01)
    assert cold_charging_factor(-20.0, 0.0) == 1.0
    assert math.isfinite(cold_charging_factor(-300.0, 1.0))


def test_wang_costs_nothing_by_cycling_where_its_rounded_coefficients_cancel() -> None:
    number = law("wang").number
    assert cycle_increment(number, 0.8, 0.5, 0.5, 0.5, 25.0)[0] == 0.0
    assert cycle_increment(number, 0.8, 0.5, 0.5, 0.5, 10.0)[0] > 0.0
    assert cycle_increment(number, 0.8, 0.5, 0.5, 0.5, 45.0)[0] > 0.0


def test_validity_is_that_of_the_tests() -> None:
    b1 = law("b1").validity
    assert b1.covers(temperature_c=25.0, soc=0.5)
    assert b1.covers(temperature_c=25.0, soc=0.5, depth=0.9, c_rate=1.75)
    assert not b1.covers(temperature_c=9.9, soc=0.5)
    assert not b1.covers(temperature_c=25.0, soc=0.5, depth=0.5, c_rate=0.5)
    assert not b1.covers(temperature_c=25.0, soc=0.5, depth=0.9, c_rate=2.0)
    assert not law("schmalstieg").validity.covers(temperature_c=41.0, soc=0.5)
    assert law("kokam").validity.covers(temperature_c=0.0, soc=0.5)
    assert not law("b1").validity.covers(temperature_c=math.nan, soc=0.5)


def test_b1_comes_first_and_numbers_are_stable() -> None:
    expected = ["b1", "schmalstieg", "denso", "kokam", "wang", "leaf_lmo", "naumann"]
    assert [(aged.number, key) for key, aged in LAWS.items()] == list(enumerate(expected))
    assert all(aged.key == key and aged.source and aged.caveat for key, aged in LAWS.items())


def test_an_unknown_law_is_refused_by_naming_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no law of aging is called 'b3'; there are b1, schmalstieg, denso, kokam"):
        law("b3")


def test_rates_broadcast_over_states_of_charge_and_temperatures() -> None:
    for aged in LAWS.values():
        socs, temperatures = np.linspace(0, 1, 4)[:, np.newaxis], np.linspace(-10, 40, 3)
        assert calendar_rate_per_s(aged, socs, temperatures).shape == (4, 3)
        assert calendar_resistance_rate_per_s(aged, socs, temperatures).shape == (4, 3)
