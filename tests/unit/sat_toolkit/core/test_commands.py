"""What a driver declares becomes JSON Schema, and a refusal says what would be accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.commands import (
    ANY_OBJECT,
    Command,
    check_args,
    check_schema,
    declared,
    find,
    require,
)
from sat_toolkit.errors import BadArgs, PluginError, UnknownCommand


class SendArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: int
    data: str = ""


SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}


class Declaring(BaseDeviceDriver):
    supported_commands = {
        "text": "only a text",
        "nothing": {"description": "no parameters named"},
        "schema": {"description": "a full schema", "parameters": SCHEMA, "timeout_ms": 500},
        "plain": {
            "description": "a plain mapping",
            "parameters": {
                "id": "a number",
                "n": {"type": "int", "required": True},
                "type": {"type": "str"},
            },
        },
        "model": {"description": "a model", "parameters": SendArgs},
        "none": {"description": "takes nothing", "parameters": {}},
    }


def command(name: str) -> Command:
    return declared(Declaring)[name]


def declaring(commands: dict[str, Any]) -> Declaring:
    driver = Declaring()
    driver.supported_commands = commands
    return driver


def test_class_and_instance_declare_the_same() -> None:
    assert declared(Declaring) == declared(Declaring())
    assert list(declared(Declaring)) == list(Declaring.supported_commands)


def test_text_alone_takes_any_object() -> None:
    assert command("text") == Command("text", "only a text", ANY_OBJECT, None)
    assert command("nothing").parameters == ANY_OBJECT
    check_args(command("text"), {"whatever": [1, {"a": None}]})


def test_a_full_schema_is_kept_with_its_timeout() -> None:
    assert command("schema").parameters == SCHEMA
    assert command("schema").timeout_ms == 500


def test_a_plain_mapping_becomes_a_schema_with_pythons_type_names_translated() -> None:
    assert command("plain").parameters == {
        "type": "object",
        "properties": {
            "id": {"description": "a number"},
            "n": {"type": "integer"},
            "type": {"type": "string"},
        },
        "additionalProperties": False,
        "required": ["n"],
    }


def test_a_model_becomes_its_schema() -> None:
    check_args(command("model"), {"id": 1})
    with pytest.raises(BadArgs, match="required: id; allowed: id, data"):
        check_args(command("model"), {"id": 1, "dta": "x"})


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("schema", {}, ["schema: args: 'id' is a required property", "required: id; allowed: id"]),
        ("schema", {"id": "x"}, ["args.id: 'x' is not of type 'integer'"]),
        (
            "plain",
            {"n": 1, "idd": 2},
            ["'idd' was unexpected", "required: n; allowed: id, n, type"],
        ),
        ("none", {"a": 1}, ["it takes no args"]),
        ("text", [1], ["args must be an object, not list"]),
    ],
)
def test_a_refusal_says_where_what_and_what_is_accepted(
    name: str, args: Any, said: list[str]
) -> None:
    with pytest.raises(BadArgs) as caught:
        check_args(command(name), args)
    for text in said:
        assert text in str(caught.value)


def test_the_path_into_nested_args_is_named() -> None:
    items = {"type": "object", "properties": {"f": {"type": "array", "items": {"type": "integer"}}}}
    with pytest.raises(BadArgs, match=r"args\.f\[1\]: 'x' is not"):
        check_args(Command("c", "", items), {"f": [1, "x"]})


def test_a_refusal_does_not_repeat_a_huge_argument() -> None:
    with pytest.raises(BadArgs) as caught:
        check_args(command("schema"), {"id": "x" * 10_000})
    assert len(str(caught.value)) < 500


def test_find_names_what_is_supported() -> None:
    assert find(Declaring(), "model").name == "model"
    with pytest.raises(
        UnknownCommand, match="'nope'; supported: model, none, nothing, plain, schema, text"
    ):
        find(Declaring(), "nope")
    with pytest.raises(UnknownCommand, match="supported: none"):
        find(BaseDeviceDriver(), "nope")


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (["go"], "must be a dict"),
        ({1: "go"}, "must be a dict"),
        ({"go": 5}, r"supported_commands\['go'\] must be text or"),
        ({"go": {"parameters": 5}}, "parameters must be"),
        ({"go": {"parameters": {"type": "object", "properties": {"a": {"type": "nope"}}}}}, "no valid JSON Schema"),
        ({"go": {"timeout_ms": -1}}, "timeout_ms"),
        ({"go": {"timeout_ms": True}}, "timeout_ms"),
    ],
)  # fmt: skip
def test_a_declaration_without_sense_is_a_plugin_error(commands: Any, said: str) -> None:
    driver = BaseDeviceDriver()
    driver.supported_commands = commands
    with pytest.raises(PluginError, match=said):
        declared(driver)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # what jsonschema says before it would fetch
def test_a_schema_cannot_make_us_fetch_another_one(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"type": "integer"}')
    referring = Command("c", "", {"properties": {"a": {"$ref": other.as_uri()}}})
    with pytest.raises(PluginError, match="broken \\$ref"):
        check_args(referring, {"a": 1})


def test_a_schema_may_be_judged_elsewhere() -> None:
    """A worker takes them as they are: its host has the judge."""
    driver = declaring({"go": {"parameters": {"type": "nonsense", "properties": {}}}})
    assert declared(driver, check=False)["go"].parameters["type"] == "nonsense"
    with pytest.raises(PluginError, match=r"\['go'\]: no valid JSON Schema"):
        declared(driver)
    with pytest.raises(PluginError, match=r"\['go'\]: no valid JSON Schema"):
        check_schema("go", {"type": "nonsense"})
    check_schema("go", ANY_OBJECT)


def test_a_name_is_required_without_a_look_at_its_schema() -> None:
    driver = declaring({"go": "do it"})
    assert require(driver, "go") == "do it"
    with pytest.raises(UnknownCommand, match="unknown command 'nope'; supported: go"):
        require(driver, "nope")
