"""Secrets are references, never values: `env:NAME` or `file:PATH`, looked up at the moment of use.

A station file is copied, mailed and hashed into manifests, so a password written in it is a password given away. The
file therefore holds only where the secret is, a literal one is refused without being repeated, and whatever prints a
`Secret` (repr, str, a model dump, a log line) shows `***`. Only `reveal` gives the value, and nothing keeps it.

>>> password = Secret("env:LAB_PASSWORD")
>>> print(password, repr(password), password.reference)
*** Secret('***') env:LAB_PASSWORD
>>> password.reveal(environment={"LAB_PASSWORD": "quiet"})
'quiet'
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from drivers.errors import ConfigError

MASK = "***"
REMEDY = "write 'env:NAME' for an environment variable or 'file:PATH' for a file that only its owner can read"

_ENV = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
_FILE = re.compile(r"file:[^\s].*")
_MAX_BYTES = 65_536


class Secret:
    """Where a secret is; its value is read by `reveal` only, and never shown."""

    __slots__ = ("_reference",)

    def __init__(self, reference: str) -> None:
        """`reference` is `env:NAME` or `file:PATH`; ConfigError, which does not repeat it, for anything else."""
        if not is_reference(reference):
            raise ConfigError(f"a secret may not stand in the file itself; {REMEDY}")
        self._reference = reference

    @property
    def reference(self) -> str:
        """Where the secret is; safe to show."""
        return self._reference

    def reveal(self, *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
        """The secret itself. `folder` is where a relative `file:` path starts, by default the current folder.

        Raises ConfigError when the variable is not set, or the file is missing, empty, too large, not plain, or
        open to others than its owner.
        """
        kind, _, place = self._reference.partition(":")
        if kind == "env":
            value = (os.environ if environment is None else environment).get(place, "")
            if not value:
                raise ConfigError(f"the environment variable {place} is not set; set it to the secret and start again")
            return value
        return _from_file((folder or Path()) / Path(place).expanduser())

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self._reference

    def __hash__(self) -> int:
        return hash(self._reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from text, write as `***`."""
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(_parse, core_schema.str_schema()),
            python_schema=core_schema.no_info_plain_validator_function(_parse),
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A string of one of the two forms."""
        return {"type": "string", "pattern": f"^({_ENV.pattern}|{_FILE.pattern})$"}


def is_reference(text: str) -> bool:
    """Whether `text` is a reference to a secret and not the secret itself."""
    return bool(_ENV.fullmatch(text) or _FILE.fullmatch(text))


def _parse(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not is_reference(value):
        raise ValueError(f"a secret may not stand in the file itself; {REMEDY}")
    return Secret(value)


def _from_file(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"the secret file {path} cannot be read ({error.strerror}); check its path and owner") from (
            error
        )
    try:
        # The open file is judged, not the path: nobody can swap it between the two.
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the secret file {path} is not a plain file; put the secret in one")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(f"the secret file {path} is open to others; run 'chmod 600 {path}'")
        data = os.read(handle, _MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"the secret file {path} has more than {_MAX_BYTES} bytes; name the file of the secret")
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the secret file {path} is not text in UTF-8; write the secret as text") from error
    if not text:
        raise ConfigError(f"the secret file {path} is empty; write the secret into it")
    return text
