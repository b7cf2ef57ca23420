"""Whether a pack file may be believed for a log: is it that car's pack, and does the log stay where it is known.

A pack file says what was identified and how well, not over which temperatures and charges; so the borders are those of
the model itself: the knee of the open-circuit curve below 10 %, which no hold-out of cell data could predict, and
temperatures 20 K and more from the 25 degC at which resistances are told. A log in which nothing moves agrees with any
pack, so that is said too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from twins.pack.identification.series import Floats, Series
from twins.pack.parameters import PackParameters

_KNEE_SOC: Final = 0.10
_KNOWN_C: Final = (5.0, 45.0)
_NAMED_DIFFERENCE: Final = 0.02
_MOVED_A: Final = 10.0
_MOVED_K: Final = 1.0


@dataclass(frozen=True, slots=True)
class Validity:
    """What speaks for and against the pack file; ranges are those of the log, None where it has no such value."""

    soc_percent: tuple[float, float] | None
    temperature_c: tuple[float, float] | None
    new_capacity_ah: float | None  # of the log's car, by reported capacity and SOH
    pack_capacity_ah: float
    identified: tuple[str, ...]
    not_identified: tuple[str, ...]
    warnings: tuple[str, ...]


def validity_of(series: Series, pack: PackParameters) -> Validity:
    """Compare a log with the pack file it is replayed on."""
    warnings: list[str] = []
    identified = tuple(sorted(name for name, each in pack.estimates.items() if each.identified))
    not_identified = tuple(sorted(name for name, each in pack.estimates.items() if not each.identified))
    if not pack.estimates:
        warnings.append(
            f"nothing in the pack file {pack.name} was identified from logs of this car; its values are general ones"
        )
    elif not_identified:
        warnings.append(f"{len(not_identified)} of {len(pack.estimates)} parameters of {pack.name} were not identified")
    new_capacity_ah = None
    if series.capacity_ah is None:
        warnings.append(f"the log names no capacity, so nothing tells whether the car has the pack {pack.name}")
    else:
        new_capacity_ah = series.capacity_ah / (series.soh or 1.0)
        off = new_capacity_ah / pack.capacity_ah - 1.0
        if series.soh is not None and abs(off) > _NAMED_DIFFERENCE:
            warnings.append(
                f"by the log the new pack has {new_capacity_ah:.1f} Ah, by the pack file {pack.capacity_ah:g} Ah"
                f" ({100 * off:+.1f} %)"
            )
    most_a = float(np.abs(series.current_a).max())
    if most_a < _MOVED_A:
        warnings.append(
            f"no current beyond {most_a:.1f} A in the log: its voltage tests the open-circuit curve, and no resistance"
        )
    soc, temperature_c = _range(series.soc), _range(series.temperature_c)
    below = int(np.sum(series.soc < _KNEE_SOC))
    if below:
        warnings.append(f"{below} of {series.rows} rows lie below 10 % SOC, where the curve's knee is not well known")
    if temperature_c is not None and temperature_c[1] - temperature_c[0] < _MOVED_K:
        warnings.append("the pack's temperature moves by less than 1 K in the log: nothing thermal is tested")
    outside = int(np.sum((series.temperature_c < _KNOWN_C[0]) | (series.temperature_c > _KNOWN_C[1])))
    if outside:
        warnings.append(
            f"{outside} of {series.rows} rows lie beyond {_KNOWN_C[0]:g} to {_KNOWN_C[1]:g} degC; resistances are told"
            " at 25 degC and carried there by one Arrhenius law"
        )
    return Validity(
        soc_percent=None if soc is None else (100.0 * soc[0], 100.0 * soc[1]),
        temperature_c=temperature_c,
        new_capacity_ah=new_capacity_ah,
        pack_capacity_ah=pack.capacity_ah,
        identified=identified,
        not_identified=not_identified,
        warnings=tuple(warnings),
    )


def _range(values: Floats) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if known.size else None
