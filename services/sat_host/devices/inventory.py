"""What a host has: its drivers and devices, by name, and what is said where a name is unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sat_bus.contract import device_key
from sat_bus.contract.device_key import Key
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver
from sat_toolkit.core.commands import Command
from sat_toolkit.errors import UnknownCommand, UnknownDriver


class Inventory:
    """The drivers and devices of the host `host`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._drivers: dict[str, Driver] = {}
        self._devices: dict[tuple[str, str], HostedDevice] = {}

    @property
    def drivers(self) -> Collection[Driver]:
        return self._drivers.values()

    @property
    def devices(self) -> Collection[HostedDevice]:
        return self._devices.values()

    @property
    def described(self) -> bool:
        """Whether each driver has said what it declares, or why it cannot be used."""
        return all(driver.described for driver in self.drivers)

    @property
    def scanned(self) -> bool:
        """Whether each driver that can be used has looked for its devices."""
        return all(driver.scanned or driver.error is not None for driver in self.drivers)

    def devices_of(self, driver: Driver) -> Iterator[HostedDevice]:
        return (device for device in self.devices if device.driver is driver)

    def add_driver(self, driver: Driver) -> None:
        self._drivers[driver.name] = driver

    def add(self, device: HostedDevice) -> None:
        self._devices[device.driver.name, device.id] = device

    def forget(self, device: HostedDevice) -> None:
        """Drop a device that is gone."""
        del self._devices[device.driver.name, device.id]

    def get_driver(self, name: str) -> Driver | None:
        return self._drivers.get(name)

    def get_device(self, driver: str, device: str) -> HostedDevice | None:
        return self._devices.get((driver, device))

    def driver(self, name: str) -> Driver:
        """The driver of this name.

        Raises:
            UnknownDriver: the host has no such driver.
        """
        driver = self._drivers.get(name)
        if driver is None:
            known = ", ".join(self._drivers) or "none"
            raise UnknownDriver(f"unknown driver {name!r}; {self.host} has: {known}")
        return driver

    def device(self, driver: str, device: str) -> HostedDevice:
        """The device of these names.

        Raises:
            UnknownDriver, UnknownDevice: the host does not have it.
        """
        known = self._devices.get((driver, device))
        if known is None:
            self.driver(driver)
            raise device_key.unknown(self._keys(), device)
        return known

    def find(self, name: str, driver: str | None = None) -> HostedDevice:
        """The device that people call `name`, of that `driver` where one is named.

        Raises:
            UnknownDriver, UnknownDevice: the host does not have it.
            BadArgs: several answer to it.
        """
        if driver is not None:
            return self.device(driver, name)
        key = device_key.find(self._keys(), name)
        if key is None:
            raise device_key.unknown(self._keys(), name)
        return self._devices[key.driver, key.device]

    def command(self, device: HostedDevice, name: str) -> Command:
        """The command `name` of the device's driver.

        Raises:
            UnknownCommand: it declares none of that name.
        """
        commands = device.driver.commands
        if name not in commands:
            known = ", ".join(sorted(commands)) or "none"
            raise UnknownCommand(f"unknown command {name!r}; {device.driver.name} has: {known}")
        return commands[name]

    def _keys(self) -> list[Key]:
        return [Key(self.host, driver, device) for driver, device in self._devices]
