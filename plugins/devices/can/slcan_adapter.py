"""A simulated slcan (LAWICEL) adapter: what a USB CAN adapter is to the program that opens its
port.

The port is a pty or listens on TCP; clients may come and go. The adapter never waits for a client
that does not read: frames that find the line full are dropped and counted, as a real adapter's
buffer overruns.
"""

from __future__ import annotations

from typing import Final

import can

from plugins.devices.can.slcan import BELL, OK, format_frame, parse_line
from plugins.devices.pty_link import PtyLink
from plugins.devices.tcp_link import TcpLink

_VERSION: Final = b"V1013"
_SERIAL: Final = b"NSAT1"
_MAX_COMMAND: Final = 256
_MAX_PENDING: Final = 4096


class SlcanAdapter:
    """One adapter with one channel, on a line that it then owns. Not thread-safe: the loop that
    selects on it owns it.

    `dropped` counts frames that the client did not read in time.
    """

    def __init__(self, line: PtyLink | TcpLink) -> None:
        self.is_open = False
        self.dropped = 0
        self._listen_only = False
        self._command = b""
        self._pending = b""
        self._line = line

    def fileno(self) -> int:
        """To select on: readable when a client wrote, writable when it read."""
        return self._line.fileno()

    @property
    def port(self) -> str:
        """The path of the pty, or the URL."""
        return self._line.port

    @property
    def has_pending(self) -> bool:
        """Whether bytes wait until the line takes more."""
        return bool(self._pending)

    def receive(self) -> list[can.Message]:
        """Read and answer the client's commands; the frames that it transmits on the bus."""
        *lines, self._command = (self._command + self._line.read()).split(OK)
        if len(self._command) > _MAX_COMMAND:
            self._command = b""
            self._reply(BELL)
        return [frame for line in lines if (frame := self._execute(line.strip(b"\n"))) is not None]

    def send(self, message: can.Message) -> bool:
        """A frame from the bus to the client; False when it went nowhere (closed, or the line is
        full)."""
        if not self.is_open:
            return False
        self.flush()
        if self._pending:
            self.dropped += 1
            return False
        self._pending = format_frame(message)
        self.flush()
        return True

    def flush(self) -> None:
        """Write what is pending as far as the line takes it."""
        if self._pending:
            self._pending = self._pending[self._line.write(self._pending) :]

    def close(self) -> None:
        """Unplug: the client's port dies."""
        self._line.close()

    def _reply(self, reply: bytes) -> None:
        # A client that never reads cannot make this grow.
        if len(self._pending) < _MAX_PENDING:
            self._pending += reply
        self.flush()

    def _execute(self, line: bytes) -> can.Message | None:
        match line[:1]:
            case b"t" | b"T" | b"r" | b"R":
                return self._transmit(line)
            case b"O" | b"L" if not self.is_open:
                self._open(listen_only=line[:1] == b"L")
            case b"C":
                self.is_open = False
                self._reply(OK)
            case b"S" if not self.is_open and line[1:] in (
                b"0",
                b"1",
                b"2",
                b"3",
                b"4",
                b"5",
                b"6",
                b"7",
                b"8",
            ):
                self._reply(OK)
            case b"s" | b"" if not self.is_open:
                self._reply(OK)
            case b"V":
                self._reply(_VERSION + OK)
            case b"N":
                self._reply(_SERIAL + OK)
            case b"F" if self.is_open:
                self._reply(b"F00" + OK)
            case b"Z" if line == b"Z0":
                self._reply(OK)
            case _:
                self._reply(BELL)
        return None

    def _open(self, *, listen_only: bool) -> None:
        self.is_open = True
        self._listen_only = listen_only
        self._reply(OK)

    def _transmit(self, line: bytes) -> can.Message | None:
        try:
            frame = parse_line(line)
        except ValueError:
            frame = None
        if frame is None or not self.is_open or self._listen_only:
            self._reply(BELL)
            return None
        self._reply((b"Z" if frame.is_extended_id else b"z") + OK)
        return frame
