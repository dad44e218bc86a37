"""Find, import and validate ``drv_*.py`` files.

Finding imports no plugin. Loading does; so the driver host leaves that to its workers. A driver is
imported as ``plugins.devices.<family>.<name>``, wherever its file lies, so that it can import its
own helper modules the same way. Whatever is wrong becomes a `PluginError` that names the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.plugin_packages import PACKAGE, devices, own_folder
from sat_toolkit.core.stream_manager import StreamType
from sat_toolkit.errors import ConfigError, PluginError, text_of
from sat_toolkit.extras import with_extra

PREFIX = "drv_"
# By module, held while it is imported: where workers are threads, each device's loads the same
# file.
_importing: dict[str, threading.RLock] = {}

REQUIRED_HOOKS = {
    "_scan_impl": "def _scan_impl(self) -> list[Device]:",
    "_initialize_impl": "def _initialize_impl(self, device: Device) -> bool:",
    "_connect_impl": "def _connect_impl(self, device: Device) -> bool:",
    "_command_impl": "def _command_impl(self, device: Device, command: str, args: dict | None = None):",
    "_reset_impl": "def _reset_impl(self, device: Device) -> bool:",
    "_close_impl": "def _close_impl(self, device: Device) -> bool:",
}
OPTIONAL_HOOKS = {
    "_setup_acquisition": "def _setup_acquisition(self, device: Device) -> None:",
    "_acquisition_loop": "def _acquisition_loop(self) -> None:",
    "_cleanup_acquisition": "def _cleanup_acquisition(self, device: Device) -> None:",
    "_client_data_impl": "def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:",
    "wait_for_change": "def wait_for_change(self, timeout: float) -> bool:",
}
# A driver that overrides one of these runs its acquisition in its own way.
OWN_WAY = ("start_acquisition", "start_streaming")
# How many arguments each hook is called with, beside self.
ARGUMENTS = {
    "_scan_impl": 0, "_initialize_impl": 1, "_connect_impl": 1, "_reset_impl": 1, "_close_impl": 1,
    "_setup_acquisition": 1, "_acquisition_loop": 0, "_cleanup_acquisition": 1, "_client_data_impl": 2,
    "wait_for_change": 1,
}  # fmt: skip


@dataclass(frozen=True)
class PluginFile:
    """A driver that was found: its name (``drv_socketcan``), its family (``can``) and its file."""

    name: str
    family: str
    path: Path


def plugin_folders(extra: str | None = None) -> list[Path]:
    """The folders to search: the project's own, then those of `extra`.

    `extra` is the value of SAT_PLUGINS: folders separated by ``os.pathsep``. Each may hold
    ``<family>/drv_*.py`` or ``drv_*.py``; a ``devices`` or ``plugins/devices`` folder inside is
    found.

    Raises:
        ConfigError: SAT_PLUGINS names something that is no folder.
    """
    folders = [own_folder()]
    for entry in filter(None, (extra or "").split(os.pathsep)):
        folder = Path(entry).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"SAT_PLUGINS names {entry!r}, which is no folder; it takes folders "
                              f"separated by {os.pathsep!r}")  # fmt: skip
        folders.append(inner_folder(folder))
    return list(dict.fromkeys(folders))


def inner_folder(folder: Path) -> Path:
    """The folder that holds the families: a ``plugins/devices`` or ``devices`` inside `folder`, or
    itself."""
    inner = (folder / "plugins" / "devices", folder / "devices", folder)
    return next(candidate for candidate in inner if candidate.is_dir())


def find_plugins(folders: Iterable[Path], family: str | None = None) -> list[PluginFile]:
    """The drivers in `folders`, sorted by name. With `family` only those, and nothing else is
    judged: a stray file of one family does not keep another from its work.

    Raises:
        PluginError: two files have the same driver name, or a family's name cannot be imported.
    """
    found: dict[str, PluginFile] = {}
    for folder in folders:
        for path in sorted([*folder.glob(f"{PREFIX}*.py"), *folder.glob(f"[!.]*/{PREFIX}*.py")]):
            plugin = PluginFile(path.stem, path.parent.name, path.resolve())
            if family not in (None, plugin.family):
                continue
            if "." in plugin.family or "." in plugin.name:
                raise PluginError(
                    f"{path}: neither the folder's name nor the file's may have a dot in it"
                )
            other = found.setdefault(plugin.name, plugin)
            if other.path != plugin.path:
                raise PluginError(
                    f"two drivers have the name {plugin.name}: {other.path} and {plugin.path}; rename one"
                )
    return sorted(found.values(), key=lambda p: p.name)


def plugin_at(path: Path) -> PluginFile:
    """The plugin whose file is at `path`. Imports nothing.

    Raises:
        PluginError: there is no such file, or its name or its folder's cannot be that of a driver.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"{path}: there is no such file")
    if not path.name.startswith(PREFIX) or path.suffix != ".py":
        raise PluginError(f"{path}: a driver's file is named {PREFIX}<name>.py; rename it")
    (plugin,) = (found for found in find_plugins([path.parent]) if found.path == path)
    return plugin


def load_driver(plugin: PluginFile) -> type[BaseDeviceDriver]:
    """Import a driver's file and return its class, validated.

    Raises:
        PluginError: it cannot be imported, has no driver class or several, lacks a required hook,
            or has one that cannot be called as hooks are. The message names the file, the class and
            what to write.
    """
    module = _import(plugin)
    driver_class = _pick(plugin, module)
    _validate(plugin, driver_class)
    return driver_class


def load_beside(plugin: PluginFile, name: str) -> ModuleType:
    """The module `name`, such as a simulator, from the plugin's own folder.

    Raises:
        PluginError: it cannot be imported.
    """
    return _import(replace(plugin, name=name, path=plugin.path.with_name(f"{name}.py")))


def _import(plugin: PluginFile) -> ModuleType:
    """The plugin's module; the file's own, also where another folder has a module of that name."""
    name = f"{PACKAGE}.{plugin.family}.{plugin.name}"
    with _importing.setdefault(name, threading.RLock()):
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(plugin.path):
            return loaded
        return _execute(plugin, name)


def _execute(plugin: PluginFile, name: str) -> ModuleType:
    try:
        family = _family_package(plugin)
        spec = importlib.util.spec_from_file_location(name, plugin.path)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except BaseException as error:  # SystemExit of a plugin must not end its host
        sys.modules.pop(name, None)
        why = f"{text_of(error)}{_extra_for(plugin, error)}"
        raise PluginError(f"{plugin.path}: cannot be imported: {why}") from error
    setattr(family, plugin.name, module)
    return module


def _extra_for(plugin: PluginFile, error: BaseException) -> str:
    """What to install where a family of ours lacks its library: the extra of its name."""
    ours = plugin.path.parent.parent == own_folder()
    if ours and isinstance(error, ModuleNotFoundError):
        return f"; install {with_extra(plugin.family)}"
    return ""


def _family_package(plugin: PluginFile) -> ModuleType:
    """``plugins.devices.<family>``, with the plugin's folder on its path.

    Without that a family folder of SAT_PLUGINS would be hidden by the project's folder of that
    name.
    """
    folder = plugin.path.parent
    _join(devices(), folder.parent)
    importlib.invalidate_caches()  # the folder may be newer than what the import system remembers
    family = importlib.import_module(f"{PACKAGE}.{plugin.family}")
    _join(family, folder)
    return family


def _join(package: ModuleType, folder: Path) -> None:
    known = {Path(entry).resolve() for entry in package.__path__}
    if folder not in known:
        package.__path__ = [*package.__path__, str(folder)]


def _pick(plugin: PluginFile, module: ModuleType) -> type[BaseDeviceDriver]:
    """The one class that is defined in the file; of a chain of them the most derived."""
    # A dict, because a class may have a second name in its module.
    classes = {
        value: None
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseDeviceDriver)
        and value.__module__ == module.__name__
    }
    ends = [
        cls
        for cls in classes
        if not any(other is not cls and issubclass(other, cls) for other in classes)
    ]
    if not ends:
        raise PluginError(f"{plugin.path}: defines no class that derives from BaseDeviceDriver")
    if len(ends) > 1:
        names = ", ".join(cls.__name__ for cls in ends)
        raise PluginError(f"{plugin.path}: defines several drivers: {names}; one file takes one")
    return ends[0]


def _validate(plugin: PluginFile, cls: type[BaseDeviceDriver]) -> None:
    missing = [
        hook for hook in REQUIRED_HOOKS if getattr(cls, hook) is getattr(BaseDeviceDriver, hook)
    ]
    if missing:
        lines = "\n".join(f"    {REQUIRED_HOOKS[hook]}" for hook in missing)
        raise PluginError(
            f"{plugin.path}: class {cls.__name__} lacks {', '.join(missing)}; add:\n{lines}"
        )
    for hook in _called_by_us(cls):
        _validate_hook(plugin, cls, hook)
    if inspect.isabstract(cls):
        names = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"{plugin.path}: class {cls.__name__} is abstract; implement {names}")
    _validate_attributes(plugin, cls)
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise PluginError(
            f"{plugin.path}: {cls.__name__}() must take no arguments ({error}); use: def __init__(self, info=None):"
        ) from None


def _called_by_us(cls: type[BaseDeviceDriver]) -> list[str]:
    """The hooks that the base class calls: a driver that starts its acquisition in its own way
    calls those itself."""
    own_way = any(getattr(cls, name) is not getattr(BaseDeviceDriver, name) for name in OWN_WAY)
    return [
        hook for hook in REQUIRED_HOOKS | OPTIONAL_HOOKS if not (own_way and "acquisition" in hook)
    ]


def _validate_hook(plugin: PluginFile, cls: type[BaseDeviceDriver], hook: str) -> None:
    """Whether a hook can be called the way it will be; a driver may give it further optional
    arguments."""
    found = inspect.getattr_static(cls, hook)
    bound = 0 if isinstance(found, staticmethod) else 1
    function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    line = (REQUIRED_HOOKS | OPTIONAL_HOOKS)[hook]
    wrong = f"{plugin.path}: class {cls.__name__}: {hook}"
    if not callable(getattr(cls, hook)):
        raise PluginError(f"{wrong} is no method but {type(found).__name__}; use:\n    {line}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{wrong} is async, and nobody awaits it; use:\n    {line}")
    if not inspect.isfunction(function):
        return  # made by something that we cannot look into
    try:
        signature = inspect.signature(function)
        if hook != "_command_impl":
            signature.bind(*[None] * (bound + ARGUMENTS[hook]))
            return
        # Drivers of the guide's era take the args third, by name, spread, or not at all.
        if not _binds(signature, bound + 3):
            signature.bind(
                *[None] * (bound + 2), **({"args": None} if "args" in signature.parameters else {})
            )
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{wrong} cannot be called as it will be ({error}); use:\n    {line}"
        ) from None


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _validate_attributes(plugin: PluginFile, cls: type[BaseDeviceDriver]) -> None:
    """The class attributes by which a driver says how it wants to be run."""
    wrong = f"{plugin.path}: class {cls.__name__}:"
    types = cls.stream_types
    if not isinstance(types, tuple | list | frozenset | set) or not all(
        isinstance(kind, StreamType) for kind in types
    ):
        names = ", ".join(f"StreamType.{kind.name}" for kind in StreamType)
        raise PluginError(f"{wrong} stream_types must be a tuple of {names}, not {types!r}")
    for name in ("scan_period", "acquisition_join_timeout"):
        value = getattr(cls, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise PluginError(f"{wrong} {name} must be a number of seconds above 0, not {value!r}")
    if not isinstance(cls.rescan_in_worker, bool):
        raise PluginError(
            f"{wrong} rescan_in_worker must be True or False, not {cls.rescan_in_worker!r}"
        )
