"""What the vehicle controller (VCM) answers to service 22, and the vehicle's number from service 21.

Pure functions, the reading side of the identifiers in `env200_uds.yaml`. Testers of this vehicle open session 0xC0
first (OBDb/Nissan-Leaf), so `session_request` goes before the first identifier, and again after a pause: by ISO 14229-2
a session ends 5 s after the last request.
"""

from __future__ import annotations

import enum
import functools

from drivers.errors import LinkGarbled
from drivers.vehicle.diagnostics import load_table
from drivers.vehicle.lbc_groups import group_request
from drivers.vehicle.replies import NumberReader, Value, check_reply

READ_IDENTIFIER = 0x22  # ReadDataByIdentifier, ISO 14229-1
START_SESSION = 0x10  # DiagnosticSessionControl
SESSION_ENDS_AFTER_S = 5.0  # S3 of the server, ISO 14229-2
VIN_GROUP = 0x81
VIN_LENGTH = 17  # ISO 3779


class Did(enum.IntEnum):
    """Identifiers that the drivers ask for; the table has more."""

    CHARGE_MODE = 0x114E
    GEAR = 0x1156
    AMBIENT = 0x115D
    QUICK_CHARGES = 0x1203
    L1_L2_CHARGES = 0x1205
    SPEED = 0x121A
    PLUG_STATE = 0x1234


def session_request() -> bytes:
    """The request that opens the controller's diagnostic session."""
    return bytes((START_SESSION, load_table().session))


def identifier_request(identifier: int) -> bytes:
    """The request for one identifier."""
    return bytes((READ_IDENTIFIER, identifier >> 8, identifier & 0xFF))


def vin_request() -> bytes:
    """The request for the vehicle identification number."""
    return group_request(VIN_GROUP)


def check_session(reply: bytes, *, device: str) -> None:
    """Raise DeviceError or LinkGarbled unless the reply opens the session."""
    check_reply(reply, session_request(), (), device=device, unit=load_table().units.vcm.title)


def decode_identifier(identifier: int, reply: bytes, *, device: str) -> Value:
    """Decode the reply to `22` and an identifier of the table. Raises LinkGarbled or DeviceError."""
    request, length, title, reader = _expected(identifier)
    return reader.read(check_reply(reply, request, (length,), device=device, unit=title), 0)


def decode_vin(reply: bytes, *, device: str) -> str:
    """Decode the reply to `21 81`: 17 characters, padding after them dropped. Raises LinkGarbled or DeviceError."""
    payload = check_reply(reply, vin_request(), (), device=device, unit=load_table().units.vcm.title)
    text = payload[:VIN_LENGTH]
    if len(text) < VIN_LENGTH or not text.isalnum():
        raise LinkGarbled(
            "the vehicle controller gave a vehicle identification number that is not 17 letters and digits; ask again",
            device=device,
            sent=vin_request().hex(" "),
            last_bytes=reply,
        )
    return text.decode("ascii")


@functools.cache
def _expected(identifier: int) -> tuple[bytes, int, str, NumberReader]:
    table = load_table()
    number = table.identifier(identifier)
    return identifier_request(identifier), 3 + number.size, table.units.vcm.title, NumberReader(number)
