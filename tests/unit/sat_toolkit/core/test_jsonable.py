"""jsonable: everything a driver may return becomes strict JSON, and it always ends."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.jsonable import MAX_REPR, MAX_VALUES, jsonable
from sat_toolkit.models.Device_Model import SocketCANDevice
from tests.unit.sdk_fakes import datum


class Colour(Enum):
    RED = b"\xff"


class Level(IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    tag: bytes


class Model(BaseModel):
    state: DeviceState
    raw: bytes


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Exploding(dict):
    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (b"\xde\xad", "dead"),
        (bytearray(b"\x01"), "01"),
        (memoryview(b"\x02"), "02"),
        (DeviceState.CONNECTED, "connected"),
        (Colour.RED, "ff"),
        (Level.HIGH, 3),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (2**64 - 1, 2**64 - 1),
        (2**64, hex(2**64)),
        ("\ud800", "?"),
        ((1, [2, {3}]), [1, [2, [3]]]),
        ({1: "a", DeviceState.ERROR: "b", b"\x01": "c", None: "d"}, {"1": "a", "error": "b", "01": "c", "None": "d"}),
        (Point(1, b"\x0a"), {"x": 1, "tag": "0a"}),
        (Model(state=DeviceState.ACTIVE, raw=b"\x01"), {"state": "active", "raw": "01"}),
        (Fraction(1, 2), 0.5),
        (Decimal("1.10"), "1.10"),
        (Path("/tmp/x"), "/tmp/x"),
        (datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (ValueError("bad"), "ValueError: bad"),
        (Unprintable(), "<Unprintable>"),
        (Exploding(a=1), "<Exploding>"),
    ],
)  # fmt: skip
def test_values(value: Any, expected: Any) -> None:
    converted = jsonable(value)
    assert converted == expected
    assert type(converted) is type(expected)
    json.dumps(converted, allow_nan=False)


def test_devices_and_stream_data_are_their_dicts() -> None:
    can = SocketCANDevice("can0", "CAN 0")
    assert jsonable([can]) == [can.to_dict()]
    assert jsonable(datum(data=b"\x01"))["data"] == "01"


def test_an_unknown_object_is_its_cut_repr() -> None:
    class Long:
        def __repr__(self) -> str:
            return "y" * 1000

    text = jsonable(Long())
    assert len(text) == MAX_REPR
    assert text.endswith("...")


def test_a_cycle_is_named() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    assert jsonable(loop) == [1, {"again": "<cycle>"}]


def test_the_same_list_twice_is_no_cycle() -> None:
    shared = [1]
    assert jsonable([shared, shared]) == [[1], [1]]


def test_deep_nesting_ends() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    json.dumps(jsonable(deep))


def test_a_structure_that_explodes_is_cut() -> None:
    wide: list[Any] = []  # no leaves: the budget ends at a list, whose repr would take for ever
    for _ in range(20):
        wide = [wide] * 10
    assert len(json.dumps(jsonable(wide))) < 20 * MAX_VALUES


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
))  # fmt: skip
def test_whatever_comes_in_strict_json_comes_out(value: Any) -> None:
    converted = jsonable(value)
    assert json.loads(json.dumps(converted, allow_nan=False)) == converted
