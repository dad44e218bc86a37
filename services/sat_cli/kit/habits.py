"""The checks of a file as a whole: names, imports, errors that are swallowed, habits that hurt.
Nothing is run."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from enum import Enum

from sat_cli.kit.findings import Finding, Level
from sat_cli.kit.source import DriverSource, FunctionNode, Module, is_self, own_nodes
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.plugin_packages import PACKAGE

_SERVICES = (
    "sat_bus",
    "sat_client",
    "sat_host",
    "sat_orchestrator",
    "sat_gateway",
    "sat_cli",
    "paho",
)
_WELL_KNOWN = (
    "sat_toolkit.core.base_plugin", "sat_toolkit.core.stream_manager", "sat_toolkit.core.device_spec",
    "sat_toolkit.models.Device_Model", "sat_toolkit.errors", "typing", "collections.abc", "pathlib", "dataclasses",
    "contextlib", "enum", "datetime",
)  # fmt: skip
_ENUMS = ("stream_manager.StreamType", "stream_manager.StreamSource", "stream_manager.StreamAction",
          "Device_Model.DeviceType", "domain.device.DeviceType", "device_spec.DeviceState")  # fmt: skip
_MODULE_NAMES = {
    "__file__",
    "__name__",
    "__doc__",
    "__path__",
    "__package__",
    "__spec__",
    "__class__",
}
_ENDING = re.compile(r"clos|clean|reset|release|disconnect|shutdown|stop|__del__|__exit__")
_LOGS = (
    "debug",
    "info",
    "warning",
    "warn",
    "error",
    "exception",
    "critical",
    "log",
    "print",
    "str",
    "repr",
    "xlog",
)
_BAD_CALLS = {
    "print": ("prints", "log with logging.getLogger(__name__)"),
    "input": (
        "waits for someone to type",
        "take a command with args, or the configuration self.info",
    ),
    "exit": ("ends the process", "raise what went wrong"),
    "quit": ("ends the process", "raise what went wrong"),
    "sys.exit": ("ends the process", "raise what went wrong"),
    "os._exit": ("ends the process", "raise what went wrong"),
    "os.abort": ("ends the process", "raise what went wrong"),
    "signal.signal": (
        "takes the process's signals over",
        "leave signals to the host; end with is_acquiring",
    ),
    "logging.basicConfig": (
        "configures logging for everybody",
        "log with logging.getLogger(__name__) and no handlers",
    ),
    "os.system": ("runs a shell", "use the library, or say which privilege is missing"),
    "os.fork": ("forks the process", "use a thread, or subprocess with a timeout"),
}


def _at(
    level: Level, check: str, text: str, module: Module, node: ast.AST, fix: str = ""
) -> Finding:
    return Finding(level, check, text, module.file, getattr(node, "lineno", 0), fix)


# --- names -------------------------------------------------------------------------------------------


def check_names(module: Module) -> Iterator[Finding]:
    """Every name that is used is defined somewhere in the file, and enum members exist."""
    bound = set(_bound(module.tree)) | set(dir(builtins)) | _MODULE_NAMES
    seen: set[str] = set()
    starred = any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        for node in ast.walk(module.tree)
    )
    for node in () if starred else _evaluated(module.tree):
        if (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and node.id not in bound | seen
        ):
            seen.add(node.id)
            yield _at(
                "fail", "names", f"{node.id} is not defined", module, node, _where_from(node.id)
            )
    yield from _check_members(module)


def _bound(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
            case ast.arg():
                yield node.arg
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                yield node.name
            case ast.MatchMapping() if node.rest:
                yield node.rest
            case _ if type(node).__name__ in (
                "TypeVar",
                "ParamSpec",
                "TypeVarTuple",
            ):  # Python 3.12
                yield str(getattr(node, "name", ""))


def _evaluated(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes, without annotations where these are not evaluated."""
    future = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and node.names[0].name == "annotations"
        for node in tree.body
    )
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        for name, value in ast.iter_fields(node):
            if not (future and name in ("annotation", "returns")):
                pending += [
                    item
                    for item in (value if isinstance(value, list) else [value])
                    if isinstance(item, ast.AST)
                ]


def _where_from(name: str) -> str:
    if name in sys.stdlib_module_names:
        return f"add: import {name}"
    for source in _WELL_KNOWN:
        if hasattr(importlib.import_module(source), name):
            return f"add: from {source} import {name}"
    return "define or import it"


def _check_members(module: Module) -> Iterator[Finding]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute):
            continue
        name = module.dotted(node.value)
        if not (name.startswith("sat_toolkit.") and name.endswith(_ENUMS)):
            continue
        source, _, member = name.rpartition(".")
        enum: type[Enum] = getattr(importlib.import_module(source), member)
        if not hasattr(enum, node.attr):
            there = ", ".join(item.name for item in enum)
            yield _at(
                "fail", "names", f"{member} has no {node.attr}", module, node, f"it has: {there}"
            )


def check_attributes_of_self(driver: DriverSource) -> Iterator[Finding]:
    """What is read from self is defined by the class, by its bases, or by an assignment."""
    open_ended = {"__getattr__", "__getattribute__"} & driver.names
    calls = (
        node
        for _, node in driver.walk()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    if not driver.known or open_ended or any(call.func.id == "setattr" for call in calls):  # type: ignore[attr-defined]
        return
    known = {*dir(BaseDeviceDriver), *vars(BaseDeviceDriver()), *driver.names}
    used: dict[str, tuple[Module, ast.Attribute]] = {}
    for module, node in driver.walk():
        if isinstance(node, ast.Attribute) and is_self(node):
            if isinstance(node.ctx, ast.Load):
                used.setdefault(node.attr, (module, node))
            else:
                known.add(node.attr)
    for name in sorted(used.keys() - known):
        module, node = used[name]
        fix = f"write the method, or set self.{name} in __init__"
        yield _at("fail", "names", f"self.{name} is not defined", module, node, fix)


# --- imports -----------------------------------------------------------------------------------------


def check_imports(module: Module) -> Iterator[Finding]:
    """A driver imports the SDK, its hardware library and its own helpers; and they are there."""
    guarded = {id(node) for node in _guarded(module.tree)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [module.absolute(node)]
            if names == [PACKAGE]:
                names = [f"{PACKAGE}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield from _check_import(module, node, name, id(node) in guarded)


def _check_import(module: Module, node: ast.stmt, name: str, guarded: bool) -> Iterator[Finding]:
    root, family = name.split(".")[0], module.path.parent
    if root in sys.stdlib_module_names:
        return
    if root in _SERVICES:
        text = f"{name} is imported: a driver knows nothing of the bus and the services"
        yield _at(
            "warn",
            "imports",
            text,
            module,
            node,
            "give data to stream_wrapper, and results back from commands",
        )
    elif name.startswith("sat_toolkit.testing"):
        yield _at(
            "warn",
            "imports",
            f"{name} is for tests and simulators",
            module,
            node,
            "move it to a test or sim_*.py",
        )
    elif root == "plugins":
        other = name.removeprefix(f"{PACKAGE}.").split(".")[0]
        if other != family.name and (family.parent / other).is_dir():
            text = f"{name} is imported, of another family"
            yield _at(
                "warn",
                "imports",
                text,
                module,
                node,
                f"move what both need to {PACKAGE}, or copy it",
            )
    elif root != "sat_toolkit" and not guarded and not _is_there(root):
        yield _at(
            "fail", "imports", f"{root} is not there", module, node, _how_to_get(module, root)
        )


def _is_there(root: str) -> bool:
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _how_to_get(module: Module, root: str) -> str:
    beside = module.path.with_name(f"{root}.py")
    if beside.exists() or module.path.with_name(root).is_dir():
        return f"it lies beside the driver, so: from {module.package} import {root}"
    return f"install what has it, perhaps: pip install {root.replace('_', '-')}"


def _guarded(tree: ast.AST) -> Iterator[ast.AST]:
    """The imports of which the code expects that they may fail."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            for statement in node.body:
                yield from ast.walk(statement)


# --- errors and manners ------------------------------------------------------------------------------


def check_errors(module: Module) -> Iterator[Finding]:
    """No handler takes every error and keeps it to itself."""
    for function in ast.walk(module.tree):
        if not isinstance(function, FunctionNode) or _ENDING.search(function.name):
            continue
        for node in own_nodes(function):
            if isinstance(node, ast.ExceptHandler) and _is_broad(module, node) and _keeps(node):
                if function.name == "_acquisition_loop":
                    fix = "let it out: a loop that dies puts the device into error, from where it is recovered"
                    text = "every error is swallowed, so a dead device looks alive for ever"
                else:
                    fix = "name the errors that you expect; let the others out: their text becomes the reason"
                    text = f"{function.name} swallows every error, and its reason with it"
                yield _at("warn", "errors", text, module, node, fix)


def _is_broad(module: Module, node: ast.ExceptHandler) -> bool:
    if node.type is None:
        return True
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(module.dotted(kind) in ("Exception", "BaseException") for kind in kinds)


def _keeps(node: ast.ExceptHandler) -> bool:
    """Whether the error goes nowhere but into a log."""
    logged: set[int] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Raise):
            return False
        if isinstance(item, ast.Call):
            name = (
                item.func.attr
                if isinstance(item.func, ast.Attribute)
                else getattr(item.func, "id", "")
            )
            if name in _LOGS:
                logged |= {id(inner) for inner in ast.walk(item)}
    used = (item for item in ast.walk(node) if isinstance(item, ast.Name) and item.id == node.name)
    return all(id(item) in logged for item in used)


def check_manners(module: Module) -> Iterator[Finding]:
    """Nothing that a guest in somebody else's process does not do."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = module.dotted(node.func)
        if name in _BAD_CALLS and name.split(".")[0] not in _local_functions(module):
            what, fix = _BAD_CALLS[name]
            yield _at("warn", "manners", f"{name}() {what}", module, node, fix)
        elif name.startswith("subprocess.") and any(
            isinstance(item, ast.Constant) and str(item.value).split(" ")[0] == "sudo"
            for item in ast.walk(node)
        ):
            fix = "say which privilege is missing, and how to get it"
            yield _at("warn", "manners", "sudo is called", module, node, fix)


def _local_functions(module: Module) -> set[str]:
    return {node.name for node in ast.walk(module.tree) if isinstance(node, FunctionNode)}
