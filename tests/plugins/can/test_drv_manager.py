"""The guide's way: the driver found by the plugin loader and driven by DeviceDriverManager in
process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sat_toolkit.core.device_manager import DeviceDriverManager
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import find_plugins, plugin_folders
from tests.waiting import eventually

DRIVER = "drv_socketcan"


def test_a_lifecycle_over_a_serial_line(sim: Callable, tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    ecu = sim("--pty", str(port))
    info = {
        "buses": [{"name": "ecu", "interface": "slcan", "channel": str(port), "bitrate": 500_000}]
    }
    manager = DeviceDriverManager(
        LocalBackend(find_plugins(plugin_folders(), family="can"), infos={DRIVER: info})
    )
    try:
        devices = {device.device_id: device for device in manager.scan_devices(DRIVER)["devices"]}
        device = devices["ecu"]
        assert manager.initialize_device(DRIVER, device)["message"] == "Device initialized"
        assert manager.connect_device(DRIVER, device)["message"] == "Device connected"
        assert (
            manager.execute_command(DRIVER, "start", device_id="ecu")["result"]
            == "Started streaming"
        )
        sent = manager.execute_command(
            DRIVER, "send", device_id="ecu", args={"id": "0x7DF", "data": "02010c"}
        )
        assert sent["result"] == {"id": 0x7DF, "data": "02010c"}
        assert eventually(
            lambda: (
                manager.execute_command(DRIVER, "status", device_id="ecu")["result"]["counters"][
                    "rx"
                ]
                > 20
            )
        )
        refused = manager.execute_command(
            DRIVER, "send", device_id="ecu", args={"id": 1, "data": "xyz"}
        )
        assert (refused["status"], refused["code"]) == ("error", "bad_args")
        assert manager.get_device_state(DRIVER, "ecu")["state"] == DeviceState.CONNECTED
        ecu.stop()
        assert eventually(
            lambda: manager.get_device_state(DRIVER, "ecu")["state"] == DeviceState.ERROR
        )
    finally:
        assert manager.cleanup_all_devices()[DRIVER]["status"] == "success"


@pytest.mark.parametrize("info", [{}, {"buses": []}])
def test_without_buses_a_kernel_without_can_gives_an_empty_list(info: dict[str, object]) -> None:
    kernel = {
        folder.parent.name
        for folder in Path("/sys/class/net").glob("*/type")
        if folder.read_text().strip() == "280"
    }
    backend = LocalBackend(find_plugins(plugin_folders(), family="can"), infos={DRIVER: info})
    result = DeviceDriverManager(backend).scan_devices(DRIVER)
    assert result["status"] == "success"
    assert {device.device_id for device in result["devices"]} == kernel
