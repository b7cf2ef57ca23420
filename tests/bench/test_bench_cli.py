"""The command line from outside: a process, its exit code, and what it prints where."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.assets import asset

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "data" / "recordings"
PASS, FAIL, BAD_INPUT = 0, 1, 2
COMMANDS = ("demo", "init", "run", "report", "verify", "replay", "twin", "csms", "doctor", "station", "nodes")

GROUPED = (
    *(f"station {name}" for name in ("check", "plan", "read", "schema")),
    *(f"nodes {name}" for name in ("build", "up", "down", "status")),
)


def cli(*arguments: str | Path, cwd: Path, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "v2gbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def one_object(text: str) -> dict[str, object]:
    """The one JSON object that a text is; fails on anything before, behind or instead."""
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def test_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    done = cli("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (PASS, f"v2gbench {version('v2gbench')}\n")


def test_help_names_every_command(tmp_path: Path) -> None:
    done = cli("--help", cwd=tmp_path)
    assert done.returncode == PASS
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z]+)", done.stdout, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("command", [*COMMANDS[:-2], *GROUPED])
def test_each_command_has_help(command: str, tmp_path: Path) -> None:
    done = cli(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == PASS
    assert "Usage: v2gbench" in done.stdout.replace("python -m v2gbench", "v2gbench")


@pytest.mark.parametrize("argument", ["--help", "--version", "demo --help"])
def test_help_and_version_import_nothing_heavy(argument: str, tmp_path: Path) -> None:
    # pydantic is not among them: typer itself imports it for the help of a command.
    heavy = ("numpy", "numba", "bokeh", "pymodbus", "obd", "can", "pyvisa", "websockets", "robot", "grpc", "rfc8785")
    script = (
        "import sys\nfrom bench.cli import main\n"
        f"sys.argv[1:] = {argument.split()!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=True
    )
    assert done.stderr.strip() == "[]"


def test_help_comes_within_half_a_second(tmp_path: Path) -> None:
    took = []
    for _ in range(3):
        begin_s = time.perf_counter()
        cli("--help", cwd=tmp_path)
        took.append(time.perf_counter() - begin_s)
    assert min(took) < 0.5


# Bad input ------------------------------------------------------------------------------------------------------------


def bad_cases(folder: Path) -> dict[str, tuple[str | Path, ...]]:
    """Every command with something that it must refuse."""
    station = folder / "broken.yaml"
    station.write_text(asset("stations/emulated.yaml").read_text().replace("soc_percent: 55", "soc_percent: full"))
    empty = folder / "empty.log"
    empty.write_bytes(b"")
    return {
        "demo station missing": ("demo", "--station", folder / "none.yaml"),
        "demo station broken": ("demo", "--station", station),
        "demo too short": ("demo", "--minutes", "1"),
        "init into a file": ("init", empty),
        "station check broken": ("station", "check", station),
        "station plan missing": ("station", "plan", folder / "none.yaml"),
        "station read broken": ("station", "read", station),
        "run without a plan": ("run", folder / "none.robot"),
        "report of no run": ("report", folder),
        "replay empty": ("replay", empty),
        "replay missing": ("replay", folder / "none.csv"),
        "replay wrong dialect": ("replay", RECORDINGS / "leafspy_day.csv", "--dialect", "crtd"),
        "replay unknown dialect": ("replay", RECORDINGS / "leafspy_day.csv", "--dialect", "morse"),
        "twin unknown": ("twin", "toaster"),
        "twin bad address": ("twin", "charger", "--listen", "nowhere"),
        "twin bad seconds": ("twin", "charger", "--seconds", "-1"),
        "csms bad address": ("csms", "--listen", "nowhere"),
        "no such command": ("fly",),
        "no such option": ("doctor", "--fast"),
    }


CASES = (
    "demo station missing",
    "demo station broken",
    "demo too short",
    "init into a file",
    "station check broken",
    "station plan missing",
    "station read broken",
    "run without a plan",
    "report of no run",
    "replay empty",
    "replay missing",
    "replay wrong dialect",
    "replay unknown dialect",
    "twin unknown",
    "twin bad address",
    "twin bad seconds",
    "csms bad address",
    "no such command",
    "no such option",
)


@pytest.mark.slow  # each is a process
@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_a_sentence_on_standard_error_and_exit_code_2(case: str, tmp_path: Path) -> None:
    cases = bad_cases(tmp_path)
    assert tuple(cases) == CASES
    done = cli(*cases[case], cwd=tmp_path)
    assert done.returncode == BAD_INPUT, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if "Usage:" not in done.stderr:  # what the option parser refuses it explains in its own form
        assert done.stderr.startswith("v2gbench: ")
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) > 40


def test_verify_of_a_file_that_is_none_is_a_failed_check(tmp_path: Path) -> None:
    done = cli("verify", tmp_path / "none.json", cwd=tmp_path)
    assert done.returncode == FAIL
    assert "Traceback" not in done.stderr
    assert "FAIL" in done.stdout


def test_a_station_with_several_faults_is_told_all_of_them(tmp_path: Path) -> None:
    text = asset("stations/emulated.yaml").read_text()
    text = text.replace("soc_percent: 55", "soc_percent: full").replace("cycle_s: 1.0", "cycle_seconds: 1.0")
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    done = cli("station", "check", path, cwd=tmp_path)
    assert done.returncode == BAD_INPUT
    assert "cycle_seconds" in done.stderr
    assert "soc_percent" in done.stderr


@pytest.mark.slow
@pytest.mark.wire
@pytest.mark.parametrize("command", ["csms", "twin charger", "twin site"])
def test_a_port_that_is_taken_is_one_sentence(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = cli(*command.split(), "--listen", f"127.0.0.1:{port}", "--seconds", "1", cwd=tmp_path)
    assert done.returncode == BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr


# JSON -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_json_of_station_commands_is_one_object(tmp_path: Path) -> None:
    station = asset("stations/emulated.yaml")
    for command in ("check", "plan", "read"):
        done = cli("station", command, station, "--json", cwd=tmp_path)
        assert done.returncode == PASS, done.stderr
        assert one_object(done.stdout)
    assert one_object(cli("station", "schema", cwd=tmp_path).stdout)["title"] == "v2gbench station file"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_json_of_doctor_is_one_object_and_its_exit_code_the_health(tmp_path: Path) -> None:
    done = cli("doctor", "--json", cwd=tmp_path)
    assert (done.returncode == PASS) == one_object(done.stdout)["healthy"]


@pytest.mark.wire
def test_json_of_twin_is_one_object(tmp_path: Path) -> None:
    done = cli("twin", "site", "--json", "--seconds", "0.3", cwd=tmp_path)
    assert done.returncode == PASS, done.stderr
    assert one_object(done.stdout)["kind"] == "site"


def test_json_of_init_is_one_object(tmp_path: Path) -> None:
    done = cli("init", "lab", "--json", cwd=tmp_path)
    assert done.returncode == PASS, done.stderr
    assert one_object(done.stdout)["station_made"] is True


@pytest.mark.slow
@pytest.mark.wire
def test_json_of_demo_verify_and_report_are_one_object_each(tmp_path: Path) -> None:
    done = cli("demo", "--minutes", "5", "--json", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == PASS, done.stdout + done.stderr
    summary = one_object(done.stdout)
    wanted = ("verdict", "energy_import_wh", "energy_export_wh", "ocmf", "certificate", "report", "ledger")
    assert {*wanted, "settlement", "simulated_s", "wall_s"} <= summary.keys()
    assert summary["verdict"] == "PASS"
    certificate, trust = str(summary["certificate"]), str(summary["trust"])
    verified = cli("verify", certificate, "--trust", trust, "--json", cwd=tmp_path)
    assert verified.returncode == PASS
    assert list(one_object(verified.stdout)) == [certificate]
    reported = cli("report", str(summary["run"]), "--json", cwd=tmp_path)
    assert one_object(reported.stdout)["report"] == summary["report"]


@pytest.mark.slow
def test_json_of_replay_is_one_object_with_what_was_found_and_where_it_is(tmp_path: Path) -> None:
    done = cli("replay", RECORDINGS / "leafspy_day.csv", "--json", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == PASS, done.stderr
    document = one_object(done.stdout)
    log = document["log"]
    assert isinstance(log, dict)
    assert {"quantities", "absences", "charges", "chademo", "warnings", "assumptions"} <= log.keys()
    for name in ("usage_record", "certificate", "trust", "report"):
        assert Path(str(document[name])).is_file()


# The document ---------------------------------------------------------------------------------------------------------


@pytest.mark.wire
def test_the_script_of_the_document_reads_a_charger_in_at_most_ten_lines(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "read-a-charger.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "V2G 3p 10 kW available"
    power = next(line.split() for line in lines if line.startswith("charger.ac_power"))
    assert 20 < float(power[1]) < 60  # stand-by
    assert power[2:] == ["W", "good"]
    assert len(list((tmp_path / "runs").iterdir())) == 1
