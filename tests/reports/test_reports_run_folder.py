from __future__ import annotations

import csv
import json
import math
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ReportError, RunError
from reports.run import Event, Run, RunWriter, unfinished_runs
from reports.run_export import number_text

START_UTC_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@dataclass(frozen=True)
class SetPower:
    """The shape of a driver's answer."""

    requested_w: float
    accepted_w: float
    clamped_by: str = "nobody"
    refused: bool = False
    code: int | str | None = None


def open_run(root: Path, **changes: object) -> RunWriter:
    arguments: dict[str, object] = {
        "plan": "smoke",
        "station": "emulated",
        "stepped": True,
        "manifest": {"station_sha256": "00" * 32},
        "now_s": lambda: 12.5,
    }
    return RunWriter.create(root, **{**arguments, **changes})  # type: ignore[arg-type] # changes are one test's own


def power(value_w: float, at_s: float, quality: str = "good", source: str = "charger.ac_power") -> tuple:  # type: ignore[type-arg] # a row as the writer takes it
    return (value_w, "W", at_s, START_UTC_S + at_s, source, quality)


def write_cycles(writer: RunWriter, count: int) -> None:
    for index in range(count):
        at_s = float(index)
        writer.record_cycle(index, at_s, START_UTC_S + at_s, (power(-5000.0 + index, at_s),), None, ())


def test_a_run_reads_back_what_was_recorded(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.record_cycle(0, 0.0, START_UTC_S, (power(-5000.25, 0.0),), SetPower(-5000.0, -4800.0, "vehicle"), ())
        writer.record_cycle(
            1,
            1.0,
            START_UTC_S + 1.0,
            (power(-5001.5, 1.0),),
            SetPower(-20000.0, -4800.0, "charger", refused=True, code=3),
            (Event(1.0, START_UTC_S + 1.0, "guard", "alarm", {"limit": "power_w", "value": -20000}),),
        )
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        series = run.series("charger.ac_power")
        assert series.unit == "W"
        assert series.mono_s.tolist() == [0.0, 1.0]
        assert series.utc_s.tolist() == [START_UTC_S, START_UTC_S + 1.0]
        assert series.value.tolist() == [-5000.25, -5001.5]
        assert series.quality == ("good", "good")
        first, second = run.set_points()
        assert (first.requested_w, first.accepted_w, first.clamped_by) == (-5000.0, -4800.0, "vehicle")
        assert (second.refused, second.code) == (True, 3)
        assert run.events()[0].content == {"limit": "power_w", "value": -20000}
        assert run.verdict == "pass"
        assert run.is_finished
        assert run.left_open is None
        assert run.manifest["station_sha256"] == "00" * 32
        assert run.manifest["cycles"] == 2


def test_a_missing_value_is_null_with_its_quality(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.record_cycle(0, 0.0, START_UTC_S, (power(math.nan, 0.0, "no_data"),), None, ())
        writer.close(verdict="pass")
    database = sqlite3.connect(writer.folder / "run.sqlite")
    assert database.execute("SELECT value, quality FROM samples").fetchall() == [(None, "no_data")]
    database.close()
    with Run.open(writer.folder) as run:
        assert np.isnan(run.series("charger.ac_power").value).tolist() == [True]
        assert b'["reading",0,"charger.ac_power","W",0,1700000000,null,"no_data"]\n' in run.canonical_export()


def test_that_there_is_no_value_is_said_once_until_there_is_one(tmp_path: Path) -> None:
    told = [math.nan, math.nan, math.nan, 12.5, math.nan, math.nan]
    with open_run(tmp_path) as writer:
        for index, value_w in enumerate(told):
            quality = "no_data" if math.isnan(value_w) else "good"
            row = power(value_w, float(index), quality)
            writer.record_cycle(index, float(index), START_UTC_S + index, (row,), None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        series = run.series("charger.ac_power")
        assert series.mono_s.tolist() == [0.0, 3.0, 4.0]
        assert series.quality == ("no_data", "good", "no_data")


def test_in_stepped_time_the_wire_trace_is_written_with_each_tenth_cycle_and_with_an_event(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        trace = writer.folder / "wire" / "charger.txt"
        keep = writer.wire_trace("charger")
        keep(">", b"\x01")
        write_cycles(writer, 9)
        assert len(trace.read_text().splitlines()) == 1
        writer.record_event(Event(9.0, START_UTC_S + 9.0, "plan", "note", {}))
        assert trace.read_text().splitlines()[1:] == ["12.500000 > 01"]
        keep("<", b"\x02")
        writer.record_cycle(9, 9.0, START_UTC_S + 9.0, (), None, ())
        assert trace.read_text().splitlines()[1:] == ["12.500000 > 01", "12.500000 < 02"]
        writer.close(verdict="pass")


def test_a_reading_that_is_not_new_is_not_repeated_but_its_change_to_stale_is(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        soc = (55.0, "%", 0.0, START_UTC_S, "van.soc", "good")
        for index in range(4):
            writer.record_cycle(index, float(index), START_UTC_S + index, (soc,), None, ())
        writer.record_cycle(4, 4.0, START_UTC_S + 4, ((*soc[:5], "stale"),), None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        series = run.series("van.soc")
        assert series.mono_s.tolist() == [0.0, 0.0]
        assert series.quality == ("good", "stale")


def test_a_reading_keeps_its_own_times_when_they_are_not_the_cycles(tmp_path: Path) -> None:
    with open_run(tmp_path, stepped=False) as writer:
        row = (60.5, "%", 7.25, START_UTC_S + 7.5, "van.soc", "good")
        writer.record_cycle(0, 8.0, START_UTC_S + 8.0, (row,), None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert run.series("van.soc").mono_s.tolist() == [7.25]
        assert run.series("van.soc").utc_s.tolist() == [START_UTC_S + 7.5]


def test_more_readings_than_one_statement_takes_are_all_recorded(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.record_cycle(0, 0.0, START_UTC_S, [power(i, 0.0, source=f"cell.{i}") for i in range(351)], None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert [run.series(f"cell.{i}").value.tolist() for i in range(351)] == [[float(i)] for i in range(351)]


def test_a_source_that_changes_its_unit_is_refused_and_the_cycle_leaves_no_trace(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        write_cycles(writer, 1)
        wrong = (-5.0, "kW", 1.0, START_UTC_S + 1.0, "charger.ac_power", "good")
        fresh = power(1.0, 1.0, source="meter.ac_power")
        with pytest.raises(RunError, match=r"charger\.ac_power came in W before and now in kW"):
            writer.record_cycle(1, 1.0, START_UTC_S + 1.0, (fresh, wrong), None, ())
        writer.record_cycle(1, 1.0, START_UTC_S + 1.0, (fresh,), None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert [source.name for source in run.sources()] == ["charger.ac_power", "meter.ac_power"]
        assert len(run.series("meter.ac_power")) == 1


def test_two_runs_give_the_same_export_whatever_order_their_events_and_sources_came_in(tmp_path: Path) -> None:
    events = [Event(0.0, START_UTC_S, source, "status", {"b": 1, "a": [1, 2]}) for source in ("charger", "van")]
    rows = [power(1.5, 0.0), power(2.5, 0.0, source="meter.ac_power")]
    exports, hashes = [], []
    for turn in (1, -1):
        with open_run(tmp_path) as writer:
            writer.record_cycle(0, 0.0, START_UTC_S, rows[::turn], None, events[::turn])
            writer.close(verdict="pass")
        with Run.open(writer.folder) as run:
            exports.append(run.canonical_export())
            hashes.append(run.manifest["export_sha256"])
            assert run.export_sha256() == hashes[-1]
    assert exports[0] == exports[1]
    assert hashes[0] == hashes[1]
    for line in exports[0].splitlines():
        assert rfc8785.dumps(json.loads(line)) == line


def test_the_hash_of_the_samples_is_the_same_before_and_after_the_close_and_leaves_events_and_later_cycles_out(
    tmp_path: Path,
) -> None:
    with open_run(tmp_path) as writer:
        write_cycles(writer, 3)
        early = writer.samples_sha256()
        writer.record_event(Event(2.0, START_UTC_S + 2, "certification", "signed", {}))
        assert writer.samples_sha256() == early
        writer.record_cycle(3, 3.0, START_UTC_S + 3, (power(0.0, 3.0),), SetPower(0.0, 0.0), ())
        assert writer.samples_sha256() != early
        assert writer.samples_sha256(last_cycle=2) == early
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert run.samples_sha256(last_cycle=2) == early
        assert run.samples_sha256() != run.export_sha256()


def test_the_export_holds_no_wall_time_path_or_folder_name(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        write_cycles(writer, 3)
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        text = run.canonical_export().decode()
    assert writer.folder.name not in text
    assert str(tmp_path) not in text
    assert str(writer._manifest["opened_wall_utc"])[:10] not in text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_as_rfc_8785_writes_them(value: float) -> None:
    assert number_text(value) == rfc8785.dumps(value).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e21, "1e+21"), (1e-7, "1e-7"), (-0.0, "0"), (5.0, "5"), (1e16, "10000000000000000"), (0.1, "0.1")],
)
def test_numbers_at_the_edges_of_the_ecmascript_form(value: float, text: str) -> None:
    assert number_text(value) == text  # ECMA-262, Number::toString


def test_the_wire_trace_keeps_time_direction_and_bytes(tmp_path: Path) -> None:
    with open_run(tmp_path, stepped=False) as writer:
        keep = writer.wire_trace("charger")
        keep(">", bytes.fromhex("000100000006010300000002"))
        keep("<", b"\xff")
        write_cycles(writer, 1)
        text = (writer.folder / "wire" / "charger.txt").read_text()  # on disk with the cycle, not only at the end
        writer.close(verdict="pass")
    assert text.splitlines()[0].startswith("# v2gbench.wire/1.0")
    assert text.splitlines()[1:] == ["12.500000 > 000100000006010300000002", "12.500000 < ff"]


def test_a_wire_trace_over_its_limit_says_how_much_it_left_out(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        keep = writer.wire_trace("charger", limit_bytes=300)
        for _ in range(10):
            keep(">", bytes(40))
        writer.close(verdict="pass")
    lines = (writer.folder / "wire" / "charger.txt").read_text().splitlines()
    assert len(lines) == 5
    assert lines[-1] == "# cut: 7 more messages passed after the limit of 300 bytes"


def test_wire_traces_from_many_threads_lose_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        keep = writer.wire_trace("van")
        threads = [threading.Thread(target=lambda: [keep("<", b"\x01") for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        write_cycles(writer, 20)
        for thread in threads:
            thread.join(10.0)
        writer.close(verdict="pass")
    assert (writer.folder / "wire" / "van.txt").read_text().count("< 01") == 2000


def test_folders_that_start_in_the_same_second_do_not_collide(tmp_path: Path) -> None:
    writers = [open_run(tmp_path) for _ in range(30)]
    assert len({writer.folder for writer in writers}) == 30
    for writer in writers:
        writer.close(verdict="pass")


def test_a_hostile_plan_or_device_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with open_run(tmp_path / "runs", plan="../../etc/<b>plan") as writer:
        writer.wire_trace("../../outside")
        writer.close(verdict="pass")
    assert writer.folder.parent == tmp_path / "runs"
    assert "_etc-b-plan_" in writer.folder.name
    assert [path.name for path in (writer.folder / "wire").iterdir()] == ["outside.txt"]


def test_a_block_left_by_an_exception_is_closed_as_aborted_with_the_reason(tmp_path: Path) -> None:
    writer = open_run(tmp_path)

    def plan() -> None:
        with writer:
            write_cycles(writer, 2)
            raise KeyError("lost")

    with pytest.raises(KeyError):
        plan()
    with Run.open(writer.folder) as run:
        assert (run.verdict, run.manifest["reason"]) == ("aborted", "KeyError: 'lost'")


def test_a_closed_run_takes_no_more_and_closes_twice(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.close(verdict="pass")
        writer.close(verdict="fail")
        with pytest.raises(RunError, match="is closed"):
            write_cycles(writer, 1)
    with Run.open(writer.folder) as run:
        assert run.verdict == "pass"


def test_a_closed_run_is_one_database_file_that_opens_in_a_read_only_folder(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        write_cycles(writer, 2)
        writer.close(verdict="pass")
    assert sorted(path.name for path in writer.folder.iterdir()) == ["manifest.json", "records", "run.sqlite", "wire"]
    before = (writer.folder / "run.sqlite").read_bytes()
    with Run.open(writer.folder) as run, pytest.raises(sqlite3.OperationalError, match="readonly"):
        run._db.execute("DELETE FROM cycles")
    assert (writer.folder / "run.sqlite").read_bytes() == before


def test_manifest_keys_of_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="schema, verdict"):
        open_run(tmp_path, manifest={"verdict": "pass", "schema": "x/1"})


def test_an_interrupt_inside_a_cycle_leaves_no_half_of_it(tmp_path: Path) -> None:
    class Interrupting(SetPower):
        @property
        def code(self) -> int:
            raise KeyboardInterrupt

        @code.setter
        def code(self, value: object) -> None: ...

    with open_run(tmp_path) as writer:
        write_cycles(writer, 2)
        with pytest.raises(KeyboardInterrupt):
            writer.record_cycle(2, 2.0, START_UTC_S + 2, (power(9.0, 2.0),), Interrupting(1.0, 1.0), ())
        writer.record_cycle(2, 2.0, START_UTC_S + 2, (power(7.0, 2.0),), SetPower(1.0, math.nan, "link", True), ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert run.series("charger.ac_power").value.tolist() == [-5000.0, -4999.0, 7.0]
        assert math.isnan(run.set_points()[0].accepted_w)


def test_devices_whose_names_make_one_file_word_keep_two_wire_files(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.wire_trace("bay.1")(">", b"\x01")
        writer.wire_trace("bay_1")(">", b"\x02")
        writer.close(verdict="pass")
    texts = [path.read_text().splitlines() for path in sorted((writer.folder / "wire").iterdir())]
    assert sorted((lines[0].split()[2], lines[1][-2:]) for lines in texts) == [
        ('device="bay.1"', "01"),
        ('device="bay_1"', "02"),
    ]


def test_events_with_facts_that_json_cannot_carry_are_refused(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        with pytest.raises(RunError, match="cannot be recorded"):
            writer.record_event(Event(0.0, START_UTC_S, "van", "odd", {"value": math.nan}))
        writer.record_event(Event(0.0, START_UTC_S, "van", "fine", {"value": None}))
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        assert [event.kind for event in run.events()] == ["fine"]
        assert run.events("odd") == ()


def test_csv_long_has_both_times_and_an_empty_cell_for_a_missing_value(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.record_cycle(
            0, 0.0, START_UTC_S, (power(-5000.5, 0.0), power(math.nan, 0.0, "no_data", "m.p")), None, ()
        )
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        run.export_csv(tmp_path / "long.csv")
    with (tmp_path / "long.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["utc", "mono_s", "source", "value", "unit", "quality"],
            ["2023-11-14T22:13:20.000Z", "0.0", "charger.ac_power", "-5000.5", "W", "good"],
            ["2023-11-14T22:13:20.000Z", "0.0", "m.p", "", "W", "no_data"],
        ]


def test_csv_wide_has_a_row_per_cycle_and_empty_cells_where_nothing_new_came(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        soc = (55.0, "%", 0.0, START_UTC_S, "van.soc", "good")
        writer.record_cycle(0, 0.0, START_UTC_S, (power(1.0, 0.0), soc), None, ())
        writer.record_cycle(1, 1.0, START_UTC_S + 1, (power(2.0, 1.0), soc), None, ())
        writer.close(verdict="pass")
    with Run.open(writer.folder) as run:
        run.export_csv(tmp_path / "wide.csv", wide=True)
    with (tmp_path / "wide.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["utc", "mono_s", "charger.ac_power [W]", "charger.ac_power quality", "van.soc [%]", "van.soc quality"],
            ["2023-11-14T22:13:20.000Z", "0.0", "1.0", "good", "55.0", "good"],
            ["2023-11-14T22:13:21.000Z", "1.0", "2.0", "good", "", ""],
        ]


def test_an_unknown_source_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        write_cycles(writer, 1)
        writer.close(verdict="pass")
    with (
        Run.open(writer.folder) as run,
        pytest.raises(RunError, match=r"no source 'van\.soc'; it has charger\.ac_power"),
    ):
        run.series("van.soc")


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (None, "no manifest.json"),
        ("{", "cannot be read"),
        ("[]", "not the manifest of a run"),
        ('{"schema": "v2gbench.run/2.0"}', r"reads v2gbench\.run/1\.0; use the program that wrote it"),
        ('{"schema": "v2gbench.run/1.7"}', r"no run\.sqlite"),
    ],
)
def test_a_folder_that_is_no_run_is_refused_in_one_sentence(
    tmp_path: Path, manifest: str | None, sentence: str
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(RunError, match=sentence):
        Run.open(tmp_path)


def test_a_damaged_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        writer.close(verdict="pass")
    (writer.folder / "run.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 10)
    with pytest.raises(ReportError, match="damaged or not a run database"):
        Run.open(writer.folder)


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from reports.errors import RunError
from reports.run import RunWriter
root, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
writer = RunWriter.create(root, plan="long", station="emulated", stepped=True, manifest={}, now_s=lambda: 0.0)
keep = writer.wire_trace("charger")
for index in range(100_000):
    at_s = float(index)
    keep(">", b"\\x01\\x02\\x03\\x04")
    readings = [(at_s + i, "W", at_s, 1.7e9 + at_s, f"d.{i}", "good") for i in range(20)]
    try:
        writer.record_cycle(index, at_s, 1.7e9 + at_s, readings, None, ())
    except RunError as error:
        print(index, error, flush=True)
        try:
            writer.record_cycle(index + 1, 0.0, 0.0, (), None, ())
        except RunError as again:
            assert again is error
        writer.close(verdict="aborted")
        sys.exit(7)
    if index in (49, 50):
        print(index, flush=True)
"""


def start_child(root: Path, limit_bytes: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(limit_bytes)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_a_killed_run_keeps_every_committed_cycle_and_is_named_as_left_open(tmp_path: Path) -> None:
    with start_child(tmp_path, 0) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "49\n"
        assert unfinished_runs(tmp_path) == ()  # its writer lives and holds the lock
        child.send_signal(signal.SIGKILL)
        child.wait(10.0)
    (left,) = unfinished_runs(tmp_path)
    assert "was not closed" in left.statement
    with Run.open(left.folder) as run:
        cycles = run.cycles()
        assert len(cycles) >= 50
        assert cycles[:, 0].tolist() == list(range(len(cycles)))
        # whole cycles only: all twenty readings of each, the last one too
        assert {len(run.series(f"d.{i}")) for i in range(20)} == {len(cycles)}
        assert run.verdict == "unfinished"
        assert f"holds {len(cycles)} cycles" in left.statement
    wire = (left.folder / "wire" / "charger.txt").read_text().splitlines()
    assert len(wire) >= 50


def test_a_full_disk_ends_recording_with_one_sentence_and_earlier_cycles_stay_readable(tmp_path: Path) -> None:
    with start_child(tmp_path, 1_000_000) as child:
        output, _ = child.communicate(timeout=60.0)
    assert child.returncode == 7, output
    last = output.splitlines()[-1]
    failed_at = int(last.split()[0])
    assert "cycles before it are safe and readable" in last
    (left,) = unfinished_runs(tmp_path)
    assert "broke off" in left.statement
    with Run.open(left.folder) as run:
        assert run.verdict == "aborted"
        assert not run.is_finished
        assert len(run.cycles()) == failed_at > 100
        assert len(run.series("d.19")) == failed_at


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make a run folder at"):
        open_run(tmp_path / "file")


def test_there_are_no_unfinished_runs_where_there_is_no_folder(tmp_path: Path) -> None:
    assert unfinished_runs(tmp_path / "runs") == ()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # the limit was the child's own


def test_a_run_that_somebody_reads_while_it_closes_is_closed_all_the_same(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, plan="read", station="s", stepped=True, manifest={}, now_s=lambda: 0.0)
    writer.record_cycle(
        0, 0.0, 1_700_000_000.0, [(1.0, "W", 0.0, 1_700_000_000.0, "charger.ac_power", "good")], None, ()
    )
    reader = sqlite3.connect(writer.folder / "run.sqlite", isolation_level=None)
    try:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM cycles").fetchone() == (1,)
        writer.close(verdict="completed")
    finally:
        reader.close()
    with Run.open(writer.folder) as run:
        assert run.is_finished
        assert len(run.series("charger.ac_power")) == 1
