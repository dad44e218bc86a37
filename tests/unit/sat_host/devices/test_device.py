"""The shell of a device: effects are carried out, in order, whatever they bring about."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.service.tasks import Promise
from sat_host import wire_messages
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver, ScanResult
from sat_host.devices.effects import Finished
from sat_host.devices.jobs import Job
from sat_host.devices.surroundings import Surroundings
from sat_host.outcome import Outcome
from sat_host.wire_messages import Halt, RunCommand, RunHook, SendFrames, TakeInput
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.lifecycle import Operation as Op
from sat_toolkit.errors import BadState, Busy, DriverError, HostLost, Indeterminate
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import HEADER, Frames, Readers, Workers, device_info, plugin

BLOCK = FrameBlock.pack([{"t": 1.0, "id": 1}])


class Scans:
    """Scans that end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Driver] = []
        self.scan_: Promise[ScanResult] = Promise()

    def scan(self, driver: Driver) -> Promise[ScanResult]:
        self.asked.append(driver)
        return self.scan_


class Rig(LoopRig):
    def __init__(self) -> None:
        super().__init__()
        self.workers, self.readers, self.frames = Workers(), Readers(), Frames()
        self.scans = Scans()
        self.driver = Driver(plugin(), self.loop, self)  # type: ignore[arg-type]
        around = Surroundings(self.loop, self.workers, self.scans, self.readers, self.frames)
        self.device = HostedDevice(self.driver, device_info(), around)

    def ask(self, operation: Op, **more: Any) -> Promise[Finished]:
        return self.device.submit(Job(operation, "ann", self.clock.now + 60.0, **more))

    def command(self, name: str = "send") -> Promise[Finished]:
        return self.ask(Op.COMMAND, command=RunCommand(name, {}))


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def connected(rig: Rig) -> Rig:
    rig.device.found(device_info())
    assert rig.ask(Op.CONNECT).result().outcome.error is None
    rig.readers.heard.clear()
    return rig


def test_a_device_is_what_the_last_scan_found(rig: Rig) -> None:
    assert (rig.device.id, rig.device.state) == ("a", S.UNKNOWN)
    assert not rig.device.found(device_info())
    assert rig.device.state is S.DISCOVERED
    (shown,) = rig.readers.of("show")
    assert shown[:2] == ("drv_x", "a")
    assert rig.device.found(device_info(hardware_id="s-1"))
    assert rig.device.info["hardware_id"] == "s-1"
    rig.device.missing()
    assert rig.readers.states == ["discovered", "unknown"]


def test_its_meta_is_what_the_scan_and_the_driver_say(rig: Rig) -> None:
    rig.driver.commands = {"send": Command("send")}
    rig.driver.streams = ["can"]
    meta = rig.device.meta()
    assert (meta.name, set(meta.commands), meta.streams) == ("A", {"send"}, ["can"])


def test_a_connect_goes_through_all_its_steps(rig: Rig) -> None:
    rig.device.found(device_info())
    finished = rig.ask(Op.CONNECT).result()
    assert (finished.outcome.error, finished.state) == (None, S.CONNECTED)
    assert rig.workers.spawned == [("drv_x/a", plugin(), device_info())]
    assert rig.workers.last.owner is rig.device
    assert rig.workers.last.requests == [RunHook("initialize"), RunHook("connect")]
    assert [timeout for _, timeout, _ in rig.workers.last.calls] == [30.0, 30.0]
    assert rig.readers.states == ["discovered", "initialized", "connected"]
    assert not rig.device.idle


def test_a_scan_is_a_step(rig: Rig) -> None:
    asked = rig.ask(Op.CONNECT)
    assert rig.scans.asked == [rig.driver]
    rig.device.found(device_info())
    rig.scans.scan_.set_result(ScanResult())
    assert asked.result().state is S.CONNECTED


def test_no_worker_can_be_had(rig: Rig) -> None:
    rig.device.found(device_info())
    rig.workers.error = OSError("no more")
    finished = rig.ask(Op.INITIALIZE).result()
    assert isinstance(finished.outcome.error, DriverError)
    assert finished.state is S.ERROR
    assert rig.readers.of("tell")[0][2] == "error"
    rig.workers.error = None
    rig.ask(Op.RESET)
    assert rig.ask(Op.CONNECT).result().state is S.CONNECTED


def test_a_job_is_answered_before_the_state_is_shown(connected: Rig) -> None:
    order: list[str] = []

    async def reply(asked: Promise[Finished]) -> None:
        await asked
        order.extend(["replied", *connected.readers.states])

    connected.run(reply(connected.command()))
    connected.workers.last.answer(Outcome(error=DriverError("x"), fatal=True))
    assert order == ["replied"]
    assert connected.readers.states == ["error"]


def test_what_an_effect_brings_about_comes_after_those_that_are_due(connected: Rig) -> None:
    order: list[tuple[str, list[str]]] = []

    async def go_on(asked: Promise[Finished]) -> None:
        await asked
        second = connected.command("second")
        order.append(("asked again", connected.readers.states))
        await second
        order.append(("refused", connected.readers.states))

    connected.run(go_on(connected.command("first")))
    connected.workers.last.answer(Outcome(error=DriverError("x"), fatal=True))
    assert order == [("asked again", []), ("refused", ["error"])]


def test_jobs_that_wait_are_counted(connected: Rig) -> None:
    connected.command()
    assert connected.device.queued == 0
    connected.command()
    assert connected.device.queued == 1


def test_a_refused_job_leaves_nothing_behind(connected: Rig) -> None:
    for _ in range(17):
        connected.command()
    with pytest.raises(Busy):
        connected.command()


def test_whether_a_job_runs(connected: Rig) -> None:
    jobs = [Job(Op.COMMAND, "ann", 900.0, command=RunCommand("send", {})) for _ in range(2)]
    for job in jobs:
        connected.device.submit(job)
    assert [connected.device.is_running(job) for job in jobs] == [True, False]


def test_a_command_that_takes_a_while_is_shown(connected: Rig) -> None:
    connected.command()
    connected.clock.now += 0.049
    connected.settle()
    assert connected.readers.states == []
    connected.clock.now += 0.002
    connected.settle()
    assert connected.readers.states == ["active"]
    connected.workers.last.answer(Outcome())
    assert connected.readers.states == ["active", "connected"]


def test_a_quick_command_is_never_shown(connected: Rig) -> None:
    asked = connected.command()
    connected.workers.last.answer(Outcome(5))
    assert asked.result().outcome == Outcome(5)
    connected.command()
    connected.clock.now += 0.049
    connected.settle()
    assert connected.device._showing is not None
    connected.workers.last.answer(Outcome())
    assert connected.device._showing.cancelled
    connected.pass_time(1.0)
    assert connected.readers.heard == []


def test_client_data_reaches_the_worker(connected: Rig) -> None:
    connected.device.send_input("can", [{"id": 1}])
    assert connected.workers.last.told == [TakeInput("can", [{"id": 1}])]
    sending = connected.device.send_frames(BLOCK)
    request, timeout, promise = connected.workers.last.calls[-1]
    assert (request, timeout) == (SendFrames(BLOCK), 30.0)
    assert sending is promise
    connected.workers.last.full = True
    with pytest.raises(Busy):
        connected.device.send_input("can", [])


def test_client_data_needs_a_connected_device(rig: Rig) -> None:
    with pytest.raises(BadState):
        rig.device.send_input("can", [])
    with pytest.raises(BadState):
        rig.device.send_frames(BLOCK)


def test_frames_pass_straight_on(connected: Rig) -> None:
    connected.device.on_frames(HEADER, b"[]")
    assert connected.frames.batches == [("drv_x", "a", HEADER, b"[]")]


def test_a_workers_events_are_told(connected: Rig) -> None:
    connected.device.on_event(wire_messages.EventsDropped(3))
    assert connected.readers.heard == [("tell", "drv_x", "a", "events_dropped", {"n": 3})]


def test_in_error_the_worker_is_told_to_halt_if_it_listens(connected: Rig) -> None:
    connected.device.on_event(wire_messages.AcquisitionFailed("x"))
    assert connected.workers.last.told == [Halt()]
    connected.ask(Op.RESET)
    connected.ask(Op.CONNECT)
    connected.workers.last.full = True
    connected.device.on_event(wire_messages.AcquisitionFailed("x"))
    assert connected.readers.states[-1] == "error"
    assert connected.loop.errors == 0


def test_a_closed_device_dismisses_its_worker(connected: Rig) -> None:
    connected.ask(Op.CLOSE)
    assert connected.workers.last.dismissed
    assert connected.device.idle
    connected.ask(Op.INITIALIZE)
    assert len(connected.workers.workers) == 2


def test_a_worker_that_ends_by_itself_is_replaced_by_the_next_initialize(connected: Rig) -> None:
    connected.device.on_exit("worker died")
    assert connected.readers.states == ["error"]
    assert not connected.workers.last.dismissed
    connected.ask(Op.RESET)
    connected.ask(Op.CONNECT)
    assert (len(connected.workers.workers), connected.device.state) == (2, S.CONNECTED)
    assert connected.loop.errors == 0


def test_a_worker_that_dies_during_a_command_is_dismissed(connected: Rig) -> None:
    asked = connected.command()
    connected.workers.last.answer(Outcome(error=Indeterminate("died"), fatal=True, gone=True))
    assert asked.result().state is S.ERROR
    assert connected.workers.last.dismissed


def test_a_restart_closes_the_device(connected: Rig) -> None:
    connected.device.restart("its plugin was reloaded")
    assert connected.workers.last.requests[-1] == RunHook("close")
    (shown,) = connected.readers.of("show")
    assert (shown[2].state, shown[2].reason) == (S.DISCONNECTED, "its plugin was reloaded")


def test_the_host_closes_a_device_that_has_a_worker(connected: Rig) -> None:
    connected.command()
    connected.device.close(connected.clock.now + 1.0)
    connected.clock.now += 1.0
    connected.workers.last.answer(Outcome())
    assert connected.device.state is S.CONNECTED, "too late"
    connected.device.close(connected.clock.now + 1.0)
    assert connected.device.state is S.DISCONNECTED


def test_a_quarantine_is_released_once(connected: Rig) -> None:
    assert not connected.device.release()
    for _ in range(5):
        connected.device.on_exit("died")
        connected.ask(Op.RESET)
        connected.ask(Op.CONNECT)
    assert connected.device.state is S.ERROR
    assert connected.device.release()
    assert not connected.device.release()
    connected.ask(Op.RESET)
    assert connected.ask(Op.CONNECT).result().state is S.CONNECTED


def test_lost_frames_are_shown(connected: Rig) -> None:
    connected.device.on_event(wire_messages.StreamChanged("can", "r1", running=True))
    connected.device.show_dropped({"can": {"bus": 1}})
    shown = connected.readers.of("show")[-1][2]
    assert shown.streams["can"].dropped == {"bus": 1}


def test_at_the_hosts_end_jobs_are_answered_and_the_worker_killed(connected: Rig) -> None:
    asked = [connected.command(), connected.command()]
    connected.device.abandon(HostLost("stopping"))
    assert [type(each.result().outcome.error) for each in asked] == [HostLost, HostLost]
    assert connected.workers.last.killed


def test_an_effect_that_fails_does_not_take_others_with_it(
    connected: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(driver: str, device: str, event: str, fields: Any) -> None:
        raise RuntimeError("no bus")

    connected.readers.tell = broken  # type: ignore[method-assign]
    asked = connected.command()
    connected.workers.last.answer(Outcome(error=DriverError("x"), fatal=True))
    assert asked.result().state is S.ERROR
    assert connected.readers.states == ["error"]
    assert connected.loop.errors == 1
    assert "no bus" in caplog.text
