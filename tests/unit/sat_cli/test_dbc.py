"""Frames decoded by a DBC file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sat_cli import frames
from sat_cli.dbc import Dbc
from sat_toolkit.errors import ConfigError

DBC = Path(frames.__file__).parents[2] / "plugins" / "devices" / "can" / "sat_ecu.dbc"


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


@pytest.mark.parametrize(
    ("name", "text"), [("none.dbc", None), ("other.cdd", "<x/>"), ("lines.dbc", "BO_ x")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"--signals .*{name}"):
        Dbc(tmp_path / name)
