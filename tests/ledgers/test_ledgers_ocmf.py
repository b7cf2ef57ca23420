"""OCMF: our spelling byte by byte, what a foreign verifier says, and what our own reader refuses."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pyocmf
import pytest

from ledgers.errors import RecordError
from ledgers.formats.ocmf import FormatVersion, OcmfSession, parse_ocmf, verify_ocmf, write_ocmf
from ledgers.identity import Identity, SeedKeys
from ledgers.records import Direction, Material

MakeSession = Callable[..., OcmfSession]

# Written by hand after tables 1 to 8 and 25 of the OCMF specification 1.4.1.
IMPORT_PAYLOAD = (
    '{"FV":"1.3","GI":"v2gbench (emulated)","GS":"evse1","GV":"","PG":"T41",'
    '"MV":"AME","MM":"V2G 3p10kW","MS":"EMU-CH-1","MF":"1.0",'
    '"IS":true,"IL":"TRUSTED","IF":["RFID_NONE","OCPP_AUTH"],"IT":"CENTRAL","ID":"TAG-1",'
    '"TT":"EMULATED: not for billing","CT":"CBIDC","CI":"evse1 1",'
    '"RD":[{"TM":"2026-03-01T10:00:00,000+0000 S","TX":"B","RV":0.000,"RI":"01-00:B2.08.00*FF","RU":"Wh","RT":"AC",'
    '"EF":"","ST":"G"},'
    '{"TM":"2026-03-01T11:00:00,000+0000 S","TX":"E","RV":5012.400,"RI":"01-00:B2.08.00*FF","RU":"Wh","RT":"AC",'
    '"EF":"","ST":"G"}]}'
)


@pytest.fixture
def meter() -> Identity:
    return SeedKeys(7, any_metal=False).identity("charger", "charger")


def write(
    session: OcmfSession, meter: Identity, direction: Direction = Direction.IMPORT, version: FormatVersion = "1.3"
) -> str:
    return write_ocmf(session, direction, energy_wh=5012.4, pagination=41, meter=meter, format_version=version)


def test_the_signed_bytes_are_exactly_the_payload_between_the_pipes(
    meter: Identity, make_ocmf_session: MakeSession
) -> None:
    text = write(make_ocmf_session(), meter)
    assert text == (
        f'OCMF|{IMPORT_PAYLOAD}|{{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SM":"application/x-der",'
        f'"SD":"{meter.sign(IMPORT_PAYLOAD.encode()).hex()}"}}'
    )


@pytest.mark.peers
@pytest.mark.parametrize("version", ["1.3", "1.4"])
@pytest.mark.parametrize("direction", list(Direction))
def test_pyocmf_finds_a_true_signature_and_nothing_to_complain_about(
    meter: Identity, make_ocmf_session: MakeSession, direction: Direction, version: FormatVersion
) -> None:
    record = pyocmf.OCMF.from_string(write(make_ocmf_session(), meter, direction, version), strict=True)
    signature_holds, issues = record.verify(meter.public_key_der.hex())
    assert signature_holds
    assert issues == []


@pytest.mark.peers
@pytest.mark.parametrize(
    "changes",
    [
        {"identification": None},
        {"end_reason": "A"},
        {"material": Material.MEASURED},
        {"end_utc_s": 1_772_359_200.0},
    ],
)
def test_pyocmf_accepts_every_kind_of_session(
    meter: Identity, make_ocmf_session: MakeSession, changes: dict[str, object]
) -> None:
    text = write(make_ocmf_session(**changes), meter)
    signature_holds, issues = pyocmf.OCMF.from_string(text, strict=True).verify(meter.public_key_der.hex())
    assert signature_holds
    assert issues == []


@pytest.mark.peers
def test_pyocmf_warns_but_does_not_refuse_when_the_clock_only_informs(
    meter: Identity, make_ocmf_session: MakeSession
) -> None:
    record = pyocmf.OCMF.from_string(write(make_ocmf_session(clock_synchronised=False), meter), strict=True)
    assert record.check_eichrecht(errors_only=True) == []
    assert {issue.field for issue in record.check_eichrecht()} == {"TM"}


@pytest.mark.peers
def test_pyocmf_refuses_a_changed_energy(meter: Identity, make_ocmf_session: MakeSession) -> None:
    text = write(make_ocmf_session(), meter).replace("5012.400", "5012.300")
    assert not pyocmf.OCMF.from_string(text, strict=True).verify_signature(meter.public_key_der.hex())


def test_a_record_reads_back_as_it_was_written(meter: Identity, make_ocmf_session: MakeSession) -> None:
    found = verify_ocmf(write(make_ocmf_session(), meter, Direction.EXPORT), meter.public_key_der)
    assert (found.direction, found.energy_wh, found.pagination) == (Direction.EXPORT, Decimal("5012.400"), 41)
    assert (found.begin, found.end) == ("2026-03-01T10:00:00.000Z", "2026-03-01T11:00:00.000Z")
    assert (found.material, found.meter_serial) == (Material.EMULATED, "EMU-CH-1")


@pytest.mark.parametrize(
    ("material", "gateway", "tariff_text"),
    [
        (Material.EMULATED, "v2gbench (emulated)", "EMULATED: not for billing"),
        (Material.REPLAYED, "v2gbench (replayed)", "REPLAYED: not for billing"),
        (Material.MEASURED, "v2gbench", ""),
    ],
)
def test_what_was_not_measured_says_so(
    meter: Identity, make_ocmf_session: MakeSession, material: Material, gateway: str, tariff_text: str
) -> None:
    found = parse_ocmf(write(make_ocmf_session(material=material), meter))
    assert (found.material, found.gateway, found.tariff_text) == (material, gateway, tariff_text)


def test_any_changed_byte_is_refused(meter: Identity, make_ocmf_session: MakeSession) -> None:
    text = write(make_ocmf_session(), meter)
    for position in range(len(text)):
        for other in {chr(ord(text[position]) ^ 1), chr(ord(text[position]) ^ 32), "0"} - {text[position]}:
            with pytest.raises(RecordError):
                verify_ocmf(text[:position] + other + text[position + 1 :], meter.public_key_der)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SD", "sd"),
        ('"SE":"hex",', ""),
        ('"SE":"hex"', '"SE": "hex"'),
        ('{"SA"', '{"U1":"x","SA"'),
        ("OCMF|", "ocmf|"),
        ('"GI"', '"ZZ":"x","GI"'),
        ('"PG":"T41"', '"PG":"T041"'),
        ('"PG":"T41"', '"PG":"F41"'),
        ('"FV":"1.3"', '"FV":"2.0"'),
        ("5012.400", "5012.4"),
        ("5012.400", "-5012.400"),
        ("5012.400", "5.0124e3"),
        ('"RU":"Wh"', '"RU":"kWh"'),
        ('"ST":"G"', '"ST":"M"'),
        ("01-00:B2", "01-00:B3"),
        ("11:00:00", "25:00:00"),
        ("11:00:00", "09:00:00"),
        ("+0000 S", "+0100 S"),
        ('"TX":"E"', '"TX":"C"'),
    ],
)
def test_a_reader_gets_one_spelling_even_when_it_is_signed_anew(
    meter: Identity, make_ocmf_session: MakeSession, old: str, new: str
) -> None:
    header, payload, section = write(make_ocmf_session(), meter).split("|")
    changed = payload.replace(old, new)
    section = section.replace(section.split('"SD":"')[1].split('"')[0], meter.sign(changed.encode()).hex())
    signed_anew = f"{header}|{changed}|{section}"
    text = signed_anew if changed != payload else write(make_ocmf_session(), meter).replace(old, new)
    with pytest.raises(RecordError):
        verify_ocmf(text, meter.public_key_der)


def test_trailing_bytes_upper_case_and_foreign_keys_are_refused(
    meter: Identity, make_ocmf_session: MakeSession
) -> None:
    text = write(make_ocmf_session(), meter)
    head, signature = text.split('"SD":"')
    for other in (text + "\n", text + " ", f'{head}"SD":"{signature.upper()}', text + "|", "\ufeff" + text, ""):
        with pytest.raises(RecordError):
            verify_ocmf(other, meter.public_key_der)
    with pytest.raises(RecordError, match="this meter's key"):
        verify_ocmf(text, SeedKeys(8, any_metal=False).identity("charger", "charger").public_key_der)


@pytest.mark.parametrize(
    ("changes", "energy_wh", "pagination", "message"),
    [
        ({}, -1.0, 1, "magnitude"),
        ({}, float("nan"), 1, "magnitude"),
        ({}, 1.0, -1, "pagination"),
        ({"end_utc_s": 1.0}, 1.0, 1, "before its begin"),
        ({"identification": "A|B"}, 1.0, 1, "'|'"),
    ],
)
def test_what_cannot_be_stated_is_refused_in_one_sentence(
    meter: Identity,
    make_ocmf_session: MakeSession,
    changes: dict[str, object],
    energy_wh: float,
    pagination: int,
    message: str,
) -> None:
    with pytest.raises(RecordError, match=message.replace("|", r"\|")):
        write_ocmf(
            make_ocmf_session(**changes), Direction.IMPORT, energy_wh=energy_wh, pagination=pagination, meter=meter
        )
