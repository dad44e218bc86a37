"""What flows on a bench while it runs: frames and losses by device, who connected when, the
verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sat_cli.device_text import reason
from sat_client import DeviceState, Key, Rack, Received, Watch

_WINDOW = 1.0  # seconds over which a rate is measured
_QUEUE = 20_000
_BURST = 2_000  # batches taken in one turn
_UP = (DeviceState.CONNECTED, DeviceState.ACTIVE)


@dataclass
class Flow:
    """The frames of one device: totals, and the rate of the last second (None before there was
    one).

    `dropped` are those that the host counted as lost, `missed` those that were lost after it.
    """

    frames: int = 0
    missed: int = 0
    dropped: int = 0
    per_second: float | None = None
    _window_start: float = field(default=0.0, repr=False)
    _window_frames: int = field(default=0, repr=False)

    @property
    def lost(self) -> int:
        return self.missed + self.dropped

    def add(self, received: Received) -> None:
        self.frames += received.batch.n
        self._window_frames += received.batch.n
        self.missed += received.lost_after
        self.dropped += received.missed - received.lost_after

    def tick(self, now: float) -> None:
        if now - self._window_start >= _WINDOW:
            if self._window_start:
                self.per_second = self._window_frames / (now - self._window_start)
            self._window_start, self._window_frames = now, 0


class Monitor:
    """Follows all streams of a site from their beginning, so make it before the hosts start.

    Args:
        rack: open.
        started: when the bench was started, on `clock`.
        expected: ids of the devices that have to connect and to send frames.
    """

    def __init__(
        self,
        rack: Rack,
        started: float,
        expected: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected = expected
        self.rack = rack
        self.flows: dict[Key, Flow] = {}
        self.connected_after: dict[Key, float] = {}
        self._clock = clock
        self._started = started
        self._first_frame: float | None = None
        self._watch: Watch = rack.watch(capacity=_QUEUE, from_start=True)

    def turn(self, wait: float) -> None:
        """Take in what has come, waiting up to `wait` seconds for the first of it."""
        received = self._watch.get(wait)
        for _ in range(_BURST):
            if received is None:
                break
            if self._first_frame is None and received.batch.n:
                self._first_frame = self._clock()
            self.flows.setdefault(received.key, Flow()).add(received)
            received = self._watch.get(0.0)
        now = self._clock()
        for flow in self.flows.values():
            flow.tick(now)
        for device in self.rack.devices():
            if device.key not in self.connected_after and device.state in _UP:
                self.connected_after[device.key] = now - self._started

    def close(self) -> None:
        self._watch.close()

    @property
    def lost(self) -> int:
        """Frames that were captured and did not arrive here, wherever they were lost."""
        return sum(flow.lost for flow in self.flows.values())

    def problems(self) -> list[str]:
        """Why the bench did not do what it is for; empty when it did."""
        found = []
        connected = {key.device for key in self.connected_after}
        streamed = {key.device for key, flow in self.flows.items() if flow.frames}
        if not connected:
            found.append("no device connected")
        if not streamed:
            found.append("no frames arrived")
        whys = {device.id: why for device in self.rack.devices() if (why := reason(device))}
        wanted = self._expected or (() if connected else whys)
        missing = [device for device in wanted if device not in connected]
        found += [
            f"{device} did not connect: {whys[device]}" for device in missing if device in whys
        ]
        found += [
            f"{device} did not connect" for device in missing if connected and device not in whys
        ]
        found += [
            f"{device} sent no frames"
            for device in self._expected
            if streamed and device not in streamed
        ]
        if self.lost:
            found.append(f"{self.lost} frames were lost")
        return found

    def summary(self) -> dict[str, Any]:
        """The totals, as ``sat up --json`` prints them. Rates are frames a second since the first
        frame."""
        now = self._clock()
        frames = sum(flow.frames for flow in self.flows.values())
        seconds = now - self._first_frame if self._first_frame is not None else 0.0
        first = min(self.connected_after.values(), default=None)
        return {
            "devices": [
                self._device(device.key, str(device.state)) for device in self.rack.devices()
            ],
            "frames": frames,
            "frames_per_s": round(frames / seconds, 1) if seconds > 0 else 0.0,
            "dropped": sum(flow.dropped for flow in self.flows.values()),
            "gaps": sum(flow.missed for flow in self.flows.values()),
            "time_to_connected_s": None if first is None else round(first, 3),
        }

    def _device(self, key: Key, state: str) -> dict[str, Any]:
        flow, after = self.flows.get(key, Flow()), self.connected_after.get(key)
        return {
            "device": key.device, "driver": key.driver, "host": key.host, "state": state, "frames": flow.frames,
            "dropped": flow.dropped, "gaps": flow.missed,
            "connected_after_s": None if after is None else round(after, 3),
        }  # fmt: skip
