"""`v2gbench fit`: logs become a table and a pack file; what cannot be fitted is refused or said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.commands.fit import FitResult, fit_logs
from drivers.errors import ConfigError
from tests.twins.synthetic_logs import synthetic_logs
from twins.pack.parameters import load_pack, shipped_pack
from twins.replay import LogError, ReplaySample

HEADER = "Date/Time,Gids,SOC,AHr,SOH,Pack Volts,Pack Amps,Pack T1 C,Pack T2 C,Odo(km),Ambient,epoch time,Charge Mode,QC"
BEGIN_S = 1_704_067_200  # 2024-01-01


@pytest.fixture(autouse=True)
def _below_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of fits go below the folder that one stands in."""
    monkeypatch.chdir(tmp_path)


def leaf_spy(
    path: Path,
    samples: list[ReplaySample],
    *,
    fahrenheit: bool = False,
    capacity_ah: float = 109.7,
    new_ah: float = 115.44,
) -> Path:
    """Samples as the app writes them: currents positive for discharge, SOC and AHr times ten thousand."""
    lines = [HEADER]
    for sample in samples:
        ambient = sample.ambient_c or 0.0
        lines.append(
            ",".join(
                (
                    "01/01/2024 10:00:00",
                    "300",
                    f"{(sample.soc_percent or 0.0) * 1e4:.0f}",
                    f"{capacity_ah * 1e4:.0f}",
                    f"{100.0 * capacity_ah / new_ah:.2f}",
                    f"{sample.pack_voltage_v:.2f}",
                    f"{-(sample.pack_current_a or 0.0):.2f}",
                    f"{sample.pack_temperature_1_c:.1f}",
                    f"{(sample.pack_temperature_1_c or 0.0) - 0.5:.1f}",
                    "20000",
                    f"{ambient * 1.8 + 32.0 if fahrenheit else ambient:.2f}",
                    f"{BEGIN_S + sample.time_s:.0f}",
                    f"{sample.charge_mode:.0f}",
                    "7",
                )
            )
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def samples() -> list[ReplaySample]:
    return synthetic_logs(shipped_pack("env200_40kwh"), "rapid", 1, seed=4, minutes=30).logs[0]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, samples: list[ReplaySample]) -> FitResult:
    folder = tmp_path_factory.mktemp("fit")
    log = leaf_spy(folder / "charge.csv", samples, fahrenheit=True)
    return fit_logs([log], out=folder / "My Van.yaml", in_service="2019-06-01", runs=folder / "runs")


def test_pack_file_reads_back_and_holds_what_was_identified_with_its_uncertainty(result: FitResult) -> None:
    assert result.out is not None
    pack = load_pack(result.out)
    assert pack == result.pack
    assert pack.name == "my_van"
    assert pack.estimates["resistance.series_ohm"].identified
    assert not pack.estimates["resistance.slow_ohm"].identified
    assert pack.resistance.series_ohm != shipped_pack("env200_40kwh").resistance.series_ohm
    assert "charge.csv" in pack.source


def test_document_is_json_without_nan_and_names_what_is_not_identified(result: FitResult) -> None:
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["schema"] == "v2gbench.fit/1.0"
    assert document["pack"] == "env200_40kwh"
    assert "resistance.slow_ohm" in document["not_identified"]
    slow = document["parameters"]["resistance.slow_ohm"]
    assert slow["written"] == slow["prior"]
    assert document["logs"][0]["voltage_rmse_v"] < document["logs"][0]["ocv_only_rmse_v"]
    assert document["aging"]["law"] == "b1"


def test_text_is_a_table_with_prior_posterior_and_verdict_and_the_notes(result: FitResult) -> None:
    lines = result.text().splitlines()
    assert "fitted as env200_40kwh" in lines[0]
    row = next(line for line in lines if line.startswith("series resistance"))
    assert "±" in row
    assert row.endswith("yes")
    assert next(line for line in lines if line.startswith("slow RC")).endswith("NO, kept")
    assert any("a curve without resistance" in line for line in lines)
    assert any("taken as degF" in line for line in lines)
    assert any("--pack names another" in line for line in lines)
    assert any("one history of one use tells the sum" in line for line in lines)


def test_series_of_the_plots_have_one_value_per_row_and_the_rapid_charge(result: FitResult) -> None:
    (plot,) = result.plots()
    assert len(plot.time_s) == len(plot.modelled_voltage_v) == len(plot.modelled_temperature_c) == result.fit.rows
    assert all(math.isfinite(value) for value in plot.modelled_voltage_v)
    assert plot.rapid_charges
    assert plot.gaps == []


def test_pack_is_chosen_by_what_the_car_reports(tmp_path: Path, samples: list[ReplaySample]) -> None:
    log = leaf_spy(tmp_path / "short.csv", samples[:300], capacity_ah=56.3, new_ah=65.4)
    with pytest.raises(ConfigError, match="it is a 24 kWh pack"):
        fit_logs([log])
    with pytest.raises(ConfigError, match="no pack called 'env300'"):
        fit_logs([log], pack="env300")


def test_pack_file_of_an_earlier_fit_is_the_prior_of_the_next(
    tmp_path: Path, samples: list[ReplaySample], result: FitResult
) -> None:
    assert result.out is not None
    log = leaf_spy(tmp_path / "short.csv", samples[:600])
    again = fit_logs([log], pack=str(result.out))
    assert again.fit.base.name == "my_van"
    assert again.fit.parameter("resistance.series_ohm").prior == pytest.approx(
        result.fit.parameter("resistance.series_ohm").value, rel=0.05
    )
    assert any("--in-service" in note for note in again.notes)


def test_bad_arguments_are_refused_in_one_sentence(tmp_path: Path, samples: list[ReplaySample]) -> None:
    log = leaf_spy(tmp_path / "short.csv", samples[:300])
    with pytest.raises(ConfigError, match="name at least one"):
        fit_logs([])
    with pytest.raises(LogError, match="cannot be read"):
        fit_logs([tmp_path / "absent.csv"])
    with pytest.raises(ConfigError, match="none of C, F, auto"):
        fit_logs([log], temperature_unit="K")
    with pytest.raises(ConfigError, match="no YYYY-MM-DD"):
        fit_logs([log], in_service="June 2019")
    with pytest.raises(ConfigError, match="older than the date of first use"):
        fit_logs([log], in_service="2025-01-01")
    with pytest.raises(ConfigError, match="no law of aging"):
        fit_logs([log], in_service="2019-01-01", law="entropy")
    with pytest.raises(ConfigError, match="cannot be written"):
        fit_logs([log], out=tmp_path / "no" / "folder.yaml")
