"""Frames of OCPP-J 1.6, with literal text on both sides."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ocpp.frames import (
    Call,
    CallError,
    CallResult,
    FrameFault,
    UnknownMessageType,
    decode,
    encode_call,
    encode_error,
    encode_result,
)
from drivers.ocpp.payload import stamp, utc_s


def test_the_examples_of_the_standard_are_read() -> None:
    boot = '[2,"19223201","BootNotification",{"chargePointVendor":"VendorX","chargePointModel":"SingleSocketCharger"}]'
    assert decode(boot) == Call(
        "19223201",
        "BootNotification",
        {"chargePointVendor": "VendorX", "chargePointModel": "SingleSocketCharger"},
    )
    answer = '[3,"19223201",{"status":"Accepted","currentTime":"2013-02-01T20:53:32.486Z","interval":300}]'
    assert decode(answer) == CallResult(
        "19223201", {"status": "Accepted", "currentTime": "2013-02-01T20:53:32.486Z", "interval": 300}
    )
    assert decode('[4,"7","GenericError","because",{}]') == CallError("7", "GenericError", "because", {})


def test_frames_are_written_without_spaces() -> None:
    assert encode_call("1", "Heartbeat", {}) == '[2,"1","Heartbeat",{}]'
    assert encode_result("1", {"status": "Accepted"}) == '[3,"1",{"status":"Accepted"}]'
    assert encode_error("1", "NotImplemented", "no") == '[4,"1","NotImplemented","no",{}]'
    assert len(encode_error("1", "GenericError", "x" * 999)) == len('[4,"1","GenericError","",{}]') + 255


@pytest.mark.parametrize(
    "data",
    [
        "",
        "hello",
        "{}",
        "[]",
        "[2]",
        '["2","1","Heartbeat",{}]',
        '[true,"1",{}]',
        '[2,5,"Heartbeat",{}]',
        '[2,"","Heartbeat",{}]',
        '[2,"1","Heartbeat",{"x":NaN}]',
        "[" * 100_000,
        "9" * 5_000,
    ],
)
def test_a_frame_without_a_readable_id_cannot_be_answered(data: str) -> None:
    with pytest.raises(FrameFault) as caught:
        decode(data)
    assert (caught.value.answer_id, caught.value.answered_id) == ("", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('[2,"1","Heartbeat"]', "4 elements"),
        ('[2,"1","Heartbeat",{},1]', "4 elements"),
        ('[2,"1",7,{}]', "action is not a string"),
        ('[2,"1","Heartbeat",[]]', "payload is not an object"),
        ('[2,"1","Heartbeat",null]', "payload is not an object"),
    ],
)
def test_a_broken_call_keeps_the_id_to_answer_under(data: str, reason: str) -> None:
    with pytest.raises(FrameFault, match=reason) as caught:
        decode(data)
    assert (caught.value.answer_id, caught.value.code) == ("1", "FormationViolation")


@pytest.mark.parametrize("data", ['[3,"1"]', '[3,"1",[]]', '[4,"1"]', '[4,"1",5,"",{}]', '[4,"1","X",[],{}]'])
def test_a_broken_answer_keeps_the_id_that_it_answers(data: str) -> None:
    with pytest.raises(FrameFault) as caught:
        decode(data)
    assert (caught.value.answer_id, caught.value.answered_id) == ("", "1")


def test_a_message_id_of_37_characters_is_refused_under_itself() -> None:
    with pytest.raises(FrameFault, match="36 characters") as caught:
        decode(f'[2,"{"a" * 37}","Heartbeat",{{}}]')
    assert caught.value.answer_id == "a" * 37


def test_message_types_of_later_versions_are_told_apart() -> None:
    with pytest.raises(UnknownMessageType):
        decode('[6,"1","NotifyPeriodicEventStream",{}]')


def test_stamps_are_utc_with_milliseconds() -> None:
    assert stamp(1_768_464_000.0004) == "2026-01-15T08:00:00.000Z"
    assert stamp(1_768_464_000.9996) == "2026-01-15T08:00:01.000Z"
    assert utc_s("2026-01-15T09:00:00+01:00") == 1_768_464_000.0
    assert utc_s("2026-01-15T08:00:00") == 1_768_464_000.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def outcome(data: str) -> str:
    try:
        return decode(data).message_id
    except FrameFault as fault:
        return fault.reason


@given(st.text(max_size=40) | JSON.map(json.dumps) | st.lists(st.integers(2, 5) | JSON, max_size=6).map(json.dumps))
def test_whatever_comes_is_a_frame_or_a_stated_fault(data: str) -> None:
    assert outcome(data) != ""
