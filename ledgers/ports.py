"""What every ledger and every settlement promises, whatever stands behind it.

`Ledger`: a transaction is *submitted* to a contract on a channel, and a `Receipt` means that it survives kill -9.
*Evaluating* reads and writes nothing. *Proving* turns a receipt into a text that strangers verify offline. Who may read
a channel is decided by the role of the identity that asks, never by the caller's good manners.

`Settlement`: money is held first and released when the record verifies; there is no other order. Amounts are integers
of micro-euro (1 EUR = 1 000 000), never floats.

The embedded implementations stand in `ledgers.embedded`; others keep the same promise without sharing code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from ledgers.canonical import Json, sha256_hex, to_base64, to_canonical
from ledgers.identity import Identity, key_id

MICRO_PER_EURO = 1_000_000


# ------------------------------------------------------------------------------------------------------------ ledger


@dataclass(frozen=True, slots=True)
class Member:
    """A party known to the ledger: its name, its one role, and the public key that its transactions must carry."""

    name: str
    role: str
    public_key_der: bytes

    @classmethod
    def of(cls, identity: Identity) -> Member:
        """The public half of `identity`."""
        return cls(identity.name, identity.role, identity.public_key_der)

    @property
    def key_id(self) -> str:
        """Short printable name of the key."""
        return key_id(self.public_key_der)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a transaction was written.

    `index` counts from 0 within the channel; `leaf_hash` is the RFC 6962 leaf hash of the entry, in hexadecimal;
    `size` is the number of entries of the channel just after it. `derived` are the entries that the contract wrote on
    other channels within the same transaction.
    """

    channel: str
    index: int
    tx_id: str
    leaf_hash: str
    size: int
    derived: tuple[Receipt, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The receipt as a JSON object."""
        return {
            "channel": self.channel,
            "index": self.index,
            "tx_id": self.tx_id,
            "leaf_hash": self.leaf_hash,
            "size": self.size,
            "derived": [receipt.to_json() for receipt in self.derived],
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """An offline proof: `text` is a C2SP tlog-proof, to be checked with `ledgers.formats.tlog.verify_proof`.

    `public_key_der` is the Ed25519 key of the log; a verifier takes it from its trust file, not from here.
    """

    channel: str
    index: int
    size: int
    origin: str
    text: str
    public_key_der: bytes


@dataclass(frozen=True, slots=True)
class ContractEvent:
    """Something that a contract announced; `receipt` says which entry it stands in."""

    channel: str
    index: int
    name: str
    payload: Mapping[str, Json]
    tx_id: str
    utc: str
    receipt: Receipt


class Ledger(Protocol):
    """Channels of entries, contracts that write them, and proofs for strangers."""

    def submit(self, channel: str, contract: str, function: str, *args: str, identity: Identity) -> Receipt:
        """Run a contract's function and append what it writes; the same transaction sent twice is written once.

        Raises AccessDenied (this role may not), ContractRefused (the contract said no), LedgerBusy (nothing was
        written; send it again), LedgerCorrupt (stop and keep the folder).
        """

    def evaluate(self, channel: str, contract: str, function: str, *args: str, identity: Identity) -> bytes:
        """The canonical JSON that a contract's query answers; raises AccessDenied or ContractRefused."""

    def prove(self, receipt: Receipt) -> Proof:
        """The proof for an entry; raises NotYet before it is in a signed checkpoint, never gives a weaker proof."""

    def events(self, channel: str, since: int, identity: Identity) -> Iterator[ContractEvent]:
        """Events of the entries from index `since` on, oldest first; raises AccessDenied."""

    def entry(self, receipt: Receipt, identity: Identity) -> bytes:
        """The stored bytes that `prove` proves; raises AccessDenied for a role that may not read the channel."""


# -------------------------------------------------------------------------------------------------------- settlement


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """One thing that is paid for: `amount_micro` goes from `payer` to `payee`.

    `kind` is "import_energy", "v2g_energy" or "availability". `quantity` and `price` are exact decimal texts with
    their units; `remainder_micro` is what rounding took away from (or, when negative, added to) the exact amount, as
    an exact fraction "n/d" of a micro-euro.
    """

    kind: str
    payer: str
    payee: str
    quantity: str
    quantity_unit: str
    price: str
    price_unit: str
    amount_micro: int
    remainder_micro: str

    def to_json(self) -> dict[str, Json]:
        """The line as a JSON object."""
        return {
            "kind": self.kind,
            "payer": self.payer,
            "payee": self.payee,
            "quantity": self.quantity,
            "quantity_unit": self.quantity_unit,
            "price": self.price,
            "price_unit": self.price_unit,
            "amount_micro": self.amount_micro,
            "remainder_micro": self.remainder_micro,
        }


@dataclass(frozen=True, slots=True)
class Quote:
    """What a usage record is worth under a tariff; nothing has moved yet."""

    record_sha256: str
    tariff_name: str
    tariff_sha256: str
    currency: str
    lines: tuple[QuoteLine, ...]

    def to_json(self) -> dict[str, Json]:
        """The quote as a JSON object."""
        return {
            "record_sha256": self.record_sha256,
            "tariff_name": self.tariff_name,
            "tariff_sha256": self.tariff_sha256,
            "currency": self.currency,
            "lines": [line.to_json() for line in self.lines],
        }

    @property
    def quote_id(self) -> str:
        """SHA-256 of the quote's canonical bytes: the same quote has the same name."""
        return sha256_hex(to_canonical(self.to_json()))

    def total_micro(self, kind: str) -> int:
        """Sum of the lines of one kind, 0 when there is none."""
        return sum(line.amount_micro for line in self.lines if line.kind == kind)


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for a quote; `status` is "held", "released" or "cancelled"."""

    hold_id: str
    record_sha256: str
    quote: Quote
    status: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A plain transfer outside any hold; `refunded` once it was taken back."""

    payment_id: str
    payer: str
    payee: str
    amount_micro: int
    memo: str
    refunded: bool


@dataclass(frozen=True, slots=True)
class SettlementReceipt:
    """The signed statement that a record was settled; the only place where the wall-clock time of payment stands.

    `signed_bytes` is what `signature` (DER, P-256) covers.
    """

    hold_id: str
    record_sha256: str
    quote: Quote
    settled_utc: str
    signer: Member
    signature: bytes

    SCHEMA = "v2gbench.settlement-receipt/1.0"

    @property
    def signed_bytes(self) -> bytes:
        """Canonical bytes of everything but the signature."""
        return to_canonical(self._unsigned())

    def to_canonical(self) -> bytes:
        """The receipt as it is stored and embedded in a certificate."""
        return to_canonical({**self._unsigned(), "signature": to_base64(self.signature)})

    def _unsigned(self) -> dict[str, Json]:
        return {
            "schema": self.SCHEMA,
            "status": "settled",
            "hold_id": self.hold_id,
            "record_sha256": self.record_sha256,
            "quote": self.quote.to_json(),
            "settled_utc": self.settled_utc,
            "signer": {
                "name": self.signer.name,
                "role": self.signer.role,
                "public_key": to_base64(self.signer.public_key_der),
            },
        }


RecordVerifier = Callable[[bytes], None]
"""Checks the bytes of a usage record and raises a LedgerError when anything does not hold."""


class Settlement(Protocol):
    """Accounts, and money that moves only for a verified record."""

    def quote(
        self,
        record_sha256: str,
        *,
        import_wh: int | Decimal,
        export_wh: int | Decimal,
        available_power_w: int | Decimal,
        available_s: int | Decimal,
    ) -> Quote:
        """Price a record; moves nothing."""

    def hold(self, quote: Quote) -> Hold:
        """Set the money aside; raises SettlementError when a payer has too little or the record has a hold already."""

    def release(self, hold_id: str, *, record: bytes, verify: RecordVerifier) -> SettlementReceipt:
        """Pay out, after `verify(record)` returned; raises what it raises, or SettlementError for another record."""

    def cancel(self, hold_id: str) -> Hold:
        """Give the money back to the payers."""

    def pay(self, payer: str, payee: str, amount_micro: int, *, payment_id: str, memo: str) -> Payment:
        """Transfer outside any hold; `payment_id` makes sending it again safe."""

    def refund(self, payment_id: str) -> Payment:
        """Take a payment back, once."""

    def balance(self, account: str) -> int:
        """Micro-euro on an account."""
