"""The composition root of ``sat host``: settings in, exit status out."""

from __future__ import annotations

import os
import time

from sat_bus.contract import topics
from sat_bus.contract.boot import new_boot
from sat_bus.contract.messages import HostState
from sat_bus.service.alive import Alive, take_notify_socket
from sat_bus.service.logs import configure_logging
from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import connect, run_service
from sat_bus.transport.bus import Will
from sat_host.containment.census import become_subreaper
from sat_host.host import Host
from sat_host.pool.pool import Pool
from sat_host.settings import HostSettings


def run(settings: HostSettings) -> int:
    """Serve one family until told to stop; returns the exit status: 4 when another host has taken
    its name.

    Raises:
        ConfigError, PluginError: nothing was started; the message says what to mend.
    """
    configure_logging(f"host/{settings.host}", settings)
    boot = new_boot(int(time.time() * 1000), os.urandom(4))
    loop = WorkLoop(settings.host)
    will = Will(
        topics.HOST_STATE.build(settings.site, host=settings.host),
        HostState(state="offline", boot=boot).encode(),
    )
    bus = connect(settings, settings.host, will)
    pool = Pool(settings, loop, ends_orphans=become_subreaper())
    host = Host(settings, loop, bus, boot, pool)
    alive = Alive(
        lambda: bus.connected,
        lambda: host.state == "ready",
        lambda: f"serving the family {settings.family}, devices: {len(host.inventory.devices)}",
        file=settings.alive_file,
        notify=take_notify_socket(),
    )
    return run_service(host, loop, alive)
