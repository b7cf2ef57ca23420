from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.plots import Panel, Trace, render_plots, thinned_indices
from reports.run import Run
from reports.series import OrderWindow, build_panels, find_cast, ramp_s


def test_a_peak_of_one_sample_survives_thinning() -> None:
    y = np.zeros(86_400)
    y[40_001], y[70_007] = 9_800.0, -9_900.0
    kept = thinned_indices(y)
    assert len(kept) < 3_100
    assert y[kept].max() == 9_800.0
    assert y[kept].min() == -9_900.0
    assert (kept[0], kept[-1]) == (0, 86_399)


def test_a_gap_survives_thinning() -> None:
    y = np.sin(np.arange(50_000) / 500)
    y[20_000:20_003] = np.nan
    kept = thinned_indices(y)
    assert np.isnan(y[kept]).any()


def test_a_short_series_is_not_thinned() -> None:
    assert thinned_indices(np.arange(2000.0)).tolist() == list(range(2000))


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6)), min_size=1, max_size=300),
    st.integers(min_value=2, max_value=40),
)
def test_thinning_keeps_ends_extremes_and_order_for_any_series(values: list[float], buckets: int) -> None:
    y = np.array(values)
    kept = thinned_indices(y, buckets)
    assert (kept[0], kept[-1]) == (0, len(y) - 1)
    assert (np.diff(kept) > 0).all() if len(kept) > 1 else len(y) == 1
    finite = y[np.isfinite(y)]
    if len(finite):
        assert np.nanmax(y[kept]) == finite.max()
        assert np.nanmin(y[kept]) == finite.min()
    assert np.isnan(y[kept]).any() == np.isnan(y).any()


def test_a_day_at_one_second_stays_small() -> None:
    minutes = np.arange(86_400) / 60
    noise = np.random.default_rng(1).normal(0, 1000, 86_400)
    traces = tuple(Trace(f"witness {i}", minutes, noise + i) for i in range(5))
    plots = render_plots([Panel("power", "Power", "W", traces)])
    assert len(plots.script_js) < 300_000
    assert list(plots.elements) == ["power"]


def test_no_panels_need_no_library() -> None:
    assert render_plots([]).library_js == ""


def test_devices_are_known_by_what_they_measured(session_folder) -> None:  # type: ignore[no-untyped-def] # a fixture's Path
    with Run.open(session_folder) as run:
        who = find_cast(run)
        assert (who.charger, who.vehicle, who.analyzer) == ("charger", "van", "analyzer")


def test_the_ramp_is_the_time_to_nine_tenths_of_the_ordered_power(session_folder) -> None:  # type: ignore[no-untyped-def] # a fixture's Path
    with Run.open(session_folder) as run:
        # 700 W/s from the begin of the order: 7,200 W are reached in the 11th cycle, 5,400 W in the 8th
        assert ramp_s(run, OrderWindow(600.0, 1500.0, -8000.0)) == pytest.approx(10.0)
        assert ramp_s(run, OrderWindow(1920.0, 3000.0, 6000.0)) == pytest.approx(7.0)
        assert ramp_s(run, OrderWindow(1920.0, 3000.0, 9000.0)) is None


def test_the_difference_has_a_gap_where_the_reference_has_one(session_folder) -> None:  # type: ignore[no-untyped-def] # a fixture's Path
    with Run.open(session_folder) as run:
        panel = next(panel for panel in build_panels(run, ()) if panel.key == "difference")
    charger = panel.traces[0]
    assert np.isnan(charger.y[2400:2430]).all()
    assert np.isfinite(charger.y[2000:2399]).all()
    assert abs(float(np.mean(charger.y[2000:2300])) - 24.0) < 3.0  # 0.4 % of 6 kW
