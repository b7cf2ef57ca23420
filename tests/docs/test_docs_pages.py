"""The documents say what is so: links lead somewhere, commands parse, code runs, names import, lists are complete."""

from __future__ import annotations

import configparser
import functools
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
PACKAGES = ("bench", "drivers", "ledgers", "reports", "services", "twins", "v2gbench")
FOLDERS = (*PACKAGES, "benchmarks", "docs", "stations", "tariffs", "test_plans", "tests")
# Every Python block of these pages runs; elsewhere one that does stands under `<!-- runs -->`.
ALWAYS_RUN = ("ocpp.md", "read-a-charger.md", "station-file.md")

_FENCE = re.compile(r"(?ms)^(?P<before>[^\n]*\n)?(?P<indent> *)```(?P<language>[a-z]*)\n(?P<body>.*?)^ *```$")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
_SCHEMA = re.compile(r"v2gbench\.[a-z][a-z-]*/\d+(?:\.\d+)?(?![\w.])")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    body: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        runs = (found["before"] or "").strip() == "<!-- runs -->" or page.name in ALWAYS_RUN
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], found["body"], runs)


def prose(page: Path) -> str:
    return _FENCE.sub("\n", page.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Command:
    """A command line of a page, in a block or inline between backticks."""

    where: str
    words: tuple[str, ...]
    inline: bool

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def commands() -> Iterator[Command]:
    for page in PAGES:
        for block in blocks(page):
            if block.language not in {"console", "sh"}:
                continue
            for line in block.body.splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words:
                    yield Command(str(block), tuple(words), inline=False)
        for span in _SPAN.findall(prose(page)):
            if span.startswith(("v2gbench ", "python -m ")) and not re.search(r"[…|<>]", span):
                yield Command(str(page.relative_to(ROOT)), tuple(shlex.split(span)), inline=True)


COMMANDS = list(commands())
OURS = [pytest.param(shown, id=str(shown)) for shown in COMMANDS if shown.words[0].endswith("v2gbench")]
PYTHON = [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page) if block.language == "python"]


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page get: lower case, spaces to hyphens, punctuation dropped."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_what_is_there(page: Path) -> None:
    lost = []
    for target in _LINK.findall(prose(page)):
        place, _, anchor = urllib.parse.unquote(target).partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            lost.append(target)
    assert not lost, f"{page.relative_to(ROOT)} links to what is not there: {lost}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in _LINK.findall(prose(index))}
    pages = {page for page in (ROOT / "docs").glob("*.md") if page != index}
    assert not pages - linked, f"docs/index.md does not name {sorted(page.name for page in pages - linked)}"


@pytest.mark.parametrize("shown", OURS)
def test_a_shown_command_is_one_that_v2gbench_takes(shown: Command) -> None:
    import typer

    from bench.cli import app

    command: Any = typer.main.get_command(app)
    name, rest = shown.words[0], list(shown.words[1:])
    while rest and rest[0] in getattr(command, "commands", {}):
        name, command, rest = f"{name} {rest[0]}", command.commands[rest[0]], rest[1:]
    if hasattr(command, "commands"):
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert rest in [[option] for option in known], f"{name} has no {rest}; it has {sorted(command.commands)}"
        return
    if shown.inline:  # a command or an option of it is named, not a whole line shown
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
        assert not unknown, f"{shown}: {name} has no {unknown}; it has {sorted(options)}"
        return
    try:
        command.make_context(name, rest)
    except typer.Exit:
        pass  # --help
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        pytest.fail(f"{shown}: {error.format_message()}")


@functools.cache
def help_of(module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted({c.words[2] for c in COMMANDS if c.words[:2] == ("python", "-m")}))
def test_a_shown_module_can_be_asked_for_help(module: str) -> None:
    asked = help_of(module)
    assert asked.returncode == 0, asked.stderr
    assert "usage" in asked.stdout.lower()


def test_shown_make_tox_and_pytest_lines_name_what_is_there() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    environments = {name.strip() for name in tox["tox"]["env_list"].split(",")}
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    wrong = []
    for shown in COMMANDS:
        words = [word for word in shown.words if not re.fullmatch(r"[A-Z0-9_]+=.*", word)]
        program = words[0].rpartition("/")[2]
        if program == "make" and not set(words[1:]) <= targets:
            wrong.append(str(shown))
        if program == "tox" and "-e" in words and words[words.index("-e") + 1] not in environments:
            wrong.append(str(shown))
        paths = [word.partition("::")[0] for word in words[1:] if word.startswith("tests")]
        wrong += [f"{shown}: {path}" for path in paths if not (ROOT / path).exists()]
    assert not wrong


@pytest.mark.slow
@pytest.mark.wire
@pytest.mark.parametrize("block", [param for param in PYTHON if param.values[0].runs])  # type: ignore[union-attr]  # a Block
def test_a_shown_program_runs(block: Block, tmp_path: Path) -> None:
    for folder in ("stations", "tariffs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    program = tmp_path / "shown.py"
    program.write_text(block.body, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"


@pytest.mark.parametrize("block", PYTHON)
def test_a_shown_program_is_python(block: Block) -> None:
    if re.search(r"(?m)^\s*\.\.\.|…", block.body):
        pytest.skip("a piece of a program")
    compile(block.body, str(block), "exec")


@pytest.mark.slow
@pytest.mark.wire
def test_the_commands_of_the_station_page_work_one_after_the_other(tmp_path: Path) -> None:
    (first, *_) = [block for block in blocks(ROOT / "docs" / "station-file.md") if block.language == "console"]
    for line in first.body.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        place = tmp_path / ("metal" if "--metal" in words else "emulated")  # the second one is instead of the first
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=place,
            env={**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_dotted_names_import() -> None:
    lost = set()
    groups = entry_points().groups
    for page in PAGES:
        for span in _SPAN.findall(prose(page)):
            name = re.sub(r"\(.*\)$", "", span)
            if _DOTTED.fullmatch(name) and name not in groups and not found(name):
                lost.add(f"{page.relative_to(ROOT)}: {name}")
    assert not lost, sorted(lost)


def found(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one (of a class in one: a model's field counts)."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            if importlib.util.find_spec(module) is None:
                continue
        except ModuleNotFoundError:
            continue
        thing: Any = importlib.import_module(module)
        for attribute in parts[length:]:
            if not hasattr(thing, attribute):
                return attribute in getattr(thing, "model_fields", {}) or attribute in getattr(
                    thing, "__annotations__", {}
                )
            thing = getattr(thing, attribute)
        return True
    return False


def test_paths_in_backticks_exist() -> None:
    lost = set()
    for page in PAGES:
        for span in _SPAN.findall(prose(page)):
            if not re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*", span) or _SCHEMA.fullmatch(span):
                continue
            if not any(ROOT.glob(span.rstrip("/"))):
                lost.add(f"{page.relative_to(ROOT)}: {span}")
    assert not lost, sorted(lost)


def test_architecture_lists_every_schema_of_the_code_and_no_other() -> None:
    written = set()
    for folder in (*PACKAGES, "stations", "tariffs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".yaml"}:
                text = file.read_text(encoding="utf-8")
                written |= {name for name in _SCHEMA.findall(text) if f'"{name}"' in text or f"schema: {name}" in text}
    listed = set(_SCHEMA.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    assert written - listed == set(), "docs/architecture.md, 'What is written', lacks these"
    assert {name for name in listed - written if name != "v2gbench.station/1.0"} == set(), "no code writes these"


def test_the_reconciliation_page_has_a_row_for_every_part_of_the_uncertainty() -> None:
    code = (ROOT / "bench" / "witnesses.py").read_text(encoding="utf-8")
    parts = {name for pair in re.findall(r'parts(?:\["(\w+)"\] =| = \{"(\w+)":)', code) for name in pair if name}
    page = (ROOT / "docs" / "reconciliation.md").read_text(encoding="utf-8")
    budget = page.partition("## The uncertainty budget")[2].partition("##")[0]
    assert {"gain", "polling"} <= parts
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", budget)) == parts


def test_the_station_page_explains_every_key_of_the_schema() -> None:
    schema = json.loads((ROOT / "stations" / "station.schema.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "station-file.md").read_text(encoding="utf-8")
    table = page.partition("## The keys")[2].partition("###")[0]
    explained = set(re.findall(r"(?m)^\| `(\w+)`", table))
    assert explained == set(schema["properties"])


def test_the_testing_page_lists_every_marker_and_environment() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    markers = {marker.partition(":")[0] for marker in project["tool"]["pytest"]["ini_options"]["markers"]}
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    environments = {name.strip() for name in tox["tox"]["env_list"].split(",")}
    of_environments = page.partition("## Environments")[2].partition("##")[0]
    of_markers = page.partition("## Markers")[2].partition("##")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", of_environments)) == environments
    assert set(re.findall(r"(?m)^\| `(\w+)`", of_markers)) == markers


def test_the_picture_is_whole_and_needs_nothing_from_elsewhere() -> None:
    picture = (ROOT / "docs" / "images" / "road.svg").read_text(encoding="utf-8")
    root = ET.fromstring(picture)
    assert root.get("viewBox")
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", picture)
    assert not re.search(r"https?:|href=|<script|@import", outside)
