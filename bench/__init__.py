"""Compose a station and run plans on it: the cycle, its safety, certification, and the command line."""
