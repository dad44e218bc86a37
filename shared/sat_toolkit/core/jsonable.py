"""Anything a driver returns, as JSON: what a client gets when a command's result is no plain JSON.

`jsonable` never raises and always ends: depth and number of values are bounded, cycles are named.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping, Set
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from sat_toolkit.core.pydantic_models import is_model
from sat_toolkit.core.stream_manager import StreamData
from sat_toolkit.models.Device_Model import Device

MAX_DEPTH = 32
MAX_VALUES = 100_000
MAX_REPR = 200
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def jsonable(value: Any) -> Any:
    """`value` as dicts with str keys, lists, strings, numbers, booleans and None.

    bytes become hexadecimal text, enums their value, devices, dataclasses and pydantic models
    dicts, sets and tuples lists, NaN and infinities the strings ``nan``, ``inf`` and ``-inf``,
    integers of more than 64 bits hexadecimal text, anything else its `repr`, cut at 200 characters.
    What is nested too deep, or is one value too many, becomes the name of its type: ``<list>``.
    """
    return _Converter().convert(value, 0)


class _Converter:
    def __init__(self) -> None:
        self._left = MAX_VALUES
        self._open: set[int] = set()  # ids of the containers around the present value

    def convert(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.convert(value.value, depth)
        if isinstance(value, str):
            # A lone surrogate is no UTF-8 and would fail only later, in the encoder.
            return str(value).encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, int):
            return int(value) if _INT_MIN <= value <= _INT_MAX else hex(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).hex()
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._open:
            return "<cycle>"
        if depth >= MAX_DEPTH or self._left <= 0:
            return f"<{type(value).__name__}>"  # no repr here: that of nested lists may never end
        self._open.add(id(value))
        try:
            return self._object(value, depth + 1)
        except Exception:  # noqa: BLE001 - a property or iterator of foreign code may raise anything
            return f"<{type(value).__name__}>"
        finally:
            self._open.discard(id(value))

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value.items(), depth)
        if isinstance(value, list | tuple | Set):
            return self._list(value, depth)
        if isinstance(value, Device | StreamData):
            return self._mapping(value.to_dict().items(), depth)
        if is_model(value):
            return self._mapping(
                ((name, getattr(value, name)) for name in type(value).model_fields), depth
            )
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._mapping(
                ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value)), depth
            )
        if isinstance(value, numbers.Integral):
            return self.convert(int(value), depth)
        if isinstance(value, numbers.Real):
            return self.convert(float(value), depth)
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, Decimal | UUID | PurePath):
            return str(value)
        return _text_of(value)

    def _list(self, items: Iterable[Any], depth: int) -> list[Any]:
        made: list[Any] = []
        for item in items:
            if self._left <= 0:
                made.append("<cut>")
                break
            made.append(self.convert(item, depth))
        return made

    def _mapping(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, item in items:
            if self._left <= 0:
                made["<cut>"] = True
                break
            name = self.convert(key, depth)
            made[name if isinstance(name, str) else str(name)] = self.convert(item, depth)
        return made


def _text_of(value: Any) -> str:
    try:
        text = (
            f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
        )
    except Exception:  # noqa: BLE001 - repr is foreign code
        return f"<{type(value).__name__}>"
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MAX_REPR else text[: MAX_REPR - 3] + "..."
