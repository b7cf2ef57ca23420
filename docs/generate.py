"""Make the generated parts of the documentation again: `python -m docs.generate`, or compare them with `--check`.

- `docs/generated/keywords.md`: every keyword of `bench.keywords`, from its docstring and types (Robot's Libdoc model);
- `stations/station.schema.json`: the JSON schema of station files.

Markdown and not Libdoc's HTML, because that carries Robot's own scripts and changes with each of its versions; whoever
wants it says `python -m robot.libdoc bench.keywords keywords.html`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robot.libdoc import LibraryDocumentation

from bench.station import station_schema

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "bench.keywords"
_LONG = 40  # a type that takes more letters is told by its outermost name


def main(arguments: list[str] | None = None) -> int:
    """Write or compare; the exit code is 1 when a comparison fails."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Make the generated documents.")
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    check = parser.parse_args(arguments).check
    stale = [path for path, text in documents().items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is stale; run 'python -m docs.generate'", file=sys.stderr)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(documents()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


def documents() -> dict[Path, str]:
    """Each generated file with what it should hold."""
    return {
        ROOT / "docs/generated/keywords.md": keywords_text(),
        ROOT / "stations/station.schema.json": json.dumps(station_schema(), indent=2, ensure_ascii=False) + "\n",
    }


def keywords_text() -> str:
    """All keywords as Markdown."""
    library = LibraryDocumentation(LIBRARY)  # Robot's own model, which has no types
    lines = [
        "# Keywords",
        "",
        "Made from the docstrings by `python -m docs.generate`; do not edit.",
        "",
        *_markdown(library.doc, level=2),
        "",
        "## All keywords",
        "",
        "| keyword | tags |",
        "|---|---|",
        *(f"| [{word.name}](#{_anchor(word.name)}) | {', '.join(word.tags)} |" for word in library.keywords),
        "",
    ]
    for word in library.keywords:
        lines += [f"### {word.name}", "", *_signature(word), *_markdown(word.doc, level=4), ""]
    lines += ["## Types", ""]
    for kind in sorted(library.type_docs, key=lambda kind: str(kind.name).lower()):
        described = _type_lines(kind)
        if described:
            lines += [f"### {kind.name}", "", *described, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _signature(word: Any) -> Iterable[str]:
    rows = [
        f"| `{argument.name}` | {_cell(argument.type)} | {_default(argument)} |"
        for argument in word.args
        if argument.kind not in {"NAMED_ONLY_MARKER", "POSITIONAL_ONLY_MARKER"}
    ]
    if rows:
        yield from ("| argument | type | default |", "|---|---|---|", *rows, "")
    returned = str(word.args.return_type)
    if returned != "None":
        yield from (f"Returns {_cell(returned if len(returned) < _LONG else returned.partition('[')[0])}.", "")


def _default(argument: Any) -> str:
    if argument.required:
        return "required"
    return "any number of them" if argument.kind == "VAR_POSITIONAL" else f"`{argument.default_repr or 'empty'}`"


def _cell(kind: object) -> str:
    return "`" + str(kind).replace("|", "or") + "`"


def _type_lines(kind: Any) -> list[str]:
    if kind.type == "Enum":
        words = ", ".join(f"`{member.name.lower()}`" for member in kind.members)
        return [*_markdown(kind.doc, level=4), "", f"One of {words}; upper and lower case are alike."]
    return list(_markdown(kind.doc, level=4)) if kind.type == "Custom" else []


def _markdown(text: str, *, level: int) -> Iterable[str]:
    """Robot's documentation markup, as far as ours uses it: headings, code, links, examples in table form."""
    examples = False
    for line in text.strip().splitlines():
        heading = re.fullmatch(r"= (.+) =", line)
        if line.startswith("|"):
            if not examples:
                yield from ("", "```robotframework")
            examples = True
            yield "    ".join(cell.strip() for cell in line.strip("| ").split(" | "))
            continue
        if examples:
            yield from ("```", "")
            examples = False
        if heading is not None:
            yield from ("", "#" * level + " " + heading[1], "")
        else:
            yield line.replace("``", "`")
    if examples:
        yield "```"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main())
