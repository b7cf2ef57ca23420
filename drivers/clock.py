"""Two clocks, never mixed.

*Session clock* (`SessionClock`): stamps, schedules, device watchdogs, keyword times. On metal it is the wall clock; in
stepped time the bench moves it, so that hours of session run in seconds and give the same record twice.

*Link clock* (`Deadline`): the monotonic wall clock that bounds one exchange on the wire, in stepped time too, because a
real socket takes real time. There is no "for ever".
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class SessionClock(Protocol):
    """The time that stamps, schedules and watchdogs live in."""

    @property
    def mono_s(self) -> float:
        """Seconds since the session clock started; never runs backwards."""

    @property
    def utc_s(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z."""


class WallClock:
    """The session clock of real devices: monotonic time for order, the computer's UTC for stamps."""

    __slots__ = ("_start_s",)

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    @property
    def mono_s(self) -> float:
        """Seconds since this clock was made."""
        return time.monotonic() - self._start_s

    @property
    def utc_s(self) -> float:
        """The computer's UTC in seconds since 1970."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of one exchange, on the monotonic wall clock."""

    at_s: float
    allowed_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A dead-line `seconds` from now; must be positive and finite."""
        if not 0 < seconds < float("inf"):
            raise ValueError(f"a dead-line must be a positive number of seconds, not {seconds!r}")
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.at_s
