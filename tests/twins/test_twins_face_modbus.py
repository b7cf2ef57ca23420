"""The charger's Modbus face over real sockets, in literal bytes.

Frames are those of the Modbus application protocol 1.1b3 (sections 6.3, 6.6, 6.12, 7) behind the MBAP header of Modbus
messaging on TCP/IP 1.0b; register addresses follow from the model lengths of the SunSpec information models, in the
order of the profile: 40000 SunS, 40002 model 1 (66), 40070 715 (7), 40079 713 (7), 40088 701 (153), 40243 702 (50),
40295 704 (65), 40362 the end.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from drivers.charger.profile import ChargerProfile, load_profile
from drivers.errors import ConfigError
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin, SessionState
from twins.clock import SteppedClock
from twins.faces.modbus import ModbusFace
from twins.grid import LowVoltageGrid
from twins.measurement import EXACT, generator
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire

W, INV_ST, ALRM, THROT_SRC, MN_ALRM_INFO = 40098, 40092, 40094, 40199, 40211
WSET_ENA, WSET_MOD, WSET, WSET_RVRT, WSET_RVRT_TMS, WSET_RVRT_REM = 40317, 40318, 40319, 40321, 40326, 40328
CONTROLLER_HB, ALARM_RESET, OP_CTL = 40075, 40077, 40078


@dataclass
class FaceBench:
    site: Site
    clock: SteppedClock
    loop: ServiceLoop
    face: ModbusFace
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def charger(self) -> ChargerTwin:
        return self.site.charger

    def connect(self) -> socket.socket:
        client = socket.create_connection((self.face.host, self.face.port), timeout=5.0)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(client)
        return client

    def ask(self, request: str, client: socket.socket | None = None) -> str:
        """Send one frame in hex, return the one that answers."""
        client = client or (self.sockets[0] if self.sockets else self.connect())
        client.sendall(bytes.fromhex(request))
        return answer(client).hex(" ")

    def step(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.site.step(1.0)

    def read(self, address: int, count: int = 1) -> bytes:
        reply = bytes.fromhex(self.ask(f"0001 0000 0006 01 03 {address:04x} {count:04x}"))
        assert reply[7] == 3, reply.hex(" ")
        return reply[9:]

    def write(self, address: int, *words: int) -> int:
        """Function 16; returns the exception code, 0 for none."""
        data = b"".join(word.to_bytes(2, "big") for word in words)
        head = struct.pack(">HHHBBHHB", 2, 0, 7 + len(data), 1, 16, address, len(words), len(data))
        reply = bytes.fromhex(self.ask((head + data).hex()))
        return 0 if reply[7] == 16 else reply[8]


def exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise EOFError(f"closed after {data.hex(' ')!r}")
        data += part
    return data


def answer(client: socket.socket) -> bytes:
    head = exactly(client, 6)
    return head + exactly(client, int.from_bytes(head[4:6], "big"))


@pytest.fixture(scope="module")
def profile() -> ChargerProfile:
    return load_profile("sunspec_der")


@pytest.fixture
def bench(profile: ChargerProfile) -> Iterator[FaceBench]:
    clock = SteppedClock(1_768_464_000.0)
    van = Van("van", generator(7, "van"), soc_percent=55.0)
    charger = ChargerTwin("charger", generator(7, "charger"), van=van, power_accuracy=EXACT)
    site = Site(clock, LowVoltageGrid("grid", generator(7, "grid")), charger)
    with ServiceLoop() as loop, ModbusFace(charger, profile, site.lock, loop) as face:
        it = FaceBench(site, clock, loop, face)
        try:
            yield it
        finally:
            for client in it.sockets:
                client.close()


def running(bench: FaceBench) -> None:
    bench.charger.plug_in()
    assert bench.write(OP_CTL, 1) == 0


# Frames of the specification


def test_the_marker_is_read_with_the_bytes_of_the_specification(bench: FaceBench) -> None:
    # Transaction 1501, protocol 0, 6 bytes follow, unit 1, function 3, address 40000 = 9C40, 2 registers.
    assert bench.ask("15 01 00 00 00 06 01 03 9c 40 00 02") == "15 01 00 00 00 07 01 03 04 53 75 6e 53"


def test_the_models_stand_where_their_lengths_put_them(bench: FaceBench) -> None:
    for address, model, length in (
        (40002, 1, 66), (40070, 715, 7), (40079, 713, 7), (40088, 701, 153), (40243, 702, 50), (40295, 704, 65),
        (40362, 0xFFFF, 0),
    ):  # fmt: skip
        assert struct.unpack(">HH", bench.read(address, 2)) == (model, length)


def test_function_16_is_confirmed_with_address_and_count(bench: FaceBench) -> None:
    # 2 registers, 4 bytes, to ControllerHb at 40075 = 9C8B.
    request = "00 07 00 00 00 0b 01 10 9c 8b 00 02 04 00 00 00 2a"
    assert bench.ask(request) == "00 07 00 00 00 06 01 10 9c 8b 00 02"
    assert bench.read(CONTROLLER_HB, 2).hex() == "0000002a"


def test_function_6_is_echoed(bench: FaceBench) -> None:
    # WSetMod at 40318 = 9D7E, value 1.
    assert bench.ask("00 08 00 00 00 06 01 06 9d 7e 00 01") == "00 08 00 00 00 06 01 06 9d 7e 00 01"


@pytest.mark.parametrize(
    ("request_hex", "answer_hex"),
    [
        ("0001 0000 0006 01 04 9c40 0001", "00 01 00 00 00 03 01 84 01"),  # function 4: not offered
        ("0001 0000 0006 01 01 0000 0001", "00 01 00 00 00 03 01 81 01"),  # coils: not offered
        ("0001 0000 0002 01 2b", "00 01 00 00 00 03 01 ab 01"),
        ("0001 0000 0006 02 03 9c40 0002", "00 01 00 00 00 03 02 83 0b"),  # another unit
        ("0001 0000 0006 01 03 9c3f 0002", "00 01 00 00 00 03 01 83 02"),  # one before the map
        ("0001 0000 0006 01 03 9dab 0002", "00 01 00 00 00 03 01 83 02"),  # one behind the end
        ("0001 0000 0006 01 03 ffff 0002", "00 01 00 00 00 03 01 83 02"),
        ("0001 0000 0006 01 03 9c40 0000", "00 01 00 00 00 03 01 83 03"),  # no register
        ("0001 0000 0006 01 03 9c40 007e", "00 01 00 00 00 03 01 83 03"),  # 126 registers
        ("0001 0000 0006 01 03 9c40 ffff", "00 01 00 00 00 03 01 83 03"),
        ("0001 0000 0005 01 03 9c40 00", "00 01 00 00 00 03 01 83 03"),  # cut short
        ("0001 0000 0007 01 03 9c40 0002 00", "00 01 00 00 00 03 01 83 03"),  # too long
        ("0001 0000 0002 01 10", "00 01 00 00 00 03 01 90 03"),
        ("0001 0000 0009 01 10 9c8b 0002 02 002a", "00 01 00 00 00 03 01 90 03"),  # 2 registers in 2 bytes
        ("0001 0000 0007 01 10 9c8b 0000 00", "00 01 00 00 00 03 01 90 03"),
        ("0001 0000 0005 01 06 9d7e 00", "00 01 00 00 00 03 01 86 03"),
        ("0001 0000 0006 01 06 9d7f 0000", "00 01 00 00 00 03 01 86 02"),  # half of WSet
        ("0001 0000 0009 01 10 9d7f 0001 02 0000", "00 01 00 00 00 03 01 90 02"),  # half of WSet
        ("0001 0000 0009 01 10 9d80 0001 02 0000", "00 01 00 00 00 03 01 90 02"),  # its other half
        ("0001 0000 0009 01 10 9c62 0001 02 0000", "00 01 00 00 00 03 01 90 02"),  # W is read only
    ],
)
def test_a_request_that_cannot_be_met_gets_its_exception(bench: FaceBench, request_hex: str, answer_hex: str) -> None:
    assert bench.ask(request_hex) == answer_hex
    assert bench.read(40000, 2) == b"SunS"


def test_125_registers_are_read_in_one_answer(bench: FaceBench) -> None:
    whole = bench.read(40000, 125)
    assert len(whole) == 250
    assert whole[:4] == b"SunS"
    assert whole[140:144] == struct.pack(">HH", 715, 7)


# Streams


def test_pipelined_requests_are_all_answered_in_order(bench: FaceBench) -> None:
    client = bench.connect()
    client.sendall(b"".join(bytes.fromhex(f"{tid:04x} 0000 0006 01 03 9c40 0002") for tid in range(1, 51)))
    for tid in range(1, 51):
        assert answer(client).hex() == f"{tid:04x}" + "0000000701030453756e53"


def test_a_frame_that_comes_byte_by_byte_is_answered_once(bench: FaceBench) -> None:
    client = bench.connect()
    for byte in bytes.fromhex("0009 0000 0006 01 03 9c40 0002 000a 0000 0006 01 03 9c40 0001"):
        client.sendall(bytes([byte]))
        time.sleep(0.001)
    assert answer(client).hex() == "00090000000701030453756e53"
    assert answer(client).hex() == "000a000000050103025375"
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: charger\r\n\r\n",
        bytes.fromhex("0001 0001 0006 01 03 9c40 0002"),  # protocol id 1
        bytes.fromhex("0001 0000 0001 01 03 9c40 0002"),  # a length too short for a function
        bytes.fromhex("0001 0000 0000 01 03 9c40 0002"),
        bytes.fromhex("0001 0000 00ff 01 03 9c40 0002"),  # a length beyond 254
        bytes.fromhex("0001 0000 ffff 01 03 9c40 0002"),
        b"\xff" * 4096,
    ],
)
def test_who_does_not_speak_modbus_is_dropped_and_nobody_else(bench: FaceBench, garbage: bytes) -> None:
    good, bad = bench.connect(), bench.connect()
    bad.sendall(garbage)
    with contextlib.suppress(ConnectionResetError):  # an abort may arrive as a reset
        assert bad.recv(16) == b""
    assert bench.ask("0001 0000 0006 01 03 9c40 0002", good).endswith("53 75 6e 53")


def test_half_a_frame_and_a_hang_up_leave_the_face_alive(bench: FaceBench) -> None:
    for cut in range(1, 12):
        client = bench.connect()
        client.sendall(bytes.fromhex("0001 0000 0006 01 03 9c40 0002")[:cut])
        client.close()
    assert bench.ask("0001 0000 0006 01 03 9c40 0002", bench.connect()).endswith("53 75 6e 53")


def test_two_clients_see_one_charger(bench: FaceBench) -> None:
    running(bench)
    first, second = bench.connect(), bench.connect()
    assert bench.ask("0001 0000 0009 01 10 9d7d 0001 02 0001", first).endswith("9d 7d 00 01")
    assert bench.ask("0002 0000 000b 01 10 9d7f 0002 04 ffff ec78", first).endswith("9d 7f 00 02")  # -5000
    assert bench.ask("0003 0000 0006 01 03 9d7f 0002", second).endswith("ff ff ec 78")
    assert bench.charger.setpoint_w == 5000.0


def test_reading_while_another_thread_steps_never_tears_a_value(bench: FaceBench) -> None:
    running(bench)
    bench.charger.set_setpoint(-9_000.0)
    bench.step(10)
    stop = threading.Event()

    def stepping() -> None:
        for _ in range(400):
            if stop.is_set():
                return
            bench.charger.set_setpoint(-bench.charger.setpoint_w)
            bench.step(6)

    thread = threading.Thread(target=stepping)
    thread.start()
    try:
        energies = []
        for _ in range(300):
            block = bench.read(40088, 41)
            watts = struct.unpack_from(">h", block, 20)[0]
            volt_amperes = struct.unpack_from(">h", block, 22)[0]
            injected, absorbed = struct.unpack_from(">QQ", block, 38)
            assert abs(watts) == volt_amperes
            energies.append((injected, absorbed))
    finally:
        stop.set()
        thread.join(10.0)
    assert not thread.is_alive()
    assert energies == sorted(energies)


# Registers


def test_measured_values_are_scaled_and_positive_when_the_vehicle_gives(bench: FaceBench) -> None:
    running(bench)
    bench.charger.set_setpoint(-5_000.0)
    bench.step(60)
    block = bench.read(40088, 123)
    charger = bench.charger
    assert struct.unpack_from(">h", block, 20)[0] == 5000
    assert struct.unpack_from(">h", block, 28)[0] / 100.0 == pytest.approx(abs(charger.meter.current_a), abs=0.006)
    assert struct.unpack_from(">H", block, 32)[0] / 10.0 == pytest.approx(charger.meter.voltage_v, abs=0.051)
    assert struct.unpack_from(">I", block, 34)[0] / 1000.0 == pytest.approx(charger.grid_frequency_hz, abs=0.0006)
    assert struct.unpack_from(">Q", block, 38)[0] == int(charger.meter.export_wh) == 82  # 2 + 4 + 58 x 5 kJ
    assert struct.unpack_from(">Q", block, 46)[0] == 0
    assert struct.unpack_from(">5h", block, 226)[:4] == (-2, -1, -3, 0)  # A_SF, V_SF, Hz_SF, W_SF
    assert struct.unpack_from(">H", block, 4)[0] == 2  # ACType: three-phase
    storage = struct.unpack(">7H", bench.read(40081, 7))
    assert storage[2] == round(1000.0 * bench.charger.van.bms.soc)  # type: ignore[union-attr]  # this one has a van
    assert storage[3] == 970
    assert storage[4] == 0  # OK


def test_what_is_not_implemented_reads_as_sunspec_says(bench: FaceBench) -> None:
    assert bench.read(40100, 2).hex() == "80008000"  # Var, PF: int16
    assert bench.read(40079 + 2, 5).hex() == "ffff" * 5  # 713 without a vehicle
    assert bench.read(40088 + 48, 4).hex() == "ff" * 8  # TotWhInjL1: uint64


@pytest.mark.parametrize(
    ("state", "st", "inv_st"),
    [
        (SessionState.AVAILABLE, 1, 1),  # sleeping
        (SessionState.PLUGGED, 1, 7),  # stand-by
        (SessionState.RUNNING, 1, 3),
        (SessionState.FINISHING, 1, 7),
        (SessionState.FAULTED, 1, 6),
        (SessionState.UNAVAILABLE, 0, 0),
    ],
)
def test_states_are_those_of_model_701(bench: FaceBench, state: SessionState, st: int, inv_st: int) -> None:
    charger = bench.charger
    if state not in {SessionState.AVAILABLE, SessionState.UNAVAILABLE}:
        charger.plug_in()
    if state in {SessionState.RUNNING, SessionState.FINISHING}:
        charger.start()
    if state is SessionState.FINISHING:
        charger.stop()
    if state is SessionState.FAULTED:
        charger.raise_fault("MREC17")
    if state is SessionState.UNAVAILABLE:
        charger.set_available(False)
    assert struct.unpack(">HH", bench.read(40091, 2)) == (st, inv_st)


def test_a_fault_stands_in_alarm_bit_16_with_its_code_in_words_and_is_reset_by_715(bench: FaceBench) -> None:
    bench.charger.plug_in()
    bench.charger.raise_fault("MREC17")
    bench.charger.raise_fault("OverTemp\u00e9")
    assert bench.read(ALRM, 2).hex() == "00010000"
    assert bench.read(MN_ALRM_INFO, 32).rstrip(b"\0") == b"MREC17, OverTemp?"
    assert bench.write(OP_CTL, 1) == 4
    assert bench.write(ALARM_RESET, 7) == 3
    assert bench.write(ALARM_RESET, 0) == 0
    assert bench.charger.state is SessionState.FAULTED
    assert bench.write(ALARM_RESET, 1) == 0
    assert bench.charger.state is SessionState.PLUGGED
    assert bench.read(MN_ALRM_INFO, 32) == b"\0" * 64


# Commands


def test_a_session_needs_a_vehicle_and_a_set_point_needs_a_session(bench: FaceBench) -> None:
    assert bench.write(OP_CTL, 1) == 4
    bench.charger.plug_in()
    assert bench.write(WSET_ENA, 1) == 0
    assert bench.write(WSET, 0xFFFF, 0xEC78) == 4
    assert bench.write(WSET, 0, 0) == 0
    assert bench.write(OP_CTL, 1) == 0
    assert bench.write(WSET, 0xFFFF, 0xEC78) == 0
    assert bench.charger.setpoint_w == 5000.0
    assert bench.write(OP_CTL, 0) == 0
    assert (bench.charger.state, bench.charger.setpoint_w) == (SessionState.FINISHING, 0.0)


def test_a_set_point_waits_for_its_enable_and_goes_with_it(bench: FaceBench) -> None:
    running(bench)
    assert bench.write(WSET, 0, 3000) == 0
    bench.step(5)
    assert bench.charger.ac_power_w == 0.0
    assert bench.read(WSET, 2).hex() == "00000000"
    assert bench.write(WSET_ENA, 1) == 0
    bench.step(5)
    assert bench.charger.ac_power_w == -3000.0
    assert bench.read(WSET, 2).hex() == "00000bb8"
    assert bench.write(WSET, 0, 2000) == 0
    assert bench.write(WSET_ENA, 1) == 0  # again: the set-point that waited does not come back
    assert bench.read(WSET, 2).hex() == "000007d0"
    assert bench.write(WSET_ENA, 0) == 0
    bench.step(5)
    assert bench.charger.ac_power_w == 0.0
    assert bench.write(WSET_ENA, 1) == 0
    assert bench.charger.setpoint_w == 0.0


def test_enable_mode_and_set_point_go_in_one_write(bench: FaceBench) -> None:
    running(bench)
    assert bench.write(WSET_ENA, 1, 1, 0, 2500) == 0
    assert bench.charger.setpoint_w == -2500.0


def test_a_write_with_one_bad_value_does_nothing_at_all(bench: FaceBench) -> None:
    running(bench)
    assert bench.write(WSET_ENA, 1, 1, 0, 10_001) == 3
    assert (bench.charger.setpoint_w, bench.read(WSET_ENA).hex()) == (0.0, "0000")
    bench.charger.raise_fault("MREC3")
    assert bench.write(ALARM_RESET, 1, 9) == 3
    assert bench.charger.state is SessionState.FAULTED


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (WSET, (0, 10_001)), (WSET, (0xFFFF, 0xD8EF)), (WSET, (0x8000, 0)), (WSET, (0x7FFF, 0xFFFF)),
        (WSET_ENA, (2,)), (WSET_MOD, (0,)), (WSET_RVRT, (0, 1)), (40325, (0,)), (WSET_RVRT_TMS, (0, 601)),
        (WSET_RVRT_TMS, (0xFFFF, 0xFFFF)), (OP_CTL, (4,)), (40243 + 26, (9_999,)),
    ],
)  # fmt: skip
def test_a_value_that_the_charger_cannot_take_is_refused_with_exception_3(
    bench: FaceBench, address: int, words: tuple[int, ...]
) -> None:
    running(bench)
    assert bench.write(address, *words) == 3
    assert (bench.charger.setpoint_w, bench.charger.revert_timeout_s) == (0.0, 0.0)


@pytest.mark.parametrize(("words", "power_w"), [((0, 10_000), -10_000.0), ((0xFFFF, 0xD8F0), 10_000.0)])
def test_the_rating_itself_is_accepted(bench: FaceBench, words: tuple[int, int], power_w: float) -> None:
    running(bench)
    assert bench.write(WSET_ENA, 1) == 0
    assert bench.write(WSET, *words) == 0
    assert bench.charger.setpoint_w == power_w


@pytest.mark.parametrize(
    ("profile_w", "soc_percent", "source", "in_force_w"),
    [((-3_000.0, 3_000.0), 55.0, 1 << 11, 3000), ((-10_000.0, 10_000.0), 0.0, 1 << 14, 0)],
)
def test_a_reduced_set_point_reads_back_with_who_reduced_it(
    bench: FaceBench, profile_w: tuple[float, float], soc_percent: float, source: int, in_force_w: int
) -> None:
    running(bench)
    bench.charger.van.pack.soc = soc_percent / 100.0  # type: ignore[union-attr]  # this one has a van
    bench.charger.set_profile(*profile_w)
    assert bench.write(WSET_ENA, 1, 1, 0, 5_000) == 0
    assert struct.unpack(">i", bench.read(WSET, 2))[0] == in_force_w
    assert struct.unpack(">I", bench.read(THROT_SRC, 2))[0] == source
    assert bench.read(INV_ST).hex() == "0004"  # throttled


# Watchdogs over the wire


def test_the_revert_timer_counts_session_time_and_latches_until_a_set_point(bench: FaceBench) -> None:
    running(bench)
    assert bench.write(WSET_RVRT, 0, 0) == 0
    assert bench.write(WSET_RVRT_TMS, 0, 8) == 0
    assert bench.write(WSET_ENA, 1, 1, 0, 4_000) == 0
    bench.step(3)
    assert bench.read(WSET_RVRT_REM, 2).hex() == "00000005"
    assert bench.read(WSET_RVRT_TMS, 2).hex() == "00000008"
    bench.step(10)
    assert bench.charger.ac_power_w == 0.0
    assert bench.read(WSET, 2).hex() == "00000000"
    assert bench.read(THROT_SRC, 2).hex() == "00000001"
    assert bench.write(WSET_ENA, 1) == 0
    bench.step(3)
    assert bench.charger.ac_power_w == 0.0
    assert bench.write(WSET, 0, 4_000) == 0
    bench.step(3)
    assert bench.charger.ac_power_w == -4_000.0


def test_a_heartbeat_that_stands_still_trips_although_the_link_lives(bench: FaceBench) -> None:
    running(bench)
    assert bench.write(WSET_ENA, 1, 1, 0, 4_000) == 0
    for beat in range(1, 20):
        assert bench.write(CONTROLLER_HB, 0, beat) == 0
        bench.step()
    assert bench.charger.ac_power_w == -4_000.0
    for _ in range(14):
        assert bench.write(CONTROLLER_HB, 0, 19) == 0  # the same again: nobody counts
        assert bench.read(40000, 2) == b"SunS"
        bench.step()
    assert bench.charger.ac_power_w == 0.0
    for beat in range(20, 30):
        assert bench.write(CONTROLLER_HB, 0, beat) == 0
        bench.step()
    assert bench.charger.ac_power_w == 0.0
    assert bench.write(WSET, 0, 4_000) == 0
    bench.step(2)
    assert bench.charger.ac_power_w == -4_000.0


def test_the_der_heartbeat_is_the_session_second(bench: FaceBench) -> None:
    bench.step(61)
    assert bench.read(40073, 2).hex() == "0000003d"


# The server


def test_a_port_in_use_is_told_in_one_sentence(bench: FaceBench, profile: ChargerProfile) -> None:
    second = ModbusFace(bench.charger, profile, bench.site.lock, bench.loop, port=bench.face.port)
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{bench.face.port} .*; choose another port"):
        second.__enter__()


def test_closing_drops_its_clients_and_frees_the_port(bench: FaceBench) -> None:
    client = bench.connect()
    port = bench.face.port
    bench.ask("0001 0000 0006 01 03 9c40 0002", client)
    bench.face.close()
    bench.face.close()
    assert bench.face.port == 0
    with contextlib.suppress(ConnectionResetError):  # dropped all the same
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1.0)
