"""The guide to drivers shows what the driver's file says, and its contract test runs as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "write-a-driver.md").read_text(encoding="utf-8")
DRIVER = (ROOT / "drivers" / "charger" / "modbus.py").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", GUIDE)


@pytest.mark.parametrize("number", range(len(blocks("py"))))
def test_each_passage_stands_in_the_drivers_file_as_shown(number: int) -> None:
    assert blocks("py")[number] in DRIVER


def test_the_entry_point_is_the_registered_one() -> None:
    (block,) = blocks("toml")
    for line in block.splitlines():
        assert line in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def contract_example() -> str:
    (block,) = [block for block in blocks("python") if "class TestMyCharger" in block]
    return block


@pytest.mark.wire
def test_the_contract_test_runs_as_shown(tmp_path: Path) -> None:
    test = tmp_path / "test_my_charger.py"
    test.write_text(textwrap.dedent(contract_example()), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"),
            *("-W", "error", "-k", "nameplate or plug_in_to_plug_out or goes_away", str(test)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
