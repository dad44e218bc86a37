"""Processes really killed, frozen and wiped, on Mosquitto: the bus shows the truth again, in
time."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.e2e.rack import DEV, DEVICE, DRIVER, HOST, Rack

pytestmark = [pytest.mark.mosquitto, pytest.mark.alone]
TABLE = f"sat/1/lab/orch/table/{HOST}/{DRIVER}/{DEVICE}"


def quality(rack: Rack) -> str:
    return str(rack.observer.json(f"{DEV}/status").get("quality"))


def test_a_killed_host_is_lost_within_a_second_and_back_by_policy(mosquitto_rack: Rack) -> None:
    rack = mosquitto_rack
    rack.host.kill()
    rack.observer.wait_state("unknown", timeout=1.0)
    rack.observer.wait(lambda: quality(rack) == "lost", "quality lost", timeout=1.0)
    assert rack.observer.json(f"{DEV}/status")["last_known"] == "connected"
    assert rack.observer.json(f"sat/1/lab/host/{HOST}/state")["state"] == "offline"
    rack.host.start()
    rack.observer.wait_state("connected")
    rack.observer.wait_streaming()
    rack.observer.wait(lambda: quality(rack) == "good", "quality good")


def test_a_frozen_host_is_lost_within_four_seconds_and_true_again_without_a_restart(
    mosquitto_rack: Rack,
) -> None:
    rack = mosquitto_rack
    pid = rack.host.pid
    rack.host.signal(signal.SIGSTOP)
    frozen = time.monotonic()
    rack.observer.wait_state("unknown", timeout=4.0)
    threading.Event().wait(
        max(0.0, 10.0 - (time.monotonic() - frozen))
    )  # the length of the freeze is the test
    rack.host.signal(signal.SIGCONT)
    rack.observer.wait_state("connected")
    rack.observer.wait(lambda: quality(rack) == "good", "quality good")
    rack.observer.wait_streaming()
    rack.observer.wait(lambda: rack.observer.json(TABLE)["observed"] == "connected", "the table")
    assert rack.host.pid == pid
    assert rack.host.running


def test_what_a_frozen_host_finds_waiting_is_not_run_late(mosquitto_rack: Rack) -> None:
    rack = mosquitto_rack
    rack.host.signal(signal.SIGSTOP)
    rack.publish(f"{DEV}/cmd/status", '{"args": {}, "request_id": "late", "timeout_ms": 1000}')
    threading.Event().wait(4.5)  # the length of the freeze is the test; the connection outlives it
    rack.host.signal(signal.SIGCONT)
    rack.observer.wait(
        lambda: rack.observer.json(f"{DEV}/res/status").get("request_id") == "late", "the reply"
    )
    assert rack.observer.json(f"{DEV}/res/status")["code"] == "expired"
    assert rack.command("status")["status"] == "ok"


def test_a_killed_orchestrator_adopts_what_is_connected(mosquitto_rack: Rack) -> None:
    rack = mosquitto_rack
    before = rack.observer.json(f"{DEV}/status")
    first = rack.observer.json("sat/1/lab/orch/state")
    rack.orchestrator.kill()
    rack.observer.wait(
        lambda: rack.observer.json("sat/1/lab/orch/state")["state"] == "offline", "its will"
    )
    assert rack.command("status")["status"] == "ok"
    rack.orchestrator.start()
    rack.observer.wait(
        lambda: rack.observer.json("sat/1/lab/orch/state")["state"] == "ready", "ready again"
    )
    assert rack.observer.json("sat/1/lab/orch/state")["epoch"] > first["epoch"]
    rack.observer.wait(lambda: rack.observer.json(TABLE).get("observed") == "connected", "adopted")
    # Long enough for several rounds of planning: nothing may be initialised or started anew.
    beats = rack.observer.count(f"sat/1/lab/host/{HOST}/heartbeat")
    rack.observer.wait(
        lambda: rack.observer.count(f"sat/1/lab/host/{HOST}/heartbeat") > beats + 5, "five seconds"
    )
    after = rack.observer.json(f"{DEV}/status")
    assert (after["since"], after["streams"], after["boot"]) == (
        before["since"],
        before["streams"],
        before["boot"],
    )
    rack.observer.wait_streaming()


def test_a_wish_is_kept_over_the_orchestrators_death(mosquitto_rack: Rack) -> None:
    rack = mosquitto_rack
    rack.ask(f"{DEV}/set", "disconnected", f"{DEV}/res/set")
    rack.observer.wait_state("disconnected")
    rack.orchestrator.kill()
    rack.orchestrator.start()
    rack.observer.wait(
        lambda: rack.observer.json("sat/1/lab/orch/state")["state"] == "ready", "ready again"
    )
    beats = rack.observer.count(f"sat/1/lab/host/{HOST}/heartbeat")
    rack.observer.wait(
        lambda: rack.observer.count(f"sat/1/lab/host/{HOST}/heartbeat") > beats + 4, "four seconds"
    )
    assert rack.observer.latest[f"{DEV}/state"] == "disconnected"


def test_a_wiped_broker_shows_the_truth_within_five_seconds_of_its_return(
    mosquitto_rack: Rack,
) -> None:
    rack = mosquitto_rack
    rack.kill_broker(wipe=True)
    rack.observer.latest.clear()
    rack.start_broker()
    back = time.monotonic()
    rack.observer.wait_state("connected", timeout=5.0)
    wanted = {
        f"{DEV}/status", f"{DEV}/meta", TABLE, f"sat/1/lab/host/{HOST}/birth", f"sat/1/lab/host/{HOST}/state",
        "sat/1/lab/orch/state",
    }  # fmt: skip
    remaining = 5.0 - (time.monotonic() - back)
    rack.observer.wait(
        lambda: wanted <= rack.observer.latest.keys(), f"all of {wanted}", timeout=remaining
    )
    rack.observer.wait(lambda: quality(rack) == "good", "quality good", timeout=5.0)
    rack.observer.wait_streaming()


def test_a_host_killed_while_the_broker_is_away_is_found_lost(mosquitto_rack: Rack) -> None:
    """Nobody sends its will, and an old ``ready`` may come back with the broker's data."""
    rack = mosquitto_rack
    rack.kill_broker(wipe=False)
    rack.host.kill()
    rack.start_broker()
    rack.observer.wait_state("unknown", timeout=10.0)
    rack.host.start()
    rack.observer.wait_state("connected")


def test_an_unplugged_ecu_is_in_error_or_gone_and_comes_back_by_policy(
    mosquitto_rack: Rack,
) -> None:
    rack = mosquitto_rack
    rack.ecu.kill()
    rack.observer.wait(
        lambda: rack.observer.latest[f"{DEV}/state"] in ("error", "unknown"), "not connected"
    )
    rack.observer.wait(lambda: rack.observer.json(f"{DEV}/status")["reason"], "the reason")
    rack.ecu.start()
    rack.observer.wait_state("connected", timeout=45.0)
    rack.observer.wait_streaming()


def test_a_stopped_host_leaves_in_order(mosquitto_rack: Rack) -> None:
    rack = mosquitto_rack
    assert rack.host.stop() == 0
    rack.observer.wait(
        lambda: rack.observer.json(f"sat/1/lab/host/{HOST}/state")["state"] == "offline", "offline"
    )
    rack.observer.wait_state("unknown")
    words = [text for _, topic, text in rack.observer.history if topic == f"{DEV}/state"]
    assert words[-2:] == ["disconnected", "unknown"]
