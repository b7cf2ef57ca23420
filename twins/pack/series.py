"""Packs over time: a model, the state of one or many packs, and drives that move them; all on the one compiled step.

    model = PackModel.build(shipped_pack("env200_40kwh"))
    state = PackState.new(model, soc=0.55, temperature_c=20.0)
    advance(model, state, Drive(dt_s=1.0, power_w=np.full(3600, 7000.0), ambient_c=np.full(1, 20.0)))
    snapshot(model, state).soc

The same drive in any chunks gives the same state to the last bit. A power that the pack cannot give or take is limited
and flagged, never NaN; input that makes no sense is refused before anything moves.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ConfigError
from twins.pack import kernel, layout
from twins.pack.cell import fill_aged_curve
from twins.pack.laws import TERMS, loss
from twins.pack.layout import LEG_COLUMNS, SOC_CELLS, STACK, USES, WEAR_COLUMNS
from twins.pack.model import PackModel
from twins.pack.uses import Use

Array = NDArray[np.float64]

LONGEST_STEP_S: Final = 60.0
_TEMPERATURES: Final = (
    layout.CELLS_C,
    layout.CELLS_BEFORE_C,
    layout.PLATES_C,
    layout.CASING_C,
    layout.HOTTEST_C,
    layout.COLDEST_C,
)

RECORDS: Final[Mapping[str, int]] = {
    "soc": layout.SOC,
    "temperature_c": layout.CELLS_C,
    "plates_c": layout.PLATES_C,
    "casing_c": layout.CASING_C,
    "voltage_v": layout.VOLTAGE_V,
    "current_a": layout.CURRENT_A,
    "power_w": layout.POWER_W,
    "capacity_ah": layout.CAPACITY_AH,
    "capacity_loss": layout.CAPACITY_LOSS,
    "resistance_growth": layout.RESISTANCE_GROWTH,
    "limited": layout.LIMITED,
    "lowest_group_v": layout.LOWEST_GROUP_V,
    "highest_group_v": layout.HIGHEST_GROUP_V,
    "fan": layout.FAN,
    "heater": layout.HEATER,
    "loss_wh": layout.LOSS_WH,
    "entropic_wh": layout.ENTROPIC_WH,
}
"""What `advance` can record, each with its column."""


@dataclass(frozen=True, slots=True)
class PackState:
    """The state of one or many packs; `advance` moves it in place. One row per pack, see `twins.pack.layout`."""

    rows: Array
    curve_v: Array  # (packs, SOC_CELLS + 1), one group's open-circuit voltage now
    wear_y: Array  # (packs, laws, TERMS), linearised
    wear: Array  # (packs, laws, WEAR_COLUMNS)
    stack: Array  # (packs, STACK, 1 + LEG_COLUMNS)
    leg: Array  # (packs, LEG_COLUMNS)
    uses: Array  # (packs, USES, USE_COLUMNS)
    group_soc: Array  # (packs, groups), groups 0 where only mean, weakest and strongest are carried

    @classmethod
    def new(
        cls,
        model: PackModel,
        *,
        packs: int = 1,
        soc: float | Array = 0.5,
        temperature_c: float | Array = 20.0,
        soh: float | Array = 1.0,
        every_group: bool = False,
    ) -> Self:
        """Packs at rest. `soc` and `soh` are fractions, one for all or one per pack; `every_group` carries all groups.

        A state of health below 1 is taken as calendar wear of the same size under each law, because that is most of it;
        what it was in truth is in no data sheet. The resistances of the pack file are those of this beginning.
        Raises ConfigError for values out of range.
        """
        socs = _per_pack("state of charge", soc, packs, 0.0, 1.0)
        temperatures_c = _per_pack("pack temperature in °C", temperature_c, packs, -40.0, 70.0)
        healths = _per_pack("state of health", soh, packs, 0.3, 1.0)
        groups = model.parameters.groups_in_series if every_group else 0
        state = cls(
            rows=np.zeros((packs, layout.STATE_COLUMNS)),
            curve_v=np.empty((packs, SOC_CELLS + 1)),
            wear_y=np.zeros((packs, len(model.laws), TERMS)),
            wear=np.zeros((packs, len(model.laws), WEAR_COLUMNS)),
            stack=np.zeros((packs, STACK, 1 + LEG_COLUMNS)),
            leg=np.zeros((packs, LEG_COLUMNS)),
            uses=np.zeros((packs, USES, layout.USE_COLUMNS)),
            group_soc=np.empty((packs, groups)),
        )
        rows = state.rows
        rows[:, layout.SOC] = socs
        rows[:, layout.NEXT_AGING_S] = 86_400.0
        for column in _TEMPERATURES:
            rows[:, column] = temperatures_c
        rows[:, layout.DEPTH_OF_STACK] = 1.0
        state.stack[:, 0, 0] = socs
        halves, aging = model.halves, model.parameters.aging
        curves: dict[float, tuple[float, Array]] = {}
        for health in np.unique(healths):
            lost = 1.0 - float(health)
            curve = np.empty(SOC_CELLS + 1)
            ratio = fill_aged_curve(
                halves.anode_v, halves.cathode_v, halves.geometry, lost, aging.lithium_share, 0.0, curve
            )
            curves[float(health)] = (ratio, curve)
        for pack in range(packs):
            lost = 1.0 - float(healths[pack])
            ratio, state.curve_v[pack] = curves[float(healths[pack])]
            rows[pack, layout.CAPACITY_AH] = model.parameters.capacity_ah * ratio
            rows[pack, layout.CAPACITY_LOSS] = lost
            if lost and aging.calendar_scale == 0.0:
                rows[pack, layout.LOSS_AT_START] = lost  # no law accounts for it
            elif lost:
                for index, each in enumerate(model.laws):
                    state.wear_y[pack, index, 0] = (lost / aging.calendar_scale) ** (1.0 / each.calendar_exponent)
                _, rows[pack, layout.GROWTH_AT_START], _, _ = loss(
                    model.laws[0].number, state.wear_y[pack, 0], aging.calendar_scale, aging.cycle_scale
                )
        if every_group:
            state.group_soc[:] = 1.0 - (1.0 - socs[:, None]) / model.groups.capacity[None, :]
        rows[:, layout.VOLTAGE_V] = [
            model.parameters.groups_in_series * np.interp(socs[pack] * SOC_CELLS, np.arange(SOC_CELLS + 1), curve)
            for pack, curve in enumerate(state.curve_v)
        ]
        return state

    def copy(self) -> Self:
        """Another state with the same values."""
        return type(self)(*(getattr(self, name).copy() for name in self.__slots__))

    @property
    def packs(self) -> int:
        """How many packs it holds."""
        return int(self.rows.shape[0])

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(int(getattr(self, name).nbytes) for name in self.__slots__)


@dataclass(slots=True)
class Drive:
    """One chunk of what happens to packs, in steps of `dt_s` seconds (at most 60).

    Each array is (samples,) for all packs alike or (packs, samples); all but the power may hold one sample for the
    whole chunk. `power_w` is asked at the terminals (+ charges), `use` are values of `Use`. Charging for V2G or by a
    charger stops at `soc_ceiling`, discharge for V2G at `soc_floor`. `obey_limits` lets the battery management's power
    limits act.
    """

    dt_s: float
    power_w: Array
    ambient_c: Array
    use: NDArray[np.uint8] | None = None
    speed_km_h: Array | None = None
    soc_ceiling: Array | None = None
    soc_floor: Array | None = None
    obey_limits: bool = True

    def checked(self, packs: int) -> Mapping[str, NDArray[np.generic]]:
        """All inputs as (rows, samples) arrays. Raises ConfigError with the input, sample and allowed range."""
        if not 0.0 < self.dt_s <= LONGEST_STEP_S:
            raise ConfigError(f"a step of {self.dt_s:g} s; a pack is stepped by more than 0 and at most 60 s")
        power = _two_dimensional("power_w", self.power_w, packs, None, -1e7, 1e7)
        samples = power.shape[1]
        made: dict[str, NDArray[np.generic]] = {"power": power}
        for name, given, low, high, default in (
            ("ambient", self.ambient_c, -60.0, 80.0, 20.0),
            ("speed", self.speed_km_h, 0.0, 400.0, 0.0),
            ("ceiling", self.soc_ceiling, 0.0, 1.0, 1.0),
            ("floor", self.soc_floor, 0.0, 1.0, 0.0),
        ):
            values = np.full(1, default) if given is None else given
            made[name] = _two_dimensional(name, values, packs, samples, low, high)
        use = np.zeros(1, dtype=np.uint8) if self.use is None else np.asarray(self.use)
        made["use"] = _two_dimensional("use", use, packs, samples, 0, max(Use)).astype(np.uint8)
        return made


def advance(
    model: PackModel,
    state: PackState,
    drive: Drive,
    *,
    record: Sequence[str] = (),
    every: int = 1,
    threads: int | None = None,
) -> dict[str, Array]:
    """Move `state` in place through the drive; returns what was asked to be recorded, one value each `every` samples.

    `record` are names of `RECORDS`; arrays are (samples // every,) for one pack and (packs, samples // every) for many.
    Many packs are shared among `threads`, all processors by default. Raises ConfigError for input that makes no sense;
    nothing has moved then.
    """
    inputs = drive.checked(state.packs)
    unknown = [name for name in record if name not in RECORDS]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} cannot be recorded; there are {', '.join(RECORDS)}")
    if every < 1:
        raise ConfigError(f"every is {every}; record each first, second, … sample")
    columns = np.array([RECORDS[name] for name in record], dtype=np.int64)
    samples = inputs["power"].shape[1]
    out = np.empty((state.packs, len(columns), samples // every if len(columns) else 0))
    fixed = kernel_arguments(model, state)
    advance_packs: Callable[..., None] = kernel.advance_packs

    def run(first: int, last: int) -> None:
        moved_by = (inputs[name] for name in ("power", "ambient", "speed", "use", "ceiling", "floor"))
        advance_packs(first, last, *fixed, drive.dt_s, *moved_by, drive.obey_limits, columns, every, out)

    workers = min(threads or os.cpu_count() or 1, state.packs)
    if workers == 1:
        run(0, state.packs)
    else:
        bounds = np.linspace(0, state.packs, 8 * workers + 1).astype(int)
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(run, int(a), int(b)) for a, b in itertools.pairwise(bounds)]:
                done.result()
    recorded = {name: out[:, index] for index, name in enumerate(record)}
    return {name: values[0] if state.packs == 1 else values for name, values in recorded.items()}


def kernel_arguments(model: PackModel, state: PackState) -> tuple[NDArray[np.generic], ...]:
    """Model and state in the order of `kernel.advance_packs`, behind the range of packs and before the drive."""
    groups, halves = model.groups.table, model.halves
    return (
        model.scalars, model.soc_table, model.temperature_table, model.calendar, model.law_numbers, model.law_table,
        halves.anode_v, halves.cathode_v, halves.geometry, groups,
        state.rows, state.curve_v, state.wear_y, state.wear, state.stack, state.leg, state.uses, state.group_soc,
    )  # fmt: skip


def _per_pack(name: str, value: float | Array, packs: int, low: float, high: float) -> Array:
    values = np.broadcast_to(np.asarray(value, dtype=np.float64), (packs,))
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        raise ConfigError(f"{name} must be from {low:g} to {high:g}, not {values[wrong][0]:g}")
    return values


def _two_dimensional(
    name: str, values: NDArray[np.generic], packs: int, samples: int | None, low: float, high: float
) -> NDArray[np.generic]:
    found = np.atleast_2d(values)
    if name != "use":
        found = np.ascontiguousarray(found, dtype=np.float64)
    if (
        found.ndim != 2
        or found.shape[0] not in {1, packs}
        or (samples is not None and found.shape[1] not in {1, samples})
    ):
        raise ConfigError(
            f"{name} has shape {np.shape(values)}; it needs {samples if samples is not None else 'n'} samples"
            f"{' or one' if samples is not None else ''}, for all packs or for each of {packs}"
        )
    if found.size:
        least, most = found.min(), found.max()
        if not (low <= least and most <= high):  # also NaN
            wrong = np.argwhere(~((found >= low) & (found <= high)))[0]
            raise ConfigError(
                f"{name} is {found[tuple(wrong)]:g} at sample {wrong[1]}; it must be from {low:g} to {high:g}"
            )
    return found
