"""The ledger and the accounts that need no service."""
