"""How a witness sees a true value: gain, offset, resolution and noise of its own, and faults planted on purpose.

Three witnesses that all tell the exact truth would make reconciliation an empty exercise. So every measuring channel of
a twin draws its own gain and offset error once, from the station's seed and its own name, within the accuracy that it
states; the statement is what certification turns into uncertainty. Faults (`Fault`) act on what the channel reports,
as they would in a miswired, frozen or mis-set instrument.

Accuracies are stated as half-widths with coverage factor 2, the form of data sheets; the drawn errors are normal with
half of that as standard deviation, cut at the half-width so that a healthy twin keeps its own data sheet.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

_BLOCK = 1024  # draws at once


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a channel's data sheet says; `unit` is that of the measured quantity."""

    gain_percent: float = 0.0  # half-width, k = 2
    offset: float = 0.0  # half-width, k = 2, in `unit`
    noise: float = 0.0  # standard deviation of one sample, in `unit`
    resolution: float = 0.0  # step of the reported value, in `unit`; 0 for none


EXACT = Accuracy()


class Channel:
    """One measuring channel with the errors that it happens to have.

    >>> Channel(Accuracy(resolution=0.5), random.Random(1))(3.7)
    3.5
    """

    __slots__ = ("_noise", "_offset", "_resolution", "gain")

    def __init__(self, accuracy: Accuracy, rng: random.Random) -> None:
        self.gain = 1.0 + _within(rng, accuracy.gain_percent / 100.0)
        self._offset = _within(rng, accuracy.offset)
        self._noise = normal_draws(rng, accuracy.noise) if accuracy.noise else None
        self._resolution = accuracy.resolution

    def __call__(self, true_value: float) -> float:
        """Return what this channel reports for `true_value`, rounded to its resolution."""
        return self.rounded(self.unrounded(true_value))

    def unrounded(self, true_value: float) -> float:
        """Return the value before it is rounded: what a meter integrates inside."""
        value = true_value * self.gain + self._offset
        return value if self._noise is None else value + self._noise()

    def rounded(self, value: float) -> float:
        """Round to the channel's resolution."""
        resolution = self._resolution
        return round(value / resolution) * resolution if resolution else value


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault planted in a witness. `kind` is one of gain, sign, frozen, clock.

    gain: `percent` is added to what it reports. sign: directions are swapped. frozen: from `after_s` on it repeats
    itself. clock: what it reports is `offset_s` seconds old.
    """

    kind: Literal["gain", "sign", "frozen", "clock"]
    percent: float = 0.0
    after_s: float = 0.0
    offset_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a fault that would do nothing: a test that plants it would prove nothing."""
        if self.kind not in {"gain", "sign", "frozen", "clock"}:
            raise ValueError(f"there is no fault {self.kind!r}; known are gain, sign, frozen and clock")
        if not self.offset_s >= 0.0:
            raise ValueError(f"a witness cannot report what comes {-self.offset_s!r} s later; offset_s is its age")


class MeteredPlane:
    """Voltage, current and power at one plane as one witness reports them, with energy counted in both directions.

    Call `step` once per simulated step with true values; read the attributes in between. Energy is integrated from the
    unrounded measured power, as a meter does, and never runs backwards.
    """

    __slots__ = (
        "_current",
        "_delay",
        "_fault",
        "_power",
        "_voltage",
        "current_a",
        "export_wh",
        "import_wh",
        "power_w",
        "voltage_v",
    )

    def __init__(
        self, *, power: Channel | None, voltage: Channel, current: Channel, fault: Fault | None = None
    ) -> None:
        """`power` None means that this witness multiplies its own voltage and current, as a BMS does."""
        self._power = power
        self._voltage = voltage
        self._current = current
        self._fault = fault
        self._delay: deque[tuple[float, tuple[float, float, float]]] = deque()
        self.power_w = 0.0
        self.voltage_v = 0.0
        self.current_a = 0.0
        self.import_wh = 0.0
        self.export_wh = 0.0

    def step(self, power_w: float, voltage_v: float, current_a: float, dt_s: float, now_s: float) -> None:
        """Take in the true values that held during the last `dt_s` seconds; positive power charges the vehicle."""
        fault = self._fault
        if fault is not None:
            if fault.kind == "frozen" and now_s >= fault.after_s:
                return
            if fault.kind == "clock":
                power_w, voltage_v, current_a = self._delayed(now_s, fault.offset_s, (power_w, voltage_v, current_a))
        voltage = self._voltage.unrounded(voltage_v)
        current = self._current.unrounded(current_a)
        if fault is not None:
            if fault.kind == "sign":
                current, power_w = -current, -power_w
            elif fault.kind == "gain":
                current *= 1.0 + fault.percent / 100.0
                power_w *= 1.0 + fault.percent / 100.0
        power = voltage * current if self._power is None else self._power.unrounded(power_w)
        energy_wh = power * dt_s / 3600.0
        if energy_wh >= 0.0:
            self.import_wh += energy_wh
        else:
            self.export_wh -= energy_wh
        self.voltage_v = self._voltage.rounded(voltage)
        self.current_a = self._current.rounded(current)
        self.power_w = power if self._power is None else self._power.rounded(power)

    def _delayed(self, now_s: float, offset_s: float, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return the values of `offset_s` ago, the oldest held ones while the line is shorter than that."""
        line = self._delay
        line.append((now_s, values))
        while len(line) > 1 and line[1][0] <= now_s - offset_s:
            line.popleft()
        return line[0][1]


def generator(seed: int, name: str) -> random.Random:
    """Return the random source of one twin: the same for the same seed and name, whatever else the station holds."""
    return random.Random(f"{seed}/{name}")  # noqa: S311  # measurement noise, not a secret


def normal_draws(rng: random.Random, standard_deviation: float = 1.0) -> Callable[[], float]:
    """Return a source of normal values around zero, drawn in blocks because one at a time costs ten times as much.

    The source is seeded from `rng` by its first draw, so that gains and offsets drawn before do not depend on who has
    noise, and goes on by itself.
    """

    def draws() -> Iterator[float]:
        # The legacy generator is the one whose values NumPy promises not to change between its versions.
        state = np.random.RandomState(rng.getrandbits(32))
        while True:
            yield from (standard_deviation * state.standard_normal(_BLOCK)).tolist()

    return draws().__next__


def _within(rng: random.Random, half_width: float) -> float:
    if not half_width:
        return 0.0
    return max(-half_width, min(half_width, rng.gauss(0.0, half_width / 2.0)))
