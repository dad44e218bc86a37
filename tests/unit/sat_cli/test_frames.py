"""Frames as candump prints them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sat_cli import frames
from sat_cli.dbc import Dbc
from sat_toolkit.errors import ConfigError

DBC = Path(frames.__file__).parents[2] / "plugins" / "devices" / "can" / "sat_ecu.dbc"


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


def test_a_dbc_puts_names_to_values() -> None:
    decoded = Dbc(DBC).decode({"id": 0x100, "data": "1423C8C844020800"})
    assert decoded is not None
    assert decoded.startswith("EngineData: EngineSpeed=2245 rpm")


@pytest.mark.parametrize(
    "frame", [{"id": 0x7FF, "data": "00"}, {"id": 0x100, "data": ""}, {"id": 0x100, "data": "xx"}]
)
def test_a_frame_that_the_dbc_does_not_fit_stays_as_it_is(frame: dict[str, Any]) -> None:
    assert Dbc(DBC).decode(frame) is None


def test_a_file_that_is_no_dbc_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.dbc"
    path.write_text("hello")
    with pytest.raises(ConfigError, match=r"no\.dbc"):
        Dbc(path)
