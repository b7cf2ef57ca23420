"""The Fig. 5 contract: states, activities, alarms at their onset, orders and anchors; all as pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.canonical import from_canonical, to_canonical
from ledgers.channels import load_channels
from ledgers.contracts.contract import Document, Outcome
from ledgers.contracts.monitoring import (
    MonitoringContract,
    MonitoringInputs,
    MonitoringParameters,
    VehicleState,
    apply,
)
from ledgers.contracts.remuneration import Baseline, GridOrder, RemunerationContract, order
from ledgers.contracts.usage import UsageAnchor, anchor_usage
from ledgers.errors import ContractRefused

T0 = 1_618_236_501.0  # 2021-04-12T14:08:21Z
SHA_A, SHA_B = "a" * 64, "b" * 64


def inputs(at_s: float = 0.0, **values: Any) -> MonitoringInputs:
    known: dict[str, Any] = {"vehicle_id": "van", "source": "obd", "plug_state": 0, "gear": 1}
    return MonitoringInputs(**{**known, "utc_s": T0 + at_s, **values})


def run(*reports: MonitoringInputs, parameters: MonitoringParameters | None = None) -> list[Outcome[VehicleState]]:
    outcomes: list[Outcome[VehicleState]] = []
    state: VehicleState | None = None
    for report in reports:
        outcomes.append(apply(state, report, parameters))
        state = outcomes[-1].state
    return outcomes


def alarms(*outcomes: Outcome[VehicleState]) -> list[tuple[str, str]]:
    """Alarm and phase, in order."""
    return [
        (str(document["alarm"]), str(document["phase"]))
        for outcome in outcomes
        for document in outcome.writes.get("alarms", {}).values()
    ]


class World:
    """A world state in a dict."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}

    def get(self, channel: str, key: str) -> Document | None:
        return self.documents.get((channel, key))

    def scan(self, channel: str, prefix: str) -> Iterator[tuple[str, Document]]:
        for (name, key), document in sorted(self.documents.items(), key=lambda item: item[0]):
            if name == channel and key.startswith(prefix):
                yield key, document

    def run(self, contract: MonitoringContract | RemunerationContract, function: str, document: Document) -> None:
        for channel, documents in contract.transact(function, document, self).writes.items():
            self.documents.update({(channel, key): value for key, value in documents.items()})


# ------------------------------------------------------------------------------------------------ state and activity


@pytest.mark.parametrize(
    ("gear", "plug", "state"),
    [(0, 0, 0), (0, 2, 0), (1, 0, 1), (1, 1, 1), (2, 0, 2), (3, 0, 2), (4, 0, 2), (7, 1, 2), (1, 2, 0), (3, 2, 0)],
)
def test_gear_gives_the_state_and_a_connected_plug_means_parked(gear: int, plug: int, state: int) -> None:
    outcome = apply(None, inputs(gear=gear, plug_state=plug))
    assert outcome.state.state == state
    assert getattr(outcome.state, f"I_time_stamp_state{state}") == T0


def test_time_stamps_say_when_each_state_last_began() -> None:
    # Stationary, then driving, as in Listing 1: state 1 at 14:48:21, state 2 at 14:52:50, a report at 14:56:21.
    *_, last = run(inputs(0, gear=1), inputs(100, gear=1), inputs(269, gear=4), inputs(480, gear=4, soc_percent=93.3))
    state = last.state
    assert state.I_time_stamp_state0 is None
    assert state.I_time_stamp_state1 == T0
    assert state.I_time_stamp_state2 == T0 + 269
    assert (state.seconds.stationary, state.seconds.moving) == (269, 211)


@pytest.mark.parametrize(
    ("power_w", "activity"),
    [(7000.0, "g2v"), (-5000.0, "v2g"), (0.0, "connected"), (-100.0, "connected"), (100.1, "g2v"), (None, "connected")],
)
def test_the_sign_of_the_power_tells_v2g_from_g2v(power_w: float | None, activity: str) -> None:
    assert apply(None, inputs(plug_state=2, charge_mode=2, power_w=power_w)).state.activity == activity


@pytest.mark.parametrize("plug", [0, 1])
def test_power_without_a_connected_plug_is_neither_v2g_nor_g2v(plug: int) -> None:
    assert apply(None, inputs(plug_state=plug, power_w=-20_000.0, gear=4)).state.activity == "unplugged"


def test_a_source_that_does_not_see_the_power_does_not_end_an_activity() -> None:
    station = {"source": "charging_station", "plug_state": 2, "gear": 0}
    *_, last = run(inputs(0, **station, power_w=-5000.0), inputs(10, plug_state=2, soc_percent=54.0))
    assert last.state.activity == "v2g"
    assert last.writes.keys() == {"monitoring"}


def test_a_v2g_event_is_told_to_those_who_pay_at_its_begin_and_end() -> None:
    plug = {"plug_state": 2, "gear": 1}
    first, second, third = run(
        inputs(0, **plug, power_w=7000.0), inputs(60, **plug, power_w=-5000.0), inputs(960, **plug, power_w=0.0)
    )
    assert "remuneration" not in first.writes
    assert second.writes["remuneration"] == {
        "v2g/van/000001/v2g_begin": {
            "vehicle_id": "van",
            "utc_s": T0 + 60,
            "event": "v2g_begin",
            "power_w": -5000.0,
        }
    }
    end = third.writes["remuneration"]["v2g/van/000001/v2g_end"]
    assert (end["begin_utc_s"], end["duration_s"]) == (T0 + 60, 900)
    assert (third.state.seconds.g2v, third.state.seconds.v2g, third.state.v2g_count) == (60, 900, 1)


# ------------------------------------------------------------------------------------------------------------ alarms


@pytest.mark.parametrize(
    ("name", "below", "beyond", "inside_hysteresis", "back"),
    [
        ("pack_temperature_high", *({"pack_temperatures_c": (20.0, v)} for v in (30.0, 30.1, 29.5, 29.0))),
        ("ambient_temperature_high", *({"ambient_c": v} for v in (30.0, 30.5, 29.1, 28.9))),
        ("charge_rate_high", *({"power_w": v} for v in (40_000.0, 40_400.0, 38_800.0, 38_000.0))),
        ("discharge_rate_high", *({"power_w": v} for v in (-50_000.0, -50_400.0, -48_800.0, -48_000.0))),
        ("overcharge_soc", *({"soc_percent": v} for v in (98.0, 98.1, 97.5, 97.0))),
        ("overcharge_cell_voltage", *({"cell_voltage_max_v": v} for v in (4.2, 4.21, 4.17, 4.14))),
        ("deep_discharge_soc", *({"soc_percent": v} for v in (10.0, 9.9, 10.5, 11.0))),
        ("deep_discharge_cell_voltage", *({"cell_voltage_min_v": v} for v in (3.0, 2.99, 3.04, 3.06))),
    ],
)
def test_an_alarm_is_raised_once_beyond_its_limit_and_cleared_once_behind_its_hysteresis(
    name: str,
    below: dict[str, Any],
    beyond: dict[str, Any],
    inside_hysteresis: dict[str, Any],
    back: dict[str, Any],
) -> None:
    # A day between reports, so that the SOC slope has no say.
    steps = [below, beyond, beyond, inside_hysteresis, {}, beyond, back, back]
    outcomes = run(*(inputs(number * 86_400.0, **values) for number, values in enumerate(steps)))
    assert [alarms(outcome) for outcome in outcomes] == [
        [],
        [(name, "raised")],
        [],
        [],
        [],
        [],
        [(name, "cleared")],
        [],
    ]
    assert outcomes[-1].state.alarm_count == 1
    assert outcomes[1].state.raised == (name,)


def test_an_alarm_names_value_limit_and_unit_and_what_alarms_may_show() -> None:
    report = inputs(plug_state=2, gear=1, power_w=-5000.0, ambient_c=31.5, soc_percent=55.0, soh_percent=97.0)
    outcome = apply(None, report)
    assert outcome.writes["alarms"] == {
        "alarm/van/000001": {
            "vehicle_id": "van",
            "utc_s": T0,
            "sequence": 1,
            "alarm": "ambient_temperature_high",
            "phase": "raised",
            "value": 31.5,
            "limit": 30.0,
            "unit": "degC",
            "observed": {
                "power_w": -5000.0,
                "plug_state": 2,
                "charge_mode": 0,
                "ambient_c": 31.5,
                "soc_percent": 55.0,
                "soh_percent": 97.0,
            },
        }
    }


def test_a_steep_soc_change_is_judged_over_a_window_not_between_samples() -> None:
    # 1 % in 36 s would be 100 %/h; the window is 60 s, in which 1.7 % are 102 %/h.
    outcomes = run(
        inputs(0, soc_percent=50.0),
        inputs(1, soc_percent=49.9),  # 360 %/h between two samples: resolution, not stress
        inputs(60, soc_percent=48.3),
        inputs(120, soc_percent=48.0),
    )
    assert [alarms(outcome) for outcome in outcomes] == [
        [],
        [],
        [("soc_slope_steep", "raised")],
        [("soc_slope_steep", "cleared")],
    ]
    raised = outcomes[2].writes["alarms"]["alarm/van/000001"]
    assert (raised["value"], raised["unit"]) == (102.0, "%/h")


def test_time_in_heat_is_counted_while_a_temperature_alarm_stands() -> None:
    *_, last = run(inputs(0, ambient_c=31.0), inputs(600, ambient_c=25.0), inputs(1000, ambient_c=25.0))
    assert last.state.seconds.hot == 600


def test_the_average_cell_voltage_is_judged_when_the_extremes_are_unknown() -> None:
    assert alarms(apply(None, inputs(cell_voltage_v=4.25))) == [("overcharge_cell_voltage", "raised")]
    extremes = inputs(cell_voltage_min_v=2.9, cell_voltage_v=3.6, cell_voltage_max_v=3.7)
    assert alarms(apply(None, extremes)) == [("deep_discharge_cell_voltage", "raised")]


def test_every_threshold_is_a_parameter() -> None:
    strict = MonitoringParameters(ambient_limit_c=20.0)
    assert alarms(apply(None, inputs(ambient_c=21.0), strict)) == [("ambient_temperature_high", "raised")]
    assert alarms(apply(None, inputs(ambient_c=21.0))) == []


# ------------------------------------------------------------------------------------------- order, repeats, bad input


def test_a_repeated_report_changes_nothing() -> None:
    first = apply(None, inputs(0, ambient_c=31.0))
    again = apply(first.state, inputs(0, ambient_c=31.0))
    assert again.state == first.state
    assert again.writes == {}
    assert again.events == ()


def test_time_running_backwards_is_refused() -> None:
    state = apply(None, inputs(10)).state
    with pytest.raises(ContractRefused, match=r"10\.000 s before the newest report"):
        apply(state, inputs(0))
    with pytest.raises(ContractRefused, match=r"0\.500 s before"):
        apply(state, inputs(9.5, source="charging_station"))


def test_two_reports_of_one_source_and_time_that_differ_are_refused() -> None:
    state = apply(None, inputs(10, ambient_c=20.0)).state
    with pytest.raises(ContractRefused, match="two different things"):
        apply(state, inputs(10, ambient_c=21.0))
    assert apply(state, inputs(10, source="charging_station", ambient_c=21.0)).state.observed["ambient_c"] == 21.0


def test_a_report_of_another_vehicle_is_refused() -> None:
    state = apply(None, inputs(0)).state
    with pytest.raises(ContractRefused, match="of vehicle 'bus'"):
        apply(state, inputs(1, vehicle_id="bus"))


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("gear", 5, "gear is 0"),
        ("plug_state", 3, "less than or equal to 2"),
        ("plug_state", True, "valid integer"),
        ("charge_mode", -1, "greater than or equal to 0"),
        ("power_w", "5000", "valid number"),
        ("power_w", 2e6, "less than or equal to 1000000"),
        ("soc_percent", 933001, "less than or equal to 100"),
        ("pack_temperatures_c", [], "at least 1 item"),
        ("source", "hearsay", "'obd' or 'charging_station'"),
        ("vehicle_id", "a/b", "match pattern"),
        ("utc_s", -1.0, "greater than or equal to 0"),
        ("colour", "red", "Extra inputs"),
    ],
)
def test_inputs_out_of_range_are_refused_by_name(member: str, value: Any, reason: str) -> None:
    document = {**inputs().to_json(), member: value}
    with pytest.raises(ContractRefused, match=reason) as caught:
        MonitoringContract().transact("observe", document, World())
    assert member in str(caught.value)


def test_cell_voltages_in_the_wrong_order_are_refused() -> None:
    document = {**inputs().to_json(), "cell_voltage_min_v": 3.9, "cell_voltage_max_v": 3.8}
    with pytest.raises(ContractRefused, match="order minimum, average, maximum"):
        MonitoringInputs.read(document)


# ------------------------------------------------------------------------------------------------------- properties


reports = st.builds(
    lambda step, **values: (step, values),
    step=st.floats(0, 5000).map(lambda value: round(value, 3)),
    source=st.sampled_from(["obd", "charging_station"]),
    gear=st.sampled_from([0, 1, 2, 3, 4, 7]),
    plug_state=st.integers(0, 2),
    charge_mode=st.integers(0, 3),
    power_w=st.none() | st.floats(-60_000, 60_000).map(lambda value: round(value, 1)),
    soc_percent=st.none() | st.floats(0, 100).map(lambda value: round(value, 4)),
    pack_temperatures_c=st.none() | st.lists(st.floats(-20, 60), min_size=1, max_size=4).map(tuple),
    ambient_c=st.none() | st.floats(-20, 50),
    cell_voltage_v=st.none() | st.floats(2.5, 4.5),
)


@given(st.lists(reports, min_size=1, max_size=12))
def test_any_history_keeps_the_books_of_alarms_and_seconds(steps: list[tuple[float, dict[str, Any]]]) -> None:
    channels = load_channels()
    state: VehicleState | None = None
    standing: set[str] = set()
    at_s, number = 0.0, 0
    for step, values in steps:
        at_s = round(at_s + step + 0.001, 3)
        report = inputs(at_s, **values)
        outcome = apply(state, report)
        assert apply(state, report) == outcome  # pure: the same answer again
        for channel, documents in outcome.writes.items():
            for document in documents.values():
                channels.check_document(channel, document)  # Table 2 holds for whatever it writes
        for document in outcome.writes.get("alarms", {}).values():
            number += 1
            assert document["sequence"] == number
            if document["phase"] == "raised":
                assert document["alarm"] not in standing
                standing.add(str(document["alarm"]))
            else:
                standing.remove(str(document["alarm"]))
        assert set(outcome.state.raised) == standing
        stored = from_canonical(to_canonical(outcome.state.to_json()), where="state")
        assert isinstance(stored, dict)
        assert VehicleState.read(stored) == outcome.state  # nothing is lost on the ledger
        state = outcome.state
    assert state is not None
    seconds = state.seconds
    total = round(at_s - steps[0][0] - 0.001, 3)
    assert seconds.parked + seconds.stationary + seconds.moving == pytest.approx(total, abs=0.01)
    assert seconds.g2v + seconds.v2g <= total + 0.01


# ---------------------------------------------------------------------------------------------------- orders, anchors


def grid_order(name: str = "o1", start: float = 60.0, duration_s: float = 900.0, **values: Any) -> GridOrder:
    known: dict[str, Any] = {"vehicle_id": "van", "direction": "load_decrease", "ordered_power_w": 5000.0, "utc_s": T0}
    return GridOrder(**{**known, "order_id": name, "start_utc_s": T0 + start, "duration_s": duration_s, **values})


def test_an_order_is_written_once_and_only_on_remuneration() -> None:
    first = order((), grid_order())
    assert first.writes == {"remuneration": {"order/van/o1": grid_order().to_json()}}
    assert [event.name for _, event in first.events] == ["grid_order"]
    again = order(first.state, grid_order())
    assert again.writes == {}
    assert again.state == first.state


def test_orders_may_touch_but_not_overlap() -> None:
    state = order((), grid_order(start=60, duration_s=900)).state
    state = order(state, grid_order("o2", start=960, direction="load_increase")).state
    assert len(state) == 2
    for start, duration_s in ((0, 61), (900, 10), (70, 10)):
        with pytest.raises(ContractRefused, match="overlaps order 'o1'"):
            order(state, grid_order("o3", start=start, duration_s=duration_s))
    with pytest.raises(ContractRefused, match="exists with other values"):
        order(state, grid_order(ordered_power_w=6000.0))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("direction", "upward"),
        ("ordered_power_w", -5000.0),
        ("ordered_power_w", 0.0),
        ("duration_s", 0.0),
        ("start_utc_s", T0 - 1),
    ],
)
def test_orders_without_meaning_are_refused(member: str, value: Any) -> None:
    with pytest.raises(ContractRefused, match="GridOrder"):
        RemunerationContract().transact("order", {**grid_order().to_json(), member: value}, World())


def test_the_remuneration_contract_answers_for_one_vehicle() -> None:
    world, contract = World(), RemunerationContract()
    world.run(contract, "order", grid_order().to_json())
    world.run(contract, "order", grid_order(vehicle_id="van2").to_json())  # another vehicle may be busy then
    baseline = Baseline(vehicle_id="van", utc_s=T0, start_utc_s=T0, duration_s=3600.0, baseline_power_w=3000.0)
    world.run(contract, "baseline", baseline.to_json())
    assert contract.query("orders", {"vehicle_id": "van"}, world) == [grid_order().to_json()]
    assert contract.query("baselines", {"vehicle_id": "van"}, world) == [baseline.to_json()]
    assert contract.query("orders", {"vehicle_id": "nobody"}, world) == []
    with pytest.raises(ContractRefused, match="exactly one member"):
        contract.query("orders", {"vehicle": "van"}, world)
    with pytest.raises(ContractRefused, match="has no function 'drop'"):
        contract.transact("drop", {}, world)


def anchor(sha256: str = SHA_A) -> UsageAnchor:
    return UsageAnchor(session_id="s1", vehicle_id="van", record_sha256=sha256, utc_s=T0)


def test_a_session_has_one_usage_record_for_ever() -> None:
    first = anchor_usage(None, anchor(), "monitoring")
    assert first.writes == {"monitoring": {"usage/s1": anchor().to_json()}}
    assert anchor_usage(first.state, anchor(), "monitoring").writes == {}
    with pytest.raises(ContractRefused, match="never replaced"):
        anchor_usage(first.state, anchor(SHA_B), "monitoring")


def test_anchoring_on_monitoring_tells_insurers_the_hash_and_the_number_of_alarms() -> None:
    world, contract = World(), MonitoringContract()
    world.run(contract, "observe", inputs(0, ambient_c=31.0).to_json())
    world.run(contract, "usage", anchor().to_json())
    assert world.get("alarms", "usage/s1") == {**anchor().to_json(), "alarm_count": 1}
    before = dict(world.documents)
    world.run(contract, "usage", anchor().to_json())
    assert world.documents == before
    with pytest.raises(ContractRefused, match="never replaced"):
        world.run(contract, "usage", anchor(SHA_B).to_json())


def test_an_argument_is_written_the_same_way_every_time() -> None:
    text = inputs(pack_temperatures_c=(20.0, 21.5), power_w=-5000.0).to_text()
    assert json.loads(text)["pack_temperatures_c"] == [20, 21.5]
    assert text == MonitoringInputs.read(json.loads(text)).to_text()
    assert "soc_percent" not in text
