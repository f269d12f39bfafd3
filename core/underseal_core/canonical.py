"""Canonical JSON (RFC 8785) of what the statements and files of Underseal hold.

The standard library's encoder writes strings as section 3.2.2.2 asks, and ASCII keys in the order
of section 3.2.3: code points and UTF-16 code units order ASCII alike. What would need more, floats,
integers that a double cannot hold and other keys, is in no statement and refused.
"""

from __future__ import annotations

import json
from typing import Final

MAX_INTEGER: Final = 2**53 - 1
"""Largest integer of I-JSON (RFC 7493, section 2.2), which RFC 8785 builds on; negative alike."""

_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")
)
"""Sees only what :func:`_check` has passed: no cycles and no floats."""


def canonical_json(value: object) -> bytes:
    """Return the canonical bytes.

    Parameters
    ----------
    value
        Strings, booleans, None, integers of magnitude up to :data:`MAX_INTEGER`, and lists, tuples
        and dictionaries of those; keys are ASCII strings.

    Raises
    ------
    ValueError
        Anything else; also text with half of a surrogate pair, which UTF-8 cannot write.
    RecursionError
        Nested too deeply, or in itself.
    """
    _check(value)
    return _ENCODER.encode(value).encode()


def _check(value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise ValueError("a key of canonical JSON is not ASCII text")
            if not isinstance(item, str):  # most are: a call for each takes as long as to encode
                _check(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("an integer of canonical JSON is beyond 2^53 - 1")
    elif not (value is None or isinstance(value, str)):
        raise ValueError("canonical JSON holds no such value")
