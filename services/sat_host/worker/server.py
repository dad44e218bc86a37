"""The worker process: loads one driver, serves one device (or only scans), and dies with its host.

Started by the host as ``python -P -m sat_host.worker.server FD HOST_PID``; its first message says what
it is for. Plugin code runs here and nowhere else. Calls run one at a time on the main thread,
client data on a thread of its own, so that a long command does not hold it up.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sat_bus.service.loop import SWITCH_INTERVAL_S
from sat_host import wire
from sat_host.containment import limits
from sat_host.containment.limits import WorkerLimits
from sat_host.delivery import Delivery
from sat_host.worker.batcher import Batcher
from sat_host.worker.client_data import Feeder
from sat_host.worker.driver_events import DriverEvents
from sat_toolkit.core import plugin_loader
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamData
from sat_toolkit.errors import Code, CommandFailed, DriverError, Internal, SatError, text_of
from sat_toolkit.models.Device_Model import Device

_log = logging.getLogger("sat_host.worker.server")

PR_SET_PDEATHSIG = 1
MAX_RESULT = 200_000  # of a command: it goes out on the bus
MAX_SCAN = 900_000  # some 6,000 devices; it stays in the host
SEND_BUFFER = 65_536  # what a reply has to wait behind where frames flood
WATCH_PERIOD = 1.0


class LinkClosedError(Exception):
    """The host has closed its end: there is nothing more to do."""


class HostLink:
    """The worker's end of the socketpair. Sending blocks while the host does not read."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._socket = end
        self._lock = threading.Lock()
        self._decoder = wire.Decoder()
        self._room = select.poll()
        self._room.register(end, select.POLLOUT)

    def ready(self) -> bool:
        """Whether a batch could be sent now without waiting: nobody sends, and most of the buffer
        is free."""
        try:
            return not self._lock.locked() and bool(self._room.poll(0))
        except OSError as error:
            raise LinkClosedError from error

    def send_bytes(self, data: bytes) -> None:
        """Send what `wire` has packed.

        Raises:
            LinkClosedError: the host is gone.
        """
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise LinkClosedError from error

    def send_batch(self, data: bytes) -> None:
        """Send a batch once most of the buffer is free, so that a reply never waits behind more
        than two.

        Raises:
            LinkClosedError: the host is gone.
        """
        try:
            self._room.poll()
        except OSError as error:
            raise LinkClosedError from error
        self.send_bytes(data)

    def send(self, message: dict[str, Any]) -> None:
        """Send one object. Raises LinkClosedError."""
        self.send_bytes(wire.pack(message))

    def receive(self) -> list[dict[str, Any]]:
        """The next messages, at least one.

        Raises:
            LinkClosedError: the host is gone.
        """
        messages: list[dict[str, Any]] = []
        while not messages:
            try:
                data = self._socket.recv(65_536)
            except OSError as error:
                raise LinkClosedError from error
            if not data:
                raise LinkClosedError
            messages = [_unpacked(kind, body) for kind, body in self._decoder.feed(data)]
        return messages

    def close(self) -> None:
        """Close both ends' way, so that whoever waits here goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _unpacked(kind: wire.Kind, body: bytes) -> dict[str, Any]:
    """A message of the host; the frames of a block stand in it as ``block``."""
    if kind is wire.Kind.JSON:
        return wire.unpack(body)
    header, records = wire.unpack_frames(body)
    return {**header, "block": FrameBlock(records, header["size"])}


class DriverServer:
    """Serves the calls of one host for one driver."""

    def __init__(self, link: HostLink, config: dict[str, Any]) -> None:
        self._link = link
        self._calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._config = config
        self._batcher: Batcher | None = None
        self._runner: DriverRunner | None = None
        self._load_error: SatError | None = None
        self._feeder: Feeder | None = None
        self._events = DriverEvents(link.send)
        self._caller = 0
        self._ended_itself = False

    def load(self) -> None:
        """Load the driver. A plugin that cannot be loaded is told to whoever calls."""
        config = self._config
        plugin = PluginFile(config["driver"], config["family"], Path(config["path"]))
        try:
            driver_class = plugin_loader.load_driver(plugin)
            if config["device"] is None:
                self._runner = DriverRunner(driver_class, config["info"])
                return
            device = Device.from_dict(config["device"])
            self._runner = DriverRunner(
                driver_class,
                config["info"],
                device,
                sink=self,
                on_acquisition_failed=self._acquisition_failed,
                on_event=self._events.tell,
            )
            self._batcher = Batcher(
                device.device_id,
                tuple(driver_class.stream_types),
                self._link.send_batch,
                self._link.ready,
                self._announce,
                Delivery.from_dict(config["delivery"]),
            )
            self._runner.driver.stream_manager.window = self._batcher.deliver({})
        except SatError as error:
            self._load_error = error

    def serve(self) -> None:
        """Run calls until the host says that it is enough, or is gone."""
        self._caller = threading.get_ident()
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        self.load()
        while not (message := self._calls.get()).get("exit"):
            self._call(message)
        self._halt()
        if self._batcher is not None:
            self._batcher.stop()
        if self._feeder is not None:
            self._feeder.stop()

    def take(self, message: dict[str, Any]) -> None:
        """Sort a message of the host: client data goes past the calls that wait."""
        if "ping" in message:
            self._link.send({"event": "pong"})
            self._events.report()
        elif "input" in message or "block" in message:
            self._take_input(message)
        else:
            self._calls.put(message)

    def _receive(self) -> None:
        try:
            while True:
                for message in self._link.receive():
                    self.take(message)
        except LinkClosedError:
            self._calls.put({"exit": True})

    # -- calls -----------------------------------------------------------------------------------

    def _call(self, message: dict[str, Any]) -> None:
        if message.get("halt"):
            self._halt()
            return
        number = message.get("call")
        try:
            reply = {"call": number, "ok": True, "result": self._do(message)}
        except SatError as error:
            fatal = isinstance(error, DriverError) and not isinstance(error, CommandFailed)
            reply = {
                "call": number,
                "ok": False,
                "code": error.code,
                "message": str(error),
                "fatal": fatal,
            }
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything anywhere
            reply = {
                "call": number,
                "ok": False,
                "code": Code.DRIVER_ERROR,
                "message": text_of(error),
                "fatal": True,
            }
        try:
            packed = wire.pack(reply)
            most = MAX_SCAN if message.get("do") == "scan" else MAX_RESULT
            problem = (
                f"the result of {len(packed)} bytes is too large, at most {most}"
                if len(packed) > most
                else ""
            )
        except (TypeError, wire.WireError) as error:
            packed, problem = b"", f"the result cannot be sent: {error}"
        if problem:
            packed = wire.pack(
                {"call": number, "ok": False, "code": Internal.code, "message": problem}
            )
        self._link.send_bytes(packed)

    def _do(self, message: dict[str, Any]) -> Any:
        if self._load_error is not None:
            raise self._load_error
        runner = self._runner
        if runner is None:
            raise Internal("no driver is loaded")
        what = message["do"]
        if what == "command":
            if "stream" in message and self._batcher is not None:
                runner.driver.stream_manager.window = self._batcher.deliver(message["stream"])
            return runner.command(message["command"], message["args"])
        if what == "describe":
            return self._describe(runner)
        if what == "scan":
            return [_described(device) for device in runner.scan()]
        operation: dict[str, Callable[[], None]] = {
            "initialize": runner.initialize,
            "connect": runner.connect,
            "reset": runner.reset,
            "close": runner.close,
        }
        return operation[what]()

    def _describe(self, runner: DriverRunner) -> dict[str, Any]:
        threading.Thread(
            target=self._watch, args=(runner.driver.wait_for_change,), name="watch", daemon=True
        ).start()
        return {
            "commands": {
                name: {
                    "description": c.description,
                    "parameters": c.parameters,
                    "timeout_ms": c.timeout_ms,
                }
                for name, c in runner.commands().items()
            },
            "streams": [kind.value for kind in runner.driver.stream_types],
            "scan_period": runner.driver.scan_period,
        }

    def _watch(self, wait_for_change: Callable[[float], bool]) -> None:
        """Tell the host when the driver says that hardware came or went."""
        while True:
            try:
                if wait_for_change(WATCH_PERIOD):
                    self._link.send({"event": "changed"})
            except NotImplementedError:
                return
            except Exception:  # noqa: BLE001 - a plugin may raise anything
                _log.exception("watching for hardware changes ended; periodic scans go on")
                return

    def _halt(self) -> None:
        """The device is in ERROR: its stream has to end."""
        runner = self._runner
        if runner is None or runner.device is None or not runner.acquiring:
            return
        try:
            runner.driver.stop_streaming(runner.device)
        except Exception:  # noqa: BLE001 - a plugin may raise anything
            _log.exception("the stream could not be stopped")

    # -- streams (StreamSink) ----------------------------------------------------------------------

    def opened(self, channel: str) -> None:
        self._link.send({"event": "acquiring", "on": True})
        if self._batcher is not None:
            self._batcher.opened(channel)

    def data(self, stream_data: StreamData) -> None:
        if self._batcher is not None:
            self._batcher.data(stream_data)

    def block(self, channel: str, block: FrameBlock) -> None:
        if self._batcher is not None:
            self._batcher.block(channel, block)

    def lost(self, channel: str, count: int, cause: str) -> None:
        if self._batcher is not None:
            self._batcher.lost(channel, count, cause)

    def closed(self, channel: str) -> None:
        # Off the thread of the calls it is the driver that ended it, whatever call runs meanwhile.
        self._ended_itself = threading.get_ident() != self._caller
        if self._batcher is not None:
            self._batcher.closed(channel)
        self._link.send({"event": "acquiring", "on": False})

    def _announce(self, kind: str, stream: str, running: bool) -> None:
        event = {"event": "stream", "type": kind, "stream": stream, "running": running}
        self._link.send(event | {"by_itself": not running and self._ended_itself})

    def _acquisition_failed(self, reason: str) -> None:
        self._link.send({"event": "failed", "reason": reason})

    # -- client data ---------------------------------------------------------------------------------

    def _take_input(self, message: dict[str, Any]) -> None:
        runner = self._runner
        if runner is None or runner.device is None:
            return
        if self._feeder is None:
            self._feeder = Feeder(runner, runner.device.device_id, self._link.send)
        if "block" in message:
            self._feeder.put_block(message["call"], message["block"])
        else:
            self._feeder.put_items(message["stream"], message["input"])


def _described(device: Device) -> dict[str, Any]:
    plain: dict[str, Any] = jsonable(device)
    hardware_id = device.hardware_id
    return {**plain, "hardware_id": None if hardware_id is None else str(hardware_id)}


def _die_with(host_pid: int) -> None:
    """SIGKILL when the host's thread that started us ends; at once when it has ended already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host_pid:
        os._exit(0)


def serve(link: HostLink, *, own_process: bool) -> None:
    """Serve the host at the other end of `link`; its first message says as what, and within which
    limits.

    Raises:
        LinkClosedError: the host is gone.
    """
    first, *rest = link.receive()
    if own_process:
        limits.apply(WorkerLimits(**first["config"]["limits"]))
    worker = DriverServer(link, first["config"])
    for message in rest:
        worker.take(message)
    worker.serve()


def main() -> None:
    """The program."""
    fd, host_pid = int(sys.argv[1]), int(sys.argv[2])
    _die_with(host_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    os.set_inheritable(fd, False)
    link = HostLink(socket.socket(fileno=fd))
    threading.excepthook = _end_with_the_link
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with contextlib.suppress(LinkClosedError):
        serve(link, own_process=True)
    os._exit(0)  # whatever threads the driver still has


def _end_with_the_link(args: threading.ExceptHookArgs) -> None:
    """A thread that finds the host gone ends the process; any other's exception is printed as
    usual."""
    if isinstance(args.exc_value, LinkClosedError):
        os._exit(0)
    threading.__excepthook__(args)


if __name__ == "__main__":
    main()
