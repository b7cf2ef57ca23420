"""A low-voltage connection point: 230 V line to neutral behind an impedance, with the slow drift of a real feeder."""

from __future__ import annotations

import math
import random

from twins.measurement import normal_draws


class LowVoltageGrid:
    """Voltage and frequency at the charger's terminals.

    `voltage_v` falls with the power drawn: three phases, so each carries a third of it through `resistance_ohm`.
    EN 50160 bounds both (230 V ± 10 %, 50 Hz ± 1 %); drift and impedance are engineering choices within them.
    """

    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        nominal_voltage_v: float = 230.0,
        nominal_frequency_hz: float = 50.0,
        resistance_ohm: float = 0.25,
    ) -> None:
        self.name = name
        self._nominal_v = nominal_voltage_v
        self._nominal_hz = nominal_frequency_hz
        self._resistance_ohm = resistance_ohm
        self._phase = rng.uniform(0.0, math.tau)
        self._noise = normal_draws(rng)
        self._frequency_deviation_hz = 0.0
        self.voltage_v = nominal_voltage_v
        self.frequency_hz = nominal_frequency_hz

    def step(self, drawn_w: float, dt_s: float, now_s: float) -> None:
        """Advance to `now_s` with `drawn_w` taken from the feeder (negative: injected)."""
        drift_v = 1.5 * math.sin(math.tau * now_s / 1800.0 + self._phase)
        self.voltage_v = self._nominal_v + drift_v - self._resistance_ohm * drawn_w / (3.0 * self._nominal_v)
        decay = math.exp(-dt_s / 30.0)
        spread_hz = 0.012 * math.sqrt(1.0 - decay * decay)
        self._frequency_deviation_hz = self._frequency_deviation_hz * decay + spread_hz * self._noise()
        self.frequency_hz = self._nominal_hz + self._frequency_deviation_hz
