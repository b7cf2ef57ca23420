"""Keywords that open, look at and close a station."""

from __future__ import annotations

from bench.keywords.component import Component, keyword
from bench.keywords.quantities import Duration
from bench.keywords.robot_face import say
from bench.safety import Snapshot
from drivers.readings import Reading

_ANSWER_TIME = Duration(30.0)


class StationKeywords(Component):
    """Opening and closing."""

    @keyword("station")
    def open_station(self, station: str | None = None) -> str:
        """Open a station: start its twins, connect its devices, arm the charger's watchdog. Returns the run folder.

        Without `station` it is the one that ``v2gbench run --station`` (or the variable ``${STATION}``) names, and
        the emulated one when there is none: leave it out, and the plan runs on any station.

        The station is closed through the charger's safe state at the end of the test, or of the suite when this was
        its set-up, however that ends. ConfigError says what is wrong with the file; InterlockTripped refuses to open
        anything after a limit ended an earlier test of the plan.
        """
        opened = self.bench.open(station)
        say(f"opened station {opened.station.name!r}; the run is recorded in {opened.folder}")
        return str(opened.folder)

    @keyword("station")
    def close_station(self) -> None:
        """Bring the charger to its safe state and close everything; a session that took place is certified.

        Without this keyword the same happens at the end of the test or suite. Does nothing when none is open.
        """
        run = self.bench.close()
        if run is not None:
            say(f"closed station {run.station!r}; the run is in {run.folder}")

    @keyword("station", "getter")
    def every_device_should_answer(self, within: Duration = _ANSWER_TIME) -> None:
        """Wait until each device of the station has been read once; fails after `within` of session time."""

        def attempt() -> None:
            silent = [role for role, seen in self._seen().items() if not seen]
            if silent:
                raise AssertionError(f"no reading from the {' and the '.join(silent)} yet")

        self.retry(attempt, within)

    @keyword("station", "getter")
    def get_all_readings(self) -> dict[str, str]:
        """The newest reading of everything, as a dictionary: source to value with unit, or to why there is none."""
        found = {}
        for reading in _readings(self.bench.opened.cycle.snapshot):
            found[reading.source] = (
                f"{reading.value:.10g} {reading.unit}" if reading.is_good else str(reading.quality.value)
            )
        say("\n".join(f"{source}: {text}" for source, text in found.items()))
        return found

    def _seen(self) -> dict[str, bool]:
        snapshot, station = self.bench.opened.cycle.snapshot, self.bench.opened.station
        seen = {"charger": snapshot.charger, "vehicle": snapshot.vehicle, "power_meter": snapshot.meter}
        return {
            station.device_of(role) or role: readings is not None
            for role, readings in seen.items()
            if station.device_of(role) is not None
        }


def _readings(snapshot: Snapshot) -> list[Reading]:
    found: list[Reading] = []
    for part in (snapshot.charger, snapshot.vehicle, snapshot.meter):
        if part is not None:
            found += part.readings()
    return found
