"""Which shipped pack a recording is of, where the user names none: the first whose capacity or energy fits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drivers.errors import ConfigError
from twins.pack.identification import Series
from twins.pack.parameters import PackParameters, resolve_pack, shipped_pack
from twins.replay.twin import read_for_twin

PACKS: Final = ("env200_40kwh", "leaf_62kwh")
"""Shipped packs that are tried, in this order, where none is named."""


def read_with_pack(
    log: Path, pack: str | None, *, temperature_unit: str, done: str
) -> tuple[PackParameters, Series, list[str]]:
    """The pack, the log read for it, and a note that says why it was chosen (none where the user named it).

    `pack` is a shipped one by name, or a pack file; `done` is what is done with the log ("fitted as", "replayed on").
    Raises ConfigError (LogError among them) in one sentence: what the first pack refused, when none fits.
    """
    if pack is not None:
        chosen = resolve_pack(pack, Path())
        return chosen, read_for_twin(log, chosen, temperature_unit=temperature_unit), []
    refused: list[ConfigError] = []
    for name in PACKS:
        chosen = shipped_pack(name)
        try:
            series = read_for_twin(log, chosen, temperature_unit=temperature_unit)
        except ConfigError as error:
            refused.append(error)
            continue
        return chosen, series, [f"{done} {name}, because {_why_it_fits(series)}; --pack names another"]
    raise refused[0]


def _why_it_fits(series: Series) -> str:
    if series.capacity_ah is not None:
        return "the car's reported capacity fits"
    if series.full_energy_wh is not None:
        return f"the car's reported energy fits, {series.full_energy_wh / 1000:.1f} kWh when full"
    return "the log names neither capacity nor energy"
