"""Keywords about what a session leaves behind: limits, witnesses, certificate, settlement."""

from __future__ import annotations

import enum

from bench.keywords.component import Component, good, keyword
from bench.keywords.robot_face import say
from bench.pipeline import CertifiedRun
from drivers.errors import ConfigError
from ledgers.canonical import Json
from ledgers.records import Agreement, UsageRecord
from ledgers.verify import verify_certificate


class ExpectedVerdict(enum.StrEnum):
    """The verdict that a plan asks for."""

    PASS = "PASS"  # noqa: S105  # a verdict
    FAIL = "FAIL"
    ANY = "any"


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
        if self.bench.opened.phase.value == 0:
            raise ConfigError("there was no session to certify; begin one with 'Plug In Vehicle'")
        run = self.bench.opened.certify(failure="the plan certified the session before it was stopped")
        say(f"verdict {run.certified.verdict}; report {run.report}")
        if verdict is not ExpectedVerdict.ANY and run.certified.verdict != verdict.value:
            reasons = "; ".join(run.certified.reasons) or "no reason against it was found"
            raise AssertionError(f"the verdict is {run.certified.verdict}, not {verdict.value}: {reasons}")
        return run.summary()

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

    def _run(self) -> CertifiedRun:
        result = self.bench.opened.result
        if result is None:
            raise ConfigError("the session is not certified yet; say 'Certify Session' first")
        return result

    def _record(self) -> UsageRecord:
        signed = self._run().certified.record
        assert signed is not None  # certification always writes one
        return signed.record
