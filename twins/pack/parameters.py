"""What a pack is made of: frozen, judged, and written to and read from pack files (`twins/pack/packs/*.yaml`).

A pack file is what identification (`v2gbench fit`) writes and what a station or scenario names; every value has its
allowed range, and a value outside of it is refused with line, key and range. Resistances are those of the whole pack
at 25 degC, voltages those of one series group, unless the name says otherwise.

Sources are named per value. "captures" are public recordings of 40 kWh vans and cars (OBDb/Nissan-Leaf,
dalathegreat/EV-CANlogs, furdog/leaf_can_filter) as decoded for this project.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

from drivers.documents import load_model
from drivers.errors import ConfigError

PACK_SCHEMA = "v2gbench.pack/1.0"

Point = tuple[float, float]
Ratio = Annotated[float, Field(ge=0, le=1)]


def _rising(values: Sequence[float], name: str) -> None:
    for before, after in pairwise(values):
        if not after > before:
            raise ValueError(f"{name} must rise: {after:g} stands after {before:g}")


class Part(BaseModel):
    """A group of keys: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CellParameters(Part):
    """One series group at rest, and how it ages: two half-cell curves make the open-circuit voltage.

    `open_circuit_v` is the full-cell curve of a new group, (state of charge in percent, volts) from 0 to 100 %. The
    graphite curve is a published one; the cathode's is the sum of both, so that the new cell meets its curve exactly.
    """

    open_circuit_v: tuple[Point, ...] = Field(min_length=5, description="(SOC in %, V) of a new group at rest")
    anode_empty: float = Field(default=0.035, ge=0.0, le=0.1, description="graphite stoichiometry at 0 % when new")
    anode_full: float = Field(default=0.78, ge=0.5, le=1.0, description="graphite stoichiometry at 100 % when new")
    cathode_empty: float = Field(default=0.92, ge=0.6, le=1.0, description="cathode stoichiometry at 0 % when new")
    cathode_full: float = Field(default=0.36, ge=0.1, le=0.6, description="cathode stoichiometry at 100 % when new")
    entropic_v_per_k: tuple[Point, ...] = Field(
        default=((0.0, -0.00025), (20.0, -0.0001), (40.0, 0.00005), (60.0, 0.00012), (100.0, 0.00005)),
        description="(SOC in %, V/K); shape of NMC against graphite, from memory",
    )
    hysteresis_v: float = Field(default=0.0, ge=0, le=0.05, description="half width, in V; 0 where not identified")
    hysteresis_rate: float = Field(default=30.0, gt=0, le=1000, description="per full charge moved")
    self_discharge_percent_per_month: float = Field(default=0.3, ge=0, le=20, description="of capacity; from memory")

    @model_validator(mode="after")
    def _curves_run_upwards(self) -> Self:
        socs = [soc for soc, _ in self.open_circuit_v]
        if socs[0] != 0.0 or socs[-1] != 100.0:
            raise ValueError("open_circuit_v must begin at 0 % and end at 100 %")
        for (soc_0, volt_0), (soc_1, volt_1) in pairwise(self.open_circuit_v):
            if not (soc_1 > soc_0 and volt_1 > volt_0):
                raise ValueError(f"open_circuit_v must rise: {volt_1:g} V at {soc_1:g} % stands after {volt_0:g} V")
            if not (2.0 <= volt_0 <= 4.5 and 2.0 <= volt_1 <= 4.5):
                raise ValueError("open_circuit_v is of one group and lies between 2.0 and 4.5 V")
        _rising([soc for soc, _ in self.entropic_v_per_k], "entropic_v_per_k")
        if any(abs(value) > 0.002 for _, value in self.entropic_v_per_k):
            raise ValueError("entropic_v_per_k lies between -0.002 and 0.002 V/K")
        return self


class ResistanceParameters(Part):
    """Series resistance and two RC elements of the whole pack at 25 degC, over the state of charge.

    The three lists have one value per entry of `soc_percent`. Discharge has a factor of its own; for an RC element the
    direction is that of its filtered current. All follow one Arrhenius law.
    """

    soc_percent: tuple[float, ...] = (0.0, 10.0, 20.0, 50.0, 80.0, 100.0)
    series_ohm: tuple[float, ...] = (0.075, 0.062, 0.052, 0.048, 0.049, 0.053)
    fast_ohm: tuple[float, ...] = (0.022, 0.016, 0.013, 0.012, 0.012, 0.013)
    slow_ohm: tuple[float, ...] = (0.050, 0.026, 0.016, 0.015, 0.015, 0.016)
    fast_s: float = Field(
        default=60.0, gt=1, le=600, description="time constant, in s (55 to 70 s, HPPC of a 33 Ah cell)"
    )
    slow_s: float = Field(default=1800.0, gt=10, le=20_000, description="time constant, in s (1500 to 3500 s, same)")
    discharge_factor: float = Field(default=1.0, ge=0.5, le=2, description="resistance of discharge over charge")
    activation_j_per_mol: float = Field(
        default=20_000.0,
        ge=0,
        le=80_000,
        description="Arrhenius; 20 kJ/mol doubles from 25 to 0 °C (captures, estimate)",
    )

    @model_validator(mode="after")
    def _lists_belong_together(self) -> Self:
        _rising(self.soc_percent, "soc_percent")
        if not (self.soc_percent[0] >= 0.0 and self.soc_percent[-1] <= 100.0):
            raise ValueError("soc_percent lies between 0 and 100 %")
        for name in ("series_ohm", "fast_ohm", "slow_ohm"):
            values: tuple[float, ...] = getattr(self, name)
            if len(values) != len(self.soc_percent):
                raise ValueError(f"{name} has {len(values)} values and soc_percent has {len(self.soc_percent)}")
            if not all(0.0 < value < 2.0 for value in values):
                raise ValueError(f"{name} is of the whole pack, in ohm, between 0 and 2")
        return self


class SpreadParameters(Part):
    """How the groups differ: normal, drawn once from the seed."""

    capacity_sd_percent: float = Field(default=0.8, ge=0, le=10, description="standard deviation, in %; estimate")
    resistance_sd_percent: float = Field(default=2.0, ge=0, le=20, description="standard deviation, in %; estimate")
    self_discharge_sd_percent: float = Field(default=15.0, ge=0, le=100, description="of the mean rate, in %; estimate")
    balancing_a: float = Field(default=0.0, ge=0, le=1, description="current of a group's shunt, in A; 0 for none")


class ThermalParameters(Part):
    """Cells, module plates (where the sensors sit) and casing in a chain to the air; fan, evaporator and heater.

    air: loss of the casing = still_air + per_km_h x speed. The forced-air branch couples the plates to the duct.
    """

    cells_j_per_k: float = Field(
        default=176_000.0, ge=1e4, le=1e6, description="192 cells x 0.917 kg x 1000 J/(kg K) (estimate for NMC pouch)"
    )
    plates_j_per_k: float = Field(default=30_000.0, ge=1e3, le=5e5, description="module plates; estimate")
    casing_j_per_k: float = Field(default=60_000.0, ge=1e3, le=5e5, description="casing and frame; estimate")
    cells_to_plates_w_per_k: float = Field(default=150.0, ge=0.1, le=5000, description="estimate")
    plates_to_casing_w_per_k: float = Field(default=30.0, ge=0.1, le=5000, description="estimate")
    still_air_w_per_k: float = Field(default=8.0, ge=0, le=500, description="casing to air at rest; from memory")
    air_w_per_k_per_km_h: float = Field(default=0.15, ge=0, le=20, description="growth with road speed; estimate")
    fan_w_per_k: float = Field(default=0.0, ge=0, le=500, description="plates to duct with the fan on; 0 for no fan")
    fan_on_c: float = Field(default=33.0, ge=0, le=60, description="plates, while plugged in; from memory")
    fan_off_c: float = Field(default=28.0, ge=0, le=60, description="from memory")
    evaporator_c: float | None = Field(
        default=None, ge=-10, le=30, description="duct air behind the evaporator, in °C; left out: the fan blows air"
    )
    heater_w: float = Field(default=0.0, ge=0, le=5000, description="heater in the plates; 0 for none")
    heater_on_c: float = Field(default=-17.0, ge=-40, le=10, description="about -20 °C (owner's manual)")
    heater_off_c: float = Field(default=-10.0, ge=-40, le=20, description="about -10 °C (owner's manual)")
    heater_soc_percent: float = Field(
        default=30.0, ge=0, le=100, description="blocked below unless plugged in (manual)"
    )
    rapid_heat_factor: float = Field(
        default=1.0, ge=1, le=3, description="heat of a rapid charge over R I^2; 1.2 to 1.8 fits 62 kWh cars"
    )

    @model_validator(mode="after")
    def _switches_have_a_band(self) -> Self:
        if not self.fan_off_c < self.fan_on_c:
            raise ValueError(f"fan_off_c: {self.fan_off_c:g} must lie below fan_on_c: {self.fan_on_c:g}")
        if not self.heater_on_c < self.heater_off_c:
            raise ValueError(f"heater_on_c: {self.heater_on_c:g} must lie below heater_off_c: {self.heater_off_c:g}")
        return self


class AgingParameters(Part):
    """Which published law ages the pack, and the two scales that fit it to a car."""

    law: str = Field(default="b1", description="a name from twins.pack.laws")
    calendar_scale: float = Field(default=1.0, ge=0, le=10, description="multiplies the calendar loss")
    cycle_scale: float = Field(default=1.0, ge=0, le=10, description="multiplies the cycle loss")
    lithium_share: Ratio = Field(
        default=0.15,
        description="of a loss: shifts the half cells against each other, the rest shrinks both alike (estimate: rest "
        "voltages of cars at 83 to 98 % lie on one curve, which lost lithium alone would not give)",
    )
    c_rate: Literal["elapsed", "flowing"] = Field(
        default="elapsed",
        description="of a cycle's leg: depth over the time between its turning points, or over its time of current",
    )
    cold_charging: bool = Field(default=False, description="extra stress of charging below 10 °C, shown apart")


class LimitParameters(Part):
    """What the battery management system permits, and where the cells themselves end."""

    charge_w: float = Field(default=70_000.0, gt=0, le=1e6, description="17 to 21 °C, 58 % (captures)")
    discharge_w: float = Field(default=110_000.0, gt=0, le=1e6, description="17 to 21 °C (captures)")
    lowest_group_v: float = Field(default=2.5, ge=1.5, le=3.5, description="of the weakest group under load")
    highest_group_v: float = Field(default=4.25, ge=3.8, le=4.5, description="of the highest group under load")


class Estimate(Part):
    """What identification says of one parameter: posterior mean and standard deviation, or that it is not known."""

    mean: float
    sd: float = Field(ge=0)
    identified: bool


class PackParameters(Part):
    """A pack; see the parts for units, ranges and sources."""

    schema_: Annotated[Literal["v2gbench.pack/1.0"], Field(alias="schema")] = "v2gbench.pack/1.0"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="of the pack file")
    chemistry: str = Field(default="NMC/graphite", description="for people to read")
    groups_in_series: int = Field(default=96, ge=1, le=400)
    cells_in_parallel: int = Field(default=2, ge=1, le=100)
    capacity_ah: float = Field(gt=1, le=1000, description="of the new pack, BMS count")
    new_full_energy_wh: float = Field(gt=100, le=1e6, description="frame 0x59E of the new pack")
    cell: CellParameters
    resistance: ResistanceParameters
    spread: SpreadParameters = SpreadParameters()
    thermal: ThermalParameters
    aging: AgingParameters = AgingParameters()
    limits: LimitParameters = LimitParameters()
    sensor_offsets_c: tuple[Annotated[float, Field(ge=-20, le=20)], ...] = Field(
        default=(0.4, -0.3, 0.2, -0.3),
        min_length=4,
        max_length=4,
        description="of the thermistors against the plates; estimate",
    )
    estimates: dict[str, Estimate] = Field(default={}, description="posterior of what was identified from logs")
    source: str = Field(default="", description="where the values come from, for people to read")


@cache
def shipped_pack(name: str) -> PackParameters:
    """A pack that comes with the twins, by name; raises ConfigError naming those that there are."""
    folder = resources.files("twins.pack") / "packs"
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in names:
        raise ConfigError(f"no pack called {name!r} comes with the twins; there are {', '.join(names)}")
    with resources.as_file(folder / f"{name}.yaml") as path:
        return load_pack(path)


def resolve_pack(pack: str, folder: Path) -> PackParameters:
    """The pack that a file in `folder` names: a pack file (relative paths start in `folder`), or a shipped one's name.

    Raises ConfigError where it is neither.
    """
    path = folder / Path(pack).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return load_pack(path)
    return shipped_pack(pack)


def load_pack(path: Path) -> PackParameters:
    """Read a pack file; raises ConfigError with line, key and allowed range."""
    return load_model(path, PackParameters, what="pack file", schema=PACK_SCHEMA)


def dump_pack(pack: PackParameters) -> str:
    """The pack as the YAML text of a pack file, which `load_pack` reads back equal."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 110
    out = io.StringIO()
    yaml.dump(pack.model_dump(mode="json", by_alias=True, exclude_none=True), out)
    return out.getvalue()
