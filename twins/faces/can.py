"""The van on a CAN bus: its control units answer testers, and send their frames when that is asked for.

One thread waits on the bus, with a time-out that ends at the next frame it owes, so an idle van costs nothing. The
virtual bus of python-can needs no driver and no rights; any other interface of python-can works the same. The names of
virtual channels are global in a process, so without a name the face makes one that no other rack uses.

Broadcasts are off unless asked for: the car sends some 700 frames a second, which nobody reads in stepped time. They
follow the wall clock.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from threading import RLock
from types import TracebackType
from typing import Self

import can

from drivers.errors import BenchError, ConfigError, NotOpenError
from twins.vehicle.broadcast import Broadcaster
from twins.vehicle.ecus import control_units
from twins.vehicle.isotp import IsoTpResponder
from twins.vehicle.van import Van

BITRATE_BPS = 500_000  # EV-CAN and CAR-CAN alike
_IDLE_S = 0.05  # how often the thread looks whether it shall end
_CLOSE_TIMEOUT_S = 5.0


class CanFace:
    """A van's control units on one bus. A context manager; `address` is what a driver takes as its `at`."""

    def __init__(
        self,
        van: Van,
        lock: RLock,
        *,
        channel: str | None = None,
        interface: str = "virtual",
        broadcast: bool = False,
    ) -> None:
        self.interface = interface
        self.channel = channel or f"v2gbench-{secrets.token_hex(6)}"
        self._lock = lock
        self._units = {
            unit.unit.request_id: (unit.unit.reply_id, IsoTpResponder(unit.answer, padding=unit.unit.padding))
            for unit in control_units(van)
        }
        self._broadcaster = Broadcaster(van) if broadcast else None
        self._bus: can.BusABC | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        try:
            self._bus = _open(self.interface, self.channel)
        except (can.CanError, OSError, ValueError) as error:
            raise ConfigError(
                f"cannot open CAN interface {self.interface!r}, channel {self.channel!r} ({error}); "
                "bring the interface up, or use the virtual one"
            ) from error
        if self._broadcaster is None:
            filters = [
                can.typechecking.CanFilter(can_id=can_id, can_mask=0x7FF, extended=False) for can_id in self._units
            ]
            self._bus.set_filters(filters)
        self._stop.clear()
        self._thread = threading.Thread(target=self._serve, name=f"can-face-{self.channel}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.raise_failure()

    def close(self) -> None:
        """Leave the bus; may be called twice."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT_S)
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.shutdown()

    def raise_failure(self) -> None:
        """Raise what ended the thread early, if something did: nothing fails unseen."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise BenchError(f"the van left the bus {self.channel!r}: {failure}") from failure

    @property
    def address(self) -> str:
        """Where a driver finds it, the `at` of a station file."""
        return f"can://virtual/{self.channel}" if self.interface == "virtual" else f"can://{self.channel}"

    @property
    def thread_id(self) -> int:
        """Native id of the bus thread, for pinning it to a processor."""
        if self._thread is None or self._thread.native_id is None:
            raise NotOpenError("the CAN face is closed; open it with 'with CanFace(...) as face'")
        return self._thread.native_id

    def _serve(self) -> None:
        bus = self._bus
        assert bus is not None  # __enter__ opened it
        try:
            if self._broadcaster is not None:
                self._broadcaster.start(time.monotonic())
            while not self._stop.is_set():
                self._send_due(bus)
                message = bus.recv(self._wait_s())
                if message is not None:
                    self._answer(bus, message)
        except (can.CanError, OSError) as error:
            if not self._stop.is_set():
                self._failure = error

    def _wait_s(self) -> float:
        due_s = min(responder.next_due_s for _, responder in self._units.values())
        if self._broadcaster is not None:
            due_s = min(due_s, self._broadcaster.next_due_s)
        return _IDLE_S if due_s == math.inf else min(_IDLE_S, max(0.0, due_s - time.monotonic()))

    def _send_due(self, bus: can.BusABC) -> None:
        for reply_id, responder in self._units.values():
            if responder.next_due_s < math.inf:
                for data in responder.due(time.monotonic()):
                    _send(bus, reply_id, data)
        if self._broadcaster is not None:
            with self._lock:
                frames = self._broadcaster.due(time.monotonic())
            for frame in frames:
                _send(bus, frame.can_id, frame.data)

    def _answer(self, bus: can.BusABC, message: can.Message) -> None:
        unit = self._units.get(message.arbitration_id)
        if unit is None or message.is_extended_id or message.is_error_frame or message.is_remote_frame:
            return
        reply_id, responder = unit
        with self._lock:
            frames = responder.receive(bytes(message.data), time.monotonic())
        for data in frames:
            _send(bus, reply_id, data)


def _open(interface: str, channel: str) -> can.BusABC:
    if interface == "virtual":
        return can.Bus(interface="virtual", channel=channel, preserve_timestamps=True)
    return can.Bus(interface=interface, channel=channel, bitrate=BITRATE_BPS)


def _send(bus: can.BusABC, can_id: int, data: bytes) -> None:
    bus.send(can.Message(arbitration_id=can_id, data=data, is_extended_id=False, timestamp=time.time()))
