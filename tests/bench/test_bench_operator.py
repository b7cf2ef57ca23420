"""A physical act is done by somebody at some time, or it ends the session; it is never assumed."""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.operator import Act, ActDone, AnswerFileOperator, Means, Operator, PromptOperator
from drivers.clock import WallClock
from drivers.errors import BenchError, ConfigError, InterlockTripped


class Terminal:
    """A real pseudo-terminal: the test types at one end, the operator's prompt reads the other."""

    def __init__(self) -> None:
        self.keyboard, self.screen = pty.openpty()
        self.output = io.StringIO()

    def operator(self, timeout_s: float = 5.0) -> PromptOperator:
        return PromptOperator(
            WallClock(), timeout_s=timeout_s, by="A. Person", input_descriptor=self.screen, output=self.output
        )

    def type_when_asked(self, *lines: bytes) -> threading.Thread:
        """Type each line after a further question has appeared."""

        def work() -> None:
            for number, line in enumerate(lines, start=1):
                deadline = time.monotonic() + 5.0
                while self.output.getvalue().count("yes") < number and time.monotonic() < deadline:
                    time.sleep(0.005)
                os.write(self.keyboard, line)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def close(self) -> None:
        os.close(self.screen)
        if self.keyboard >= 0:
            os.close(self.keyboard)
            self.keyboard = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def ask(operator: Operator, act: Act) -> ActDone:
    match act:
        case Act.ENERGISE:
            return operator.energise("charger, van")
        case Act.PLUG_IN:
            return operator.plug_in()
        case Act.UNPLUG:
            return operator.unplug()
        case Act.TURN_KEY_ON | Act.TURN_KEY_OFF:
            return operator.turn_key(on=act is Act.TURN_KEY_ON)


@pytest.mark.wire
@pytest.mark.parametrize("act", list(Act))
def test_a_yes_at_the_terminal_says_who_did_what_and_when(terminal: Terminal, act: Act) -> None:
    typist = terminal.type_when_asked(b"yes\n")
    before_s = time.time()
    done = ask(terminal.operator(), act)
    typist.join(5.0)
    assert (done.act, done.by, done.means) == (act, "A. Person", Means.PROMPT)
    assert before_s <= done.utc_s <= time.time()


@pytest.mark.wire
def test_the_question_names_what_would_carry_power_and_the_time_allowed(terminal: Terminal) -> None:
    typist = terminal.type_when_asked(b"y\n")
    terminal.operator().energise("charger, van")
    typist.join(5.0)
    assert terminal.output.getvalue() == (
        "Real power may flow through charger, van. Please confirm that the area is clear and power may flow "
        "within 5 s. Done? [yes/no] "
    )


@pytest.mark.wire
def test_silence_ends_after_the_time_out_and_trips_the_session(terminal: Terminal) -> None:
    started_s = time.monotonic()
    with pytest.raises(
        InterlockTripped, match=r"nobody answered within 0\.2 s when asked to plug the vehicle in; the session ends"
    ):
        terminal.operator(timeout_s=0.2).plug_in()
    assert 0.15 <= time.monotonic() - started_s < 2.0


@pytest.mark.wire
def test_half_a_line_is_no_answer_and_does_not_stretch_the_time_out(terminal: Terminal) -> None:
    typist = terminal.type_when_asked(b"ye")
    started_s = time.monotonic()
    with pytest.raises(ConfigError, match=r"nobody answered within 0\.3 s .* nothing was energised"):
        terminal.operator(timeout_s=0.3).energise("charger")
    typist.join(5.0)
    assert time.monotonic() - started_s < 2.0


@pytest.mark.wire
@pytest.mark.parametrize("act", [Act.PLUG_IN, Act.UNPLUG, Act.TURN_KEY_ON, Act.TURN_KEY_OFF])
def test_a_no_in_a_session_trips_it(terminal: Terminal, act: Act) -> None:
    typist = terminal.type_when_asked(b"no\n")
    with pytest.raises(InterlockTripped, match=r"A\. Person said no when asked to .*; the session ends in the safe"):
        ask(terminal.operator(), act)
    typist.join(5.0)


@pytest.mark.wire
def test_a_no_to_real_power_opens_nothing(terminal: Terminal) -> None:
    typist = terminal.type_when_asked(b"n\n")
    with pytest.raises(ConfigError, match=r"said no .*nothing was energised; start again with --energise"):
        terminal.operator().energise("charger")
    typist.join(5.0)


@pytest.mark.wire
def test_anything_but_yes_or_no_is_asked_again(terminal: Terminal) -> None:
    typist = terminal.type_when_asked(b"\n", b"maybe\n", b"YES\n")
    assert terminal.operator().unplug().act is Act.UNPLUG
    typist.join(5.0)
    assert terminal.output.getvalue().count("Please type yes or no: ") == 2


@pytest.mark.wire
def test_what_was_typed_before_the_question_does_not_answer_it(terminal: Terminal) -> None:
    os.write(terminal.keyboard, b"yes\nyes\n")
    time.sleep(0.05)
    with pytest.raises(ConfigError, match="nobody answered"):
        terminal.operator(timeout_s=0.2).energise("charger")


@pytest.mark.wire
def test_a_terminal_that_hangs_up_is_a_no(terminal: Terminal) -> None:
    def hang_up() -> None:
        while "yes" not in terminal.output.getvalue():
            time.sleep(0.005)
        keyboard, terminal.keyboard = terminal.keyboard, -1
        os.close(keyboard)

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(InterlockTripped, match="the input is closed, so nobody could be asked to plug the vehicle in"):
        terminal.operator().plug_in()
    thread.join(5.0)


@pytest.mark.wire
def test_answers_come_through_a_pipe_one_at_a_time_and_its_end_is_a_no() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"yes\nyes\n")
        os.close(writer)
        operator = PromptOperator(WallClock(), timeout_s=5, by="x", input_descriptor=reader, output=io.StringIO())
        assert operator.plug_in().act is Act.PLUG_IN
        assert operator.unplug().act is Act.UNPLUG
        with pytest.raises(InterlockTripped, match="the input is closed"):
            operator.plug_in()
    finally:
        os.close(reader)


@pytest.mark.wire
def test_a_peer_that_babbles_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x" * 30_000)
        operator = PromptOperator(WallClock(), timeout_s=30, by="x", input_descriptor=reader, output=io.StringIO())
        started_s = time.monotonic()
        with pytest.raises(InterlockTripped, match="no yes or no among 20 answers"):
            operator.plug_in()
        assert time.monotonic() - started_s < 5.0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_process_without_input_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="there is no input, so nobody could be asked"):
        PromptOperator(WallClock(), output=io.StringIO()).energise("charger")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 3601.0, float("inf"), float("nan")])
def test_an_operator_without_a_bounded_time_out_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match=r"0 < timeout_s <= 3600"):
        PromptOperator(WallClock(), timeout_s=timeout_s)


ANSWERS = """\
schema: v2gbench.answers/1.0
by: A. Person
answers: {energise: yes, plug_in: yes, turn_key_on: yes, unplug: no}
"""


def test_an_answer_file_vouches_for_what_it_says_yes_to(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(ANSWERS)
    operator = AnswerFileOperator(path, WallClock())
    assert operator.energise("charger").by == "A. Person"
    assert operator.plug_in().means is Means.ANSWER_FILE
    assert operator.turn_key(on=True).act is Act.TURN_KEY_ON
    for refuse in (operator.unplug, lambda: operator.turn_key(on=False)):
        with pytest.raises(InterlockTripped, match=r"answers\.yaml has no '.*: yes', so nobody vouches"):
            refuse()


def test_an_answer_file_without_a_word_on_power_energises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(ANSWERS.replace("energise: yes, ", ""))
    with pytest.raises(ConfigError, match=r"has no 'energise: yes', .*it is asked for charger, van"):
        AnswerFileOperator(path, WallClock()).energise("charger, van")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("plug_in: yes", "plug_in: true", r"answers\.yaml:3:26: answers\.plug_in: "),
        ("plug_in: yes", "plugin: yes", r"answers\.yaml:3:26: answers\.plugin: "),
        ("by: A. Person\n", "", r"answers\.yaml:1:1: by: "),
        ("answers/1.0", "answers/2.0", r"answers\.yaml:1:1: schema: "),
    ],
)
def test_a_wrong_answer_file_is_told_with_its_line(tmp_path: Path, old: str, new: str, place: str) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(ANSWERS.replace(old, new))
    with pytest.raises(BenchError, match=place):
        AnswerFileOperator(path, WallClock())


_: type[Operator] = PromptOperator
