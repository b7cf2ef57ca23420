"""`replay_on_twin`: what the pack twin shows when the current of a log flows through it.

The twin begins with the log's first state of charge and temperature and is never told a voltage. What drives it depends
on the rows (`twins.pack.identification.reading`). Rows of at most 5 s are driven by their own current, and the twin's
state of charge is a result. Longer rows are driven by the charge of the reported state of charge, with the spot current
for the last seconds only, and the state of charge is an input. Behind a gap the temperature begins anew at the measured
value; the gap itself is bridged by the mean current of its step of charge, a rapid charge inside it with the pack's own
heat factor. Behind a gap of more than a week everything begins anew.

Of a long row's driving the mean current hides a variance, whose heat is real: a current that alternates every second
around the mean puts it back, as large as the pack was identified with (`hidden_current_variance_a2` of its file) or as
in other logs of such rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twins.pack import layout
from twins.pack.identification import forward
from twins.pack.identification.fit import reported_soh
from twins.pack.identification.judge import GapRise
from twins.pack.identification.priors import NUISANCE
from twins.pack.identification.series import Flags, Floats, Series
from twins.pack.layout import SOC_CELLS
from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters
from twins.pack.series import PackState
from twins.pack.snapshot import series_resistance_ohm
from twins.pack.uses import Use
from twins.replay.twin.current import advance_by_current
from twins.replay.twin.errors import Errors, Judged, errors_of, held
from twins.replay.twin.validity import Validity, validity_of

STEP_S: Final = 1.0
LONGEST_BRIDGED_S: Final = 7 * 86_400.0

_LEAST_SOH: Final = 0.3
_STANDING_KM_H: Final = 1.0
_MISSED_A: Final = 1e-3
_DRIFT: Final = 0.005  # a state of charge that is an input and yet differs by more is worth a note


@dataclass(frozen=True, slots=True)
class TwinReplay:
    """What twin and log say of n rows. Temperatures are of the module plates, where the sensors sit."""

    series: Series
    pack: PackParameters
    soh: float
    start_soc: float
    start_temperature_c: float
    voltage_v: Floats  # (n,) twin, mean of the last second before the row
    soc: Floats  # (n,) twin
    temperature_c: Floats  # (n,) twin, before it begins anew
    open_loop_c: Floats  # (n,) twin, begun once
    ocv_only_v: Floats  # (n,) the twin's curve at the reported state of charge, or at the twin's where none is
    voltage: Judged
    temperature: Judged | None
    open_loop: Errors | None  # temperature, begun once
    soc_points: Errors | None  # percent of capacity; None where it is an input or not in the log
    gap_rises: tuple[GapRise, ...]
    limited_s: float
    limited_ah: float
    worst_current_a: float
    validity: Validity
    notes: tuple[str, ...]


def replay_on_twin(series: Series, pack: PackParameters) -> TwinReplay:
    """Drive a twin of `pack` by a log and compare.

    Raises ConfigError where the log has a state that no pack can have (a temperature or health out of range).
    """
    run = _Run(series, pack)
    anew = run.through(restart=True)
    once = run.through(restart=False) if series.gap.any() else anew
    return run.result(anew, once)


@dataclass(slots=True)
class _Shown:
    """(n,) of what one pass of the twin showed."""

    voltage_v: Floats
    soc: Floats
    temperature_c: Floats
    limited_s: float = 0.0
    limited_ah: float = 0.0
    worst_a: float = 0.0


class _Run:
    """One log, one pack: the twin as it begins, and what drives it."""

    def __init__(self, series: Series, pack: PackParameters) -> None:
        self.series = series
        self.notes: list[str] = []
        soh = reported_soh([series], pack)
        if soh is None:
            self.notes.append("neither capacity nor SOH is in the log: the twin has the capacity of a new pack")
            soh = 1.0
        elif soh > 1.0:
            pack = pack.model_copy(update={"capacity_ah": pack.capacity_ah * soh})
            self.notes.append(f"the car reports {100 * soh:.1f} % of the pack's capacity; the twin has it as a new one")
            soh = 1.0
        self.pack, self.soh = pack, max(soh, _LEAST_SOH)
        self.model = PackModel.build(pack)
        self.soc_is_input = series.driven_by == "reported SOC"
        self.rows = forward.rows_of(series)
        self.hidden_a2 = _hidden_variance_a2(pack)
        self.rows[:, forward.R_HIDDEN_A2] *= self.hidden_a2 / forward.HIDDEN_VARIANCE_A2
        self._settle_air()
        self.use = _uses(series)
        self.start_soc = self._start_soc()

    def _settle_air(self) -> None:
        """Air that the log does not have is that of the first row's pack, not of every row's: that would be told."""
        measured_c = self.rows[0, forward.R_MEASURED]
        if np.isnan(self.series.ambient_c).all():
            self.rows[:, forward.R_AMBIENT] = measured_c
            self.notes.append(f"no ambient in the log: the air stays at the pack's first {measured_c:.1f} degC")
        if np.isnan(self.series.temperature_c).all():
            self.notes.append(
                f"no pack temperature in the log: the twin begins at {measured_c:.1f} degC"
                f" ({'the ambient' if not np.isnan(self.series.ambient_c).all() else 'assumed'}); temperature is not"
                " judged, and resistances hold for the twin's own"
            )

    def _start_soc(self) -> float:
        soc = self.series.soc
        known = np.flatnonzero(~np.isnan(soc))
        if known.size:
            first = int(known[0])
            capacity_as = self.pack.capacity_ah * self.soh * 3600.0
            moved = float(np.sum(self.rows[1 : first + 1, forward.R_MEAN_A] * self.rows[1 : first + 1, forward.R_DT]))
            if first:
                self.notes.append(f"the first {first} rows have no SOC: counted back from the first that has")
            return float(np.clip(soc[first] - moved / capacity_as, 0.0, 1.0))
        middle = self._begun(0.5, 0)
        ohm = series_resistance_ohm(self.model, middle)
        rest_v = (self.series.voltage_v[0] - ohm * self.series.current_a[0]) / self.pack.groups_in_series
        found = float(np.interp(rest_v, middle.curve_v[0], np.linspace(0.0, 1.0, SOC_CELLS + 1)))
        self.notes.append(
            f"no SOC in the log: {100 * found:.1f} % is read from the first voltage, so the voltage's error tells how"
            " it moves, not where it stands; how the pack was used before is not known"
        )
        return found

    def _begun(self, soc: float, row: int) -> PackState:
        """A pack at rest at a row, its casing between plates and air as after a long time there."""
        measured_c, air_c = self.rows[row, forward.R_MEASURED], self.rows[row, forward.R_AMBIENT]
        state = PackState.new(self.model, soc=soc, temperature_c=float(measured_c), soh=self.soh)
        thermal = self.pack.thermal
        to_air = thermal.still_air_w_per_k + thermal.air_w_per_k_per_km_h * self.rows[row, forward.R_SPEED]
        inner = thermal.plates_to_casing_w_per_k
        state.rows[0, layout.CASING_C] = (inner * measured_c + to_air * air_c) / (inner + to_air)
        return state

    def through(self, *, restart: bool) -> _Shown:
        """Drive the twin through all rows; with `restart` its temperature begins anew behind each gap."""
        series = self.series
        shown = _Shown(np.empty(series.rows), np.empty(series.rows), np.empty(series.rows))
        state = self._begun(self.start_soc, 0)
        self._show_at_rest(shown, state, 0)
        for begin, end in self._stretches():
            if series.gap[end] and series.time_s[end] - series.time_s[end - 1] > LONGEST_BRIDGED_S:
                if end - 1 > begin:
                    state = self._drive(shown, state, begin, end - 1)
                soc = float(self.rows[end, forward.R_SOC]) if not np.isnan(series.soc).all() else shown.soc[end - 1]
                state = self._begun(soc, end)
                self._show_at_rest(shown, state, end)
                continue
            state = self._drive(shown, state, begin, end)
            if not series.gap[end]:
                continue
            row = state.rows[0]
            if restart and not np.isnan(series.temperature_c[end]):
                moved_k = series.temperature_c[end] - row[layout.PLATES_C]
                for node in (layout.CELLS_C, layout.PLATES_C, layout.CASING_C):
                    row[node] += moved_k
            if self.soc_is_input:
                row[layout.SOC] = min(max(self.rows[end, forward.R_SOC], 0.0), 1.0)
        return shown

    def _show_at_rest(self, shown: _Shown, state: PackState, place: int) -> None:
        """The first row of a begin: no step led to it, so the current meets a pack without a past."""
        row = state.rows[0]
        ohm = series_resistance_ohm(self.model, state)
        if self.series.current_a[place] < 0.0:
            ohm *= self.pack.resistance.discharge_factor
        shown.voltage_v[place] = row[layout.VOLTAGE_V] + ohm * self.series.current_a[place]
        shown.soc[place], shown.temperature_c[place] = row[layout.SOC], row[layout.PLATES_C]

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Rows from one gap's end to the next: (begin, end), of which `begin` is known and the others are driven to."""
        ends = [0, *np.flatnonzero(self.series.gap).tolist(), self.series.rows - 1]
        yield from ((begin, end) for begin, end in pairwise(ends) if end > begin)

    def _drive(self, shown: _Shown, state: PackState, begin: int, end: int) -> PackState:
        """Drive the twin from one row to another on an even grid of about a second."""
        times = self.series.time_s[begin : end + 1] - self.series.time_s[begin]
        rows = self.rows[begin + 1 : end + 1]
        steps = max(1, round(float(times[-1]) / STEP_S))
        dt_s = float(times[-1]) / steps
        grid_s = np.linspace(0.0, float(times[-1]), steps + 1)
        at = np.minimum(np.searchsorted(times[1:], grid_s[1:] - 0.5 * dt_s), end - begin - 1)
        mean_a, spot_a, hold_s = rows[:, forward.R_MEAN_A], rows[:, forward.R_SPOT_A], rows[:, forward.R_HOLD_S]
        moved_as = np.concatenate(([0.0], np.cumsum(mean_a * rows[:, forward.R_DT])))
        knots_s, knots_as = np.empty(2 * mean_a.size + 1), np.empty(2 * mean_a.size + 1)
        knots_s[0::2], knots_as[0::2] = times, moved_as
        knots_s[1::2], knots_as[1::2] = times[1:] - hold_s, moved_as[1:] - spot_a * hold_s
        current_a = np.diff(np.interp(grid_s, knots_s, knots_as)) / dt_s
        early = grid_s[1:] <= (times[1:] - hold_s)[at]
        hidden_a = np.sqrt(rows[at, forward.R_HIDDEN_A2]) * early
        current_a += np.where(np.arange(steps) % 2 == 0, hidden_a, -hidden_a)
        driven = advance_by_current(
            self.model,
            state,
            current_a,
            dt_s=dt_s,
            ambient_c=np.interp(grid_s[1:], times, self.rows[begin : end + 1, forward.R_AMBIENT]),
            speed_km_h=rows[at, forward.R_SPEED],
            use=self.use[begin + 1 : end + 1][at],
        )
        out = driven.recorded
        places = np.clip(np.rint(times[1:] / dt_s).astype(np.intp) - 1, 0, steps - 1)
        shown.voltage_v[begin + 1 : end + 1] = out["voltage_v"][places]
        shown.soc[begin + 1 : end + 1] = out["soc"][places]
        shown.temperature_c[begin + 1 : end + 1] = out["plates_c"][places]
        limited = out["limited"] != 0
        shown.limited_s += float(limited.sum()) * dt_s
        shown.limited_ah += float(np.abs(current_a - out["current_a"])[limited].sum()) * dt_s / 3600.0
        shown.worst_a = max(shown.worst_a, driven.worst_a)
        return driven.state

    def result(self, anew: _Shown, once: _Shown) -> TwinReplay:
        """Compare both passes with the log."""
        series, notes = self.series, self.notes
        curve_soc = np.where(np.isnan(series.soc), anew.soc, series.soc)
        curve = self._begun(self.start_soc, 0).curve_v[0]
        grid = np.linspace(0.0, 1.0, SOC_CELLS + 1)
        ocv_only_v = self.pack.groups_in_series * np.interp(curve_soc, grid, curve)
        begins = series.gap.copy()
        begins[0] = True
        times = series.time_s
        voltage = _judged("V", times, anew.voltage_v, series.voltage_v, begins, ocv_only_v)
        assert voltage is not None  # every row of a series has a voltage
        inside = np.where(series.gap, np.nan, series.temperature_c)
        temperature = _judged("K", times, anew.temperature_c, inside, begins, held_from=series.temperature_c)
        soc_points = None
        if self.soc_is_input:
            drift = np.nanmax(np.abs(anew.soc - series.soc))
            if drift > _DRIFT:
                notes.append(
                    f"the charge of the rows leads up to {100 * drift:.1f} points away from the reported SOC (rows"
                    " without SOC, or more than the twin can hold)"
                )
        else:
            soc_points = errors_of(times, 100.0 * anew.soc, 100.0 * series.soc)
        if anew.limited_s > 0.0:
            notes.append(
                f"for {anew.limited_s:.0f} s the twin could not take or give the log's current (full, empty, or a"
                f" group at its voltage limit); {anew.limited_ah:.2f} Ah did not flow"
            )
        if anew.worst_a > _MISSED_A:
            notes.append(f"the log's current was met to {anew.worst_a:.2g} A only")
        if (self.rows[:, forward.R_HIDDEN_A2] > 0.0).any():
            source = "as in other such logs" if self.hidden_a2 == forward.HIDDEN_VARIANCE_A2 else "from the pack file"
            notes.append(
                f"heat: in rows of driving the current alternates by {self.hidden_a2**0.5:.0f} A around its mean, for"
                f" the variance that a mean over {series.spacing_s:.0f} s hides ({source})"
            )
        return TwinReplay(
            series=series,
            pack=self.pack,
            soh=self.soh,
            start_soc=self.start_soc,
            start_temperature_c=float(self.rows[0, forward.R_MEASURED]),
            voltage_v=anew.voltage_v,
            soc=anew.soc,
            temperature_c=anew.temperature_c,
            open_loop_c=once.temperature_c,
            ocv_only_v=ocv_only_v,
            voltage=voltage,
            temperature=temperature,
            open_loop=errors_of(times, once.temperature_c, series.temperature_c),
            soc_points=soc_points,
            gap_rises=_gap_rises(series, anew.temperature_c),
            limited_s=anew.limited_s,
            limited_ah=anew.limited_ah,
            worst_current_a=anew.worst_a,
            validity=validity_of(series, self.pack),
            notes=(*series.notes, *notes),
        )


def _hidden_variance_a2(pack: PackParameters) -> float:
    """What the pack was identified with, since its heat capacity holds beside it; else that of other logs."""
    known = pack.estimates.get(NUISANCE)
    return forward.HIDDEN_VARIANCE_A2 if known is None or not known.identified else known.mean


def _uses(series: Series) -> NDArray[np.uint8]:
    """(n,) use of the interval before each row: what flows in while standing is a charge."""
    made = np.full(series.rows, Use.PARKED, dtype=np.uint8)
    moving = series.speed_km_h >= _STANDING_KM_H
    made[moving | (series.interval_a < 0.0)] = Use.DRIVING
    made[(series.interval_a > 0.0) & ~moving] = Use.CHARGING
    made[series.rapid] = Use.RAPID
    return made


def _judged(
    unit: str,
    time_s: Floats,
    shown: Floats,
    logged: Floats,
    begins: Flags,
    ocv_only: Floats | None = None,
    *,
    held_from: Floats | None = None,
) -> Judged | None:
    twin = errors_of(time_s, shown, logged)
    if twin is None:
        return None
    source = logged if held_from is None else held_from
    before = np.concatenate(([np.nan], source[:-1]))
    return Judged(
        unit=unit,
        level=float(np.nanmean(logged)),
        twin=twin,
        persistence=errors_of(time_s, held(source, begins), logged),
        ocv_only=None if ocv_only is None else errors_of(time_s, ocv_only, logged),
        row_before=errors_of(time_s, before, logged),
    )


def _gap_rises(series: Series, temperature_c: Floats) -> tuple[GapRise, ...]:
    """Temperature across each gap; before it the twin stands at its own prediction."""
    found = []
    for place in np.flatnonzero(series.gap).tolist():
        before, after = series.temperature_c[place - 1], series.temperature_c[place]
        length_s = float(series.time_s[place] - series.time_s[place - 1])
        if np.isnan(before) or np.isnan(after) or length_s > LONGEST_BRIDGED_S:
            continue
        found.append(
            GapRise(
                begin_s=float(series.time_s[place - 1]),
                length_s=length_s,
                mean_current_a=float(series.interval_a[place]),
                measured_k=float(after - before),
                predicted_k=float(temperature_c[place] - _stood_at(series, temperature_c, place - 1)),
            )
        )
    return tuple(found)


def _stood_at(series: Series, temperature_c: Floats, place: int) -> float:
    """Where the twin stood behind a row: at the measurement, if it began anew there."""
    measured = float(series.temperature_c[place])
    return measured if series.gap[place] and not np.isnan(measured) else float(temperature_c[place])
