"""The battery pack as everything around it sees it (`Pack`), and the thin twin behind it (`LumpedPack`).

`LumpedPack` is one resistance behind an open-circuit voltage, one thermal mass, and charge counting. It is right about
what a V2G session needs: voltage under load, where the energy goes, how warm the pack gets, and how much charge is
left. Terminal work equals change of stored energy plus heat, because current is solved from power and the open-circuit
voltage is taken at the middle of the step.
"""

from __future__ import annotations

import math
from typing import Protocol

from twins.pack.parameters import GROUPS_IN_SERIES, OPEN_CIRCUIT_POINTS, PackParameters

_GAS_CONSTANT_J_PER_MOL_K = 8.314462618  # CODATA 2018
_TABLE_STEPS = 2000  # 0.05 % of state of charge per step: interpolation error below 0.01 mV per group


class Pack(Protocol):
    """A battery pack between its terminals. Attributes are true values; what a BMS reports of them is `twins.pack.bms`.

    Units: volts, amperes (+ charges), degC, watts, watt-hours, ampere-hours; `soc` and `soh` are fractions of one.
    """

    voltage_v: float
    current_a: float
    power_w: float
    temperature_c: float
    soc: float
    soh: float
    capacity_ah: float
    charged_ah: float
    discharged_ah: float
    charged_wh: float
    discharged_wh: float
    heat_wh: float
    ambient_c: float

    def step(self, power_w: float, dt_s: float) -> None:
        """Hold `power_w` at the terminals (+ charges) for `dt_s` seconds; afterwards `power_w` says what flowed.

        An implementation moves what it can when asked for more, never turns the sign, and never raises for that.
        """

    def open_circuit_v(self) -> float:
        """Voltage at rest, whole pack."""

    def resistance_ohm(self) -> float:
        """Series resistance at the present temperature, whole pack."""

    def charge_limit_w(self) -> float:
        """Power that the pack accepts now, positive."""

    def discharge_limit_w(self) -> float:
        """Power that the pack gives now, positive."""

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return the 96 group voltages, with the spread of their own."""


class LumpedPack:
    """96s2p 40 kWh: open-circuit voltage, Arrhenius resistance, lumped thermal mass, charge and energy counting."""

    __slots__ = (
        "_ocv",
        "_ocv_now_v",
        "_parameters",
        "_spread_v",
        "ambient_c",
        "capacity_ah",
        "charged_ah",
        "charged_wh",
        "current_a",
        "discharged_ah",
        "discharged_wh",
        "heat_wh",
        "power_w",
        "soc",
        "soh",
        "temperature_c",
        "voltage_v",
    )

    def __init__(
        self,
        *,
        soc: float,
        soh: float = 1.0,
        ambient_c: float = 20.0,
        temperature_c: float | None = None,
        group_spread_v: tuple[float, ...] | None = None,
        parameters: PackParameters | None = None,
    ) -> None:
        """`soc` and `soh` as fractions; `group_spread_v` are 96 fixed deviations of the groups from their mean."""
        if not 0.0 <= soc <= 1.0:
            raise ValueError(f"state of charge must be 0 <= soc <= 1, not {soc!r}")
        if not 0.0 < soh <= 1.0:
            raise ValueError(f"state of health must be 0 < soh <= 1, not {soh!r}")
        self._parameters = parameters or PackParameters()
        self._ocv = _table()
        self._spread_v = group_spread_v or (0.0,) * GROUPS_IN_SERIES
        self.soc = soc
        self.soh = soh
        self.capacity_ah = self._parameters.capacity_ah * soh
        self.ambient_c = ambient_c
        self.temperature_c = ambient_c if temperature_c is None else temperature_c
        self.current_a = 0.0
        self.power_w = 0.0
        self.charged_ah = self.discharged_ah = 0.0
        self.charged_wh = self.discharged_wh = self.heat_wh = 0.0
        self._ocv_now_v = self.open_circuit_v()
        self.voltage_v = self._ocv_now_v

    def open_circuit_v(self) -> float:
        """Voltage at rest, whole pack."""
        position = min(max(self.soc, 0.0), 1.0) * _TABLE_STEPS
        index = min(int(position), _TABLE_STEPS - 1)
        low = self._ocv[index]
        return low + (self._ocv[index + 1] - low) * (position - index)

    def resistance_ohm(self) -> float:
        """Series resistance by Arrhenius: R(T) = R25 exp(Ea / R (1 / T - 1 / 298.15 K))."""
        parameters = self._parameters
        return parameters.resistance_25c_ohm * math.exp(
            parameters.resistance_activation_j_per_mol
            / _GAS_CONSTANT_J_PER_MOL_K
            * (1.0 / (self.temperature_c + 273.15) - 1.0 / 298.15)
        )

    def charge_limit_w(self) -> float:
        """Charge power accepted now: full up to 60 %, then falling to nothing at 100 %; less when cold.

        Anchors: 70 kW at 58 % and 17 to 21 degC, 44.6 kW at 25 % and 5 degC, 16.3 kW at 84.7 %, 12.5 kW at 87.7 %
        (captures); nothing below -20 or above 60 degC (engineering choice).
        """
        taper = _interpolate(_CHARGE_TAPER, self.soc * 100.0)
        return self._parameters.charge_limit_w * taper * _interpolate(_COLD_CHARGE, self.temperature_c)

    def discharge_limit_w(self) -> float:
        """Discharge power given now: anchors 110 kW at 17 to 21 degC, 66 kW at 5 degC and 25 % (captures)."""
        taper = _interpolate(_DISCHARGE_TAPER, self.soc * 100.0)
        return self._parameters.discharge_limit_w * taper * _interpolate(_COLD_DISCHARGE, self.temperature_c)

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return 96 group voltages: the mean and the fixed spread."""
        mean_v = self.voltage_v / GROUPS_IN_SERIES
        return tuple(mean_v + deviation for deviation in self._spread_v)

    def step(self, power_w: float, dt_s: float) -> None:
        """Hold `power_w` at the terminals (+ charges) for `dt_s` seconds, or as much of it as the pack can move.

        A pack that would be full or empty before the step is over, or that cannot give so much at any current, moves
        what it can: `power_w` afterwards says what flowed, with the sign of what was asked, or zero.
        """
        resistance = self.resistance_ohm()
        ocv = self._ocv_now_v
        # The current of the middle of the step: predict with the start, then correct the open-circuit voltage once.
        current = _current_for_power(power_w, ocv, resistance)
        soc_before = self.soc
        half_step = current * dt_s / (7200.0 * self.capacity_ah)
        self.soc = soc_before + half_step
        ocv_middle = self.open_circuit_v()
        current = _current_for_power(power_w, ocv_middle, resistance)
        moved_ah = current * dt_s / 3600.0
        room_ah = self.capacity_ah * ((1.0 - soc_before) if current > 0.0 else soc_before)
        if abs(moved_ah) > room_ah:
            share = room_ah / abs(moved_ah)
            current, moved_ah = current * share, moved_ah * share
            self.soc = 0.5 * (soc_before + (1.0 if current > 0.0 else 0.0))
            ocv_middle = self.open_circuit_v()
            power_w = (ocv_middle + resistance * current) * current
        elif power_w < 0.0 and current == _current_of_most_power(ocv_middle, resistance):
            power_w = (ocv_middle + resistance * current) * current
        self.soc = min(1.0, max(0.0, soc_before + moved_ah / self.capacity_ah))
        heat_w = resistance * current * current
        parameters = self._parameters
        # Exact solution of C dT/dt = heat - loss (T - ambient) over the step.
        rest_c = self.ambient_c + heat_w / parameters.heat_loss_w_per_k
        decay = math.exp(-dt_s * parameters.heat_loss_w_per_k / parameters.heat_capacity_j_per_k)
        self.temperature_c = rest_c + (self.temperature_c - rest_c) * decay
        self.heat_wh += heat_w * dt_s / 3600.0
        if current >= 0.0:
            self.charged_ah += moved_ah
            self.charged_wh += power_w * dt_s / 3600.0
        else:
            self.discharged_ah -= moved_ah
            self.discharged_wh -= power_w * dt_s / 3600.0
        self.current_a = current
        self.power_w = power_w
        self.voltage_v = ocv_middle + resistance * current
        self._ocv_now_v = self.open_circuit_v()


_CHARGE_TAPER = ((0.0, 1.0), (60.0, 1.0), (84.7, 0.233), (87.7, 0.179), (97.0, 0.05), (100.0, 0.0))
_DISCHARGE_TAPER = ((0.0, 0.0), (3.0, 0.1), (10.0, 0.6), (20.0, 1.0), (100.0, 1.0))
_COLD_CHARGE = ((-20.0, 0.0), (-10.0, 0.15), (5.0, 0.637), (17.0, 1.0), (45.0, 1.0), (55.0, 0.4), (60.0, 0.0))
_COLD_DISCHARGE = ((-25.0, 0.1), (-10.0, 0.3), (5.0, 0.6), (17.0, 1.0), (50.0, 1.0), (60.0, 0.0))


def _interpolate(points: tuple[tuple[float, float], ...], at: float) -> float:
    """Linear between points, constant beyond them."""
    before_x, before_y = points[0]
    if at <= before_x:
        return before_y
    for x, y in points[1:]:
        if at <= x:
            share = (at - before_x) / (x - before_x)
            return y * share + before_y * (1.0 - share)  # exactly y at x: a limit of nothing is not a little below it
        before_x, before_y = x, y
    return before_y


def _current_for_power(power_w: float, ocv_v: float, resistance_ohm: float) -> float:
    """Solve P = (OCV + R I) I for the current nearest to zero; beyond what can be given, the current of most power."""
    root = ocv_v * ocv_v + 4.0 * resistance_ohm * power_w
    if root < 0.0:
        return _current_of_most_power(ocv_v, resistance_ohm)
    return 2.0 * power_w / (ocv_v + math.sqrt(root))


def _current_of_most_power(ocv_v: float, resistance_ohm: float) -> float:
    """The discharge current at which load and series resistance share the voltage equally."""
    return -ocv_v / (2.0 * resistance_ohm)


def _table() -> list[float]:
    """Pack open-circuit voltage on a uniform grid of state of charge, `_TABLE_STEPS` + 1 values in volts."""
    return [
        GROUPS_IN_SERIES * _interpolate(OPEN_CIRCUIT_POINTS, 100.0 * step / _TABLE_STEPS)
        for step in range(_TABLE_STEPS + 1)
    ]


_: type[Pack] = LumpedPack
