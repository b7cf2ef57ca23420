"""Signals that wait for the end of a cycle.

Robot turns Ctrl-C, SIGTERM and its own time-outs (SIGALRM) into exceptions that are raised wherever the interpreter
happens to be: in the middle of an exchange with the charger, or between a commit and the count of it. The way out would
then start from half a cycle. So while the bench moves time, a signal is kept, and handed to its own handler when a
cycle is complete; each cycle ends by a dead-line, so the delay is bounded. While a station is closing, signals
wait until the charger is in its safe state and the record is closed: the second Ctrl-C cannot cut that off.

Only the main thread gets signals; elsewhere this does nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
_Handler = Callable[[int, FrameType | None], object]


class HeldSignals:
    """Keeps signals while the block runs; `release` hands over what came, and so does the end of the block.

    A signal is handed over although the block failed, or nobody would ever know of it.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {}
        self._pending: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _HELD:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.release()

    def release(self) -> None:
        """Call the handlers of what came meanwhile, which may raise."""
        while self._pending:
            number, frame = self._pending.pop(0)
            self._handlers[number](number, frame)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._pending.append((number, frame))
