"""One life of a pack: every second of every day of a scenario, through the pack twin, with some of its uses or all.

All days are simulated; no year is repeated or scaled up. Memory stays that of one day, whatever the years. A life keeps
a checkpoint a month with what each law says, where the pack stood in charge and temperature (hours), what each use took
and gave, and two sample weeks for pictures.

>>> from pathlib import Path
>>> from twins.scenarios.model import Scenario
>>> scenario = Scenario.model_validate({"name": "parked", "step_s": 60, "climate": {"place": "danish"}})
>>> life = live(scenario, scenario.parameters(Path()), uses=frozenset(), days=60, laws=("b1",))
>>> [point.day for point in life.points]
[0, 31, 60]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twins.pack import layout
from twins.pack.laws import law
from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters
from twins.pack.series import PackState, advance
from twins.pack.snapshot import Snapshot, snapshot
from twins.pack.uses import Use
from twins.scenarios.climate import DAYS_PER_YEAR
from twins.scenarios.grading import StressHistory
from twins.scenarios.habits import ANSWERABLE, Day, base_power_w, generate_day
from twins.scenarios.model import Scenario
from twins.scenarios.outlook import Going

Floats = NDArray[np.float64]
Progress = Callable[[int], None]  # days that were simulated since the last call

SOC_EDGES: Final[Floats] = np.linspace(0.0, 1.0, 21)
TEMPERATURE_EDGES_C: Final[Floats] = np.linspace(-20.0, 60.0, 41)
COLD_CHARGING_C: Final = 0.0  # charging of cells below it counts as stress: lithium may plate (from memory)
SAMPLE_WEEKS: Final[Mapping[str, int]] = {"winter": 14, "summer": 182}  # first day, a Monday

_MINUTES_PER_DAY: Final = 1440
_CHARGES_W: Final = 500.0  # more than what holds a full pack at its ceiling
_ABLE_SHARE: Final = 0.02  # of the power that is asked: what flows below it counts as nothing
_RECORDED: Final = ("soc", "temperature_c", "power_w")


class Stopped(Exception):
    """The life was given up because somebody asked for it; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class LawPoint:
    """What one law says at a checkpoint; losses are fractions of the new capacity, growth of the new resistance."""

    law: str
    loss: float
    calendar: float
    cycle: float
    resistance_growth: float
    outside_share: float  # of the loss, accrued outside the range in which the law was tested


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint. The state of health is the pack's own, after the first law; `laws` are all, side by side."""

    day: int
    soh: float
    resistance_growth: float
    equivalent_full_cycles: float  # discharged ampere-hours over the new capacity
    km: float  # that the pack could drive
    laws: tuple[LawPoint, ...]

    @property
    def years(self) -> float:
        """Age in years of 365 days."""
        return self.day / DAYS_PER_YEAR

    def of(self, name: str) -> LawPoint:
        """The point of one law; raises KeyError for a law that was not counted."""
        for point in self.laws:
            if point.law == name:
                return point
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class UseEnergy:
    """What one use moved over the whole life, at the pack's terminals, and what was asked of it.

    The pack gives less than asked where its floor, its cells or its battery management say no. `asked_wh` and
    `given_wh` are what the use is for: discharge for the grid, and for driving the traction less its regeneration,
    because a stretch that was not driven brakes nothing either.
    """

    use: str
    hours: float
    asked_discharge_wh: float
    asked_wh: float
    given_wh: float
    charged_wh: float
    discharged_wh: float
    charged_ah: float
    discharged_ah: float


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days of the first year, a mean a minute: state of charge (fraction), °C and W."""

    name: str
    first_day: int
    soc: Floats
    temperature_c: Floats
    ambient_c: Floats
    power_w: Floats


@dataclass(frozen=True, slots=True)
class Life:
    """A simulated life. `uses` took place; `points` begin with the first day and end with the last.

    `hours` has shape (20, 40): hours by state of charge (`SOC_EDGES`) and cell temperature (`TEMPERATURE_EDGES_C`).
    `live` is the live attribution per law, losses by cause as fractions of the new capacity. `going` is what goes on
    as in the last year, per law, for `twins.scenarios.outlook`.
    """

    uses: tuple[str, ...]
    days: int
    points: tuple[Point, ...]
    energies: tuple[UseEnergy, ...]
    history: StressHistory
    hours: Floats
    weeks: tuple[Week, ...]
    live: Mapping[str, Mapping[str, float]]
    going: Mapping[str, Going]
    available_h: float  # plugged in, under contract, and with a pack that could do what was asked
    loss_wh: float  # turned to heat in the pack
    model: PackModel
    state: PackState

    @property
    def end(self) -> Point:
        """The last checkpoint."""
        return self.points[-1]

    @property
    def years(self) -> float:
        """Length in years of 365 days."""
        return self.days / DAYS_PER_YEAR

    def energy(self, use: Use) -> UseEnergy:
        """What one use moved."""
        return next(energy for energy in self.energies if energy.use == use.name.lower())

    @property
    def years_end(self) -> tuple[Point, ...]:
        """The checkpoints at the end of each year; the last one also where it ends a part of a year."""
        found = [point for point in self.points if point.day and point.day % DAYS_PER_YEAR == 0]
        return (*found, self.end) if self.end.day % DAYS_PER_YEAR else tuple(found)


def live(
    scenario: Scenario,
    parameters: PackParameters,
    *,
    uses: frozenset[Use] = frozenset(ANSWERABLE),
    laws: Sequence[str] | None = None,
    days: int | None = None,
    progress: Progress | None = None,
    stop: Event | None = None,
    weeks: bool = False,
) -> Life:
    """Simulate one life of `scenario` with `uses` out of those that it has.

    `laws[0]` ages the pack, the pack file's law by default; all are counted. `days` is the whole scenario by default.
    Raises ConfigError for a law that does not exist, and Stopped when `stop` was set.
    """
    total = scenario.years * DAYS_PER_YEAR if days is None else days
    run = _Run(scenario, parameters, uses, tuple(laws) if laws is not None else (parameters.aging.law,), weeks=weeks)
    for day_index in range(total):
        if stop is not None and stop.is_set():
            raise Stopped
        run.one_day(day_index)
        if progress is not None:
            progress(1)
    return run.finish()


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        parameters: PackParameters,
        uses: frozenset[Use],
        laws: tuple[str, ...],
        *,
        weeks: bool,
    ) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._uses = uses
        self._model = PackModel.build(parameters, laws=laws, seed=scenario.seed)
        first = generate_day(scenario, 0, uses=frozenset())
        self._soc = scenario.charging.ceiling_percent / 100.0
        self._state = PackState.new(
            self._model,
            soc=self._soc,
            temperature_c=float(first.ambient_c.mean()),
            soh=scenario.initial_soh_percent / 100.0,
        )
        self._days = 0
        self._km = 0.0
        self._available_min = 0.0
        self._rapid_charges = 0
        self._cold_charging_min = 0
        self._asked_wh = np.zeros(len(Use))
        self._used_wh = np.zeros(len(Use))
        self._given_wh = np.zeros(len(Use))
        self._minutes = np.zeros((len(SOC_EDGES) - 1, len(TEMPERATURE_EDGES_C) - 1))
        self._traces: dict[str, list[dict[str, Floats]]] = {name: [] for name in SAMPLE_WEEKS} if weeks else {}
        self._wear_y: list[Floats] = [self._state.wear_y[0].copy()]  # one a year
        self._points = [self._point()]

    def one_day(self, day_index: int) -> None:
        day = generate_day(self._scenario, day_index, uses=self._uses)
        week = next((name for name in self._traces if SAMPLE_WEEKS[name] <= day_index < SAMPLE_WEEKS[name] + 7), None)
        per_minute = 60 // day.step_s
        every = per_minute if week is None else 1
        before_ah = self._state.uses[0, Use.RAPID].copy()
        discharged_wh = self._discharged_wh()
        asked_wh, braked_wh = np.zeros(len(Use)), np.zeros(len(Use))
        able: list[NDArray[np.bool_]] = []
        pieces: list[dict[str, Floats]] = []
        for piece in day.pieces():
            power_w = base_power_w(
                self._scenario, day, piece, soc=self._soc, full_energy_wh=self._parameters.new_full_energy_wh
            )
            recorded = advance(self._model, self._state, day.drive(piece, power_w), record=_RECORDED, every=every)
            self._soc = float(recorded["soc"][-1])
            asked_wh += _by_use_wh(day, piece, np.maximum(-power_w, 0.0))
            braked_wh += _by_use_wh(day, piece, np.maximum(power_w, 0.0))
            able.append(_able(day, piece, power_w, recorded, every))
            pieces.append(recorded)
        whole = {name: np.concatenate([piece[name] for piece in pieces]) for name in _RECORDED}
        self._available_min += np.count_nonzero(np.concatenate(able)) * every / per_minute
        self._km += day.km * self._account(asked_wh, braked_wh, self._discharged_wh() - discharged_wh)
        if week is not None:
            whole = {name: values.reshape(_MINUTES_PER_DAY, -1).mean(axis=1) for name, values in whole.items()}
            whole["ambient_c"] = day.ambient_c.reshape(_MINUTES_PER_DAY, -1).mean(axis=1)
            self._traces[week].append(whole)
        self._add_up(whole, rapid=bool((self._state.uses[0, Use.RAPID] != before_ah).any()))
        if self._days % DAYS_PER_YEAR == 0:
            self._wear_y.append(self._state.wear_y[0].copy())
        if _ends_a_month(self._days):
            self._points.append(self._point())

    def finish(self) -> Life:
        if self._points[-1].day != self._days:
            self._points.append(self._point())
        seen = snapshot(self._model, self._state)
        return Life(
            uses=tuple(use.name.lower() for use in ANSWERABLE if use in self._uses),
            days=self._days,
            points=tuple(self._points),
            energies=_energies(seen, self._asked_wh, self._used_wh, self._given_wh),
            history=self._history(seen),
            hours=self._minutes / 60.0,
            weeks=tuple(_week(name, traces) for name, traces in self._traces.items() if len(traces) == 7),
            live={name: dict(wear.by_cause) for name, wear in seen.laws.items()},
            going=self._going(),
            available_h=self._available_min / 60.0,
            loss_wh=seen.loss_wh,
            model=self._model,
            state=self._state,
        )

    def _discharged_wh(self) -> Floats:
        """By use, so far."""
        return np.array([float(self._state.uses[0, use, layout.U_DISCHARGED_WH]) for use in Use])

    def _account(self, asked_wh: Floats, braked_wh: Floats, discharged_wh: Floats) -> float:
        """Book a day's asked and given energy by use; returns the share of the day's driving that was done.

        What is lacking counts in full against traction less regeneration: the kernel lets a trip regenerate whose
        traction the pack did not give, and this energy drives nobody.
        """
        lacking_wh = np.maximum(asked_wh - discharged_wh, 0.0)
        used_wh = asked_wh.copy()
        if asked_wh[Use.DRIVING] > braked_wh[Use.DRIVING]:
            used_wh[Use.DRIVING] -= braked_wh[Use.DRIVING]
        given_wh = np.maximum(used_wh - lacking_wh, 0.0)
        self._asked_wh += asked_wh
        self._used_wh += used_wh
        self._given_wh += given_wh
        driving = float(used_wh[Use.DRIVING])
        return float(given_wh[Use.DRIVING]) / driving if driving > 0.0 else 1.0

    def _add_up(self, whole: Mapping[str, Floats], *, rapid: bool) -> None:
        self._days += 1
        self._rapid_charges += rapid
        charging = (whole["power_w"] > _CHARGES_W) & (whole["temperature_c"] < COLD_CHARGING_C)
        self._cold_charging_min += int(np.count_nonzero(charging))
        soc_bin = np.clip(np.searchsorted(SOC_EDGES, whole["soc"], side="right") - 1, 0, len(SOC_EDGES) - 2)
        warm_bin = np.searchsorted(TEMPERATURE_EDGES_C, whole["temperature_c"], side="right") - 1
        warm_bin = np.clip(warm_bin, 0, len(TEMPERATURE_EDGES_C) - 2)
        columns = len(TEMPERATURE_EDGES_C) - 1
        counted = np.bincount(soc_bin * columns + warm_bin, minlength=self._minutes.size)
        self._minutes += counted.reshape(self._minutes.shape)

    def _point(self) -> Point:
        seen = snapshot(self._model, self._state)
        return Point(
            day=self._days,
            soh=seen.soh,
            resistance_growth=seen.resistance_growth,
            equivalent_full_cycles=seen.discharged_ah / self._parameters.capacity_ah,
            km=self._km,
            laws=tuple(
                LawPoint(
                    law=name,
                    loss=wear.capacity_loss,
                    calendar=wear.calendar_part,
                    cycle=wear.cycle_part,
                    resistance_growth=wear.resistance_growth,
                    outside_share=wear.share_outside_validity,
                )
                for name, wear in seen.laws.items()
            ),
        )

    def _history(self, seen: Snapshot) -> StressHistory:
        return StressHistory(
            years=self._days / DAYS_PER_YEAR,
            hot_h=seen.hot_s / 3600.0,
            full_h=seen.full_s / 3600.0,
            empty_h=seen.empty_s / 3600.0,
            cold_charging_h=self._cold_charging_min / 60.0,
            rapid_charges=self._rapid_charges,
            equivalent_full_cycles=seen.discharged_ah / self._parameters.capacity_ah,
            km=self._km,
            hottest_c=seen.hottest_c,
            coldest_c=seen.coldest_c,
        )

    def _going(self) -> dict[str, Going]:
        """Wear now, and that of the last whole year; of all days where there was no whole year.

        Half cycles that still wait for their other half are left out: less than one cycle of a whole life.
        """
        now = self._state.wear_y[0].copy()
        if self._days % DAYS_PER_YEAR == 0 and len(self._wear_y) >= 2:
            year_ago, years = self._wear_y[-2], 1.0
        elif len(self._wear_y) >= 2:
            year_ago, years = self._wear_y[-1], self._days % DAYS_PER_YEAR / DAYS_PER_YEAR
        else:
            year_ago, years = self._wear_y[0], max(self._days, 1) / DAYS_PER_YEAR
        aging = self._parameters.aging
        return {
            each.key: Going(
                law=law(each.key),
                y=now[index],
                y_per_year=(now[index] - year_ago[index]) / years,
                calendar_scale=aging.calendar_scale,
                cycle_scale=aging.cycle_scale,
            )
            for index, each in enumerate(self._model.laws)
        }


def _ends_a_month(days: int) -> bool:
    """A month is a twelfth of 365 days, ending with a whole day; each year ends with one."""
    return days * 12 // DAYS_PER_YEAR > (days - 1) * 12 // DAYS_PER_YEAR


def _by_use_wh(day: Day, piece: slice, power_w: Floats) -> Floats:
    """Energy of a piece of a day by use, shape (uses,)."""
    return np.asarray(
        np.bincount(day.use[piece], weights=power_w, minlength=len(Use)) * (day.step_s / 3600.0), dtype=np.float64
    )


def _able(day: Day, piece: slice, power_w: Floats, recorded: Mapping[str, Floats], every: int) -> NDArray[np.bool_]:
    """At which recorded samples the vehicle served the grid and could: it gave or took power, or could have given it.

    A minute is judged by its last second: contracts begin and end on whole minutes.
    """
    asked_w, use = power_w[every - 1 :: every], day.use[piece][every - 1 :: every]
    floor = day.soc_floor[piece][every - 1 :: every]
    moved = recorded["power_w"] * np.sign(asked_w) > _ABLE_SHARE * np.abs(asked_w)
    found: NDArray[np.bool_] = (use == Use.V2G) & np.where(asked_w == 0.0, recorded["soc"] > floor, moved)
    return found


def _energies(seen: Snapshot, asked_wh: Floats, used_wh: Floats, given_wh: Floats) -> tuple[UseEnergy, ...]:
    return tuple(
        UseEnergy(
            use=use.name.lower(),
            hours=registers["seconds"] / 3600.0,
            asked_discharge_wh=float(asked_wh[use]),
            asked_wh=float(used_wh[use]),
            given_wh=float(given_wh[use]),
            charged_wh=registers["charged_wh"],
            discharged_wh=registers["discharged_wh"],
            charged_ah=registers["charged_ah"],
            discharged_ah=registers["discharged_ah"],
        )
        for use, registers in seen.by_use.items()
    )


def _week(name: str, traces: Sequence[Mapping[str, Floats]]) -> Week:
    joined = {key: np.concatenate([trace[key] for trace in traces]) for key in traces[0]}
    return Week(
        name=name,
        first_day=SAMPLE_WEEKS[name],
        soc=joined["soc"],
        temperature_c=joined["temperature_c"],
        ambient_c=joined["ambient_c"],
        power_w=joined["power_w"],
    )
