"""The fake hardware of `sat_toolkit.testing`, as a driver meets it: over sockets and ports."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from sat_toolkit.testing import Answer, FakeDevice, PtyLine, TcpBus, TcpInstrument

DEADLINE = 5.0


class Client:
    """One connection, in lines."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.socket = socket.create_connection((host, int(port)), DEADLINE)
        self.file = self.socket.makefile("rwb")

    def send(self, text: bytes) -> None:
        self.file.write(text)
        self.file.flush()

    def line(self) -> bytes:
        return self.file.readline()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextmanager
def connected(address: str) -> Iterator[Client]:
    client = Client(address)
    try:
        yield client
    finally:
        client.close()


ANSWERS: dict[str, Answer] = {
    "*IDN?": "ACME",
    "SET": lambda rest: f"set {rest}",
    "BYE now": "special",
    "QUIET": lambda rest: None,
}


def test_an_instrument_answers_lines_by_the_line_or_its_first_word() -> None:
    with TcpInstrument(ANSWERS) as instrument, connected(instrument.address) as client:
        client.send(b"*IDN?\nSET 5 V\nBYE now\nQUIET\nunheard of\n*IDN?\n")
        assert [client.line() for _ in range(4)] == [
            b"ACME\n",
            b"set 5 V\n",
            b"special\n",
            b"ACME\n",
        ]
        assert list(instrument.received) == [
            "*IDN?",
            "SET 5 V",
            "BYE now",
            "QUIET",
            "unheard of",
            "*IDN?",
        ]


def test_a_line_that_was_answered_has_been_received() -> None:
    with TcpInstrument(str.upper) as instrument, connected(instrument.address) as client:
        for number in range(300):
            client.send(b"line %d\n" % number)
            assert client.line() == b"LINE %d\n" % number
            assert instrument.received[-1] == f"line {number}"


def test_a_line_may_come_in_pieces() -> None:
    with (
        TcpInstrument(str.upper, terminator="\r") as instrument,
        connected(instrument.address) as client,
    ):
        client.send(b"he")
        client.send(b"llo\rwor")
        client.send(b"ld\r")
        assert client.file.read(12) == b"HELLO\rWORLD\r"
        instrument.wait_received("world")


def test_each_client_gets_its_own_answers_and_all_hear_what_is_said() -> None:
    with (
        TcpInstrument(ANSWERS) as device,
        connected(device.address) as one,
        connected(device.address) as two,
    ):
        one.send(b"SET 1\n")
        two.send(b"SET 2\n")
        assert (one.line(), two.line()) == (b"set 1\n", b"set 2\n")
        device.say("ALARM")
        assert (one.line(), two.line()) == (b"ALARM\n", b"ALARM\n")


def test_unplugging_breaks_the_connections_and_frees_the_port() -> None:
    device = TcpInstrument(ANSWERS).start()
    with connected(device.address) as client:
        client.send(b"*IDN?\n")
        assert client.line() == b"ACME\n"
        device.stop()
        assert client.line() == b""
        with pytest.raises(ConnectionRefusedError):
            Client(device.address)
        with (
            TcpInstrument({"*IDN?": "again"}, port=device.port),
            connected(device.address) as other,
        ):
            other.send(b"*IDN?\n")
            assert other.line() == b"again\n"


def test_a_client_that_never_reads_stops_nobody() -> None:
    with (
        TcpInstrument({"BIG": "x" * 100_000, "*IDN?": "ACME"}) as device,
        connected(device.address) as deaf,
    ):
        deaf.send(b"BIG\n" * 100)
        with connected(device.address) as client:
            client.send(b"*IDN?\n")
            assert client.line() == b"ACME\n"


def test_a_device_may_speak_by_itself() -> None:
    device = TcpInstrument({})
    count = iter(range(1_000_000))
    device.every(0.01, lambda: str(next(count)))
    with device, connected(device.address) as client:
        first, second = int(client.line()), int(client.line())
        assert second == first + 1


def test_what_a_device_waits_for_has_a_deadline() -> None:
    with TcpInstrument({}) as device, pytest.raises(TimeoutError, match="'NEVER' did not come"):
        device.wait_received("NEVER", timeout=0.01)


def test_on_a_bus_all_others_hear_what_one_sends() -> None:
    with (
        TcpBus() as bus,
        connected(bus.address) as one,
        connected(bus.address) as two,
        connected(bus.address) as three,
    ):
        for client in (two, three):  # so that all are known before the first line
            client.send(b"hello\n")
        assert sorted([one.line(), one.line()]) == [b"hello\n", b"hello\n"]
        two.line(), three.line()
        one.send(b"frame\n")
        assert (two.line(), three.line()) == (b"frame\n", b"frame\n")


def test_a_serial_device_is_a_port_like_any_other() -> None:
    with PtyLine(ANSWERS) as line, serial.Serial(line.port, timeout=DEADLINE) as port:
        port.write(b"SET 3\n")
        assert port.readline() == b"set 3\n"
        line.say("boot")
        assert port.readline() == b"boot\n"


def test_a_serial_device_may_be_opened_again_and_unplugged(tmp_path: Path) -> None:
    link = tmp_path / "port"
    with PtyLine(ANSWERS, link=link) as line:
        for _ in range(2):
            with serial.Serial(str(link), timeout=DEADLINE) as port:
                port.write(b"*IDN?\n")
                assert port.readline() == b"ACME\n"
        port = serial.Serial(line.port, timeout=DEADLINE)
    with pytest.raises(
        (serial.SerialException, OSError)
    ):  # which of the two says so is the kernel's
        while True:
            port.write(b"*IDN?\n")
            port.read()
    port.close()
    assert not os.path.lexists(link)


def test_a_file_is_never_replaced_by_a_port(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="name another path"):
        PtyLine({}, link=tmp_path / "notes").start()
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_device_with_a_state_of_its_own() -> None:
    class Counter(TcpInstrument):
        count = 0

        def answer(self, line: str) -> str | None:
            self.count += 1
            return f"{line} {self.count}"

    with Counter({}) as device, connected(device.address) as client:
        client.send(b"a\nb\n")
        assert (client.line(), client.line()) == (b"a 1\n", b"b 2\n")
    assert isinstance(device, FakeDevice)
