"""Cyclic frames on a thread: due in time, counted, replaced, and one that fails harms no other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import can
import pytest

from plugins.devices.can.cyclic import ThreadCyclic, cyclic_sender, key_of
from sat_toolkit.errors import CommandFailed
from tests.waiting import eventually

PERIOD = 0.002


class Bus:
    """Takes frames; one with an id in `fails` raises what is there."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.fails: dict[int, Exception] = {}
        self.tried: Counter[int] = Counter()

    def send(self, message: can.Message) -> None:
        self.tried[message.arbitration_id] += 1
        if error := self.fails.get(message.arbitration_id):
            raise error
        self.sent[message.arbitration_id] += 1


def frame(number: int, data: bytes = b"") -> can.Message:
    return can.Message(arbitration_id=number, is_extended_id=False, data=data)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def cyclic(bus: Bus) -> Iterator[ThreadCyclic]:
    made = ThreadCyclic(bus.send, "test/cyclic")
    yield made
    made.close()


def test_a_counted_frame_is_sent_so_often_and_forgotten(bus: Bus, cyclic: ThreadCyclic) -> None:
    assert cyclic.start(frame(1), PERIOD, 3) is False
    assert eventually(lambda: cyclic.describe() == [])
    assert bus.sent == {1: 3}


def test_frames_go_out_side_by_side_until_they_are_stopped(bus: Bus, cyclic: ThreadCyclic) -> None:
    cyclic.start(frame(1), PERIOD, None)
    cyclic.start(frame(2), PERIOD, None)
    assert eventually(lambda: min(bus.sent[1], bus.sent[2]) >= 3)
    assert cyclic.stop(key_of(frame(1))) == 1
    stopped_at = bus.sent[1]
    after = bus.sent[2]
    assert eventually(lambda: bus.sent[2] >= after + 3)
    assert bus.sent[1] <= stopped_at + 1  # one may have been on its way
    assert cyclic.stop(None) == 1


def test_a_frame_of_the_same_id_replaces_the_one_before(bus: Bus, cyclic: ThreadCyclic) -> None:
    cyclic.start(frame(1, b"\x01"), 60.0, None)
    assert cyclic.start(frame(1, b"\x02"), 60.0, 5) is True
    assert eventually(lambda: cyclic.describe()[0]["sent"] == 1)
    (shown,) = cyclic.describe()
    assert (shown["data"], shown["period_ms"], shown["count"]) == ("02", 60_000, 5)


def test_a_busy_bus_is_tried_again_and_counted(bus: Bus, cyclic: ThreadCyclic) -> None:
    bus.fails[1] = CommandFailed("busy")
    cyclic.start(frame(1), PERIOD, None)
    assert eventually(lambda: bus.tried[1] >= 3)
    del bus.fails[1]
    assert eventually(lambda: bus.sent[1] >= 1)
    assert cyclic.describe()[0]["failed"] >= 3


def test_a_dead_bus_ends_that_frame_alone_and_says_why(bus: Bus, cyclic: ThreadCyclic) -> None:
    bus.fails[1] = OSError("no such device")
    cyclic.start(frame(1), PERIOD, None)
    cyclic.start(frame(2), PERIOD, None)
    assert eventually(lambda: bus.sent[2] >= 3)
    shown = {item["id"]: item for item in cyclic.describe()}
    assert (shown[1]["error"], bus.tried[1]) == ("no such device", 1)
    assert "error" not in shown[2]
    assert cyclic.stop(None) == 1  # the failed one had ended already


def test_deadlines_that_were_missed_are_skipped_and_not_made_up_for() -> None:
    period, missed, after = 0.02, 20, 6
    times: list[float] = []

    def send(message: can.Message) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            threading.Event().wait(missed * period)  # the bus is stuck for so long

    slow = ThreadCyclic(send, "test/slow")
    slow.start(frame(1), period, after + 1)
    assert eventually(lambda: slow.describe() == [])
    slow.close()
    assert times[-1] - times[1] >= (after - 2) * period


def test_a_bus_that_is_not_socketcan_is_served_by_the_thread(bus: Bus) -> None:
    with can.Bus("cyclic", interface="virtual") as virtual:
        sender = cyclic_sender(virtual, bus.send, "test/cyclic")
        assert isinstance(sender, ThreadCyclic)
        sender.close()
