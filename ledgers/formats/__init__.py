"""Formats that other people's software reads."""
