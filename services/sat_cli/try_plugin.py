"""Loads one plugin and prints its commands, or why it cannot be loaded: ``sat doctor`` runs this as
a process.

python -m sat_cli.try_plugin NAME FAMILY PATH
"""

from __future__ import annotations

import sys
from pathlib import Path

from sat_toolkit.core.commands import declared
from sat_toolkit.core.plugin_loader import PluginFile, load_driver
from sat_toolkit.errors import SatError


def main(name: str, family: str, path: str) -> int:
    """The exit status: 0 when it loads."""
    try:
        commands = declared(load_driver(PluginFile(name, family, Path(path)))())
    except SatError as error:
        sys.stdout.write(f"{str(error).splitlines()[0]}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and that is what we report
        sys.stdout.write(f"{path}: its constructor raises {type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(" ".join(commands) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
