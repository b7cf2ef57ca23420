"""The `at:` of a device: where its other end listens.

    twin:charger/modbus                     a face of a twin that the rack starts on a free loopback port
    tcp://192.0.2.10:502                    a socket
    serial:///dev/rfcomm0?baud=38400        a serial line (the rate may be left out where the line has none)
    can://can0                              a SocketCAN interface, its bit rate set by the system
    visa://TCPIP::192.0.2.12::INSTR         a VISA resource
    ocpp:CP001                              a charge point that dials in to the station's central system

Only `twin:` is emulated. A twin that runs in a process of its own is addressed, and treated, like metal: from the wire
nobody can tell, and a bench that guessed would one day energise a real charger.

>>> parse_address("tcp://192.0.2.10:502")
TcpAddress(host='192.0.2.10', port=502)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEMES = ("twin", "tcp", "serial", "can", "visa", "ocpp")
DEFAULT_BAUD = 38_400  # what an ELM327 adapter has when it leaves the factory (its data sheet, AT PP 0C)

_FORMS = (
    "twin:<twin>/<face>, tcp://<host>:<port>, serial:///dev/<line>, can://<interface>, visa://<resource> or "
    "ocpp:<charge point id>"
)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_CHARGE_POINT = re.compile(r"[A-Za-z0-9._~-]{1,48}")  # it becomes a part of a URL


@dataclass(frozen=True, slots=True)
class TwinAddress:
    """A face of a twin of this station."""

    twin: str
    face: str

    scheme = "twin"

    def __str__(self) -> str:
        return f"twin:{self.twin}/{self.face}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP socket; an IPv6 host stands without its brackets."""

    host: str
    port: int

    scheme = "tcp"

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def visa_resource(self) -> str:
        """The same socket as a VISA resource."""
        return f"TCPIP::{self.host}::{self.port}::SOCKET"

    def __str__(self) -> str:
        return f"tcp://{self.authority}"


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """A serial line of this machine."""

    line: str
    baud: int = DEFAULT_BAUD

    scheme = "serial"

    def __str__(self) -> str:
        return f"serial://{self.line}?baud={self.baud}"


@dataclass(frozen=True, slots=True)
class CanAddress:
    """A SocketCAN interface of this machine."""

    interface: str

    scheme = "can"

    def __str__(self) -> str:
        return f"can://{self.interface}"


@dataclass(frozen=True, slots=True)
class VisaAddress:
    """A VISA resource name."""

    resource: str

    scheme = "visa"

    def __str__(self) -> str:
        return f"visa://{self.resource}"


@dataclass(frozen=True, slots=True)
class OcppAddress:
    """A charge point, by the id with which it dials in to the central system."""

    charge_point: str

    scheme = "ocpp"

    def __str__(self) -> str:
        return f"ocpp:{self.charge_point}"


Address = TwinAddress | TcpAddress | SerialAddress | CanAddress | VisaAddress | OcppAddress


def parse_address(text: str) -> Address:
    """The address in `text`; ValueError with a whole sentence for anything else."""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "twin":
            return _twin(rest, text)
        case "tcp":
            host, port = parse_listen(_after_slashes(rest, text))
            if port == 0:
                raise ValueError(f"{text!r} has port 0, which only a listener can have; name the device's port")
            return TcpAddress(host, port)
        case "serial":
            return _serial(_after_slashes(rest, text), text)
        case "can":
            interface = _after_slashes(rest, text)
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", interface):
                raise ValueError(f"{text!r} names no CAN interface; write it like can://can0")
            return CanAddress(interface)
        case "visa":
            resource = _after_slashes(rest, text)
            if "::" not in resource or any(character.isspace() for character in resource):
                raise ValueError(f"{text!r} is no VISA resource; write it like visa://TCPIP::192.0.2.12::INSTR")
            return VisaAddress(resource)
        case "ocpp":
            if not _CHARGE_POINT.fullmatch(rest):
                raise ValueError(f"{text!r} names no charge point; write its id like ocpp:CP001, without '/'")
            return OcppAddress(rest)
        case _:
            raise ValueError(f"{text!r} is no address; write {_FORMS}")


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port in `host:port`, port 0 for any free one; ValueError with a whole sentence for anything else."""
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is not host and port; write them like 127.0.0.1:502 or [::1]:502")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"the port in {text!r} must be 0 <= port <= 65535; write host:port")
    return host.strip("[]"), int(port)


def _after_slashes(rest: str, text: str) -> str:
    if not rest.startswith("//"):
        raise ValueError(f"{text!r} lacks '//' after its first word; write {_FORMS}")
    return rest[2:]


def _twin(rest: str, text: str) -> TwinAddress:
    twin, slash, face = rest.partition("/")
    if not (twin and slash and face) or "/" in face or rest.startswith("/"):
        raise ValueError(f"{text!r} is not a twin and a face; write twin:<twin>/<face>, like twin:charger/modbus")
    return TwinAddress(twin, face)


def _serial(rest: str, text: str) -> SerialAddress:
    line, question, query = rest.partition("?")
    if not line.startswith("/") or line == "/":
        raise ValueError(f"{text!r} is no serial line; write it with three slashes, like serial:///dev/rfcomm0")
    if not question:
        return SerialAddress(line)
    key, _, value = query.partition("=")
    if key != "baud" or not (value.isascii() and value.isdigit() and 300 <= int(value) <= 4_000_000):
        raise ValueError(f"{text!r} may carry only a rate behind '?'; write ?baud=38400, 300 <= baud <= 4000000")
    return SerialAddress(line, int(value))
