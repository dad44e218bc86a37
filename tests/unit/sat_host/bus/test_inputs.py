"""What clients may send to a device's stream."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import strict_json
from sat_host.bus.inputs import MAX_ITEMS, parse_input
from sat_toolkit.errors import BadArgs, SatError


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ({"frames": [{"id": 1}, {"id": 2}]}, [{"id": 1}, {"id": 2}]),
        ({"frames": []}, []),
        ({"id": 291, "data": "00"}, [{"id": 291, "data": "00"}]),
        ({"action": "send", "data": 5}, [{"action": "send", "data": 5}]),
    ],
)
def test_each_form_gives_its_items(value: dict[str, Any], items: list[Any]) -> None:
    assert parse_input(strict_json.dumps(value)).args == {"items": items}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"frames": 1},
        {"frames": [1]},
        {"frames": [{}]},
        {"frames": [{"id": 1}] * (MAX_ITEMS + 1)},
        {"stream_type": "can"},
        {"action": "explode", "data": 1},
        {"action": ["send"], "data": 1},
        {"data": 1, "timestamp": "now"},
        {"data": 1, "timestamp": True},
        {"data": 1, "metadata": 3},
    ],
)
def test_what_is_no_data_is_refused_with_what_would_be(value: dict[str, Any]) -> None:
    with pytest.raises(BadArgs, match=r"accepted|number|object"):
        parse_input(strict_json.dumps(value))


@pytest.mark.parametrize("payload", [b"text", b"[]", b"5"])
def test_what_is_no_object_is_a_bad_request(payload: bytes) -> None:
    with pytest.raises(SatError) as refused:
        parse_input(payload)
    assert refused.value.code == "bad_request"
