"""A device without hardware that answers at once, so that a command's round trip is the bus's and
the host's alone."""

from __future__ import annotations

from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.models.Device_Model import Device


class EchoDriver(BaseDeviceDriver):
    """One device, `echo`."""

    supported_commands = {
        "echo": {
            "description": "Give back what came.",
            "parameters": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "pattern": "^0x[0-9a-fA-F]{1,8}$"},
                    "data": {"type": "string", "maxLength": 128},
                },
                "required": ["id", "data"],
                "additionalProperties": False,
            },
        }
    }

    def _scan_impl(self) -> list[Device]:
        return [Device(device_id="echo", name="Echo", device_type="echo")]

    def _initialize_impl(self, device: Device) -> bool:
        return True

    def _connect_impl(self, device: Device) -> bool:
        return True

    def _command_impl(self, device: Device, command: str, args: dict[str, Any]) -> Any:
        return args

    def _reset_impl(self, device: Device) -> bool:
        return True

    def _close_impl(self, device: Device) -> bool:
        return True
