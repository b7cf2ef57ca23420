"""The section on a settlement over Lightning: a row for each line, no row for each payment, and words for the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reports.html import write_report
from reports.settlement import lightning_settlement_section


def receipt(*, payments: int = 3, carried: str = "500/1", **changes: Any) -> dict[str, Any]:
    """A receipt as it stands in records/settlement.json, one line settled by any number of payments."""
    paid = {
        "name": "s.import_energy.0", "kind": "import_energy", "payer": "ev_owner", "payee": "charging_station",
        "payer_node": "02" * 33, "payee_node": "03" * 33, "amount_msat": 12_500, "fee_msat": 1000,
        "payment_hash": "ab" * 32, "preimage": "cd" * 32, "payment_request": "lnbcrt" + "q" * 300, "terms": {},
        "evidence_sha256": "ef" * 32,
    }  # fmt: skip
    due = {
        "kind": "import_energy", "payer": "ev_owner", "payee": "charging_station", "exact_msat": "1082501/2",
        "brought_msat": "0/1", "advance_msat": 540_000, "paid_msat": 541_250, "carried_msat": carried,
    }  # fmt: skip
    line = {
        "kind": "import_energy", "payer": "ev_owner", "payee": "charging_station", "price": "0.25",
        "price_unit": "EUR/kWh", "quantity": "2165", "quantity_unit": "Wh", "amount_micro": 541_250,
        "remainder_micro": "1/2",
    }  # fmt: skip
    return {
        "schema": "v2gbench.settlement-receipt/1.1",
        "hold_id": "9e" * 16,
        "record_sha256": "3c" * 32,
        "settled_utc": "2026-11-28T08:55:21.614Z",
        "status": "settled",
        "quote": {"currency": "EUR", "lines": [line], "tariff_name": "example", "tariff_sha256": "e0" * 32},
        "lightning": {
            "mode": "stream",
            "network": "regtest",
            "rate": {"euro_per_btc": "100000", "source": "stated by the test"},
            "lines": [due],
            "payments": [paid] * payments,
        },
        "signer": {"name": "aggregator", "public_key": "MFkw", "role": "aggregator"},
        "signature": "MEUC",
        **changes,
    }


def words_of(section_of: dict[str, Any]) -> str:
    section = lightning_settlement_section(section_of)
    assert section is not None
    return " ".join(section.words).replace("\u202f", " ")


def test_a_line_has_quantity_price_and_all_amounts_to_the_fraction_of_a_msat() -> None:
    section = lightning_settlement_section(receipt())
    assert section is not None
    (row,) = section.tables[0].rows
    assert [cell.text.replace("\u202f", " ") for cell in row] == [
        "import energy", "ev_owner → charging_station", "2 165 Wh", "0.25 EUR/kWh", "0.541250", "541 250 1/2",
        "540 000", "541 250", "500",
    ]  # fmt: skip


def test_rate_source_payments_and_fees_are_told_once_for_all() -> None:
    section = lightning_settlement_section(receipt(payments=300))
    assert section is not None
    facts = {row[0].text: row[1].text.replace("\u202f", " ") for row in section.tables[1].rows}
    assert facts["Rate"] == "100000 EUR/BTC"
    assert facts["Source of the rate"] == "stated by the test"
    assert facts["Payments"] == "300"
    assert facts["Fees for forwarding, paid by the payers"] == "300 000 msat"
    assert facts["Mode"] == "stream: paid as energy flowed"
    assert sum(len(table.rows) for table in section.tables) < 20


@pytest.mark.parametrize(
    ("carried", "said"),
    [
        ("500/1", "Carried on and unpaid here, because each session of a station has nodes of its own: 500 msat of"),
        (
            "121/219",
            "unpaid here, because each session of a station has nodes of its own: 121/219 msat of import energy",
        ),
        (
            "-3/4",
            "Paid beyond what was exactly due and kept, because each session of a station has nodes of its own: 3/4",
        ),
    ],
)
def test_what_is_carried_on_is_said_in_words(carried: str, said: str) -> None:
    assert said in words_of(receipt(carried=carried))


def test_where_nothing_is_carried_on_nothing_is_said_of_it() -> None:
    assert "own:" not in words_of(receipt(carried="0/1"))


@pytest.mark.parametrize("damaged", [{"lightning": 3}, {"quote": {}}, {"lightning": {"lines": [{}]}}, {"signer": None}])
def test_a_damaged_receipt_and_one_of_another_kind_have_no_such_section(damaged: dict[str, Any]) -> None:
    assert lightning_settlement_section(receipt(**damaged)) is None
    assert lightning_settlement_section({"schema": "v2gbench.settlement-receipt/1.0"}) is None


def test_the_page_of_a_session_of_many_payments_stays_small(session_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / session_folder.name
    shutil.copytree(session_folder, folder)
    before = len(write_report(folder).read_bytes())
    (folder / "records" / "settlement.json").write_text(json.dumps(receipt(payments=240)))
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="settlement">') :]
    section = section[: section.index("</section>")]
    assert "541\u202f250 1/2" in section
    assert "lnbcrt" not in page
    assert len(page.encode()) < before + 10_000
