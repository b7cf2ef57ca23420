"""A session that was paid over Lightning says so in msat, after `demo` and after `run`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.commands.paid import lightning_line
from bench.commands.progress import print_summary
from bench.keywords.opened import StationRun
from bench.pipeline import CertifiedRun
from bench.plans.runner import PlanResult

LINE = {"kind": "import_energy", "payer": "ev_owner", "payee": "charging_station", "amount_micro": 224_750}
SETTLEMENT: dict[str, Any] = {"status": "settled", "currency": "EUR", "lines": [LINE]}
OVER_LIGHTNING = {
    **SETTLEMENT,
    "lightning": {
        "mode": "stream",
        "paid_msat": {"import_energy": 224_750, "availability": 0},
        "payments": 15,
        "fees_msat": 15_000,
    },
}
SAID = "paid over Lightning (stream): import_energy 224750 msat, availability 0 msat; 15 payments, fees 15000 msat"


def summary(settlement: dict[str, Any]) -> dict[str, Any]:
    energy = dict.fromkeys(("charger", "analyzer_ac", "analyzer_dc", "vehicle"), 1.0)
    return {
        "verdict": "PASS", "reasons": [], "energy_import_wh": energy, "energy_export_wh": energy,
        "settlement": settlement, "simulated_s": 60.0, "wall_s": 1.0, "certificate": None, "trust": None,
        "report": None,
    }  # fmt: skip


def test_the_summary_of_a_demo_has_a_line_in_msat(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(OVER_LIGHTNING))
    lines = capsys.readouterr().out.splitlines()
    assert SAID in lines
    assert any(line.startswith("settled: import_energy: ev_owner pays") for line in lines)


def test_accounts_in_the_run_folder_have_no_such_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(SETTLEMENT))
    assert "Lightning" not in capsys.readouterr().out
    assert lightning_line({"status": "cancelled", "reason": "it went back"}) == ""


@pytest.mark.parametrize(("settlement", "count"), [(OVER_LIGHTNING, 1), (SETTLEMENT, 0)])
def test_the_result_of_a_plan_has_it_below_its_session(tmp_path: Path, settlement: dict[str, Any], count: int) -> None:
    certified = SimpleNamespace(verdict="PASS", reasons=(), settlement=settlement, certificate=None, trust=None)
    session = cast("CertifiedRun", SimpleNamespace(certified=certified))
    run = StationRun(tmp_path, "lightning", 60.0, "", session)
    lines = PlanResult(tmp_path, 0, (), (run,), tmp_path, (), 1.0).text().splitlines()
    assert lines.count(f"  {SAID}") == count
