"""Recordings of real cars on the pack twin, where the folder is there. Nothing of them is in the project."""

from __future__ import annotations

import os
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from drivers.errors import ConfigError
from twins.pack.hppc import fit_hppc
from twins.pack.identification import fit_series
from twins.pack.parameters import PackParameters, shipped_pack
from twins.replay.twin import TwinReplay, read_for_twin, replay_on_twin

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("V2GBENCH_RECORDINGS", "../shared/data"))
FOLDER = FOLDER if FOLDER.is_absolute() else ROOT / FOLDER
DAYS = tuple(f"leafspy_62kwh_trip_day{number}.csv" for number in (1, 2, 3))

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings: V2GBENCH_RECORDINGS names no folder ({FOLDER})"),
]


def path_of(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} in {FOLDER}")
    return path


def replay_of(name: str, pack: PackParameters) -> TwinReplay:
    return replay_on_twin(read_for_twin(path_of(name), pack), pack)


@cache
def leaf_fitted_on_day_1() -> PackParameters:
    pack = shipped_pack("leaf_62kwh")
    return fit_series(read_for_twin(path_of(DAYS[0]), pack), pack).pack


@pytest.mark.parametrize("day", DAYS)
def test_a_62_kwh_day_on_the_shipped_pack_has_half_a_percent_of_voltage_and_1_5_k_behind_gaps(day: str) -> None:
    replay = replay_of(day, shipped_pack("leaf_62kwh"))
    assert replay.series.driven_by == "reported SOC"
    assert replay.soc_points is None
    assert replay.voltage.ocv_only is not None
    assert replay.voltage.twin.rmse / replay.voltage.level <= 0.005
    assert replay.voltage.twin.rmse <= 0.6 * replay.voltage.ocv_only.rmse
    assert replay.temperature is not None
    assert replay.open_loop is not None
    assert replay.temperature.twin.rmse <= 1.5
    assert replay.open_loop.rmse <= 3.0
    assert (replay.series.gap & replay.series.rapid).sum() >= 2


@pytest.mark.parametrize("day", DAYS[1:])
def test_the_other_days_hold_on_the_pack_fitted_on_day_1(day: str) -> None:
    replay = replay_of(day, leaf_fitted_on_day_1())
    assert replay.voltage.twin.rmse / replay.voltage.level <= 0.005
    assert replay.temperature is not None
    assert replay.open_loop is not None
    assert replay.temperature.twin.rmse <= 1.5
    assert replay.open_loop.rmse <= 3.0


@pytest.mark.parametrize(
    ("name", "soc"), [("evcan_env200_40kwh_startup.tsv", 0.208), ("evcan_env200_40kwh_retrofit_startup.crtd", 0.599)]
)
def test_two_vans_starting_up_stand_within_three_volts_and_are_told_to_test_no_resistance(
    name: str, soc: float
) -> None:
    replay = replay_of(name, shipped_pack("env200_40kwh"))
    assert replay.series.driven_by == "current"
    assert replay.start_soc == pytest.approx(soc)
    assert abs(replay.voltage.twin.bias) <= 3.0
    assert replay.soc_points is not None
    assert replay.soc_points.rmse <= 0.1
    assert any("no resistance" in warning for warning in replay.validity.warnings)
    assert any("nothing thermal is tested" in warning for warning in replay.validity.warnings)


def test_a_chademo_charge_follows_the_voltage_of_its_charger() -> None:
    replay = replay_of("chademo_ze1_start_and_charge.csv", shipped_pack("env200_40kwh"))
    assert replay.series.current_a.min() >= 99.0
    assert replay.voltage.twin.rmse <= 1.0


def test_the_24_kwh_car_is_refused_on_both_shipped_packs() -> None:
    for pack in ("env200_40kwh", "leaf_62kwh"):
        with pytest.raises(ConfigError, match="it is a 24 kWh pack, and no pack file that comes along fits"):
            read_for_twin(path_of("leafspy_24kwh_tropical.csv"), shipped_pack(pack))


def test_the_24_kwh_car_is_driven_by_its_5_s_current_on_a_pack_of_the_cell_measured_in_a_laboratory() -> None:
    """Cell and car are strangers: 24 mV a cell between their curves, 0.5 V rms around that; SOC within a point."""
    fit = fit_hppc(path_of("cell_24kwh_hppc_25c.csv"), leave_out=False)
    base = shipped_pack("env200_40kwh")
    curve = tuple(
        (100.0 * float(soc), float(volts)) for soc, volts in zip(fit.circuit.ocv_soc, fit.circuit.ocv_v, strict=True)
    )
    assert all(after[1] > before[1] for before, after in pairwise(curve))
    pack = base.model_copy(
        update={
            "name": "leaf_24kwh",
            "capacity_ah": 65.4,
            "cell": base.cell.model_copy(update={"open_circuit_v": curve}),
            "resistance": fit.circuit.resistance(series=96, parallel=2),
            "thermal": base.thermal.model_copy(update={"fan_w_per_k": 0.0, "heater_w": 0.0}),
        }
    )
    replay = replay_of("leafspy_24kwh_tropical.csv", pack)
    twin = replay.voltage.twin
    assert replay.series.driven_by == "current"
    assert twin.rmse / replay.voltage.level <= 0.01
    assert (twin.rmse**2 - twin.bias**2) ** 0.5 <= 1.0
    assert replay.soc_points is not None
    assert replay.soc_points.rmse <= 2.0
    assert any("taken as degF" in note for note in replay.notes)
