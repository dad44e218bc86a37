"""JSON Schema where the quick check does not do: what is wrong, where, and never a fetch."""

from __future__ import annotations

from typing import Any

import pytest

from sat_toolkit.core.json_schema import MAX_MESSAGE, Validator, flaw
from sat_toolkit.errors import PluginError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"filters": {"type": "array", "items": {"type": "integer"}}},
}


def test_what_is_no_schema_says_why() -> None:
    assert flaw(SCHEMA) == ""
    assert "'nummer' is not valid" in flaw({"type": "nummer"})


def test_a_complaint_says_where() -> None:
    validator = Validator("filter", SCHEMA)
    assert validator.complaint({"filters": [1, 2]}) == ""
    assert (
        validator.complaint({"filters": [1, "x"]})
        == "args.filters[1]: 'x' is not of type 'integer'"
    )


def test_a_long_complaint_is_cut() -> None:
    said = Validator("filter", SCHEMA).complaint({"filters": ["x" * 1000]})
    assert said.endswith("...")
    assert len(said) == len("args.filters[0]: ") + MAX_MESSAGE


@pytest.mark.parametrize("ref", ["#/nowhere", "http://127.0.0.1:1/schema.json"])
def test_a_schema_that_is_elsewhere_is_not_fetched(ref: str) -> None:
    with pytest.raises(PluginError, match=r"command 'filter': its schema has a broken \$ref"):
        Validator("filter", {"$ref": ref}).complaint({})
