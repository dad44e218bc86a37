"""TCP ports: a free one, and who holds one that is taken."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sat_cli.brokers.tcp_ports import check_free, find_free_port, holder
from sat_toolkit.errors import ConfigError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_can_be_listened_at() -> None:
    port = find_free_port()
    check_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        pass
    check_free("127.0.0.1", port)  # as a server that starts again would


def test_a_taken_port_says_by_whom_and_what_to_do(taken: int) -> None:
    assert holder(taken) == f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"
    with pytest.raises(ConfigError, match="choose another with --port") as caught:
        check_free("127.0.0.1", taken)
    assert f"port {taken} of 127.0.0.1 is taken by " in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)


def test_nobody_holds_a_free_port() -> None:
    assert holder(find_free_port()) is None


def test_who_only_speaks_from_a_port_does_not_hold_it(taken: int) -> None:
    with socket.create_connection(("127.0.0.1", taken)) as client:
        assert holder(client.getsockname()[1]) is None


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1883"):
        check_free("192.0.2.1", 1883)
