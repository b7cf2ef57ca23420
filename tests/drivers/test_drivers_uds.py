"""The UDS driver: the contract on a real face, and control units that misbehave on a real bus."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import can
import pytest
from pydantic import ValidationError

from drivers.clock import WallClock
from drivers.errors import DeviceError, LinkError, LinkGarbled, LinkRefused, LinkTimeout, NotOpenError
from drivers.roles import Vehicle
from drivers.vehicle.uds import UdsConfig, UdsVehicle
from tests.drivers.contract_vehicle import VehicleContract, parked_van
from twins.clock import SteppedClock
from twins.faces.can import CanFace
from twins.vehicle.ecus import BatteryController
from twins.vehicle.isotp import IsoTpResponder
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire


class TestUdsContract(VehicleContract):
    @pytest.fixture(scope="class")
    @classmethod
    def trace(cls) -> list[tuple[str, bytes]]:
        return []

    @pytest.fixture(scope="class")
    @classmethod
    def vehicle(cls, van: Van, clock: SteppedClock, trace: list[tuple[str, bytes]]) -> Iterator[Vehicle]:
        with (
            CanFace(van, threading.RLock()) as face,
            UdsVehicle(
                UdsConfig(at=face.address), clock, device="van", trace=lambda *entry: trace.append(entry)
            ) as vehicle,
        ):
            yield vehicle

    def test_the_trace_has_every_frame(self, vehicle: Vehicle, trace: list[tuple[str, bytes]]) -> None:
        vehicle.read()
        trace.clear()
        vehicle.read()
        assert trace[:3] == [
            (">", b"79B#0221010000000000\n"),
            ("<", trace[1][1]),
            (">", b"79B#3000000000000000\n"),
        ]
        assert trace[1][1].startswith(b"7BB#10356101")
        assert trace[-1] == ("<", b"79A#0462114E03000000\n")


def test_a_busy_bus_does_not_disturb() -> None:
    with (
        CanFace(parked_van(), threading.RLock(), broadcast=True) as face,
        UdsVehicle(UdsConfig(at=face.address), WallClock(), device="van") as vehicle,
    ):
        for _ in range(20):
            assert vehicle.read_all().cell_min.is_good


def test_a_separation_time_paces_the_reply() -> None:
    with (
        CanFace(parked_van(), threading.RLock()) as face,
        UdsVehicle(UdsConfig(at=face.address, separation_ms=5), WallClock(), device="van") as vehicle,
    ):
        vehicle.read()
        started = time.monotonic()
        assert vehicle.read().pack_voltage.is_good
        assert time.monotonic() - started >= 6 * 0.005


def test_two_testers_on_two_buses_read_one_van() -> None:
    van, lock = parked_van(), threading.RLock()
    with (
        CanFace(van, lock) as one,
        CanFace(van, lock) as other,
        UdsVehicle(UdsConfig(at=one.address), WallClock(), device="van") as first,
        UdsVehicle(UdsConfig(at=other.address), WallClock(), device="van") as second,
    ):
        assert first.read().pack_voltage.value == second.read().pack_voltage.value


# Control units that misbehave: a thread on the bus that sends what a test says.


@contextmanager
def unit(channel: str, react: Callable[[can.Message], list[str]]) -> Iterator[None]:
    stop = threading.Event()
    with can.Bus(interface="virtual", channel=channel) as bus:

        def serve() -> None:
            while not stop.is_set():
                message = bus.recv(0.02)
                if message is None:
                    continue
                for data in react(message):
                    reply_id = {0x79B: 0x7BB, 0x797: 0x79A}[message.arbitration_id]
                    bus.send(can.Message(arbitration_id=reply_id, data=bytes.fromhex(data), is_extended_id=False))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join(5.0)


def on_request(*frames: str) -> Callable[[can.Message], list[str]]:
    return lambda message: list(frames) if message.data[0] >> 4 == 0 else []


@pytest.mark.parametrize(
    ("react", "kind", "message"),
    [
        (lambda _message: [], LinkTimeout, "does not answer; is the van switched on\\? within 0.1 s"),
        (on_request("10356101fffffa24"), LinkTimeout, "did not finish its reply"),
        (on_request("10356101fffffa24", "2102affffffa13ff", "23ffecf51b582af8"), LinkGarbled, "broke ISO-TP"),
        (on_request("2102affffffa13ff"), LinkGarbled, "broke ISO-TP"),
        (on_request("0461010000ffffff"), LinkGarbled, "answered 4 bytes where 53 are due"),
        (on_request("0461020000ffffff"), LinkGarbled, "answered 61 02 where 61 01 was due"),
        (on_request("0400000000000000"), LinkGarbled, "answered 00 00 where"),
        (on_request("037f2131ffffffff"), DeviceError, "request out of range"),
        (on_request("037f2178ffffffff"), LinkTimeout, "did not finish its reply"),
    ],
    ids=[
        "silent",
        "breaks off",
        "skips a frame",
        "starts in the middle",
        "too short",
        "another group",
        "zeros",
        "refuses",
        "pends for ever",
    ],
)
def test_a_misbehaving_battery_controller_is_named(
    react: Callable[[can.Message], list[str]], kind: type[LinkError], message: str
) -> None:
    with unit("misbehaving", react):
        config = UdsConfig(at="can://virtual/misbehaving", reply_s=0.1)
        with UdsVehicle(config, WallClock(), device="van") as vehicle:
            started = time.monotonic()
            with pytest.raises(kind, match=message):
                vehicle.read()
            assert time.monotonic() - started < 0.6


def test_after_a_time_out_the_next_reading_works() -> None:
    with UdsVehicle(UdsConfig(at="can://virtual/late", reply_s=0.2), WallClock(), device="van") as vehicle:
        with pytest.raises(LinkTimeout):
            vehicle.read()
        with CanFace(parked_van(), threading.RLock(), channel="late"):
            assert vehicle.read().pack_voltage.is_good


def test_a_refused_identifier_is_no_data() -> None:
    battery = IsoTpResponder(BatteryController(parked_van()).answer, padding=0xFF)

    def react(message: can.Message) -> list[str]:
        data = bytes(message.data)
        if message.arbitration_id == 0x79B:
            return [frame.hex() for frame in battery.receive(data, time.monotonic())]
        return ["0250c00000000000" if data[1] == 0x10 else f"037f{data[1]:02x}1100000000"]

    with (
        unit("refusing", react),
        UdsVehicle(UdsConfig(at="can://virtual/refusing"), WallClock(), device="van") as vehicle,
    ):
        readings = vehicle.read()
        with pytest.raises(DeviceError, match="service not supported") as caught:
            vehicle.identify()
    assert caught.value.code == "0x11"
    assert math.isnan(readings.plug_state.value)
    assert readings.pack_voltage.is_good


def test_a_bus_that_is_not_there_is_refused() -> None:
    vehicle = UdsVehicle(UdsConfig(at="can://nosuchcan9"), WallClock(), device="van")
    with pytest.raises(LinkRefused, match="van: cannot join can://nosuchcan9"), vehicle:
        pass
    with pytest.raises(NotOpenError, match=r"van is closed; read\(\)"):
        vehicle.read()


def test_closing_leaves_no_thread_and_no_bus() -> None:
    before = threading.active_count()
    vehicle = UdsVehicle(UdsConfig(at="can://virtual/alone"), WallClock(), device="van")
    with vehicle:
        assert threading.active_count() == before
    with pytest.raises(NotOpenError):
        vehicle.read_all()


@pytest.mark.parametrize(
    "bad",
    [
        {"at": "tcp://127.0.0.1:1"},
        {"at": "can://"},
        {"at": "can://virtual/"},
        {"at": "can://a/b"},
        {"at": "can://can0", "reply_s": 61},
        {"at": "can://can0", "bitrate": 500_000},
    ],
)
def test_a_config_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UdsConfig.model_validate(bad)
