"""The charger's OCPP 1.6J face: a charge point with one connector.

It acts on the same `ChargerTwin` as the Modbus face, so it follows what happens there: a session that a Modbus
controller starts becomes a transaction as well. Three things keep it calm:

- All messages leave through one queue, in the order of what they tell (Preparing, StartTransaction, Charging …). Those
  that belong to a transaction stay in it until they are delivered, as section 4.10 of OCPP 1.6 asks; others are dropped
  when there is no link, and the present status is told again on reconnection.
- Time is the session clock's. Heartbeats, meter samples, time-outs and the expiry of charging profiles are judged after
  each step of the site (`Site.after_step`), so simulated hours behave like real ones. Only the pause before a
  reconnection is wall time, and in stepped time nothing reconnects by itself: a lost link stays lost and visible.
- Whatever it sends is counted (`ServiceLoop.spawn`) before the step or the answer that caused it ends.

Charging profiles bound the charger or command it: see `twins.charger.profiles` and the key `ProfileIsSetpoint`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from drivers.errors import BenchError, ConfigError, DeviceError, LinkError, LinkRefused
from drivers.ocpp.connection import (
    CLOSE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Handler,
    OcppConnection,
    message_ids,
)
from drivers.ocpp.payload import Json, Payload, integer, member, stamp, text, texts
from drivers.roles import WireTrace, no_trace
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin, Clamp, CommandRefused, SessionState
from twins.charger.profiles import (
    NOMINAL_VOLTAGE_V,
    InForce,
    Profile,
    ProfileRejected,
    ProfileStore,
    Purpose,
)
from twins.faces.ocpp_keys import POWER_WITHOUT_PROFILE, PROFILE_IS_SETPOINT, Configuration
from twins.faces.ocpp_samples import sampled_values
from twins.site import Site

_CONNECTOR: Final = 1
_LONGEST_TAG: Final = 20  # IdToken is CiString20
_NEVER: Final = float("inf")
_MOST_MESSAGES: Final = 5_000  # a day without a link at one sample a minute is 1,440
_LONGEST_COMPOSITE_S: Final = 7 * 86_400
_BOOT_RETRY_S: Final = 60.0
_STOP_REASONS: Final = frozenset(
    {"EmergencyStop", "EVDisconnected", "HardReset", "Local", "Other", "PowerLoss", "Reboot", "Remote", "SoftReset"}
    | {"UnlockCommand", "DeAuthorized"}
)
_STATUSES: Final[Mapping[SessionState, str]] = {
    SessionState.AVAILABLE: "Available",
    SessionState.PLUGGED: "Preparing",
    SessionState.AUTHORISED: "Preparing",
    SessionState.FINISHING: "Finishing",
    SessionState.FAULTED: "Faulted",
    SessionState.UNAVAILABLE: "Unavailable",
}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Transaction:
    id_tag: str
    start_utc_s: float
    begin_values: Payload
    transaction_id: int | None = None  # known when StartTransaction was answered


@dataclass(slots=True)
class _Message:
    action: str
    build: Callable[[], Payload | None]  # at the moment of sending; None when there is nothing to tell any more
    answered: Callable[[Payload], None] | None = None
    kept: bool = False  # belongs to a transaction
    attempts: int = 0


class ChargePointFace:
    """A charge point on `url`/`identity`; a context manager on the bench thread.

    `stepped`: open fails unless the central system accepts the link, and nothing reconnects by itself; otherwise the
    link is kept up in the background. `profile_commands` is the first value of the key `ProfileIsSetpoint`.
    `password` is sent as HTTP basic authentication with the identity as user. `local_id_tag` stands in
    StartTransaction for a session that was started without a tag, over Modbus.
    """

    def __init__(
        self,
        charger: ChargerTwin,
        site: Site,
        loop: ServiceLoop,
        *,
        url: str,
        identity: str,
        password: str | None = None,
        vendor: str = "AME",
        model: str = "V2G 3P10 twin",
        firmware: str = "1.0",
        stepped: bool = True,
        profile_commands: bool = False,
        local_id_tag: str = "LOCAL",
        connect_timeout_s: float = 5.0,
        call_timeout_s: float = 10.0,
        ping_interval_s: float | None = None,
        reconnect_first_s: float = 1.0,
        reconnect_most_s: float = 60.0,
        trace: WireTrace = no_trace,
    ) -> None:
        self._charger = charger
        self._site = site
        self._loop = loop
        self._url = f"{url.rstrip('/')}/{quote(identity, safe='')}"
        self._identity = identity
        self._password = password
        self._boot_payload: Payload = {
            "chargePointVendor": vendor,
            "chargePointModel": model,
            "chargePointSerialNumber": charger.serial[:25],
            "firmwareVersion": firmware,
        }
        self._stepped = stepped
        self._local_id_tag = local_id_tag
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._ping_interval_s = ping_interval_s
        self._reconnect_first_s = reconnect_first_s
        self._reconnect_most_s = reconnect_most_s
        self._trace = trace
        self._ids = message_ids()
        self._handlers: Mapping[str, Handler] = {
            "ChangeAvailability": self._change_availability,
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": self._clear_cache,
            "ClearChargingProfile": self._clear_charging_profile,
            "DataTransfer": self._data_transfer,
            "GetCompositeSchedule": self._get_composite_schedule,
            "GetConfiguration": self._get_configuration,
            "RemoteStartTransaction": self._remote_start,
            "RemoteStopTransaction": self._remote_stop,
            "Reset": self._reset,
            "SetChargingProfile": self._set_charging_profile,
            "TriggerMessage": self._trigger_message,
            "UnlockConnector": self._unlock_connector,
        }
        self.profiles = ProfileStore()
        self.configuration = Configuration(
            max_profiles=self.profiles.max_profiles,
            max_stack_level=self.profiles.max_stack_level,
            max_periods=self.profiles.max_periods,
            profile_commands=profile_commands,
        )
        # Everything below is touched by the bench thread and the loop's thread, under the site's lock.
        self._link: OcppConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._registered = False
        self._outbox: deque[_Message] = deque()
        self._sending = False
        self._restart_next = False
        self._retry_at_s = 0.0
        self._next_boot_s = _NEVER
        self._next_heartbeat_s = _NEVER
        self._next_sample_s = _NEVER
        self._transaction: _Transaction | None = None
        self._seen_sessions = charger.session_count
        self._waiting_tag: tuple[str, float] | None = None
        self._start_profile: Profile | None = None
        self._out_of_service_next = False
        self._told: dict[int, tuple[str, str]] = {}
        self._applied_revision = -1
        self._profiles_until_utc_s = -_NEVER

    def __enter__(self) -> Self:
        self._site.after_step.append(self._after_step)
        try:
            if self._stepped:
                self.reconnect()
            else:
                self._loop.call(self._start_keeper)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the link and stop; may be called twice."""
        if self._after_step in self._site.after_step:
            self._site.after_step.remove(self._after_step)
            self._loop.run(self._shut(), 2.0 * CLOSE_TIMEOUT_S + 1.0)

    @property
    def is_connected(self) -> bool:
        """Whether the link is up and the central system has accepted the charge point."""
        link = self._link
        return link is not None and link.is_open and self._registered

    def reconnect(self) -> None:
        """Open the link and wait until the central system has answered the first messages; from the bench thread.

        Raises LinkRefused when nobody accepts it.
        """
        self._loop.run(self._connect(), self._connect_timeout_s + self._call_timeout_s + 1.0)
        if self._stepped:
            self._loop.activity.wait_quiet(self._call_timeout_s)

    def present_tag(self, id_tag: str) -> None:
        """Hold a card to the reader: starts a session once the central system authorises it, or stops its own."""
        if not 0 < len(id_tag) <= _LONGEST_TAG:
            raise ConfigError(f"tag {id_tag!r} cannot be read: OCPP 1.6 tags have 1 to {_LONGEST_TAG} characters")
        with self._site.lock:
            if self._transaction is not None and self._transaction.id_tag == id_tag:
                self._charger.stop("Local")
                self._observe()
            else:
                self._request_start(id_tag, authorise=True)
            self._kick()
        if self._stepped:
            self._loop.activity.wait_quiet(self._call_timeout_s)

    # The link

    def _start_keeper(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected(), name=f"{self._identity} link")

    async def _keep_connected(self) -> None:
        pause_s = self._reconnect_first_s
        while True:
            try:
                await self._connect()
            except (LinkError, DeviceError) as error:
                _log.warning("%s; next try in %g s", error, pause_s)
            if self._reader is not None:
                pause_s = self._reconnect_first_s
                await self._reader
                self._reader = None
            await asyncio.sleep(pause_s)
            pause_s = min(2.0 * pause_s, self._reconnect_most_s)

    async def _connect(self) -> None:
        headers = {}
        if self._password is not None:
            token = base64.b64encode(f"{self._identity}:{self._password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        try:
            socket = await connect(
                self._url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers=headers,
                compression=None,
                proxy=None,
                open_timeout=self._connect_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=self._ping_interval_s,
                ping_timeout=self._ping_interval_s,
                max_size=MAX_MESSAGE_BYTES,
            )
        except InvalidURI as error:
            raise ConfigError(f"{self._url!r} is no WebSocket address; it should begin with ws:// or wss://") from error
        except InvalidStatus as error:
            raise LinkRefused(
                f"the central system answered HTTP {error.response.status_code}; check identity and password",
                device=self._identity,
                sent=self._url,
            ) from error
        except (OSError, InvalidHandshake) as error:
            raise LinkRefused(f"no central system there ({error})", device=self._identity, sent=self._url) from error
        link = OcppConnection(
            socket,
            peer="the central system",
            handlers=self._handlers,
            loop=self._loop,
            ids=self._ids,
            call_timeout_s=self._call_timeout_s,
            trace=self._trace,
            on_fault=self._fault,
        )
        if socket.subprotocol != SUBPROTOCOL:
            await link.close(1002, "subprotocol ocpp1.6 is needed")
            raise LinkRefused("the central system does not speak ocpp1.6", device=self._identity, sent=self._url)
        with self._site.lock:
            self._link = link
            self._told.clear()
        self._reader = asyncio.get_running_loop().create_task(self._read(link), name=f"{self._identity} reader")
        try:
            if self._registered:
                self._tell_all()
            else:
                await self._register()
        except BenchError:
            await link.close(1001, "registration failed")
            raise

    async def _read(self, link: OcppConnection) -> None:
        reason = await link.serve()
        with self._site.lock:
            lost = self._link is link
            if lost:
                self._link = None
        if lost:
            self._fault(f"link closed {reason}")

    async def _shut(self) -> None:
        keeper, self._keeper = self._keeper, None
        reader, self._reader = self._reader, None
        with self._site.lock:
            link, self._link = self._link, None
        if keeper is not None:
            keeper.cancel()
        if link is not None:
            await link.close(1001, "charge point closes")
        pending = [task for task in (keeper, reader) if task is not None]
        if pending:
            await asyncio.wait(pending, timeout=CLOSE_TIMEOUT_S)

    async def _register(self) -> None:
        link = self._link
        if link is None:
            return
        answer = await link.call("BootNotification", self._boot_payload)
        interval_s = integer(answer, "interval")
        with self._site.lock:
            now_s = self._site.clock.mono_s
            self._registered = text(answer, "status") == "Accepted"
            if self._registered:
                if interval_s > 0:
                    self.configuration.change("HeartbeatInterval", str(interval_s))
                self._next_boot_s = _NEVER
                self._next_heartbeat_s = now_s + self._interval_s("HeartbeatInterval")
            else:
                self._next_boot_s = now_s + (interval_s if interval_s > 0 else _BOOT_RETRY_S)
        if self._registered:
            self._tell_all()

    async def _register_again(self) -> None:
        try:
            await self._register()
        except (LinkError, DeviceError) as error:
            self._fault(f"BootNotification failed: {error}")
            with self._site.lock:
                self._next_boot_s = self._site.clock.mono_s + _BOOT_RETRY_S

    def _tell_all(self) -> None:
        with self._site.lock:
            self._retry_at_s = 0.0
            self._observe()
            self._kick()

    def _fault(self, reason: str) -> None:
        _log.warning("charge point %s: %s", self._identity, reason)

    # What goes out

    def _after_step(self) -> None:
        with self._site.lock:
            self._observe()
            now_s = self._site.clock.mono_s
            if now_s >= self._next_sample_s:
                interval_s = self._interval_s("MeterValueSampleInterval")
                following_s = self._next_sample_s + interval_s
                self._next_sample_s = following_s if following_s > now_s else now_s + interval_s
                self._send_meter_values("Sample.Periodic", kept=True)
            if now_s >= self._next_heartbeat_s:
                self._next_heartbeat_s = now_s + self._interval_s("HeartbeatInterval")
                self._send("Heartbeat", {})
            if now_s >= self._next_boot_s:
                self._next_boot_s = _NEVER
                self._loop.spawn(self._register_again(), f"{self._identity} registers")
            if self._waiting_tag is not None and now_s >= self._waiting_tag[1]:
                self._waiting_tag = None
                self._start_profile = None
            if self._outbox:
                self._kick()

    def _interval_s(self, key: str) -> float:
        return self.configuration.seconds(key) or _NEVER

    def _observe(self) -> None:
        """Tell what changed at the charger since the last look; under the site's lock."""
        charger = self._charger
        if self._waiting_tag is not None and charger.state is SessionState.PLUGGED:
            id_tag, _ = self._waiting_tag
            self._waiting_tag = None
            self._start_session(id_tag)
        if charger.session_count != self._seen_sessions:
            self._seen_sessions = charger.session_count
            self._end_transaction()
            self._begin_transaction()
        if self._transaction is not None and charger.state is not SessionState.RUNNING:
            self._end_transaction()
        if self._out_of_service_next and charger.state is not SessionState.RUNNING:
            self._out_of_service_next = False
            self._set_available(False)
        self._apply_profiles()
        self._tell_status()

    def _begin_transaction(self) -> None:
        now_utc_s = self._site.clock.utc_s
        id_tag = (self._charger.id_tag or self._local_id_tag)[:_LONGEST_TAG]
        begin_values = self._meter_value("Transaction.Begin", self._transaction_measurands())
        transaction = _Transaction(id_tag, now_utc_s, begin_values)
        self._transaction = transaction
        if self._start_profile is not None:
            self.profiles.install(_CONNECTOR, self._start_profile)
            self._start_profile = None
        self._profiles_until_utc_s = -_NEVER
        self._next_sample_s = self._site.clock.mono_s + self._interval_s("MeterValueSampleInterval")
        payload: Payload = {
            "connectorId": _CONNECTOR,
            "idTag": transaction.id_tag,
            "meterStart": round(self._charger.meter.import_wh),
            "timestamp": stamp(now_utc_s),
        }

        def answered(answer: Payload) -> None:
            transaction.transaction_id = integer(answer, "transactionId")
            status = text(member(answer, "idTagInfo"), "status")
            invalid = status != "Accepted" and self.configuration.flag("StopTransactionOnInvalidId")
            if invalid and self._transaction is transaction:
                self._charger.stop("DeAuthorized")
                self._observe()

        self._send("StartTransaction", payload, answered=answered, kept=True)

    def _end_transaction(self) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        self._transaction = None
        self._next_sample_s = _NEVER
        self.profiles.clear(purpose=Purpose.TX)
        reason = self._charger.stop_reason
        end_values = self._meter_value("Transaction.End", self._transaction_measurands())
        payload: dict[str, Json] = {
            "meterStop": round(self._charger.meter.import_wh),
            "timestamp": stamp(self._site.clock.utc_s),
            "reason": reason if reason in _STOP_REASONS else "Other",
            "idTag": transaction.id_tag,
            "transactionData": [transaction.begin_values, end_values],
        }

        def build() -> Payload | None:
            if transaction.transaction_id is None:
                self._fault("StopTransaction dropped: its StartTransaction was never accepted")
                return None
            return {**payload, "transactionId": transaction.transaction_id}

        self._enqueue(_Message("StopTransaction", build, kept=True))

    def _transaction_measurands(self) -> Sequence[str]:
        return self.configuration.words("StopTxnSampledData")

    def _send_meter_values(self, context: str, *, kept: bool) -> None:
        transaction = self._transaction
        value = self._meter_value(context, self.configuration.words("MeterValuesSampledData"))

        def build() -> Payload:
            payload: dict[str, Json] = {"connectorId": _CONNECTOR, "meterValue": [value]}
            if transaction is not None and transaction.transaction_id is not None:
                payload["transactionId"] = transaction.transaction_id
            return payload

        self._enqueue(_Message("MeterValues", build, kept=kept))

    def _meter_value(self, context: str, measurands: Sequence[str]) -> Payload:
        samples = sampled_values(self._charger, measurands, context)
        return {"timestamp": stamp(self._site.clock.utc_s), "sampledValue": samples}

    def _status(self) -> tuple[str, str]:
        """Status and vendor error code of the connector."""
        charger = self._charger
        if charger.state is not SessionState.RUNNING:
            return _STATUSES[charger.state], ",".join(charger.fault_codes)
        if charger.allocated.power_w != 0.0:
            return "Charging", ""
        return ("SuspendedEV" if charger.allocated.clamped_by is Clamp.VEHICLE else "SuspendedEVSE"), ""

    def _tell_status(self) -> None:
        if self._link is None or not self._registered:
            return
        status, code = self._status()
        whole = (status if status in {"Faulted", "Unavailable"} else "Available", code)
        if self._told.get(0) != whole:
            self._send_status(0, whole)
        if self._told.get(_CONNECTOR) != (status, code):
            self._send_status(_CONNECTOR, (status, code))

    def _send_status(self, connector: int, status: tuple[str, str]) -> None:
        self._told[connector] = status
        word, code = status
        payload: dict[str, Json] = {
            "connectorId": connector,
            "errorCode": "OtherError" if code else "NoError",
            "status": word,
            "timestamp": stamp(self._site.clock.utc_s),
        }
        if code:
            payload["vendorErrorCode"] = code[:50]
        self._send("StatusNotification", payload)

    def _send(
        self, action: str, payload: Payload, *, answered: Callable[[Payload], None] | None = None, kept: bool = False
    ) -> None:
        self._enqueue(_Message(action, lambda: payload, answered, kept))

    def _enqueue(self, message: _Message) -> None:
        if not message.kept and (self._link is None or not self._registered):
            self._fault(f"{message.action} dropped: the central system does not listen")
            return
        if len(self._outbox) >= _MOST_MESSAGES:
            droppable = next((held for held in list(self._outbox)[1:] if held.action == "MeterValues"), None)
            if droppable is None:
                self._fault(f"{message.action} dropped: {_MOST_MESSAGES} messages wait for the link already")
                return
            self._outbox.remove(droppable)
        self._outbox.append(message)

    def _kick(self) -> None:
        """Start sending what waits, counted, unless that is under way; under the site's lock."""
        if self._sending or not (self._may_send() or self._restart_next):
            return
        self._sending = True
        self._loop.spawn(self._send_all(), f"{self._identity} sends")

    def _may_send(self) -> bool:
        ready = self._registered and self._link is not None and self._link.is_open
        return ready and bool(self._outbox) and self._site.clock.mono_s >= self._retry_at_s

    async def _send_all(self) -> None:
        while True:
            with self._site.lock:
                if not self._may_send() and not self._restart_next:
                    self._sending = False
                    return
                link, message = self._link, self._outbox[0] if self._may_send() else None
                payload = None if message is None else message.build()
            if link is None or message is None:
                # What tells the end of a session went out first; what could not be told stays in the queue.
                self._restart_next = False
                await self._restart()
                continue
            if payload is None:
                self._settle(message)
                continue
            try:
                answer = await link.call(message.action, payload)
            except LinkError as error:
                self._not_delivered(message, error)
            except DeviceError as error:
                self._refused(message, error)
            except BaseException:
                self._settle(message)
                self._sending = False
                raise
            else:
                self._settle(message)
                if message.answered is not None:
                    with self._site.lock:
                        message.answered(answer)

    def _settle(self, message: _Message) -> None:
        with self._site.lock:
            if message in self._outbox:
                self._outbox.remove(message)

    def _not_delivered(self, message: _Message, error: LinkError) -> None:
        self._fault(f"{message.action} not delivered: {error}")
        if message.kept:
            self._retry_later(1)
        else:
            self._settle(message)

    def _refused(self, message: _Message, error: DeviceError) -> None:
        message.attempts += 1
        self._fault(f"{message.action} refused: {error}")
        if message.kept and message.attempts < self.configuration.seconds("TransactionMessageAttempts"):
            self._retry_later(message.attempts)
        else:
            self._settle(message)

    def _retry_later(self, attempts: int) -> None:
        # Section 4.10 with 9.1.30: the pause grows with each attempt.
        pause_s = attempts * self.configuration.seconds("TransactionMessageRetryInterval")
        with self._site.lock:
            self._retry_at_s = self._site.clock.mono_s + max(1.0, pause_s)

    # Sessions

    def _request_start(self, id_tag: str, *, authorise: bool) -> None:
        if not authorise:
            self._start_session(id_tag)
            return

        def answered(answer: Payload) -> None:
            status = text(member(answer, "idTagInfo"), "status")
            if status == "Accepted":
                self._start_session(id_tag)
                self._observe()
            else:
                self._start_profile = None
                self._fault(f"tag {id_tag!r} was not authorised: {status}")

        self._send("Authorize", {"idTag": id_tag}, answered=answered)

    def _start_session(self, id_tag: str) -> None:
        charger = self._charger
        if charger.state is SessionState.AVAILABLE:
            self._waiting_tag = (id_tag, self._site.clock.mono_s + self._interval_s("ConnectionTimeOut"))
            return
        try:
            if charger.state is not SessionState.RUNNING:
                charger.authorise(id_tag)
            charger.start(id_tag)
        except CommandRefused as refusal:
            self._start_profile = None
            self._fault(f"session not started: {refusal.reason}")

    def _set_available(self, available: bool) -> None:
        try:
            self._charger.set_available(available)
        except CommandRefused as refusal:
            self._fault(f"availability not changed: {refusal.reason}")

    # Charging profiles

    def _apply_profiles(self) -> None:
        now_utc_s = self._site.clock.utc_s
        if now_utc_s < self._profiles_until_utc_s and self._applied_revision == self.profiles.revision:
            return
        in_force = self._in_force(now_utc_s)
        self._applied_revision = self.profiles.revision
        self._profiles_until_utc_s = in_force.until_utc_s
        charger = self._charger
        low_w, high_w = in_force.bounds_w()
        charger.set_profile(max(low_w, -charger.max_discharge_w), min(high_w, charger.max_charge_w))
        if self.configuration.flag(PROFILE_IS_SETPOINT):
            charger.command_by_profile(in_force.command_w(self._default_w()))
        else:
            charger.command_by_profile(None)

    def _in_force(self, now_utc_s: float) -> InForce:
        return self.profiles.in_force(now_utc_s, self._session_start_utc_s(now_utc_s))

    def _session_start_utc_s(self, now_utc_s: float) -> float:
        return now_utc_s if self._transaction is None else self._transaction.start_utc_s

    def _default_w(self) -> float:
        """What holds where no profile does: the vendor key's power where profiles command, else the rating."""
        if self.configuration.flag(PROFILE_IS_SETPOINT):
            return self.configuration.watts(POWER_WITHOUT_PROFILE)
        return self._charger.max_charge_w

    async def _set_charging_profile(self, payload: Payload) -> Payload:
        connector = integer(payload, "connectorId")
        with self._site.lock:
            try:
                profile = Profile.from_payload(member(payload, "csChargingProfiles"))
                self._check_profile(connector, profile)
                self.profiles.install(connector, profile)
            except ProfileRejected as rejected:
                self._fault(f"charging profile rejected: {rejected}")
                return {"status": "Rejected"}
            self._observe()
            self._kick()
        return {"status": "Accepted"}

    def _check_profile(self, connector: int, profile: Profile) -> None:
        if connector not in {0, _CONNECTOR}:
            raise ProfileRejected(f"there is no connector {connector}")
        if profile.purpose is not Purpose.TX:
            return
        if self._transaction is None:
            raise ProfileRejected("a TxProfile needs a running transaction")
        if profile.transaction_id not in {None, self._transaction.transaction_id}:
            raise ProfileRejected(f"transaction {profile.transaction_id} does not run on this connector")

    async def _clear_charging_profile(self, payload: Payload) -> Payload:
        with self._site.lock:
            removed = self.profiles.clear(
                profile_id=integer(payload, "id") if "id" in payload else None,
                connector=integer(payload, "connectorId") if "connectorId" in payload else None,
                purpose=Purpose(text(payload, "chargingProfilePurpose"))
                if "chargingProfilePurpose" in payload
                else None,
                stack_level=integer(payload, "stackLevel") if "stackLevel" in payload else None,
            )
            self._observe()
            self._kick()
        return {"status": "Accepted" if removed else "Unknown"}

    async def _get_composite_schedule(self, payload: Payload) -> Payload:
        connector = integer(payload, "connectorId")
        duration_s = min(integer(payload, "duration"), _LONGEST_COMPOSITE_S)
        unit = text(payload, "chargingRateUnit", "W")
        if connector not in {0, _CONNECTOR} or duration_s <= 0:
            return {"status": "Rejected"}
        charger = self._charger
        with self._site.lock:
            now_utc_s = self._site.clock.utc_s
            periods, covered_s = self.profiles.composite(
                now_utc_s, self._session_start_utc_s(now_utc_s), duration_s, default_w=self._default_w()
            )
        divisor = 3.0 * NOMINAL_VOLTAGE_V if unit == "A" else 1.0
        schedule: list[Json] = []
        for period in periods:
            limit_w = min(charger.max_charge_w, max(-charger.max_discharge_w, period.limit_w))
            schedule.append({"startPeriod": period.start_s, "limit": round(limit_w / divisor, 1)})
        return {
            "status": "Accepted",
            "connectorId": connector,
            "scheduleStart": stamp(now_utc_s),
            "chargingSchedule": {
                "duration": covered_s,
                "startSchedule": stamp(now_utc_s),
                "chargingRateUnit": unit,
                "chargingSchedulePeriod": schedule,
            },
        }

    # What the central system asks for

    async def _remote_start(self, payload: Payload) -> Payload:
        id_tag = text(payload, "idTag")
        with self._site.lock:
            busy = self._transaction is not None or self._waiting_tag is not None
            broken = self._charger.state in {SessionState.FAULTED, SessionState.UNAVAILABLE}
            if integer(payload, "connectorId", _CONNECTOR) != _CONNECTOR or busy or broken or not self._registered:
                return {"status": "Rejected"}
            self._start_profile = None
            if "chargingProfile" in payload:
                try:
                    profile = Profile.from_payload(member(payload, "chargingProfile"))
                except ProfileRejected as rejected:
                    self._fault(f"remote start refused, its profile is wrong: {rejected}")
                    return {"status": "Rejected"}
                if profile.purpose is not Purpose.TX or profile.stack_level > self.profiles.max_stack_level:
                    return {"status": "Rejected"}
                self._start_profile = profile
            self._request_start(id_tag, authorise=self.configuration.flag("AuthorizeRemoteTxRequests"))
            self._observe()
            self._kick()
        return {"status": "Accepted"}

    async def _remote_stop(self, payload: Payload) -> Payload:
        with self._site.lock:
            transaction = self._transaction
            if transaction is None or transaction.transaction_id != integer(payload, "transactionId"):
                return {"status": "Rejected"}
            self._charger.stop("Remote")
            self._observe()
            self._kick()
        return {"status": "Accepted"}

    async def _reset(self, payload: Payload) -> Payload:
        reason = f"{text(payload, 'type')}Reset"
        with self._site.lock:
            self._charger.stop(reason)
            self._observe()
            self._restart_next = True
            self._kick()
        return {"status": "Accepted"}

    async def _restart(self) -> None:
        with self._site.lock:
            link, self._link = self._link, None
            self._registered = False
            self._next_heartbeat_s = _NEVER
            self._waiting_tag = None
        if link is not None:
            await link.close(1012, "reset")
        if self._stepped:
            await self._connect()

    async def _trigger_message(self, payload: Payload) -> Payload:
        wanted = text(payload, "requestedMessage")
        if integer(payload, "connectorId", _CONNECTOR) not in {0, _CONNECTOR}:
            return {"status": "Rejected"}
        with self._site.lock:
            if wanted == "MeterValues":
                self._send_meter_values("Trigger", kept=False)
            elif wanted == "Heartbeat":
                self._send("Heartbeat", {})
            elif wanted == "StatusNotification":
                self._send_status(_CONNECTOR, self._status())
            elif wanted == "BootNotification":
                self._loop.spawn(self._register_again(), f"{self._identity} registers")
            else:
                return {"status": "NotImplemented"}
            self._kick()
        return {"status": "Accepted"}

    async def _get_configuration(self, payload: Payload) -> Payload:
        known, unknown = self.configuration.entries(texts(payload, "key"))
        return {"configurationKey": known, "unknownKey": unknown} if unknown else {"configurationKey": known}

    async def _change_configuration(self, payload: Payload) -> Payload:
        key = text(payload, "key")
        with self._site.lock:
            status = self.configuration.change(key, text(payload, "value"))
            if status == "Accepted":
                now_s = self._site.clock.mono_s
                if key == "MeterValueSampleInterval" and self._transaction is not None:
                    self._next_sample_s = now_s + self._interval_s(key)
                elif key == "HeartbeatInterval":
                    self._next_heartbeat_s = now_s + self._interval_s(key)
                self._applied_revision = -1  # the vendor keys change what profiles mean
                self._observe()
                self._kick()
        return {"status": status}

    async def _change_availability(self, payload: Payload) -> Payload:
        if integer(payload, "connectorId") not in {0, _CONNECTOR}:
            return {"status": "Rejected"}
        wanted = text(payload, "type") == "Operative"
        with self._site.lock:
            self._out_of_service_next = False
            if self._charger.state is SessionState.FAULTED:
                return {"status": "Rejected"}
            if self._charger.state is SessionState.RUNNING:
                self._out_of_service_next = not wanted
                return {"status": "Accepted" if wanted else "Scheduled"}
            self._set_available(wanted)
            self._observe()
            self._kick()
        return {"status": "Accepted"}

    async def _unlock_connector(self, payload: Payload) -> Payload:
        if integer(payload, "connectorId") != _CONNECTOR:
            return {"status": "NotSupported"}
        with self._site.lock:
            self._charger.stop("UnlockCommand")
            self._observe()
            self._kick()
        return {"status": "Unlocked"}

    async def _clear_cache(self, payload: Payload) -> Payload:  # noqa: ARG002  # the handlers' common signature
        return {"status": "Rejected"}  # there is no authorisation cache

    async def _data_transfer(self, payload: Payload) -> Payload:  # noqa: ARG002  # the handlers' common signature
        return {"status": "UnknownVendorId"}
