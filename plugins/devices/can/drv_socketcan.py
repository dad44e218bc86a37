"""CAN buses by python-can: the kernel's CAN links and the buses that configuration names.

The reference driver. One instance serves one bus. It reads the bus on the acquisition thread and
sends on the caller's; frames are carried as they are, error, remote and CAN FD frames included. It
changes nothing on the machine but a bus-off controller restarted: what else needs a privilege is
said, not done.

Configuration (`info`): ``buses``, a list as in `plugins.devices.can.buses`;
``receive_own_messages``, whether what this driver sends comes back on its stream (default False);
``timestamps``, of frames of the kernel's links: "kernel" (default), or "hardware" for the
controller's clock where it has one; ``recovery``, when a controller that is bus-off is restarted,
as in `plugins.devices.can.health`.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import can
from can.typechecking import CanFilter

from plugins.devices.can import frames
from plugins.devices.can.buses import BusConfig, close_bus, open_bus, parse_buses, reason
from plugins.devices.can.commands import COMMANDS
from plugins.devices.can.cyclic import Cyclic, cyclic_sender
from plugins.devices.can.fast_reader import FastReader, can_read
from plugins.devices.can.health import parse_policy, state_of
from plugins.devices.can.hotplug import watch_links
from plugins.devices.can.links import CanLink, await_up, kernel_links, require_up
from plugins.devices.can.monitor import LinkMonitor
from plugins.devices.can.receiving import (
    DRAIN_LIMIT_S,
    Counters,
    FrameStream,
    MessageStream,
    drain_bus,
    enlarge_receive_buffer,
    link_drops,
    socket_drops,
)
from plugins.devices.can.sending import Sender
from plugins.devices.can.slcan import SlcanBus
from plugins.devices.netlink_watch import NetlinkWatch
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamData, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed, ConfigError, DriverError
from sat_toolkit.models.Device_Model import Device, DeviceType, SocketCANDevice

logger = logging.getLogger(__name__)

TIMESTAMPS: Final = ("kernel", "hardware")


class SocketCANDriver(BaseDeviceDriver):
    """A CAN bus of the kernel or of any python-can interface."""

    supported_commands = COMMANDS
    stream_types = (StreamType.CAN,)
    rescan_in_worker = False
    scan_period = 2.0

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        super().__init__(info)
        self._bus: can.BusABC | None = None
        self._config: BusConfig | None = None
        self._cyclic: Cyclic | None = None
        self._filters: list[CanFilter] = []
        self._sender: Sender | None = None
        self._reader: FastReader | None = None
        self._receive_buffer: int | None = None
        self._counters_in = Counters()
        self._watch: NetlinkWatch | None = None
        self._monitor: LinkMonitor | None = None

    # --- scan ----------------------------------------------------------------------------------------

    def _scan_impl(self) -> list[Device]:
        configured = parse_buses(self.info)
        links = {link.name: link for link in self._kernel_links()}
        claimed = {bus.channel for bus in configured if bus.interface == "socketcan"}
        devices: list[Device] = [
            _link_device(link) for link in links.values() if link.name not in claimed
        ]
        for bus in configured:
            if bus.interface == "socketcan":
                if link := links.get(str(bus.channel)):
                    devices.append(_link_device(link, bus.name))
            elif bus.port is None or bus.port.exists():
                devices.append(_bus_device(bus))
        return devices

    @staticmethod
    def _kernel_links() -> list[CanLink]:
        try:
            return kernel_links()
        except OSError as error:
            # Where netlink is forbidden (some containers) the configured buses still work.
            logger.warning("cannot list the kernel's CAN links: %s", error)
            return []

    def wait_for_change(self, timeout: float) -> bool:
        """Hot-plug: a CAN link of the kernel came, went, or changed."""
        if self._watch is None:
            self._watch = watch_links()
        return self._watch.wait(timeout)

    # --- lifecycle -----------------------------------------------------------------------------------

    def _initialize_impl(self, device: Device) -> bool:
        config = self._config_of(device)
        if config.interface == "socketcan":
            require_up(str(config.channel))
        elif config.port is not None and not config.port.exists():
            raise DriverError(f"{config.port} is not there: is the adapter plugged in?")
        self._config = config
        return True

    def _connect_impl(self, device: Device) -> bool:
        config = self._config if self._config is not None else self._config_of(device)
        self._release()
        policy, link = parse_policy(self.info), None
        if config.interface == "socketcan":
            link = require_up(str(config.channel))
            config = _with_fd(config, link)
        hardware = self._wants_hardware_stamps()
        bus = self._make_bus(config)
        self._config, self._bus = config, bus
        sock = self._frame_socket(bus)
        self._counters_in = Counters()
        self._sender = Sender(bus, sock)
        self._cyclic = cyclic_sender(bus, self._sender.send, f"can/cyclic/{device.device_id}")
        self._receive_buffer = enlarge_receive_buffer(bus)
        bus.set_filters(self._filters or None)
        if sock is not None:
            self._reader = FastReader(
                sock, fd=bus.protocol is not can.CanProtocol.CAN_20, hardware=hardware
            )
        if link is not None:
            name = f"can/health/{device.device_id}"
            self._monitor = LinkMonitor(
                link, policy, self._counters_in.kinds, self.report_event, name
            )
        return True

    def _reset_impl(self, device: Device) -> bool:  # noqa: ARG002 - the hook's signature
        self._filters = []
        self._release()
        return True

    def _close_impl(self, device: Device) -> bool:
        return self._reset_impl(device)

    def _release(self) -> None:
        """Close what connect opened. Does nothing when nothing is open."""
        cyclic, self._cyclic = self._cyclic, None
        monitor, self._monitor = self._monitor, None
        bus, self._bus, self._reader, self._sender = self._bus, None, None, None
        if monitor is not None:
            monitor.close()
        if cyclic is not None:
            cyclic.close()
        if bus is not None:
            close_bus(bus)

    def _make_bus(self, config: BusConfig) -> can.BusABC:
        """Open the bus that `config` describes. Raises DriverError."""
        return open_bus(config)

    def _frame_socket(self, bus: can.BusABC) -> socket.socket | None:
        """The socket that gives and takes the kernel's CAN frames; None where frames are
        python-can's affair."""
        sock = getattr(bus, "socket", None)
        return sock if isinstance(sock, socket.socket) and can_read(sock) else None

    def _wants_hardware_stamps(self) -> bool:
        wanted = self.info.get("timestamps", "kernel")
        if wanted not in TIMESTAMPS:
            raise ConfigError(f"timestamps must be {' or '.join(TIMESTAMPS)}, not {wanted!r}")
        return bool(wanted == "hardware")

    def _config_of(self, device: Device) -> BusConfig:
        for bus in parse_buses(self.info):
            if bus.name == device.device_id:
                return self._with_own_messages(bus)
        interface = device.get_attribute("interface")
        channel = device.get_attribute("channel")
        if interface in can.VALID_INTERFACES and channel is not None:
            bitrate, fd = device.get_attribute("bitrate"), bool(device.get_attribute("fd"))
            return self._with_own_messages(
                BusConfig(device.device_id, interface, channel, bitrate, fd)
            )
        return self._with_own_messages(
            BusConfig(device.device_id, "socketcan", interface or device.device_id)
        )

    def _with_own_messages(self, bus: BusConfig) -> BusConfig:
        if "receive_own_messages" not in self.info or "receive_own_messages" in bus.options:
            return bus
        options = {**bus.options, "receive_own_messages": bool(self.info["receive_own_messages"])}
        return BusConfig(bus.name, bus.interface, bus.channel, bus.bitrate, bus.fd, options)

    # --- commands ------------------------------------------------------------------------------------

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        args = args or {}
        match command:
            case "start":
                if "filters" in args:
                    self._set_filters(args["filters"])
                self.start_streaming(device)
                return "Started streaming"
            case "stop":
                self.stop_streaming(device)
                return "Stopped streaming"
            case "status":
                return self._status()
            case "send":
                return self._send(args)
            case "filter":
                return {"filters": self._set_filters(args.get("filters", []))}
            case _:
                raise BadArgs(f"unknown command {command!r}; supported: {', '.join(COMMANDS)}")

    def _set_filters(self, wanted: object) -> list[dict[str, Any]]:
        filters = frames.parse_filters(wanted)
        self._open_bus().set_filters(filters or None)
        self._filters = filters
        return [frames.filter_to_dict(entry) for entry in filters]

    def _send(self, args: Mapping[str, Any]) -> dict[str, Any]:
        cyclic, sender = self._cyclic, self._open_sender()
        assert cyclic is not None
        if args.get("stop"):
            return self._stop_cyclic(cyclic, args)
        if "frames" in args:
            return sender.send_list(args["frames"])
        message = frames.message_from_args(args)
        result: dict[str, Any] = dict(frames.message_to_dict(message))
        del result["tx"]
        if "period_ms" not in args:
            sender.send(message)
            return result
        sender.check(message)
        replaced = cyclic.start(message, args["period_ms"] / 1000, args.get("count"))
        return result | {
            "period_ms": args["period_ms"],
            "count": args.get("count"),
            "replaced": replaced,
        }

    @staticmethod
    def _stop_cyclic(cyclic: Cyclic, args: Mapping[str, Any]) -> dict[str, Any]:
        if unwanted := sorted(args.keys() - {"id", "extended", "stop"}):
            raise BadArgs(
                f"stop ends a cyclic frame and takes id and extended only, not {', '.join(unwanted)}"
            )
        key = frames.parse_id(args["id"], args.get("extended")) if "id" in args else None
        return {"stopped": cyclic.stop(key)}

    def _status(self) -> dict[str, Any]:
        bus, config, cyclic = self._open_bus(), self._config, self._cyclic
        assert config is not None
        assert cyclic is not None
        link = None
        if config.interface == "socketcan":
            link = next(
                (link for link in self._kernel_links() if link.name == config.channel), None
            )
        return {
            "interface": config.interface,
            "channel": config.channel,
            "bitrate": link.bitrate if link else config.bitrate,
            **(_timings(link) if link else {}),
            "fd": bus.protocol is not can.CanProtocol.CAN_20,
            "up": link.up if link else config.interface != "socketcan",
            "bus_state": self._bus_state(bus, link),
            "streaming": self.is_acquiring.is_set(),
            "counters": self._counters(bus, link),
            "receive_buffer": self._receive_buffer,
            "filters": [frames.filter_to_dict(entry) for entry in self._filters],
            "cyclic": cyclic.describe(),
            **(self._monitor.describe() if self._monitor is not None else {}),
        }

    def _bus_state(self, bus: can.BusABC, link: CanLink | None) -> str:
        if self._monitor is None:
            return f"error-{bus.state.name.lower()}"
        return state_of(link, self._monitor.state)

    def _counters(self, bus: can.BusABC, link: CanLink | None) -> dict[str, int]:
        counters = {
            "rx": self._counters_in.received,
            "tx": self._open_sender().sent,
            "errors": self._counters_in.errors,
            "overruns": self._counters_in.overruns
            + self._counters_in.link_drops
            + socket_drops(bus),
        }
        if isinstance(bus, SlcanBus):
            counters["bad_lines"] = bus.reader.bad_lines
        if link is not None and link.tx_errors is not None and link.rx_errors is not None:
            counters |= {
                "controller_tx_errors": link.tx_errors,
                "controller_rx_errors": link.rx_errors,
            }
        return counters

    # --- sending -------------------------------------------------------------------------------------

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:  # noqa: ARG002 - the hook's signature
        message = frames.message_from_dict(stream_data.data)
        self._open_sender().send(message)

    def _client_frames_impl(self, device: Device, block: FrameBlock) -> dict[str, Any]:  # noqa: ARG002 - the hook's signature
        return self._open_sender().send_block(block)

    def _open_sender(self) -> Sender:
        self._open_bus()
        assert self._sender is not None
        return self._sender

    def _open_bus(self) -> can.BusABC:
        bus = self._bus
        if bus is None:
            raise CommandFailed("the bus is not open: connect the device first")
        return bus

    # --- acquisition ---------------------------------------------------------------------------------

    def _setup_acquisition(self, device: Device) -> None:  # noqa: ARG002 - the hook's signature
        """Let go of what piled up while nobody read, so that a stream begins with the present."""
        bus = self._open_bus()
        try:
            if self._reader is not None:
                self._reader.skip(DRAIN_LIMIT_S)
            else:
                drain_bus(bus)
        except (can.CanError, OSError) as error:
            self._outlive(error, lambda: False)

    def _acquisition_loop(self) -> None:
        bus, device, reader, running = (
            self._open_bus(),
            self.device,
            self._reader,
            self.is_acquiring,
        )
        assert device is not None
        with link_drops(self._link_name()) as dropped:
            stream: FrameStream | MessageStream
            if reader is not None:
                stream = FrameStream(
                    reader, self.stream_wrapper, device.device_id, self._counters_in, dropped
                )
            else:
                stream = MessageStream(
                    bus, self.stream_wrapper, device.device_id, self._counters_in
                )
            while running.is_set():
                try:
                    stream.run(running)
                except (can.CanError, OSError) as error:
                    self._outlive(error, running.is_set)

    def _link_name(self) -> str | None:
        config = self._config
        return (
            str(config.channel) if config is not None and config.interface == "socketcan" else None
        )

    def _outlive(self, error: Exception, waits: Callable[[], bool]) -> None:
        """Wait while `waits()` for a link that went down: its socket stays bound and goes on when
        it is up again.

        Raises:
            DriverError: the error says something else, or the link is not what it was.
        """
        name = self._link_name()
        if name is None or not isinstance(error, OSError) or error.errno != errno.ENETDOWN:
            raise DriverError(f"the bus is gone: {reason(error)}") from error
        link = await_up(name, waits)
        if link is None:
            raise DriverError(f"the bus is gone: the link {name} was removed")
        if link.up and link.fd is (self._open_bus().protocol is can.CanProtocol.CAN_20):
            raise DriverError(
                f"the link {name} is {'' if link.fd else 'no longer '}for CAN FD now: it must be opened anew"
            )


def _timings(link: CanLink) -> dict[str, Any]:
    known = {
        "sample_point": link.sample_point,
        "data_bitrate": link.data_bitrate,
        "data_sample_point": link.data_sample_point,
        "restart_ms": link.restart_ms,
    }
    return {key: value for key, value in known.items() if value is not None}


def _link_device(link: CanLink, name: str | None = None) -> SocketCANDevice:
    attributes = {
        "channel": link.name,
        "kind": link.kind,
        "bitrate": link.bitrate,
        "data_bitrate": link.data_bitrate,
        "fd": link.fd,
        "up": link.up,
        "state": link.controller or ("up" if link.up else "down"),
        "hardware_id": link.hardware_id,
    }
    known = {key: value for key, value in attributes.items() if value is not None}
    device_id = name or link.name
    return SocketCANDevice(device_id, f"CAN {device_id}", link.name, attributes=known)


def _bus_device(bus: BusConfig) -> Device:
    attributes = {
        "interface": bus.interface,
        "channel": bus.channel,
        "bitrate": bus.bitrate,
        "fd": bus.fd,
        "up": True,
        "hardware_id": bus.hardware_id,
    }
    known = {key: value for key, value in attributes.items() if value is not None}
    return Device(
        bus.name, f"CAN {bus.name} ({bus.interface} {bus.channel})", DeviceType.CAN, known
    )


def _with_fd(config: BusConfig, link: CanLink) -> BusConfig:
    return BusConfig(
        config.name, config.interface, config.channel, config.bitrate, link.fd, config.options
    )
