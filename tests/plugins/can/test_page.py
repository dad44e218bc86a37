"""The family's page says what there is: every command and key, and a configuration that is
accepted."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from plugins.devices.can.buses import parse_buses
from plugins.devices.can.commands import COMMANDS
from plugins.devices.can.frames import message_from_dict
from plugins.devices.can.health import Policy, parse_policy

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "families" / "can.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_configuration_of_the_page_is_accepted() -> None:
    (text,) = blocks("toml")
    info = tomllib.loads(text)["drivers"]["drv_socketcan"]
    (bus,) = parse_buses(info)
    assert (bus.name, bus.interface, bus.bitrate) == ("ecu", "slcan", 500_000)
    assert parse_policy(info) == Policy()


def test_every_command_and_arg_is_on_the_page() -> None:
    names = {
        name for spec in COMMANDS.values() for name in spec["parameters"]["properties"]
    } | COMMANDS.keys()
    assert not [name for name in names if f"`{name}`" not in PAGE]


def test_the_frame_is_one() -> None:
    (text,) = blocks("json")
    frame = json.loads(text)
    del frame["t"]
    assert message_from_dict(frame).arbitration_id == 291
