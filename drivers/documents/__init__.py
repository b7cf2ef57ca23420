"""Files that people write by hand (stations, packs, scenarios): read, judged and refused with line, column and remedy.

`load_model` is the whole road for a file that one pydantic model describes: YAML with places (`source`), validation,
and each failure as a sentence at its place (`diagnosis`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from drivers.documents.diagnosis import diagnose, empty_values
from drivers.documents.source import raise_problems, read_document, read_file
from drivers.errors import ConfigError

__all__ = ["check_schema", "load_model"]

_Model = TypeVar("_Model", bound=BaseModel)


def load_model(path: Path, model: type[_Model], *, what: str, schema: str) -> _Model:
    """Read the YAML file at `path` as a `model`.

    `what` is how people call such a file, `schema` its `name/major.minor`. Raises ConfigError, with a line for each
    slip and its place, when the file is missing, is not YAML, is of another schema, or does not fit the model.
    """
    document = read_document(read_file(path, what=what), path, what=what)
    assert isinstance(document.data, Mapping)  # read_document refuses anything else
    check_schema(document.data.get("schema"), schema, path, what=what)
    problems = list(empty_values(document))
    try:
        found = model.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        problems += diagnose(error, document, model.model_json_schema(by_alias=True))
        found = None
    raise_problems(problems, path)
    assert found is not None  # raise_problems has raised otherwise
    return found


def check_schema(written: object, expected: str, path: Path, *, what: str) -> None:
    """Raise ConfigError unless `written` is of the name and major version of `expected`."""
    name, _, version = expected.partition("/")
    if not isinstance(written, str) or written.partition("/")[0] != name:
        raise ConfigError(f"{path}:1:1: this is no {what}; its first line must be 'schema: {expected}'")
    major = written.partition("/")[2].partition(".")[0]
    if major != version.partition(".")[0]:
        raise ConfigError(f"{path}:1:1: this {what} says {written!r}, and this release reads {expected}; update one")
