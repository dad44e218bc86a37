"""The simulated slcan adapter, asked as a program asks that opens its port."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

import can
import pytest

from plugins.devices.can.slcan_adapter import SlcanAdapter
from plugins.devices.pty_link import PtyLink


@pytest.fixture
def adapter(tmp_path: Path):
    """An adapter in this process, and the descriptor that a client would hold."""
    made = SlcanAdapter(PtyLink(tmp_path / "adapter"))
    client = os.open(tmp_path / "adapter", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    yield made, client
    os.close(client)
    made.close()


def ask(adapter: SlcanAdapter, client: int, command: bytes) -> tuple[list[can.Message], bytes]:
    """The frames and the reply that `command` leads to. The kernel may take a moment to carry bytes
    across a pty."""
    os.write(client, command)
    frames: list[can.Message] = []
    reply = b""
    ends: list[Any] = [adapter, client]
    while readable := select.select(ends, [], [], 0.1)[0]:
        if adapter in readable:
            frames += adapter.receive()
        if client in readable:
            reply += os.read(client, 4096)
    return frames, reply


def test_the_adapter_speaks_lawicel(adapter: tuple[SlcanAdapter, int]) -> None:
    device, client = adapter
    assert ask(device, client, b"V\rN\r")[1] == b"V1013\rNSAT1\r"
    assert ask(device, client, b"t1230\r") == ([], b"\a")  # the channel is closed
    assert ask(device, client, b"S9\rX\r")[1] == b"\a\a"
    assert ask(device, client, b"C\rS6\rO\r")[1] == b"\r\r\r"
    assert ask(device, client, b"O\rS5\r")[1] == b"\a\a"
    (frame,), reply = ask(device, client, b"t1232DEAD\r")
    assert (frame.arbitration_id, bytes(frame.data), reply) == (0x123, b"\xde\xad", b"z\r")
    (frame,), reply = ask(device, client, b"R000001238\r")
    assert (frame.is_remote_frame, frame.is_extended_id, frame.dlc, reply) == (
        True,
        True,
        8,
        b"Z\r",
    )
    assert ask(device, client, b"t1239\r") == ([], b"\a")
    assert ask(device, client, b"F\rC\r")[1] == b"F00\r\r"
    assert ask(device, client, b"L\rt1230\r") == ([], b"\r\a")  # listen only


def test_a_command_in_pieces_and_one_without_an_end(adapter: tuple[SlcanAdapter, int]) -> None:
    device, client = adapter
    ask(device, client, b"O\r")
    assert ask(device, client, b"t12") == ([], b"")
    assert len(ask(device, client, b"30\r")[0]) == 1
    assert ask(device, client, b"t" * 300)[1] == b"\a"


def test_a_client_that_does_not_read_costs_whole_frames_only(
    adapter: tuple[SlcanAdapter, int],
) -> None:
    device, client = adapter
    ask(device, client, b"O\r")
    frame = can.Message(arbitration_id=0x123, is_extended_id=False, data=bytes(8))
    sent = sum(device.send(frame) for _ in range(20_000))
    assert device.dropped == 20_000 - sent > 0
    received = b""
    while device.has_pending or not received.endswith(b"\r"):
        received += _read_all(client)
        device.flush()
    lines = (received + _read_all(client)).split(b"\r")
    assert lines == [b"t1238" + b"00" * 8] * sent + [b""]


def _read_all(descriptor: int) -> bytes:
    chunks = b""
    try:
        while chunk := os.read(descriptor, 65_536):
            chunks += chunk
    except BlockingIOError:
        return chunks
    return chunks
