"""Runs in the guest: SocketCAN drivers, told what to do by lines of JSON, each as a worker is by
its host.

Each line ``[bus, name, args]`` is answered by one line. `bus` is a name for a driver on a link,
which ``open`` makes and ``close`` ends; the other names are the driver's commands and those of
`Probe`.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.models.Device_Model import Device

TIMEOUT_S = 20.0


class Probe:
    """A sink that counts and keeps what came, in its order: blocks, and pairs of a number and the
    cause of its loss."""

    def __init__(self, link: str, config: dict[str, Any]) -> None:
        self._came: list[FrameBlock | tuple[int, str]] = []
        self._failure: str | None = None
        found = {
            device.device_id: device for device in DriverRunner(SocketCANDriver, config).scan()
        }
        device = Device.from_json(found[link].to_json())
        self.runner = DriverRunner(
            SocketCANDriver, config, device, sink=self, on_acquisition_failed=self._failed
        )
        self.runner.initialize()
        self.runner.connect()

    def opened(self, channel: str) -> None: ...

    def closed(self, channel: str) -> None: ...

    def data(self, stream_data: object) -> None:
        raise AssertionError(f"a frame came by itself: {stream_data}")

    def block(self, channel: str, block: FrameBlock) -> None:
        self._came.append(block)

    def lost(self, channel: str, count: int, cause: str) -> None:
        self._came.append((count, cause))

    def _failed(self, reason: str) -> None:
        self._failure = reason

    def wait_failure(self) -> str | None:
        """Why the reading ended."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._failure

    def frames(self, n: int) -> list[dict[str, Any]]:
        """The first `n` frames, once they are there; forgets all that came."""
        self._wait(n, lost=False)
        came, self._came = self._came, []
        return [
            frame for block in came if isinstance(block, FrameBlock) for frame in block.frames()
        ]

    def account(self, n: int) -> dict[str, Any]:
        """What became of `n` frames whose data is their number: ``received``, ``lost`` by cause,
        ``misplaced``."""
        self._wait(n, lost=True)
        came, self._came = self._came, []
        received, misplaced, place = 0, 0, 0
        lost: dict[str, int] = {}
        for part in came:
            if isinstance(part, FrameBlock):
                numbers = [
                    int.from_bytes(bytes.fromhex(frame["data"]), "little")
                    for frame in part.frames()
                ]
                misplaced += sum(number != place + i for i, number in enumerate(numbers))
                received += len(part)
                place += len(part)
            else:
                lost[part[1]] = lost.get(part[1], 0) + part[0]
                place += part[0]
        return {"received": received, "lost": lost, "misplaced": misplaced}

    def send_block(self, frames: list[dict[str, Any]]) -> dict[str, Any]:
        """Frames as a client's block."""
        return self.runner.client_frames(FrameBlock.pack(frames))

    def close(self) -> None:
        self.runner.close()

    def shrink_buffer(self, size: int) -> None:
        """Let the socket hold few frames only."""
        assert isinstance(self.runner.driver, SocketCANDriver)
        sock: socket.socket = self.runner.driver._open_bus().socket  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _wait(self, n: int, *, lost: bool) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            parts = list(self._came)
            blocks = sum(len(part) for part in parts if isinstance(part, FrameBlock))
            if blocks + lost * sum(part[0] for part in parts if isinstance(part, tuple)) >= n:
                return
            time.sleep(0.01)


def say(answer: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until the input ends."""
    probes: dict[str, Probe] = {}
    own = {"frames", "account", "send_block", "shrink_buffer", "wait_failure", "close"}
    for line in sys.stdin:
        bus, name, args = json.loads(line)
        if name == "open":
            probes[bus] = Probe(**args)
            say(None)
        else:
            probe = probes[bus]
            say(getattr(probe, name)(**args) if name in own else probe.runner.command(name, args))


if __name__ == "__main__":
    main()
