"""The benchmark of real nodes measures what it says; without nodes it says that nothing was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.__main__ import main
from ledgers.lightning.errors import BuildError


def test_programs_that_cannot_be_built_are_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise BuildError("there is no Go")

    monkeypatch.setattr("ledgers.lightning.nodes.build.build_programs", refuse)
    assert main(["lightning", "--json"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "lightning: not measured: there is no Go\n")


@pytest.mark.nodes
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lightning_prints_figures_of_payments_that_were_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in ("_RUNS", "_STARTS"):
        monkeypatch.setattr(f"benchmarks.lightning.{count}", 1)
    assert main(["lightning", "--json", "--payments", "5", "--no-memory"]) == 0
    figures: dict[str, Any] = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)["figures"]}
    goals = {name: (figure["goal_kind"], figure["goal"]) for name, figure in figures.items() if figure["goal"]}
    assert goals == {
        "network_ready_s": ("max", 20.0),
        "pay_p50_ms": ("max", 260.0),
        "payments_per_s_20": ("min", 30.0),
        "hold_settle_ms": ("max", 50.0),
        "calls_ratio_to_stock": ("min", 2.0),
    }
    assert all(figure["value"] > 0.0 for figure in figures.values())
    assert figures["hold_settle_ms"]["value"] <= figures["hold_paid_ms"]["value"]
    assert figures["calls_per_s"]["ratio"] == pytest.approx(figures["calls_ratio_to_stock"]["value"])
