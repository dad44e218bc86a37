"""Who is meant: hosts and devices by the names that clients give, whether they can be asked, and
every "unknown ..." in words. PURE."""

from __future__ import annotations

from collections.abc import Iterable

from sat_bus.contract import device_key
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import DeviceArgs
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.table import KnownHost, Presence, Row
from sat_toolkit.errors import Expired, HostLost, SatError, UnknownDevice, UnknownDriver


def find(keys: Iterable[Key], wanted: DeviceArgs) -> Key | None:
    """The one of `keys` that is meant; None when there is no such device.

    Raises:
        BadArgs: several answer to the name.
    """
    return device_key.find(keys, wanted.device, host=wanted.host, driver=wanted.driver)


def known(fleet: Fleet, wanted: DeviceArgs) -> Key:
    """The device in the table that is meant.

    Raises:
        BadArgs, UnknownDevice, UnknownDriver: there are several, or none.
    """
    key = find(fleet.rows, wanted)
    if key is None:
        raise unknown(fleet, wanted)
    return key


def row(fleet: Fleet, key: Key) -> Row:
    """The row of `key`.

    Raises:
        UnknownDevice, UnknownDriver: nobody knows it.
    """
    found = fleet.rows.get(key)
    if found is None:
        raise unknown(fleet, DeviceArgs(host=key.host, driver=key.driver, device=key.device))
    return found


def hosts(fleet: Fleet, name: str | None, driver: str | None) -> list[str]:
    """The hosts that can be asked for `driver`: all that are there, or the one called `name`.

    Raises:
        UnknownDevice, HostLost: no host has this name, or it cannot be asked.
    """
    if name is None:
        askable = [host for host in fleet.hosts.values() if host.askable]
    elif name in fleet.hosts:
        askable = [_askable(fleet.hosts[name])]
    else:
        listed = ", ".join(sorted(fleet.hosts)) or "none"
        raise UnknownDevice(f"host {name} is not known; known are {listed}")
    return [host.name for host in askable if driver is None or driver in host.drivers]


def why_lost(fleet: Fleet, key: Key) -> HostLost | None:
    """Why nobody could do anything for the device now; None when its host may be asked."""
    host = fleet.hosts[key.host]
    if host.presence is Presence.GONE:
        return HostLost(f"host {key.host} of {key.device} is lost: {host.reason}")
    if not host.boot:
        return HostLost(f"host {key.host} of {key.device} was not heard yet")
    return None


def check_reachable(fleet: Fleet, key: Key) -> None:
    """Raise HostLost when nobody could do anything for the device now."""
    error = why_lost(fleet, key)
    if error is not None:
        raise error


def check_boot(fleet: Fleet, key: Key, boot: str | None) -> None:
    """Raise Expired when a request is meant for another boot of the device's host."""
    present = fleet.hosts[key.host].boot
    if boot is not None and boot != present:
        raise Expired(
            f"meant for boot {boot[:80]} of host {key.host}; "
            f"the present one is {present or 'unknown'}"
        )


def unknown(fleet: Fleet, wanted: DeviceArgs) -> SatError:
    """The error for a device that is not in the table, or whose driver nobody has."""
    if wanted.driver is not None and wanted.driver not in _drivers(fleet):
        return unknown_driver(fleet, wanted.driver)
    return device_key.unknown(fleet.rows, wanted.device, host=wanted.host, driver=wanted.driver)


def unknown_driver(fleet: Fleet, driver: str) -> UnknownDriver:
    """The error for a driver that nobody has."""
    listed = ", ".join(sorted(_drivers(fleet))) or "none; no host is there"
    return UnknownDriver(f"Driver {driver} not found; known are {listed}")


def _drivers(fleet: Fleet) -> set[str]:
    named = {driver for host in fleet.hosts.values() for driver in host.drivers}
    return named | {key.driver for key in fleet.rows}


def _askable(host: KnownHost) -> KnownHost:
    if host.presence is Presence.GONE:
        raise HostLost(f"host {host.name} is lost: {host.reason}")
    if not host.askable:
        raise HostLost(f"host {host.name} is not ready yet; try again soon")
    return host
