"""Our families are found and imported also where another project owns a package `plugins`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sat_toolkit.core.plugin_packages import own_folder

ROOT = Path(__file__).resolve().parents[4]
# Loads both of our drivers, whose helpers are imported as `plugins.devices.<family>.<module>`; and
# what is theirs stays so.
_CODE = """
from sat_toolkit.core.plugin_loader import find_plugins, load_driver, plugin_folders
found = [load_driver(plugin).__module__ for plugin in find_plugins(plugin_folders())]
assert found == ["plugins.devices.serial.drv_serial", "plugins.devices.can.drv_socketcan"], found
import plugins, plugins.devices.can.frames, plugins.devices.pty_link
print(getattr(plugins, "OWNER", "nobody"), getattr(plugins.devices, "OWNER", "nobody"))
"""


def run(code: str, path: Path | None) -> subprocess.CompletedProcess[str]:
    folders = [*([path] if path else []), ROOT / "shared", ROOT / "services", ROOT]
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=30,
    )


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_our_own_folder_is_where_our_families_are() -> None:
    assert own_folder() == ROOT / "plugins" / "devices"


def test_the_packages_belong_to_nobody() -> None:
    assert run(_CODE, None).stdout == "nobody nobody\n"
    assert not (own_folder() / "__init__.py").exists()
    assert not (own_folder().parent / "__init__.py").exists()


@pytest.mark.parametrize(
    ("files", "owners"),
    [
        ({"plugins/__init__.py": "OWNER = 'them'"}, "them nobody"),
        ({"plugins.py": "OWNER = 'them'"}, "them nobody"),
        (
            {
                "plugins/__init__.py": "OWNER = 'them'",
                "plugins/devices/__init__.py": "OWNER = 'them'",
                "plugins/devices/can/__init__.py": "raise ImportError('not ours')",
            },
            "them them",
        ),
    ],
)
def test_theirs_stays_theirs_and_ours_is_found(
    tmp_path: Path, files: dict[str, str], owners: str
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    result = run(_CODE, tmp_path)
    assert (result.stdout, result.stderr) == (f"{owners}\n", "")


def test_a_driver_may_use_what_is_theirs(tmp_path: Path) -> None:
    write(tmp_path / "path/plugins/__init__.py", "LIMIT = 7")
    write(tmp_path / "path/plugins/theirs.py", "NAME = 'x'")
    write(
        tmp_path / "mine/lab/drv_lab.py",
        "import plugins\nfrom plugins.theirs import NAME\nfrom plugins.devices.lab.helper import HELP\n"
        "from sat_toolkit.core.base_plugin import BaseDeviceDriver\n"
        "SEEN = plugins.LIMIT, NAME, HELP\n"
        "class Lab(BaseDeviceDriver):\n"
        "    def _initialize_impl(self, device): return True\n"
        "    _connect_impl = _reset_impl = _close_impl = _initialize_impl\n"
        "    def _scan_impl(self): return []\n"
        "    def _command_impl(self, device, command, args=None): return None\n",
    )
    write(tmp_path / "mine/lab/helper.py", "HELP = 1")
    code = (
        "import sys\nfrom sat_toolkit.testing import load\n"
        f"print(sys.modules[load({str(tmp_path / 'mine/lab/drv_lab.py')!r}).__module__].SEEN)"
    )
    result = run(code, tmp_path / "path")
    assert (result.stdout, result.stderr) == ("(7, 'x', 1)\n", "")


def test_a_simulator_runs_where_they_own_the_package(tmp_path: Path) -> None:
    write(tmp_path / "plugins/__init__.py")
    words = ["-m", "sat_cli.bench.simulate", "plugins.devices.can.sim_ecu", "--help"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            map(str, (tmp_path, ROOT / "shared", ROOT / "services", ROOT))
        )
    }
    result = subprocess.run(
        [sys.executable, "-P", *words], env=environment, capture_output=True, text=True, timeout=30
    )
    assert "--pty" in result.stdout, result.stderr


def test_a_library_that_a_family_of_ours_lacks_is_named_with_its_extra() -> None:
    code = f"import sys; sys.modules['can'] = None\n{_CODE}"
    result = run(code, None)
    assert "No module named 'can'" in result.stderr or "import of can halted" in result.stderr
    assert result.stderr.rstrip().endswith("; install sat-rack[can]")
