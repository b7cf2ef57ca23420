"""How a witness sees a true value: inside its data sheet while healthy, and wrong in the planted way when not."""

# Tuples of floats are compared with pytest.approx, which mypy does not take for a float.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins.measurement import EXACT, Accuracy, Channel, Fault, MeteredPlane, generator

POWERS_W = st.floats(-12_000.0, 12_000.0)


def plane(fault: Fault | None = None, *, accuracy: Accuracy = EXACT, own_power: bool = True) -> MeteredPlane:
    rng = generator(7, "meter")
    return MeteredPlane(
        power=Channel(accuracy, rng) if own_power else None,
        voltage=Channel(EXACT, rng),
        current=Channel(EXACT, rng),
        fault=fault,
    )


# Channels


@given(
    seed=st.integers(0, 10_000),
    gain_percent=st.floats(0.0, 5.0),
    offset=st.floats(0.0, 50.0),
    value=POWERS_W,
)
def test_a_healthy_channel_keeps_its_own_data_sheet(
    seed: int, gain_percent: float, offset: float, value: float
) -> None:
    reported = Channel(Accuracy(gain_percent=gain_percent, offset=offset), random.Random(seed))(value)
    assert abs(reported - value) <= abs(value) * gain_percent / 100.0 + offset + 1e-9 * (1.0 + abs(value))


def test_the_drawn_gains_fill_the_stated_half_width() -> None:
    gains = [Channel(Accuracy(gain_percent=1.0), random.Random(seed)).gain for seed in range(2_000)]
    assert max(gains) == pytest.approx(1.01)
    assert min(gains) == pytest.approx(0.99)
    deviation = (sum((gain - 1.0) ** 2 for gain in gains) / len(gains)) ** 0.5
    assert deviation == pytest.approx(0.005, rel=0.15)  # half of the half-width: k = 2, cut at its ends


def test_an_exact_channel_reports_the_truth_and_draws_nothing() -> None:
    rng = random.Random(1)
    channel = Channel(EXACT, rng)
    before = rng.getstate()
    assert channel(-4711.125) == -4711.125
    assert rng.getstate() == before


@given(value=st.floats(-1e5, 1e5), resolution=st.sampled_from([0.001, 0.1, 0.5, 1.0, 10.0]))
def test_a_reported_value_is_a_multiple_of_the_resolution_next_to_the_truth(value: float, resolution: float) -> None:
    reported = Channel(Accuracy(resolution=resolution), random.Random(1))(value)
    assert abs(reported - value) <= 0.5 * resolution * (1.0 + 1e-9)
    assert reported / resolution == pytest.approx(round(reported / resolution), abs=1e-6)


def test_noise_has_the_stated_standard_deviation_and_no_bias() -> None:
    channel = Channel(Accuracy(noise=2.0), random.Random(3))
    samples = [channel(1000.0) for _ in range(5_000)]
    mean = sum(samples) / len(samples)
    assert mean == pytest.approx(1000.0, abs=0.15)
    assert (sum((s - mean) ** 2 for s in samples) / len(samples)) ** 0.5 == pytest.approx(2.0, rel=0.05)


def test_a_twins_errors_depend_on_the_seed_and_its_own_name_and_on_nothing_else() -> None:
    first = [generator(7, "charger").random() for _ in range(2)]
    others = generator(7, "van")
    others.random()
    assert first[0] == first[1] == generator(7, "charger").random()
    assert generator(7, "van").random() != first[0]
    assert generator(8, "charger").random() != first[0]


# Energy counted at a plane


@given(st.lists(st.tuples(POWERS_W, st.sampled_from([0.1, 1.0, 10.0, 60.0])), min_size=1, max_size=40))
def test_registers_are_the_integral_of_power_per_direction_and_never_run_backwards(
    steps: list[tuple[float, float]],
) -> None:
    meter, now_s = plane(), 0.0
    for power_w, dt_s in steps:
        now_s += dt_s
        before = meter.import_wh, meter.export_wh
        meter.step(power_w, 230.0, power_w / 690.0, dt_s, now_s)
        assert meter.import_wh >= before[0]
        assert meter.export_wh >= before[1]
    assert meter.import_wh == pytest.approx(sum(max(p, 0.0) * dt for p, dt in steps) / 3600.0, abs=1e-9)
    assert meter.export_wh == pytest.approx(sum(max(-p, 0.0) * dt for p, dt in steps) / 3600.0, abs=1e-9)


def test_the_register_counts_what_the_rounded_display_does_not_show() -> None:
    meter = plane(accuracy=Accuracy(resolution=10.0))
    for second in range(3600):
        meter.step(4.0, 230.0, 0.006, 1.0, float(second))
    assert meter.power_w == 0.0
    assert meter.import_wh == pytest.approx(4.0)


def test_a_witness_without_a_power_channel_multiplies_its_own_volts_and_amperes() -> None:
    meter = plane(own_power=False)
    meter.step(99_999.0, 360.0, -10.0, 3600.0, 3600.0)
    assert meter.power_w == -3600.0
    assert (meter.import_wh, meter.export_wh) == (0.0, 3600.0)


# Planted faults


def session(fault: Fault | None, *, own_power: bool = True) -> MeteredPlane:
    """5 kW in for 30 minutes, 4 kW out for 30 minutes, a second at a time."""
    meter = plane(fault, own_power=own_power)
    for second in range(1, 3601):
        power_w = 5000.0 if second <= 1800 else -4000.0
        meter.step(power_w, 400.0, power_w / 400.0, 1.0, float(second))
    return meter


@pytest.mark.parametrize("own_power", [True, False])
def test_without_a_fault_the_session_is_counted_right(own_power: bool) -> None:
    meter = session(None, own_power=own_power)
    assert (meter.import_wh, meter.export_wh) == (pytest.approx(2500.0), pytest.approx(2000.0))
    assert (meter.power_w, meter.current_a) == (-4000.0, -10.0)


@pytest.mark.parametrize("own_power", [True, False])
def test_a_gain_fault_of_3_percent_adds_3_percent_in_both_directions(own_power: bool) -> None:
    meter = session(Fault("gain", percent=3.0), own_power=own_power)
    assert (meter.import_wh, meter.export_wh) == (pytest.approx(2575.0), pytest.approx(2060.0))
    assert (meter.power_w, meter.current_a) == (pytest.approx(-4120.0), pytest.approx(-10.3))


@pytest.mark.parametrize("own_power", [True, False])
def test_a_sign_fault_swaps_the_directions(own_power: bool) -> None:
    meter = session(Fault("sign"), own_power=own_power)
    assert (meter.import_wh, meter.export_wh) == (pytest.approx(2000.0), pytest.approx(2500.0))
    assert (meter.power_w, meter.current_a, meter.voltage_v) == (4000.0, 10.0, 400.0)


def test_a_frozen_witness_repeats_itself_from_then_on_registers_too() -> None:
    meter = session(Fault("frozen", after_s=900.0))
    assert (meter.power_w, meter.current_a) == (5000.0, 12.5)
    assert (meter.import_wh, meter.export_wh) == (pytest.approx(5000.0 * 899 / 3600.0), 0.0)


def test_a_witness_whose_clock_is_60_s_late_reports_the_direction_of_60_s_ago() -> None:
    meter = plane(Fault("clock", offset_s=60.0))
    seen: dict[int, float] = {}
    for second in range(1, 301):
        power_w = 5000.0 if second <= 100 else -4000.0
        meter.step(power_w, 400.0, power_w / 400.0, 1.0, float(second))
        seen[second] = meter.power_w
    assert (seen[100], seen[160], seen[161], seen[300]) == (5000.0, 5000.0, -4000.0, -4000.0)
    assert meter.import_wh == pytest.approx(5000.0 * 160 / 3600.0)
    assert meter.export_wh == pytest.approx(4000.0 * 140 / 3600.0)


def test_a_late_clock_works_with_steps_longer_than_its_offset() -> None:
    meter = plane(Fault("clock", offset_s=5.0))
    for minute in range(1, 4):
        meter.step(1000.0 * minute, 400.0, 0.0, 60.0, 60.0 * minute)
    assert meter.power_w == 2000.0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "gian", "percent": 3.0}, "there is no fault 'gian'"),
        ({"kind": "clock", "offset_s": -1.0}, "cannot report what comes"),
        ({"kind": "clock", "offset_s": float("nan")}, "cannot report what comes"),
    ],
)
def test_a_fault_that_would_do_nothing_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(**wrong)
