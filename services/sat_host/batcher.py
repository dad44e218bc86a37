"""Frames into batches, inside a worker: numbered, bounded, and closed by count, bytes or age.

Any thread of the plugin may broadcast. One thread encodes and sends; while the host does not read, the
newest frames are kept and the dropped ones are counted. Numbers go on over dropped frames, so that a
receiver sees exactly how many are missing.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from sat_host import wire
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.stream_manager import StreamData, StreamType

MAX_FRAMES = 256
MAX_BYTES = 65_536
MAX_FRAME_BYTES = 131_072
MAX_WAITING = 16_384
AGE = 0.010
IDLE = 1.0


@dataclass
class _Stream:
    type: str
    channel: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    next_seq: int = 0  # of the next frame to be sent
    dropped: dict[str, int] = field(default_factory=dict)
    waiting: deque[StreamData] = field(default_factory=deque)
    lost_ahead: int = 0  # frames dropped since the last batch; they were the oldest
    sent_at: float = 0.0
    closed: bool = False

    def drop(self, cause: str, count: int = 1) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + count


class Batcher:
    """The sink of a driver's StreamManager in a worker.

    Args:
        device_id: names the thread.
        declared: the stream types that open as soon as acquisition starts.
        send: hands bytes to the host; blocks while the host does not read.
        announce: tells the host that a stream runs or has stopped: ``(type, stream id, running)``.
    """

    def __init__(
        self,
        device_id: str,
        declared: tuple[StreamType, ...],
        send: Callable[[bytes], None],
        announce: Callable[[str, str, bool], None],
    ) -> None:
        self._declared = declared
        self._send = send
        self._announce = announce
        self._streams: dict[str, _Stream] = {}
        self._channel = device_id
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"stream/{device_id}", daemon=True)

    def opened(self, channel: str) -> None:
        """StreamSink: acquisition starts."""
        with self._changed:
            self._channel = channel
            for kind in self._declared:
                self._open(kind.value, channel)

    def data(self, stream_data: StreamData) -> None:
        """StreamSink: one frame."""
        with self._changed:
            stream = self._streams.get(stream_data.stream_type.value)
            if stream is None or stream.closed:
                stream = self._open(stream_data.stream_type.value, stream_data.channel)
            if len(stream.waiting) >= MAX_WAITING:
                stream.waiting.popleft()
                stream.lost_ahead += 1
                stream.drop("worker")
            stream.waiting.append(stream_data)
            if len(stream.waiting) in (1, MAX_FRAMES):
                self._changed.notify()

    def closed(self, channel: str) -> None:  # noqa: ARG002 - StreamSink
        """StreamSink: acquisition ends; what waits goes out, then one empty batch."""
        with self._changed:
            for stream in self._streams.values():
                stream.closed = True
            self._changed.notify()
            self._changed.wait_for(lambda: not any(s.closed for s in self._streams.values()), timeout=1.0)

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _open(self, kind: str, channel: str) -> _Stream:
        if self._thread.ident is None:
            self._thread.start()
        stream = _Stream(kind, channel)
        stream.sent_at = time.monotonic()
        self._streams[kind] = stream
        self._announce(kind, stream.id, True)
        return stream

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                if not any(s.waiting or s.closed for s in self._streams.values()):
                    self._changed.wait(IDLE / 2)
                full = any(len(s.waiting) >= MAX_FRAMES or s.closed for s in self._streams.values())
                if not full and any(s.waiting for s in self._streams.values()):
                    self._changed.wait(AGE)
                streams = list(self._streams.values())
            for stream in streams:
                self._drain(stream)

    def _drain(self, stream: _Stream) -> None:
        with self._changed:
            closing = stream.closed
        while True:
            with self._changed:
                taken = [stream.waiting.popleft() for _ in range(min(len(stream.waiting), MAX_FRAMES))]
                stream.next_seq += stream.lost_ahead
                stream.lost_ahead = 0
            if not taken:
                break
            self._send_frames(stream, taken)
        if closing:
            self._flush(stream, [], time.time())
            self._announce(stream.type, stream.id, False)
            with self._changed:
                if self._streams.get(stream.type) is stream:
                    del self._streams[stream.type]
                self._changed.notify_all()
        elif time.monotonic() - stream.sent_at >= IDLE:
            self._flush(stream, [], time.time())

    def _send_frames(self, stream: _Stream, taken: list[StreamData]) -> None:
        """Frames as JSON, in batches of at most MAX_BYTES. One that cannot be sent is counted and ends a batch,
        so that the numbers show where it is missing."""
        frames: list[bytes] = []
        size, t0 = 0, 0.0
        for item in taken:
            text, problem = _encode(item)
            if frames and (problem or size + len(text) > MAX_BYTES):
                self._flush(stream, frames, t0)
                frames, size = [], 0
            if problem:
                stream.drop(problem)
                stream.next_seq += 1
                continue
            if not frames:
                t0 = item.timestamp
            frames.append(text)
            size += len(text)
        if frames:
            self._flush(stream, frames, t0)

    def _flush(self, stream: _Stream, frames: list[bytes], t0: float) -> None:
        header = {
            "type": stream.type,
            "stream": stream.id,
            "seq": stream.next_seq,
            "n": len(frames),
            "t0": t0,
            "dropped": dict(stream.dropped),
            "channel": stream.channel,
        }
        self._send(wire.pack_frames(header, b"[" + b",".join(frames) + b"]"))
        stream.next_seq += len(frames)
        stream.sent_at = time.monotonic()


def _encode(item: StreamData) -> tuple[bytes, str]:
    """The frame as JSON, or the cause of its loss. What a plugin broadcasts may be anything at all."""
    if not _is_time(item.timestamp):
        return b"", "bad_timestamp"
    try:
        text = orjson.dumps(frame_of(item))
    except Exception:  # noqa: BLE001 - a plugin's object may raise whatever it likes
        return b"", "not_json"
    return (b"", "oversize") if len(text) > MAX_FRAME_BYTES else (text, "")


def _is_time(value: Any) -> bool:
    """Whether `value` can be a time in seconds."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def frame_of(item: StreamData) -> dict[str, Any]:
    """A StreamData as a frame of the contract: a CAN frame flat, anything else with ``t data metadata``."""
    if item.stream_type is StreamType.CAN and isinstance(item.data, dict) and "id" in item.data:
        return {"t": item.timestamp, **jsonable(item.data)}
    frame = {"t": item.timestamp, "data": jsonable(item.data)}
    if item.metadata:
        frame["metadata"] = jsonable(item.metadata)
    return frame
