"""The notice of CAN links that come and go; the messages are encoded as the kernel does."""

from __future__ import annotations

import struct

import pytest

from plugins.devices.can.hotplug import RTM_DELLINK, RTM_NEWLINK, concerns_can, watch_links

ETHERNET, CAN = 1, 280


def link_message(kind: int, hardware: int, attributes: bytes = b"") -> bytes:
    body = struct.pack("=BxHiII", 0, hardware, 7, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize("kind", [RTM_NEWLINK, RTM_DELLINK])
def test_a_can_link_is_noticed_also_behind_another(kind: int) -> None:
    name = struct.pack("=HH", 9, 3) + b"eth0\0\0\0\0"
    assert concerns_can(link_message(kind, CAN))
    assert concerns_can(link_message(RTM_NEWLINK, ETHERNET, name) + link_message(kind, CAN))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 64,
        link_message(RTM_NEWLINK, ETHERNET),
        link_message(20, CAN),
        link_message(16, CAN)[:20],
    ],
)
def test_other_messages_and_noise_are_not(data: bytes) -> None:
    assert not concerns_can(data)


def test_nothing_happens_within_the_time_given() -> None:
    watch = watch_links()
    try:
        assert watch.wait(0.05) is False
    finally:
        watch.close()
