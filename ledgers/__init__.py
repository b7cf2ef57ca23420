"""Records, contracts, ledgers and settlement. Imports no other room of the house."""
