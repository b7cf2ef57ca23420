"""One pack, stepped: what the van, the charger and the battery management system hold (`PackTwin`).

It is the compiled step of `twins.pack.kernel` with one pack and one sample, so a session on the bench and years of a
scenario run on the same physics. `Pack` is what everything around needs of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from drivers.errors import ConfigError
from twins.pack import kernel, layout
from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters, shipped_pack
from twins.pack.series import LONGEST_STEP_S, PackState, kernel_arguments
from twins.pack.snapshot import Snapshot, group_voltages_v, limit_w, series_resistance_ohm, snapshot
from twins.pack.uses import Use

DEFAULT_PACK: Final = "env200_40kwh"


class Pack(Protocol):
    """A battery pack between its terminals. What a BMS reports of it is `twins.pack.bms`.

    Units: volts, amperes (+ charges), degC, watts, watt-hours, ampere-hours; `soc` and `soh` are fractions of one.
    """

    soc: float
    ambient_c: float
    speed_km_h: float
    use: Use

    @property
    def parameters(self) -> PackParameters:
        """What it is made of."""

    @property
    def voltage_v(self) -> float:
        """Terminal voltage, mean of the last step."""

    @property
    def current_a(self) -> float:
        """Terminal current of the last step."""

    @property
    def power_w(self) -> float:
        """What flowed at the terminals in the last step, the heater's draw included."""

    @property
    def heater_w(self) -> float:
        """What the pack's own heater drew in the last step."""

    @property
    def temperature_c(self) -> float:
        """Temperature of the cells."""

    @property
    def plates_c(self) -> float:
        """Temperature of the module plates, where the sensors sit."""

    @property
    def soh(self) -> float:
        """Capacity now over capacity when new."""

    @property
    def resistance_growth(self) -> float:
        """Growth of the resistance over new."""

    @property
    def capacity_ah(self) -> float:
        """Capacity now."""

    def step(self, power_w: float, dt_s: float) -> None:
        """Ask for `power_w` at the terminals (+ charges) for `dt_s` seconds; afterwards `power_w` says what flowed.

        An implementation moves what it can when asked for more, never turns the sign, and never raises for that.
        """

    def open_circuit_v(self) -> float:
        """Voltage at rest, whole pack."""

    def resistance_ohm(self) -> float:
        """Series resistance in the present state, whole pack."""

    def charge_limit_w(self) -> float:
        """Power that the BMS lets in now, positive."""

    def discharge_limit_w(self) -> float:
        """Power that the BMS lets out now, positive."""

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return the voltages of all series groups, with the spread of their own."""


class PackTwin:
    """A pack of the given parameters; see `Pack` for units, `twins.pack.kernel` for the physics.

    `ambient_c`, `speed_km_h` and `use` are set by whoever moves the van, and hold until they are set again.
    """

    __slots__ = (
        "_ambient",
        "_arguments",
        "_asked",
        "_dt_s",
        "_model",
        "_row",
        "_speed",
        "_state",
        "_use",
    )

    def __init__(
        self,
        *,
        soc: float,
        soh: float = 1.0,
        ambient_c: float = 20.0,
        temperature_c: float | None = None,
        parameters: PackParameters | None = None,
        seed: int = 0,
        every_group: bool = False,
        obey_limits: bool = False,
    ) -> None:
        """`soc` and `soh` as fractions; `seed` draws how the groups differ, `every_group` carries each of them.

        With `obey_limits` the battery management's power limits act, as they do in a `Drive`; without, who asks for
        power minds them, as a charger does, and only the cells' own limits act. Raises ConfigError for values out of
        range.
        """
        self._model = model = PackModel.build(parameters or shipped_pack(DEFAULT_PACK), seed=seed)
        self._state = state = PackState.new(
            model,
            soc=soc,
            soh=soh,
            temperature_c=ambient_c if temperature_c is None else temperature_c,
            every_group=every_group,
        )
        self._row = state.rows[0]
        self._asked = np.zeros((1, 1))
        self._ambient = np.empty((1, 1))
        self.ambient_c = ambient_c
        self._speed = np.zeros((1, 1))
        self._use = np.zeros((1, 1), dtype=np.uint8)
        self._dt_s = 0.0
        one, nothing = np.ones((1, 1)), np.zeros((1, 1))
        self._arguments = (
            kernel_arguments(model, state),
            (self._asked, self._ambient, self._speed, self._use, one, nothing, obey_limits),
            (np.empty(0, dtype=np.int64), 1, np.empty((1, 0, 0))),
        )

    def step(self, power_w: float, dt_s: float) -> None:
        """Ask for `power_w` (+ charges) for `dt_s` seconds, or as much of it as the pack can move.

        A pack that would be full or empty before the step is over, or whose weakest group would leave its voltages,
        moves what it can: `power_w` afterwards says what flowed, with the sign of what was asked, or zero. Steps longer
        than 60 s are taken in equal parts. Raises ConfigError for a power that is no number or a time that is not
        positive.
        """
        if not (math.isfinite(power_w) and math.isfinite(dt_s) and dt_s > 0.0):
            raise ConfigError(
                f"a pack is stepped by a finite power for more than 0 s, not {power_w!r} W for {dt_s!r} s"
            )
        self._asked[0, 0] = power_w
        fixed, drive, recorded = self._arguments
        parts = math.ceil(dt_s / LONGEST_STEP_S)
        advance_packs: Callable[..., None] = kernel.advance_packs
        for _ in range(parts):
            advance_packs(0, 1, *fixed, dt_s / parts, *drive, *recorded)

    @property
    def parameters(self) -> PackParameters:
        """What it is made of."""
        return self._model.parameters

    @property
    def soc(self) -> float:
        """True state of charge; may be set, as a test bench does, which moves no charge through the terminals."""
        return float(self._row.item(layout.SOC))

    @soc.setter
    def soc(self, soc: float) -> None:
        if not 0.0 <= soc <= 1.0:
            raise ConfigError(f"state of charge must be from 0 to 1, not {soc:g}")
        self._row[layout.SOC] = soc
        self._state.group_soc[:] = 1.0 - (1.0 - soc) / self._model.groups.capacity[: self._state.group_soc.shape[1]]

    @property
    def ambient_c(self) -> float:
        """Air around the pack."""
        return float(self._ambient.item())

    @ambient_c.setter
    def ambient_c(self, ambient_c: float) -> None:
        if not -60.0 <= ambient_c <= 80.0:
            raise ConfigError(f"ambient temperature must be from -60 to 80 °C, not {ambient_c:g}")
        self._ambient[0, 0] = ambient_c

    @property
    def speed_km_h(self) -> float:
        """Road speed, which cools the casing."""
        return float(self._speed.item())

    @speed_km_h.setter
    def speed_km_h(self, speed_km_h: float) -> None:
        if not 0.0 <= speed_km_h <= 400.0:
            raise ConfigError(f"road speed must be from 0 to 400 km/h, not {speed_km_h:g}")
        self._speed[0, 0] = speed_km_h

    @property
    def use(self) -> Use:
        """Who uses it; decides about fan and heater, rapid charging's heat, and who answers for the wear."""
        return Use(self._use.item())

    @use.setter
    def use(self, use: Use) -> None:
        self._use[0, 0] = use

    @property
    def voltage_v(self) -> float:
        """Terminal voltage, mean of the last step."""
        return float(self._row.item(layout.VOLTAGE_V))

    @property
    def current_a(self) -> float:
        """Terminal current of the last step."""
        return float(self._row.item(layout.CURRENT_A))

    @property
    def power_w(self) -> float:
        """What flowed at the terminals in the last step, the heater's draw included."""
        return float(self._row.item(layout.POWER_W))

    @property
    def heater_w(self) -> float:
        """What the pack's own heater drew in the last step."""
        return float(self._row.item(layout.HEATER)) * self.parameters.thermal.heater_w

    @property
    def temperature_c(self) -> float:
        """Temperature of the cells."""
        return float(self._row.item(layout.CELLS_C))

    @property
    def plates_c(self) -> float:
        """Temperature of the module plates, where the sensors sit."""
        return float(self._row.item(layout.PLATES_C))

    @property
    def capacity_ah(self) -> float:
        """Capacity now."""
        return float(self._row.item(layout.CAPACITY_AH))

    @property
    def soh(self) -> float:
        """Capacity now over capacity when new."""
        return self.capacity_ah / self.parameters.capacity_ah

    @property
    def resistance_growth(self) -> float:
        """Growth of the resistance over new."""
        return float(self._row.item(layout.RESISTANCE_GROWTH))

    @property
    def limited(self) -> int:
        """Why the last step moved less than was asked: bits of `twins.pack.layout`, 0 if it did not."""
        return int(self._row.item(layout.LIMITED))

    def open_circuit_v(self) -> float:
        """Voltage at rest, whole pack."""
        place = self.soc * layout.SOC_CELLS
        left = min(int(place), layout.SOC_CELLS - 1)
        curve = self._state.curve_v[0]
        low = float(curve.item(left))
        return self.parameters.groups_in_series * (low + (place - left) * (float(curve.item(left + 1)) - low))

    def resistance_ohm(self) -> float:
        """Series resistance in the present state, whole pack."""
        return series_resistance_ohm(self._model, self._state)

    def charge_limit_w(self) -> float:
        """Power that the BMS lets in now, positive."""
        return limit_w(self._model, self._state, charge=True)

    def discharge_limit_w(self) -> float:
        """Power that the BMS lets out now, positive."""
        return limit_w(self._model, self._state, charge=False)

    def group_voltages_v(self) -> tuple[float, ...]:
        """Return the voltages of all series groups, rebuilt from the mean group where they are not carried."""
        return tuple(group_voltages_v(self._model, self._state).tolist())

    def snapshot(self) -> Snapshot:
        """Everything that is true of it now, wear and registers included."""
        return snapshot(self._model, self._state)


_: type[Pack] = PackTwin
