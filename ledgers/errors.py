"""One error tree for records, contracts, ledgers and settlement.

LedgerError
 +- RecordError        a record, certificate or file is malformed or of an unknown version: nothing was written
 +- AccessDenied       this identity may not read or write that channel
 +- ContractRefused    the contract said no to the transaction: nothing was written
 +- NotYet             asked for a proof before the entry is in a signed checkpoint: ask again later
 +- LedgerBusy         slow down; sending the same transaction again is safe
 +- LedgerCorrupt      stored bytes contradict the signed history: stop and keep the folder
 +- SettlementError    an account, hold or tariff does not allow the movement of money
 +- KeyMaterialError   a key cannot be read, has loose permissions, or may not be used here

Every message is one sentence: what was wrong, where, and what to do.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Root of everything that `ledgers` raises on purpose."""


class RecordError(LedgerError):
    """A record, certificate or file is malformed, or of an unknown version."""


class AccessDenied(LedgerError):
    """An identity asked for a channel that its role may not read or write."""


class ContractRefused(LedgerError):
    """The contract refused the transaction; nothing was written."""


class NotYet(LedgerError):
    """The entry is not yet covered by a signed checkpoint."""


class LedgerBusy(LedgerError):
    """Slow down; sending the same transaction again is safe."""


class LedgerCorrupt(LedgerError):
    """Stored bytes contradict the signed history."""


class SettlementError(LedgerError):
    """An account, hold or tariff does not allow the movement of money."""


class KeyMaterialError(LedgerError):
    """A key cannot be read, has loose permissions, or may not be used here."""
