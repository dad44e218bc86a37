"""Frames into batches, inside a worker: numbered, bounded, and closed by count, bytes or age.

Any thread of the plugin may broadcast. While the host does not read, the newest frames are kept and
the dropped ones are counted. Numbers go on over dropped frames, so that a receiver sees exactly
where how many are missing.

Single frames are gathered and sent by one thread. A block that its driver has gathered is sent by
the caller itself when nothing waits before it and the host reads: one thread less on the way of
most frames.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from sat_host.delivery import Delivery, DeliveryChanges, Thinner
from sat_host.wire_messages import Acquiring, BatchHeader, StreamChanged
from sat_host.worker.encoding import Part, Run, empty, encode, header_text, run_of_block
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamData, StreamType

MAX_FRAMES = 1024
MAX_WAITING = 65_536
MAX_WAITING_BYTES = 8 * 1_048_576
IDLE = 1.0
CLOSE_DEADLINE = 1.0
_ITEM_BYTES = 512  # what a StreamData and its dict take, about


@dataclass(frozen=True)
class _Gap:
    """Frames that the driver knows to be lost, at their place in the stream."""

    count: int
    cause: str


@dataclass
class _OpenStream:
    kind: str
    channel: str
    run_id: str = field(default_factory=lambda: os.urandom(6).hex())
    next_seq: int = 0  # of the next frame to be sent
    dropped: dict[str, int] = field(default_factory=dict)
    thinned: int = 0
    waiting: deque[StreamData | FrameBlock | _Gap] = field(default_factory=deque)
    frames: int = 0  # how many wait
    bytes: int = 0
    lost_ahead: int = 0  # frames dropped since the last batch; they were the oldest
    sent_at: float = 0.0
    closed: bool = False

    def drop(self, cause: str, count: int = 1) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + count

    def append(self, item: StreamData | FrameBlock | _Gap) -> None:
        """Queue `item`; what is too much falls out at the other end."""
        frames, size = _measure(item)
        while self.waiting and (
            self.frames + frames > MAX_WAITING or self.bytes + size > MAX_WAITING_BYTES
        ):
            oldest = self.popleft()
            if not isinstance(oldest, _Gap):
                count = _measure(oldest)[0]
                self.lost_ahead += count
                self.drop("worker", count)
        self.waiting.append(item)
        self.frames += frames
        self.bytes += size

    def popleft(self) -> StreamData | FrameBlock | _Gap:
        """The oldest that waits; a gap is accounted for."""
        item = self.waiting.popleft()
        frames, size = _measure(item)
        self.frames -= frames
        self.bytes -= size
        if isinstance(item, _Gap):
            self.lost_ahead += item.count
            self.drop(item.cause, item.count)
        return item

    def pass_gaps(self) -> None:
        """Account for the gaps before what waits, and number on over them."""
        while self.waiting and isinstance(self.waiting[0], _Gap):
            self.popleft()
        self.next_seq += self.lost_ahead
        self.lost_ahead = 0


class BatchLink(Protocol):
    """The way to the host, as `worker.link` has it."""

    def ready(self) -> bool: ...

    def send(self, message: Acquiring | StreamChanged) -> None: ...

    def send_batch(self, header: BatchHeader, frames: bytes | memoryview) -> None: ...


class Batcher:
    """The sink of a driver's StreamManager in a worker.

    Args:
        device_id: names the thread.
        declared: the stream types that open as soon as acquisition starts.
        delivery: how streams are delivered where a start says nothing else.

    It is made on the thread of the calls: off that one it is the driver that ends a stream,
    whatever call runs meanwhile.
    """

    def __init__(
        self,
        device_id: str,
        declared: tuple[StreamType, ...],
        link: BatchLink,
        delivery: Delivery,
    ) -> None:
        self._declared = declared
        self._link = link
        self._defaults = self._delivery = delivery
        self._thinner: Thinner | None = None
        self._streams: dict[str, _OpenStream] = {}
        self._channel = device_id
        self._caller = threading.get_ident()
        self._ended_itself = False
        self._changed = threading.Condition()
        # Who numbers and sends; taken before `_changed`, or without waiting.
        self._sending = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"stream/{device_id}", daemon=True)

    def deliver(self, changes: DeliveryChanges) -> float:
        """Deliver as a start says from now on; how long frames may be gathered, in seconds.

        While streams run, formats are added and all else is as the newest says.
        """
        with self._changed:
            running = any(not stream.closed for stream in self._streams.values())
            known = self._delivery if running else self._defaults
            self._delivery = delivery = known.with_changes(changes, running=running)
            if not running or changes.max_hz is not None:
                self._thinner = None if delivery.max_hz is None else Thinner(delivery.max_hz)
            return delivery.window_ms / 1000

    def opened(self, channel: str) -> None:
        """StreamSink: acquisition starts."""
        self._link.send(Acquiring(True))
        with self._changed:
            self._channel = channel
            for kind in self._declared:
                self._open(kind.value, channel)

    def data(self, stream_data: StreamData) -> None:
        """StreamSink: one frame."""
        with self._changed:
            stream = self._of(stream_data.stream_type.value, stream_data.channel)
            thinner = self._thinner if stream_data.stream_type is StreamType.CAN else None
            if thinner is not None and not self._passes(thinner, stream_data):
                stream.thinned += 1
                return
            self._append(stream, stream_data)

    def block(self, channel: str, block: FrameBlock) -> None:
        """StreamSink: CAN frames in one piece."""
        with self._changed:
            stream = self._of(StreamType.CAN.value, channel)
            if self._thinner is not None:
                kept = self._thinner.thin(block)
                stream.thinned += len(block) - len(kept)
                block = kept
            if not block.records:
                return
            if not self._takes_now(stream, block):
                for start in range(0, len(block), MAX_FRAMES):
                    self._append(stream, block[start : start + MAX_FRAMES])
                return
        try:
            self._send_run(stream, run_of_block(block, self._delivery.forms_of(stream.kind)))
        finally:
            self._sending.release()

    def lost(self, channel: str, count: int, cause: str) -> None:
        """StreamSink: frames were lost before the next ones."""
        with self._changed:
            self._of(StreamType.CAN.value, channel).append(_Gap(count, cause))

    def closed(self, channel: str) -> None:  # noqa: ARG002 - StreamSink
        """StreamSink: acquisition ends; what waits goes out, then one empty batch."""
        self._ended_itself = threading.get_ident() != self._caller
        deadline = time.monotonic() + CLOSE_DEADLINE
        with self._changed:
            for stream in self._streams.values():
                stream.closed = True
            self._changed.notify()
            while (left := deadline - time.monotonic()) > 0 and self._closing:
                self._changed.wait(left)
        self._link.send(Acquiring(False))

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    @property
    def _closing(self) -> bool:
        return any(stream.closed for stream in self._streams.values())

    def _of(self, kind: str, channel: str) -> _OpenStream:
        stream = self._streams.get(kind)
        return self._open(kind, channel) if stream is None or stream.closed else stream

    def _open(self, kind: str, channel: str) -> _OpenStream:
        if self._thread.ident is None:
            self._thread.start()
        stream = _OpenStream(kind, channel)
        stream.sent_at = time.monotonic()
        self._streams[kind] = stream
        self._link.send(StreamChanged(kind, stream.run_id, running=True))
        return stream

    def _append(self, stream: _OpenStream, item: StreamData | FrameBlock) -> None:
        before = stream.frames
        stream.append(item)
        if not before or before < MAX_FRAMES <= stream.frames:
            self._changed.notify()

    def _takes_now(self, stream: _OpenStream, block: FrameBlock) -> bool:
        """Whether the caller may send `block` itself, and has the right to: a batch of its own is
        worth it, nothing waits, nobody else sends, the host reads."""
        soon = time.monotonic() - stream.sent_at < self._delivery.window_ms / 2000
        if soon and len(block) < MAX_FRAMES // 4:
            return False
        if stream.frames or not self._sending.acquire(blocking=False):
            return False
        if not self._link.ready():
            self._sending.release()
            return False
        stream.pass_gaps()
        return True

    @staticmethod
    def _passes(thinner: Thinner, item: StreamData) -> bool:
        arbitration_id = item.data.get("id") if isinstance(item.data, dict) else None
        known = isinstance(arbitration_id, int) and isinstance(item.timestamp, int | float)
        return not known or thinner.passes(arbitration_id, item.timestamp)  # type: ignore[arg-type]

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                if not any(s.waiting or s.closed for s in self._streams.values()):
                    self._changed.wait(IDLE / 2)
                full = any(s.frames >= MAX_FRAMES or s.closed for s in self._streams.values())
                if not full and any(s.waiting for s in self._streams.values()):
                    self._changed.wait(self._delivery.window_ms / 1000)
                streams = list(self._streams.values())
            for stream in streams:
                with self._sending:
                    self._drain(stream)

    def _drain(self, stream: _OpenStream) -> None:
        with self._changed:
            closing = stream.closed
        while (items := self._take(stream)) is not None:
            forms = self._delivery.forms_of(stream.kind)
            runs = (
                [run_of_block(items, forms)]
                if isinstance(items, FrameBlock)
                else _runs(stream, items, forms)
            )
            for run in runs:
                self._send_run(stream, run)
        if closing:
            self._send_empty(stream)
            self._link.send(
                StreamChanged(stream.kind, stream.run_id, False, by_itself=self._ended_itself)
            )
            with self._changed:
                if self._streams.get(stream.kind) is stream:
                    del self._streams[stream.kind]
                self._changed.notify_all()
        elif time.monotonic() - stream.sent_at >= IDLE:
            self._send_empty(stream)

    def _take(self, stream: _OpenStream) -> FrameBlock | list[StreamData] | None:
        """What waits first: blocks of one kind as one, or single frames; at most MAX_FRAMES. None:
        nothing waits."""
        with self._changed:
            stream.pass_gaps()
            if not stream.waiting:
                return None
            if isinstance(stream.waiting[0], FrameBlock):
                return _taken_blocks(stream)
            items: list[StreamData] = []
            while (
                stream.waiting
                and len(items) < MAX_FRAMES
                and isinstance(stream.waiting[0], StreamData)
            ):
                items.append(stream.popleft())  # type: ignore[arg-type]
            return items

    def _send_run(self, stream: _OpenStream, run: Run) -> None:
        for form in run.forms:
            for part in run.parts(form):
                self._send_batch(stream, form, part)
        stream.next_seq += run.n

    def _send_empty(self, stream: _OpenStream) -> None:
        for form in self._delivery.forms_of(stream.kind):
            self._send_batch(stream, form, empty(form, time.time()))

    def _send_batch(self, stream: _OpenStream, form: str, part: Part) -> None:
        seq = stream.next_seq + part.start
        text = header_text(stream.run_id, stream.channel, seq, part, stream.thinned)
        dropped = dict(stream.dropped)
        header = BatchHeader(stream.kind, form, stream.run_id, part.n, dropped, text)
        self._link.send_batch(header, part.payload)
        stream.sent_at = time.monotonic()


def _measure(item: StreamData | FrameBlock | _Gap) -> tuple[int, int]:
    """Frames, and about how many bytes they take."""
    if isinstance(item, FrameBlock):
        return len(item), len(item.records)
    if isinstance(item, _Gap):
        return 0, _ITEM_BYTES
    return 1, _ITEM_BYTES + (
        len(item.data) if isinstance(item.data, str | bytes | bytearray) else 0
    )


def _taken_blocks(stream: _OpenStream) -> FrameBlock:
    """The blocks of one kind that wait first, joined."""
    first = stream.popleft()
    assert isinstance(first, FrameBlock)
    records, frames = [first.records], len(first)
    while stream.waiting:
        following = stream.waiting[0]
        if not isinstance(following, FrameBlock) or following.size != first.size:
            break
        frames += len(following)
        if frames > MAX_FRAMES:
            break
        stream.popleft()
        records.append(following.records)
    return FrameBlock(b"".join(records), first.size)


def _runs(stream: _OpenStream, items: list[StreamData], forms: tuple[str, ...]) -> Iterator[Run]:
    """`items` as runs. A frame that cannot be sent is counted and numbered over, which ends a run;
    so does a record of another size. Each run is sent before the next is asked for."""
    texts: list[bytes] = []
    times: list[float] = []
    blocks: list[FrameBlock] = []
    for item in items:
        text, block, problem = encode(item, forms)
        if texts and (problem or (block is not None and block.size != blocks[0].size)):
            yield _run(texts, times, blocks, forms)
            texts, times, blocks = [], [], []
        if problem:
            stream.drop(problem)
            stream.next_seq += 1
            continue
        texts.append(text)
        times.append(float(item.timestamp))
        if block is not None:
            blocks.append(block)
    if texts:
        yield _run(texts, times, blocks, forms)


def _run(
    texts: list[bytes], times: list[float], blocks: list[FrameBlock], forms: tuple[str, ...]
) -> Run:
    packed = (
        FrameBlock(b"".join([block.records for block in blocks]), blocks[0].size)
        if blocks
        else None
    )
    return Run(len(texts), forms, texts, times, packed)
