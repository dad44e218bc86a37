"""An open serial line: bytes in and out, settings, modem lines. Every wait has a limit.

pyserial opens and configures. Where the port has a descriptor (a tty, a TCP socket) the bytes go by
it, so that a write can be given up in the middle and says how much went out; an RFC 2217 port goes
by pyserial's own methods.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import termios
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import serial
from serial import rfc2217
from serial.urlhandler import protocol_socket

from plugins.devices.serial.access import access_problem
from plugins.devices.serial.ports import SETTING_NAMES, LineSettings, PortConfig
from sat_toolkit.errors import CommandFailed, DriverError

_CLOSE_DRAIN_S: Final = 1.0
_SLICE_S: Final = 0.1
READ_WAIT_S: Final = 0.1
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_ERRORS: Final = (OSError, ValueError, termios.error)
_MODEM_LINES: Final = ("cts", "dsr", "ri", "cd")
# Our name of a setting -> pyserial's.
_PYSERIAL: Final = {"baud_rate": "baudrate"}
_CSIZE: Final = {5: termios.CS5, 6: termios.CS6, 7: termios.CS7, 8: termios.CS8}


class _TcpPort:
    """Mixed into pyserial's network ports: a peer that vanished is noticed, and a dead socket is
    closed too."""

    _socket: socket.socket | None

    def open(self) -> None:
        super().open()  # type: ignore[misc]
        assert self._socket is not None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def close(self) -> None:
        connection = self._socket
        super().close()  # type: ignore[misc]
        if connection is not None:
            connection.close()


class _Rfc2217Port(_TcpPort, rfc2217.Serial):  # type: ignore[misc]
    """A port of a serial server that speaks RFC 2217."""


class _SocketPort(_TcpPort, protocol_socket.Serial):  # type: ignore[misc]
    """A raw TCP port: bytes and nothing else."""


class Line:
    """A port that is open from construction until `close`. One thread may read while others write.

    Raises:
        DriverError: the port cannot be opened; the message says what to do about it.
    """

    def __init__(self, config: PortConfig) -> None:
        self.config = config
        self.written = 0
        self._settings = config.settings
        self._port = _make(config)
        self._write_lock = threading.Lock()
        self._closing = threading.Event()
        try:
            self._port.open()
            self._check_framing(config.settings)
        except (*_ERRORS, CommandFailed) as error:
            self._port.close()
            raise DriverError(f"cannot open {config.port}: {_explain(config, error)}") from error
        self._fd: int | None = None if config.scheme == "rfc2217" else self._port.fileno()

    def read(self) -> bytes:
        """What is there, after waiting up to READ_WAIT_S for a first byte. Raises DriverError: it
        is gone."""
        limit = self.config.read_chunk
        try:
            if self._fd is None:
                return bytes(self._port.read(max(1, min(limit, self._port.in_waiting))))
            if not _ready(self._fd, select.POLLIN, READ_WAIT_S):
                return b""
            data = os.read(self._fd, limit)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise self._gone("the far end closed it" if self.config.is_url else "it was unplugged")
        return data

    def write(self, data: bytes, timeout: float) -> None:
        """Write all of `data` within `timeout` seconds.

        Raises:
            CommandFailed: the line did not take all of it; the message says how much it took.
            DriverError: it is gone.
        """
        with self._write_lock:
            try:
                if self._fd is None:
                    self.written += self._port.write(data)
                else:
                    self._write_by_descriptor(self._fd, data, time.monotonic() + timeout)
            except OSError as error:
                raise self._gone(error) from error

    def _write_by_descriptor(self, fd: int, data: bytes, deadline: float) -> None:
        done = 0
        while done < len(data):
            if self._closing.is_set():
                raise CommandFailed(
                    f"the port was closed; {done} of {len(data)} bytes were written"
                )
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                held = "" if self.config.is_url else ", or flow control holds the line"
                raise CommandFailed(
                    f"{done} of {len(data)} bytes were written: nobody reads them{held}"
                )
            if _ready(fd, select.POLLOUT, min(remaining, _SLICE_S)):
                try:
                    count = os.write(fd, data[done:])
                except BlockingIOError:
                    continue
                done += count
                self.written += count

    # --- settings ------------------------------------------------------------------------------------

    @property
    def settings(self) -> LineSettings:
        return self._settings

    def describe(self) -> dict[str, Any]:
        """Settings and modem lines; None for what this port has not."""
        lines = self.modem_lines()
        if self.config.scheme == "socket":
            return dict.fromkeys(SETTING_NAMES) | lines
        outputs: dict[str, bool | None] = {"dtr": None, "rts": None}
        if lines["cts"] is not None:
            outputs = {name: bool(getattr(self._port, name)) for name in outputs}
        return self._settings.as_dict() | outputs | lines

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Change the settings named. All of them or, when one is refused, none. Raises
        CommandFailed."""
        if wanted and self.config.scheme == "socket":
            raise CommandFailed(
                "a socket:// port carries bytes only: its settings are those of the serial server"
            )
        before = self._settings
        target = LineSettings(**(before.as_dict() | dict(wanted)))
        try:
            self._apply(target, wanted)
            self._check_framing(target)
        except (*_ERRORS, CommandFailed) as error:
            self._restore(before, wanted)
            given = ", ".join(f"{name}={value}" for name, value in wanted.items())
            raise CommandFailed(f"the port does not take {given}: {_text(error)}") from error
        self._settings = target

    def modem_lines(self) -> dict[str, bool | None]:
        """cts, dsr, ri, cd; None where the port has no such line."""
        return {name: self._modem_line(name) for name in _MODEM_LINES}

    def send_break(self, seconds: float) -> None:
        """Hold the break condition. Raises CommandFailed where the line has no break."""
        if self.config.scheme == "socket":
            raise CommandFailed("a socket:// port carries bytes only: it has no break")
        try:
            self._port.break_condition = True
            self._closing.wait(seconds)
            self._port.break_condition = False
        except _ERRORS as error:
            raise CommandFailed(f"no break on this port: {_text(error)}") from error

    def _apply(self, target: LineSettings, names: Iterable[str]) -> None:
        for name in names:
            value = getattr(target, name)
            if value is not None:
                setattr(self._port, _PYSERIAL.get(name, name), value)

    def _restore(self, before: LineSettings, names: Iterable[str]) -> None:
        for name in names:
            try:
                self._apply(before, [name])
            except _ERRORS:
                continue  # the next one brings the rest along: pyserial has noted this one all the same

    def _check_framing(self, wanted: LineSettings) -> None:
        """A tty takes what its hardware can do and says nothing of the rest, so it is read back."""
        if self.config.is_url:
            return
        flags = termios.tcgetattr(self._port.fileno())[2]
        if flags & termios.CSIZE != _CSIZE[wanted.bytesize]:
            raise CommandFailed(f"its hardware has no bytesize {wanted.bytesize}")
        if bool(flags & termios.PARENB) != (wanted.parity != "N"):
            raise CommandFailed(f"its hardware has no parity {wanted.parity}")
        if bool(flags & termios.CSTOPB) != (wanted.stopbits != 1):
            raise CommandFailed(f"its hardware has no {wanted.stopbits:g} stop bits")

    def _modem_line(self, name: str) -> bool | None:
        if self.config.scheme == "socket":
            return None
        try:
            return bool(getattr(self._port, name))
        except OSError:
            return None

    # --- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the port; what was written has a second to go out. Call it when nobody reads any
        more."""
        self._closing.set()
        with self._write_lock:
            self._drain()
            self._port.close()

    def _drain(self) -> None:
        """The kernel's close would wait up to half a minute for a line that flow control holds."""
        if self.config.is_url:
            return
        deadline = time.monotonic() + _CLOSE_DRAIN_S
        try:
            while self._port.out_waiting and time.monotonic() < deadline:
                time.sleep(0.01)
            self._port.reset_output_buffer()
        except _ERRORS:
            return  # the port is dead: there is nothing to wait for

    def _gone(self, reason: object) -> DriverError:
        return DriverError(f"the port {self.config.port} is gone: {reason}")


def _ready(fd: int, event: int, seconds: float) -> bool:
    """Wait until reading or writing does not wait, also because it would fail. Unlike select, of
    any descriptor."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(seconds * 1000))


def _make(config: PortConfig) -> Any:
    """pyserial's object for the port, not open yet."""
    classes = {"": serial.Serial, "rfc2217": _Rfc2217Port, "socket": _SocketPort}
    settings = config.settings
    port = classes[config.scheme](
        baudrate=settings.baud_rate,
        bytesize=settings.bytesize,
        parity=settings.parity,
        stopbits=settings.stopbits,
        rtscts=settings.rtscts,
        xonxoff=settings.xonxoff,
        # Set here once: on an open RFC 2217 port each change of it is a round trip.
        timeout=READ_WAIT_S,
        exclusive=None if config.is_url else True,
    )
    for name in ("dtr", "rts"):
        if (level := getattr(settings, name)) is not None:
            setattr(port, name, level)
    port.port = config.port
    return port


def _explain(config: PortConfig, error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if config.path is not None:
        if number in (errno.EACCES, errno.EPERM) and (problem := access_problem(config.path)):
            return problem
        if number == errno.ENOENT:
            return "it is not there: is the device plugged in?"
        if number in (errno.EAGAIN, errno.EBUSY):
            return "another program has it open"
    return _text(error)


def _text(error: BaseException) -> str:
    """The error in words. termios has its number and its words as arguments, and tells what a tty
    refuses by EINVAL."""
    if isinstance(error, termios.error) and len(error.args) > 1:
        return (
            "its hardware cannot do that" if error.args[0] == errno.EINVAL else str(error.args[1])
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOTTY, errno.EINVAL):
        return "it has no such line"
    return str(error)
