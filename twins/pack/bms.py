"""What the battery management system says of the pack, which is not what is true.

The BMS has a current sensor with an error of its own, counts charge with it, looks at the voltage after a long rest,
and derives what the dashboard shows. Its state of health is an estimate that wanders and sometimes jumps. The vehicle's
wire faces (CAN, UDS, ELM327) report from here, never from the pack itself; the BMS is one of the three witnesses of a
session.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from itertools import pairwise

from twins.measurement import Accuracy, Channel, Fault, MeteredPlane
from twins.pack.pack import Pack

# No data sheet of the LBC is public; these are engineering choices, stated here and in every usage record.
CURRENT_ACCURACY = Accuracy(gain_percent=0.8, offset=0.05, noise=0.05, resolution=1 / 1024)
VOLTAGE_ACCURACY = Accuracy(gain_percent=0.2, offset=0.2, noise=0.02, resolution=0.01)
TEMPERATURE_ACCURACY = Accuracy(offset=1.0, resolution=1.0)

WH_PER_GID = 79.8  # 0x59E over 0x5BC at mid state of charge: 79.5 to 80.0 (captures)
_WH_PER_GID_WHEN_FULL = 80.8  # 40.4 kWh over 500

# Share of the usable energy over the real state of charge: within 1.5 points of the four e-NV200 captures (20.8 to
# 12.3, 25.1 to 14.5 in a cold van, 58.4 to 54.0, 59.9 to 55.6), within 3 of the OVMS notes on the ZE1 Leaf (59 to 55,
# 81 to 86, 95 to 100). No straight line does it.
_DASH = (
    (0.0, 0.0),
    (0.095, 0.0),
    (0.208, 0.113),
    (0.251, 0.159),
    (0.59, 0.55),
    (0.81, 0.832),
    (0.95, 0.975),
    (1.0, 1.0),
)

# How the estimator of the state of health behaves: a reading drifts by tenths and, in a public 24 kWh series, jumped by
# five points once in years (sethfischer.github.io). Rates are engineering choices.
_HEALTH_NOISE_PER_DAY = 0.0008
_HEALTH_PULL_PER_DAY = 0.05
_HEALTH_JUMPS_PER_DAY = 1.0 / 900.0
_HEALTH_JUMP_SD = 0.02
_DAY_S = 86_400.0

# After a rest the voltage tells the charge, slowly: engineering choices.
_REST_A = 1.0
_REST_S = 3600.0
_REST_PULL_PER_S = 1.0 / 7200.0


class LimitReason(enum.IntEnum):
    """Why the BMS holds power back: the code of frame 0x5BC."""

    NONE = 0
    CAPACITY = 1  # full or empty
    CONTROLLER = 2
    HOT = 3
    COLD = 4


class Bms:
    """Reported state of the battery; call `step` after each step of the pack.

    `plane` holds reported volts, amperes and watts at the pack (+ charges) and the energy counted from them.
    `soc` and `dash_soc` are fractions of one; `temperatures_c` are the four sensors on the module plates.
    """

    def __init__(
        self,
        pack: Pack,
        rng: random.Random,
        *,
        current_accuracy: Accuracy = CURRENT_ACCURACY,
        fault: Fault | None = None,
    ) -> None:
        self._pack = pack
        self.plane = MeteredPlane(
            power=None, voltage=Channel(VOLTAGE_ACCURACY, rng), current=Channel(current_accuracy, rng), fault=fault
        )
        self._offsets_c = pack.parameters.sensor_offsets_c
        self._sensors = tuple(Channel(TEMPERATURE_ACCURACY, rng) for _ in self._offsets_c)
        self.soc = min(1.0, max(0.0, pack.soc + rng.gauss(0.0, 0.003)))
        self.insulation_kohm = 906.0  # the value of a healthy van (captures)
        self.voltage_12v = 13.2  # with the DC/DC converter running; from memory
        self.plane.voltage_v = VOLTAGE_ACCURACY.resolution * round(pack.open_circuit_v() / VOLTAGE_ACCURACY.resolution)
        self.temperatures_c: Sequence[float] = self._read_sensors()
        self._health_error = 0.0
        self._health_due_s = _DAY_S
        self._health_rng = random.Random(rng.getrandbits(64))  # noqa: S311  # an estimator's wandering, not a secret
        self._rested_s = 0.0

    def step(self, dt_s: float, now_s: float) -> None:
        """Take in what the pack did during the last `dt_s` seconds."""
        pack, plane = self._pack, self.plane
        plane.step(pack.power_w, pack.voltage_v, pack.current_a, dt_s, now_s)
        counted = self.soc + plane.current_a * dt_s / (3600.0 * pack.capacity_ah)
        self._rested_s = self._rested_s + dt_s if abs(pack.current_a) < _REST_A else 0.0
        if self._rested_s > _REST_S:
            counted += (pack.soc - counted) * (1.0 - math.exp(-dt_s * _REST_PULL_PER_S))
        self.soc = min(1.0, max(0.0, counted))
        self.temperatures_c = self._read_sensors()
        self._health_due_s -= dt_s
        while self._health_due_s <= 0.0:
            self._health_due_s += _DAY_S
            self._estimate_health()

    @property
    def soh(self) -> float:
        """Reported state of health, a fraction of one: the truth and what the estimator makes of it."""
        return min(1.0, max(0.01, self._pack.soh + self._health_error))

    @property
    def capacity_ah(self) -> float:
        """Reported capacity: the reported state of health of the new pack's."""
        return self.soh * self._pack.parameters.capacity_ah

    @property
    def hx_percent(self) -> float:
        """Reported Hx: a conductance-like figure that falls with cold and age (captures: 86 % at 20 degC, 54 % at 5).

        Modelled as the new pack's resistance at 25 degC over the present one; this is an assumption, the true formula
        is unknown.
        """
        table = self._pack.parameters.resistance
        middle = _interpolate(tuple(zip(table.soc_percent, table.series_ohm, strict=True)), 100.0 * self._pack.soc)
        return 100.0 * min(1.0, middle / self._pack.resistance_ohm())

    @property
    def dash_soc(self) -> float:
        """Usable share of the energy, shown to the driver: remaining over full energy."""
        return _interpolate(_DASH, min(1.0, max(0.0, self.soc)))

    @property
    def full_energy_wh(self) -> float:
        """Energy of a full battery as frame 0x59E reports it."""
        return self._pack.parameters.new_full_energy_wh * self.soh

    @property
    def remaining_energy_wh(self) -> float:
        """Energy left as frame 0x59E reports it."""
        return self.full_energy_wh * self.dash_soc

    @property
    def gids(self) -> int:
        """Energy left in the unit that the dashboard counts."""
        return min(int(self.remaining_energy_wh / WH_PER_GID), self.max_gids)

    @property
    def max_gids(self) -> int:
        """Most of that unit that a new pack shows: 500 for 40.4 kWh (three captures), 750 to 775 for 62 kWh (same)."""
        return round(self._pack.parameters.new_full_energy_wh / _WH_PER_GID_WHEN_FULL)

    @property
    def charge_limit_w(self) -> float:
        """Charge power that the BMS permits now, positive."""
        return self._pack.charge_limit_w()

    @property
    def discharge_limit_w(self) -> float:
        """Discharge power that the BMS permits now, positive."""
        return self._pack.discharge_limit_w()

    @property
    def limit_reason(self) -> LimitReason:
        """Why power is held back, in the code of frame 0x5BC; which condition raises which code is an assumption."""
        limits = self._pack.parameters.limits
        celsius = self._pack.temperature_c
        if celsius < _COLD_BELOW_C:
            return LimitReason.COLD
        if celsius > _HOT_ABOVE_C:
            return LimitReason.HOT
        if self.charge_limit_w < 0.999 * limits.charge_w or self.discharge_limit_w < 0.999 * limits.discharge_w:
            return LimitReason.CAPACITY
        return LimitReason.NONE

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return the group voltages as measured: scaled so that they add up to the reported pack voltage."""
        groups = self._pack.group_voltages_v()
        scale = self.plane.voltage_v / sum(groups)
        return tuple(voltage * scale for voltage in groups)

    def _read_sensors(self) -> tuple[float, ...]:
        plates_c = self._pack.plates_c
        return tuple(sensor(plates_c + offset) for sensor, offset in zip(self._sensors, self._offsets_c, strict=True))

    def _estimate_health(self) -> None:
        """A day has passed: the estimate wanders, comes back a little, and once in years jumps."""
        rng = self._health_rng
        self._health_error += rng.gauss(0.0, _HEALTH_NOISE_PER_DAY) - _HEALTH_PULL_PER_DAY * self._health_error
        if rng.random() < _HEALTH_JUMPS_PER_DAY:
            self._health_error += rng.gauss(0.0, _HEALTH_JUMP_SD)


_COLD_BELOW_C, _HOT_ABOVE_C = 17.0, 45.0  # where the limits of `twins.pack.model` begin to fall


def _interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    """Linear between points, constant beyond them."""
    if at <= points[0][0]:
        return points[0][1]
    for (x_0, y_0), (x_1, y_1) in pairwise(points):
        if at <= x_1:
            return y_0 + (y_1 - y_0) * (at - x_0) / (x_1 - x_0)
    return points[-1][1]
