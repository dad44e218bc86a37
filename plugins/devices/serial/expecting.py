"""What `expect` looks for, and how its outcome reads. No I/O.

What was received is searched as text. Bytes that are no UTF-8 never match a character of a pattern
other than the dot and its like, and read as ``\\xff`` in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from plugins.devices.serial.receiving import Found
from sat_toolkit.errors import BadArgs

MAX_BEFORE: Final = 8_192
MAX_TAIL: Final = 200

Search = Callable[[bytes], Found[dict[str, Any]] | None]


def compile_search(pattern: str | None, text: str | None) -> Search:
    """The search for a regular expression or for a text. Raises BadArgs."""
    if (pattern is None) == (text is None):
        raise BadArgs("exactly one of pattern and text is needed")
    try:
        wanted = re.compile(pattern if pattern is not None else re.escape(text or ""))
    except re.error as error:
        raise BadArgs(f"pattern {pattern!r} is no regular expression: {error}") from None
    if wanted.search("") is not None:
        raise BadArgs(
            f"pattern {pattern!r} matches the empty text, so it would not wait for anything"
        )
    return lambda received: _search(wanted, received)


def no_match(what: str, timeout_ms: int, received: bytes) -> str:
    """The message of an `expect` that ended in vain."""
    if not received:
        return f"nothing was received within {timeout_ms} ms; expected {what!r}"
    tail = _readable(_text(received)[-MAX_TAIL:])
    return f"no match for {what!r} within {timeout_ms} ms; {len(received)} bytes were received, the last: {tail!r}"


def _search(wanted: re.Pattern[str], received: bytes) -> Found[dict[str, Any]] | None:
    text = _text(received)
    match = wanted.search(text)
    if match is None:
        return None
    result = {
        "match": _readable(match[0]),
        "groups": [_readable(group) for group in match.groups()],
        "named": {name: _readable(group) for name, group in match.groupdict().items()},
        "before": _readable(text[max(0, match.start() - MAX_BEFORE) : match.start()]),
    }
    return Found(result, len(_bytes(text[: match.end()])))


def describe(args: Mapping[str, Any]) -> str:
    """What is waited for, as an answer names it."""
    return str(args.get("pattern", args.get("text")))


def _text(received: bytes) -> str:
    return received.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _readable(text: str | None) -> str | None:
    return None if text is None else _bytes(text).decode("utf-8", "backslashreplace")
