"""What a driver broadcast, in the forms that travel: JSON frames and packed records. PURE.

What a plugin broadcasts may be anything at all: what has no form is named by the cause of its loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.stream_manager import StreamData, StreamType

MAX_BYTES = 65_536
MAX_FRAME_BYTES = 131_072


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

    def parts(self, form: str) -> Iterator[tuple[int, int, float, bytes | memoryview]]:
        """Parts of at most MAX_BYTES: index of the first frame, how many, time of the first, the
        payload."""
        if form == "bin":
            assert self.block is not None
            most = MAX_BYTES // self.block.size
            for start in range(0, self.n, most):
                part = self.block[start : start + most]
                yield start, len(part), part.t0, part.records
            return
        start = size = 0
        for index, text in enumerate(self.texts):
            if index > start and size + len(text) > MAX_BYTES:
                yield (
                    start,
                    index - start,
                    self._time(start),
                    b"[" + b",".join(self.texts[start:index]) + b"]",
                )
                start, size = index, 0
            size += len(text)
        yield start, self.n - start, self._time(start), b"[" + b",".join(self.texts[start:]) + b"]"

    def _time(self, index: int) -> float:
        return self.times[index] if self.block is None else self.block[index : index + 1].t0


def run_of_block(block: FrameBlock, forms: tuple[str, ...]) -> Run:
    """The frames of a block, made ready for `forms`."""
    return Run(len(block), forms, block.json_frames() if "json" in forms else [], [], block)


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
