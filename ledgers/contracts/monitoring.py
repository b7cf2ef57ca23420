"""The battery monitoring contract: what state a vehicle is in, and when its battery is stressed.

It follows the flowchart of Fig. 5 and sections 6, 8 and 9 of "Certifying battery usage for V2G and second life with a
blockchain-based framework" (Augello et al., Computer Networks 2023). `docs/contracts.md` lists each rule, its source,
and what is done where the paper contradicts itself.

`apply` is a pure function of the state before and one set of inputs. It decides

* the **state**: 0 parked, 1 stationary, 2 moving, from the gear; a connected plug means parked whatever the gear says;
* the **activity** while the plug is in: charging (G2V) or feeding the grid (V2G), told apart by the sign of the power;
* the **alarms**: raised once when a limit is passed, cleared once when the value is back by a hysteresis.

The state goes to channel monitoring; an alarm goes to channel alarms with the values that Table 2 allows there; the
begin and end of a V2G event go to channel remuneration.

>>> inputs = MonitoringInputs(vehicle_id="van", utc_s=0.0, source="obd", gear=1, plug_state=2, charge_mode=2,
...                           power_w=-5000.0, soc_percent=55.0, ambient_c=31.5)
>>> outcome = apply(None, inputs)
>>> outcome.state.activity, [event.payload["alarm"] for _, event in outcome.events if event.name == "alarm_raised"]
('v2g', ['ambient_temperature_high'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ledgers.canonical import Json, sha256_hex, to_canonical
from ledgers.contracts.contract import (
    Contract,
    Document,
    Effects,
    Event,
    Identifier,
    Input,
    Outcome,
    UtcSeconds,
    WorldState,
    refuse_function,
    text_member,
)
from ledgers.contracts.usage import UsageAnchor, anchor_usage, usage_of
from ledgers.errors import ContractRefused

MONITORING, REMUNERATION, ALARMS = "monitoring", "remuneration", "alarms"

PARKED: Final = 0
STATIONARY: Final = 1
MOVING: Final = 2
_STATE_NAMES = ("parked", "stationary", "moving")

Activity = Literal["unplugged", "connected", "g2v", "v2g"]

_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Percent = Annotated[float, Field(ge=0, le=100)]
_Power = Annotated[float, Field(ge=-1e6, le=1e6)]
_Celsius = Annotated[float, Field(ge=-60, le=150)]
_CellVolt = Annotated[float, Field(ge=0, le=6)]


def _known_gear(gear: int) -> int:
    if gear not in {0, 1, 2, 3, 4, 7}:
        raise ValueError("gear is 0 (not yet read), 1 (park), 2 (reverse), 3 (neutral), 4 (drive) or 7 (B or Eco)")
    return gear


class MonitoringParameters(BaseModel):
    """Thresholds of the alarms. "Paper" names the section; the others are engineering choices of this project."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pack_temperature_limit_c: _Celsius = 30.0  # paper, sections 3.2 and 8: above 30 degrees ageing is worst
    ambient_limit_c: _Celsius = 30.0  # paper, section 8, "higher than 30 degrees"
    temperature_hysteresis_c: _NotNegative = 1.0  # choice: twice the 0.5 degree step of a pack sensor

    soc_slope_limit_percent_per_h: _Positive = 100.0  # choice: the pack filled or emptied within an hour
    soc_slope_hysteresis_percent_per_h: _NotNegative = 10.0  # choice
    soc_slope_window_s: _Positive = 60.0  # choice: long enough that the resolution of the SOC does not matter

    rated_energy_wh: _Positive = 40_000.0  # paper, Table 3
    charge_rate_limit_c: _Positive = 1.0  # choice: quick charging; 10 kW of this charger are 0.25 C
    discharge_rate_limit_c: _Positive = 1.25  # paper, Table 3: 50 kW battery power over 40 kWh
    rate_hysteresis_c: _NotNegative = 0.05  # choice

    overcharge_soc_percent: _Percent = 98.0  # choice: a full charge of this vehicle shows 95 to 97 (from memory)
    deep_discharge_soc_percent: _Percent = 10.0  # choice
    soc_hysteresis_percent: _NotNegative = 1.0  # choice
    overcharge_cell_voltage_v: _CellVolt = 4.20  # usual end of charge of NMC and LMO cells (from memory)
    deep_discharge_cell_voltage_v: _CellVolt = 3.00  # choice: above the usual 2.5 to 2.8 V end of discharge
    cell_voltage_hysteresis_v: _NotNegative = 0.05  # choice

    idle_power_w: _NotNegative = 100.0  # choice: below this the station is connected but at rest


class MonitoringInputs(Input):
    """What the phone or the charging station reports at one moment; what it does not know is left out.

    Power and current are positive when they charge the vehicle. `gear`: 0 not yet read, 1 park, 2 reverse, 3 neutral,
    4 drive, 7 B or Eco. `plug_state`: 0 not connected, 1 partially, 2 connected. `charge_mode`: 0 not charging,
    1 level 1, 2 level 2, 3 quick charge (all from section 6 of the paper).
    """

    vehicle_id: Identifier
    utc_s: UtcSeconds
    source: Literal["obd", "charging_station"]
    gear: Annotated[int, AfterValidator(_known_gear)] = 0
    plug_state: Annotated[int, Field(ge=0, le=2)]
    charge_mode: Annotated[int, Field(ge=0, le=3)] = 0
    power_w: _Power | None = None
    current_a: Annotated[float, Field(ge=-5000, le=5000)] | None = None
    soc_percent: _Percent | None = None
    soh_percent: Annotated[float, Field(ge=0, le=150)] | None = None
    pack_temperatures_c: Annotated[tuple[_Celsius, ...], Field(min_length=1, max_length=16)] | None = None
    ambient_c: _Celsius | None = None
    cell_voltage_v: _CellVolt | None = None
    cell_voltage_min_v: _CellVolt | None = None
    cell_voltage_max_v: _CellVolt | None = None

    @model_validator(mode="after")
    def _cells_in_order(self) -> Self:
        known = [v for v in (self.cell_voltage_min_v, self.cell_voltage_v, self.cell_voltage_max_v) if v is not None]
        if known != sorted(known):
            raise ValueError("cell voltages must be in the order minimum, average, maximum")
        return self


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seconds(_State):
    """How long each state and activity has lasted so far; `hot` while a temperature alarm was raised."""

    parked: float = 0.0
    stationary: float = 0.0
    moving: float = 0.0
    g2v: float = 0.0
    v2g: float = 0.0
    hot: float = 0.0


class Seen(_State):
    """The newest report of one source, to tell a repeated one from a contradiction."""

    source: str
    utc_s: float
    digest: str


class SocReference(_State):
    """The SOC from which the slope is counted."""

    soc_percent: float
    utc_s: float


class VehicleState(_State):
    """Everything the contract remembers of one vehicle; stored as JSON on channel monitoring."""

    vehicle_id: str
    utc_s: float
    state: Literal[0, 1, 2]
    I_time_stamp_state0: float | None = None  # when "parked" last began, UTC seconds; null: never seen
    I_time_stamp_state1: float | None = None  # when "stationary" last began
    I_time_stamp_state2: float | None = None  # when "moving" last began
    activity: Activity
    activity_begin_utc_s: float
    seconds: Seconds = Seconds()
    v2g_count: int = 0
    soc_reference: SocReference | None = None
    raised: tuple[str, ...] = ()
    sequence: int = 0  # alarms written so far, raised and cleared
    alarm_count: int = 0  # alarms raised so far
    observed: dict[str, float | int | tuple[float, ...]] = Field(default_factory=dict)  # newest value of each input
    seen: tuple[Seen, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The state as a JSON object."""
        return self.model_dump(mode="json")

    @classmethod
    def read(cls, document: Document) -> VehicleState:
        """The state stored in `document`."""
        return cls.model_validate(dict(document))


def apply(
    state: VehicleState | None, inputs: MonitoringInputs, parameters: MonitoringParameters | None = None
) -> Outcome[VehicleState]:
    """The state after one report, what to write on which channel, and the events.

    A report already seen changes nothing. Raises ContractRefused for one that is older than the newest, that
    contradicts one of the same source and time, or that is of another vehicle.
    """
    limits = parameters or MonitoringParameters()
    digest = sha256_hex(to_canonical(inputs.to_json()))[:32]
    if state is not None and _is_repeated(state, inputs, digest):
        return Outcome(state, Effects())
    moved = _advance(state, inputs, limits)
    slope, reference = _soc_slope(state, inputs, limits)
    raised, changes = _judge(state.raised if state else (), inputs, slope, limits)
    after = moved.model_copy(
        update={
            "soc_reference": reference,
            "raised": raised,
            "sequence": moved.sequence + len(changes),
            "alarm_count": moved.alarm_count + sum(change.phase == "raised" for change in changes),
            "seen": _remember(moved.seen, Seen(source=inputs.source, utc_s=inputs.utc_s, digest=digest)),
        }
    )
    return Outcome(after, _effects(state, after, inputs, changes))


class MonitoringContract:
    """`apply` and the anchoring of usage records as a contract of channel monitoring.

    Transactions: `observe` (MonitoringInputs) and `usage` (UsageAnchor). Queries: `vehicle` ({"vehicle_id"}) and
    `usage` ({"session_id"}).
    """

    name = MONITORING
    version = "monitoring/1.0"
    channel = MONITORING

    def __init__(self, parameters: MonitoringParameters | None = None) -> None:
        self.parameters = parameters or MonitoringParameters()

    def transact(self, function: str, document: Document, state: WorldState) -> Effects:
        """Run `observe` or `usage`."""
        if function == "observe":
            inputs = MonitoringInputs.read(document)
            return apply(_stored(state, inputs.vehicle_id), inputs, self.parameters).effects
        if function == "usage":
            anchor = UsageAnchor.read(document)
            effects = anchor_usage(usage_of(state, MONITORING, anchor.session_id), anchor, MONITORING).effects
            return self._tell_insurers(effects, anchor, _stored(state, anchor.vehicle_id))
        raise refuse_function(self.name, function, ("observe", "usage"))

    def query(self, function: str, document: Document, state: WorldState) -> Json:
        """Answer `vehicle` or `usage`."""
        if function == "vehicle":
            vehicle_id = text_member(document, "vehicle_id", self.name)
            found = _stored(state, vehicle_id)
            if found is None:
                raise ContractRefused(f"nothing is known of vehicle {vehicle_id!r}")
            return found.to_json()
        if function == "usage":
            return _required_usage(state, MONITORING, text_member(document, "session_id", self.name))
        raise refuse_function(self.name, function, ("vehicle", "usage"))

    @staticmethod
    def _tell_insurers(effects: Effects, anchor: UsageAnchor, vehicle: VehicleState | None) -> Effects:
        """Anchor the same hash on channel alarms, with the number of alarms, for those who read nothing else."""
        if not effects.writes:
            return effects
        document = {**anchor.to_json(), "alarm_count": vehicle.alarm_count if vehicle else 0}
        return Effects(
            {**effects.writes, ALARMS: {anchor.key: document}},
            {**effects.events, ALARMS: (Event("usage_anchored", anchor.to_json()),)},
        )


# ----------------------------------------------------------------------------------------------------------- private


@dataclass(frozen=True, slots=True)
class _Rule:
    """One alarm: raised beyond `limit`, cleared when the value is back by `hysteresis`."""

    name: str
    unit: str
    value: float | None
    limit: float
    hysteresis: float
    above: bool = True

    def raised(self, was_raised: bool) -> bool:
        if self.value is None:
            return was_raised  # what was not measured neither raises nor clears
        sign = 1.0 if self.above else -1.0
        excess = sign * (self.value - self.limit)
        return excess > -self.hysteresis if was_raised else excess > 0


@dataclass(frozen=True, slots=True)
class _Change:
    rule: _Rule
    phase: Literal["raised", "cleared"]


def _stored(state: WorldState, vehicle_id: str) -> VehicleState | None:
    document = state.get(MONITORING, f"vehicle/{vehicle_id}")
    return None if document is None else VehicleState.read(document)


def _required_usage(state: WorldState, channel: str, session_id: str) -> Json:
    document = state.get(channel, f"usage/{session_id}")
    if document is None:
        raise ContractRefused(f"no usage record of session {session_id!r} is anchored on channel {channel!r}")
    return document


def _is_repeated(state: VehicleState, inputs: MonitoringInputs, digest: str) -> bool:
    if inputs.vehicle_id != state.vehicle_id:
        raise ContractRefused(f"the report is of vehicle {inputs.vehicle_id!r}, the state of {state.vehicle_id!r}")
    for seen in state.seen:
        if seen.source == inputs.source and seen.utc_s == inputs.utc_s:
            if seen.digest == digest:
                return True
            raise ContractRefused(
                f"{inputs.source} reports two different things of vehicle {inputs.vehicle_id!r} at UTC second "
                f"{inputs.utc_s:.3f}; the first one stands"
            )
    if inputs.utc_s < state.utc_s:
        raise ContractRefused(
            f"{inputs.source} reports vehicle {inputs.vehicle_id!r} at UTC second {inputs.utc_s:.3f}, which is "
            f"{state.utc_s - inputs.utc_s:.3f} s before the newest report; send reports in the order of time"
        )
    return False


def _advance(state: VehicleState | None, inputs: MonitoringInputs, limits: MonitoringParameters) -> VehicleState:
    """The state with its new motion, activity and counted seconds; alarms untouched."""
    motion = _motion(inputs)
    observed = {**(state.observed if state else {}), **_measured(inputs)}
    activity = _activity(inputs, state, limits)
    stamp = f"I_time_stamp_state{motion}"
    if state is None:
        begun = VehicleState(
            vehicle_id=inputs.vehicle_id,
            utc_s=inputs.utc_s,
            state=motion,
            activity=activity,
            activity_begin_utc_s=inputs.utc_s,
            v2g_count=int(activity == "v2g"),
            observed=observed,
        )
        return begun.model_copy(update={stamp: inputs.utc_s})
    changes: dict[str, object] = {
        "utc_s": inputs.utc_s,
        "seconds": _counted(state, inputs.utc_s - state.utc_s),
        "observed": observed,
    }
    if motion != state.state:
        changes |= {"state": motion, stamp: inputs.utc_s}
    if activity != state.activity:
        changes |= {"activity": activity, "activity_begin_utc_s": inputs.utc_s}
        changes["v2g_count"] = state.v2g_count + int(activity == "v2g")
    return state.model_copy(update=changes)


def _motion(inputs: MonitoringInputs) -> Literal[0, 1, 2]:
    """Section 6: gear 0 parked, 1 stationary, above 1 moving; a connected plug holds the vehicle whatever the gear."""
    if inputs.plug_state == 2 or inputs.gear == 0:
        return PARKED
    return STATIONARY if inputs.gear == 1 else MOVING


def _activity(inputs: MonitoringInputs, state: VehicleState | None, limits: MonitoringParameters) -> Activity:
    """Section 6: while connected, the sign of the power tells V2G from G2V."""
    if inputs.plug_state != 2:
        return "unplugged"
    if inputs.power_w is None:
        # A source that does not see the power cannot end what another one saw begin.
        return state.activity if state is not None and state.activity != "unplugged" else "connected"
    if inputs.power_w > limits.idle_power_w:
        return "g2v"
    return "v2g" if inputs.power_w < -limits.idle_power_w else "connected"


def _counted(state: VehicleState, elapsed_s: float) -> Seconds:
    """The time since the last report belongs to what was going on then."""
    before = state.seconds
    ongoing = {_STATE_NAMES[state.state]}
    if state.activity in {"g2v", "v2g"}:
        ongoing.add(state.activity)
    if any(name in _HOT for name in state.raised):
        ongoing.add("hot")
    return before.model_copy(update={name: round(getattr(before, name) + elapsed_s, 3) for name in ongoing})


def _measured(inputs: MonitoringInputs) -> dict[str, float | int | tuple[float, ...]]:
    """What was measured, without names and stamps."""
    names = set(MonitoringInputs.model_fields) - {"vehicle_id", "utc_s", "source"}
    return {name: value for name in sorted(names) if (value := getattr(inputs, name)) is not None}


def _soc_slope(
    state: VehicleState | None, inputs: MonitoringInputs, limits: MonitoringParameters
) -> tuple[float | None, SocReference | None]:
    """SOC change in percent per hour once a window has passed, and the reference for the next window."""
    reference = state.soc_reference if state else None
    if inputs.soc_percent is None:
        return None, reference
    now = SocReference(soc_percent=inputs.soc_percent, utc_s=inputs.utc_s)
    if reference is None:
        return None, now
    elapsed_s = inputs.utc_s - reference.utc_s
    if elapsed_s < limits.soc_slope_window_s:
        return None, reference
    return round(abs(inputs.soc_percent - reference.soc_percent) / elapsed_s * 3600.0, 3), now


def _rules(inputs: MonitoringInputs, slope: float | None, p: MonitoringParameters) -> tuple[_Rule, ...]:
    hottest = max(inputs.pack_temperatures_c) if inputs.pack_temperatures_c else None
    rate = None if inputs.power_w is None else inputs.power_w / p.rated_energy_wh
    charge, discharge = (None, None) if rate is None else (max(rate, 0.0), max(-rate, 0.0))
    highest = inputs.cell_voltage_v if inputs.cell_voltage_max_v is None else inputs.cell_voltage_max_v
    lowest = inputs.cell_voltage_v if inputs.cell_voltage_min_v is None else inputs.cell_voltage_min_v
    soc, soc_back, volt_back = inputs.soc_percent, p.soc_hysteresis_percent, p.cell_voltage_hysteresis_v
    warm_back = p.temperature_hysteresis_c
    steep, steep_back = p.soc_slope_limit_percent_per_h, p.soc_slope_hysteresis_percent_per_h
    low_soc, low_volt = p.deep_discharge_soc_percent, p.deep_discharge_cell_voltage_v
    return (
        _Rule("pack_temperature_high", "degC", hottest, p.pack_temperature_limit_c, warm_back),
        _Rule("ambient_temperature_high", "degC", inputs.ambient_c, p.ambient_limit_c, warm_back),
        _Rule("soc_slope_steep", "%/h", slope, steep, steep_back),
        _Rule("charge_rate_high", "C", charge, p.charge_rate_limit_c, p.rate_hysteresis_c),
        _Rule("discharge_rate_high", "C", discharge, p.discharge_rate_limit_c, p.rate_hysteresis_c),
        _Rule("overcharge_soc", "%", soc, p.overcharge_soc_percent, soc_back),
        _Rule("overcharge_cell_voltage", "V", highest, p.overcharge_cell_voltage_v, volt_back),
        _Rule("deep_discharge_soc", "%", soc, low_soc, soc_back, above=False),
        _Rule("deep_discharge_cell_voltage", "V", lowest, low_volt, volt_back, above=False),
    )


_HOT = frozenset({"pack_temperature_high", "ambient_temperature_high"})


def _judge(
    raised: tuple[str, ...], inputs: MonitoringInputs, slope: float | None, limits: MonitoringParameters
) -> tuple[tuple[str, ...], tuple[_Change, ...]]:
    """The alarms raised now, and those that were raised or cleared by this report."""
    still: list[str] = []
    changes: list[_Change] = []
    for rule in _rules(inputs, slope, limits):
        was = rule.name in raised
        now = rule.raised(was)
        if now:
            still.append(rule.name)
        if now != was:
            changes.append(_Change(rule, "raised" if now else "cleared"))
    return tuple(still), tuple(changes)


def _remember(seen: tuple[Seen, ...], newest: Seen) -> tuple[Seen, ...]:
    return (*(item for item in seen if item.source != newest.source), newest)


_ON_ALARMS = (
    "power_w",
    "current_a",
    "plug_state",
    "charge_mode",
    "pack_temperatures_c",
    "ambient_c",
    "soc_percent",
    "soh_percent",
    "cell_voltage_v",
    "cell_voltage_min_v",
    "cell_voltage_max_v",
)


def _effects(
    before: VehicleState | None, after: VehicleState, inputs: MonitoringInputs, changes: tuple[_Change, ...]
) -> Effects:
    writes: dict[str, dict[str, Document]] = {MONITORING: {f"vehicle/{after.vehicle_id}": after.to_json()}}
    events: dict[str, tuple[Event, ...]] = {}
    v2g = _v2g_event(before, after, inputs)
    if v2g is not None:
        writes[REMUNERATION] = {f"v2g/{after.vehicle_id}/{after.v2g_count:06d}/{v2g['event']}": v2g}
        events[REMUNERATION] = (Event(str(v2g["event"]), v2g),)
    if changes:
        first = after.sequence - len(changes) + 1
        documents = [_alarm(change, number, after, inputs) for number, change in enumerate(changes, first)]
        writes[ALARMS] = {f"alarm/{after.vehicle_id}/{document['sequence']:06d}": document for document in documents}
        events[ALARMS] = tuple(Event(f"alarm_{document['phase']}", document) for document in documents)
    return Effects(writes, events)


def _alarm(change: _Change, sequence: int, after: VehicleState, inputs: MonitoringInputs) -> dict[str, Json]:
    observed: Mapping[str, Json] = inputs.to_json()
    return {
        "vehicle_id": after.vehicle_id,
        "utc_s": inputs.utc_s,
        "sequence": sequence,
        "alarm": change.rule.name,
        "phase": change.phase,
        "value": change.rule.value,
        "limit": change.rule.limit,
        "unit": change.rule.unit,
        "observed": {name: observed[name] for name in _ON_ALARMS if name in observed},
    }


def _v2g_event(before: VehicleState | None, after: VehicleState, inputs: MonitoringInputs) -> dict[str, Json] | None:
    """The begin or end of a V2G event, as those who pay for it see it; None when neither happened."""
    was, now = before is not None and before.activity == "v2g", after.activity == "v2g"
    if was == now:
        return None
    document: dict[str, Json] = {
        "vehicle_id": after.vehicle_id,
        "utc_s": inputs.utc_s,
        "event": "v2g_begin" if now else "v2g_end",
    }
    if inputs.power_w is not None:
        document["power_w"] = inputs.power_w
    if before is not None and was:
        document["begin_utc_s"] = before.activity_begin_utc_s
        document["duration_s"] = round(inputs.utc_s - before.activity_begin_utc_s, 3)
    return document


_: type[Contract] = MonitoringContract
