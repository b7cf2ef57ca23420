"""The van: its electronic control units around the pack."""
