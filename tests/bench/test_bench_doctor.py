"""What the doctor finds on this machine, and what it would say on a worse one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.commands import doctor
from bench.commands.doctor import Examination, Finding, examine


@pytest.fixture(scope="module")
def found() -> Examination:
    return examine()


def finding(examination: Examination, name: str) -> Finding:
    (only,) = (each for each in examination.findings if each.name == name)
    return only


def test_python_and_each_declared_distribution_are_there_with_their_versions(found: Examination) -> None:
    assert finding(found, "python").verdict == "ok"
    for name in ("pymodbus", "obd", "python-can", "robotframework", "websockets"):
        each = finding(found, name)
        assert (each.verdict, each.needed) == ("ok", True)
        assert each.detail.startswith(version(name))


def test_drivers_are_named_by_their_words_and_can_be_imported(found: Examination) -> None:
    words = {each.name: each.verdict for each in found.findings if each.group == "Drivers"}
    assert {
        "charger modbus": "ok",
        "charger ocpp": "ok",
        "vehicle elm327": "ok",
        "vehicle uds": "ok",
        "power_meter yokogawa_wt": "ok",
    }.items() <= words.items()


def test_our_import_names_are_ours(found: Examination) -> None:
    names = [each for each in found.findings if each.group == "Import names"]
    assert [each.name for each in names] == list(doctor.OUR_NAMES)
    assert {each.verdict for each in names} == {"ok"}


def test_stations_and_tariffs_come_along(found: Examination) -> None:
    assert "emulated.yaml" in finding(found, "stations").detail
    assert "example.yaml" in finding(found, "tariffs").detail


def test_what_is_optional_never_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Examination) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = examine()
    programs = [each for each in bare.findings if each.group == "Optional programs"]
    assert {each.name for each in programs} == {"mbpoll", "chromium", "peer", "orderer", "geth", "besu", "go", "node"}
    assert {each.verdict for each in programs} == {"missing"}
    assert all(each.remedy and not each.needed for each in programs)
    assert bare.healthy == found.healthy
    assert "apt install mbpoll" in bare.text()


def test_a_program_on_the_path_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mbpoll"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert finding(examine(), "mbpoll").detail == str(program)


def test_a_foreign_distribution_that_owns_one_of_our_names_is_named_with_its_remedy(tmp_path: Path) -> None:
    """A real one: installed metadata of a distribution that brings a package called `reports`."""
    info = tmp_path / "paperwork-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paperwork\nVersion: 3.1\n")
    (info / "top_level.txt").write_text("reports\n")
    (info / "RECORD").write_text("reports/__init__.py,,\n")
    script = "import json; from bench.commands.doctor import examine; print(json.dumps(examine().document()))"
    # Behind our own packages on the path: only its metadata is seen.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    document = json.loads(done.stdout)
    (reports,) = (each for each in document["findings"] if each["name"] == "reports")
    assert not document["healthy"]
    assert reports["verdict"] == "bad"
    assert "paperwork" in reports["detail"]
    assert reports["remedy"].startswith("pip uninstall paperwork")


def test_a_folder_that_lies_in_front_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "twins").mkdir()
    (tmp_path / "twins" / "__init__.py").write_text("")
    (tmp_path / "twins" / "clock.py").write_text("")
    script = (
        "import sys, json; from bench.commands import doctor; sys.path.insert(0, sys.argv[1]); "
        "print(json.dumps([each.document() for each in doctor._names()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    (twins,) = (each for each in json.loads(done.stdout) if each["name"] == "twins")
    assert twins["verdict"] == "bad"
    assert str(tmp_path / "twins") in twins["detail"]


@pytest.mark.parametrize(
    ("have", "bounds", "fits"),
    [
        ("3.11.2", ">=3.11,<4", True),
        ("4.0.0", ">=3.11,<4", False),
        ("3.9", ">=3.11", False),
        ("0.7.3", ">=0.7.3", True),
        ("0.7.3rc1", ">=0.7.3", True),
        ("2.1", "", True),
    ],
)
def test_versions_are_held_against_their_bounds(have: str, bounds: str, fits: bool) -> None:
    assert doctor._fits(have, bounds) is fits


def test_a_full_disk_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type(usage)(usage.total, usage.total, 10_000_000))
    examination = examine()
    (disk,) = (each for each in examination.findings if each.group == "Disk")
    assert disk.verdict == "bad"
    assert disk.remedy
    assert not examination.healthy
    assert examination.text().endswith("NOT healthy: see the lines marked BAD")


def test_each_finding_that_is_not_there_says_how_to_get_it(found: Examination) -> None:
    assert all(bool(each.remedy) == (each.verdict != "ok") for each in found.findings)


def test_document_is_json(found: Examination) -> None:
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["schema"] == "v2gbench.doctor/1.0"
    assert len(document["findings"]) == len(found.findings)
