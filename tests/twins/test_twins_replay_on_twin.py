"""Logs on the pack twin: the current is met, what drives is said, errors are those of the pack, bad logs are named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from tests.data.make_recordings import chademo, crtd, ev_can, savvycan
from tests.twins.twin_recordings import Row, changed, drive, rapid_charge, rows_of_twin, write_leafspy
from twins.pack.model import PackModel
from twins.pack.parameters import PackParameters, shipped_pack
from twins.pack.series import PackState
from twins.pack.uses import Use
from twins.replay.twin import TwinReplay, advance_by_current, errors_of, read_for_twin, replay_on_twin

VAN = shipped_pack("env200_40kwh")
MODEL = PackModel.build(VAN)


@cache
def hour_of_driving() -> Sequence[Row]:
    return tuple(rows_of_twin(VAN, [drive(3600)], every_s=5))


@cache
def day_of_long_rows() -> Sequence[Row]:
    """302 s rows; the swing hides 38 A around the mean of each, as the replay takes for granted."""
    return tuple(rows_of_twin(VAN, [drive(302 * 24, kw=-12.0, swing_kw=13.7)], every_s=302))


def replayed(path: Path, rows: Sequence[Row], pack: PackParameters = VAN, *, without: Sequence[str] = ()) -> TwinReplay:
    return replay_on_twin(read_for_twin(write_leafspy(path / "log.csv", rows, without=without), pack), pack)


def said(replay: TwinReplay) -> str:
    return "\n".join((*replay.notes, *replay.validity.warnings))


def held(value: float, samples: int) -> np.ndarray:
    return np.full(samples, value)


@settings(max_examples=25)
@given(
    st.lists(st.floats(-250.0, 120.0), min_size=1, max_size=60),
    st.sampled_from([1.0, 5.0, 60.0]),
    st.floats(0.4, 0.7),
    st.floats(-15.0, 45.0),
)
def test_the_twin_draws_the_current_of_the_log(
    current_a: list[float], dt_s: float, soc: float, temperature_c: float
) -> None:
    wanted_a = np.array(current_a) * min(1.0, 5.0 / dt_s)
    state = PackState.new(MODEL, soc=soc, temperature_c=temperature_c)
    samples = wanted_a.size
    driven = advance_by_current(
        MODEL, state, wanted_a, dt_s=dt_s, ambient_c=held(temperature_c, samples), speed_km_h=held(0.0, samples),
        use=np.full(samples, Use.DRIVING, dtype=np.uint8),
    )  # fmt: skip
    free = driven.recorded["limited"] == 0
    assert driven.worst_a <= 1e-6
    assert driven.recorded["current_a"][free] == pytest.approx(wanted_a[free], abs=1e-6)
    assert state.rows[0, 0] == soc  # the given state stays


def test_the_charge_is_the_integral_of_the_current() -> None:
    wanted_a = np.where(np.arange(7200) // 60 % 2, 40.0, -90.0)
    state = PackState.new(MODEL, soc=0.8)
    driven = advance_by_current(
        MODEL, state, wanted_a, dt_s=1.0, ambient_c=held(20.0, 7200), speed_km_h=held(0.0, 7200),
        use=np.zeros(7200, dtype=np.uint8),
    )  # fmt: skip
    moved_ah = float(wanted_a.sum()) / 3600.0
    assert driven.recorded["soc"][-1] == pytest.approx(0.8 + moved_ah / VAN.capacity_ah, abs=2e-5)  # its own leak


def test_a_full_pack_takes_no_current_and_says_so() -> None:
    driven = advance_by_current(
        MODEL, PackState.new(MODEL, soc=0.9999), held(30.0, 600), dt_s=1.0, ambient_c=held(20.0, 600),
        speed_km_h=held(0.0, 600), use=np.full(600, Use.CHARGING, dtype=np.uint8),
    )  # fmt: skip
    assert driven.recorded["limited"][-1] > 0
    assert driven.recorded["current_a"][-1] == pytest.approx(0.0, abs=0.01)
    assert driven.recorded["soc"][-1] <= 1.0


def test_short_rows_are_driven_by_their_current_and_soc_is_a_result(tmp_path: Path) -> None:
    replay = replayed(tmp_path, hour_of_driving())
    assert replay.series.driven_by == "current"
    assert replay.voltage.twin.rmse < 0.15  # V; the truth is the same pack at 1 s
    assert replay.temperature is not None
    assert replay.temperature.twin.rmse < 0.05
    assert replay.soc_points is not None
    assert replay.soc_points.rmse < 0.15
    assert replay.worst_current_a < 1e-5
    assert "input" not in said(replay)


def test_baselines_know_less_and_do_worse(tmp_path: Path) -> None:
    voltage = replayed(tmp_path, hour_of_driving()).voltage
    assert voltage.ocv_only is not None
    assert voltage.persistence is not None
    assert voltage.ocv_only.bias > 2.0  # V: without resistance a discharge looks too high
    assert voltage.twin.rmse < 0.1 * voltage.ocv_only.rmse < voltage.persistence.rmse


def test_a_pack_of_more_resistance_shows_as_voltage_that_is_too_low_and_too_much_heat(tmp_path: Path) -> None:
    ohms = {name: tuple(1.5 * ohm for ohm in getattr(VAN.resistance, name)) for name in ("series_ohm", "fast_ohm")}
    wrong = VAN.model_copy(update={"resistance": VAN.resistance.model_copy(update=ohms)})
    right, replay = replayed(tmp_path, hour_of_driving()), replayed(tmp_path, hour_of_driving(), wrong)
    assert replay.voltage.twin.bias == pytest.approx(-0.5 * 50.0 * (0.049 + 0.012), abs=0.4)  # 50 A, ohms at 80 %
    assert replay.voltage.twin.rmse > 10.0 * right.voltage.twin.rmse
    assert replay.temperature is not None
    assert replay.temperature.twin.bias > 0.2


def test_long_rows_are_driven_by_reported_charge_and_the_report_says_that_soc_is_an_input(tmp_path: Path) -> None:
    replay = replayed(tmp_path, day_of_long_rows())
    assert replay.series.driven_by == "reported SOC"
    assert replay.soc_points is None
    assert "SOC and capacity are inputs here, not results" in said(replay)
    assert replay.soc == pytest.approx(replay.series.soc, abs=2e-4)
    assert replay.voltage.twin.rmse < 0.6
    assert replay.voltage.ocv_only is not None
    assert replay.voltage.twin.rmse < 0.6 * replay.voltage.ocv_only.rmse
    assert replay.temperature is not None
    assert replay.temperature.twin.rmse < 0.3


def test_hidden_variance_of_the_pack_file_goes_before_that_of_other_logs(tmp_path: Path) -> None:
    estimate = {"mean": 4000.0, "sd": 300.0, "identified": True}
    known = PackParameters.model_validate(
        {**VAN.model_dump(by_alias=True), "estimates": {"hidden_current_variance_a2": estimate}}
    )
    warmer, replay = replayed(tmp_path, day_of_long_rows(), known), replayed(tmp_path, day_of_long_rows())
    assert warmer.temperature_c[-1] > replay.temperature_c[-1] + 0.3
    assert "alternates by 63 A" in said(warmer)
    assert "from the pack file" in said(warmer)


def test_a_rapid_charge_inside_a_gap_is_bridged_and_its_heat_compared(tmp_path: Path) -> None:
    rows = rows_of_twin(VAN, [drive(1800), rapid_charge(600), drive(1800)], every_s=5)
    replay = replayed(tmp_path, rows)
    assert replay.series.gap.sum() == 1
    assert (replay.series.gap & replay.series.rapid).sum() == 1
    (rise,) = replay.gap_rises
    assert rise.length_s == pytest.approx(605.0)
    assert rise.mean_current_a == pytest.approx(100.0, abs=8.0)
    assert rise.measured_k > 1.0
    assert rise.predicted_k == pytest.approx(rise.measured_k, abs=0.3)
    assert "1 gaps, the longest of 605 s" in said(replay)


def test_behind_a_gap_the_temperature_begins_anew_at_what_was_measured(tmp_path: Path) -> None:
    rows = rows_of_twin(VAN, [drive(900), rapid_charge(600), drive(900)], every_s=5)
    first_behind = next(index for index, row in enumerate(rows) if row["QC"] == "6")
    moved = [*rows[:first_behind], *changed(rows[first_behind:], "Pack T1 C", lambda celsius: celsius + 12.0)]
    for column in ("Pack T2 C", "Pack T4 C"):
        moved = [*moved[:first_behind], *changed(moved[first_behind:], column, lambda celsius: celsius + 12.0)]
    replay = replayed(tmp_path, moved)
    assert replay.temperature is not None
    assert replay.open_loop is not None
    assert replay.temperature.twin.rmse < 1.0
    assert replay.open_loop.rmse > 7.0


def test_behind_a_gap_of_more_than_a_week_everything_begins_anew(tmp_path: Path) -> None:
    rows = hour_of_driving()
    rows = [*rows[:300], *changed(rows[300:], "epoch time", lambda stamp: stamp + 8 * 86_400)]
    series = read_for_twin(write_leafspy(tmp_path / "log.csv", rows), VAN)
    replay = replay_on_twin(series, VAN)
    behind = int(np.flatnonzero(series.gap)[0])
    assert replay.temperature_c[behind] == pytest.approx(series.temperature_c[behind])
    assert replay.gap_rises == ()


def test_degrees_fahrenheit_are_recognised_and_change_nothing(tmp_path: Path) -> None:
    celsius = replayed(tmp_path, hour_of_driving())
    fahrenheit = replayed(tmp_path, changed(hour_of_driving(), "Ambient", lambda value: 1.8 * value + 32.0))
    assert "taken as degF" in said(fahrenheit)
    assert fahrenheit.temperature == celsius.temperature


def test_a_temperature_unit_that_cannot_be_is_refused(tmp_path: Path) -> None:
    rows = changed(hour_of_driving(), "Ambient", lambda value: 1.8 * value + 32.0)
    path = write_leafspy(tmp_path / "log.csv", rows)
    with pytest.raises(ConfigError, match="an ambient of 68 to 68 degC cannot be"):
        read_for_twin(path, VAN, temperature_unit="C")


def test_discharge_that_counts_positive_is_turned_with_a_note(tmp_path: Path) -> None:
    replay = replayed(tmp_path, changed(hour_of_driving(), "Pack Amps", lambda amps: -amps))
    assert "the current was positive for discharge" in said(replay)
    assert replay.voltage.twin == replayed(tmp_path, hour_of_driving()).voltage.twin


def test_cells_without_a_number_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = [dict(row) for row in hour_of_driving()]
    for index in (100, 101, 350):
        rows[index]["Pack Volts"] = "nan"
    replay = replayed(tmp_path, rows)
    assert "3 rows without a number for voltage or current are left out" in said(replay)
    assert replay.series.rows == len(rows) - 3
    assert np.isfinite(replay.voltage_v).all()
    assert replay.voltage.twin.rmse < 0.2


def test_duplicated_and_reversed_time_stamps_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = [dict(row) for row in hour_of_driving()]
    twice = [*rows[:200], rows[199], *rows[200:300], rows[250], *rows[300:]]
    replay = replayed(tmp_path, twice)
    assert "duplicated or reversed time stamp are left out" in said(replay)
    assert "the clock ran backwards" in said(replay)
    assert (np.diff(replay.series.time_s) > 0.0).all()
    assert replay.voltage.twin.rmse < 0.2


@pytest.mark.parametrize(
    ("column", "named"), [("Pack Volts", "pack voltage"), ("Pack Amps", "pack current")]
)  # fmt: skip
def test_a_log_without_voltage_or_current_is_refused_by_name(tmp_path: Path, column: str, named: str) -> None:
    path = write_leafspy(tmp_path / "log.csv", hour_of_driving(), without=[column])
    with pytest.raises(ConfigError, match=f"no {named} in the log"):
        read_for_twin(path, VAN)


def test_long_rows_without_soc_are_refused_because_a_spot_current_tells_nothing_of_them(tmp_path: Path) -> None:
    path = write_leafspy(tmp_path / "log.csv", [{**row, "SOC": "none"} for row in day_of_long_rows()])
    with pytest.raises(ConfigError, match="a spot current tells nothing of so long a row"):
        read_for_twin(path, VAN)


def test_the_log_of_another_car_is_refused_and_the_pack_that_fits_is_named(tmp_path: Path) -> None:
    path = write_leafspy(tmp_path / "log.csv", hour_of_driving())
    with pytest.raises(ConfigError, match=r"115\.4 Ah at 100 % SOH.*leaf_62kwh has 176\.4 Ah.*env200_40kwh"):
        read_for_twin(path, shipped_pack("leaf_62kwh"))


def test_missing_air_stays_at_the_first_pack_temperature(tmp_path: Path) -> None:
    replay = replayed(tmp_path, hour_of_driving(), without=["Ambient"])
    assert "no ambient in the log: the air stays at the pack's first 20.0 degC" in said(replay)
    assert replay.temperature == replayed(tmp_path, hour_of_driving()).temperature


def test_missing_pack_temperature_is_not_judged_and_said(tmp_path: Path) -> None:
    replay = replayed(tmp_path, hour_of_driving(), without=["Pack T1 C", "Pack T2 C", "Pack T4 C"])
    assert replay.temperature is None
    assert "temperature is not judged" in said(replay)
    assert replay.voltage.twin.rmse < 0.15


def test_without_soc_the_first_voltage_tells_it_and_the_note_says_what_that_hides(tmp_path: Path) -> None:
    replay = replayed(tmp_path, [{**row, "SOC": "none"} for row in hour_of_driving()])
    assert replay.start_soc == pytest.approx(0.9, abs=0.02)
    assert replay.soc_points is None
    assert "is read from the first voltage, so the voltage's error tells how it moves, not where it stands" in said(
        replay
    )


def test_more_capacity_than_a_new_pack_has_is_taken_and_said(tmp_path: Path) -> None:
    larger = VAN.model_copy(update={"capacity_ah": 1.02 * VAN.capacity_ah})
    replay = replayed(tmp_path, rows_of_twin(larger, [drive(900)], every_s=5))
    assert "102.0 % of the pack's capacity" in said(replay)
    assert replay.pack.capacity_ah == pytest.approx(1.02 * VAN.capacity_ah)


def test_a_log_beyond_the_pack_is_limited_and_counted(tmp_path: Path) -> None:
    """The log says 60 % where 2 % are left, and goes on driving."""
    rows = rows_of_twin(VAN, [drive(1800, kw=-40.0)], every_s=5, soc=0.6)
    replay = replayed(tmp_path, changed(rows, "SOC", lambda soc: soc - 580_000.0))
    assert replay.limited_s > 60.0
    assert replay.limited_ah > 1.0
    assert "the twin could not take or give the log's current" in said(replay)
    assert np.isfinite(replay.voltage_v).all()


def test_an_ev_can_recording_drives_the_twin_by_its_mean_currents(tmp_path: Path) -> None:
    path = tmp_path / "evcan.crtd"
    path.write_text(crtd(ev_can(30.0, wake_ms=0, amps=-20.0, charging=False)), encoding="utf-8")
    replay = replay_on_twin(read_for_twin(path, VAN), VAN)
    assert replay.series.driven_by == "current"
    assert replay.soh == pytest.approx(0.96)
    assert replay.start_soc == pytest.approx(0.613)
    assert replay.soc[-1] == pytest.approx(0.613 - 20.0 * 29.0 / 3600.0 / (0.96 * VAN.capacity_ah), abs=2e-4)
    assert "the log names no capacity" in said(replay)
    assert "nothing thermal is tested" in said(replay)


def test_a_quiet_log_is_told_to_test_no_resistance(tmp_path: Path) -> None:
    path = tmp_path / "evcan.crtd"
    path.write_text(crtd(ev_can(15.0, wake_ms=0, amps=-1.5, charging=False)), encoding="utf-8")
    replay = replay_on_twin(read_for_twin(path, VAN), VAN)
    assert "no current beyond 1.5 A in the log" in said(replay)


def test_a_chademo_charge_is_driven_by_the_charger_and_what_its_bus_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "chademo.csv"
    path.write_text(savvycan(chademo(40.0, discharge=False)), encoding="utf-8")
    replay = replay_on_twin(read_for_twin(path, VAN), VAN)
    assert (replay.series.current_a > 0.0).all()
    assert replay.series.rapid[1:].all()
    assert replay.soc[-1] > replay.soc[0]
    assert replay.soc_points is None
    assert replay.temperature is None
    assert "the BMS's state of charge, capacity, temperatures and ambient are not on this bus" in said(replay)
    assert "rows in which the charger is not at work are left out" in said(replay)


def test_a_handshake_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chademo.csv"
    path.write_text(savvycan(frame for frame in chademo(40.0, discharge=False) if frame.time_ms < 1900))
    with pytest.raises(ConfigError, match="of handshake and no charging"):
        read_for_twin(path, VAN)


def test_the_car_can_without_voltage_is_refused() -> None:
    recording = Path(__file__).parents[1] / "data" / "recordings" / "carcan_standing.txt"
    with pytest.raises(ConfigError, match="no pack voltage and no pack current in the log"):
        read_for_twin(recording, VAN)


def test_the_worst_minute_is_where_the_error_is() -> None:
    time_s = np.arange(600.0)
    error = np.where((time_s >= 240.0) & (time_s < 300.0), 3.0, 0.1)
    found = errors_of(time_s, error, np.zeros(600))
    assert found is not None
    assert found.worst_minute == pytest.approx(3.0)
    assert found.worst_minute_at_s == 240.0
    assert found.bias == pytest.approx((60 * 3.0 + 540 * 0.1) / 600)
    assert errors_of(time_s, error, np.full(600, np.nan)) is None


def test_a_pack_with_estimates_says_what_was_not_identified(tmp_path: Path) -> None:
    known = PackParameters.model_validate(
        {
            **VAN.model_dump(by_alias=True),
            "estimates": {
                "resistance.series_ohm": {"mean": 0.05, "sd": 0.001, "identified": True},
                "thermal.still_air_w_per_k": {"mean": 8.0, "sd": 5.0, "identified": False},
            },
        }
    )
    validity = replayed(tmp_path, hour_of_driving(), known).validity
    assert validity.identified == ("resistance.series_ohm",)
    assert validity.not_identified == ("thermal.still_air_w_per_k",)
    assert validity.soc_percent is not None
    assert validity.soc_percent[1] == pytest.approx(90.0, abs=0.5)
