"""TCP ports of this machine: a free one, and who holds a taken one."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from sat_toolkit.errors import ConfigError

_LISTEN = "0A"


def find_free_port(bind: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket(_family(bind), socket.SOCK_STREAM) as probe:
        probe.bind((bind, 0))
        return int(probe.getsockname()[1])


def check_free(bind: str, port: int) -> None:
    """Check that a server could listen there now.

    Raises:
        ConfigError: it could not; the message says who holds the port, or what else is wrong.
    """
    try:
        with socket.socket(_family(bind), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigError(
                f"cannot listen on {bind}:{port}: {error.strerror or error}"
            ) from None
        by = holder(port)
        taken = f"port {port} of {bind} is taken{f' by {by}' if by else ''}"
        raise ConfigError(f"{taken}; choose another with --port") from None


def holder(port: int) -> str | None:
    """Who listens on `port`, as ``name (pid 12)``; None when that cannot be told (another user's
    process)."""
    inodes = _listening(port)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(_link(entry) in inodes for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # it ended, or it is not ours to look into
            continue
    return None


def _link(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:  # closed since
        return ""


def _family(bind: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in bind else socket.AF_INET


def _listening(port: int) -> set[str]:
    """The sockets that listen on `port`, as /proc/<pid>/fd shows them."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
