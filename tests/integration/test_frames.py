"""CAN frames through a host with its real worker: forms, numbers, losses, delivery, and frames to
the device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import bin_batch, topics
from sat_toolkit.core.frame_block import FrameBlock
from tests.integration.hosting import Watcher, connected_device

PLUGINS = Path(__file__).parent / "frames"


@pytest.fixture
def device() -> Iterator[Watcher]:
    with connected_device(PLUGINS) as (_, watcher):
        yield watcher


def received(watcher: Watcher, form: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The batches of one form: each header, and its frames."""
    row = topics.STREAM_BIN if form == "bin" else topics.STREAM_JSON
    topic = watcher.topic(row, "a", stream="can")
    found = []
    for message in list(watcher.messages):
        if message.topic == topic:
            if form == "bin":
                header, block = bin_batch.decode(message.payload)
                found.append((header, list(block.frames())))
            else:
                header = json.loads(message.payload)
                found.append((header, header.pop("frames")))
    return found


def numbers(watcher: Watcher, form: str) -> list[int]:
    return [int(frame["data"], 16) for _, frames in received(watcher, form) for frame in frames]


def start(watcher: Watcher, delivery: dict[str, Any] | None = None, **args: Any) -> dict[str, Any]:
    return watcher.command(
        "a", "start", {**args, **({} if delivery is None else {"stream": delivery})}
    )


def emit(watcher: Watcher, first: int, count: int, **args: Any) -> None:
    assert watcher.command("a", "emit", {"first": first, "count": count, **args})["status"] == "ok"


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("forms", [["json"], ["bin"], ["json", "bin"]])
def test_frames_arrive_in_the_forms_that_a_start_names_and_in_no_other(
    device: Watcher, forms: list[str], single: bool
) -> None:
    start(device, {"formats": forms})
    emit(device, 0, 3000, single=single)
    for form in forms:
        device.wait(lambda form=form: len(numbers(device, form)) >= 3000, f"frames as {form}")
        assert numbers(device, form) == list(range(3000))
        batches = received(device, form)
        assert [h["seq"] for h, _ in batches if h["n"]] == [
            sum(h["n"] for h, _ in batches[:i]) for i, (h, _) in enumerate(batches) if h["n"]
        ]
        assert {h["stream"] for h, _ in batches} == {device.status("a")["streams"]["can"]["stream"]}
        assert batches[0][1][0]["t"] == 1000.0
    for form in {"json", "bin"} - set(forms):
        assert received(device, form) == []


def test_the_plugin_does_not_see_the_delivery_and_the_description_does(device: Watcher) -> None:
    assert start(device, {"window_ms": 50}, own=1)["result"] == {"own": 1}
    assert device.command("a", "window")["result"] == 0.05
    meta = device.json(device.topic(topics.DEVICE_META, "a"))
    assert set(meta["commands"]["start"]["parameters"]["properties"]["stream"]["properties"]) == {
        "formats", "window_ms", "max_hz",
    }  # fmt: skip
    device.command("a", "stop")
    start(device)
    assert device.command("a", "window")["result"] == 0.01


@pytest.mark.parametrize(
    "delivery",
    [
        {"formats": []},
        {"formats": ["xml"]},
        {"window_ms": 0},
        {"max_hz": 0},
        {"max_hz": {"x": 1}},
        {"a": 1},
        5,
    ],
)
def test_a_delivery_that_makes_no_sense_is_refused_and_nothing_starts(
    device: Watcher, delivery: Any
) -> None:
    reply = device.command("a", "start", {"stream": delivery})
    assert reply["code"] == "bad_args"
    assert "accepted: formats, window_ms, max_hz" in reply["message"]
    assert not device.status("a")["acquiring"]


def test_losses_that_the_driver_reports_are_numbered_over_and_shown(device: Watcher) -> None:
    start(device, {"formats": ["json", "bin"]})
    emit(device, 0, 10)
    emit(device, 17, 5, lost=7)
    for form in ("json", "bin"):
        device.wait(lambda form=form: len(numbers(device, form)) == 15, "the frames")
        last = [header for header, frames in received(device, form) if frames][-1]
        assert last["seq"] + last["n"] == 22
        assert last["dropped"] == {"kernel": 7}
    device.wait(
        lambda: device.status("a")["streams"]["can"].get("dropped") == {"kernel": 7},
        "the loss in the status",
    )


def test_a_loss_with_nothing_after_it_is_told_all_the_same(device: Watcher) -> None:
    start(device)
    emit(device, 0, 0, lost=9)
    device.wait(
        lambda: any(
            h["dropped"] == {"kernel": 9} and h["seq"] == 9 for h, _ in received(device, "json")
        ),
        "it",
    )


def test_a_second_start_adds_a_form_to_the_stream_that_runs(device: Watcher) -> None:
    start(device)
    emit(device, 0, 10)
    device.wait(lambda: len(numbers(device, "json")) == 10, "json")
    start(device, {"formats": ["bin"]})
    emit(device, 10, 10)
    device.wait(
        lambda: len(numbers(device, "json")) == 20 and len(numbers(device, "bin")) == 10, "both"
    )
    (json_stream,) = {h["stream"] for h, _ in received(device, "json")}
    ((header, _), *_) = [batch for batch in received(device, "bin") if batch[1]]
    assert (header["stream"], header["seq"]) == (json_stream, 10)


def test_frames_of_an_id_go_out_no_more_often_than_asked_for(device: Watcher) -> None:
    start(device, {"max_hz": {"0x1": 50, "2": 100}})
    emit(device, 0, 1000)  # one a millisecond: each of four ids 250 times a second
    device.wait(lambda: numbers(device, "json")[-1:] == [999], "the last frame")
    ids = [frame["id"] for _, frames in received(device, "json") for frame in frames]
    assert {i: ids.count(i) for i in range(4)} == {0: 250, 1: 50, 2: 84, 3: 250}
    emit(device, 1000, 1000, single=True)
    device.wait(lambda: numbers(device, "json")[-1:] == [1999], "the last frame")
    last = [header for header, _ in received(device, "json")][-1]
    assert last["dropped"] == {}
    assert last["thinned"] == 2000 - len(numbers(device, "json"))


def test_a_batch_of_frames_for_the_device_is_answered_with_what_became_of_each(
    device: Watcher,
) -> None:
    reply_to = "sat/1/lab/reply/tester/bin"
    frames = [{"t": 0.0, "id": i, "data": "00"} for i in (1, 0x666, 3)]
    payload = bin_batch.encode({"request_id": "one", "reply_to": reply_to}, FrameBlock.pack(frames))
    topic = device.topic(topics.INPUT_BIN, "a", stream="can", client="tester")
    device.bus.publish(topic, payload)
    device.wait(lambda: reply_to in device.latest, "the answer")
    reply = device.json(reply_to)
    assert reply["result"] == {"sent": 2, "failed": [{"index": 1, "reason": "not this one"}]}
    assert [frame["id"] for frame in device.command("a", "sent")["result"]] == [1, 3]
    device.bus.publish(topic, payload)  # the same request again: answered, and not run again
    device.wait(lambda: sum(m.topic == reply_to for m in device.messages) == 2, "the answer again")
    assert len(device.command("a", "sent")["result"]) == 2


def test_frames_that_nobody_asks_about_are_told_of_when_they_fail(device: Watcher) -> None:
    payload = bin_batch.encode({}, FrameBlock.pack([{"t": 0.0, "id": 0x666, "data": "00"}]))
    device.bus.publish(device.topic(topics.INPUT_BIN, "a", stream="can"), payload)
    events = device.topic(topics.DEVICE_EVENT, "a")
    device.wait(lambda: device.json(events).get("event") == "input_failed", "the event")
    assert (device.json(events)["n"], device.json(events)["reason"]) == (1, "not this one")


@pytest.mark.parametrize(
    ("payload", "stream", "code"),
    [
        (b"no batch", "can", "bad_request"),
        (bin_batch.encode({}, FrameBlock(b"\0" * 24 * 4097)), "can", "bad_args"),
        (bin_batch.encode({"request_id": "ä"}, FrameBlock(b"")), "can", "bad_request"),
        (bin_batch.encode({}, FrameBlock(b"")), "uart", "bad_args"),
    ],
)
def test_what_is_no_batch_of_frames_is_refused(
    device: Watcher, payload: bytes, stream: str, code: str
) -> None:
    device.bus.publish(device.topic(topics.INPUT_BIN, "a", stream=stream), payload)
    answer = device.topic(topics.DEVICE_REPLY, "a", command="in")
    device.wait(lambda: answer in device.latest, "a refusal")
    assert device.json(answer)["code"] == code
