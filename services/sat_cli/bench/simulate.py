"""Runs a simulator's module as a program, also where another project owns a package `plugins`.

python -P -m sat_cli.bench.simulate plugins.devices.can.sim_ecu --pty /run/ecu
"""

from __future__ import annotations

import runpy
import sys

from sat_toolkit.core import plugin_packages


def main() -> None:
    """The program: the module's own, with the words after its name."""
    plugin_packages.devices()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
