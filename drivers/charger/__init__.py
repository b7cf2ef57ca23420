"""Bidirectional chargers."""
