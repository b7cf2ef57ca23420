"""How long a pack still lasts: its law goes on with the wear of its last year.

Every law here is a sum of powers of linearised states y that simply add up (`twins.pack.laws`), so a use that goes on
as in the last simulated year adds the same y each year, and the loss after any time is `loss(y + years * y_per_year)`:
a closed form of the law itself, and no line laid through its past. It bends as the law bends. What it does not see is
that a smaller pack is cycled deeper by the same trips; the simulated years do see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twins.pack.laws import Law, loss

HORIZON_YEARS: Final = 60.0
_BISECTIONS: Final = 60


@dataclass(frozen=True, slots=True)
class Going:
    """A law's linearised wear now, and how much one more year adds; both of shape (TERMS,)."""

    law: Law
    y: NDArray[np.float64]
    y_per_year: NDArray[np.float64]
    calendar_scale: float = 1.0
    cycle_scale: float = 1.0

    def loss_after(self, years: float) -> float:
        """Capacity loss as a fraction of new, so many years from now."""
        y = np.maximum(self.y + years * self.y_per_year, 0.0)
        return float(loss(self.law.number, y, self.calendar_scale, self.cycle_scale)[0])

    def years_until(self, line: float) -> float | None:
        """Years from now until the loss reaches `line` (a fraction of new); 0 when it has, None beyond the horizon."""
        if self.loss_after(0.0) >= line:
            return 0.0
        if self.loss_after(HORIZON_YEARS) < line:
            return None
        early, late = 0.0, HORIZON_YEARS
        for _ in range(_BISECTIONS):
            middle = 0.5 * (early + late)
            if self.loss_after(middle) < line:
                early = middle
            else:
                late = middle
        return 0.5 * (early + late)
