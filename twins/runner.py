"""Twins on the wall clock: a thread that steps a site in real time, so that a twin can stand alone.

The step is what really passed since the last one, because a busy machine wakes late and energy must not be lost.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from drivers.errors import BenchError
from twins.site import Site

_LAST_STEP_S = 5.0


class SiteRunner:
    """Steps `site` every `step_s` seconds until closed; a context manager that raises what stopped it."""

    def __init__(self, site: Site, *, step_s: float = 0.1) -> None:
        self._site = site
        self._step_s = step_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="site", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.raise_failure()

    def close(self) -> None:
        """Stop stepping; may be called twice. BenchError when a step does not come to its end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_STEP_S)
            if self._thread.is_alive():
                raise BenchError(f"the twins' last step did not end within {_LAST_STEP_S:g} s; a twin hangs")

    def raise_failure(self) -> None:
        """Raise BenchError when the twins stopped by an error of their own."""
        if self._failure is not None:
            raise BenchError(f"the twins stopped: {self._failure}") from self._failure

    def _run(self) -> None:
        last_s = time.monotonic()
        try:
            while not self._stop.wait(self._step_s):
                now_s = time.monotonic()
                self._site.step(now_s - last_s)
                last_s = now_s
        except Exception as error:  # noqa: BLE001  # a dead thread is told by raise_failure
            self._failure = error
