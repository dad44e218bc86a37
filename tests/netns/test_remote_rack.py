"""A driver host on another machine, which a network namespace is: its link is cut and healed, in
two ways, and each time for less and for longer than it takes TCP's peers to notice."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator

import pytest

from sat_client import Device, SatError, Watch
from sat_client import Rack as Client
from sat_toolkit.errors import Code
from tests.e2e.rack import DEADLINE, DEV, DEVICE, DRIVER, HOST, Rack
from tests.netns.link import Cut, Link, need_namespaces
from tests.waiting import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(180)]
TABLE = f"sat/1/lab/orch/table/{HOST}/{DRIVER}/{DEVICE}"
LOST_WITHIN_S = 4.0  # a host that is silent for 3 s counts as lost
TRUE_WITHIN_S = 10.0
NOTICED_WITHIN_S = (
    10.0  # by the peers of a connection; until then TCP may bring everything after all
)


@pytest.fixture
def link() -> Iterator[Link]:
    need_namespaces()
    with Link() as made:
        yield made


@pytest.fixture
def rack(link: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Broker and orchestrator here, the host at the other end, its ECU streaming."""
    folder = tmp_path_factory.mktemp("rack")
    with Rack(folder, "mosquitto", address=link.here, elsewhere=link.inside) as running:
        running.observer.wait_streaming()
        running.observer.wait(
            lambda: running.observer.json(TABLE).get("observed") == "connected", "the table"
        )
        yield running


def test_the_host_runs_at_the_other_end(link: Link, rack: Rack) -> None:
    """It has no other way to the broker: what follows is about this link."""
    assert rack.observer.json(f"sat/1/lab/host/{HOST}/state")["state"] == "ready"
    link.cut("down")
    rack.observer.wait_state("unknown", timeout=LOST_WITHIN_S)


@pytest.mark.parametrize("seconds", [8.0, 16.0])
@pytest.mark.parametrize("how", ["down", "silent"])
def test_a_cut_link_is_told_counted_and_healed(
    link: Link, rack: Rack, how: Cut, seconds: float
) -> None:
    before = rack.observer.json(f"{DEV}/status")
    with Client(rack.url) as client:
        ecu = client.device(DEVICE)
        with ecu.watch("can") as watch:
            assert watch.get(DEADLINE)
            link.cut(how)
            cut = time.monotonic()
            rack.publish(
                f"{DEV}/cmd/status", '{"args": {}, "request_id": "late", "timeout_ms": 1000}'
            )
            rack.observer.wait_state("unknown", timeout=LOST_WITHIN_S)
            remaining = LOST_WITHIN_S + 0.5 - (time.monotonic() - cut)
            rack.observer.wait(
                lambda: rack.observer.json(TABLE)["quality"] == "lost", "the table", remaining
            )
            assert rack.observer.json(TABLE)["last_known"] == "connected"
            assert rack.observer.json(f"sat/1/lab/host/{HOST}/state")["state"] in (
                "lost",
                "offline",
            )
            assert eventually(
                lambda: not client.hosts()[HOST].alive
            )  # the client may hear it after the observer
            refused_clearly(ecu)
            threading.Event().wait(
                seconds - (time.monotonic() - cut)
            )  # the length of the cut is the test
            link.heal(how)
            true_again(rack, time.monotonic())
            missing = accounted(watch)
    after = rack.observer.json(f"{DEV}/status")
    adopted = ("since", "boot")
    assert [after[key] for key in adopted] == [before[key] for key in adopted]
    assert after["streams"]["can"]["stream"] == before["streams"]["can"]["stream"]
    assert missing or seconds < NOTICED_WITHIN_S
    rack.observer.wait(lambda: explains(dropped(rack), missing), f"the host's own count {missing}")
    planned = re.findall(r" plan +.*operation=(\w+)", rack.orchestrator.log.read_text())
    assert planned == ["connect", "start"]
    assert rack.command("status")["status"] == "ok"
    replies = [
        json.loads(text)
        for _, topic, text in rack.observer.messages()
        if topic == f"{DEV}/res/status"
    ]
    assert {reply.get("code") for reply in replies if reply.get("request_id") == "late"} <= {
        Code.EXPIRED
    }


def dropped(rack: Rack) -> dict[str, int]:
    """What the host counts as lost of the stream, by cause."""
    counted: dict[str, int] = rack.observer.json(f"{DEV}/status")["streams"]["can"]["dropped"]
    return counted


def explains(counted: dict[str, int], missing: dict[str, int]) -> bool:
    """The host cannot know whether what it sent and the broker did not acknowledge has arrived."""
    counted, missing = dict(counted), dict(missing)
    return (
        counted.pop("frames_unacked", 0) >= missing.pop("frames_unacked", 0) and counted == missing
    )


def refused_clearly(ecu: Device) -> None:
    """Neither host nor orchestrator lets anybody wait for a device whose host is lost."""
    for ask in (lambda: ecu.do("status"), ecu.connect, ecu.reset):
        began = time.monotonic()
        with pytest.raises(SatError, match=HOST) as refusal:
            ask()
        assert refusal.value.code == Code.HOST_LOST
        assert time.monotonic() - began < 2.0


def true_again(rack: Rack, healed: float) -> None:
    """All that the bus says of the device, within `TRUE_WITHIN_S` of the healing."""
    rack.observer.wait_state("connected", TRUE_WITHIN_S)
    status, state = f"{DEV}/status", f"sat/1/lab/host/{HOST}/state"
    for what, holds in {
        "the table": lambda: rack.observer.json(TABLE)["observed"] == "connected",
        "its quality": lambda: rack.observer.json(TABLE)["quality"] == "good",
        "the status": lambda: rack.observer.json(status)["quality"] == "good",
        "the host": lambda: rack.observer.json(state)["state"] == "ready",
    }.items():
        rack.observer.wait(holds, what, TRUE_WITHIN_S - (time.monotonic() - healed))


def accounted(watch: Watch) -> dict[str, int]:
    """Frames come again; each that is missing is explained by a cause that the host has counted."""
    deadline = time.monotonic() + DEADLINE
    before = watch.frames
    while watch.frames < before + 50 or watch.causes.get("transport", 0):
        assert time.monotonic() < deadline, (
            f"{watch.frames - before} frames; missing: {json.dumps(watch.causes)}"
        )
        watch.get(1.0)
    causes = {cause: count for cause, count in watch.causes.items() if count}
    assert causes.keys() <= {"frames_offline", "frames_full", "frames_unacked"}
    assert sum(causes.values()) == watch.missed
    return causes
