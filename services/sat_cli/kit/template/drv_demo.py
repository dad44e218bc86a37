"""Driver for the demo, an instrument that answers lines of text on a TCP port.

Configuration (`info`): ``devices``, name -> ``HOST:PORT``. Each name is the id of a device.

This file works as it is, on the simulator beside it. To make it yours, go through the marks CHANGE.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import CommandFailed, ConfigError
from sat_toolkit.models.Device_Model import Device, DeviceType

logger = logging.getLogger(__name__)

TIMEOUT = 1.0  # seconds that the instrument has to answer; less than the 2 s that a stop waits for the loop
PERIOD = 0.1  # seconds between two values of the stream


class DemoDriver(BaseDeviceDriver):
    """One demo. Each device has an instance of its own."""

    # CHANGE: your commands. What is not declared here is refused before your code sees it, and so are args
    # that do not fit `parameters`, a JSON Schema.
    supported_commands = {
        "start": "Start streaming the measured value",
        "stop": "Stop streaming",
        "status": "Identity, setpoint and measured value",
        "read": "Measure once",
        "set": {
            "description": "Change the setpoint",
            "parameters": {
                "type": "object",
                "properties": {"value": {"type": "number", "minimum": 0, "maximum": 100}},
                "required": ["value"],
                "additionalProperties": False,
            },
        },
    }
    # CHANGE: StreamType.UART, CAN, SPI or I2C where it is one of these; () for a device that streams nothing.
    stream_types = (StreamType.CUSTOM,)
    # The scan keeps nothing that the other hooks need.
    rescan_in_worker = False

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        super().__init__(info)
        self._link: Link | None = None

    def _scan_impl(self) -> list[Device]:
        """CHANGE: the devices that are there now, under ids that stay the same."""
        found: list[Device] = []
        for name, address in self._addresses().items():
            try:
                link = Link(address)
            except OSError as error:
                logger.debug("%s: nobody at %s: %s", name, address, error)
                continue
            try:
                identity = link.query("*IDN?")
            finally:
                link.close()
            # hardware_id tells this very piece of hardware from another one under the same name.
            attributes = {"address": address, "identity": identity, "hardware_id": identity}
            title = f"Demo {name}"
            found.append(Device(name, title, DeviceType.Ethernet, attributes))
        return found

    def _initialize_impl(self, device: Device) -> bool:
        """CHANGE: look whether the device can be used. Once for each way up."""
        return True

    def _connect_impl(self, device: Device) -> bool:
        """CHANGE: open it. What goes wrong is raised: its text is the reason that everybody sees."""
        self._release()
        self._link = Link(self._addresses()[device.device_id])
        return True

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        """CHANGE: one branch for each command. Return anything that can be said in JSON."""
        args = args or {}
        match command:
            case "start":
                self.start_streaming(device)
                return "Started streaming"
            case "stop":
                self.stop_streaming(device)
                return "Stopped streaming"
            case "status":
                return {
                    "identity": self._ask("*IDN?"),
                    "setpoint": float(self._ask("SET?")),
                    **self._read(),
                }
            case "read":
                return self._read()
            case "set":
                self._ask(f"SET {args['value']}")
                return {"setpoint": args["value"]}
        raise CommandFailed(f"{command} is declared and has no branch here")

    def _reset_impl(self, device: Device) -> bool:
        """CHANGE: back to a state from which initialize works. The stream has been stopped."""
        self._release()
        return True

    def _close_impl(self, device: Device) -> bool:
        """Let go of all that the other hooks opened. May be called twice."""
        self._release()
        return True

    def _acquisition_loop(self) -> None:
        """CHANGE: read and broadcast until told to end. Let errors out: they are how a dead device is noticed."""
        running, device = self.is_acquiring, self.device
        assert device is not None
        while running.is_set():
            self.stream_wrapper.broadcast_data(
                StreamData(
                    stream_type=StreamType.CUSTOM,
                    channel=device.device_id,
                    timestamp=time.time(),
                    source=StreamSource.SERVER,
                    action=StreamAction.DATA,
                    data=self._read(),
                )
            )
            time.sleep(PERIOD)

    # CHANGE: from here on it is your instrument's language.

    def _addresses(self) -> dict[str, str]:
        devices = self.info.get("devices", {})
        if not isinstance(devices, dict) or not all(
            isinstance(address, str) for address in devices.values()
        ):
            raise ConfigError('devices must be an object such as {"bench": "192.0.2.7:5025"}')
        return devices

    def _read(self) -> dict[str, float]:
        return {"value": float(self._ask("READ?"))}

    def _ask(self, line: str) -> str:
        if self._link is None:
            raise CommandFailed("the instrument is not connected")
        answer = self._link.query(line)
        if answer.startswith("ERR"):
            raise CommandFailed(
                f"the instrument refuses {line}: {answer}"
            )  # the device itself is fine
        return answer

    def _release(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


class Link:
    """A connection: a line out, a line back. Commands and the stream use it at the same time, hence the lock."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT)
        self._received = b""
        self._lock = threading.Lock()

    def query(self, line: str) -> str:
        """The answer to a line. Raises OSError without one: the device goes to ERROR and comes back by reset."""
        with self._lock:
            try:
                self._socket.sendall(f"{line}\n".encode())
                while b"\n" not in self._received:
                    data = self._socket.recv(4096)
                    if not data:
                        raise ConnectionError("the instrument has closed the connection")
                    self._received += data
            except TimeoutError:
                raise ConnectionError(f"no answer to {line} within {TIMEOUT:g} s") from None
            answer, _, self._received = self._received.partition(b"\n")
            return answer.decode().strip()

    def close(self) -> None:
        self._socket.close()
