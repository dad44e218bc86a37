"""The drivers of a host out of its plugin files: at the start, and again when files change."""

from __future__ import annotations

from pathlib import Path

import structlog

from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_host.devices.drivers import Driver
from sat_host.devices.inventory import Inventory
from sat_host.devices.plugin_files import Sources
from sat_host.devices.scanner import Scanner
from sat_host.devices.surroundings import Readers, Workers
from sat_host.pool.handle import WorkerHandle
from sat_host.settings import HostSettings
from sat_toolkit.core import plugin_loader
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import SatError

_log = structlog.get_logger(__name__)

LOOK_PERIOD = 0.5


class Plugins:
    """Loads the drivers of a family into `inventory`, and is their owner.

    Attributes:
        all_described: settled when each driver has said what it declares, or why it cannot be used.
    """

    def __init__(
        self,
        settings: HostSettings,
        loop: WorkLoop,
        inventory: Inventory,
        scanner: Scanner,
        workers: Workers,
        readers: Readers,
    ) -> None:
        self.all_described: Promise[None] = Promise()
        self._settings = settings
        self._folders: list[Path] = []
        self._sources = Sources(())
        self._loop = loop
        self._inventory = inventory
        self._scanner = scanner
        self._workers = workers
        self._readers = readers

    def find(self) -> None:
        """See which there are.

        Raises:
            PluginError, ConfigError: the plugin folders make no sense.
        """
        family = self._settings.family
        self._folders = plugin_loader.plugin_folders(self._settings.plugins)
        self._sources = Sources({f / family for f in self._folders} | set(self._folders))
        for plugin in plugin_loader.find_plugins(self._folders, family):
            self._add(plugin)
        if not self._inventory.drivers:
            folders = [str(folder) for folder in self._folders]
            _log.warning("no drivers", family=family, folders=folders)
            self.all_described.set_result(None)

    def start(self) -> None:
        """Load those, and look for changes from now on."""
        for driver in list(self._inventory.drivers):
            driver.start()
        self._loop.every(LOOK_PERIOD, self._look)

    def _add(self, plugin: PluginFile) -> Driver:
        driver = Driver(plugin, self._loop, self)
        self._inventory.add_driver(driver)
        return driver

    def _look(self) -> None:
        """Load again what has changed, and load what is new. The old code goes on until the new is
        known to load."""
        changed = self._sources.changed()
        if not changed:
            return
        try:
            plugins = plugin_loader.find_plugins(self._folders, self._settings.family)
        except SatError as error:
            _log.error("plugins cannot be read again", reason=str(error))
            return
        for plugin in plugins:
            driver = self._inventory.get_driver(plugin.name)
            if driver is None:
                self._add(plugin).start()
            elif files := _files_of(plugin, changed):
                _log.info("plugin changed", driver=plugin.name, files=files)
                driver.reload()

    # -- DriverOwner -----------------------------------------------------------------------------

    def spawn_scanner(self, driver: Driver) -> WorkerHandle:
        """A worker that scans for `driver`. Raises OSError."""
        return self._workers.spawn(f"{driver.name}/scan", driver.plugin, None, driver)

    def described(self, driver: Driver) -> None:
        """It is known what the driver declares, or why it cannot be used."""
        if driver.error is not None:
            _log.error("driver cannot be used", driver=driver.name, reason=driver.error)
        for device in self._inventory.devices_of(driver):
            self._readers.describe(driver.name, device.id, device.meta())
            if driver.reloading and driver.error is None:
                device.restart("its plugin was reloaded")
        driver.reloading = False
        if driver.error is None:
            self._scanner.scan(driver)
        if self._inventory.described:
            self.all_described.set_result(None)

    def hardware_changed(self, driver: Driver) -> None:
        """The driver's own watch says that hardware came or went."""
        self._scanner.scan_soon(driver)


def _files_of(plugin: PluginFile, changed: set[Path]) -> list[str]:
    """The files among `changed` because of which `plugin` is to be read again: its own, or any
    helper beside it, and then whatever else has changed there. Empty: it is not."""
    beside = {path for path in changed if path.parent == plugin.path.parent}
    helpers = {path for path in beside if not path.name.startswith(plugin_loader.PREFIX)}
    if plugin.path in changed or helpers:
        return sorted(path.name for path in beside)
    return []
