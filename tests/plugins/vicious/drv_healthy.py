"""The good neighbour: a device whose hardware makes 200 frames a second, whoever has the processor."""

from __future__ import annotations

import time
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.models.Device_Model import Device

RATE = 200
HARDWARE_BUFFER = RATE // 2  # frames; what is not fetched in time is lost, as in a real device


class HealthyDriver(BaseDeviceDriver):
    stream_types = (StreamType.CUSTOM,)
    rescan_in_worker = False
    supported_commands = {
        "start": "Stream a counter",
        "stop": "Stop streaming",
        "echo": "Answer with the args",
    }

    def _scan_impl(self) -> list[Device]:
        return [Device("healthy", "Healthy", "Ethernet", {"hardware_id": "healthy"})]

    def _initialize_impl(self, device: Device) -> bool:
        return True

    def _connect_impl(self, device: Device) -> bool:
        return True

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        if command == "start":
            return self.start_streaming(device)
        if command == "stop":
            return self.stop_streaming(device)
        return args

    def _reset_impl(self, device: Device) -> bool:
        return True

    def _close_impl(self, device: Device) -> bool:
        return True

    def _acquisition_loop(self) -> None:
        assert self.device is not None
        channel, start, fetched = self.device.device_id, time.time(), 0
        while self.is_acquiring.is_set():
            made = int((time.time() - start) * RATE)
            for number in range(max(fetched, made - HARDWARE_BUFFER), made):
                self.stream_wrapper.broadcast_data(
                    StreamData(
                        StreamType.CUSTOM,
                        channel,
                        start + number / RATE,
                        StreamSource.SERVER,
                        StreamAction.DATA,
                        number,
                    )
                )
            fetched = made
            time.sleep(1 / RATE)
