"""The family's name is that of pyserial's package: neither hides the other, wherever a driver
lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# A driver of somebody else's serial family: pyserial, the project's helper modules and its own, all
# by their names.
DRIVER = """
import serial
from serial.tools import list_ports

from plugins.devices.serial.drv_serial import SerialDriver
from plugins.devices.serial.my_helper import BAUD_RATE


class ModemDriver(SerialDriver):
    baud_rate = BAUD_RATE
    opens = serial.Serial
"""

CHECK = """
from sat_toolkit.core.plugin_loader import find_plugins, load_driver, plugin_folders

found = {plugin.name: load_driver(plugin) for plugin in find_plugins(plugin_folders(SAT_PLUGINS), "serial")}
import serial
import plugins.devices.serial
assert "site-packages" in serial.__file__, serial.__file__
assert set(found) == {"drv_modem", "drv_serial"}, found
assert found["drv_modem"].opens is serial.Serial
assert found["drv_modem"].baud_rate == 1200
assert issubclass(found["drv_modem"], found["drv_serial"])
"""


def test_a_serial_family_in_a_folder_of_sat_plugins(tmp_path: Path) -> None:
    family = tmp_path / "serial"
    family.mkdir()
    (family / "drv_modem.py").write_text(DRIVER)
    (family / "my_helper.py").write_text("BAUD_RATE = 1200\n")
    run = subprocess.run(
        [sys.executable, "-c", f"SAT_PLUGINS = {str(tmp_path)!r}\n{CHECK}"],
        capture_output=True,
        text=True,
        timeout=30,
        # Also from the folder in which the family lies.
        cwd=tmp_path.parent,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}"},
    )
    assert run.returncode == 0, run.stderr
