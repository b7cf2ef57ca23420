"""`python -m v2gbench`: the command line."""

from __future__ import annotations

from bench.cli import main

main()
