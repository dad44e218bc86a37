"""Serial ports by pyserial: the machine's own, and those that configuration names, RFC 2217 and TCP
among them.

One instance serves one port. One thread reads it for as long as the device is connected, and gives
what it reads to the stream, when one runs, and to `expect`; so both work at once, and a port that
is unplugged is noticed also while nobody reads. Writing is done on the caller's thread.

A frame of the stream `uart` is a line, or with ``framing: raw`` what one read gave; `timestamp` is
when its first byte was read. `data` is text, or lower-case hex, as ``metadata["encoding"]`` says
(``utf-8`` or ``hex``); ``metadata["direction"]`` is ``rx``; in lines ``metadata["eol"]`` is the end
of line, which is no part of `data`; ``metadata["dropped"]``, if there, is the number of bytes lost
just before. See `plugins.devices.serial.framing`.

Configuration (`info`): ``ports``, a list as in `plugins.devices.serial.ports`, and ``discover``,
whether the machine's own ports are listed too (default True).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from plugins.devices.netlink_watch import NetlinkWatch
from plugins.devices.serial.access import access_problem
from plugins.devices.serial.commands import BREAK_DEFAULT_MS, COMMANDS, EXPECT_DEFAULT_MS, MAX_WRITE
from plugins.devices.serial.discovery import machine_ports
from plugins.devices.serial.expecting import compile_search, describe, no_match
from plugins.devices.serial.framing import Framing, Piece, client_bytes, message_bytes
from plugins.devices.serial.hotplug import watch_ports
from plugins.devices.serial.line import Line
from plugins.devices.serial.ports import PortConfig, parse_discover, parse_ports
from plugins.devices.serial.receiving import Reader
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError
from sat_toolkit.models.Device_Model import Device, SerialDevice

logger = logging.getLogger(__name__)

_TAKE_S: Final = 0.05
_WRITE_GRACE_S: Final = 2.0
_WRITE_MAX_S: Final = 50.0
_BITS_PER_BYTE: Final = 16  # twelve at the most, and some for gaps


class SerialDriver(BaseDeviceDriver):
    """A serial port."""

    supported_commands = COMMANDS
    stream_types = (StreamType.UART,)
    rescan_in_worker = False
    scan_period = 2.0

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        super().__init__(info)
        self._line: Line | None = None
        self._reader: Reader | None = None
        self._framing = Framing()
        self._frames = 0
        self._gap = 0  # bytes dropped since the last frame
        self._watch: NetlinkWatch | None = None

    # --- scan ----------------------------------------------------------------------------------------

    def _scan_impl(self) -> list[Device]:
        configured = parse_ports(self.info)
        found = machine_ports() if parse_discover(self.info) else []
        machine = {os.path.realpath(device.port): device for device in found}
        devices: list[Device] = []
        for config in configured:
            hardware = (
                None if config.path is None else machine.pop(os.path.realpath(config.path), None)
            )
            if config.path is None or config.path.exists():
                devices.append(_configured_device(config, hardware))
        return devices + list(machine.values())

    def wait_for_change(self, timeout: float) -> bool:
        """Hot-plug: a serial port of the machine came or went."""
        if self._watch is None:
            try:
                self._watch = watch_ports()
            except OSError as error:
                raise NotImplementedError(f"no events of the kernel here: {error}") from error
        return self._watch.wait(timeout)

    # --- lifecycle -----------------------------------------------------------------------------------

    def _initialize_impl(self, device: Device) -> bool:
        path = self._config_of(device).path
        if path is not None:
            if not path.exists():
                raise DriverError(f"{path} is not there: is the device plugged in?")
            if problem := access_problem(path):
                raise DriverError(problem)
        return True

    def _connect_impl(self, device: Device) -> bool:
        self._release()
        line = Line(self._config_of(device))
        reader = Reader(line, f"serial/rx/{device.device_id}", self._port_lost)
        self._line, self._reader, self._frames = line, reader, 0
        reader.start()
        return True

    def _reset_impl(self, device: Device) -> bool:  # noqa: ARG002 - the hook's signature
        self._release()
        self._framing = Framing()
        return True

    def _close_impl(self, device: Device) -> bool:
        return self._reset_impl(device)

    def _release(self) -> None:
        """Close what connect opened. Does nothing when nothing is open."""
        reader, self._reader = self._reader, None
        line, self._line = self._line, None
        if reader is not None:
            reader.stop()
        if line is not None:
            line.close()

    def _config_of(self, device: Device) -> PortConfig:
        for config in parse_ports(self.info):
            if config.name == device.device_id:
                return config
        return PortConfig(device.device_id, str(device.get_attribute("port", "")))

    def _port_lost(self, reason: str) -> None:
        """The reader found the port gone while no stream was there to say so."""
        logger.error("%s", reason)
        if self.on_acquisition_failed is not None:
            self.on_acquisition_failed(reason)

    # --- commands ------------------------------------------------------------------------------------

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        args = args or {}
        match command:
            case "start":
                return self._start(device, args)
            case "stop":
                self.stop_streaming(device)
                return "Stopped streaming"
            case "status":
                return self._status()
            case "write":
                return self._write(args)
            case "expect":
                return self._expect(args)
            case "settings":
                line, _ = self._open_port()
                line.change(args)
                return line.describe()
            case "send_break":
                duration_ms = args.get("duration_ms", BREAK_DEFAULT_MS)
                self._open_port()[0].send_break(duration_ms / 1000)
                return {"duration_ms": duration_ms}
            case _:
                raise BadArgs(f"unknown command {command!r}; supported: {', '.join(COMMANDS)}")

    def _start(self, device: Device, args: Mapping[str, Any]) -> str:
        framing = Framing(
            args.get("framing", Framing.kind),
            args.get("max_length", Framing.max_length),
            args.get("idle_ms", Framing.idle * 1000) / 1000,
        )
        if self.is_acquiring.is_set() and framing != self._framing:
            self.stop_streaming(device)
        self._framing = framing
        self.start_streaming(device)
        return "Started streaming"

    def _write(self, args: Mapping[str, Any]) -> dict[str, Any]:
        _, reader = self._open_port()
        data = message_bytes(args.get("text"), args.get("hex"), args.get("newline", "none"))
        # Before the write, so that no answer is missed.
        reader.forget()
        self._transmit(data)
        return {"bytes_written": len(data)}

    def _expect(self, args: Mapping[str, Any]) -> dict[str, Any]:
        _, reader = self._open_port()
        search = compile_search(args.get("pattern"), args.get("text"))
        if "send" in args:
            self._write({"text": args["send"], "newline": args.get("newline", "none")})
        timeout_ms = args.get("timeout_ms", EXPECT_DEFAULT_MS)
        found = reader.expect(search, timeout_ms / 1000)
        if found is None:
            raise CommandFailed(no_match(describe(args), timeout_ms, reader.unread()))
        return found.value

    def _status(self) -> dict[str, Any]:
        line, reader = self._open_port()
        return {
            "port": line.config.port,
            "settings": None if line.config.scheme == "socket" else str(line.settings),
            "streaming": self.is_acquiring.is_set(),
            "framing": self._framing.kind,
            "counters": {
                "rx": reader.received,
                "tx": line.written,
                "frames": self._frames,
                "dropped": reader.stream_dropped,
                "unread": len(reader.unread()),
            },
        }

    # --- writing -------------------------------------------------------------------------------------

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:  # noqa: ARG002 - the hook's signature
        try:
            data = client_bytes(stream_data.data, stream_data.metadata)
        except ValueError as error:
            raise BadArgs(str(error)) from None
        self._transmit(data)

    def _transmit(self, data: bytes) -> None:
        """Write, from any thread, in the time that the line needs for it and some more."""
        line, _ = self._open_port()
        if len(data) > MAX_WRITE:
            raise BadArgs(f"{len(data)} bytes are too many for one write; at most {MAX_WRITE}")
        needed = len(data) * _BITS_PER_BYTE / line.settings.baud_rate
        line.write(data, min(_WRITE_GRACE_S + needed, _WRITE_MAX_S))

    def _open_port(self) -> tuple[Line, Reader]:
        line, reader = self._line, self._reader
        if line is None or reader is None:
            raise CommandFailed("the port is not open: connect the device first")
        return line, reader

    # --- acquisition ---------------------------------------------------------------------------------

    def _setup_acquisition(self, device: Device) -> None:  # noqa: ARG002 - the hook's signature
        self._open_port()[1].attach()
        self._gap = 0

    def _cleanup_acquisition(self, device: Device) -> None:  # noqa: ARG002 - the hook's signature
        if self._reader is not None:
            # A loop that died by itself cleans up on its own thread and is told by the base; of one
            # that was being stopped while the port went nobody would tell.
            self._reader.detach(told=threading.current_thread() is self.acquisition_thread)

    def _acquisition_loop(self) -> None:
        (_, reader), device = self._open_port(), self.device
        assert device is not None
        running, channel, framer = self.is_acquiring, device.device_id, self._framing.framer()
        try:
            while running.is_set():
                chunk = reader.take(_TAKE_S)
                now = time.monotonic()
                if chunk is None:
                    self._deliver(channel, framer.due(now))
                    continue
                if chunk.dropped:
                    # What was begun before the gap does not go on behind it.
                    self._deliver(channel, framer.flush())
                    self._gap += chunk.dropped
                self._deliver(channel, framer.feed(chunk.timestamp, chunk.data, now))
        finally:
            self._deliver(channel, framer.flush())

    def _deliver(self, channel: str, pieces: list[Piece]) -> None:
        for piece in pieces:
            data, metadata = piece.payload
            if self._gap:
                metadata["dropped"], self._gap = self._gap, 0
            self._frames += 1
            self.stream_wrapper.broadcast_data(
                StreamData(
                    stream_type=StreamType.UART,
                    channel=channel,
                    timestamp=piece.timestamp,
                    source=StreamSource.SERVER,
                    action=StreamAction.DATA,
                    data=data,
                    metadata=metadata,
                )
            )


def _configured_device(config: PortConfig, hardware: SerialDevice | None) -> SerialDevice:
    """The device of a configured port, with what is known of the adapter that it is on."""
    attributes = dict(hardware.attributes) if hardware is not None else {}
    attributes |= {
        "port": config.port,
        "settings": str(config.settings),
        "hardware_id": config.hardware_id,
    }
    name = f"Serial {config.name} ({config.port})"
    return SerialDevice(
        config.name, name, config.port, config.settings.baud_rate, attributes=attributes
    )
