"""The messages between a host and its workers: each as bytes, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_host import wire
from sat_host.delivery import Delivery, DeliveryChanges
from sat_host.wire import Decoder, WireError
from sat_host.wire_messages import (
    Acquiring,
    AcquisitionFailed,
    Answer,
    Asked,
    BatchHeader,
    CommandSpec,
    Configure,
    Describe,
    Description,
    Down,
    DriverReported,
    EventsDropped,
    Exit,
    Halt,
    HardwareChanged,
    InputFailed,
    Ping,
    Pong,
    Refusal,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    StreamBatch,
    StreamChanged,
    TakeInput,
    Up,
    WorkerLimits,
)
from sat_toolkit.core.frame_block import CLASSIC, FD, FrameBlock
from sat_toolkit.errors import Code

CALL_7 = b"\x00\x00\x00\x07"
HEADER = BatchHeader("can", "bin", "4f2a", 2, {"kernel": 5}, b'{"seq":3')

# Each message, the byte that says which it is, and its body.
GOLDEN_DOWN: list[tuple[Down, int, bytes]] = [
    (
        Configure(
            "drv_a", "can", "/p/drv_a.py", {"bitrate": 500}, WorkerLimits(64, 8, 32, 3.5),
            Delivery(("bin",), 20, {"0x10": 5}), {"device_id": "can0"},
        ),
        0,
        b'{"driver":"drv_a","family":"can","path":"/p/drv_a.py","info":{"bitrate":500},'
        b'"limits":{"memory_mb":64,"processes":8,"files":32,"silence_s":3.5},'
        b'"delivery":{"formats":["bin"],"window_ms":20,"max_hz":{"0x10":5}},'
        b'"device":{"device_id":"can0"}}',
    ),
    (Asked(7, Describe()), 1, CALL_7 + b"{}"),
    (Asked(7, Scan()), 2, CALL_7 + b"{}"),
    (Asked(7, RunHook("connect")), 3, CALL_7 + b'{"hook":"connect"}'),
    (
        Asked(7, RunCommand("send", {"id": 2**70})),
        4,
        CALL_7 + b'{"command":"send","args":{"id":1180591620717411303424},"delivery":null}',
    ),
    (
        Asked(7, RunCommand("start", {}, DeliveryChanges(("json", "bin"), None, 2.5))),
        4,
        CALL_7 + b'{"command":"start","args":{},'
        b'"delivery":{"formats":["json","bin"],"window_ms":null,"max_hz":2.5}}',
    ),
    (
        Asked(7, SendFrames(FrameBlock(b"x" * FD, FD))),
        5,
        CALL_7 + b"\x50" + b"x" * FD,
    ),
    (TakeInput("can", [{"id": 1}]), 6, b'{"stream":"can","items":[{"id":1}]}'),
    (Halt(), 7, b"{}"),
    (Ping(), 8, b"{}"),
    (Exit(), 9, b"{}"),
]  # fmt: skip
GOLDEN_UP: list[tuple[Up, int, bytes]] = [
    (Answer(7, {"sent": [1]}), 32, b'{"call":7,"result":{"sent":[1]}}'),
    (
        Refusal(7, Code.BAD_ARGS, "no", fatal=True),
        33,
        b'{"call":7,"code":"bad_args","message":"no","fatal":true}',
    ),
    (Pong(), 34, b"{}"),
    (HardwareChanged(), 35, b"{}"),
    (Acquiring(on=True), 36, b'{"on":true}'),
    (
        StreamChanged("can", "4f2a", running=False, by_itself=True),
        37,
        b'{"kind":"can","run_id":"4f2a","running":false,"by_itself":true}',
    ),
    (AcquisitionFailed("it died"), 38, b'{"reason":"it died"}'),
    (InputFailed(Code.BUSY, "slow", 3), 39, b'{"code":"busy","reason":"slow","n":3}'),
    (DriverReported("moved", {"x": 1}), 40, b'{"name":"moved","data":{"x":1}}'),
    (EventsDropped(7), 41, b'{"n":7}'),
    (
        StreamBatch(HEADER, b"records"),
        42,
        b'\x00\x00\x00\x02\x01\x01\x00\x12\x00\x1e\x00\x00\x00\x264f2a{"kernel":5}{"seq":3records',
    ),
]
GOLDEN = [*GOLDEN_DOWN, *GOLDEN_UP]


def framed(tag: int, body: bytes) -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([tag]) + body


def decoded(data: bytes) -> list[Any]:
    return list(Decoder[Any](wire.DOWN | wire.UP).feed(data))


@pytest.mark.parametrize(("message", "tag", "body"), GOLDEN, ids=lambda value: type(value).__name__)
def test_each_message_is_these_bytes_and_comes_back_from_them(
    message: Any, tag: int, body: bytes
) -> None:
    assert wire.encode(message) == framed(tag, body)
    assert decoded(framed(tag, body)) == [message]


def test_no_message_is_without_its_golden_bytes() -> None:
    assert {tag for _, tag, _ in GOLDEN_DOWN} == set(wire.DOWN)
    assert {tag for _, tag, _ in GOLDEN_UP} == set(wire.UP)


def test_each_end_takes_only_what_is_meant_for_it() -> None:
    with pytest.raises(WireError, match="tag 9"):
        list(Decoder[Up](wire.UP).feed(wire.encode(Exit())))
    with pytest.raises(WireError, match="tag 34"):
        list(Decoder[Down](wire.DOWN).feed(wire.encode(Pong())))


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.integers(-(2**70), 2**70)), max_size=5),
    st.integers(1, 40),
)
def test_messages_survive_any_cutting_of_the_byte_stream(
    values: list[dict[str, int]], size: int
) -> None:
    messages = [DriverReported("x", value) for value in values]
    data = b"".join(wire.encode(message) for message in messages)
    decoder = Decoder[Up](wire.UP)
    received: list[Up] = []
    for start in range(0, len(data), size):
        received += decoder.feed(data[start : start + size])
    assert received == messages


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**18, 10**19])
def test_integers_are_exact_however_large(number: int) -> None:
    assert decoded(wire.encode(Answer(1, number))) == [Answer(1, number)]


def test_half_a_surrogate_which_a_configuration_may_hold_is_kept() -> None:
    message = DriverReported("x", {"a": "\ud800"})
    assert decoded(wire.encode(message)) == [message]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x00\x22",
        b"\xff\xff\xff\xff\x22",
        (wire.MAX_MESSAGE + 1).to_bytes(4, "big") + b"\x22",
        b"\x00\x00\x00\x02\x63{",
    ],
)
def test_a_prefix_that_no_message_has_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="bad prefix"):
        decoded(data)


@pytest.mark.parametrize(
    ("tag", "body", "complaint"),
    [
        (34, b"", "Pong: "),
        (34, b"{", "Pong: "),
        (34, b"[" * 100_000, "Pong: maximum recursion depth"),
        (34, b"[1]", "Pong: an object is needed, this is list"),
        (34, b'{"at":1}', "Pong: at is unknown"),
        (41, b"{}", "EventsDropped: n is missing"),
        (41, b'{"n":"7"}', "EventsDropped.n: int is needed, this is str"),
        (41, b'{"n":true}', "EventsDropped.n: int is needed, this is bool"),
        (41, b'{"n":null}', "EventsDropped.n: int is needed, this is NoneType"),
        (36, b'{"on":1}', "Acquiring.on: bool is needed, this is int"),
        (33, b'{"call":1,"code":"odd","message":""}', "Refusal.code: 'odd' is not a Code"),
        (33, b'{"call":1,"code":5,"message":""}', "Refusal.code: Code is needed, this is int"),
        (40, b'{"name":"x","data":[]}', "DriverReported.data: dict.* is needed, this is list"),
        (6, b'{"stream":"can","items":[{},3]}', r"TakeInput.items\[1\]: dict.* this is int"),
        (6, b'{"stream":"can","items":{}}', "TakeInput.items: list.* is needed, this is dict"),
        (3, b"\x00\x00", "RunHook: its number is cut off"),
        (3, CALL_7 + b'{"hook":3}', "RunHook.hook: str is needed, this is int"),
        (
            4,
            CALL_7 + b'{"command":"a","args":{},"delivery":{"max_hz":{"1":"x"}}}',
            "RunCommand.delivery.max_hz.1: float is needed, this is str",
        ),
        (
            4,
            CALL_7 + b'{"command":"a","args":{},"delivery":{"formats":"bin"}}',
            "RunCommand.delivery.formats: .* is needed, this is str",
        ),
        (5, CALL_7, "SendFrames: "),
        (5, CALL_7 + b"\x09" + b"x" * 9, "SendFrames: records of 9 bytes; 24 or 80 are accepted"),
        (5, CALL_7 + b"\x18x", "SendFrames: 1 bytes are no whole number of records"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(tag: int, body: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decoded(framed(tag, body))


BATCH = GOLDEN_UP[-1][2]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "StreamBatch: "),
        (BATCH[:37], "its header is cut off"),
        (BATCH[:7] + b"\x05" + BATCH[8:], "its header is cut off"),
        (BATCH[:4] + b"\x09" + BATCH[5:], "StreamBatch: tuple index out of range"),
        (BATCH[:5] + b"\x02" + BATCH[6:], "StreamBatch: tuple index out of range"),
        (BATCH.replace(b"4f2a", b"4f2\xff"), "StreamBatch: 'utf-8' codec"),
        (BATCH.replace(b'{"kernel":5}', b'{"kernel":x}'), "StreamBatch: "),
        (BATCH.replace(b'{"kernel":5}', b'{"kern":0.5}'), "StreamBatch.dropped.kern: int"),
        (BATCH.replace(b'{"kernel":5}', b"[]          "), "StreamBatch.dropped: dict.* list"),
    ],
)
def test_what_is_wrong_with_a_batch_is_said(body: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decoded(framed(42, body))


def test_a_batch_keeps_its_frames_unread() -> None:
    header = BatchHeader("uart", "json", "", 0, {}, b"{")
    frames = memoryview(b'[{"id":1}]')
    assert decoded(wire.encode_batch(header, frames)) == [StreamBatch(header, bytes(frames))]


def test_what_is_too_large_is_refused_by_the_sender() -> None:
    room = wire.MAX_MESSAGE - len(wire.encode(AcquisitionFailed(""))) + 4
    assert decoded(wire.encode(AcquisitionFailed("x" * room)))
    with pytest.raises(WireError, match="at most 1048576 are accepted"):
        wire.encode(AcquisitionFailed("x" * (room + 1)))
    with pytest.raises(WireError, match="at most"):
        wire.encode_batch(HEADER, b"x" * wire.MAX_MESSAGE)
    with pytest.raises(WireError, match="the header of a batch is too large"):
        wire.encode_batch(BatchHeader("can", "bin", "x" * 65_536, 0, {}, b"{"), b"")


def test_what_json_has_no_form_for_is_refused_by_the_sender() -> None:
    with pytest.raises(TypeError):
        wire.encode(Answer(1, object()))


def test_what_a_description_says_is_read_to_its_last_field() -> None:
    spec = CommandSpec("moves it", {"type": "object"}, 500)
    description = Description({"move": spec, "stop": CommandSpec("", {})}, ["can"], 2.5)
    plain = orjson.loads(orjson.dumps(description))
    assert wire.read(Description, plain, "answer") == description
    plain["commands"]["stop"]["timeout_ms"] = 1.5
    with pytest.raises(WireError, match=r"answer\.commands\.stop\.timeout_ms: .* is float"):
        wire.read(Description, plain, "answer")


def test_a_block_of_frames_keeps_its_size() -> None:
    block = FrameBlock(bytes(2 * CLASSIC))
    assert decoded(wire.encode(Asked(1, SendFrames(block)))) == [Asked(1, SendFrames(block))]
