"""A CAN device of the test's own making: it broadcasts what it is told to, in blocks or one by
one."""

from __future__ import annotations

from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import CommandFailed
from sat_toolkit.models.Device_Model import Device, DeviceType

_ANY = {"type": "object"}


class FramesDriver(BaseDeviceDriver):
    """`emit` broadcasts ``count`` frames from number ``first`` on, ``lost`` of them lost ahead."""

    stream_types = (StreamType.CAN,)
    supported_commands = {
        name: {"description": name, "parameters": _ANY}
        for name in ("start", "stop", "emit", "sent", "window")
    }

    def __init__(self, info: Any = None) -> None:
        super().__init__(info)
        self._taken: list[Any] = []

    def _scan_impl(self) -> list[Device]:
        return [Device("a", "a", DeviceType.CAN, {})]

    def _initialize_impl(self, device: Device) -> bool:
        return True

    _connect_impl = _reset_impl = _close_impl = _initialize_impl

    def _acquisition_loop(self) -> None:
        while self.is_acquiring.is_set():
            self.is_acquiring.wait(0.05)

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        args = args or {}
        if command == "start":
            self.start_streaming(device)
            return args
        if command == "stop":
            self.stop_streaming(device)
        elif command == "emit":
            self._emit(device.device_id, args)
        elif command == "sent":
            return self._taken
        return self.stream_wrapper.window

    def _emit(self, channel: str, args: dict[str, Any]) -> None:
        if args.get("lost"):
            self.stream_wrapper.report_lost(channel, args["lost"], "kernel")
        numbers = range(args["first"], args["first"] + args["count"])
        frames: list[dict[str, Any]] = [
            {"t": 1000.0 + number / 1000, "id": number % 4, "data": f"{number:08x}"}
            for number in numbers
        ]
        if args.get("single"):
            for frame in frames:
                data = StreamData(
                    StreamType.CAN,
                    channel,
                    frame.pop("t"),
                    StreamSource.SERVER,
                    StreamAction.DATA,
                    frame,
                )
                self.stream_wrapper.broadcast_data(data)
        else:
            self.stream_wrapper.broadcast_frames(channel, FrameBlock.pack(frames))

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:
        if stream_data.data["id"] == 0x666:
            raise CommandFailed("not this one")
        self._taken.append(stream_data.data)
