"""The ELM327 driver: the contract on a real face, and wires that fail in every way, on real sockets."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import ValidationError

from drivers.clock import WallClock
from drivers.errors import LinkError, LinkGarbled, LinkRefused, LinkTimeout, NotOpenError
from drivers.roles import Vehicle
from drivers.service_loop import ServiceLoop
from drivers.vehicle.elm327 import Elm327Config, Elm327Vehicle
from tests.drivers.contract_vehicle import VehicleContract, parked_van
from twins.clock import SteppedClock
from twins.faces.elm327 import Elm327Face, Elm327PtyFace
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire


class TestElm327Contract(VehicleContract):
    @pytest.fixture(scope="class")
    @classmethod
    def trace(cls) -> list[tuple[str, bytes]]:
        return []

    @pytest.fixture(scope="class")
    @classmethod
    def vehicle(cls, van: Van, clock: SteppedClock, trace: list[tuple[str, bytes]]) -> Iterator[Vehicle]:
        with (
            ServiceLoop() as loop,
            Elm327Face(van, threading.RLock(), loop) as face,
            Elm327Vehicle(
                Elm327Config(at=face.address), clock, device="van", trace=lambda *entry: trace.append(entry)
            ) as vehicle,
        ):
            yield vehicle

    def test_broadcasts_give_gids_and_odometer(self, vehicle: Vehicle, van: Van) -> None:
        readings = vehicle.read_all()
        assert readings.gids.value == van.bms.gids
        assert readings.odometer.value == 48_210.0

    def test_the_adapter_is_named(self, vehicle: Vehicle) -> None:
        assert vehicle.identify().firmware == "read through ELM327 v1.5"

    def test_the_trace_has_every_byte_in_both_directions(
        self, vehicle: Vehicle, trace: list[tuple[str, bytes]]
    ) -> None:
        vehicle.read()
        trace.clear()
        vehicle.read()
        vehicle.read()
        sent = [data for direction, data in trace if direction == ">"]
        # The unit that was asked last comes first, so that each reading changes between them once.
        lbc, vcm = [b"2101\r", b"2104\r"], [b"221234\r", b"22114E\r"]
        assert sent in (
            [*lbc, b"ATSH797\r", *vcm, *vcm, b"ATSH79B\r", *lbc],
            [*vcm, b"ATSH79B\r", *lbc, *lbc, b"ATSH797\r", *vcm],
        )
        answers = b"".join(data for direction, data in trace if direction == "<")
        assert answers.count(b">") == 10
        assert answers.count(b"7BB") == 2 * (8 + 6)

    def test_a_short_reading_is_short(self, vehicle: Vehicle) -> None:
        vehicle.read()
        started = time.monotonic()
        for _ in range(20):
            vehicle.read()
        assert (
            time.monotonic() - started
        ) / 20 < 0.05  # a bound against stalls (44 ms of Nagle); speed is measured elsewhere


# Wires that fail. A relay sits between the driver and a real face and does one thing wrong.


class Relay:
    """Passes commands to a face and answers back, until `spoil` has something else to send."""

    def __init__(self, face: Elm327Face) -> None:
        self._face = face
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self._stop = threading.Event()
        self.connections = 0
        self.spoil: Callable[[bytes, bytes, socket.socket], bool] | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._server.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with client, socket.create_connection((self._face.host, self._face.port)) as adapter:
                client.settimeout(0.05)
                adapter.settimeout(2.0)
                with contextlib.suppress(OSError):
                    self._relay(client, adapter)

    def _relay(self, client: socket.socket, adapter: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                command = client.recv(4096)
            except TimeoutError:
                continue
            if not command:
                return
            adapter.sendall(command)
            answer = b""
            while not answer.endswith(b">"):
                answer += adapter.recv(4096)
            if self.spoil is not None and self.spoil(command, answer, client):
                continue
            client.sendall(answer)


@pytest.fixture(scope="module")
def face() -> Iterator[Elm327Face]:
    with ServiceLoop() as loop, Elm327Face(parked_van(), threading.RLock(), loop) as face:
        yield face


@pytest.fixture(scope="module")
def relay(face: Elm327Face) -> Iterator[Relay]:
    relay = Relay(face)
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def relayed(relay: Relay) -> Iterator[Elm327Vehicle]:
    with Elm327Vehicle(Elm327Config(at=relay.address, reply_s=0.3), WallClock(), device="van") as vehicle:
        yield vehicle


@contextmanager
def spoilt(
    relay: Relay, vehicle: Elm327Vehicle, with_: Callable[[bytes, bytes, socket.socket], bool]
) -> Iterator[None]:
    vehicle.read()  # the link is whole before, whatever the test before did to it
    relay.spoil = with_
    try:
        yield
    finally:
        relay.spoil = None


def on_group_1(act: Callable[[bytes, socket.socket], object]) -> Callable[[bytes, bytes, socket.socket], bool]:
    def spoil(command: bytes, answer: bytes, client: socket.socket) -> bool:
        if command != b"2101\r":
            return False
        act(answer, client)
        return True

    return spoil


def close_mid_frame(answer: bytes, client: socket.socket) -> None:
    client.sendall(answer[:40])
    client.shutdown(socket.SHUT_RDWR)


def dribble(answer: bytes, client: socket.socket) -> None:
    for index in range(0, len(answer), 20):
        client.sendall(answer[index : index + 20])
        time.sleep(0.01)


def too_slow(answer: bytes, client: socket.socket) -> None:
    for byte in answer[:40]:
        client.sendall(bytes((byte,)))
        time.sleep(0.02)


def missing_line(answer: bytes, client: socket.socket) -> None:
    lines = answer.split(b"\r")
    client.sendall(b"\r".join(lines[:3] + lines[4:]))


FAILURES = [
    pytest.param(on_group_1(lambda _answer, _client: None), LinkTimeout, "no answer within 0.3 s", id="silent"),
    pytest.param(on_group_1(too_slow), LinkTimeout, "no whole answer within 0.3 s", id="too slow"),
    pytest.param(on_group_1(close_mid_frame), LinkRefused, "closed the link", id="closing mid-frame"),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"\xff\x00\xf3garbage\x81")),
        LinkGarbled,
        "no ELM327 sends",
        id="binary garbage",
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"zorglub\r\r>")), LinkGarbled, "no whole reply", id="words"
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"\r>")),
        LinkGarbled,
        "a prompt without an answer",
        id="prompt only",
    ),
    pytest.param(on_group_1(missing_line), LinkGarbled, "no whole reply", id="a frame is missing"),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"7BB0461010000000000\r\r>")),
        LinkGarbled,
        "answered 4 bytes where 53 are due",
        id="too short",
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"79A0462123402000000\r\r>")),
        LinkGarbled,
        "no whole reply",
        id="another unit",
    ),
    pytest.param(
        on_group_1(lambda answer, client: client.sendall(answer.replace(b"6101", b"6102"))),
        LinkGarbled,
        "answered 61 02 where 61 01 was due",
        id="another group",
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"NO DATA\r\r>")), LinkTimeout, "NO DATA", id="no data"
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"CAN ERROR\r\r>")), LinkRefused, "no CAN bus", id="no bus"
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"BUFFER FULL\r\r>")), LinkGarbled, "BUFFER FULL", id="buffer"
    ),
    pytest.param(
        on_group_1(lambda _answer, client: client.sendall(b"A" * 70_000)), LinkGarbled, "without a prompt", id="flood"
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "kind", "message"), FAILURES)
def test_a_failing_wire_is_named_and_the_next_reading_works(
    relay: Relay,
    relayed: Elm327Vehicle,
    spoil: Callable[[bytes, bytes, socket.socket], bool],
    kind: type[LinkError],
    message: str,
) -> None:
    with spoilt(relay, relayed, spoil):
        started = time.monotonic()
        with pytest.raises(LinkError, match=message) as caught:
            relayed.read()
        assert type(caught.value) is kind
        assert str(caught.value).startswith("van: ")
        assert time.monotonic() - started < 1.0
    assert relayed.read().pack_voltage.is_good


def test_a_slow_wire_within_its_time_is_no_failure(relay: Relay, relayed: Elm327Vehicle) -> None:
    with spoilt(relay, relayed, on_group_1(dribble)):
        assert relayed.read().pack_voltage.is_good


def test_a_refused_identifier_is_no_data_and_the_reading_stands(relay: Relay, relayed: Elm327Vehicle) -> None:
    def refuse(command: bytes, _answer: bytes, client: socket.socket) -> bool:
        if command == b"221234\r":
            client.sendall(b"79A037F223100000000\r\r>")
        return command == b"221234\r"

    with spoilt(relay, relayed, refuse):
        readings = relayed.read()
    assert math.isnan(readings.plug_state.value)
    assert readings.pack_voltage.is_good
    assert readings.charge_mode.value == 3.0


def test_a_lapsed_session_is_opened_again(relay: Relay, relayed: Elm327Vehicle) -> None:
    sent: list[bytes] = []

    def lapse_once(command: bytes, _answer: bytes, client: socket.socket) -> bool:
        sent.append(command)
        if command == b"221234\r" and sent.count(command) == 1:
            client.sendall(b"79A037F227F00000000\r\r>")
            return True
        return False

    with spoilt(relay, relayed, lapse_once):
        assert relayed.read().plug_state.value == 2.0
    to_vcm = [command for command in sent if command.startswith((b"22", b"10"))]
    assert to_vcm == [b"221234\r", b"10C0\r", b"221234\r", b"22114E\r"]


# Opening


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A device that treats its one client as `answer` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5.0)

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    client.settimeout(3.0)
                    answer(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(5.0)


def answering(text: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        while client.recv(4096):
            client.sendall(text)

    return answer


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (lambda client: client.recv(4096) and client.recv(4096), LinkTimeout, "no answer within 0.2 s"),
        (lambda client: client.close(), LinkRefused, "closed the link"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n>"), LinkGarbled, "no ELM327 adapter"),
        (answering(b"\x15\x03\x03\x00\x02\x02\x50"), LinkGarbled, "no ELM327 sends"),
    ],
    ids=["silent", "closing", "web server", "binary"],
)
def test_what_is_no_adapter_is_refused_at_once(
    answer: Callable[[socket.socket], None], kind: type[LinkError], message: str
) -> None:
    with server(answer) as address:
        vehicle = Elm327Vehicle(Elm327Config(at=address, reply_s=0.2), WallClock(), device="van")
        started = time.monotonic()
        with pytest.raises(kind, match=message), vehicle:
            pass
        assert time.monotonic() - started < 1.0
        with pytest.raises(NotOpenError):
            vehicle.read()


def test_nobody_there_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    vehicle = Elm327Vehicle(Elm327Config(at=f"tcp://127.0.0.1:{port}"), WallClock(), device="van")
    with pytest.raises(LinkRefused, match=f"van: cannot open tcp://127.0.0.1:{port}"), vehicle:
        pass


def test_a_serial_line_that_is_not_there_is_refused() -> None:
    vehicle = Elm327Vehicle(Elm327Config(at="serial:///dev/ttyNOPE7"), WallClock(), device="van")
    with pytest.raises(LinkRefused, match="ttyNOPE7"), vehicle:
        pass


def test_an_adapter_that_dies_during_set_up_is_named(face: Elm327Face) -> None:
    relay = Relay(face)

    def die(command: bytes, answer: bytes, client: socket.socket) -> bool:
        if command.startswith(b"ATE0"):
            close_mid_frame(answer, client)
            return True
        return False

    relay.spoil = die
    try:
        vehicle = Elm327Vehicle(Elm327Config(at=relay.address, reply_s=0.2), WallClock(), device="van")
        started = time.monotonic()
        with pytest.raises(LinkRefused, match="closed the link"), vehicle:
            pass
        assert time.monotonic() - started < 3.5
    finally:
        relay.close()


def test_a_serial_adapter_is_read_over_a_pseudo_terminal() -> None:
    van = parked_van()
    with ServiceLoop() as loop, Elm327PtyFace(van, threading.RLock(), loop) as face:
        config = Elm327Config(at=face.address, separation_ms=10)
        with Elm327Vehicle(config, WallClock(), device="van") as vehicle:
            readings = vehicle.read_all()
    assert readings.pack_voltage.value == pytest.approx(van.bms.plane.voltage_v, abs=0.005)
    assert readings.cell_min.is_good
    assert readings.odometer.value == 48_210.0


def test_two_vehicles_read_one_van_at_the_same_time(face: Elm327Face) -> None:
    config = Elm327Config(at=face.address)
    failures: list[BaseException] = []

    def read_often(name: str) -> None:
        try:
            with Elm327Vehicle(config, WallClock(), device=name) as vehicle:
                for _ in range(30):
                    assert vehicle.read().soc.is_good
                    assert vehicle.read_all().cell_min.is_good
        except BaseException as error:  # noqa: BLE001  # handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=read_often, args=(f"van{index}",)) for index in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not failures


def test_a_closed_vehicle_says_that_it_is_closed() -> None:
    vehicle = Elm327Vehicle(Elm327Config(at="tcp://127.0.0.1:1"), WallClock(), device="van")
    for call, name in ((vehicle.read, "read"), (vehicle.read_all, "read_all"), (vehicle.identify, "identify")):
        with pytest.raises(NotOpenError, match=rf"van is closed; {name}\(\) needs it open"):
            call()


def test_python_obd_writes_nothing_to_stderr(relayed: Elm327Vehicle, capfd: pytest.CaptureFixture[str]) -> None:
    relayed.read()
    logging.getLogger("obd.elm327").critical("Device disconnected while reading")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "bad",
    [
        {"at": "127.0.0.1:35000"},
        {"at": "tcp://127.0.0.1"},
        {"at": "can://can0"},
        {"at": "serial://ttyUSB0"},
        {"at": "tcp://h:1", "reply_s": 0},
        {"at": "tcp://h:1", "reply_s": math.inf},
        {"at": "tcp://h:1", "reply": 1},
        {"at": "tcp://h:1", "separation_ms": 128},
    ],
)
def test_a_config_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Elm327Config.model_validate(bad)


def test_a_serial_line_may_carry_its_rate() -> None:
    assert Elm327Config(at="serial:///dev/rfcomm0?baud=115200").reply_s == 0.5
