"""What a client may send to ``in/<stream>/json`` and ``in/<stream>/bin``. PURE."""

from __future__ import annotations

from typing import Any

from sat_bus.contract import bin_batch, messages, strict_json
from sat_bus.contract.messages import Request
from sat_toolkit.core.stream_manager import StreamAction
from sat_toolkit.errors import BadArgs, BadRequest

MAX_BYTES = 262_144
MAX_ITEMS = 1_000
_ENVELOPE = ("request_id", "reply_to", "timeout_ms")
_ACCEPTED = (
    'accepted: a batch {"frames": [{...}]}, a StreamData {"action": "send", "data": ...}, or one frame '
    '{"id": 291, "data": "deadbeef"}'
)


def parse_input(payload: bytes) -> Request:
    """The items for the device, as ``args["items"]`` of a request that names no reply topic.

    Raises:
        BadRequest: no JSON object.
        BadArgs: an object of another form than those that are accepted.
    """
    value = strict_json.loads(payload, max_bytes=MAX_BYTES)
    if not isinstance(value, dict):
        raise BadRequest(f"a JSON object is needed, this is a {type(value).__name__}; {_ACCEPTED}")
    frames = value.get("frames")
    if frames is None:
        items: list[Any] = [value]
    elif isinstance(frames, list) and len(frames) <= MAX_ITEMS:
        items = frames
    else:
        raise BadArgs(f"frames: a list of at most {MAX_ITEMS} objects is needed; {_ACCEPTED}")
    for index, item in enumerate(items):
        _check(index, item)
    return Request(args={"items": items})


def parse_bin_input(payload: bytes) -> Request:
    """The frames for the device, as ``args["block"]`` of a request. The header of a batch may carry
    an envelope's ``request_id``, ``reply_to`` and ``timeout_ms`` here; all else in it is ignored.

    Raises:
        BadRequest: no bin batch.
        BadArgs: too many frames.
    """
    if len(payload) > bin_batch.MAX_BYTES:
        raise BadRequest(
            f"payload of {len(payload)} bytes; at most {bin_batch.MAX_BYTES} are accepted"
        )
    header, block = bin_batch.decode(payload)
    if len(block) > bin_batch.MAX_FRAMES:
        raise BadArgs(
            f"{len(block)} frames; at most {bin_batch.MAX_FRAMES} are accepted in one batch"
        )
    envelope = {name: header[name] for name in _ENVELOPE if name in header}
    plain = messages.parse_request(strict_json.dumps({"args": {}, **envelope}))
    return plain.model_copy(update={"args": {"block": block}})


def _check(index: int, item: Any) -> None:
    if not isinstance(item, dict) or not item:
        raise BadArgs(f"item {index}: an object with something in it is needed; {_ACCEPTED}")
    if "stream_type" in item and "data" not in item:
        raise BadArgs(f"item {index}: a StreamData needs data; {_ACCEPTED}")
    if "action" in item and item["action"] not in tuple(StreamAction):
        raise BadArgs(
            f"item {index}: action {str(item['action'])[:40]!r}; accepted: {', '.join(StreamAction)}"
        )
    timestamp = item.get("timestamp", 0.0)
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise BadArgs(f"item {index}: timestamp is a number of seconds since the epoch")
    if not isinstance(item.get("metadata") or {}, dict):
        raise BadArgs(f"item {index}: metadata is an object")
