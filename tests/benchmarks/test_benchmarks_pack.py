"""The pack benchmark measures what it says, and says why a figure is missing; how fast it is, no test asserts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pack import PeerMissing, install

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_pack_prints_one_object_with_every_promised_figure_and_the_reason_where_one_is_left_out() -> None:
    options = ["--json", "--days", "2", "--turns", "1", "--packs", "20", "--without-peers"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "pack", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    figures: dict[str, Any] = {figure["name"]: figure for figure in json.loads(done.stdout)["figures"]}
    goals = {name: (figure["goal_kind"], figure["goal"]) for name, figure in figures.items() if figure["goal"]}
    assert goals == {
        "one_year_1s_s": ("max", 5.0),
        "one_year_peak_mb": ("max", 500.0),
        "one_year_96_groups_s": ("max", 20.0),
        "fit_s": ("max", 1.0),
        "second_start_s": ("max", 2.0),
    }
    for name in ("ratio_to_fastest_peer", "ratio_to_simses"):
        assert figures[name]["value"] is None
        assert figures[name]["reason"] == "left out by --without-peers"
    assert figures["fleet_10000x1day_s"]["reason"].startswith("measured 20 packs: ")
    assert all(figures[name]["value"] > 0.0 for name in goals)


def test_a_peer_that_cannot_be_installed_is_missing_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PeerMissing, match=r"nothing==1 could not be installed: .*no-such-python"):
        install("nothing==1", str(tmp_path / "no-such-python"), lambda _: None)
