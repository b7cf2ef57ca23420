"""From euro to millisatoshi: exact, stated, and nothing lost however a session is cut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.errors import SettlementError
from ledgers.lightning.pricing import Rate, Till, line_msat
from ledgers.quotes import quote_record
from ledgers.tariff import Remainder, load_tariff

TARIFF = load_tariff(Path(__file__).parents[2] / "tariffs" / "example.yaml")
RATE = Rate("100000", "test")


def test_a_quarter_euro_is_250_sat_at_100000_euro_per_bitcoin() -> None:
    assert RATE.msat(Fraction(250_000)) == 250_000
    assert RATE.micro_euro(Fraction(250_000)) == 250_000
    assert Rate("64321.09", "test").msat(Fraction(1)) == Fraction(100_000) / Fraction("64321.09")


@pytest.mark.parametrize("text", ["0", "-1", "1e5", "100 000", "", "NaN", "1.0000000001"])
def test_a_rate_that_is_no_positive_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(SettlementError, match="no positive decimal number"):
        Rate(text, "test")


def test_the_golden_session_is_224750_msat() -> None:
    quote = quote_record(TARIFF, "ab" * 32, import_wh=899, export_wh=0, available_power_w=0, available_s=0)
    assert line_msat(quote.lines[0], RATE) == 224_750


AMOUNTS = st.lists(st.fractions(min_value=0, max_value=10**9, max_denominator=10**6), max_size=60)


@given(AMOUNTS, st.sampled_from(list(Remainder)))
def test_the_sum_of_what_a_till_gives_is_the_exact_sum_rounded_once(
    amounts: list[Fraction], remainder: Remainder
) -> None:
    till = Till(remainder)
    given_msat = [till.take(amount) for amount in amounts]
    rest = sum(amounts, Fraction(0)) - sum(given_msat)
    assert rest == till.rest
    assert 0 <= rest < 1 if remainder is Remainder.PAYER else -1 < rest <= 0
    assert all(isinstance(whole, int) and whole >= 0 for whole in given_msat)


def test_899_wh_in_slices_of_300_are_two_whole_ones_and_a_rest_and_cost_what_they_cost_uncut() -> None:
    till = Till()
    worth = [RATE.msat(TARIFF.import_energy.exact_micro(Fraction(energy_wh))) for energy_wh in (300, 300, 299)]
    assert [till.take(exact_msat) for exact_msat in worth] == [75_000, 75_000, 74_750]
