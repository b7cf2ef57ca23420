"""A secret is a reference; its value is read late, checked, and shown to nobody."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bench.station.secrets import Secret, is_reference
from drivers.errors import ConfigError


class Door(BaseModel, frozen=True):
    password: Secret


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return path


def test_a_secret_shows_stars_wherever_it_is_printed() -> None:
    secret = Secret("env:LAB_PASSWORD")
    door = Door(password=secret)
    assert str(secret) == f"{secret}" == "***"
    assert repr(secret) == "Secret('***')"
    assert "LAB_PASSWORD" not in repr(door)
    assert door.model_dump() == {"password": "***"}
    assert json.loads(door.model_dump_json()) == {"password": "***"}
    assert copy.deepcopy(door) == door


def test_where_a_secret_is_may_be_shown() -> None:
    assert Secret("file:~/lab/password").reference == "file:~/lab/password"


def test_a_variable_is_read_at_the_moment_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret("env:LAB_PASSWORD")
    monkeypatch.setenv("LAB_PASSWORD", "first")
    assert secret.reveal() == "first"
    monkeypatch.setenv("LAB_PASSWORD", "second")
    assert secret.reveal() == "second"


def test_a_variable_that_is_not_set_or_empty_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="the environment variable LAB_PASSWORD is not set"):
        Secret("env:LAB_PASSWORD").reveal()
    monkeypatch.setenv("LAB_PASSWORD", "")
    with pytest.raises(ConfigError, match="LAB_PASSWORD is not set"):
        Secret("env:LAB_PASSWORD").reveal()


def test_a_file_is_read_without_its_last_newline(secret_file: Path) -> None:
    assert Secret(f"file:{secret_file}").reveal() == "correct horse"
    assert Secret("file:password").reveal(folder=secret_file.parent) == "correct horse"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o602])
def test_a_file_that_others_can_read_or_write_is_refused(secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)
    with pytest.raises(ConfigError, match="is open to others; run 'chmod 600 "):
        Secret(f"file:{secret_file}").reveal()


def test_a_missing_empty_binary_or_large_secret_file_is_told(tmp_path: Path) -> None:
    def refusal(content: bytes | None) -> str:
        path = tmp_path / "secret"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        with pytest.raises(ConfigError) as caught:
            Secret(f"file:{path}").reveal()
        return str(caught.value)

    assert "cannot be read (No such file or directory)" in refusal(None)
    assert "is empty; write the secret into it" in refusal(b"\n")
    assert "is not text in UTF-8" in refusal(b"\xff\xfe")
    assert "more than 65536 bytes" in refusal(b"x" * 70_000)


def test_a_pipe_instead_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="is not a plain file"):
        Secret(f"file:{path}").reveal()
    with pytest.raises(ConfigError, match="is not a plain file"):
        Secret(f"file:{tmp_path}").reveal()


@pytest.mark.parametrize("literal", ["hunter2", "env:", "env:A B", "env:1A", "file:", "file: x", "ENV:A", ""])
def test_a_literal_secret_is_refused_without_being_repeated(literal: str) -> None:
    assert not is_reference(literal)
    with pytest.raises(ConfigError, match="may not stand in the file itself; write 'env:NAME'") as caught:
        Secret(literal)
    assert literal == "" or literal not in str(caught.value).replace("env:NAME", "").replace("file:PATH", "")
    with pytest.raises(ValidationError, match="may not stand in the file itself"):
        Door.model_validate({"password": literal})


def test_the_schema_of_a_secret_is_a_pattern_of_references() -> None:
    entry = Door.model_json_schema()["properties"]["password"]
    assert entry["type"] == "string"
    assert entry["pattern"].startswith("^(env:")
