"""One series group at rest: its open-circuit voltage made of two half-cell curves, so that aging moves its shape.

A full cell's voltage is the cathode's less the anode's. Aging does not only shorten the curve: lithium that is lost
from the inventory (LLI) shifts the two electrodes against each other, and lost active material (LAM) shrinks one of
them. So the curve of an aged cell is not the new one with a smaller capacity, and the shape of a charge can tell.

The graphite curve is a published fit. The cathode's is what remains: the full-cell curve of the pack file plus the
graphite's, so that the new cell meets its file. Beyond the window that the new cell uses, which an aged one can reach,
the cathode is continued, steeper on both sides (estimate: NMC falls off towards full lithiation).

All charges are in units of the new capacity. With anode stoichiometry x and cathode stoichiometry y the cyclable
lithium `x * anode_capacity + y * cathode_capacity` stays what it is, but for LLI and for what lost material held (Birkl
et al. 2017, J. Power Sources 341, 373, use the same three modes; from memory). How full a particle is when it is lost
is not known; half charge is assumed. Were it lost empty, a cell with less cathode would come out larger than new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drivers.errors import ConfigError

from .compiled import compiled
from .parameters import CellParameters

Floats = NDArray[np.float64]

TABLE_POINTS = 2049

# Continuation of the cathode beyond the new cell's window, in V per stoichiometry and V per its square; estimates.
_LEAST_SLOPE_V = 0.3
_BEYOND_FULL_V = 2.0
_BEYOND_EMPTY_V = 30.0

_LEAST_MATERIAL = 0.01
_LEAST_RATIO = 1e-6
_HALVINGS = 44


def graphite_v(stoichiometry: ArrayLike) -> Floats:
    """Potential of graphite against lithium, in V, for stoichiometries from 0 to 1 (any shape).

    Safari and Delacourt 2011, J. Electrochem. Soc. 158, A562, as printed in NREL's BLAST-Lite.
    """
    x = np.asarray(stoichiometry, dtype=np.float64)
    volts = (
        0.6379
        + 0.5416 * np.exp(-305.5309 * x)
        + 0.044 * np.tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        - 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        - 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )
    return np.asarray(volts, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class HalfCells:
    """Two half-cell curves and how they lie against each other when new; what `fill_curve` takes.

    `anode_v` and `cathode_v` are tables, in V, on uniform grids of the stoichiometry from 0 to 1. `geometry` is one
    array of six: anode capacity, cathode capacity and cyclable lithium (in units of the new capacity), the voltages at
    0 and 100 % (the window that the battery management keeps at any age), and the lithium in the anode at 50 %.
    """

    anode_v: Floats
    cathode_v: Floats
    geometry: Floats
    steepest_rise_v: float
    """Largest slope of the cathode over its stoichiometry within the window; below 0 for a plausible one."""

    @property
    def empty_v(self) -> float:
        """Voltage at 0 %."""
        return float(self.geometry[3])

    @property
    def full_v(self) -> float:
        """Voltage at 100 %."""
        return float(self.geometry[4])


def full_cell_v(cell: CellParameters, soc: ArrayLike) -> Floats:
    """Open-circuit voltage of the new cell, in V, over the state of charge as a fraction; smooth and rising."""
    points = np.array(cell.open_circuit_v, dtype=np.float64)
    return _monotone_cubic(points[:, 0] / 100, points[:, 1], np.clip(np.asarray(soc, dtype=np.float64), 0.0, 1.0))


def half_cells(cell: CellParameters) -> HalfCells:
    """The half-cell tables of a cell; the new cell meets `open_circuit_v` to better than 0.05 mV."""
    grid = np.linspace(0.0, 1.0, TABLE_POINTS)
    anode = graphite_v(grid)

    def cathode_at(soc: Floats) -> Floats:
        x = cell.anode_empty + soc * (cell.anode_full - cell.anode_empty)
        return full_cell_v(cell, soc) + np.interp(x, grid, anode)

    span = cell.cathode_empty - cell.cathode_full
    soc_of_grid = (cell.cathode_empty - grid) / span
    cathode = cathode_at(np.clip(soc_of_grid, 0.0, 1.0))
    inside = cathode_at(np.linspace(0.0, 1.0, TABLE_POINTS))
    slopes = -np.diff(inside) * (TABLE_POINTS - 1) / span
    reach = TABLE_POINTS // 50
    beyond_full = np.clip(cell.cathode_full - grid, 0.0, None)
    beyond_empty = np.clip(grid - cell.cathode_empty, 0.0, None)
    slope_full = max(-float(np.mean(slopes[-reach:])), _LEAST_SLOPE_V)
    slope_empty = max(-float(np.mean(slopes[:reach])), _LEAST_SLOPE_V)
    cathode += slope_full * beyond_full + _BEYOND_FULL_V * beyond_full**2
    cathode -= slope_empty * beyond_empty + _BEYOND_EMPTY_V * beyond_empty**2

    anode_capacity = 1.0 / (cell.anode_full - cell.anode_empty)
    cathode_capacity = 1.0 / span
    lithium = cell.anode_empty * anode_capacity + cell.cathode_empty * cathode_capacity
    half = cell.anode_empty * anode_capacity + 0.5
    geometry = np.array([anode_capacity, cathode_capacity, lithium, 0.0, 0.0, half])
    for place, (x, y) in enumerate(((cell.anode_empty, cell.cathode_empty), (cell.anode_full, cell.cathode_full))):
        # by the tables themselves, so that the window of the new cell comes out as exactly one capacity
        geometry[3 + place] = float(np.interp(y, grid, cathode)) - float(np.interp(x, grid, anode))
    return HalfCells(anode, cathode, geometry, float(np.max(slopes)))


def open_circuit_curve(
    cell: CellParameters, soc: ArrayLike, *, lli: float = 0.0, lam_anode: float = 0.0, lam_cathode: float = 0.0
) -> tuple[float, Floats]:
    """Capacity ratio to new, and the open-circuit voltage, in V, over the state of charge of the aged cell.

    `soc` is a fraction of the aged cell's own window, any shape. Losses as in `fill_curve`; raises ConfigError for one
    outside of 0 to 0.9.
    """
    for name, value in (("lli", lli), ("lam_anode", lam_anode), ("lam_cathode", lam_cathode)):
        if not 0.0 <= value <= 0.9:
            raise ConfigError(f"{name} is a fraction between 0 and 0.9, not {value:g}")
    halves = half_cells(cell)
    curve = np.empty(TABLE_POINTS)
    ratio = fill_curve(halves.anode_v, halves.cathode_v, halves.geometry, lli, lam_anode, lam_cathode, curve)
    return ratio, np.interp(np.asarray(soc, dtype=np.float64), np.linspace(0.0, 1.0, TABLE_POINTS), curve)


def _monotone_cubic(x: Floats, y: Floats, at: Floats) -> Floats:
    """Cubic Hermite interpolation that keeps monotone data monotone (Fritsch and Butland 1984).

    SciPy has it as PchipInterpolator, and a test compares the two; importing it would make a start half as long again.
    """
    steps, slopes = np.diff(x), np.diff(y) / np.diff(x)
    w_left, w_right = 2.0 * steps[1:] + steps[:-1], steps[1:] + 2.0 * steps[:-1]
    inner = np.zeros(x.size - 2)
    rising = slopes[:-1] * slopes[1:] > 0.0
    inner[rising] = ((w_left + w_right) / (w_left / slopes[:-1] + w_right / slopes[1:]))[rising]
    tangents = np.concatenate(
        ([_end_slope(steps[0], steps[1], slopes[0], slopes[1])], inner,
         [_end_slope(steps[-1], steps[-2], slopes[-1], slopes[-2])])
    )  # fmt: skip
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, x.size - 2)
    t = (at - x[left]) / steps[left]
    return np.asarray(
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * y[left]
        + t * (1.0 - t) ** 2 * steps[left] * tangents[left]
        + t**2 * (3.0 - 2.0 * t) * y[left + 1]
        + t**2 * (t - 1.0) * steps[left] * tangents[left + 1]
    )


def _end_slope(step: float, next_step: float, slope: float, next_slope: float) -> float:
    """One-sided three-point slope, held so that the end does not overshoot."""
    guess = ((2.0 * step + next_step) * slope - step * next_slope) / (step + next_step)
    if guess * slope <= 0.0:
        return 0.0
    return 3.0 * slope if slope * next_slope <= 0.0 and abs(guess) > 3.0 * abs(slope) else guess


@compiled
def _look_up(table: Floats, position: float) -> float:
    """Linear interpolation in a table on a uniform grid from 0 to 1; held at both ends."""
    last = table.shape[0] - 1
    place = min(max(position, 0.0), 1.0) * last
    left = max(min(int(place), last - 1), 0)  # a NaN must not point outside of the table
    return float(table[left] + (place - left) * (table[left + 1] - table[left]))


@compiled
def _lithium(geometry: Floats, lli: float, lam_anode: float, lam_cathode: float) -> float:
    """What remains of the cyclable lithium: lost material takes what it holds at half charge with it."""
    in_anode = geometry[5]
    held = min(lam_anode, 1.0) * in_anode + min(lam_cathode, 1.0) * (geometry[2] - in_anode)
    return float(max(geometry[2] - held - lli, 0.0))


@compiled
def _window(
    anode: Floats, cathode: Floats, geometry: Floats, lli: float, lam_anode: float, lam_cathode: float
) -> tuple[float, float]:
    """Charge in the anode at the lower and the upper end of the voltage window, in units of the new capacity."""
    anode_capacity = geometry[0] * max(1.0 - lam_anode, _LEAST_MATERIAL)
    cathode_capacity = geometry[1] * max(1.0 - lam_cathode, _LEAST_MATERIAL)
    lithium = _lithium(geometry, lli, lam_anode, lam_cathode)
    least = max(lithium - cathode_capacity, 0.0)
    most = max(min(anode_capacity, lithium), least)
    low, high = least, most
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        volts = _look_up(cathode, (lithium - middle) / cathode_capacity) - _look_up(anode, middle / anode_capacity)
        if volts < geometry[3]:
            low = middle
        else:
            high = middle
    empty = 0.5 * (low + high)
    low, high = empty, most
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        volts = _look_up(cathode, (lithium - middle) / cathode_capacity) - _look_up(anode, middle / anode_capacity)
        if volts < geometry[4]:
            low = middle
        else:
            high = middle
    return empty, 0.5 * (low + high)


@compiled
def fill_curve(
    anode: Floats,
    cathode: Floats,
    geometry: Floats,
    lli: float,
    lam_anode: float,
    lam_cathode: float,
    out: Floats,
) -> float:
    """Write the open-circuit voltage of an aged cell, in V, at uniform states of charge from 0 to 1 into `out`.

    `anode`, `cathode`, `geometry` are those of `HalfCells`. `lli` is lithium lost from the inventory in units of the
    new capacity; the others are fractions of an electrode's material, lost with the lithium it holds at half charge.
    Returns the capacity as a ratio to new: from 0 (exclusive) to 1, and finite for any finite loss. The curve never
    falls. Where an electrode is full or empty before a voltage is reached, the window ends there. Allocates nothing.
    """
    empty, full = _window(anode, cathode, geometry, lli, lam_anode, lam_cathode)
    anode_capacity = geometry[0] * max(1.0 - lam_anode, _LEAST_MATERIAL)
    cathode_capacity = geometry[1] * max(1.0 - lam_cathode, _LEAST_MATERIAL)
    lithium = _lithium(geometry, lli, lam_anode, lam_cathode)
    last = out.shape[0] - 1
    highest = 0.0
    for place in range(last + 1):
        charge = empty + (full - empty) * place / last
        volts = _look_up(cathode, (lithium - charge) / cathode_capacity) - _look_up(anode, charge / anode_capacity)
        highest = max(highest, volts)
        out[place] = highest
    return max(full - empty, _LEAST_RATIO)


@compiled
def inventory_loss_for(
    anode: Floats, cathode: Floats, geometry: Floats, capacity_loss: float, lam_anode: float, lam_cathode: float
) -> float:
    """The `lli` with which the capacity ratio is 1 - `capacity_loss`, for laws that tell no more than a capacity.

    0 where the lost material alone takes as much or more. Regula falsi (Illinois) on the capacity, which falls with
    LLI; a `capacity_loss` above 0.99 is taken as 0.99.
    """
    wanted = max(1.0 - capacity_loss, 0.01)
    empty, full = _window(anode, cathode, geometry, 0.0, lam_anode, lam_cathode)
    low, above = 0.0, full - empty - wanted
    if above < 1e-11:
        return 0.0
    high, below = 1.5 * above, above
    while high < geometry[2]:
        empty, full = _window(anode, cathode, geometry, high, lam_anode, lam_cathode)
        below = full - empty - wanted
        if below <= 0.0:
            break
        low, above = high, below
        high *= 1.5
    if below > 0.0:
        high, below = geometry[2], -wanted
    side = 0
    for _ in range(_HALVINGS):
        middle = (low * below - high * above) / (below - above)
        empty, full = _window(anode, cathode, geometry, middle, lam_anode, lam_cathode)
        excess = full - empty - wanted
        if abs(excess) < 1e-11:
            return middle
        if excess > 0.0:
            low, above = middle, excess
            below *= 0.5 if side > 0 else 1.0
            side = 1
        else:
            high, below = middle, excess
            above *= 0.5 if side < 0 else 1.0
            side = -1
    return 0.5 * (low + high)


@compiled
def fill_aged_curve(
    anode: Floats,
    cathode: Floats,
    geometry: Floats,
    capacity_loss: float,
    lithium_share: float,
    anode_loss: float,
    out: Floats,
) -> float:
    """Write the curve of a cell that lost a fraction of its capacity into `out`, as `fill_curve`; returns the ratio.

    A law that tells its `anode_loss` apart has it taken from the anode. Of any other loss, the `lithium_share` shifts
    the half cells against each other and the rest shrinks both alike, which leaves the curve's shape.
    """
    both = (1.0 - lithium_share) * capacity_loss
    of_anode, of_cathode = (anode_loss, 0.0) if anode_loss > 0.0 else (both, both)
    inventory = inventory_loss_for(anode, cathode, geometry, capacity_loss, of_anode, of_cathode)
    return fill_curve(anode, cathode, geometry, inventory, of_anode, of_cathode, out)
