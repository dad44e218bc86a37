"""Batches on their way from a worker to the bus: the header is completed, the frames are not read.

Called on the multiplexer's thread; drops are reported from the bus's threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sat_bus.contract import bin_batch, strict_json, topics
from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Bus


@dataclass
class _StreamLosses:
    """What is known of a device's stream of one type: the driver's and worker's losses, and by form
    those of the bus and the topic."""

    id: str
    before: dict[str, int] = field(default_factory=dict)
    bus: dict[str, dict[str, int]] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)


class StreamPublisher:
    """Publishes the batches of a host's devices, and counts what the bus had to drop."""

    def __init__(self, bus: Bus, site: str, host: str, boot: str) -> None:
        self._bus = bus
        self._site = site
        self._host = host
        self._boot = boot
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

    def publish(self, driver: str, device: str, header: dict[str, Any], frames: bytes) -> None:
        """Send one batch. `header` is the worker's: type, format, stream, seq, n, t0, dropped,
        channel."""
        kind, form, count = header.pop("type"), header.pop("format"), header["n"]
        stream, dropped = self._account((driver, device), kind, form, header)
        header |= {"boot": self._boot, "dropped": dropped}
        if form == "bin":
            payload = bin_batch.join(header, frames)
        else:
            payload = strict_json.dumps(header)[:-1] + b',"frames":' + frames + b"}"
        self._bus.publish(
            stream.topics.get(form) or self._topic(stream, form, driver, device, kind),
            payload,
            traffic=Traffic.FRAMES,
            on_drop=lambda cause: self._lost(stream, form, cause, count),
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
        self, device: tuple[str, str], kind: str, form: str, header: dict[str, Any]
    ) -> tuple[_StreamLosses, dict[str, int]]:
        """The stream that a batch belongs to, and all that a reader of this form has lost of it."""
        with self._lock:
            streams = self._streams.setdefault(device, {})
            stream = streams.get(kind)
            if stream is None or stream.id != header["stream"]:
                stream = streams[kind] = _StreamLosses(header["stream"])
            stream.before = header["dropped"]
            return stream, _sum([stream.before, stream.bus.get(form, {})])

    def _lost(self, stream: _StreamLosses, form: str, cause: str, count: int) -> None:
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
