"""A charger on Modbus TCP, its register map a profile (`drivers/charger/profiles/*.yaml`).

    with ModbusCharger(ModbusConfig(at="tcp://192.0.2.10:502"), WallClock(), device="charger") as charger:
        charger.arm_watchdog(10.0)
        charger.start()
        charger.set_power(-5000.0)          # 5 kW out of the van

A charger may reduce a set-point silently, so `set_power` reads back what is in force and who reduced it. Scale factors
are read once, when the link opens: the SunSpec models make them constant. One TCP connection, one request at a time,
no automatic reconnection, because a reconnected charger may have lost its watchdog: the caller opens it again. After an
exchange that failed, what still arrives is thrown away before the next one, so that no late answer is taken for its.

SunSpec has no word for a vehicle; the profile's readings of model 701 InvSt are: sleeping, nothing is plugged in;
stand-by, a vehicle is; running, a session. Whether energy flows says the measured power.
"""

from __future__ import annotations

import math
import select
import struct
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BaseModel, Field, field_validator
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, WriteMultipleRegistersResponse

from drivers.charger.profile import ChargerProfile, Point, load_profile
from drivers.clock import Deadline, SessionClock
from drivers.errors import ConfigError, DeviceError, LimitError, LinkGarbled, LinkRefused, LinkTimeout, NotOpenError
from drivers.readings import Quality, Reading
from drivers.roles import (
    Charger,
    ChargerCapabilities,
    ChargerReadings,
    ChargerState,
    ClampedBy,
    Nameplate,
    SetPower,
    WatchdogKind,
    WireTrace,
    no_trace,
)

_EXCEPTIONS = {  # Modbus application protocol 1.1b3, section 7
    1: "function not supported",
    2: "no such register, or not writable",
    3: "value not accepted",
    4: "the charger cannot do that in its present state",
    6: "the charger is busy",
    11: "no such unit behind this address",
}
_THROTTLE_SCHEDULED, _THROTTLE_DERATED, _THROTTLE_MAX_W = 1 << 11, 1 << 14, 1 << 0  # SunSpec 701 ThrotSrc
_MAX_REVERT_S = 600.0
_RECEIVE_BYTES = 4096
_RESTING_STATES = {  # SunSpec 701 InvSt, while no session runs
    0: ChargerState.UNAVAILABLE,
    1: ChargerState.AVAILABLE,
    5: ChargerState.PLUGGED,
    7: ChargerState.PLUGGED,
}
_RUNNING, _THROTTLED, _FAULT = 3, 4, 6  # SunSpec 701 InvSt
_WRITE_MANY = 16  # Modbus function


class ModbusConfig(BaseModel, frozen=True, extra="forbid"):
    """Where the charger is and how long it may take to answer."""

    at: Annotated[str, Field(pattern=r"^tcp://.+:\d+$")]
    profile: str = "sunspec_der"
    reply_s: Annotated[float, Field(gt=0, le=60)] = 1.0  # one exchange; a charger answers within 0.1 s
    serial: str | None = None  # must equal the nameplate's: a swapped charger stops the run

    @field_validator("at")
    @classmethod
    def _port_exists(cls, at: str) -> str:
        port = int(at.rpartition(":")[2])
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port} does not exist; a port is 1 <= port <= 65535")
        return at


class _Field(NamedTuple):
    """How one reading is taken out of a block: compiled once when the link opens."""

    block: int
    place: int
    size: int
    negative_from: int  # raw values from here on are negative ones; beyond all of them where none is
    absent: int
    multiplier: float
    divisor: float  # dividing by 10 gives 231.1 where multiplying by 0.1 gives 231.10000000000002
    unit: str
    source: str


class _ReadAnswer(ReadHoldingRegistersResponse):
    """Decodes all registers at once; pymodbus takes them one by one, and prints every answer for a debug line."""

    def decode(self, data: bytes) -> None:
        size = data[0]
        if size >= len(data) or size % 2:
            raise ModbusIOException(f"{size} bytes announced, {len(data) - 1} came", function_code=self.function_code)
        self.registers = list(struct.unpack_from(f">{size // 2}H", data, 1))

    def __str__(self) -> str:
        return "registers"


class _WriteAnswer(WriteMultipleRegistersResponse):
    """Prints itself cheaply, likewise."""

    def __str__(self) -> str:
        return "confirmation"


_ANSWERS: Final[Mapping[int, type[_ReadAnswer | _WriteAnswer]]] = {3: _ReadAnswer, _WRITE_MANY: _WriteAnswer}


class _Client(ModbusTcpClient):
    """pymodbus's client that tells what went over its socket, once, and what came since the last request."""

    def __init__(self, host: str, port: int, timeout_s: float, trace: WireTrace) -> None:
        super().__init__(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
        for answer in _ANSWERS.values():
            self.register(answer)
        self._trace = trace
        self.request_id = b""
        self.received = b""

    def send(self, request: bytes, addr: tuple[str, int] | None = None) -> int:
        self.request_id, self.received = request[:2], b""
        self._trace(">", request)
        return int(super().send(request, addr))

    def recv(self, size: int | None) -> bytes:
        # One blocking receive under the socket's own time-out: pymodbus's select and clock reads cost as much again.
        socket = self.socket
        if socket is None:
            raise ConnectionException("the socket is closed")
        try:
            data: bytes = socket.recv(size or _RECEIVE_BYTES)
        except TimeoutError:
            return b""
        if not data:
            self.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it so
            raise ConnectionException("the charger closed the link")
        self.received += data
        self._trace("<", data)
        return data

    def execute(self, no_response_expected: bool, request: ModbusPDU) -> ModbusPDU:  # noqa: ARG002  # pymodbus's name
        # One request, one answer. pymodbus's transactions are about retries and reconnecting, which must not be here.
        transaction = self.transaction
        framer = transaction.framer
        request.transaction_id = transaction.getNextTID()
        by = Deadline.after(self.comm_params.timeout_connect)
        self.send(framer.buildFrame(request))
        received = b""
        while data := self.recv(None):
            received += data
            # The answer as it nearly always comes, whole and alone; anything else is for pymodbus's framer.
            head = struct.pack(
                ">HHHBB", request.transaction_id, 0, len(received) - 6 & 0xFFFF, request.dev_id, request.function_code
            )
            if received.startswith(head):
                whole = _ANSWERS[request.function_code]()
                whole.dev_id, whole.transaction_id = request.dev_id, request.transaction_id
                whole.decode(received[8:])
                return whole
            used, answer = framer.handleFrame(received, request.dev_id, request.transaction_id)
            if answer is not None:
                return answer
            received = received[used:]
            if by.passed:
                break
        raise ModbusIOException("no answer", function_code=request.function_code)

    def throw_away(self) -> None:
        """Empty the socket of what came too late; at most a few answers of the past."""
        for _ in range(64):
            if self.socket is None or not select.select([self.socket], [], [], 0)[0]:
                return
            if not self.recv(None):
                return


class ModbusCharger:
    """The Charger role over Modbus TCP."""

    def __init__(self, config: ModbusConfig, clock: SessionClock, *, device: str, trace: WireTrace = no_trace) -> None:
        self._config = config
        self._clock = clock
        self._device = device
        self._trace = trace
        self._profile: ChargerProfile = load_profile(config.profile)
        self._client: _Client | None = None
        self._out_of_step = False
        self._turn = -1.0 if self._profile.sign == "injection" else 1.0
        self._fields: dict[str, _Field] = {}
        self._blocks: tuple[tuple[int, int], ...] = tuple(
            (self._profile.model_addresses[block.model], block.count) for block in self._profile.cycle_reads
        )
        self._scales: dict[tuple[int, str], int] = {}
        self._state_words = ((0, 0), (0, 0))
        self._heartbeat = 0
        self._ratings_w = (0.0, 0.0)

    def __enter__(self) -> Self:
        host, _, port = self._config.at.removeprefix("tcp://").rpartition(":")
        client = _Client(host.strip("[]"), int(port), self._config.reply_s, self._trace)
        self._out_of_step = False
        try:
            connected = client.connect()  # type: ignore[no-untyped-call]  # pymodbus leaves it so
        except (OSError, UnicodeError) as error:  # a name that no resolver can be asked for is a UnicodeError
            raise LinkRefused(f"cannot connect ({error})", device=self._device, sent=self._config.at) from error
        if not connected:
            raise LinkRefused(
                "nobody listens there; check the address and that the charger's Modbus server is on",
                device=self._device,
                sent=self._config.at,
            )
        self._client = client
        try:
            self._check_map()
            self._check_serial()
            self._compile()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the link; may be called twice. Reaching the safe state first is the rack's duty."""
        client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it so

    def identify(self) -> Nameplate:
        """Read SunSpec model 1."""
        start = self._profile.model_addresses[1]
        words = self._read(start, 66)

        def text(name: str) -> str:
            point = self._profile.point(1, name)
            return _text(words[point.address - start :][: point.size])

        return Nameplate(manufacturer=text("Mn"), model=text("Md"), serial=text("SN"), firmware=text("Vr"))

    def capabilities(self) -> ChargerCapabilities:
        """Return ratings from model 702 and the device watchdog of models 704 and 715."""
        self._require_open("capabilities")
        return ChargerCapabilities(*self._ratings_w, watchdog=WatchdogKind.DEVICE, max_watchdog_s=_MAX_REVERT_S)

    def read(self) -> ChargerReadings:
        """One coherent view: one read per block of the profile."""
        blocks = [self._read(address, count) for address, count in self._blocks]
        mono_s, utc_s = self._clock.mono_s, self._clock.utc_s
        fields = self._fields

        def reading(name: str) -> Reading:
            field = fields[name]
            raw = _integer(blocks[field.block], field.place, field.size)
            if raw == field.absent:
                return Reading(math.nan, field.unit, mono_s, utc_s, field.source, Quality.NO_DATA)
            if raw >= field.negative_from:
                raw -= 1 << (16 * field.size)
            return Reading(raw * field.multiplier / field.divisor, field.unit, mono_s, utc_s, field.source)

        def not_offered(name: str, unit: str) -> Reading:
            return Reading(math.nan, unit, mono_s, utc_s, f"{self._device}.{name}", Quality.NO_DATA)

        ac_power = reading("ac_power")
        state, faults = self._state(blocks, ac_power.value)
        return ChargerReadings(
            state=state,
            ac_power=ac_power,
            dc_power=not_offered("dc_power", "W"),
            dc_voltage=not_offered("dc_voltage", "V"),
            dc_current=not_offered("dc_current", "A"),
            soc=reading("soc"),
            import_energy=reading("import_energy"),
            export_energy=reading("export_energy"),
            grid_voltage=reading("grid_voltage"),
            grid_frequency=reading("grid_frequency"),
            cabinet_temperature=reading("cabinet_temperature"),
            faults=faults,
        )

    def set_power(self, power_w: float) -> SetPower:
        """Write the set-point (AC power, + charges), read back what is in force, and say who reduced it.

        While no session runs, the charger refuses all but 0 W. Raises LimitError for a set-point beyond the charger's
        rating: nothing is sent.
        """
        self._require_open("set_power")
        charge_w, discharge_w = self._ratings_w
        if not -discharge_w <= power_w <= charge_w:
            raise LimitError(
                f"{self._device}: a set-point of {power_w:g} W is outside the charger's rating of "
                f"{-discharge_w:g} W <= P <= {charge_w:g} W"
            )
        wset = self._profile.point(704, "WSet")
        value = round(self._turn * power_w / 10.0 ** self._scales[704, "WSet_SF"])
        enable = self._profile.point(704, "WSetEna")
        try:
            self._write(wset.address, _words(value, 2))
            self._write(enable.address, [1])
        except DeviceError as error:
            return SetPower(power_w, self._in_force_w(), self._who_refuses(power_w), refused=True, code=error.code)
        in_force_w = self._in_force_w()
        if abs(in_force_w - power_w) <= 10.0 ** self._scales[704, "WSet_SF"]:
            return SetPower(power_w, power_w)
        return SetPower(power_w, in_force_w, self._who_reduced(power_w))

    def start(self) -> None:
        """Begin energy transfer at 0 W (715 OpCtl 1); DeviceError when no vehicle is plugged in."""
        self._write(self._profile.point(704, "WSetMod").address, [1])
        self._write(self._profile.point(715, "OpCtl").address, [1])

    def stop(self) -> None:
        """End energy transfer (715 OpCtl 0)."""
        self._write(self._profile.point(715, "OpCtl").address, [0])

    def arm_watchdog(self, timeout_s: float) -> float:
        """Arm 704's revert timer towards 0 W and start the controller heartbeat; returns the time-out read back."""
        if not 1.0 <= timeout_s <= _MAX_REVERT_S:
            raise LimitError(
                f"{self._device}: a watchdog of {timeout_s:g} s is outside 1 s <= t <= {_MAX_REVERT_S:g} s"
            )
        self._write(self._profile.point(704, "WSetRvrt").address, [0, 0])
        self._write(self._profile.point(704, "WSetEnaRvrt").address, [1])
        times = self._profile.point(704, "WSetRvrtTms")
        self._write(times.address, _words(math.ceil(timeout_s), 2))
        # A heartbeat that repeats the last one, perhaps of a bench before this one, would not count.
        self._heartbeat = _integer(self._read(self._profile.point(715, "ControllerHb").address, 2), 0, 2)
        self.feed_watchdog()
        return float(_integer(self._read(times.address, 2), 0, 2))

    def feed_watchdog(self) -> None:
        """Write the next controller heartbeat (715 ControllerHb)."""
        self._heartbeat = (self._heartbeat + 1) & 0xFFFFFFFF
        self._write(self._profile.point(715, "ControllerHb").address, _words(self._heartbeat, 2))

    def safe_state(self) -> None:
        """0 W, then stop; both are tried even if the first one fails, and the first failure is raised."""
        failure: Exception | None = None
        for act in (self._zero, self.stop):
            try:
                act()
            except (LinkTimeout, LinkRefused, LinkGarbled, DeviceError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _zero(self) -> None:
        self._write(self._profile.point(704, "WSet").address, [0, 0])

    def _in_force_w(self) -> float:
        words = self._read(self._profile.point(704, "WSet").address, 2)
        # Adding zero makes 0 W of the -0 W that turning the sign gives.
        return self._turn * _signed(_integer(words, 0, 2), 2) * 10.0 ** self._scales[704, "WSet_SF"] + 0.0

    # Opening

    def _check_map(self) -> None:
        try:
            marker = self._read(self._profile.base, 2)
        except DeviceError as error:
            raise ConfigError(
                f"{self._device}: the device answers no to a read of register {self._profile.base}, where its SunSpec "
                f"map should begin ({error}); choose the profile of this charger in the station file"
            ) from error
        if marker != [0x5375, 0x6E53]:
            raise ConfigError(
                f"{self._device}: no SunSpec map at register {self._profile.base} "
                f"(found {marker[0]:04X} {marker[1]:04X} instead of 'SunS'); "
                "choose the profile of this charger in the station file"
            )
        for model, address in self._profile.model_addresses.items():
            found = self._read(address, 2)[0]
            if found != model:
                raise ConfigError(
                    f"{self._device}: register {address} should begin SunSpec model {model} but holds {found}; "
                    "choose the profile of this charger in the station file"
                )

    def _check_serial(self) -> None:
        expected = self._config.serial
        if expected is not None and (found := self.identify().serial) != expected:
            raise ConfigError(
                f"{self._device}: serial number {found!r} is not the {expected!r} of the station file; "
                "a swapped charger must be entered there"
            )

    def _compile(self) -> None:
        for (model, name), point in self._profile.points.items():
            if point.type == "sunssf":
                raw = self._read(point.address, 1)[0]
                exponent = 0 if raw == 0x8000 else _signed(raw, 1)
                if not -10 <= exponent <= 10:
                    raise ConfigError(
                        f"{self._device}: scale factor {name} of model {model} (register {point.address}) holds "
                        f"{exponent}, SunSpec allows -10 to 10; choose the profile of this charger in the station file"
                    )
                self._scales[model, name] = exponent
        for name, source in self._profile.readings.items():
            point = self._profile.point(source.model, source.point)
            block, place = self._place(point)
            exponent = self._exponent(point)
            self._fields[name] = _Field(
                block=block,
                place=place,
                size=point.size,
                negative_from=1 << (16 * point.size - (1 if point.type.startswith("int") else 0)),
                absent=_absent(point),
                multiplier=10.0 ** max(exponent, 0) * (self._turn if source.turn else 1.0),
                divisor=10.0 ** max(-exponent, 0),
                unit=source.unit,
                source=f"{self._device}.{name}",
            )
        self._state_words = (
            self._place(self._profile.point(701, "InvSt")),
            self._place(self._profile.point(701, "Alrm")),
        )
        ratings = [self._scaled(702, name) for name in ("WChaRteMaxRtg", "WDisChaRteMaxRtg")]
        self._ratings_w = (ratings[0], ratings[1])

    def _exponent(self, point: Point) -> int:
        return self._scales[point.model, point.scale] if point.scale else 0

    def _scaled(self, model: int, name: str) -> float:
        point = self._profile.point(model, name)
        return _integer(self._read(point.address, point.size), 0, point.size) * 10.0 ** self._exponent(point)

    # Judging

    def _state(self, blocks: Sequence[Sequence[int]], ac_power_w: float) -> tuple[ChargerState, tuple[str, ...]]:
        (of_inverter, inverter_at), (of_alarm, alarm_at) = self._state_words
        inverter = blocks[of_inverter][inverter_at]
        if inverter in {_RUNNING, _THROTTLED}:
            if math.isnan(ac_power_w):
                return ChargerState.UNKNOWN, ()
            if abs(ac_power_w) <= self._profile.idle_w:
                return ChargerState.SUSPENDED, ()
            return (ChargerState.CHARGING if ac_power_w > 0.0 else ChargerState.DISCHARGING), ()
        if inverter == _FAULT:
            told = self._text(self._profile.point(701, "MnAlrmInfo"))
            if told:
                return ChargerState.FAULTED, tuple(told.split(", "))
            return ChargerState.FAULTED, (f"Alrm {_integer(blocks[of_alarm], alarm_at, 2):#010x}",)
        return _RESTING_STATES.get(inverter, ChargerState.UNKNOWN), ()

    def _place(self, point: Point) -> tuple[int, int]:
        """Block of the cycle's reads that holds a point, and the index within it."""
        for number, (start, count) in enumerate(self._blocks):
            if start <= point.address and point.address + point.size <= start + count:
                return number, point.address - start
        raise ConfigError(f"profile {self._profile.name!r}: {point.name} lies in none of its cycle_reads")

    def _who_reduced(self, power_w: float) -> ClampedBy:
        source = self._profile.point(701, "ThrotSrc")
        bits = _integer(self._read(source.address, 2), 0, 2)
        if bits & _THROTTLE_SCHEDULED:
            return ClampedBy.PROFILE
        limit_w = self._scaled(702, "WChaRteMax" if power_w > 0 else "WDisChaRteMax")
        if bits & _THROTTLE_DERATED and abs(power_w) > limit_w:
            return ClampedBy.VEHICLE
        return ClampedBy.CHARGER

    def _who_refuses(self, power_w: float) -> ClampedBy:
        limit_w = self._scaled(702, "WChaRteMax" if power_w > 0 else "WDisChaRteMax")
        return ClampedBy.VEHICLE if abs(power_w) > limit_w else ClampedBy.CHARGER

    # Exchanges

    def _text(self, point: Point) -> str:
        return _text(self._read(point.address, point.size))

    def _read(self, address: int, count: int) -> Sequence[int]:
        client = self._require_open("read")
        sent = f"read {count} registers from {address}"
        response = self._exchange(
            client, lambda: client.read_holding_registers(address, count=count, device_id=self._profile.unit_id), sent
        )
        if len(response.registers) != count:
            raise self._garbled(client, f"{len(response.registers)} registers came back instead of {count}", sent)
        return response.registers

    def _write(self, address: int, words: list[int]) -> None:
        client = self._require_open("write")
        sent = f"write {words} to register {address}"
        response = self._exchange(
            client, lambda: client.write_registers(address, words, device_id=self._profile.unit_id), sent
        )
        if (response.function_code, response.address, response.count) != (_WRITE_MANY, address, len(words)):
            raise self._garbled(client, "the answer confirms another write", sent)

    def _exchange(self, client: _Client, call: Callable[[], ModbusPDU], sent: str) -> ModbusPDU:
        device = self._device
        try:
            if self._out_of_step:
                client.throw_away()
                self._out_of_step = False
            if not client.connected:  # or pymodbus would connect again without a word
                raise LinkRefused(
                    "the link is closed; open the charger and arm its watchdog again", device=device, sent=sent
                )
            response = call()
        except ModbusIOException as error:
            self._out_of_step = True
            if _without_late_answers(client.received, client.request_id):
                raise self._garbled(client, "what came is no answer", sent) from error
            raise LinkTimeout(
                "no answer", device=device, sent=sent, waited_s=self._config.reply_s, last_bytes=client.received
            ) from error
        except (ConnectionException, OSError) as error:
            client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it so
            raise LinkRefused(
                "the charger closed the link; open it and arm its watchdog again",
                device=device,
                sent=sent,
                last_bytes=client.received,
            ) from error
        except ModbusException as error:
            raise self._garbled(client, f"the answer is not Modbus ({error})", sent) from error
        if response.isError():
            code = response.exception_code
            raise DeviceError(_EXCEPTIONS.get(code, "refused"), code=code, device=device, sent=sent)
        return response

    def _garbled(self, client: _Client, message: str, sent: str) -> LinkGarbled:
        self._out_of_step = True
        return LinkGarbled(message, device=self._device, sent=sent, last_bytes=client.received)

    def _require_open(self, what: str) -> _Client:
        if self._client is None:
            raise NotOpenError(f"charger {self._device!r} is closed; {what}() needs it open: use 'with'")
        return self._client


def _without_late_answers(data: bytes, transaction: bytes) -> bytes:
    """What is left of received bytes when whole frames that belong to other requests are taken away."""
    while len(data) >= 8 and data[:2] != transaction and data[2:4] == b"\0\0":
        size = 6 + int.from_bytes(data[4:6], "big")
        if not 8 <= size <= len(data):
            break
        data = data[size:]
    return data


def _text(words: Sequence[int]) -> str:
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    return raw.rstrip(b"\0 ").decode("ascii", errors="replace")


def _integer(words: Sequence[int], index: int, size: int) -> int:
    """Big-endian unsigned integer of `size` registers."""
    if size == 1:
        return words[index]
    if size == 2:
        return words[index] << 16 | words[index + 1]
    value = 0
    for word in words[index : index + size]:
        value = value << 16 | word
    return value


def _signed(value: int, size: int) -> int:
    return value - (1 << 16 * size) if value >> (16 * size - 1) else value


def _words(value: int, size: int) -> list[int]:
    """Registers of a two's complement integer, high word first."""
    raw = value & ((1 << 16 * size) - 1)
    return [raw >> 16 * (size - 1 - place) & 0xFFFF for place in range(size)]


def _absent(point: Point) -> int:
    """SunSpec's value of a point that is not implemented."""
    if point.type.startswith("int"):
        return 1 << (16 * point.size - 1)
    return (1 << 16 * point.size) - 1


_: type[Charger] = ModbusCharger
