"""The JSON schemas of OCPP 1.6, compiled once into plain functions.

The schemas are those that the PyPI package `ocpp` ships. A general JSON schema library spends 150 us on one
MeterValues with four samples, four times per exchange; the 1.6 schemas use fourteen keywords, so each is compiled here
into closures, about twenty times faster. A keyword that this compiler does not know is refused when the schema is
loaded, never skipped; the tests compare every schema with a general validator on mutated payloads.

Two choices beyond the schemas: `multipleOf: 0.1` is judged on the decimal spelling (21.4 is a multiple of 0.1, although
its binary fraction is not), and `format: date-time` is checked.

Which error code a violation gets follows the table in OCPP-J 1.6 section 4.2.3; the standard's own spelling
`OccurenceConstraintViolation` is kept.

>>> check = request_check("Heartbeat")
>>> check({})
>>> try:
...     check({"extra": 1})
... except SchemaViolation as error:
...     print(error.code, "|", error)
FormationViolation | unknown field 'extra'
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Final, cast

from drivers.errors import ConfigError

Check = Callable[[object], None]

FORMATION: Final = "FormationViolation"
PROPERTY: Final = "PropertyConstraintViolation"
TYPE: Final = "TypeConstraintViolation"
OCCURRENCE: Final = "OccurenceConstraintViolation"
PROTOCOL: Final = "ProtocolError"


class SchemaViolation(Exception):
    """A payload does not keep its schema; `code` is the OCPP error code that says so."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        self.path: list[str] = []
        super().__init__(reason)

    def __str__(self) -> str:
        where = ".".join(reversed(self.path))
        return f"{where}: {self.reason}" if where else self.reason


@functools.cache
def actions() -> frozenset[str]:
    """Names of all actions of OCPP 1.6, its security extension among them."""
    folder = files("ocpp").joinpath("v16", "schemas")
    names = {entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")}
    return frozenset(name for name in names if not name.endswith("Response"))


@functools.cache
def request_check(action: str) -> Check:
    """The check of the CALL payload of `action`; it raises SchemaViolation. ConfigError for an unknown action."""
    return _load(action, action)


@functools.cache
def response_check(action: str) -> Check:
    """The check of the CALLRESULT payload of `action`; it raises SchemaViolation. ConfigError for an unknown action."""
    return _load(action, f"{action}Response")


Schema = Mapping[str, object]
_KNOWN = frozenset(
    {"$schema", "$id", "$ref", "title", "javaType", "definitions", "type", "properties", "additionalProperties"}
    | {"additionalItems", "required", "items", "minItems", "maxLength", "enum", "multipleOf", "format"}
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _load(action: str, name: str) -> Check:
    if action not in actions():
        raise ConfigError(f"OCPP 1.6 has no action {action!r}; nothing was sent")
    raw = files("ocpp").joinpath("v16", "schemas", f"{name}.json").read_text(encoding="utf-8-sig")
    root = cast("Schema", json.loads(raw, parse_float=Decimal))
    return _compile(root, root, name)


def _compile(schema: Schema, root: Schema, where: str) -> Check:
    if unknown := set(schema) - _KNOWN:
        raise ConfigError(f"OCPP schema {where} uses {sorted(unknown)}, which the bench cannot check; pin package ocpp")
    if isinstance(reference := schema.get("$ref"), str):
        definitions = cast("Mapping[str, Schema]", root["definitions"])
        return _compile(definitions[reference.rpartition("/")[2]], root, where)
    kind = str(schema.get("type", "object"))
    checks = [_type_check(kind)]
    if kind == "object":
        checks.append(_object_check(schema, root, where))
    elif kind == "array":
        checks.append(_array_check(schema, root, where))
    else:
        checks.extend(_scalar_checks(schema))
    return checks[0] if len(checks) == 1 else _all_of(checks)


def _all_of(checks: list[Check]) -> Check:
    if len(checks) == 2:
        first, second = checks

        def both(value: object) -> None:
            first(value)
            second(value)

        return both
    every = tuple(checks)

    def all_of(value: object) -> None:
        for check in every:
            check(value)

    return all_of


def _type_check(kind: str) -> Check:
    classes = _TYPES[kind]
    refuse_bool = kind in {"integer", "number"}

    def check(value: object) -> None:
        if not isinstance(value, classes) or (refuse_bool and isinstance(value, bool)):
            raise SchemaViolation(TYPE, f"should be of type {kind}, not {_short(value)}")

    return check


def _object_check(schema: Schema, root: Schema, where: str) -> Check:
    fields = cast("Mapping[str, Schema]", schema.get("properties", {}))
    checks = {name: _compile(field, root, f"{where}.{name}") for name, field in fields.items()}
    required = tuple(cast("list[str]", schema.get("required", [])))
    closed = schema.get("additionalProperties") is False

    def check(value: object) -> None:
        members = cast("dict[str, object]", value)
        for name in required:
            if name not in members:
                raise SchemaViolation(PROTOCOL, f"field {name!r} is missing")
        for name, item in members.items():
            field = checks.get(name)
            if field is None:
                if closed:
                    raise SchemaViolation(FORMATION, f"unknown field {_short(name)}")
                continue
            try:
                field(item)
            except SchemaViolation as violation:
                violation.path.append(name)
                raise

    return check


def _array_check(schema: Schema, root: Schema, where: str) -> Check:
    item_check = _compile(cast("Schema", schema["items"]), root, f"{where}[]")
    least = int(cast("int", schema.get("minItems", 0)))

    def check(value: object) -> None:
        items = cast("list[object]", value)
        if len(items) < least:
            raise SchemaViolation(OCCURRENCE, f"should have at least {least} entries, not {len(items)}")
        index = 0
        try:
            for item in items:
                item_check(item)
                index += 1
        except SchemaViolation as violation:
            violation.path.append(str(index))
            raise

    return check


def _scalar_checks(schema: Schema) -> list[Check]:
    checks: list[Check] = []
    if "enum" in schema:
        checks.append(_enum_check(frozenset(cast("list[str]", schema["enum"]))))
    if "maxLength" in schema:
        checks.append(_length_check(int(cast("int", schema["maxLength"]))))
    if "multipleOf" in schema:
        checks.append(_multiple_check(Decimal(str(schema["multipleOf"]))))
    if schema.get("format") == "date-time":
        checks.append(_date_time_check)
    return checks


def _enum_check(words: frozenset[str]) -> Check:
    def check(value: object) -> None:
        if value not in words:
            raise SchemaViolation(PROPERTY, f"{_short(value)} is none of {', '.join(sorted(words))}")

    return check


def _length_check(most: int) -> Check:
    def check(value: object) -> None:
        length = len(cast("str", value))
        if length > most:
            raise SchemaViolation(PROPERTY, f"should have at most {most} characters, not {length}")

    return check


def _multiple_check(step: Decimal) -> Check:
    # Beyond 28 digits Decimal's remainder is undefined; no power, current or rate comes near this bound.
    most = 1e15

    def check(value: object) -> None:
        amount = cast("float", value)
        if not -most < amount < most or Decimal(repr(amount)) % step:
            raise SchemaViolation(PROPERTY, f"{_short(value)} is not a multiple of {step}")

    return check


def _date_time_check(value: object) -> None:
    moment = cast("str", value)
    try:
        datetime.fromisoformat(moment)
    except ValueError:
        good = False
    else:
        good = len(moment) > 10 and moment[10] in "Tt "
    if not good:
        raise SchemaViolation(PROPERTY, f"{_short(value)} is not a date and time in RFC 3339 form")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
