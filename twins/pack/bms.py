"""What the battery management system says of the pack, which is not what is true.

The BMS has a current sensor with an error of its own, counts charge with it, and derives what the dashboard shows. The
vehicle's wire faces (CAN, UDS, ELM327) report from here, never from the pack itself; the BMS is one of the three
witnesses of a session.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from twins.measurement import Accuracy, Channel, Fault, MeteredPlane
from twins.pack.pack import Pack
from twins.pack.parameters import NEW_FULL_ENERGY_WH, WH_PER_GID

# No data sheet of the LBC is public; these are engineering choices, stated here and in every usage record.
CURRENT_ACCURACY = Accuracy(gain_percent=0.8, offset=0.05, noise=0.05, resolution=1 / 1024)
VOLTAGE_ACCURACY = Accuracy(gain_percent=0.2, offset=0.2, noise=0.02, resolution=0.01)
TEMPERATURE_ACCURACY = Accuracy(offset=1.0, resolution=1.0)


class Bms:
    """Reported state of the battery; call `step` after each step of the pack.

    `plane` holds reported volts, amperes and watts at the pack (+ charges) and the energy counted from them.
    `soc` and `dash_soc` are fractions of one; `temperatures_c` are the four sensors.
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
        self._sensors = tuple(Channel(TEMPERATURE_ACCURACY, rng) for _ in range(4))
        self.soc = min(1.0, max(0.0, pack.soc + rng.gauss(0.0, 0.003)))
        self.insulation_kohm = 906.0  # the value of a healthy van (captures)
        self.voltage_12v = 13.2  # with the DC/DC converter running; from memory
        self.plane.voltage_v = VOLTAGE_ACCURACY.resolution * round(pack.voltage_v / VOLTAGE_ACCURACY.resolution)
        self.temperatures_c: Sequence[float] = tuple(sensor(pack.temperature_c) for sensor in self._sensors)

    def step(self, dt_s: float, now_s: float) -> None:
        """Take in what the pack did during the last `dt_s` seconds."""
        pack, plane = self._pack, self.plane
        plane.step(pack.power_w, pack.voltage_v, pack.current_a, dt_s, now_s)
        self.soc = min(1.0, max(0.0, self.soc + plane.current_a * dt_s / (3600.0 * pack.capacity_ah)))
        self.temperatures_c = tuple(sensor(pack.temperature_c) for sensor in self._sensors)

    @property
    def soh(self) -> float:
        """Reported state of health, a fraction of one; a given of the station in this twin."""
        return self._pack.soh

    @property
    def capacity_ah(self) -> float:
        """Reported capacity."""
        return self._pack.capacity_ah

    @property
    def hx_percent(self) -> float:
        """Reported Hx: a conductance-like figure that falls with cold and age (captures: 86 % at 20 degC, 54 % at 5).

        Modelled as SOH times the ratio of the 25 degC resistance to the present one, which meets neither capture
        exactly; the true formula is unknown.
        """
        return 100.0 * self._pack.soh * min(1.0, 0.075 / self._pack.resistance_ohm())

    @property
    def dash_soc(self) -> float:
        """Usable share shown to the driver: a line through the real-to-dash pairs 20.8 to 12.3 and 59.9 to 55.6 %."""
        return min(1.0, max(0.0, 1.107 * self.soc - 0.107))

    @property
    def full_energy_wh(self) -> float:
        """Energy of a full battery as frame 0x59E reports it."""
        return NEW_FULL_ENERGY_WH * self._pack.soh

    @property
    def remaining_energy_wh(self) -> float:
        """Energy left as frame 0x59E reports it."""
        return self.full_energy_wh * self.dash_soc

    @property
    def gids(self) -> int:
        """Energy left in the unit that the dashboard counts."""
        return int(self.remaining_energy_wh / WH_PER_GID)

    @property
    def charge_limit_w(self) -> float:
        """Charge power that the BMS permits now, positive."""
        return self._pack.charge_limit_w()

    @property
    def discharge_limit_w(self) -> float:
        """Discharge power that the BMS permits now, positive."""
        return self._pack.discharge_limit_w()

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return the 96 group voltages as measured: scaled to the reported pack voltage."""
        scale = self.plane.voltage_v / self._pack.voltage_v
        return tuple(voltage * scale for voltage in self._pack.group_voltages_v())
