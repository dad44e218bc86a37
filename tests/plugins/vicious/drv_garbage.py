"""Writes to the socket that its worker talks to the host through. `info`: ``kind``: ``noise`` or ``forged``."""

from __future__ import annotations

import json
import os
import stat
import struct
from typing import Any

from plugins.devices.vicious.sick import SickDriver

FORGED: list[dict[str, Any]] = [
    {"event": 5},
    {"event": "stream"},
    {"event": "stream", "type": [], "stream": {}, "running": "yes"},
    {"event": "acquiring"},
    {"event": "changed", "call": "x"},
    {"call": 1, "ok": True, "result": "forged"},
    {"call": [], "ok": False, "code": 7, "message": None},
]
HEADERS: list[dict[str, Any]] = [
    {
        "type": "a/../#",
        "stream": "s",
        "seq": "x",
        "n": -5,
        "t0": None,
        "dropped": {"x": "y"},
        "channel": 5,
    },
    {"type": "custom", "stream": None, "seq": 1, "n": 1, "t0": 1.0, "dropped": 7, "channel": "c"},
    {},
]


def message(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def frames(header: dict[str, Any]) -> bytes:
    head = json.dumps(header).encode()
    return message(1, struct.pack(">I", len(head)) + head + b"no frames]")


class GarbageDriver(SickDriver):
    def sick(self) -> Any:
        sockets = [int(fd) for fd in os.listdir("/proc/self/fd") if self._is_socket(int(fd))]
        noise = os.urandom(100_000)
        forged = b"".join(message(0, json.dumps(one).encode()) for one in FORGED)
        forged += message(0, b"[" * 100_000) + b"".join(frames(header) for header in HEADERS)
        for fd in sockets:
            os.write(fd, forged if self.info.get("kind") == "forged" else noise)

    @staticmethod
    def _is_socket(fd: int) -> bool:
        try:
            return stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            return False
