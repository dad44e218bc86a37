"""The port of a simulated device on TCP: one client at a time, and no wait for any."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from plugins.devices.tcp_link import TcpLink, parse_address
from sat_toolkit.errors import ConfigError

DEADLINE = 10.0


@pytest.fixture
def link() -> Iterator[TcpLink]:
    made = TcpLink("127.0.0.1", 0)
    yield made
    made.close()


def call(link: TcpLink) -> socket.socket:
    host, _, port = link.port.removeprefix("socket://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def read(link: TcpLink) -> bytes:
    """What the link reads once it is readable."""
    assert select.select([link], [], [], DEADLINE)[0]
    return link.read()


def test_a_client_writes_and_reads(link: TcpLink) -> None:
    with call(link) as client:
        assert read(link) == b""  # it came
        client.sendall(b"ping")
        assert read(link) == b"ping"
        assert link.write(b"pong") == 4
        assert client.recv(16) == b"pong"


def test_the_next_client_has_it_when_the_first_has_gone(link: TcpLink) -> None:
    first = call(link)
    assert read(link) == b""
    with call(link) as second:
        second.sendall(b"me")
        assert not select.select([link], [], [], 0.05)[0], "the second one was heard too early"
        first.close()
        assert read(link) == b""  # the first one went
        assert read(link) == b""  # the second one came
        assert read(link) == b"me"


def test_what_is_written_to_nobody_is_lost_and_holds_nothing_up(link: TcpLink) -> None:
    assert link.write(b"x" * 1000) == 1000
    assert link.read() == b""


def test_a_client_that_does_not_read_fills_the_line_and_no_more(link: TcpLink) -> None:
    with call(link):
        read(link)
        while link.write(bytes(65_536)):
            pass
        assert link.write(b"x") == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:29536", ("127.0.0.1", 29536)), ("[::1]:0", ("::1", 0)), ("rack:1", ("rack", 1))],
)
def test_an_address(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "29536", ":29536", "rack:", "rack:x", "rack:65536", "rack:-1"]
)
def test_what_is_not_an_address_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT is accepted"):
        parse_address(text)
