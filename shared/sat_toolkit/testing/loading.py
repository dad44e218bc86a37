"""A driver by its path, and the simulator that lies beside it.

The simulator's hook: a file ``sim_<name>.py``, or the one ``sim_*.py`` of the folder that has it,
may define

    def simulator() -> AbstractContextManager[Mapping[str, Any]]:

While the context lasts the simulated device is there, and what it gives is the driver's
configuration (`info`) under which a scan finds it. Leaving the context is pulling the plug.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.plugin_loader import PluginFile, load_beside, load_driver, plugin_at
from sat_toolkit.errors import PluginError

HOOK = "simulator"
Simulator = Callable[[], AbstractContextManager[Mapping[str, Any]]]


def load(path: Path | str) -> type[BaseDeviceDriver]:
    """The driver class of a file.

    Raises:
        PluginError: it cannot be loaded; the message says why.
    """
    return load_driver(plugin_at(Path(path)))


def simulator_file(driver: Path) -> Path | None:
    """The simulator beside a driver's file; None when it has no simulator. Imports nothing."""
    own = driver.with_name(f"sim_{driver.stem.removeprefix('drv_')}.py")
    if _has_hook(own):
        return own
    others = [path for path in sorted(driver.parent.glob("sim_*.py")) if _has_hook(path)]
    return others[0] if len(others) == 1 else None


def find_simulator(plugin: PluginFile) -> Simulator | None:
    """The `simulator` of the file beside a driver; None when it has no such function.

    Raises:
        PluginError: the simulator's file cannot be imported.
    """
    path = simulator_file(plugin.path)
    if path is None:
        return None
    hook = getattr(load_beside(plugin, path.stem), HOOK)
    if not callable(hook):
        raise PluginError(f"{path}: {HOOK} must be a function that returns a context manager")
    return cast(Simulator, hook)


def _has_hook(path: Path) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == HOOK for node in tree.body)
