"""Where plugins live: the packages `plugins` and `plugins.devices`, which belong to nobody.

They are namespaces, to which any project may add. Where another project has a regular package
`plugins`, Python finds that one alone, whatever the order of the path: what loads plugins calls
`devices`, which makes our families findable in theirs. Theirs stays what it is for everybody else.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

PACKAGE = "plugins.devices"
_HERE = Path(__file__).resolve().parents[2]


def own_folder() -> Path:
    """The folder of the families that come with the project: beside the packages where they are
    installed, one level up in the source tree."""
    installed, source = (folder / "plugins" / "devices" for folder in (_HERE, _HERE.parent))
    return installed if installed.is_dir() else source


def devices() -> ModuleType:
    """The package `plugins.devices`, in which our own families are found first."""
    own = own_folder()
    _with_folder("plugins", own.parent)
    return _with_folder(PACKAGE, own)


def _with_folder(name: str, folder: Path) -> ModuleType:
    """The package `name`, which looks into `folder` before all others."""
    module = importlib.import_module(name)
    others = [entry for entry in getattr(module, "__path__", ()) if Path(entry).resolve() != folder]
    module.__path__ = [str(folder), *others]
    return module
