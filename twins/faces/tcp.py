"""A TCP server on the service loop: the part that every stream face shares.

Faces are `asyncio.Protocol`s that answer in `data_received`, because asyncio streams cost half as much again per
exchange. A face is a context manager on the bench thread; inside, everything runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from drivers.errors import ConfigError
from drivers.service_loop import ServiceLoop

_OPEN_TIMEOUT_S = 5.0


class FaceProtocol(asyncio.Protocol):
    """One client of a face. Subclasses answer in `data_received` with `self.transport.write`."""

    transport: asyncio.Transport
    open_protocols: set[FaceProtocol]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and be found by the face's `close`."""
        assert isinstance(transport, asyncio.Transport)  # a TCP server makes no other
        self.transport = transport
        self.open_protocols.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the name is asyncio's
        """Be forgotten by the face."""
        self.open_protocols.discard(self)


class TcpFace:
    """Listens on `host:port` (0 for a free port) and makes one protocol object per client."""

    def __init__(
        self,
        make_protocol: Callable[[], FaceProtocol],
        loop: ServiceLoop,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._make_protocol = make_protocol
        self._loop = loop
        self._host = host
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._protocols: set[FaceProtocol] = set()

    def __enter__(self) -> Self:
        self._loop.run(self._open(), _OPEN_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop all clients; may be called twice."""
        if self._server is not None:
            self._loop.run(self._close(), _OPEN_TIMEOUT_S)

    @property
    def host(self) -> str:
        """Address it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """Port it listens on; 0 while closed."""
        if self._server is None or not self._server.sockets:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    def _connected(self) -> FaceProtocol:
        protocol = self._make_protocol()
        protocol.open_protocols = self._protocols
        return protocol

    async def _open(self) -> None:
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connected, self._host, self._wanted_port
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{self._wanted_port} ({error.strerror or error}); "
                "choose another port, or 0 for a free one"
            ) from error

    async def _close(self) -> None:
        server, self._server = self._server, None
        assert server is not None  # close() checked
        server.close()
        for protocol in list(self._protocols):
            protocol.transport.abort()
        await asyncio.wait_for(server.wait_closed(), 2.0)
