"""One opened station as the keywords use it: a rack, a desk and at most one session, run in steps.

Whatever the plan did or left out, `close` goes through the safe state, and a session in which power may have flowed
ends with its usage record and certificate: a plan that fails at its last line has still used a battery.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.certification import RecordedSession
from bench.cycle import Cycle
from bench.keywords.held_signals import HeldSignals
from bench.operator import ActDone, Operator
from bench.pipeline import CertifiedRun, CertifiedSession
from bench.rack import Rack
from bench.safety import Snapshot
from bench.session import SessionPlan, SessionRunner
from bench.station import Station
from drivers.errors import NotOpenError
from drivers.readings import Reading
from ledgers.canonical import Json
from ledgers.ports import Hold
from ledgers.records import SignedRecord

_UNSCHEDULED_S = 60.0  # a session's schedule until it is started and given its own


class Phase(enum.IntEnum):
    """How far the session of an opened station has come."""

    NONE = 0
    PLUGGED = 1
    TRANSFER = 2
    STOPPED = 3
    UNPLUGGED = 4


@dataclass(frozen=True, slots=True)
class StationRun:
    """What an opened and closed station left behind."""

    folder: Path
    station: str
    simulated_s: float
    tripped: str  # sentence, empty when no limit tripped
    certified: CertifiedRun | None  # None when there was no session to certify


class Watcher(Protocol):
    """Whoever looks on: called from the thread of the cycle, so it must be quick and must not raise."""

    def opened(self, station: Station, folder: Path) -> None:
        """A station was opened."""

    def cycle(self, now_s: float, snapshot: Snapshot) -> None:
        """A cycle was recorded."""

    def closed(self, run: StationRun) -> None:
        """A station was closed."""


class OpenedStation:
    """An opened station; `close` it in every case."""

    def __init__(
        self,
        station: Station,
        plan: str,
        *,
        runs: Path | None,
        operator: Operator | None,
        energise: ActDone | None,
        watch: Callable[[float, Snapshot], None],
    ) -> None:
        """Open it; raises as `Rack.open` does, and then nothing stays open."""
        self.station = station
        self.phase = Phase.NONE
        self.result: CertifiedRun | None = None
        self.is_recorded = False
        self._first: dict[str, float] = {}
        self._session = CertifiedSession(
            station, SessionPlan(name=plan, duration_s=_UNSCHEDULED_S), runs=runs, operator=operator, energise=energise
        )
        self._stepped = station.clock == "stepped"
        self._held: HeldSignals | None = None
        self._closed = False
        try:
            rack = self._session.__enter__().rack
            self.folder, self.guard, self._cycle = rack.run_folder, rack.guard, rack.cycle
            self._now_s = self.acted_s = rack.cycle.now_s
            rack.cycle.listeners.append(lambda _index, snapshot, now_s: self._after_cycle(now_s, snapshot, watch))
        except BaseException as error:
            # Ctrl-C comes between any two steps; what is open already closes here, nobody else knows of it yet.
            self._session.__exit__(type(error), error, error.__traceback__)
            raise

    @property
    def session(self) -> CertifiedSession:
        """The session with its rack and desk."""
        return self._session

    @property
    def rack(self) -> Rack:
        """The opened rack; NotOpenError once the session is certified."""
        if self.is_recorded or self._closed:
            raise NotOpenError("the session is recorded and its station closed; open it again with 'Open Station'")
        return self._session.rack

    @property
    def cycle(self) -> Cycle:
        """The running cycle."""
        return self.rack.cycle

    @property
    def runner(self) -> SessionRunner:
        """The session in steps."""
        return self._session.runner

    @property
    def first_values(self) -> Mapping[str, float]:
        """The first good value of each energy counter since opening, by source."""
        return self._first

    def acted(self) -> None:
        """Take note that the charger was asked for something: older readings do not show it yet."""
        self.acted_s = self.cycle.now_s

    def moving_time(self) -> AbstractContextManager[None]:
        """Hold signals until the end of each cycle, where the caller's own thread runs the cycles."""
        return self._holding() if self._stepped else nullcontext()

    def record(self, *, failure: str = "") -> RecordedSession:
        """End the session, close the rack and put its signed record on the ledger; nothing is paid yet.

        `failure` says why the session ends before its time, empty if it does not.
        """
        with self._uninterrupted():
            if not self.is_recorded:
                aborted = failure if self.phase < Phase.STOPPED and self.cycle.trip is None else ""
                self._session.record(self.runner.finish(aborted=aborted))
                self.is_recorded = True
            return self._session.recorded

    def hold(self) -> Hold:
        """Set the money for the recorded session aside; `settle` goes on with it."""
        with self._uninterrupted():
            return self._session.hold()

    def settle(self, presented: SignedRecord | None = None) -> Mapping[str, Json]:
        """Pay for the recorded session unless that was done, and return what became of it."""
        with self._uninterrupted():
            if self._session.recorded.receipt is None:
                self._session.settle(presented)
            return self._session.recorded.done.settlement

    def certify(self, *, failure: str = "") -> CertifiedRun:
        """End the session, close the rack, pay and certify; steps that were taken are not taken again."""
        with self._uninterrupted():
            if self.result is None:
                self.record(failure=failure)
                self.settle()
                self.result = self._session.issue()
            return self.result

    def close(self, *, failure: str = "") -> StationRun:
        """Close everything through the safe state and say what is left; `failure` is what the plan failed at."""
        with self._uninterrupted():
            try:
                if self.result is None and not self._closed:
                    self._end(failure)
            finally:
                self._closed = True
                self._session.__exit__(None, None, None)
        return self.left_behind()

    def left_behind(self) -> StationRun:
        """What there is of this run so far."""
        return StationRun(self.folder, self.station.name, self._now_s, self.tripped, self.result)

    @property
    def tripped(self) -> str:
        """Why a limit tripped, in one sentence; empty when none did."""
        return self._cycle.trip.finding.sentence if self._cycle.trip is not None else ""

    def _end(self, failure: str) -> None:
        if self.phase >= Phase.TRANSFER or self.tripped:
            self.certify(failure=failure or "the plan closed the station while the session was running")
        elif failure:
            self.rack.conclude("aborted", failure)
        else:
            self.rack.conclude("completed")

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Hold signals to the end of the block, whatever cycles pass in it."""
        held, self._held = self._held, None
        try:
            with HeldSignals():
                yield
        finally:
            self._held = held

    @contextmanager
    def _holding(self) -> Iterator[None]:
        if self._held is not None:
            yield
            return
        with HeldSignals() as held:
            self._held = held
            try:
                yield
            finally:
                self._held = None

    def _after_cycle(self, now_s: float, snapshot: Snapshot, watch: Callable[[float, Snapshot], None]) -> None:
        self._now_s = now_s
        self._keep_first(snapshot)
        watch(now_s, snapshot)
        if self._held is not None:
            self._held.release()

    def _keep_first(self, snapshot: Snapshot) -> None:
        counters: list[Reading] = []
        if snapshot.charger is not None:
            counters += (snapshot.charger.import_energy, snapshot.charger.export_energy)
        if snapshot.meter is not None:
            meter = snapshot.meter
            counters += (meter.ac_import_energy, meter.ac_export_energy, meter.dc_import_energy, meter.dc_export_energy)
        for reading in counters:
            if reading.source not in self._first and reading.is_good:
                self._first[reading.source] = reading.value
