"""What can go wrong between a client and an lnd, each as a class of its own, with lnd's code and words kept.

LightningError, SettlementError
 +- LndError                   anything a node said, or failed to say: `node`, `call`, `code`, `words`
     +- LndUnreachable         no answer: nothing is known about what was asked; reads may be asked again
     +- LndTimeout             no answer in time (also a TimeoutError): as above
     +- LndLocked              its wallet is locked, missing or still starting: unlock it, ask again
     +- LndDenied              the macaroon is missing, of another node, or not allowed to do this
     +- LndCertificateRefused  the TLS certificate is expired, unreadable or of another node
     +- LndOtherVersion        it runs another lnd than this client speaks to, or does not know the call
     +- LndOtherNetwork        it, or an invoice, belongs to another Bitcoin network
     +- LndNotFound            it knows no such invoice or payment
     +- LndExists              it has this invoice, or has this payment under way or made: look, do not repeat
     +- InvoiceRefused         an invoice is not the one that was agreed on: nothing was paid
     +- InvoiceClosed          an invoice was cancelled, has expired or is settled: nothing was paid to it now
     +- PaymentFailed          the payment ended without money moving
     |   +- NoRoute            no path with enough money to the payee
     |   +- NotEnoughMoney     the payer's channels, or the payee's, cannot carry the amount
     |   +- PaymentTimedOut    tried until its time was up
     |   +- DetailsRefused     the payee refused: unknown hash, wrong amount, or it cancelled the hold
     +- OutcomeUnknown         a payment was begun and nobody could be asked how it ended; track it, do not repeat
     +- LndRefused             it said no in words that this table does not know

lnd answers most refusals with the code UNKNOWN, so the words decide. They are those of lnd v0.21.2-beta
(rpcperms/interceptor.go, macaroons, invoices/errors.go, payments/db/errors.go, zpay32/decode.go, routing).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ledgers.errors import SettlementError
from ledgers.lightning.errors import LightningError


class LndError(LightningError, SettlementError):
    """Anything that a node said, or failed to say."""

    def __init__(self, sentence: str, *, node: str, call: str, code: str = "", words: str = "") -> None:
        super().__init__(sentence)
        self.node = node
        self.call = call
        self.code = code
        self.words = words


class LndUnreachable(LndError):
    """No answer; nothing is known about what was asked."""


class LndTimeout(LndError, TimeoutError):
    """No answer in time."""


class LndLocked(LndError):
    """The wallet is locked, missing or still starting."""


class LndDenied(LndError):
    """The macaroon is missing, of another node, or not allowed to do this."""


class LndCertificateRefused(LndError):
    """The TLS certificate is expired, unreadable or of another node."""


class LndOtherVersion(LndError):
    """The node runs another lnd than this client speaks to."""


class LndOtherNetwork(LndError):
    """The node, or an invoice, belongs to another Bitcoin network."""


class LndNotFound(LndError):
    """The node knows no such invoice or payment."""


class LndExists(LndError):
    """The node has this invoice, or has this payment under way or made."""


class InvoiceRefused(LndError):
    """An invoice is not the one that was agreed on."""


class InvoiceClosed(LndError):
    """An invoice was cancelled, has expired or is settled."""


class PaymentFailed(LndError):
    """The payment ended without money moving."""


class NoRoute(PaymentFailed):
    """No path with enough money to the payee."""


class NotEnoughMoney(PaymentFailed):
    """The channels of the payer or of the payee cannot carry the amount."""


class PaymentTimedOut(PaymentFailed):
    """Tried until its time was up."""


class DetailsRefused(PaymentFailed):
    """The payee refused: unknown hash, wrong amount, or a cancelled hold."""


class OutcomeUnknown(LndError):
    """A payment was begun and nobody could be asked how it ended."""


class LndRefused(LndError):
    """The node said no in words that this table does not know."""


@dataclass(frozen=True, slots=True)
class Rule:
    """lnd's code (any when empty) and words, what they are here, and the sentence that says what to do."""

    code: str
    words: re.Pattern[str]
    kind: type[LndError]
    advice: str


def _rule(code: str, words: str, kind: type[LndError], advice: str) -> Rule:
    return Rule(code, re.compile(words, re.IGNORECASE), kind, advice)


RULES: tuple[Rule, ...] = (
    _rule("", r"certificate has expired", LndCertificateRefused, "its TLS certificate has expired; let lnd renew it"),
    _rule(
        "",
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|WRONG_VERSION_NUMBER|Peer name .* is not in",
        LndCertificateRefused,
        "its TLS certificate is not the one we were given; take the tls.cert of this node",
    ),
    _rule("", r"wallet locked", LndLocked, "its wallet is locked; unlock it with 'lncli unlock'"),
    _rule("", r"wallet not created", LndLocked, "it has no wallet yet; create one with 'lncli create'"),
    _rule(
        "",
        r"waiting to start|in the process of starting|chain backend is still syncing|server is still in the process",
        LndLocked,
        "it is still starting; ask again",
    ),
    _rule(
        "",
        r"macaroon|verification failed|permission denied|cannot get macaroon|invalid ID",
        LndDenied,
        "our macaroon is not one that this node accepts for the call; bake one for it",
    ),
    _rule("PERMISSION_DENIED", r"", LndDenied, "our macaroon does not allow the call; bake one for it"),
    _rule("UNAUTHENTICATED", r"", LndDenied, "our macaroon was not accepted; bake one for it"),
    _rule("UNIMPLEMENTED", r"", LndOtherVersion, "it does not know the call; run lnd 0.21"),
    _rule(
        "",
        r"not for current active network|invoice not for",
        LndOtherNetwork,
        "the invoice belongs to another network; nothing was paid",
    ),
    _rule("", r"invoice is already paid", LndExists, "it has paid this invoice; track it, nothing was paid again"),
    _rule(
        "",
        r"payment is in transition|payment already exists",
        LndExists,
        "it has this payment under way; track it, nothing was paid again",
    ),
    _rule("", r"invoice with pay\w+ \w+ already exists", LndExists, "it has this invoice already; look it up"),
    _rule("ALREADY_EXISTS", r"", LndExists, "it has this already; look it up"),
    _rule("", r"invoice already cancell?ed", InvoiceClosed, "the invoice was cancelled; make another"),
    _rule("", r"invoice already settled", InvoiceClosed, "the invoice is settled; nothing moved now"),
    _rule("", r"invoice still open", InvoiceClosed, "no money is held for this invoice; nothing moved"),
    _rule("", r"invoice expired", InvoiceClosed, "the invoice has expired; make another, nothing was paid"),
    _rule(
        "",
        r"unable to locate invoice|there are no existing invoices|payment isn't initiated|no payments",
        LndNotFound,
        "it knows no such invoice or payment",
    ),
    _rule("NOT_FOUND", r"", LndNotFound, "it knows no such thing"),
    _rule("", r"unable to find a path|no_route|no path", NoRoute, "there is no route to the payee; nothing was paid"),
    _rule(
        "",
        r"insufficient.{0,20}balance|exceeds maximum possible amount|insufficient_balance",
        NotEnoughMoney,
        "its channels do not carry the amount; nothing was paid",
    ),
    _rule("", r"self-payments not allowed", PaymentFailed, "payer and payee are the same node; nothing was paid"),
    _rule("DEADLINE_EXCEEDED", r"", LndTimeout, "it did not answer in time"),
    _rule("UNAVAILABLE", r"", LndUnreachable, "it does not answer; start it"),
    _rule("CANCELLED", r"", LndUnreachable, "the call was cut off before its answer"),
    _rule("", r"server is shutting down|shutting down|server exiting", LndUnreachable, "it is stopping; start it"),
)


def classify(code: str, words: str) -> tuple[type[LndError], str]:
    """The class and the advice for what lnd answered; LndRefused for words that no rule knows."""
    for rule in RULES:
        if rule.code in {"", code} and rule.words.search(words):
            return rule.kind, rule.advice
    return LndRefused, "it refused"


def lnd_error(node: str, call: str, code: str, words: str) -> LndError:
    """The error for an answer of `node` to `call`: one sentence with lnd's own code and words."""
    kind, advice = classify(code, words)
    said = " ".join(words.split())[:400]
    return kind(
        f"node {node!r}, {call}: {advice} (lnd: {code}, {said!r})", node=node, call=call, code=code, words=words
    )
