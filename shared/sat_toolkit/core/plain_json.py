"""Plain values as JSON text. PURE."""

from __future__ import annotations

import json
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """`value` as compact UTF-8 JSON; integers beyond 64 bits are kept exact.

    Raises:
        ValueError: NaN or Infinity beside an integer beyond 64 bits.
        TypeError: something JSON has no form for.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
