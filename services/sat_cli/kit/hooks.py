"""The checks of a driver's class: hooks, constructor, attributes, streams, commands. Nothing is
imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from sat_cli.kit.findings import Finding, Level
from sat_cli.kit.source import DriverSource, Method, Module, is_self, own_nodes
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.commands import declared
from sat_toolkit.core.plugin_loader import ARGUMENTS, OPTIONAL_HOOKS, OWN_WAY, REQUIRED_HOOKS
from sat_toolkit.errors import PluginError

_LINES = REQUIRED_HOOKS | OPTIONAL_HOOKS
_BODIES: dict[str, str] = {
    "_scan_impl": "return []  # the devices that are there",
    "_command_impl": 'raise CommandFailed(f"{command} is not there yet")',
    "_acquisition_loop": "while self.is_acquiring.is_set():\n            ...  # read and broadcast",
}
_MUST_RETURN = tuple(name for name in REQUIRED_HOOKS if name != "_command_impl")
_DRAWN_FROM = "sat_toolkit.core.stream_manager.StreamType"


def _at(
    level: Level, check: str, text: str, module: Module, node: ast.AST, fix: str = ""
) -> Finding:
    return Finding(level, check, text, module.file, getattr(node, "lineno", 0), fix)


def line_to_add(hook: str) -> str:
    """A hook as an author would write it at first."""
    return f"    {_LINES[hook]}\n        {_BODIES.get(hook, 'return True')}"


def check_hooks(driver: DriverSource) -> Iterator[Finding]:
    """Each required hook is there, and each hook can be called the way it will be."""
    check = "hooks"
    missing = [hook for hook in REQUIRED_HOOKS if hook not in driver.names]
    for hook in missing if driver.known else ():
        text = f"class {driver.node.name} has no {hook}"
        yield _at(
            "fail",
            check,
            text,
            driver.module,
            driver.node,
            f"add to the class:\n{line_to_add(hook)}",
        )
    own_way = set(OWN_WAY) & driver.names
    for hook in (*REQUIRED_HOOKS, *OPTIONAL_HOOKS):
        method = driver.methods.get(hook)
        if method is not None and not (own_way and "acquisition" in hook):
            yield from _check_hook(check, hook, method)


def _check_hook(check: str, hook: str, method: Method) -> Iterator[Finding]:
    use = f"use:\n    {_LINES[hook]}"
    if isinstance(method.node, ast.AsyncFunctionDef):
        yield _at(
            "fail", check, f"{hook} is async, and nobody awaits it", method.module, method.node, use
        )
    elif not _callable_with(method.node, hook):
        wanted = ARGUMENTS.get(hook, 3)
        text = f"{hook} does not take the {wanted} arguments that it is called with"
        yield _at("fail", check, text, method.module, method.node, use)
    elif hook in _MUST_RETURN and not _gives_a_value(method.node):
        fix = f"end it with:\n        {_BODIES.get(hook, 'return True')}"
        text = f"{hook} returns nothing, which counts as a failure"
        yield _at("fail", check, text, method.module, method.node, fix)


def _callable_with(node: ast.FunctionDef, hook: str) -> bool:
    decorators = {
        decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)
    }
    if len(decorators) < len(node.decorator_list) or decorators - {
        "staticmethod",
        "classmethod",
        "override",
    }:
        return True  # something else makes the function that is called
    own = 0 if "staticmethod" in decorators else 1
    positional = len(node.args.posonlyargs) + len(node.args.args) - own
    needed = positional - len(node.args.defaults)
    forced = any(default is None for default in node.args.kw_defaults)
    if hook == "_command_impl":  # the args come third, by name, spread, or not at all
        named = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        return (
            needed <= 3
            and (positional >= 2 or node.args.vararg is not None)
            and (not forced or "args" in named)
        )
    given = ARGUMENTS[hook]
    return needed <= given and (positional >= given or node.args.vararg is not None) and not forced


def _gives_a_value(node: ast.FunctionDef) -> bool:
    inner = list(own_nodes(node))
    if any(isinstance(item, ast.Yield | ast.YieldFrom) for item in inner):
        return True
    if any(isinstance(item, ast.Return) and item.value is not None for item in inner):
        return True
    return isinstance(node.body[-1], ast.Raise)


def check_constructor(driver: DriverSource) -> Iterator[Finding]:
    """It takes no arguments, calls the base's, and does not look at a configuration that is not
    there yet."""
    check = "constructor"
    init = driver.methods.get("__init__")
    if init is None or isinstance(init.node, ast.AsyncFunctionDef):
        return
    arguments = init.node.args
    needed = len(arguments.posonlyargs) + len(arguments.args) - 1 - len(arguments.defaults)
    if needed > 0 or any(default is None for default in arguments.kw_defaults):
        text = f"{driver.node.name}() must take no arguments"
        yield _at(
            "fail", check, text, init.module, init.node, "use: def __init__(self, info=None):"
        )
    calls = [node for node in ast.walk(init.node) if isinstance(node, ast.Call)]
    if not any(
        isinstance(call.func, ast.Attribute) and call.func.attr == "__init__" for call in calls
    ):
        text = "__init__ does not call that of the base class, which makes what every driver has"
        yield _at(
            "fail",
            check,
            text,
            init.module,
            init.node,
            "add as its first line: super().__init__(info)",
        )
    for node in ast.walk(init.node):
        if is_self(node, "info") and isinstance(getattr(node, "ctx", None), ast.Load):
            text = "self.info is still empty in __init__; the configuration comes after it"
            yield _at("warn", check, text, init.module, node, "read it in the hooks")


def check_attributes(driver: DriverSource) -> Iterator[Finding]:
    """The attributes by which a driver says how it is to be run, where they are written as plain
    values."""
    for name, wanted in (
        ("scan_period", "a number of seconds above 0"),
        ("acquisition_join_timeout", "a number of seconds above 0"),
        ("rescan_in_worker", "True or False"),
    ):
        found = driver.attribute(name)
        if found is None or not isinstance(found[1], ast.Constant):
            continue
        value = found[1].value
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not (isinstance(value, bool) if name == "rescan_in_worker" else number):
            yield _at(
                "fail", "attributes", f"{name} is {value!r}", *found, fix=f"{name} takes {wanted}"
            )


def check_streams(driver: DriverSource) -> Iterator[Finding]:
    """What starts a stream has a loop, the loop can end, and `stream_types` says what it
    carries."""
    check = "streams"
    types = driver.attribute("stream_types")
    drawn = {node.attr: (module, node) for module, node in _sent(driver)}
    offered = _members(types[1]) if types else set()
    own_way = set(OWN_WAY) & driver.names
    starts = any(
        is_self(node, "start_streaming") or is_self(node, "start_acquisition")
        for _, node in driver.walk()
    )
    if (
        (offered or starts)
        and "_acquisition_loop" not in driver.names
        and not own_way
        and driver.known
    ):
        fix = f"add to the class:\n{line_to_add('_acquisition_loop')}"
        yield _at(
            "fail",
            check,
            "the driver streams and has no _acquisition_loop",
            driver.module,
            driver.node,
            fix,
        )
    loop = driver.methods.get("_acquisition_loop")
    if loop and not any(
        isinstance(node, ast.Attribute) and node.attr == "is_acquiring" for _, node in driver.walk()
    ):
        text = "nothing looks at self.is_acquiring, so the loop does not know when to end"
        yield _at(
            "fail",
            check,
            text,
            loop.module,
            loop.node,
            "loop with: while self.is_acquiring.is_set():",
        )
    if offered is not None and loop:
        for name in sorted(drawn.keys() - offered):
            text = f"the stream carries StreamType.{name}, which stream_types does not offer"
            yield _at(
                "warn",
                check,
                text,
                *drawn[name],
                fix=f"set on the class: stream_types = (StreamType.{name},)",
            )
        if types and drawn and offered - drawn.keys():
            names = ", ".join(sorted(offered - drawn.keys()))
            yield _at("warn", check, f"stream_types offers {names}, which nothing sends", *types)


def _sent(driver: DriverSource) -> Iterator[tuple[Module, ast.Attribute]]:
    """The stream types in the StreamData that the driver makes."""
    for module, node in driver.walk():
        if isinstance(node, ast.Call) and module.dotted(node.func).endswith(".StreamData"):
            given = [
                word.value for word in node.keywords if word.arg == "stream_type"
            ] or node.args[:1]
            for value in given:
                if isinstance(value, ast.Attribute) and module.dotted(value.value) == _DRAWN_FROM:
                    yield module, value


def _members(node: ast.expr) -> set[str] | None:
    """The names of the members in a literal tuple; None when it is something else."""
    if not isinstance(node, ast.Tuple | ast.List | ast.Set):
        return None
    if not all(isinstance(item, ast.Attribute) for item in node.elts):
        return None
    return {item.attr for item in node.elts if isinstance(item, ast.Attribute)}


def check_commands(driver: DriverSource) -> Iterator[Finding]:
    """What is declared makes sense, and is what `_command_impl` handles."""
    check = "commands"
    found = driver.attribute("supported_commands")
    if found is None:
        if driver.known and "get_supported_commands" not in driver.names:
            text = "no command is declared, and one that is not declared is refused"
            fix = 'set on the class: supported_commands = {"status": "What the device is doing"}'
            yield _at("warn", check, text, driver.module, driver.node, fix)
        return
    module, node = found
    try:
        declared(_declaring(ast.literal_eval(node)))
    except PluginError as error:
        yield _at("fail", check, str(error), module, node, "see Commands in the plugin guide")
    except (ValueError, TypeError, SyntaxError):
        pass  # it is no plain value: the running driver will tell
    if not isinstance(node, ast.Dict) or not all(
        isinstance(key, ast.Constant) for key in node.keys
    ):
        return
    names = {str(key.value): key for key in node.keys if isinstance(key, ast.Constant)}
    yield from _compare_commands(check, driver, module, node, names)


def _declaring(value: Any) -> type[BaseDeviceDriver]:
    return type("Declaring", (BaseDeviceDriver,), {"supported_commands": value})


def _compare_commands(
    check: str, driver: DriverSource, module: Module, node: ast.Dict, names: dict[str, ast.Constant]
) -> Iterator[Finding]:
    method = driver.methods.get("_command_impl")
    if method is None:
        return
    handled = dict(_handled(method.node))
    for name in sorted(handled.keys() - names.keys()):
        text = f"{name} is handled and not declared, so it is refused before it gets here"
        yield _at(
            "warn", check, text, method.module, handled[name], "declare it in supported_commands"
        )
    dispatches = any(_passes_on(item) for item in ast.walk(method.node))
    refuses = any(
        isinstance(item, ast.Raise) and any(map(_is_command, ast.walk(item)))
        for item in ast.walk(method.node)
    )
    within = {id(item) for item in ast.walk(node)}
    mentioned = {
        item.value
        for _, item in driver.walk()
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in within
    }
    for name in sorted(names.keys() - mentioned) if handled and refuses and not dispatches else ():
        text = f"{name} is declared, and nothing handles it"
        yield _at("warn", check, text, module, names[name], "give it a branch in _command_impl")
    if "_acquisition_loop" in driver.names:
        for name in ("start", "stop"):
            if name not in names:
                text = f"the driver streams and has no command {name}, which policy uses"
                yield _at("warn", check, text, module, node, f"declare {name}, and handle it")


def _passes_on(node: ast.AST) -> bool:
    """Whether the command's name is looked up, or handed to another function, rather than
    compared."""
    if isinstance(node, ast.Subscript):
        return _is_command(node.slice)
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Attribute) and is_self(node.func)
        return (known and any(map(_is_command, node.args))) or _is_name(node.func, "getattr")
    return False


def _is_command(node: ast.AST) -> bool:
    return _is_name(node, "command") or _is_name(node, "cmd")


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _handled(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The texts that the parameter ``command`` is compared with."""
    for item in ast.walk(node):
        values: list[ast.expr] = []
        if isinstance(item, ast.Compare) and _is_command(item.left):
            values = [
                part
                for side in item.comparators
                for part in (getattr(side, "elts", None) or [side])
            ]
        elif isinstance(item, ast.Match) and _is_command(item.subject):
            patterns = [part for case in item.cases for part in ast.walk(case.pattern)]
            values = [part.value for part in patterns if isinstance(part, ast.MatchValue)]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value, value
