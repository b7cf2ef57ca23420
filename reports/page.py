r"""The page that all reports share: one HTML file with the answer first, that opens anywhere and fetches nothing.

A report hands in plain values (`Page`: facts, sections of words, figures and tables) and drawn plots; the template only
lays them out. Everything is inlined, and a Content-Security-Policy lets the page fetch nothing and run nothing but our
own scripts, named by their hashes. So a name that is a piece of HTML stays a name.

>>> number(-1234.5, 1).text.replace("\u202f", " ").replace("\u2212", "-")
'-1 234.5'
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from ledgers.canonical import Json
from reports.errors import RenderError
from reports.plots import RenderedPlots

Tone = Literal["", "good", "warn", "bad", "muted", "plain"]

NOTHING: Final = "\u2013"
"""What stands where there is no value."""
MINUS: Final = "\u2212"


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell; `code` is set in a fixed-width face and may be broken anywhere."""

    text: str
    tone: Tone = ""
    number: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table with its caption; the first column holds the row's heading."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture with its title and the sentence that says what to see; `plots` are the keys of its drawn plots.

    Several plots stand side by side, at least `plot_width_px` wide each, where the page has room.
    """

    title: str
    caption: str
    plots: tuple[str, ...]
    plot_width_px: int = 0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that we drew: SVG elements for wide and for narrow pages, whose text is escaped already."""

    title: str
    caption: str
    wide: str
    narrow: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: words, then drawings, figures and tables; `folded` ones open on a click."""

    key: str
    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False
    commands: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    cards: tuple[Fact, ...] = ()
    drawings: tuple[Drawing, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure for the top of the page, or for a card within a section."""

    name: str
    figure: str
    unit: str = ""
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report. `headline` is the answer in one line, `reason` the sentence below it.

    `tone` colours the answer; "plain" is for one that is neither good nor bad. `origin` is where the page comes from.
    Each part of `footer` is a word in bold, which may be empty, and a sentence.
    """

    kicker: str
    title: str
    headline: str
    tone: Tone
    reason: str
    badges: tuple[tuple[str, Tone], ...]
    origin: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    footer: tuple[tuple[str, str], ...]


def render_page(page: Page, plots: RenderedPlots) -> str:
    """The page as text; UTF-8, self-contained."""
    theme_js = _template("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            plots=plots,
            policy=_policy(plots, theme_js),
            style=_template("report.css"),
            theme_js=theme_js,
        )
    )


def write_page(text: str, path: Path) -> Path:
    """Write a page, replacing an older one at once or not at all; raises RenderError when it cannot be written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RenderError(f"cannot write {path}: {error}; check free space and permissions") from error
    return path


def number(value: float | None, decimals: int) -> Cell:
    """A cell with a number, thousands apart; a dash for None and for what is not finite."""
    if value is None or not math.isfinite(value):
        return Cell(NOTHING, "muted", number=True)
    return Cell(figure_text(value, decimals), number=True)


def figure_text(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number for people: thousands apart by a narrow space, a true minus, no minus before a rounded zero."""
    rounded = round(value, decimals) + 0.0
    text = f"{rounded:{'+' if signed and rounded else ''},.{decimals}f}"
    return text.replace(",", "\u202f").replace("-", MINUS)


def flat(document: Json, name: str = "", depth: int = 0) -> Iterator[tuple[str, Json]]:
    """Every leaf of a document with the path to it, in words."""
    if isinstance(document, Mapping) and depth < 8:
        for key, value in document.items():
            yield from flat(value, f"{name} {key}".strip(), depth + 1)
    elif isinstance(document, Sequence) and not isinstance(document, str) and depth < 8:
        for place, value in enumerate(document, 1):
            yield from flat(value, f"{name} {place}" if len(document) > 1 else name, depth + 1)
    else:
        yield name, document


def clipped(text: str, length: int = 400) -> str:
    """The text, cut where it is too long for a cell."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def capital(sentence: str) -> str:
    """A sentence with a capital first letter; the others stay."""
    return sentence[:1].upper() + sentence[1:]


def spoken(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(plots: RenderedPlots, theme_js: str) -> str:
    scripts = [script for script in (plots.library_js, plots.script_js, theme_js) if script]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
