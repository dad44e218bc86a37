"""Reads a CAN socket in batches: `recvmmsg` writes frames straight into the records of a
`FrameBlock`.

No Python object is made for a frame. What tells frames apart (capture time, the kernel's drop
counter, the kind of frame, whether this machine sent it) lies in columns of fixed stride, which are
copied and compared as a whole.

It reads a socket that somebody else opened and closes, and knows nothing of streams. Little-endian
machines only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sat_toolkit.core.frame_block import CLASSIC, ERROR, FD, FDF, REMOTE, TX, FrameBlock
from sat_toolkit.errors import DriverError

VECTOR: Final = 1024  # frames that one call takes: the most that the kernel allows
CAN_MTU: Final = 16
CANFD_MTU: Final = 72
# What one frame costs of the receive buffer: the kernel counts its own bookkeeping too.
FRAME_COST: Final = 768

_SO_TIMESTAMPNS: Final = 35
_SO_TIMESTAMPING: Final = 37
_RX_HARDWARE, _RX_SOFTWARE, _SOFTWARE, _RAW_HARDWARE = 4, 8, 16, 64
_SO_RXQ_OVFL: Final = 40
# getsockopt(SO_MEMINFO) answers 32-bit words: bytes held, receive buffer, ..., the ninth counts
# dropped frames.
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
WORD: Final = 0xFFFF_FFFF
# A hardware clock that is no time since the epoch counts from its own start.
_EARLIEST_EPOCH: Final = 1_000_000_000
_SECOND: Final = 1_000_000_000

_CMSG_HEADER: Final = socket.CMSG_LEN(0)
_LONG: Final = ctypes.sizeof(ctypes.c_long)
_TIMESPEC: Final = 2 * _LONG


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
    )


class Header(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("message", _Msghdr), ("length", ctypes.c_uint32))


_STRIDE: Final = ctypes.sizeof(Header)
_FLAGS_AT: Final = Header.message.offset + _Msghdr.flags.offset
_LENGTH_AT: Final = Header.length.offset


def _table(values: dict[int, int]) -> bytes:
    return bytes(values.get(byte, 0) for byte in range(256))


# Tables for bytes.translate, each of which looks at the lowest or highest byte of a word.
_TX_OF_FLAGS: Final = bytes(TX if byte & socket.MSG_DONTROUTE else 0 for byte in range(256))
_IS_ERROR: Final = bytes(byte & (ERROR >> 24) != 0 for byte in range(256))
_PLAIN: Final = bytes(byte for byte in range(256) if not byte & (ERROR | REMOTE) >> 24)
_IS_REMOTE: Final = bytes(byte & (REMOTE >> 24) != 0 for byte in range(256))
_FDF_OF_LENGTH: Final = _table({CANFD_MTU: FDF})
_FD_FLAGS_OF_LENGTH: Final = _table(
    {CANFD_MTU: FDF - 1}
)  # BRS and ESI, which only CAN FD frames have


def _mask_of(length: int, size: int) -> bytes:
    """What of a record counts: all but the reserved bytes and the data beyond its length."""
    used = min(length, size - 16)
    return b"\xff" * 14 + b"\x00" * 2 + b"\xff" * used + b"\x00" * (size - 16 - used)


_MASKS: Final = {size: [_mask_of(length, size) for length in range(256)] for size in (CLASSIC, FD)}
_FULL: Final = b"\x08\x00\x00\x00"  # length, flags and reserved bytes of a classic frame that is masked already


class ReadBatch(NamedTuple):
    """What one call took off the socket.

    `losses` has a pair ``(index, n)`` for each place where the kernel dropped `n` frames right
    before the frame at `index`. `errors` counts error frames, `overruns` those of a controller
    whose own buffer ran over.
    """

    block: FrameBlock
    losses: tuple[tuple[int, int], ...] = ()
    errors: int = 0
    overruns: int = 0


class _Records:
    """A buffer of records and the columns of it: views of 1, 4 and 8 bytes."""

    def __init__(self, size: int, n: int) -> None:
        self.size = size
        self.buffer = (ctypes.c_char * (size * n))()
        self.bytes = memoryview(self.buffer).cast("B")
        self.words, self.longs = self.bytes.cast("I"), self.bytes.cast("Q")


class Vector:
    """The memory that one `recvmmsg` fills, and how a `ReadBatch` is made of it. No I/O.

    For each frame it has a header, a record that the frame is written into, and `control_size`
    bytes of `control`. `size` is that of a record; `hardware` says that the stamps are those of
    SO_TIMESTAMPING, else of SO_TIMESTAMPNS.
    """

    def __init__(self, size: int, *, hardware: bool = False, n: int = VECTOR) -> None:
        self.n = n
        self.drops = 0  # the kernel's counter at the last frame taken
        self._hardware = hardware
        self._clock_offset: int | None = None
        stamps = 3 if hardware else 1
        self._drops_at = socket.CMSG_SPACE(stamps * _TIMESPEC) + _CMSG_HEADER
        self.control_size = socket.CMSG_SPACE(stamps * _TIMESPEC) + socket.CMSG_SPACE(4)
        self.records = _Records(size, n)
        self._classic = self.records if size == CLASSIC else _Records(CLASSIC, n)
        self._control_buffer = (ctypes.c_char * (self.control_size * n))()
        self.control = memoryview(self._control_buffer).cast("B")
        self._control_words = self.control.cast("I")
        self.headers = (Header * n)()
        self._iovecs = (_Iovec * n)()
        self._point()
        self._header_bytes = memoryview(self.headers).cast("B")
        self._template = memoryview(bytes(self._header_bytes))

    def _point(self) -> None:
        size = self.records.size
        records, control = (
            ctypes.addressof(self.records.buffer),
            ctypes.addressof(self._control_buffer),
        )
        iovecs = ctypes.addressof(self._iovecs)
        for i, header in enumerate(self.headers):
            self._iovecs[i].base = records + i * size + 8
            self._iovecs[i].length = size - 8
            header.message.iov, header.message.iovlen = iovecs + i * ctypes.sizeof(_Iovec), 1
            header.message.control = control + i * self.control_size
            header.message.controllen = self.control_size

    def take(self, n: int) -> ReadBatch:
        """The first `n` frames; the memory is ready for the next call then."""
        lengths = self._lengths(n)
        self._stamp(n)
        records = self._compact(n) if lengths is None else self.records
        tops = records.bytes[11 : n * records.size : records.size].tobytes()
        odd = bool(tops.translate(None, _PLAIN))
        data = self._finish(records, n, lengths, tops if odd else None)
        losses = self._losses(n)
        self.forget(n)
        if not odd:
            return ReadBatch(FrameBlock(data, records.size), losses)
        errors = tops.translate(_IS_ERROR)
        overruns = sum(_is_overrun(data, i * records.size) for i in range(n) if errors[i])
        return ReadBatch(FrameBlock(data, records.size), losses, errors.count(1), overruns)

    def forget(self, n: int) -> None:
        """Make the memory of the first `n` ready for the next call."""
        self._header_bytes[: n * _STRIDE] = self._template[: n * _STRIDE]
        if self._hardware:  # a frame may have no stamp at all
            ctypes.memset(self._control_buffer, 0, n * self.control_size)
        if self.records.size == FD:  # of which a classic frame overwrites the beginning only
            ctypes.memset(self.records.buffer, 0, n * FD)

    def last_drops(self, n: int) -> int:
        """The kernel's drop counter at the last of `n` frames."""
        if self.headers[n - 1].message.controllen < self.control_size:
            return 0
        return int(self._control_words[((n - 1) * self.control_size + self._drops_at) // 4])

    def _column(self, offset: int, n: int) -> memoryview:
        """A 32-bit column of the control messages."""
        return self._control_words[
            offset // 4 : n * self.control_size // 4 : self.control_size // 4
        ]

    def _compact(self, n: int) -> _Records:
        """The same frames in short records: there is no CAN FD frame among them."""
        if self.records.size == CLASSIC:
            return self.records
        for i in range(CLASSIC // 8):
            step = self.records.size // 8
            self._classic.longs[i : n * CLASSIC // 8 : CLASSIC // 8] = self.records.longs[
                i : n * step : step
            ]
        return self._classic

    def _lengths(self, n: int) -> bytes | None:
        """How many bytes each message had; None when there is no CAN FD frame among them."""
        if self.records.size == CLASSIC:
            return None
        lengths = self._header_bytes[_LENGTH_AT : n * _STRIDE : _STRIDE].tobytes()
        fd = lengths.count(CANFD_MTU)
        if fd + lengths.count(CAN_MTU) != n:
            odd = next(length for length in lengths if length not in (CAN_MTU, CANFD_MTU))
            raise DriverError(
                f"the socket gave {odd} bytes for a frame; {CAN_MTU} or {CANFD_MTU} are accepted"
            )
        return lengths if fd else None

    def _finish(
        self, records: _Records, n: int, lengths: bytes | None, tops: bytes | None
    ) -> bytes:
        """The records, their flags set, with zeros where nothing is meant: a sender may leave
        anything there.

        Without `lengths` all frames are classic; without `tops` none is an error or remote frame.
        """
        size = records.size
        middle = records.words[3 : n * size // 4 : size // 4].tobytes()
        sent = (
            self._header_bytes[_FLAGS_AT : n * _STRIDE : _STRIDE].tobytes().translate(_TX_OF_FLAGS)
        )
        full = lengths is None and tops is None and middle == _FULL * n
        if not full or TX in sent:
            flags = sent if lengths is None else _fd_flags(middle[1::4], lengths, sent)
            records.bytes[13 : n * size : size] = flags
        if full:
            return records.bytes[: n * size].tobytes()
        used = middle[::4]
        if tops is not None:
            used = bytes(
                0 if mark else length
                for mark, length in zip(tops.translate(_IS_REMOTE), used, strict=True)
            )
        mask = b"".join(map(_MASKS[size].__getitem__, used))
        kept = int.from_bytes(records.bytes[: n * size], "little") & int.from_bytes(mask, "little")
        return kept.to_bytes(n * size, "little")

    def _losses(self, n: int) -> tuple[tuple[int, int], ...]:
        drops = self._column(self._drops_at, n)
        if drops.tobytes() == self.drops.to_bytes(4, "little") * n:
            return ()
        losses = []
        for index, count in enumerate(drops):
            # The kernel leaves out a counter of 0; there stands what an earlier call left then.
            if self.headers[index].message.controllen < self.control_size:
                count = 0
            if count != self.drops:
                losses.append((index, (count - self.drops) & WORD))
                self.drops = count
        return tuple(losses)

    def _stamp(self, n: int) -> None:
        step = self.records.size // 4
        sec, nsec = self.records.words[0 : n * step : step], self.records.words[1 : n * step : step]
        first = self._column(_CMSG_HEADER, n), self._column(_CMSG_HEADER + _LONG, n)
        if not self._hardware:
            sec[:], nsec[:] = first
            return
        third = _CMSG_HEADER + 2 * _TIMESPEC
        hardware = self._column(third, n), self._column(third + _LONG, n)
        if min(hardware[0]) >= _EARLIEST_EPOCH:
            sec[:], nsec[:] = hardware
            return
        columns = (column.tolist() for column in (*first, *hardware))
        for i, (kernel_sec, kernel_nsec, hard_sec, hard_nsec) in enumerate(
            zip(*columns, strict=True)
        ):
            stamp = self._epoch(kernel_sec * _SECOND + kernel_nsec, hard_sec * _SECOND + hard_nsec)
            sec[i], nsec[i] = divmod(stamp, _SECOND)

    def _epoch(self, kernel: int, hardware: int) -> int:
        """Nanoseconds since the epoch, by the hardware's clock where it stamped the frame."""
        kernel = kernel or time.time_ns()
        if hardware == 0:
            return kernel
        if hardware >= _EARLIEST_EPOCH * _SECOND:
            return hardware
        if self._clock_offset is None:
            self._clock_offset = kernel - hardware
        return hardware + self._clock_offset


def _fd_flags(flags: bytes, lengths: bytes, sent: bytes) -> bytes:
    """The flags of each record: BRS and ESI of CAN FD frames, FDF by the length of the message, TX
    as `sent` has it."""
    column = int.from_bytes(flags, "little") & int.from_bytes(
        lengths.translate(_FD_FLAGS_OF_LENGTH), "little"
    )
    column |= int.from_bytes(lengths.translate(_FDF_OF_LENGTH), "little") | int.from_bytes(
        sent, "little"
    )
    return column.to_bytes(len(flags), "little")


def _is_overrun(records: bytes, at: int) -> bool:
    """Whether the error frame at that offset tells of a controller whose receive buffer ran
    over."""
    return bool(records[at + 8] & 0x04 and records[at + 12] > 1 and records[at + 17] & 0x01)


def can_read(sock: socket.socket) -> bool:
    """Whether this machine and this socket can be read in batches."""
    datagrams = sock.type in (socket.SOCK_RAW, socket.SOCK_DGRAM)
    return sys.platform == "linux" and sys.byteorder == "little" and datagrams


def set_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """Ask for a receive buffer of so many bytes and return the size that there is now, which the
    kernel doubles.

    Without CAP_NET_ADMIN the kernel caps it at net.core.rmem_max.
    """
    for option in (getattr(socket, "SO_RCVBUFFORCE", 33), socket.SO_RCVBUF):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, wanted)
            break
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def memory_of(sock: socket.socket) -> tuple[int, int, int]:
    """Bytes that wait in the receive buffer, its size, and the frames that were dropped because it
    was full."""
    words = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    return int(words[0]), int(words[1]), int(words[8])


class FastReader:
    """Takes frames off `sock`. For one thread; errors are OSError as the kernel gives them.

    `fd`: the socket gives CAN FD frames. `hardware`: stamp by the controller's clock where it has
        one.
    """

    def __init__(self, sock: socket.socket, *, fd: bool = False, hardware: bool = False) -> None:
        self._socket = sock
        self._vector = Vector(FD if fd else CLASSIC, hardware=hardware)
        self._recvmmsg: Any = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        if hardware:
            flags = _RX_HARDWARE | _RX_SOFTWARE | _SOFTWARE | _RAW_HARDWARE
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, not hardware)
        self.quarter = max(
            1, memory_of(sock)[1] // FRAME_COST // 4
        )  # frames that fill a quarter of the buffer

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a frame or an error."""
        return bool(self._poll.poll(timeout * 1000))

    def is_filling(self) -> bool:
        """Whether a quarter of the receive buffer is taken."""
        held, size, _ = memory_of(self._socket)
        return held >= size // 4

    def read(self) -> ReadBatch | None:
        """Up to `VECTOR` frames that are there now; None when no frame is there."""
        n = self._receive()
        return self._vector.take(n) if n else None

    def skip(self, limit: float) -> None:
        """Let go of what was received and not read, for `limit` seconds at the most; its losses are
        past too."""
        deadline = time.monotonic() + limit
        while n := self._receive():
            self._vector.drops = self._vector.last_drops(n)
            self._vector.forget(n)
            if time.monotonic() > deadline:
                return
        self.lost_unseen()

    def lost_unseen(self) -> int:
        """Frames dropped behind the last that was read, while nothing waits; elsewhere the next
        frame tells."""
        drops = memory_of(self._socket)[2]
        # A frame that came meanwhile knows by itself how many were dropped before it.
        if drops == self._vector.drops or self._poll.poll(0):
            return 0
        lost, self._vector.drops = (drops - self._vector.drops) & WORD, drops
        return lost

    def _receive(self) -> int:
        vector = self._vector
        while True:
            n = self._recvmmsg(
                self._socket.fileno(), vector.headers, vector.n, socket.MSG_DONTWAIT, None
            )
            if n >= 0:
                return int(n)
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return 0
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
