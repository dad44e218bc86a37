"""What tests of a bench's monitor wait for."""

from __future__ import annotations

import time

from sat_cli.bench.monitor import Monitor


def turn_until_frames(monitor: Monitor, frames: int) -> None:
    deadline = time.monotonic() + 5.0
    while sum(flow.frames for flow in monitor.flows.values()) < frames:
        assert time.monotonic() < deadline, "no frames came"
        monitor.turn(0.05)
