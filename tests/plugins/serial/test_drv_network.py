"""Ports behind the network: pyserial's own RFC 2217 server over a pty, and a plain TCP port, both
on a real wire."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import serial
from serial import rfc2217

from sat_toolkit.errors import CommandFailed, DriverError

EVERY_BYTE = bytes(range(256))
# pyserial names its thread in a way that Python 3.10 deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:setDaemon:DeprecationWarning", "ignore:setName:DeprecationWarning"
)


class Server:
    """A TCP port on a thread. `serve` has the connection until it ends."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._hang_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test/server")
        self._thread.start()

    def hang_up(self) -> None:
        """End the connection there is, and take no other."""
        self._hang_up.set()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    @property
    def ending(self) -> bool:
        return self._stopping.is_set() or self._hang_up.is_set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, suppress(ConnectionError):
                if not self.ending:
                    self.serve(connection)


class EchoServer(Server):
    """Sends back what it gets."""

    def serve(self, connection: socket.socket) -> None:
        while not self.ending:
            if select.select([connection], [], [], 0.02)[0]:
                data = connection.recv(4096)
                if not data:
                    return
                connection.sendall(data)


class SerialServer(Server):
    """A serial server as pyserial's example has it: RFC 2217 on the one side, a tty on the
    other."""

    def __init__(self, tty: str) -> None:
        self.tty = serial.serial_for_url(tty, do_not_open=True, timeout=0)
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        wire = _Wire(connection)
        # A pty has no modem lines, which pyserial's server would ask for.
        self.tty = _PtyWithModemLines(self.tty.port, timeout=0)
        manager = rfc2217.PortManager(self.tty, wire)
        try:
            while not self.ending:
                for ready in select.select([connection, self.tty], [], [], 0.02)[0]:
                    if ready is connection:
                        data = connection.recv(1024)
                        if not data:
                            return
                        self.tty.write(b"".join(manager.filter(data)))
                    else:
                        wire.write(b"".join(manager.escape(self.tty.read(1024))))
        finally:
            self.tty.close()


class _PtyWithModemLines(serial.Serial):
    cts = dsr = cd = True
    ri = False

    def _update_dtr_state(self) -> None:
        self.dtr_seen = self._dtr_state

    def _update_rts_state(self) -> None:
        self.rts_seen = self._rts_state


class _Wire:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts servers and ends them."""
    started: list[Server] = []

    def start(kind: type[Server], *args: Any) -> Server:
        started.append(kind(*args))
        return started[-1]

    yield start
    for each in started:
        each.close()


def info_for(url: str, **more: Any) -> dict[str, Any]:
    return {"ports": [{"name": "console", "port": url, **more}]}


@pytest.fixture
def remote(far_end: Callable, serve: Callable, rig: Callable):
    """A device behind RFC 2217, with the server and the far end of its line."""
    far = far_end("tty")
    server = serve(SerialServer, str(far.link))
    return (
        server,
        far,
        rig(info_for(f"rfc2217://127.0.0.1:{server.port}", baud_rate=9600, dtr=False)).connect(),
    )


@pytest.fixture
def tcp(serve: Callable, rig: Callable):
    """A device behind a plain TCP port, with the server."""
    server = serve(EchoServer)
    return server, rig(info_for(f"socket://127.0.0.1:{server.port}")).connect()


def test_rfc2217_carries_bytes_and_settings(remote) -> None:
    server, far, device = remote
    device.command("start")
    far.say(EVERY_BYTE + b"\n")
    device.sink.wait_carried(EVERY_BYTE + b"\n")
    device.command("write", hex=EVERY_BYTE.hex())
    assert far.heard(256) == EVERY_BYTE
    assert (server.tty.baudrate, server.tty.dtr_seen, server.tty.rts_seen) == (9600, False, True)
    shown = device.command("settings", baud_rate=19_200, stopbits=2, rts=False)
    assert (server.tty.baudrate, server.tty.stopbits, server.tty.rts_seen) == (19_200, 2, False)
    assert [shown[name] for name in ("cts", "dsr", "ri", "cd", "dtr", "rts")] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    far.say(b"login: ")
    device.command("expect", text="login:")
    assert device.command("send_break", duration_ms=1) == {"duration_ms": 1}
    assert device.command("status")["settings"] == "19200 8N2"


def test_a_serial_server_that_hangs_up_is_an_unplugged_port(remote) -> None:
    server, _, device = remote
    server.hang_up()
    assert "is gone" in device.sink.wait_failure()
    device.runner.reset()
    device.runner.initialize()
    with pytest.raises(DriverError, match="cannot open rfc2217://"):
        device.runner.connect()


def test_a_tcp_port_carries_bytes_and_nothing_else(tcp) -> None:
    _, device = tcp
    device.command("start", framing="raw")
    device.command("write", hex=EVERY_BYTE.hex())
    device.sink.wait_carried(EVERY_BYTE)
    device.command("expect", send="ping", newline="lf", text="ping\n")
    assert set(device.command("settings").values()) == {None}
    for command, args in (("settings", {"baud_rate": 9600}), ("send_break", {})):
        with pytest.raises(CommandFailed, match="carries bytes only"):
            device.runner.command(command, args)
    assert device.command("status")["settings"] is None


def test_a_tcp_port_that_hangs_up_is_an_unplugged_port(tcp) -> None:
    server, device = tcp
    device.command("start")
    server.hang_up()
    assert "is gone" in device.sink.wait_failure()


def test_a_tcp_port_comes_back(tcp) -> None:
    _, device = tcp
    device.runner.close()
    device.connect()
    device.command("expect", send="again", text="again")


@pytest.mark.parametrize("scheme", ["rfc2217", "socket"])
def test_a_server_that_is_not_there_fails_the_connect_at_once(rig: Callable, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    device = rig(info_for(f"{scheme}://127.0.0.1:{port}"))
    device.runner.initialize()
    started = time.monotonic()
    with pytest.raises(DriverError, match=f"cannot open {scheme}://.*refused"):
        device.runner.connect()
    assert time.monotonic() - started < 5


def test_a_server_that_does_not_speak_rfc2217_fails_the_connect_in_time(
    serve: Callable, rig: Callable
) -> None:
    class Mute(Server):
        def serve(self, connection: socket.socket) -> None:
            while not self.ending and connection.recv(4096):
                pass

    device = rig(info_for(f"rfc2217://127.0.0.1:{serve(Mute).port}"))
    device.runner.initialize()
    started = time.monotonic()
    with pytest.raises(DriverError, match="does not seem to support RFC2217"):
        device.runner.connect()
    assert time.monotonic() - started < 10
