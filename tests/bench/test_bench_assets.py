"""Stations, tariffs and plans are found alike from a checkout and from a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.assets import asset, data_root, list_assets
from drivers.errors import ConfigError


def test_the_packaged_stations_are_found_by_name() -> None:
    assert asset("stations/emulated.yaml").read_text().splitlines()[0].startswith("#")
    assert {"stations/emulated.yaml", "stations/metal-example.yaml", "stations/station.schema.json"} <= set(
        list_assets("stations")
    )


def test_all_assets_are_listed_without_hidden_files() -> None:
    names = list_assets()
    assert set(list_assets("stations")) <= set(names)
    assert not [name for name in names if "/." in name or "__" in name]
    assert all(asset(name).is_file() for name in names)


def test_an_unknown_asset_names_the_nearest_or_all() -> None:
    with pytest.raises(ConfigError, match=r"did you mean stations/emulated\.yaml\?"):
        asset("stations/emulate.yaml")
    with pytest.raises(ConfigError, match=r"there are .*stations/metal-example\.yaml"):
        asset("zzz")


@pytest.mark.parametrize("name", ["../pyproject.toml", "stations/../pyproject.toml", "/etc/passwd", "bench/cli.py", ""])
def test_nothing_outside_the_data_folders_is_reached(name: str) -> None:
    with pytest.raises(ConfigError, match="comes with the bench"):
        asset(name)


def test_an_unknown_folder_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are scenarios, stations, tariffs, test_plans"):
        list_assets("recordings")


def test_a_wheel_keeps_its_data_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "v2gbench"
    (package / "data" / "stations").mkdir(parents=True)
    assert data_root(package) == package / "data"


def test_a_checkout_wins_over_data_left_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "v2gbench"
    (package / "data" / "stations").mkdir(parents=True)
    (tmp_path / "stations").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    assert data_root(package) == tmp_path


def test_a_broken_installation_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reinstall v2gbench"):
        data_root(tmp_path / "v2gbench")
