"""The receipt of a settlement over Lightning: the port's receipt, and how every millisatoshi of it was paid.

A line of the quote is due in euro; `Due` says what that is in msat at the stated rate, what was brought from earlier
sessions, what was paid while the energy flowed (slices, stream), what was paid or paid back at the end, and what is
carried on because it is below the smallest payment. `PaidDebt` is one payment: its preimage proves that it was made,
the invoice's text what it was made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ledgers.canonical import Json
from ledgers.lightning.journal import Debt
from ledgers.lightning.pricing import Rate, fraction_text
from ledgers.ports import SettlementReceipt


@dataclass(frozen=True, slots=True)
class Due:
    """One line of a quote in msat: `exact + brought = paid + carried`, `paid` net of what was paid back.

    `advance_msat` is the part of `paid_msat` that was paid while the energy flowed.
    """

    kind: str
    payer: str
    payee: str
    exact: Fraction
    brought: Fraction
    advance_msat: int
    paid_msat: int

    @property
    def carried(self) -> Fraction:
        """What is left for the next session between these two; always less than the smallest payment."""
        return self.exact + self.brought - self.paid_msat

    @property
    def last_msat(self) -> int:
        """What the payer still pays at the end; negative when the payee pays back."""
        return self.paid_msat - self.advance_msat

    def to_json(self) -> dict[str, Json]:
        """The due as it stands in receipt and journal."""
        return {
            "kind": self.kind,
            "payer": self.payer,
            "payee": self.payee,
            "exact_msat": fraction_text(self.exact),
            "brought_msat": fraction_text(self.brought),
            "advance_msat": self.advance_msat,
            "paid_msat": self.paid_msat,
            "carried_msat": fraction_text(self.carried),
        }


@dataclass(frozen=True, slots=True)
class PaidDebt:
    """A payment that was made, with the keys of both nodes; `lost` stands in it when a forced close took something."""

    debt: Debt
    payer_node: str
    payee_node: str

    def to_json(self) -> dict[str, Json]:
        """The payment as it stands in receipts."""
        debt = self.debt
        return {
            "name": debt.name,
            "kind": debt.kind,
            "payer": debt.payer,
            "payee": debt.payee,
            "payer_node": self.payer_node,
            "payee_node": self.payee_node,
            "amount_msat": debt.amount_msat,
            "fee_msat": debt.fee_msat,
            "payment_hash": debt.payment_hash,
            "preimage": debt.preimage,
            "payment_request": debt.payment_request,
            "terms": debt.terms,
            "evidence_sha256": debt.evidence_sha256,
            **({"lost": [lost.to_json() for lost in debt.lost]} if debt.lost else {}),
        }


@dataclass(frozen=True)
class LightningReceipt(SettlementReceipt):
    """The port's receipt with a member `lightning`; minor version 1.1 of the same schema."""

    mode: str
    network: str
    rate: Rate
    dues: tuple[Due, ...]
    payments: tuple[PaidDebt, ...]

    SCHEMA = "v2gbench.settlement-receipt/1.1"

    def _unsigned(self) -> dict[str, Json]:
        return {
            **super()._unsigned(),
            "lightning": {
                "mode": self.mode,
                "network": self.network,
                "rate": self.rate.to_json(),
                "lines": [due.to_json() for due in self.dues],
                "payments": [payment.to_json() for payment in self.payments],
            },
        }
