"""Plans through `v2gbench run`: exit codes, what they leave behind, and how they end when they are stopped."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bench.assets import asset
from bench.commands.init import init_station
from bench.plans.execution import Call
from bench.plans.progress import Forecast, forecast
from bench.plans.runner import PlanResult, find_plan, run_plan
from drivers.errors import ConfigError
from ledgers.verify import verify_certificate
from reports.run import Run

_HEAD = "*** Settings ***\nLibrary    bench.keywords\n"
_ENDLESS = """
A Session Without End
    Open Station
    Plug In Vehicle
    Start Session    lasts=100 h
    Set Charger Power    -3 kW    within=20 s
    Set Charger Power    100 W    within=20 s
    Wait    100 h

Never Reached
    Log    nobody sees this
"""
_COMMAND_TIMEOUT_S = 90.0


def write_plan(folder: Path, tests: str, *, name: str = "plan", settings: str = "") -> Path:
    path = folder / f"{name}.robot"
    path.write_text(f"{_HEAD}{settings}\n*** Test Cases ***{tests}", encoding="utf-8")
    return path


def write_station(folder: Path, changes: Mapping[str, Any]) -> Path:
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(asset("stations/emulated.yaml").read_text(encoding="utf-8"))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    written = folder / "station.yaml"
    with written.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return written


def start(plan: Path | str, runs: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "v2gbench", "run", str(plan), "--runs", str(runs), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=runs.parent,
    )


def command(plan: Path | str, runs: Path, *options: str) -> tuple[int, str, str]:
    process = start(plan, runs, *options)
    output, complaints = process.communicate(timeout=_COMMAND_TIMEOUT_S)
    return process.returncode, output, complaints


def only_run(runs: Path) -> Path:
    found = [path for path in runs.iterdir() if path.is_dir()]
    assert len(found) == 1, found
    return found[0]


def manifest_of(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def power_at_the_end(run: Path) -> float:
    with Run.open(run) as recorded:
        return float(recorded.series("charger.ac_power").value[-1])


def wait_for_cycles(process: subprocess.Popen[str], runs: Path, *, timeout_s: float = 60.0) -> Path:
    """The run folder, once power has flowed for a while."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        assert process.poll() is None, process.communicate()
        for folder in runs.glob("*Z_*_????"):
            if (folder / "wire" / "meter.txt").is_file() and (folder / "wire" / "meter.txt").stat().st_size > 50_000:
                return folder
        time.sleep(0.05)
    raise AssertionError("the plan did not get going")


class TestBeforeAnythingOpens:
    """Bad input is found by a rehearsal; no folder is made."""

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("Set Chargr Power    5 kW", "plan.robot:6: No keyword with name 'Set Chargr Power' found. Did you mean:"),
            ("Set Charger Power    5", "'5' has no unit; write for example '5000 W' or '5 kW'"),
            ("Set Charger Power    5 kW    within=10", "'10' has no unit; write for example '30 s', '10 min'"),
            ("Get Meter Power    ac    <=    5", "'5' has no unit; write for example '5000 W' or '5 kW'"),
            ("Follow Grid Orders    20", "'20' has no unit; write for example '30 s', '10 min' or '1 h 30 min'"),
            ("Set Charger Power", "expected 1 to 3 arguments, got 0"),
            ("Get Meter Power    rf    <    5 kW", "Plane does not have member 'rf'. Available: 'AC' and 'DC'"),
            ("Get Meter Power    ac    ==    5 kW", "'==' that cannot be converted to '<', '<=', '>' or '>='"),
            ("Charger State Should Be    burning", "Available: 'AVAILABLE', 'CHARGING', 'DISCHARGING', "),
            ("Announce Grid Order    a    more    1 kW    starts_in=1 s    lasts=1 s", "'LOAD_DECREASE' and 'LOAD_IN"),
            ("IF    True", "plan.robot:6: IF must have closing END."),
        ],
    )
    def test_a_wrong_line_is_named_with_the_remedy(self, tmp_path: Path, line: str, complaint: str) -> None:
        plan = write_plan(tmp_path, f"\nA Test\n    {line}\n    Log    more\n")
        with pytest.raises(ConfigError) as caught:
            run_plan(plan, runs=tmp_path / "runs")
        assert complaint in str(caught.value)
        assert str(caught.value).startswith(f"{plan}:6: ")
        assert str(caught.value).count("\n") == 0
        assert not (tmp_path / "runs").exists()

    def test_each_wrong_line_is_told(self, tmp_path: Path) -> None:
        plan = write_plan(tmp_path, "\nOne\n    Wait    5\n    Wate    5 s\n\nTwo\n    Wait    -5 s\n")
        with pytest.raises(ConfigError) as caught:
            run_plan(plan, runs=tmp_path / "runs")
        lines = str(caught.value).splitlines()
        assert [line.split(":")[1] for line in lines] == ["6", "7", "10"]

    def test_a_wrong_setting_and_a_missing_library_are_named(self, tmp_path: Path) -> None:
        plan = write_plan(tmp_path, "\nOne\n    Log    a\n", settings="Libary    no.such\nLibrary    no.such\n")
        with pytest.raises(ConfigError) as caught:
            run_plan(plan, runs=tmp_path / "runs")
        assert f"{plan}:3: Non-existing setting 'Libary'" in str(caught.value)
        assert f"{plan}:4: Importing library 'no.such' failed" in str(caught.value)

    def test_a_plan_without_tests_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="contains no tests"):
            run_plan(write_plan(tmp_path, ""), runs=tmp_path / "runs")

    def test_a_missing_plan_lists_those_that_come_with_the_bench(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"there is no plan .*none\.robot; .* bench: .*smoke, v2g_session"):
            run_plan(tmp_path / "none.robot", runs=tmp_path / "runs")

    def test_a_missing_station_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
            run_plan(Path("smoke"), station=tmp_path / "nowhere.yaml", runs=tmp_path / "runs")

    def test_a_wrong_answer_file_is_refused(self, tmp_path: Path) -> None:
        answers = tmp_path / "answers.yaml"
        answers.write_text("answers: {plug_in: maybe}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"answers\.yaml:1:"):
            run_plan(Path("smoke"), answers=answers, runs=tmp_path / "runs")
        assert not (tmp_path / "runs").exists()

    def test_a_runs_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("a file is in the way", encoding="utf-8")
        plan = write_plan(tmp_path, "\nOne\n    Log    a\n")
        with pytest.raises(ConfigError, match=r"cannot make a folder in .*; choose another with --runs"):
            run_plan(plan, runs=tmp_path / "runs")

    def test_shipped_plans_are_found_by_name(self) -> None:
        assert find_plan(Path("smoke")) == asset("test_plans/smoke.robot")
        assert find_plan(Path("test_plans/v2g_session.robot")).name == "v2g_session.robot"


class TestForecast:
    def test_waits_and_schedules_add_up(self) -> None:
        calls = [
            Call("Wait", ("30 s",)),
            Call("Start Session", ("lasts=1 h", "baseline=3 kW")),
            Call("Follow Grid Orders", ("20 min",)),
            Call("Wait", ("duration=10 min",)),
            Call("Follow Grid Orders", ()),
            Call("Wait", ("1 min",)),
        ]
        assert forecast(calls) == Forecast(30.0 + 3600.0 + 60.0, whole=True)

    def test_a_duration_in_a_variable_is_not_foreseen(self) -> None:
        assert forecast([Call("Wait", ("${LONG}",)), Call("Wait", ("5 s",))]) == Forecast(5.0, whole=False)


@pytest.mark.wire
@pytest.mark.slow
class TestExitCodes:
    def test_the_smoke_plan_passes_and_leaves_everything_in_one_run_folder(self, tmp_path: Path) -> None:
        code, output, complaints = command("smoke", tmp_path / "runs", "--json")
        assert code == 0, complaints
        document = json.loads(output)
        assert document["verdict"] == "PASS"
        assert [test["status"] for test in document["tests"]] == ["PASS"] * 4
        assert all(test["wall_s"] < 1.0 for test in document["tests"][1:])
        run = only_run(tmp_path / "runs")
        assert document["runs"][0]["folder"] == str(run)
        assert Path(document["runs"][0]["report"]).is_file()
        session = document["runs"][0]["session"]
        assert verify_certificate(Path(session["certificate"]), Path(session["trust"])).ok
        for name, file in document["robot"].items():
            assert Path(file).parent == run / "robot", name
            assert Path(file).stat().st_size > 0, name
        suite = ET.parse(document["robot"]["xunit"]).getroot()
        assert (suite.get("tests"), suite.get("failures")) == ("4", "0")
        assert manifest_of(run)["verdict"] == "completed"

    def test_the_v2g_session_delivers_its_orders_and_is_paid_for(self, tmp_path: Path) -> None:
        code, output, complaints = command("v2g_session", tmp_path / "runs", "--json")
        assert code == 0, complaints + output
        session = json.loads(output)["runs"][0]["session"]
        assert session["verdict"] == "PASS"
        # 20 min at -7 kW; 3 kW for 25 min and 8 kW for 15 min
        assert session["energy_export_wh"]["charger"] == pytest.approx(7000 / 3, rel=0.03)
        assert session["energy_import_wh"]["charger"] == pytest.approx(3000 * 25 / 60 + 2000, rel=0.03)
        assert session["settlement"]["status"] == "settled"

    def test_a_failed_assertion_is_1_and_the_record_is_whole(self, tmp_path: Path) -> None:
        plan = write_plan(
            tmp_path,
            "\nHopes Too Much\n    Open Station\n    Plug In Vehicle\n    Start Session    lasts=10 min\n"
            "    Set Charger Power    -2 kW    within=20 s\n    Get Meter Power    ac    >    5 kW    retry_for=3 s\n",
        )
        code, output, _ = command(plan, tmp_path / "runs")
        assert code == 1
        assert "verdict: FAIL" in output
        assert "still so after 3 s of session time" in output
        run = only_run(tmp_path / "runs")
        assert manifest_of(run)["state"] == "closed"
        assert manifest_of(run)["verdict"] == "aborted"
        assert abs(power_at_the_end(run)) < 200.0
        record = json.loads((run / "records" / "usage_record.json").read_bytes())["record"]
        assert record["session"]["outcome"] == "aborted"
        assert verify_certificate(run / "certificate.json").ok

    def test_bad_input_is_2_before_and_while_the_plan_runs(self, tmp_path: Path) -> None:
        code, output, complaints = command(write_plan(tmp_path, "\nA\n    Wait    5\n"), tmp_path / "runs")
        assert (code, output) == (2, "")
        assert complaints.startswith("v2gbench: ")
        assert "'5' has no unit" in complaints
        plan = write_plan(tmp_path, "\nA\n    Open Station    nowhere.yaml\n")
        code, output, _ = command(plan, tmp_path / "runs")
        assert code == 2
        assert "there is no station file nowhere.yaml" in output

    def test_a_trip_is_3_nothing_opens_again_and_the_record_is_whole(self, tmp_path: Path) -> None:
        station = write_station(tmp_path, {"limits.pack_temperature_c": {"max": 23.5}})
        plan = write_plan(
            tmp_path,
            "\nIt Gets Warm\n    Open Station\n    Plug In Vehicle\n    Start Session    lasts=2 h\n"
            "    Set Charger Power    -10 kW    within=20 s\n    Wait    2 h\n"
            "\nNothing Opens Again\n    Open Station\n",
        )
        code, output, _ = command(plan, tmp_path / "runs", "--station", str(station), "--json")
        assert code == 3
        document = json.loads(output)
        assert document["verdict"] == "TRIPPED"
        assert "24 degC, outside pack_temperature_c <= 23.5" in document["tests"][0]["message"]
        assert "no station is opened again in this plan" in document["tests"][1]["message"]
        run = only_run(tmp_path / "runs")
        assert manifest_of(run)["verdict"] == "tripped"
        assert abs(power_at_the_end(run)) < 200.0
        with Run.open(run) as recorded:
            (tripped,) = recorded.events("limit_tripped")
        assert tripped.content["safe_state_confirmed"] is True
        session = document["runs"][0]["session"]
        assert session["verdict"] == "FAIL"
        assert session["energy_export_wh"]["charger"] > 1000.0
        assert verify_certificate(Path(session["certificate"]), Path(session["trust"])).ok
        assert (run / "report.html").is_file()

    def test_a_trip_that_the_plan_expects_is_a_pass(self, tmp_path: Path) -> None:
        station = write_station(tmp_path, {"limits.pack_temperature_c": {"max": 22.5}})
        plan = write_plan(
            tmp_path,
            "\nToo Warm From The Start\n    Open Station\n"
            "    Run Keyword And Expect Error    InterlockTripped: van.pack_temperature*    Plug In Vehicle\n"
            "    Limit Should Have Tripped    pack_temperature_c\n",
        )
        result = run_plan(plan, station=station, runs=tmp_path / "runs")
        assert result.exit_code == 0, result.text()
        assert result.runs[0].tripped


@pytest.mark.wire
@pytest.mark.slow
class TestTheWayOut:
    def test_sigterm_in_the_middle_reaches_the_safe_state_and_closes_the_run(self, tmp_path: Path) -> None:
        process = start(write_plan(tmp_path, _ENDLESS), tmp_path / "runs")
        run = wait_for_cycles(process, tmp_path / "runs")
        process.send_signal(signal.SIGTERM)
        output, complaints = process.communicate(timeout=_COMMAND_TIMEOUT_S)
        assert process.returncode == 130, output + complaints
        assert "verdict: STOPPED" in output
        assert manifest_of(run)["state"] == "closed"
        assert manifest_of(run)["verdict"] == "aborted"
        assert abs(power_at_the_end(run)) < 50.0
        with Run.open(run) as recorded:
            cycles = recorded.cycles()
        assert [int(index) for index in cycles[:, 0]] == list(range(len(cycles))), "a cycle is missing or doubled"
        assert (run / "robot" / "output.xml").is_file()

    def test_a_second_ctrl_c_does_not_cut_off_the_safe_state(self, tmp_path: Path) -> None:
        process = start(write_plan(tmp_path, _ENDLESS), tmp_path / "runs")
        run = wait_for_cycles(process, tmp_path / "runs")
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_COMMAND_TIMEOUT_S)
        assert process.returncode == 130
        assert manifest_of(run)["state"] == "closed"
        assert abs(power_at_the_end(run)) < 50.0

    def test_a_test_time_out_closes_the_station_of_that_test(self, tmp_path: Path) -> None:
        plan = write_plan(
            tmp_path, _ENDLESS.replace("Open Station", "[Timeout]    8 s\n    Open Station"), name="time_out"
        )
        result = run_plan(plan, runs=tmp_path / "runs")
        assert [test.status for test in result.tests] == ["FAIL", "PASS"]
        assert "timeout 8 seconds exceeded" in result.tests[0].message
        assert result.exit_code == 1
        assert manifest_of(result.runs[0].folder)["state"] == "closed"
        assert abs(power_at_the_end(result.runs[0].folder)) < 50.0

    def test_exit_on_failure_of_robot_itself_closes_the_station_of_the_suite(self, tmp_path: Path) -> None:
        plan = write_plan(
            tmp_path,
            "\nFails\n    Plug In Vehicle\n    Start Session    lasts=1 h\n"
            "    Set Charger Power    3 kW    within=20 s\n    Fail    on purpose\n\nNext\n    Wait    1 s\n",
            settings="Suite Setup    Open Station\n",
        )
        robot = [sys.executable, "-m", "robot", "--exitonfailure", "--outputdir", str(tmp_path / "robot")]
        done = subprocess.run(
            [*robot, "--variable", f"RUNS:{tmp_path / 'runs'}", str(plan)],
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 2, done.stdout + done.stderr  # Robot counts failed tests
        run = only_run(tmp_path / "runs")
        assert manifest_of(run)["state"] == "closed"
        assert manifest_of(run)["reason"] == "on purpose"
        assert abs(power_at_the_end(run)) < 200.0


@pytest.mark.wire
@pytest.mark.slow
class TestFolders:
    def test_two_plans_at_once_do_not_collide(self, tmp_path: Path) -> None:
        first, second = start("smoke", tmp_path / "runs", "--json"), start("smoke", tmp_path / "runs", "--json")
        documents = []
        for process in (first, second):
            output, complaints = process.communicate(timeout=_COMMAND_TIMEOUT_S)
            assert process.returncode == 0, complaints
            documents.append(json.loads(output))
        folders = {document["runs"][0]["folder"] for document in documents}
        assert len(folders) == 2
        for document in documents:
            assert Path(document["robot"]["log"]).parent.parent == Path(document["runs"][0]["folder"])
            session = document["runs"][0]["session"]
            assert verify_certificate(Path(session["certificate"]), Path(session["trust"])).ok
        assert (
            documents[0]["runs"][0]["session"]["energy_import_wh"]
            == documents[1]["runs"][0]["session"]["energy_import_wh"]
        ), "one seed, one record"

    def test_a_plan_with_two_stations_leaves_robots_files_in_both_runs(self, tmp_path: Path) -> None:
        plan = write_plan(
            tmp_path, "\nOne\n    Open Station\n    Wait    5 s\n\nTwo\n    Open Station\n    Wait    2 s\n"
        )
        result = run_plan(plan, runs=tmp_path / "runs")
        assert result.exit_code == 0, result.text()
        assert [run.simulated_s for run in result.runs] == pytest.approx([5.0, 2.0], abs=1.5)
        for run in result.runs:
            assert (run.folder / "robot" / "log.html").is_file()
            assert (run.folder / "report.html").is_file(), "also without a session"
            assert manifest_of(run.folder)["verdict"] == "completed"
        assert not list((tmp_path / "runs").glob("*.robot"))

    def test_a_plan_without_a_station_keeps_a_folder_of_its_own(self, tmp_path: Path) -> None:
        result = run_plan(write_plan(tmp_path, "\nOne\n    Log    a\n", name="no station"), runs=tmp_path / "runs")
        assert result.exit_code == 0
        assert result.robot.name.endswith(".robot")
        assert result.document()["robot"] == {
            "output": str(result.robot / "output.xml"),
            "log": str(result.robot / "log.html"),
            "report": str(result.robot / "report.html"),
            "xunit": str(result.robot / "xunit.xml"),
        }


@pytest.mark.wire
@pytest.mark.slow
def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path,
        "\nOne\n    Open Station\n    Plug In Vehicle\n    Start Session    lasts=90 min\n"
        "    Set Charger Power    -100 W    within=20 s\n    Wait    90 min\n",
    )
    program = (
        "import sys; from pathlib import Path; from bench.plans.runner import run_plan; "
        "sys.exit(run_plan(Path(sys.argv[1]), runs=Path(sys.argv[2]), live=True).exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(plan), str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "test 1/1: One"
    assert lines[-1].startswith("test 1/1: PASS after ")
    told = [line for line in lines if " of 01:30:00 session time, 00:00:" in line and line.endswith(" %")]
    assert told, done.stderr
    assert "\r" not in done.stderr


def _answer_yes(process: subprocess.Popen[str], terminal: int, times: int) -> str:
    """Say yes at the terminal to each question on the error stream; returns all that was written there."""
    assert process.stderr is not None
    told = ""
    for asked in range(1, times + 1):
        while told.count("[yes/no] ") < asked:
            letter = process.stderr.read(1)
            assert letter, told
            told += letter
        os.write(terminal, b"yes\n")
    return told


@pytest.mark.wire
@pytest.mark.slow
def test_on_the_wall_clock_a_plan_runs_against_twins_of_another_process_as_on_metal(tmp_path: Path) -> None:
    twins = subprocess.Popen(
        [sys.executable, "-m", "v2gbench", "twin", "site", "--plugged", "--json", "--seconds", "100"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    master, slave = pty.openpty()
    try:
        assert twins.stdout is not None
        faces = {face["face"]: face["address"] for face in json.loads(twins.stdout.readline())["faces"]}
        (tmp_path / "station.yaml").write_text(
            "schema: v2gbench.station/1.0\nname: other-process\nclock: wall\ndevices:\n"
            "  charger: {role: charger, driver: modbus, profile: sunspec_der, watchdog_s: 10, "
            f"at: '{faces['modbus']}'}}\n"
            f"  van: {{role: vehicle, driver: elm327, at: '{faces['elm327']}', poll_s: 2}}\n"
            f"  meter: {{role: power_meter, driver: yokogawa_wt, at: '{faces['scpi']}'}}\n"
            "limits: {power_w: {min: -10500, max: 10500}, soc_percent: {min: 10, max: 97}}\n"
            "ledger: {kind: embedded}\nsettlement: {kind: embedded, tariff: tariffs/example.yaml}\n"
            "keys: {folder: keys}\nruns: runs\n",
            encoding="utf-8",
        )
        init_station(tmp_path)
        plan = write_plan(
            tmp_path,
            "\nTwenty Seconds\n    Open Station\n    Plug In Vehicle\n    Start Session    lasts=1 min\n"
            "    Set Charger Power    -5 kW    within=15 s\n    Wait    12 s\n"
            "    Get Meter Power    ac    <=    -4.75 kW    retry_for=5 s\n    Get Vehicle Power    <    -4.75 kW\n"
            "    Stop Session\n    Unplug Vehicle\n    Certify Session\n    Witnesses Should Agree\n",
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "v2gbench", "run", str(plan), "--station", "station.yaml", "--json"],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        questions = _answer_yes(process, master, 3)
        output, complaints = process.communicate(timeout=_COMMAND_TIMEOUT_S)
    finally:
        os.close(master)
        os.close(slave)
        twins.terminate()
        twins.communicate(timeout=20.0)
    assert process.returncode == 0, output + complaints
    assert "Real power may flow through charger, van, meter." in questions
    assert "Please plug the vehicle in" in questions
    document = json.loads(output)
    assert document["simulated_s"] > 15.0
    run = only_run(tmp_path / "runs")
    assert manifest_of(run)["material"] == "measured"
    session = document["runs"][0]["session"]
    assert verify_certificate(Path(session["certificate"]), Path(session["trust"])).ok


def test_a_result_knows_its_verdict_in_words(tmp_path: Path) -> None:
    words = {0: "PASS", 1: "FAIL", 2: "BAD INPUT", 3: "TRIPPED", 130: "STOPPED"}
    for code, word in words.items():
        result = PlanResult(tmp_path, code, (), (), tmp_path, (), 0.0)
        assert result.verdict == word
        assert result.text().splitlines()[0] == f"verdict: {word}"
