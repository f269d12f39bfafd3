"""Canonical JSON, against another implementation of RFC 8785 and the RFC's own examples."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from underseal_core.canonical import MAX_INTEGER, canonical_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(max_codepoint=127), max_size=6)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
ESCAPES = "".join(map(chr, range(0x20))) + '"\\/\x7f\x80\xa0\u2028\u2029\ufeff\ufffe\U0001f600'


@given(VALUES)
@example(ESCAPES)
@example({sign: sign for sign in map(chr, range(128))})
@example([MAX_INTEGER, -MAX_INTEGER, 0, True, False, None, {}, []])
def test_bytes_are_those_of_another_implementation(value: Any) -> None:
    written = canonical_json(value)
    assert written == rfc8785.dumps(value)
    assert json.loads(written) == value


def test_strings_are_written_as_in_the_rfc() -> None:
    """Sections 3.2.2 and 3.2.3, without the numbers that are not integers."""
    given = {
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    wanted = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical_json(given) == wanted.encode()


@given(st.tuples(VALUES, VALUES))
def test_tuples_are_lists(values: tuple[Any, Any]) -> None:
    assert canonical_json(values) == canonical_json(list(values)) == rfc8785.dumps(values)


WRONG: list[Any] = [
    0.5,
    1.0,
    float("nan"),
    float("inf"),
    MAX_INTEGER + 1,
    -MAX_INTEGER - 1,
    "\ud800",
    "\udfff and \ud800",
    {"\ud800": 1},
    {"\u00e9": 1},
    {"\U0001f600": 1, "\ufb33": 2},
    {1: 1},
    {None: 1},
    {True: 1},
    {b"key": 1},
    b"bytes",
    {1},
    Ellipsis,
    1j,
]


@pytest.mark.parametrize("wrong", WRONG, ids=ascii)
@pytest.mark.parametrize(
    "around",
    [lambda v: v, lambda v: [v], lambda v: (0, v), lambda v: {"a": 1, "b": v}, lambda v: [{"": v}]],
    ids=["alone", "in a list", "in a tuple", "in a dictionary", "deeper"],
)
def test_what_statements_do_not_hold_is_refused(wrong: Any, around: Any) -> None:
    """The standard library would write some of these otherwise than the RFC, or not as JSON."""
    with pytest.raises(ValueError):
        canonical_json(around(wrong))


def test_what_never_ends_is_refused() -> None:
    endless: list[Any] = []
    endless.append({"in": endless})
    with pytest.raises(RecursionError):
        canonical_json(endless)
    deep: Any = json.loads("[" * 500 + "]" * 500)
    assert canonical_json(deep) == b"[" * 500 + b"]" * 500
