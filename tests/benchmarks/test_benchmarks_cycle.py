"""The benchmark measures what it says and prints the promised object; how fast it is, no test asserts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bare_wire import run
from benchmarks.cycle import best_parts_s, read_traffic, run_session
from benchmarks.figures import Figure, document, table
from drivers.errors import BenchError

ROOT = Path(__file__).resolve().parents[2]
FIGURE_KEYS = {"name", "value", "unit", "goal", "goal_kind", "peer", "peer_value", "ratio", "reason"}
WIRE_HEAD = '# v2gbench.wire/1.0 device="x"\n'


@pytest.mark.wire
@pytest.mark.slow
def test_cycle_prints_one_json_object_of_the_promised_shape() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "cycle",
            "--json",
            "--session-s",
            "60",
            "--pairs",
            "1",
            "--without-commands",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(done.stdout)
    assert "turn 1 of 1" in done.stderr
    assert set(result) == {"benchmark", "machine", "figures"}
    assert result["benchmark"] == "cycle"
    assert set(result["machine"]) >= {"cpu", "cores", "python", "platform", "load_average_before", "load_average_after"}
    figures: dict[str, Any] = {figure["name"]: figure for figure in result["figures"]}
    assert all(set(figure) == FIGURE_KEYS for figure in figures.values())
    goals = {name: (figure["goal_kind"], figure["goal"]) for name, figure in figures.items() if figure["goal"]}
    assert goals == {"simulated_per_wall": ("min", 1000.0), "ratio_to_bare_wire": ("min", 0.3)}
    speed = figures["simulated_per_wall"]
    assert speed["ratio"] == pytest.approx(speed["value"] / speed["peer_value"])
    shares = [figures[f"share_{name}"]["value"] for name in ("charger", "vehicle", "power_meter", "record", "other")]
    assert sum(shares) == pytest.approx(1.0)
    assert all(0.0 < share < 1.0 for share in shares)
    for name in ("demo_wall_s", "help_s"):
        assert figures[name]["value"] is None
        assert figures[name]["goal"] is None
        assert "--without-commands" in figures[name]["reason"]


def test_an_unknown_benchmark_is_bad_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "warp"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert "cycle" in done.stderr


@pytest.mark.wire
@pytest.mark.slow
def test_the_peer_carries_all_that_a_session_sent_and_committed(tmp_path: Path) -> None:
    script = tmp_path / "traffic.json"
    timing = run_session(120.0, tmp_path / "runs", script)
    traffic = json.loads(script.read_text(encoding="utf-8"))
    assert not list((tmp_path / "runs").iterdir())
    assert traffic["cycles"] == timing.cycles >= 120
    # each cycle a read and a heartbeat, one query to the analyzer; the van every tenth, at least two requests each
    assert sum(map(len, traffic["devices"]["charger"])) >= 2 * timing.cycles
    assert sum(map(len, traffic["devices"]["meter"])) == timing.cycles
    assert sum(1 for cycle in traffic["devices"]["van"] if cycle) == pytest.approx(timing.cycles / 10, abs=1)
    reports = [text for cycle in traffic["frames"] for _, text in cycle if "MeterValues" in text]
    assert len(reports) >= 2
    readings = traffic["inserts"]["INSERT INTO readings"]
    assert min(len(rows) for rows in readings) >= 15  # what a device never offers is written down once
    result = run(traffic)
    assert result["cycles"] == timing.cycles
    assert len(result["parts_s"]) == len(timing.parts_s) == 1
    assert sum(timing.parts_s) == pytest.approx(timing.wall_s)
    assert result["exchanges"] == sum(len(cycle) for device in traffic["devices"].values() for cycle in device)


def test_the_best_time_is_put_together_from_the_best_parts_of_all_turns() -> None:
    assert best_parts_s([(1.0, 5.0, 0.5), (2.0, 3.0, 0.7)]) == pytest.approx(4.5)
    with pytest.raises(BenchError, match="different lengths"):
        best_parts_s([(1.0, 5.0), (2.0,)])


def test_a_trace_that_lost_an_answer_is_not_replayed(tmp_path: Path) -> None:
    folder = _recorded(tmp_path, "0.000000 > 01\n0.000000 < 02\n1.000000 > 03\n")
    trace = folder / "wire" / "charger.txt"
    with pytest.raises(BenchError, match="to and fro"):
        read_traffic(folder, {trace: len(WIRE_HEAD)}, {trace: trace.stat().st_size}, 0, 2)


def test_messages_belong_to_the_cycle_of_their_session_time_and_pieces_are_joined(tmp_path: Path) -> None:
    folder = _recorded(tmp_path, "0.000000 > 01\n0.000000 < 02\n1.000000 > 03\n1.000000 < 04\n1.000000 < 05\n")
    trace = folder / "wire" / "charger.txt"
    traffic = read_traffic(folder, {trace: len(WIRE_HEAD)}, {trace: trace.stat().st_size}, 0, 2)
    assert traffic["devices"] == {"charger": [[("01", "02")], [("03", "0405")]]}
    assert traffic["inserts"]["INSERT INTO cycles"] == [[[0, 0.0, 100.0]], [[1, 1.0, 101.0]]]


def test_a_figure_without_a_value_needs_a_reason_and_has_no_goal() -> None:
    with pytest.raises(ValueError, match="reason"):
        Figure("ratio_to_x", None, "1")
    with pytest.raises(ValueError, match="no goal"):
        Figure("ratio_to_x", None, "1", 0.3, "min", reason="x did not install")
    with pytest.raises(ValueError, match="goal_kind"):
        Figure("help_s", 0.2, "s", goal=0.5)
    assert Figure("ratio_to_x", None, "1", reason="x did not install").is_met is None


@pytest.mark.parametrize(("kind", "value", "is_met"), [("min", 0.9, False), ("min", 1.0, True), ("max", 1.1, False)])
def test_a_goal_is_met_on_its_own_side(kind: Any, value: float, is_met: bool) -> None:
    assert Figure("f", value, "s", 1.0, kind).is_met is is_met


def test_the_document_is_json_and_the_table_shows_what_was_missed() -> None:
    figures = [Figure("demo_wall_s", 31.0, "s", 30.0, "max"), Figure("peer_s", None, "s", reason="no network")]
    result = document("demo", figures, load_before=(0.1, 0.2, 0.3), load_after=None)
    assert json.loads(json.dumps(result, allow_nan=False))["figures"][0]["value"] == 31.0
    lines = table(figures).splitlines()
    assert lines[1].split() == ["demo_wall_s", "31", "s", "at", "most", "30", "NO"]
    assert "none" in lines[2]
    assert "(no network)" in lines[2]


def _recorded(root: Path, trace: str) -> Path:
    """A run folder of two cycles with one wire trace, made with the run folder's own writer."""
    from reports.run import RunWriter

    with RunWriter.create(root, plan="p", station="s", stepped=True, manifest={}, now_s=lambda: 0.0) as run_writer:
        for index in range(2):
            run_writer.record_cycle(index, float(index), 100.0 + index, (), None, ())
        run_writer.close(verdict="pass")
    (run_writer.folder / "wire" / "charger.txt").write_text(WIRE_HEAD + trace, encoding="utf-8")
    return run_writer.folder
