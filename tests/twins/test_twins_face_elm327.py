"""The ELM327 face: on a real socket and a real pty, with plain clients, python-OBD among them."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drivers.errors import ConfigError
from drivers.service_loop import ServiceLoop
from twins.faces.elm327 import Elm327Face, Elm327PtyFace
from twins.measurement import generator
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire

# The sequence that testers of this car send (OBDb/Nissan-Leaf, py-nissan-leaf-obd-ble).
LEAF_SET_UP = ("ATE0", "ATL0", "ATS0", "ATH1", "ATSP6", "ATSH79B", "ATFCSH79B", "ATFCSD300000", "ATFCSM1", "ATCRA7BB")


@pytest.fixture
def van() -> Van:
    van = Van("van", generator(7, "van"), soc_percent=55.0, soh_percent=97.0, ambient_c=22.0, odometer_km=48_210)
    van.bms.soc = 0.251648
    van.bms.plane.voltage_v = 337.0
    return van


@pytest.fixture
def loop() -> Iterator[ServiceLoop]:
    with ServiceLoop() as loop:
        yield loop


@pytest.fixture
def face(van: Van, loop: ServiceLoop) -> Iterator[Elm327Face]:
    with Elm327Face(van, threading.RLock(), loop) as face:
        yield face


class Terminal:
    """A person at a terminal program."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=2.0)

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r")
        return self.until_prompt()

    def until_prompt(self) -> str:
        answer = b""
        while not answer.endswith(b">"):
            data = self.socket.recv(4096)
            assert data, "the face closed the connection"
            answer += data
        return answer.decode()

    def lines(self, command: str) -> list[str]:
        return [line for line in self.ask(command)[:-1].split("\r") if line.strip()]


@contextmanager
def terminal(face: Elm327Face, *commands: str) -> Iterator[Terminal]:
    client = Terminal(face.address)
    try:
        for command in commands:
            assert client.lines(command)[-1] == "OK", command
        yield client
    finally:
        client.socket.close()


def test_after_power_on_it_echoes_and_says_who_it_is(face: Elm327Face) -> None:
    with terminal(face) as client:
        assert client.ask("ATZ") == "ATZ\r\r\rELM327 v1.5\r\r>"
        assert client.ask("ATE0") == "ATE0\rOK\r\r>"
        assert client.ask("ATI") == "ELM327 v1.5\r\r>"
        assert client.ask("AT @1") == "OBDII to RS232 Interpreter\r\r>"
        assert client.ask("at rv") == "13.2V\r\r>"
        assert client.ask("ATL1") == "OK\r\n\r\n>"


def test_the_sequence_of_the_leaf_testers_reads_the_pack(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP) as client:
        lines = client.lines("2101")
        assert lines[0].startswith("7BB10356101")  # 0x35 = 53 bytes
        assert [line[3:5] for line in lines] == ["10", "21", "22", "23", "24", "25", "26", "27"]
        assert lines[3].startswith("7BB2383A4")  # 337.00 V
        assert "03D700" in lines[4] + lines[5][5:]  # 25.1648 %
        assert lines[-1].endswith("FFFF")  # padding of the battery controller
        assert client.lines("2102")[0].startswith("7BB10C66102")  # 198 bytes
        assert client.lines("2104")[0].startswith("7BB10256104")  # 37 bytes
        assert client.lines("2106")[0].startswith("7BB101A6106")  # 26 bytes
        assert client.lines("2161")[0].startswith("7BB114B6161")  # 331 bytes


def test_the_vehicle_controller_answers_in_one_frame(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP, "ATSH797", "ATCRA79A") as client:
        assert client.lines("10C0") == ["79A0250C00000000000"]
        assert client.lines("221203") == ["79A0562120300030000"]
        assert client.lines("22FFFF") == ["79A037F223100000000"]


def test_no_control_unit_answers_a_standard_request(face: Elm327Face) -> None:
    with terminal(face, "ATE0", "ATSP6") as client:
        assert client.lines("0100") == ["NO DATA"]


def test_automatic_search_finds_no_protocol(face: Elm327Face) -> None:
    with terminal(face, "ATE0", "ATSP0") as client:
        assert client.lines("0100") == ["SEARCHING...", "UNABLE TO CONNECT"]
        assert client.lines("ATDPN") == ["A0"]
        client.ask("ATSP6")
        assert client.lines("ATDPN") == ["6"]
        assert client.lines("ATDP") == ["ISO 15765-4 (CAN 11/500)"]


def test_another_bus_speed_is_a_can_error(face: Elm327Face) -> None:
    with terminal(face, "ATE0", "ATTP8", "ATSH79B") as client:
        assert client.lines("2101") == ["CAN ERROR"]


def test_without_a_flow_control_header_only_the_first_frame_comes(face: Elm327Face) -> None:
    with terminal(face, "ATE0", "ATS0", "ATH1", "ATSP6", "ATSH79B") as client:
        lines = client.lines("2101")
        assert len(lines) == 1
        assert lines[0].startswith("7BB1035")
        # The unit still waits for its flow control, and drops what comes meanwhile.
        assert client.lines("2104") == ["NO DATA"]


def test_flow_control_in_blocks_brings_everything(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP, "ATFCSD30010A") as client:
        assert len(client.lines("2101")) == 8


def test_without_headers_long_replies_are_numbered(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP, "ATH0", "ATS1") as client:
        lines = client.lines("2104")
        assert lines[0] == "025"
        assert lines[1].startswith("0: 61 04 ")
        assert [line[0] for line in lines[1:]] == ["0", "1", "2", "3", "4", "5"]
        client.ask("ATSH797")
        client.ask("ATCRA79A")
        assert client.lines("221234") == ["62 12 34 00 "]


def test_without_formatting_the_tester_writes_the_length_itself(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP, "ATCAF0") as client:
        assert client.lines("022101")[0].startswith("7BB10356101")


def test_a_filter_keeps_other_senders_out(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP, "ATSH797") as client:
        assert client.lines("221234") == ["NO DATA"]  # 79A does not pass 7BB
        client.ask("ATCRA79X")
        assert client.lines("221234") == ["79A0462123400000000"]
        client.ask("ATCF7BA")
        client.ask("ATCM7FF")
        assert client.lines("221234") == ["NO DATA"]
        client.ask("ATCM7DE")  # the bits in which 79A and 7BB agree
        assert client.lines("221234") == ["79A0462123400000000"]


def test_a_digit_at_the_end_limits_the_replies(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP) as client:
        assert len(client.lines("21012")) == 2


def test_an_empty_line_repeats_the_last_command(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP) as client:
        first = client.lines("2106")
        assert client.lines("") == first


@pytest.mark.parametrize(
    "command",
    [
        "ATXYZ",
        "AT",
        "HELLO",
        "ATSH79",
        "ATSHXYZ",
        "ATFCSM1",
        "ATSPZ",
        "ATE2",
        "0102030405060708",
        "ATCRAZZZ",
        "A" * 300,
    ],
)
def test_what_it_does_not_know_gets_a_question_mark(face: Elm327Face, command: str) -> None:
    with terminal(face, "ATE0", "ATSP6") as client:
        assert client.lines(command) == ["?"]


def test_bytes_of_any_kind_leave_it_alive(face: Elm327Face) -> None:
    with terminal(face, "ATE0") as client:
        client.socket.sendall(bytes(range(256)) * 8 + b"\r")
        assert "?" in client.until_prompt()
        time.sleep(0.05)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(2.0)
        assert client.lines("ATI") == ["ELM327 v1.5"]


def test_several_commands_in_one_packet_are_all_answered(face: Elm327Face) -> None:
    with terminal(face, "ATE0") as client:
        client.socket.sendall(b"ATS0\rATI\rATRV\r")
        text = ""
        while text.count(">") < 3:
            text += client.until_prompt()
        assert text == "OK\r\r>ELM327 v1.5\r\r>13.2V\r\r>"


def test_two_clients_at_once_have_settings_of_their_own(face: Elm327Face) -> None:
    with terminal(face, *LEAF_SET_UP) as first, terminal(face) as second:
        assert second.ask("ATI").startswith("ATI\r")  # still echoing
        assert len(first.lines("2101")) == 8
        for command in LEAF_SET_UP:
            second.ask(command)
        for _ in range(20):
            assert second.lines("2101") == first.lines("2101")


def test_replies_follow_the_live_state(face: Elm327Face, van: Van) -> None:
    with terminal(face, *LEAF_SET_UP) as client:
        van.bms.plane.voltage_v = 400.0
        assert client.lines("2101")[3].startswith("7BB239C40")


def test_monitoring_prints_broadcasts_until_a_key_is_pressed(face: Elm327Face) -> None:
    with terminal(face, "ATE0", "ATS0", "ATH1", "ATSP6", "ATCRA5C5") as client:
        client.socket.sendall(b"ATMA\r")
        time.sleep(0.35)
        client.socket.sendall(b"\r")
        lines = [line for line in client.until_prompt()[:-1].split("\r") if line]
        assert lines[-1] == "STOPPED"
        assert 3 <= len(lines) - 1 <= 5  # each 100 ms, the first at once
        assert set(lines[:-1]) == {"5C50400BC5200000000"}  # 48210 km, park brake
        assert client.lines("ATI") == ["ELM327 v1.5"]


def test_low_power_ends_with_the_next_line(face: Elm327Face) -> None:
    with terminal(face, "ATE0") as client:
        client.socket.sendall(b"ATLP\r")
        assert client.socket.recv(64) == b"OK\r"
        assert client.lines(" ") == []
        assert client.lines("ATI") == ["ELM327 v1.5"]


def test_a_taken_port_is_a_config_error(face: Elm327Face, van: Van, loop: ServiceLoop) -> None:
    with pytest.raises(ConfigError, match="cannot listen"), Elm327Face(van, threading.RLock(), loop, port=face.port):
        pass


def test_closing_drops_the_clients_and_may_be_done_twice(van: Van, loop: ServiceLoop) -> None:
    with Elm327Face(van, threading.RLock(), loop) as face:
        client = Terminal(face.address)
        client.ask("ATI")
    face.close()
    try:
        assert client.socket.recv(1) == b""
    except ConnectionResetError:
        pass
    finally:
        client.socket.close()
    assert face.port == 0


def test_the_same_adapter_on_a_pseudo_terminal(van: Van, loop: ServiceLoop) -> None:
    with Elm327PtyFace(van, threading.RLock(), loop) as face:
        assert face.address.startswith("serial:///dev/pts/")
        line = os.open(face.address.removeprefix("serial://"), os.O_RDWR | os.O_NOCTTY)
        try:
            for command in LEAF_SET_UP:
                assert b"OK" in pty_ask(line, command)
            answer = pty_ask(line, "2102")
            assert answer.startswith(b"7BB10C66102")
            assert answer.count(b"\r") == 30  # 29 frames and the line before the prompt
        finally:
            os.close(line)
    face.close()


def pty_ask(line: int, command: str) -> bytes:
    os.write(line, command.encode() + b"\r")
    answer = b""
    while not answer.endswith(b">"):
        assert select.select([line], [], [], 2.0)[0], f"nothing after {answer!r}"
        answer += os.read(line, 4096)
    return answer


@pytest.mark.peers
def test_plain_python_obd_reads_the_pack_through_its_own_socket(face: Elm327Face) -> None:
    import obd

    connection = obd.OBD(face.address.replace("tcp://", "socket://"), protocol="6", fast=False)
    try:
        assert connection.status() == obd.OBDStatus.CAR_CONNECTED
        assert connection.query(obd.commands.PIDS_A, force=True).value is None or not any(
            connection.query(obd.commands.PIDS_A, force=True).value
        )
        for command in (b"ATFCSH79B", b"ATFCSD300000", b"ATFCSM1"):
            answer = connection.interface.send_and_parse(command)
            assert [message.raw() for message in answer] == ["OK"]
        group_1 = obd.OBDCommand(
            "PACK", "group 1", b"2101", 53, lambda messages: bytes(messages[0].data), header=b"79B"
        )
        reply = connection.query(group_1, force=True).value
        assert len(reply) == 53
        assert int.from_bytes(reply[20:22], "big") / 100 == 337.0
        assert int.from_bytes(reply[33:36], "big") / 10_000 == 25.1648
        quick = obd.OBDCommand(
            "QC", "rapid charges", b"221203", 5, lambda messages: bytes(messages[0].data), header=b"797"
        )
        assert connection.query(quick, force=True).value == bytes.fromhex("6212030003")
    finally:
        connection.close()
