"""CAN buses by python-can: the kernel's CAN links and the buses that configuration names.

The reference driver. One instance serves one bus. It reads the bus on the acquisition thread and sends on
the caller's; frames are carried as they are, error, remote and CAN FD frames included. It changes nothing
on the machine: what needs a privilege is said, not done.

Configuration (`info`): ``buses``, a list as in `plugins.devices.can.buses`, and ``receive_own_messages``, whether
what this driver sends comes back on its stream (default False).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import can
from can.typechecking import CanFilter

from plugins.devices.can import frames
from plugins.devices.can.buses import BusConfig, close_bus, is_gone, open_bus, parse_buses, reason
from plugins.devices.can.commands import COMMANDS
from plugins.devices.can.cyclic import Cyclic, cyclic_sender
from plugins.devices.can.hotplug import watch_links
from plugins.devices.can.links import CanLink, find_link, kernel_links
from plugins.devices.can.receiving import drain_bus, enlarge_receive_buffer, socket_drops
from plugins.devices.can.slcan import SlcanBus
from plugins.devices.netlink_watch import NetlinkWatch
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError
from sat_toolkit.models.Device_Model import Device, DeviceType, SocketCANDevice

logger = logging.getLogger(__name__)

RECV_TIMEOUT_S: Final = 0.1
SEND_TIMEOUT_S: Final = 1.0
DRAIN_LIMIT_S: Final = 0.5
# A hardware clock that is no time since the epoch counts from its own start.
_EARLIEST_EPOCH: Final = 1_000_000_000.0


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
        self._send_lock = threading.Lock()
        self._clock_offset: float | None = None
        self._watch: NetlinkWatch | None = None
        self._received = self._sent = self._error_frames = self._controller_overruns = 0

    # --- scan ----------------------------------------------------------------------------------------

    def _scan_impl(self) -> list[Device]:
        configured = parse_buses(self.info)
        links = {link.name: link for link in self._kernel_links()}
        claimed = {bus.channel for bus in configured if bus.interface == "socketcan"}
        devices: list[Device] = [_link_device(link) for link in links.values() if link.name not in claimed]
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
            _require_up(str(config.channel))
        elif config.port is not None and not config.port.exists():
            raise DriverError(f"{config.port} is not there: is the adapter plugged in?")
        self._config = config
        return True

    def _connect_impl(self, device: Device) -> bool:
        config = self._config if self._config is not None else self._config_of(device)
        self._release()
        if config.interface == "socketcan":
            config = _with_fd(config, _require_up(str(config.channel)))
        bus = open_bus(config)
        self._config, self._bus = config, bus
        self._clock_offset = None
        self._received = self._sent = self._error_frames = self._controller_overruns = 0
        self._cyclic = cyclic_sender(bus, self._transmit, f"can/cyclic/{device.device_id}")
        enlarge_receive_buffer(bus)
        bus.set_filters(self._filters or None)
        return True

    def _reset_impl(self, device: Device) -> bool:  # noqa: ARG002 - the hook's signature
        self._filters = []
        self._release()
        return True

    def _close_impl(self, device: Device) -> bool:
        return self._reset_impl(device)

    def _release(self) -> None:
        """Close what connect opened. Does nothing when there is none."""
        cyclic, self._cyclic = self._cyclic, None
        bus, self._bus = self._bus, None
        if cyclic is not None:
            cyclic.close()
        if bus is not None:
            close_bus(bus)

    def _config_of(self, device: Device) -> BusConfig:
        for bus in parse_buses(self.info):
            if bus.name == device.device_id:
                return self._with_own_messages(bus)
        interface = device.get_attribute("interface")
        channel = device.get_attribute("channel")
        if interface in can.VALID_INTERFACES and channel is not None:
            bitrate, fd = device.get_attribute("bitrate"), bool(device.get_attribute("fd"))
            return self._with_own_messages(BusConfig(device.device_id, interface, channel, bitrate, fd))
        return self._with_own_messages(BusConfig(device.device_id, "socketcan", interface or device.device_id))

    def _with_own_messages(self, bus: BusConfig) -> BusConfig:
        if "receive_own_messages" not in self.info or "receive_own_messages" in bus.options:
            return bus
        options = {**bus.options, "receive_own_messages": bool(self.info["receive_own_messages"])}
        return BusConfig(bus.name, bus.interface, bus.channel, bus.bitrate, bus.fd, options)

    # --- commands ------------------------------------------------------------------------------------

    def _command_impl(self, device: Device, command: str, args: dict[str, Any] | None = None) -> Any:
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
        cyclic = self._cyclic
        self._open_bus()
        assert cyclic is not None
        if args.get("stop"):
            return self._stop_cyclic(cyclic, args)
        message = frames.build_message(
            args.get("id"),
            args.get("data", ""),
            extended=args.get("extended"),
            fd=bool(args.get("fd")),
            brs=bool(args.get("brs")),
            remote=bool(args.get("remote")),
            dlc=args.get("dlc"),
        )
        self._check_protocol(message)
        result: dict[str, Any] = dict(frames.message_to_dict(message))
        del result["tx"]
        if "period_ms" not in args:
            self._transmit(message)
            return result
        replaced = cyclic.start(message, args["period_ms"] / 1000, args.get("count"))
        return result | {"period_ms": args["period_ms"], "count": args.get("count"), "replaced": replaced}

    @staticmethod
    def _stop_cyclic(cyclic: Cyclic, args: Mapping[str, Any]) -> dict[str, Any]:
        if unwanted := sorted(args.keys() - {"id", "extended", "stop"}):
            raise BadArgs(f"stop ends a cyclic frame and takes id and extended only, not {', '.join(unwanted)}")
        key = frames.parse_id(args["id"], args.get("extended")) if "id" in args else None
        return {"stopped": cyclic.stop(key)}

    def _check_protocol(self, message: can.Message) -> None:
        if not message.is_fd or self._open_bus().protocol is not can.CanProtocol.CAN_20:
            return
        if isinstance(self._bus, SlcanBus):
            return  # what an slcan adapter can do is known to the adapter only
        raise CommandFailed("this bus carries no CAN FD frames: its link or its configuration is for classic CAN")

    def _status(self) -> dict[str, Any]:
        bus, config, cyclic = self._open_bus(), self._config, self._cyclic
        assert config is not None
        assert cyclic is not None
        link = None
        if config.interface == "socketcan":
            link = next((link for link in self._kernel_links() if link.name == config.channel), None)
        return {
            "interface": config.interface,
            "channel": config.channel,
            "bitrate": link.bitrate if link else config.bitrate,
            "fd": bus.protocol is not can.CanProtocol.CAN_20,
            "up": link.up if link else config.interface != "socketcan",
            "bus_state": (link and link.controller) or f"error-{bus.state.name.lower()}",
            "streaming": self.is_acquiring.is_set(),
            "counters": self._counters(bus, link),
            "filters": [frames.filter_to_dict(entry) for entry in self._filters],
            "cyclic": cyclic.describe(),
        }

    def _counters(self, bus: can.BusABC, link: CanLink | None) -> dict[str, int]:
        counters = {
            "rx": self._received,
            "tx": self._sent,
            "errors": self._error_frames,
            "overruns": self._controller_overruns + socket_drops(bus),
        }
        if isinstance(bus, SlcanBus):
            counters["bad_lines"] = bus.reader.bad_lines
        if link is not None and link.tx_errors is not None and link.rx_errors is not None:
            counters |= {"controller_tx_errors": link.tx_errors, "controller_rx_errors": link.rx_errors}
        return counters

    # --- sending -------------------------------------------------------------------------------------

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:  # noqa: ARG002 - the hook's signature
        message = frames.message_from_dict(stream_data.data)
        self._open_bus()
        self._check_protocol(message)
        self._transmit(message)

    def _transmit(self, message: can.Message) -> None:
        """Send one frame, from any thread. CommandFailed when the bus is there but did not take it."""
        bus = self._open_bus()
        try:
            with self._send_lock:
                bus.send(message, timeout=SEND_TIMEOUT_S)
                self._sent += 1
        except can.CanError as error:
            if is_gone(error):
                raise DriverError(f"the bus is gone: {reason(error)}") from error
            raise CommandFailed(f"the frame was not sent: {reason(error)}") from error

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
            drain_bus(bus, DRAIN_LIMIT_S)
        except (can.CanError, OSError) as error:
            raise DriverError(f"the bus is gone: {reason(error)}") from error

    def _acquisition_loop(self) -> None:
        bus, device = self._open_bus(), self.device
        assert device is not None
        running, channel = self.is_acquiring, device.device_id
        while running.is_set():
            try:
                message = bus.recv(timeout=RECV_TIMEOUT_S)
            except (can.CanError, OSError) as error:
                raise DriverError(f"the bus is gone: {reason(error)}") from error
            if message is not None:
                self._deliver(channel, message)

    def _deliver(self, channel: str, message: can.Message) -> None:
        self._received += 1
        if message.is_error_frame:
            self._error_frames += 1
            self._controller_overruns += frames.is_overrun(message)
        self.stream_wrapper.broadcast_data(
            StreamData(
                stream_type=StreamType.CAN,
                channel=channel,
                timestamp=self._epoch(message.timestamp),
                source=StreamSource.SERVER,
                action=StreamAction.DATA,
                data=frames.message_to_dict(message),
            )
        )

    def _epoch(self, stamp: float) -> float:
        """The capture time in seconds since the epoch, also from hardware whose clock has another zero."""
        if stamp >= _EARLIEST_EPOCH:
            return stamp
        if stamp <= 0:
            return time.time()
        if self._clock_offset is None:
            self._clock_offset = time.time() - stamp
        return stamp + self._clock_offset


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
    return Device(bus.name, f"CAN {bus.name} ({bus.interface} {bus.channel})", DeviceType.CAN, known)


def _require_up(name: str) -> CanLink:
    try:
        link = find_link(name)
    except OSError as error:
        raise DriverError(f"cannot ask the kernel for the link {name}: {error}") from error
    if link is None:
        raise DriverError(f"there is no CAN link {name}: `ip link show type can` and `type vcan` list those there are")
    if not link.up:
        raise DriverError(f"the link {name} is down; bringing it up needs CAP_NET_ADMIN: as root, `{link.up_command}`")
    return link


def _with_fd(config: BusConfig, link: CanLink) -> BusConfig:
    return BusConfig(config.name, config.interface, config.channel, config.bitrate, link.fd, config.options)
