"""`v2gbench fit LOG…`: what recordings of a car say of its pack, with uncertainty, as a table and a pack file.

All logs are of one car and fitted at once. The table has for each parameter what was believed, what the logs say, and
whether they say it: a parameter that is not identified keeps its value in the pack file that `--out` writes, which a
station or a scenario names as its pack. Beside it stand the errors over each log, next to baselines that know less, and
everything that was put right in the logs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.commands.folders import new_folder, write_document
from bench.commands.matching import read_with_pack
from drivers.errors import ConfigError
from ledgers.canonical import Json
from ledgers.errors import RecordError
from ledgers.evidence import write_atomically
from reports.pack.fit import write_fit_report
from twins.pack.identification import (
    AgingFit,
    ChargeCurve,
    Fit,
    FittedParameter,
    Judgement,
    Series,
    charge_curves,
    fit_aging,
    fit_series,
    history_of,
    judge,
)
from twins.pack.identification.priors import NUISANCE, centres
from twins.pack.parameters import PackParameters, dump_pack, load_pack
from twins.replay.twin import read_for_twin

FIT_SCHEMA: Final = "v2gbench.fit/1.0"
FIT_NAME: Final = "fit.json"
_COLUMNS: Final = (44, 8, 22, 14, 10)
_DIGITS: Final = 3
_HOW_TO_READ: Final = (
    "what is not identified stays in the file as it was; its posterior is what the logs say with everything free;\n"
    "what is identified was found once more beside what is kept: so it stands here and in the file, and its ± counts\n"
    "that what is kept may be wrong"
)


@dataclass(frozen=True, slots=True)
class FitPlot:
    """What a picture of one log needs: measured and modelled, with NaN where the log has nothing; times in s."""

    name: str
    time_s: list[float]
    voltage_v: list[float]
    modelled_voltage_v: list[float]
    temperature_c: list[float]
    modelled_temperature_c: list[float]
    soc: list[float]
    gaps: list[tuple[float, float]]
    rapid_charges: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of logs: the fit, its errors over each log, and the pack file."""

    fit: Fit
    judgements: tuple[Judgement, ...]
    curves: tuple[ChargeCurve, ...]
    aging: AgingFit | None
    pack: PackParameters
    out: Path | None
    notes: tuple[str, ...]
    folder: Path

    def plots(self) -> tuple[FitPlot, ...]:
        """The series behind pictures, one per log."""
        return tuple(
            _plot(log.series, judgement) for log, judgement in zip(self.fit.logs, self.judgements, strict=True)
        )

    @property
    def report(self) -> Path:
        """The document, drawn."""
        return self.folder / "report.html"

    def document(self, *, series: bool = False) -> dict[str, Json]:
        """The result for programs, ready for JSON; `series` adds what a report draws."""
        made: dict[str, Json] = {
            "schema": FIT_SCHEMA,
            "pack": self.fit.base.name,
            "out": None if self.out is None else str(self.out),
            "rows": self.fit.rows,
            "effective_rows": round(self.fit.effective_rows, 1),
            "reported_soh_percent": None if self.fit.soh is None else round(100.0 * self.fit.soh, 2),
            "parameters": {each.name: _parameter(each) for each in self.fit.parameters},
            "not_identified": [each.name for each in self.fit.parameters if not each.identified],
            "logs": [_judgement(each) for each in self.judgements],
            "charge_curves": [_curve(each) for each in self.curves],
            "aging": None if self.aging is None else _aging(self.aging),
            "notes": list(self.notes),
            "run": str(self.folder),
            "report": str(self.report),
        }
        if series:
            made["series"] = [_series(plot) for plot in self.plots()]
            made["resistance"] = _resistance(self.fit.base, self.pack)
        return made

    def text(self) -> str:
        """The result for people."""
        fit = self.fit
        names = ", ".join(log.series.name for log in fit.logs)
        lines = [
            f"{names}: {fit.rows} rows, worth {fit.effective_rows:.0f} independent ones, fitted as {fit.base.name}",
            "",
        ]
        lines.append(_row("parameter", "prior", "posterior", "in the file", "identified"))
        for each in fit.parameters:
            posterior = f"{_short(each.mean)} ± {_short(each.sd)}" if not each.note else each.note
            unit = "" if each.unit == "1" else f" [{each.unit}]"
            lines.append(
                _row(each.title + unit, _short(each.prior), posterior, in_the_file(each, self.pack), _verdict(each))
            )
        if self.aging is not None:
            aging = self.pack.aging
            for name, scale, written in (
                ("calendar", self.aging.calendar, aging.calendar_scale),
                ("cycle", self.aging.cycle, aging.cycle_scale),
            ):
                lines.append(
                    _row(
                        f"{name} scale of law {self.aging.law}",
                        "1",
                        f"{_short(scale.mean)} ± {_short(scale.sd)}",
                        _short(written),
                        "yes" if scale.identified else "NO, kept",
                    )
                )
        lines += ["", _HOW_TO_READ, ""]
        for judgement in self.judgements:
            lines += _judgement_lines(judgement)
        for curve in self.curves:
            known = "" if curve.identified else ", not identified"
            lines.append(
                f"shape of the charge at {curve.current_a:.0f} A in {curve.name}: {curve.capacity_ah:.1f} ±"
                f" {curve.capacity_sd_ah:.1f} Ah, SOH {100 * curve.soh:.1f} ± {100 * curve.soh_sd:.1f} %{known}"
            )
        lines += [f"note: {note}" for note in self.notes]
        if self.out is not None:
            lines.append(f"pack file: {self.out}")
        lines.append(f"report: {self.report}")
        return "\n".join(lines)


def fit_logs(
    logs: Sequence[Path],
    *,
    pack: str | None = None,
    out: Path | None = None,
    temperature_unit: str = "auto",
    law: str | None = None,
    in_service: str | None = None,
    runs: Path | None = None,
) -> FitResult:
    """Fit a pack to logs of one car; write `fit.json` and a report, and the pack file where `out` says.

    `pack` is a shipped one by name, or a pack file; left out, the shipped one that the first log fits. `in_service` is
    the day of first use (YYYY-MM-DD): with it, the scales of the aging `law` (the pack's own by default) are fitted to
    the SOH in the logs. Raises ConfigError (LogError among them) in one sentence for a log that is missing, unreadable,
    too poor or of another car, an unknown pack or law, and a file that cannot be written.
    """
    if not logs:
        raise ConfigError("no log to fit; name at least one")
    _require_different(logs)
    with new_folder(runs, f"fit-{logs[0].stem}") as folder:
        chosen, first, notes = read_with_pack(logs[0], pack, temperature_unit=temperature_unit, done="fitted as")
        series = [first, *(read_for_twin(path, chosen, temperature_unit=temperature_unit) for path in logs[1:])]
        fit = fit_series(series, chosen)
        judgements = tuple(judge(fit, each, own=place) for place, each in enumerate(series))
        curves = charge_curves(series, chosen)
        fitted, aging = fit.pack, None
        if in_service is not None:
            aging = fit_aging([history_of(series, chosen, _utc_s(in_service))], law or chosen.aging.law)
            fitted = aging.written(fitted)
            notes += [*aging.notes, "aging: temperature, SOC and use of the logs are taken for all of the car's life"]
        elif any(each.history for each in series):
            notes.append("aging scales are not fitted: say the day of first use with --in-service YYYY-MM-DD")
        capacity = fit.parameter("capacity_ah")
        if capacity.identified:
            notes.append(
                f"the pack file keeps the new capacity, {chosen.capacity_ah:g} Ah; today's is"
                f" {100 * capacity.mean / chosen.capacity_ah:.1f} % of it: give that as soh_percent to a twin"
            )
        names = ", ".join(path.name for path in logs)
        fitted = fitted.model_copy(
            update={
                "name": _pack_name(out.stem if out is not None else f"{chosen.name}_fitted"),
                "source": f"v2gbench fit of {names}, from {chosen.name}; resistance and heat of that car at that age",
            }
        )
        if out is not None:
            _write(fitted, out)
        result = FitResult(fit, judgements, curves, aging, fitted, out, (*notes, *fit.notes), folder)
        write_document(folder, FIT_NAME, result.document(series=True), write_fit_report)
        return result


def _require_different(logs: Sequence[Path]) -> None:
    """Raise ConfigError where two files have the same content: the same rows would count twice."""
    seen: dict[bytes, Path] = {}
    for path in logs:
        if not path.is_file():
            continue  # the reader says so
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        if content in seen:
            raise ConfigError(f"{path} is the same recording as {seen[content]}; name it once, or it counts twice")
        seen[content] = path


def _utc_s(day: str) -> float:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ConfigError(f"day of first use {day!r} is no YYYY-MM-DD") from None


def _pack_name(stem: str) -> str:
    name = re.sub(r"[^a-z0-9_.-]", "_", stem.lower())[:64]
    return name if re.match(r"[a-z0-9]", name) else f"pack{name}"[:64]


def _write(pack: PackParameters, out: Path) -> None:
    try:
        write_atomically(out, dump_pack(pack).encode())
    except RecordError as error:
        raise ConfigError(str(error)) from error
    if load_pack(out) != pack:
        raise ConfigError(f"{out} does not read back as it was written; this is a defect, please report it")


def _plot(series: Series, judgement: Judgement) -> FitPlot:
    def spans(flags: Sequence[bool]) -> list[tuple[float, float]]:
        return [
            (float(series.time_s[place - 1]), float(series.time_s[place]))
            for place in range(1, series.rows)
            if flags[place]
        ]

    return FitPlot(
        name=series.name,
        time_s=series.time_s.tolist(),
        voltage_v=series.voltage_v.tolist(),
        modelled_voltage_v=judgement.voltage_v.tolist(),
        temperature_c=series.temperature_c.tolist(),
        modelled_temperature_c=judgement.temperature_c.tolist(),
        soc=series.soc.tolist(),
        gaps=spans(series.gap.tolist()),
        rapid_charges=spans(series.rapid.tolist()),
    )


def _parameter(each: FittedParameter) -> dict[str, Json]:
    return {
        "title": each.title,
        "unit": each.unit,
        "prior": each.prior,
        "prior_sd": each.prior_sd,
        "prior_kind": each.prior_kind,
        "mean": each.mean,
        "sd": each.sd,
        "free_mean": each.free_mean if math.isfinite(each.free_mean) else each.mean,
        "free_sd": each.free_sd if math.isfinite(each.free_sd) else each.sd,
        "identified": each.identified,
        "written": each.value,
        "note": each.note or None,
    }


def in_the_file(each: FittedParameter, pack: PackParameters) -> str:
    """The parameter as a pack file has it, read from the pack: at 50 % and 25 degC where it is a list there."""
    if each.name == "capacity_ah":
        return f"{_short(pack.capacity_ah)} (new)"
    if each.name == "resistance.tilt":
        return f"{_short(each.value)} (lists)" if each.identified else "0 (lists)"
    if each.name == NUISANCE:
        return f"{_short(pack.estimates[NUISANCE].mean)} (est.)" if NUISANCE in pack.estimates else "none"
    if each.name.startswith("sensor_offsets_c."):
        return _short(pack.sensor_offsets_c[int(each.name.rpartition(".")[2]) - 1])
    return _short(centres(pack, pack.capacity_ah)[each.name])


def _verdict(each: FittedParameter) -> str:
    if each.identified:
        return "yes"
    return "NO, of the log" if each.name == NUISANCE and not each.note else "NO, kept"


def _judgement(each: Judgement) -> dict[str, Json]:
    return {
        "log": each.name,
        "rows": each.rows,
        "voltage_rmse_v": each.voltage_rmse_v,
        "voltage_rmse_percent": each.voltage_rmse_percent,
        "voltage_bias_v": each.voltage_bias_v,
        "voltage_worst_minute_v": each.voltage_worst_minute_v,
        "ocv_only_rmse_v": each.ocv_only_rmse_v,
        "temperature_rmse_k": each.temperature_rmse_k,
        "temperature_open_loop_k": each.temperature_open_loop_k,
        "hour_ahead_rmse_k": each.hour_ahead_rmse_k,
        "hour_persistence_rmse_k": each.hour_persistence_rmse_k,
        "gaps": [
            {
                "begin_s": gap.begin_s,
                "length_s": gap.length_s,
                "mean_current_a": gap.mean_current_a,
                "measured_k": gap.measured_k,
                "predicted_k": gap.predicted_k,
            }
            for gap in each.gaps
        ],
    }


def _judgement_lines(each: Judgement) -> list[str]:
    lines = [
        (
            f"{each.name}: voltage {each.voltage_rmse_v:.2f} V rms ({each.voltage_rmse_percent:.2f} %), bias"
            f" {each.voltage_bias_v:+.2f} V, worst minute {each.voltage_worst_minute_v:.2f} V; a curve without"
            f" resistance {each.ocv_only_rmse_v:.2f} V"
        )
    ]
    if each.temperature_rmse_k is not None:
        text = f"  temperature {each.temperature_rmse_k:.2f} K rms begun anew behind gaps"
        if each.temperature_open_loop_k is not None:
            text += f", {each.temperature_open_loop_k:.2f} K open loop"
        if each.hour_ahead_rmse_k is not None and each.hour_persistence_rmse_k is not None:
            text += f"; an hour ahead {each.hour_ahead_rmse_k:.2f} K, persistence {each.hour_persistence_rmse_k:.2f} K"
        lines.append(text)
    lines += [
        f"  gap of {gap.length_s:.0f} s at {gap.mean_current_a:+.0f} A: {gap.measured_k:+.1f} K measured,"
        f" {gap.predicted_k:+.1f} K modelled"
        for gap in each.gaps
    ]
    return lines


def _curve(each: ChargeCurve) -> dict[str, Json]:
    return {
        "log": each.name,
        "begin_s": each.begin_s,
        "end_s": each.end_s,
        "current_a": each.current_a,
        "capacity_ah": each.capacity_ah,
        "capacity_sd_ah": each.capacity_sd_ah,
        "soh_percent": 100.0 * each.soh,
        "soh_sd_percent": 100.0 * each.soh_sd,
        "identified": each.identified,
        "bends_percent": [[100.0 * measured, 100.0 * curve] for measured, curve in each.bends],
    }


def _aging(each: AgingFit) -> dict[str, Json]:
    scales: dict[str, Json] = {}
    for name, estimate, written in (
        ("calendar", each.calendar, each.calendar_scale),
        ("cycle", each.cycle, each.cycle_scale),
    ):
        scales[name] = {
            "mean": estimate.mean,
            "sd": estimate.sd,
            "identified": estimate.identified,
            "written": written,
        }
    return {"law": each.law, "scales": scales, "residual_sd": each.residual_sd}


def _row(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _COLUMNS, strict=True)).rstrip()


def _short(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    digits = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.0f}".replace(",", " ") if digits <= 0 else f"{rounded:.{min(digits, 6)}f}"


def _series(plot: FitPlot) -> dict[str, Json]:
    """One log for a picture; null where it has nothing."""
    columns = ("time_s", "voltage_v", "modelled_voltage_v", "temperature_c", "modelled_temperature_c", "soc")
    made: dict[str, Json] = {
        name: [None if math.isnan(value) else value for value in getattr(plot, name)] for name in columns
    }
    made["name"] = plot.name
    made["gaps"] = [list(gap) for gap in plot.gaps]
    made["rapid_charges"] = [list(charge) for charge in plot.rapid_charges]
    return made


def _resistance(before: PackParameters, fitted: PackParameters) -> dict[str, Json]:
    """Sum of the three resistances of the whole pack over charge and temperature, before and after."""

    def ohms(pack: PackParameters, celsius: float) -> list[Json]:
        table = pack.resistance
        warmth = math.exp(table.activation_j_per_mol / 8.314462618 * (1.0 / (celsius + 273.15) - 1.0 / 298.15))
        summed = zip(table.series_ohm, table.fast_ohm, table.slow_ohm, strict=True)
        return [warmth * sum(each) for each in summed]

    temperatures_c = (0.0, 10.0, 25.0, 40.0)
    return {
        "soc_percent": list(fitted.resistance.soc_percent),
        "temperature_c": list(temperatures_c),
        "ohm": [ohms(fitted, celsius) for celsius in temperatures_c],
        "prior_ohm": [ohms(before, celsius) for celsius in temperatures_c],
    }
