"""The analyzer twin against the physics of the charger it is clamped around."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.grid import LowVoltageGrid
from twins.instrument.power_analyzer import (
    AC_POWER_ACCURACY,
    DC_POWER_ACCURACY,
    AnalyzerRefused,
    IntegrationMode,
    IntegrationState,
    PowerAnalyzer,
)
from twins.measurement import Fault, generator
from twins.site import Site
from twins.vehicle.van import Van

START_UTC_S = 1_768_464_000.0  # 2026-01-15T08:00:00Z


@dataclass
class Rig:
    """A stepped site with one analyzer, and the true energies beside it."""

    seed: int = 7
    fault: Fault | None = None
    update_s: float = 1.0
    reversed_elements: frozenset[int] = frozenset()
    true_wh: dict[str, float] = field(default_factory=lambda: {"ac+": 0.0, "ac-": 0.0, "dc+": 0.0, "dc-": 0.0})

    def __post_init__(self) -> None:
        self.clock = SteppedClock(START_UTC_S)
        self.van = Van("van", generator(self.seed, "van"), soc_percent=55.0)
        self.charger = ChargerTwin("charger", generator(self.seed, "charger"), van=self.van)
        self.site = Site(self.clock, LowVoltageGrid("grid", generator(self.seed, "grid")), self.charger)
        self.analyzer = PowerAnalyzer(
            "analyzer",
            self.charger,
            generator(self.seed, "analyzer"),
            fault=self.fault,
            update_s=self.update_s,
            reversed_elements=self.reversed_elements,
            utc_start_s=START_UTC_S,
        )
        self.site.observers.append(self.analyzer)

    def plug_and_start(self) -> None:
        self.charger.plug_in()
        self.charger.start()

    def run(self, seconds: float, power_w: float | None = None, dt_s: float = 1.0) -> None:
        if power_w is not None:
            self.charger.set_setpoint(power_w)
        for _ in range(round(seconds / dt_s)):
            self.clock.advance(dt_s)
            self.site.step(dt_s)
            for side, power in (("ac", self.charger.true_ac_power_w), ("dc", self.charger.dc_power_w)):
                self.true_wh[side + ("+" if power >= 0 else "-")] += power * dt_s / 3600.0

    @property
    def ac_power_w(self) -> float:
        return sum(element.power_w for element in self.analyzer.snapshot.elements[:3])

    @property
    def ac_wh(self) -> tuple[float, float]:
        phases = self.analyzer.snapshot.elements[:3]
        return sum(each.positive_wh for each in phases), sum(each.negative_wh for each in phases)


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_energy_of_an_hour_in_both_directions_is_within_the_stated_accuracy(seed: int) -> None:
    rig = Rig(seed=seed)
    rig.plug_and_start()
    rig.analyzer.start_integration()
    rig.run(1200, 8000.0)
    rig.run(1800, -6500.0)
    rig.run(600, 0.0)

    charged_wh, discharged_wh = rig.ac_wh
    assert rig.true_wh["ac+"] > 2500.0  # 8 kW for 20 min, less the ramp
    assert rig.true_wh["ac-"] < -3000.0
    for measured, true in ((charged_wh, rig.true_wh["ac+"]), (discharged_wh, rig.true_wh["ac-"])):
        allowed = AC_POWER_ACCURACY.gain_percent / 100 * abs(true) + 3 * AC_POWER_ACCURACY.offset * 1.0 + 0.05
        assert abs(measured - true) <= allowed
    dc = rig.analyzer.snapshot.elements[3]
    for measured, true in ((dc.positive_wh, rig.true_wh["dc+"]), (dc.negative_wh, rig.true_wh["dc-"])):
        allowed = DC_POWER_ACCURACY.gain_percent / 100 * abs(true) + DC_POWER_ACCURACY.offset * 1.0 + 0.05
        assert abs(measured - true) <= allowed
    assert rig.analyzer.snapshot.integrated_s == pytest.approx(3600.0)


def test_no_two_instruments_err_alike_and_one_seed_gives_one_instrument() -> None:
    powers = []
    for seed in (1, 2, 1):
        rig = Rig(seed=seed)
        rig.plug_and_start()
        rig.run(10, 5000.0)
        powers.append(rig.ac_power_w - rig.charger.true_ac_power_w)
    assert powers[0] == powers[2]
    assert powers[0] != powers[1]
    assert all(0.0 < abs(error_w) < 5000 * 0.001 + 3 + 2 for error_w in powers)


def test_values_change_at_the_instruments_updates_only() -> None:
    rig = Rig(update_s=1.0)
    rig.plug_and_start()
    rig.run(1.0, 4000.0, dt_s=0.25)
    first = rig.analyzer.snapshot
    rig.run(0.75, dt_s=0.25)
    assert rig.analyzer.snapshot is first
    rig.run(0.25, dt_s=0.25)
    assert rig.analyzer.snapshot.number == first.number + 1


def test_power_is_the_mean_over_the_update_and_voltage_the_rms() -> None:
    rig = Rig(update_s=2.0)
    rig.charger.grid_voltage_v = 100.0
    for power_w, voltage_v, now_s in ((3000.0, 220.0, 1.0), (6000.0, 240.0, 2.0)):
        rig.charger.true_ac_power_w = power_w
        rig.charger.grid_voltage_v = voltage_v
        rig.analyzer.step(1.0, now_s)
    assert rig.ac_power_w == pytest.approx(4500.0, abs=4500 * 0.001 + 3 + 2)
    assert rig.analyzer.snapshot.elements[0].voltage_v == pytest.approx(
        math.sqrt((220**2 + 240**2) / 2), abs=230 * 0.001 + 0.1
    )


def test_the_dc_side_is_dead_while_the_contactors_are_open_and_reads_the_pack_after() -> None:
    rig = Rig()
    rig.run(3)
    assert rig.analyzer.snapshot.elements[3].voltage_v == pytest.approx(0.0, abs=0.2)
    assert rig.ac_power_w == pytest.approx(35.0, abs=4.0)  # stand-by
    rig.plug_and_start()
    rig.run(5, -3000.0)
    dc = rig.analyzer.snapshot.elements[3]
    assert dc.voltage_v == pytest.approx(rig.van.pack.voltage_v, rel=0.002)
    assert dc.current_a < -7.0
    assert dc.power_w == pytest.approx(dc.voltage_v * dc.current_a, abs=30.0)


def test_reversed_current_terminals_swap_sign_and_energies_of_that_element_alone() -> None:
    rig = Rig(reversed_elements=frozenset({4}))
    rig.plug_and_start()
    rig.analyzer.start_integration()
    rig.run(60, 5000.0)
    dc = rig.analyzer.snapshot.elements[3]
    assert dc.power_w < -4000.0
    assert dc.current_a < -10.0
    assert dc.positive_wh == pytest.approx(0.0, abs=0.1)
    assert dc.negative_wh < -60.0
    assert rig.ac_power_w > 4900.0


class TestIntegration:
    def test_before_it_starts_there_is_no_energy_not_even_zero(self) -> None:
        rig = Rig()
        rig.run(5)
        assert math.isnan(rig.analyzer.snapshot.elements[0].positive_wh)
        assert math.isnan(rig.analyzer.snapshot.integrated_s)

    def test_stop_keeps_start_resumes_reset_forgets(self) -> None:
        rig = Rig()
        rig.plug_and_start()
        rig.run(10, 6000.0)
        rig.analyzer.start_integration()
        rig.run(60)
        rig.analyzer.stop_integration()
        stopped_wh = rig.ac_wh[0]
        assert stopped_wh == pytest.approx(100.0, abs=0.3)
        rig.run(60)
        assert rig.ac_wh[0] == stopped_wh
        rig.analyzer.start_integration()
        rig.run(60)
        assert rig.ac_wh[0] == pytest.approx(200.0, abs=0.6)
        rig.analyzer.stop_integration()
        rig.analyzer.reset_integration()
        assert math.isnan(rig.ac_wh[0])
        assert rig.analyzer.integration_state is IntegrationState.RESET

    def test_the_timer_ends_it_to_the_second_within_an_update(self) -> None:
        rig = Rig(update_s=20.0)
        rig.plug_and_start()
        rig.run(20, 3600.0)
        rig.analyzer.integration_settings.timer_s = 90.0
        rig.analyzer.start_integration()
        rig.run(200)
        assert rig.analyzer.integration_state is IntegrationState.TIMEUP
        assert rig.analyzer.snapshot.integrated_s == pytest.approx(90.0)
        assert rig.ac_wh[0] == pytest.approx(90.0, abs=0.2)  # 3600 W for 90 s
        with pytest.raises(AnalyzerRefused, match="TIMEUP"):
            rig.analyzer.start_integration()

    def test_continuous_mode_begins_again_at_the_timer(self) -> None:
        rig = Rig()
        rig.plug_and_start()
        rig.run(20, 3600.0)
        rig.analyzer.integration_settings.mode = IntegrationMode.CONTINUOUS
        rig.analyzer.integration_settings.timer_s = 60.0
        rig.analyzer.start_integration()
        rig.run(90)
        assert rig.analyzer.integration_state is IntegrationState.START
        assert rig.analyzer.snapshot.integrated_s == pytest.approx(30.0)
        assert rig.ac_wh[0] == pytest.approx(30.0, abs=0.1)

    def test_real_time_mode_is_ready_until_its_hour_comes(self) -> None:
        rig = Rig()
        settings = rig.analyzer.integration_settings
        settings.mode = IntegrationMode.RNORMAL
        settings.begin_utc_s, settings.end_utc_s = START_UTC_S + 30.0, START_UTC_S + 50.0
        rig.analyzer.start_integration()
        rig.run(29)
        assert rig.analyzer.integration_state is IntegrationState.READY
        rig.run(1)
        assert rig.analyzer.integration_state is IntegrationState.START
        rig.run(30)
        assert rig.analyzer.integration_state is IntegrationState.TIMEUP
        assert rig.analyzer.snapshot.integrated_s == pytest.approx(20.0)

    def test_started_between_two_updates_it_counts_from_that_moment(self) -> None:
        rig = Rig(update_s=10.0)
        rig.plug_and_start()
        rig.run(24, 3600.0)
        rig.analyzer.start_integration()
        rig.run(16)
        assert rig.analyzer.snapshot.integrated_s == pytest.approx(16.0)
        assert rig.ac_wh[0] == pytest.approx(16.0, abs=0.1)

    @pytest.mark.parametrize("action", ["start_integration", "reset_integration"])
    def test_a_running_integration_refuses_start_and_reset(self, action: str) -> None:
        rig = Rig()
        rig.analyzer.start_integration()
        with pytest.raises(AnalyzerRefused, match="START"):
            getattr(rig.analyzer, action)()

    def test_automatic_ranges_become_fixed_when_it_starts(self) -> None:
        rig = Rig()
        rig.plug_and_start()
        for settings in rig.analyzer.inputs:
            settings.current_auto = True
        rig.run(2, 0.0)
        rig.analyzer.start_integration()
        rig.run(10, 9000.0)
        assert rig.analyzer.inputs[0].current_range_a < 5.0
        assert rig.analyzer.snapshot.elements[0].over_range  # as it happens in front of the real one


class TestFaults:
    def run(self, fault: Fault | None) -> Rig:
        rig = Rig(fault=fault)
        rig.plug_and_start()
        rig.analyzer.start_integration()
        rig.run(300, 5000.0)
        return rig

    def test_a_gain_of_three_percent_shows_in_power_and_energy(self) -> None:
        healthy, faulty = self.run(None), self.run(Fault("gain", percent=3.0))
        assert faulty.ac_power_w / healthy.ac_power_w == pytest.approx(1.03, abs=0.0005)
        assert faulty.ac_wh[0] / healthy.ac_wh[0] == pytest.approx(1.03, abs=0.0005)

    def test_a_wrong_sign_swaps_import_and_export(self) -> None:
        healthy, faulty = self.run(None), self.run(Fault("sign"))
        assert faulty.ac_power_w == pytest.approx(-healthy.ac_power_w, rel=0.005)
        assert faulty.ac_wh[0] == pytest.approx(0.0, abs=0.1)
        assert faulty.ac_wh[1] < -400.0
        assert faulty.analyzer.snapshot.elements[0].current_a > 0.0  # an rms value has no sign

    def test_a_frozen_instrument_repeats_itself_but_goes_on_updating(self) -> None:
        rig = Rig(fault=Fault("frozen", after_s=100.0))
        rig.plug_and_start()
        rig.analyzer.start_integration()
        rig.run(120, 5000.0)
        before = rig.analyzer.snapshot
        rig.run(120, -5000.0)
        after = rig.analyzer.snapshot
        assert after.number == before.number + 120
        assert after.elements == before.elements

    def test_a_clock_60_s_late_shows_the_power_of_a_minute_ago(self) -> None:
        rig = Rig(fault=Fault("clock", offset_s=60.0))
        rig.plug_and_start()
        rig.run(120, 5000.0)
        rig.run(50, -5000.0)
        assert rig.ac_power_w > 4900.0
        rig.run(30)
        assert rig.ac_power_w < -4900.0


def test_an_update_interval_that_the_instrument_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.05, 0\.1, 0\.25, 0\.5, 1, 2, 5, 10, 20 s, not 3 s"):
        Rig(update_s=3.0)
