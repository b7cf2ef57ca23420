"""Recordings of real vehicles, where the folder is there. Nothing of them is in the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twins.replay import ChademoPhaseKind, Dialect, LogError, Summary, open_log

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("V2GBENCH_RECORDINGS", "../shared/data"))
FOLDER = FOLDER if FOLDER.is_absolute() else ROOT / FOLDER

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings: V2GBENCH_RECORDINGS names no folder ({FOLDER})"),
]


def summary_of(name: str) -> Summary:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} in {FOLDER}")
    return open_log(path).summary()


def test_ev_can_of_two_vans_has_340_to_400_v_with_20_8_and_59_9_percent() -> None:
    found = [
        summary_of("evcan_env200_40kwh_startup.tsv"),
        summary_of("evcan_env200_40kwh_retrofit_startup.crtd"),
    ]
    for summary in found:
        voltage = summary.quantities["vehicle.pack_voltage_v"]
        assert 340 <= voltage.minimum <= voltage.maximum <= 400
        assert voltage.no_data > 0  # 0x3FF while the battery controller wakes
        assert summary.bad_frames == 0
        assert "ev_can" in {bus.bus for bus in summary.buses}
    assert [summary.quantities["vehicle.soc_percent"].last for summary in found] == [20.8, 59.9]
    assert [summary.quantities["vehicle.soh_percent"].last for summary in found] == [98, 94]


def test_car_can_has_25_3_percent_and_85_percent_health_and_says_that_voltage_is_absent() -> None:
    summary = summary_of("carcan_env200_40kwh_idle.txt")
    assert [bus.bus for bus in summary.buses] == ["car_can"]
    assert summary.quantities["vehicle.soc_percent"].last == 25.3
    assert summary.quantities["vehicle.soh_percent"].last == 85
    assert summary.absence("vehicle.pack_voltage_v") == "pack voltage is not on the CAR-CAN"


def test_chademo_shows_handshake_and_charge() -> None:
    summary = summary_of("chademo_ze1_start_and_charge.csv")
    (session,) = summary.chademo
    kinds = [phase.kind for phase in session.phases]
    assert kinds[0] is ChademoPhaseKind.HANDSHAKE
    assert ChademoPhaseKind.CHARGE in kinds
    assert session.vehicle_target_voltage_v == 410
    assert session.charger_available_current_a == 135
    charge = next(phase for phase in session.phases if phase.kind is ChademoPhaseKind.CHARGE)
    assert (charge.mean_current_a, charge.begin_voltage_v) == (100, 379)
    assert session.under_way_at_start


@pytest.mark.parametrize("day", [1, 2, 3])
def test_rapid_charges_of_a_long_day_are_as_many_as_the_cars_own_counter_says(day: int) -> None:
    summary = summary_of(f"leafspy_62kwh_trip_day{day}.csv")
    counter = summary.quantities["vehicle.quick_charges"]
    assert len(summary.rapid_charges) == counter.last - counter.first
    assert any(charge.jump for charge in summary.rapid_charges)
    for charge in summary.rapid_charges:
        assert charge.end_soc_percent > charge.begin_soc_percent + 10
        assert charge.mean_power_w is not None
        assert 15_000 < charge.mean_power_w < 110_000
    assert summary.absence("vehicle.pack_temperature_3_c") is not None
    assert all(energy.v2g_wh == 0 for energy in summary.energy)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()) if FOLDER.is_dir() else [], ids=lambda path: path.name)
def test_every_file_of_the_folder_is_read_or_refused_in_one_sentence(path: Path) -> None:
    refused = ""
    try:
        summary = open_log(path).summary()
        assert summary.records > 0
        assert summary.quantities
    except LogError as error:
        refused = str(error)
    assert "\n" not in refused


def test_ambient_of_a_tropical_day_is_read_as_fahrenheit() -> None:
    summary = summary_of("leafspy_24kwh_tropical.csv")
    ambient = summary.quantities["vehicle.ambient_c"]
    assert 30 < ambient.minimum <= ambient.maximum < 36
    assert summary.dialect is Dialect.LEAFSPY
    assert summary.charges
    assert not summary.rapid_charges
