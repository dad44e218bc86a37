"""A worker on a thread of the host: it is served like any other, and abandoned where others are
killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sat_host.outcome import Outcome
from sat_host.pool.multiplexer import Multiplexer
from sat_host.pool.thread import WorkerThread
from sat_host.wire_messages import RunCommand, RunHook
from sat_toolkit.errors import Indeterminate
from tests.unit.sat_host.fakes import CONFIGURE, FakeOwner, LoopRig

DEADLINE = 10.0
PLUGIN = """
import threading
from sat_toolkit.core.base_plugin import BaseDeviceDriver

HANGS = threading.Event()


class ThreadDriver(BaseDeviceDriver):
    supported_commands = {"hang": "waits", "echo": "answers"}

    def _scan_impl(self):
        return []

    def _initialize_impl(self, device):
        return True

    _connect_impl = _reset_impl = _close_impl = _initialize_impl

    def _command_impl(self, device, command, args=None):
        if command == "hang":
            HANGS.wait(10)
        return args
"""


class Rig:
    def __init__(self, folder: Path) -> None:
        (folder / "threads").mkdir()
        self.path = folder / "threads" / f"drv_thread_{folder.name}.py"
        self.path.write_text(PLUGIN)
        self._rig = LoopRig()
        self.loop = self._rig.loop
        self.multiplexer = Multiplexer("test")
        self.multiplexer.start()
        self.owner = FakeOwner()
        configure = replace(
            CONFIGURE, driver=self.path.stem, family="threads", path=str(self.path),
            device={"device_id": "d", "name": "D", "device_type": "Custom"},
        )  # fmt: skip
        self.worker = WorkerThread("drv_t/d", configure, self.loop, self.multiplexer, self.owner)

    def ask(self, request: RunHook | RunCommand) -> Outcome:
        promise = self.worker.call(request, DEADLINE)
        assert self.loop.run_until(lambda: promise.settled, DEADLINE)
        return promise.result()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.worker.kill()
    made.worker.wait(DEADLINE)
    made.multiplexer.stop()


def test_it_answers_and_is_named_after_its_device(rig: Rig) -> None:
    assert rig.ask(RunHook("initialize")) == Outcome()
    assert rig.ask(RunCommand("echo", {"a": 1})) == Outcome({"a": 1})
    assert rig.worker._thread.name == "worker/drv_t/d"
    assert rig.worker.alive
    assert not rig.worker._has_ended()


@pytest.mark.parametrize(
    ("given", "told"), [("too slow", "too slow"), ("", "worker thread abandoned")]
)
def test_one_that_hangs_is_abandoned_at_once(rig: Rig, given: str, told: str) -> None:
    rig.ask(RunHook("initialize"))
    hanging = rig.worker.call(RunCommand("hang", {}), DEADLINE)
    rig.worker.kill(given)
    assert isinstance(hanging.result().error, Indeterminate)
    assert rig.owner.exits == [told]
    rig.worker.kill("again")
    assert rig.owner.exits == [told]
    assert rig.worker._thread.is_alive()
    sys.modules[f"plugins.devices.threads.{rig.path.stem}"].HANGS.set()


def test_one_that_is_dismissed_ends_and_nobody_is_told(rig: Rig) -> None:
    rig.ask(RunHook("initialize"))
    rig.worker.dismiss()
    assert rig.loop.run_until(lambda: not rig.worker.alive, DEADLINE)
    rig.worker.wait(DEADLINE)
    assert rig.worker._has_ended()
    assert rig.owner.exits == []


def test_what_it_sends_that_is_no_message_ends_it(rig: Rig) -> None:
    rig.ask(RunHook("initialize"))
    rig.worker._link.send_bytes(b"\xff" * 16)
    assert rig.loop.run_until(lambda: not rig.worker.alive, DEADLINE)
    assert "worker sent what is no message" in rig.owner.exits[0]


def test_one_whose_socket_closes_has_ended(rig: Rig) -> None:
    rig.ask(RunHook("initialize"))
    rig.worker._link.close()
    assert rig.loop.run_until(lambda: not rig.worker.alive, DEADLINE)
    assert rig.owner.exits == ["worker thread ended"]
