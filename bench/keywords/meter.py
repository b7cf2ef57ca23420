"""Keywords of the power analyzer, which sees both sides of the charger."""

from __future__ import annotations

from bench.keywords.component import Comparison, Component, good, keyword
from bench.keywords.quantities import NO_ENERGY, NO_POWER, NO_TIME, Duration, Energy, Power
from drivers.errors import ConfigError
from drivers.roles import PowerMeterReadings
from ledgers.records import Direction, Plane


class MeterKeywords(Component):
    """The power analyzer."""

    @keyword("meter", "getter")
    def get_meter_power(
        self,
        plane: Plane,
        operator: Comparison | None = None,
        expected: Power = NO_POWER,
        retry_for: Duration = NO_TIME,
    ) -> Power:
        """Power by the analyzer on one side of the charger (+ charges): `ac` the grid's, `dc` the vehicle's.

        Example:
        | Get Meter Power | ac | <= | -4.75 kW | retry_for=10 s |
        """

        def read() -> float:
            meter = self._meter()
            return good(meter.ac_power if plane is Plane.AC else meter.dc_power)

        return self.get(Power, f"meter {plane.value} power", read, operator, expected, retry_for)

    @keyword("meter", "getter")
    def get_meter_energy(
        self,
        plane: Plane,
        direction: Direction,
        operator: Comparison | None = None,
        expected: Energy = NO_ENERGY,
        retry_for: Duration = NO_TIME,
    ) -> Energy:
        """Energy by the analyzer on one side of the charger in one direction since the station was opened."""

        def read() -> float:
            meter = self._meter()
            reading = {
                (Plane.AC, Direction.IMPORT): meter.ac_import_energy,
                (Plane.AC, Direction.EXPORT): meter.ac_export_energy,
                (Plane.DC, Direction.IMPORT): meter.dc_import_energy,
                (Plane.DC, Direction.EXPORT): meter.dc_export_energy,
            }[plane, direction]
            return good(reading) - self.bench.opened.first_values.get(reading.source, reading.value)

        what = f"meter {plane.value} {direction.value} energy"
        return self.get(Energy, what, read, operator, expected, retry_for)

    def _meter(self) -> PowerMeterReadings:
        opened = self.bench.opened
        name = opened.station.device_of("power_meter")
        if name is None:
            raise ConfigError(f"station {opened.station.name!r} has no power meter; add a device of that role")
        poll_s = opened.station.poll_s(name)
        self.fresh("meter", lambda snapshot: snapshot.meter.ac_power if snapshot.meter else None, poll_s)
        meter = opened.cycle.snapshot.meter
        assert meter is not None  # it was just waited for
        return meter
