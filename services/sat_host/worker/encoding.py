"""What a driver broadcast, in the forms that travel: JSON frames and packed records, and the header
before them. PURE.

What a plugin broadcasts may be anything at all: what has no form is named by the cause of its loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from sat_toolkit.core.frame_block import CLASSIC, FrameBlock
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.stream_manager import StreamData, StreamType

MAX_BYTES = 65_536
MAX_FRAME_BYTES = 131_072


class Part(NamedTuple):
    """Frames that make one batch: index of the first in its run, how many, time of the first, the
    payload; and the bytes of a record, where they are records."""

    start: int
    n: int
    t0: float
    payload: bytes | memoryview
    size: int | None = None


@dataclass(frozen=True)
class Run:
    """Frames that follow one another without a gap: as JSON objects, as a block, or both.

    Attributes:
        forms: those in which it is sent; it is made ready for them only.
        texts: the JSON objects; of a block empty where only ``bin`` is sent.
        times: when each was captured, seconds since the epoch; none where a block tells.
    """

    n: int
    forms: tuple[str, ...]
    texts: list[bytes]
    times: list[float]
    block: FrameBlock | None = None

    def parts(self, form: str) -> Iterator[Part]:
        """Parts of at most MAX_BYTES."""
        if form == "bin":
            assert self.block is not None
            size = self.block.size
            most = MAX_BYTES // size
            for start in range(0, self.n, most):
                part = self.block[start : start + most]
                yield Part(start, len(part), part.t0, part.records, size)
            return
        start = length = 0
        for index, text in enumerate(self.texts):
            if index > start and length + len(text) > MAX_BYTES:
                yield self._json_part(start, index)
                start, length = index, 0
            length += len(text)
        yield self._json_part(start, self.n)

    def _json_part(self, start: int, end: int) -> Part:
        payload = b"[" + b",".join(self.texts[start:end]) + b"]"
        return Part(start, end - start, self._time(start), payload)

    def _time(self, index: int) -> float:
        return self.times[index] if self.block is None else self.block[index : index + 1].t0


def run_of_block(block: FrameBlock, forms: tuple[str, ...]) -> Run:
    """The frames of a block, made ready for `forms`."""
    return Run(len(block), forms, block.json_frames() if "json" in forms else [], [], block)


def empty(form: str, now: float) -> Part:
    """A batch without frames, which says that the stream is there."""
    return Part(0, 0, now, b"", CLASSIC) if form == "bin" else Part(0, 0, now, b"[]")


def header_text(run_id: str, channel: str, seq: int, part: Part, thinned: int) -> bytes:
    """The header of a batch as readers get it; its end, from ``dropped`` on, is the host's to
    add."""
    fields = {"stream": run_id, "seq": seq, "n": part.n, "t0": part.t0, "channel": channel}
    if thinned:
        fields["thinned"] = thinned
    if part.size is not None:
        fields["size"] = part.size
    return orjson.dumps(fields)[:-1]


def encode(item: StreamData, forms: tuple[str, ...]) -> tuple[bytes, FrameBlock | None, str]:
    """The frame as JSON and, where `forms` has ``bin``, as a block of one; or the cause of its
    loss."""
    if not _is_time(item.timestamp):
        return b"", None, "bad_timestamp"
    try:
        frame = frame_of(item)
        text = orjson.dumps(frame)
    except Exception:  # noqa: BLE001 - a plugin's object may raise whatever it likes
        return b"", None, "not_json"
    if len(text) > MAX_FRAME_BYTES:
        return b"", None, "oversize"
    if "bin" not in forms:
        return text, None, ""
    try:
        return text, FrameBlock.pack([frame]), ""
    except ValueError:
        return b"", None, "no_can_frame"


def frame_of(item: StreamData) -> dict[str, Any]:
    """A StreamData as a frame of the contract: a CAN frame flat, anything else with ``t data
    metadata``."""
    if item.stream_type is StreamType.CAN and isinstance(item.data, dict) and "id" in item.data:
        return {"t": item.timestamp, **jsonable(item.data)}
    frame = {"t": item.timestamp, "data": jsonable(item.data)}
    if item.metadata:
        frame["metadata"] = jsonable(item.metadata)
    return frame


def _is_time(value: Any) -> bool:
    """Whether `value` can be a time in seconds."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
