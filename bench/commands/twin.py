"""A twin in a process of its own, on the wall clock: `v2gbench twin KIND --listen HOST:PORT`.

Other people's clients can then be tried on our twins, and the bench itself on a charger that outlives it: a bench that
is killed in the middle of a session finds out what the charger's own watchdog is worth. From the wire nobody can tell
such a twin from a device, so a station addresses it, and guards it, like metal.

Behind every kind stands the whole coupled site of one station file (grid, charger, van, analyzer); `charger`, `van` and
`analyzer` show the faces of one part of it, `site` shows all. The address of each face goes out, one a line and at
once, as soon as all of them listen: whoever started the process reads them and may begin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.assets import asset
from bench.emulation import EmulatedSite, Face
from bench.station import Station, load_station
from bench.station.address import parse_listen
from bench.station.model import ChargerDevice
from drivers.charger.profile import load_profile
from drivers.clock import Deadline, WallClock
from drivers.errors import BenchError, ConfigError
from drivers.service_loop import ServiceLoop
from ledgers.canonical import Json
from twins.faces.can import CanFace
from twins.faces.elm327 import Elm327Face, Elm327PtyFace
from twins.faces.modbus import ModbusFace
from twins.faces.ocpp import ChargePointFace
from twins.faces.yokogawa_wt import YokogawaFace
from twins.runner import SiteRunner

TWIN_SCHEMA = "v2gbench.twin/1.0"
KINDS = ("charger", "van", "analyzer", "site")

# The words of a station file mean the same twins here.
_STATION_WORDS = {
    "charger.ame_v2g_3p10": "charger",
    "vehicle.env200_40kwh": "van",
    "instrument.power_analyzer": "analyzer",
}
_POLL_S = 0.2
_STEP_S = 0.1  # of the twins' physics: an order of magnitude below the fastest client's cycle
_PING_INTERVAL_S = 30.0


def serve_twin(
    kind: str,
    *,
    listen: str,
    station: Path | None,
    csms: str | None,
    seconds: float | None,
    as_json: bool,
    say: Callable[[str], None],
    plugged: bool = False,
) -> None:
    """Serve the faces of a twin until Ctrl-C, SIGTERM or, if given, for `seconds`.

    `listen` is host:port (several faces take consecutive ports, or each any free one for port 0), `pty` for a van's
    serial adapter, or can://INTERFACE for a van's control units on a bus. `csms` is the ws:// address, without the
    charge point's id, of an OCPP central system for the charger. `plugged` begins with the cable in the van. Raises
    ConfigError for an unknown kind, a bad address, or a port that is taken.
    """
    wanted = _kind(kind)
    if csms is not None:
        _check_csms(csms, wanted)
    loaded = load_station(station or asset("stations/emulated.yaml"))
    if not loaded.twins:
        raise ConfigError(f"{loaded.path} has no twins, so there is nothing to emulate; give a station file with some")
    try:
        with ExitStack() as stack:
            loop = stack.enter_context(ServiceLoop("twin"))
            emulated = EmulatedSite(loaded, loop, WallClock())  # not entered: its faces are for a rack's own devices
            if plugged:
                emulated.charger.plug_in()
            faces = _open_faces(stack, wanted, listen, loaded, emulated, loop)
            # Stepping first: what is asked of the twin from its first moment on has its time.
            runner = stack.enter_context(SiteRunner(emulated.site, step_s=_STEP_S))
            points = _dial_in(stack, loaded, emulated, loop, csms) if csms is not None else []
            _announce(wanted, [*faces, *points], as_json=as_json, say=say)
            _serve(runner, loop, seconds)
    except KeyboardInterrupt:
        return  # how a twin ends


@dataclass(frozen=True, slots=True)
class _Address:
    twin: str
    face: str
    address: str


def _kind(word: str) -> str:
    wanted = _STATION_WORDS.get(word, word)
    if wanted not in KINDS:
        raise ConfigError(f"there is no twin {word!r}; known are {', '.join((*KINDS, *_STATION_WORDS))}")
    return wanted


def _check_csms(csms: str, kind: str) -> None:
    if kind not in {"charger", "site"}:
        raise ConfigError(f"a {kind} does not dial in to a central system; leave --csms out, or start a charger")
    if not csms.startswith(("ws://", "wss://")) or len(csms) < len("ws://x"):
        raise ConfigError(f"{csms!r} is no address of a central system; write it like ws://127.0.0.1:9000")


def _open_faces(
    stack: ExitStack, kind: str, listen: str, station: Station, emulated: EmulatedSite, loop: ServiceLoop
) -> list[_Address]:
    lock = emulated.site.lock
    if listen == "pty" or listen.startswith("can://"):
        if kind != "van":
            raise ConfigError(f"only a van listens on {listen}; write host:port for {kind}")
        if listen == "pty":
            pty = stack.enter_context(Elm327PtyFace(emulated.van, lock, loop))
            return [_Address(emulated.van_name, "elm327", pty.address)]
        interface = listen.removeprefix("can://")
        if not interface:
            raise ConfigError("can:// names no interface; write it like can://can0")
        bus = stack.enter_context(CanFace(emulated.van, lock, channel=interface, interface="socketcan", broadcast=True))
        return [_Address(emulated.van_name, "can", bus.address)]
    try:
        host, port = parse_listen(listen)
    except ValueError as error:
        raise ConfigError(f"--listen: {error}; a van also takes pty or can://INTERFACE") from error
    makers = _makers(kind, station, emulated, loop)
    if port and port + len(makers) - 1 > 65_535:
        raise ConfigError(f"{len(makers)} faces from port {port} on go beyond 65535; choose a smaller port")
    opened = []
    for offset, ((twin, face), make) in enumerate(makers.items()):
        shown = stack.enter_context(make(host, port + offset if port else 0))
        opened.append(_Address(twin, face, shown.address))
    return opened


def _makers(
    kind: str, station: Station, emulated: EmulatedSite, loop: ServiceLoop
) -> Mapping[tuple[str, str], Callable[[str, int], Face]]:
    lock = emulated.site.lock
    makers: dict[tuple[str, str], Callable[[str, int], Face]] = {}
    if kind in {"charger", "site"}:
        profile = load_profile(_profile(station))
        makers[emulated.charger_name, "modbus"] = lambda host, port: ModbusFace(
            emulated.charger, profile, lock, loop, host=host, port=port
        )
    if kind in {"van", "site"}:
        makers[emulated.van_name, "elm327"] = lambda host, port: Elm327Face(emulated.van, lock, loop, host, port)
    if kind in {"analyzer", "site"}:
        if kind == "analyzer" and not emulated.analyzers:
            raise ConfigError(f"{station.path} has no analyzer twin; add one, or leave --station out")
        for name, analyzer in emulated.analyzers.items():
            makers[name, "scpi"] = lambda host, port, analyzer=analyzer: YokogawaFace(  # type: ignore[misc]  # bound now
                analyzer, lock, loop, host, port
            )
    return makers


def _profile(station: Station) -> str:
    device = station.devices[station.charger_name]
    return (device.profile if isinstance(device, ChargerDevice) else None) or "sunspec_der"


def _dial_in(
    stack: ExitStack, station: Station, emulated: EmulatedSite, loop: ServiceLoop, csms: str
) -> list[_Address]:
    part = emulated.charger_name
    identity = next(
        (twin.charge_point for name, twin in station.twins.items() if name == part and hasattr(twin, "charge_point")),
        None,
    )
    # Beside its Modbus face a profile bounds the power; whoever wants it to command sets the key ProfileIsSetpoint.
    stack.enter_context(
        ChargePointFace(
            emulated.charger,
            emulated.site,
            loop,
            url=csms,
            identity=identity or part,
            stepped=False,
            ping_interval_s=_PING_INTERVAL_S,
        )
    )
    return [_Address(part, "ocpp", f"{csms.rstrip('/')}/{identity or part}")]


def _announce(kind: str, faces: list[_Address], *, as_json: bool, say: Callable[[str], None]) -> None:
    if not as_json:
        for face in faces:
            say(f"{face.twin}/{face.face} {face.address}")
        return
    document: dict[str, Json] = {
        "schema": TWIN_SCHEMA,
        "kind": kind,
        "faces": [{"twin": face.twin, "face": face.face, "address": face.address} for face in faces],
    }
    say(json.dumps(document))


def _serve(runner: SiteRunner, loop: ServiceLoop, seconds: float | None) -> None:
    deadline = None if seconds is None else Deadline.after(seconds)
    while deadline is None or not deadline.passed:
        time.sleep(_POLL_S if deadline is None else min(_POLL_S, max(0.001, deadline.remaining_s)))
        runner.raise_failure()
        try:
            loop.raise_failures()
        except OSError as error:
            raise BenchError(f"a face of the twin failed: {error}") from error
