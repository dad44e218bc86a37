"""What a host says on the bus of itself and of its devices, frames and replies apart: retained
topics, which are kept true, and events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import DriverInfo, Health, Manifest, Meta
from sat_bus.contract.topics import Topic, Traffic
from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.transport.bus import Bus
from sat_host.bus.retained import RetainedTopics
from sat_host.devices.face import Face
from sat_host.devices.inventory import Inventory
from sat_toolkit import __version__

SETTLE_AFTER = 0.25


class HostPublisher:
    """Speaks for the host of `inventory`, in its present `boot`.

    Attributes:
        state: what the host says of itself: init, ready, draining or offline.
        epoch_seen: the highest epoch of an orchestrator that a request has named.
    """

    def __init__(
        self, bus: Bus, loop: WorkLoop, inventory: Inventory, *, site: str, boot: str, family: str
    ) -> None:
        self.state = "init"
        self.epoch_seen = 0
        self.boot = boot
        self._bus = bus
        self._loop = loop
        self._inventory = inventory
        self._site = site
        self._family = family
        self._retained = RetainedTopics(self._retain)
        self._settling: Timer | None = None
        self._rev = 0
        self._beats = 0
        self._born: tuple[Any, ...] = ()

    # -- the host --------------------------------------------------------------------------------

    def become(self, state: str) -> None:
        """Say that the host is in `state` now."""
        self.state = state
        message = messages.HostState(state=state, boot=self.boot)
        self._retained.want(self._of_host(topics.HOST_STATE), message.encode())

    def publish_birth(self) -> None:
        """Say who the host is and what it has, when that has changed; not before it is ready."""
        drivers = [DriverInfo(name=d.name, error=d.error) for d in self._inventory.drivers]
        count = len(self._inventory.devices)
        born = (drivers, count, self._rev, self.epoch_seen)
        if self.state == "init" or born == self._born:
            return
        self._born = born
        birth = messages.Birth(
            boot=self.boot,
            family=self._family,
            drivers=drivers,
            manifest=Manifest(count=count, rev=self._rev),
            epoch_seen=self.epoch_seen,
            version=__version__,
            clock=round(time.time(), 3),
        )
        self._retained.want(self._of_host(topics.HOST_BIRTH), birth.encode())

    def beat(self) -> None:
        """Give a sign of life, and the birth if it has changed."""
        self._beats += 1
        beat = messages.Heartbeat(
            boot=self.boot, n=self._beats, mono_ms=int(self._loop.now() * 1000)
        )
        self._bus.publish(self._of_host(topics.HOST_HEARTBEAT), beat.encode(), qos=0)
        self.publish_birth()

    def report(self, health: Health) -> None:
        """Say how the host fares."""
        self._bus.publish(self._of_host(topics.HOST_HEALTH), health.encode(), qos=0)

    # -- devices ---------------------------------------------------------------------------------

    def describe(self, driver: str, device: str, meta: Meta) -> None:
        """Say what a device is."""
        self._retained.want(self._of_device(topics.DEVICE_META, driver, device), meta.encode())

    def show(self, driver: str, device: str, face: Face) -> None:
        """Say how a device is: its state, and its status with the next revision."""
        self._rev += 1
        status = face.status(self._rev, self.boot)
        self._retained.want(self._of_device(topics.DEVICE_STATUS, driver, device), status.encode())
        state = face.state.value.encode()
        self._retained.want(self._of_device(topics.DEVICE_STATE, driver, device), state)

    def tell(self, driver: str, device: str, event: str, fields: Mapping[str, Any]) -> None:
        """Say what has happened to a device."""
        message = messages.Event(
            event=event, at=time.time(), boot=self.boot, rev=self._rev, **fields
        )
        self._bus.publish(self._of_device(topics.DEVICE_EVENT, driver, device), message.encode())

    def forget(self, driver: str, device: str) -> None:
        """Clear all that was said of a device which is gone."""
        for topic in (topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
            self._retained.drop(self._of_device(topic, driver, device))

    # -- keeping it true -------------------------------------------------------------------------

    def see(self, topic: str, payload: bytes) -> None:
        """A retained topic of this host, as the broker has it."""
        if self._retained.see(topic, payload):
            self.settle_soon()

    def settle_soon(self) -> None:
        """Mend in a moment what the broker holds and we do not say."""
        if self._settling is None:
            self._settling = self._loop.later(SETTLE_AFTER, self._settle)

    def resync(self) -> None:
        """Say everything again: after a reconnect, after a gap in the loop, and when asked."""
        self._born = ()
        self.publish_birth()
        self.become(self.state)
        self._retained.republish()

    def _settle(self) -> None:
        self._settling = None
        self._retained.settle(clear_unknown=self._inventory.scanned)

    def _retain(self, topic: str, payload: bytes) -> None:
        self._bus.publish(topic, payload, retain=True, traffic=Traffic.STATE)

    def _of_host(self, topic: Topic) -> str:
        return topic.build(self._site, host=self._inventory.host)

    def _of_device(self, topic: Topic, driver: str, device: str) -> str:
        return topic.build(self._site, host=self._inventory.host, driver=driver, device=device)
