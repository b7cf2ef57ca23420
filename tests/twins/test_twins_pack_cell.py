"""The cell at rest: half-cell curves, how aging moves them, shipped numbers, and capacity from a charge's shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from twins.pack.cell import (
    Floats,
    fill_aged_curve,
    fill_curve,
    full_cell_v,
    graphite_v,
    half_cells,
    inventory_loss_for,
    open_circuit_curve,
)
from twins.pack.incremental import capacity_from_charge_segment, differential_voltage, inflections_ah
from twins.pack.parameters import CellParameters, shipped_pack

PACKS = ("env200_40kwh", "leaf_62kwh")
CELL = shipped_pack("env200_40kwh").cell
HALVES = half_cells(CELL)
SOC = np.linspace(0.0, 1.0, 257)


def aged(lli: float, lam_anode: float, lam_cathode: float, points: int = 257) -> tuple[float, Floats]:
    curve = np.full(points, np.nan)
    ratio = fill_curve(HALVES.anode_v, HALVES.cathode_v, HALVES.geometry, lli, lam_anode, lam_cathode, curve)
    return ratio, curve


def loss_of(capacity_loss: float, lam_anode: float = 0.0, lam_cathode: float = 0.0) -> float:
    return inventory_loss_for(HALVES.anode_v, HALVES.cathode_v, HALVES.geometry, capacity_loss, lam_anode, lam_cathode)


def test_graphite_has_its_known_plateaus_and_falls() -> None:
    assert graphite_v(0.78) == pytest.approx(0.0860, abs=5e-4)  # plateau of stage 1 and 2, about 85 mV
    assert graphite_v(0.35) == pytest.approx(0.127, abs=5e-3)  # about 120 mV below the half
    assert graphite_v(0.0) > 1.2
    assert np.all(np.diff(graphite_v(np.linspace(0.0, 1.0, 1001))) < 0)


@pytest.mark.parametrize("name", PACKS)
def test_new_cell_meets_its_file_to_a_twentieth_of_a_millivolt(name: str) -> None:
    cell = shipped_pack(name).cell
    ratio, volts = open_circuit_curve(cell, SOC)
    assert ratio == pytest.approx(1.0, abs=1e-9)
    assert np.abs(volts - full_cell_v(cell, SOC)).max() < 5e-5
    knots = np.array(cell.open_circuit_v)
    assert full_cell_v(cell, knots[:, 0] / 100) == pytest.approx(knots[:, 1], abs=1e-12)


@pytest.mark.parametrize("name", PACKS)
def test_cathode_of_the_shipped_cell_falls_and_is_that_of_a_layered_oxide(name: str) -> None:
    halves = half_cells(shipped_pack(name).cell)
    assert halves.steepest_rise_v < -0.2
    assert np.all(np.diff(halves.cathode_v) < 0)
    grid = np.linspace(0.0, 1.0, halves.cathode_v.size)
    used = halves.cathode_v[(grid >= 0.36) & (grid <= 0.92)]
    assert 3.5 < used.min() < used.max() < 4.35


def test_a_cathode_that_would_rise_is_told() -> None:
    assert half_cells(CELL.model_copy(update={"anode_empty": 0.0085})).steepest_rise_v > 0


@pytest.mark.parametrize(
    ("soc_percent", "volts", "below_mv", "above_mv"),
    [
        (20.8, 3.542, 10, 10),
        (31.7, 3.585, 0, 30),
        (43.2, 3.629, 5, 15),
        (58.4, 3.737, 10, 10),
        (59.9, 3.750, 10, 10),
        (62.9, 3.785, 20, 20),
        (84.7, 4.045, 10, 10),
        (87.65, 4.075, 10, 10),
        (95.7, 4.172, 20, 20),
    ],
)
@pytest.mark.parametrize("name", PACKS)
def test_shipped_curve_meets_what_real_packs_showed_at_rest(
    name: str, soc_percent: float, volts: float, below_mv: float, above_mv: float
) -> None:
    found = float(full_cell_v(shipped_pack(name).cell, soc_percent / 100))
    assert -below_mv <= (found - volts) * 1000 <= above_mv


@pytest.mark.parametrize("name", PACKS)
def test_shipped_curve_is_smooth_and_never_flat_above_a_fifth(name: str) -> None:
    percent = np.arange(20.0, 100.01, 1.0)
    volts = full_cell_v(shipped_pack(name).cell, percent / 100)
    slopes = np.diff(volts) * 1000
    assert slopes.min() >= 2.0
    assert np.abs(np.diff(slopes)).max() <= 0.7
    assert volts[np.searchsorted(percent, 30.0)] > 3.554  # a cold pack just after load: a lower bound


def test_new_van_stores_the_energy_that_its_kind_does() -> None:
    pack = shipped_pack("env200_40kwh")
    mean_v = float(np.mean(full_cell_v(pack.cell, np.linspace(0.0, 1.0, 10_001))))
    assert 40_400 <= mean_v * pack.groups_in_series * pack.capacity_ah <= 42_000


@settings(max_examples=200, deadline=None)
@given(
    lli=st.floats(0.0, 3.0),
    lam_anode=st.floats(0.0, 1.0),
    lam_cathode=st.floats(0.0, 1.0),
    points=st.sampled_from([2, 33, 257]),
)
def test_any_loss_gives_a_finite_curve_that_never_falls(
    lli: float, lam_anode: float, lam_cathode: float, points: int
) -> None:
    ratio, curve = aged(lli, lam_anode, lam_cathode, points)
    assert 0.0 < ratio <= 1.0 + 1e-9
    assert np.all(np.isfinite(curve))
    assert np.all(np.diff(curve) >= 0)


@settings(max_examples=60, deadline=None)
@given(
    lli=st.floats(0.0, 0.4), more=st.floats(0.005, 0.2), lam_anode=st.floats(0.0, 0.3), lam_cathode=st.floats(0.0, 0.3)
)
def test_losing_more_lithium_leaves_less_capacity(
    lli: float, more: float, lam_anode: float, lam_cathode: float
) -> None:
    assert aged(lli + more, lam_anode, lam_cathode)[0] < aged(lli, lam_anode, lam_cathode)[0]


def test_lithium_is_conserved_but_for_what_is_lost() -> None:
    """The window of an aged cell, found again from its own end voltages by the two electrodes' stoichiometries."""
    lli, lam_anode, lam_cathode = 0.12, 0.05, 0.08
    ratio, curve = aged(lli, lam_anode, lam_cathode, 2049)
    anode, cathode, lithium = HALVES.geometry[:3]
    in_anode = CELL.anode_empty * anode + 0.5
    lithium -= lli + lam_anode * in_anode + lam_cathode * (lithium - in_anode)
    anode, cathode = anode * (1 - lam_anode), cathode * (1 - lam_cathode)
    grid = np.linspace(0.0, 1.0, HALVES.anode_v.size)
    charge = np.linspace(0.0, min(anode, lithium), 200_001)
    volts = np.interp((lithium - charge) / cathode, grid, HALVES.cathode_v) - np.interp(
        charge / anode, grid, HALVES.anode_v
    )
    inside = charge[(volts >= HALVES.empty_v) & (volts <= HALVES.full_v)]
    assert ratio == pytest.approx(inside[-1] - inside[0], abs=2e-5)
    assert curve[0] == pytest.approx(HALVES.empty_v, abs=1e-4)
    assert curve[-1] == pytest.approx(HALVES.full_v, abs=1e-4)


def test_lost_lithium_raises_the_voltage_at_half_charge_and_lost_anode_moves_the_valley() -> None:
    new = aged(0.0, 0.0, 0.0)[1]
    assert aged(0.15, 0.0, 0.0)[1][128] - new[128] > 0.01
    steepness = [np.argmin(np.diff(aged(lli, 0.0, 0.0)[1])[50:150]) for lli in (0.0, 0.15)]
    assert steepness[0] != steepness[1]


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.2, 0.5])
@pytest.mark.parametrize(("lam_anode", "lam_cathode"), [(0.0, 0.0), (0.005, 0.008)])
def test_inventory_loss_gives_the_capacity_that_it_was_asked_for(
    loss: float, lam_anode: float, lam_cathode: float
) -> None:
    lli = loss_of(loss, lam_anode, lam_cathode)
    assert aged(lli, lam_anode, lam_cathode)[0] == pytest.approx(1 - loss, abs=1e-9)


def test_no_inventory_is_lost_where_material_alone_explains_the_loss_or_there_is_none() -> None:
    assert loss_of(0.05, 0.0, 0.3) == 0.0
    assert loss_of(0.0) == 0.0
    assert math.isfinite(loss_of(1.0))


def test_a_loss_outside_its_range_is_refused_with_the_range() -> None:
    with pytest.raises(ConfigError, match=r"lam_anode is a fraction between 0 and 0\.9, not 1\.2"):
        open_circuit_curve(CELL, 0.5, lam_anode=1.2)


def segment(
    rng: np.random.Generator, from_soc: float, to_soc: float, losses: tuple[float, float, float], cell: CellParameters
) -> tuple[Floats, Floats, float]:
    """A 10 A charge, one row in 30 s: wrong curve (5 mV), steps of 0.5 V over 96 groups. Returns the true capacity."""
    soc = np.linspace(0.0, 1.0, 401)
    ratio, volts = open_circuit_curve(cell, soc, lli=losses[0], lam_anode=losses[1], lam_cathode=losses[2])
    apart = soc[::4, None] - soc[None, ::4]
    shape = np.linalg.cholesky(np.exp(-0.5 * (apart / 0.08) ** 2) + 1e-8 * np.eye(101)) @ rng.normal(size=101)
    capacity_ah = 115.44 * ratio
    charge = np.arange(0.0, (to_soc - from_soc) * capacity_ah, 10 * 30 / 3600)
    at = from_soc + charge / capacity_ah
    true = np.interp(at, soc, volts) + 0.005 * np.interp(at, soc[::4], shape) + 0.01 * rng.normal()
    step = 0.5 / 96
    return charge, np.round((true + 0.0005 * rng.normal(size=at.size)) / step) * step, capacity_ah


def test_a_long_charge_tells_the_capacity_and_its_intervals_cover() -> None:
    rng = np.random.default_rng(7)
    scores, errors = [], []
    for _ in range(40):
        losses = (rng.uniform(0.02, 0.2), rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.06))
        charge, volts, capacity_ah = segment(rng, 0.2, 0.95, losses, CELL)
        found = capacity_from_charge_segment(charge, volts, CELL, new_capacity_ah=115.44)
        assert found.identified, found.reason
        scores.append(abs(found.capacity_ah - capacity_ah) / found.sd_ah)
        errors.append((found.capacity_ah - capacity_ah) / 115.44)
        assert found.from_soc == pytest.approx(0.2, abs=0.08)
    assert np.mean(np.array(scores) < 1.645) >= 0.8
    assert np.sqrt(np.mean(np.square(errors))) < 0.03


def test_a_short_charge_says_that_capacity_is_not_identified() -> None:
    charge, volts, _ = segment(np.random.default_rng(3), 0.5, 0.6, (0.1, 0.03, 0.03), CELL)
    found = capacity_from_charge_segment(charge, volts, CELL, new_capacity_ah=115.44)
    assert not found.identified
    assert "not identified" in found.reason
    assert found.sd_ah > 0.5 * found.prior_sd_ah


def test_a_charge_of_another_cell_is_not_taken_for_an_aged_one() -> None:
    charge = np.linspace(0.0, 80.0, 400)
    found = capacity_from_charge_segment(charge, 3.30 + 0.0002 * charge, CELL, new_capacity_ah=115.44)
    assert not found.identified
    assert "departs" in found.reason


def test_inflection_points_of_the_new_cell_are_the_extrema_of_its_slope() -> None:
    soc = np.linspace(0.1, 0.98, 600)
    bends = np.array(inflections_ah(soc * 115.44, full_cell_v(CELL, soc))) / 115.44
    fine = np.linspace(0.1, 0.98, 8801)
    slope = np.gradient(full_cell_v(CELL, fine), fine)
    valley = fine[np.argmin(np.where((fine > 0.3) & (fine < 0.5), slope, np.inf))]
    peak = fine[np.argmax(np.where(fine > 0.5, slope, 0.0))]
    assert bends == pytest.approx([valley, peak], abs=0.03)


def test_slope_of_a_straight_line_is_its_slope() -> None:
    charge = np.linspace(0.0, 50.0, 500)
    _, _, slope = differential_voltage(charge, 3.6 + 0.004 * charge)
    assert slope == pytest.approx(np.full(slope.size, 0.004), rel=1e-6)
    assert inflections_ah(charge, 3.6 + 0.004 * charge) == ()


@pytest.mark.parametrize(
    ("charge", "volts", "says"),
    [
        (np.linspace(0, 50, 100), np.full(100, 360.0), "volts is of one group"),
        (np.linspace(50, 0, 100), np.full(100, 3.7), "rises; row 1 does not"),
        (np.linspace(0, 50, 100), np.full(99, 3.7), "20 rows or more"),
        (np.full(100, np.nan), np.full(100, 3.7), "finite"),
    ],
)
def test_a_segment_that_cannot_be_used_is_refused(charge: Floats, volts: Floats, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        capacity_from_charge_segment(charge, volts, CELL, new_capacity_ah=115.44)


def test_the_full_cell_curve_is_the_monotone_cubic_of_scipy() -> None:
    from scipy.interpolate import PchipInterpolator

    cell = shipped_pack("env200_40kwh").cell
    points = np.array(cell.open_circuit_v)
    soc = np.linspace(0.0, 1.0, 3001)
    reference = PchipInterpolator(points[:, 0] / 100.0, points[:, 1])
    assert full_cell_v(cell, soc) == pytest.approx(reference(soc), abs=1e-12)


@pytest.mark.parametrize(
    ("soc_percent", "soh", "volts", "below_mv", "above_mv"),
    [  # rest voltages of single cars at their own reported health; what is unknown of each is in its tolerance
        (20.8, 0.98, 3.542, 10, 10),
        (31.7, 0.83, 3.585, 0, 30),
        (43.2, 0.856, 3.629, 5, 15),
        (58.4, 0.94, 3.737, 10, 10),
        (59.9, 0.94, 3.750, 10, 10),
        (62.9, 0.831, 3.785, 20, 20),
        (84.7, 1.0, 4.045, 10, 10),
        (87.65, 1.0, 4.075, 10, 10),
        (95.7, 0.942, 4.172, 20, 20),
    ],
)
def test_the_aged_pack_meets_the_rest_voltage_of_each_car_at_its_own_health(
    soc_percent: float, soh: float, volts: float, below_mv: float, above_mv: float
) -> None:
    curve = np.empty(257)
    share = shipped_pack("env200_40kwh").aging.lithium_share
    fill_aged_curve(HALVES.anode_v, HALVES.cathode_v, HALVES.geometry, 1.0 - soh, share, 0.0, curve)
    found = np.interp(soc_percent / 100.0, SOC, curve)
    assert volts - below_mv / 1000.0 <= found <= volts + above_mv / 1000.0
