"""All workers of a host, with a shell script in the place of Python: made as the settings say, ended
together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sat_host.containment.cgroup import Cgroup, Cgroups
from sat_host.delivery import Delivery
from sat_host.pool.pool import Pool
from sat_host.pool.process import WorkerProcess
from sat_host.pool.thread import WorkerThread
from sat_host.settings import HostSettings
from sat_host.wire_messages import Configure, Down, WorkerLimits
from sat_toolkit.core.plugin_loader import PluginFile
from tests.unit.sat_host.fakes import FakeOwner, LoopRig
from tests.waiting import eventually

PLUGIN = PluginFile("drv_a", "can", Path("/p/drv_a.py"))
DEVICE = {"device_id": "d", "name": "D", "device_type": "Custom"}


class Rig:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = folder / "worker"
        program.write_text("#!/bin/sh\nexec sleep 100\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        self.owner = FakeOwner()
        self.pools: list[Pool] = []
        self.loop = LoopRig().loop
        self.parts: dict[str, Any] = {}  # what the pool is made with beside

    def start(self, **settings: Any) -> Pool:
        values = {"family": "can", "site": "lab", "worker_cgroups": "off", **settings}
        pool = Pool(HostSettings(**values), self.loop, ends_orphans=False, **self.parts)
        self.pools.append(pool)
        pool.start()
        return pool


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(tmp_path, monkeypatch)
    yield made
    for pool in made.pools:
        pool.end()
        pool.stop()


def test_each_device_has_a_process_of_its_own(rig: Rig) -> None:
    pool = rig.start()
    workers = [pool.spawn(f"drv_a/{n}", PLUGIN, DEVICE, rig.owner) for n in range(2)]
    assert all(type(worker) is WorkerProcess for worker in workers)
    assert len({worker.pid for worker in workers}) == 2  # type: ignore[attr-defined]
    assert len(pool) == 2
    assert pool.orphans_ended == 0


def test_threads_are_for_devices_and_never_for_scans(rig: Rig) -> None:
    pool = rig.start(isolation="thread")
    assert type(pool.spawn("drv_a/scan", PLUGIN, None, rig.owner)) is WorkerProcess
    device = pool.spawn("drv_a/d", PLUGIN, DEVICE, rig.owner)
    assert type(device) is WorkerThread


def test_a_worker_is_configured_as_the_settings_say(rig: Rig) -> None:
    first: list[Down] = []
    rig.parts["on_threads"] = lambda name, configure, *rest: first.append(configure) or Dead()
    pool = rig.start(
        isolation="thread",
        drivers={"drv_a": {"bitrate": 500}},
        stream_formats=["bin"],
        stream_window_ms=20,
        worker_memory_mb=100,
        worker_processes=5,
        worker_files=50,
        worker_silence_s=2.0,
    )
    pool.spawn("drv_a/d", PLUGIN, DEVICE, rig.owner)
    pool.spawn("drv_b/d", PluginFile("drv_b", "can", Path("/p/drv_b.py")), DEVICE, rig.owner)
    limits, delivery = WorkerLimits(100, 5, 50, 2.0), Delivery(("bin",), 20)
    assert first == [
        Configure("drv_a", "can", "/p/drv_a.py", {"bitrate": 500}, limits, delivery, DEVICE),
        Configure("drv_b", "can", "/p/drv_b.py", {}, limits, delivery, DEVICE),
    ]


class Dead:
    """A worker that has ended before anybody looked."""

    alive = False

    def forgive(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> None: ...


def test_those_that_have_ended_are_forgotten(rig: Rig) -> None:
    rig.parts["on_threads"] = lambda *args: Dead()
    pool = rig.start(isolation="thread")
    for _ in range(3):
        pool.spawn("drv_a/d", PLUGIN, DEVICE, rig.owner)
    assert len(pool) == 0
    assert len(pool._workers) == 1


def test_after_a_gap_of_the_host_all_are_forgiven(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = rig.start()
    workers = [pool.spawn("drv_a/d", PLUGIN, None, rig.owner) for _ in range(2)]
    for worker in workers:
        worker._heard = 1.0
    pool.forgive()
    assert all(worker._heard is not None and worker._heard > 1.0 for worker in workers)


def test_at_the_end_all_are_killed(rig: Rig) -> None:
    pool = rig.start()
    pids = [pool.spawn("drv_a/d", PLUGIN, None, rig.owner).pid for _ in range(2)]  # type: ignore[attr-defined]
    pool.end()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


class FakeCgroups(Cgroups):
    def __init__(self, refuses: bool) -> None:
        self.folder = Path("/sys/fs/cgroup/x")
        self.refuses = refuses
        self.made: list[int] = []
        self.closed = False

    def make(self, processes: int) -> Cgroup:
        self.made.append(processes)
        raise OSError("full")

    def close(self) -> None:
        self.closed = True


def test_a_cgroup_that_cannot_be_made_is_done_without(rig: Rig) -> None:
    cgroups = FakeCgroups(refuses=True)
    rig.parts["find_cgroups"] = lambda: cgroups
    pool = rig.start(worker_cgroups="auto", worker_processes=7)
    with capture_logs() as logs:
        worker = pool.spawn("drv_a/d", PLUGIN, None, rig.owner)
    assert worker.cgroup is None  # type: ignore[attr-defined]
    assert cgroups.made == [7]
    assert logs[0]["event"] == "no cgroup for a worker"
    pool.end()
    assert cgroups.closed


@pytest.mark.parametrize("choice", ["auto", "off"])
def test_without_cgroups_the_log_says_why(rig: Rig, choice: str) -> None:
    def find() -> Cgroups:
        raise OSError("not delegated")

    rig.parts["find_cgroups"] = find
    with capture_logs() as logs:
        rig.start(worker_cgroups=choice)
    reason = "not delegated" if choice == "auto" else "worker_cgroups is off"
    assert logs == [
        {"event": "workers are held by the watch alone", "reason": reason, "log_level": "info"}
    ]
