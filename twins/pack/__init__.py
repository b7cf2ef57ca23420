"""The battery pack."""
