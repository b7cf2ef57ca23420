"""What is believed of a pack before a log is seen: one row per parameter, with its prior and what a log must hold.

The prior's centre is the pack file. Its width is a statement about how far cars of one kind lie from their file, wide
on purpose: a parameter counts as identified only where the log makes it at least twice as sharp as this. All widths are
engineering judgement, except the open-circuit curve's: rest voltages of one pack at one state of charge differ by 10 to
28 mV by relaxation alone (captures of 40 kWh cars).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from twins.pack.identification import forward as model
from twins.pack.identification.forward import grid
from twins.pack.identification.series import Floats
from twins.pack.parameters import PackParameters

IDENTIFIED_BELOW: Final = 0.5
"""Posterior over prior standard deviation, up to which a parameter is called identified."""

OCV_MODES: Final = 12
OCV_SD_V: Final = 0.010
OCV_LENGTH: Final = 0.10  # of state of charge: a wrong curve is wrong smoothly

UNREPORTED_CAPACITY_SD: Final = 0.20
"""Logarithmic width of the capacity's prior where the car reports neither capacity nor SOH: anything down to 70 %."""

SOC_SD: Final = 0.02  # of the first reported state of charge
UNKNOWN_SOC_SD: Final = 0.08  # of one read from the first voltage
START_SD_K: Final = 0.5
CASING_SD_K: Final = 3.0  # where the casing began, against a steady state


NUISANCE: Final = "hidden_current_variance_a2"
"""The one parameter that is of the log and not of the pack: it stays free, identified or not."""


@dataclass(frozen=True, slots=True)
class Prior:
    """A parameter before the log: its place among the free numbers, its centre there is 0, `sd` its width.

    `kind` says what the free number is: the logarithm of a factor on the pack's value (`log`), or added to it.
    """

    index: int
    name: str
    title: str
    unit: str
    sd: float
    kind: Literal["log", "added"] = "log"

    def value(self, centre: float, free: float) -> float:
        """The parameter in its own unit."""
        return centre * float(np.exp(free)) if self.kind == "log" else centre + free

    def width(self, centre: float, free: float, sd: float) -> float:
        """A standard deviation of the free number in the parameter's own unit."""
        return abs(self.value(centre, free)) * sd if self.kind == "log" else sd


PRIORS: Final = (
    Prior(model.P_CAPACITY, "capacity_ah", "capacity now", "Ah", 0.10),
    Prior(model.P_SERIES, "resistance.series_ohm", "series resistance, 50 %, 25 degC", "ohm", 0.5),
    Prior(model.P_FAST, "resistance.fast_ohm", "fast RC resistance, 50 %, 25 degC", "ohm", 0.5),
    Prior(model.P_SLOW, "resistance.slow_ohm", "slow RC resistance, 50 %, 25 degC", "ohm", 0.5),
    Prior(model.P_TILT, "resistance.tilt", "growth of ln(resistance) over SOC", "1", 0.5, "added"),
    Prior(model.P_ACTIVATION, "resistance.activation_j_per_mol", "activation energy", "J/mol", 6000.0, "added"),
    Prior(model.P_HEAT_CAPACITY, "thermal.cells_j_per_k", "heat capacity of the cells", "J/K", 0.4),
    Prior(model.P_STILL_AIR, "thermal.still_air_w_per_k", "loss to still air", "W/K", 0.7),
    Prior(model.P_MOVING_AIR, "thermal.air_w_per_k_per_km_h", "loss per road speed", "W/K per km/h", 0.7),
    Prior(model.P_RAPID_HEAT, "thermal.rapid_heat_factor", "heat factor of rapid charging", "1", 0.25),
    Prior(model.P_VARIANCE, NUISANCE, "variance of the current within rows", "A^2", 0.5),
    Prior(model.P_COUPLING, "thermal.cells_to_plates_w_per_k", "conductance cells to plates", "W/K", 0.8),
    Prior(model.P_OUTER, "thermal.plates_to_casing_w_per_k", "conductance plates to casing", "W/K", 0.5),
)


def centres(pack: PackParameters, capacity_ah: float) -> dict[str, float]:
    """Centre of each prior, in the parameter's own unit; resistances at 50 % and 25 degC, whole pack."""
    resistance, thermal = pack.resistance, pack.thermal

    def middle(values: tuple[float, ...]) -> float:
        return float(np.interp(50.0, resistance.soc_percent, values))

    return {
        "capacity_ah": capacity_ah,
        "resistance.series_ohm": middle(resistance.series_ohm),
        "resistance.fast_ohm": middle(resistance.fast_ohm),
        "resistance.slow_ohm": middle(resistance.slow_ohm),
        "resistance.tilt": 0.0,
        "resistance.activation_j_per_mol": resistance.activation_j_per_mol,
        "thermal.cells_j_per_k": thermal.cells_j_per_k,
        "thermal.still_air_w_per_k": thermal.still_air_w_per_k,
        "thermal.air_w_per_k_per_km_h": thermal.air_w_per_k_per_km_h,
        "thermal.rapid_heat_factor": thermal.rapid_heat_factor,
        "thermal.cells_to_plates_w_per_k": thermal.cells_to_plates_w_per_k,
        "thermal.plates_to_casing_w_per_k": thermal.plates_to_casing_w_per_k,
        NUISANCE: model.HIDDEN_VARIANCE_A2,
    }


def ocv_modes(sd_v: float = OCV_SD_V, *, length: float = OCV_LENGTH) -> Floats:
    """(GRID, OCV_MODES) volts per group: the error of an open-circuit curve is these times standard normal numbers.

    Cosines over the state of charge, weighted by the spectrum of a squared-exponential covariance, so that the error is
    `sd_v` in the mean over the curve and smooth over `length` of state of charge.
    """
    number = np.arange(OCV_MODES)
    weight = np.exp(-0.5 * (number * np.pi * length) ** 2)
    shape = np.cos(np.pi * grid()[:, None] * number) * np.where(number == 0, 1.0, np.sqrt(2.0))
    return np.asarray(sd_v * np.sqrt(weight / weight.sum()) * shape, dtype=np.float64)
