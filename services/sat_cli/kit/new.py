"""A new plugin from the template: a driver, its simulator and its test, under the author's name for
it.

The template is real files in ``template/``, which work as they are under the name ``demo``.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from sat_toolkit.core.plugin_loader import find_plugins, plugin_folders
from sat_toolkit.errors import ConfigError

TEMPLATE = Path(__file__).parent / "template"
MAX_NAME = 24
_FILES = ("drv_demo.py", "sim_demo.py", "test_drv_demo.py")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def new_plugin(name: str, family: str | None, folder: Path) -> list[Path]:
    """Write the files of driver ``drv_<name>`` into ``folder/<family>``; the driver's first.
    Overwrites nothing.

    Raises:
        ConfigError: the name cannot be a driver's, a file is there already, or the folder cannot be
            written to.
    """
    name = _checked(name.removesuffix(".py").removeprefix("drv_"), "a plugin's name")
    family = _checked(family, "a family's name") if family is not None else name
    for other in find_plugins(plugin_folders()):
        if other.name == f"drv_{name}":
            raise ConfigError(
                f"drv_{name} ships with the project ({other.path}); take another name"
            )
    target = folder / family
    written = {
        target / _renamed(file, name): _renamed((TEMPLATE / file).read_text(), name)
        for file in _FILES
    }
    there = [str(path) for path in written if path.exists()]
    if there:
        raise ConfigError(
            f"{', '.join(there)}: there already, and not overwritten; take another name or --dir"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path, text in written.items():
            path.write_text(text)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; name another folder with --dir"
        ) from None
    return list(written)


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME or keyword.iskeyword(name):
        raise ConfigError(
            f"{what} is a word of a-z, 0-9 and _ that begins with a letter, up to {MAX_NAME} characters, "
            f"such as power_supply; not {name!r}"
        )
    return name


def _renamed(text: str, name: str) -> str:
    camel = "".join(part.capitalize() for part in name.split("_"))
    return text.replace("demo", name).replace("Demo", camel).replace("DEMO", name.upper())
