"""What a driver's `supported_commands` declares, in one form, and the check of a request against
it.

The only module of the SDK that knows `jsonschema`. It calls no driver hook.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from pydantic import BaseModel
from referencing import Registry
from referencing.exceptions import Unresolvable

from sat_toolkit.core.plain_schema import fits
from sat_toolkit.errors import BadArgs, PluginError, UnknownCommand

if TYPE_CHECKING:
    from sat_toolkit.core.base_plugin import BaseDeviceDriver

ANY_OBJECT: dict[str, Any] = {"type": "object"}
MAX_MESSAGE = 300

# Python's names for types, which drivers of the guide's era write in place of JSON Schema's.
_TYPE_WORDS = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bytes": "string",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
}
_SCHEMA_WORDS = ("$schema", "$ref", "$defs", "anyOf", "oneOf", "allOf", "additionalProperties")


@dataclass(frozen=True)
class Command:
    """One command of a driver.

    `parameters` is a JSON Schema (draft 2020-12) of the args object; `timeout_ms` is how long the
    command may take, None when the driver does not say.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: dict(ANY_OBJECT))
    timeout_ms: int | None = None

    @cached_property
    def validator(self) -> Draft202012Validator:
        """Checks args. Its registry is empty: a schema never makes this process fetch another one
        from somewhere."""
        return Draft202012Validator(self.parameters, registry=Registry())


def declared(driver: BaseDeviceDriver | type[BaseDeviceDriver]) -> dict[str, Command]:
    """The commands of a driver, by name.

    Of an instance this is what `get_supported_commands()` answers; of a class, what is set on it.

    Raises:
        PluginError: a declaration makes no sense; the message names the command.
    """
    raw: Any = (
        driver.supported_commands if isinstance(driver, type) else driver.get_supported_commands()
    )
    return {name: _command(name, spec) for name, spec in _table(raw).items()}


def find(driver: BaseDeviceDriver, name: str) -> Command:
    """The command `name` of a driver.

    Raises:
        UnknownCommand: it has none of that name; the message names those it has.
        PluginError: the declaration makes no sense.
    """
    table = _table(driver.get_supported_commands())
    if name not in table:
        known = ", ".join(sorted(table)) or "none"
        raise UnknownCommand(f"unknown command {name!r}; supported: {known}")
    return _command(name, table[name])


def check_args(command: Command, args: Mapping[str, Any]) -> None:
    """Check `args` against the command's JSON Schema.

    Raises:
        BadArgs: the message says where, what was wrong, and which names are required and allowed.
    """
    if not isinstance(args, Mapping):
        raise BadArgs(f"{command.name}: args must be an object, not {type(args).__name__}")
    if fits(command.parameters, args):
        return
    try:
        error = best_match(command.validator.iter_errors(dict(args)))
    except Unresolvable as unresolvable:
        raise PluginError(
            f"command {command.name!r}: its schema has a broken $ref: {unresolvable}"
        ) from None
    if error is not None:
        raise BadArgs(f"{command.name}: {_complaint(error)}{_accepted(command)}")


def _complaint(error: ValidationError) -> str:
    where = "args" + "".join(
        f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path
    )
    message = error.message
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 3] + "..."
    return f"{where}: {message}"


def _accepted(command: Command) -> str:
    """The names that the command takes, as the end of a refusal."""
    allowed = command.parameters.get("properties")
    if not isinstance(allowed, Mapping):
        return ""
    if not allowed:
        return "; it takes no args"
    required = command.parameters.get("required") or ()
    return f"; required: {', '.join(required) or 'none'}; allowed: {', '.join(allowed)}"


def _table(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping) or not all(isinstance(name, str) and name for name in raw):
        raise PluginError(
            "supported_commands must be a dict: name -> text, or name -> {description, parameters}; "
            f"it is {type(raw).__name__}"
        )
    return raw


def _command(name: str, spec: Any) -> Command:
    if isinstance(spec, Command):
        return spec
    if spec is None or isinstance(spec, str):
        return Command(name, spec or "")
    if not isinstance(spec, Mapping):
        raise PluginError(
            f"supported_commands[{name!r}] must be text or {{description, parameters}}, not {type(spec).__name__}"
        )
    parameters = spec.get("parameters")
    if isinstance(parameters, type) and issubclass(parameters, BaseModel):
        spec = {**spec, "parameters": _model_schema(parameters)}
    try:
        text = json.dumps(spec)
    except (TypeError, ValueError):  # it holds what is no part of the declaration
        return _parsed(name, spec)
    return _remembered(name, text)


@lru_cache(maxsize=1024)
def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@lru_cache(maxsize=1024)
def _remembered(name: str, text: str) -> Command:
    """The command that a driver declares as `text`. A driver is asked at each command, and to check
    a schema takes longer than all else of a command's way."""
    return _parsed(name, json.loads(text))


def _parsed(name: str, spec: Mapping[str, Any]) -> Command:
    timeout_ms = spec.get("timeout_ms")
    if timeout_ms is not None and (
        isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int) or timeout_ms <= 0
    ):
        raise PluginError(f"supported_commands[{name!r}]: timeout_ms must be a positive integer")
    schema = _schema(name, spec["parameters"]) if "parameters" in spec else dict(ANY_OBJECT)
    return Command(name, str(spec.get("description") or ""), schema, timeout_ms)


def _schema(name: str, parameters: Any) -> dict[str, Any]:
    """JSON Schema out of the forms of `parameters` beside a model class: schema, plain mapping."""
    if parameters is None:
        return dict(ANY_OBJECT)
    if not isinstance(parameters, Mapping):
        raise PluginError(
            f"supported_commands[{name!r}]: parameters must be a JSON Schema, a mapping of property to "
            f"schema or text, or a pydantic model class, not {type(parameters).__name__}"
        )
    schema = dict(parameters) if _is_schema(parameters) else _from_plain(parameters)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise PluginError(
            f"supported_commands[{name!r}]: no valid JSON Schema: {error.message}"
        ) from None
    return schema


def _is_schema(parameters: Mapping[str, Any]) -> bool:
    return (
        parameters.get("type") == "object"
        or isinstance(parameters.get("properties"), Mapping)
        or any(word in parameters for word in _SCHEMA_WORDS)
    )


def _from_plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``{"id": "CAN id", "data": {"type": "str", "required": True}}`` as a schema; other names
    refused."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            properties[key] = {
                k: v for k, v in value.items() if k != "required" or isinstance(v, list)
            }
            kind = properties[key].get("type")
            if isinstance(kind, str):
                properties[key]["type"] = _TYPE_WORDS.get(kind, kind)
            if value.get("required") is True:
                required.append(key)
        else:
            properties[key] = {"description": str(value)}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})
