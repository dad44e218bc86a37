"""A sink that keeps what a driver's streams did, and that a test can wait on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sat_toolkit.core.stream_manager import FrameByFrame, StreamData

TIMEOUT = 5.0


class Recorder(FrameByFrame):
    """Pass it as `sink`, and its `failed` as `on_acquisition_failed`. Every wait has a timeout in
    seconds.

    `frames` is all that came, `open` the channels that are open now, `failures` the reasons of dead
    loops.
    """

    def __init__(self) -> None:
        self.frames: list[StreamData] = []
        self.open: set[str] = set()
        self.failures: list[str] = []
        self._changed = threading.Condition()

    def opened(self, channel: str) -> None:
        with self._changed:
            self.open.add(channel)
            self._changed.notify_all()

    def closed(self, channel: str) -> None:
        with self._changed:
            self.open.discard(channel)
            self._changed.notify_all()

    def data(self, stream_data: StreamData) -> None:
        with self._changed:
            self.frames.append(stream_data)
            self._changed.notify_all()

    def failed(self, reason: str) -> None:
        with self._changed:
            self.failures.append(reason)
            self._changed.notify_all()

    def wait_frames(
        self,
        count: int = 1,
        matches: Callable[[StreamData], bool] | None = None,
        *,
        after: int = 0,
        timeout: float = TIMEOUT,
    ) -> list[StreamData]:
        """The first `count` frames for which `matches` holds, of those after the first `after`.

        Raises:
            TimeoutError: fewer came in time, or before the loop died; the message says how many.
        """

        def found() -> list[StreamData]:
            return [frame for frame in self.frames[after:] if matches is None or matches(frame)]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self.failures, timeout)
            if len(found()) < count:
                limit = (
                    f"before it failed: {self.failures[0]}"
                    if self.failures
                    else f"within {timeout:g} s"
                )
                came = f"{len(found())} of {count} frames came {limit}"
                others = len(self.frames) - after - len(found())
                raise TimeoutError(f"{came}, and {others} that do not match" if others else came)
            return found()[:count]

    def wait_failure(self, timeout: float = TIMEOUT) -> str:
        """The reason of the first dead loop.

        Raises:
            TimeoutError: none died.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self.failures), timeout):
                raise TimeoutError(f"the acquisition did not fail within {timeout:g} s")
            return self.failures[0]

    def wait_closed(self, channel: str, timeout: float = TIMEOUT) -> None:
        """Return once `channel` is closed.

        Raises:
            TimeoutError: it stays open.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: channel not in self.open, timeout):
                raise TimeoutError(f"the channel {channel} is still open after {timeout:g} s")
