"""The one error tree: what can be caught by what, and messages that say device, question and last bytes."""

from __future__ import annotations

import inspect

import pytest

from drivers import errors
from drivers.errors import (
    BenchError,
    ConfigError,
    DeviceCallError,
    DeviceError,
    InterlockTripped,
    LimitError,
    LinkError,
    LinkGarbled,
    LinkRefused,
    LinkTimeout,
    NotOpenError,
)


def test_everything_raised_on_purpose_has_one_root() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(classes) == 12
    assert all(issubclass(kind, BenchError) for kind in classes)


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (LinkTimeout, (LinkError, TimeoutError)),
        (LinkRefused, (LinkError,)),
        (LinkGarbled, (LinkError,)),
        (LinkError, (DeviceCallError,)),
        (DeviceError, (DeviceCallError,)),
    ],
)
def test_the_tree_is_the_one_of_the_docstring(kind: type[Exception], parents: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(kind, parent) for parent in parents)


@pytest.mark.parametrize("kind", [ConfigError, LimitError, InterlockTripped, NotOpenError])
def test_what_no_device_said_is_no_device_call_error(kind: type[BenchError]) -> None:
    assert not issubclass(kind, DeviceCallError)
    assert str(kind("one sentence")) == "one sentence"


def test_a_refusal_is_not_a_link_error_so_it_is_not_tried_again() -> None:
    assert not issubclass(DeviceError, LinkError)


def test_a_time_out_says_what_was_asked_how_long_and_what_came() -> None:
    error = LinkTimeout("no answer", device="meter", sent=":NUM:VAL?", waited_s=0.5, last_bytes=b"1.02E+0")
    assert str(error) == "meter: no answer within 0.5 s, after sending ':NUM:VAL?'; last bytes b'1.02E+0'"
    assert (error.device, error.sent, error.waited_s, error.last_bytes) == ("meter", ":NUM:VAL?", 0.5, b"1.02E+0")


def test_facts_that_are_not_there_are_not_written() -> None:
    assert str(LinkRefused("nobody listens there", device="evse")) == "evse: nobody listens there"


def test_a_devices_own_code_is_kept_and_told() -> None:
    error = DeviceError("value not accepted", code=3, device="evse", sent="write [1] to register 40317")
    assert error.code == 3
    assert str(error) == "evse: value not accepted (code 3), after sending 'write [1] to register 40317'"
    assert str(DeviceError("refused", code="Rejected", device="evse")) == "evse: refused (code Rejected)"


def test_only_the_last_32_bytes_are_shown_and_all_are_kept() -> None:
    error = LinkGarbled("noise", device="evse", last_bytes=bytes(range(256)))
    assert str(error).endswith(f"last bytes {bytes(range(224, 256))!r}")
    assert len(error.last_bytes) == 256
