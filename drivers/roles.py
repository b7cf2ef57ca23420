"""What a device on the bench can do, whatever its make or wire.

A driver keeps one of these promises for one family of devices; the bench knows only the promise. Drivers are
synchronous context managers, because lab people script them in a notebook:

    with ModbusCharger(config, clock) as charger:
        charger.set_power(-5000.0)

Sign, everywhere: positive power and current charge the vehicle. A vendor's own sign is turned once, at the driver's
edge. Planes: `ac` is the grid side of the charger, `dc` its vehicle side.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from drivers.readings import Reading


class WatchdogKind(enum.StrEnum):
    """Who brings a charger to 0 W when the bench falls silent."""

    DEVICE = "device"  # a timer in the device, armed and read back
    PROFILE = "profile"  # an OCPP charging profile that expires onto a 0 W default
    NONE = "none"  # nobody: the station file must say so


class ChargerState(enum.StrEnum):
    """Where a charging session stands."""

    AVAILABLE = "available"
    PLUGGED = "plugged"  # vehicle connected, no energy transfer
    CHARGING = "charging"
    DISCHARGING = "discharging"
    SUSPENDED = "suspended"  # session running at 0 W
    FAULTED = "faulted"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


class ClampedBy(enum.StrEnum):
    """The party that reduced or refused a set-point."""

    NOBODY = "nobody"
    VEHICLE = "vehicle"
    CHARGER = "charger"
    GRID = "grid"
    PROFILE = "profile"  # an OCPP charging profile
    LIMIT = "limit"  # the bench's own limits
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Nameplate:
    """What a device says it is."""

    manufacturer: str
    model: str
    serial: str
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class ChargerCapabilities:
    """Directions, limits and watchdog of a charger; discharge power is a positive number of watts."""

    max_charge_w: float
    max_discharge_w: float
    watchdog: WatchdogKind
    max_watchdog_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SetPower:
    """What became of a set-point: `requested_w` asked, `accepted_w` in force, `clamped_by` whoever made the difference.

    `accepted_w` equals `requested_w` exactly when `clamped_by` is NOBODY. A refusal keeps the former set-point in force
    and carries the device's own `code`.
    """

    requested_w: float
    accepted_w: float
    clamped_by: ClampedBy = ClampedBy.NOBODY
    refused: bool = False
    code: int | str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the set-point is in force as asked."""
        return self.clamped_by is ClampedBy.NOBODY and not self.refused


@dataclass(frozen=True, slots=True)
class ChargerReadings:
    """One coherent view of a charger. A quantity that it does not measure is NaN with quality NO_DATA."""

    state: ChargerState
    ac_power: Reading  # W, + charges
    dc_power: Reading  # W, + charges
    dc_voltage: Reading  # V
    dc_current: Reading  # A, + charges
    soc: Reading  # %, as the charger has it from the vehicle
    import_energy: Reading  # Wh, counter, grid to vehicle, AC side
    export_energy: Reading  # Wh, counter, vehicle to grid, AC side
    grid_voltage: Reading  # V, line to neutral
    grid_frequency: Reading  # Hz
    cabinet_temperature: Reading  # degC
    faults: tuple[str, ...] = ()

    def readings(self) -> tuple[Reading, ...]:
        """All readings, in declared order."""
        return (
            self.ac_power,
            self.dc_power,
            self.dc_voltage,
            self.dc_current,
            self.soc,
            self.import_energy,
            self.export_energy,
            self.grid_voltage,
            self.grid_frequency,
            self.cabinet_temperature,
        )


class Charger(Protocol):
    """A bidirectional charger."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def identify(self) -> Nameplate: ...
    def capabilities(self) -> ChargerCapabilities: ...
    def read(self) -> ChargerReadings: ...
    def set_power(self, power_w: float) -> SetPower: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def arm_watchdog(self, timeout_s: float) -> float:
        """Arm the device's own watchdog and return the time-out read back from it, in seconds."""

    def feed_watchdog(self) -> None:
        """Tell the device that the bench is alive; called once a cycle."""

    def safe_state(self) -> None:
        """0 W and stop; must work from any state and may be called twice."""


@dataclass(frozen=True, slots=True)
class VehicleCapabilities:
    """What a vehicle driver can read."""

    cell_voltages: int  # how many, 0 for none
    temperature_sensors: int


@dataclass(frozen=True, slots=True)
class VehicleReadings:
    """One view of a vehicle and its battery. What a driver cannot read is NaN with quality NO_DATA."""

    pack_voltage: Reading  # V
    pack_current: Reading  # A, + charges
    soc: Reading  # %, the BMS's real state of charge
    soh: Reading  # %
    capacity: Reading  # Ah
    gids: Reading  # 1
    hx: Reading  # %
    charge_limit: Reading  # W, positive
    discharge_limit: Reading  # W, positive
    insulation: Reading  # kOhm
    cell_average: Reading  # V
    cell_min: Reading  # V
    cell_max: Reading  # V
    pack_temperatures: tuple[Reading, Reading, Reading, Reading]  # degC, T1 to T4
    ambient_temperature: Reading  # degC
    odometer: Reading  # km
    speed: Reading  # km/h
    gear: Reading  # 1; 0 not yet read, 1 P, 2 R, 3 N, 4 D, 7 B/Eco
    plug_state: Reading  # 1; 0 not connected, 1 partly, 2 connected
    charge_mode: Reading  # 1; 0 not charging, 1 L1, 2 L2, 3 rapid (DC)
    quick_charges: Reading  # 1, counter
    l1_l2_charges: Reading  # 1, counter
    motor_temperature: Reading  # degC
    inverter_2_temperature: Reading  # degC
    inverter_4_temperature: Reading  # degC

    def readings(self) -> tuple[Reading, ...]:
        """All readings, in declared order, the four pack temperatures among them."""
        return (
            self.pack_voltage,
            self.pack_current,
            self.soc,
            self.soh,
            self.capacity,
            self.gids,
            self.hx,
            self.charge_limit,
            self.discharge_limit,
            self.insulation,
            self.cell_average,
            self.cell_min,
            self.cell_max,
            *self.pack_temperatures,
            self.ambient_temperature,
            self.odometer,
            self.speed,
            self.gear,
            self.plug_state,
            self.charge_mode,
            self.quick_charges,
            self.l1_l2_charges,
            self.motor_temperature,
            self.inverter_2_temperature,
            self.inverter_4_temperature,
        )


class Vehicle(Protocol):
    """A vehicle whose battery management system answers questions."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def identify(self) -> Nameplate: ...
    def capabilities(self) -> VehicleCapabilities: ...
    def read(self) -> VehicleReadings:
        """The quantities that change within a session (pack, plug, charge mode); one short burst of requests."""

    def read_all(self) -> VehicleReadings:
        """Everything that the vehicle answers, cell voltages and counters among it; slower."""


@dataclass(frozen=True, slots=True)
class PowerMeterCapabilities:
    """What a power analyzer measures, and how well: accuracies are expanded (k = 2)."""

    planes: tuple[str, ...]  # "ac", "dc"
    power_uncertainty_of_reading: float  # 1
    power_uncertainty_w: float  # W
    update_s: float


@dataclass(frozen=True, slots=True)
class PowerMeterReadings:
    """One update of a power analyzer, coherent over both planes."""

    ac_power: Reading  # W, + charges
    ac_voltage: Reading  # V, line to neutral
    ac_current: Reading  # A, rms
    ac_frequency: Reading  # Hz
    ac_import_energy: Reading  # Wh, integrated, grid to vehicle
    ac_export_energy: Reading  # Wh, integrated, vehicle to grid
    dc_power: Reading  # W, + charges
    dc_voltage: Reading  # V
    dc_current: Reading  # A, + charges
    dc_import_energy: Reading  # Wh, integrated, into the vehicle
    dc_export_energy: Reading  # Wh, integrated, out of the vehicle

    def readings(self) -> tuple[Reading, ...]:
        """All readings, in declared order."""
        return (
            self.ac_power,
            self.ac_voltage,
            self.ac_current,
            self.ac_frequency,
            self.ac_import_energy,
            self.ac_export_energy,
            self.dc_power,
            self.dc_voltage,
            self.dc_current,
            self.dc_import_energy,
            self.dc_export_energy,
        )


class PowerMeter(Protocol):
    """A power analyzer that sees the AC and the DC side of the charger."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def identify(self) -> Nameplate: ...
    def capabilities(self) -> PowerMeterCapabilities: ...
    def configure(self) -> None:
        """Set items, rate and integration; the former set-up comes back on close."""

    def read(self) -> PowerMeterReadings: ...
    def start_integration(self) -> None: ...
    def stop_integration(self) -> None: ...
    def errors(self) -> Mapping[int, str]:
        """The device's own error queue, emptied."""


class WireTrace(Protocol):
    """Where a driver reports what went over its link."""

    def __call__(self, direction: str, data: bytes, /) -> None:
        """`direction` is `>` towards the device, `<` from it."""


def no_trace(direction: str, data: bytes) -> None:
    """A trace that keeps nothing."""
