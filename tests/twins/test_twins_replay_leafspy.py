"""Leaf Spy files: signs, scales, units that are not named, dialects of columns, charges and drives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from twins.replay import ChargeKind, DateOrder, LeafSpyUnits, LogError, ReplaySample, TemperatureUnit, open_log
from twins.replay.charges import ChargeFinder

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
DAY = RECORDINGS / "leafspy_day.csv"
OLD = RECORDINGS / "leafspy_old_european.csv"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[str]], Path]:
    def _write(lines: list[str]) -> Path:
        path = tmp_path / "log.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return _write


def small(rows: list[dict[str, str]]) -> list[str]:
    """A file of a few columns; every row has all of them."""
    base = {
        "Date/Time": "01/02/2024 10:00:00",
        "Gids": "300",
        "SOC": "600000",
        "AHr": "1000000",
        "Pack Volts": "370",
        "Pack Amps": "10",
        "Pack T1 C": "20",
        "Odo(km)": "1000",
        "QC": "5",
        "Ambient": "18.5",
        "epoch time": "1704067200",
        "Plug State": "0",
        "Charge Mode": "0",
        "Gear": "1",
        "Inverter 2 Temp": "40",
    }
    return [",".join(base), *(",".join({**base, **row}.values()) for row in rows)]


def test_soc_is_a_ten_thousandth_and_pack_amps_turn_their_sign() -> None:
    first = next(open_log(DAY).samples())
    assert first.soc_percent == 86.0
    assert first.capacity_ah == 106.5
    assert first.pack_current_a == -40.0
    assert first.pack_power_w == pytest.approx(-40 * first.pack_voltage_v if first.pack_voltage_v else 0)
    assert first.cell_average_v == 3.893
    assert first.soh_percent == 96.21
    assert first.utc_s == 1_704_067_200 + 8 * 3600 + 300.5


def test_degrees_fahrenheit_are_found_and_told() -> None:
    log = open_log(DAY)
    first = next(log.samples())
    assert first.ambient_c == 16.5  # 61.7 degF
    assert first.motor_temperature_c == 17.78  # 64 degF
    assert any("taken as degF" in sentence for sentence in log.summary().assumptions)


def test_a_three_sensor_pack_and_placeholders_are_absent_with_their_reason() -> None:
    summary = open_log(DAY).summary()
    assert summary.absence("vehicle.pack_temperature_3_c") == (
        "pack temperature 3: 'none' in every row, this pack has no such sensor"
    )
    assert summary.absence("vehicle.inverter_2_temperature_c") == (
        "inverter 2 temperature: 40 in every row, a placeholder of the app"
    )


def test_a_day_of_driving_shows_both_rapid_charges_and_the_ac_charge() -> None:
    summary = open_log(DAY).summary()
    jump, rows = summary.rapid_charges
    assert (jump.begin_soc_percent, jump.end_soc_percent, jump.duration_s, jump.jump) == (66.0, 91.0, 1500.0, True)
    assert jump.evidence == ("quick-charge counter", "jump in time with rising SOC")
    # 25 % of 106.5 Ah at (376.2 + 393.7) / 2 V within 25 minutes
    assert jump.energy_wh == pytest.approx(0.25 * 106.5 * 384.95)
    assert jump.mean_power_w == pytest.approx(0.25 * 106.5 * 384.95 * 3600 / 1500)
    assert (rows.begin_soc_percent, rows.end_soc_percent, rows.jump) == (67.0, 83.0, False)
    assert rows.evidence == ("quick-charge counter", "charge mode 3")
    (ac,) = [charge for charge in summary.charges if charge.kind is ChargeKind.AC]
    assert ac.evidence == ("AC charge mode",)
    assert [trip.distance_km for trip in summary.trips] == [30.0, 36.0, 30.0]
    kinds = [event.kind for event in summary.timeline]
    assert kinds.count("charge") == 3
    assert [event.time_s for event in summary.timeline] == sorted(event.time_s for event in summary.timeline)


def test_semicolons_decimal_commas_day_first_and_no_epoch_are_read() -> None:
    log = open_log(OLD)
    samples = list(log.samples())
    summary = log.summary()
    assert samples[0].pack_voltage_v == 381.2
    assert samples[0].pack_current_a == -13.125
    assert [sample.time_s for sample in samples[:3]] == [0.0, 120.0, 240.0]
    assert samples[0].utc_s is None
    assert samples[1].ambient_c == 17.5
    text = " ".join(summary.assumptions)
    assert "day first, because" in text
    assert "taken as degC, because ambient comes in half degrees" in text
    assert "local times without a zone" in text


def test_discharge_while_plugged_is_vehicle_to_grid() -> None:
    (energy,) = open_log(OLD).summary().energy
    assert energy.v2g_wh == pytest.approx(381 * 13.125 * 840 / 3600, rel=0.01)
    assert energy.g2v_wh == 0.0
    assert energy.estimated


def test_vehicle_number_and_position_are_nowhere_behind_the_reader() -> None:
    log = open_log(DAY)
    text = repr(list(log.samples())) + repr(log.summary())
    assert "MADEUPVIN" in DAY.read_text()
    for secret in ("MADEUPVIN", "12 34.5678", "98 76.5432"):
        assert secret not in text


def test_unnamed_units_can_be_told(write: Callable[[list[str]], Path]) -> None:
    celsius = LeafSpyUnits(temperature=TemperatureUnit.CELSIUS, speed_in_miles=True)
    first = next(open_log(DAY, units=celsius).samples())
    assert first.ambient_c == 61.7
    assert first.speed_kmh == pytest.approx(72 * 1.609344)
    rows = [{"Date/Time": f"0{day}/02/2024 10:00:00"} for day in (1, 2)]
    path = write([line.replace("epoch time", "other") for line in small(rows)])
    assert open_log(path).summary().duration_s == 31 * 86_400
    day_first = LeafSpyUnits(date_order=DateOrder.DAY_FIRST)
    assert open_log(path, units=day_first).summary().duration_s == 86_400


def test_whole_degrees_are_judged_by_the_pack(write: Callable[[list[str]], Path]) -> None:
    cold = open_log(write(small([{"Ambient": "50", "Pack T1 C": "12"}])))
    assert next(cold.samples()).ambient_c == 10.0
    assert "nearer to the pack's 12 degC" in cold.summary().assumptions[0]
    warm = open_log(write(small([{"Ambient": "24", "Pack T1 C": "26"}])))
    assert next(warm.samples()).ambient_c == 24.0


def test_local_time_that_steps_back_at_a_border_is_told_and_epoch_time_used(write: Callable[[list[str]], Path]) -> None:
    rows = [
        {"Date/Time": "02/01/2024 10:00:00", "epoch time": "1704067200"},
        {"Date/Time": "02/01/2024 9:05:00", "epoch time": "1704067500"},
    ]
    log = open_log(write(small(rows)))
    assert [sample.time_s for sample in log.samples()] == [0.0, 300.0]
    summary = log.summary()
    assert summary.clock.backward_steps == 0
    assert any("local time in line 3 steps back" in event.text for event in summary.timeline)


def test_epoch_time_that_runs_backwards_is_counted_with_its_line(write: Callable[[list[str]], Path]) -> None:
    rows = [{"epoch time": str(1_704_067_200 + offset)} for offset in (0, 10, -3600, -3590)]
    log = open_log(write(small(rows)))
    assert [sample.time_s for sample in log.samples()] == [0.0, 10.0, 10.0, 20.0]
    assert log.summary().clock.first_back_line == 4


def test_epoch_time_in_milliseconds_is_read(write: Callable[[list[str]], Path]) -> None:
    log = open_log(write(small([{"epoch time": "1704067200500"}])))
    assert next(log.samples()).utc_s == 1_704_067_200.5


def test_quoted_decimal_commas_and_afternoons_are_read(write: Callable[[list[str]], Path]) -> None:
    rows = [{"Date/Time": f"02/13/2024 {time} PM", "Pack Volts": '"371,25"'} for time in ("12:59:59", "1:00:01")]
    log = open_log(write([line.replace("epoch time", "other") for line in small(rows)]))
    samples = list(log.samples())
    assert samples[0].pack_voltage_v == 371.25
    assert samples[1].time_s == 2.0


def test_a_second_header_in_the_file_changes_the_columns_from_there(write: Callable[[list[str]], Path]) -> None:
    first = small([{}])
    header, row = small([{"SOC": "550000", "epoch time": "1704067500"}])
    names, cells = header.split(","), row.split(",")
    reordered = [",".join(reversed(names)), ",".join(reversed(cells))]
    samples = list(open_log(write([*first, *reordered])).samples())
    assert [sample.soc_percent for sample in samples] == [60.0, 55.0]
    assert samples[1].pack_current_a == -10.0


def test_cells_that_are_no_number_are_missing_and_counted(write: Callable[[list[str]], Path]) -> None:
    log = open_log(write(small([{"Pack Volts": "abc"}, {"epoch time": "1704067205"}])))
    samples = list(log.samples())
    assert samples[0].pack_voltage_v is None
    assert samples[0].pack_power_w is None
    assert any("'Pack Volts': 1 cells hold no number" in warning for warning in log.summary().warnings)


def test_a_row_without_epoch_in_a_file_with_it_is_skipped_and_counted(write: Callable[[list[str]], Path]) -> None:
    rows = [{}, {"epoch time": "none"}, {"epoch time": "1704067210"}]
    summary = open_log(write(small(rows))).summary()
    assert (summary.records, summary.malformed_lines, summary.first_malformed_line) == (2, 1, 3)


def test_a_header_without_rows_is_refused(write: Callable[[list[str]], Path]) -> None:
    with pytest.raises(LogError, match="a header and no whole row"):
        open_log(write(small([]))).summary()


def test_soc_in_percent_is_taken_as_it_stands_and_told(write: Callable[[list[str]], Path]) -> None:
    log = open_log(write(small([{"SOC": "61.5", "AHr": "98.2"}])))
    first = next(log.samples())
    assert (first.soc_percent, first.capacity_ah) == (61.5, 98.2)
    assert any("percent and Ah" in sentence for sentence in log.summary().assumptions)


def test_miles_under_a_kilometre_header_are_doubted_and_not_changed(write: Callable[[list[str]], Path]) -> None:
    header, *rows = small(
        [{"epoch time": str(1_704_067_200 + 300 * n), "Odo(km)": str(1000 + 5 * n), "Gear": "4"} for n in range(25)]
    )
    # 6 557 turns a minute are about 96 km/h, 8 km in 300 s; the odometer says 5.
    log = open_log(write([f"{header},RPM", *(f"{row},6557" for row in rows)]))
    assert next(log.samples()).odometer_km == 1000
    assert any("probably miles" in sentence for sentence in log.summary().assumptions)


AT_REST = ReplaySample(time_s=0, soc_percent=40, capacity_ah=100, pack_voltage_v=360, odometer_km=500, gear=1)


def found(*samples: ReplaySample) -> ChargeFinder:
    finder = ChargeFinder(jump_s=600)
    for sample in samples:
        finder.add(sample)
    return finder


def test_rising_soc_while_rolling_downhill_is_no_charge() -> None:
    end = dataclasses.replace(AT_REST, time_s=2000, soc_percent=46, odometer_km=520, gear=4)
    assert found(AT_REST, end).charges() == ()
    assert len(found(AT_REST, end).trips()) == 1


def test_a_jump_without_any_counter_is_rapid_only_with_more_power_than_ac_gives() -> None:
    rapid = dataclasses.replace(AT_REST, time_s=1200, soc_percent=75)  # 12.6 kWh in 20 min
    overnight = dataclasses.replace(AT_REST, time_s=8 * 3600, soc_percent=90)
    assert found(AT_REST, rapid).charges()[0].kind is ChargeKind.RAPID
    assert "more power than AC gives" in found(AT_REST, rapid).charges()[0].evidence
    assert found(AT_REST, overnight).charges()[0].kind is ChargeKind.AC


def test_a_counter_that_steps_before_the_soc_rises_belongs_to_the_charge_that_follows() -> None:
    before = dataclasses.replace(AT_REST, quick_charges=7)
    locked = dataclasses.replace(before, time_s=300, quick_charges=8)
    later = dataclasses.replace(locked, time_s=600, soc_percent=50)
    (charge,) = found(before, locked, later).charges()
    assert (charge.kind, charge.begin_s, charge.end_s) == (ChargeKind.RAPID, 300, 600)


def test_two_rapid_charges_in_a_row_are_two() -> None:
    steps = [(0, 40, 7), (300, 50, 8), (600, 60, 8), (900, 70, 9), (1200, 80, 9)]
    samples = [
        dataclasses.replace(AT_REST, time_s=time_s, soc_percent=soc, quick_charges=count)
        for time_s, soc, count in steps
    ]
    charges = found(*(dataclasses.replace(sample, charge_mode=3) for sample in samples)).charges()
    assert [(charge.begin_s, charge.end_s) for charge in charges] == [(0, 600), (600, 1200)]
