"""Recordings of real vehicles as input: CAN logs of five loggers and Leaf Spy files, in one form.

`open_log(path)` recognises the dialect; `Log.samples()` gives the neutral time series that contract and usage record
are fed with, `Log.summary()` what was found, what is absent and why, and what was assumed.
"""

from __future__ import annotations

from twins.replay.dialects import Dialect, LogError, sniff
from twins.replay.frames import LogFrame, Progress
from twins.replay.leafspy import DateOrder, LeafSpyUnits, TemperatureUnit
from twins.replay.log import Log, open_log
from twins.replay.samples import FIELD_QUANTITIES, ReplaySample
from twins.replay.summary import (
    Absence,
    ChademoPhase,
    ChademoPhaseKind,
    ChademoSession,
    ChargeEvent,
    ChargeKind,
    Summary,
    TimelineEvent,
    Trip,
)

__all__ = [
    "FIELD_QUANTITIES",
    "Absence",
    "ChademoPhase",
    "ChademoPhaseKind",
    "ChademoSession",
    "ChargeEvent",
    "ChargeKind",
    "DateOrder",
    "Dialect",
    "LeafSpyUnits",
    "Log",
    "LogError",
    "LogFrame",
    "Progress",
    "ReplaySample",
    "Summary",
    "TemperatureUnit",
    "TimelineEvent",
    "Trip",
    "open_log",
    "sniff",
]
