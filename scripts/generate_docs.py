"""Write docs/reference from the code: the lifecycle, the bus contract, the AsyncAPI document, the
CLI.

`--check` writes nothing and fails with a diff where a file is not what the code says. The output
depends on the code alone: no clock, no host name, no order of a set.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import sat_cli.app
import sat_toolkit.errors
from sat_bus.contract import messages, strict_json, topics
from sat_toolkit.core import lifecycle
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadState, Code, from_code

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_NOTE = "<!-- Written by scripts/generate_docs.py from {source}. Do not edit. -->\n"
_SCHEMA_REF = "#/components/schemas/{model}"
_ELSEWHERE = {"DeviceState": "lifecycle.md", "Code": "#codes"}
_BOUNDS = (("at least", "minimum"), ("at most", "maximum"), ("at most (characters)", "maxLength"))
_BIN = (topics.STREAM_BIN, topics.INPUT_BIN)


# -- lifecycle -----------------------------------------------------------------------------------


def lifecycle_page() -> str:
    """The state diagram and its tables."""
    return "\n".join(
        [
            _NOTE.format(source="sat_toolkit.core.lifecycle"),
            "# The device lifecycle",
            "",
            "Solid arrows are the plugin guide's table. Labelled arrows are the extra edges, with their reasons below.",
            "",
            *_diagram(),
            "",
            "## Transitions",
            "",
            *_table(("From", "To", "Why"), _edges()),
            "",
            "## What an operation does from each state",
            "",
            "The driver hooks called, in order. `-`: the target is reached already, nothing is called, the request "
            "succeeds. A refusal is `bad_state`.",
            "",
            *_table(("State", *(f"`{op}`" for op in lifecycle.Operation)), _plans()),
            "",
            "## The next step towards a desired level",
            "",
            "At most one operation at a time, chosen anew from what is observed.",
            "",
            *_table(("State", *(f"`{level}`" for level in _levels())), _paths()),
            "",
        ]
    )


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> unknown"
    for state, targets in lifecycle.TRANSITIONS.items():
        yield from (f"    {state} --> {target}" for target in targets)
    labels = {reason: index for index, reason in enumerate(_reasons(), 1)}
    for (state, target), reason in lifecycle.EXTRA_TRANSITIONS.items():
        yield f"    {state} --> {target}: extra {labels[reason]}"
    yield "```"
    yield ""
    yield from (f"{index}. {reason}" for reason, index in labels.items())


def _reasons() -> list[str]:
    return list(dict.fromkeys(lifecycle.EXTRA_TRANSITIONS.values()))


def _edges() -> Iterator[tuple[str, ...]]:
    for state, targets in lifecycle.TRANSITIONS.items():
        yield from ((f"`{state}`", f"`{target}`", "the guide's table") for target in targets)
    for (state, target), reason in lifecycle.EXTRA_TRANSITIONS.items():
        yield f"`{state}`", f"`{target}`", reason


def _plans() -> Iterator[tuple[str, ...]]:
    for state in DeviceState:
        yield f"`{state}`", *(_plan(operation, state) for operation in lifecycle.Operation)


def _plan(operation: lifecycle.Operation, state: DeviceState) -> str:
    try:
        steps = lifecycle.plan(operation, state)
    except BadState:
        return "refused"
    return ", ".join(step.operation for step in steps) or "-"


def _levels() -> list[DeviceState]:
    return [DeviceState.DISCONNECTED, DeviceState.INITIALIZED, DeviceState.CONNECTED]


def _paths() -> Iterator[tuple[str, ...]]:
    for state in DeviceState:
        yield f"`{state}`", *(lifecycle.path_to(level, state) or "-" for level in _levels())


# -- contract ------------------------------------------------------------------------------------


def contract_page() -> str:
    """Every topic, every payload, every code."""
    parts = [
        _NOTE.format(
            source="sat_bus.contract.topics, sat_bus.contract.messages and sat_toolkit.errors"
        ),
        "# The bus contract, version 1",
        "",
        f"Every topic begins with `{topics.ROOT}/<site>/`. R = retained. `[/<client>]` may be left out. A request is "
        f"at most {strict_json.MAX_BYTES} bytes of JSON, at most {strict_json.MAX_DEPTH} levels deep. Names match "
        f"`{messages.NAME_PATTERN}`. How to use all this is in [the users' guide](../users.md).",
        "",
        "## Topics",
        "",
        *_table(
            ("Topic", "R", "QoS", "Written by", "Payload", "What it says"),
            map(_topic_row, topics.TABLE),
        ),
        "",
        "## Levels",
        "",
        *_table(
            ("Level", "Meaning"),
            ((f"`<{level}>`", about) for level, about in topics.LEVELS.items()),
        ),
        "",
        "## Streams",
        "",
        topics.STREAMS,
        "## Codes",
        "",
        "The `code` of a reply whose `status` is `error`. Retryable: the same request may work a moment later.",
        "",
        *_table(("Code", "Retryable", "Meaning"), _codes()),
        "",
        "## Payloads",
        "",
        "A field without a default is required. Unknown fields are refused in what clients send and ignored elsewhere.",
        "",
    ]
    for model in _models():
        parts += _payload(model)
    return "\n".join(parts)


def _topic_row(topic: topics.Topic) -> tuple[str, ...]:
    name = topic.payload.__name__ if topic.payload else ""
    payload = (
        f"[{name}](#{name.lower()})"
        if name
        else "[bytes](bin-batches.md)"
        if topic in _BIN
        else "see right"
    )
    pattern = topic.pattern.replace("{", "<").replace("}", ">")
    return (
        f"`{pattern}`",
        "R" if topic.retain else "",
        str(topic.qos),
        topic.writer,
        payload,
        topic.about,
    )


def _codes() -> Iterator[tuple[str, ...]]:
    comments = _comments(Path(sat_toolkit.errors.__file__), "Code")
    for code in Code:
        yield (
            f"`{code}`",
            "yes" if from_code(code, "").retryable else "",
            comments.get(code.name, ""),
        )


def _comments(path: Path, class_name: str) -> dict[str, str]:
    """The comment beside each member of an enum, by the member's name."""
    tree = ast.parse(path.read_text())
    body = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
    ).body
    lines = {
        node.lineno: ast.unparse(node.targets[0]) for node in body if isinstance(node, ast.Assign)
    }
    with path.open("rb") as source:
        found = [
            token for token in tokenize.tokenize(source.readline) if token.type == tokenize.COMMENT
        ]
    return {
        lines[token.start[0]]: token.string.lstrip("# ")
        for token in found
        if token.start[0] in lines
    }


def _models() -> list[type[BaseModel]]:
    """Every model of the contract, in the order of the source."""
    bases = {messages.Message, messages.Demand}
    found = [
        cls
        for cls in vars(messages).values()
        if isinstance(cls, type) and issubclass(cls, messages.Message)
    ]
    return [cls for cls in found if cls not in bases]


def _payload(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema(ref_template="{model}")
    yield f"### {model.__name__}"
    yield ""
    if model.__doc__:
        yield from (re.sub(r"\s+", " ", model.__doc__).strip(), "")
    required = schema.get("required", [])
    rows = (
        (
            f"`{name}`",
            _type(field),
            "" if name in required else f"`{json.dumps(field.get('default'))}`",
        )
        for name, field in schema.get("properties", {}).items()
    )
    yield from _table(("Field", "Type", "Default"), rows)
    yield ""


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema as a person would say it."""
    if "$ref" in schema:
        name = schema["$ref"]
        return f"[{name}]({_ELSEWHERE.get(name, '#' + name.lower())})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, dict):
        return f"object of {_type(values)}"
    bounds = [f"{word} {schema[key]}" for word, key in _BOUNDS if key in schema]
    return ", ".join([kind, *bounds])


# -- AsyncAPI ------------------------------------------------------------------------------------


def asyncapi_document() -> str:
    """The contract as AsyncAPI 3.0, told from the side of the services."""
    modes: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in _models()]
    _, schemas = models_json_schema(modes, ref_template=_SCHEMA_REF)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in topics.TABLE:
        base = topic.pattern.removesuffix("[/{client}]")
        addresses = {topic.name: base}
        if base != topic.pattern:
            addresses[f"{topic.name}_from"] = base + "/{client}"
        for name, pattern in addresses.items():
            channels[name] = _channel(topic, f"{topics.ROOT}/{{site}}/{pattern}")
            operations[name] = {
                "action": "receive" if topic.writer == "client" else "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": topic.about,
                "bindings": {
                    "mqtt": {"qos": topic.qos, "retain": topic.retain, "bindingVersion": "0.2.0"}
                },
            }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SAT Toolkit bus",
            "version": "1",
            "description": "Bench hardware on an MQTT bus, told from the side of its services.\n\n"
            + topics.STREAMS,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {topic.name: _message(topic) for topic in topics.TABLE},
            "schemas": dict(sorted(schemas["$defs"].items())),
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _channel(topic: topics.Topic, address: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": f"{topic.about}. Written by: {topic.writer}.",
        "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        "parameters": {
            level: {"description": topics.LEVELS[level]}
            for level in re.findall(r"\{(\w+)\}", address)
        },
    }


def _message(topic: topics.Topic) -> dict[str, Any]:
    message: dict[str, Any] = {"name": topic.name, "summary": topic.about}
    if topic is topics.DEVICE_STATE:
        payload: dict[str, Any] = {"type": "string", "enum": [state.value for state in DeviceState]}
        message["contentType"] = "text/plain"
    elif topic in _BIN:
        payload = {
            "type": "string",
            "format": "binary",
            "description": "docs/reference/bin-batches.md, byte by byte",
        }
        message["contentType"] = "application/octet-stream"
    elif topic.payload is messages.Request:
        bare = {
            "type": "object",
            "not": {"required": ["args"]},
            "description": "the args themselves",
        }
        payload = {"anyOf": [_ref(messages.Request), bare]}
        if topic is topics.SET:
            payload["anyOf"] += [_ref(messages.Desired), {"type": "string"}]
    else:
        payload = _ref(topic.payload) if topic.payload else {"type": "object"}
    return {**message, "payload": payload}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _SCHEMA_REF.format(model=model.__name__)}


# -- CLI -----------------------------------------------------------------------------------------


def cli_page() -> str:
    """What `sat --help` and its commands say."""
    group = typer.main.get_command(sat_cli.app.app)
    assert isinstance(group, typer.core.TyperGroup)
    lines = [_NOTE.format(source="sat_cli.app"), "# The `sat` command", "", _help(group), ""]
    commands = list(_commands(group))
    rows = (
        (f"[`sat {name}`](#sat-{name.replace(' ', '-')})", _first_line(command))
        for name, command in commands
    )
    lines += _table(("Command", "What it does"), rows)
    context = group.context_class(group, info_name="sat")
    for name, command in commands:
        lines += ["", f"## `sat {name}`", "", _help(command), ""]
        lines += _table(("Argument or option", "Meaning"), _parameters(command, context))
    return "\n".join([*lines, ""])


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name; those of a group in the group's place."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _first_line(command: Any) -> str:
    return _plain(command.help or "").split("\n\n")[0].replace("\n", " ")


def _help(command: Any) -> str:
    """The help text, its examples as code."""
    paragraphs = _plain(command.help or "").strip("\n").split("\n\n")
    return "\n\n".join(
        f"```text\n{textwrap.dedent(text)}\n```" if text.startswith(("  ", "sat ")) else text
        for text in paragraphs
    )


def _parameters(command: Any, parent: Any) -> Iterator[tuple[str, ...]]:
    context = command.context_class(command, info_name=command.name, parent=parent)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            names, meaning = record
            yield (
                f"`{_plain(names)}`",
                re.sub(r"<(\S+)>", r"`<\1>`", re.sub(r"\s+", " ", _plain(meaning))),
            )


def _plain(text: str) -> str:
    """Without Rich's markup."""
    return re.sub(r"\[(?:/|/?(?:bold|dim|italic|cyan|green|yellow|red))\]", "", text).replace(
        "\\[", "["
    )


# -- writing and checking ------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle_page,
    "contract.md": contract_page,
    "asyncapi.json": asyncapi_document,
    "cli.md": cli_page,
}


def drift(folder: Path) -> str:
    """The diff from the files in `folder` to what the code says; empty when they agree."""
    diffs: list[str] = []
    for name, render in PAGES.items():
        path = folder / name
        old = path.read_text() if path.exists() else ""
        lines = difflib.unified_diff(
            old.splitlines(True),
            render().splitlines(True),
            f"docs/reference/{name}",
            f"{name} from the code",
            n=1,
        )
        diffs.extend(lines)
    return "".join(diffs)


def write(folder: Path) -> None:
    """Write every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, render in PAGES.items():
        (folder / name).write_text(render())


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        found = drift(REFERENCE)
        if found:
            sys.stderr.write(
                f"{found}\ndocs/reference is not what the code says: run scripts/generate_docs.py\n"
            )
        return 1 if found else 0
    if arguments:
        sys.stderr.write("usage: generate_docs.py [--check]\n")
        return 2
    write(REFERENCE)
    return 0


def _table(header: tuple[str, ...], rows: Any) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *escaped]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
