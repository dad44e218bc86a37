"""JSON Schema (draft 2020-12) beyond what `plain_schema` knows. The only module that imports
`jsonschema`, which takes as long to load as the rest of the SDK: import it where it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from sat_toolkit.errors import PluginError

MAX_MESSAGE = 300


def flaw(schema: Mapping[str, Any]) -> str:
    """Why `schema` is not one; empty when it is."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message
    return ""


class Validator:
    """Checks the args of `command`. Its registry is empty: a schema never makes this process fetch
    another one from somewhere."""

    def __init__(self, command: str, schema: Mapping[str, Any]) -> None:
        self._command = command
        self._validator = Draft202012Validator(schema, registry=Registry())

    def complaint(self, args: Mapping[str, Any]) -> str:
        """What is wrong with `args`, and where; empty when they fit.

        Raises:
            PluginError: the schema refers to something that is not in it.
        """
        try:
            error = best_match(self._validator.iter_errors(dict(args)))
        except Unresolvable as unresolvable:
            raise PluginError(
                f"command {self._command!r}: its schema has a broken $ref: {unresolvable}"
            ) from None
        return "" if error is None else _text(error)


def _text(error: ValidationError) -> str:
    where = "args" + "".join(
        f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path
    )
    message = error.message
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 3] + "..."
    return f"{where}: {message}"
