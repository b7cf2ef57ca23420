"""The bidirectional charger."""
