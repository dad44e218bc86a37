"""What clients may send to a device's stream."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import bin_batch, strict_json
from sat_host.bus.inputs import MAX_ITEMS, parse_bin_input, parse_input
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs, BadRequest, SatError


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ({"frames": [{"id": 1}, {"id": 2}]}, [{"id": 1}, {"id": 2}]),
        ({"frames": []}, []),
        ({"id": 291, "data": "00"}, [{"id": 291, "data": "00"}]),
        ({"action": "send", "data": 5}, [{"action": "send", "data": 5}]),
    ],
)
def test_each_form_gives_its_items(value: dict[str, Any], items: list[Any]) -> None:
    assert parse_input(strict_json.dumps(value)).args == {"items": items}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"frames": 1},
        {"frames": [1]},
        {"frames": [{}]},
        {"frames": [{"id": 1}] * (MAX_ITEMS + 1)},
        {"stream_type": "can"},
        {"action": "explode", "data": 1},
        {"action": ["send"], "data": 1},
        {"data": 1, "timestamp": "now"},
        {"data": 1, "timestamp": True},
        {"data": 1, "metadata": 3},
    ],
)
def test_what_is_no_data_is_refused_with_what_would_be(value: dict[str, Any]) -> None:
    with pytest.raises(BadArgs, match=r"accepted|number|object"):
        parse_input(strict_json.dumps(value))


@pytest.mark.parametrize("payload", [b"text", b"[]", b"5"])
def test_what_is_no_object_is_a_bad_request(payload: bytes) -> None:
    with pytest.raises(SatError) as refused:
        parse_input(payload)
    assert refused.value.code == "bad_request"


def test_a_thousand_items_are_accepted_and_no_more() -> None:
    items = [{"id": 1}] * 1000
    assert MAX_ITEMS == 1000
    assert len(parse_input(strict_json.dumps({"frames": items})).args["items"]) == 1000
    with pytest.raises(BadArgs, match="at most 1000"):
        parse_input(strict_json.dumps({"frames": [*items, {"id": 1}]}))


def test_client_data_may_take_a_quarter_of_a_mebibyte() -> None:
    frame = strict_json.dumps({"data": ""})
    full = strict_json.dumps({"data": "x" * (262_144 - len(frame))})
    assert len(full) == 262_144
    assert parse_input(full).args["items"][0]["data"]
    with pytest.raises(BadRequest):
        parse_input(full.replace(b"x", b"xx", 1))


def test_a_time_or_metadata_may_be_given() -> None:
    item = {"data": 1, "timestamp": 5, "metadata": {"a": 1}, "stream_type": "can"}
    assert parse_input(strict_json.dumps(item)).args["items"] == [item]
    assert parse_input(strict_json.dumps({"data": 1, "metadata": None}))


# -- bin ---------------------------------------------------------------------------------------


def batch(count: int = 2, **header: Any) -> bytes:
    block = FrameBlock.pack([{"t": 1.0, "id": n % 2048} for n in range(count)])
    head = {"n": count, "size": block.size, **header}
    return bin_batch.join(strict_json.dumps(head), bytes(block.records))


def test_frames_come_as_a_block() -> None:
    request = parse_bin_input(batch(stream="ours", seq=5))
    assert [frame["id"] for frame in request.args["block"].frames()] == [0, 1]
    assert set(request.args) == {"block"}
    assert (request.request_id, request.reply_to, request.timeout_ms) == (None, None, None)


def test_the_header_may_carry_an_envelope() -> None:
    envelope: dict[str, Any] = {
        "request_id": "r1",
        "reply_to": "sat/1/lab/reply/ann/1",
        "timeout_ms": 500,
    }
    request = parse_bin_input(batch(**envelope))
    assert (request.request_id, request.reply_to, request.timeout_ms) == (
        "r1",
        "sat/1/lab/reply/ann/1",
        500,
    )
    with pytest.raises(BadRequest, match="timeout_ms"):
        parse_bin_input(batch(timeout_ms=0))


def test_so_many_frames_are_accepted_in_a_batch() -> None:
    assert len(parse_bin_input(batch(bin_batch.MAX_FRAMES)).args["block"]) == bin_batch.MAX_FRAMES
    with pytest.raises(BadArgs, match=f"at most {bin_batch.MAX_FRAMES} are accepted"):
        parse_bin_input(batch(bin_batch.MAX_FRAMES + 1))


def test_a_payload_that_is_too_large_is_not_even_read() -> None:
    with pytest.raises(BadRequest, match=f"at most {bin_batch.MAX_BYTES} are accepted"):
        parse_bin_input(b"x" * (bin_batch.MAX_BYTES + 1))
    with pytest.raises(BadRequest) as refused:
        parse_bin_input(b"x" * bin_batch.MAX_BYTES)
    assert "are accepted" not in str(refused.value)
