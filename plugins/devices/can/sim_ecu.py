"""A simulated ECU as a program: bus traffic of a small car for the demo and for tests.

    python -m plugins.devices.can.sim_ecu --pty /tmp/ecu
    python -m plugins.devices.can.sim_ecu --listen 127.0.0.1:29536
    python -m plugins.devices.can.sim_ecu --interface socketcan --channel vcan0

With ``--pty`` it is an slcan adapter with the car behind it, at the port that the path names, with
``--listen`` the same on TCP; any slcan program can open it. Otherwise it takes part in a bus of
python-can. It prints one line when it is ready, and ends on SIGINT and SIGTERM. It knows nothing of
drivers or of MQTT.
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import can

from plugins.devices.alive_file import NO_FILE, AliveFile
from plugins.devices.can.buses import is_gone, open_bus, parse_buses
from plugins.devices.can.ecu_model import CyclicFrames, answer
from plugins.devices.can.slcan_adapter import SlcanAdapter
from plugins.devices.pty_link import PtyLink, die_with_parent
from plugins.devices.tcp_link import TcpLink, parse_address
from sat_toolkit.errors import SatError

_MAX_WAIT_S: Final = 0.1
_MAX_BEHIND_S: Final = 0.5
_START_LIMIT_S: Final = 5.0


class Ecu:
    """The car on a clock: what is due is sent, requests are answered. `send` must not block."""

    def __init__(self, send: Callable[[can.Message], object], rate: float = 1.0) -> None:
        self._send = send
        self._frames = CyclicFrames(rate)
        self._start = time.monotonic()
        self.skipped = 0

    def seconds(self) -> float:
        """The car's time."""
        return time.monotonic() - self._start

    def wait(self) -> float:
        """Seconds until the next frame is due, at the most 0.1."""
        return min(max(0.0, self._frames.next_due - self.seconds()), _MAX_WAIT_S)

    def step(self) -> None:
        """Send what is due. After a pause of the process the frames missed are left out, not sent
        in a burst."""
        now = self.seconds()
        if now - self._frames.next_due > _MAX_BEHIND_S:
            self.skipped += self._frames.skip_to(now)
        for frame in self._frames.due(now):
            self._send(frame)

    def receive(self, frame: can.Message) -> None:
        """A frame from the bus: answered when it is a request."""
        response = answer(frame, self.seconds())
        if response is not None:
            self._send(response)


def run_slcan(
    line: PtyLink | TcpLink,
    rate: float,
    stop: threading.Event,
    ready: Callable[[str], None],
    alive: AliveFile = NO_FILE,
) -> None:
    """Be an slcan adapter on `line`, which is closed at the end, until `stop`."""
    adapter = SlcanAdapter(line)
    try:
        ecu = Ecu(adapter.send, rate)
        ready(f"slcan at {line}")
        while not stop.is_set():
            writers = [adapter] if adapter.has_pending else []
            readable, writable, _ = select.select([adapter], writers, [], ecu.wait())
            if writable:
                adapter.flush()
            if readable:
                for frame in adapter.receive():
                    ecu.receive(frame)
            ecu.step()
            alive.beat()
    finally:
        adapter.close()


@contextmanager
def simulator() -> Iterator[dict[str, Any]]:
    """The ECU behind an slcan adapter while this lasts, and the driver's configuration for it.

    `sat plugin check`, `sat plugin run --sim` and the conformance tests call it.
    """
    stop, ready = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="sim_ecu-") as folder:
        link = Path(folder) / "ecu"
        arguments = (PtyLink(link), 1.0, stop, lambda _: ready.set())
        thread = threading.Thread(target=run_slcan, args=arguments, name="sim/ecu", daemon=True)
        thread.start()
        try:
            if not ready.wait(_START_LIMIT_S):
                raise TimeoutError(f"the simulated ECU did not start within {_START_LIMIT_S:g} s")
            yield {"buses": [{"name": "ecu", "interface": "slcan", "channel": str(link)}]}
        finally:
            stop.set()
            thread.join(_START_LIMIT_S)


def run_bus(
    bus: can.BusABC, rate: float, stop: threading.Event, ready: Callable[[str], None]
) -> None:
    """Take part in `bus` until `stop`. A frame that the bus does not take is left out; CanError
    when it is gone."""

    def send(frame: can.Message) -> None:
        try:
            bus.send(frame)
        except can.CanError as error:
            if is_gone(error):
                raise

    ecu = Ecu(send, rate)
    ready(str(bus))
    while not stop.is_set():
        frame = bus.recv(ecu.wait())
        if frame is not None:
            ecu.receive(frame)
        ecu.step()


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parse(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if options.die_with_parent and not die_with_parent():
        return 0
    try:
        if options.interface is None:
            line = (
                PtyLink(options.pty)
                if options.pty is not None
                else TcpLink(*parse_address(options.listen))
            )
            run_slcan(line, options.rate, stop, _say_ready, AliveFile(options.alive_file))
        else:
            entry = {"name": "ecu", "interface": options.interface, "channel": options.channel}
            (config,) = parse_buses(
                {"buses": [entry | ({"bitrate": options.bitrate} if options.bitrate else {})]}
            )
            with open_bus(config) as bus:
                run_bus(bus, options.rate, stop, _say_ready)
    except (OSError, can.CanError, SatError) as error:
        sys.stderr.write(f"sim_ecu: {error}\n")
        return 1
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sim_ecu", description="A simulated ECU on a CAN bus.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pty", type=Path, metavar="PATH", help="be an slcan adapter at this path")
    where.add_argument("--listen", metavar="HOST:PORT", help="be an slcan adapter there, on TCP")
    where.add_argument("--interface", help="take part in a bus of this python-can interface")
    parser.add_argument("--channel", help="the bus's channel, with --interface")
    parser.add_argument("--bitrate", type=int, help="bit/s, with --interface")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="factor on all frequencies (1.0: 222 frames/s)"
    )
    parser.add_argument(
        "--alive-file",
        type=Path,
        metavar="PATH",
        help="keep this file young, with --pty or --listen",
    )
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the thread that started it ends"
    )
    options = parser.parse_args(argv)
    if options.interface is not None and options.channel is None:
        parser.error("--interface needs --channel")
    if not 0 < options.rate <= 100:
        parser.error("--rate must be above 0 and at most 100")
    return options


def _say_ready(where: str) -> None:
    sys.stdout.write(f"sim_ecu ready: {where}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
