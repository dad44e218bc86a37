"""A simulated demo on a TCP port, so that the driver can be tested as it is, down to the wire.

    python sim_demo.py --port 5025

To make it yours, teach `Demo.answer` the language of your instrument. For a device on a serial port
take `sat_toolkit.testing.PtyLine`, which is used in the same way.
"""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sat_toolkit.testing import TcpInstrument


class Demo:
    """One instrument: its state, and its answer to each line."""

    def __init__(self, serial_number: int) -> None:
        self.serial_number = serial_number
        self.setpoint = 20.0

    def answer(self, line: str) -> str | None:
        """CHANGE: your instrument's language. None is no answer at all."""
        match line.split():
            case ["*IDN?"]:
                return f"ACME,DEMO,{self.serial_number},1.0"
            case ["READ?"]:
                return f"{self.setpoint + random.uniform(-0.1, 0.1):.3f}"
            case ["SET?"]:
                return f"{self.setpoint}"
            case ["SET", value]:
                self.setpoint = float(value)
                return "OK"
        return f"ERR what is {line!r}"


@contextmanager
def simulator() -> Iterator[dict[str, Any]]:
    """Two instruments while this lasts, and the driver's configuration for them.

    `sat plugin check`, `sat plugin run --sim` and the tests call it. Two, so that one cannot hide behind the other.
    """
    first, second = Demo(1), Demo(2)
    with TcpInstrument(first.answer) as one, TcpInstrument(second.answer) as two:
        yield {
            "devices": {
                "demo1": one.address,
                "demo2": two.address,
            }
        }


def main() -> None:
    """One instrument as a program, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A simulated demo.")
    parser.add_argument(
        "--port", type=int, default=5025, help="TCP port on 127.0.0.1; 0 takes a free one"
    )
    port: int = parser.parse_args().port
    with TcpInstrument(Demo(1).answer, port=port) as instrument:
        print(f"sim_demo ready: {instrument.address}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    # Before any thread is there, so that all of them leave these to sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
