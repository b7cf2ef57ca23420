"""Processes that never outlive us, waiting that never lasts for ever, and the last lines of a log.

`Processes` is our side of `supervisor.py`, which says why there is a process in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ledgers.lightning.errors import NodeFailed, NodeTimeout

_ANSWER_S = 30.0
_LOG_LINES = 20
_LOG_BYTES = 8192
# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that a port stays free
# while its node is down.
_PORTS = range(20000, 32000)


class Processes:
    """Any number of named processes; all are ended by `close`, and by whatever ends this process.

    The supervisor is started with the first process. Linux only (process descriptors, PR_SET_PDEATHSIG).
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[Mapping[str, object]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pids: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        niceness: int = 0,
    ) -> int:
        """Start a process, standard output and error appended to `log`; returns its process id.

        `environment` replaces ours when given. Raises NodeFailed when it cannot be started or runs already.
        """
        with self._guard:
            with self._changed:
                if name in self._pids and name not in self._codes:
                    raise NodeFailed(f"{name} runs already, as process {self._pids[name]}")
                self._codes.pop(name, None)  # before it starts: it may have ended before the answer is read
                self._pids.pop(name, None)
            answer = self._ask(
                {
                    "do": "start",
                    "name": name,
                    "argv": list(argv),
                    "log": str(log),
                    "environment": None if environment is None else dict(environment),
                    "folder": None if folder is None else str(folder),
                    "niceness": niceness,
                }
            )
            pid = answer.get("pid")
            if not isinstance(pid, int):
                raise NodeFailed(f"{name} cannot be started: {answer.get('error')}")
            with self._changed:
                self._pids[name] = pid
            return pid

    def pid(self, name: str) -> int | None:
        """The id of a process that runs, else None."""
        with self._changed:
            return None if name in self._codes or self._lost else self._pids.get(name)

    def exit_code(self, name: str) -> int | None:
        """How a process ended (negative: by that signal), None while it runs; raises NodeFailed when it never ran."""
        with self._changed:
            if name not in self._pids:
                raise NodeFailed(f"{name} was never started")
            if name not in self._codes and self._lost:
                return -9
            return self._codes.get(name)

    def send(self, name: str, number: int) -> bool:
        """Send a signal; False when the process has ended."""
        with self._guard:
            if self.pid(name) is None:
                return False
            return self._ask({"do": "signal", "name": name, "number": int(number)}).get("sent") is True

    def wait(self, name: str, limit_s: float) -> int | None:
        """The exit code once the process has ended, None when it still runs after `limit_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost or name in self._codes or name not in self._pids, limit_s)
        return self.exit_code(name)

    def close(self) -> None:
        """End every process (TERM, two seconds later KILL) and the supervisor; a second call does nothing."""
        with self._guard:
            if self._supervisor is None:
                return
            supervisor, self._supervisor = self._supervisor, None
            assert supervisor.stdin is not None
            assert supervisor.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()
            try:
                supervisor.wait(15.0)
            except subprocess.TimeoutExpired:
                supervisor.kill()  # the kernel then kills what it started
                supervisor.wait()
            self._reader.join(5.0)
            supervisor.stdout.close()

    # Private.

    def _ask(self, order: Mapping[str, object]) -> Mapping[str, object]:
        supervisor = self._started()
        assert supervisor.stdin is not None
        try:
            supervisor.stdin.write(json.dumps(order).encode() + b"\n")
            supervisor.stdin.flush()
            answer = self._answers.get(timeout=_ANSWER_S)
        except (OSError, queue.Empty) as error:
            raise NodeFailed("the supervisor of the node processes is gone; everything it started is ended") from error
        if "lost" in answer:
            self._answers.put(answer)
            raise NodeFailed("the supervisor of the node processes is gone; everything it started is ended")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._supervisor is None:
            script = Path(__file__).with_name("supervisor.py")
            self._supervisor = subprocess.Popen(  # noqa: S603  # our own script
                [sys.executable, "-I", "-S", str(script), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            self._lost = False
            self._answers = queue.SimpleQueue()
            self._reader = threading.Thread(
                target=self._read, args=(self._supervisor, self._answers), name="node-processes", daemon=True
            )
            self._reader.start()
        return self._supervisor

    def _read(self, supervisor: subprocess.Popen[bytes], answers: queue.SimpleQueue[Mapping[str, object]]) -> None:
        assert supervisor.stdout is not None
        for line in supervisor.stdout:
            document = json.loads(line)
            if "ended" in document:
                with self._changed:
                    self._codes[document["ended"]] = document["code"]
                    self._changed.notify_all()
            else:
                answers.put(document)
        with self._changed:
            self._lost = True
            self._changed.notify_all()
        answers.put({"lost": True})


def wait_until(
    condition: Callable[[], bool], *, limit_s: float, what: str, every_s: float = 0.02, log: Path | None = None
) -> None:
    """Return as soon as `condition()` is true; raises NodeTimeout, naming `what`, when it is not within `limit_s`.

    Asked again every `every_s` seconds; `log` is the file whose last lines go into the error.
    """
    limit = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= limit:
            raise NodeTimeout(f"waited {limit_s:g} s for {what}" + ("" if log is None else f":\n{log_tail(log)}"))
        time.sleep(every_s)


def log_tail(path: Path, lines: int = _LOG_LINES) -> str:
    """The last lines of a log, indented; a sentence when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace").rstrip()
    except OSError as error:
        return f"  (no log: {path}: {error.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or f"  ({path} is empty)"


def free_ports(count: int) -> tuple[int, ...]:
    """Ports on 127.0.0.1 that were free a moment ago, all different; somebody may take one before it is used."""
    found: list[int] = []
    chooser = random.SystemRandom()
    limit = time.monotonic() + _ANSWER_S
    while len(found) < count:
        if time.monotonic() > limit:
            raise NodeFailed(f"no {count} free ports on 127.0.0.1 from {_PORTS.start} to {_PORTS.stop - 1}")
        port = chooser.choice(_PORTS)
        with socket.socket() as probe:
            # As Go listens: a port whose last connections are still in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return tuple(found)


def is_frozen(pid: int) -> bool:
    """Whether SIGSTOP has stopped every thread of a process (Linux: /proc); one that has ended is not frozen."""
    try:
        states = [
            task.read_text("utf-8").rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
    except OSError:  # a thread has ended meanwhile
        return False
    return bool(states) and all(state == "T" for state in states)


def connections_to(pid: int, port: int) -> int:
    """How many established TCP connections a process has to a port of this machine (Linux: /proc)."""
    own = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                own.add(str(descriptor.readlink()))
        table = Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]
    except OSError:
        return 0
    rows = [line.split() for line in table]
    established = {f"socket:[{row[9]}]" for row in rows if row[3] == "01" and int(row[2].partition(":")[2], 16) == port}
    return len(own & established)
