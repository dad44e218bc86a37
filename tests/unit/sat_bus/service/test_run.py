"""The run loop of a service; its health."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import health, memory_kb, run_service
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_toolkit.errors import ConfigError, DriverError


class Recorder:
    """A service that tells what was called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._error = error

    def start(self) -> None:
        self.calls.append("start")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self.calls.append("stop")


class TestRunService:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_stops_the_service_and_then_the_loop(self, number: signal.Signals) -> None:
        loop, service = WorkLoop("test"), Recorder()
        before = signal.getsignal(number)
        loop.post(lambda: signal.raise_signal(number))
        assert run_service(service, loop) == 0
        assert service.calls == ["start", "stop"]
        assert signal.getsignal(number) is before

    def test_a_signal_ends_a_loop_that_has_nothing_to_do(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM])
        timer.start()
        assert run_service(service, loop) == 0
        timer.join()
        assert service.calls == ["start", "stop"]

    @pytest.mark.parametrize(("error", "status"), [
        (ConfigError("the port is taken"), 2), (DriverError("no"), 1), (RuntimeError("a fault"), 1),
    ])  # fmt: skip
    def test_a_start_that_fails_is_said_and_gives_a_status(
        self, error: Exception, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        service = Recorder(error)
        assert run_service(service, WorkLoop("test")) == status
        assert service.calls == ["start", "stop"]
        assert str(error) in caplog.text

    def test_a_service_may_end_itself_with_a_status(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        loop.post(lambda: loop.finish(5))
        assert run_service(service, loop) == 5
        assert service.calls == ["start", "stop"]

    def test_a_loop_that_was_stopped_still_stops_the_service(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        loop.post(loop.stop)
        assert run_service(service, loop) == 0
        assert service.calls == ["start", "stop"]

    def test_it_runs_outside_of_the_main_thread(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        thread = threading.Thread(target=run_service, args=(service, loop))
        thread.start()
        loop.finish()
        thread.join(5)
        assert service.calls == ["start", "stop"]

    def test_a_second_signal_ends_the_process_at_once(self) -> None:
        program = (
            "import os, signal, sys, time\n"
            "from sat_bus.service.loop import WorkLoop\n"
            "from sat_bus.service.run import run_service\n"
            "class Stuck:\n"
            "    def start(self): print('up', flush=True)\n"
            "    def stop(self):\n"
            "        print('stopping', flush=True)\n"
            "        time.sleep(60)\n"
            "sys.exit(run_service(Stuck(), WorkLoop('stuck')))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM


class TestHealth:
    def test_tells_queues_drops_and_memory(self) -> None:
        loop = WorkLoop("test", capacity=1)
        loop.post(lambda: None)
        loop.post(lambda: None)
        with MemoryBus(MemoryBroker(), "host") as bus:
            bus.publish("late", b"")
            message = health(loop, bus, "1-a", drops={"frames": 3}, workers={"running": 2})
        assert message.queues == {"loop": 1, "bus_inbox": 0}
        assert message.drops == {
            "loop_full": 1,
            "loop_errors": 0,
            "control_offline": 1,
            "frames": 3,
        }
        assert (message.boot, message.workers, message.bus["reconnects"]) == (
            "1-a",
            {"running": 2},
            0,
        )
        assert message.memory_kb > 1_000

    def test_memory_grows_with_what_is_kept(self) -> None:
        before = memory_kb()
        kept = bytearray(os.urandom(32 << 20))
        assert memory_kb() - before > 16 << 10
        del kept
