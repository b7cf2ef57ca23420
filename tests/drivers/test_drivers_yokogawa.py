"""The Yokogawa WT driver: the power meter contract against the twin's face, and written dialogues for what goes wrong.

The dialogues are literal: block layout and sentinels as the WT family sends them, singles worked out by hand.
"""

from __future__ import annotations

import importlib.util
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pytest
from pydantic import ValidationError

from drivers.clock import WallClock
from drivers.errors import (
    ConfigError,
    DeviceError,
    LinkGarbled,
    LinkRefused,
    LinkTimeout,
    NotOpenError,
)
from drivers.power_meter.visa import resource_name
from drivers.power_meter.yokogawa import YokogawaConfig, YokogawaWt
from drivers.readings import Quality
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.faces.yokogawa_wt import YokogawaFace
from twins.grid import LowVoltageGrid
from twins.instrument.power_analyzer import PowerAnalyzer
from twins.measurement import Fault, generator
from twins.site import Site
from twins.vehicle.van import Van

if TYPE_CHECKING:
    from tests.drivers.contract_power_meter import PowerMeterContract
else:  # by its path, so that it is found whatever stands on sys.path
    _spec = importlib.util.spec_from_file_location(
        "contract_power_meter", Path(__file__).with_name("contract_power_meter.py")
    )
    _module = sys.modules.setdefault(_spec.name, importlib.util.module_from_spec(_spec))
    _spec.loader.exec_module(_module)
    PowerMeterContract = _module.PowerMeterContract

pytestmark = pytest.mark.wire


# Against the twin


class SteppedBench:
    """A stepped site with a running session and the analyzer's face on a loopback port."""

    def __init__(
        self,
        loop: ServiceLoop,
        *,
        fault: Fault | None = None,
        reversed_elements: frozenset[int] = frozenset(),
        serial: str = "91K429753",
        van_soc_percent: float = 55.0,
    ) -> None:
        self.clock = SteppedClock(1_768_464_000.0)
        van = Van("van", generator(5, "van"), soc_percent=van_soc_percent)
        self.charger = ChargerTwin("charger", generator(5, "charger"), van=van)
        self.site = Site(self.clock, LowVoltageGrid("grid", generator(5, "grid")), self.charger)
        self.analyzer = PowerAnalyzer(
            "analyzer",
            self.charger,
            generator(5, "analyzer"),
            fault=fault,
            serial=serial,
            reversed_elements=reversed_elements,
        )
        self.site.observers.append(self.analyzer)
        self.face = YokogawaFace(self.analyzer, self.site.lock, loop)
        self.charger.plug_in()
        self.charger.start()

    def set_power(self, power_w: float) -> None:
        self.charger.set_setpoint(power_w)

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            self.site.step(1.0)

    def meter(self, **settings: object) -> YokogawaWt:
        config = YokogawaConfig.model_validate({"at": self.face.address, **settings})
        return YokogawaWt(config, self.clock, device="meter")


@pytest.fixture
def loop() -> Iterator[ServiceLoop]:
    with ServiceLoop() as loop:
        yield loop


@pytest.fixture
def bench(loop: ServiceLoop) -> Iterator[SteppedBench]:
    bench = SteppedBench(loop)
    with bench.face:
        yield bench


class TestYokogawaWt(PowerMeterContract):
    @pytest.fixture
    def meter(self, bench: SteppedBench) -> Iterator[YokogawaWt]:
        with bench.meter() as meter:
            yield meter


class TestYokogawaWtWiredTheOtherWayRound(PowerMeterContract):
    """All current terminals swapped, and the station file says so: nothing may differ."""

    @pytest.fixture
    def bench(self, loop: ServiceLoop) -> Iterator[SteppedBench]:
        bench = SteppedBench(loop, reversed_elements=frozenset({1, 2, 3, 4}))
        with bench.face:
            yield bench

    @pytest.fixture
    def meter(self, bench: SteppedBench) -> Iterator[YokogawaWt]:
        with bench.meter(ac_positive="discharges", dc_positive="discharges") as meter:
            yield meter


def raw(port: int, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=2.0) as client:
        client.sendall(line + b"\n")
        return client.recv(4096)


PANEL = (
    b":COMM:HEAD?;VERB?;REM?;:NUM:FORM?;HOLD?;:NUM:NORM:NUM?;ITEM1?;ITEM9?;ITEM11?;ITEM12?"
    b";:RATE?;:INTEG:MODE?;TIM?;STAT?"
)


def test_everything_that_it_sets_is_put_back_on_close(bench: SteppedBench) -> None:
    raw(bench.face.port, b":NUM:NORM:PRES 2;NUM 9;ITEM9 PHI,2;:NUM:HOLD ON;:RATE 2;:INTEG:MODE CONT;TIM 1,2,3;*OPC?")
    before = raw(bench.face.port, PANEL)
    assert b"TIMER 1,2,3" in before
    with bench.meter(rate_s=0.25) as meter:
        meter.configure()
        meter.start_integration()
        bench.advance(5.0)
        assert meter.read().ac_power.is_good
        during = raw(bench.face.port, PANEL)
        assert b"FLOAT" in during
        assert b"250.0E-03" in during
    assert raw(bench.face.port, PANEL) == before


def test_it_is_put_back_also_when_the_plan_fails(bench: SteppedBench) -> None:
    def plan() -> None:
        with bench.meter() as meter:
            meter.configure()
            meter.start_integration()
            raise ZeroDivisionError

    before = raw(bench.face.port, PANEL)
    with pytest.raises(ZeroDivisionError):
        plan()
    assert raw(bench.face.port, PANEL) == before


def test_read_only_sets_nothing_and_takes_what_the_item_table_has(bench: SteppedBench) -> None:
    bench.set_power(5000.0)
    bench.advance(5.0)
    before = raw(bench.face.port, PANEL)
    with bench.meter(read_only=True) as meter:
        meter.configure()
        readings = meter.read()
        assert readings.dc_power.value == pytest.approx(4730.0, abs=60.0)
        assert readings.dc_voltage.is_good
        assert readings.ac_power.quality is Quality.GOOD
        assert readings.ac_import_energy.quality is Quality.NO_DATA  # not in the table that somebody set
        with pytest.raises(ConfigError, match="read-only"):
            meter.start_integration()
        assert raw(bench.face.port, PANEL) == before
    assert raw(bench.face.port, PANEL) == before


def test_read_only_without_a_single_useful_item_is_told(bench: SteppedBench) -> None:
    raw(bench.face.port, b":NUM:NORM:CLE ALL;*OPC?")
    with bench.meter(read_only=True) as meter, pytest.raises(DeviceError, match="holds none of P,SIGMA"):
        meter.configure()


def test_before_integration_energy_has_no_data(bench: SteppedBench) -> None:
    with bench.meter() as meter:
        meter.configure()
        bench.advance(1.0)
        readings = meter.read()
        assert readings.ac_import_energy.quality is Quality.NO_DATA
        assert math.isnan(readings.ac_import_energy.value)
        assert readings.ac_power.quality is Quality.GOOD


def test_a_value_over_its_range_is_said_to_be_so(bench: SteppedBench) -> None:
    raw(bench.face.port, b":INP:CURR:RANG:ELEM4 5;*OPC?")
    bench.set_power(9000.0)
    with bench.meter() as meter:
        meter.configure()
        bench.advance(10.0)
        readings = meter.read()
    assert readings.dc_power.quality is Quality.OVER_RANGE
    assert math.isnan(readings.dc_power.value)
    assert readings.ac_power.value == pytest.approx(9000.0, abs=15.0)


def test_without_an_update_for_more_than_two_intervals_readings_are_stale(bench: SteppedBench) -> None:
    with bench.meter(rate_s=1.0) as meter:
        meter.configure()
        bench.advance(1.0)
        assert meter.read().ac_power.quality is Quality.GOOD
        bench.clock.advance(2.0)  # time passes, the instrument does not follow
        assert meter.read().ac_power.quality is Quality.GOOD
        bench.clock.advance(0.5)
        assert meter.read().ac_power.quality is Quality.STALE
        bench.advance(1.0)
        assert meter.read().ac_power.quality is Quality.GOOD


def test_a_running_integration_of_somebody_else_is_not_touched_unless_allowed(bench: SteppedBench) -> None:
    raw(bench.face.port, b":INTEG:STAR;*OPC?")
    with bench.meter() as meter, pytest.raises(DeviceError, match="reset_running_integration"):
        meter.configure()
    assert raw(bench.face.port, b":INTEG:STAT?") == b"START\n"
    with bench.meter(reset_running_integration=True) as meter:
        meter.configure()
        meter.start_integration()
        bench.advance(2.0)
        assert meter.read().ac_import_energy.is_good


def test_another_wiring_than_expected_stops_before_anything_is_measured(bench: SteppedBench) -> None:
    with bench.meter(wiring=["P3W3", "P1W2"]) as meter, pytest.raises(ConfigError, match="wired P3W4,P1W2"):
        meter.configure()
    with bench.meter(wiring=["P3W4", "P1W2"]) as meter:
        meter.configure()


def test_a_swapped_meter_stops_the_run(bench: SteppedBench) -> None:
    with pytest.raises(ConfigError, match=r"has serial 91K429753, but the station file says 91K000000"):
        bench.meter(serial="91K000000").__enter__()
    with bench.meter(serial="91K429753") as meter:
        assert meter.identify().model == "WT3000-TWIN"


def test_two_meters_live_side_by_side(loop: ServiceLoop, bench: SteppedBench) -> None:
    other = SteppedBench(loop, serial="91K429754")
    with other.face, bench.meter() as first:
        with other.meter() as second:
            assert second.identify().serial == "91K429754"
        assert first.identify().serial == "91K429753"


def test_every_question_gets_its_answer_before_the_next_and_all_bytes_are_traced(bench: SteppedBench) -> None:
    seen: list[tuple[str, bytes]] = []
    config = YokogawaConfig(at=bench.face.address)
    with YokogawaWt(config, bench.clock, device="meter", trace=lambda way, data: seen.append((way, data))) as meter:
        meter.configure()
        meter.start_integration()
        meter.read()
    assert [way for way, _ in seen] == [">", "<"] * (len(seen) // 2)  # two writes in a row would cost 44 ms
    assert seen[0] == (">", b"*IDN?\n")
    assert seen[1] == ("<", b"YOKOGAWA,WT3000-TWIN,91K429753,F1.00\n")
    assert (">", b":NUM:NORM:VAL?;:STAT:EESR?;ERR?\n") in seen


def test_errors_of_the_instrument_are_returned_and_emptied(bench: SteppedBench) -> None:
    with bench.meter() as meter:
        meter.configure()
        meter._link.ask(":FOO;:RATE 3;*OPC?")
        assert dict(meter.errors()) == {113: "Undefined header", 222: "Data out of range"}
        assert dict(meter.errors()) == {}
        meter._link.ask(":FOO;*OPC?")
        with pytest.raises(DeviceError, match="Undefined header") as caught:
            meter.read()
        assert caught.value.code == 113


@pytest.mark.parametrize(
    ("fault", "sees"),
    [
        (Fault("gain", percent=3.0), lambda ac_w: ac_w == pytest.approx(5150.0, abs=12.0)),
        (Fault("sign"), lambda ac_w: ac_w == pytest.approx(-5000.0, abs=12.0)),
        (Fault("frozen", after_s=0.0), lambda ac_w: ac_w == pytest.approx(0.0, abs=1.0)),
        (Fault("clock", offset_s=60.0), lambda ac_w: ac_w == pytest.approx(35.0, abs=5.0)),
    ],
)
def test_a_fault_planted_in_the_analyzer_is_seen_through_the_driver(
    loop: ServiceLoop, fault: Fault, sees: Callable[[float], bool]
) -> None:
    bench = SteppedBench(loop, fault=fault)
    with bench.face, bench.meter() as meter:
        meter.configure()
        bench.set_power(5000.0)
        bench.advance(20.0)
        assert sees(meter.read().ac_power.value)


@pytest.mark.parametrize("seed_soc_percent", [50.0])
def test_energy_of_an_hour_read_over_the_wire_is_within_the_stated_uncertainty(
    loop: ServiceLoop, seed_soc_percent: float
) -> None:
    bench = SteppedBench(loop, van_soc_percent=seed_soc_percent)
    true_wh = {"ac_import": 0.0, "ac_export": 0.0, "dc_import": 0.0, "dc_export": 0.0}
    with bench.face, bench.meter() as meter:
        meter.configure()
        meter.start_integration()
        for power_w, seconds in ((7000.0, 1500), (-7000.0, 1500), (0.0, 600)):
            bench.set_power(power_w)
            for _ in range(seconds):
                bench.advance(1.0)
                for plane, watts in (("ac", bench.charger.true_ac_power_w), ("dc", bench.charger.dc_power_w)):
                    true_wh[f"{plane}_{'import' if watts >= 0 else 'export'}"] += abs(watts) / 3600.0
        readings = meter.read()
        capabilities = meter.capabilities()
    assert true_wh["ac_import"] > 2800.0
    for name, true in true_wh.items():
        measured = getattr(readings, f"{name}_energy").value
        allowed = capabilities.power_uncertainty_of_reading * true + capabilities.power_uncertainty_w * 1.0 + 0.05
        assert measured == pytest.approx(true, abs=allowed), name


# Against written dialogues

IDN = b"YOKOGAWA,760304-40-SV,91N123456,F6.12\n"
NO_ERROR = b'0,"NO ERROR"\n'
ITEMS = b"P,SIGMA;U,SIGMA;I,SIGMA;FU,1;WHP,SIGMA;WHM,SIGMA;P,4;UDC,4;IDC,4;WHP,4;WHM,4"
ASK_ITEMS = b":NUM:NORM:ITEM1?;ITEM2?;ITEM3?;ITEM4?;ITEM5?;ITEM6?;ITEM7?;ITEM8?;ITEM9?;ITEM10?;ITEM11?"
READ = b":NUM:NORM:VAL?;:STAT:EESR?;ERR?"

# -5000 W, 230 V, 7.25 A, 50 Hz, 0 Wh, -1250 Wh; -5200 W, 350 V, -15 A, 0 Wh, -1300 Wh as IEEE 754 singles.
SINGLES = bytes.fromhex(
    "C59C4000 43660000 40E80000 42480000 00000000 C49C4000 C5A28000 43AF0000 C1700000 00000000 C4A28000"
)
REPLY = b"#40044" + SINGLES + b";1;" + NO_ERROR

SET_UP: dict[bytes, bytes] = {
    b"*IDN?": IDN,
    b"*CLS;:COMM:HEAD?;VERB?;REM?": b":COMMUNICATE:HEADER 1;:COMMUNICATE:VERBOSE 1;:COMMUNICATE:REMOTE 0\n",
    b":NUM:FORM?;HOLD?;:NUM:NORM:NUM?;:RATE?;:STAT:FILT1?;:INTEG:MODE?;TIM?;STAT?": (
        b"ASCII;0;15;500.0E-03;NEVER;NORMAL;0,0,0;RESET\n"
    ),
    ASK_ITEMS: ITEMS + b"\n",
    READ: REPLY,
}

Step = bytes | Callable[[socket.socket], None]


class ScriptedMeter:
    """A TCP server with a written dialogue: a reply per line, and settings that end in :STAT:ERR? are taken."""

    def __init__(self, dialogue: dict[bytes, Step | list[Step]] | None = None) -> None:
        self.dialogue: dict[bytes, Step | list[Step]] = {**SET_UP, **(dialogue or {})}
        self.heard: list[bytes] = []
        self.connections = 0
        self._stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.02)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._server.close()
        assert not self._thread.is_alive()

    def meter(self, reply_s: float = 0.3, **settings: object) -> YokogawaWt:
        config = YokogawaConfig.model_validate({"at": f"tcp://127.0.0.1:{self.port}", "reply_s": reply_s, **settings})
        return YokogawaWt(config, WallClock(), device="meter")

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with client:
                client.settimeout(0.02)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        buffer = b""
        while not self._stop.is_set():
            try:
                data = client.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                self.heard.append(line)
                try:
                    if not self._answer(client, line):
                        return
                except OSError:
                    return

    def _answer(self, client: socket.socket, line: bytes) -> bool:
        default = NO_ERROR if line.endswith(b";:STAT:ERR?") else b""
        step = self.dialogue.get(line, default)
        if isinstance(step, list):
            step = step.pop(0) if len(step) > 1 else step[0]
        if callable(step):
            step(client)
            return client.fileno() >= 0
        if step:
            client.sendall(step)
        return True


def closing_after(data: bytes) -> Step:
    def act(client: socket.socket) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)
        client.close()

    return act


def dribbling(data: bytes, every_s: float) -> Step:
    def act(client: socket.socket) -> None:
        for at in range(len(data)):
            client.sendall(data[at : at + 1])
            time.sleep(every_s)

    return act


def test_a_block_written_by_hand_is_read_with_its_values_and_signs() -> None:
    with ScriptedMeter() as script, script.meter() as meter:
        meter.configure()
        readings = meter.read()
    assert [reading.value for reading in readings.readings()] == [
        -5000.0, 230.0, 7.25, 50.0, 0.0, 1250.0, -5200.0, 350.0, -15.0, 0.0, 1300.0,
    ]  # fmt: skip
    assert all(reading.is_good for reading in readings.readings())
    assert readings.dc_power.source == "meter.dc_power"


@pytest.mark.parametrize("side", ["ac", "dc", "both"])
def test_a_side_whose_positive_power_discharges_is_turned_with_its_energies(side: str) -> None:
    settings = {f"{each}_positive": "discharges" for each in ("ac", "dc") if side in {each, "both"}}
    with ScriptedMeter() as script, script.meter(**settings) as meter:
        meter.configure()
        now = meter.read()
    ac, dc = (-1.0 if side in {each, "both"} else 1.0 for each in ("ac", "dc"))
    assert (now.ac_power.value, now.dc_power.value, now.dc_current.value) == (-5000.0 * ac, -5200.0 * dc, -15.0 * dc)
    assert (now.ac_current.value, now.dc_voltage.value) == (7.25, 350.0)
    assert (now.ac_import_energy.value, now.ac_export_energy.value) == ((0.0, 1250.0) if ac > 0 else (1250.0, 0.0))
    assert (now.dc_import_energy.value, now.dc_export_energy.value) == ((0.0, 1300.0) if dc > 0 else (1300.0, 0.0))


def test_the_two_sentinels_are_told_by_their_bits() -> None:
    singles = bytearray(SINGLES)
    singles[0:4] = bytes.fromhex("7E951BEE")
    singles[24:28] = bytes.fromhex("7E94F56A")
    singles[4:8] = bytes.fromhex("7E951BEF")  # one bit beside: a number, if an odd one
    with ScriptedMeter({READ: b"#40044" + singles + b";1;" + NO_ERROR}) as script, script.meter() as meter:
        meter.configure()
        readings = meter.read()
    assert readings.ac_power.quality is Quality.NO_DATA
    assert readings.dc_power.quality is Quality.OVER_RANGE
    assert math.isnan(readings.ac_power.value)
    assert math.isnan(readings.dc_power.value)
    assert readings.ac_voltage.value == pytest.approx(9.91e37, rel=0.001)
    assert readings.ac_frequency.value == 50.0


def test_a_line_end_among_the_bytes_of_a_value_does_not_end_the_answer() -> None:
    singles = bytearray(SINGLES)
    singles[4:8] = bytes.fromhex("430A0A0A")  # 138.0392... V
    reply = b"#40044" + bytes(singles) + b";1;" + NO_ERROR
    script_reply: list[Step] = [reply, dribbling(reply, 0.001)]
    with ScriptedMeter({READ: script_reply}) as script, script.meter(reply_s=2.0) as meter:
        meter.configure()
        for _ in range(2):
            assert meter.read().ac_voltage.value == pytest.approx(138.0392, abs=1e-4)


def test_a_block_length_of_six_digits_is_understood() -> None:
    with (
        ScriptedMeter({READ: b"#6000044" + SINGLES + b";1;" + NO_ERROR}) as script,
        script.meter() as meter,
    ):
        meter.configure()
        assert meter.read().dc_voltage.value == 350.0


@pytest.mark.parametrize(
    "reply",
    [
        b"#40040" + SINGLES[:40] + b";1;" + NO_ERROR,
        b"#40048" + SINGLES + SINGLES[:4] + b";1;" + NO_ERROR,
        b"-5.0000E+03,230.00E+00;1;" + NO_ERROR,
    ],
)
def test_a_wrong_count_of_values_is_an_error_and_never_a_shift(reply: bytes) -> None:
    with ScriptedMeter({READ: reply}) as script, script.meter() as meter:
        meter.configure()
        with pytest.raises(DeviceError, match="11 items were set; someone changed the item table") as caught:
            meter.read()
    assert caught.value.code == "value count"


def test_ascii_values_with_nan_and_inf_are_read_too() -> None:
    text = b"-5.0000E+03,230.00E+00,7.2500E+00,50.000E+00,NAN,NAN,INF,350.00E+00,-15.000E+00,0.0000E+00,-1.3000E+03"
    with ScriptedMeter({READ: text + b";1;" + NO_ERROR}) as script, script.meter() as meter:
        meter.configure()
        readings = meter.read()
    assert readings.ac_power.value == -5000.0
    assert readings.ac_import_energy.quality is Quality.NO_DATA
    assert readings.dc_power.quality is Quality.OVER_RANGE
    assert readings.dc_export_energy.value == 1300.0


def test_read_only_asks_three_things_and_sets_none() -> None:
    dialogue: dict[bytes, Step | list[Step]] = {
        b":NUM:NORM?": b":NUM:NUM 4;ITEM1 P,SIGM;ITEM2 URMS,SIGM,TOT;ITEM3 WHP,4;ITEM4 NONE\n",
        b":NUM:NORM:VAL?": b"4.2000E+03,231.00E+00,17.500E+00,NAN\n",
    }
    with ScriptedMeter(dialogue) as script, script.meter(read_only=True) as meter:
        meter.configure()
        readings = meter.read()
    assert script.heard == [b"*IDN?", b":NUM:NORM?", b":NUM:NORM:VAL?"]
    assert readings.ac_power.value == 4200.0
    assert readings.ac_voltage.value == 231.0
    assert readings.dc_import_energy.value == 17.5
    assert readings.dc_power.quality is Quality.NO_DATA


def test_a_silent_meter_is_a_timeout_and_the_next_read_gets_a_new_connection() -> None:
    back = b":NUM:FORM?;:INTEG:STAT?;:NUM:NORM:NUM?;" + ASK_ITEMS.removeprefix(b":NUM:NORM:")
    dialogue: dict[bytes, Step | list[Step]] = {READ: [b"", REPLY], back: b"FLOAT;START;11;" + ITEMS + b"\n"}
    with ScriptedMeter(dialogue) as script, script.meter(reply_s=0.2) as meter:
        meter.configure()
        start_s = time.monotonic()
        with pytest.raises(LinkTimeout, match=r"no answer within 0\.2 s, after sending ':NUM:NORM:VAL\?"):
            meter.read()
        assert time.monotonic() - start_s < 1.0
        assert meter.read().ac_power.value == -5000.0  # a late answer of the first could not be taken for this one
        assert script.connections == 2


def test_a_meter_that_forgot_its_set_up_while_the_link_was_gone_is_not_believed() -> None:
    back = b":NUM:FORM?;:INTEG:STAT?;:NUM:NORM:NUM?;" + ASK_ITEMS.removeprefix(b":NUM:NORM:")
    dialogue: dict[bytes, Step | list[Step]] = {
        READ: [closing_after(b""), REPLY],
        b":INTEG:STAT?": b"RESET\n",
        back: b"FLOAT;RESET;11;" + ITEMS + b"\n",
    }
    with ScriptedMeter(dialogue) as script, script.meter() as meter:
        meter.configure()
        meter.start_integration()
        with pytest.raises(LinkRefused):
            meter.read()
        with pytest.raises(DeviceError, match="switched off in between"):
            meter.read()


def test_a_slow_meter_is_a_timeout_with_the_bytes_that_came() -> None:
    with ScriptedMeter({READ: dribbling(REPLY[:40], 0.02)}) as script, script.meter(reply_s=0.2) as meter:
        meter.configure()
        start_s = time.monotonic()
        with pytest.raises(LinkTimeout, match="no whole answer") as caught:
            meter.read()
        assert time.monotonic() - start_s < 1.0
        assert caught.value.last_bytes.startswith(b"#4004")
        _drop_undo(meter)


def test_a_meter_that_closes_in_the_middle_of_an_answer_is_told_at_once() -> None:
    with ScriptedMeter({READ: closing_after(REPLY[:20])}) as script, script.meter(reply_s=5.0) as meter:
        meter.configure()
        start_s = time.monotonic()
        with pytest.raises(LinkRefused, match="closed") as caught:
            meter.read()
        assert time.monotonic() - start_s < 1.0  # the backend alone would spin for five seconds
        assert caught.value.last_bytes == REPLY[:20]
        _drop_undo(meter)


@pytest.mark.parametrize(
    "reply",
    [
        b"\x00\xff\x13 what?\n",
        b"#4004" + b"\n",
        b"#A044" + SINGLES + b"\n",
        b"#40042" + SINGLES[:42] + b";1;" + NO_ERROR,
        b"#40044" + SINGLES + b"\n",
        b"#40044" + SINGLES + b";x;" + NO_ERROR,
        b"#40044" + SINGLES + b";1;none\n",
        b"1.0E+00,2.0E+00,x\n",
    ],
)
def test_garbage_is_garbled_with_its_last_bytes(reply: bytes) -> None:
    with ScriptedMeter({READ: reply}) as script, script.meter() as meter:
        meter.configure()
        with pytest.raises(LinkGarbled) as caught:
            meter.read()
        assert caught.value.last_bytes
        assert caught.value.last_bytes in reply
        _drop_undo(meter)


def test_a_stream_without_an_end_is_cut_off() -> None:
    with ScriptedMeter({READ: b"7" * 200_000}) as script, script.meter(reply_s=2.0) as meter:
        meter.configure()
        with pytest.raises(LinkGarbled, match="more than 65536 bytes"):
            meter.read()
        _drop_undo(meter)


def test_an_error_in_its_queue_is_raised_with_its_code() -> None:
    reply = b"#40044" + SINGLES + b';1;841,"Cannot start integration"\n'
    with ScriptedMeter({READ: reply}) as script, script.meter() as meter:
        meter.configure()
        with pytest.raises(DeviceError, match="Cannot start integration") as caught:
            meter.read()
    assert caught.value.code == 841


def test_a_refused_setting_names_the_setting() -> None:
    refused = b":NUM:FORM FLO;HOLD OFF;:NUM:NORM:NUM 11;:STAT:ERR?"
    with (
        ScriptedMeter({refused: b'222,"Data out of range"\n'}) as script,
        script.meter() as meter,
        pytest.raises(DeviceError, match=r"Data out of range.*NUM:NORM:NUM 11"),
    ):
        meter.configure()


@pytest.mark.parametrize("reply", [b"220 mail.example ESMTP ready\n", b"\xff\xfe\xfd\n", b",,,\n"])
def test_something_else_than_a_meter_at_the_address_is_told(reply: bytes) -> None:
    with ScriptedMeter({b"*IDN?": reply}) as script, pytest.raises(LinkGarbled, match="after sending '\\*IDN\\?'"):
        script.meter().__enter__()


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meter = YokogawaWt(YokogawaConfig(at=f"tcp://127.0.0.1:{port}", reply_s=5.0), WallClock(), device="meter")
    start_s = time.monotonic()
    with pytest.raises(LinkRefused, match="meter: "):
        meter.__enter__()
    assert time.monotonic() - start_s < 1.0


def test_a_name_that_nobody_knows_is_refused() -> None:
    meter = YokogawaWt(YokogawaConfig(at="tcp://meter.invalid:5025"), WallClock(), device="meter")
    with pytest.raises(LinkRefused, match=r"cannot open TCPIP::meter\.invalid::5025::SOCKET"):
        meter.__enter__()


def test_a_listener_that_never_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        meter = YokogawaWt(
            YokogawaConfig(at=f"tcp://127.0.0.1:{server.getsockname()[1]}", reply_s=0.2), WallClock(), device="meter"
        )
        with pytest.raises(LinkTimeout, match=r"'\*IDN\?'"):
            meter.__enter__()


def test_a_dead_link_at_close_does_not_hide_the_first_error() -> None:
    def plan(script: ScriptedMeter) -> None:
        with script.meter() as meter:
            meter.configure()
            script.dialogue[b"*IDN?"] = closing_after(b"")
            meter.read()

    with (
        ScriptedMeter({READ: closing_after(b"")}) as script,
        pytest.raises(LinkRefused, match=r"NUM:NORM:VAL") as caught,
    ):
        plan(script)
    assert any("not restored" in note for note in caught.value.__notes__)


def test_a_set_up_that_cannot_be_put_back_is_told_once_and_the_link_is_closed() -> None:
    with ScriptedMeter() as script:
        meter = script.meter()
        meter.__enter__()
        meter.configure()
        script.dialogue[b":NUM:NORM:ITEM9 IDC,4;ITEM10 WHP,4;ITEM11 WHM,4;:STAT:ERR?"] = closing_after(b"")
        with pytest.raises(LinkRefused, match="ITEM9"):
            meter.close()
        meter.close()


def test_a_closed_meter_says_so() -> None:
    meter = YokogawaWt(YokogawaConfig(at="tcp://127.0.0.1:5025"), WallClock(), device="meter")
    for call in (meter.identify, meter.configure, meter.errors, meter.start_integration):
        with pytest.raises(NotOpenError, match="power meter 'meter' is closed"):
            call()


# Configuration


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"at": "gpib://0::12"}, "write tcp://HOST:PORT"),
        ({"at": "tcp://192.0.2.12"}, "write tcp://HOST:PORT"),
        ({"at": "tcp://192.0.2.12:99999"}, "write tcp://HOST:PORT"),
        ({"rate_s": 3.0}, "the update interval is one of 0.05"),
        ({"reply_s": 0.0}, "greater than 0"),
        ({"reply_s": 61.0}, "less than or equal to 60"),
        ({"wiring": ["P3W5"]}, "'P3W5' is no wiring; known are P1W2"),
        ({"ac_element": 4}, "both 4; one element measures one side"),
        ({"dc_element": 9}, "an element from 1 to 6"),
        ({"read_only": True, "reset_running_integration": True}, "read_only sets nothing"),
        ({"power_uncertainty_percent": -1.0}, "greater than or equal to 0"),
        ({"baud": 9600}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_opened(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        YokogawaConfig.model_validate({"at": "tcp://192.0.2.12:5025", **settings})


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("tcp://192.0.2.12:5025", "TCPIP::192.0.2.12::5025::SOCKET"),
        ("visa://TCPIP0::wt3000.lab::5025::SOCKET", "TCPIP0::wt3000.lab::5025::SOCKET"),
        ("visa://TCPIP::192.0.2.12::INSTR", "TCPIP::192.0.2.12::INSTR"),
        ("visa://TCPIP::192.0.2.12::inst0::INSTR", "TCPIP::192.0.2.12::inst0::INSTR"),
    ],
)
def test_an_address_becomes_a_visa_resource(at: str, name: str) -> None:
    assert resource_name(at) == name


def _drop_undo(meter: YokogawaWt) -> None:
    """Let the meter close without putting back what its dialogue does not know."""
    meter._undo.clear()
