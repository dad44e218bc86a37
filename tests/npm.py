"""Packages from npm for tests and benchmarks, of the versions that a lock file names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TIMEOUT_S = 300.0


def install(home: Path, folder: Path) -> None:
    """Make `folder` hold what ``package-lock.json`` of `home` names; nothing is done where it does
    already."""
    lock = (home / "package-lock.json").read_bytes()
    marker = folder / "installed.json"
    if marker.exists() and marker.read_bytes() == lock:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(home / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S)
    marker.write_bytes(lock)
