"""AC/DC conversion of the charger: where the energy between the two planes goes.

Loss is a quadratic in DC-side power, the usual shape of a converter: a constant part while the converter runs, a part
proportional to current and an ohmic part. The coefficients give 90 % at 1 kW and 94 to 95 % from 4 to 10 kW, the range
that bidirectional 10 kW chargers state; no efficiency map of the AME charger is public, so they are an engineering
choice.

>>> converter = Converter()
>>> round(converter.dc_from_ac_w(10_000.0)), round(converter.dc_from_ac_w(-10_000.0))
(9450, -10650)
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Converter:
    """Loss in watts = running + proportional x |DC| + DC^2 / (rated) x ohmic; positive power charges."""

    rated_w: float = 10_000.0
    running_loss_w: float = 80.0
    proportional_loss: float = 0.02
    ohmic_loss: float = 0.0315

    def loss_w(self, dc_power_w: float) -> float:
        """Loss while the converter carries `dc_power_w` on its DC side."""
        magnitude = abs(dc_power_w)
        return self.running_loss_w + self.proportional_loss * magnitude + self.ohmic_loss * magnitude**2 / self.rated_w

    def ac_from_dc_w(self, dc_power_w: float) -> float:
        """AC power that goes with a DC power: the loss always comes out of the AC side of the balance."""
        return dc_power_w + self.loss_w(dc_power_w)

    def dc_from_ac_w(self, ac_power_w: float) -> float:
        """Inverse of `ac_from_dc_w` on the branch where DC power has the sign of AC power.

        Between nothing and the running loss an AC power cannot charge: the result is 0.
        """
        # Roots as 2 c / (b + sqrt(b^2 - 4 a c)): small powers lose no digits, and no ohmic loss is no division by zero.
        quadratic = self.ohmic_loss / self.rated_w
        if ac_power_w > self.running_loss_w:
            linear = 1.0 + self.proportional_loss
            passed_w = ac_power_w - self.running_loss_w
            return 2.0 * passed_w / (linear + math.sqrt(linear * linear + 4.0 * quadratic * passed_w))
        if ac_power_w < 0.0:
            # With magnitude m of the DC power: |ac| = m - loss(m), so q m^2 - (1 - p) m + (running + |ac|) = 0.
            linear = 1.0 - self.proportional_loss
            needed_w = self.running_loss_w - ac_power_w
            root = linear * linear - 4.0 * quadratic * needed_w
            return -2.0 * needed_w / (linear + math.sqrt(max(0.0, root)))
        return 0.0

    def efficiency(self, ac_power_w: float) -> float:
        """Energy out over energy in at this AC power; 0 where nothing gets through."""
        dc_power_w = self.dc_from_ac_w(ac_power_w)
        if dc_power_w == 0.0:
            return 0.0
        return dc_power_w / ac_power_w if ac_power_w > 0.0 else ac_power_w / dc_power_w
