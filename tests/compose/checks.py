"""What must hold of the project from outside. Each check fails with a sentence that begins with
what is broken, so that `test_broken.py` can break each thing on purpose and see the check fail for
that reason."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import Any

from tests.compose.stack import CONSOLE, ECU, SERVICES, Stack, row_topic, run
from tests.waiting import eventually

DEVICES = (ECU, CONSOLE)
HUNG_AFTER_S = 25.0


def check_ports(stack: Stack) -> None:
    """Both of the broker's ports serve MQTT, and all that is published is so on the loopback
    alone."""
    for service, container in stack.containers().items():
        bindings = [
            b
            for bound in (container["HostConfig"]["PortBindings"] or {}).values()
            for b in bound or ()
        ]
        assert {b["HostIp"] for b in bindings} <= {"127.0.0.1"}, (
            f"port of {service} published to others: {bindings}"
        )
    run("mosquitto_sub", "-p", str(stack.port), "-t", "$SYS/broker/uptime", "-C", "1", "-W", "5")
    assert _speaks_websocket(stack.ws_port), "port for WebSocket: no MQTT there"


def check_table(stack: Stack, timeout: float = 20.0) -> None:
    """Each device is discovered, connected, and the orchestrator knows it."""
    for device in DEVICES:
        stack.observer.wait(
            lambda device=device: _is_up(stack, device), f"topics of {device}: connected", timeout
        )


def check_commands(stack: Stack) -> None:
    """A command has its reply, a wrong one too."""
    reply = stack.ask(f"{ECU}/cmd/send", '{"id": "0x123", "data": "deadbeef"}', f"{ECU}/res/send")
    assert (reply["status"], reply["result"]["data"]) == ("ok", "deadbeef"), (
        f"command refused: {reply}"
    )
    reply = stack.ask(f"{ECU}/cmd/send", "garbage", f"{ECU}/res/send")
    assert reply["code"] == "bad_request", f"garbage taken: {reply}"
    reply = stack.ask(f"{CONSOLE}/cmd/write", '{"text": "version\\r"}', f"{CONSOLE}/res/write")
    assert reply["status"] == "ok", f"command refused: {reply}"


def check_frames(stack: Stack) -> None:
    """Frames of both families come, those of the ECU without a gap."""
    stack.observer.wait_streaming(dev=ECU)
    stack.observer.wait_streaming(dev=CONSOLE, stream="uart")
    seen = stack.observer.count(f"{ECU}/stream/can/json")
    stack.observer.wait(
        lambda: stack.observer.count(f"{ECU}/stream/can/json") >= seen + 20, "frames of the ECU"
    )
    batches = [
        json.loads(text)
        for _, topic, text in stack.observer.messages()
        if topic == f"{ECU}/stream/can/json"
    ]
    for before, after in itertools.pairwise(batches[-20:]):
        assert after["seq"] == before["seq"] + before["n"], (
            f"frames lost between {before} and {after}"
        )


def check_health(stack: Stack, service: str = "sim-serial") -> None:
    """All are healthy; one whose loop hangs is told within seconds, and again when it goes on."""
    for name in SERVICES:
        assert eventually(lambda name=name: stack.health(name) == "healthy", 20.0), (
            f"health of {name}: never healthy"
        )
    pid = stack.exec(service, "cat /proc/1/task/1/children").split()[0]  # of the container's init
    stack.exec(service, f"kill -STOP {pid}")
    try:
        told = eventually(lambda: stack.health(service) == "unhealthy", HUNG_AFTER_S)
    finally:
        stack.exec(service, f"kill -CONT {pid}")
    assert told, f"health of {service}: its loop hangs and it still counts as healthy"
    assert eventually(lambda: stack.health(service) == "healthy", 20.0), (
        f"health of {service}: it does not come back"
    )


def check_desired_survives(stack: Stack) -> None:
    """What a client wants is remembered by a new container of the orchestrator."""
    stack.ask(f"{CONSOLE}/set", "initialized", f"{CONSOLE}/res/set")
    stack.observer.wait(
        lambda: _row(stack, CONSOLE).get("policy") == "explicit", "what is desired in the table"
    )
    stack.compose("up", "-d", "--wait", "--force-recreate", "--no-deps", "orchestrator")
    kept = _row(stack, CONSOLE)["policy"]
    stack.ask(f"{CONSOLE}/set", "auto", f"{CONSOLE}/res/set")
    assert kept == "explicit", f"volume of the orchestrator: what is desired became {kept!r}"


def check_contained(stack: Stack) -> None:
    """Nobody is root, has a capability, or writes where it has no business to."""
    for name in SERVICES:
        status = stack.exec(name, "cat /proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split()[0] != "0", f"user of {name} is root"
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, (
            f"capabilities of {name}: {fields}"
        )
        assert fields["NoNewPrivs"].strip() == "1", f"privileges of {name} may grow"
        denied = stack.exec(
            name, "for d in / /etc /usr /opt; do (: >$d/x) 2>/dev/null && echo $d; done; true"
        )
        assert denied == "", f"file system of {name}: it may write to {denied.split()}"


def _row(stack: Stack, device: str) -> dict[str, Any]:
    return stack.observer.json(row_topic(device))


def _is_up(stack: Stack, device: str) -> bool:
    """Connected by the word of the host that lives now, and the orchestrator has taken that
    over."""
    row, status = _row(stack, device), stack.observer.json(f"{device}/status")
    state = stack.observer.latest.get(f"{device}/state")
    lives = status.get("boot") == boot_of(stack, device.split("/")[4])
    return lives and state == row.get("observed") == "connected" and row.get("quality") == "good"


def boot_of(stack: Stack, service: str) -> str:
    """The boot that a host's birth tells; of the orchestrator its id, while it leads."""
    if service == "orchestrator":
        said = stack.observer.json("sat/1/lab/orch/state")
        return str(said["id"]) if said.get("state") == "ready" else ""
    return str(stack.observer.json(f"sat/1/lab/host/{service}/birth").get("boot", ""))


def _speaks_websocket(port: int) -> bool:
    """Whether the port takes a WebSocket of the sub-protocol mqtt."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": "mqtt",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    try:
        connection.request("GET", "/mqtt", headers=headers)
        response = connection.getresponse()
        return response.status == 101 and response.getheader("Sec-WebSocket-Protocol") == "mqtt"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
