"""Power analyzers of the Yokogawa WT family (WT300, WT1800, WT3000), over PyVISA.

An analyzer on a bench belongs to somebody else, too. So the driver changes only what it needs (items, number format,
update interval, hold, integration, remote state, one event filter), remembers what was there, and puts it back on
close. Ranges, filters, scaling and wiring are the business of whoever wired the instrument; they are read, never set.
Note that an instrument on automatic ranges keeps the range of the moment when integration starts.

One message a cycle carries everything: all values of one update, whether there was an update since the last read, and
the error queue. Values travel as big-endian singles in a definite-length block; "no data" and "over-range" are two
finite numbers near 1E38 in it, told by their bits. Another count of values than was asked for is an error, never a
shift: someone changed the item table.

    with YokogawaWt(YokogawaConfig(at="tcp://192.0.2.12:10001"), WallClock(), device="meter") as meter:
        meter.configure()
        meter.start_integration()
        print(meter.read().ac_power)

Sources of the commands: docs/power-analyzer.md. Sign: `ac_positive` and `dc_positive` say what the wiring makes of
charging; it is turned here, once, energies included.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from drivers.clock import SessionClock
from drivers.errors import BenchError, ConfigError, DeviceError, LinkGarbled, NotOpenError
from drivers.power_meter.visa import VisaLink, resource_name
from drivers.power_meter.wt_family import (
    CONDITION_UPDATING,
    MAX_ITEMS,
    NO_DATA_BITS,
    NO_DATA_WORD,
    OVER_RANGE_BITS,
    OVER_RANGE_WORD,
    UPDATE_INTERVALS_S,
    WIRINGS,
)
from drivers.readings import Quality, Reading
from drivers.roles import Nameplate, PowerMeter, PowerMeterCapabilities, PowerMeterReadings, WireTrace, no_trace

Side = Literal["charges", "discharges"]

# The quantities of PowerMeterReadings in declared order: name, unit, function, plane.
_QUANTITIES: Final = (
    ("ac_power", "W", "P", "ac"),
    ("ac_voltage", "V", "U", "ac"),
    ("ac_current", "A", "I", "ac"),
    ("ac_frequency", "Hz", "FU", "frequency"),
    ("ac_import_energy", "Wh", "WHP", "ac"),
    ("ac_export_energy", "Wh", "WHM", "ac"),
    ("dc_power", "W", "P", "dc"),
    ("dc_voltage", "V", "UDC", "dc"),
    ("dc_current", "A", "IDC", "dc"),
    ("dc_import_energy", "Wh", "WHP", "dc"),
    ("dc_export_energy", "Wh", "WHM", "dc"),
)
_COUNT: Final = len(_QUANTITIES)
_UNITS: Final = tuple(unit for _, unit, _, _ in _QUANTITIES)
_ALL_GOOD: Final = (Quality.GOOD,) * _COUNT

_CYCLE: Final = ":NUM:NORM:VAL?;:STAT:EESR?;ERR?"
_CYCLE_READ_ONLY: Final = ":NUM:NORM:VAL?"
_EXPECTED_BLOCK: Final = b"#4%04d" % (4 * _COUNT)
_BITS: Final = struct.Struct(f">{_COUNT}I")
_SINGLES: Final = struct.Struct(f">{_COUNT}f")
_BLOCK_START: Final = len(_EXPECTED_BLOCK)
_BLOCK_END: Final = _BLOCK_START + 4 * _COUNT
_MOST_ERRORS: Final = 64  # deeper than any error queue of the family

# Functions that carry the same quantity, for an item table that is not ours.
_SAME_AS: Final = {"U": ("U", "URMS"), "I": ("I", "IRMS"), "FU": ("FU", "FI"), "UDC": ("UDC", "U")}


class YokogawaConfig(BaseModel):
    """How one analyzer is reached and wired.

    Uncertainties are those of the instrument with its ranges in use, expanded (k = 2), from its data sheet or
    certificate; the defaults are those of the emulated one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    """`tcp://HOST:PORT`, `visa://TCPIP::HOST::PORT::SOCKET` or `visa://TCPIP::HOST::INSTR`."""
    serial: str | None = None
    """Expected serial number; a swapped meter stops the run."""
    ac_element: Literal["SIGMA", "SIGMB"] | int = "SIGMA"
    """Element or wiring unit on the grid side of the charger."""
    dc_element: Literal["SIGMA", "SIGMB"] | int = 4
    """Element or wiring unit between charger and vehicle."""
    frequency_element: int = 1
    """Element whose voltage gives the grid frequency."""
    wiring: tuple[str, ...] | None = None
    """Expected answer to `:INPut:WIRing?`, for example ["P3W4", "P1W2"]; checked before anything is set."""
    ac_positive: Side = "charges"
    """What positive power of `ac_element` does to the vehicle, as the current terminals are wired."""
    dc_positive: Side = "charges"
    """The same for `dc_element`."""
    rate_s: float = 1.0
    """Update interval of the instrument."""
    reply_s: float = Field(default=2.0, gt=0, le=60)
    """Longest wait for one answer."""
    read_only: bool = False
    """Set nothing at all; quantities that the instrument's item table lacks have no data."""
    reset_running_integration: bool = False
    """Whether an integration that somebody else left running may be stopped and reset."""
    power_uncertainty_percent: float = Field(default=0.1, ge=0, le=100)
    power_uncertainty_w: float = Field(default=3.0, ge=0)

    @field_validator("at")
    @classmethod
    def _at_is_an_address(cls, value: str) -> str:
        try:
            resource_name(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("rate_s")
    @classmethod
    def _rate_is_one_of_the_instruments(cls, value: float) -> float:
        if value not in UPDATE_INTERVALS_S:
            allowed = ", ".join(f"{each:g}" for each in UPDATE_INTERVALS_S)
            raise ValueError(f"the update interval is one of {allowed} s, not {value:g} s")
        return value

    @field_validator("wiring")
    @classmethod
    def _wiring_is_known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for token in value or ():
            if token not in WIRINGS:
                raise ValueError(f"{token!r} is no wiring; known are {', '.join(WIRINGS)}")
        return value

    @model_validator(mode="after")
    def _planes_differ(self) -> Self:
        if self.ac_element == self.dc_element:
            raise ValueError(f"ac_element and dc_element are both {self.ac_element}; one element measures one side")
        for name in ("ac_element", "dc_element", "frequency_element"):
            element = getattr(self, name)
            if isinstance(element, int) and not 1 <= element <= 6:
                raise ValueError(f"{name} is an element from 1 to 6, SIGMA or SIGMB, not {element}")
        if self.read_only and self.reset_running_integration:
            raise ValueError("read_only sets nothing, so it cannot go with reset_running_integration")
        return self


class _Values(NamedTuple):
    """The values of one update in the order of the item table; NaN where the quality is not GOOD."""

    values: Sequence[float]
    qualities: Sequence[Quality]
    rest: bytes  # what follows the values in the reply, from the semicolon on


class YokogawaWt:
    """One analyzer of the WT family. Raises LinkError, DeviceError, ConfigError and NotOpenError."""

    def __init__(
        self, config: YokogawaConfig, clock: SessionClock, *, device: str, trace: WireTrace = no_trace
    ) -> None:
        self._config = config
        self._clock = clock
        self._device = device
        self._link = VisaLink(resource_name(config.at), device=device, reply_s=config.reply_s, trace=trace)
        self._is_open = False
        self._sources = tuple(f"{device}.{name}" for name, _, _, _ in _QUANTITIES)
        self._items = tuple(self._item(function, plane) for _, _, function, plane in _QUANTITIES)
        self._ac_reversed = config.ac_positive == "discharges"
        self._dc_reversed = config.dc_positive == "discharges"
        self._undo: list[str] = []
        self._positions: tuple[int | None, ...] | None = None  # of the quantities in the item table, once configured
        self._table_size = _COUNT
        self._integrates = False
        self._fresh_s = 0.0

    def __enter__(self) -> Self:
        self._open_link()
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BenchError as failed:
            if error is None:
                raise
            error.add_note(f"and the former set-up of the meter was not restored: {failed}")

    def close(self) -> None:
        """Stop an integration begun here, put the former set-up back, and let go; may be called twice.

        Raises LinkError or DeviceError when the set-up cannot be put back; the link is closed all the same.
        """
        undo, self._undo = self._undo, []
        integrated, self._integrates = self._integrates, False
        self._positions = None
        self._is_open = False
        try:
            if integrated:
                self._reset_integration()
            for command in reversed(undo):
                self._set(command)
        finally:
            self._link.close()

    def identify(self) -> Nameplate:
        """Ask who it is; ConfigError when that is another meter than the station file names."""
        self._require_open("identify")
        return self._check_identity()

    def capabilities(self) -> PowerMeterCapabilities:
        """Say what it measures, with the uncertainties of the station file."""
        return PowerMeterCapabilities(
            planes=("ac", "dc"),
            power_uncertainty_of_reading=self._config.power_uncertainty_percent / 100.0,
            power_uncertainty_w=self._config.power_uncertainty_w,
            update_s=self._config.rate_s,
        )

    def configure(self) -> None:
        """Remember the set-up of the instrument and bring in ours; in read-only mode only learn where values stand."""
        self._require_open("configure")
        if self._config.read_only:
            self._learn_items()
        elif self._positions is None:
            self._take_over()
        self._fresh_s = self._clock.mono_s

    def read(self) -> PowerMeterReadings:
        """Read all quantities of one update.

        Quality is STALE when the instrument made no update for more than two of its intervals of session time.
        """
        positions = self._positions
        if positions is None:
            raise NotOpenError(f"power meter {self._device!r} is not configured; open it and call configure() first")
        reply = self._ask(_CYCLE_READ_ONLY if self._config.read_only else _CYCLE, _is_whole)
        clock = self._clock
        mono_s, utc_s = clock.mono_s, clock.utc_s
        values, qualities, rest = self._decoded(reply)
        if not self._config.read_only:
            if self._status(rest) & CONDITION_UPDATING:
                self._fresh_s = mono_s
            elif mono_s - self._fresh_s > 2.0 * self._config.rate_s:
                qualities = [Quality.STALE if each is Quality.GOOD else each for each in qualities]
        else:
            values, qualities = _picked(values, qualities, positions)
        return self._readings(values, qualities, mono_s, utc_s)

    def start_integration(self) -> None:
        """Count energy from zero on; does nothing while the count begun here is running."""
        self._require_writable("start_integration")
        if self._integration_state() == "START":
            return
        self._reset_integration()
        self._integrates = True
        self._set(":INTEG:STAR")

    def stop_integration(self) -> None:
        """Stop counting; the values stay readable. Does nothing when it does not run."""
        self._require_writable("stop_integration")
        if self._integration_state() in {"START", "READY"}:
            self._set(":INTEG:STOP")

    def errors(self) -> Mapping[int, str]:
        """Return and empty the instrument's error queue, by code."""
        self._require_open("errors")
        found: dict[int, str] = {}
        for _ in range(_MOST_ERRORS):
            code, text = self._error_from(self._ask(":STAT:ERR?"))
            if code == 0:
                return found
            found[code] = text
        raise self._garbled(f"its error queue did not end after {_MOST_ERRORS} errors", ":STAT:ERR?", b"")

    # Opening

    def _open_link(self) -> None:
        self._link.open()
        try:
            self._check_identity()
        except BaseException:
            self._link.close()
            raise

    def _check_identity(self) -> Nameplate:
        reply = self._ask("*IDN?")
        parts = [part.strip() for part in self._text(reply, "*IDN?").split(",")]
        if len(parts) != 4 or not all(parts[:2]):
            raise self._garbled(
                "the answer is not 'manufacturer,model,serial,firmware'; is this a SCPI instrument?", "*IDN?", reply
            )
        nameplate = Nameplate(*parts)
        expected = self._config.serial
        if expected is not None and nameplate.serial != expected:
            raise ConfigError(
                f"{self._device}: the meter at {self._config.at} has serial {nameplate.serial}, but the station file "
                f"says {expected}; connect the right meter, or correct 'serial'"
            )
        return nameplate

    def _reopen(self) -> None:
        """Connect again after a failed exchange, and see that the instrument still stands as it was left."""
        self._open_link()
        if self._positions is None or self._config.read_only:
            return
        self._set(":COMM:HEAD OFF;VERB ON;:STAT:FILT1 FALL")
        sent = f":NUM:FORM?;:INTEG:STAT?;:NUM:NORM:NUM?;{_asked_items()}"
        answer = self._fields(sent, 3 + _COUNT)
        changed = answer[0][:3] != "FLO" or answer[2] != str(_COUNT) or _normal(answer[3:]) != self._items
        if changed or (self._integrates and answer[1] == "RESET"):
            raise DeviceError(
                "it came back with another set-up (switched off in between?); close it and configure it again",
                code="set-up",
                device=self._device,
                sent=sent,
            )

    # Taking over the instrument

    def _take_over(self) -> None:
        config = self._config
        header, verbose, remote = self._fields("*CLS;:COMM:HEAD?;VERB?;REM?", 3)
        self._undo.append(f":COMM:REM {remote};VERB {verbose};HEAD {header}")
        self._set(":COMM:REM ON;HEAD OFF;VERB ON")
        if config.wiring is not None:
            wiring = self._text(self._ask(":INP:WIR?"), ":INP:WIR?")
            if wiring != ",".join(config.wiring):
                raise ConfigError(
                    f"{self._device}: the meter is wired {wiring}, but the station file says "
                    f"{','.join(config.wiring)}; correct the wiring at the instrument, or 'wiring'"
                )
        sent = ":NUM:FORM?;HOLD?;:NUM:NORM:NUM?;:RATE?;:STAT:FILT1?;:INTEG:MODE?;TIM?;STAT?"
        form, hold, number, rate, edge, mode, timer, state = self._fields(sent, 8)
        items = self._fields(_asked_items(":NUM:NORM:"), _COUNT)
        self._require_free_integration(state)
        self._undo.append(f":INTEG:MODE {mode};TIM {timer}")
        self._undo.append(f":RATE {rate};:STAT:FILT1 {edge}")
        self._undo.append(f":NUM:NORM:NUM {number};:NUM:FORM {form};HOLD {hold}")
        for first in range(0, _COUNT, 4):
            self._undo.append(_set_items(items, first))
        self._set(f":RATE {config.rate_s:g};:INTEG:MODE NORM;TIM 0,0,0;:STAT:FILT1 FALL")
        self._set(f":NUM:FORM FLO;HOLD OFF;:NUM:NORM:NUM {_COUNT}")
        for first in range(0, _COUNT, 4):
            self._set(_set_items(self._items, first))
        set_items = _normal(self._fields(_asked_items(":NUM:NORM:"), _COUNT))
        if set_items != self._items:
            raise DeviceError(
                f"it keeps the items {set_items} where {self._items} were set", code="items", device=self._device
            )
        self._positions = tuple(range(_COUNT))
        self._table_size = _COUNT

    def _require_free_integration(self, state: str) -> None:
        if state in {"START", "READY"}:
            if not self._config.reset_running_integration:
                raise DeviceError(
                    "somebody's integration is running; stop and reset it at the instrument, or set "
                    "reset_running_integration",
                    code=state,
                    device=self._device,
                )
            self._set(":INTEG:STOP")
        if state != "RESET":
            self._set(":INTEG:RES")

    def _learn_items(self) -> None:
        reply = self._ask(":NUM:NORM?")
        first, *texts = (part.rpartition(" ")[2] for part in self._text(reply, ":NUM:NORM?").split(";"))
        if not first.isdigit() or int(first) != len(texts) or len(texts) > MAX_ITEMS:
            raise self._garbled("the answer is not a number and as many items", ":NUM:NORM?", reply)
        table = _normal(texts)
        positions: list[int | None] = []
        for _, _, function, plane in _QUANTITIES:
            wanted = [self._item(same, plane) for same in _SAME_AS.get(function, (function,))]
            positions.append(next((table.index(item) for item in wanted if item in table), None))
        if not any(position is not None for position in positions):
            raise DeviceError(
                f"its item table holds none of {', '.join(self._items)}; set them at the instrument, or drop read_only",
                code="items",
                device=self._device,
                sent=":NUM:NORM?",
            )
        self._positions = tuple(positions)
        self._table_size = len(texts)

    def _item(self, function: str, plane: str) -> str:
        config = self._config
        element = {"ac": config.ac_element, "dc": config.dc_element, "frequency": config.frequency_element}[plane]
        return f"{function},{element}"

    # Integration

    def _integration_state(self) -> str:
        return self._text(self._ask(":INTEG:STAT?"), ":INTEG:STAT?")

    def _reset_integration(self) -> None:
        state = self._integration_state()
        if state in {"START", "READY"}:
            self._set(":INTEG:STOP")
        if state != "RESET":
            self._set(":INTEG:RES")

    # Questions and answers

    def _require_open(self, what: str) -> None:
        if not self._is_open:
            raise NotOpenError(f"power meter {self._device!r} is closed; {what}() needs it open: use 'with'")

    def _require_writable(self, what: str) -> None:
        self._require_open(what)
        if self._config.read_only:
            raise ConfigError(
                f"power meter {self._device!r} is read-only by its station file; {what}() would set something"
            )
        if self._positions is None:
            raise NotOpenError(f"power meter {self._device!r} is not configured; call configure() before {what}()")

    def _ask(self, message: str, complete: Callable[[bytes], bool] | None = None) -> bytes:
        if self._link.broken:
            self._reopen()
        return self._link.ask(message, complete)

    def _garbled(self, what: str, message: str, reply: bytes) -> LinkGarbled:
        """Return the error for bytes that form no answer; the next question goes over a new connection."""
        self._link.broken = True
        return LinkGarbled(what, device=self._device, sent=message, last_bytes=reply)

    def _set(self, commands: str) -> None:
        """Send settings; the error query behind them shows that they were taken, and no write goes unanswered."""
        code, text = self._error_from(self._ask(f"{commands};:STAT:ERR?"))
        if code:
            raise DeviceError(f"refused a setting: {text}", code=code, device=self._device, sent=commands)

    def _fields(self, message: str, count: int) -> list[str]:
        """Ask several questions in one message; return their data without headers."""
        reply = self._ask(message)
        fields = [part.rpartition(" ")[2] for part in self._text(reply, message).split(";")]
        if len(fields) != count or not all(fields):
            raise self._garbled(f"{len(fields)} answers to {count} questions", message, reply)
        return fields

    def _text(self, reply: bytes, message: str) -> str:
        try:
            text = reply.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise self._garbled("the answer is not text", message, reply) from error
        return text.partition(" ")[2] if text.startswith(":") and ";" not in text else text

    def _error_from(self, reply: bytes, message: str = ":STAT:ERR?") -> tuple[int, str]:
        code, _, text = reply.strip().partition(b",")
        try:
            return int(code), text.decode("ascii").strip('"')
        except ValueError as error:  # UnicodeDecodeError is one
            raise self._garbled("the answer is not an error code and its text", message, reply) from error

    def _status(self, rest: bytes) -> int:
        """Return the extended event register behind the values; DeviceError when the error queue was not empty."""
        if rest == _UPDATED:
            return CONDITION_UPDATING
        parts = rest.split(b";", 2)
        if len(parts) != 3 or parts[0] or not parts[1].isdigit():
            raise self._garbled("values came without status and error code", _CYCLE, rest)
        code, text = self._error_from(parts[2], _CYCLE)
        if code:
            raise DeviceError(f"it reports an error: {text}", code=code, device=self._device, sent=_CYCLE)
        return int(parts[1])

    # Values

    def _decoded(self, reply: bytes) -> _Values:
        if self._table_size == _COUNT and reply.startswith(_EXPECTED_BLOCK) and len(reply) > _BLOCK_END:
            bits = _BITS.unpack_from(reply, _BLOCK_START)
            values = _SINGLES.unpack_from(reply, _BLOCK_START)
            if NO_DATA_BITS not in bits and OVER_RANGE_BITS not in bits and math.isfinite(sum(values)):
                return _Values(values, _ALL_GOOD, reply[_BLOCK_END:])
        pairs, rest = self._pairs_of_block(reply) if reply.startswith(b"#") else self._pairs_of_text(reply)
        if len(pairs) != self._table_size:
            raise DeviceError(
                f"{len(pairs)} values came where {self._table_size} items were set; someone changed the item table: "
                "close the meter and configure it again",
                code="value count",
                device=self._device,
                sent=_CYCLE,
                last_bytes=reply,
            )
        return _Values([value for value, _ in pairs], [quality for _, quality in pairs], rest)

    def _pairs_of_block(self, reply: bytes) -> tuple[list[tuple[float, Quality]], bytes]:
        start, end = _block_limits(reply)
        if start == 0 or (end - start) % 4 or len(reply) < end:
            raise self._garbled("the answer is not a block of 4-byte values", _CYCLE, reply)
        pairs = []
        for at in range(start, end, 4):
            (bits,) = struct.unpack_from(">I", reply, at)
            (value,) = struct.unpack_from(">f", reply, at)
            if bits == OVER_RANGE_BITS or math.isinf(value):
                pairs.append((math.nan, Quality.OVER_RANGE))
            elif bits == NO_DATA_BITS or math.isnan(value):
                pairs.append((math.nan, Quality.NO_DATA))
            else:
                pairs.append((value, Quality.GOOD))
        return pairs, reply[end:]

    def _pairs_of_text(self, reply: bytes) -> tuple[list[tuple[float, Quality]], bytes]:
        values, semicolon, rest = reply.strip().partition(b";")
        pairs = []
        for word in values.split(b","):
            if word == NO_DATA_WORD.encode():
                pairs.append((math.nan, Quality.NO_DATA))
            elif word in {OVER_RANGE_WORD.encode(), b"-" + OVER_RANGE_WORD.encode()}:
                pairs.append((math.nan, Quality.OVER_RANGE))
            else:
                try:
                    value = float(word)
                except ValueError as error:
                    raise self._garbled(f"{word[:16]!r} is not a number", _CYCLE, reply) from error
                good = math.isfinite(value)
                pairs.append((value if good else math.nan, Quality.GOOD if good else Quality.NO_DATA))
        return pairs, semicolon + rest

    def _readings(
        self, values: Sequence[float], qualities: Sequence[Quality], mono_s: float, utc_s: float
    ) -> PowerMeterReadings:
        """Turn the sign once, and name everything. Energies come as magnitudes, whatever sign WH- has."""
        ac_w, ac_v, ac_a, hertz, ac_plus, ac_minus, dc_w, dc_v, dc_a, dc_plus, dc_minus = values
        if self._ac_reversed:
            ac_w, ac_plus, ac_minus = 0.0 - ac_w, ac_minus, ac_plus
        if self._dc_reversed:
            dc_w, dc_a, dc_plus, dc_minus = 0.0 - dc_w, 0.0 - dc_a, dc_minus, dc_plus
        turned = (
            ac_w, ac_v, ac_a, hertz, abs(ac_plus), abs(ac_minus), dc_w, dc_v, dc_a, abs(dc_plus), abs(dc_minus),
        )  # fmt: skip
        return PowerMeterReadings(
            *[
                Reading(value, unit, mono_s, utc_s, source, quality)
                for value, unit, source, quality in zip(turned, _UNITS, self._sources, qualities, strict=True)
            ]
        )


_UPDATED: Final = b';1;0,"No error"\n'


def _picked(
    values: Sequence[float], qualities: Sequence[Quality], positions: Sequence[int | None]
) -> tuple[list[float], list[Quality]]:
    """Return values and qualities of our quantities out of somebody else's item table."""
    return (
        [math.nan if at is None else values[at] for at in positions],
        [Quality.NO_DATA if at is None else qualities[at] for at in positions],
    )


def _block_limits(reply: bytes) -> tuple[int, int]:
    """Return where the data of a definite-length block begins and ends; (0, 0) when the length is no number."""
    digits = reply[1:2]
    if not digits.isdigit() or digits == b"0":
        return 0, 0
    start = 2 + int(digits)
    length = reply[2:start]
    if len(length) < start - 2 or not length.isdigit():
        return 0, 0
    return start, start + int(length)


def _is_whole(reply: bytes) -> bool:
    """Whether a reply that ends in a line end is whole: the line end may be a byte of a value."""
    if not reply.startswith(b"#"):
        return True
    start, end = _block_limits(reply)
    return start == 0 or len(reply) > end


def _asked_items(prefix: str = "") -> str:
    return prefix + ";".join(f"ITEM{number}?" for number in range(1, _COUNT + 1))


def _set_items(items: Sequence[str], first: int) -> str:
    """Set up to four items in one message: older instruments take short lines only."""
    settings = [f"ITEM{number + 1} {items[number]}" for number in range(first, min(first + 4, _COUNT))]
    return f":NUM:NORM:{';'.join(settings)}"


def _normal(items: Sequence[str]) -> tuple[str, ...]:
    """Return items in their long form, without an order that is the total."""
    normal = []
    for item in items:
        parts = item.upper().split(",")
        if len(parts) > 1 and parts[1] == "SIGM":
            parts[1] = "SIGMA"
        if len(parts) > 2 and parts[2] in {"TOT", "TOTAL"}:
            del parts[2]
        normal.append(",".join(parts))
    return tuple(normal)


_: type[PowerMeter] = YokogawaWt
