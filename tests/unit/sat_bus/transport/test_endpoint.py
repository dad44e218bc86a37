"""Broker URLs."""

from __future__ import annotations

import pytest

from sat_bus.transport.endpoint import Endpoint, parse_url
from sat_toolkit.errors import ConfigError


@pytest.mark.parametrize(("url", "endpoint"), [
    ("mqtt://host", Endpoint("mqtt", "host", 1883)),
    ("mqtts://host", Endpoint("mqtts", "host", 8883)),
    ("ws://host", Endpoint("ws", "host", 80, "/mqtt")),
    ("wss://host/", Endpoint("wss", "host", 443, "/mqtt")),
    ("ws://host:9001/bus/x", Endpoint("ws", "host", 9001, "/bus/x")),
    ("mqtt://[::1]:1884/", Endpoint("mqtt", "::1", 1884)),
    ("mqtt://rack:s%40cret@host", Endpoint("mqtt", "host", 1883, "/mqtt", "rack", "s@cret")),
    ("mqtt://rack@host", Endpoint("mqtt", "host", 1883, "/mqtt", "rack", None)),
])  # fmt: skip
def test_takes_apart(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize("url", [
    "", "host", "host:1883", "http://host", "mqtt://", "mqtt://:1883", "mqtt://host:0", "mqtt://host:99999",
    "mqtt://host:x", "mqtt://host/topic", "ws://host/mqtt?token=1", "mqtt://host#x", "mqtt://:secret@host",
    "mqtt://[::1",
])  # fmt: skip
def test_refuses_and_says_what_is_accepted(url: str) -> None:
    with pytest.raises(ConfigError, match="accepted: mqtt://, mqtts://, ws:// or wss://"):
        parse_url(url)


def test_no_text_of_it_holds_the_password() -> None:
    endpoint = parse_url("wss://rack:hush@host/x")
    assert "hush" not in f"{endpoint} {endpoint!r}"
    assert str(endpoint) == "wss://host:443/x"
    assert str(parse_url("mqtt://[::1]")) == "mqtt://[::1]:1883"
    with pytest.raises(ConfigError) as caught:
        parse_url("mqtt://rack:hush@host/topic")
    assert "hush" not in str(caught.value)
