"""Keywords of the vehicle, which is read as often as the station file says; over an adapter values may be 10 s old."""

from __future__ import annotations

import enum

from bench.keywords.component import Comparison, Component, good, keyword
from bench.keywords.quantities import NO_POWER, NO_SHARE, NO_TEMPERATURE, NO_TIME, Duration, Power, Share, Temperature
from drivers.errors import ConfigError
from drivers.roles import VehicleReadings


class Sensor(enum.StrEnum):
    """Which of the pack's temperature sensors."""

    HOTTEST = "hottest"
    COLDEST = "coldest"


class VehicleKeywords(Component):
    """The vehicle and its battery."""

    @keyword("vehicle", "getter")
    def get_vehicle_state_of_charge(
        self, operator: Comparison | None = None, expected: Share = NO_SHARE, retry_for: Duration = NO_TIME
    ) -> Share:
        """State of charge by the vehicle's battery management.

        Example:
        | Get Vehicle State Of Charge | >= | 40 % |
        """
        return self.get(
            Share, "vehicle state of charge", lambda: good(self._vehicle().soc), operator, expected, retry_for
        )

    @keyword("vehicle", "getter")
    def get_vehicle_state_of_health(
        self, operator: Comparison | None = None, expected: Share = NO_SHARE, retry_for: Duration = NO_TIME
    ) -> Share:
        """State of health by the vehicle's battery management."""
        return self.get(Share, "vehicle state of health", lambda: good(self._full().soh), operator, expected, retry_for)

    @keyword("vehicle", "getter")
    def get_vehicle_power(
        self, operator: Comparison | None = None, expected: Power = NO_POWER, retry_for: Duration = NO_TIME
    ) -> Power:
        """Pack voltage times pack current by the vehicle's battery management (+ charges)."""

        def read() -> float:
            vehicle = self._vehicle()
            return good(vehicle.pack_voltage) * good(vehicle.pack_current)

        return self.get(Power, "vehicle power", read, operator, expected, retry_for)

    @keyword("vehicle", "getter")
    def get_pack_temperature(
        self,
        operator: Comparison | None = None,
        expected: Temperature = NO_TEMPERATURE,
        *,
        sensor: Sensor = Sensor.HOTTEST,
        retry_for: Duration = NO_TIME,
    ) -> Temperature:
        """Temperature of the battery at its hottest or coldest sensor.

        Example:
        | Get Pack Temperature | < | 40 °C |
        """

        def read() -> float:
            values = [reading.value for reading in self._vehicle().pack_temperatures if reading.is_good]
            if not values:
                raise AssertionError("no temperature sensor of the pack gives a value now")
            return max(values) if sensor is Sensor.HOTTEST else min(values)

        what = f"{sensor.value} pack temperature"
        return self.get(Temperature, what, read, operator, expected, retry_for)

    def _vehicle(self) -> VehicleReadings:
        """The newest readings; time passes until there are some."""
        opened = self.bench.opened
        name = opened.station.device_of("vehicle")
        if name is None:
            raise ConfigError(f"station {opened.station.name!r} has no vehicle; add a device of that role")
        opened.cycle.wait_until(
            lambda snapshot: snapshot.vehicle is not None,
            timeout_s=3.0 * (opened.station.poll_s(name) + opened.station.cycle_s),
            what="the first reading of the vehicle",
        )
        vehicle = opened.cycle.snapshot.vehicle
        assert vehicle is not None  # it was just waited for
        return vehicle

    def _full(self) -> VehicleReadings:
        """The newest reading of everything: between two of them only what changes quickly is read."""
        return self.bench.opened.cycle.last_full_vehicle or self._vehicle()
