"""Functions that numba compiles, behind one typed decorator; the only module that knows numba.

Compiled code is cached beside the source, or in the user's cache folder where that cannot be written, so only the first
start pays. `error_model="numpy"` makes divisions cheap. No `fastmath`: results must be the same in any chunking, and
ties in rainflow counting must not flip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile `function` when it is first called; it releases the GIL, so that threads share the work of a fleet."""
    return cast("Callable[_P, _R]", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
