"""Streams between a driver and whoever listens: data out through a sink, client data in by a queue.

Each driver instance has one `StreamManager`; the `StreamWrapper` is the driver's handle on it.
Nothing here knows a transport: whoever runs the driver sets `StreamManager.sink`. Everything may be
called from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from sat_toolkit.core.frame_block import FrameBlock

CLIENT_QUEUE_LENGTH = 1024
WINDOW = 0.010


class StreamType(StrEnum):
    UART = "uart"
    CAN = "can"
    SPI = "spi"
    I2C = "i2c"
    CUSTOM = "custom"


class StreamSource(StrEnum):
    CLIENT = "client"
    SERVER = "server"
    SYSTEM = "system"


class StreamAction(StrEnum):
    DATA = "data"
    SEND = "send"
    CONFIG = "config"
    STATUS = "status"
    ERROR = "error"


# Not frozen: one is made for each frame, and a frozen dataclass costs about three times as much to
# make.
@dataclass(slots=True)
class StreamData:
    """One piece of a stream.

    `channel` is the device's id, `timestamp` the time of capture in seconds since the epoch, `data`
    and `metadata` whatever the stream type carries.
    """

    stream_type: StreamType
    channel: str
    timestamp: float
    source: StreamSource
    action: StreamAction
    data: Any
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """A dict under the field names, enums as their values; `data` is left as it is."""
        return {
            "stream_type": str(self.stream_type),
            "channel": self.channel,
            "timestamp": self.timestamp,
            "source": str(self.source),
            "action": str(self.action),
            "data": self.data,
            "metadata": self.metadata,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StreamData:
        """What `to_dict` described.

        Raises:
            KeyError: a field is missing.
            ValueError: a type, source or action that does not exist.
        """
        return cls(
            StreamType(plain["stream_type"]),
            str(plain["channel"]),
            float(plain["timestamp"]),
            StreamSource(plain["source"]),
            StreamAction(plain["action"]),
            plain["data"],
            plain.get("metadata"),
        )


class StreamSink(Protocol):
    """Where a driver's streams go. Called on the driver's threads: be quick, never raise."""

    def opened(self, channel: str) -> None: ...

    def data(self, stream_data: StreamData) -> None: ...

    def block(self, channel: str, block: FrameBlock) -> None: ...

    def lost(self, channel: str, count: int, cause: str) -> None: ...

    def closed(self, channel: str) -> None: ...


class FrameByFrame(StreamSink, Protocol):
    """A sink that takes the frames of a block one at a time, by `data`, and keeps no account of
    losses."""

    def block(self, channel: str, block: FrameBlock) -> None:
        for stream_data in unpacked(channel, block, StreamSource.SERVER, StreamAction.DATA):
            self.data(stream_data)

    def lost(self, channel: str, count: int, cause: str) -> None:  # noqa: ARG002 - StreamSink
        """Nothing is kept."""
        return


def unpacked(
    channel: str, block: FrameBlock, source: StreamSource, action: StreamAction
) -> Iterator[StreamData]:
    """The frames of a block, each as a StreamData."""
    for frame in block.frames():
        yield StreamData(StreamType.CAN, channel, frame.pop("t"), source, action, frame)


class StreamManager:
    """The open channels of one driver instance, and the data that clients sent to its device.

    Attributes:
        window: seconds for which a driver that reads in blocks may gather frames before it
            broadcasts them.
    """

    def __init__(self) -> None:
        self.window = WINDOW
        self.client_data_dropped = 0
        self.unregistered_dropped = 0
        self._sink: StreamSink | None = None
        self._channels: set[str] = set()
        self._lock = threading.Lock()
        self._client_data: deque[StreamData] = deque()
        self._has_client_data = threading.Condition()

    @property
    def sink(self) -> StreamSink | None:
        return self._sink

    @sink.setter
    def sink(self, sink: StreamSink | None) -> None:
        """Set the sink, and tell it of the channels that are open already."""
        with self._lock:
            self._sink = sink
            already_open = sorted(self._channels)
        if sink is not None:
            for channel in already_open:
                sink.opened(channel)

    @property
    def channels(self) -> frozenset[str]:
        """The open channels."""
        with self._lock:
            return frozenset(self._channels)

    def register_stream(self, channel: str) -> bool:
        """Open `channel`; False when it was open."""
        with self._lock:
            if channel in self._channels:
                return False
            self._channels.add(channel)
            sink = self._sink
        if sink is not None:
            sink.opened(channel)
        return True

    def unregister_stream(self, channel: str) -> bool:
        """Close `channel`; False when it was closed."""
        with self._lock:
            if channel not in self._channels:
                return False
            self._channels.discard(channel)
            sink = self._sink
        if sink is not None:
            sink.closed(channel)
        return True

    def broadcast_data(self, stream_data: StreamData) -> bool:
        """Hand `stream_data` to the sink; False when its channel is closed (counted and
        dropped)."""
        is_open, sink = self._sink_of(stream_data.channel, 1)
        if sink is not None:
            sink.data(stream_data)
        return is_open

    def broadcast_frames(self, channel: str, block: FrameBlock) -> bool:
        """Hand CAN frames to the sink; False when the channel is closed (counted and dropped)."""
        is_open, sink = self._sink_of(channel, len(block))
        if sink is not None and len(block):
            sink.block(channel, block)
        return is_open

    def report_lost(self, channel: str, count: int, cause: str) -> None:
        """Tell the sink that `count` frames were lost before the next ones, to `cause`."""
        _, sink = self._sink_of(channel, 0)
        if sink is not None and count > 0:
            sink.lost(channel, count, cause)

    def _sink_of(self, channel: str, frames: int) -> tuple[bool, StreamSink | None]:
        """Whether `channel` is open, and where `frames` frames for it go; on a closed one they are
        counted."""
        with self._lock:
            if channel in self._channels:
                return True, self._sink
            self.unregistered_dropped += frames
            return False, None

    def put_client_data(self, stream_data: StreamData) -> bool:
        """Queue what a client sent; False when the queue was full and its oldest entry was
        dropped."""
        with self._has_client_data:
            full = len(self._client_data) >= CLIENT_QUEUE_LENGTH
            if full:
                self._client_data.popleft()
                self.client_data_dropped += 1
            self._client_data.append(stream_data)
            self._has_client_data.notify()
            return not full

    def get_client_data(self, timeout: float = 0.0) -> StreamData | None:
        """The next StreamData that a client sent; None when none came within `timeout` seconds."""
        with self._has_client_data:
            if not self._client_data and timeout > 0:
                self._has_client_data.wait_for(lambda: bool(self._client_data), timeout)
            return self._client_data.popleft() if self._client_data else None


class StreamWrapper:
    """A driver's handle on its `StreamManager`."""

    def __init__(self, manager: StreamManager) -> None:
        self._manager = manager

    @property
    def window(self) -> float:
        """Seconds for which frames may be gathered before they are broadcast as a block."""
        return self._manager.window

    def register_stream(self, channel: str) -> bool:
        """Open `channel`; broadcasts to a channel that is not open are dropped and counted."""
        return self._manager.register_stream(channel)

    def unregister_stream(self, channel: str) -> bool:
        """Close `channel`."""
        return self._manager.unregister_stream(channel)

    def stop_broadcast(self, channel: str) -> bool:
        """Close `channel`: another name of `unregister_stream`."""
        return self._manager.unregister_stream(channel)

    def broadcast_data(
        self, channel: str | StreamData, stream_data: StreamData | None = None
    ) -> bool:
        """Send one StreamData: ``broadcast_data(stream_data)`` or ``broadcast_data(channel,
        stream_data)``.

        Synchronous, from any thread. Returns False when the channel is not open.

        Raises:
            TypeError: no StreamData was given.
        """
        if stream_data is None:
            if not isinstance(channel, StreamData):
                raise TypeError(f"broadcast_data takes a StreamData, not {type(channel).__name__}")
            return self._manager.broadcast_data(channel)
        if isinstance(channel, str) and stream_data.channel != channel:
            stream_data = replace(stream_data, channel=channel)
        return self._manager.broadcast_data(stream_data)

    def broadcast_frames(self, channel: str, block: FrameBlock) -> bool:
        """Send CAN frames that were captured one after the other, without an object for each.

        Synchronous, from any thread, of which one sends at a time. Returns False when the channel
        is not open.
        """
        return self._manager.broadcast_frames(channel, block)

    def report_lost(self, channel: str, count: int, cause: str) -> None:
        """Say that `count` CAN frames were lost right before those that are broadcast next.

        The stream's numbers go on over them, so that receivers see where they are missing, and its
        ``dropped`` names the cause, a word such as ``kernel``.
        """
        self._manager.report_lost(channel, count, cause)
