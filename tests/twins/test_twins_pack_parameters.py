"""Pack files: what is written is read back equal, and what is out of range is refused with line, key and range."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import ConfigError
from twins.pack.parameters import dump_pack, load_pack, resolve_pack, shipped_pack


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = dump_pack(shipped_pack("env200_40kwh"))
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["env200_40kwh", "leaf_62kwh"])
def test_a_pack_that_is_written_is_read_back_equal(tmp_path: Path, name: str) -> None:
    pack = shipped_pack(name)
    path = tmp_path / "pack.yaml"
    path.write_text(dump_pack(pack), encoding="utf-8")
    assert load_pack(path) == pack
    assert pack.source


@pytest.mark.parametrize(
    ("old", "new", "key", "sentence"),
    [
        ("capacity_ah: 115.44", "capacity_ah: -3", "capacity_ah", "1"),
        ("fast_s: 60.0", "fast_s: 0.5", "resistance.fast_s", "1"),
        ("cells_j_per_k: 176000.0", "cells_j_per_k: 5", "thermal.cells_j_per_k", "10000"),
        ("calendar_scale: 1.0", "calendar_scale: 11", "aging.calendar_scale", "10"),
        ("groups_in_series: 96", "groups_in_series: ninety-six", "groups_in_series", "whole number"),
        ("fan_off_c: 28.0", "fan_off_c: 40.0", "thermal", "must lie below fan_on_c"),
        ("heater_on_c: -17.0", "heater_on_c: -5.0", "thermal", "must lie below heater_off_c"),
        ("chemistry:", "colour: blue\nchemistry:", "colour", "there is no key 'colour' here"),
        ("schema: v2gbench.pack/1.0", "schema: v2gbench.pack/2.0", "", "this release reads v2gbench.pack/1.0"),
        ("schema: v2gbench.pack/1.0", "schema: v2gbench.station/1.0", "", "this is no pack file"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, key: str, sentence: str
) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_pack(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:")
    assert key in text
    assert sentence in text
    line = int(text.removeprefix(f"{path}:").split(":")[0])
    written = path.read_text("utf-8").splitlines()[line - 1]
    assert key.rsplit(".", 1)[-1].split("[", maxsplit=1)[0] in written


def test_curves_must_rise_and_span_empty_to_full(tmp_path: Path) -> None:
    pack = shipped_pack("env200_40kwh")
    first, second = pack.cell.open_circuit_v[0], pack.cell.open_circuit_v[1]
    with pytest.raises(ConfigError, match="open_circuit_v must begin at 0 %"):
        load_pack(changed(tmp_path, f"- [{first[0]}, {first[1]}]", f"- [1.0, {first[1]}]"))
    with pytest.raises(ConfigError, match="open_circuit_v must rise"):
        load_pack(changed(tmp_path, f"- [{second[0]}, {second[1]}]", f"- [{second[0]}, 2.6]"))


def test_a_station_names_a_file_beside_it_or_a_pack_that_comes_with_the_twins(tmp_path: Path) -> None:
    changed(tmp_path, "capacity_ah: 115.44", "capacity_ah: 99.0")
    assert resolve_pack("mine.yaml", tmp_path).capacity_ah == 99.0
    assert resolve_pack("leaf_62kwh", tmp_path).cells_in_parallel == 3
    with pytest.raises(ConfigError, match=r"there is no pack file at .*yours\.yaml"):
        resolve_pack("yours.yaml", tmp_path)
    with pytest.raises(
        ConfigError, match="no pack called 'zoe' comes with the twins; there are env200_40kwh, leaf_62kwh"
    ):
        resolve_pack("zoe", tmp_path)
