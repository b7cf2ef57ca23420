"""A vehicle behind an ELM327 adapter: the cheap way into any car, and the one most vans on a bench will have.

python-OBD speaks to the adapter and puts the frames together (`drivers.vehicle.elm_obd`), over a link of our own with a
dead-line per exchange (`drivers.vehicle.elm_serial`). What this van needs beside: protocol 6 said outright, because it
answers no standard request to find a protocol by; a flow control header, because the adapter's automatic one goes to
nobody; one receive filter that lets both control units pass, so that going from one to the other is one command.

    with Elm327Vehicle(Elm327Config(at="tcp://192.168.0.10:35000"), clock, device="van") as van:
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
from drivers.vehicle.elm_serial.link import ElmLink

if TYPE_CHECKING:
    from drivers.vehicle.elm_obd import ObdAdapter  # python-OBD takes half a second to import: only when opened

_AT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}|serial:///[^\s?]+(\?baud=\d+)?")
_LISTEN_LINES = 1
_READ_LOCAL = 0x21  # the only service whose replies take several frames here


class Elm327Config(BaseModel, frozen=True, extra="forbid"):
    """Where the adapter is and how long it may take.

    `reply_s` bounds one exchange with the adapter; a real one waits 0.2 s for a control unit that says nothing.
    `baudrate` is for serial lines without `?baud=`. `separation_ms` makes the vehicle pace long replies for adapters
    that lose bytes (10 helps cheap clones).
    """

    at: str
    reply_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    baudrate: Annotated[int, Field(ge=9600, le=2_000_000)] = 38_400
    separation_ms: Annotated[int, Field(ge=0, le=127)] = 0

    @field_validator("at")
    @classmethod
    def _is_an_address(cls, at: str) -> str:
        if not _AT.fullmatch(at):
            raise ValueError(f"{at!r} is neither tcp://host:port nor serial:///dev/line?baud=38400")
        return at


class Elm327Vehicle(DiagnosticVehicle):
    """An e-NV200 40 kWh behind an ELM327 adapter. Opening takes a second, which the adapter's reset needs."""

    def __init__(self, config: Elm327Config, clock: SessionClock, *, device: str, trace: WireTrace = no_trace) -> None:
        super().__init__(clock, device=device)
        self._config = config
        self._trace = trace
        self._link: ElmLink | None = None
        self._adapter: ObdAdapter | None = None
        self._adapter_name = ""
        self._flow_unit: Unit | None = None
        self._hears_one_identifier = False

    def _open(self) -> None:
        from drivers.vehicle.elm_obd import ObdAdapter  # noqa: PLC0415  # see TYPE_CHECKING above

        config = self._config
        link = self._link = ElmLink(
            config.at, baudrate=config.baudrate, reply_s=config.reply_s, device=self._device, trace=self._trace
        )
        link.open()
        self._adapter_name = _identity(link)
        adapter = self._adapter = ObdAdapter(link, device=self._device)
        adapter.at("ATS0")
        self._control_flow_towards(self._table.units.lbc)
        adapter.at(f"ATFCSD3000{config.separation_ms:02X}")
        adapter.at("ATFCSM1")
        self._let_both_units_pass()

    def _close(self) -> None:
        adapter, self._adapter = self._adapter, None
        link, self._link = self._link, None
        self._flow_unit = None
        try:
            if adapter is not None:
                adapter.close()
        finally:
            if link is not None:
                link.close()

    def _ask(self, unit: Unit, request: bytes) -> bytes:
        if request[0] == _READ_LOCAL and unit != self._flow_unit:
            self._control_flow_towards(unit)
        if self._hears_one_identifier:
            self._opened().at("ATCRA")
            self._let_both_units_pass()
        return self._opened().ask(unit, request)

    def _listen(self, can_id: int) -> bytes | None:
        adapter = self._opened()
        adapter.at(f"ATCRA{can_id:03X}")
        self._hears_one_identifier = True  # until something is asked: often the next is another broadcast
        lines = adapter.listen(_LISTEN_LINES)
        wanted = f"{can_id:03X}"
        for line in lines:
            text = line.replace(" ", "")
            if text.startswith(wanted) and len(text) % 2 and not text.strip("0123456789ABCDEF"):
                return bytes.fromhex(text[3:])
        return None

    def _firmware(self) -> str:
        return f"read through {self._adapter_name}"

    def _control_flow_towards(self, unit: Unit) -> None:
        self._opened().at(f"ATFCSH{unit.request_id:03X}")
        self._flow_unit = unit

    def _let_both_units_pass(self) -> None:
        lbc, vcm = self._table.units.lbc.reply_id, self._table.units.vcm.reply_id
        self._opened().at(f"ATCF{lbc & vcm:03X}")
        self._opened().at(f"ATCM{0x7FF & ~(lbc ^ vcm):03X}")
        self._hears_one_identifier = False

    def _opened(self) -> ObdAdapter:
        assert self._adapter is not None  # the base opens before it asks
        return self._adapter


def _identity(link: ElmLink) -> str:
    """What the adapter says it is; found out first, because python-OBD would wait long for a silent one."""
    for _ in range(2):  # the first command may only end what the adapter was doing
        lines = link.ask(b"ATI").decode("latin-1").replace(">", "").split("\r")
        name = next((line.strip() for line in lines if "ELM327" in line), "")
        if name:
            return name
    raise link.garbled("what answers is no ELM327 adapter; check the address")


_: type[Vehicle] = Elm327Vehicle
