"""Reading an e-NV200 through its diagnostics, whatever carries the requests.

The policy that every wire shares: what a short and a long reading ask for, how a diagnostic session is kept, how a
refused item becomes "no data" instead of a failed reading, how a lost link is opened again, and that a closed vehicle
refuses to work. A wire adds four hooks (`_open`, `_close`, `_ask`, and `_listen` where it can hear broadcasts).
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from drivers.clock import SessionClock
from drivers.errors import DeviceError, LinkError, NotOpenError
from drivers.readings import Quality, Reading, missing
from drivers.roles import Nameplate, VehicleCapabilities, VehicleReadings
from drivers.vehicle import identifiers, lbc_groups
from drivers.vehicle.diagnostics import Unit, load_table
from drivers.vehicle.frames import Bus, FrameDecoder
from drivers.vehicle.frames import load_table as load_frames
from drivers.vehicle.identifiers import Did
from drivers.vehicle.replies import Value

T = TypeVar("T")
_Add = Callable[[dict[str, Value]], None]

TEMPERATURE_SENSORS = 4
_SESSION_MARGIN_S = 1.0
_SESSION_LAPSED = "0x7F"
_LISTEN_TRIES = 4  # 0x5BC alternates between two contents
_GIDS = (0x5BC, "vehicle.gids", "1")
_ODOMETER = (0x5C5, "vehicle.odometer_km", "km")
# Unit of every quantity, in the order of `VehicleReadings`.
_UNITS = {
    "pack_voltage": "V",
    "pack_current": "A",
    "soc": "%",
    "soh": "%",
    "capacity": "Ah",
    "gids": "1",
    "hx": "%",
    "charge_limit": "W",
    "discharge_limit": "W",
    "insulation": "kOhm",
    "cell_average": "V",
    "cell_min": "V",
    "cell_max": "V",
    "pack_temperature_1": "degC",
    "pack_temperature_2": "degC",
    "pack_temperature_3": "degC",
    "pack_temperature_4": "degC",
    "ambient_temperature": "degC",
    "odometer": "km",
    "speed": "km/h",
    "gear": "1",
    "plug_state": "1",
    "charge_mode": "1",
    "quick_charges": "1",
    "l1_l2_charges": "1",
    "motor_temperature": "degC",
    "inverter_2_temperature": "degC",
    "inverter_4_temperature": "degC",
}


class DiagnosticVehicle(ABC):
    """An e-NV200 40 kWh that answers service 21 and 22. A context manager; opened on entry."""

    def __init__(self, clock: SessionClock, *, device: str) -> None:
        self._clock = clock
        self._device = device
        self._table = load_table()
        self._sources = {name: f"{device}.{name}" for name in _UNITS}
        self._entered = False
        self._linked = False
        self._vcm_asked_s = -math.inf
        self._asked_last: Unit | None = None
        self._frames: FrameDecoder | None = None

    # the hooks of a wire

    @abstractmethod
    def _open(self) -> None:
        """Open the link. Raises LinkError; what was opened half is closed by `_close`."""

    @abstractmethod
    def _close(self) -> None:
        """Close the link, whatever state it is in; may be called twice."""

    @abstractmethod
    def _ask(self, unit: Unit, request: bytes) -> bytes:
        """Send one request to a control unit and return its whole reply. Raises LinkError."""

    def _listen(self, can_id: int) -> bytes | None:  # noqa: ARG002  # a wire that cannot hear ignores which
        """The data of the next broadcast of `can_id`; None where this wire hears none. Raises LinkError."""
        return None

    # the role

    def __enter__(self) -> Self:
        self._entered = True
        try:
            self._linked_now()
        except BaseException:
            self._entered = False
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._unlink()

    def identify(self) -> Nameplate:
        """Maker, model and, as serial number, the vehicle identification number. Raises LinkError or DeviceError."""
        vin = self._read(
            "identify",
            lambda: identifiers.decode_vin(self._ask_vcm(identifiers.vin_request()), device=self._device),
        )
        maker, model = self._table.vehicle.split(" ", 1)
        return Nameplate(maker, model, vin, self._firmware())

    def capabilities(self) -> VehicleCapabilities:
        """What it can read."""
        return VehicleCapabilities(lbc_groups.GROUPS_IN_SERIES, TEMPERATURE_SENSORS)

    def read(self) -> VehicleReadings:
        """Pack (group 1), temperatures (group 4), plug state and charge mode; the rest is NaN with NO_DATA.

        Raises LinkError, DeviceError where the battery controller refuses, NotOpenError.
        """
        return self._readings(self._read("read", self._short))

    def read_all(self) -> VehicleReadings:
        """Everything that the vehicle answers: groups 1, 2, 4 and 61, identifiers, and broadcasts where heard.

        An item that the vehicle refuses is NaN with NO_DATA. Motor and inverter temperatures are not among the known
        identifiers. Raises as `read`.
        """
        return self._readings(self._read("read_all", self._long))

    def shunts(self) -> tuple[bool, ...]:
        """For each of the 96 groups whether its balancing shunt is on (group 6). Raises as `read`."""
        return self._read(
            "shunts", lambda: lbc_groups.decode_shunts(self._ask_lbc(lbc_groups.SHUNTS), device=self._device)
        )

    # policy

    def _firmware(self) -> str:
        return ""

    def _read(self, what: str, work: Callable[[], T]) -> T:
        if not self._entered:
            raise NotOpenError(f"{self._device} is closed; {what}() needs it open, use 'with' to open it")
        self._linked_now()
        try:
            return work()
        except LinkError:
            # A lost or confused link is not trusted again: the next call opens a new one.
            self._unlink()
            raise

    def _linked_now(self) -> None:
        if self._linked:
            return
        self._vcm_asked_s = -math.inf
        self._asked_last = None
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        self._linked = True

    def _unlink(self) -> None:
        self._linked = False
        self._close()

    def _ask_lbc(self, group: int) -> bytes:
        self._asked_last = unit = self._table.units.lbc
        return self._ask(unit, lbc_groups.group_request(group))

    def _ask_vcm(self, request: bytes) -> bytes:
        self._asked_last = unit = self._table.units.vcm
        # On the session clock, so that in stepped time what is asked does not depend on how fast the machine is.
        if self._clock.mono_s - self._vcm_asked_s > identifiers.SESSION_ENDS_AFTER_S - _SESSION_MARGIN_S:
            identifiers.check_session(self._ask(unit, identifiers.session_request()), device=self._device)
        reply = self._ask(unit, request)
        self._vcm_asked_s = self._clock.mono_s
        return reply

    def _identifier(self, did: Did) -> Value:
        request = identifiers.identifier_request(did)
        try:
            return identifiers.decode_identifier(did, self._ask_vcm(request), device=self._device)
        except DeviceError as error:
            if error.code == _SESSION_LAPSED:
                self._vcm_asked_s = -math.inf
                return identifiers.decode_identifier(did, self._ask_vcm(request), device=self._device)
            raise

    def _optional(self, unit: str, work: Callable[[], Value]) -> Value:
        try:
            return work()
        except DeviceError:
            return Value(math.nan, unit, Quality.NO_DATA)

    def _short(self) -> dict[str, Value]:
        return self._gathered((self._add_pack, self._add_temperatures), (self._add_plug,))

    def _long(self) -> dict[str, Value]:
        values = self._gathered(
            (self._add_pack, self._add_temperatures, self._add_cells, self._add_health),
            (self._add_plug, self._add_counters),
        )
        values["gids"] = self._broadcast(*_GIDS)
        values["odometer"] = self._broadcast(*_ODOMETER)
        return values

    def _gathered(self, of_lbc: Sequence[_Add], of_vcm: Sequence[_Add]) -> dict[str, Value]:
        """One control unit after the other, the one asked last first: each change costs an exchange at an adapter."""
        values: dict[str, Value] = {}
        parts = (*of_vcm, *of_lbc) if self._asked_last is self._table.units.vcm else (*of_lbc, *of_vcm)
        for add in parts:
            try:
                add(values)
            except DeviceError:
                if add == self._add_pack:  # without it there is no reading; of the others it becomes NaN with NO_DATA
                    raise
        return values

    def _add_pack(self, values: dict[str, Value]) -> None:
        pack = lbc_groups.decode_pack(self._ask_lbc(lbc_groups.PACK), device=self._device)
        values["pack_voltage"] = pack.voltage_v
        values["pack_current"] = pack.current_a
        values["soc"] = pack.soc_percent
        values["capacity"] = pack.capacity_ah
        values["hx"] = pack.hx_percent
        values["charge_limit"] = pack.charge_limit_w
        values["discharge_limit"] = pack.discharge_limit_w
        values["insulation"] = pack.insulation_kohm

    def _add_plug(self, values: dict[str, Value]) -> None:
        values["plug_state"] = self._optional("1", lambda: self._identifier(Did.PLUG_STATE))
        values["charge_mode"] = self._optional("1", lambda: self._identifier(Did.CHARGE_MODE))

    def _add_counters(self, values: dict[str, Value]) -> None:
        for name, unit, did in (
            ("ambient_temperature", "degC", Did.AMBIENT),
            ("speed", "km/h", Did.SPEED),
            ("gear", "1", Did.GEAR),
            ("quick_charges", "1", Did.QUICK_CHARGES),
            ("l1_l2_charges", "1", Did.L1_L2_CHARGES),
        ):
            values[name] = self._optional(unit, functools.partial(self._identifier, did))

    def _add_cells(self, values: dict[str, Value]) -> None:
        cells = lbc_groups.decode_cells(self._ask_lbc(lbc_groups.CELLS), device=self._device)
        values["cell_average"], values["cell_min"], values["cell_max"] = cells.average_v, cells.min_v, cells.max_v

    def _add_temperatures(self, values: dict[str, Value]) -> None:
        group = lbc_groups.decode_temperatures(self._ask_lbc(lbc_groups.TEMPERATURES), device=self._device)
        for number, value in enumerate(group.sensors_c, start=1):
            values[f"pack_temperature_{number}"] = value

    def _add_health(self, values: dict[str, Value]) -> None:
        values["soh"] = lbc_groups.decode_health(self._ask_lbc(lbc_groups.HEALTH), device=self._device).soh_percent

    def _broadcast(self, can_id: int, quantity: str, unit: str) -> Value:
        nothing = Value(math.nan, unit, Quality.NO_DATA)
        for _ in range(_LISTEN_TRIES):
            data = self._listen(can_id)
            if data is None:
                return nothing
            if self._frames is None:
                self._frames = FrameDecoder((load_frames(Bus.CAR_CAN),), only_quantities=True)
            decoded = self._frames.decode(can_id, data)
            for signal, value in zip(decoded.signals, decoded.values, strict=True):
                if signal.quantity == quantity:
                    return nothing if value is None else Value(value, unit)
        return nothing

    def _readings(self, values: dict[str, Value]) -> VehicleReadings:
        mono_s, utc_s = self._clock.mono_s, self._clock.utc_s
        sources = self._sources

        def reading(name: str) -> Reading:
            value = values.get(name)
            if value is None:
                return missing(_UNITS[name], mono_s, utc_s, sources[name])
            return Reading(value.value, value.unit, mono_s, utc_s, sources[name], value.quality)

        return VehicleReadings(
            pack_voltage=reading("pack_voltage"),
            pack_current=reading("pack_current"),
            soc=reading("soc"),
            soh=reading("soh"),
            capacity=reading("capacity"),
            gids=reading("gids"),
            hx=reading("hx"),
            charge_limit=reading("charge_limit"),
            discharge_limit=reading("discharge_limit"),
            insulation=reading("insulation"),
            cell_average=reading("cell_average"),
            cell_min=reading("cell_min"),
            cell_max=reading("cell_max"),
            pack_temperatures=(
                reading("pack_temperature_1"),
                reading("pack_temperature_2"),
                reading("pack_temperature_3"),
                reading("pack_temperature_4"),
            ),
            ambient_temperature=reading("ambient_temperature"),
            odometer=reading("odometer"),
            speed=reading("speed"),
            gear=reading("gear"),
            plug_state=reading("plug_state"),
            charge_mode=reading("charge_mode"),
            quick_charges=reading("quick_charges"),
            l1_l2_charges=reading("l1_l2_charges"),
            motor_temperature=reading("motor_temperature"),
            inverter_2_temperature=reading("inverter_2_temperature"),
            inverter_4_temperature=reading("inverter_4_temperature"),
        )
