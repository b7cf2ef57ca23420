"""The peer of the cycle benchmark: a bare script that sends and commits what a session sent and committed, no more.

    python benchmarks/bare_wire.py TRAFFIC      prints {"wall_s": ..., "parts_s": [...], ...}

It imports nothing of the bench. A client thread asks over plain blocking sockets; servers on an asyncio loop in a
second thread answer with the recorded bytes, once as many bytes came in as were recorded; the OCPP frames go over a
WebSocket between two ends on that loop; each cycle is one SQLite commit of the recorded rows. No physics, no decoding,
no guard, no wire trace: what is left is the cost of the wire and of the commits. Both threads are pinned to one
processor, as in a stepped rack.

TRAFFIC is a JSON file: `devices` {name: per cycle a list of [request, reply] in hexadecimal}, `frames` (per cycle a
list of [direction, text], "<" from the charge point), `schema` (SQL), `inserts` {SQL before its VALUES: per cycle a
list of rows, which go in one statement, the cheapest way there is}, `cycles`, `cycles_per_part` (how many make a part
that is timed).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

_T = TypeVar("_T")
_TIMEOUT_S = 10.0

Exchange = tuple[bytes, bytes]
Cell = float | str | None


class Traffic(TypedDict):
    """The traffic file."""

    cycles: int
    cycles_per_part: int
    devices: dict[str, list[list[tuple[str, str]]]]
    frames: list[list[tuple[str, str]]]
    schema: str
    inserts: dict[str, list[list[list[Cell]]]]


class Result(TypedDict):
    """What the script prints."""

    wall_s: float
    parts_s: list[float]  # real time of each part of the session; the last part may be shorter
    cycles: int
    exchanges: int


def run(traffic: Traffic) -> Result:
    """Replay the traffic once; only the cycles are timed, not the set-up."""
    devices = {
        name: [[(bytes.fromhex(ask), bytes.fromhex(answer)) for ask, answer in cycle] for cycle in cycles]
        for name, cycles in traffic["devices"].items()
    }
    frames = traffic["frames"]
    inserts = [[_statement(sql, rows[index]) for sql, rows in traffic["inserts"].items() if rows[index]]
               for index in range(traffic["cycles"])]  # fmt: skip
    with ExitStack() as stack:
        loop = stack.enter_context(_loop_thread())
        links = [
            (stack.enter_context(_link(loop, [each for cycle in cycles for each in cycle])), cycles)
            for cycles in devices.values()
        ]
        charge_point, central_system = stack.enter_context(_websocket(loop))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bare-wire-"))
        database = sqlite3.connect(Path(folder) / "run.sqlite", isolation_level=None)
        stack.callback(database.close)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(traffic["schema"])
        gc.collect()
        gc.freeze()  # the traffic in memory is the script's own, not the wire's
        marks_s: list[float] = []
        for index in range(traffic["cycles"]):
            if index % traffic["cycles_per_part"] == 0:
                marks_s.append(time.perf_counter())
            for link, cycles in links:
                for ask, answer in cycles[index]:
                    link.sendall(ask)
                    left = len(answer)
                    while left:
                        left -= len(link.recv(left)) or _gone()
            if frames[index]:
                _wait(_exchange_frames(charge_point, central_system, frames[index]), loop)
            database.execute("BEGIN")
            for statement, cells in inserts[index]:
                database.execute(statement, cells)
            database.execute("COMMIT")
        marks_s.append(time.perf_counter())
    exchanges = sum(len(cycle) for cycles in devices.values() for cycle in cycles)
    return {
        "wall_s": marks_s[-1] - marks_s[0],
        "parts_s": [end_s - begin_s for begin_s, end_s in itertools.pairwise(marks_s)],
        "cycles": traffic["cycles"],
        "exchanges": exchanges,
    }


def _statement(sql: str, rows: list[list[Cell]]) -> tuple[str, list[Cell]]:
    """One statement for all rows, interned because SQLite's cache of prepared statements goes by text."""
    places = f"({', '.join('?' * len(rows[0]))})"
    return sys.intern(f"{sql} VALUES {', '.join([places] * len(rows))}"), [cell for row in rows for cell in row]


class _FixedAnswers(asyncio.Protocol):
    """Answers the n-th request with the n-th recorded reply, once as many bytes came as the request had."""

    def __init__(self, script: list[Exchange]) -> None:
        self._script = iter([(len(ask), answer) for ask, answer in script])
        self._wanted, self._answer = next(self._script, (0, b""))
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # a TCP server makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if self._got >= self._wanted:
            self._got = 0
            self._transport.write(self._answer)
            self._wanted, self._answer = next(self._script, (0, b""))


@contextmanager
def _loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="servers", daemon=True)
    thread.start()
    if hasattr(os, "sched_setaffinity"):
        processor = min(os.sched_getaffinity(0))
        for native_id in (threading.get_native_id(), thread.native_id or 0):
            os.sched_setaffinity(native_id, {processor})
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_TIMEOUT_S)
        loop.close()


@contextmanager
def _link(loop: asyncio.AbstractEventLoop, script: list[Exchange]) -> Iterator[socket.socket]:
    server = _wait(loop.create_server(lambda: _FixedAnswers(script), "127.0.0.1", 0), loop)
    try:
        with socket.create_connection(server.sockets[0].getsockname(), timeout=_TIMEOUT_S) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield link
    finally:
        _wait(_closed(server), loop)


async def _closed(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


@contextmanager
def _websocket(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[ClientConnection, ServerConnection]]:
    accepted: asyncio.Queue[ServerConnection] = asyncio.Queue()
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await accepted.put(connection)
        await done.wait()

    async def start() -> tuple[Server, ClientConnection, ServerConnection]:
        server = await serve(handler, "127.0.0.1", 0, ping_interval=None)
        port = next(iter(server.sockets)).getsockname()[1]
        client = await connect(f"ws://127.0.0.1:{port}", ping_interval=None, proxy=None)
        return server, client, await accepted.get()

    async def stop(server: Server, client: ClientConnection) -> None:
        done.set()
        await client.close()
        server.close()
        await server.wait_closed()

    server, client, server_end = _wait(start(), loop)
    try:
        yield client, server_end
    finally:
        _wait(stop(server, client), loop)


async def _exchange_frames(
    charge_point: ClientConnection, central_system: ServerConnection, frames: list[tuple[str, str]]
) -> None:
    for direction, text in frames:
        if direction == "<":
            await charge_point.send(text)
            await central_system.recv()
        else:
            await central_system.send(text)
            await charge_point.recv()


def _wait(coroutine: Coroutine[object, object, _T], loop: asyncio.AbstractEventLoop) -> _T:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_TIMEOUT_S)


def _gone() -> int:
    raise ConnectionError("the server closed the link")


if __name__ == "__main__":
    traffic: Traffic = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(run(traffic)))
