"""Identification: the model that is fitted is the twin's, what a log tells is found, the rest is left and said."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from drivers.errors import ConfigError
from tests.twins.synthetic_logs import Synthetic, synthetic_logs
from twins.pack.identification import (
    AgingHistory,
    AgingUse,
    Fit,
    charge_curves,
    fit_aging,
    fit_series,
    judge,
    part_of,
    series_of,
)
from twins.pack.identification.forward import (
    FREE,
    O_CELLS,
    O_TEMPERATURE,
    O_VOLTAGE,
    OUT_COLUMNS,
    model_of,
    rows_of,
    simulate,
)
from twins.pack.identification.posterior import autocorrelation_time, dwell_rows
from twins.pack.laws import closed_form_loss, law
from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters, dump_pack, load_pack, shipped_pack
from twins.pack.series import Drive, PackState, advance
from twins.pack.uses import Use
from twins.replay import ReplaySample

PACK = shipped_pack("env200_40kwh")


@cache
def logs(kind: str) -> Synthetic:
    return synthetic_logs(PACK, kind, 3, seed=11)


@cache
def fitted(kind: str) -> Fit:
    return fit_series(series_of(logs(kind).logs[0], PACK, name=kind, averaged=True), PACK)


def drive(count: int = 60, spacing_s: float = 1.0) -> list[ReplaySample]:
    """Rows of a car that slowly discharges 115 Ah from 80 %, at 36 and 54 A in turns."""
    samples, soc = [], 80.0
    for row in range(count):
        current_a = -36.0 if row // 10 % 2 else -54.0
        samples.append(
            ReplaySample(
                time_s=row * spacing_s,
                line=row + 2,
                soc_percent=soc,
                pack_voltage_v=375.0 + 0.06 * current_a,
                pack_current_a=current_a,
                pack_temperature_1_c=20.0 + row * 0.001,
                ambient_c=15.0,
                charge_mode=0.0,
            )
        )
        soc += 100.0 * current_a * spacing_s / 3600.0 / 115.44
    return samples


def changed(samples: list[ReplaySample], row: int, **values: object) -> list[ReplaySample]:
    found = list(samples)
    found[row] = dataclasses.replace(found[row], **values)  # type: ignore[arg-type]
    return found


def notes_of(samples: list[ReplaySample], pack: PackParameters = PACK) -> str:
    return " | ".join(series_of(samples, pack, name="log").notes)


# The model


@pytest.mark.parametrize("use", [Use.RAPID, Use.DRIVING])
def test_fitted_model_shows_the_voltage_and_temperatures_of_the_pack_twin(use: Use) -> None:
    seconds = 1800
    second = np.arange(seconds)
    power_w = np.full(seconds, 40_000.0) if use is Use.RAPID else -12_000.0 + 25_000.0 * np.sin(second / 9.0)
    twin = PackModel.build(PACK)
    state = PackState.new(twin, soc=0.4, temperature_c=24.0)
    record = ("voltage_v", "current_a", "soc", "plates_c", "temperature_c")
    found = advance(
        twin,
        state,
        Drive(
            1.0,
            power_w,
            np.full(1, 12.0),
            use=np.full(1, use, dtype=np.uint8),
            speed_km_h=np.full(1, 60.0),
            obey_limits=False,
        ),
        record=record,
    )
    begin = ReplaySample(
        time_s=0.0,
        soc_percent=40.0,
        pack_voltage_v=350.0,
        pack_current_a=0.0,
        pack_temperature_1_c=24.0,
        ambient_c=12.0,
        speed_kmh=60.0,
        charge_mode=3.0 if use is Use.RAPID else 0.0,
    )
    samples = [
        begin,
        *(
            dataclasses.replace(
                begin,
                time_s=place + 1.0,
                pack_voltage_v=float(found["voltage_v"][place]),
                pack_current_a=float(found["current_a"][place]),
                soc_percent=100.0 * float(found["soc"][place]),
            )
            for place in range(seconds)
        ),
    ]
    series = series_of(samples, PACK, name="twin", averaged=True)
    rows, model = rows_of(series), model_of(PACK)
    free, out = np.zeros(FREE), np.empty((series.rows, OUT_COLUMNS))
    free[-1] = 24.0 - _steady_casing_c(24.0, 12.0, 60.0)  # the twin's casing begins as warm as the rest
    simulate(rows, free, model.constants, model.table, out)
    assert np.abs(out[1:, O_TEMPERATURE] - found["plates_c"]).max() < 0.05
    assert np.abs(out[1:, O_CELLS] - found["temperature_c"]).max() < 0.05
    # the twin's voltage is that of the middle of a step, the model's that of its end
    assert np.abs(out[1:, O_VOLTAGE] - found["voltage_v"]).max() < 0.25


def _steady_casing_c(plates_c: float, ambient_c: float, speed_km_h: float) -> float:
    thermal = PACK.thermal
    air = thermal.still_air_w_per_k + thermal.air_w_per_k_per_km_h * speed_km_h
    return (thermal.plates_to_casing_w_per_k * plates_c + air * ambient_c) / (thermal.plates_to_casing_w_per_k + air)


def test_62_kwh_pack_warms_in_two_rapid_charges_as_cars_do_within_2_5_k() -> None:
    # 118 A for 20 min from 41.5 degC: +6.1 K; 84 A for 22 min at 45 degC: +3.2 K (62 kWh cars)
    for amperes, minutes, begin_c, rise_k in ((118.0, 20, 41.5, 6.1), (84.0, 22, 45.0, 3.2)):
        twin = PackModel.build(shipped_pack("leaf_62kwh"))
        state = PackState.new(twin, soc=0.3, temperature_c=begin_c, soh=0.95)
        found: dict[str, np.ndarray] = {}
        voltage_v = 355.0
        for _ in range(minutes):
            found = advance(
                twin,
                state,
                Drive(
                    1.0,
                    np.full(60, voltage_v * amperes),
                    np.full(1, 27.0),
                    use=np.full(1, Use.RAPID, dtype=np.uint8),
                    obey_limits=False,
                ),
                record=("voltage_v", "plates_c"),
            )
            voltage_v = float(found["voltage_v"][-1])
        assert float(found["plates_c"][-1]) - begin_c == pytest.approx(rise_k, abs=2.5)


def test_autocorrelation_time_of_an_ar1_series_is_its_closed_form() -> None:
    rng = np.random.default_rng(3)
    values = np.zeros(200_000)
    for place, noise in enumerate(rng.standard_normal(values.size - 1), start=1):
        values[place] = 0.9 * values[place - 1] + noise
    assert autocorrelation_time(values) == pytest.approx((1 + 0.9) / (1 - 0.9), rel=0.1)
    assert autocorrelation_time(rng.standard_normal(20_000)) == pytest.approx(1.0, abs=0.1)


def test_rounded_value_counts_once_for_as_long_as_it_stands() -> None:
    assert dwell_rows(np.repeat(np.arange(5.0), 20)) == 20.0
    assert dwell_rows(np.arange(50.0)) == 1.0


# What a log tells


def test_rapid_charge_tells_capacity_resistance_and_heat_capacity_within_four_standard_deviations() -> None:
    fit, truth = fitted("rapid"), logs("rapid").truth
    for name in ("capacity_ah", "resistance.series_ohm", "thermal.cells_j_per_k"):
        parameter = fit.parameter(name)
        assert parameter.identified, name
        assert abs(parameter.mean - truth[name][0]) < 4.0 * parameter.sd, name
        assert parameter.sd < 0.5 * parameter.prior_sd
    assert fit.parameter("capacity_ah").sd < 0.05 * truth["capacity_ah"][0]


def test_6_6_kw_charge_leaves_resistance_and_heat_as_they_were_and_says_so() -> None:
    fit = fitted("ac")
    for name in ("resistance.series_ohm", "resistance.slow_ohm", "thermal.cells_j_per_k", "thermal.still_air_w_per_k"):
        parameter = fit.parameter(name)
        assert not parameter.identified
        assert parameter.value == parameter.prior
        assert not fit.pack.estimates[name].identified
    assert fit.pack.resistance == PACK.resistance
    assert fit.pack.thermal == PACK.thermal


def test_heat_factor_of_rapid_charging_is_kept_and_the_reason_told_without_both_kinds_of_use() -> None:
    assert any("needs a rapid charge and other use" in note for note in fitted("rapid").notes)
    assert any("no rapid charge" in note for note in fitted("drive").notes)
    assert fitted("rapid").pack.thermal.rapid_heat_factor == PACK.thermal.rapid_heat_factor


def test_two_logs_of_one_car_are_sharper_than_one() -> None:
    both = fit_series(
        [series_of(logs("drive").logs[0], PACK, name=name, averaged=True) for name in ("first", "second")], PACK
    )
    for name in ("resistance.fast_ohm", "resistance.tilt"):
        assert both.parameter(name).sd < 0.9 * fitted("drive").parameter(name).sd


def test_fitted_pack_reads_back_equal_and_stays_a_pack_that_a_twin_runs_on(tmp_path: Path) -> None:
    fit = fitted("rapid")
    path = tmp_path / "fitted.yaml"
    path.write_text(dump_pack(fit.pack), encoding="utf-8")
    pack = load_pack(path)
    assert pack == fit.pack
    assert pack.capacity_ah == PACK.capacity_ah  # that of the new pack
    expected = fit.parameter("resistance.series_ohm").value
    middle = np.interp(50.0, pack.resistance.soc_percent, pack.resistance.series_ohm)
    assert middle == pytest.approx(expected, rel=0.02)
    scaled = pack.thermal.cells_j_per_k / PACK.thermal.cells_j_per_k
    assert scaled == pytest.approx(pack.thermal.casing_j_per_k / PACK.thermal.casing_j_per_k)
    model = PackModel.build(pack)
    state = PackState.new(model, soc=0.5)
    record = advance(model, state, Drive(1.0, np.full(60, 7000.0), np.full(1, 20.0)), record=("voltage_v",))
    assert 330.0 < float(record["voltage_v"][-1]) < 400.0


def test_fit_to_one_half_of_a_drive_predicts_the_other_better_than_a_curve_without_resistance() -> None:
    series = series_of(logs("drive").logs[1], PACK, name="drive", averaged=True)
    middle = series.rows // 2
    fit = fit_series(part_of(series, slice(0, middle), name="first half"), PACK)
    judged = judge(fit, part_of(series, slice(middle, None), name="second half"))
    assert judged.voltage_rmse_percent < 0.5
    assert judged.voltage_ratio < 0.3
    assert judged.temperature_rmse_k is not None
    assert judged.temperature_rmse_k < 1.0
    assert judged.hour_ahead_rmse_k is None  # the log is shorter


def test_rapid_charge_is_recognised_by_its_power_where_the_log_has_no_charge_mode_and_recuperation_is_not() -> None:
    charge = [dataclasses.replace(sample, charge_mode=None) for sample in logs("rapid").logs[0]]
    assert series_of(charge, PACK, name="charge", averaged=True).rapid[60:-60].all()
    driven = [dataclasses.replace(sample, charge_mode=None) for sample in logs("drive").logs[0]]
    assert not series_of(driven, PACK, name="drive", averaged=True).rapid.any()


# Long rows


def test_rows_of_five_minutes_are_driven_by_reported_soc_whatever_the_spot_current_says() -> None:
    samples = [
        dataclasses.replace(
            sample, capacity_ah=110.0, soh_percent=95.3, pack_current_a=-150.0 if row % 7 == 3 else -10.0
        )
        for row, sample in enumerate(drive(30, spacing_s=300.0))
    ]
    series = series_of(samples, PACK, name="log")
    assert series.driven_by == "reported SOC"
    moved = np.diff([sample.soc_percent or 0.0 for sample in samples])
    assert series.interval_a[1:] == pytest.approx(moved / 100.0 * 110.0 * 3600.0 / 300.0)
    assert "SOC and capacity are inputs here, not results" in " ".join(series.notes)
    assert not fit_series(series, PACK).parameter("capacity_ah").identified


def test_rows_of_five_minutes_without_soc_are_refused() -> None:
    samples = [dataclasses.replace(sample, soc_percent=None) for sample in drive(30, spacing_s=300.0)]
    with pytest.raises(ConfigError, match="a spot current tells nothing of so long a row"):
        series_of(samples, PACK, name="log")


def test_rows_of_one_second_need_no_soc_at_all() -> None:
    samples = [dataclasses.replace(sample, soc_percent=None) for sample in drive()]
    fit = fit_series(series_of(samples, PACK, name="log"), PACK)
    assert any("the first is read from the voltage" in note for note in fit.notes)
    assert np.isfinite(fit.logs[0].voltage_v).all()


# Bad input


def test_gap_is_named_and_the_temperature_begins_anew_behind_it() -> None:
    samples = drive()
    samples = samples[:30] + [dataclasses.replace(sample, time_s=sample.time_s + 900.0) for sample in samples[30:]]
    samples = samples[:30] + [dataclasses.replace(sample, pack_temperature_1_c=28.0) for sample in samples[30:]]
    series = series_of(samples, PACK, name="log")
    assert np.flatnonzero(series.gap).tolist() == [30]
    assert "1 gaps, the longest of 901 s" in " ".join(series.notes)
    fit = fit_series(series, PACK)
    assert fit.logs[0].temperature_c[31] == pytest.approx(28.0, abs=0.3)


def test_duplicated_and_reversed_time_stamps_are_left_out_and_counted() -> None:
    samples = drive()
    samples = changed(changed(samples, 20, time_s=samples[19].time_s), 40, time_s=10.0)
    assert "2 rows with a duplicated or reversed time stamp are left out (first: line 22)" in notes_of(samples)
    assert series_of(samples, PACK, name="log").rows == 58
    assert (np.diff(series_of(samples, PACK, name="log").time_s) > 0).all()


def test_rows_without_a_number_and_with_an_impossible_voltage_are_left_out_and_counted() -> None:
    samples = changed(
        changed(changed(drive(), 5, pack_voltage_v=None), 6, pack_current_a=math.nan), 9, pack_voltage_v=0.0
    )
    notes = notes_of(samples)
    assert "2 rows without a number for voltage or current" in notes
    assert "1 rows with an impossible voltage" in notes
    assert np.isfinite(fit_series(series_of(samples, PACK, name="log"), PACK).logs[0].voltage_v).all()


@pytest.mark.parametrize(
    ("field", "message"), [("pack_voltage_v", "no pack voltage"), ("pack_current_a", "no pack current")]
)
def test_log_without_voltage_or_current_is_refused_with_the_column_that_is_missing(field: str, message: str) -> None:
    samples = [dataclasses.replace(sample, **{field: None}) for sample in drive()]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        series_of(samples, PACK, name="log")


def test_log_without_temperature_or_ambient_is_fitted_electrically_and_says_what_is_missing() -> None:
    samples = [dataclasses.replace(sample, pack_temperature_1_c=None) for sample in drive()]
    assert "no pack temperature" in notes_of(samples)
    fit = fit_series(series_of(samples, PACK, name="log"), PACK)
    assert not fit.parameter("thermal.cells_j_per_k").identified
    assert "no ambient temperature" in notes_of([dataclasses.replace(sample, ambient_c=None) for sample in drive()])


def test_discharge_positive_current_is_recognised_by_the_state_of_charge_and_turned() -> None:
    straight = drive(600)
    turned = [dataclasses.replace(sample, pack_current_a=-(sample.pack_current_a or 0.0)) for sample in straight]
    series = series_of(turned, PACK, name="log")
    assert "positive for discharge" in " ".join(series.notes)
    assert series.current_a == pytest.approx(series_of(straight, PACK, name="log").current_a)


def test_current_that_has_nothing_to_do_with_soc_is_refused() -> None:
    rng = np.random.default_rng(5)
    samples = [
        dataclasses.replace(sample, soc_percent=50.0 + 20.0 * math.sin(row / 97.0), pack_current_a=float(noise))
        for row, (sample, noise) in enumerate(zip(drive(4000), 80.0 * rng.standard_normal(4000), strict=True))
    ]
    with pytest.raises(ConfigError, match="do not belong together"):
        series_of(samples, PACK, name="log")


def test_ambient_of_98_degrees_celsius_is_refused_and_the_option_named() -> None:
    samples = [dataclasses.replace(sample, ambient_c=98.6) for sample in drive()]
    with pytest.raises(ConfigError, match="--temperature-unit"):
        series_of(samples, PACK, name="log")


@pytest.mark.parametrize(
    ("capacity_ah", "soh_percent", "advice"),
    [
        (56.26, 86.0, "it is a 24 kWh pack"),
        (70.0, 86.5, "it is a 30 kWh pack"),
        (168.1, 95.3, "fit it as leaf_62kwh"),
    ],
)
def test_log_of_another_car_is_refused_and_the_pack_that_fits_is_named(
    capacity_ah: float, soh_percent: float, advice: str
) -> None:
    samples = [dataclasses.replace(sample, capacity_ah=capacity_ah, soh_percent=soh_percent) for sample in drive()]
    with pytest.raises(ConfigError, match=advice):
        series_of(samples, PACK, name="log")


def test_log_of_a_pack_with_another_number_of_groups_is_refused() -> None:
    samples = [dataclasses.replace(sample, cell_average_v=(sample.pack_voltage_v or 0.0) / 108.0) for sample in drive()]
    with pytest.raises(ConfigError, match="108 groups in series, env200_40kwh has 96"):
        series_of(samples, PACK, name="log")
    high = [dataclasses.replace(sample, pack_voltage_v=750.0) for sample in drive()]
    with pytest.raises(ConfigError, match="750 V is no voltage of 96 groups"):
        series_of(high, PACK, name="log")


def test_log_of_nine_rows_and_no_log_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 usable rows"):
        series_of(drive(9), PACK, name="log")
    with pytest.raises(ConfigError, match="no log to fit"):
        fit_series([], PACK)


def test_offsets_of_three_thermistors_are_told_and_that_of_the_missing_one_is_kept() -> None:
    samples = [
        dataclasses.replace(
            sample, pack_temperature_1_c=19.0, pack_temperature_2_c=20.5 + 0.1 * (row % 2), pack_temperature_4_c=20.45
        )
        for row, sample in enumerate(drive())
    ]
    fit = fit_series(series_of(samples, PACK, name="log"), PACK)
    assert fit.pack.sensor_offsets_c[0] == pytest.approx(-1.0, abs=0.05)
    assert fit.pack.sensor_offsets_c[1] == pytest.approx(0.55, abs=0.05)
    assert fit.pack.sensor_offsets_c[2] == PACK.sensor_offsets_c[2]
    alone = fit_series(series_of(drive(), PACK, name="log"), PACK)
    assert alone.parameter("sensor_offsets_c.1").note == "the only one in the log"


# Shape of a charge, and aging


def test_shape_of_a_rapid_charge_tells_the_capacity_within_three_standard_deviations() -> None:
    made = logs("rapid")
    for car, samples in enumerate(made.logs):
        (curve,) = charge_curves([series_of(samples, PACK, name="charge", averaged=True)], PACK)
        assert curve.identified
        assert abs(curve.capacity_ah - made.truth["capacity_ah"][car]) < 3.0 * curve.capacity_sd_ah
        assert curve.soh == pytest.approx(curve.capacity_ah / PACK.capacity_ah)
    assert charge_curves([series_of(logs("drive").logs[0], PACK, name="drive", averaged=True)], PACK) == ()


def history(efc_per_day: float, calendar_scale: float, cycle_scale: float, *, seed: int = 0) -> AgingHistory:
    """Five years at 15 degC and 60 %, health by the closed form of B1 and half a percent of noise."""
    rng = np.random.default_rng(seed)
    age_s = np.linspace(0.3, 5.0, 30) * 365.25 * 86_400.0
    losses = [
        closed_form_loss(
            law("b1"),
            days=age / 86_400.0,
            soc=0.6,
            temperature_c=15.0,
            cycles=efc_per_day * age / 86_400.0 / 0.5,
            depth=0.5,
            charge_c_rate=0.17,
            discharge_c_rate=0.4,
        )
        for age in age_s
    ]
    lost = np.array([calendar_scale * each.calendar + cycle_scale * each.cycle for each in losses])
    use = AgingUse(np.full(1, 0.6), np.full(1, 15.0), efc_per_day)
    return AgingHistory(age_s, 1.0 - lost + 0.005 * rng.standard_normal(age_s.size), use)


def test_one_history_does_not_tell_the_second_scale_and_says_so() -> None:
    fit = fit_aging([history(0.3, 1.3, 1.0)])
    assert fit.calendar.identified
    assert fit.calendar.mean == pytest.approx(1.3, abs=2.5 * fit.calendar.sd)
    assert not fit.cycle.identified
    assert fit.cycle_scale == 1.0
    assert any("one history of one use" in note for note in fit.notes)
    written = fit.written(PACK)
    assert written.aging.cycle_scale == 1.0
    assert written.aging.calendar_scale == fit.calendar_scale
    assert not written.estimates["aging.cycle_scale"].identified


def test_histories_of_two_kinds_of_use_tell_both_scales() -> None:
    fit = fit_aging([history(0.05, 1.3, 0.7), history(1.5, 1.3, 0.7, seed=1)])
    assert fit.calendar.identified
    assert fit.cycle.identified
    assert fit.calendar.mean == pytest.approx(1.3, abs=2.5 * fit.calendar.sd)
    assert fit.cycle.mean == pytest.approx(0.7, abs=2.5 * fit.cycle.sd)


def test_history_without_readings_or_from_before_the_car_was_new_is_refused() -> None:
    with pytest.raises(ConfigError, match="no reading of SOH"):
        fit_aging([])
    old = history(0.3, 1.0, 1.0)
    with pytest.raises(ConfigError, match="ages above 0"):
        fit_aging([AgingHistory(old.age_s - old.age_s[5], old.soh, old.use)])
