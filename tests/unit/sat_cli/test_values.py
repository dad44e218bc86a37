"""key=value words of a command line as the args of a request."""

from __future__ import annotations

from typing import Any

import pytest

from sat_cli.values import describe_schema, parse_args, parse_value
from sat_toolkit.errors import BadArgs

SEND = {
    "type": "object",
    "properties": {
        "id": {"type": ["integer", "string"]},
        "data": {"type": "string"},
        "fd": {"type": "boolean"},
        "mode": {"enum": ["1", "2"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ('"1"', "1"),
        ("deadbeef", "deadbeef"),
        ("0x123", "0x123"),
        ("", ""),
        ("NaN", "NaN"),
    ],
)
def test_without_a_schema_a_value_is_json_else_text(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("word", "args"),
    [
        ("data=1234", {"data": "1234"}),
        ("data=1e5", {"data": "1e5"}),
        ("data=true", {"data": "true"}),
        ("data=[1]", {"data": "[1]"}),
        ('data="12"', {"data": "12"}),
        ("data=", {"data": ""}),
        ("data=a=b", {"data": "a=b"}),
        ("id=291", {"id": 291}),
        ("id=0x123", {"id": "0x123"}),
        ("fd=true", {"fd": True}),
        ("mode=1", {"mode": "1"}),
        ("either=null", {"either": None}),
        ("either=5", {"either": "5"}),
        ("unheard=5", {"unheard": 5}),
    ],
)
def test_the_schema_decides_between_text_and_json(word: str, args: dict[str, Any]) -> None:
    assert parse_args([word], SEND) == args


@pytest.mark.parametrize("words", [["data"], ["=1"], ["a=1", "a=2"]])
def test_what_is_no_argument_is_refused(words: list[str]) -> None:
    with pytest.raises(BadArgs):
        parse_args(words)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 8}, "integer, 0..8"),
        ({"type": "integer", "minimum": 1}, "integer, 1.."),
        ({"type": "string", "enum": ["a", "b"]}, "string, one of a, b"),
        ({"type": "boolean", "default": False}, "boolean, default false"),
        ({}, "anything"),
        (True, "anything"),
    ],
)
def test_a_schema_in_words(schema: Any, text: str) -> None:
    assert describe_schema(schema) == text
