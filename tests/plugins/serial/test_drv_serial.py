"""The driver and a line whose far end the test holds: bytes of every kind, in pieces, too many, too
slow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.serial.drv_serial import SerialDriver
from plugins.devices.serial.receiving import EXPECT_LIMIT
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.errors import CommandFailed, ConfigError, DriverError
from sat_toolkit.models.Device_Model import SerialDevice

EVERY_BYTE = bytes(range(256))


def info_for(port: Path, **more: Any) -> dict[str, Any]:
    return {"ports": [{"name": port.name, "port": str(port), **more}]}


@pytest.fixture
def pair(far_end: Callable, rig: Callable):
    """A far end, and a device connected to it."""
    far = far_end()
    return far, rig(info_for(far.link)).connect()


@pytest.mark.parametrize("args", [{}, {"framing": "raw"}, {"max_length": 7}])
def test_every_byte_arrives_as_it_was_sent(pair, args: dict[str, Any]) -> None:
    far, device = pair
    device.runner.command("start", args)
    data = (EVERY_BYTE + b"\r\n\n\r" + EVERY_BYTE[::-1]) * 40
    far.say(data)
    device.sink.wait_carried(data)
    assert device.command("status")["counters"]["rx"] == len(data)


def test_every_byte_is_written_as_it_was_given(pair) -> None:
    far, device = pair
    assert device.command("write", hex=EVERY_BYTE.hex(" ")) == {"bytes_written": 256}
    assert far.heard(256) == EVERY_BYTE
    assert device.command("write", text="größer\x00", newline="crlf") == {"bytes_written": 11}
    assert far.heard(11) == "größer\x00\r\n".encode()
    device.command("write", text="")
    assert device.command("status")["counters"]["tx"] == 267


def test_binary_lines_are_hex_and_text_lines_text(pair) -> None:
    far, device = pair
    device.command("start")
    far.say(b"text\n\x00\xff\r\n\xc3\xa9\n")
    frames = device.sink.wait_frames(3, lambda frame: True)
    assert [
        (frame.data, frame.metadata["encoding"], frame.metadata["eol"]) for frame in frames
    ] == [
        ("text", "utf-8", "\n"),
        ("00ff", "hex", "\r\n"),
        ("é", "utf-8", "\n"),
    ]


def test_a_prompt_is_sent_when_the_line_pauses_and_a_line_in_pieces_is_one(pair) -> None:
    far, device = pair
    device.command("start", idle_ms=100)
    far.say(b"pro")
    far.say(b"mpt> ")
    (prompt,) = device.sink.wait_frames()
    assert (prompt.data, prompt.metadata["eol"]) == ("prompt> ", "")
    device.command("start", idle_ms=60_000)
    far.say(b"in ")
    device.command("write", text="x")
    far.heard(1)
    far.say(b"pieces\n")
    (line,) = device.sink.wait_frames(matches=lambda frame: frame.metadata["eol"] == "\n")
    assert line.data == "in pieces"


def test_stop_sends_what_was_begun(pair, wait_until: Callable) -> None:
    far, device = pair
    device.command("start", idle_ms=60_000)
    far.say(b"the end")
    wait_until(lambda: device.command("status")["counters"]["rx"] == 7)
    device.command("stop")
    assert device.sink.carried == b"the end"


def test_another_framing_begins_the_stream_anew_and_the_same_does_not(pair) -> None:
    far, device = pair
    device.command("start")
    first = device.runner.driver.acquisition_thread
    device.command("start", framing="lines")
    assert device.runner.driver.acquisition_thread is first
    device.command("start", framing="raw")
    assert device.runner.driver.acquisition_thread is not first
    far.say(b"\x01")
    (frame,) = device.sink.wait_frames()
    assert (frame.data, frame.metadata) == ("01", {"encoding": "hex", "direction": "rx"})


def test_a_raw_frame_is_no_longer_than_a_read(far_end: Callable, rig: Callable) -> None:
    far = far_end()
    device = rig(info_for(far.link, read_chunk=16)).connect()
    device.command("start", framing="raw")
    far.say(b"x" * 100)
    device.sink.wait_carried(b"x" * 100)
    assert max(len(frame.data) for frame in device.sink.frames) <= 16


def test_a_line_that_nobody_reads_fails_the_write_in_time_and_says_how_far_it_got(pair) -> None:
    far, device = pair
    started = time.monotonic()
    with pytest.raises(
        CommandFailed, match=r"\d+ of 16384 bytes were written: nobody reads"
    ) as caught:
        for _ in range(100):
            device.command("write", text="x" * 16_384)
    assert time.monotonic() - started < 15
    written = device.command("status")["counters"]["tx"]
    assert int(str(caught.value).split()[0]) == written % 16_384
    far.heard(written)
    device.command("write", text="again")
    assert far.heard(5) == b"again"


def test_close_does_not_wait_for_a_write_that_is_stuck(pair, wait_until: Callable) -> None:
    _, device = pair
    failures: list[str] = []

    def write() -> None:
        try:
            for _ in range(100):
                device.runner.driver._transmit(b"x" * 16_384)
        except CommandFailed as error:
            failures.append(str(error))

    line = device.runner.driver._line
    writer = threading.Thread(target=write, name="test/writer")
    writer.start()
    wait_until(lambda: line.written > 0)
    started = time.monotonic()
    device.runner.close()
    took = time.monotonic() - started
    writer.join()
    assert took < 4.0
    assert len(failures) == 1


def test_expect_takes_what_came_before_it_was_asked(pair, wait_until: Callable) -> None:
    far, device = pair
    far.say(b"boot 1\nlogin: ")
    wait_until(lambda: device.command("status")["counters"]["unread"] == 14)
    assert device.command("expect", text="login:", timeout_ms=1)["before"] == "boot 1\n"
    assert device.command("status")["counters"]["unread"] == 1
    with pytest.raises(CommandFailed, match="no match"):
        device.command("expect", text="login:", timeout_ms=1)


def test_expect_tells_that_nothing_came(pair) -> None:
    _, device = pair
    with pytest.raises(CommandFailed, match="nothing was received within 20 ms; expected 'a'"):
        device.command("expect", text="a", timeout_ms=20)


def test_expect_matches_text_among_bytes(pair) -> None:
    far, device = pair
    far.say(b"\xff\xfe" + "größe=7 ".encode() + b"\x80rest")
    answer = device.command("expect", pattern=r"größe=(\d+)(?: .)(x)?")
    assert answer == {
        "match": "größe=7 \\x80",
        "groups": ["7", None],
        "named": {},
        "before": "\\xff\\xfe",
    }
    assert device.command("expect", text="rest")["before"] == ""


def test_expect_holds_a_bounded_number_of_bytes(pair, wait_until: Callable) -> None:
    far, device = pair
    length = EXPECT_LIMIT + 10_000
    far.say(b"needle" + b"." * (length - 3) + b"end")
    wait_until(lambda: device.command("status")["counters"]["rx"] == length + 6)
    assert device.command("status")["counters"]["unread"] == EXPECT_LIMIT
    with pytest.raises(CommandFailed):
        device.command("expect", text="needle", timeout_ms=1)
    assert len(device.command("expect", text="end")["before"]) == 8192


def test_data_that_comes_while_nobody_streams_is_not_streamed_later(
    pair, wait_until: Callable
) -> None:
    far, device = pair
    far.say(b"old\n")
    wait_until(lambda: device.command("status")["counters"]["rx"] == 4)
    device.command("start")
    far.say(b"new\n")
    device.sink.wait_carried(b"new\n")


def test_what_a_stream_cannot_take_in_time_is_dropped_and_said(pair, wait_until: Callable) -> None:
    far, device = pair
    go_on, taken = threading.Event(), threading.Event()
    keep = device.sink.data

    def slowly(stream_data) -> None:
        taken.set()
        assert go_on.wait(20)
        keep(stream_data)

    device.sink.data = slowly
    device.command("start", framing="raw")
    far.say(b"first")
    assert taken.wait(10)
    block = b"x" * 65_536
    for _ in range(20):
        far.say(block)
    total = 5 + 20 * len(block)
    wait_until(lambda: device.command("status")["counters"]["rx"] == total)
    far.say(b"last")
    wait_until(lambda: device.command("status")["counters"]["rx"] == total + 4)
    dropped = device.command("status")["counters"]["dropped"]
    go_on.set()
    device.sink.wait_frames(matches=lambda frame: frame.data.endswith("last"))
    assert dropped > 0
    assert len(device.sink.carried) + dropped == total + 4
    assert [
        frame.metadata["dropped"] for frame in device.sink.frames if "dropped" in frame.metadata
    ] == [dropped]


def test_unplugged_in_the_middle_of_a_line_the_frames_before_it_arrive(pair) -> None:
    far, device = pair
    device.command("start", idle_ms=60_000)
    far.say(b"whole\nhal")
    device.sink.wait_frames(matches=lambda frame: frame.data == "whole")
    far.unplug()
    assert "is gone" in device.sink.wait_failure()
    assert device.sink.carried == b"whole\nhal"


def test_unplugged_while_it_is_stopped_is_told_once(pair) -> None:
    far, device = pair
    device.command("start")
    far.unplug()
    device.command("stop")
    device.sink.wait_failure()
    device.runner.close()
    assert len(device.sink.failures) == 1


def test_unplugged_while_expect_waits(pair) -> None:
    far, device = pair
    timer = threading.Timer(0.1, far.unplug)
    timer.start()
    started = time.monotonic()
    with pytest.raises(DriverError, match="is gone") as caught:
        device.command("expect", text="never", timeout_ms=20_000)
    timer.join()
    assert not isinstance(caught.value, CommandFailed)
    assert time.monotonic() - started < 5


def test_write_to_a_port_that_was_unplugged(pair) -> None:
    far, device = pair
    far.unplug()
    device.sink.wait_failure()
    with pytest.raises(DriverError, match="is gone"):
        device.command("write", text="a")


def test_a_device_that_is_not_connected_says_so(far_end: Callable, rig: Callable) -> None:
    device = rig(info_for(far_end().link))
    device.runner.initialize()
    for command, args in (
        ("status", {}),
        ("write", {"text": "a"}),
        ("expect", {"text": "a"}),
        ("settings", {}),
    ):
        with pytest.raises(CommandFailed, match="connect the device first"):
            device.runner.command(command, args)
    with pytest.raises(CommandFailed, match="connect the device first"):
        device.command("start")


def test_many_ups_and_downs_leave_nothing_open(far_end: Callable, rig: Callable) -> None:
    device = rig(info_for(far_end().link))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        device.connect().command("start")
        device.runner.reset()
        device.runner.reset()
    device.runner.close()
    device.runner.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [thread.name for thread in threading.enumerate() if "console" in thread.name]


def test_a_file_that_is_no_tty_is_refused_and_closed(rig: Callable, tmp_path: Path) -> None:
    (tmp_path / "console").write_text("precious")
    device = rig(info_for(tmp_path / "console"))
    device.runner.initialize()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DriverError, match="cannot open"):
        device.runner.connect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "console").read_text() == "precious"


def test_the_scan_lists_what_is_there(far_end: Callable, tmp_path: Path) -> None:
    far = far_end("here")
    ports = [
        {"name": "here", "port": str(far.link), "baud_rate": 9600},
        {"name": "gone", "port": str(tmp_path / "gone")},
        {"name": "remote", "port": "rfc2217://127.0.0.1:1"},
    ]
    here, remote = DriverRunner(SerialDriver, {"discover": False, "ports": ports}).scan()
    assert isinstance(here, SerialDevice)
    assert isinstance(remote, SerialDevice)
    assert (here.device_id, here.port, here.baud_rate) == ("here", str(far.link), 9600)
    assert here.get_attribute("settings") == "9600 8N1"
    assert (remote.device_id, remote.port) == ("remote", "rfc2217://127.0.0.1:1")


def test_a_wrong_configuration_fails_the_scan_with_the_entry() -> None:
    with pytest.raises(DriverError, match=r'ports\[0\] \("a"\): port must be'):
        DriverRunner(SerialDriver, {"ports": [{"name": "a"}]}).scan()
    with pytest.raises(ConfigError):
        SerialDriver({"ports": 7}).scan()
