"""The van on a CAN bus, seen by plain python-can, and by udsoncan over can-isotp."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import can
import pytest

from drivers.errors import ConfigError, NotOpenError
from drivers.vehicle.frames import Bus, FrameDecoder, FrameVerdict, load_table
from twins.faces.can import CanFace
from twins.measurement import generator
from twins.vehicle.van import Van

pytestmark = pytest.mark.wire


@pytest.fixture
def van() -> Van:
    return Van("van", generator(7, "van"), soc_percent=55.0, soh_percent=97.0, ambient_c=22.0)


@pytest.fixture
def face(van: Van) -> Iterator[CanFace]:
    with CanFace(van, threading.RLock()) as face:
        yield face


@pytest.fixture
def tester(face: CanFace) -> Iterator[can.BusABC]:
    with can.Bus(interface="virtual", channel=face.channel) as bus:
        yield bus


def send(bus: can.BusABC, can_id: int, data: str) -> None:
    bus.send(can.Message(arbitration_id=can_id, data=bytes.fromhex(data), is_extended_id=False))


def receive(bus: can.BusABC, wait_s: float = 1.0) -> tuple[int, str]:
    message = bus.recv(wait_s)
    assert message is not None
    return message.arbitration_id, bytes(message.data).hex()


def test_a_long_reply_comes_after_flow_control(tester: can.BusABC) -> None:
    send(tester, 0x79B, "0221010000000000")
    can_id, first = receive(tester)
    assert can_id == 0x7BB
    assert first.startswith("10356101")
    assert tester.recv(0.05) is None
    send(tester, 0x79B, "3000000000000000")
    assert [receive(tester)[1][:2] for _ in range(7)] == ["21", "22", "23", "24", "25", "26", "27"]


def test_the_separation_time_is_waited_for(tester: can.BusABC) -> None:
    send(tester, 0x79B, "0221040000000000")
    receive(tester)
    started = time.monotonic()
    send(tester, 0x79B, "30000a0000000000")
    for _ in range(5):
        receive(tester)
    assert 0.04 <= time.monotonic() - started < 0.4


def test_both_units_answer_side_by_side(tester: can.BusABC) -> None:
    send(tester, 0x79B, "0221010000000000")
    send(tester, 0x797, "0322123400000000")
    assert {receive(tester)[0], receive(tester)[0]} == {0x7BB, 0x79A}


def test_a_request_during_a_reply_is_dropped_silently(tester: can.BusABC) -> None:
    send(tester, 0x79B, "0221010000000000")
    receive(tester)
    send(tester, 0x79B, "0221040000000000")
    assert tester.recv(0.05) is None


@pytest.mark.parametrize("frame", ["", "00", "0821", "ffffffffffffffff"])
def test_garbage_gets_no_answer_and_does_no_harm(tester: can.BusABC, frame: str) -> None:
    send(tester, 0x79B, frame)
    tester.send(can.Message(arbitration_id=0x79B, data=bytes.fromhex("02210100"), is_extended_id=True))
    tester.send(can.Message(arbitration_id=0x79B, is_remote_frame=True, is_extended_id=False, dlc=8))
    assert tester.recv(0.05) is None
    send(tester, 0x797, "0322123400000000")
    assert receive(tester) == (0x79A, "0462123400000000")


def test_nothing_is_broadcast_unless_asked(tester: can.BusABC) -> None:
    assert tester.recv(0.15) is None


def test_broadcasts_have_right_checksums_counters_and_periods(van: Van) -> None:
    decoder = FrameDecoder((load_table(Bus.EV_CAN), load_table(Bus.CAR_CAN)))
    frames: dict[int, list[bytes]] = {}
    with (
        CanFace(van, threading.RLock(), broadcast=True) as face,
        can.Bus(interface="virtual", channel=face.channel) as listener,
    ):
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            message = listener.recv(0.1)
            if message is not None:
                frames.setdefault(message.arbitration_id, []).append(bytes(message.data))
                assert decoder.decode(message.arbitration_id, bytes(message.data)).verdict is FrameVerdict.GOOD
    assert {0x1DB, 0x1DC, 0x11A, 0x55B, 0x5BC, 0x5B3} <= frames.keys()
    counters = [data[6] & 3 for data in frames[0x1DB]]
    assert len(counters) > 10
    assert all(after == (before + 1) % 4 for before, after in itertools.pairwise(counters))
    assert len(frames[0x55B]) < len(frames[0x1DB]) / 2


def test_two_racks_do_not_hear_each_other(van: Van, face: CanFace, tester: can.BusABC) -> None:
    with CanFace(van, threading.RLock()) as other, can.Bus(interface="virtual", channel=other.channel) as bus:
        assert other.channel != face.channel
        send(bus, 0x797, "0322123400000000")
        assert receive(bus)[0] == 0x79A
        assert tester.recv(0.05) is None


def test_the_address_names_bus_and_channel(van: Van) -> None:
    assert CanFace(van, threading.RLock(), channel="rack-1").address == "can://virtual/rack-1"
    assert CanFace(van, threading.RLock(), channel="can0", interface="socketcan").address == "can://can0"


def test_a_bus_that_is_not_there_is_a_config_error(van: Van) -> None:
    face = CanFace(van, threading.RLock(), channel="nosuchcan9", interface="socketcan")
    with pytest.raises(ConfigError, match="nosuchcan9"), face:
        pass


def test_closing_ends_the_thread_and_may_be_done_twice(van: Van) -> None:
    face = CanFace(van, threading.RLock())
    with face:
        assert face.thread_id > 0
    face.close()
    with pytest.raises(NotOpenError, match="closed"):
        _ = face.thread_id
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("can-face")]
