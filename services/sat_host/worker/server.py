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
from sat_host.delivery import DeliveryChanges
from sat_host.wire_messages import (
    AcquisitionFailed,
    Answer,
    Asked,
    Call,
    CommandSpec,
    Configure,
    Describe,
    Description,
    Down,
    Exit,
    Halt,
    HardwareChanged,
    Ping,
    Pong,
    Refusal,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    TakeInput,
)
from sat_host.worker.batcher import Batcher
from sat_host.worker.client_data import Feeder
from sat_host.worker.driver_events import DriverEvents
from sat_host.worker.link import HostLink, LinkClosedError
from sat_toolkit.core import commands, plugin_loader
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.errors import Code, CommandFailed, DriverError, Internal, SatError, text_of
from sat_toolkit.models.Device_Model import Device

_log = logging.getLogger("sat_host.worker.server")

PR_SET_PDEATHSIG = 1
MAX_RESULT = 200_000  # of a command: it goes out on the bus
MAX_SCAN = 900_000  # some 6,000 devices; it stays in the host
WATCH_PERIOD = 1.0


class DriverServer:
    """Serves the calls of one host for one driver, on the thread that makes it."""

    def __init__(self, link: HostLink, configure: Configure) -> None:
        self._link = link
        self._calls: queue.SimpleQueue[Asked | Halt | Exit] = queue.SimpleQueue()
        self._configure = configure
        self._batcher: Batcher | None = None
        self._runner: DriverRunner | None = None
        self._load_error: SatError | None = None
        self._feeder: Feeder | None = None
        self._events = DriverEvents(link)

    def load(self) -> None:
        """Load the driver. A plugin that cannot be loaded is told to whoever calls."""
        configure = self._configure
        plugin = PluginFile(configure.driver, configure.family, Path(configure.path))
        try:
            driver_class = plugin_loader.load_driver(plugin)
            if configure.device is None:
                self._runner = DriverRunner(driver_class, configure.info)
                return
            device = Device.from_dict(configure.device)
            self._batcher = Batcher(
                device.device_id, tuple(driver_class.stream_types), self._link, configure.delivery
            )
            self._runner = DriverRunner(
                driver_class,
                configure.info,
                device,
                sink=self._batcher,
                on_acquisition_failed=self._acquisition_failed,
                on_event=self._events.tell,
            )
            self._runner.driver.stream_manager.window = self._batcher.deliver(DeliveryChanges())
        except SatError as error:
            self._load_error = error

    def serve(self) -> None:
        """Run calls until the host says that it is enough, or is gone."""
        served = (self._configure.device or {}).get("device_id", self._configure.driver)
        threading.Thread(target=self._receive, name=f"receive/{served}", daemon=True).start()
        self.load()
        while not isinstance(message := self._calls.get(), Exit):
            if isinstance(message, Halt):
                self._halt()
            else:
                self._answer(message)
        self._halt()
        if self._batcher is not None:
            self._batcher.stop()
        if self._feeder is not None:
            self._feeder.stop()

    def take(self, message: Down) -> None:
        """Sort a message of the host: client data goes past the calls that wait."""
        match message:
            case Ping():
                self._link.send(Pong())
                self._events.report()
            case TakeInput(stream, items):
                if (feeder := self._fed()) is not None:
                    feeder.put_items(stream, items)
            case Asked(number, SendFrames(block)):
                if (feeder := self._fed()) is not None:
                    feeder.put_block(number, block)
            case Asked() | Halt() | Exit():
                self._calls.put(message)

    def _receive(self) -> None:
        try:
            while True:
                for message in self._link.receive():
                    self.take(message)
        except LinkClosedError:
            self._calls.put(Exit())

    # -- calls -----------------------------------------------------------------------------------

    def _answer(self, asked: Asked) -> None:
        number = asked.call
        answer: Answer | Refusal
        try:
            answer = Answer(number, self._do(asked.request))
        except SatError as error:
            fatal = isinstance(error, DriverError) and not isinstance(error, CommandFailed)
            answer = Refusal(number, error.code, str(error), fatal)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything anywhere
            answer = Refusal(number, Code.DRIVER_ERROR, text_of(error), fatal=True)
        most = MAX_SCAN if isinstance(asked.request, Scan) else MAX_RESULT
        try:
            encoded = wire.encode(answer)
            problem = f"of {len(encoded)} bytes is too large, at most {most}"
            fits = len(encoded) <= most
        except (TypeError, wire.WireError) as error:
            problem, fits = f"cannot be sent: {error}", False
        if not fits:
            encoded = wire.encode(Refusal(number, Internal.code, f"the result {problem}"))
        self._link.send_bytes(encoded)

    def _do(self, request: Call) -> Any:
        if self._load_error is not None:
            raise self._load_error
        runner = self._runner
        if runner is None:
            raise Internal("no driver is loaded")
        match request:
            case RunCommand(name, args, delivery):
                if delivery is not None and self._batcher is not None:
                    runner.driver.stream_manager.window = self._batcher.deliver(delivery)
                return runner.command(name, args, checked=True)
            case Describe():
                return self._describe(runner)
            case Scan():
                return [_described(device) for device in runner.scan()]
            case RunHook("initialize"):
                return runner.initialize()
            case RunHook("connect"):
                return runner.connect()
            case RunHook("reset"):
                return runner.reset()
            case RunHook("close"):
                return runner.close()
        raise Internal(f"a worker does not know {request}")

    def _describe(self, runner: DriverRunner) -> Description:
        driver = runner.driver
        threading.Thread(
            target=self._watch,
            args=(driver.wait_for_change,),
            name=f"watch/{self._configure.driver}",
            daemon=True,
        ).start()
        declared = commands.declared(driver, check=False)
        return Description(
            commands={
                name: CommandSpec(command.description, command.parameters, command.timeout_ms)
                for name, command in declared.items()
            },
            streams=[kind.value for kind in driver.stream_types],
            scan_period=float(driver.scan_period),
        )

    def _watch(self, wait_for_change: Callable[[float], bool]) -> None:
        """Tell the host when the driver says that hardware came or went."""
        while True:
            try:
                if wait_for_change(WATCH_PERIOD):
                    self._link.send(HardwareChanged())
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

    def _acquisition_failed(self, reason: str) -> None:
        self._link.send(AcquisitionFailed(reason))

    def _fed(self) -> Feeder | None:
        """What takes client data; it is made when the first comes. None: there is no device."""
        runner = self._runner
        if self._feeder is None and runner is not None and runner.device is not None:
            self._feeder = Feeder(runner, runner.device.device_id, self._link)
        return self._feeder


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
    if not isinstance(first, Configure):
        raise wire.WireError(f"Configure comes first, this is {first}")
    if own_process:
        limits.apply(first.limits)
    worker = DriverServer(link, first)
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
