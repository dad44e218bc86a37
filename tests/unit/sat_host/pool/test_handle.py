"""A worker's handle: what it is told of a channel that has closed, and the bound of what a worker
may say."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sat_bus.service.loop import WorkLoop
from sat_host import wire
from sat_host.containment.limits import WorkerLimits
from sat_host.pool.handle import EVENTS_PER_SECOND, CallResult, WorkerHandle
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


class Bench:
    """A handle, and the end of the socket that its worker would have."""

    def __init__(self) -> None:
        self.loop = WorkLoop("test")  # which does not run: no end is told, no message handled
        self.multiplexer = Multiplexer("test")
        ours, self.theirs = socket.socketpair()
        limits = WorkerLimits(64, 8, 64, 3.0)
        self.handle = Lying(
            "drv/one", {"limits": limits}, self.loop, self.multiplexer, Owner(), ours
        )
        self.multiplexer.start()

    def refusal(self) -> str:
        """Why a call is refused, once it is; before that a call waits for its answer."""
        results: list[CallResult] = []

        def refused() -> bool:
            self.handle.call({"do": "initialize"}, 1.0, results.append)
            return bool(results)

        assert eventually(refused)
        return str(results[0].error)

    def close(self) -> None:
        self.multiplexer.stop()
        self.theirs.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_the_reason_is_that_of_the_closing_not_that_it_is_closed(bench: Bench) -> None:
    bench.theirs.sendall(b"\xff" * 16)
    assert bench.refusal().startswith(
        "the worker of drv/one is gone: worker sent what is no message"
    )


def test_a_worker_that_floods_its_host_with_events_is_cut_off(bench: Bench) -> None:
    event = wire.pack({"event": 1})
    bench.theirs.sendall(
        event * 4 * EVENTS_PER_SECOND
    )  # too many, also where a second ends among them
    assert bench.refusal() == (
        "the worker of drv/one is gone: worker floods its host: "
        f"more than {EVENTS_PER_SECOND} events in a second"
    )
