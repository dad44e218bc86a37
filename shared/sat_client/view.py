"""What the retained topics of a site say, as one object that a client can ask.

No I/O, no threads, no clock: `SiteView.apply` is fed by whoever holds the connection, which also
guards it with a lock. It believes the bus, with two corrections that the contract asks of every
reader: a will of an older boot is ignored, and a device of a host that is gone has no state worth
showing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sat_bus.contract import device_key, topics
from sat_bus.contract import messages as m
from sat_bus.contract.device_key import Key
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadRequest

_GONE = ("offline", "lost")


@dataclass(slots=True)
class HostView:
    """A driver host: its birth and its present state, as far as they have been seen."""

    name: str
    said: m.HostState | None = None
    birth: m.Birth | None = None

    @property
    def boot(self) -> str | None:
        """The present boot: the birth names it, or before a birth was seen the state."""
        return self.birth.boot if self.birth else self.said.boot if self.said else None

    @property
    def state(self) -> str:
        """``init``, ``ready``, ``draining``, ``offline``, ``lost``, or ``unknown`` when the host
        never spoke."""
        if self.said is None:
            return "unknown"
        if self.said.state in _GONE and self.said.boot != self.boot:
            return "init"  # the will of a boot that has since been replaced
        return self.said.state

    @property
    def alive(self) -> bool:
        return self.state not in (*_GONE, "unknown")


@dataclass(slots=True)
class DeviceView:
    """A device: what it is, how it is, and its row in the lifecycle table, as far as they have been
    seen."""

    key: Key
    status: m.Status | None = None
    meta: m.Meta | None = None
    row: m.TableRow | None = None


class SiteView:
    """The hosts and devices of a site.

    Attributes:
        hosts: by name.
        devices: by key.
        orchestrator: what it said of itself last; None when there never was one.
        malformed: retained messages that could not be read.
    """

    def __init__(self, site: str) -> None:
        self.site = site
        self.hosts: dict[str, HostView] = {}
        self.devices: dict[Key, DeviceView] = {}
        self.orchestrator: m.OrchestratorState | None = None
        self.malformed = 0
        self._held: set[str] = set()
        self._stale: set[str] = set()

    def apply(self, topic: str, payload: bytes) -> topics.Match | None:
        """Take a message in; an empty payload clears its topic. None: it is not a topic of
        the site, or is unreadable."""
        match = topics.parse(self.site, topic)
        if match is None or match.topic.payload is None:
            return None
        try:
            message = match.topic.payload.decode(payload) if payload else None
        except BadRequest:
            self.malformed += 1
            return None
        (self._held.add if payload else self._held.discard)(topic)
        self._stale.discard(topic)
        self._store(match, message)
        return match

    def begin_sync(self) -> None:
        """The connection is lost: what the broker still holds will be told again, the rest is
        doubtful."""
        self._stale = set(self._held)

    def end_sync(self) -> None:
        """The broker has told what it holds: forget what it did not tell."""
        for topic in self._stale.copy():
            self.apply(topic, b"")

    def complete(self) -> bool:
        """Whether every living host's devices are all here, by the manifest in its birth, each with
        its meta."""
        counts = dict.fromkeys(self.hosts, 0)
        for key, device in self.devices.items():
            if device.status is not None and device.meta is None:
                return False
            counts[key.host] = counts.get(key.host, 0) + (device.status is not None)
        return all(
            counts[host.name] >= host.birth.manifest.count
            for host in self.hosts.values()
            if host.birth and host.alive
        )

    def find(self, name: str, *, host: str | None = None, driver: str | None = None) -> Key:
        """The one device that `name` means: an id, ``driver/device`` or ``host/driver/device``.

        Raises:
            UnknownDevice: there is no such device; the message names those that come near.
            BadArgs: there are several; the message lists them.
        """
        key = device_key.find(self.devices, name, host=host, driver=driver)
        if key is None:
            raise device_key.unknown(self.devices, name, host=host, driver=driver)
        return key

    def lost(self, key: Key) -> bool:
        """Whether nothing certain is known of the device, because its host is gone."""
        device, host = self.devices.get(key), self.hosts.get(key.host)
        if device is None or device.status is None or device.status.quality == "lost":
            return True
        return host is not None and host.said is not None and not host.alive

    def state(self, key: Key) -> DeviceState:
        """The device's state; `UNKNOWN` when its host is gone, whatever the broker still shows."""
        device = self.devices.get(key)
        if device is None or device.status is None or self.lost(key):
            return DeviceState.UNKNOWN
        return device.status.state

    def _store(self, match: topics.Match, message: m.Message | None) -> None:
        if match.topic is topics.ORCHESTRATOR_STATE:
            self.orchestrator = message  # type: ignore[assignment]
        elif "device" in match.levels:
            self._store_device(match, message)
        elif "host" in match.levels:
            self._store_host(match, message)

    def _store_host(self, match: topics.Match, message: m.Message | None) -> None:
        name = match.levels["host"]
        host = self.hosts.setdefault(name, HostView(name))
        if match.topic is topics.HOST_STATE:
            host.said = message  # type: ignore[assignment]
        elif match.topic is topics.HOST_BIRTH:
            host.birth = message  # type: ignore[assignment]
        if host.said is None and host.birth is None:
            del self.hosts[name]

    def _store_device(self, match: topics.Match, message: m.Message | None) -> None:
        key = Key(match.levels["host"], match.levels["driver"], match.levels["device"])
        device = self.devices.setdefault(key, DeviceView(key))
        if match.topic is topics.DEVICE_STATUS:
            device.status = message  # type: ignore[assignment]
        elif match.topic is topics.DEVICE_META:
            device.meta = message  # type: ignore[assignment]
        elif match.topic is topics.TABLE_ROW:
            device.row = message  # type: ignore[assignment]
        if device.status is None and device.meta is None and device.row is None:
            del self.devices[key]
