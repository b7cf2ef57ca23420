"""Published laws of aging, each as sums: what a pack has lost, by standing and by cycling, and how its resistance grew.

Published laws are powers of time and throughput under constant conditions, q = k t^z + k' N^z'. A pack's conditions
change, and a power law that is advanced by its own slope depends on the step. So each component here has a
*linearised* state y = (k^(1/z)) t that simply adds up, and q = y^z: the same result in any step size, and the published
closed form when conditions stand still. (It is the equivalent-time rule: go on from the age at which today's conditions
would have cost as much.)

    y[CALENDAR]  += calendar_rate_per_s(law, soc, temperature) * dt          per step
    y[CYCLE]     += cycle_increment(number, depth, ...)[0]                   per full cycle; half of it for a half cycle
    loss(number, y, calendar_scale, cycle_scale)                             capacity, resistance, and the two parts

Laws differ more than ten-fold on the same use, each was fitted to one cell in a narrow range, and none to this pack's:
report the spread over laws, and the share of a loss that accrued outside of a law's `validity`.

What holds for all of them: time in days and throughput in equivalent full cycles (EFC; a cycle of depth d is d EFC);
temperatures are held within -60 to 90 degC and C-rates within 0 to 20 per hour, so that no power overflows; a
coefficient that comes out negative counts as 0. Gas constant 8.314 J/(mol K).

>>> found = closed_form_loss(law("b1"), days=365.0, soc=0.5, temperature_c=25.0)
>>> round(100 * found.capacity, 2)
2.69
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drivers.errors import ConfigError

from .cell import graphite_v
from .compiled import compiled

Floats = NDArray[np.float64]

CALENDAR: Final = 0
CYCLE: Final = 1
CALENDAR_RESISTANCE: Final = 2
CYCLE_RESISTANCE: Final = 3
CYCLE_ANODE: Final = 4
TERMS: Final = 5

_B1: Final = 0
_SCHMALSTIEG: Final = 1
_DENSO: Final = 2
_KOKAM: Final = 3
_WANG: Final = 4
_LEAF_LMO: Final = 5
_NAUMANN: Final = 6

_DAY_S: Final = 86_400.0
_GAS: Final = 8.314
_ROOM_K: Final = 298.15
_REFERENCE_K: Final = 308.15  # NREL's fits normalise temperatures to 35 degC
_REFERENCE_ANODE_V: Final = 0.123  # and graphite potentials to that at about half charge
_COLDEST_C: Final = -60.0
_HOTTEST_C: Final = 90.0
_FASTEST_C_RATE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Validity:
    """Range of the tests behind a law, as (low, high); depth and state of charge as fractions, C-rate per hour.

    Temperatures are those of the cycle tests, as NREL's BLAST-Lite 1.1.1 states them; calendar tests often went beyond.
    """

    temperature_c: tuple[float, float]
    depth: tuple[float, float]
    c_rate_max: float
    soc: tuple[float, float] = (0.0, 1.0)

    def covers(
        self, *, temperature_c: float, soc: float, depth: float | None = None, c_rate: float | None = None
    ) -> bool:
        """Whether the tests were made there; without depth and C-rate the question is one of standing."""
        return (
            self.temperature_c[0] <= temperature_c <= self.temperature_c[1]
            and self.soc[0] <= soc <= self.soc[1]
            and (depth is None or self.depth[0] <= depth <= self.depth[1])
            and (c_rate is None or c_rate <= self.c_rate_max)
        )


@dataclass(frozen=True, slots=True)
class Law:
    """A published law: how its losses grow, where it was tested, and what it cannot say.

    A component's loss is q = y ** exponent. `number` is stable and names the law in compiled code.
    """

    key: str
    number: int
    title: str
    source: str
    chemistry: str
    calendar_exponent: float
    cycle_exponent: float
    calendar_resistance_exponent: float
    cycle_resistance_exponent: float
    resistance_coupling: float
    """Resistance growth per capacity loss where the law has no resistance of its own (an assumption); else 0."""
    fuller_is_worse: bool
    """The calendar loss rises with the state of charge everywhere."""
    hotter_is_worse: bool
    """The calendar loss rises with temperature everywhere between -10 and 50 degC."""
    has_cold_charging: bool
    """The law itself makes cycling in the cold worse, so `cold_charging_factor` must not be laid upon it."""
    splits_anode: bool
    """`anode_loss` tells lost anode material apart; without it the whole loss is taken as lost lithium (assumption)."""
    c_rate_convention: str
    validity: Validity
    caveat: str
    """What a report must say beside this law's figures."""


class Loss(NamedTuple):
    """Losses as fractions of the new capacity and of the new resistance; calendar + cycle is the capacity's."""

    capacity: float
    resistance: float
    calendar: float
    cycle: float


_MEAN_OF_LEGS: Final = (
    "mean of the charge's and the discharge's C-rate while their currents flow (constant in the tests)"
)

_SHIPPED: Final = (
    Law(
        key="b1",
        number=_B1,
        title="NMC/graphite 50 Ah pouch 'B1' (Gasper 2023)",
        source="Gasper et al. 2023, doi 10.1016/j.est.2023.109042; coefficients as in NREL's BLAST-Lite 1.1.1",
        chemistry="NMC/graphite",
        calendar_exponent=0.708,
        cycle_exponent=0.467,
        calendar_resistance_exponent=1.0,
        cycle_resistance_exponent=1.0,
        resistance_coupling=1.0,
        fuller_is_worse=True,
        hotter_is_worse=True,
        has_cold_charging=False,
        splits_anode=False,
        c_rate_convention=_MEAN_OF_LEGS,
        validity=Validity(temperature_c=(10.0, 45.0), depth=(0.8, 1.0), c_rate_max=1.75),
        caveat="small cycles cost next to nothing (depth squared); at 10 °C charging was tested up to 0.3 C only",
    ),
    Law(
        key="schmalstieg",
        number=_SCHMALSTIEG,
        title="NMC111/graphite 2.15 Ah 18650 (Schmalstieg 2014)",
        source="Schmalstieg et al. 2014, J. Power Sources 257, 325; as in BLAST-Lite 1.1.1 and SimSES 1.3.12",
        chemistry="NMC/graphite",
        calendar_exponent=0.75,
        cycle_exponent=0.5,
        calendar_resistance_exponent=0.75,
        cycle_resistance_exponent=1.0,
        resistance_coupling=0.0,
        fuller_is_worse=True,
        hotter_is_worse=True,
        has_cold_charging=False,
        splits_anode=False,
        c_rate_convention="none: cycled at 1 C only",
        validity=Validity(temperature_c=(20.0, 40.0), depth=(0.0, 1.0), c_rate_max=1.0),
        caveat="cycling knows neither temperature nor C-rate (tested at 35 °C and 1 C); a small cell of 2014",
    ),
    Law(
        key="denso",
        number=_DENSO,
        title="NMC622/graphite 50 Ah (DENSO and NREL, Smith 2021)",
        source="Smith et al. 2021, J. Electrochem. Soc. 168, 100530; coefficients as in BLAST-Lite 1.1.1",
        chemistry="NMC/graphite",
        calendar_exponent=0.5,
        cycle_exponent=0.5,
        calendar_resistance_exponent=1.0,
        cycle_resistance_exponent=1.0,
        resistance_coupling=1.0,
        fuller_is_worse=False,
        hotter_is_worse=True,
        has_cold_charging=True,
        splits_anode=False,
        c_rate_convention="the charge's C-rate while its current flows (discharge was 1 C throughout)",
        validity=Validity(temperature_c=(10.0, 60.0), depth=(0.1, 1.0), c_rate_max=1.0),
        caveat="calendar loss falls with charge between about 43 and 82 %; the break-in terms are left out",
    ),
    Law(
        key="kokam",
        number=_KOKAM,
        title="NMC/graphite 75 Ah pouch (Kokam cells of Smith 2017, as fitted again in BLAST-Lite)",
        source="tests of Smith et al. 2017, American Control Conference; law and coefficients of BLAST-Lite 1.1.1",
        chemistry="NMC/graphite",
        calendar_exponent=0.357,
        cycle_exponent=0.778,
        calendar_resistance_exponent=1.25,
        cycle_resistance_exponent=0.712,
        resistance_coupling=0.0,
        fuller_is_worse=True,
        hotter_is_worse=True,
        has_cold_charging=True,
        splits_anode=True,
        c_rate_convention="none: cycled at 1 C only (C/3 charge at 0 °C)",
        validity=Validity(temperature_c=(0.0, 45.0), depth=(0.8, 1.0), c_rate_max=1.0),
        caveat=(
            "not the formula of the 2017 paper, whose daily depth multiplies its calendar rate; the smaller of "
            "lithium and active material is the capacity, so it bends downwards late in life"
        ),
    ),
    Law(
        key="wang",
        number=_WANG,
        title="NMC+LMO/graphite 1.5 Ah 18650 (Wang 2014, from memory)",
        source="Wang et al. 2014, J. Power Sources 269, 937; coefficients and test range from memory",
        chemistry="NMC+LMO/graphite",
        calendar_exponent=0.5,
        cycle_exponent=1.0,
        calendar_resistance_exponent=1.0,
        cycle_resistance_exponent=1.0,
        resistance_coupling=1.0,
        fuller_is_worse=False,
        hotter_is_worse=True,
        has_cold_charging=True,
        splits_anode=False,
        c_rate_convention="the discharge's C-rate while its current flows (from memory)",
        validity=Validity(temperature_c=(10.0, 46.0), depth=(0.1, 0.9), c_rate_max=6.5),
        caveat=(
            "from memory; its cycle coefficients nearly cancel, so that their rounding makes cycling cost "
            "nothing between 13 and 36 °C: no lower bound for V2G; calendar loss does not know the state of charge"
        ),
    ),
    Law(
        key="leaf_lmo",
        number=_LEAF_LMO,
        title="LMO/graphite, Nissan Leaf modules in second life (Braco 2020, 2022)",
        source="Braco et al. 2020, J. Energy Storage 32, 101695, and 2022, EEEIC; fit of BLAST-Lite 1.1.1",
        chemistry="LMO/graphite",
        calendar_exponent=0.464,
        cycle_exponent=1.08,
        calendar_resistance_exponent=1.0,
        cycle_resistance_exponent=1.0,
        resistance_coupling=1.0,
        fuller_is_worse=True,
        hotter_is_worse=True,
        has_cold_charging=False,
        splits_anode=False,
        c_rate_convention="none: cycled at 1 C only",
        validity=Validity(temperature_c=(20.0, 30.0), depth=(0.8, 1.0), c_rate_max=1.0),
        caveat=(
            "the old chemistry (24 kWh), from 70 % of the new capacity on: losses are those beyond it, as fractions of "
            "the new capacity; not for the 40 kWh pack; cycling knows the throughput only"
        ),
    ),
    Law(
        key="naumann",
        number=_NAUMANN,
        title="LFP/graphite 3 Ah 26650 (Naumann 2018, 2020)",
        source="Naumann et al. 2018, J. Energy Storage 17, 153, and 2020, J. Power Sources 451, 227666; as in SimSES 2",
        chemistry="LFP/graphite",
        calendar_exponent=0.5,
        cycle_exponent=0.5,
        calendar_resistance_exponent=1.0,
        cycle_resistance_exponent=1.0,
        resistance_coupling=0.0,
        fuller_is_worse=True,
        hotter_is_worse=True,
        has_cold_charging=False,
        splits_anode=False,
        c_rate_convention=_MEAN_OF_LEGS,
        validity=Validity(temperature_c=(20.0, 40.0), depth=(0.8, 1.0), c_rate_max=1.0),
        caveat="another chemistry; cycling does not know the temperature; range as BLAST-Lite gives it for these tests",
    ),
)

LAWS: Final[Mapping[str, Law]] = MappingProxyType({shipped.key: shipped for shipped in _SHIPPED})

_EXPONENTS: Final = np.array(
    [
        (
            shipped.calendar_exponent,
            shipped.cycle_exponent,
            shipped.calendar_resistance_exponent,
            shipped.cycle_resistance_exponent,
        )
        for shipped in _SHIPPED
    ]
)
_COUPLINGS: Final = np.array([shipped.resistance_coupling for shipped in _SHIPPED])


def law(key: str) -> Law:
    """The law of that name; raises ConfigError naming those that there are."""
    if key not in LAWS:
        raise ConfigError(f"no law of aging is called {key!r}; there are {', '.join(LAWS)}")
    return LAWS[key]


def calendar_rate_per_s(law: Law, soc: ArrayLike, temperature_c: ArrayLike) -> Floats:
    """Growth of y[CALENDAR] per second; state of charge as a fraction, temperature in degC, shapes broadcast."""
    coefficient = _CALENDAR[law.number](*_conditions(soc, temperature_c))
    return np.asarray(np.maximum(coefficient, 0.0) ** (1.0 / law.calendar_exponent) / _DAY_S)


def calendar_resistance_rate_per_s(law: Law, soc: ArrayLike, temperature_c: ArrayLike) -> Floats:
    """Growth of y[CALENDAR_RESISTANCE] per second, as `calendar_rate_per_s`; 0 for a law that has no resistance."""
    coefficient = _calendar_resistance(law, *_conditions(soc, temperature_c))
    return np.asarray(np.maximum(coefficient, 0.0) ** (1.0 / law.calendar_resistance_exponent) / _DAY_S)


@compiled
def cycle_increment(
    number: int,
    depth: float,
    mean_soc: float,
    charge_c_rate: float,
    discharge_c_rate: float,
    temperature_c: float,
) -> tuple[float, float, float]:
    """Growth of (y[CYCLE], y[CYCLE_RESISTANCE], y[CYCLE_ANODE]) by one full cycle; a half cycle adds half of it.

    `depth` and `mean_soc` are fractions, C-rates per hour as the law's `c_rate_convention` says. Never negative.
    """
    depth = min(max(depth, 0.0), 1.0)
    capacity, resistance, anode = _cycle_coefficients(
        number,
        depth,
        min(max(mean_soc, 0.0), 1.0),
        min(max(charge_c_rate, 0.0), _FASTEST_C_RATE),
        min(max(discharge_c_rate, 0.0), _FASTEST_C_RATE),
        min(max(temperature_c, _COLDEST_C), _HOTTEST_C) + 273.15,
    )
    return (
        max(capacity, 0.0) ** (1.0 / _EXPONENTS[number, CYCLE]) * depth,
        max(resistance, 0.0) ** (1.0 / _EXPONENTS[number, CYCLE_RESISTANCE]) * depth,
        anode * depth,
    )


@compiled
def loss(number: int, y: Floats, calendar_scale: float, cycle_scale: float) -> tuple[float, float, float, float]:
    """Capacity loss, resistance growth, and the capacity loss by standing and by cycling, as fractions of new.

    `y` has TERMS values. The scales multiply the losses (and growths) of the two kinds. The parts add up to the
    capacity loss exactly. Kokam: where active material limits, its excess over the lithium loss belongs to cycling.
    """
    calendar = calendar_scale * y[CALENDAR] ** _EXPONENTS[number, CALENDAR]
    cycle = cycle_scale * y[CYCLE] ** _EXPONENTS[number, CYCLE]
    growth = (
        calendar_scale * y[CALENDAR_RESISTANCE] ** _EXPONENTS[number, CALENDAR_RESISTANCE]
        + cycle_scale * y[CYCLE_RESISTANCE] ** _EXPONENTS[number, CYCLE_RESISTANCE]
    )
    if number == _KOKAM:
        material = anode_loss(number, y, cycle_scale)
        cycle = max(cycle, material - 0.01 - calendar)
        growth = max(growth, 1.09 / (1.01 - material) - 1.08)
    capacity = calendar + cycle
    return capacity, growth + _COUPLINGS[number] * capacity, calendar, cycle


@compiled
def anode_loss(number: int, y: Floats, cycle_scale: float) -> float:
    """Lost active material, counted to the anode, as a fraction; 0 for laws that do not split (see `splits_anode`).

    Kokam: the sigmoid 1 - 2 / (1 + exp(x^10)) of BLAST-Lite, with x = y[CYCLE_ANODE]. Smith 2017 sees the loss in the
    negative electrode; that this fit's active material is the same one is an assumption.
    """
    if number != _KOKAM:
        return 0.0
    return min(cycle_scale * math.tanh(0.5 * y[CYCLE_ANODE] ** 10), 1.0)


@compiled
def cold_charging_factor(temperature_c: float, charge_c_rate: float) -> float:
    """How much more a cycle wears when its charge was cold: exp(42800/R (1/T - 1/283.15)) below 10 degC, else 1.

    The activation energy is that of the cycling term b2 of Smith 2017, published for Kokam 75 Ah cells; that it holds
    for other cells, and only below 10 degC, is an assumption. It does not know how fast one charges: only whether.
    """
    if charge_c_rate <= 0.0 or temperature_c >= 10.0:
        return 1.0
    kelvin = max(temperature_c, _COLDEST_C) + 273.15
    return math.exp(42_800.0 / _GAS * (1.0 / kelvin - 1.0 / 283.15))


def closed_form_loss(
    law: Law,
    *,
    days: float,
    soc: float,
    temperature_c: float,
    cycles: float = 0.0,
    depth: float = 0.0,
    charge_c_rate: float = 0.0,
    discharge_c_rate: float = 0.0,
) -> Loss:
    """The published form q = k t^z + k' N^z' under constant conditions; for tests and documents.

    `cycles` full cycles of `depth` around `soc`; C-rates per hour. Knows nothing of the linearised states.
    """
    state, kelvin = _conditions(soc, temperature_c)
    efc = cycles * depth
    calendar = max(float(_CALENDAR[law.number](state, kelvin)), 0.0) * days**law.calendar_exponent
    growth = max(float(_calendar_resistance(law, state, kelvin)), 0.0) * days**law.calendar_resistance_exponent
    cycle, cycle_growth = _closed_form_cycle(law, efc, depth, soc, charge_c_rate, discharge_c_rate, float(kelvin))
    growth += cycle_growth
    if law.number == _KOKAM:
        sites = 1e4 + 153.0 * (temperature_c - 55.0) * min(depth * soc, 0.5) / 0.6
        material = 1.0 - 2.0 / (1.0 + math.exp(min((efc / max(sites, _LEAST_SITES_EFC)) ** 10, 700.0)))
        remaining = min(1.0 - calendar - cycle, 1.01 - material)
        cycle = 1.0 - remaining - calendar
        growth = max(growth, -0.08 + 1.09 / (1.01 - material) - 1.0)
    capacity = calendar + cycle
    return Loss(capacity, growth + law.resistance_coupling * capacity, calendar, cycle)


# The formulas, per day^z and per EFC^z. Temperatures in K.

_LEAST_SITES_EFC: Final = 1000.0  # Kokam: the linear fall of the life with cold must end above zero; estimate

_B1_PER_DAY: Final = 36.2 * 1e-4**0.708  # published per 10 000 days and per 100 000 EFC
_B1_PER_EFC: Final = 0.844 * 1e-5**0.467

# Open-circuit voltage of Sanyo's UR18650E at every 5 % of charge, read off the table of BLAST-Lite 1.1.1 (digitised
# from Schmalstieg 2014, figure 1, and Ecker 2014); within 2.1 mV of it. Schmalstieg's mean voltage of a cycle is taken
# at its mean state of charge.
_SANYO_V: Final = np.array(
    [
        *(3.331, 3.420, 3.491, 3.544, 3.581, 3.608, 3.627, 3.641, 3.655, 3.673),
        *(3.697, 3.732, 3.775, 3.821, 3.869, 3.915, 3.965, 4.019, 4.073, 4.118, 4.162),
    ]
)
_SANYO_CELLS: Final = 20
_SANYO_AH_PER_EFC: Final = 2.0 * 2.15  # throughput counts charge and discharge
_WANG_AH_PER_EFC: Final = 1.5  # throughput counts the discharge (from memory)
_LEAF_START: Final = 0.7  # Braco's modules had this much of their new capacity


def _conditions(soc: ArrayLike, temperature_c: ArrayLike) -> tuple[Floats, Floats]:
    state = np.clip(np.asarray(soc, dtype=np.float64), 0.0, 1.0)
    kelvin = np.clip(np.asarray(temperature_c, dtype=np.float64), _COLDEST_C, _HOTTEST_C) + 273.15
    return state, kelvin


def _anode_ratio(soc: Floats) -> Floats:
    """Graphite potential over its reference, with the stoichiometries 0.0085 to 0.78 that NREL's fits assume."""
    return graphite_v(0.0085 + soc * (0.78 - 0.0085)) / _REFERENCE_ANODE_V


def _b1_calendar(soc: Floats, kelvin: Floats) -> Floats:
    normal = kelvin / _REFERENCE_K
    return np.asarray(_B1_PER_DAY * np.exp(-4.4 * normal**-3 * np.cbrt(_anode_ratio(soc))))


def _sanyo_v(soc: Floats) -> Floats:
    return np.asarray(np.interp(soc, np.linspace(0.0, 1.0, _SANYO_CELLS + 1), _SANYO_V))


def _schmalstieg_calendar(soc: Floats, kelvin: Floats) -> Floats:
    return np.asarray((7.543 * _sanyo_v(soc) - 23.75) * 1e6 * np.exp(-6976.0 / kelvin))


def _denso_calendar(soc: Floats, kelvin: Floats) -> Floats:
    arrhenius = np.exp(-37_000.0 / _GAS * (1.0 / kelvin - 1.0 / _ROOM_K))
    level = -1.97e-4 + 0.0101 * soc - 0.0157 * soc**2 + 0.00835 * soc**3
    return np.asarray(arrhenius * (level - 4.06e-6 * soc * kelvin + 3.32e-5 * np.maximum(kelvin - 328.15, 0.0)))


def _kokam_calendar(soc: Floats, kelvin: Floats) -> Floats:
    normal = kelvin / _REFERENCE_K
    return np.asarray(2.66e7 * np.exp(-17.8 / normal - 5.21 * _anode_ratio(soc) / normal))


def _wang_calendar(soc: Floats, kelvin: Floats) -> Floats:
    return np.asarray(148.76 * np.exp(-24_500.0 / _GAS / kelvin) + 0.0 * soc)


def _leaf_lmo_calendar(soc: Floats, kelvin: Floats) -> Floats:
    return np.asarray(_LEAF_START * 3.25e8 * np.exp((-7580.0 + 162.0 * soc) / kelvin))


def _naumann_calendar(soc: Floats, kelvin: Floats) -> Floats:
    arrhenius = np.exp(-17_126.0 / _GAS * (1.0 / kelvin - 1.0 / _ROOM_K))
    return np.asarray(1.2571e-5 * math.sqrt(_DAY_S) * arrhenius * (2.8575 * (soc - 0.5) ** 3 + 0.60225))


_CALENDAR: Final[tuple[Callable[[Floats, Floats], Floats], ...]] = (
    _b1_calendar,
    _schmalstieg_calendar,
    _denso_calendar,
    _kokam_calendar,
    _wang_calendar,
    _leaf_lmo_calendar,
    _naumann_calendar,
)


def _calendar_resistance(law: Law, soc: Floats, kelvin: Floats) -> Floats:
    if law.number == _SCHMALSTIEG:
        return np.asarray((5.270 * _sanyo_v(soc) - 16.32) * 1e5 * np.exp(-5986.0 / kelvin))
    if law.number == _KOKAM:
        return np.asarray(0.0570 * _kokam_calendar(soc, kelvin))
    if law.number == _NAUMANN:
        arrhenius = np.exp(-71_827.0 / _GAS * (1.0 / kelvin - 1.0 / _ROOM_K))
        return np.asarray(3.4194e-10 * _DAY_S * arrhenius * (-3.3903 * (soc - 0.5) ** 2 + 1.5604))
    return np.zeros(np.broadcast(soc, kelvin).shape)


@compiled
def _cycle_coefficients(
    number: int, depth: float, soc: float, charge_c_rate: float, discharge_c_rate: float, kelvin: float
) -> tuple[float, float, float]:
    """Coefficients of capacity and resistance per EFC^z, and the growth of the anode's state per EFC."""
    c_rate = 0.5 * (charge_c_rate + discharge_c_rate)
    normal = kelvin / _REFERENCE_K
    above_room = 1.0 / kelvin - 1.0 / _ROOM_K
    if number == _B1:
        return _B1_PER_EFC * (depth**2 * normal**3 * math.sqrt(c_rate)) ** 0.458, 0.0, 0.0
    if number == _SCHMALSTIEG:
        left = min(int(soc * _SANYO_CELLS), _SANYO_CELLS - 1)
        volts = _SANYO_V[left] + (soc * _SANYO_CELLS - left) * (_SANYO_V[left + 1] - _SANYO_V[left])
        capacity = 7.348e-3 * (volts - 3.667) ** 2 + 7.6e-4 + 4.081e-3 * depth
        resistance = 2.153e-4 * (volts - 3.725) ** 2 - 1.521e-5 + 2.798e-4 * depth
        return capacity * math.sqrt(_SANYO_AH_PER_EFC), resistance * _SANYO_AH_PER_EFC, 0.0
    if number == _DENSO:
        level = -1.97e-4 + soc * (0.0101 - 4.06e-6 * kelvin + soc * (-0.0157 + soc * 0.00835))
        standing = math.exp(-37_000.0 / _GAS * above_room) * (level + 3.32e-5 * max(kelvin - 328.15, 0.0))
        cold = math.exp(58_000.0 / _GAS * above_room) * math.sqrt(depth * charge_c_rate) * (1.0 + 2.1 * soc)
        deep = 1.44 * math.exp(13_000.0 / _GAS * above_room) * depth**6
        return 0.985 * max(standing, 0.0) * (max(3.24 * cold - 0.099, 0.0) + deep), 0.0, 0.0
    if number == _KOKAM:
        lithium = 3.80e3 * math.exp(-18.4 / normal + 1.04 * math.exp(depth**2))
        # a cycle of depth d cannot be centred above 1 - d/2, so the product of both is at most a half
        sites = 1e4 + 153.0 * (kelvin - 328.15) * min(depth * soc, 0.5) / 0.6
        return lithium, 4.87 * lithium, 1.0 / max(sites, _LEAST_SITES_EFC)
    if number == _WANG:
        curve = max(kelvin * (8.61e-6 * kelvin - 5.13e-3) + 0.763, 0.0)
        return 0.01 * curve * math.exp((2.35 - 6.7e-3 * kelvin) * discharge_c_rate) * _WANG_AH_PER_EFC, 0.0, 0.0
    if number == _LEAF_LMO:
        return _LEAF_START * 7.58e-5, 0.0, 0.0
    capacity = 0.01 * (0.0630 * c_rate + 0.0971) * (4.0253 * (depth - 0.6) ** 3 + 1.0923)
    return capacity, 0.01 * (0.0021 - 0.0020 * c_rate) * (6.8477 * (depth - 0.5) ** 3 + 0.9182), 0.0


def _closed_form_cycle(
    law: Law, efc: float, depth: float, soc: float, charge_c_rate: float, discharge_c_rate: float, kelvin: float
) -> tuple[float, float]:
    """Capacity loss and resistance growth after `efc`, each law as its paper (or NREL's code) writes it."""
    c_rate = (charge_c_rate + discharge_c_rate) / 2.0
    ah = 2.15 * 2.0 * efc
    if law.key == "b1":
        stress = abs(depth**2 * (kelvin / 308.15) ** 3 * c_rate**0.5)
        return 0.844 * stress**0.458 * (efc / 1e5) ** 0.467, 0.0
    if law.key == "schmalstieg":
        volts = float(_sanyo_v(np.array(soc)))
        beta = 7.348e-3 * (volts - 3.667) ** 2 + 7.6e-4 + 4.081e-3 * depth
        beta_resistance = 2.153e-4 * (volts - 3.725) ** 2 - 1.521e-5 + 2.798e-4 * depth
        return beta * ah**0.5, max(beta_resistance, 0.0) * ah
    if law.key == "denso":
        b1t = max(float(_denso_calendar(np.array(soc), np.array(kelvin))), 0.0)
        warm = 1.0 / kelvin - 1.0 / 298.15
        stress = (depth * charge_c_rate) ** 0.5
        b1n = max(0.0, 3.24 * math.exp(58_000.0 / _GAS * warm) * stress * (1.0 + 2.1 * soc) - 0.099)
        b1n += 1.44 * math.exp(13_000.0 / _GAS * warm) * depth**6
        return 0.985 * b1t * b1n * efc**0.5, 0.0
    if law.key == "kokam":
        q3 = 3.80e3 * math.exp(-18.4 * 308.15 / kelvin) * math.exp(1.04 * math.exp(depth**2))
        return q3 * efc**0.778, 4.87 * q3 * efc**0.712
    if law.key == "wang":
        percent = max(8.61e-6 * kelvin**2 - 5.13e-3 * kelvin + 0.763, 0.0)
        percent *= math.exp((-6.7e-3 * kelvin + 2.35) * discharge_c_rate) * 1.5 * efc
        return percent / 100.0, 0.0
    if law.key == "leaf_lmo":
        return 0.7 * 7.58e-5 * efc**1.08, 0.0
    percent = (0.0630 * c_rate + 0.0971) * (4.0253 * (depth - 0.6) ** 3 + 1.0923) * efc**0.5
    percent_resistance = (-0.0020 * c_rate + 0.0021) * (6.8477 * (depth - 0.5) ** 3 + 0.9182) * efc
    return percent / 100.0, max(percent_resistance, 0.0) / 100.0
