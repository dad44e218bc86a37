"""The sign of life of a service, given by a timer of its work loop: a loop that hangs gives none.

Two readers, either or none: the service manager, by the datagrams of sd_notify, and whoever looks
at the age of a file (`deploy/healthcheck` does). They are told different things. To the manager a
beat means that the loop turns: it would restart a service that a lost broker only makes wait. The
file means that the service can be used: it is written only once it serves, and while the bus is
connected.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from sat_bus.service.loop import WorkLoop
from sat_toolkit.errors import ConfigError

log = logging.getLogger(__name__)

BEAT_S = 1.0
_START_LEAVE_US = 15_000_000
# They are for this process alone: a plugin's worker must not speak for the service.
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def take_notify_socket() -> str:
    """The service manager's socket, taken out of the environment so that no child inherits it;
    empty without one."""
    values = [os.environ.pop(name, "") for name in _VARIABLES]
    return values[0]


class Alive:
    """Beats each `period` on the loop of a service from `begin` to `end`; all methods are for the
    loop's thread.

    Args:
        connected: whether the bus is connected.
        ready: whether the service has said on the bus that it serves.
        words: what it is doing, for a person.
        file: written at each beat once `ready`, while `connected`; None: no file.
        notify: the service manager's socket; empty: nobody is notified.
        period: seconds.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(
        self,
        connected: Callable[[], bool],
        ready: Callable[[], bool],
        words: Callable[[], str],
        *,
        file: Path | None = None,
        notify: str = "",
        period: float = BEAT_S,
    ) -> None:
        self._connected, self._ready, self._words = connected, ready, words
        self._file, self._period = file, period
        self._manager = _Manager(notify) if notify else None
        self._was_ready = False
        self._stopping = False
        self._complained = False
        if file is not None and not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
            raise ConfigError(
                f"alive_file {file}: accepted: a file in a folder that is there and that we may write to"
            )

    def begin(self, loop: WorkLoop) -> None:
        """Beat from now on, when `loop` turns."""
        if self._file is not None or self._manager is not None:
            loop.every(self._period, self._beat, first=0.0)

    def stopping(self) -> None:
        """The orderly end has begun."""
        self._stopping = True
        if self._manager is not None:
            self._manager.tell("STOPPING=1", "STATUS=stopping")

    def end(self) -> None:
        """No more beats; the file goes, so that nobody takes it for one of a service that runs."""
        self._stopping = True
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        if self._manager is not None:
            self._manager.close()

    def _beat(self) -> None:
        connected = self._connected()
        self._was_ready = self._was_ready or (connected and self._ready())
        if self._manager is not None:
            self._manager.tell("WATCHDOG=1", *([] if self._stopping else self._news(connected)))
        if self._file is not None and connected and self._was_ready and not self._stopping:
            self._write(self._file)

    def _news(self, connected: bool) -> list[str]:
        """What the manager hears beside the beat. A start that waits for the broker is no start
        that failed."""
        status = self._words() if connected else "waiting for the broker"
        return [
            f"STATUS={status}",
            "READY=1" if self._was_ready else f"EXTEND_TIMEOUT_USEC={_START_LEAVE_US}",
        ]

    def _write(self, file: Path) -> None:
        try:
            file.write_text(f"{self._words()}\n")
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.error("the sign of life cannot be written: %s", error)
            self._complained = True


class _Manager:
    """The service manager's end of sd_notify. It is told without waiting: a manager that does not
    read misses beats."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, *lines: str) -> None:
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("the service manager does not hear: %s", error)

    def close(self) -> None:
        self._socket.close()
