"""Nothing in the project leads to one machine: no paths of somebody's disk, no private package hosts, no keys."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|home/\w+|Users/\w+|root)" + "/"),
    "a folder beside the checkout": re.compile(r"\b" + "shar" + r"ed/"),
    "a package host": re.compile(
        r"https?://[\w.-]*(?:artifact|nexus|mirror|devpi|verdaccio|pypi-proxy|npm-proxy)[\w.-]*"
    ),
    "an address with a password": re.compile(r"https?://[^\s/:@'\"]+:[^\s/@'\"]+@"),
    "a private key": re.compile("-----BEGIN (?:EC |RSA |OPENSSH )?PRIV" + "ATE KEY-----\n[A-Za-z0-9+/]{20}"),
}
# The default of V2GBENCH_RECORDINGS is the one folder beside the checkout that is looked at, when it is there.
ALLOWED = re.compile(r"\.\./" + "shar" + "ed/data")


def tracked() -> Iterator[tuple[Path, str]]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True).stdout
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" not in data:
            yield path.relative_to(ROOT), data.decode("utf-8")


def test_no_tracked_file_leads_to_one_machine() -> None:
    seen = [
        f"{path}: {what}: {match.group()}"
        for path, text in tracked()
        for what, pattern in FORBIDDEN.items()
        for match in pattern.finditer(ALLOWED.sub("", text))
    ]
    assert not seen, seen[:20]


def test_the_search_would_find_them() -> None:
    for text in (
        "see /wo" + "rk/main/x",
        "in /ho" + "me/anna/x",
        "from ../shar" + "ed/facts",
        "htt" + "p://u:p@host/simple",
    ):
        assert any(pattern.search(ALLOWED.sub("", text)) for pattern in FORBIDDEN.values()), text


def test_locked_packages_come_from_the_public_registry() -> None:
    for path, text in tracked():
        if path.name == "package-lock.json":
            hosts = set(re.findall(r'"resolved": "https?://([^/"]+)', text))
            assert hosts <= {"registry.npmjs.org"}, f"{path}: {hosts}"


def test_every_tracked_text_file_ends_with_a_newline_and_holds_no_carriage_return() -> None:
    wrong = [
        str(path)
        for path, text in tracked()
        if path.parts[:2] != ("tests", "data") and text and not text.endswith("\n")
    ]
    assert not wrong
