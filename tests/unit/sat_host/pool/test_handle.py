"""A call to a worker whose channel has just been closed says why, before the end of the worker is
told."""

from __future__ import annotations

import socket
from typing import Any

from sat_bus.service.loop import WorkLoop
from sat_host.containment.limits import WorkerLimits
from sat_host.pool.handle import CallResult, WorkerHandle
from sat_host.pool.multiplexer import Multiplexer
from tests.waiting import eventually


class Lying(WorkerHandle):
    """A worker that is nothing but its end of the socket."""

    def kill(self, reason: str = "") -> None: ...

    def wait(self, timeout: float) -> None: ...

    def _has_ended(self) -> bool:
        return False

    def _on_eof(self, problem: str = "") -> None: ...


class Owner:
    def on_frames(self, header: dict[str, Any], frames: bytes) -> None: ...

    def on_event(self, event: dict[str, Any]) -> None: ...

    def on_exit(self, reason: str) -> None: ...


def test_the_reason_is_that_of_the_closing_not_that_it_is_closed() -> None:
    multiplexer, loop = (
        Multiplexer("test"),
        WorkLoop("test"),
    )  # which does not run: no end is told yet
    multiplexer.start()
    ours, theirs = socket.socketpair()
    worker = Lying(
        "drv/one", {"limits": WorkerLimits(64, 8, 64, 3.0)}, loop, multiplexer, Owner(), ours
    )
    results: list[CallResult] = []

    def refused() -> bool:
        worker.call({"do": "initialize"}, 1.0, results.append)
        return bool(results)

    with theirs:
        theirs.sendall(b"\xff" * 16)
        assert eventually(refused)
    multiplexer.stop()
    assert str(results[0].error).startswith(
        "the worker of drv/one is gone: worker sent what is no message"
    )
