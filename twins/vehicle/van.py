"""The van around its pack: plug, gear, counters, and what its control units would report of them.

`Van` holds the state that the wire faces of `twins.faces` expose; `twins.vehicle.ecus` turns it into the bytes of the
van's own control units. Positive power charges.
"""

from __future__ import annotations

import random

from twins.measurement import Accuracy, Channel, Fault
from twins.pack.bms import CURRENT_ACCURACY, TEMPERATURE_ACCURACY, Bms
from twins.pack.pack import Pack, PackTwin
from twins.pack.parameters import PackParameters
from twins.pack.uses import Use

GEAR_PARK = 1  # VCM identifier 1156: 1 P, 2 R, 3 N, 4 D, 7 B/Eco
PLUG_NONE, PLUG_CONNECTED = 0, 2  # VCM identifier 1234
MODE_NONE, MODE_RAPID = 0, 3  # VCM identifier 114E: 3 is DC, the mode of a CHAdeMO session
MADE_UP_VIN = "V2GBENCHTW1N00001"  # 17 characters of ISO 3779, and obviously nobody's


class Van:
    """An e-NV200 40 kWh: pack, battery management system, and the rest of the car as a parked session needs it."""

    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        soc_percent: float = 55.0,
        soh_percent: float = 97.0,
        ambient_c: float = 22.0,
        pack_temperature_c: float | None = None,
        odometer_km: int = 48_210,
        vin: str = MADE_UP_VIN,
        pack: PackParameters | None = None,
        every_group: bool = False,
        current_accuracy: Accuracy = CURRENT_ACCURACY,
        fault: Fault | None = None,
    ) -> None:
        """`pack` is the battery, the shipped 40 kWh one by default; `every_group` carries all its groups one by one."""
        self.name = name
        self.vin = vin
        self.pack: Pack = PackTwin(
            soc=soc_percent / 100.0,
            soh=soh_percent / 100.0,
            ambient_c=ambient_c,
            temperature_c=pack_temperature_c,
            parameters=pack,
            seed=rng.getrandbits(32),
            every_group=every_group,
        )
        self.bms = Bms(self.pack, rng, current_accuracy=current_accuracy, fault=fault)
        self._ambient_sensor = Channel(TEMPERATURE_ACCURACY, rng)
        self.plug_state = PLUG_NONE
        self.charge_mode = MODE_NONE
        self.gear = GEAR_PARK
        self.speed_kmh = 0.0
        self.odometer_km = odometer_km
        self.quick_charges = 3
        self.l1_l2_charges = 8
        self.motor_temperature_c = ambient_c
        self.inverter_2_temperature_c = ambient_c
        self.inverter_4_temperature_c = ambient_c
        self.auxiliary_w = 0.0
        self.contactor_closed = False

    @property
    def ambient_c(self) -> float:
        """Outside temperature as the van's own sensor has it, in steps of 0.5 degC."""
        return round(self._ambient_sensor.unrounded(self.pack.ambient_c) * 2.0) / 2.0

    def plug_in(self) -> None:
        """Connect the charging cable."""
        self.plug_state = PLUG_CONNECTED

    def unplug(self) -> None:
        """Take the charging cable out."""
        self.plug_state = PLUG_NONE
        self.end_transfer()

    def begin_transfer(self) -> None:
        """Close the contactors for a DC session; counts one rapid charge, as the car does."""
        if self.charge_mode != MODE_RAPID:
            self.quick_charges += 1
        self.charge_mode = MODE_RAPID
        self.contactor_closed = True
        self.pack.use = Use.V2G

    def end_transfer(self) -> None:
        """Open the contactors."""
        self.charge_mode = MODE_NONE
        self.contactor_closed = False
        self.pack.use = Use.PARKED

    def step(self, dc_power_w: float, dt_s: float, now_s: float) -> float:
        """Offer `dc_power_w` at the inlet (+ charges) for `dt_s` seconds; returns what passed it.

        That is less only when the pack is full or empty: its limits bring the charger to rest before.
        """
        asked_w = dc_power_w - self.auxiliary_w
        self.pack.step(asked_w, dt_s)
        self.bms.step(dt_s, now_s)
        return dc_power_w - (asked_w - self.pack.heater_w - self.pack.power_w)
