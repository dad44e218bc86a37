"""The composition root of ``sat orchestrator``: settings in, exit status out."""

from __future__ import annotations

import os
import time

from sat_bus.contract import topics
from sat_bus.contract.boot import new_boot
from sat_bus.contract.messages import OrchestratorState
from sat_bus.service.alive import Alive, take_notify_socket
from sat_bus.service.logs import configure_logging
from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import connect, run_service
from sat_bus.transport.bus import Will
from sat_orchestrator.service import NAME, Orchestrator
from sat_orchestrator.settings import OrchestratorSettings
from sat_orchestrator.store.database import Database
from sat_orchestrator.store.store import Store


def run(settings: OrchestratorSettings) -> int:
    """Orchestrate one site until told to stop; returns the exit status: 4 when another one has
    taken over.

    Raises:
        ConfigError: nothing was started; the message says what to mend.
    """
    configure_logging(NAME, settings)
    own = f"{NAME}-{new_boot(int(time.time() * 1000), os.urandom(4))}"
    loop = WorkLoop(NAME)
    store = Store(Database(settings.database), loop)
    kept = store.open()
    try:
        # The epoch of the will is the one that this start will claim, unless hosts have seen a
        # higher one.
        said = OrchestratorState(state="offline", id=own, epoch=kept.epoch + 1)
        will = Will(topics.ORCHESTRATOR_STATE.build(settings.site), said.encode())
        bus = connect(settings, own, will)
        orchestrator = Orchestrator(settings, loop, bus, store, kept, own)
        alive = Alive(
            orchestrator.connected,
            orchestrator.leading,
            orchestrator.words,
            file=settings.alive_file,
            notify=take_notify_socket(),
        )
        return run_service(orchestrator, loop, alive)
    finally:
        store.close()
