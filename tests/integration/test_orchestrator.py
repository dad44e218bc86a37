"""The orchestrator against a hand-written host, on the memory bus."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker
from tests.integration.orchestrator_rig import (
    DRIVER,
    SITE,
    Client,
    FakeHost,
    RunningOrchestrator,
    wait_for,
)

CONNECT = [{"match": "*", "level": "connected", "streams": {"can": {"fd": True}}}]
NO_SCANS = 3600


class Rig:
    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.database = folder / "state.db"
        self.client = Client(self.broker)
        self.running: list[RunningOrchestrator] = []
        self._closers: list[Callable[[], Any]] = [self.client.close]

    def host(self, *devices: str, name: str = "bench") -> FakeHost:
        host = FakeHost(self.broker, *devices, name=name)
        self._closers.append(host.close)
        return host

    def orchestrator(
        self, *, policy: Any = (), scan_period_s: float = NO_SCANS, **more: Any
    ) -> RunningOrchestrator:
        running = RunningOrchestrator(
            self.broker, self.database, policy=list(policy), scan_period_s=scan_period_s, **more
        )  # fmt: skip
        self.running.append(running)
        self._closers.append(running.stop)
        wait_for(running.leads, "the orchestrator leads")
        return running

    def close(self) -> None:
        for closer in reversed(self._closers):
            closer()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def connected(rig: Rig, *devices: str) -> FakeHost:
    """A host whose devices policy has connected, with their streams running."""
    host = rig.host(*devices)
    rig.orchestrator(policy=CONNECT)
    for device in devices:
        rig.client.wait_state(device, "connected")
        rig.client.wait_row(device, observed="connected", quality="good")
    wait_for(lambda: host.did["start can"] == len(devices), "streams run")
    return host


# -- discovery and policy --------------------------------------------------------------------------


def test_without_policy_devices_are_only_discovered(rig: Rig) -> None:
    host = rig.host("can0")
    rig.orchestrator()
    row = rig.client.wait_row("can0", observed="discovered", quality="good")
    assert "desired" not in row
    assert row["policy"] == ""
    assert set(host.did) == {"scan"}


def test_policy_initialises_connects_and_starts_streams_each_once(rig: Rig) -> None:
    host = connected(rig, "can0", "can1")
    for device in ("can0", "can1"):
        assert host.did[f"initialize {device}"] == 1
        assert host.did[f"connect {device}"] == 1
    assert host.devices["can0"].streams["can"].args == {"fd": True}
    row = rig.client.row("can0")
    assert row["desired"] == {"level": "connected", "streams": {"can": {"fd": True}}}
    assert row["policy"] == "*"


def test_a_device_that_is_plugged_in_later_is_found_by_the_periodic_scan(rig: Rig) -> None:
    host = rig.host("can0")
    host.devices["can0"].plugged = False
    rig.orchestrator(policy=CONNECT, scan_period_s=0.5)
    wait_for(lambda: host.did["scan"] >= 2, "scans")
    host.devices["can0"].plugged = True
    rig.client.wait_state("can0", "connected")


# -- set -------------------------------------------------------------------------------------------


def test_set_moves_a_device_and_auto_gives_it_back_to_policy(rig: Rig) -> None:
    host = connected(rig, "can0")
    reply = rig.client.set("can0", "disconnected")
    assert reply["status"] == "ok"
    assert reply["result"]["desired"] == {"level": "disconnected", "streams": {}}
    assert reply["result"]["policy"] == "explicit"
    rig.client.wait_state("can0", "disconnected")
    assert rig.client.set("can0", {"level": "initialized"})["status"] == "ok"
    rig.client.wait_state("can0", "initialized")
    assert rig.client.set("can0", "auto")["result"]["policy"] == "*"
    rig.client.wait_state("can0", "connected")
    wait_for(lambda: host.did["start can"] == 2, "the rule's stream runs again")


# -- lifecycle requests ----------------------------------------------------------------------------


def test_connect_on_an_unknown_device_scans_first(rig: Rig) -> None:
    host = rig.host("can0")
    host.devices["can0"].plugged = False
    rig.orchestrator()
    wait_for(lambda: host.did["scan"] == 1, "the first scan")
    host.devices["can0"].plugged = True
    reply = rig.client.orch("connect", device="can0")
    assert (reply["status"], reply["state"], reply["host"]) == ("ok", "connected", "bench")
    assert host.did["scan"] == 2
    assert rig.client.wait_row("can0", observed="connected")["policy"] == "explicit"


def test_policy_does_not_fight_a_close(rig: Rig) -> None:
    host = connected(rig, "can0")
    reply = rig.client.orch("close", device="can0")
    assert (reply["status"], reply["state"]) == ("ok", "disconnected")
    row = rig.client.wait_row("can0", observed="disconnected", policy="explicit")
    assert row["desired"]["level"] == "disconnected"
    rig.client.orch("scan")
    assert host.did["connect can0"] == 1


# -- forget ------------------------------------------------------------------------------------------


def test_forget_refuses_what_is_present_and_clears_what_is_gone(rig: Rig) -> None:
    host = connected(rig, "can0", "can1")
    assert rig.client.orch("forget", device="can0")["code"] == "bad_state"
    host.devices["can1"].plugged = False
    rig.client.orch("scan")
    rig.client.wait_row("can1", observed="unknown")
    assert rig.client.orch("forget", device="can1")["status"] == "ok"
    assert not [topic for topic in rig.broker.retained if "/can1" in topic]
    host.kill()
    rig.client.wait_row("can0", quality="lost")
    assert rig.client.orch("forget", device="can0")["status"] == "ok"
    wait_for(
        lambda: not [t for t in rig.broker.retained if "/can0" in t], "retained topics are cleared"
    )
    assert rig.client.orch("list")["result"]["devices"] == []
    host.restart()
    rig.client.wait_state("can0", "connected")


# -- lost hosts ------------------------------------------------------------------------------------


def test_a_killed_host_is_lost_at_once_and_comes_back_connected(rig: Rig) -> None:
    host = connected(rig, "can0")
    old = host.boot
    host.kill()
    rig.client.wait_state("can0", "unknown", timeout=1.0)
    status = rig.client.retained(topics.DEVICE_STATUS, "can0")
    assert (status["quality"], status["last_known"], status["by"]) == (
        "lost",
        "connected",
        "orchestrator",
    )
    assert (status["boot"], status["rev"]) == (old, host.devices["can0"].rev)
    assert rig.client.wait_row("can0", quality="lost")["last_known"] == "connected"
    assert rig.client.orch("close", device="can0")["code"] == "host_lost"
    host.restart()
    rig.client.wait_state("can0", "connected")
    rig.client.wait_row("can0", quality="good", observed="connected")
    wait_for(lambda: host.did["start can"] == 2, "it streams again")


def test_a_frozen_host_is_lost_and_true_again_when_it_thaws(rig: Rig) -> None:
    host = connected(rig, "can0")
    host.freeze()
    rig.client.wait_state("can0", "unknown")
    said = json.loads(rig.broker.retained[topics.HOST_STATE.build(SITE, host="bench")])
    assert said == {"state": "lost", "boot": host.boot}
    host.thaw()
    rig.client.wait_state("can0", "connected")
    rig.client.wait_row("can0", observed="connected", quality="good")
    assert host.did["initialize can0"] == 1


def test_a_retained_ready_that_never_beats_is_a_ghost(rig: Rig) -> None:
    host = rig.host("can0")
    host.resync()
    host._scan()
    host.freeze()
    host.broker.kill(host.client)
    topic = topics.HOST_STATE.build(SITE, host="bench")
    rig.client.bus.publish(
        topic, json.dumps({"state": "ready", "boot": host.boot}).encode(), retain=True
    )
    rig.orchestrator(policy=CONNECT)
    rig.client.wait_state("can0", "unknown")
    rig.client.wait_row("can0", quality="lost", last_known="discovered")


def test_a_broker_that_forgets_everything_is_told_again(rig: Rig) -> None:
    host = connected(rig, "can0")
    gone = rig.host("can5", name="gone")
    wait_for(lambda: gone.did["start can"], "the other host works")
    gone.kill()
    wait_for(
        lambda: rig.client.retained(topics.DEVICE_STATE, "can5", "gone") == "unknown", "it is lost"
    )
    rig.broker.stop()
    rig.broker.wipe()
    rig.broker.start()
    rig.client.wait_state("can0", "connected")
    wait_for(
        lambda: rig.client.retained(topics.DEVICE_STATE, "can5", "gone") == "unknown", "still lost"
    )
    rig.client.wait_row("can0", observed="connected", quality="good")
    wait_for(lambda: rig.client.row("can5", "gone").get("quality") == "lost", "its row is back")
    assert host.did["initialize can0"] == 1


# -- restarts and rivals ---------------------------------------------------------------------------


def test_a_killed_orchestrator_adopts_and_initialises_nothing_twice(rig: Rig) -> None:
    host = connected(rig, "can0", "can1")
    first = rig.client.orch("close", device="can1")
    assert first["status"] == "ok"
    before = dict(host.did)
    rig.running[-1].kill()
    second = rig.orchestrator(policy=CONNECT)
    assert second.state["epoch"] == 2
    rig.client.wait_row("can0", observed="connected", quality="good", policy="*")
    rig.client.wait_row("can1", observed="disconnected", quality="good", policy="explicit")
    rig.client.orch("scan")
    after = {name: count for name, count in host.did.items() if name != "scan"}
    assert after == {name: count for name, count in before.items() if name != "scan"}


def test_a_new_orchestrator_uses_no_request_id_of_the_one_before(rig: Rig) -> None:
    """A host remembers them for a while, and runs none twice."""
    host = connected(rig, "can0")
    rig.running[-1].kill()
    rig.orchestrator(policy=CONNECT)
    assert rig.client.orch("close", device="can0")["status"] == "ok"
    assert len(set(host.ids)) == len(host.ids) > 3


def test_what_clients_did_while_no_orchestrator_was_there_counts(rig: Rig) -> None:
    host = connected(rig, "can0")
    rig.running[-1].kill()
    host.command("can0", "can", "stopped", "ann", "s2")
    host.command("can0", "uart", "running", "ann", "s3")
    rig.orchestrator(policy=CONNECT)
    row = rig.client.wait_row("can0", policy="explicit")
    assert row["desired"] == {"level": "connected", "streams": {"uart": {"by": "ann"}}}
    assert host.did["start can"] == 1


def test_streams_that_a_client_starts_and_stops_change_what_is_desired(rig: Rig) -> None:
    host = connected(rig, "can0")
    host.command("can0", "can", "stopped", "ann", "s9")
    rig.client.wait_row("can0", desired={"level": "connected", "streams": {}}, policy="explicit")
    host.command("can0", "can", "running", "ann", "s10")
    rig.client.wait_row("can0", desired={"level": "connected", "streams": {"can": {"by": "ann"}}})
    host.kill()
    host.restart()
    rig.client.wait_state("can0", "connected")
    wait_for(lambda: "can" in host.devices["can0"].streams, "the client's stream runs again")
    assert host.devices["can0"].streams["can"].args == {"by": "ann"}


def test_of_two_orchestrators_the_older_stands_down(rig: Rig) -> None:
    connected(rig, "can0")
    first = rig.running[-1]
    second = rig.orchestrator(policy=CONNECT)
    first.thread.join(5.0)
    assert not first.thread.is_alive()
    assert first.loop.status == 4
    assert second.leads()


def test_a_host_that_knows_a_higher_epoch_is_obeyed(rig: Rig) -> None:
    host = rig.host("can0")
    running = rig.orchestrator()
    rig.client.wait_row("can0", observed="discovered")
    host.obey(41)
    assert rig.client.orch("connect", device="can0")["code"] == "fenced"
    host.resync()  # its birth names the epoch
    wait_for(lambda: running.state["epoch"] == 42, "a higher epoch")
    assert rig.client.orch("connect", device="can0")["status"] == "ok"


# -- database, identity ----------------------------------------------------------------------------


def test_a_broken_database_refuses_and_ends_nothing(rig: Rig) -> None:
    host = connected(rig, "can0")
    with sqlite3.connect(rig.database) as connection:
        connection.execute("ALTER TABLE device RENAME TO moved")
    connection.close()
    reply = rig.client.set("can0", "disconnected")
    assert reply["code"] == "internal"
    assert "no such table" in reply["message"]
    assert rig.client.orch("close", device="can0")["code"] == "internal"
    assert host.devices["can0"].state == "connected"
    with sqlite3.connect(rig.database) as connection:
        connection.execute("ALTER TABLE moved RENAME TO device")
    connection.close()
    assert rig.client.set("can0", "disconnected")["status"] == "ok"
    rig.client.wait_state("can0", "disconnected")


def test_other_hardware_under_the_same_name_is_held_until_a_client_accepts_it(rig: Rig) -> None:
    host = rig.host("can0")
    host.devices["can0"].hardware_id = "serial-1"
    rig.orchestrator(policy=CONNECT)
    rig.client.wait_state("can0", "connected")
    host.kill()
    host.devices["can0"].hardware_id = "serial-2"
    host.restart()
    row = rig.client.wait_row("can0", observed="discovered", quality="good")
    assert "serial-2" in row["held"]
    events = f"sat/1/{SITE}/dev/bench/{DRIVER}/can0/event"
    wait_for(lambda: [e for e in rig.client.replies(events) if e["event"] == "held"], "an event")
    assert host.did["connect can0"] == 1
    assert rig.client.set("can0", "connected")["result"]["held"] == ""
    rig.client.wait_state("can0", "connected")
    assert rig.client.wait_row("can0", held="")["hardware_id"] == "serial-2"


def test_a_device_that_fails_by_itself_is_recovered(rig: Rig) -> None:
    host = connected(rig, "can0")
    host.fail("can0", "bus-off")
    rig.client.wait_row("can0", observed="error", attempts=1)
    rig.client.wait_state("can0", "connected")
    assert host.did["reset can0"] == 1
    wait_for(lambda: host.did["start can"] == 2, "it streams again")
