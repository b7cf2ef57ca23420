"""CAN logs: values, absences, bad frames, clocks, CHAdeMO sessions, energy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twins.replay import ChademoPhaseKind, open_log
from twins.replay.tracking import EnergyTracker, LogClock

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, Callable[[list[str]], list[str]]], Path]:
    def _changed(name: str, change: Callable[[list[str]], list[str]]) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(change((RECORDINGS / name).read_text().splitlines())))
        return path

    return _changed


def test_ev_can_gives_voltage_soc_and_soh_and_no_511_5_v_while_the_battery_wakes() -> None:
    summary = open_log(RECORDINGS / "evcan_wake.tsv").summary()
    voltage = summary.quantities["vehicle.pack_voltage_v"]
    assert (voltage.minimum, voltage.maximum) == (366.5, 366.5)
    assert (voltage.count, voltage.no_data) == (100, 20)
    assert summary.quantities["vehicle.soc_percent"].last == 61.3
    assert summary.quantities["vehicle.soh_percent"].last == 96
    assert summary.quantities["vehicle.pack_current_a"].mean == -1.5
    assert summary.buses[0].bus == "ev_can"
    assert summary.bad_frames == 0


def test_car_can_says_that_the_pack_voltage_is_absent() -> None:
    summary = open_log(RECORDINGS / "carcan_standing.txt").summary()
    assert summary.buses[0].title == "CAR-CAN"
    assert summary.quantities["vehicle.soc_percent"].last == 44.7
    assert summary.quantities["vehicle.soh_percent"].last == 88
    assert summary.quantities["vehicle.odometer_km"].last == 91_234
    assert "vehicle.pack_voltage_v" not in summary.quantities
    assert summary.absence("vehicle.pack_voltage_v") == "pack voltage is not on the CAR-CAN"
    assert summary.absence("vehicle.charge_mode") == "charge mode: frame 0x390 of the CAR-CAN is not in this log"
    assert summary.absence("vehicle.soc_percent") is None


def test_a_quantity_that_was_only_sent_as_not_available_is_told_so(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    path = changed("evcan_wake.tsv", lambda lines: lines[:40])
    summary = open_log(path).summary()
    assert "vehicle.pack_voltage_v" not in summary.quantities
    reason = summary.absence("vehicle.pack_voltage_v")
    assert reason is not None
    assert reason.endswith("always as not available")


def test_two_buses_in_one_log_are_told_apart_and_overheard_answers_are_read() -> None:
    summary = open_log(RECORDINGS / "two_buses.crtd").summary()
    assert {bus.channel: bus.bus for bus in summary.buses} == {"1": "ev_can", "2": "car_can"}
    assert summary.quantities["vehicle.pack_temperature_1_c"].last == 23
    assert summary.quantities["vehicle.pack_temperature_4_c"].last == 24
    assert "vehicle.pack_temperature_3_c" not in summary.quantities
    assert summary.start_utc_s == 1_704_067_200.0
    assert summary.clock.absolute


def test_an_overheard_answer_with_a_hole_is_thrown_away(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    path = changed("two_buses.crtd", lambda lines: [line for line in lines if " 7BB 22 " not in line])
    summary = open_log(path).summary()
    assert "vehicle.pack_temperature_1_c" not in summary.quantities
    assert any("1 incomplete" in warning for warning in summary.warnings)


def test_samples_come_once_a_second_with_means_for_current_and_none_for_what_is_absent() -> None:
    log = open_log(RECORDINGS / "evcan_ac_charge.candump")
    samples = list(log.samples())
    assert [sample.time_s for sample in samples] == [1.0, 1.19]
    first = samples[0]
    assert first.utc_s == 1_704_067_201.0
    assert first.pack_current_a == 5.5
    assert first.pack_power_w == pytest.approx(366.5 * 5.5)
    assert first.soc_percent == 61.3
    assert first.charge_mode == 2
    assert first.plug_state is None
    assert first.odometer_km is None
    assert first.values()["vehicle.soc_percent"] == 61.3
    assert "vehicle.odometer_km" not in first.values()


def test_a_shorter_period_gives_more_samples_and_the_same_summary() -> None:
    path = RECORDINGS / "evcan_wake.tsv"
    fine = open_log(path, period_s=0.1)
    samples = list(fine.samples())
    assert 11 <= len(samples) <= 13
    assert samples[0].pack_voltage_v is None
    assert samples[-1].pack_voltage_v == 366.5
    assert fine.summary() == open_log(path).summary()


def test_an_ac_charge_counts_as_energy_from_grid_to_vehicle() -> None:
    (energy,) = open_log(RECORDINGS / "evcan_ac_charge.candump").summary().energy
    assert energy.plane == "pack"
    assert energy.g2v_wh == pytest.approx(366.5 * 5.5 * 1.18 / 3600, rel=0.02)
    assert energy.v2g_wh == 0.0
    (standing,) = open_log(RECORDINGS / "evcan_wake.tsv").summary().energy
    assert standing.out_of_pack_wh == pytest.approx(366.5 * 1.5 * 0.99 / 3600)
    assert (standing.g2v_wh, standing.v2g_wh) == (0.0, 0.0)


def test_a_bit_error_is_counted_and_its_frame_not_decoded(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    def flip(lines: list[str]) -> list[str]:
        place = next(n for n, line in enumerate(lines) if "0x0000055b" in line and n > 200)
        lines[place] = lines[place].replace("\t0x99", "\t0x19", 1)  # 61.3 % becomes 10.1 %
        return lines

    summary = open_log(changed("evcan_wake.tsv", flip)).summary()
    assert summary.bad_frames == 1
    assert summary.quantities["vehicle.soc_percent"].minimum == 61.3
    (frame,) = [frame for frame in summary.frames if frame.bad_checksum]
    assert (frame.can_id, frame.name, frame.good) == (0x55B, "battery_soc", 11)
    assert frame.lost == 1


def test_lost_frames_show_in_the_counters(changed: Callable[[str, Callable[[list[str]], list[str]]], Path]) -> None:
    def lose_one(lines: list[str]) -> list[str]:
        place = [n for n, line in enumerate(lines) if "0x000001db" in line][50]
        return lines[:place] + lines[place + 1 :]

    path = changed("evcan_wake.tsv", lose_one)
    assert sum(frame.lost for frame in open_log(path).summary().frames) == 1


def test_a_clock_that_is_set_back_is_told_with_its_line_and_time_never_runs_backwards(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    def set_back(lines: list[str]) -> list[str]:
        return lines[:100] + [line.replace("1704067200", "1704060000") for line in lines[100:]]

    log = open_log(changed("two_buses.crtd", set_back))
    times = [sample.time_s for sample in log.samples()]
    summary = log.summary()
    assert times == sorted(times)
    assert summary.clock.backward_steps == 1
    assert summary.clock.first_back_line == 101
    assert summary.clock.largest_back_step_s == pytest.approx(7200, abs=0.1)
    assert summary.gaps[0].length_s is None
    assert any("ran backwards" in warning for warning in summary.warnings)


def test_stamps_that_fall_throughout_keep_the_files_order(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    def mirror(lines: list[str]) -> list[str]:
        return [lines[0], *(line.replace("-", "", 1) for line in lines[1:])]

    forward = open_log(RECORDINGS / "chademo_charge.csv").summary()
    mirrored = open_log(changed("chademo_charge.csv", mirror)).summary()
    assert mirrored.clock.mirrored
    assert not forward.clock.mirrored
    assert mirrored.duration_s == forward.duration_s == 5.91
    assert mirrored.chademo == forward.chademo


def test_a_silence_is_a_gap_and_nothing_is_held_over_it(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    def split(lines: list[str]) -> list[str]:
        return lines[:150] + [line.replace("1704067200", "1704067300") for line in lines[150:]]

    log = open_log(changed("two_buses.crtd", split))
    samples = list(log.samples())
    (gap,) = log.summary().gaps
    assert gap.length_s == pytest.approx(100, abs=0.1)
    assert len(samples) < 6
    assert all(sample.time_s < 10 or sample.time_s > 100 for sample in samples)


def test_chademo_charge_goes_through_handshake_precharge_charge_and_stop() -> None:
    (session,) = open_log(RECORDINGS / "chademo_charge.csv").summary().chademo
    assert [phase.kind for phase in session.phases] == [
        ChademoPhaseKind.HANDSHAKE,
        ChademoPhaseKind.PRECHARGE,
        ChademoPhaseKind.CHARGE,
        ChademoPhaseKind.STOP,
    ]
    handshake, precharge, charge, stop = session.phases
    assert (handshake.begin_s, handshake.end_s) == (0.0, 1.0)
    assert precharge.begin_voltage_v == 0
    assert charge.begin_voltage_v == 372
    assert charge.maximum_current_a == 20
    assert stop.mean_current_a == 0
    assert session.vehicle_target_voltage_v == 410
    assert session.charger_available_current_a == 25
    assert session.discharge_compatible
    assert session.complete
    assert not session.under_way_at_start


def test_chademo_discharge_is_vehicle_to_grid_with_a_negative_current() -> None:
    log = open_log(RECORDINGS / "chademo_discharge.log")
    samples = list(log.samples())
    summary = log.summary()
    (session,) = summary.chademo
    (discharge,) = [phase for phase in session.phases if phase.kind is ChademoPhaseKind.DISCHARGE]
    assert discharge.maximum_current_a == -20
    assert min(sample.charger_power_w or 0.0 for sample in samples) < -7000
    (energy,) = summary.energy
    assert (energy.plane, energy.g2v_wh) == ("charger_dc", 0.0)
    assert energy.v2g_wh == pytest.approx(5.08, abs=0.1)
    assert summary.absence("vehicle.soc_percent") == "state of charge of the BMS is not on the CHAdeMO bus"


def test_a_log_that_begins_in_the_middle_of_a_charge_says_so(
    changed: Callable[[str, Callable[[list[str]], list[str]]], Path],
) -> None:
    path = changed("chademo_charge.csv", lambda lines: [lines[0], *lines[6 * 30 + 1 : 6 * 45]])
    (session,) = open_log(path).summary().chademo
    assert session.under_way_at_start
    assert not session.complete
    assert [phase.kind for phase in session.phases] == [ChademoPhaseKind.HANDSHAKE, ChademoPhaseKind.CHARGE]
    assert session.phases[0].note == "limits read from an exchange that was under way"


def test_frames_of_no_known_bus_give_a_summary_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "other.log"
    path.write_text("".join(f"({n}.5) can0 6B{n}#00112233\n" for n in range(9)))
    log = open_log(path)
    assert list(log.samples()) == []
    summary = log.summary()
    assert summary.buses[0].bus is None
    assert any("bus not recognised" in warning for warning in summary.warnings)
    assert "none of the log's frames" in (summary.absence("vehicle.soc_percent") or "")


def test_a_summary_is_plain_json() -> None:
    text = json.dumps(open_log(RECORDINGS / "chademo_charge.csv").summary().as_json())
    assert '"handshake"' in text
    assert "recordings" not in text


def test_bare_frames_can_be_had_too() -> None:
    frames = list(open_log(RECORDINGS / "two_buses.crtd").frames())
    assert (frames[0].can_id, frames[0].channel, frames[0].line) == (0x1DB, "1", 3)
    assert sum(frame.sent for frame in frames) == 1


def test_the_clock_holds_still_while_a_buffer_is_out_of_order() -> None:
    clock = LogClock(mirrored=False, gap_s=1.0)
    assert [clock.advance(raw, line) for line, raw in enumerate((5.0, 5.002, 5.001, 5.003))] == [
        0.0,
        0.002,
        0.002,
        0.003,
    ]
    assert clock.back_steps == 1


def test_power_that_crosses_zero_is_split_into_both_directions() -> None:
    energy = EnergyTracker("pack", longest_s=10.0)
    energy.add(0.0, -3600.0, plugged=True)
    energy.add(2.0, 3600.0, plugged=True)
    found = energy.summary()
    assert found is not None
    assert (found.into_pack_wh, found.out_of_pack_wh) == (0.5, 0.5)
    assert (found.g2v_wh, found.v2g_wh) == (0.5, 0.5)


def test_the_way_from_driving_to_the_plug_is_no_discharge_to_the_grid() -> None:
    energy = EnergyTracker("pack", longest_s=10.0)
    energy.add(0.0, -20_000.0, plugged=False)
    energy.add(5.0, 3_000.0, plugged=True)
    found = energy.summary()
    assert found is not None
    assert (found.g2v_wh, found.v2g_wh) == (0.0, 0.0)
    assert found.out_of_pack_wh > 0
