"""The central system against a raw WebSocket client: literal frames, faults, refusals, and a command to a stranger."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from drivers.clock import WallClock
from drivers.errors import ConfigError, DeviceError, LinkRefused, LinkTimeout
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem
from services.csms.console import parse_listen, serve
from twins.clock import SteppedClock

pytestmark = pytest.mark.wire
EIGHT = 1_768_464_000.0  # 2026-01-15T08:00:00Z
BOOT = '[2,"b","BootNotification",{"chargePointVendor":"VendorX","chargePointModel":"M1","firmwareVersion":"9"}]'


@pytest.fixture
def loop() -> Iterator[ServiceLoop]:
    with ServiceLoop("test") as service_loop:
        yield service_loop


@pytest.fixture
def csms(loop: ServiceLoop) -> Iterator[CentralSystem]:
    with CentralSystem(loop, clock=SteppedClock(EIGHT), authorise={"GOOD"}, heartbeat_interval_s=60) as system:
        yield system


@contextmanager
def charge_point(csms: CentralSystem, identity: str = "CP1", **options: Any) -> Iterator[ClientConnection]:
    options.setdefault("subprotocols", [Subprotocol("ocpp1.6")])
    with connect(
        f"{csms.url}/{identity}", open_timeout=5, close_timeout=2, compression=None, proxy=None, **options
    ) as ws:
        yield ws


def ask(ws: ClientConnection, frame: str) -> Any:
    ws.send(frame)
    return json.loads(ws.recv(timeout=5))


def kinds(csms: CentralSystem) -> list[str]:
    return [event.kind for event in csms.drain_events()]


def test_a_whole_transaction_in_literal_frames(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        assert ask(ws, BOOT) == [
            3,
            "b",
            {"status": "Accepted", "currentTime": "2026-01-15T08:00:00.000Z", "interval": 60},
        ]
        assert ask(ws, '[2,"h","Heartbeat",{}]') == [3, "h", {"currentTime": "2026-01-15T08:00:00.000Z"}]
        assert ask(ws, '[2,"a","Authorize",{"idTag":"GOOD"}]') == [3, "a", {"idTagInfo": {"status": "Accepted"}}]
        assert ask(ws, '[2,"x","Authorize",{"idTag":"BAD"}]') == [3, "x", {"idTagInfo": {"status": "Invalid"}}]
        status = '{"connectorId":1,"errorCode":"NoError","status":"Preparing","timestamp":"2026-01-15T08:00:01Z"}'
        assert ask(ws, f'[2,"s","StatusNotification",{status}]') == [3, "s", {}]
        start = '{"connectorId":1,"idTag":"GOOD","meterStart":1200,"timestamp":"2026-01-15T08:00:02Z"}'
        assert ask(ws, f'[2,"t","StartTransaction",{start}]') == [
            3,
            "t",
            {"transactionId": 1, "idTagInfo": {"status": "Accepted"}},
        ]
        sample = '{"value":"5.5","measurand":"Power.Active.Import","unit":"kW","location":"Inlet"}'
        values = f'[{{"timestamp":"2026-01-15T08:01:00Z","sampledValue":[{sample},{{"value":"1300"}}]}}]'
        meter = f'{{"connectorId":1,"transactionId":1,"meterValue":{values}}}'
        assert ask(ws, f'[2,"m","MeterValues",{meter}]') == [3, "m", {}]
        state = csms.link("CP1").state()
        transaction = state.running_transaction(1)
        assert transaction is not None
        assert (transaction.meter_start_wh, transaction.id_tag) == (1200, "GOOD")
        assert state.meter_values[1].value("Power.Active.Import") == 5500.0
        assert state.meter_values[1].value("Energy.Active.Import.Register", "Outlet") == 1300.0
        assert state.meter_values[1].value("SoC") is None
        assert state.meter_values[1].utc_s == EIGHT + 60.0
        stop = '{"transactionId":1,"meterStop":1500,"timestamp":"2026-01-15T08:30:00Z","reason":"Remote"}'
        assert ask(ws, f'[2,"e","StopTransaction",{stop}]') == [3, "e", {}]
        ended = csms.link("CP1").state().transactions[1]
        assert (ended.is_running, ended.meter_stop_wh, ended.stop_reason) == (False, 1500, "Remote")
        assert csms.link("CP1").state().statuses[1].status == "Preparing"
        assert kinds(csms) == sorted(
            ["authorize", "authorize", "boot", "connected", "heartbeat", "meter_values", "start", "status", "stop"]
        )


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('[2,"1","MakeCoffee",{}]', "NotImplemented"),
        ('[2,"1","RemoteStopTransaction",{"transactionId":1}]', "NotSupported"),
        ('[2,"1","SignCertificate",{"csr":"x"}]', "NotSupported"),
        ('[2,"1","Heartbeat"]', "FormationViolation"),
        ('[2,"1","Heartbeat",[]]', "FormationViolation"),
        ('[2,"1","Heartbeat",{"more":1}]', "FormationViolation"),
        ('[2,"1","Authorize",{}]', "ProtocolError"),
        ('[2,"1","Authorize",{"idTag":5}]', "TypeConstraintViolation"),
        ('[2,"1","Authorize",{"idTag":"123456789012345678901"}]', "PropertyConstraintViolation"),
        ('[2,"1","MeterValues",{"connectorId":1,"meterValue":[]}]', "OccurenceConstraintViolation"),
    ],
)
def test_a_wrong_call_is_answered_with_its_code_and_the_link_stays(csms: CentralSystem, frame: str, code: str) -> None:
    with charge_point(csms) as ws:
        answer = ask(ws, frame)
        assert answer[:3] == [4, "1", code]
        assert answer[3] != ""
        assert ask(ws, '[2,"2","Heartbeat",{}]')[0] == 3
    assert "fault" in kinds(csms)


@pytest.mark.parametrize("frame", ["hello", "[2,", "{}", "[]", '[2,5,"Heartbeat",{}]', '["2","1","Heartbeat",{}]'])
def test_a_frame_without_an_id_closes_the_link_with_1002_and_a_reason(csms: CentralSystem, frame: str) -> None:
    with charge_point(csms) as ws:
        ws.send(frame)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1002
    assert caught.value.rcvd.reason != ""
    with charge_point(csms) as ws:  # the central system is unharmed
        assert ask(ws, BOOT)[0] == 3


def test_an_oversized_message_closes_the_link_with_1009(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        ws.send('[2,"1","DataTransfer",{"vendorId":"v","data":"' + "x" * 300_000 + '"}]')
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    csms.link("CP1").wait_for(lambda state: not state.connected, 5.0, "end of the link")
    ends = [event.content for event in csms.drain_events() if event.kind == "disconnected"]
    assert "1009" in ends[0]


def test_a_flood_of_rubbish_whose_answers_are_not_read_ends_the_link(csms: CentralSystem) -> None:
    rubbish = '[2,"x","MakeCoffee",{"' + "y" * 200 + '":1}]'
    raw = socket.create_connection(("127.0.0.1", csms.port), timeout=5.0)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        head = f"GET /CP1 HTTP/1.1\r\nHost: localhost\r\n{key}Sec-WebSocket-Version: 13\r\n"
        raw.sendall(f"{head}Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n".encode())
        csms.link("CP1").wait_for(lambda state: state.connected, 5.0, "link")
        # One masked text frame (RFC 6455 section 5.2, mask 0), a hundred thousand times at most.
        frame = bytes([0x81, 0x80 | 126, len(rubbish) >> 8, len(rubbish) & 255, 0, 0, 0, 0]) + rubbish.encode()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                raw.sendall(frame * 100)
        csms.link("CP1").wait_for(lambda state: not state.connected, 10.0, "end of the link")
    assert any("answers are not being read" in event.content for event in csms.drain_events())


def test_a_binary_message_closes_the_link_with_1003(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        ws.send(b"\x00\x01")
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1003


def test_a_repeated_id_is_not_executed_twice(csms: CentralSystem) -> None:
    start = '{"connectorId":1,"idTag":"GOOD","meterStart":0,"timestamp":"2026-01-15T08:00:02Z"}'
    with charge_point(csms) as ws:
        assert ask(ws, f'[2,"same","StartTransaction",{start}]')[2]["transactionId"] == 1
        assert ask(ws, f'[2,"same","StartTransaction",{start}]')[:3] == [4, "same", "GenericError"]
        assert ask(ws, f'[2,"other","StartTransaction",{start}]')[2]["transactionId"] == 2


def test_an_answer_to_nobody_and_an_unknown_message_type_are_ignored_but_told(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        ws.send('[3,"ghost",{}]')
        ws.send('[4,"ghost","GenericError","",{}]')
        ws.send('[6,"1","NotifyPeriodicEventStream",{}]')
        assert ask(ws, '[2,"2","Heartbeat",{}]')[0] == 3
    faults = [event.content for event in csms.drain_events() if event.kind == "fault"]
    assert sum("nobody waits for" in fault for fault in faults) == 2
    assert sum("message type 6" in fault for fault in faults) == 1


def test_without_the_subprotocol_the_link_is_opened_and_closed(csms: CentralSystem) -> None:
    with charge_point(csms, subprotocols=None) as ws:
        assert ws.subprotocol is None
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1002


@pytest.mark.parametrize("path", ["", "a/b", "x" * 49, "%00"])
def test_a_path_that_is_no_identity_is_not_found(csms: CentralSystem, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught, charge_point(csms, path):
        pass
    assert caught.value.response.status_code == 404


def test_an_identity_may_be_percent_encoded(csms: CentralSystem) -> None:
    with charge_point(csms, "CP%201") as ws:
        assert ask(ws, BOOT)[0] == 3
    assert csms.identities() == ["CP 1"]


def test_basic_authentication_decides_when_passwords_are_given(loop: ServiceLoop) -> None:
    def header(pair: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    with CentralSystem(loop, clock=WallClock(), passwords={"CP1": "sesame"}) as csms:
        with charge_point(csms, additional_headers=header("CP1:sesame")) as ws:
            assert ask(ws, BOOT)[0] == 3
        for wrong in (None, header("CP1:other"), header("CP2:sesame"), {"Authorization": "Basic %%%"}):
            with pytest.raises(InvalidStatus) as caught, charge_point(csms, additional_headers=wrong):
                pass
            assert caught.value.response.status_code == 401
        with pytest.raises(InvalidStatus), charge_point(csms, "CP2", additional_headers=header("CP2:")):
            pass


def test_a_newer_connection_replaces_the_older(csms: CentralSystem) -> None:
    with charge_point(csms) as older, charge_point(csms) as newer:
        assert ask(newer, BOOT)[0] == 3
        with pytest.raises(ConnectionClosed) as caught:
            older.recv(timeout=5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        assert csms.link("CP1").state().connected
        assert ask(newer, '[2,"2","Heartbeat",{}]')[0] == 3


class Answering:
    """Calls the charge point in a thread, so that the test can play the charge point."""

    def __init__(self, csms: CentralSystem, action: str, payload: dict[str, Any], timeout_s: float) -> None:
        self.result: Any = None
        self._thread = threading.Thread(target=self._run, args=(csms, action, payload, timeout_s))
        self._thread.start()

    def _run(self, csms: CentralSystem, action: str, payload: dict[str, Any], timeout_s: float) -> None:
        try:
            self.result = csms.link("CP1").call(action, payload, timeout_s)
        except Exception as error:  # noqa: BLE001  # handed to the test
            self.result = error

    def join(self) -> Any:
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        return self.result


def test_a_command_is_sent_and_its_answer_returned(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        csms.link("CP1").wait_for(lambda state: state.connected, 5.0, "link")
        answering = Answering(csms, "Reset", {"type": "Soft"}, 5.0)
        assert ws.recv(timeout=5) == '[2,"1","Reset",{"type":"Soft"}]'
        ws.send('[3,"1",{"status":"Accepted"}]')
        assert answering.join() == {"status": "Accepted"}


def test_a_refused_command_raises_the_code_of_the_charge_point(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        csms.link("CP1").wait_for(lambda state: state.connected, 5.0, "link")
        answering = Answering(csms, "ClearCache", {}, 5.0)
        ws.recv(timeout=5)
        ws.send('[4,"1","NotSupported","no cache",{}]')
        error = answering.join()
    assert isinstance(error, DeviceError)
    assert error.code == "NotSupported"
    assert str(error).startswith("CP1: refused ClearCache: no cache")


def test_a_slow_charge_point_is_a_time_out(csms: CentralSystem) -> None:
    with charge_point(csms):
        link = csms.link("CP1")
        link.wait_for(lambda state: state.connected, 5.0, "link")
        with pytest.raises(LinkTimeout, match=r"CP1: no answer within 0\.2 s, after sending 'ClearCache'"):
            link.call("ClearCache", {}, 0.2)


def test_a_charge_point_that_goes_away_mid_call_is_a_refused_link(csms: CentralSystem) -> None:
    with charge_point(csms) as ws:
        csms.link("CP1").wait_for(lambda state: state.connected, 5.0, "link")
        answering = Answering(csms, "ClearCache", {}, 5.0)
        ws.recv(timeout=5)
        ws.socket.close()
        assert isinstance(answering.join(), LinkRefused)


def test_an_absent_charge_point_is_named() -> None:
    with ServiceLoop() as loop, CentralSystem(loop, clock=WallClock()) as csms:
        with pytest.raises(LinkRefused, match="CP9: is not connected"):
            csms.link("CP9").call("ClearCache", {}, 1.0)
        with pytest.raises(LinkTimeout, match="CP9: no BootNotification within"):
            csms.link("CP9").wait_for(lambda state: state.boot is not None, 0.1, "BootNotification")


def test_a_taken_port_is_refused_in_one_sentence(csms: CentralSystem, loop: ServiceLoop) -> None:
    with (
        pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"),
        CentralSystem(loop, clock=WallClock(), port=csms.port),
    ):
        pass


def test_events_come_in_canonical_order_and_once(csms: CentralSystem) -> None:
    with charge_point(csms, "B") as second, charge_point(csms, "A") as first:
        ask(second, BOOT)
        ask(first, BOOT)
        events = csms.drain_events()
    assert [(event.charge_point, event.kind) for event in events] == [
        ("A", "boot"),
        ("A", "connected"),
        ("B", "boot"),
        ("B", "connected"),
    ]
    assert {event.mono_s for event in events} == {0.0}


def test_the_console_writes_events_until_it_is_told_to_stop() -> None:
    lines: list[str] = []
    until = threading.Event()
    ready = threading.Event()

    def write(line: str) -> None:
        lines.append(line)
        ready.set()

    thread = threading.Thread(target=serve, args=("127.0.0.1:0", write), kwargs={"until": until})
    thread.start()
    try:
        assert ready.wait(5.0)
        url = lines[0].split()[6].removesuffix("/<identity>;")
        with connect(f"{url}/CP7", subprotocols=[Subprotocol("ocpp1.6")], proxy=None, close_timeout=2) as ws:
            assert ask(ws, BOOT)[0] == 3
    finally:
        until.set()
        thread.join(10.0)
    assert not thread.is_alive()
    assert any("CP7  boot  {" in line for line in lines)


@pytest.mark.parametrize("wrong", ["9000", "host:", ":9000", "host:port", "host:70000"])
def test_a_listen_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="no address to listen on"):
        parse_listen(wrong)
