"""Keywords of the charger: set-points, who clamped them, and what the charger says of itself."""

from __future__ import annotations

from bench.keywords.component import Comparison, Component, good, keyword
from bench.keywords.quantities import NO_DURATION, NO_ENERGY, NO_POWER, NO_TIME, Duration, Energy, Power
from bench.keywords.robot_face import say
from drivers.errors import LimitError, NotOpenError
from drivers.roles import ChargerReadings, ChargerState, ClampedBy, SetPower
from ledgers.records import Direction

_TOLERANCE = Power(150.0)


class PowerKeywords(Component):
    """The charger."""

    @keyword("charger", "waits")
    def set_charger_power(self, power: Power, within: Duration = NO_DURATION, tolerance: Power = _TOLERANCE) -> Power:
        """Ask for AC power (+ charges) and return what came into force, which is less where somebody clamped it.

        With `within` it waits until the charger's own meter shows it to `tolerance`, and fails after so much session
        time. A refused set-point fails at once and says who refused. LimitError when the station's limits forbid it;
        nothing is sent then.

        Example:
        | Set Charger Power | -5 kW | within=15 s |
        """
        result = self._ask(power)
        if result.refused:
            raise AssertionError(f"{power} was refused by the {result.clamped_by.value} (code {result.code})")
        accepted = Power(result.accepted_w)
        if not result.accepted:
            say(f"{power} became {accepted}, clamped by the {result.clamped_by.value}")
        if within.is_given:

            def attempt() -> None:
                now = Power(good(self._charger().ac_power))
                if abs(float(now) - float(accepted)) > float(tolerance):
                    raise AssertionError(f"the charger is at {now:.6g}, asked for {accepted}")

            self.retry(attempt, within)
        return accepted

    @keyword("charger", "assertion")
    def set_point_should_be_clamped_by(self, party: ClampedBy) -> None:
        """Fail unless the last set-point was reduced or refused by this party; NOBODY: it is in force as asked."""
        asked = self.bench.opened.runner.set_points
        if not asked:
            raise NotOpenError("no set-point was asked for yet; say 'Set Charger Power' or 'Follow Grid Orders' first")
        result = asked[-1]
        if result.clamped_by is not party:
            raise AssertionError(
                f"{Power(result.requested_w)} became {Power(result.accepted_w)}, clamped by "
                f"{result.clamped_by.value} and not by {party.value}"
            )

    @keyword("charger", "assertion")
    def set_point_should_be_refused(self, power: Power, by: ClampedBy) -> None:
        """Ask for a power that must not come into force, and fail unless this party refuses it.

        LIMIT is the station's own: the bench refuses before anything is sent.

        Example:
        | Set Point Should Be Refused | 12 kW | by=limit |
        """
        try:
            result = self._ask(power)
        except LimitError as error:
            if by is not ClampedBy.LIMIT:
                raise AssertionError(f"not refused by the {by.value} but by the bench: {error}") from error
            return
        if not result.refused:
            raise AssertionError(f"{power} was not refused: {Power(result.accepted_w)} is in force")
        if result.clamped_by is not by:
            raise AssertionError(f"{power} was refused by the {result.clamped_by.value}, not by the {by.value}")

    @keyword("charger", "getter")
    def get_charger_power(
        self, operator: Comparison | None = None, expected: Power = NO_POWER, retry_for: Duration = NO_TIME
    ) -> Power:
        """AC power by the charger's own meter (+ charges), judged when there is an operator.

        Example:
        | Get Charger Power | < | -4.75 kW | retry_for=10 s |
        """
        return self.get(Power, "charger power", lambda: good(self._charger().ac_power), operator, expected, retry_for)

    @keyword("charger", "getter")
    def get_charger_energy(
        self,
        direction: Direction,
        operator: Comparison | None = None,
        expected: Energy = NO_ENERGY,
        retry_for: Duration = NO_TIME,
    ) -> Energy:
        """Energy by the charger's meter in one direction since the station was opened.

        `import` is grid to vehicle, `export` vehicle to grid; both are positive.
        """

        def read() -> float:
            charger = self._charger()
            reading = charger.import_energy if direction is Direction.IMPORT else charger.export_energy
            return good(reading) - self.bench.opened.first_values.get(reading.source, reading.value)

        return self.get(Energy, f"charger {direction.value} energy", read, operator, expected, retry_for)

    @keyword("charger", "assertion")
    def charger_state_should_be(self, state: ChargerState, retry_for: Duration = NO_TIME) -> None:
        """Fail unless the charger is in this state."""

        def attempt() -> None:
            found = self._charger().state
            if found is not state:
                raise AssertionError(f"the charger is {found.value}, not {state.value}")

        self.retry(attempt, retry_for)

    def _ask(self, power: Power) -> SetPower:
        opened = self.bench.opened
        result = opened.runner.set_power(float(power))
        opened.acted()
        return result

    def _charger(self) -> ChargerReadings:
        opened = self.bench.opened
        poll_s = opened.station.poll_s(opened.station.charger_name)
        self.fresh("charger", lambda snapshot: snapshot.charger.ac_power if snapshot.charger else None, poll_s)
        charger = opened.cycle.snapshot.charger
        assert charger is not None  # it was just waited for
        return charger
