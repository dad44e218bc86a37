"""What a host says of itself and of its devices."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sat_bus.contract.messages import Health, Meta
from sat_bus.contract.topics import Traffic
from sat_host.bus.publisher import HostPublisher
from sat_host.devices.face import Face
from sat_host.devices.inventory import Inventory
from sat_toolkit import __version__
from sat_toolkit.core.device_spec import DeviceState as S
from tests.unit.sat_host.fakes import LoopRig

HOST = "sat/1/lab/host/bench"
DEVICE = "sat/1/lab/dev/bench/drv_x/a"
META = Meta(name="A", device_type="CAN")


class Named:
    """A driver or device, as far as a birth says something of it."""

    def __init__(self, name: str, error: str | None = None) -> None:
        self.name, self.error = name, error
        self.scanned = False


class Have(Inventory):
    """An inventory that has what the test says."""

    drivers: list[Any] = []
    devices: list[Any] = []


class Rig(LoopRig):
    """A publisher, and all that it has published."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, bytes]] = []
        self.how: list[dict[str, Any]] = []
        self.have = Have("bench")
        self.publisher = HostPublisher(
            self, self.loop, self.have, site="lab", boot="2000-bb", family="can"  # type: ignore[arg-type]
        )  # fmt: skip

    def publish(self, topic: str, payload: bytes, **how: Any) -> bool:
        self.sent.append((topic, payload))
        self.how.append(how)
        return True

    def take(self) -> list[tuple[str, Any]]:
        """What was sent since the last call, decoded where it is JSON."""
        sent, self.sent = self.sent, []
        return [
            (topic, json.loads(payload) if payload[:1] == b"{" else payload)
            for topic, payload in sent
        ]

    def births(self) -> list[dict[str, Any]]:
        return [payload for topic, payload in self.take() if topic == f"{HOST}/birth"]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def ready(rig: Rig) -> Rig:
    rig.publisher.become("ready")
    rig.take()
    return rig


def test_the_state_is_retained(rig: Rig) -> None:
    assert (rig.publisher.state, rig.publisher.epoch_seen) == ("init", 0)
    rig.publisher.become("ready")
    assert rig.publisher.state == "ready"
    assert rig.take() == [(f"{HOST}/state", {"state": "ready", "boot": "2000-bb"})]
    assert rig.how == [{"retain": True, "traffic": Traffic.STATE}]


def test_the_birth_says_who_the_host_is_and_what_it_has(ready: Rig) -> None:
    ready.have.drivers = [Named("drv_x"), Named("drv_y", "it has a hole")]
    ready.have.devices = ["a", "b", "c"]
    ready.publisher.epoch_seen = 7
    ready.publisher.show("drv_x", "a", Face(1.0))
    ready.take()
    ready.publisher.publish_birth()
    (birth,) = ready.births()
    assert abs(birth.pop("clock") - time.time()) < 60.0
    assert birth == {
        "boot": "2000-bb",
        "family": "can",
        "drivers": [{"name": "drv_x"}, {"name": "drv_y", "error": "it has a hole"}],
        "manifest": {"count": 3, "rev": 1},
        "epoch_seen": 7,
        "version": __version__,
    }
    assert ready.how[-1] == {"retain": True, "traffic": Traffic.STATE}


def test_there_is_no_birth_before_the_host_is_ready(rig: Rig) -> None:
    rig.publisher.publish_birth()
    assert rig.take() == []
    rig.publisher.become("ready")
    rig.publisher.publish_birth()
    assert len(rig.births()) == 1


def test_a_birth_comes_again_when_what_it_says_has_changed(ready: Rig) -> None:
    ready.publisher.publish_birth()
    assert len(ready.births()) == 1
    ready.publisher.publish_birth()
    assert ready.births() == []
    ready.have.devices = ["a"]
    ready.publisher.publish_birth()
    assert len(ready.births()) == 1
    ready.publisher.epoch_seen = 3
    ready.publisher.publish_birth()
    assert len(ready.births()) == 1
    ready.publisher.show("drv_x", "a", Face(1.0))
    ready.publisher.publish_birth()
    assert len(ready.births()) == 1
    ready.have.drivers = [Named("drv_x")]
    ready.publisher.publish_birth()
    assert len(ready.births()) == 1


def test_a_beat_is_numbered_and_carries_the_birth(ready: Rig) -> None:
    ready.clock.now = 12.3456
    ready.publisher.beat()
    ready.publisher.beat()
    (topic, first), (birth_topic, _), (_, second) = ready.take()
    assert topic == f"{HOST}/heartbeat"
    assert first == {"boot": "2000-bb", "n": 1, "mono_ms": 12345}
    assert second["n"] == 2
    assert birth_topic == f"{HOST}/birth"
    assert ready.how[-1] == {"qos": 0}


def test_how_the_host_fares(rig: Rig) -> None:
    rig.publisher.report(Health(boot="2000-bb", queues={"jobs": 3}))
    ((topic, report),) = rig.take()
    assert (topic, report["queues"]) == (f"{HOST}/health", {"jobs": 3})
    assert rig.how == [{"qos": 0}]


def test_a_device_is_shown_with_revisions_that_grow(rig: Rig) -> None:
    rig.publisher.show("drv_x", "a", Face(5.0, S.DISCOVERED))
    rig.publisher.show("drv_x", "b", Face(6.0, S.ERROR, reason="x"))
    sent = rig.take()
    assert [topic.removeprefix("sat/1/lab/dev/bench/drv_x/") for topic, _ in sent] == [
        "a/status",
        "a/state",
        "b/status",
        "b/state",
    ]
    assert (sent[0][1]["rev"], sent[0][1]["boot"], sent[0][1]["since"]) == (1, "2000-bb", 5.0)
    assert sent[1][1] == b"discovered"
    assert (sent[2][1]["rev"], sent[2][1]["reason"]) == (2, "x")
    assert sent[3][1] == b"error"


def test_a_device_is_described(rig: Rig) -> None:
    rig.publisher.describe("drv_x", "a", META)
    ((topic, meta),) = rig.take()
    assert (topic, meta["name"]) == (f"{DEVICE}/meta", "A")
    assert rig.how[0]["retain"]


def test_an_event_has_the_time_and_the_latest_revision(rig: Rig) -> None:
    rig.publisher.show("drv_x", "a", Face(5.0))
    rig.take()
    rig.how.clear()
    rig.publisher.tell("drv_x", "a", "error", {"reason": "x"})
    ((topic, event),) = rig.take()
    assert topic == f"{DEVICE}/event"
    assert abs(event.pop("at") - time.time()) < 60.0
    assert event == {"event": "error", "boot": "2000-bb", "rev": 1, "reason": "x"}
    assert rig.how == [{}], "not retained"


def test_a_device_that_is_gone_leaves_nothing_behind(rig: Rig) -> None:
    rig.publisher.describe("drv_x", "a", META)
    rig.publisher.show("drv_x", "a", Face(5.0))
    rig.take()
    rig.publisher.forget("drv_x", "a")
    assert rig.take() == [(f"{DEVICE}/{level}", b"") for level in ("state", "status", "meta")]
    rig.publisher.resync()
    assert [topic for topic, _ in rig.take()] == [f"{HOST}/state"] * 2


def test_everything_is_said_again(ready: Rig) -> None:
    ready.publisher.describe("drv_x", "a", META)
    ready.publisher.publish_birth()
    ready.take()
    ready.publisher.resync()
    topics = [topic.removeprefix("sat/1/lab/") for topic, _ in ready.take()]
    assert topics[:2] == ["host/bench/birth", "host/bench/state"]
    assert sorted(set(topics)) == ["dev/bench/drv_x/a/meta", "host/bench/birth", "host/bench/state"]


def test_a_false_word_is_mended_in_a_moment(rig: Rig) -> None:
    rig.publisher.show("drv_x", "a", Face(5.0, S.DISCOVERED))
    rig.take()
    rig.publisher.see(f"{DEVICE}/state", b"active")
    rig.clock.now += 0.2
    rig.settle()
    rig.publisher.see(f"{DEVICE}/state", b"error")
    assert rig.take() == []
    rig.clock.now += 0.05
    rig.settle()
    assert rig.take() == [(f"{DEVICE}/state", b"discovered")]
    rig.publisher.see(f"{DEVICE}/state", b"active")
    rig.pass_time(0.25)
    assert rig.take() == [(f"{DEVICE}/state", b"discovered")]


def test_our_own_word_needs_no_mending(rig: Rig) -> None:
    rig.publisher.show("drv_x", "a", Face(5.0, S.DISCOVERED))
    rig.take()
    rig.publisher.see(f"{DEVICE}/state", b"discovered")
    assert rig.publisher._settling is None
    rig.pass_time(0.5)
    assert rig.take() == []


def test_what_nobody_says_is_cleared_when_all_is_known(rig: Rig) -> None:
    driver = Named("drv_x")
    rig.have.drivers = [driver]
    rig.publisher.see(f"{DEVICE}/state", b"connected")
    rig.pass_time(0.25)
    assert rig.take() == []
    driver.scanned = True
    rig.publisher.settle_soon()
    rig.pass_time(0.25)
    assert rig.take() == [(f"{DEVICE}/state", b"")]
