"""The supervisor, with small programs of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sat_cli.bench.supervisor import Ended, Program, Supervisor

FOREVER = "import signal\nprint('ready', flush=True)\nwhile True: signal.pause()"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER


def program(name: str, source: str, *, last: bool = False) -> Program:
    return Program(name, (sys.executable, "-c", textwrap.dedent(source)), last=last)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*programs: Program, max_restarts: int = 3) -> Supervisor:
        made.append(
            Supervisor(
                programs,
                logs=tmp_path / "logs",
                first_delay=0.02,
                last_delay=0.04,
                max_restarts=max_restarts,
            )
        )
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop(0.5)


def step_until(
    supervisor: Supervisor, condition: Callable[[], bool], timeout: float = 10.0
) -> list[Ended]:
    ended: list[Ended] = []
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in time: {ended}"
        ended += supervisor.step()
        time.sleep(0.005)
    return ended


def ready(supervisor: Supervisor, *names: str) -> None:
    step_until(supervisor, lambda: all("ready" in supervisor.tail(name) for name in names))


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_program_runs_and_its_output_is_kept(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(program("one", FOREVER))
    assert supervisor.phases() == {"one": "stopped"}
    supervisor.start()
    ready(supervisor, "one")
    assert supervisor.phases() == {"one": "running"}
    assert supervisor.log("one").read_text() == "ready\n"


def test_it_gets_its_own_environment(supervise: Callable[..., Supervisor]) -> None:
    source = (
        "import os; print(os.environ['COLOUR'], os.environ['PATH'] != '', flush=True)\n" + FOREVER
    )
    supervisor = supervise(Program("one", (sys.executable, "-c", source), {"COLOUR": "green"}))
    supervisor.start()
    ready(supervisor, "one")
    assert supervisor.tail("one")[0] == "green True"


def test_what_ends_is_started_again_and_reported(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(program("one", FOREVER))
    supervisor.start()
    ready(supervisor, "one")
    first = supervisor.pids()["one"]
    os.kill(first, signal.SIGKILL)
    ended = step_until(supervisor, lambda: supervisor.pids().get("one", first) != first)
    assert ended == [Ended("one", "killed by SIGKILL", 0.02)]
    assert supervisor.restarts() == {"one": 1}


def test_what_keeps_ending_is_given_up_after_growing_delays(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(program("one", "print('last words', flush=True); raise SystemExit(3)"))
    supervisor.start()
    ended = step_until(supervisor, lambda: supervisor.phases()["one"] == "failed")
    assert [e.retry_in for e in ended] == [0.02, 0.04, 0.04, None]
    assert ended[-1].status == "exit status 3"
    assert supervisor.tail("one", 1) == ["last words"]


@pytest.mark.parametrize("source", ["raise SystemExit(2)", "raise SystemExit(4)", None])
def test_what_cannot_be_helped_by_trying_again_is_given_up_at_once(
    supervise: Callable[..., Supervisor], source: str | None
) -> None:
    hopeless = program("one", source) if source else Program("one", ("/no/such/program",))
    supervisor = supervise(hopeless)
    supervisor.start()
    ended = step_until(supervisor, lambda: supervisor.phases()["one"] == "failed")
    assert [e.retry_in for e in ended] == [None]


def test_a_program_that_is_not_there_is_named(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(Program("one", ("/no/such/program",)))
    supervisor.start()
    step_until(supervisor, lambda: supervisor.phases()["one"] == "failed")
    assert supervisor.tail("one") == ["/no/such/program: No such file or directory"]


def test_stop_ends_all_and_kills_what_does_not_listen(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(program("good", FOREVER), program("stubborn", STUBBORN))
    supervisor.start()
    ready(supervisor, "good", "stubborn")
    pids = supervisor.pids()
    assert supervisor.stop(0.3) == ["stubborn"]
    assert not any(alive(pid) for pid in pids.values())
    assert supervisor.phases() == {"good": "stopped", "stubborn": "stopped"}


def test_stop_ends_a_program_that_is_suspended(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(program("one", FOREVER))
    supervisor.start()
    ready(supervisor, "one")
    os.kill(supervisor.pids()["one"], signal.SIGSTOP)
    assert supervisor.stop(5.0) == []


def test_the_last_is_ended_after_all_others(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    source = f"""
        import signal, sys, time
        def bye(*_):
            time.sleep(0.1)
            open({str(diary)!r}, "a").write(NAME + "\\n")
            sys.exit()
        signal.signal(signal.SIGTERM, bye)
        """
    programs = [
        Program(
            name,
            (sys.executable, "-c", f"NAME = {name!r}\n{textwrap.dedent(source)}\n{FOREVER}"),
            last=last,
        )
        for name, last in (("broker", True), ("a", False), ("b", False))
    ]
    supervisor = supervise(*programs)
    supervisor.start()
    ready(supervisor, "broker", "a", "b")
    assert supervisor.stop(5.0) == []
    assert diary.read_text().splitlines()[-1] == "broker"
    assert sorted(diary.read_text().split()) == ["a", "b", "broker"]


def test_nothing_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    source = f"""
        import sys, time
        from pathlib import Path
        from sat_cli.bench.supervisor import Program, Supervisor
        supervisor = Supervisor([Program("child", (sys.executable, "-c", {STUBBORN!r}))], logs=Path({str(tmp_path)!r}))
        supervisor.start()
        while "ready" not in supervisor.tail("child"):
            time.sleep(0.01)
        print(supervisor.pids()["child"], flush=True)
        time.sleep(60)
        """
    command = [sys.executable, "-c", textwrap.dedent(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    deadline = time.monotonic() + 5.0
    while alive(child):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)
