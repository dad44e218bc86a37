"""The send side of an open bus: one frame or many, from any thread, each with a known result.

A full queue of the kernel is waited out. Frames go out in their order: one that is refused costs
itself only, but once the bus takes nothing any more the rest is not tried.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import can

from plugins.devices.can import frames
from plugins.devices.can.buses import is_gone, reason
from plugins.devices.can.slcan import SlcanBus
from sat_toolkit.core.frame_block import CLASSIC, FD, FDF, FrameBlock
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError

SEND_TIMEOUT_S: Final = 1.0  # for a frame
LIST_TIMEOUT_S: Final = 10.0  # for all frames of a list
_BUSY: Final = (errno.ENOBUFS, errno.EAGAIN)
_FIRST_PAUSE_S: Final = 0.0005
_LONGEST_PAUSE_S: Final = 0.01
_RECORD: Final = {CLASSIC: struct.Struct("<8xIBBxx8s"), FD: struct.Struct("<8xIBBxx64s")}
_NO_FD: Final = (
    "this bus carries no CAN FD frames: its link or its configuration is for classic CAN"
)

T = TypeVar("T")


class BusBusy(CommandFailed):
    """The bus took no frame for as long as a sender waits."""


class Sender:
    """Sends on `bus`, by `sock` where that is its socket of the kernel's CAN frames.

    `sent` counts what the bus took.
    """

    def __init__(self, bus: can.BusABC, sock: socket.socket | None) -> None:
        self.sent = 0
        self._bus = bus
        self._socket = sock
        self._lock = threading.Lock()
        # What an slcan adapter can do is known to the adapter only.
        self._carries_fd = bus.protocol is not can.CanProtocol.CAN_20 or isinstance(bus, SlcanBus)

    def send(self, message: can.Message, timeout: float = SEND_TIMEOUT_S) -> None:
        """Send one frame.

        Raises:
            BusBusy: the bus took none within `timeout` seconds.
            CommandFailed: the bus is there and refused the frame.
            DriverError: the bus is gone.
        """
        self.check(message)
        if self._socket is not None:
            self._send_wire(frames.wire_message(message), timeout)
            return
        try:
            with self._lock:
                self._bus.send(message, timeout=timeout)
                self.sent += 1
        except can.CanError as error:
            raise _refused(error) from error

    def check(self, message: can.Message) -> None:
        """Raise CommandFailed when this bus cannot carry the frame."""
        if message.is_fd and not self._carries_fd:
            raise CommandFailed(_NO_FD)

    def send_list(self, wanted: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Send frames given as the args of `send`; ``{"sent": n, "failed": [{"index",
        "reason"}]}``.

        Raises:
            DriverError: the bus is gone, and none was sent.
        """
        return self._each(
            wanted, lambda args, timeout: self.send(frames.message_from_args(args), timeout)
        )

    def send_block(self, block: FrameBlock) -> dict[str, Any]:
        """Send the frames of a block, answered as `send_list` answers."""
        if self._socket is None:
            return self._each(
                block.frames(),
                lambda frame, limit: self.send(frames.message_from_dict(frame), limit),
            )
        return self._each(_RECORD[block.size].iter_unpack(block.records), self._send_record)

    def _send_record(self, record: tuple[int, int, int, bytes], timeout: float) -> None:
        wire = frames.wire_frame(*record)
        if record[2] & FDF and not self._carries_fd:
            raise CommandFailed(_NO_FD)
        self._send_wire(wire, timeout)

    def _send_wire(self, wire: bytes, timeout: float) -> None:
        """Hand the kernel a frame in its own form."""
        assert self._socket is not None
        deadline, pause, was_down = time.monotonic() + timeout, _FIRST_PAUSE_S, False
        while True:
            try:
                self._socket.send(wire, socket.MSG_DONTWAIT)
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN and not was_down:
                    was_down = True  # told once, also when the link is up again
                    continue
                if error.errno not in _BUSY:
                    raise _refused(error) from error
                if (left := deadline - time.monotonic()) <= 0:
                    raise BusBusy(
                        f"the frame was not sent: the bus took none for {timeout:g} s. Is another node there to"
                        " acknowledge, and is the controller not bus-off?"
                    ) from error
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        with self._lock:
            self.sent += 1

    @staticmethod
    def _each(wanted: Iterable[T], send: Callable[[T, float], None]) -> dict[str, Any]:
        deadline = time.monotonic() + LIST_TIMEOUT_S
        sent, failed, ended = 0, [], ""
        for index, frame in enumerate(wanted):
            left = deadline - time.monotonic()
            if not ended and left <= 0:
                ended = f"not tried: {LIST_TIMEOUT_S:g} s were over"
            if ended:
                failed.append({"index": index, "reason": ended})
                continue
            try:
                send(frame, min(SEND_TIMEOUT_S, left))
                sent += 1
            except (BadArgs, DriverError) as error:
                refused = isinstance(error, BadArgs | CommandFailed)
                if not sent and not refused:
                    raise
                failed.append({"index": index, "reason": str(error)})
                if not refused or isinstance(error, BusBusy):
                    ended = f"not tried: frame {index} ended the list"
        return {"sent": sent, "failed": failed}


def _refused(error: can.CanError | OSError) -> CommandFailed | DriverError:
    if is_gone(error):
        return DriverError(f"the bus is gone: {reason(error)}")
    return CommandFailed(f"the frame was not sent: {reason(error)}")
