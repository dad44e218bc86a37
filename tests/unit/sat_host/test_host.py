"""The host as a whole on a memory bus, with workers that do as the test says: start, heartbeat,
what it hears of itself, end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from sat_bus.contract import topics
from sat_bus.contract.messages import Birth, HostState, Manifest
from sat_bus.service.run import STOOD_DOWN
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Inbound, Will
from sat_host.host import Host
from sat_host.outcome import Outcome
from sat_host.pool.pool import Pool
from sat_host.settings import HostSettings
from sat_host.wire_messages import Describe, RunHook, StreamChanged
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.errors import ConfigError, PluginError
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import HEADER, Worker, Workers

BOOT = "2000-bb"
HOST = "sat/1/lab/host/bench"
DEVICE = "sat/1/lab/dev/bench/drv_x/a"


class Rig(LoopRig):
    """A host with one driver, and a client that keeps all it hears."""

    def __init__(self, folder: Path, *drivers: str) -> None:
        super().__init__()
        self.family = folder / "lab"
        self.family.mkdir()
        for driver in drivers:
            (self.family / f"{driver}.py").write_text("pass\n")
        self.broker = MemoryBroker()
        self.heard: list[Inbound] = []
        self.client = MemoryBus(self.broker, "client")
        self.client.deliver_on(self._at_once)
        self.client.subscribe("sat/1/lab/#", self.heard.append)
        self.client.start()
        will = Will(
            topics.HOST_STATE.build("lab", host="bench"),
            HostState(state="offline", boot=BOOT).encode(),
        )
        self.bus = MemoryBus(self.broker, "bench", will=will)
        self.workers = Workers()
        settings = HostSettings(family="lab", host="bench", site="lab", plugins=str(folder))
        self.host = Host(settings, self.loop, self.bus, BOOT, cast(Pool, self.workers))

    def _at_once(self, job: Callable[[], None]) -> bool:
        job()
        return True

    def start(self) -> None:
        self.host.start()
        self.run_out()

    def run_out(self) -> None:
        """Handle all that has arrived, and what follows from it."""
        self.settle()
        while self.loop.depth:
            self.settle()

    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)
        self.run_out()

    @property
    def worker(self) -> Worker:
        return self.workers.of("drv_x/a")

    def connect(self) -> None:
        assert self.ask(f"{HOST}/req/connect", {"device": "a"})["status"] == "ok"

    def ask(self, topic: str, args: dict[str, Any]) -> dict[str, Any]:
        reply_to = f"sat/1/lab/reply/ann/{len(self.heard)}"
        self.client.publish(topic, json.dumps({"args": args, "reply_to": reply_to}).encode())
        self.run_out()
        (reply,) = self.all(reply_to)
        return reply

    def all(self, topic: str) -> list[Any]:
        """All payloads of a topic, decoded where they are JSON."""
        payloads = [inbound.payload for inbound in self.heard if inbound.topic == topic]
        return [json.loads(p) if p[:1] == b"{" else p for p in payloads]

    def states(self) -> list[str]:
        return [state["state"] for state in self.all(f"{HOST}/state")]

    def births(self) -> list[dict[str, Any]]:
        return [birth for birth in self.all(f"{HOST}/birth") if birth]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, "drv_x")


@pytest.fixture
def host(rig: Rig) -> Rig:
    rig.start()
    return rig


def birth_of(boot: str) -> bytes:
    manifest = Manifest(count=0, rev=0)
    return Birth(
        boot=boot, family="lab", drivers=[], manifest=manifest, epoch_seen=0, version="", clock=0.0
    ).encode()


# -- start -------------------------------------------------------------------------------------


def test_a_host_is_born_with_what_it_found(host: Rig) -> None:
    assert host.workers.log == ["start"]
    assert host.host.state == "ready"
    assert host.states()[-1] == "ready"
    host.wait(1.0)
    birth = host.births()[-1]
    assert (birth["boot"], birth["family"], birth["drivers"]) == (
        BOOT,
        "lab",
        [{"name": "drv_x"}],
    )
    assert birth["manifest"] == {"count": 1, "rev": 1}
    assert host.all(f"{DEVICE}/state")[-1] == b"discovered"
    assert host.all(f"{DEVICE}/meta")[-1]["name"] == "A"
    assert len(host.host.inventory.devices) == 1


def test_it_is_ready_when_its_drivers_are_described(rig: Rig) -> None:
    description = rig.workers.answers.pop(Describe)
    rig.start()
    rig.wait(2.5)
    assert rig.host.state == "init"
    assert rig.births() == []
    assert set(rig.states()) == {"init"}
    rig.workers.last.answer(description)
    assert rig.host.state == "ready"
    assert len(rig.births()) == 1


def test_a_driver_that_is_never_described_holds_it_up_for_three_seconds(rig: Rig) -> None:
    del rig.workers.answers[Describe]
    rig.start()
    rig.wait(2.75)
    assert rig.host.state == "init"
    rig.wait(0.25)
    assert rig.host.state == "ready"
    assert len(rig.births()) == 1


def test_a_family_without_drivers_is_ready_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.start()
    assert rig.host.state == "ready"


def test_a_host_that_stops_does_not_become_ready(rig: Rig) -> None:
    del rig.workers.answers[Describe]
    rig.start()
    rig.host.stop()
    rig.wait(3.25)
    assert rig.states()[-1] == "offline"
    assert rig.host.state == "offline"


def test_plugin_folders_that_make_no_sense_start_nothing(rig: Rig) -> None:
    (rig.family / "drv_x.dot.py").write_text("")
    with pytest.raises(PluginError):
        rig.host.start()
    assert rig.workers.log == []
    assert rig.heard == []


def test_a_folder_that_is_not_there_starts_nothing(rig: Rig) -> None:
    settings = HostSettings(family="lab", host="bench", plugins="/nowhere/at/all")
    host = Host(settings, rig.loop, rig.bus, BOOT, cast(Pool, rig.workers))
    with pytest.raises(ConfigError):
        host.start()


def test_changed_plugins_are_looked_for(host: Rig) -> None:
    (host.family / "drv_y.py").write_text("pass\n")
    host.wait(0.5)
    assert [driver.name for driver in host.host.inventory.drivers] == ["drv_x", "drv_y"]


# -- the bus -----------------------------------------------------------------------------------


def test_requests_of_all_kinds_are_answered(host: Rig) -> None:
    host.connect()
    reply_to = "sat/1/lab/reply/ann/x"
    payload = json.dumps({"args": {"text": "x"}, "reply_to": reply_to}).encode()
    for level in ("", "/ann"):
        host.client.publish(f"{DEVICE}/cmd/echo{level}", payload)
        host.run_out()
        host.worker.answer(Outcome({"text": "x"}))
    assert [reply["result"] for reply in host.all(reply_to)] == [{"text": "x"}] * 2
    host.client.publish(f"{DEVICE}/in/can/json/ann", b'{"id": 1}')
    host.run_out()
    assert len(host.worker.told) == 1
    host.client.publish(f"{DEVICE}/in/can/bin", b"no batch")
    host.run_out()
    assert host.all(f"{DEVICE}/res/in")[-1]["code"] == "bad_request"


def test_a_topic_that_cannot_be_read_is_counted(host: Rig) -> None:
    host.client.publish("sat/1/lab/dev/bench/drv_x/a%zz/cmd/echo", b"{}")
    host.wait(1.0)
    assert host.all(f"{HOST}/health")[-1]["drops"]["bad_topic"] == 1


def test_frames_reach_the_bus(host: Rig) -> None:
    host.connect()
    host.host.inventory.device("drv_x", "a").on_frames(HEADER, b"[]")
    (batch,) = host.all(f"{DEVICE}/stream/can/json")
    assert (batch["boot"], batch["stream"]) == (BOOT, "r1")


def test_a_false_word_is_mended(host: Rig) -> None:
    host.client.publish(f"{DEVICE}/state", b"active", retain=True)
    host.run_out()
    host.wait(0.5)
    assert host.broker.retained[f"{DEVICE}/state"] == b"discovered"
    ghost = "sat/1/lab/dev/bench/drv_x/ghost/state"
    host.client.publish(ghost, b"connected", retain=True)
    host.run_out()
    host.wait(0.5)
    assert ghost not in host.broker.retained


def test_the_truth_returns_to_a_broker_that_forgot_it(host: Rig) -> None:
    host.broker.stop()
    host.broker.wipe()
    host.broker.start()
    host.run_out()
    assert host.broker.retained[f"{DEVICE}/state"] == b"discovered"
    assert f"{HOST}/birth" in host.broker.retained


def test_a_will_is_corrected(host: Rig) -> None:
    host.broker.cut("bench")
    assert host.states()[-1] == "offline"
    host.run_out()
    assert host.states()[-1] == "ready"


def test_it_ends_when_a_newer_host_takes_its_name(host: Rig) -> None:
    host.client.publish(f"{HOST}/birth", birth_of("3000-cc"), retain=True)
    with capture_logs() as logs:
        assert host.loop.run_until(lambda: host.loop.stopped, 5.0)
    assert [entry["event"] for entry in logs] == [
        "another host of this name has started; this one ends"
    ]
    assert host.host.foreign
    assert host.loop.status == STOOD_DOWN
    host.heard.clear()
    host.host.stop()
    assert host.states() == [], "the name is another's"
    assert not host.bus.connected


@pytest.mark.parametrize(
    "payload", [birth_of("1000-aa"), birth_of(BOOT), b"", b"{}", b"x", birth_of("nonsense")]
)
def test_no_other_birth_ends_it(host: Rig, payload: bytes) -> None:
    host.client.publish(f"{HOST}/birth", payload, retain=True)
    host.run_out()
    host.wait(0.5)
    assert not host.host.foreign
    assert json.loads(host.broker.retained[f"{HOST}/birth"])["boot"] == BOOT


# -- once a second -----------------------------------------------------------------------------


def test_it_gives_a_sign_of_life_each_second(host: Rig) -> None:
    assert [beat["n"] for beat in host.all(f"{HOST}/heartbeat")] == [1]
    host.wait(2.0)
    assert [beat["n"] for beat in host.all(f"{HOST}/heartbeat")] == [1, 2, 3]
    assert len(host.all(f"{HOST}/health")) == 3


def test_it_says_how_it_fares(host: Rig) -> None:
    host.connect()
    for _ in range(3):
        host.client.publish(f"{DEVICE}/cmd/echo", b'{"text": "x"}')
    host.client.publish(f"{DEVICE}/cmd/echo", b"")
    host.run_out()
    host.host._streams._total["frames_full"] = 5
    host.wait(1.0)
    report = host.all(f"{HOST}/health")[-1]
    assert report["boot"] == BOOT
    assert report["queues"]["jobs"] == 2
    assert report["workers"] == {"running": len(host.workers)}
    assert report["drops"]["orphans_ended"] == 7
    assert report["drops"]["frames_full"] == 5
    assert report["drops"]["empty"] == 1


def test_without_a_broker_there_is_no_heartbeat(host: Rig) -> None:
    beats = host.host._publisher._beats
    host.broker.stop()
    host.run_out()
    host.wait(2.0)
    assert host.host._publisher._beats == beats


def test_lost_frames_are_shown_with_the_heartbeat(host: Rig) -> None:
    host.connect()
    device = host.host.inventory.device("drv_x", "a")
    device.on_event(StreamChanged("can", "r1", running=True))
    device.on_frames(HEADER, b"[]")
    host.host._streams._streams["drv_x", "a"]["can"].before = {"worker": 4}
    host.wait(1.0)
    status = host.all(f"{DEVICE}/status")[-1]
    assert status["streams"]["can"]["dropped"] == {"worker": 4}


def test_after_a_gap_workers_are_forgiven_and_all_is_said_again(host: Rig) -> None:
    host.wait(0.25)
    states = len(host.states())
    host.clock.now += 1.6
    host.run_out()
    assert host.workers.log == ["start", "forgive"]
    assert len(host.states()) > states


# -- end ---------------------------------------------------------------------------------------


def test_it_closes_its_devices_and_says_so(host: Rig) -> None:
    host.connect()
    host.heard.clear()
    host.host.stop()
    assert host.worker.requests[-1] == RunHook("close")
    assert host.states() == ["draining", "offline"]
    assert host.all(f"{DEVICE}/state")[-1] == b"disconnected"
    assert host.workers.log == ["start", "end", "stop"]
    assert not host.bus.connected
    assert json.loads(host.broker.retained[f"{HOST}/state"])["state"] == "offline", "no will"


def test_a_device_that_does_not_close_is_given_up(host: Rig) -> None:
    host.connect()
    host.workers.answers.clear()
    reply_to = "sat/1/lab/reply/ann/x"
    payload = json.dumps({"args": {"text": "x"}, "reply_to": reply_to}).encode()
    host.client.publish(f"{DEVICE}/cmd/echo", payload)
    host.run_out()
    clock = host.clock

    class Hurrying:
        """Half a second passes each time that somebody looks."""

        looks = 0

        def __call__(self) -> float:
            self.looks += 1
            clock.now += 0.5
            return clock.now

    hurrying = Hurrying()
    host.loop._clock = hurrying
    began = clock.now
    host.host.stop()
    assert 5.0 <= clock.now - began < 60.0
    (reply,) = host.all(reply_to)
    assert (reply["code"], reply["message"]) == ("host_lost", "host bench is stopping")
    assert host.worker.killed
    assert host.states()[-1] == "offline"


def test_a_host_without_a_worker_has_nothing_to_wait_for(host: Rig) -> None:
    host.host.stop()
    assert host.host.inventory.device("drv_x", "a").state is S.DISCOVERED
    assert host.states()[-2:] == ["draining", "offline"]
