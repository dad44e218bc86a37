"""Frames as candump prints them."""

from __future__ import annotations

from typing import Any

import pytest

from sat_cli import frames


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        ({"t": 1.5, "id": 0x123, "data": "deadbeef"}, "(1.500000)  ecu  123  [4]  DE AD BE EF"),
        ({"t": 1.5, "id": 1, "data": ""}, "(1.500000)  ecu  001  [0]"),
        ({"t": 1.5, "id": 1, "ext": True, "data": "00"}, "(1.500000)  ecu  00000001  [1]  00"),
        ({"t": 1.5, "id": 1, "fd": True, "brs": True, "data": "00" * 12}, "(1.500000)  ecu  001  [12]  "
         + " ".join(["00"] * 12) + "  BRS"),
        ({"t": 1.5, "id": 1, "rtr": True, "dlc": 4, "data": ""}, "(1.500000)  ecu  001  [4]  remote request"),
        ({"t": 1.5, "id": 1, "tx": True, "data": "01"}, "(1.500000)  ecu  001  [1]  01  TX"),
        ({"t": 1.5, "id": 1, "err": True, "data": "01"}, "(1.500000)  ecu  001  [1]  01  ERR"),
        ({"t": 1.5, "data": "hello", "metadata": {}}, "(1.500000)  ecu  hello"),
    ],
)  # fmt: skip
def test_one_line_a_frame(frame: dict[str, Any], line: str) -> None:
    assert frames.line("ecu", frame) == line
