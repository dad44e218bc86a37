"""The JSON Schemas of commands: whether one is valid, and what is wrong with args that do not fit it.

The only module of the SDK that knows `jsonschema`, which takes long to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from sat_toolkit.errors import PluginError

MAX_MESSAGE = 300


def check_schema(name: str, schema: Mapping[str, Any]) -> None:
    """Check the schema of the command `name` itself.

    Raises:
        PluginError: it is not a JSON Schema (draft 2020-12).
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise PluginError(
            f"supported_commands[{name!r}]: no valid JSON Schema: {error.message}"
        ) from None


def complaint(name: str, schema: Mapping[str, Any], args: Mapping[str, Any]) -> str:
    """What is wrong with `args` of the command `name`: where, what, and which names are required and
    allowed. Empty when they fit.

    Raises:
        PluginError: the schema refers to something that is not there.
    """
    try:
        error = best_match(_validator(schema).iter_errors(dict(args)))
    except Unresolvable as unresolvable:
        raise PluginError(
            f"command {name!r}: its schema has a broken $ref: {unresolvable}"
        ) from None
    return "" if error is None else f"{name}: {_explained(error)}{_accepted(schema)}"


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    try:
        return _remembered(orjson.dumps(schema))
    except TypeError:  # it holds what JSON has no form for, such as an integer beyond 64 bits
        return _made(schema)


@lru_cache(maxsize=1024)
def _remembered(schema: bytes) -> Draft202012Validator:
    return _made(orjson.loads(schema))


def _made(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Its registry is empty: a schema never makes this process fetch another from somewhere."""
    return Draft202012Validator(schema, registry=Registry())


def _explained(error: ValidationError) -> str:
    where = "args" + "".join(
        f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path
    )
    message = error.message
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 3] + "..."
    return f"{where}: {message}"


def _accepted(schema: Mapping[str, Any]) -> str:
    """The names that the command takes, as the end of a refusal."""
    allowed = schema.get("properties")
    if not isinstance(allowed, Mapping):
        return ""
    if not allowed:
        return "; it takes no args"
    required = schema.get("required") or ()
    return f"; required: {', '.join(required) or 'none'}; allowed: {', '.join(allowed)}"
