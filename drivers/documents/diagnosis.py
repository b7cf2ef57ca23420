"""Turns what pydantic found wrong into sentences with a place, a key and a remedy.

pydantic says which rule failed; whoever wrote the file needs to know what to write instead. So each failure is looked
up in the JSON schema of the station: the keys that are allowed there (did you mean …), the whole range of a value as an
inequality, the unit that a key is in. A key in a foreign unit (`pack_temperature_f`, `power_kw`) is recognised as such
and told the factor, because "unknown key" would send its author to the manual. What was written is repeated only where
it cannot be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from drivers.documents.source import Document, KeyPath, Problem, Value, dotted

Schema = Mapping[str, "SchemaValue"]
SchemaValue = None | bool | int | float | str | Sequence["SchemaValue"] | Mapping[str, "SchemaValue"]

_SECRET_WORDS = ("password", "secret", "token", "passwd", "pin")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as it stands at the end of a key: `power_kw` is in kW, 1000 of the base unit W."""

    symbol: str
    quantity: str
    factor: float


# International System of Units: prefixes and the hour; the three temperature scales are converted in words below.
_UNITS: Mapping[str, Unit] = {
    "c": Unit("°C", "temperature", 1),
    "celsius": Unit("°C", "temperature", 1),
    "f": Unit("°F", "temperature", 1),
    "fahrenheit": Unit("°F", "temperature", 1),
    "k": Unit("K", "temperature", 1),
    "kelvin": Unit("K", "temperature", 1),
    "w": Unit("W", "power", 1),
    "kw": Unit("kW", "power", 1e3),
    "mw": Unit("MW", "power", 1e6),
    "v": Unit("V", "voltage", 1),
    "mv": Unit("mV", "voltage", 1e-3),
    "kv": Unit("kV", "voltage", 1e3),
    "a": Unit("A", "current", 1),
    "ma": Unit("mA", "current", 1e-3),
    "s": Unit("s", "time", 1),
    "ms": Unit("ms", "time", 1e-3),
    "seconds": Unit("s", "time", 1),
    "minutes": Unit("minutes", "time", 60),
    "m": Unit("minutes", "time", 60),
    "h": Unit("hours", "time", 3600),
    "hours": Unit("hours", "time", 3600),
    "hz": Unit("Hz", "frequency", 1),
    "khz": Unit("kHz", "frequency", 1e3),
    "ohm": Unit("ohm", "resistance", 1),
    "mohm": Unit("mohm", "resistance", 1e-3),
    "percent": Unit("%", "ratio", 1),
    "pct": Unit("%", "ratio", 1),
    "fraction": Unit("a fraction", "ratio", 100),
    "permille": Unit("‰", "ratio", 0.1),
    "km": Unit("km", "distance", 1),
    "miles": Unit("miles", "distance", 1.609344),
    "mi": Unit("miles", "distance", 1.609344),
}
_TEMPERATURES = {"°F": "(°F - 32) / 1.8", "K": "K - 273.15"}

_TYPE_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a group of keys",
    "array": "a list",
}


def diagnose(error: ValidationError, document: Document, schema: Schema) -> list[Problem]:
    """One problem for each failure in `error`, which came from validating `document` against `schema`."""
    return [_problem(detail, document, schema) for detail in error.errors(include_url=False)]


def empty_values(document: Document) -> Iterator[Problem]:
    """A problem for each key without a value: no key of a station means anything when left empty."""

    def walk(value: Value, path: KeyPath) -> Iterator[KeyPath]:
        if value is None:
            yield path
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                yield from walk(inner, (*path, key))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for index, inner in enumerate(value):
                yield from walk(inner, (*path, index))

    for path in walk(document.data, ()):
        yield Problem(document.mark(path), dotted(path), "the key has no value; write one, or take the key away")


def _problem(detail: ErrorDetails, document: Document, schema: Schema) -> Problem:
    path = _path_without_tags(detail["loc"], document.data)
    kind = detail["type"]
    here = _Here(path, document, schema, detail)
    if kind == "missing":
        path, sentence = path[:-1], here.missing()
    elif kind == "extra_forbidden":
        sentence = here.unknown_key()
    elif kind in {"union_tag_invalid", "union_tag_not_found"}:
        path, sentence = here.wrong_kind()
    elif path and path[-1] == "[key]":
        path = path[:-1]
        sentence = "a name is up to 32 small letters, digits and '_', beginning with a letter; rename it"
    elif kind == "value_error":
        sentence = str(detail.get("ctx", {}).get("error", detail["msg"]))
    else:
        sentence = here.wrong_value()
    return Problem(document.mark(path), dotted(path), sentence)


def _path_without_tags(location: Sequence[str | int], data: Value) -> KeyPath:
    """Take out the tags: pydantic names the chosen branch of a union in a location, and no key is called so."""
    path: list[str | int] = []
    value = data
    unions = {("twins",): 2, ("devices",): 2}
    for part in location:
        after_name = len(path) == 2 and unions.get((str(path[0]),)) == 2 and not _has(value, part)
        after_group = bool(path) and path[-1] in {"fault", "settlement"} and not _has(value, part)
        if (
            (after_name or after_group)
            and isinstance(value, Mapping)
            and part in {value.get("kind"), value.get("role")}
        ):
            continue
        path.append(part)
        value = value.get(part) if isinstance(value, Mapping) and isinstance(part, str) else None
    return tuple(path)


def _has(value: Value, key: str | int) -> bool:
    return isinstance(value, Mapping) and key in value


class _Here:
    """One failure with everything around it: the schema of the value and of the group that holds it."""

    def __init__(self, path: KeyPath, document: Document, schema: Schema, detail: ErrorDetails) -> None:
        self._path = path
        self._key = str(path[-1]) if path else ""
        self._document = document
        self._walker = _SchemaWalker(schema, document.data)
        self._detail = detail

    def missing(self) -> str:
        description = self._walker.at(self._path).get("description")
        return f"the key {self._key!r} is missing; add it" + (f" ({description})" if description else "")

    def unknown_key(self) -> str:
        known = list(_properties(self._walker.at(self._path[:-1])))
        unit_hint = _wrong_unit(self._key, known)
        if unit_hint:
            return unit_hint
        near = difflib.get_close_matches(self._key, known, n=1)
        if near:
            return f"there is no key {self._key!r} here; did you mean {near[0]!r}?"
        return f"there is no key {self._key!r} here; the keys are {', '.join(known)}"

    def wrong_kind(self) -> tuple[KeyPath, str]:
        context = self._detail.get("ctx", {})
        key = str(context.get("discriminator", "'kind'")).strip("'")
        group = self._walker.raw(self._path)
        mapping = group.get("discriminator")
        known = list(_mapping(_mapping(mapping).get("mapping"))) if mapping else []
        if self._detail["type"] == "union_tag_not_found":
            return self._path, f"the key {key!r} is missing; add it with one of {', '.join(known)}"
        tag = str(context.get("tag", ""))
        near = difflib.get_close_matches(tag, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        return (*self._path, key), f"{tag!r} is not a {key} that is known here; {hint}"

    def wrong_value(self) -> str:
        schema = self._walker.at(self._path)
        written = self._document.value(self._path)
        shown = self._shown(written)
        if "const" in schema or "enum" in schema:
            return self._wrong_word(schema, written, shown)
        wanted = str(schema.get("type", ""))
        if wanted in {"number", "integer"}:
            return self._wrong_number(schema, wanted, written, shown)
        if wanted == "object" or self._detail["type"] in {"dict_type", "model_type", "model_attributes_type"}:
            return f"this must be a group of keys ('key: value' lines below it), not {shown}"
        if schema.get("format") == "date-time":
            return f"this must be a date and time with its zone, like 2026-01-15T08:00:00Z, not {shown}"
        if wanted == "boolean":
            return f"this must be true or false, not {shown}"
        if wanted == "array" and self._detail["type"] == "too_short":
            return "the list is empty; write at least one entry"
        if wanted == "array" and shown != "a list":
            return f"this must be a list (lines that begin with '-' below it), not {shown}"
        if wanted == "string" and not isinstance(written, str):
            return f"this must be text, not {shown}; put it in quotes if it is meant so"
        description = schema.get("description")
        return f"{shown} does not fit" + (f"; this is {description}" if description else f" ({self._detail['msg']})")

    def _wrong_word(self, schema: Schema, written: Value, shown: str) -> str:
        enum = schema.get("enum")
        words = [str(word) for word in enum] if isinstance(enum, Sequence) else [str(schema.get("const"))]
        if not isinstance(written, str) and str(written) in words:
            return f'YAML reads {shown} as a number; put it in quotes: "{written}"'
        near = difflib.get_close_matches(str(written), words, n=1) if isinstance(written, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"this must be {' or '.join(words)}, not {shown}{hint}"

    def _wrong_number(self, schema: Schema, wanted: str, written: Value, shown: str) -> str:
        if isinstance(written, int | float) and not isinstance(written, bool):
            low, high = _bounds(schema)
            whole = wanted == "number" or isinstance(written, int)
            if whole and (low or high):
                return f"{low}{self._key}{high} must hold, not {_plain(written)}"
            return f"this must be {_TYPE_WORDS[wanted]}, not {shown}"
        unit = _unit_of(self._path)
        plain = f"this must be {_TYPE_WORDS[wanted]}" + (f" in {unit.symbol}" if unit else "")
        if isinstance(written, str):
            if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", written, re.IGNORECASE):
                return f"{plain}, not text; take the quotes away from {shown}"
            if re.fullmatch(r"[-+]?[\d.]+\s*[A-Za-z°%/]+", written):
                return f"{plain}, not {shown}; the key names the unit, so write the bare number"
        return f"{plain}, not {shown}"

    def _shown(self, written: Value) -> str:
        if any(word in self._key.lower() for word in _SECRET_WORDS):
            return "what is written there"
        if isinstance(written, Mapping):
            return "a group of keys"
        if isinstance(written, bool):
            return str(written).lower()
        if isinstance(written, Sequence) and not isinstance(written, str):
            return "a list"
        text = repr(written)
        return text if len(text) <= 60 else f"{text[:57]}…'"


class _SchemaWalker:
    """Finds the schema of a key path, choosing branches of unions by what the file says."""

    def __init__(self, schema: Schema, data: Value) -> None:
        self._root = schema
        self._data = data

    def at(self, path: KeyPath) -> Schema:
        """The schema of `path`, the branch of a union chosen; empty where the schema has none."""
        return self._walk(path, choose_last=True)

    def raw(self, path: KeyPath) -> Schema:
        """The same, a union left whole."""
        return self._walk(path, choose_last=False)

    def _walk(self, path: KeyPath, *, choose_last: bool) -> Schema:
        schema, value = self._resolve(self._root, self._data, choose=True), self._data
        for index, key in enumerate(path):
            name = str(key)
            inner = schema.get("items") if isinstance(key, int) else _properties(schema).get(name)
            if inner is None:
                patterns = list(_mapping(schema.get("patternProperties")).values())
                inner = patterns[0] if patterns else None
            if inner is None:
                return {}
            value = _inside(value, key)
            last = index == len(path) - 1
            schema = self._resolve(_mapping(inner), value, choose=choose_last or not last)
        return schema

    def _resolve(self, schema: Schema, value: Value, *, choose: bool) -> Schema:
        around = {key: schema[key] for key in ("description", "default") if key in schema}
        while True:
            reference = schema.get("$ref")
            if isinstance(reference, str):
                name = reference.rpartition("/")[2]
                schema = {**_mapping(_mapping(self._root.get("$defs")).get(name)), **around}
                continue
            options = schema.get("anyOf")
            if isinstance(options, Sequence) and not isinstance(options, str):
                schema = {**next(_mapping(o) for o in options if _mapping(o).get("type") != "null"), **around}
                continue
            discriminator = _mapping(schema.get("discriminator"))
            if discriminator and choose:
                tag = value.get(str(discriminator.get("propertyName"))) if isinstance(value, Mapping) else None
                target = _mapping(discriminator.get("mapping")).get(str(tag))
                if target is None:
                    return {}
                schema = {"$ref": target}
                continue
            return schema


def _inside(value: Value, key: str | int) -> Value:
    if isinstance(value, Mapping):
        return value.get(str(key))
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _properties(schema: Schema) -> Schema:
    return _mapping(schema.get("properties"))


def _mapping(value: SchemaValue) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _bounds(schema: Schema) -> tuple[str, str]:
    low = high = ""
    for key, sign in (("minimum", "<="), ("exclusiveMinimum", "<")):
        if isinstance(bound := schema.get(key), int | float):
            low = f"{_plain(bound)} {sign} "
    for key, sign in (("maximum", "<="), ("exclusiveMaximum", "<")):
        if isinstance(bound := schema.get(key), int | float):
            high = f" {sign} {_plain(bound)}"
    return low, high


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _unit_of(path: KeyPath) -> Unit | None:
    """The unit that a key, or the group above it, is in: limits.power_w.max is in W."""
    for key in reversed(path):
        stem, _, suffix = str(key).rpartition("_")
        if stem and suffix in _UNITS:
            return _UNITS[suffix]
    return None


def _split_unit(key: str) -> tuple[str, str]:
    stem, _, suffix = key.rpartition("_")
    return (stem, suffix) if stem and suffix in _UNITS else (key, "")


def _wrong_unit(key: str, known: Sequence[str]) -> str:
    """A sentence when `key` is one of `known` with a foreign unit or none; else empty."""
    stem, suffix = _split_unit(key)
    for candidate in known:
        right_stem, right_suffix = _split_unit(candidate)
        if stem != right_stem or not right_suffix:
            continue
        right = _UNITS[right_suffix]
        if not suffix:
            return f"the unit is missing from the key; write {candidate!r}, in {right.symbol}"
        wrong = _UNITS[suffix]
        if wrong.quantity != right.quantity:
            return f"{wrong.symbol} is no unit of this; write {candidate!r}, in {right.symbol}"
        return f"this bench does not take {wrong.symbol}; write {candidate!r} and {_conversion(wrong, right)}"
    return ""


def _conversion(wrong: Unit, right: Unit) -> str:
    if wrong.symbol == right.symbol:
        return f"leave the value in {right.symbol} as it is"
    if wrong.quantity == "temperature":
        return f"give {right.symbol}, which is {_TEMPERATURES.get(wrong.symbol, 'another scale')}"
    ratio = wrong.factor / right.factor
    return f"give {right.symbol}, which is the value times {ratio:g}"
