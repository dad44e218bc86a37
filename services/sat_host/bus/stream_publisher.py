"""Batches on their way from a worker to the bus: what the host knows is added to the header; neither
that nor the frames are read.

Called on the multiplexer's thread; drops are reported from the bus's threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial

import orjson

from sat_bus.contract import bin_batch, topics
from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Bus
from sat_host.wire_messages import BatchHeader


@dataclass
class _StreamLosses:
    """What is known of a device's stream of one type: the driver's and worker's losses, and by form
    those of the bus and the topic."""

    run_id: str
    before: dict[str, int] = field(default_factory=dict)
    bus: dict[str, dict[str, int]] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)


class StreamPublisher:
    """Publishes the batches of a host's devices, and counts what the bus had to drop."""

    def __init__(self, bus: Bus, site: str, host: str, boot: str) -> None:
        self._bus = bus
        self._site = site
        self._host = host
        self._boot = b',"boot":' + orjson.dumps(boot) + b',"dropped":'
        self._lock = threading.Lock()
        self._streams: dict[tuple[str, str], dict[str, _StreamLosses]] = {}
        self._total: dict[str, int] = {}

    def totals(self) -> dict[str, int]:
        """Frames dropped here since start, by cause."""
        with self._lock:
            return dict(self._total)

    def dropped(self, driver: str, device: str) -> dict[str, dict[str, int]]:
        """Frames lost of each of a device's present streams, by type and cause, wherever they were
        lost."""
        with self._lock:
            return {
                kind: _sum([stream.before, *stream.bus.values()])
                for kind, stream in self._streams.get((driver, device), {}).items()
            }

    def publish(self, driver: str, device: str, header: BatchHeader, frames: bytes) -> None:
        """Send one batch."""
        form = header.form
        stream, dropped = self._account((driver, device), header)
        text = header.text + self._boot + orjson.dumps(dropped)
        if form == "bin":
            payload = bin_batch.join(text + b"}", frames)
        else:
            payload = b"".join((text, b',"frames":', frames, b"}"))
        self._bus.publish(
            stream.topics.get(form) or self._topic(stream, form, driver, device, header.kind),
            payload,
            traffic=Traffic.FRAMES,
            on_drop=partial(self._lost, stream, form, header.n),
        )

    def forget(self, driver: str, device: str) -> None:
        """The device is no more."""
        with self._lock:
            self._streams.pop((driver, device), None)

    def _topic(self, stream: _StreamLosses, form: str, driver: str, device: str, kind: str) -> str:
        row = topics.STREAM_BIN if form == "bin" else topics.STREAM_JSON
        topic = row.build(self._site, host=self._host, driver=driver, device=device, stream=kind)
        stream.topics[form] = topic
        return topic

    def _account(
        self, device: tuple[str, str], header: BatchHeader
    ) -> tuple[_StreamLosses, dict[str, int]]:
        """The stream that a batch belongs to, and all that a reader of its form has lost of it."""
        with self._lock:
            streams = self._streams.setdefault(device, {})
            stream = streams.get(header.kind)
            if stream is None or stream.run_id != header.run_id:
                stream = streams[header.kind] = _StreamLosses(header.run_id)
            stream.before = header.dropped
            return stream, _sum([stream.before, stream.bus.get(header.form, {})])

    def _lost(self, stream: _StreamLosses, form: str, count: int, cause: str) -> None:
        if not count:
            return
        with self._lock:
            self._total[cause] = self._total.get(cause, 0) + count
            ours = stream.bus.setdefault(form, {})
            ours[cause] = ours.get(cause, 0) + count


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for cause, count in part.items():
            total[cause] = total.get(cause, 0) + count
    return total
