"""The driver host: drivers and devices of one family on the bus. Puts the rooms together, and does
what is done for all of them: start, heartbeat, end.

Everything here runs on the work loop, bus handlers too.
"""

from __future__ import annotations

import contextlib
from collections import Counter

import structlog

from sat_bus.contract import messages, topics
from sat_bus.contract.boot import is_newer
from sat_bus.service.loop import WorkLoop
from sat_bus.service.request_desk import RequestDesk
from sat_bus.service.run import STOOD_DOWN, health
from sat_bus.service.tasks import DeadlinePassedError, Task
from sat_bus.transport.bus import Bus, Inbound
from sat_host.bus.publisher import HostPublisher
from sat_host.bus.requests import HostRequests
from sat_host.bus.stream_publisher import StreamPublisher
from sat_host.devices.inventory import Inventory
from sat_host.devices.plugins import Plugins
from sat_host.devices.scanner import Scanner
from sat_host.pool.pool import Pool
from sat_host.settings import HostSettings
from sat_toolkit.errors import HostLost, SatError

_log = structlog.get_logger(__name__)

HEARTBEAT = 1.0
READY_AFTER = 3.0
STOP_DEADLINE = 5.0
_ASKED = (topics.HOST_REQUEST, topics.COMMAND, topics.INPUT_JSON, topics.INPUT_BIN)
_OWN = (
    topics.HOST_STATE,
    topics.HOST_BIRTH,
    topics.DEVICE_STATE,
    topics.DEVICE_STATUS,
    topics.DEVICE_META,
)


class Host:
    """Serves the drivers of one family, with workers from `pool`.

    Attributes:
        foreign: another host of this name has taken over.
    """

    def __init__(
        self, settings: HostSettings, loop: WorkLoop, bus: Bus, boot: str, pool: Pool
    ) -> None:
        self.name = settings.host
        self.foreign = False
        self.inventory = Inventory(settings.host)
        self._site = settings.site
        self._boot = boot
        self._loop = loop
        self._bus = bus
        self._pool = pool
        self._drops: Counter[str] = Counter()
        self._publisher = HostPublisher(
            bus, loop, self.inventory, site=settings.site, boot=boot, family=settings.family
        )
        self._streams = StreamPublisher(bus, settings.site, settings.host, boot)
        scanner = Scanner(self.inventory, loop, pool, self._publisher, self._streams)
        self._plugins = Plugins(settings, loop, self.inventory, scanner, pool, self._publisher)
        desk = RequestDesk(settings.site, settings.host, boot, bus, loop.now)
        self._requests = HostRequests(
            desk, loop, self.inventory, scanner, self._publisher, self._streams
        )

    @property
    def state(self) -> str:
        """What it says of itself on the bus."""
        return self._publisher.state

    # -- Service ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the drivers, join the bus, begin to scan.

        Raises:
            PluginError, ConfigError: the plugin folders make no sense.
        """
        self._plugins.find()
        self._pool.start()
        self._plugins.start()
        self._bus.deliver_on(self._loop.perform)
        self._subscribe()
        self._bus.on_connection(self._on_connection)
        self._loop.on_gap(self._after_gap)
        self._loop.every(HEARTBEAT, self._beat, first=0.0)
        Task(self._loop, self._become_ready())
        self._bus.start()

    def stop(self) -> None:
        """Close the devices, say so, and leave: within a few seconds, whatever the drivers do."""
        if not self.foreign:
            self._publisher.become("draining")
        for device in self.inventory.devices:
            device.close(self._loop.now() + STOP_DEADLINE)
        self._loop.run_until(self._all_idle, STOP_DEADLINE)
        for device in self.inventory.devices:
            device.abandon(HostLost(f"host {self.name} is stopping"))
        self._pool.end()
        if not self.foreign:
            self._publisher.become("offline")
            self._bus.flush(1.0)
        self._bus.close()
        self._pool.stop()

    async def _become_ready(self) -> None:
        """A driver that takes long to load, or never does, holds up the others only so long."""
        deadline = self._loop.now() + READY_AFTER
        with contextlib.suppress(DeadlinePassedError):
            await self._plugins.all_described.by(self._loop, deadline)
        if self.state == "init":
            self._publisher.become("ready")
            self._publisher.publish_birth()

    def _all_idle(self) -> bool:
        return all(device.idle for device in self.inventory.devices)

    # -- the bus ---------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        for topic in _ASKED:
            for subscription in topic.filters(self._site, host=self.name):
                self._bus.subscribe(subscription, self._on_request)
        for topic in _OWN:
            for subscription in topic.filters(self._site, host=self.name):
                self._bus.subscribe(subscription, self._on_own)

    def _on_request(self, inbound: Inbound) -> None:
        match = topics.parse(self._site, inbound.topic)
        if match is None:
            self._drops.update(bad_topic=1)
        else:
            self._requests.handle(inbound, match)

    def _on_own(self, inbound: Inbound) -> None:
        """A retained topic of this host, as the broker has it."""
        match = topics.parse(self._site, inbound.topic)
        if match is not None and match.topic is topics.HOST_BIRTH and self._is_usurped(inbound):
            self.foreign = True
            _log.error("another host of this name has started; this one ends", host=self.name)
            self._loop.finish(STOOD_DOWN)
            return
        self._publisher.see(inbound.topic, inbound.payload)

    def _is_usurped(self, inbound: Inbound) -> bool:
        """Whether this birth is that of a newer host of our name."""
        try:
            return is_newer(messages.Birth.decode(inbound.payload).boot, self._boot)
        except SatError:
            return False

    def _on_connection(self, up: bool) -> None:
        if up:
            self._publisher.resync()

    def _after_gap(self, _seconds: float) -> None:
        """The host stood still: nobody's silence counts, and the bus may show what others made of
        it."""
        self._pool.forgive()
        self._loop.post(self._publisher.resync)

    # -- once a second ---------------------------------------------------------------------------

    def _beat(self) -> None:
        if not self._bus.connected:
            return
        self._publisher.beat()
        for device in self.inventory.devices:
            device.show_dropped(self._streams.dropped(device.driver.name, device.id))
        self._publisher.report(
            health(
                self._loop,
                self._bus,
                self._boot,
                queues={"jobs": sum(device.queued for device in self.inventory.devices)},
                drops={
                    **self._drops,
                    **self._streams.totals(),
                    **self._requests.counts,
                    "orphans_ended": self._pool.orphans_ended,
                },
                workers={"running": len(self._pool)},
            )
        )
