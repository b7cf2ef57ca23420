"""The AME V2G three-phase 10 kW charger: session states, set-points, limits, ramp, conversion, meter and watchdogs.

Both wire faces (Modbus, OCPP) act on this one object, so they cannot disagree. What commands what:

- the OCPP charging profile bounds (`profile_min_w`, `profile_max_w`), the set-point acts inside it, the tighter wins;
- where OCPP alone commands, `profile_command_w` takes the place of the set-point;
- the vehicle's own limits and the charger's rating bound both;
- `allocation()` says what is in force and who made the difference, for `SetPower` and for SunSpec's ThrotSrc.

Two watchdogs are real: the revert timer that a controller arms (SunSpec 704 WSetRvrtTms) and the controller heartbeat
(SunSpec 715), which counts as soon as a first heartbeat was seen. Either one expiring forces 0 W, and stays until the
controller writes a set-point again.

Positive power charges the vehicle. The set-point is AC power, as in SunSpec 704 WSet.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from twins.charger.converter import Converter
from twins.measurement import Accuracy, Channel, Fault, MeteredPlane
from twins.vehicle.van import Van

# Meter inside the charger: class B of EN 50470-3 is 1 % of reading; the rest is an engineering choice.
POWER_ACCURACY = Accuracy(gain_percent=1.0, offset=3.0, noise=2.0, resolution=1.0)
VOLTAGE_ACCURACY = Accuracy(gain_percent=0.5, noise=0.05, resolution=0.1)
CURRENT_ACCURACY = Accuracy(gain_percent=0.5, noise=0.01, resolution=0.01)
SOC_RESOLUTION_PERCENT = 0.1


class SessionState(enum.StrEnum):
    """Where the charger stands between plug-in and plug-out."""

    AVAILABLE = "available"
    PLUGGED = "plugged"  # cable in, nobody authorised
    AUTHORISED = "authorised"  # may start
    RUNNING = "running"  # contactors closed; energy may flow, also 0 W
    FINISHING = "finishing"  # stopped, cable still in
    FAULTED = "faulted"
    UNAVAILABLE = "unavailable"


class Clamp(enum.StrEnum):
    """Who keeps the allocated power from the set-point."""

    NOBODY = "nobody"
    PROFILE = "profile"
    VEHICLE = "vehicle"
    CHARGER = "charger"
    GRID = "grid"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class Allocation:
    """AC power that the charger will ramp to, and who reduced it."""

    power_w: float
    clamped_by: Clamp


class CommandRefused(Exception):
    """The charger cannot do this now; `reason` is one sentence for the peer's error answer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ChargerTwin:
    """One bidirectional charger with one connector and, when plugged, one van."""

    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        van: Van | None = None,
        max_charge_w: float = 10_000.0,
        max_discharge_w: float = 10_000.0,
        standby_w: float = 35.0,
        ramp_up_w_per_s: float = 2_000.0,
        ramp_down_w_per_s: float = 5_000.0,
        heartbeat_timeout_s: float = 10.0,
        serial: str = "AME-V2G3P10-0001",
        converter: Converter | None = None,
        power_accuracy: Accuracy = POWER_ACCURACY,
        fault: Fault | None = None,
    ) -> None:
        self.name = name
        self.serial = serial
        self.van = van
        self.max_charge_w = max_charge_w
        self.max_discharge_w = max_discharge_w
        self.standby_w = standby_w
        self.ramp_up_w_per_s = ramp_up_w_per_s
        self.ramp_down_w_per_s = ramp_down_w_per_s
        self.converter = converter or Converter(rated_w=max(max_charge_w, max_discharge_w))
        self.state = SessionState.AVAILABLE
        self.setpoint_w = 0.0
        self.profile_min_w = -max_discharge_w
        self.profile_max_w = max_charge_w
        self.profile_command_w: float | None = None
        self.allocated = Allocation(0.0, Clamp.NOBODY)  # of the last step; nothing while no session runs
        self.id_tag = ""
        self.session_count = 0
        self.stop_reason = ""
        self.fault_codes: tuple[str, ...] = ()
        # True values of the last step; positive charges.
        self.ac_power_w = 0.0  # of the converter, while a session runs
        self.true_ac_power_w = standby_w  # at the grid terminals, losses and stand-by included
        self.dc_power_w = 0.0
        self.grid_voltage_v = 230.0
        self.grid_frequency_hz = 50.0
        self.cabinet_temperature_c = 25.0
        self.meter = MeteredPlane(
            power=Channel(power_accuracy, rng),
            voltage=Channel(VOLTAGE_ACCURACY, rng),
            current=Channel(CURRENT_ACCURACY, rng),
            fault=fault,
        )
        # No session begins on a whole count: a register cut to 1 Wh would else always read too little.
        self.meter.import_wh, self.meter.export_wh = rng.random(), rng.random()
        self._dc_voltage = Channel(VOLTAGE_ACCURACY, rng)
        self._dc_current = Channel(CURRENT_ACCURACY, rng)
        self.heartbeat_timeout_s = heartbeat_timeout_s
        self.revert_timeout_s = 0.0  # 0: not armed
        self.watchdog_tripped = False
        self._now_s = 0.0
        self._last_set_s = 0.0
        self._last_heartbeat_s: float | None = None

    # Physical acts

    def plug_in(self) -> None:
        """Put the cable into the van; a charger that is faulted or out of service stays so, with the cable in."""
        if self.van is None:
            raise CommandRefused(f"charger {self.name!r} has no van at its parking place")
        self.van.plug_in()
        if self.state is SessionState.AVAILABLE:
            self.state = SessionState.PLUGGED

    def unplug(self) -> None:
        """Take the cable out; a running session stops first."""
        if self.state is SessionState.RUNNING:
            self.stop("EVDisconnected")
        if self.van is not None:
            self.van.unplug()
        if self.state not in {SessionState.FAULTED, SessionState.UNAVAILABLE}:
            self.state = SessionState.AVAILABLE
        self.id_tag = ""

    # Commands of the faces

    def authorise(self, id_tag: str) -> None:
        """Let `id_tag` start a session."""
        if self.state not in {SessionState.PLUGGED, SessionState.FINISHING, SessionState.AUTHORISED}:
            raise CommandRefused(f"the charger is {self.state}; plug a vehicle in before authorising")
        self.id_tag = id_tag
        self.state = SessionState.AUTHORISED

    def start(self, id_tag: str | None = None) -> None:
        """Close the contactors and begin a session at 0 W; a controller on Modbus needs no tag."""
        if self.state is SessionState.RUNNING:
            return
        if self.state not in {SessionState.PLUGGED, SessionState.AUTHORISED, SessionState.FINISHING}:
            raise CommandRefused(f"the charger is {self.state}; a session starts only with a vehicle plugged in")
        if id_tag is not None:
            self.id_tag = id_tag
        assert self.van is not None  # a plugged charger has one
        self.van.begin_transfer()
        self.setpoint_w = 0.0
        self.session_count += 1
        self.stop_reason = ""
        self.state = SessionState.RUNNING

    def stop(self, reason: str = "Local") -> None:
        """End the session: 0 W at once, contactors open; does nothing when none runs."""
        self.setpoint_w = 0.0
        if self.state is SessionState.RUNNING:
            self.stop_reason = reason
            self.state = SessionState.FINISHING
            self.ac_power_w = self.dc_power_w = 0.0
            if self.van is not None:
                self.van.end_transfer()

    def set_setpoint(self, power_w: float) -> None:
        """Ask for AC power (+ charges); what of it is in force says `allocation`."""
        self.setpoint_w = power_w
        self._last_set_s = self._now_s
        self.watchdog_tripped = False

    def set_profile(self, min_w: float, max_w: float) -> None:
        """Bound the power by a charging profile; (-max_discharge_w, max_charge_w) lifts the bound."""
        self.profile_min_w = min_w
        self.profile_max_w = max_w

    def command_by_profile(self, power_w: float | None) -> None:
        """Let a charging profile command the power instead of the set-point; None gives command back to it."""
        self.profile_command_w = power_w

    def set_available(self, available: bool) -> None:
        """Take the charger out of service or put it back; refused while a session runs or a fault stands."""
        if self.state in {SessionState.RUNNING, SessionState.FAULTED}:
            raise CommandRefused(f"the charger is {self.state}; availability changes when that is over")
        if not available:
            self.state = SessionState.UNAVAILABLE
        elif self.state is SessionState.UNAVAILABLE:
            plugged = self.van is not None and self.van.plug_state != 0
            self.state = SessionState.PLUGGED if plugged else SessionState.AVAILABLE

    def arm_revert(self, timeout_s: float) -> None:
        """Arm the revert timer; 0 disarms it."""
        self.revert_timeout_s = timeout_s
        self._last_set_s = self._now_s

    def heartbeat(self) -> None:
        """Note that a controller is alive; feeds both watchdogs."""
        self._last_heartbeat_s = self._last_set_s = self._now_s

    def raise_fault(self, code: str) -> None:
        """Go to FAULTED with a fault code; energy stops."""
        self.stop("EmergencyStop")
        self.fault_codes = (*self.fault_codes, code)
        self.state = SessionState.FAULTED

    def clear_faults(self) -> None:
        """Reset faults; the charger returns to plugged or available."""
        self.fault_codes = ()
        if self.state is SessionState.FAULTED:
            plugged = self.van is not None and self.van.plug_state != 0
            self.state = SessionState.PLUGGED if plugged else SessionState.AVAILABLE

    # What faces and instruments read

    @property
    def now_s(self) -> float:
        """Session time of the last step."""
        return self._now_s

    @property
    def revert_remaining_s(self) -> float:
        """Seconds until the revert timer acts; 0 when it is not armed."""
        if not self.revert_timeout_s:
            return 0.0
        return max(0.0, self.revert_timeout_s - (self._now_s - self._last_set_s))

    @property
    def charge_limit_w(self) -> float:
        """AC power that charger and plugged vehicle can take now, positive."""
        if self.van is None or self.state is not SessionState.RUNNING:
            return self.max_charge_w
        return min(self.max_charge_w, self.converter.ac_from_dc_w(self.van.bms.charge_limit_w))

    @property
    def discharge_limit_w(self) -> float:
        """AC power that charger and plugged vehicle can give now, positive."""
        if self.van is None or self.state is not SessionState.RUNNING:
            return self.max_discharge_w
        return min(self.max_discharge_w, max(0.0, -self.converter.ac_from_dc_w(-self.van.bms.discharge_limit_w)))

    @property
    def soc_percent(self) -> float | None:
        """State of charge that the vehicle told the charger; None without a session."""
        if self.van is None or self.state is not SessionState.RUNNING:
            return None
        return round(100.0 * self.van.bms.soc / SOC_RESOLUTION_PERCENT) * SOC_RESOLUTION_PERCENT

    def allocation(self) -> Allocation:
        """Power in force for the present set-point; the tightest bound is named."""
        if self.watchdog_tripped:
            return Allocation(0.0, Clamp.WATCHDOG)
        wanted = self.setpoint_w if self.profile_command_w is None else self.profile_command_w
        power, clamp = wanted, Clamp.NOBODY
        if wanted >= 0.0:
            bounds = (
                (self.max_charge_w, Clamp.CHARGER),
                (self.charge_limit_w, Clamp.VEHICLE),
                (self.profile_max_w, Clamp.PROFILE),
            )
            for bound, who in bounds:
                if power > bound:
                    power, clamp = bound, who
        if wanted < 0.0 or power < 0.0:
            bounds = (
                (-self.max_discharge_w, Clamp.CHARGER),
                (-self.discharge_limit_w, Clamp.VEHICLE),
                (self.profile_min_w, Clamp.PROFILE),
            )
            for bound, who in bounds:
                if power < bound:
                    power, clamp = bound, who
        if wanted < 0.0 and self.profile_max_w < power:
            power, clamp = self.profile_max_w, Clamp.PROFILE
        return Allocation(power, clamp)

    @property
    def dc_voltage_v(self) -> float:
        """DC voltage as the charger's own sensor has it; 0 with open contactors."""
        if self.van is None or self.state is not SessionState.RUNNING:
            return 0.0
        return self._dc_voltage.rounded(self.van.pack.voltage_v * self._dc_voltage.gain)

    @property
    def dc_current_a(self) -> float:
        """DC current as the charger's own sensor has it, + charges."""
        if self.van is None or self.state is not SessionState.RUNNING:
            return 0.0
        return self._dc_current.rounded(self.dc_power_w / self.van.pack.voltage_v * self._dc_current.gain)

    def step(self, grid_voltage_v: float, grid_frequency_hz: float, dt_s: float, now_s: float) -> None:
        """Advance to `now_s`: watchdogs, ramp, conversion, van, meter."""
        self._now_s = now_s
        self.grid_voltage_v = grid_voltage_v
        self.grid_frequency_hz = grid_frequency_hz
        self._check_watchdogs()
        if self.state is SessionState.RUNNING:
            self._ramp(dt_s)
            self.dc_power_w = self.converter.dc_from_ac_w(self.ac_power_w)
        else:
            self.allocated = Allocation(0.0, Clamp.NOBODY)
            self.ac_power_w = self.dc_power_w = 0.0
        if self.van is not None:
            # What the pack does not take was never converted: both planes follow what passed the inlet.
            self.dc_power_w = self.van.step(self.dc_power_w, dt_s, now_s)
        # At 0 W asked, a running converter idles on its running loss.
        running = self.state is SessionState.RUNNING
        ac_power_w = self.converter.ac_from_dc_w(self.dc_power_w) if running else self.standby_w
        self.true_ac_power_w = ac_power_w
        heating_c = 0.02 * (ac_power_w - self.dc_power_w)
        self.cabinet_temperature_c += (25.0 + heating_c - self.cabinet_temperature_c) * min(1.0, dt_s / 600.0)
        self.meter.step(ac_power_w, grid_voltage_v, ac_power_w / (3.0 * grid_voltage_v), dt_s, now_s)

    def _check_watchdogs(self) -> None:
        silent = self.revert_timeout_s and self._now_s - self._last_set_s > self.revert_timeout_s
        lost = self._last_heartbeat_s is not None and self._now_s - self._last_heartbeat_s > self.heartbeat_timeout_s
        if (silent or lost) and not self.watchdog_tripped:
            self.watchdog_tripped = True
            self.setpoint_w = 0.0

    def _ramp(self, dt_s: float) -> None:
        self.allocated = self.allocation()
        target = self.allocated.power_w
        difference = target - self.ac_power_w
        towards_zero = abs(target) < abs(self.ac_power_w) and target * self.ac_power_w >= 0.0
        most = (self.ramp_down_w_per_s if towards_zero else self.ramp_up_w_per_s) * dt_s
        self.ac_power_w += max(-most, min(most, difference))
