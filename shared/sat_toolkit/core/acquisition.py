"""One run of a driver's acquisition loop: who may end it, and what its threads see.

Knows nothing of devices and streams; `BaseDeviceDriver` builds on it. Two rules live here:

- A run is ended once. Whoever gets the `claim` (a stop, or the loop's own death) cleans up; the
  other
  one waits for `finished`.
- A loop that outlived its stop never runs again. Each run has an event of its own, which is retired
  with it: it stays clear whatever is done to it, and the run's thread sees no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sat_toolkit.errors import text_of


class AcquisitionEvent(threading.Event):
    """The `is_acquiring` of one run. Once retired it is clear for good."""

    def __init__(self) -> None:
        super().__init__()
        self._retired = False

    def set(self) -> None:
        if not self._retired:
            super().set()

    def retire(self) -> None:
        self._retired = True
        self.clear()


class AcquisitionThread(threading.Thread):
    """The thread of one run; `event` is what its driver's `is_acquiring` is to it."""

    def __init__(
        self, owner: object, event: AcquisitionEvent, name: str, target: Callable[[], None]
    ) -> None:
        super().__init__(name=name, target=target, daemon=True)
        self.owner = owner
        self.event = event


class Acquisition:
    """One run. `loop` is the driver's loop; `ended` is called when it ends by itself.

    `ended` gets the reason, or None when the loop was told to end (the driver cleared the event
    itself). It runs on the run's own thread, after this run was claimed for it.
    """

    def __init__(
        self,
        owner: object,
        name: str,
        loop: Callable[[], None],
        ended: Callable[[Acquisition, str | None], None],
    ) -> None:
        self.event = AcquisitionEvent()
        self.finished = threading.Event()
        self.thread = AcquisitionThread(owner, self.event, name, self._run)
        self._loop = loop
        self._ended = ended
        self._claimed = threading.Lock()
        self.error: BaseException | None = None  # what the loop died of

    def start(self) -> None:
        self.event.set()
        self.thread.start()

    def claim(self) -> bool:
        """True for the first caller, who then has to clean up and to set `finished`."""
        return self._claimed.acquire(blocking=False)

    def join(self, timeout: float) -> bool:
        """Retire the event and wait for the thread; True when the loop is over (or is the
        caller)."""
        self.event.retire()
        if self.thread is threading.current_thread():
            return True
        if self.thread.is_alive():
            self.thread.join(timeout)
        return not self.thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop()
            reason = "the acquisition loop returned while streaming"
        except BaseException as error:  # noqa: BLE001 - SystemExit of a plugin is a dead loop as well
            self.error = error
            reason = f"the acquisition loop died: {text_of(error)}"
        if self.claim():
            was_running = self.event.is_set()
            self.event.retire()
            self._ended(self, reason if was_running else None)
