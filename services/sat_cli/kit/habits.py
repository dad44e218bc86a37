"""The checks of a file that need to know the SDK: members of its enums, attributes of a driver,
imports that are there and may be made. Nothing is run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from enum import Enum

from sat_cli.kit.findings import Finding, Level
from sat_cli.kit.source import DriverSource, Module, is_self
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.plugin_packages import PACKAGE

_ENUMS = ("stream_manager.StreamType", "stream_manager.StreamSource", "stream_manager.StreamAction",
          "Device_Model.DeviceType", "domain.device.DeviceType", "device_spec.DeviceState")  # fmt: skip


def _at(
    level: Level, check: str, text: str, module: Module, node: ast.AST, fix: str = ""
) -> Finding:
    return Finding(level, check, text, module.file, getattr(node, "lineno", 0), fix)


# --- names -------------------------------------------------------------------------------------------


def check_members(module: Module) -> Iterator[Finding]:
    """The members of the SDK's enums exist."""
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
    """What a driver imports is there, and not another family's."""
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
    if root == "plugins":
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


# --- manners -----------------------------------------------------------------------------------------


def check_sudo(module: Module) -> Iterator[Finding]:
    """No privilege is taken."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and module.dotted(node.func).startswith("subprocess."):
            words = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
            if any(str(word).split(" ")[0] == "sudo" for word in words):
                fix = "say which privilege is missing, and how to get it"
                yield _at("warn", "manners", "sudo is called", module, node, fix)
