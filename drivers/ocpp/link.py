"""What a driver needs of a central system: a link to one charge point and what that charge point has told.

The driver plays the Charger role over `ChargePointLink`; a central system implements it, and the rack joins the two, so
that drivers need no server. The link is synchronous, its state is a frozen snapshot. Values are in base units (W, Wh,
A, V, %, degC, Hz), whatever unit the charge point used on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from drivers.ocpp.payload import Payload


@dataclass(frozen=True, slots=True)
class BootInfo:
    """What the charge point said of itself in BootNotification; empty where it was silent."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The last StatusNotification of one connector."""

    status: str  # Available, Preparing, Charging, SuspendedEV, SuspendedEVSE, Finishing, Reserved, Unavailable, Faulted
    error_code: str
    vendor_error_code: str
    mono_s: float  # session clock when it arrived
    utc_s: float  # the charge point's own stamp


class Sample(NamedTuple):
    """One sampled value; `value` in the base unit of its measurand, NaN where the text was no number."""

    measurand: str
    value: float
    location: str
    phase: str
    context: str


@dataclass(frozen=True, slots=True)
class MeterValues:
    """The last meter value of one connector."""

    sequence: int  # counts meter values of this charge point, so that a newer one can be waited for
    mono_s: float  # session clock when it arrived
    utc_s: float  # the charge point's own stamp
    transaction_id: int | None
    samples: tuple[Sample, ...]

    def value(self, measurand: str, *locations: str) -> float | None:
        """The first sample of `measurand` at one of `locations`, tried in order; at any, when none is given.

        None when the charge point did not report it. Samples of a single phase count only when there is no total.
        """
        for location in locations or ("",):
            found = [
                sample
                for sample in self.samples
                if sample.measurand == measurand and (not location or sample.location == location)
            ]
            found.sort(key=lambda sample: bool(sample.phase))
            if found:
                return found[0].value
        return None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One charging transaction, as Start- and StopTransaction told."""

    transaction_id: int
    connector: int
    id_tag: str
    meter_start_wh: int
    start_utc_s: float
    meter_stop_wh: int | None = None
    stop_utc_s: float | None = None
    stop_reason: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has not been stopped."""
        return self.stop_utc_s is None


@dataclass(frozen=True, slots=True)
class ChargePointState:
    """All that a charge point has told; `transactions` holds the latest of each connector."""

    connected: bool = False
    boot: BootInfo | None = None
    statuses: Mapping[int, ConnectorStatus] = field(default_factory=dict)
    meter_values: Mapping[int, MeterValues] = field(default_factory=dict)
    transactions: Mapping[int, Transaction] = field(default_factory=dict)

    def running_transaction(self, connector: int) -> Transaction | None:
        """The transaction that runs on `connector` now, if one does."""
        transaction = self.transactions.get(connector)
        return transaction if transaction is not None and transaction.is_running else None


class ChargePointLink(Protocol):
    """A synchronous way to one charge point, whatever carries it."""

    @property
    def identity(self) -> str:
        """The charge point's identity, the last part of the URL that it connects to."""

    def state(self) -> ChargePointState:
        """What the charge point has told up to now."""

    def call(self, action: str, payload: Payload, timeout_s: float) -> Payload:
        """Send one CALL and return the payload of its CALLRESULT; both are checked against the schemas.

        Raises DeviceError for a CALLERROR, LinkTimeout after `timeout_s` of real time, LinkRefused without a link.
        """

    def wait_for(self, condition: Callable[[ChargePointState], bool], timeout_s: float, what: str) -> ChargePointState:
        """Return the first state that meets `condition`; LinkTimeout naming `what` after `timeout_s` of real time."""
