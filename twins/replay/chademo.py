"""A CHAdeMO session out of its frames: handshake, precharge, charge or discharge, stop.

Both sides speak from the plug-in on, so the phases follow from four flags and two currents (IEEE Std 2030.1.1-2021):
the vehicle enables charging (frame 0x102), the charger says charging, locked and stop (0x109), and current flows.
A log often begins in the middle: then the exchange of limits that is still on the bus is reported as the handshake,
and the session says that it was under way.
"""

from __future__ import annotations

from twins.replay.summary import ChademoPhase, ChademoPhaseKind, ChademoSession

_NEEDED = (
    "chademo.vehicle_maximum_voltage_v",
    "chademo.vehicle_target_voltage_v",
    "chademo.charger_available_voltage_v",
    "charger.dc_voltage_v",
)


class _OpenPhase:
    """A phase that is still running."""

    __slots__ = ("begin_s", "begin_voltage_v", "count", "end_voltage_v", "kind", "maximum_a", "note", "total_a")

    def __init__(self, kind: ChademoPhaseKind, begin_s: float, note: str) -> None:
        self.kind = kind
        self.begin_s = begin_s
        self.note = note
        self.begin_voltage_v: float | None = None
        self.end_voltage_v: float | None = None
        self.count = 0
        self.total_a = 0.0
        self.maximum_a: float | None = None

    def see(self, voltage_v: float, current_a: float) -> None:
        if self.begin_voltage_v is None:
            self.begin_voltage_v = voltage_v
        self.end_voltage_v = voltage_v
        self.count += 1
        self.total_a += current_a
        if self.maximum_a is None or abs(current_a) > abs(self.maximum_a):
            self.maximum_a = current_a

    def close(self, end_s: float) -> ChademoPhase:
        return ChademoPhase(
            kind=self.kind,
            begin_s=self.begin_s,
            end_s=end_s,
            begin_voltage_v=self.begin_voltage_v,
            end_voltage_v=self.end_voltage_v,
            mean_current_a=self.total_a / self.count if self.count else None,
            maximum_current_a=self.maximum_a,
            note=self.note,
        )


class ChademoTracker:
    """Feed it every good CHAdeMO frame's values; read `sessions()` at the end."""

    __slots__ = ("_first_enabled", "_phase", "_phases", "_sessions", "_time_s", "_values")

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._phases: list[ChademoPhase] = []
        self._phase: _OpenPhase | None = None
        self._sessions: list[ChademoSession] = []
        self._first_enabled: bool | None = None
        self._time_s = 0.0

    def update(self, time_s: float, values: dict[str, float]) -> None:
        """Take the values of one frame."""
        self._time_s = time_s
        self._values.update(values)
        if self._first_enabled is None and "chademo.vehicle_enabled" in values:
            self._first_enabled = values["chademo.vehicle_enabled"] > 0
        kind = self._kind()
        if self._phase is None or kind is not self._phase.kind:
            self._enter(kind, time_s)
        if "charger.dc_voltage_v" in values and self._phase is not None:
            self._phase.see(values["charger.dc_voltage_v"], self.current_a)

    @property
    def current_a(self) -> float:
        """Current by the charger's meter, positive into the vehicle."""
        charge = self._values.get("chademo.charge_current_a", 0.0)
        return charge - self._values.get("chademo.discharge_current_a", 0.0)

    @property
    def charging(self) -> bool:
        """Whether energy flows either way."""
        return self._values.get("chademo.charger_charging", 0.0) > 0 and self.current_a != 0.0

    @property
    def locked(self) -> bool | None:
        """Whether the connector is locked into the vehicle; None before the charger said so."""
        flag = self._values.get("chademo.connector_locked")
        return None if flag is None else flag > 0

    def sessions(self) -> tuple[ChademoSession, ...]:
        """All sessions of the log, the running one among them."""
        if self._phase is not None:
            self._close_phase(self._time_s)
            self._close_session()
        return tuple(self._sessions)

    def _kind(self) -> ChademoPhaseKind:
        values = self._values
        if any(name not in values for name in _NEEDED):
            return ChademoPhaseKind.HANDSHAKE
        enabled = values.get("chademo.vehicle_enabled", 0.0) > 0
        charging = values.get("chademo.charger_charging", 0.0) > 0
        stopping = values.get("chademo.charger_stop_control", 0.0) > 0
        current_a = self.current_a
        if current_a < 0:
            return ChademoPhaseKind.DISCHARGE
        if current_a > 0 and charging:
            return ChademoPhaseKind.CHARGE
        if self._has_flowed():
            running = enabled and charging and not stopping
            last = self._phase.kind if self._phase is not None else ChademoPhaseKind.STOP
            return last if running and last is not ChademoPhaseKind.STOP else self._after_flow(enabled=enabled)
        if enabled or charging or values.get("chademo.connector_locked", 0.0) > 0:
            return ChademoPhaseKind.PRECHARGE
        return ChademoPhaseKind.HANDSHAKE

    def _after_flow(self, *, enabled: bool) -> ChademoPhaseKind:
        """After a stop the vehicle may enable anew: that is the next session's precharge."""
        restarted = enabled and self._phase is not None and self._phase.kind is ChademoPhaseKind.STOP
        ready = self._values.get("chademo.charger_stop_control", 0.0) == 0.0
        return ChademoPhaseKind.PRECHARGE if restarted and ready else ChademoPhaseKind.STOP

    def _has_flowed(self) -> bool:
        flowing = {ChademoPhaseKind.CHARGE, ChademoPhaseKind.DISCHARGE, ChademoPhaseKind.STOP}
        return self._phase is not None and self._phase.kind in flowing

    def _enter(self, kind: ChademoPhaseKind, time_s: float) -> None:
        note = ""
        if self._phase is not None:
            before = self._phase.kind
            self._close_phase(time_s)
            if before is ChademoPhaseKind.STOP:
                self._close_session()
            elif before is ChademoPhaseKind.HANDSHAKE and kind is ChademoPhaseKind.CHARGE and self._first_enabled:
                note = "already running when the log begins"
        elif self._values.get("chademo.vehicle_enabled", 0.0) > 0:
            note = "limits read from an exchange that was under way"
        self._phase = _OpenPhase(kind, time_s, note)

    def _close_phase(self, end_s: float) -> None:
        if self._phase is not None:
            if self._phase.kind is ChademoPhaseKind.HANDSHAKE and self._first_enabled and not self._phase.note:
                self._phase.note = "limits read from an exchange that was under way"
            self._phases.append(self._phase.close(end_s))

    def _close_session(self) -> None:
        value = self._values.get
        vehicle, charger = value("chademo.vehicle_discharge_compatible"), value("chademo.charger_discharge_compatible")
        vehicle_protocol, charger_protocol = value("chademo.vehicle_protocol"), value("chademo.charger_protocol")
        self._sessions.append(
            ChademoSession(
                phases=tuple(self._phases),
                vehicle_protocol=None if vehicle_protocol is None else int(vehicle_protocol),
                charger_protocol=None if charger_protocol is None else int(charger_protocol),
                vehicle_maximum_voltage_v=value("chademo.vehicle_maximum_voltage_v"),
                vehicle_target_voltage_v=value("chademo.vehicle_target_voltage_v"),
                vehicle_minimum_voltage_v=value("chademo.vehicle_minimum_voltage_v"),
                charger_available_voltage_v=value("chademo.charger_available_voltage_v"),
                charger_available_current_a=value("chademo.charger_available_current_a"),
                charger_threshold_voltage_v=value("chademo.charger_threshold_voltage_v"),
                discharge_compatible=None if vehicle is None or charger is None else vehicle > 0 and charger > 0,
                under_way_at_start=bool(self._first_enabled) and not self._sessions,
                complete=bool(self._phases) and self._phases[-1].kind is ChademoPhaseKind.STOP,
            )
        )
        self._phases = []
        self._phase = None
