"""Strangers speak OCPP 1.6J with us: ocpp-rpc (npm, strict mode) at both ends, and the stock `ocpp` of PyPI."""

# The stock library has no types; its decorators and base class are used here only, as a stranger.
# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import Action, AuthorizationStatus, RegistrationStatus
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from drivers.clock import WallClock
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem
from twins.charger.charger import ChargerTwin, SessionState
from twins.clock import SteppedClock
from twins.faces.ocpp import ChargePointFace
from twins.grid import LowVoltageGrid
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = [pytest.mark.peers, pytest.mark.wire]


class NodePeers(Protocol):
    def command(self, script: str, *arguments: str) -> list[str]: ...


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with process:
            yield process
            if process.poll() is None:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(10.0)
    finally:
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("password", ["", "sesame"])
def test_ocpp_rpc_in_strict_mode_runs_a_transaction_against_our_central_system(
    node_peers: NodePeers, password: str
) -> None:
    passwords = {"NODE-1": password} if password else None
    with (
        ServiceLoop() as loop,
        CentralSystem(loop, clock=WallClock(), authorise={"CARD"}, passwords=passwords) as csms,
        running(node_peers.command("ocpp_charge_point.js", csms.url, *([password] if password else []))) as process,
    ):
        link = csms.link("NODE-1")
        link.wait_for(lambda state: 1 in state.statuses, 20.0, "StatusNotification")
        answer = link.call("RemoteStartTransaction", {"idTag": "CARD", "connectorId": 1}, 5.0)
        assert answer == {"status": "Accepted"}
        state = link.wait_for(lambda state: state.running_transaction(1) is not None, 5.0, "StartTransaction")
        transaction = state.running_transaction(1)
        assert transaction is not None
        assert transaction.meter_start_wh == 100
        schedule = {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": -4900.5}]}
        profile: dict[str, Any] = {
            "chargingProfileId": 1,
            "transactionId": transaction.transaction_id,
            "stackLevel": 1,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": schedule,
        }
        link.call("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile}, 5.0)
        state = link.wait_for(lambda state: 1 in state.meter_values, 5.0, "MeterValues")
        assert state.meter_values[1].value("Power.Active.Export") == pytest.approx(4900.0)
        link.call("RemoteStopTransaction", {"transactionId": transaction.transaction_id}, 5.0)
        link.wait_for(lambda state: state.running_transaction(1) is None, 5.0, "StopTransaction")
        output, errors = process.communicate(timeout=10.0)
        assert process.returncode == 0, errors
        told = json.loads(output)
        assert told["breaches"] == []
        assert told["answers"]["StartTransaction"] == {
            "transactionId": transaction.transaction_id,
            "idTagInfo": {"status": "Accepted"},
        }
        assert told["asked"]["SetChargingProfile"]["csChargingProfiles"]["chargingSchedule"] == schedule
        assert told["refusal"] == {"status": "UnknownVendorId"}
        assert not [event for event in csms.drain_events() if event.kind == "fault"]


class Twin:
    """The charger twin at somebody's central system, stepped until something happened."""

    def __init__(self, loop: ServiceLoop, url: str) -> None:
        self.clock = SteppedClock(1_768_464_000.0)
        van = Van("van", generator(7, "van"), soc_percent=55.0)
        self.charger = ChargerTwin("charger", generator(7, "charger"), van=van)
        self.site = Site(self.clock, LowVoltageGrid("grid", generator(7, "grid")), self.charger)
        self.loop = loop
        self.face = ChargePointFace(self.charger, self.site, loop, url=url, identity="CP1", profile_commands=True)

    def state(self) -> SessionState:
        return self.charger.state

    def step_until_finished(self, most_s: int) -> None:
        """Step slowly: a stranger's reactions are not counted, so each step leaves it time to react."""
        self.charger.plug_in()
        for _ in range(most_s):
            self.clock.advance(1.0)
            self.site.step(1.0)
            self.loop.activity.wait_quiet(5.0)
            self.loop.run(asyncio.sleep(0.02), 1.0)
            self.loop.raise_failures()
            if self.state() is SessionState.FINISHING:
                return
        raise AssertionError(f"the stranger did not end the session; the charger is {self.state()}")


def test_a_strict_ocpp_rpc_server_drives_the_charger_twin_through_a_transaction(node_peers: NodePeers) -> None:
    with running(node_peers.command("ocpp_central_system.js")) as process, ServiceLoop() as loop:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        twin = Twin(loop, f"ws://127.0.0.1:{port}")
        with twin.face:
            twin.step_until_finished(120)
            loop.activity.wait_quiet(5.0)
            told = json.loads(process.stdout.readline())
        assert told["breaches"] == []
        methods = [entry["method"] for entry in told["told"]]
        assert methods[0] == "BootNotification"
        assert methods.count("MeterValues") == 2
        assert methods[-1] == "StopTransaction"
        assert told["commands"]["SetChargingProfile"] == {"status": "Accepted"}
        composite = told["commands"]["GetCompositeSchedule"]["chargingSchedule"]
        assert composite["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": -3000.5}]
        stop = told["told"][-1]["params"]
        assert (stop["transactionId"], stop["reason"], stop["idTag"]) == (77, "Remote", "STRANGER")
        exported_wh = float(stop["transactionData"][1]["sampledValue"][1]["value"])
        assert 10.0 < exported_wh < 30.0  # 3 kW for about 20 s
    assert process.returncode == 0


class StockCentralSystem(ChargePoint):
    """The stock library's side of one link, with its own schema validation."""

    def __init__(self, identity: str, socket: ServerConnection) -> None:
        super().__init__(identity, socket)
        self.told: list[str] = []
        self.exports_wh: list[float] = []

    @on(Action.boot_notification)
    def on_boot(self, **_: Any) -> call_result.BootNotification:
        self.told.append("BootNotification")
        now = datetime.now(UTC).isoformat()
        return call_result.BootNotification(current_time=now, interval=300, status=RegistrationStatus.accepted)

    @on(Action.status_notification)
    def on_status(self, **_: Any) -> call_result.StatusNotification:
        self.told.append("StatusNotification")
        return call_result.StatusNotification()

    @on(Action.authorize)
    def on_authorize(self, **_: Any) -> call_result.Authorize:
        return call_result.Authorize(id_tag_info=IdTagInfo(status=AuthorizationStatus.accepted))

    @on(Action.start_transaction)
    def on_start(self, **_: Any) -> call_result.StartTransaction:
        self.told.append("StartTransaction")
        return call_result.StartTransaction(
            transaction_id=5, id_tag_info=IdTagInfo(status=AuthorizationStatus.accepted)
        )

    @on(Action.meter_values)
    def on_meter_values(self, meter_value: list[dict[str, Any]], **_: Any) -> call_result.MeterValues:
        self.told.append("MeterValues")
        for sample in meter_value[0]["sampled_value"]:
            if sample["measurand"] == "Energy.Active.Export.Register":
                self.exports_wh.append(float(sample["value"]))
        return call_result.MeterValues()

    @on(Action.stop_transaction)
    def on_stop(self, **_: Any) -> call_result.StopTransaction:
        self.told.append("StopTransaction")
        return call_result.StopTransaction()


def test_the_stock_ocpp_library_accepts_the_charger_twin_for_a_whole_transaction() -> None:
    peers: list[StockCentralSystem] = []

    async def one(socket: ServerConnection) -> None:
        peers.append(StockCentralSystem("CP1", socket))
        await peers[0].start()

    async def open_server() -> Server:
        return await serve(one, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp1.6")], close_timeout=1.0)

    async def close_server(server: Server) -> None:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5.0)

    with ServiceLoop("stranger") as stranger, ServiceLoop() as loop:
        server = stranger.run(open_server(), 5.0)
        try:
            port = next(iter(server.sockets)).getsockname()[1]
            twin = Twin(loop, f"ws://127.0.0.1:{port}")
            with twin.face:
                peer = peers[0]
                twin.charger.plug_in()
                start = call.RemoteStartTransaction(id_tag="STOCK", connector_id=1)
                assert stranger.run(peer.call(start, suppress=False), 5.0).status == "Accepted"
                loop.activity.wait_quiet(5.0)
                profile: dict[str, Any] = {
                    "charging_profile_id": 1,
                    "stack_level": 0,
                    "charging_profile_purpose": "TxProfile",
                    "charging_profile_kind": "Relative",
                    "charging_schedule": {
                        "charging_rate_unit": "W",
                        "charging_schedule_period": [{"start_period": 0, "limit": -6000.5}],
                    },
                }
                command = call.SetChargingProfile(connector_id=1, cs_charging_profiles=profile)
                assert stranger.run(peer.call(command, suppress=False), 5.0).status == "Accepted"
                for _ in range(125):
                    twin.clock.advance(1.0)
                    twin.site.step(1.0)
                    loop.activity.wait_quiet(5.0)
                assert twin.charger.ac_power_w == -6000.5
                stop = call.RemoteStopTransaction(transaction_id=5)
                assert stranger.run(peer.call(stop, suppress=False), 5.0).status == "Accepted"
                loop.activity.wait_quiet(5.0)
            assert [word for word in peer.told if word != "StatusNotification"] == [
                "BootNotification",
                "StartTransaction",
                "MeterValues",
                "MeterValues",
                "StopTransaction",
            ]
            assert peer.exports_wh[1] - peer.exports_wh[0] == pytest.approx(100.0, rel=0.02)
        finally:
            stranger.run(close_server(server), 6.0)
