"""The port of a simulated device: a pty behind a symbolic link, for the simulators of any family.

The link has a path of the caller's choice, so that a simulator has the same port each time. The
simulator keeps the client's end open too: clients may come and go, and what nobody reads fills the
line and no more. Reading and writing never wait.
"""

from __future__ import annotations

import ctypes
import os
import signal
import tty
from pathlib import Path
from typing import Final

_CHUNK: Final = 4096
_PR_SET_PDEATHSIG: Final = 1


class PtyLink:
    """A raw pty and the link to it. Not thread-safe: the loop that selects on it owns it."""

    def __init__(self, link: Path) -> None:
        """Make the pty and point `link` at it. Raises OSError, also when `link` is a file that is
        no link."""
        self._master, self._slave = os.openpty()
        # Raw before anyone opens it: a terminal's echo would send our own bytes back to us.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._link = link
        try:
            _point(link, self.port)
        except OSError:
            self._close_pty()
            raise

    def __str__(self) -> str:
        return f"{self._link} ({self.port})"

    def fileno(self) -> int:
        """To select on: readable when a client wrote, writable when the line takes more."""
        return self._master

    def read(self) -> bytes:
        """What the client wrote; nothing when it wrote nothing."""
        try:
            return os.read(self._master, _CHUNK)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> int:
        """Write as much as the line takes; the number of bytes that it took."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Unplug: the client's port dies, and the link goes if it is still ours."""
        if os.path.islink(self._link) and os.readlink(self._link) == self.port:
            self._link.unlink()
        self._close_pty()

    def _close_pty(self) -> None:
        os.close(self._slave)
        os.close(self._master)


def die_with_parent() -> bool:
    """Ask the kernel for SIGTERM when the parent ends; False if it has ended already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


def _point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step; an older link is replaced, a file
    never."""
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} exists and is not a symbolic link: name another path")
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
