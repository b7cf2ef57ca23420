"""Twins wired together: grid, charger, van and analyzer, stepped as one.

Faces read and command the twins from the service loop's thread while the bench steps them from its own, so everything
goes through `lock`. What must happen after a step (timed sends of the charge point) registers with `after_step`; those
callables run on the stepping thread, outside the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from drivers.clock import SessionClock
from twins.charger.charger import ChargerTwin
from twins.grid import LowVoltageGrid


class Observer(Protocol):
    """A twin that only looks: the power analyzer."""

    def step(self, dt_s: float, now_s: float) -> None:
        """Take in the true values of the last step."""


class Site:
    """One charger on one grid connection, its van, and whoever looks on."""

    def __init__(self, clock: SessionClock, grid: LowVoltageGrid, charger: ChargerTwin) -> None:
        self.clock = clock
        self.grid = grid
        self.charger = charger
        self.lock = threading.RLock()
        self.observers: list[Observer] = []
        self.after_step: list[Callable[[], None]] = []

    def step(self, dt_s: float) -> None:
        """Advance all twins by `dt_s` seconds; the clock already stands at the end of the step."""
        now_s = self.clock.mono_s
        with self.lock:
            self.grid.step(self.charger.true_ac_power_w, dt_s, now_s)
            self.charger.step(self.grid.voltage_v, self.grid.frequency_hz, dt_s, now_s)
            for observer in self.observers:
                observer.step(dt_s, now_s)
        for notify in self.after_step:
            notify()
