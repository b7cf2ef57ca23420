"""For all tests: hypothesis judges what is right, not how fast a shared machine is, and CI repeats itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("bench", deadline=None, max_examples=60, derandomize=os.environ.get("CI") == "true")
settings.load_profile("bench")


def pytest_sessionstart() -> None:
    """Forget compiled code that is older than its sources: numba looks at the outermost function's file only."""
    folder = Path(__file__).resolve().parents[1] / "twins" / "pack"
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for made in (folder / "__pycache__").glob("*.nb?"):
        if made.stat().st_mtime < newest:
            made.unlink(missing_ok=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m nodes` reads no files without such tests: they are few, and each worker would import all others."""
    if config.option.markexpr not in {"nodes", "nodes and not long"} or not collection_path.name.startswith("test_"):
        return None
    return True if "mark.nodes" not in collection_path.read_text(encoding="utf-8") else None
