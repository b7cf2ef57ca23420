"""A four-element power analyzer of the Yokogawa WT3000 kind, clamped around the charger.

Elements 1 to 3 carry the three AC phases, element 4 the DC side between charger and vehicle, and SIGMA is the sum of
the phases (wiring P3W4,P1W2). It is the third witness: its own gain, offset and noise, drawn once from the seed, on
every element; faults planted on purpose act on all of them.

Values change only at the instrument's own updates, every `update_s` of session time. Between two updates it collects
true values, and at an update it reports their mean (power, DC) or their rms (AC), as a sampling instrument does. So
power times time is energy whatever the step. Anything that reads goes through `snapshot`, which is replaced as a whole
at an update; whoever holds one sees one update.

Sign: positive power flows towards the vehicle, unless an element is among `reversed_elements`, as if its current
terminals were swapped; the driver turns it back.

Accuracy: that of a class 0.1 instrument. The WT300E states 0.1 % of reading plus 0.05 % of range for 45 to 66 Hz (from
memory); the offsets in watts here are an engineering choice of the same size for the ranges in use.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from drivers.power_meter.wt_family import (
    CREST_FACTOR,
    CURRENT_RANGES_A,
    OVER_RANGE_FACTOR,
    UPDATE_INTERVALS_S,
    VOLTAGE_RANGES_V,
)
from twins.charger.charger import ChargerTwin, SessionState
from twins.measurement import Accuracy, Channel, Fault, MeteredPlane

ELEMENTS: Final = 4
AC_ELEMENTS: Final = (1, 2, 3)
DC_ELEMENT: Final = 4
WIRING: Final = ("P3W4", "P1W2")

AC_POWER_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=1.0, noise=0.2, resolution=0.01)  # W, each phase
AC_VOLTAGE_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=0.05, noise=0.005, resolution=0.001)  # V
AC_CURRENT_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=0.005, noise=0.0005, resolution=0.0001)  # A
DC_POWER_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=3.0, noise=0.3, resolution=0.01)  # W
DC_VOLTAGE_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=0.1, noise=0.005, resolution=0.001)  # V
DC_CURRENT_ACCURACY: Final = Accuracy(gain_percent=0.1, offset=0.01, noise=0.0005, resolution=0.0001)  # A
FREQUENCY_ACCURACY: Final = Accuracy(gain_percent=0.06, noise=0.0005, resolution=0.001)  # Hz

LONGEST_INTEGRATION_S: Final = 10_000 * 3600.0  # the WT family stops by itself after 10,000 h

_SAME_TIME_S: Final = 1e-6


class AnalyzerRefused(Exception):
    """The analyzer cannot do this now; `reason` is one sentence."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class IntegrationState(enum.StrEnum):
    """Where integration stands; the words are the instrument's own."""

    RESET = "RESET"
    READY = "READY"  # waits for the start time of a real-time mode
    START = "START"
    STOP = "STOP"
    TIMEUP = "TIMEUP"


class IntegrationMode(enum.StrEnum):
    """Normal ends at the timer, continuous begins again; the real-time modes do so between two points of UTC."""

    NORMAL = "NORMAL"
    CONTINUOUS = "CONTINUOUS"
    RNORMAL = "RNORMAL"
    RCONTINUOUS = "RCONTINUOUS"


class Element(NamedTuple):
    """What one element reports at one update; energies are NaN while integration is reset."""

    voltage_v: float
    current_a: float
    power_w: float
    frequency_hz: float
    positive_wh: float
    negative_wh: float  # zero or below, as the WT family counts it
    positive_ah: float
    negative_ah: float  # zero or below
    apparent_vah: float
    reactive_varh: float
    over_range: bool


class Snapshot(NamedTuple):
    """One coherent update of all elements."""

    number: int  # counts updates
    elements: tuple[Element, ...]
    integrated_s: float  # NaN while integration is reset
    peak_over: int  # bit 2(n-1) voltage, bit 2(n-1)+1 current of element n


@dataclass(slots=True)
class InputSettings:
    """What a person sets on the input page, per element."""

    voltage_range_v: float
    current_range_a: float
    mode: str  # RMS or DC
    synchronize: str
    voltage_auto: bool = False
    current_auto: bool = False
    line_filter: bool = False
    frequency_filter: bool = False


@dataclass(slots=True)
class _Sums:
    """What one element has integrated; WH- and AH- as zero or below."""

    positive_wh: float = 0.0
    negative_wh: float = 0.0
    positive_ah: float = 0.0
    negative_ah: float = 0.0
    apparent_vah: float = 0.0
    reactive_varh: float = 0.0


@dataclass(slots=True)
class _Window:
    """True values collected since the last update, times seconds."""

    seconds: float = 0.0
    ac_power: float = 0.0
    ac_voltage_squared: float = 0.0
    ac_current_squared: float = 0.0
    frequency: float = 0.0
    dc_power: float = 0.0
    dc_voltage: float = 0.0
    dc_current: float = 0.0


@dataclass(slots=True)
class IntegrationSettings:
    """Mode, timer (0 s: until stopped) and the UTC limits of the real-time modes."""

    mode: IntegrationMode = IntegrationMode.NORMAL
    timer_s: float = 0.0
    begin_utc_s: float = 0.0
    end_utc_s: float = 0.0
    auto_calibration: bool = False


@dataclass(slots=True)
class _Integration:
    state: IntegrationState = IntegrationState.RESET
    elapsed_s: float = 0.0
    sums: list[_Sums] = field(default_factory=list)


class PowerAnalyzer:
    """An observer of a `Site`: call `step` after the charger's; read `snapshot`.

    `update_s` is one of the instrument's update intervals. `utc_start_s` is UTC at session time 0, for the real-time
    modes of integration. `on_update` are called after each update, on the stepping thread.
    """

    def __init__(
        self,
        name: str,
        charger: ChargerTwin,
        rng: random.Random,
        *,
        fault: Fault | None = None,
        ac_power_accuracy: Accuracy = AC_POWER_ACCURACY,
        dc_power_accuracy: Accuracy = DC_POWER_ACCURACY,
        update_s: float = 1.0,
        serial: str = "91N000001",
        reversed_elements: frozenset[int] = frozenset(),
        utc_start_s: float = 0.0,
    ) -> None:
        if not reversed_elements <= set(range(1, ELEMENTS + 1)):
            raise ValueError(f"reversed elements are among 1 to {ELEMENTS}, not {sorted(reversed_elements)}")
        self.name = name
        self.serial = serial
        self.wiring = WIRING
        self.on_update: list[Callable[[], None]] = []
        self.integration_settings = IntegrationSettings()
        self.inputs: tuple[InputSettings, ...] = ()
        self.set_default_inputs()
        self._charger = charger
        self._fault = fault
        self._utc_start_s = utc_start_s
        self._signs = tuple(-1.0 if number in reversed_elements else 1.0 for number in range(1, ELEMENTS + 1))
        self._planes = tuple(
            MeteredPlane(
                power=Channel(dc_power_accuracy if number == DC_ELEMENT else ac_power_accuracy, rng),
                voltage=Channel(DC_VOLTAGE_ACCURACY if number == DC_ELEMENT else AC_VOLTAGE_ACCURACY, rng),
                current=Channel(DC_CURRENT_ACCURACY if number == DC_ELEMENT else AC_CURRENT_ACCURACY, rng),
                fault=fault,
            )
            for number in range(1, ELEMENTS + 1)
        )
        self._frequency = Channel(FREQUENCY_ACCURACY, rng)
        self._frequency_hz = 0.0
        self._window = _Window()
        self._integration = _Integration(sums=[_Sums() for _ in range(ELEMENTS)])
        self._now_s = 0.0
        self._update_s = 0.0
        self._next_update_s = 0.0
        self.set_update_interval(update_s)
        # A first update on what is there, so that an instrument that was never stepped answers with values.
        self._collect(1.0)
        self._measure(counts=False)
        self.snapshot = self._published(1)

    @property
    def update_s(self) -> float:
        """Seconds of session time between two updates."""
        return self._update_s

    def set_update_interval(self, update_s: float) -> None:
        """Choose one of the instrument's update intervals; ValueError for any other."""
        if update_s not in UPDATE_INTERVALS_S:
            allowed = ", ".join(f"{each:g}" for each in UPDATE_INTERVALS_S)
            raise ValueError(f"the update interval is one of {allowed} s, not {update_s:g} s")
        self._update_s = update_s
        self._next_update_s = self._after(self._now_s)

    def set_default_inputs(self) -> None:
        """Fixed ranges that hold 10 kW: 300 V and 30 A for a phase, 600 V and 30 A for the DC side."""
        ac = [InputSettings(300.0, 30.0, "RMS", f"U{number}") for number in AC_ELEMENTS]
        self.inputs = (*ac, InputSettings(600.0, 30.0, "DC", "NONE"))

    def step(self, dt_s: float, now_s: float) -> None:
        """Take in the true values that held during the last `dt_s` seconds; `now_s` is the end of the step."""
        self._now_s = now_s
        self._collect(dt_s)
        self._follow_real_time()
        if now_s + _SAME_TIME_S >= self._next_update_s:
            self._next_update_s = self._after(now_s)
            self._measure(counts=True)
            self.snapshot = self._published(self.snapshot.number + 1)
            for notify in self.on_update:
                notify()

    # Integration

    @property
    def integration_state(self) -> IntegrationState:
        """Where integration stands."""
        return self._integration.state

    def start_integration(self) -> None:
        """Begin or resume integration; AnalyzerRefused when it runs, or ended by itself and was not reset."""
        state = self._integration.state
        if state not in {IntegrationState.RESET, IntegrationState.STOP}:
            raise AnalyzerRefused(f"integration is at {state}; it starts from RESET or STOP only")
        self._measure(counts=True)
        real_time = self.integration_settings.mode in {IntegrationMode.RNORMAL, IntegrationMode.RCONTINUOUS}
        for settings in self.inputs:  # IM WT1801-01EN: automatic ranges become fixed ones when integration starts
            settings.voltage_auto = settings.current_auto = False
        self._integration.state = IntegrationState.READY if real_time else IntegrationState.START
        self._follow_real_time()
        self._show_sums()

    def stop_integration(self) -> None:
        """Stop integration and keep its values; AnalyzerRefused when it does not run."""
        state = self._integration.state
        if state not in {IntegrationState.START, IntegrationState.READY}:
            raise AnalyzerRefused(f"integration is at {state}; only a running one can be stopped")
        self._measure(counts=True)
        if self._integration.state in {IntegrationState.START, IntegrationState.READY}:
            self._integration.state = IntegrationState.STOP
        self._show_sums()

    def reset_integration(self) -> None:
        """Forget what was integrated; AnalyzerRefused while it runs."""
        state = self._integration.state
        if state in {IntegrationState.START, IntegrationState.READY}:
            raise AnalyzerRefused(f"integration is at {state}; stop it before resetting it")
        self._integration = _Integration(sums=[_Sums() for _ in range(ELEMENTS)])
        self._show_sums()

    # How a true value becomes a reported one

    def _after(self, now_s: float) -> float:
        return (math.floor((now_s + _SAME_TIME_S) / self._update_s) + 1) * self._update_s

    def _collect(self, dt_s: float) -> None:
        charger = self._charger
        window = self._window
        ac_power_w = charger.true_ac_power_w / 3.0
        ac_voltage_v = charger.grid_voltage_v
        ac_current_a = ac_power_w / ac_voltage_v if ac_voltage_v else 0.0
        dc_voltage_v = 0.0
        if charger.van is not None and charger.state is SessionState.RUNNING:
            dc_voltage_v = charger.van.pack.voltage_v
            window.dc_current += charger.dc_power_w / dc_voltage_v * dt_s
        window.seconds += dt_s
        window.ac_power += ac_power_w * dt_s
        window.ac_voltage_squared += ac_voltage_v * ac_voltage_v * dt_s
        window.ac_current_squared += ac_current_a * ac_current_a * dt_s
        window.frequency += charger.grid_frequency_hz * dt_s
        window.dc_power += charger.dc_power_w * dt_s
        window.dc_voltage += dc_voltage_v * dt_s

    def _measure(self, *, counts: bool) -> None:
        """Turn what was collected into readings of the elements; without `counts` no energy is counted."""
        window = self._window
        seconds = window.seconds
        if not seconds:
            return
        self._window = _Window()
        fault = self._fault
        frozen = fault is not None and fault.kind == "frozen" and self._now_s >= fault.after_s
        ac = (
            window.ac_power / seconds,
            math.sqrt(window.ac_voltage_squared / seconds),
            math.sqrt(window.ac_current_squared / seconds),
        )
        dc = (window.dc_power / seconds, window.dc_voltage / seconds, window.dc_current / seconds)
        counted_s = seconds if counts else 0.0
        now_s = self._now_s
        changes: list[tuple[float, float]] = []
        for plane, (power_w, voltage_v, current_a) in zip(self._planes, (ac, ac, ac, dc), strict=True):
            before_positive, before_negative = plane.import_wh, plane.export_wh
            plane.step(power_w, voltage_v, current_a, counted_s, now_s)
            changes.append((plane.import_wh - before_positive, plane.export_wh - before_negative))
        if not frozen:
            self._frequency_hz = self._frequency(window.frequency / seconds)
        if counts:
            self._integrate(seconds, changes, frozen=frozen)

    def _integrate(self, seconds: float, changes: list[tuple[float, float]], *, frozen: bool) -> None:
        """Add what the planes counted in `seconds`, up to the timer."""
        integration = self._integration
        left = 1.0
        while integration.state is IntegrationState.START and left > 0.0:
            timer_s = self.integration_settings.timer_s or LONGEST_INTEGRATION_S
            share = min(left, max(0.0, timer_s - integration.elapsed_s) / seconds)
            integration.elapsed_s += share * seconds
            for index, (positive_wh, negative_wh) in enumerate(changes):
                self._add(integration.sums[index], index, share, seconds, positive_wh, negative_wh, frozen=frozen)
            left -= share
            if integration.elapsed_s + _SAME_TIME_S >= timer_s:
                mode = self.integration_settings.mode
                if mode in {IntegrationMode.CONTINUOUS, IntegrationMode.RCONTINUOUS}:
                    integration.elapsed_s = 0.0
                    integration.sums = [_Sums() for _ in range(ELEMENTS)]
                else:
                    integration.state = IntegrationState.TIMEUP

    def _add(
        self,
        sums: _Sums,
        index: int,
        share: float,
        seconds: float,
        positive_wh: float,
        negative_wh: float,
        *,
        frozen: bool,
    ) -> None:
        if self._signs[index] < 0.0:
            positive_wh, negative_wh = negative_wh, positive_wh
        sums.positive_wh += share * positive_wh
        sums.negative_wh -= share * negative_wh
        if frozen:
            return
        plane = self._planes[index]
        hours = share * seconds / 3600.0
        current_a = plane.current_a * self._signs[index] if index + 1 == DC_ELEMENT else abs(plane.current_a)
        if current_a >= 0.0:
            sums.positive_ah += current_a * hours
        else:
            sums.negative_ah += current_a * hours
        apparent_va = plane.voltage_v * abs(plane.current_a)
        sums.apparent_vah += apparent_va * hours
        reactive_squared = apparent_va * apparent_va - plane.power_w * plane.power_w
        if reactive_squared > 0.0:
            sums.reactive_varh += math.sqrt(reactive_squared) * hours

    def _follow_real_time(self) -> None:
        settings = self.integration_settings
        integration = self._integration
        if settings.mode not in {IntegrationMode.RNORMAL, IntegrationMode.RCONTINUOUS}:
            return
        now_utc_s = self._utc_start_s + self._now_s
        if integration.state is IntegrationState.READY and now_utc_s + _SAME_TIME_S >= settings.begin_utc_s:
            self._measure(counts=True)
            integration.state = IntegrationState.START
        if integration.state is IntegrationState.START and now_utc_s + _SAME_TIME_S >= settings.end_utc_s:
            self._measure(counts=True)
            integration.state = IntegrationState.TIMEUP

    def _published(self, number: int) -> Snapshot:
        elements: list[Element] = []
        peak_over = 0
        for index, plane in enumerate(self._planes):
            sign = self._signs[index]
            settings = self.inputs[index]
            is_dc = index + 1 == DC_ELEMENT
            voltage_v = plane.voltage_v
            current_a = plane.current_a * sign if is_dc else abs(plane.current_a)
            if settings.voltage_auto:
                settings.voltage_range_v = _fitting(VOLTAGE_RANGES_V, abs(voltage_v))
            if settings.current_auto:
                settings.current_range_a = _fitting(CURRENT_RANGES_A, abs(current_a))
            crest = 1.0 if is_dc else math.sqrt(2.0)
            if abs(voltage_v) * crest > CREST_FACTOR * settings.voltage_range_v:
                peak_over |= 1 << (2 * index)
            if abs(current_a) * crest > CREST_FACTOR * settings.current_range_a:
                peak_over |= 2 << (2 * index)
            elements.append(
                Element(
                    voltage_v,
                    current_a,
                    plane.power_w * sign,
                    math.nan if is_dc else self._frequency_hz,
                    *self._sums_of(index),
                    over_range=abs(voltage_v) > OVER_RANGE_FACTOR * settings.voltage_range_v
                    or abs(current_a) > OVER_RANGE_FACTOR * settings.current_range_a,
                )
            )
        return Snapshot(number, tuple(elements), self._integrated_s(), peak_over)

    def _show_sums(self) -> None:
        """Show the integrated values of now beside the measured ones of the last update."""
        now = self.snapshot
        elements = tuple(
            Element(
                element.voltage_v,
                element.current_a,
                element.power_w,
                element.frequency_hz,
                *self._sums_of(index),
                over_range=element.over_range,
            )
            for index, element in enumerate(now.elements)
        )
        self.snapshot = Snapshot(now.number, elements, self._integrated_s(), now.peak_over)

    def _sums_of(self, index: int) -> tuple[float, float, float, float, float, float]:
        if self._integration.state is IntegrationState.RESET:
            return _NOTHING
        sums = self._integration.sums[index]
        return (
            sums.positive_wh,
            sums.negative_wh,
            sums.positive_ah,
            sums.negative_ah,
            sums.apparent_vah,
            sums.reactive_varh,
        )

    def _integrated_s(self) -> float:
        return math.nan if self._integration.state is IntegrationState.RESET else self._integration.elapsed_s


_NOTHING: Final = (math.nan,) * 6


def _fitting(ranges: tuple[float, ...], value: float) -> float:
    """Return the smallest range that holds `value` with 10 % to spare, or the largest."""
    return next((each for each in ranges if value <= 1.1 * each), ranges[-1])
