"""A charger commanded over OCPP 1.6, through the link of a central system.

OCPP 1.6 has no set-point and no watchdog; charging profiles serve as both. A set-point is a TxProfile with one period
whose limit is the power (negative: discharge). Armed, it carries `duration`, and below it lies a TxDefaultProfile of
0 W: when the bench falls silent the TxProfile runs out and the charger falls to 0 W by itself. `feed_watchdog` renews
it when less than half of its time is left.

Nothing is believed unread: `arm_watchdog` installs a profile of 1 W with that duration and asks for the composite
schedule, which must fall to 0 W when it is over; a charger that does not plan to is refused. Each set-point is read
back the same way, which is how `SetPower` knows who clamped it: below the charger's rating it was another profile.
What the vehicle takes of it OCPP 1.6 does not say; the power meter does.

`startSchedule` is an absolute time, so charger and bench must agree on it; a charger that keeps the time of the answers
to BootNotification and Heartbeat does. One that does not is found by the same read-back.

Readings come from MeterValues; when the last ones are older than `meter_max_age_s` the charger is asked for new ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field

from drivers.clock import SessionClock
from drivers.errors import BenchError, ConfigError, DeviceCallError, DeviceError, LimitError, LinkTimeout, NotOpenError
from drivers.ocpp.link import ChargePointLink, ChargePointState, MeterValues, Transaction
from drivers.ocpp.payload import Json, Payload, integer, member, members, number, stamp, text
from drivers.readings import Quality, Reading, missing
from drivers.roles import (
    Charger,
    ChargerCapabilities,
    ChargerReadings,
    ChargerState,
    ClampedBy,
    Nameplate,
    SetPower,
    WatchdogKind,
)

# Ids far from those that a person would choose, so that profiles of others are not replaced by accident.
_DEFAULT_PROFILE_ID: Final = 7_160_001
_SETPOINT_PROFILE_ID: Final = 7_160_002
_PROOF_PROFILE_ID: Final = 7_160_003
_PROOF_W: Final = 1.0
_RESOLUTION_W: Final = 0.1  # limits have one decimal
_COMMAND_KEY: Final = "ProfileIsSetpoint"  # vendor key of the bench's own charger twin
_STATES: Final = {
    "Available": ChargerState.AVAILABLE,
    "Preparing": ChargerState.PLUGGED,
    "SuspendedEV": ChargerState.SUSPENDED,
    "SuspendedEVSE": ChargerState.SUSPENDED,
    "Finishing": ChargerState.PLUGGED,
    "Reserved": ChargerState.UNAVAILABLE,
    "Unavailable": ChargerState.UNAVAILABLE,
    "Faulted": ChargerState.FAULTED,
}
_log = logging.getLogger(__name__)


class OcppChargerConfig(BaseModel, frozen=True, extra="forbid"):
    """How to drive one charger over OCPP; powers are the charger's ratings, which OCPP 1.6 does not tell."""

    connector: Annotated[int, Field(ge=1, le=99)] = 1
    id_tag: Annotated[str, Field(min_length=1, max_length=20)] = "BENCH"
    max_charge_w: Annotated[float, Field(gt=0, le=1e6)] = 10_000.0
    max_discharge_w: Annotated[float, Field(ge=0, le=1e6)] = 10_000.0
    max_watchdog_s: Annotated[float, Field(ge=1, le=3600)] = 600.0
    meter_max_age_s: Annotated[float, Field(gt=0, le=3600)] = 0.5  # less than a cycle: new values in each
    stale_after_s: Annotated[float, Field(gt=0, le=7200)] = 10.0
    connect_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    reply_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    start_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    read_only: bool = False  # look without touching: no key, no profile, no command


class OcppCharger:
    """Plays the Charger role over the link of a central system; a context manager."""

    def __init__(self, config: OcppChargerConfig, link: ChargePointLink, clock: SessionClock, *, device: str) -> None:
        self._config = config
        self._link = link
        self._clock = clock
        self._device = device
        self._is_open = False
        self._watchdog_s = 0
        self._setpoint_w = 0.0
        self._renew_at_s = math.inf
        self._former_command = ""

    def __enter__(self) -> Self:
        self._wait_for(
            lambda state: state.connected and state.boot is not None, self._config.connect_s, "BootNotification"
        )
        self._is_open = True
        try:
            if not self._config.read_only:
                self._take_command()
        except BaseException:
            self._is_open = False
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the charger back: own profiles and vendor key as found, unless a session still runs; twice is fine."""
        if not self._is_open:
            return
        try:
            # While a session runs, the 0 W default is what brings it down.
            if not self._config.read_only and self._transaction() is None:
                self._give_back()
        except BenchError as failure:
            _log.warning("%s: could not be put back as it was found: %s", self._device, failure)
        finally:
            self._is_open = False

    def identify(self) -> Nameplate:
        """What BootNotification said."""
        boot = self._state("identify").boot
        if boot is None:
            raise NotOpenError(f"{self._device} has not sent BootNotification; identify() needs it")
        return Nameplate(boot.vendor, boot.model, boot.serial, boot.firmware)

    def capabilities(self) -> ChargerCapabilities:
        """Ratings from the station file; the watchdog is a charging profile that runs out."""
        self._require_open("capabilities")
        config = self._config
        return ChargerCapabilities(
            config.max_charge_w, config.max_discharge_w, WatchdogKind.PROFILE, config.max_watchdog_s
        )

    def read(self) -> ChargerReadings:
        """The latest MeterValues, asked for anew when they are too old; what was not reported is NaN."""
        state = self._state("read")
        values = state.meter_values.get(self._config.connector)
        if values is None or self._clock.mono_s - values.mono_s > self._config.meter_max_age_s:
            state = self._fresh(values)
            values = state.meter_values.get(self._config.connector)
        return _Readings(self._device, self._clock, values, self._config.stale_after_s).all(
            _charger_state(state, self._config.connector, values), _faults(state)
        )

    def set_power(self, power_w: float) -> SetPower:
        """Command AC power (+ charges) by a TxProfile, and read back what is in force."""
        self._require_commandable("set_power")
        if not math.isfinite(power_w):
            raise LimitError(f"{self._device}: a set-point of {power_w} W was not sent; give a finite power in watts")
        transaction = self._transaction()
        if transaction is None:
            return SetPower(power_w, 0.0, ClampedBy.CHARGER, refused=True, code="NoTransaction")
        status = self._send_setpoint(power_w, transaction)
        if status != "Accepted":
            return SetPower(power_w, self._setpoint_w, ClampedBy.CHARGER, refused=True, code=status)
        self._setpoint_w = power_w
        in_force_w, ends_s = self._composite()
        if self._watchdog_s and (ends_s is None or ends_s > self._watchdog_s):
            self.safe_state()
            raise DeviceError(
                f"does not plan to end the profile after {self._watchdog_s} s; it was brought to 0 W",
                code="NoExpiry",
                device=self._device,
                sent="GetCompositeSchedule",
            )
        return self._verdict(power_w, in_force_w)

    def start(self) -> None:
        """Start a transaction at 0 W and wait until the charger has told of it."""
        self._require_commandable("start")
        if self._transaction() is not None:
            return
        config = self._config
        status = self._link.state().statuses.get(config.connector)
        if status is not None and status.status == "Available":
            raise DeviceError("has no vehicle; plug one in before start()", code="NotPlugged", device=self._device)
        answer = self._call(
            "RemoteStartTransaction",
            {
                "connectorId": config.connector,
                "idTag": config.id_tag,
                "chargingProfile": _profile(_SETPOINT_PROFILE_ID, "TxProfile", 0.0, stack_level=1),
            },
        )
        self._require_accepted(answer, "RemoteStartTransaction")
        self._setpoint_w = 0.0
        self._renew_at_s = math.inf
        self._wait_for(
            lambda state: state.running_transaction(config.connector) is not None, config.start_s, "StartTransaction"
        )

    def stop(self) -> None:
        """End the transaction and wait until the charger has told of it; does nothing when none runs."""
        self._require_commandable("stop")
        transaction = self._transaction()
        if transaction is None:
            return
        self._renew_at_s = math.inf
        self._setpoint_w = 0.0
        answer = self._call("RemoteStopTransaction", {"transactionId": transaction.transaction_id})
        self._require_accepted(answer, "RemoteStopTransaction")
        self._wait_for(
            lambda state: state.running_transaction(self._config.connector) is None,
            self._config.start_s,
            "StopTransaction",
        )

    def arm_watchdog(self, timeout_s: float) -> float:
        """Lay 0 W under all set-points, prove that a profile runs out onto it, and return the proven time in seconds.

        Whole seconds are all that a profile's duration can carry, so the time is rounded up. Raises LimitError outside
        1 to `max_watchdog_s`, DeviceError when the charger refuses or its schedule does not fall to 0 W.
        """
        self._require_commandable("arm_watchdog")
        if not 1.0 <= timeout_s <= self._config.max_watchdog_s:
            raise LimitError(
                f"{self._device}: a watchdog of {timeout_s:g} s is outside 1 to {self._config.max_watchdog_s:g} s"
            )
        watchdog_s = math.ceil(timeout_s)
        self._install(_profile(_DEFAULT_PROFILE_ID, "TxDefaultProfile", 0.0, stack_level=0), "0 W default")
        self._watchdog_s = watchdog_s
        transaction = self._transaction()
        if transaction is not None:
            self._send_setpoint(self._setpoint_w or _PROOF_W, transaction)
            _, ends_s = self._composite()
            self._send_setpoint(self._setpoint_w, transaction)
        else:
            self._install(self._timed(_PROOF_PROFILE_ID, "TxDefaultProfile", _PROOF_W), "proof")
            try:
                _, ends_s = self._composite()
            finally:
                self._call("ClearChargingProfile", {"id": _PROOF_PROFILE_ID})
        if ends_s is None or ends_s > watchdog_s:
            self._watchdog_s = 0
            raise DeviceError(
                f"does not fall to 0 W after {watchdog_s} s; open it with 'watchdog: none' or not at all",
                code="NoExpiry",
                device=self._device,
                sent="GetCompositeSchedule",
            )
        return float(watchdog_s)

    def feed_watchdog(self) -> None:
        """Renew the set-point when less than half of its time is left; costs nothing otherwise."""
        self._require_open("feed_watchdog")
        if self._clock.mono_s < self._renew_at_s:
            return
        transaction = self._transaction()
        if transaction is None:
            self._renew_at_s = math.inf
            return
        status = self._send_setpoint(self._setpoint_w, transaction)
        if status != "Accepted":
            raise DeviceError("refused to renew its set-point", code=status, device=self._device)

    def safe_state(self) -> None:
        """0 W and stop; both are tried, the first failure is raised when both are through."""
        self._require_open("safe_state")
        transaction = self._transaction()
        if transaction is None:
            return
        failure: BenchError | None = None
        try:
            self._send_setpoint(0.0, transaction)
            self._setpoint_w = 0.0
        except BenchError as error:
            failure = error
        try:
            self.stop()
        except BenchError as error:
            failure = failure or error
        if failure is not None:
            raise failure

    # Profiles

    def _send_setpoint(self, power_w: float, transaction: Transaction) -> str:
        """Install the TxProfile; returns the charger's word. A set-point of 0 W needs no end."""
        if self._watchdog_s and power_w != 0.0:
            profile = self._timed(_SETPOINT_PROFILE_ID, "TxProfile", power_w)
            self._renew_at_s = self._clock.mono_s + 0.5 * self._watchdog_s
        else:
            profile = _profile(_SETPOINT_PROFILE_ID, "TxProfile", power_w, stack_level=1)
            self._renew_at_s = math.inf
        profile["transactionId"] = transaction.transaction_id
        answer = self._call(
            "SetChargingProfile", {"connectorId": self._config.connector, "csChargingProfiles": profile}
        )
        return text(answer, "status")

    def _timed(self, profile_id: int, purpose: str, power_w: float) -> dict[str, Json]:
        # Rounded down to the stamp's millisecond: a start that lies ahead would not be in force yet.
        start_utc_s = math.floor(self._clock.utc_s * 1000.0) / 1000.0
        return _profile(
            profile_id, purpose, power_w, stack_level=1, start_utc_s=start_utc_s, duration_s=self._watchdog_s
        )

    def _install(self, profile: Payload, what: str) -> None:
        payload: Payload = {"connectorId": self._config.connector, "csChargingProfiles": profile}
        self._require_accepted(self._call("SetChargingProfile", payload), f"SetChargingProfile ({what})")

    def _composite(self) -> tuple[float, int | None]:
        """Limit in force now, and the seconds after which the schedule falls to 0 W for good (None: it does not)."""
        answer = self._call(
            "GetCompositeSchedule",
            {"connectorId": self._config.connector, "duration": self._watchdog_s + 5, "chargingRateUnit": "W"},
        )
        self._require_accepted(answer, "GetCompositeSchedule")
        if "chargingSchedule" not in answer:
            raise DeviceError("accepted GetCompositeSchedule but gave no schedule", code="Empty", device=self._device)
        periods = members(member(answer, "chargingSchedule"), "chargingSchedulePeriod")
        if not periods:
            raise DeviceError("gave a schedule without a period", code="Empty", device=self._device)
        last = periods[-1]
        ends_s = integer(last, "startPeriod") if number(last, "limit") == 0.0 else None
        return number(periods[0], "limit"), ends_s

    def _verdict(self, power_w: float, in_force_w: float) -> SetPower:
        if abs(in_force_w - power_w) <= _RESOLUTION_W:
            return SetPower(power_w, power_w)
        rating_w = self._config.max_charge_w if power_w > 0.0 else -self._config.max_discharge_w
        by_rating = abs(in_force_w - rating_w) <= _RESOLUTION_W
        return SetPower(power_w, in_force_w, ClampedBy.CHARGER if by_rating else ClampedBy.PROFILE)

    # The charger's own set-up

    def _take_command(self) -> None:
        """Let profiles command a charger that would otherwise only be bounded by them."""
        answer = self._call("GetConfiguration", {"key": [_COMMAND_KEY]})
        for entry in members(answer, "configurationKey"):
            if text(entry, "key") == _COMMAND_KEY and text(entry, "value", "") != "true":
                self._former_command = text(entry, "value", "")
                change: Payload = {"key": _COMMAND_KEY, "value": "true"}
                self._require_accepted(self._call("ChangeConfiguration", change), f"ChangeConfiguration {_COMMAND_KEY}")

    def _give_back(self) -> None:
        for profile_id in (_PROOF_PROFILE_ID, _SETPOINT_PROFILE_ID, _DEFAULT_PROFILE_ID):
            self._call("ClearChargingProfile", {"id": profile_id})
        if self._former_command:
            self._call("ChangeConfiguration", {"key": _COMMAND_KEY, "value": self._former_command})

    # The link

    def _require_open(self, what: str) -> None:
        if not self._is_open:
            raise NotOpenError(f"charger {self._device!r} is closed; {what}() needs it open")

    def _require_commandable(self, what: str) -> None:
        self._require_open(what)
        if self._config.read_only:
            raise ConfigError(f"charger {self._device!r} was opened read-only; {what}() would command it")

    def _state(self, what: str) -> ChargePointState:
        self._require_open(what)
        return self._link.state()

    def _transaction(self) -> Transaction | None:
        return self._link.state().running_transaction(self._config.connector)

    def _call(self, action: str, payload: Payload) -> Payload:
        try:
            return self._link.call(action, payload, self._config.reply_s)
        except DeviceCallError as error:
            raise error.of_device(self._device) from error

    def _wait_for(self, condition: Callable[[ChargePointState], bool], timeout_s: float, what: str) -> ChargePointState:
        try:
            return self._link.wait_for(condition, timeout_s, what)
        except DeviceCallError as error:
            raise error.of_device(self._device) from error

    def _require_accepted(self, answer: Payload, asked: str) -> None:
        status = text(answer, "status")
        if status != "Accepted":
            raise DeviceError(f"refused {asked}", code=status, device=self._device, sent=asked)

    def _fresh(self, former: MeterValues | None) -> ChargePointState:
        """Ask for MeterValues and wait for them; a charger that will not gives what there is, by its age stale."""
        connector = self._config.connector
        seen = 0 if former is None else former.sequence
        payload: Payload = {"requestedMessage": "MeterValues", "connectorId": connector}
        try:
            answer = self._call("TriggerMessage", payload)
        except DeviceError as error:
            _log.info("%s: no MeterValues on request: %s", self._device, error)
            return self._link.state()
        if text(answer, "status") != "Accepted":
            return self._link.state()
        try:
            return self._wait_for(
                lambda state: connector in state.meter_values and state.meter_values[connector].sequence > seen,
                self._config.reply_s,
                "MeterValues",
            )
        except LinkTimeout as error:
            _log.warning("%s: MeterValues were promised but did not come: %s", self._device, error)
            return self._link.state()


class _Readings:
    """Readings made of one set of MeterValues, all of one time and quality."""

    def __init__(self, device: str, clock: SessionClock, values: MeterValues | None, stale_after_s: float) -> None:
        self._device = device
        self._values = values
        self._mono_s = clock.mono_s if values is None else values.mono_s
        self._utc_s = clock.utc_s if values is None else values.utc_s
        stale = values is not None and clock.mono_s - values.mono_s > stale_after_s
        self._quality = Quality.STALE if stale else Quality.GOOD

    def all(self, state: ChargerState, faults: tuple[str, ...]) -> ChargerReadings:
        dc_current = self._signed("dc_current", "A", "Current", "Outlet")
        dc_voltage = self._plain("dc_voltage", "V", "Voltage", "Outlet")
        return ChargerReadings(
            state=state,
            ac_power=self._signed("ac_power", "W", "Power.Active", "Inlet", "Outlet"),
            dc_power=self._product("dc_power", "W", dc_voltage, dc_current),
            dc_voltage=dc_voltage,
            dc_current=dc_current,
            soc=self._plain("soc", "%", "SoC"),
            import_energy=self._plain("import_energy", "Wh", "Energy.Active.Import.Register", "Inlet", "Outlet"),
            export_energy=self._plain("export_energy", "Wh", "Energy.Active.Export.Register", "Inlet", "Outlet"),
            grid_voltage=self._plain("grid_voltage", "V", "Voltage", "Inlet"),
            grid_frequency=self._plain("grid_frequency", "Hz", "Frequency"),
            cabinet_temperature=self._plain("cabinet_temperature", "degC", "Temperature", "Body"),
            faults=faults,
        )

    def _plain(self, quantity: str, unit: str, measurand: str, *locations: str) -> Reading:
        value = None if self._values is None else self._values.value(measurand, *locations)
        return self._reading(quantity, unit, value)

    def _signed(self, quantity: str, unit: str, measurand: str, *locations: str) -> Reading:
        """Import minus export: the sign is turned here, once. One direction alone stands for itself."""
        if self._values is None:
            return self._reading(quantity, unit, None)
        taken = self._values.value(f"{measurand}.Import", *locations)
        given = self._values.value(f"{measurand}.Export", *locations)
        if taken is None and given is None:
            return self._reading(quantity, unit, None)
        return self._reading(quantity, unit, (taken or 0.0) - (given or 0.0))

    def _product(self, quantity: str, unit: str, first: Reading, second: Reading) -> Reading:
        if not (first.is_good and second.is_good):
            return self._reading(quantity, unit, None)
        reading = self._reading(quantity, unit, first.value * second.value)
        return reading._replace(quality=Quality.ESTIMATED)

    def _reading(self, quantity: str, unit: str, value: float | None) -> Reading:
        source = f"{self._device}.{quantity}"
        if value is None or math.isnan(value):
            return missing(unit, self._mono_s, self._utc_s, source)
        return Reading(value, unit, self._mono_s, self._utc_s, source, self._quality)


def _charger_state(state: ChargePointState, connector: int, values: MeterValues | None) -> ChargerState:
    status = state.statuses.get(connector)
    if status is None or not state.connected:
        return ChargerState.UNKNOWN
    if status.status != "Charging":
        return _STATES.get(status.status, ChargerState.UNKNOWN)
    given = None if values is None else values.value("Power.Active.Export", "Inlet", "Outlet")
    return ChargerState.DISCHARGING if given else ChargerState.CHARGING


def _faults(state: ChargePointState) -> tuple[str, ...]:
    codes = {
        status.vendor_error_code or status.error_code
        for status in state.statuses.values()
        if status.error_code != "NoError"
    }
    return tuple(sorted(codes))


def _profile(
    profile_id: int,
    purpose: str,
    limit_w: float,
    *,
    stack_level: int,
    start_utc_s: float | None = None,
    duration_s: int | None = None,
) -> dict[str, Json]:
    """One charging profile with one period; absolute with a start, else relative to the session."""
    schedule: dict[str, Json] = {
        "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": round(limit_w, 1)}],
    }
    if duration_s is not None:
        schedule["duration"] = duration_s
    if start_utc_s is not None:
        schedule["startSchedule"] = stamp(start_utc_s)
    return {
        "chargingProfileId": profile_id,
        "stackLevel": stack_level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Relative" if start_utc_s is None else "Absolute",
        "chargingSchedule": schedule,
    }


_: type[Charger] = OcppCharger
