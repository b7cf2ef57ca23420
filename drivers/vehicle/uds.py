"""A vehicle on a CAN bus of our own: UDS and its older services, without an adapter in between.

udsoncan keeps the rules of the dialogue, can-isotp those of the frames, python-can reaches the bus
(`drivers.vehicle.uds_link`). Both buses of the van run at 500 kbit/s; the diagnostic socket has the EV-CAN on pins 12
and 13 and the CAR-CAN on pins 6 and 14. Broadcasts are not listened to here: the frame readers do that better.

    with UdsVehicle(UdsConfig(at="can://can0"), clock, device="van") as van:
        print(van.read().soc.value)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, field_validator

from drivers.clock import SessionClock
from drivers.roles import Vehicle, WireTrace, no_trace
from drivers.vehicle.diagnostic_vehicle import DiagnosticVehicle
from drivers.vehicle.diagnostics import Unit

if TYPE_CHECKING:
    from drivers.vehicle.uds_link import UdsLink  # its libraries are imported only when a vehicle is opened

_AT = re.compile(r"can://(virtual/[^/\s]+|[A-Za-z0-9_.-]{1,15})")


class UdsConfig(BaseModel, frozen=True, extra="forbid"):
    """Which bus, and how long a whole reply may take.

    `at` is `can://can0` for a SocketCAN interface or `can://virtual/<channel>` for a twin in this process.
    `separation_ms` asks the vehicle to pace the frames of long replies.
    """

    at: str
    reply_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    separation_ms: Annotated[int, Field(ge=0, le=127)] = 0

    @field_validator("at")
    @classmethod
    def _is_an_address(cls, at: str) -> str:
        if not _AT.fullmatch(at):
            raise ValueError(f"{at!r} is neither can://<interface> nor can://virtual/<channel>")
        return at


class UdsVehicle(DiagnosticVehicle):
    """An e-NV200 40 kWh on a CAN bus."""

    def __init__(self, config: UdsConfig, clock: SessionClock, *, device: str, trace: WireTrace = no_trace) -> None:
        super().__init__(clock, device=device)
        self._config = config
        self._trace = trace
        self._link: UdsLink | None = None

    def _open(self) -> None:
        from drivers.vehicle.uds_link import UdsLink  # noqa: PLC0415  # see TYPE_CHECKING above

        config, units = self._config, self._table.units
        self._link = UdsLink(
            config.at,
            (units.lbc, units.vcm),
            reply_s=config.reply_s,
            separation_ms=config.separation_ms,
            device=self._device,
            trace=self._trace,
        )
        self._link.open()

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _ask(self, unit: Unit, request: bytes) -> bytes:
        assert self._link is not None  # the base opens before it asks
        return self._link.ask(unit, request)


_: type[Vehicle] = UdsVehicle
