"""Recordings of real vehicles as input."""
