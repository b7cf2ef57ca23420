"""Broadcast frames of the vehicle's buses: tables as data, and the decoder that reads frames through them.

Tables are YAML files beside this module, one per bus, so that a driver, a twin's face and the log reader share facts
but no code: `FrameTable` is the facts, `FrameDecoder` is the reading side, and whoever sends frames brings an encoder
of its own (one shared encoder would be wrong at both ends at once, and no test would see it).

The decoder turns the tables into shifts and masks once, because an EV-CAN carries some 700 frames a second and a log
may hold millions; identifiers that no table knows cost one dictionary miss. A frame whose checksum is wrong yields no
value at all, and a raw value that says "not available" (0x3FF volts while the battery controller wakes) yields None,
never a number.

>>> decoder = FrameDecoder((load_table(Bus.EV_CAN),))
>>> decoder.decode(0x55B, bytes.fromhex("cfc055000000009b")).verdict
<FrameVerdict.BAD_CHECKSUM: 'bad_checksum'>
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable
from importlib import resources
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drivers.errors import ConfigError
from drivers.vehicle.checksums import crc8, nibble_checksum_is_right

TABLE_SCHEMA = "v2gbench.frames/1"
_BITS = re.compile(r"(\d+)\|(\d+)@([01])([+-])")


class Bus(enum.StrEnum):
    """A bus of the vehicle; the value names its table file."""

    EV_CAN = "ev_can"
    CAR_CAN = "car_can"
    CHADEMO = "chademo"


class Protection(enum.StrEnum):
    """How a frame is protected against bit errors."""

    NONE = "none"
    CRC8 = "crc8"  # last byte, see drivers.vehicle.checksums
    NIBBLE = "nibble"  # low half of the last byte


class Status(enum.StrEnum):
    """How far a layout is known."""

    VERIFIED = "verified"  # compared with frames of a real vehicle of this kind
    ASSUMED = "assumed"  # from a public decoder of a sister vehicle


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SignalSpec(_Model):
    """One value inside a frame. `bits` is DBC notation, e.g. `7|10@0+`: start bit, length, order, sign."""

    name: str
    bits: str
    scale: float = 1.0
    offset: float = 0.0
    unit: str
    quantity: str | None = None
    no_data: tuple[int, ...] = ()
    when: int | None = None  # only while the frame's multiplexer has this value
    map: dict[int, float] | None = None  # raw to value; a raw value that is missing here is no data
    status: Status | None = None  # None: as the frame

    @model_validator(mode="after")
    def _bits_are_dbc(self) -> Self:
        parse_bits(self.bits)
        return self


class CounterSpec(_Model):
    """Place of the two-bit counter that steps by one with every frame."""

    byte: Annotated[int, Field(ge=0, le=7)]
    shift: Annotated[int, Field(ge=0, le=6)]


class FrameSpec(_Model):
    """One identifier: who sends it, how often, how long, how protected, and what is in it."""

    id: Annotated[int, Field(ge=0, le=0x7FF)]
    name: str
    sender: str
    period_ms: Annotated[int, Field(gt=0)]
    length: Annotated[int, Field(ge=1, le=8)]
    length_min: Annotated[int, Field(ge=1, le=8)] | None = None  # a shorter variant that the signals still fit
    protection: Protection = Protection.NONE
    counter: CounterSpec | None = None
    mux: str | None = None
    status: Status
    signals: tuple[SignalSpec, ...]

    @model_validator(mode="after")
    def _signals_fit(self) -> Self:
        shortest = self.length_min or self.length
        if self.protection is not Protection.NONE and shortest != self.length:
            raise ValueError(f"frame 0x{self.id:03X}: a protected frame has one length")
        for text in [signal.bits for signal in self.signals] + ([self.mux] if self.mux else []):
            if parse_bits(text).last_byte >= shortest:
                raise ValueError(f"frame 0x{self.id:03X}: bits {text} reach beyond {shortest} bytes")
        if self.mux is None and any(signal.when is not None for signal in self.signals):
            raise ValueError(f"frame 0x{self.id:03X}: `when` needs `mux`")
        return self

    def signal_status(self, signal: SignalSpec) -> Status:
        """How far this signal is known."""
        return signal.status or self.status


class MirrorSpec(_Model):
    """Frames that a gateway repeats from another bus with the same layout."""

    bus: Bus
    ids: tuple[int, ...]


class FrameTable(_Model):
    """All known frames of one bus. `signature` holds identifiers that tell this bus from the others."""

    schema_: Annotated[str, Field(alias="schema")]
    bus: Bus
    title: str
    bitrate_bps: int
    signature: tuple[int, ...]
    mirrors: MirrorSpec | None = None
    frames: tuple[FrameSpec, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.schema_ != TABLE_SCHEMA:
            raise ValueError(f"schema is {self.schema_!r}, this program reads {TABLE_SCHEMA!r}")
        ids = [frame.id for frame in self.frames]
        twice = sorted({can_id for can_id in ids if ids.count(can_id) > 1})
        if twice:
            raise ValueError(f"identifiers given twice: {', '.join(f'0x{can_id:03X}' for can_id in twice)}")
        return self

    def frame(self, can_id: int) -> FrameSpec:
        """The frame of one identifier; KeyError where the table has none."""
        for frame in self.frames:
            if frame.id == can_id:
                return frame
        raise KeyError(f"0x{can_id:03X} is not in the table of the {self.title}")

    def quantities(self) -> frozenset[str]:
        """Names of all quantities that this bus can carry."""
        return frozenset(signal.quantity for frame in self.frames for signal in frame.signals if signal.quantity)


class BitField(NamedTuple):
    """A parsed `bits` text, ready to cut a value out of the frame taken as one integer."""

    start: int
    length: int
    big_endian: bool
    signed: bool
    last_byte: int

    def shift(self, frame_length: int) -> int:
        """How far the frame's integer (in this field's own byte order) is shifted right."""
        if not self.big_endian:
            return self.start
        from_top = (self.start // 8) * 8 + 7 - self.start % 8
        return 8 * frame_length - from_top - self.length


def parse_bits(text: str) -> BitField:
    """Parse DBC notation `start|length@order sign`; ValueError with the text where it is not."""
    match = _BITS.fullmatch(text)
    if match is None:
        raise ValueError(f"bits {text!r} are not start|length@0 or 1, then + or -")
    start, length = int(match[1]), int(match[2])
    big_endian = match[3] == "0"
    first = (start // 8) * 8 + 7 - start % 8 if big_endian else start
    if not 1 <= length <= 64 or start > 63:
        raise ValueError(f"bits {text!r} do not fit into a frame of 8 bytes")
    return BitField(start, length, big_endian, match[4] == "-", (first + length - 1) // 8)


@functools.cache  # facts of a file that never changes while the program runs
def load_table(bus: Bus) -> FrameTable:
    """Read the table of one bus, mirrored frames included. Raises ConfigError naming file and entry where it is bad."""
    name = f"frames_{bus.value}.yaml"
    text = resources.files("drivers.vehicle").joinpath(name).read_text(encoding="utf-8")
    table = parse_table(text, name)
    if table.mirrors is not None:
        origin = load_table(table.mirrors.bus)
        mirrored = tuple(origin.frame(can_id) for can_id in table.mirrors.ids)
        table = table.model_copy(update={"frames": table.frames + mirrored})
    return table


def parse_table(text: str, name: str) -> FrameTable:
    """Read a frame table from YAML text; `name` is the file in error messages. Raises ConfigError."""
    try:
        return FrameTable.model_validate(YAML(typ="safe", pure=True).load(text))
    except YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "table"
        raise ConfigError(f"{name}: {where}: {first['msg']}; correct the frame table") from error


class FrameVerdict(enum.StrEnum):
    """What became of one frame."""

    GOOD = "good"
    UNKNOWN = "unknown"  # no table has the identifier
    WRONG_LENGTH = "wrong_length"
    BAD_CHECKSUM = "bad_checksum"


class Decoded(NamedTuple):
    """Values of one frame: `values[i]` belongs to `signals[i]`; None is "not available"."""

    verdict: FrameVerdict
    signals: tuple[SignalSpec, ...]
    values: tuple[float | None, ...]


class _Cut(NamedTuple):
    """A signal as arithmetic."""

    big_endian: bool
    shift: int
    mask: int
    sign_bit: int  # 0 for unsigned
    scale: float
    divisor: float  # a step of 0.1 is a division by 10, so that 599 steps are 59.9 and not 59.900000000000006
    offset: float
    no_data: frozenset[int]
    mapping: dict[int, float] | None


class CompiledFrame:
    """One frame specification as shifts and masks, for one frame length and one set of signals."""

    __slots__ = ("_branches", "_default", "_id", "_length", "_length_min", "_mux", "_protection", "counter", "spec")

    def __init__(self, spec: FrameSpec, signals: Iterable[SignalSpec]) -> None:
        self.spec = spec
        self.counter = spec.counter
        self._id = spec.id
        self._length = spec.length
        self._length_min = spec.length_min or spec.length
        self._protection = spec.protection
        wanted = tuple(signals)
        self._mux: tuple[bool, int, int] | None = None
        values: set[int] = {signal.when for signal in wanted if signal.when is not None}
        if spec.mux is not None and values:
            field = parse_bits(spec.mux)
            self._mux = (field.big_endian, field.shift(spec.length), (1 << field.length) - 1)
        self._default = self._branch(wanted, None)
        self._branches = {value: self._branch(wanted, value) for value in values}

    def _branch(self, wanted: tuple[SignalSpec, ...], mux: int | None) -> tuple[tuple[SignalSpec, ...], list[_Cut]]:
        signals = tuple(signal for signal in wanted if signal.when is None or signal.when == mux)
        return signals, [_cut(signal, self._length) for signal in signals]

    def decode(self, data: bytes) -> Decoded:
        """Check and cut one frame. Bytes beyond the known length are ignored, fewer are refused."""
        if len(data) != self._length:
            if len(data) < self._length_min:
                return Decoded(FrameVerdict.WRONG_LENGTH, (), ())
            data = data[: self._length].ljust(self._length, b"\0")
        if self._protection is Protection.CRC8:
            if crc8(data[:-1]) != data[-1]:
                return Decoded(FrameVerdict.BAD_CHECKSUM, (), ())
        elif self._protection is Protection.NIBBLE and not nibble_checksum_is_right(self._id, data):
            return Decoded(FrameVerdict.BAD_CHECKSUM, (), ())
        big = int.from_bytes(data, "big")
        little = int.from_bytes(data, "little")
        signals, cuts = self._default
        if self._mux is not None:
            big_endian, shift, mask = self._mux
            signals, cuts = self._branches.get((big if big_endian else little) >> shift & mask, self._default)
        values: list[float | None] = []
        for big_endian, shift, mask, sign_bit, scale, divisor, offset, no_data, mapping in cuts:
            raw = (big if big_endian else little) >> shift & mask
            if raw & sign_bit:
                raw -= mask + 1
            if raw in no_data:
                values.append(None)
            elif mapping is None:
                values.append(raw * scale / divisor + offset)
            else:
                values.append(mapping.get(raw))
        return Decoded(FrameVerdict.GOOD, signals, tuple(values))


class FrameDecoder:
    """Decodes frames of one or more buses. With `only_quantities`, signals that feed no quantity are not cut."""

    __slots__ = ("_frames",)

    def __init__(self, tables: Iterable[FrameTable], *, only_quantities: bool = False) -> None:
        self._frames: dict[int, CompiledFrame] = {}
        for table in tables:
            for spec in table.frames:
                known = self._frames.get(spec.id)
                if known is not None:
                    if known.spec != spec:
                        raise ConfigError(f"two frame tables disagree about 0x{spec.id:03X}; decode their buses apart")
                    continue
                signals = [signal for signal in spec.signals if signal.quantity or not only_quantities]
                self._frames[spec.id] = CompiledFrame(spec, signals)

    @property
    def frames(self) -> dict[int, CompiledFrame]:
        """Compiled frames by identifier."""
        return dict(self._frames)

    def decode(self, can_id: int, data: bytes) -> Decoded:
        """Decode one frame; the verdict is UNKNOWN for an identifier that no table has."""
        frame = self._frames.get(can_id)
        if frame is None:
            return Decoded(FrameVerdict.UNKNOWN, (), ())
        return frame.decode(data)


def _cut(signal: SignalSpec, frame_length: int) -> _Cut:
    field = parse_bits(signal.bits)
    divisor = round(1 / signal.scale) if 0 < signal.scale < 1 else 1
    exact = divisor > 1 and 1 / divisor == signal.scale
    return _Cut(
        field.big_endian,
        field.shift(frame_length),
        (1 << field.length) - 1,
        1 << (field.length - 1) if field.signed else 0,
        1.0 if exact else signal.scale,
        float(divisor) if exact else 1.0,
        signal.offset,
        frozenset(signal.no_data),
        signal.map,
    )
