"""What an aged pack is worth to its next owner: tests on the twin, its history, a grade with reasons.

In the manner of ANSI/CAN/UL 1974, which asks for capacity, resistance and self-discharge of a used pack, and for what
it went through. The tests run on a copy of the twin: nothing here was measured on metal, nobody certified anything,
and no conformity is claimed. The grades and their limits are this project's own (`twins.scenarios.grading`).

Tests, at 25 °C (choices of this project):

- capacity: charged at C/6 until the pack takes no more, rested for an hour, discharged with C/3 of power until it
  gives no more or the weakest group reaches its limit; the same on a new pack is 100 %;
- resistance: at half charge and after four days of rest, 10 s of discharge with 1 C of power; change of voltage over
  change of current;
- self-discharge: thirty days of rest from half charge.

Self-discharge and the weakest group are inputs of the pack file: the twin's do not change with age, and its test finds
what the file says. They are judged, because a pack file may come from a measured pack, and marked as inputs.

The twin ages in the test room too, by less than 0.1 % of its capacity before the discharge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twins.pack.model import PackModel
from twins.pack.series import Drive, PackState, advance
from twins.pack.snapshot import snapshot
from twins.pack.uses import Use
from twins.scenarios.grading import PACK_INPUT, Findings, Grade, GradeRules, StressHistory
from twins.scenarios.life import Life

SECOND_LIFE_SCHEMA: Final = "v2gbench.second_life/1.0"

TEST_C: Final = 25.0
_CHARGE_HOURS, _DISCHARGE_HOURS = 6.0, 3.0
_REST_S, _PULSE_S, _STEP_S = 3600, 10, 10
_SELF_DISCHARGE_DAYS: Final = 30
_FULL_POWER_SHARE: Final = 0.02  # of the test's power: what still flows counts as nothing

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BenchTest:
    """What the tests found on one pack."""

    capacity_ah: float
    energy_wh: float
    resistance_ohm: float
    self_discharge_percent_per_month: float


@dataclass(frozen=True, slots=True)
class SecondLife:
    """The report: tests of the aged and of the new pack, history, and the grade."""

    name: str
    aged: BenchTest
    new: BenchTest
    weakest_group_percent: float
    history: StressHistory
    grade: Grade

    @property
    def capacity_percent(self) -> float:
        """Capacity of the aged pack, in % of the new one's in the same test."""
        return 100.0 * self.aged.capacity_ah / self.new.capacity_ah

    @property
    def resistance_percent(self) -> float:
        """Resistance of the aged pack, in % of the new one's in the same test."""
        return 100.0 * self.aged.resistance_ohm / self.new.resistance_ohm

    def document(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "schema": SECOND_LIFE_SCHEMA,
            "manner_of": "ANSI/CAN/UL 1974; simulated, no conformity claimed, limits are the project's own",
            "capacity_ah": self.aged.capacity_ah,
            "capacity_percent": self.capacity_percent,
            "energy_wh": self.aged.energy_wh,
            "energy_new_wh": self.new.energy_wh,
            "resistance_ohm": self.aged.resistance_ohm,
            "resistance_percent": self.resistance_percent,
            "self_discharge_percent_per_month": self.aged.self_discharge_percent_per_month,
            "weakest_group_percent": self.weakest_group_percent,
            "history": self.history.document(),
            "grade": self.grade.grade,
            "reasons": list(self.grade.reasons),
            "criteria": [
                {
                    "name": each.name,
                    "value": None if np.isnan(each.value) else each.value,
                    "unit": each.unit,
                    "limits": [None if np.isinf(limit) else limit for limit in each.limits],
                    "at_least": each.at_least,
                    "grade": each.grade,
                    "origin": each.origin,
                }
                for each in self.grade.criteria
            ],
        }

    def text(self) -> str:
        """The report for people."""
        history = self.history
        lines = [
            (
                f"second life, {self.name}: grade {self.grade.grade} (in the manner of ANSI/CAN/UL 1974; simulated, "
                "limits are this project's own)"
            ),
            (
                f"  capacity {self.aged.capacity_ah:.1f} Ah, {self.capacity_percent:.1f} % of new; "
                f"{self.aged.energy_wh / 1000:.1f} kWh at C/3"
            ),
            (
                f"  resistance {1000 * self.aged.resistance_ohm:.0f} mohm, {self.resistance_percent:.0f} % of new; "
                f"self-discharge {self.aged.self_discharge_percent_per_month:.2f} % a month ({PACK_INPUT}); "
                f"weakest group {self.weakest_group_percent:.1f} % below the mean ({PACK_INPUT})"
            ),
            (
                f"  history: {history.equivalent_full_cycles:.0f} full cycles, {history.rapid_charges} rapid charges, "
                f"{history.hot_h:.0f} h above 40 °C, {history.full_h:.0f} h above 90 %, {history.empty_h:.0f} h below "
                f"10 %, "
                f"{history.cold_charging_h:.0f} h of charging below 0 °C"
            ),
        ]
        lines += [f"  {reason}" for reason in self.grade.reasons]
        return "\n".join(lines)


def second_life(life: Life, *, name: str, rules: GradeRules | None = None) -> SecondLife:
    """Test the pack at the end of `life` and a new one of the same kind, and grade it; `life` stays as it is."""
    model = life.model
    aged = bench_test(model, life.state)
    new = bench_test(model, PackState.new(model, soc=0.5, temperature_c=TEST_C))
    found = SecondLife(
        name=name,
        aged=aged,
        new=new,
        weakest_group_percent=100.0 * (1.0 - float(model.groups.capacity.min())),
        history=life.history,
        grade=Grade("reject", ()),
    )
    judged = (rules or GradeRules()).judge(
        Findings(
            capacity_percent=found.capacity_percent,
            resistance_percent=found.resistance_percent,
            self_discharge_percent_per_month=aged.self_discharge_percent_per_month,
            weakest_group_percent=found.weakest_group_percent,
            history=life.history,
        )
    )
    return replace(found, grade=judged)


def bench_test(model: PackModel, state: PackState) -> BenchTest:
    """The three tests on a copy of `state`; about a fifth of a second."""
    parameters = model.parameters
    full_power_w = parameters.capacity_ah * parameters.groups_in_series * 3.65  # nominal volts of a group, NMC/graphite
    pack = state.copy()
    _settle(model, pack)
    _move(model, pack, full_power_w / _CHARGE_HOURS, _CHARGE_HOURS * 2.0)
    _rest(model, pack)
    discharged = _move(model, pack, -full_power_w / _DISCHARGE_HOURS, _DISCHARGE_HOURS * 2.0)
    _rest(model, pack)
    _move(model, pack, full_power_w / _CHARGE_HOURS, _CHARGE_HOURS, ceiling=0.5)
    _settle(model, pack)  # a degree changes the resistance by 3 %
    resistance_ohm = _pulse(model, pack.copy(), full_power_w)
    before = snapshot(model, pack).soc
    _idle(model, pack, _SELF_DISCHARGE_DAYS * 86_400.0)
    lost = before - snapshot(model, pack).soc
    per_month = 365.25 / 12.0 / _SELF_DISCHARGE_DAYS
    return BenchTest(
        capacity_ah=discharged[0],
        energy_wh=discharged[1],
        resistance_ohm=resistance_ohm,
        self_discharge_percent_per_month=100.0 * lost * per_month,
    )


def _settle(model: PackModel, pack: PackState) -> None:
    """Four days in the test room, so that all of the pack is as warm as the room within 0.01 K."""
    _idle(model, pack, 4 * 86_400.0)


def _rest(model: PackModel, pack: PackState) -> None:
    _idle(model, pack, float(_REST_S))


def _idle(model: PackModel, pack: PackState, seconds: float) -> None:
    advance(model, pack, _constant(0.0, int(seconds / 60.0), step_s=60.0))


def _move(
    model: PackModel, pack: PackState, power_w: float, most_h: float, *, ceiling: float = 1.0
) -> tuple[float, float]:
    """Charge or discharge until next to nothing flows, at most for `most_h`; returns |Ah| and |Wh| that flowed."""
    drive = _constant(power_w, int(most_h * 3600.0 / _STEP_S), step_s=float(_STEP_S), ceiling=ceiling)
    trial = advance(model, pack.copy(), drive, record=("power_w",))["power_w"]
    flows = np.abs(trial) > _FULL_POWER_SHARE * abs(power_w)
    count = int(np.argmin(flows)) if not flows.all() else len(flows)
    if count == 0:
        return 0.0, 0.0
    recorded = advance(
        model,
        pack,
        _constant(power_w, count, step_s=float(_STEP_S), ceiling=ceiling),
        record=("current_a", "power_w"),
    )
    hours = _STEP_S / 3600.0
    return abs(float(recorded["current_a"].sum())) * hours, abs(float(recorded["power_w"].sum())) * hours


def _pulse(model: PackModel, pack: PackState, power_w: float) -> float:
    recorded = advance(model, pack, _constant(0.0, 1, step_s=1.0), record=("voltage_v", "current_a"))
    rest_v, rest_a = float(recorded["voltage_v"][-1]), float(recorded["current_a"][-1])
    recorded = advance(model, pack, _constant(-power_w, _PULSE_S, step_s=1.0), record=("voltage_v", "current_a"))
    loaded_v, loaded_a = float(recorded["voltage_v"][-1]), float(recorded["current_a"][-1])
    return (loaded_v - rest_v) / (loaded_a - rest_a)


def _constant(power_w: float, steps: int, *, step_s: float, ceiling: float = 1.0) -> Drive:
    use = Use.PARKED if power_w == 0.0 else Use.CHARGING if power_w > 0.0 else Use.V2G
    return Drive(
        dt_s=step_s,
        power_w=np.full(steps, power_w),
        ambient_c=np.full(1, TEST_C),
        use=np.full(1, use, dtype=np.uint8),
        soc_ceiling=np.full(1, ceiling),
        obey_limits=False,
    )
