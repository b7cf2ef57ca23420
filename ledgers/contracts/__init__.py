"""Contracts: pure functions from state and input to writes, per channel."""
