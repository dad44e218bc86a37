"""Waiting for netlink messages, with a datagram socket of the test's in place of the kernel's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from plugins.devices.netlink_watch import NetlinkWatch


class Watch(NetlinkWatch):
    """What the kernel would send comes from `kernel`."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE, 0, lambda data: data == b"matters")
        self.kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        os.dup2(ours.fileno(), self.fileno())
        ours.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.kernel.close()
    made.close()


def test_a_message_that_matters_ends_the_wait(watch: Watch) -> None:
    watch.kernel.send(b"noise")
    watch.kernel.send(b"matters")
    assert watch.wait(10.0)


def test_what_does_not_matter_is_passed_over(watch: Watch) -> None:
    watch.kernel.send(b"noise")
    assert not watch.wait(0.01)


def test_what_is_drained_wakes_nobody(watch: Watch) -> None:
    watch.kernel.send(b"matters")
    watch.drain()
    assert not watch.wait(0.01)


def test_a_group_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="not supported"):
        NetlinkWatch(31, 1, bool)
