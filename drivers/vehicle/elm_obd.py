"""python-OBD behind types: connect over a link, ask one request, send one AT command.

What is odd about the library and handled here: importing it makes its logger write to stderr; it reports a lost link
as "no answer", or fails with a TypeError; its `query` fills a missing answer with zero bytes and overlooks a refused
header. So python-OBD sets the adapter up and takes frames apart; the exchanges in between go over our own link, which
also spares them the log lines that the library makes up for each.
"""

from __future__ import annotations

import logging

import obd
import serial
from obd.protocols import ISO_15765_4_11bit_500k

from drivers.errors import DeviceError, LinkRefused, LinkTimeout
from drivers.vehicle.diagnostics import Unit
from drivers.vehicle.elm_serial.link import PROMPT, ElmLink
from drivers.vehicle.elm_serial.protocol_v2gelm import LinkUrl

_HANDLERS = "drivers.vehicle.elm_serial"
_CAN_11_500 = "6"
_SILENT = ("NO DATA",)
_NO_BUS = ("UNABLE TO CONNECT", "CAN ERROR", "BUS ERROR", "BUS BUSY")
# What a lost or garbled link makes python-OBD raise instead of an error of its own.
_LIBRARY_STUMBLES = (TypeError, AttributeError, IndexError, ValueError, KeyError, serial.SerialException)


class ObdAdapter:
    """An ELM327 adapter, set to 11-bit CAN at 500 kbit/s, driven by python-OBD."""

    def __init__(self, link: ElmLink, *, device: str) -> None:
        """Set the adapter up over an open link. Raises LinkError."""
        self._link = link
        self._device = device
        self._request_id = 0
        self._protocol = ISO_15765_4_11bit_500k([])
        _quieten()
        if _HANDLERS not in serial.protocol_handler_packages:
            serial.protocol_handler_packages.append(_HANDLERS)
        try:
            self._obd = obd.OBD(
                LinkUrl.of(link, device),
                baudrate=1,  # the line has its rate already; without one python-OBD would try all
                protocol=_CAN_11_500,
                fast=False,
                check_voltage=False,
            )
        except _LIBRARY_STUMBLES as error:
            raise self._lost("the adapter's answers to its set-up make no sense") from error
        if not self._obd.is_connected():
            raise self._lost("the adapter refused its set-up (echo off, headers on, protocol 6)")

    def close(self) -> None:
        """Reset the adapter as python-OBD does, unless the link is lost."""
        if self._link.failure is None:
            try:
                self._obd.close()
            except _LIBRARY_STUMBLES as error:
                # The link is let go right after; a failed farewell harms nobody.
                logging.getLogger(__name__).debug("%s: python-OBD stumbled on close: %s", self._device, error)

    def at(self, command: str) -> None:
        """Send one AT command that must be answered OK. Raises DeviceError with the adapter's answer, or LinkError."""
        answer = self._lines(command)
        if answer != ["OK"]:
            raise DeviceError(
                f"the adapter refused {command}; a newer ELM327 knows it",
                code=" ".join(answer) or "nothing",
                device=self._device,
                sent=command,
            )

    def listen(self, lines: int) -> list[str]:
        """Print what passes the filter until so many lines came, and return them. Raises LinkError."""
        self._link.stop_after_lines = lines
        try:
            return [line for line in self._lines("ATMA") if line != "STOPPED"]
        finally:
            self._link.stop_after_lines = 0

    def ask(self, unit: Unit, request: bytes) -> bytes:
        """Send one request to a control unit and return its whole reply. Raises LinkError."""
        if unit.request_id != self._request_id:
            self._request_id = 0
            self.at(f"ATSH{unit.request_id:03X}")
            self._request_id = unit.request_id
        lines = self._lines(request.hex().upper())
        try:
            messages = self._protocol(lines)
        except _LIBRARY_STUMBLES as error:
            raise self._link.garbled("an answer that python-OBD cannot take apart") from error
        sender = f"{unit.reply_id:03X}"
        for message in messages:
            if message.parsed() and message.frames[0].raw.startswith(sender):
                return bytes(message.data)
        raise self._no_reply(unit, request, [str(message.raw()) for message in messages])

    def _lines(self, command: str) -> list[str]:
        answer = self._link.ask(command.encode()).split(PROMPT, 1)[0].replace(b"\0", b"")
        lines = [line for line in map(str.strip, answer.decode("latin-1").splitlines()) if line]
        if not lines:
            raise self._link.garbled("a prompt without an answer; ask again")
        return lines

    def _lost(self, message: str) -> Exception:
        return self._link.failure or self._link.garbled(message)

    def _no_reply(self, unit: Unit, request: bytes, answers: list[str]) -> Exception:
        sent = request.hex(" ")
        said = " ".join(answers)
        if any(word in said for word in _SILENT):
            return LinkTimeout(
                f"the {unit.title} does not answer (adapter: NO DATA); is the van switched on?",
                device=self._device,
                sent=sent,
            )
        for word in _NO_BUS:
            if word in said:
                return LinkRefused(
                    f"the adapter finds no CAN bus ({word}); is it plugged into the van?",
                    device=self._device,
                    sent=sent,
                )
        return self._link.garbled(f"no whole reply of the {unit.title} in what the adapter sent; ask again")


def _quieten() -> None:
    """Take python-OBD's own stderr handler away; its records still travel to whoever set logging up."""
    logger = logging.getLogger("obd")
    for handler in list(logger.handlers):
        if not isinstance(handler, logging.NullHandler):
            logger.removeHandler(handler)
    if not logger.handlers:
        # Without any handler Python's last resort would write to stderr all the same.
        logger.addHandler(logging.NullHandler())
