"""What every power meter driver promises, run for each implementation, twin or metal.

A subclass gives two fixtures: `meter`, an opened but not yet configured driver, and `bench`, which can move power and
time in front of it.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from drivers.errors import NotOpenError
from drivers.readings import Quality
from drivers.roles import PowerMeter, PowerMeterReadings

UNITS = ("W", "V", "A", "Hz", "Wh", "Wh", "W", "V", "A", "Wh", "Wh")
NAMES = (
    "ac_power",
    "ac_voltage",
    "ac_current",
    "ac_frequency",
    "ac_import_energy",
    "ac_export_energy",
    "dc_power",
    "dc_voltage",
    "dc_current",
    "dc_import_energy",
    "dc_export_energy",
)


class PowerBench(Protocol):
    """What a contract test needs in front of the meter."""

    def set_power(self, power_w: float) -> None:
        """Ask the charger for AC power; positive charges."""

    def advance(self, seconds: float) -> None:
        """Let time pass; the charger has reached its power after ten seconds."""


class PowerMeterContract:
    """No `meter` fixture here, so this is not a test by itself."""

    @pytest.fixture
    def running(self, meter: PowerMeter, bench: PowerBench) -> PowerMeter:
        meter.configure()
        meter.start_integration()
        bench.advance(1.0)
        return meter

    def test_it_says_who_it_is(self, meter: PowerMeter) -> None:
        nameplate = meter.identify()
        assert nameplate.manufacturer
        assert nameplate.model
        assert nameplate.serial

    def test_it_states_planes_uncertainty_and_update(self, meter: PowerMeter) -> None:
        capabilities = meter.capabilities()
        assert set(capabilities.planes) == {"ac", "dc"}
        assert 0.0 < capabilities.power_uncertainty_of_reading < 0.05
        assert 0.0 <= capabilities.power_uncertainty_w < 100.0
        assert capabilities.update_s > 0.0

    def test_reading_before_configure_is_refused(self, meter: PowerMeter) -> None:
        with pytest.raises(NotOpenError, match=r"configure\(\)"):
            meter.read()

    def test_reading_after_close_is_refused(self, meter: PowerMeter) -> None:
        meter.configure()
        meter.__exit__(None, None, None)
        with pytest.raises(NotOpenError):
            meter.read()

    def test_closing_twice_is_harmless(self, meter: PowerMeter) -> None:
        meter.configure()
        meter.__exit__(None, None, None)
        meter.__exit__(None, None, None)

    def test_each_reading_names_unit_source_and_time(self, running: PowerMeter) -> None:
        readings = running.read().readings()
        assert tuple(reading.unit for reading in readings) == UNITS
        devices = {reading.source.partition(".")[0] for reading in readings}
        assert len(devices) == 1
        assert tuple(reading.source.partition(".")[2] for reading in readings) == NAMES
        assert len({(reading.mono_s, reading.utc_s) for reading in readings}) == 1
        assert all(reading.quality is Quality.GOOD for reading in readings)

    def test_power_voltage_and_current_of_one_read_belong_together(
        self, running: PowerMeter, bench: PowerBench
    ) -> None:
        bench.set_power(7000.0)
        for _ in range(6):  # while the power still ramps, values of two updates would not fit
            bench.advance(1.0)
            now = running.read()
            assert now.dc_power.value == pytest.approx(now.dc_voltage.value * now.dc_current.value, rel=0.01, abs=25.0)
            assert now.ac_power.value == pytest.approx(
                3 * now.ac_voltage.value * now.ac_current.value, rel=0.02, abs=25.0
            )

    @pytest.mark.parametrize(
        ("power_w", "grows", "stays"), [(6000.0, "import", "export"), (-6000.0, "export", "import")]
    )
    def test_positive_power_charges_on_both_planes_and_energy_goes_the_same_way(
        self, running: PowerMeter, bench: PowerBench, power_w: float, grows: str, stays: str
    ) -> None:
        bench.set_power(power_w)
        bench.advance(10.0)
        before = running.read()
        bench.advance(60.0)
        after = running.read()
        sign = 1.0 if power_w > 0 else -1.0
        for plane in ("ac", "dc"):
            power = value(after, f"{plane}_power")
            assert sign * power > 5000.0
            gained = value(after, f"{plane}_{grows}_energy") - value(before, f"{plane}_{grows}_energy")
            assert gained == pytest.approx(abs(power) / 60.0, rel=0.01)
            assert value(after, f"{plane}_{stays}_energy") == value(before, f"{plane}_{stays}_energy")
        assert sign * after.dc_current.value > 10.0
        assert after.ac_current.value > 5.0  # an rms value has no sign

    def test_counters_never_run_backwards(self, running: PowerMeter, bench: PowerBench) -> None:
        last = [0.0] * 4
        for power_w in (5000.0, -5000.0, 0.0, 3000.0):
            bench.set_power(power_w)
            for _ in range(5):
                bench.advance(1.0)
                now = running.read()
                counters = [reading.value for reading in now.readings() if reading.unit == "Wh"]
                assert all(new >= old for new, old in zip(counters, last, strict=True))
                last = counters

    def test_a_stopped_integration_keeps_its_energies_and_a_new_start_counts_from_zero(
        self, running: PowerMeter, bench: PowerBench
    ) -> None:
        bench.set_power(6000.0)
        bench.advance(60.0)
        running.stop_integration()
        stopped = running.read().ac_import_energy.value
        assert stopped > 50.0
        bench.advance(10.0)
        assert running.read().ac_import_energy.value == stopped
        running.stop_integration()
        running.start_integration()
        bench.advance(6.0)
        assert running.read().ac_import_energy.value == pytest.approx(10.0, rel=0.02)

    def test_starting_a_running_integration_changes_nothing(self, running: PowerMeter, bench: PowerBench) -> None:
        bench.set_power(6000.0)
        bench.advance(30.0)
        before = running.read().ac_import_energy.value
        running.start_integration()
        assert running.read().ac_import_energy.value == before

    def test_ordinary_use_leaves_no_error_in_the_instrument(self, running: PowerMeter) -> None:
        running.read()
        assert dict(running.errors()) == {}


def value(readings: PowerMeterReadings, name: str) -> float:
    """The value of one quantity by its name."""
    return float(getattr(readings, name).value)
