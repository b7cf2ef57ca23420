"""What the groups of keywords have in common: the bench, the decorator, and the loop that reads, judges and retries."""

from __future__ import annotations

import functools
import operator as operators
from collections.abc import Callable, Mapping
from typing import Concatenate, Literal, ParamSpec, TypeVar

from bench.keywords import robot_face
from bench.keywords.quantities import NO_TIME, Duration, Quantity
from bench.keywords.workbench import Workbench
from bench.safety import Snapshot
from drivers.errors import ConfigError, InterlockTripped
from drivers.readings import Reading

Comparison = Literal["<", "<=", ">", ">="]
"""How a getter judges what it read; a measured value never equals another, so there is no `==`."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}

_P = ParamSpec("_P")
_R = TypeVar("_R")
_C = TypeVar("_C", bound="Component")
_Q = TypeVar("_Q", bound=Quantity)


class Component:
    """A group of keywords about one topic."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench

    def retry(self, attempt: Callable[[], _R], retry_for: Duration) -> _R:
        """Repeat an attempt that ends in an AssertionError, once a cycle, for so long in session time.

        Any other error passes through at once: a tripped limit or a dead link does not heal by waiting.
        """
        opened = self.bench.opened
        cycle = opened.cycle
        if opened.tripped:
            raise InterlockTripped(f"{opened.tripped}; nothing is read after a limit tripped")
        end_s = cycle.now_s + float(retry_for)
        while True:
            try:
                return attempt()
            except AssertionError as error:
                if cycle.now_s >= end_s:
                    if retry_for:
                        raise AssertionError(f"{error}, still so after {retry_for} of session time") from None
                    raise
            cycle.wait(opened.station.cycle_s)

    def get(
        self,
        kind: type[_Q],
        what: str,
        read: Callable[[], float],
        operator: Comparison | None,
        expected: _Q,
        retry_for: Duration = NO_TIME,
    ) -> _Q:
        """Read a quantity and, when there is an `operator`, judge it against `expected`."""
        if (operator is None) is expected.is_given:
            raise ConfigError(f"say both how and with what {what} is to be compared, for example '<=' and a value")

        def attempt() -> _Q:
            value = kind(read())
            if operator is not None and not _COMPARE[operator](float(value), float(expected)):
                raise AssertionError(f"{what} is {value:.6g}, not {operator} {expected}")
            return value

        value = self.retry(attempt, retry_for)
        robot_face.say(f"{what} is {value:.6g}")
        return value

    def fresh(self, role: Literal["charger", "meter"], of: Callable[[Snapshot], Reading | None], poll_s: float) -> None:
        """Let time pass until the newest reading was taken after the last command."""
        opened = self.bench.opened
        since_s = opened.acted_s - 1e-6

        def is_fresh(snapshot: Snapshot) -> bool:
            reading = of(snapshot)
            return reading is not None and reading.mono_s >= since_s

        opened.cycle.wait_until(
            is_fresh,
            timeout_s=3.0 * (poll_s + opened.station.cycle_s),
            what=f"a fresh reading of the {role}",
        )


def keyword(*tags: str) -> Callable[[Callable[Concatenate[_C, _P], _R]], Callable[Concatenate[_C, _P], _R]]:
    """Make a method a keyword with tags; signals wait for the end of a cycle while it runs."""

    def decorate(method: Callable[Concatenate[_C, _P], _R]) -> Callable[Concatenate[_C, _P], _R]:
        @functools.wraps(method)
        def run(self: _C, /, *args: _P.args, **named: _P.kwargs) -> _R:
            if not self.bench.is_open:
                return method(self, *args, **named)
            with self.bench.opened.moving_time():
                return method(self, *args, **named)

        return robot_face.keyword(*tags)(run)

    return decorate


def good(reading: Reading) -> float:
    """The value of a reading; AssertionError when the device gave none."""
    if not reading.is_good:
        raise AssertionError(f"{reading.source} has no good value now ({reading.quality.value})")
    return reading.value
