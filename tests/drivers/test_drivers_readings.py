"""One measured value and how far it can be trusted."""

from __future__ import annotations

import math

import pytest

from drivers.readings import Quality, Reading, missing


def test_a_reading_is_good_when_it_is_a_number_of_good_quality() -> None:
    assert Reading(-5000.0, "W", 12.0, 1_700_000_012.0, "charger.ac_power").is_good
    assert Reading(0.0, "W", 0.0, 0.0, "charger.ac_power").is_good


@pytest.mark.parametrize("quality", [quality for quality in Quality if quality is not Quality.GOOD])
def test_any_other_quality_is_not_good_whatever_the_value(quality: Quality) -> None:
    assert not Reading(230.0, "V", 1.0, 2.0, "charger.grid_voltage", quality).is_good


def test_not_a_number_is_never_good() -> None:
    assert not Reading(math.nan, "V", 1.0, 2.0, "charger.grid_voltage").is_good


def test_a_missing_value_is_nan_with_its_reason_never_a_default() -> None:
    reading = missing("%", 3.0, 4.0, "charger.soc")
    assert math.isnan(reading.value)
    assert (reading.unit, reading.mono_s, reading.utc_s, reading.source) == ("%", 3.0, 4.0, "charger.soc")
    assert reading.quality is Quality.NO_DATA
    assert missing("V", 0.0, 0.0, "meter.dc_voltage", Quality.OVER_RANGE).quality is Quality.OVER_RANGE


def test_a_reading_cannot_be_changed() -> None:
    reading = Reading(1.0, "W", 0.0, 0.0, "charger.ac_power")
    with pytest.raises(AttributeError):
        reading.value = 2.0  # type: ignore[misc]  # the point of the test


def test_qualities_are_the_words_that_are_recorded() -> None:
    assert [quality.value for quality in Quality] == ["good", "no_data", "over_range", "stale", "estimated"]
