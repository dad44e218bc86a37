"""From ``key=value`` on a command line to the args of a request. PURE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sat_toolkit.errors import BadArgs

_JSON_TYPES = {
    bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, list: {"array"}, dict: {"object"},
    type(None): {"null"},
}  # fmt: skip


def parse_args(words: Iterable[str], schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The args that `words` spell: each value is JSON where that is what the command's JSON
    `schema` takes, else text; so ``data=1234`` stays text for a command that takes hex digits.

    Raises:
        BadArgs: a word without ``=``, or the same key twice.
    """
    properties = (schema or {}).get("properties", {})
    args: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise BadArgs(
                f"{word!r} is no argument; key=value is accepted, such as id=0x123 data=deadbeef"
            )
        if key in args:
            raise BadArgs(f"the argument {key!r} is given twice")
        args[key] = parse_value(text, properties.get(key))
    return args


def parse_value(text: str, schema: Any = None) -> Any:
    """`text` as JSON, unless it is not JSON or `schema` takes a string and not what the JSON would
    be."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    types = schema_types(schema)
    if "string" not in types:
        return value
    if isinstance(value, str):
        return value if text.startswith('"') else text
    # A schema that takes both, such as an arbitration id as number or "0x123", gets the number.
    return value if types & _JSON_TYPES[type(value)] else text


def schema_types(schema: Any) -> set[str]:
    """The JSON types that `schema` takes; empty when it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    stated = schema.get("type")
    found = {stated} if isinstance(stated, str) else set(stated or ())
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found |= schema_types(branch)
    if "enum" in schema and not found and all(isinstance(item, str) for item in schema["enum"]):
        found = {"string"}
    return found


def describe_schema(schema: Any) -> str:
    """What a property takes, in a few words: ``integer 0..8``, ``string, one of a, b``."""
    if not isinstance(schema, Mapping):
        return "anything"
    parts = [" or ".join(sorted(schema_types(schema))) or "anything"]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        parts.append(f"{'' if low is None else low}..{'' if high is None else high}")
    if "enum" in schema:
        parts.append(f"one of {', '.join(map(str, schema['enum']))}")
    if "default" in schema:
        parts.append(f"default {json.dumps(schema['default'])}")
    return ", ".join(parts)


def _refuse(word: str) -> Any:
    raise ValueError(word)
