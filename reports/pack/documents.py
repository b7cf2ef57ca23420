"""Reading a JSON document that may lack parts: each look gives the value, or what stands for none.

Documents are made by programs of any version and kept for years, so a report looks for what it can show and says what
is missing; only the schema decides whether it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from reports.errors import RenderError

Document = Mapping[str, object]
Floats = npt.NDArray[np.float64]


def require(document: Document, schema: str) -> None:
    """Refuse a document of another schema, or of another major version of it, with a RenderError."""
    found = document.get("schema")
    name, _, version = schema.partition("/")
    major = version.partition(".")[0]
    given, _, other = found.partition("/") if isinstance(found, str) else ("", "", "")
    if given != name or other.partition(".")[0] != major:
        raise RenderError(f"cannot report a document of schema {found!r}; this report is for {name}/{major}")


def part(document: Document, *keys: str) -> Document:
    """The object at a path of keys; an empty one where there is none."""
    found: object = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return cast("Document", found) if isinstance(found, Mapping) else {}


def parts(document: Document, key: str) -> tuple[Document, ...]:
    """The objects of a list; none where there is no such list."""
    found = document.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ()
    return tuple(cast("Document", each) for each in found if isinstance(each, Mapping))


def value(document: Document, key: str) -> float | None:
    """A finite number; None for what is none."""
    return _finite(document.get(key))


def text(document: Document, key: str, otherwise: str = "") -> str:
    """A text; `otherwise` where there is none."""
    found = document.get(key)
    return found if isinstance(found, str) and found else otherwise


def texts(document: Document, key: str) -> tuple[str, ...]:
    """The texts of a list."""
    found = document.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ()
    return tuple(each for each in found if isinstance(each, str))


def values(document: Document, key: str) -> Floats:
    """A series of numbers, shape (n,); NaN for each that is missing, an empty one where there is no such list."""
    found = document.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return np.empty(0)
    return np.array([math.nan if (each := _finite(one)) is None else each for one in found])


def grid(document: Document, key: str) -> Floats:
    """A list of equally long lists of numbers, shape (n, m); an empty (0, 0) one where there is none."""
    found = document.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        return np.empty((0, 0))
    rows = [values({"row": row}, "row") for row in found]
    if len({len(row) for row in rows}) != 1:
        return np.empty((0, 0))
    return np.array(rows)


def pairs(document: Document, key: str) -> tuple[tuple[float, float], ...]:
    """A list of pairs of numbers, such as begins and ends; pairs with a missing number are left out."""
    found = grid(document, key)
    if found.shape[1:] != (2,):
        return ()
    return tuple((float(low), float(high)) for low, high in found if math.isfinite(low) and math.isfinite(high))


def _finite(found: object) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)
