"""A cgroup for each worker, where this process may make some: what a plugin starts stays in it, wherever it hides.

The kernel refuses processes beyond a ceiling at the moment they are forked, so nothing has to be fast to hold a fork
bomb. Both versions of cgroups will do, as soon as the pids controller and the folder are this process's own to use.
The folder of a host names its process, so that the next host finds and removes what a killed one has left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from pathlib import Path

from sat_host.census import PROC, signal_all, start_time

ROOT = Path("/sys/fs/cgroup")
THREADS = 128  # the kernel counts threads as well: so many more than processes may there be
STALE_DEADLINE = 1.0
_PREFIX = "sat-host"
_SELF = "host"


class Cgroup:
    """What holds one worker and all that it starts, in `folder`.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, processes: int) -> None:
        self.ceiling = processes + THREADS
        self._folder = folder
        folder.mkdir()
        try:
            (folder / "pids.max").write_text(str(self.ceiling))
        except OSError:
            folder.rmdir()
            raise

    def add(self, pid: int) -> None:
        """Have `pid`, which has started nothing yet, live here. Raises OSError."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """The processes that live here; those that have ended and wait for their parent do not count."""
        return _pids(self._folder)

    def refused(self) -> bool:
        """Whether the kernel had to refuse a process or thread, since there were too many."""
        try:
            with open(self._folder / "pids.events", "rb") as file:
                return file.read().split()[1] != b"0"
        except (OSError, IndexError):
            return False

    def kill(self) -> int:
        """SIGKILL all that live here, which can start no more; how many."""
        return _kill(self._folder)

    def remove(self) -> bool:
        """Kill and remove; False while something is still ending."""
        return _remove(self._folder)


class Cgroups:
    """The cgroups of one host's workers. `find` tells whether there can be any."""

    def __init__(self, base: Path) -> None:
        self.folder = base / f"{_PREFIX}-{_namespace()}-{os.getpid()}-{start_time(os.getpid())}"
        self._base = base
        self._home: Path | None = None
        self._handed_on = False

    @classmethod
    def find(cls, root: Path = ROOT, proc: Path = PROC) -> Cgroups:
        """Make the host's folder, below the cgroup that this process is in or beside it; remove those of the dead.

        Raises:
            OSError: there is no pids controller, or its cgroups are not this process's to use.
        """
        own, unified = _own_cgroup(root, proc)
        if not unified:
            return cls(own)._open(None)
        if own == root or _delegated(own):
            return cls(own)._open(own)
        if _delegated(own.parent):  # systemd's DelegateSubgroup=
            return cls(own.parent)._open(own)
        raise PermissionError(f"{own} is not delegated to this process")

    def make(self, processes: int) -> Cgroup:
        """A cgroup for one worker of so many processes. Raises OSError."""
        return Cgroup(self.folder / uuid.uuid4().hex, processes)

    def close(self) -> None:
        """Remove what is left; a folder that cannot go is removed by the next host or the service manager."""
        with contextlib.suppress(OSError):
            for child in _children(self.folder):
                if child.name != _SELF:
                    _remove(child)
            if self._home is not None:
                (self.folder / "cgroup.subtree_control").write_text("-pids")
                if self._handed_on:  # fails where a neighbour needs it
                    (self._base / "cgroup.subtree_control").write_text("-pids")
                (self._home / "cgroup.procs").write_text(str(os.getpid()))
                (self.folder / _SELF).rmdir()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _open(self, home: Path | None) -> Cgroups:
        """`home`: the cgroup of version 2 that this process is in."""
        self.folder.mkdir(exist_ok=True)
        try:
            if home is not None:
                self._delegate(home)
            self.make(1).remove()
        except OSError:
            self.close()
            raise
        _remove_stale(self._base)
        return self

    def _delegate(self, home: Path) -> None:
        """Version 2: only a cgroup without processes hands controllers on, so this process goes into one of its own."""
        leaf = self.folder / _SELF
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        self._home = home
        control = self._base / "cgroup.subtree_control"
        if "pids" not in control.read_text().split():
            control.write_text("+pids")
            self._handed_on = True
        (self.folder / "cgroup.subtree_control").write_text("+pids")


def _own_cgroup(root: Path, proc: Path) -> tuple[Path, bool]:
    """The cgroup of this process that has to do with pids, and whether it is one of version 2. Raises OSError."""
    paths = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    own, unified = (root / "pids" / paths["pids"], False) if "pids" in paths else (root / paths.get("", ""), True)
    if str(os.getpid()) not in (own / "cgroup.procs").read_text().split():
        raise FileNotFoundError(f"this process is not in {own}")
    return own, unified


def _delegated(folder: Path) -> bool:
    """Whether the service manager leaves `folder` to those who live in it, as it says on the folder itself."""
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except OSError:
        return False


def _namespace() -> int:
    """Which namespace a process id is of: those of another one say nothing here."""
    return os.stat("/proc/self/ns/pid").st_ino


def _remove_stale(base: Path) -> None:
    """Remove the folders of hosts that are gone, with what they left running."""
    for folder in base.glob(f"{_PREFIX}-{_namespace()}-*"):
        pid, _, started = folder.name.removeprefix(f"{_PREFIX}-{_namespace()}-").partition("-")
        if str(start_time(int(pid))) == started:
            continue
        deadline = time.monotonic() + STALE_DEADLINE
        while any(not _remove(child) for child in _children(folder)) and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _children(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir()]


def _pids(folder: Path) -> list[int]:
    try:
        with open(folder / "cgroup.procs", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _kill(folder: Path) -> int:
    with contextlib.suppress(OSError):
        (folder / "pids.max").write_text("0")
    pids = _pids(folder)
    signal_all(pids, signal.SIGKILL)
    return len(pids)


def _remove(folder: Path) -> bool:
    _kill(folder)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
