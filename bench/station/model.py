"""What may stand in a station file: frozen models, one class per group of keys, and nothing else is let in.

The station file is the only thing that changes between emulated and metal, so it must be impossible to misread: units
stand in the names of keys, types are strict (`"45"` is not 45), unknown keys are refused, every time-out is bounded.
These classes judge one group at a time; what several groups say together is judged by `bench.station.checks`.

The JSON schema that is shipped (`stations/station.schema.json`) is made from these classes, descriptions and all.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from bench.station.address import Address, parse_address, parse_listen
from bench.station.secrets import Secret

SCHEMA_NAME = "v2gbench.station"
SCHEMA_MAJOR = 1
SCHEMA = f"{SCHEMA_NAME}/{SCHEMA_MAJOR}.0"
DEFAULT_START_UTC = "2026-01-15T08:00:00Z"
DEFAULT_CHARGER_WATCHDOG_S = 10.0

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Seconds = Annotated[float, Field(gt=0, le=60)]


class Part(BaseModel):
    """A group of keys: frozen, strict, closed. Input is hidden in errors because it may hold a misplaced secret."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, use_enum_values=False
    )


# Twins


class GainFault(Part):
    """The witness reports too much or too little."""

    kind: Literal["gain"]
    percent: float = Field(ge=-50, le=50, description="what is added to every power that the witness reports, in %")


class SignFault(Part):
    """The witness is wired the wrong way round."""

    kind: Literal["sign"]


class FrozenFault(Part):
    """The witness repeats its last value."""

    kind: Literal["frozen"]
    after_s: float = Field(default=0.0, ge=0, le=1e7, description="session time from which it repeats itself, in s")


class ClockFault(Part):
    """What the witness reports is old."""

    kind: Literal["clock"]
    offset_s: float = Field(gt=0, le=3600, description="age of what the witness reports, in s")


PlantedFault = Annotated[GainFault | SignFault | FrozenFault | ClockFault, Field(discriminator="kind")]
_FAULT = "a fault planted in this witness, to see that certification names it: kind gain, sign, frozen or clock"


class PowerErrors(Part):
    """Data sheet of a witness that measures power; what is left out is the twin's own. Drawn once from the seed."""

    gain_percent: float | None = Field(default=None, ge=0, le=20, description="gain error, half-width (k = 2), in %")
    offset_w: float | None = Field(default=None, ge=0, le=1000, description="offset error, half-width (k = 2), in W")
    noise_w: float | None = Field(default=None, ge=0, le=1000, description="standard deviation of one value, in W")
    resolution_w: float | None = Field(default=None, ge=0, le=1000, description="step of the reported value, in W")


class CurrentErrors(Part):
    """Data sheet of a BMS, whose power follows from its current. Drawn once from the seed."""

    gain_percent: float | None = Field(default=None, ge=0, le=20, description="gain error, half-width (k = 2), in %")
    offset_a: float | None = Field(default=None, ge=0, le=10, description="offset error, half-width (k = 2), in A")
    noise_a: float | None = Field(default=None, ge=0, le=10, description="standard deviation of one value, in A")
    resolution_a: float | None = Field(default=None, ge=0, le=10, description="step of the reported value, in A")


class TwinPart(Part):
    """What all twins have in common: the faces that they show, and their parameters by name."""

    faces: ClassVar[tuple[str, ...]] = ()
    links: ClassVar[Mapping[str, str]] = {}  # key that names another twin -> first word of that twin's kind

    def parameters(self) -> dict[str, float | int | str]:
        """The parameters that have a value, by name; no kind, no links, neither errors nor fault."""
        return {
            name: value
            for name, value in self
            if isinstance(value, int | float | str) and name not in {"kind", "charge_point", "pack", *self.links}
        }


class GridTwin(TwinPart):
    """The low-voltage connection point of the charger; EN 50160 bounds voltage and frequency."""

    kind: Literal["grid.lv"]
    nominal_voltage_v: float = Field(default=230.0, ge=207, le=253, description="line to neutral, in V")
    nominal_frequency_hz: float = Field(default=50.0, ge=47, le=52, description="in Hz")
    resistance_ohm: float = Field(default=0.25, ge=0, le=5, description="of the feeder, one phase, in ohm")


class VehicleTwin(TwinPart):
    """The e-NV200 40 kWh: pack, battery management system and control units."""

    faces: ClassVar[tuple[str, ...]] = ("elm327", "can")

    kind: Literal["vehicle.env200_40kwh"]
    soc_percent: float = Field(default=55.0, ge=0, le=100, description="state of charge at the start, in %")
    soh_percent: float = Field(default=97.0, ge=50, le=100, description="state of health, in %")
    ambient_c: float = Field(default=22.0, ge=-30, le=50, description="air around the van, in °C")
    pack_temperature_c: float | None = Field(
        default=None, ge=-30, le=60, description="pack at the start, in °C; the air's where it is left out"
    )
    odometer_km: int = Field(default=48_210, ge=0, le=999_999, description="in km")
    every_group: bool = Field(
        default=False, description="carry all 96 series groups one by one instead of mean, weakest and strongest"
    )
    pack: str | None = Field(
        default=None,
        min_length=1,
        description="its battery: a pack file beside the station file, or the name of one that comes with the twins",
    )
    errors: CurrentErrors | None = Field(default=None, description="data sheet of the battery management system")
    fault: PlantedFault | None = Field(default=None, description=_FAULT)


class ChargerTwin(TwinPart):
    """The AME V2G three-phase 10 kW charger."""

    faces: ClassVar[tuple[str, ...]] = ("modbus", "ocpp")
    links: ClassVar[Mapping[str, str]] = {"grid": "grid", "vehicle": "vehicle"}

    kind: Literal["charger.ame_v2g_3p10"]
    grid: str = Field(description="the name of the grid twin that feeds it")
    vehicle: str = Field(description="the name of the vehicle twin at its parking place")
    charge_point: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._~-]{1,48}$",
        description="its id at the central system; the twin's name where it is left out",
    )
    max_charge_w: float = Field(default=10_000.0, gt=0, le=10_000, description="rating into the vehicle, in W")
    max_discharge_w: float = Field(default=10_000.0, gt=0, le=10_000, description="rating out of the vehicle, in W")
    standby_w: float = Field(default=35.0, ge=0, le=1000, description="draw while nothing is charged, in W")
    ramp_up_w_per_s: float = Field(default=2_000.0, gt=0, le=1e6, description="how fast power grows, in W/s")
    ramp_down_w_per_s: float = Field(default=5_000.0, gt=0, le=1e6, description="how fast power shrinks, in W/s")
    heartbeat_timeout_s: float = Field(
        default=10.0, gt=0, le=3600, description="silence of the controller after which it goes to 0 W, in s"
    )
    serial: str = Field(default="AME-V2G3P10-0001", min_length=1, max_length=32, description="its serial number")
    errors: PowerErrors | None = Field(default=None, description="data sheet of its meter")
    fault: PlantedFault | None = Field(default=None, description=_FAULT)


class AnalyzerTwin(TwinPart):
    """The power analyzer, which sees the AC and the DC side of one charger."""

    faces: ClassVar[tuple[str, ...]] = ("scpi",)
    links: ClassVar[Mapping[str, str]] = {"measures": "charger"}

    kind: Literal["instrument.power_analyzer"]
    measures: str = Field(description="the name of the charger twin whose AC and DC side it sees")
    errors: PowerErrors | None = Field(default=None, description="data sheet of its power measurement")
    fault: PlantedFault | None = Field(default=None, description=_FAULT)


Twin = Annotated[GridTwin | VehicleTwin | ChargerTwin | AnalyzerTwin, Field(discriminator="kind")]


# Devices


def _checked_address(text: str) -> str:
    parse_address(text)
    return text


def _checked_listen(text: str) -> str:
    parse_listen(text)
    return text


_DRIVER = "the word of a driver for this role; 'v2gbench doctor' lists those installed"
_SERIAL = "the serial number that the device must report; another one stops the run"
_POLL = "time between two readings, in s; every cycle where it is left out"


class StatedAccuracy(Part):
    """Data sheet or calibration certificate of a witness, for the power that it measures."""

    gain_percent: float = Field(ge=0, le=20, description="gain error, half-width (k = 2), in %")
    offset_w: float = Field(ge=0, le=1000, description="offset error, half-width (k = 2), in W")


class DevicePart(Part):
    """What all devices have in common."""

    driver: str = Field(min_length=1, description=_DRIVER)
    at: Annotated[str, AfterValidator(_checked_address)] = Field(
        description="where it listens: twin:<twin>/<face>, tcp://…, serial://…, can://…, visa://… or ocpp:<id>"
    )
    serial: str | None = Field(default=None, min_length=1, max_length=64, description=_SERIAL)
    reply_s: Seconds = Field(default=2.0, description="longest wait for one answer, in s")
    accuracy: StatedAccuracy | None = Field(
        default=None, description="of this witness, from its data sheet; the driver's own where it is left out"
    )

    @property
    def address(self) -> Address:
        """`at`, taken apart."""
        return parse_address(self.at)


class ChargerDevice(DevicePart):
    """A bidirectional charger."""

    role: Literal["charger"]
    profile: str | None = Field(
        default=None, min_length=1, description="register map of the make, for driver modbus (sunspec_der, …)"
    )
    charge_point: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._~-]{1,48}$",
        description="the id under which a Modbus charger also dials in to the central system",
    )
    watchdog: Literal["none"] | None = Field(
        default=None, description="'none' says that nobody brings this charger to 0 W when the bench falls silent"
    )
    watchdog_s: float | None = Field(
        default=None, ge=1, le=600, description="silence of the bench after which the device itself goes to 0 W, in s"
    )
    poll_s: Seconds | None = Field(default=None, description=_POLL)

    @model_validator(mode="after")
    def _watchdog_is_said_once(self) -> Self:
        if self.watchdog is not None and self.watchdog_s is not None:
            raise ValueError("'watchdog: none' and 'watchdog_s' contradict each other; keep one of them")
        return self


class VehicleDevice(DevicePart):
    """A vehicle whose battery management system answers questions."""

    role: Literal["vehicle"]
    poll_s: Seconds = Field(default=10.0, description="time between two readings, in s")


class PowerMeterDevice(DevicePart):
    """A power analyzer."""

    role: Literal["power_meter"]
    poll_s: Seconds | None = Field(default=None, description=_POLL)


Device = Annotated[ChargerDevice | VehicleDevice | PowerMeterDevice, Field(discriminator="role")]


# The rest of the station


class Csms(Part):
    """The OCPP central system that the bench runs, to which chargers dial in."""

    ocpp: Literal["1.6"] = Field(description='version, in quotes: "1.6"')
    listen: Annotated[str, AfterValidator(_checked_listen)] = Field(
        description="host:port; port 0 takes any free one, 127.0.0.1 lets in this machine only"
    )
    security: Literal["none", "basic"] = Field(description="none, or basic for user and password (security profile 1)")
    password: Secret | None = Field(default=None, description="of the charge points: env:NAME or file:PATH")
    heartbeat_s: int = Field(default=300, ge=1, le=86_400, description="heartbeat that is asked of charge points, in s")
    meter_values_s: int = Field(default=60, ge=1, le=3600, description="MeterValues that are asked of them, every … s")

    @model_validator(mode="after")
    def _password_fits_security(self) -> Self:
        if self.security == "basic" and self.password is None:
            raise ValueError("'security: basic' needs a password; add 'password: env:NAME' or 'password: file:PATH'")
        if self.security == "none" and self.password is not None:
            raise ValueError("a password is not used with 'security: none'; write 'security: basic' or take it away")
        return self

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return parse_listen(self.listen)[0]

    @property
    def port(self) -> int:
        """The port that it listens on, 0 for any free one."""
        return parse_listen(self.listen)[1]


class Limit(Part):
    """A closed range that trips the bench, and where warnings begin inside it; every class below states its unit."""

    unit: ClassVar[str] = ""
    min: float | None = None
    max: float | None = None
    warn: float | None = Field(default=None, description="from here up to max is the warning band")
    warn_below: float | None = Field(default=None, description="from here down to min is the warning band")

    @model_validator(mode="after")
    def _bands_lie_inside(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min, max or both")
        if self.warn is not None and self.max is None:
            raise ValueError(f"warn: {self.warn:g} needs a max above it, where the bench trips; add max")
        if self.warn_below is not None and self.min is None:
            raise ValueError(f"warn_below: {self.warn_below:g} needs a min below it, where the bench trips; add min")
        named = [("min", self.min), ("warn_below", self.warn_below), ("warn", self.warn), ("max", self.max)]
        given = [(name, value) for name, value in named if value is not None]
        for (lower, low), (upper, high) in itertools.pairwise(given):
            if not low < high:
                raise ValueError(
                    f"{lower}: {low:g} is not below {upper}: {high:g}, but {' < '.join(name for name, _ in given)} "
                    f"must hold; correct one of them"
                )
        return self

    def inequality(self, quantity: str) -> str:
        """The limit as it is printed: `10 <= soc_percent <= 97`."""
        low = "" if self.min is None else f"{self.min:g} <= "
        return f"{low}{quantity}" + ("" if self.max is None else f" <= {self.max:g}")


class TemperatureLimit(Limit):
    """Hottest and coldest pack sensor."""

    unit: ClassVar[str] = "°C"
    min: float | None = Field(default=None, ge=-40, le=80, description="trips below, in °C")
    max: float | None = Field(default=None, ge=-40, le=80, description="trips above, in °C")


class PowerLimit(Limit):
    """AC power of the charger; 0 W, the safe state, must lie inside."""

    unit: ClassVar[str] = "W"
    min: float = Field(ge=-1e6, le=0, description="trips below, in W; negative power discharges the vehicle")
    max: float = Field(ge=0, le=1e6, description="trips above, in W; positive power charges the vehicle")


class PercentLimit(Limit):
    """State of charge."""

    unit: ClassVar[str] = "%"
    min: float | None = Field(default=None, ge=0, le=100, description="trips below, in %")
    max: float | None = Field(default=None, ge=0, le=100, description="trips above, in %")


class CellVoltageLimit(Limit):
    """Lowest and highest cell group."""

    unit: ClassVar[str] = "V"
    min: float | None = Field(default=None, ge=0, le=5, description="trips below, in V")
    max: float | None = Field(default=None, ge=0, le=5, description="trips above, in V")


class PackVoltageLimit(Limit):
    """Whole pack."""

    unit: ClassVar[str] = "V"
    min: float | None = Field(default=None, ge=0, le=1500, description="trips below, in V")
    max: float | None = Field(default=None, ge=0, le=1500, description="trips above, in V")


class Limits(Part):
    """What the bench guards in every cycle; beyond a limit it goes to the safe state and the run ends."""

    power_w: PowerLimit = Field(description="AC power of the charger, in W: {min, max}")
    pack_temperature_c: TemperatureLimit | None = Field(default=None, description="hottest and coldest sensor, in °C")
    soc_percent: PercentLimit | None = Field(default=None, description="state of charge, in %")
    cell_voltage_v: CellVoltageLimit | None = Field(default=None, description="lowest and highest cell group, in V")
    pack_voltage_v: PackVoltageLimit | None = Field(default=None, description="whole pack, in V")

    def given(self) -> dict[str, Limit]:
        """The limits that are set, by key."""
        return {name: value for name, value in self if isinstance(value, Limit)}


class Ledger(Part):
    """Where records go."""

    kind: Literal["embedded"] = Field(description="embedded: in the run folder, nothing to install")


_TARIFF = "tariff file, beside the station file or one that comes with the bench"


class EmbeddedSettlement(Part):
    """Accounts in the run folder pay for a verified record."""

    kind: Literal["embedded"] = Field(description="embedded: accounts in the run folder, nothing to install")
    tariff: str = Field(min_length=1, description=_TARIFF)


class BitcoinRate(Part):
    """What a bitcoin is worth: stated here and in the receipt, never fetched."""

    eur_per_btc: str = Field(
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$", description='EUR for one bitcoin, in quotes: "100000" or "98765.43"'
    )
    source: str = Field(min_length=1, max_length=200, description="who states this rate, in words for the receipt")

    @model_validator(mode="after")
    def _a_bitcoin_is_worth_something(self) -> Self:
        if Fraction(self.eur_per_btc) == 0:
            raise ValueError("a rate of 0 EUR makes every amount infinite; 'eur_per_btc' must be above 0")
        return self


class LightningSettlement(Part):
    """Real Lightning nodes on a private regtest chain, started for the session, pay for a verified record."""

    kind: Literal["lightning"] = Field(description="lightning: real btcd and lnd on regtest, built on first use")
    tariff: str = Field(min_length=1, description=_TARIFF)
    mode: Literal["post_paid", "hold", "stream"] = Field(
        default="hold",
        description="post_paid: invoices after the record verified; hold: money waits at the payee's node until then, "
        "for each slice of energy before it flows where 'slice_wh' is given; stream: paid as energy flows",
    )
    slice_wh: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="hold only: size of a slice, in Wh; without it one hold at the end",
    )
    every_s: float = Field(default=60.0, ge=1, le=3600, description="stream only: time between two payments, in s")
    every_wh: int | None = Field(
        default=None, ge=1, le=1_000_000, description="stream only: a payment is due sooner after so much energy, in Wh"
    )
    grace_s: float = Field(
        default=120.0, ge=0, le=3600, description="stream only: energy stops so long after a missed payment, in s"
    )
    keysend: bool = Field(default=False, description="stream only: spontaneous payments, without invoices")
    rate: BitcoinRate = Field(description="what a bitcoin is worth: {eur_per_btc, source}")

    @model_validator(mode="after")
    def _keys_fit_the_mode(self) -> Self:
        for mode, keys in _KEYS_OF_MODE.items():
            strangers = [key for key in keys if key in self.model_fields_set and mode != self.mode]
            if strangers:
                raise ValueError(
                    f"'{strangers[0]}' belongs to 'mode: {mode}' and contradicts 'mode: {self.mode}'; "
                    "take it away or change the mode"
                )
        return self


_KEYS_OF_MODE = {"hold": ("slice_wh",), "stream": ("every_s", "every_wh", "grace_s", "keysend")}


Settlement = Annotated[EmbeddedSettlement | LightningSettlement, Field(discriminator="kind")]


class Keys(Part):
    """Where the signing keys of witnesses and parties come from."""

    kind: Literal["files", "seed"] = Field(
        default="files", description="files: random keys made by 'v2gbench init'; seed: emulated stations only"
    )
    folder: str | None = Field(
        default=None, min_length=1, description="of the key files; ~/.config/v2gbench/keys/<station> where left out"
    )

    @model_validator(mode="after")
    def _a_seed_needs_no_folder(self) -> Self:
        if self.kind == "seed" and self.folder is not None:
            raise ValueError("'kind: seed' and 'folder' contradict each other; keep one of them")
        return self


class StationModel(Part):
    """Everything that a station file says."""

    schema_name: str = Field(
        default=SCHEMA, alias="schema", description=f"version of this file format, {SCHEMA} where it is left out"
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$",
        description="the station's name: up to 48 letters, digits, '_' and '-'",
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**63 - 1, description="of all chance in the twins; needed as soon as there are twins"
    )
    clock: Literal["stepped", "wall"] = Field(description="stepped: simulated time, twins only; wall: real time")
    start_utc: AwareDatetime | None = Field(
        default=None, description=f"simulated UTC at the start of a stepped run, {DEFAULT_START_UTC} where left out"
    )
    cycle_s: float = Field(default=1.0, ge=0.1, le=60, description="length of one measure-guard-act-record cycle, in s")
    twins: Mapping[Name, Twin] = Field(default_factory=dict, description="what is emulated, by name")
    devices: Mapping[Name, Device] = Field(description="what the bench talks to, by name: one charger at least")
    csms: Csms | None = Field(default=None, description="the OCPP central system of the bench")
    limits: Limits = Field(description="what the bench guards in every cycle")
    ledger: Ledger = Field(default=Ledger(kind="embedded"), description="where records go")
    settlement: Settlement = Field(description="who pays whom for a verified record")
    keys: Keys | None = Field(
        default=None, description="signing keys; from the seed when all is emulated, else files, where left out"
    )
    runs: str = Field(
        default="runs", min_length=1, description="folder of run folders, below the folder that v2gbench is started in"
    )
