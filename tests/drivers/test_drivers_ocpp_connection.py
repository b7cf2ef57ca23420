"""The RPC layer between two of our own ends over a real WebSocket, and its time-outs against a silent peer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

from drivers.errors import BenchError, ConfigError, DeviceError, LinkGarbled, LinkRefused, LinkTimeout
from drivers.ocpp.connection import CallRefused, Handler, OcppConnection
from drivers.ocpp.payload import Payload
from drivers.service_loop import ServiceLoop

pytestmark = pytest.mark.wire
NOW = {"currentTime": "2026-01-15T08:00:00.000Z"}


@dataclass
class Pair:
    loop: ServiceLoop
    near: OcppConnection
    far: OcppConnection
    near_faults: list[str] = field(default_factory=list)
    far_faults: list[str] = field(default_factory=list)
    trace: list[tuple[str, bytes]] = field(default_factory=list)

    def call(self, action: str, payload: Payload, timeout_s: float = 2.0) -> Payload:
        return self.loop.run(self.near.call(action, payload, timeout_s), timeout_s + 1.0)


@pytest.fixture
def loop() -> Iterator[ServiceLoop]:
    with ServiceLoop("test") as service_loop:
        yield service_loop


class Link:
    """Opens connections on one loop and closes them all."""

    def __init__(self, loop: ServiceLoop) -> None:
        self.loop = loop
        self.server: Server | None = None
        self.tasks: list[asyncio.Task[str]] = []
        self.connections: list[OcppConnection] = []

    def pair(self, near: Mapping[str, Handler], far: Mapping[str, Handler]) -> Pair:
        async def build() -> Pair:
            accepted: asyncio.Future[OcppConnection] = asyncio.get_running_loop().create_future()
            far_faults: list[str] = []
            near_faults: list[str] = []
            trace: list[tuple[str, bytes]] = []

            async def serve_one(socket: ServerConnection) -> None:
                connection = OcppConnection(
                    socket, peer="near", handlers=far, loop=self.loop, on_fault=far_faults.append
                )
                accepted.set_result(connection)
                await connection.serve()

            self.server = await serve(serve_one, "127.0.0.1", 0, close_timeout=1.0, ping_interval=None)
            port = next(iter(self.server.sockets)).getsockname()[1]
            socket = await connect(
                f"ws://127.0.0.1:{port}/", close_timeout=1.0, ping_interval=None, proxy=None, compression=None
            )
            connection = OcppConnection(
                socket,
                peer="far",
                handlers=near,
                loop=self.loop,
                on_fault=near_faults.append,
                trace=lambda direction, data: trace.append((direction, data)),
            )
            self.connections.append(connection)
            self.tasks.append(asyncio.get_running_loop().create_task(connection.serve()))
            return Pair(self.loop, connection, await accepted, near_faults, far_faults, trace)

        return self.loop.run(build(), 5.0)

    def raw_server(self, answers: list[str]) -> tuple[OcppConnection, list[str]]:
        """Connect to a peer that sends one of `answers` for each frame; "CLOSE" closes, "" is silence."""
        faults: list[str] = []

        async def build() -> OcppConnection:
            async def serve_one(socket: ServerConnection) -> None:
                script = iter(answers)
                async for _ in socket:
                    answer = next(script, "")
                    if answer == "CLOSE":
                        await socket.close(1011, "gone")
                    elif answer:
                        await socket.send(answer)

            self.server = await serve(serve_one, "127.0.0.1", 0, close_timeout=1.0, ping_interval=None)
            port = next(iter(self.server.sockets)).getsockname()[1]
            socket = await connect(
                f"ws://127.0.0.1:{port}/", close_timeout=1.0, ping_interval=None, proxy=None, compression=None
            )
            connection = OcppConnection(socket, peer="far", handlers={}, loop=self.loop, on_fault=faults.append)
            self.connections.append(connection)
            self.tasks.append(asyncio.get_running_loop().create_task(connection.serve()))
            return connection

        return self.loop.run(build(), 5.0), faults

    def close(self) -> None:
        async def shut() -> None:
            for connection in self.connections:
                await connection.close()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=2.0)
            if self.server is not None:
                self.server.close()
                await asyncio.wait_for(self.server.wait_closed(), 3.0)

        self.loop.run(shut(), 8.0)


@pytest.fixture
def link(loop: ServiceLoop) -> Iterator[Link]:
    made = Link(loop)
    yield made
    made.close()


async def heartbeat(payload: Payload) -> Payload:
    return NOW


def test_a_call_is_answered_and_traced_in_both_directions(link: Link) -> None:
    pair = link.pair({}, {"Heartbeat": heartbeat})
    assert pair.call("Heartbeat", {}) == NOW
    assert pair.trace == [
        (">", b'[2,"1","Heartbeat",{}]'),
        ("<", b'[3,"1",{"currentTime":"2026-01-15T08:00:00.000Z"}]'),
    ]
    assert pair.loop.activity.is_quiet


def test_a_handler_may_call_the_peer_before_it_answers(link: Link) -> None:
    pairs: list[Pair] = []

    async def boot(payload: Payload) -> Payload:
        answer = await pairs[0].far.call("GetConfiguration", {"key": ["HeartbeatInterval"]}, 2.0)
        assert answer == {"unknownKey": ["HeartbeatInterval"]}
        return {"status": "Accepted", "interval": 60, **NOW}

    async def configuration(payload: Payload) -> Payload:
        return {"unknownKey": ["HeartbeatInterval"]}

    pairs.append(link.pair({"GetConfiguration": configuration}, {"BootNotification": boot}))
    answer = pairs[0].call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
    assert answer["status"] == "Accepted"
    assert pairs[0].far_faults == pairs[0].near_faults == []


def test_only_one_call_is_under_way_and_the_rest_keep_their_order(link: Link) -> None:
    at_once: list[int] = []
    seen: list[object] = []
    busy = 0

    async def authorize(payload: Payload) -> Payload:
        nonlocal busy
        busy += 1
        at_once.append(busy)
        seen.append(payload["idTag"])
        await asyncio.sleep(0.01)
        busy -= 1
        return {"idTagInfo": {"status": "Accepted"}}

    pair = link.pair({}, {"Authorize": authorize})

    async def many() -> None:
        await asyncio.gather(*(pair.near.call("Authorize", {"idTag": f"T{n}"}, 5.0) for n in range(5)))

    pair.loop.run(many(), 6.0)
    assert at_once == [1, 1, 1, 1, 1]
    assert seen == ["T0", "T1", "T2", "T3", "T4"]


def test_a_refusal_raises_with_the_code_of_the_peer(link: Link) -> None:
    async def refuse(payload: Payload) -> Payload:
        raise CallRefused("SecurityError", "not you")

    pair = link.pair({}, {"Heartbeat": refuse})
    with pytest.raises(DeviceError, match="not you") as caught:
        pair.call("Heartbeat", {})
    assert caught.value.code == "SecurityError"


def test_a_known_action_without_a_handler_is_not_supported(link: Link) -> None:
    pair = link.pair({}, {})
    with pytest.raises(DeviceError) as caught:
        pair.call("GetLocalListVersion", {})
    assert caught.value.code == "NotSupported"


def test_a_defect_in_a_handler_answers_internal_error_and_does_not_stay_unseen(link: Link) -> None:
    async def broken(payload: Payload) -> Payload:
        raise ZeroDivisionError

    pair = link.pair({}, {"Heartbeat": broken})
    with pytest.raises(DeviceError) as caught:
        pair.call("Heartbeat", {})
    assert caught.value.code == "InternalError"
    pair.loop.activity.wait_quiet(2.0)
    with pytest.raises(BenchError, match="ZeroDivisionError"):
        pair.loop.raise_failures()


def test_an_answer_that_breaks_its_own_schema_never_leaves(link: Link) -> None:
    async def wrong(payload: Payload) -> Payload:
        return {"currentTime": 5}

    pair = link.pair({}, {"Heartbeat": wrong})
    with pytest.raises(DeviceError) as caught:
        pair.call("Heartbeat", {})
    assert caught.value.code == "InternalError"
    assert "own answer to Heartbeat breaks its schema" in pair.far_faults[0]


def test_a_call_that_breaks_its_schema_is_not_sent(link: Link) -> None:
    pair = link.pair({}, {"Heartbeat": heartbeat})
    with pytest.raises(ConfigError, match="unknown field 'x'"):
        pair.call("Heartbeat", {"x": 1})
    with pytest.raises(ConfigError, match="no action 'MakeCoffee'"):
        pair.call("MakeCoffee", {})
    assert pair.trace == []


def test_silence_ends_in_a_time_out_and_the_next_call_still_works(link: Link) -> None:
    connection, faults = link.raw_server(["", '[3,"2",{"currentTime":"2026-01-15T08:00:00Z"}]'])
    began = time.monotonic()
    with pytest.raises(LinkTimeout, match=r"no answer within 0\.2 s, after sending 'Heartbeat'"):
        link.loop.run(connection.call("Heartbeat", {}, 0.2), 2.0)
    assert time.monotonic() - began < 1.0
    assert link.loop.run(connection.call("Heartbeat", {}, 2.0), 3.0) == {"currentTime": "2026-01-15T08:00:00Z"}
    assert faults == []


def test_an_answer_that_comes_too_late_is_reported_and_not_mistaken(link: Link) -> None:
    late = '[3,"1",{"currentTime":"1999-01-01T00:00:00Z"}]'
    connection, faults = link.raw_server(["", late, '[3,"3",{"currentTime":"2026-01-15T08:00:00Z"}]'])
    for _ in range(2):
        with pytest.raises(LinkTimeout):
            link.loop.run(connection.call("Heartbeat", {}, 0.2), 2.0)
    assert link.loop.run(connection.call("Heartbeat", {}, 2.0), 3.0) == {"currentTime": "2026-01-15T08:00:00Z"}
    assert faults == ["far: an answer to '1', which nobody waits for; ignored"]


def test_a_peer_that_closes_mid_call_is_a_refused_link(link: Link) -> None:
    connection, _ = link.raw_server(["CLOSE"])
    with pytest.raises(LinkRefused, match="by the peer with 1011 gone"):
        link.loop.run(connection.call("Heartbeat", {}, 2.0), 3.0)
    assert not connection.is_open
    with pytest.raises(LinkRefused, match="the link is closed"):
        link.loop.run(connection.call("Heartbeat", {}, 2.0), 3.0)


@pytest.mark.parametrize("answer", ['[3,"1"]', '[3,"1",{"currentTime":7}]', '[4,"1"]', '[3,"1",[]]'])
def test_a_malformed_answer_is_garbled_at_once(link: Link, answer: str) -> None:
    connection, _ = link.raw_server([answer])
    began = time.monotonic()
    with pytest.raises(LinkGarbled):
        link.loop.run(connection.call("Heartbeat", {}, 5.0), 6.0)
    assert time.monotonic() - began < 1.0
    assert connection.is_open


def test_activity_is_counted_until_the_answer_was_handled(link: Link) -> None:
    release = link.loop.call(asyncio.Event)

    async def slow(payload: Payload) -> Payload:
        await release.wait()
        return NOW

    pair = link.pair({}, {"Heartbeat": slow})

    async def tell() -> None:
        await pair.near.call("Heartbeat", {}, 5.0)

    link.loop.spawn(tell(), "telling")
    with pytest.raises(BenchError, match=r"far answers Heartbeat.*telling"):
        link.loop.activity.wait_quiet(0.2)
    link.loop.call(release.set)
    link.loop.activity.wait_quiet(2.0)
    link.loop.raise_failures()
