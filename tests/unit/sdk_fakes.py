"""Small fakes for the SDK's tests: a driver whose every hook can be told what to do, and a sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import (
    FrameByFrame,
    StreamAction,
    StreamData,
    StreamSource,
    StreamType,
)
from sat_toolkit.models.Device_Model import Device

DEADLINE = 5.0


def device(device_id: str = "dev0") -> Device:
    return Device(device_id, device_id.upper(), "Custom")


def datum(channel: str = "dev0", data: Any = "x") -> StreamData:
    return StreamData(StreamType.CUSTOM, channel, 1.5, StreamSource.SERVER, StreamAction.DATA, data)


class RecordingSink(FrameByFrame):
    """Keeps what a driver's streams did; `wait_for` waits for an event with a deadline."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.received: list[StreamData] = []
        self._changed = threading.Condition()

    def opened(self, channel: str) -> None:
        self._add("opened", channel)

    def closed(self, channel: str) -> None:
        self._add("closed", channel)

    def data(self, stream_data: StreamData) -> None:
        with self._changed:
            self.received.append(stream_data)
            self._changed.notify_all()

    def _add(self, event: str, channel: str) -> None:
        with self._changed:
            self.events.append((event, channel))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[RecordingSink], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), DEADLINE), (
                "it did not happen in time"
            )


class FakeDriver(BaseDeviceDriver):
    """Each hook notes its call in `calls` and then does what `does` holds for it, or succeeds.

    What `does` holds is called with the hook's arguments; an exception in it is raised.
    """

    supported_commands = {"go": "do it", "stop": "stop streaming", "start": "start streaming"}

    def __init__(self, info: dict[str, Any] | None = None) -> None:
        super().__init__(info)
        self.calls: list[str] = []
        self.does: dict[str, Any] = {}

    def _run(self, hook: str, *args: Any) -> Any:
        self.calls.append(hook)
        action = self.does.get(hook, True)
        if isinstance(action, BaseException):
            raise action
        return action(*args) if callable(action) else action

    def _scan_impl(self) -> list[Device]:
        self.calls.append("scan")
        action = self.does.get("scan", [device()])
        if isinstance(action, BaseException):
            raise action
        return action

    def _initialize_impl(self, device: Device) -> bool:
        return self._run("initialize", device)

    def _connect_impl(self, device: Device) -> bool:
        return self._run("connect", device)

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        if command == "start":
            return self.start_streaming(device)
        if command == "stop":
            return self.stop_streaming(device)
        return self._run("command", device, command, args)

    def _reset_impl(self, device: Device) -> bool:
        return self._run("reset", device)

    def _close_impl(self, device: Device) -> bool:
        return self._run("close", device)

    def _setup_acquisition(self, device: Device) -> None:
        return self._run("setup", device)

    def _cleanup_acquisition(self, device: Device) -> None:
        self._run("cleanup", device)

    def _acquisition_loop(self) -> None:
        loop = self.does.get("loop")
        if callable(loop):
            loop()
        elif loop is not None:
            raise loop
        else:
            while self.is_acquiring.is_set():
                self.stream_wrapper.broadcast_data(datum(self.device.device_id))
                threading.Event().wait(0.002)
