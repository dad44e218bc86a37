"""A simulated device with a console as a program, for the demo and for tests.

    python -m plugins.devices.serial.sim_console --pty /tmp/console
    python -m plugins.devices.serial.sim_console --listen 127.0.0.1:4000

It is a small board behind a serial port at the path that is named, or on TCP: it prints a boot
banner and then its temperature twice a second, and answers ``help``, ``version``, ``uptime``,
``temp``, ``echo`` and ``reboot`` at a prompt. Clients may come and go; what none of them reads is
lost, as on any serial line. It prints one line on its standard output when it is ready, and ends on
SIGINT and SIGTERM. It knows nothing of drivers or of MQTT.
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from plugins.devices.alive_file import NO_FILE, AliveFile
from plugins.devices.pty_link import PtyLink, die_with_parent
from plugins.devices.serial.console_model import Console
from plugins.devices.tcp_link import TcpLink, parse_address
from sat_toolkit.errors import SatError

_MAX_WAIT_S: Final = 0.1
_MAX_PENDING: Final = 4096
_READY_S: Final = 5.0


class ConsolePort:
    """A console on a line. `dropped` counts bytes that no client read in time."""

    def __init__(self, line: PtyLink | TcpLink, log_period: float) -> None:
        self.dropped = 0
        self._line = line
        self._console = Console(time.monotonic(), log_period)
        self._pending = b""

    def step(self) -> None:
        """Wait a moment for what is due or typed, and do it."""
        wait = min(max(0.0, self._console.next_due - time.monotonic()), _MAX_WAIT_S)
        readable, writable, _ = select.select(
            [self._line], [self._line] if self._pending else [], [], wait
        )
        if writable:
            self._flush()
        if readable:
            self._print(self._console.receive(self._line.read(), time.monotonic()))
        self._print(self._console.due(time.monotonic()))

    def _print(self, output: bytes) -> None:
        if len(self._pending) + len(output) > _MAX_PENDING:
            self.dropped += len(output)
            return
        self._pending += output
        self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._pending = self._pending[self._line.write(self._pending) :]


def run(
    line: PtyLink | TcpLink,
    log_period: float,
    stop: threading.Event,
    ready: Callable[[str], None],
    alive: AliveFile = NO_FILE,
) -> None:
    """Be a console on `line`, which is closed at the end, until `stop`."""
    try:
        port = ConsolePort(line, log_period)
        ready(str(line))
        while not stop.is_set():
            port.step()
            alive.beat()
    finally:
        line.close()


@contextmanager
def simulator() -> Iterator[dict[str, Any]]:
    """A console on a thread, for tests: the driver's configuration under which a scan finds it and
    nothing else."""
    stop, ready = threading.Event(), threading.Event()
    with TemporaryDirectory(prefix="sim_console-") as folder:
        link = Path(folder) / "console"
        thread = threading.Thread(
            target=run, args=(PtyLink(link), 0.1, stop, lambda _: ready.set()), name="sim/console"
        )
        thread.start()
        try:
            if not ready.wait(_READY_S):
                raise TimeoutError(f"the console was not ready within {_READY_S:g} s")
            yield {"ports": [{"name": "console", "port": str(link)}], "discover": False}
        finally:
            stop.set()
            thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parse(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if options.die_with_parent and not die_with_parent():
        return 0
    try:
        line = (
            PtyLink(options.pty)
            if options.pty is not None
            else TcpLink(*parse_address(options.listen))
        )
        run(line, options.log_period, stop, _say_ready, AliveFile(options.alive_file))
    except (OSError, SatError) as error:
        sys.stderr.write(f"sim_console: {error}\n")
        return 1
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sim_console", description="A simulated device with a serial console."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pty", type=Path, metavar="PATH", help="be a serial port at this path")
    where.add_argument("--listen", metavar="HOST:PORT", help="be a serial port there, on TCP")
    parser.add_argument(
        "--log-period", type=float, default=0.5, help="seconds between two log lines (0.5)"
    )
    parser.add_argument("--alive-file", type=Path, metavar="PATH", help="keep this file young")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the thread that started it ends"
    )
    options = parser.parse_args(argv)
    if not 0.001 <= options.log_period <= 3600:
        parser.error("--log-period must be 0.001 to 3600 seconds")
    return options


def _say_ready(where: str) -> None:
    sys.stdout.write(f"sim_console ready: {where}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
