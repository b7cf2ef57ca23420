"""Behave like devices: physics, and the wire faces that expose it."""
