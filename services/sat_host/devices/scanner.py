"""Who looks for the devices of a host: when asked, each so often, and soon after a driver says that
hardware has changed. What is found goes into the inventory."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from sat_bus.contract import topics
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise, Task
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver, ScanResult
from sat_host.devices.inventory import Inventory
from sat_host.devices.surroundings import FrameSink, Readers, Surroundings, Workers
from sat_toolkit.errors import BadRequest

_log = structlog.get_logger(__name__)

RESCAN_AFTER = 0.2


class Scanner:
    """Scans for all drivers of `inventory`; a device that is new is given the rest."""

    def __init__(
        self,
        inventory: Inventory,
        loop: WorkLoop,
        workers: Workers,
        readers: Readers,
        frames: FrameSink,
    ) -> None:
        self._inventory = inventory
        self._loop = loop
        self._readers = readers
        self._around = Surroundings(loop, workers, self, readers, frames)
        self._soon: set[str] = set()

    def scan(self, driver: Driver) -> Promise[ScanResult]:
        """Look for the devices of `driver`; what was found is in the inventory when that is
        settled."""
        done: Promise[ScanResult] = Promise()
        Task(self._loop, self._scan(driver, done))
        return done

    def scan_soon(self, driver: Driver) -> None:
        """Once for a burst of changes."""
        if driver.name not in self._soon:
            self._soon.add(driver.name)
            self._loop.later(RESCAN_AFTER, partial(self._again, driver))

    async def _scan(self, driver: Driver, done: Promise[ScanResult]) -> None:
        result = await driver.scan()
        if result.error is not None:
            _log.warning("scan failed", driver=driver.name, reason=str(result.error))
        else:
            self._apply(driver, result)
        self._plan(driver)
        done.set_result(result)

    def _plan(self, driver: Driver) -> None:
        """Scan again after the period that the driver names; one that fails waits longer each
        time."""
        if driver.next_scan is not None:
            driver.next_scan.cancel()
        driver.next_scan = self._loop.later(driver.scan_wait, partial(self._again, driver))

    def _again(self, driver: Driver) -> None:
        self._soon.discard(driver.name)
        self.scan(driver)

    def _apply(self, driver: Driver, result: ScanResult) -> None:
        present: set[str] = set()
        for info in result.devices:
            try:
                self._found(driver, info)
                present.add(info["device_id"])
            except BadRequest as error:
                _log.error("device left out", driver=driver.name, reason=str(error))
        for device in self._inventory.devices_of(driver):
            if device.id not in present:
                device.missing()
        self._readers.settle_soon()

    def _found(self, driver: Driver, info: dict[str, Any]) -> None:
        """Raises BadRequest: topics have no room for such a name."""
        known = self._inventory.get_device(driver.name, info["device_id"])
        if known is not None:
            if known.found(info):
                self._readers.describe(driver.name, known.id, known.meta())
            return
        topics.encode_level("driver", driver.name)
        topics.encode_level("device", info["device_id"])
        device = HostedDevice(driver, info, self._around)
        self._inventory.add(device)
        self._readers.describe(driver.name, device.id, device.meta())
        device.found(info)
