"""Scenarios, stations, tariffs and test plans that come with the bench, found wherever it was installed from.

In a wheel they lie in `v2gbench/data/`; in a checkout (also an editable install) at the top, where people edit them. A
caller names them alike in both: `stations/emulated.yaml`. A checkout wins, because an editable install may have left a
stale copy of the data beside the other packages.

>>> asset("stations/emulated.yaml").name
'emulated.yaml'
"""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path, PurePosixPath

from drivers.errors import ConfigError

FOLDERS = ("scenarios", "stations", "tariffs", "test_plans")


def asset(name: str) -> Path:
    """The path of a file that comes with the bench, by its name below the data folder (`tariffs/example.yaml`).

    Raises ConfigError, naming the nearest or all available, when there is none of that name.
    """
    parts = PurePosixPath(name).parts
    if len(parts) >= 2 and parts[0] in FOLDERS and ".." not in parts:
        path = _root().joinpath(*parts)
        if path.is_file():
            return path
    names = list_assets()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none: reinstall v2gbench'}"
    raise ConfigError(f"no file called {name!r} comes with the bench; {hint}")


def list_assets(folder: str | None = None) -> tuple[str, ...]:
    """The names of all files that come with the bench, or of those in one of `FOLDERS`, sorted."""
    if folder is not None and folder not in FOLDERS:
        raise ConfigError(f"no folder called {folder!r} comes with the bench; there are {', '.join(FOLDERS)}")
    root = _root()
    found = [
        path.relative_to(root).as_posix()
        for top in ((folder,) if folder else FOLDERS)
        for path in (root / top).rglob("*")
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.relative_to(root).parts)
    ]
    return tuple(sorted(found))


def data_root(package_folder: Path) -> Path:
    """The folder that holds `FOLDERS`, for a `v2gbench` package that lies at `package_folder`."""
    checkout = package_folder.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "stations").is_dir():
        return checkout
    wheel = package_folder / "data"
    if wheel.is_dir():
        return wheel
    raise ConfigError(f"the files that come with the bench are in neither {wheel} nor {checkout}; reinstall v2gbench")


def _root() -> Path:
    spec = importlib.util.find_spec("v2gbench")
    if spec is None or spec.origin is None:
        raise ConfigError("the package v2gbench is not installed; run 'pip install v2gbench'")
    return data_root(Path(spec.origin).parent)
