"""Where files go, by the XDG rules; one folder a port, so that two ``sat up`` do not meet."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def state_dir(port: int) -> Path:
    """Logs, the lifecycle database and the broker's store: kept. Not yet made."""
    base = os.environ.get("XDG_STATE_HOME")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "sat" / f"port-{port}"


def make_runtime_dir(port: int) -> Path:
    """A new private folder for sockets and ptys; who made it removes it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    usable = base is not None and os.path.isdir(base) and os.access(base, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix=f"sat-{port}-", dir=base if usable else None))
    folder.chmod(stat.S_IRWXU)
    return folder
