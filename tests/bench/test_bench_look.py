"""Reading each device once: everything is read, nothing is written, and who does not answer is named."""

from __future__ import annotations

import json
import math
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from bench.assets import asset
from bench.commands.look import Look, look
from bench.emulation import EmulatedSite
from bench.station import Station, load_station, parse_station
from drivers.charger.profile import load_profile
from drivers.clock import WallClock
from drivers.service_loop import ServiceLoop
from twins.faces.elm327 import Elm327Face
from twins.faces.modbus import ModbusFace
from twins.faces.ocpp import ChargePointFace
from twins.faces.yokogawa_wt import YokogawaFace
from twins.runner import SiteRunner

pytestmark = pytest.mark.wire

READ_HOLDING, READ_INPUT = 3, 4  # Modbus application protocol 1.1b3, sections 6.3 and 6.4
READ_LOCAL, READ_BY_ID, SESSION = "21", "22", "10"  # KWP 2000 and ISO 14229-1
STANDARD_READS = {"01", "06", "09"}  # SAE J1979 services that python-OBD opens with; 04, 08 and 2E to 31 would act
SILENT_REPLY_S = 0.3


class Tap:
    """A TCP relay that keeps what the client sends. A context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.sent = b""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._listener.close()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        with ExitStack() as stack:
            other: dict[socket.socket, socket.socket] = {}
            clients: set[socket.socket] = set()
            while not self._stop.is_set():
                ready, _, _ = select.select([self._listener, *other], [], [], 0.05)
                for found in ready:
                    if found is self._listener:
                        client = stack.enter_context(self._listener.accept()[0])
                        server = stack.enter_context(socket.create_connection(self._target, 5.0))
                        other[client], other[server] = server, client
                        clients.add(client)
                    elif found in other:
                        self._relay(found, other, clients)

    def _relay(
        self, found: socket.socket, other: dict[socket.socket, socket.socket], clients: set[socket.socket]
    ) -> None:
        peer = other[found]
        try:
            data = found.recv(65536)
            if found in clients:
                self.sent += data
            peer.sendall(data)
        except OSError:
            data = b""  # one end went with a reset, as a closed client with unread bytes does
        if not data:
            del other[found], other[peer]
            found.close()
            peer.close()


@contextmanager
def running_site() -> Iterator[tuple[EmulatedSite, ServiceLoop]]:
    """Twins on the wall clock, without faces."""
    with ServiceLoop("site") as loop:
        emulated = EmulatedSite(load_station(asset("stations/emulated.yaml")), loop, WallClock())
        with SiteRunner(emulated.site, step_s=0.05):
            yield emulated, loop


def metal(charger: str, van: str | None = None, meter: str | None = None, *, reply_s: float = 2.0) -> Station:
    devices = f'  charger: {{role: charger, driver: modbus, profile: sunspec_der, at: "{charger}", watchdog_s: 5, '
    devices += f"reply_s: {reply_s}}}\n"
    if van is not None:
        devices += f'  van: {{role: vehicle, driver: elm327, at: "{van}", reply_s: {reply_s}}}\n'
    if meter is not None:
        devices += f'  meter: {{role: power_meter, driver: yokogawa_wt, at: "{meter}", reply_s: {reply_s}}}\n'
    text = f"""\
schema: v2gbench.station/1.0
name: looked_at
clock: wall
devices:
{devices}
limits: {{power_w: {{min: -10000, max: 10000}}}}
ledger: {{kind: embedded}}
settlement: {{kind: embedded, tariff: tariffs/example.yaml}}
"""
    return parse_station(text.encode(), Path("looked_at.yaml"))


def by_name(found: Look) -> dict[str, dict[str, object]]:
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    return dict(document["devices"])


def modbus_functions(sent: bytes) -> list[int]:
    """The function code of each Modbus TCP request, by the length in its header."""
    found = []
    while sent:
        length = int.from_bytes(sent[4:6], "big")
        found.append(sent[7])
        sent = sent[6 + length :]
    return found


def test_only_reading_requests_go_over_the_wires_of_metal() -> None:
    with running_site() as (emulated, loop), ExitStack() as stack:
        site = emulated.site
        profile = load_profile("sunspec_der")
        faces = (
            stack.enter_context(ModbusFace(emulated.charger, profile, site.lock, loop)),
            stack.enter_context(Elm327Face(emulated.van, site.lock, loop)),
            stack.enter_context(YokogawaFace(emulated.analyzers["analyzer"], site.lock, loop)),
        )
        taps = [stack.enter_context(Tap(face.host, face.port)) for face in faces]
        found = look(metal(*(tap.address for tap in taps)))
        assert found.complete, found.text()
        charger, van, meter = (tap.sent for tap in taps)
    functions = modbus_functions(charger)
    assert len(functions) > 5
    assert set(functions) <= {READ_HOLDING, READ_INPUT}
    commands = [line.strip() for line in van.decode("ascii").replace(" ", "").split("\r") if line.strip()]
    requests = [line for line in commands if not line.upper().startswith("AT")]
    assert len(requests) > 8
    assert {request[:2] for request in requests} <= {READ_LOCAL, READ_BY_ID, SESSION, *STANDARD_READS}
    questions = [part for line in meter.decode("ascii").splitlines() for part in line.split(";")]
    assert questions
    assert all(question.endswith("?") for question in questions)
    assert not [question for question in questions if "ERR" in question.upper()]  # that would empty its error queue


def test_an_emulated_station_is_read_whole_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = look(load_station(asset("stations/emulated.yaml")))
    assert found.complete
    devices = by_name(found)
    assert list(devices) == ["charger", "van", "meter"]
    charger = {device.name: device for device in found.devices}["charger"]
    assert charger.state == "available"
    assert charger.nameplate is not None
    assert charger.nameplate.serial == "AME-V2G3P10-0001"
    assert charger.capabilities["max_charge_w"] == 10_000
    readings = {reading.source: reading for device in found.devices for reading in device.readings}
    assert readings["van.soc"].value == pytest.approx(55, abs=1)
    assert readings["van.soh"].value == pytest.approx(97, abs=0.5)
    assert readings["charger.grid_voltage"].value == pytest.approx(230, abs=5)
    assert readings["meter.ac_voltage"].value == pytest.approx(230, abs=5)
    assert math.isnan(readings["meter.ac_import_energy"].value)  # no integration was started for a look
    assert not list(tmp_path.iterdir())


def test_a_value_that_the_device_does_not_give_is_null_with_its_quality() -> None:
    document = look(load_station(asset("stations/emulated.yaml"))).document()
    text = json.dumps(document, allow_nan=False)
    dc_power = json.loads(text)["devices"]["charger"]["readings"]["dc_power"]
    assert dc_power == {"value": None, "unit": "W", "quality": "no_data"}


def test_text_names_each_device_its_values_and_that_nothing_was_written() -> None:
    text = look(load_station(asset("stations/emulated.yaml"))).text()
    assert re.search(r"^charger  \(charger by modbus at twin:charger/modbus, twin\)$", text, re.MULTILINE)
    assert re.search(r"^  soc +5[456]\.\d+ %$", text, re.MULTILINE)
    assert text.endswith("3 of 3 devices answered; nothing was written to any")


def test_a_charge_point_is_looked_at_without_being_commanded() -> None:
    text = asset("stations/emulated.yaml").read_text()
    text = text.replace("driver: modbus ", "driver: ocpp ").replace("twin:charger/modbus", "twin:charger/ocpp")
    text = re.sub(r"(?m)^    profile: .*\n", "", text)
    found = look(parse_station(text.encode(), Path("ocpp.yaml")))
    assert found.complete, found.text()
    (charger,) = (device for device in found.devices if device.name == "charger")
    assert charger.state == "available"
    assert {reading.source: reading.value for reading in charger.readings}["charger.grid_voltage"] > 200


def test_a_metal_charge_point_keeps_its_configuration_and_profiles() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = f"""\
schema: v2gbench.station/1.0
name: looked_at
clock: wall
devices:
  charger: {{role: charger, driver: ocpp, at: "ocpp:CP1", watchdog_s: 60}}
csms: {{ocpp: "1.6", listen: "127.0.0.1:{port}", security: none}}
limits: {{power_w: {{min: -10000, max: 10000}}}}
ledger: {{kind: embedded}}
settlement: {{kind: embedded, tariff: tariffs/example.yaml}}
"""
    station = parse_station(text.encode(), Path("looked_at.yaml"))
    sent: list[bytes] = []

    def keep(direction: str, data: bytes) -> None:
        if direction == "<":  # towards the charge point, which holds this end
            sent.append(data)

    with running_site() as (emulated, loop):
        face = ChargePointFace(
            emulated.charger,
            emulated.site,
            loop,
            url=f"ws://127.0.0.1:{port}",
            identity="CP1",
            stepped=False,
            reconnect_first_s=0.1,
            trace=keep,
        )
        with face:
            found = look(station)
            assert found.complete, found.text()
            assert not face.profiles.revision
    actions = {message[2] for message in map(json.loads, sent) if message[0] == 2}
    assert actions == {"TriggerMessage"}


def test_who_does_not_answer_is_one_sentence_and_the_others_are_read() -> None:
    with running_site() as (emulated, loop), ExitStack() as stack:
        site = emulated.site
        van = stack.enter_context(Elm327Face(emulated.van, site.lock, loop))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # takes connections, says nothing
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        found = look(
            metal(
                f"tcp://127.0.0.1:{port}",
                van.address,
                f"tcp://127.0.0.1:{silent.getsockname()[1]}",
                reply_s=SILENT_REPLY_S,
            )
        )
    assert not found.complete
    devices = {device.name: device for device in found.devices}
    assert "nobody listens there" in devices["charger"].problem
    assert "no answer within 0.3 s" in devices["meter"].problem
    assert not devices["van"].problem
    assert devices["van"].readings
    assert all("\n" not in device.problem for device in found.devices)
    assert "PROBLEM: charger: nobody listens there" in found.text()
    assert found.text().endswith("1 of 3 devices answered; nothing was written to any")
