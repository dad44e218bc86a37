"""The guide's printed programs run as printed, and its template is a working plugin. In process."""

from __future__ import annotations

import runpy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sat_toolkit.core.device_manager import DeviceDriverManager
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import find_plugins, load_driver
from sat_toolkit.core.stream_manager import (
    FrameByFrame,
    StreamAction,
    StreamData,
    StreamSource,
    StreamType,
)

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
DEADLINE = 5.0


class Received(FrameByFrame):
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.data_of: list[StreamData] = []
        self.events: list[str] = []
        self._changed = threading.Condition()

    def opened(self, channel: str) -> None:
        self.events.append(f"opened {channel}")

    def closed(self, channel: str) -> None:
        self.events.append(f"closed {channel}")

    def data(self, stream_data: StreamData) -> None:
        with self._changed:
            self.data_of.append(stream_data)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the driver of the guide's programs was asked to do."""
    monkeypatch.delenv("SAT_BROKER_URL", raising=False)
    monkeypatch.setenv("SAT_PLUGINS", str(FIXTURES))
    (plugin,) = find_plugins([FIXTURES], "your_device")
    module = load_driver(plugin).__module__
    journal: list[str] = __import__(module, fromlist=["JOURNAL"]).JOURNAL
    journal.clear()
    yield journal
    journal.clear()


def test_the_lifecycle_program_runs_as_printed(
    journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    program = runpy.run_path(str(HERE / "guide" / "lifecycle_program.py"))
    program["manage_device_lifecycle"]()
    assert journal == ["scan", "initialize your0", "connect your0", "start your0", "close your0"]
    assert "Device operation failed" not in caplog.text


def test_the_usage_program_runs_as_printed(journal: list[str]) -> None:
    program = runpy.run_path(str(HERE / "guide" / "usage_program.py"))
    manager: DeviceDriverManager = program["manager"]
    assert [d.device_id for d in program["result"]["devices"]] == ["your0", "your1"]
    assert program["init_result"] == {"status": "success", "message": "Device initialized"}
    assert program["connect_result"] == {"status": "success", "message": "Device connected"}
    assert program["command_result"] == {"status": "success", "result": "Started streaming"}
    assert manager.device_states["drv_your_device:your0"] is DeviceState.CONNECTED
    assert manager.device_states["drv_your_device:your1"] is DeviceState.DISCOVERED
    cleaned = manager.cleanup_all_devices()
    assert cleaned["drv_your_device"]["devices"] == {
        "your0": {"status": "success", "message": "Device closed"}
    }
    assert journal == ["scan", "initialize your0", "connect your0", "start your0", "close your0"]
    manager.close()


def test_the_template_loads_streams_and_answers() -> None:
    received = Received()
    backend = LocalBackend(find_plugins([FIXTURES], "template"), sink=received)
    with DeviceDriverManager(backend) as manager:
        (device,) = manager.scan_devices("drv_template")["devices"]
        assert manager.connect_device("drv_template", device)["status"] == "success"

        def command(name: str) -> dict[str, object]:
            return manager.execute_command("drv_template", name, device_id=device.device_id)

        before = time.time()
        assert command("start") == {"status": "success", "result": "Started streaming"}
        received.wait(lambda: len(received.data_of) >= 3)
        data = received.data_of[0]
        assert (data.stream_type, data.channel, data.data) == (
            StreamType.CUSTOM,
            "template0",
            "reading",
        )
        assert (data.source, data.action) == (StreamSource.SERVER, StreamAction.DATA)
        assert before - 1 < data.timestamp < time.time() + 1
        # `status` is declared, and the template's own code refuses it with a ValueError.
        refused = command("status")
        assert refused == {
            "status": "error",
            "message": "Unknown command: status",
            "code": "driver_error",
        }
        count = len(received.data_of)
        received.wait(lambda: len(received.data_of) > count)
        assert command("undeclared")["code"] == "unknown_command"
        assert command("stop") == {"status": "success", "result": "Stopped streaming"}
        assert received.events == ["opened template0", "closed template0"]
        assert manager.device_states["drv_template:template0"] is DeviceState.CONNECTED
