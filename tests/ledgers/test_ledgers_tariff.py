"""Tariff files: exact prices, one stated rounding, and refusals that name file and line."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.canonical import sha256_hex
from ledgers.errors import RecordError, SettlementError
from ledgers.tariff import Price, Remainder, Tariff, exact, load_tariff

EXAMPLE = Path(__file__).parents[2] / "tariffs" / "example.yaml"


def changed(folder: Path, old: str, new: str) -> Path:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path = folder / "tariff.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_shipped_example_is_read_exactly_as_written() -> None:
    tariff = load_tariff(EXAMPLE)
    assert tariff.import_energy == Price("0.25", "kWh")
    assert tariff.v2g_energy == Price("180", "MWh")
    assert tariff.availability == Price("30000", "MW/year")
    assert (tariff.currency, tariff.remainder) == ("EUR", Remainder.PAYER)
    assert (tariff.driver, tariff.seller, tariff.aggregator) == ("ev_owner", "charging_station", "aggregator")
    assert tariff.sha256 == sha256_hex(EXAMPLE.read_bytes())


@pytest.mark.parametrize(
    ("price", "quantity", "micro"),
    [
        (Price("1", "MWh"), 1, 1),  # 1 EUR/MWh is 1 micro-euro per Wh
        (Price("250", "MWh"), 1000, 250_000),  # a kWh at 25 cent
        (Price("0.25", "kWh"), 1000, 250_000),
        (Price("0.1", "kWh"), 3, 300),  # 0.1 is a tenth, not the nearest binary fraction
        (Price("31536000", "MW/year"), 1, 1),  # 1 W for 1 s
        (Price("30000", "MW/year"), 10_000 * 3600, Fraction(30000 * 10_000 * 3600, 31_536_000)),
    ],
)
def test_prices_are_exact(price: Price, quantity: int, micro: int | Fraction) -> None:
    assert price.exact_micro(Fraction(quantity)) == micro


@given(st.fractions(min_value=0, max_value=10**12))
def test_rounding_goes_to_the_stated_side_and_by_less_than_a_micro_euro(amount: Fraction) -> None:
    base = load_tariff(EXAMPLE)
    assert base.remainder is Remainder.PAYER
    assert 0 <= amount - base.rounded_micro(amount) < 1
    up = Tariff(**{**{name: getattr(base, name) for name in Tariff.__slots__}, "remainder": Remainder.PAYEE})
    assert 0 <= up.rounded_micro(amount) - amount < 1


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("tariff/1.0", "tariff/2.0", None, "this version reads 'v2gbench.tariff/1.0'"),
        ("name: example", "nmae: example", 3, "unknown key 'nmae'"),
        ("name: example\n", "", 2, "the tariff lacks name"),
        ("currency: EUR", "currency: USD", 4, "currency is 'USD'; it can be EUR"),
        ("price: 0.25", "price: -0.25", 7, "is '-0.25'; write a plain decimal"),
        ("price: 0.25", "price: 1e-3", 7, "plain decimal"),
        ("price: 0.25", "price: .nan", 7, "plain decimal"),
        ("price: 0.25", "price: 25 cent", 7, "plain decimal"),
        ("per: kWh", "per: MW/year", 7, "it can be MWh or kWh"),
        ("per: MW/year", "per: kWh", 13, "it can be MW/year"),
        ("{price: 180, per: MWh}", "180", 10, "v2g_energy must be a mapping with per, price"),
        ("vat: none", "vat: 22", 16, "vat is '22'; it can be none"),
        ("remainder: payer", "remainder: bank", 19, "it can be payee or payer"),
        ("remainder: payer", "remainder: payer\nremainder: payee", 20, "stands twice"),
        ("seller: charging_station", "seller: ev_owner", 22, "three different accounts"),
        ("currency: EUR", "currency: [", None, "line"),
        ("name: example", "name: ''", 3, "name must be a text"),
    ],
)
def test_a_wrong_tariff_is_refused_with_file_and_line(
    tmp_path: Path, old: str, new: str, line: int | None, reason: str
) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(RecordError) as caught:
        load_tariff(path)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(str(path) if line is None else f"{path} line {line}: ")


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "is empty"), (b"\xff", "is not text in UTF-8"), (b"- 1\n", "needs 'schema'")]
)
def test_a_file_that_is_no_tariff_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "tariff.yaml"
    path.write_bytes(data)
    with pytest.raises(RecordError, match=reason):
        load_tariff(path)
    with pytest.raises(RecordError, match="cannot be read"):
        load_tariff(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "give an int or a Decimal"),
        (True, "give an int or a Decimal"),
        ("1", "give an int or a Decimal"),
        (-1, "must not be negative"),
        (Decimal("NaN"), "must be a finite number"),
        (Decimal("Infinity"), "must be a finite number"),
    ],
)
def test_quantities_are_exact_and_not_negative(value: Any, reason: str) -> None:
    with pytest.raises(SettlementError, match=reason):
        exact(value, what="import_wh")
    assert exact(Decimal("0.001"), what="import_wh") == Fraction(1, 1000)
