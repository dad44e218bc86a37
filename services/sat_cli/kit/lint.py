"""What ruff knows of a driver's source, in our words: names, errors that are swallowed, and what a
guest in somebody else's process does not do. Nothing of the driver is run."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

from sat_cli.kit.findings import Finding
from sat_cli.kit.source import FunctionNode, Module
from sat_toolkit.errors import ConfigError
from sat_toolkit.extras import lacking

TIMEOUT = 30.0
_UNDEFINED, _PRINTS, _EXITS, _BANNED = "F821", ("T201", "T203"), "PLR1722", "TID251"
_SWALLOWS = ("BLE001", "E722")
_ENDING = re.compile(r"clos|clean|reset|release|disconnect|shutdown|stop|__del__|__exit__")
_WELL_KNOWN = (
    "sat_toolkit.core.base_plugin", "sat_toolkit.core.stream_manager", "sat_toolkit.core.device_spec",
    "sat_toolkit.models.Device_Model", "sat_toolkit.errors", "typing", "collections.abc", "pathlib", "dataclasses",
    "contextlib", "enum", "datetime",
)  # fmt: skip
_NO_BUS = (
    "imports", "is imported: a driver knows nothing of the bus and the services",
    "give data to stream_wrapper, and results back from commands",
)  # fmt: skip
_ENDS = ("manners", "ends the process", "raise what went wrong")
# What a driver leaves alone, as ruff takes it: check, what it does, what to do instead.
_LEFT_ALONE = {
    **dict.fromkeys(("sat_bus", "sat_client", "sat_host", "sat_orchestrator", "sat_cli", "paho"), _NO_BUS),
    **dict.fromkeys(("sys.exit", "os._exit", "os.abort"), _ENDS),
    "sat_toolkit.testing": ("imports", "is for tests and simulators", "move it to a test or sim_*.py"),
    "signal.signal": ("manners", "takes the process's signals over",
                      "leave signals to the host; end with is_acquiring"),
    "logging.basicConfig": ("manners", "configures logging for everybody",
                            "log with logging.getLogger(__name__) and no handlers"),
    "os.system": ("manners", "runs a shell", "use the library, or say which privilege is missing"),
    "os.fork": ("manners", "forks the process", "use a thread, or subprocess with a timeout"),
}  # fmt: skip


class _Hit(NamedTuple):
    """What ruff reports; `name` is what its message has between backquotes."""

    code: str
    name: str
    line: int


def check_source_with_ruff(module: Module) -> list[Finding]:
    """The findings in the file, in its order; of a name or module the first.

    Raises:
        ConfigError: ruff is not installed, or cannot be run.
    """
    found: dict[tuple[str, str], Finding] = {}
    for hit in _hits(module):
        if hit.code in _SWALLOWS:
            found |= {(hit.code, str(hit.line)): finding for finding in _swallowed(module, hit)}
        else:
            found.setdefault((hit.code, hit.name), _finding(module, hit))
    return list(found.values())


def _finding(module: Module, hit: _Hit) -> Finding:
    if hit.code == _UNDEFINED:
        text, fix = f"{hit.name} is not defined", _where_from(hit.name)
        return Finding("fail", "names", text, module.file, hit.line, fix)
    if hit.code in _PRINTS:
        what = ("manners", "prints", "log with logging.getLogger(__name__)")
    else:
        what = _ENDS if hit.code == _EXITS else _LEFT_ALONE[hit.name]
    check, does, fix = what
    call = "()" if check == "manners" else ""
    return Finding("warn", check, f"{hit.name}{call} {does}", module.file, hit.line, fix)


def _swallowed(module: Module, hit: _Hit) -> Iterator[Finding]:
    """A handler that takes every error; where things end anyway that is as it should be."""
    name = _function_at(module, hit.line)
    if not name or _ENDING.search(name):
        return
    if name == "_acquisition_loop":
        fix = "let it out: a loop that dies puts the device into error, from where it is recovered"
        text = "every error is swallowed, so a dead device looks alive for ever"
    else:
        fix = "name the errors that you expect; let the others out: their text becomes the reason"
        text = f"{name} swallows every error, and its reason with it"
    yield Finding(
        "warn", "errors", text, module.file, hit.line, f"{fix}; or # noqa: BLE001, and why"
    )


def _function_at(module: Module, line: int) -> str:
    """The innermost function around a line."""
    around = (
        node
        for node in ast.walk(module.tree)
        if isinstance(node, FunctionNode) and node.lineno <= line <= (node.end_lineno or 0)
    )
    return max(((node.lineno, node.name) for node in around), default=(0, ""))[1]


def _where_from(name: str) -> str:
    if name in sys.stdlib_module_names:
        return f"add: import {name}"
    for source in _WELL_KNOWN:
        if hasattr(importlib.import_module(source), name):
            return f"add: from {source} import {name}"
    return "define or import it"


def _hits(module: Module) -> Iterator[_Hit]:
    for entry in _ask(module):
        name = re.findall(r"`([^`]*)`", entry["message"])
        yield _Hit(entry["code"], name[-1] if name else "", entry["location"]["row"])


def _ask(module: Module) -> list[dict[str, Any]]:
    if find_spec("ruff") is None:
        missing = ModuleNotFoundError(name="ruff")
        raise lacking(missing, "kit", "sat plugin check")
    left_alone = ", ".join(f"{json.dumps(name)} = {{msg = ''}}" for name in _LEFT_ALONE)
    command = [
        sys.executable, "-P", "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format", "json",
        "--select", ",".join((_UNDEFINED, *_PRINTS, _EXITS, _BANNED, *_SWALLOWS)),
        "--config", f"lint.flake8-tidy-imports.banned-api = {{{left_alone}}}", module.file,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode not in (0, 1):
        raise ConfigError(f"ruff cannot look at {module.file}: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
