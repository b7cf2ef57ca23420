"""A stranger's verifier, PyPI's pyocmf, on the OCMF records of a whole emulated run."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from pyocmf import OCMF

from bench.assets import asset
from bench.pipeline import CertifiedRun, run_certified
from bench.session import demo_plan
from bench.station import parse_station
from ledgers.canonical import from_base64
from ledgers.records import Direction, Plane

pytestmark = [pytest.mark.peers, pytest.mark.wire]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> CertifiedRun:
    path = asset("stations/emulated.yaml")
    runs = tmp_path_factory.mktemp("ocmf") / "runs"
    return run_certified(parse_station(path.read_bytes(), path), demo_plan(300.0), runs=runs, report=False)


def key_of(run: CertifiedRun, witness: str) -> str:
    """The public key of a witness as DER in hexadecimal, from the trust file."""
    assert run.certified.trust is not None
    signers = json.loads(run.certified.trust.read_text())["signers"]
    (found,) = [each["public_key"] for each in signers if (each["use"], each["name"]) == ("witness", witness)]
    return from_base64(found, where="the trust file").hex()


@pytest.mark.parametrize("direction", list(Direction))
def test_pyocmf_accepts_what_the_charger_signed_and_reads_the_same_energy(
    run: CertifiedRun, direction: Direction
) -> None:
    text = Path(run.folder / "records" / f"{direction.value}.ocmf").read_text()
    found = OCMF.from_string(text)

    assert found.verify_signature(key_of(run, "charger"))
    assert run.certified.record is not None
    value_wh = run.certified.record.record.energy.figure("charger", Plane.AC, direction).value_wh
    begin, end = found.payload.RD[0], found.payload.RD[-1]
    factor = {"Wh": Decimal(1), "kWh": Decimal(1000)}[str(getattr(end.RU, "value", end.RU))]
    assert (Decimal(str(end.RV)) - Decimal(str(begin.RV))) * factor == Decimal(str(value_wh))


def test_pyocmf_refuses_them_under_the_analyzers_key(run: CertifiedRun) -> None:
    text = Path(run.folder / "records" / "import.ocmf").read_text()

    assert not OCMF.from_string(text).verify_signature(key_of(run, "meter"))
