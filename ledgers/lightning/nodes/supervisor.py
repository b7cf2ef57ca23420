"""Starts processes and makes sure that none outlives the one who asked; run as a script, not imported.

    python -I -S supervisor.py PARENT_PID

Why a process of its own: a bench that is killed with SIGKILL can clean up nothing. The kernel can (PR_SET_PDEATHSIG),
but it watches the *thread* that forked, and benches fork from threads that end. This process has one thread, so:

* the bench dies, in any way: its process descriptor becomes readable here (also when somebody else still holds our
  standard input), every process is ended, and so is this one;
* this process dies, in any way: the kernel kills every process that it started.

Each line on standard input is a JSON object, answered by one line on standard output: `start` (argv, log, environment,
folder, niceness) gives `pid` or `error`; `signal` (number) gives `sent`. Lines with `ended` come unasked. The end of
standard input ends everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_GRACE_S = 2.0


class _Supervisor:
    def __init__(self, parent: int) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watch = selectors.DefaultSelector()
        self._rest = b""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._pid = os.getpid()
        self._watch.register(0, selectors.EVENT_READ, "input")
        self._watch.register(os.pidfd_open(parent), selectors.EVENT_READ, "parent")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def serve(self) -> None:
        try:
            while True:
                for key, _ in self._watch.select():
                    if key.data == "parent" or (key.data == "input" and not self._read()):
                        return
                    if key.data not in {"parent", "input"}:
                        self._reap(key.data, key.fd)
        finally:
            self._end_all()

    def _read(self) -> bool:
        data = os.read(0, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(self._obey(json.loads(line)))
        return bool(data)

    def _obey(self, order: dict[str, Any]) -> dict[str, object]:
        name = order["name"]
        if order["do"] == "signal":
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                return {"sent": False}
            process.send_signal(order["number"])
            return {"sent": True}
        try:
            with Path(order["log"]).open("ab") as log:
                process = subprocess.Popen(  # noqa: S603  # what the bench asks for
                    order["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=order["environment"],
                    cwd=order["folder"],
                    start_new_session=True,
                    preexec_fn=lambda: self._prepare(order["niceness"]),  # noqa: PLW1509  # there is one thread
                )
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": str(error)}
        self._processes[name] = process
        self._watch.register(os.pidfd_open(process.pid), selectors.EVENT_READ, name)
        return {"pid": process.pid}

    def _prepare(self, niceness: int) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:  # we died before the kernel was told to watch us
            os._exit(1)
        if niceness:
            os.nice(niceness)

    def _reap(self, name: str, descriptor: int) -> None:
        self._watch.unregister(descriptor)
        os.close(descriptor)
        self._say({"ended": name, "code": self._processes.pop(name).wait()})

    def _say(self, document: dict[str, object]) -> None:
        try:
            os.write(1, json.dumps(document).encode() + b"\n")
        except OSError:
            sys.exit()  # nobody listens any more

    def _end_all(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in self._processes.values():
            self._send(process, signal.SIGTERM)
            self._send(process, signal.SIGCONT)  # a paused one hears nothing else
        limit = time.monotonic() + _GRACE_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
            self._send(process, signal.SIGKILL)

    @staticmethod
    def _send(process: subprocess.Popen[bytes], number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)  # with the compilers that Go starts


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the bench decides what follows
    if os.getppid() == int(sys.argv[1]):
        _Supervisor(int(sys.argv[1])).serve()
