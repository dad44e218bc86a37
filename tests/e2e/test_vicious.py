"""A bad plugin costs its own device and nothing else: each sick driver on one host with a healthy
one.

The sick of one group are on the host at the same time. What is asked of the neighbour and of the
host is asked of each group, what the bus says of the sick of each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from sat_bus.contract.messages import JsonBatch
from tests.e2e.ward import SITE, Evidence, Sick, Ward

pytestmark = [pytest.mark.mosquitto, pytest.mark.alone, pytest.mark.timeout(180)]

HEARTBEAT_LATE = 1.5  # seconds between two heartbeats, which come once a second
# Where no cgroup holds a fork bomb, the processes that it starts between two looks are served like
# any other.
HEARTBEAT_LATE_UNDER_FORKS = 3.0
NOMINAL_RATE = 200.0
RATE_KEPT = 0.95
IN_TIME = 1.0  # seconds for a command that takes no time, and for a frame
TO_SHOW = 1.0  # seconds that may pass beyond the deadline
SILENCE = 3.0  # SAT_WORKER_SILENCE_S by default
HURTS = "RuntimeError: it hurts here"
NAMES = (
    "..%2F..%2Fetc%2Fpasswd",
    "a%2Fb%23%2B",
    "%252e%252e",
    "$SYS",
    " ",
    "tab%09newline%0A",
    "ü\u202e",
    "%00",
    "same",
)
LOST = "worker died: exit status 0|closed its connection"

Shown = Literal["status", "birth", "scan"]


def raises(hook: str, reason: str, ask: str = "", kind: str = "plain") -> Sick:
    name = f"raises_{hook}" if kind == "plain" else f"raises_{kind}_{hook}"
    shown: Shown = (
        "birth" if hook in ("new", "info", "declare") else "scan" if hook == "scan" else "status"
    )
    return Sick(
        name, reason, plugin="raises", info={"where": hook, "kind": kind}, shown=shown, ask=ask
    )


def returns(hook: str, kind: str, reason: str = "") -> Sick:
    shown: Shown = "birth" if hook == "declare" else "scan" if hook == "scan" else "status"
    return Sick(
        f"{kind}_{hook}",
        reason,
        plugin="wrong_return",
        info={"where": hook, "kind": kind},
        shown=shown,
    )


def hangs(hook: str, reason: str, deadline: float, ask: str = "") -> Sick:
    shown: Shown = "scan" if hook == "scan" else "status"
    return Sick(f"hangs_{hook}", reason, deadline, "hangs", {"where": hook}, shown, ask)


GROUPS: dict[str, list[Sick]] = {
    "dying": [
        Sick("exit", "worker died: exit status 0"),
        Sick(
            "exit_command",
            "worker died: exit status 7",
            plugin="exit",
            info={"where": "command", "status": 7},
        ),
        Sick(
            "exit_scan",
            "worker died: exit status 0",
            plugin="exit",
            info={"where": "scan"},
            shown="scan",
        ),
        Sick("segv", "worker died: signal SIGSEGV"),
        Sick(
            "segv_command", "worker died: signal SIGSEGV", plugin="segv", info={"where": "command"}
        ),
        Sick("sysexit", "SystemExit: that was all"),
        Sick("sysexit_loop", "SystemExit: that was all", plugin="sysexit", info={"where": "loop"}),
        Sick("sysexit_import", "SystemExit: usage", shown="birth"),
        Sick("exit_import", "worker died: exit status 7", shown="birth"),
    ],
    "frozen": [
        Sick("gil_sleep", "start did not end within 2 s", deadline=2.0),
        Sick("gil_hog", f"worker has not answered for {SILENCE:g} s", deadline=SILENCE),
        Sick("frozen", f"worker has not answered for {SILENCE:g} s", deadline=SILENCE),
    ],
    "greedy": [
        # The deadline is what it takes to get there.
        Sick("leak", "memory limit of 256 MiB exceeded|MemoryError", deadline=1.0),
        Sick("fd_leak", "OSError: .*Too many open files|file limit of 128"),
    ],
    "breeding": [
        Sick("fork_bomb", "process limit of 32 exceeded", deadline=1.0),
        Sick("orphan", "worker died: exit status 0"),
    ],
    "escaping": [
        Sick("fork_escape", "process limit of 32 exceeded", 1.0, "fork_bomb", {"escape": True})
    ],
    "loud": [Sick("stdout_flood"), Sick("frame_flood"), Sick("bad_frames")],
    "restless": [Sick("event_flood", "more than [0-9]+ (messages|events)", deadline=SILENCE)],
    "lying": [
        Sick("garbage", "sent what is no message"),
        Sick("forged", "sent what is no message", plugin="garbage", info={"kind": "forged"}),
        Sick("closed_fds", LOST),
        Sick("closed_fds_command", LOST, plugin="closed_fds", info={"where": "command"}),
    ],
    "raising": [
        raises("new", HURTS),
        raises("info", HURTS),
        raises("declare", HURTS),
        raises("scan", f"Scan failed: {HURTS}"),
        raises("initialize", f"Initialization failed: {HURTS}"),
        raises("connect", f"Connection failed: {HURTS}"),
        raises("command", HURTS),
        raises("setup", HURTS),
        raises("loop", f"acquisition failed: .*{HURTS}"),
    ],
    "raising at last": [
        raises("cleanup", HURTS, ask="stop"),
        raises("reset", f"Reset failed: {HURTS}", ask="reset"),
        raises("close", f"Close failed: {HURTS}", ask="close"),
        raises("initialize", "Initialization failed: SystemExit: 3", kind="exit"),
        raises("connect", "Connection failed: KeyboardInterrupt", kind="interrupt"),
        raises("command", "MuteError", kind="mute"),
        raises("loop", "MuteError", kind="mute"),
    ],
    "wrong": [
        returns("scan", "int", "Scan failed"),
        returns("scan", "generator", "Scan failed: RuntimeError: in the middle"),
        returns("scan", "many", "too large|at most [0-9]+ are accepted"),
        returns("declare", "int", "supported_commands must be a dict"),
        returns("initialize", "none", "Initialization failed"),
        returns("connect", "bad", "Connection failed: RuntimeError: neither true nor false"),
        returns("command", "bad", "RuntimeError: neither true nor false"),
    ],
    "slow": [
        Sick("slow_import", "did not end within 20 s", deadline=20.0, shown="birth"),
        Sick("slow_scan", plugin="hangs", info={"where": "scan", "seconds": 10}),
        hangs("scan", "scan did not end within 15 s", 15.0),
        hangs("initialize", "initialize did not end within 30 s", 30.0),
        hangs("connect", "connect did not end within 30 s", 30.0),
        hangs("command", "start did not end within 2 s", 2.0),
        hangs("reset", "reset did not end within 10 s", 10.0, ask="reset"),
        hangs("close", "close did not end within 10 s", 10.0, ask="close"),
    ],
    "ill-mannered": [
        Sick("names", devices=NAMES),
        Sick("threads"),
        Sick("signals"),
        Sick("surroundings"),
    ],
}
WITHOUT_CGROUPS = " without cgroups"
GROUPS |= {name + WITHOUT_CGROUPS: GROUPS[name] for name in ("greedy", "breeding", "escaping")}
CASES = [(name, sick) for name, group in GROUPS.items() for sick in group]
IN_ERROR = [pytest.param(name, sick, id=f"{name}-{sick}") for name, sick in CASES if sick.reason]
CONNECTED = [
    pytest.param(name, sick, id=f"{name}-{sick}") for name, sick in CASES if not sick.reason
]


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Evidence]:
    """What was seen of a group, which is over by now; each group runs once."""
    seen: dict[str, Evidence] = {}

    def evidence(group: str) -> Evidence:
        if group not in seen:
            env = {"SAT_WORKER_CGROUPS": "off"} if group.endswith(WITHOUT_CGROUPS) else {}
            seen[group] = Ward(tmp_path_factory.mktemp("ward"), GROUPS[group], env=env).run()
        return seen[group]

    return evidence


@pytest.fixture
def ward(request: pytest.FixtureRequest, wards: Callable[[str], Evidence]) -> Evidence:
    return wards(request.param)


every_group = pytest.mark.parametrize("ward", GROUPS, indirect=True)


@every_group
def test_the_heartbeat_is_never_late(ward: Evidence, request: pytest.FixtureRequest) -> None:
    unheld = WITHOUT_CGROUPS in request.node.name
    assert max(ward.heartbeat_gaps()) <= (HEARTBEAT_LATE_UNDER_FORKS if unheld else HEARTBEAT_LATE)


@every_group
def test_the_healthy_device_keeps_its_frame_rate(ward: Evidence) -> None:
    assert ward.ended - ward.began >= 5.0
    assert ward.frame_rate(IN_TIME) >= RATE_KEPT * NOMINAL_RATE


@every_group
def test_every_command_to_the_healthy_device_is_answered_in_time(ward: Evidence) -> None:
    late = {name: delay for name, delay in ward.delays().items() if delay > IN_TIME}
    assert not late
    assert len(ward.delays()) >= 10


@every_group
def test_no_process_and_no_cgroup_is_left(ward: Evidence) -> None:
    assert ward.processes > 1, "the mark is not found on the workers: this test sees nothing"
    assert not ward.left


@pytest.mark.parametrize(("ward", "sick"), IN_ERROR, indirect=["ward"])
def test_the_bus_says_what_is_wrong_within_the_deadline(ward: Evidence, sick: Sick) -> None:
    assert sick.name in ward.told, f"the bus said {ward.words(sick)}"
    assert sick.name in ward.notes, "it was never sick"
    assert ward.time_to_tell(sick) <= sick.deadline + TO_SHOW


@pytest.mark.parametrize(("ward", "sick"), CONNECTED, indirect=["ward"])
def test_what_is_merely_a_nuisance_keeps_its_device(ward: Evidence, sick: Sick) -> None:
    """It works, if only as well as it lets itself."""
    for dev in sick.devs:
        assert ward.latest.get(f"{dev}/state") == "connected", ward.words(sick)
        assert json.loads(ward.latest[f"{dev}/res/pid"])["status"] == "ok"
        assert ward.batches[dev], "no batch of its stream is valid"
        for batch in ward.batches[dev]:
            JsonBatch.model_validate(batch)


@pytest.mark.parametrize("ward", ["loud"], indirect=True)
def test_the_frames_of_a_flood_are_counted_where_they_are_dropped(ward: Evidence) -> None:
    (dev,) = GROUPS["loud"][1].devs
    assert sum(ward.batches[dev][-1]["dropped"].values()) > 0


@pytest.mark.parametrize("ward", ["ill-mannered"], indirect=True)
def test_a_device_whose_name_is_none_is_left_out(ward: Evidence) -> None:
    found = {
        topic.split("/")[6]
        for topic in ward.latest
        if "/drv_names/" in topic and topic.endswith("/state")
    }
    assert found == set(NAMES)


def test_what_dies_too_often_is_quarantined_until_it_is_released(tmp_path: Path) -> None:
    sick = Sick("exit_command", plugin="exit", info={"where": "command"})
    with Ward(tmp_path, [sick], policy=[]).open() as rack:
        observer, request = rack.observer, json.dumps({"device": sick.name})

        def ask(operation: str, code: str | None = None) -> None:
            reply = rack.ask(
                f"{SITE}/orch/req/{operation}", request, f"{SITE}/orch/res/{operation}"
            )
            assert reply.get("code") == code, reply

        row = sick.dev.replace("/dev/", "/orch/table/")
        observer.wait(
            lambda: observer.json(row).get("observed") == "discovered", "the orchestrator knows it"
        )
        for death in range(1, 6):
            ask("connect")
            assert rack.command("start", dev=sick.dev)["code"] == "indeterminate"
            observer.wait_state("error", dev=sick.dev)
            status = observer.json(f"{sick.dev}/status")
            assert status.get("quarantined", False) is (death == 5)
            assert "worker died: exit status 0" in status["reason"]
            ask("reset", "quarantined" if death == 5 else None)
        ask("connect", "quarantined")
        assert observer.json(f"{sick.dev}/status")["quarantined"]
        ask("release")
        observer.wait(lambda: not observer.json(f"{sick.dev}/status")["quarantined"], "released")
        ask("reset")
        ask("connect")
