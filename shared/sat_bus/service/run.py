"""What every service program does the same way: its bus, signals, the run loop, health."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from sat_bus.contract.messages import Health
from sat_bus.service.alive import Alive
from sat_bus.service.loop import SWITCH_INTERVAL_S, WorkLoop
from sat_bus.service.settings import ServiceSettings
from sat_bus.transport.bus import Bus, Will
from sat_bus.transport.mqtt import MqttBus
from sat_toolkit.errors import ConfigError, SatError

log = logging.getLogger(__name__)

STOOD_DOWN = 4  # the exit status when another program has taken this one's place: it must not be started again


def connect(settings: ServiceSettings, client_id: str, will: Will | None = None) -> MqttBus:
    """A bus by `settings`, not yet started.

    Raises:
        ConfigError: as `MqttBus`.
    """
    return MqttBus(settings.broker_url, client_id, will=will, tls_ca=settings.tls_ca)


class Service(Protocol):
    """What `run_service` runs; both methods are called on the loop's thread."""

    def start(self) -> None:
        """Begin; must not block. What it raises ends the program."""

    def stop(self) -> None:
        """End in an orderly way, also after a `start` that failed half-way. It may keep the loop
        turning with `WorkLoop.run_until`."""


def run_service(service: Service, loop: WorkLoop, alive: Alive | None = None) -> int:
    """Run `service` until SIGTERM, SIGINT or `loop.finish`, with its sign of life; return the exit
    status.

    The first signal stops the service and then the loop; a second one ends the process at once. The
    status is 0, 2 for a wrong setting, 1 for another failure, or what `loop.finish` was given.
    """
    stopped = False
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            if alive is not None:
                alive.stopping()
            service.stop()

    loop.on_finish(stop)
    with _Signals(loop):
        try:
            service.start()
        except SatError as error:
            log.error("%s", error)
            loop.finish(2 if isinstance(error, ConfigError) else 1)
        except Exception:
            log.exception("the service could not start")
            loop.finish(1)
        if alive is not None:
            alive.begin(loop)
        loop.run()
        stop()
        if alive is not None:
            alive.end()
    return loop.status


def health(
    loop: WorkLoop,
    bus: Bus,
    boot: str,
    *,
    queues: Mapping[str, int] | None = None,
    drops: Mapping[str, int] | None = None,
    workers: Mapping[str, int] | None = None,
) -> Health:
    """The health message of a service: what loop and bus tell, and what the service adds."""
    stats = bus.stats()
    return Health(
        boot=boot,
        queues={"loop": loop.depth, "bus_inbox": stats.inbox, **(queues or {})},
        drops={
            "loop_full": loop.dropped,
            "loop_errors": loop.errors,
            **stats.dropped,
            **(drops or {}),
        },
        workers=dict(workers or {}),
        memory_kb=memory_kb(),
        bus={
            "control": stats.control,
            "state": stats.state,
            "frames": stats.frames,
            "frame_bytes": stats.frame_bytes,
            "reconnects": stats.reconnects,
        },
    )


def memory_kb() -> int:
    """Resident memory of this process in KiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class _Signals:
    """SIGTERM and SIGINT while a service runs; only in the main thread, as no other may set
    handlers."""

    def __init__(self, loop: WorkLoop) -> None:
        self._loop = loop
        self._before: dict[int, Any] = {}
        self._seen = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._seen:
            os._exit(128 + number)
        self._seen = True
        self._loop.finish()
