"""What went over one link, as a text file: session time, direction and bytes of each message.

It must cost next to nothing where it is called (inside every exchange, on whichever thread talks), so a message is
only queued there; the recorder writes the queue once a cycle, in stepped time every few cycles. The file is bounded:
what comes after the limit is counted, and the file's last line says how much that was.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

WIRE_SCHEMA: Final = "v2gbench.wire/1.0"
WIRE_LIMIT_BYTES: Final = 64 * 1024 * 1024  # of text per device; about half a day of a 1 s cycle over Modbus


class WireTrace:
    """The wire trace of one device: queued by whoever talks, written by the recorder."""

    def __init__(self, path: Path, device: str, limit_bytes: int, now_s: Callable[[], float]) -> None:
        self.device = device
        self.queue: deque[tuple[float, str, bytes]] = deque()
        self._now_s = now_s
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._left_out = 0
        self._file = path.open("ab", buffering=0)
        self._write(
            f"# {WIRE_SCHEMA} device={json.dumps(device)} columns: session time in s, direction "
            "(> towards the device, < from it), bytes in hexadecimal\n"
        )

    def keep(self, direction: str, data: bytes) -> None:
        """Queue one message; cheap, because it stands in every exchange."""
        size = self._size_bytes = self._size_bytes + 2 * len(data) + 20
        if size > self._limit_bytes:
            self._left_out += 1
        else:
            self.queue.append((self._now_s(), direction, bytes(data)))

    def flush(self) -> None:
        """Write what is queued; OSError when the disk refuses."""
        queue = self.queue
        lines = []
        for _ in range(len(queue)):
            at_s, direction, data = queue.popleft()
            lines.append(f"{at_s:.6f} {direction} {data.hex()}\n")
        self._write("".join(lines))

    def close(self) -> None:
        """Write the rest, and how much was left out."""
        try:
            self.flush()
            if self._left_out:
                self._write(
                    f"# cut: {self._left_out} more messages passed after the limit of {self._limit_bytes} bytes\n"
                )
        finally:
            self._file.close()

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode())
        while rest:  # an unbuffered write may take only a part, and says so
            rest = rest[self._file.write(rest) or 0 :]
