"""Strict JSON in, plain JSON out. PURE.

What Python's parser lets through and a contract must not: NaN and Infinity, duplicate keys, lone
surrogates, numbers that overflow to infinity, and nesting deep enough to exhaust a reader's stack.

A fast parser goes first and a count of strings tells whether it passed over a duplicate key.
Whatever it refuses, or may have understood otherwise, goes to the exact one, which alone says what
is wrong.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson

from sat_toolkit.core.plain_json import dumps as dumps
from sat_toolkit.errors import BadRequest

MAX_BYTES = 65_536
MAX_DEPTH = 32
_EXACT_BELOW = 2.0**63  # the fast parser makes a float of a larger integer
_UNSURE = object()


def loads(payload: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The JSON value in `payload`.

    Raises:
        BadRequest: too large, not UTF-8, not JSON, or JSON that the contract refuses; the message
            says which.
    """
    if len(payload) > max_bytes:
        raise BadRequest(f"payload of {len(payload)} bytes; at most {max_bytes} are accepted")
    value = _fast(payload)
    return _exact(payload) if value is _UNSURE else value


def _fast(payload: bytes) -> Any:
    """The value in `payload`, or `_UNSURE`. Without a backslash quotes stand at the ends of strings
    only, so that a key that stood twice, of which the parser keeps one, leaves quotes over."""
    if b"\\" in payload:
        return _UNSURE
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return _UNSURE
    strings = 0
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for holder in level:
            items = holder
            if type(holder) is dict:
                strings += len(holder)
                items = holder.values()
            for item in items:
                kind = type(item)
                if kind is str:
                    strings += 1
                elif kind is dict or kind is list:
                    below.append(item)
                elif kind is float and abs(item) >= _EXACT_BELOW:
                    return _UNSURE
        if not below:
            return value if payload.count(b'"') == 2 * strings else _UNSURE
        level = below
    return _UNSURE


def _exact(payload: bytes) -> Any:
    try:
        value = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise BadRequest(f"not UTF-8 at byte {error.start}; JSON in UTF-8 is accepted") from None
    except RecursionError:
        raise BadRequest(f"nested too deep; at most {MAX_DEPTH} levels are accepted") from None
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from None
    _check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRequest(f"the key {twice!r} stands twice in one object")
    return result


def _refuse_constant(word: str) -> NoReturn:
    raise BadRequest(f"{word} is not JSON; a finite number is accepted")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRequest(f"the number {text[:40]} is out of range")
    return number


def _check(value: Any) -> None:
    """Refuse what only a walk over the value shows: depth and lone surrogates."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str) and not item.isascii():
                _check_text(item)
        if not below:
            return
        level = below
    raise BadRequest(f"nested too deep; at most {MAX_DEPTH} levels are accepted")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("a string holds a lone surrogate, which is not Unicode text") from None
