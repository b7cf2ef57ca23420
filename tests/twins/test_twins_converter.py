"""The converter: nothing is won, nothing is lost twice, and both directions are inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.charger.converter import Converter

converters = st.builds(
    Converter,
    rated_w=st.floats(1_000.0, 50_000.0),
    running_loss_w=st.floats(0.0, 200.0),
    proportional_loss=st.floats(0.0, 0.05),
    ohmic_loss=st.floats(0.0, 0.05),
)
shares = st.floats(-1.2, 1.2)  # of the rated power


@given(converters, shares)
def test_the_loss_is_never_negative(converter: Converter, share: float) -> None:
    dc_w = share * converter.rated_w
    assert converter.ac_from_dc_w(dc_w) - dc_w == pytest.approx(converter.loss_w(dc_w), abs=1e-6)
    assert converter.loss_w(dc_w) >= converter.running_loss_w


@given(converters, st.floats(0.0, 1.2))
def test_dc_from_ac_undoes_ac_from_dc_while_charging(converter: Converter, share: float) -> None:
    dc_w = share * converter.rated_w
    assert converter.dc_from_ac_w(converter.ac_from_dc_w(dc_w)) == pytest.approx(dc_w, rel=1e-6, abs=1e-4)


@given(converters, st.floats(-1.2, -0.0001))
def test_ac_from_dc_undoes_dc_from_ac_while_discharging(converter: Converter, share: float) -> None:
    ac_w = share * converter.rated_w
    dc_w = converter.dc_from_ac_w(ac_w)
    assert dc_w <= ac_w * (1.0 - 1e-12) <= 0.0
    assert converter.ac_from_dc_w(dc_w) == pytest.approx(ac_w, rel=1e-6, abs=1e-4)


@given(converters, shares)
def test_dc_power_has_the_sign_of_ac_power_or_is_nothing(converter: Converter, share: float) -> None:
    ac_w = share * converter.rated_w
    dc_w = converter.dc_from_ac_w(ac_w)
    assert dc_w * ac_w >= 0.0
    if ac_w > 0.0:
        assert dc_w <= ac_w * (1.0 + 1e-12)
    assert 0.0 <= converter.efficiency(ac_w) <= 1.0 + 1e-12


def test_the_default_meets_the_stated_efficiencies_in_both_directions() -> None:
    converter = Converter()
    assert converter.efficiency(1_000.0) == pytest.approx(0.90, abs=0.005)
    for power_w in (4_000.0, 7_000.0, 10_000.0):
        assert 0.94 <= converter.efficiency(power_w) <= 0.955
        assert 0.935 <= converter.efficiency(-power_w) <= 0.955


def test_ten_kilowatts_by_hand() -> None:
    # 9 450 W DC: 80 + 0.02 x 9 450 + 0.0315 x 9 450^2 / 10 000 = 80 + 189 + 281.3 W lost.
    converter = Converter()
    assert converter.loss_w(9_450.0) == pytest.approx(550.3, abs=0.05)
    assert converter.ac_from_dc_w(9_450.0) == pytest.approx(10_000.3, abs=0.05)


@pytest.mark.parametrize("ac_w", [0.0, 1.0, 79.9, 80.0])
def test_power_below_the_running_loss_charges_nothing(ac_w: float) -> None:
    assert Converter().dc_from_ac_w(ac_w) == 0.0
    assert Converter().efficiency(ac_w) == 0.0
