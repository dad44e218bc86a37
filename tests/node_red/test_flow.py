"""The shipped Node-RED flow in a real Node-RED on a running rack: what it shows is what Mosquitto's
own client sees."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import npm
from tests.e2e.rack import DEADLINE, DEV, DEVICE, DRIVER, HOST, Rack
from tests.node_red.node_red import FLOW, HOME, NodeRed, flow
from tests.waiting import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(npm.TIMEOUT_S + 120)]
TAB = "sat0000000tab001"
ECU = f"lab/dev/{HOST}/{DRIVER}/{DEVICE}"
FORMS = ["json", "bin"]
POLICY = [{"match": "*", "level": "connected", "streams": {"can": {"stream": {"formats": FORMS}}}}]
# All but what is packed, which a program that prints lines cannot print.
SEEN = ("sat/1/lab/host/#", "sat/1/lab/orch/#", "sat/1/lab/dev/+/+/+/+", "sat/1/lab/dev/+/+/+/res/#",
        "sat/1/lab/dev/+/+/+/stream/+/json", "sat/1/lab/reply/#")  # fmt: skip


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with Rack(tmp_path_factory.mktemp("rack"), "mosquitto", POLICY, filters=SEEN) as running:
        running.observer.wait_streaming()
        yield running


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory, rack: Rack) -> Iterator[NodeRed]:
    with NodeRed(tmp_path_factory.mktemp("node-red")) as running:
        running.deploy(flow(rack.port))
        yield running


def wait_shown(editor: NodeRed, key: str, condition: Callable[[Any], bool]) -> Any:
    """What the flow shows under `key`, once `condition` holds for it."""
    assert eventually(lambda: condition(editor.shown(TAB, key) or {}), DEADLINE), editor.shown(
        TAB, key
    )
    return editor.shown(TAB, key)


def wait_counted(editor: NodeRed, key: str, following: int) -> dict[str, Any]:
    """What the flow shows of a stream, once frame number `following` is the next one that it waits
    for."""
    shown = wait_shown(
        editor, "frames", lambda frames: frames.get(key, {}).get("next") == following
    )
    return dict(shown[key])


def ask(editor: NodeRed, **request: Any) -> dict[str, Any]:
    """Press the button with `request` in it; what the flow shows for it."""
    before = editor.shown(TAB, "replies") or []
    editor.press("sat-ask-status", request)
    latest = wait_shown(editor, "replies", lambda replies: replies[:1] != before[:1])[0]
    assert latest["request"] == request
    return dict(latest["reply"])


def test_it_is_made_of_core_nodes_without_a_rack_of_its_own() -> None:
    nodes = json.loads(FLOW.read_text())
    allowed = {
        "tab",
        "group",
        "mqtt-broker",
        "mqtt in",
        "mqtt out",
        "function",
        "inject",
        "debug",
        "delay",
    }
    assert {node["type"] for node in nodes} <= allowed
    (broker,) = (node for node in nodes if node["type"] == "mqtt-broker")
    assert (broker["broker"], broker["port"]) == ("localhost", "1883")


def test_npm_takes_what_the_lock_file_names_from_wherever_it_is_told() -> None:
    lock = (HOME / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert not re.search(r"https?://[^/\"]*(registry|npmjs)", lock)


def test_states_and_commands_are_shown(rack: Rack, editor: NodeRed) -> None:
    shown = wait_shown(editor, "states", lambda states: states.get(ECU) == "connected")
    assert shown == {ECU: "connected"}
    assert wait_shown(editor, "hosts", lambda hosts: HOST in hosts) == {HOST: "ready"}
    commands = wait_shown(editor, "commands", lambda commands: ECU in commands)[ECU]
    assert commands.keys() == rack.observer.json(f"{DEV}/meta")["commands"].keys()
    rack.ask(f"{DEV}/set", "disconnected", f"{DEV}/res/set")
    wait_shown(editor, "states", lambda states: states[ECU] == "disconnected")
    rack.ask(f"{DEV}/set", "auto", f"{DEV}/res/set")
    wait_shown(editor, "states", lambda states: states[ECU] == "connected")
    rack.observer.wait_streaming()


def test_frames_are_counted_as_another_client_counts_them(rack: Rack, editor: NodeRed) -> None:
    """A stream from its start to its end, which an empty batch tells, in both forms."""
    topic = f"{DEV}/stream/can/json"
    assert rack.command("stop")["status"] == "ok"
    assert rack.command("start", json.dumps({"stream": {"formats": FORMS}}))["status"] == "ok"
    rack.observer.wait_streaming()
    rack.observer.wait_streaming()
    assert rack.command("stop")["status"] == "ok"
    rack.observer.wait(lambda: rack.observer.json(topic)["n"] == 0, "the end of the stream")
    batches = [json.loads(text) for _, name, text in rack.observer.messages() if name == topic]
    last = batches[-1]
    counted = sum(len(batch["frames"]) for batch in batches if batch["stream"] == last["stream"])
    assert counted == last["seq"] > 0
    for form in FORMS:
        one = wait_counted(editor, f"{ECU}/can/{form}", counted)
        assert one == {
            "stream": last["stream"],
            "frames": counted,
            "missed": 0,
            "next": counted,
            "dropped": {},
        }
    rack.command("start")


def test_a_batch_that_is_missing_is_missed(rack: Rack, editor: NodeRed) -> None:
    """As a host would publish them: frames 0 to 1, then 5 to 6."""
    for seq in (0, 5):
        batch: dict[str, Any] = {
            "stream": "s",
            "boot": "b",
            "seq": seq,
            "n": 2,
            "t0": 1.0,
            "dropped": {},
            "channel": "x",
            "frames": [],
        }
        rack.publish("sat/1/lab/dev/bench2-can/drv_x/x/stream/can/json", json.dumps(batch))
    key = "lab/dev/bench2-can/drv_x/x/can/json"
    one = wait_counted(editor, key, 7)
    assert (one["frames"], one["missed"]) == (4, 3)


def test_a_command_gets_its_own_reply(rack: Rack, editor: NodeRed) -> None:
    before = editor.shown(TAB, "replies") or []
    editor.press("sat-ask-send")
    editor.press("sat-ask-status")
    replies = wait_shown(editor, "replies", lambda shown: len(shown) >= len(before) + 2)[:2]
    by_command = {one["request"]["command"]: one["reply"] for one in replies}
    assert by_command["send"]["result"] == {"id": 0x123, "data": "deadbeef"}
    assert by_command["status"]["status"] == "ok"
    asked = {topic.rpartition("/")[2]: json.loads(text) for _, topic, text in rack.observer.messages()
             if topic.startswith("sat/1/lab/reply/node-red/")}  # fmt: skip
    assert all(asked[reply["request_id"]] == reply for reply in by_command.values())


def test_a_refusal_is_shown_with_its_words(editor: NodeRed) -> None:
    assert ask(editor, device=DEVICE, command="sned")["code"] == "unknown_command"
    nobody = ask(editor, device="ecx", command="status")
    assert (nobody["code"], ECU in nobody["message"]) == ("bad_request", True)


def test_a_reply_to_nobodys_request_is_not_shown(rack: Rack, editor: NodeRed) -> None:
    reply = {"request_id": "stranger", "status": "ok"}
    rack.publish("sat/1/lab/reply/node-red/stranger", json.dumps(reply))
    assert ask(editor, device=DEVICE, command="status")["status"] == "ok"
    assert "stranger" not in json.dumps(editor.shown(TAB, "replies"))


def test_a_frozen_host_is_shown_and_its_silence_too(rack: Rack, editor: NodeRed) -> None:
    rack.host.signal(signal.SIGSTOP)
    try:
        wait_shown(editor, "states", lambda states: states[ECU] == "unknown")
        wait_shown(editor, "hosts", lambda hosts: hosts[HOST] == "lost")
        assert ask(editor, device=DEVICE, command="status")["code"] == "timeout"
    finally:
        rack.host.signal(signal.SIGCONT)
    wait_shown(editor, "states", lambda states: states[ECU] == "connected")
    assert ask(editor, device=DEVICE, command="status")["status"] == "ok"
