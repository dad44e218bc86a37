"""An open line: bytes as they are, settings all or none, and no wait without an end."""

from __future__ import annotations

import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.devices.serial.line import Line
from plugins.devices.serial.ports import LineSettings, PortConfig
from sat_toolkit.errors import CommandFailed, DriverError
from tests.plugins.serial.conftest import FarEnd
from tests.waiting import eventually


@pytest.fixture
def end(tmp_path: Path) -> Iterator[FarEnd]:
    made = FarEnd(tmp_path / "tty")
    yield made
    made.unplug()


@pytest.fixture
def line(end: FarEnd) -> Iterator[Line]:
    made = Line(PortConfig("board", str(end.link)))
    yield made
    made.close()


def test_bytes_go_both_ways_as_they_are(line: Line, end: FarEnd) -> None:
    line.write(b"\x03a\r\n\xff", 5.0)
    assert end.heard(5) == b"\x03a\r\n\xff"
    assert line.written == 5
    end.say(b"\x00b\r\n")
    got = bytearray()
    assert eventually(lambda: got.extend(line.read()) or len(got) == 4)
    assert got == b"\x00b\r\n"


def test_a_read_of_nothing_ends(line: Line) -> None:
    assert line.read() == b""


def test_one_read_takes_what_is_configured_and_no_more(end: FarEnd) -> None:
    line = Line(PortConfig("board", str(end.link), read_chunk=3))
    end.say(b"abcde")
    assert line.read() == b"abc"
    line.close()


def test_a_write_that_nobody_reads_is_given_up_and_says_how_far_it_got(line: Line) -> None:
    with pytest.raises(CommandFailed, match=r"\d+ of 262144 bytes were written: nobody reads them"):
        line.write(bytes(262_144), 0.2)
    assert 0 < line.written < 262_144


def test_an_unplugged_port_says_so(line: Line, end: FarEnd) -> None:
    end.unplug()
    with pytest.raises(DriverError, match="is gone"):
        line.read()


def test_a_setting_that_is_refused_changes_none(line: Line, end: FarEnd) -> None:
    line.change({"baud_rate": 9600})
    with pytest.raises(CommandFailed, match="does not take baud_rate=19200, bytesize=5"):
        line.change({"baud_rate": 19_200, "bytesize": 5})  # a pty has 8 bits, whatever it is told
    assert line.settings == LineSettings(baud_rate=9600)
    with end.link.open("rb", buffering=0) as port:
        assert termios.tcgetattr(port)[4:6] == [termios.B9600] * 2


def test_a_pty_has_no_modem_lines(line: Line) -> None:
    assert line.modem_lines() == {"cts": None, "dsr": None, "ri": None, "cd": None}


@pytest.mark.parametrize(
    ("port", "says"),
    [
        ("/dev/there-is-no-such-port", "it is not there: is the device plugged in"),
        ("socket://127.0.0.1:1", "Connection refused"),
    ],
)
def test_a_port_that_does_not_open_says_why(port: str, says: str) -> None:
    with pytest.raises(DriverError, match=f"cannot open {port}: .*{says}"):
        Line(PortConfig("board", port))


def test_a_port_is_opened_once(line: Line) -> None:
    with pytest.raises(DriverError, match="another program has it open"):
        Line(line.config)


def test_a_socket_carries_bytes_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Line(PortConfig("board", f"socket://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(CommandFailed, match="bytes only: its settings"):
            line.change({"baud_rate": 9600})
        with pytest.raises(CommandFailed, match="it has no break"):
            line.send_break(0.1)
        assert set(line.describe().values()) == {None}
        peer, _ = server.accept()
        peer.close()
        with pytest.raises(DriverError, match="the far end closed it"):
            while not line.read():
                pass
        line.close()
