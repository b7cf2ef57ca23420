"""Leaf Spy files of the twin's own drives: what a car with a known pack would have logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twins.pack.pack import PackTwin
from twins.pack.parameters import PackParameters
from twins.pack.uses import Use

START_UTC_S = 1_704_067_200  # 2024-01-01T00:00:00Z

Row = dict[str, str]


@dataclass(frozen=True)
class Leg:
    """What the van does for a while: power at the pack (+ charges), road speed, and whether the phone logs it."""

    seconds: int
    power_w: Callable[[int], float]
    speed_km_h: float = 0.0
    use: Use = Use.DRIVING
    logged: bool = True


def drive(seconds: int, *, kw: float = -18.0, swing_kw: float = 20.0) -> Leg:
    """A minute of more, a minute of less: mean `kw`, up and down by `swing_kw`, at 80 km/h."""

    def power_w(second: int) -> float:
        return 1000.0 * (kw + (swing_kw if second // 60 % 2 else -swing_kw))

    return Leg(seconds, power_w, 80.0)


def rapid_charge(seconds: int, *, kw: float = 40.0, logged: bool = False) -> Leg:
    """A rapid charge at a steady power; by default the phone was off."""
    return Leg(seconds, lambda _: 1000.0 * kw, 0.0, Use.RAPID, logged)


def rows_of_twin(
    pack: PackParameters,
    legs: Sequence[Leg],
    *,
    every_s: int,
    soc: float = 0.9,
    soh: float = 1.0,
    ambient_c: float = 20.0,
    temperature_c: float = 20.0,
) -> list[Row]:
    """Rows of a Leaf Spy file, by column; a leg that is not logged has none, and none stands at its end."""
    twin = PackTwin(soc=soc, soh=soh, parameters=pack, ambient_c=ambient_c, temperature_c=temperature_c)
    return list(_rows(twin, legs, every_s, ambient_c))


def _rows(twin: PackTwin, legs: Sequence[Leg], every_s: int, ambient_c: float) -> Iterator[Row]:
    now, odometer_km, quick = 0, 30_000.0, 5
    for leg in legs:
        twin.use, twin.speed_km_h = leg.use, leg.speed_km_h
        quick += leg.use is Use.RAPID
        for second in range(leg.seconds):
            twin.step(leg.power_w(second), 1.0)
            now += 1
            odometer_km += leg.speed_km_h / 3600.0
            if not leg.logged or now % every_s:
                continue
            yield {
                "Date/Time": f"01/{1 + now // 86_400:02d}/2024 {now // 3600 % 24}:{now // 60 % 60:02d}:{now % 60:02d}",
                "epoch time": f"{START_UTC_S + now}",
                "Gids": f"{500 * twin.soc:.0f}",
                "SOC": f"{1e6 * twin.soc:.0f}",
                "AHr": f"{1e4 * twin.capacity_ah:.0f}",
                "SOH": f"{100 * twin.soh:.2f}",
                "Pack Volts": f"{twin.voltage_v:.3f}",
                "Pack Amps": f"{-twin.current_a:.4f}",  # Leaf Spy counts discharge
                "Pack T1 C": f"{twin.plates_c:.3f}",
                "Pack T2 C": f"{twin.plates_c:.3f}",
                "Pack T4 C": f"{twin.plates_c:.3f}",
                "Ambient": f"{ambient_c:.1f}",
                "Speed": f"{leg.speed_km_h:.1f}",
                "Odo(km)": f"{odometer_km:.2f}",
                "QC": f"{quick}",
                "Charge Mode": "3" if leg.use is Use.RAPID else "0",
            }


def write_leafspy(path: Path, rows: Sequence[Row], *, without: Sequence[str] = ()) -> Path:
    """Write rows as a CSV, some columns left out."""
    columns = [name for name in rows[0] if name not in without]
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def changed(rows: Sequence[Row], column: str, change: Callable[[float], float]) -> list[Row]:
    """The rows with another number in one column."""
    return [{**row, column: f"{change(float(row[column])):.4f}"} for row in rows]
