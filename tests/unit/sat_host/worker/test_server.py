"""The server of a driver, on a thread: what a host may ask, and what it is told."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_host import wire
from sat_host.delivery import Delivery, DeliveryChanges
from sat_host.wire_messages import (
    Acquiring,
    AcquisitionFailed,
    Answer,
    Asked,
    Call,
    CommandSpec,
    Configure,
    Describe,
    Description,
    Down,
    DriverReported,
    Exit,
    Halt,
    HardwareChanged,
    InputFailed,
    Ping,
    Pong,
    Refusal,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    StreamBatch,
    StreamChanged,
    TakeInput,
    Up,
    WorkerLimits,
)
from sat_host.worker import server
from sat_host.worker.link import HostLink, LinkClosedError
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import Code
from tests.waiting import eventually

DEADLINE = 10.0
PLUGIN = """
import os
import threading
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamType
from sat_toolkit.errors import CommandFailed
from sat_toolkit.models.Device_Model import Device

CHANGED = threading.Semaphore(0)


class ServedDriver(BaseDeviceDriver):
    stream_types = (StreamType.CAN,)
    scan_period = 2
    supported_commands = {
        name: {"description": name, "parameters": {"type": "object"}, "timeout_ms": 500}
        for name in ("start", "stop", "echo", "fail", "die", "exit", "large", "report", "window", "crash")
    }

    def _scan_impl(self):
        found = Device("d0", "D0", "Custom", attributes={"hardware_id": 7})
        return [found] * (1 + self.info.get("many", 0))

    def _initialize_impl(self, device):
        return not self.info.get("refuses")

    def _connect_impl(self, device):
        return True

    def _command_impl(self, device, command, args=None):
        return getattr(self, "do_" + command)(device, **args)

    def do_start(self, device):
        return self.start_streaming(device)

    def do_stop(self, device):
        return self.stop_streaming(device)

    def do_echo(self, device, **args):
        return args

    def do_fail(self, device):
        raise CommandFailed("not now")

    def do_die(self, device):
        raise RuntimeError("dead")

    def do_exit(self, device):
        raise SystemExit(3)

    def do_large(self, device, size):
        return "x" * size

    def do_report(self, device):
        self.report_event("moved", x=1)

    def do_window(self, device):
        return self.stream_wrapper.window

    def do_crash(self, device):
        self.info["crash"] = True

    def _client_data_impl(self, device, stream_data):
        raise CommandFailed("refused: " + str(stream_data.data))

    def _acquisition_loop(self):
        while self.is_acquiring.wait(0.002):
            if self.info.get("crash"):
                raise RuntimeError("cable")

    def _reset_impl(self, device):
        return True

    def _close_impl(self, device):
        return True

    def wait_for_change(self, timeout):
        if not self.info.get("watches"):
            raise NotImplementedError
        if self.info.pop("breaks", False):
            raise RuntimeError("udev")
        return CHANGED.acquire(timeout=0.01)
"""


class Host:
    """The host's end of a server that runs on a thread."""

    def __init__(self, path: Path, *, device: bool = True, **info: Any) -> None:
        self._socket, end = socket.socketpair()
        self._socket.settimeout(DEADLINE)
        self._decoder = wire.Decoder[Up](wire.UP)
        self._unread: list[Up] = []
        self._number = 0
        self._link = HostLink(end)
        self.configure = Configure(
            path.stem, "served", str(path), info, WorkerLimits(), Delivery(),
            {"device_id": "d0", "name": "D0", "device_type": "Custom"} if device else None,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        self.tell(self.configure)

    def _serve(self) -> None:
        try:
            server.serve(self._link, own_process=False)
        except LinkClosedError:
            pass
        finally:
            self._link.close()

    def tell(self, message: Down) -> None:
        self._socket.sendall(wire.encode(message))

    def wait(self, wanted: Callable[[Up], bool]) -> Up:
        """The next message that is `wanted`; others before it stay unread."""
        while True:
            for message in self._unread:
                if wanted(message):
                    self._unread.remove(message)
                    return message
            data = self._socket.recv(65_536)
            assert data, f"the server has ended; unread: {self._unread}"
            self._unread += self._decoder.feed(data)

    def wait_for(self, message: Up) -> None:
        self.wait(lambda found: found == message)

    def ask(self, request: Call) -> Answer | Refusal:
        self._number += 1
        number = self._number
        self.tell(Asked(number, request))
        return self.wait(lambda m: isinstance(m, Answer | Refusal) and m.call == number)  # type: ignore[return-value]

    def run(self, command: str, **args: Any) -> Answer | Refusal:
        return self.ask(RunCommand(command, args))

    def close(self) -> None:
        self._socket.close()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    path = tmp_path / "served" / f"drv_served_{tmp_path.name}.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def start(plugin: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def start(path: Path = plugin, **info: Any) -> Host:
        hosts.append(Host(path, **info))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


@pytest.fixture
def connected(start: Callable[..., Host]) -> Host:
    host = start()
    for hook in ("initialize", "connect"):
        assert isinstance(host.ask(RunHook(hook)), Answer)
    return host


def test_a_driver_says_what_it_declares(start: Callable[..., Host]) -> None:
    answer = start(device=False).ask(Describe())
    description = wire.read(Description, answer.result, "")
    assert description.commands["echo"] == CommandSpec("echo", {"type": "object"}, 500)
    assert (description.streams, description.scan_period) == (["can"], 2.0)


def test_a_scan_names_the_hardware(start: Callable[..., Host]) -> None:
    answer = start(device=False).ask(Scan())
    assert isinstance(answer, Answer)
    (found,) = answer.result
    assert (found["device_id"], found["hardware_id"]) == ("d0", "7")


def test_hardware_that_comes_or_goes_is_told(start: Callable[..., Host], plugin: Path) -> None:
    host = start(device=False, watches=True)
    host.ask(Describe())
    changed = sys.modules[f"plugins.devices.served.{plugin.stem}"].CHANGED
    changed.release()
    host.wait_for(HardwareChanged())
    host.close()
    changed.release()  # which there is nobody to tell any more: the watch ends


def test_a_watch_that_breaks_leaves_the_scans(
    start: Callable[..., Host], caplog: pytest.LogCaptureFixture
) -> None:
    host = start(device=False, watches=True, breaks=True)
    host.ask(Describe())
    assert isinstance(host.ask(Scan()), Answer)
    assert eventually(lambda: "watching for hardware changes ended" in caplog.text)


@pytest.mark.parametrize("hook", ["initialize", "connect", "reset", "close"])
def test_each_hook_is_run(start: Callable[..., Host], hook: str) -> None:
    assert start().ask(RunHook(hook)) == Answer(1)


def test_a_hook_that_fails_and_one_that_is_none(start: Callable[..., Host]) -> None:
    host = start(refuses=True)
    assert host.ask(RunHook("initialize")) == Refusal(
        1, Code.DRIVER_ERROR, "Initialization failed", fatal=True
    )
    refusal = host.ask(RunHook("nonsense"))
    assert (refusal.code, refusal.fatal) == (Code.INTERNAL, False)


def test_the_outcome_of_a_command_says_whether_the_device_is_in_error(connected: Host) -> None:
    assert connected.run("echo", a=1).result == {"a": 1}
    number = connected._number
    assert connected.run("fail") == Refusal(number + 1, Code.DRIVER_ERROR, "not now")
    assert connected.run("die") == Refusal(
        number + 2, Code.DRIVER_ERROR, "RuntimeError: dead", fatal=True
    )
    assert connected.run("exit") == Refusal(
        number + 3, Code.DRIVER_ERROR, "SystemExit: 3", fatal=True
    )
    unknown = connected.run("nope")
    assert (unknown.code, unknown.fatal) == (Code.UNKNOWN_COMMAND, False)


@pytest.mark.parametrize("over", [False, True])
def test_a_result_is_bounded(connected: Host, over: bool) -> None:
    around = len(wire.encode(Answer(3, "")))
    answer = connected.run("large", size=server.MAX_RESULT - around + over)
    assert isinstance(answer, Refusal if over else Answer)
    if isinstance(answer, Refusal):
        size = server.MAX_RESULT + 1
        assert answer.message == (
            f"the result of {size} bytes is too large, at most {server.MAX_RESULT}"
        )
        assert (answer.code, answer.fatal) == (Code.INTERNAL, False)
    answer = connected.run("large", size=2 * wire.MAX_MESSAGE)
    assert "the result cannot be sent: message of" in answer.message


def test_a_plugin_that_cannot_be_loaded_tells_whoever_calls(
    start: Callable[..., Host], plugin: Path
) -> None:
    plugin.write_text("import nonsense_that_is_not_there")
    host = start(plugin)
    for request in (Describe(), Scan(), RunHook("initialize")):
        refusal = host.ask(request)
        assert isinstance(refusal, Refusal)
        assert "nonsense_that_is_not_there" in refusal.message
    host.tell(TakeInput("can", [{"id": 1}]))
    host.tell(Ping())
    host.wait_for(Pong())


def test_a_stream_is_announced_and_sent_as_its_start_says(connected: Host) -> None:
    connected.ask(RunCommand("start", {}, DeliveryChanges(("bin",), 40)))
    connected.wait_for(Acquiring(True))
    opened = connected.wait(lambda message: isinstance(message, StreamChanged))
    assert connected.run("window").result == pytest.approx(0.040)
    connected.run("stop")
    batch = connected.wait(lambda message: isinstance(message, StreamBatch))
    assert batch.header.form == "bin"
    connected.wait_for(StreamChanged("can", opened.run_id, running=False))
    connected.wait_for(Acquiring(False))


def test_an_acquisition_that_dies_is_told(connected: Host) -> None:
    connected.run("start")
    connected.run("crash")
    failed = connected.wait(lambda message: isinstance(message, AcquisitionFailed))
    assert "cable" in failed.reason
    ended = connected.wait(lambda m: isinstance(m, StreamChanged) and not m.running)
    assert ended.by_itself


def test_a_halt_ends_the_stream(connected: Host) -> None:
    connected.tell(Halt())  # no stream runs
    connected.run("start")
    connected.tell(Halt())
    connected.wait_for(Acquiring(False))


def test_a_stream_that_cannot_be_stopped_ends_nothing_else(
    connected: Host, plugin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = sys.modules[f"plugins.devices.served.{plugin.stem}"].ServedDriver
    driver.stop_streaming = lambda self, device: 1 / 0
    connected.run("start")
    connected.tell(Halt())
    assert isinstance(connected.run("echo"), Answer)
    assert "the stream could not be stopped" in caplog.text
    del driver.stop_streaming
    connected.tell(Halt())
    connected.wait_for(Acquiring(False))


def test_a_driver_s_event_is_passed_on(connected: Host) -> None:
    connected.run("report")
    connected.wait_for(DriverReported("moved", {"x": 1}))


def test_client_data_goes_past_the_calls(connected: Host) -> None:
    connected.tell(TakeInput("can", [{"id": 1, "data": "00"}]))
    event = connected.wait(lambda message: isinstance(message, InputFailed))
    assert event.reason == "refused: {'id': 1, 'data': '00'}"
    answer = connected.ask(SendFrames(FrameBlock.pack([{"id": 2, "t": 1.0}])))
    assert isinstance(answer, Answer)
    assert answer.result["sent"] == 0
    assert len(answer.result["failed"]) == 1


def test_a_worker_that_only_scans_takes_no_data(start: Callable[..., Host]) -> None:
    host = start(device=False)
    host.ask(Scan())
    host.tell(TakeInput("can", [{"id": 1}]))
    host.tell(Ping())
    host.wait_for(Pong())


def test_an_exit_ends_the_stream_and_the_server(connected: Host) -> None:
    connected.run("start")
    connected.tell(TakeInput("can", [{"id": 1}]))
    connected.tell(Exit())
    connected.wait_for(Acquiring(False))
    connected.thread.join(DEADLINE)
    assert not connected.thread.is_alive()


def test_what_it_is_for_comes_first() -> None:
    host, end = socket.socketpair()
    with host:
        host.sendall(wire.encode(Ping()))
        link = HostLink(end)
        with pytest.raises(wire.WireError, match="Configure comes first, this is Ping"):
            server.serve(link, own_process=False)
        link.close()


def test_what_came_with_the_first_message_is_done_as_well(plugin: Path) -> None:
    host, end = socket.socketpair()
    with host:
        configure = Configure(
            plugin.stem, "served", str(plugin), {}, WorkerLimits(), Delivery(), None
        )
        messages: tuple[Down, ...] = (configure, Ping(), Asked(1, Scan()), Exit())
        host.sendall(b"".join(wire.encode(message) for message in messages))
        link = HostLink(end)
        server.serve(link, own_process=False)
        first, second = wire.Decoder[Up](wire.UP).feed(host.recv(65_536))
        assert first == Pong()
        assert isinstance(second, Answer)
        link.close()


def test_a_program_whose_host_is_not_its_parent_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sat_host.worker.server", "0", "1"], timeout=30, check=False
    )
    assert done.returncode == 0
