"""A CAN device on the bus, seen and used with Mosquitto's own 3.1.1 clients, on each kind of
broker."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import cantools
import pytest

from tests.e2e.rack import DEV, DEVICE, DRIVER, HOST, Rack

pytestmark = pytest.mark.mosquitto  # its clients

PLUGIN = Path("plugins/devices/can")


def test_the_device_is_discovered_connected_and_streaming_without_anyone_asking(rack: Rack) -> None:
    seen = rack.observer
    seen.wait_state("connected")
    assert seen.json(f"{DEV}/meta")["device_type"] == "CAN"
    status = seen.json(f"{DEV}/status")
    assert (status["quality"], status["streams"]["can"]["state"]) == ("good", "running")
    table = f"sat/1/lab/orch/table/{HOST}/{DRIVER}/{DEVICE}"
    seen.wait(lambda: seen.json(table).get("observed") == "connected", "the table")
    assert seen.json(table)["desired"] == {"level": "connected", "streams": {"can": {}}}


def test_frames_are_real_numbered_and_none_is_lost(rack: Rack) -> None:
    seen, topic = rack.observer, f"{DEV}/stream/can/json"
    start = seen.count(topic)
    seen.wait(lambda: seen.count(topic) > start + 20, "twenty batches")
    batches = [json.loads(text) for _, name, text in seen.history if name == topic]
    stream = [batch for batch in batches if batch["stream"] == batches[-1]["stream"]]
    for before, after in itertools.pairwise(stream):
        assert after["seq"] == before["seq"] + before["n"]
    assert stream[-1]["dropped"] == {}
    engine = next(f for batch in stream for f in batch["frames"] if f["id"] == 0x100)
    database: Any = cantools.database.load_file(PLUGIN / "sat_ecu.dbc")
    decoded = database.decode_message(0x100, bytes.fromhex(engine["data"]))
    assert 0 < float(decoded["EngineSpeed"]) < 8000


def test_set_moves_the_device_down_and_up(rack: Rack) -> None:
    assert rack.ask(f"{DEV}/set", "disconnected", f"{DEV}/res/set")["status"] == "ok"
    rack.observer.wait_state("disconnected")
    assert rack.ask(f"{DEV}/set", "initialized", f"{DEV}/res/set")["status"] == "ok"
    rack.observer.wait_state("initialized")
    assert rack.ask(f"{DEV}/set", "connected", f"{DEV}/res/set")["status"] == "ok"
    rack.observer.wait_state("connected")
    rack.observer.wait_streaming()
    assert rack.ask(f"{DEV}/set", "auto", f"{DEV}/res/set")["status"] == "ok"


def test_a_sent_frame_is_on_the_bus_and_answered_by_the_ecu(rack: Rack) -> None:
    seen = len(rack.observer.frames())
    reply = rack.command("send", '{"id": "0x7DF", "data": "02010C"}')
    assert (reply["status"], reply["result"]) == ("ok", {"id": 0x7DF, "data": "02010c"})
    rack.observer.wait(
        lambda: any(
            f["id"] == 0x7E8 and f["data"].startswith("04410c")
            for f in rack.observer.frames()[seen:]
        ),
        "the ECU's answer",
    )


def test_data_for_the_device_goes_by_its_in_topic(rack: Rack) -> None:
    seen = len(rack.observer.frames())
    rack.publish(f"{DEV}/in/can/json", '{"frames": [{"id": 2015, "data": "020105"}]}')
    rack.observer.wait(
        lambda: any(
            f["id"] == 0x7E8 and f["data"].startswith("034105")
            for f in rack.observer.frames()[seen:]
        ),
        "the ECU's answer",
    )
    refused = rack.ask(f"{DEV}/in/can/json", "garbage", f"{DEV}/res/in")
    assert refused["code"] == "bad_request"


@pytest.mark.parametrize(
    ("topic", "payload", "reply", "code"),
    [
        (f"{DEV}/cmd/send", "garbage", f"{DEV}/res/send", "bad_request"),
        (f"{DEV}/cmd/send", '{"id": 1, "id": 2}', f"{DEV}/res/send", "bad_request"),
        (f"{DEV}/cmd/send", '{"args": {"id": 1}, "wrong": 1}', f"{DEV}/res/send", "bad_request"),
        (f"{DEV}/cmd/send", '{"id": [], "data": 7}', f"{DEV}/res/send", "bad_args"),
        (f"{DEV}/cmd/send", '{"id": 4096, "data": "zz"}', f"{DEV}/res/send", "bad_args"),
        (f"{DEV}/cmd/fly", "{}", f"{DEV}/res/fly", "unknown_command"),
        (f"{DEV}x/cmd/send", "{}", f"{DEV}x/res/send", "unknown_device"),
        (f"sat/1/lab/dev/{HOST}/drv_x/{DEVICE}/cmd/send", "{}", f"sat/1/lab/dev/{HOST}/drv_x/{DEVICE}/res/send",
         "unknown_driver"),
        (f"{DEV}/set", "up", f"{DEV}/res/set", "bad_args"),
        (f"{DEV}/set", '{"level": 3}', f"{DEV}/res/set", "bad_args"),
        (f"{DEV}/set", "{{{", f"{DEV}/res/set", "bad_request"),
        ("sat/1/lab/orch/req/connect", '{"device": "ghost"}', "sat/1/lab/orch/res/connect", "unknown_device"),
        ("sat/1/lab/orch/req/connect", '{"device": 5}', "sat/1/lab/orch/res/connect", "bad_args"),
        ("sat/1/lab/orch/req/dance", "{}", "sat/1/lab/orch/res/dance", "unknown_command"),
        ("sat/1/lab/orch/req/forget", f'{{"device": "{DEVICE}"}}', "sat/1/lab/orch/res/forget", "bad_state"),
    ],
)  # fmt: skip
def test_bad_input_gets_its_code_and_nothing_ends(
    rack: Rack, topic: str, payload: str, reply: str, code: str
) -> None:
    refused = rack.ask(topic, payload, reply)
    assert (refused["status"], refused["code"]) == ("error", code)
    assert len(refused["message"]) > 10
    assert rack.command("status")["status"] == "ok"
    assert rack.host.running
    assert rack.orchestrator.running
    rack.observer.wait_streaming()


def test_a_command_in_a_wrong_state_is_refused(rack: Rack) -> None:
    rack.ask(f"{DEV}/set", "disconnected", f"{DEV}/res/set")
    rack.observer.wait_state("disconnected")
    refused = rack.command("send", '{"id": 1, "data": "00"}')
    assert (refused["code"], refused["state"]) == ("bad_state", "disconnected")
    rack.ask(f"{DEV}/set", "auto", f"{DEV}/res/set")
    rack.observer.wait_streaming()


@pytest.mark.slow
def test_a_retained_command_is_not_run_by_those_who_come_later(own_rack: Rack) -> None:
    rack = own_rack
    topic = f"{DEV}/cmd/status"
    seen = rack.observer.count(f"{DEV}/res/status")
    rack.publish(topic, "{}", "-r")
    rack.observer.wait(lambda: rack.observer.count(f"{DEV}/res/status") > seen, "the live reply")
    seen = rack.observer.count(f"{DEV}/res/status")
    rack.host.kill()
    rack.host.start()
    rack.observer.wait(lambda: rack.observer.count(f"{DEV}/res/status") > seen, "the refusal")
    assert rack.observer.json(f"{DEV}/res/status")["code"] == "bad_request"
    rack.publish(topic, "", "-r")
    rack.observer.wait_streaming()
    assert rack.command("status")["status"] == "ok"
