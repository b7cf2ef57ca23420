r"""YAML with its places: what was written, and the line and column of every key and value.

A station file is written by hand, so whoever made a slip must be told where it is. A plain YAML reader gives values
without places and keeps the last of two equal keys; this one stops at the node tree that ruamel.yaml composes, turns
it into plain data itself, and remembers a mark for every key. Only what a station file needs is taken: text, numbers,
true and false, null, lists and groups of keys. Tags and merge keys are refused: a value is what is written at its key.

Words are YAML 1.2: `none`, `yes`, `no` and `on` are text; dates stay text for the model to judge.

>>> document = read_document(b"limits:\n  power_w: {max: 10000}\n", Path("lab.yaml"))
>>> document.data
{'limits': {'power_w': {'max': 10000}}}
>>> document.mark(("limits", "power_w"))
Mark(line=2, column=3)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from drivers.errors import ConfigError

Value = None | bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"]
KeyPath = tuple[str | int, ...]

_MAX_BYTES = 1_000_000  # a station of a hundred devices has 20 kB
_MAX_NODES = 20_000  # aliases may repeat a branch many times over
_MAX_SHOWN = 40
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file, counted from 1 as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file, and what to do about it, in one sentence."""

    mark: Mark
    key: str  # dotted, empty for the whole file
    sentence: str

    def text(self, path: Path) -> str:
        """The sentence behind its place, in the form that editors and terminals make clickable."""
        where = f"{path}:{self.mark.line}:{self.mark.column}: "
        key = self.key if self.key.isprintable() else ascii(self.key)
        return where + (f"{key}: {self.sentence}" if key else self.sentence)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain data, with the mark of every key and list item."""

    path: Path
    data: Value
    marks: Mapping[KeyPath, Mark]

    def mark(self, key_path: KeyPath) -> Mark:
        """The place of `key_path`, or of the nearest group above it that was written."""
        while key_path and key_path not in self.marks:
            key_path = key_path[:-1]
        return self.marks.get(key_path, Mark(1, 1))

    def value(self, key_path: KeyPath) -> Value:
        """What was written at `key_path`; None where nothing was."""
        value = self.data
        for key in key_path:
            if isinstance(value, Mapping) and isinstance(key, str):
                value = value.get(key)
            elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(key, int):
                value = value[key] if key < len(value) else None
            else:
                return None
        return value


def read_file(path: Path, *, what: str) -> bytes:
    """The bytes of a small file; ConfigError says in one sentence why `path` is not a readable `what`."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name the {what} inside it")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        remedy = "'v2gbench init' writes one to start from" if what == "station file" else "check the path"
        raise ConfigError(f"there is no {what} at {path}; {remedy}") from error
    except OSError as error:
        raise ConfigError(f"the {what} {path} cannot be read ({error.strerror}); check its path and rights") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} has more than {_MAX_BYTES} bytes, which no {what} needs; name the right file")
    return data


def read_document(data: bytes, path: Path, *, what: str = "station file") -> Document:
    """The YAML in `data`, a `what` that came from `path`; ConfigError lists every slip with its place."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}:1: this is not text in UTF-8; save the file as UTF-8") from error
    root = _compose(text, path)
    if root is None:
        hint = " ('v2gbench init' writes a whole station file)" if what == "station file" else ""
        raise ConfigError(f"{path}:1:1: the file is empty; begin it with 'schema:'{hint}")
    builder = _Builder()
    value = builder.build(root, (), ())
    if not builder.problems and not isinstance(value, Mapping):
        builder.refuse(root, (), "the file must be made of 'key: value' lines")
    if builder.problems:
        raise_problems(builder.problems, path)
    return Document(path, value, builder.marks)


def raise_problems(problems: Sequence[Problem], path: Path) -> None:
    """Raise ConfigError with all problems, one a line, in the order of the file; return when there are none."""
    if not problems:
        return
    ordered = sorted(set(problems))
    lines = [problem.text(path) for problem in ordered[:_MAX_SHOWN]]
    if len(ordered) > _MAX_SHOWN:
        lines.append(f"{path}: {len(ordered) - _MAX_SHOWN} more like these; correct the first ones and check again")
    raise ConfigError("\n".join(lines))


def dotted(key_path: KeyPath) -> str:
    """A key path as people write it.

    >>> dotted(("devices", "meter", "items", 0))
    'devices.meter.items[0]'
    """
    text = ""
    for key in key_path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


class _Builder:
    """Turns nodes into plain data, noting marks and problems on the way."""

    def __init__(self) -> None:
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def refuse(self, node: Node, key_path: KeyPath, sentence: str) -> None:
        self.problems.append(Problem(_mark(node), dotted(key_path), sentence))

    def build(self, node: Node, key_path: KeyPath, above: tuple[int, ...]) -> Value:
        self.marks.setdefault(key_path, _mark(node))
        self._nodes += 1
        if id(node) in above:
            self.refuse(node, key_path, "this alias contains itself; write the values out")
            return None
        if self._nodes > _MAX_NODES:
            if self._nodes == _MAX_NODES + 1:
                self.refuse(node, key_path, f"aliases repeat this into more than {_MAX_NODES} values; write fewer")
            return None
        above = (*above, id(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, key_path, above)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*key_path, index), above) for index, item in enumerate(node.value)]
        return self._scalar(node, key_path)

    def _mapping(self, node: MappingNode, key_path: KeyPath, above: tuple[int, ...]) -> Value:
        result: dict[str, Value] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.refuse(key_node, key_path, "a key must be one word, not a list or group")
                continue
            key = str(key_node.value)
            if str(key_node.tag) == f"{_TAG}merge":
                self.refuse(key_node, key_path, "merge keys ('<<') are not read here; write the keys out")
                continue
            mark = _mark(key_node)
            if key in first_lines:
                what = "name" if key_path in {("twins",), ("devices",)} else "key"
                self.refuse(
                    key_node,
                    (*key_path, key),
                    f"the {what} {key!r} is written twice, in line {first_lines[key]} and in line {mark.line}; "
                    f"take one away or rename it",
                )
                continue
            first_lines[key] = mark.line
            self.marks[(*key_path, key)] = mark
            result[key] = self.build(value_node, (*key_path, key), above)
        return result

    def _scalar(self, node: Node, key_path: KeyPath) -> Value:
        tag, text = str(node.tag), str(node.value)
        kind = tag.removeprefix(_TAG)
        if kind in {"str", "timestamp"}:
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in {"int", "float"}:
            return self._number(node, key_path, text, kind)
        self.refuse(node, key_path, f"the tag {tag!r} is not read here; write the plain value")
        return None

    def _number(self, node: Node, key_path: KeyPath, text: str, kind: str) -> int | float | None:
        bare = text.replace("_", "")
        prefixed = bare.lstrip("+-")[:2].lower() in {"0x", "0o", "0b"}
        try:
            number: int | float = float(bare) if kind == "float" else int(bare, 0 if prefixed else 10)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.refuse(node, key_path, f"{text} is not a finite number; write one")
            return None
        return number


def _compose(text: str, path: Path) -> Node | None:
    try:
        node: Node | None = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(1, 1) if place is None else Mark(place.line + 1, place.column + 1)
        raise ConfigError(Problem(mark, "", _syntax_sentence(error, text)).text(path)) from error
    except YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        raise ConfigError(f"{path}:{line}:1: a control character stands here; this is not a text file") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path}:1:1: brackets are nested too deeply for any file of ours; name the right file"
        ) from error
    return node


def _syntax_sentence(error: MarkedYAMLError, text: str) -> str:
    problem = str(error.problem or error.context)
    mark = error.problem_mark
    if "\\t" in problem:
        return "a tab stands here, and YAML takes only spaces; replace it by spaces"
    if "another document" in problem:
        return "a second document starts here ('---'), and one file holds one; put it in a file of its own"
    if "undefined alias" in problem:
        return f"{problem.removeprefix('found ')}: nothing above is marked with '&' and that name; write the value out"
    if mark is not None and mark.line < text.count("\n") + 1:
        lines = text.splitlines()
        written = lines[mark.line].strip() if mark.line < len(lines) else ""
        if "mapping values are not allowed" in problem:
            return f"a second ': ' stands in {written!r}; put the value in quotes, or start a new line for the next key"
    return f"this is not YAML ({problem}); check indentation, brackets and quotes here and in the line above"


def _mark(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)
