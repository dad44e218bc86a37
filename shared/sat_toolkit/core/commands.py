"""What a driver's `supported_commands` declares, in one form, and the check of a request against
it.

A worker imports this at its start, so what takes long to import, `json_schema`, is imported only
where a schema has to be judged. It calls no driver hook.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from sat_toolkit.core.plain_schema import fits
from sat_toolkit.core.pydantic_models import is_model_class
from sat_toolkit.errors import BadArgs, PluginError, UnknownCommand
from sat_toolkit.extras import lacking

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sat_toolkit.core.json_schema import Validator

ANY_OBJECT: dict[str, Any] = {"type": "object"}

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


class Declaring(Protocol):
    """A driver, as far as its commands go."""

    supported_commands: dict[str, Any]

    def get_supported_commands(self) -> Any:
        """What it declares now."""
        ...


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
    def validator(self) -> Validator:
        """Checks args."""
        validator: Validator = _json_schema().Validator(self.name, self.parameters)
        return validator


def declared(driver: Declaring | type[Declaring], *, check: bool = True) -> dict[str, Command]:
    """The commands of a driver, by name.

    Of an instance this is what `get_supported_commands()` answers; of a class, what is set on it.
    Without `check` its schemas are taken as they are, for who has them checked elsewhere.

    Raises:
        PluginError: a declaration makes no sense; the message names the command.
    """
    raw: Any = (
        driver.supported_commands if isinstance(driver, type) else driver.get_supported_commands()
    )
    return {name: _command(name, spec, check) for name, spec in _table(raw).items()}


def find(driver: Declaring, name: str) -> Command:
    """The command `name` of a driver.

    Raises:
        UnknownCommand: it has none of that name; the message names those it has.
        PluginError: the declaration makes no sense.
    """
    return _command(name, require(driver, name), check=True)


def require(driver: Declaring, name: str) -> Any:
    """What a driver declares of its command `name`, as it stands there.

    Raises:
        UnknownCommand, PluginError: as `find`.
    """
    table = _table(driver.get_supported_commands())
    if name not in table:
        known = ", ".join(sorted(table)) or "none"
        raise UnknownCommand(f"unknown command {name!r}; supported: {known}")
    return table[name]


def check_schema(name: str, schema: Mapping[str, Any]) -> None:
    """Check the schema of the command `name` itself.

    Raises:
        PluginError: it is not a JSON Schema (draft 2020-12).
    """
    if schema != ANY_OBJECT and (flaw := _json_schema().flaw(schema)):
        raise PluginError(f"supported_commands[{name!r}]: no valid JSON Schema: {flaw}")


def check_args(command: Command, args: Mapping[str, Any]) -> None:
    """Check `args` against the command's JSON Schema.

    Raises:
        BadArgs: the message says where, what was wrong, and which names are required and allowed.
    """
    if not isinstance(args, Mapping):
        raise BadArgs(f"{command.name}: args must be an object, not {type(args).__name__}")
    if fits(command.parameters, args):
        return
    if complaint := command.validator.complaint(args):
        raise BadArgs(f"{command.name}: {complaint}{_accepted(command)}")


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


def _command(name: str, spec: Any, check: bool) -> Command:
    if isinstance(spec, Command):
        return spec
    if spec is None or isinstance(spec, str):
        return Command(name, spec or "")
    if not isinstance(spec, Mapping):
        raise PluginError(
            f"supported_commands[{name!r}] must be text or {{description, parameters}}, not {type(spec).__name__}"
        )
    parameters = spec.get("parameters")
    if is_model_class(parameters):
        spec = {**spec, "parameters": _model_schema(parameters)}
    try:
        text = json.dumps(spec)
    except (TypeError, ValueError):  # it holds what is no part of the declaration
        return _parsed(name, spec, check)
    return _remembered(name, text, check)


@lru_cache(maxsize=1024)
def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@lru_cache(maxsize=1024)
def _remembered(name: str, text: str, check: bool) -> Command:
    """The command that a driver declares as `text`. A driver is asked at each command, and to check
    a schema takes longer than all else of a command's way."""
    return _parsed(name, json.loads(text), check)


def _parsed(name: str, spec: Mapping[str, Any], check: bool) -> Command:
    timeout_ms = spec.get("timeout_ms")
    if timeout_ms is not None and (
        isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int) or timeout_ms <= 0
    ):
        raise PluginError(f"supported_commands[{name!r}]: timeout_ms must be a positive integer")
    schema = _schema(name, spec["parameters"]) if "parameters" in spec else dict(ANY_OBJECT)
    if check:
        check_schema(name, schema)
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
    return dict(parameters) if _is_schema(parameters) else _from_plain(parameters)


def _json_schema() -> ModuleType:
    """The part of the SDK that is slow to load, and that an install of the client alone lacks."""
    try:
        from sat_toolkit.core import json_schema
    except ModuleNotFoundError as error:
        raise lacking(error, "host", "checking what a command takes") from None
    return json_schema


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
