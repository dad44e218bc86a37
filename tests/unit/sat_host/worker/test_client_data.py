"""Client data in a worker: fed in order on a thread of its own, what is lost told now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sat_host.wire_messages import Answer, InputFailed, Refusal, Up
from sat_host.worker import client_data
from sat_host.worker.client_data import INPUT_LENGTH, TOO_SLOW, Feeder
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import BadArgs, Code
from tests.waiting import Inbox, eventually

DEADLINE = 10.0
BLOCK = FrameBlock.pack([{"id": 1, "t": 1.0}])


class FakeRunner:
    """A driver that takes data, or refuses it, once `gate` is open."""

    def __init__(self) -> None:
        self.taken: Inbox[StreamData | FrameBlock] = Inbox()
        self.gate = threading.Event()
        self.gate.set()
        self.error: BadArgs | None = None

    def client_data(self, item: StreamData) -> None:
        self._take(item)

    def client_frames(self, block: FrameBlock) -> dict[str, Any]:
        self._take(block)
        return {"sent": len(block), "failed": []}

    def _take(self, item: StreamData | FrameBlock) -> None:
        assert self.gate.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        self.taken(item)


class FakeLink:
    def __init__(self) -> None:
        self.sent: Inbox[Up] = Inbox()

    def send(self, message: Up) -> None:
        self.sent(message)


class Rig:
    def __init__(self) -> None:
        self.runner = FakeRunner()
        self.link = FakeLink()
        self.feeder = Feeder(self.runner, "dev", self.link)  # type: ignore[arg-type]

    def fill(self) -> None:
        """Leave no room: one that the driver is busy with, and all that may wait."""
        self.runner.gate.clear()
        self.feeder.put_items("can", [{"id": 0}])
        assert eventually(self.feeder._inputs.empty)
        self.feeder.put_items("can", [{"id": 1}] * INPUT_LENGTH)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.runner.gate.set()
    assert eventually(lambda: not made.feeder._inputs.full())
    made.feeder.stop()
    made.feeder._thread.join(DEADLINE)


def item(rig: Rig, stream: str, value: dict[str, Any]) -> StreamData:
    rig.feeder.put_items(stream, [value])
    (taken,) = rig.runner.taken.wait()
    assert isinstance(taken, StreamData)
    return taken


def test_a_bare_frame_is_the_data(rig: Rig) -> None:
    taken = item(rig, "can", {"id": 5, "data": "00"})
    assert taken.timestamp > 1e9
    taken.timestamp = 0.0
    assert taken == StreamData(
        StreamType.CAN, "dev", 0.0, StreamSource.CLIENT, StreamAction.SEND, {"id": 5, "data": "00"}
    )


@pytest.mark.parametrize("wrapping", [{"action": "config"}, {"stream_type": "uart"}])
def test_a_stream_data_is_unwrapped(rig: Rig, wrapping: dict[str, str]) -> None:
    taken = item(rig, "odd", {**wrapping, "data": "x", "timestamp": 7, "metadata": {"a": 1}})
    action = StreamAction(wrapping.get("action", "send"))
    assert taken == StreamData(
        StreamType.CUSTOM, "dev", 7.0, StreamSource.CLIENT, action, "x", {"a": 1}
    )


def test_a_block_is_answered_when_it_is_sent(rig: Rig) -> None:
    rig.feeder.put_block(7, BLOCK)
    assert rig.link.sent.wait() == [Answer(7, {"sent": 1, "failed": []})]
    assert rig.runner.taken.items == [BLOCK]
    rig.runner.error = BadArgs("no")
    rig.feeder.put_block(8, BLOCK)
    assert rig.link.sent.wait(2)[1] == Refusal(8, Code.BAD_ARGS, "no", fatal=False)


def test_items_that_the_driver_refuses_are_told_together(rig: Rig) -> None:
    rig.runner.gate.clear()
    rig.runner.error = BadArgs("no")
    rig.feeder.put_items("can", [{"id": 1}] * 5)
    rig.runner.gate.set()
    told = rig.link.sent.wait_for(lambda sent: sum(event.n for event in sent) == 5)
    assert len(told) <= 2
    assert {(e.code, e.reason) for e in told} == {(Code.BAD_ARGS, "no")}


def test_a_driver_that_is_too_slow_costs_what_has_no_room(rig: Rig) -> None:
    rig.fill()
    rig.feeder.put_items("can", [{"id": 2}] * 3)
    rig.feeder.put_block(9, BLOCK)
    assert rig.link.sent.items == [Refusal(9, Code.BUSY, TOO_SLOW)]
    rig.runner.gate.set()
    assert rig.link.sent.wait(2)[1] == InputFailed(Code.BUSY, TOO_SLOW, 3)


def test_a_stop_that_finds_no_room_leaves_the_thread_to_its_process(rig: Rig) -> None:
    rig.fill()
    rig.feeder.stop()
    assert rig.feeder._thread.daemon


def test_its_thread_is_named_after_what_it_serves(rig: Rig) -> None:
    assert rig.feeder._thread.name == "input/dev"


def test_failures_are_told_so_often_at_the_most() -> None:
    failures = client_data._Failures()
    assert failures.due(100.0) is None
    failures.add(Code.BUSY, "a", 2)
    failures.add(Code.BAD_ARGS, "b", 3)
    assert failures.due(100.0) == InputFailed(Code.BAD_ARGS, "b", 5)
    failures.add(Code.BUSY, "c", 1)
    assert failures.due(100.05) is None
    assert failures.due(100.11) == InputFailed(Code.BUSY, "c", 1)
    assert failures.due(200.0) is None
