"""One asyncio loop in a thread, for everything that must be a server, and a count of what is still under way.

Stepped time needs to know when all that a step caused on the wire has been answered; awaiting only the direct reply
gives a different record each run. So whoever sends counts *before* it sends, and uncounts *after* the answer was
handled; a step ends when the count is zero (`Activity.wait_quiet`). Any reaction is spawned through
`ServiceLoop.spawn`, which counts it.

The bench thread never waits on the loop from the loop's own thread: that would never return.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from drivers.errors import BenchError, NotOpenError

T = TypeVar("T")


class Activity:
    """Counts what is under way on the wire, by name, so that a stuck step can say what it waits for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open: Counter[str] = Counter()
        self._total = 0

    def begin(self, what: str) -> None:
        """Count one exchange, before its first byte leaves."""
        with self._condition:
            self._open[what] += 1
            self._total += 1

    def end(self, what: str) -> None:
        """Uncount it, after its answer was handled."""
        with self._condition:
            if self._open[what] <= 0:
                raise BenchError(f"activity {what!r} ended more often than it began; this is a defect of the bench")
            self._open[what] -= 1
            self._total -= 1
            if self._total == 0:
                self._condition.notify_all()

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        """Count for the length of a `with` block."""
        self.begin(what)
        try:
            yield
        finally:
            self.end(what)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way."""
        return self._total == 0

    def wait_quiet(self, timeout_s: float) -> None:
        """Return when nothing is under way; BenchError naming what is, when that takes longer than `timeout_s`."""
        if self._total == 0:
            return
        with self._condition:
            if not self._condition.wait_for(lambda: self._total == 0, timeout_s):
                still = ", ".join(sorted(what for what, count in self._open.items() if count > 0))
                raise BenchError(f"still under way after {timeout_s:g} s of real time: {still}; a twin does not answer")


class ServiceLoop:
    """An asyncio loop in its own thread; a context manager. `activity` is shared by all that runs on it.

    >>> with ServiceLoop() as loop:
    ...     loop.call(lambda: 40 + 2)
    42
    """

    def __init__(self, name: str = "twins") -> None:
        self.activity = Activity()
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []

    def __enter__(self) -> Self:
        started = threading.Event()
        loop = asyncio.new_event_loop()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            loop.run_forever()

        self._loop = loop
        self._thread = threading.Thread(target=serve, name=f"service-loop-{self._name}", daemon=True)
        self._thread.start()
        if not started.wait(5.0):
            raise BenchError("the service loop did not start within 5 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what still runs, stop the thread, close the loop; may be called twice."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._refuse_own_thread()
        self._loop = self._thread = None

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 4.0)
            await loop.shutdown_asyncgens()

        try:
            asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(5.0)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)
            if not thread.is_alive():
                loop.close()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; NotOpenError when closed."""
        if self._loop is None:
            raise NotOpenError("the service loop is closed; open it with 'with ServiceLoop() as loop'")
        return self._loop

    @property
    def thread_id(self) -> int:
        """Native id of the loop's thread, for pinning it to a processor."""
        if self._thread is None or self._thread.native_id is None:
            raise NotOpenError("the service loop is closed; open it with 'with ServiceLoop() as loop'")
        return self._thread.native_id

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop from another thread and return its result; TimeoutError after `timeout_s`."""
        try:
            self._refuse_own_thread()
            loop = self.loop
        except BenchError:
            coroutine.close()  # or Python warns that nobody awaited it
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    def call(self, function: Callable[[], T], timeout_s: float = 5.0) -> T:
        """Run a plain function on the loop's thread and return its result."""

        async def wrapper() -> T:
            return function()

        return self.run(wrapper(), timeout_s)

    def spawn(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        """Start a counted task; from the loop's own thread or any other. A failure is raised by `raise_failures`."""
        try:
            loop = self.loop
        except NotOpenError:
            coroutine.close()
            raise
        self.activity.begin(what)

        def start() -> None:
            task = loop.create_task(coroutine, name=what)
            self._tasks.add(task)
            task.add_done_callback(finished)

        def finished(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failures.append(error)
            self.activity.end(what)

        if threading.current_thread() is self._thread:
            start()
        else:
            loop.call_soon_threadsafe(start)

    def raise_failures(self) -> None:
        """Raise the first error of a spawned task, if there was one: nothing fails unseen."""
        if self._failures:
            raise self._failures.pop(0)

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise BenchError("the service loop cannot wait for itself; call this from the bench thread")
