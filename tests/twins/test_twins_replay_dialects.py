"""Dialects by content, and what a reader does with files that loggers damage."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.errors import ConfigError
from twins.replay import Dialect, LogError, open_log, sniff

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"

EXPECTED = {
    "evcan_wake.tsv": Dialect.TSV,
    "two_buses.crtd": Dialect.CRTD,
    "carcan_standing.txt": Dialect.SECONDS,
    "chademo_charge.csv": Dialect.SAVVYCAN,
    "chademo_discharge.log": Dialect.CANDUMP_LOG,
    "evcan_ac_charge.candump": Dialect.CANDUMP,
    "leafspy_day.csv": Dialect.LEAFSPY,
    "leafspy_old_european.csv": Dialect.LEAFSPY,
}

# One frame, 0x55B with 42.0 %, as each logger writes it; its CRC by long division.
SOC_42 = "69 00 55 00 dc 00 01 50"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def _write(content: bytes) -> Path:
        path = tmp_path / "log"
        path.write_bytes(content)
        return path

    return _write


def test_recordings_are_what_their_generator_writes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_recordings", RECORDINGS.parent / "make_recordings.py")
    assert spec is not None
    assert spec.loader is not None
    make_recordings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_recordings)
    make_recordings.write_all(tmp_path)
    assert {path.name for path in RECORDINGS.iterdir()} == set(EXPECTED)
    for name in EXPECTED:
        assert (tmp_path / name).read_bytes() == (RECORDINGS / name).read_bytes()


@pytest.mark.parametrize(("name", "dialect"), EXPECTED.items())
def test_every_dialect_is_recognised_whatever_the_name(name: str, dialect: Dialect, tmp_path: Path) -> None:
    renamed = tmp_path / "recording.bin"
    renamed.write_bytes((RECORDINGS / name).read_bytes())
    assert sniff(renamed) is dialect
    assert open_log(renamed).summary().records > 0


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("change", ["bom", "utf16", "lf", "crlf", "blank_lines", "no_final_newline"])
def test_line_ends_and_byte_order_marks_change_nothing(name: str, change: str, write: Callable[[bytes], Path]) -> None:
    plain = (RECORDINGS / name).read_bytes()
    unix = plain.replace(b"\r\n", b"\n")
    changed = {
        "bom": b"\xef\xbb\xbf" + plain,
        "utf16": plain.decode().encode("utf-16"),
        "lf": unix,
        "crlf": unix.replace(b"\n", b"\r\n"),
        "blank_lines": unix.replace(b"\n", b"\n\n"),
        "no_final_newline": plain.rstrip(b"\r\n"),
    }[change]
    expected = open_log(RECORDINGS / name).summary()
    found = open_log(write(changed)).summary()
    assert found.quantities == expected.quantities
    assert found.records == expected.records
    assert found.truncated_line is None
    assert found.malformed_lines == 0


@pytest.mark.parametrize(
    "line",
    [
        f"1\t0\t1\tRX\t5\t\t0x0000055B\t8\t0x{SOC_42.upper()} \tDefault Parser\t",
        f"1700000000.5 1R11 55B {SOC_42}",
        f"1700000000.5 R11 55b {SOC_42.upper()}",
        f"0,5 55B 8 {SOC_42}",
        f"0000.500000 0x0000055B 8 {SOC_42.upper()}",
        f"-5,0000055B,false,Rx,0,8,{SOC_42.replace(' ', ',')},",
        f"5;55B;0;Rx;0;8;{SOC_42.replace(' ', ';')}",
        f"(1700000000.5) vcan0 55B#{SOC_42.replace(' ', '').upper()}",
        f"(1700000000.5) can1 55b#{SOC_42.replace(' ', '')} R",
        f" (000.500)  can0  RX - -  55B   [8]  {SOC_42}   'i.U.....'",
        f" (2024-01-01 00:00:00.5)  can0       55B   [8]  {SOC_42.upper()}",
    ],
)
def test_one_frame_is_read_from_any_way_of_writing_it(line: str, write: Callable[[bytes], Path]) -> None:
    text = f"{line}\n" * 3
    summary = open_log(write(text.encode())).summary()
    assert summary.quantities["vehicle.soc_percent"].last == 42.0
    assert summary.records == 3


def test_an_older_savvycan_header_without_direction_is_read(write: Callable[[bytes], Path]) -> None:
    lines = ["Time Stamp,ID,Extended,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8"]
    lines += [f"{5 * n},0000055B,false,0,8,{SOC_42.replace(' ', ',')}" for n in range(3)]
    summary = open_log(write("\n".join(lines).encode())).summary()
    assert summary.quantities["vehicle.soc_percent"].count == 3


def test_an_empty_file_is_refused_in_one_sentence(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(LogError, match="the file is empty"):
        open_log(write(b""))
    with pytest.raises(LogError, match="the file is empty"):
        open_log(write(b" \n\n"))
    with pytest.raises(LogError, match="the file is empty"):
        open_log(write(b""), Dialect.TSV)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.log: cannot be read"):
        open_log(tmp_path / "nowhere.log")


def test_an_unknown_dialect_is_refused_with_what_line_1_reads_and_what_is_known(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(LogError, match="line 1 reads 'time;voltage;current'; known are tsv") as caught:
        open_log(write(b"time;voltage;current\n1;2;3\n2;3;4\n"))
    assert "leafspy" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LogError, match="binary content"):
        open_log(write(bytes(range(256))))


@pytest.mark.parametrize(
    ("titles", "named"),
    [
        ("Date/Time,Gids,AHr,Pack Volts,Pack Amps,epoch time", "without the column 'SOC'"),
        ("Date/Time;SOC;AHr;Pack Volts;Pack Amps;epoch time", "without the column 'Gids'"),
        ("AHr,Pack Volts,Pack Amps,epoch time", "without the column 'Date/Time' and 'Gids' and 'SOC'"),
    ],
)
def test_a_leafspy_header_that_lacks_a_column_is_refused_with_its_name(
    titles: str, named: str, write: Callable[[bytes], Path]
) -> None:
    row = (";" if ";" in titles else ",").join("1" for _ in titles.replace(";", ",").split(","))
    with pytest.raises(LogError, match=named):
        sniff(write(f"{titles}\n{row}\n".encode()))


def test_a_dialect_name_that_does_not_exist_is_refused_with_the_legal_ones() -> None:
    with pytest.raises(ConfigError, match="'asc' is no log dialect; known are tsv, crtd"):
        open_log(RECORDINGS / "evcan_wake.tsv", "asc")


@pytest.mark.parametrize("forced", [dialect for dialect in Dialect if dialect.is_can])
def test_a_wrong_dialect_that_is_forced_is_refused_and_the_right_one_named(forced: Dialect) -> None:
    for name in ("evcan_wake.tsv", "two_buses.crtd", "carcan_standing.txt", "chademo_charge.csv"):
        if EXPECTED[name] is forced:
            continue
        with pytest.raises(LogError, match=f"looks like {EXPECTED[name]}"):
            open_log(RECORDINGS / name, forced).summary()


def test_leafspy_forced_on_frames_and_frames_forced_on_leafspy_are_refused() -> None:
    with pytest.raises(LogError, match="no Leaf Spy header before the first row"):
        open_log(RECORDINGS / "evcan_wake.tsv", "leafspy").summary()
    with pytest.raises(LogError, match="looks like leafspy"):
        open_log(RECORDINGS / "leafspy_day.csv", Dialect.CRTD).summary()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_cut_last_line_is_told_and_everything_before_it_kept(name: str, write: Callable[[bytes], Path]) -> None:
    content = (RECORDINGS / name).read_bytes().rstrip(b"\r\n")
    whole = open_log(RECORDINGS / name).summary()
    last_line_length = len(content.splitlines()[-1])
    # A cut inside the last byte of data, or for rows inside the cells.
    cut = {"two_buses.crtd": 1, "chademo_discharge.log": 1}.get(name, last_line_length // 2)
    summary = open_log(write(content[:-cut])).summary()
    assert summary.truncated_line == whole.lines
    assert summary.records == whole.records - 1
    assert summary.malformed_lines == 0
    assert any(f"line {whole.lines} is cut" in warning for warning in summary.warnings)


def test_a_broken_line_in_the_middle_is_counted_with_its_number(write: Callable[[bytes], Path]) -> None:
    lines = (RECORDINGS / "carcan_standing.txt").read_bytes().split(b"\r\n")
    lines[6] = lines[6][:30]
    summary = open_log(write(b"\r\n".join(lines))).summary()
    assert (summary.malformed_lines, summary.first_malformed_line) == (1, 7)
    assert summary.truncated_line is None
    assert any("line 7" in warning for warning in summary.warnings)


def test_a_candump_without_time_stamps_says_how_to_record(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(LogError, match="no time stamp; record with `candump -L`"):
        open_log(write(f"  can0  55B   [8]  {SOC_42}\n".encode() * 4)).summary()


def test_remote_error_extended_and_fd_frames_are_passed_over(write: Callable[[bytes], Path]) -> None:
    data = SOC_42.replace(" ", "")
    lines = ["(1.0) can0 55B#R", "(1.1) can0 1806E5F4#0011", f"(1.2) can0 55B##1{data}", f"(1.3) can0 55B#{data}"]
    summary = open_log(write("\n".join(lines).encode())).summary()
    assert (summary.records, summary.malformed_lines) == (1, 0)


def test_progress_is_reported_and_ends_at_the_files_size() -> None:
    seen: list[tuple[int, int]] = []
    path = RECORDINGS / "evcan_wake.tsv"
    open_log(path, progress=lambda done, whole: seen.append((done, whole))).summary()
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_a_sample_period_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample period"):
        open_log(RECORDINGS / "evcan_wake.tsv", period_s=0)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(EXPECTED)),
    where=st.floats(0, 1),
    length=st.integers(0, 400),
    noise=st.binary(max_size=40),
    forced=st.booleans(),
)
def test_damaged_files_are_read_or_refused_in_one_sentence_and_never_crash(
    tmp_path: Path, name: str, where: float, length: int, noise: bytes, forced: bool
) -> None:
    content = (RECORDINGS / name).read_bytes()
    place = int(where * len(content))
    path = tmp_path / "damaged"
    path.write_bytes(content[:place] + noise + content[place + length :])
    refused = ""
    times: list[float] = []
    try:
        log = open_log(path, EXPECTED[name] if forced else None)
        times = [sample.time_s for sample in log.samples()]
        assert log.summary().records > 0
    except LogError as error:
        refused = str(error)
    assert "\n" not in refused
    assert times == sorted(times)
