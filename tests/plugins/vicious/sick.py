"""What the sick drivers have in common: a device that works, but for the one hook that is sick.

`info` of a sick driver: ``where`` is the hook that is sick (``new info declare scan initialize connect command
setup loop cleanup input reset close``; default: that of the class). The moment it happens is noted in the folder
that TEST_NOTES names, in a file with the driver's name: seconds of the machine's monotonic clock, a line each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.models.Device_Model import Device

HEALTHY_FRAMES = 3  # before the loop is sick, so that the command that started it is over


def note(driver: str) -> None:
    """`driver` is about to be sick."""
    with (Path(os.environ["TEST_NOTES"]) / driver).open("a") as file:
        file.write(f"{time.monotonic()}\n")


class SickDriver(BaseDeviceDriver):
    """Derived classes say in `sick` what the sick hook does or returns."""

    stream_types = (StreamType.CUSTOM,)
    rescan_in_worker = False
    where = "loop"
    supported_commands: dict[str, Any] = {
        "start": {
            "description": "Stream a counter",
            "parameters": {"type": "object"},
            "timeout_ms": 2000,
        },
        "stop": "Stop streaming",
        "pid": "The process's id",
    }

    def sick(self) -> Any:
        """What the sick hook does and returns."""
        raise NotImplementedError

    def _at(self, hook: str, healthy: Any) -> Any:
        if self.info.get("where", self.where) != hook:
            return healthy
        note(self.driver_name)
        return self.sick()

    def update_info(self, info: Mapping[str, Any]) -> None:
        super().update_info(info)
        self._at("info", None)

    def get_supported_commands(self) -> dict[str, Any]:
        return self._at("declare", super().get_supported_commands())

    def _scan_impl(self) -> list[Device]:
        name = self.driver_name.removeprefix("drv_")
        return self._at("scan", [Device(name, name, "Ethernet", {"hardware_id": name})])

    def _initialize_impl(self, device: Device) -> bool:
        return self._at("initialize", True)

    def _connect_impl(self, device: Device) -> bool:
        return self._at("connect", True)

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        if command == "pid":
            return os.getpid()
        if command == "stop":
            return self.stop_streaming(device)
        return self._at("command", None) or self.start_streaming(device)

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:
        self._at("input", None)

    def _reset_impl(self, device: Device) -> bool:
        return self._at("reset", True)

    def _close_impl(self, device: Device) -> bool:
        return self._at("close", True)

    def _setup_acquisition(self, device: Device) -> None:
        self._at("setup", None)

    def _cleanup_acquisition(self, device: Device) -> None:
        self._at("cleanup", None)

    def _acquisition_loop(self) -> None:
        count = 0
        while self.is_acquiring.is_set():
            self.send(count)
            count += 1
            time.sleep(0.1)
            if count == HEALTHY_FRAMES:
                self._at("loop", None)

    def send(self, data: Any, timestamp: Any = None) -> None:
        """Broadcast one frame."""
        assert self.device is not None
        stamp = time.time() if timestamp is None else timestamp
        self.stream_wrapper.broadcast_data(
            StreamData(
                StreamType.CUSTOM,
                self.device.device_id,
                stamp,
                StreamSource.SERVER,
                StreamAction.DATA,
                data,
            )
        )
