"""The driver host with real worker processes: commands, streams, failures, reloads."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from tests.integration.hosting import DRIVER, HOST, PLUGINS, SITE, RunningHost, Watcher


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def watcher(broker: MemoryBroker) -> Iterator[Watcher]:
    bus = MemoryBus(broker, "watcher")
    yield Watcher(bus)
    bus.close()


@pytest.fixture
def host(broker: MemoryBroker, watcher: Watcher) -> Iterator[RunningHost]:
    with RunningHost(broker) as running:
        watcher.wait_state("a", "discovered")
        yield running


@pytest.fixture
def connected(host: RunningHost, watcher: Watcher) -> Watcher:
    reply = watcher.request("connect", "a")
    assert reply["status"] == "ok", reply
    watcher.wait_state("a", "connected")
    return watcher


def test_a_host_is_born_and_shows_what_it_found(host: RunningHost, watcher: Watcher) -> None:
    birth = watcher.topic(topics.HOST_BIRTH)
    watcher.wait(
        lambda: watcher.json(birth).get("manifest", {}).get("count") == 2,
        "a birth with two devices",
    )
    assert watcher.json(birth)["drivers"] == [{"name": DRIVER}]
    meta = watcher.json(watcher.topic(topics.DEVICE_META, "b"))
    assert meta["hardware_id"] == "serial-b"
    assert meta["streams"] == ["custom"]
    assert meta["commands"]["echo"]["parameters"]["required"] == ["text"]
    assert watcher.latest[watcher.topic(topics.DEVICE_STATE, "a")] == b"discovered"


def test_each_device_has_a_process_of_its_own(connected: Watcher) -> None:
    connected.request("connect", "b")
    pids = {connected.command(device, "echo", {"text": "x"})["result"]["pid"] for device in "ab"}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("topic", "payload", "code"),
    [
        ("cmd/echo", b'{"text": 5}', "bad_args"),
        ("cmd/refuse", b"{}", "driver_error"),
        ("cmd/fail", b"{}", "driver_error"),
    ],
)
def test_a_bad_command_gets_its_code_and_changes_nothing(
    connected: Watcher, topic: str, payload: bytes, code: str
) -> None:
    before = connected.status("a")["state"]
    reply_topic = f"sat/1/{SITE}/dev/{HOST}/{DRIVER}/a/res/{topic.removeprefix('cmd/')}"
    connected.bus.publish(f"sat/1/{SITE}/dev/{HOST}/{DRIVER}/a/{topic}", payload)
    connected.wait(lambda: reply_topic in connected.latest, "a reply")
    reply = connected.json(reply_topic)
    assert (reply["status"], reply["code"]) == ("error", code)
    assert reply["message"]
    assert connected.command("a", "echo", {"text": "still here"})["status"] == "ok"
    assert connected.status("a")["state"] == before


def test_a_stream_is_numbered_without_gaps_and_its_end_is_told(connected: Watcher) -> None:
    assert connected.command("a", "start", {"period": 0.001})["status"] == "ok"
    running = connected.wait(
        lambda: connected.status("a").get("streams", {}).get("custom"), "a running stream"
    )
    assert (running["state"], running["by"], running["args"]) == (
        "running",
        "tester",
        {"period": 0.001},
    )
    connected.wait(lambda: sum(b["n"] for b in connected.batches("a")) > 300, "300 frames")
    assert connected.command("a", "refuse")["code"] == "driver_error"
    seen = len(connected.batches("a"))
    connected.wait(lambda: len(connected.batches("a")) > seen, "the stream goes on")
    assert connected.command("a", "stop")["status"] == "ok"
    connected.wait(
        lambda: connected.status("a")["streams"]["custom"]["state"] == "stopped", "a stopped stream"
    )
    batches = connected.batches("a")
    assert batches[-1]["n"] == 0
    following = 0
    for batch in batches:
        assert (batch["seq"], batch["stream"], batch["dropped"]) == (
            following,
            running["stream"],
            {},
        )
        following += batch["n"]
    assert [f["data"] for b in batches for f in b["frames"]] == list(range(following))


def test_two_devices_stream_and_stop_independently(connected: Watcher) -> None:
    connected.request("connect", "b")
    for device in "ab":
        connected.command(device, "start")
    connected.wait(lambda: connected.batches("a") and connected.batches("b"), "both streams")
    connected.request("close", "b")
    seen = len(connected.batches("a"))
    connected.wait(lambda: len(connected.batches("a")) > seen + 3, "a streams on")
    assert connected.status("b")["streams"]["custom"]["state"] == "stopped"


def test_client_data_reaches_the_driver(connected: Watcher) -> None:
    topic = connected.topic(topics.INPUT_JSON, "a", stream="custom")
    connected.bus.publish(topic, b'{"frames": [{"id": 1}, {"id": 2}]}')
    connected.bus.publish(topic, b'{"action": "send", "data": "text"}')
    expected: list[Any] = [{"id": 1}, {"id": 2}, "text"]
    connected.wait(lambda: True, "")
    for _ in range(50):
        if connected.command("a", "sent")["result"] == expected:
            break
    assert connected.command("a", "sent")["result"] == expected
    connected.bus.publish(topic, b'{"frames": [7]}')
    answer = connected.topic(topics.DEVICE_REPLY, "a", command="in")
    connected.wait(lambda: connected.json(answer).get("code") == "bad_args", "a refusal")


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("break", "driver_error", "cable cut"),
        ("exit", "indeterminate", "exit status 3"),
        ("crash", "indeterminate", "signal SIGSEGV"),
        ("sleep", "timeout", "did not end within 0.7 s"),
    ],
)
def test_a_failing_device_is_in_error_with_the_reason_and_recovers(
    connected: Watcher, command: str, code: str, reason: str
) -> None:
    connected.request("connect", "b")
    reply = connected.command("a", command)
    assert reply["code"] == code
    assert reason in reply["message"]
    status = connected.wait_state("a", "error")
    assert reason in status["reason"]
    assert connected.command("b", "echo", {"text": "fine"})["status"] == "ok"
    assert connected.request("connect", "a")["code"] == "bad_state"
    assert connected.request("reset", "a")["state"] == "disconnected"
    assert connected.request("connect", "a")["state"] == "connected"
    assert connected.command("a", "echo", {"text": "back"})["status"] == "ok"


def test_client_data_that_the_driver_refuses_is_told_together_and_harms_nobody(
    connected: Watcher,
) -> None:
    topic = connected.topic(topics.INPUT_JSON, "a", stream="custom")
    items = json.dumps({"frames": [{"action": "send", "data": "no"}] * 900}).encode()
    for _ in range(3):
        connected.bus.publish(topic, items)
    events = connected.topic(topics.DEVICE_EVENT, "a")

    def told() -> list[dict[str, Any]]:
        found = [json.loads(m.payload) for m in connected.messages if m.topic == events]
        return [event for event in found if event["event"] == "input_failed"]

    connected.wait(lambda: sum(event["n"] for event in told()) == 2700, "all failures told")
    assert len(told()) < 100
    assert {event["reason"] for event in told()} <= {
        "not this",
        "the device takes its data too slowly",
    }
    assert connected.command("a", "echo", {"text": "fine"})["status"] == "ok"


def test_events_of_a_driver_are_told_as_its_own_within_their_ration(connected: Watcher) -> None:
    events = connected.topic(topics.DEVICE_EVENT, "a")

    def told(kind: str) -> list[dict[str, Any]]:
        found = [json.loads(m.payload) for m in connected.messages if m.topic == events]
        return [event for event in found if event["event"] == kind]

    connected.command("a", "report", {"n": 1})
    (first,) = connected.wait(lambda: told("driver.happened"), "the event")
    assert first["data"] == {"index": 0, "event": "state"}
    assert first["boot"] == connected.status("a")["boot"]
    connected.command("a", "report", {"n": 500})
    connected.wait(lambda: told("events_dropped"), "the count of dropped events")
    connected.wait(
        lambda: len(told("driver.happened")) + sum(e["n"] for e in told("events_dropped")) == 501,
        "all accounted for",
    )
    assert len(told("driver.happened")) < 100


def test_a_dead_acquisition_loop_is_told(connected: Watcher) -> None:
    connected.command("a", "dead_loop")
    status = connected.wait_state("a", "error")
    assert "unplugged" in status["reason"]
    assert status["streams"]["custom"]["state"] == "stopped"
    assert not status.get("acquiring")


def test_a_loop_that_dies_during_a_clients_command_was_not_stopped_by_the_client(
    connected: Watcher,
) -> None:
    connected.command("a", "start")
    connected.command("a", "sleep", {"seconds": 0.5, "loop_dies": True})
    status = connected.wait_state("a", "error")
    assert "unplugged" in status["reason"]
    assert (status["streams"]["custom"]["state"], status["streams"]["custom"]["by"]) == (
        "stopped",
        "host",
    )


def test_a_worker_that_is_killed_costs_its_device_only(connected: Watcher) -> None:
    connected.request("connect", "b")
    connected.command("b", "start")
    os.kill(connected.command("a", "echo", {"text": ""})["result"]["pid"], signal.SIGKILL)
    assert "SIGKILL" in connected.wait_state("a", "error")["reason"]
    seen = len(connected.batches("b"))
    connected.wait(lambda: len(connected.batches("b")) > seen + 3, "b streams on")


def test_a_worker_without_a_sign_of_life_is_killed(connected: Watcher) -> None:
    pid = connected.command("a", "echo", {"text": ""})["result"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    status = connected.wait_state("a", "error")
    assert status["reason"] == "worker has not answered for 3 s"


def test_changed_code_is_loaded_and_the_device_restarted(
    broker: MemoryBroker, watcher: Watcher, tmp_path: Path
) -> None:
    source = tmp_path / "plugins" / "lab" / "drv_bench.py"
    source.parent.mkdir(parents=True)
    text = (PLUGINS / "lab" / "drv_bench.py").read_text()
    source.write_text(text)
    with RunningHost(broker, plugins=tmp_path / "plugins"):
        watcher.wait_state("a", "discovered")
        watcher.request("connect", "a")
        assert watcher.command("a", "refuse")["message"] == "no"
        source.write_text("import nothing_of_this_name\n")
        birth = watcher.topic(topics.HOST_BIRTH)
        watcher.wait(lambda: watcher.json(birth)["drivers"][0].get("error"), "the new code's fault")
        assert watcher.command("a", "refuse")["message"] == "no", "the old code goes on"
        source.write_text(text.replace('ValueError("no")', 'ValueError("never")'))
        status = watcher.wait_state("a", "disconnected")
        assert status["reason"] == "its plugin was reloaded"
        watcher.request("connect", "a")
        assert watcher.command("a", "refuse")["message"] == "never"
        (source.parent / "drv_second.py").write_text(text)
        watcher.wait(lambda: len(watcher.json(birth)["drivers"]) == 2, "a driver dropped in")


def test_a_scan_comes_by_itself_and_shows_what_is_gone(
    broker: MemoryBroker, watcher: Watcher, tmp_path: Path
) -> None:
    listing = tmp_path / "listing.json"
    listing.write_text('["a", "b"]')
    with RunningHost(broker, {"listing": str(listing)}):
        watcher.wait_state("b", "discovered")
        listing.write_text('["a"]')
        watcher.wait_state("b", "unknown")
        listing.write_text('["a", "b"]')
        watcher.wait_state("b", "discovered")
        watcher.request("connect", "b")
        listing.write_text('["a"]')
        watcher.wait(
            lambda: watcher.status("b")["reason"] == "not found by the last scan", "a doubt"
        )
        assert watcher.status("b")["state"] == "connected"
        listing.write_text('["a", "b"]')
        watcher.wait(lambda: watcher.status("b")["reason"] == "", "no doubt")


def test_devices_may_run_on_threads_of_the_host(broker: MemoryBroker, watcher: Watcher) -> None:
    with RunningHost(broker, isolation="thread"):
        watcher.wait_state("b", "discovered")
        for device in "ab":
            assert watcher.request("connect", device)["status"] == "ok"
            assert watcher.command(device, "start")["status"] == "ok"
            assert watcher.command(device, "echo", {"text": "x"})["result"]["pid"] == os.getpid()
        watcher.wait(lambda: watcher.batches("a") and watcher.batches("b"), "both streams")
        assert watcher.request("close", "b")["status"] == "ok"
        seen = len(watcher.batches("a"))
        watcher.wait(lambda: len(watcher.batches("a")) > seen + 3, "a streams on")


def test_a_thread_that_hangs_is_abandoned_and_the_device_comes_back(
    broker: MemoryBroker, watcher: Watcher
) -> None:
    with RunningHost(broker, isolation="thread"):
        watcher.wait_state("a", "discovered")
        watcher.request("connect", "a")
        reply = watcher.command("a", "sleep", {"seconds": 1.5})
        assert (reply["code"], watcher.wait_state("a", "error")["state"]) == ("timeout", "error")
        assert watcher.request("reset", "a")["status"] == "ok"
        assert watcher.request("connect", "a")["status"] == "ok"
        assert watcher.command("a", "echo", {"text": "back"})["status"] == "ok"
