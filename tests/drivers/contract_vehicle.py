"""What every vehicle driver promises, whatever its wire: subclass it and give a `vehicle` fixture.

`vehicle` is an open driver on a van twin in the state of the `van` fixture, named `van`, on the clock of `clock`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from drivers.readings import Quality
from drivers.roles import Vehicle
from twins.clock import SteppedClock
from twins.measurement import generator
from twins.vehicle.van import Van

UNITS = [
    "V",
    "A",
    "%",
    "%",
    "Ah",
    "1",
    "%",
    "W",
    "W",
    "kOhm",
    "V",
    "V",
    "V",
    *["degC"] * 5,
    "km",
    "km/h",
    *["1"] * 5,
    *["degC"] * 3,
]


def parked_van() -> Van:
    """A van at 55 %, 22 degC, plugged in at a DC charger and charged with 5 kW for ten seconds."""
    van = Van("van", generator(7, "van"), soc_percent=55.0, soh_percent=97.0, ambient_c=22.0, odometer_km=48_210)
    van.plug_in()
    van.begin_transfer()
    for second in range(10):
        van.step(5000.0, 1.0, float(second))
    return van


class VehicleContract:
    @pytest.fixture(scope="class")
    @classmethod
    def van(cls) -> Van:
        return parked_van()

    @pytest.fixture(scope="class")
    @classmethod
    def clock(cls) -> SteppedClock:
        clock = SteppedClock(start_utc_s=1_768_464_000.0)
        clock.advance(12.5)
        return clock

    @pytest.fixture(scope="class")
    @classmethod
    def vehicle(cls) -> Iterator[Vehicle]:
        raise NotImplementedError("a subclass gives an open driver on the van")

    def test_a_short_reading_has_pack_temperatures_plug_and_charge_mode(self, vehicle: Vehicle, van: Van) -> None:
        readings = vehicle.read()
        assert readings.pack_voltage.value == pytest.approx(van.bms.plane.voltage_v, abs=0.005)
        assert readings.soc.value == pytest.approx(100.0 * van.bms.soc, abs=0.0001)
        assert readings.capacity.value == pytest.approx(115.44 * 0.97, abs=0.0001)
        assert readings.hx.value == pytest.approx(van.bms.hx_percent, abs=0.005)
        assert readings.charge_limit.value == pytest.approx(70_000.0, abs=10.0)
        assert readings.discharge_limit.value == pytest.approx(110_000.0, abs=10.0)
        assert readings.insulation.value == 906.0
        assert readings.plug_state.value == 2.0
        assert readings.charge_mode.value == 3.0
        assert [reading.value for reading in readings.pack_temperatures] == list(van.bms.temperatures_c)

    def test_current_is_positive_while_the_van_is_charged(self, vehicle: Vehicle, van: Van) -> None:
        current = vehicle.read().pack_current
        assert current.value == pytest.approx(5000.0 / 357.0, abs=0.5)
        assert current.value == pytest.approx(van.bms.plane.current_a, abs=1 / 1024)

    def test_what_a_short_reading_leaves_out_is_nan_with_no_data(self, vehicle: Vehicle) -> None:
        readings = vehicle.read()
        for reading in (readings.soh, readings.cell_min, readings.odometer, readings.quick_charges):
            assert math.isnan(reading.value)
            assert reading.quality is Quality.NO_DATA

    def test_a_full_reading_has_cells_temperatures_and_counters(self, vehicle: Vehicle, van: Van) -> None:
        readings = vehicle.read_all()
        groups = van.bms.group_voltages_v()
        assert readings.soh.value == 97.0
        assert readings.cell_min.value == pytest.approx(min(groups), abs=0.0005)
        assert readings.cell_max.value == pytest.approx(max(groups), abs=0.0005)
        assert readings.cell_average.value == pytest.approx(sum(groups) / 96, abs=0.0005)
        assert [reading.value for reading in readings.pack_temperatures] == list(van.bms.temperatures_c)
        assert readings.ambient_temperature.value == van.ambient_c
        assert readings.gear.value == 1.0
        assert readings.speed.value == 0.0
        assert readings.quick_charges.value == 4.0  # 3, and the one that runs
        assert readings.l1_l2_charges.value == 8.0
        assert readings.pack_voltage.is_good

    def test_temperatures_that_the_van_does_not_tell_are_no_data(self, vehicle: Vehicle) -> None:
        readings = vehicle.read_all()
        for reading in (readings.motor_temperature, readings.inverter_2_temperature, readings.inverter_4_temperature):
            assert reading.quality is Quality.NO_DATA

    def test_readings_carry_unit_source_and_session_time(self, vehicle: Vehicle) -> None:
        readings = vehicle.read_all().readings()
        assert [reading.unit for reading in readings] == UNITS
        assert len({reading.source for reading in readings}) == 28
        assert readings[0].source == "van.pack_voltage"
        assert {(reading.mono_s, reading.utc_s) for reading in readings} == {(12.5, 1_768_464_012.5)}

    def test_it_says_who_it_is(self, vehicle: Vehicle) -> None:
        nameplate = vehicle.identify()
        assert (nameplate.manufacturer, nameplate.model) == ("Nissan", "e-NV200 40 kWh")
        assert nameplate.serial == "V2GBENCHTW1N00001"

    def test_it_says_what_it_can(self, vehicle: Vehicle) -> None:
        assert vehicle.capabilities().cell_voltages == 96
        assert vehicle.capabilities().temperature_sensors == 4

    def test_readings_follow_the_van(self, vehicle: Vehicle, van: Van) -> None:
        before = vehicle.read().pack_current.value
        van.step(-5000.0, 1.0, 11.0)
        after = vehicle.read().pack_current.value
        van.step(5000.0, 1.0, 12.0)
        assert before > 13.0
        assert after < -13.0
