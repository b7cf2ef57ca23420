"""The SCPI face as a stranger's raw socket meets it: header tree, message rules, errors, status, formats."""

from __future__ import annotations

import re
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from drivers.errors import ConfigError
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.faces.scpi import CommandTree, ScpiSession
from twins.faces.yokogawa_wt import YokogawaFace
from twins.grid import LowVoltageGrid
from twins.instrument.power_analyzer import PowerAnalyzer
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire


class Bench:
    """A site with a running session, its analyzer's face, and raw sockets to it."""

    def __init__(self, loop: ServiceLoop) -> None:
        self.clock = SteppedClock(1_768_464_000.0)
        van = Van("van", generator(3, "van"))
        self.charger = ChargerTwin("charger", generator(3, "charger"), van=van)
        self.site = Site(self.clock, LowVoltageGrid("grid", generator(3, "grid")), self.charger)
        self.analyzer = PowerAnalyzer("analyzer", self.charger, generator(3, "analyzer"), serial="91K429753")
        self.site.observers.append(self.analyzer)
        self.face = YokogawaFace(self.analyzer, self.site.lock, loop)
        self.charger.plug_in()
        self.charger.start()

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(1.0)
            self.site.step(1.0)


class Client:
    """A line-oriented raw socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=2.0)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            more = self.socket.recv(65_536)
            if not more:
                raise AssertionError(f"closed after {data!r}")
            data += more
        return data

    def ask(self, line: str) -> str:
        self.send(line.encode() + b"\n")
        return self.receive().decode().removesuffix("\n")

    def error(self) -> str:
        return self.ask(":STATus:ERRor?")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ServiceLoop() as loop:
        bench = Bench(loop)
        with bench.face:
            yield bench


@pytest.fixture
def connect(bench: Bench) -> Iterator[Callable[[], Client]]:
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(bench.face.port))
        return clients[-1]

    yield make
    for client in clients:
        client.socket.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()


def test_it_says_where_a_driver_finds_it(bench: Bench) -> None:
    assert re.fullmatch(r"visa://TCPIP::127\.0\.0\.1::\d+::SOCKET", bench.face.address)


def test_it_names_maker_model_serial_and_firmware(client: Client) -> None:
    assert client.ask("*IDN?") == "YOKOGAWA,WT3000-TWIN,91K429753,F1.00"


class TestHeaders:
    @pytest.mark.parametrize(
        "spelling",
        [
            ":NUMeric:NORMal:NUMber?",
            ":NUMERIC:NORMAL:NUMBER?",
            ":num:norm:num?",
            ":NUM:NUMB?",  # NORMal may be left out, and any length from the short form on is understood
            "numeric:number?",
            "  :Num : Norm?".replace(" ", "") + ";:NUM:NUM?",
        ],
    )
    def test_short_long_and_optional_nodes_in_any_case_mean_the_same(self, client: Client, spelling: str) -> None:
        client.send(b":COMM:HEAD OFF;:NUM:NORM:NUM 7\n")
        assert client.ask(spelling).split(";")[-1] == "7"
        assert client.error() == '0,"No error"'

    @pytest.mark.parametrize(
        "spelling", [":NU:NORM:NUM?", ":NUMERICS:NORM:NUM?", ":INT:MODE?", ":FOO?", "::?", "NUM!?"]
    )
    def test_what_is_no_header_is_error_113_and_gets_no_answer(self, client: Client, spelling: str) -> None:
        client.send(spelling.encode() + b"\n")
        assert client.error() == '113,"Undefined header"'
        assert client.error() == '0,"No error"'

    def test_a_query_only_header_cannot_be_set_and_an_action_cannot_be_asked(self, client: Client) -> None:
        client.send(b":INTEG:STAT RESET\n:INTEG:STAR?\n")
        assert [client.error(), client.error()] == ['113,"Undefined header"'] * 2

    def test_a_unit_without_colon_continues_at_the_level_of_the_one_before(self, client: Client) -> None:
        client.send(b":COMM:HEAD OFF\n")
        assert client.ask(":INTEG:MODE?;TIM?;STAT?") == "NORMAL;0,0,0;RESET"
        assert client.ask(":INP:VOLT:RANG:ELEM1?;ELEM4?") == "300.0E+00;600.0E+00"

    def test_a_colon_goes_back_to_the_root_and_a_common_command_leaves_the_level_alone(self, client: Client) -> None:
        client.send(b":COMM:HEAD OFF\n")
        assert client.ask(":NUM:NORM:NUM 3;*OPC?;NUM?;:RATE?") == "1;3;1.000E+00"
        client.send(b":NUM:NORM:NUM?;RATE?\n")  # RATE is no child of NORMal
        assert client.receive() == b"3\n"
        assert client.error() == '113,"Undefined header"'

    def test_each_message_starts_at_the_root(self, client: Client) -> None:
        client.send(b":COMM:HEAD OFF\n:NUM:NORM:NUM 3\n")
        client.send(b"NUM:NUM?\n")
        assert client.receive() == b"3\n"

    def test_a_suffix_left_out_is_one_and_one_out_of_range_is_error_114(self, client: Client) -> None:
        client.send(b":COMM:HEAD OFF;:NUM:NORM:ITEM P,SIGMA\n")
        assert client.ask(":NUM:NORM:ITEM1?") == "P,SIGMA"
        client.send(b":NUM:NORM:ITEM256 P,1\n:NUM:NORM:ITEM0 P,1\n:INP:VOLT:RANG:ELEM5 300\n")
        assert [client.error() for _ in range(3)] == ['114,"Header suffix out of range"'] * 3

    def test_answers_carry_their_header_in_full_or_abbreviated_or_not_at_all(self, client: Client) -> None:
        assert client.ask(":NUM:NUM?") == ":NUMERIC:NORMAL:NUMBER 15"
        assert client.ask(":NUM:FORM?;:NUM:ITEM3?") == ":NUMERIC:FORMAT ASCII;:NUMERIC:NORMAL:ITEM3 P,1"
        client.send(b":COMM:VERB OFF;:NUM:ITEM4 LAMBDA,SIGMA\n")
        assert client.ask(":NUM:NORM:NUM?;ITEM4?") == ":NUM:NUM 15;:NUM:ITEM4 LAMB,SIGM"
        client.send(b":COMM:HEAD OFF\n")
        assert client.ask(":NUM:NORM:NUM?;ITEM4?") == "15;LAMB,SIGM"

    def test_a_query_above_several_settings_tells_them_all(self, client: Client) -> None:
        client.send(b":NUM:NORM:NUM 3\n")
        assert client.ask(":NUM:NORM?") == ":NUMERIC:NORMAL:NUMBER 3;ITEM1 U,1;ITEM2 I,1;ITEM3 P,1"
        client.send(b":COMM:HEAD OFF\n")
        assert client.ask(":NUM:NORM?") == "3;U,1;I,1;P,1"
        assert client.ask(":INTEG?") == "NORMAL;0,0,0;0"

    def test_a_pattern_cannot_be_declared_twice(self) -> None:
        tree: CommandTree[ScpiSession] = CommandTree()
        tree.add(":RATE", query=lambda _session, _call: "1")
        with pytest.raises(ValueError, match="declared twice"):
            tree.add(":RATE", query=lambda _session, _call: "2")


class TestMessages:
    def test_one_message_gets_one_reply_and_several_lines_several(self, client: Client) -> None:
        client.send(b"*OPC?;*OPC?\n*OPC?\n")
        received = client.receive()
        while received.count(b"\n") < 2:
            received += client.receive()
        assert received == b"1;1\n1\n"

    def test_a_message_may_come_in_pieces_and_end_in_cr_lf(self, client: Client) -> None:
        client.send(b"*OP")
        client.send(b"C?\r\n")
        assert client.receive() == b"1\n"

    def test_after_a_refused_unit_the_rest_is_still_carried_out(self, client: Client) -> None:
        assert client.ask(":RATE 3;:COMM:HEAD OFF;:STAT:ERR?;:RATE?") == '222,"Data out of range";1.000E+00'

    def test_garbage_goes_to_the_error_queue_and_the_next_question_is_answered(self, client: Client) -> None:
        client.send(bytes(range(128, 256)) + b"\x00\xff;;;\n" + b"\n \n")
        assert client.error() == '113,"Undefined header"'
        assert client.ask("*OPC?") == "1"

    @pytest.mark.parametrize("size", [9_000, 300_000])
    def test_a_line_too_long_is_dropped_and_told(self, client: Client, size: int) -> None:
        client.send(b"A" * size + b"\n")
        assert client.error() == '223,"Too much data"'
        assert client.error() == '0,"No error"'

    def test_the_error_queue_is_bounded_and_says_when_it_overflowed(self, client: Client) -> None:
        client.send(b":FOO\n" * 40)
        errors = []
        while (error := client.error()) != '0,"No error"':
            errors.append(error)
        assert len(errors) == 16
        assert errors[-1] == '350,"Queue overflow"'

    def test_cls_empties_it(self, client: Client) -> None:
        assert client.ask(":FOO;*CLS;:STAT:ERR?") == '0,"No error"'

    def test_two_clients_have_queues_of_their_own_but_one_instrument(self, connect: Callable[[], Client]) -> None:
        first, second = connect(), connect()
        first.send(b":FOO;:COMM:HEAD OFF;:NUM:NORM:NUM 5\n")
        assert first.ask("*OPC?") == "1"
        assert second.error() == '0,"No error"'
        assert second.ask(":NUM:NORM:NUM?") == "5"
        assert first.error() == '113,"Undefined header"'

    def test_a_client_that_asks_and_never_reads_does_not_stop_the_others(self, connect: Callable[[], Client]) -> None:
        deaf, other = connect(), connect()
        deaf.socket.setblocking(False)
        most = 16_000_000  # more than the buffers of both ends can hold
        sent = 0
        while sent < most and select.select((), (deaf.socket,), (), 0.5)[1]:
            sent += deaf.socket.send(b":INP:VOLT:RANG?\n" * 500)
        assert sent < most  # the face takes no more questions from it
        assert other.ask("*OPC?") == "1"

    def test_a_port_that_is_taken_is_told_in_one_sentence(self, bench: Bench) -> None:
        with (
            ServiceLoop() as loop,
            pytest.raises(ConfigError, match="choose another port"),
            YokogawaFace(bench.analyzer, bench.site.lock, loop, port=bench.face.port),
        ):
            pass


class TestArguments:
    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (":NUM:FORM", '109,"Missing parameter"'),
            (":NUM:FORM FLOAT,2", '108,"Parameter not allowed"'),
            (":NUM:FORM BINARY", '141,"Invalid character data"'),
            (":NUM:NORM:NUM 0", '222,"Data out of range"'),
            (":NUM:NORM:NUM 256", '222,"Data out of range"'),
            (":NUM:NORM:NUM many", '141,"Invalid character data"'),
            (":NUM:NORM:ITEM1 FLUX,1", '141,"Invalid character data"'),
            (":NUM:NORM:ITEM1 P,7", '141,"Invalid character data"'),
            (":RATE 3S", '222,"Data out of range"'),
            (":RATE 1KG", '102,"Syntax error"'),
            (":INP:VOLT:RANG:ELEM1 300V", '102,"Syntax error"'),  # a bare number, as the real device wants it
            (":INP:VOLT:RANG:ELEM1 301", '222,"Data out of range"'),
            (":INTEG:TIM 1,2", '109,"Missing parameter"'),
            (":INTEG:TIM 0,60,0", '222,"Data out of range"'),
            (":INP:WIR P1W2", '221,"Setting conflict"'),
            (":INTEG:STOP", '221,"Setting conflict"'),
            ("*IDN? 1", '108,"Parameter not allowed"'),
            ("*ESE #HGG", '141,"Invalid character data"'),
        ],
    )
    def test_a_wrong_argument_has_its_own_error(self, client: Client, line: str, error: str) -> None:
        client.send(line.encode() + b"\n")
        assert client.error() == error

    @pytest.mark.parametrize("word", ["500MS", "0.5", "5E-1", ".5S", "500 ms"])
    def test_a_time_may_carry_its_unit(self, client: Client, word: str) -> None:
        assert client.ask(f":RATE {word};:RATE?") == ":RATE 500.0E-03"

    @pytest.mark.parametrize(("word", "answer"), [("ON", "1"), ("off", "0"), ("1", "1"), ("0.4", "0"), ("2", "1")])
    def test_a_boolean_is_a_word_or_a_number(self, client: Client, word: str, answer: str) -> None:
        assert client.ask(f":COMM:REM {word};REM?") == f":COMMUNICATE:REMOTE {answer}"

    def test_a_register_may_be_hexadecimal_octal_or_binary(self, client: Client) -> None:
        assert client.ask("*ESE #H3C;*ESE?;*ESE #Q17;*ESE?;*ESE #B101;*ESE?") == "60;15;5"

    def test_settings_that_change_the_measurement_are_refused_while_integration_is_not_reset(
        self, client: Client
    ) -> None:
        client.send(b":INTEG:STAR;:RATE 2;:INP:CURR:RANG 5\n")
        assert [client.error(), client.error()] == ['221,"Setting conflict"'] * 2


class TestValues:
    def test_ascii_values_have_five_digits_and_an_exponent_of_threes(self, bench: Bench, client: Client) -> None:
        bench.charger.set_setpoint(6000.0)
        bench.step(6)
        client.send(b":NUM:NORM:NUM 4;ITEM1 P,SIGMA;ITEM2 U,1;ITEM3 FU,1;ITEM4 NONE\n")
        answer = client.ask(":NUM:NORM:VAL?")
        assert re.fullmatch(r"6\.\d{4}E\+03,2\d\d\.\d\dE\+00,(49|50)\.\d{3}E\+00,NAN", answer)
        assert float(answer.split(",")[0]) == pytest.approx(6000.0, abs=12.0)
        assert client.ask(":NUM:NORM:VAL? 1") == answer.split(",")[0]

    def test_a_float_block_holds_big_endian_singles_and_the_two_sentinels(self, bench: Bench, client: Client) -> None:
        bench.charger.set_setpoint(9000.0)
        client.send(b":INP:CURR:RANG:ELEM2 5\n:NUM:FORM FLOAT;:NUM:NORM:NUM 3;ITEM1 P,1;ITEM2 P,2;ITEM3 WH,1\n")
        assert client.error() == '0,"No error"'
        bench.step(6)
        client.send(b":NUM:NORM:VAL?\n")
        reply = client.receive()
        assert reply[:6] == b"#40012"
        assert reply[18:] == b"\n"
        assert struct.unpack(">f", reply[6:10])[0] == pytest.approx(3000.0, abs=5.0)
        assert reply[10:14] == bytes.fromhex("7E94F56A")  # 13 A on a 5 A range
        assert reply[14:18] == bytes.fromhex("7E951BEE")  # integration is reset
        assert int(client.ask(":COMM:HEAD OFF;:STAT:COND?")) == 1 << 15 | 1 << 9  # POV, OVR2
        client.send(b":NUM:FORM ASC\n")
        assert client.ask(":NUM:NORM:VAL?").split(",")[1:] == ["INF", "NAN"]

    def test_hold_keeps_values_until_sent_again_or_off(self, bench: Bench, client: Client) -> None:
        client.send(b":NUM:NORM:NUM 1;ITEM1 P,SIGMA;:NUM:HOLD ON\n")
        held = client.ask(":NUM:NORM:VAL?")
        bench.charger.set_setpoint(6000.0)
        bench.step(6)
        assert client.ask(":NUM:NORM:VAL?") == held
        assert client.ask(":NUM:HOLD ON;:NUM:NORM:VAL?") != held
        bench.charger.set_setpoint(2000.0)
        bench.step(6)
        assert float(client.ask(":NUM:HOLD OFF;:NUM:NORM:VAL?")) == pytest.approx(2000.0, abs=6.0)

    def test_what_belongs_together_fits_together(self, bench: Bench, client: Client) -> None:
        bench.charger.set_setpoint(-6000.0)
        bench.step(6)
        client.send(b":NUM:NORM:NUM 8;ITEM1 U,1;ITEM2 I,1;ITEM3 P,1;ITEM4 S,1;ITEM5 Q,1;ITEM6 LAMBDA,1;ITEM7 PHI,1")
        client.send(b";ITEM8 P,SIGMA\n")
        volts, amps, watts, va, reactive, factor, phi, total = map(float, client.ask(":NUM:NORM:VAL?").split(","))
        assert va == pytest.approx(volts * amps, rel=1e-3)
        assert watts < 0 < amps
        assert va**2 == pytest.approx(watts**2 + reactive**2, rel=0.01)
        assert factor == pytest.approx(-1.0, abs=0.003)
        assert phi > 175.0
        assert total == pytest.approx(3 * watts, rel=0.003)

    def test_harmonic_orders_have_no_data_but_the_total_has(self, client: Client) -> None:
        client.send(b":NUM:NORM:NUM 3;ITEM1 U,1,5;ITEM2 U,1,TOT;ITEM3 U,SIGMB\n")
        fifth, total, second_sum = client.ask(":NUM:NORM:VAL?").split(",")
        assert (fifth, second_sum) == ("NAN", "NAN")
        assert float(total) == pytest.approx(230.0, abs=1.0)

    def test_clear_and_preset_fill_the_item_table(self, client: Client) -> None:
        client.send(b":COMM:HEAD OFF;:NUM:NORM:CLE ALL\n")
        assert client.ask(":NUM:NORM:ITEM1?;ITEM255?") == "NONE;NONE"
        client.send(b":NUM:NORM:PRES 3;CLE 2,3\n")
        assert client.ask(":NUM:NORM:ITEM1?;ITEM2?;ITEM3?;ITEM4?;ITEM10?") == "U,1;NONE;NONE;S,1;WHP,1"

    def test_energy_counts_on_the_wire_as_integration_runs(self, bench: Bench, client: Client) -> None:
        bench.charger.set_setpoint(-7200.0)
        bench.step(10)
        client.send(b":COMM:HEAD OFF;:NUM:NORM:NUM 4;ITEM1 WHP,SIGMA;ITEM2 WHM,SIGMA;ITEM3 WH,SIGMA;ITEM4 TIME,1\n")
        assert client.ask(":INTEG:MODE NORM;TIM 0,1,0;STAR;STAT?") == "START"
        assert int(client.ask(":STAT:COND?")) == 0b110  # integrating, with the timer
        bench.step(30)
        plus, minus, both, seconds = map(float, client.ask(":NUM:NORM:VAL?").split(","))
        assert plus == pytest.approx(0.0, abs=0.03)
        assert minus == pytest.approx(-60.0, abs=0.15)
        assert both == pytest.approx(plus + minus)
        assert seconds == 30.0
        bench.step(40)
        assert client.ask(":INTEG:STAT?") == "TIMEUP"
        assert float(client.ask(":NUM:NORM:VAL? 2")) == pytest.approx(-120.0, abs=0.3)
        assert client.ask(":INTEG:RES;STAT?;:NUM:NORM:VAL? 2") == "RESET;NAN"

    def test_peak_over_flags_name_element_and_input(self, bench: Bench, client: Client) -> None:
        bench.charger.set_setpoint(9000.0)
        client.ask(":INP:CURR:RANG:ELEM1 5;ELEM2 5;*OPC?")
        bench.step(6)
        assert client.ask(":INP:POV?") == str(0b1010)  # 13 A rms peaks at 18 A: over 3 x 5 A on I1 and I2

    def test_rst_brings_back_items_ranges_and_format(self, bench: Bench, client: Client) -> None:
        client.send(b":COMM:HEAD OFF;:NUM:FORM FLOAT;:NUM:NORM:NUM 2;:INP:VOLT:RANG 600;:INTEG:STAR;*RST\n")
        assert client.ask(":NUM:FORM?;:NUM:NORM:NUM?;:INP:VOLT:RANG:ELEM1?;:INTEG:STAT?;:RATE?") == (
            "ASCII;15;300.0E+00;RESET;500.0E-03"
        )
        assert bench.analyzer.update_s == 0.5


class TestStatus:
    def test_the_end_of_an_update_is_an_edge_that_reading_clears(self, bench: Bench, client: Client) -> None:
        client.send(b":COMM:HEAD OFF;:STAT:FILT1 FALL\n")
        assert client.ask(":STAT:FILT1?;EESR?") == "FALL;0"
        bench.step()
        assert client.ask(":STAT:EESR?") == "1"
        assert client.ask(":STAT:EESR?") == "0"

    def test_a_filter_that_never_passes_hides_updates(self, bench: Bench, client: Client) -> None:
        client.send(b":STAT:FILT1 NEV\n*OPC?\n")
        client.receive()
        bench.step(3)
        assert client.ask(":STAT:EESR?") == "0"

    def test_integration_shows_as_rising_and_falling_bit_1(self, client: Client) -> None:
        client.send(b":STAT:FILT2 BOTH\n")
        assert client.ask(":STAT:EESR?;:INTEG:STAR;:STAT:EESR?;:INTEG:STOP;:STAT:EESR?;EESR?") == "0;2;2;0"

    def test_wait_holds_the_rest_of_the_message_until_the_next_update(self, bench: Bench, client: Client) -> None:
        client.send(b":STAT:FILT1 FALL;EESR?\n")
        client.receive()
        client.send(b":COMM:WAIT 1;*OPC?;:STAT:EESR?\n*IDN?\n")
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.socket.recv(100)
        client.socket.settimeout(2.0)
        bench.step()
        received = client.receive()
        while received.count(b"\n") < 2:
            received += client.receive()
        assert received.startswith(b"1;1\nYOKOGAWA")

    def test_wait_query_answers_when_the_event_has_come(self, bench: Bench, client: Client) -> None:
        client.send(b":STAT:FILT1 FALL\n*OPC?\n")
        client.receive()
        bench.step()
        assert client.ask(":COMM:WAIT? 1") == "1"

    def test_a_client_that_leaves_while_waiting_harms_nobody(self, bench: Bench, connect: Callable[[], Client]) -> None:
        leaver, other = connect(), connect()
        leaver.send(b":STAT:FILT1 FALL;:COMM:WAIT 1;*IDN?\n")
        leaver.socket.close()
        bench.step(3)
        assert other.ask("*OPC?") == "1"

    def test_the_status_byte_sums_errors_and_events(self, bench: Bench, client: Client) -> None:
        assert client.ask("*STB?") == "0"
        assert client.ask(":FOO;*STB?;*ESR?;*ESR?") == "4;32;0"  # EAV; command error, cleared by reading
        assert client.ask("*CLS;*OPC;*ESE 1;*SRE 32;*STB?") == "96"
        client.send(b"*CLS;:STAT:EESE 1;FILT1 FALL\n*OPC?\n")
        client.receive()
        bench.step()
        assert client.ask("*STB?") == "8"
