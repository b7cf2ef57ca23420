"""The central system alone on the wall clock, for charge points of metal or of strangers: `v2gbench csms`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from drivers.clock import WallClock
from drivers.errors import BenchError, ConfigError
from drivers.ocpp.payload import stamp
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem

_POLL_S = 0.2
_PING_INTERVAL_S = 30.0


def serve(
    listen: str,
    write: Callable[[str], None],
    *,
    until: threading.Event | None = None,
    passwords: Mapping[str, str] | None = None,
) -> None:
    """Accept charge points on `listen` ("127.0.0.1:9000") and write a line per event until Ctrl-C or `until`.

    Raises ConfigError when `listen` is no address or is taken.
    """
    host, port = parse_listen(listen)
    stop = until or threading.Event()
    with (
        ServiceLoop("csms") as loop,
        CentralSystem(
            loop, clock=WallClock(), host=host, port=port, passwords=passwords, ping_interval_s=_PING_INTERVAL_S
        ) as csms,
    ):
        write(f"central system for OCPP 1.6J on {csms.url}/<identity>; Ctrl-C ends it")
        try:
            while not stop.wait(_POLL_S):
                _write_events(csms, write)
                try:
                    loop.raise_failures()
                except BenchError as error:
                    write(f"error: {error}")
        except KeyboardInterrupt:
            write("closing")
        _write_events(csms, write)


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of "host:port"; the host may be an IPv6 address in brackets."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise ConfigError(f"{listen!r} is no address to listen on; write host:port, such as 127.0.0.1:9000")
    return host, int(port)


def _write_events(csms: CentralSystem, write: Callable[[str], None]) -> None:
    for event in csms.drain_events():
        write(f"{stamp(event.utc_s)}  {event.charge_point}  {event.kind}  {event.content}")
