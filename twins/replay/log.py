"""`open_log`: a recording of any known dialect, as samples and a summary.

>>> from twins.replay import open_log
>>> log = open_log("drive.crtd")                                        # doctest: +SKIP
>>> [sample.soc_percent for sample in log.samples()][-1]                # doctest: +SKIP
59.9
>>> log.summary().absence("vehicle.plug_state")                         # doctest: +SKIP
'plug state is not on the EV-CAN'
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drivers.errors import ConfigError
from twins.replay.canlog import CanReplay
from twins.replay.dialects import Dialect, LogError, sniff
from twins.replay.frames import LogFrame, Progress, ReadStatistics, read_frames
from twins.replay.leafspy import LeafSpyReplay, LeafSpyUnits
from twins.replay.samples import ReplaySample
from twins.replay.summary import Summary

DEFAULT_PERIOD_S = 1.0


class Log:
    """A recording on disk. It holds no open file: each call of `samples()` or `frames()` reads it anew, streaming."""

    __slots__ = ("_period_s", "_progress", "_summary", "_units", "dialect", "path")

    def __init__(
        self, path: Path, dialect: Dialect, *, period_s: float, units: LeafSpyUnits, progress: Progress | None
    ) -> None:
        self.path = path
        self.dialect = dialect
        self._period_s = period_s
        self._units = units
        self._progress = progress
        self._summary: Summary | None = None

    def samples(self) -> Iterator[ReplaySample]:
        """Samples in order of time: one a row for Leaf Spy, at most one per `period_s` for CAN logs.

        Raises LogError in one sentence where the file is not of this dialect or holds nothing.
        """
        if self.dialect is Dialect.LEAFSPY:
            replay: CanReplay | LeafSpyReplay = LeafSpyReplay(self.path, units=self._units, progress=self._progress)
        else:
            replay = CanReplay(self.path, self.dialect, period_s=self._period_s, progress=self._progress)
        yield from replay.samples()
        self._summary = replay.summary()

    def summary(self) -> Summary:
        """What the whole log holds. Reads the file unless `samples()` was iterated to its end before."""
        if self._summary is None:
            for _ in self.samples():
                pass
        if self._summary is None:
            raise LogError(self.path, None, "the file could not be read to its end; try again")
        return self._summary

    def frames(self) -> Iterator[LogFrame]:
        """The bare frames of a CAN log, undecoded, as logged. Raises LogError for a log of rows."""
        yield from read_frames(self.path, self.dialect, ReadStatistics(), self._progress)


def open_log(
    path: Path | str,
    dialect: Dialect | str | None = None,
    *,
    period_s: float = DEFAULT_PERIOD_S,
    units: LeafSpyUnits | None = None,
    progress: Progress | None = None,
) -> Log:
    """Recognise a log and return it, unread.

    `dialect` forces one instead of recognising it by content; `period_s` is the sample period of CAN logs in seconds;
    `units` tells what a Leaf Spy file leaves open; `progress(bytes_read, bytes_in_all)` is called now and then.

    Raises LogError (a ConfigError) where the file is missing, empty, or of no known dialect, ConfigError for a bad
    argument.
    """
    path = Path(path)
    if not period_s > 0:
        raise ConfigError(f"the sample period must be a positive number of seconds, not {period_s!r}")
    if dialect is None:
        found = sniff(path)
    else:
        try:
            found = Dialect(dialect)
        except ValueError:
            names = ", ".join(known.value for known in Dialect)
            raise ConfigError(f"{dialect!r} is no log dialect; known are {names}") from None
        if not path.is_file() or path.stat().st_size == 0:
            sniff(path)
    return Log(path, found, period_s=period_s, units=units or LeafSpyUnits(), progress=progress)
