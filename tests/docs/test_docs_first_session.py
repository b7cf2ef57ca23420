"""The walk through the first session shows what a demo really gives: its tables, its files, its checks."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from bench.assets import asset
from bench.pipeline import run_certified
from bench.session import demo_plan
from bench.station import load_station
from ledgers.verify import verify_certificate

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-session.md"
pytestmark = [pytest.mark.wire, pytest.mark.slow]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_session", ROOT / "docs" / "first_session.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = maker.run_demo(tmp_path_factory.mktemp("runs"))
    return folder


def test_the_tables_are_those_of_a_demo(maker: ModuleType, demo: Path) -> None:
    shown = PAGE.read_text(encoding="utf-8")
    tables = maker.tables(demo)
    assert set(re.findall(r"<!-- demo: ([a-z-]+) -->", shown)) == set(tables)
    wanted = maker.filled(shown, tables)
    differing = [
        f"shown {a!r}, demo {b!r}" for a, b in zip(shown.splitlines(), wanted.splitlines(), strict=False) if a != b
    ]
    assert shown == wanted, f"run 'python -m docs.first_session' and read what changed: {differing[:5]}"


def test_the_files_that_the_page_lists_are_those_of_the_run_folder(demo: Path) -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## 7.")[2]
    listed = set(re.findall(r"`([\w./-]+)`", "\n".join(re.findall(r"(?m)^\| `[^|]*\|", table))))
    there = {file.relative_to(demo).as_posix() for file in demo.rglob("*") if file.is_file()}
    there |= {"report.html", "junit.xml"}  # this demo ran without its report, which costs seconds
    unlisted = {
        name for name in there - listed if not re.search(r"(^|/)lock$|\.checkpoint$|^settlement/receipts/", name)
    }
    assert listed - there == set(), "the page lists what a demo does not leave"
    assert unlisted == set(), "a demo leaves what the page does not list"
    assert (demo.parent / "emulated.trust.json").is_file()


def test_the_certificate_verifies_as_the_page_says(demo: Path) -> None:
    certificate = demo / "certificate.json"
    without = verify_certificate(certificate, None)
    assert without.ok
    assert without.lines[-1].startswith("intact; signers not checked")
    assert verify_certificate(certificate, demo.parent / "emulated.trust.json").ok


def test_one_changed_digit_is_found(demo: Path) -> None:
    record = demo / "records" / "usage_record.json"
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b"3253", b"3254", 1) if b"3253" in whole else whole.replace(b"2", b"3", 1))
    try:
        assert not verify_certificate(demo / "certificate.json", None).ok
    finally:
        record.write_bytes(whole)


def test_a_table_is_replaced_without_touching_the_text_around_it(maker: ModuleType) -> None:
    page = "a\n<!-- demo: use -->\n<!-- end -->\nb\n<!-- demo: pairs -->\n| old |\n<!-- end -->\nc\n"
    filled = maker.filled(page, {"use": "| 1 |", "pairs": "| 2 |"})
    assert filled == "a\n<!-- demo: use -->\n| 1 |\n<!-- end -->\nb\n<!-- demo: pairs -->\n| 2 |\n<!-- end -->\nc\n"
    assert maker.filled(filled, {"use": "| 1 |", "pairs": "| 2 |"}) == filled


# What docs/architecture.md says of two stepped runs under "Determinism"; whatever carries wall time may differ.
MAY_DIFFER = ("manifest.json", "summary.json", "certificate.json", "records/settlement.json", "run.sqlite")


def test_two_runs_of_one_seed_give_the_same_bytes_but_for_wall_time(tmp_path: Path) -> None:
    station = load_station(asset("stations/emulated.yaml"))
    folders = [
        run_certified(station, demo_plan(600.0), runs=tmp_path / which, report=False).folder
        for which in ("first", "second")
    ]
    first, second = (
        {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in folders
    )
    assert set(first) == set(second)
    assert {"records/usage_record.json", "records/export.ocmf", "ledger/monitoring.checkpoint"} <= set(first)
    differing = {name for name in first if first[name] != second[name]}
    assert {
        name for name in differing if name not in MAY_DIFFER and not name.startswith("settlement/receipts/")
    } == set()
    exports = [json.loads(files["manifest.json"])["export_sha256"] for files in (first, second)]
    assert exports[0] == exports[1]
