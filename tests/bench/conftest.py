"""Stations for tests: the emulated one that is shipped, with what a test changes in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bench.assets import asset
from bench.pipeline import CertifiedRun, run_certified
from bench.session import demo_plan
from bench.station import Station, parse_station

Change = Callable[..., Station]


@pytest.fixture
def emulated(tmp_path: Path) -> Change:
    """A function that returns the emulated station, changed: `emulated(**{"twins.van.soc_percent": 80})`.

    A key is a dotted path into the file; a value of None takes the key away. Runs go below `tmp_path`.
    """

    def change(changes: Mapping[str, Any] | None = None) -> Station:
        yaml = YAML(typ="safe", pure=True)
        document = yaml.load(asset("stations/emulated.yaml").read_text(encoding="utf-8"))
        document["runs"] = str(tmp_path / "runs")
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            place = document
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[last]
            else:
                place[last] = value
        text = io.StringIO()
        yaml.default_flow_style = False
        yaml.dump(document, text)
        return parse_station(text.getvalue().encode(), asset("stations/emulated.yaml"))

    return change


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CertifiedRun:
    """One whole certified session of five minutes at the emulated station; do not change its files."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    path = asset("stations/emulated.yaml")
    return run_certified(parse_station(path.read_bytes(), path), demo_plan(300.0), runs=runs, report=False)
