"""The keyword that lets session time pass."""

from __future__ import annotations

from bench.keywords.component import Component, keyword
from bench.keywords.quantities import Duration
from bench.keywords.robot_face import say


class WaitingKeywords(Component):
    """Time."""

    @keyword("waiting", "waits")
    def wait(self, duration: Duration) -> None:
        """Let session time pass: simulated where the station's clock is stepped, real time on metal.

        The bench measures, guards and records meanwhile; a limit that trips ends the wait at once. Use this and never
        ``Sleep``, which lets real time pass and no session time at all.

        Example:
        | Wait | 10 min |
        """
        cycle = self.bench.opened.cycle
        if duration:
            cycle.wait(float(duration))
        say(f"session time is {Duration(cycle.now_s)}")
