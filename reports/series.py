"""From recorded sources to the panels of a report, whatever the devices are called in the station file.

Sources are named `<device>.<quantity>`. Which device is the charger, the vehicle and the analyzer follows from the
quantities that it gave, so that a run without a usage record (aborted, or read years later) still shows its plots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from ledgers.canonical import Json
from reports.plots import Floats, LimitLine, Panel, Trace
from reports.run import Run, Series


class OrderWindow(NamedTuple):
    """A grid order on the session clock; the power is signed, positive charges the vehicle."""

    begin_s: float
    end_s: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who among the recorded devices; None where a run has no such device."""

    charger: str | None
    vehicle: str | None
    analyzer: str | None


def find_cast(run: Run) -> Cast:
    """The devices of a run by what they measured; the first by name where two measured the same."""
    devices: dict[str, set[str]] = {}
    for source in run.sources():
        device, _, quantity = source.name.rpartition(".")
        devices.setdefault(device, set()).add(quantity)

    def first(marks: frozenset[str]) -> str | None:
        return next((name for name, quantities in sorted(devices.items()) if quantities & marks), None)

    return Cast(first(_CHARGER_MARKS), first(_VEHICLE_MARKS), first(_ANALYZER_MARKS))


def build_panels(run: Run, orders: Sequence[OrderWindow]) -> tuple[Panel, ...]:
    """The plots that this run has data for, in reading order."""
    who = find_cast(run)
    limits = run.manifest.get("limits")
    given = limits if isinstance(limits, Mapping) else {}
    panels = (
        _power_panel(run, who, orders, given),
        _difference_panel(run, who),
        _soc_panel(run, who, given),
        _voltage_panel(run, who, given),
        _temperature_panel(run, who, given),
    )
    return tuple(panel for panel in panels if panel.traces)


def ramp_s(run: Run, order: OrderWindow, share: float = 0.9) -> float | None:
    """Seconds from the order's begin until the measured AC power reached `share` of the ordered; None if it never did.

    Seen by the analyzer, or by the charger where there is none; as fine as the readings are.
    """
    who = find_cast(run)
    series = _get(run, who.analyzer, "ac_power") or _get(run, who.charger, "ac_power")
    if series is None or order.power_w == 0:
        return None
    inside = (series.mono_s >= order.begin_s) & (series.mono_s <= order.end_s)
    reached = inside & (series.value / order.power_w >= share)
    return float(series.mono_s[reached][0] - order.begin_s) if reached.any() else None


_CHARGER_MARKS: Final = frozenset({"import_energy", "grid_frequency", "cabinet_temperature"})
_OPEN_CONTACTOR_V: Final = 60.0  # below the 60 V DC of touch voltage (IEC 61851-23) nothing is connected
_VEHICLE_MARKS: Final = frozenset({"pack_voltage", "pack_current", "soh", "dash_soc"})
_ANALYZER_MARKS: Final = frozenset({"ac_import_energy", "dc_import_energy", "ac_frequency"})
_PACK_SENSOR: Final = re.compile(r"pack_t(?:emperatures?)?_?([1-9])(?:_c)?")


def _get(run: Run, device: str | None, quantity: str) -> Series | None:
    name = f"{device}.{quantity}"
    if device is None or not any(source.name == name for source in run.sources()):
        return None
    series = run.series(name)
    return series if np.isfinite(series.value).any() else None


def _trace(series: Series | None, label: str, colour: int, *, scale: float = 1.0, dashed: bool = False) -> list[Trace]:
    if series is None:
        return []
    return [Trace(label, series.mono_s / 60, series.value * scale, colour=colour, dashed=dashed)]


def _power_panel(run: Run, who: Cast, orders: Sequence[OrderWindow], limits: Mapping[str, Json]) -> Panel:
    cycles = run.cycles()
    end_s = float(cycles[-1, 1]) if len(cycles) else 0.0
    traces: list[Trace] = []
    if orders:
        traces.append(_steps("ordered", [(o.begin_s, o.end_s, o.power_w) for o in orders], 5, dashed=True))
    points = [p for p in run.set_points() if np.isfinite(p.accepted_w)]
    if points:
        at = np.array([*(p.mono_s for p in points), end_s])
        power = np.array([*(p.accepted_w for p in points), points[-1].accepted_w])
        traces.append(Trace("set-point in force", at / 60, power / 1000, "step", colour=4))
    traces += _trace(_get(run, who.charger, "ac_power"), f"{who.charger} (AC)", 0, scale=1e-3)
    traces += _trace(_get(run, who.analyzer, "ac_power"), f"{who.analyzer} (AC)", 1, scale=1e-3)
    traces += _trace(_get(run, who.analyzer, "dc_power"), f"{who.analyzer} (DC)", 3, scale=1e-3)
    traces += _trace(_vehicle_power(run, who), f"{who.vehicle} (DC, voltage times current)", 2, scale=1e-3)
    for device in _other_dc_sources(run, who):
        traces += _trace(_get(run, device, "dc_power"), f"{device} (DC)", 3, scale=1e-3)
    lines, _ = _limit_lines(limits, "power_w", scale=1e-3)
    title = "Power ordered, set and measured (positive charges the vehicle)"
    return Panel("power", title, "power in kW", tuple(traces), lines)


def _difference_panel(run: Run, who: Cast) -> Panel:
    traces: list[Trace] = []
    pairs = (
        (_get(run, who.charger, "ac_power"), _get(run, who.analyzer, "ac_power"), who.charger, "AC", 0),
        (_vehicle_power(run, who), _get(run, who.analyzer, "dc_power"), who.vehicle, "DC", 2),
    )
    for witness, reference, name, plane, colour in pairs:
        if witness is None or reference is None:
            continue
        known = np.isfinite(reference.value)
        expected = np.interp(witness.mono_s, reference.mono_s[known], reference.value[known])
        # across a gap of the reference there is nothing to compare with
        expected[np.interp(witness.mono_s, reference.mono_s, (~known).astype(np.float64)) > 0] = np.nan
        label = f"{name} minus {who.analyzer} ({plane})"
        traces.append(Trace(label, witness.mono_s / 60, witness.value - expected, colour=colour, width_px=1.2))
    return Panel("difference", "Difference between the witnesses", "difference in W", tuple(traces))


def _soc_panel(run: Run, who: Cast, limits: Mapping[str, Json]) -> Panel:
    traces = _trace(_get(run, who.vehicle, "soc"), f"{who.vehicle}", 2)
    traces += _trace(_get(run, who.vehicle, "dash_soc"), f"{who.vehicle}, as shown to the driver", 4, dashed=True)
    traces += _trace(_get(run, who.charger, "soc"), f"{who.charger}, as told by the vehicle", 0, dashed=True)
    lines, bands = _limit_lines(limits, "soc_percent")
    return Panel("soc", "State of charge", "SOC in %", tuple(traces), lines, bands)


def _voltage_panel(run: Run, who: Cast, limits: Mapping[str, Json]) -> Panel:
    traces = _trace(_get(run, who.vehicle, "pack_voltage"), f"{who.vehicle}", 2)
    traces += _trace(
        _connected(_get(run, who.analyzer, "dc_voltage")), f"{who.analyzer} (DC, connected)", 1, dashed=True
    )
    for device in _other_dc_sources(run, who):
        traces += _trace(_connected(_get(run, device, "dc_voltage")), f"{device} (DC, connected)", 3, dashed=True)
    lines, bands = _limit_lines(limits, "pack_voltage_v")
    return Panel("voltage", "Pack voltage", "voltage in V", tuple(traces), lines, bands)


def _connected(series: Series | None) -> Series | None:
    """Without the volts of an open contactor, which would press a pack's 340 to 400 V into one line."""
    if series is None:
        return None
    return replace(series, value=np.where(series.value > _OPEN_CONTACTOR_V, series.value, np.nan))


def _temperature_panel(run: Run, who: Cast, limits: Mapping[str, Json]) -> Panel:
    traces: list[Trace] = []
    for source in run.sources():
        device, _, quantity = source.name.rpartition(".")
        if device == who.vehicle and (sensor := _PACK_SENSOR.fullmatch(quantity)):
            traces += _trace(_get(run, device, quantity), f"sensor T{sensor[1]}", int(sensor[1]) - 1)
    traces += _trace(_get(run, who.vehicle, "ambient_temperature"), "ambient", 5, dashed=True)
    lines, bands = _limit_lines(limits, "pack_temperature_c")
    return Panel("temperature", "Pack temperature", "temperature in °C", tuple(traces), lines, bands)


def _other_dc_sources(run: Run, who: Cast) -> tuple[str, ...]:
    """Who else measured DC power: the charger in a recording, which is none of the station's."""
    found = (source.name.rpartition(".") for source in run.sources())
    known = {who.charger, who.vehicle, who.analyzer}
    return tuple(device for device, _, quantity in found if quantity == "dc_power" and device not in known)


def _vehicle_power(run: Run, who: Cast) -> Series | None:
    voltage, current = _get(run, who.vehicle, "pack_voltage"), _get(run, who.vehicle, "pack_current")
    if voltage is None or current is None:
        return None
    _, at_voltage, at_current = np.intersect1d(voltage.mono_s, current.mono_s, return_indices=True)
    power = voltage.value[at_voltage] * current.value[at_current]
    quality = tuple(voltage.quality[i] for i in at_voltage)
    return Series(f"{who.vehicle}.dc_power", "W", voltage.mono_s[at_voltage], voltage.utc_s[at_voltage], power, quality)


def _steps(label: str, windows: Sequence[tuple[float, float, float]], colour: int, *, dashed: bool) -> Trace:
    edges: list[tuple[float, float]] = []
    for begin_s, end_s, power_w in sorted(windows):
        if edges and edges[-1][0] == begin_s:
            edges.pop()  # one order follows the other without a gap
        edges += [(begin_s, power_w), (end_s, np.nan)]  # between two orders nothing is ordered
    table: Floats = np.array(edges)
    return Trace(label, table[:, 0] / 60, table[:, 1] / 1000, "step", colour=colour, dashed=dashed, width_px=2.4)


def _limit_lines(
    limits: Mapping[str, Json], key: str, *, scale: float = 1.0
) -> tuple[tuple[LimitLine, ...], tuple[tuple[float, float], ...]]:
    limit = limits.get(key)
    if not isinstance(limit, Mapping):
        return (), ()

    def at(name: str) -> float | None:
        number = limit.get(name)
        return number * scale if isinstance(number, int | float) and not isinstance(number, bool) else None

    low, warn_below, warn, high = (at(name) for name in ("min", "warn_below", "warn", "max"))
    named = ((low, "lower limit", False), (warn_below, "warning below", True), (warn, "warning above", True))
    lines = [LimitLine(value, label, warning) for value, label, warning in named if value is not None]
    if high is not None:
        lines.append(LimitLine(high, "upper limit"))
    bands = [(a, b) for a, b in ((low, warn_below), (warn, high)) if a is not None and b is not None]
    return tuple(lines), tuple(bands)
