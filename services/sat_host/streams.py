"""Batches on their way from a worker to the bus: the header is completed, the frames are not read.

Called on the multiplexer's thread; drops are reported from the bus's threads.
"""

from __future__ import annotations

import threading
from typing import Any

from sat_bus import strict_json, topics
from sat_bus.port import Bus
from sat_bus.topics import Traffic

_Key = tuple[str, str, str]


class StreamPublisher:
    """Publishes the batches of a host's devices, and counts what the bus had to drop."""

    def __init__(self, bus: Bus, site: str, host: str, boot: str) -> None:
        self._bus = bus
        self._site = site
        self._host = host
        self._boot = boot
        self._lock = threading.Lock()
        self._dropped: dict[_Key, tuple[str, dict[str, int]]] = {}
        self._total: dict[str, int] = {}

    def totals(self) -> dict[str, int]:
        """Frames dropped here since start, by cause."""
        with self._lock:
            return dict(self._total)

    def publish(self, driver: str, device: str, header: dict[str, Any], frames: bytes) -> None:
        """Send one batch. `header` is the worker's: type, stream, seq, n, t0, dropped, channel."""
        key = (driver, device, header["type"])
        stream, count = header["stream"], header["n"]
        head = {
            "stream": stream,
            "boot": self._boot,
            "seq": header["seq"],
            "n": count,
            "t0": header["t0"],
            "dropped": self._merged(key, stream, header["dropped"]),
            "channel": header["channel"],
        }
        payload = strict_json.dumps(head)[:-1] + b',"frames":' + frames + b"}"
        topic = topics.STREAM_JSON.build(self._site, host=self._host, driver=driver, device=device, stream=key[2])
        self._bus.publish(
            topic,
            payload,
            traffic=Traffic.FRAMES,
            on_drop=lambda cause: self._lost(key, stream, cause, count),
        )

    def _merged(self, key: _Key, stream: str, dropped: dict[str, int]) -> dict[str, int]:
        with self._lock:
            known, ours = self._dropped.get(key, ("", {}))
            if known != stream:
                self._dropped[key] = (stream, {})
                return dropped
            return {**dropped, **ours}

    def _lost(self, key: _Key, stream: str, cause: str, count: int) -> None:
        if not count:
            return
        with self._lock:
            self._total[cause] = self._total.get(cause, 0) + count
            known, ours = self._dropped.get(key, ("", {}))
            if known == stream:
                ours[cause] = ours.get(cause, 0) + count
