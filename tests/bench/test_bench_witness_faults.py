"""A fault planted in one witness: reconciliation disagrees, and that witness is named. A healthy session agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.pipeline import run_certified
from bench.session import GridOrder, SessionPlan
from bench.station import Station
from ledgers.records import Agreement

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]

# 40 simulated minutes with both directions and several steps, so that energies and lags can be told.
PLAN = SessionPlan(
    name="faults",
    duration_s=2400,
    baseline_w=4000.0,
    orders=(
        GridOrder(order_id="down", direction="load_decrease", start_s=300, duration_s=900, power_w=12_000.0),
        GridOrder(order_id="up", direction="load_increase", start_s=1500, duration_s=600, power_w=5_000.0),
    ),
)

DEVICE_OF = {"charger": "charger", "van": "van", "analyzer": "meter"}
FAULTS: dict[str, dict[str, Any]] = {
    "gain of 3 %": {"kind": "gain", "percent": 3.0},
    "sign turned": {"kind": "sign"},
    "frozen after 10 min": {"kind": "frozen", "after_s": 600.0},
    "clock late by 60 s": {"kind": "clock", "offset_s": 60.0},
}


def test_three_healthy_witnesses_agree_and_the_money_moves(emulated: Change) -> None:
    done = run_certified(emulated(), PLAN, report=False).certified

    assert done.verdict == "PASS", done.reasons
    assert done.record is not None
    assert done.record.record.reconciliation.verdict is Agreement.AGREE
    assert done.settlement["status"] == "settled"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("twin", DEVICE_OF)
def test_a_faulty_witness_is_named_and_nothing_is_paid(emulated: Change, twin: str, fault: str) -> None:
    station = emulated({f"twins.{twin}.fault": FAULTS[fault]})

    done = run_certified(station, PLAN, report=False).certified

    assert done.record is not None
    reconciliation = done.record.record.reconciliation
    assert reconciliation.verdict is Agreement.DISAGREE, reconciliation
    assert reconciliation.odd_witness == DEVICE_OF[twin], reconciliation
    assert done.verdict == "FAIL"
    assert done.settlement["status"] == "cancelled"
    assert done.certificate is not None  # evidence all the same


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_healthy_witnesses_agree_whatever_errors_the_seed_draws(emulated: Change, seed: int) -> None:
    done = run_certified(emulated({"seed": seed}), PLAN, report=False).certified

    assert done.verdict == "PASS", done.reasons
