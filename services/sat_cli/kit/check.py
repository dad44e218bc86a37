"""``sat plugin check``: looks at a driver's source, then has it run in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sat_cli.kit import habits, hooks, lint
from sat_cli.kit.child import Options, run_probe
from sat_cli.kit.findings import Finding, failed
from sat_cli.kit.source import DriverSource, Module, drivers_of
from sat_toolkit.core.plugin_loader import REQUIRED_HOOKS, plugin_at
from sat_toolkit.errors import PluginError

ClassCheck = Callable[[DriverSource], Iterator[Finding]]
CLASS_CHECKS: tuple[tuple[str, tuple[ClassCheck, ...]], ...] = (
    ("hooks", (hooks.check_hooks,)),
    ("constructor", (hooks.check_constructor,)),
    ("attributes", (hooks.check_attributes,)),
    ("commands", (hooks.check_commands,)),
    ("streams", (hooks.check_streams,)),
)


def check_plugin(path: Path, *, dynamic: bool, options: Options) -> Iterator[Finding]:
    """All that can be said of the driver at `path`, as it is found.

    The driver is run only when its source has no failure.
    """
    found: list[Finding] = []
    for finding in check_source(path):
        found.append(finding)
        yield finding
    if not dynamic:
        return
    if failed(found):
        yield Finding(
            "warn", "run", "not run: its source has failures", str(path), 0, "mend these first"
        )
        return
    yield from run_probe(path, options)


def check_source(path: Path) -> Iterator[Finding]:
    """What can be said of a driver without running it; for each kind of check an ``ok`` where there
    is nothing."""
    try:
        plugin_at(path)
    except PluginError as error:
        yield Finding("fail", "file", str(error).removeprefix(f"{path.resolve()}: "), str(path))
        return
    try:
        module = Module(path)
    except (SyntaxError, ValueError) as error:
        line = error.lineno or 0 if isinstance(error, SyntaxError) else 0
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        yield Finding("fail", "file", f"it is no Python: {text}", str(path), line)
        return
    drivers = drivers_of(module)
    if len(drivers) != 1:
        yield _not_one(module, drivers)
        return
    of_file = [
        *lint.check_source_with_ruff(module),
        *habits.check_members(module),
        *habits.check_attributes_of_self(drivers[0]),
        *habits.check_imports(module),
        *habits.check_sudo(module),
    ]
    yield Finding("ok", "file", f"class {drivers[0].node.name}", str(path), drivers[0].node.lineno)
    for name, class_checks in CLASS_CHECKS:
        yield from _or_ok(
            name, [finding for check in class_checks for finding in check(drivers[0])]
        )
    for name in ("names", "imports", "errors", "manners"):
        yield from _or_ok(name, [finding for finding in of_file if finding.check == name])


def _not_one(module: Module, drivers: list[DriverSource]) -> Finding:
    if not drivers:
        fix = (
            "add:\nfrom sat_toolkit.core.base_plugin import BaseDeviceDriver\n\n\nclass MyDriver(BaseDeviceDriver):\n"
            + "\n\n".join(hooks.line_to_add(hook) for hook in REQUIRED_HOOKS)
        )
        return Finding(
            "fail",
            "file",
            "it defines no class that derives from BaseDeviceDriver",
            module.file,
            0,
            fix,
        )
    names = ", ".join(driver.node.name for driver in drivers)
    text = f"it defines several drivers: {names}"
    fix = "one file takes one; move what they share to a module of its own, and each driver to a file of its own"
    return Finding("fail", "file", text, module.file, drivers[1].node.lineno, fix)


def _or_ok(name: str, findings: list[Finding]) -> list[Finding]:
    return findings or [Finding("ok", name)]
