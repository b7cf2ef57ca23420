"""A log as a series that can drive a twin, whatever bus it was heard on.

`twins.pack.identification` judges rows and says what is wrong with them. What it cannot know is that a CHAdeMO
bus has the pack behind the charger's own meter: while current flows, their voltages and currents are the same but for
the cable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from drivers.errors import ConfigError
from twins.pack.identification import Series, read_series, series_of
from twins.pack.parameters import PackParameters
from twins.replay import Log, ReplaySample, open_log

_CHARGING_MODE: Final = 3.0
_AT_THE_CHARGER: Final = (
    "voltage and current are those of the charger's own meter (CHAdeMO frame 0x109, whole volts and amperes), taken for"
    " the pack's while the charger is at work; the BMS's state of charge, capacity, temperatures and ambient are not on"
    " this bus"
)


def read_for_twin(path: Path, pack: PackParameters, *, temperature_unit: str = "auto") -> Series:
    """Read a Leaf Spy, CAN or CHAdeMO log for a replay on `pack`.

    `temperature_unit` ("C", "F", "auto") is that of the columns whose title names none. Raises ConfigError (LogError
    among them) in one sentence for a log that cannot serve, or that is of another car.
    """
    log = open_log(path)
    if log.dialect.is_can:
        samples = list(log.samples())
        if _is_charger_only(samples):
            return _of_the_charger(path, log, samples, pack)
    return read_series(path, pack, temperature_unit=temperature_unit)


def _is_charger_only(samples: Sequence[ReplaySample]) -> bool:
    return any(sample.charger_voltage_v is not None for sample in samples) and not any(
        sample.pack_voltage_v is not None for sample in samples
    )


def _of_the_charger(path: Path, log: Log, samples: Sequence[ReplaySample], pack: PackParameters) -> Series:
    at_work = [
        replace(sample, pack_voltage_v=sample.charger_voltage_v, pack_current_a=sample.charger_current_a)
        for sample in samples
        if sample.charge_mode == _CHARGING_MODE
    ]
    if not at_work:
        raise ConfigError(
            f"{path}: {len(samples)} seconds of handshake and no charging; a charger's voltage is the pack's only while"
            " it charges"
        )
    notes = [_AT_THE_CHARGER]
    if len(at_work) < len(samples):
        notes.append(f"{len(samples) - len(at_work)} rows in which the charger is not at work are left out")
    begin_s = at_work[0].time_s
    at_work = [replace(sample, time_s=sample.time_s - begin_s) for sample in at_work]
    start = log.summary().start_utc_s
    series = series_of(
        at_work,
        pack,
        name=str(path),
        averaged=True,
        start_utc_s=None if start is None else start + begin_s,
        notes=(*log.summary().warnings, *notes),
    )
    return replace(series, name=path.name)
