"""150 payments over real nodes with ten faults: each is paid exactly once, or cancelled and said; the books balance."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import lightning_soak
from benchmarks.__main__ import main
from ledgers.errors import SettlementError
from ledgers.lightning.errors import BuildError

SEED = 11
PAYMENTS, FAULTS = 150, 10


def test_a_soak_whose_programs_cannot_be_built_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BuildError("there is no Go")

    monkeypatch.setattr("ledgers.lightning.nodes.network.build_programs", refuse)
    assert main(["lightning_soak", "--json", "--payments", "1", "--faults", "0"]) == 1
    assert capsys.readouterr().err.endswith("lightning_soak: not measured: there is no Go\n")


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_payments_with_faults_are_each_made_once_or_cancelled_and_the_audit_is_exact(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    found = lightning_soak.run(tmp_path, payments=PAYMENTS, faults=FAULTS, seed=SEED, say=print)
    assert found.wrong == ()
    assert found.paid + found.cancelled == PAYMENTS
    assert found.paid > found.cancelled
    assert sum(found.faults.values()) == FAULTS
    assert found.audit.exact, str(found.audit)
    figures = {figure.name: figure for figure in lightning_soak.figures(found, found)}
    assert figures["audit_difference_msat"].value == 0
    assert figures["payments_per_s"].ratio == 1


@pytest.mark.nodes
@pytest.mark.slow
def test_a_payment_that_does_not_end_ends_the_soak_with_what_the_node_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightning_soak, "_PAYMENT_S", 1.0)
    monkeypatch.setattr(lightning_soak._Worker, "_invoice", refuse_for_ever)
    with pytest.raises(SettlementError, match="the node is away"):
        lightning_soak.run(tmp_path, payments=20, faults=0, seed=SEED, say=print)


def refuse_for_ever(*_: object) -> bool:
    raise SettlementError("the node is away")
