"""Keywords about what a session leaves behind: limits, witnesses, certificate, settlement."""

from __future__ import annotations

import enum

from bench.certification import RecordedSession
from bench.keywords.component import Component, good, keyword
from bench.keywords.quantities import Energy
from bench.keywords.robot_face import say
from bench.pipeline import CertifiedRun
from drivers.errors import ConfigError
from ledgers.canonical import Json
from ledgers.records import Agreement, Direction, Plane, SignedRecord, UsageRecord
from ledgers.verify import verify_certificate


class ExpectedVerdict(enum.StrEnum):
    """The verdict that a plan asks for."""

    PASS = "PASS"  # noqa: S105  # a verdict
    FAIL = "FAIL"
    ANY = "any"


class ForgedDirection(enum.StrEnum):
    """Which energy of a usage record is forged: what went into the vehicle, or what came out of it."""

    IMPORT = "import"
    EXPORT = "export"


_SETTLE_S = 30.0  # session time for power to come down
_AT_REST_W = 200.0


class CertificationKeywords(Component):
    """Limits, certificate, settlement."""

    @keyword("safety", "assertion")
    def limits_should_hold(self, *names: str) -> None:
        """Fail unless each limit of the station (or each named one) was judged and held in every cycle so far.

        A limit that was never measured does not hold. The log gets the worst value and the margin of each.

        Example:
        | Limits Should Hold | pack_temperature_c | power_w |
        """
        opened = self.bench.opened
        records = {record.name: record for record in opened.guard.records}
        unknown = [name for name in names if name not in records]
        if unknown:
            raise ConfigError(f"the station has no limit {unknown[0]!r}; it has {', '.join(records) or 'none'}")
        failed = []
        for name in names or tuple(records):
            record = records[name]
            margin = "not measured" if record.margin is None else f"margin {record.margin:g} {record.unit}"
            say(f"{record.text}: {record.verdict}, worst {record.worst_value}, {margin}")
            if record.verdict not in {"pass", "warning"}:
                failed.append(f"{record.text}: {record.verdict}, worst {record.worst_value}")
        if failed:
            raise AssertionError(f"limits do not hold: {'; '.join(failed)}")

    @keyword("safety", "assertion")
    def limit_should_have_tripped(self, name: str) -> None:
        """Fail unless this limit tripped, the charger confirmed its safe state, and its power came down to nothing.

        Example:
        | Run Keyword And Expect Error | InterlockTripped* | Wait | 1 h |
        | Limit Should Have Tripped | pack_temperature_c |
        """
        opened = self.bench.opened
        trip = opened.cycle.trip
        if trip is None or trip.finding.limit != name:
            raise AssertionError(f"{name} did not trip, but {'nothing' if trip is None else trip.finding.limit} did")
        opened.cycle.settle(_SETTLE_S)
        charger = opened.cycle.snapshot.charger
        if not trip.safe_state_confirmed or charger is None or abs(good(charger.ac_power)) > _AT_REST_W:
            raise AssertionError(f"{trip.finding.sentence}; but the charger did not reach its safe state")
        say(f"{trip.finding.sentence}; the charger confirmed its safe state within {1000.0 * trip.reaction_s:.1f} ms")

    @keyword("certification")
    def certify_session(self, verdict: ExpectedVerdict = ExpectedVerdict.PASS) -> dict[str, Json]:
        """End the session, close the station and certify what was recorded. Returns the summary, a dictionary.

        In this order: usage record, signed, appended to the ledger and proven, verified, settled, certificate. Fails,
        with the reasons, when the verdict is not the expected one.

        Example:
        | ${summary} = | Certify Session |
        | Log | ${summary}[energy_export_wh][charger] |
        """
        self._require_session()
        run = self.bench.opened.certify(failure="the plan certified the session before it was stopped")
        say(f"verdict {run.certified.verdict}; report {run.report}")
        if verdict is not ExpectedVerdict.ANY and run.certified.verdict != verdict.value:
            reasons = "; ".join(run.certified.reasons) or "no reason against it was found"
            raise AssertionError(f"the verdict is {run.certified.verdict}, not {verdict.value}: {reasons}")
        return run.summary()

    @keyword("certification")
    def record_session(self) -> str:
        """End the session, close the station, and put the signed usage record on the ledger. Nothing is paid yet.

        It is the first half of `Certify Session`, which goes on from here: for plans that want to see what happens
        between the record and its payment. Returns the path of the record. Devices cannot be read any more.

        Example:
        | Record Session |
        | Kill Node | hub |
        | Run Keyword And Expect Error | * | Settle Session |
        | Start Node | hub |
        | Settle Session |
        | Certify Session |
        """
        self._require_session()
        recorded = self.bench.opened.record(failure="the plan recorded the session before it was stopped")
        say(f"the record is {recorded.done.record_path}, SHA-256 {recorded.signed.sha256}")
        return str(recorded.done.record_path)

    @keyword("certification", "settlement", "fault")
    def forge_usage_record(self, direction: ForgedDirection, energy: Energy) -> SignedRecord:
        """A copy of the session's record in which the charger's meter says another energy; the signature is the old.

        Returns the copy, for `Settle Session`; the session's own record stays as it is.

        Example:
        | ${forged} = | Forge Usage Record | import | 99 kWh |
        | Run Keyword And Expect Error | *does not verify* | Settle Session | ${forged} |
        """
        signed, charger = self._recorded().signed, self._recorded().facts.devices.charger_name
        at_meter = signed.record.energy.figure(charger, Plane.AC, Direction(direction.value))
        forged = at_meter.model_copy(update={"value_wh": float(energy)})
        side = "imported" if direction is ForgedDirection.IMPORT else "exported"
        figures = tuple(forged if figure == at_meter else figure for figure in getattr(signed.record.energy, side))
        energies = signed.record.energy.model_copy(update={side: figures})
        return signed.model_copy(update={"record": signed.record.model_copy(update={"energy": energies})})

    @keyword("certification", "settlement")
    def hold_payment(self) -> str:
        """Set the money for the recorded session aside, and go no further; returns the name of the hold.

        Over Lightning with ``mode: hold`` it waits at the payees' nodes then. `Settle Session` goes on from here.
        """
        self._recorded()
        hold = self.bench.opened.hold()
        say(f"hold {hold.hold_id} stands")
        return hold.hold_id

    @keyword("certification", "settlement")
    def settle_session(self, record: SignedRecord | None = None) -> dict[str, Json]:
        """Pay for the recorded session once its record verifies; fails with the reason when no money moved.

        It may be tried again until it is paid; then it does nothing. `record` is what is shown instead of the
        session's own record, from `Forge Usage Record`. Returns the settlement, a dictionary.
        """
        self._recorded()
        settlement = self.bench.opened.settle(record)
        if settlement.get("status") != "settled":
            raise AssertionError(f"the session is not paid for: {settlement.get('reason')}")
        return dict(settlement)

    @keyword("certification", "assertion")
    def witnesses_should_agree(self) -> None:
        """Fail unless the charger's meter, the vehicle and the analyzer tell the same within their uncertainties."""
        found = self._record().reconciliation
        if found.verdict is Agreement.DISAGREE:
            named = f"{found.odd_witness} is the odd one: " if found.odd_witness is not None else ""
            raise AssertionError(f"the witnesses disagree; {named}{found.odd_reason}")
        if found.verdict is Agreement.NOT_JUDGED:
            reasons = "; ".join(sorted({pair.reason for pair in found.pairs if pair.reason}))
            raise AssertionError(f"the witnesses could not be compared: {reasons}")

    @keyword("certification", "assertion")
    def odd_witness_should_be(self, device: str) -> None:
        """Fail unless the witnesses disagree and this device, by its name in the station file, stands alone."""
        found = self._record().reconciliation
        if found.odd_witness != device:
            raise AssertionError(f"the odd witness is {found.odd_witness or 'nobody'}, not {device}")

    @keyword("certification", "assertion")
    def certificate_should_verify(self) -> str:
        """Check the session's certificate offline, its signers too, and return the verdict in one line."""
        certified = self._run().certified
        if certified.certificate is None:
            raise AssertionError(f"there is no certificate: {'; '.join(certified.reasons)}")
        verdict = verify_certificate(certified.certificate, certified.trust)
        say("\n".join(verdict.lines))
        if not verdict.ok:
            raise AssertionError(verdict.text)
        return verdict.text

    @keyword("certification", "assertion")
    def settlement_should_be_paid(self) -> dict[str, Json]:
        """Fail unless the session was paid for; returns each kind of payment with its amount in millionths (micro)."""
        settlement = self._run().certified.settlement
        if settlement.get("status") != "settled":
            raise AssertionError(f"the session is not paid for: {settlement.get('reason')}")
        amounts = settlement["amounts_micro"]
        assert isinstance(amounts, dict)  # written by certification
        return amounts

    @keyword("certification", "assertion")
    def settlement_should_be_refused(self) -> str:
        """Fail if money moved; returns the reason why it did not."""
        settlement = self._run().certified.settlement
        if settlement.get("status") == "settled":
            raise AssertionError("the session was paid for")
        return str(settlement.get("reason"))

    def _require_session(self) -> None:
        if self.bench.opened.phase.value == 0:
            raise ConfigError("there was no session to certify; begin one with 'Plug In Vehicle'")

    def _recorded(self) -> RecordedSession:
        if not self.bench.opened.is_recorded:
            raise ConfigError("the session is not recorded yet; say 'Record Session' first")
        return self.bench.opened.session.recorded

    def _run(self) -> CertifiedRun:
        result = self.bench.opened.result
        if result is None:
            raise ConfigError("the session is not certified yet; say 'Certify Session' first")
        return result

    def _record(self) -> UsageRecord:
        signed = self._run().certified.record
        assert signed is not None  # certification always writes one
        return signed.record
