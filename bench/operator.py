"""One port for what no wire can do: plug the vehicle in, pull the plug, turn the key, say yes to real power.

Emulated, the site does it; on metal a person does, and the bench must know who and when. Whoever asks gets an
`ActDone` or an error, never silence: no answer in time, a closed input and an explicit no all end the same way. Before
anything is opened (`energise`) that is a ConfigError; in a running session it is InterlockTripped, and the rack has to
close through the safe state.

A prompt throws away what was typed before it was shown: an Enter from ten seconds ago must not energise a charger.

>>> act_words(Act.TURN_KEY_ON)
'turn the key of the vehicle on'
"""

from __future__ import annotations

import enum
import getpass
import os
import select
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivers.clock import Deadline, SessionClock
from drivers.documents.source import read_document, read_file
from drivers.errors import BenchError, ConfigError, InterlockTripped

ANSWERS_SCHEMA = "v2gbench.answers/1.0"
MAX_TIMEOUT_S = 3600.0
_MAX_LINE_BYTES = 200
_MAX_QUESTIONS = 20  # a peer that babbles is not an operator


class Act(enum.StrEnum):
    """A physical act that the bench asks for."""

    ENERGISE = "energise"
    PLUG_IN = "plug_in"
    UNPLUG = "unplug"
    TURN_KEY_ON = "turn_key_on"
    TURN_KEY_OFF = "turn_key_off"


class Means(enum.StrEnum):
    """How the bench came to know that an act was done."""

    SITE = "site"  # emulated
    PROMPT = "prompt"
    ANSWER_FILE = "answer_file"
    ARGUMENT = "argument"  # --energise


@dataclass(frozen=True, slots=True)
class ActDone:
    """A physical act, who vouches for it, and when by the session clock."""

    act: Act
    by: str
    means: Means
    utc_s: float  # seconds since 1970-01-01T00:00:00Z


class Operator(Protocol):
    """Whoever has hands. Each call returns once the act is done; all raise when it is refused or not done in time."""

    def energise(self, what: str) -> ActDone:
        """Let real power flow through `what` (a list of devices); ConfigError when nobody says yes."""

    def plug_in(self) -> ActDone:
        """Put the cable into the vehicle; InterlockTripped when that is not done."""

    def unplug(self) -> ActDone:
        """Take the cable out; InterlockTripped when that is not done."""

    def turn_key(self, *, on: bool) -> ActDone:
        """Turn the vehicle's key; InterlockTripped when that is not done."""


def act_words(act: Act) -> str:
    """What the operator is asked to do, in plain words."""
    return _WORDS[act]


class PromptOperator:
    """A person at the terminal, asked in words and given `timeout_s` (0 < timeout_s <= 3600) for each act."""

    def __init__(
        self,
        clock: SessionClock,
        *,
        timeout_s: float = 300.0,
        by: str | None = None,
        input_descriptor: int | None = None,
        output: TextIO | None = None,
    ) -> None:
        """`by` is who answers, by default the login name; input and output are by default those of the process."""
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ConfigError(f"an operator's time-out must be 0 < timeout_s <= {MAX_TIMEOUT_S:g}, not {timeout_s:g}")
        self._clock = clock
        self._timeout_s = timeout_s
        self._by = by if by is not None else _login_name()
        self._input_descriptor = input_descriptor
        self._output = output

    def energise(self, what: str) -> ActDone:
        """Ask for a yes to real power; ConfigError when none comes."""
        return self._ask(Act.ENERGISE, f"Real power may flow through {what}.", ConfigError, _ENERGISE_REMEDY)

    def plug_in(self) -> ActDone:
        """Ask for the cable to be put in."""
        return self._ask(Act.PLUG_IN, "", InterlockTripped, _SESSION_REMEDY)

    def unplug(self) -> ActDone:
        """Ask for the cable to be taken out."""
        return self._ask(Act.UNPLUG, "", InterlockTripped, _SESSION_REMEDY)

    def turn_key(self, *, on: bool) -> ActDone:
        """Ask for the key to be turned."""
        return self._ask(Act.TURN_KEY_ON if on else Act.TURN_KEY_OFF, "", InterlockTripped, _SESSION_REMEDY)

    def _ask(self, act: Act, preface: str, refusal: type[BenchError], remedy: str) -> ActDone:
        deadline = Deadline.after(self._timeout_s)
        descriptor = self._descriptor(act, refusal, remedy)
        _forget_typed_ahead(descriptor)
        self._say(f"{preface} Please {act_words(act)}".strip() + f" within {self._timeout_s:g} s. Done? [yes/no] ")
        for _ in range(_MAX_QUESTIONS):
            answer = _read_line(descriptor, deadline)
            if answer is None:
                self._say("\n")
                raise refusal(f"nobody answered within {self._timeout_s:g} s when asked to {act_words(act)}; {remedy}")
            word = answer.strip().lower()
            if word in {"y", "yes"}:
                return ActDone(act, self._by, Means.PROMPT, self._clock.utc_s)
            if answer == "":
                raise refusal(f"the input is closed, so nobody could be asked to {act_words(act)}; {remedy}")
            if word in {"n", "no"}:
                raise refusal(f"{self._by} said no when asked to {act_words(act)}; {remedy}")
            self._say("Please type yes or no: ")
        raise refusal(f"no yes or no among {_MAX_QUESTIONS} answers when asked to {act_words(act)}; {remedy}")

    def _descriptor(self, act: Act, refusal: type[BenchError], remedy: str) -> int:
        if self._input_descriptor is not None:
            return self._input_descriptor
        try:
            return sys.stdin.fileno()
        except (AttributeError, OSError, ValueError) as error:
            raise refusal(f"there is no input, so nobody could be asked to {act_words(act)}; {remedy}") from error

    def _say(self, text: str) -> None:
        output = sys.stderr if self._output is None else self._output
        output.write(text)
        output.flush()


class AnswerFileOperator:
    """Answers given beforehand in a file, for runs that nobody watches; what is not answered there is a no.

    The file names who answers and each act: `{schema: v2gbench.answers/1.0, by: A. Person, answers: {plug_in: yes}}`.
    """

    def __init__(self, path: Path, clock: SessionClock) -> None:
        """Read the file; ConfigError with its line when it is not one of answers."""
        self._path = path
        self._clock = clock
        self._file = _read_answers(path)

    def energise(self, what: str) -> ActDone:
        """Look up the answer, which holds for all of `what`."""
        return self._look_up(Act.ENERGISE, ConfigError, f"; it is asked for {what}")

    def plug_in(self) -> ActDone:
        """Look up the answer."""
        return self._look_up(Act.PLUG_IN, InterlockTripped)

    def unplug(self) -> ActDone:
        """Look up the answer."""
        return self._look_up(Act.UNPLUG, InterlockTripped)

    def turn_key(self, *, on: bool) -> ActDone:
        """Look up the answer."""
        return self._look_up(Act.TURN_KEY_ON if on else Act.TURN_KEY_OFF, InterlockTripped)

    def _look_up(self, act: Act, refusal: type[BenchError], reason: str = "") -> ActDone:
        if self._file.answers.get(act.value) != "yes":
            raise refusal(f"{self._path} has no '{act.value}: yes', so nobody vouches to {act_words(act)}{reason}")
        return ActDone(act, self._file.by, Means.ANSWER_FILE, self._clock.utc_s)


_WORDS: Mapping[Act, str] = {
    Act.ENERGISE: "confirm that the area is clear and power may flow",
    Act.PLUG_IN: "plug the vehicle in",
    Act.UNPLUG: "unplug the vehicle",
    Act.TURN_KEY_ON: "turn the key of the vehicle on",
    Act.TURN_KEY_OFF: "turn the key of the vehicle off",
}
_ENERGISE_REMEDY = "nothing was energised; start again with --energise or answer yes"
_SESSION_REMEDY = "the session ends in the safe state"

_ActWord = Literal["energise", "plug_in", "unplug", "turn_key_on", "turn_key_off"]


class _Answers(BaseModel):
    """An answer file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_name: Literal["v2gbench.answers/1.0"] = Field(alias="schema")  # ANSWERS_SCHEMA, spelt for the type
    by: str = Field(min_length=1, max_length=100)
    answers: Mapping[_ActWord, Literal["yes", "no"]]


def _read_answers(path: Path) -> _Answers:
    document = read_document(read_file(path, what="answer file"), path)
    try:
        return _Answers.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = document.mark(first["loc"])
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise ConfigError(
            f"{path}:{place.line}:{place.column}: {key}: {first['msg']}; an answer file holds "
            f"'schema: {ANSWERS_SCHEMA}', 'by: NAME' and 'answers: {{ACT: yes}}', ACT being {', '.join(Act)}"
        ) from error


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"


def _forget_typed_ahead(descriptor: int) -> None:
    if os.isatty(descriptor):
        termios.tcflush(descriptor, termios.TCIFLUSH)


def _read_line(descriptor: int, deadline: Deadline) -> str | None:
    """One line with its newline; empty when the input is closed, None when the dead-line passed."""
    data = b""
    while not data.endswith(b"\n") and len(data) < _MAX_LINE_BYTES:
        ready, _, _ = select.select([descriptor], [], [], deadline.remaining_s)
        if not ready:
            return None
        try:
            # Byte by byte: what follows the newline belongs to the next question.
            byte = os.read(descriptor, 1)
        except OSError:
            # A terminal whose other end has gone reads as an error (EIO) where a pipe reads as closed.
            return ""
        if not byte:
            return ""
        data += byte
    return data.decode("utf-8", "replace")
