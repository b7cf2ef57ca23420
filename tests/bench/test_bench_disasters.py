"""What may go wrong around a session: signals, kills, full disks, sick links, a wall clock that is set back."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.emulation import EmulatedSite
from bench.pipeline import CertifiedRun, CertifiedSession
from bench.session import SessionPlan
from bench.station import Station
from drivers.clock import WallClock
from ledgers.verify import verify_certificate
from reports.run import Run, RunWriter, unfinished_runs

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]

# Processes --------------------------------------------------------------------------------------------------------


@contextmanager
def demo(runs: Path, minutes: int, *, largest_file: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`v2gbench demo` as a process of its own, gone when the block is left."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    process = subprocess.Popen(
        [sys.executable, "-m", "v2gbench", "demo", "--minutes", str(minutes), "--json", "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509  # a limit of this process only; it sets nothing but a number
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10.0)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def wait_for_cycles(process: subprocess.Popen[str], runs: Path, cycles: int) -> Path:
    """The folder of the run under way, as soon as it holds so many cycles."""
    end_s = time.monotonic() + 60.0
    while time.monotonic() < end_s and process.poll() is None:
        for folder in runs.glob("*_demo_*"):
            try:
                # closed at once: a reader that stays keeps the writer from folding its write-ahead log in
                with closing(sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)) as database:
                    (found,) = database.execute("SELECT count(*) FROM cycles").fetchone()
            except sqlite3.Error:
                continue  # not there yet
            if found >= cycles:
                return folder
        time.sleep(0.02)
    raise AssertionError(f"no run with {cycles} cycles came: {process.poll()}")


def assert_whole_cycles(run: Run, at_least: int) -> None:
    cycles = run.cycles()
    assert len(cycles) >= at_least
    assert list(cycles[:, 0]) == list(range(len(cycles)))
    power = run.series("charger.ac_power")
    # the charger is read in each of them; a signal may come in the middle of that, and it is not read twice
    assert len(cycles) - 1 <= len(power) <= len(cycles)
    assert set(power.mono_s) <= set(cycles[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_session_through_the_safe_state_with_one_sentence(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path, 24 * 60) as process:
        folder = wait_for_cycles(process, tmp_path, 600)
        process.send_signal(number)
        out, err = process.communicate(timeout=30.0)

    assert process.returncode == 130, err
    assert out == ""
    assert err.strip() == (
        "v2gbench: stopped before the end; "
        "a charger that a run was driving is in its safe state, and that run is closed"
    )
    assert unfinished_runs(tmp_path) == ()
    with Run.open(folder) as run:
        assert run.is_finished
        assert (run.verdict, run.manifest["reason"]) == ("aborted", "KeyboardInterrupt")
        assert_whole_cycles(run, 600)
        power = run.series("charger.ac_power").value
        assert abs(power).max() > 2000.0
        assert abs(power[-1]) < 200.0
    assert not (folder / "certificate.json").exists()


@pytest.mark.slow
def test_a_killed_session_is_told_and_readable_up_to_its_last_whole_cycle(tmp_path: Path) -> None:
    with demo(tmp_path, 24 * 60) as process:
        folder = wait_for_cycles(process, tmp_path, 300)
        assert unfinished_runs(tmp_path) == ()  # it is being written, so it is not lost
        process.kill()
        process.communicate(timeout=10.0)

    (lost,) = unfinished_runs(tmp_path)
    assert lost.folder == folder
    with Run.open(folder) as run:
        assert run.verdict == "unfinished"
        assert_whole_cycles(run, 300)
        assert f"it holds {len(run.cycles())} cycles up to" in lost.statement
        assert "its process died or was killed" in lost.statement
        assert run.events("identified")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_cycles_before_it_stay_readable(tmp_path: Path) -> None:
    with demo(tmp_path, 120, largest_file=800_000) as process:
        out, err = process.communicate(timeout=60.0)

    assert process.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    assert "free space" in err
    (folder,) = tmp_path.glob("*_demo_*")
    with Run.open(folder) as run:
        assert run.verdict != "completed"
        assert_whole_cycles(run, 40)
    (broken,) = unfinished_runs(tmp_path)
    assert broken.folder == folder
    assert "broke off" in broken.statement


@pytest.mark.slow
def test_a_runs_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with demo(tmp_path / "file" / "runs", 5) as process:
        out, err = process.communicate(timeout=60.0)

    assert process.returncode == 2
    assert out == ""
    assert err.startswith("v2gbench: cannot make a run folder at ")
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.slow
def test_two_demos_at_once_share_a_runs_folder_and_agree_to_the_byte(tmp_path: Path) -> None:
    with demo(tmp_path, 5) as one, demo(tmp_path, 5) as other:
        answers = [process.communicate(timeout=100.0) for process in (one, other)]
        codes = [process.returncode for process in (one, other)]

    assert codes == [0, 0], answers
    found = [json.loads(out) for out, _ in answers]
    assert found[0]["run"] != found[1]["run"]
    assert found[0]["verdict"] == found[1]["verdict"] == "PASS"
    records = {Path(each["usage_record"]).read_bytes() for each in found}
    assert len(records) == 1
    for each in found:
        assert verify_certificate(Path(each["certificate"]), Path(each["trust"])).ok


# Sick links -------------------------------------------------------------------------------------------------------


class SickLink:
    """A proxy on 127.0.0.1 between a driver and its face that hurts what the device answers, once it is told how.

    silent: nothing comes any more. garbled: every byte is another one. slow: answers take longer than the driver waits.
    cut: half an answer, then the link is closed, and so is every new one.
    """

    def __init__(self, host: str, port: int) -> None:
        self.illness = ""
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5.0)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                driver, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self.illness == "cut":
                driver.close()
                continue
            thread = threading.Thread(target=self._serve, args=(driver,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, driver: socket.socket) -> None:
        with driver, socket.create_connection(self._target) as device:
            for end in (driver, device):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(0.02)
            while not self._closing.is_set():
                for source, sink in ((driver, device), (device, driver)):
                    try:
                        data = source.recv(65_536)
                    except TimeoutError:
                        continue
                    except OSError:
                        return
                    if not data:
                        return
                    try:
                        sink.sendall(data if source is driver else self._hurt(data))
                    except OSError:
                        return
                    if self.illness == "cut" and source is device:
                        return

    def _hurt(self, data: bytes) -> bytes:
        if self.illness == "silent":
            return b""
        if self.illness == "garbled":
            return bytes(byte ^ 0x55 for byte in data)
        if self.illness == "slow":
            self._closing.wait(0.8)
        if self.illness == "cut":
            return data[: len(data) // 2]
        return data


PLAN = SessionPlan(name="sick", duration_s=45, baseline_w=3000.0)
FACES = {"charger": ("charger", "modbus"), "van": ("van", "elm327"), "meter": ("analyzer", "scpi")}


def sick_session(
    station: Station, device: str, illness: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[CertifiedRun, float]:
    """A session whose `device` falls ill in its 20th cycle; and how long it took from then on."""
    links: list[SickLink] = []
    whole = EmulatedSite.address

    def through_proxy(site: EmulatedSite, twin: str, face: str) -> str:
        address = whole(site, twin, face)
        if (twin, face) != FACES[device]:
            return address
        found = re.search(r"127\.0\.0\.1(?::|::)(\d+)", address)  # a VISA address has two colons
        assert found, address
        links.append(SickLink("127.0.0.1", int(found[1])))
        return address.replace(found[1], str(links[-1].port))

    monkeypatch.setattr(EmulatedSite, "address", through_proxy)
    began: list[float] = []
    try:
        with CertifiedSession(station, PLAN) as session:

            def fall_ill(index: int, *_: object) -> None:
                if index == 20:
                    began.append(time.monotonic())
                    links[0].illness = illness

            session.rack.cycle.listeners.append(fall_ill)
            session.announce()
            run = session.conclude(session.runner.run(), report=False)
        return run, time.monotonic() - began[0]
    finally:
        for link in links:
            link.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "illness"),
    [
        ("charger", "silent"),
        ("charger", "garbled"),
        ("charger", "cut"),
        ("van", "slow"),
        ("van", "garbled"),
        ("meter", "garbled"),
        ("meter", "cut"),
    ],
)
def test_a_sick_link_trips_or_is_told_in_bounded_time_and_the_record_is_whole(
    emulated: Change, monkeypatch: pytest.MonkeyPatch, device: str, illness: str
) -> None:
    station = emulated({f"devices.{device}.reply_s": 0.2, "devices.van.poll_s": 5.0, "devices.charger.watchdog_s": 3})
    run, took_s = sick_session(station, device, illness, monkeypatch)

    assert took_s < 60.0
    assert run.certified.verdict == "FAIL" or device == "meter"
    assert run.certified.certificate is not None
    assert verify_certificate(run.certified.certificate, run.certified.trust).ok
    with Run.open(run.folder) as recorded:
        assert recorded.is_finished
        told = [event.content["sentence"] for event in recorded.events("device_silent") if event.source == device]
        told += [event.content["sentence"] for event in recorded.events("limit_tripped")]
        assert told, recorded.events()
        if device == "charger":
            assert recorded.verdict == "tripped"
            assert str(told[-1]).startswith("charger: ")
        if device == "van":
            assert recorded.verdict == "tripped"
            assert "was not measured for" in run.log.tripped
            assert abs(recorded.series("charger.ac_power").value[-1]) < 200.0
        if device == "meter":
            assert recorded.verdict == "completed"  # it guards nothing that the charger does not tell as well
            reason = "meter was silent at an end of the session, so its figures are less certain"
            assert reason in run.certified.reasons
        cycles = recorded.cycles()
        assert list(cycles[:, 0]) == list(range(len(cycles)))


# The computer's clock is set back ---------------------------------------------------------------------------------


def test_a_wall_clock_that_is_set_back_moves_no_stamp_of_the_session_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, true_time = WallClock(), time.time
    stamps = []
    with RunWriter.create(
        tmp_path, plan="back", station="s", stepped=False, manifest={}, now_s=lambda: clock.mono_s
    ) as run:
        for index, back_s in enumerate((0.0, 0.0, 3600.0, 3600.0, -7200.0)):
            monkeypatch.setattr(time, "time", lambda back_s=back_s: true_time() - back_s)
            mono_s, utc_s = clock.mono_s, clock.utc_s
            stamps.append((mono_s, utc_s))
            run.record_cycle(index, mono_s, utc_s, [(1.0 * index, "W", mono_s, utc_s, "a.b", "good")], None, ())
            time.sleep(0.002)
        run.close(verdict="pass")
    monkeypatch.undo()

    assert stamps[2][1] < stamps[1][1] - 3000.0  # UTC is the computer's and was set back
    with Run.open(run.folder) as read:
        series = read.series("a.b")
        assert list(series.value) == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert all(early < late for early, late in zip(series.mono_s, series.mono_s[1:], strict=False))
        assert read.is_finished
