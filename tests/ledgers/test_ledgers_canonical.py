"""One byte form: what is accepted, and that nothing else is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers.canonical import Json, from_base64, from_canonical, to_base64, to_canonical
from ledgers.errors import RecordError


def test_the_sample_of_rfc_8785_section_3_2_is_written_as_the_rfc_prints_it() -> None:
    document: Json = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}\n'
    )
    assert to_canonical(document) == expected.encode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1}',  # no newline
        b'{"a":1}\n\n',
        b'{"a": 1}\n',
        b'{"b":1,"a":1}\n',
        b'{"a":1.0}\n',
        b'{"a":-0}\n',
        b'{"a":1e0}\n',
        b'{"a":1,"a":1}\n',
        b'{"\\u0061":1}\n',
        b'\xef\xbb\xbf{"a":1}\n',
        b'{"a":NaN}\n',
        b'{"a":Infinity}\n',
        b'{"a":9007199254740993}\n',
        b'{"a":"\\ud800"}\n',
        b'{"a":' + b"1" * 5000 + b"}\n",
        b"[" * 100_000,
        b"\xff\n",
        b"",
    ],
)
def test_any_other_spelling_is_refused_with_the_name_of_the_file(data: bytes) -> None:
    with pytest.raises(RecordError, match=r"record\.json"):
        from_canonical(data, where="record.json")


def test_nan_and_infinity_cannot_be_written() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(RecordError, match="canonical JSON"):
            to_canonical({"a": value})


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, width=64)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ).filter(lambda value: "inf" not in repr(value))
)
def test_writing_reading_and_writing_gives_the_same_bytes(document: Json) -> None:
    try:
        data = to_canonical(document)
    except RecordError:
        return  # lone surrogates and the like: refused, not misspelled
    assert to_canonical(from_canonical(data, where="x")) == data


@pytest.mark.parametrize("text", ["TQ=", "TQ", "TR==", " TQ==", "TQ==\n", "T-==", "TQ==TQ==", "€"])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(RecordError, match="the key"):
        from_base64(text, where="the key")


def test_base64_of_rfc_4648_section_10() -> None:
    assert to_base64(b"foob") == "Zm9vYg=="
    assert from_base64("Zm9vYg==", where="x") == b"foob"
