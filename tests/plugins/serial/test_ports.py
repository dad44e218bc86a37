"""The ports of the configuration: what is accepted, and that a wrong one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.devices.serial.ports import LineSettings, PortConfig, parse_discover, parse_ports
from sat_toolkit.errors import ConfigError


def test_a_port_with_nothing_but_a_name_is_115200_8n1() -> None:
    (port,) = parse_ports({"ports": [{"name": "console", "port": "/dev/ttyUSB0"}]})
    assert port == PortConfig("console", "/dev/ttyUSB0")
    assert str(port.settings) == "115200 8N1"
    assert (port.path, port.scheme, port.hardware_id) == (
        Path("/dev/ttyUSB0"),
        "",
        "serial:console",
    )


def test_a_port_with_everything() -> None:
    entry = {"name": "a", "port": "/dev/x", "baud_rate": 9600, "bytesize": 7, "parity": "E", "stopbits": 1.5,
             "rtscts": True, "xonxoff": False, "dtr": False, "rts": True, "read_chunk": 1}  # fmt: skip
    (port,) = parse_ports({"ports": [entry]})
    assert port.settings == LineSettings(9600, 7, "E", 1.5, True, False, False, True)
    assert port.read_chunk == 1
    assert str(port.settings) == "9600 7E1.5 rtscts"


@pytest.mark.parametrize(
    "url", ["rfc2217://server:2217", "socket://10.0.0.1:4000", "socket://[::1]:4000"]
)
def test_a_url_has_no_path(url: str) -> None:
    (port,) = parse_ports({"ports": [{"name": "a", "port": url}]})
    assert (port.path, port.scheme) == (None, url.partition(":")[0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("/dev/ttyUSB0", r"ports\[0\] must be an object"),
        ({"port": "/dev/x"}, r"ports\[0\]: name must be"),
        ({"name": "a\n", "port": "/dev/x"}, r"ports\[0\]: name must be"),
        ({"name": "a"}, r'ports\[0\] \("a"\): port must be a path'),
        ({"name": "a", "port": "ttyUSB0"}, "begins with /"),
        ({"name": "a", "port": "telnet://host:23"}, "rfc2217://host:port"),
        ({"name": "a", "port": "rfc2217://host"}, "rfc2217://host:port"),
        ({"name": "a", "port": "socket://host:999999"}, "rfc2217://host:port"),
        ({"name": "a", "port": "/dev/x", "baudrate": 9600}, "unknown key 'baudrate'.*baud_rate"),
        ({"name": "a", "port": "/dev/x", "baud_rate": 0}, "baud_rate must be bit/s"),
        ({"name": "a", "port": "/dev/x", "baud_rate": True}, "baud_rate must be bit/s"),
        ({"name": "a", "port": "/dev/x", "baud_rate": "9600"}, "baud_rate must be bit/s"),
        ({"name": "a", "port": "/dev/x", "bytesize": 9}, "bytesize must be one of 5, 6, 7, 8"),
        ({"name": "a", "port": "/dev/x", "parity": "even"}, "parity must be one of N, E"),
        ({"name": "a", "port": "/dev/x", "parity": ["N"]}, "parity must be one of N, E"),
        ({"name": "a", "port": "/dev/x", "stopbits": True}, "stopbits must be one of"),
        ({"name": "a", "port": "/dev/x", "rtscts": 1}, "rtscts must be true or false"),
        ({"name": "a", "port": "/dev/x", "dtr": None}, "dtr must be true or false"),
        ({"name": "a", "port": "/dev/x", "read_chunk": 0}, "read_chunk must be 1 to"),
    ],
)
def test_a_wrong_entry_is_named(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_ports({"ports": [entry]})


def test_a_wrong_list_is_named() -> None:
    with pytest.raises(ConfigError, match="ports must be a list"):
        parse_ports({"ports": {"name": "a"}})
    with pytest.raises(ConfigError, match="'a' is given twice"):
        parse_ports({"ports": [{"name": "a", "port": "/dev/x"}, {"name": "a", "port": "/dev/y"}]})
    with pytest.raises(ConfigError, match="discover must be"):
        parse_discover({"discover": "yes"})
    assert parse_ports({}) == []
    assert parse_discover({}) is True
