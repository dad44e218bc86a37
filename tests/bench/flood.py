"""A reader that sleeps while the broker takes messages for it, and is timed from its awakening: so
its own speed shows, whatever the publisher's."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sat_cli.brokers.mosquitto import MosquittoBroker, find_mosquitto


class _PatientBroker(MosquittoBroker):
    """Keeps all that waits for a client that does not read, not only 1,000 messages, and none of it
    on disk."""

    def _config(self) -> Iterator[str]:
        changed = ("persistence ", "max_queued_messages ")
        yield from (line for line in super()._config() if not line.startswith(changed))
        yield "max_queued_messages 0"


@contextmanager
def patient_broker() -> Iterator[MosquittoBroker]:
    """A Mosquitto that keeps all that waits for a client."""
    binary = find_mosquitto()
    if binary is None:
        raise SystemExit("bench: mosquitto is not on the PATH (Debian: apt-get install mosquitto)")
    with tempfile.TemporaryDirectory(prefix="sat-bench-") as folder:
        broker = _PatientBroker(binary, port=0, data_dir=Path(folder) / "broker")
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()


class Sleep:
    """The process `pid` sleeps while the body runs; `woken` is when it was woken, on
    `time.monotonic`."""

    def __init__(self, pid: int) -> None:
        self.woken = 0.0
        self._pid = pid

    def __enter__(self) -> Sleep:
        os.kill(self._pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self.woken = time.monotonic()
        os.kill(self._pid, signal.SIGCONT)
