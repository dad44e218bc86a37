"""Waiting for something with a deadline, which is the only way to wait in a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
TIMEOUT = 10.0


def eventually(condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
    """Whether `condition()` comes to hold within `timeout` seconds; for what announces itself in no
    other way."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.005)
    return True


class Inbox(Generic[T]):
    """Collects what a callback is called with; the callback is the object itself."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._changed = threading.Condition()

    def __call__(self, item: T) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, count: int = 1, timeout: float = TIMEOUT) -> list[T]:
        """The items, once there are at least `count`; fails when they do not come in time."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.items) >= count, timeout)
            assert arrived, (
                f"{len(self.items)} of {count} came within {timeout} s: {self.items!r:.500}"
            )
            return list(self.items)

    def wait_for(self, condition: Callable[[list[T]], bool], timeout: float = TIMEOUT) -> list[T]:
        """The items, once `condition` holds for them; fails when it does not in time."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.items), timeout), (
                f"got {self.items!r:.500}"
            )
            return list(self.items)
