"""Batches on their way to the bus: a header completed, frames untouched, losses counted by who lost
them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sat_bus.contract import bin_batch
from sat_bus.contract.topics import Traffic
from sat_host.bus.stream_publisher import StreamPublisher
from sat_host.wire_messages import BatchHeader
from sat_toolkit.core.frame_block import FrameBlock

BOOT = "1700000000000-ab"
BLOCK = FrameBlock.pack([{"t": 1.0, "id": 1, "data": "00"}, {"t": 2.0, "id": 2}])


class FakeBus:
    """Keeps what is published, and drops it when it is told to."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, Traffic]] = []
        self.on_drop: list[Callable[[str], None]] = []

    def publish(
        self, topic: str, payload: bytes, *, traffic: Traffic, on_drop: Callable[[str], None]
    ) -> None:
        self.published.append((topic, payload, traffic))
        self.on_drop.append(on_drop)

    def header(self) -> dict[str, Any]:
        """Of the last batch, without its frames."""
        payload = self.published[-1][1]
        if payload.startswith(bin_batch.MAGIC):
            return bin_batch.decode(payload)[0]
        return {name: value for name, value in json.loads(payload).items() if name != "frames"}


class Rig:
    def __init__(self) -> None:
        self.bus = FakeBus()
        self.publisher = StreamPublisher(self.bus, "lab", "h1", BOOT)  # type: ignore[arg-type]

    def send(
        self,
        form: str = "json",
        run: str = "r1",
        kind: str = "can",
        device: str = "can0",
        **dropped: int,
    ) -> None:
        text = f'{{"stream":"{run}","seq":3,"n":2,"t0":1.5,"channel":"can0"'
        text += ',"size":24' if form == "bin" else ""
        header = BatchHeader(kind, form, run, 2, dropped, text.encode())
        frames = bytes(BLOCK.records) if form == "bin" else b'[{"id":1},{"id":2}]'
        self.publisher.publish("drv_a", device, header, frames)


def test_a_json_batch_is_completed_and_its_frames_pass_unread() -> None:
    rig = Rig()
    rig.send(kernel=5)
    ((topic, payload, traffic),) = rig.bus.published
    assert topic == "sat/1/lab/dev/h1/drv_a/can0/stream/can/json"
    assert traffic is Traffic.FRAMES
    assert json.loads(payload) == {
        "stream": "r1",
        "seq": 3,
        "n": 2,
        "t0": 1.5,
        "channel": "can0",
        "boot": BOOT,
        "dropped": {"kernel": 5},
        "frames": [{"id": 1}, {"id": 2}],
    }


def test_a_bin_batch_is_completed_and_its_records_pass_unread() -> None:
    rig = Rig()
    rig.send("bin")
    ((topic, payload, _),) = rig.bus.published
    assert topic == "sat/1/lab/dev/h1/drv_a/can0/stream/can/bin"
    header, block = bin_batch.decode(payload)
    assert bytes(block.records) == bytes(BLOCK.records)
    assert header == {
        "stream": "r1",
        "seq": 3,
        "n": 2,
        "t0": 1.5,
        "channel": "can0",
        "size": 24,
        "boot": BOOT,
        "dropped": {},
    }


def test_each_kind_has_a_topic_of_its_own() -> None:
    rig = Rig()
    rig.send(kind="can")
    rig.send(kind="uart")
    rig.send(kind="can")
    assert [topic.split("/stream/")[1] for topic, *_ in rig.bus.published] == [
        "can/json", "uart/json", "can/json",
    ]  # fmt: skip


def test_what_the_bus_drops_is_told_to_the_readers_of_that_form() -> None:
    rig = Rig()
    rig.send("json")
    rig.bus.on_drop[-1]("outbox")
    rig.bus.on_drop[-1]("outbox")
    rig.send("bin", kernel=1)
    assert rig.bus.header()["dropped"] == {"kernel": 1}
    rig.bus.on_drop[-1]("offline")
    rig.send("json", kernel=2)
    assert rig.bus.header()["dropped"] == {"kernel": 2, "outbox": 4}
    assert rig.publisher.dropped("drv_a", "can0") == {
        "can": {"kernel": 2, "outbox": 4, "offline": 2}
    }
    assert rig.publisher.totals() == {"outbox": 4, "offline": 2}


def test_a_cause_that_both_ends_know_is_one_sum() -> None:
    rig = Rig()
    rig.send(worker=3)
    rig.bus.on_drop[-1]("worker")
    rig.send(worker=3)
    assert rig.bus.header()["dropped"] == {"worker": 5}


def test_an_empty_batch_that_is_dropped_costs_nobody_a_frame() -> None:
    rig = Rig()
    text = b'{"stream":"r1","seq":0,"n":0,"t0":1.0,"channel":"can0"'
    rig.publisher.publish("drv_a", "can0", BatchHeader("can", "json", "r1", 0, {}, text), b"[]")
    rig.bus.on_drop[-1]("outbox")
    assert rig.publisher.totals() == {}
    assert rig.publisher.dropped("drv_a", "can0") == {"can": {}}


def test_a_new_run_begins_its_account_anew_and_the_totals_go_on() -> None:
    rig = Rig()
    rig.send(run="r1")
    late = rig.bus.on_drop[-1]
    late("outbox")
    rig.send(run="r2")
    assert rig.bus.header()["dropped"] == {}
    late("outbox")
    rig.send(run="r2")
    assert rig.bus.header()["dropped"] == {}, "what is lost of the run before is not this one's"
    assert rig.publisher.totals() == {"outbox": 4}


def test_a_device_that_is_forgotten_has_no_losses() -> None:
    rig = Rig()
    rig.send(kernel=1)
    rig.send(device="can1", kernel=2)
    rig.publisher.forget("drv_a", "can0")
    rig.publisher.forget("drv_a", "never")
    assert rig.publisher.dropped("drv_a", "can0") == {}
    assert rig.publisher.dropped("drv_a", "can1") == {"can": {"kernel": 2}}
