"""The driver host with real worker processes: lifecycle, commands, streams, failures, truth."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import topics
from sat_bus.service.run import STOOD_DOWN
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


def test_connect_initialises_first_and_is_idempotent(connected: Watcher) -> None:
    assert connected.status("a")["previous"] == "initialized"
    again = connected.request("connect", "a")
    assert (again["status"], again["result"]["changed"], again["state"]) == (
        "ok",
        False,
        "connected",
    )
    assert again["message"] == "Device already connected"


def test_each_device_has_a_process_of_its_own(connected: Watcher) -> None:
    connected.request("connect", "b")
    pids = {connected.command(device, "echo", {"text": "x"})["result"]["pid"] for device in "ab"}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("topic", "payload", "code"),
    [
        ("cmd/echo", b'{"text": 5}', "bad_args"),
        ("cmd/echo", b"{}", "bad_args"),
        ("cmd/echo", b"garbage", "bad_request"),
        ("cmd/echo", b"[1]", "bad_request"),
        ("cmd/echo", b'{"args": {}, "surprise": 1}', "bad_request"),
        ("cmd/nothing", b"{}", "unknown_command"),
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


def test_requests_for_what_is_not_there(host: RunningHost, watcher: Watcher) -> None:
    assert watcher.command("ghost", "echo", {"text": ""})["code"] == "unknown_device"
    other = topics.COMMAND.build(SITE, host=HOST, driver="drv_no", device="a", command="echo")
    assert watcher.ask(other, {})["code"] == "unknown_driver"
    assert watcher.command("a", "echo", {"text": ""})["code"] == "bad_state"
    assert watcher.request("dance", "a")["code"] == "unknown_command"
    assert watcher.request("initialize", "a", epoch=4)["status"] == "ok"
    assert watcher.request("close", "a", epoch=3)["code"] == "fenced"
    assert watcher.request("close", "a", boot="1-00")["code"] == "expired"


def test_the_same_request_id_runs_once(connected: Watcher) -> None:
    topic = connected.topic(topics.COMMAND, "a", command="start")
    reply_to = f"sat/1/{SITE}/reply/me/1"
    payload = json.dumps({"args": {}, "request_id": "once", "reply_to": reply_to}).encode()
    for count in (1, 2):
        connected.bus.publish(topic, payload)
        connected.wait(
            lambda n=count: sum(m.topic == reply_to for m in connected.messages) == n, "a reply"
        )
    other = connected.ask(topic, {"period": 1}, request_id="once")
    assert other["code"] == "bad_request"


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


def test_a_short_deadline_answers_timeout_and_leaves_the_device_alone(connected: Watcher) -> None:
    reply = connected.command("a", "sleep", {"seconds": 0.4}, timeout_ms=50)
    assert reply["code"] == "timeout"
    assert connected.command("a", "echo", {"text": "after"})["status"] == "ok"


def test_a_queue_is_bounded_and_reset_goes_first(connected: Watcher) -> None:
    topic = connected.topic(topics.COMMAND, "a", command="sleep")
    replies = [f"sat/1/{SITE}/reply/flood/{n}" for n in range(20)]
    for reply_to in replies:
        payload = {"args": {"seconds": 0.2}, "reply_to": reply_to, "timeout_ms": 9000}
        connected.bus.publish(topic, json.dumps(payload).encode())
    connected.wait(
        lambda: any(connected.json(r).get("code") == "busy" for r in replies), "a busy reply"
    )
    assert connected.request("reset", "a")["state"] == "disconnected"
    connected.wait(lambda: all(r in connected.latest for r in replies), "an outcome for each")
    codes = {connected.json(r).get("code", "ok") for r in replies}
    assert codes == {"ok", "busy", "bad_state"}


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


def test_an_unplugged_device_is_unknown_and_can_be_forgotten(
    broker: MemoryBroker, watcher: Watcher, tmp_path: Path
) -> None:
    listing = tmp_path / "listing.json"
    listing.write_text('["a", "b"]')
    with RunningHost(broker, {"listing": str(listing)}):
        watcher.wait_state("b", "discovered")
        listing.write_text('["a"]')
        watcher.request("scan")
        assert watcher.wait_state("b", "unknown")["reason"] == "unplugged"
        assert watcher.request("forget", "a")["status"] == "ok"
        assert watcher.request("forget", "b")["status"] == "ok"
        topic = watcher.topic(topics.DEVICE_STATE, "b")
        watcher.wait(lambda: watcher.latest[topic] == b"", "a cleared topic")
        listing.write_text('["a", "b"]')
        found = watcher.request("scan")["result"]["devices"]
        assert [(d["device"], d["new"]) for d in found] == [("a", True), ("b", True)]


def test_the_truth_returns_to_a_wiped_broker_and_over_a_false_word(
    host: RunningHost, watcher: Watcher, broker: MemoryBroker
) -> None:
    topic = watcher.topic(topics.DEVICE_STATE, "a")
    watcher.bus.publish(topic, b"active", retain=True)
    watcher.wait(lambda: watcher.latest[topic] == b"active", "the false word")
    watcher.wait(lambda: watcher.latest[topic] == b"discovered", "the truth")
    ghost = topics.DEVICE_STATE.build(SITE, host=HOST, driver=DRIVER, device="ghost")
    watcher.bus.publish(ghost, b"connected", retain=True)
    watcher.wait(lambda: watcher.latest.get(ghost) == b"", "the ghost is gone")
    broker.stop()
    broker.wipe()
    broker.start()
    watcher.wait(
        lambda: broker.retained.get(topic) == b"discovered", "the truth on the wiped broker"
    )
    assert watcher.topic(topics.HOST_BIRTH) in broker.retained


def test_a_will_of_the_same_boot_is_corrected(
    host: RunningHost, watcher: Watcher, broker: MemoryBroker
) -> None:
    topic = watcher.topic(topics.HOST_STATE)
    broker.cut(HOST)
    watcher.wait(
        lambda: any(m.topic == topic and b"offline" in m.payload for m in watcher.messages),
        "the will",
    )
    watcher.wait(lambda: watcher.json(topic)["state"] == "ready", "ready again")


def test_a_host_ends_when_a_newer_one_takes_its_name(host: RunningHost, watcher: Watcher) -> None:
    topic = watcher.topic(topics.HOST_BIRTH)
    watcher.wait(lambda: topic in watcher.latest, "a birth")
    birth = watcher.json(topic) | {"boot": "99999999999999-00"}
    watcher.bus.publish(topic, json.dumps(birth).encode(), retain=True)
    assert host.ended(), "the older host ends"
    assert host.host.foreign
    assert host.loop.status == STOOD_DOWN


def test_five_deaths_in_a_minute_end_in_quarantine_until_somebody_releases_the_device(
    connected: Watcher,
) -> None:
    for death in range(5):
        if death:
            assert connected.request("reset", "a")["status"] == "ok"
            assert connected.request("connect", "a")["status"] == "ok"
        assert connected.command("a", "exit")["code"] == "indeterminate"
        connected.wait_state("a", "error")
    connected.wait(lambda: connected.status("a")["quarantined"], "quarantine")
    assert "exit status 3" in connected.status("a")["reason"]
    for operation in ("reset", "connect"):
        refused = connected.request(operation, "a")
        assert refused["code"] == "quarantined"
    assert connected.request("connect", "b")["status"] == "ok"
    assert connected.request("release", "a")["result"] == {"released": True}
    assert connected.request("reset", "a")["status"] == "ok"
    assert connected.request("connect", "a")["status"] == "ok"
    assert not connected.status("a")["quarantined"]
    assert connected.request("release", "a")["result"] == {"released": False}


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
