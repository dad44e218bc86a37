"""The slcan (LAWICEL) line protocol: a strict codec, and a python-can bus that survives a noisy
line.

python-can's own slcan bus decodes what it reads as UTF-8 before it looks at it, so that one stray
byte fails every later read, and it takes the tail of a cut line for a frame where it begins with a
frame's letter. Here a line is a frame only when all of it is well-formed; others are counted and
skipped, and after a loss reading goes on behind the next end of line.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any, Final

import can
import serial
from can.exceptions import error_check
from can.interfaces.slcan import slcanBus
from can.util import dlc2len, len2dlc

OK: Final = b"\r"
BELL: Final = b"\a"
BITRATES: Final = (
    10_000,
    20_000,
    50_000,
    100_000,
    125_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    83_300,
)

# The longest line is an extended FD frame of 64 bytes with a time stamp.
MAX_LINE: Final = 1 + 8 + 1 + 128 + 4

_HEX = rb"[0-9A-Fa-f]"
_FRAME = re.compile(rb"(?:([tr])([0-7]%b{2})|([TR])([01]%b{7}))([0-8])(%b*)" % (_HEX, _HEX, _HEX))
_FD_FRAME = re.compile(
    rb"(?:([db])([0-7]%b{2})|([DB])([01]%b{7}))(%b)(%b*)" % (_HEX, _HEX, _HEX, _HEX)
)
_REPLY = re.compile(rb"|[zZ]|V[0-9A-Fa-f]{4}|v[ -~]*|N[ -~]*|F[0-9A-Fa-f]{2}|[Aa][ -~]*")
_STAMP_DIGITS: Final = 4
_WRITE_TIMEOUT_S: Final = 1.0
_POLL_S: Final = 0.05
_CHUNK: Final = 4096


def format_frame(message: can.Message) -> bytes:
    """The line for a frame, its end included. An error frame has no line: ValueError."""
    if message.is_error_frame:
        raise ValueError("slcan has no line for an error frame")
    if message.is_remote_frame:
        letter = "r"
    elif message.is_fd:
        letter = "b" if message.bitrate_switch else "d"
    else:
        letter = "t"
    width = 3
    if message.is_extended_id:
        letter, width = letter.upper(), 8
    length = len2dlc(message.dlc) if message.is_fd else message.dlc
    data = "" if message.is_remote_frame else message.data.hex().upper()
    return f"{letter}{message.arbitration_id:0{width}X}{length:X}{data}".encode() + OK


def parse_line(line: bytes, timestamp: float = 0.0) -> can.Message | None:
    """The frame of a line without its end; None for a reply that carries no frame. Raises
    ValueError."""
    if match := _FRAME.fullmatch(line):
        length = int(match[5], 16)
        fd = False
    elif match := _FD_FRAME.fullmatch(line):
        length = dlc2len(int(match[5], 16))
        fd = True
    elif _REPLY.fullmatch(line):
        return None
    else:
        raise ValueError(f"not a line of slcan: {line[:MAX_LINE]!r}")
    letter, digits, data = match[1] or match[3], match[2] or match[4], match[6]
    remote = letter in b"rR"
    wanted = 0 if remote else 2 * length
    if len(data) not in (wanted, wanted + _STAMP_DIGITS):
        raise ValueError(f"length does not match the data: {line[:MAX_LINE]!r}")
    return can.Message(
        timestamp=timestamp,
        arbitration_id=int(digits, 16),
        is_extended_id=letter.isupper(),
        is_remote_frame=remote,
        is_fd=fd,
        bitrate_switch=letter in b"bB",
        dlc=length,
        data=bytes.fromhex(data[:wanted].decode()),
    )


class LineReader:
    """Cuts a byte stream into lines and those into frames. Holds at most one line of unread bytes.

    It starts out of step, as the stream may begin in the middle of a line: what comes before the
    first end of line is discarded.
    """

    def __init__(self) -> None:
        self.bad_lines = 0
        self._rest = b""
        self._in_step = False

    def feed(self, chunk: bytes, timestamp: float) -> list[can.Message]:
        """The frames that `chunk` completes, each stamped with `timestamp` (seconds since the
        epoch)."""
        *lines, self._rest = (self._rest + chunk).replace(BELL, OK).split(OK)
        frames = []
        for line in lines:
            if self._in_step:
                try:
                    frame = parse_line(line.strip(b"\n"), timestamp)
                except ValueError:
                    self.bad_lines += 1
                else:
                    if frame is not None:
                        frames.append(frame)
            self._in_step = True
        if len(self._rest) > MAX_LINE:
            self.bad_lines += self._in_step
            self.out_of_step()
        return frames

    def out_of_step(self) -> None:
        """Forget the line begun; reading goes on behind the next end of line."""
        self._rest = b""
        self._in_step = False


class SlcanBus(slcanBus):
    """python-can's slcan bus with the strict reader above; one thread may read while others send.

    Takes the keyword arguments of `can.interfaces.slcan.slcanBus`. Once the line is dead `recv` and
    `send` raise `can.CanOperationError`, and `shutdown` still closes the port.
    """

    def __init__(self, channel: str, **options: Any) -> None:
        self.reader = LineReader()
        self._frames: list[can.Message] = []
        self._send_lock = threading.Lock()
        self._line_written = True
        self._is_socket = channel.startswith("socket://")
        try:
            super().__init__(channel, **{"timeout": _POLL_S, **options})
        except BaseException:
            # Half built, python-can would leave the port open until the garbage is collected.
            if port := getattr(self, "serialPortOrig", None):
                port.close()
            raise

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._frames:
            with error_check("Could not read from the serial device"):
                waiting = self.serialPortOrig.in_waiting
                if not waiting and deadline is not None and time.monotonic() >= deadline:
                    return None, False
                chunk = self._take(waiting)
            if chunk:
                frames = self.reader.feed(chunk, time.time())
                self._frames = frames[::-1]
        return self._frames.pop(), False

    def _take(self, waiting: int) -> bytes:
        """What is there, or the first byte to come. pyserial does not know how much there is on a
        TCP port: all of that is taken from the socket, not byte by byte."""
        port = self.serialPortOrig
        if not (waiting and self._is_socket):
            return bytes(port.read(max(1, waiting)))
        chunk = os.read(port.fileno(), _CHUNK)
        if not chunk:
            raise serial.SerialException("socket disconnected")
        return chunk

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Write a frame. Without a `timeout` (seconds) it is 1 s: a wedged adapter must not hold a
        thread."""
        line = format_frame(msg)
        with self._send_lock, error_check("Could not write to the serial device"):
            wanted = timeout or _WRITE_TIMEOUT_S
            if self.serialPortOrig.write_timeout != wanted:
                self.serialPortOrig.write_timeout = wanted
            # A line that a timeout cut short is ended first, or it would spoil this one.
            whole = line if self._line_written else OK + line
            self._line_written = False
            self.serialPortOrig.write(whole)
            self._line_written = True

    def flush(self) -> None:
        """Discard what was received and not yet read."""
        self._frames.clear()
        self.reader.out_of_step()
        with error_check("Could not flush"):
            self.serialPortOrig.reset_input_buffer()

    def shutdown(self) -> None:
        """Close the channel of the adapter, if it still listens, and the port in any case."""
        # pyserial forgets a TCP port whose other end has gone without closing it.
        connection = getattr(self.serialPortOrig, "_socket", None)
        try:
            super().shutdown()
        except can.CanError:
            # The line is dead: there is no one to tell.
            self.serialPortOrig.close()
        finally:
            if connection is not None:
                connection.close()
