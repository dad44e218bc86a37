"""The driver host: drivers and devices of one family on the bus. The shell around `device` and
`drivers`.

Everything here runs on the work loop, bus handlers too; batches of frames pass from the
multiplexer's thread to the bus by way of `streams`.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from sat_bus.contract import messages, topics
from sat_bus.contract.boot import is_newer
from sat_bus.contract.messages import DriverInfo, Manifest
from sat_bus.contract.topics import Topic, Traffic
from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.run import STOOD_DOWN, health
from sat_bus.service.tasks import Promise, Task
from sat_bus.transport.bus import Bus, Inbound
from sat_host.bus.requests import HostRequests
from sat_host.bus.retained import Truth
from sat_host.bus.stream_publisher import StreamPublisher
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver, ScanResult
from sat_host.devices.jobs import Deadlines, Job
from sat_host.devices.plugin_files import Sources
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.pool.pool import Pool
from sat_host.settings import HostSettings
from sat_host.wire_messages import BatchHeader
from sat_toolkit import __version__
from sat_toolkit.core import plugin_loader
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import BadRequest, Busy, HostLost, SatError

T = TypeVar("T")
_log = structlog.get_logger(__name__)

HEARTBEAT = 1.0
READY_AFTER = 3.0
SOURCES_PERIOD = 0.5
SETTLE_AFTER = 0.25
RESCAN_AFTER = 0.2
STOP_DEADLINE = 5.0


class Host:
    """Serves the drivers of one family. `foreign` is set when another host of this name has taken
    over.

    `state` is what it says of itself on the bus. `ends_orphans`: this process is the subreaper of
        its workers and has
    no other children.
    """

    def __init__(
        self,
        settings: HostSettings,
        loop: WorkLoop,
        bus: Bus,
        boot: str,
        *,
        ends_orphans: bool = False,
    ) -> None:
        self.site, self.name, self.boot = settings.site, settings.host, boot
        self.epoch_seen = 0
        self.foreign = False
        self.state = "init"
        self.drivers: dict[str, Driver] = {}
        self.devices: dict[tuple[str, str], HostedDevice] = {}
        self._settings = settings
        self._loop = loop
        self._bus = bus
        self._pool = Pool(settings, loop, ends_orphans=ends_orphans)
        self._streams = StreamPublisher(bus, self.site, self.name, boot)
        self._truth = Truth(self._retain)
        self._requests = HostRequests(self, bus, loop)
        self._rescans: set[str] = set()
        self._drops: Counter[str] = Counter()
        self._rev = 0
        self._beats = 0
        self._born: tuple[Any, ...] = ()
        self._settling: Timer | None = None

    # -- Service -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the drivers, join the bus, begin to scan.

        Raises:
            PluginError, ConfigError: the plugin folders make no sense.
        """
        plugins = self._find_plugins()
        self._sources = Sources(
            {folder / self._settings.family for folder in self._folders()} | set(self._folders())
        )
        self._pool.start()
        for plugin in plugins:
            self._add_driver(plugin)
        if not plugins:
            _log.warning(
                "no drivers",
                family=self._settings.family,
                folders=[str(f) for f in self._folders()],
            )
        self._bus.deliver_on(self._loop.perform)
        self._subscribe()
        self._bus.on_connection(lambda up: self.resync() if up else None)
        self._loop.on_gap(lambda gap: self._after_gap())
        self._loop.every(SOURCES_PERIOD, self._look_at_sources)
        self._loop.later(READY_AFTER, self._become_ready)
        self._loop.every(HEARTBEAT, self._beat, first=0.0)
        self._ready_when_described()
        self._bus.start()

    def stop(self) -> None:
        """Close the devices, say so, and leave: within a few seconds, whatever the drivers do."""
        if not self.foreign:
            self.state = "draining"
            self._publish_state()
        for device in self.devices.values():
            if device.worker is not None:
                job = Job(
                    Operation.CLOSE, "host", self.monotonic() + STOP_DEADLINE, lambda outcome: None
                )
                with contextlib.suppress(Busy):
                    device.submit(job)
        self._loop.run_until(lambda: all(d.idle for d in self.devices.values()), STOP_DEADLINE)
        for device in self.devices.values():
            device.abandon(HostLost(f"host {self.name} is stopping"))
        self._pool.end()
        if not self.foreign:
            self.state = "offline"
            self._publish_state()
            self._bus.flush(1.0)
        self._bus.close()
        self._pool.stop()

    # -- DeviceContext -----------------------------------------------------------------------------

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def later(self, delay: float, job: Callable[[], None]) -> Timer:
        return self._loop.later(delay, job)

    def next_rev(self) -> int:
        self._rev += 1
        return self._rev

    def changed(self, device: HostedDevice) -> None:
        self._truth.want(self._topic(topics.DEVICE_STATUS, device), device.status().encode())
        self._truth.want(self._topic(topics.DEVICE_STATE, device), device.state.value.encode())

    def event(self, device: HostedDevice, event: str, **fields: Any) -> None:
        message = messages.Event(
            event=event, at=self.now(), boot=self.boot, rev=self._rev, **fields
        )
        self._bus.publish(self._topic(topics.DEVICE_EVENT, device), message.encode())

    def spawn(self, device: HostedDevice) -> WorkerHandle:
        driver = self.drivers[device.driver]
        name = f"{device.driver}/{device.id}"
        return self._pool.spawn(name, driver.plugin, device.info, device)

    def scan(self, driver: str, done: Callable[[], None]) -> None:
        self.scan_driver(driver, lambda result: done())

    def when(self, outcome: Promise[Outcome], done: Callable[[Outcome], None]) -> None:
        Task(self._loop, _tell(outcome, done))

    def frames(self, device: HostedDevice, header: BatchHeader, frames: bytes) -> None:
        self._streams.publish(device.driver, device.id, header, frames)

    # -- drivers and scans -------------------------------------------------------------------------

    def scan_driver(self, name: str, done: Callable[[ScanResult], None]) -> None:
        """Scan with one driver; what it found is in `devices` when `done` is told."""
        driver = self.drivers[name]

        def scanned(result: ScanResult) -> None:
            self._apply(driver, result)
            self._plan_scan(driver)
            done(result)

        Task(self._loop, _tell(driver.scan(), scanned))

    def forget(self, device: HostedDevice) -> None:
        """Drop a device that is gone, with its retained topics."""
        del self.devices[device.driver, device.id]
        self._streams.forget(device.driver, device.id)
        for topic in (topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
            self._truth.drop(self._topic(topic, device))

    def _folders(self) -> list[Path]:
        return plugin_loader.plugin_folders(self._settings.plugins)

    def _find_plugins(self) -> list[PluginFile]:
        return plugin_loader.find_plugins(self._folders(), self._settings.family)

    def _add_driver(self, plugin: PluginFile) -> None:
        driver = Driver(plugin, self._loop, self)
        self.drivers[plugin.name] = driver
        driver.start()

    def _look_at_sources(self) -> None:
        """Load again what has changed, and load what is new. The old code goes on until the new is
        known to load."""
        changed = self._sources.changed()
        if not changed:
            return
        try:
            plugins = self._find_plugins()
        except SatError as error:
            _log.error("plugins cannot be read again", reason=str(error))
            return
        for plugin in plugins:
            driver = self.drivers.get(plugin.name)
            beside = {path for path in changed if path.parent == plugin.path.parent}
            helpers = {path for path in beside if not path.name.startswith(plugin_loader.PREFIX)}
            if driver is None:
                self._add_driver(plugin)
            elif plugin.path in changed or helpers:
                _log.info(
                    "plugin changed", driver=plugin.name, files=sorted(path.name for path in beside)
                )
                driver.reload()

    def _plan_scan(self, driver: Driver) -> None:
        """Scan again after the period that the driver names; a driver that fails waits longer each
        time."""
        if driver.next_scan is not None:
            driver.next_scan.cancel()
        driver.next_scan = self._loop.later(driver.scan_wait, lambda: self._rescan(driver.name))

    def spawn_scanner(self, driver: Driver) -> WorkerHandle:
        return self._pool.spawn(f"{driver.name}/scan", driver.plugin, None, driver)

    def described(self, driver: Driver) -> None:
        if driver.error is not None:
            _log.error("driver cannot be used", driver=driver.name, reason=driver.error)
        for device in self.devices.values():
            if device.driver == driver.name:
                device.commands, device.declared_streams = driver.commands, driver.streams
                self._publish_meta(device)
                if driver.reloading and driver.error is None:
                    device.restart("its plugin was reloaded")
        driver.reloading = False
        if driver.error is None:
            self.scan_driver(driver.name, lambda result: None)
        self._ready_when_described()

    def _ready_when_described(self) -> None:
        if all(d.described for d in self.drivers.values()):
            self._become_ready()

    def _become_ready(self) -> None:
        """A driver that takes long to load, or never does, holds up the others only so long."""
        if self.state == "init":
            self.state = "ready"
            self._publish_state()
            self._publish_birth()

    def hardware_changed(self, driver: Driver) -> None:
        """Soon, and once for a burst of changes."""
        if driver.name not in self._rescans:
            self._rescans.add(driver.name)
            self._loop.later(RESCAN_AFTER, lambda: self._rescan(driver.name))

    def _rescan(self, name: str) -> None:
        self._rescans.discard(name)
        self.scan_driver(name, lambda result: None)

    def _apply(self, driver: Driver, result: ScanResult) -> None:
        if result.error is not None:
            _log.warning("scan failed", driver=driver.name, reason=str(result.error))
            return
        present: set[str] = set()
        for info in result.devices:
            try:
                self._found(driver, info)
                present.add(info["device_id"])
            except BadRequest as error:
                _log.error("device left out", driver=driver.name, reason=str(error))
        for device in self.devices.values():
            if device.driver == driver.name and device.id not in present:
                device.missing()
        self._settle_soon()

    def _found(self, driver: Driver, info: dict[str, Any]) -> None:
        key = driver.name, info["device_id"]
        device = self.devices.get(key)
        if device is None:
            topics.DEVICE_STATE.build(self.site, host=self.name, driver=key[0], device=key[1])
            device = HostedDevice(
                driver.name, info, driver.commands, driver.streams, self.boot, self, Deadlines()
            )  # fmt: skip
            self.devices[key] = device
            self._publish_meta(device)
            device.found(info)
        elif device.found(info):
            self._publish_meta(device)

    # -- the bus -----------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        for topic in (topics.HOST_REQUEST, topics.COMMAND, topics.INPUT_JSON, topics.INPUT_BIN):
            for subscription in topic.filters(self.site, host=self.name):
                self._bus.subscribe(subscription, self._on_request)
        for topic in (
            topics.HOST_STATE,
            topics.HOST_BIRTH,
            topics.DEVICE_STATE,
            topics.DEVICE_STATUS,
            topics.DEVICE_META,
        ):
            for subscription in topic.filters(self.site, host=self.name):
                self._bus.subscribe(subscription, self._on_own)

    def _on_request(self, inbound: Inbound) -> None:
        match = topics.parse(self.site, inbound.topic)
        if match is None:
            self._drops.update(bad_topic=1)
        else:
            self._requests.handle(inbound, match, inbound.arrived)

    def _on_own(self, inbound: Inbound) -> None:
        """A retained topic of this host, as the broker has it."""
        match = topics.parse(self.site, inbound.topic)
        if (
            match is not None
            and match.topic is topics.HOST_BIRTH
            and inbound.payload
            and self._is_usurped(inbound)
        ):
            self.foreign = True
            _log.error("another host of this name has started; this one ends", host=self.name)
            self._loop.finish(STOOD_DOWN)
            return
        if self._truth.see(inbound.topic, inbound.payload):
            self._settle_soon()

    def _is_usurped(self, inbound: Inbound) -> bool:
        try:
            boot = messages.Birth.decode(inbound.payload).boot
            return boot != self.boot and is_newer(boot, self.boot)
        except SatError:
            return False

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = self._loop.later(SETTLE_AFTER, self._settle)

    def _settle(self) -> None:
        self._settling = None
        known = all(d.scanned or d.error is not None for d in self.drivers.values())
        self._truth.settle(clear_unknown=known)

    def _after_gap(self) -> None:
        """The host stood still: nobody's silence counts, and the bus may show what others made of
        it."""
        self._pool.forgive()
        self._loop.post(self.resync)

    def resync(self) -> None:
        """Publish everything again: after a reconnect, after a gap in the loop, and when asked."""
        self._born = ()
        self._publish_birth()
        self._publish_state()
        self._truth.republish()

    def _retain(self, topic: str, payload: bytes) -> None:
        self._bus.publish(topic, payload, retain=True, traffic=Traffic.STATE)

    def _topic(self, topic: Topic, device: HostedDevice) -> str:
        return topic.build(self.site, host=self.name, driver=device.driver, device=device.id)

    def _publish_state(self) -> None:
        message = messages.HostState(state=self.state, boot=self.boot)
        self._truth.want(topics.HOST_STATE.build(self.site, host=self.name), message.encode())

    def _publish_meta(self, device: HostedDevice) -> None:
        self._truth.want(self._topic(topics.DEVICE_META, device), device.meta().encode())

    def _publish_birth(self) -> None:
        """The birth, when what it says has changed but for the clock."""
        drivers = [DriverInfo(name=d.name, error=d.error) for d in self.drivers.values()]
        born = (drivers, len(self.devices), self._rev, self.epoch_seen)
        if self.state == "init" or born == self._born:
            return
        self._born = born
        birth = messages.Birth(
            boot=self.boot,
            family=self._settings.family,
            drivers=drivers,
            manifest=Manifest(count=len(self.devices), rev=self._rev),
            epoch_seen=self.epoch_seen,
            version=__version__,
            clock=round(self.now(), 3),
        )
        self._truth.want(topics.HOST_BIRTH.build(self.site, host=self.name), birth.encode())

    def _beat(self) -> None:
        if not self._bus.connected:
            return
        self._beats += 1
        beat = messages.Heartbeat(
            boot=self.boot, n=self._beats, mono_ms=int(self.monotonic() * 1000)
        )
        self._bus.publish(
            topics.HOST_HEARTBEAT.build(self.site, host=self.name), beat.encode(), qos=0
        )
        self._publish_birth()
        for device in self.devices.values():
            device.show_dropped(self._streams.dropped(device.driver, device.id))
        report = health(
            self._loop,
            self._bus,
            self.boot,
            queues={"jobs": sum(d.queued for d in self.devices.values())},
            drops={
                **self._drops,
                **self._streams.totals(),
                **self._requests.counts,
                "orphans_ended": self._pool.orphans_ended,
            },
            workers={"running": len(self._pool)},
        )
        self._bus.publish(
            topics.HOST_HEALTH.build(self.site, host=self.name), report.encode(), qos=0
        )


async def _tell(promise: Promise[T], done: Callable[[T], None]) -> None:
    done(await promise)
