"""The driver over a serial line: the simulated ECU as a process, an unplugged port, a noisy
line."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.can.drv_socketcan import SocketCANDriver
from plugins.devices.can.ecu_model import load_database
from plugins.devices.can.slcan_adapter import SlcanAdapter
from plugins.devices.pty_link import PtyLink
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamData
from sat_toolkit.errors import DriverError
from tests.waiting import eventually


def info_for(port: Path, **more: Any) -> dict[str, Any]:
    return {
        "buses": [
            {"name": "ecu", "interface": "slcan", "channel": str(port), "bitrate": 500_000, **more}
        ]
    }


def has_id(arbitration_id: int) -> Callable[[StreamData], bool]:
    return lambda frame: frame.data["id"] == arbitration_id


def test_the_car_is_streamed_asked_and_sent_to(
    sim: Callable, rig: Callable, tmp_path: Path
) -> None:
    port = tmp_path / "ecu"
    sim("--pty", str(port))
    ecu = rig(info_for(port))
    assert ecu.device.hardware_id == "slcan:ecu"
    ecu.connect()
    ecu.command("start")
    wheels = ecu.sink.wait_frames(10, has_id(0x200))
    for frame in wheels:
        decoded = load_database().decode_message(0x200, bytes.fromhex(frame.data["data"]))
        assert 0 <= decoded["WheelSpeedFL"] < 120
    assert wheels[-1].timestamp - wheels[0].timestamp == pytest.approx(9 * 0.02, abs=0.15)
    (battery,) = ecu.sink.wait_frames(matches=has_id(0x18FF50E5))
    assert battery.data["ext"] is True
    ecu.command("send", id="0x7DF", data="02 01 05")
    (answer,) = ecu.sink.wait_frames(matches=has_id(0x7E8))
    assert answer.data["data"].startswith("034105")
    ecu.command("send", id="0x7E0", data="02 01 0d", period_ms=10, count=5)
    assert len(ecu.sink.wait_frames(6, has_id(0x7E8))) == 6
    ecu.command("filter", filters=[{"id": "0x100"}])
    status = ecu.command("status")
    assert status["channel"] == str(port)
    assert status["counters"]["bad_lines"] == 0
    # The answer to a frame may be here before its sender has counted it.
    assert eventually(lambda: ecu.command("status")["counters"]["tx"] == 6)


def test_no_frame_is_missing_over_two_seconds(sim: Callable, rig: Callable, tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    sim("--pty", str(port))
    ecu = rig(info_for(port)).connect()
    ecu.command("start")
    frames = ecu.sink.wait_frames(200, has_id(0x100))
    alive = [bytes.fromhex(frame.data["data"])[6] & 15 for frame in frames]
    assert [(b - a) % 16 for a, b in pairwise(alive)] == [1] * 199


def test_unplugged_while_streaming(sim: Callable, rig: Callable, tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    process = sim("--pty", str(port))
    ecu = rig(info_for(port)).connect()
    ecu.command("start")
    ecu.sink.wait_frames(matches=has_id(0x100))
    process.stop(signal.SIGKILL)
    assert "the bus is gone" in ecu.sink.wait_failure()
    with pytest.raises(DriverError, match="the bus is gone"):
        ecu.command("send", id=1)
    ecu.runner.reset()
    # A dangling link is no device, and a device whose port is gone says so.
    assert "ecu" not in [
        device.device_id for device in DriverRunner(SocketCANDriver, info_for(port)).scan()
    ]
    with pytest.raises(DriverError, match="is not there"):
        ecu.runner.initialize()
    sim("--pty", str(port))
    ecu.connect()
    ecu.sink.frames.clear()
    ecu.sink.failures.clear()
    ecu.command("start")
    ecu.sink.wait_frames(matches=has_id(0x100))


def test_unplugged_while_nobody_reads(sim: Callable, rig: Callable, tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    process = sim("--pty", str(port))
    ecu = rig(info_for(port)).connect()
    process.stop(signal.SIGKILL)
    with pytest.raises(DriverError, match="the bus is gone"):
        ecu.command("start")
    ecu.runner.close()


def test_a_bitrate_that_slcan_has_not_is_refused_and_the_port_is_free_again(
    sim: Callable, rig: Callable, tmp_path: Path
) -> None:
    port = tmp_path / "ecu"
    sim("--pty", str(port))
    ecu = rig(info_for(port, bitrate=333_333))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DriverError, match="choose one of"):
        ecu.connect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_adapter_on_tcp_streams_and_is_gone_when_it_hangs_up(
    sim: Callable, rig: Callable
) -> None:
    adapter = sim("--listen", "127.0.0.1:0")
    ecu = rig(info_for(adapter.ready.rsplit(maxsplit=1)[-1], sleep_after_open=0.0)).connect()
    ecu.command("start")
    frames = ecu.sink.wait_frames(20, has_id(0x100))
    assert len({frame.data["data"] for frame in frames}) > 1
    assert ecu.command("status")["counters"]["bad_lines"] == 0
    adapter.stop()
    assert "the bus is gone" in ecu.sink.wait_failure()


class Line:
    """The far end of a serial line, in the hands of the test: reads commands, writes what it
    likes."""

    def __init__(self, link: Path) -> None:
        self.adapter = SlcanAdapter(PtyLink(link))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="test/adapter")
        self._thread.start()

    def write(self, chunk: bytes) -> None:
        os.write(self.adapter.fileno(), chunk)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.adapter.close()

    def _serve(self) -> None:
        while not self._stop.wait(0.005):
            self.adapter.receive()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "adapter")
    yield made
    made.close()


@pytest.mark.parametrize(
    "noise", [b"\xff", b"\xc3\x28\r", b"t1\r", b"t123zzzz\r", b"\x00" * 700, b"\a\a", b"T18FF\r"]
)
def test_a_noisy_line_costs_the_lines_it_hits(
    line: Line, rig: Callable, tmp_path: Path, noise: bytes
) -> None:
    ecu = rig(info_for(tmp_path / "adapter")).connect()
    assert eventually(lambda: line.adapter.is_open)
    ecu.command("start")
    # Bytes that arrive before the drain of the start are gone; these arrive behind it.
    line.write(b"\rt0011AA\r")
    ecu.sink.wait_frames(matches=has_id(0x001))
    line.write(noise + b"\rt0021BB\rt0031CC\r")
    ecu.sink.wait_frames(matches=has_id(0x003))
    ids = [frame.data["id"] for frame in ecu.sink.frames]
    assert ids == [0x001, 0x002, 0x003]
    expected = 0 if noise == b"\a\a" else 1
    assert ecu.command("status")["counters"]["bad_lines"] == expected
    assert not ecu.sink.failures


def test_a_frame_that_the_start_cut_is_not_taken_for_another(
    line: Line, rig: Callable, tmp_path: Path
) -> None:
    ecu = rig(info_for(tmp_path / "adapter")).connect()
    assert eventually(lambda: line.adapter.is_open)
    line.write(b"T18FF50E58AABBCCDD")
    ecu.command("start")
    # The rest of that line reads like an FD frame of its own: d, id 0x112, no data.
    line.write(b"d1120\rt0021BB\r")
    ecu.sink.wait_frames(matches=has_id(0x002))
    assert len(ecu.sink.frames) == 1


def test_an_adapter_that_does_not_read_fails_the_send_in_time(
    rig: Callable, tmp_path: Path
) -> None:
    far = Line(tmp_path / "adapter")
    try:
        ecu = rig(info_for(tmp_path / "adapter")).connect()
        assert eventually(lambda: far.adapter.is_open)
        far._stop.set()
        far._thread.join()
        started = time.monotonic()
        with pytest.raises(Exception, match="the frame was not sent") as caught:
            for _ in range(10_000):
                ecu.command("send", id=1, data="00" * 8)
        assert type(caught.value).__name__ == "CommandFailed"
        assert time.monotonic() - started < 8
    finally:
        far.close()
