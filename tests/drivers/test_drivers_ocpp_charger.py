"""The Charger role over OCPP: driver, central system and charge point twin joined as the rack joins them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.charger.ocpp import OcppCharger, OcppChargerConfig
from drivers.errors import DeviceError, LimitError, LinkRefused, LinkTimeout, NotOpenError
from drivers.ocpp.link import (
    BootInfo,
    ChargePointLink,
    ChargePointState,
    ConnectorStatus,
    MeterValues,
    Sample,
    Transaction,
)
from drivers.ocpp.payload import Payload
from drivers.readings import Quality
from drivers.roles import ChargerState, ClampedBy, Nameplate, SetPower, WatchdogKind
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem
from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.faces.ocpp import ChargePointFace
from twins.grid import LowVoltageGrid
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire
EIGHT = 1_768_464_000.0  # 2026-01-15T08:00:00Z


@dataclasses.dataclass
class Bench:
    driver: OcppCharger
    site: Site
    clock: SteppedClock
    loop: ServiceLoop
    face: ChargePointFace
    csms: CentralSystem
    link: ChargePointLink

    @property
    def charger(self) -> ChargerTwin:
        return self.site.charger

    def step(self, seconds: int = 1, *, feed: bool = True) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.site.step(1.0)
            self.loop.activity.wait_quiet(5.0)
            self.loop.raise_failures()
            if feed:
                self.driver.feed_watchdog()


@contextmanager
def bench(*, plugged: bool = True, **config: Any) -> Iterator[Bench]:
    clock = SteppedClock(EIGHT)
    van = Van("van", generator(7, "van"), soc_percent=55.0)
    site = Site(
        clock, LowVoltageGrid("grid", generator(7, "grid")), ChargerTwin("charger", generator(7, "charger"), van=van)
    )
    with (
        ServiceLoop() as loop,
        CentralSystem(loop, clock=clock, stepped=True) as csms,
        ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1") as face,
        OcppCharger(OcppChargerConfig(**config), csms.link("CP1"), clock, device="charger") as driver,
    ):
        it = Bench(driver, site, clock, loop, face, csms, csms.link("CP1"))
        if plugged:
            site.charger.plug_in()
            it.step()
        yield it


def test_the_nameplate_comes_from_the_boot_notification() -> None:
    with bench() as it:
        assert it.driver.identify() == Nameplate("AME", "V2G 3P10 twin", "AME-V2G3P10-0001", "1.0")
        assert it.driver.capabilities().watchdog is WatchdogKind.PROFILE


def test_opening_takes_command_and_closing_gives_it_back() -> None:
    with bench() as it:
        assert it.face.configuration.flag("ProfileIsSetpoint")
        it.driver.arm_watchdog(10.0)
        assert len(it.face.profiles) == 1
        it.driver.close()
        assert not it.face.configuration.flag("ProfileIsSetpoint")
        assert len(it.face.profiles) == 0


def test_a_session_runs_in_both_directions_and_reads_signed() -> None:
    with bench() as it:
        assert it.driver.read().state is ChargerState.PLUGGED
        it.driver.start()
        assert it.driver.set_power(-5000.0) == SetPower(-5000.0, -5000.0)
        it.step(60)
        readings = it.driver.read()
        assert readings.state is ChargerState.DISCHARGING
        assert readings.ac_power.value == pytest.approx(-5000.0, abs=80.0)
        assert readings.dc_power.value == pytest.approx(-5300.0, rel=0.03)
        assert readings.dc_power.quality is Quality.ESTIMATED
        assert readings.dc_current.value < -10.0
        assert readings.grid_frequency.value == pytest.approx(50.0, abs=0.2)
        assert 215.0 < readings.grid_voltage.value < 245.0
        assert readings.export_energy.value == pytest.approx(5000.0 * 58.5 / 3600.0, rel=0.02, abs=2.0)
        assert (readings.ac_power.mono_s, readings.ac_power.utc_s) == (61.0, EIGHT + 61.0)
        assert all(reading.quality is not Quality.STALE for reading in readings.readings())
        assert it.driver.set_power(7000.0) == SetPower(7000.0, 7000.0)
        it.step(10)
        readings = it.driver.read()
        assert readings.state is ChargerState.CHARGING
        assert readings.ac_power.value == pytest.approx(7000.0, abs=100.0)
        it.driver.stop()
        assert it.driver.read().state is ChargerState.PLUGGED
        transaction = it.link.state().transactions[1]
        assert (transaction.stop_reason, transaction.is_running) == ("Remote", False)


def test_a_session_begins_at_zero_watts() -> None:
    with bench() as it:
        it.driver.start()
        it.step(10)
        assert it.charger.ac_power_w == 0.0
        assert it.driver.read().state is ChargerState.SUSPENDED


def test_the_watchdog_is_proven_armed_fed_and_expires_when_the_bench_falls_silent() -> None:
    with bench() as it:
        assert it.driver.arm_watchdog(9.2) == 10.0
        it.driver.start()
        it.driver.set_power(8000.0)
        it.step(60)
        assert it.charger.ac_power_w == 8000.0
        it.step(9, feed=False)
        assert it.charger.ac_power_w in {8000.0, 3000.0}  # renewed up to 5 s before the silence
        it.step(3, feed=False)
        assert it.charger.ac_power_w == 0.0
        it.driver.feed_watchdog()  # the bench wakes and goes on
        it.step(5)
        assert it.charger.ac_power_w == 8000.0


def test_the_watchdog_can_be_armed_while_a_session_runs() -> None:
    with bench() as it:
        it.driver.start()
        it.driver.set_power(-3000.0)
        it.step(5)
        assert it.driver.arm_watchdog(5.0) == 5.0
        it.step(1, feed=False)
        assert it.charger.ac_power_w == -3000.0
        it.step(6, feed=False)
        assert it.charger.ac_power_w == 0.0


def test_feeding_sends_nothing_before_half_of_the_time_is_over() -> None:
    with bench() as it:
        it.driver.arm_watchdog(10.0)
        it.driver.start()
        it.driver.set_power(1000.0)
        revisions = []
        for _ in range(10):
            it.step()
            revisions.append(it.face.profiles.revision)
        assert len(set(revisions)) == 3  # renewed after 5 s and after 10 s


@pytest.mark.parametrize("timeout_s", [0.5, 601.0, math.nan])
def test_a_watchdog_out_of_range_is_refused_before_anything_is_sent(timeout_s: float) -> None:
    with bench() as it, pytest.raises(LimitError, match="outside 1 to 600 s"):
        it.driver.arm_watchdog(timeout_s)


def test_a_clamped_set_point_names_the_charger_or_the_profile() -> None:
    with bench() as it:
        it.driver.start()
        assert it.driver.set_power(12_000.0) == SetPower(12_000.0, 10_000.0, ClampedBy.CHARGER)
        assert it.driver.set_power(-12_000.0) == SetPower(-12_000.0, -10_000.0, ClampedBy.CHARGER)
        schedule = {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 4000.0}]}
        station: dict[str, Any] = {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "ChargePointMaxProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": schedule,
        }
        it.link.call("SetChargingProfile", {"connectorId": 0, "csChargingProfiles": station}, 5.0)
        assert it.driver.set_power(-7000.0) == SetPower(-7000.0, -4000.0, ClampedBy.PROFILE)
        assert it.driver.set_power(1234.56) == SetPower(1234.56, 1234.56)


def test_a_set_point_without_a_session_is_refused_and_one_that_is_no_number_is_not_sent() -> None:
    with bench() as it:
        answer = it.driver.set_power(1000.0)
        assert answer == SetPower(1000.0, 0.0, ClampedBy.CHARGER, refused=True, code="NoTransaction")
        with pytest.raises(LimitError, match="finite power"):
            it.driver.set_power(math.nan)


def test_starting_without_a_vehicle_is_refused_at_once() -> None:
    with bench(plugged=False) as it, pytest.raises(DeviceError, match="no vehicle; plug one in"):
        it.driver.start()


def test_the_safe_state_works_from_anywhere_and_twice() -> None:
    with bench() as it:
        it.driver.safe_state()
        it.driver.start()
        it.driver.set_power(9000.0)
        it.step(10)
        it.driver.safe_state()
        it.step()
        assert it.charger.ac_power_w == 0.0
        assert it.link.state().running_transaction(1) is None
        it.driver.safe_state()


def test_over_a_lost_link_the_safe_state_says_so_and_the_charger_falls_to_zero_by_itself() -> None:
    with bench() as it:
        it.driver.arm_watchdog(5.0)
        it.driver.start()
        it.driver.set_power(9000.0)
        it.step(10)
        assert it.charger.ac_power_w == 9000.0
        it.csms.close()
        with pytest.raises(LinkRefused):
            it.driver.safe_state()
        with pytest.raises(LinkRefused):
            it.driver.read()
        it.step(8, feed=False)
        assert it.charger.ac_power_w == 0.0
        assert not it.face.is_connected


def test_readings_are_asked_for_only_when_they_are_too_old() -> None:
    with bench(meter_max_age_s=5.0) as it:
        it.driver.start()
        first = it.driver.read()
        assert it.driver.read() == first
        it.step(5)
        assert it.driver.read().ac_power.mono_s == first.ac_power.mono_s
        it.step(1)
        assert it.driver.read().ac_power.mono_s == it.clock.mono_s


def test_faults_are_told_and_soc_is_missing_without_a_session() -> None:
    with bench() as it:
        readings = it.driver.read()
        assert readings.soc.quality is Quality.NO_DATA
        assert math.isnan(readings.soc.value)
        it.charger.raise_fault("MREC4")
        it.step()
        readings = it.driver.read()
        assert (readings.state, readings.faults) == (ChargerState.FAULTED, ("MREC4",))


def test_a_closed_driver_says_that_it_is_closed() -> None:
    with bench() as it:
        it.driver.close()
        it.driver.close()
        for act in (it.driver.read, it.driver.start, it.driver.stop, it.driver.safe_state, it.driver.feed_watchdog):
            with pytest.raises(NotOpenError, match="charger 'charger' is closed"):
                act()


def test_a_charge_point_that_never_comes_is_a_time_out() -> None:
    clock = SteppedClock(EIGHT)
    with (
        ServiceLoop() as loop,
        CentralSystem(loop, clock=clock) as csms,
        pytest.raises(LinkTimeout, match=r"charger: no BootNotification within 0\.1 s"),
        OcppCharger(OcppChargerConfig(connect_s=0.1), csms.link("CP1"), clock, device="charger"),
    ):
        pass


class ScriptedLink:
    """A charge point of metal as its answers: what a real one may say that the twin does not."""

    identity = "CP1"

    def __init__(self, answers: dict[str, Callable[[Payload], Payload]], state: ChargePointState) -> None:
        self.answers = {"GetConfiguration": lambda _: {"unknownKey": ["ProfileIsSetpoint"]}, **answers}
        self.now = state
        self.calls: list[tuple[str, Payload]] = []

    def state(self) -> ChargePointState:
        return self.now

    def call(self, action: str, payload: Payload, timeout_s: float) -> Payload:
        self.calls.append((action, payload))
        return self.answers[action](payload)

    def wait_for(self, condition: Callable[[ChargePointState], bool], timeout_s: float, what: str) -> ChargePointState:
        if not condition(self.now):
            raise LinkTimeout(f"no {what}", device=self.identity, waited_s=timeout_s)
        return self.now


def metal_state(**more: Any) -> ChargePointState:
    return ChargePointState(connected=True, boot=BootInfo("Maker", "Model", "S1", "2.0"), **more)


def schedule(*periods: tuple[int, float]) -> Payload:
    return {
        "status": "Accepted",
        "chargingSchedule": {
            "chargingRateUnit": "W",
            "chargingSchedulePeriod": [{"startPeriod": at, "limit": limit} for at, limit in periods],
        },
    }


@pytest.mark.parametrize("plan", [schedule((0, 1.0)), schedule((0, 1.0), (30, 0.0)), schedule((0, 0.0), (5, 9.0))])
def test_a_charger_whose_schedule_does_not_fall_in_time_is_not_armed(plan: Payload) -> None:
    def accept(payload: Payload) -> Payload:
        return {"status": "Accepted"}

    link = ScriptedLink(
        {"SetChargingProfile": accept, "ClearChargingProfile": accept, "GetCompositeSchedule": lambda _: plan},
        metal_state(),
    )
    with OcppCharger(OcppChargerConfig(), link, SteppedClock(EIGHT), device="charger") as driver:
        with pytest.raises(DeviceError, match="does not fall to 0 W after 10 s; open it with 'watchdog: none'"):
            driver.arm_watchdog(10.0)
        assert ("ClearChargingProfile", {"id": 7_160_003}) in link.calls


def test_a_charger_without_smart_charging_is_refused_with_its_word() -> None:
    link = ScriptedLink({"SetChargingProfile": lambda _: {"status": "NotSupported"}}, metal_state())
    link.answers["ClearChargingProfile"] = lambda _: {"status": "Unknown"}
    with (
        OcppCharger(OcppChargerConfig(), link, SteppedClock(EIGHT), device="charger") as driver,
        pytest.raises(DeviceError, match=r"refused SetChargingProfile \(0 W default\) \(code NotSupported\)"),
    ):
        driver.arm_watchdog(10.0)


def test_a_refused_set_point_keeps_the_former_one() -> None:
    state = metal_state(transactions={1: Transaction(4, 1, "BENCH", 0, EIGHT)})
    words = iter(["Accepted", "Rejected"])
    link = ScriptedLink(
        {
            "SetChargingProfile": lambda _: {"status": next(words)},
            "GetCompositeSchedule": lambda _: schedule((0, 2000.0)),
        },
        state,
    )
    with OcppCharger(OcppChargerConfig(), link, SteppedClock(EIGHT), device="charger") as driver:
        assert driver.set_power(2000.0).accepted
        assert driver.set_power(9000.0) == SetPower(9000.0, 2000.0, ClampedBy.CHARGER, refused=True, code="Rejected")
        profile = link.calls[1][1]["csChargingProfiles"]
        assert isinstance(profile, dict)
        assert profile["transactionId"] == 4


def test_old_values_of_a_charger_that_gives_none_on_request_are_stale() -> None:
    clock = SteppedClock(EIGHT)
    sample = Sample("Power.Active.Import", 1500.0, "Outlet", "", "Sample.Periodic")
    state = metal_state(
        statuses={1: ConnectorStatus("Charging", "NoError", "", 0.0, EIGHT)},
        meter_values={1: MeterValues(1, 0.0, EIGHT, 4, (sample,))},
    )

    def not_implemented(payload: Payload) -> Payload:
        raise DeviceError("refused", code="NotImplemented", device="CP1")

    for answer in (not_implemented, lambda _: {"status": "NotImplemented"}, lambda _: {"status": "Accepted"}):
        link = ScriptedLink({"TriggerMessage": answer}, state)
        with OcppCharger(OcppChargerConfig(reply_s=0.1), link, clock, device="charger") as driver:
            link.answers["ClearChargingProfile"] = lambda _: {"status": "Unknown"}
            assert driver.read().ac_power.quality in {Quality.GOOD, Quality.STALE}
            clock.advance(11.0)
            readings = driver.read()
            assert (readings.ac_power.value, readings.ac_power.quality) == (1500.0, Quality.STALE)
            assert readings.state is ChargerState.CHARGING
            assert readings.dc_power.quality is Quality.NO_DATA


def test_the_example_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "ocpp.md").read_text(encoding="utf-8")
    example = guide.partition("```python\n")[2].partition("```")[0]
    exec(compile(example, "docs/ocpp.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Reading(value=-50")
