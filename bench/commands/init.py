"""`v2gbench init`: a station file to start from, and the random keys that its witnesses and parties sign with.

The file is the packaged example, comments and all, under a name of its own, so that what a newcomer reads is what is
tested. Run again on the same folder it leaves the file alone and makes only the keys that are missing, because the
usual second step is to rename a device. Nothing that exists is ever replaced: a replaced key would orphan every
certificate signed with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.assets import asset
from bench.station import Station, default_keys_folder, load_station, parse_station
from bench.station.checks import LOG_KEY_NAME
from drivers.errors import ConfigError
from ledgers.channels import CONTRACT_ROLE, load_channels
from ledgers.errors import LedgerError
from ledgers.formats.tlog import make_log_key, stored_log_key
from ledgers.identity import FileKeys

STATION_FILE = "station.yaml"


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Who signs at a station, each by a key of that name."""

    witnesses: tuple[str, ...]  # the devices
    station: str  # signs the usage record
    parties: tuple[str, ...]  # the stakeholders of the channels
    log: str  # signs the ledger's checkpoints (Ed25519, all others P-256)
    contract: str = CONTRACT_ROLE  # signs what a contract writes on other channels


@dataclass(frozen=True, slots=True)
class MadeKeys:
    """What became of the keys of a station."""

    folder: Path
    made: tuple[Path, ...]
    kept: tuple[Path, ...]  # existed, and are usable


@dataclass(frozen=True, slots=True)
class InitResult:
    """What `init_station` did."""

    station_path: Path
    station_name: str
    station_made: bool  # False: it existed and was left alone
    keys: MadeKeys


def init_station(folder: Path, *, metal: bool = False, name: str | None = None) -> InitResult:
    """Write `folder`/station.yaml, unless there is one, and make the keys that its signers lack.

    `metal` takes the example of real devices instead of the emulated one; `name` is by default made from the folder's.
    Raises ConfigError when the folder cannot be written, an existing station file is wrong, or a key is unusable.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder; name the folder that the station file goes to")
    path = folder / STATION_FILE
    made = not path.exists()
    if made:
        _write_new(path, station_text(name or _name_from(folder), metal=metal))
    elif name is not None or metal:
        raise ConfigError(
            f"{path} exists already and is never replaced; choose another folder, or leave out the options"
        )
    station = load_station(path)
    return InitResult(path, station.name, made, make_keys(station))


def station_text(name: str, *, metal: bool = False) -> str:
    """The packaged example under another name, with the key folder of that name; ConfigError for an unusable name."""
    example = "metal-example" if metal else "emulated"
    text = asset(f"stations/{example}.yaml").read_text(encoding="utf-8")
    keys = default_keys_folder(name)
    text = re.sub(r"(?m)^name: .*$", f"name: {name}", text, count=1)
    if metal:
        text = re.sub(r"(?m)^  folder: \S+", lambda _: f"  folder: {_quoted(keys)}", text, count=1)
    else:
        line = (
            f"keys: {{folder: {_quoted(keys)}}}   # random keys of 'v2gbench init'; left out, keys come from the seed"
        )
        text = re.sub(r"(?m)^# keys: .*$", lambda _: line, text, count=1)
    parse_station(text.encode(), Path(STATION_FILE))
    return text


def key_names(station: Station) -> KeyNames:
    """Who needs a key at this station: each device, the station, each stakeholder of the ledger, the ledger's log."""
    return KeyNames(tuple(station.devices), station.name, load_channels().roles, LOG_KEY_NAME)


def make_keys(station: Station) -> MadeKeys:
    """Make the keys that are missing in the station's key folder (mode 0600); those that exist are checked and kept.

    Raises ConfigError when the station takes its keys from a seed, or the folder or a key in it is unusable.
    """
    folder = station.keys_folder
    if folder is None:
        raise ConfigError(
            f"{station.path} takes its keys from the seed; add 'keys: {{folder: {default_keys_folder(station.name)}}}'"
        )
    keys, names = FileKeys(folder), key_names(station)
    made: list[Path] = []
    kept: list[Path] = []

    def ensure(name: str, make: Callable[[], Path], use: Callable[[], object]) -> None:
        path = folder / f"{name}.pem"
        if path.exists():
            use()
            kept.append(path)
        else:
            made.append(make())

    try:
        for name in (*names.witnesses, names.station, *names.parties, names.contract):
            ensure(name, partial(keys.make, name), partial(keys.identity, name, "any"))
        ensure(names.log, partial(make_log_key, keys, names.log), partial(stored_log_key, keys, names.log))
    except LedgerError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"the key folder {folder} cannot be written ({error.strerror}); choose another") from error
    return MadeKeys(folder, tuple(made), tuple(kept))


def _name_from(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).strip("_-")[:40] or "station"
    taken = {*load_channels().roles, LOG_KEY_NAME, CONTRACT_ROLE, "charger", "van", "meter"}
    return f"{name}_station" if name in taken else name


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _write_new(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already and is never replaced; choose another folder") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
