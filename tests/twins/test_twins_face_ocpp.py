"""The charge point over real WebSockets: a scripted central system for literal frames, our own for whole sessions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from drivers.clock import WallClock
from drivers.errors import BenchError, ConfigError, DeviceError, LinkRefused
from drivers.ocpp.link import ChargePointLink
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem, CsmsEvent
from twins.charger.charger import ChargerTwin, Clamp, SessionState
from twins.clock import SteppedClock
from twins.faces.ocpp import ChargePointFace
from twins.grid import LowVoltageGrid
from twins.measurement import generator
from twins.runner import SiteRunner
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire
EIGHT = 1_768_464_000.0  # 2026-01-15T08:00:00Z
OK = {"idTagInfo": {"status": "Accepted"}}


def make_site(clock: Any, *, soc_percent: float = 55.0) -> Site:
    van = Van("van", generator(7, "van"), soc_percent=soc_percent)
    charger = ChargerTwin("charger", generator(7, "charger"), van=van)
    return Site(clock, LowVoltageGrid("grid", generator(7, "grid")), charger)


def state_of(site: Site) -> SessionState:
    return site.charger.state


class Bench:
    """A charge point and our central system on one loop, in stepped time."""

    def __init__(self, loop: ServiceLoop, clock: SteppedClock, site: Site, csms: CentralSystem) -> None:
        self.loop = loop
        self.clock = clock
        self.site = site
        self.csms = csms
        self.link: ChargePointLink = csms.link("CP1")

    @property
    def charger(self) -> ChargerTwin:
        return self.site.charger

    def state(self) -> SessionState:
        return self.charger.state

    def step(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.site.step(1.0)
            self.loop.activity.wait_quiet(5.0)
            self.loop.raise_failures()

    def call(self, action: str, **payload: Any) -> dict[str, Any]:
        return dict(self.link.call(action, payload, 5.0))

    def plug_and_start(self) -> None:
        self.charger.plug_in()
        self.step()
        assert self.call("RemoteStartTransaction", idTag="BENCH", connectorId=1) == {"status": "Accepted"}
        self.step()
        assert self.state() is SessionState.RUNNING

    def profile(self, limit: float, *, purpose: str = "TxProfile", connector: int = 1, **more: Any) -> dict[str, Any]:
        schedule: dict[str, Any] = {
            "chargingRateUnit": "W",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
        }
        for key in ("duration", "startSchedule"):
            if key in more:
                schedule[key] = more.pop(key)
        profile = {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": purpose,
            "chargingProfileKind": "Absolute" if "startSchedule" in schedule or connector == 0 else "Relative",
            "chargingSchedule": schedule,
        }
        return self.call("SetChargingProfile", connectorId=connector, csChargingProfiles={**profile, **more})

    def told(self) -> list[CsmsEvent]:
        return self.csms.drain_events()


@contextmanager
def bench(**options: Any) -> Iterator[Bench]:
    clock = SteppedClock(EIGHT)
    site = make_site(clock)
    tags = {"BENCH", "CARD"}
    with (
        ServiceLoop() as loop,
        CentralSystem(loop, clock=clock, stepped=True, authorise=tags, heartbeat_interval_s=300) as csms,
        ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1", **options),
    ):
        yield Bench(loop, clock, site, csms)


def contents(events: list[CsmsEvent], kind: str) -> list[dict[str, Any]]:
    return [json.loads(event.content) for event in events if event.kind == kind]


def statuses(events: list[CsmsEvent]) -> list[str]:
    return [content["status"] for content in contents(events, "status") if content["connectorId"] == 1]


def test_a_charge_point_boots_and_tells_both_connectors_before_the_first_step() -> None:
    with bench() as it:
        events = it.told()
        assert [event.kind for event in events] == ["boot", "connected", "status", "status"]
        assert contents(events, "boot") == [
            {
                "chargePointVendor": "AME",
                "chargePointModel": "V2G 3P10 twin",
                "chargePointSerialNumber": "AME-V2G3P10-0001",
                "firmwareVersion": "1.0",
            }
        ]
        assert contents(events, "status")[1] == {
            "connectorId": 1,
            "errorCode": "NoError",
            "status": "Available",
            "timestamp": "2026-01-15T08:00:00.000Z",
        }


def test_a_whole_remote_session_discharging_by_a_negative_limit() -> None:
    with bench(profile_commands=True) as it:
        it.plug_and_start()
        assert it.profile(-5000.0) == {"status": "Accepted"}
        it.step(120)
        assert it.charger.ac_power_w == -5000.0
        transaction = it.link.state().running_transaction(1)
        assert transaction is not None
        assert transaction.id_tag == "BENCH"
        assert it.call("RemoteStopTransaction", transactionId=transaction.transaction_id) == {"status": "Accepted"}
        it.charger.unplug()
        it.step()
        events = it.told()
        assert statuses(events) == [
            "Available",
            "Preparing",
            "SuspendedEVSE",
            "Charging",
            "Finishing",
            "Available",
        ]
        assert contents(events, "authorize") == [{"idTag": "BENCH", "answer": "Accepted"}]
        sampled = contents(events, "meter_values")
        assert [content["meterValue"][0]["timestamp"] for content in sampled] == [
            "2026-01-15T08:01:01.000Z",
            "2026-01-15T08:02:01.000Z",
        ]
        values = {
            (sample["measurand"], sample["location"]): float(sample["value"])
            for sample in sampled[1]["meterValue"][0]["sampledValue"]
        }
        assert values["Power.Active.Import", "Inlet"] == 0.0
        assert values["Power.Active.Export", "Inlet"] == pytest.approx(5000.0, abs=80.0)
        assert values["Energy.Active.Export.Register", "Inlet"] == pytest.approx(5000.0 * 117.5 / 3600, rel=0.02)
        assert values["Current.Export", "Outlet"] == pytest.approx(5300.0 / values["Voltage", "Outlet"], rel=0.03)
        assert 50.0 < values["SoC", "EV"] < 55.5
        assert sampled[1]["transactionId"] == transaction.transaction_id
        (stop,) = contents(events, "stop")
        assert (stop["reason"], stop["idTag"]) == ("Remote", "BENCH")
        begin, end = stop["transactionData"]
        began_wh, ended_wh = (float(each["sampledValue"][1]["value"]) for each in (begin, end))
        assert 0.0 <= began_wh < 1.0
        assert ended_wh - began_wh == pytest.approx(5000.0 * 118.5 / 3600, rel=0.02)
        assert it.link.state().transactions[1].meter_stop_wh == stop["meterStop"]


def test_a_session_started_by_another_controller_becomes_a_transaction_too() -> None:
    with bench(local_id_tag="CARD") as it:
        it.charger.plug_in()
        it.charger.start()
        it.step()
        running = it.link.state().running_transaction(1)
        assert running is not None
        assert running.id_tag == "CARD"
        it.charger.stop()
        it.step()
        assert it.link.state().transactions[1].stop_reason == "Local"


def test_a_session_whose_tag_the_central_system_does_not_know_is_stopped() -> None:
    with bench() as it:
        it.charger.plug_in()
        it.charger.start()
        it.step()
        assert it.state() is SessionState.FINISHING
        ended = it.link.state().transactions[1]
        assert (ended.id_tag, ended.stop_reason) == ("LOCAL", "DeAuthorized")


def test_a_card_starts_and_stops_a_session_and_an_unknown_card_does_not() -> None:
    clock = SteppedClock(EIGHT)
    site = make_site(clock)
    with (
        ServiceLoop() as loop,
        CentralSystem(loop, clock=clock, stepped=True, authorise={"CARD"}) as csms,
        ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1") as face,
    ):
        site.charger.plug_in()
        face.present_tag("NOBODY")
        assert state_of(site) is SessionState.PLUGGED
        face.present_tag("CARD")
        assert state_of(site) is SessionState.RUNNING
        face.present_tag("CARD")
        assert csms.link("CP1").state().transactions[1].stop_reason == "Local"
        with pytest.raises(ConfigError, match="1 to 20 characters"):
            face.present_tag("x" * 21)
        loop.raise_failures()


def test_a_remote_start_without_a_vehicle_waits_for_the_plug_and_then_gives_up() -> None:
    with bench() as it:
        assert it.call("RemoteStartTransaction", idTag="BENCH") == {"status": "Accepted"}
        assert it.call("RemoteStartTransaction", idTag="BENCH") == {"status": "Rejected"}
        it.step(30)
        it.charger.plug_in()
        it.step()
        assert it.state() is SessionState.RUNNING
        it.charger.unplug()
        it.step()
        assert it.link.state().transactions[1].stop_reason == "EVDisconnected"
        assert it.call("RemoteStartTransaction", idTag="BENCH") == {"status": "Accepted"}
        it.step(61)
        it.charger.plug_in()
        it.step()
        assert it.state() is SessionState.PLUGGED


def test_the_watchdog_over_ocpp_expires_to_zero_watts_in_session_time() -> None:
    with bench(profile_commands=True) as it:
        it.plug_and_start()
        it.profile(0.0, purpose="TxDefaultProfile", chargingProfileId=1)
        start = "2026-01-15T08:00:02.000Z"  # now: two steps were made
        more: dict[str, Any] = {"chargingProfileId": 2, "stackLevel": 1, "duration": 10, "startSchedule": start}
        assert it.profile(8000.0, **more) == {"status": "Accepted"}
        it.step(10)
        assert it.charger.ac_power_w == 8000.0
        it.step(1)  # second 12 is the first whole second after the end
        assert it.charger.allocated.power_w == 0.0
        it.step(1)
        assert it.charger.ac_power_w == 0.0
        it.step(3600)
        assert it.charger.ac_power_w == 0.0


def test_a_profile_bounds_the_set_point_of_another_controller_and_is_named() -> None:
    with bench() as it:
        it.plug_and_start()
        it.charger.set_setpoint(8000.0)
        it.step(5)
        assert it.charger.ac_power_w == 8000.0
        it.profile(6000.0)
        it.step(2)
        assert (it.charger.allocated.power_w, it.charger.allocated.clamped_by) == (6000.0, Clamp.PROFILE)
        it.charger.set_setpoint(-9000.0)
        it.step(10)
        assert (it.charger.allocated.power_w, it.charger.allocated.clamped_by) == (-6000.0, Clamp.PROFILE)
        it.charger.set_setpoint(-3000.0)
        it.step(2)
        assert (it.charger.allocated.power_w, it.charger.allocated.clamped_by) == (-3000.0, Clamp.NOBODY)
        it.profile(-2000.0)
        it.step(2)
        assert (it.charger.allocated.power_w, it.charger.allocated.clamped_by) == (-2000.0, Clamp.PROFILE)
        it.charger.set_setpoint(4000.0)
        it.step(2)
        assert (it.charger.allocated.power_w, it.charger.allocated.clamped_by) == (0.0, Clamp.PROFILE)
        it.profile(0.0, purpose="ChargePointMaxProfile", connector=0, chargingProfileId=9)
        it.charger.set_setpoint(-4000.0)
        it.step(2)
        assert it.charger.allocated.power_w == 0.0


def test_a_transaction_profile_ends_with_its_transaction() -> None:
    with bench() as it:
        assert it.profile(5000.0) == {"status": "Rejected"}  # no transaction yet
        it.plug_and_start()
        assert it.profile(5000.0, transactionId=99) == {"status": "Rejected"}
        assert it.profile(5000.0, transactionId=1) == {"status": "Accepted"}
        it.call("RemoteStopTransaction", transactionId=1)
        assert it.call("ClearChargingProfile", id=1) == {"status": "Unknown"}
        assert (it.charger.profile_min_w, it.charger.profile_max_w) == (-10_000.0, 10_000.0)


def test_a_profile_in_remote_start_holds_from_the_first_moment() -> None:
    with bench(profile_commands=True) as it:
        it.charger.plug_in()
        schedule = {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 3000.0}]}
        profile = {
            "chargingProfileId": 5,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": schedule,
        }
        assert it.call("RemoteStartTransaction", idTag="BENCH", chargingProfile=profile) == {"status": "Accepted"}
        assert it.charger.profile_command_w == 3000.0
        wrong = {**profile, "chargingProfilePurpose": "TxDefaultProfile"}
        it.call("RemoteStopTransaction", transactionId=1)
        assert it.call("RemoteStartTransaction", idTag="BENCH", chargingProfile=wrong) == {"status": "Rejected"}


def test_the_composite_schedule_tells_what_will_be_in_force() -> None:
    with bench(profile_commands=True) as it:
        it.plug_and_start()
        it.profile(4000.0, purpose="TxDefaultProfile", chargingProfileId=1)
        start = "2026-01-15T08:00:02.000Z"
        it.profile(-7000.0, chargingProfileId=2, stackLevel=1, duration=30, startSchedule=start)
        it.step(10)
        answer = it.call("GetCompositeSchedule", connectorId=1, duration=60, chargingRateUnit="W")
        assert answer == {
            "status": "Accepted",
            "connectorId": 1,
            "scheduleStart": "2026-01-15T08:00:12.000Z",
            "chargingSchedule": {
                "duration": 60,
                "startSchedule": "2026-01-15T08:00:12.000Z",
                "chargingRateUnit": "W",
                "chargingSchedulePeriod": [
                    {"startPeriod": 0, "limit": -7000.0},
                    {"startPeriod": 20, "limit": 4000.0},
                ],
            },
        }
        amperes = it.call("GetCompositeSchedule", connectorId=1, duration=60, chargingRateUnit="A")
        assert amperes["chargingSchedule"]["chargingSchedulePeriod"][1] == {"startPeriod": 20, "limit": 5.8}
        assert it.call("GetCompositeSchedule", connectorId=2, duration=60) == {"status": "Rejected"}


def test_without_a_profile_a_commanding_charge_point_waits_unless_its_key_says_otherwise() -> None:
    with bench(profile_commands=True) as it:
        it.plug_and_start()
        it.step(5)
        assert it.charger.ac_power_w == 0.0
        assert it.call("ChangeConfiguration", key="PowerWithoutProfile", value="3700") == {"status": "Accepted"}
        it.step(5)
        assert it.charger.ac_power_w == 3700.0


def test_configuration_is_read_changed_refused_and_unknown() -> None:
    with bench() as it:
        answer = it.call("GetConfiguration", key=["MeterValueSampleInterval", "Nonsense"])
        assert answer == {
            "configurationKey": [{"key": "MeterValueSampleInterval", "readonly": False, "value": "60"}],
            "unknownKey": ["Nonsense"],
        }
        keys = [entry["key"] for entry in it.call("GetConfiguration")["configurationKey"]]
        assert keys == sorted(keys)
        assert {"HeartbeatInterval", "NumberOfConnectors", "ChargeProfileMaxStackLevel"} <= set(keys)
        change = [
            ("MeterValueSampleInterval", "10", "Accepted"),
            ("MeterValueSampleInterval", "-1", "Rejected"),
            ("MeterValueSampleInterval", "soon", "Rejected"),
            ("MeterValuesSampledData", "SoC,Voltage", "Accepted"),
            ("MeterValuesSampledData", "SoC,Moonlight", "Rejected"),
            ("NumberOfConnectors", "2", "Rejected"),
            ("Nonsense", "1", "NotSupported"),
        ]
        for key, value, status in change:
            assert it.call("ChangeConfiguration", key=key, value=value) == {"status": status}
        it.plug_and_start()
        it.told()
        it.step(30)
        sampled = contents(it.told(), "meter_values")
        assert len(sampled) == 3
        measurands = [sample["measurand"] for sample in sampled[0]["meterValue"][0]["sampledValue"]]
        assert measurands == ["Voltage", "Voltage", "SoC"]


def test_messages_are_triggered() -> None:
    with bench() as it:
        it.told()
        for message in ("MeterValues", "Heartbeat", "StatusNotification", "BootNotification"):
            assert it.call("TriggerMessage", requestedMessage=message) == {"status": "Accepted"}
        assert it.call("TriggerMessage", requestedMessage="FirmwareStatusNotification") == {"status": "NotImplemented"}
        assert it.call("TriggerMessage", requestedMessage="MeterValues", connectorId=3) == {"status": "Rejected"}
        events = it.told()
        assert [event.kind for event in events] == ["boot", "heartbeat", "meter_values", "status"]
        assert contents(events, "meter_values")[0]["meterValue"][0]["sampledValue"][0]["context"] == "Trigger"


def test_heartbeats_follow_session_time() -> None:
    with bench() as it:
        it.step(900)
        beats = [event.mono_s for event in it.told() if event.kind == "heartbeat"]
        assert beats == [300.0, 600.0, 900.0]


@pytest.mark.parametrize("kind", ["Soft", "Hard"])
def test_a_reset_ends_the_transaction_and_boots_again(kind: str) -> None:
    with bench() as it:
        it.plug_and_start()
        it.told()
        assert it.call("Reset", type=kind) == {"status": "Accepted"}
        events = it.told()
        assert contents(events, "stop")[0]["reason"] == f"{kind}Reset"
        assert [event.kind for event in events].count("boot") == 1
        assert {"connected", "disconnected"} <= {event.kind for event in events}
        assert it.link.state().connected
        assert it.link.state().statuses[1].status == "Finishing"
        it.step()


def test_availability_changes_at_once_or_when_the_session_is_over() -> None:
    with bench() as it:
        assert it.call("ChangeAvailability", connectorId=0, type="Inoperative") == {"status": "Accepted"}
        assert it.link.state().statuses[1].status == "Unavailable"
        assert it.link.state().statuses[0].status == "Unavailable"
        assert it.call("RemoteStartTransaction", idTag="BENCH") == {"status": "Rejected"}
        assert it.call("ChangeAvailability", connectorId=1, type="Operative") == {"status": "Accepted"}
        it.plug_and_start()
        assert it.call("ChangeAvailability", connectorId=1, type="Inoperative") == {"status": "Scheduled"}
        assert it.charger.state is SessionState.RUNNING
        it.call("RemoteStopTransaction", transactionId=1)
        assert it.link.state().statuses[1].status == "Unavailable"
        assert it.call("ChangeAvailability", connectorId=7, type="Operative") == {"status": "Rejected"}


def test_a_fault_is_told_with_its_code() -> None:
    with bench() as it:
        it.plug_and_start()
        it.told()
        it.charger.raise_fault("MREC4")
        it.step()
        events = it.told()
        faulted = contents(events, "status")[-1]
        assert (faulted["status"], faulted["errorCode"], faulted["vendorErrorCode"]) == (
            "Faulted",
            "OtherError",
            "MREC4",
        )
        assert contents(events, "stop")[0]["reason"] == "EmergencyStop"
        it.charger.clear_faults()
        it.step()
        assert statuses(it.told()) == ["Preparing"]


def test_unlocking_stops_the_session() -> None:
    with bench() as it:
        it.plug_and_start()
        assert it.call("UnlockConnector", connectorId=2) == {"status": "NotSupported"}
        assert it.call("UnlockConnector", connectorId=1) == {"status": "Unlocked"}
        assert it.link.state().transactions[1].stop_reason == "UnlockCommand"


def test_actions_of_absent_feature_profiles_are_not_supported() -> None:
    with bench() as it:
        with pytest.raises(DeviceError) as caught:
            it.call("GetLocalListVersion")
        assert caught.value.code == "NotSupported"
        assert it.call("ClearCache") == {"status": "Rejected"}
        assert it.call("DataTransfer", vendorId="x") == {"status": "UnknownVendorId"}


def session_events() -> list[CsmsEvent]:
    with bench(profile_commands=True) as it:
        it.call("ChangeConfiguration", key="MeterValueSampleInterval", value="2")
        it.plug_and_start()
        for second in range(20):
            if second % 4 == 0:
                it.profile(-1000.0 * second - 500.0)
            it.step()
        it.call("RemoteStopTransaction", transactionId=1)
        it.step()
        return it.told()


def test_the_same_twenty_steps_give_the_same_events_each_time() -> None:
    first = session_events()
    assert len(first) > 20
    for _ in range(3):
        assert session_events() == first


def test_opening_without_a_central_system_is_refused_in_stepped_time() -> None:
    site = make_site(SteppedClock(EIGHT))
    with ServiceLoop() as loop:
        with (
            pytest.raises(LinkRefused, match="no central system there"),
            ChargePointFace(site.charger, site, loop, url="ws://127.0.0.1:9", identity="CP1"),
        ):
            pass
        with (
            pytest.raises(ConfigError, match="should begin with ws://"),
            ChargePointFace(site.charger, site, loop, url="http://127.0.0.1:9", identity="CP1"),
        ):
            pass
    assert site.after_step == []


def test_a_wrong_password_is_named_and_a_right_one_opens() -> None:
    clock = SteppedClock(EIGHT)
    site = make_site(clock)
    with ServiceLoop() as loop, CentralSystem(loop, clock=clock, passwords={"CP1": "sesame"}) as csms:
        with (
            pytest.raises(LinkRefused, match="HTTP 401; check identity and password"),
            ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1", password="open"),
        ):
            pass
        with ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1", password="sesame") as face:
            assert face.is_connected


class ScriptedCsms:
    """A central system made of literal answers by action; keeps every frame that came in."""

    def __init__(self, loop: ServiceLoop, answers: dict[str, list[Any]]) -> None:
        self._loop = loop
        self.answers = answers
        self.calls: list[tuple[str, Any]] = []
        self.others: list[Any] = []
        self.links_ended = 0
        self._server: Server | None = None
        self._sockets: list[ServerConnection] = []

    def __enter__(self) -> Self:
        async def open_server() -> Server:
            return await serve(
                self._serve,
                "127.0.0.1",
                0,
                subprotocols=[Subprotocol("ocpp1.6")],
                close_timeout=1.0,
                ping_interval=None,
            )

        self._server = self._loop.run(open_server(), 5.0)
        return self

    def __exit__(self, *_: object) -> None:
        async def shut() -> None:
            assert self._server is not None
            self._server.close()
            await asyncio.wait_for(self._server.wait_closed(), 3.0)

        self._loop.run(shut(), 5.0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def _serve(self, socket: ServerConnection) -> None:
        self._sockets.append(socket)
        try:
            while True:
                frame = json.loads(await socket.recv())
                if frame[0] != 2:
                    self.others.append(frame)
                    continue
                _, message_id, action, payload = frame
                self.calls.append((action, payload))
                script = self.answers[action]
                answer = script.pop(0) if len(script) > 1 else script[0]
                if isinstance(answer, str):
                    await socket.send(f'[4,"{message_id}","{answer}","no",{{}}]')
                else:
                    await socket.send(json.dumps([3, message_id, answer]))
        except ConnectionClosed:
            self.links_ended += 1

    def send(self, frame: str) -> None:
        async def tell() -> None:
            await self._sockets[-1].send(frame)

        self._loop.run(tell(), 5.0)

    def drop(self) -> None:
        async def abort() -> None:
            self._sockets[-1].transport.abort()

        self._loop.run(abort(), 5.0)

    def wait(self, count: int) -> list[Any]:
        deadline = time.monotonic() + 5.0
        while len(self.others) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.others


NOW = {"currentTime": "2026-01-15T08:00:00Z"}
ANSWERS: dict[str, list[Any]] = {
    "BootNotification": [{"status": "Accepted", "interval": 300, **NOW}],
    "StatusNotification": [{}],
    "Authorize": [OK],
    "StartTransaction": [{"transactionId": 42, **OK}],
    "StopTransaction": [{}],
    "MeterValues": [{}],
    "Heartbeat": [NOW],
}


@contextmanager
def scripted(**answers: list[Any]) -> Iterator[tuple[ScriptedCsms, Site, SteppedClock, ServiceLoop, ChargePointFace]]:
    clock = SteppedClock(EIGHT)
    site = make_site(clock)
    with (
        ServiceLoop() as loop,
        ScriptedCsms(loop, {**{key: list(value) for key, value in ANSWERS.items()}, **answers}) as csms,
        ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1") as face,
    ):
        yield csms, site, clock, loop, face


def steps(site: Site, clock: SteppedClock, loop: ServiceLoop, count: int) -> None:
    for _ in range(count):
        clock.advance(1.0)
        site.step(1.0)
        loop.activity.wait_quiet(5.0)
        loop.raise_failures()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('[2,"9","MakeCoffee",{}]', "NotImplemented"),
        ('[2,"9","ReserveNow",{}]', "NotSupported"),
        ('[2,"9","Reset",{}]', "ProtocolError"),
        ('[2,"9","Reset",{"type":"Gentle"}]', "PropertyConstraintViolation"),
        ('[2,"9","Reset",{"type":7}]', "TypeConstraintViolation"),
        ('[2,"9","Reset"]', "FormationViolation"),
    ],
)
def test_a_wrong_command_is_answered_with_its_code(frame: str, code: str) -> None:
    with scripted() as (csms, _, _, _, _):
        csms.send(frame)
        assert csms.wait(1)[0][:3] == [4, "9", code]


def test_a_literal_remote_start_is_accepted_and_reported_under_the_given_transaction() -> None:
    with scripted() as (csms, site, clock, loop, _):
        site.charger.plug_in()
        steps(site, clock, loop, 1)
        csms.send('[2,"77","RemoteStartTransaction",{"idTag":"T1","connectorId":1}]')
        assert csms.wait(1) == [[3, "77", {"status": "Accepted"}]]
        loop.activity.wait_quiet(5.0)
        assert [action for action, _ in csms.calls[-4:]] == [
            "StatusNotification",  # Preparing
            "Authorize",
            "StartTransaction",
            "StatusNotification",  # SuspendedEVSE
        ]
        assert csms.calls[-2][1] == {
            "connectorId": 1,
            "idTag": "T1",
            "meterStart": 0,
            "timestamp": "2026-01-15T08:00:01.000Z",
        }
        csms.send('[2,"78","RemoteStopTransaction",{"transactionId":41}]')
        assert csms.wait(2)[1] == [3, "78", {"status": "Rejected"}]
        csms.send('[2,"79","RemoteStopTransaction",{"transactionId":42}]')
        assert csms.wait(3)[2] == [3, "79", {"status": "Accepted"}]
        loop.activity.wait_quiet(5.0)
        assert dict(csms.calls)["StopTransaction"]["transactionId"] == 42


def test_a_pending_registration_is_asked_again_after_its_interval() -> None:
    pending = {"status": "Pending", "interval": 10, **NOW}
    boots = [pending, pending, {"status": "Accepted", "interval": 60, **NOW}]
    with scripted(BootNotification=boots) as (csms, site, clock, loop, face):
        registered = [face.is_connected]
        steps(site, clock, loop, 9)
        assert [action for action, _ in csms.calls] == ["BootNotification"]
        steps(site, clock, loop, 1)
        assert [action for action, _ in csms.calls] == ["BootNotification"] * 2
        steps(site, clock, loop, 10)
        registered.append(face.is_connected)
        assert registered == [False, True]
        assert [action for action, _ in csms.calls][3:] == ["StatusNotification"] * 2
        steps(site, clock, loop, 60)
        assert csms.calls[-1][0] == "Heartbeat"


def test_a_refused_transaction_message_is_tried_again_with_growing_pauses() -> None:
    answers = ["InternalError", "InternalError", {"transactionId": 42, **OK}]
    with scripted(StartTransaction=answers) as (csms, site, clock, loop, _):
        site.charger.plug_in()
        site.charger.start("T1")
        steps(site, clock, loop, 100)
        starts = [index for index, (action, _) in enumerate(csms.calls) if action == "StartTransaction"]
        assert len(starts) == 3
        payloads = [csms.calls[index][1] for index in starts]
        assert payloads[0] == payloads[1] == payloads[2]
        assert csms.calls[starts[2] + 1][0] in {"StatusNotification", "MeterValues"}


def test_messages_of_a_transaction_survive_a_lost_link_and_others_do_not() -> None:
    with scripted() as (csms, site, clock, loop, face):
        site.charger.plug_in()
        site.charger.start("T1")
        steps(site, clock, loop, 1)
        csms.drop()
        deadline = time.monotonic() + 5.0
        while face.is_connected and time.monotonic() < deadline:
            time.sleep(0.005)
        before = len(csms.calls)
        steps(site, clock, loop, 400)  # six samples, one heartbeat
        site.charger.unplug()
        steps(site, clock, loop, 1)
        assert len(csms.calls) == before
        face.reconnect()
        told = [action for action, _ in csms.calls[before:]]
        assert told == ["MeterValues"] * 6 + ["StopTransaction", "StatusNotification", "StatusNotification"]
        first = csms.calls[before][1]
        assert (first["transactionId"], first["meterValue"][0]["timestamp"]) == (42, "2026-01-15T08:01:01.000Z")


def test_on_the_wall_clock_the_link_comes_back_by_itself() -> None:
    clock = WallClock()
    site = make_site(clock)
    with (
        ServiceLoop() as loop,
        ScriptedCsms(loop, {key: list(value) for key, value in ANSWERS.items()}) as csms,
        SiteRunner(site, step_s=0.02) as runner,
        ChargePointFace(
            site.charger,
            site,
            loop,
            url=csms.url,
            identity="CP1",
            stepped=False,
            reconnect_first_s=0.05,
            reconnect_most_s=0.2,
        ) as face,
    ):
        wait_until(lambda: face.is_connected)
        csms.drop()
        wait_until(lambda: csms.links_ended == 1)
        wait_until(lambda: len(csms.calls) == 5)
        assert [action for action, _ in csms.calls] == ["BootNotification"] + ["StatusNotification"] * 4
        csms.send('[2,"1","Reset",{"type":"Hard"}]')
        wait_until(lambda: [action for action, _ in csms.calls].count("BootNotification") == 2)
        runner.raise_failure()
        loop.raise_failures()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError("it did not happen within 5 s")
        time.sleep(0.005)
