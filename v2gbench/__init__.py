"""Façade of the bench: its version, and its public names, imported only when they are asked for.

>>> import v2gbench
>>> v2gbench.__version__.count(".")
2
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "Rack": "bench.rack",
    "Station": "bench.station",
    "load_station": "bench.station",
    "verify_certificate": "ledgers.verify",
}

__all__ = ["Rack", "Station", "__version__", "load_station", "verify_certificate"]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import v2gbench` stays instant."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'v2gbench' has no attribute {name!r}; it offers {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
