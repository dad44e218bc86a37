"""A driver without hardware whose devices do what a test asks of them, good or bad."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import CommandFailed
from sat_toolkit.models.Device_Model import Device


class BenchDriver(BaseDeviceDriver):
    """`info`: ``devices`` (ids), ``log`` (a file that every hook appends a line to), ``fail``
    (hooks that fail)."""

    stream_types = (StreamType.CUSTOM,)
    rescan_in_worker = False
    scan_period = 1.0
    supported_commands = {
        "start": {
            "description": "Stream a counter",
            "parameters": {"type": "object", "properties": {"period": {"type": "number"}}},
        },
        "stop": "Stop streaming",
        "echo": {
            "description": "Answer with the args",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
        "sent": "Data that clients sent",
        "refuse": "Raise ValueError",
        "fail": "Raise CommandFailed",
        "break": "Raise OSError",
        "sleep": {
            "description": "Take a while",
            "parameters": {"type": "object"},
            "timeout_ms": 700,
        },
        "exit": "End the process",
        "crash": "Raise a real SIGSEGV",
        "report": {"description": "Report `n` events", "parameters": {"type": "object"}},
        "dead_loop": "Stream, then let the acquisition loop raise",
    }

    def __init__(self) -> None:
        super().__init__()
        self._sent: list[Any] = []
        self._period = 0.005
        self._die = False

    def _note(self, hook: str) -> None:
        log = self.info.get("log")
        if log:
            device = self.device.device_id if self.device else "-"
            with Path(log).open("a") as file:
                file.write(f"{hook} {device}\n")
        if hook in self.info.get("fail", ()):
            raise RuntimeError(f"{hook} was told to fail")

    def _scan_impl(self) -> list[Device]:
        self._note("scan")
        listing = self.info.get("listing")
        ids = (
            json.loads(Path(listing).read_text())
            if listing
            else self.info.get("devices", ["a", "b"])
        )
        return [Device(i, f"Bench {i}", "Ethernet", {"hardware_id": f"serial-{i}"}) for i in ids]

    def _initialize_impl(self, device: Device) -> bool:
        self._note("initialize")
        return True

    def _connect_impl(self, device: Device) -> bool:
        self._note("connect")
        return True

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        self._note(command)
        args = args or {}
        if command == "start":
            self._period = args.get("period", 0.005)
            return self.start_streaming(device)
        if command == "dead_loop":
            self._die = True
            return self.start_streaming(device)
        if command == "stop":
            return self.stop_streaming(device)
        if command == "echo":
            return {"text": args["text"], "pid": os.getpid()}
        if command == "sent":
            return self._sent
        if command == "report":
            for index in range(args["n"]):
                self.report_event("happened", index=index, event="state")
            return None
        return self._misbehave(command, args)

    def _misbehave(self, command: str, args: dict[str, Any]) -> Any:
        if command == "refuse":
            raise ValueError("no")
        if command == "fail":
            raise CommandFailed("not today")
        if command == "break":
            raise OSError("cable cut")
        if command == "sleep":
            self._die = args.get("loop_dies", self._die)
            time.sleep(args.get("seconds", 5))
        if command == "exit":
            os._exit(3)
        if command == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return "done"

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:
        if stream_data.data == "no":
            raise ValueError("not this")
        self._sent.append(stream_data.data)

    def _reset_impl(self, device: Device) -> bool:
        self._note("reset")
        return True

    def _close_impl(self, device: Device) -> bool:
        self._note("close")
        return True

    def _acquisition_loop(self) -> None:
        count = 0
        while self.is_acquiring.is_set():
            if self._die and count >= 3:
                raise OSError("unplugged")
            assert self.device is not None
            self.stream_wrapper.broadcast_data(
                StreamData(
                    StreamType.CUSTOM,
                    self.device.device_id,
                    time.time(),
                    StreamSource.SERVER,
                    StreamAction.DATA,
                    count,
                )
            )
            count += 1
            time.sleep(self._period)
