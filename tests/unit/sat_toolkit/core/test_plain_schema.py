"""The quick check of args: never more lenient than jsonschema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sat_toolkit.core.plain_schema import fits

FRAME = {
    "type": "object",
    "title": "a frame",
    "properties": {
        "id": {"type": "string", "pattern": "^0x[0-9a-f]+$", "maxLength": 10},
        "data": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "period": {"type": "number", "minimum": 0.5},
        "mode": {"enum": ["once", "cyclic"]},
        "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        "any": True,
        "none": {"type": "null"},
    },
    "required": ["id"],
    "additionalProperties": False,
}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats(-2, 12)
    | st.sampled_from(["", "0x1f", "once", "zz"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
numbers = st.integers(0, 3)
schemas: st.SearchStrategy[Any] = st.deferred(lambda: st.booleans() | st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null", ["null", "string"]]),
    "enum": st.lists(st.sampled_from(["once", 1, True, None, 0.0]), min_size=1, max_size=3, unique_by=repr),
    "properties": st.dictionaries(st.sampled_from("abc"), schemas, max_size=2),
    "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
    "additionalProperties": schemas,
    "patternProperties": st.just({"^a": {"type": "string"}}),
    "items": schemas,
    "prefixItems": st.lists(schemas, min_size=1, max_size=2),
    "pattern": st.sampled_from(["^0x", "e$"]),
    "minimum": numbers, "maximum": numbers, "minLength": numbers, "maxLength": numbers, "minItems": numbers,
    "maxItems": numbers, "not": schemas, "description": st.just("text"), "default": st.just(1),
}))  # fmt: skip


@given(schemas, values)
def test_what_it_lets_through_is_valid(schema: Any, value: Any) -> None:
    if fits(schema, value):
        assert Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("args", [
    {"id": "0x1"},
    {"id": "0x1", "data": "ff", "count": 9, "period": 0.5, "mode": "once", "list": [True], "any": [{}], "none": None},
])  # fmt: skip
def test_lets_the_usual_through(args: dict[str, Any]) -> None:
    assert fits(FRAME, args)


@pytest.mark.parametrize("args", [
    {},
    {"id": "291"},
    {"id": "0x1", "more": 1},
    {"id": "0x1", "count": True},
    {"id": "0x1", "count": 10},
    {"id": "0x1", "list": []},
    {"id": "0x1", "mode": "never"},
])  # fmt: skip
def test_leaves_what_does_not_fit_to_jsonschema(args: dict[str, Any]) -> None:
    assert not fits(FRAME, args)
