"""What one pass over a recording found out, as frozen values that print and serialise.

Every statement a reader of the report may ask about is here: what was measured and how often, what the log cannot
say and why, which lines and frames were bad, which assumptions were made, and what happened when.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from twins.replay.dialects import Dialect


@dataclass(frozen=True, slots=True)
class QuantitySummary:
    """One quantity over the whole log. `mean` is over the values as they came, not over time."""

    quantity: str
    unit: str
    count: int
    no_data: int  # times that the device said "not available"
    first: float
    last: float
    minimum: float
    maximum: float
    mean: float
    first_s: float
    last_s: float
    source: str  # frame identifiers, or column
    verified: bool  # the layout was compared with a real e-NV200; for columns: the unit is named


@dataclass(frozen=True, slots=True)
class Absence:
    """A quantity that the log does not give, and why."""

    quantity: str
    reason: str


@dataclass(frozen=True, slots=True)
class BusSummary:
    """One channel of a log. `bus` is None where too few known identifiers were seen."""

    channel: str
    bus: str | None
    title: str
    frames: int
    identifiers: int


@dataclass(frozen=True, slots=True)
class FrameSummary:
    """One decoded identifier on one channel. `lost` counts steps of the frame's counter that were not one."""

    channel: str
    can_id: int
    name: str
    good: int
    bad_checksum: int
    wrong_length: int
    lost: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence. `length_s` is None where the clock stepped back, so that the true length is not known."""

    begin_s: float
    length_s: float | None
    line: int


@dataclass(frozen=True, slots=True)
class ClockReport:
    """How well the logger's clock ran."""

    absolute: bool
    backward_steps: int
    largest_back_step_s: float
    first_back_line: int | None
    mirrored: bool  # all stamps fall: taken as a sign error of the logger, the file's order kept


@dataclass(frozen=True, slots=True)
class EnergySummary:
    """Energy over the intervals that the log covers, integrated from power, each number positive.

    `plane` is `pack` (BMS voltage times current) or `charger_dc` (the DC charger's own meter). `g2v_wh` and `v2g_wh`
    count while the vehicle is known to charge or export; the totals count always.
    """

    plane: str
    into_pack_wh: float
    out_of_pack_wh: float
    g2v_wh: float
    v2g_wh: float
    covered_s: float
    estimated: bool  # rows so far apart that the integral is a rough estimate


class ChargeKind(enum.StrEnum):
    """How a charge was done."""

    RAPID = "rapid"  # DC
    AC = "ac"


@dataclass(frozen=True, slots=True)
class ChargeEvent:
    """A charge found in rows. Energy is dSOC x capacity x mean voltage, pack side: an estimate.

    Where `jump` is set the logger was off meanwhile: the duration is an upper bound and the mean power a lower bound.
    """

    kind: ChargeKind
    begin_s: float
    end_s: float
    begin_utc_s: float | None
    end_utc_s: float | None
    begin_line: int
    end_line: int
    begin_soc_percent: float
    end_soc_percent: float
    energy_wh: float | None
    mean_power_w: float | None
    jump: bool
    evidence: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Seconds from begin to end."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Trip:
    """A drive found in rows, from leaving Park to Park or to the end of the log."""

    begin_s: float
    end_s: float
    begin_utc_s: float | None
    begin_line: int
    end_line: int
    begin_soc_percent: float | None
    end_soc_percent: float | None
    distance_km: float | None


class ChademoPhaseKind(enum.StrEnum):
    """Phases of a CHAdeMO session, in their order."""

    HANDSHAKE = "handshake"  # both sides exchange limits, nothing enabled yet
    PRECHARGE = "precharge"  # enabled or locked, no current yet
    CHARGE = "charge"
    DISCHARGE = "discharge"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class ChademoPhase:
    """One phase. Currents positive into the vehicle; None where no charger frame came within the phase."""

    kind: ChademoPhaseKind
    begin_s: float
    end_s: float
    begin_voltage_v: float | None
    end_voltage_v: float | None
    mean_current_a: float | None
    maximum_current_a: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ChademoSession:
    """What vehicle and charger agreed on, and what followed. A number that was never on the bus is None."""

    phases: tuple[ChademoPhase, ...]
    vehicle_protocol: int | None
    charger_protocol: int | None
    vehicle_maximum_voltage_v: float | None
    vehicle_target_voltage_v: float | None
    vehicle_minimum_voltage_v: float | None
    charger_available_voltage_v: float | None
    charger_available_current_a: float | None
    charger_threshold_voltage_v: float | None
    discharge_compatible: bool | None  # both sides say that they can discharge
    under_way_at_start: bool  # the log begins after charging was enabled
    complete: bool  # ended by a stop within the log


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that happened, in words."""

    time_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that one pass over a log found out."""

    file: str  # name without folder
    dialect: Dialect
    lines: int
    records: int  # frames or rows
    malformed_lines: int
    first_malformed_line: int | None
    truncated_line: int | None
    start_utc_s: float | None
    duration_s: float
    clock: ClockReport
    buses: tuple[BusSummary, ...]
    frames: tuple[FrameSummary, ...]
    quantities: dict[str, QuantitySummary]
    absences: tuple[Absence, ...]
    gaps: tuple[Gap, ...]
    energy: tuple[EnergySummary, ...]
    charges: tuple[ChargeEvent, ...]
    trips: tuple[Trip, ...]
    chademo: tuple[ChademoSession, ...]
    timeline: tuple[TimelineEvent, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def bad_frames(self) -> int:
        """Frames that were dropped for a wrong checksum or length."""
        return sum(frame.bad_checksum + frame.wrong_length for frame in self.frames)

    @property
    def rapid_charges(self) -> tuple[ChargeEvent, ...]:
        """The DC charges among `charges`."""
        return tuple(charge for charge in self.charges if charge.kind is ChargeKind.RAPID)

    def absence(self, quantity: str) -> str | None:
        """Why a quantity is absent, None where it is there (or not among those that are asked for)."""
        for absence in self.absences:
            if absence.quantity == quantity:
                return absence.reason
        return None

    def as_json(self) -> dict[str, object]:
        """The whole summary as plain dictionaries, lists, numbers and strings."""
        return asdict(self)
