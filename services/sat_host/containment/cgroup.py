"""A cgroup for each worker, where this process may make some: what a plugin starts stays in it,
wherever it hides.

The kernel refuses processes beyond a ceiling at the moment they are forked, so nothing has to be
fast to hold a fork bomb. Where the cpu controller is to be had as well, all of a worker shares the
processor with others as one. Both versions of cgroups will do, as soon as the pids controller and
the folder are this process's own to use. The folder of a host names its process, so that the next
host finds and removes what a killed one has left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from sat_host.containment.census import PROC, signal_all, start_time

ROOT = Path("/sys/fs/cgroup")
THREADS = 128  # the kernel counts threads as well: so many more than processes may there be
STALE_DEADLINE = 1.0
_PREFIX = "sat-host"
_SELF = "host"
_ROUNDS = 5  # of looking for those that were being forked when no more were allowed


class Cgroup:
    """What holds one worker and all that it starts: a folder for each controller, that of pids
    first.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folders: Sequence[Path], processes: int) -> None:
        self.ceiling = processes + THREADS
        self._pids, *self._others = folders
        try:
            for folder in folders:
                folder.mkdir()
            (self._pids / "pids.max").write_text(str(self.ceiling))
        except OSError:
            self.remove()
            raise

    def add(self, pid: int) -> None:
        """Have `pid`, which has started nothing yet, live here. Raises OSError."""
        (self._pids / "cgroup.procs").write_text(str(pid))
        for folder in self._others:
            with contextlib.suppress(OSError):
                (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """The processes that live here; those that have ended and wait for their parent do not
        count."""
        return _pids(self._pids)

    def refused(self) -> bool:
        """Whether the kernel had to refuse a process or thread, since there were too many."""
        try:
            with open(self._pids / "pids.events", "rb") as file:
                return file.read().split()[1] != b"0"
        except (OSError, IndexError):
            return False

    def kill(self) -> int:
        """SIGKILL all that live here, which can start no more; how many."""
        return _kill(self._pids)

    def remove(self) -> bool:
        """Kill and remove; False while something is still ending."""
        return all(_remove(folder) for folder in (self._pids, *self._others))


class Cgroups:
    """The cgroups of one host's workers. `find` tells whether there can be any."""

    def __init__(self, base: Path, cpu: Path | None = None) -> None:
        self._name = f"{_PREFIX}-{_namespace()}-{os.getpid()}-{start_time(os.getpid())}"
        self.folder = base / self._name
        self._base = base
        self._cpu = cpu
        self._home: Path | None = None
        self._undo: list[tuple[Path, str]] = []

    @classmethod
    def find(cls, root: Path = ROOT, proc: Path = PROC) -> Cgroups:
        """Make the host's folder, below the cgroup that this process is in or beside it; remove
        those of the dead.

        Raises:
            OSError: there is no pids controller, or its cgroups are not this process's to use.
        """
        paths = _own_paths(proc)
        if "pids" in paths:
            own, cpu = root / "pids" / paths["pids"], root / "cpu" / paths.get("cpu", "")
            _check_in(own)
            return cls(own, cpu if _is_in(cpu) and os.access(cpu, os.W_OK) else None)._open(None)
        own = root / paths.get("", "")
        _check_in(own)
        if own == root or _delegated(own):
            return cls(own)._open(own)
        if _delegated(own.parent):  # systemd's DelegateSubgroup=
            return cls(own.parent)._open(own)
        raise PermissionError(f"{own} is not delegated to this process")

    def make(self, processes: int) -> Cgroup:
        """A cgroup for one worker of so many processes. Raises OSError."""
        name = uuid.uuid4().hex
        folders = [self.folder / name]
        if self._cpu is not None:  # below one folder, all workers would have one share of it
            folders.append(self._cpu / f"{self._name}-{name}")
        return Cgroup(folders, processes)

    def close(self) -> None:
        """Remove what is left; a folder that cannot go is removed by the next host or the service
        manager."""
        with contextlib.suppress(OSError):
            for folder in (
                *_children(self.folder),
                *(self._cpu.glob(f"{self._name}-*") if self._cpu else ()),
            ):
                if folder.name != _SELF:
                    _remove(folder)
        for control, word in self._undo:
            with contextlib.suppress(OSError):  # a neighbour needs it
                control.write_text(word)
        if self._home is not None:
            with contextlib.suppress(OSError):
                (self._home / "cgroup.procs").write_text(str(os.getpid()))
                (self.folder / _SELF).rmdir()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _open(self, home: Path | None) -> Cgroups:
        """`home`: the cgroup of version 2 that this process is in."""
        try:
            self.folder.mkdir(exist_ok=True)
            if home is not None:
                self._delegate(home)
            self.make(1).remove()
        except OSError:
            self.close()
            raise
        for base in filter(None, (self._base, self._cpu)):
            _remove_stale(base)
        return self

    def _delegate(self, home: Path) -> None:
        """Version 2: only a cgroup without processes hands controllers on, so this process goes
        into one of its own."""
        leaf = self.folder / _SELF
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        self._home = home
        ours, above = (folder / "cgroup.subtree_control" for folder in (self.folder, self._base))
        for controller in ("pids", "cpu"):
            try:
                if controller not in above.read_text().split():
                    above.write_text(f"+{controller}")
                    self._undo.append((above, f"-{controller}"))
                ours.write_text(f"+{controller}")
                self._undo.insert(0, (ours, f"-{controller}"))
            except OSError:
                if controller == "pids":
                    raise


def _own_paths(proc: Path) -> dict[str, str]:
    """Controller -> the cgroup that this process is in; that of version 2 has no name."""
    paths = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    return paths


def _is_in(folder: Path) -> bool:
    return os.getpid() in _pids(folder)


def _check_in(folder: Path) -> None:
    if not _is_in(folder):
        raise FileNotFoundError(f"this process is not in {folder}")


def _delegated(folder: Path) -> bool:
    """Whether the service manager leaves `folder` to those who live in it, as it says on the folder
    itself."""
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
        pid, started, *_ = folder.name.removeprefix(f"{_PREFIX}-{_namespace()}-").split("-")
        if str(start_time(int(pid))) == started:
            continue
        deadline = time.monotonic() + STALE_DEADLINE
        while (
            not all(_remove(one) for one in (*_children(folder), folder))
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except OSError:  # it was removed meanwhile
        return []


def _pids(folder: Path) -> list[int]:
    try:
        with open(folder / "cgroup.procs", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _kill(folder: Path) -> int:
    with contextlib.suppress(OSError), open(folder / "pids.max", "r+") as file:
        file.write("0")
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        if not (new := set(_pids(folder)) - killed):
            break
        signal_all(new, signal.SIGKILL)
        killed |= new
    return len(killed)


def _remove(folder: Path) -> bool:
    _kill(folder)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
