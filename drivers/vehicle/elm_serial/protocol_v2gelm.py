"""What pyserial finds for the URL scheme `v2gelm`: the face that `ElmLink` shows to python-OBD.

pyserial makes the port object itself and hands it nothing but the URL, so the URL is a string that carries its link.
That spares a table of open links, which would be global.

Only what python-OBD calls is here. `in_waiting` promises plenty, so that it asks for everything at once. A failure is
not raised into the library, which would sleep a second over it and stumble on: it gets a line of text that is no data,
at once and for every further command, and the driver raises the link's failure as soon as the library returns.
"""

from __future__ import annotations

import contextlib

import serial

from drivers.errors import LinkError
from drivers.vehicle.elm_serial.link import ElmLink

SCHEME = "v2gelm"
_PLENTY = 4096
_LINK_LOST = b"LINK LOST\r>"  # no hex digits alone: python-OBD takes it for a message of the adapter


class LinkUrl(str):
    """A URL that carries the open link that it stands for."""

    __slots__ = ("link",)

    link: ElmLink

    @classmethod
    def of(cls, link: ElmLink, name: str) -> LinkUrl:
        """The URL under which pyserial finds `link`; `name` is for its messages."""
        url = cls(f"{SCHEME}://{name}")
        url.link = link
        return url


class Serial:
    """A port as python-OBD uses one. Failures are kept in `ElmLink.failure`."""

    def __init__(self, port: str | None = None, *, timeout: float | None = None, **line_settings: object) -> None:
        """The dead-line is the link's own and its line settings are set already, so both are only taken note of."""
        self.port = port
        self.timeout = timeout
        self.baudrate = 0
        self.line_settings = line_settings

    @property
    def portstr(self) -> str:
        """The port's name."""
        return str(self.port)

    @property
    def in_waiting(self) -> int:
        """More than ever waits."""
        return _PLENTY

    def open(self) -> None:
        """Check that there is a link; it is open already."""
        if not isinstance(self.port, LinkUrl):
            raise serial.SerialException(f"{self.port!r} carries no link; make it with LinkUrl.of")

    def close(self) -> None:
        """Nothing: the driver closes its link."""

    def write(self, data: bytes) -> int:
        """Send one command."""
        if self._link.failure is None:
            with contextlib.suppress(LinkError):  # kept by the link, and raised by the driver
                self._link.write(bytes(data))
        return len(data)

    def read(self, size: int = 1) -> bytes:  # noqa: ARG002  # whatever is there, see in_waiting
        """More of the answer; after a failure the line that says so."""
        if self._link.failure is None:
            with contextlib.suppress(LinkError):
                return self._link.read()
        return _LINK_LOST

    def flush(self) -> None:
        """Nothing: `write` hands everything to the system."""

    def flushInput(self) -> None:  # noqa: N802  # pyserial's name
        """Nothing: `write` drops what came unasked."""

    def flushOutput(self) -> None:  # noqa: N802  # pyserial's name
        """Nothing."""

    @property
    def _link(self) -> ElmLink:
        assert isinstance(self.port, LinkUrl)  # open() checked
        return self.port.link
