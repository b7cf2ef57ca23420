"""A recording replayed on the pack twin: the car's current in, the twin's voltage and temperature beside the car's.

series = read_for_twin(Path("drive.crtd"), pack)         # judged, noted or refused
replay = replay_on_twin(series, pack)
replay.voltage.twin.rmse, replay.voltage.ocv_only.rmse   # V
"""

from __future__ import annotations

from twins.replay.twin.current import Driven, advance_by_current
from twins.replay.twin.errors import Errors, Judged, errors_of
from twins.replay.twin.reading import read_for_twin
from twins.replay.twin.replay import TwinReplay, replay_on_twin
from twins.replay.twin.validity import Validity, validity_of

__all__ = [
    "Driven",
    "Errors",
    "Judged",
    "TwinReplay",
    "Validity",
    "advance_by_current",
    "errors_of",
    "read_for_twin",
    "replay_on_twin",
    "validity_of",
]
