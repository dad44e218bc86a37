"""``sat plugin run``: one device of one driver in this very process, and its commands as lines of
text.

The lifecycle and the driver's instances are those of the in-process backend. Frames are printed by
a thread of their own, so that a slow terminal never holds the driver up; what it cannot print in
time is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from rich.text import Text

from sat_cli import frames
from sat_cli.output import err, label, out, print_result, styled
from sat_cli.values import describe_schema, parse_args
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.core.stream_manager import FrameByFrame, StreamData
from sat_toolkit.errors import BadRequest, ConfigError, SatError, UnknownDevice
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing.loading import find_simulator, simulator_file

MAX_WAITING = 10_000
_TURN = 0.1
_REMARK = "-- "  # begins what is no frame


class Printer(FrameByFrame):
    """A sink that prints frames, on its own thread."""

    def __init__(self) -> None:
        self.dropped = 0
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="plugin/frames", daemon=True)
        self._thread.start()

    def opened(self, channel: str) -> None:
        self._put(f"{_REMARK}{channel}: the stream is open")

    def closed(self, channel: str) -> None:
        self._put(f"{_REMARK}{channel}: the stream is closed")

    def data(self, stream_data: StreamData) -> None:
        self._put(line_of(stream_data))

    def close(self) -> None:
        """Print what waits, and end the thread."""
        self._lines.put(None)
        self._thread.join()
        if self.dropped:
            err.print(
                f"-- {self.dropped} frames were not printed: the terminal is slower than the device",
                style="red",
            )

    def _put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            where = sys.stderr if line.startswith(_REMARK) else sys.stdout
            with suppress(BrokenPipeError):  # who read us has seen enough
                where.write(line + "\n")
                if self._lines.empty():
                    where.flush()


def line_of(stream_data: StreamData) -> str:
    """A frame as text: a CAN frame as candump has it, anything else as JSON."""
    data = jsonable(stream_data.data)
    frame = data if isinstance(data, dict) and "id" in data else {"data": data}
    return frames.line(stream_data.channel, {"t": stream_data.timestamp, **frame})


class Session:
    """A driver's device, used in a ``with`` statement; leaving it closes the device.

    Raises (when entered):
        ConfigError: a simulator was asked for, and the driver has no simulator.
        PluginError: the driver or its simulator cannot be loaded.
    """

    def __init__(
        self, plugin: PluginFile, info: Mapping[str, Any], *, simulate: bool, verbose: bool
    ) -> None:
        self._plugin = plugin
        self._info = dict(info)
        self._simulate = simulate
        self._verbose = verbose
        self._exits = ExitStack()
        self._backend: LocalBackend | None = None
        self._device: Device | None = None

    def __enter__(self) -> Self:
        with self._exits:  # undone when what follows fails
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
            handler.setLevel(logging.DEBUG if self._verbose else logging.WARNING)
            root = logging.getLogger()
            root.addHandler(handler)
            if self._verbose:
                root.setLevel(logging.DEBUG)
            self._exits.callback(root.removeHandler, handler)
            info = (
                self._info | dict(self._exits.enter_context(self._simulator()))
                if self._simulate
                else self._info
            )
            printer = Printer()
            self._exits.callback(printer.close)
            self._backend = LocalBackend([self._plugin], {self._plugin.name: info}, printer)
            self._exits.callback(self._backend.shutdown)
            self._exits = self._exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    def _simulator(self) -> Any:
        simulator = find_simulator(self._plugin)
        if simulator is None:
            raise ConfigError(
                f"{self._plugin.path.parent} has no sim_*.py with a function simulator(); leave --sim out"
            )
        return simulator()

    @property
    def backend(self) -> LocalBackend:
        assert self._backend is not None
        return self._backend

    @property
    def device(self) -> Device:
        assert self._device is not None
        return self._device

    @property
    def state(self) -> DeviceState:
        return self.backend.state(self._plugin.name, self.device)

    def connect(self, device_id: str | None) -> None:
        """Scan, pick and connect.

        Raises:
            UnknownDevice: the scan finds none.
            ConfigError: the named one is not there, or there are several and none is named.
            SatError: it cannot be connected.
        """
        found = {device.device_id: device for device in self.backend.scan(self._plugin.name)}
        ids = ", ".join(found)
        if not found:
            simulator = simulator_file(self._plugin.path)
            hint = "say where it is with --config JSON"
            if simulator is not None and not self._simulate:
                hint += (
                    f", or take the simulator: sat plugin run {self._plugin.path.parent.name} --sim"
                )
            raise UnknownDevice(f"the scan of {self._plugin.name} finds no device; {hint}")
        if device_id is None:
            if len(found) > 1:
                raise ConfigError(f"there are several devices, name one with --device: {ids}")
            device_id = next(iter(found))
        if device_id not in found:
            raise ConfigError(
                f"--device: the scan of {self._plugin.name} does not find {device_id!r}; it finds: {ids}"
            )
        self._device = found[device_id]
        self.operate(Operation.CONNECT)

    def operate(self, operation: Operation) -> None:
        """Run a lifecycle operation and say where the device is then."""
        outcome = self.backend.operate(operation, self._plugin.name, self.device)
        line = Text(f"{self.device.device_id} ", "bold")
        line.append_text(styled(outcome.state))
        err.print(line)

    def do(self, line: str) -> Any:
        """Run a line such as ``send id=0x123 data=01``.

        Raises:
            SatError: it was refused, or failed.
        """
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise BadRequest(f"{line!r}: {error}") from None
        command = self.commands().get(name)
        args = parse_args(words, command.parameters if command else None)
        return self.backend.command(self._plugin.name, self.device, name, args)

    def commands(self) -> Any:
        """What the driver declares, by name."""
        return self.backend.commands(self._plugin.name)


def run_commands(session: Session, lines: Iterable[str], seconds: float | None) -> int:
    """Run the lines, then let frames be printed; how many lines failed. The first failure ends
    it."""
    for line in lines:
        if not _turn(session, line):
            return 1
    _wait(session, seconds)
    return 0 if session.state is not DeviceState.ERROR else 1


def read_commands(session: Session, seconds: float | None) -> int:
    """Run lines from stdin until they end; how many failed. With a terminal there is nobody to
    count for: 0."""
    person = sys.stdin.isatty()
    if person:
        err.print("commands, one a line; /help lists them, Ctrl-D ends", style="dim")
    failures = 0
    try:
        while line := _line(f"{session.device.device_id}> " if person else ""):
            if line.strip() == "/quit":
                break
            if line.strip():
                failures += not _turn(session, line.strip())
        _wait(session, seconds)
    except KeyboardInterrupt:
        err.print()
    return 0 if person else failures


def _line(prompt: str) -> str:
    """The next line with its end; empty at the end of the input."""
    if not prompt:
        return sys.stdin.readline()
    try:
        return input(prompt) + "\n"
    except EOFError:
        err.print()
        return ""


def _wait(session: Session, seconds: float | None) -> None:
    end = time.monotonic() + (seconds or 0.0)
    while time.monotonic() < end and session.state is not DeviceState.ERROR:
        time.sleep(min(_TURN, max(0.0, end - time.monotonic())))


def _turn(session: Session, line: str) -> bool:
    """Run one line and print what comes of it; whether it worked."""
    try:
        if line.startswith("/"):
            _own(session, line)
        else:
            print_result(session.do(line))
    except SatError as error:
        said = Text(f"error ({label(error)}): ", "bold red")
        err.print(said.append(str(error), "not bold red"))
        if session.state is DeviceState.ERROR:
            err.print("  the device is in error; /reset, then /connect", style="dim")
        return False
    return True


def _own(session: Session, line: str) -> None:
    words: dict[str, Callable[[], None]] = {
        "/help": lambda: _help(session),
        "/state": lambda: err.print(styled(session.state)),
        "/connect": lambda: session.operate(Operation.CONNECT),
        "/reset": lambda: session.operate(Operation.RESET),
        "/close": lambda: session.operate(Operation.CLOSE),
    }
    if line not in words:
        raise BadRequest(f"{line} is not one of {', '.join(words)}, /quit")
    words[line]()


def _help(session: Session) -> None:
    for command in session.commands().values():
        out.print(
            Text(command.name, "bold").append(f"  {command.description}", "not bold"),
            soft_wrap=True,
        )
        required = command.parameters.get("required", ())
        for name, schema in (command.parameters.get("properties") or {}).items():
            mark = " (required)" if name in required else ""
            out.print(f"    {name}={describe_schema(schema)}{mark}", soft_wrap=True)
    out.print("/state /connect /reset /close /quit", style="dim")
