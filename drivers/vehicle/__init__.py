"""Vehicles and their battery management systems."""
