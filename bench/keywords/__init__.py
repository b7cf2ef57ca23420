"""Robot Framework keywords."""
