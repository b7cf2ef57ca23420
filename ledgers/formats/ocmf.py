"""OCMF: the charger meter's two signed readings of a V2G session, for billing software that we did not write.

The Open Charge Metering Format (SAFE-eV, version 1.4.1) is text in three parts, `OCMF|<payload>|<signature>`; the bytes
of the payload are signed as they stand. A V2G session needs **two** records, one per direction: the reference verifier
(Transparenzsoftware) wants exactly one begin and one end reading per record, so an import and an export register side
by side read as "multiple start values".

Three choices and their reasons:

* **Registers** `01-00:B2.08.00*FF` (import) and `01-00:C2.08.00*FF` (export): energy of this transaction at the mains,
  the plane at which the charger's meter sits (table 25 of the specification). The device registers B3 and C3 count as
  loss-compensated and would claim a cable compensation that no meter here makes; the plain export register 2.8.0 is
  never looked at by the reference verifier.
* **Format version 1.3** by default. The registers above are defined by 1.4, but the reference verifier refuses every
  version above 1.3 and judges registers by their code alone; in 1.3 they are codes of the manufacturer's own range
  (IEC 62056-6-1 leaves 128 to 199 of value group C to it). `format_version="1.4"` is there for readers that want it.
* **Emulated material says so** in the gateway identification and in the tariff text, where a person reads it.

A reader gets one spelling only: `parse_ocmf` refuses what `write_ocmf` would not have written, so that the part that
no signature covers (the signature section itself) cannot change unnoticed. It is no reader for other makers' records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, cast

from ledgers.canonical import Json
from ledgers.errors import RecordError
from ledgers.identity import ALGORITHM, Identity, signature_holds
from ledgers.records import Direction, Material, utc_text

REGISTERS: Mapping[Direction, str] = {
    Direction.IMPORT: "01-00:B2.08.00*FF",
    Direction.EXPORT: "01-00:C2.08.00*FF",
}
OCMF_LIMIT_BYTES = 64 * 1024

EndReason = Literal["E", "L", "R", "A", "P"]
FormatVersion = Literal["1.3", "1.4"]

_NOT_FOR_BILLING = {
    Material.EMULATED: "EMULATED: not for billing",
    Material.REPLAYED: "REPLAYED: not for billing",
}
_ENERGY = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{3}")
_PAGE = re.compile(r"T(0|[1-9][0-9]{0,17})")
_HEX = re.compile(r"([0-9a-f]{2})+")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}),(\d{3})\+0000 ([SI])", re.ASCII)
_END_REASONS = ("E", "L", "R", "A", "P")


@dataclass(frozen=True, slots=True, kw_only=True)
class OcmfSession:
    """What both records of a session share.

    `begin_utc_s` and `end_utc_s` are seconds since 1970. `clock_synchronised` states whether the clock that stamped
    them was set to UTC (time state `S`) or merely informs (`I`): in a stepped session the one session clock is the
    reference, on metal the host's clock must be disciplined. `identification` is the OCPP idTag that the back office
    accepted, or None when nobody was identified. `end_reason` is a letter of the specification's table 7: E end,
    L local, R remote, A abort, P power failure.
    """

    meter_vendor: str
    meter_model: str
    meter_serial: str
    meter_firmware: str
    charge_box: str
    connector: int
    begin_utc_s: float
    end_utc_s: float
    material: Material
    gateway: str = "v2gbench"
    gateway_version: str = ""
    clock_synchronised: bool = True
    identification: str | None = None
    end_reason: EndReason = "E"


@dataclass(frozen=True, slots=True)
class OcmfRecord:
    """An OCMF record of ours as read back; energies in Wh, times as the usage record spells them."""

    format_version: str
    gateway: str
    pagination: int
    meter_serial: str
    tariff_text: str
    direction: Direction
    begin: str
    end: str
    begin_wh: Decimal
    end_wh: Decimal
    payload: bytes
    signature: bytes

    @property
    def energy_wh(self) -> Decimal:
        """Energy of the transaction, exactly as signed."""
        return self.end_wh - self.begin_wh

    @property
    def material(self) -> Material:
        """What the record says that it was made from."""
        for material, text in _NOT_FOR_BILLING.items():
            if self.tariff_text == text:
                return material
        return Material.MEASURED


def write_ocmf(
    session: OcmfSession,
    direction: Direction,
    *,
    energy_wh: float,
    pagination: int,
    meter: Identity,
    format_version: FormatVersion = "1.3",
) -> str:
    """The OCMF text of one direction, signed by the charger meter's key; ASCII, without a newline at the end.

    `energy_wh` is a magnitude, rounded to 0.001 Wh. `pagination` counts the meter's records up by one each; a session
    takes two numbers. Raises RecordError for a negative energy, an end before the begin, or a text with a pipe.
    """
    if not 0 <= energy_wh < 1e12:
        raise RecordError(f"an OCMF register cannot hold {energy_wh} Wh; give the magnitude of the energy")
    if session.end_utc_s < session.begin_utc_s:
        raise RecordError("the OCMF end reading lies before its begin reading; check the session clock")
    if pagination < 0:
        raise RecordError(f"OCMF pagination counts up from 0, it cannot be {pagination}")
    payload = _payload(session, direction, f"{energy_wh:.3f}", pagination, format_version)
    if "|" in payload:
        raise RecordError("an OCMF text may not contain '|'; change the name or serial that has one")
    return _text(payload, meter.sign(payload.encode("ascii")))


def parse_ocmf(text: str) -> OcmfRecord:
    """The record in `text`; raises RecordError unless it is the one spelling that `write_ocmf` gives it.

    The signature is read, not checked: that is `verify_ocmf`.
    """
    parts = text.split("|")
    if len(text) > OCMF_LIMIT_BYTES or len(parts) != 3 or parts[0] != "OCMF" or not text.isascii():
        raise RecordError("this is not one OCMF record (OCMF|payload|signature in ASCII)")
    payload = _object(parts[1], "payload")
    signature_section = _object(parts[2], "signature section")
    signature = signature_section.get("SD")
    if not isinstance(signature, str) or not _HEX.fullmatch(signature):
        raise RecordError("the OCMF signature data is not lower-case hexadecimal")
    if _text(parts[1], bytes.fromhex(signature)) != text or _json(payload) != parts[1]:
        raise RecordError("the OCMF record is not spelled as it was signed; it was edited")
    record = _record(payload, parts[1].encode("ascii"), bytes.fromhex(signature))
    if record.end < record.begin or record.end_wh < record.begin_wh:
        raise RecordError("the OCMF record ends before it begins, or its register ran backwards")
    return record


def verify_ocmf(text: str, public_key_der: bytes) -> OcmfRecord:
    """The record in `text` after its signature was checked against the meter's key (SubjectPublicKeyInfo, DER)."""
    record = parse_ocmf(text)
    if not signature_holds(public_key_der, record.payload, record.signature):
        raise RecordError("the OCMF signature does not hold for this meter's key; payload or key were changed")
    return record


# Private ------------------------------------------------------------------------------------------------------------


class _Number:
    """A JSON number with its decimals kept: OCMF gives meaning to trailing zeros."""

    def __init__(self, text: str) -> None:
        self.text = text


_OcmfJson = None | bool | int | str | _Number | list["_OcmfJson"] | dict[str, "_OcmfJson"]


def _payload(
    session: OcmfSession, direction: Direction, energy: str, pagination: int, format_version: FormatVersion
) -> str:
    marked = session.material is not Material.MEASURED
    state = "S" if session.clock_synchronised else "I"
    known = session.identification is not None
    shared: dict[str, _OcmfJson] = {"RI": REGISTERS[direction], "RU": "Wh", "RT": "AC", "EF": "", "ST": "G"}
    fields: dict[str, _OcmfJson] = {
        "FV": format_version,
        "GI": f"{session.gateway} ({session.material.value})" if marked else session.gateway,
        "GS": session.charge_box,
        "GV": session.gateway_version,
        "PG": f"T{pagination}",
        "MV": session.meter_vendor,
        "MM": session.meter_model,
        "MS": session.meter_serial,
        "MF": session.meter_firmware,
        "IS": known,
        "IL": "TRUSTED" if known else "NONE",  # table 11: authorised by a back office
        "IF": ["RFID_NONE", "OCPP_AUTH"] if known else [],
        "IT": "CENTRAL" if known else "NONE",
        "ID": session.identification or "",
        "TT": _NOT_FOR_BILLING.get(session.material, ""),
        "CT": "CBIDC",  # table 18: OCPP charge box and connector
        "CI": f"{session.charge_box} {session.connector}",
        "RD": [
            {"TM": _time(session.begin_utc_s, state), "TX": "B", "RV": _Number("0.000"), **shared},
            {"TM": _time(session.end_utc_s, state), "TX": session.end_reason, "RV": _Number(energy), **shared},
        ],
    }
    return _json(fields)


def _text(payload: str, signature: bytes) -> str:
    section: dict[str, _OcmfJson] = {"SA": ALGORITHM, "SE": "hex", "SM": "application/x-der", "SD": signature.hex()}
    return f"OCMF|{payload}|{_json(section)}"


def _json(value: _OcmfJson) -> str:
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_json(item) for item in value) + "]"
    return json.dumps(value)


def _object(text: str, what: str) -> dict[str, _OcmfJson]:
    try:
        document = cast("_OcmfJson", json.loads(text, parse_float=_Number, object_pairs_hook=_unique))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"the OCMF {what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RecordError(f"the OCMF {what} is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found


def _time(utc_s: float, state: str) -> str:
    return f"{utc_text(utc_s)[:-1].replace('.', ',')}+0000 {state}"


_MEMBERS = ("FV", "GI", "GS", "GV", "PG", "MV", "MM", "MS", "MF", "IS", "IL", "IF", "IT", "ID", "TT", "CT", "CI", "RD")
_READING_MEMBERS = ("TM", "TX", "RV", "RI", "RU", "RT", "EF", "ST")


def _record(payload: dict[str, _OcmfJson], signed: bytes, signature: bytes) -> OcmfRecord:
    if tuple(payload) != _MEMBERS:
        raise RecordError(f"the OCMF payload must have exactly the members {', '.join(_MEMBERS)}")
    readings = payload["RD"]
    if not isinstance(readings, list) or len(readings) != 2:
        raise RecordError("the OCMF record must have exactly one begin and one end reading")
    begin, end = (_reading(reading) for reading in readings)
    if begin["TX"] != "B" or end["TX"] not in _END_REASONS:
        raise RecordError("the OCMF readings must be a begin (B) and an end (E, L, R, A or P)")
    if any(begin[key] != end[key] for key in ("RI", "RU", "RT", "EF", "ST")):
        raise RecordError("the OCMF begin and end readings are of different registers")
    directions = [direction for direction, register in REGISTERS.items() if register == begin["RI"]]
    if not directions or (begin["RU"], begin["RT"], begin["EF"], begin["ST"]) != ("Wh", "AC", "", "G"):
        raise RecordError("the OCMF readings must be good ones of an import or export register of the mains, in Wh")
    page = _PAGE.fullmatch(_string(payload, "PG"))
    version = _string(payload, "FV")
    if page is None or version not in {"1.3", "1.4"}:
        raise RecordError("the OCMF record has another format version than 1.3 or 1.4, or no transaction pagination")
    return OcmfRecord(
        format_version=version,
        gateway=_string(payload, "GI"),
        pagination=int(page[1]),
        meter_serial=_string(payload, "MS"),
        tariff_text=_string(payload, "TT"),
        direction=directions[0],
        begin=_read_time(begin["TM"]),
        end=_read_time(end["TM"]),
        begin_wh=Decimal(begin["RV"]),
        end_wh=Decimal(end["RV"]),
        payload=signed,
        signature=signature,
    )


def _reading(reading: _OcmfJson) -> dict[str, str]:
    if not isinstance(reading, dict) or tuple(reading) != _READING_MEMBERS:
        raise RecordError(f"an OCMF reading must have exactly the members {', '.join(_READING_MEMBERS)}")
    value = reading["RV"]
    if not isinstance(value, _Number) or not _ENERGY.fullmatch(value.text):
        raise RecordError("an OCMF reading value must be a number with three decimals")
    return {"RV": value.text} | {key: _string(reading, key) for key in _READING_MEMBERS if key != "RV"}


def _string(members: Mapping[str, _OcmfJson], key: str) -> str:
    value = members[key]
    if not isinstance(value, str):
        raise RecordError(f"the OCMF member {key} must be a text")
    return value


def _read_time(text: str) -> str:
    match = _TIME.fullmatch(text)
    if match is None:
        raise RecordError(f"{text!r} is not an OCMF time in UTC with milliseconds and state S or I")
    try:
        datetime.fromisoformat(match[1])
    except ValueError as error:
        raise RecordError(f"{text!r} is not an OCMF time: {error}") from error
    return f"{match[1]}.{match[2]}Z"
