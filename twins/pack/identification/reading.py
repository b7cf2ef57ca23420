"""A log as arrays that a pack can be fitted to or judged by, with everything that was wrong with it named.

The readers of `twins.replay` know the dialects, the sign of a current and degrees Fahrenheit; nothing is read twice
here. This module decides what the rows may be used for:

- `driven_by`: rows of at most 5 s (median) are driven by the log's own current. For longer rows a spot current says
  nothing of the minutes between (it misses 46 to 94 points of charge in a day of 302 s rows), so the charge of a row is
  the step of the reported state of charge times the reported capacity, and the spot current counts only for the last
  seconds before the row.
- gaps: an interval well beyond the usual one. The state of charge bridges it, the temperature begins anew behind it.

What can be put right is put right and noted; what cannot is refused in one sentence (LogError, ConfigError).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from drivers.errors import ConfigError
from twins.pack.identification.series import DrivenBy, Flags, Floats, Series
from twins.pack.parameters import PackParameters, shipped_pack
from twins.replay import LeafSpyUnits, ReplaySample, TemperatureUnit, open_log

LONGEST_CURRENT_ROW_S: Final = 5.0
SPOT_HOLDS_S: Final = 20.0
"""How long before a long row its spot current has flowed; 5 to 60 s fit alike (302 s rows of a 62 kWh car)."""

_LEAST_GAP_S: Final = 30.0
_GAP_OVER_MEDIAN: Final = 1.3
_LEAST_ROWS: Final = 10
_MOST_AC_W: Final = 12_000.0  # a single-phase or three-phase on-board charger stays below
_RAPID_WINDOW_S: Final = 120.0  # recuperation is as strong as a rapid charge, but never for so long
_MOST_CURRENT_A: Final = 600.0
_TEMPERATURE_C: Final = (-40.0, 80.0)
_AMBIENT_C: Final = (-45.0, 58.0)
_GROUP_V: Final = (2.0, 4.6)
_OTHER_CAPACITY: Final = 0.12  # new capacities of the known packs lie 23 % and more apart
_OTHER_PACKS: Final = {"24 kWh": 65.4, "30 kWh": 80.97}  # Ah when new, Ah over SOH of real cars
_LEAST_SIGN_CORRELATION: Final = 0.3
_KM_PER_MILE: Final = 1.609344
_RPM_PER_KM_H: Final = 68.0  # as the reader of Leaf Spy files has it
_SENSORS: Final = tuple(f"pack_temperature_{number}_c" for number in range(1, 5))


def read_series(path: Path, pack: PackParameters, *, temperature_unit: str = "auto") -> Series:
    """Read a Leaf Spy or CAN log for a fit of `pack`.

    `temperature_unit` ("C", "F", "auto") is that of the columns whose title names none. Raises LogError for a log that
    cannot serve, and ConfigError for one of another car, each in one sentence with what would help.
    """
    try:
        unit = TemperatureUnit(temperature_unit)
    except ValueError:
        raise ConfigError(f"temperature unit {temperature_unit!r} is none of C, F, auto") from None
    log = open_log(path, units=LeafSpyUnits(temperature=unit))
    samples = list(log.samples())
    summary = log.summary()
    notes = [note for note in (*summary.assumptions, *summary.warnings) if _concerns(note)]
    series = series_of(
        samples, pack, name=str(path), averaged=log.dialect.is_can, start_utc_s=summary.start_utc_s, notes=notes
    )
    return replace(series, name=path.name)


def series_of(
    samples: Sequence[ReplaySample],
    pack: PackParameters,
    *,
    name: str,
    averaged: bool = False,
    start_utc_s: float | None = None,
    notes: Sequence[str] = (),
) -> Series:
    """Judge samples and make arrays of them; raises ConfigError in one sentence where they cannot serve."""
    found = list(notes)
    _require_columns(samples, name)
    rows = _usable_rows(samples, pack, found, name)
    time_s = rows["time_s"]
    if time_s.size < _LEAST_ROWS:
        raise ConfigError(f"{name}: {time_s.size} usable rows, and {_LEAST_ROWS} are needed")
    steps = np.diff(time_s, prepend=time_s[0])
    spacing_s = float(np.median(steps[1:]))
    gap = steps > max(_LEAST_GAP_S, _GAP_OVER_MEDIAN * spacing_s)
    if gap.any():
        found.append(
            f"{int(gap.sum())} gaps, the longest of {steps.max():.0f} s: bridged by the state of charge; the"
            " temperature begins anew behind each"
        )
    capacity_ah, soh = _median(rows["capacity_ah"]), _median(rows["soh_percent"] / 100.0)
    _require_this_car(pack, capacity_ah, soh, rows, name)
    soc = rows["soc_percent"] / 100.0
    driven_by: DrivenBy = "current" if spacing_s <= LONGEST_CURRENT_ROW_S else "reported SOC"
    current_a = _charge_positive(rows["pack_current_a"], steps, gap, soc, found, name)
    soc_a = _current_of_soc(soc, steps, capacity_ah or pack.capacity_ah * (soh or 1.0))
    if driven_by == "reported SOC":
        if np.isnan(soc).mean() > 0.5:
            raise ConfigError(
                f"{name}: rows are {spacing_s:.0f} s apart and most have no state of charge; a spot current tells"
                " nothing of so long a row, so log every 5 s or with SOC"
            )
        interval_a, hold_s = soc_a, np.minimum(steps, SPOT_HOLDS_S)
        found.append(
            f"rows are {spacing_s:.0f} s apart: the charge of a row is that of reported SOC and capacity, the spot"
            " current counts for the last seconds only; SOC and capacity are inputs here, not results"
        )
    else:
        before_a = np.concatenate((current_a[:1], current_a[:-1]))
        interval_a = current_a.copy() if averaged else 0.5 * (before_a + current_a)
        hold_s = steps.copy() if averaged else 0.5 * steps
        known = gap & ~np.isnan(soc_a)
        interval_a[known], hold_s[known] = soc_a[known], 0.0
    interval_a[0] = 0.0
    unknown = ~(np.abs(interval_a) < _MOST_CURRENT_A)
    if unknown.any():
        interval_a[unknown] = current_a[unknown]
        found.append(f"{int(unknown.sum())} rows whose charge cannot be told from SOC: the spot current stands in")
    sensors_c = np.column_stack([rows[sensor] for sensor in _SENSORS])
    temperature_c = _mean_of_sensors(sensors_c, rows, found)
    return Series(
        name=name,
        time_s=time_s,
        voltage_v=rows["pack_voltage_v"],
        current_a=current_a,
        interval_a=interval_a,
        hold_s=hold_s,
        soc=soc,
        temperature_c=temperature_c,
        sensors_c=sensors_c,
        ambient_c=_ambient(rows["ambient_c"], found, name),
        speed_km_h=_speed(rows, steps, found),
        rapid=_rapid(rows, steps, interval_a, gap),
        gap=gap,
        driven_by=driven_by,
        averaged=averaged,
        start_utc_s=start_utc_s,
        capacity_ah=capacity_ah,
        soh=soh,
        odometer_km=_last(rows["odometer_km"]),
        history=_history(rows),
        notes=tuple(found),
    )


def _concerns(note: str) -> bool:
    """Whether a reader's sentence says something that a fit depends on."""
    return not note.startswith(("Odo(km)", "Speed", "columns named twice", "Date/Time"))


def _require_columns(samples: Sequence[ReplaySample], name: str) -> None:
    needed = {"pack_voltage_v": "pack voltage", "pack_current_a": "pack current"}
    missing = [
        title for key, title in needed.items() if not any(getattr(sample, key) is not None for sample in samples)
    ]
    if missing:
        raise ConfigError(
            f"{name}: no {' and no '.join(missing)} in the log; a pack cannot be judged without (Leaf Spy: columns"
            " 'Pack Volts' and 'Pack Amps'; EV-CAN: frame 0x1DB)"
        )


def _usable_rows(
    samples: Sequence[ReplaySample], pack: PackParameters, notes: list[str], name: str
) -> dict[str, Floats]:
    """Arrays of the rows that have a voltage, a current and a time of their own."""
    keys = (
        "time_s",
        "utc_s",
        "soc_percent",
        "soh_percent",
        "capacity_ah",
        "pack_voltage_v",
        "pack_current_a",
        "cell_average_v",
        *_SENSORS,
        "pack_temperature_average_c",
        "ambient_c",
        "speed_kmh",
        "odometer_km",
        "motor_speed_rpm",
        "charge_mode",
        "quick_charges",
    )
    columns = {
        key: np.array([math.nan if (value := getattr(sample, key)) is None else value for sample in samples])
        for key in keys
    }
    for key in (*_SENSORS, "pack_temperature_average_c"):
        wild = ~((columns[key] >= _TEMPERATURE_C[0]) & (columns[key] <= _TEMPERATURE_C[1])) & ~np.isnan(columns[key])
        columns[key][wild] = math.nan
        if wild.any():
            notes.append(f"{int(wild.sum())} values of {key} beyond -40 to 80 degC are left out")
    volts = columns["pack_voltage_v"] / pack.groups_in_series
    complete = ~np.isnan(columns["pack_voltage_v"]) & ~np.isnan(columns["pack_current_a"])
    plausible = (volts >= _GROUP_V[0]) & (volts <= _GROUP_V[1])
    if complete.any() and not plausible[complete].any():
        raise ConfigError(
            f"{name}: {np.median(columns['pack_voltage_v'][complete]):.0f} V is no voltage of {pack.groups_in_series}"
            f" groups in series; this is the log of another car than {pack.name}"
        )
    if not complete.all():
        notes.append(f"{int((~complete).sum())} rows without a number for voltage or current are left out")
    if (complete & ~plausible).any():
        notes.append(f"{int((complete & ~plausible).sum())} rows with an impossible voltage are left out")
    kept = complete & plausible
    times = columns["time_s"]
    latest = np.maximum.accumulate(np.where(kept, times, -np.inf))
    before = np.concatenate(([-np.inf], latest[:-1]))
    late = kept & (times <= before)
    if late.any():
        notes.append(
            f"{int(late.sum())} rows with a duplicated or reversed time stamp are left out"
            f" (first: line {samples[int(np.argmax(late))].line})"
        )
    kept &= ~late
    return {key: values[kept] for key, values in columns.items()}


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values) & (values > 0)]
    return float(np.median(known)) if known.size else None


def _last(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else None


def _require_this_car(
    pack: PackParameters, capacity_ah: float | None, soh: float | None, rows: dict[str, Floats], name: str
) -> None:
    """Raise ConfigError where capacity or number of groups belong to another pack, and name one that fits."""
    ratio = _median(rows["pack_voltage_v"] / rows["cell_average_v"])
    if ratio is not None and abs(ratio - pack.groups_in_series) > 1.0:
        raise ConfigError(
            f"{name}: pack and mean group voltage tell of {ratio:.0f} groups in series, {pack.name} has"
            f" {pack.groups_in_series}; this is the log of another car"
        )
    if capacity_ah is None:
        return
    if soh is not None:
        new_ah = capacity_ah / soh
        fits = abs(new_ah / pack.capacity_ah - 1.0) <= _OTHER_CAPACITY
        tells = f"{capacity_ah:.1f} Ah at {100 * soh:.0f} % SOH, so {new_ah:.1f} Ah when new"
    else:
        new_ah = capacity_ah
        fits = 0.5 * pack.capacity_ah <= capacity_ah <= (1.0 + 0.5 * _OTHER_CAPACITY) * pack.capacity_ah
        tells = f"{capacity_ah:.1f} Ah"
    if fits:
        return
    known = [shipped_pack(other) for other in _shipped_names()]
    near = [other.name for other in known if abs(new_ah / other.capacity_ah - 1.0) <= _OTHER_CAPACITY]
    named = [kind for kind, ah in _OTHER_PACKS.items() if abs(new_ah / ah - 1.0) <= 0.5 * _OTHER_CAPACITY]
    if near:
        advice = f"fit it as {near[0]} (--pack {near[0]})"
    else:
        kind = f"it is a {named[0]} pack, and " if named else ""
        advice = f"{kind}no pack file that comes along fits ({', '.join(_shipped_names())}); give one with --pack FILE"
    raise ConfigError(f"{name}: the car reports {tells}, {pack.name} has {pack.capacity_ah:g} Ah; {advice}")


def _shipped_names() -> list[str]:
    folder = resources.files("twins.pack") / "packs"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _current_of_soc(soc: Floats, steps: Floats, capacity_ah: float) -> Floats:
    """Mean current of each interval by the step of the state of charge; NaN where that is not known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.diff(soc, prepend=soc[0]) * capacity_ah * 3600.0 / steps, dtype=np.float64)


def _charge_positive(current_a: Floats, steps: Floats, gap: Flags, soc: Floats, notes: list[str], name: str) -> Floats:
    """The current with the sign that the state of charge confirms.

    Compared over windows of at least a minute in which the charge moves; a log without state of charge, or one at rest,
    is believed. Raises ConfigError where current and state of charge have nothing to do with each other.
    """
    if np.isnan(soc).all():
        return current_a
    known = np.flatnonzero(~np.isnan(soc))
    moved_as = np.cumsum(current_a * steps)
    times, gaps = np.cumsum(steps), np.cumsum(gap)
    picked = [int(known[0])]
    for index in known[1:]:
        if times[index] - times[picked[-1]] >= 60.0:
            picked.append(int(index))
    whole = np.diff(gaps[picked]) == 0  # windows without a gap
    by_current, by_soc = np.diff(moved_as[picked])[whole], np.diff(soc[picked])[whole]
    if by_soc.size < 3 or np.abs(by_soc).max() < 0.002:
        return current_a
    correlation = float(np.sum(by_current * by_soc) / (np.linalg.norm(by_current) * np.linalg.norm(by_soc) + 1e-12))
    if correlation < -_LEAST_SIGN_CORRELATION:
        notes.append(
            f"the current was positive for discharge (it falls where SOC rises, correlation {correlation:.2f}); turned"
        )
        return np.asarray(-current_a, dtype=np.float64)
    if abs(correlation) < 0.1 and by_soc.size >= 20 and np.ptp(soc[picked]) > 0.05:
        raise ConfigError(
            f"{name}: current and SOC do not belong together (correlation {correlation:.2f}); check the columns"
        )
    return current_a


def _mean_of_sensors(sensors_c: Floats, rows: dict[str, Floats], notes: list[str]) -> Floats:
    there = sensors_c[:, ~np.isnan(sensors_c).all(axis=0)]
    if there.shape[1] == 0:
        average = rows["pack_temperature_average_c"]
        if np.isnan(average).all():
            notes.append("no pack temperature in the log: nothing thermal is judged, resistances hold at the ambient's")
        return average
    known = ~np.isnan(there)
    counts = np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, there, 0.0)
    plain = filled.sum(axis=1) / counts
    # a sensor that misses a row must not shift the mean of the others
    offsets = np.where(known, filled - plain[:, None], 0.0).sum(axis=0) / known.sum(axis=0)
    mean = np.where(known, filled - offsets, 0.0).sum(axis=1) / counts
    mean[~known.any(axis=1)] = math.nan
    return np.asarray(mean, dtype=np.float64)


def _ambient(ambient_c: Floats, notes: list[str], name: str) -> Floats:
    known = ~np.isnan(ambient_c)
    if not known.any():
        notes.append("no ambient temperature in the log: losses to the air cannot be told apart")
        return ambient_c
    if np.nanmax(ambient_c) > _AMBIENT_C[1] or np.nanmin(ambient_c) < _AMBIENT_C[0]:
        raise ConfigError(
            f"{name}: an ambient of {np.nanmin(ambient_c):.0f} to {np.nanmax(ambient_c):.0f} degC cannot be; the"
            " unit is another one (--temperature-unit F, C or auto)"
        )
    places = np.arange(ambient_c.size)
    return np.asarray(np.interp(places, places[known], ambient_c[known]), dtype=np.float64)


def _speed(rows: dict[str, Floats], steps: Floats, notes: list[str]) -> Floats:
    """Mean road speed of each interval: by odometer for long rows, else as logged; 0 where nothing is known."""
    logged, odometer = rows["speed_kmh"], rows["odometer_km"]
    if np.median(steps[1:]) <= 60.0 or np.isnan(odometer).all():
        return np.nan_to_num(logged, nan=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.diff(odometer, prepend=odometer[0])
        speed = np.nan_to_num(np.where(steps > 0, moved / steps * 3600.0, 0.0), nan=0.0)
    turns = np.nansum(np.abs(rows["motor_speed_rpm"]) / _RPM_PER_KM_H * steps / 3600.0)
    if np.nansum(moved) > 20.0 and 1.35 <= turns / np.nansum(moved) <= 2.0:
        notes.append("the odometer counts miles (the motor's turns give 1.6 km for each); speeds are converted")
        speed = speed * _KM_PER_MILE
    return np.asarray(np.clip(speed, 0.0, 200.0), dtype=np.float64)


def _rapid(rows: dict[str, Floats], steps: Floats, interval_a: Floats, gap: Flags) -> Flags:
    """Which intervals belong to a DC rapid charge: by charge mode, counter, or more power than AC gives, for long."""
    power_w = interval_a * rows["pack_voltage_v"]
    mode = rows["charge_mode"]
    charging = interval_a > 0.0
    by_mode = (mode == 3.0) | np.concatenate(([False], mode[:-1] == 3.0))
    counted = np.diff(rows["quick_charges"], prepend=rows["quick_charges"][0]) > 0
    strong = np.zeros(power_w.size, dtype=np.bool_)
    if np.isnan(mode).all() and not np.all(np.isnan(power_w)):
        times = np.cumsum(steps)
        energy = np.concatenate(([0.0], np.cumsum(power_w * steps)))
        first = np.searchsorted(times, times - _RAPID_WINDOW_S)
        last = np.minimum(np.searchsorted(times, times + _RAPID_WINDOW_S), times.size - 1)
        mean_w = (energy[last + 1] - energy[first + 1]) / np.maximum(times[last] - times[first], 1.0)
        strong = (mean_w > _MOST_AC_W) & (power_w > 0.5 * _MOST_AC_W)
    found = charging & (by_mode | counted | strong | (gap & (power_w > _MOST_AC_W)))
    return np.asarray(found, dtype=np.bool_)


def _history(rows: dict[str, Floats]) -> tuple[tuple[float, float], ...]:
    utc_s, soh = rows["utc_s"], rows["soh_percent"] / 100.0
    known = ~np.isnan(utc_s) & ~np.isnan(soh) & (soh > 0)
    return tuple((float(when), float(value)) for when, value in zip(utc_s[known], soh[known], strict=True))
