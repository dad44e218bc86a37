"""The driver and a device with a console: the simulated one as a process, talked to as a test rack
would."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.serial.drv_serial import SerialDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError, UnknownCommand
from sat_toolkit.models.Device_Model import SerialDevice


def info_for(*ports: Path, **more: Any) -> dict[str, Any]:
    return {"ports": [{"name": port.name, "port": str(port), **more} for port in ports]}


def is_log(frame: StreamData) -> bool:
    return "temp:" in frame.data


def sent(data: object) -> StreamData:
    return StreamData(StreamType.UART, "console", 0.0, StreamSource.CLIENT, StreamAction.SEND, data)


@pytest.fixture
def console(sim: Callable, rig: Callable, tmp_path: Path):
    """A connected console that has booted."""
    port = tmp_path / "console"
    sim("--pty", str(port))
    device = rig(info_for(port)).connect()
    device.command("expect", send="echo up", newline="cr", text="\nup\r\n")
    return device


def test_its_log_is_streamed_line_by_line(console) -> None:
    assert isinstance(console.device, SerialDevice)
    assert console.device.hardware_id == "serial:console"
    assert console.command("start") == "Started streaming"
    started = time.time()
    logs = console.sink.wait_frames(3, is_log)
    assert all(
        frame.metadata == {"encoding": "utf-8", "direction": "rx", "eol": "\r\n"} for frame in logs
    )
    assert all(
        frame.stream_type is StreamType.UART and frame.channel == "console" for frame in logs
    )
    assert logs[2].timestamp - logs[1].timestamp == pytest.approx(0.5, abs=0.2)
    assert abs(logs[0].timestamp - started) < 2.0
    status = console.command("status")
    assert status["streaming"] is True
    assert status["settings"] == "115200 8N1"
    assert status["counters"]["frames"] >= 3
    console.command("stop")
    assert console.sink.is_open is False
    assert console.command("status")["streaming"] is False


@pytest.mark.parametrize("streaming", [False, True])
def test_expect_asks_and_waits_for_the_answer(console, streaming: bool) -> None:
    if streaming:
        console.command("start")
    answer = console.command(
        "expect", send="version", newline="crlf", pattern=r"firmware (?P<number>\d+)\.(\d+)"
    )
    assert answer["match"].startswith("firmware 1.4")
    assert answer["groups"] == ["1", "4"]
    assert answer["named"] == {"number": "1"}
    assert answer["before"].endswith("version\r\n")
    assert console.command("expect", text="sat> ")["before"] == ".2\r\n"
    console.command("expect", send="reboot", newline="cr", text="boot: ready", timeout_ms=8000)
    if streaming:
        console.sink.wait_frames(matches=lambda frame: "reset cause: software" in frame.data)


def test_write_then_expect_sees_the_answer_and_nothing_older(console) -> None:
    console.command("expect", send="", newline="cr", text="sat> ")
    assert console.command("write", text="echo one", newline="cr") == {"bytes_written": 9}
    console.command("expect", text="\r\none\r\nsat> ")
    assert console.command("write", hex="75 70 74 69 6D 65 0d") == {"bytes_written": 7}
    assert console.command("expect", pattern=r"up [\d.]+ s")["match"].startswith("up ")


def test_expect_that_ends_in_vain_says_what_came_instead(console) -> None:
    with pytest.raises(
        CommandFailed,
        match=r"no match for 'login:' within 300 ms; \d+ bytes .*unknown command: nix",
    ):
        console.command("expect", send="nix", newline="cr", text="login:", timeout_ms=300)
    # It is kept for who asks next.
    console.command("expect", text="unknown command", timeout_ms=1)


def test_what_a_client_sends_is_typed(console) -> None:
    console.command("start")
    console.runner.client_data(sent({"text": "echo from the bus", "newline": "crlf"}))
    console.sink.wait_frames(matches=lambda frame: frame.data == "from the bus")
    console.runner.client_data(sent("echo as text\r"))
    console.sink.wait_frames(matches=lambda frame: frame.data == "as text")
    with pytest.raises(BadArgs, match="accepted"):
        console.runner.client_data(sent({"txt": "a"}))


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("write", {}, "required"),
        ("write", {"text": "a", "hex": "00"}, "valid under each"),
        ("write", {"hex": "0"}, "does not match"),
        ("write", {"text": "a", "newline": "lfcr"}, "lfcr"),
        ("write", {"text": "\u20ac" * 16_384}, "at most 16384"),
        ("expect", {}, "required"),
        ("expect", {"text": "a", "pattern": "a"}, "valid under each"),
        ("expect", {"pattern": "("}, "no regular expression"),
        ("expect", {"pattern": "x*"}, "matches the empty text"),
        ("expect", {"text": "a", "timeout_ms": 60_001}, "60000"),
        ("expect", {"text": "a", "newline": "cr"}, "send"),
        ("settings", {"parity": "even"}, "even"),
        ("settings", {"baud_rate": 0}, "minimum"),
        ("settings", {"speed": 9600}, "speed"),
        ("start", {"framing": "words"}, "words"),
        ("start", {"max_length": 0}, "minimum"),
    ],
)
def test_wrong_args_are_refused_and_named(
    console, command: str, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadArgs, match=message):
        console.runner.command(command, args)


def test_an_unknown_command_names_those_there_are(console) -> None:
    with pytest.raises(UnknownCommand, match=r"expect.*settings.*start"):
        console.command("reed")


def test_settings_are_shown_changed_and_forgotten_at_reset(console) -> None:
    shown = console.command("settings")
    assert (shown["baud_rate"], shown["bytesize"], shown["parity"], shown["stopbits"]) == (
        115_200,
        8,
        "N",
        1,
    )
    assert [shown[name] for name in ("dtr", "rts", "cts", "dsr", "ri", "cd")] == [None] * 6, (
        "a pty has no such lines"
    )
    changed = console.command("settings", baud_rate=9600, stopbits=2, xonxoff=True)
    assert changed == shown | {"baud_rate": 9600, "stopbits": 2, "xonxoff": True}
    assert console.command("settings", baud_rate=250_001)["baud_rate"] == 250_001
    assert console.command("status")["settings"] == "250001 8N2 xonxoff"
    console.command("expect", send="version", newline="cr", text="firmware")
    console.runner.reset()
    console.connect()
    assert console.command("settings") == shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"parity": "E"}, "does not take parity=E: its hardware"),
        ({"baud_rate": 9600, "bytesize": 7}, "bytesize=7"),
        ({"dtr": False}, "it has no such line"),
    ],
)
def test_a_setting_that_the_port_has_not_is_refused_and_changes_nothing(
    console, args: dict, message: str
) -> None:
    before = console.command("settings")
    with pytest.raises(CommandFailed, match=message):
        console.runner.command("settings", args)
    assert console.command("settings") == before
    console.command("expect", send="version", newline="cr", text="firmware")


def test_a_configured_setting_that_the_port_has_not_fails_the_connect(
    sim: Callable, rig: Callable, tmp_path: Path
) -> None:
    port = tmp_path / "console"
    sim("--pty", str(port))
    device = rig(info_for(port, parity="E"))
    device.runner.initialize()
    with pytest.raises(DriverError, match=r"cannot open .*its hardware"):
        device.runner.connect()


def test_a_break_is_held(console) -> None:
    started = time.monotonic()
    assert console.command("send_break", duration_ms=50) == {"duration_ms": 50}
    assert time.monotonic() - started >= 0.05


def test_two_consoles_at_once_do_not_mix(sim: Callable, rig: Callable, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for port in (one, two):
        sim("--pty", str(port))
    info = info_for(one, two)
    first, second = rig(info, "one").connect(), rig(info, "two").connect()
    for device in (first, second):
        device.command("start")
    first.command("expect", send="echo I am one", newline="cr", text="\nI am one")
    second.command("expect", send="echo I am two", newline="cr", text="\nI am two")
    first.sink.wait_frames(matches=lambda frame: frame.data == "I am one")
    second.sink.wait_frames(matches=lambda frame: frame.data == "I am two")
    first.runner.close()
    assert (first.sink.is_open, second.sink.is_open) == (False, True)
    second.command("expect", send="version", newline="cr", text="firmware")
    second.sink.frames.clear()
    second.sink.wait_frames(matches=is_log)
    assert {frame.channel for frame in first.sink.frames} == {"one"}
    assert {frame.channel for frame in second.sink.frames} == {"two"}
    assert not [frame for frame in first.sink.frames if "two" in frame.data]


def test_a_port_in_use_is_listed_and_not_opened_twice(console, rig: Callable) -> None:
    (again,) = DriverRunner(SerialDriver, console.info).scan()
    assert again.device_id == "console"
    second = rig(console.info)
    second.runner.initialize()
    with pytest.raises(DriverError, match="another program has it open"):
        second.runner.connect()
    console.command("expect", send="version", newline="cr", text="firmware")


@pytest.mark.parametrize("streaming", [False, True])
def test_unplugged_and_plugged_in_again(
    sim: Callable, rig: Callable, tmp_path: Path, streaming: bool
) -> None:
    port = tmp_path / "console"
    process = sim("--pty", str(port))
    console = rig(info_for(port)).connect()
    if streaming:
        console.command("start")
        console.sink.wait_frames(matches=is_log)
    process.stop(signal.SIGKILL)
    assert "is gone" in console.sink.wait_failure()
    assert console.sink.is_open is False
    with pytest.raises(DriverError, match="is gone"):
        console.command("expect", text="what it never said")
    with pytest.raises(DriverError, match="is gone"):
        console.command("start")
    console.runner.reset()
    # A dangling link is no device, and a device whose port is gone says so.
    assert DriverRunner(SerialDriver, console.info).scan() == []
    with pytest.raises(DriverError, match="is not there"):
        console.runner.initialize()
    sim("--pty", str(port))
    console.connect()
    assert len(console.sink.failures) == 1, "one unplug is told once"
    console.sink.frames.clear()
    console.sink.failures.clear()
    console.command("start")
    console.sink.wait_frames(matches=is_log)


def test_whatever_it_answers_is_json(console) -> None:
    console.command("start")
    answers = [
        console.command("status"),
        console.command("settings"),
        console.sink.wait_frames(matches=is_log)[0].to_dict(),
    ]
    assert json.loads(json.dumps(answers)) == answers
