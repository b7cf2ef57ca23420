"""A receipt of a Lightning settlement, checked offline: it holds, and no part of it can be changed unseen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import sha256_hex, to_base64, to_canonical
from ledgers.errors import RecordError
from ledgers.lightning.bolt11 import read_invoice_text
from ledgers.lightning.client import FeeLimit, LndClient
from ledgers.lightning.modes import Mode, slice_verifier, write_slice_record
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.tariff import load_tariff
from ledgers.verify import verify_certificate, verify_record
from tests.ledgers.lnd_double import LETTERS, Network, checksum, write_invoice

Bench = Any  # the class of conftest.py

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"
EURO = 1_000_000

pytestmark = pytest.mark.wire


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(base_fee_msat=1_000, fee_ppm=1) as network:
        for account, local_msat in (("ev_owner", 50 * EURO), ("aggregator", 100 * EURO), ("charging_station", EURO)):
            network.add(account, local_msat=local_msat, remote_msat=100 * EURO)
        yield network


@pytest.fixture
def folder(bench: Bench, network: Network, tmp_path: Path) -> Path:
    """A certified session whose import was paid by two slices and the rest, whose export by one hold."""
    signed = bench.signed()
    paths = bench.write_folder(tmp_path / "run", signed)
    clients = {name: LndClient(node.access()) for name, node in network.nodes.items()}
    settlement = LightningSettlement(
        tmp_path / "settlement",
        tariff=load_tariff(EXAMPLE),
        rate=Rate("64321.09", "stated by the test"),
        mode=Mode.HOLD,
        nodes=clients,
        identity=bench.identity("settlement", "settlement"),
        wall_utc_s=lambda: 1_772_363_000.0,
        fees=FeeLimit(2_000, 10),
        fsync=False,
    )
    with settlement:
        session_id = signed.record.session.session_id
        tab = settlement.hold_tab(session_id, "import_energy", slice_wh=2000)
        for _ in range(2):
            debt = tab.hold_next()
            record = write_slice_record(debt, Decimal(2000), bench.meter)
            tab.settle(
                debt.name, record=record, verify=slice_verifier(debt, bench.meter.name, bench.meter.public_key_der)
            )
        settlement.bind(session_id, signed.sha256)
        quote = settlement.quote(
            signed.sha256,
            import_wh=Decimal("5012.4"),
            export_wh=Decimal("2990.2"),
            available_power_w=10_000,
            available_s=1200,
        )
        hold = settlement.hold(quote)
        receipt = settlement.release(hold.hold_id, record=signed.to_bytes(), verify=no_return)
    for client in clients.values():
        client.close()
    paths["settlement"].write_bytes(receipt.to_canonical())
    bench.issue(tmp_path / "run", paths)
    return tmp_path / "run"


def no_return(data: bytes) -> None:
    verify_record(data)


def test_a_certificate_paid_over_lightning_is_intact(folder: Path) -> None:
    verdict = verify_certificate(folder / "certificate.json")
    assert verdict.text == "intact; signers not checked; material emulated"
    (line,) = [check.detail for check in verdict.checks if check.name == "settlement over Lightning"]
    assert line.startswith("5 payments, ")
    assert line.endswith(" msat on regtest, each with its preimage and invoice")


Change = Callable[[dict[str, Any]], object]


def payment(document: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = document["lightning"]["payments"][number]
    return found


CHANGES: dict[str, tuple[Change, str]] = {
    "preimage": (lambda d: payment(d, 0).update(preimage="00" * 32), "the preimage is not the one"),
    "hash": (lambda d: payment(d, 0).update(payment_hash="00" * 32), "the preimage is not the one"),
    "amount of a slice": (lambda d: payment(d, 0).update(amount_msat=777_000), "terms of another session, kind or am"),
    "amount of the last": (lambda d: payment(d, 2).update(amount_msat=777_000), "another amount in msat"),
    "twice": (lambda d: d["lightning"]["payments"].append(payment(d, 2)), "names one payment twice"),
    "one is missing": (lambda d: d["lightning"]["payments"].pop(), "the payments come to 0 msat"),
    "another session": (lambda d: payment(d, 0)["terms"].update(session_id="9"), "terms of another session"),
    "other terms": (lambda d: payment(d, 0)["terms"].update(number=7), "not for this usage record or these terms"),
    "no terms": (lambda d: payment(d, 0).update(terms=None), "not for this usage record or these terms"),
    "another payee": (
        lambda d: payment(d, 2).update(payee_node="02" + "11" * 32),
        "was not signed by the payee's node",
    ),
    "another network": (lambda d: d["lightning"].update(network="mainnet"), "another network"),
    "another rate": (lambda d: d["lightning"]["rate"].update(euro_per_btc="64321.08"), "at the stated rate"),
    "no rate": (lambda d: d["lightning"]["rate"].update(euro_per_btc="0"), "no positive decimal number"),
    "other parties": (lambda d: payment(d, 2).update(payer="aggregator"), "between other parties"),
    "another kind": (lambda d: payment(d, 2).update(kind="gossip"), "the payments come to"),
    "carried too much": (
        lambda d: d["lightning"]["lines"][0].update(carried_msat="1/2"),
        "what is carried on is not what the payments leave",
    ),
    "another line": (lambda d: d["lightning"]["lines"].pop(), "pays other lines than its quote"),
    "another price": (lambda d: d["quote"]["lines"][0].update(price="0.24"), "is not quantity times price"),
    "no invoice": (lambda d: payment(d, 2).update(payment_request=""), "nothing says what it was for"),
    "another advance": (
        lambda d: d["lightning"]["lines"][0].update(advance_msat=7),
        "import_energy: the payments while energy flowed come to",
    ),
    "a slice's evidence": (
        lambda d: payment(d, 0).update(evidence_sha256=""),
        "is a slice without the hash of the signed record",
    ),
    "evidence that is no hash": (
        lambda d: payment(d, 0).update(evidence_sha256="x" * 64),
        "is a slice without the hash of the signed record",
    ),
    "the last one's evidence": (
        lambda d: payment(d, 2).update(evidence_sha256="00" * 32),
        "was settled for another record than the session's",
    ),
    "a fee below 0": (lambda d: payment(d, 0).update(fee_msat=-1), "with a fee of -1 is no payment"),
    "a fee that is no integer": (lambda d: payment(d, 0).update(fee_msat="1"), "fee_msat"),
    "another member": (lambda d: payment(d, 2).update(note="x"), "note"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_no_part_can_be_changed_even_by_the_signer(bench: Bench, folder: Path, name: str) -> None:
    change, words = CHANGES[name]
    path = folder / "records" / "settlement.json"
    document = json.loads(path.read_bytes())
    change(document)
    del document["signature"]
    signer = bench.identity("settlement", "settlement")
    document["signature"] = to_base64(signer.sign(to_canonical(document)))
    path.write_bytes(to_canonical(document))
    (folder / "certificate.json").unlink()
    with pytest.raises(RecordError, match=re.escape(words)):  # nobody can issue a certificate over it
        bench.issue(folder, paths_of(folder))


def paths_of(folder: Path) -> dict[str, Path]:
    names = {
        "record": "usage_record.json",
        "import": "import.ocmf",
        "export": "export.ocmf",
        "entry": "monitoring.entry",
        "proof": "monitoring.tlog-proof",
        "record_proof": "record.tlog-proof",
        "settlement": "settlement.json",
    }
    return {name: folder / "records" / file for name, file in names.items()}


def test_invoices_at_the_end_carry_the_usage_records_hash(folder: Path) -> None:
    path = folder / "records" / "settlement.json"
    document = json.loads(path.read_bytes())
    bound = {read_invoice_text(item["payment_request"]).description_hash for item in document["lightning"]["payments"]}
    assert document["record_sha256"] in bound
    assert document["record_sha256"] == sha256_hex((folder / "records" / "usage_record.json").read_bytes())


# ------------------------------------------------------------------------------------------------------ invoices' texts


def invoice(network: Network, **changes: Any) -> str:
    known: dict[str, Any] = {
        "chain": "bcrt",
        "amount_msat": 224_750,
        "payment_hash": b"\x01" * 32,
        "description_hash": b"\x02" * 32,
        "created": 1_772_363_000,
        "expiry": 600,
    }
    return write_invoice(network.nodes["ev_owner"].key, **{**known, **changes})


def test_an_invoices_text_is_read_as_it_was_written(network: Network) -> None:
    text = read_invoice_text(invoice(network))
    assert (text.network, text.amount_msat, text.payment_hash) == ("regtest", 224_750, "01" * 32)
    assert (text.description_hash, text.created_unix_s, text.expiry_s) == ("02" * 32, 1_772_363_000, 600)
    assert text.signed_by(network.nodes["ev_owner"].public_key)
    assert not text.signed_by(network.nodes["aggregator"].public_key)
    assert not text.signed_by("02" + "00" * 32)
    assert read_invoice_text(invoice(network, chain="bc")).network == "mainnet"


def test_a_changed_letter_anywhere_in_an_invoice_is_noticed(network: Network) -> None:
    text = invoice(network)
    for place in range(len(text)):
        letter = "q" if text[place] != "q" else "p"
        with pytest.raises(RecordError, match="invoice"):
            read_invoice_text(text[:place] + letter + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "lnbcrt", "lnbcrt1", "LNBCRT1QQQ", "lnbcrt1" + "q" * 200, "bitcoin:x", "ln1é"])
def test_what_is_no_invoice_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="invoice"):
        read_invoice_text(text)


def test_an_invoice_without_hash_or_with_a_cut_field_is_refused() -> None:
    for words, reason in (([0] * 7 + [0] * 104, "no payment hash"), ([0] * 7 + [1, 1, 20] + [0] * 104, "cut short")):
        text = "lnbcrt1" + "".join(LETTERS[word] for word in [*words, *checksum("lnbcrt", words)])
        with pytest.raises(RecordError, match=reason):
            read_invoice_text(text)
