"""The family's page says what there is: every command, key and code of its examples."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from plugins.devices.serial.commands import COMMANDS
from plugins.devices.serial.drv_serial import SerialDriver
from plugins.devices.serial.framing import frame_bytes
from plugins.devices.serial.ports import PORT_KEYS, parse_discover, parse_ports
from sat_toolkit.core.commands import check_args, declared

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "families" / "serial.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_configuration_of_the_page_is_accepted() -> None:
    (text,) = blocks("toml")
    info = tomllib.loads(text)["drivers"]["drv_serial"]
    assert [port.name for port in parse_ports(info)] == ["console", "modem", "scope"]
    assert parse_discover(info) is True


@pytest.mark.parametrize("word", [*COMMANDS, *PORT_KEYS, "discover"])
def test_every_command_and_key_is_on_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE or f"{word} = " in PAGE


def test_every_arg_is_on_the_page() -> None:
    names = {name for spec in COMMANDS.values() for name in spec["parameters"]["properties"]}
    assert not [name for name in names if f"`{name}`" not in PAGE]


def test_the_examples_are_commands_that_there_are() -> None:
    commands = declared(SerialDriver)
    lines = [
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("sat do console")
    ]
    assert len(lines) == 4
    for line in lines:
        _, _, _, name, *words = re.findall(r"(?:[^\s']|'[^']*')+", line.partition(" --")[0])
        pairs = [word.replace("'", "").partition("=") for word in words]
        check_args(
            commands[name],
            {key: int(value) if value.isdigit() else value for key, _, value in pairs},
        )


def test_the_frame_is_one() -> None:
    (text,) = blocks("json")
    frame = json.loads(text)
    assert frame_bytes(frame["data"], frame["metadata"]) == b"[    5.220] temp: 22.86 C\r\n"
