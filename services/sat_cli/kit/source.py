"""A driver's source as the checks look at it: its imports, its driver class, the methods of the
class's chain.

Nothing is imported or run. Base classes are followed into the helper modules of the driver's own
folder; `DriverSource.known` says whether all of them were found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sat_toolkit.core.plugin_loader import REQUIRED_HOOKS
from sat_toolkit.core.plugin_packages import PACKAGE

BASE = "sat_toolkit.core.base_plugin.BaseDeviceDriver"
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One parsed file.

    Raises:
        SyntaxError, ValueError: it is not Python.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_bytes(), str(path))
        self.package = f"{PACKAGE}.{path.parent.name}"

    @property
    def file(self) -> str:
        return str(self.path)

    @cached_property
    def origins(self) -> dict[str, str]:
        """Imported name -> the dotted name of what it is."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                source = self.absolute(node)
                found |= {
                    alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names
                }
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)}

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that a ``from`` import names; relative ones are the folder's own."""
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])

    def dotted(self, node: ast.expr) -> str:
        """What an expression such as ``sm.StreamType`` names, written out; empty when it is no
        name."""
        if isinstance(node, ast.Name):
            return self.origins.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            inner = self.dotted(node.value)
            return f"{inner}.{node.attr}" if inner else ""
        if isinstance(node, ast.Subscript):  # Generic[...]
            return self.dotted(node.value)
        return ""


@dataclass(frozen=True)
class Method:
    """A function of the driver's class, and the file it is written in."""

    node: FunctionNode
    module: Module


@dataclass
class DriverSource:
    """The driver class: its own body and those of its bases, the most derived first."""

    module: Module
    node: ast.ClassDef
    chain: list[tuple[Module, ast.ClassDef]] = field(default_factory=list)
    known: bool = True  # every base class is in the chain
    derives: bool = False  # from BaseDeviceDriver, as far as can be seen

    @cached_property
    def methods(self) -> dict[str, Method]:
        found: dict[str, Method] = {}
        for module, node in self.chain:
            for item in node.body:
                if isinstance(item, FunctionNode):
                    found.setdefault(item.name, Method(item, module))
        return found

    @cached_property
    def names(self) -> set[str]:
        """All that the classes' bodies define: methods and attributes."""
        return {name for _, node in self.chain for item in node.body for name in bound_by(item)}

    def attribute(self, name: str) -> tuple[Module, ast.expr] | None:
        """The value of a class attribute, or of what ``__init__`` sets on self under that name."""
        for module, node in self.chain:
            for item in node.body:
                if (
                    isinstance(item, ast.Assign | ast.AnnAssign)
                    and item.value
                    and name in bound_by(item)
                ):
                    return module, item.value
        init = self.methods.get("__init__")
        for inner in ast.walk(init.node) if init else ():
            if isinstance(inner, ast.Assign | ast.AnnAssign) and inner.value:
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                if init and any(is_self(target, name) for target in targets):
                    return init.module, inner.value
        return None

    def walk(self) -> Iterator[tuple[Module, ast.AST]]:
        """Every node of the chain."""
        for module, node in self.chain:
            for item in ast.walk(node):
                yield module, item


def drivers_of(module: Module) -> list[DriverSource]:
    """The driver classes of a file, without those that only are the base of another one in it."""
    found = [
        driver for node in module.classes.values() if (driver := _driver(module, node)) is not None
    ]
    bases = {id(node) for driver in found for _, node in driver.chain[1:]}
    return [driver for driver in found if id(driver.node) not in bases]


def _driver(module: Module, node: ast.ClassDef) -> DriverSource | None:
    driver = DriverSource(module, node)
    _follow(driver, module, node)
    # A class of unknown descent is a driver when it looks like one.
    if driver.derives or (not driver.known and len(REQUIRED_HOOKS.keys() & driver.names) > 2):
        return driver
    return None


def _follow(driver: DriverSource, module: Module, node: ast.ClassDef) -> None:
    if any(known is node for _, known in driver.chain):
        return
    driver.chain.append((module, node))
    for base in node.bases:
        name = module.dotted(base)
        if name == BASE:
            driver.derives = True
        elif name in module.classes:
            _follow(driver, module, module.classes[name])
        elif name not in ("object", "abc.ABC", "typing.Generic") and not _follow_import(
            driver, module, name
        ):
            driver.known = False


def _follow_import(driver: DriverSource, module: Module, name: str) -> bool:
    source, _, class_name = name.rpartition(".")
    package, _, file = source.rpartition(".")
    if package != module.package:
        return False
    try:
        helper = Module(module.path.with_name(f"{file}.py"))
    except (OSError, SyntaxError, ValueError):
        return False
    if class_name not in helper.classes:
        return False
    _follow(driver, helper, helper.classes[class_name])
    return True


def bound_by(item: ast.stmt) -> set[str]:
    """The names that a statement of a class body defines."""
    if isinstance(item, FunctionNode | ast.ClassDef):
        return {item.name}
    return {
        node.id
        for node in ast.walk(item)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def is_self(node: ast.AST, name: str | None = None) -> bool:
    """Whether `node` is ``self.<name>``, with any name by default."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and name in (None, node.attr)
    )


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without those of functions inside."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own_nodes(child)
