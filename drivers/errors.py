"""One error tree for the bench; every message says what was wrong, where, and what to do next.

BenchError
 +- ConfigError          nothing was opened: fix the station file (or the argument)
 +- LinkError            no usable bytes came back; one retry is safe for reads
 |   +- LinkTimeout      the dead-line passed (also a TimeoutError)
 |   +- LinkRefused      nobody listens there, or the peer closed the link
 |   +- LinkGarbled      bytes came that do not form an answer
 +- DeviceError          the device answered no (`code` is its own): do not retry
 +- LimitError           a value outside a stated limit was asked for; nothing was sent
 +- InterlockTripped     a limit tripped while running; the safe state is already reached
 +- EnergyStopped        nobody pays for more energy: power goes to 0 W, the session is to be ended in order
 +- NotOpenError         the object is closed, or not yet opened

Errors of a device carry `device` (its name in the station file), `sent` (what was asked) and `last_bytes`.

>>> str(LinkTimeout("no answer", device="meter", sent=":NUM:VAL?", waited_s=2.0, last_bytes=b"1.0"))
"meter: no answer within 2 s, after sending ':NUM:VAL?'; last bytes b'1.0'"
"""

from __future__ import annotations

from typing import Self


class BenchError(Exception):
    """Root of everything that the bench raises on purpose."""


class ConfigError(BenchError):
    """The station file, an argument or a log is wrong; nothing was opened."""


class DeviceCallError(BenchError):
    """An exchange with a device failed; says which device, what was sent and what came back."""

    def __init__(
        self,
        message: str,
        *,
        device: str,
        sent: str = "",
        waited_s: float | None = None,
        last_bytes: bytes = b"",
    ) -> None:
        self.message = message
        self.device = device
        self.sent = sent
        self.waited_s = waited_s
        self.last_bytes = last_bytes
        super().__init__(self._sentence())

    def of_device(self, device: str) -> Self:
        """The same error under the name that the station file gives the device, for a link that knows another one."""
        renamed = type(self).__new__(type(self))
        renamed.__dict__.update(self.__dict__)
        renamed.device = device
        renamed.args = (renamed._sentence(),)  # noqa: SLF001  # another of its own class
        return renamed

    def _sentence(self) -> str:
        text = f"{self.device}: {self.message}"
        if self.waited_s is not None:
            text += f" within {self.waited_s:g} s"
        if self.sent:
            text += f", after sending {self.sent!r}"
        if self.last_bytes:
            text += f"; last bytes {self.last_bytes[-32:]!r}"
        return text


class LinkError(DeviceCallError):
    """No usable bytes came back; one retry is safe for reads."""


class LinkTimeout(LinkError, TimeoutError):
    """The dead-line of the exchange passed."""


class LinkRefused(LinkError):
    """Nobody listens there, or the peer closed the link."""


class LinkGarbled(LinkError):
    """Bytes came that do not form an answer."""


class DeviceError(DeviceCallError):
    """The device answered no; `code` is the device's own."""

    def __init__(
        self,
        message: str,
        *,
        code: int | str,
        device: str,
        sent: str = "",
        waited_s: float | None = None,
        last_bytes: bytes = b"",
    ) -> None:
        self.code = code
        super().__init__(f"{message} (code {code})", device=device, sent=sent, waited_s=waited_s, last_bytes=last_bytes)


class LimitError(BenchError):
    """A value outside a stated limit was asked for; nothing was sent."""


class InterlockTripped(BenchError):
    """A limit tripped while running; the safe state is already reached."""


class EnergyStopped(BenchError):
    """No more energy may flow, for a reason that is no danger; power goes to 0 W, stop and unplug in order."""


class NotOpenError(BenchError):
    """The object is closed, or not yet opened."""
