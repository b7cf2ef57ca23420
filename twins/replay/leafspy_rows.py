"""Rows out of Leaf Spy's CSV: columns by name, cells as numbers, in the units the file has.

Columns are looked up by their title, because every version of the app added some (152 in 2016, 160 and more later) and
named one twice. Columns with the vehicle's identification number and position are never looked up, so they exist
nowhere behind this module. A header in the middle of a file (the app was started again) changes the columns from there.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from twins.replay.dialects import LogError, leafspy_delimiter, open_text
from twins.replay.frames import LineProblem, Progress
from twins.replay.samples import FIELD_QUANTITIES

_KEPT_PROBLEMS = 20
_PROGRESS_ROWS = 256
_VOID_WORDS = {"", "none", "na", "n/a", "nan", "--"}
_MILE_TITLES = {"odo(mi)", "odo(miles)"}


class Column(NamedTuple):
    """A field of a sample, the column it comes from, and what to divide its cells by."""

    field: str
    title: str
    divisor: float = 1.0
    aliases: tuple[str, ...] = ()  # as `title`, of other versions of the app


COLUMNS: Final = (
    Column("soc_percent", "SOC", 10_000.0),
    Column("capacity_ah", "AHr", 10_000.0),
    Column("soh_percent", "SOH"),
    Column("hx_percent", "Hx"),
    Column("gids", "Gids"),
    Column("pack_voltage_v", "Pack Volts"),
    Column("pack_current_a", "Pack Amps", -1.0),
    Column("cell_average_v", "Avg CP mV", 1000.0),
    Column("cell_min_v", "Min CP mV", 1000.0),
    Column("cell_max_v", "Max CP mV", 1000.0),
    Column("pack_temperature_1_c", "Pack T1 C"),
    Column("pack_temperature_2_c", "Pack T2 C"),
    Column("pack_temperature_3_c", "Pack T3 C"),
    Column("pack_temperature_4_c", "Pack T4 C"),
    Column("odometer_km", "Odo(km)", aliases=("Odo(mi)", "Odo(miles)")),
    Column("speed_kmh", "Speed"),
    Column("ambient_c", "Ambient"),
    Column("gear", "Gear"),
    Column("plug_state", "Plug State"),
    Column("charge_mode", "Charge Mode"),
    Column("quick_charges", "QC"),
    Column("l1_l2_charges", "L1/L2"),
    Column("motor_temperature_c", "Motor Temp"),
    Column("inverter_2_temperature_c", "Inverter 2 Temp"),
    Column("inverter_4_temperature_c", "Inverter 4 Temp"),
    Column("onboard_charger_w", "OBC Out Pwr"),
    Column("motor_speed_rpm", "RPM"),
)
TITLES: Final = {FIELD_QUANTITIES[column.field]: column.title for column in COLUMNS}
"""Quantity to the title of its column."""


class Row(NamedTuple):
    """One row: line, stamps as written, and the columns that samples are made of, in the file's own units."""

    line: int
    epoch_s: float | None
    date_text: str
    values: dict[str, float | None]


@dataclass(slots=True)
class RowStatistics:
    """What the reader met in one pass."""

    lines: int = 0
    rows: int = 0
    malformed: int = 0
    problems: list[LineProblem] = field(default_factory=list)
    truncated_line: int | None = None
    headers: int = 0
    columns: int = 0
    duplicates: tuple[str, ...] = ()
    there: set[str] = field(default_factory=set)
    odometer_in_miles: bool = False
    not_numbers: dict[str, int] = field(default_factory=dict)


class _Layout:
    """Positions of the columns under one header."""

    __slots__ = ("date", "epoch", "fields", "width")

    def __init__(self, header: list[str], met: RowStatistics) -> None:
        names = [_plain(name) for name in header]
        while names and not names[-1]:
            names.pop()
        self.width = len(names)
        self.date = names.index("date/time")
        self.epoch = names.index("epochtime") if "epochtime" in names else None
        self.fields: list[tuple[str, int]] = []
        for column in COLUMNS:
            for title in (column.title, *column.aliases):
                name = _plain(title)
                if name in names:
                    self.fields.append((column.field, names.index(name)))
                    met.there.add(column.field)
                    met.odometer_in_miles = met.odometer_in_miles or name in _MILE_TITLES
                    break
        met.headers += 1
        met.columns = max(met.columns, self.width)
        twice = sorted({header[index].strip() for index, name in enumerate(names) if names.index(name) != index})
        met.duplicates = tuple(twice)


def read_rows(path: Path, met: RowStatistics, progress: Progress | None) -> Iterator[Row]:
    """Rows of a file; a header in the middle (the app was started again) changes the columns from there on."""
    size = path.stat().st_size if path.exists() else 0
    with open_text(path) as (stream, tell):
        yield from _parse(
            stream_path=path, lines=iter(stream), met=met, report=lambda: progress(tell(), size) if progress else None
        )
    if progress is not None:
        progress(size, size)


def _parse(*, stream_path: Path, lines: Iterator[str], met: RowStatistics, report: Callable[[], None]) -> Iterator[Row]:
    layout: _Layout | None = None
    delimiter = ","
    pending: LineProblem | None = None
    for number, line in enumerate(lines, start=1):
        met.lines = number
        if number % _PROGRESS_ROWS == 0:
            report()
        if pending is not None:
            _count(met, pending)
            pending = None
        if not line.strip():
            continue
        found = leafspy_delimiter(line)
        if found is not None:
            delimiter = found
            layout = _Layout(_cells(line, delimiter), met)
            continue
        if layout is None:
            raise LogError(
                stream_path, number, f"no Leaf Spy header before the first row; the line reads {line[:60]!r}"
            )
        cells = _cells(line, delimiter)
        if len(cells) < layout.width:
            pending = LineProblem(number, f"{len(cells)} cells where the header has {layout.width}")
            continue
        row = _row(cells, number, layout, met)
        if layout.epoch is not None and row.epoch_s is None:
            pending = LineProblem(number, f"`epoch time` is {cells[layout.epoch].strip()!r}, no number")
            continue
        met.rows += 1
        yield row
    if layout is None:
        raise LogError(stream_path, None, "no Leaf Spy header (Date/Time, Gids, SOC, ...); leave the dialect out")
    if pending is not None:
        met.truncated_line = pending.line


def _plain(title: str) -> str:
    return "".join(title.split()).lower()


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter))


def _count(met: RowStatistics, problem: LineProblem) -> None:
    met.malformed += 1
    if len(met.problems) < _KEPT_PROBLEMS:
        met.problems.append(problem)


def _row(cells: list[str], number: int, layout: _Layout, met: RowStatistics) -> Row:
    values: dict[str, float | None] = {}
    for name, index in layout.fields:
        text = cells[index].strip()
        value = _number(text)
        if value is None and text.lower() not in _VOID_WORDS:
            met.not_numbers[name] = met.not_numbers.get(name, 0) + 1
        values[name] = value
    epoch = _number(cells[layout.epoch].strip()) if layout.epoch is not None else None
    if epoch is not None and epoch > 1e11:  # some versions write milliseconds
        epoch /= 1000.0
    return Row(number, epoch, cells[layout.date].strip(), values)


def _number(text: str) -> float | None:
    """A finite number, with a decimal point or a decimal comma; None for anything else."""
    if "," in text and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
