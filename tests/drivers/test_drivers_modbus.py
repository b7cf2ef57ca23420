"""The Modbus charger driver: the contract on the twin's face, and written dialogues for links that go wrong.

Answers of the scripted chargers are literal: MBAP header and functions of the Modbus application protocol 1.1b3, the
map's addresses from the lengths of the SunSpec models.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self

import pytest
from pydantic import ValidationError

from drivers.charger.modbus import ModbusCharger, ModbusConfig
from drivers.charger.profile import ChargerProfile, load_profile
from drivers.clock import WallClock
from drivers.errors import (
    BenchError,
    ConfigError,
    DeviceError,
    LinkError,
    LinkGarbled,
    LinkRefused,
    LinkTimeout,
    NotOpenError,
)
from drivers.roles import ChargerState, ClampedBy, SetPower
from drivers.service_loop import ServiceLoop
from tests.drivers.contract_charger import ChargerBench, ChargerContract, make_site
from twins.charger.charger import ChargerTwin
from twins.faces.modbus import ModbusFace

pytestmark = pytest.mark.wire

REPLY_S = 0.15


@pytest.fixture(scope="module")
def profile() -> ChargerProfile:
    return load_profile("sunspec_der")


@contextmanager
def modbus_bench(profile: ChargerProfile, *, serial: str | None = None) -> Iterator[ChargerBench]:
    site, clock = make_site()
    with ExitStack() as stack:
        loop = stack.enter_context(ServiceLoop())
        face = stack.enter_context(ModbusFace(site.charger, profile, site.lock, loop))
        config = ModbusConfig(at=face.address, serial=serial)

        def again() -> ModbusCharger:
            return ModbusCharger(config, clock, device="charger")

        yield ChargerBench(stack.enter_context(again()), site, clock, loop, again, face.close)


class TestModbusContract(ChargerContract):
    @pytest.fixture
    def bench(self, profile: ChargerProfile) -> Iterator[ChargerBench]:
        with modbus_bench(profile) as bench:
            yield bench

    def test_an_ocpp_profile_that_bounds_is_named(self, bench: ChargerBench) -> None:
        bench.twin.set_profile(-3_000.0, 3_000.0)
        assert bench.run_at(5_000.0) == SetPower(5_000.0, 3_000.0, ClampedBy.PROFILE)
        assert bench.charger.set_power(-9_000.0) == SetPower(-9_000.0, -3_000.0, ClampedBy.PROFILE)
        assert bench.charger.set_power(-2_000.0) == SetPower(-2_000.0, -2_000.0)

    def test_the_watchdog_latches_until_a_set_point_is_written(self, bench: ChargerBench) -> None:
        bench.charger.arm_watchdog(5.0)
        bench.run_at(5_000.0)
        bench.step(8, feed=False)
        bench.step(20)
        assert bench.twin.ac_power_w == 0.0
        assert bench.charger.set_power(5_000.0).accepted
        bench.step(5)
        assert bench.twin.ac_power_w == 5_000.0

    def test_a_stopped_heartbeat_trips_although_the_link_is_read_all_the_time(self, bench: ChargerBench) -> None:
        bench.charger.feed_watchdog()
        bench.run_at(5_000.0)
        for _ in range(14):
            bench.charger.read()
            bench.step(feed=False)
        assert bench.twin.ac_power_w == 0.0

    def test_a_bench_that_takes_over_a_heartbeat_counts_on_from_it(self, bench: ChargerBench) -> None:
        bench.charger.arm_watchdog(5.0)
        with bench.again() as second:
            for _ in range(2):
                bench.step(feed=False)
                second.arm_watchdog(5.0)
                assert bench.twin._last_heartbeat_s == bench.clock.mono_s

    def test_a_refused_set_point_keeps_and_tells_the_former_one(self, bench: ChargerBench) -> None:
        bench.run_at(4_000.0)
        bench.twin.max_charge_w = 6_000.0  # the charger became weaker than the nameplate that was read
        result = bench.charger.set_power(8_000.0)
        assert result == SetPower(8_000.0, 4_000.0, ClampedBy.VEHICLE, refused=True, code=3)

    def test_two_faults_are_told_by_name(self, bench: ChargerBench) -> None:
        bench.twin.raise_fault("MREC3")
        bench.twin.raise_fault("OverTemp")
        assert bench.charger.read().faults == ("MREC3", "OverTemp")

    def test_the_wire_trace_has_each_byte_once(self, bench: ChargerBench) -> None:
        site = bench.site
        traced: list[tuple[str, bytes]] = []
        with ModbusFace(site.charger, load_profile("sunspec_der"), site.lock, bench.loop) as face:
            config = ModbusConfig(at=face.address)
            with ModbusCharger(
                config, bench.clock, device="charger", trace=lambda way, data: traced.append((way, data))
            ) as charger:
                traced.clear()
                charger.read()
        assert [way for way, _ in traced] == [">", "<"]
        assert traced[0][1][6:].hex(" ") == "01 03 9c 86 00 3b"  # 59 registers from 40070
        assert len(traced[1][1]) == 9 + 2 * 59


def test_a_swapped_charger_is_refused_by_its_serial_number(profile: ChargerProfile) -> None:
    with (
        pytest.raises(ConfigError, match="serial number 'AME-V2G3P10-0001' is not the 'AME-V2G3P10-0002'"),
        modbus_bench(profile, serial="AME-V2G3P10-0002"),
    ):
        pytest.fail("it opened")


@pytest.mark.parametrize("at", ["tcp://h", "tcp://h:0", "tcp://h:65536", "tcp://:502", "udp://h:502", "h:502", ""])
def test_an_address_that_cannot_be_is_refused_before_anything_opens(at: str) -> None:
    with pytest.raises(ValidationError):
        ModbusConfig(at=at)


@pytest.mark.parametrize("reply_s", [0.0, -1.0, 61.0, float("inf"), float("nan")])
def test_there_is_no_unlimited_time_out(reply_s: float) -> None:
    with pytest.raises(ValidationError):
        ModbusConfig(at="tcp://127.0.0.1:502", reply_s=reply_s)


# Scripted chargers


@dataclass
class Script:
    """A TCP server with a written dialogue: `answer` gets each request and returns what is sent, if anything."""

    answer: Callable[[bytes], bytes | None]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    gap_s: float = 0.0  # between the bytes of an answer
    hang_up: bool = False  # after the next answer
    _listener: socket.socket | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        assert self._thread is not None
        assert self._listener is not None
        self._thread.join(5.0)
        self._listener.close()
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        assert self._listener is not None
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        assert self._listener is not None
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with client, contextlib.suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.settimeout(0.02)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                request = client.recv(300)
            except TimeoutError:
                continue
            if not request:
                return
            self.requests.append(request)
            reply = self.answer(request)
            for piece in [reply or b""] if not self.gap_s else [bytes([byte]) for byte in reply or b""]:
                client.sendall(piece)
                if self._stop.wait(self.gap_s):
                    return
            if self.hang_up:
                return


def registers(charger: ChargerTwin, profile: ChargerProfile) -> Callable[[bytes], bytes]:
    """A charger that answers right: the bytes of a register image behind a header of our own."""
    from twins.faces.modbus import SunSpecImage

    image = SunSpecImage(profile, charger)

    def answer(request: bytes) -> bytes:
        address, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        if request[7] == 3:
            data = image.read(address, count)
            body = bytes([1, 3, len(data)]) + data
        else:
            image.write(address, request[13:])
            body = request[6:12]
        return request[:4] + len(body).to_bytes(2, "big") + body

    return answer


@pytest.fixture
def honest(profile: ChargerProfile) -> Callable[[bytes], bytes]:
    site, _ = make_site()
    site.charger.plug_in()
    return registers(site.charger, profile)


def open_driver(script: Script, **config: object) -> ModbusCharger:
    return ModbusCharger(
        ModbusConfig.model_validate({"at": script.address, "reply_s": REPLY_S, **config}), WallClock(), device="evse"
    )


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < seconds


def one_sentence(error: BaseException) -> None:
    text = str(error)
    assert text.startswith("evse: ")
    assert "\n" not in text
    assert " at 0x" not in text  # no object of a library
    assert len(text) < 400


def frame(request: bytes, body: str, *, length: int | None = None, transaction: int | None = None) -> bytes:
    data = bytes.fromhex(body)
    head = request[:2] if transaction is None else transaction.to_bytes(2, "big")
    return head + b"\0\0" + (len(data) if length is None else length).to_bytes(2, "big") + data


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    charger = ModbusCharger(ModbusConfig(at=f"tcp://127.0.0.1:{port}"), WallClock(), device="evse")
    with within(2.0), pytest.raises(LinkRefused, match="nobody listens there") as caught:
        charger.__enter__()
    one_sentence(caught.value)
    with pytest.raises(NotOpenError):
        charger.read()


def test_a_name_that_does_not_resolve_is_refused_like_a_closed_port() -> None:
    charger = ModbusCharger(ModbusConfig(at="tcp://no..host:502"), WallClock(), device="evse")
    with within(5.0), pytest.raises(LinkError, match=r"^evse: "):
        charger.__enter__()


# What the device does with every request after the link is open -> which error a read ends in.
DIALOGUES: list[tuple[str, Callable[[bytes], bytes | None], type[BenchError], str]] = [
    ("silent", lambda _: None, LinkTimeout, "no answer within 0.15 s, after sending 'read 59 registers from 40070'"),
    ("half a header", lambda r: r[:4], LinkGarbled, "what came is no answer"),
    ("half an answer", lambda r: frame(r, "01 03 76 00 00", length=121), LinkGarbled, "what came is no answer"),
    ("text", lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", LinkGarbled, "last bytes b'HTTP/1.1 400"),
    ("protocol id 1", lambda r: r[:2] + b"\0\1\0\3\1\x83\2", LinkGarbled, "what came is no answer"),
    ("noise", lambda _: b"\xff" * 400, LinkGarbled, "what came is no answer"),
    ("zeros", lambda _: b"\0" * 400, LinkGarbled, "what came is no answer"),
    ("58 registers", lambda r: frame(r, "01 03 74" + "00" * 116), LinkGarbled, "58 registers came back instead of 59"),
    ("60 registers", lambda r: frame(r, "01 03 78" + "00" * 120), LinkGarbled, "60 registers came back instead of 59"),
    ("no register", lambda r: frame(r, "01 03 00"), LinkGarbled, "no answer|0 registers came back"),
    ("odd bytes", lambda r: frame(r, "01 03 75" + "00" * 117), LinkGarbled, "what came is no answer|registers came"),
    ("count too large", lambda r: frame(r, "01 03 76 00 01"), LinkGarbled, "what came is no answer"),
    ("the answer of a write", lambda r: frame(r, "01 10 9c 86 00 3b"), LinkGarbled, "0 registers came back"),
    ("an unknown function", lambda r: frame(r, "01 55 00"), LinkGarbled, "what came is no answer"),
    ("an exception without code", lambda r: frame(r, "01 83"), LinkGarbled, "what came is no answer"),
    ("another unit", lambda r: frame(r, "02 03 76" + "00" * 118), LinkGarbled, "what came is no answer"),
    ("another transaction", lambda r: frame(r, "01 03 76" + "00" * 118, transaction=0x7777), LinkTimeout, "no answer"),
    ("exception 1", lambda r: frame(r, "01 83 01"), DeviceError, r"function not supported \(code 1\)"),
    ("exception 2", lambda r: frame(r, "01 83 02"), DeviceError, r"no such register, or not writable \(code 2\)"),
    ("exception 4", lambda r: frame(r, "01 83 04"), DeviceError, r"cannot do that in its present state \(code 4\)"),
    ("exception 6", lambda r: frame(r, "01 83 06"), DeviceError, r"the charger is busy \(code 6\)"),
    ("exception 11", lambda r: frame(r, "01 83 0b"), DeviceError, r"no such unit behind this address \(code 11\)"),
    ("exception 99", lambda r: frame(r, "01 83 63"), DeviceError, r"refused \(code 99\)"),
]


@pytest.mark.parametrize(
    ("dialogue", "kind", "words"), [entry[1:] for entry in DIALOGUES], ids=[entry[0] for entry in DIALOGUES]
)
def test_each_way_to_answer_wrong_ends_in_its_error_in_time_and_the_next_read_is_right(
    honest: Callable[[bytes], bytes], dialogue: Callable[[bytes], bytes | None], kind: type[BenchError], words: str
) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.answer = dialogue
        with within(3 * REPLY_S + 0.3), pytest.raises(kind, match=words) as caught:
            charger.read()
        one_sentence(caught.value)
        script.answer = honest
        assert charger.read().state is ChargerState.PLUGGED
        assert script.connections == 1


def test_a_slow_answer_in_time_is_taken_and_one_too_late_is_not_taken_for_the_next(
    honest: Callable[[bytes], bytes],
) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        late: list[bytes] = []

        def slow(request: bytes) -> bytes:
            time.sleep(REPLY_S / 3)
            return honest(request)

        script.answer = slow
        assert charger.read().state is ChargerState.PLUGGED

        def too_late(request: bytes) -> None:
            late.append(honest(request))

        script.answer = too_late
        with pytest.raises(LinkTimeout):
            charger.read()
        # The late answer comes together with the next one: faulted in it, plugged in now.
        script.answer = lambda request: late[0].replace(b"\0\7", b"\0\6") + honest(request)
        assert charger.read().state is ChargerState.PLUGGED


def test_an_answer_that_drips_in_too_slowly_is_given_up_in_time(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.gap_s = 0.01
        with within(3 * REPLY_S + 0.3), pytest.raises(LinkGarbled, match="what came is no answer"):
            charger.read()


def test_the_rest_of_an_answer_that_was_given_up_is_thrown_away(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.gap_s = 0.003
        with pytest.raises(LinkGarbled):
            charger.read()
        time.sleep(127 * 0.003 + 0.2)
        script.gap_s = 0.0
        assert charger.read().state is ChargerState.PLUGGED


def test_an_answer_in_pieces_is_put_together(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script, reply_s=2.0) as charger:
        script.gap_s = 0.0005
        assert charger.read().state is ChargerState.PLUGGED


@pytest.mark.parametrize("cut", [0, 1, 7, 9, 60])
def test_a_link_closed_in_mid_frame_stays_closed_until_it_is_opened_again(
    honest: Callable[[bytes], bytes], cut: int
) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.answer = lambda request: honest(request)[:cut]
        script.hang_up = True
        with within(1.0), pytest.raises(LinkRefused, match="closed the link; open it and arm its watchdog") as caught:
            charger.read()
        one_sentence(caught.value)
        assert len(caught.value.last_bytes) in {cut, 0}  # a reset discards what was not read yet (RFC 9293, 3.10.7.4)
        script.answer, script.hang_up = honest, False
        for call in (charger.read, charger.safe_state, charger.feed_watchdog):
            with pytest.raises(LinkRefused, match="the link is closed; open the charger") as caught:
                call()
            one_sentence(caught.value)
        assert script.connections == 1
        charger.close()
        with charger:
            assert charger.read().state is ChargerState.PLUGGED


def test_a_reset_link_is_refused_not_raised_raw(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        client = charger._client
        assert client is not None
        assert client.socket is not None
        client.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(LinkRefused, match="closed the link"):
            charger.read()


@pytest.mark.parametrize(
    ("confirmation", "kind"),
    [
        ("01 10 9c 8b 00 01", LinkGarbled),  # one register instead of two
        ("01 10 9d 7f 00 02", LinkGarbled),  # another address
        ("01 03 02 00 00", LinkGarbled),  # the answer of a read
        ("01 90 03", DeviceError),
    ],
)
def test_a_write_counts_only_when_the_charger_confirms_that_write(
    honest: Callable[[bytes], bytes], confirmation: str, kind: type[BenchError]
) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.answer = lambda request: frame(request, confirmation)
        with pytest.raises(kind) as caught:
            charger.feed_watchdog()
        one_sentence(caught.value)


def test_a_refused_set_point_carries_the_devices_code(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script) as charger:

        def answer(request: bytes) -> bytes:
            return frame(request, "01 90 04") if request[7] == 16 else honest(request)

        script.answer = answer
        assert charger.set_power(-5_000.0) == SetPower(-5_000.0, 0.0, ClampedBy.CHARGER, refused=True, code=4)
        # -5000 W charges backwards: SunSpec has + for injection, so 5000 = 1388 goes to WSet at 40319 = 9D7F.
        assert script.requests[-3][6:].hex(" ") == "01 10 9d 7f 00 02 04 00 00 13 88"


def test_safe_state_tries_to_stop_although_zero_watts_was_not_answered(honest: Callable[[bytes], bytes]) -> None:
    with Script(honest) as script, open_driver(script) as charger:
        script.answer = lambda _: None
        script.requests.clear()
        with within(1.5), pytest.raises(LinkTimeout, match="write \\[0, 0\\] to register 40319"):
            charger.safe_state()
        assert [request[6:].hex(" ") for request in script.requests] == [
            "01 10 9d 7f 00 02 04 00 00 00 00",  # WSet 0
            "01 10 9c 8e 00 01 02 00 00",  # OpCtl stop
        ]


# Opening


@pytest.mark.parametrize(
    ("dialogue", "words"),
    [
        (lambda r: frame(r, "01 03 04 41 4d 45 20"), r"no SunSpec map at register 40000 \(found 414D 4520"),
        (lambda r: frame(r, "01 83 02"), "answers no to a read of register 40000, where its SunSpec map should begin"),
    ],
)
def test_a_device_without_a_sunspec_map_is_refused_with_what_to_do(
    dialogue: Callable[[bytes], bytes], words: str
) -> None:
    with Script(dialogue) as script:
        charger = open_driver(script)
        with pytest.raises(ConfigError, match=words) as caught:
            charger.__enter__()
        assert "choose the profile of this charger in the station file" in str(caught.value)
        one_sentence(caught.value)
        with pytest.raises(NotOpenError):
            charger.read()


def changed(honest: Callable[[bytes], bytes], address: int, word: str) -> Callable[[bytes], bytes]:
    """A charger that reads otherwise at one register."""

    def answer(request: bytes) -> bytes:
        reply = bytearray(honest(request))
        start, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        if request[7] == 3 and start <= address < start + count:
            at = 9 + 2 * (address - start)
            reply[at : at + 2] = bytes.fromhex(word)
        return bytes(reply)

    return answer


def test_other_models_than_the_profiles_are_refused(honest: Callable[[bytes], bytes]) -> None:
    with (
        Script(changed(honest, 40088, "0067")) as script,
        pytest.raises(ConfigError, match="register 40088 should begin SunSpec model 701 but holds 103"),
    ):
        open_driver(script).__enter__()


def test_a_scale_factor_beyond_sunspec_is_refused(honest: Callable[[bytes], bytes]) -> None:
    with (
        Script(changed(honest, 40204, "012c")) as script,  # 701 W_SF at +116
        pytest.raises(ConfigError, match=r"scale factor W_SF of model 701 \(register 40204\) holds 300"),
    ):
        open_driver(script).__enter__()


def test_scale_factors_of_the_device_are_used(honest: Callable[[bytes], bytes]) -> None:
    answer = changed(changed(honest, 40204, "0001"), 40098, "fe0c")  # W_SF 1, W -500: 5 kW into the vehicle
    with Script(answer) as script, open_driver(script) as charger:
        assert charger.read().ac_power.value == 5_000.0


@pytest.mark.parametrize(
    ("inverter", "power", "state"),
    [
        ("0000", "0000", ChargerState.UNAVAILABLE),
        ("0001", "0000", ChargerState.AVAILABLE),
        ("0007", "0000", ChargerState.PLUGGED),
        ("0005", "0000", ChargerState.PLUGGED),
        ("0003", "ff6a", ChargerState.SUSPENDED),  # -150: 150 W drawn
        ("0003", "ff69", ChargerState.CHARGING),
        ("0004", "0097", ChargerState.DISCHARGING),
        ("0003", "8000", ChargerState.UNKNOWN),  # not implemented
        ("0002", "0000", ChargerState.UNKNOWN),
        ("ffff", "0000", ChargerState.UNKNOWN),
    ],
)
def test_states_of_model_701_and_the_power_make_the_state_of_the_role(
    honest: Callable[[bytes], bytes], inverter: str, power: str, state: ChargerState
) -> None:
    with Script(changed(changed(honest, 40092, inverter), 40098, power)) as script, open_driver(script) as charger:
        assert charger.read().state is state


def test_a_fault_without_words_is_told_by_its_alarm_bits(honest: Callable[[bytes], bytes]) -> None:
    answer = changed(changed(honest, 40092, "0006"), 40095, "0081")  # ground fault, over temperature
    with Script(answer) as script, open_driver(script) as charger:
        assert charger.read().faults == ("Alrm 0x00000081",)
